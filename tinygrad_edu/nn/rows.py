"""Rows and batches: X is a list of rows, one per example; a single row may be given instead."""

import reprlib
from collections.abc import Sequence
from typing import Any


def is_list(inputs: Any) -> bool:
    """Is it a list or an array, rather than a number? A text is not: its letters are texts again."""
    return hasattr(inputs, "__len__") and not isinstance(inputs, str)


def is_row(inputs: Any) -> bool:
    """Is it a sequence of numbers, rather than a number or a batch of rows?"""
    return is_list(inputs) and not (len(inputs) and is_list(inputs[0]))


def flat(items: Any) -> list[Any]:
    """Every number in nested lists, in order."""
    return [x for item in items for x in flat(item)] if is_list(items) else [items]


def rows_of(module: Any, n: int, inputs: Any) -> tuple[list[Sequence[Any]], bool]:
    """(rows, whether they came as a batch). A single row is a list of one row.

    Raises TypeError for a single number, ValueError unless every row has n numbers.
    """
    if not is_list(inputs):
        raise TypeError(f"{module!r} takes a row of {n} numbers or a batch of such rows, got {inputs!r}.")
    if is_row(inputs):
        if len(inputs) != n:
            raise ValueError(f"{module!r} takes {n} inputs, got {len(inputs)}.")
        return [inputs], False
    for i, row in enumerate(inputs):
        if not is_list(row) or len(row) != n:
            n_given = len(row) if is_list(row) else repr(row)
            raise ValueError(f"{module!r} takes {n} inputs in each row of the batch, got {n_given} in row {i}.")
    return list(inputs), True


def check_example(n: int, inputs: Any) -> None:
    """Explain why a neuron with n inputs failed: raises TypeError if it got a number or a batch."""
    if not hasattr(inputs, "__len__"):
        got, example = f"{reprlib.repr(inputs)} ({type(inputs).__name__})", reprlib.repr(list(range(1, n + 1)))
        numbers = f"{n} number{'s' * (n > 1)}"
        raise TypeError(f"A neuron takes a list of {numbers}, got {got}: write model({example}).") from None
    if any(map(is_list, inputs)):
        raise TypeError(
            "A neuron takes one example; for a batch write [model(x) for x in X], or use nn.Dense."
        ) from None


def check_size(what: str, size: Any, module: str) -> int:
    """size itself. Raises ValueError unless it is an int of 1 or more."""
    if not isinstance(size, int) or size < 1:
        raise ValueError(f"{module} takes sizes of 1 or more, got {what}={size!r}.")
    return size
