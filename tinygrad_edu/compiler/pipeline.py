"""The stages of the compiler, one after the other: trace, normalise, group, lower, differentiate, emit."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.value import Value
from .backends.numpy import Emitter
from .batches import Pick, picks_of, rows_sum_to_one
from .checks import check_one_number, collector_paused, unchanged
from .decay import join_squares
from .examples import Examples
from .group import groups_of
from .loop_program import LoopProgram
from .loops import Roller
from .lower import Lowered, lower
from .naming import name_arrays
from .normalise import Graph, normalise
from .report import Groups
from .tracing import Trace

WHOLE = "iu"  # the kinds of dtypes whose numbers are whole
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


class Broken(Exception):
    """Examples whose path is not known: the `rows`, and those among them with `different` outcomes."""

    def __init__(self, rows: list[int], different: list[int]):
        self.rows, self.different = rows, different


@dataclass(eq=False)
class Guards:
    """The last columns of the outputs of a program are guards. Their outcomes are the path of an example.

    examples  the runs that the program was made from
    paths     per known path, the guards on it, and whether each is true
    n         of so many outputs
    """

    examples: Examples
    paths: list[tuple[list[int], list[bool]]]
    n: int

    def fits(self, arrays: Sequence[NDArray[Any]]) -> bool:
        """Are the whole numbers where the function takes them?"""
        return all(
            kind is not int or a.dtype.kind in WHOLE for kind, a in zip(self.examples.kinds, arrays, strict=True)
        )

    def split(self, result: Any, checked: bool) -> Any:
        """The result of a run without the guards. Raises Broken for examples whose path is not known."""
        if not self.n:
            return result
        value, outputs = result if isinstance(result, tuple) else (None, result)
        outputs, asked = np.split(outputs, [outputs.shape[1] - self.n], axis=1)
        known = np.zeros(len(asked), bool)
        for guards, wanted in self.paths:
            known |= ((asked[:, guards] != 0) == wanted).all(axis=1)
        if checked and not known.all():
            rows = np.flatnonzero(~known)
            _, first = np.unique(asked[rows], axis=0, return_index=True)
            raise Broken(rows.tolist(), rows[first].tolist())
        if value is None:
            return outputs
        return (value, outputs) if outputs.shape[1] else value


@dataclass(eq=False, repr=False)
class Made:
    """A program: its source, and what must still hold for it to be used.

    request         the shapes, and what it computes
    lowered         its arrays; None until somebody asks, if the program was made for another length
    output_shape    of the outputs for one example
    loss            the place of the loss in the outputs
    frozen          Values that were taken for constants, with their numbers
    state           what the function read of modules: (object, attribute, value)
    assumed         arguments whose rows were taken to add up to 1, or not to
    picks           the arguments that are indices, which are checked
    unused          the places of the parameters that the function does not use; a slice where not all are used
    namespace       what the source defines, `build` among it
    guards          what it checks for each example, if it was traced by examples
    shorter         makes the program whose loops have one stage less, to compare them; None if there are no loops
    exact           makes a program without elements that the scalars do not have; None if there are none of them
    lengths         the program with the length of the inputs as a variable, if this is one of its lengths
    """

    request: Request
    source: str
    lowered: Any
    names: list[str]
    output_shape: Any
    loss: int | None
    frozen: list[tuple[Value, Any]]
    state: list[tuple[Any, str, Any]]
    assumed: dict[int, bool]
    picks: list[Pick]
    unused: list[int] | slice
    namespace: dict[str, Any]
    guards: "Guards | None" = None
    shorter: Callable[[], "Made"] | None = None
    exact: Callable[[], "Made"] | None = None
    lengths: Any = None
    verified: bool = False
    attempts: int = 0
    _runs: dict[Any, Any] = field(default_factory=dict)
    _exact: "Made | None" = None

    @property
    def kinds(self) -> Sequence[Any]:
        """Per argument what the function takes: int, float or Value; () for whatever goes."""
        return self.guards.examples.kinds if self.guards else ()

    def holds(self, arrays: Sequence[NDArray[Any]]) -> bool:
        """Is what the program takes for constant still so, for this batch?"""
        if not unchanged(self.frozen, self.state) or (self.guards and not self.guards.fits(arrays)):
            return False
        for argument, answer in self.assumed.items():  # noqa: SIM110 - a generator would cost as much as the check
            if rows_sum_to_one(arrays[argument]) is not answer:
                return False
        return True

    def run(
        self, parameters: NDArray[Any], gradient: Any, arrays: Sequence[Any], size: int, checked: bool = True
    ) -> Any:
        """The program on a batch of so many examples, with its buffers in the dtype of the parameters.

        A program that has a gradient writes it into the vector `gradient`. If it is checked, it raises Broken for
        examples whose path is not known.
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
            try:
                result = made[0](*inputs, *([gradient] if self.request.gradient else []))
            except IndexError:  # an example of another path has no such index
                if not self.guards or not checked:
                    raise
                rows = list(range(size))
                raise Broken(rows, rows) from None
        if self.exact is not None and not _is_finite(result, gradient if self.request.gradient else 0.0):
            self._exact = self._exact or self.exact()
            return self._exact.run(parameters, gradient, arrays, size, checked)
        return self.guards.split(result, checked) if self.guards else result

    def forget(self, parameters: NDArray[Any]) -> None:
        """Drop the buffers that go with these parameters."""
        self._runs = {key: run for key, run in self._runs.items() if key[0] != id(parameters)}
        if self._exact is not None:
            self._exact.forget(parameters)


