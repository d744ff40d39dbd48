"""The rounding error of a rule over all floats of a box, in ulps; and boxes that cover a domain of floats."""

import heapq
import math
import struct
from collections.abc import Callable, Iterable, Sequence
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
from .cells import Clock, Undecided
from .exact import Values, variable_range
from .formula import FAILURES, CellFormulas, Piece
from .ranges import ALL, BITS, Range, exactly
from .rounded import MAX, NORMAL, TINY, Rounded, Unbounded

LARGEST = math.nextafter(math.inf, 0)
OVERFLOW = "where the value is beyond the floats, so that inf is right, the slope is not looked at"
GOAL = 4.0  # ulps: nearer than this is not looked for
LOST = 2.0**52  # ulps: from here on no digit is right
LONG = 120  # terms: a range of so many terms is too wide to be of use
SHOWN = 12  # boxes: for so many the reason is looked for why they have no bound
FEW = 4  # floats: a box of so few is decided by running them


class Truth:
    """The exact value, slope and second derivative of a rule of one input, as formulas on its open pieces."""

    def __init__(self, rule: Rule, pieces: Sequence[Piece], formulas: Sequence[CellFormulas]):
        self.rule: Rule = rule
        self.pieces: Sequence[Piece] = pieces
        self.formulas: Sequence[CellFormulas] = formulas if rule.n_inputs == 1 else []
        self.reference: Any = reference_of(rule)
        self.kinks: set[float] = {float(piece.ends[0][0]) for piece in pieces if piece.status == "kink"}
        bounds = {piece.ends: piece.bound for piece in pieces}
        self.gaps: list[float] = [_gap(bounds.get(f.cell.ends, math.inf)) for f in self.formulas]
        self.exact: list[Sequence[Any]] = list(map(_orders, self.formulas))
        self.last: tuple[Range, Values] = (ALL, Values([ALL]))  # the box asked for last, and what is known there

    def _place(self, box: Range) -> int | None:
        for place, piece in enumerate(self.formulas):
            of = variable_range(piece.cell, 0)
            if of.lo < box.lo and box.hi < of.hi:  # its ends are pieces of their own
                return place
        return None

    def range(self, box: Range, order: int) -> Range:
        """The range of the value (order 0) or of a derivative; all numbers where no short formula is known."""
        if (place := self._place(box)) is None or not self.exact[place]:
            return ALL
        terms = self.exact[place][order].terms
        if self.last[0] is not box:
            self.last = box, Values([box])
        return ALL if len(terms) > LONG else self.last[1].of(terms)

    def _point(self, x: float) -> Range:
        """The range of one float: the last one, if it is that."""
        last = self.last[0]
        return last if last.lo == last.hi == x else exactly(x)

    def gap(self, box: Range) -> float:
        """How far the slope's formula may be from the derivative over a box, in ulps."""
        place = self._place(box)
        return math.inf if place is None else self.gaps[place]

    def at(self, x: float) -> tuple[Any, Any]:
        """Value and slope to 60 digits: by the formulas, or where their terms cancel by mpmath."""
        value, slope = (_known(self.range(self._point(x), order)) for order in (0, 1))
        return (
            self.reference.value((x,)) if value is None else value,
            self.reference.exact_slopes((x,))[0] if slope is None else slope,
        )

    def size_at(self, x: float, order: int) -> Any:
        """What rounding the input may do to the value or the slope, or the size that the reference states."""
        stated = self.reference.slope_size if order else self.reference.size
        moved = None if stated else _known(self.range(self._point(x), order + 1))
        if moved is not None:
            return abs(x * moved) + SMALLEST_NORMAL * (1 + abs(x))
        return self.reference.slope_size_of((x,), 0) if order else self.reference.value_size((x,), self.at(x)[1:])


