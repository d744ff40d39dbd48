"""Compiled: what `tg.compile` returns. It compiles one program for each shape of an example."""

import operator
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from operator import add, itemgetter
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...engine.dispatch import as_array, as_list
from ...engine.value import Value, tell_watchers
from ..trace.checks import CompileError, check_one_number, collector_paused, disagreement_error
from ..trace.containers import Part, parts_of
from ..trace.lending import put_numbers, read_numbers
from ..trace.nesting import Fields, size_of
from ..trace.random_numbers import drawn_rows, with_draws
from ..trace.tracing import Draws, following_functions
from .base import CompiledFunction
from .batches import Irregular, as_arrays, check_indices
from .build import Broken, Build, Request, is_finite
from .pipeline import make
from .report import Groups, passes_of
from .variants import CAPACITY, Variants
from .verify import two_calls


class Compiled(CompiledFunction):
    """A compiled function as array operations on a batch. `tg.compile` makes it."""

    takes_knobs = True  # may a program read numbers around the function?
    takes_examples = True  # may it trace the function by examples?
    takes_lengths = True  # may the length of its inputs be a variable?
    write_any_length: Any = None  # writes a program for inputs of any length, if not in NumPy
    writes_gradient = True  # or does what runs the program differentiate it?
    _write = staticmethod(make)  # makes a program of a trace

    def __init__(self, function: Callable[..., Any], parameters: Iterable[Value], *dtype: Any, **options: Any):
        super().__init__(function, parameters, *dtype, **options)
        self._programs: Variants = Variants(self)
        self.gradient: NDArray[Any] = np.empty_like(self._vector)  # that of the last `step`
        self._lock = threading.RLock()  # threads share the buffers; a function may call what it is compiled to
        self._openers: dict[Any, Compiled] = {}  # for the containers of a batch, and for what is drawn
        self._draws: list[tuple[Any, Draws]] = []  # shapes of an example, and the random numbers that it draws
        self._shown = ""  # the source of the derivatives that ran last
        self._ready: Any = None, None  # what the last batch of arrays was, and its program if that is verified

    # --- What it computes -------------------------------------------------------------------------------------

    def __call__(self, *batch: Any) -> float:
        """The mean of the function over the batch. Raises TypeError if it returns several numbers and no loss."""
        losses = []
        for _, build, outputs in self._outputs(batch):
            if build.loss is None:
                check_one_number(build.output_shape, "mean")
            losses.append(outputs[:, build.loss])
        return float(np.concatenate(losses).mean())

    def value_and_grad(self, *batch: Any) -> tuple[float, NDArray[Any]]:
        """The mean over the batch, and its derivatives by the parameters: a new vector, in their order.

        Of several results, the first of a tuple is the loss, or the one that a dict calls "loss".

        Raises TypeError if the function returns several numbers and no loss, and what `tg.compile` lists.
        """
        gradient = np.empty_like(self._vector)
        return self._step(batch, gradient)[0], gradient

    def backward(self, *batch: Any) -> float:
        """Add the derivatives to every parameter's `grad`, as `loss.backward()` does. Returns the mean.

        Raises what `value_and_grad` raises, and then changes nothing.
        """
        value, gradient = self.value_and_grad(*batch)
        tell_watchers()
        put_numbers(self.parameters, map(add, as_list(gradient), read_numbers(self.parameters, "grad")), "grad")
        return value

    def predict(self, *batch: Any) -> Any:
        """What the function returns for every example: an array (B, ...), nested as the function nests it.

        A dict gives a dict of arrays, a tuple of unequal parts a tuple. Examples of several lengths whose results
        have several shapes give a list with one result for each example.

        Raises what `tg.compile` lists.
        """
        nested = [(rows, _shaped(outputs, build.output_shape)) for rows, build, outputs in self._outputs(batch)]
        if len(nested) == 1:
            return nested[0][1]
        results = {row: mapped(itemgetter(i), part) for rows, part in nested for i, row in enumerate(rows or ())}
        ordered = [results[row] for row in range(len(results))]
        alike = all(isinstance(x, np.ndarray | np.generic) and x.shape == ordered[0].shape for x in ordered)
        return np.array(ordered) if alike else ordered

    def _outputs(self, batch: Sequence[Any]) -> list[tuple[Any, Build, NDArray[Any]]]:
        """For the examples of each form their rows, the program, and all outputs of every example, flat."""
        with self._lock:
            ran = list(self._each(batch, False, lambda step, arrays: step._ran(arrays, None)))
        return [(rows, *result) for rows, result in ran]

    def _each(
        self, batch: Sequence[Any], gradient: bool, compute: Callable[["Compiled", Sequence[Any]], Any]
    ) -> Iterable[tuple[Sequence[int] | None, Any]]:
        """What compute(step, arrays) gives for the examples of each form, and their rows; None for all rows.

        Arrays are computed by this function. Containers are opened by another one, of the numbers in them. What
        the function draws is an argument of one more.
        """
        try:
            draws = self._drawing(batch)
            if draws is None:
                return ((None, compute(self, batch)),)
        except Irregular:
            return self._each_part(self._parts(batch, gradient), gradient, compute)
        except Draws as now:
            draws = now
        return self._each_part([(None, *self._drawn(draws, batch))], gradient, compute)

    def _each_part(self, parts: Iterable[tuple[Any, "Compiled", Sequence[Any]]], *how: Any) -> Iterator[Any]:
        for rows, step, arrays in parts:
            for _, result in step._each(arrays, *how):
                self._latest, self._shown = step._latest, step._shown
                yield rows, result

    def _parts(
        self, batch: Sequence[Any], gradient: bool
    ) -> Iterator[tuple[Sequence[int], "Compiled", list[NDArray[Any]]]]:
        """The examples by their forms: their rows, what computes them, and their numbers as arrays.

        If the function draws random numbers, they stay in their order.
        """
        names = self._argument_names(len(batch))
        parts = parts_of(batch, names)
        if len(parts) > 1 and self._of_form(parts[0], names)._draws_of(parts[0].arrays(), gradient):
            parts = parts_of(batch, names, in_order=True)
        return ((part.rows, self._of_form(part, names), part.arrays()) for part in parts)

    def _of_form(self, part: Part, names: Sequence[str]) -> "Compiled":
        """What computes examples of a form. Containers are opened by a compiled function of their numbers."""
        if part.is_regular:
            return self
        return self._opener(part.forms, Compiled, lambda: part.function(self.original, names))

    def _opener(self, key: Any, kind: type["Compiled"], function: Callable[[], Callable[..., Any]]) -> "Compiled":
        """The compiled function of another form of the arguments. It has the parameters of this one."""
        if key not in self._openers:
            self._openers[key] = kind(function(), self.parameters, **self._options())
            for oldest in list(self._openers)[:-CAPACITY]:
                del self._openers[oldest]
        step = self._openers[key]
        step._theta, step._said = self._theta, self._said
        return step

    def step(self, *batch: Any) -> tuple[float, Any]:
        """(mean, outputs for every example) of a function that returns (loss, outputs), else (mean, None).

        For training loops such as `fit`: the gradient is left in `gradient`, which the next call overwrites.
        """
        return self._step(batch, self.gradient)

    def _step(self, batch: Sequence[Any], gradient: NDArray[Any]) -> tuple[float, Any]:
        def stepped(step: "Compiled", arrays: Sequence[Any]) -> tuple[float, Any]:
            build, result = step._ran(arrays, gradient)
            if self._with_outputs:
                return result[0], result[1].reshape(len(result[1]), *build.output_shape)
            return result, None

        total: Any = 0.0
        value, n = 0.0, 0
        with self._lock:
            for rows, result in self._each(batch, True, stepped):
                if rows is not None:
                    value, n = value + result[0] * len(rows), n + len(rows)
                    total = total + gradient * len(rows)
        if not n:
            return cast("tuple[float, Any]", result)
        gradient[:] = total / n
        return value / n, None

    # --- More derivatives ---------------------------------------------------------------------------------------

    def per_example_grads(self, *batch: Any) -> NDArray[Any]:
        """The gradient of every example by the parameters: an array (B, n), without a loop over the examples.

        It and the methods below raise what `value_and_grad` raises. After them, `source` shows their program.
        """
        return cast("NDArray[Any]", self._derived("per_example_grads", batch))

    def jacobian(self, *batch: Any) -> NDArray[Any]:
        """The derivatives of the m outputs of every example by the parameters: an array (B, m, n)."""
        return cast("NDArray[Any]", self._derived("jacobian", batch))

    def input_grads(self, *batch: Any) -> tuple[NDArray[Any], ...]:
        """For every argument an array of its shape: the gradient of each example by its inputs; 0 for indices."""
        return cast("tuple[NDArray[Any], ...]", self._derived("input_grads", batch))

    def hvp(self, *batch: Any, vector: Any = None) -> NDArray[Any]:
        """The Hessian of the mean times a vector of n numbers, which may also stand behind the batch: n numbers.

        Reverse mode on the gradient's own program: a few gradients, and no Hessian. Raises ValueError for a vector
        of another size, CompileError for a rule without a second derivative.
        """
        if vector is None:
            if not batch:
                raise TypeError("hvp takes a batch, and behind it the vector.")
            *batch, vector = batch  # type: ignore[assignment]
        direction, n = np.asarray(as_array(vector), np.float64), len(self.parameters)
        if direction.shape != (n,):
            raise ValueError(
                f"The vector of hvp has a number for each of the {n} parameters, got the shape {direction.shape}."
            )
        return cast("NDArray[Any]", self._derived("hvp", batch, direction))

    def hessian(self, *batch: Any) -> NDArray[Any]:
        """The Hessian of the mean: an array (n, n), from products with all unit vectors at once. For small n.

        Raises CompileError for a rule without a second derivative.
        """
        return cast("NDArray[Any]", self._derived("hessian", batch))

    def _derived(self, kind: str, batch: Sequence[Any], *vector: Any) -> Any:
        if kind == "input_grads" and not batch:
            return ()
        with self._lock:
            parts = list(self._each(batch, False, lambda step, arrays: step._derived_at(kind, arrays, *vector)))
        return parts[0][1] if parts[0][0] is None else _joined(kind, parts)

    def _derived_at(self, kind: str, batch: Sequence[Any], *vector: Any) -> Any:
        """The derivatives for a batch of arrays."""
        build, outputs = self._ran(batch, None)  # it refuses what is wrong with the batch
        if build.loss is None and kind != "jacobian":
            check_one_number(build.output_shape, "gradient")
        arrays, size = as_arrays(batch, self._argument_names(len(batch)))
        program, theta = self._derivative(build, kind, arrays), self._numbers()
        closure, numbers = build.contract.closure, build.contract.closure.numbers()
        vector = tuple(np.concatenate([v, np.zeros(len(numbers))], dtype=theta.dtype) for v in vector)
        theta = np.concatenate([theta, np.array(numbers, theta.dtype)])
        self._shown = program.source
        inputs = [np.ascontiguousarray(array, theta.dtype) for array in arrays]
        result = program(theta, inputs, size, outputs.shape[1], *vector)
        n = len(closure.learned)
        if kind == "input_grads":  # without those by the random numbers
            return result[:-1] if getattr(self.original, "takes_draws", False) else result
        return result[:n, :n] if kind == "hessian" else result[..., :n]

    def _derivative(self, build: Build, kind: str, arrays: Sequence[NDArray[Any]]) -> Any:
        """The program of these derivatives. Raises CompileError if it disagrees with the engine."""
        if kind not in build.derivatives:
            plain = build.unpadded()
            if kind == "input_grads" and any(build.contract.assumed.values()):  # moved, a row is not one-hot
                plain = self._programs.again(build, None, ())
            build.derivatives[kind] = self._write_derivative(plain, kind)
        program = build.derivatives[kind]
        if self.verify and not program.verified:
            from .derivatives import derivative_disagreement

            wrong = derivative_disagreement(build, program, arrays)
            if wrong:
                raise disagreement_error(wrong, two_calls(build, arrays))
            program.verified = wrong is not None
        return program

    def _write_derivative(self, build: Build, kind: str) -> Any:
        from .derivatives import derivative_of

        return derivative_of(build, self._lowered(build), kind)

    def save(self, path: str | Path) -> None:
        """Write the program that ran last as a Python module that needs NumPy alone, and its weights as .npz.

        The module has predict(*batch), loss(*batch) and gradient(*batch), for examples of the same shapes.

        Raises ValueError for a name that does not end with .py, RuntimeError before the first call, CompileError
        for a function whose graph depends on numbers, that draws random ones, or that has rules of the user's.
        """
        from .export import write_module

        if Path(path).suffix != ".py":
            raise ValueError(f"save writes a Python module: give it a name such as model.py, got {str(path)!r}.")
        with self._lock:
            last = self._last()
            if last not in list(self._programs):
                why = "draws random numbers" if self._draws else "takes dicts, or examples of several shapes,"
                raise CompileError(f"A function that {why} cannot be saved. Give these numbers as arrays.")
            write_module(self, last, Path(path))

    @property
    def source(self) -> str:
        """The program that ran last, as source that runs on its own. Raises RuntimeError before the first call."""
        return self._shown or super().source

    @property
    def groups(self) -> Groups:
        """What was found in the graph, as a table and a drawing. Raises RuntimeError before the first call."""
        return Groups(self._lowered(self._last()))

    @property
    def passes(self) -> dict[str, str]:
        """What each pass made of the program that ran last, in order: print(step.passes["gradient"]).

        Keys: groups; statements, with the loops that were found; fission, which takes out of a loop what need not
        be in it; gradient, if one was asked for; source. Raises RuntimeError before the first call.
        """
        build = self._last()
        lowered = self._lowered(build)
        passes = passes_of(lowered, build.contract.request.gradient and self.writes_gradient)
        return {"groups": repr(Groups(lowered)), **passes, "source": self.source}

    def _lowered(self, build: Build) -> Any:
        if build.lowered is None:  # it came with a program for another length
            arrays = [np.zeros((1, *shape)) for shape in build.contract.request.shapes]
            for argument, is_one_hot in build.contract.assumed.items():
                arrays[argument][..., 0] = is_one_hot
            with self._lock, collector_paused():
                build.lowered = self._programs.again(build, arrays).lowered
        return build.lowered

    # --- Programs -----------------------------------------------------------------------------------------------

    def _forget(self, theta: Any) -> None:
        for build in self._programs:
            build.forget(theta)
        for step in self._openers.values():
            step._theta = None
            step._forget(theta)

    def _ran(self, batch: Sequence[Any], gradient: Any) -> tuple[Build, Any]:
        """The program for a batch, verified, and what it gives. Examples of a new path run by themselves first."""
        checked, compared = True, None
        while True:
            build, arrays, size = self._prepared(batch, gradient is not None)
            build.notice_knobs()
            is_due = self.verify and not build.verified and build is not compared and build.is_due()
            try:
                if build.contract.guards or not is_due:
                    result = self._run(build, gradient, arrays, size, checked)
            except Broken as broken:
                checked, self._ready = self._programs.learn(build, arrays, broken), (None, None)
                continue
            if not is_due:
                return build, result
            compared = self._programs.verified(build, arrays)
            self._programs.replace(build, compared)
            self._ready = None, None

    def _run(self, build: Build, gradient: Any, arrays: Sequence[NDArray[Any]], size: int, checked: bool) -> Any:
        result = build.run(self._numbers(), gradient, arrays, size, checked)
        if not is_finite(result, gradient if build.can_raise or self._is_single else None):
            self._programs.ask_the_engine(build, arrays, size)
            self._programs.check_range(build, arrays)
        return result

    # --- Random numbers -----------------------------------------------------------------------------------------

    def _drawing(self, batch: Sequence[Any]) -> Draws | None:
        """What the function is known to draw at present for examples of these shapes."""
        if not self._draws:
            return None
        shapes = tuple(array.shape[1:] for array in as_arrays(batch, self._argument_names(len(batch)))[0])
        return next((draws for own, draws in self._draws if own == shapes and draws.holds()), None)

    def _draws_of(self, batch: Sequence[Any], gradient: bool) -> Draws | None:
        """What the function draws for these examples: its program is made, if there is none."""
        try:
            return self._drawing(batch) or (self._prepared(batch, gradient) and None)
        except Draws as draws:
            return draws

    def _drawn(self, draws: Draws, batch: Sequence[Any]) -> tuple["Compiled", Sequence[Any]]:
        """What computes a batch, and its arguments: what the function draws is one more."""
        names = self._argument_names(len(batch))
        arrays, size = as_arrays(batch, names)
        function = partial(with_draws, self.original, names, draws.wanted, following_functions)
        step = self._opener(draws, type(self), function)
        return step, [*arrays, drawn_rows(draws.wanted, size)]

    def _prepared(self, batch: Sequence[Any], gradient: bool) -> tuple[Build, Sequence[NDArray[Any]], int]:
        """The program for a batch, made if there is none yet, and the batch as arrays.

        A step of a training is like the one before: then only the shapes are looked at, and what was assumed.
        """
        self._shown = ""
        like = gradient, [(x.__class__, getattr(x, "shape", None), getattr(x, "dtype", None)) for x in batch]
        known, build = self._ready
        if like == known and build.contract.held.unchanged() and build.contract.fits(batch):
            check_indices(build.contract.picks, batch, build.names)
            self._latest = build
            return build, batch, len(batch[0])
        arrays, size = as_arrays(batch, self._argument_names(len(batch)))
        request = Request(tuple(array.shape[1:] for array in arrays), gradient, self._with_outputs)
        build = self._programs.unchanged(lambda p: p.contract.request == request and p.contract.fits(arrays))
        if build is None:
            try:
                build = self._programs.of(request, arrays)
            except Draws as draws:
                self._draws = [(request.shapes, draws), *self._draws][:CAPACITY]
                raise
            # A short text does not use the positions of a long one.
            self._programs.keep(build, warns=not build.contract.guards and isinstance(build.unused, list))
        check_indices(build.contract.picks, arrays, build.names)
        self._latest = build
        is_ready = batch and (build.verified or not self.verify) and all(map(operator.is_, arrays, batch))
        self._ready = (like, build) if is_ready else (None, None)
        return build, arrays, size


