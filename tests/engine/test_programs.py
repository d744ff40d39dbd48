"""Random programs: reverse mode = forward mode = exact arithmetic; and what calculus promises about every program.

Both sides of a law are computed by the engine, on the same drawn programs: on floats they agree up to rounding,
relative to the absolute adjoint, on Fractions exactly. Where the law asks for the same operations in the same
order, floats agree exactly too. test_state.py has the laws of `backward` itself, test_policy.py ties, kinks and
sides that are not taken, test_calculus.py symmetric hessians and transposes.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import mpmath as mp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import RULES, Value, grad, gradients, jvp, topological_order
from tinygrad_edu.testing import (
    SMOOTH,
    Program,
    absolute_adjoint,
    assert_near,
    complex_step,
    decisions,
    mathematical,
    path_sum,
    programs,
)
from tinygrad_edu.testing.check.oracles import Dual
from tinygrad_edu.testing.check.random_program import TEMPLATES

steady = settings(deadline=None)
rationals = programs(kind=Fraction, max_nodes=24, max_inputs=3)


def below(root: Value, results: list[Value]) -> list[Value]:
    """The results that root depends on."""
    order = set(topological_order(root))
    return [x for x in results if x in order]


def test_every_rule_is_drawn_tamely_and_so_are_shared_and_repeated_operands() -> None:
    drawn: Counter[str] = Counter()

    @settings(deadline=None, max_examples=400, derandomize=True, database=None)
    @given(programs())
    def draw(program: Program) -> None:
        results, uses = program.graph(), Counter[Value]()
        assert all(abs(x.data) <= 4.000001 for x in results)  # none is far from the others
        for node in topological_order(results[-1]):
            drawn[node.rule.name if node.rule else "leaf"] += 1
            drawn["repeated operand"] += len(set(node.parents)) < len(node.parents)
            uses.update(set(node.parents))
        drawn["shared node"] += any(count > 1 and node.rule for node, count in uses.items())

    draw()
    rare = {name: drawn[name] for name in {*TEMPLATES, "repeated operand", "shared node"} if drawn[name] < 5}
    assert not rare


@steady
@given(programs())
def test_reverse_mode_is_forward_mode(program: Program) -> None:
    results = program.graph()
    root, scale = results[-1], absolute_adjoint(results[-1])
    root.backward()
    for i, x in enumerate(results[: len(program.inputs)]):
        unit = tuple(float(i == j) for j in range(len(program.inputs)))
        value, slope = jvp(program, program.inputs, unit)
        dual = program(*map(Dual, program.inputs, unit))
        assert value == dual.data == root.data
        assert_near(x.grad, slope, scale.get(x, 0.0))
        assert_near(x.grad, dual.slope, scale.get(x, 0.0))


@steady
@given(rationals)
def test_rational_programs_have_exact_gradients(program: Program) -> None:
    results = program.graph()
    root, leaves = results[-1], results[: len(program.inputs)]
    assert [x.data for x in results] == program.run(program.inputs)
    root.backward()
    exact = [path_sum(root, x) for x in leaves]
    assert [x.grad for x in leaves] == exact == gradients(root, leaves)
    assert [x.data for x in gradients(root, leaves, create_graph=True)] == exact
    assert all(isinstance(x.grad, Fraction) for x in below(root, leaves))

    rounded = program.graph(float)
    if decisions(rounded[-1]) == decisions(root):
        rounded[-1].backward()
        scale = absolute_adjoint(rounded[-1])
        for x, slope in zip(rounded, exact, strict=False):
            assert_near(x.grad, slope, scale.get(x, 0.0))


@steady
@given(programs(SMOOTH, max_nodes=30, max_inputs=3))
def test_gradients_agree_with_mathematics(program: Program) -> None:
    """Every operation mpmath's own, the derivative a difference; and once more by a step off the real line."""
    results = program.graph()
    results[-1].backward()
    scale = absolute_adjoint(results[-1])
    for oracle in (mathematical, complex_step):
        for x, exact in zip(results, oracle(program, *program.inputs), strict=False):
            assert_near(x.grad, exact, scale.get(x, 0.0))


def test_a_slope_that_is_wrong_by_a_billionth_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RULES["sin"], "backward", lambda upstream, out, x: (upstream * tg.cos(x) * (1 + 1e-9),))
    program = Program((0.5,), (("sin(a)", (0, 0, 0, 0)),))
    with pytest.raises(AssertionError, match="allowed are"):
        test_gradients_agree_with_mathematics.hypothesis.inner_test(program)


def test_a_constant_of_one_kind_does_not_reach_programs_of_another() -> None:
    x = Value(2.0)
    assert isinstance((x ** mp.mpf(0.375)).data, mp.mpf)
    assert isinstance((x**0.375).data, float)
    assert isinstance(tg.leaky_relu(-x, alpha=Fraction(3, 8)).data, float)
    assert isinstance(tg.leaky_relu(Value(Fraction(-2)), alpha=0.375).data, float)


# --- Laws -----------------------------------------------------------------------------------------------------
Function = Callable[..., Any]

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
