"""Losses: what a network is asked to make small, as one Value."""

from collections.abc import Sequence
from typing import Any

from .. import functions
from ..value import Value


def mse(predictions: Sequence[Any], targets: Sequence[Any]) -> Value:
    """The mean squared error, (1/n) sum (prediction - target)^2, of n numbers each."""
    _same_length(predictions, targets)
    loss: Value = functions.sum([(p - t) ** 2 for p, t in zip(predictions, targets, strict=True)]) / len(targets)
    return loss


def hinge(scores: Sequence[Any], targets: Sequence[Any]) -> Value:
    """The mean max-margin loss, (1/n) sum max(0, 1 - target * score), for targets of -1 and 1."""
    _same_length(scores, targets)
    for t in targets:
        if t not in (-1, 1):
            raise ValueError(f"hinge takes targets of -1 and 1, got {t!r}.")
    loss: Value = functions.sum([functions.relu(1 - t * s) for s, t in zip(scores, targets, strict=True)]) / len(
        targets
    )
    return loss


def cross_entropy(logits: Sequence[Any], target: Any) -> Value:
    """-log softmax(logits)[target] for one example, stable for any finite logits.

    target is the index of the class, or one probability per class (a one-hot list, for instance). The gradient
    with respect to the logits is softmax(logits) - target.
    """
    if hasattr(target, "__len__"):
        _same_length(logits, target)
        log_probabilities = functions.log_softmax(logits)
        likelihood: Value = functions.sum([t * lp for t, lp in zip(target, log_probabilities, strict=True)])
        return -likelihood
    if not 0 <= target < len(logits) or target != int(target):
        raise ValueError(f"The class is an index from 0 to {len(logits) - 1}, got {target!r}.")
    loss: Value = functions.logsumexp(logits) - logits[int(target)]
    return loss


def _same_length(predictions: Sequence[Any], targets: Sequence[Any]) -> None:
    if len(predictions) != len(targets) or len(targets) == 0:
        raise ValueError(f"A loss needs one target per prediction: {len(predictions)} and {len(targets)} given.")
