"""A Picture as DOT: which shape, colour and markup each box and arrow gets."""

import re
from collections.abc import Mapping
from functools import partial
from html import escape
from itertools import pairwise

from .colours import ACCENT, CARD, INK, LINE, STATES, Heat, Shade
from .picture import GROUPS, Arrow, Box, Kind, Picture, Scope
from .plain import plain_svg
from .render import Drawing, escaped
from .words import clipped, stem, visible

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
DRAWN = 200  # characters of a label in its box
TOLD = 3_000  # and in the box's tooltip: Graphviz before version 3 reads no word of 16,384 bytes, and & takes five
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
    arrows: dict[str, list[Arrow]] = {}
    for arrow in picture.arrows:
        arrows.setdefault(arrow.head, []).append(arrow)
    rows = _rows(picture, arrows)
    graph = GRAPH | {"rankdir": rankdir} | ({"ranksep": "0.6"} if slopes else {})
    edge = EDGE | (WORDS if slopes or any(arrow.count > 1 for arrow in picture.arrows) else {})
    if rows:  # every box of a row may be joined with every box of the next: the arrows need room
        graph |= {"ranksep": f"{0.5 + 0.1 * max(map(len, rows)):.2g}", "remincross": "false"}
        edge |= {"tailport": "e", "headport": "w"} if rankdir == "LR" else {"tailport": "s", "headport": "n"}
    if picture.note:
        graph |= WORDS | {"label": f"<{_html(picture.note)}>", "labelloc": "b", "labeljust": "l"}
    plain = partial(plain_svg, picture, text, rankdir, heat)
    looks = {"graph_attr": graph, "node_attr": NODE | INTERIOR, "edge_attr": edge}
    drawing = Drawing(text=text, plain=plain, format=format, **looks)
    two_shapes = style == "micrograd"
    scale = Heat(box.magnitude for box in picture.boxes) if heat else None
    by_id = {box.id: box for box in picture.boxes}
    frames: dict[Scope, Drawing] = {(): drawing}
    for box in reversed(picture.boxes):  # from left to right: Graphviz puts on top what it reads first
        place = _frame(frames, box.scope)
        split = two_shapes and bool(box.operation) and box.kind not in GROUPS
        shade = scale.shade(box.magnitude) if scale and box.magnitude is not None else None
        accent = shade.ink if shade else ACCENT
        place.node(box.id, _table(box, split, two_shapes, accent), **_look(box, two_shapes, shade))
        if split:
            place.node(f"{box.id}_op", f"<{_drawn(box.operation)}>", **OPERATION)
        for arrow in arrows.get(box.id, ()):
            tail = by_id[arrow.tail]
            enters = bool(box.scope) and tail.scope != box.scope and not {box.kind, tail.kind} & GROUPS
            drawing.edge(arrow.tail, f"{box.id}_op" if split else box.id, **_arrow_look(arrow, enters))
        if split:
            drawing.edge(f"{box.id}_op", box.id)
    for row in rows:
        _frame(frames, row[0].scope).subgraph(_chain(row, rankdir))
    for scope in [*frames][:0:-1]:  # into the one around it, innermost first
        frames[scope[:-1]].subgraph(frames[scope])
    if scale:
        drawing.node("legend", _legend(scale), shape="plain", style="", **WORDS)
    return drawing


def _rows(picture: Picture, arrows: Mapping[str, list[Arrow]]) -> list[list[Box]]:
    """Modules of one kind that stand side by side in a frame, in order of their numbers, and the inputs likewise.

    Graphviz finds every order of them as good as any other, since each is joined with the same boxes.
    """
    depth: dict[str, int] = {}
    rows: dict[tuple[object, ...], list[Box]] = {}
    for box in picture.boxes:
        depth[box.id] = max((depth.get(arrow.tail, 0) + 1 for arrow in arrows.get(box.id, ())), default=0)
        if (box.kind == "group" and box.scope) or (box.kind == "leaf" and box.title):
            rows.setdefault((box.kind, box.scope, stem(box.title), depth[box.id]), []).append(box)
    if not any(len(row) > 1 and row[0].scope for row in rows.values()):
        return []
    return [sorted(row, key=_number) for row in rows.values() if len(row) > 1]


def _number(box: Box) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", box.title)]


def _chain(row: list[Box], rankdir: str) -> Drawing:
    """Invisible arrows that keep a row in order.

    From left to right, Graphviz lays them downwards, but upwards within a frame. Its second pass (`remincross`)
    takes the frames away and would turn them around.
    """
    upwards = rankdir == "LR" and row[0].scope
    chain = Drawing(graph_attr={"rank": "same"}, edge_attr={"style": "invis"})
    chain.edges(pairwise(box.id for box in (reversed(row) if upwards else row)))
    return chain


# --- Boxes and arrows ----------------------------------------------------------------------------------------


def _table(box: Box, split: bool, two_shapes: bool, accent: str) -> str:
    """The HTML-like label: name and operation above data and gradient, or in one row as micrograd has it."""
    head = [f'<font color="{accent}">{_drawn(box.title)}</font>'] if box.title else []
    if box.operation and not split:
        head.append(f"<b>{_drawn(box.operation)}</b>")
    if box.details:
        numbers = [_drawn(line) for line in box.details]
    elif box.data:
        numbers = [f"data {_html(box.data)}", f"grad {_html(box.grad)}"]
    else:
        head += [] if box.kind == "more" else [f"{box.size:,} nodes"]
        numbers = [f"grad {_html(box.grad)}" if box.magnitude is None else f"|grad| up to {_html(box.grad)}"]
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
    if two_shapes and box.kind not in GROUPS:
        look = {} if box.operation else dict(LEAF)
    look |= STATES[box.state]
    if shade:
        look |= {"fillcolor": shade.fill, "fontcolor": shade.ink}
    if max(len(box.title), len(box.operation)) > DRAWN:
        look["tooltip"] = escaped(clipped(visible(f"{box.title} {box.operation}".strip()), TOLD))
    return look


def _arrow_look(arrow: Arrow, enters: bool) -> dict[str, str]:
    look = {"id": f"{arrow.head}.{arrow.operand}"}
    if enters:  # a module starts to the right of the one before: room for its parameters
        look["minlen"] = "2"
    if arrow.slope:
        look["label"] = f"<{_html(arrow.slope)}>"
    elif arrow.count > 1:  # beside the arrow: a label proper would lie in a column of its own
        look["xlabel"] = f"<×{arrow.count:,}>"
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


def _frame(frames: dict[Scope, Drawing], scope: Scope) -> Drawing:
    """The graph that boxes of this scope belong into: a module's frame is opened when its first box comes."""
    if scope not in frames:
        _frame(frames, scope[:-1])
        attributes = CLUSTER | {"label": f"<{_drawn(scope[-1])}>"}
        frames[scope] = Drawing(name=f"cluster_{len(frames) - 1}", graph_attr=attributes)
    return frames[scope]


# --- Markup --------------------------------------------------------------------------------------------------


def _drawn(text: str) -> str:
    """text as the content of a cell, clipped: Graphviz before version 3 reads no cell of 16,384 characters."""
    return _html(clipped(text, DRAWN))


_CELL = str.maketrans({"\\": r"\\", "]": "&#93;"})


def _html(text: str) -> str:
    r"""text as the content of a cell.

    Beyond what HTML asks for: in a cell Graphviz still reads \N as the name of the node, and older ones take a
    lone ] for the end of a CDATA section.
    """
    return "<br/>".join(escape(visible(line)).translate(_CELL) for line in str(text).split("\n"))
