"""Drawing: a function that draws random numbers becomes one that is given them as its last argument.

The numbers are drawn on the host at each call, for one example after the other and in the order of the function.
So the compiled function gives what the function itself gives after the same `random.seed`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ..engine.value import Value
from ..engine.watch import watch
from .placeholder import Placeholder, refuse
from .tracked import Tracked
from .tricks import Draw, drawn_before

THAN, SAME = "than for another example", "Draw the same numbers for every example, or give them as an argument."


def with_draws(function: Callable[..., Any], names: Sequence[str], wanted: Sequence[Draw]) -> Callable[..., Any]:
    """The same function of its arguments and of what it draws. Raises TraceError if it draws something else."""

    def of_draws(*arguments: Any) -> Any:
        *batch, numbers = arguments
        left = zip(wanted, numbers, strict=True)

        def next_drawn(draw: Draw) -> Any:
            known, number = next(left, (None, None))
            if draw != known:
                refuse(f"random.{draw[0]} was called with other arguments, or more often, {THAN}", SAME)
            if isinstance(number, Placeholder):
                return Tracked(number) if hasattr(watch.tracer, "picked") else number
            return number.data if isinstance(number, Value) else number

        with drawn_before(next_drawn):
            result = function(*batch)
        if next(left, None):
            refuse(f"fewer random numbers were drawn {THAN}", SAME)
        return result

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in (*names, "drawn")]
    of_draws.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # names for the source
    return of_draws
