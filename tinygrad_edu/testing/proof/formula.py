"""Is a rule's slope the derivative of its forward function, over every real number of a domain?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import mpmath as mp
from flint import arb

from ...engine.rule import Rule
from ..points import inside
from ..reference import Reference, high
from ..subject import Subject
from .cells import Cell, Split, Undecided
from .exact import Exact, variables
from .ranges import Range, exactly

TOLERANCE = 1e-12  # a formula may have constants that are floats
CELLS = 600
REACH = 1e6  # an exponential of a larger number would take mpmath forever
NOTHING = arb(10) ** -300  # a difference that floats cannot show
CONVENTION = "the slope is a convention"
SMALL = "where both are below 1e-300, not at all"


@dataclass(frozen=True)
class Piece:
    """A part of the domain and what was found there.

    `status` is "identity": all terms of slope - derivative cancel; "bounded": |slope - derivative| is at most
    `bound` times |derivative|; "kink": the slope is a convention, between the slopes of the neighbours; "end": no
    finite derivative was found, and the slope is a convention; "undecided".
    """

    where: str
    ends: tuple[tuple[Any, Any], ...]
    status: str
    bound: float
    note: str = ""


class Formulas:
    """Forward and slopes of a rule on one cell, as formulas."""

    def __init__(self, rule: Rule, cell: Cell):
        self.cell, self.inputs = cell, variables(cell)
        one = self.inputs[0]
        self.forward = one.lift(rule.forward(*self.inputs))
        self.slopes = [
            one.lift(share)
            for share in rule.counted(rule.backward(1, self.forward, *self.inputs), len(self.inputs))
        ]

    def derivative(self, i: int) -> Exact:
        return self.forward.derivative(i)


def pieces_of(rule: Rule, start: Sequence[Cell]) -> tuple[list[Piece], list[Formulas]]:
    """All pieces of the cells, and the formulas on those that are open. Raises AssertionError for a wrong rule."""
    todo, found = list(reversed(start)), list[tuple[Cell, Piece]]()
    open_cells, others, unknown = list[Formulas](), list[Formulas](), list[Cell]()
    while todo:
        if len(open_cells) + len(others) > CELLS:
            raise ValueError(f"{rule.name} has more than {CELLS} branches: give a smaller domain.")
        cell = todo.pop()
        try:
            formulas = Formulas(rule, cell)
        except Split as split:
            todo += reversed(split.cells)
            continue
        except (Undecided, ZeroDivisionError, ValueError, OverflowError) as reason:
            edge = any(cell.is_point(i) for i in range(len(cell.ends)))
            note = CONVENTION if edge else str(reason)
            unknown += [] if edge else [cell]
            found.append((cell, Piece(str(cell), cell.ends, "end" if edge else "undecided", math.inf, note)))
            continue
        if cell.same or any(cell.is_point(i) for i in range(len(cell.ends))):
            others.append(formulas)
        else:
            open_cells.append(formulas)
            found.append((cell, _on_open(rule, formulas)))
    for formulas in others:
        found.append((formulas.cell, _on_edge(rule, formulas, open_cells, unknown)))
    found.sort(key=lambda pair: [(float(low), float(high)) for low, high in pair[0].ends])
    return [piece for _, piece in found], open_cells


def _on_open(rule: Rule, formulas: Formulas) -> Piece:
    cell = formulas.cell
    differences = [slope - formulas.derivative(i) for i, slope in enumerate(formulas.slopes)]
    if all(difference.is_zero() for difference in differences):
        return Piece(str(cell), cell.ends, "identity", 0.0)
    worst, note = 0.0, ""
    for i, difference in enumerate(differences):
        if not difference.is_zero():
            bound, reason = _bounded(rule, formulas, i, difference)
            worst, note = max(worst, bound), note or reason
    status = "bounded" if worst <= TOLERANCE else "undecided"
    return Piece(str(cell), cell.ends, status, worst, note)


def _bounded(rule: Rule, formulas: Formulas, i: int, difference: Exact) -> tuple[float, str]:
    """A bound on |difference| / |derivative| over the cell, by boxes; refutes at their midpoints."""
    derivative, difference = formulas.derivative(i).cancelled(), difference.cancelled()
    try:
        ratio = difference / derivative
        if (whole := ratio.range_of(ratio).mag) <= TOLERANCE:  # a float constant in place of the exact one
            return float(whole.upper()), ""
    except (Undecided, Split):
        pass  # the derivative changes its sign
    boxes = [[(float(low), float(high)) for low, high in formulas.cell.ends]]
    worst, examined, note = 0.0, 0, ""
    while boxes:
        boxes.sort(key=lambda box: any(min(map(abs, side)) > REACH for side in box))  # last: not to be refuted
        box = boxes.pop(0)
        middle = tuple(_middle(*side) for side in box)
        examined += 1
        at = [exactly(x) for x in middle]
        visible = difference.on(at).mig > TOLERANCE * derivative.on(at).mag or examined < 10
        if visible and all(low < x < high for x, (low, high) in zip(middle, box, strict=True)):
            refute(rule, middle)
        ranges = [Range(arb(low), arb(high)) for low, high in box]
        wrong, size = difference.on(ranges).mag, derivative.on(ranges).mig
        if wrong <= TOLERANCE * size or wrong <= NOTHING:
            small = wrong <= NOTHING
            worst, note = max(worst, 0.0 if small else float((wrong / size).upper())), note or SMALL * small
            continue
        side = max(range(len(box)), key=lambda k: _spread(*box[k]))
        if examined > 1000 or _spread(*box[side]) < 1e-12:
            return math.inf, f"not decided from {' and '.join(f'{low:.6g} to {high:.6g}' for low, high in box)}"
        low, high = box[side]
        for part in ((low, middle[side]), (middle[side], high)):
            boxes.append([*box[:side], part, *box[side + 1 :]])
    return worst, note


def refute(rule: Rule, point: tuple[float, ...]) -> None:
    """Raises AssertionError if the rule is wrong at a point, on many digits and on floats."""
    subject = Subject(rule, Reference(rule.forward), 32.0)
    if any(abs(x) > REACH for x in point):
        return
    try:
        wrong = [row for row in subject.mathematics(point) if row[0] != "the value"]
    except Exception:  # not defined there, or not for mpmath numbers
        return
    if wrong:
        what, expected, got, _ = wrong[0]
        raise Refuted(rule, point, what, expected, got)


class Refuted(AssertionError):
    """A rule is wrong at a float: `point`. The rule was run there."""

    def __init__(self, rule: Rule, point: tuple[float, ...], what: str, expected: Any, got: Any, facts: str = ""):
        self.rule, self.point = rule, point
        shown = ", ".join(map(repr, point))
        super().__init__(
            f"{rule.name} is refuted: at {shown} {what} is {mp.nstr(high(got), 17)}, "
            f"but the derivative of its forward function is {mp.nstr(high(expected), 17)}.{facts}"
        )


def _on_edge(rule: Rule, edge: Formulas, neighbours: list[Formulas], unknown: list[Cell]) -> Piece:
    """At a branch point the slopes must be those of both sides, or lie between them; at a jump there are none."""
    cell = edge.cell
    status, bound, notes = "identity", 0.0, []
    is_known, jumps = not any(_touches(other, cell) for other in unknown), False
    for i, slope in enumerate(edge.slopes):
        tied = cell.is_point(i) or any(i in pair for pair in cell.same)
        limits = [] if tied else [edge.derivative(i)]
        for other in neighbours if tied else ():
            if _touches(other.cell, cell):
                try:
                    limits.append(other.derivative(i).on(edge.inputs))
                    jump = other.forward.on(edge.inputs) - edge.forward
                    jumps = jumps or bool(jump.range_of(jump).sign)
                except (Undecided, Split, ZeroDivisionError):
                    is_known = False
        if not limits:
            return Piece(str(cell), cell.ends, "end", math.inf, CONVENTION)
        apart = max(_apart(slope - limit, limit) for limit in limits)
        if apart <= TOLERANCE:
            bound = max(bound, apart)
            continue
        ranges = [limit.range_of(limit) for limit in limits]
        own = slope.range_of(slope)
        low, top = min(r.lo for r in ranges), max(r.hi for r in ranges)
        if tied and low <= own.lo and own.hi <= top:
            status = "kink"
            ends = sorted({float(end.mid()) if end.is_finite() else float(end) for r in ranges for end in r})
            notes.append(
                f"slope {float(own.lo.mid()):.6g} by convention, {ends[0]:.6g} and {ends[-1]:.6g} beside it"
                if not cell.same
                else "equal inputs share by convention"
            )
            continue
        if jumps:
            return Piece(str(cell), cell.ends, "end", math.inf, CONVENTION)
        if not is_known:
            return Piece(str(cell), cell.ends, "undecided", math.inf, "the slope beside it is not known")
        if all(cell.is_point(j) for j in range(len(cell.ends))):
            refute_edge(rule, cell, i, own, ranges)
        return Piece(str(cell), cell.ends, "undecided", math.inf, "the slope is not that of the neighbours")
    if status == "identity" and bound:
        status = "bounded"
    return Piece(str(cell), cell.ends, status, bound, "; ".join(dict.fromkeys(notes)))


def refute_edge(rule: Rule, cell: Cell, i: int, own: Range, beside: list[Range]) -> None:
    """Raises Refuted if the rule, run on the float at a branch point, gives no slope between its neighbours'."""
    point = tuple(float(low) for low, _ in cell.ends)
    if any(Fraction(x) != low for x, (low, _) in zip(point, cell.ends, strict=True)):
        return
    out = rule.forward(*point)
    got = float(rule.backward(1.0, out, *point)[i])
    low, top = (float(x.mid()) for x in (min(r.lo for r in beside), max(r.hi for r in beside)))
    if not low - 1e-9 * abs(low) <= got <= top + 1e-9 * abs(top):
        nearest = low if got < low else top
        raise Refuted(
            rule, point, f"the slope for input {i}", nearest, got, " It is an edge between two branches."
        )


