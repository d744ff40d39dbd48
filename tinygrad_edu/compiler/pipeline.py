"""The stages of the compiler, one after the other: trace, normalise, group, lower, differentiate, emit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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
from .normalise import normalise
from .report import Groups
from .tracing import trace_function

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
    namespace       what the source defines, `build` among it
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
    namespace: dict[str, Any]
    verified: bool = False
    attempts: int = 0
    _runs: dict[Any, Any] = field(default_factory=dict)

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
        made = self._runs.pop(key, None) or (
            self.namespace["build"](parameters, size, parameters.dtype),
            parameters,
        )
        self._runs[key] = made  # the last one, since it was used last
        if len(self._runs) > BATCH_SIZES:
            del self._runs[next(iter(self._runs))]
        if self.unused and gradient is not None:
            gradient[self.unused] = 0.0
        with np.errstate(all="ignore"):  # inf and nan are results, as in NumPy's own functions
            inputs = [np.ascontiguousarray(array, parameters.dtype) for array in arrays]
            return made[0](*inputs, *([gradient] if self.request.gradient else []))

    def forget(self, parameters: NDArray[Any]) -> None:
        """Drop the buffers that go with these parameters."""
        self._runs = {key: run for key, run in self._runs.items() if key[0] != id(parameters)}


def numpy_program(lowered: Lowered, request: Request, title: str) -> tuple[str, dict[str, Any]]:
    """A program in NumPy: its source and what it defines."""
    source = Emitter(ArrayProgram(lowered, len(request.shapes), request.gradient), title).source
    return source, defined(source)


def defined(source: str) -> dict[str, Any]:
    """What the source of a program defines."""
    namespace: dict[str, Any] = {}
    exec(compile(source, "<compiled>", "exec"), namespace)
    return namespace


def make(
    function: Callable[..., Any],
    parameters: Sequence[Value],
    request: Request,
    arrays: Sequence[NDArray[Any]] | None,
    plain: bool = False,
    write: Callable[[Lowered, Request, str], tuple[str, dict[str, Any]]] = numpy_program,
) -> Made:
    """The program of a function for batches like these. With plain=True it has no matrix products.

    arrays=None makes a program that assumes nothing of its batches.

    Raises TraceError where the function needs a number, TypeError unless it returns what the request needs.
    """
    with collector_paused():
        traced = trace_function(function, parameters, request.shapes, request.with_outputs)
        if request.gradient and not request.with_outputs:
            check_one_number(traced.shape, "gradient")
        graph = normalise(traced, lambda argument: arrays is not None and rows_sum_to_one(arrays[argument]))
        groups, numbers = groups_of(graph, [parameter.label for parameter in parameters])
        lowered = lower(graph, groups, numbers, request.shapes, plain)
        learned = [array for array in lowered.arrays if array.source == ("parameter",)]
        left_out = unused((parameters[place] for array in learned for place in array.places), parameters)
        name_arrays(lowered, traced)
        source, namespace = write(lowered, request, Groups(lowered).title)
    return Made(
        request,
        source,
        lowered,
        traced.names,
        traced.shape,
        graph.frozen,
        traced.state,
        {} if arrays is None else graph.assumed,
        picks_of(lowered),
        left_out if request.gradient else [],
        namespace,
    )
