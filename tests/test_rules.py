"""Each rule against mpmath over its whole domain, and on every kind of number."""

import itertools
import operator
from fractions import Fraction
from functools import partial

import mpmath as mp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference import ROWS, Row, ulps

from tinygrad_edu import Value, gradients, rule
from tinygrad_edu.rules import RULES

by_row = pytest.mark.parametrize("row", ROWS, ids=str)
quick = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
UNARY = [row for row in ROWS if row.rule.n_inputs == 1]
REDUCTIONS = {"max", "min", "sum", "dot", "logsumexp"}
UNDERFLOW = 1e-300  # products below it may be 0


def bits(x: float) -> str:
    """A float to the last bit, the sign of zero and nan included."""
    return float(x).hex()


def moderate(row: Row) -> list[tuple[float, ...]]:
    """The points of the grid where nothing overflows, at most 40 of them."""
    inside = [p for p in row.grid if all(1e-9 < abs(x) < 100 for x in p)]
    return inside[:: 1 + len(inside) // 40]


def test_every_rule_of_ours_has_a_row() -> None:
    home = {name: getattr(r.backward, "func", r.backward).__module__ for name, r in RULES.items()}
    assert {name for name in home if home[name].startswith("tinygrad_edu")} == {row.name for row in ROWS}


# --- Accuracy ---------------------------------------------------------------------------------------------


def check_forward(row: Row, point: tuple[float, ...]) -> None:
    with mp.workdps(60):
        exact_inputs = [mp.mpf(x) for x in point]
        got, exact = row.rule.forward(*point), row.f(*exact_inputs)
        error = ulps(got, exact, row.size(*exact_inputs))
        assert error <= row.bound, f"{row}{point}: {got!r} is {error:.3g} ulps from {mp.nstr(exact, 20)}"


def check_slopes(row: Row, point: tuple[float, ...]) -> None:
    slopes = row.rule.backward(1.0, row.rule.forward(*point), *point)
    assert len(slopes) == len(point)
    with mp.workdps(60):
        exact_inputs = [mp.mpf(x) for x in point]
        sizes = row.slope_size(*exact_inputs)
        for i, (got, exact, size) in enumerate(zip(slopes, row.slopes(*exact_inputs), sizes, strict=True)):
            error = ulps(got, exact, size)
            assert error <= row.slope_bound, (
                f"slope {i} of {row}{point}: {got!r} is {error:.3g} ulps from {mp.nstr(exact, 20)}"
            )


@by_row
def test_forward(row: Row) -> None:
    for point in row.grid:
        check_forward(row, point)


@by_row
def test_slopes(row: Row) -> None:
    for point in row.grid:
        check_slopes(row, point)


@by_row
@quick
@given(data=st.data())
def test_forward_and_slopes_at_random(row: Row, data: st.DataObject) -> None:
    point = data.draw(row.strategy)
    check_forward(row, point)
    check_slopes(row, point)


@by_row
def test_second_derivatives(row: Row) -> None:
    """The slopes of the graph of the slopes, where no product on the way to them is out of range."""
    for point in row.second_grid[:: 1 + len(row.second_grid) // 100]:
        if row.rule.forward(*point) and not 1e-200 < abs(row.rule.forward(*point)) < 1e200:
            continue
        inputs = [Value(x) for x in point]
        for i, slope in enumerate(gradients(row.rule(*inputs), inputs, create_graph=True)):
            for j, got in enumerate(gradients(slope, inputs)):
                exact, size = second_derivative(row, point, i, j)
                assert mp.isnan(got) == mp.isnan(exact), (point, i, j, got)
                assert mp.isnan(got) or abs(got - exact) <= 1e-12 * max(abs(exact), size) + UNDERFLOW, (
                    f"second derivative {i}, {j} of {row}{point}: {got!r} instead of {mp.nstr(exact, 20)}"
                )


def second_derivative(row: Row, point: tuple[float, ...], i: int, j: int) -> tuple[mp.mpf, mp.mpf]:
    """The derivative of slope i for input j, by a tiny central difference, and the size of its terms."""
    with mp.workprec(1600):
        x = [mp.mpf(a) for a in point]
        h = (abs(x[j]) or 1) * mp.mpf(2) ** -300
        above, below = ([*x[:j], x[j] + s * h, *x[j + 1 :]] for s in (1, -1))
        return (row.slopes(*above)[i] - row.slopes(*below)[i]) / (2 * h), row.second_size(*x)


@by_row
def test_shares_are_proportional_to_upstream(row: Row) -> None:
    for point in moderate(row):
        out = row.rule.forward(*point)
        slopes = row.rule.backward(1.0, out, *point)
        assert [-4 * s for s in slopes] == pytest.approx(
            list(row.rule.backward(-4.0, out, *point)), rel=1e-15, nan_ok=True
        )


# --- Every kind of number ---------------------------------------------------------------------------------


def assert_alike(got: object, expected: object) -> None:
    """NumPy's own exp, sin ... differ in the last place, and so do sums."""
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)


@by_row
def test_arrays_elementwise(row: Row) -> None:
    if row.name in REDUCTIONS:
        return
    points = moderate(row)
    columns = [np.array(column) for column in zip(*points, strict=True)]
    if row.name == "where":
        columns[0] = columns[0] != 0
    out = row.rule.forward(*columns)
    shares = row.rule.backward(np.full(len(points), 2.0), out, *columns)
    outs = [row.rule.forward(*p) for p in points]
    assert_alike(out, outs)
    expected = [row.rule.backward(2.0, o, *p) for o, p in zip(outs, points, strict=True)]
    for share, column in zip(shares, zip(*expected, strict=True), strict=True):
        assert_alike(np.broadcast_to(share, len(points)), column)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
@pytest.mark.parametrize("name", sorted(REDUCTIONS))
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


@by_row
def test_mpmath_numbers_keep_their_digits(row: Row) -> None:
    with mp.workdps(50):
        for point in moderate(row)[::4]:
            inputs = [mp.mpf(x) * (1 + mp.mpf(2) ** -60) if x != 1 else mp.mpf(1) for x in point]
            if row.name == "pow" and inputs[0] < 0:
                inputs[1] = mp.mpf(point[1])  # a whole number
            out = row.rule.forward(*inputs)
            slopes = row.rule.backward(mp.mpf(1), out, *inputs)
            with mp.workdps(60):
                near = partial(mp.almosteq, rel_eps=mp.mpf(10) ** -40)
                assert near(out, row.f(*inputs)), (point, out)
                for got, exact in zip(slopes, row.slopes(*inputs), strict=True):
                    assert near(mp.mpf(got), exact) or (mp.isnan(got) and mp.isnan(exact)), (point, got, exact)


RATIONAL = {"add", "sub", "mul", "div", "neg", "abs", "pow_n", "relu", "max", "min", "sum", "dot", "where"}
FRACTIONS = [Fraction(-7, 3), Fraction(1, 10), Fraction(5, 2), Fraction(-1, 6), Fraction(22, 7), Fraction(1, 10)]


@pytest.mark.parametrize("row", [row for row in ROWS if row.name in RATIONAL], ids=str)
def test_fractions_stay_exact(row: Row) -> None:
    if row.parameters.get("exponent", 0) % 1:
        return
    for n in [row.rule.n_inputs] if row.rule.n_inputs else [2, 4, 6]:
        for inputs in itertools.islice(itertools.permutations(FRACTIONS, n), 40):
            out = row.rule.forward(*inputs)
            slopes = row.rule.backward(Fraction(1), out, *inputs)
            assert out == row.f(*inputs), inputs
            assert list(slopes) == list(row.slopes(*inputs)), inputs
            assert not any(isinstance(x, float) for x in (out, *slopes)), (inputs, out, slopes)


@by_row
def test_values_equal_floats_to_the_bit(row: Row) -> None:
    for point in row.grid:
        inputs = [Value(x) for x in point]
        y = row.rule(*inputs)
        out = row.rule.forward(*point)
        assert bits(y.data) == bits(out), point
        y.backward()
        for x, slope in zip(inputs, row.rule.backward(1.0, out, *point), strict=True):
            assert bits(x.grad + 0.0) == bits(slope + 0.0), point


OPERATORS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
}


