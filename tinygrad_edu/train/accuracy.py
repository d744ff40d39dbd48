"""Accuracy: which outputs are right, for one example or for a batch in arrays or lists."""

from typing import Any

from ..engine.dispatch import as_list, plain


def are_signs(targets: Any) -> bool:
    """Is every target -1 or 1, so that the sign of a single output is its class?"""
    if hasattr(targets, "ndim"):
        return bool(targets.ndim == 1 and ((targets == 1) | (targets == -1)).all())
    return all(not hasattr(target, "__len__") and plain(target) in (-1, 1) for target in targets)


def is_right(output: Any, target: Any, signs: bool) -> bool | None:
    """Is the class right? The class is the largest of several outputs, or the sign of one if targets are signs.

    The target is an index, one probability per class, or a sign. None if the target is a number to come close to.
    """
    number = plain(target)
    if hasattr(output, "__len__"):
        scores = [plain(x) for x in output]
        if hasattr(number, "__len__"):  # one probability per class
            return bool(scores.index(max(scores)) == list(number).index(max(number)))
        return bool(scores.index(max(scores)) == number)
    return bool((plain(output) > 0) == (number > 0)) if signs else None


def count_right(outputs: Any, targets: Any, signs: bool) -> tuple[int, int]:
    """(how many are right, how many can be right or wrong) of outputs (B, ...) and targets (B, ...)."""
    if getattr(outputs, "ndim", 0) == 2 and targets.ndim <= 2:
        classes = targets if targets.ndim == 1 else targets.argmax(axis=1)
        return int((outputs.argmax(axis=1) == classes).sum()), len(outputs)
    if getattr(outputs, "ndim", 0) == 1:
        return (int(((outputs > 0) == (targets > 0)).sum()), len(outputs)) if signs else (0, 0)
    right = [is_right(*pair, signs) for pair in zip(as_list(outputs), as_list(targets), strict=True)]
    return right.count(True), len(right) - right.count(None)
