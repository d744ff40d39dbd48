"""Compiled: what `tg.compile` returns. It compiles one program for each shape of an example."""

import math
import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.value import Value
from .base import PROGRAMS, CompiledFunction
from .batches import Irregular, as_arrays, check_indices
from .checks import NO_FUNCTION, CompileError, check_one_number, collector_paused, disagreement_error
from .containers import Part, parts_of
from .examples import Examples
from .lengths import any_length
from .pipeline import WHOLE, Broken, Made, Request, make
from .report import Groups
from .tracing import Fields, Trace, TraceError, size_of, trace_function
from .verify import (
    ATTEMPTS,
    check_range,
    disagreement,
    range_sentence,
    results_of,
    rule_at_fault,
    two_calls,
)

FIRST, FEW = 3, 8  # examples that are traced at first; that are traced at once where paths are new
IN_VAIN = 4  # so often, one after the other, a program for any length is looked for where there is none
DTYPES = {"float32": np.float32, "float64": np.float64}


class Compiled(CompiledFunction):
    """A compiled function as array operations on a batch. `tg.compile` makes it."""

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Iterable[Value],
        dtype: Any = "float64",
        *,
        verify: bool = True,
        with_outputs: bool = False,
    ):
        super().__init__(function, parameters, verify)
        self.dtype = _dtype(dtype)
        self._is_single = self.dtype == np.float32
        self._with_outputs = with_outputs
        self._vector = np.empty(len(self.parameters), self.dtype)  # the parameters, where programs read them
        self.gradient = np.empty_like(self._vector)  # that of the last `step`
        self._lock = threading.RLock()  # threads share the buffers; a function may call what it is compiled to
        self._openers: dict[Any, Compiled] = {}  # for the containers of a batch
        self._opener: Compiled | None = None  # the one that ran last
        self._in_vain = 0  # so often no program for any length was found
        self._like: Any = None  # what the last batch was, if it was arrays and the program needs no more checks

    # --- What it computes -------------------------------------------------------------------------------------

    def __call__(self, *batch: Any) -> float:
        """The mean of the function over the batch. Raises TypeError if it returns several numbers and no loss."""
        try:
            made, outputs = self._outputs(batch)
        except Irregular:
            parts = [(len(part.rows), step(*arrays)) for part, step, arrays in self._parts(batch)]
            return sum(n * mean for n, mean in parts) / sum(n for n, _ in parts)
        if made.loss is None:
            check_one_number(made.output_shape, "mean")
        return float(outputs[:, made.loss].mean())

    def value_and_grad(self, *batch: Any) -> tuple[float, NDArray[Any]]:
        """The mean over the batch, and its derivatives by the parameters: a new vector, in their order.

        Of several results, the first of a tuple is the loss, or the one that a dict calls "loss".

        Raises TypeError if the function returns several numbers and no loss, and what `tg.compile` lists.
        """
        gradient = np.empty_like(self._vector)
        with self._lock:
            value, _ = self._step(batch, gradient)
            if self._is_single and not math.isfinite(value + np.dot(gradient, gradient)):
                self._check_range(batch, value, gradient)
        return value, gradient

    def predict(self, *batch: Any) -> Any:
        """What the function returns for every example: an array (B, ...), nested as the function nests it.

        A dict gives a dict of arrays, a tuple of unequal parts a tuple. Examples of several lengths whose results
        have several shapes give a list with one result for each example.

        Raises what `tg.compile` lists.
        """
        try:
            made, outputs = self._outputs(batch)
            return _shaped(outputs, made.output_shape)
        except Irregular:
            parts = [(part.rows, step.predict(*arrays)) for part, step, arrays in self._parts(batch)]
        if len(parts) == 1:
            return parts[0][1]
        results = {row: _row(found, i) for rows, found in parts for i, row in enumerate(rows)}
        ordered = [results[row] for row in range(len(results))]
        alike = all(isinstance(x, np.ndarray | np.generic) and x.shape == ordered[0].shape for x in ordered)
        return np.array(ordered) if alike else ordered

    def _outputs(self, batch: Sequence[Any]) -> tuple[Made, NDArray[Any]]:
        """All outputs of every example, flat."""
        with self._lock:
            made, outputs = self._ran(batch, None)
            if self._is_single and not np.isfinite(outputs).all():
                self._check_range(batch, outputs)
        return made, outputs

    def _parts(self, batch: Sequence[Any]) -> Iterator[tuple[Part, "Compiled", list[NDArray[Any]]]]:
        """The examples by their forms, for each what computes them, and their numbers as arrays.

        Containers are opened by a compiled function of their numbers. It has the same parameters.
        """
        names = self._argument_names(len(batch))
        for part in parts_of(batch, names):
            step = self
            if not part.is_regular:
                if part.forms not in self._openers:
                    function = part.function(self.original, names)
                    self._openers[part.forms] = Compiled(function, self.parameters, **self._options())
                    for oldest in list(self._openers)[:-PROGRAMS]:
                        del self._openers[oldest]
                step = self._openers[part.forms]
                step._theta, step._said = self._theta, self._said
            yield part, step, part.arrays()
            self._latest, self._opener = step._latest, step if step is not self else None

    def step(self, *batch: Any) -> tuple[float, Any]:
        """(mean, outputs for every example) of a function that returns (loss, outputs), else (mean, None).

        For training loops such as `fit`: the gradient is left in `gradient`, which the next call overwrites.
        """
        return self._step(batch, self.gradient)

    def _moved(self, move: Callable[[Any], None], batch: Any) -> float:
        with self._lock:
            value, _ = self._step(batch, self.gradient)
            move(self.gradient)
        return value

    def _step(self, batch: Sequence[Any], gradient: NDArray[Any]) -> tuple[float, Any]:
        try:
            with self._lock:
                made, result = self._ran(batch, gradient)
        except Irregular:
            value, n, total = 0.0, 0, np.zeros_like(gradient)
            for part, step, arrays in self._parts(batch):
                mean, _ = step._step(arrays, gradient)
                value, n = value + mean * len(part.rows), n + len(part.rows)
                total += gradient * len(part.rows)
            gradient[:] = total / n
            return value / n, None
        if self._with_outputs:
            return result[0], result[1].reshape(len(result[1]), *made.output_shape)
        return result, None

    def _check_range(self, batch: Sequence[Any], *found: Any) -> None:
        """Warn, once, if the program that ran gives inf or nan in float32, and numbers in float64."""
        if "range" in self._said or all(np.isfinite(numbers).all() for numbers in found):
            return  # a square may overflow alone
        try:
            arrays, _ = as_arrays(batch, self._argument_names(len(batch)))
        except Irregular:  # each part has been checked when it was verified
            return
        wide = results_of(self._latest, self._numbers().astype(np.float64), arrays)
        for numbers, exact in zip(found, wide, strict=True):
            lost = np.isfinite(exact) & ~np.isfinite(np.ravel(numbers))
            if lost.any():
                self._warn("range", range_sentence(np.ravel(numbers)[lost][0], exact[lost][0]))

    @property
    def groups(self) -> Groups:
        """What was found in the graph, as a table and a drawing. Raises RuntimeError before the first call."""
        made = self._last()
        if made.lowered is None:  # it came with a program for another length
            arrays = [np.zeros((1, *shape)) for shape in made.request.shapes]
            for argument, is_one_hot in made.assumed.items():
                arrays[argument][..., 0] = is_one_hot
            with self._lock, collector_paused():
                traced = made.guards.examples.trace() if made.guards else self._trace(made.request, arrays)
                made.lowered = self._make(traced, made.request, arrays).lowered
        return Groups(made.lowered)

    def explain(self) -> str:
        """What was found in the program that ran last, in words, with the lines of your code.

        It says which nodes are gathered, since no view reaches them, and which backend would be faster. The
        function runs once more for it. Raises RuntimeError before the first call.
        """
        from .explain import Tape, explanation

        if self._opener:
            return self._opener.explain()
        made, lines = self._last(), dict[Any, Any]()
        with self._lock, collector_paused():
            if made.guards:
                known = made.guards.examples
                examples = replace(known, runs=[], new_tape=lambda: Tape(lines))
                examples.add(known.runs[0].example, self._floats())
                traced = examples.trace()
            else:
                request = made.request
                traced = trace_function(
                    self.original, self.parameters, request.shapes, request.with_outputs, Tape(lines)
                )
        return explanation(traced, lines, made.request.shapes, made.assumed)

    # --- Programs -----------------------------------------------------------------------------------------------

    def _read_parameters(self) -> NDArray[Any]:
        self._vector[:] = [parameter.data for parameter in self.parameters]
        return self._vector

    def _forget(self, theta: Any) -> None:
        for made in self._programs:
            made.forget(theta)
        for step in self._openers.values():
            step._theta = None
            step._forget(theta)

    def _options(self) -> dict[str, Any]:
        return {"dtype": self.dtype, "verify": self.verify, "with_outputs": self._with_outputs}

    def _ran(self, batch: Sequence[Any], gradient: Any) -> tuple[Made, Any]:
        """The program for a batch, verified, and what it gives. Examples of a new path run by themselves first."""
        checked = True
        while True:
            made, arrays, size = self._prepared(batch, gradient is not None)
            try:
                if made.verified or made.guards or not self.verify:
                    result = made.run(self._numbers(), gradient, arrays, size, checked)
            except Broken as broken:
                checked = self._learned(made, arrays, broken)
                continue
            if made.verified or not self.verify:
                return made, result
            self._replace(made, self._verified(made, arrays))

    def _prepared(self, batch: Sequence[Any], gradient: bool) -> tuple[Made, Sequence[NDArray[Any]], int]:
        """The program for a batch, made if there is none yet, and the batch as arrays.

        A step of a training is like the one before: then only the shapes are looked at, and what was assumed.
        """
        like = gradient, [(x.__class__, getattr(x, "shape", None), getattr(x, "dtype", None)) for x in batch]
        if like == self._like and self._latest.holds(batch):
            check_indices(self._latest.picks, batch, self._latest.names)
            return self._latest, batch, len(batch[0])
        arrays, size = as_arrays(batch, self._argument_names(len(batch)))
        request = Request(tuple(array.shape[1:] for array in arrays), gradient, self._with_outputs)
        made = self._found(lambda made: made.request == request and made.holds(arrays))
        if made is None:
            made = self._new(request, arrays)
            # A short text does not use the positions of a long one.
            self._keep(made, warns=not made.guards and isinstance(made.unused, list))
        check_indices(made.picks, arrays, made.names)
        self._latest = made
        is_ready = batch and (made.verified or not self.verify) and all(map(operator.is_, arrays, batch))
        self._like = like if is_ready else None
        return made, arrays, size

    def _new(self, request: Request, arrays: Sequence[NDArray[Any]]) -> Made:
        """The program for new shapes: one for inputs of any length if the function agrees, else a new one."""
        with collector_paused():
            traced = self._trace(request, arrays)
            known = dict.fromkeys(made.lengths for made in self._programs if made.lengths)
            found: list[Made | None] = [lengths.at(request, traced) for lengths in known]
            made = next((made for made in found if made and made.holds(arrays)), None)
            if made and (made.verified or self._agrees(made, arrays)):
                return made
            return self._made(traced, request, arrays)

    def _agrees(self, made: Made, arrays: Sequence[NDArray[Any]]) -> bool:
        """Does a program that was made for another length agree with the function? Then it is verified."""
        check_indices(made.picks, arrays, made.names)
        rows = [array[::-1] for array in arrays]  # the first ones may have been traced
        made.verified = disagreement(made, self.original, self.parameters, rows) == ""
        if made.verified and self.verify:
            self._check_rounding(made, arrays)
        return made.verified

    def _made(self, traced: Trace, request: Request, arrays: Sequence[NDArray[Any]]) -> Made:
        """The program of a trace, with the length of the inputs as a variable where this is possible."""

        def again(request: Request, arrays: Sequence[NDArray[Any]]) -> tuple[Trace, Made]:
            self._in_vain += 1
            traced = self._trace(request, arrays)
            return traced, self._make(traced, request, arrays)

        made = self._make(traced, request, arrays)
        if self._in_vain < IN_VAIN:
            made = any_length(traced, made, arrays, again)
            self._in_vain *= made.lengths is None
        return made

    def _make(self, traced: Trace, request: Request, arrays: Sequence[NDArray[Any]], plain: bool = False) -> Made:
        return make(traced, self.parameters, request, arrays, plain)

    def _trace(self, request: Request, arrays: Sequence[NDArray[Any]]) -> Trace:
        """The trace of the function: by examples of the batch, where it asks for a number."""
        try:
            return trace_function(self.original, self.parameters, request.shapes, request.with_outputs)
        except Exception:
            examples = self._examples(request, arrays)
            if examples is None:
                raise
        if examples.runs[0].path:
            for row in range(1, min(FIRST, len(arrays[0]) if arrays else 1)):
                examples.add(_example(arrays, row), self._floats())
        return examples.trace()

    def _examples(self, request: Request, arrays: Sequence[NDArray[Any]]) -> Examples | None:
        """A run on the first example; None if the function takes neither Values nor plain numbers."""
        whole = [int if array.dtype.kind in WHOLE else None for array in arrays]
        for other, ints in ((Value, whole), (Value, [None] * len(whole)), (float, whole)):
            kinds = [kind or other for kind in ints]
            examples = Examples(
                self.original,
                self.parameters,
                self._argument_names(len(arrays)),
                request.shapes,
                kinds,
                request.with_outputs,
            )
            try:
                examples.add(_example(arrays, 0), self._floats())
                return examples
            except TraceError:
                raise
            except Exception:  # with numbers of another kind it may run
                continue
        return None

    def _floats(self) -> list[float]:
        numbers: list[float] = self._numbers().astype(float).tolist()
        return numbers

    def _learned(self, made: Made, arrays: Sequence[NDArray[Any]], broken: Broken) -> bool:
        """Run the function on examples whose path seems to be new, and make the program again for these paths too.

        False if none is new: then rounding has turned a comparison.
        """
        assert made.guards  # whoever has none breaks none
        examples, known = made.guards.examples, len(made.guards.paths)
        for rows in (broken.different[:FEW], broken.rows):
            with collector_paused():
                for row in rows:
                    examples.add(_example(arrays, row), self._floats())
            if len(examples.runs) > known:
                break
        else:
            return False
        try:
            again = self._make(examples.trace(), made.request, arrays)
        except TraceError:
            del examples.runs[known:]
            raise
        self._replace(made, again)
        return True

    def _replace(self, made: Made, by: Made) -> None:
        self._programs, self._like = [by if known is made else known for known in self._programs], None

    def _verified(self, made: Made, arrays: Sequence[NDArray[Any]]) -> Made:
        """The program, after it has agreed with the eager function; one without matrix products if it does not.

        Raises CompileError if that one disagrees too, or if float32 cannot hold the numbers.
        """
        arrays = [array[::-1] for array in arrays] if made.guards else arrays  # the first ones were traced
        wrong = disagreement(made, self.original, self.parameters, arrays)
        if wrong:
            traced = made.guards.examples.trace() if made.guards else self._trace(made.request, arrays)
            again = self._made(traced, made.request, arrays)
            if again.source != made.source:
                raise CompileError(NO_FUNCTION.format("one program and then another"))
            plain = self._make(traced, made.request, arrays, plain=True)
            if disagreement(plain, self.original, self.parameters, arrays):
                if fault := rule_at_fault(made):
                    raise CompileError(fault)
                raise disagreement_error(wrong, two_calls(made, self.original, self.parameters, arrays))
            self._warn(
                wrong,
                f"A matrix product or a loop was found where there is none ({wrong}); the program is compiled "
                "without them. "
                "Its numbers are right, but please report this.",
            )
            made, wrong = plain, ""
        self._check_rounding(made, arrays)
        made.attempts += 1
        made.verified = wrong is not None or made.attempts == ATTEMPTS
        return made

    def _check_rounding(self, made: Made, arrays: Sequence[NDArray[Any]]) -> None:
        """Warn if a program in float32 is far off. Raises CompileError if numbers leave its range."""
        if self._is_single and (off := check_range(made, self.parameters, arrays)):
            self._warn("off", f'The program gives {off} in float32, by rounding: compile with dtype="float64".')


def _shaped(outputs: NDArray[Any], shape: Any) -> Any:
    """Columns of outputs (B, n), nested as the function nested them."""
    if not isinstance(shape, Fields):
        return outputs.reshape(len(outputs), *shape)
    ends = np.cumsum([size_of(part) for part in shape.values()])
    columns = zip(shape.items(), np.split(outputs, ends[:-1], axis=1), strict=True)
    parts = {key: _shaped(part, inner) for (key, inner), part in columns}
    return tuple(parts.values()) if all(isinstance(key, int) for key in parts) else parts


def _row(results: Any, i: int) -> Any:
    """The results of one example."""
    if isinstance(results, dict):
        return {key: _row(part, i) for key, part in results.items()}
    return tuple(_row(part, i) for part in results) if isinstance(results, tuple) else results[i]


def _example(arrays: Sequence[NDArray[Any]], row: int) -> list[list[Any]]:
    """The numbers of one example, flat per argument."""
    return [array[row].ravel().tolist() for array in arrays]


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in DTYPES:
        raise ValueError(f'The dtype is "float64" or "float32", got {dtype!r}.')
    return np.dtype(DTYPES[name])
