"""`draw`: the question a user asks, checked, read, composed and handed to Graphviz."""

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ..engine.graph import edges
from ..engine.value import Value
from .compose import picture_of
from .names import variables_in_sight
from .picture import Picture, in_two_shapes
from .plain import PlainDrawing
from .reading import nodes_below
from .strangers import adopted
from .terminal import tree

if TYPE_CHECKING:
    from .render import Drawing

STYLES = ("value", "micrograd")


def draw(
    root: Value,
    *,
    style: str = "value",
    slopes: bool = False,
    constants: bool = False,
    heat: bool = False,
    paths: Any = None,
    rankdir: str = "LR",
    format: str = "svg",
    max_nodes: int | None = 80,
    variables: Mapping[Value, str] | None = None,
) -> "Drawing | PlainDrawing":
    """A picture of everything root was computed from, inputs first; a notebook shows it.

    Each Value is a box: its name and the operation that made it above its data and its gradient, a dash before any
    backward pass (all gradients are 0, the root's too). The name is the label, else the variable that holds the
    Value where draw is called. A leaf is a yellow rectangle, a parameter a green note, an operation's result is
    rounded and white, and root has a double frame. A module's frame holds its parameters and what they are used
    for. `x * x` has two arrows.

    style      "value"; or "micrograd", where each operation is an ellipse of its own
    slopes     write d(result)/d(operand) on each arrow
    constants  show numbers as grey ellipses; else `x * 2` is a box with `· * 2` in it
    heat       fill by |gradient| on a log scale, with a legend: vanishing and exploding gradients show
    paths      edges to highlight, (node, number of the operand); or what has such `.edges`, as `why(root, x)` has
    rankdir    "LR" (left to right) or "TB" (top to bottom)
    format     what `render()` and `pipe()` write if they are not told: "svg", "png", "pdf" ...
    max_nodes  a larger graph is summarised: equal modules and repeated operations become one box, and a line
               says how much is shown; None draws all of it
    variables  names for the nodes without a label; by default they are those of the caller

    One graph has one DOT text: `draw(y).source`. Boxes are n0, n1 ... in topological order. Labels are shown as
    they are, a newline as a line break, control characters as Python escapes.

    Where Graphviz cannot run, as in a browser, the picture is an SVG of our own, simpler.

    Raises TypeError if root is not one Value or paths are not edges, ValueError for an unknown option or an edge
    that is not below root.
    """
    variables = variables_in_sight(variables)
    (root,) = adopted(root)
    if rankdir not in ("LR", "TB"):
        raise ValueError(f'rankdir is "LR" (left to right) or "TB" (top to bottom), got {rankdir!r}.')
    if style not in STYLES:
        raise ValueError(f'style is "value" (a box per Value) or "micrograd" (boxes and ellipses), got {style!r}.')
    if max_nodes is not None and (not isinstance(max_nodes, int) or max_nodes < 2):
        raise ValueError(f"max_nodes is a whole number of 2 or more, or None for all nodes, got {max_nodes!r}.")
    in_micrograds = style == "micrograd"
    constants = constants or in_micrograds
    picture = picture_of(root, variables, slopes=slopes, constants=constants, paths=paths, max_nodes=max_nodes)
    picture = in_two_shapes(picture) if in_micrograds else picture
    text = tree(root, ascii=False, variables=variables)
    return drawn(picture, text, heat=heat, rankdir=rankdir, format=format)


def drawn(picture: Picture, text: str, **look: Any) -> "Drawing | PlainDrawing":
    """A Picture by Graphviz, or by our own layout where it cannot run; text is the same in words.

    `look` has heat, rankdir and format, as in `draw`.
    """
    if sys.platform == "emscripten" or not find_spec("graphviz"):  # a browser runs no programs
        return PlainDrawing(picture, text, look.get("rankdir", "LR"), look.get("heat", False))
    from .dot import drawing_of

    return drawing_of(picture, text, **look)


def draw_dot(root: Value, format: str = "svg", rankdir: str = "LR") -> "Drawing | PlainDrawing":
    """The picture that micrograd's draw_dot gives: `draw(root, style="micrograd")` of the whole graph.

    Raises what `draw` raises.
    """
    variables = variables_in_sight()
    return draw(root, style="micrograd", rankdir=rankdir, format=format, max_nodes=None, variables=variables)


def trace(root: Value) -> tuple[set[Value], set[tuple[Value, Value]]]:
    """All nodes below root and all (parent, child) pairs, as in micrograd's notebook.

    A set holds a pair once: `x * x` has two edges in the picture, and one here. Raises TypeError if root is not
    one Value.
    """
    return set(nodes_below(root)), set(edges(root))
