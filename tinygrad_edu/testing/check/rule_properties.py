"""What must hold for a rule, one function each: it tries a Case, a rule beside its reference, and fails it."""

import contextlib
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import permutations
from numbers import Rational
from typing import Any, NoReturn

import mpmath as mp
import numpy as np

from ...engine.calculus import absolute_adjoint, gradients
from ...engine.graph import topological_order
from ...engine.value import Value
from .case import (
    ANY_NUMBER,
    FORMULA,
    NUMBERS,
    ROUNDING,
    SECOND,
    SINGULAR,
    UPSTREAM,
    Case,
    RuleMismatch,
    names,
    near,
    shown_number,
)
from .mistakes import formula_mistake, lost_where, origin, rounding_mistake, upstream_mistake
from .points import Point, inside
from .reference import DIGITS, LIMIT, Reference, high, ulps

__tracebackhide__ = True  # pytest shows the user's line, not ours

UPSTREAMS = (-4.0, 0.25, 2.0**30, 2.0**-40, 0.0)
UNDERFLOW = 1e-300  # products below it may be 0
FAR_OFF = 2.0**30  # ulps: more than rounding takes, a constant factor or a sign
SECOND_BOUND = 1e-12  # of the absolute adjoint: what rounding may do to a derivative of a derivative
FRACTIONS = [Fraction(-7, 3), Fraction(1, 10), Fraction(5, 2), Fraction(-1, 6), Fraction(22, 7), Fraction(1, 2)]
NOT_FROM_NAN = (
    "nan may come from nan only: multiply in another order, so that nothing overflows, "
    "or choose by elementary.where."
)
OF_FLOATS = "If it is of another language and takes floats alone, give check_rule a reference of mpmath numbers."
NAN_HINT = "A comparison with nan is false: let `where` keep nan on its last side, or use heaviside and sign."


# --- The formula --------------------------------------------------------------------------------------------


def is_proportional_to_upstream(case: Case, point: Point) -> None:
    """A share is upstream * slope: to the last digits, as upstream is a power of 2."""
    slopes, called = case.shares(1.0, *point), names(case.rule, len(point))
    for upstream in UPSTREAMS:
        for name, share, slope in zip(called, case.shares(upstream, *point), slopes, strict=True):
            if upstream != -4 and not (math.isfinite(share) and math.isfinite(slope)):
                continue
            if not near(share / (upstream or 1), slope * bool(upstream), 1e-14):
                what = f"for upstream {upstream:g}, the share of {name} is not {upstream:g} * its slope"
                hint = upstream_mistake(slope, share) if upstream == -4 else ""
                case.fail(UPSTREAM, what, point, upstream * slope, share, hint=hint)


def has_right_formula(case: Case, point: Point) -> None:
    """On many digits, value and slopes are those of the reference. What may be a kink is looked at later."""
    case.inputs += 1
    case.shares(1.0, *point)
    exact = case.exact(point)
    if not exact or (len(exact) == 1 and not case.at_kink(point)):
        case.undecided += 1
    if any(abs(x) > 1e6 for x in point):  # an exponential of it would take forever; floats will tell
        return
    case.proven += bool(exact)
    for what, expected, got, error in case.mathematics(point)[:1]:
        if case.kink_hint(point):
            case.kinks.append(point)
            return
        if isinstance(got, float):  # an int may be one of its constants
            case.fail(NUMBERS, f"{what} turns an mpmath number into a float", point, expected, got, ANY_NUMBER)
        _fail_by(case, FORMULA, error, what, point, expected, got)


# --- On floats ----------------------------------------------------------------------------------------------


def is_finite_where_it_should_be(case: Case, point: Point) -> None:
    """nan and inf come from nan and inf, or where the exact number is out of range."""
    got = case.run(1.0, *point)
    if all(map(math.isfinite, got)) and point not in case.kinks:
        return
    for what, a, b in zip(case.results(point), got, case.exact(point), strict=False):
        if (not math.isfinite(a) or point in case.kinks) and ulps(a, b) > case.bound:
            if point in case.kinks and len(point) == 1 and what != "the value":
                sides = " and ".join(mp.nstr(x, 17) for x in case.reference.beside(point, 0))
                text = f"{sides} on its two sides"
                case.fail(SINGULAR, f"{what} is wrong", point, text, a, hint=case.kink_hint(point))
            _fail_by(case, SINGULAR, ulps(a, b), what, point, b, a)


