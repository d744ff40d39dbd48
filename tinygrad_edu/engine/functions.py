"""The operations by name, for numbers, arrays and Values alike: `tanh(0.5)`, `tanh(Value(0.5))`."""

import operator
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, overload

from . import named
from .dispatch import is_row, plain
from .named import *  # noqa: F403  # the functions that are rules
from .named import exp, logsumexp, max
from .operators import Operators
from .rules import RULES

__all__ = ["dot", "log_softmax", "softmax", "take", "where"]
__all__ += named.__all__


N = TypeVar("N", bound=Operators)  # a Value
T = TypeVar("T")


@overload
def dot(xs: Iterable[float], ys: Iterable[float]) -> float: ...  # type: ignore[overload-overlap]  # if empty
@overload
def dot(xs: Iterable[N | float], ys: Iterable[N | float]) -> N: ...
def dot(xs: Iterable[Any], ys: Iterable[Any]) -> Any:
    """x1*y1 + x2*y2 + ... as one node. Raises TypeError for what is no sequence, ValueError for two lengths."""
    for row in (xs, ys):
        if not is_row(row):
            raise TypeError(f"dot takes two sequences, as in dot([1.0, 2.0], [3.0, 4.0]), got {row!r:.100}.")
    xs, ys = tuple(xs), tuple(ys)
    if len(xs) != len(ys):
        raise ValueError(f"dot takes two sequences of one length, got {len(xs)} and {len(ys)} numbers.")
    return RULES["dot"](*xs, *ys)


@overload
def where(condition: float, x: float, y: float) -> float: ...
@overload
def where(condition: Any, x: N | float, y: N | float) -> N: ...
@overload
def where(condition: Any, x: Any, y: Any) -> Any: ...
def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; the gradient goes to the one that was taken.

    The condition is a truth value, a number (true unless 0) or an array of either. Both x and y are computed, so
    keep both inside their domains: where(x > 0, log(x), 0) fails for x = -1 in log(x). Raises TypeError for what
    is not a number.
    """
    is_plain = hasattr(condition, "__neg__") and not hasattr(condition, "_record")
    return RULES["where"](condition * 1.0 if is_plain else condition, x, y)


def take(xs: Sequence[T], index: Any) -> T:
    """xs[index], for an index from 0 to len(xs) - 1; the entries are numbers, Values or rows of them.

    In a compiled function the index may be an input: each example then picks its own entry.

    >>> take([0.1, 0.7, 0.2], 1)
    0.7

    Raises TypeError unless xs is a list and the index a whole number, IndexError if it is out of range.
    """
    if hasattr(index, "_take"):  # an input of a compiled function, which is not known yet
        return index._take(xs)  # type: ignore[no-any-return]
    try:
        place = operator.index(index)
    except TypeError:
        raise TypeError(f"take needs a plain whole number as the index, got {index!r}.") from None
    if not hasattr(xs, "__len__"):
        raise TypeError(f"take picks an item of a list, got {xs!r:.100}.")
    if not 0 <= place < len(xs):
        raise IndexError(f"take has the indices 0 to {len(xs) - 1}, got {index!r}.")
    return xs[place]


@overload
def log_softmax(xs: Iterable[float]) -> list[float]: ...  # type: ignore[overload-overlap]  # if empty
@overload
def log_softmax(xs: Iterable[N | float]) -> list[N]: ...
def log_softmax(xs: Iterable[Any], *more: Any) -> list[Any]:
    """log(softmax(xs)), without the rounding and the overflow of the two in a row.

    Takes a sequence, returns a list. Raises TypeError for what is not a number, ValueError for an empty sequence.
    """
    if more or not is_row(xs):
        got = f"{1 + len(more)} arguments" if more else repr(xs)
        raise TypeError(f"softmax and log_softmax take one sequence, as in softmax([1.0, 2.0]), got {got}.")
    xs = list(xs)
    if not xs:
        raise ValueError("softmax and log_softmax need at least one number, got an empty sequence.")
    top = max(*map(plain, xs))  # a shift that changes nothing but the rounding
    shifted = [x - top for x in xs]
    normaliser = logsumexp(*shifted)
    return [x - normaliser for x in shifted]


@overload
def softmax(xs: Iterable[float]) -> list[float]: ...  # type: ignore[overload-overlap]  # if empty
@overload
def softmax(xs: Iterable[N | float]) -> list[N]: ...
def softmax(xs: Iterable[Any], *more: Any) -> list[Any]:
    """e^x_i / (e^x_1 + ... + e^x_n): n positive numbers that add up to 1, for any finite xs.

    Takes a sequence, returns a list. Raises TypeError for what is not a number, ValueError for an empty sequence.
    """
    return [exp(x) for x in log_softmax(xs, *more)]
