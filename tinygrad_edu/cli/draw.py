"""The command draw: the picture of an expression, into a file."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..debug import steps
from ..engine.value import Value
from ..viz.words import visible
from .expression import Expression, ExpressionError

FORMATS = ("svg", "png", "pdf", "html")
STDOUT = Path("-")


def draw_to(text: str, assignments: Sequence[str], path: Path) -> None:
    """Write the picture of an expression with its gradients: svg, png or pdf; html can be stepped through.

    The path `-` is the standard output, which gets an SVG. Raises ExpressionError if the name of the file has
    another ending or the expression cannot be computed, RuntimeError if nothing here can write the format, and
    OSError if the file cannot be written.
    """
    format = "svg" if path == STDOUT else path.suffix[1:].lower()
    if format not in FORMATS:
        raise ExpressionError(f"{path.name!r} must end in one of {', '.join('.' + f for f in FORMATS)}.")
    y = Expression(text).graph(assignments)
    put(steps(y).to_html().encode() if format == "html" else _picture(y, format), path)


def put(content: bytes, path: Path) -> None:
    """Write to the path, or for `-` to the standard output. Raises OSError if that fails."""
    if path == STDOUT:
        sys.stdout.buffer.write(content)
    else:
        path.write_bytes(content)
        print(f"wrote {visible(str(path))}")


def _picture(y: Value, format: str) -> bytes:
    from ..viz import draw

    y.backward()
    try:
        picture: bytes = draw(y, slopes=True).pipe(format=format)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(
            f"No {format} can be written with {error.cmd[0]}: install Graphviz, or take svg."
        ) from None
    return picture
