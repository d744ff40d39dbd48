"""The singular points, row by row: what is returned where mathematics gives no answer, two, or infinity."""

import math
from collections.abc import Callable
from typing import Any

import mpmath as mp
import pytest
from cases import CASES

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.engine.rules import RULES, Rule
from tinygrad_edu.testing import ulps
from tinygrad_edu.testing.check.mathematics import reference_of

inf, nan = math.inf, math.nan
Expression = Callable[..., Value]


def bits(numbers: Any) -> list[str]:
    """Numbers to the last bit, the sign of zero and nan included."""
    return [float(x).hex() for x in numbers]


def value_and_slopes(f: Expression, inputs: tuple[float, ...]) -> tuple[float, list[float]]:
    leaves = [Value(x) for x in inputs]
    y = f(*leaves)
    y.backward()
    return y.data, [leaf.grad for leaf in leaves]


def power(exponent: float) -> Expression:
    return lambda x: x**exponent


half_pi = math.pi / 2
TABLE: list[tuple[str, Expression, tuple[float, ...], float, tuple[float, ...]]] = [
    # overflow and underflow are silent
    ("exp", Value.exp, (1000.0,), inf, (inf,)),
    ("exp", Value.exp, (-1000.0,), 0.0, (0.0,)),
    ("exp", Value.exp, (-inf,), 0.0, (0.0,)),
    ("expm1", Value.expm1, (1000.0,), inf, (inf,)),
    ("expm1", Value.expm1, (-1000.0,), -1.0, (0.0,)),
    ("sinh", Value.sinh, (1000.0,), inf, (inf,)),
    ("sinh", Value.sinh, (-1000.0,), -inf, (inf,)),
    ("cosh", Value.cosh, (-1000.0,), inf, (-inf,)),
    ("square", power(2), (1e200,), inf, (2e200,)),
    ("square", power(2), (-1e200,), inf, (-2e200,)),
    ("cube", power(3), (-1e200,), -inf, (inf,)),
    ("to -1", power(-1), (1e-320,), inf, (-inf,)),
    ("to -1", power(-1), (-1e-320,), -inf, (-inf,)),
    ("pow", RULES["pow"], (1e200, 2.0), inf, (2e200, inf)),
    ("pow", RULES["pow"], (-1e200, 3.0), -inf, (inf, nan)),
    ("mul", lambda x, y: x * y, (1e200, -1e200), -inf, (-1e200, 1e200)),
    ("div", lambda x, y: x / y, (1e200, 1e-200), inf, (1e200, -inf)),
    # x ** 0
    ("to 0", power(0), (0.0,), 1.0, (0.0,)),
    ("to 0", power(0), (-0.0,), 1.0, (0.0,)),
    ("to 0", power(0), (-3.0,), 1.0, (0.0,)),
    ("to 0", power(0), (inf,), 1.0, (0.0,)),
    ("to 0", power(0), (nan,), nan, (nan,)),
    *(("to nan", power(nan), (x,), nan, (nan,)) for x in (1.0, nan)),
    ("to 0.0", power(0.0), (0.0,), 1.0, (0.0,)),
    ("pow", RULES["pow"], (0.0, 0.0), 1.0, (0.0, 0.0)),
    ("pow", RULES["pow"], (-0.0, 0.0), 1.0, (0.0, 0.0)),
    ("pow", RULES["pow"], (2.0, 0.0), 1.0, (0.0, math.log(2.0))),
    ("pow", RULES["pow"], (-2.0, 0.0), 1.0, (0.0, nan)),
    # 0 ** y
    ("to 1", power(1), (0.0,), 0.0, (1.0,)),
    ("to 1", power(1), (-0.0,), -0.0, (1.0,)),
    ("square", power(2), (0.0,), 0.0, (0.0,)),
    ("cube", power(3), (-0.0,), -0.0, (0.0,)),
    ("to 0.5", power(0.5), (0.0,), 0.0, (inf,)),
    ("to 0.5", power(0.5), (-0.0,), 0.0, (inf,)),
    ("to 0.1", power(0.1), (0.0,), 0.0, (inf,)),
    ("to 1.5", power(1.5), (0.0,), 0.0, (0.0,)),
    # where exponent - 1 rounds to -1, the power of -0.0 would be -inf
    *((f"to {e}", power(e), (-0.0,), 0.0, (inf,)) for e in (1e-20, 1e-17, 0.3)),
    *(("pow", RULES["pow"], (-0.0, e), 0.0, (inf, 0.0)) for e in (1e-20, 1e-17, 0.3)),
    ("pow", RULES["pow"], (0.0, 2.0), 0.0, (0.0, 0.0)),
    ("pow", RULES["pow"], (0.0, 1.5), 0.0, (0.0, 0.0)),
    ("pow", RULES["pow"], (0.0, 1.0), 0.0, (1.0, 0.0)),
    *(("pow", RULES["pow"], (0.0, e), 0.0, (inf, 0.0)) for e in (0.5, 0.1)),
    *((f"to {e}", power(e), (-1.0,), 1.0, (-e,)) for e in (2.0**53, 2.0**53 + 2, 2.0**60, 1e300)),
    ("pow", RULES["pow"], (-2.0, 3.0), -8.0, (12.0, nan)),
    # infinite slopes
    ("sqrt", Value.sqrt, (0.0,), 0.0, (inf,)),
    ("sqrt", Value.sqrt, (-0.0,), -0.0, (inf,)),
    ("asin", Value.asin, (1.0,), half_pi, (inf,)),
    ("asin", Value.asin, (-1.0,), -half_pi, (inf,)),
    ("acos", Value.acos, (1.0,), 0.0, (-inf,)),
    ("acos", Value.acos, (-1.0,), math.pi, (-inf,)),
    # kinks
    *(("abs", abs, (x,), 0.0, (0.0,)) for x in (0.0, -0.0)),
    *(("relu", Value.relu, (x,), 0.0, (0.0,)) for x in (0.0, -0.0, -inf)),
    ("relu", Value.relu, (inf,), inf, (1.0,)),
    ("leaky_relu", Value.leaky_relu, (0.0,), 0.0, (0.01,)),
    ("leaky_relu 0.2", lambda x: x.leaky_relu(alpha=0.2), (-0.0,), -0.0, (0.2,)),
    ("elu", Value.elu, (0.0,), 0.0, (1.0,)),
    ("elu 0.3", lambda x: x.elu(alpha=0.3), (-0.0,), -0.0, (0.3,)),
    # ties
    ("max", RULES["max"], (2.0, 2.0), 2.0, (0.5, 0.5)),
    ("max", RULES["max"], (2.0, 2.0, 1.0), 2.0, (0.5, 0.5, 0.0)),
    ("max", RULES["max"], (2.0, 2.0, 2.0), 2.0, (1 / 3, 1 / 3, 1 / 3)),
    ("max", RULES["max"], (0.0, -0.0), 0.0, (0.5, 0.5)),
    ("max", RULES["max"], (inf, inf), inf, (0.5, 0.5)),
    ("max", RULES["max"], (-inf, -inf, 0.0), 0.0, (0.0, 0.0, 1.0)),
    ("min", RULES["min"], (2.0, 2.0), 2.0, (0.5, 0.5)),
    ("min", RULES["min"], (2.0, 3.0, 2.0), 2.0, (0.5, 0.0, 0.5)),
    ("min", RULES["min"], (-1.0, -1.0, -1.0), -1.0, (1 / 3, 1 / 3, 1 / 3)),
    ("max(x, x)", lambda x: RULES["max"](x, x), (5.0,), 5.0, (1.0,)),
    ("where", RULES["where"], (1.0, 2.0, nan), 2.0, (0.0, 1.0, 0.0)),
    ("where", RULES["where"], (0.0, nan, 2.0), 2.0, (0.0, 0.0, 1.0)),
    # large inputs
    ("sigmoid", Value.sigmoid, (1e4,), 1.0, (0.0,)),
    ("sigmoid", Value.sigmoid, (-1e4,), 0.0, (0.0,)),
    ("softplus", Value.softplus, (1e4,), 1e4, (1.0,)),
    ("softplus", Value.softplus, (-1e4,), 0.0, (0.0,)),
    ("tanh", Value.tanh, (1e4,), 1.0, (0.0,)),
    ("erf", Value.erf, (-1e300,), -1.0, (0.0,)),
    ("erfc", Value.erfc, (84198.32244858168,), 0.0, (0.0,)),
    ("erfc", Value.erfc, (1.7e308,), 0.0, (0.0,)),
    ("gelu", Value.gelu, (476750793289.34064,), 476750793289.34064, (1.0,)),
    ("gelu", Value.gelu, (1e300,), 1e300, (1.0,)),
    ("gelu", Value.gelu, (-1e17,), -0.0, (0.0,)),
    ("gelu", Value.gelu, (inf,), inf, (1.0,)),
    ("gelu", Value.gelu, (-inf,), -0.0, (0.0,)),
    ("silu", Value.silu, (1e300,), 1e300, (1.0,)),
    ("silu", Value.silu, (inf,), inf, (1.0,)),
    ("silu", Value.silu, (-inf,), -0.0, (0.0,)),
    ("exp2", Value.exp2, (2000.0,), inf, (inf,)),
    ("exp2", Value.exp2, (-2000.0,), 0.0, (0.0,)),
    ("acosh", Value.acosh, (1.0,), 0.0, (inf,)),
    ("acosh", Value.acosh, (1e200,), math.acosh(1e200), (1e-200,)),
    ("asinh", Value.asinh, (-inf,), -inf, (0.0,)),
    ("reciprocal", Value.reciprocal, (-inf,), -0.0, (0.0,)),
    ("reciprocal", Value.reciprocal, (1e-320,), inf, (-inf,)),
    ("sign", Value.sign, (-2.0,), -1.0, (0.0,)),
    ("sign", Value.sign, (0.0,), 0.0, (0.0,)),
    ("detach", Value.detach, (2.0,), 2.0, (0.0,)),
    ("detach", Value.detach, (nan,), nan, (0.0,)),
    ("mod", lambda x, y: x % y, (7.5, 2.0), 1.5, (1.0, -3.0)),
    ("mod", lambda x, y: x % y, (-1.0, 3.0), 2.0, (1.0, 1.0)),
    ("mod", lambda x, y: x % y, (1.0, -3.0), -2.0, (1.0, 1.0)),
    ("mod, at a jump", lambda x, y: x % y, (6.0, 2.0), 0.0, (1.0, -3.0)),
    ("mod of inf", lambda x, y: x % y, (inf, 2.0), nan, (1.0, nan)),
    ("plus", lambda x: +x, (-0.0,), -0.0, (1.0,)),
    ("logsumexp", RULES["logsumexp"], (1e4, 1e4), 1e4 + math.log(2.0), (0.5, 0.5)),
    ("logsumexp", RULES["logsumexp"], (-1e4, -1e4), -1e4 + math.log(2.0), (0.5, 0.5)),
    ("logsumexp", RULES["logsumexp"], (-1e4, 1e4), 1e4, (0.0, 1.0)),
    ("logsumexp", RULES["logsumexp"], (1e300, -1e300), 1e300, (1.0, 0.0)),
    ("logsumexp", RULES["logsumexp"], (inf, 0.0), inf, (nan, 0.0)),
    ("log of inf", Value.log, (inf,), inf, (0.0,)),
    ("log1p of inf", Value.log1p, (inf,), inf, (0.0,)),
    ("log of exp", lambda x: (x.exp() + 1).log(), (1000.0,), inf, (nan,)),
    ("sin of inf", Value.sin, (inf,), nan, (nan,)),
    ("atan", Value.atan, (inf,), half_pi, (0.0,)),
]


