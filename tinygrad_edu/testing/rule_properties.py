"""What must hold for a rule, one function each: it tries a Subject, a rule beside its reference, and fails it."""

import inspect
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import permutations
from numbers import Rational, Real
from typing import Any, NoReturn

import mpmath as mp
import numpy as np

from ..engine.calculus import absolute_adjoint, gradients
from ..engine.rule import Rule
from ..engine.value import Value
from .origins import origin
from .points import Point, inside
from .reference import DIGITS, Reference, high, ulps

UNDERFLOW = 1e-300  # products below it may be 0
SECOND_BOUND = 1e-12  # of the absolute adjoint: what rounding may do to a derivative of a derivative
FRACTIONS = [Fraction(-7, 3), Fraction(1, 10), Fraction(5, 2), Fraction(-1, 6), Fraction(22, 7), Fraction(1, 2)]
ANY_NUMBER = (
    "Write it with operators and tinygrad_edu.elementary, which take every kind of number, and overflow to inf."
)
UNDEFINED = (
    "If it is not defined there, declare domain= or check=; if it is, elementary.div and .log raise nothing."
)
NOT_FROM_NAN = (
    "nan may come from nan only: multiply in another order, so that nothing overflows, "
    "or choose by elementary.where."
)
NAN_HINT = "A comparison with nan is false: let `where` keep nan on its last side, or use heaviside and sign."


class RuleMismatch(AssertionError):
    """A rule is not what it says. The message shows the simplest input found, expected, got and the error.

    `rule` and `point`, the inputs, are there to go on with: `rule.forward(*point)`.
    """

    def __init__(self, rule: Rule, what: str, point: Sequence[Any], facts: dict[str, str], hint: str = ""):
        self.rule, self.point = rule, tuple(point)
        inputs = zip(names(rule, len(self.point)), self.point, strict=True)
        facts = {"input": ", ".join(f"{name} = {_shown(x)}" for name, x in inputs), **facts}
        lines = [f"{rule.name}: {what}", *(f"  {name:<10}{text}" for name, text in facts.items())]
        super().__init__("\n".join([*lines, f"  {hint}"] if hint else lines))


class Subject:
    """A rule beside its reference, and what was found: in `worst`, the largest error of each kind and where.

    `hurried` while a search tries hundreds of points that fail: reasons and hints wait for the simplest of them.
    """

    def __init__(self, rule: Rule, reference: Reference, bound: float):
        self.rule, self.reference, self.bound = rule, reference, bound
        self.inputs, self.undecided = 0, 0
        self.worst: dict[str, tuple[float, Point]] = {}
        self.numbers = ["floats"]
        self.hurried = False

    def fail(
        self,
        what: str,
        point: Sequence[Any],
        expected: Any,
        got: Any,
        error: str = "",
        hint: str = "",
        because: str = "",
    ) -> NoReturn:
        facts = {"expected": _shown(expected), "got": _shown(got), "error": error, "because": because}
        raise RuleMismatch(self.rule, what, point, {name: text for name, text in facts.items() if text}, hint)

    def note(self, kind: str, error: float, point: Point) -> None:
        if kind not in self.worst or error > self.worst[kind][0]:
            self.worst[kind] = error, point

    def out(self, *inputs: Any) -> Any:
        """The rule's forward on any kind of number. Raises TypeError if it returns none."""
        try:
            out = self.rule.forward(*inputs)
        except Exception as error:
            self._raised("forward", inputs, error)
        if not isinstance(out, Real | np.ndarray):
            raise TypeError(f"forward of {self.rule.name} must return one real number, got {out!r} for {inputs}.")
        return out

    def shares(self, upstream: Any, *inputs: Any) -> Sequence[Any]:
        """The rule's backward. Raises TypeError unless it returns one number per input."""
        out = self.out(*inputs)
        try:
            shares: Sequence[Any] = self.rule.backward(upstream, out, *inputs)
        except Exception as error:
            self._raised("backward", inputs, error)
        for share in self.rule.counted(shares, len(inputs)):
            if not isinstance(share, Real | np.ndarray):
                raise TypeError(
                    f"backward of {self.rule.name} must return numbers, got {share!r} among its shares."
                )
        return shares

    def _raised(self, where: str, inputs: Sequence[Any], error: Exception) -> NoReturn:
        kind = type(inputs[0]).__name__
        facts = {"error": f"{type(error).__name__}: {error}"}
        hint = UNDEFINED if isinstance(error, ValueError | ZeroDivisionError) else ANY_NUMBER
        raise RuleMismatch(self.rule, f"{where} fails on a {kind}", inputs, facts, hint) from error

    def at_kink(self, point: Point) -> bool:
        """Has the rule two slopes here, by its own declaration?"""
        return any(x in self.rule.kinks for x in point) or (self.rule.ties and len(set(point)) < len(point))

    def exact_slopes(self, point: Point) -> Sequence[Any] | None:
        """None where there is none: at kinks that the reference leaves open, at the ends of a closed domain."""
        if self.reference.slopes is None and self.at_kink(point):
            return None
        try:
            return self.reference.exact_slopes(point)
        except (ValueError, ZeroDivisionError):
            return None


