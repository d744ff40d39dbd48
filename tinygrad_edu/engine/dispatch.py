"""Which library computes an elementary function for which kind of number.

NumPy and mpmath are used only for numbers of theirs, so neither is imported before the user has done so.
"""

import functools
import math
import numbers
import operator
import sys
from collections.abc import Callable
from typing import Any

from .refusals import no_number


def is_array(x: Any) -> bool:
    """Is x a NumPy array?"""
    return "numpy" in sys.modules and isinstance(x, sys.modules["numpy"].ndarray)


def is_mpmath(x: Any) -> bool:
    """Is x a real number of mpmath?"""
    return "mpmath" in sys.modules and isinstance(x, sys.modules["mpmath"].mpf)


def is_row(x: Any) -> bool:
    """Can x be several numbers? Text and dicts cannot, although they can be iterated over."""
    return hasattr(x, "__iter__") and not isinstance(x, str | bytes | dict)


def is_far(x: Any) -> bool:
    """Must x take the long way: is it a Value, a symbol or an array?"""
    return x.__class__ is not float and (hasattr(x, "_apply") or is_array(x))


def plain(x: Any) -> Any:
    """The number itself, without its history: the data of a Value, anything else unchanged."""
    return x._apply("plain", x) if hasattr(x, "_apply") else x


def as_list(items: Any) -> list[Any]:
    """Numbers in a list: of an array, as plain floats and ints; of a DataFrame, its rows."""
    items = without_frame(items)
    return items.tolist() if hasattr(items, "tolist") else list(items)


def without_frame(items: Any) -> Any:
    """The numbers of a DataFrame or a Series as an array; anything else unchanged.

    Raises TypeError, which names the column, for what is no number.
    """
    if not hasattr(items, "to_numpy"):
        return items
    array = items.to_numpy()
    if array.dtype.kind in "biuf":
        return array
    places = [f"column {name!r}" for name in items.columns] if hasattr(items, "columns") else ["Series"]
    for place, column in zip(places, array.reshape(len(array), len(places)).T, strict=True):
        for x in column:
            if not isinstance(x, numbers.Real):
                shown = f"{x!r} ({type(x).__name__})"
                raise TypeError(f"The {place} holds {shown}, which is not a number: convert it, or leave it out.")
    return array.astype(float)


def as_array(items: Any) -> Any:
    """A NumPy array of lists, an array of any library, a frame or a tensor, also of one that keeps gradients.

    Raises ValueError for lists of different lengths.
    """
    import numpy as np

    items = without_frame(items)
    try:
        return np.asarray(items)
    except (RuntimeError, TypeError):  # a tensor with requires_grad, in bfloat16, or on another device
        if not hasattr(items, "tolist"):
            raise
        return np.asarray(items.tolist())


def elsewhere(name: str, on_float: Callable[..., Any], *inputs: Any) -> Any:
    """The function called `name`, of inputs that are not all floats; `on_float` is the one for floats."""
    for x in inputs:
        if hasattr(x, "_apply"):
            return x._apply(name, *inputs)
    if arrays := [x for x in inputs if is_array(x)]:
        numpy = sys.modules["numpy"]
        if any(x.dtype == object for x in arrays):  # of Values
            return numpy.frompyfunc(on_float, len(inputs), 1)(*inputs)
        with numpy.errstate(all="ignore"):
            return _on_arrays()[name](*inputs)
    if any(map(is_mpmath, inputs)):
        result = _on_mpmath(name)(*inputs)
        return result if is_mpmath(result) else result.real * math.nan
    for x in inputs:
        if not isinstance(x, numbers.Real):
            raise no_number(f"{name} takes real numbers, arrays or Values", x)
    return on_float(*map(float, inputs))


def _on_mpmath(name: str) -> Callable[..., Any]:
    mpmath = sys.modules["mpmath"]
    others: dict[str, Callable[..., Any]]
    others = {"exp2": lambda x: mpmath.mpf(2) ** x, "log2": lambda x: mpmath.log(x, 2), "mod": operator.mod}
    return others.get(name) or getattr(mpmath, name)


@functools.cache
def _on_arrays() -> dict[str, Callable[..., Any]]:
    import numpy as np

    def each(function: Callable[[float], float]) -> Callable[..., Any]:
        return lambda x: np.asarray(np.frompyfunc(function, 1, 1)(x), float)

    def pow_nan(x: Any, y: Any) -> Any:  # NumPy's nan ** 0 is 1
        return np.where(np.isnan(x) | np.isnan(y), math.nan, np.power(np.asarray(x, float), y))

    special: dict[str, Callable[..., Any]] = {"pow": pow_nan, "div": np.divide, "max": np.maximum}
    special |= {"erf": each(math.erf), "erfc": each(math.erfc), "heaviside": lambda x: np.heaviside(x, 0.0)}
    special |= {"equal": lambda x, y: np.equal(x, y) * 1.0}  # numbers: True + True would be True
    return {**vars(np), **special}  # all others have the same name there
