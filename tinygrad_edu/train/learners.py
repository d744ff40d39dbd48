"""How `fit` takes a step: on Values, a graph per example, or on arrays, a compiled program for the batch."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from ..compiler.checks import put_numbers
from ..engine.dispatch import as_list, plain
from ..engine.value import Value
from ..optim import Optimizer
from ..optim.marks import used

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK = 256  # examples at once where nothing is learned
TARGETS = 100  # so many different targets are tried eagerly before a compiled loss is believed
TRACED = 300_000  # examples times parameters up to which a whole batch is traced as one graph
TOLERANCE = {"float64": 1e-6, "float32": 1e-3}  # rounding is far below, another branch of the loss above

Score = tuple[float, int, int]  # the sum of the losses; how many are right; how many can be right or wrong


class Diverged(Exception):
    """The loss is no number any more."""


class Learner:
    """Takes the steps of `fit`: on arrays where it can, else on Values; `eager_because` says what hinders it.

    The parameters' Values are up to date after `close()`.
    """

    def __init__(
        self,
        model: Any,
        loss: Any,
        X: Any,
        y: Any,
        optimizer: Any,
        size: int,
        batched: bool,
        compiled: bool,
        dtype: str,
    ):
        self._task = (model, loss, X, y, optimizer, batched)
        self._way: OnValues | OnArrays | None = None
        self.eager_because, self.found = "" if compiled else "compiled=False", ""
        if compiled:
            try:
                self._way = arrays = OnArrays(*self._task, size, dtype)
                self.found = arrays.found
            except Exception as error:  # of whatever kind: eagerly the function may run, or tell its error
                self.eager_because = _sentence(error)
        if self._way is None:
            self._way = OnValues(*self._task)

    def step(self, batch: Sequence[int]) -> Score:
        """Move the parameters by the mean gradient of some examples. Raises Diverged if the loss is nan or inf."""
        return self._tried(lambda way: way.step(batch))  # type: ignore[no-any-return]

    def evaluate(self, X: Any, y: Any) -> tuple[float, float | None]:
        """The mean loss and the accuracy on other data, with the model in evaluation."""
        return self._tried(lambda way: way.evaluate(X, y))  # type: ignore[no-any-return]

    def numbers(self) -> Any:
        """A copy of all parameters, for `put_back`."""
        return list(self._tried(lambda way: way.numbers()))

    def put_back(self, numbers: list[float]) -> None:
        self._tried(lambda way: way.put_back(numbers))

    def close(self) -> None:
        """Write everything back."""
        if isinstance(self._way, OnArrays):
            self._way.close()
        self._way = None

    def _tried(self, do: Callable[[Any], Any]) -> Any:
        """Do it on arrays; if that fails, go on with Values."""
        try:
            return do(self._way)
        except Exception as error:
            if isinstance(error, Diverged) or not isinstance(self._way, OnArrays):
                raise
            self.eager_because, self.found = _sentence(error), ""
            self.close()
        self._way = OnValues(*self._task)
        return do(self._way)


def _sentence(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__


# --- On Values ------------------------------------------------------------------------------------------------


class OnValues:
    """One graph per example, or per batch if `batched`, which is dropped before the next one is made."""

    def __init__(self, model: Any, loss: Any, X: Any, y: Any, optimizer: Any, batched: bool):
        self.model, self.loss, self.optimizer, self.batched = model, loss, optimizer, batched
        self.X, self.y = as_list(X), as_list(y)
        self.signs = are_signs(self.y)

    def step(self, batch: Sequence[int]) -> Score:
        self.optimizer.zero_grad()
        total, hits = 0.0, []
        for part in [batch] if self.batched else [[i] for i in batch]:
            targets = [self.y[i] for i in part]
            outputs, value = computed(self.model, self.loss, [self.X[i] for i in part], targets, self.batched)
            if not math.isfinite(value.data):
                raise Diverged(_explained(value, self.optimizer))
            value.backward(len(part) / len(batch))
            total += float(value.data) * len(part)
            hits += [is_right(output, target, self.signs) for output, target in zip(outputs, targets, strict=True)]
        self.optimizer.step()
        return total, hits.count(True), len(hits) - hits.count(None)

    def evaluate(self, X: Any, y: Any) -> tuple[float, float | None]:
        return evaluated(self.model, self.loss, X, y, self.batched)

    def numbers(self) -> list[Any]:
        return [parameter.data for parameter in self.optimizer.parameters]

    def put_back(self, numbers: Sequence[Any]) -> None:
        put_numbers(self.optimizer.parameters, numbers)


def computed(model: Any, loss: Any, rows: list[Any], targets: list[Any], batched: bool) -> tuple[Any, Value]:
    """The outputs of some rows and their mean loss; one row if not batched."""
    outputs = model(rows) if batched else [model(rows[0])]
    return outputs, loss(outputs, targets) if batched else loss(outputs[0], targets[0])


def evaluated(model: Any, loss: Any, X: Any, y: Any, batched: bool) -> tuple[float, float | None]:
    """The mean loss and the accuracy, None where there is none."""
    X, y = as_list(X), as_list(y)
    total, hits, signs = 0.0, [], are_signs(y)
    for x, target in zip(X, y, strict=True):
        (output,), value = computed(model, loss, [x], [target], batched)
        total += float(value.data)
        hits.append(is_right(output, target, signs))
    known = [hit for hit in hits if hit is not None]
    return total / len(X), sum(known) / len(known) if known else None


def _explained(value: Value, optimizer: Any) -> str:
    from ..debug import blame

    found = blame(value, parameters=optimizer.parameters)
    return f"the loss is {value.data}; the parameters are those before it\n{found}"


# --- On arrays ------------------------------------------------------------------------------------------------


class OnArrays:
    """A compiled program per shape of example. The parameters are one vector until `close` writes them back.

    Making one raises whatever keeps model, loss, data or optimiser from being compiled.
    """

    def __init__(
        self, model: Any, loss: Any, X: Any, y: Any, optimizer: Any, batched: bool, size: int, dtype: str
    ):
        from ..compiler.compiled import Compiled

        _check(optimizer)
        if batched and size * len(optimizer.parameters) > TRACED:
            raise ValueError(f"the graph of {size:,} examples together is too large to be traced")
        started = time.perf_counter()
        self.model, self.loss, self.optimizer, self.batched = model, loss, optimizer, batched
        self.X, self.y = as_array(X, dtype), as_array(y, dtype)
        self.signs = are_signs(self.y)

        def function(x: Any, y: Any) -> Any:
            outputs = model(x)
            return loss(outputs, y), outputs

        self.program = Compiled(function, optimizer.parameters, dtype, with_outputs=True)
        self._run(range(min(size if batched else 2, len(self.X))))  # made, and compared with the eager function
        self._check_plain_numbers(range(min(size, len(self.X))))
        self.found = f"{self.program.groups.title}, compiled in {time.perf_counter() - started:.2g} s"
        self.forward = Forward(model, loss, optimizer.parameters, batched, dtype)
        self._open, self._moved = ExitStack(), False
        self.theta = self._open.enter_context(self.program.arrays())
        self._move = self._open.enter_context(optimizer.arrays(self.theta))

    def _run(self, batch: Sequence[int]) -> tuple[float, "NDArray[Any]"]:
        """The mean loss and the outputs of these examples; the gradient is left in the program."""
        X, y = self.X[batch], self.y[batch]
        if not self.batched:
            return self.program.step(X, y)
        value, outputs = self.program.step(X[None], y[None])  # the batch is the example, the only one
        return value, outputs[0]

    def step(self, batch: Sequence[int]) -> Score:
        value, outputs = self._run(batch)
        if not math.isfinite(value):
            raise self._diverged(value, batch)
        hits, counted = count_right(outputs, self.y[batch], self.signs)
        self._move(self.program.gradient)
        self._moved = True
        return value * len(batch), hits, counted

    def evaluate(self, X: Any, y: Any) -> tuple[float, float | None]:
        self.program.write_back()  # where `forward` reads them
        return self.forward.evaluate(X, y)

    def numbers(self) -> list[float]:
        numbers: list[float] = self.theta.tolist()
        return numbers

    def put_back(self, numbers: Sequence[Any]) -> None:
        self.theta[:] = numbers

    def close(self) -> None:
        """Write back the parameters, the optimiser's state, and the gradients of the last step."""
        self._open.close()
        if self._moved:
            for parameter, gradient in zip(self.optimizer.parameters, self.program.gradient.tolist(), strict=True):
                parameter.grad = used(gradient)

    def _diverged(self, value: float, batch: Sequence[int]) -> Diverged:
        """Why the loss is no number: the example's graph tells, made eagerly, or raises an error that does."""
        self.program.write_back()
        for part in [batch] if self.batched else [[i] for i in batch]:
            if not math.isfinite(self._run(part)[0]):
                _, eager = computed(self.model, self.loss, *self._plain(part), self.batched)
                if not math.isfinite(eager.data):
                    return Diverged(_explained(eager, self.optimizer))
        return Diverged(f"the loss is {value} in {self.program.dtype}; the parameters are those before it")

    def _plain(self, part: Sequence[int]) -> tuple[list[Any], list[Any]]:
        """Rows and targets as `computed` takes them."""
        return self.X[part].tolist(), self.y[part].tolist()

    def _check_plain_numbers(self, batch: Sequence[int]) -> None:
        """Raise unless the compiled loss is that of plain numbers, as the data are; or what those raise.

        A loss may check its targets, or branch on them as in `if y == 1`, where no placeholder shows it.
        """
        import numpy as np

        _, first = np.unique(self.y, axis=0, return_index=True)
        for part in [batch] if self.batched else [[i] for i in first[:TARGETS].tolist()]:
            value, outputs = self._run(part)
            rows, targets = self._plain(part)
            if self.batched or part == [first[0]]:
                _, eager = computed(self.model, self.loss, rows, targets, self.batched)
            else:  # to run the model for each would take long
                eager = self.loss(_values(outputs[0].tolist()), targets[0])
            size = 1.0 + abs(value) + float(np.abs(outputs).max(initial=0.0))
            if (
                math.isfinite(size)
                and not abs(value - float(eager.data)) <= TOLERANCE[self.program.dtype.name] * size
            ):
                raise ValueError(
                    f"for the target {targets[0]} the loss is {value:.4g} compiled and {eager.data:.4g} eagerly: "
                    "it seems to branch on a number"
                )


