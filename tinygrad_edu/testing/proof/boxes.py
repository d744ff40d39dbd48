"""The rounding error of a rule over all floats of a box, in ulps; and boxes that cover a domain of floats."""

import math
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import mpmath as mp
from flint import arb

from ...engine.rule import Rule
from ..check.mathematics import reference_of
from ..check.points import SMALLEST_NORMAL, inside
from ..check.reference import LIMIT
from ..check.reference import ulps as ulps_of
from .cells import Clock, walk
from .exact import Values
from .formula import FAILURES, Piece
from .ranges import ALL, BITS, Range, exactly
from .rounded import MAX, NORMAL, TINY, Rounded

LARGEST = math.nextafter(math.inf, 0)
OVERFLOW = "where the value is beyond the floats, so that inf is right, the slope is not looked at"
GOAL = 4.0  # ulps: nearer than this is not looked for
STARRED = 16.0  # ulps: beyond it, a bound relative to rounding the input tells more
LOST = 2.0**52  # ulps: from here on no digit is right
EXPLAINED = 2.0**20  # ulps of a rounded input: beyond, rounding it does not explain that no digit is right
LONG = 120  # terms: a range of so many terms is too wide to be of use
SHOWN = 12  # boxes: for so many the reason is looked for why they have no bound
FEW = 4  # floats: a box of so few is decided by running them


class Truth:
    """The exact value, slope and second derivative of a rule of one input on one piece of its domain."""

    def __init__(self, rule: Rule, piece: Piece, starred_from: float = STARRED):
        self.rule: Rule = rule
        self.piece: Piece = piece
        self.starred_from: float = starred_from  # ulps
        self.reference: Any = reference_of(rule)
        self.exact: list[Any] = _orders(piece)
        self.gap: float = piece.bound * 2.0**53 + 0.5 if piece.bound else 0.0  # of the formula, in ulps
        self.last: tuple[Range, Values] = (ALL, Values([ALL]))  # the box asked for last, and what is known there

    def range(self, box: Range, order: int) -> Range:
        """The range of the value (order 0) or of a derivative; all numbers where no short formula is known."""
        if not self.exact or len(terms := self.exact[order].terms) > LONG:
            return ALL
        if self.last[0] is not box:
            self.last = box, Values([box])
        found: Range = self.last[1].of(terms)
        return found

    def number(self, x: float, order: int) -> Any:
        """The value or a derivative at a float to 60 digits; None where the formula does not tell it."""
        last = self.last[0]
        found = self.range(last if last.lo == last.hi == x else exactly(x), order)
        if found.mig >= MAX:
            return LIMIT * found.sign
        if found.hi - found.lo <= found.mig * arb(2) ** (9 - BITS) or found.mag < TINY:
            man, exp = found.lo.man_exp()
            with mp.workprec(BITS):
                return mp.mpf((int(man), int(exp)))
        return None

    def errors(self, x: float) -> Iterator[tuple[str, float, Any, float, float]]:
        """At a float the value and the slope, each with the exact number and the errors in ulps: all, and stated.

        The slope is left out at kinks, where it is a convention, and where the value is beyond the floats.
        """
        out, exact = self.rule.forward(x), mp.mpf(0)
        for order, what in enumerate(("the value", "the slope")):
            if order and (abs(exact) >= LIMIT or self.piece.status == "kink"):
                return
            got = self.rule.backward(1.0, out, x)[0] if order else out
            if (exact := self.number(x, order)) is None:  # the terms of the formula cancel
                exact = self.reference.exact_slopes((x,))[0] if order else self.reference.value((x,))
            error = stated = _off(got, exact)
            if error > self.starred_from:
                stated = min(error, _off(got, exact, self.size_at(x, order)))
            yield what, got, exact, error, stated

    def size_at(self, x: float, order: int) -> Any:
        """What rounding the input may do to the value or the slope, or the size that the reference states."""
        stated = self.reference.slope_size if order else self.reference.size
        if not stated and (moved := self.number(x, order + 1)) is not None:
            return abs(x * moved) + SMALLEST_NORMAL * (1 + abs(x))
        if order:
            return self.reference.slope_size_of((x,), 0)
        return self.reference.value_size((x,), self.reference.exact_slopes((x,)))


def _orders(piece: Piece) -> list[Any]:
    """The value and two derivatives; nothing if they are not known or too long, or the time is up."""
    try:
        f = piece.formulas
        return [f.forward, slope := f.derivative(0), slope.derivative(0)] if f and f.cell.is_open else []
    except FAILURES:
        return []