def _apart(difference: Exact, limit: Exact) -> float:
    """A bound on |difference| / |limit|; 0 if all terms of the difference cancel."""
    found, size = difference.range_of(difference).mag, limit.range_of(limit).mig
    if difference.is_zero() or found <= NOTHING:
        return 0.0
    return float((found / size).upper()) if size > 0 else math.inf


def _touches(open_cell: Cell, edge: Cell) -> bool:
    """Is the edge part of the border of an open cell?"""
    if len(open_cell.ends) != len(edge.ends) or any((j, i) in open_cell.above for i, j in edge.above):
        return False
    return all(low <= a and b <= high for (low, high), (a, b) in zip(open_cell.ends, edge.ends, strict=True))


def _middle(low: float, high: float) -> float:
    def level(x: float) -> float:
        return math.copysign(math.log1p(min(abs(x), 1e300)), x)

    if math.isinf(low) and math.isinf(high):
        return 0.83  # not 0, where wrong slopes are often right
    if high - low < 2 or (math.isinf(low) == math.isinf(high) and abs(high - low) < 100):
        return low + (high - low) / 2
    y = (level(low) + level(high)) / 2
    return math.copysign(math.expm1(abs(y)), y)


def _spread(low: float, high: float) -> float:
    return (high - low) / max(1.0, abs(_middle(low, high)))


def is_outside(rule: Rule, piece: Piece) -> bool:
    """Is an undecided piece no part of the domain, by the rule's own check?"""
    if piece.status not in ("undecided", "end"):
        return False
    middles = [_some_number(float(low), float(high)) for low, high in piece.ends]
    return not inside(rule)(tuple(middles))


def _some_number(low: float, high: float) -> float:
    """A number of an interval that is not whole, if it can be had: so that pow refuses a negative base."""
    if low == high:
        return low
    if math.isinf(low) and math.isinf(high):
        return 0.3
    return high - 1.3 if math.isinf(low) else low + 1.3 if math.isinf(high) else low + (high - low) * 0.37
