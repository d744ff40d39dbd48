"""Derivatives of functions: closed forms, shapes, nesting, exact numbers, and the errors."""

import inspect
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, grad, gradients, hessian, jacobian, jvp, value_and_grad, vjp
from tinygrad_edu.testing import SMOOTH, Program, absolute_adjoint, assert_near, programs

steady = settings(deadline=None)


def cube(x: Any) -> Any:
    return x**3


# --- Closed forms ---------------------------------------------------------------------------------------------

CLOSED_FORMS: list[tuple[Callable[[Any], Any], float, float]] = [  # f, x, f'(x)
    (lambda x: 7, 2.0, 0.0),
    (lambda x: x, 2.0, 1.0),
    (lambda x: x * x, 3.0, 6.0),
    (lambda x: x**-2, 2.0, -0.25),
    (lambda x: 1 / x, 4.0, -0.0625),
    (lambda x: 2**x, 3.0, 8 * math.log(2)),
    (lambda x: x**x, 2.0, 4 * (math.log(2) + 1)),
    (lambda x: tg.exp(-x * x / 2), 1.0, -math.exp(-0.5)),
    (lambda x: tg.log(x) / x, 1.0, 1.0),
    (lambda x: tg.sin(x) ** 2 + tg.cos(x) ** 2, 0.7, 0.0),
    (lambda x: tg.log(tg.exp(x) + 1), 0.0, 0.5),
    (lambda x: tg.atan(x) + tg.atan(1 / x), 3.0, 0.0),
    (lambda x: tg.softmax([x, 0.0])[0], 0.0, 0.25),
]


@pytest.mark.parametrize(("f", "x", "slope"), CLOSED_FORMS)
def test_closed_forms(f: Callable[[Any], Any], x: float, slope: float) -> None:
    assert grad(f)(x) == pytest.approx(slope, rel=1e-14, abs=1e-15)
    assert value_and_grad(f)(x) == (getattr(f(Value(x)), "data", f(x)), grad(f)(x))
    assert jvp(f, (x,), (1.0,)) == (value_and_grad(f)(x)[0], pytest.approx(slope, rel=1e-14, abs=1e-15))
    value, pullback = vjp(f, x)
    assert pullback(1.0) == (grad(f)(x),)
    assert value == value_and_grad(f)(x)[0]
    assert jacobian(f)(x) == grad(f)(x)


def test_the_jacobian_of_polar_coordinates() -> None:
    r, angle = 2.0, 0.5
    got = jacobian(lambda r, t: (r * tg.cos(t), r * tg.sin(t)), (0, 1))(r, angle)
    c, s = math.cos(angle), math.sin(angle)
    assert got == ((c, -r * s), (s, r * c))


def test_the_hessian_of_a_quadratic_form_is_its_matrix() -> None:
    matrix = [[2.0, -1.0, 0.0], [-1.0, 3.0, 0.5], [0.0, 0.5, 1.0]]

    def f(x: list[Any]) -> Any:
        return tg.sum(x[i] * matrix[i][j] * x[j] for i in range(3) for j in range(3)) / 2

    assert hessian(f)([1.0, -2.0, 3.0]) == matrix


def test_the_hessian_of_a_power_at_exponent_zero() -> None:
    """d/dy of y x^(y-1) is x^(y-1) (1 + y log x): 1/x at y = 0, which is no kink."""
    log_2 = math.log(2)
    assert hessian(lambda x, y: x**y, (0, 1))(2.0, 0.0) == ((0.0, 0.5), (0.5, log_2 * log_2))
    assert hessian(lambda x: x ** (x - 2))(2.0) == pytest.approx(1 + log_2**2, rel=1e-15)


def test_the_hessian_of_a_linear_function_is_zero() -> None:
    assert hessian(lambda p: 2 * p[0] - p[1])([1.0, 2.0]) == [[0.0, 0.0], [0.0, 0.0]]


# --- Shapes of arguments and results --------------------------------------------------------------------------


def weighted_squares(*args: Any) -> Any:
    """The sum of (place + 1) * x^2 over all numbers in args."""

    def flat(part: Any) -> list[Any]:
        return [x for p in part for x in flat(p)] if isinstance(part, list | tuple) else [part]

    return sum((place + 1) * x * x for place, x in enumerate(flat(args)))


