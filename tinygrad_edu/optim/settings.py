"""What optimisers, schedules and clipping are given, checked."""

import reprlib
from collections.abc import Callable
from typing import Any

from ..engine.scalar import as_real
from ..engine.value import Value


def distinct(parameters: Any, user: str, does: str = "clips") -> list[Value]:
    """The parameters, each once: one that is used twice moves once. Raises TypeError unless they are Values."""
    try:
        values: list[Value] = list(dict.fromkeys(parameters))
    except TypeError:
        shown = reprlib.repr(parameters)
        raise TypeError(f"{user} takes a list of Values, got {shown}: pass model.parameters().") from None
    for parameter in values:
        if not isinstance(parameter, Value):
            raise TypeError(f"{user} {does} Values, got {parameter!r}: pass model.parameters().")
    return values


def setting(sentence: str, fits: Callable[[Any], bool], **named: Any) -> Any:
    """The number that is named. Raises TypeError for what is no number, ValueError for one that does not fit."""
    ((name, x),) = named.items()
    try:
        is_right = fits(as_real(x))
    except TypeError:
        raise TypeError(f"{sentence}, got {name}={reprlib.repr(x)}: pass a plain number.") from None
    if not is_right:
        raise ValueError(f"{sentence}, got {name}={x!r}.")
    return x
