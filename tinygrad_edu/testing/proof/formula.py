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
NO_DERIVATIVE = "the slope is a convention"
FAILURES = (Undecided, Split, ZeroDivisionError, RecursionError)


@dataclass(eq=False)
class Piece:
    """A part of the domain, the rule's formulas there, and what was proven.

    `status` is "identity": all terms of slope - derivative cancel; "bounded": |slope - derivative| is at most
    `bound` times |derivative|; "kink": the slope is a convention, between the slopes of the neighbours; "end":
    there is no finite derivative, and the slope is a convention; "undecided". `tested`: the note says
    what was tried at points instead of proven. A slope is Unknown where it is infinite or 0/0. `apart`:
    slope - derivative, and the derivative, where the terms do not cancel.
    """

    rule: Rule
    cell: Cell
    status: str = "undecided"
    bound: float = math.inf
    note: str = ""
    tested: bool = False
    inputs: list[Exact] = field(default_factory=list)
    forward: Any = None
    slopes: list[Any] = field(default_factory=list)
    apart: tuple[Exact, Exact] | None = None
    starred_from: float = STARRED  # ulps

    @property
    def where(self) -> str:
        return str(self.cell)

    def derivative(self, i: int) -> Exact:
        derivative: Exact = self.forward.derivative(i)
        return derivative

    @cached_property
    def orders(self) -> list[Exact]:
        """The value and two derivatives for one input; nothing if they are not known, or the time is up."""
        with contextlib.suppress(*FAILURES):
            if self.inputs and self.cell.is_open:
                return [self.forward, slope := self.derivative(0), slope.derivative(0)]
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


class NotLinear(Undecided):
    """A share is not shown to be upstream times the slope, for upstreams between two numbers."""

    def __init__(self, message: str, upstreams: tuple[Any, Any]):
        super().__init__(message)
        low, high = map(float, upstreams)
        self.upstreams: tuple[float, ...] = tuple(_some_number(low, high, k) for k in (0.37, 0.83))


def _run_on_formulas(piece: Piece) -> None:
    """The formulas of a piece. Raises Split where the rule branches, Undecided where it has none."""
    piece.inputs = variables(piece.cell)
    one = piece.inputs[0].lift(1)
    piece.forward = one.lift(_ran(piece.rule.forward, *piece.inputs))
    shares = _ran(piece.rule.backward, one, piece.forward, *piece.inputs)
    piece.slopes = [share * one for share in piece.rule.counted(shares, len(piece.inputs))]
    _prove_linear(piece)


def _ran(function: Any, *inputs: Any) -> Any:
    """function(*inputs). Raises Undecided where it cannot be run on formulas."""
    try:
        return function(*inputs)
    except (Split, Undecided, RecursionError):
        raise
    except Exception as error:  # whatever a function for floats raises
        raise Undecided(f"no formula: {type(error).__name__}: {error}") from None


def _prove_linear(piece: Piece) -> None:
    """A share is upstream times the slope: upstream is a variable, too, and a branch on it divides its numbers."""
    cell, n = piece.cell, len(piece.inputs)
    todo = [replace(cell, ends=(*cell.ends, (-math.inf, math.inf)))]
    while todo:
        part = todo.pop()
        *inputs, upstream = variables(part)
        try:
            shares = _ran(piece.rule.backward, upstream, inputs[0].lift(piece.rule.forward(*inputs)), *inputs)
        except Split as split:
            if any(n in pair for c in split.cells for pair in (*c.above, *c.same)):
                raise NotLinear("upstream is compared with an input", part.ends[n]) from None
            if all(c.ends[:n] == cell.ends for c in split.cells) and split.cells[0].ends[n] != part.ends[n]:
                todo += split.cells
                continue
            raise Split(replace(c, ends=c.ends[:n]) for c in split.cells) from None
        for share, slope in zip(piece.rule.counted(shares, n), piece.slopes, strict=True):
            share = share * upstream.lift(1)
            if isinstance(share, Unknown) or isinstance(slope, Unknown):
                if isinstance(share, Unknown) != isinstance(slope, Unknown):
                    raise NotLinear("a share is not a number for some upstream", part.ends[n])
            elif not (share - upstream * slope).is_zero():
                raise NotLinear("a share is not proven to be upstream times the slope", part.ends[n])


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
            if isinstance(reason, NotLinear):
                _refute_upstream(rule, piece.cell, (*reason.upstreams, *UPSTREAMS))
            piece.note, piece.inputs = str(reason), []
        pieces.append(piece)
        if piece.inputs and piece.cell.is_open:
            _on_open(piece)
    for piece in pieces:
        if piece.inputs and not piece.cell.is_open:
            _on_edge(piece, [other for other in pieces if other.cell.is_open and _touches(other.cell, piece.cell)])
    return sorted(pieces, key=lambda piece: [(float(low), float(high)) for low, high in piece.cell.ends])


