"""Verify: the compiled program against the scalar graph, before its numbers are used.

The engine computes one example eagerly. The compiled program must give its value, its outputs and every gradient.
The tolerance is what rounding can do to that number, however much its terms cancel: see `rounding`. Two examples
together must give the mean of the two alone, or rows of the batch mix. A program for any length is compared at
each length before it is used there.

Parameters and inputs are moved at random first, since zeros hide faults. A small program is compared at two such
points, since a branch may hide one. Where the engine raises at these, other examples of the batch are tried, and
numbers from the usual domains: positive, between 0 and 1, above 1. If it raises there too, the next batch is
compared.

A program in float32 is also compared with itself in float64, on the whole batch.

XLA takes longer to compile a program than all of this. So of a program in JAX, NumPy's program of the same arrays
is compared with the engine, and both with each other, on the batch for which XLA compiles it anyway. Only if they
are not alike, it is compared as above.
"""

import contextlib
import functools
import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.graph import topological_order
from ...engine.rule import Rule
from ...engine.rules import RULES
from ...engine.value import Value
from ..find.lowered import PARAMETER, every_array
from ..trace.checks import TOLERANCE, collector_paused, differentiated, near
from ..trace.lending import read_numbers, standing_in
from ..trace.nesting import flat_values
from .batches import examples
from .build import Broken, Build, Request

POINTS = [0.5, 0.25, 1.5, -0.5, 2.0]  # inputs to try a rule with
SINGLE = 1e-2  # how far float32 may be off, of the largest number: only overflow and lost digits exceed it
ROUNDING = 1e-12  # relative, of one operation, which may be a sum in another order
AGAIN = 2  # so often the graph is computed with errors, and with the opposite ones
ULPS, JUMP = 1e-15, 1e-3  # of one operation by itself: some ulps; and what they cannot do to a slope
PLAIN = [RULES[name] for name in ("add", "sub", "neg", "sum", "mul", "dot")]  # slopes without the result
FIRST = 3  # points; the others are tried if the eager function raises at all of these
LOST = 0.01  # of the largest share in a gradient
SMALL = 10_000  # numbers in a program for one length that is compared at two points
ROWS = 8  # examples of the batch that are tried


def disagreement(build: Build, arrays: Sequence[NDArray[Any]]) -> str | None:
    """What is wrong with a program, or "". None if the eager function is defined at no point that was tried."""
    if (twin := build.in_numpy()) is not build:
        wrong = disagreement(twin, arrays)
        if wrong is None or (not wrong and _alike(build, twin, arrays)):
            return wrong

    def compared(theta: NDArray[Any], inputs: Sequence[NDArray[Any]]) -> str | None:
        with build.contract.at(theta.tolist()):
            return _fault_at(build, theta, inputs)

    is_small = build.lowered and sum(array.size for array in every_array(build.lowered)) < SMALL
    return judged(points(build, [array[:2] for array in arrays], arrays), compared, 2 if is_small else 1)


def judged(tried: Iterable[Any], compared: Callable[[Any, Any], str | None], enough: int = 1) -> str | None:
    """What is wrong at the first point where something is; "" after enough right ones; None if there are none."""
    right = 0
    with collector_paused():
        for n, point in enumerate(tried):
            if right and (right >= enough or n >= FIRST):
                break
            if answer := compared(*point):
                return answer
            right += answer == ""
    return "" if right else None


def _alike(build: Build, twin: Build, arrays: Sequence[NDArray[Any]]) -> bool:
    """Do two programs give the same, up to rounding, where both give numbers? They are compared at one point."""
    dtype = build.namespace["dtype"]
    relative, absolute = (1e-3, 1e-4) if dtype == np.float32 else (TOLERANCE, TOLERANCE / 100)
    for theta, inputs in itertools.islice(points(build, arrays, arrays), FIRST):
        try:
            exact = results_of(twin, theta, inputs)
            if not all(np.isfinite(part).all() for part in exact):
                continue
            got = results_of(build, theta.astype(dtype), inputs)
        except Exception:  # another path, or what the full comparison tells
            return False
        largest = [np.full(part.shape, np.abs(part).max(initial=0.0)) for part in exact]
        if build.contract.request.gradient:  # of each parameter
            for array in (build.lowered or build.lengths.lowered).arrays:
                if array.source == PARAMETER:
                    largest[-1][array.places] = np.abs(exact[-1][array.places]).max(initial=0.0)
        triples = zip(got, exact, largest, strict=True)
        return all((np.abs(a - b) <= relative * np.abs(b) + absolute * most).all() for a, b, most in triples)
    return False