def _joined(kind: str, parts: Sequence[tuple[Any, Any]]) -> Any:
    """Derivatives of parts of a batch as those of the batch."""
    size = sum(len(rows) for rows, _ in parts)
    if kind in ("hvp", "hessian"):
        return sum(result * (len(rows) / size) for rows, result in parts)
    if kind == "input_grads":
        raise TypeError("input_grads needs arrays: these examples have several shapes, or hold dicts.")
    joined = np.empty((size, *parts[0][1].shape[1:]))
    for rows, result in parts:
        joined[rows] = result
    return joined


def _shaped(outputs: NDArray[Any], shape: Any) -> Any:
    """Columns of outputs (B, n), nested as the function nested them."""
    if not isinstance(shape, Fields):
        return outputs.reshape(len(outputs), *shape)
    ends = np.cumsum([size_of(part) for part in shape.values()])
    columns = zip(shape.items(), np.split(outputs, ends[:-1], axis=1), strict=True)
    parts = {key: _shaped(part, inner) for (key, inner), part in columns}
    return tuple(parts.values()) if all(isinstance(key, int) for key in parts) else parts


def mapped(function: Callable[[Any], Any], results: Any) -> Any:
    """Nested results, with this done to each array in them."""
    if isinstance(results, dict):
        return {key: mapped(function, part) for key, part in results.items()}
    return tuple(mapped(function, part) for part in results) if isinstance(results, tuple) else function(results)
