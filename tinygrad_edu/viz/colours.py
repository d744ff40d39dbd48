"""Colours: an opaque light card, legible in a dark notebook too, and a scale for the size of gradients.

The scale is ColorBrewer's YlGnBu in seven steps: from light to dark, also without colour and for the colour-blind.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

INK, ACCENT, LINE, CARD, WHITE = "#1f2933", "#a02c12", "#52606d", "#fbfaf6", "#ffffff"
SCALE = ("#ffffcc", "#c7e9b4", "#7fcdbb", "#41b6c4", "#1d91c0", "#225ea8", "#0c2c84")
LIGHT_TEXT_FROM = 5  # on these steps and above text is white
BROKEN = "#f4b6c2"  # nan and inf


@dataclass(frozen=True, slots=True)
class Shade:
    """A fill, the colour of text on it, and what it means."""

    fill: str
    ink: str
    meaning: str


class Heat:
    """Equal steps of log |gradient|, from the smallest to the largest that occurs; 0, inf and nan stand apart."""

    def __init__(self, magnitudes: Iterable[float | None]):
        self.occurring = {m for m in magnitudes if m is not None}
        logs = [math.log10(m) for m in self.occurring if 0 < m < math.inf]
        self.low, self.high = (min(logs), max(logs)) if logs else (0.0, 0.0)
        self.steps = len(SCALE) if self.high - self.low > 1e-6 else 1 if logs else 0

    def shade(self, magnitude: float) -> Shade:
        """The colours for a box whose gradient has this magnitude."""
        if magnitude == 0:
            return Shade(WHITE, INK, "0")
        if not magnitude < math.inf:
            return Shade(BROKEN, INK, "inf or nan")
        if self.steps == 1:
            return self._step(0)
        part = (math.log10(magnitude) - self.low) / (self.high - self.low)
        return self._step(min(int(part * self.steps), self.steps - 1))

    def legend(self) -> list[Shade]:
        """What occurs, from the largest to 0."""
        shades = [self._step(step) for step in reversed(range(self.steps))]
        odd = [
            self.shade(m)
            for m in (math.inf, 0.0)
            if any(self.shade(x).meaning == self.shade(m).meaning for x in self.occurring)
        ]
        broken = [shade for shade in odd if shade.fill == BROKEN]
        return broken + shades + [shade for shade in odd if shade.fill == WHITE]

    def _step(self, step: int) -> Shade:
        width = (self.high - self.low) / max(self.steps, 1)
        low, high = (f"{_power(self.low + k * width):.2g}" for k in (step, step + 1))
        meaning = low if self.steps == 1 else f"{low} to {high}"
        return Shade(SCALE[step], WHITE if step >= LIGHT_TEXT_FROM else INK, meaning)


def _power(log: float) -> float:
    return 10.0**log if log < 308.25 else 1.7e308
