"""Nesting: lists, tuples and dicts of numbers as one flat list and how they were nested, and back."""

import math
import numbers
from collections.abc import Iterable, Sequence
from typing import Any

from ...engine.value import Value


def nested(flat: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """The items of a flat list, nested as `shape` says; for () the only one."""
    if not shape:
        return flat[0]
    step = len(flat) // max(1, shape[0])
    return [nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


class Fields(dict[Any, Any]):
    """How a dict, or a tuple of unequal parts, is nested: the shape of each part. They follow each other."""


def flat_values(result: Any) -> tuple[list[Value], Any]:
    """The Values of a result in one list, and how they were nested: a shape, or Fields.

    Raises TypeError unless lists are as regular as an array.
    """
    if isinstance(result, Value):
        return [result], ()
    if isinstance(result, numbers.Real):  # also a bool, and a number that is tracked
        return [Value(float(result) if isinstance(result, int | bool) else result)], ()
    if not isinstance(result, Iterable) or isinstance(result, str | bytes):
        raise TypeError(
            f"The function must return a Value or a list of them, got {result!r}: is a `return` missing?"
        )
    result = result if isinstance(result, dict | tuple) else list(result)
    fields = result if isinstance(result, dict) else dict(enumerate(result))
    parts = {key: flat_values(part) for key, part in fields.items()}
    values = [value for values, _ in parts.values() for value in values]
    shapes = Fields((key, shape) for key, (_, shape) in parts.items())
    first = next(iter(shapes.values()), None)
    if isinstance(first, tuple) and fields is not result and all(shape == first for shape in shapes.values()):
        return values, (len(parts), *first)
    if isinstance(result, dict) or (isinstance(result, tuple) and parts):
        return values, shapes
    raise TypeError(f"The function must return one Value, or lists of one length, got {result!r:.100}.")


def size_of(shape: Any) -> int:
    """How many numbers have this shape."""
    return sum(map(size_of, shape.values())) if isinstance(shape, Fields) else math.prod(shape)


def place_of_loss(result: Any, shape: Any) -> int | None:
    """A function returns its loss alone, as the first of a tuple, or in a dict as "loss"."""
    if shape == ():
        return 0
    if isinstance(result, tuple):
        return 0 if size_of(flat_values(result[0])[1]) == 1 else None
    if isinstance(result, dict) and shape.get("loss") == ():
        keys = list(shape)
        return sum(size_of(shape[key]) for key in keys[: keys.index("loss")])
    return None
