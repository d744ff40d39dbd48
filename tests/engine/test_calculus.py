"""Derivatives of functions: closed forms, shapes, nesting, exact numbers, and the errors."""

import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from cases import refused
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, grad, gradients, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from tinygrad_edu.testing import SMOOTH, Program, absolute_adjoint, assert_near, programs

steady = settings(deadline=None)
THIRD, SEVENTH = Fraction(1, 3), Fraction(1, 7)
LOG_2 = math.log(2)


def cube(x: Any) -> Any:
    return x**3


def forward(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: jvp(f, (x,), (1,))[1]


def pulled(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: vjp(f, x)[1](1)[0]


def assert_same(result: Any, expected: Any) -> None:
    """Equal up to rounding, Fractions exactly; arrays where there are arrays, of the same type of number."""
    assert type(result) is type(expected)
    if isinstance(expected, np.ndarray):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    elif isinstance(expected, list | tuple | dict):
        assert len(result) == len(expected)
        for key in expected if isinstance(expected, dict) else range(len(expected)):
            assert_same(result[key], expected[key])
    elif isinstance(expected, float):
        assert result == pytest.approx(expected, rel=1e-14, abs=1e-15)
    else:
        assert result == expected


# --- First and second derivatives -----------------------------------------------------------------------------
SLOPES: list[tuple[Callable[[Any], Any], Any, Any]] = [  # f, x, f'(x)
    (lambda x: 7, 2.0, 0.0),
    (lambda x: x, 2.0, 1.0),
    (lambda x: x * x, 3.0, 6.0),
    (lambda x: x**-2, 2.0, -0.25),
    (lambda x: 1 / x, 4.0, -0.0625),
    (lambda x: 2**x, 3.0, 8 * LOG_2),
    (lambda x: x**x, 2.0, 4 * (LOG_2 + 1)),
    (lambda x: tg.exp(-x * x / 2), 1.0, -math.exp(-0.5)),
    (lambda x: tg.log(x) / x, 1.0, 1.0),
    (lambda x: tg.sin(x) ** 2 + tg.cos(x) ** 2, 0.7, 0.0),
    (lambda x: tg.log(tg.exp(x) + 1), 0.0, 0.5),
    (lambda x: tg.atan(x) + tg.atan(1 / x), 3.0, 0.0),
    (lambda x: tg.softmax([x, 0.0])[0], 0.0, 0.25),
    (grad(grad(tg.tanh)), 0.0, -2.0),  # two formulas for the slope meet at 0, one of them by |x|
    (grad(grad(grad(grad(tg.tanh)))), 0.0, 16.0),
    (grad(grad(tg.sigmoid)), 0.0, -0.125),
    (cube, THIRD, THIRD),  # Fractions stay exact
    (grad(cube), SEVENTH, 6 * SEVENTH),
    (lambda x: x / (1 + x * x), THIRD, Fraction(18, 25)),
    (lambda x: tg.max(x, 1 * x, 2 * x / 2), THIRD, Fraction(1)),
    (lambda x: tg.where(Fraction(1), x, tg.max(x, x)), THIRD, Fraction(1)),  # not the branch that was not taken
    (lambda x: sum(grad(lambda a, b: a**3, (0, 1))(x, x)), SEVENTH, 6 * SEVENTH),  # b is not used
]


@pytest.mark.parametrize(("f", "x", "slope"), SLOPES)
def test_slopes_by_every_transform(f: Callable[[Any], Any], x: Any, slope: Any) -> None:
    value = getattr(f(Value(x)), "data", f(x))
    assert value_and_grad(f)(x)[0] == value
    assert_same(value_and_grad(f)(x)[1], slope)
    for derivative in (grad, jacobian, forward, pulled):
        assert_same(derivative(f)(x), slope)
    assert jvp(f, (x,), (1.0,))[0] == vjp(f, x)[0] == value


def weighted_squares(*args: Any) -> Any:
    """The sum of (place + 1) * x^2 over all numbers in args."""

    def flat(part: Any) -> list[Any]:
        part = part.tolist() if isinstance(part, np.ndarray) else part
        part = [part[key] for key in sorted(part)] if isinstance(part, dict) else part
        return [x for p in part for x in flat(p)] if isinstance(part, list | tuple) else [part]

    return sum((place + 1) * x * x for place, x in enumerate(flat(args)))


SHAPES: list[tuple[tuple[Any, ...], Any]] = [  # arguments, and the gradient of weighted_squares
    ((3,), 6.0),
    ((3.0, 4.0), (6.0, 16.0)),
    (([3.0, 4.0],), [6.0, 16.0]),
    (((3.0, 4.0),), (6.0, 16.0)),
    (([[3.0], [4.0, 5.0]],), [[6.0], [16.0, 30.0]]),
    (([3.0], (4.0, [5.0])), ([6.0], (16.0, [30.0]))),
    (([], 3.0), ([], 6.0)),
    ((np.array([3.0, 4.0]),), np.array([6.0, 16.0])),
    ((memoryview(np.array([3.0, 4.0])),), np.array([6.0, 16.0])),  # an array of another library
    (({"w": np.array([3.0]), "b": [4.0]},), {"w": np.array([12.0]), "b": [8.0]}),
    ((np.array([[3, 4], [5, 6]]),), np.array([[6.0, 16.0], [30.0, 48.0]])),
    ((np.float32(3.0), np.float64(4.0)), (6.0, 16.0)),
    (([np.array([3.0]), 4.0],), [np.array([6.0]), 16.0]),
    ((np.float32([3.0]), 4.0), (np.float32([6.0]), 16.0)),
    ((THIRD, [SEVENTH]), (2 * THIRD, [4 * SEVENTH])),
]


@pytest.mark.parametrize(("args", "gradient"), SHAPES)
def test_a_gradient_has_the_shape_of_the_arguments(args: tuple[Any, ...], gradient: Any) -> None:
    every = tuple(range(len(args))) if len(args) > 1 else 0
    shown = repr(args)
    value, slopes = value_and_grad(weighted_squares, every)(*args)
    for result in (slopes, grad(weighted_squares, every)(*args), jacobian(weighted_squares, every)(*args)):
        assert_same(result, gradient)
    assert_same(vjp(weighted_squares, *args)[1](1), gradient if len(args) > 1 else (gradient,))
    assert jvp(weighted_squares, args, args)[1] == 2 * value  # Euler: it is homogeneous of degree 2
    assert repr(args) == shown


X = np.array([3.0, 4.0])
MATRIX = [[2.0, -1.0, 0.0], [-1.0, 3.0, 0.5], [0.0, 0.5, 1.0]]
PLACES = [(i, j) for i in range(3) for j in range(3)]
SECOND: list[tuple[Callable[..., Any], tuple[Any, ...], Any]] = [  # f, its arguments, its Hessian
    (cube, (2.0,), 12.0),
    (lambda x, y: x * x * y, (2.0, 3.0), ((6.0, 4.0), (4.0, 0.0))),
    (lambda p, y: p[0] * p[1] * y, ([2.0, 3.0], 5.0), ([([0.0, 5.0], 3.0), ([5.0, 0.0], 2.0)], ([3.0, 2.0], 0.0))),
    (lambda p: 2 * p[0] - p[1], ([1.0, 2.0],), [[0.0, 0.0], [0.0, 0.0]]),
    (lambda x: tg.sum(x[i] * MATRIX[i][j] * x[j] for i, j in PLACES) / 2, ([1.0, -2.0, 3.0],), MATRIX),
    # d/dy of y x^(y-1) is x^(y-1) (1 + y log x): 1/x at y = 0, which is no kink
    (lambda x, y: x**y, (2.0, 0.0), ((0.0, 0.5), (0.5, LOG_2 * LOG_2))),
    (lambda x: x ** (x - 2), (2.0,), 1 + LOG_2**2),
    (lambda x, y: x**y, (0.0, 0.0), ((0.0, 0.0), (0.0, 0.0))),
    (lambda x: 1 / (1 + x), (SEVENTH,), Fraction(343, 256)),
    (
        lambda p: p[0] ** 2 / p[1],
        ([THIRD, SEVENTH],),
        [[Fraction(14), Fraction(-98, 3)], [Fraction(-98, 3), Fraction(686, 9)]],
    ),
    (lambda x: (x**3).sum(), (X,), np.diag([18.0, 24.0])),
    (
        lambda p: (p["w"] ** 2).sum() * p["b"],
        ({"w": X, "b": 2.0},),
        {"w": {"w": 4 * np.eye(2), "b": 2 * X}, "b": {"w": 2 * X, "b": 0.0}},
    ),
]


@pytest.mark.parametrize(("f", "args", "expected"), SECOND)
def test_hessians_have_the_shape_of_the_arguments_twice(f: Any, args: tuple[Any, ...], expected: Any) -> None:
    assert_same(hessian(f, tuple(range(len(args))) if len(args) > 1 else 0)(*args), expected)


def test_values_slopes_and_jacobians_come_in_the_shape_of_the_result() -> None:
    assert jacobian(lambda p: [p[0] * p[1], (p[0], 5)])([2.0, 3.0]) == [[3.0, 2.0], ([1.0, 0.0], [0.0, 0.0])]
    assert jacobian(lambda x, y: [x * y, x], (0, 1))(2.0, 3.0) == [(3.0, 2.0), (1.0, 0.0)]
    assert jacobian(lambda x: [])(3.0) == []
    assert_same(jacobian(lambda x: np.array([x, x * x]))(3.0), np.array([1.0, 6.0]))
    assert_same(jacobian(lambda x: np.tanh(x) * 0 + x * x)(X), np.diag([6.0, 8.0]))
    c, s = math.cos(0.5), math.sin(0.5)
    polar = jacobian(lambda r, t: (r * tg.cos(t), r * tg.sin(t)), (0, 1))(2.0, 0.5)
    assert polar == ((c, -2.0 * s), (s, 2.0 * c))

    def g(x: Any, y: Any) -> Any:
        return [x * y, (x + y, 1)]

    assert jvp(g, (2.0, 3.0), (1.0, 10.0)) == ([6.0, (5.0, 1.0)], [23.0, (11.0, 0.0)])
    value, pullback = vjp(g, 2.0, 3.0)
    assert value == [6.0, (5.0, 1.0)]
    assert pullback([1.0, (10.0, 100.0)]) == (13.0, 12.0)
    assert pullback([0.0, (1.0, 0.0)]) == (1.0, 1.0)


def test_numbers_give_numbers_and_values_give_values() -> None:
    assert type(grad(cube)(2)) is float
    x = Value(2.0)
    value, slope = value_and_grad(cube)(x)
    assert (value.data, slope.data, gradients(value + slope, x)) == (8.0, 12.0, 24.0)
    value, slope = jvp(cube, (2.0,), (x,))
    assert (value, slope.data, gradients(slope, x)) == (8.0, 24.0, 12.0)
    _, slopes = jvp(lambda t: [t, 7], (2.0,), (x,))
    assert [(type(slope), slope.data) for slope in slopes] == [(Value, 2.0), (Value, 0.0)]
    (share,) = vjp(cube, 2.0)[1](x)
    assert (share.data, gradients(share, x)) == (24.0, 12.0)


# --- gradients ------------------------------------------------------------------------------------------------
def test_gradients_by_leaves_interior_nodes_and_the_root() -> None:
    a, b, other = Value(2.0), Value(3.0), Value(5.0)
    c = a * b
    d = c * c
    assert gradients(d, [a, b, c, d]) == [36.0, 24.0, 12.0, 1.0]
    assert gradients(d, (c, c)) == [12.0, 12.0]
    assert gradients(d, iter([d])) == [1.0]
    assert gradients(d, []) == []
    assert gradients(d, a) == 36.0
    assert gradients(a, d) == 0.0
    assert gradients(d, [other, d * other, a]) == [0.0, 0.0, 36.0]  # d does not depend on the first two
    (slope,) = gradients(d, [other], create_graph=True)
    assert (type(slope), slope.data) == (Value, 0.0)
    condition = Value(1.0)
    assert repr(gradients(tg.where(condition, a, 3.0), [condition, a])) == "[0.0, 1.0]"


def test_the_absolute_adjoint_adds_sizes_and_ignores_no_share() -> None:
    x = Value(3.0)
    y = x * 5 - x * 4
    sizes = absolute_adjoint(y)
    assert (sizes[x], sizes[y], gradients(y, x)) == (9.0, 1.0, 1.0)
    assert set(sizes) == set(tg.topological_order(y))
    wrong = tg.rule(lambda x: x + 1, name="two", n_inputs=1, backward=lambda upstream, out, x: (upstream,) * 2)
    with pytest.raises(ValueError, match="is longer than"):
        absolute_adjoint(wrong(Value(1.0)))


def test_no_grad_is_read_or_written() -> None:
    x = Value(2.0)
    y = x * x
    z = y + x
    x.grad, y.grad, z.grad = 10.0, 20.0, 30.0
    assert gradients(z, [x, y, z]) == [5.0, 1.0, 1.0]
    gradients(gradients(z, x, create_graph=True), x)
    for derivative in (grad, jacobian, forward, pulled, hessian):
        derivative(lambda t: t * t * y * z)(x)
    assert (x.grad, y.grad, z.grad) == (10.0, 20.0, 30.0)


# --- Arguments by position, what is returned beside, and the Hessian times a vector ------------------------------
def line(x: Any, w: Any, *, shift: float = 0.0) -> Any:
    """A line."""
    return x * w[0] + w[1] + shift


def test_argnums_says_which_argument_is_differentiated() -> None:
    args = 2.0, [3.0, 4.0]
    assert grad(line)(*args) == 3.0
    assert grad(line, 1)(*args) == grad(line, argnums=-1)(*args) == [2.0, 1.0]
    assert grad(line, (1, 0))(*args) == ([2.0, 1.0], 3.0)
    assert grad(line, (0,))(*args) == (3.0,)
    assert grad(line, (-2, -1))(*args) == (3.0, [2.0, 1.0])
    assert value_and_grad(line, 1)(*args, shift=5.0) == (15.0, [2.0, 1.0])
    assert jacobian(lambda x, y: [x * y, y], 1)(2.0, 3.0) == [2.0, 1.0]
    assert hessian(lambda x, y: x * y**2, 1)(2.0, 3.0) == 4.0
    assert grad(lambda x, how, *, rate: x * rate * len(how))(2.0, "fast", rate=3) == 12.0  # passed on as they are


@pytest.mark.parametrize("d", [grad, value_and_grad, jacobian, hessian, hvp])
def test_a_derivative_keeps_name_and_docstring(d) -> None:
    assert (d(line).__name__, d(line).__doc__, inspect.unwrap(d(line))) == ("line", "A line.", line)
    assert d(tg.tanh).__name__ == "tanh"
    assert callable(d(lambda x: x))


def test_aux_is_returned_beside_and_holds_numbers() -> None:
    def f(x: Any) -> Any:
        return x * x, {"half": [x / 2, "text"], "pair": (x, 1)}

    aux = {"half": [1.5, "text"], "pair": (3.0, 1)}
    assert value_and_grad(f, has_aux=True)(3.0) == ((9.0, aux), 6.0)
    for derivative, slope in ((grad, 6.0), (jacobian, 6.0), (hessian, 2.0)):
        assert derivative(f, has_aux=True)(3.0) == (slope, aux)
    assert type(grad(f, has_aux=True)(Value(3.0))[1]["pair"][0]) is Value


@given(programs(rules=SMOOTH, kind=float, max_nodes=10), st.lists(st.floats(-2, 2), min_size=8, max_size=8))
def test_hvp_is_the_hessian_times_the_vector(program: Program, numbers: list[float]) -> None:
    point = list(program.inputs)
    v = numbers[: len(point)]

    def f(p: list[Any]) -> Any:
        return program(*p)

    rows = hessian(f)(point)
    for product, row in zip(hvp(f)(point, v), rows, strict=True):
        assert product == pytest.approx(sum(h * t for h, t in zip(row, v, strict=True)), rel=1e-9, abs=1e-9)


def test_hvp_by_argnums_of_trees_and_in_one_run_of_the_function() -> None:
    runs = []

    def f(x: Any, p: Any, *, k: float = 1.0) -> Any:
        runs.append(k)
        return x * p[0] ** 2 * p[1] * k

    assert hvp(f, 1)(2.0, [3.0, 5.0], [1.0, 0.0], k=10.0) == [200.0, 120.0]
    assert runs == [10.0]  # no Hessian, row by row
    assert hvp(f, (0, 1))(2.0, [3.0, 5.0], (1.0, [0.0, 0.0])) == (0.0, [30.0, 9.0])
    assert hvp(cube)(2.0, 1) == 12.0
    x = Value(2.0)
    assert gradients(hvp(cube)(x, 3.0), x) == 18.0  # d/dx of 6 x v
    p, v = {"w": X, "b": 2.0}, {"b": 0.0, "w": np.array([1.0, 0.0])}
    assert_same(hvp(lambda p: (p["w"] ** 2).sum() * p["b"])(p, v), {"w": np.array([4.0, 0.0]), "b": 6.0})


def test_where_a_slope_is_infinite() -> None:
    """What does not move contributes nothing; inf * 0 further inside is nan, in both modes."""
    root_of_square = lambda x: tg.sqrt(x * x)  # noqa: E731 - a formula
    assert jvp(lambda x, y: tg.sqrt(x) * 2 + y, (0.0, 1.0), (0.0, 1.0)) == (1.0, 1.0)
    assert jvp(lambda x, y: tg.sqrt(x) + y, (0.0, 1.0), (1.0, 0.0)) == (1.0, math.inf)
    assert jvp(tg.sqrt, (0.0,), (0.0,)) == (0.0, 0.0)
    assert jvp(tg.sqrt, (Fraction(0),), (0,))[1] == 0.0
    assert math.isnan(forward(root_of_square)(0.0))
    assert math.isnan(grad(root_of_square)(0.0))
    assert math.isnan(jvp(tg.sqrt, (0.0,), (Value(0.0),))[1].data)  # a Value may move later: its slope counts


# --- Nested derivatives ---------------------------------------------------------------------------------------
ways = pytest.mark.parametrize("d", [grad, forward, pulled, jacobian])
inner_ways = pytest.mark.parametrize("e", [grad, forward, pulled, jacobian])


@ways
@inner_ways
def test_perturbations_are_not_confused(d, e) -> None:
    assert d(lambda x: x * e(lambda y: x + y)(1.0))(1.0) == 1.0
    assert d(lambda x: x * e(lambda y: x * y)(2.0))(3.0) == 6.0
    assert d(lambda x: x * e(lambda y: y * y)(2.0))(3.0) == 4.0
    assert d(lambda x: e(lambda y: x * y * y)(x))(3.0) == 12.0
    assert d(lambda x: e(lambda y: x * y * y)(5.0))(3.0) == 10.0
    assert d(lambda x: e(lambda y: x * x)(x))(3.0) == 0.0
    assert d(lambda x: e(lambda y: y * x)(x * x))(3.0) == 1.0
    assert d(lambda x: e(lambda y: y**3)(x * x))(2.0) == 3 * 4 * 2.0**3
    for innermost in (grad, forward):  # it may depend on the outermost alone
        assert d(lambda x, h=innermost: e(lambda y: y * h(lambda z: x * z * z)(3.0))(1.0))(5.0) == 6.0


@ways
@inner_ways
def test_second_derivatives_in_any_mix_of_modes(d, e) -> None:
    assert d(e(cube))(2.0) == 12.0
    assert d(e(lambda x: 5 * x))(2.0) == 0.0
    assert d(e(tg.tanh))(0.5) == pytest.approx(-2 * math.tanh(0.5) / math.cosh(0.5) ** 2, rel=1e-14)


@ways
@inner_ways
@pytest.mark.parametrize("h", [grad, forward])
def test_three_levels(d, e, h) -> None:
    assert d(e(h(lambda x: x**5)))(2.0) == 60 * 4.0
    got = d(lambda x: e(lambda y: h(lambda z: x * y * y * z**3)(x * y))(x))(2.0)
    assert got == 12 * 6 * 2.0**5  # y: 3 x^3 y^4, its slope 12 x^3 y^3 at y = x: 12 x^6, and 72 x^5
    assert d(lambda x: x * e(lambda y: y * h(lambda z: x + y + z)(1.0))(1.0))(1.0) == 1.0


def test_a_derivative_that_failed_leaves_no_trace() -> None:
    def fails(x: Any) -> Any:
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        grad(lambda x: grad(fails)(x))(2.0)
    assert type(grad(cube)(2.0)) is float


@steady
@given(programs(SMOOTH, max_nodes=20, max_inputs=3))
def test_hessians_are_symmetric_and_those_of_50_digits(program: Program) -> None:
    n = len(program.inputs)
    got = hessian(lambda p: program(*p))(list(program.inputs))
    leaves = [Value(x) for x in program.inputs]
    first = gradients(program(*leaves), leaves, create_graph=True)
    scales = [[absolute_adjoint(slope).get(x, 0.0) for x in leaves] for slope in first]
    with mp.workdps(50):
        point = tuple(map(mp.mpf, program.inputs))
        for i in range(n):
            for j in range(n):
                assert_near(got[i][j], got[j][i], scales[i][j] + scales[j][i])
                exact = mp.diff(program, point, tuple((k == i) + (k == j) for k in range(n)))
                assert_near(got[i][j], exact, scales[i][j])


@steady
@given(programs(max_inputs=3), st.lists(st.floats(-2, 2), min_size=6, max_size=6))
def test_jvp_and_vjp_are_transposes(program: Program, numbers: list[float]) -> None:
    """u . (J t) = (u J) . t, for two results and two inputs or more."""
    inputs = (*program.inputs, 0.5)

    def g(*xs: Any) -> list[Any]:
        return program.run(xs)[-2:]

    tangents, upstream = tuple(numbers[: len(inputs)]), numbers[-2:]
    value, slopes = jvp(g, inputs, tangents)
    same, pullback = vjp(g, *inputs)
    rows = jacobian(g, tuple(range(len(inputs))))(*inputs)
    left = sum(u * s for u, s in zip(upstream, slopes, strict=True))
    right = sum(s * t for s, t in zip(pullback(upstream), tangents, strict=True))
    leaves = [Value(x) for x in inputs]
    adjoints = [absolute_adjoint(out) for out in g(*leaves)]
    scale = 4 * sum(a.get(x, 0.0) for a in adjoints for x in leaves)
    assert value == same
    assert_near(left, right, scale)
    for row, slope in zip(rows, slopes, strict=True):
        assert_near(sum(s * t for s, t in zip(row, tangents, strict=True)), slope, scale)


DERIVATIVES = [grad, value_and_grad, hessian, jacobian, forward, pulled]
x, pullback = Value(1.0), vjp(lambda x: [x, x * x], 2.0)[1]
NO_TUPLES = r"^jvp takes the tuples of .* all tangents: jvp\(f, \(2.0,\), \(1.0,\)\)\.$"
NO_NUMBER = {
    "1.0": r"got '1\.0' \(str\)\. Convert text with float",
    None: r"got None \(NoneType\)\. Is a `return` missing",
    True: r"got True \(bool\)",
    1j: r"got 1j \(complex\)",
}
WRT = r"gradients\(root, wrt\) takes Values, got 1 \(int\)"
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: grad(line, 2)(1.0, 2.0), ValueError, r"argnums has 2, but 2 positional argument\(s\) were given\."),
    (lambda: grad(line, (0, -3))(1.0, 2.0), ValueError, "argnums has -3"),
    (lambda: grad(line, (1, -1))(1.0, 2.0), ValueError, r"one argument twice, got \(1, -1\): name each once\."),
    *((lambda a=a: grad(line, a)(1.0, 2.0), TypeError, f"or a tuple of ints, got {a!r}") for a in (True, "x")),
    (lambda: grad(cube, has_aux=True)(3.0), TypeError, r"f must return \(result, aux\), got Value"),
    (lambda: hvp(cube)(2.0), TypeError, "behind them the vector v"),
    (lambda: hvp(cube)(2.0, [1.0, 2.0]), ValueError, "one tangent per number: 1, got 2"),
    *((lambda a=a: gradients(*a), TypeError, WRT) for a in ((1, [x]), (x, 1), (x, [x, 1]))),
    (lambda: gradients(x, [[x]]), TypeError, r"takes Values, got \[Value\(.*\)\] \(list\)"),
    (lambda: jvp(lambda x, y: x * y, (2.0, 3.0), (1.0,)), ValueError, "one tangent per number: 2, got 1"),
    (lambda: jvp(cube, (2.0,), ([1.0, 2.0], 3.0)), ValueError, "jvp needs one tangent per number: 1, got 3"),
    (lambda: jvp(cube, (2.0,), ("1",)), TypeError, r"Value holds one real number, got '1' \(str\)"),
    *((lambda a=a: jvp(cube, *a), TypeError, NO_TUPLES) for a in ((2.0, 1.0), ((2.0,), 1.0), (2.0, (1.0,)))),
    *((lambda d=d: d(3)(1.0), TypeError, "of a function, got 3: pass f") for d in DERIVATIVES),
    *((lambda u=u: pullback(u), ValueError, "one number per output: 2, got [13]") for u in (1.0, [1.0, 2.0, 3.0])),
    *((lambda d=d: d(lambda x: [x, x])(1.0), TypeError, "got 2: use jacobian") for d in DERIVATIVES[:3]),
    *((lambda d=d: d(lambda: 1.0)(), TypeError, "^A derivative needs at least one pos") for d in DERIVATIVES[:4]),
    *(
        (lambda d=d, wrong=wrong: d(lambda x: wrong)(1.0), TypeError, message)
        for d in DERIVATIVES
        for wrong, message in NO_NUMBER.items()
    ),
    *(
        (lambda d=d, wrong=wrong: d(cube)(wrong), TypeError, "Value holds one real number, got ")
        for d in DERIVATIVES
        for wrong in (*NO_NUMBER, "2.0", {2.0})
    ),
]
test_errors_are_one_sentence = refused(ERRORS)
