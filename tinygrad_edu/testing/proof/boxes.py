"""What is proven of all floats of a box: how far the slope is from the derivative, and floats from both."""

import contextlib
import heapq
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import mpmath as mp
import numpy as np
from flint import arb, ctx
from tqdm import tqdm

from ...engine.rule import Rule
from ..check.points import grid_of, inside
from ..check.reference import ulps as distance
from .cells import Clock, Undecided
from .exact import Values
from .formula import FAILURES, STARRED, TOLERANCE, Piece, Refuted, bounded_by
from .ranges import ALL, BITS, INF, Range, exactly, hull
from .rounded import MAX, NORMAL, TINY, Rounded

LARGEST = math.nextafter(math.inf, 0)
OVERFLOW = "where the value is beyond the floats, so that inf is right, the slope is not looked at"
BOXES = 1000  # they are halved until all are within the goal, or there are so many
GOAL = 4.0  # ulps: no better bound is looked for
LOST = 2.0**52  # ulps: from here on no digit is right
EXPLAINED = 2.0**20  # ulps of a rounded input: beyond, that does not explain that no digit is right
LONG = 120  # terms: a range of so many terms is too wide to be of use
FEW = 4  # floats: a box of so few is decided by running them
PRECISE = (BITS, 3400)  # bits of an exact number, and more where terms cancel


@dataclass(frozen=True)
class FloatBox:
    """All floats from low to high, and bounds in ulps of value and slope, inf where no digit is certain.

    Where a result is marked by a star, its bound is not in ulps of the exact number, but of what rounding the
    input alone may do, |x f'(x)|, which is larger. `apart` bounds |slope - derivative| / |derivative|, also
    between the floats.
    """

    low: float
    high: float
    piece: Piece = field(repr=False)
    value: float = math.inf
    slope: float = math.inf
    stars: tuple[bool, bool] = (False, False)
    reason: str = ""
    apart: float = math.inf

    @property
    def bounds(self) -> tuple[float, float]:
        return self.value, self.slope

    @property
    def worst(self) -> float:
        return max(self.bounds)

    def __lt__(self, other: "FloatBox") -> bool:
        return self._rank < other._rank

    @cached_property
    def _rank(self) -> tuple[float, bool, float]:
        """The worst is first; of those without a bound ordinary numbers, and the largest box for the formula."""
        is_far = not 1e-16 < max(abs(self.low), abs(self.high)) < 1e6
        return -self.worst, is_far, between(self.high, self.low) if self.apart > TOLERANCE else self.low


def bound(piece: Piece, low: float, high: float, rests_on: set[str]) -> FloatBox:
    """The bounds for one box. Where none is found they are inf, with the reason. Raises Refuted."""
    start, end = piece.cell.ends[0]
    ends = max(math.nextafter(low, -math.inf), start), min(math.nextafter(high, math.inf), end)
    try:
        apart = bounded_by(piece, Range(exactly(ends[0]).lo, exactly(ends[1]).hi), middle(low, high))
    except FAILURES:
        apart = math.inf
    box = FloatBox(low, high, piece, apart=apart)
    bounds = _run(box, rests_on) if between(low, high) < FEW else _proven(box, rests_on)
    return replace(
        bounds, slope=bounds.slope + ((apart * 2.0**53 + 0.5 * (apart > 0)) if apart <= TOLERANCE else math.inf)
    )


# --- All floats at once ---------------------------------------------------------------------------------------


