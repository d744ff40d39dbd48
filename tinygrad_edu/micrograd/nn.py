"""micrograd's networks. The weights are `random.uniform(-1, 1)`, neuron by neuron, so `random.seed` fixes them."""

import random
from typing import Any

from .engine import Value


class Module:
    """Whatever has parameters; a subclass says which."""

    def zero_grad(self) -> None:
        """Forget the gradients of the last backward passes."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    def parameters(self) -> list[Any]:
        """Every parameter, in a fixed order."""
        return []


class Neuron(Module):
    """relu(w1 x1 + ... + b), or without the relu where nonlin is False; the bias starts at 0."""

    def __init__(self, nin: int, nonlin: bool = True):
        self.w: list[Value] = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b: Value = Value(0.0)
        self.nonlin = nonlin

    def __call__(self, x: Any) -> Value:
        act: Any = sum((wi * xi for wi, xi in zip(self.w, x, strict=False)), self.b)
        return act.relu() if self.nonlin else act  # type: ignore[no-any-return]  # a Value, of a Value

    def parameters(self) -> list[Value]:
        return [*self.w, self.b]

    def __repr__(self) -> str:
        return f"{'ReLU' if self.nonlin else 'Linear'}Neuron({len(self.w)})"


class Layer(Module):
    """nout neurons that read the same inputs. A layer of one neuron gives a Value, any other a list."""

    def __init__(self, nin: int, nout: int, **kwargs: Any):
        self.neurons: list[Neuron] = [Neuron(nin, **kwargs) for _ in range(nout)]

    def __call__(self, x: Any) -> Any:
        out = [neuron(x) for neuron in self.neurons]
        return out[0] if len(out) == 1 else out

    def parameters(self) -> list[Value]:
        return [parameter for neuron in self.neurons for parameter in neuron.parameters()]

    def __repr__(self) -> str:
        return f"Layer of [{', '.join(map(str, self.neurons))}]"


class MLP(Module):
    """Layers one after the other, all but the last with relu."""

    def __init__(self, nin: int, nouts: list[int]):
        sizes = [nin, *nouts]
        last = len(nouts) - 1
        self.layers: list[Layer] = [Layer(sizes[i], sizes[i + 1], nonlin=i != last) for i in range(len(nouts))]

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x

    def parameters(self) -> list[Value]:
        return [parameter for layer in self.layers for parameter in layer.parameters()]

    def __repr__(self) -> str:
        return f"MLP of [{', '.join(map(str, self.layers))}]"
