"""A wrong program does not get through: faults in each stage of the compiler are seen by the comparison."""

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from comparing import values
from programs import flat, normal

import tinygrad_edu as tg
from tinygrad_edu import Value, elementary, micrograd, nn
from tinygrad_edu.compiler.backends import numpy_operations, numpy_statements, straight, text
from tinygrad_edu.compiler.backends.numpy_operations import LINES
from tinygrad_edu.compiler.backends.numpy_statements import Statements
from tinygrad_edu.compiler.find import loops, lower, ragged
from tinygrad_edu.compiler.find.lowered import Read
from tinygrad_edu.compiler.ir import axes, front, gradient
from tinygrad_edu.compiler.ir.gradient import Addend, _Reverse
from tinygrad_edu.compiler.run import pipeline, pointwise
from tinygrad_edu.compiler.run.verify import rounding

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.eye(2)[[0, 1, 1, 0]]
ROWS = np.random.default_rng(0).normal(size=(4, 4, 3))
SCALES = [Value(1.0 + i / 4, label=f"s{i}") for i in range(4)]


def model_and_step(**options: Any) -> tuple[nn.MLP, Any]:
    model = nn.MLP(3, [4, 2], "tanh", rng=0)
    return model, tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), **options)


def attend(x: Any) -> Value:
    """Shares of four places, pooled, and weighted column by column."""
    for _ in range(2):
        x = [[tg.sinh(a * s) for a in row] for row, s in zip(x, SCALES, strict=True)]
    columns = list(zip(*[tg.softmax([tg.dot(a, b) for b in x]) for a in x], strict=True))
    pooled = [tg.max(*columns[i][:2], *columns[i + 1][:2]) for i in (0, 2)]
    weighted = [(k + 2) * tg.exp(a) for k, a in enumerate(a for column in columns for a in column)]
    return tg.sum(weighted) + tg.sum(pooled)


