"""Clipping: gradients that explode are made smaller, between backward() and step()."""

import math
from collections.abc import Iterable

from ..engine.value import Value
from .marks import marked_like, unmarked


def clip_grad_norm(parameters: Iterable[Value], max_norm: float) -> float:
    """Shorten the gradients together, their direction kept, to a length of max_norm at most.

    Returns the length before, sqrt(g1^2 + g2^2 + ...). Raises ValueError if that is inf or nan: there is no
    direction to keep. Source: Pascanu et al., On the difficulty of training recurrent neural networks, 2013.
    """
    _check("max_norm", max_norm)
    parameters = list(dict.fromkeys(parameters))
    norm = math.hypot(*[p.grad for p in parameters])
    if not math.isfinite(norm):
        raise ValueError(f"The length of the gradients is {norm!r}, which cannot be clipped: look for inf or nan.")
    if norm > max_norm:
        for parameter in parameters:
            _set(parameter, unmarked(parameter.grad) * (max_norm / norm))
    return norm


def clip_grad_value(parameters: Iterable[Value], max_value: float) -> None:
    """Clip each gradient by itself to -max_value ... max_value; nan stays nan."""
    _check("max_value", max_value)
    for parameter in parameters:
        _set(parameter, min(max(unmarked(parameter.grad), -max_value), max_value))


def _set(parameter: Value, gradient: float) -> None:
    parameter.grad = marked_like(parameter.grad, gradient)


def _check(name: str, limit: float) -> None:
    if not limit > 0:
        raise ValueError(f"Gradients are clipped to a positive size, got {name}={limit!r}.")
