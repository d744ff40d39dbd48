"""`tg.live`: a page on which a graph computes itself anew when a number changes, and is stepped through."""

import base64
import os
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

from ..engine.value import Value
from ..viz.compose import picture_of
from ..viz.drawing import drawn
from ..viz.names import variables_in_sight
from ..viz.reading import nodes_below
from ..viz.strangers import adopted
from ..viz.words import four_digits
from .document import document

__all__ = ["Live", "live"]

HEIGHT = 640  # pixels of the frame in a notebook
HINT = "(A notebook shows the page; .to_html('page.html') writes it.)"
BOXES, DPI = 40, "72"  # of the picture beside the page: a notebook's output stays below 500 KB


def live(root: Value | Callable[..., Value], /, **numbers: Any) -> "Live":
    """A page on which every leaf can be changed and every step seen. A notebook shows it; `to_html` writes it.

    `live(y)` shows the graph of y; `live(f, a=2.0, b=-3.0)` calls f with Values of these names and numbers. The
    page is one file without network, server or kernel. Values, gradients, slopes and sentences follow a change.

    Raises TypeError if there is not one Value to show, or if a rule of the graph cannot be written in JavaScript:
    the message names it and the remedy.

    >>> live(lambda a, b: a * b, a=2.0, b=-3.0)
    Live(3 nodes, result -6)
    (A notebook shows the page; .to_html('page.html') writes it.)
    """
    return Live(evaluated(root, numbers, "live"), variables_in_sight())


def evaluated(root: Value | Callable[..., Value], numbers: Mapping[str, Any], name: str) -> Value:
    """What a function gives for Values of these names and numbers; a Value is given back.

    Raises TypeError, in the name of the function that was called, for numbers beside a Value.
    """
    (root,) = adopted(root)
    if not isinstance(root, Value) and callable(root):
        return root(**{name: x if isinstance(x, Value) else Value(x, name) for name, x in numbers.items()})
    if numbers:
        raise TypeError(f"{name} takes numbers beside a function, got {', '.join(numbers)} beside {root!r:.60}.")
    return root


class Live:
    """The live page of a graph, with the numbers that it had when this was made."""

    def __init__(self, root: Value, variables: Mapping[Value, str], **options: Any):
        nodes = nodes_below(root)
        self._summary = f"Live({len(nodes):,} nodes, result {four_digits(root.data)})"
        self._title = f"The graph of {root.label or 'a result'} with {len(nodes):,} nodes"
        self._page = document(root, variables, **options)
        self._picture = picture_of(root, variables, max_nodes=BOXES)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The page as one HTML document. Writes it to path, if one is given. Returns its text. Raises OSError."""
        if path is not None:
            Path(path).write_text(self._page, encoding="utf-8")
        return self._page

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """The page in a frame, and the picture alone for hosts that take frames and scripts out.

        Such hosts take `display:none` out as well, so the picture within the HTML shows where the frame does not.
        """
        frame = (
            f'<iframe srcdoc="{escape(self._page)}" style="width:100%;height:{HEIGHT}px;border:0" '
            f'title="{escape(self._title)}"></iframe>'
        )
        try:
            drawing = drawn(self._picture, self._summary)
            drawing.attr(dpi=DPI)
            picture = base64.b64encode(drawing.pipe(format="png")).decode()
        except Exception:  # no renderer, or one that fails: the page needs none
            return {"text/plain": self._summary, "text/html": frame}
        hidden = f'<img style="display:none" alt="{escape(self._title)}" src="data:image/png;base64,{picture}">'
        return {"text/plain": self._summary, "text/html": frame + hidden, "image/png": picture}

    def __repr__(self) -> str:
        return f"{self._summary}\n{HINT}"
