"""Dropout and BatchNorm on arrays: what BatchNorm remembers is an output of the program.

The compiled function draws what Dropout needs at each call, in the order of eager training. The means and
variances of a batch go to the running averages of BatchNorm after the step.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..engine.watch import watch
from ..nn import BatchNorm, Dropout
from ..nn.rows import flat


class Stateful:
    """The Dropout and BatchNorm modules of a model. It calls a function, and gives their statistics too."""

    def __init__(self, model: Any, function: Callable[[Any, Any], tuple[Any, Any]]):
        modules = [module for _, module in model.named_modules()] if hasattr(model, "named_modules") else []
        self.modules: list[Any] = [module for module in modules if isinstance(module, Dropout | BatchNorm)]
        self._function = function
        self._norms: dict[Any, tuple[list[BatchNorm], Any]] = {}  # those of a batch, and the shape of the outputs

    def __call__(self, x: Any, y: Any) -> Any:
        """The loss, and the outputs; behind them the statistics of the batch, if there are any."""
        norms, statistics = list[BatchNorm](), list[Any]()

        def remember(norm: BatchNorm, means: list[Any], variances: list[Any], n: int) -> None:
            norms.append(norm)
            statistics.extend([*means, *variances])

        with remembered(remember):
            value, outputs = self._function(x, y)
        if not norms:
            return value, outputs
        width = (len(outputs[0]),) if hasattr(outputs[0], "__len__") else ()
        self._norms[self._key(len(outputs))] = norms, (len(outputs), *width)
        return value, [*flat(outputs), *statistics]

    def _key(self, n: int) -> Any:
        return n, *[module.training for module in self.modules]

    def split(self, numbers: Any, n: int) -> Any:
        """The outputs (n, ...) of a batch. The statistics behind them go to the running averages."""
        norms, shape = self._norms.get(self._key(n), ([], ()))
        start = place = len(numbers) - sum(2 * norm.n for norm in norms)
        for norm in norms:
            means, variances = numbers[place : place + 2 * norm.n].reshape(2, -1).tolist()
            norm.remember(means, variances, n)
            place += 2 * norm.n
        return numbers[:start].reshape(shape) if norms else numbers


@contextmanager
def remembered(remember: Callable[..., None]) -> Iterator[None]:
    """Inside the block, BatchNorm gives its statistics to this function."""
    before, watch.remember = watch.remember, remember
    try:
        yield
    finally:
        watch.remember = before
