"""How a forgotten zero_grad is noticed: a gradient that a step has used is marked."""

from typing import Any

FORGOTTEN = (
    "The gradients of this step() still hold those of the step before, because backward() adds to what is there: "
    "call zero_grad() once per step, before backward()."
)


class Used(float):
    """A gradient that a step has used. Adding to it, as backward() does, leaves a trace; a fresh 0.0 has none.

    So a forgotten zero_grad is known whichever way others are cleared, without a counter in every Value, and
    several backward passes before one step, which are meant to add up, leave no trace at all.
    """

    __slots__ = ()

    def __radd__(self, share: Any) -> "UsedAgain":  # backward() computes new + old
        return UsedAgain(share + float(self))


class UsedAgain(Used):
    """The sum of a gradient that a step has used, and of a later one."""

    __slots__ = ()


def unmarked(gradient: Any) -> Any:
    """The gradient as a number for arithmetic, which must not pass for one that is added to."""
    return float(gradient) if isinstance(gradient, Used) else gradient


def used(gradient: Any) -> Any:
    """The gradient, marked as used by a step. Only floats are."""
    return Used(gradient) if gradient.__class__ in (float, UsedAgain) else gradient


def marked_like(gradient: Any, new: Any) -> Any:
    """A gradient in place of another: clipping it is neither clearing nor using it."""
    return gradient.__class__(new) if isinstance(gradient, Used) else new
