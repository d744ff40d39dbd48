"""Is a rule's slope the derivative of its forward function, over every real number of a domain?"""

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import mpmath as mp
from flint import arb

from ...engine.rule import Rule
from ..check.case import Case
from ..check.points import inside
from ..check.reference import Reference, high
from .cells import Cell, Split, Undecided, walk
from .exact import Exact, variables
from .ranges import INF, Range, Unknown, exactly

__tracebackhide__ = True  # pytest shows the user's line, not ours

TOLERANCE = 1e-12  # a formula may have constants that are floats
CELLS = 600
BOXES = 500
Ends = tuple[tuple[float, float], ...]
NOTHING = arb(2) ** -1075  # half of the least float
NEAR = arb(2) ** -(2**60)
STEEP = 1e12
UPSTREAMS = (2.0, -1.0, 0.5, 1e3, -3e-5, 0.0, 1e9, 1e-12)
NO_DERIVATIVE = "the slope is a convention"
SMALL = "where both are below the least float, not at all"
FAILURES = (Undecided, Split, ZeroDivisionError, RecursionError)


@dataclass(frozen=True)
class Piece:
    """A part of the domain and what was proven there.

    `status` is "identity": all terms of slope - derivative cancel; "bounded": |slope - derivative| is at most
    `bound` times |derivative|; "kink": the slope is a convention, between the slopes of the neighbours; "end":
    there is no finite derivative, and the slope is a convention; "undecided". `tested`: the note says
    what was tried at points instead of proven. `formulas` are those of an open piece.
    """

    where: str
    ends: tuple[tuple[Any, Any], ...]
    status: str
    bound: float = math.inf
    note: str = ""
    tested: bool = False
    formulas: Any = field(default=None, compare=False, repr=False)


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


class CellFormulas:
    """Forward and slopes of a rule on one cell, as formulas. A slope is Unknown where it is infinite or 0/0."""

    def __init__(self, rule: Rule, cell: Cell):
        self.cell: Cell = cell
        self.inputs: list[Exact] = variables(cell)
        self.forward: Exact = self.inputs[0].lift(_ran(rule.forward, *self.inputs))
        self.slopes: list[Unknown | Exact] = [
            slope if isinstance(slope, Unknown) else Exact(cell, slope.terms) for slope in _slopes(rule, cell)
        ]

    def derivative(self, i: int) -> Exact:
        return self.forward.derivative(i)


class NotLinear(Undecided):
    """A share is not shown to be upstream times the slope, for upstreams between two numbers."""

    def __init__(self, message: str, upstreams: tuple[Any, Any]):
        super().__init__(message)
        low, high = map(float, upstreams)
        self.upstreams: tuple[float, ...] = tuple(_some_number(low, high, k) for k in (0.37, 0.83))


def _ran(function: Any, *inputs: Any) -> Any:
    """function(*inputs). Raises Undecided where it cannot be run on formulas."""
    try:
        return function(*inputs)
    except (Split, Undecided, RecursionError):
        raise
    except Exception as error:  # whatever a function for floats raises
        raise Undecided(f"no formula: {type(error).__name__}: {error}") from None


def _slopes(rule: Rule, cell: Cell) -> list[Any]:
    """The shares divided by upstream, which is one more variable: it must be a factor, and nothing else.

    A branch on upstream divides its numbers, and the slopes must be the same in all parts.
    """
    n, slopes = len(cell.ends), list[Any]()
    todo = [replace(cell, ends=(*cell.ends, (-math.inf, math.inf)))]
    while todo:
        part = todo.pop()
        *inputs, upstream = variables(part)
        try:
            shares = _ran(rule.backward, upstream, inputs[0].lift(rule.forward(*inputs)), *inputs)
        except Split as split:
            if any(n in pair for c in split.cells for pair in (*c.above, *c.same)):
                raise NotLinear("upstream is compared with an input", part.ends[n]) from None
            if all(c.ends[:n] == cell.ends for c in split.cells) and split.cells[0].ends[n] != part.ends[n]:
                todo += sorted(split.cells, key=lambda c: c.is_point(n), reverse=True)
                continue
            raise Split(replace(c, ends=c.ends[:n]) for c in split.cells) from None
        shares = [share * upstream.lift(1) for share in rule.counted(shares, n)]
        if not slopes:
            slopes = [s if isinstance(s, Unknown) else s.derivative(n) for s in shares]
        for share, slope in zip(shares, slopes, strict=True):
            if isinstance(share, Unknown) or isinstance(slope, Unknown):
                if isinstance(share, Unknown) != isinstance(slope, Unknown):
                    raise NotLinear("a share is not a number for some upstream", part.ends[n])
            elif not (share - upstream * slope).is_zero() or slope.derivative(n).terms:
                raise NotLinear("a share is not proven to be upstream times the slope", part.ends[n])
    return slopes


