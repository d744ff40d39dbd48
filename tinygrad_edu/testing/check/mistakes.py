"""What a wrong rule looks like: the mistake that explains its numbers, in one sentence, or ""."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import mpmath as mp

from ...debug.causes import blame
from ...debug.stepping import expression
from ...engine.graph import topological_order
from ...engine.rule import Rule
from ...engine.value import Value
from ...viz.words import four_digits
from .case import Case, Kind, RuleMismatch, names
from .points import Point
from .reference import DIGITS, high

NOT_FROM_NAN = (
    "nan may come from nan only: multiply in another order, so that nothing overflows, "
    "or choose by elementary.where."
)
CANCELS = 2.0**-5  # of the larger term: a sum that leaves no more has lost five bits


def explain(case: Case, failure: RuleMismatch) -> None:
    """Adds what a wrong value or slope looks like: the mistake in the formula, or where floats went wrong."""
    point, place, facts = failure.point, failure.place, failure.facts
    if place is None:
        return
    if failure.kind == Kind.FORMULA:
        facts["likely"] = formula_mistake(case, point, place)
        return
    result: Any = None
    with contextlib.suppress(Exception):  # the rule does not take Values: that is another failure
        result = case.graph(point, place)
    is_graph = isinstance(result, Value)  # and no constant
    facts["because"] = origin(result) if is_graph else ""
    if failure.kind == Kind.ROUNDING:
        facts["where"] = lost_where(case, place)
        if not facts["because"]:
            failure.what = failure.what.replace("is wrong", "loses its digits, though the formula is right")
        failure.hint = rounding_mistake(result) if is_graph else ""
    elif not failure.hint and not facts["error"]:
        failure.hint = NOT_FROM_NAN


def upstream_mistake(slope: float, share: float) -> str:
    """Why the share for upstream -4 is not -4 times the slope, which is the share for upstream 1."""
    suspects = {
        "upstream is missing: the share is upstream times the slope.": slope,
        "upstream is a factor twice.": 16 * slope,
        "upstream is added: the share is upstream times the slope.": slope - 5,
        "upstream is a divisor: the share is upstream times the slope.": slope / -4,
        "the sign of upstream is lost.": 4 * slope,
    }
    return next((text for text, expected in suspects.items() if math.isclose(share, expected, rel_tol=1e-9)), "")


# --- Wrong formulas -----------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One point of an operation: its inputs, its result, its slopes, and the slopes that are under examination."""

    x: tuple[Any, ...]
    out: Any
    slopes: Sequence[Any]
    got: Sequence[Any]


Suspect = tuple[str, str, Callable[[Row], Any]]  # a name, a sentence, and the slope that the mistake gives


def formula_mistake(case: Case, point: Point, place: int) -> str:
    """The mistake that explains a wrong slope here and at other points; place 1 is the first slope."""
    i, rows = place - 1, list(itertools.islice(_point_rows(case, point), 6))
    if i < 0 or len(rows) < 3:
        return ""
    called = names(case.rule, len(point))
    for _, sentence, slope in [*suspects(called, i), *_mixed_up(case.rule, called)]:
        with contextlib.suppress(ArithmeticError, TypeError, ValueError):  # not defined at one of the points
            if all(_close(row.got[i], slope(row)) for row in rows):
                return sentence
    with contextlib.suppress(ArithmeticError):  # a slope of 0, or an infinite factor
        ratio = rows[0].got[i] / rows[0].slopes[i]
        if all(_close(row.got[i], ratio * row.slopes[i]) for row in rows):
            return _factor(ratio)
    if all(_close(row.got[i], row.slopes[i]) for row in rows[1:]):
        return "the slope is right at other points: one branch, or one window, is wrong"
    return ""


def _point_rows(case: Case, point: Point) -> Iterator[Row]:
    """The failing point first, then others: the points are sorted, those of ordinary size come first."""
    for p in [point, *(p for p in case.points if p != point and len(p) == len(point) and all(p))]:
        with contextlib.suppress(Exception):  # another failure, at another point
            out, *got = case.at_precision(200, p)
            if slopes := case.exact(p)[1:]:
                yield Row(tuple(map(high, p)), out, slopes, got)


def suspects(called: list[str], i: int) -> Iterator[Suspect]:
    """Wrong slopes for operand i of several."""

    def slope(j: int, factor: int = 1) -> Callable[[Row], Any]:
        return lambda row: factor * row.slopes[j]

    def times(j: int, power: int) -> Callable[[Row], Any]:
        return lambda row: row.slopes[i] * row.x[j] ** power

    for j, name in enumerate(called):
        if j != i:
            yield "swapped", f"it is the slope of the other operand, {name}", slope(j)
            yield "swapped", f"it is the slope of the other operand, {name}, with the wrong sign", slope(j, -1)
    yield "slope", "the sign is wrong", slope(i, -1)
    yield "slope", "the local slope is missing: the share is upstream itself", lambda row: 1
    yield "slope", "the operand is taken for a constant: its share is 0", lambda row: 0
    yield "slope", "it is 1 / slope", lambda row: 1 / row.slopes[i]
    for j, name in enumerate(called):
        yield "slope", f"a factor {name} is missing", times(j, -1)
        yield "slope", f"a factor {name} is too many", times(j, 1)
    yield "slope", "a factor out is missing", lambda row: row.slopes[i] / row.out
    yield "slope", "a factor out is too many", lambda row: row.slopes[i] * row.out


