"""Straight-line Python computes what the eager engine computes, or raises an error that hands over to it."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from cases import FEWER, python
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import RULES, Value, nn
from tinygrad_edu.compiler.backends.scalars import GUARDED, Scalars
from tinygrad_edu.compiler.run.build import Request
from tinygrad_edu.compiler.run.pointwise import Pointwise
from tinygrad_edu.testing import Program, absolute_adjoint, programs

ERRORS = (OverflowError, ValueError, ZeroDivisionError)
inf, nan = math.inf, math.nan
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -3.0, 64.0, -710.0, 710.0, 1e-310, 1e200, -1e200, inf, -inf, nan]
special = st.sampled_from(SPECIAL)


def compiled(function, numbers, inputs=(), shapes=()):
    """A program with the method run() of function(parameters, *inputs), and a Value for every number."""
    parameters = [Value(x, f"w{i}") for i, x in enumerate(numbers)]
    return straight(lambda *xs: function(parameters, *xs), parameters, shapes), parameters


def straight(function, parameters, shapes):
    arrays = [np.zeros((1, *shape)) for shape in shapes]
    try:
        build = Pointwise(function, parameters)._programs.of(Request(tuple(shapes), True), arrays)
        return SimpleNamespace(source=build.source, run=build.namespace["run"])
    except TypeError:  # it has several outputs
        both = Pointwise(lambda *xs: (function(*xs)[0], function(*xs)), parameters, with_outputs=True)
        build = both._programs.of(Request(tuple(shapes), True, True), arrays)

    def run(numbers, flat):
        outputs, gradient = build.namespace["run"](numbers, flat)
        return outputs[1:], gradient

    return SimpleNamespace(source=build.source, run=run)


def same(a: float, b: float, size: float = 0.0) -> bool:
    return (a != a and b != b) or a == b or abs(a - b) <= 1e-12 * (size + 1)


def check(function, numbers, inputs=(), shapes=(), must_run=False, cancels=False, drops=False) -> None:
    """The program gives the eager result and gradient, or raises what lets the eager engine decide.

    cancels: is it a sum whose terms may be larger than the result?
    drops: may a path of slope 0, as through sign or where, end at inf? The engine's 0 * inf is nan.
    """
    program, parameters = compiled(function, [1.0] * len(numbers), inputs, shapes)
    for parameter, number in zip(parameters, numbers, strict=True):
        parameter.data = number
    flat = [list(x) if shape else [x] for x, shape in zip(inputs, shapes, strict=True)]
    try:
        outputs, gradient = program.run(numbers, flat)
    except ERRORS:
        assert not must_run
        return
    result = function(parameters, *inputs)
    results = result if isinstance(result, list) else [result]
    results = [x if isinstance(x, Value) else Value(x) for x in results]
    results[0].backward()
    finite = all(math.isfinite(x.data) for x in tg.topological_order(results[0]))
    size = absolute_adjoint(results[0]) if finite else {}
    assert all(type(x) is float for x in [*outputs, *gradient])
    for got, exact in zip(outputs, results, strict=True):
        largest = max(abs(x.data) for x in tg.topological_order(exact)) if cancels else abs(exact.data)
        assert same(got, exact.data, largest), (got, exact, program.source)
    for got, p in zip(gradient, parameters, strict=True):
        dropped = drops and got == 0 and p.grad != p.grad
        assert dropped or same(got, p.grad, size.get(p, abs(p.grad))), (got, p, program.source)


# --- Random programs ------------------------------------------------------------------------------------------
@FEWER
@given(programs())
def test_every_result_can_be_an_output(program: Program) -> None:
    check(lambda w: program.run(w)[::-1], program.inputs)


@FEWER
@given(programs(max_nodes=20), st.data())
def test_special_numbers_are_no_silent_difference(program: Program, data: st.DataObject) -> None:
    check(lambda w: program(*w), [data.draw(special) for _ in program.inputs], drops=True)


def test_a_slope_of_0_hides_no_infinite_operand() -> None:
    check(lambda w: tg.sign(w[0] * w[0] / 4), [math.inf])


@pytest.mark.parametrize("name", RULES)
@FEWER
@given(st.data())
def test_every_rule_at_special_numbers(name: str, data: st.DataObject) -> None:
    rule = RULES[name]
    n = rule.n_inputs or 2 * data.draw(st.integers(1, 2))
    if rule.parameters:
        choices = [-3, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 5, inf, nan] if name == "pow_n" else [0.0, 0.25, -1.0]
        rule = rule.bind(**{key: data.draw(st.sampled_from(choices)) for key in rule.parameters})
    numbers = [data.draw(special | st.floats(-3, 3)) for _ in range(n)]
    check(lambda w: rule(*w) * 1.5, numbers, cancels=name in ("sum", "dot"))


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
@FEWER
@given(st.data())
def test_a_rule_in_the_branch_that_is_not_taken(name: str, data: st.DataObject) -> None:
    """Eagerly, both branches are computed: an error in either is an error."""
    rule = RULES[name]
    n = rule.n_inputs or 2
    numbers = special.filter(lambda x: x == x) if name == "sign" else special  # its slope is 0 here, also at nan
    check(lambda w: tg.where(w[0] > 0, 2 * rule(*w[1:]), w[0]), [data.draw(numbers) for _ in range(n + 1)])


def test_an_error_in_what_turns_out_to_be_superfluous() -> None:
    program, _ = compiled(lambda w: tg.where(1.0, w[0], tg.log(w[1])), [2.0, 3.0])
    assert program.run([2.0, 3.0], []) == ([2.0], [1.0, 0.0])
    with pytest.raises(ValueError, match="math domain error"):
        program.run([2.0, -3.0], [])


@pytest.mark.parametrize("numbers", [[0.5] * 50, list(range(50)), [*range(49), nan], [1e300] * 50, [-inf] * 50])
@pytest.mark.parametrize("name", ["sum", "dot", "max", "min", "logsumexp"])
def test_reductions_of_many_inputs_are_short(name: str, numbers) -> None:
    check(lambda w: RULES[name](*w), [float(x) for x in numbers])


def chain(w):
    y = w[0]
    for i in range(2_000):
        y = y * w[1] if i % 2 else y + w[0]
    return y


def test_no_line_is_long() -> None:
    check(chain, [0.5, 0.999], must_run=True)
    for function in (chain, tg.softmax):
        program, _ = compiled(function, [1.0] * 200)
        assert max(map(len, program.source.splitlines())) <= 115


def test_a_backward_with_the_wrong_number_of_shares_is_the_eager_error() -> None:
    @tg.rule(backward=lambda upstream, out, x, y: (upstream,))
    def lossy(x, y):
        return x + y

    program, _ = compiled(lambda w: lossy(*w), [1.0, 2.0])
    with pytest.raises(TypeError, match=r"backward of lossy must return 2 share"):
        program.run([1.0, 2.0], [])


def test_rules_that_fail_by_themselves_are_those_of_ours_with_a_domain() -> None:
    assert set(GUARDED) == {name for name, r in RULES.items() if r.domain or r.check}


# --- The source -----------------------------------------------------------------------------------------------
def neuron(w, x):
    return tg.tanh(w[0] * x[0] + w[1] * x[1] + w[2])


NEURON = '''"""Straight-line Python, written by tinygrad_edu.

