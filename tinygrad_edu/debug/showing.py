"""`steps`: a backward pass as data that shows itself, in a notebook or as a page."""

import os
from typing import Any

from ..engine.value import Value
from ..live import HINT, Live
from ..viz.names import variables_in_sight
from .sources import source_lines
from .stepping import BackwardPass


class Steps(BackwardPass):
    """The steps of a backward pass. A notebook shows them as the live page, where the pass begins."""

    __slots__ = ()

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The live page of the graph, at the beginning of this pass. Returns its text, as `Live.to_html` does.

        If path is given, the page is written there too. Raises OSError if the file cannot be written, TypeError if
        a rule of the graph cannot be written in JavaScript.
        """
        return self._live().to_html(path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {**self._live()._repr_mimebundle_(), "text/plain": super().__repr__()}

    def __repr__(self) -> str:
        return f"{super().__repr__()}\n{HINT}"

    def _live(self) -> Live:
        upstream = self.reached(0)[self.root]
        lines = source_lines(self.order)
        return Live(self.root, self.variables, mode="steps", upstream=upstream, numbers=self.data, lines=lines)


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