def _proven(box: FloatBox, rests_on: set[str]) -> FloatBox:
    """The box with bounds for all its floats at once."""
    rule, assumed, errors = box.piece.rule, set[str](), [(0.0, False), (0.0, False)]
    values = Values([Range(arb(box.low), arb(box.high))])
    try:
        x = Rounded(assumed, values.inputs[0])
        y = out = x.lift(rule.forward(x))
        for order in (0, 1):
            if order and out.of.mig >= MAX:
                assumed.add(OVERFLOW)
                break
            y = x.lift(rule.counted(rule.backward(1.0, out, x), 1)[0]) if order else out
            if y.of.mig < MAX:  # else inf is right
                errors[order] = _in_ulps(y, values, box.piece, order)
    except Exception as reason:  # Undecided, or whatever a function for floats raises
        return replace(box, reason=str(reason))
    rests_on |= assumed
    (value, a), (slope, b) = errors
    return replace(box, value=value, slope=slope, stars=(a, b))


def _in_ulps(y: Rounded, values: Values, piece: Piece, order: int) -> tuple[float, bool]:
    """The error of the value (order 0) or the slope (1) in ulps, inf where no digit is certain.

    The second item: is it in ulps of a rounded input? It is if these are fewer.
    """
    own, error = _ulp(y.of.mig), y.relative * min(y.of.mag, MAX) + y.absolute
    relative = min((y.relative * 2**53).upper(), (y.relative * min(y.of.mag, MAX) / own).upper())
    plain, of_input = float((y.ulps + relative + y.absolute / own).upper()), math.inf
    if plain > piece.starred_from:
        known = [
            formula
            for formula in piece.orders[order + 1 : order + 2]
            if len(formula.num) + len(formula.den) <= LONG
        ]
        moved = values.inputs[0] * values.of(known[0]) if known else ALL
        if moved.mig > y.of.mig:
            of_input = float(((y.ulps * _ulp(y.of.mag) + error) / _ulp(moved.mig)).upper())
    ulps = min(plain, of_input)
    return (ulps if ulps < (LOST if plain < LOST else EXPLAINED) else math.inf), of_input < plain


def _ulp(size: Any) -> Any:
    """The unit in the last place of the floats from a size on; of subnormals, the least float."""
    _, exponent = math.frexp(min(float(max(size, NORMAL).lower()), LARGEST))
    return arb(2) ** (exponent - 53)


# --- Single floats --------------------------------------------------------------------------------------------


def _run(box: FloatBox, rests_on: set[str]) -> FloatBox:
    """The box of a few floats, each compared with the exact numbers; 0 with both signs."""
    rests_on.add("at single points the rule was run, with this machine's library, and compared with 60 digits")
    bounds, stars, reason = [0.0, 0.0], [False, False], ""
    floats = [_float(n) for n in range(_place(box.low), _place(box.high) + 1)]
    for x in [*floats, *([-0.0] if 0.0 in floats else [])]:
        try:
            for order, (what, got, exact, error, star) in enumerate(_errors(box.piece, x)):
                if not order and exact.mag >= MAX:
                    rests_on.add(OVERFLOW)
                if error == math.inf:
                    right = exact.lo.str(6, radius=False)
                    reason = reason or f"no digit of {what} is right at {x!r}: {got:.6g} for {right}"
                bounds[order], stars[order] = max(bounds[order], error), stars[order] or star
        except Exception as raised:  # whatever the rule raises
            return replace(box, reason=f"at {x!r}: {raised}")
    return replace(box, value=bounds[0], slope=bounds[1], stars=(stars[0], stars[1]), reason=reason)


def run(piece: Piece, x: float) -> FloatBox:
    """The box of one float."""
    return _run(FloatBox(x, x, piece), set())


def _errors(piece: Piece, x: float) -> Iterator[tuple[str, float, Range, float, bool]]:
    """At a float the value and the slope, each with the exact number and the error as `_in_ulps` has it.

    The slope is left out at kinks, where it is a convention, and where the value is beyond the floats. Raises
    Undecided where the exact number is not known. Infinity counts as 2^1024.
    """
    rule, out, exact = piece.rule, piece.rule.forward(x), exactly(0)
    for order, what in enumerate(("the value", "the slope")):
        if order and (exact.mag >= MAX or piece.status == "kink"):
            return
        got = rule.backward(1.0, out, x)[0] if order else out
        exact = _exact(piece, x, order)
        near, low, high = (max(-MAX, min(MAX, end)) for end in (arb(got), *exact))
        off = INF if math.isnan(got) else max(abs(near - low), abs(near - high))
        yield what, got, exact, *_in_ulps(Rounded(set(), exact, absolute=off), Values([exactly(x)]), piece, order)


