"""The command step: the stepping prompt for an expression."""

from collections.abc import Sequence

from ..debug.machine import Machine
from ..debug.prompt import Prompt
from .expression import Expression


def step_through(text: str, assignments: Sequence[str]) -> None:
    """Step through the passes of an expression, with commands from the keyboard or a pipe: see `tg.debug.run`.

    Raises ExpressionError as `Expression` does.
    """
    Prompt(Machine(Expression(text).graph(assignments), variables={})).session()
