"""The choice between arrays and Values: compiled where model, loss and data allow it, else eager."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

from .compiled import OnArrays, OnDevices
from .eager import Diverged, OnValues, Score, modules_of
from .interrupts import Gate


class Learner:
    """Takes the steps of `fit`, on arrays if it can, else on Values; then `eager_because` says what prevented it.

    backend="" means Values from the start. With "jax" nothing runs on Values: what prevents it is raised.

    The parameters' Values are up to date after `close()`.
    """

    def __init__(
        self,
        model: Any,
        loss: Any,
        X: Any,
        y: Any,
        optimizer: Any,
        gate: Gate,
        size: int,
        batched: bool,
        backend: str,
        mesh: Any,
        dtype: str,
        recorded: bool = False,
        trouble: Callable[[], str] | None = None,
    ):
        self._task = (model, loss, X, y, optimizer, gate, batched)
        self._gate, self._size, self._dtype, self._backend, self._mesh = gate, size, dtype, backend, mesh
        self._modules = modules_of(model)
        self._recorded = recorded, trouble
        because = "a film records the steps" if recorded else "compiled=False"
        self.eager_because, self.found = "" if backend else because, ""
        self._start()

    def _start(self) -> None:
        self._modes = self._modes_now()
        self._way: OnValues | OnArrays | None = None
        if self._backend:
            arrays = functools.partial(OnDevices, self._mesh) if self._backend == "jax" else OnArrays
            try:
                self._way = arrays(*self._task, self._size, self._dtype)
                self.found = self._way.found
            except Exception as error:  # of any kind: on Values the function may run, or raise it again
                if self._backend == "jax":
                    raise
                self.eager_because = _first_line(error)
        self._way = self._way or OnValues(*self._task, *self._recorded)

    def step(self, batch: Sequence[int]) -> Score:
        """Move the parameters by the mean gradient of these examples. Raises Diverged for a loss of nan or inf."""
        if isinstance(self._way, OnArrays) and self._modes_now() != self._modes:
            self.close()  # the program was made for other modes
            self.found = ""
            self._start()
        return self._tried(lambda way: way.step(batch))  # type: ignore[no-any-return]  # any way

    def evaluate(self, X: Any, y: Any) -> tuple[float, float | None]:
        """The mean loss and the accuracy on other data, with the model in evaluation."""
        return self._tried(lambda way: way.evaluate(X, y))  # type: ignore[no-any-return]  # any way

    def numbers(self) -> list[Any]:
        """A copy of all parameters, for `put_back`."""
        return self._tried(lambda way: way.numbers())  # type: ignore[no-any-return]  # any way

    def put_back(self, numbers: Sequence[Any]) -> None:
        """Give the parameters these numbers."""
        self._tried(lambda way: way.put_back(numbers))

    def close(self) -> None:
        """Write the parameters and the optimiser's state back to the Values."""
        with self._gate:
            if self._way:
                self._way.close()
            self._way = None

    def _modes_now(self) -> list[bool]:
        return [module.training for module in self._modules]

    def _tried(self, do: Callable[[Any], Any]) -> Any:
        """Do it on arrays; if that fails, go on with Values."""
        try:
            return do(self._way)
        except Exception as error:
            if isinstance(error, Diverged) or not isinstance(self._way, OnArrays) or self._backend == "jax":
                raise
            self.eager_because, self.found = _first_line(error), ""
            self.close()
        self._way = OnValues(*self._task)
        return do(self._way)


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__