def _exact(piece: Piece, x: float, order: int) -> Range:
    """The value or the slope, which is proven, to 45 digits: the rule is run on ranges."""
    for bits in PRECISE:
        with ctx.workprec(bits):
            at = exactly(x)
            result = out = at.lift(piece.rule.forward(at))
            if order:
                result = at.lift(piece.rule.counted(piece.rule.backward(at.lift(1), out, at), 1)[0])
            is_precise = result.hi - result.lo <= result.mig * arb(2) ** (50 - BITS)
            if is_precise or result.mag < TINY or result.mig >= MAX:
                break
    else:
        raise Undecided("the exact number is not known")
    return hull(result)


def refute_rounding(box: FloatBox, ulps: float) -> None:
    """Raises Refuted with a float of the box whose error is larger than the bound asked for."""
    for x in (box.low, box.low + (box.high - box.low) / 2, box.high) if box.worst > ulps else ():
        with contextlib.suppress(ArithmeticError, ValueError, Undecided):
            for what, got, exact, error, _ in reversed([*_errors(box.piece, x)]):
                if error > ulps and (what == "the value" or box.apart <= TOLERANCE):
                    right = mp.mpf(exact.lo.str(30, radius=False))
                    off = max(error, distance(got, right))
                    facts = f" It is {off:.3g} ulps off, {ulps:g} were asked for."
                    if not off < LOST:
                        facts = f" No digit of {what} is right; {ulps:g} ulps were asked for."
                    raise Refuted(box.piece.rule, (x,), what, right, got, facts)


# --- The walk over boxes --------------------------------------------------------------------------------------


