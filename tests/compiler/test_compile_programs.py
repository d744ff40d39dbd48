"""Compiled = eager, in value and in every gradient: on networks and programs of every form, and on random ones."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import FEWER
from comparing import check, compare, compare_outputs, examples_of, used
from hypothesis import event, given
from hypothesis import strategies as st
from programs import CASES, CLASSES, flat, leaves, normal, one_hot, shaken

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, topological_order
from tinygrad_edu.micrograd import engine
from tinygrad_edu.testing import Program, programs
from tinygrad_edu.testing.check.random_program import TEMPLATES

HOW = {"float64": {}, "float32": {"dtype": "float32"}, "python": {"backend": "python"}, "drop-in": {}}


@pytest.mark.parametrize(
    "how", [how if how != "drop-in" else pytest.param(how, marks=pytest.mark.slow) for how in HOW]
)  # tests/micrograd compiles what people write for the drop-in
@pytest.mark.parametrize("name", CASES)
def test_compiled_is_eager(name: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "drop-in":
        for module in ("programs", "comparing"):
            monkeypatch.setattr(f"{module}.Value", engine.Value)
    function, parameters, batch = CASES[name]()
    if how == "float32":
        for parameter in parameters:
            parameter.data = float(np.float32(parameter.data))
        batch = [a if a.dtype.kind == "i" else np.float32(a) for a in batch]
    step = compare(function, parameters, *batch, **HOW[how])
    if how in ("float64", "float32"):
        value, gradient = step.value_and_grad(*batch)
        assert (type(value), gradient.dtype) == (float, how)


# --- The source -------------------------------------------------------------------------------------------------
FORMULA = re.compile(r"( +)# (\S.*?) (\+?=) (.*?) +\([^()]*\)")
SCATTER = re.compile(
    r"( +)# add\.at\((\w+(?:\[[^]]*\])?(?:\.reshape\([^)]*\))?), (.*)\) +\([^()]*\)"
)  # add.at(array, positions, formula)


def checked(source: str) -> tuple[str, int]:
    """The source of a program that compares every array with the formula above it; the number of formulas."""
    lines, n = list[str](), 0
    pending = ""
    for line in source.splitlines():
        match = FORMULA.fullmatch(line)
        is_code = line.strip() and not line.strip().startswith(("#", "return", "for t in"))
        if pending and (match or SCATTER.fullmatch(line) or not is_code or line.strip().startswith("gradient[")):
            lines.append(pending)
            pending = ""
        if scatter := SCATTER.fullmatch(line):
            indent, target, rest = scatter.groups()
            n += 1
            lines += [f"{indent}_wanted = {target}.copy()", f"{indent}np.add.at(_wanted, {rest})"]
            pending = f"{indent}_compare({target}, _wanted, {line.strip()!r})"
        elif match:
            indent, target, sign, formula = match.groups()
            assert ".take(" not in target, line  # it would be a copy
            n += 1
            lines.append(f"{indent}_wanted = np.array({f'{target} + ({formula})' if sign == '+=' else formula})")
            pending = f"{indent}_compare({target}, _wanted, {line.strip()!r})"
        lines.append(line)
    return "\n".join(lines) + "\n", n


def compare_numbers(array: Any, wanted: Any, line: str) -> None:
    """Raises AssertionError, with the comment, unless both have the same numbers."""
    wanted = np.broadcast_to(wanted, np.shape(array))
    scale = max(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0), 1e-300)
    np.testing.assert_allclose(array, wanted, rtol=1e-9, atol=1e-11 * scale, err_msg=line)


def executed(source: str, names: dict[str, Any], parameters: Any, batch: Any) -> tuple[float, Any]:
    """The value and the gradient by a program as text that knows these names, in its second run."""
    exec(source, names)
    theta, gradient = np.array([p.data for p in parameters]), np.full(len(parameters), np.nan)
    run = names["build"](theta, len(batch[0]) if batch else 1)
    with np.errstate(all="ignore"):
        for _ in range(2):
            value = run(*[np.asarray(array, float) for array in batch], gradient)
    return value, gradient


def names_of_formulas() -> dict[str, Any]:
    return {name: value for name, value in vars(np).items() if name[0] != "_"} | {"_compare": compare_numbers}


@pytest.mark.parametrize("name", CASES)
def test_the_source_runs_on_its_own_and_every_formula_gives_the_array_below_it(name: str) -> None:
    function, parameters, batch = CASES[name]()
    step = tg.compile(function, parameters, verify=False)
    value, gradients = step.value_and_grad(*batch)
    assert name != "recurrence_with_gates" or len(step.source) <= 13_600  # nothing may raise it unnoticed
    alone, slopes = executed(step.source, {}, parameters, batch)
    assert alone == value
    np.testing.assert_array_equal(slopes, gradients)
    source, n = checked(step.source)
    executed(source, names_of_formulas(), parameters, batch)
    assert n > 0 or "#" not in step.source.partition("def run")[2]


def test_a_wrong_formula_is_found() -> None:
    function, parameters, batch = next(iter(CASES.values()))()
    step = tg.compile(function, parameters, verify=False)
    step.value_and_grad(*batch)
    wrong, _ = checked(re.sub(r"(# .*? = )", r"\g<1>1 + ", step.source))
    with pytest.raises(AssertionError):
        executed(wrong, names_of_formulas(), parameters, batch)


# --- Targets, rules, random programs ----------------------------------------------------------------------------
SMALL = 1e-10
TARGETS = {
    "one-hot": one_hot(CLASSES, 3),
    "probabilities": np.random.default_rng(1).dirichlet([1, 1, 1], 5),
    "nearly one": one_hot(CLASSES, 3) * (1 + SMALL),
    "nearly one in one row": one_hot(CLASSES, 3) + np.outer(np.eye(5)[2], [0, SMALL, 0]),
    "weights": abs(normal(5, 3, seed=1)),
    "zeros": np.zeros((5, 3)),
    "negative": -one_hot(CLASSES, 3),
    "that cancel": np.tile([1.0, 1.0, -1.0], (5, 1)),
}


@pytest.mark.parametrize("first", TARGETS)
def test_no_target_is_taken_for_another(first: str) -> None:
    """The first call may see that rows sum to one, but no later call may rely on it."""
    model = shaken(nn.MLP(6, [4, 3], rng=0))
    parameters, X = model.parameters(), normal(5, 6)

    def loss(x: Any, y: Any) -> Value:
        return nn.cross_entropy(model(x), y)

    step = compare(loss, parameters, X, TARGETS[first])
    for targets in (*TARGETS.values(), TARGETS[first][::-1]):
        check(step, loss, parameters, X, targets)


EXPRESSIONS = [expression for name in TEMPLATES for expression in TEMPLATES[name]]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_rule_of_parameters_of_inputs_and_of_lists(expression: str) -> None:
    step = Program((0.0,) * 4, ((expression, (0, 1, 2, 3)),))
    p = leaves(normal(8, seed=3), "p")

    def alone() -> Value:
        return step(*p[:4]) + tg.sum(p)

    def mixed(x: Any) -> Value:
        return step(p[0], x[0], p[1], x[1]) * p[2] + step(x[2], p[3], x[3], p[4]) + tg.sum(p)

    def lists(x: Any) -> Value:
        rows = [step(p[i], x[i], p[i + 3], x[i + 1]) for i in range(3)]
        return tg.sum([(i + 1) * row for i, row in enumerate(rows)]) + step(p[7], p[6], *x[:2]) + tg.sum(p)

    X = normal(3, 4, seed=4)
    compare(alone, p)
    compare(mixed, p, X)
    compare(lists, p, X)


def rounding_decides(root: Value) -> bool:
    """Is the graph so near a kink that another order of a sum may decide otherwise?"""
    for node in topological_order(root):
        if node.rule:
            numbers = [p.data for p in node.parents]
            places = [x - kink for x in numbers for kink in (*node.rule.kinks, *[node.data] * node.rule.ties)]
            places += numbers[:1] * (node.rule.name == "where")
            if any(0 < abs(place) < 1e-9 for place in places):  # exactly at a kink is no question of rounding
                return True
    return False


def comparisons(program: Program, row: list[float]) -> list[float]:
    """The differences of the numbers that the program compares."""
    results, n = program.run(row), len(row)
    pairs = [(n + k, places) for k, (text, places) in enumerate(program.steps) if "a > b" in text]
    return [results[m - 1 - i % m] - results[m - 1 - j % m] for m, (i, j, *_) in pairs]


class Split:
    """A program some of whose inputs are learned, the others come in batches: one by one, or in one list."""

    def __init__(self, program: Program, learned: list[bool], more: list[list[float]], in_a_list: bool):
        n = len(program.inputs)
        nodes = program.graph()
        below = set(topological_order(nodes[-1]))
        places = [i for i in range(n) if nodes[i] in below]
        self.program = program
        self.learned = [i for i in places if learned[i]] or places[:1]
        self.given = [i for i in range(n) if i not in self.learned]
        self.parameters = [Value(program.inputs[i], label=f"x{i}") for i in self.learned]
        self.rows = [
            list(program.inputs),
            *([row[i] if i in self.given else x for i, x in enumerate(program.inputs)] for row in more),
        ]
        table = np.array([[row[i] for i in self.given] for row in self.rows])
        self.batch = ([table] if in_a_list else list(table.T)) if self.given else []

    def __call__(self, *inputs: Any) -> Any:
        numbers = dict(zip(self.learned, self.parameters, strict=True))
        numbers |= zip(self.given, flat(*inputs), strict=True)
        return self.program(*[numbers[i] for i in range(len(numbers))])

    def __repr__(self) -> str:
        return f"{self.program!r}# learned: {', '.join(f'x{i}' for i in self.learned)}; batch: {self.batch!r}"


def splits(**kinds: Any) -> st.SearchStrategy[Split]:
    numbers = st.floats(-4, 4, allow_subnormal=False)
    return st.builds(
        Split,
        programs(**kinds),
        st.lists(st.booleans(), min_size=4, max_size=4),
        st.lists(st.lists(numbers, min_size=4, max_size=4), max_size=2),
        st.booleans(),
    )


@FEWER
@pytest.mark.filterwarnings("ignore:The function does not use")  # (x - x) / 2
@given(splits(), st.sampled_from(["numpy", "python"]))
def test_random_programs(split: Split, backend: str) -> None:
    for row in split.rows:
        near = any(0 < abs(x) < 1e-9 for x in comparisons(split.program, row))
        if near or rounding_decides(split.program(*map(Value, row))):
            event("rounding decides on which side of a kink the program is")
            return
    compare(split, split.parameters, *split.batch, backend=backend)


EIGHTHS = st.integers(-16, 16).map(lambda n: n / 8)


WIDEST = 6


class Layers:
    """A list of numbers on which steps (name, i, j) act in turn, with weights from one pool.

    >>> Layers([("dense", 2, 1), ("relu", 0, 0), ("window", 2, 5)])
    """

    def __init__(self, steps: list[tuple[str, int, int]]):
        self.steps = steps
        self.pool = [Value(float(x), label=f"w{i}") for i, x in enumerate(normal(24, seed=5) / 2)]

    def __repr__(self) -> str:
        return f"Layers({self.steps!r})"

    def weights(self, n: int, i: int, j: int) -> list[Value]:
        """n weights from the pool: in a row, in strides, backwards, or all over the place."""
        strides = (1, -1, 2, 5, 7, 0)
        if j % 7 == 6:
            return [self.pool[(k * k + i) % 24] for k in range(n)]
        return [self.pool[(i + k * strides[j % 7]) % 24] for k in range(n)]

    def outputs(self, x: list[Any]) -> list[Any]:
        h = list(x)
        for name, i, j in self.steps:
            h = MOVES[name](self, h, i, j)[:WIDEST]
        return h

    def __call__(self, x: list[Any]) -> Any:
        """Each output with a factor of its own, so that none can stand for another; a weight is always there."""
        return tg.sum([(k + 1) * h for k, h in enumerate(self.outputs(x))]) + self.pool[0] * x[0]


def dense(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    n = 1 + i % 4
    w = net.weights(n * len(h), i, j)
    rows = [w[k * len(h) : (k + 1) * len(h)] for k in range(n)] if j % 2 else [w[k::n] for k in range(n)]
    return [tg.dot(row, h) for row in rows]


def summed(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    """Weighted sums as a loop writes them, of lists of unequal lengths."""
    return [sum(w * a for w, a in zip(net.weights(k + 1, i + k, j), h)) for k in range(len(h))]  # noqa: B905


def window(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    k, stride = 1 + i % min(3, len(h)), 1 + j % 2
    return [tg.dot(net.weights(k, i, j), h[s : s + k]) for s in range(0, len(h) - k + 1, stride)]


def normalised(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    mean = tg.sum(h) / len(h)
    inverse = 1 / tg.sqrt(tg.sum([(a - mean) ** 2 for a in h]) / len(h) + 1)
    return [(a - mean) * inverse for a in h]


def pooled(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    k = 1 + i % len(h)
    return [(tg.max if j % 2 else tg.min)(h[s : s + k]) for s in range(len(h) - k + 1)]


def mixed(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    """Different operations side by side, which land in different groups."""
    kinds = (tg.tanh, tg.sin, tg.sigmoid, lambda a: a * a / 4, lambda a: 0.5 - a)
    return [kinds[(i + j * k) % 5](a) for k, a in enumerate(h)]


MOVES: dict[str, Callable[[Layers, list[Any], int, int], list[Any]]] = {
    "dense": dense,
    "summed": summed,
    "window": window,
    "gather": lambda net, h, i, j: [h[(i + k * (j - 3)) % len(h)] for k in range(1 + (i + j) % WIDEST)],
    "squares": lambda net, h, i, j: [h[(k * k + i) % len(h)] for k in range(len(h))],
    "reverse": lambda net, h, i, j: h[::-1],
    "twice": lambda net, h, i, j: h + h[j % len(h) :],
    "scale": lambda net, h, i, j: [a * b for a, b in zip(h, net.weights(len(h), i, j), strict=True)],
    "bias": lambda net, h, i, j: [a + b for a, b in zip(h, net.weights(len(h), i, j), strict=True)],
    "constant": lambda net, h, i, j: [a * (j - 3) / 2 + i for a in h],
    "constants": lambda net, h, i, j: [a * (k - i) / 4 + j * k for k, a in enumerate(h)],
    "padded": lambda net, h, i, j: [0.0] * (i % 3) + h + [1.0] * (j % 2),
    "weights": lambda net, h, i, j: h[:3] + net.weights(1 + i % 3, i, j),
    "tanh": lambda net, h, i, j: [tg.tanh(a) for a in h],
    "relu": lambda net, h, i, j: [tg.relu(a) for a in h],
    "mixed": mixed,
    "softmax": lambda net, h, i, j: tg.softmax(h),
    "norm": normalised,
    "pooled": pooled,
    "pairs": lambda net, h, i, j: [a * b / 2 for a in h[: 1 + i % 3] for b in h[j % len(h) :]],
    "differences": lambda net, h, i, j: [a - b for a, b in zip(h, h[1:] + h[:1], strict=True)],
    "running": lambda net, h, i, j: [tg.sum(h[: k + 1]) / 2 for k in range(len(h))],
    "total": lambda net, h, i, j: [*h, sum(h)],
}  # fmt: skip


layers = st.lists(st.tuples(st.sampled_from(list(MOVES)), *[st.integers(0, 6)] * 2), min_size=1, max_size=6).map(
    Layers
)
rows_of_numbers = st.lists(st.lists(EIGHTHS, min_size=4, max_size=4), min_size=1, max_size=3)


def of_rows(net: Layers) -> Callable[[Any], Value]:
    """The net on several rows in the graph."""
    return lambda X: tg.sum([net(x) for x in X]) + net(X[0]) * net(X[1])


@pytest.mark.parametrize("in_rows", [False, True])
@FEWER
@given(layers, st.integers(1, 4), rows_of_numbers)
def test_random_layers(in_rows: bool, net: Layers, n: int, rows: list[list[float]]) -> None:
    X = np.array([[row[:n], row[::-1][:n]] for row in rows] if in_rows else rows)[..., :n]
    loss = of_rows(net) if in_rows else net
    if any(rounding_decides(loss(*one)) for one in examples_of([X])):
        event("rounding decides on which side of a kink the program is")
        return
    compare(loss, used(loss, net.pool, [X]), X)


@FEWER
@given(layers, st.lists(st.integers(0, 40), min_size=1, max_size=7), rows_of_numbers)
def test_outputs_in_any_order(net: Layers, places: list[int], rows: list[list[float]]) -> None:
    """Results, inputs, weights and plain numbers, side by side and repeated."""

    def outputs(x: list[Any]) -> list[Any]:
        h = [*net.outputs(x), *x, *net.pool[:2], 2, -0.5, x[0] * net.pool[0]]
        return [h[place % len(h)] for place in places]

    compare_outputs(outputs, net.pool, np.array(rows))


w, W3 = Value(0.0, label="w"), leaves(normal(3))


def attended(x: Any, mask: float) -> Value:
    return tg.dot(tg.softmax([p * xi + mask for p, xi in zip(W3, x, strict=True)]), x)


@pytest.mark.parametrize(
    ("function", "constant", "instead"),
    [
        *[(lambda x, c: tg.exp(w * x[0] + c), c, ".*") for c in (1e-50, -1e300, 1e-40, 4e38)],
        (lambda x, c: tg.log(tg.relu(w * x[0]) + c), 1e-50, "0"),
        (attended, -1e300, "-inf"),
    ],
)
def test_a_constant_that_float32_cannot_hold_is_refused(function: Any, constant: float, instead: str) -> None:
    step = tg.compile(lambda x: function(x, constant), W3 if function is attended else [w], dtype="float32")
    said = (
        rf"float32 cannot hold the constant {re.escape(f'{constant:g}')}, which would be {instead} there.*float64"
    )
    for call in (step.value_and_grad, step.predict):
        with pytest.raises(tg.CompileError, match=said):
            call(np.eye(3)[:1])


@pytest.mark.parametrize("constant", [math.inf, math.nan, 0.0, 1e-37, 3e38, 0.1, 123456789.0])
def test_other_constants_are_no_problem_in_float32(constant: float) -> None:
    step = tg.compile(lambda x: tg.where(x > 0, w + x, constant), [w], dtype="float32")
    assert step.value_and_grad([1.0])[0] == 1.0
    assert "raise" not in step.source
    masked = tg.compile(lambda x: attended(x, -1e30), W3, dtype="float32")
    assert np.isfinite(np.hstack(masked.value_and_grad(np.eye(3)[:1]))).all()


def test_a_logarithm_just_above_zero_is_right() -> None:
    value, gradient = tg.compile(lambda x: tg.log(tg.relu(w * x) + 1e-50), [w]).value_and_grad([1.0])
    assert (value, *gradient) == (math.log(1e-50), 0.0)


@pytest.mark.parametrize("shift", [-math.inf, math.inf])
def test_an_infinite_shift_does_not_cancel(shift: float) -> None:
    p = Value(0.5)
    step = tg.compile(lambda a, b: tg.softmax([p * a - shift, p * b - shift])[0], [p])
    value, gradient = step.value_and_grad([1.0], [2.0])
    assert math.isnan(value)
    assert np.isnan(gradient).all()
