"""A step on arrays: a compiled program for the batch."""

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from ..compiler.trace.random_numbers import generators_of, put_states, state_of
from ..engine import dispatch
from ..engine.value import Value
from ..optim import Optimizer
from .accuracy import are_signs, count_right
from .on_values import Diverged, OnValues, Score, computed, explained
from .stateful import Stateful, remembered

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 256  # examples at once in an evaluation
TARGETS = 100  # different targets, at most, for which the compiled loss is compared with the eager one
TRACED = 300_000  # examples times parameters up to which a whole batch is traced as one graph
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # far above rounding, far below a wrong branch of the loss


class OnArrays(OnValues):
    """Steps of `fit` on arrays, by NumPy, or by JAX on the devices of a mesh.

    The parameters are one vector until `close` writes them back to the Values. `start` raises an error of any kind
    if model, loss, data or optimiser cannot be compiled, or for a mesh that JAX does not have.
    """

    def start(self) -> Self:
        model, loss, parameters = self.model, self.loss, self.optimizer.parameters
        _check(self.optimizer)
        if self.batched and self.size * len(parameters) > TRACED:
            raise ValueError(f"the graph of {self.size:,} examples together is too large to be traced")
        started = time.perf_counter()
        self.X, self.y = as_array(self.X, self.dtype), as_array(self.y, self.dtype)
        self.signs: bool = are_signs(self.y)

        def function(x: Any, y: Any) -> Any:
            outputs = model(x)
            return loss(outputs, y), outputs

        self.stateful: Stateful = Stateful(model, function)
        traced = self.stateful if self.stateful.modules else function
        self.program: Any = _programs(self.backend)(traced, parameters, self.dtype, with_outputs=True)
        rngs = [getattr(module, "rng", None) for module in self.stateful.modules]
        self._generators: list[Any] = generators_of(function, *rngs)
        before = self._states()
        try:
            n = len(self.X)
            self._run(range(min(self.size if self.batched else 2, n)))  # compiles, compares with the engine
            self._check_plain_numbers(range(min(self.size, n)))
        finally:
            put_states(before)
        self.summary: str = f"{self.program.groups.title}, compiled in {time.perf_counter() - started:.2g} s"
        self.forward: Forward = Forward(model, loss, parameters, self.batched, self.dtype, self.backend)
        self._moved: bool = False
        devices = [] if self.mesh is None else [self.mesh]
        with ExitStack() as stack:  # takes the parameters out of the Values until it is closed
            stack.callback(self._write_gradients)
            self.training: Any = stack.enter_context(self.program.train(self.optimizer, *devices))
            self._open = stack.pop_all()
        return self

    def _states(self) -> dict[Any, Any]:
        """The states of the generators that the function may draw from."""
        return {generator: state_of(generator) for generator in self._generators}

    def _run(self, batch: Sequence[int], step: Any = None) -> tuple[float, "NDArray[Any]"]:
        """The mean loss of these examples and what the program returns. The gradient stays in the program."""
        X, y, step = self.X[batch], self.y[batch], step or self.program.step
        inputs = [X[None], y[None]] if self.batched else [X, y]  # the whole batch is the only example
        value, outputs = step(*inputs)
        return value, outputs[0] if self.batched else outputs

    def step(self, batch: Sequence[int]) -> Score:
        """Move the parameters by the mean gradient of these examples. Raises Diverged for a loss of nan or inf."""
        value, before = math.nan, self._states() if self.stateful.modules else {}
        try:
            with self.gate:
                value, outputs = self._run(batch, self.training.step)  # a loss of nan or inf moves nothing
                if math.isfinite(value):
                    self._moved, outputs = True, self.stateful.split(outputs, len(batch))
        finally:
            put_states({} if math.isfinite(value) else before)
        if not math.isfinite(value):
            raise self._diverged(value, batch)
        return value * len(batch), *count_right(outputs, self.y[batch], self.signs)

    def evaluate(self, X: Any, y: Any) -> tuple[float, float | None]:
        """The mean loss and the accuracy on other data."""
        self._write_back()  # `forward` reads the Values
        return self.forward.evaluate(X, y)

    def numbers(self) -> list[float]:
        """A copy of all parameters, for `put_back`."""
        self._write_back()
        return super().numbers()

    def put_back(self, numbers: Sequence[Any]) -> None:
        """Give the parameters these numbers."""
        self.training.put(numbers)

    def _write_back(self) -> None:
        with self.gate:
            self.program.write_back()

    def close(self) -> None:
        """Write back the parameters, the optimiser's state, and the gradients of the last step."""
        self._open.close()

    def _write_gradients(self) -> None:
        if self._moved and self.backend == "numpy":
            gradients = self.program.gradient.tolist()
            for parameter, gradient in zip(self.optimizer.parameters, gradients, strict=True):
                parameter.grad = gradient
            self.optimizer.watch()

    def _diverged(self, value: float, batch: Sequence[int]) -> Diverged:
        """What made the loss nan or inf, from the graph of the example. The engine may raise its own error."""
        self._write_back()
        for part in [batch] if self.batched else [[i] for i in batch]:
            before = self._states()
            if not math.isfinite(self._run(part)[0]):
                put_states(before)
                eager = self._eager(part)
                if not math.isfinite(eager.data):
                    return Diverged(explained(eager, self.optimizer))
        return Diverged(f"the loss is {value} in {self.program.dtype}; the parameters are those before it")

    def _eager(self, part: Sequence[int]) -> Value:
        """The mean loss of these examples by the engine."""
        rows, targets = self.X[part].tolist(), self.y[part].tolist()
        with remembered(lambda *_: None):
            return computed(self.model, self.loss, rows, targets, self.batched)[1]

    def _check_plain_numbers(self, batch: Sequence[int]) -> None:
        """Raise ValueError unless the compiled loss agrees with the eager one for plain numbers as targets.

        A loss may check such targets, or branch on them as in `if y == 1`; the trace does not see that.
        """
        import numpy as np

        _, first = np.unique(self.y, axis=0, return_index=True)
        for part in [batch] if self.batched else [[i] for i in first[:TARGETS].tolist()]:
            before = self._states()
            value, outputs = self._run(part)
            put_states(before)
            targets = self.y[part].tolist()
            if self.batched or part == [first[0]]:
                eager = self._eager(part)
            else:  # the model need not run for each target
                eager = self.loss(_values(outputs[0].tolist()), targets[0])
            size = 1.0 + abs(float(eager.data)) + float(np.abs(outputs).max(initial=0.0))
            agrees = abs(value - float(eager.data)) <= TOLERANCE[self.program.dtype.name] * size
            overflows = self.program.dtype.name == "float32" and math.isinf(value)
            if math.isfinite(size) and not agrees and not overflows:
                raise ValueError(
                    f"for the target {targets[0]} the loss is {value:.4g} compiled and {eager.data:.4g} eagerly: "
                    "it seems to branch on a number"
                )