def other(of: Any, name: str, change: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """A fault in a function: it is change(function, *arguments)."""
    original = getattr(of, name)
    return lambda patch: patch.setattr(of, name, lambda *arguments: change(original, *arguments))


def all_set(original: Callable[..., None], items: Any, needed: Any) -> None:
    original(items, needed)
    for item in items:
        item.adds = False


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the sum over the batch forgotten": other(
        Statements,
        "_reduction",
        lambda _, self, x, to: self.write(f"{to.code}[...] = {self.operand(x.args[0]).code}[0]"),
    ),
    "a factor not transposed": other(
        numpy_operations, "matrix", lambda of, *given: replace(of(*given), code=of(*given).code.removesuffix(".T"))
    ),
    "a bias that gets no gradient": other(
        _Reverse, "_slopes", lambda of, self, x, *rest: (rest[0], 0.0) if x.op == "add" else of(self, x, *rest)
    ),
    "the rows of a softmax in another order": other(
        lower, "_softmax", lambda of, *given: (form := of(*given)) and (*form[:2], form[2][::-1])
    ),
    "a softmax whose gradient forgets its mean": other(
        Statements,
        "_product",
        lambda of, self, c, to: of(self, c, to) if c.M or c.N else self.write(f"{to.code}[...] = 0"),
    ),
    "pooling of the wrong elements": other(
        Statements, "_fixed", lambda of, self, x, text, where: of(self, x, text, dict.fromkeys(where, 0))
    ),
    "a share that is set where it must be added": other(gradient, "first_writes", all_set),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_program_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is in the classifier, or in attention."""
    FAULTS[fault](monkeypatch)
    model, step = model_and_step()
    before = [(p.data, p.grad) for p in model.parameters()]
    told = []
    for call in (lambda: step.value_and_grad(X, Y), lambda: tg.compile(attend, SCALES).value_and_grad(ROWS)):
        try:
            call()
        except tg.CompileError as error:
            told.append("disagrees" in str(error))
    assert told
    assert all(told)
    assert [(p.data, p.grad) for p in model.parameters()] == before


# --- Faults that are replaced -----------------------------------------------------------------------------------
class Program(NamedTuple):
    """A function, its parameters, a batch, and whether its program has what the fault is in."""

    function: Callable[..., Any]
    parameters: list[Value]
    batch: list[Any]
    has: Callable[[Any], bool]
    backend: str = "numpy"


def recurrent(x: Any) -> Value:
    """A recurrence that reads two stages before, and an input at every stage."""
    h = [x[0], x[1]]
    for now in x[2:]:
        h.append(tg.sin(A * h[-1] + C * h[-2]) + now)
    return h[-1] * h[-3] + h[4]


def causal(x: Any) -> Value:
    """Rows of 1 to 5 scores, and of 5 to 1 numbers."""
    keys = [[a * b for b in row] for a, row in zip(x, SQUARE, strict=True)]
    out = []
    for t in range(5):
        scores = [tg.dot(keys[t], keys[s]) * 2.0 for s in range(t + 1)]
        out.append(tg.dot(tg.softmax(scores), FIVE[: t + 1]) + tg.dot(FIVE[t:], x[t:]))
    return tg.sum([a * a for a in out])


def all_passes(xs: Any) -> Value:
    h: Any = 0.0
    for x in xs:
        h = tg.tanh(A * x + C * h)
    return h * h + tg.sum([tg.sum(xs[: t + 1]) * A for t in range(12)])


def has_loop(step: Any) -> bool:
    return "for t in range(" in step.source


def is_padded(step: Any) -> bool:
    return bool(step._latest.lowered.is_padded)


A, C = Value(0.7, label="a"), Value(0.5, label="c")
FIVE, SQUARE, MODEL = values(normal(5)), values(normal(5, 3, seed=2)), nn.MLP(3, [4, 2], "tanh", rng=0)
PRODUCTS = Program(
    lambda x, y: nn.cross_entropy(MODEL(x), y),
    MODEL.parameters(),
    [X, Y],
    lambda step: "0 matrix" not in step.groups.title,
)
LOOP = Program(recurrent, [A, C], [np.random.default_rng(1).normal(size=(3, 16))], has_loop)
ROWS_OF_MANY_LENGTHS = Program(causal, [*FIVE, *flat(SQUARE)], [normal(3, 5, seed=4)], is_padded)
PASSES = Program(all_passes, [A, C], [normal(2, 40)], lambda step: False)
IN_PYTHON = LOOP._replace(backend="python", batch=[normal(1, 40)])


def with_index(change: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    """A fault in what a loop reads of an array outside."""
    return other(
        front.Front,
        "resolved",
        lambda of, self, read, shape: of(
            self, read if read.every is None else replace(read, every=change(read.every)), shape
        ),
    )


def broken(*args: Any) -> Any:
    raise KeyError("a fault")


def without_loops(of: Callable[..., Any], *given: Any) -> Any:
    return of(*given) if "loops" in given[5] else broken()


IN_LOOPS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the row before": other(text.Elements, "part", lambda of, *given: {"t": "t - 1"}.get(of(*given), of(*given))),
    "a window one stage late": with_index(lambda index: np.roll(index, 1, axis=0)),
    "first states that are not given": other(axes.Reads, "read", lambda *_: 0.0),
    "a gradient that stays in its stage": other(
        _Reverse, "_flush", lambda of, self, array: of(self, array) if self._t is None else None
    ),
    "no gradient after the loop": other(
        _Reverse,
        "_summed",
        lambda of, self, access, share, env: (
            of(self, access, share, env) if self._t in (None, *access.free) else Addend(0.0)
        ),
    ),
    "stages the wrong way round": lambda patch: patch.setattr(
        numpy_statements, "BACKWARD", numpy_statements.BACKWARD.replace("reversed", "list")
    ),
}
IN_ROWS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "no mask": other(lower._Lowering, "_mask", lambda of, self, there, numbers: of(self, there | True, numbers)),
    "rows that end too early": other(
        lower, "filled", lambda of, reads: (of(reads)[0], np.roll(of(reads)[1], 1, axis=0))
    ),
    "terms in another order": other(ragged, "_continued", lambda of, index, size: of(index, size)[:, ::-1]),
    "0 for 1": other(
        lower._Lowering,
        "_mask",
        lambda of, self, there, numbers: of(self, there, numbers[::-1] if 1.0 in numbers else numbers),
    ),
    "members at other places": other(
        lower, "_on_the_same_places", lambda of, reads: (form := of(reads)) and (*form[:2], form[2][::-1])
    ),
}
IN_A_PRODUCT = other(lower._Lowering, "_grid", lambda of, self, a, b: of(self, Read(a.array, a.index[:, ::-1]), b))
IN_STRAIGHT = other(
    straight.StraightWriter,
    "_item",
    lambda of, self, items, first, *more: of(self, items, max(first - 1, 0), *more),
)
PASS, ERROR = "The pass .*report", "The pass '{}' .*KeyError: 'a fault'.*report"
REPLACED = [  # the program, the words of the warning, and the faults
    (PRODUCTS, "report", {"a product of other rows": IN_A_PRODUCT}),
    (LOOP, PASS, IN_LOOPS),
    (ROWS_OF_MANY_LENGTHS, "report", IN_ROWS),
    (IN_PYTHON, "The pass 'loops' .*report", {"an item of the stage before": IN_STRAIGHT}),
    (IN_PYTHON, "The pass 'loops' .*a fault", {"an error": other(pointwise, "make", without_loops)}),
    (PASSES, ERROR.format("loops"), {"an error in loops": other(loops.Roller, "roll", broken)}),
    (PASSES, ERROR.format("ragged rows"), {"an error in rows": other(lower, "filled", broken)}),
    (PASSES, ERROR.format("weight decay"), {"an error in squares": other(pipeline, "join_squares", broken)}),
]


@pytest.mark.parametrize(
    ("program", "words", "plant"),
    [
        pytest.param(program, words, plant, id=name)
        for program, words, faults in REPLACED
        for name, plant in faults.items()
    ],
)
def test_what_is_wrong_is_replaced_with_a_warning(
    program: Program, words: str, plant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plainer program is right."""
    function, parameters, batch, has, backend = program
    right = tg.compile(function, parameters, backend=backend)
    expected = right.value_and_grad(*batch)
    assert has(right) or program is PASSES
    plant(monkeypatch)
    step = tg.compile(function, parameters, backend=backend)
    with pytest.warns(UserWarning, match=words) as told:
        result = step.value_and_grad(*batch)
    assert len(told) == 1
    np.testing.assert_allclose(np.hstack(result), np.hstack(expected), rtol=1e-9, atol=1e-14)
    assert not has(step)
    step.value_and_grad(*batch)  # and no second warning


