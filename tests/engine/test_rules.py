"""Each rule against mathematics over its whole domain, and on every kind of number."""

import functools
import itertools
import math
import operator
from fractions import Fraction

import numpy as np
import pytest
from cases import CASES, OURS

from tinygrad_edu import Value, rule
from tinygrad_edu.engine.rules import RULES, Interval, Rule
from tinygrad_edu.testing import check_rule
from tinygrad_edu.testing.mathematics import REFERENCES, reference_of
from tinygrad_edu.testing.points import grid_of

by_case = pytest.mark.parametrize("case", CASES, ids=str)


def bits(x: float) -> str:
    """A float to the last bit, the sign of zero and nan included."""
    return float(x).hex()


def grid(case: Rule) -> list[tuple[float, ...]]:
    reference = reference_of(case)
    return list(reference.grid or grid_of(case, reference.special))


def test_every_rule_of_ours_has_its_mathematics() -> None:
    assert {case.name for case in OURS} == set(REFERENCES)


RATIONAL = {"add", "sub", "mul", "div", "neg", "abs", "pow_n", "relu", "max", "min", "sum", "dot", "where"}
RATIONAL |= {"reciprocal", "mod", "sign", "detach"}


@by_case
def test_the_rule_is_right(case: Rule) -> None:
    report = check_rule(case)
    assert report.inputs >= 150
    assert report.worst["value"][0] <= 4
    assert report.worst["slopes"][0] <= 4
    assert report.worst["second"][0] <= 1e-13  # nearer than check_rule asks
    exact = case.name in RATIONAL and case.parameters.get("exponent", 0) % 1 == 0
    assert ("Fractions" in report.numbers) == exact


# --- Every kind of number ---------------------------------------------------------------------------------


def assert_alike(got: object, expected: object) -> None:
    """NumPy's own exp, sin ... differ in the last place, and so do sums."""
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("name", ["max", "min", "sum", "dot", "logsumexp"])
def test_arrays_reduce_the_last_axis(name: str, n: int) -> None:
    r, rng = RULES[name], np.random.default_rng(n)
    arrays = [np.round(rng.normal(size=(2, 3, n)), 1) for _ in range(2 if name == "dot" else 1)]
    upstream = rng.normal(size=(2, 3))
    out = r.forward(*arrays)
    shares = r.backward(upstream, out, *arrays)
    assert out.shape == (2, 3)
    assert len(shares) == len(arrays)
    for index in np.ndindex(2, 3):
        inputs = [float(x) for a in arrays for x in a[index]]
        result = r.forward(*inputs)
        assert_alike(out[index], result)
        expected = r.backward(float(upstream[index]), result, *inputs)
        assert_alike(np.concatenate([share[index] for share in shares]), expected)


@by_case
def test_values_equal_floats_to_the_bit(case: Rule) -> None:
    for point in grid(case):
        inputs = [Value(x) for x in point]
        y = case(*inputs)
        out = case.forward(*point)
        assert bits(y.data) == bits(out), point
        y.backward()
        for x, slope in zip(inputs, case.backward(1.0, out, *point), strict=True):
            assert bits(x.grad + 0.0) == bits(slope + 0.0), point


OPERATORS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
}


@by_case
def test_operators_and_methods_are_the_forward_of_their_rule(case: Rule) -> None:
    """Value.__add__ and others write their forward out: the same bits, on either side of a plain number."""
    for point in grid(case):
        expected = bits(case.forward(*point))
        x, *rest = (Value(a) for a in point)
        if case.name in OPERATORS:
            apply = OPERATORS[case.name]
            results = [apply(x, rest[0]), apply(point[0], rest[0])]
            results += [] if case.name == "pow" else [apply(x, point[1])]
        elif case.name == "pow_n":
            results = [x ** case.parameters["exponent"]]
        elif case.name == "neg":
            results = [-x]
        elif case.name == "abs":
            results = [abs(x)]
        elif hasattr(x, case.name):
            results = [getattr(x, case.name)(**case.parameters)] if case.n_inputs == 1 else []
        else:
            results = []
        for y in results:
            assert bits(y.data) == expected, point
            assert y.rule.name == case.name


def test_division_is_division() -> None:
    for a, b in itertools.product(range(1, 33), repeat=2):
        assert (Value(a) / Value(b)).data == a / b


# --- Rules of the user ------------------------------------------------------------------------------------


