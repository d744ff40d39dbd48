"""The public strategies: what they draw, how it is printed and shrunk, and the errors of wrong arguments."""

import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath as mp
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import RULES, Interval, Value, rule, topological_order
from tinygrad_edu.nn import MLP
from tinygrad_edu.testing.check.random_program import SMOOTH, TEMPLATES, Program, expressions
from tinygrad_edu.testing.check.strategies import networks, programs, values

steady = settings(deadline=None)
searching = settings(deadline=None, derandomize=True, database=None, max_examples=2000)
any_will_do = settings(searching, phases=[Phase.generate])
smallest = settings(deadline=None, derandomize=True, database=None, phases=[Phase.generate, Phase.shrink])
KINDS = [float, Fraction, mp.mpf]
kinds = pytest.mark.parametrize("kind", KINDS)


def rules_of(program: Program) -> Counter[str]:
    return Counter(node.rule.name for node in topological_order(program.graph()[-1]) if node.rule)


def failure(test: Callable[[], None]) -> str:
    """What Hypothesis prints of a failing test."""
    with pytest.raises(AssertionError) as caught:
        smallest(test)()
    return "\n".join(caught.value.__notes__)


# --- values ---------------------------------------------------------------------------------------------------
@kinds
@steady
@given(data=st.data())
def test_values_are_fresh_leaves_of_their_kind_in_their_range(kind: Any, data: st.DataObject) -> None:
    low = data.draw(st.integers(-50, 50))
    high = low + data.draw(st.integers(0, 50))
    for bounds, ends in [
        ((None, None), (-10, 10)),
        ((low, high), (low, high)),
        ((None, 15), (-10, 15)),
        ((-15, None), (-15, 10)),
        ((None, -15), (-35, -15)),
        ((15, None), (15, 35)),
    ]:
        x, y = (data.draw(values(*bounds, kind=kind)) for _ in range(2))
        assert x is not y
        assert (type(x), type(x.data), x.rule, x.grad, x.label) == (Value, kind, None, 0.0, "")
        assert ends[0] <= x.data <= ends[1]
        assert x.data == 0 or abs(x.data) >= 2.0**-1022
        assert kind is not Fraction or x.data.denominator <= 8
    for tiny in ((0, 1e-310), (-1e-310, 0), (1e-310, 2.0**-1022), (-(2.0**-1022), -1e-310)):
        assert tiny[0] <= data.draw(values(*tiny)).data <= tiny[1]


def test_a_value_is_printed_as_it_was_before_the_test() -> None:
    @given(values(3.0), values(kind=Fraction))
    def test(x: Value, y: Value) -> None:
        (x * y).backward()
        assert y.data < 1

    printed = failure(test)
    assert "x=Value(3.0)" in printed
    assert "y=Value(Fraction(1, 1))" in printed


# --- programs: what is drawn ----------------------------------------------------------------------------------
def test_there_is_a_template_for_every_rule_of_ours() -> None:
    ours = {name for name, rule in RULES.items() if rule.ours}
    assert ours == TEMPLATES.keys()
    for name in ours:
        for expression in TEMPLATES[name]:
            assert rules_of(Program((0.5,), ((expression, (0, 0, 0, 0)),)))[name]


@steady
@given(st.sampled_from(KINDS), st.integers(2, 60), st.integers(1, 5), st.data())
def test_a_graph_has_max_nodes_at_most(kind: Any, max_nodes: int, max_inputs: int, data: st.DataObject) -> None:
    program = data.draw(programs(max_nodes=max_nodes, kind=kind, max_inputs=max_inputs))
    nodes = {node for result in program.graph() for node in topological_order(result)}
    assert len(nodes) <= max_nodes
    assert kind is not Fraction or all(type(node.data) is Fraction for node in nodes)
    assert 1 <= len(program.inputs) <= min(max_inputs, max_nodes - 1)
    assert program.steps
    assert all(type(x) is kind and abs(x) <= 4 for x in program.inputs)


def test_the_room_is_used() -> None:
    def nodes(program: Program) -> int:
        return len(topological_order(program.graph()[-1]))

    assert nodes(find(programs(), lambda p: nodes(p) >= 36, settings=any_will_do)) >= 36
    assert nodes(find(programs(["dot"], 4), lambda p: True, settings=any_will_do)) == 4
    assert (programs.__defaults__, programs.__kwdefaults__) == ((None, 40), {"kind": float, "max_inputs": 4})