run(parameters, inputs) returns the outputs, and the gradient of the first for the parameters.
What overflows or is not defined raises OverflowError, ValueError or ZeroDivisionError.
"""

from math import exp, isfinite, tanh


def run(parameters, inputs):
    [w0, w1, w2] = parameters
    [x0, x1] = inputs[0]

    # forward
    Z1 = w0 * x0 + w1 * x1 + w2
    loss = tanh(Z1)

    # backward: dZ1 is the derivative of the first output for Z1
    t1 = abs(Z1)
    t2 = exp(-2.0 * t1)
    t3 = 1.0 + t2
    dZ1 = 1.0 - loss * loss if t1 < 0.5 else 4.0 * t2 / (t3 * t3)

    outputs = [loss]
    gradient = [
        dZ1 * x0,  # w0
        dZ1 * x1,  # w1
        dZ1,  # w2
    ]
    if not isfinite(sum(gradient, outputs[0])):
        raise OverflowError("a result is inf or nan")
    return outputs, gradient
'''


def test_the_source_reads_like_python_and_runs_on_its_own() -> None:
    w = [Value(x, f"w{i}") for i, x in enumerate([0.5, -1.0, 0.25])]
    program = straight(lambda x: neuron(w, x), w, [(2,)])
    assert program.source == NEURON
    fresh: dict = {"__builtins__": {"__import__": __import__, "abs": abs, "sum": sum}}
    exec(program.source, fresh)
    assert fresh["run"]([0.5, -1.0, 0.25], [[1.0, 2.0]]) == program.run([0.5, -1.0, 0.25], [[1.0, 2.0]])


def test_a_label_that_looks_like_a_name_of_ours_is_kept() -> None:
    """The variables of that name get an underscore."""
    w = [Value(x, label) for x, label in [(0.5, "sum_1"), (-1.0, "t1"), (0.25, "dZ1")]]
    program = straight(lambda x: neuron(w, x), w, [(2,)])
    assert "sum_1_ = sum_1 * x0 + t1 * x1 + dZ1\n" in program.source
    assert program.source.count("t1_ = abs(sum_1_)") == 1
    assert program.run([0.5, -1.0, 0.25], [[1.0, 2.0]])[0] == [math.tanh(-1.25)]


def test_what_the_outputs_do_not_use_is_left_out() -> None:
    def function(w, x):
        (w[1] * x).exp()
        return w[0] * x + tg.exp(x * 3) * Value(2.0).log()

    program, _ = compiled(function, [1.0, 2.0], shapes=[()])
    assert program.source.count("exp(") == 1
    assert "d_w" not in program.source
    assert program.run([1.0, 2.0], [[0.5]])[1] == [0.5, 0.0]


def test_outputs_that_are_constants_parameters_or_truths() -> None:
    program, _ = compiled(lambda w: tg.sum(w), [0.0] * 3)
    assert program.run([1e16, 1.0, -1e16], [])[0][0] in (0.0, 1.0)  # in the order of the terms
    check(lambda w: [Value(3.0), w[0]], [1.0])
    check(lambda w: [w[0], w[1], w[0]], [1.0, 2.0])
    program, _ = compiled(lambda w: [w[0] > 0, w[0]], [1.0])
    assert program.run([2.0], []) == ([1.0, 2.0], [0.0])


def test_a_long_sum_in_a_loop_has_parts_with_names_of_their_own() -> None:
    """The adjoint of h is an item of a list. Its sum is longer than a line."""

    def loss(w, x):
        h = x * w[0]
        for _ in range(12):
            gates = [tg.tanh(h * (0.123456789 * i + 1 / 3)) for i in range(7)]
            h = tg.sum(gates) * w[0] + h * gates[0]
        return h

    check(loss, [0.3], [0.3], [()], must_run=True)


# --- tg.compile(..., backend="python"): what it takes ---------------------------------------------------------
def point(function=None, **options):
    """A compiled function of one argument, and its two parameters."""
    a, b = Value(2.0, "a"), Value(-1.0, "b")
    return tg.compile(function or (lambda x: a * x + b * x * x), [a, b], backend="python", **options), [a, b]


def test_numbers_in_the_vector_may_be_of_any_kind() -> None:
    step, (a, _) = point()
    for number in (5, True, Fraction(5, 2), np.float32(2.5), np.int64(5), inf, nan):
        with step.arrays() as theta:
            theta[0] = number
            value, gradient = step.value_and_grad([1.0])
            assert [type(x) for x in [value, *gradient]] == [float] * 3
            assert same(value, float(number) - 1.0)
        assert type(a.data) is float
        assert same(a.data, float(number))


def test_rows_of_no_numbers() -> None:
    a = Value(2.0)
    assert tg.compile(lambda x: a * 3 + len(x), [a], backend="python").value_and_grad([[], []]) == (6.0, [3.0])


@pytest.mark.parametrize("index", [0.5, nan, inf, 4.0, -1.0])
def test_what_is_no_index_is_the_eager_error(index: float) -> None:
    table = nn.Embedding(4, 2, rng=0)
    step = tg.compile(lambda i: tg.sum(table(i)), table.parameters(), backend="python")
    with pytest.raises(IndexError, match=f"has the indices 0 to 3, got {index}"):
        step([index])
    program = straight(lambda i: nn.nll([tg.sum(w) for w in table.W], i), table.parameters(), [()])
    with pytest.raises(ValueError, match="is no index from 0 to 3"):
        program.run([p.data for p in table.parameters()], [[index]])


def test_where_math_raises_the_engine_computes_the_example_also_on_a_branch() -> None:
    step, _ = point(lambda x: [tg.exp(x), x][x.data < -1])
    assert step.predict([800.0, 0.0, 800.0]) == [inf, 1.0, inf]


def test_the_only_dtype_is_float64() -> None:
    for dtype in ("float64", float, "float", "f8", "<f8", "double", "d", np.float64, np.dtype("float64")):
        assert point(dtype=dtype)[0]([1.0]) == 1.0
    for dtype in ("float32", np.float32, "f4", int, "int64", "real", Fraction, 8, np.ones(2), [1]):
        with pytest.raises(ValueError, match=r"are float64: leave dtype out|The dtype is"):
            point(dtype=dtype)


def test_the_source_runs_without_numpy() -> None:
    a = Value(2.0)
    step = tg.compile(lambda x: a * x[0] * x[1], [a], backend="python")
    assert step.value_and_grad([range(1, 3), (3, 4.0)]) == (14.0, [7.0])
    told = 'print(*run([3.0], [[3, 4.0]]))\nimport sys\nprint("numpy" in sys.modules)'
    assert python(f"{step.source}\n{told}") == "[36.0] [12.0]\nFalse\n"


def test_a_variable_gets_a_number_if_its_name_is_taken_often() -> None:
    scalars = Scalars.__new__(Scalars)
    scalars.taken, scalars._repeats = {"x"}, {}
    assert [scalars.variable("x") for _ in range(3)] == ["x_", "x_2_", "x_3_"]
