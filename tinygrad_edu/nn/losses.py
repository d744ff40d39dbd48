"""Losses: the numbers that training makes small. Each is one Value.

Every loss takes predictions, targets and a reduction: "mean" or "sum" of the losses, or "none" for the losses
themselves. mse, mae, huber, hinge and binary_cross_entropy_with_logits take one number, a list of numbers or a
list of rows of numbers, and targets of the same shape; their mean is over all numbers. cross_entropy and nll take
one row, with one number per class, or a list of rows; their mean is over all rows. Plain numbers give a plain
number.

Targets may be Values. All losses raise ValueError for plain targets out of range, an empty batch, lengths that
differ and an unknown reduction, TypeError for what is no number.
"""

import numbers
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypeVar, overload

from ..engine import functions
from ..engine.refusals import no_number
from ..engine.value import Value
from .rows import flat, is_list

NUMBERS = "A loss takes numbers"
N = TypeVar("N", Value, float)
Nested: TypeAlias = N | Sequence[N] | Sequence[Sequence[N]]
Reduction = Literal["mean", "sum"]


@overload
def mse(predictions: Nested[N], targets: Any, reduction: Reduction = "mean") -> N: ...
@overload
def mse(predictions: Any, targets: Any, reduction: str = "mean") -> Any: ...
def mse(predictions: Any, targets: Any, reduction: str = "mean") -> Any:
    """The squared error (p - t)^2: its gradient for p is 2 (p - t), the larger the error, the stronger."""
    return _reduced(_each("mse", lambda p, t: (p - t) ** 2, predictions, targets), reduction)


@overload
def mae(predictions: Nested[N], targets: Any, reduction: Reduction = "mean") -> N: ...
@overload
def mae(predictions: Any, targets: Any, reduction: str = "mean") -> Any: ...
def mae(predictions: Any, targets: Any, reduction: str = "mean") -> Any:
    """The absolute error |p - t|: its gradient for p is -1 or 1 (0 where p = t), so outliers weigh no more."""
    return _reduced(_each("mae", lambda p, t: abs(p - t), predictions, targets), reduction)


@overload
def huber(predictions: Nested[N], targets: Any, delta: float = 1.0, reduction: Reduction = "mean") -> N: ...
@overload
def huber(predictions: Any, targets: Any, delta: float = 1.0, reduction: str = "mean") -> Any: ...
def huber(predictions: Any, targets: Any, delta: float = 1.0, reduction: str = "mean") -> Any:
    """The squared error near the target, the absolute error far from it.

    With d = p - t: d^2/2 where |d| <= delta, else delta (|d| - delta/2). The gradient for p is d, clipped to
    -delta ... delta. Raises ValueError unless delta is positive.
    Source: Huber, Robust Estimation of a Location Parameter, 1964.
    """
    if not (hasattr(delta, "__neg__") and delta > 0):
        raise ValueError(f"huber needs a positive delta, got {delta!r}.")

    # Both cases at once, without a branch: with c = d clipped to -delta ... delta, the loss is c (d - c/2).
    def loss(p: Any, t: Any) -> Any:
        d = p - t
        clipped = functions.max(functions.min(d, delta), -delta)
        return clipped * (d - clipped / 2)

    return _reduced(_each("huber", loss, predictions, targets), reduction)


@overload
def hinge(scores: Nested[N], targets: Any, reduction: Reduction = "mean") -> N: ...
@overload
def hinge(scores: Any, targets: Any, reduction: str = "mean") -> Any: ...
def hinge(scores: Any, targets: Any, reduction: str = "mean") -> Any:
    """The max-margin loss max(0, 1 - t s), for targets of -1 and 1: 0 as soon as t s is 1 or more.

    Raises ValueError for another target.
    """

    def loss(s: Any, t: Any) -> Any:
        if _is_plain(t) and t not in (-1, 1):
            raise ValueError(f"hinge takes targets of -1 and 1, got {t!r}.")
        return functions.relu(1 - t * s)

    return _reduced(_each("hinge", loss, scores, targets), reduction)


@overload
def binary_cross_entropy_with_logits(logits: Nested[N], targets: Any, reduction: Reduction = "mean") -> N: ...
@overload
def binary_cross_entropy_with_logits(logits: Any, targets: Any, reduction: str = "mean") -> Any: ...
def binary_cross_entropy_with_logits(logits: Any, targets: Any, reduction: str = "mean") -> Any:
    """-t log(p) - (1 - t) log(1 - p), where p = sigmoid(logit), for targets t from 0 to 1; stable for any logit.

    The gradient for the logit is sigmoid(logit) - t. Raises ValueError for a target outside of 0 to 1.
    """

    # With z the logit: log(p) = z - softplus(z) and log(1 - p) = -softplus(z), so the loss is softplus(z) - t z.
    def loss(z: Any, t: Any) -> Any:
        if _is_plain(t) and not 0 <= t <= 1:
            raise ValueError(f"binary_cross_entropy_with_logits takes targets from 0 to 1, got {t!r}.")
        return functions.softplus(z) - t * z

    return _reduced(_each("binary_cross_entropy_with_logits", loss, logits, targets), reduction)