def test_zeros_hide_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LINES, "sin", "np.sinh({0}, out={to})")  # alike at 0
    w = Value(1.0, label="w")
    with pytest.raises(tg.CompileError):
        tg.compile(lambda x: tg.sin(w * x), [w]).value_and_grad([0.0])


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_function_that_is_another_every_time_or_after_the_trace_is_told_so(backend: str) -> None:
    w, calls = Value(1.0, label="w"), iter(range(1, 100))
    with pytest.raises(tg.CompileError, match=r"gives .* and then .* for the same numbers.*random") as caught:
        tg.compile(lambda x: w * x * next(calls), [w], backend=backend).value_and_grad([1.0, 2.0])
    assert "defect" not in str(caught.value)
    w, calls = Value(1.0, label="w"), iter([1.0])
    with pytest.raises(tg.CompileError, match="gives one program and then another"):
        tg.compile(lambda x: w * x * next(calls, 2.0), [w], backend=backend).value_and_grad([1.0, 2.0])


def test_the_comparison_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, step = model_and_step()
    step.value_and_grad(X, Y)
    monkeypatch.setattr("tinygrad_edu.compiler.run.variants.disagreement", None)
    step.value_and_grad(X, Y)
    step.value_and_grad(X[:2], Y[:2])


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


CALLS = [
    lambda step, x: step.value_and_grad(x),
    lambda step, x: step.predict(x),
    lambda step, x: step.train(tg.optim.SGD([W], lr=1e-9))(x),
    lambda step, x: step([{"x": number} for number in x]),
]


@pytest.mark.parametrize("call", CALLS)
def test_what_float32_loses_later_is_said_once(call: Any) -> None:
    step = tg.compile(lambda x: tg.exp(W * (x["x"] if isinstance(x, dict) else x)), [W], "float32")
    call(step, [1.0, 2.0])
    with pytest.warns(UserWarning, match=r"gives inf in float32 and .*e\+\d\d in float64"):
        call(step, [1.0, 200.0])
    call(step, [1.0, 200.0])


def test_what_float32_loses_by_rounding_is_said() -> None:
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


# --- Nothing wrong, and nothing unverified without a word -------------------------------------------------------
@pytest.mark.parametrize("call", ["__call__", "value_and_grad", "predict"])
def test_an_array_after_a_batch_of_dicts_gets_its_own_program(call: str) -> None:
    w = Value(2.0, label="w")
    step = tg.compile(lambda x: x["a"] * w * 100 if isinstance(x, dict) else x * w, [w])
    batches: list[Any] = [np.array([1.0, 2.0, 3.0]), [{"a": 1.0}, {"a": 2.0}], np.ones((2, 1))[:, 0]]
    alone = [repr(getattr(step, call)(batch)) for batch in batches]
    twice = [[repr(getattr(step, call)(batch)) for _ in range(2)] for batch in batches]
    assert twice == [[x, x] for x in alone]


def test_threads_with_batches_of_several_kinds() -> None:
    w = Value(2.0)
    step = tg.compile(lambda x: tg.sum(x) * w, [w])
    batches: list[Any] = [np.ones((3, 2)), 2 * np.ones((3, 2)), [[1.0], [2.0, 3.0]], np.ones((3, 4))]
    expected = [{step(batch)} for batch in batches]
    with ThreadPoolExecutor(len(batches)) as threads:
        assert list(threads.map(lambda batch: {step(batch) for _ in range(200)}, batches)) == expected


def test_a_slope_by_hand_is_not_allowed_to_be_another_one() -> None:
    x = micrograd.Value(0.5)
    out = micrograd.Value(math.exp(x.data), (x,), (math.exp(x.data),))
    assert rounding(out * 3)[1][x] < 1e-9