def test_which_rules_keep_fractions_exact_and_what_an_expression_costs() -> None:
    exact = expressions(exact=True)
    assert {name for name, texts in TEMPLATES.items() if exact.keys() & set(texts)} == {
        *("neg", "add", "sub", "mul", "div", "abs", "pow_n", "relu", "where", "max", "min", "sum", "dot"),
        *("reciprocal", "mod", "sign", "detach"),
    }
    assert "(1 + a * a / 2) ** 0.5" not in exact
    assert list(expressions(["a * a"], exact=True)) == ["(a * a) / (1 + (a * a) ** 2)"]
    costs = {"tanh(a)": 1, "a * b / 4": 3, "log(1 + a * a)": 4, "a * b.data / 4": 4}
    assert expressions(["tanh", "log", "a * b / 4", "a * b.data / 4"]) == costs


@steady
@given(programs(SMOOTH))
def test_smooth_programs_have_no_kinks(program: Program) -> None:
    for name in rules_of(program):
        assert name != "where"
        assert not RULES[name].kinks
        assert not RULES[name].ties


@steady
@given(programs([tg.tanh, "mul", "log(2 + sin(b))"]))
def test_rules_names_and_expressions(program: Program) -> None:
    assert {text for text, _ in program.steps} <= {"tanh(a)", *TEMPLATES["mul"], "log(2 + sin(b))"}


