"""Each rule against mathematics over its whole domain, and on every kind of number."""

import functools
import math
import operator
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from cases import CASES, FEWER, OURS
from hypothesis import settings

import tinygrad_edu as tg
from tinygrad_edu import Value, rule
from tinygrad_edu.engine.rules import RULES, Interval, Rule
from tinygrad_edu.testing import check_rule
from tinygrad_edu.testing.check.mathematics import REFERENCES, reference_of
from tinygrad_edu.testing.check.points import grid_of

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


@pytest.fixture
def fewer() -> Iterator[None]:
    settings.register_profile("all", settings.default)
    settings.register_profile("fewer", FEWER)
    settings.load_profile("fewer")
    yield
    settings.load_profile("all")


SLOW = [case for case in CASES if case not in OURS and not {0.5, -1} & {*case.parameters.values()}]


@pytest.mark.usefixtures("fewer")
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in SLOW else ()) for case in CASES], ids=str
)
def test_the_rule_is_right(case: Rule) -> None:
    report = check_rule(case)
    assert report.inputs >= 100
    assert report.worst["value"][0] <= 4
    assert report.worst["slopes"][0] <= 4
    assert report.worst["second"][0] <= 1e-13  # nearer than check_rule asks
    exact = case.name in RATIONAL and case.parameters.get("exponent", 0) % 1 == 0
    assert "Fractions" in report.numbers or not exact


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("name", ["max", "min", "sum", "dot", "logsumexp"])
def test_arrays_reduce_the_last_axis(name: str, n: int) -> None:
    r, rng = RULES[name], np.random.default_rng(n)
    arrays = [np.round(rng.normal(size=(2, 3, n)), 1) for _ in range(2 if name == "dot" else 1)]
    upstream = rng.normal(size=(2, 3))
    out = r.forward(*arrays)
    shares = r.backward(upstream, out, *arrays)
    assert (out.shape, len(shares)) == ((2, 3), len(arrays))
    assert r.forward(*[a[0, 0] for a in arrays]) == pytest.approx(out[0, 0], rel=1e-12)  # of one axis
    for index in np.ndindex(2, 3):
        inputs = [float(x) for a in arrays for x in a[index]]
        result = r.forward(*inputs)
        expected = [result, *r.backward(float(upstream[index]), result, *inputs)]
        actual = np.concatenate([[out[index]], *(share[index] for share in shares)])
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)  # NumPy's exp differs, sums do


OPERATORS = {name: getattr(operator, name) for name in ("add", "sub", "mul", "pow", "neg", "abs")}
OPERATORS["div"] = operator.truediv


@by_case
def test_values_operators_and_methods_equal_floats_to_the_bit(case: Rule) -> None:
    """Value.__add__ and others write their forward out: the same bits, on either side of a plain number."""
    for point in grid(case):
        values, out = list(map(Value, point)), case.forward(*point)
        y = case(*values)
        y.backward()
        for x, slope in zip(values, case.backward(1.0, out, *point), strict=True):
            assert bits(x.grad + 0.0) == bits(slope + 0.0), point
        results = [y]
        if case.name in OPERATORS:
            sides = [values, (point[0], *values[1:]), (values[0], *point[1:])]
            apply = OPERATORS[case.name]
            results += [apply(*operands) for operands in (sides[:2] if case.name == "pow" else sides)]
        elif case.name == "pow_n":
            results += [values[0] ** case.parameters["exponent"]]
        elif case.n_inputs == 1 and hasattr(values[0], case.name):
            results += [getattr(values[0], case.name)(**case.parameters)]
        for y in (y for y in results if isinstance(y, Value)):
            assert bits(y.data) == bits(out), point
            assert y.rule.name == case.name


@pytest.mark.parametrize("decorated", [functools.cache, lambda forward: forward])
def test_a_rule_with_parameters_may_be_declared_again(decorated: Any) -> None:
    """As on the second run of a notebook's cell: the latest declaration counts, bound parameters included."""
    for factor in (2.0, 3.0):

        @decorated
        def scaled(x, *, by=1.0, factor=factor):
            return x * by * factor

        scaled_rule = rule(scaled, backward=lambda upstream, out, x, *, by, factor: (upstream * by * factor,))
        assert (scaled_rule.n_inputs, scaled_rule.parameters) == (1, {"by": 1.0, "factor": factor})
        assert (scaled_rule(1.0), scaled_rule(1.0, by=10.0)) == (factor, 10.0 * factor)


def test_arrays_reach_outside_the_domain_and_an_error_shows_every_operand() -> None:
    np.testing.assert_array_equal(RULES["log2"](np.array([-1.0, 0.0, 8.0])), [math.nan, -math.inf, 3.0])
    np.testing.assert_array_equal(tg.elementary.equal(np.array([1.0, 2.0]), 1.0), [1.0, 0.0])
    with pytest.raises(ZeroDivisionError, match=r"^mod\(3\.0, 0\.0\): division by zero$"):
        RULES["mod"](3.0, 0.0)


@pytest.mark.parametrize(
    ("interval", "text", "typical"),
    [
        (Interval(), "x", 0.5),
        (Interval(0), "0 <= x", 0.5),
        (Interval(1, open=True), "1 < x", 2.0),
        (Interval(high=2.5), "x <= 2.5", 0.5),
        (Interval(high=-3.0), "x <= -3", -4.0),
        (Interval(-1, 1), "-1 <= x <= 1", 0.5),
        (Interval(2, 8, open=True), "2 < x < 8", 5.0),
    ],
)
def test_an_interval_as_text_and_a_typical_number(interval: Interval, text: str, typical: float) -> None:
    assert (str(interval), interval.typical(0.5)) == (text, typical)


@pytest.mark.parametrize(("exponent", "symbol"), [(3, "**3"), (0.5, "**0.5"), (Fraction(1, 2), "**(1/2)")])
def test_a_fraction_as_exponent_stands_in_parentheses(exponent: object, symbol: str) -> None:
    assert RULES["pow_n"].replace(parameters={"exponent": exponent}).symbol == symbol


@pytest.mark.parametrize("rule", RULES.values(), ids=str)
def test_the_example_of_every_rule_is_inside_of_its_domain(rule: Rule) -> None:
    assert all(x in interval for x, interval in zip(rule.example, rule.domain, strict=False))
    assert math.isfinite(rule(*rule.example))
