"""The choice between arrays and Values: compiled where model, loss and data allow it, else eager."""

from typing import Any

from .history import NOT_ASKED
from .on_arrays import OnArrays, OnDevices
from .on_values import Diverged, LearningTask, OnValues


class Trainer:
    """Takes the steps of `fit`, on arrays if it can, else on Values; then `eager_because` says what prevented it.

    backend="" means Values from the start. With "jax" nothing runs on Values: what prevents it is raised.

    The parameters' Values are up to date after `close()`.
    """

    def __init__(self, task: LearningTask):
        self._task = task
        because = "a film records the steps" if task.recorded else NOT_ASKED
        self.summary: str = ""
        self.eager_because = "" if task.backend else because
        self._steps: OnValues | OnArrays | None = None
        if task.backend:
            try:
                self._steps = (OnDevices if task.backend == "jax" else OnArrays)(task)
                self.summary = self._steps.summary
            except Exception as error:  # of any kind: on Values the function may run, or raise it again
                if task.backend == "jax":
                    raise
                self._give_up_arrays(error)
        self._steps = self._steps or OnValues(task)

    def do(self, method: str, *arguments: Any) -> Any:
        """Call step, evaluate, numbers or put_back of the steps on arrays; if that fails, go on with Values."""
        try:
            return getattr(self._steps, method)(*arguments)
        except Exception as error:
            if isinstance(error, Diverged) or not isinstance(self._steps, OnArrays) or self._task.backend == "jax":
                raise
            self._give_up_arrays(error)
            self.close()
        self._steps = OnValues(self._task)
        return getattr(self._steps, method)(*arguments)

    def close(self) -> None:
        """Write the parameters and the optimiser's state back to the Values."""
        with self._task.gate:
            if self._steps:
                self._steps.close()
            self._steps = None

    def _give_up_arrays(self, error: Exception) -> None:
        with self._task.gate:
            pass  # raises the Ctrl-C that a library, such as NumPy, has turned into this error
        self.eager_because, self.summary = str(error).split("\n")[0] or type(error).__name__, ""
