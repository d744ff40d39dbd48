"""Layer 5, metamorphic laws: what calculus promises about every program, whatever its derivative is.

Both sides of a law are computed by the engine, on the same drawn programs: on floats they agree up to rounding,
relative to the absolute adjoint, on Fractions exactly. Where the law asks for the same operations in the same
order, floats agree exactly too.

In test_programs.py are the laws of `backward` itself: upstream, accumulation, copies, interior gradients; in
test_calculus.py those of derivatives of functions: symmetric hessians, transposes, forward = reverse.
"""

import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import reduce
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, grad, gradients, topological_order, vjp
from tinygrad_edu.testing import absolute_adjoint, assert_near
from tinygrad_edu.testing.check.random_program import Program
from tinygrad_edu.testing.check.strategies import programs

Function = Callable[..., Any]

steady = settings(deadline=None)
rounded, exact = programs(max_nodes=14), programs(kind=Fraction, max_nodes=10)
some = rounded | exact
pairs = st.tuples(rounded, rounded) | st.tuples(exact, exact)  # a Program takes any number of inputs
factors = st.integers(-16, 16).map(lambda n: Fraction(n, 4))  # which floats hold exactly


def swept(f: Function, point: Sequence[Any]) -> tuple[list[Any], list[float]]:
    """f's gradient at a point, by `backward` on fresh leaves, and the absolute adjoints it is measured by."""
    leaves = [Value(x) for x in point]
    root = f(*leaves)
    root.backward()
    sizes = absolute_adjoint(root)
    return [x.grad for x in leaves], [sizes.get(x, 0.0) for x in leaves]


def assert_same(got: Sequence[Any], expected: Sequence[Any], sizes: Sequence[float]) -> None:
    """Equal if both sides are Fractions, else near."""
    for x, y, size in zip(got, expected, sizes, strict=True):
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            assert x == y
        else:
            assert_near(x, y, size)


def plus(xs: Sequence[Any], ys: Sequence[Any]) -> list[Any]:
    return [x + y for x, y in zip(xs, ys, strict=True)]


def times(factor: Any, xs: Sequence[Any]) -> list[Any]:
    return [factor * x for x in xs]


# --- The rules of differentiation -----------------------------------------------------------------------------
COMBINED: dict[str, tuple[Function, Function]] = {  # of f and g; the slope, of f, g, f' and g'
    "3/4 f - 5/2 g": (lambda f, g: f * 0.75 - 2.5 * g, lambda f, g, df, dg: df * 3 / 4 - 5 * dg / 2),
    "f - 0 g": (lambda f, g: f - 0 * g, lambda f, g, df, dg: df),
    "f g": (lambda f, g: f * g, lambda f, g, df, dg: df * g + f * dg),
    "f f g": (lambda f, g: f * f * g, lambda f, g, df, dg: 2 * f * df * g + f * f * dg),
    "f / (1 + g g)": (
        lambda f, g: f / (1 + g * g),
        lambda f, g, df, dg: (df * (1 + g * g) - f * 2 * g * dg) / (1 + g * g) ** 2,
    ),
}


@steady
@given(pairs)
def test_linearity_the_product_rule_and_the_quotient_rule(pair: tuple[Program, Program]) -> None:
    f, g = pair
    point = f.inputs
    (by_f, _), (by_g, _) = swept(f, point), swept(g, point)
    for combine, slope in COMBINED.values():
        got, sizes = swept(lambda *xs, combine=combine: combine(f(*xs), g(*xs)), point)
        expected = [slope(f(*point), g(*point), df, dg) for df, dg in zip(by_f, by_g, strict=True)]
        assert_same(got, expected, sizes)


@steady
@given(some, st.integers(0, 19))
def test_the_chain_rule_holds_over_any_cut(program: Program, cut: int) -> None:
    """Everything before the cut is an input of the rest: the slopes of the two parts multiply and add up."""
    cut %= len(program.steps) + 1
    head, point = Program(program.inputs, program.steps[:cut]), program.inputs
    tail = Program(tuple(head.run(point)), program.steps[cut:])
    got, sizes = swept(program, point)

    by_cut, _ = swept(tail, tail.inputs)
    expected = [0 * x for x in point]
    results = head.graph()
    for result, slope in zip(results, by_cut, strict=True):
        expected = plus(expected, times(slope, gradients(result, results[: len(point)])))
    assert_same(got, expected, sizes)


@steady
@given(some, st.lists(factors, min_size=4, max_size=4))
def test_the_pullback_is_linear(program: Program, weights: list[Fraction]) -> None:
    kind = type(program.inputs[0])
    u, v = [*map(kind, weights[:2])], [*map(kind, weights[2:])]

    def f(*xs: Any) -> list[Any]:
        return program.run([*xs, *xs])[-2:]

    value, pullback = vjp(f, *program.inputs)
    assert value == f(*program.inputs)
    leaves = [Value(x) for x in program.inputs]
    adjoints = [absolute_adjoint(out) for out in f(*leaves)]
    sizes = [8 * sum(a.get(x, 0.0) for a in adjoints) for x in leaves]
    assert_same(pullback(plus(u, v)), plus(pullback(u), pullback(v)), sizes)