# --- programs: rules of a user --------------------------------------------------------------------------------
def plain_backward(upstream: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
    return (upstream,) * len(inputs)


@pytest.mark.parametrize(
    ("domain", "expression"),
    [
        ((), "f(a)"),
        ((Interval(-1, 1),), "f(0 + a / 5)"),
        ((Interval(0, 1, open=True),), "f(Fraction(1, 2) + a / 10)"),
        ((Interval(0, 0.5),), "f(Fraction(1, 4) + a / 20)"),
        ((Interval(low=0, open=True),), "atan(f(Fraction(5, 2) + a / 2))"),
        ((Interval(low=1),), "atan(f(Fraction(7, 2) + a / 2))"),
        ((Interval(high=-0.5),), "atan(f(-3 + a / 2))"),
    ],
)
def test_a_template_is_made_from_the_domain(domain: tuple[Interval, ...], expression: str) -> None:
    f = rule(lambda x: x / 1, name="f", backward=plain_backward, domain=domain)
    assert list(expressions([f])) == list(expressions(["f"])) == [expression]

    @steady
    @given(programs([f]))
    def test_stays_inside(program: Program) -> None:
        for node in topological_order(program.graph()[-1]):
            if node.rule is f:
                x = node.parents[0].data
                assert all(interval.low < x < interval.high for interval in domain)
            elif node.rule and node.rule.name == "atan":
                assert abs(node.data) <= 4

    test_stays_inside()


def test_rules_of_several_inputs_are_drawn_when_asked_for() -> None:
    rule(lambda x, y: x - y, name="two", backward=plain_backward, domain=(Interval(low=0), Interval()))
    rule(lambda *xs: xs[0], name="some", backward=plain_backward, n_inputs=None)
    rule(lambda *xs: xs[0], name="five", backward=plain_backward, n_inputs=5)
    rule(lambda x, *, alpha=2.0: x, name="with_alpha", backward=lambda u, out, x, *, alpha: (u,))
    assert list(expressions(["two"])) == ["atan(two(Fraction(5, 2) + a / 2, b))"]
    assert list(expressions(["some"])) == ["some(a, b, c)"]
    assert list(expressions(["five"])) == ["five(a, b, c, d, a)"]
    assert list(expressions(["with_alpha"])) == ["with_alpha(a)"]
    rule(lambda x: x, name="mine", backward=plain_backward)
    assert not any("mine" in expression for expression in expressions())


def test_a_rule_with_a_check_needs_an_expression() -> None:
    def positive(x: Any) -> None:
        if x <= 0:
            raise ValueError("x must be positive")

    root = rule(lambda x: x, name="root", backward=plain_backward, check=positive)
    with pytest.raises(ValueError, match=r'root has a `check`.* such as "root\(1 \+ a \* a\)"'):
        programs([root])
    assert list(expressions(["root(1 + a * a)"])) == ["atan(root(1 + a * a))"]


def test_names_that_a_program_cannot_call() -> None:
    for name in ("a", "x1", "lambda", "two words", "Fraction"):
        rule(lambda x: x, name=name, backward=plain_backward)
        with pytest.raises(ValueError, match=f"cannot call a rule by the name {name!r}"):
            programs([name])


WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (values, {"min_value": 2, "max_value": 1}, ValueError, "range is empty: min_value=2 is above max_value=1"),
    *((values, {"min_value": x}, ValueError, f"finite numbers, got {x!r}") for x in (math.nan, "a")),
    (values, {"max_value": math.inf}, ValueError, "finite numbers, got inf"),
    (values, {"min_value": 1e-310, "max_value": 1e-310}, ValueError, "From 1e-310 to 1e-310 there are subnormal"),
    (
        values,
        {"min_value": -1e-310, "max_value": -1e-310},
        ValueError,
        "From -1e-310 to -1e-310 there are subnorm",
    ),
    (values, {"kind": int}, TypeError, "kind is float, fractions.Fraction or mpmath.mpf, got <class 'int'>"),
    (programs, {"max_nodes": 1}, ValueError, "max_nodes=1 is too small: one input and one step take 2 nodes"),
    (programs, {"rules": ["dot"], "max_nodes": 3}, ValueError, "max_nodes=3 is too small: .* take 4 nodes"),
    *((programs, {"max_inputs": n}, ValueError, f"got max_inputs={n!r}") for n in (0, "a")),
    (programs, {"kind": "float"}, TypeError, "kind is float, .*, got 'float'"),
    (programs, {"rules": ["mul", "tanh"], "kind": Fraction}, ValueError, "tanh does not keep Fractions exact"),
    (programs, {"rules": ["0.5 * a"], "kind": Fraction}, ValueError, "does not keep Fractions exact"),
    *((networks, {"max_inputs": n}, ValueError, rf"of 1 or more: \({n!r}, 4, 3\)") for n in (0, "a")),
    (networks, {"max_width": 0}, ValueError, r"of 1 or more: \(3, 0, 3\)"),
    (networks, {"max_layers": 0}, ValueError, r"of 1 or more: \(3, 4, 0\)"),
    (networks, {"activations": []}, ValueError, r"activations are one or more of linear, relu, .*; got \[\]"),
    (networks, {"activations": ["tanh", "sine"]}, ValueError, "activations are one or more of linear"),
    *(
        (programs, {"rules": rules}, error, message)
        for rules, error, message in (
            ([], ValueError, "rules is empty"),
            (["nope"], ValueError, "There is no rule 'nope'"),
            (["tanh", "log(a) +"], ValueError, r"'log\(a\) \+' is not a Python expression: invalid syntax\."),
            (["mish(a)"], ValueError, r"'mish\(a\)' has the name 'mish'"),
            (["tanh(x)"], ValueError, "has the name 'x': use a, b, c, d and the names of rules"),
            (["1 + 1"], ValueError, r"must compute one Value from a, b, c or d, got 2\."),
            (["[a, b]"], ValueError, r"must compute one Value from a, b, c or d, got \["),
            (["(a)"], ValueError, r"must compute one Value from a, b, c or d, got Value"),
            (["log(a)"], ValueError, "must be defined for numbers from -4 to 4, .*a, b, c, d = .*0 < x only"),
            (["exp(exp(2 * a))"], ValueError, r"is inf at a, b, c, d = .*: keep it finite"),
            ("tanh", TypeError, r"rules is a list of rules, names or expressions: write \['tanh'\]"),
            (tg.tanh, TypeError, r"write \[Rule\('tanh'\)\]"),
            ([3], TypeError, r"got 3 \(int\)"),
            ([tg.dot], TypeError, r"got <function dot .* \(function\)"),
            ([tg.leaky_relu.bind(alpha=0.2)], ValueError, r"alpha=0.2\) is not RULES\['leaky_relu'\]"),
        )
    ),
]


