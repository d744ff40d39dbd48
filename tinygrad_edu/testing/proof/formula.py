"""Is a rule's slope the derivative of its forward function, over every real number of a domain?"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import Any

import mpmath as mp
from flint import arb

from ...engine.rule import Rule
from ..check.case import Case
from ..check.points import inside
from ..check.reference import Reference, high
from .cells import Cell, Split, Undecided
from .exact import Exact, Values, variables
from .ranges import INF, Range, Unknown, exactly

__tracebackhide__ = True  # pytest shows the user's line, not ours

TOLERANCE = 1e-12  # a formula may have constants that are floats
CELLS = 600
STARRED = 16.0  # ulps: beyond it, a bound relative to rounding the input tells more
NOTHING = arb(2) ** -1075  # half of the least float
NEAR = arb(2) ** -(2**60)
STEEP = 1e12
UPSTREAMS = (2.0, -1.0, 0.5, 1e3, -3e-5, 0.0, 1e9, 1e-12)
MEANING = {  # what is known of a piece, from the best to the worst
    "identity": "slope = derivative, exactly",
    "bounded": "|slope - derivative| is bounded by {:.2g} of it",
    "kink": "kink",
    "end": "no finite derivative",
    "undecided": "undecided",
}
NOT_PROVEN = "is tested at points, and not proven"
FAILURES = (Undecided, Split, ZeroDivisionError, RecursionError)


@dataclass(eq=False)
class Piece:
    """A part of the domain, the rule's formulas there, and what was proven.

    `status` is "identity": all terms of slope - derivative cancel; "bounded": |slope - derivative| is at most
    `bound` times |derivative|; "kink": the slope is a convention, between the slopes of the neighbours; "end":
    there is no finite derivative, and the slope is a convention, or tested at points; "undecided". A slope is
    Unknown where it is infinite or 0/0. `apart`: slope - derivative, and the derivative, where the terms do not
    cancel.
    """

    rule: Rule
    cell: Cell
    status: str = "undecided"
    bound: float = math.inf
    note: str = ""
    inputs: list[Exact] = field(default_factory=list)
    forward: Any = None
    slopes: list[Any] = field(default_factory=list)
    apart: tuple[Exact, Exact] | None = None
    starred_from: float = STARRED  # ulps

    @property
    def where(self) -> str:
        return str(self.cell)

    @cached_property
    def orders(self) -> list[Exact]:
        """The value and two derivatives for one input; nothing if they are not known, or the time is up."""
        with contextlib.suppress(*FAILURES):
            if self.inputs and self.cell.is_open:
                return [self.forward, slope := self.forward.derivative(0), slope.derivative(0)]
        return []


class Refuted(AssertionError):
    """A rule is wrong at a float: `point`. The rule was run there."""

    def __init__(self, rule: Rule, point: tuple[float, ...], what: str, expected: Any, got: Any, facts: str = ""):
        self.rule: Rule = rule
        self.point: tuple[float, ...] = point
        shown = ", ".join(map(repr, point))
        super().__init__(
            f"{rule.name} is refuted: at {shown} {what} is {mp.nstr(high(got), 17)}, "
            f"but the derivative of its forward function is {mp.nstr(high(expected), 17)}.{facts}"
        )


# --- Formulas -----------------------------------------------------------------------------------------------


def pieces_of(rule: Rule, start: Sequence[Cell]) -> list[Piece]:
    """All pieces of the cells. Raises Refuted for a wrong rule."""
    todo, pieces = list(reversed(start)), list[Piece]()
    while todo:
        if len(pieces) > CELLS:
            raise ValueError(f"{rule.name} has more than {CELLS} branches: give a smaller domain.")
        piece = Piece(rule, todo.pop())
        try:
            _run_on_formulas(piece)
        except Split as split:
            todo += reversed(split.cells)
            continue
        except (Undecided, RecursionError) as reason:
            piece.note, piece.inputs = str(reason), []
        pieces.append(piece)
        if piece.inputs and piece.cell.is_open:
            _compare(piece, [])
    for piece in pieces:
        if piece.inputs and not piece.cell.is_open:
            _compare(piece, [other for other in pieces if other.cell.is_open and _touches(other.cell, piece.cell)])
    return sorted(pieces, key=lambda piece: [(float(low), float(high)) for low, high in piece.cell.ends])


def _run_on_formulas(piece: Piece) -> None:
    """The formulas of a piece, of which each share is upstream times the slope.

    Upstream is a variable, too, and a branch on it divides its numbers. Raises Split where the rule branches,
    Undecided where it has no formulas, Refuted or Undecided where a share is something else.
    """
    rule, cell, n = piece.rule, piece.cell, len(piece.cell.ends)
    todo = [replace(cell, ends=(*cell.ends, (-math.inf, math.inf)))]
    while todo:
        part = todo.pop()
        *piece.inputs, upstream = variables(part)
        one = upstream.lift(1)
        try:
            piece.forward = one.lift(_call(rule.forward, *piece.inputs))
            rows = (_call(rule.backward, u, piece.forward, *piece.inputs) for u in (one, upstream))
            piece.slopes, shares = ([share * one for share in rule.counted(row, n)] for row in rows)
            both = zip(shares, piece.slopes, strict=True)
            known = [pair for pair in both if not all(isinstance(x, Unknown) for x in pair)]
            apart = [share - upstream * slope for share, slope in known]
            is_linear = all(not isinstance(a, Unknown) and a.is_zero() for a in apart)
        except Split as split:
            is_linear = not any(n in pair for c in split.cells for pair in (*c.above, *c.same))
            if is_linear and split.cells[0].ends[n] == part.ends[n]:
                raise Split(replace(c, ends=c.ends[:n]) for c in split.cells) from None
            todo += split.cells
        if not is_linear:
            _refute_upstream(rule, cell, *map(float, part.ends[n]))
            raise Undecided("a share is not proven to be upstream times the slope")


def _call(function: Any, *inputs: Any) -> Any:
    """function(*inputs). Raises Undecided where it cannot be run on formulas."""
    try:
        return function(*inputs)
    except (Split, Undecided, RecursionError):
        raise
    except Exception as error:  # whatever a function for floats raises
        raise Undecided(f"no formula: {type(error).__name__}: {error}") from None


def _refute_upstream(rule: Rule, cell: Cell, low: float, high: float) -> None:
    """Raises Refuted if a share is not upstream times the slope at a float of the cell."""
    upstreams = (_some_number(low, high, 0.37), _some_number(low, high, 0.83), *UPSTREAMS)
    for point, upstream in itertools.product(itertools.islice(points_of(cell), 6), upstreams):
        with contextlib.suppress(ValueError, ArithmeticError, TypeError):
            out = rule.forward(*point)
            slopes, shares = (rule.counted(rule.backward(u, out, *point), len(point)) for u in (1.0, upstream))
            for i, (slope, share) in enumerate(zip(slopes, shares, strict=True)):
                expected = upstream * slope
                if not math.isclose(share, expected, rel_tol=1e-9, abs_tol=1e-300) and expected == expected:
                    what = f"the share for input {i} and upstream {upstream:g}"
                    facts = " A share is upstream times the slope."
                    raise Refuted(rule, point, what, expected, share, facts)


# --- Slope and derivative -------------------------------------------------------------------------------------


def _compare(piece: Piece, neighbours: list[Piece]) -> None:
    """Compares the slopes of a piece with the derivatives, or, at an edge, with those of the open neighbours."""
    cell, inputs = piece.cell, range(len(piece.slopes))
    ties = [[i for i in inputs if cell.first(i) == first] for first in {cell.first(i) for i, _ in cell.same}]
    together = [group for group in ties if not cell.is_point(group[0])]
    try:
        if cell.is_open:
            verdicts = [_on_open(piece, i) for i in inputs]
        else:
            verdicts = [_at_edge(piece, neighbours, group) for group in (*together, *([i] for i in inputs))]
    except FAILURES as reason:
        piece.note = str(reason) or "a branch"
        return
    kinds, bounds, notes = zip(*verdicts, strict=True)
    piece.status, piece.bound = max(kinds, key=[*MEANING].index), max(bounds)
    piece.note = "; ".join(dict.fromkeys(filter(None, notes)))


def _on_open(piece: Piece, i: int) -> tuple[str, float, str]:
    """Status, bound and note: do all terms of slope - derivative cancel, or is it relatively small?"""
    derivative = piece.forward.derivative(i)
    difference = piece.slopes[i] - derivative
    if difference.is_zero():
        return "identity", 0.0, ""
    for point in itertools.islice(points_of(piece.cell), 6):
        refute(piece.rule, point)
    piece.apart = difference, derivative
    apart = _apart(*piece.apart)
    if apart <= TOLERANCE:
        return "bounded", apart, ""
    return "undecided", math.inf, "slope - derivative is not seen to be 0"


def bounded_by(piece: Piece, box: Range, middle: float) -> float:
    """A bound on |slope - derivative| / |derivative| in a box. Raises Refuted if its middle shows a wrong rule."""
    if piece.apart is None or piece.status == "bounded":
        return piece.bound
    at, around = (Values([x]) for x in (exactly(middle), box))
    (apart, slope), (wrong, size) = ([values.of(f) for f in piece.apart] for values in (at, around))
    if apart.mig > TOLERANCE * slope.mag:
        refute(piece.rule, (middle,))
    return _quotient(wrong, size)


def _apart(difference: Exact | Unknown, derivative: Exact) -> float:
    """A bound on |difference| / |derivative|; 0 if all terms of the difference cancel."""
    if isinstance(difference, Unknown) or difference.is_zero():
        return math.inf if isinstance(difference, Unknown) else 0.0
    with contextlib.suppress(*FAILURES):  # the derivative may change its sign
        if (bound := _quotient((difference / derivative).range, exactly(1))) < math.inf:
            return bound
    return _quotient(difference.range, derivative.range)


def _quotient(wrong: Range, size: Range) -> float:
    """A bound on |wrong| / |size|; 0 if wrong is below the least float."""
    if wrong.mag <= NOTHING:
        return 0.0
    return float((wrong.mag / size.mig).upper()) if size.mig > 0 and wrong.mag < INF else math.inf


def refute(rule: Rule, point: tuple[float, ...]) -> None:
    """Raises Refuted if the rule is wrong at a point, on many digits and on floats."""
    try:
        rows = Case(rule, Reference(rule.forward), 32.0).mathematics(point)
    except Exception:  # not defined there, or not for mpmath numbers
        return
    for what, expected, got, _ in rows:
        if what != "the value":
            raise Refuted(rule, point, what, expected, got)


# --- Edges: branch points, ties and closed ends ---------------------------------------------------------------


def _at_edge(piece: Piece, neighbours: list[Piece], group: Sequence[int]) -> tuple[str, float, str]:
    """The slope for an input at an edge is the derivative where there is one, else between the slopes beside it.

    Of equal inputs that move together, it is the sum of their shares. Returns status, bound and note.
    """
    cell, i, touching = piece.cell, group[0], [other for other in neighbours if other.inputs]
    slope = sum((piece.slopes[j] for j in group), piece.inputs[0].lift(0))
    what = "the sum of the slopes of the equal inputs" if group[1:] else f"the slope for input {i}"
    is_tied = cell.is_point(i) or any(i in pair for pair in cell.same)  # it cannot move while the others stay
    is_fixed = is_tied and not group[1:]
    limits, jumps = _limits(piece, touching, i) if is_fixed else ([piece.forward.derivative(i)], False)
    known = [limit for limit in limits if limit is not None]
    unknown = [point for other in neighbours if not other.inputs for point in points_of(other.cell)]
    is_known = not any(map(inside(piece.rule), unknown))
    if not isinstance(slope, Unknown) and known and len(known) == len(limits):
        apart = max(_apart(slope - limit, limit) for limit in known)
        if apart <= TOLERANCE:
            return "bounded" if apart else "identity", apart, ""
        sides = [(a, b) for a, b in itertools.combinations(known, 2) if _apart(a - b, b) > TOLERANCE]
        for product in [(slope - a) * (b - slope) for a, b in sides]:
            with contextlib.suppress(*FAILURES):
                if product.is_zero() or bool(product.range.lo >= 0) or product.sign() >= 0:  # nowhere outside
                    ends = sorted(float(end) for limit in known for end in limit.range)
                    beside = f"{ends[0]:.6g} and {ends[-1]:.6g} beside it"
                    text = f"slope {float(slope.range.lo):.6g} by convention, {beside}"
                    return "kink", 0.0, "equal inputs share by convention" if cell.same else text
        if not jumps and is_known:
            _refute_edge(piece, group, what)
            raise Undecided(f"{what} is not {'between those' if sides else 'that'} of the neighbours")
    is_single = bool(limits) and len(cell.ends) == 1
    if is_known and (jumps or (is_single and all(_is_infinite(piece, other) for other in touching))):
        return "end", 0.0, "the slope is a convention"
    if is_known and len(cell.ends) > 1 and _refute_edge(piece, group, what):
        return "end", 0.0, f"{what} {NOT_PROVEN}"
    raise Undecided("the slope beside it is not known")


def _limits(edge: Piece, touching: Sequence[Piece], i: int) -> tuple[list[Exact | None], bool]:
    """The slopes for input i of the neighbours at the edge, None where they are not known; is there a jump?"""
    limits, jumps = list[Exact | None](), False
    for other in touching:
        limits.append(None)
        with contextlib.suppress(*FAILURES):
            jump = other.forward.limit(edge.inputs, i) - edge.forward
            jumps = jumps or bool(not jump.is_zero() and jump.range.mig > 0)  # proven, not only not seen to be 0
            limits[-1] = other.forward.derivative(i).limit(edge.inputs, i)
    return limits, jumps


def _is_infinite(edge: Piece, other: Piece) -> bool:
    """Does the slope of a neighbour grow beyond any bound towards the edge, a single point?"""
    start, at, h = other.cell.ends[0][0], edge.cell.ends[0][0], Range(arb(0), NEAR)
    slope = other.forward.derivative(0).on([exactly(at) + h if start == at else exactly(at) - h])
    return not isinstance(slope, Unknown) and bool(slope.mig > STEEP)


def _refute_edge(piece: Piece, group: Sequence[int], what: str) -> bool:
    """Raises Refuted if a float of an edge has a slope outside of those on its two sides. Is there a float?"""
    rule, points = piece.rule, list(itertools.islice(points_of(piece.cell), 4))
    for point in points:

        def along(x: Any, point: tuple[float, ...] = point) -> Any:
            return rule.forward(*(x if i in group else mp.mpf(y) for i, y in enumerate(point)))

        sides = list[Any]()
        for side in (-1, 1):
            with contextlib.suppress(Exception):  # not defined on this side, or not for mpmath numbers
                sides.append(Reference(along).sides((point[group[0]],), 0)[side > 0])
        sides = [slope for slope in sides if slope is not None]
        with contextlib.suppress(ValueError, ArithmeticError, TypeError):
            shares = [rule.backward(1.0, rule.forward(*point), *point)[i] for i in group]
            got, room = math.fsum(shares), 1e-9 * max(map(abs, [*sides, *shares])) + mp.mpf(10) ** -20
            if sides and all(map(mp.isfinite, sides)) and not min(sides) - room <= got <= max(sides) + room:
                nearest = min(sides, key=lambda slope: abs(slope - got))
                raise Refuted(rule, point, what, nearest, got, " It is an edge between two branches.")
    return any(map(inside(rule), points))


def _touches(open_cell: Cell, edge: Cell) -> bool:
    """Is the edge part of the border of an open cell?"""
    if len(open_cell.ends) != len(edge.ends) or any((j, i) in open_cell.above for i, j in edge.above):
        return False
    return all(low <= a and b <= high for (low, high), (a, b) in zip(open_cell.ends, edge.ends, strict=True))


# --- Numbers of a cell ----------------------------------------------------------------------------------------


def points_of(cell: Cell) -> Iterator[tuple[float, ...]]:
    """Floats of a cell, a few."""
    n = len(cell.ends)
    for k, order in itertools.product((0.37, 0.61, 0.13, 0.83), itertools.permutations(range(n))):
        point = [
            _some_number(float(low), float(high), (k + 0.37 * j) % 1)
            for j, (low, high) in zip(order, cell.ends, strict=True)
        ]
        point = [point[cell.first(i)] for i in range(n)]
        exact = all(Fraction(x) == low for x, (low, high) in zip(point, cell.ends, strict=True) if low == high)
        if exact and all(point[i] > point[j] for i, j in cell.above):
            yield tuple(point)


def is_outside(piece: Piece) -> bool:
    """Is an undecided piece no part of the domain, by the rule's own check?"""
    middles = tuple(_some_number(float(low), float(high), 0.37) for low, high in piece.cell.ends)
    return piece.status in ("undecided", "end") and not inside(piece.rule)(middles)


def _some_number(low: float, high: float, part: float) -> float:
    """A number of an interval, not a whole one if possible, so that pow refuses a negative base."""
    if low == high:
        return low
    if math.isinf(low):
        return 1.718 - 2.4 * part if math.isinf(high) else high - 3.6 * part
    return low + (3.6 if math.isinf(high) else high - low) * part