def _refute_upstream(rule: Rule, cell: Cell, upstreams: Sequence[float]) -> None:
    """Raises Refuted if a share is not upstream times the slope at a float of the cell."""
    for point in itertools.islice(points_of(cell), 6):
        with contextlib.suppress(ValueError, ArithmeticError, TypeError):
            out = rule.forward(*point)
            slopes = rule.counted(rule.backward(1.0, out, *point), len(point))
            for upstream in upstreams:
                for i, share in enumerate(rule.counted(rule.backward(upstream, out, *point), len(point))):
                    expected = upstream * slopes[i]
                    if not math.isclose(share, expected, rel_tol=1e-9, abs_tol=1e-300) and expected == expected:
                        facts = " A share is upstream times the slope."
                        what = f"the share for input {i} and upstream {upstream:g}"
                        raise Refuted(rule, point, what, expected, share, facts)


# --- Where the inputs can move ------------------------------------------------------------------------------


def _on_open(piece: Piece) -> None:
    """Do all terms of slope - derivative cancel, or all with x in their ratio? Of one input, boxes go on."""
    worst = 0.0
    try:
        for i, slope in enumerate(piece.slopes):
            derivative = piece.derivative(i)
            difference = slope - derivative
            if not difference.is_zero():
                for point in itertools.islice(points_of(piece.cell), 6):
                    refute(piece.rule, point)
                piece.apart = difference.cancelled(), derivative.cancelled()
                worst = max(worst, _ratio(*piece.apart))
    except FAILURES as reason:
        piece.note = str(reason) or "a branch"
        return
    if worst <= TOLERANCE:
        piece.status, piece.bound = ("bounded" if piece.apart else "identity"), worst
    else:
        piece.note = "slope - derivative is not seen to be 0"


def _ratio(difference: Exact, derivative: Exact) -> float:
    """A bound on |difference / derivative|, small where a float constant stands in place of the exact one."""
    with contextlib.suppress(*FAILURES):  # the derivative may change its sign
        return _quotient((difference / derivative).range, exactly(1))
    return math.inf


def bounded_by(piece: Piece, box: Range, middle: float) -> float:
    """A bound on |slope - derivative| / |derivative| in a box. Raises Refuted if its middle shows a wrong rule."""
    if piece.apart is None or piece.status == "bounded":
        return piece.bound
    at, around = (Values([x]) for x in (exactly(middle), box))
    (apart, slope), (wrong, size) = ([values.of(f) for f in piece.apart] for values in (at, around))
    if apart.mig > TOLERANCE * slope.mag:
        refute(piece.rule, (middle,))
    return _quotient(wrong, size)


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


def _on_edge(piece: Piece, neighbours: list[Piece]) -> None:
    """The slopes at an edge are the derivative where there is one, else between the slopes beside it.

    The shares of inputs that are equal add up to the slope of moving them together, which exists at every tie.
    """
    cell, touching = piece.cell, [other for other in neighbours if other.inputs]
    status, bound, notes, tested = "identity", 0.0, list[str](), False
    unknown = [point for other in neighbours if not other.inputs for point in points_of(other.cell)]
    is_known = not any(map(inside(piece.rule), unknown))
    try:
        for group in _wrong_ties(piece):
            _refute_edge(piece, group)
            raise Undecided("the shares of equal inputs do not add up to the slope of moving them together")
        for i, slope in enumerate(piece.slopes):
            limits, jumps = _limits(piece, touching, i) if cell.is_tied(i) else ([piece.derivative(i)], False)
            known = [limit for limit in limits if limit is not None]
            if not isinstance(slope, Unknown) and known and len(known) == len(limits):
                apart = max(_apart(slope - limit, limit) for limit in known)
                if apart <= TOLERANCE:
                    bound = max(bound, apart)
                    continue
                sides = [(a, b) for a, b in itertools.combinations(known, 2) if _apart(a - b, b) > TOLERANCE]
                if any(_is_between(slope, a, b) for a, b in sides):
                    status = "kink" if status == "identity" else status
                    notes.append(_convention(cell, slope, known))
                    continue
                if not jumps and is_known:
                    _refute_edge(piece, [i])
                    raise Undecided(f"the slope is not {'between those' if sides else 'that'} of the neighbours")
            if is_known and (jumps or (limits and all(_is_infinite(piece, other) for other in touching))):
                status = "end"
                notes.append(NO_DERIVATIVE)
                continue
            if not is_known or len(cell.ends) == 1 or not _holds_at_points(piece, i):
                raise Undecided("the slope beside it is not known")
            status, tested = "end", True
            notes.append(f"the slope for input {i} is tested at points, and not proven")
    except FAILURES as reason:
        piece.note = str(reason) or "a branch"
        return
    piece.status = "bounded" if status == "identity" and bound else status
    piece.bound, piece.note, piece.tested = bound, "; ".join(dict.fromkeys(notes)), tested


