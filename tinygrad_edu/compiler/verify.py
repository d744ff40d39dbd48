"""Verify: the compiled program against the scalar graph, before its numbers are used.

One example is computed eagerly, by the same engine that steps through a graph in a REPL. The compiled program
must give its value and every gradient, relative to the absolute adjoint: what rounding can do to a gradient,
however much its shares cancel. That rows of a batch do not mix is checked by the program itself: two examples
together must give the mean of the two alone.

Where the example lies on a kink, or just where everything cancels, rounding may decide between two right answers.
So a disagreement counts if it is still there at points nearby, to which parameters and inputs are moved at random.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..calculus import absolute_adjoint
from ..value import Value
from .batches import examples, picking_arguments
from .checks import TOLERANCE, collector_paused, eager, near
from .pipeline import Made
from .trace import flat_values

POINTS_NEARBY = 2

Result = tuple[float, NDArray[Any]]  # value and gradients


def disagreement(
    made: Made, function: Callable[..., Any], parameters: Sequence[Value], arrays: Sequence[NDArray[Any]]
) -> str | None:
    """What is wrong with a program, "" if nothing is; None if the eager function is not defined for the example.

    `arrays` is a batch, of which the first two examples are used.
    """
    arrays = [array[:2] for array in arrays]
    with collector_paused():
        first = _at(made, function, parameters, arrays)
        if not first:
            return first
        rng, keep = (
            np.random.default_rng(0),
            picking_arguments(made.lowered) | {a for a, yes in made.assumed.items() if yes},
        )
        found = []
        for _ in range(POINTS_NEARBY):
            moved = [a if place in keep else _moved(a, rng) for place, a in enumerate(arrays)]
            theta = _moved(np.array([parameter.data for parameter in parameters], np.float64), rng)
            with numbers_in(parameters, theta.tolist()):
                found.append(_at(made, function, parameters, moved))
    return "" if "" in found and not any(found) else first


def _moved(array: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    return array * (1 + 0.01 * rng.standard_normal(array.shape)) + 0.001 * rng.standard_normal(array.shape)


@contextmanager
def numbers_in(parameters: Sequence[Value], numbers: Sequence[float]) -> Iterator[None]:
    """Inside the block the parameters have these numbers, after it their own."""
    kept = [parameter.data for parameter in parameters]
    try:
        for parameter, number in zip(parameters, numbers, strict=True):
            parameter.data = number
        yield
    finally:
        for parameter, number in zip(parameters, kept, strict=True):
            parameter.data = number


def _at(made: Made, function: Any, parameters: Sequence[Value], arrays: Sequence[NDArray[Any]]) -> str | None:
    """What is wrong for these examples."""
    theta = np.array([parameter.data for parameter in parameters], np.float64)
    gradient, plain = np.empty_like(theta), examples(made.lowered, arrays)

    def run(first: int, last: int) -> Any:
        result = made.run(theta, gradient, [array[first:last] for array in arrays], last - first)
        return (result[0] if isinstance(result, tuple) else result, gradient.copy()) if made.gradient else result

    try:
        if made.gradient:
            return _gradients_differ(run, function, parameters, [value for value, _ in made.frozen], plain)
        return _outputs_differ(run, [function(*example) for example in plain])
    except (ValueError, ArithmeticError):  # outside of a domain the engine raises, where arrays have nan
        return None
    finally:
        made.forget(theta)


def _gradients_differ(
    run: Callable[[int, int], Result],
    function: Any,
    parameters: Sequence[Value],
    frozen: Any,
    plain: Sequence[Any],
) -> str:
    loss, expected = eager(function, parameters, frozen, plain[0])
    value, gradients = run(0, 1)
    if not near(value, loss.data, abs(loss.data)) and not near(value, loss.data, _terms(loss)):
        return f"the value is {value!r}, and eagerly {loss.data!r}"
    wrong = [i for i, (g, e) in enumerate(zip(gradients, expected, strict=True)) if not near(g, e, abs(e))]
    sizes = absolute_adjoint(loss) if wrong else {}
    for i in wrong:
        if not near(gradients[i], expected[i], sizes.get(parameters[i], 0.0)):
            name = parameters[i].label or f"parameter {i}"
            return f"the gradient of {name} is {float(gradients[i])!r}, and eagerly {expected[i]!r}"
    return _rows_mix(run) if len(plain) > 1 else ""


def _rows_mix(run: Callable[[int, int], Result]) -> str:
    (v1, g1), (v2, g2), (v, g) = run(0, 1), run(1, 2), run(0, 2)
    numbers = np.array([*g1, *g2, v1, v2])
    if not np.isfinite(numbers).all():
        return ""
    size = 1.0 + np.abs(numbers).max(initial=0.0)
    if near(v, (v1 + v2) / 2, size) and np.allclose(g, (g1 + g2) / 2, 0.0, TOLERANCE * size):
        return ""
    return "two examples together do not give the mean of the two alone"


def _outputs_differ(run: Callable[[int, int], NDArray[Any]], results: Sequence[Any]) -> str:
    found = run(0, len(results)).reshape(len(results), -1)
    for numbers, result in zip(found.tolist(), results, strict=True):
        for got, value in zip(numbers, flat_values(result)[0], strict=True):
            if not near(got, value.data, abs(value.data)) and not near(got, value.data, _terms(value)):
                return f"an output is {got!r}, and eagerly {value.data!r}"
    return ""


def _terms(root: Value) -> float:
    """The size of what a result is added up from, however much of it cancels: rounding is relative to this."""
    return sum(abs(float(node.data)) * adjoint for node, adjoint in absolute_adjoint(root).items())
