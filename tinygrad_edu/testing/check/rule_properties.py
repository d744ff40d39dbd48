"""What must hold for a rule at a point, one function each: it tries a Case, and raises RuleMismatch."""

import contextlib
import math
from collections.abc import Sequence
from fractions import Fraction
from numbers import Rational
from typing import Any

import mpmath as mp
import numpy as np

from ...engine.calculus import absolute_adjoint, gradients
from ...engine.graph import topological_order
from ...engine.value import Value
from .case import ANY_NUMBER, Case, Kind, RuleMismatch, close, names, shown_number
from .mistakes import upstream_mistake
from .points import Point
from .reference import DIGITS, LIMIT, Reference, high, is_between, ulps

__tracebackhide__ = True  # pytest shows the user's line, not ours

UPSTREAMS = (-4.0, 0.25, 2.0**30, 2.0**-40, 0.0)
UNDERFLOW = 1e-300  # products below it may be 0
FAR_OFF = 2.0**30  # ulps: more than rounding takes, a constant factor or a sign
SECOND_BOUND = 1e-12  # of the absolute adjoint: what rounding may do to a derivative of a derivative
OF_FLOATS = "If it is of another language and takes floats alone, give check_rule a reference of mpmath numbers."
NAN_HINT = "A comparison with nan is false: let `where` keep nan on its last side, or use heaviside and sign."


def runs(case: Case, point: Point) -> None:
    """The rule raises no error, not even at inf, which an overflow gives."""
    case.run(1.0, *point)


# --- The formula, and what floats keep of it ------------------------------------------------------------------


def is_proportional_to_upstream(case: Case, point: Point) -> None:
    """A share is upstream * slope: to the last digits, as upstream is a power of 2."""
    slopes, called = case.run(1.0, *point)[1:], names(case.rule, len(point))
    for upstream in UPSTREAMS:
        for name, share, slope in zip(called, case.run(upstream, *point)[1:], slopes, strict=True):
            if upstream != -4 and not (math.isfinite(share) and math.isfinite(slope)):
                continue
            if not close(share / (upstream or 1), slope * bool(upstream), 1e-14):
                what = f"for upstream {upstream:g}, the share of {name} is not {upstream:g} * its slope"
                hint = upstream_mistake(slope, share) if upstream == -4 else ""
                raise case.mismatch(Kind.UPSTREAM, what, point, upstream * slope, share, hint)


def has_right_numbers(case: Case, point: Point) -> None:
    """Value and slopes are those of the reference: on many digits the formula, and floats to within the bound.

    nan and inf come from nan and inf, or where the exact number is out of range. Failures that were told are
    passed over, except those of the formula.
    """
    case.inputs += 1
    got, exact = case.run(1.0, *point), case.exact(point)
    if not exact or (len(exact) == 1 and not case.at_kink(point)):
        case.undecided += 1
    is_small = all(abs(x) <= 1e6 for x in point)  # mpmath cannot do every larger number; floats will tell
    case.proven += is_small and bool(exact)
    rows = _formula_mistakes(case, point) if is_small else {}
    for place, (what, a, b) in enumerate(zip(case.results(point), got, exact, strict=False)):
        row = rows.get(what)
        if row is None and (error := case.error(point, place, a, b)) <= case.bound:
            case.note("slopes" if place else "value", error, point)
            continue
        kind = Kind.FORMULA if row else Kind.ROUNDING if math.isfinite(a) else Kind.SINGULAR
        if (kind != Kind.FORMULA and case.tells(kind)) or case.may_choose(point, place, a):
            continue
        text = f"{what} is wrong"
        if hint := case.kink_hint(point, place):
            case.kinks.append(point)
            if ulps(a, b) <= case.bound or case.tells(Kind.SINGULAR):
                continue
            sides = " and ".join(map(shown_number, case.kink(point, place)))
            kind, b, error = Kind.SINGULAR, f"{sides} on its two sides", 0
        elif row := row or ({} if is_small else _formula_mistakes(case, point)).get(what):
            kind, (b, a, error) = Kind.FORMULA, row
        elif case.floats_only and kind == Kind.ROUNDING and not error < FAR_OFF:
            kind = Kind.FORMULA  # the formula on other numbers is that of the forward
        if row and not hint and isinstance(a, float):  # an int may be one of its constants
            kind, text, hint, error = Kind.NUMBERS, f"{what} turns an mpmath number into a float", ANY_NUMBER, 0
        elif not hint and mp.isnan(a) and not mp.isnan(b):
            text, error = f"{what} is nan, where it should be {shown_number(b)}", 0
        off = f"{error:.3g} units in the last place; allowed are {case.bound:g}" if error else ""
        failure = case.mismatch(kind, text, point, b, a, hint, error=off)
        failure.place = place
        raise failure