def _mixed_up(rule: Rule, called: list[str]) -> Iterator[Suspect]:
    """The input of a rule taken for its result, and the other way round."""

    def when(row: Row, x: Any) -> Any:
        with mp.workdps(DIGITS):
            right = rule.backward(mp.mpf(1), x, x)[0]
        return row.got[0] if _close(right, row.slopes[0]) else mp.nan

    if len(called) == 1:
        yield "slope", f"{called[0]} is used where out is meant", lambda row: when(row, row.out)
        yield "slope", f"out is used where {called[0]} is meant", lambda row: when(row, row.x[0])


def _factor(ratio: Any) -> str:
    simple = Fraction(float(ratio)).limit_denominator(100)
    if not _close(mp.mpf(simple.numerator) / simple.denominator, ratio, 1e-12):
        return f"it is {float(ratio):.15g} times the slope"
    if simple.numerator == 1:
        return f"a factor {simple.denominator} is missing"
    return f"a factor {simple} is too many"


def _close(a: Any, b: Any, tolerance: float = 1e-11) -> bool:
    return bool(a == b or abs(a - b) <= tolerance * max(abs(a), abs(b)) < mp.inf)


# --- Lost digits --------------------------------------------------------------------------------------------


def lost_where(case: Case, place: int) -> str:
    """The ranges of a single input in which the digits are lost, of the points that were tried."""

    def is_lost(point: Point) -> bool:
        return max(case.errors(point)[place : place + 1], default=0.0) > case.bound

    texts = []
    for bad, group in itertools.groupby(sorted(p for p in case.points if len(p) == 1), is_lost):
        (low,), *_, (high,) = [*group] * 2
        texts += [f"{low:.4g} to {high:.4g}" if low < high else f"{low:.4g}"] * bad
    return f"x = {', '.join(texts[:4])}{' and elsewhere' * (len(texts) > 4)}" if texts else ""


def rounding_mistake(result: Value) -> str:
    """The operation that lost the digits of a result, and the better form for it."""
    for node in topological_order(result):
        numbers = [abs(parent.data) for parent in node.parents]
        aspects = [set(_aspects(parent)) for parent in node.parents]
        if not node.rule:
            continue
        if node.rule.name == "log" and "add" in aspects[0]:
            if min(abs(p.data) for p in node.parents[0].parents) < CANCELS:
                return f"{_text(node)} loses the digits of the small term: use log1p."
        elif node.rule.name in ("sub", "add") and abs(node.data) <= CANCELS * max(numbers) < mp.inf:
            left, right = aspects
            return f"{_text(node)} cancels: " + next(hint for a, b, hint in BETTER if a in left and b in right)
    return ""


BETTER = [  # what is on the left, on the right, and a better form
    ("exp", "1", "use expm1(x) for exp(x) - 1."),
    ("1", "exp", "use -expm1(x) for 1 - exp(x)."),
    ("1", "cos", "use 2 * sin(x / 2)**2 for 1 - cos(x)."),
    ("1", "sigmoid", "use sigmoid(-x) for 1 - sigmoid(x)."),
    ("1", "erf", "use erfc(x) for 1 - erf(x)."),
    (
        "1",
        "square",
        "use (1 - t) * (1 + t) for 1 - t*t, and if t is tanh(x), "
        "sech(x)**2 by exponentials: 4*e / (1 + e)**2 with e = exp(-2*abs(x)).",
    ),
    ("1", "out", "for out = sigmoid(x), use sigmoid(-x); else compute it from the input, not from out."),
    ("out", "", "compute it from the input, not from out."),
    ("", "out", "compute it from the input, not from out."),
    ("sqrt", "", "use (a - b*b) / (sqrt(a) + b) for sqrt(a) - b."),
    ("", "sqrt", "use (a - b*b) / (sqrt(a) + b) for sqrt(a) - b."),
    ("", "", "find a form in which these terms are not subtracted."),
]


def _aspects(node: Value) -> Iterator[str]:
    """What an operand is, for the table above."""
    yield from ("", node.label, node.rule.name if node.rule else "", "1" * (abs(node.data) == 1))
    if node.rule and (node.rule.name == "pow_n" or (node.rule.name == "mul" and len(set(node.parents)) == 1)):
        yield "square"


def _text(node: Value) -> str:
    """The operation with the names of its operands, or their numbers."""

    def named(parent: Value) -> str:
        if parent.rule and all(p.label or not p.rule for p in parent.parents):
            return expression(parent, lambda p: p.label or four_digits(p.data))
        return parent.label or four_digits(parent.data)

    return expression(node, named)


# --- Where nan and inf come from --------------------------------------------------------------------------------


def origin(result: Value) -> str:
    """What made the first nan below a result, or else the first inf, in one line; "" if there is neither.

    >>> x = Value(1e308)
    >>> origin(-2 * x * (-x).exp())
    '-2 * 1e+308 is -inf, and -inf * 0 is nan'
    """
    findings = [finding for finding in blame(result, variables={}).findings if finding.phase == "forward"]
    nan = next((i for i, finding in enumerate(findings) if finding.kind == "nan"), 0)
    causes = list(dict.fromkeys(finding.made.removeprefix("overflow: ") for finding in findings[: nan + 1]))
    return ", and ".join(filter(None, [", ".join(causes[:-1]), *causes[-1:]]))
