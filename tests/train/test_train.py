"""fit: batches, order, progress, early stopping, interruption, and what it says when the loss is no number."""

import contextlib
import gc
import itertools
import random
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from cases import OPTIMIZERS
from graphs import Line
from tqdm.auto import tqdm
from tqdm.std import TqdmDefaultWriteLock

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn, optim
from tinygrad_edu.compiler.trace.lending import put_numbers
from tinygrad_edu.train import History, evaluate, fit
from tinygrad_edu.train.accuracy import are_signs, count_right, is_right
from tinygrad_edu.train.interrupts import Gate
from tinygrad_edu.train.on_arrays import OnArrays
from tinygrad_edu.train.on_values import OnValues


def squared(prediction: Value, target: float) -> Value:
    return (prediction - target) ** 2


DATA = ([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 5.0, 7.0])  # y = 2x + 1


def fitted(loss: Any = squared, model: Any = None, lr: float = 0.1, **options: Any) -> tuple[Any, History]:
    """A line, or another model, after a training by gradient descent."""
    model = model or Line()
    settings = {"data": DATA, "optimizer": optim.SGD(model.parameters(), lr=lr), "progress": False} | options
    return model, fit(model, loss, **settings)


def both_ways(make: Callable[[], Any], loss: Any, data: Any, optimizer: Any, **options: Any) -> list[History]:
    """The histories of a compiled and an eager training, which end at the same numbers."""
    ends, histories = [], []
    for compiled in (True, False):
        model = make()
        moved = optimizer(model.parameters())
        history = fit(model, loss, data, moved, compiled=compiled, progress=False, **options)
        columns = [x for name in COLUMNS for x in history[name] if x is not None]
        ends.append([*numbers_of(moved), *columns])
        histories.append(history)
    assert ends[0] == pytest.approx(ends[1], rel=1e-11, abs=1e-12)
    return histories


COLUMNS = ("loss", "accuracy", "validation loss", "validation accuracy", "lr")


def numbers_of(optimizer: optim.Optimizer) -> list[float]:
    """Parameters and state."""
    return [x for p in optimizer.parameters for x in (p.data, *optimizer.state.get(p, ()))]


def test_full_batch_gradient_descent_is_what_the_textbook_writes() -> None:
    a = b = 0.0
    losses = []
    for _ in range(5):
        errors = [a * x + b - y for x, y in zip(*DATA, strict=True)]
        losses.append(sum(e * e for e in errors) / 4)
        a -= 0.1 * sum(2 * e * x for e, x in zip(errors, DATA[0], strict=True)) / 4
        b -= 0.1 * sum(2 * e for e in errors) / 4
    model, history = fitted(epochs=5, batch_size=None)
    assert (model.a.data, model.b.data) == pytest.approx((a, b), rel=1e-12)
    assert history["loss"] == pytest.approx(losses, rel=1e-12)
    assert history["epoch"] == [1, 2, 3, 4, 5]


def test_one_seed_gives_the_same_bits_and_another_gives_others() -> None:
    def numbers(seed: int) -> list[float]:
        model, _ = fitted(epochs=3, batch_size=1, seed=seed)
        return [p.data for p in model.parameters()]

    assert numbers(1) == numbers(1) != numbers(2)


def test_every_example_is_used_once_per_epoch() -> None:
    seen: list[float] = []

    def spied(prediction: Value, target: float) -> Value:
        seen.append(target)
        return squared(prediction, target)

    fitted(spied, lr=0.01, epochs=3, batch_size=3, compiled=False)
    epochs = [seen[i : i + 4] for i in (0, 4, 8)]
    assert [sorted(epoch) for epoch in epochs] == [sorted(DATA[1])] * 3
    assert epochs[0] != epochs[1] or epochs[1] != epochs[2]


