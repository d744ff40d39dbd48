"""Compiled: what `tg.compile` returns. It has programs made for what comes, and keeps the parameters."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..value import Value
from .batches import as_arrays, check_indices, rows_sum_to_one
from .checks import CompileError, checked_parameters
from .pipeline import Made, Request, make
from .report import Groups
from .trace import argument_names
from .verify import ATTEMPTS, disagreement

DTYPES = {"float32": np.float32, "float64": np.float64}


class Compiled:
    """A function of scalars, written for one example, as array operations on a batch. `tg.compile` makes it.

    A batch is one array per argument of the function, with the examples along the first axis. Outside of
    `arrays()` every call reads the parameters from their Values.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Iterable[Value],
        dtype: Any = "float64",
        *,
        verify: bool = True,
        with_outputs: bool = False,
    ):
        self.function, self.parameters = function, checked_parameters(function, parameters)
        self.dtype = _dtype(dtype)
        self.verify, self._with_outputs = verify, with_outputs
        self._theta = np.empty(len(self.parameters), self.dtype)
        self._gradient = np.empty(len(self.parameters), self.dtype)
        self._made: dict[Request, list[Made]] = {}  # several where they assume different things
        self._latest: Made | None = None
        self._names: dict[int, list[str]] = {}  # of the arguments, by their number
        self._in_arrays = False

    # --- What it computes -------------------------------------------------------------------------------------

    def __call__(self, *batch: Any) -> float:
        """The mean of the function over the batch."""
        outputs = self.predict(*batch)
        if outputs.ndim > 1:
            raise TypeError("The function returns several numbers for one example: predict(...) gives them all.")
        return float(outputs.mean())

    def value_and_grad(self, *batch: Any) -> tuple[float, NDArray[Any]]:
        """The mean over the batch, and its derivatives by the parameters: a new vector, in their order."""
        value, _ = self.step(*batch)
        return value, self._gradient.copy()

    def backward(self, *batch: Any) -> float:
        """Add the derivatives to every parameter's `grad`, as `loss.backward()` does. Returns the mean."""
        value, gradient = self.value_and_grad(*batch)
        for parameter, share in zip(self.parameters, gradient.tolist(), strict=True):
            parameter.grad = share + parameter.grad
        return value

    def predict(self, *batch: Any) -> NDArray[Any]:
        """What the function returns for every example: an array (B, ...), nested as the function nests it."""
        made, arrays, size = self._prepared(batch, gradient=False)
        outputs: NDArray[Any] = self._run(made, arrays, size)
        return outputs.reshape(size, *made.output_shape)

    def step(self, *batch: Any) -> tuple[float, Any]:
        """(mean, outputs for every example) of a function that returns (loss, outputs), else (mean, None).

        For training loops such as `fit`: the gradient is left in `gradient`, which the next call overwrites.
        """
        made, arrays, size = self._prepared(batch, gradient=True)
        result = self._run(made, arrays, size)
        if self._with_outputs:
            return result[0], result[1].reshape(size, *made.output_shape)
        return result, None

    @property
    def gradient(self) -> NDArray[Any]:
        """The gradient of the last step: the vector itself, which the next step overwrites."""
        return self._gradient

    # --- Parameters as one vector -------------------------------------------------------------------------------

    @contextmanager
    def arrays(self) -> Iterator[NDArray[Any]]:
        """The parameters as one vector, in their order, which all calls inside the block read: train it in place.

        At the end of the block, however it ends, its numbers go back into the Values.

        >>> import tinygrad_edu as tg
        >>> w = Value(3.0)
        >>> step = tg.compile(lambda x: (w * x - 1) ** 2, [w])
        >>> with step.arrays() as theta:
        ...     for _ in range(100):
        ...         value, gradient = step.value_and_grad([1.0, 1.0])
        ...         theta -= 0.1 * gradient
        >>> print(f"{w:.3f}")
        1.000
        """
        if self._in_arrays:
            raise RuntimeError("The parameters are in an array already: arrays() cannot be entered twice.")
        self._theta[:] = [parameter.data for parameter in self.parameters]
        self._in_arrays = True
        try:
            yield self._theta
        finally:
            self._in_arrays = False
            for parameter, number in zip(self.parameters, self._theta.tolist(), strict=True):
                parameter.data = number

    # --- What was made ------------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """The program that ran last, as source that runs on its own. Raises RuntimeError before the first call."""
        return self._last().source

    @property
    def groups(self) -> Groups:
        """What was found in the graph, as a table and a drawing. Raises RuntimeError before the first call."""
        return Groups(self._last().lowered)

    def _last(self) -> Made:
        if self._latest is None:
            raise RuntimeError("Nothing is compiled yet: the shapes come with the first call, such as step(X, Y).")
        return self._latest

    def __repr__(self) -> str:
        name = getattr(self.function, "__name__", None) or repr(self.function)
        return f"Compiled({name}, {len(self.parameters):,} parameters, {self.dtype})"

    # --- Programs -----------------------------------------------------------------------------------------------

    def _run(self, made: Made, arrays: Sequence[NDArray[Any]], size: int) -> Any:
        if not self._in_arrays:
            self._theta[:] = [parameter.data for parameter in self.parameters]
        self._latest = made
        return made.run(self._theta, self._gradient, arrays, size)

    def _prepared(self, batch: Sequence[Any], gradient: bool) -> tuple[Made, list[NDArray[Any]], int]:
        """The program for a batch, made and verified if there is none yet, and the batch as arrays."""
        if len(batch) not in self._names:
            self._names[len(batch)] = argument_names(self.function, len(batch))
        arrays, size = as_arrays(batch, self._names[len(batch)])
        shapes = tuple(array.shape[1:] for array in arrays)
        request = Request(shapes, gradient, self._with_outputs)

        def is_one_hot(argument: int) -> bool:
            return rows_sum_to_one(arrays[argument])

        made = next((made for made in self._made.get(request, ()) if _holds(made, is_one_hot)), None)
        if made is None:
            made = make(self.function, self.parameters, request, is_one_hot)
            self._made[request] = [made, *(m for m in self._made.get(request, ()) if m.assumed != made.assumed)]
        check_indices(made.takes, arrays, made.names)
        if self.verify and not made.verified:
            verified = self._verified(made, request, arrays, is_one_hot)
            self._made[request] = [verified if m is made else m for m in self._made[request]]
            made = verified
        return made, arrays, size

    def _verified(self, made: Made, request: Request, arrays: Sequence[NDArray[Any]], is_one_hot: Any) -> Made:
        """The program, after it has agreed with the eager function; one without matrix products if it does not."""
        wrong = disagreement(made, self.function, self.parameters, arrays)
        if wrong:
            plain = make(self.function, self.parameters, request, is_one_hot, plain=True)
            if disagreement(plain, self.function, self.parameters, arrays):
                raise CompileError(
                    f"The compiled function disagrees with the eager one: {wrong}. If the function gives the "
                    "same numbers whenever it is called, this is a defect of the compiler."
                )
            warnings.warn(
                f"A matrix product was found where there is none ({wrong}); the program is compiled without them. "
                "Its numbers are right, but please report this.",
                stacklevel=5,
            )
            made, wrong = plain, ""
        made.attempts += 1
        made.verified = wrong is not None or made.attempts == ATTEMPTS
        return made


def _holds(made: Made, is_one_hot: Callable[[int], bool]) -> bool:
    """Is what the program takes for constant still so?"""
    return all(value.data is number for value, number in made.frozen) and all(
        is_one_hot(argument) == answer for argument, answer in made.assumed.items()
    )


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in DTYPES:
        raise ValueError(f'The dtype is "float64" or "float32", got {dtype!r}.')
    return np.dtype(DTYPES[name])
