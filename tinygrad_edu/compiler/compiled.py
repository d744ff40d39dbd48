"""Compiled: what `tg.compile` returns. It has programs made for what comes, and keeps the parameters."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..value import Value
from .base import CompiledFunction
from .batches import as_arrays, check_indices, rows_sum_to_one
from .checks import CompileError, check_one_number
from .pipeline import Made, Request, make
from .report import Groups
from .verify import ATTEMPTS, disagreement

DTYPES = {"float32": np.float32, "float64": np.float64}


class Compiled(CompiledFunction):
    """A compiled function as array operations on a batch. `tg.compile` makes it."""

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Iterable[Value],
        dtype: Any = "float64",
        *,
        verify: bool = True,
        with_outputs: bool = False,
    ):
        super().__init__(function, parameters, verify)
        self.dtype = _dtype(dtype)
        self._with_outputs = with_outputs
        self._vector = np.empty(len(self.parameters), self.dtype)  # the parameters, where programs read them
        self._gradient = np.empty(len(self.parameters), self.dtype)
        self._made: dict[Request, list[Made]] = {}  # several where they assume different things

    # --- What it computes -------------------------------------------------------------------------------------

    def __call__(self, *batch: Any) -> float:
        """The mean of the function over the batch."""
        outputs = self.predict(*batch)
        check_one_number(outputs.shape[1:], "mean")
        return float(outputs.mean())

    def value_and_grad(self, *batch: Any) -> tuple[float, NDArray[Any]]:
        """The mean over the batch, and its derivatives by the parameters: a new vector, in their order."""
        value, _ = self.step(*batch)
        return value, self._gradient.copy()

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

    @property
    def groups(self) -> Groups:
        """What was found in the graph, as a table and a drawing. Raises RuntimeError before the first call."""
        return Groups(self._last().lowered)

    # --- Programs -----------------------------------------------------------------------------------------------

    def _read_parameters(self) -> NDArray[Any]:
        self._vector[:] = [parameter.data for parameter in self.parameters]
        return self._vector

    def _run(self, made: Made, arrays: Sequence[NDArray[Any]], size: int) -> Any:
        self._latest = made
        return made.run(self._numbers(), self._gradient, arrays, size)

    def _prepared(self, batch: Sequence[Any], gradient: bool) -> tuple[Made, list[NDArray[Any]], int]:
        """The program for a batch, made and verified if there is none yet, and the batch as arrays."""
        arrays, size = as_arrays(batch, self._argument_names(len(batch)))
        shapes = tuple(array.shape[1:] for array in arrays)
        request = Request(shapes, gradient, self._with_outputs)

        def is_one_hot(argument: int) -> bool:
            return rows_sum_to_one(arrays[argument])

        made = next((made for made in self._made.get(request, ()) if _holds(made, is_one_hot)), None)
        if made is None:
            made = make(self.function, self.parameters, request, is_one_hot)
            self._made[request] = [made, *(m for m in self._made.get(request, ()) if m.assumed != made.assumed)]
        check_indices(made.picks, arrays, made.names)
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