def run_eagerly(build: Build, theta: Any, arrays: Sequence[NDArray[Any]]) -> tuple[list[float], Any]:
    """What the engine gives for one example: its results, and the gradient if one is asked for. It may raise."""
    closure, request = build.contract.closure, build.contract.request
    theta = [*map(float, theta), *closure.numbers()][: len(closure.parameters)]
    with build.contract.at(theta):
        result = closure.original(*examples(build.contract.picks, arrays, build.contract.kinds)[0])
        eager = _Eager(result, closure.parameters, request)
        roots = [eager.loss, *eager.outputs] if request.gradient else eager.outputs
        return [float(x.data) for x in roots], eager.gradients if request.gradient else None


def two_calls(build: Build, arrays: Sequence[NDArray[Any]]) -> list[Any]:
    """What the function itself returns when it is called twice with the same numbers."""
    example = examples(build.contract.picks, [array[:1] for array in arrays], build.contract.kinds)[0]
    parameters = build.contract.closure.parameters
    with standing_in(dict(zip(parameters, read_numbers(parameters), strict=True))):  # another thread may train
        return [
            [float(value.data) for value in flat_values(result[0] if isinstance(result, tuple) else result)[0]]
            for result in (build.contract.closure.original(*example) for _ in range(2))
        ]


def rule_at_fault(build: Build) -> str:
    """A sentence about a rule of the user's that does not give on arrays what it gives on floats; "" if all do."""
    for rule in {array.rule: None for array in every_array(build.lowered) if array.rule}:
        if not rule.ours and (wrong := _wrong_on_arrays(rule)):
            return f"The rule {rule.name} cannot be compiled: {wrong}."
    return ""


def _wrong_on_arrays(rule: Rule) -> str:
    points = [[x for x in POINTS if x in interval][:2] for interval in rule.domain] or [POINTS] * (
        rule.n_inputs or 2
    )
    rows = list(zip(*points, strict=False))[:2]

    def computed(*inputs: Any) -> list[Any]:
        out = rule.forward(*inputs)
        return [out, *rule.shares(1.0, out, *inputs)]

    try:
        expected = [computed(*row) for row in rows]
    except Exception:  # it is not defined there
        return ""
    try:
        values = computed(*map(np.array, zip(*rows, strict=True)))
        alike = np.allclose(np.transpose(np.broadcast_arrays(*values, np.ones(len(rows)))[:-1]), expected, 1e-9)
    except Exception as error:
        return (
            f"on arrays it raises {type(error).__name__}: {error}. Write it with operators and the functions of "
            "tinygrad_edu.elementary, sin instead of math.sin and where instead of a branch"
        )
    if any(isinstance(x, np.floating) and x.dtype != np.float64 for row in expected for x in row):
        return "it computes in a precision of its own. Write its numbers as floats, 1.5 instead of np.float32(1.5)"
    return "" if alike else "on arrays it gives other numbers. Compute each entry by itself"


