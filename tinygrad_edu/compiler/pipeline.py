"""The stages of the compiler, one after the other: trace, normalise, group, lower, differentiate, emit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.value import Value
from .backends.numpy import Emitter
from .batches import Pick, picks_of, rows_sum_to_one
from .checks import check_one_number, collector_paused, unchanged, unused
from .differentiate import ArrayProgram
from .group import groups_of
from .lower import Lowered, lower
from .naming import name_arrays
from .normalise import Graph, normalise
from .report import Groups
from .tracing import Trace, trace_function

BATCH_SIZES = 8  # a program keeps the buffers of those that were used last


@dataclass(frozen=True)
class Request:
    """What a program is made for.

    shapes        of one example, per argument
    gradient      value and gradient, or the outputs alone?
    with_outputs  the function returns (loss, outputs)
    """

    shapes: tuple[tuple[int, ...], ...]
    gradient: bool
    with_outputs: bool = False


@dataclass(eq=False, repr=False)
class Made:
    """A program: its source, and what must still hold for it to be used.

    request         the shapes, and what it computes
    output_shape    of the outputs for one example
    frozen          Values that were taken for constants, with their numbers
    state           what the function read of modules: (object, attribute, value)
    assumed         arguments whose rows were taken to add up to 1, or not to
    picks           the arguments that are indices, which are checked
    unused          the places of the parameters that the function does not use
    exact           makes a program without elements that the scalars do not have; None if there are none of them
    """

    request: Request
    source: str
    lowered: Lowered
    names: list[str]
    output_shape: tuple[int, ...]
    frozen: list[tuple[Value, Any]]
    state: list[tuple[Any, str, Any]]
    assumed: dict[int, bool]
    picks: list[Pick]
    unused: list[int]
    exact: Callable[[], "Made"] | None = None
    verified: bool = False
    attempts: int = 0
    _build: Any = None
    _runs: dict[Any, Any] = field(default_factory=dict)
    _exact: "Made | None" = None

    def holds(self, arrays: Sequence[NDArray[Any]]) -> bool:
        """Is what the program takes for constant still so, for this batch?"""
        if not unchanged(self.frozen, self.state):
            return False
        for argument, answer in self.assumed.items():  # noqa: SIM110 - a generator would cost as much as the check
            if rows_sum_to_one(arrays[argument]) is not answer:
                return False
        return True

    def run(self, parameters: NDArray[Any], gradient: Any, arrays: Sequence[Any], size: int) -> Any:
        """The program on a batch of so many examples, with its buffers in the dtype of the parameters.

        A program that has a gradient writes it into the vector `gradient`.
        """
        key = (id(parameters), size)
        # The parameters are kept alive, since their id is the key.
        made = self._runs.pop(key, None) or (self._build(parameters, size, parameters.dtype), parameters)
        self._runs[key] = made  # the last one, since it was used last
        if len(self._runs) > BATCH_SIZES:
            del self._runs[next(iter(self._runs))]
        if self.unused and gradient is not None:
            gradient[self.unused] = 0.0
        with np.errstate(all="ignore"):  # inf and nan are results, as in NumPy's own functions
            inputs = [np.ascontiguousarray(array, parameters.dtype) for array in arrays]
            result = made[0](*inputs, *([gradient] if self.request.gradient else []))
        if self.exact is None or _is_finite(result, gradient if self.request.gradient else 0.0):
            return result
        if self._exact is None:
            self._exact = self.exact()
        return self._exact.run(parameters, gradient, arrays, size)

    def forget(self, parameters: NDArray[Any]) -> None:
        """Drop the buffers that go with these parameters."""
        self._runs = {key: run for key, run in self._runs.items() if key[0] != id(parameters)}
        if self._exact is not None:
            self._exact.forget(parameters)


def _is_finite(result: Any, gradient: Any) -> bool:
    parts = result if isinstance(result, tuple) else (result,)
    return all(np.isfinite(part).all() for part in (*parts, gradient))


def make(
    function: Callable[..., Any],
    parameters: Sequence[Value],
    request: Request,
    arrays: Sequence[NDArray[Any]],
    plain: bool = False,
) -> Made:
    """The program of a function for batches like these. With plain=True it has no matrix products.

    Raises TraceError where the function needs a number, TypeError unless it returns what the request needs.
    """
    with collector_paused():
        traced = trace_function(function, parameters, request.shapes, request.with_outputs)
        if request.gradient and not request.with_outputs:
            check_one_number(traced.shape, "gradient")
        graph = normalise(traced, lambda argument: rows_sum_to_one(arrays[argument]))
        lowered, source, build = _program(graph, traced, parameters, request, plain)
        learned = [array for array in lowered.arrays if array.source == ("parameter",)]
        left_out = unused((parameters[place] for array in learned for place in array.places), parameters)

    def exact() -> Made:
        lowered, source, build = _program(graph, traced, parameters, request, plain=True)
        return replace(made, lowered=lowered, source=source, exact=None, _build=build, _runs={})

    made = Made(
        request,
        source,
        lowered,
        traced.names,
        traced.shape,
        graph.frozen,
        traced.state,
        graph.assumed,
        picks_of(lowered),
        left_out if request.gradient else [],
        exact if lowered.is_padded else None,
        _build=build,
    )
    return made


def _program(
    graph: Graph, traced: Trace, parameters: Sequence[Value], request: Request, plain: bool
) -> tuple[Lowered, str, Any]:
    """The arrays, the source, and the function that the source defines."""
    groups, numbers = groups_of(graph, [parameter.label for parameter in parameters], ragged=not plain)
    lowered = lower(graph, groups, numbers, request.shapes, plain)
    name_arrays(lowered, traced)
    program = ArrayProgram(lowered, len(request.shapes), request.gradient)
    source = Emitter(program, Groups(lowered).title).source
    namespace: dict[str, Any] = {}
    exec(compile(source, "<compiled function>", "exec"), namespace)
    return lowered, source, namespace["build"]
