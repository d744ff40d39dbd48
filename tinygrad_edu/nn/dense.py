"""Dense and Embedding: layers with one matrix of weights."""

from collections.abc import Sequence
from typing import Any, ClassVar, overload

from ..engine import functions
from ..engine.value import Value
from .activations import ROW_ACTIVATIONS, ActivationLike, activate, check_activation, name_of
from .initialisation import Generator, Initialiser, as_generator, initialiser, leaves, normal
from .module import Module
from .rows import check_size, is_list, rows_of


class Dense(Module):
    """A layer as the textbooks write it: Z = X W + b, A = activation(Z).

    X (B, I) is a batch of B rows of I = n_inputs numbers or Values. W is (I, O) and b is (O) for O = n_outputs.
    The result A (B, O) is a list of B rows of Values; for a single row it is a single row. Z[r][o] is one dot
    product plus b[o]. `init` draws the weights, row by row of W; the default depends on the activation: He for
    relu and its variants, else Xavier. The biases start at 0. The activation is a name, an Activation, or a
    function of one Value. rng is a seed or a generator; None is the global `random`.

    With dZ = dA * activation'(Z), the gradients are dW = X^T dZ, db = the sum of the rows of dZ, dX = dZ W^T.

    Raises ValueError for sizes below 1, for an unknown activation, and for a row without n_inputs numbers.
    """

    def __init__(
        self,
        n_inputs: int,
        n_outputs: int,
        activation: ActivationLike = "linear",
        rng: Generator | int | None = None,
        *,
        init: Initialiser | None = None,
    ):
        self.n_inputs: int = check_size("n_inputs", n_inputs, "Dense")
        self.n_outputs: int = check_size("n_outputs", n_outputs, "Dense")
        self.activation: Any = check_activation(activation, ROW_ACTIVATIONS)
        rng, draw = as_generator(rng), initialiser(init, name_of(activation))
        self.W = [leaves(n_outputs, lambda: draw(n_inputs, n_outputs, rng)) for _ in range(n_inputs)]
        self.b: list[Value] = leaves(n_outputs, float)
        self._label_parameters()

    def _arrays(self) -> dict[str, Any]:
        parts = super()._arrays()
        return {"weight": list(zip(*parts.pop("W"), strict=True)), "bias": parts.pop("b"), **parts}

    @overload
    def __call__(self, inputs: Sequence[Sequence[Value | float]]) -> list[list[Value]]: ...
    @overload
    def __call__(self, inputs: Sequence[Value | float]) -> list[Value]: ...
    @overload
    def __call__(self, inputs: Any) -> Any: ...
    def __call__(self, inputs: Any) -> Any:
        rows, is_batch = rows_of(self, self.n_inputs, inputs)
        columns = list(zip(*self.W, strict=True))
        outputs = []
        for row in rows:
            x = [n if isinstance(n, Value) else Value(n) for n in row]  # one node for all outputs
            z = [functions.dot(x, column) + bias for column, bias in zip(columns, self.b, strict=True)]
            outputs.append(activate(self.activation, z))
        return outputs if is_batch else outputs[0]


class Embedding(Module):
    """A table with one row of n_dimensions learned numbers for each index from 0 to n_embeddings - 1.

    An index gives its row, a list of Values. A list of indices gives a list of rows. The entries start from the
    standard normal distribution, as in PyTorch. Only rows that were looked up get a gradient. rng is a seed or a
    generator; None is the global `random`.

    Raises ValueError for sizes below 1, IndexError for an index outside the table, TypeError for an index that
    is not a whole number.
    """

    _array_names: ClassVar = {"W": "weight"}

    def __init__(self, n_embeddings: int, n_dimensions: int, rng: Generator | int | None = None):
        self.n_embeddings: int = check_size("n_embeddings", n_embeddings, "Embedding")
        self.n_dimensions: int = check_size("n_dimensions", n_dimensions, "Embedding")
        rng = as_generator(rng)
        self.W = [leaves(n_dimensions, lambda: normal(1.0, rng)) for _ in range(n_embeddings)]
        self._label_parameters()

    @overload
    def __call__(self, inputs: int) -> list[Value]: ...
    @overload
    def __call__(self, inputs: Sequence[int]) -> list[list[Value]]: ...
    @overload
    def __call__(self, inputs: Any) -> Any: ...
    def __call__(self, inputs: Any) -> Any:
        if is_list(inputs):
            return [self(index) for index in inputs]
        try:
            return list(functions.take(self.W, inputs))
        except IndexError:
            raise IndexError(f"{self!r} has the indices 0 to {self.n_embeddings - 1}, got {inputs}.") from None
        except TypeError:
            raise TypeError(f"{self!r} takes an index or a list of them, got {inputs!r}.") from None
