"""Neuron, Layer, MLP: an MLP is a list of layers, a layer a list of neurons, a neuron a list of Values."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from ..engine.value import Value
from .activations import ACTIVATIONS, ROW_ACTIVATIONS, ActivationLike, activate, check_activation, name_of
from .initialisation import Generator, Initialiser, as_generator, initialiser, leaves
from .module import Module
from .rows import check_example, check_size

__all__ = ["ACTIVATIONS", "MLP", "Layer", "Module", "Neuron"]


if TYPE_CHECKING:

    class Output(Value, list[Value]):  # type: ignore[misc]  # both, since the checker does not know the sizes
        """What an MLP returns: a Value if it has one output, else a list of Values."""


class Neuron(Module):
    """activation(b + w0*x0 + w1*x1 + ...): one output from n_inputs numbers or Values.

    `init` draws the weights `w`. The default is uniform: He for relu and its variants, else Xavier. The bias `b`
    starts at 0. rng is a seed or a generator; None is the global `random`, so that random.seed(1337) makes the
    weights reproducible. n_outputs is the number of neurons in the layer; only Xavier uses it. The activation is a
    name, an Activation or a function of one Value.

    Raises ValueError for sizes below 1, an unknown activation, and another number of inputs; TypeError for inputs
    that are not a list of numbers.
    """

    def __init__(
        self,
        n_inputs: int,
        activation: ActivationLike = "relu",
        rng: Generator | int | None = None,
        *,
        n_outputs: int = 1,
        init: Initialiser | None = None,
    ):
        self.n_inputs: int = check_size("n_inputs", n_inputs, "Neuron")
        self.n_outputs: int = n_outputs
        self.activation: Any = check_activation(activation, ACTIVATIONS)
        rng, draw = as_generator(rng), initialiser(init, name_of(activation))
        self.w: list[Value] = leaves(n_inputs, lambda: draw(n_inputs, n_outputs, rng))
        self.b: Value = leaves(1, float)[0]
        self._label_parameters()

    def __call__(self, inputs: Sequence[Any]) -> Value:
        total = self.b
        try:
            if len(inputs) != len(self.w):
                raise ValueError(f"{self!r} takes {len(self.w)} inputs, got {len(inputs)}.")
            for weight, x in zip(self.w, inputs, strict=True):
                total = total + weight * x
        except (TypeError, ValueError):
            check_example(self.n_inputs, inputs)
            raise
        if callable(self.activation):
            return self.activation(total)  # type: ignore[no-any-return]  # any function of a Value
        result: Value = total if self.activation == "linear" else getattr(total, self.activation)()
        return result

    def _arrays(self) -> dict[str, Any]:
        parts = super()._arrays()
        return {"weight": [parts.pop("w")], "bias": [parts.pop("b")], **parts}

    def __repr__(self) -> str:
        return f"Neuron({len(self.w)}, activation={self.activation!r})"


class Layer(Module):
    """n_outputs neurons with the same inputs. Returns a list of n_outputs Values, even for one.

    The activation is any of a Neuron's, or softmax, which acts on all outputs together. The neurons draw their
    weights one after the other. Raises ValueError as Neuron does.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        activation: ActivationLike = "relu",
        rng: Generator | int | None = None,
        *,
        init: Initialiser | None = None,
    ):
        self.activation: Any = check_activation(activation, ROW_ACTIVATIONS)
        rng = as_generator(rng)
        self.n_inputs: int = n_inputs
        self.n_outputs: int = check_size("n_outputs", n_outputs, "Layer")
        self._on_row = name_of(activation) == "softmax"
        each = "linear" if self._on_row else activation
        self.neurons: list[Neuron] = [
            Neuron(n_inputs, each, rng, n_outputs=n_outputs, init=init) for _ in range(n_outputs)
        ]
        self._label_parameters()

    def _arrays(self) -> dict[str, Any]:
        parts = super()._arrays()
        neurons = parts.pop("neurons")
        return {"weight": [neuron.w for neuron in neurons], "bias": [neuron.b for neuron in neurons], **parts}

    def __call__(self, inputs: Sequence[Any]) -> list[Value]:
        if inputs.__class__ is list:  # one node for each float, not one per neuron
            inputs = [Value(x) if x.__class__ is float else x for x in inputs]
        outputs = [neuron(inputs) for neuron in self.neurons]
        return activate(self.activation, outputs) if self._on_row else outputs


class MLP(Module):
    """A multilayer perceptron: MLP(2, [16, 16, 1]) has 2 inputs, two hidden layers of 16 and one output.

    Hidden layers have the activation, the last layer is linear. Parameters are labelled by their place, such as
    `layer0.neuron3.w2`. Takes one example, a list of n_inputs numbers or Values. Returns the list of outputs; if
    there is one output, the Value itself. The layers draw their weights one after the other.

    Raises ValueError as Neuron does, and if n_outputs is not a list of sizes.
    """

    _array_names: ClassVar = {"layers": ""}

    def __init__(
        self,
        n_inputs: int,
        n_outputs: Sequence[int],
        activation: ActivationLike = "relu",
        rng: Generator | int | None = None,
        *,
        init: Initialiser | None = None,
    ):
        if isinstance(n_outputs, int) or not n_outputs:
            raise ValueError(f"n_outputs lists the sizes of the layers, such as [16, 16, 1], got {n_outputs!r}.")
        self.activation: Any = check_activation(activation, ROW_ACTIVATIONS)
        self.n_inputs: int = n_inputs
        self.n_outputs: list[int] = list(n_outputs)
        rng, sizes, last = as_generator(rng), [n_inputs, *n_outputs], len(n_outputs) - 1
        self.layers: list[Layer] = [
            Layer(sizes[i], sizes[i + 1], "linear" if i == last else activation, rng, init=init)
            for i in range(len(n_outputs))
        ]
        self._label_parameters()

    def __call__(self, inputs: Sequence[Any]) -> "Output":
        outputs: Any = inputs
        for layer in self.layers:
            outputs = layer(outputs)
        return outputs[0] if len(outputs) == 1 else outputs  # type: ignore[no-any-return]  # either part of Output

    def __repr__(self) -> str:
        return f"MLP([{', '.join(map(repr, self.layers))}])"