def has_right_digits(case: Case, point: Point) -> None:
    """Value and slopes on floats are within the bound of the reference; what may be a kink was told before."""
    if point in case.kinks:
        return
    for i, (a, b) in enumerate(zip(case.run(1.0, *point), case.exact(point), strict=False)):
        error = case.error(point, i, a, b)
        if error > case.bound and not (mp.isnan(a) and not mp.isnan(b)):  # that was looked at before
            what = case.results(point)[i]
            if case.floats_only and not error < FAR_OFF:  # the formula on other numbers is that of the forward
                _fail_by(case, FORMULA, error, what, point, b, a)
            rows = _if_possible(lambda: case.mathematics(point)) if not case.kink_hint(point) else []
            if wrong := [row for row in rows if row[0] == what]:
                _fail_by(case, FORMULA, error, what, point, b, wrong[0][2])
            _fail_by(case, ROUNDING, error, what, point, b, a)
        case.note("slopes" if i else "value", error, point)


def _fail_by(case: Case, kind: str, error: float, what: str, point: Point, exact: Any, got: Any) -> NoReturn:
    """Fails for an error in ulps; nan has none."""
    spoilt = bool(mp.isnan(got)) and not mp.isnan(exact)
    text = "" if spoilt else f"{error:.3g} units in the last place; allowed are {case.bound:g}"
    says = f"is nan, where it should be {shown_number(exact)}" if spoilt else "is wrong"
    facts, hint = {}, ""
    if not case.hurried:
        place = case.results(point).index(what)
        if kind == FORMULA:
            facts["likely"] = formula_mistake(case, point, place)
        else:
            hint = case.kink_hint(point) or NOT_FROM_NAN * spoilt
            facts["because"] = _if_possible(lambda: origin(case.graph(point, place)))
        if kind == ROUNDING:
            says = "loses its digits, though the formula is right" if not facts["because"] and not hint else says
            facts["where"] = lost_where(case, place)
            hint = hint or _if_possible(lambda: rounding_mistake(case.graph(point, place)))
    case.fail(kind, f"{what} {says}", point, exact, got, hint, error=text, **facts)


def _if_possible(cause: Callable[[], Any]) -> Any:
    """The cause of a failure; "" for a rule that these numbers do not pass through: that is another failure."""
    try:
        return cause()
    except Exception:
        return ""


def is_moderate(case: Case, point: Point) -> bool:
    """No kink, and squares and second differences of what is there stay in range."""
    out, usual = case.out(*point), all(1e-50 < abs(x) < 1e50 or (x == 0 and len(point) == 1) for x in point)
    return usual and not case.at_kink(point) and (out == 0 or 1e-200 < abs(out) < 1e200)


def has_right_second_derivatives(case: Case, point: Point) -> None:
    """The graph of the slopes has the slopes of the reference's slopes.

    What floats find wrong is computed again on a thousand digits: rounding alone is no wrong formula.
    """
    if point in case.kinks or not is_moderate(case, point) or not case.exact(point):
        return
    on_floats = _wrong_seconds(case, point, point)
    if not on_floats or not case.is_within_reach(point):
        return
    with mp.workprec(3400):
        wrong, kind = _wrong_seconds(case, point, list(map(high, point))), SECOND
    if not wrong and not any(failure.kind == ROUNDING for failure in case.failures):
        wrong = [row for row in on_floats if abs(row[1]) < LIMIT and not mp.isfinite(row[2])]
        kind = ROUNDING
    for what, exact, got, error in wrong[:1]:
        text = f"{mp.nstr(error, 3)} of the size of its terms; allowed are {SECOND_BOUND:g}"
        case.fail(kind, f"{what} is wrong", point, exact, got, error=text)


def _wrong_seconds(case: Case, point: Point, inputs: Sequence[Any]) -> list[tuple[str, Any, Any, Any]]:
    """The second derivatives that are wrong on these numbers: (what, expected, got, error in its terms)."""
    values, wrong = list(map(Value, inputs)), []
    called = names(case.rule, len(point))
    try:
        slopes = gradients(case.rule(*values), values, create_graph=True)
    except Exception as error:
        case._raised("backward", values, error)
    for i, slope in enumerate(slopes):
        terms = absolute_adjoint(slope)
        for j, got in enumerate(gradients(slope, values)):
            try:
                exact = case.reference.second(point, i, j)
            except (ValueError, ZeroDivisionError):
                continue
            if mp.isnan(got) and mp.isnan(exact):
                continue
            size = max(abs(exact), terms.get(values[j], 0.0)) or 1
            if case.reference.size is None:  # nothing is known of what may cancel in the slope, such as 1 - t*t
                size = max(size, abs(slope.data) / max(1, abs(point[j])))
            relative = max(0, abs(got - exact) - UNDERFLOW) / size
            if not relative <= SECOND_BOUND:
                if _is_between_sides(case, point, i, j, got) or _is_at_kink(slope):
                    continue
                wrong.append((f"the second derivative for {called[i]} and {called[j]}", exact, got, relative))
            case.note("second", float(relative), point)
    return wrong


