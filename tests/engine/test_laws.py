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
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, grad, gradients, topological_order
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
