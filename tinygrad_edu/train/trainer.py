"""The choice between arrays and Values: compiled where model, loss and data allow it, else eager."""

from typing import Any

from .history import NOT_ASKED
from .interrupts import Gate
from .on_arrays import OnArrays
from .on_values import Diverged, OnValues


class Trainer:
    """Takes the steps of `fit`, on arrays if it can, else on Values; then `eager_because` says what prevented it.

    backend="" means Values from the start. With "jax" nothing runs on Values: an obstacle is an error.
    The task has the fields of `OnValues`. The parameters' Values are up to date after `close()`.
    """

    def __init__(self, backend: str, recorded: bool, gate: Gate, *task: Any):
        self._backend, self._gate, self._task = backend, gate, (recorded, gate, *task)
        self.eager_because = "a film records the steps" if recorded else NOT_ASKED
        self.summary: str = ""
        self._steps: OnValues | None = None
        if backend:
            try:
                self._steps = steps = OnArrays(*self._task).start()
                self.summary, self.eager_because = steps.summary, ""
            except Exception as error:  # of any kind: on Values the function may run, or raise it again
                self._give_up_arrays(error)
        self._steps = self._steps or OnValues(*self._task).start()

    def do(self, method: str, *arguments: Any) -> Any:
        """Call step, evaluate, numbers or put_back of the steps on arrays; if that fails, go on with Values."""
        try:
            return getattr(self._steps, method)(*arguments)
        except Exception as error:
            if isinstance(error, Diverged) or not isinstance(self._steps, OnArrays):
                raise
            self._give_up_arrays(error)
        self._steps = OnValues(*self._task).start()
        return getattr(self._steps, method)(*arguments)

    def close(self) -> None:
        """Write the parameters and the optimiser's state back to the Values."""
        with self._gate:
            if self._steps:
                self._steps.close()
            self._steps = None

    def _give_up_arrays(self, error: Exception) -> None:
        if self._backend == "jax":
            raise error
        with self._gate:
            pass  # raises the Ctrl-C that a library, such as NumPy, has turned into this error
        self.eager_because, self.summary = str(error).split("\n")[0] or type(error).__name__, ""
        self.close()
