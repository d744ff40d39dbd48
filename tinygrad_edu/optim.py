"""Optimisers: how the gradients move the parameters."""

import warnings
from collections.abc import Iterable
from typing import Any

from .value import Value

FORGOTTEN = (
    "The gradients of this step() still hold those of the step before, because backward() adds to what is there: "
    "call zero_grad() once per step, before backward()."
)


class _Used(float):
    """A gradient that a step has used. Adding to it, as backward() does, leaves a trace; a fresh 0.0 has none.

    So a forgotten zero_grad is known whichever way others are cleared, without a counter in every Value, and
    several backward passes before one step, which are meant to add up, leave no trace at all.
    """

    __slots__ = ()

    def __radd__(self, share: Any) -> "_UsedAgain":  # backward() computes new + old
        return _UsedAgain(share + float(self))


class _UsedAgain(_Used):
    """The sum of a gradient that a step has used, and of a later one."""

    __slots__ = ()


class SGD:
    """Gradient descent: parameter <- parameter - lr * gradient. (Stochastic, if the loss is that of a batch.)"""

    def __init__(self, parameters: Iterable[Value], lr: float = 0.01):
        self.parameters = list(parameters)
        self.lr = lr
        self._warned = False
        if not self.parameters:
            raise ValueError("SGD got no parameters to optimise: pass model.parameters().")
        if not lr > 0:
            raise ValueError(f"The learning rate must be positive, got lr={lr!r}.")

    def step(self) -> None:
        """Move every parameter against its gradient.

        Warns once (UserWarning) if zero_grad was forgotten since the last step, and the old gradients are still
        in the sum. A float gradient becomes a float of a kind of its own when a step has used it, of equal value.
        """
        if not self._warned and any(p.grad.__class__ is _UsedAgain for p in self.parameters):
            self._warned = True
            warnings.warn(FORGOTTEN, stacklevel=2)
        for parameter in self.parameters:
            parameter.data -= self.lr * parameter.grad
            if parameter.grad.__class__ in (float, _UsedAgain):
                parameter.grad = _Used(parameter.grad)

    def zero_grad(self) -> None:
        """Forget the gradients of the last backward passes."""
        for parameter in self.parameters:
            parameter.grad = 0.0