# --- Changes that change nothing, to the last bit -------------------------------------------------------------
@steady
@given(some, st.randoms(use_true_random=False), st.lists(st.text(max_size=3), min_size=1, max_size=5))
def test_permuted_inputs_have_permuted_gradients_and_labels_change_nothing(
    program: Program, random: Any, labels: list[str]
) -> None:
    """The program gets the same numbers from leaves made, and handed over, in another order."""
    n = len(program.inputs)
    places = list(range(n))
    random.shuffle(places)
    made = [Value(program.inputs[place]) for place in places]

    def permuted(*xs: Any) -> Any:
        return program(*[xs[places.index(i)] for i in range(n)])

    root = permuted(*made)
    for i, node in enumerate(topological_order(root)):
        node.label = labels[i % len(labels)]
    root.backward()
    straight, _ = swept(program, program.inputs)
    assert [x.grad for x in made] == [straight[place] for place in places] == gradients(root, made)
    slopes = grad(permuted, tuple(range(n)))(*[x.data for x in made])
    assert list(slopes) == [x.grad for x in made]


@steady
@given(pairs)
def test_dead_branches_get_nothing_and_change_nothing(pair: tuple[Program, Program]) -> None:
    """The second program grows on results of the first, on which its own result does not depend."""
    live, dead = pair
    results, alone = live.graph(), live.graph()
    branch = dead.run(results)
    results[-1].backward()
    alone[-1].backward()
    assert [x.grad for x in results] == [x.grad for x in alone]
    unused = set(topological_order(branch[-1])) - set(topological_order(results[-1]))
    assert branch[-1] in unused
    assert all(repr(x.grad) == "0.0" for x in unused)
    assert gradients(results[-1], list(unused)) == [0] * len(unused)


@steady
@given(st.tuples(rounded, rounded), st.booleans())
def test_the_side_that_was_not_taken_gets_zero(pair: tuple[Program, Program], first: bool) -> None:
    """`where(condition, f, g)` has the gradient of one of the two, and 0 by every node of the other alone."""
    f, g = pair
    leaves = [Value(x) for x in f.inputs]
    condition = Value(float(first))
    sides = [f.run(leaves), g.run(leaves)]
    tg.where(condition, sides[0][-1], sides[1][-1]).backward()
    assert [x.grad for x in leaves] == swept(f if first else g, f.inputs)[0]
    assert condition.grad == 0
    assert all(x.grad == 0 for x in sides[first][len(leaves) :])


NEUTRAL: dict[str, Function] = {
    "x + 0": lambda x: x + 0,
    "0 + x": lambda x: Value(0 * x.data) + x,
    "x - 0": lambda x: x - 0,
    "x * 1": lambda x: x * 1,
    "1 * x": lambda x: 1 * x,
    "x / 1": lambda x: x / 1,
    "x ** 1": lambda x: x**1,
    "neg(neg(x))": lambda x: operator.neg(-x),
    "sum(x)": lambda x: tg.sum(x),
    "max(x)": lambda x: tg.max(x),
    "where(1, x, 0)": lambda x: tg.where(Value(1 + 0 * x.data), x, Value(0 * x.data)),
}


def with_one_result_replaced(program: Program, place: int, by: Function) -> tuple[list[Value], list[Value]]:
    """The leaves, and the results, of which number `place`, an input or not, goes through `by`."""
    leaves = [Value(x) for x in program.inputs]
    if place < len(leaves):
        return leaves, program.run([by(x) if i == place else x for i, x in enumerate(leaves)])
    return leaves, program.run(leaves, replaced=place, by=by)


@steady
@given(st.sampled_from(list(NEUTRAL)), some, st.integers(0, 19))
def test_a_neutral_operation_changes_nothing(neutral: str, program: Program, place: int) -> None:
    """By any result of the program, an input or not."""
    place %= len(program.inputs) + len(program.steps)
    leaves, results = with_one_result_replaced(program, place, NEUTRAL[neutral])
    results[-1].backward()
    plain = program.graph()
    plain[-1].backward()
    assert [x.data for x in results] == [x.data for x in plain]
    assert [x.grad for x in results] == [x.grad for x in plain]
    assert [x.grad for x in leaves] == [x.grad for x in plain[: len(leaves)]]


SPLIT: dict[str, Function] = {
    "x + x - x": lambda x: x + x - x,
    "x * 2 - x": lambda x: x * 2 - x,
    "dot([x, x], [2, -1])": lambda x: tg.dot([x, x], [type(x.data)(2), type(x.data)(-1)]),
    "max(x, x, x)": lambda x: tg.max(x, x, x),
    "min(x, x)": lambda x: tg.min(x, x),
    "where(x, x, x)": lambda x: tg.where(x, x, x),
}


@steady
@given(st.sampled_from(list(SPLIT)), some)
def test_shares_that_were_split_come_together_again(split: str, program: Program) -> None:
    """Every input goes in by several ways at once, and is not rounded."""
    got, sizes = swept(lambda *xs: program(*map(SPLIT[split], xs)), program.inputs)
    assert_same(got, swept(program, program.inputs)[0], sizes)


