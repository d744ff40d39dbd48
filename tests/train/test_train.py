"""fit: batches, order, progress, early stopping, interruption, and what it says when the loss is no number."""

import contextlib
import gc
import itertools
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from tqdm.auto import tqdm
from tqdm.std import TqdmDefaultWriteLock

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn, optim
from tinygrad_edu.compiler.checks import put_numbers
from tinygrad_edu.train import History, evaluate, fit
from tinygrad_edu.train.accuracy import are_signs, count_right, is_right
from tinygrad_edu.train.interrupts import Gate


class Line(nn.Module):
    """a x + b, whose gradients are known by heart."""

    def __init__(self) -> None:
        self.a, self.b = Value(0.0, label="a"), Value(0.0, label="b")

    def __call__(self, x: float) -> Value:
        return self.a * x + self.b


def squared(prediction: Value, target: float) -> Value:
    return (prediction - target) ** 2


DATA = ([0.0, 1.0, 2.0, 3.0], [1.0, 3.0, 5.0, 7.0])  # y = 2x + 1


def fitted(**options: Any) -> tuple[Line, History]:
    model = Line()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = fit(model, squared, DATA, optimizer, progress=False, **options)
    return model, history


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


@pytest.mark.parametrize("batch_size", [1, 2, 3, None])
def test_it_learns_with_batches_of_any_size(batch_size: int | None) -> None:
    model, history = fitted(epochs=200, batch_size=batch_size)
    assert (model.a.data, model.b.data) == pytest.approx((2.0, 1.0), abs=1e-2)
    assert len(history) == 200
    assert not history.stopped


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

    model = Line()
    options = {"epochs": 3, "batch_size": 3, "progress": False, "compiled": False}
    fit(model, spied, DATA, optim.SGD(model.parameters(), lr=0.01), **options)
    assert (
        [sorted(epoch) for epoch in itertools.batched(seen, 4)] == [sorted(DATA[1])] * 3
        if sys.version_info
        >= (
            3,
            12,
        )
        else sorted(seen) == sorted(DATA[1] * 3)
    )
    assert seen[:4] != seen[4:8] or seen[4:8] != seen[8:]


def test_moons_are_learned_with_a_validation_that_is_never_trained_on() -> None:
    X, y = datasets.moons(60, seed=0)
    model = nn.MLP(2, [8, 1], rng=1)
    history = fit(
        model,
        lambda score, t: (1 - t * score).relu(),
        (X[:40], y[:40]),
        optim.SGD(model.parameters(), lr=0.3),
        epochs=15,
        batch_size=8,
        validation=(X[40:], y[40:]),
        progress=False,
    )
    assert history["accuracy"][-1] > 0.85
    loss, accuracy = evaluate(model, lambda score, t: (1 - t * score).relu(), (X[40:], y[40:]))
    assert (history["validation loss"][-1], history["validation accuracy"][-1]) == (loss, accuracy)


