"""Squares: the sum of the squares of many parameters is one product of the vector in which they all stand.

Parameters are grouped by what they do: W1, b1, W2. Weight decay does the same to all of them. So it reads the
part of the vector that they fill, as one more array, `theta`. Its gradient is added to theirs.
"""

import numpy as np

from .lowered import PARAMETER, Lowered, Read, Tensor, Terms, sum_of

THETA = ("parameter", "all")  # the source of an array whose elements are those of other arrays


def join_squares(lowered: Lowered) -> None:
    """Replace squares of parameters in a sum by one product, if these parameters fill a part of the vector."""
    for array in lowered.arrays:
        if array.kind != "sum" or array.shape:
            continue
        squares = [part for part in array.operation.parts if _is_square(part)]
        places = np.sort(np.concatenate([np.empty(0, int), *(part.factors[0].array.places for part in squares)]))
        if len(squares) > 1 and (np.diff(places) == 1).all():
            number = min(other.number for other in lowered.arrays) - 1
            theta = Tensor(number, None, THETA, len(places), False, True, places.shape, places=places)
            whole = Read(theta, np.arange(len(places)))
            others = [part for part in array.operation.parts if part not in squares]
            array.operation = sum_of([Terms([whole, whole], heads=1), *others])
            lowered.arrays.insert(0, theta)
            return


def _is_square(part: Terms) -> bool:
    """Is it the sum of the squares of an array of parameters, each of them once?"""
    first, last = part.factors[0], part.factors[-1]
    a, b = first.index.ravel(), last.index.ravel()
    is_whole = np.array_equal(np.sort(a), np.arange(first.array.size)) and first.array.source == PARAMETER
    return len(part.factors) == 2 and first.array is last.array and is_whole and np.array_equal(a, b)
