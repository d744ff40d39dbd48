"""A step on Values: one graph per example, which is dropped before the next one is made."""

import math
import reprlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from ..compiler.trace.checks import collector_paused
from ..compiler.trace.lending import put_numbers
from ..engine.dispatch import as_list
from ..engine.value import Value
from .accuracy import are_signs, count_right
from .interrupts import Gate

Score = tuple[float, int, int]  # the sum of the losses; how many are right; how many can be right or wrong


class Diverged(Exception):
    """The loss is nan or inf, or the check of the gradients has found something."""


@dataclass
class OnValues:
    """Steps of `fit` on Values: a graph per example, or one per batch if `batched`, or if a film records them.

    `check` is called before the parameters are moved; it may raise Diverged. backend, mesh and dtype are for
    `OnArrays`.
    """

    recorded: bool
    gate: Gate
    model: Any
    loss: Any
    X: Any
    y: Any
    optimizer: Any
    batched: bool
    size: int
    backend: str
    mesh: Any
    dtype: str
    check: Callable[[], None] | None

    def start(self) -> Self:
        """Get ready for the first step."""
        self.X, self.y = _rows(self.X), _rows(self.y)
        self.signs: bool = are_signs(self.y)
        return self

    def step(self, batch: Sequence[int]) -> Score:
        """Move the parameters by the mean gradient of these examples. Raises Diverged for a loss of nan or inf."""
        with collector_paused():  # Values form no cycles: the collector would search in vain
            self.optimizer.zero_grad()
            scores = []
            for part in [batch] if self.batched or self.recorded else [[i] for i in batch]:
                targets = [self.y[i] for i in part]
                outputs, value = computed(self.model, self.loss, [self.X[i] for i in part], targets, self.batched)
                if not math.isfinite(value.data):
                    raise Diverged(explained(value, self.optimizer))
                value.backward(len(part) / len(batch))
                scores.append((float(value.data) * len(part), *count_right(outputs, targets, self.signs)))
            if self.check:
                self.check()
            with self.gate:
                self.optimizer.step()
        return _added(scores)

    def evaluate(self, X: Any, y: Any) -> tuple[float, float | None]:
        """The mean loss and the accuracy on other data."""
        return evaluated(self.model, self.loss, X, y, self.batched)

    def numbers(self) -> list[Any]:
        """A copy of all parameters, for `put_back`."""
        return [parameter.data for parameter in self.optimizer.parameters]

    def put_back(self, numbers: Sequence[Any]) -> None:
        """Give the parameters these numbers."""
        put_numbers(self.optimizer.parameters, numbers)

    def close(self) -> None:
        """Nothing: the Values are always up to date."""


def _rows(items: Any) -> list[Any]:
    """Rows or targets in lists, also where each is an array or a tensor of its own."""
    return [x.tolist() if hasattr(x, "tolist") else x for x in as_list(items)]


def computed(model: Any, loss: Any, rows: list[Any], targets: list[Any], batched: bool) -> tuple[Any, Value]:
    """The outputs for some rows, and their mean loss."""
    outputs = model(rows) if batched else [model(row) for row in rows]
    pairs = [(outputs, targets)] if batched else list(zip(outputs, targets, strict=True))
    losses: list[Any] = []
    for pair in pairs:
        try:
            value = loss(*pair)
        except (TypeError, ValueError, AttributeError, IndexError) as error:
            if not str(getattr(loss, "__module__", "")).startswith("tinygrad_edu."):
                error.add_note(
                    "It was raised in loss(output, target): its first argument is what the model returns."
                )
            raise
        if not isinstance(value, Value):
            shown = f"{' '.join(reprlib.repr(value).split())} ({type(value).__name__})"
            raise TypeError(f"loss must return one Value, the loss of its example, got {shown}.")
        losses.append(value)
    return outputs, losses[0] if len(losses) == 1 else sum(losses) / len(losses)


def evaluated(model: Any, loss: Any, X: Any, y: Any, batched: bool) -> tuple[float, float | None]:
    """The mean loss and the accuracy; None if the targets are not classes."""
    X, y = _rows(X), _rows(y)
    scores, signs = [], are_signs(y)
    for x, target in zip(X, y, strict=True):
        outputs, value = computed(model, loss, [x], [target], batched)
        scores.append((float(value.data), *count_right(outputs, [target], signs)))
    total, right, possible = _added(scores)
    return total / len(X), right / possible if possible else None


def _added(scores: list[Score]) -> Score:
    total, right, possible = map(sum, zip(*scores, strict=True))
    return total, right, possible


@contextmanager
def in_evaluation(model: Any) -> Iterator[None]:
    """Inside the block the model is in evaluation; then each of its modules is in its old mode again."""
    modules = model.named_modules() if hasattr(model, "named_modules") else ()  # it may be no nn.Module
    modes = [(module, module.training) for _, module in modules]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        if not modes:
            model.train()


def explained(loss: Value, optimizer: Any) -> str:
    """What made the loss nan or inf."""
    from ..debug import blame

    cause = blame(loss, parameters=optimizer.parameters)
    return f"the loss is {loss.data}; the parameters are those before it\n{cause}"
