"""The choice between arrays and Values: compiled where model, loss and data allow it, else eager."""

from collections.abc import Callable, Sequence
from typing import Any

from .compiled import OnArrays, OnDevices
from .eager import Diverged, OnValues, Score, Task
from .history import NOT_ASKED


class Learner:
    """Takes the steps of `fit`, on arrays if it can, else on Values; then `eager_because` says what prevented it.

    backend="" means Values from the start. With "jax" nothing runs on Values: what prevents it is raised.

    The parameters' Values are up to date after `close()`.
    """

    def __init__(self, task: Task):
        self._task = task
        because = "a film records the steps" if task.recorded else NOT_ASKED
        self.eager_because, self.found = "" if task.backend else because, ""
        self._way: OnValues | OnArrays | None = None
        if task.backend:
            try:
                self._way = (OnDevices if task.backend == "jax" else OnArrays)(task)
                self.found = self._way.found
            except Exception as error:  # of any kind: on Values the function may run, or raise it again
                if task.backend == "jax":
                    raise
                self._give_up_arrays(error)
        self._way = self._way or OnValues(task)

    def step(self, batch: Sequence[int]) -> Score:
        """Move the parameters by the mean gradient of these examples. Raises Diverged for a loss of nan or inf."""
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
        with self._task.gate:
            if self._way:
                self._way.close()
            self._way = None

    def _tried(self, do: Callable[[Any], Any]) -> Any:
        """Do it on arrays; if that fails, go on with Values."""
        try:
            return do(self._way)
        except Exception as error:
            if isinstance(error, Diverged) or not isinstance(self._way, OnArrays) or self._task.backend == "jax":
                raise
            self._give_up_arrays(error)
            self.close()
        self._way = OnValues(self._task)
        return do(self._way)

    def _give_up_arrays(self, error: Exception) -> None:
        with self._task.gate:
            pass  # raises the Ctrl-C that a library, such as NumPy, has turned into this error
        self.eager_because, self.found = str(error).split("\n")[0] or type(error).__name__, ""
