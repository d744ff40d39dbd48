"""Training: `fit` and `evaluate`, on Values or on compiled arrays."""

from .loop import History, evaluate, fit

__all__ = ["History", "evaluate", "fit"]