@by_row
def test_operators_and_methods_are_the_forward_of_their_rule(row: Row) -> None:
    """Value.__add__ and others write their forward out: the same bits, on either side of a plain number."""
    for point in row.grid:
        expected = bits(row.rule.forward(*point))
        x, *rest = (Value(a) for a in point)
        if row.name in OPERATORS:
            apply = OPERATORS[row.name]
            results = [apply(x, rest[0]), apply(point[0], rest[0])]
            results += [] if row.name == "pow" else [apply(x, point[1])]
        elif row.name == "pow_n":
            results = [x ** row.parameters["exponent"]]
        elif row.name == "neg":
            results = [-x]
        elif row.name == "abs":
            results = [abs(x)]
        elif hasattr(x, row.name):
            results = [getattr(x, row.name)(**row.parameters)] if row in UNARY else []
        else:
            results = []
        for y in results:
            assert bits(y.data) == expected, point
            assert y.rule.name == row.name


def test_division_is_division() -> None:
    for a, b in itertools.product(range(1, 33), repeat=2):
        assert (Value(a) / Value(b)).data == a / b


# --- Rules of the user ------------------------------------------------------------------------------------


def test_a_rule_of_the_user_works_at_once() -> None:
    def cube_backward(upstream, out, x):  # type: ignore[no-untyped-def]
        return (upstream * 3 * x * x,)

    @rule(backward=cube_backward)
    def cube_for_test(x):  # type: ignore[no-untyped-def]
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


def test_a_rule_with_parameters_may_be_declared_again() -> None:
    """As on the second run of a notebook's cell: the latest declaration counts, bound parameters included."""
    try:
        for factor in (2.0, 3.0):

            def scaled_for_test(x, *, by=1.0, factor=factor):  # type: ignore[no-untyped-def]
                return x * by * factor

            def backward(upstream, out, x, *, by, factor):  # type: ignore[no-untyped-def]
                return (upstream * by * factor,)

            scaled = rule(scaled_for_test, backward=backward)
            assert scaled(1.0) == factor
            assert scaled(1.0, by=10.0) == 10.0 * factor
    finally:
        RULES.pop("scaled_for_test", None)