def pieces_of(rule: Rule, start: Sequence[Cell]) -> list[Piece]:
    """All pieces of the cells. Raises Refuted for a wrong rule."""
    todo, pieces = list(reversed(start)), list[tuple[Cell, Piece]]()
    open_cells, edges, unknown = list[CellFormulas](), list[CellFormulas](), list[Cell]()
    while todo:
        if len(open_cells) + len(edges) > CELLS:
            raise ValueError(f"{rule.name} has more than {CELLS} branches: give a smaller domain.")
        cell = todo.pop()
        try:
            formulas = CellFormulas(rule, cell)
        except Split as split:
            todo += reversed(split.cells)
            continue
        except (Undecided, RecursionError) as reason:
            if isinstance(reason, NotLinear):
                _refute_upstream(rule, cell, (*reason.upstreams, *UPSTREAMS))
            unknown += [cell] if cell.is_open and any(map(inside(rule), points_of(cell))) else []
            pieces.append((cell, Piece(str(cell), cell.ends, "undecided", note=str(reason))))
            continue
        if cell.is_open:
            open_cells.append(formulas)
            pieces.append((cell, _on_open(rule, formulas)))
        else:
            edges.append(formulas)
    for formulas in edges:
        pieces.append((formulas.cell, _on_edge(rule, formulas, open_cells, unknown)))
    pieces.sort(key=lambda pair: [(float(low), float(high)) for low, high in pair[0].ends])
    return [piece for _, piece in pieces]


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


def _on_open(rule: Rule, formulas: CellFormulas) -> Piece:
    cell, worst, note = formulas.cell, 0.0, ""
    status = "identity"
    try:
        for i, slope in enumerate(formulas.slopes):
            difference: Any = slope - formulas.derivative(i)
            if not difference.is_zero():
                status = "bounded"
                bound, text = _bounded(rule, formulas, i, difference)
                worst, note = max(worst, bound), note or text
    except FAILURES as reason:
        worst, note = math.inf, str(reason) or "a branch"
    status = status if worst <= TOLERANCE else "undecided"
    return Piece(str(cell), cell.ends, status, worst, note, formulas=formulas)


def _bounded(rule: Rule, formulas: CellFormulas, i: int, difference: Exact) -> tuple[float, str]:
    """A bound on |difference| / |derivative| over the cell, by boxes; refutes at their midpoints."""
    derivative, difference = formulas.derivative(i).cancelled(), difference.cancelled()
    try:
        ratio = difference / derivative
        if (whole := ratio.range.mag) <= TOLERANCE:  # a float constant in place of the exact one
            return float(whole.upper()), ""
    except FAILURES:  # the derivative changes its sign
        pass
    cell = formulas.cell

    def box_of(depth: int, ends: Ends) -> tuple[bool, bool, int, Ends, float]:
        """Is it good, is it far, how often was it halved, its ends, and the bound."""
        middle = tuple(_middle(*side) for side in ends)
        middle = middle if depth else next(points_of(cell), middle)  # an ordinary number first
        at = [exactly(x) for x in middle]
        visible = difference.on(at).mig > TOLERANCE * derivative.on(at).mag or depth < 3
        if visible and all(low < x < high for x, (low, high) in zip(middle, ends, strict=True)):
            refute(rule, middle)
        ranges = [Range(arb(low), arb(high)) for low, high in ends]
        wrong, size = difference.on(ranges).mag, derivative.on(ranges).mig
        known = wrong < INF and (size > 0 or wrong <= NOTHING)
        bound = float((wrong / size).upper()) if known and wrong > NOTHING else 0.0 if known else math.inf
        return bound <= TOLERANCE, any(min(map(abs, side)) > 1e6 for side in ends), depth, ends, bound

    def halves(box: tuple[bool, bool, int, Ends, float]) -> list[tuple[bool, bool, int, Ends, float]]:
        _, _, depth, ends, _ = box
        k = max(range(len(ends)), key=lambda k: _spread(*ends[k]))
        middle, (low, high) = _middle(*ends[k]), ends[k]
        return [box_of(depth + 1, (*ends[:k], part, *ends[k + 1 :])) for part in ((low, middle), (middle, high))]

    start = box_of(0, tuple((float(low), float(high)) for low, high in cell.ends))
    boxes = walk(
        [start],
        halves,
        lambda box, n: not box[0] and n < BOXES and max(_spread(*side) for side in box[3]) > 1e-12,
        cell.clock,
    )
    cell.clock.check()
    if bad := [ends for is_good, *_, ends, _ in boxes if not is_good]:
        return math.inf, f"not decided from {' and '.join(f'{low:.6g} to {high:.6g}' for low, high in bad[0])}"
    return max(bound for *_, bound in boxes), SMALL * any(bound == 0 for *_, bound in boxes)


