"""A wrong program does not get through: faults in each stage of the compiler are seen by the comparison."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, elementary, nn
from tinygrad_edu.compiler import differentiate, loop_program, loops, lower, views
from tinygrad_edu.compiler.backends import numpy_operations, numpy_statements
from tinygrad_edu.compiler.loop_program import LoopProgram

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.eye(2)[[0, 1, 1, 0]]


def model_and_step(**options: Any) -> tuple[nn.MLP, Any]:
    model = nn.MLP(3, [4, 2], "tanh", rng=0)
    return model, tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), **options)


def expected() -> np.ndarray:
    model, _ = model_and_step()
    tg.sum([nn.cross_entropy(model(x), y) for x, y in zip(X.tolist(), Y.tolist(), strict=True)]).backward(0.25)
    return np.array([p.grad for p in model.parameters()])


def terms_reversed(original: Callable[..., Any]) -> Callable[..., Any]:
    def grid(self: Any, a: Any, b: Any) -> Any:
        return original(self, lower.Read(a.array, a.index[:, ::-1]), b)

    return grid


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a function for another": lambda patch: patch.setitem(
        numpy_operations.OPERATIONS, "tanh", numpy_operations.Ufunc("sin")
    ),
    "the sum over the batch forgotten": lambda patch: patch.setattr(
        numpy_operations.Reduce,
        "into",
        lambda self, x, to, statements: statements.write(f"{to}[...] = {statements.operand(x.args[0])}[0]"),
    ),
    "a bias that gets no gradient": lambda patch: patch.setattr(
        differentiate.ArrayProgram, "_through_part", lambda self, array, part, share: None
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_program_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch)
    model, step = model_and_step()
    before = [(p.data, p.grad) for p in model.parameters()]
    with pytest.raises(tg.CompileError, match="disagrees"):
        step.value_and_grad(X, Y)
    assert [(p.data, p.grad) for p in model.parameters()] == before


def test_without_the_comparison_it_would_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(numpy_operations.OPERATIONS, "tanh", numpy_operations.Ufunc("sin"))
    _, step = model_and_step(verify=False)
    assert abs(step.value_and_grad(X, Y)[1] - expected()).max() > 1e-3


WRONG_PRODUCTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "terms in the wrong order": lambda patch: patch.setattr(
        lower._Lowering, "_grid", terms_reversed(lower._Lowering._grid)
    ),
    "a factor not transposed": lambda patch: patch.setattr(numpy_operations, "transposed", lambda text: text),
}


@pytest.mark.parametrize("fault", WRONG_PRODUCTS)
def test_a_wrong_matrix_product_is_replaced_with_a_warning(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRONG_PRODUCTS[fault](monkeypatch)
    _, step = model_and_step()
    with pytest.warns(UserWarning, match="report"):
        _, gradient = step.value_and_grad(X, Y)
    np.testing.assert_allclose(gradient, expected(), rtol=1e-12, atol=1e-14)
    assert step.groups.title.endswith("0 matrix products")
    step.value_and_grad(X, Y)  # and no second warning


def recurrent(x: Any) -> Value:
    """A recurrence that reads two stages before, and an input at every stage."""
    h = [x[0], x[1]]
    for now in x[2:]:
        h.append(tg.sin(A * h[-1] + C * h[-2]) + now)
    return h[-1] * h[-3] + h[4]


A, C = Value(0.7, label="a"), Value(0.5, label="c")
ROW = np.random.default_rng(1).normal(size=(3, 16))


def other(name: str, change: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """A fault in a method of LoopProgram: its result is changed."""
    method = getattr(LoopProgram, name)
    return lambda patch: patch.setattr(
        LoopProgram, name, lambda self, *arguments, **options: change(method(self, *arguments, **options))
    )


def with_index(change: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """A fault in what a loop reads of an array outside."""
    window = loops._window
    return lambda patch: patch.setattr(
        loops, "_window", lambda loop, leaves, read, index, array: window(loop, leaves, read, change(index), array)
    )


FILL = LoopProgram._fill
WRONG_LOOPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a window one stage late": with_index(lambda index: np.roll(index, 1, axis=0)),
    "first states that are not given": lambda patch: patch.setattr(
        LoopProgram, "_fill", staticmethod(lambda *rows: replace(FILL(*rows), formula=0.0))
    ),
    "a gradient that stays in its stage": other("_added", lambda d: replace(d, formula=d.formula.args[0])),
    "no gradient after the loop": lambda patch: patch.setattr(loop_program, "all_stages", lambda *_: None),
    "stages the wrong way round": lambda patch: patch.setattr(
        numpy_statements, "BACKWARD", numpy_statements.BACKWARD.replace("reversed", "list")
    ),
    "a loop that is right at one length only": lambda patch: patch.setattr(
        numpy_statements, "FORWARD", "range({0} - ({0} == 11))"
    ),
}


@pytest.mark.parametrize("fault", WRONG_LOOPS)
def test_a_wrong_loop_is_replaced_with_a_warning(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = [A, C]
    right = tg.compile(recurrent, parameters)
    value, gradient = right.value_and_grad(ROW)
    assert "for t in range(12)" in right.source
    WRONG_LOOPS[fault](monkeypatch)
    step = tg.compile(recurrent, parameters)
    with pytest.warns(UserWarning, match="or a loop was found where there is none .*report"):
        found = step.value_and_grad(ROW)
    assert found[0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-12, atol=1e-14)
    assert "for t in" not in step.source


def changed(original: Callable[..., Any], change: Callable[..., Any]) -> Callable[..., Any]:
    """The function with another result, where it has one."""

    def other(*arguments: Any) -> Any:
        found = original(*arguments)
        return change(found) if found else found

    return other


def blocks(x: Any) -> Value:
    """Residual blocks with weights of their own."""
    h = x[:2]
    for weights in WEIGHTS:
        h = [a + tg.tanh(tg.dot(row, h)) for a, row in zip(h, weights, strict=True)]
    return h[0] * h[1]


WEIGHTS = [[[Value(0.1 * (i - j + k)) for j in range(2)] for i in range(2)] for k in range(12)]


def rows_moved(lowered: Any, roles: Any, stacked: Callable[..., Any] = loops._stacked) -> Any:
    """The program whose rows of parameters are those of the stage before."""
    found = stacked(lowered, roles)
    for array in found.arrays:
        if array.source == loops.PARAMETER:
            array.places = np.roll(array.places, array.size // len(array.places.reshape(array.shape)))
    return found


WRONG_ROWS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    name: WRONG_LOOPS[name]
    for name in ("first states that are not given", "no gradient after the loop", "stages the wrong way round")
} | {
    "the parameters of another stage": lambda patch: patch.setattr(loops, "_stacked", rows_moved),
    "a window one stage late": with_index(lambda index: np.roll(index, 1, axis=0)),
    "the row before": other("_first_row", lambda first: None if first is None else first - 1),
    "gradients of another stage": lambda patch: patch.setattr(
        numpy_operations,
        "_heads_first",
        changed(numpy_operations._heads_first, lambda text: f"{text}[::-1]" if text[:2] == "dZ" else text),
    ),
}


@pytest.mark.parametrize("fault", WRONG_ROWS)
def test_wrong_stages_with_weights_of_their_own_are_replaced(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = [w for block in WEIGHTS for row in block for w in row]
    right = tg.compile(blocks, parameters)
    value, gradient = right.value_and_grad(ROW)
    assert "for t in range(12)" in right.source
    WRONG_ROWS[fault](monkeypatch)
    step = tg.compile(blocks, parameters)
    with pytest.warns(UserWarning, match="or a loop was found where there is none .*report"):
        found = step.value_and_grad(ROW)
    assert found[0] == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-12, atol=1e-14)
    assert "for t in" not in step.source


def attend(x: Any) -> Value:
    """Shares of four places, pooled, and weighted column by column."""
    for _ in range(2):
        x = [[tg.sinh(a * s) for a in row] for row, s in zip(x, SCALES, strict=True)]
    columns = list(zip(*[tg.softmax([tg.dot(a, b) for b in x]) for a in x], strict=True))
    pooled = [tg.max(*columns[i][:2], *columns[i + 1][:2]) for i in (0, 2)]
    return tg.sum([(k + 2) * tg.exp(a) for k, a in enumerate(a for column in columns for a in column)]) + tg.sum(
        pooled
    )


SCALES = [Value(1.0 + i / 4, label=f"s{i}") for i in range(4)]


STAGES: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the rows of a softmax in another order": lambda patch: patch.setattr(
        lower, "_softmax", changed(lower._softmax, lambda found: (*found[:2], found[2][::-1]))
    ),
    "a softmax whose gradient forgets its mean": lambda patch: patch.setitem(
        numpy_operations.OPERATIONS, "vecdot", numpy_operations.Line("{to}[...] = 0 * ({0} * {1}).sum(axis=-1)")
    ),
    "digits in another order": lambda patch: patch.setattr(
        views, "digits_of", changed(views.digits_of, lambda digits: digits[::-1])
    ),
    "an inverse that is the view itself": lambda patch: patch.setattr(views.View, "inverse", lambda self: self),
    "a share of pooling for the wrong element": lambda patch: patch.setattr(
        differentiate, "_columns", changed(differentiate._columns, lambda columns: columns[:1] * 4)
    ),
    "a share that is set where it must be added": lambda patch: patch.setattr(
        numpy_operations.Scatter, "add", lambda *arguments: None
    ),
    "a sum over the batch of some shares only": lambda patch: patch.setattr(
        differentiate.ArrayProgram, "_reduced", lambda self, shares: shares[0]
    ),
}


@pytest.mark.parametrize("fault", STAGES)
def test_a_fault_in_each_stage_of_attention_is_seen(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(3, 4, 3))
    tg.compile(attend, SCALES).value_and_grad(rows)
    STAGES[fault](monkeypatch)
    with pytest.raises(tg.CompileError, match="disagrees"):
        tg.compile(attend, SCALES).value_and_grad(rows)


def test_zeros_hide_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(numpy_operations.OPERATIONS, "sin", numpy_operations.Ufunc("sinh"))  # alike at 0
    w = Value(1.0, label="w")
    with pytest.raises(tg.CompileError):
        tg.compile(lambda x: tg.sin(w * x), [w]).value_and_grad([0.0])


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_function_that_is_another_every_time_is_told_so(backend: str) -> None:
    w, calls = Value(1.0, label="w"), iter(range(1, 100))
    with pytest.raises(tg.CompileError, match=r"gives .* and then .* for the same numbers.*random") as caught:
        tg.compile(lambda x: w * x * next(calls), [w], backend=backend).value_and_grad([1.0, 2.0])
    assert "defect" not in str(caught.value)


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_function_that_changed_after_the_trace_is_no_function_of_the_engine(backend: str) -> None:
    w, calls = Value(1.0, label="w"), iter([1.0])
    told = {"numpy": "gives one program and then another", "python": "disagrees with the eager one"}[backend]
    with pytest.raises(tg.CompileError, match=told):
        tg.compile(lambda x: w * x * next(calls, 2.0), [w], backend=backend).value_and_grad([1.0, 2.0])


def test_a_function_that_raises_at_the_first_examples_is_not_called_for_ever() -> None:
    w, calls = Value(1.0, label="w"), []

    def loss(x: Any) -> Any:
        calls.append(x)
        return tg.log(w * x)

    step = tg.compile(loss, [w])
    for _ in range(10):
        step.value_and_grad([-5.0, -6.0])
    assert len(calls) < 12


def test_the_comparison_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, step = model_and_step()
    step.value_and_grad(X, Y)
    monkeypatch.setattr("tinygrad_edu.compiler.compiled.disagreement", None)
    step.value_and_grad(X, Y)
    step.value_and_grad(X[:2], Y[:2])


# --- float32 ----------------------------------------------------------------------------------------------------


W, ZERO = Value(0.5, label="w"), Value(0.0, label="zero")


@pytest.mark.parametrize(
    ("function", "x"),
    [
        (lambda x: tg.exp(W * x), [1.0, 200.0]),
        (lambda x: tg.log(W * x * 1e-30 * (W * x * 1e-30)), [1.0, 2.0]),
        (lambda x: tg.log((W * x) ** 2), [1.0, 2.0, 3.0, 1e-30]),  # an example that verify leaves out
    ],
)
@pytest.mark.parametrize("call", ["value_and_grad", "predict"])
def test_what_leaves_float32_is_refused(function: Any, x: Any, call: str) -> None:
    step = tg.compile(lambda x: function(x) + W * ZERO, [W, ZERO], "float32")
    with pytest.raises(tg.CompileError, match=r"gives -?(nan|inf) in float32 and .* in float64.*float64"):
        getattr(step, call)(x)
    assert np.isfinite(tg.compile(function, [W]).predict(x)).all()


def test_what_leaves_float32_later_is_said_once() -> None:
    step = tg.compile(lambda x: tg.exp(W * x), [W], "float32")
    step.value_and_grad([1.0, 2.0])
    with pytest.warns(UserWarning, match=r"gives inf in float32 and 1.3.*e\+43 in float64"):
        step.value_and_grad([1.0, 200.0])
    step.value_and_grad([1.0, 200.0])


def test_numbers_that_float32_rounds_away_are_told() -> None:
    step = tg.compile(lambda x: (W * x + 1e9) - 1e9, [W], "float32")
    with pytest.warns(UserWarning, match="in float32, by rounding"):
        step.value_and_grad([1.0, 2.0])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tg.tanh(W * x) * 1e-30,
        lambda x: tg.sigmoid(W * x - 60) + W * W,
        lambda x: tg.exp(1000.0 * W * x),  # inf in float64 as well
        lambda x: tg.relu(ZERO * x) + W * 0,
        lambda x: (W * x - 0.5) ** 2,
    ],
)
def test_float32_is_not_refused_for_its_rounding(function: Any) -> None:
    tg.compile(lambda x: function(x) + 0 * W * ZERO, [W, ZERO], "float32").value_and_grad([1.0, 2.0])


# --- Rules of ones own ------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_rules_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("at_fault", "of_numpy"):
        monkeypatch.setitem(tg.RULES, name, None)  # is taken out again after the test
        del tg.RULES[name]


def own_rule(name: str, forward: Callable[..., Any], backward: Callable[..., Any]) -> Any:
    return tg.rule(forward, backward=lambda upstream, out, x: (upstream * backward(x),), name=name, n_inputs=1)


@pytest.mark.parametrize(
    ("forward", "backward", "match"),
    [
        (math.sin, math.cos, r"on arrays it raises TypeError: .* sin instead of math.sin"),
        (
            lambda x: x if x > 0 else 0.0,
            lambda x: float(x > 0),
            r"on arrays it raises ValueError: .* where instead of",
        ),
        (lambda x: elementary.sin(x), math.cos, r"on arrays it raises TypeError"),
        (lambda x: x * np.float32(1.1), lambda x: 1.1, r".* 1.5 instead of np.float32\(1.5\)"),
        (lambda x: (x * np.array([2.0, 3.0])).sum(), lambda x: 5.0, "on arrays it gives other numbers"),
    ],
)
def test_a_rule_that_does_not_run_on_arrays_is_named(forward: Any, backward: Any, match: str) -> None:
    rule = own_rule("at_fault", lambda x: forward(x), backward)
    with pytest.raises(tg.CompileError, match=f"The rule at_fault cannot be compiled: {match}"):
        tg.compile(lambda x: rule(W * x) * W, [W]).value_and_grad([0.5, 0.7])


@pytest.mark.parametrize("backend", ["numpy", "python"])
@pytest.mark.parametrize("two", [np.array(2.0), np.float64(2.0), np.int64(2)], ids=repr)
def test_a_rule_may_name_numbers_of_numpy(two: Any, backend: str) -> None:
    rule = own_rule("of_numpy", lambda x: two * x + x * two, lambda x: two + two)
    value, gradient = tg.compile(lambda x: rule(W * x), [W], backend=backend).value_and_grad([1.0, 2.0])
    assert (value, list(gradient)) == (3.0, [6.0])