def names(rule: Rule, n: int) -> list[str]:
    """What the inputs are called: as in forward, or x0, x1 ... for a reduction."""
    if rule.n_inputs is None:
        return [f"x{i}" for i in range(n)]
    return list(inspect.signature(getattr(rule.forward, "func", rule.forward)).parameters)[:n]


# --- On floats ----------------------------------------------------------------------------------------------


def has_right_value(subject: Subject, point: Point) -> None:
    """The value is within the bound of the reference."""
    got = subject.out(*point)
    try:
        exact = subject.reference.value(point)
    except (ValueError, ZeroDivisionError):
        subject.undecided += 1
        return
    except (TypeError, AttributeError) as error:
        raise TypeError(
            f"The reference of {subject.rule.name} must take and return mpmath numbers, but at {point} it raised "
            f"{type(error).__name__}: {error}"
        ) from None

    def size() -> Any:
        slopes = subject.exact_slopes(point)
        return 0 if slopes is None else subject.reference.value_size(point, slopes)

    _compare(
        subject, "value", "the value", point, got, exact, size, lambda: origin(_forward_graph(subject, point))
    )


def has_right_slopes(subject: Subject, point: Point) -> None:
    """Every slope is within the bound of the reference, where that has one."""
    got, exact = subject.shares(1.0, *point), subject.exact_slopes(point)
    if exact is None:
        subject.undecided += not subject.at_kink(point)
        return
    for i, name in enumerate(names(subject.rule, len(point))):

        def size(i: int = i) -> Any:
            size = subject.reference.slope_size_of(point, i)
            excused = ulps(got[i], exact[i], size) <= subject.bound
            # at a kink, the slope's own slope would be taken for infinite
            return 0 if excused and _kink_hint(subject, point) else size

        def cause(i: int = i) -> str:
            return origin(_backward_graph(subject, point)[i])

        _compare(subject, "slopes", f"the slope for {name}", point, got[i], exact[i], size, cause)


def _compare(
    subject: Subject,
    kind: str,
    what: str,
    point: Point,
    got: Any,
    exact: Any,
    size: Callable[[], Any],
    cause: Callable[[], str],
) -> None:
    error = ulps(got, exact)
    if error > subject.bound and not mp.isnan(got):  # which no size excuses
        error = ulps(got, exact, size())
    if error > subject.bound:
        _fail_by(subject, error, what, point, exact, got, cause)
    subject.note(kind, error, point)


def _fail_by(
    subject: Subject, error: float, what: str, point: Point, exact: Any, got: Any, cause: Callable[[], str]
) -> NoReturn:
    """Fails for an error in ulps; nan has none."""
    spoilt = bool(mp.isnan(got)) and not mp.isnan(exact)
    text = "" if spoilt else f"{error:.3g} units in the last place; allowed are {subject.bound:g}"
    says = f"is nan, where it should be {_shown(exact)}" if spoilt else "is wrong"
    because, hint = ("", "") if subject.hurried else (_if_possible(cause), _kink_hint(subject, point))
    subject.fail(f"{what} {says}", point, exact, got, text, hint or NOT_FROM_NAN * spoilt, because)