def test_a_model_that_needs_whole_batches() -> None:
    X, y = datasets.moons(40, seed=0)
    classes = [(t + 1) // 2 for t in y]
    model = nn.Sequential(nn.Dense(2, 8, rng=0), nn.BatchNorm(8), nn.Activation("relu"), nn.Dense(8, 2, rng=1))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    history = fit(
        model, nn.cross_entropy, (X, classes), optimizer, epochs=25, batch_size=10, batched=True, progress=False
    )
    assert history["accuracy"][-1] >= 0.9
    assert evaluate(model, nn.cross_entropy, (X, classes), batched=True)[1] >= 0.85


def test_batched_or_one_by_one_is_the_same_descent() -> None:
    X, y = datasets.moons(12, seed=0)
    classes = [(t + 1) // 2 for t in y]
    ends = []
    for batched in (False, True):
        model = nn.Dense(2, 2, rng=3)
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        options = {"epochs": 3, "batch_size": 5, "batched": batched, "progress": False}
        history = fit(model, nn.cross_entropy, (X, classes), optimizer, **options)
        ends.append([*(p.data for p in model.parameters()), *history["loss"], *history["accuracy"]])
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)


def test_the_schedules_of_optim_are_such_functions() -> None:
    model = Line()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = fit(model, squared, DATA, optimizer, epochs=4, schedule=optim.cosine(4), progress=False)
    assert history["lr"][0] == 0.1 > history["lr"][1] > history["lr"][3]


def test_a_schedule_is_a_factor_for_the_rate() -> None:
    model = Line()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = fit(model, squared, DATA, optimizer, epochs=3, schedule=lambda epoch: 0.5**epoch, progress=False)
    assert history["lr"] == [0.1, 0.05, 0.025]
    assert optimizer.lr == 0.1


def test_patience_puts_the_best_parameters_back() -> None:
    model = Line()
    optimizer = optim.SGD(model.parameters(), lr=0.4)  # it overshoots, more and more
    history = fit(model, squared, DATA, optimizer, epochs=20, batch_size=None, patience=3, progress=False)
    assert len(history) == 4
    assert history.stopped == "no improvement for 3 epochs; the parameters are those of epoch 1"
    assert evaluate(model, squared, DATA)[0] == pytest.approx(history["loss"][1])


def test_ctrl_c_keeps_what_was_learned() -> None:
    calls = itertools.count()

    def impatient(prediction: Value, target: float) -> Value:
        if next(calls) == 10:
            raise KeyboardInterrupt
        return squared(prediction, target)

    model = Line()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    history = fit(model, impatient, DATA, optimizer, epochs=9, compiled=False, progress=False)
    assert len(history) == 2
    assert history.stopped.startswith("interrupted")
    assert model.a.data != 0.0


def test_a_loss_that_is_no_number_ends_with_the_node_to_blame() -> None:
    def overflowing(prediction: Value, target: float) -> Value:
        return (prediction + 1000).exp() * 1.0

    model = Line()
    before = [p.data for p in model.parameters()]
    with pytest.warns(UserWarning, match="the loss is inf") as caught:
        history = fit(model, overflowing, DATA, optim.SGD(model.parameters(), lr=0.1), progress=False)
    assert "= exp(" in str(caught[0].message)
    assert "logsumexp" in history.stopped
    assert [p.data for p in model.parameters()] == before


def test_history_is_a_table() -> None:
    _, history = fitted(epochs=2)
    lines = repr(history).splitlines()
    assert lines[0].split() == ["epoch", "loss", "lr", "seconds"]
    assert len(lines) == 3
    assert repr(History()) == "no epoch was finished"
    with pytest.raises(KeyError, match="History has the columns epoch, loss"):
        history["lost"]


def test_the_progress_bar_shows_loss_and_accuracy(capfd: pytest.CaptureFixture[str]) -> None:
    X, y = datasets.moons(20, seed=0)
    model = nn.MLP(2, [4, 1], rng=1)
    fit(model, lambda s, t: (1 - t * s).relu(), (X, y), optim.SGD(model.parameters(), lr=0.1), epochs=2)
    shown = capfd.readouterr().err
    assert "epoch 2/2" in shown
    assert "loss=" in shown
    assert "accuracy=" in shown
    assert "20/20" in shown


@pytest.mark.parametrize(
    ("output", "target", "right"),
    [
        ([0.1, 0.7, 0.2], 1, True),
        ([0.1, 0.7, 0.2], 0, False),
        ([0.1, 0.7], [0.0, 1.0], True),
        (0.3, 1, True),
        (0.3, -1, False),
        (Value(-2.0), -1, True),
        (0.3, 0.5, None),
    ],
)
def test_what_counts_as_right(output: Any, target: Any, right: bool | None) -> None:
    assert is_right(output, target, signs=target in (-1, 1)) is right


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "^epochs is a whole number of 1 or more, got 0.$"),
        ({"epochs": 1.5}, "^epochs is a whole number of 1 or more, got 1.5.$"),
        ({"epochs": None}, "^epochs is a whole number of 1 or more, got None.$"),
        ({"batch_size": 0}, "^batch_size is a whole number of 1 or more, got 0.$"),
        ({"batch_size": "all"}, "^batch_size is a whole number of 1 or more, got 'all'.$"),
        ({"patience": 0}, "^patience is a whole number of 1 or more, got 0.$"),
        ({"validation": ([1.0], [])}, "validation needs one target per row: 1 rows and 0 targets given."),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted(**options)