@pytest.mark.parametrize(
    ("f", "inputs", "value", "slopes"), [row[1:] for row in TABLE], ids=[f"{row[0]}{row[2]}" for row in TABLE]
)
def test_table(f: Expression, inputs: Any, value: float, slopes: Any) -> None:
    """Slopes that are a graph have the same values: infinite ones are let through, domains are the user's."""
    got, got_slopes = value_and_slopes(f, inputs)
    assert bits([got]) == bits([value])
    assert bits(got_slopes) == bits(slopes)
    leaves = [Value(x) for x in inputs]
    y = f(*leaves)
    assert bits(s.data + 0.0 for s in tg.gradients(y, leaves, create_graph=True)) == bits(slopes)
    assert bits(s + 0.0 for s in tg.gradients(y, leaves)) == bits(slopes)


ERRORS: list[tuple[type[Exception], str, Expression, float]] = [
    (ValueError, "log", Value.log, 0.0),
    (ValueError, "log", Value.log, -0.0),
    (ValueError, "log", Value.log, -1.0),
    (ValueError, "log2", Value.log2, 0.0),
    (ValueError, "log10", Value.log10, -1e-300),
    (ValueError, "acosh", Value.acosh, 0.999),
    (ValueError, "atanh", Value.atanh, 1.0),
    (ZeroDivisionError, "reciprocal", Value.reciprocal, -0.0),
    (ZeroDivisionError, "mod", lambda x: x % 0, 3.0),
    (ZeroDivisionError, "mod", lambda x: 3 % x, 0.0),
    (ValueError, "log1p", Value.log1p, -1.0),
    (ValueError, "log1p", Value.log1p, -2.5),
    (ValueError, "sqrt", Value.sqrt, -1e-300),
    (ValueError, "asin", Value.asin, 1.5),
    (ValueError, "asin", Value.asin, -1.0000000000000002),
    (ValueError, "acos", Value.acos, -inf),
    (ZeroDivisionError, "div", lambda x: 1 / x, 0.0),
    (ZeroDivisionError, "div", lambda x: Value(0.0) / x, -0.0),
    (ZeroDivisionError, "div", lambda x: x / 0, 3.0),
    (ZeroDivisionError, "pow_n", power(-1), 0.0),
    (ZeroDivisionError, "pow_n", power(-0.5), -0.0),
    (ValueError, "pow_n", power(0.5), -8.0),
    (ValueError, "pow_n", power(-1.5), -8.0),
    (ZeroDivisionError, "pow", lambda x: x ** Value(-1.0), 0.0),
    (ZeroDivisionError, "pow", lambda x: 0**x, -2.0),
    (ValueError, "pow", lambda x: x ** Value(0.5), -8.0),
    (ValueError, "pow", lambda x: (-8) ** x, 1 / 3),
]


