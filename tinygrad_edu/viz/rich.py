"""Reports as HTML for a notebook, from the lines of their text."""

import re
from collections.abc import Sequence
from html import escape

from ..engine.former import Former

CELL = 'style="text-align:left;white-space:pre-wrap"'


class Report(Former):
    """A report whose text is its `repr`: a title, tables of columns two spaces apart, and sentences."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        title, *lines = repr(self).splitlines()
        parts, rows = [f"<p><strong>{escape(title)}</strong></p>"], list[list[str]]()
        for line in [*lines, ""]:
            cells = re.split(r" {2,}", line.strip())
            if len(cells) > 1:
                rows.append(cells)
                continue
            parts += [_table(rows)] * bool(rows)
            parts += [f"<p>{escape(line.strip())}</p>"] * bool(line.strip())
            rows = []
        return f"<div>{''.join(parts)}</div>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = []
    for number, row in enumerate(rows):
        tag = "th" if number == 0 and len(rows) > 1 else "td"
        lines.append("".join(f"<{tag} {CELL}>{escape(cell)}</{tag}>" for cell in row))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"
