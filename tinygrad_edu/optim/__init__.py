"""Optimisers: how the gradients move the parameters, and how the learning rate changes on the way."""

from .clipping import clip_grad_norm, clip_grad_value
from .optimisers import SGD, Adam, AdamW, Optimizer, RMSProp
from .schedules import Schedule, constant, cosine, exponential, linear_warmup, step_decay

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSProp",
    "Schedule",
    "clip_grad_norm",
    "clip_grad_value",
    "constant",
    "cosine",
    "exponential",
    "linear_warmup",
    "step_decay",
]