def lost(build: Build, theta: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> tuple[float, float] | None:
    """A number that float32 gives and the one of float64, where rounding alone does not explain it; else None.

    One that leaves the range of float32, which is inf or nan there, comes before others.
    """
    far: list[tuple[float, float]] = []
    programs = (build, np.float32), (build.in_numpy(), np.float64)
    results = (results_of(program, theta.astype(dtype), arrays) for program, dtype in programs)
    for rounded, exact in zip(*results, strict=True):
        size = 1e-3 + np.abs(exact[np.isfinite(exact)]).max(initial=0.0)
        with np.errstate(all="ignore"):
            wrong = np.isfinite(exact) & ~(np.abs(exact - rounded) <= SINGLE * size)
        far += zip(rounded[wrong].tolist(), exact[wrong].tolist(), strict=True)
    return next((pair for pair in far if not math.isfinite(pair[0])), far[0] if far else None)


def range_sentence(got: float, exact: float) -> str:
    """What to say where float32 gives inf or nan."""
    return (
        f"The program gives {got} in float32 and {exact:.4g} in float64: a number on the way "
        'leaves the range of float32, about 1e-38 to 3e38. Compile with dtype="float64", or scale the numbers.'
    )


def results_of(build: Build, theta: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Value, outputs and gradients of a batch, or the outputs alone."""
    gradient = np.empty_like(theta)
    try:
        result = build.run(theta, gradient, arrays, len(arrays[0]) if arrays else 1)
    finally:
        build.forget(theta)
    parts = result if isinstance(result, tuple) else (result,)
    return [*map(np.atleast_1d, parts), *[gradient] * build.contract.request.gradient]


def points(
    build: Build, first: Sequence[NDArray[Any]], arrays: Sequence[NDArray[Any]]
) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
    """Parameters and examples: `first` moved at random two times, as they are, and then what may be in a domain.

    One-hot rows stay. Indices are drawn anew; the other whole numbers of their arguments stay.
    """
    fixed = len(build.contract.closure.learned)  # the knobs stay: another thread may run the function
    rng, keep = np.random.default_rng(0), {argument for argument, yes in build.contract.assumed.items() if yes}
    keep |= {argument for argument, kind in enumerate(build.contract.kinds) if kind is int}
    keep |= {pick.argument for pick in build.contract.picks}
    build.contract.closure.numbers()
    theta = np.array(read_numbers(build.contract.closure.parameters), np.float64)
    for _ in range(2):
        inputs = [a if i in keep else _moved(a, rng) for i, a in enumerate(first)]
        for pick in build.contract.picks:
            flat = inputs[pick.argument].reshape(len(first[0]), -1).copy()
            flat[:, pick.positions] = rng.integers(pick.n_options, size=(len(flat), len(pick.positions)))
            inputs[pick.argument] = flat.reshape(first[pick.argument].shape)
        yield np.concatenate([_moved(theta[:fixed], rng), theta[fixed:]]), inputs
    yield theta, list(first)
    for row in range(1, min(ROWS, len(arrays[0])) if arrays else 0):
        yield theta, [array[row : row + 1] for array in arrays]
    for n in range(len(DOMAINS) ** 2):  # all in one domain, then each argument in one of its own
        own = [DOMAINS[n % len(DOMAINS) if n < len(DOMAINS) else rng.integers(len(DOMAINS))] for _ in arrays]
        drawn = (length * rng.random(a.shape) + start for a, (length, start) in zip(first, own, strict=True))
        yield theta, [a if i in keep else number for i, (a, number) in enumerate(zip(first, drawn, strict=True))]


# Length and start of what a number between 0 and 1 becomes: positive, between 0 and 1, above 1, negative.
DOMAINS = [(3, 0.05), (0.9, 0.05), (3, 1.05), (-3, -0.05)]


def _moved(array: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    return array * (1 + 0.1 * rng.standard_normal(array.shape)) + 0.1 * rng.standard_normal(array.shape)


def _fault_at(build: Build, theta: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> str | None:
    """What is wrong for these examples."""
    contract, request = build.contract, build.contract.request
    function, parameters = contract.closure.function, contract.closure.learned
    gradient, plain = np.empty_like(theta), examples(contract.picks, arrays, contract.kinds)
    results: list[Any] = []
    try:
        for example in plain if not request.gradient else plain[:1]:
            results.append(function(*example))
        expected = [_Eager(result, parameters, request) for result in results]
    except Exception as error:  # outside of a domain the engine raises, where arrays have nan
        if isinstance(error, ValueError | ArithmeticError) or contract.guards:  # or on another path
            return None
        raise

    def run(first: int, last: int) -> Any:
        result = build.run(theta, gradient, [array[first:last] for array in arrays], last - first)
        both = result if isinstance(result, tuple) else (result, None)
        return (*both, gradient[: len(parameters)].copy()) if request.gradient else result

    try:
        if not request.gradient:
            return next(filter(None, map(_outputs_differ, run(0, len(plain)), expected)), "")
        value, outputs, gradients = run(0, 1)
        if np.isfinite(value) and not np.isfinite(float(expected[0].loss.data)):
            return None  # the engine overflows on the way, where the stable form does not
        wrong = _gradients_differ(build, value, gradients, expected[0])
        wrong = wrong or (_outputs_differ(outputs[0], expected[0]) if outputs is not None else "")
        if wrong or len(plain) < 2 or not _rows_mix(run):
            return wrong
        try:  # perhaps it is rounding
            with contract.at(theta.tolist()):
                other = _Eager(function(*plain[1]), parameters, request)
        except (ValueError, ArithmeticError):
            return None
        value, _, gradients = run(1, 2)
        wrong = _gradients_differ(build, value, gradients, other)
        value, _, gradients = run(0, 2)
        return wrong or (_gradients_differ(build, value, gradients, expected[0], other) and MIXED)
    except Broken:  # the moved numbers take another path
        return None
    except Exception as error:
        return f"it fails with {type(error).__name__}: {error}"
    finally:
        build.forget(theta)


MIXED = "two examples together do not give the mean of the two alone"


class _Eager:
    """What the engine gives for an example: the loss and its gradients, and the other outputs."""

    def __init__(self, result: Any, parameters: Sequence[Value], request: Request):
        self.outputs = []
        if not request.gradient or request.with_outputs:
            self.outputs = flat_values(result[1] if request.gradient else result)[0]
        if request.gradient:
            self.loss, gradients = differentiated(result, parameters)
            self.gradients = np.array(gradients, np.float64)

    @functools.cached_property
    def rounding(self) -> tuple[float, dict[Value, float]]:
        return rounding(self.loss)


def _gradients_differ(build: Build, value: float, gradients: Any, *expected: _Eager) -> str:
    """Is it the mean of what was expected?"""
    loss, exact = (
        sum(x) / len(expected) for x in zip(*((float(e.loss.data), e.gradients) for e in expected), strict=True)
    )
    if not near(value, loss, abs(loss)) and not abs(value - loss) <= sum(e.rounding[0] for e in expected):
        return f"the value is {value!r}, and eagerly {loss!r}"
    wrong = np.flatnonzero(np.isfinite(exact) & ~np.isclose(gradients, exact, TOLERANCE, 1e-300)).tolist()
    for i in wrong:
        parameter = build.contract.closure.learned[i]
        if not abs(gradients[i] - exact[i]) <= sum(e.rounding[1].get(parameter, 0.0) for e in expected):
            name = parameter.label or f"parameter {i}"
            return f"the gradient of {name} is {float(gradients[i])!r}, and eagerly {float(exact[i])!r}"
    return ""


def _rows_mix(run: Callable[[int, int], Any]) -> bool:
    """Do two examples together give another mean than the two alone? Rounding may be the reason, too."""
    (v1, _, g1), (v2, _, g2), (v, _, g) = run(0, 1), run(1, 2), run(0, 2)
    both, each, other = np.array([v, *g]), np.array([v1, *g1]), np.array([v2, *g2])
    sizes = np.abs(each) + np.abs(other)
    with np.errstate(all="ignore"):
        return bool((np.isfinite(sizes) & ~(np.abs(both - (each + other) / 2) <= TOLERANCE * sizes)).any())


def _outputs_differ(outputs: NDArray[Any], expected: _Eager) -> str:
    for got, value in zip(outputs.ravel().tolist(), expected.outputs, strict=True):
        exact = float(value.data)
        overflows = np.isfinite(got) and not np.isfinite(exact)  # where the stable form does not
        if not (overflows or near(got, exact, abs(exact)) or abs(got - exact) <= rounding(value)[0]):
            return f"an output is {got!r}, and eagerly {value.data!r}"
    return ""


def rounding(root: Value) -> tuple[float, dict[Value, float]]:
    """What rounding can do to a result, and to its derivative by each node.

    The graph is computed again several times. Each operation is off by up to ROUNDING, forward and backward, or by
    as much to the other side: a tie is broken in both ways. What this changes is allowed. So a huge number counts
    only where it reaches a result, and what cancels counts nowhere: a tie may give the shift of a softmax other
    slopes, but the gradient does not change. Where no digit of a gradient is left, as after many steps of a
    chaotic recurrence, there is nothing to compare, and everything is allowed.
    """
    order = topological_order(root)
    value, exact, largest = _recomputed(order, lambda: 0.0)
    error, allowed = 0.0, dict.fromkeys(order, 0.0)
    for seed, sign in itertools.product(range(AGAIN), (1, -1)):
        moved, adjoints, _ = _recomputed(order, functools.partial(random.Random(seed).uniform, -sign, sign))
        error = max(error, abs(moved - value))  # max(0.0, nan) is 0.0
        for node, adjoint in adjoints.items():
            allowed[node] = max(allowed[node], abs(adjoint - exact[node]))
    if max(allowed[node] for node in order if not node.rule) > LOST * largest:
        return math.inf, dict.fromkeys(order, math.inf)
    return error, allowed


def _recomputed(order: Sequence[Value], off: Callable[[], float]) -> tuple[float, dict[Value, float], float]:
    """The last number, its derivative by each node, and the largest share; each is off by off() times ROUNDING."""
    numbers, slopes = dict[Value, float](), dict[Value, list[float]]()
    for node in order:
        number = float(node.data)
        if node.rule:
            inputs = [numbers[parent] for parent in node.parents]
            number, slopes[node] = _of_other_inputs(node, inputs, off)
            size = max(abs(number), *(abs(s * x) for s, x in zip(slopes[node], inputs, strict=True)))
            number += ROUNDING * size * off() if math.isfinite(size) else 0.0
        numbers[node] = number
    adjoints, largest = dict.fromkeys(order, 0.0), 0.0
    adjoints[order[-1]] = 1.0
    for node, own in reversed(slopes.items()):
        for parent, slope in zip(node.parents, own, strict=True):
            share = adjoints[node] * slope
            adjoints[parent] += share * (1 + ROUNDING * off())
            largest = max(largest, abs(share))
    return number, adjoints, largest


def _of_other_inputs(node: Value, inputs: list[float], off: Callable[[], float]) -> tuple[float, list[float]]:
    """The number and the slopes of a node for other inputs than its own; nearly, where its rule is not defined.

    Of a rule by hand the slopes are known for its own inputs alone: their error is the last digits of their terms.
    """
    rule, number, own = node.rule, float(node.data), [float(parent.data) for parent in node.parents]
    assert rule  # a leaf has no inputs
    with contextlib.suppress(ArithmeticError, ValueError, TypeError):
        out = math.nan if rule.by_hand else float(rule.forward(*inputs))
        if math.isfinite(out) or out == number:
            slopes = _slopes(rule, out, inputs)
            if rule not in PLAIN:  # the slope 1 - out^2 of tanh has few digits; that of max jumps
                moved = zip(_slopes(rule, out * (1 + ULPS * off()), inputs), slopes, strict=True)
                slopes = [m if abs(m - s) < JUMP * max(1, abs(s)) else s for m, s in moved]
            return out, slopes
    slopes = _slopes(rule, number, own)
    number += sum(slope * (x - y) for slope, x, y in zip(slopes, inputs, own, strict=True) if slope)
    return number, [s + 1000 * ULPS * max(1, abs(s)) * off() for s in slopes]


def _slopes(rule: Rule, out: float, inputs: list[float]) -> list[float]:
    """The slopes of a rule; 0 where it has none."""
    try:
        slopes = rule.backward(1.0, out, *inputs)
        return [float(slope) if math.isfinite(slope) else 0.0 for slope in slopes]
    except (ArithmeticError, ValueError, TypeError):
        return [0.0] * len(inputs)


def some_batch(build: Build) -> list[NDArray[Any]]:
    """Two examples for a program: random numbers, whole ones and indices where it needs them."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, *shape)) for shape in build.contract.request.shapes]
    for argument, kind in enumerate(build.contract.kinds):
        arrays[argument] = np.rint(3 * arrays[argument]) if kind is int else arrays[argument]
    for pick in build.contract.picks:
        rows = arrays[pick.argument].reshape(2, -1)
        rows[:, pick.positions] = rng.integers(0, pick.n_options, (2, len(pick.positions)))
    return arrays
