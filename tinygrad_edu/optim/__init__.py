"""Optimisers: how the gradients move the parameters, and how the learning rate changes on the way."""

from .clipping import clip_by_norm, clip_by_value
from .optimisers import SGD, Adam, AdamW, Optimizer, RMSProp
from .schedules import Schedule, constant, cosine, exponential, linear_warmup, step

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSProp",
    "Schedule",
    "clip_by_norm",
    "clip_by_value",
    "constant",
    "cosine",
    "exponential",
    "linear_warmup",
    "step",
]
