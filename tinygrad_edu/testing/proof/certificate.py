"""What a proof says: pieces of the domain, boxes of floats, and what both rest on."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from typing import Any, ClassVar

from ...engine.rule import Rule
from ...viz.rich import Report
from ...viz.words import columns
from .boxes import LOST, FloatBox, between
from .formula import MEANING, Piece

UP = Context(prec=3, rounding=ROUND_CEILING)


@dataclass
class Certificate(Report):
    """What prove_rule says of one rule: it prints as a table, and is true if nothing is undecided.

    `formula` has the pieces of the domain, `rounding` the boxes of floats (of a rule with one input). `rests_on`
    lists every assumption, `not_examined` what a certified rule may still have wrong.
    """

    _former: ClassVar = dict.fromkeys(
        ("save", "load", "check"), "to_json() is the verdict; prove_rule proves again"
    )

    rule: Rule
    formula: list[Piece]
    rounding: list[FloatBox]
    rests_on: list[str]
    not_examined: list[str]
    ulps: float | None = None

    @property
    def ok(self) -> bool:
        """Is the formula certified all over the domain, and the rounding within the bound that was asked for?"""
        return self.formula_ok and all(map(self._is_good, self.rounding))

    def __bool__(self) -> bool:
        return self.ok

    def _is_good(self, box: FloatBox) -> bool:
        return box.worst <= (self.ulps or LOST)

    @property
    def formula_ok(self) -> bool:
        """Is the slope the derivative all over the domain, but for kinks and ends that are listed?"""
        proven = any(piece.status in ("identity", "bounded") for piece in self.formula)
        return proven and all(piece.status != "undecided" for piece in self.formula)

    @property
    def undecided(self) -> list[str]:
        """The pieces and boxes for which nothing was proven, with the reason."""
        pieces = [f"{piece.where}: {piece.note}" for piece in self.formula if piece.status == "undecided"]
        return pieces + [_reason(run) for good, run in self._runs(self._is_good) if not good]

    @property
    def bounded(self) -> str:
        """The largest interval of floats that has a bound, if not all have one, and the bound; else ""."""
        if all(map(self._is_good, self.rounding)):
            return ""
        for most in (64.0, 4096.0, LOST):
            if runs := [run for good, run in self._runs(lambda box, most=most: box.worst <= most) if good]:  # type: ignore[misc]  # a default in a lambda
                run = max(runs, key=lambda run: between(run[0].low, run[-1].high))
                value, slope = map(_up, _worst(run))
                ends = f"{run[0].low!r} <= x <= {run[-1].high!r}"
                return f"value within {value} ulps and slope within {slope} for {ends}"
        return ""

    def _runs(self, is_good: Callable[[FloatBox], bool]) -> list[tuple[bool, list[FloatBox]]]:
        """Neighbouring boxes that are all good, or all not."""
        runs = list[tuple[bool, list[FloatBox]]]()
        for box in self.rounding:
            good, (*_, last) = runs[-1] if runs else (None, [box])
            if good != is_good(box) or box.low > math.nextafter(last.high, math.inf):
                runs.append((is_good(box), []))
            runs[-1][1].append(box)
        return runs

    def at(self, x: float) -> tuple[float, float]:
        """The bounds of value and slope for one float, as `FloatBox` counts. Raises ValueError for others."""
        for box in self.rounding:
            if box.low <= x <= box.high:
                return box.bounds
        raise ValueError(f"The certificate of {self.rule.name} says nothing of {x!r}.")

    def __repr__(self) -> str:
        worst, undecided = self.worst(), self.undecided
        head = f"{self.rule.name}: {'certified' if self.ok else 'not certified'}"
        if worst and max(worst) < math.inf:
            head += f", value within {worst[0]:.3g} ulps and slope within {worst[1]:.3g}"
        rows = [["where", "formula", *(["value, ulps", "slope, ulps"] if self.rounding else [])]]
        for piece in self.formula:
            text = MEANING[piece.status].format(piece.bound) + f": {piece.note}" * bool(piece.note)
            rows.append([piece.where, text, *(self._ulps_in(piece) if self.rounding else [])])
        lines = [head, *(f"  {line}" for line in columns(rows))]
        lines += ["  undecided", *(f"    {text}" for text in undecided)] if undecided else []
        lines += [f"  bounded: {self.bounded}"] if self.bounded else []
        lines += [f"  not examined: {'; '.join(self.not_examined)}", "  rests on"]
        return "\n".join([*lines, *(f"    {text}" for text in self.rests_on)])

    def to_json(self) -> str:
        """The verdict as JSON, without the boxes."""
        worst = [x if x < math.inf else None for x in self.worst() or ()]
        facts: dict[str, Any] = {"rule": self.rule.name, "ok": self.ok, "undecided": self.undecided}
        facts |= {"bounded": self.bounded, "not_examined": self.not_examined, "rests_on": self.rests_on}
        facts |= zip(("value_ulps", "slope_ulps"), worst, strict=False)
        return json.dumps(facts, indent=1)

    def worst(self) -> tuple[float, float] | None:
        """The largest bounds of value and slope in ulps; None where rounding was not looked at."""
        return _worst(self.rounding) if self.rounding else None

    def _ulps_in(self, piece: Piece) -> list[str]:
        boxes = [box for box in self.rounding if box.piece is piece]
        stars = [any(box.stars[k] for box in boxes) for k in (0, 1)]
        bounds = zip(_worst(boxes) if boxes else (), stars, strict=False)
        return [_up(x) + "*" * (star and x < math.inf) for x, star in bounds] or ["", ""]


def _worst(boxes: list[FloatBox]) -> tuple[float, float]:
    """The largest bounds of value and slope."""
    return max(box.value for box in boxes), max(box.slope for box in boxes)


def _reason(boxes: list[FloatBox]) -> str:
    """Neighbouring boxes without a bound: where they are, and why."""
    reasons = [box.reason for box in boxes if box.reason] or ["no bound on the rounding"]
    shown = next((reason for reason in reasons if " is right at " in reason), reasons[0])
    return f"{boxes[0].low!r} to {boxes[-1].high!r}: {shown}"


def _up(x: float) -> str:
    """A bound with three digits, rounded up."""
    return f"{float(UP.create_decimal(x * (1 - 1e-15))):.3g}"
