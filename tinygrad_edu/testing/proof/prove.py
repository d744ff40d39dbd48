"""prove_rule: a rule's slope is the derivative of its forward, and floats come so near, over a whole domain."""

import itertools
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from flint import ctx
from tqdm import tqdm

from ...engine.rule import Interval, Rule
from ..check.case import as_rule, refuse
from ..check.deadline import deadline
from ..check.points import ends_of, grid_of
from .boxes import FloatBox, boxes_of, cover, refute_rounding, run
from .cells import Cell, Clock
from .certificate import Certificate
from .formula import NOT_PROVEN, STARRED, TOLERANCE, Piece, is_outside, pieces_of
from .ranges import BITS

__tracebackhide__ = True  # pytest shows the user's line, not ours

BUDGET = 1000  # boxes: they are halved until all are within the goal, or there are so many
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


def prove_rule(
    rule: Rule | str,
    *,
    domain: Any = None,
    ulps: float | None = None,
    strict: bool = False,
    budget: float = 20.0,
    **others: Any,
) -> Certificate:
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
    for what is no rule, TimeoutError for one that does not return, which is interrupted, unless it is no Python.

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
    if ulps is not None and not ulps > 0:
        raise ValueError(f"ulps is a bound above 0, got {ulps!r}.")
    ctx.prec = BITS  # flint keeps it for the whole process
    clock, notes, rests_on, library = Clock(budget), set[str](), set[str](), getattr(rule, "library", "")
    with deadline(rule.name, budget):
        found = pieces_of(rule, list(_start(rule, domain, notes, clock)))
        outside = [piece for piece in found if is_outside(piece)]
        pieces = [piece for piece in found if piece not in outside]
        boxes = _boxes(rule, pieces, ulps, rests_on, clock) if rule.n_inputs == 1 else []
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


def _boxes(
    rule: Rule, pieces: Sequence[Piece], ulps: float | None, rests_on: set[str], clock: Clock
) -> list[FloatBox]:
    """The floats of the domain in boxes, with bounds. Raises Refuted for a float beyond the bound asked for.

    Pieces whose terms do not cancel are decided by their boxes.
    """
    bars = type("Bar", (tqdm,), {"_lock": threading.RLock(), "monitor_interval": 0})  # Ctrl-C may leave it locked
    with bars(total=BUDGET, desc=rule.name, unit="box", leave=False, disable=None) as bar:
        for piece in pieces:
            piece.starred_from = min(STARRED, ulps or STARRED)
        start = [box for piece in pieces for box in boxes_of(piece, rests_on, clock)]
        boxes = cover(start, ulps, BUDGET, rests_on, clock, bar.update)
    for piece in pieces:
        if piece.apart and piece.status == "undecided":
            own = [box for box in boxes if box.piece is piece]
            bad = [box for box in own if box.apart > TOLERANCE]
            piece.bound = max((box.apart for box in own), default=math.inf)
            piece.status = "undecided" if bad or not own else "bounded"
            piece.note = f"not decided from {bad[0].low:.6g} to {bad[0].high:.6g}" if bad else ""
    if library := getattr(rule, "library", ""):
        points = grid_of(rule)
        boxes = [_tested(box, [x for (x,) in points if box.low <= x <= box.high], library, clock) for box in boxes]
    for box in sorted(boxes):
        refute_rounding(box, ulps or math.inf)
    return boxes


def _tested(box: FloatBox, points: Sequence[float], library: str, clock: Clock) -> FloatBox:
    """The box, without bounds if the library that computes the rule breaks them at a hard point, or time is up."""
    for x in points:
        reason = clock.message if clock.is_over else ""
        errors = box.bounds if reason else run(box.piece, x).bounds
        for what, error, most in zip(("value", "slope"), errors, box.bounds, strict=True):
            if error > most:
                reason = (
                    f"{library}'s functions are worse than assumed: at {x!r} the {what} is {error:.3g} ulps off"
                )
        if reason:
            return replace(box, value=math.inf, slope=math.inf, reason=reason)
    return box
