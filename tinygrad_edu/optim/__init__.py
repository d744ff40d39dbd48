"""Optimisers, which move parameters by their gradients, and schedules for the learning rate."""

from .clipping import clip_grad_norm, clip_grad_value
from .optimisers import SGD, Adam, AdamW, Optimizer, RMSProp
from .schedules import Schedule, constant, cosine, exponential, linear_warmup, step_decay

__all__ = [
    "SGD", "Adam", "AdamW", "Optimizer", "RMSProp", "Schedule", "clip_grad_norm", "clip_grad_value",
    "constant", "cosine", "exponential", "linear_warmup", "step_decay",
]  # fmt: skip
