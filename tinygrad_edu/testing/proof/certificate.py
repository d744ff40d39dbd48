"""A certificate: what was proven of a rule, where, and what the proof rests on."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ...engine.rule import RULES, Rule
from ...viz.plots import empty_figure
from ...viz.words import columns
from .boxes import Box, Truth, bound, float_pieces
from .cells import Cell
from .formula import Formulas, Piece, is_outside, pieces_of

LIMIT = 16.0  # ulps: beyond it, a bound relative to rounding the input tells more
FORMAT = 2
MEANING = {
    "identity": "slope = derivative, exactly",
    "bounded": "|slope - derivative| is bounded",
    "kink": "kink",
    "end": "no finite derivative",
    "undecided": "undecided",
}


@dataclass
class Certificate:
    """What prove_rule found for one rule: it prints as a table, plots, and saves as JSON to be checked again.

    `formula` has the pieces of the domain, `rounding` the boxes of floats (of a rule with one input). `rests_on`
    lists every assumption. `ok` is true if nothing is undecided, in the formula or in the rounding.
    """

    rule: Rule
    formula: list[Piece]
    rounding: list[Box]
    rests_on: list[str]
    ulps: float | None = None
    start: list[Any] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Is the formula certified all over the domain, and the rounding, where it was asked for?"""
        limit = math.inf if self.ulps is None else self.ulps
        rounding = all(max(_best(box)) <= limit and max(_best(box)) < math.inf for box in self.rounding)
        return self.formula_ok and rounding

    @property
    def formula_ok(self) -> bool:
        """Is the slope the derivative all over the domain, but for kinks and ends that are listed?"""
        return all(piece.status != "undecided" for piece in self.formula)

    @property
    def undecided(self) -> list[str]:
        """The pieces and boxes for which nothing was found, with the reason."""
        pieces = [f"{piece.where}: {piece.note}" for piece in self.formula if piece.status == "undecided"]
        lost: list[list[Box]] = []
        for box in sorted(self.rounding):
            if max(_best(box)) == math.inf:
                if not lost or math.nextafter(lost[-1][-1].high, math.inf) != box.low:
                    lost.append([])
                lost[-1].append(box)
        return pieces + [_told(boxes) for boxes in lost]

    def at(self, x: float) -> tuple[float, float]:
        """The bounds for one float: of the value and of the slope, in ulps as `Box` counts them.

        Raises ValueError if x is in no box.
        """
        for box in self.rounding:
            if box.low <= x <= box.high:
                return _best(box)
        raise ValueError(f"The certificate of {self.rule.name} says nothing of {x!r}.")

    def __repr__(self) -> str:
        kind = "certified" if self.ok else "not certified"
        worst = self.worst()
        head = f"{self.rule.name}: {kind}"
        if worst:
            head += f", value within {worst[0]:.3g} ulps and slope within {worst[1]:.3g}"
        rows = [["where", "formula", *(["value, ulps", "slope, ulps"] if self.rounding else [])]]
        for piece in self.formula:
            text = MEANING[piece.status]
            text += f" by {piece.bound:.2g} of it" * (piece.status == "bounded")
            text += f": {piece.note}" * bool(piece.note)
            rows.append([piece.where, text, *(self._ulps_in(piece) if self.rounding else [])])
        table = [f"  {line}" for line in columns(rows)]
        open_ = ["  undecided", *(f"    {text}" for text in self.undecided)] if self.undecided else []
        return "\n".join([head, *table, *open_, "  rests on", *(f"    {text}" for text in self.rests_on)])

    def worst(self) -> tuple[float, float] | None:
        """The largest bounds of value and slope in ulps; None where rounding was not looked at."""
        if not self.rounding:
            return None
        pairs = [_best(box) for box in self.rounding]
        return max(value for value, _ in pairs), max(slope for _, slope in pairs)

    def _ulps_in(self, piece: Piece) -> list[str]:
        low, high = (float(end) for end in piece.ends[0])
        boxes = [
            box for box in self.rounding if low <= box.low and box.high <= high and (low == high or box.low < high)
        ]
        boxes = [box for box in boxes if low == high or not box.low == box.high in (low, high)]
        if not boxes:
            return ["", ""]
        texts = []
        for place in (0, 1):
            best = max(_best(box)[place] for box in boxes)
            stars = any(_best(box)[place] < (box.value, box.slope)[place] for box in boxes)
            texts.append(f"{_up(best)}{'*' * stars}")
        return texts

    def plot(self) -> Any:
        """The bounds in ulps over all floats, as a matplotlib Figure. Raises ValueError if there are none."""
        if not self.rounding:
            raise ValueError(f"The certificate of {self.rule.name} has no bounds on rounding to plot.")
        figure = empty_figure(8, 3.5)
        axes = figure.add_subplot()
        boxes = [box for box in self.rounding if abs(box.low) < 1e100 > abs(box.high)]
        for place, name in enumerate(("value", "slope")):
            ends = [x for box in boxes for x in (box.low, box.high)]
            bounds = [n for box in boxes for n in [min(max(_best(box)[place], 2.0**-4), 2.0**53)] * 2]
            axes.plot(ends, bounds, label=name)
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_yscale("log", base=2)
        axes.set_xlabel("x")
        axes.set_ylabel("certified bound, ulps")
        axes.set_title(self.rule.name)
        axes.legend()
        return figure

    def save(self, path: str | Path) -> None:
        """Writes the certificate as JSON. Raises OSError if the file cannot be written."""
        data = {
            "format": FORMAT,
            "rule": self.rule.name,
            "parameters": {name: repr(x) for name, x in self.rule.parameters.items()},
            "ulps": self.ulps,
            "start": [[_texts(cell.ends)] for cell in self.start],
            "formula": [
                {**asdict(piece), "ends": _texts(piece.ends), "bound": repr(piece.bound)} for piece in self.formula
            ],
            "rounding": [[*map(float.hex, (box.low, box.high, *box.bounds)), box.reason] for box in self.rounding],
            "rests_on": self.rests_on,
        }
        Path(path).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: str | Path) -> "Certificate":
        """A certificate as `save` wrote it. Raises ValueError for another file, or for an undeclared rule."""
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(f"its format is {data['format']}, not {FORMAT}")
            name, parameters = data["rule"], data["parameters"]
            if name not in RULES:
                raise ValueError(f"no rule is named {name!r}: import the module that declares it")
            rule = RULES[name].bind(**{key: _parameter(text) for key, text in parameters.items()})
            pieces = [
                Piece(**{**p, "ends": _numbers(p["ends"]), "bound": float(p["bound"])}) for p in data["formula"]
            ]
            boxes = [Box(*map(float.fromhex, row[:6]), reason=row[6]) for row in data["rounding"]]
            start = [Cell(_numbers(ends)) for (ends,) in data["start"]]
            return Certificate(rule, pieces, boxes, list(data["rests_on"]), data["ulps"], start)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"{path} holds no certificate: {error}.") from None

    def check(self) -> None:
        """Proves every line again, without searching. Raises AssertionError if one does not hold."""
        pieces, formulas = pieces_of(self.rule, self.start)
        pieces = [piece for piece in pieces if not is_outside(self.rule, piece)]
        if [(p.where, p.status) for p in pieces] != [(p.where, p.status) for p in self.formula]:
            raise AssertionError(f"The formula of {self.rule.name} is not what the certificate says.")
        for piece, stated in zip(pieces, self.formula, strict=True):
            if not piece.bound <= stated.bound:
                raise AssertionError(
                    f"{self.rule.name}, {piece.where}: the bound is {piece.bound}, not {stated.bound}."
                )
        if self.rounding:
            self._check_rounding(pieces, formulas)

    def _check_rounding(self, pieces: Sequence[Piece], formulas: Sequence[Formulas]) -> None:
        truth, boxes = Truth(self.rule, pieces, formulas), iter(sorted(self.rounding))
        for low, high in float_pieces(truth):
            at = low
            while at <= high:
                box = next(boxes, None)
                if box is None or box.low != at or box.high > high:
                    raise AssertionError(f"The boxes of {self.rule.name} do not cover the floats from {at!r} on.")
                now = bound(truth, box.low, box.high, set())
                if any(a > b for a, b in zip(now.bounds, box.bounds, strict=True)):
                    raise AssertionError(f"{self.rule.name}, {box.low!r} to {box.high!r}: the bounds do not hold.")
                at = math.nextafter(box.high, math.inf)


