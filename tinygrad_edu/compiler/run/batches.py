"""Batches: the arguments of a call as arrays of numbers. Bad input raises here."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, is_dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.dispatch import as_array, as_list
from ...engine.value import Value
from ..find.lowered import Computation, Lowered, Read, every_array
from ..find.views import Indices
from ..trace.checks import check_sizes, not_numbers, single_number
from ..trace.nesting import nested
from ..trace.placeholder import TAKE


class Irregular(ValueError):
    """A batch is no array: its examples are of several lengths, or hold dicts or dataclasses."""

    def __init__(self, name: str):
        super().__init__(f"{name} is ragged, or holds dicts: here all examples are arrays of one shape.")


def as_arrays(batch: Sequence[Any], names: Sequence[str]) -> tuple[list[NDArray[Any]], int]:
    """The arguments of a call as arrays, and the number of examples, which is the length of every first axis.

    Raises TypeError if they hold something else than numbers, ValueError for empty or uneven batches, Irregular
    for what `containers` takes.
    """
    arrays = [_as_array(argument, name) for argument, name in zip(batch, names, strict=True)]
    sizes = [len(array) for array in arrays]
    check_sizes(names, sizes)
    return arrays, sizes[0] if sizes else 1


def _as_array(argument: Any, name: str) -> NDArray[Any]:
    if argument.__class__ is np.ndarray and argument.dtype.kind == "f" and argument.ndim:
        return argument  # what comes at every step of a training
    if any(map(np.ma.is_masked, argument if isinstance(argument, list | tuple) else [argument])):
        raise ValueError(
            f"{name} has masked numbers: give them a value with filled(...), or leave their rows out."
        )
    try:
        array: NDArray[Any] = as_array(argument)
    except ValueError:
        raise Irregular(name) from None
    if array.dtype.kind not in "biuf":
        if _has_containers(argument):
            raise Irregular(name)
        listed = as_list(array) if array.ndim and not isinstance(argument, list | tuple) else argument
        raise not_numbers(next(_wrong(listed), argument), name)
    if array.dtype.kind == "b":
        array = array.astype(np.float64)
    if array.ndim == 0:
        raise single_number(argument, name)
    return array


def _has_containers(x: Any) -> bool:
    if isinstance(x, dict) or is_dataclass(x):
        return True
    return isinstance(x, list | tuple) and any(map(_has_containers, x))


def _wrong(x: Any) -> Iterator[Any]:
    """The items of nested lists that are not real numbers."""
    if isinstance(x, list | tuple):
        for part in x:
            yield from _wrong(part)
    elif not isinstance(x, Real):
        yield x


@dataclass(frozen=True, eq=False)
class Pick:
    """An argument whose numbers at these positions are indices from 0 to n_options - 1."""

    argument: int
    positions: Indices
    n_options: int


def picks_of(lowered: Lowered) -> list[Pick]:
    """The inputs of a program that are indices."""
    indices: list[tuple[Read, int]] = []  # indices, and the number of options
    for array in every_array(lowered):
        match array.operation:
            case Computation("take", [index, options]):
                indices.append((index, options.index.shape[-1]))
            case Computation("rule", [index, *several]) if array.rule is TAKE:
                indices.append((index, len(several)))
    return [
        Pick(index.array.source[1], np.unique(index.index if index.every is None else index.every), n)
        for index, n in indices
        if index.array.source[:1] == ("input",)
    ]


def check_indices(picks: Sequence[Pick], arrays: Sequence[NDArray[Any]], names: Sequence[str]) -> None:
    """Raise IndexError if an input that is used as an index is out of range."""
    for pick in picks:
        array = arrays[pick.argument]
        index = array.reshape(len(array), -1)[:, pick.positions]
        wrong = ~((index >= 0) & (index < pick.n_options) & (np.floor(index) == index))
        if wrong.any():
            raise IndexError(
                f"{names[pick.argument]} has the indices 0 to {pick.n_options - 1}, got {index[wrong][0]!s}."
            )


def examples(picks: Sequence[Pick], arrays: Sequence[NDArray[Any]], kinds: Sequence[Any] = ()) -> list[list[Any]]:
    """The examples of a batch as the eager function takes them: nested lists of Values, and of ints to pick by.

    `kinds` says for each argument what it holds instead: int, float or Value.
    """
    indices = {(pick.argument, place) for pick in picks for place in pick.positions.tolist()}
    converted = []
    for argument, array in enumerate(arrays):
        own = [int if (argument, place) in indices else Value for place in range(array[0].size)]
        own = [kinds[argument]] * array[0].size if kinds else own
        rows = array.reshape(len(array), -1).tolist()
        flat = [[kind(x) for kind, x in zip(own, row, strict=True)] for row in rows]
        converted.append([nested(row, array.shape[1:]) for row in flat])
    return [list(example) for example in zip(*converted, strict=True)] if converted else [[]]


def rows_sum_to_one(array: NDArray[Any]) -> bool:
    """Do all rows add up to 1, to the last bit of float64? One-hot rows do."""
    sums = array @ _ones(array.shape[-1])
    return bool(sums.tobytes() == _ones(sums.size).tobytes())  # to compare them as arrays takes twice as long


@functools.lru_cache(maxsize=16)  # rows and batches of so many sizes
def _ones(n: int) -> NDArray[np.float64]:
    return np.ones(n)
