"""Random programs: reverse mode = forward mode = exact arithmetic."""

from collections import Counter
from fractions import Fraction

import mpmath as mp
import pytest
from hypothesis import given, settings

import tinygrad_edu as tg
from tinygrad_edu import RULES, Value, gradients, jvp, topological_order
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


def test_every_rule_is_drawn_and_so_are_shared_and_repeated_operands() -> None:
    drawn: Counter[str] = Counter()

    @settings(deadline=None, max_examples=400, derandomize=True, database=None)
    @given(programs())
    def draw(program: Program) -> None:
        uses: Counter[Value] = Counter()
        for node in topological_order(program.graph()[-1]):
            drawn[node.rule.name if node.rule else "leaf"] += 1
            drawn["repeated operand"] += len(set(node.parents)) < len(node.parents)
            uses.update(set(node.parents))
        drawn["shared node"] += any(count > 1 and node.rule for node, count in uses.items())

    draw()
    rare = {name: drawn[name] for name in {*TEMPLATES, "repeated operand", "shared node"} if drawn[name] < 5}
    assert not rare


@steady
@given(programs())
def test_every_draw_is_a_tame_program(program: Program) -> None:
    assert all(abs(x) <= 4.000001 for x in program.run(program.inputs))


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