def cover(
    rule: Rule, pieces: Sequence[Piece], ulps: float | None, rests_on: set[str], clock: Clock
) -> list[FloatBox]:
    """Boxes that cover the floats of the domain. The worst is halved again and again, until all meet the goal.

    Pieces whose terms do not cancel are decided by their boxes. Raises Refuted for a float beyond `ulps`, or for a
    wrong formula.
    """
    bars = type("Bar", (tqdm,), {"_lock": threading.RLock(), "monitor_interval": 0})  # Ctrl-C may leave it locked
    for piece in pieces:
        piece.starred_from = min(STARRED, ulps or STARRED)
    with bars(total=BOXES, desc=rule.name, unit="box", leave=False, disable=None) as bar:
        heap, done = sorted(box for piece in pieces for box in boxes_of(piece, rests_on, clock)), list[FloatBox]()
        goal = ulps or GOAL
        while heap and not clock.is_over:
            box, n = heap[0], len(heap) + len(done)
            if n >= BOXES or box.worst <= goal or (n >= BOXES // 8 and box.worst <= 4 * goal):
                break
            heapq.heappop(heap)
            stuck = box if between(box.low, box.high) < FEW else _stuck(box) if box.worst > 4 * goal else None
            if stuck:
                refute_rounding(stuck, ulps or math.inf)
                done.append(stuck)
                continue
            bar.update()
            cut = middle(box.low, box.high)
            for a, b in ((box.low, cut), (math.nextafter(cut, math.inf), box.high)):
                heapq.heappush(heap, bound(box.piece, a, b, rests_on))
    boxes = sorted([*done, *heap], key=lambda box: box.low)
    for piece in (piece for piece in pieces if piece.apart and piece.status == "undecided"):
        own = [box for box in boxes if box.piece is piece]
        bad = [box for box in own if box.apart > TOLERANCE]
        piece.bound = max((box.apart for box in own), default=math.inf)
        piece.status = "undecided" if bad or not own else "bounded"
        piece.note = f"not decided from {bad[0].low:.6g} to {bad[0].high:.6g}" if bad else ""
    if library := getattr(rule, "library", ""):
        points = [x for (x,) in grid_of(rule)]
        boxes = [_tested(box, [x for x in points if box.low <= x <= box.high], library, clock) for box in boxes]
    for box in sorted(boxes):
        refute_rounding(box, ulps or math.inf)
    return boxes


def _stuck(box: FloatBox) -> FloatBox | None:
    """The box, if halving is of no use: both ends have half its error, or even boxes of few floats have no bound.

    A box without a bound has as its reason a float at which no digit is right, if there is one.
    """
    if box.worst < math.inf:
        i = box.bounds.index(box.worst)
        return box if all(2 * run(box.piece, x).bounds[i] >= box.worst for x in (box.low, box.high)) else None
    places = [_place(middle(box.low, box.high)), _place(box.low), _place(box.high) - FEW]
    few = [bound(box.piece, _float(n), _float(n + FEW), set()) for n in places]
    if not all(x.apart > TOLERANCE if box.apart > TOLERANCE else x.worst == math.inf for x in few):
        return None
    reasons = [run(box.piece, _float(n)).reason for n in places]
    return replace(box, reason=next(filter(None, reasons), box.reason))


def _tested(box: FloatBox, points: Sequence[float], library: str, clock: Clock) -> FloatBox:
    """The box, without bounds if the library that computes the rule breaks them at a hard point, or time is up."""
    for x in points:
        errors = run(box.piece, x).bounds
        worse = [error for error, most in zip(errors, box.bounds, strict=True) if error > most]
        if worse or clock.is_over:
            reason = f"{library}'s functions are worse than assumed: at {x!r} they are {max(errors):.3g} ulps off"
            return replace(box, value=math.inf, slope=math.inf, reason=reason if worse else clock.message)
    return box


_CUTS = [0.0, 2.0**-1022, 1e-150, 1e-16, 2.0**-7, 0.5, 1.0, 2.0, 20.0, 64.0, 350.0, 700.0, 760.0, 1e16, 1e150]


def boxes_of(piece: Piece, rests_on: set[str], clock: Clock) -> Iterator[FloatBox]:
    """The floats of a piece in boxes, cut at sizes where floats change their ways; too late, without bounds."""
    ((left, right),) = piece.cell.ends
    if left == right:
        low = float(left)
        exists = left == Fraction(low) and piece.status != "end" and inside(piece.rule)((low,))
        ends = [(low, low)] if exists else []
    else:
        low, high = _above(left), -_above(-right)
        cuts = sorted({s * x for x in _CUTS for s in (-1.0, 1.0) if low < s * x < high})
        starts = [low, *(math.nextafter(cut, math.inf) for cut in cuts)]
        ends = list(zip(starts, [*cuts, high], strict=True)) if low <= high else []
    for a, b in ends:
        over = FloatBox(a, b, piece, reason=clock.message)
        yield over if clock.is_over else bound(piece, a, b, rests_on)


# --- Floats ---------------------------------------------------------------------------------------------------


def _above(end: Any) -> float:
    """The least float above an end, which may be -inf."""
    near = float(end)
    return near if abs(near) < math.inf and Fraction(near) > end else math.nextafter(near, math.inf)


def middle(low: float, high: float) -> float:
    """The float halfway in the row of all floats."""
    return _float((_place(low) + _place(high)) // 2)


def between(low: float, high: float) -> int:
    """How many floats there are from low to high, less one."""
    return _place(high) - _place(low)


def _place(x: float) -> int:
    """The place of a float in the row of all floats."""
    return int(np.float64(abs(x)).view(np.int64)) * (1 if x > 0 else -1)


def _float(place: int) -> float:
    """The float at a place."""
    return float(np.int64(abs(place)).view(np.float64)) * (1 if place > 0 else -1)