class Forward:
    """Model and loss on data that is not learned from, compiled."""

    def __init__(self, model: Any, loss: Any, parameters: Sequence[Value], batched: bool, dtype: str):
        from ..compiler.compiled import Compiled
        from ..compiler.tracing import flat_values

        self.model, self.loss, self.batched, self.dtype = model, loss, batched, dtype
        self.shape: tuple[int, ...] = ()  # of the outputs for one example

        def function(x: Any, y: Any) -> list[Value]:
            outputs = model(x)
            flat, self.shape = flat_values(outputs)
            return [loss(outputs, y), *flat]

        self.program = Compiled(function, parameters, dtype)

    def evaluate(self, X: Any, y: Any) -> tuple[float, float | None]:
        """As `evaluated`."""
        import numpy as np

        X, y = as_array(X, self.dtype), as_array(y, self.dtype)
        total, hits, counted, signs = 0.0, 0, 0, are_signs(y)
        for start in range(0, len(X), CHUNK):
            x, targets = X[start : start + CHUNK], y[start : start + CHUNK]
            rows = [x[:, None], targets[:, None]] if self.batched else [x, targets]
            losses, outputs = np.split(self.program.predict(*rows), [1], axis=1)
            for i in np.flatnonzero(~np.isfinite(losses))[:1].tolist():  # raises if it is outside of a domain
                computed(self.model, self.loss, [x[i].tolist()], [targets[i].tolist()], self.batched)
            total += float(losses.sum(dtype=np.float64))
            shape = self.shape[1:] if self.batched else self.shape
            right, possible = count_right(outputs.reshape(len(x), *shape), targets, signs)
            hits, counted = hits + right, counted + possible
        return total / len(X), hits / counted if counted else None


