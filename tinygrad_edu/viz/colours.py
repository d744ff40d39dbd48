"""Colours, light and dark, of pictures and of the live page; and a scale for the size of gradients.

A picture is an opaque card, legible in a dark notebook too. The scale is ColorBrewer's YlGnBu in seven steps: from
light to dark, also without colour and for the colour-blind.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from .words import size

PALETTE = {  # where the reader's setting is light, and where it is dark
    "paper": ("#fbfaf6", "#14181d"),
    "ink": ("#1f2933", "#eef1f4"),
    "line": ("#52606d", "#b4bfca"),
    "accent": ("#a02c12", "#ffb199"),
    "frame": ("#f2f1ea", "#1a2027"),
    # Boxes by their kind, and by their state in a backward pass:
    "leaf": ("#ffe8b3", "#4d3d0f"),
    "parameter": ("#d9ead3", "#1f4225"),
    "constant": ("#e4e7eb", "#363d46"),
    "interior": ("#ffffff", "#232a33"),
    "result": ("#f6dcd4", "#55281d"),
    "operation": ("#d6e6f7", "#1e3a56"),
    "group": ("#e8e4f3", "#393056"),
    "more": ("#f3f4f6", "#1d232b"),
    "done": ("#cfe3f7", "#1e3a56"),
    "now": ("#ffd866", "#7a5c00"),
}
LIGHT = {name: light for name, (light, _) in PALETTE.items()}
INK, ACCENT, LINE, CARD, WHITE = (LIGHT[name] for name in ("ink", "accent", "line", "paper", "interior"))
SCALE = ("#ffffcc", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#0c2c84")
LIGHT_TEXT_FROM = 5  # on these steps and above text is white
BROKEN = "#f4b6c2"  # nan and inf


def css_variables() -> str:
    """The palette for a page, which follows the reader's setting: `var(--ink)`."""
    colours = "".join(f"--{name}:light-dark({light},{dark});" for name, (light, dark) in PALETTE.items())
    return f":root{{color-scheme:light dark;{colours}}}"


def dark_style(svg: str) -> str:
    """A style element that darkens a picture where the reader's setting is dark; none for a scale of colours."""
    if any(f'"{colour}"' in svg for colour in SCALE):
        return ""
    rules = "".join(
        f'[fill="{light}"]{{fill:{dark}}}[stroke="{light}"]{{stroke:{dark}}}' for light, dark in PALETTE.values()
    )
    return f"<style>@media (prefers-color-scheme: dark){{{rules}}}</style>"


@dataclass(frozen=True, slots=True)
class Shade:
    """A fill, the colour of text on it, and what it means."""

    fill: str
    ink: str
    meaning: str


def shades(magnitudes: Iterable[float | None]) -> dict[float, Shade]:
    """The colours for the sizes of gradients that occur, the largest first; for nan those of infinity.

    The steps of the scale are equal steps of log |gradient|, from the smallest to the largest; 0 and infinity
    stand apart.
    """
    sizes = sorted({size(magnitude) for magnitude in magnitudes if magnitude is not None}, reverse=True)
    logs = {x: math.log10(x) for x in sizes if 0 < x < math.inf}
    low, high = min(logs.values(), default=0.0), max(logs.values(), default=0.0)
    n_steps = len(SCALE) if high - low > 1e-6 else 1

    def shade(x: float) -> Shade:
        if x not in logs:
            return Shade(BROKEN, INK, "inf or nan") if x else Shade(WHITE, INK, "0")
        step = min(int((logs[x] - low) / (high - low) * n_steps), n_steps - 1) if n_steps > 1 else 0
        edges = (min(low + k * (high - low) / n_steps, 308.25) for k in (step, step + 1)[:n_steps])
        meaning = " to ".join(f"{10.0**edge:.2g}" for edge in edges)
        return Shade(SCALE[step], WHITE if step >= LIGHT_TEXT_FROM else INK, meaning)

    return {x: shade(x) for x in sizes}
