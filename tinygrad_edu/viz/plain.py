"""A Picture as an SVG of our own, for where Graphviz cannot run, as in a browser."""

from collections import defaultdict
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from .colours import ACCENT, CARD, INK, LIGHT, LINE, Shade, dark_style, shades
from .picture import Arrow, Box, Picture
from .words import clipped, size

LETTER, ROW, GAP, BETWEEN = 7, 16, 14, 44  # pixels: of text, between two boxes of a rank, and between two ranks
MARGIN = 8


class PlainDrawing:
    """What `draw` returns without Graphviz. A notebook shows it; `pipe()` and `render(filename)` give its SVG."""

    def __init__(self, picture: Picture, text: str, rankdir: str = "LR", heat: bool = False):
        self.picture: Picture = picture
        self.text: str = text
        self.rankdir: str = rankdir
        self.heat: bool = heat

    def attr(self, rankdir: str | None = None, **others: Any) -> None:
        """The attributes of a graph as Graphviz has them; of these only rankdir means something here."""
        self.rankdir = rankdir or self.rankdir

    def __repr__(self) -> str:
        return f"{self.text}\n(A notebook shows the picture; .render('graph') writes it as SVG.)"

    def pipe(self, format: str = "svg", encoding: str | None = None) -> Any:
        """The SVG as bytes, or as text with an encoding. Raises ValueError for another format."""
        if format != "svg":
            raise ValueError(f"Without Graphviz a picture is an SVG, not {format!r}: leave out the format.")
        svg = plain_svg(self.picture, self.text, self.rankdir, self.heat)
        return svg if encoding else svg.encode()

    def render(self, filename: str = "graph", format: str = "svg") -> str:
        """Write the SVG and return its path. Raises ValueError for another format, OSError."""
        path = Path(f"{filename}.{format}")
        path.write_bytes(self.pipe(format))
        return str(path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.text, "image/svg+xml": self.pipe(encoding="utf-8")}


def plain_svg(picture: Picture, text: str, rankdir: str, heat: bool) -> str:
    """The SVG of a Picture. Its boxes and arrows are groups of the classes that Graphviz writes."""
    turn = 1 if rankdir == "TB" else -1  # x, y is across, along; or the other way round
    lines = {box.id: _box_lines(box) for box in picture.boxes}
    sizes = {id: (LETTER * max(map(len, some)) + 16, ROW * len(some) + 8) for id, some in lines.items()}
    turned = {id: size[::turn] for id, size in sizes.items()}  # across and along
    ranks, chains = _ranks(picture)
    places: dict[str, tuple[float, float, float]] = {}  # the middle, across and along, and half the length
    spans = [sum(turned.get(name, (0, 0))[0] + GAP for name in names) for names in ranks]
    start = float(MARGIN)
    for names, span in zip(ranks, spans, strict=True):
        thick = max(turned[name][1] for name in names if name in turned)
        across = MARGIN + (max(spans) - span) / 2
        for name in names:
            wide, long = turned.get(name, (0, thick))
            places[name] = (across + wide / 2, start + thick / 2, long / 2)
            across += wide + GAP
        start += thick + BETWEEN
    parts = []
    for arrow, chain in zip(picture.arrows, chains, strict=True):
        parts.append(_arrow(arrow, [places[name] for name in chain], turn))
    scale = shades(box.magnitude for box in picture.boxes if heat)
    for box in picture.boxes:
        shade = scale.get(size(box.magnitude)) if scale and box.magnitude is not None else None
        parts.append(_box(box, lines[box.id], places[box.id][:2][::turn], sizes[box.id], shade))
    width, height = (max(spans) + 2 * MARGIN, start - BETWEEN + MARGIN)[::turn]
    for line in picture.note.splitlines():
        parts.append(f'<text x="{MARGIN}" y="{height + 12:g}" fill="{INK}">{escape(line)}</text>')
        width, height = max(width, LETTER * len(line)), height + 20
    body, first = "\n".join(parts), text.splitlines()[0]
    return (
        f'<svg role="img" xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" font-family="Helvetica, sans-serif" font-size="12">\n'
        f"<title>{escape(clipped(first, 200))}</title>\n<desc>{escape(clipped(text, 2000))}</desc>\n"
        f'{dark_style(body)}<rect width="100%" height="100%" fill="{CARD}"/>\n{body}\n</svg>\n'
    )