@dataclass(frozen=True)
class FloatBox:
    """All floats from low to high, and bounds in ulps of value and slope, inf where no digit is certain.

    Where a result is marked by a star, its bound is not in ulps of the exact number, but of what rounding the
    input alone may do, |x f'(x)|, which is larger.
    """

    low: float
    high: float
    truth: Truth = field(repr=False)
    value: float = math.inf
    slope: float = math.inf
    stars: tuple[bool, bool] = (False, False)
    reason: str = ""

    @property
    def bounds(self) -> tuple[float, float]:
        return self.value, self.slope

    @property
    def worst(self) -> float:
        return max(self.bounds)

    def __lt__(self, other: "FloatBox") -> bool:
        return (-self.worst, self.low) < (-other.worst, other.low)


def bound(truth: Truth, low: float, high: float, rests_on: set[str]) -> FloatBox:
    """The bounds for one box. Where none is found they are inf, with the reason."""
    if between(low, high) < FEW:
        return run(truth, low, high, rests_on)
    rule, box, assumed = truth.rule, Range(arb(low), arb(high)), set[str]()
    try:
        x = Rounded(assumed, box)
        out = x.lift(rule.forward(x))
        errors = [_in_ulps(out, box, truth, 0), (0.0, False)]
        if out.of.mig >= MAX:
            assumed.add(OVERFLOW)
        else:
            slope = x.lift(rule.counted(rule.backward(1.0, out, x), 1)[0])
            error, star = _in_ulps(slope, box, truth, 1)
            errors[1] = error + truth.gap, star
    except Exception as reason:  # Undecided, or whatever a function for floats raises
        return FloatBox(low, high, truth, reason=str(reason))
    rests_on |= assumed
    of_value, of_slope = (x if x < LOST else math.inf for x, _ in errors)
    return FloatBox(low, high, truth, of_value, of_slope, (errors[0][1], errors[1][1]))


def _in_ulps(y: Rounded, x: Range, truth: Truth, order: int) -> tuple[float, bool]:
    """The error of the value (order 0) or the slope (1) in ulps. Is it in those of a rounded input?"""
    plain = _plain(y, y.of)
    if plain <= GOAL:
        return plain, False
    exact = truth.range(x, order)
    size = Range(max(y.of.lo, exact.lo), min(y.of.hi, exact.hi))
    plain = min(plain, _plain(y, size))
    moved = x * truth.range(x, order + 1)
    if plain <= truth.starred_from or not moved.mig > size.mig:
        return plain, False
    error = y.ulps * _ulp(size.mag) + y.relative * min(y.of.mag, MAX) + y.absolute
    of_input = float((error / _ulp(moved.mig)).upper())
    if plain >= LOST and of_input > EXPLAINED:
        return math.inf, False
    return min(plain, of_input), of_input < plain


def _plain(y: Rounded, size: Range) -> float:
    if size.mig >= MAX:  # inf is right
        return 0.0
    own = _ulp(size.mig)
    relative = min((y.relative * 2**53).upper(), (y.relative * min(y.of.mag, MAX) / own).upper())
    return float((y.ulps + relative + y.absolute / own).upper())


def _ulp(size: Any) -> Any:
    """The unit in the last place of the floats from a size on; of subnormals, the least float."""
    _, exponent = math.frexp(min(float(max(size, NORMAL).lower()), LARGEST))
    return arb(2) ** (exponent - 53)


def run(truth: Truth, low: float, high: float, rests_on: set[str]) -> FloatBox:
    """A few floats, each compared with the exact numbers; 0 with both signs."""
    rests_on.add("at single points the rule was run, with this machine's library, and compared with 60 digits")
    bounds, stars, reason = [0.0, 0.0], [False, False], ""
    floats = [_float(n) for n in range(_rank(low), _rank(high) + 1)]
    for x in [*floats, *([-0.0] if 0.0 in floats else [])]:
        try:
            for order, (what, got, exact, error, stated) in enumerate(truth.errors(x)):
                if not order and abs(exact) >= LIMIT:
                    rests_on.add(OVERFLOW)
                if not error < LOST:
                    reason = reason or f"no digit of {what} is right at {x!r}: {got:.6g} for {mp.nstr(exact, 6)}"
                most = LOST if error < LOST else EXPLAINED
                bounds[order] = max(bounds[order], stated if stated < most else math.inf)
                stars[order] = stars[order] or stated < error
        except Exception as raised:  # whatever the rule raises
            return FloatBox(low, high, truth, reason=f"at {x!r}: {raised}")
    return FloatBox(low, high, truth, bounds[0], bounds[1], (stars[0], stars[1]), reason)


def _off(got: float, exact: Any, size: Any = 0) -> float:
    """The error in ulps, of subnormal numbers in units of the least float."""
    if not math.isfinite(got) or max(abs(exact), abs(size)) >= SMALLEST_NORMAL:
        return ulps_of(got, exact, size)
    return float(abs(got - exact) * mp.mpf(2) ** 1074)


