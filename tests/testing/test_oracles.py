"""The oracles themselves: to many digits, and that each can be wrong. test_programs.py compares them all."""

import math
from fractions import Fraction
from typing import Any

import mpmath as mp
import pytest
from some_rules import rule_of

import tinygrad_edu as tg
from tinygrad_edu import RULES, Value
from tinygrad_edu.testing import assert_near, complex_step, decisions, dual, mathematical, path_sum


@pytest.mark.parametrize("name", ["tanh", "erf", "gelu", "softplus", "log", "asin", "sigmoid", "silu"])
def test_mathematics_keeps_its_digits(name: str) -> None:
    """By method and by function, to far more digits than a float has."""
    reference: Any = getattr(mp, name, None)
    for f in (lambda x: getattr(x, name)(), RULES[name]):
        slopes = [oracle(f, 0.3)[0] for oracle in (mathematical, complex_step)]
        with mp.workdps(40):
            assert mp.almosteq(*slopes, mp.mpf(10) ** -30)
            if reference:
                assert mp.almosteq(slopes[0], mp.diff(reference, mp.mpf(0.3)), mp.mpf(10) ** -30)


def test_forward_mode_reads_our_rules_and_mathematics_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dual(lambda x: tg.sin(x) * x, 0.5) == [math.cos(0.5) * 0.5 + math.sin(0.5)]
    monkeypatch.setattr(RULES["sin"], "backward", lambda upstream, out, x: (upstream * 7,))
    assert dual(tg.sin, 0.5) == [7.0]

    def broken(*inputs: Any) -> Any:
        raise AssertionError("our own function was asked")

    monkeypatch.setattr(RULES["sin"], "forward", broken)
    monkeypatch.setattr(RULES["sin"], "backward", broken)
    assert float(mathematical(tg.sin, 0.5)[0]) == pytest.approx(math.cos(0.5), rel=1e-15)
    assert float(complex_step(tg.sin, 0.5)[0]) == pytest.approx(math.cos(0.5), rel=1e-15)
    with pytest.raises(AssertionError, match="our own function"):
        dual(tg.sin, 0.5)


def test_a_complex_step_takes_equal_inputs_of_logsumexp_for_two() -> None:
    def f(x: Any, y: Any) -> Any:
        return tg.logsumexp(x, y) + tg.logsumexp(y, x, y)

    for oracle in (mathematical, complex_step):
        assert [float(slope) for slope in oracle(f, 0.0, 0.0)] == pytest.approx([1 / 2 + 1 / 3, 1 / 2 + 2 / 3])


def test_constants_comparisons_and_names() -> None:
    assert dual(lambda x: 3.0, 1.0) == [0]
    assert mathematical(lambda x: 3, 1.0) == [0]
    assert complex_step(lambda x: 3, 1.0) == [0]
    assert path_sum(Value(3.0), Value(1.0)) == 0
    x = Value(Fraction(1, 3))
    inexact = path_sum(x * tg.tanh(x) + rule_of("x * x", "2 * u * x")(x), x)  # of a rule without a reference
    assert float(inexact) == pytest.approx(math.tanh(1 / 3) + 1 / 3 / math.cosh(1 / 3) ** 2 + 2 / 3, rel=1e-15)

    def f(x: Any, y: Any) -> Any:
        return x * 2 if x < y and y >= 1 and not x > 1 and x <= y else x * y

    assert dual(f, 0.5, 1.5) == [2.0, 0.0]
    assert dual(f, 2.0, 3.0) == [3.0, 2.0]
    assert list(map(float, mathematical(f, 0.5, 1.5))) == [2.0, 0.0]
    with pytest.raises(AttributeError, match="Dual has no attribute 'sinn'"):
        dual(lambda x: x.sinn(), 1.0)


@pytest.mark.parametrize("f", [tg.relu, abs, lambda x: tg.max(x, 1.0), lambda x: x if x > 0 else -x])
def test_a_complex_step_refuses_kinks(f: Any) -> None:
    with pytest.raises(TypeError):
        complex_step(f, 0.5)


@pytest.mark.parametrize(
    ("got", "exact", "size", "near"),
    [
        *((1.0, 1.0 + 1e-12, 1.0, True), (1.0, 1.0 + 3e-12, 1.0, False), (1.0, 1.0 + 1e-9, 1000.0, True)),
        *((0.0, 1e-12, 0.0, True), (0.0, 2e-12, 0.0, False), (math.inf, math.inf, math.inf, True)),
        *((math.nan, 1.0, 1.0, False), (1.0, math.nan, math.inf, False)),
    ],
)
def test_near_is_relative_to_the_absolute_adjoint(got: float, exact: float, size: float, near: bool) -> None:
    if near:
        assert_near(got, exact, size)
    else:
        with pytest.raises(AssertionError, match="allowed are"):
            assert_near(got, exact, size)


def test_decisions_tell_the_side_of_every_kink() -> None:
    def took(x: float) -> list[Any]:
        a = Value(x)
        return decisions(tg.where(a > 1, tg.relu(a) + abs(a - 2), tg.max(a, 2.0, 2.0)) * a)

    assert took(0.5) == took(0.7)
    assert len({repr(took(x)) for x in (-1.0, 0.0, 0.5, 1.5, 2.0, 3.0)}) >= 4
    assert [decisions(abs(Value(x))) for x in (-1.0, 0.0, 1.0)] == [[[-1]], [[0]], [[1]]]
    assert [decisions(tg.where(Value(x), 0.0, 2.0)) for x in (0.0, 3.0)] == [[False], [True]]
