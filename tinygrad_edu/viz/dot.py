"""A Picture as DOT: which shape, colour and markup each box and arrow gets."""

import re
from collections.abc import Iterable, Mapping
from html import escape
from itertools import pairwise

from .colours import ACCENT, CARD, INK, LIGHT, LINE, Shade, shades
from .picture import GROUPS, Arrow, Box, Kind, Picture, Scope
from .plain import PlainDrawing
from .render import Drawing, escaped
from .words import clipped, size, stem, visible

GRAPH = {"bgcolor": CARD, "pad": "0.2", "nodesep": "0.25", "ranksep": "0.3"}
NODE = {"fontname": "Helvetica", "fontsize": "12", "fontcolor": INK, "margin": "0", "height": "0.1", "color": LINE}
NODE |= {"shape": "box", "style": "rounded,filled"}
SHAPES: Mapping[Kind, Mapping[str, str]] = {
    "leaf": {"style": "filled", "penwidth": "1.8"},
    "parameter": {"shape": "note", "style": "filled"},
    "constant": {"shape": "ellipse", "style": "filled"},
    "interior": {},
    "result": {"peripheries": "2", "color": ACCENT},
    "operation": {"shape": "ellipse", "width": "0.5"},
    "group": {"shape": "box3d", "style": "filled", "margin": "0.08,0.06"},
    "more": {"style": "dashed,filled"},
}
EDGE = {"color": LINE, "arrowsize": "0.6"}
WORDS = {"fontname": "Helvetica", "fontsize": "10", "fontcolor": INK}
MARKED = {"color": ACCENT, "penwidth": "2.6"}
DRAWN = 200  # characters of a label in its box
TOLD = 3_000  # and in the box's tooltip: Graphviz before version 3 reads no word of 16,384 bytes, and & takes five
CLUSTER = WORDS | {"style": "rounded", "color": LINE, "bgcolor": LIGHT["frame"], "margin": "10"}
CLUSTER |= {"labeljust": "l", "labelloc": "t"}


def drawing_of(
    picture: Picture, text: str, *, heat: bool = False, rankdir: str = "LR", format: str = "svg"
) -> Drawing:
    """The Drawing of a Picture; text is what stands for it where no picture can be shown.

    In an SVG an arrow has the id `n7.0`: operand 0 of box n7.
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
    plain = PlainDrawing(picture, text, rankdir, heat)
    drawing = Drawing(plain=plain, format=format, graph_attr=graph, node_attr=NODE, edge_attr=edge)
    scale = shades(box.magnitude for box in picture.boxes if heat)
    by_id = {box.id: box for box in picture.boxes}
    frames: dict[Scope, Drawing] = {(): drawing}
    for box in reversed(picture.boxes):  # from left to right: Graphviz puts on top what it reads first
        shade = scale.get(size(box.magnitude)) if scale and box.magnitude is not None else None
        _frame(frames, box.scope).node(box.id, _html_label(box, shade), **_look(box, shade))
        for arrow in arrows.get(box.id, ()):
            tail = by_id[arrow.tail]
            enters = bool(box.scope) and tail.scope != box.scope and not {box.kind, tail.kind} & GROUPS
            drawing.edge(arrow.tail, arrow.head, **_arrow_look(arrow, enters))
    for row in rows:
        _frame(frames, row[0].scope).subgraph(_chain(row, rankdir))
    for scope in [*frames][:0:-1]:  # into the one around it, innermost first
        frames[scope[:-1]].subgraph(frames[scope])
    if heat:
        drawing.node("legend", _legend(dict.fromkeys(scale.values())), shape="plain", style="", **WORDS)
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
    ordered = [sorted(row, key=lambda box: list(map(int, re.findall(r"\d+", box.title)))) for row in rows.values()]
    return [row for row in ordered if len(row) > 1]


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


def _html_label(box: Box, shade: Shade | None) -> str:
    """The HTML-like label: name and operation above data and gradient."""
    head = [f'<font color="{shade.ink if shade else ACCENT}">{_drawn(box.title)}</font>'] if box.title else []
    head += [f"<b>{_drawn(box.operation)}</b>"] if box.operation else []
    above = "".join(f"<td>{cell}</td>" for cell in head)
    rows = [f"<tr>{above}</tr>{'<hr/>' * bool(box.lines)}"] if head else []
    span = f' colspan="{len(head)}"' if len(head) > 1 else ""
    rows += [f"<tr><td{span}>{_drawn(line)}</td></tr>" for line in box.lines]
    return f'<<table border="0" cellspacing="0" cellpadding="4">{"".join(rows)}</table>>'


def _look(box: Box, shade: Shade | None) -> dict[str, str]:
    look = {**SHAPES[box.kind], "fillcolor": LIGHT[box.state or box.kind]}
    if box.state == "now":
        look |= {"color": ACCENT, "penwidth": "2.5"}
    if shade:
        look |= {"fillcolor": shade.fill, "fontcolor": shade.ink}
    if max(map(len, [box.title, box.operation, *box.lines])) > DRAWN:
        words = " ".join([box.title, box.operation, *box.details]).strip()
        look["tooltip"] = escaped(clipped(visible(words), TOLD))
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


def _legend(scale: Iterable[Shade]) -> str:
    rows = [
        f'<tr><td bgcolor="{shade.fill}"><font color="{shade.ink}">{shade.meaning}</font></td></tr>'
        for shade in scale
    ]
    rows = ["<tr><td>|gradient|</td></tr>", *(rows or ["<tr><td>no backward pass yet</td></tr>"])]
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