def test_moons_are_learned_with_a_validation_that_is_never_trained_on() -> None:
    X, y = datasets.moons(60, seed=0)
    held_out, options = (X[40:], y[40:]), {"data": (X[:40], y[:40]), "epochs": 15, "batch_size": 8}
    model, history = fitted(hinge, nn.MLP(2, [8, 1], rng=1), lr=0.3, validation=held_out, **options)
    assert history["accuracy"][-1] > 0.85
    loss, accuracy = evaluate(model, hinge, held_out)
    assert (history["validation loss"][-1], history["validation accuracy"][-1]) == (loss, accuracy)


def test_batched_or_one_by_one_is_the_same_descent() -> None:
    X, y = datasets.moons(12, seed=0)
    ends = []
    for batched in (False, True):
        options = {"data": (X, [(t + 1) // 2 for t in y]), "epochs": 3, "batch_size": 5, "batched": batched}
        model, history = fitted(nn.cross_entropy, nn.Dense(2, 2, rng=3), **options)
        ends.append([*(p.data for p in model.parameters()), *history["loss"], *history["accuracy"]])
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)


def test_a_schedule_is_a_factor_for_the_rate() -> None:
    model = Line()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = fit(model, squared, DATA, optimizer, epochs=3, schedule=lambda epoch: 0.5**epoch, progress=False)
    assert history["lr"] == [0.1, 0.05, 0.025]
    assert optimizer.lr == 0.1


def test_patience_puts_the_best_parameters_back() -> None:
    model, history = fitted(lr=0.4, epochs=20, batch_size=None, patience=3)  # it overshoots, more and more
    assert len(history) == 4
    assert history.stopped == "no improvement for 3 epochs; the parameters are those of epoch 1"
    assert evaluate(model, squared, DATA)[0] == pytest.approx(history["loss"][1])


@pytest.mark.parametrize(
    ("slope", "options", "said"),
    [
        (1000.0, {"compiled": False}, r"the loss is inf.*\n(.|\n)*= exp\((.|\n)*logsumexp"),
        (300.0, {"batch_size": None}, r"overflow: exp\(900\) is inf"),
        (40.0, {"dtype": "float32"}, "the loss is inf in float32; the parameters are those before it"),
    ],
)
def test_a_loss_that_is_no_number_ends_with_the_node_to_blame(slope: float, options: Any, said: str) -> None:
    with pytest.warns(UserWarning, match=said):
        model, history = fitted(lambda p, t: p.exp() * 1.0, Line(slope), lr=0.01, **options)
    assert history.compiled is options.get("compiled", True)
    assert [p.data for p in model.parameters()] == [slope, 0.0]


def test_history_is_a_table() -> None:
    _, history = fitted(epochs=2)
    lines = repr(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "lr", "seconds"]
    assert len(lines) == 3
    assert repr(History()) == "no epoch was finished"
    with pytest.raises(KeyError, match="History has the columns epoch, loss"):
        history["lost"]


def test_the_progress_bar_shows_loss_and_accuracy(capfd: pytest.CaptureFixture[str]) -> None:
    fitted(hinge, nn.MLP(2, [4, 1], rng=1), data=datasets.moons(20, seed=0), epochs=2, progress=True)
    shown = capfd.readouterr().err
    assert all(text in shown for text in ("epoch 2/2", "loss=", "accuracy=", "20/20"))


PAIR = r"data is a pair \(X, y\) or a Dataset, got "
LOSS = "loss is a function such as nn.hinge, got "
WHOLE = "^{} is a whole number of {} or more, got {}.$"
ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    *(({"epochs": n}, ValueError, WHOLE.format("epochs", 1, n)) for n in (0, 1.5, None)),
    *(({"batch_size": n}, ValueError, WHOLE.format("batch_size", 1, repr(n))) for n in (0, "all")),
    ({"patience": 0}, ValueError, WHOLE.format("patience", 1, 0)),
    ({"start": -1}, ValueError, WHOLE.format("start", 0, -1)),
    ({"dtype": "float16"}, ValueError, "got 'float16'"),
    ({"check": "nan"}, ValueError, 'check is "gradients" or None'),
    ({"backend": "torch"}, ValueError, 'The backend is "numpy" or "jax", got \'torch\''),
    ({"backend": "jax", "compiled": False}, ValueError, 'run on Values: leave out backend="jax"'),
    ({"mesh": 5}, ValueError, 'Only backend="jax" runs on a mesh'),
    *(({"film": f}, ValueError, "The film records another") for f in (tg.debug.record(nn.Neuron(3, rng=0)), 3)),
    ({"schedule": 3}, TypeError, r"schedule is a function such as optim.cosine\(10\), got 3"),
    ({"validation": ([1.0], [])}, ValueError, "validation needs one target per row: 1 rows and 0 targets given."),
    ({"data": ([1.0, 2.0], [1.0])}, ValueError, "data needs one target per row: 2 rows and 1 targets"),
    ({"data": DATA[0]}, TypeError, PAIR + r"\[0.0, 1.0, 2.0, 3.0\].$"),
    ({"data": np.ones((3, 1))}, TypeError, PAIR + r"array\(\[\[1.\], "),
    ({"data": datasets.moons}, TypeError, PAIR + "<function moo"),
    ({"data": (DATA[0], 1.0)}, TypeError, PAIR + r"\(\[0.0, .*\], 1.0\).$"),
    ({"data": {"X": DATA[0], "y": DATA[1]}}, TypeError, PAIR + "{'X': "),
    ({"validation": DATA[0]}, TypeError, PAIR.replace("data", "validation", 1) + r"\[0.0, "),
    ({"data": squared, "loss": DATA}, TypeError, LOSS + r"\(\[0.0, .*: fit\(model, "),
    ({"loss": "hinge"}, TypeError, LOSS + r"'hinge': fit\(model, .* and target y\.$"),
    ({"optimizer": "sgd"}, TypeError, r"an object such as optim.SGD\(model.parameters\(\), lr=0.1\), got 'sgd'.$"),
    *(({"optimizer": x}, TypeError, f"^optimizer is an object such .*, got {x!r:.6}") for x in (optim.SGD, 10)),
    ({"optimizer": optim.SGD(Line().parameters())}, ValueError, "holds no parameter of this model: make it with "),
]


@pytest.mark.parametrize(("wrong", "error", "message"), ERRORS)
def test_wrong_arguments_are_one_line(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    model = Line()
    right = {"loss": squared, "data": DATA, "optimizer": optim.SGD(model.parameters(), lr=0.1), "progress": False}
    with pytest.raises(error, match=message) as caught:
        fit(model, **(right | wrong))
    assert "\n" not in str(caught.value)
    assert model.a.data == 0.0


def test_some_parameters_or_those_that_no_module_lists_may_be_trained() -> None:
    model, hidden = Line(), Line()
    model.a.data = 2.0
    fit(model, squared, DATA, optim.SGD([model.b], lr=0.1), 100, batch_size=None, progress=False)
    assert (model.a.data, model.b.data) == pytest.approx((2.0, 1.0))

    class Bare:  # no parameters() to compare with
        def train(self) -> None: ...
        def eval(self) -> None: ...
        def __call__(self, x: float) -> Value:
            return hidden(x)

    class Empty(nn.Module):
        def __call__(self, x: float) -> Value:
            return hidden(x)

    for wrapped in (Bare(), Empty()):
        hidden.a.data = 0.0
        fit(wrapped, squared, DATA, optim.SGD(hidden.parameters(), lr=0.1), 1, progress=False)
        assert hidden.a.data != 0.0


# --- Compiled and eager: the same descent -----------------------------------------------------------------------
IRIS = datasets.iris(standardize=True)


def classifier() -> nn.Module:
    return nn.Sequential(nn.Dense(4, 5, "tanh", rng=0), nn.Dense(5, 3, rng=1))


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_compiled_is_the_same_descent(make: Any) -> None:
    optimizers = []

    def kept(parameters: Any) -> Any:
        optimizers.append(make(parameters))
        return optimizers[-1]

    held_out = (IRIS.X_test, IRIS.y_test)
    options = {"epochs": 4, "batch_size": 16, "validation": held_out, "schedule": optim.cosine(5)}
    compiled, eager = both_ways(classifier, nn.cross_entropy, IRIS, kept, **options)
    assert (compiled.compiled, eager.compiled) == (True, False)
    gradients = [[p.grad for p in optimizer.parameters] for optimizer in optimizers]
    assert gradients[0] == pytest.approx(gradients[1], rel=1e-11, abs=1e-12)
    for optimizer in optimizers:
        assert all(type(p.data) is float and type(p.grad) is float for p in optimizer.parameters)
        assert all([type(x) for x in s] == [int, *[float] * optimizer.n_states] for s in optimizer.state.values())


def hinge(score: Value, t: float) -> Value:
    return (1 - t * score).relu()


def one_hot(y: Any) -> list[list[float]]:
    return np.eye(3)[np.asarray(y)].tolist()


MOONS, TEST = datasets.moons(30, seed=0), (IRIS.X_test[:20], IRIS.y_test[:20])
KINDS: dict[str, tuple[Any, Any, Any, dict[str, Any]]] = {
    "signs": (lambda: nn.MLP(2, [4, 1], rng=1), hinge, MOONS, {}),
    "numbers": (lambda: nn.MLP(2, [4, 1], rng=1), nn.mse, (MOONS[0], list(range(30))), {}),
    "one-hot": (classifier, nn.cross_entropy, (IRIS.X_test.tolist(), one_hot(IRIS.y_test)), {}),
    "embedding": (
        lambda: nn.Sequential(nn.Embedding(5, 3, rng=0), nn.Dense(3, 5, rng=1)),
        nn.cross_entropy,
        ([0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 1]),
        {},
    ),
    "line": (Line, squared, DATA, {}),
    "batches": (classifier, nn.cross_entropy, TEST, {"batched": True}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_data_of_all_kinds(kind: str) -> None:
    make, loss, data, options = KINDS[kind]
    both_ways(make, loss, data, optim.SGD, epochs=3, batch_size=4, validation=data, **options)
    model, history = fitted(loss, make(), data=data, validation=data, **options)
    assert history.compiled, history.eager_because
    result = evaluate(model, loss, data, **options)[0]
    assert result == pytest.approx(history["validation loss"][-1], rel=1e-11)


def test_many_examples_are_evaluated_by_a_program_of_the_same_result() -> None:
    X, y = datasets.moons(300, seed=0)
    model = nn.MLP(2, [4, 1], rng=1)
    eager = evaluate(model, hinge, (X, y), compiled=False)
    assert evaluate(model, hinge, (X, y)) == pytest.approx(eager, rel=1e-12)
    rows, classes = nn.Dense(2, 2, rng=1), [(t + 1) // 2 for t in y]
    at_once = evaluate(rows, nn.cross_entropy, (X, classes), batched=True)
    assert at_once == pytest.approx(evaluate(rows, nn.cross_entropy, (X, classes), compiled=False), rel=1e-12)
    with pytest.raises(ValueError, match="log"):
        evaluate(model, lambda score, t: score.log(), (X, y))


# --- What is trained eagerly, and why ---------------------------------------------------------------------------
class Clipped(optim.SGD):
    def step(self) -> None:
        optim.clip_grad_value(self.parameters, 1.0)
        super().step()


class Branching(optim.Optimizer):
    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        return (parameter - self.lr if gradient > 0 else parameter + self.lr,)


class Spare(Line):
    """Has a parameter too many."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = Value(1.0, label="unused")


def test_a_parameter_that_is_not_used_stays_and_it_is_said_once() -> None:
    with pytest.warns(UserWarning, match=r"does not use 1 of the 3 parameters \(unused\): their gradient") as said:
        model, history = fitted(model=Spare())
    assert [warning.filename for warning in said] == [__file__]
    assert history.compiled
    eager, _ = fitted(model=Spare(), compiled=False)
    assert model.unused.data == eager.unused.data == 1.0
    assert model.a.data == pytest.approx(eager.a.data, rel=1e-12)


def by_class(output: Value, t: float) -> Value:
    return output * 2 if t in (1.0, 5.0) else output - t  # no placeholder shows that this branches


def branching(output: Value, t: float) -> Value:
    return (output - t) ** 2 if output > t - 2 else sum({output})  # a set is no side of a choice


def inverse(output: Value, t: float) -> Value:
    try:
        return (output - 1 / (t - 7)) ** 2
    except ZeroDivisionError:  # arrays have inf there
        return output * 0.5


# What a loss may ask of its target while it is traced, and nobody sees it.
UNSEEN: dict[str, Any] = {
    "a set": lambda output, t: (output - (9.0 if t in {5.0, 7.0} else t)) ** 2,
    "its text": lambda output, t: (output - (9.0 if f"{t:.0f}" == "7" else t)) ** 2,
    "its type": lambda output, t: (output - (9.0 if isinstance(t, int | float) and t > 6 else t)) ** 2,
    "a dict": lambda output, t: (output - {7: 9.0}.get(t, 2.0)) ** 2,
}


def exact() -> nn.Module:
    model = Line()
    model.a.data = Fraction(1, 3)
    return model


class Listed(nn.Module):
    """Takes rows of any length."""

    def __init__(self) -> None:
        self.a = Value(1.0)

    def __call__(self, inputs: list[float]) -> Value:
        return self.a * sum(inputs)


ROWS = ([[1.0], [1.0, 2.0]], [1.0, 2.0])
UNCOMPILED: dict[str, tuple[Any, Any, Any, Any, str]] = {
    "step": (Line, squared, DATA, Clipped, "Clipped has its own step()"),
    "update": (Line, squared, DATA, lambda p: Branching(p, 0.1), "update of Branching does not run on vectors"),
    "equal": (Line, by_class, DATA, optim.SGD, ""),
    "branch": (Line, branching, DATA, optim.SGD, "a number decides what is computed"),
    "exact": (exact, squared, DATA, optim.SGD, "is not a float"),
    "ragged": (Listed, squared, ROWS, optim.SGD, ""),
    **{what: (Line, loss, DATA, optim.SGD, "seems to branch on a number") for what, loss in UNSEEN.items()},
    "a division": (Line, inverse, DATA, optim.SGD, "catches an error"),
}


@pytest.mark.parametrize("what", UNCOMPILED)
def test_what_does_not_compile_is_trained_eagerly(what: str) -> None:
    make, loss, data, optimizer, reason = UNCOMPILED[what]
    asked, eager = both_ways(make, loss, data, optimizer, epochs=2, batch_size=2)
    assert asked["loss"] == eager["loss"]
    assert not asked.compiled
    assert asked.eager_because
    assert reason in asked.eager_because
    assert ("trained eagerly: " in repr(asked), "trained eagerly: " in repr(eager)) == (True, False)
    assert eager.eager_because == "compiled=False"


def test_an_error_of_the_loss_is_that_of_the_engine() -> None:
    X, y = datasets.moons(20, seed=0)
    with pytest.raises(ValueError, match="hinge takes targets of -1 and 1, got 0"):
        fitted(nn.hinge, nn.MLP(2, [4, 1], rng=1), data=(X, [(t + 1) // 2 for t in y]))
    with pytest.raises(ValueError, match="log"):
        fitted(lambda p, t: (p - 0.5).log())


def test_a_batch_that_is_too_large_to_be_traced_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinygrad_edu.train.on_arrays.TRACED", 100)
    options = {"data": IRIS, "epochs": 1, "batch_size": 8, "batched": True}
    _, history = fitted(nn.cross_entropy, classifier(), **options)
    assert history.eager_because == "the graph of 8 examples together is too large to be traced"


def failing_at(moment: int, function: Callable[..., Any], error: BaseException) -> Callable[..., Any]:
    """The function, but its call number `moment` raises this error."""
    calls = itertools.count(1)

    def failing(*arguments: Any) -> Any:
        if next(calls) == moment:
            raise error
        return function(*arguments)

    return failing


def test_a_program_that_fails_on_the_way_is_left_for_values(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fitted(epochs=4, batch_size=2)
    monkeypatch.setattr(OnArrays, "step", failing_at(4, OnArrays.step, RuntimeError("out of order")))
    model, history = fitted(epochs=4, batch_size=2)
    assert (history.compiled, history.eager_because) == (False, "out of order")
    assert history["loss"] == pytest.approx(whole[1]["loss"], rel=1e-12)
    assert model.a.data == pytest.approx(whole[0].a.data, rel=1e-12)


@pytest.mark.parametrize("compiled", [False, True])
def test_ctrl_c_keeps_what_was_learned(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = OnArrays if compiled else OnValues
    monkeypatch.setattr(steps, "step", failing_at(3, steps.step, KeyboardInterrupt()))
    model, history = fitted(epochs=9, compiled=compiled)
    assert (len(history), history.compiled) == (2, compiled)
    assert history.stopped.startswith("interrupted")
    assert model.a.data != 0.0


@pytest.mark.parametrize(
    ("outputs", "targets", "right"),
    [
        ([[0.1, 0.7], [0.6, 0.3], [0.5, 0.5]], [1, 1, 0], [True, False, True]),
        ([[0.1, 0.7], [0.6, 0.3]], [[0.0, 1.0], [0.2, 0.8]], [True, False]),
        ([0.3, -0.2, 0.0], [1, 1, -1], [True, False, True]),
        ([0.3, -0.2], [0.5, 2.0], [None, None]),
        ([[[0.1], [0.7]], [[0.6], [0.3]]], [1, 1], [True, False]),
    ],
)
def test_what_counts_as_right_for_one_example_and_for_a_batch(outputs: Any, targets: Any, right: Any) -> None:
    signs = are_signs(targets)
    assert are_signs(np.array(targets)) is signs
    pairs = list(zip(outputs, targets, strict=True))
    assert [is_right(*pair, signs) for pair in pairs] == right
    assert np.ndim(outputs) > 1 or [is_right(Value(x), t, signs) for x, t in pairs] == right
    counted = right.count(True), len(right) - right.count(None)
    assert count_right(np.array(outputs), np.array(targets), signs) == counted


@pytest.mark.parametrize("n", [10, 200])  # eagerly, and compiled
def test_an_evaluation_leaves_the_mode_as_it_was(n: int) -> None:
    model = nn.Sequential(nn.Dense(2, 4, "tanh", rng=0), nn.Dropout(0.9, rng=0), nn.Dense(4, 1, rng=1))
    data = datasets.moons(n, seed=0)
    assert model.training
    first = evaluate(model, lambda s, t: nn.hinge(s[0], t), data)
    assert model.training
    assert evaluate(model, lambda s, t: nn.hinge(s[0], t), data) == first  # nothing is dropped meanwhile
    with pytest.raises(TypeError, match=r"loss is a function such as nn.hinge, got 'hinge'"):
        evaluate(model, "hinge", data)
    model.layers[1].eval()  # frozen
    evaluate(model, lambda s, t: nn.hinge(s[0], t), data)
    assert [module.training for _, module in model.named_modules()] == [True, True, False, True]


# --- Ctrl-C, the collector, the mode ----------------------------------------------------------------------------
class Counting(optim.Optimizer):
    """Every step takes 1 from every parameter and counts itself."""

    n_states = 1

    def update(self, t: int, parameter: Any, gradient: Any, *state: Any) -> tuple[Any, ...]:
        return parameter - 1.0, state[0] + 1.0


def interrupted(compiled: bool, delay: float) -> int:
    """Train until Ctrl-C comes after so many seconds. Returns the number of steps; all parameters agree on it."""
    X, y = datasets.moons(12, seed=0)
    model = nn.MLP(2, [8, 8, 1], "tanh", rng=0)
    for parameter in model.parameters():
        parameter.data = 0.0
    optimizer, handler = Counting(model.parameters(), lr=0.1), signal.getsignal(signal.SIGINT)

    def schedule(epoch: int) -> float:
        if epoch == 3:  # after some steps, also on a busy machine
            threading.Timer(delay, signal.raise_signal, [signal.SIGINT]).start()
        return 1.0

    options = {"batch_size": 4, "validation": (X[:2], y[:2]), "schedule": schedule, "progress": False}
    history = fit(model, nn.hinge, (X, y), optimizer, 10**9, compiled=compiled, **options)
    assert history.stopped == "interrupted; the parameters are those of the last step"
    assert history.compiled is compiled
    assert signal.getsignal(signal.SIGINT) is handler
    assert gc.isenabled()
    steps = {(-p.data, *optimizer.state.get(p, (0, 0.0))) for p in model.parameters()}
    assert len(steps) == 1
    ((moved, t, counted),) = steps
    assert moved == t == counted
    return int(t)


@pytest.mark.parametrize("compiled", [False, True])
def test_ctrl_c_comes_between_two_steps(compiled: bool) -> None:
    assert interrupted(compiled, 0.05) > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it may come in a callback
@pytest.mark.parametrize("compiled", [False, True])
def test_ctrl_c_at_100_random_moments(compiled: bool) -> None:
    rng = random.Random(0)
    assert len({interrupted(compiled, rng.uniform(0, 0.05)) for _ in range(100)}) > 3


def test_ctrl_c_inside_of_a_del_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops an exception that comes there; a progress bar has a __del__, in every epoch."""
    gate = Gate()

    class Dying:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGINT)

    dropped: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda lost: dropped.append(lost.exc_type))
    with gate.installed():
        Dying()
        assert dropped == [KeyboardInterrupt]
        with pytest.raises(KeyboardInterrupt), gate:
            pass
        with gate:  # once
            pass


def test_an_update_is_not_interrupted() -> None:
    class Interrupting(Counting):
        def step(self) -> None:
            signal.raise_signal(signal.SIGINT)
            super().step()
            signal.raise_signal(signal.SIGINT)

    model = Line()
    _, history = fitted(model=model, optimizer=Interrupting(model.parameters(), lr=0.1), compiled=False)
    assert history.stopped.startswith("interrupted")
    assert [p.data for p in model.parameters()] == [-1.0, -1.0]


@pytest.mark.parametrize("progress", [True, False])
def test_ctrl_c_within_the_progress_bar_does_not_stop_the_bars_of_other_threads(
    progress: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """tqdm takes its locks in Python. An interrupt between taking and using them would keep them."""
    taken, acquire = [], TqdmDefaultWriteLock.acquire

    def interrupted(lock: Any, *options: Any) -> None:
        acquire(lock, *options)
        if threading.current_thread() is threading.main_thread() and not taken:
            taken.append(lock)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TqdmDefaultWriteLock, "acquire", interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        fitted(epochs=2, progress=progress)

    def is_locked(lock: Any) -> bool:
        return not lock.acquire(False) or lock.release()

    with ThreadPoolExecutor(1) as other:
        locked = [lock for lock in tqdm.get_lock().locks if other.submit(is_locked, lock).result()]
    for lock in locked:
        lock.release()  # for the tests after this one
    assert locked == []
    assert bool(taken) is progress


def test_ctrl_c_that_a_library_turns_into_another_error_is_still_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def swallowing(self: Any, batch: Any) -> Any:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TypeError("Cannot compare structured arrays") from None

    monkeypatch.setattr("tinygrad_edu.train.on_arrays.OnArrays.step", swallowing)
    _, history = fitted(epochs=4)
    assert history.stopped.startswith("interrupted")
    assert (history.compiled, history.eager_because) == (True, "")


def test_ctrl_c_before_an_evaluation_leaves_the_parameters_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def interrupted(parameters: Any, numbers: Any) -> None:
        if next(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        put_numbers(parameters, numbers)

    monkeypatch.setattr("tinygrad_edu.compiler.run.base.put_numbers", interrupted)
    model, history = fitted(epochs=4, validation=DATA)
    assert history.stopped.startswith("interrupted")
    assert model.a.data != 0.0


def test_in_another_thread_nothing_waits_for_ctrl_c() -> None:
    with ThreadPoolExecutor(2) as threads:
        ends = [threads.submit(fitted, epochs=2, compiled=compiled) for compiled in (False, True)]
    assert [len(end.result()[1]) for end in ends] == [2, 2]


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_collector_rests_within_a_step_only(enabled: bool, error: type[BaseException] | None) -> None:
    within = []

    def spied(prediction: Value, target: float) -> Value:
        within.append(gc.isenabled())
        if error and len(within) == 3:
            raise error
        return squared(prediction, target)

    def schedule(epoch: int) -> float:
        between.append(gc.isenabled())
        return 1.0

    (gc.enable if enabled else gc.disable)()
    between: list[bool] = []
    try:
        with contextlib.suppress(ZeroDivisionError):
            fitted(spied, lr=0.01, epochs=2, schedule=schedule, compiled=False)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert not any(within)
    assert set(between) == {enabled}


def test_a_training_in_two_parts_is_the_whole() -> None:
    ends = []
    for parts in ([6], [2, 3, 1]):
        model, epochs = Line(), []
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        for n in parts:
            options = {"optimizer": optimizer, "schedule": optim.cosine(6), "start": optimizer.epochs}
            epochs += fitted(model=model, epochs=n, batch_size=3, **options)[1].epochs
        ends.append([[model.a.data, model.b.data], [(e["epoch"], e["loss"], e["lr"]) for e in epochs]])
    assert ends[0] == ends[1]


POINTS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]], [1.0, -1.0, -1.0, 1.0]


def filmed(model=None, activation="tanh", lr=0.05, **options):
    model = model or nn.MLP(3, [4, 4, 1], activation, rng=0)
    return fitted(nn.mse, model, lr, **{"data": POINTS, "epochs": 5, "batch_size": 2} | options)


def test_fit_records_a_film_and_learns_the_same():
    model = nn.MLP(3, [4, 4, 1], "tanh", rng=0)
    film = tg.debug.record(model)
    _, history = filmed(model, film=film)
    assert history.film is film
    assert (film.count, history.eager_because, history.stopped) == (10, "a film records the steps", "")
    assert not film.running
    plain, without = filmed()
    assert without.film is None
    for recorded, parameter in zip(model.parameters(), plain.parameters(), strict=True):
        assert recorded.data == pytest.approx(parameter.data, rel=1e-12)
    with film:
        assert filmed(model, film=film)[1].film is film
        assert filmed(model)[1].eager_because == "a film records the steps"
    assert film.count == 30


def test_the_check_tells_a_network_without_gradients_and_passes_a_healthy_training():
    dead = nn.MLP(3, [4, 4, 1], rng=0)
    for neuron in dead.layers[0].neurons:
        neuron.b.data = -100.0
    with pytest.warns(UserWarning, match="no gradient reached any parameter"):
        assert len(filmed(dead, epochs=20, check="gradients")[1]) < 20
    assert filmed(epochs=20, check="gradients")[1].stopped == ""


def test_the_check_of_the_gradients_stops_before_the_step():
    with pytest.warns(UserWarning, match=r"the gradient exploded.*\n.*tg\.debug\.run\(history\.film\[\d\]\)"):
        model, history = filmed(activation="linear", lr=5.0, check="gradients")
    assert history.stopped.startswith("step ")
    step = history.film.blame().step
    assert history.film.count == step + 1
    leaves = {node.label: node.data for node in tg.topological_order(history.film[step])}
    assert leaves.items() >= {name: p.data for name, p in model.named_parameters()}.items()
    model = nn.MLP(3, [4, 4, 1], "linear", rng=0)
    with pytest.warns(UserWarning, match=r"run\(film\["):
        filmed(model, lr=5.0, film=tg.debug.record(model), check="gradients")