@steady
@given(some, st.randoms(use_true_random=False))
def test_the_order_of_a_sum_does_not_matter(program: Program, random: Any) -> None:
    places = list(range(len(program.inputs) + len(program.steps)))
    random.shuffle(places)

    def permuted(*xs: Any) -> list[Any]:
        results = program.run(xs)
        return [results[place] for place in places]

    expected, sizes = swept(lambda *xs: tg.sum(program.run(xs)), program.inputs)
    for total in (tg.sum, lambda terms: reduce(operator.add, terms), sum):
        got, _ = swept(lambda *xs, total=total: total(permuted(*xs)), program.inputs)
        assert_same(got, expected, sizes)


FORMULAS: dict[str, tuple[Function, Function]] = {  # of a and b, from -4 to 4
    "the max by abs": (lambda a, b: tg.max(a, b), lambda a, b: (a + b + abs(a - b)) / 2),
    "the min by max": (lambda a, b: tg.min(a, b), lambda a, b: -tg.max(-a, -b)),
    "abs by max": (lambda a, b: abs(a), lambda a, b: tg.max(a, -a)),
    "a power by products": (lambda a, b: a**3 * b**2, lambda a, b: a * a * a * (b * b)),
    "a quotient by a power": (lambda a, b: a / (1 + b * b), lambda a, b: a * (1 + b * b) ** -1),
    "dot by sums": (lambda a, b: tg.dot([a, b, a], [b, b, a]), lambda a, b: a * b + b * b + a * a),
    "sub by neg": (lambda a, b: a - b, lambda a, b: -b + a),
    "a power by exp": (lambda a, b: (1 + a * a) ** b, lambda a, b: tg.exp(b * tg.log1p(a * a))),
    "sqrt by a power": (lambda a, b: tg.sqrt(1 + a * a), lambda a, b: (1 + a * a) ** 0.5),
    "tan by sin and cos": (lambda a, b: tg.tan(a / 4), lambda a, b: tg.sin(a / 4) / tg.cos(a / 4)),
    "the sine of a sum": (lambda a, b: tg.sin(a + b), lambda a, b: tg.sin(a) * tg.cos(b) + tg.cos(a) * tg.sin(b)),
    "atan by asin": (lambda a, b: tg.atan(a), lambda a, b: tg.asin(a / tg.sqrt(1 + a * a))),
    "asin by acos": (lambda a, b: tg.asin(a / 5), lambda a, b: -tg.acos(a / 5)),
    "tanh by sinh and cosh": (lambda a, b: tg.tanh(a), lambda a, b: tg.sinh(a) / tg.cosh(a)),
    "sinh by exp": (lambda a, b: tg.sinh(a), lambda a, b: (tg.exp(a) - tg.exp(-a)) / 2),
    "expm1 by exp": (lambda a, b: tg.expm1(a), lambda a, b: tg.exp(a) - 1),
    "sigmoid by tanh": (lambda a, b: tg.sigmoid(a), lambda a, b: (1 + tg.tanh(a / 2)) / 2),
    "silu by sigmoid": (lambda a, b: tg.silu(a), lambda a, b: a * tg.sigmoid(a)),
    "gelu by erf": (lambda a, b: tg.gelu(a), lambda a, b: a * (1 + tg.erf(a / 2**0.5)) / 2),
    "erfc by erf": (lambda a, b: tg.erfc(a), lambda a, b: 1 - tg.erf(a)),
    "softplus by logsumexp": (lambda a, b: tg.softplus(a - b), lambda a, b: tg.logsumexp(a, b) - b),
    "logsumexp by log": (lambda a, b: tg.logsumexp(a, b), lambda a, b: tg.log(tg.exp(a) + tg.exp(b))),
}


@steady
@given(programs(max_nodes=8))
def test_two_formulas_of_one_function_have_one_gradient(program: Program) -> None:
    """Of two results of a program, so that the slopes go on to whatever those were made from."""
    for formulas in FORMULAS.values():
        ways = [swept(lambda *xs, f=f: f(*program.run([*xs, *xs])[-2:]), program.inputs) for f in formulas]
        (got, sizes), (expected, others) = ways
        assert_same(got, expected, plus(sizes, others))


ONE = ["-a", "(a + b) / 2", "(a - b) / 2", "2 * a / 4", "sum(a, b, c) / 3", "relu(a)", "abs(a)", "max(a, b)"]
ONE += ["min(a, b)", "max(a, b, c)"]
first_degree = programs(ONE, max_nodes=14) | programs(ONE, max_nodes=14, kind=Fraction)


@steady
@given(first_degree)
def test_eulers_identity_for_degree_one_holds_at_kinks_too(program: Program) -> None:
    """x . f'(x) = f(x), and at twice the point the slopes are the same."""
    point = program.inputs
    got, sizes = swept(program, point)
    size = sum(abs(float(x)) * s for x, s in zip(point, sizes, strict=True))
    assert_same([sum(map(operator.mul, point, got))], [program(*point)], [size])
    assert swept(program, times(2, point))[0] == got
