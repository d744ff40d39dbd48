"""Ragged rows: sums and reductions of different lengths as one array, where short rows are filled up.

Causal attention adds 1, 2, 3 ... products, `for s in range(t + 1)`. As one array these are rows of equal length.
A place that a short row does not have reads some element all the same, one that continues the pattern of the row,
and a mask of constants makes it neutral: it is multiplied by 0 in a sum, and -inf is added below a logsumexp.

So the array has elements that no example asks for. Where one of them is inf or nan, 0 times it is not 0. Then a
result is nan, and the batch is computed again by a program without filled rows.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from .views import Indices

WASTE = 2  # the rows of a class have at most so many places for each of their terms, and no such gap
MANY = 8  # so many lengths are rows of one kind, also if their steps differ


def classes_of(lengths: Sequence[int], n_rows: Sequence[int]) -> dict[int, Hashable]:
    """The class of each length: rows of one class are filled up to the longest of them.

    There are n_rows[i] rows of lengths[i].

    Lengths with equal steps, such as 1, 2, 3 ..., are rows of one kind, and so are very many lengths. If there are
    few others, or if most rows have one length, as in a convolution that leaves out what is beyond a border, each
    length is a class of its own.
    """
    sizes, which = np.unique(lengths, return_inverse=True)
    counts = np.bincount(which, n_rows)
    are_alike = len(sizes) >= MANY or (len(sizes) > 2 and len(set(np.diff(sizes))) == 1)
    if not are_alike or 2 * counts.max() > counts.sum():
        return {size: size for size in sizes.tolist()}
    classes: dict[int, Hashable] = {}
    top, last, rows, terms = 0, 0, 0, 0
    for size, count in zip(sizes[::-1].tolist(), counts[::-1].tolist(), strict=True):
        if WASTE * size < last or (rows + count) * top > WASTE * (terms + count * size):
            rows = terms = 0
        top = top if rows else size
        last, rows, terms = size, rows + count, terms + count * size
        classes[size] = (top, "filled")
    return classes


def filled(reads: Sequence[Any]) -> tuple[list[Indices], Any]:
    """The indices of all reads (of lower.Read) with an element at every place, and which places the rows had."""
    return [_continued(read.index, read.array.size) for read in reads], reads[0].index >= 0


def _continued(index: Indices, size: int) -> Indices:
    """A short row continues as the longest row that has its first element, or as any longest row does."""
    longest, whose = index[(index >= 0).all(axis=1)], np.zeros(size, dtype=np.intp)
    whose[longest] = np.arange(len(longest))[:, None]
    first = index[:, :1]
    like = longest[whose[first[:, 0]]]
    there = like + first - like[:, :1]
    return np.where(index >= 0, index, np.where((there >= 0) & (there < size), there, first))