def _if_possible(cause: Callable[[], str]) -> str:
    """The cause of a failure; "" for a rule that Values do not pass through, for then that is another failure."""
    try:
        return cause()
    except Exception:
        return ""


def _forward_graph(subject: Subject, point: Point) -> Any:
    return subject.rule.forward(*map(Value, point))


def _backward_graph(subject: Subject, point: Point) -> Any:
    """The slopes, each with the graph of how backward came to it."""
    out = Value(subject.out(*point), label="out")
    return subject.rule.shares(Value(1.0), out, *map(Value, point))


def _kink_hint(subject: Subject, point: Point) -> str:
    """Is this a kink that nobody declared?"""
    try:
        low, high = subject.reference.beside(point, 0)
        if high - low <= 1e-6 * max(abs(low), abs(high)) or not subject.reference.is_steady(point, 0):
            return ""
    except (ValueError, ArithmeticError):
        return ""
    if len(set(point)) < len(point):
        return "Equal inputs have two slopes here: if this is a kink, declare ties=True."
    if len(point) > 1:
        return ""
    sides = f"{mp.nstr(low, 4)} and {mp.nstr(high, 4)}"
    return f"The slopes on its two sides are {sides}: if this is a kink, declare kinks=({point[0]!r},)."


def is_moderate(subject: Subject, point: Point) -> bool:
    """No kink, and squares and second differences of what is there stay in range."""
    out = subject.out(*point)
    return (
        not subject.at_kink(point)
        and all(1e-50 < abs(x) < 1e50 or (x == 0 and len(point) == 1) for x in point)
        and (out == 0 or 1e-200 < abs(out) < 1e200)
    )


def has_right_second_derivatives(subject: Subject, point: Point) -> None:
    """The graph of the slopes has the slopes of the reference's slopes."""
    if not is_moderate(subject, point):
        return
    called, inputs = names(subject.rule, len(point)), [Value(x) for x in point]
    try:
        slopes = gradients(subject.rule(*inputs), inputs, create_graph=True)
    except Exception as error:
        subject._raised("backward", inputs, error)
    for i, slope in enumerate(slopes):
        terms = absolute_adjoint(slope)
        for j, got in enumerate(gradients(slope, inputs)):
            try:
                exact = subject.reference.second(point, i, j)
            except (ValueError, ZeroDivisionError):
                continue
            if mp.isnan(got) and mp.isnan(exact):
                continue
            size = max(abs(exact), terms.get(inputs[j], 0.0)) or 1
            if subject.reference.size is None:  # nothing is known of what may cancel in the slope, such as 1 - t*t
                size = max(size, abs(slope.data) / max(1, abs(point[j])))
            relative = max(0, abs(got - exact) - UNDERFLOW) / size
            if not relative <= SECOND_BOUND:
                what = f"the second derivative for {called[i]} and {called[j]} is wrong"
                text = f"{mp.nstr(relative, 3)} of the size of its terms; allowed are {SECOND_BOUND:g}"
                subject.fail(what, point, exact, got, text)
            subject.note("second", float(relative), point)


def is_proportional_to_upstream(subject: Subject, point: Point) -> None:
    """A share is upstream * slope."""
    slopes, shares = subject.shares(1.0, *point), subject.shares(-4.0, *point)
    for name, share, slope in zip(names(subject.rule, len(point)), shares, slopes, strict=True):
        if not _near(share, -4 * slope, 1e-15):
            subject.fail(f"for upstream -4, the share of {name} is not -4 * its slope", point, -4 * slope, share)


# --- On other numbers ---------------------------------------------------------------------------------------