@pytest.mark.parametrize(("kind", "operation", "f", "x"), ERRORS)
def test_outside_the_domain(kind: type[Exception], operation: str, f: Expression, x: float) -> None:
    """The error names the operation, the operand and its label."""
    with pytest.raises(kind) as caught:
        f(Value(x, label="income"))
    message = str(caught.value)
    assert message.startswith(f"{operation}(")
    assert repr(x) in message
    assert "label='income'" in message


# Their slope does not depend on the input itself: nan reaches the other factors, if any.
LINEAR = {"add", "sub", "neg", "mul", "sum", "dot", "detach"}


def partners(rule: Rule, n: int, bad: int) -> set[int]:
    """The inputs whose gradient must be nan if input `bad` is."""
    match rule.name:
        case "mul":
            return {1 - bad}
        case "dot":
            return {(bad + n // 2) % n}
        case "div":
            return {1} if bad == 0 else {0, 1}
        case "mod":
            return {1}
        case name:
            return set() if name in LINEAR else set(range(n))


@pytest.mark.parametrize("rule", [rule for rule in CASES if rule.name != "where"], ids=str)
def test_nan_in_nan_out(rule: Rule) -> None:
    for n in [rule.n_inputs] if rule.n_inputs else [2, 4, 6]:
        for bad in range(n):
            for others in (0.25, 0.0, 1.0):
                inputs = [nan if i == bad else others for i in range(n)]
                if rule.name in ("div", "mod") and inputs[1] == 0:
                    continue
                out, slopes = value_and_slopes(rule, tuple(inputs))
                assert math.isnan(out), inputs
                for i in partners(rule, n, bad):
                    assert math.isnan(slopes[i]), (inputs, slopes)


@pytest.mark.parametrize("rule", [rule for rule in CASES if rule.kinks], ids=str)
def test_second_derivative_at_a_kink_is_that_of_the_piece_below(rule: Rule) -> None:
    """As the legend of rules.py says."""
    x = Value(rule.kinks[0])
    (slope,) = tg.gradients(rule(x), [x], create_graph=True)
    below = rule.parameters["alpha"] if rule.name == "elu" else 0.0
    assert tg.gradients(slope, [x]) == [below]


# --- Tails --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_slopes_keep_their_digits_where_two_formulas_meet(name: str) -> None:
    """From 0 to 3 in small steps: 1 - tanh^2 is too inaccurate from 1.3 on."""
    reference = reference_of(RULES[name])
    for k in range(600):
        x = 0.005 * k + 0.001
        _, (slope,) = value_and_slopes(RULES[name], (x,))
        assert ulps(slope, reference.exact_slopes((x,))[0]) <= 4, x


@pytest.mark.parametrize(
    ("name", "x"),
    [
        *(("atan", x) for x in (1.34e154, -3e157, 9e160, 1.0, math.nextafter(1, 2))),
        *(("asinh", x) for x in (1.34e154, -3e157, 1e300)),
        *(("silu", x) for x in (-708.5, -715.0, -740.0, -1e4)),
        *(("exp2", x) for x in (-1074.0, 1023.9, 1e-20)),
        *(("log10", x) for x in (5e-324, 3e-309)),
    ],
)
def test_value_and_slope_keep_their_digits_at_the_ends_of_the_range(name: str, x: float) -> None:
    reference = reference_of(RULES[name])
    value, (slope,) = value_and_slopes(RULES[name], (x,))
    assert ulps(value, reference.value((x,))) <= 4
    assert ulps(slope, reference.exact_slopes((x,))[0]) <= 4


@pytest.mark.parametrize(
    ("f", "second", "x"),
    [
        *((Value.asin, lambda x: x / (1 - x * x) ** 1.5, x) for x in (1e-17, -1e-300, 1e-10, 0.49)),
        *((Value.acos, lambda x: -x / (1 - x * x) ** 1.5, x) for x in (1e-17, 1e-10)),
        *((Value.atanh, lambda x: 2 * x / (1 - x * x) ** 2, x) for x in (1e-17, 1e-10)),
        *((Value.atan, lambda x: -2 * x / (1 + x * x) ** 2, x) for x in (1e77, -3e100, 1e-17, 1.0)),
        *((Value.asinh, lambda x: -x / mp.sqrt(1 + x * x) ** 3, x) for x in (1e77, -3e100, 1e-17)),
        (Value.silu, lambda x: 0.5, 0.0),
    ],
)
def test_second_derivatives_keep_their_digits(f: Expression, second: Any, x: float) -> None:
    leaf = Value(x)
    got = tg.gradients(tg.gradients(f(leaf), leaf, create_graph=True), leaf)
    with mp.workdps(700):
        assert got == pytest.approx(float(second(mp.mpf(x))), rel=1e-14, abs=0.0)


def test_softmax_slopes_far_below_the_maximum_are_as_exact_as_stated() -> None:
    """(max - x) / 2 units in the last place more: x - max is rounded before its exponential."""
    for x in (-700.3, -300.7, -30.1):
        _, (low, _) = value_and_slopes(RULES["logsumexp"], (x, 1.7))
        exact = mp.exp(mp.mpf(x) - mp.mpf(1.7)) / (1 + mp.exp(mp.mpf(x) - mp.mpf(1.7)))
        assert ulps(low, exact) <= 4 + (1.7 - x) / 2


@pytest.mark.parametrize("shift", [0.0, 1e4, -1e4, 1e16, -1e16])
def test_softmax_of_large_numbers(shift: float) -> None:
    inputs = [Value(shift + x) for x in (0.0, 2.0, -4.0)]
    exponentials = [math.exp(x) for x in (0.0, 2.0, -4.0)]
    expected = [e / sum(exponentials) for e in exponentials]
    probabilities, logs = tg.softmax(inputs), tg.log_softmax(inputs)
    assert [p.data for p in probabilities] == pytest.approx(expected, rel=1e-11)
    assert [a.data for a in logs] == pytest.approx([math.log(p) for p in expected], rel=1e-11)
    (-logs[1]).backward()  # cross-entropy, whose slopes are softmax minus one-hot
    assert [x.grad for x in inputs] == pytest.approx([p - (i == 1) for i, p in enumerate(expected)], rel=1e-11)
