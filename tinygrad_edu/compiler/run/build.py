"""Build: what the compiler has made, and the contract under which it may be used."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..find.lowered import distinct_rows
from ..trace.checks import CompileError
from ..trace.examples import Examples
from ..trace.lending import standing_in
from ..trace.surroundings import Closure, Holds
from .batches import Pick, rows_sum_to_one

WHOLE = "iu"  # the kinds of dtypes whose numbers are whole
BATCH_SIZES = 8  # a program keeps the buffers of those that were used last


@dataclass(frozen=True)
class Request:
    """What a program is made for.

    shapes        of one example, per argument
    gradient      value and gradient, or the outputs alone?
    with_outputs  the function returns (loss, outputs)
    """

    shapes: tuple[tuple[int, ...], ...]
    gradient: bool
    with_outputs: bool = False


class Broken(Exception):
    """Examples whose path is not known: the `rows`, and those among them with `different` outcomes."""

    def __init__(self, rows: list[int], different: list[int]):
        self.rows: list[int] = rows
        self.different: list[int] = different


@dataclass(eq=False)
class Guards:
    """The last columns of the outputs of a program are guards. Their outcomes are the path of an example.

    examples  the runs that the program was made from
    paths     per known path, the guards on it, and whether each is true
    n         of so many outputs
    """

    examples: Examples
    paths: list[tuple[list[int], list[bool]]]
    n: int

    def fits(self, arrays: Sequence[NDArray[Any]]) -> bool:
        """Are the whole numbers where the function takes them?"""
        return all(
            kind is not int or a.dtype.kind in WHOLE for kind, a in zip(self.examples.kinds, arrays, strict=True)
        )

    def check(self, asked: NDArray[Any]) -> None:
        """Raise Broken for examples whose path is not known: a row of `asked` has the guards of one example."""
        known = np.zeros(len(asked), bool)
        for guards, wanted in self.paths:
            known |= ((asked[:, guards] != 0) == wanted).all(axis=1)
        if not known.all():
            rows = np.flatnonzero(~known)
            _, first = np.unique(distinct_rows(asked[rows])[1], return_index=True)
            raise Broken(rows.tolist(), rows[first].tolist())


@dataclass(eq=False)
class Contract:
    """What must hold for a program to be used.

    request     the shapes, and what it computes
    closure     what it was made of: the function and its parameters, and the knobs
    held        what it takes for granted besides: numbers around the function, frozen Values
    assumed     arguments whose rows were taken to add up to 1, or not to
    picks       the arguments that are indices, which are checked
    guards      what it checks for each example, if it was traced by examples
    """

    request: Request
    closure: Closure
    held: Holds
    assumed: dict[int, bool]
    picks: list[Pick]
    guards: Guards | None = None

    @property
    def kinds(self) -> Sequence[Any]:
        """Per argument what the function takes: int, float or Value; () for whatever goes."""
        return self.guards.examples.kinds if self.guards else ()

    def at(self, theta: Sequence[Any]) -> AbstractContextManager[None]:
        """A block in which the parameters have these numbers, in this thread, and no gradient is changed."""
        return standing_in(dict(chain(self.held.frozen, zip(self.closure.parameters, theta, strict=True))))

    def fits(self, arrays: Sequence[NDArray[Any]] | None) -> bool:
        """Are the numbers of this batch such as the program takes for granted? None: they are not known yet."""
        if arrays is None:
            return True
        if self.guards and not self.guards.fits(arrays):
            return False
        for argument, answer in self.assumed.items():  # noqa: SIM110 - a generator would cost as much as the check
            if rows_sum_to_one(arrays[argument]) is not answer:
                return False
        return True


@dataclass(eq=False, repr=False)
class Build:
    """A program: its source, and what it was made for.

    contract        what must hold for it to be used
    source          the program as text
    namespace       what the source defines, `build` among it
    lowered         its arrays; None until somebody asks, if the program was made for another length
    names           of its arguments
    output_shape    of the outputs for one example
    loss            the place of the loss in the outputs
    unused          the places of the parameters that the function does not use; a slice where not all are used
    n_checked       the last outputs are so many sums over padded arrays, see `_check_padded`
    exact           makes a program without elements that the scalars do not have; None if there are none of them
    lost            a sentence about a constant that float32 cannot hold, or ""
    can_raise       may the engine refuse numbers on the way, although the loss is finite?
    lengths         the program with the length of the inputs as a variable, if this is one of its lengths
    """

    contract: "Contract"
    source: str
    namespace: dict[str, Any]
    lowered: Any
    names: list[str]
    output_shape: Any
    loss: int | None
    unused: list[int] | slice
    n_checked: int = 0
    exact: Callable[[], "Build"] | None = None
    lost: str = ""
    can_raise: bool = True
    lengths: Any = None
    verified: bool = False
    calls: int = 0
    compared: set[tuple[float, ...]] = field(default_factory=set)  # numbers of the knobs
    derivatives: dict[str, Any] = field(default_factory=dict)  # kind -> program
    _runs: dict[Any, Any] = field(default_factory=dict)
    _exact: "Build | None" = None
    _vectors: Any = None  # parameters and gradient with the knobs

    def in_numpy(self) -> "Build":
        """The same arrays as a program in NumPy; itself if it is one."""
        if "numpy" not in self.namespace:
            return self
        exact = self.exact and (lambda: self.unpadded().in_numpy())
        return replace(self, namespace=self.namespace["numpy"](), exact=exact, lengths=None, _runs={}, _exact=None)

    def quick(self) -> "Build":
        """The same program of JAX, compiled without XLA's optimisations: to be compared, not to be used."""
        return replace(self, namespace=self.namespace | {"build": self.namespace["quick"]}, _runs={})

    def notice_knobs(self) -> None:
        """A program with knobs is compared at the first two of their numbers."""
        if self.contract.closure.knobs and self.verified and len(self.compared) < 2:
            self.compared.add(tuple(self.contract.closure.numbers()))
            if len(self.compared) == 2:
                self.verified, self.calls = False, 0

    def is_due(self) -> bool:
        """Is it time to compare it? If the engine raises, in calls 1, 2, 4, 8 ... until one can be compared."""
        self.calls += 1
        return self.calls & (self.calls - 1) == 0

    def unpadded(self) -> "Build":
        """The program without elements that the scalars do not have; itself if it has none of them."""
        if self.exact is not None:
            self._exact = self._exact or self.exact()
        return self._exact or self

    @np.errstate(all="ignore")  # inf and nan are results, as in NumPy's own functions
    def run(
        self, parameters: NDArray[Any], gradient: Any, arrays: Sequence[Any], size: int, checked: bool = True
    ) -> Any:
        """The program on a batch of so many examples, with its buffers in the dtype of the parameters.

        A program that has a gradient writes it into the vector `gradient`. If it is checked, it raises Broken for
        examples whose path is not known.
        """
        if self.contract.closure.knobs and len(parameters) == len(self.contract.closure.learned):
            return self._run_with_knobs(parameters, gradient, arrays, size, checked)
        if self.lost and parameters.dtype != np.float64:
            raise CompileError(self.lost)
        key = (id(parameters), size)
        # The parameters are kept alive, since their id is the key.
        run = self._runs.pop(key, None) or (
            self.namespace["build"](parameters, size, parameters.dtype),
            parameters,
        )
        self._runs[key] = run  # the last one, since it was used last
        if len(self._runs) > BATCH_SIZES:
            del self._runs[next(iter(self._runs))]
        if self.unused and gradient is not None:
            gradient[self.unused] = 0.0
        inputs = [np.ascontiguousarray(array, parameters.dtype) for array in arrays]
        try:
            result = run[0](*inputs, *([gradient] if self.contract.request.gradient else []))
        except IndexError:  # an example of another path has no such index
            if not self.contract.guards or not checked:
                raise
            rows = list(range(size))
            raise Broken(rows, rows) from None
        gradient = gradient if self.contract.request.gradient else None
        if self.exact is not None and not is_finite(result, gradient):
            return self.unpadded().run(parameters, gradient, arrays, size, checked)
        guards = self.contract.guards
        more = self.n_checked + (guards.n if guards else 0)  # columns behind the outputs
        if not more:
            return result
        value, outputs = result if isinstance(result, tuple) else (None, result)
        outputs, own = np.split(outputs, [outputs.shape[1] - more], axis=1)
        if guards and checked:
            guards.check(own[:, : guards.n])
        return outputs if value is None else (value, outputs) if outputs.shape[1] else value

    def _run_with_knobs(
        self, parameters: NDArray[Any], gradient: Any, arrays: Sequence[Any], size: int, checked: bool
    ) -> Any:
        """Run with vectors that have the knobs after the parameters."""
        n, numbers = len(parameters), self.contract.closure.numbers()
        if self._vectors is None or self._vectors[0].dtype != parameters.dtype:
            self._vectors = tuple(np.zeros((2, n + len(numbers)), parameters.dtype))
        all_parameters, all_gradients = self._vectors
        all_parameters[:n], all_parameters[n:] = parameters, numbers
        result = self.run(all_parameters, all_gradients, arrays, size, checked)
        if gradient is not None:
            gradient[:] = all_gradients[:n]
        return result

    def forget(self, parameters: NDArray[Any]) -> None:
        """Drop the buffers that go with these parameters."""
        self._runs = {key: run for key, run in self._runs.items() if key[0] != id(parameters)}
        if self._exact is not None:
            self._exact.forget(parameters)


@np.errstate(all="ignore")  # the product takes least time, but it may overflow
def is_finite(result: Any, gradient: Any) -> bool:
    """Has a result, or a gradient, neither inf nor nan?"""
    for part in result if isinstance(result, tuple) else (result,):
        if not (math.isfinite(part) if isinstance(part, float) else np.isfinite(part).all()):
            return False
    return gradient is None or math.isfinite(np.dot(gradient, gradient)) or bool(np.isfinite(gradient).all())
