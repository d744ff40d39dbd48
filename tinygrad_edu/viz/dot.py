"""A Picture as DOT: which shape, colour and markup each box and arrow gets."""

from collections.abc import Mapping
from html import escape
from typing import Any

from .colours import ACCENT, CARD, INK, LINE, Heat, Shade
from .picture import Arrow, Box, Kind, Picture
from .render import Drawing
from .words import visible

GRAPH = {"bgcolor": CARD, "pad": "0.2", "nodesep": "0.25", "ranksep": "0.3"}
NODE = {"fontname": "Helvetica", "fontsize": "12", "fontcolor": INK, "margin": "0", "height": "0.1"}
INTERIOR = {"shape": "box", "style": "rounded,filled", "fillcolor": "#ffffff", "color": LINE}
LEAF = {"style": "filled", "fillcolor": "#ffe8b3", "color": "#8a5a00", "penwidth": "1.8"}
KINDS: Mapping[Kind, Mapping[str, str]] = {  # each by its shape and by its colour
    "leaf": LEAF,
    "parameter": {"shape": "note", "style": "filled", "fillcolor": "#d9ead3", "color": "#38761d"},
    "constant": {"shape": "ellipse", "style": "filled", "fillcolor": "#e4e7eb"},
    "interior": {},
    "result": {"peripheries": "2", "fillcolor": "#f6dcd4", "color": ACCENT},
    "group": {
        "shape": "box3d",
        "style": "filled",
        "fillcolor": "#e8e4f3",
        "color": "#5b4b8a",
        "margin": "0.08,0.06",
    },
    "more": {"style": "dashed,filled", "fillcolor": CARD},
}
OPERATION = {"shape": "ellipse", "style": "filled", "fillcolor": "#d6e6f7", "margin": "0.04", "width": "0.5"}
EDGE = {"color": LINE, "arrowsize": "0.6"}
WORDS = {"fontname": "Helvetica", "fontsize": "10", "fontcolor": INK}
MARKED = {"color": ACCENT, "penwidth": "2.6"}
CLUSTER = {
    "style": "rounded",
    "color": "#9aa5b1",
    "bgcolor": "#f2f1ea",
    "labeljust": "l",
    "labelloc": "t",
    "margin": "10",
} | WORDS


def drawing_of(
    picture: Picture,
    text: str,
    *,
    style: str = "value",
    heat: bool = False,
    rankdir: str = "LR",
    format: str = "svg",
) -> Drawing:
    """The Drawing of a Picture; text is what stands for it where no picture can be shown.

    In style "micrograd" each operation is an ellipse of its own, before its result. In an SVG an arrow has the id
    `n7.0`: operand 0 of box n7.
    """
    slopes = any(arrow.slope for arrow in picture.arrows)
    graph = GRAPH | {"rankdir": rankdir} | ({"ranksep": "0.6"} if slopes else {})
    if picture.note:
        graph |= WORDS | {"label": f"<{_html(picture.note)}>", "labelloc": "b", "labeljust": "l"}
    edge = EDGE | (WORDS if slopes or any(arrow.count > 1 for arrow in picture.arrows) else {})
    drawing = Drawing(text=text, format=format, graph_attr=graph, node_attr=NODE | INTERIOR, edge_attr=edge)
    two_shapes = style == "micrograd"
    scale = Heat(box.magnitude for box in picture.boxes) if heat else None
    arrows: dict[str, list[Arrow]] = {}
    for arrow in picture.arrows:
        arrows.setdefault(arrow.head, []).append(arrow)
    scopes = {box.id: box.scope for box in picture.boxes}
    clusters = _Clusters(drawing)
    for box in reversed(picture.boxes):  # from left to right: Graphviz puts on top what it reads first
        place = clusters.of(box.scope)
        split = two_shapes and bool(box.operation) and box.kind not in ("group", "more")
        shade = scale.shade(box.magnitude) if scale and box.magnitude is not None else None
        accent = shade.ink if shade else ACCENT
        place.node(box.id, _table(box, split, two_shapes, accent), **_look(box, two_shapes, shade))
        if split:
            place.node(f"{box.id}_op", f"<{_html(box.operation)}>", **OPERATION)
        for arrow in arrows.get(box.id, ()):
            enters = bool(box.scope) and scopes[arrow.tail] != box.scope
            drawing.edge(arrow.tail, f"{box.id}_op" if split else box.id, **_arrow_look(arrow, enters))
        if split:
            drawing.edge(f"{box.id}_op", box.id)
    clusters.close()
    if scale:
        drawing.node("legend", _legend(scale), shape="plain", style="", **WORDS)
    return drawing


