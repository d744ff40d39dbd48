"""Digits: how positions count, given as an array of integers.

The integers say which elements of another array are read. A pattern in them is a number system. Each axis is
split into digits, which count with a step of their own: the positions 0 3 1 4 2 5 are 3 * (i % 2) + i // 2, two
digits with the steps 1 and 3. Sorted by their steps, the digits are the axes of the array, after a reshape.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


def digits_of_axes(index: Indices) -> list[list[tuple[int, int]]] | None:
    """The digits (size, step) of each axis; None if there is no such pattern. What repeats has the step 0."""
    digits: list[list[tuple[int, int]]] = []
    total: Any = index.flat[0]
    for axis in range(index.ndim):
        offsets = index[tuple(slice(None) if other == axis else 0 for other in range(index.ndim))] - index.flat[0]
        total = np.add.outer(total, offsets)
        own: list[tuple[int, int]] = []
        while (size := len(offsets)) > 1:
            step = int(offsets[1])
            breaks = np.flatnonzero(np.diff(offsets) != step)
            run = int(breaks[0]) + 1 if len(breaks) else size
            if size % run or (offsets.reshape(-1, run) - offsets[::run, None] != offsets[:run]).any():
                return None
            own.insert(0, (run, step))
            offsets = offsets[::run]
        digits.append(own)
    return digits if np.array_equal(total, index) else None


def number_systems(source: tuple[int, ...], n: int, steps: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Shapes of an array of n elements in which digits with these steps may be axes, the plainest first."""
    yield source
    sizes = sorted((abs(step) for step in steps), reverse=True)
    dims = [n // sizes[0], *(a // b for a, b in itertools.pairwise(sizes)), sizes[-1]]
    dims = dims[:-1] if sizes[-1] == 1 else dims
    if math.prod(dims) == n:
        yield tuple(dims)
    yield (n,)


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array of this shape that is stored row by row, without gaps."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