def test_a_rule_of_the_user_works_at_once() -> None:
    def cube_backward(upstream, out, x):
        return (upstream * 3 * x * x,)

    @rule(backward=cube_backward)
    def cube_for_test(x):
        return x * x * x

    try:
        x = Value(2.0)
        y = cube_for_test(x)
        y.backward()
        assert (y.data, x.grad, y.rule.name) == (8.0, 12.0, "cube_for_test")
        assert cube_for_test(Fraction(1, 2)) == Fraction(1, 8)
        assert cube_for_test(np.array([1.0, 2.0])).tolist() == [1.0, 8.0]
    finally:
        del RULES["cube_for_test"]


def test_a_decorated_forward_keeps_its_inputs_and_parameters() -> None:
    @functools.cache
    def scaled_for_test(x, *, by=2.0):
        return x * by

    def backward(upstream, out, x, *, by):
        return (upstream * by,)

    try:
        scaled = rule(scaled_for_test, backward=backward)
        assert (scaled.n_inputs, scaled.parameters) == (1, {"by": 2.0})
        assert (scaled(3.0), scaled(3.0, by=5.0)) == (6.0, 15.0)
    finally:
        RULES.pop("scaled_for_test", None)


def test_a_rule_with_parameters_may_be_declared_again() -> None:
    """As on the second run of a notebook's cell: the latest declaration counts, bound parameters included."""
    try:
        for factor in (2.0, 3.0):

            def scaled_for_test(x, *, by=1.0, factor=factor):
                return x * by * factor

            def backward(upstream, out, x, *, by, factor):
                return (upstream * by * factor,)

            scaled = rule(scaled_for_test, backward=backward)
            assert scaled(1.0) == factor
            assert scaled(1.0, by=10.0) == 10.0 * factor
    finally:
        RULES.pop("scaled_for_test", None)


def test_an_array_may_reach_outside_the_domain() -> None:
    np.testing.assert_array_equal(RULES["log2"](np.array([-1.0, 0.0, 8.0])), [math.nan, -math.inf, 3.0])


# --- What a rule says about itself --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (Interval(), "x"),
        (Interval(0), "0 <= x"),
        (Interval(0, open=True), "0 < x"),
        (Interval(high=2.5), "x <= 2.5"),
        (Interval(-1, 1), "-1 <= x <= 1"),
        (Interval(-1, 1, open=True), "-1 < x < 1"),
    ],
)
def test_an_interval_as_text(interval: Interval, text: str) -> None:
    assert str(interval) == text


TAKES = (
    "Takes numbers, arrays or Values. A Value among the inputs gives a Value.\n"
    "Raises TypeError for anything else, ValueError or ZeroDivisionError outside the domain."
)


def test_a_rule_shows_what_was_declared() -> None:
    relu, log1p = RULES["relu"], Rule("log1p", "", math.log1p, lambda *_: (), 1, (Interval(-1, open=True),))
    assert repr(relu) == (
        "<relu(x) = x for x > 0, else 0; slope 1 for x > 0, else 0; domain: all numbers; kink at x = 0>"
    )
    again = Rule(*relu._declared)
    assert again.__doc__ == (
        "relu(x) = x for x > 0, else 0\n\nSlope:   1 for x > 0, else 0\nDomain:  all numbers\nKinks:   x = 0\n\n"
        + TAKES
    )
    assert repr(log1p) == "<log1p(x) = ...; slope ...; domain: -1 < x; no kink>"
    assert log1p.__doc__ == f"log1p(x) = ...\n\nSlope:   see backward\nDomain:  -1 < x\nKinks:   none\n\n{TAKES}"
    assert (log1p.formula, log1p.ties) == ("", False)


@pytest.mark.parametrize(("exponent", "symbol"), [(3, "**3"), (0.5, "**0.5"), (Fraction(1, 2), "**(1/2)")])
def test_a_fraction_as_exponent_stands_in_parentheses(exponent: object, symbol: str) -> None:
    assert Rule(*RULES["pow_n"]._declared, parameters={"exponent": exponent}).symbol == symbol


def test_an_error_shows_every_operand() -> None:
    with pytest.raises(ZeroDivisionError, match=r"^mod\(3\.0, 0\.0\): division by zero$"):
        RULES["mod"](3.0, 0.0)


@pytest.mark.parametrize("exponent", [1e-20, 1e-17, 0.3])
def test_the_slope_of_a_small_power_at_negative_zero_is_inf(exponent: float) -> None:
    """Where exponent - 1 rounds to -1, the power of -0.0 would be -inf."""
    x = Value(-0.0)
    (x**exponent).backward()
    assert x.grad == float("inf")
