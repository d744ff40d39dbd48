"""Verify: the compiled program against the scalar graph, before its numbers are used.

The engine computes one example eagerly. The compiled program must give its value and every gradient. The
tolerance is relative to the absolute adjoint: this is what rounding can do to a gradient, however much its shares
cancel. Two examples together must give the mean of the two alone, or rows of the batch mix. A program with loops
is compared at a second length too, or else with a program whose loops are a stage shorter.

Parameters and inputs are moved at random first, since zeros hide faults. On a kink, or where everything cancels,
rounding decides between two right answers. So a disagreement counts only if there is one at a second point too.

A program in float32 is also compared with itself in float64, on the whole batch.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.calculus import absolute_adjoint
from ..engine.rule import Rule
from ..engine.value import Value
from .batches import examples
from .checks import TOLERANCE, CompileError, collector_paused, eager, near
from .lengths import resized
from .loops import every_array
from .pipeline import Broken, Made
from .tracing import flat_values, standing_in

POINTS = [0.5, 0.25, 1.5, -0.5, 2.0]  # inputs to try a rule with
SINGLE = 1e-2  # so far may float32 be off, of the largest number: only overflow and lost digits do that
ATTEMPTS = 3  # with the batches of so many calls, if the eager function raises for the first ones

Result = tuple[float, NDArray[Any]]  # value and gradients


def disagreement(
    made: Made, function: Callable[..., Any], parameters: Sequence[Value], arrays: Sequence[NDArray[Any]]
) -> str | None:
    """What is wrong with a program, or "". None if the eager function is defined at no point that was tried.

    `arrays` is a batch. Its first two examples are used.
    """

    def compared(program: Made, theta: NDArray[Any], inputs: Sequence[NDArray[Any]]) -> str | None:
        numbers = dict(chain(program.frozen, zip(parameters, theta.tolist(), strict=True)))
        with standing_in(numbers) as twins:
            return _at(program, function, [twins[p] for p in parameters], theta, inputs)

    found = []
    with collector_paused():
        for theta, inputs in _points(made, parameters, [array[:2] for array in arrays]):
            found.append(compared(made, theta, inputs))
            agree, disagree = found.count(""), sum(map(bool, found))
            if agree > disagree:
                found[-1] = _lengths_differ(made, compared, theta, inputs)
                if not found[-1]:
                    made.shorter = None
                    return ""
    return next((wrong for wrong in found if wrong), None)


def _lengths_differ(
    made: Made, compared: Callable[..., str | None], theta: NDArray[Any], inputs: Sequence[NDArray[Any]]
) -> str:
    """Compare a program that has loops at a second length: a loop that is right for one only is no recurrence.

    Where the length is no variable of the program, or the function fails at the other one, it is compared with the
    program whose loops are one stage shorter, with this stage in front.
    """
    if lengths := made.lengths:
        second = lengths.sizes[1]
        if second not in lengths.agreed:
            wrong = compared(lengths.second, theta, resized(inputs, lengths.axes, second))
            if wrong:
                return f"{wrong}, for inputs of length {second}"
            lengths.agreed |= {second} if wrong == "" else set()
        if second in lengths.agreed:
            lengths.agreed.add(lengths.length(made.request))
            return ""
    if made.shorter is None:
        return ""
    found, expected = (np.concatenate(results_of(p, theta, inputs)) for p in (made.shorter(), made))
    size = 1.0 + np.abs(expected).max(initial=0.0)
    if not np.isfinite(size) or np.allclose(found, expected, 0.0, TOLERANCE * size, equal_nan=True):
        return ""
    return "a loop gives other numbers when one of its stages is taken out"


def two_calls(
    made: Made, function: Callable[..., Any], parameters: Sequence[Value], arrays: Sequence[NDArray[Any]]
) -> list[Any]:
    """What the function itself returns when it is called twice with the same numbers."""
    example = examples(made.picks, [array[:1] for array in arrays], made.kinds)[0]
    with standing_in({parameter: parameter.data for parameter in parameters}):  # another thread may train
        return [[float(value.data) for value in flat_values(_first(function(*example)))[0]] for _ in range(2)]


def rule_at_fault(made: Made) -> str:
    """A sentence about a rule of the user's that does not give on arrays what it gives on floats; "" if all do."""
    for rule in {array.rule: None for array in every_array(made.lowered) if array.rule}:
        if not rule._declared[2].__module__.startswith("tinygrad_edu.") and (wrong := _wrong_on_arrays(rule)):
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
        found = computed(*map(np.array, zip(*rows, strict=True)))
        alike = np.allclose(np.transpose(np.broadcast_arrays(*found, np.ones(len(rows)))[:-1]), expected, 1e-9)
    except Exception as error:
        return (
            f"on arrays it raises {type(error).__name__}: {error}. Write it with operators and the functions of "
            "tinygrad_edu.elementary, sin instead of math.sin and where instead of a branch"
        )
    if any(isinstance(x, np.floating) and x.dtype != np.float64 for row in expected for x in row):
        return "it computes in a precision of its own. Write its numbers as floats, 1.5 instead of np.float32(1.5)"
    return "" if alike else "on arrays it gives other numbers. Compute each entry by itself"


