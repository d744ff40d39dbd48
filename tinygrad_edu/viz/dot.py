"""The graph as a Graphviz drawing, in the shape of micrograd's draw_dot."""

from html import escape
from typing import TYPE_CHECKING

from ..graph import edges
from ..value import Value
from .text import four_digits, nodes_below, tree, visible

if TYPE_CHECKING:
    from .render import Drawing

INK, ACCENT, CARD = "#1f2933", "#a02c12", "#fbfaf6"  # dark on an opaque light card, legible in a dark notebook
GRAPH = {"bgcolor": CARD, "pad": "0.2", "nodesep": "0.25", "ranksep": "0.3"}
NODE = {"fontname": "Helvetica", "fontsize": "12", "fontcolor": INK, "margin": "0", "height": "0.1"}
INTERIOR = {"shape": "box", "style": "rounded,filled", "fillcolor": "#ffffff", "color": "#52606d"}
LEAF = {"style": "filled", "fillcolor": "#ffe8b3", "color": "#8a5a00", "penwidth": "1.8"}
OPERATION = {"shape": "ellipse", "style": "filled", "fillcolor": "#d6e6f7", "margin": "0.04", "width": "0.5"}
EDGE = {"color": "#52606d", "arrowsize": "0.6"}


def draw(root: Value, format: str = "svg", rankdir: str = "LR") -> "Drawing":
    """A picture of everything root was computed from, inputs first; a notebook shows it.

    Each Value is a box `label | data | grad`, square and yellow for a leaf, rounded and white for a result; each
    operation is an ellipse before its result. An input that is used twice by one operation has two edges. One
    graph gives one DOT text: `draw(y).source`. Boxes are called n0, n1 ... in topological order.

    rankdir is "LR" (left to right) or "TB" (top to bottom); format is what `render()` and `pipe()` write if they
    are not told: "svg", "png" ...

    Labels are shown as they are, a newline as a line break, control characters as Python escapes.
    """
    if rankdir not in ("LR", "TB"):
        raise ValueError(f'rankdir is "LR" (left to right) or "TB" (top to bottom), got {rankdir!r}.')
    order = nodes_below(root)
    from .render import Drawing  # the graphviz package, which only pictures need

    drawing = Drawing(
        text=tree(root, ascii=False),
        format=format,
        graph_attr=GRAPH | {"rankdir": rankdir},
        node_attr=NODE | INTERIOR,
        edge_attr=EDGE,
    )
    names = {node: f"n{number}" for number, node in enumerate(order)}
    for node in reversed(order):  # from left to right: Graphviz puts on top what it reads first
        box = names[node]
        drawing.node(box, _box(node), **({} if node.rule else LEAF))
        if node.rule:
            operation = f"{box}_op"
            drawing.node(operation, f"<{_html(node.rule.symbol)}>", **OPERATION)
            for parent in node.parents:
                drawing.edge(names[parent], operation)
            drawing.edge(operation, box)
    return drawing


draw_dot = draw  # micrograd's name


def trace(root: Value) -> tuple[set[Value], set[tuple[Value, Value]]]:
    """All nodes below root and all (parent, child) pairs, as in micrograd's notebook.

    A set holds a pair once: `x * x` has two edges in the picture, and one here.
    """
    return set(nodes_below(root)), set(edges(root))


def _box(node: Value) -> str:
    """The HTML-like label of one Value: cells with a rule between them."""
    cells = [f"data {four_digits(node.data)}", f"grad {four_digits(node.grad)}"]
    if node.label:
        cells.insert(0, f'<font color="{ACCENT}">{_html(node.label)}</font>')
    row = "<vr/>".join(f"<td>{cell}</td>" for cell in cells)
    return f'<<table border="0" cellspacing="0" cellpadding="6"><tr>{row}</tr></table>>'


_CELL = str.maketrans({"\\": r"\\", "]": "&#93;"})


def _html(text: str) -> str:
    r"""text as the content of a cell.

    Beyond what HTML asks for: in a cell Graphviz still reads \N as the name of the node, and older ones take a
    lone ] for the end of a CDATA section.
    """
    return "<br/>".join(escape(visible(line)).translate(_CELL) for line in str(text).split("\n"))