@overload
def cross_entropy(logits: Nested[N], targets: Any, reduction: Reduction = "mean") -> N: ...
@overload
def cross_entropy(logits: Any, targets: Any, reduction: str = "mean") -> Any: ...
def cross_entropy(logits: Any, targets: Any, reduction: str = "mean") -> Any:
    """-log softmax(logits)[target], the surprise at the right class; stable for any finite logits.

    The target of a row is the index of the class, or a list with one probability per class, such as a one-hot
    list; then the loss is -sum t_k log softmax(logits)_k. The gradient for the logits is softmax(logits) - t.
    """

    # log softmax(z)_k = z_k - logsumexp(z), so the loss is sum(t) logsumexp(z) - t.z: few nodes for many classes.
    def loss(row: Any, target: Any) -> Any:
        normaliser = functions.logsumexp(row)
        if not is_list(target):
            return normaliser - functions.take(row, target)
        weight = functions.sum(target)
        if not _is_plain(weight) or weight != 1:
            normaliser = weight * normaliser
        return normaliser - functions.dot(target, row)

    return _of_rows(loss, logits, targets, reduction)


@overload
def nll(log_probabilities: Nested[N], targets: Any, reduction: Reduction = "mean") -> N: ...
@overload
def nll(log_probabilities: Any, targets: Any, reduction: str = "mean") -> Any: ...
def nll(log_probabilities: Any, targets: Any, reduction: str = "mean") -> Any:
    """The negative log-likelihood -log_probabilities[target]: cross_entropy of what log_softmax returns.

    The target of a row is the index of the class, or one probability per class.
    """

    def loss(row: Any, target: Any) -> Any:
        return -(functions.dot(target, row) if is_list(target) else functions.take(row, target))

    return _of_rows(loss, log_probabilities, targets, reduction)


# --- One example or a batch --------------------------------------------------------------------------------


def _is_plain(x: Any) -> bool:
    return not hasattr(x, "_apply")


def _paired(predictions: Any, targets: Any) -> list[tuple[Any, Any]]:
    if isinstance(targets, str):
        raise no_number(NUMBERS, targets)
    n_targets = len(targets) if is_list(targets) else "no list of them"
    if len(predictions) != n_targets or n_targets == 0:
        raise ValueError(f"A loss needs one target per prediction: {len(predictions)} and {n_targets} given.")
    return list(zip(predictions, targets, strict=True))


def _each(name: str, loss: Callable[[Any, Any], Any], p: Any, t: Any) -> Any:
    """The losses, nested as the predictions are. No closure: one that calls itself is a cycle."""
    if is_list(p):
        if not hasattr(t, "__len__"):
            raise ValueError(
                f"{name} takes one output per target, got a list of {len(p)} for one target: let the model "
                "return one number, or give as many targets in a list."
            )
        return [_each(name, loss, *pair) for pair in _paired(p, t)]
    if is_list(t):
        column = ": of a column take its numbers, y[:, 0]" * (len(t) == 1)
        raise ValueError(f"A loss needs one target per prediction: one number and {len(t)} targets given{column}.")
    if isinstance(t, str) or not (hasattr(p, "__neg__") and hasattr(t, "__neg__")):
        raise no_number(NUMBERS, t if hasattr(p, "__neg__") else p)
    return loss(p, t)


def _of_rows(loss: Callable[[Any, Any], Any], rows: Any, targets: Any, reduction: str) -> Any:
    """The loss of each row and its target, an index or one probability per class, reduced."""
    if not is_list(rows) or not len(rows):
        error = ValueError if is_list(rows) else TypeError
        shown = "none" if is_list(rows) else repr(rows)
        raise error(f"This loss takes one row of numbers, one per class, or a list of rows, got {shown}.")
    pairs = _paired(rows, targets) if is_list(rows[0]) else [(rows, targets)]
    losses = [loss(list(row), _checked(list(row), target)) for row, target in pairs]
    return _reduced(losses if is_list(rows[0]) else losses[0], reduction)


def _checked(row: list[Any], target: Any) -> Any:
    """The target of a row of scores. Raises unless it is an index or one probability per class."""
    if is_list(target):
        for _, t in _paired(row, target):
            if _is_plain(t) and not (hasattr(t, "__neg__") and 0 <= t <= 1):
                raise ValueError(f"The probability of a class is from 0 to 1, got {t!r}.")
        return list(target)
    if not _is_plain(target):
        return target
    if not isinstance(target, numbers.Real):
        raise TypeError(f"The class is a plain index, or one probability per class, got {target!r}.")
    index = float(target)
    if not 0 <= index < len(row) or index % 1:
        raise ValueError(f"The class is an index from 0 to {len(row) - 1}, got {target!r}.")
    return int(index)


def _reduced(losses: Any, reduction: str) -> Any:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'The reduction is "mean", "sum" or "none", got {reduction!r}.')
    if reduction == "none" or not is_list(losses):
        return losses
    every = flat(losses)
    total = functions.sum(every)
    return total / len(every) if reduction == "mean" else total