def check_range(made: Made, parameters: Sequence[Value], arrays: Sequence[NDArray[Any]]) -> str:
    """Compare a program in float32 with itself in float64. Returns "", or what is far off.

    Raises CompileError if numbers leave the range of float32: if it gives inf or nan where float64 gives a number.
    """
    found = []
    for theta, inputs in _points(made, parameters, arrays):
        exact, rounded = (results_of(made, theta.astype(dtype), inputs) for dtype in (np.float64, np.float32))
        wrong = [pair for numbers in zip(exact, rounded, strict=True) for pair in _far(*numbers)]
        found.append(next((pair for pair in wrong if not np.isfinite(pair[1])), wrong[0] if wrong else None))
    *moved, own = found
    at = own if own and not np.isfinite(own[1]) else moved[0] if all(moved) else None
    if at is None:
        return ""
    if np.isfinite(at[1]):
        return f"{at[1]:.4g} instead of {at[0]:.4g}"
    raise CompileError(range_sentence(at[1], at[0]))


def _far(exact: NDArray[Any], rounded: NDArray[Any]) -> list[tuple[float, float]]:
    """Those numbers, with their rounded ones, that rounding alone does not explain."""
    size = 1e-3 + np.abs(exact[np.isfinite(exact)]).max(initial=0.0)
    with np.errstate(all="ignore"):
        far = np.isfinite(exact) & ~(np.abs(exact - rounded) <= SINGLE * size)
    return list(zip(exact[far].tolist(), rounded[far].tolist(), strict=True))


def range_sentence(found: float, exact: float) -> str:
    """What to say where float32 gives inf or nan."""
    return (
        f"The program gives {found} in float32 and {exact:.4g} in float64: a number on the way "
        'leaves the range of float32, about 1e-38 to 3e38. Compile with dtype="float64", or scale the numbers.'
    )


