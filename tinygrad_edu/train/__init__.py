"""Training: `fit` and `evaluate`, on Values or on compiled arrays."""

from .history import History
from .loop import evaluate, fit

__all__ = ["History", "evaluate", "fit"]