def _formula_mistakes(case: Case, point: Point) -> dict[str, list[Any]]:
    return {what: row for what, *row in case.mathematics(point)}


def has_a_slope_between_those_beside(case: Case, point: Point) -> None:
    """At a kink or tie the slope lies between those on its two sides."""
    for i, slope in enumerate(case.run(1.0, *point)[1:]):
        sides = case.reference.sides(point, i)
        if None not in sides and not is_between(slope, sides):
            what = f"at a kink, {case.results(point)[1 + i]} is not between those beside it"
            raise case.mismatch(Kind.SINGULAR, what, point, " to ".join(map(shown_number, sorted(sides))), slope)


def passes_nan_on(case: Case, point: Point) -> None:
    """nan in, nan out; and a slope that depends on the nan is nan."""
    for bad in range(len(point) * case.reference.nan_passes):
        inputs = tuple(math.nan if i == bad else x for i, x in enumerate(point))
        out, *shares = case.run(1.0, *inputs)
        if not math.isnan(out):
            raise case.mismatch(Kind.SINGULAR, "nan is lost", inputs, math.nan, out, NAN_HINT)
        for i, share in enumerate(shares):
            if not math.isnan(share) and _depends(case, len(point), i, bad):
                what = f"{case.results(inputs)[1 + i]} is a number beside nan"
                raise case.mismatch(Kind.SINGULAR, what, inputs, math.nan, share, NAN_HINT)


def _depends(case: Case, n: int, i: int, j: int) -> bool:
    """Does the slope for input i of n depend on input j?"""
    if case.rule.kinks or case.rule.ties:
        return True
    for point in [point for point in case.tame if len(point) == n][:5]:
        with contextlib.suppress(ValueError, ZeroDivisionError):
            if abs(case.reference.second(point, i, j)) > UNDERFLOW:
                return True
    return False


# --- Second derivatives ---------------------------------------------------------------------------------------


def is_moderate(case: Case, point: Point) -> bool:
    """No kink, and the squares and second differences of its numbers stay in range."""
    try:
        out = case.run(1.0, *point)[0]
    except RuleMismatch:
        return False
    usual = all(1e-50 < abs(x) < 1e50 or (x == 0 and len(point) == 1) for x in point)
    return usual and not case.at_kink(point) and (out == 0 or 1e-200 < abs(out) < 1e200)


def has_right_second_derivatives(case: Case, point: Point) -> None:
    """The graph of the slopes has the slopes of the reference's slopes.

    What floats find wrong is computed again on a thousand digits: rounding alone is no wrong formula.
    """
    if case.tells(Kind.SECOND) or point in case.kinks or not is_moderate(case, point) or not case.exact(point):
        return
    on_floats = _wrong_seconds(case, point, point)
    if not on_floats or not case.is_within_reach(point):
        return
    with mp.workprec(3400):
        wrong, kind = _wrong_seconds(case, point, list(map(high, point))), Kind.SECOND
    if not wrong and not case.tells(Kind.ROUNDING):
        wrong = [row for row in on_floats if abs(row[1]) < LIMIT and not mp.isfinite(row[2])]
        kind = Kind.ROUNDING
    for what, exact, got, error in wrong[:1]:
        text = f"{float(error):.3g} of the size of its terms; allowed are {SECOND_BOUND:g}"
        raise case.mismatch(kind, f"{what} is wrong", point, exact, got, error=text)


def _wrong_seconds(case: Case, point: Point, inputs: Sequence[Any]) -> list[tuple[str, Any, Any, Any]]:
    """The second derivatives that are wrong on these numbers: (what, expected, got, error in its terms)."""
    values, wrong = list(map(Value, inputs)), []
    called = names(case.rule, len(point))
    try:
        slopes = gradients(case.rule(*values), values, create_graph=True)
    except Exception as error:
        case.raised("backward", values, error)
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
                if _is_of_a_kink(case, point, i, j, got) or _is_at_kink(slope):
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


def _is_of_a_kink(case: Case, point: Point, i: int, j: int, got: Any) -> bool:
    """Has slope i a kink here, as Huber's loss at 1, and is `got` one of its slopes for j, or between?"""
    slope = Reference(lambda *xs: case.rule.backward(1, case.rule.forward(*xs), *xs)[i])
    try:
        return bool(ends := slope.kink(point, j)) and is_between(got, ends)
    except (ValueError, ArithmeticError):
        return False


# --- Other numbers --------------------------------------------------------------------------------------------