def takes_mpmath_numbers(subject: Subject, point: Point) -> None:
    """Both functions return an mpmath number for one, and no float."""
    inputs = list(map(high, point))
    for where, got in [("forward", [subject.out(*inputs)]), ("backward", subject.shares(mp.mpf(1), *inputs))]:
        if any(isinstance(x, float) for x in got):
            subject.fail(f"{where} turns an mpmath number into a float", inputs, "mpf", got[0], hint=ANY_NUMBER)


def keeps_digits(subject: Subject, point: Point) -> None:
    """Of 50 digits in, at least 25 come out: a float on the way would leave 16."""
    with mp.workdps(DIGITS):  # whole numbers stay whole, others get digits that a float has not
        inputs: Any = tuple(high(x) if x % 1 == 0 else x * (1 + mp.mpf(2) ** -60) for x in point)
    with mp.workdps(50):
        got = [subject.out(*inputs), *subject.shares(mp.mpf(1), *inputs)]
    try:
        exact = [subject.reference.value(inputs), *(subject.exact_slopes(inputs) or [])]
    except (ValueError, ZeroDivisionError):
        return
    for what, a, b in zip(_results(subject, point), got, exact, strict=False):
        with mp.workdps(DIGITS):
            near = _near(high(a), b, 1e-25)
        if not near:
            hint = "Constants such as math.pi and 0.1 are floats: see elementary.constants, and write x / 10."
            subject.fail(f"{what} loses digits on mpmath numbers", inputs, b, a, hint=hint)


def is_the_same_on_values(subject: Subject, point: Point) -> None:
    """Data and gradients are those on floats, to the bit."""
    inputs = [Value(x) for x in point]
    y = subject.rule(*inputs)
    y.backward()
    expected = [subject.out(*point), *subject.shares(1.0, *point)]
    for what, a, b in zip(_results(subject, point), [y.data, *(x.grad for x in inputs)], expected, strict=True):
        if a != b and not (math.isnan(a) and math.isnan(b)):
            subject.fail(f"{what} on Values is not that on floats", point, b, a)


def is_the_same_on_arrays(subject: Subject, points: Sequence[Point]) -> None:
    """An array gives what its numbers give one by one; a reduction reduces the last axis."""
    if subject.rule.n_inputs:
        inputs = [np.array(column) for column in zip(*points, strict=True)]
        shares = subject.shares(np.full(len(points), 2.0), *inputs)
        columns = [subject.out(*inputs), *shares]
        rows = zip(*(np.broadcast_to(column, len(points)) for column in columns), strict=True)
        for point, got in zip(points, rows, strict=True):
            _compare_row(subject, point, got)
        return
    for point in points:
        inputs = [np.array([part, part]) for part in np.split(np.array(point), subject.reference.n_arrays)]
        out, shares = subject.out(*inputs), subject.shares(np.full(2, 2.0), *inputs)
        if np.shape(out) != (2,) or any(np.shape(s) != np.shape(x) for s, x in zip(shares, inputs, strict=True)):
            hint = "Write it with elementary.total, largest ... and elementary.spread, as `sum` in rules.py."
            what = "on an array, forward must reduce the last axis, and backward give shares of the input's shape"
            shapes = f"{np.shape(out)} and {[np.shape(share) for share in shares]}"
            subject.fail(what, point, f"(2,) and {[np.shape(x) for x in inputs]}", shapes, hint=hint)
        _compare_row(subject, point, [out[1], *np.concatenate(list(shares), axis=1)[1]])


def _compare_row(subject: Subject, point: Point, got: Sequence[Any]) -> None:
    expected = [subject.out(*point), *subject.shares(2.0, *point)]
    for what, a, b in zip(_results(subject, point), got, expected, strict=True):
        if not _near(a, b, 1e-10):
            subject.fail(f"{what} on an array is not that on floats", point, b, float(a))


