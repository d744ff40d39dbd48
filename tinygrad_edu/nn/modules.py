"""Neuron, Layer, MLP: each a list of the smaller one, down to the Values that are learned."""

from collections.abc import Iterator, Sequence
from typing import Any

from ..value import Value
from .initialisation import Generator, as_generator, weight_limit

ACTIVATIONS = ("linear", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus")


class Module:
    """Whatever has parameters: those attributes that are Values, Modules or lists of them, in their order."""

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Value]]:
        """(name, Value) of every parameter in a stable order; the name is its place: "layer0.neuron3.w2"."""
        for name, attribute in vars(self).items():
            yield from _named(prefix + name, attribute)

    def parameters(self) -> list[Value]:
        """Every parameter once, in a stable order."""
        return list(dict.fromkeys(value for _, value in self.named_parameters()))

    def zero_grad(self) -> None:
        """Forget the gradients of the last backward passes: leaves accumulate."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    def _label_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            parameter.label = name

    def __call__(self, inputs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define __call__(self, inputs).")


def _named(place: str, attribute: Any) -> Iterator[tuple[str, Value]]:
    if isinstance(attribute, Value):
        yield place, attribute
    elif isinstance(attribute, Module):
        yield from attribute.named_parameters(f"{place}.")
    elif isinstance(attribute, list | tuple):
        for i, item in enumerate(attribute):
            yield from _named(f"{place.removesuffix('s')}{i}", item)


class Neuron(Module):
    """activation(b + w0*x0 + w1*x1 + ...): one output from n_inputs numbers or Values.

    The weights `w` start uniform, by He or Xavier as the activation asks (see `weight_limit`), the bias `b` at 0.
    rng is a seed or a generator; one seed gives the same bits on every run, None other weights each time.
    n_outputs, the number of neurons beside this one and itself, counts for Xavier only.
    """

    def __init__(
        self, n_inputs: int, activation: str = "relu", rng: Generator | int | None = None, *, n_outputs: int = 1
    ):
        if not isinstance(n_inputs, int) or n_inputs < 1:
            raise ValueError(f"A neuron has 1 or more inputs, got n_inputs={n_inputs!r}.")
        if activation not in ACTIVATIONS:
            raise ValueError(f"There is no activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}.")
        rng, limit = as_generator(rng), weight_limit(n_inputs, n_outputs, activation)
        self.w = [Value(rng.uniform(-limit, limit)) for _ in range(n_inputs)]
        self.b = Value(0.0)
        self.activation = activation
        self._label_parameters()

    def __call__(self, inputs: Sequence[Any]) -> Value:
        if len(inputs) != len(self.w):
            raise ValueError(f"{self!r} takes {len(self.w)} inputs, got {len(inputs)}.")
        total = self.b
        for weight, x in zip(self.w, inputs, strict=True):
            total = total + weight * x
        result: Value = total if self.activation == "linear" else getattr(total, self.activation)()
        return result

    def __repr__(self) -> str:
        return f"Neuron({len(self.w)}, activation={self.activation!r})"


class Layer(Module):
    """n_outputs neurons that see the same inputs. Always returns a list, also of one."""

    def __init__(
        self, n_inputs: int, n_outputs: int, activation: str = "relu", rng: Generator | int | None = None
    ):
        if not isinstance(n_outputs, int) or n_outputs < 1:
            raise ValueError(f"A layer has 1 or more outputs, got n_outputs={n_outputs!r}.")
        rng = as_generator(rng)
        self.neurons = [Neuron(n_inputs, activation, rng, n_outputs=n_outputs) for _ in range(n_outputs)]
        self._label_parameters()

    def __call__(self, inputs: Sequence[Any]) -> list[Value]:
        return [neuron(inputs) for neuron in self.neurons]

    def __repr__(self) -> str:
        first = self.neurons[0]
        return f"Layer({len(first.w)}, {len(self.neurons)}, activation={first.activation!r})"


class MLP(Module):
    """A multilayer perceptron: MLP(2, [16, 16, 1]) has 2 inputs, two hidden layers of 16 and one output.

    Hidden layers have the activation, the last layer is linear. Parameters are labelled by their place, like
    `layer0.neuron3.w2`. Returns the list of outputs, of one output the Value itself.
    """

    def __init__(
        self, n_inputs: int, n_outputs: Sequence[int], activation: str = "relu", rng: Generator | int | None = None
    ):
        if isinstance(n_outputs, int) or not n_outputs:
            raise ValueError(f"n_outputs lists the sizes of the layers, such as [16, 16, 1], got {n_outputs!r}.")
        rng, sizes, last = as_generator(rng), [n_inputs, *n_outputs], len(n_outputs) - 1
        self.layers = [
            Layer(sizes[i], sizes[i + 1], "linear" if i == last else activation, rng)
            for i in range(len(n_outputs))
        ]
        self._label_parameters()

    def __call__(self, inputs: Sequence[Any]) -> Any:
        outputs: Any = inputs
        for layer in self.layers:
            outputs = layer(outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def __repr__(self) -> str:
        return f"MLP([{', '.join(map(repr, self.layers))}])"