@pytest.mark.parametrize(("strategy", "arguments", "error", "message"), WRONG, ids=range(len(WRONG)))
def test_wrong_arguments(strategy: Any, arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        strategy(**arguments)


# --- programs: how they are printed and shrunk ----------------------------------------------------------------
@kinds
@steady
@given(data=st.data())
def test_a_program_of_any_kind_prints_as_the_python_that_it_runs(kind: Any, data: st.DataObject) -> None:
    program = data.draw(programs(kind=kind, max_nodes=20))
    session: dict[str, Any] = {}
    exec(repr(program), session)
    results = program.graph()
    results[-1].backward()
    assert {program: 1}[Program(program.inputs, program.steps)]
    for i, x in enumerate(results):
        assert (session[f"x{i}"].data, session[f"x{i}"].grad) == (x.data, x.grad)


def test_a_printed_program_fetches_what_it_needs() -> None:
    rule(lambda x: x, name="mish", backward=plain_backward)
    program = Program((mp.mpf(0.5), Fraction(1, 2)), (("mish(a) + b", (0, 1, 0, 0)), ("pow(a, b)", (0, 1, 0, 0))))
    assert program.run([1.0, 2.0], {"mish": lambda x: 5 * x, "pow": lambda x, y: x - y})[2:] == [11.0, 9.0]
    assert repr(program).splitlines() == [
        "",
        "from fractions import Fraction",
        "from mpmath import mpf",
        "from tinygrad_edu import *",
        'mish = RULES["mish"]',
        'pow = RULES["pow"]',
        "x0 = Value(mpf('0.5'))",
        "x1 = Value(Fraction(1, 2))",
        "x2 = mish(x1) + x0",
        "x3 = pow(x2, x1)",
        "x3.backward()",
    ]


def test_a_failure_prints_the_program() -> None:
    @given(program=programs(["tanh", "mul"]))
    def test(program: Program) -> None:
        assert "tanh" not in rules_of(program)

    program = "from tinygrad_edu import *\nx0 = Value(0.0)\nx1 = tanh(x0)\nx1.backward()\n"
    assert f"    program=\n{program}," in failure(test)


def last_lines(program: Program) -> list[str]:
    return [line for line in repr(program).splitlines() if line.startswith("x")]


def tanh_of_a_shared_node(program: Program) -> bool:
    order = topological_order(program.graph()[-1])
    uses = Counter(parent for node in order for parent in set(node.parents))
    return any(node.rule is tg.tanh and uses[node.parents[0]] > 1 for node in order)


@pytest.mark.slow
def test_the_smallest_programs() -> None:
    simplest = find(programs(["tanh", "(a + b) / 2"]), tanh_of_a_shared_node, settings=searching)
    assert last_lines(simplest) == ["x0 = Value(0.0)", "x1 = tanh(x0)", "x2 = (x1 + x0) / 2", "x2.backward()"]
    simplest = find(programs(), lambda program: "log" in rules_of(program), settings=searching)
    assert last_lines(simplest) == ["x0 = Value(0.0)", "x1 = log(1 + x0 * x0)", "x1.backward()"]


# --- networks -------------------------------------------------------------------------------------------------
def shape(net: MLP) -> tuple[int, list[int]]:
    return len(net.layers[0].neurons[0].w), [len(layer.neurons) for layer in net.layers]


@steady
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.data())
def test_networks_are_small_and_have_one_output(inputs: int, width: int, layers: int, data: st.DataObject) -> None:
    net = data.draw(networks(inputs, width, layers, ["tanh", "gelu"]))
    n, sizes = shape(net)
    assert 1 <= n <= inputs
    assert 1 <= len(sizes) <= layers
    assert max(sizes) <= width
    assert sizes[-1] == 1
    assert {layer.neurons[0].activation for layer in net.layers[:-1]} <= {"tanh", "gelu"}
    out = net([0.5] * n)
    out.backward()
    assert net.layers[-1].neurons[0].b.grad == 1.0
    assert topological_order(out)


def test_a_failure_prints_the_call_that_makes_the_network() -> None:
    @given(net=networks(activations=["tanh"]))
    def test(net: MLP) -> None:
        net([0.5] * shape(net)[0]).backward()
        assert len(net.layers) < 2

    printed = failure(test)
    call = printed[printed.index("MLP(") : printed.index(")") + 1]
    assert call == "MLP(1, [1, 1], activation='tanh', rng=0)"
    assert repr(eval(call)) == "MLP([Layer(1, 1, activation='tanh'), Layer(1, 1, activation='linear')])"
