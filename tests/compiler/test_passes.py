"""A pass that raises an error is left out, once, with a warning that names it."""

from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.compiler import loops, lower, pipeline
from tinygrad_edu.compiler.backends import straight

W, U = Value(0.5, label="w"), Value(-0.3, label="u")
X = np.random.default_rng(0).normal(size=(2, 40))


def loss(xs: Any) -> Value:
    h: Any = 0.0
    for x in xs:
        h = tg.tanh(W * x + U * h)
    return h * h + tg.sum([tg.sum(xs[: t + 1]) * W for t in range(12)])


def broken(*args: Any, **options: Any) -> Any:
    raise KeyError("a fault")


FAULTS = {
    "loops": (loops.Roller, "roll"),
    "weight decay": (pipeline, "join_squares"),
    "ragged rows": (lower, "filled"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_pass_that_fails_is_named_and_left_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tg.compile(loss, [W, U]).value_and_grad(X)
    monkeypatch.setattr(*FAULTS[name], broken)
    step = tg.compile(loss, [W, U])
    with pytest.warns(UserWarning, match=f"The pass '{name}' .*KeyError: 'a fault'.*report") as told:
        found = step.value_and_grad(X)
    assert len(told) == 1
    np.testing.assert_allclose(np.hstack(found), np.hstack(expected), rtol=1e-12)
    step.value_and_grad(X)


def test_the_loops_of_the_python_backend_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tg.compile(loss, [W, U]).value_and_grad(X)
    original = straight.compile_straight
    monkeypatch.setattr(
        "tinygrad_edu.compiler.backends.pointwise.compile_straight",
        lambda trace, gradient, loops: broken() if loops else original(trace, gradient, loops),
    )
    step = tg.compile(loss, [W, U], backend="python")
    with pytest.warns(UserWarning, match="The pass 'loops' .*a fault"):
        found = step.value_and_grad(X.tolist())
    np.testing.assert_allclose(np.hstack(found), np.hstack(expected), rtol=1e-9)


def test_loops_are_looked_for_in_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found until then stays a loop; the rest, a hundred additions to one gradient, is written out."""

    def several(xs: Any) -> Value:
        h, g = Value(0.0), Value(0.0)
        for i in range(16):
            h = tg.tanh(W * xs[i] + U * h)
            for j in range(i + 1):
                g = tg.tanh(g * W + h * xs[j])
        return g * h

    expected = tg.compile(several, [W, U]).value_and_grad(X)
    monkeypatch.setattr(loops, "SECONDS", 0.0)
    step = tg.compile(several, [W, U])
    with pytest.warns(UserWarning, match="The pass 'loops' .* has not come to an end"):
        found = step.value_and_grad(X)
    np.testing.assert_allclose(np.hstack(found), np.hstack(expected), rtol=1e-9)
    assert 1 <= step.source.count("for t in") <= 2  # forward and backward


def test_an_error_of_the_function_itself_is_no_pass_s() -> None:
    step = tg.compile(lambda x: [W * x, U], [W, U])
    with pytest.raises(TypeError, match="a gradient needs a single number"):
        step.value_and_grad([1.0])
