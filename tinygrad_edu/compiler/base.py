"""CompiledFunction: what the functions that `tg.compile` returns have in common, with NumPy and without it."""

import copy
import threading
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FunctionType
from typing import Any

from ..engine.dispatch import as_list
from ..engine.value import Value, tell_watchers
from . import copies
from .checks import checked_parameters, put_numbers, unused_sentence
from .tracing import argument_names, users_frame

PROGRAMS = 32  # a compiled function keeps those that were used last: one for each shape of an example
_lock = threading.Lock()


class _Block:
    """An open block of `arrays()`: its function and the parameters whose numbers are in its vector."""

    def __init__(self, function: "CompiledFunction"):
        self.function, self.parameters = function, set(function.parameters)


# Weak, so that a block which an interrupt ended at any moment, even here, does not stay open.
_open: "weakref.WeakSet[_Block]" = weakref.WeakSet()


class CompiledFunction(ABC):
    """A function of scalars, written for one example, that was compiled to run on a batch.

    A batch is one array per argument of the function, with the examples along the first axis. Outside of
    `arrays()` every call reads the parameters from their Values. It keeps the programs of the last 32 shapes.

    It can be copied and pickled. A deep copy has a function and parameters of its own, as far as the function
    closes over them or names them. Programs are made again.
    """

    def __init__(self, function: Callable[..., Any], parameters: Iterable[Value], verify: bool):
        self.original, self.parameters = function, checked_parameters(function, parameters)
        self.verify = verify
        self._names: dict[int, list[str]] = {}  # of the arguments, by their number
        self._programs: list[Any] = []  # the one that was used last is the first
        self._latest: Any = None  # what ran last
        self._said: set[str] = set()  # warnings are given once
        self._theta: Any = None  # the parameters' numbers inside of `arrays()`
        self._given: list[Any] = []  # and those that the Values have meanwhile

    @abstractmethod
    def value_and_grad(self, *batch: Any) -> tuple[float, Any]:
        """The mean over the batch, and its derivatives by the parameters, in their order.

        Raises what `tg.compile` lists.
        """

    def backward(self, *batch: Any) -> float:
        """Add the derivatives to every parameter's `grad`, as `loss.backward()` does. Returns the mean.

        Raises what `value_and_grad` raises, and then changes nothing.
        """
        value, gradient = self.value_and_grad(*batch)
        tell_watchers([parameter.grad for parameter in self.parameters])
        for parameter, share in zip(self.parameters, as_list(gradient), strict=True):
            parameter.grad = share + parameter.grad
        return value

    @contextmanager
    def arrays(self) -> Iterator[Any]:
        """The parameters as one vector, in their order, which all calls inside the block read: train it in place.

        At the end of the block, however it ends, its numbers go back into the Values. It is an array, or a list
        with backend="python". Raises RuntimeError if another block that is open has one of the parameters, and at
        the end if the number of a Value was set inside the block.

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
            self._given = [parameter.data for parameter in self.parameters]
            self._theta = theta = copy.copy(self._read_parameters())  # whoever keeps it keeps its numbers
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

    def train(self, optimizer: Any) -> "Training":
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

        Raises ValueError unless the optimiser has the parameters of this function, in their order.
        """
        return Training(self, optimizer)

    def _moved(self, move: Callable[[Any], None], batch: Any) -> float:
        """The mean over the batch, after its gradient was given to `move`."""
        value, gradient = self.value_and_grad(*batch)
        move(gradient)
        return value

    def write_back(self) -> None:
        """Give the Values the numbers of the vector, inside a block of `arrays()`."""
        self._given = self._checked(self._numbers())
        put_numbers(self.parameters, self._given)

    def _opened(self) -> _Block:
        block = _Block(self)
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
        pairs = zip(self.parameters, self._given, strict=True)
        changed = [p for p, given in pairs if p.data is not given and p.data != given]
        lost = [parameter.data for parameter in changed]
        self._theta = None
        self._forget(theta)
        put_numbers(self.parameters, self._checked(theta))
        if not changed:
            return ""
        name = changed[0].label or "the parameter"
        return (
            f"{name}.data = {lost[0]!r} was set inside arrays(), {len(lost)} parameter(s) in all. The numbers of "
            f"the block are in the array, so {name} has {changed[0].data!r} again: write into the array instead."
        )

    @abstractmethod
    def _read_parameters(self) -> Any:
        """The numbers of the Values."""

    def _forget(self, theta: Any) -> None:  # noqa: B027 - not every backend makes something for it
        """Drop what was made for this vector."""

    def _checked(self, theta: Any) -> list[Any]:
        """The numbers of the vector, one per parameter."""
        return as_list(theta)

    def _numbers(self) -> Any:
        """The numbers of the parameters, wherever they are now."""
        return self._read_parameters() if self._theta is None else self._theta

    # --- Programs ---------------------------------------------------------------------------------------------

    def _found(self, fits: Callable[[Any], bool]) -> Any:
        """The program that fits, as the one that was used last; None if there is none."""
        for place, made in enumerate(self._programs):
            if fits(made):
                if place:
                    self._programs = [made, *(other for other in self._programs if other is not made)]
                return made
        return None

    def _keep(self, made: Any, warns: bool = True) -> None:
        """Put a new program first, and drop those that were used longest ago."""
        self._programs = [made, *self._programs[: PROGRAMS - 1]]
        if made.unused and warns:
            self._warn("unused", unused_sentence(made.unused, self.parameters))

    def _warn(self, about: str, sentence: str) -> None:
        if about not in self._said:
            self._said.add(about)
            level, _ = users_frame()
            warnings.warn(sentence, stacklevel=level + 1)

    # --- Copies -----------------------------------------------------------------------------------------------

    @abstractmethod
    def _options(self) -> dict[str, Any]:
        """The arguments that it was made with, besides function and parameters."""

    def __copy__(self) -> Any:
        return type(self)(self.original, self.parameters, **self._options())

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        self._check_outside()
        memo[id(self)] = twin = object.__new__(type(self))  # the function may know what it is compiled to
        function = copies.deep(self.original, self.parameters, memo)
        parameters = (
            self.parameters if function is self.original else [memo.get(id(p), p) for p in self.parameters]
        )
        twin.__init__(function, parameters, **self._options())  # type: ignore[misc]  # it has not run yet
        return twin

    def __getstate__(self) -> dict[str, Any]:
        self._check_outside()
        copies.check_picklable(self.original, self.parameters)
        state = {
            "function": self.original,
            "held": {},
            "parameters": self.parameters,
            "options": self._options(),
        }
        if isinstance(self.original, FunctionType):
            state["held"] = copies.holders(self.original, self.parameters)
            state["function"] = copies.by_name(self.original)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        function, held = state["function"], state["held"]
        function = copies.rebound(function, held) if held else function
        self.__init__(function, state["parameters"], **state["options"])  # type: ignore[misc]  # it has not run yet

    def _check_outside(self) -> None:
        if self._theta is not None:
            raise RuntimeError(f"{self!r} is inside a block of arrays(): copy it after the block.")

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


def check_optimizer(optimizer: Any, step: CompiledFunction) -> None:
    """Raise ValueError unless the optimiser moves the parameters of the function, in their order."""
    if optimizer.parameters != step.parameters:  # of Values, == asks for the same objects
        raise ValueError(
            f"{optimizer!r} moves other parameters than those of the compiled function {step!r}, or in another "
            "order: give both one list."
        )


class Training:
    """What `train` returns, a context manager: update(*batch) makes a step and returns the mean before it."""

    def __init__(self, step: CompiledFunction, optimizer: Any):
        check_optimizer(optimizer, step)
        self.step, self.optimizer = step, optimizer
        self._block: Any = None
        self._move: Any = None

    def __enter__(self) -> "Training":
        with ExitStack() as stack:
            theta = stack.enter_context(self.step.arrays())
            self._move = stack.enter_context(self.optimizer.arrays(theta))
            self._block = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> Any:
        self._move = None
        return self._block.__exit__(*error)

    def __call__(self, *batch: Any) -> float:
        """One step on a batch. Raises what `value_and_grad` raises."""
        if self._move is None:
            with self:
                return self(*batch)
        return self.step._moved(self._move, batch)