def test_data_of_two_lengths() -> None:
    model = Line()
    with pytest.raises(ValueError, match="data needs one target per row: 2 rows and 1 targets"):
        fit(model, squared, ([1.0, 2.0], [1.0]), optim.SGD(model.parameters(), lr=0.1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"data": DATA[0]}, r"data is a pair \(X, y\) or a Dataset, got \[0.0, 1.0, 2.0, 3.0\]."),
        ({"data": np.ones((3, 1))}, r"data is a pair \(X, y\) or a Dataset, got array\(\[\[1.\], .*"),
        ({"data": datasets.moons}, r"data is a pair \(X, y\) or a Dataset, got <function moo.*"),
        ({"data": (DATA[0], 1.0)}, r"data is a pair \(X, y\) or a Dataset, got \(\[0.0, .*\], 1.0\)."),
        ({"data": {"X": DATA[0], "y": DATA[1]}}, r"data is a pair \(X, y\) or a Dataset, got {'X': .*"),
        ({"validation": DATA[0]}, r"validation is a pair \(X, y\) or a Dataset, got \[0.0, .*"),
        ({"data": squared, "loss": DATA}, r"loss is a function such as nn.hinge, got \(\[0.0, .*"),
        ({"loss": "hinge"}, "loss is a function such as nn.hinge, got 'hinge'."),
        (
            {"optimizer": "sgd"},
            r"optimizer is an object such as optim.SGD\(model.parameters\(\), lr=0.1\), got 'sgd'.",
        ),
        ({"optimizer": optim.SGD}, r"optimizer is an object such as .*, got <class .*>."),
        ({"optimizer": 10}, r"optimizer is an object such as .*, got 10."),
    ],
)
def test_arguments_of_another_kind(wrong: dict[str, Any], message: str) -> None:
    model = Line()
    right = {"loss": squared, "data": DATA, "optimizer": optim.SGD(model.parameters(), lr=0.1)}
    with pytest.raises(TypeError, match=f"^{message}$") as caught:
        fit(model, **{**right, **wrong}, progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("compiled", [True, False])
def test_an_optimizer_of_another_model_is_refused(compiled: bool) -> None:
    model, other = Line(), Line()
    with pytest.raises(ValueError, match=r"holds no parameter of this model: make it with model.parameters\(\)"):
        fit(model, squared, DATA, optim.SGD(other.parameters()), 1, compiled=compiled, progress=False)
    assert other.a.data == 0.0


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


def test_memory_is_flat_without_the_collector() -> None:
    X, y = datasets.moons(10, seed=0)
    model = nn.MLP(2, [4, 1], rng=1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    living, calls = [], itertools.count()

    def counted(score: Value, t: int) -> Value:
        if next(calls) % 50 == 0:
            living.append(sum(type(x) is Value for x in gc.get_objects()))
        return (1 - t * score).relu()

    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            options = {"epochs": 100, "batch_size": 5, "compiled": False, "progress": False}
            fit(model, counted, (X, y), optimizer, **options)  # 200 steps
    finally:
        gc.enable()
    assert len(living) == 20
    assert max(living[1:]) - min(living[1:]) <= len(tg.topological_order(model(X[0])))


# --- Compiled and eager: the same descent -----------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "Nesterov": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSProp": lambda p: optim.RMSProp(p, lr=0.01, momentum=0.5, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.02, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.02, weight_decay=0.1),
}
IRIS = datasets.iris(standardize=True)


def classifier() -> nn.Module:
    return nn.Sequential(nn.Dense(4, 5, "tanh", rng=0), nn.Dense(5, 3, rng=1))


def numbers_of(optimizer: optim.Optimizer) -> list[float]:
    """Parameters and state."""
    return [x for p in optimizer.parameters for x in (p.data, *optimizer.state[p])]


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_compiled_is_the_same_descent(make: Any) -> None:
    ends = []
    for compiled in (True, False):
        model = classifier()
        optimizer = make(model.parameters())
        history = fit(
            model,
            nn.cross_entropy,
            IRIS,
            optimizer,
            epochs=4,
            batch_size=16,
            validation=(IRIS.X_test, IRIS.y_test),
            schedule=optim.cosine(5),
            compiled=compiled,
            progress=False,
        )
        assert history.compiled is compiled
        columns = ("loss", "accuracy", "validation loss", "validation accuracy", "lr")
        gradients = [p.grad for p in optimizer.parameters]
        ends.append([*numbers_of(optimizer), *gradients, *(x for c in columns for x in history[c])])
        assert all(type(p.data) is float and type(p.grad) is float for p in optimizer.parameters)
        assert all([type(x) for x in s] == [int, *[float] * optimizer.n_states] for s in optimizer.state.values())
    assert ends[0] == pytest.approx(ends[1], rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_eager_and_compiled_epochs_may_alternate(make: Any) -> None:
    ends = []
    for ways in ((False, False, False), (False, True, False), (True, False, True)):
        model = classifier()
        optimizer = make(model.parameters())
        for epoch, compiled in enumerate(ways):
            options = {"epochs": 1, "batch_size": 20, "seed": epoch, "progress": False}
            fit(model, nn.cross_entropy, IRIS, optimizer, compiled=compiled, **options)
        ends.append(numbers_of(optimizer))
    assert ends[1] == pytest.approx(ends[0], rel=1e-12, abs=1e-12)
    assert ends[2] == pytest.approx(ends[0], rel=1e-12, abs=1e-12)


def hinge(score: Value, t: float) -> Value:
    return (1 - t * score).relu()


def one_hot(y: Any) -> list[list[float]]:
    return np.eye(3)[np.asarray(y)].tolist()


@pytest.mark.parametrize(
    ("make", "loss", "data"),
    [
        (lambda: nn.MLP(2, [4, 1], rng=1), hinge, datasets.moons(30, seed=0)),
        (lambda: nn.MLP(2, [4, 1], rng=1), nn.mse, (datasets.moons(30, seed=0)[0], list(range(30)))),
        (classifier, nn.cross_entropy, (IRIS.X_test.tolist(), one_hot(IRIS.y_test))),
        (
            lambda: nn.Sequential(nn.Embedding(5, 3, rng=0), nn.Dense(3, 5, rng=1)),
            nn.cross_entropy,
            ([0, 1, 2, 3, 4, 0], [1, 2, 3, 4, 0, 1]),
        ),
        (Line, squared, DATA),
    ],
    ids=["signs", "numbers", "one-hot", "embedding", "line"],
)
def test_data_of_all_kinds(make: Any, loss: Any, data: Any) -> None:
    ends = []
    for compiled in (True, False):
        model = make()
        optimizer = optim.SGD(model.parameters(), lr=0.01)
        options = {"epochs": 3, "batch_size": 4, "validation": data, "compiled": compiled, "progress": False}
        history = fit(model, loss, data, optimizer, **options)
        assert history.compiled is compiled, history.eager_because
        rows = [row[key] for row in history.epochs for key in ("loss", "accuracy", "validation loss")]
        ends.append([*(p.data for p in optimizer.parameters), *rows, history["validation accuracy"][-1]])
        ends[-1] = [-1.0 if x is None else x for x in ends[-1]]  # no accuracy
        assert evaluate(model, loss, data)[0] == pytest.approx(history["validation loss"][-1], rel=1e-11)
    assert ends[0] == pytest.approx(ends[1], rel=1e-11, abs=1e-12)


def test_many_examples_are_evaluated_by_a_program_of_the_same_result() -> None:
    X, y = datasets.moons(300, seed=0)
    model = nn.MLP(2, [4, 1], rng=1)
    assert evaluate(model, hinge, (X, y)) == pytest.approx(
        evaluate(model, hinge, (X, y), compiled=False), rel=1e-12
    )
    rows, classes = nn.Dense(2, 2, rng=1), [(t + 1) // 2 for t in y]
    at_once = evaluate(rows, nn.cross_entropy, (X, classes), batched=True)
    assert at_once == pytest.approx(evaluate(rows, nn.cross_entropy, (X, classes), compiled=False), rel=1e-12)
    with pytest.raises(ValueError, match="log"):
        evaluate(model, lambda score, t: score.log(), (X, y))


def test_batches_written_out_in_the_graph_compile() -> None:
    data = (IRIS.X_test[:20], IRIS.y_test[:20])
    ends = []
    for compiled in (True, False):
        model = classifier()
        optimizer = optim.Adam(model.parameters())
        options = {"epochs": 2, "batch_size": 8, "batched": True, "validation": data, "progress": False}
        history = fit(model, nn.cross_entropy, data, optimizer, compiled=compiled, **options)
        assert history.compiled is compiled
        ends.append([*numbers_of(optimizer), *history["accuracy"], *history["validation loss"]])
    assert ends[0] == pytest.approx(ends[1], rel=1e-11, abs=1e-12)


def test_float32_is_near_and_other_numbers_are_refused() -> None:
    losses = []
    for dtype in ("float32", "float64"):
        model = classifier()
        optimizer = optim.Adam(model.parameters())
        losses.append(fit(model, nn.cross_entropy, IRIS, optimizer, 2, dtype=dtype, progress=False)["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] != losses[1]
    with pytest.raises(ValueError, match="got 'float16'"):
        fit(model, nn.cross_entropy, IRIS, optimizer, dtype="float16")


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
    def ended(compiled: bool) -> list[float]:
        model = Spare()
        history = fit(model, squared, DATA, optim.SGD(model.parameters()), 3, 2, compiled=compiled, progress=False)
        assert history.compiled is compiled
        return [p.data for p in model.parameters()]

    with pytest.warns(UserWarning, match=r"does not use 1 of the 3 parameters \(unused\): their gradient") as said:
        compiled = ended(True)
    assert [warning.filename for warning in said] == [__file__]
    assert compiled[-1] == 1.0
    np.testing.assert_allclose(compiled, ended(False), rtol=1e-12)


def by_class(output: Value, t: float) -> Value:
    return output * 2 if t in (1.0, 5.0) else output - t  # no placeholder shows that this branches


def branching(output: Value, t: float) -> Value:
    return (output - t) ** 2 if output > t - 2 else output


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


@pytest.mark.parametrize(
    ("make", "loss", "data", "optimizer", "reason"),
    [
        (Line, squared, DATA, lambda p: Clipped(p, lr=0.1), "Clipped has its own step()"),
        (Line, squared, DATA, lambda p: Branching(p, lr=0.1), "The update of Branching does not run on vectors"),
        (Line, by_class, DATA, optim.SGD, ""),
        (Line, branching, DATA, optim.SGD, "a number decides what is computed"),
        (exact, squared, DATA, optim.SGD, "is not a float"),
        (Listed, squared, ([[1.0], [1.0, 2.0]], [1.0, 2.0]), optim.SGD, ""),
        (
            lambda: nn.Sequential(nn.Dense(4, 3, rng=0), nn.Dropout(0.5, rng=0)),
            nn.cross_entropy,
            (IRIS.X_test, IRIS.y_test),
            optim.SGD,
            "Dropout draws anew",
        ),
    ],
    ids=["step", "update", "equal", "branch", "exact", "ragged", "dropout"],
)
def test_what_does_not_compile_is_trained_eagerly(
    make: Any, loss: Any, data: Any, optimizer: Any, reason: str
) -> None:
    ends = []
    for compiled in (True, False):
        model = make()
        optimiser = optimizer(model.parameters())
        history = fit(model, loss, data, optimiser, 2, 2, compiled=compiled, progress=False)
        assert not history.compiled
        assert history.eager_because if compiled else history.eager_because == "compiled=False"
        assert reason in history.eager_because or not compiled
        assert ("trained eagerly: " in repr(history)) is compiled
        ends.append([*(p.data for p in model.parameters()), *history["loss"]])
    assert ends[0] == ends[1]


def test_a_target_that_the_loss_refuses_is_refused_as_ever() -> None:
    X, y = datasets.moons(20, seed=0)
    model = nn.MLP(2, [4, 1], rng=1)
    with pytest.raises(ValueError, match="hinge takes targets of -1 and 1, got 0"):
        fit(model, nn.hinge, (X, [(t + 1) // 2 for t in y]), optim.SGD(model.parameters()), progress=False)


def test_an_error_of_the_loss_is_that_of_the_engine() -> None:
    model = Line()
    with pytest.raises(ValueError, match="log"):
        fit(model, lambda p, t: (p - 0.5).log(), DATA, optim.SGD(model.parameters()), progress=False)


def test_a_batch_that_is_too_large_to_be_traced_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tinygrad_edu.train.compiled.TRACED", 100)
    model = classifier()
    options = {"epochs": 1, "batch_size": 8, "batched": True, "progress": False}
    history = fit(model, nn.cross_entropy, IRIS, optim.SGD(model.parameters()), **options)
    assert history.eager_because == "the graph of 8 examples together is too large to be traced"


def test_a_program_that_fails_on_the_way_is_left_for_values(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinygrad_edu.train.compiled import OnArrays

    calls, step = itertools.count(), OnArrays.step

    def failing(self: OnArrays, batch: Any) -> Any:
        if next(calls) == 3:
            raise RuntimeError("out of order")
        return step(self, batch)

    whole = fitted(epochs=4, batch_size=2)
    monkeypatch.setattr(OnArrays, "step", failing)
    model, history = fitted(epochs=4, batch_size=2)
    assert (history.compiled, history.eager_because) == (False, "out of order")
    assert history["loss"] == pytest.approx(whole[1]["loss"], rel=1e-12)
    assert model.a.data == pytest.approx(whole[0].a.data, rel=1e-12)


def test_ctrl_c_writes_back_what_was_learned_on_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    from tinygrad_edu.train.compiled import OnArrays

    calls, step = itertools.count(), OnArrays.step

    def impatient(self: OnArrays, batch: Any) -> Any:
        if next(calls) == 3:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(OnArrays, "step", impatient)
    model, history = fitted(epochs=4, batch_size=1)
    assert history.compiled
    assert history.stopped.startswith("interrupted")
    assert model.a.data != 0.0


def test_one_example_of_a_batch_is_to_blame() -> None:
    model = Line()
    model.a.data = 300.0
    with pytest.warns(UserWarning, match=r"overflow: exp\(900\) is inf"):
        history = fit(model, lambda p, t: p.exp(), DATA, optim.SGD(model.parameters()), batch_size=None)
    assert history.compiled
    assert model.a.data == 300.0


def test_an_overflow_of_float32_alone_is_said_to_be_one() -> None:
    model = Line()
    model.a.data = 40.0
    with pytest.warns(UserWarning, match="the loss is inf in float32; the parameters are those before it"):
        fit(model, lambda p, t: p.exp(), DATA, optim.SGD(model.parameters()), dtype="float32", progress=False)
    assert model.a.data == 40.0


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        ([[0.1, 0.7], [0.6, 0.3], [0.5, 0.5]], [1, 1, 0]),
        ([[0.1, 0.7], [0.6, 0.3]], [[0.0, 1.0], [0.2, 0.8]]),
        ([0.3, -0.2, 0.0], [1, 1, -1]),
        ([0.3, -0.2], [0.5, 2.0]),
        ([[[0.1], [0.7]], [[0.6], [0.3]]], [1, 1]),
    ],
)
def test_a_batch_is_judged_as_its_examples_are(outputs: Any, targets: Any) -> None:
    signs = are_signs(targets)
    assert are_signs(np.array(targets)) is signs
    right = [is_right(*pair, signs) for pair in zip(outputs, targets, strict=True)]
    counted = len(right) - right.count(None)
    assert count_right(np.array(outputs), np.array(targets), signs) == (right.count(True), counted)


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
    model.eval()
    evaluate(model, lambda s, t: nn.hinge(s[0], t), data)
    assert not model.training


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
        if epoch == 0:
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
@pytest.mark.parametrize("compiled", [False, True])
def test_ctrl_c_at_100_random_moments(compiled: bool) -> None:
    rng = random.Random(0)
    assert len({interrupted(compiled, rng.uniform(0, 0.05)) for _ in range(100)}) > 10


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
    optimizer = Interrupting(model.parameters(), lr=0.1)
    history = fit(model, squared, DATA, optimizer, compiled=False, progress=False)
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
    model = Line()
    with contextlib.suppress(KeyboardInterrupt):
        fit(model, squared, DATA, optim.SGD(model.parameters(), lr=0.1), 2, progress=progress)
    held = []

    def try_it(lock: Any) -> None:
        if lock.acquire(False):
            lock.release()
        else:
            held.append(lock)

    for lock in tqdm.get_lock().locks:
        other = threading.Thread(target=try_it, args=[lock])
        other.start()
        other.join()
    for lock in held:
        lock.release()  # for the tests after this one
    assert held == []
    assert bool(taken) is progress


def test_ctrl_c_that_a_library_turns_into_another_error_is_still_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def swallowing(self: Any, batch: Any) -> Any:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise TypeError("Cannot compare structured arrays") from None

    monkeypatch.setattr("tinygrad_edu.train.compiled.OnArrays.step", swallowing)
    _, history = fitted(epochs=4)
    assert history.stopped.startswith("interrupted")
    assert (history.compiled, history.eager_because) == (True, "")


def test_ctrl_c_before_an_evaluation_leaves_the_parameters_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = itertools.count()

    def interrupted(parameters: Any, numbers: Any) -> None:
        if next(calls) == 1:
            signal.raise_signal(signal.SIGINT)
        put_numbers(parameters, numbers)

    monkeypatch.setattr("tinygrad_edu.compiler.base.put_numbers", interrupted)
    model, history = fitted(epochs=4, validation=DATA)
    assert history.stopped.startswith("interrupted")
    assert model.a.data != 0.0


def test_in_another_thread_nothing_waits_for_ctrl_c() -> None:
    ends = []
    threads = [
        threading.Thread(target=lambda compiled=compiled: ends.append(fitted(epochs=2, compiled=compiled)))
        for compiled in (False, True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(history) for _, history in ends] == [2, 2]


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("error", [None, ZeroDivisionError, KeyboardInterrupt])
def test_the_collector_rests_within_a_step_only(enabled: bool, error: type[BaseException] | None) -> None:
    within = []

    def spied(prediction: Value, target: float) -> Value:
        within.append(gc.isenabled())
        if error and len(within) == 3:
            raise error
        return squared(prediction, target)

    model = Line()
    (gc.enable if enabled else gc.disable)()
    between = []
    try:
        with contextlib.suppress(ZeroDivisionError):
            options = {"compiled": False, "progress": False}
            options["schedule"] = lambda epoch: between.append(gc.isenabled()) or 1.0
            fit(model, spied, DATA, optim.SGD(model.parameters(), lr=0.01), 2, **options)
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
    assert not any(within)
    assert set(between) == {enabled}


@pytest.mark.parametrize("batched", [False, True])
def test_a_mode_that_changes_on_the_way_is_noticed(batched: bool) -> None:
    """The schedule is called before each epoch: from the second one on, Dropout is at work, or no more."""
    for late in (True, False):
        ends = []
        for compiled in (True, False):
            model = nn.Sequential(nn.Dense(2, 8, "tanh", rng=0), nn.Dropout(0.5, rng=0), nn.Dense(8, 2, rng=1))
            X, y = datasets.moons(10, seed=0)
            data = (X, [(t + 1) // 2 for t in y])

            def schedule(epoch: int, model: nn.Module = model, late: bool = late) -> float:
                model.layers[1].training = (epoch > 0) is late
                return 1.0

            options = {"schedule": schedule, "batched": batched, "validation": data, "progress": False}
            history = fit(
                model,
                nn.cross_entropy,
                data,
                optim.SGD(model.parameters(), lr=0.5),
                3,
                compiled=compiled,
                **options,
            )
            ends.append([*history["loss"], *history["validation loss"]])
        assert ends[0] == pytest.approx(ends[1], rel=1e-12)


def test_a_layer_that_is_frozen_stays_so() -> None:
    model = nn.Sequential(nn.Dense(2, 2, rng=0), nn.BatchNorm(2))
    model.layers[1].eval()
    evaluate(model, nn.cross_entropy, ([[0.0, 1.0]], [1]))
    assert [module.training for _, module in model.named_modules()] == [True, True, False]


def test_a_training_in_two_parts_is_the_whole() -> None:
    ends = []
    for parts in ([6], [2, 3, 1]):
        model = Line()
        optimizer = optim.Adam(model.parameters(), lr=0.1)
        epochs = []
        for n in parts:
            options = {"batch_size": 3, "schedule": optim.cosine(6), "progress": False}
            history = fit(model, squared, DATA, optimizer, n, start=optimizer.epochs, **options)
            epochs += history.epochs
        ends.append([[model.a.data, model.b.data], [(e["epoch"], e["loss"], e["lr"]) for e in epochs]])
    assert ends[0] == ends[1]
    with pytest.raises(ValueError, match=r"^start is a whole number of 0 or more, got -1.$"):
        fitted(start=-1)


# --- Films ----------------------------------------------------------------------------------------------------

POINTS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]], [1.0, -1.0, -1.0, 1.0]


def trained(activation="tanh", lr=0.05, **options):
    model = nn.MLP(3, [4, 4, 1], activation, rng=0)
    sgd = optim.SGD(model.parameters(), lr=lr)
    return model, lambda **more: fit(
        model, nn.mse, POINTS, sgd, **{"epochs": 5, "batch_size": 2, "progress": False, **options, **more}
    )


def test_fit_records_a_film_and_learns_the_same():
    model, run = trained()
    film = tg.debug.record(model)
    history = run(film=film)
    assert history.film is film
    assert (film.count, history.eager_because, history.stopped) == (10, "a film records the steps", "")
    assert not film.running
    plain, run_plain = trained()
    assert run_plain().film is None
    for recorded, parameter in zip(model.parameters(), plain.parameters(), strict=True):
        assert recorded.data == pytest.approx(parameter.data, rel=1e-12)
    last = film[9]
    assert last.loss == pytest.approx(film.graph(9).data)


def test_a_film_around_fit_records_its_steps():
    model, run = trained()
    with tg.debug.record(model) as film:
        history = run(film=film)
        assert run().eager_because == "a film records the steps"
    assert history.film is film
    assert film.count == 20


def test_the_check_of_the_gradients_stops_before_the_step():
    model, run = trained("linear", lr=5.0)
    with pytest.warns(
        UserWarning, match=r"the gradient exploded.*\n.*tg\.debug\.run\(history\.film\.graph\(\d\)\)"
    ):
        history = run(check="gradients")
    assert history.stopped.startswith("step ")
    step = history.film.blame().step
    assert history.film.count == step + 1
    assert history.film[step].parameters == {name: p.data for name, p in model.named_parameters()}
    model, run = trained("linear", lr=5.0)
    with pytest.warns(UserWarning, match=r"run\(film\.graph"):
        run(film=tg.debug.record(model), check="gradients")


def test_a_healthy_training_passes_the_check():
    _, run = trained()
    assert run(check="gradients", epochs=20).stopped == ""


def test_films_that_do_not_fit():
    _, run = trained()
    with pytest.raises(ValueError, match="The film records another model"):
        run(film=tg.debug.record(nn.Neuron(3, rng=0)))
    with pytest.raises(ValueError, match='check is "gradients" or None'):
        run(check="nan")