def refute(rule: Rule, point: tuple[float, ...]) -> None:
    """Raises Refuted if the rule is wrong at a point, on many digits and on floats."""
    try:
        wrong = [
            row for row in Case(rule, Reference(rule.forward), 32.0).mathematics(point) if row[0] != "the value"
        ]
    except Exception:  # not defined there, or not for mpmath numbers
        return
    if wrong:
        what, expected, got, _ = wrong[0]
        raise Refuted(rule, point, what, expected, got)


# --- Edges: branch points, ties and closed ends ---------------------------------------------------------------


def _on_edge(rule: Rule, edge: CellFormulas, neighbours: list[CellFormulas], unknown: list[Cell]) -> Piece:
    """The slopes at an edge are the derivative where there is one, else between the slopes beside it.

    The shares of inputs that are equal add up to the slope of moving them together, which exists at every tie.
    """
    cell = edge.cell
    status, bound, notes, tested = "identity", 0.0, list[str](), False
    touching = [other for other in neighbours if _touches(other.cell, cell)]
    is_known = not any(_touches(other, cell) for other in unknown)

    try:
        for group in _wrong_ties(edge):
            _refute_edge(rule, cell, group)
            raise Undecided("the shares of equal inputs do not add up to the slope of moving them together")
        for i, slope in enumerate(edge.slopes):
            limits, jumps = _limits(edge, touching, i) if cell.is_tied(i) else ([edge.derivative(i)], False)
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
                    _refute_edge(rule, cell, [i])
                    raise Undecided(f"the slope is not {'between those' if sides else 'that'} of the neighbours")
            if is_known and (jumps or (limits and all(_is_infinite(edge, other, i) for other in touching))):
                status = "end"
                notes.append(NO_DERIVATIVE)
                continue
            if not is_known or len(cell.ends) == 1 or not _holds_at_points(rule, cell, i):
                raise Undecided("the slope beside it is not known")
            status, tested = "end", True
            notes.append(f"the slope for input {i} is tested at points, and not proven")
    except FAILURES as reason:
        return Piece(str(cell), cell.ends, "undecided", note=str(reason) or "a branch")
    if status == "identity" and bound:
        status = "bounded"
    return Piece(str(cell), cell.ends, status, bound, "; ".join(dict.fromkeys(notes)), tested)


def _limits(edge: CellFormulas, touching: Sequence[CellFormulas], i: int) -> tuple[list[Exact | None], bool]:
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


def _wrong_ties(edge: CellFormulas) -> Iterator[list[int]]:
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


def _is_infinite(edge: CellFormulas, other: CellFormulas, i: int) -> bool:
    """Does the slope of a neighbour grow beyond any bound towards the edge, a single point?"""
    if len(edge.cell.ends) > 1:
        return False
    (low, high), start = other.cell.ends[0], edge.cell.ends[0][0]
    near = Cell(((Fraction(0), min(Fraction(1, 2**64), Fraction(high - low) if high - low < 1 else Fraction(1))),))
    (h,) = variables(near)
    with contextlib.suppress(*FAILURES):
        shifted = other.derivative(i).on([h + start if low == start else start - h])
        return bool(shifted.cancelled().on([Range(arb(0), NEAR)]).mig > STEEP)
    return False


def _refute_edge(rule: Rule, cell: Cell, group: Sequence[int]) -> None:
    """Raises Refuted if a float of an edge has a slope outside of those on its two sides.

    It is the slope for one input, or that for a group of equal inputs that move together: the sum of theirs.
    """
    for point in itertools.islice(points_of(cell), 4):

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
                what = (
                    "the sum of the slopes of the equal inputs" if group[1:] else f"the slope for input {group[0]}"
                )
                raise Refuted(rule, point, what, nearest, got, " It is an edge between two branches.")


def _holds_at_points(rule: Rule, cell: Cell, i: int) -> bool:
    """Tests an edge of which nothing is proven. Raises Refuted at a wrong float; False if there is no float."""
    _refute_edge(rule, cell, [i])
    return any(inside(rule)(point) for point in itertools.islice(points_of(cell), 4))


def _apart(difference: Exact | Unknown, limit: Exact) -> float:
    """A bound on |difference| / |limit|; 0 if all terms of the difference cancel."""
    if isinstance(difference, Unknown):
        return math.inf
    wrong, size = difference.range.mag, limit.range.mig
    if difference.is_zero() or wrong <= NOTHING:
        return 0.0
    return float((wrong / size).upper()) if size > 0 and wrong < INF else math.inf


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
    middles = tuple(_some_number(float(low), float(high), 0.37) for low, high in piece.ends)
    return piece.status in ("undecided", "end") and not inside(rule)(middles)


def _some_number(low: float, high: float, part: float) -> float:
    """A number of an interval that is not whole, if it can be had: so that pow refuses a negative base."""
    if low == high:
        return low
    if math.isinf(low):
        return 1.718 - 2.4 * part if math.isinf(high) else high - 3.6 * part
    return low + (3.6 if math.isinf(high) else high - low) * part
