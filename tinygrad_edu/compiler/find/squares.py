"""Squares: the sum of the squares of many parameters is one product of the vector in which they all stand.

Parameters are grouped by what they do: W1, b1, W2. Weight decay does the same to all of them. So it reads the
part of the vector that they fill, as one more array, `theta`. Its gradient is added to theirs.
"""

from typing import Any

import numpy as np

from .lowered import PARAMETER, Lowered, Paired, Product, Read, Tensor, Total

THETA = ("parameter", "all")  # the source of an array whose elements are those of other arrays


def join_squares(lowered: Lowered) -> None:
    """Replace squares of parameters in a sum by one product, if these parameters fill a part of the vector."""
    for array in lowered.arrays:
        if not isinstance(array.operation, Total) or array.shape:
            continue
        squares: list[Any] = [part for part in array.operation.parts if _is_square(part)]
        places = np.sort(np.concatenate([np.empty(0, int), *(part.a.array.places for part in squares)]))
        if len(squares) > 1 and (np.diff(places) == 1).all():
            number = min(other.number for other in lowered.arrays) - 1
            theta = Tensor(number, None, THETA, len(places), False, True, places.shape, places=places)
            whole = Read(theta, np.arange(len(places)))
            others = [part for part in array.operation.parts if part not in squares]
            array.operation = Total([Product(whole, whole), *others])
            lowered.arrays.insert(0, theta)
            return


def _is_square(part: Any) -> bool:
    """Is it the sum of the squares of an array of parameters, each of them once?"""
    if not isinstance(part, Product | Paired) or part.a.array is not part.b.array:
        return False
    a, b = part.a.index.ravel(), part.b.index.ravel()
    is_whole = np.array_equal(np.sort(a), np.arange(part.a.array.size))
    return part.a.array.source == PARAMETER and np.array_equal(a, b) and is_whole
