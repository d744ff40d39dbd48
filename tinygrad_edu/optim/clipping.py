"""Clipping: make exploding gradients smaller, between backward() and step()."""

import math
import reprlib
from collections.abc import Iterable
from typing import Any

from ..engine.value import Value


def clip_grad_norm(parameters: Iterable[Value], max_norm: float) -> float:
    """Scale all gradients by one factor, so that their length sqrt(g1^2 + g2^2 + ...) is max_norm at most.

    Returns the length before. Raises ValueError unless max_norm is positive, and if the length is inf or nan: then
    there is no direction to keep; TypeError unless parameters is a list. Source: Pascanu et al., On the difficulty
    of training recurrent neural networks, 2013.
    """
    _check("max_norm", max_norm)
    parameters = distinct(parameters, "clip_grad_norm")
    norm = math.hypot(*[p.grad for p in parameters])
    if not math.isfinite(norm):
        raise ValueError(
            f"The length of the gradients is {norm!r}, which cannot be clipped: look for inf or nan in them."
        )
    if norm > max_norm:
        for parameter in parameters:
            parameter.grad *= max_norm / norm
    return norm


def clip_grad_value(parameters: Iterable[Value], max_value: float) -> None:
    """Clip each gradient by itself to -max_value ... max_value; nan stays nan.

    Raises ValueError unless max_value is positive, TypeError unless parameters is a list.
    """
    _check("max_value", max_value)
    for parameter in distinct(parameters, "clip_grad_value"):
        parameter.grad = min(max(parameter.grad, -max_value), max_value)


def _check(name: str, limit: float) -> None:
    if not limit > 0:
        raise ValueError(f"Gradients are clipped to a positive size, got {name}={limit!r}.")


def distinct(parameters: Any, user: str) -> list[Value]:
    """The parameters, each once: one that is used twice moves once. Raises TypeError unless it is a list."""
    try:
        return list(dict.fromkeys(parameters))
    except TypeError:
        shown = reprlib.repr(parameters)
        raise TypeError(f"{user} takes a list of Values, got {shown}: pass model.parameters().") from None
