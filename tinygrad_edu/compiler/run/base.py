"""CompiledFunction: the parameters of a compiled function as one vector, its training, its copies."""

import functools
import math
import pickle
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any, ClassVar

import numpy as np

from ...engine.dispatch import as_list
from ...engine.former import Former
from ...engine.value import Value
from ..trace.checks import checked_parameters
from ..trace.lending import put_numbers, read_numbers
from ..trace.placeholder import users_frame
from ..trace.tracing import argument_names

DTYPES: dict[str, type[np.floating[Any]]] = {"float32": np.float32, "float64": np.float64}
_lock = threading.Lock()


class _OpenBlock:
    """An open block of `arrays()`: its function and the parameters whose numbers are in its vector."""

    def __init__(self, function: "CompiledFunction"):
        self.function, self.parameters = function, set(function.parameters)


# Weak, so that a block which an interrupt ended at any moment, even here, does not stay open.
_open: "weakref.WeakSet[_OpenBlock]" = weakref.WeakSet()


class CompiledFunction(Former):
    """A function of scalars, written for one example, that was compiled to run on a batch.

    A batch is one array per argument of the function, with the examples along the first axis. Outside of
    `arrays()` every call reads the parameters from their Values. It keeps the programs of the last 32 shapes.

    If it was made of a method, a Module or a functools.partial, it can be copied and pickled, together with the
    parameters. Programs are made again.
    """

    _former: ClassVar = {"explain": "step.groups has the groups and the advice"}

    def __init__(
        self,
        function: Callable[..., Any],
        parameters: Iterable[Value],
        dtype: Any = "float64",
        *,
        verify: bool = True,
        with_outputs: bool = False,
    ):
        self.dtype: Any = _dtype(dtype)
        self._with_outputs = with_outputs
        self._is_single = self.dtype == np.float32
        self.original: Callable[..., Any] = function
        self.parameters: list[Value] = checked_parameters(function, parameters)
        self.verify = verify
        self._names: dict[int, list[str]] = {}  # of the arguments, by their number
        self._latest: Any = None  # what ran last
        self._said: set[str] = set()  # warnings are given once
        self._theta: Any = None  # the parameters' numbers inside of `arrays()`
        self._outside: list[Any] = []  # and those that the Values have meanwhile
        self._vector = np.empty(len(self.parameters), self.dtype)  # the parameters, where programs read them

    @contextmanager
    def arrays(self) -> Iterator[Any]:
        """The parameters as one vector, in their order, which all calls inside the block read: train it in place.

        At the end of the block, however it ends, its numbers go back into the Values. Raises RuntimeError if
        another block that is open has one of the parameters, and at the end if the number of a Value was set
        inside the block.

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
        block = self._opened()
        try:
            self._outside, self._theta = read_numbers(self.parameters), None  # an interrupt may have left one
            self._theta = theta = self._numbers().copy()
            try:
                yield theta
            except BaseException as error:
                if lost := self._take_back(theta):
                    error.add_note(lost)
                raise
            if lost := self._take_back(theta):
                raise RuntimeError(lost)
        finally:
            self._theta = None
            with _lock:
                _open.discard(block)

    def train(self, optimizer: Any, *data: Any) -> "Training":
        """Steps of training: forward, backward and the optimiser's update, in one call for each batch.

        >>> import tinygrad_edu as tg
        >>> w = Value(3.0)
        >>> step = tg.compile(lambda x: (w * x - 1) ** 2, [w])
        >>> with step.train(tg.optim.SGD([w], lr=0.1)) as update:
        ...     for _ in range(100):
        ...         value = update([1.0, 1.0])  # the mean before the step
        >>> print(f"{w:.3f}")
        1.000

        Inside the block the parameters are one vector, as in `arrays()`, and the Values have them at its end.
        Without the block, update(...) is one such block: it reads and writes every Value, 5 ms for 100,000.

        Raises ValueError unless the optimiser has the parameters of this function, in their order; TypeError if it
        is given data, which `update` takes.
        """
        return Training(self, optimizer, data)

    def write_back(self) -> None:
        """Give the Values the numbers of the vector, inside a block of `arrays()`."""
        self._outside = as_list(self._numbers())
        put_numbers(self.parameters, self._outside)

    def _opened(self) -> _OpenBlock:
        block = _OpenBlock(self)
        with _lock:
            for other in list(_open):
                if shared := [p for p in self.parameters if p in other.parameters]:
                    raise RuntimeError(
                        f"The parameter {shared[0].label or repr(shared[0])} is in an array already, that of "
                        f"{other.function!r}: arrays() cannot be entered twice for one parameter, since one of "
                        "the two results would be lost. End the other block first."
                    )
            _open.add(block)
        return block

    def _take_back(self, theta: Any) -> str:
        """Write the numbers of the vector into the Values. Returns what was lost by this, if anything."""
        triples = zip(self.parameters, self._outside, read_numbers(self.parameters), strict=True)
        changed = [(p, now) for p, before, now in triples if now is not before and now != before]
        self._theta = None
        self._forget(theta)
        put_numbers(self.parameters, as_list(theta))
        if not changed:
            return ""
        parameter, lost = changed[0]
        name = parameter.label or "the parameter"
        return (
            f"{name}.data = {lost!r} was set inside arrays(), {len(changed)} parameter(s) in all. The numbers of "
            f"the block are in the array, so {name} has {parameter.data!r} again: write into the array instead."
        )

    def _forget(self, theta: Any) -> None:
        """Drop what was made for this vector."""
        raise NotImplementedError

    def _numbers(self) -> Any:
        """The numbers of the parameters, wherever they are now."""
        if self._theta is not None:
            return self._theta
        self._vector[:] = read_numbers(self.parameters)
        return self._vector

    # --- Programs ---------------------------------------------------------------------------------------------

    def _warn(self, about: str, sentence: str) -> None:
        if about not in self._said:
            self._said.add(about)
            level, _ = users_frame()
            warnings.warn(sentence, stacklevel=level + 1)

    # --- Copies -----------------------------------------------------------------------------------------------

    def _options(self) -> dict[str, Any]:
        """The arguments that it was made with, besides function and parameters."""
        return {"dtype": self.dtype, "verify": self.verify, "with_outputs": self._with_outputs}

    def __copy__(self) -> Any:
        return type(self)(self.original, self.parameters, **self._options())

    def __reduce__(self) -> Any:
        """A deep copy, and one of pickle, compiles a copy of the function for copies of the parameters."""
        if self._theta is not None:
            raise RuntimeError(f"{self!r} is inside a block of arrays(): copy it after the block.")
        if isinstance(self.original, FunctionType):
            raise pickle.PicklingError(
                f"{self!r} cannot be copied with its parameters, since a plain function finds them by itself. "
                "Compile a method, a Module or functools.partial(function, model), or compile again."
            )
        return functools.partial(type(self), **self._options()), (self.original, self.parameters)

    @property
    def source(self) -> str:
        """The program that ran last, as source that runs on its own. Raises RuntimeError before the first call."""
        return str(self._last().source)

    def _last(self) -> Any:
        if self._latest is None:
            raise RuntimeError("Nothing is compiled yet: the shapes come with the first call, such as step(X, Y).")
        return self._latest

    def _argument_names(self, n: int) -> list[str]:
        if n not in self._names:
            self._names[n] = argument_names(self.original, n)
        return self._names[n]

    def __repr__(self) -> str:
        name = getattr(self.original, "__name__", None) or repr(self.original)
        return f"{type(self).__name__}({name}, {len(self.parameters):,} parameters)"


class Training:
    """What `train` returns, a context manager: update(*batch) makes a step and returns the mean before it.

    A loss of nan or inf moves nothing. Raises ValueError unless the optimiser moves the parameters of the
    function, in their order; TypeError for what is no optimiser, and for data beside it.
    """

    def __init__(self, compiled: Any, optimizer: Any, data: tuple[Any, ...] = ()):
        if data or not hasattr(optimizer, "arrays"):
            raise TypeError(
                "train takes an optimiser and returns a function of a batch, which makes a step: with "
                "step.train(optimizer) as update: update(X, y)."
            )
        if optimizer.parameters != compiled.parameters:  # of Values, == asks for the same objects
            raise ValueError(
                f"{optimizer!r} moves other parameters than those of the compiled function {compiled!r}, or in "
                "another order: give both one list."
            )
        self.compiled: Any = compiled
        self.optimizer: Any = optimizer
        self._block: Any = None
        self._move: Any = None

    def __enter__(self) -> "Training":
        with ExitStack() as stack:
            self._theta: Any = stack.enter_context(self.compiled.arrays())
            self._move = stack.enter_context(self.optimizer.arrays(self._theta))
            self._block = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> Any:
        self._move = None
        return self._block.__exit__(*error)

    def __call__(self, *batch: Any) -> float:
        """One step on a batch. Raises what `value_and_grad` raises."""
        return self.step(*batch)[0]

    def step(self, *batch: Any) -> tuple[float, Any]:
        """One step: (mean, outputs for every example) of a function that returns (loss, outputs)."""
        if self._move is None:
            with self:
                return self.step(*batch)
        with self.compiled._lock:
            value, outputs = self.compiled.step(*batch)
            if math.isfinite(value):
                self._move(self.compiled.gradient)
        return value, outputs

    def put(self, numbers: Any) -> None:
        """Give the parameters these numbers."""
        self._theta[:] = numbers


def _dtype(dtype: Any) -> np.dtype[Any]:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = repr(dtype)
    if name not in DTYPES:
        raise ValueError(f'The dtype is "float64" or "float32", got {dtype!r}.')
    return np.dtype(DTYPES[name])