def results_of(made: Made, theta: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """Value and gradients, or the outputs, of a batch."""
    gradient = np.empty_like(theta)
    try:
        result = made.run(theta, gradient, arrays, len(arrays[0]) if arrays else 1)
    finally:
        made.forget(theta)
    return [np.array([_first(result)]), gradient] if made.request.gradient else [result.ravel()]


def _first(result: Any) -> Any:
    """The loss, of (loss, outputs)."""
    return result[0] if isinstance(result, tuple) else result


def _points(
    made: Made, parameters: Sequence[Value], arrays: Sequence[NDArray[Any]]
) -> Iterator[tuple[NDArray[Any], list[NDArray[Any]]]]:
    """Parameters and inputs, moved at random two times, and then as they are. One-hot rows stay.

    Indices become any others; where an argument holds whole numbers, the rest of them stays.
    """
    rng, keep = np.random.default_rng(0), {argument for argument, yes in made.assumed.items() if yes}
    keep |= {argument for argument, kind in enumerate(made.kinds) if kind is int}
    keep |= {pick.argument for pick in made.picks}
    theta = np.array([parameter.data for parameter in parameters], np.float64)
    for _ in range(2):
        inputs = [a if i in keep else _moved(a, rng) for i, a in enumerate(arrays)]
        for pick in made.picks:
            flat = inputs[pick.argument].reshape(len(arrays[0]), -1).copy()
            flat[:, pick.positions] = rng.integers(pick.n_options, size=(len(flat), len(pick.positions)))
            inputs[pick.argument] = flat.reshape(arrays[pick.argument].shape)
        yield _moved(theta, rng), inputs
    yield theta, list(arrays)


def _moved(array: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    return array * (1 + 0.1 * rng.standard_normal(array.shape)) + 0.1 * rng.standard_normal(array.shape)


def _at(
    made: Made,
    function: Any,
    parameters: Sequence[Value],
    theta: NDArray[Any],
    arrays: Sequence[NDArray[Any]],
) -> str | None:
    """What is wrong for these examples."""
    gradient, plain = np.empty_like(theta), examples(made.picks, arrays, made.kinds)
    try:
        if made.request.gradient:
            loss, expected = eager(function, parameters, plain[0])
        else:
            results = [flat_values(function(*example))[0] for example in plain]
    except Exception as error:  # outside of a domain the engine raises, where arrays have nan
        if isinstance(error, ValueError | ArithmeticError) or made.guards:  # or on another path
            return None
        raise

    def run(first: int, last: int) -> Any:
        result = made.run(theta, gradient, [array[first:last] for array in arrays], last - first)
        return (_first(result), gradient.copy()) if made.request.gradient else result

    try:
        if made.request.gradient:
            value, gradients = run(0, 1)
            if np.isfinite(value) and not np.isfinite(float(loss.data)):
                return None  # the engine overflows on the way, where the stable form does not
            wrong = _gradients_differ(value, gradients, loss, expected, parameters)
            return wrong or (_rows_mix(run) if len(plain) > 1 else "")
        return _outputs_differ(run(0, len(plain)).reshape(len(plain), -1), results)
    except Broken:  # the moved numbers take another path
        return None
    except Exception as error:
        return f"it fails with {type(error).__name__}: {error}"
    finally:
        made.forget(theta)


def _gradients_differ(
    value: float, gradients: Any, loss: Value, expected: Any, parameters: Sequence[Value]
) -> str:
    if not near(value, loss.data, abs(loss.data)) and not near(value, loss.data, _terms(loss)):
        return f"the value is {value!r}, and eagerly {loss.data!r}"
    exact = np.array(expected, np.float64)
    wrong = np.flatnonzero(np.isfinite(exact) & ~np.isclose(gradients, exact, TOLERANCE, 1e-300)).tolist()
    if wrong:
        sizes = absolute_adjoint(loss)
        floor = 1e-3 * (1 + max(abs(float(node.data)) for node in sizes))  # what the slopes were computed from
        for i in wrong:
            if not near(gradients[i], expected[i], sizes.get(parameters[i], 0.0) + floor):
                name = parameters[i].label or f"parameter {i}"
                return f"the gradient of {name} is {float(gradients[i])!r}, and eagerly {expected[i]!r}"
    return ""


def _rows_mix(run: Callable[[int, int], Result]) -> str:
    (v1, g1), (v2, g2), (v, g) = run(0, 1), run(1, 2), run(0, 2)
    numbers = np.array([*g1, *g2, v1, v2])
    if not np.isfinite(numbers).all():
        return ""
    size = 1.0 + np.abs(numbers).max(initial=0.0)
    if near(v, (v1 + v2) / 2, size) and np.allclose(g, (g1 + g2) / 2, 0.0, TOLERANCE * size):
        return ""
    return "two examples together do not give the mean of the two alone"


def _outputs_differ(found: NDArray[Any], results: Sequence[Sequence[Value]]) -> str:
    for numbers, values in zip(found.tolist(), results, strict=True):
        for got, value in zip(numbers, values, strict=True):
            overflows = np.isfinite(got) and not np.isfinite(float(value.data))  # where the stable form does not
            if not (overflows or near(got, value.data, abs(value.data)) or near(got, value.data, _terms(value))):
                return f"an output is {got!r}, and eagerly {value.data!r}"
    return ""


def _terms(root: Value) -> float:
    """The size of what a result is added up from, however much of it cancels: rounding is relative to this."""
    return sum(abs(float(node.data)) * adjoint for node, adjoint in absolute_adjoint(root).items())
