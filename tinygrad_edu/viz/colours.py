"""Colours: an opaque light card, legible in a dark notebook too, and a scale for the size of gradients.

The scale is ColorBrewer's YlGnBu in seven steps: from light to dark, also without colour and for the colour-blind.
"""

import math
from bisect import bisect
from collections.abc import Iterable
from dataclasses import dataclass

INK, ACCENT, LINE, CARD, WHITE = "#1f2933", "#a02c12", "#52606d", "#fbfaf6", "#ffffff"
SCALE = ("#ffffcc", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#0c2c84")
LIGHT_TEXT_FROM = 5  # on these steps and above text is white
BROKEN = "#f4b6c2"  # nan and inf
# Of a node in a backward pass, as Graphviz has it.
STATES: dict[str, dict[str, str]] = {
    "": {},
    "done": {"fillcolor": "#cfe3f7"},
    "now": {"fillcolor": "#ffd866", "color": ACCENT, "penwidth": "2.5"},
}

# What becomes of each colour of a picture where the reader's setting is dark.
_DARK = {CARD: "#14181d", WHITE: "#232a33", INK: "#eef1f4", ACCENT: "#ffb199", LINE: "#9aa7b4"}
_DARK |= {"#ffe8b3": "#4d3d0f", "#8a5a00": "#d9a441", "#d9ead3": "#1f4225", "#38761d": "#7fc46b"}  # leaves
_DARK |= {"#e4e7eb": "#363d46", "#f6dcd4": "#55281d", "#d6e6f7": "#1e3a56"}  # constants, results, operations
_DARK |= {"#e8e4f3": "#393056", "#5b4b8a": "#b3a5e0", "#f2f1ea": "#1a2027", "#9aa5b1": "#5c6873"}  # groups
_DARK |= {"#cfe3f7": "#1e3a56", "#ffd866": "#7a5c00"}  # steps that are done, and the current one


def dark_style(svg: str) -> str:
    """A style element that darkens a picture where the reader's setting is dark; none for a scale of colours."""
    if any(f'"{colour}"' in svg for colour in SCALE):
        return ""
    rules = "".join(
        f'[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}' for light, dark in _DARK.items()
    )
    return f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"


@dataclass(frozen=True, slots=True)
class Shade:
    """A fill, the colour of text on it, and what it means."""

    fill: str
    ink: str
    meaning: str


class Heat:
    """Equal steps of log |gradient|, from the smallest to the largest that occurs; 0, inf and nan stand apart."""

    def __init__(self, magnitudes: Iterable[float | None]):
        self.occurring: set[float] = {m for m in magnitudes if m is not None}
        logs = [math.log10(m) for m in self.occurring if 0 < m < math.inf]
        low, high = min(logs, default=0.0), max(logs, default=0.0)
        steps = len(SCALE) if high - low > 1e-6 else bool(logs)
        edges = (low + k * (high - low) / steps for k in range(steps + 1)) if steps else ()
        self.edges: list[float] = [10.0**log if log < 308.25 else 1.7e308 for log in edges]  # of the steps

    def shade(self, magnitude: float) -> Shade:
        """The colours for a box whose gradient has this magnitude."""
        if magnitude == 0:
            return Shade(WHITE, INK, "0")
        if not magnitude < math.inf:
            return Shade(BROKEN, INK, "inf or nan")
        return self._step(max(0, min(bisect(self.edges, magnitude), len(self.edges) - 1) - 1))

    def legend(self) -> list[Shade]:
        """What occurs, from the largest to 0."""
        broken = [self.shade(math.inf)] * any(not m < math.inf for m in self.occurring)
        steps = [self._step(step) for step in reversed(range(len(self.edges) - 1))]
        return broken + steps + [self.shade(0.0)] * (0 in self.occurring)

    def _step(self, step: int) -> Shade:
        low, high = (f"{edge:.2g}" for edge in self.edges[step : step + 2])
        meaning = low if len(self.edges) == 2 else f"{low} to {high}"
        return Shade(SCALE[step], WHITE if step >= LIGHT_TEXT_FROM else INK, meaning)
