"""Drawing: a function that draws random numbers becomes one that is given them as its last argument.

The numbers are drawn on the host at each call, for one example after the other and in the order of the function.
So the compiled function gives what the function itself gives after the same `random.seed`.
"""

import inspect
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine.value import Value
from ...engine.watch import watch
from .placeholder import Placeholder, refuse
from .tracked import Tracked
from .tricks import Draw, draw, drawn_before

THAN, SAME = "than for another example", "Draw the same numbers for every example, or give them as an argument."


class Drawn(np.ndarray[Any, Any]):
    """An array of random numbers that are followed: comparisons do not ask for them."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        inputs = tuple(np.asarray(x, object) if isinstance(x, np.ndarray) else x for x in inputs)
        if ufunc in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
            options["dtype"] = object
        result = getattr(ufunc, method)(*inputs, **options)
        return result.view(Drawn) if isinstance(result, np.ndarray) else result

    def astype(self, *_: Any, **__: Any) -> Any:
        """The same: its numbers have no type before they are drawn."""
        return self


def drawn_rows(wanted: Sequence[Draw], n: int) -> Any:
    """Random numbers for n examples, one row for each, in the order in which the function would draw them."""
    return np.array([[x for each in wanted for x in np.ravel(draw(each))] for _ in range(n)])


def with_draws(function: Callable[..., Any], names: Sequence[str], wanted: Sequence[Draw]) -> Callable[..., Any]:
    """The same function of its arguments and of what it draws. Raises TraceError if it draws something else."""

    def of_draws(*arguments: Any) -> Any:
        *batch, numbers = arguments
        left, draws = iter(numbers), iter(wanted)

        def next_drawn(now: Draw, like: Any) -> Any:
            if now != next(draws, None):
                refuse(f"{now.function} was called with other arguments, or more often, {THAN}", SAME)
            whole = np.asarray(like).dtype.kind == "i"
            found = [plain(number, whole) for number in itertools.islice(left, np.size(like))]
            return np.array(found, object).reshape(np.shape(like)).view(Drawn) if np.ndim(like) else found[0]

        def plain(number: Any, whole: bool) -> Any:
            if isinstance(number, Placeholder):
                return Tracked(number, whole) if hasattr(watch.tracer, "picked") else number
            number = number.data if isinstance(number, Value) else number
            return int(number) if whole and number == int(number) else number  # other points are compared too

        with drawn_before(next_drawn):
            result = function(*batch)
        if next(draws, None):
            refuse(f"fewer random numbers were drawn {THAN}", SAME)
        return result

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in (*names, "drawn")]
    of_draws.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # names for the source
    return of_draws
