"""CompiledFunction: what the functions that `tg.compile` returns have in common, with NumPy and without it."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..engine.dispatch import as_list
from ..engine.value import Value, before_adding
from .checks import checked_parameters, put_numbers
from .tracing import argument_names


class CompiledFunction(ABC):
    """A function of scalars, written for one example, that was compiled to run on a batch.

    A batch is one array per argument of the function, with the examples along the first axis. Outside of
    `arrays()` every call reads the parameters from their Values.
    """

    def __init__(self, function: Callable[..., Any], parameters: Iterable[Value], verify: bool):
        self.function, self.parameters = function, checked_parameters(function, parameters)
        self.verify = verify
        self._names: dict[int, list[str]] = {}  # of the arguments, by their number
        self._latest: Any = None  # what ran last
        self._theta: Any = None  # the parameters' numbers inside of `arrays()`

    @abstractmethod
    def value_and_grad(self, *batch: Any) -> tuple[float, Any]:
        """The mean over the batch, and its derivatives by the parameters, in their order."""

    def backward(self, *batch: Any) -> float:
        """Add the derivatives to every parameter's `grad`, as `loss.backward()` does. Returns the mean."""
        value, gradient = self.value_and_grad(*batch)
        before_adding(self.parameters)
        for parameter, share in zip(self.parameters, as_list(gradient), strict=True):
            parameter.grad = share + parameter.grad
        return value

    @contextmanager
    def arrays(self) -> Iterator[Any]:
        """The parameters as one vector, in their order, which all calls inside the block read: train it in place.

        At the end of the block, however it ends, its numbers go back into the Values. It is an array, or a list
        with backend="python".

        >>> import tinygrad_edu as tg
        >>> w = Value(3.0)
        >>> step = tg.compile(lambda x: (w * x - 1) ** 2, [w])
        >>> with step.arrays() as theta:
        ...     for _ in range(100):
        ...         value, gradient = step.value_and_grad([1.0, 1.0])
        ...         theta -= 0.1 * gradient
        >>> print(f"{w:.3f}")
        1.000
        """
        if self._theta is not None:
            raise RuntimeError("The parameters are in an array already: arrays() cannot be entered twice.")
        self._theta = theta = copy.copy(self._read_parameters())  # whoever keeps it keeps its numbers
        try:
            yield theta
        finally:
            self._theta = None
            self._forget(theta)
            put_numbers(self.parameters, self._checked(theta))

    @abstractmethod
    def _read_parameters(self) -> Any:
        """The numbers of the Values."""

    def _forget(self, theta: Any) -> None:  # noqa: B027 - not every backend makes something for it
        """Drop what was made for this vector."""

    def _checked(self, theta: Any) -> list[Any]:
        """The numbers of the vector, one per parameter."""
        return as_list(theta)

    def _numbers(self) -> Any:
        """The numbers of the parameters, wherever they are now."""
        return self._read_parameters() if self._theta is None else self._theta

    @property
    def source(self) -> str:
        """The program that ran last, as source that runs on its own. Raises RuntimeError before the first call."""
        return str(self._last().source)

    def _last(self) -> Any:
        if self._latest is None:
            raise RuntimeError("Nothing is compiled yet: the shapes come with the first call, such as step(X, Y).")
        return self._latest

    def _argument_names(self, n: int) -> list[str]:
        if n not in self._names:
            self._names[n] = argument_names(self.function, n)
        return self._names[n]

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", None) or repr(self.function)
        return f"{type(self).__name__}({name}, {len(self.parameters):,} parameters)"
