"""Layer 5, metamorphic laws: what calculus promises about every program, whatever its derivative is.

Both sides of a law are computed by the engine, on the same drawn programs: on floats they agree up to rounding,
relative to the absolute adjoint, on Fractions exactly. Where the law asks for the same operations in the same
order, floats agree exactly too.

test_state.py has the laws of `backward` itself: upstream, accumulation, copies, interior gradients, and that what
a result does not use gets nothing. test_policy.py has ties, kinks and sides that are not taken, test_calculus.py
the laws of derivatives of functions: symmetric hessians, transposes, forward = reverse.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_edu import Value, grad, gradients, topological_order
from tinygrad_edu.testing import absolute_adjoint, assert_near
from tinygrad_edu.testing.check.random_program import Program
from tinygrad_edu.testing.check.strategies import programs

Function = Callable[..., Any]

steady = settings(deadline=None)
rounded, exact = programs(max_nodes=14), programs(kind=Fraction, max_nodes=10)
some = rounded | exact
pairs = st.tuples(rounded, rounded) | st.tuples(exact, exact)  # a Program takes any number of inputs


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
        local = gradients(result, results[: len(point)])
        expected = [x + slope * y for x, y in zip(expected, local, strict=True)]
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
