"""A Picture as an SVG of our own, for where Graphviz cannot run, as in a browser."""

from collections import defaultdict
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from .colours import ACCENT, CARD, INK, LINE, STATES, WHITE, Heat, dark_style
from .picture import Arrow, Box, Picture
from .words import clipped

FILLS = {"leaf": "#ffe8b3", "parameter": "#d9ead3", "constant": "#e4e7eb", "result": "#f6dcd4", "group": "#e8e4f3"}
LETTER, ROW, GAP, BETWEEN = 7, 16, 14, 44  # pixels: of text, between two boxes of a rank, and between two ranks


class PlainDrawing:
    """What `draw` returns without Graphviz. A notebook shows it; `pipe()` and `render(filename)` give its SVG."""

    def __init__(self, picture: Picture, text: str, rankdir: str, heat: bool):
        self.text: str = text
        self.picture: Picture = picture
        self.heat: bool = heat
        self.attr(rankdir=rankdir)

    def attr(self, rankdir: str = "LR", **others: Any) -> None:
        """The attributes of a graph as Graphviz has them; of these only rankdir means something here."""
        self.svg: str = plain_svg(self.picture, self.text, rankdir, self.heat)

    def __repr__(self) -> str:
        return f"{self.text}\n(A notebook shows the picture; .render('graph') writes it as SVG.)"

    def pipe(self, format: str = "svg", encoding: str | None = None) -> Any:
        """The SVG as bytes, or as text with an encoding. Raises ValueError for another format."""
        if format != "svg":
            raise ValueError(f"Without Graphviz a picture is an SVG, not {format!r}: leave out the format.")
        return self.svg if encoding else self.svg.encode()

    def render(self, filename: str = "graph", format: str = "svg") -> str:
        """Write the SVG and return its path. Raises ValueError for another format, OSError."""
        path = Path(f"{filename}.{format}")
        path.write_bytes(self.pipe(format))
        return str(path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.text, "image/svg+xml": self.svg}


def _lines(box: Box) -> list[str]:
    head = " ".join(filter(None, [box.title, box.operation]))
    numbers = [f"data {box.data}" * bool(box.data), f"grad {box.grad}"]
    return [clipped(line, 40) for line in [head, *(box.details or numbers)] if line]


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


def plain_svg(picture: Picture, text: str, rankdir: str, heat: bool) -> str:
    """The SVG of a Picture. Its boxes and arrows are groups of the classes that Graphviz writes.

    Ranks lie along the picture, boxes across it: from left to right, or down.
    """
    down = rankdir == "TB"
    ranks, chains = _ranks(picture)
    sizes = {
        box.id: (LETTER * max(map(len, _lines(box))) + 16, ROW * len(_lines(box)) + 8) for box in picture.boxes
    }
    places: dict[str, tuple[float, ...]] = {}  # along and across, where it starts; then how long and wide it is
    spans = [sum(sizes.get(name, (0, 0))[not down] + GAP for name in names) for names in ranks]
    start = 8.0
    for names, span in zip(ranks, spans, strict=True):
        thick, across = max(sizes.get(name, (0, 0))[down] for name in names), 8 + (max(spans) - span) / 2
        for name in names:
            long, wide = (sizes[name][down], sizes[name][not down]) if name in sizes else (thick, 0)
            places[name] = (start + (thick - long) / 2, across, long, wide)
            across += wide + GAP
        start += thick + BETWEEN

    def point(along: float, across: float) -> str:
        return f"{across:g} {along:g}" if down else f"{along:g} {across:g}"

    def line(arrow: Arrow, chain: list[str]) -> str:
        path, label = "", ""
        for one, other in pairwise(chain):
            (a, b, long, wide), (c, d, _, other_wide) = places[one], places[other]
            first, last, end = one == chain[0], other == chain[-1], d + other_wide / 2
            end += (8 * arrow.operand - 4) * last  # x * x has two arrows
            begin, at, c = (a + long, b + wide / 2, c - 5 * last)
            path += (
                f"{'ML'[not first]}{point(begin, at)}C{point(begin + 22, at)} {point(c - 22, end)} {point(c, end)}"
            )
            if last:
                path += f"M{point(c - 2, end - 3)}L{point(c + 5, end)}L{point(c - 2, end + 3)}"
            if last and arrow.slope:
                x, y = point((begin + c) / 2, (at + end) / 2).split()
                look = f'x="{x}" y="{y}" fill="{INK}" text-anchor="middle" font-size="10"'
                label = f"<text {look}>{escape(arrow.slope)}</text>"
        look = f'stroke="{ACCENT}" stroke-width="2.6"' if arrow.marked else f'stroke="{LINE}"'
        id = f'id="{arrow.head}.{arrow.operand}" class="edge"'
        return f'<g {id}><path d="{path}" fill="none" {look}/>{label}</g>'

    parts = [line(arrow, chain) for arrow, chain in zip(picture.arrows, chains, strict=True)]
    scale = Heat(box.magnitude for box in picture.boxes) if heat else None
    for box in picture.boxes:
        x, y = point(*places[box.id][:2]).split()
        width, height = sizes[box.id]
        shade = scale.shade(box.magnitude) if scale and box.magnitude is not None else None
        fill = STATES[box.state].get("fillcolor", FILLS.get(box.kind, WHITE))
        fill, ink = (shade.fill, shade.ink) if shade else (fill, INK)
        edge, thick, round = (ACCENT, 2, 6) if box.kind == "result" else (LINE, 1, 0 if box.kind == "leaf" else 6)
        shape = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{round}"'
        parts.append(f'<g class="node"><title>{box.id}</title>{shape} fill="{fill}" stroke="{edge}"')
        parts.append(f'stroke-width="{thick}"/>')
        for i, words in enumerate(_lines(box), start=1):
            at = f'x="{float(x) + width / 2:g}" y="{float(y) + ROW * i:g}"'
            parts.append(f'<text {at} fill="{ink}" text-anchor="middle">{escape(words)}</text>')
        parts.append("</g>")
    right, bottom = map(float, point(start - BETWEEN + 8, max(spans) + 16).split())
    if picture.note:
        parts.append(f'<text x="8" y="{bottom + 12:g}" fill="{INK}">{escape(picture.note)}</text>')
        bottom += 20
    body, first = "\n".join(parts), text.splitlines()[0]
    return (
        f'<svg role="img" xmlns="http://www.w3.org/2000/svg" width="{right:g}" height="{bottom:g}" '
        f'viewBox="0 0 {right:g} {bottom:g}" font-family="Helvetica, sans-serif" font-size="12">\n'
        f"<title>{escape(clipped(first, 200))}</title>\n<desc>{escape(clipped(text, 2000))}</desc>\n"
        f'{dark_style(body)}<rect width="100%" height="100%" fill="{CARD}"/>\n{body}\n</svg>\n'
    )
