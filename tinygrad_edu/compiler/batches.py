"""Batches: what a call brings, as arrays of numbers. Bad input ends here, with a sentence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..value import Value
from .lower import Array, Lowered, Take


def as_arrays(batch: Sequence[Any], names: Sequence[str]) -> tuple[list[NDArray[Any]], int]:
    """The arguments of a call as arrays, and the number of examples: that of all first axes.

    Raises TypeError for what are no numbers, ValueError for ragged, empty or uneven batches.
    """
    arrays = [_as_array(given, name) for given, name in zip(batch, names, strict=True)]
    sizes = [len(array) for array in arrays]
    if len(set(sizes)) > 1:
        shown = ", ".join(f"{name} has {size}" for name, size in zip(names, sizes, strict=True))
        raise ValueError(f"All arguments must be batches of one size, the length of the first axis: {shown}.")
    if 0 in sizes:
        raise ValueError(
            f"The batch is empty: {names[0]} has the shape {arrays[0].shape}. Give one example or more."
        )
    return arrays, sizes[0] if sizes else 1


def _as_array(given: Any, name: str) -> NDArray[Any]:
    if given.__class__ is np.ndarray and given.dtype.kind == "f" and given.ndim:
        return given  # what comes at every step of a training
    if np.ma.is_masked(given):
        raise ValueError(
            f"{name} has masked numbers: give them a value with filled(...), or leave their rows out."
        )
    try:
        array = np.asarray(given)
    except ValueError:
        raise ValueError(
            f"{name} is ragged: its rows are of different lengths. All examples need one shape."
        ) from None
    if array.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} must hold real numbers, got {array.dtype} ({type(given).__name__}): "
            "convert it, for instance by np.asarray(x, dtype=float)."
        )
    if array.dtype.kind == "b":
        array = array.astype(np.float64)
    if array.ndim == 0:
        raise ValueError(
            f"{name} is a single number: a batch has its examples along the first axis, as in [{given!r}]."
        )
    return array


def examples(lowered: Lowered, arrays: Sequence[NDArray[Any]]) -> list[list[Any]]:
    """The examples of a batch as the eager function takes them: nested lists of Values, or of ints to pick by."""
    picks = picking_arguments(lowered)
    converted = [_nested(array.tolist(), int if place in picks else Value) for place, array in enumerate(arrays)]
    return [list(example) for example in zip(*converted, strict=True)] if converted else [[]]


def _nested(numbers: Any, kind: Any) -> Any:
    return [_nested(x, kind) for x in numbers] if isinstance(numbers, list) else kind(numbers)


def picking_arguments(lowered: Lowered) -> set[int]:
    """The places of the arguments that are indices."""
    return {array.operation.index.array.source[1] for array in takes_of(lowered)}


def takes_of(lowered: Lowered) -> list[Array]:
    """The arrays that pick by an input."""
    takes = [array for array in lowered.arrays if isinstance(array.operation, Take)]
    return [array for array in takes if array.operation.index.array.source[:1] == ("input",)]


def check_indices(takes: Sequence[Array], arrays: Sequence[NDArray[Any]], names: Sequence[str]) -> None:
    """Raise IndexError where an input that picks from options is no index of one."""
    for array in takes:
        place, n = array.operation.index.array.source[1], array.operation.options.index.shape[-1]
        index = arrays[place].reshape(len(arrays[place]), -1)[:, np.unique(array.operation.index.index)]
        wrong = (index < 0) | (index >= n) | (index % 1 != 0)
        if wrong.any():
            raise IndexError(f"{names[place]} has the indices 0 to {n - 1}, got {index[wrong][0]!s}.")


def rows_sum_to_one(array: NDArray[Any]) -> bool:
    """Do all rows add up to 1, to the last bit? One-hot rows do."""
    return bool((np.add.reduce(array, axis=-1) == 1).all())
