"""Dropout and BatchNorm on arrays: what they draw is an input of the program, what they remember an output.

The factors of Dropout, 0 or 1 / (1 - p), are drawn by its own generator, in the order of eager training. The means
and variances of a batch go to the running averages of BatchNorm after the step.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..engine.watch import watch
from ..nn import BatchNorm, Dropout


class Order(NamedTuple):
    """A run of a model: the module of each factor, the modules that remember, and the shape of the outputs."""

    dropouts: list[Dropout]
    norms: list[BatchNorm]
    shape: tuple[int, ...]


class Stateful:
    """The Dropout and BatchNorm modules of a model: false if it has none.

    run(n) runs the model on an example, or on a batch of n examples.
    """

    def __init__(self, model: Any, run: Callable[[int], Any]):
        modules = [module for _, module in model.named_modules()] if hasattr(model, "named_modules") else []
        self._modules = [module for module in modules if isinstance(module, Dropout | BatchNorm)]
        self._norms = [module for module in self._modules if isinstance(module, BatchNorm)]
        self._run, self._orders = run, dict[Any, Order]()

    def __bool__(self) -> bool:
        return bool(self._modules)

    def draw(self, n_runs: int, n: int, trial: bool = False) -> list[list[float]]:
        """The factors of so many runs, one row for each. A trial leaves the modules' generators alone."""
        rng = random.Random(0) if trial else None
        # The first number is unused: a program needs an input that is not empty.
        return [[1.0, *(dropout.draw(rng) for dropout in self._order(n).dropouts)] for _ in range(n_runs)]

    def split(self, numbers: Any, n: int) -> Any:
        """The outputs (n, ...) of a batch. The statistics behind them go to the running averages."""
        norms, shape = self._order(n)[1:] if self._norms else ([], ())
        start = place = len(numbers) - sum(2 * norm.n for norm in norms)
        for norm in norms:
            means, variances = numbers[place : place + 2 * norm.n].reshape(2, -1).tolist()
            norm.remember(means, variances, n)
            place += 2 * norm.n
        return numbers[:start].reshape(shape) if norms else numbers

    def _order(self, n: int) -> Order:
        """What happens in a run. It may change with the modes of the modules."""
        key = n, *[(module.training, getattr(module, "p", 0) > 0) for module in self._modules]
        if key not in self._orders:
            dropouts, norms = list[Dropout](), list[BatchNorm]()

            def factor(dropout: Dropout) -> float:
                dropouts.append(dropout)
                return 1.0

            with _replaced(factor, lambda norm, *statistics: norms.append(norm)):
                outputs = self._run(n)
            width = (len(outputs[0]),) if hasattr(outputs, "__len__") and hasattr(outputs[0], "__len__") else ()
            self._orders[key] = Order(dropouts, norms, (n, *width))
        return self._orders[key]


@contextmanager
def using(factors: Sequence[Any]) -> Iterator[list[Any]]:
    """Inside the block, Dropout takes these factors; what BatchNorm would remember is added to a list.

    Raises ValueError unless all factors are taken.
    """
    rest, statistics = iter(factors[1:]), list[Any]()
    with _replaced(
        lambda dropout: next(rest), lambda norm, means, variances, n: statistics.extend([*means, *variances])
    ):
        yield statistics
    if next(rest, None) is not None:
        raise ValueError("Dropout is called more often for some examples than for others")


@contextmanager
def _replaced(factor: Callable[..., Any], remember: Callable[..., Any]) -> Iterator[None]:
    before = watch.factor, watch.remember
    watch.factor, watch.remember = factor, remember
    try:
        yield
    finally:
        watch.factor, watch.remember = before
