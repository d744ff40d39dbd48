"""fit: batches, order, progress, early stopping, interruption, and what it says when the loss is no number."""

import gc
import itertools
import sys
import warnings
from typing import Any

import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn, optim
from tinygrad_edu.train import History, evaluate, fit, is_right


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
    fit(model, spied, DATA, optim.SGD(model.parameters(), lr=0.01), epochs=3, batch_size=3, progress=False)
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
    history = fit(model, impatient, DATA, optim.SGD(model.parameters(), lr=0.1), epochs=9, progress=False)
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
        ({"epochs": 0}, "epochs, batch_size and patience are 1 or more"),
        ({"batch_size": 0}, "are 1 or more, got 10, 0 and None"),
        ({"patience": 0}, "are 1 or more"),
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
            fit(model, counted, (X, y), optimizer, epochs=100, batch_size=5, progress=False)  # 200 steps
    finally:
        gc.enable()
    assert len(living) == 20
    assert max(living[1:]) - min(living[1:]) <= len(tg.topological_order(model(X[0])))
