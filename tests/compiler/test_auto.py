"""backend="auto": the fastest backend of those that can, and what it says of its choice."""

import random
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim
from tinygrad_edu.compiler.run import auto


def problem(n: int) -> tuple[Any, nn.Module, list[Any]]:
    model, rng = nn.MLP(2, [4, 1], rng=0), np.random.default_rng(0)
    return lambda x, y: (model(x) - y) ** 2, model, [rng.normal(size=(n, 2)), rng.normal(size=n)]


@pytest.mark.parametrize("fastest", ["numpy", "python"])
def test_steps_are_taken_by_the_fastest(fastest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([1.0, 2.0] if fastest == "numpy" else [2.0, 1.0])
    monkeypatch.setattr(auto, "_seconds", lambda call: (call(), next(times))[1])
    monkeypatch.setattr(auto, "find_spec", lambda name: None)
    function, model, batch = problem(5)
    expected = tg.compile(function, model).value_and_grad(*batch)
    step = tg.compile(function, model, backend="auto")
    value, gradient = step.value_and_grad(*batch)
    assert value == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-12)
    assert step.backend == fastest
    assert ("np." in step.source) == (fastest == "numpy")
    lines = str(step.groups).splitlines()
    assert lines[1] == f"backend {fastest}, the fastest for the first batch"
    assert lines[2].startswith(f"numpy: {1 if fastest == 'numpy' else 2},000,000 us")
    assert "jax was not tried: not installed" in lines
    with step.train(optim.SGD(model.parameters(), lr=0.1)) as update:
        losses = [update(*batch) for _ in range(3)]
    assert losses[0] == pytest.approx(value, rel=1e-12)
    assert losses[2] < losses[0]
    assert step.value_and_grad(*batch)[0] < losses[2]
    for parameter in model.parameters():
        parameter.data = 0.0
    assert step.value_and_grad(*batch)[0] == pytest.approx(np.mean(batch[1] ** 2), rel=1e-12)
    assert step.predict(*batch).shape == (5,)


def test_what_cannot_is_no_choice() -> None:
    function, model, batch = problem(200)
    step = tg.compile(function, model, "float32", backend="auto")
    assert step.value_and_grad(*batch)[1].dtype == np.float32
    assert step.backend in ("numpy", "jax")
    assert "python was not tried: the batch is large" in str(step.groups)


def test_it_chooses_what_is_faster_here() -> None:
    """A single example of few numbers: NumPy takes ten times as long as straight lines of Python."""
    w, chosen = tg.Value(0.5), []
    for _ in range(5):  # once is enough: something else may take the processor while one of them is measured
        step = tg.compile(lambda x: w * x + 1, [w], backend="auto")
        step.value_and_grad([2.0])
        chosen.append(step.backend)
    assert "python" in chosen


def test_measuring_draws_nothing() -> None:
    w, rng = Value(0.5), np.random.default_rng(3)
    step = tg.compile(lambda x: w * x * rng.normal() + random.random(), [w], backend="auto")
    random.seed(1)
    means = [step.value_and_grad([1.0, 2.0])[0] for _ in range(2)]
    random.seed(1)
    rng = np.random.default_rng(3)
    rows = [[0.5 * x * rng.normal() + random.random() for x in (1.0, 2.0)] for _ in range(2)]
    np.testing.assert_allclose(means, np.mean(rows, axis=1), rtol=1e-12)
    assert "backend numpy\nothers were not tried: the function draws random numbers" in str(step.groups)