def _orders(f: CellFormulas) -> Sequence[Any]:
    """The value and two derivatives; nothing if they are too long, or the time is up."""
    try:
        return f.forward, (slope := f.derivative(0)), slope.derivative(0)
    except FAILURES:
        return ()


def _gap(bound: float) -> float:
    """A relative bound in ulps; below half of the least float, formulas are not compared."""
    return bound * 2.0**53 + 0.5 if bound else 0.0


def _known(x: Range) -> Any:
    """The number of a narrow range, or beyond the floats, as an mpmath number; None for other ranges."""
    if x.mig >= MAX:
        return LIMIT * x.sign
    if x.hi - x.lo <= x.mig * arb(2) ** (9 - BITS) or x.mag < TINY:
        man, exp = x.lo.man_exp()
        with mp.workprec(BITS):
            return mp.mpf((int(man), int(exp)))
    return None


@dataclass(frozen=True)
class FloatBox:
    """All floats from low to high, and bounds in ulps: of the value, of the slope, and what may replace them.

    `value` and `slope` are bounds in ulps of the exact number, inf if no digit is certain. `value_of_input` and
    `slope_of_input` are bounds in ulps of what rounding the input alone may do, |x f'(x)|, where that is larger
    than the number itself.
    """

    low: float
    high: float
    value: float = math.inf
    slope: float = math.inf
    value_of_input: float = math.inf
    slope_of_input: float = math.inf
    reason: str = field(default="", kw_only=True)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        return self.value, self.slope, self.value_of_input, self.slope_of_input

    @property
    def worst(self) -> float:
        return max(self.value, self.slope)

    def __lt__(self, other: "FloatBox") -> bool:
        return self.low < other.low


def bound(truth: Truth, low: float, high: float, rests_on: set[str]) -> FloatBox:
    """The bounds for one box. Where none is found they are inf, with the reason."""
    if between(low, high) < FEW:
        return run(truth, low, high, rests_on)
    rule, inside, assumed = truth.rule, Range(arb(low), arb(high)), set[str]()
    try:
        x = Rounded(assumed, inside)
        out = x.lift(rule.forward(x))
        slope = x.lift(rule.counted(rule.backward(1.0, out, x), 1)[0])
        of_value, of_slope = _in_ulps(out, inside, truth, 0), (0.0, 0.0)
        if out.of.mig >= MAX:
            assumed.add(OVERFLOW)
        else:
            gap = truth.gap(inside)
            plain, of_input = _in_ulps(slope, inside, truth, 1)
            of_slope = plain + gap, of_input + gap
    except Exception as reason:  # Undecided, or whatever a function for floats raises
        return FloatBox(low, high, reason=str(reason))
    rests_on |= assumed
    numbers = of_value[0], of_slope[0], of_value[1], of_slope[1]
    return FloatBox(low, high, *(x if x < LOST else math.inf for x in numbers))


def _in_ulps(y: Rounded, x: Range, truth: Truth, order: int) -> tuple[float, float]:
    """The error of the value (order 0) or the slope (1), in ulps and in ulps of |x times its derivative|."""
    if isinstance(y, Unbounded):
        raise Undecided(y.reason)
    size, absolute = y.of, y.absolute
    plain = _plain(y, size, absolute)
    if plain <= GOAL:
        return plain, plain
    size = _common(size, truth.range(x, order))
    plain = min(plain, _plain(y, size, absolute))
    if plain <= 2 * GOAL:
        return plain, plain
    moved = x * truth.range(x, order + 1)
    if not moved.mig > size.mig:
        return plain, plain
    error = y.ulps * _ulp(size.mag) + y.relative * min(y.of.mag, MAX) + absolute
    return plain, min(plain, float((error / _ulp(moved.mig)).upper()))


def _common(a: Range, b: Range) -> Range:
    """The numbers in both ranges, of which there are some."""
    return Range(max(a.lo, b.lo), min(a.hi, b.hi))


