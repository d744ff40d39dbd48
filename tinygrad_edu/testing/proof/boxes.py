"""The rounding error of a rule over all floats of a box, in ulps; and boxes that cover a domain of floats."""

import heapq
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from flint import arb

from ...engine.rule import Rule
from ..mathematics import reference_of
from ..points import inside
from ..reference import LIMIT
from ..reference import ulps as ulps_of
from .cells import Split, Undecided
from .exact import Exact, variable_range
from .formula import Formulas, Piece
from .ranges import ALL, INF, Range
from .rounded import MAX, NORMAL, Paths, Rounded, Unbounded

LARGEST = math.nextafter(math.inf, 0)
OVERFLOW = "where the value is beyond the floats, so that inf is right, the slope is not looked at"
GOAL = 4.0  # ulps: nearer than this is not looked for
NARROW = 2.0**-20  # of its numbers: few boxes that have no bound are halved further
LONG = 120  # terms: a range of so many terms is too wide to be of use
FEW = 4  # floats: a box of so few is decided by running them


class Truth:
    """The exact value, slope and second derivative of a rule of one input, as formulas on its pieces."""

    def __init__(self, rule: Rule, pieces: Sequence[Formulas]):
        self.rule, self.pieces = rule, pieces
        self.exact = [(f.forward, slope := f.derivative(0), slope.derivative(0)) for f in pieces]
        self._differences: dict[Any, tuple[Exact, Exact]] = {}

    def _place(self, box: Range) -> int:
        for place, piece in enumerate(self.pieces):
            of = variable_range(piece.cell, 0)
            if of.lo <= box.lo and box.hi <= of.hi:
                return place
        raise Undecided("no formula is known here")

    def range(self, box: Range, order: int) -> Range:
        """The range of the value (order 0) or of a derivative; all numbers where the formula is long."""
        formula = self.exact[self._place(box)][order]
        return ALL if len(formula.above) + len(formula.below) > LONG else formula.range([box])

    def apart(self, box: Range, choices: Sequence[Any], order: int) -> Range:
        """How far the branch that floats chose is from the value (order 0) or the slope (1), in exact numbers."""
        place = self._place(box)
        key = place, tuple(choices)
        if key not in self._differences:
            cell = replace(self.pieces[place].cell, choices=list(choices))
            try:
                branch = Formulas(self.rule, cell)
            except (Split, IndexError, ValueError, ZeroDivisionError):
                raise Undecided("a branch that rounding decides") from None
            value, slope, _ = self.exact[place]
            self._differences[key] = branch.forward - value, branch.slopes[0] - slope
        return self._differences[key][order].range([box])


@dataclass(frozen=True)
class Box:
    """All floats from low to high, and bounds in ulps: of the value, of the slope, and what may replace them.

    `value` and `slope` are bounds in ulps of the exact number. `value_of_input` and `slope_of_input` are bounds in
    ulps of what rounding the input alone may do, |x f'(x)|, where that is larger than the number itself.
    """

    low: float
    high: float
    value: float
    slope: float
    value_of_input: float
    slope_of_input: float
    reason: str = ""

    @property
    def worst(self) -> float:
        return max(self.value, self.slope)

    def __lt__(self, other: "Box") -> bool:
        return self.low < other.low


def bound(rule: Rule, low: float, high: float, exact: Truth | None, rests_on: set[str]) -> Box:
    """The bounds for one box. Where none is found they are inf, with the reason."""
    if low == high or _between(low, high) < FEW:
        return run(rule, low, high, rests_on)
    inside, paths = Range(arb(low), arb(high)), Paths()
    found: list[tuple[float, ...]] = []
    try:
        while True:
            x = Rounded(paths, inside)
            out = x.lift(rule.forward(x))
            value_may_differ = paths.may_differ
            slope = x.lift(rule.counted(rule.backward(1.0, out, x), 1)[0])
            of_value = _in_ulps(out, inside, exact, 0, paths.choices if value_may_differ else None)
            if out.of.mig >= MAX:
                rests_on.add(OVERFLOW)
                found.append((*of_value, 0.0, 0.0))
            else:
                of_slope = _in_ulps(slope, inside, exact, 1, paths.choices if paths.may_differ else None)
                found.append((*of_value, *of_slope))
            if not paths.next():
                break
    except Undecided as reason:
        return Box(low, high, math.inf, math.inf, math.inf, math.inf, str(reason))
    rests_on |= paths.rests_on
    value, value_of_input, slope_, slope_of_input = (max(column) for column in zip(*found, strict=True))
    return Box(low, high, value, slope_, value_of_input, slope_of_input)


def _in_ulps(y: Rounded, x: Range, exact: Truth | None, order: int, choices: Any) -> tuple[float, float]:
    """The error in ulps of the number, and in ulps of |x times its derivative| where that is larger.

    y is the value (order 0) or the slope (1); `choices` are the branches that floats took, if they may have taken
    others than the exact numbers.
    """
    if isinstance(y, Unbounded):
        raise Undecided(y.reason)
    size, absolute = y.of, y.absolute
    if choices is not None:
        if exact is None or not (apart := exact.apart(x, choices, order).mag) < INF:
            raise Undecided("a branch that rounding decides")
        absolute = absolute + apart
        size = exact.range(x, order) if apart > 0 else size
    plain = _plain(y, size, absolute)
    if plain <= GOAL or exact is None:
        return plain, plain
    size = _common(size, exact.range(x, order))
    plain = min(plain, _plain(y, size, absolute))
    if plain <= 2 * GOAL:
        return plain, plain
    moved = x * exact.range(x, order + 1)
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