def _is_finite(result: Any, gradient: Any) -> bool:
    parts = result if isinstance(result, tuple) else (result,)
    return all(np.isfinite(part).all() for part in (*parts, gradient))


def numpy_program(lowered: Lowered, request: Request, title: str) -> tuple[str, dict[str, Any]]:
    """A program in NumPy: its source and what it defines."""
    source = Emitter(LoopProgram(lowered, len(request.shapes), request.gradient), title).source
    return source, defined(source)


def defined(source: str) -> dict[str, Any]:
    """What the source of a program defines."""
    namespace: dict[str, Any] = {}
    exec(compile(source, "<compiled>", "exec"), namespace)
    return namespace


def make(
    traced: Trace,
    parameters: Sequence[Value],
    request: Request,
    arrays: Sequence[NDArray[Any]] | None,
    plain: bool = False,
    write: Callable[[Lowered, Request, str], tuple[str, dict[str, Any]]] = numpy_program,
) -> Made:
    """The program of a trace for batches like these. With plain=True it has no matrix products.

    arrays=None makes a program that assumes nothing of its batches.

    Raises TypeError unless the function returns what the request needs, TraceError if runs on two examples gave
    different graphs.
    """
    with collector_paused():
        kept, found = slice(None), traced.by_example
        if request.gradient and not request.with_outputs:
            if traced.loss is None:
                check_one_number(traced.shape, "gradient")
            kept = slice(traced.loss, (traced.loss or 0) + 1)
        outputs = [run.outputs[kept] for run in found.runs] if found else [traced.outputs[kept]]
        asked = [step.node for run in found.runs for step in run.path] if found else []
        whole = replace(traced, outputs=[*chain(*outputs), *asked])
        graph = normalise(whole, lambda argument: arrays is not None and rows_sum_to_one(arrays[argument]))
        guards = _guards(found, graph, len(outputs[0])) if found else None
        labels = [parameter.label for parameter in parameters]
        lowered = lower(graph, *groups_of(graph, labels, ragged=not plain), request.shapes, plain)
        join_squares(lowered)
        is_used = np.zeros(len(parameters), bool)
        for array in lowered.arrays:
            if array.source == ("parameter",):
                is_used[array.places] = True
        roller = Roller(lowered)
        rolled = lowered if plain else roller.roll()

        def program(lowered: Lowered) -> tuple[str, dict[str, Any]]:
            name_arrays(lowered, traced)
            return write(lowered, request, Groups(lowered).title)

        def shorter() -> Made:
            other = replace(made, namespace=program(roller.roll(skip=1))[1], _runs={})
            name_arrays(rolled, traced)
            return other

        def exact() -> Made:
            other = lower(graph, *groups_of(graph, labels, ragged=False), request.shapes, plain=True)
            source, defines = program(other)
            return replace(
                made, lowered=other, source=source, shorter=None, exact=None, namespace=defines, _runs={}
            )

        source, namespace = program(rolled)
    made = Made(
        request,
        source,
        rolled,
        traced.names,
        traced.shape,
        traced.loss,
        graph.frozen,
        traced.state,
        {} if arrays is None else graph.assumed,
        picks_of(rolled),
        np.flatnonzero(~is_used).tolist() if request.gradient else [],
        namespace,
        guards,
        shorter=shorter if rolled is not lowered else None,
        exact=exact if lowered.is_padded else None,
    )
    return made


def _guards(found: Examples, graph: Graph, n: int) -> Guards:
    """Leave the n outputs of one path in the graph, and each guard once. Raises TraceError if paths differ."""
    outputs, end = graph.outputs[:n], n * len(found.runs)
    for place in range(n, end, n):
        if graph.outputs[place : place + n] != outputs:
            raise found.differ(place // n)
    column: dict[int, int] = {}
    asked, paths = iter(graph.outputs[end:]), []
    for run in found.runs:
        path = {column.setdefault(next(asked), len(column)): step.outcome for step in run.path}
        paths.append((list(path), list(path.values())))
    graph.outputs = [*outputs, *column]
    return Guards(found, paths, len(column))