def _plain(y: Rounded, size: Range, absolute: Any) -> float:
    if size.mig >= MAX:  # inf is right
        return 0.0
    own = _ulp(size.mig)
    relative = min((y.relative * 2**53).upper(), (y.relative * min(y.of.mag, MAX) / own).upper())
    return float((y.ulps + relative + absolute / own).upper())


def _ulp(size: Any) -> Any:
    """The unit in the last place of the floats from a size on; of subnormals, the least float."""
    _, exponent = math.frexp(min(float(max(size, NORMAL).lower()), LARGEST))
    return arb(2) ** (exponent - 53)


def run(truth: Truth, low: float, high: float, rests_on: set[str]) -> FloatBox:
    """A few floats, each compared with the exact numbers; 0 with both signs. Slopes at kinks are conventions."""
    rests_on.add("at single points the rule was run, with this machine's library, and compared with 60 digits")
    rule, worst, reason = truth.rule, [0.0] * 4, ""
    floats = [_float(n) for n in range(_rank(low), _rank(high) + 1)]
    for x in [*floats, *([-0.0] if 0.0 in floats else [])]:
        try:
            out = rule.forward(x)
            slope = rule.backward(1.0, out, x)[0]
            value, exact_slope = truth.at(x)
            errors = [_off(out, value), _off(slope, exact_slope)] * 2
            if errors[0] > GOAL:
                errors[2] = _off(out, value, truth.size_at(x, 0))
            if errors[1] > GOAL and x not in truth.kinks:
                errors[3] = _off(slope, exact_slope, truth.size_at(x, 1))
        except Exception as error:  # whatever the rule raises
            return FloatBox(low, high, reason=f"at {x!r}: {error}")
        if abs(value) >= LIMIT:
            rests_on.add(OVERFLOW)
        if abs(value) >= LIMIT or x in truth.kinks:
            errors[1::2] = [0.0, 0.0]
        for i, (what, got, exact) in enumerate((("value", out, value), ("slope", slope, exact_slope))):
            if not errors[i] < LOST:
                reason = reason or f"no digit of the {what} is right at {x!r}: {got:.6g} for {mp.nstr(exact, 6)}"
        worst = [max(a, b if b < LOST else math.inf) for a, b in zip(worst, errors, strict=True)]
    return FloatBox(low, high, *worst, reason=reason)


def _off(got: float, exact: Any, size: Any = 0) -> float:
    """The error in ulps, of subnormal numbers in units of the least float."""
    if not math.isfinite(got) or max(abs(exact), abs(size)) >= SMALLEST_NORMAL:
        return ulps_of(got, exact, size)
    return float(abs(got - exact) * mp.mpf(2) ** 1074)


