"""Clipping: make exploding gradients smaller, between backward() and step()."""

import math
from collections.abc import Iterable

from ..engine.value import Value
from .settings import distinct, setting

POSITIVE = "Gradients are clipped to a positive size"


def clip_grad_norm(parameters: Iterable[Value], max_norm: float) -> float:
    """Scale all gradients by one factor, so that their length sqrt(g1^2 + g2^2 + ...) is max_norm at most.

    Returns the length before. Raises ValueError unless max_norm is positive, and if the length is inf or nan: then
    there is no direction to keep; TypeError unless parameters is a list. Source: Pascanu et al., On the difficulty
    of training recurrent neural networks, 2013.
    """
    setting(POSITIVE, lambda x: x > 0, max_norm=max_norm)
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
    setting(POSITIVE, lambda x: x > 0, max_value=max_value)
    for parameter in distinct(parameters, "clip_grad_value"):
        parameter.grad = min(max(parameter.grad, -max_value), max_value)
