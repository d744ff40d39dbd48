"""What each pass makes of a program can be read, and loops are looked for in a limited time."""

from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.compiler.find import loops

W, U = Value(0.5, label="w"), Value(-0.3, label="u")
X = np.random.default_rng(0).normal(size=(2, 40))


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
    found = step.value_and_grad(X)
    np.testing.assert_allclose(np.hstack(found), np.hstack(expected), rtol=1e-9)
    assert 1 <= step.source.count("for t in") <= 2  # forward and backward


def test_what_each_pass_made_can_be_read() -> None:
    u, v, w = (Value(x, label=name) for name, x in [("u", 0.5), ("v", -0.3), ("w", 2.0)])

    def loss(xs: Any) -> Value:
        h: Any = 0.0
        for x in xs:
            h = tg.tanh(tg.dot([v, w], x) + u * h)
        return h * h

    step = tg.compile(loss, [u, v, w])
    with pytest.raises(RuntimeError, match="Nothing is compiled yet"):
        _ = step.passes
    step.value_and_grad(X.reshape(2, 20, 2))
    found = step.passes
    assert list(found) == ["groups", "statements", "fission", "gradient", "source"]
    assert found["groups"] == str(step.groups)
    assert "for t in range(20):\n    sum_1[t] = xs[:, t] @ v + u * tanh_1[t]\n" in found["statements"]
    assert "vxs = xs @ v\nfor t in range(20):\n    sum_1[t] = u * tanh_1[t] + vxs[:, t]\n" in found["fission"]
    assert found["gradient"].startswith(found["fission"] + "\ndtanh_1[20] = tanh_1[20] * (2 / B)\n")
    assert "for t in reversed(range(20)):\n    dsum_1[t] = dtanh_1[t + 1] * slope_1[t]\n" in found["gradient"]
    assert found["source"] == step.source
    step.predict(X.reshape(2, 20, 2))
    assert "gradient" not in step.passes


def test_an_error_of_the_function_itself_is_no_pass_s() -> None:
    step = tg.compile(lambda x: [W * x, U], [W, U])
    with pytest.raises(TypeError, match="a gradient needs a single number"):
        step.value_and_grad([1.0])
