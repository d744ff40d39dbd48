"""Activations: the nonlinear step after each layer. Without it, all layers together are one linear map."""

from collections.abc import Callable, Sequence
from typing import Any

from ..engine import functions
from ..engine.rules import RULES
from .module import Module
from .rows import is_list, is_row

ACTIVATIONS = ("linear", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus")
ROW_ACTIVATIONS = (*ACTIVATIONS, "softmax")  # softmax needs all numbers of a row

ActivationLike = str | Callable[[Any], Any]  # a name, an Activation, or a function of one number


class Activation(Module):
    """An activation as a module, for Sequential or with a parameter: Activation("leaky_relu", alpha=0.2).

    Takes a number, a row or a batch, and returns the same shape. It acts on each number, softmax on each row.
    Raises ValueError for an unknown name, TypeError for a parameter that the activation does not have.
    """

    def __init__(self, name: str, **parameters: float):
        self.name: Any = check_activation(name, ROW_ACTIVATIONS)
        self.arguments = parameters
        if name in RULES and parameters:
            RULES[name].bind(**parameters)
        elif parameters:
            raise TypeError(f"{name} has no parameter {', '.join(parameters)}.")

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return [self.name], dict(self.arguments)

    def __call__(self, inputs: Any) -> Any:
        if self.name == "linear":
            return inputs
        if self.name == "softmax" and is_row(inputs):
            return functions.softmax(inputs)
        if is_list(inputs):
            return [self(item) for item in inputs]
        if self.name == "softmax":
            raise ValueError(f"softmax takes a row of numbers or a batch of rows, got {inputs!r}.")
        return RULES[self.name](inputs, **self.arguments)


def check_activation(activation: Any, names: tuple[str, ...]) -> Any:
    """activation itself. Raises ValueError unless it is one of the names or can be called."""
    if not callable(activation) and activation not in names:
        raise ValueError(f"There is no activation {activation!r}; choose one of {', '.join(names)}.")
    return activation


def name_of(activation: ActivationLike) -> str:
    """The name of an activation: "relu" for tg.relu, "softmax" for tg.softmax; "" if it has none."""
    if isinstance(activation, str):
        return activation
    return str(getattr(activation, "name", getattr(activation, "__name__", "")))


def activate(activation: ActivationLike, row: Sequence[Any]) -> list[Any]:
    """The activation of a row of numbers or Values: softmax and modules get the row, functions each number."""
    if isinstance(activation, str):
        activation = Activation(activation)
    if isinstance(activation, Module) or name_of(activation) == "softmax":
        return list(activation(row))
    return [activation(z) for z in row]