def _is_at_kink(slope: Value) -> bool:
    """Is a rule at its kink on the way, so that a convention decides? cos|x| has a second derivative at 0."""
    for node in topological_order(slope):
        numbers = [parent.data for parent in node.parents]
        if node.rule and (set(numbers) & set(node.rule.kinks) or (node.rule.ties and len(set(numbers)) == 1)):
            return True
    return False


def _is_between_sides(case: Case, point: Point, i: int, j: int, got: Any) -> bool:
    """Has slope i a kink here, as Huber's loss at 1, and is `got` one of its slopes for j, or between?"""
    try:
        low, top = Reference(lambda *xs: case.rule.backward(1, case.rule.forward(*xs), *xs)[i]).beside(point, j)
    except (AssertionError, ValueError, ArithmeticError):
        return False
    if mp.isinf(low) or mp.isinf(top):
        return bool(low == top or low <= got <= top)  # a jump of the slope has no derivative
    room = 1e-6 * max(abs(low), abs(top))
    return bool(top - low > room and low - room <= got <= top + room)


# --- On other numbers ---------------------------------------------------------------------------------------


def takes_mpmath_numbers(case: Case, point: Point) -> None:
    """Both functions return an mpmath number for one, and no float but inf."""
    inputs = list(map(high, point))
    if case.floats_only or not case.is_within_reach(point):
        return
    for i, got in enumerate(case.run(mp.mpf(1), *inputs)):
        if isinstance(got, float) and math.isfinite(got):
            what = f"{'backward' if i else 'forward'} turns an mpmath number into a float"
            case.fail(NUMBERS, what, inputs, "mpf", got, hint=f"{ANY_NUMBER} {OF_FLOATS}")


def is_of_any_number(case: Case, point: Point) -> bool:
    """Does the rule take mpmath numbers, and return such?"""
    try:
        takes_mpmath_numbers(case, point)
    except RuleMismatch as error:
        return error.kind != NUMBERS
    return True


def keeps_digits(case: Case, point: Point) -> None:
    """Of 50 digits in, at least 25 come out: a float on the way would leave 16."""
    if not case.exact(point):
        return
    with mp.workdps(DIGITS):  # whole numbers stay whole, others get digits that a float has not
        inputs: Any = tuple(high(x) if x % 1 == 0 else x * (1 + mp.mpf(2) ** -60) for x in point)
    with mp.workdps(50):
        got = case.run(mp.mpf(1), *inputs)
    for i, (what, a, b) in enumerate(zip(case.results(point), got, case.exact(inputs), strict=False)):
        with mp.workdps(DIGITS):
            agrees = near(high(a), b, 1e-25) or abs(b) >= LIMIT or abs(a - b) <= 1e-25 * case.size(inputs, i)
        if not agrees:
            hint = "Constants such as math.pi and 0.1 are floats: see elementary.constants, and write x / 10."
            case.fail(NUMBERS, f"{what} loses digits on mpmath numbers", inputs, b, a, hint=hint)


def is_the_same_on_values(case: Case, point: Point) -> None:
    """Data and gradients are those on floats, to the bit."""
    expected, inputs = case.run(1.0, *point), [Value(x) for x in point]
    y = case.rule(*inputs)
    y.backward()
    got = [y.data, *(x.grad for x in inputs)]
    for what, a, b in zip(case.results(point), got, expected, strict=True):
        if a != b and not (math.isnan(a) and math.isnan(b)):
            case.fail(NUMBERS, f"{what} on Values is not that on floats", point, b, a)


def is_the_same_on_arrays(case: Case, points: Sequence[Point]) -> None:
    """An array gives what its numbers give one by one; a reduction reduces the last axis."""
    if case.rule.n_inputs:
        inputs = [np.array(column) for column in zip(*points, strict=True)]
        columns = case.run(np.full(len(points), 2.0), *inputs)
        rows = zip(*(np.broadcast_to(column, len(points)) for column in columns), strict=True)
        for point, got in zip(points, rows, strict=True):
            _compare_row(case, point, got)
        return
    for point in points:
        inputs = [np.array([part, part]) for part in np.split(np.array(point), case.reference.n_arrays)]
        out, *shares = case.run(np.full(2, 2.0), *inputs)
        if np.shape(out) != (2,) or any(np.shape(s) != np.shape(x) for s, x in zip(shares, inputs, strict=True)):
            hint = "Write it with elementary.total, largest ... and elementary.spread, as `sum` in rules.py."
            what = "on an array, forward must reduce the last axis, and backward give shares of the input's shape"
            shapes = f"{np.shape(out)} and {[np.shape(share) for share in shares]}"
            case.fail(NUMBERS, what, point, f"(2,) and {[np.shape(x) for x in inputs]}", shapes, hint=hint)
        _compare_row(case, point, [out[1], *np.concatenate(shares, axis=1)[1]])