def run(rule: Rule, low: float, high: float, rests_on: set[str]) -> Box:
    """A few floats, each compared with the exact numbers of 60 digits."""
    rests_on.add("at single points the rule was run, with this machine's library, and compared with 60 digits")
    reference, worst, x = reference_of(rule), [0.0] * 4, low
    while x <= high:
        out = rule.forward(x)
        slope = rule.backward(1.0, out, x)[0]
        try:
            exact = reference.value((x,)), reference.exact_slopes((x,))[0]
            found = [n for a, b in zip((out, slope), exact, strict=True) for n in [ulps_of(a, b)] * 2]
            if found[0] > GOAL:
                found[1] = ulps_of(out, exact[0], reference.value_size((x,), exact[1:]))
            if found[2] > GOAL:
                found[3] = ulps_of(slope, exact[1], reference.slope_size_of((x,), 0))
        except (ValueError, ZeroDivisionError) as error:
            return Box(low, high, math.inf, math.inf, math.inf, math.inf, str(error))
        if abs(exact[0]) >= LIMIT:
            found[2:] = [0.0, 0.0]
            rests_on.add(OVERFLOW)
        worst = [max(pair) for pair in zip(worst, found, strict=True)]
        x = math.nextafter(x, math.inf)
    return Box(low, high, worst[0], worst[2], worst[1], worst[3])


def cover(
    rule: Rule,
    pieces: Iterable[tuple[float, float]],
    exact: Truth | None,
    goal: float,
    budget: int,
    rests_on: set[str],
    tick: Callable[[], object] = lambda: None,
) -> list[Box]:
    """Boxes that cover the pieces. The worst one is halved again and again, until all meet the goal."""
    heap: list[tuple[float, Box]] = []
    for low, high in pieces:
        for a, b in _starts(low, high):
            box = bound(rule, a, b, exact, rests_on)
            heapq.heappush(heap, (-box.worst, box))
    done: list[Box] = []
    in_vain = 0  # narrow boxes without a bound that were halved
    while (
        heap
        and -heap[0][0] > goal
        and len(heap) + len(done) < (budget if -heap[0][0] > 4 * goal else budget // 10)
    ):
        _, box = heapq.heappop(heap)
        in_vain += box.worst == math.inf and box.high - box.low < NARROW * max(abs(box.low), abs(box.high))
        if in_vain > 200 or box.low == box.high or _between(box.low, box.high) < FEW:
            done.append(box)
            continue
        middle = _middle(box.low, box.high)
        for a, b in ((box.low, middle), (math.nextafter(middle, math.inf), box.high)):
            part = bound(rule, a, b, exact, rests_on)
            heapq.heappush(heap, (-_priority(part, box, goal), part))
        tick()
    return sorted([*done, *(box for _, box in heap)])


def _priority(box: Box, whole: Box, goal: float) -> float:
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


def _middle(low: float, high: float) -> float:
    """A float between the two: halfway, or between their logarithms if they are far apart."""
    if low < 0 < high:
        return 0.0
    if low < 0:
        return (
            -math.nextafter(_middle(-high, -low), 0) if -high < math.nextafter(_middle(-high, -low), 0) else -high
        )
    if low == 0 or high / low > 4:
        least = math.log2(low) if low > 0 else -1075.0
        middle = 2.0 ** ((least + math.log2(high)) / 2) if least > -1075 or high > 5e-324 else low
        return min(max(middle, low), math.nextafter(high, 0))
    return min(low + (high - low) / 2, math.nextafter(high, 0))


def _between(low: float, high: float) -> int:
    """How many floats there are from low to high, less one."""
    return _rank(high) - _rank(low)


def _rank(x: float) -> int:
    """The place of a float in the row of all floats."""
    (bits,) = struct.unpack("<q", struct.pack("<d", abs(x)))
    return int(bits if x > 0 else -bits)


def float_pieces(rule: Rule, pieces: Sequence[Piece]) -> list[tuple[float, float]]:
    """The floats of the domain of a rule of one input, cut at its branch points, which are pieces of their own."""
    out = []
    points = {float(p.ends[0][0]) for p in pieces if p.ends[0][0] == p.ends[0][1] == Fraction(float(p.ends[0][0]))}
    for piece in pieces:
        low, high = (float(end) for end in piece.ends[0])
        if low == high:
            if low in points and piece.status != "end" and inside(rule)((low,)):
                out.append((low, low))
            continue
        first = low if _is_inside(low, piece.ends[0][0]) else math.nextafter(low, math.inf)
        last = high if _is_inside(-high, -piece.ends[0][1]) else math.nextafter(high, -math.inf)
        first, last = max(first, -LARGEST), min(last, LARGEST)
        if first <= last:
            out.append((first, last))
    return sorted(out)


def _is_inside(rounded: float, end: Any) -> bool:
    """Is the float that an end was rounded to inside of it?"""
    return not math.isinf(rounded) and Fraction(rounded) > end


def truth_of(rule: Rule, formulas: Sequence[Formulas]) -> Truth | None:
    """The exact numbers of a rule of one input; None where no formula is known."""
    return Truth(rule, formulas) if formulas and rule.n_inputs == 1 else None