def _box_lines(box: Box) -> list[str]:
    head = " ".join(filter(None, [box.title, box.operation]))
    return [clipped(line, 40) for line in (head, *box.lines) if line]


def _ranks(picture: Picture) -> tuple[list[list[str]], list[list[str]]]:
    """The boxes by their distance from the inputs, and each arrow as its places in all ranks between."""
    rank, users = dict.fromkeys((box.id for box in picture.boxes), 0), defaultdict[str, list[str]](list)
    for arrow in picture.arrows:
        users[arrow.tail].append(arrow.head)
    for box in picture.boxes:  # operands first
        for head in users[box.id]:
            rank[head] = max(rank[head], rank[box.id] + 1)
    for box in picture.boxes:
        if rank[box.id] == 0 and users[box.id]:  # an input stands just before its first use
            rank[box.id] = min(rank[head] for head in users[box.id]) - 1
    ranks: list[list[str]] = [[] for _ in range(max(rank.values()) + 1)]
    for name, place in rank.items():
        ranks[place].append(name)
    chains, joined = [], defaultdict[str, list[str]](list)
    for i, arrow in enumerate(picture.arrows):
        between = {place: f"arrow {i}, {place}" for place in range(rank[arrow.tail] + 1, rank[arrow.head])}
        for place, name in between.items():
            ranks[place].append(name)
        chains.append([arrow.tail, *between.values(), arrow.head])
        for one, other in pairwise(chains[-1]):
            joined[one].append(other)
            joined[other].append(one)
    for names, others in [*pairwise(ranks[::-1]), *pairwise(ranks)]:  # each beside what it is joined with
        at = {name: float(i) for i, name in enumerate(names)}
        middle = {name: [at[x] for x in joined[name] if x in at] or [len(at) / 2] for name in others}
        others.sort(key=lambda name, middle=middle: sum(middle[name]) / len(middle[name]))  # type: ignore[misc]  # a default in a lambda
    return ranks, chains


def _arrow(arrow: Arrow, chain: list[tuple[float, float, float]], turn: int) -> str:
    """A curve through these places: where each is across and along, and half its length."""

    def point(across: float, along: float) -> str:
        return " ".join(f"{x:g}" for x in (across, along)[::turn])

    shift = 8 * arrow.operand - 4  # x * x has two arrows
    (*passed, (across, along, long)) = chain
    path, label, places = "", "", [*passed, (across + shift, along - 5, long)]
    for (x, a, long), (y, b, other) in pairwise(places):
        begin, end = a + long, b - other
        path += (
            f"{'' if path else f'M{point(x, begin)}'}C{point(x, begin + 22)} {point(y, end - 22)} {point(y, end)}"
        )
    path += f"M{point(y - 3, end - 2)}L{point(y, end + 5)}L{point(y + 3, end - 2)}"
    if arrow.slope:
        at = point((x + y) / 2, (begin + end) / 2).split()
        look = f'x="{at[0]}" y="{at[1]}" fill="{INK}" text-anchor="middle" font-size="10"'
        label = f"<text {look}>{escape(arrow.slope)}</text>"
    look = f'stroke="{ACCENT}" stroke-width="2.6"' if arrow.marked else f'stroke="{LINE}"'
    id = f'id="{arrow.head}.{arrow.operand}" class="edge"'
    return f'<g {id}><path d="{path}" fill="none" {look}/>{label}</g>'


def _box(box: Box, lines: list[str], middle: tuple[float, ...], size: tuple[int, int], shade: Shade | None) -> str:
    x, y = (at - side / 2 for at, side in zip(middle, size, strict=True))
    fill, ink = (shade.fill, shade.ink) if shade else (LIGHT[box.state or box.kind], INK)
    edge, thick = (ACCENT, 2) if box.kind == "result" or box.state == "now" else (LINE, 1)
    round = {"leaf": 0, "operation": 12, "constant": 12}.get(box.kind, 6)
    shape = f'x="{x:g}" y="{y:g}" width="{size[0]}" height="{size[1]}" rx="{round}"'
    look = f'fill="{fill}" stroke="{edge}" stroke-width="{thick}"'
    texts = [
        f'<text x="{middle[0]:g}" y="{y + ROW * i:g}" fill="{ink}" text-anchor="middle">{escape(words)}</text>'
        for i, words in enumerate(lines, start=1)
    ]
    return f'<g class="node"><title>{box.id}</title><rect {shape} {look}/>{"".join(texts)}</g>'