def _compare_row(case: Case, point: Point, got: Sequence[Any]) -> None:
    for i, (what, a, b) in enumerate(zip(case.results(point), got, case.run(2.0, *point), strict=True)):
        if not near(a, b, 1e-10) and case.error(point, i, a, b) > case.bound:  # NumPy's exp is another one
            case.fail(NUMBERS, f"{what} on an array is not that on floats", point, b, float(a))


def is_exact_on_fractions(case: Case) -> None:
    """Where forward keeps Fractions exact, so must the shares."""
    for n in [case.rule.n_inputs] if case.rule.n_inputs else [2, 4, 6]:
        for inputs in filter(inside(case.rule), list(permutations(FRACTIONS, n))[:40]):
            if not case.is_within_reach(inputs, exact=True) or not _is_rational(case, inputs):
                return
            shares, exact = case.shares(Fraction(1), *inputs), case.exact_slopes(inputs)
            for what, a, b in zip(case.results(inputs)[1:], shares, exact, strict=False):
                with mp.workdps(DIGITS):  # beside a jump b has fewer digits
                    right = isinstance(a, Rational) and (near(high(a), b, 1e-25) or case.kink_hint(inputs))
                if not right:
                    hint = "Write whole numbers without a point, 2 and not 2.0: a float is not exact."
                    case.fail(NUMBERS, f"{what} is not exact on Fractions", inputs, b, a, hint=hint)
            if "Fractions" not in case.numbers:
                case.numbers.append("Fractions")


def _is_rational(case: Case, inputs: Sequence[Fraction]) -> bool:
    """Does forward keep Fractions exact all the way? max(tanh(x), 0) does not, even where it is 0."""
    out = _if_possible(lambda: case.rule.forward(*map(Value, inputs)))
    nodes = topological_order(out) if isinstance(out, Value) else []
    return all(isinstance(x, Rational) for x in (case.out(*inputs), *(node.data for node in nodes)))


# --- At singular points -------------------------------------------------------------------------------------


def passes_nan_on(case: Case, points: Sequence[Point]) -> None:
    """nan in, nan out; and a slope that depends on the nan is nan."""
    if not case.reference.nan_passes:
        return
    for n in {len(point) for point in points}:
        examples = [point for point in points if len(point) == n][:5]
        for bad in range(n):
            inputs = tuple(math.nan if i == bad else x for i, x in enumerate(examples[0]))
            out, *shares = case.run(1.0, *inputs)
            if not math.isnan(out):
                case.fail(SINGULAR, "nan is lost", inputs, math.nan, out, hint=NAN_HINT)
            for i, share in enumerate(shares):
                if not math.isnan(share) and _depends(case, examples, i, bad):
                    what = f"{case.results(inputs)[1 + i]} is a number beside nan"
                    case.fail(SINGULAR, what, inputs, math.nan, share, hint=NAN_HINT)


def _depends(case: Case, points: Sequence[Point], i: int, j: int) -> bool:
    """Does the slope for input i depend on input j?"""
    if case.rule.kinks or case.rule.ties:
        return True
    for point in points:
        with contextlib.suppress(ValueError, ZeroDivisionError):
            if abs(case.reference.second(point, i, j)) > UNDERFLOW:
                return True
    return False


def bears_infinity(case: Case) -> None:
    """At inf and -inf a rule of one input raises nothing: infinite numbers come about by overflow."""
    for x in (math.inf, -math.inf):
        if case.rule.n_inputs == 1 and inside(case.rule)((x,)):
            case.shares(1.0, x)


def has_a_slope_between_those_beside(case: Case, points: Sequence[Point]) -> None:
    """At a kink or tie the slope lies between those on its two sides."""
    ties = {(point[0],) * len(point) for point in points if len(point) > 1} if case.rule.ties else set()
    for point in [*((kink,) for kink in case.rule.kinks), *sorted(ties)[:10]]:
        for i, slope in enumerate(case.shares(1.0, *point)):
            low, high = case.reference.beside(point, i)
            if max(abs(low), abs(high)) > 1e20:
                continue  # a jump: any slope there is a convention
            slack = 1e-12 * max(1, abs(low), abs(high))
            if not low - slack <= slope <= high + slack:
                what = f"at a kink, {case.results(point)[1 + i]} is not between those beside it"
                case.fail(SINGULAR, what, point, f"{mp.nstr(low, 17)} to {mp.nstr(high, 17)}", slope)
