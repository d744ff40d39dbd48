"""prove_rule: is a rule's slope the derivative of its forward on a whole domain, and how near are floats?"""

import itertools
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context
from fractions import Fraction
from typing import Any, ClassVar

from flint import ctx

from ...engine.rule import Interval, Rule
from ...viz.rich import Report
from ...viz.words import columns
from ..check.case import as_rule, refuse
from ..check.deadline import deadline
from ..check.points import ends_of
from .boxes import LOST, FloatBox, between, cover
from .cells import Cell, Clock
from .formula import MEANING, NOT_PROVEN, Piece, is_outside, pieces_of
from .ranges import BITS

__tracebackhide__ = True  # pytest shows the user's line, not ours

LENGTHS = (1, 2, 3, 4)  # of a reduction
FORMULA_RESTS_ON = (
    "formula: exact arithmetic on polynomials in x, e^..., log, roots, erf ... (python-flint factors them)"
)
ROUNDING_RESTS_ON = [
    "an ulp is a unit in the last place of the exact number, for subnormal numbers 2^-1074, the least float",
    "rounding: IEEE 754 doubles, to nearest, upstream 1; "
    "the C library's functions within these bounds (GNU C library manual):",
]
LIBRARY = (
    "assumed, and not stated: {} computes as written, and its functions are within these bounds, "
    "which was tested at hard points"
)

UP = Context(prec=3, rounding=ROUND_CEILING)


def prove_rule(
    rule: Rule | str,
    *,
    domain: Any = None,
    ulps: float | None = None,
    strict: bool = False,
    budget: float = 20.0,
    **others: Any,
) -> "Certificate":
    """Certify that a rule's slope is the derivative of its forward function, and how near floats come to both.

    Formula: the domain is cut into pieces on which the rule takes one branch. On each, slope and derivative are
    compared as formulas over the real numbers: if all terms cancel, they are equal at every point; else their
    difference is bounded over boxes. Each share must be upstream times the slope. At branch points, closed ends
    and where inputs are equal, the slope must be the derivative if there is one, else lie between the slopes
    beside it. Reductions are examined for 1 to 4 inputs.

    Rounding, for a rule of one input: a bound in ulps, units in the last place, over every float of the domain, by
    half an ulp for each operation and the bounds that the C library states for its functions. Where a number is so
    near 0, or so steep, that rounding the input alone does more, it is in ulps of |x f'(x)|, and marked by *.

    `domain` is an `Interval` or a pair (low, high), or one for each input; else all the rule declares. With
    `ulps`, every float must be within this bound. After `budget` seconds, what is certified so far stands, and the
    rest is undecided. A certificate is true if nothing is undecided: `assert prove_rule(rule)`. Otherwise see
    `.undecided`; with strict=True that raises AssertionError. Raises Refuted, an AssertionError, for a wrong
    rule, with a float that shows it: the rule was run there. Raises ImportError without python-flint, TypeError
    for what is no rule, TimeoutError for one in Python that does not return: it is interrupted.

    >>> from tinygrad_edu.testing import prove_rule
    >>> prove_rule("relu")  # doctest: +ELLIPSIS
    relu: certified, value within 0 ulps and slope within 0
      where  formula                                         value, ulps  slope, ulps
      x < 0  slope = derivative, exactly                     0            0
      x = 0  kink: slope 0 by convention, 0 and 1 beside it  0            0
      x > 0  slope = derivative, exactly                     0            0
      not examined: second derivatives
      rests on
        ...
    """
    refuse("prove_rule", others)
    rule = as_rule(rule, "prove_rule")
    if ulps is not None and not (hasattr(ulps, "__neg__") and ulps > 0):
        raise ValueError(f"ulps is a bound above 0, got {ulps!r}.")
    ctx.prec = BITS  # flint keeps it for the whole process
    clock, notes, rests_on, library = Clock(budget), set[str](), set[str](), getattr(rule, "library", "")
    with deadline(rule.name, budget):
        all_pieces = pieces_of(rule, list(_start(rule, domain, notes, clock)))
        outside = [piece for piece in all_pieces if is_outside(piece)]
        pieces = [piece for piece in all_pieces if piece not in outside]
        boxes = cover(rule, pieces, ulps, rests_on, clock) if rule.n_inputs == 1 else []
    left_out = [
        *("second derivatives", *sorted(notes)),
        *(f"{piece.where}, where `check` refuses numbers" for piece in outside),
        *(f"{piece.where}: {piece.note}" for piece in pieces if NOT_PROVEN in piece.note),
        *["the rounding of floats"] * (not boxes),
        *[f"more than {LENGTHS[-1]} inputs"] * (not rule.n_inputs),
    ]
    assumed = [*sorted(rests_on), *[LIBRARY.format(library)] * bool(library)]
    stated = [*ROUNDING_RESTS_ON, *(f"  {text}" for text in assumed)] if boxes else []
    certificate = Certificate(rule, pieces, boxes, [FORMULA_RESTS_ON, *stated], left_out, ulps)
    if strict and not certificate:
        raise AssertionError(f"{rule.name} is not certified, and not refuted.\n{certificate!r}")
    return certificate


def _start(rule: Rule, domain: Any, notes: set[str], clock: Clock) -> Iterable[Cell]:
    """The whole domain and its closed sides, for each number of inputs."""
    for n in [rule.n_inputs] if rule.n_inputs else [k for k in LENGTHS if rule.name != "dot" or k % 2 == 0]:
        sides: list[Any] = []
        wanted = [(-math.inf, math.inf)] * n if domain is None else ends_of(domain, n)
        for i, (low, high) in enumerate(wanted):
            declared = rule.domain[i] if i < len(rule.domain) else Interval()
            low, high = max(low, declared.low), min(high, declared.high)
            if not low < high:
                raise ValueError(f"The domain of {rule.name} is empty: from {low!r} to {high!r}.")
            ends: list[Any] = [x if math.isinf(x) else Fraction(x) for x in (low, high)]
            closed = [(end, end) for end in ends if abs(end) < math.inf and float(end) in declared]
            sides.append([tuple(ends), *closed])
        for side in itertools.product(*sides):
            yield Cell(side, notes=notes, clock=clock)


@dataclass
class Certificate(Report):
    """What prove_rule says of one rule: it prints as a table, and is true if nothing is undecided.

    `formula` has the pieces of the domain, `rounding` the boxes of floats (of a rule with one input). `rests_on`
    lists every assumption, `not_examined` what a certified rule may still have wrong.
    """

    _former: ClassVar = {
        **dict.fromkeys(("save", "load", "check"), "to_json() is the verdict; prove_rule proves again"),
        "plot": "rounding has the bounds of each box",
    }

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
        """Is the slope the derivative all over the domain, except at the kinks and ends that are listed?"""
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
