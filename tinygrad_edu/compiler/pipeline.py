"""The stages of the compiler, one after the other: trace, normalise, group, lower, differentiate, emit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..value import Value
from .batches import Pick, picks_of
from .checks import check_one_number, check_used, collector_paused
from .differentiate import Program
from .emit import Emitter
from .group import groups_of
from .lower import Lowered, lower
from .naming import name_arrays
from .normalise import normalise
from .report import Groups
from .trace import trace

BATCH_SIZES = 8  # buffers are kept for so many


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

    output_shape    of the outputs for one example
    frozen          Values that were taken for constants, with their numbers
    assumed         arguments whose rows were taken to add up to 1, or not to
    picks           the arguments that are indices, which are checked
    """

    source: str
    lowered: Lowered
    names: list[str]
    output_shape: tuple[int, ...]
    frozen: list[tuple[Value, Any]]
    assumed: dict[int, bool]
    gradient: bool
    picks: list[Pick]
    verified: bool = False
    attempts: int = 0
    _build: Any = None
    _runs: dict[Any, Any] = field(default_factory=dict)

    def run(self, parameters: NDArray[Any], gradient: NDArray[Any], arrays: Sequence[Any], size: int) -> Any:
        """The program on a batch of so many examples, with its buffers in the dtype of the parameters."""
        key = (id(parameters), size)
        if key not in self._runs:
            vectors = (parameters, gradient) if self.gradient else (parameters,)
            if len(self._runs) == BATCH_SIZES:
                del self._runs[next(iter(self._runs))]
            run = self._build(*vectors, size, parameters.dtype)
            self._runs[key] = run, vectors  # which are kept alive: their id is the key
        with np.errstate(all="ignore"):  # inf and nan are results, as in NumPy's own functions
            return self._runs[key][0](*[np.ascontiguousarray(array, parameters.dtype) for array in arrays])

    def forget(self, parameters: NDArray[Any]) -> None:
        """Drop the buffers that go with these parameters."""
        self._runs = {key: run for key, run in self._runs.items() if key[0] != id(parameters)}


def make(
    function: Callable[..., Any],
    parameters: Sequence[Value],
    request: Request,
    is_one_hot: Callable[[int], bool],
    plain: bool = False,
) -> Made:
    """The program of a function; see `normalise` for is_one_hot. With plain=True nothing is a matrix product."""
    with collector_paused():
        traced = trace(function, parameters, request.shapes, request.with_outputs)
        if request.gradient and not request.with_outputs:
            check_one_number(traced.shape, "gradient")
        graph = normalise(traced, is_one_hot)
        groups, numbers = groups_of(graph)
        lowered = lower(graph, groups, numbers, request.shapes, plain)
        if request.gradient:
            learned = [array for array in lowered.arrays if array.source == ("parameter",)]
            check_used((parameters[place] for array in learned for place in array.places), parameters)
        name_arrays(lowered, traced)
        program = Program(lowered, len(request.shapes), request.gradient)
        source = Emitter(program, Groups(lowered).title).source
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<compiled {function!r}>", "exec"), namespace)
    return Made(
        source,
        lowered,
        traced.names,
        traced.shape,
        graph.frozen,
        graph.assumed,
        request.gradient,
        picks_of(lowered),
        _build=namespace["build"],
    )
