"""Verify: the compiled program against the scalar graph, before its numbers are used.

One example is computed eagerly, by the same engine that steps through a graph in a REPL. The compiled program
must give its value and every gradient, relative to the absolute adjoint: what rounding can do to a gradient,
however much its shares cancel. That rows of a batch do not mix is checked by the program itself: two examples
together must give the mean of the two alone.

The point is not the example itself, where zeros may hide a fault: parameters and inputs are moved at random.
Rounding may still decide between two right answers, on a kink or where everything cancels; so a disagreement
counts if there is another at a second such point.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.calculus import absolute_adjoint
from ..engine.value import Value
from .batches import examples
from .checks import TOLERANCE, collector_paused, eager, near, numbers_in
from .pipeline import Made
from .tracing import flat_values

ATTEMPTS = 3  # with the batches of so many calls, if the eager function raises for the first ones

Result = tuple[float, NDArray[Any]]  # value and gradients


def disagreement(
    made: Made, function: Callable[..., Any], parameters: Sequence[Value], arrays: Sequence[NDArray[Any]]
) -> str | None:
    """What is wrong with a program, "" if nothing is; None if the eager function is defined at no point tried.

    `arrays` is a batch, of which the first two examples are used.
    """
    own = [array[:2] for array in arrays]
    rng, one_hot = np.random.default_rng(0), {argument for argument, yes in made.assumed.items() if yes}
    keep = {pick.argument for pick in made.picks} | one_hot
    found = []
    with collector_paused():
        for moved in (True, True, False):
            inputs = [_moved(a, rng) if moved and i not in keep else a for i, a in enumerate(own)]
            theta = np.array([parameter.data for parameter in parameters], np.float64)
            with numbers_in(parameters, (_moved(theta, rng) if moved else theta).tolist()):
                found.append(_at(made, function, parameters, inputs))
            agree, disagree = found.count(""), sum(map(bool, found))
            if agree > disagree:
                return ""
    return next((wrong for wrong in found if wrong), None)


def _moved(array: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float64]:
    return array * (1 + 0.1 * rng.standard_normal(array.shape)) + 0.1 * rng.standard_normal(array.shape)


def _at(made: Made, function: Any, parameters: Sequence[Value], arrays: Sequence[NDArray[Any]]) -> str | None:
    """What is wrong for these examples."""
    theta = np.array([parameter.data for parameter in parameters], np.float64)
    gradient, plain = np.empty_like(theta), examples(made.picks, arrays)
    try:
        if made.request.gradient:
            loss, expected = eager(function, parameters, [value for value, _ in made.frozen], plain[0])
        else:
            results = [flat_values(function(*example))[0] for example in plain]
    except (ValueError, ArithmeticError):  # outside of a domain the engine raises, where arrays have nan
        return None

    def run(first: int, last: int) -> Any:
        result = made.run(theta, gradient, [array[first:last] for array in arrays], last - first)
        return (
            (result[0] if isinstance(result, tuple) else result, gradient.copy())
            if made.request.gradient
            else result
        )

    try:
        if made.request.gradient:
            value, gradients = run(0, 1)
            if np.isfinite(value) and not np.isfinite(float(loss.data)):
                return None  # the engine overflows on the way, where the stable form does not
            wrong = _gradients_differ(value, gradients, loss, expected, parameters)
            return wrong or (_rows_mix(run) if len(plain) > 1 else "")
        return _outputs_differ(run(0, len(plain)).reshape(len(plain), -1), results)
    except Exception as error:
        return f"it fails with {type(error).__name__}: {error}"
    finally:
        made.forget(theta)


def _gradients_differ(
    value: float, gradients: Any, loss: Value, expected: Any, parameters: Sequence[Value]
) -> str:
    if not near(value, loss.data, abs(loss.data)) and not near(value, loss.data, _terms(loss)):
        return f"the value is {value!r}, and eagerly {loss.data!r}"
    pairs = enumerate(zip(gradients, expected, strict=True))
    wrong = [i for i, (g, e) in pairs if not near(g, e, abs(e)) and np.isfinite(float(e))]
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