def cover(
    truth: Truth,
    goal: float,
    budget: int,
    rests_on: set[str],
    clock: Clock,
    tick: Callable[[], object] = lambda: None,
    give_up: Callable[[FloatBox], object] = lambda box: None,
) -> list[FloatBox]:
    """Boxes that cover the floats of the domain. The worst is halved again and again, until all meet the goal.

    `give_up` is called with a box far from the goal that halving does not improve.
    """
    goal += max((gap for gap in truth.gaps if gap < math.inf), default=0.0)
    heap: list[tuple[float, FloatBox]] = []
    for low, high in float_pieces(truth):
        for a, b in _starts(low, high):
            box = FloatBox(a, b, reason=clock.message) if clock.is_over else bound(truth, a, b, rests_on)
            heapq.heappush(heap, (-box.worst, box))
    done: list[FloatBox] = []
    while (
        heap
        and -heap[0][0] > goal
        and len(heap) + len(done) < (budget if -heap[0][0] > 4 * goal else budget // 10)
        and not clock.is_over
    ):
        _, box = heapq.heappop(heap)
        if between(box.low, box.high) < FEW or (box.worst > 4 * goal and _is_in_vain(truth, box)):
            done.append(box)
            give_up(box)
            continue
        middle = _middle(box)
        halves = (box.low, middle), (math.nextafter(middle, math.inf), box.high)
        for part in (bound(truth, a, b, rests_on) for a, b in halves):
            heapq.heappush(heap, (-_priority(part, box, goal), part))
        tick()
    boxes, explained = sorted([*done, *(box for _, box in heap)]), 0
    for i, box in enumerate(boxes):
        if box.worst == math.inf and explained < SHOWN and not clock.is_over:
            boxes[i], explained = _explained(truth, box), explained + 1
    return boxes


def _explained(truth: Truth, box: FloatBox) -> FloatBox:
    """The box with the reason why it has no bound: a float at which no digit is right, if there is one."""
    reasons = [reason for x in (_middle(box), box.low, box.high) if (reason := run(truth, x, x, set()).reason)]
    return replace(box, reason=reasons[0] if reasons else box.reason or "no digit is certain")


def _is_in_vain(truth: Truth, box: FloatBox) -> bool:
    """Is halving of no use? Its ends are half as far off as the bound says, or few floats have no bound either."""
    if box.worst < math.inf:
        ends = [run(truth, x, x, set()).bounds for x in (box.low, box.high)]
        bounds = [k for i in (0, 1) if box.bounds[i] == box.worst for k in (i, i + 2)]
        if box.bounds[bounds[0]] == box.bounds[bounds[1]]:  # those of a rounded input are no better
            bounds = bounds[::2]
        return all(2 * end[k] >= box.bounds[k] for end in ends for k in bounds)
    places = [_rank(box.low), _rank(_middle(box)), _rank(box.high) - FEW]
    return all(bound(truth, _float(n), _float(n + FEW), set()).worst == math.inf for n in places)


def _priority(box: FloatBox, whole: FloatBox, goal: float) -> float:
    """Narrow boxes are not worth halving further if that did not help, or if the error is that of the input."""
    narrow = box.high - box.low < 2.0**-3 * max(abs(box.low), abs(box.high))
    in_vain = 0.9 * whole.worst < box.worst <= 4 * goal
    of_input = max(box.value_of_input, box.slope_of_input) <= 4 * goal
    return min(box.worst, goal) if narrow and (in_vain or of_input) else box.worst


_STARTS = [0.0, 2.0**-1022, 1e-150, 1e-16, 2.0**-7, 0.5, 1.0, 2.0, 20.0, 350.0, 700.0, 760.0, 1e16, 1e150, LARGEST]


def _starts(low: float, high: float) -> Iterable[tuple[float, float]]:
    """The piece cut at sizes where floats change their ways."""
    cuts = sorted({s * x for x in _STARTS for s in (-1.0, 1.0) if low < s * x < high})
    for cut in cuts:
        yield low, cut
        low = math.nextafter(cut, math.inf)
    yield low, high


def _middle(box: FloatBox) -> float:
    """The float halfway in the row of all floats."""
    return _float((_rank(box.low) + _rank(box.high)) // 2)


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


def float_pieces(truth: Truth) -> list[tuple[float, float]]:
    """The floats of the domain of a rule of one input, cut at its branch points, which are pieces of their own."""
    out = []
    for piece in truth.pieces:
        ((left, right),) = piece.ends
        low, high = float(left), float(right)
        if low == high:
            if left == Fraction(low) and piece.status != "end" and inside(truth.rule)((low,)):
                out.append((low, low))
            continue
        first = low if _is_inside(low, left) else math.nextafter(low, math.inf)
        last = high if _is_inside(-high, -right) else math.nextafter(high, -math.inf)
        first, last = max(first, -LARGEST), min(last, LARGEST)
        if first <= last:
            out.append((first, last))
    return sorted(out)


def _is_inside(rounded: float, end: Any) -> bool:
    """Is the float that an end was rounded to inside of it?"""
    return not math.isinf(rounded) and Fraction(rounded) > end