def takes_mpmath_numbers(case: Case, point: Point) -> None:
    """Both functions return an mpmath number for one, and no float but inf."""
    inputs = list(map(high, point))
    if case.floats_only or not case.is_within_reach(point):
        return
    for i, got in enumerate(case.run(mp.mpf(1), *inputs)):
        if isinstance(got, float) and math.isfinite(got):
            what = f"{'backward' if i else 'forward'} turns an mpmath number into a float"
            raise case.mismatch(Kind.NUMBERS, what, inputs, "mpf", got, f"{ANY_NUMBER} {OF_FLOATS}")


def keeps_digits(case: Case, point: Point) -> None:
    """Of 50 digits in, at least 25 come out: a float on the way would leave 16."""
    if not case.exact(point):
        return
    with mp.workdps(DIGITS):  # whole numbers stay whole, others get digits that no float has
        inputs: Any = tuple(high(x) if x % 1 == 0 else x * (1 + mp.mpf(2) ** -60) for x in point)
    with mp.workdps(50):
        got = case.run(mp.mpf(1), *inputs)
    for place, (what, a, b) in enumerate(zip(case.results(point), got, case.exact(inputs), strict=False)):
        with mp.workdps(DIGITS):
            agrees = close(high(a), b, 1e-25) or abs(b) >= LIMIT or abs(a - b) <= 1e-25 * case.size(inputs, place)
        if not agrees and not case.kink(inputs, place):
            hint = "Constants such as math.pi and 0.1 are floats: see elementary.constants, and write x / 10."
            raise case.mismatch(Kind.NUMBERS, f"{what} loses digits on mpmath numbers", inputs, b, a, hint)


def is_the_same_on_values(case: Case, point: Point) -> None:
    """Data and gradients are those on floats, to the bit."""
    expected, inputs = case.run(1.0, *point), [Value(x) for x in point]
    y = case.rule(*inputs)
    y.backward()
    got = [y.data, *(x.grad for x in inputs)]
    for what, a, b in zip(case.results(point), got, expected, strict=True):
        if not close(a, b, 0):
            raise case.mismatch(Kind.NUMBERS, f"{what} on Values is not that on floats", point, b, a)


def is_the_same_on_arrays(case: Case, point: Point) -> None:
    """An array of two points gives what its numbers give one by one; a reduction reduces the last axis."""
    if case.rule.n_inputs:
        inputs = [np.array(pair) for pair in zip(case.tame[-1], point, strict=True)]
    else:
        inputs = [np.array([part, part]) for part in np.split(np.array(point), case.reference.n_arrays)]
    out, *shares = case.run(np.full(2, 2.0), *inputs)
    if case.rule.n_inputs:
        got = [np.broadcast_to(x, 2)[1] for x in (out, *shares)]
    elif np.shape(out) == (2,) and [np.shape(x) for x in shares] == [x.shape for x in inputs]:
        got = [out[1], *np.concatenate(shares, axis=1)[1]]
    else:
        hint = "Write it with elementary.total, largest ... and elementary.spread, as `sum` in rules.py."
        what = "on an array, forward must reduce the last axis, and backward give shares of the input's shape"
        shapes = f"{np.shape(out)} and {[np.shape(share) for share in shares]}"
        raise case.mismatch(Kind.NUMBERS, what, point, f"(2,) and {[np.shape(x) for x in inputs]}", shapes, hint)
    for place, (what, a, b) in enumerate(zip(case.results(point), got, case.run(2.0, *point), strict=True)):
        if not close(a, b, 1e-10) and case.error(point, place, a, b) > case.bound:  # NumPy's exp is another one
            raise case.mismatch(Kind.NUMBERS, f"{what} on an array is not that on floats", point, b, float(a))


def is_exact_on_fractions(case: Case, inputs: tuple[Fraction, ...]) -> None:
    """Where forward keeps Fractions exact, so must the shares."""
    _, *shares = case.run(Fraction(1), *inputs)
    for place, (a, b) in enumerate(zip(shares, case.exact_slopes(inputs), strict=False), start=1):
        with mp.workdps(DIGITS):  # beside a jump b has fewer digits
            right = isinstance(a, Rational) and (close(high(a), b, 1e-25) or case.kink(inputs, place))
        if not right:
            what = f"{case.results(inputs)[place]} is not exact on Fractions"
            hint = "Write whole numbers without a point, 2 and not 2.0: a float is not exact."
            raise case.mismatch(Kind.NUMBERS, what, inputs, b, a, hint)
    if "Fractions" not in case.numbers:
        case.numbers.append("Fractions")


def is_rational(case: Case, inputs: tuple[Fraction, ...]) -> bool:
    """Does forward keep Fractions exact all the way? max(tanh(x), 0) does not, even where it is 0."""
    if not case.is_within_reach(inputs, exact=True):
        return False
    with contextlib.suppress(Exception):  # that is told where its shares are asked for
        nodes = topological_order(case.rule.forward(*map(Value, inputs)))
        return all(isinstance(node.data, Rational) for node in nodes)
    return True