def cover(
    start: Sequence[FloatBox],
    goal: float,
    limit: int,
    rests_on: set[str],
    clock: Clock,
    tick: Callable[[], object] = lambda: None,
    give_up: Callable[[FloatBox], object] = lambda box: None,
) -> list[FloatBox]:
    """Boxes that cover the floats of the domain. The worst is halved again and again, until all meet the goal.

    `give_up` is called with a box far from the goal that halving does not improve.
    """
    goal += max((box.truth.gap for box in start if box.truth.gap < math.inf), default=0.0)

    def halves(box: FloatBox) -> list[FloatBox]:
        if between(box.low, box.high) < FEW or (box.worst > 4 * goal and _is_in_vain(box)):
            give_up(box)
            return []
        tick()
        middle = _middle(box.low, box.high)
        ends = (box.low, middle), (math.nextafter(middle, math.inf), box.high)
        return [bound(box.truth, a, b, rests_on) for a, b in ends]

    def is_worth_it(box: FloatBox, n: int) -> bool:
        return n < limit and (n < limit // 10 or box.worst > 4 * goal) and box.worst > goal

    boxes = sorted(walk(start, halves, is_worth_it, clock), key=lambda box: box.low)
    bad = [box for box in boxes if box.worst == math.inf and not clock.is_over]
    bad = sorted(bad, key=lambda box: between(box.high, box.low))[:SHOWN]  # those of most floats
    return [_explained(box) if box in bad else box for box in boxes]


def _explained(box: FloatBox) -> FloatBox:
    """The box with the reason why it has no bound: a float at which no digit is right, if there is one."""
    points = (_middle(box.low, box.high), box.low, box.high)
    reasons = [reason for x in points if (reason := run(box.truth, x, x, set()).reason)]
    return replace(box, reason=reasons[0] if reasons else box.reason or "no digit is certain")


def _is_in_vain(box: FloatBox) -> bool:
    """Is halving of no use? Its ends are half as far off as the bound says, or few floats have no bound either."""
    if box.worst < math.inf:
        ends = [run(box.truth, x, x, set()).bounds for x in (box.low, box.high)]
        return all(2 * end[i] >= box.worst for i in (0, 1) if box.bounds[i] == box.worst for end in ends)
    places = [_rank(box.low), _rank(_middle(box.low, box.high)), _rank(box.high) - FEW]
    return all(bound(box.truth, _float(n), _float(n + FEW), set()).worst == math.inf for n in places)


# --- Floats ---------------------------------------------------------------------------------------------------

_CUTS = [0.0, 2.0**-1022, 1e-150, 1e-16, 2.0**-7, 0.5, 1.0, 2.0, 20.0, 350.0, 700.0, 760.0, 1e16, 1e150]


def boxes_of(truth: Truth, rests_on: set[str], clock: Clock) -> Iterator[FloatBox]:
    """The floats of a piece in boxes, cut at sizes where floats change their ways; too late, without bounds."""
    ((left, right),) = truth.piece.ends
    low, high = float(left), float(right)
    if left == right:
        exists = left == Fraction(low) and truth.piece.status != "end" and inside(truth.rule)((low,))
        ends = [(low, low)] if exists else []
    else:
        low = low if _is_inside(low, left) else math.nextafter(low, math.inf)
        high = high if _is_inside(-high, -right) else math.nextafter(high, -math.inf)
        low, high = max(low, -LARGEST), min(high, LARGEST)
        cuts = sorted({s * x for x in _CUTS for s in (-1.0, 1.0) if low < s * x < high})
        starts = [low, *(math.nextafter(cut, math.inf) for cut in cuts)]
        ends = list(zip(starts, [*cuts, high], strict=True)) if low <= high else []
    for a, b in ends:
        over = FloatBox(a, b, truth, reason=clock.message)
        yield over if clock.is_over else bound(truth, a, b, rests_on)


def _is_inside(rounded: float, end: Any) -> bool:
    """Is the float that an end was rounded to inside of it?"""
    return not math.isinf(rounded) and Fraction(rounded) > end


def _middle(low: float, high: float) -> float:
    """The float halfway in the row of all floats."""
    return _float((_rank(low) + _rank(high)) // 2)


def between(low: float, high: float) -> int:
    """How many floats there are from low to high, less one."""
    return _rank(high) - _rank(low)


def _rank(x: float) -> int:
    """The place of a float in the row of all floats."""
    (bits,) = struct.unpack("<q", struct.pack("<d", abs(x)))
    return int(bits if x > 0 else -bits)


def _float(rank: int) -> float:
    """The float at a place."""
    (x,) = struct.unpack("<d", struct.pack("<q", abs(rank)))
    return float(x if rank > 0 else -x)
