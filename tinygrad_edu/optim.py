"""Optimisers: how the gradients move the parameters."""

from collections.abc import Iterable

from .value import Value


class SGD:
    """Gradient descent: parameter <- parameter - lr * gradient. (Stochastic, if the loss is that of a batch.)"""

    def __init__(self, parameters: Iterable[Value], lr: float = 0.01):
        self.parameters = list(parameters)
        self.lr = lr
        if not self.parameters:
            raise ValueError("SGD got no parameters to optimise: pass model.parameters().")
        if not lr > 0:
            raise ValueError(f"The learning rate must be positive, got lr={lr!r}.")

    def step(self) -> None:
        """Move every parameter against its gradient."""
        for parameter in self.parameters:
            parameter.data -= self.lr * parameter.grad

    def zero_grad(self) -> None:
        """Forget the gradients of the last backward passes."""
        for parameter in self.parameters:
            parameter.grad = 0.0