SHAPES: list[tuple[tuple[Any, ...], Any]] = [
    ((3,), 6.0),
    ((3.0, 4.0), (6.0, 16.0)),
    (([3.0, 4.0],), [6.0, 16.0]),
    (((3.0, 4.0),), (6.0, 16.0)),
    (([[3.0], [4.0, 5.0]],), [[6.0], [16.0, 30.0]]),
    (([3.0], (4.0, [5.0])), ([6.0], (16.0, [30.0]))),
    (([], 3.0), ([], 6.0)),
    ((np.array([3.0, 4.0]),), [6.0, 16.0]),
    ((np.array([[3, 4], [5, 6]]),), [[6.0, 16.0], [30.0, 48.0]]),
    ((np.float32(3.0), np.float64(4.0)), (6.0, 16.0)),
    (([np.array([3.0]), 4.0],), [[6.0], 16.0]),
    ((Fraction(1, 3), [Fraction(1, 7)]), (Fraction(2, 3), [Fraction(4, 7)])),
]


@pytest.mark.parametrize(("args", "gradient"), SHAPES)
def test_a_gradient_has_the_shape_of_the_arguments(args: tuple[Any, ...], gradient: Any) -> None:
    every = tuple(range(len(args))) if len(args) > 1 else 0
    assert grad(weighted_squares, every)(*args) == gradient
    assert value_and_grad(weighted_squares, every)(*args)[1] == gradient
    assert jacobian(weighted_squares, every)(*args) == gradient
    assert vjp(weighted_squares, *args)[1](1) == (gradient if len(args) > 1 else (gradient,))
    assert (
        jvp(weighted_squares, args, args)[1] == 2 * value_and_grad(weighted_squares)(*args)[0]
    )  # Euler: it is homogeneous of degree 2


def test_a_jacobian_has_the_shape_of_the_result_and_in_it_that_of_the_arguments() -> None:
    assert jacobian(lambda p: [p[0] * p[1], (p[0], 5)])([2.0, 3.0]) == [[3.0, 2.0], ([1.0, 0.0], [0.0, 0.0])]
    assert jacobian(lambda x, y: [x * y, x], (0, 1))(2.0, 3.0) == [(3.0, 2.0), (1.0, 0.0)]
    assert jacobian(lambda x: np.array([x, x * x]))(3.0) == [1.0, 6.0]
    assert jacobian(lambda x: [])(3.0) == []


def test_a_hessian_has_the_shape_of_the_arguments_twice() -> None:
    assert hessian(cube)(2.0) == 12.0
    assert hessian(lambda x, y: x * x * y, (0, 1))(2.0, 3.0) == ((6.0, 4.0), (4.0, 0.0))
    assert hessian(lambda p, y: p[0] * p[1] * y, (0, 1))([2.0, 3.0], 5.0) == (
        [([0.0, 5.0], 3.0), ([5.0, 0.0], 2.0)],
        ([3.0, 2.0], 0.0),
    )


def test_values_and_slopes_come_in_the_shape_of_the_result() -> None:
    def g(x: Any, y: Any) -> Any:
        return [x * y, (x + y, 1)]

    assert jvp(g, (2.0, 3.0), (1.0, 10.0)) == ([6.0, (5.0, 1.0)], [23.0, (11.0, 0.0)])
    value, pullback = vjp(g, 2.0, 3.0)
    assert value == [6.0, (5.0, 1.0)]
    assert pullback([1.0, (10.0, 100.0)]) == (13.0, 12.0)
    assert pullback([0.0, (1.0, 0.0)]) == (1.0, 1.0)


def test_arguments_are_not_changed() -> None:
    p, a = [2.0, [3.0]], np.array([4.0])
    grad(lambda p, a: p[0] * p[1][0] * a[0])(p, a)
    assert (p, a.tolist()) == ([2.0, [3.0]], [4.0])


def test_numbers_give_numbers_and_values_give_values() -> None:
    assert type(grad(cube)(2)) is float
    x = Value(2.0)
    slope = grad(cube)(x)
    assert (type(slope), slope.data, gradients(slope, x)) == (Value, 12.0, 12.0)
    value, slope = value_and_grad(cube)(x)
    assert (value.data, slope.data, gradients(value + slope, x)) == (8.0, 12.0, 24.0)
    value, slope = jvp(cube, (2.0,), (x,))
    assert (value, slope.data, gradients(slope, x)) == (8.0, 24.0, 12.0)
    _, slopes = jvp(lambda t: [t, 7], (2.0,), (x,))
    assert [(type(slope), slope.data) for slope in slopes] == [(Value, 2.0), (Value, 0.0)]
    _, pullback = vjp(cube, 2.0)
    (share,) = pullback(x)
    assert (share.data, gradients(share, x)) == (24.0, 12.0)