def _best(box: Box) -> tuple[float, float]:
    """The bounds that are stated: in ulps of the number, or beyond LIMIT those of a rounded input."""
    value = box.value if box.value <= LIMIT else box.value_of_input
    return value, box.slope if box.slope <= LIMIT else box.slope_of_input


def _told(boxes: list[Box]) -> str:
    """Neighbouring boxes without a bound: where they are, and why."""
    reasons = [box.reason for box in boxes if box.reason] or ["no bound on the rounding"]
    shown = next((reason for reason in reasons if " is right at " in reason), reasons[0])
    return f"{boxes[0].low!r} to {boxes[-1].high!r}: {shown}"


def _up(x: float) -> str:
    """A bound with three digits, rounded up."""
    if not math.isfinite(x) or x == 0:
        return f"{x:g}"
    scale = 10.0 ** (2 - math.floor(math.log10(x)))
    return f"{math.ceil(x * scale * (1 - 1e-15)) / scale:.3g}"


def _texts(ends: Any) -> list[list[str]]:
    return [[str(low), str(high)] for low, high in ends]


def _numbers(texts: Any) -> Any:
    return tuple(tuple(float(x) if "inf" in x else Fraction(x) for x in pair) for pair in texts)


def _parameter(text: str) -> Any:
    return float(text) if any(c in text for c in ".einf") else int(text)
