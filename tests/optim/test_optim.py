"""Optimisers against equations written anew with NumPy, schedules, clipping."""

import contextlib
import copy
import itertools
import math
import pickle
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS, refused, run_lines

from tinygrad_edu import Value, optim
from tinygrad_edu.compiler.backends.update import FORWARD, UpdateProgram
from tinygrad_edu.engine.value import watchers


# --- References: a generator per optimiser, which is sent a gradient and yields the parameters --------------
def sgd(w: Any, lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0) -> Any:
    """Sutskever et al. 2013, equations 1 and 2: the velocity carries the rate there. It is constant here, so the
    two forms agree; Nesterov's gradient is theirs at the point ahead, by the change of variables of Bengio et al.
    2013 (Advances in Optimizing Recurrent Networks, equations 6 and 7)."""
    v = np.zeros_like(w)
    while True:
        g = (yield w) + weight_decay * w
        previous, v = v, momentum * v - lr * g
        w = w + ((1 + momentum) * v - momentum * previous if nesterov else v)


def rmsprop(w: Any, lr: float, alpha: float, eps: float, weight_decay: float = 0.0, momentum: float = 0.0) -> Any:
    """Lecture 6.5: MeanSquare(w, t) = 0.9 MeanSquare(w, t-1) + 0.1 (dE/dw)^2, as an explicit sum over the past."""
    past: list[np.ndarray] = []
    v = np.zeros_like(w)
    while True:
        g = (yield w) + weight_decay * w
        past.append(g**2)
        weights = (1 - alpha) * alpha ** np.arange(len(past) - 1, -1, -1)
        v = momentum * v + lr * g / (np.sqrt(np.tensordot(weights, np.array(past), 1)) + eps)
        w = w - v


def adam(w: Any, lr: float, betas: Any, eps: float, weight_decay: float = 0.0, decay: float = 0.0) -> Any:
    """Kingma and Ba 2015, end of section 2: the other order, with the correction in the rate and in eps; and
    Loshchilov and Hutter 2019, algorithm 2, line 12, with their eta_t lambda written lr * decay."""
    beta1, beta2 = betas
    m, v, t = np.zeros_like(w), np.zeros_like(w), 0
    while True:
        g = (yield w) + weight_decay * w
        t += 1
        m, v = m + (1 - beta1) * (g - m), v + (1 - beta2) * (g**2 - v)
        root = math.sqrt(1 - beta2**t)
        w = w - lr * root / (1 - beta1**t) * m / (np.sqrt(v) + eps * root) - lr * decay * w


def adamw(w: Any, weight_decay: float, **others: Any) -> Any:
    return adam(w, decay=weight_decay, **others)


DEFAULT = {"lr": 0.001, "betas": (0.9, 0.999), "eps": 1e-8}
CASES: list[tuple[Callable[..., optim.Optimizer], dict[str, Any], Callable[..., Any], dict[str, Any]]] = [
    (optim.SGD, {"lr": 0.1}, sgd, {}),  # what it is given, the reference, and defaults that are written out for it
    (optim.SGD, {"lr": 0.1, "weight_decay": 0.3}, sgd, {}),
    (optim.SGD, {"lr": 0.05, "momentum": 0.9}, sgd, {}),
    (optim.SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}, sgd, {}),
    (optim.RMSProp, {}, rmsprop, {"lr": 0.01, "alpha": 0.99, "eps": 1e-8}),
    (optim.RMSProp, {"lr": 0.02, "alpha": 0.9, "eps": 1e-3, "weight_decay": 0.1, "momentum": 0.5}, rmsprop, {}),
    (optim.Adam, {}, adam, DEFAULT),
    (optim.Adam, {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-2, "weight_decay": 0.2}, adam, {}),
    (optim.AdamW, {}, adamw, DEFAULT | {"weight_decay": 0.01}),
    (optim.AdamW, {"lr": 0.1, "betas": (0.5, 0.9), "eps": 1e-4, "weight_decay": 0.3}, adamw, {}),
]
NAMED = [f"{case[0].__name__} {case[1]}" for case in CASES]
START = np.array([1.5, -0.7, 30.0, 1e-3])