# --- gradients ------------------------------------------------------------------------------------------------


def test_gradients_by_leaves_interior_nodes_and_the_root() -> None:
    a, b = Value(2.0), Value(3.0)
    c = a * b
    d = c * c
    assert gradients(d, [a, b, c, d]) == [36.0, 24.0, 12.0, 1.0]
    assert gradients(d, (c, c)) == [12.0, 12.0]
    assert gradients(d, iter([d])) == [1.0]
    assert gradients(d, []) == []
    assert gradients(d, a) == 36.0
    assert gradients(a, a) == 1.0


def test_a_value_that_root_does_not_depend_on_has_gradient_zero() -> None:
    x, other = Value(2.0), Value(5.0)
    y = x * x
    assert gradients(y, [other, y * other, x]) == [0.0, 0.0, 4.0]
    assert gradients(x, y) == 0.0
    (slope,) = gradients(y, [other], create_graph=True)
    assert (type(slope), slope.data) == (Value, 0.0)


def test_the_gradient_of_a_condition_is_a_number_like_any_other() -> None:
    condition, x = Value(1.0), Value(2.0)
    slopes = gradients(tg.where(condition, x, 3.0), [condition, x])
    assert repr(slopes) == "[0.0, 1.0]"


def test_the_absolute_adjoint_adds_sizes_where_slopes_cancel() -> None:
    x = Value(3.0)
    y = x * 5 - x * 4
    sizes = absolute_adjoint(y)
    assert (sizes[x], sizes[y]) == (9.0, 1.0)
    y.backward()
    assert x.grad == 1.0
    assert set(sizes) == set(tg.topological_order(y))


def test_the_absolute_adjoint_ignores_no_share() -> None:
    @tg.rule(name="two_shares_in_test", backward=lambda upstream, out, x: (upstream, upstream))
    def wrong(x):
        return x + 1

    try:
        with pytest.raises(ValueError, match="is longer than"):
            absolute_adjoint(wrong(Value(1.0)))
    finally:
        del tg.RULES["two_shares_in_test"]


def test_no_grad_is_read_or_written() -> None:
    x = Value(2.0)
    y = x * x
    z = y + x
    x.grad, y.grad, z.grad = 10.0, 20.0, 30.0
    assert gradients(z, [x, y, z]) == [5.0, 1.0, 1.0]
    (slope,) = gradients(z, [x], create_graph=True)
    gradients(slope, x)
    grad(lambda t: t * x)(x)
    jacobian(lambda t: [t * y])(x)
    jvp(lambda t: t * z, (x,), (y,))
    vjp(lambda t: t * z, x)[1](y)
    hessian(lambda t: t * t * y)(x)
    assert (x.grad, y.grad, z.grad) == (10.0, 20.0, 30.0)


def test_gradients_as_graphs_can_be_derived_again_and_run_backward() -> None:
    x = Value(3.0)
    (first,) = gradients(x**4, [x], create_graph=True)
    (second,) = gradients(first, [x], create_graph=True)
    (third,) = gradients(second, [x], create_graph=True)
    assert [first.data, second.data, third.data, gradients(third, x)] == [108.0, 108.0, 72.0, 24.0]
    (first + second).backward()
    assert x.grad == 108.0 + 72.0


def test_a_gradient_penalty() -> None:
    """d/dw of (d/dx of w^2 x^3)^2 is 4 w^3 (3 x^2)^2."""
    w, x = Value(2.0), Value(3.0)
    slope = gradients(w * w * x**3, x, create_graph=True)
    (slope * slope).backward()
    assert w.grad == 4 * 8 * 27.0**2


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


def test_an_argument_that_is_not_differentiated_is_passed_on_as_it_is() -> None:
    seen = []

    def f(x: Any, how: Any, *, rate: Any) -> Any:
        seen.append((how, rate))
        return x * rate

    assert grad(f)(2.0, "fast", rate=3) == 3.0
    assert seen == [("fast", 3)]


@pytest.mark.parametrize("d", [grad, value_and_grad, jacobian, hessian, tg.hvp])
def test_a_derivative_keeps_name_and_docstring(d) -> None:
    assert (d(line).__name__, d(line).__doc__, inspect.unwrap(d(line))) == ("line", "A line.", line)
    assert d(tg.tanh).__name__ == "tanh"
    assert callable(d(lambda x: x))