def test_what_cancels_is_allowed_its_rounding() -> None:
    x = Value(1.0)
    value, allowed = rounding((x * 1e12 + 0.5) - x * 1e12)
    assert 0.01 < value < 10
    assert 0.01 < allowed[x] < 10


def shares(z: Any) -> list[Any]:
    """The softmax by hand, shifted by the largest."""
    exps = [(a - tg.max(z)).exp() for a in z]
    return [a / sum(exps) for a in exps]


def again_and_again(z: Any) -> Value:
    z = z[:3]
    for _ in range(6):
        z = shares([6 * tg.dot(row, z) for row in SQUARE[:3]])
    return -z[0].log()


KINKS: list[Callable[..., Value]] = [
    lambda z: -shares([*z, z[0] * 1.0])[1].log(),
    lambda z: -shares([a + 1e7 * (2 + z[0]) for a in z])[1].log(),  # ties are near
    again_and_again,  # its absolute adjoint is 100,000 times as large as its gradient
    lambda z: tg.sum([a.relu() + (a * 0).relu() * z[1] + (a - a).relu() for a in z]),
    lambda z: tg.sum([tg.max(a, b, a * 1.0) * (i + 1) for i, (a, b) in enumerate(itertools.pairwise(z))]),
    lambda z: tg.dot(sorted(z, key=lambda a: -a.data)[:2], [3.0, 1.0]),
    *[lambda z, mask=mask: -tg.log_softmax([*z, z[0] * z[1] + mask])[0] for mask in (-1e30, -1e300, -math.inf)],
]


@pytest.mark.parametrize("function", KINKS)
def test_beside_a_kink_a_gradient_that_is_wrong_by_a_thousandth_is_refused(
    function: Any, monkeypatch: Any
) -> None:
    def loss(x: Any) -> Value:
        return function([tg.dot(row, x) for row in SQUARE]) + 0 * tg.sum(parameters)

    parameters = [*flat(SQUARE), A]
    tg.compile(loss, parameters).value_and_grad(X)
    run = "        return float(loss.sum()"
    other(
        pipeline, "defined", lambda of, source: of(source.replace(run, f"        gradient[:-1] *= 1.001\n{run}"))
    )(monkeypatch)
    with pytest.raises(tg.CompileError, match="disagrees"):
        tg.compile(loss, parameters).value_and_grad(X)


@pytest.mark.parametrize(
    ("function", "late"),
    [
        (lambda w, x: tg.log(x - 40) * w, [[1.0, 2.0], [50.0, 51.0]]),
        (lambda w, x: tg.sqrt(-x - 40) * w, [[1.0, 2.0], [-50.0, -51.0]]),
    ],
)
def test_what_cannot_be_compared_is_compared_later(function: Any, late: Any, monkeypatch: Any) -> None:
    w = Value(2.0, label="w")
    step = tg.compile(lambda x: function(w, x), [w])
    for _ in range(5):
        with pytest.raises(ValueError, match="defined for") as caught:
            step.value_and_grad(late[0])
        assert "example 0 of the batch" in caught.value.__notes__[0]
    compared = []
    original = tg.compiler.run.variants.disagreement
    monkeypatch.setattr(
        "tinygrad_edu.compiler.run.variants.disagreement", lambda *a: compared.append(original(*a)) or compared[-1]
    )
    for _ in range(12):
        step.value_and_grad(late[1])
    assert compared == [""]


@pytest.mark.parametrize(
    ("function", "batch", "at"),
    [
        (lambda w, x: tg.where(x > 0, tg.log(x) * w, w * w), [1.0, 2.0, -2.0], 2),
        (lambda w, x: (x * w) ** 0.5, [1.0, -2.0, 3.0], 1),
        (lambda w, x: tg.relu(tg.sqrt(w * x)), [-1.0, 0.5], 0),
        (lambda w, x: tg.tanh(w * math.exp(x.data)), [1.0, 800.0], 1),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_engines_error_is_raised_with_the_number_of_the_example(function, batch, at, dtype) -> None:
    w = Value(2.0, label="w")
    step = tg.compile(lambda x: function(w, x), [w], dtype)
    step.value_and_grad([1.0, 2.0])
    for _ in range(2):
        with pytest.raises((ValueError, ArithmeticError)) as caught:
            step.value_and_grad(np.array(batch))
        assert f"example {at} of the batch" in caught.value.__notes__[0]


def test_an_error_that_the_function_catches_is_told() -> None:
    def loss(i: Any, x: Any) -> Value:
        try:
            return W * x / i
        except ZeroDivisionError:
            return W * 0

    with pytest.raises(tg.CompileError, match=r"example 2 is nan, and eagerly .*catches an error"):
        tg.compile(loss, [W]).value_and_grad(np.array([1, 2, 0]), [1.0, 2.0, 3.0])