def gradients() -> Iterator[np.ndarray]:
    """A hundred gradients, of sizes far apart, some of them zero."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        yield rng.normal(size=4) * [1.0, 10.0, 1e-3, 1e3] * (rng.uniform(size=4) > 0.1)


@pytest.mark.parametrize(("make", "settings", "reference", "defaults"), CASES, ids=NAMED)
def test_each_of_100_steps_is_the_papers_on_numbers_and_on_arrays(make, settings, reference, defaults) -> None:
    values = [Value(w) for w in START.tolist()]
    optimizer = make(values, **settings)
    vector, state = START, (0,) * optimizer.n_states
    expected = reference(START, **defaults | settings)
    next(expected)
    for t, gradient in enumerate(gradients(), 1):
        set_gradients(values, gradient)
        optimizer.step()
        before = vector.copy()
        moved, *state = optimizer.update(t, vector, gradient, *state)
        assert (vector == before).all()  # it changes nothing in place
        vector, w = moved, expected.send(gradient)
        np.testing.assert_allclose(numbers(values), w, rtol=1e-12, atol=1e-12 * np.abs(w).max())
        np.testing.assert_allclose(numbers(values), vector, rtol=1e-14)
    assert all(type(v.data) is float for v in values)
    assert all(type(x) in (int, float) for state in optimizer.state.values() for x in state)


def set_gradients(values: list[Value], gradient: Any) -> None:
    for value, slope in zip(values, gradient.tolist(), strict=True):
        value.grad = slope


def numbers(values: list[Value]) -> list[float]:
    return [value.data for value in values]


def moved(make: Any, *numbers: float) -> Any:
    """An optimiser of new parameters with these numbers."""
    return make([Value(x) for x in numbers])


def descend(optimizer: optim.Optimizer, *gradients: float) -> list[float]:
    """The first parameter after each gradient."""
    path = []
    for g in gradients:
        optimizer.zero_grad()
        for p in optimizer.parameters:
            p.grad = g
        optimizer.step()
        path.append(optimizer.parameters[0].data)
    return path


EVERY = list(OPTIMIZERS.values())


@pytest.mark.parametrize("make", EVERY)
def test_state_belongs_to_the_parameter(make: Any) -> None:
    a, b = Value(1.0), Value(1.0)
    both = make([a])
    descend(both, 1.0, 2.0)
    both.parameters = [b, a]  # a layer is added in front
    descend(both, -3.0)
    assert a.data == descend(moved(make, 1.0), 1.0, 2.0, -3.0)[-1]
    assert b.data == descend(moved(make, 1.0), -3.0)[0]
    assert (both.state[a][0], both.state[b][0]) == (3, 1)


def restored(optimizer: Any) -> Any:
    """A new optimiser with the state dict of another, whose parameters have the same numbers."""
    state = optimizer.state_dict()
    twin = type(optimizer)([Value(p.data) for p in optimizer.parameters])
    twin.load_state_dict(state)
    assert twin.state_dict() == state
    return twin


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x)), restored])
def test_a_copy_goes_on_where_the_original_was(make: Any, copied: Any) -> None:
    optimizer = moved(make, 1.0, 2.0)
    assert optimizer.epochs == 0
    descend(optimizer, 1.0, 2.0)
    optimizer.lr, optimizer.weight_decay, optimizer.epochs = 0.123, 0.456, 7
    twin, state = copied(optimizer), optimizer.state_dict()
    assert (twin.epochs, twin.parameters[0] is optimizer.parameters[0]) == (7, False)
    assert descend(twin, -3.0) == descend(optimizer, -3.0)
    assert state != optimizer.state_dict()  # a copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "SGD"}, "This is the state of 'SGD', not of 'Adam'"),
        *((change, "This is the state of 3, not of 'Adam'") for change in ({"class": 3}, {})),
        ({"more": 5}, "state must be like {'class': 'Adam'.*}, got {.*}"),
        ({"state": 5}, "The state is that of no parameters, but there are 2"),
        ({"state": [None]}, "The state is that of 1 parameters, but there are 2"),
        ({"state": [None, [1, 0.0]]}, r"state\['state'\]\[1\] must be like \[0, 0, 0\], got \[1, 0.0\]"),
        ({"state": [None, [1, 0.0, "x"]]}, r"state\['state'\]\[1\]\[2\] must be like 0, got 'x'"),
        ({"lr": "x"}, r"state\['lr'\] must be like 0.001, got 'x'"),
        ({"lr": True}, r"state\['lr'\] must be like 0.001, got True"),
        ({"settings": {}}, r"state\['settings'\] must be like {.*}, got {}"),
        ({"settings": {"weight_decay": 0, "betas": [0.5], "eps": 1}}, r"\['betas'\] must be like \(0.9, 0.999\)"),
    ],
)
def test_a_state_of_something_else_changes_nothing(change: dict[str, Any], message: str) -> None:
    optimizer = optim.Adam([Value(1.0), Value(2.0)])
    descend(optimizer, 1.0)
    before = optimizer.state_dict()
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(before | change if change else 3)
    assert optimizer.state_dict() == before


def test_a_parameter_listed_twice_moves_once() -> None:
    w = Value(1.0)
    assert descend(optim.SGD([w, w], lr=0.5), 1.0) == [0.5]


@pytest.mark.parametrize("make", EVERY)
@pytest.mark.parametrize("clip", [False, True])
def test_a_forgotten_zero_grad_is_explained_once_and_changes_no_number(make: Any, clip: bool) -> None:
    w = Value(-3.0)  # whose gradient is negative; that of SEQUENCES is not
    optimizer = make([w])
    with pytest.warns(UserWarning, match=r"call zero_grad\(\)") as caught:  # noqa: PT031  # at any of the steps
        for _ in range(4):
            (w * w).backward()
            if clip:
                optim.clip_grad_value([w], 1e3)
                optim.clip_grad_norm([w], 1e3)
            optimizer.step()
            assert type(w.grad) is float
    assert [warning.filename for warning in caught] == [__file__]
    twin, gradient = Value(-3.0), 0.0
    optimizer = make([twin])
    for _ in range(4):
        gradient += 2 * twin.data
        twin.grad = gradient
        optimizer.step()  # set by hand: no warning
    assert w.data == twin.data
    assert type(w.data) is float


SEQUENCES = [  # what is done, in letters, and whether the last step says that zero_grad was forgotten
    ("zbs" * 3 + "bbbbbs", True),  # later: the gradients of one step, from several passes
    *((f"{clear}{passes}csll" * 4 + clear, False) for clear in "zof" for passes in ("b", "bbb")),
    ("ns0ls", False),  # a pass that does not reach a parameter, which keeps its gradient
    ("ls0lls", False),  # the second pass finds 2.0, as the step had left it
]


@pytest.mark.parametrize(("letters", "said"), SEQUENCES)
def test_a_zero_grad_that_was_forgotten_is_told_from_gradients_set_to_zero_in_any_way(letters, said) -> None:
    w, unused = Value(3.0), Value(1.0)
    optimizer = optim.SGD([w, unused], lr=0.1)

    def scaled() -> None:
        w.grad *= 0

    does: dict[str, Callable[[], Any]] = {
        "b": lambda: (w * w + 2).backward(),
        "l": lambda: (w * 2).backward(),
        "n": lambda: setattr(unused, "grad", 1.0),
        "c": lambda: optim.clip_grad_value([w], 10.0),
        "s": optimizer.step,
        "z": optimizer.zero_grad,
        "o": optim.SGD(optimizer.parameters).zero_grad,
        "f": scaled,
        "0": lambda: setattr(w, "grad", 0.0),
    }
    for letter in letters[:-1]:
        does[letter]()
    with pytest.warns(UserWarning, match=r"call zero_grad\(\)") if said else contextlib.nullcontext():
        does[letters[-1]]()


def test_an_optimiser_that_waits_is_freed() -> None:
    w = Value(3.0)
    optimizer = optim.SGD([w], lr=0.1)
    for waits in (False, True):
        (w * w).backward()
        optimizer.step()
        assert optimizer in watchers
        if not waits:
            optimizer.zero_grad()
            assert optimizer not in watchers  # a backward() has nothing to tell it
    before = len(watchers)
    del optimizer
    assert len(watchers) == before - 1


def test_sgd_keeps_fractions_exact() -> None:
    w = Value(Fraction(1, 3))
    w.grad = Fraction(1, 5)
    optimizer = optim.SGD([w], lr=Fraction(1, 2), momentum=Fraction(1, 2), weight_decay=Fraction(3))
    optimizer.step()
    optimizer.step()
    first = Fraction(1, 5) + 1
    second = first / 2 + Fraction(1, 5) + 3 * (Fraction(1, 3) - first / 2)
    assert w.data == Fraction(1, 3) - first / 2 - second / 2


def with_gradients(*gradients: float) -> list[Value]:
    values = [Value(0.0) for _ in gradients]
    set_gradients(values, np.array(gradients))
    return values


TWO, LENGTH = with_gradients(0.0, 0.0), r"one number per parameter of the optimiser, 2, got the shape \(3,\)"

TAKERS: Any = (optim.SGD, optim.Adam, optim.clip_grad_norm, optim.clip_grad_value)
ENDLESS, NO_LIST = (math.inf, math.nan), r"takes a list of Values, got .*: pass model.parameters\(\)\.$"
NO_LISTS: Any = (list, [TWO], 2.0, TWO[0])
BETAS = [(1, ValueError), ("a", TypeError)]
PAST, SHARE, COUNT = "at least 0 and below 1", "above 0 and at most 1", "in integers of 1 or more"
SETTINGS: list[tuple[Any, ...]] = [  # function, argument, sentence, wrong numbers
    (partial(optim.SGD, TWO), "lr", "must be positive", 0, -0.1),
    (partial(optim.AdamW, TWO), "weight_decay", "must be 0 or more", -1),
    (partial(optim.SGD, TWO), "momentum", PAST, 1.0),
    (partial(optim.RMSProp, TWO), "alpha", PAST, -0.1),
    (partial(optim.RMSProp, TWO), "eps", "must be positive", 0),
    (partial(optim.step_decay, 2), "gamma", SHARE, 0),
    (optim.exponential, "gamma", SHARE, 1.5),
    (optim.step_decay, "every", COUNT, 0),
    (optim.cosine, "total", COUNT, 2.5),
    (partial(optim.cosine, 10), "minimum", "a factor from 0 to 1", 2),
    (optim.linear_warmup, "steps", COUNT, -1),
    (partial(optim.clip_grad_norm, TWO), "max_norm", "clipped to a positive size", 0),
    (partial(optim.clip_grad_value, TWO), "max_value", "clipped to a positive size", -1),
]
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: optim.Adam([]), ValueError, "Adam got no parameters"),
    *(
        (lambda f=f, name=name, x=x: f(**{name: x}), error, f"{sentence}, got {name}={re.escape(shown)}$")
        for f, name, sentence, *wrong in SETTINGS
        for x, error, shown in [
            *((x, ValueError, f"{x!r}.") for x in (*wrong, math.nan)),
            *((x, TypeError, f"{x!r}: pass a plain number.") for x in ("a", None, [0.5], True, TWO[0])),
        ]
    ),
    (lambda: optim.SGD([Value(1.0)], nesterov=True), ValueError, "give a momentum"),
    *((lambda b=b: optim.Adam(TWO, betas=(0.9, b)), error, f"got beta2={b!r}") for b, error in BETAS),
    (lambda: optim.Adam([Value(1.0)], betas=0.9), TypeError, r"two betas, .*, got betas=0\.9"),
    (lambda: optim.Optimizer([Value(1.0)], lr=1).step(), NotImplementedError, "must define update"),
    (lambda: optim.linear_warmup(2, then=3), TypeError, r"then=cosine\(10\), got 3"),
    *((lambda f=f, p=p: f(p, 1.0), TypeError, f"{f.__name__} {NO_LIST}") for f in TAKERS for p in NO_LISTS),
    *((lambda f=f: f(["a"], 1.0), TypeError, "(moves|clips) Values, got 'a': pass mo") for f in TAKERS),
    *((lambda g=g: optim.clip_grad_norm(with_gradients(1.0, g), 1.0), ValueError, f"{g}, which") for g in ENDLESS),
    (lambda: optim.SGD(TWO).vectors(np.zeros(3)), ValueError, LENGTH),
    (lambda: optim.SGD(TWO).vectors(np.zeros(2, int)), TypeError, "of floats, got int64: pass"),
    (lambda: optim.SGD(TWO).vectors(None), TypeError, "of floats, got NoneType: pass"),
]
test_errors_are_one_sentence = refused(ERRORS)


# --- Vectors ------------------------------------------------------------------------------------------------
class Swapped(optim.Optimizer):
    """The old parameter and the old state change places: no vector may be overwritten before it is read."""

    n_states = 2

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        return state[0] - self.lr * gradient, state[1], parameter * t


class Signed(optim.Optimizer):
    """Runs on arrays, not on Symbols: it calls NumPy, and compares t."""

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        return (parameter - self.lr * min(1.0, t / 10) * np.sign(gradient),)


class Normed(optim.Optimizer):
    """Moves no parameter by itself."""

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        return (parameter - self.lr * gradient / np.linalg.norm(gradient),)


class Decaying(optim.Optimizer):
    """Its setting may change in place, inside of a tuple. Its states: the old vector, another, a number."""

    n_states = 3

    def __init__(self, parameters: Any, lr: float = 0.1):
        super().__init__(parameters, lr)
        self.hyper = ({"beta": 0.9},)

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        velocity = self.hyper[0]["beta"] * state[1] + gradient
        return parameter - self.lr * velocity / (gradient**2 + 1) ** 0.5, parameter, velocity, 7.0


MORE = [*EVERY, *(lambda p, make=make: make(p, lr=0.1) for make in (Swapped, Signed, Decaying))]


@pytest.mark.parametrize("make", MORE)
def test_vectors_go_the_way_of_the_values(make: Any) -> None:
    eager, mixed = ([Value(w) for w in START.tolist()] for _ in range(2))
    optimizers = make(eager), make(mixed)
    for t, gradient in enumerate(gradients()):
        for optimizer in optimizers:
            optimizer.lr = 0.01 * (t % 7 + 1)
        set_gradients(eager, gradient)
        optimizers[0].step()
        if t % 10 < 5:
            set_gradients(mixed, gradient)
            optimizers[1].step()
        else:
            vector = np.array(numbers(mixed))
            with optimizers[1].arrays(vector) as step:
                step(gradient)
            for value, w in zip(mixed, vector.tolist(), strict=True):
                value.data = w
        assert numbers(mixed) == pytest.approx(numbers(eager), rel=1e-12, abs=1e-12)
        for a, b in zip(eager, mixed, strict=True):
            assert optimizers[1].state[b] == pytest.approx(optimizers[0].state[a], rel=1e-12, abs=1e-12)


CHANGES: list[tuple[Any, Any]] = [
    (lambda p: optim.SGD(p, lr=0.1), lambda optimizer, beta: setattr(optimizer, "momentum", beta)),
    (Decaying, lambda optimizer, beta: optimizer.hyper[0].update(beta=beta)),
    (Decaying, lambda optimizer, beta: setattr(optimizer, "hyper", ({"beta": beta},))),
]


@pytest.mark.parametrize(("make", "change"), CHANGES)
def test_settings_may_change_between_steps_on_vectors(make: Any, change: Any) -> None:
    w, vector = Value(1.0), np.array([1.0])
    optimizer, other = make([w]), moved(make, 1.0)
    with other.arrays(vector) as step:
        for beta in (0.9, 0.9, 0.1, 0.1):
            change(optimizer, beta)
            change(other, beta)
            step([2.0])
            descend(optimizer, 2.0)
    assert vector[0] == pytest.approx(w.data, rel=1e-14)


def test_the_emitted_update_is_the_equation_in_place() -> None:
    source = UpdateProgram(optim.SGD([Value(1.0)], momentum=0.9)).source
    _, _, body = source.partition("    def update(gradient, t, lr):\n")
    assert (
        body.split("\n\n")[0].split()
        == (
            "np.multiply(0.9, state0, out=t1) np.add(t1, gradient, out=state0) "
            "np.multiply(lr, state0, out=t1) np.subtract(parameter, t1, out=parameter)"
        ).split()
    )


def test_an_emitted_update_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORWARD, "add", "subtract")
    vector = np.array([1.0])
    with optim.SGD([Value(1.0)], lr=0.1, momentum=0.9).arrays(vector) as step:
        step([2.0])
        step([2.0])
    assert vector[0] == pytest.approx(1 - 0.1 * 2 - 0.1 * 3.8, rel=1e-15)
    steps = Signed([Value(1.0)], lr=0.1).vectors(np.array([1.0]))  # 1 becomes 0.99
    for end, agrees in ((0.99, True), (0.99 + 1e-14, True), (0.99 + 1e-9, False), (-0.99, False)):
        assert steps.agrees(lambda place, end=end: lambda *_: place.fill(end), np.array([2.0])) is agrees


def test_a_step_that_cannot_be_made_moves_nothing() -> None:
    values = [Value(1.0), Value(2.0)]
    vector, normed = np.zeros(2), Normed(values, lr=0.1)
    with optim.SGD(values).arrays(vector) as step, pytest.raises(ValueError, match="The gradient needs the shape"):
        step([1.0])
    with normed.arrays(vector) as step, pytest.raises(TypeError, match="update of Normed does not run on vectors"):
        step([1.0, 2.0])
    assert vector.tolist() == [0.0, 0.0]
    assert normed.state == {}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (optim.constant(), {0: 1, 1000: 1}),
        (optim.step_decay(3), {0: 1, 2: 1, 3: 0.1, 5: 0.1, 6: 0.01}),
        (optim.step_decay(1, gamma=0.5), {0: 1, 1: 0.5, 4: 0.0625}),
        (optim.exponential(0.9), {0: 1, 1: 0.9, 10: 0.9**10}),
        (optim.cosine(8), {0: 1, 2: (2 + math.sqrt(2)) / 4, 4: 0.5, 8: 0, 9: 0, 100: 0}),
        (optim.cosine(8, minimum=0.2), {0: 1, 4: 0.6, 8: 0.2, 20: 0.2}),
        (optim.linear_warmup(4), {0: 0.25, 1: 0.5, 3: 1, 4: 1, 50: 1}),
        (optim.linear_warmup(2, then=optim.exponential(0.5)), {0: 0.5, 1: 1, 2: 1, 3: 0.5, 4: 0.25}),
    ],
)
def test_a_schedule_at_chosen_steps(schedule: optim.Schedule, expected: dict[int, float]) -> None:
    assert {t: schedule(t) for t in expected} == pytest.approx(expected, rel=1e-14, abs=1e-15)


# --- Clipping -----------------------------------------------------------------------------------------------
def test_clipping_keeps_the_direction_or_the_values_in_a_range() -> None:
    values = with_gradients(3.0, -4.0, 0.0)
    assert optim.clip_grad_norm(values, 1.0) == 5.0
    assert [v.grad for v in values] == pytest.approx([0.6, -0.8, 0.0], rel=1e-15)
    before = [v.grad for v in values]
    assert optim.clip_grad_norm(values, 2.0) == pytest.approx(1.0, rel=1e-15)
    assert [v.grad for v in values] == before
    twice = with_gradients(3.0)
    assert optim.clip_grad_norm(twice * 2, 1.0) == 3.0
    assert twice[0].grad == 1.0
    values = with_gradients(3.0, -4.0, 0.5, math.inf, math.nan)
    optim.clip_grad_value(values, 1.0)
    assert [v.grad for v in values[:4]] == [1.0, -1.0, 0.5, 1.0]
    assert math.isnan(values[4].grad)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_the_norm_neither_overflows_nor_vanishes(size: float) -> None:
    assert optim.clip_grad_norm(with_gradients(3 * size, 4 * size), 1.0) == pytest.approx(5 * size, rel=1e-15)


def test_an_interrupt_at_any_line_leaves_all_parameters_moved_or_none() -> None:
    for at in itertools.count(1):
        w = [Value(float(i)) for i in range(3)]
        optimizer = optim.Adam(w, lr=0.1)
        for parameter in w:
            parameter.grad = 1.0
        with contextlib.suppress(KeyboardInterrupt):
            run_lines(optimizer.step, lambda frame: frame.f_code is optim.Optimizer.step.__code__, at)
            break
        steps = [optimizer.state.get(parameter, (0,))[0] for parameter in w]
        moved = [int(parameter.data != i) for i, parameter in enumerate(w)]
        assert steps == moved == [moved[0]] * 3, at
    assert at > 10