def test_aux_is_returned_beside_and_holds_numbers() -> None:
    def f(x: Any) -> Any:
        return x * x, {"half": [x / 2, "text"], "pair": (x, 1)}

    aux = {"half": [1.5, "text"], "pair": (3.0, 1)}
    assert grad(f, has_aux=True)(3.0) == (6.0, aux)
    assert value_and_grad(f, has_aux=True)(3.0) == ((9.0, aux), 6.0)
    assert jacobian(f, has_aux=True)(3.0) == (6.0, aux)
    assert hessian(f, has_aux=True)(3.0) == (2.0, aux)
    assert type(grad(f, has_aux=True)(Value(3.0))[1]["pair"][0]) is Value
    with pytest.raises(TypeError, match=r"With has_aux=True, f must return \(result, aux\), got Value"):
        grad(cube, has_aux=True)(3.0)


@pytest.mark.parametrize(
    ("argnums", "error", "message"),
    [
        (2, ValueError, r"argnums has 2, but 2 positional argument\(s\) were given\."),
        ((0, -3), ValueError, "argnums has -3"),
        ((1, -1), ValueError, r"argnums names one argument twice, got \(1, -1\): name each once\."),
        (True, TypeError, "argnums is an int or a tuple of ints, got True"),
        ("x", TypeError, "argnums is an int or a tuple of ints, got 'x'"),
    ],
)
def test_bad_argnums(argnums: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        grad(lambda x, y: x * y, argnums)(1.0, 2.0)


@given(programs(rules=SMOOTH, kind=float, max_nodes=10), st.lists(st.floats(-2, 2), min_size=8, max_size=8))
def test_hvp_is_the_hessian_times_the_vector(program: Program, numbers: list[float]) -> None:
    point = list(program.inputs)
    v = numbers[: len(point)]

    def f(p: list[Any]) -> Any:
        return program(*p)

    rows = hessian(f)(point)
    for got, row in zip(tg.hvp(f)(point, v), rows, strict=True):
        assert got == pytest.approx(sum(h * t for h, t in zip(row, v, strict=True)), rel=1e-9, abs=1e-9)


def test_hvp_by_argnums_and_its_errors() -> None:
    def f(x: Any, p: Any, *, k: float = 1.0) -> Any:
        return x * p[0] ** 2 * p[1] * k

    assert tg.hvp(f, 1)(2.0, [3.0, 5.0], [1.0, 0.0], k=10.0) == [200.0, 120.0]
    assert tg.hvp(f, (0, 1))(2.0, [3.0, 5.0], (1.0, [0.0, 0.0])) == (0.0, [30.0, 9.0])
    assert tg.hvp(cube)(2.0, 1) == 12.0
    x = Value(2.0)
    assert gradients(tg.hvp(cube)(x, 3.0), x) == 18.0  # d/dx of 6 x v
    with pytest.raises(TypeError, match="behind them the vector v"):
        tg.hvp(cube)(2.0)
    with pytest.raises(ValueError, match="one tangent per number: 1, got 2"):
        tg.hvp(cube)(2.0, [1.0, 2.0])


def test_hvp_costs_a_few_gradients_not_a_hessian() -> None:
    made = []

    def f(p: list[Any]) -> Any:
        made.append(1)
        return tg.sum(x**3 for x in p)

    n = 200
    assert tg.hvp(f)([1.0] * n, [1.0] * n) == [6.0] * n
    assert len(made) == 1


def test_where_a_slope_is_infinite() -> None:
    """What does not move contributes nothing; inf * 0 further inside is nan, in both modes."""
    root_of_square = lambda x: tg.sqrt(x * x)  # noqa: E731 - a formula
    assert jvp(lambda x, y: tg.sqrt(x) * 2 + y, (0.0, 1.0), (0.0, 1.0)) == (1.0, 1.0)
    assert jvp(lambda x, y: tg.sqrt(x) + y, (0.0, 1.0), (1.0, 0.0)) == (1.0, math.inf)
    assert jvp(tg.sqrt, (0.0,), (0.0,)) == (0.0, 0.0)
    assert jvp(tg.sqrt, (Fraction(0),), (0,))[1] == 0.0
    assert math.isnan(jvp(root_of_square, (0.0,), (1.0,))[1])
    assert math.isnan(grad(root_of_square)(0.0))
    _, slope = jvp(tg.sqrt, (0.0,), (Value(0.0),))  # a Value may move later: its slope is asked for
    assert math.isnan(slope.data)


# --- Nested derivatives ---------------------------------------------------------------------------------------


def forward(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: jvp(f, (x,), (1.0,))[1]


def pulled(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: vjp(f, x)[1](1.0)[0]


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


@ways
@inner_ways
def test_the_innermost_may_depend_on_the_outermost_alone(d, e) -> None:
    assert d(lambda x: e(lambda y: y * grad(lambda z: x * z * z)(3.0))(1.0))(5.0) == 6.0
    assert d(lambda x: e(lambda y: y * forward(lambda z: x * z * z)(3.0))(1.0))(5.0) == 6.0


def test_an_inner_derivative_that_depends_on_two_outer_variables() -> None:
    def g(x: Any, y: Any) -> Any:
        return grad(lambda z: x * z**2 + y * z**3)(2.0)  # 4 x + 12 y

    assert grad(g, (0, 1))(5.0, 7.0) == (4.0, 12.0)
    assert hessian(lambda x, y: x * y * g(x, y), (0, 1))(1.0, 1.0) == ((8.0, 32.0), (32.0, 24.0))


def test_inner_values_too_keep_the_outer_variable() -> None:
    def g(x: Any) -> Any:
        value, slope = value_and_grad(lambda y: x * y * y)(3.0)
        return value + slope  # 9 x + 6 x

    def h(x: Any) -> Any:
        value, slope = jvp(lambda y: x * y * y, (3.0,), (1.0,))
        return value * slope  # 9 x * 6 x

    assert grad(g)(1.0) == 15.0
    assert grad(h)(1.0) == 108.0


def test_a_tangent_and_an_upstream_may_be_the_outer_variable() -> None:
    assert grad(lambda t: jvp(cube, (2.0,), (t * t,))[1])(3.0) == 12 * 6.0
    assert grad(lambda u: vjp(cube, 2.0)[1](u * u)[0])(3.0) == 12 * 6.0


def test_a_pullback_made_inside_and_called_outside() -> None:
    pullbacks = []

    def g(x: Any) -> Any:
        value, pullback = vjp(lambda y: y**3, x)
        pullbacks.append(pullback)
        return value

    assert grad(g)(2.0) == 12.0
    (share,) = pullbacks[0](1.0)
    assert share.data == 12.0


def test_a_derivative_that_failed_leaves_no_trace() -> None:
    def fails(x: Any) -> Any:
        raise RuntimeError("on the way")

    with pytest.raises(RuntimeError, match="on the way"):
        grad(lambda x: grad(fails)(x))(2.0)
    assert type(grad(cube)(2.0)) is float


def test_a_closed_over_value_is_a_constant() -> None:
    w = Value(5.0)
    assert grad(lambda x: w * x)(2.0) == 5.0
    assert grad(lambda x: w * x)(w).data == 5.0


@steady
@given(programs(SMOOTH, max_nodes=16, max_inputs=1))
def test_forward_over_reverse_is_reverse_over_forward(program: Program) -> None:
    (x,) = program.inputs
    second = [d(e(program))(x) for d in (grad, forward) for e in (grad, forward)]
    leaf = Value(x)
    scale = absolute_adjoint(grad(program)(leaf)).get(leaf, 0.0)
    for other in second:
        assert_near(other, second[0], scale)


# --- Higher derivatives of random programs --------------------------------------------------------------------


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
@given(programs(SMOOTH, max_nodes=12, max_inputs=1))
def test_third_derivatives_are_those_of_50_digits(program: Program) -> None:
    x = Value(program.inputs[0])
    third = grad(grad(grad(program)))(x)
    with mp.workdps(50):
        exact = mp.diff(program, mp.mpf(x.data), 3)
    assert_near(third.data, exact, absolute_adjoint(grad(grad(program))(x)).get(x, 0.0))


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


def test_the_derivatives_of_sine_come_round_after_four() -> None:
    d = tg.sin
    for expected in (math.cos(0.5), -math.sin(0.5), -math.cos(0.5), math.sin(0.5), math.cos(0.5)):
        d = grad(d)
        assert d(0.5) == expected


def test_newtons_method_with_our_second_derivatives_finds_a_minimum() -> None:
    def rosenbrock(p: list[Any]) -> Any:
        return (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2

    p = [-1.2, 1.0]
    for _ in range(7):
        (a, b), (_, d) = hessian(rosenbrock)(p)
        g, h = grad(rosenbrock)(p)
        determinant = a * d - b * b
        p = [p[0] - (d * g - b * h) / determinant, p[1] - (a * h - b * g) / determinant]
    assert p == pytest.approx([1.0, 1.0], rel=1e-12)


def test_newtons_method_for_a_root() -> None:
    x = 1.0
    for _ in range(6):
        value, slope = value_and_grad(lambda t: t * t - 2)(x)
        x -= value / slope
    assert x == pytest.approx(math.sqrt(2), rel=1e-15)


# --- Exact numbers --------------------------------------------------------------------------------------------

THIRD, SEVENTH = Fraction(1, 3), Fraction(1, 7)


def same(got: Any, exact: Any) -> bool:
    """The same Fraction, not a float near it."""
    return (type(got), got) == (type(exact), exact)


def test_fractions_stay_exact_through_every_derivative() -> None:
    assert same(grad(cube)(THIRD), THIRD)
    assert same(grad(grad(cube))(SEVENTH), 6 * SEVENTH)
    assert same(hessian(lambda x: 1 / (1 + x))(SEVENTH), Fraction(343, 256))
    value, slope = value_and_grad(lambda x: x / (1 + x * x))(THIRD)
    assert same(value, Fraction(3, 10))
    assert same(slope, Fraction(18, 25))
    assert hessian(lambda p: p[0] ** 2 / p[1])([THIRD, SEVENTH]) == [
        [14, Fraction(-98, 3)],
        [Fraction(-98, 3), Fraction(686, 9)],
    ]


def test_a_branch_that_was_not_taken_does_not_spoil_exact_numbers() -> None:
    x = Value(THIRD)
    y = tg.where(Fraction(1), x, tg.max(x, x))
    assert same(gradients(y, x), Fraction(1))


def test_ties_of_fractions_stay_exact_in_forward_mode() -> None:
    def largest(x: Any) -> Any:
        return tg.max(x, 1 * x, 2 * x / 2)

    assert same(grad(largest)(THIRD), Fraction(1))
    assert same(jvp(largest, (THIRD,), (Fraction(1),))[1], Fraction(1))


def test_fractions_stay_exact_in_forward_mode() -> None:
    value, slope = jvp(lambda x, y: x * y, (THIRD, SEVENTH), (Fraction(1), Fraction(2)))
    assert same(value, Fraction(1, 21))
    assert same(slope, Fraction(17, 21))


def test_a_whole_tangent_or_upstream_keeps_fractions_exact() -> None:
    _, pullback = vjp(cube, SEVENTH)
    assert same(pullback(1)[0], Fraction(3, 49))
    _, slope = jvp(cube, (SEVENTH,), (1,))
    assert same(slope, Fraction(3, 49))


def test_an_argument_that_is_not_used_does_not_spoil_exact_numbers() -> None:
    def g(x: Any) -> Any:
        by_a, by_b = grad(lambda a, b: a**3, (0, 1))(x, x)
        return by_a + by_b

    assert same(g(Value(SEVENTH)).data, Fraction(3, 49))
    assert same(grad(g)(SEVENTH), Fraction(6, 7))


@steady
@given(programs(kind=Fraction, max_nodes=16, max_inputs=3))
def test_forward_mode_is_reverse_mode_exactly(program: Program) -> None:
    n = len(program.inputs)
    reverse = grad(lambda *xs: program(*xs), tuple(range(n)))(*program.inputs)
    for i, slope in enumerate(reverse):
        unit = tuple(Fraction(i == j) for j in range(n))
        assert jvp(program, program.inputs, unit)[1] == slope


@steady
@given(programs(kind=Fraction, max_nodes=12, max_inputs=3))
def test_hessians_of_fractions_are_exactly_symmetric(program: Program) -> None:
    rows = hessian(lambda p: program(*p))(list(program.inputs))
    assert rows == [list(column) for column in zip(*rows, strict=True)]


def test_mpmath_numbers_keep_their_digits() -> None:
    with mp.workdps(50):
        x = mp.mpf(1) / 3
        assert abs(grad(grad(tg.tanh))(x) + 2 * mp.tanh(x) * mp.sech(x) ** 2) < mp.mpf(10) ** -48


# --- Errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [grad, value_and_grad, hessian])
def test_one_result_is_asked_for(d) -> None:
    with pytest.raises(TypeError, match=r"f must return one number here, got 2: use jacobian\(f\) or vjp"):
        d(lambda x: [x, x])(1.0)


@pytest.mark.parametrize("d", [grad, value_and_grad, hessian, jacobian, forward, pulled])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, r"got None \(NoneType\)\. Is a `return` missing"),
        ("1.0", r"got '1\.0' \(str\)\. Convert text with float"),
        (True, r"got True \(bool\)"),
        (1j, r"got 1j \(complex\)"),
    ],
)
def test_a_result_that_is_no_number(d, wrong: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        d(lambda x: wrong)(1.0)


@pytest.mark.parametrize("d", [grad, value_and_grad, hessian, jacobian])
def test_an_argument_is_needed(d) -> None:
    with pytest.raises(TypeError, match=r"^A derivative needs at least one positional argument\.$"):
        d(lambda: 1.0)()


@pytest.mark.parametrize("d", [grad, value_and_grad, hessian, jacobian, forward, pulled])
@pytest.mark.parametrize("wrong", ["2.0", None, True, 1j, {"w": 1.0}])
def test_an_argument_that_is_no_number(d, wrong: Any) -> None:
    with pytest.raises(TypeError, match="Value holds one real number, got "):
        d(cube)(wrong)


def test_an_inner_derivative_that_does_not_depend_on_the_outer_variable_is_a_number() -> None:
    kinds = []

    def f(x: Any) -> Any:
        kinds.append([type(grad(cube)(2.0)), type(grad(lambda y: x * y)(2.0))])
        return x

    grad(f)(1.0)
    assert kinds == [[float, Value]]


def test_smooth_where_two_formulas_meet() -> None:
    """Of the two formulas for the slope of tanh, one goes through |x|: at 0 the other must be taken."""
    third = grad(grad(grad(tg.tanh)))
    assert third(0.0) == -2.0
    assert grad(grad(third))(0.0) == 16.0
    assert grad(grad(grad(tg.sigmoid)))(0.0) == -0.125


def test_the_hessian_of_zero_to_the_zero_is_zero() -> None:
    assert hessian(lambda x, y: x**y, (0, 1))(0.0, 0.0) == ((0.0, 0.0), (0.0, 0.0))


def test_gradients_takes_values_only() -> None:
    x = Value(1.0)
    with pytest.raises(TypeError, match=r"gradients\(root, wrt\) takes Values, got 2\.0 \(float\)"):
        gradients(x, [x, 2.0])
    with pytest.raises(TypeError, match=r"takes Values, got 1\.0 \(float\)"):
        gradients(1.0, [x])
    with pytest.raises(TypeError, match=r"takes Values, got \[Value\(.*\)\] \(list\)"):
        gradients(x, [[x]])


def test_tangents_have_the_shape_of_the_arguments() -> None:
    with pytest.raises(ValueError, match="jvp needs one tangent per number: 2, got 1"):
        jvp(lambda x, y: x * y, (2.0, 3.0), (1.0,))
    with pytest.raises(ValueError, match="jvp needs one tangent per number: 1, got 3"):
        jvp(cube, (2.0,), ([1.0, 2.0], 3.0))
    for primals, tangents in [(2.0, 1.0), ((2.0,), 1.0), (2.0, (1.0,))]:
        with pytest.raises(
            TypeError, match=r"^jvp takes the tuples of .* all tangents: jvp\(f, \(2.0,\), \(1.0,\)\)\.$"
        ):
            jvp(cube, primals, tangents)
    with pytest.raises(TypeError, match=r"Value holds one real number, got '1' \(str\)"):
        jvp(cube, (2.0,), ("1",))


def test_upstream_has_the_shape_of_the_value() -> None:
    _, pullback = vjp(lambda x: [x, x * x], 2.0)
    with pytest.raises(ValueError, match="upstream needs one number per output: 2, got 1"):
        pullback(1.0)
    with pytest.raises(ValueError, match="upstream needs one number per output: 2, got 3"):
        pullback([1.0, 2.0, 3.0])


def test_an_error_inside_names_the_operation() -> None:
    with pytest.raises(ValueError, match=r"log\(Value\(data=-2\.0, grad=0\.0\)\): it is defined for 0 < x only"):
        grad(tg.log)(-2.0)
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        hessian(lambda x: 1 / x)(0.0)