def _limits(edge: Piece, touching: Sequence[Piece], i: int) -> tuple[list[Exact | None], bool]:
    """The slopes for input i of the neighbours at the edge, None where they are not known; is there a jump?"""
    limits, jumps = list[Exact | None](), False
    for other in touching:
        value: Any = Unknown("")
        limits.append(None)
        with contextlib.suppress(*FAILURES):
            formulas = other.forward, other.derivative(i)
            value, limit = (formula.on(edge.inputs) for formula in formulas)
            if isinstance(value, Unknown) or isinstance(limit, Unknown):
                value, limit = (formula.limit(edge.inputs, i) for formula in formulas)
            limits[-1] = limit
        if not isinstance(value, Unknown):
            jump = value - edge.forward  # proven, not only not seen to be 0
            jumps = jumps or bool(not jump.is_zero() and jump.range.mig > 0)
    return limits, jumps


def _wrong_ties(edge: Piece) -> Iterator[list[int]]:
    """The groups of equal inputs whose shares do not add up to the slope of moving them together."""
    cell = edge.cell
    for first in {cell.first(i) for i, _ in cell.same}:
        group = [first, *(i for i, _ in cell.same if cell.first(i) == first)]
        if cell.is_point(first) or any(isinstance(edge.slopes[i], Unknown) for i in group):
            continue
        along = edge.derivative(first)
        if _apart(sum((edge.slopes[i] for i in group), along.lift(0)) - along, along) > TOLERANCE:
            yield group


def _is_between(slope: Exact, a: Exact, b: Exact) -> bool:
    """Is the slope nowhere outside of a and b?"""
    product = (slope - a) * (b - slope)
    with contextlib.suppress(*FAILURES):
        return product.is_zero() or bool(product.range.lo >= 0) or product.sign() >= 0
    return False


def _convention(cell: Cell, slope: Exact, limits: Sequence[Exact]) -> str:
    if cell.same:
        return "equal inputs share by convention"
    ranges = [limit.range for limit in limits]
    ends = sorted({float(end.mid()) if end.is_finite() else float(end) for r in ranges for end in r})
    own = float(slope.range.lo.mid())
    return f"slope {own:.6g} by convention, {ends[0]:.6g} and {ends[-1]:.6g} beside it"


def _is_infinite(edge: Piece, other: Piece) -> bool:
    """Does the slope of a neighbour grow beyond any bound towards the edge, a single point?"""
    if len(edge.cell.ends) > 1:
        return False
    (low, high), start = other.cell.ends[0], edge.cell.ends[0][0]
    (h,) = variables(Cell(((Fraction(0), Fraction(min(1, high - low, Fraction(1, 2**64)))),)))
    with contextlib.suppress(*FAILURES):
        shifted = other.derivative(0).on([h + start if low == start else start - h])
        return bool(shifted.cancelled().on([Range(arb(0), NEAR)]).mig > STEEP)
    return False


def _refute_edge(piece: Piece, group: Sequence[int]) -> None:
    """Raises Refuted if a float of an edge has a slope outside of those on its two sides.

    It is the slope for one input, or that for a group of equal inputs that move together: the sum of theirs.
    """
    rule = piece.rule
    for point in itertools.islice(points_of(piece.cell), 4):

        def along(x: Any, point: tuple[float, ...] = point) -> Any:
            return rule.forward(*(x if i in group else mp.mpf(y) for i, y in enumerate(point)))

        sides, reference = list[Any](), Reference(along)
        for side in (-1, 1):
            with contextlib.suppress(Exception):  # not defined on this side, or not for mpmath numbers
                slope = reference.side((point[group[0]],), 0, side)
                sides += [slope] if slope is not None else []
        with contextlib.suppress(ValueError, ArithmeticError, TypeError):
            shares = rule.backward(1.0, rule.forward(*point), *point)
            got = math.fsum(shares[i] for i in group)
            room = 1e-9 * max(map(abs, [*sides, *(shares[i] for i in group)])) + mp.mpf(10) ** -20
            if sides and all(map(mp.isfinite, sides)) and not min(sides) - room <= got <= max(sides) + room:
                nearest = min(sides, key=lambda slope: abs(slope - got))
                what = f"the slope for input {group[0]}"
                what = "the sum of the slopes of the equal inputs" if group[1:] else what
                raise Refuted(rule, point, what, nearest, got, " It is an edge between two branches.")


def _holds_at_points(piece: Piece, i: int) -> bool:
    """Tests an edge of which nothing is proven. Raises Refuted at a wrong float; False if there is no float."""
    _refute_edge(piece, [i])
    return any(map(inside(piece.rule), itertools.islice(points_of(piece.cell), 4)))


def _apart(difference: Exact | Unknown, limit: Exact) -> float:
    """A bound on |difference| / |limit|; 0 if all terms of the difference cancel."""
    if isinstance(difference, Unknown):
        return math.inf
    return 0.0 if difference.is_zero() else _quotient(difference.range, limit.range)


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
    """A number of an interval that is not whole, if it can be had: so that pow refuses a negative base."""
    if low == high:
        return low
    if math.isinf(low):
        return 1.718 - 2.4 * part if math.isinf(high) else high - 3.6 * part
    return low + (3.6 if math.isinf(high) else high - low) * part
