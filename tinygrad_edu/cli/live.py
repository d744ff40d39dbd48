"""The command live: the live page of an expression, into a file."""

from collections.abc import Sequence
from pathlib import Path

from ..live import live
from .draw import STDOUT, put
from .expression import Expression, ExpressionError


def live_to(text: str, assignments: Sequence[str], path: Path) -> None:
    """Write the live page of an expression; the path `-` is the standard output.

    Raises ExpressionError if the file is not a .html or the expression cannot be computed, OSError if the file
    cannot be written.
    """
    if path != STDOUT and path.suffix.lower() != ".html":
        raise ExpressionError(f"{path.name!r} must end in .html: the page is HTML.")
    put(live(Expression(text).graph(assignments)).to_html().encode(), path)