def is_exact_on_fractions(subject: Subject) -> None:
    """Where forward keeps Fractions exact, so must the shares."""
    for n in [subject.rule.n_inputs] if subject.rule.n_inputs else [2, 4, 6]:
        for inputs in filter(inside(subject.rule), list(permutations(FRACTIONS, n))[:40]):
            out = subject.out(*inputs)
            if not isinstance(out, Rational):
                return
            shares, exact = subject.shares(Fraction(1), *inputs), subject.exact_slopes(inputs)
            for what, a, b in zip(_results(subject, inputs)[1:], shares, exact or [], strict=False):
                with mp.workdps(DIGITS):
                    right = isinstance(a, Rational) and _near(high(a), b, 1e-40)
                if not right:
                    hint = "Write whole numbers without a point, 2 and not 2.0: a float is not exact."
                    subject.fail(f"{what} is not exact on Fractions", inputs, b, a, hint=hint)
            if "Fractions" not in subject.numbers:
                subject.numbers.append("Fractions")


# --- At singular points -------------------------------------------------------------------------------------


def passes_nan_on(subject: Subject, points: Sequence[Point]) -> None:
    """nan in, nan out; and a slope that depends on the nan is nan."""
    if not subject.reference.nan_passes:
        return
    for n in {len(point) for point in points}:
        examples = [point for point in points if len(point) == n][:5]
        for bad in range(n):
            inputs = tuple(math.nan if i == bad else x for i, x in enumerate(examples[0]))
            out, shares = subject.out(*inputs), subject.shares(1.0, *inputs)
            if not math.isnan(out):
                subject.fail("nan is lost", inputs, math.nan, out, hint=NAN_HINT)
            for i, share in enumerate(shares):
                if not math.isnan(share) and _depends(subject, examples, i, bad):
                    what = f"the slope for {names(subject.rule, n)[i]} is a number beside nan"
                    subject.fail(what, inputs, math.nan, share, hint=NAN_HINT)


def _depends(subject: Subject, points: Sequence[Point], i: int, j: int) -> bool:
    """Does the slope for input i depend on input j?"""
    if subject.rule.kinks or subject.rule.ties:
        return True
    for point in points:
        try:
            if abs(subject.reference.second(point, i, j)) > UNDERFLOW:
                return True
        except (ValueError, ZeroDivisionError):
            continue
    return False


def bears_infinity(subject: Subject) -> None:
    """At inf and -inf a rule of one input raises nothing: infinite numbers come about by overflow."""
    for x in (math.inf, -math.inf):
        if subject.rule.n_inputs == 1 and inside(subject.rule)((x,)):
            subject.shares(1.0, x)


def has_a_slope_between_those_beside(subject: Subject, points: Sequence[Point]) -> None:
    """At a kink or tie the slope lies between those on its two sides."""
    ties = {(point[0],) * len(point) for point in points if len(point) > 1} if subject.rule.ties else set()
    for point in [*((kink,) for kink in subject.rule.kinks), *sorted(ties)[:10]]:
        for i, slope in enumerate(subject.shares(1.0, *point)):
            low, high = subject.reference.beside(point, i)
            if max(abs(low), abs(high)) > 1e20:
                continue  # a jump: any slope there is a convention
            slack = 1e-12 * max(1, abs(low), abs(high))
            if not low - slack <= slope <= high + slack:
                what = (
                    f"at a kink, the slope for {names(subject.rule, len(point))[i]} is not between those beside it"
                )
                subject.fail(what, point, f"{mp.nstr(low, 17)} to {mp.nstr(high, 17)}", slope)


# --- Small helpers ------------------------------------------------------------------------------------------


def _results(subject: Subject, point: Sequence[Any]) -> list[str]:
    return ["the value", *(f"the slope for {name}" for name in names(subject.rule, len(point)))]


def _shown(x: Any) -> str:
    """A number to as many digits as it takes: mpmath numbers as floats where that is enough."""
    if isinstance(x, mp.mpf):
        return repr(float(x)) if float(x) == x or mp.mp.prec <= 53 else mp.nstr(x, 40)
    return x if isinstance(x, str) else repr(x)


def _near(a: Any, b: Any, tolerance: Any) -> bool:
    """Relative to the larger of the two; but where terms cancel, 1e-15 is as good as 0."""
    if a == b or (mp.isnan(a) and mp.isnan(b)):
        return True
    return bool(abs(a - b) <= tolerance * max(1e-5, abs(a), abs(b)))
