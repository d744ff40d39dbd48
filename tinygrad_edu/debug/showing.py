"""`steps`: a backward pass as data that shows itself, in a notebook or as a page."""

import os
from pathlib import Path
from typing import Any

from ..engine.value import Value
from ..viz.names import variables_in_sight
from .player import notebook, page
from .stepping import BackwardPass


class Steps(BackwardPass):
    """The steps of a backward pass, which a notebook shows as a page with a slider."""

    __slots__ = ()

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The pass as one HTML page with a slider, arrow keys and play. It needs no network. Returns its text.

        If path is given, the page is written there too. Raises ValueError if the graph has more than 400 nodes,
        OSError if the file cannot be written.
        """
        text = page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def _repr_html_(self) -> str | None:
        """For a notebook: the page, and below it the steps without a script. Nothing for more than 400 nodes."""
        return notebook(self)


def steps(root: Value, upstream: Any = 1.0) -> Steps:
    """What root.backward(upstream) does, one `Step` per operation, from the result back to the inputs.

    The gradients start at 0, whatever `.grad` holds, and no `.grad` is touched. The numbers of the graph are those
    at the time of this call. A step is computed when it is first asked for, together with those before it.

    Raises TypeError if root is not one Value or upstream not one number. If a rule fails, the step that needs it
    raises its error, with a note that names the node.

    >>> x = Value(3.0, label="x")
    >>> print(*steps((x - 1) ** 2), sep="\\n")
    step 1 of 2: #3 = #2**2: #2 receives upstream * slope = 1 * 4 = 4; #2.grad 0 -> 4
    step 2 of 2: #2 = x - #0: x receives upstream = 4; x.grad 0 -> 4; #0 receives -upstream = -4; #0.grad 0 -> -4
    """
    return Steps(root, upstream, variables_in_sight())