class Forward:
    """A compiled evaluation: model and loss on data that is not learned from."""

    def __init__(
        self,
        model: Any,
        loss: Any,
        parameters: Sequence[Value],
        batched: bool,
        dtype: str = "float64",
        backend: str = "numpy",
    ):
        self.model: Any = model
        self.loss: Any = loss
        self.batched: bool = batched
        self.dtype: str = dtype

        def function(x: Any, y: Any) -> dict[str, Any]:
            outputs = model(x)
            return {"loss": loss(outputs, y), "outputs": outputs}

        self.program: Any = _programs(backend)(function, parameters, dtype)

    def evaluate(self, X: Any, y: Any) -> tuple[float, float | None]:
        """The mean loss and the accuracy; None if the targets are not classes."""
        import numpy as np

        X, y = as_array(X, self.dtype), as_array(y, self.dtype)
        total, hits, counted, signs = 0.0, 0, 0, are_signs(y)
        for start in range(0, len(X), CHUNK):
            x, targets = X[start : start + CHUNK], y[start : start + CHUNK]
            rows = [x[:, None], targets[:, None]] if self.batched else [x, targets]
            losses, outputs = self.program.predict(*rows).values()
            for i in np.flatnonzero(~np.isfinite(losses))[:1].tolist():  # raises outside a domain
                computed(self.model, self.loss, [x[i].tolist()], [targets[i].tolist()], self.batched)
            total += float(losses.sum(dtype=np.float64))
            right, possible = count_right(outputs[:, 0] if self.batched else outputs, targets, signs)
            hits, counted = hits + right, counted + possible
        return total / len(X), hits / counted if counted else None


def _programs(backend: str) -> Any:
    """The class of the compiled functions of a backend."""
    if backend == "jax":
        from ..compiler.run.compiled_jax import CompiledJax

        return CompiledJax
    from ..compiler.run.compiled import Compiled

    return Compiled


def _check(optimizer: Any) -> None:
    """Raise TypeError unless the optimiser moves a vector as it moves Values."""
    name = type(optimizer).__name__
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name} is not a tinygrad_edu.optim.Optimizer")
    for method in ("step", "zero_grad"):
        if getattr(getattr(optimizer, method), "__func__", None) is not getattr(Optimizer, method):
            raise TypeError(f"{name} has its own {method}()")
    for parameter in optimizer.parameters:
        if not isinstance(parameter.data, float):
            raise TypeError(f"{parameter!r} is not a float")


def _values(outputs: Any) -> Any:
    return [_values(x) for x in outputs] if isinstance(outputs, list) else Value(outputs)


def as_array(rows: Any, dtype: str) -> "NDArray[Any]":
    """Rows or targets as an array: floats of this dtype, indices as they are."""
    array: NDArray[Any] = dispatch.as_array(rows)
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array