# --- Boxes and arrows ----------------------------------------------------------------------------------------


def _table(box: Box, split: bool, two_shapes: bool, accent: str) -> str:
    """The HTML-like label: name and operation above data and gradient, or in one row as micrograd has it."""
    head = [f'<font color="{accent}">{_html(box.title)}</font>'] if box.title else []
    if box.operation and not split:
        head.append(f"<b>{_html(box.operation)}</b>")
    if box.details:
        numbers = [_html(line) for line in box.details]
    elif box.data:
        numbers = [f"data {_html(box.data)}", f"grad {_html(box.grad)}"]
    else:
        numbers = [] if box.kind == "more" else [f"{box.size:,} nodes"]
        numbers.append(f"grad {_html(box.grad)}" if box.magnitude is None else f"|grad| up to {_html(box.grad)}")
    if two_shapes and box.data:
        row = "<vr/>".join(f"<td>{cell}</td>" for cell in head + numbers)
        return f'<<table border="0" cellspacing="0" cellpadding="6"><tr>{row}</tr></table>>'
    above = "".join(f"<td>{cell}</td>" for cell in head)
    span = f' colspan="{len(head)}"' if len(head) > 1 else ""
    rows = [f"<tr>{above}</tr><hr/>"] if head else []
    rows += [f"<tr><td{span}>{number}</td></tr>" for number in numbers]
    return f'<<table border="0" cellspacing="0" cellpadding="4">{"".join(rows)}</table>>'


def _look(box: Box, two_shapes: bool, shade: Shade | None) -> dict[str, str]:
    look = dict(KINDS[box.kind])
    if two_shapes and box.kind not in ("group", "more"):
        look = {} if box.operation else dict(LEAF)
    if shade:
        look |= {"fillcolor": shade.fill, "fontcolor": shade.ink}
    return look


def _arrow_look(arrow: Arrow, enters: bool) -> dict[str, str]:
    look = {"id": f"{arrow.head}.{arrow.operand}"}
    if enters:  # a module starts to the right of the one before: room for its parameters
        look["minlen"] = "2"
    words = arrow.slope or (f"×{arrow.count:,}" if arrow.count > 1 else "")
    if words:
        look["label"] = f"<{_html(words)}>"
    return look | (MARKED if arrow.marked else {})


def _legend(scale: Heat) -> str:
    rows = ["<tr><td>|gradient|</td></tr>"]
    rows += [
        f'<tr><td bgcolor="{shade.fill}"><font color="{shade.ink}">{shade.meaning}</font></td></tr>'
        for shade in scale.legend()
    ]
    if len(rows) == 1:
        rows.append("<tr><td>no backward pass yet</td></tr>")
    table = f'<table border="0" cellborder="1" cellspacing="0" cellpadding="4" color="{LINE}">'
    return f"<{table}{''.join(rows)}</table>>"


class _Clusters:
    """The nested frames around modules, each opened when its first box comes."""

    def __init__(self, drawing: Drawing):
        self.drawing = drawing
        self.opened: dict[tuple[str, ...], Any] = {(): drawing}

    def of(self, scope: tuple[str, ...]) -> Any:
        """The graph that boxes of this scope belong into."""
        for depth in range(1, len(scope) + 1):
            if scope[:depth] not in self.opened:
                attributes = CLUSTER | {"label": f"<{_html(scope[depth - 1])}>"}
                name = f"cluster_{len(self.opened) - 1}"
                self.opened[scope[:depth]] = Drawing(name=name, graph_attr=attributes)
        return self.opened[scope]

    def close(self) -> None:
        """Puts each frame into the one around it, innermost first."""
        for scope in reversed(self.opened):
            if scope:
                self.opened[scope[:-1]].subgraph(self.opened[scope])


# --- Markup --------------------------------------------------------------------------------------------------

_CELL = str.maketrans({"\\": r"\\", "]": "&#93;"})


def _html(text: str) -> str:
    r"""text as the content of a cell.

    Beyond what HTML asks for: in a cell Graphviz still reads \N as the name of the node, and older ones take a
    lone ] for the end of a CDATA section.
    """
    return "<br/>".join(escape(visible(line)).translate(_CELL) for line in str(text).split("\n"))