def _check(optimizer: Any) -> None:
    """Raise unless a vector can do what the optimiser does with Values."""
    name = type(optimizer).__name__
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{name} is no tinygrad_edu.optim.Optimizer")
    for method in ("step", "zero_grad"):
        if getattr(getattr(optimizer, method), "__func__", None) is not getattr(Optimizer, method):
            raise TypeError(f"{name} has a {method}() of its own")
    for parameter in optimizer.parameters:
        if not isinstance(parameter.data, float):
            raise TypeError(f"{parameter!r} is no float")


def _values(outputs: Any) -> Any:
    return [_values(x) for x in outputs] if isinstance(outputs, list) else Value(outputs)


# --- Data, and what counts as right ----------------------------------------------------------------------------


def as_array(rows: Any, dtype: str) -> "NDArray[Any]":
    """Rows or targets as an array: floats of this dtype, indices as they are."""
    import numpy as np

    array = np.asarray(rows)
    return array.astype(dtype, copy=False) if array.dtype.kind == "f" else array


def are_signs(targets: Any) -> bool:
    if hasattr(targets, "ndim"):
        return bool(targets.ndim == 1 and ((targets == 1) | (targets == -1)).all())
    return all(not hasattr(target, "__len__") and plain(target) in (-1, 1) for target in targets)


def is_right(output: Any, target: Any, signs: bool) -> bool | None:
    """Is the class right: the largest of several outputs, or, where targets are signs, the sign of one?

    None if the target is no class, but a number to come near to.
    """
    number = plain(target)
    if hasattr(output, "__len__"):
        scores = [plain(x) for x in output]
        if hasattr(number, "__len__"):  # one probability per class
            return bool(scores.index(max(scores)) == list(number).index(max(number)))
        return bool(scores.index(max(scores)) == number)
    return bool((plain(output) > 0) == (number > 0)) if signs else None


def count_right(outputs: "NDArray[Any]", targets: "NDArray[Any]", signs: bool) -> tuple[int, int]:
    """How many of these are right, and how many are right or wrong: `is_right` for a batch in arrays."""
    if outputs.ndim == 2 and targets.ndim <= 2:
        classes = targets if targets.ndim == 1 else targets.argmax(axis=1)
        return int((outputs.argmax(axis=1) == classes).sum()), len(outputs)
    if outputs.ndim == 1:
        return (int(((outputs > 0) == (targets > 0)).sum()), len(outputs)) if signs else (0, 0)
    right = [is_right(*pair, signs) for pair in zip(outputs.tolist(), targets.tolist(), strict=True)]
    return right.count(True), len(right) - right.count(None)
