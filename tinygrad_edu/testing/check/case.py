"""A rule under examination: its results on any kind of number, the exact ones, and how a failure is told."""

import contextlib
import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, NoReturn

import mpmath as mp
import numpy as np

from ...engine.rule import RULES, Rule
from ...engine.value import Value
from .deadline import TimeLimit
from .points import Point
from .reference import Reference, high, ulps, within_reach

__tracebackhide__ = True  # pytest shows the user's line, not ours

FORMULA_BOUND = 2.0**12  # ulps: a formula may have constants that are floats, and is right to 12 digits then
ANY_NUMBER = (
    "Write it with operators and tinygrad_edu.elementary, which take every kind of number, and overflow to inf."
)
UNDEFINED = (
    "If it is not defined there, declare domain= or check=; if it is, elementary.div and .log raise nothing."
)
KINDS = (
    "number of shares",
    "upstream not used linearly",
    "wrong formula",
    "wrong at kinks, nan or inf",
    "rounding",
    "second derivative",
    "other numbers",
)  # in the order in which check_rule looks for them
SHARES, UPSTREAM, FORMULA, SINGULAR, ROUNDING, SECOND, NUMBERS = KINDS


class RuleMismatch(AssertionError):
    """A rule is not what it says. The message shows the simplest input found, expected, got and the error.

    `rule` and `point`, the inputs, are there to go on with: `rule.forward(*point)`. `kind` is one of KINDS, `what`
    says what is wrong, and `report` has all failures, with its `plot()` and `to_json()`.
    """

    report: Any = None

    def __init__(
        self, rule: Rule, kind: str, what: str, point: Sequence[Any], facts: dict[str, str], hint: str = ""
    ):
        self.rule: Rule = rule
        self.kind: str = kind
        self.point: tuple[Any, ...] = tuple(point)
        self.what: str = what
        inputs = zip(names(rule, len(self.point)), self.point, strict=True)
        self.where: str = ", ".join(f"{name} = {shown_number(x)}" for name, x in inputs)
        facts = {"kind": kind, "input": self.where, **facts}
        lines = [f"{rule.name}: {what}", *(f"  {name:<10}{text}" for name, text in facts.items() if text)]
        super().__init__("\n".join([*lines, f"  {hint}"] if hint else lines))


class Case:
    """A rule beside its reference, and what was found: in `worst`, the largest error of each kind and where.

    `hurried` while a search tries hundreds of points that fail: reasons and hints wait for the simplest of them.
    """

    def __init__(self, rule: Rule, reference: Reference, bound: float):
        self.rule: Rule = rule
        self.reference: Reference = reference
        self.bound: float = bound
        self.inputs: int = 0
        self.undecided: int = 0
        self.proven: int = 0
        self.points: list[Point] = []
        self.worst: dict[str, tuple[float, Point]] = {}
        self.kinks: list[Point] = []  # those that were found, and not declared
        self.numbers: list[str] = ["floats"]
        self.hurried: bool = False
        self.failures: list[RuleMismatch] = []
        self.clock: TimeLimit = TimeLimit()  # of the search
        self.floats_only: bool = bool(getattr(rule, "floats_only", False))  # functions of another language
        self._exact: dict[Point, list[Any]] = {}

    @property
    def is_over(self) -> bool:
        """Is the time up?"""
        return self.clock.is_over

    def fail(
        self, kind: str, what: str, point: Sequence[Any], expected: Any, got: Any, hint: str = "", **facts: str
    ) -> NoReturn:
        facts = {"expected": shown_number(expected), "got": shown_number(got), **facts}
        raise RuleMismatch(self.rule, kind, what, point, facts, hint)

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
        return self.run(upstream, *inputs)[1:]

    def run(self, upstream: Any, *inputs: Any) -> list[Any]:
        """The rule's value and shares. Raises TypeError as `out` and `shares` do."""
        out = self.out(*inputs)
        try:
            shares = self.rule.backward(upstream, out, *inputs)
        except Exception as error:
            self._raised("backward", inputs, error)
        for share in self.rule.counted(shares, len(inputs)):
            if not isinstance(share, Real | np.ndarray):
                raise TypeError(
                    f"backward of {self.rule.name} must return numbers, got {share!r} among its shares."
                )
        return [out, *shares]

    def _raised(self, where: str, inputs: Sequence[Any], error: Exception) -> NoReturn:
        what = f"{where} fails on a {type(inputs[0]).__name__}"
        facts = {"error": f"{type(error).__name__}: {error}"}
        undefined = isinstance(error, ValueError | ZeroDivisionError) and isinstance(inputs[0], int | float)
        hint, kind = (UNDEFINED, SINGULAR) if undefined else (ANY_NUMBER, NUMBERS)
        raise RuleMismatch(self.rule, kind, what, inputs, facts, hint) from error

    def at_kink(self, point: Point) -> bool:
        """Has the rule two slopes here, by its own declaration?"""
        return any(x in self.rule.kinks for x in point) or (self.rule.ties and len(set(point)) < len(point))

    def exact(self, point: Point) -> list[Any]:
        """The reference's value and slopes; the value alone where it has no slopes, nothing outside its domain.

        Nothing once the time is up.
        """
        if self.is_over:
            return self._exact.get(point, [])
        if point not in self._exact:
            try:
                self._exact[point] = [self.reference.value(point), *self.exact_slopes(point)]
            except (ValueError, ArithmeticError, mp.libmp.NoConvergence):
                self._exact[point] = []
            except (TypeError, AttributeError) as error:
                raise TypeError(
                    f"The reference of {self.rule.name} must take and return mpmath numbers, "
                    f"but at {point} it raised {type(error).__name__}: {error}"
                ) from None
        return self._exact[point]

    def exact_slopes(self, point: Point) -> Sequence[Any]:
        """None at kinks that the reference leaves open, and where it has none: at the ends of a closed domain."""
        if any(x in self.rule.kinks for x in point) or (self.reference.slopes is None and self.at_kink(point)):
            return []
        try:
            slopes = self.reference.exact_slopes(point)
        except (ValueError, ZeroDivisionError):
            return []
        return [] if self._chooses(point, slopes, lambda: self.run(1.0, *point)[1:]) else slopes

    def _chooses(self, point: Point, slopes: Sequence[Any], shares: Callable[[], Sequence[Any]]) -> bool:
        """Does the rule take one of two slopes, at a kink of several inputs that is no tie?

        There is no way to declare it. It may be one for the reference alone: of max(y, e^x) at x = -10000, y = 0.
        """
        if len(point) == 1 or self.reference.slopes is not None:
            return False
        try:
            own = shares()
            if all(ulps(got, exact) <= self.bound for got, exact in zip(own, slopes, strict=True)):
                return False
            sides = [self.reference.beside(point, i) for i in range(len(point))]
            kinks = [i for i, (low, high) in enumerate(sides) if _are_apart(low, high)]
            if len(set(point)) < len(point):  # a tie, unless the kink is there for other numbers too
                for i in kinks:
                    beside = [y if k == i else y * (1 - 1e-6) or 1e-6 for k, y in enumerate(point)]
                    if not _are_apart(*self.reference.beside(tuple(beside), i)):
                        return False
        except (AssertionError, TypeError, ValueError, ArithmeticError):
            return False
        slack = [1e-12 * max(1, abs(low), abs(high)) for low, high in sides]
        return bool(kinks) and all(a - e <= x <= b + e for x, (a, b), e in zip(own, sides, slack, strict=True))

    def at_precision(self, bits: int, point: Point) -> list[Any]:
        """The rule's value and slopes on mpmath numbers of so many bits."""
        within_reach(self._both, point)
        with mp.workprec(bits):
            return self.run(mp.mpf(1), *map(high, point))

    def is_within_reach(self, point: Point, exact: bool = False) -> bool:
        """Does the rule take a moment on mpmath numbers, or on Fractions (`exact`)?"""
        try:
            within_reach(self._both, point, exact)
        except ValueError:
            return False
        return True

    def _both(self, *inputs: Any) -> Any:
        return self.rule.backward(1, self.rule.forward(*inputs), *inputs)

    def mathematics(self, point: Point) -> list[tuple[str, Any, Any, float]]:
        """What is wrong with the rule's formulas: (what, expected, got, error in ulps) for value and slopes.

        The rule runs on 60 digits, and on a thousand where that is not enough, so that no rounding is left.
        """
        expected = self.exact(point)
        if not expected or self.floats_only:
            return []
        for bits in (200, 3400):
            try:
                got = self.at_precision(bits, point)
            except ValueError:
                return []
            errors = [ulps(a, b) for a, b in zip(got, expected, strict=False)]
            if max(errors) <= FORMULA_BOUND:
                return []
        if self._chooses(point, expected[1:], lambda: got[1:]):
            return []
        rows = zip(self.results(point), expected, got, errors, strict=False)
        return [row for row in rows if row[3] > FORMULA_BOUND]

    def results(self, point: Sequence[Any]) -> list[str]:
        """What the value and the slopes are called."""
        return ["the value", *(f"the slope for {name}" for name in names(self.rule, len(point)))]

    def error(self, point: Point, i: int, got: Any, exact: Any) -> float:
        """The error in ulps of the value (i = 0) or of slope i - 1, where terms cancel in ulps of their size."""
        error = ulps(got, exact)
        if error <= self.bound or mp.isnan(got):  # no size excuses nan
            return error
        excused = ulps(got, exact, self.size(point, i))
        # at a kink, the slope's own slope would be taken for infinite
        return error if i and excused <= self.bound and self.kink_hint(point) else excused

    def size(self, point: Point, i: int) -> Any:
        """The size of the terms that may cancel in the value (i = 0) or in slope i - 1."""
        if i:
            return self.reference.slope_size_of(point, i - 1)
        slopes = self.exact(point)[1:]
        return self.reference.value_size(point, slopes) if slopes else 0

    def errors(self, point: Point) -> list[float]:
        """The errors in ulps of the value and of each slope; none where they cannot be told, or the time is up."""
        if self.is_over:
            return []
        try:
            pairs = zip(self.run(1.0, *point), self.exact(point), strict=False)
            return [self.error(point, i, a, b) for i, (a, b) in enumerate(pairs)]
        except (AssertionError, ValueError, ArithmeticError):
            return []

    def kink_hint(self, point: Point) -> str:
        """Is this a kink that nobody declared?"""
        try:
            low, high = self.reference.beside(point, 0)
            if low == high or high - low <= 1e-6 * max(abs(low), abs(high)) < mp.inf:
                return ""
        except (ValueError, ArithmeticError):
            return ""
        if len(set(point)) < len(point):
            return "Equal inputs have two slopes here: if this is a kink, declare ties=True."
        if len(point) > 1:
            return ""
        sides = f"{mp.nstr(low, 4)} and {mp.nstr(high, 4)}"
        return f"The slopes on its two sides are {sides}: if this is a kink, declare kinks=({point[0]!r},)."

    def graph(self, point: Point, place: int) -> Value:
        """The value (place 0) or a slope, with the graph of how it was computed."""
        out = Value(self.out(*point), label="out")
        inputs = [Value(x, label=name) for x, name in zip(point, names(self.rule, len(point)), strict=True)]
        results: list[Value] = [self.rule.forward(*inputs), *self.rule.shares(Value(1.0), out, *inputs)]
        return results[place]


def _are_apart(low: Any, high: Any) -> bool:
    """Are the slopes on two sides those of a kink?"""
    return bool(high - low > 1e-6 * max(abs(low), abs(high)))


def as_rule(rule: Any, asks: str) -> Rule:
    """A rule, or the rule of a name, for the function that asks. Raises TypeError for anything else."""
    if isinstance(rule, str) and rule in RULES:
        return RULES[rule]
    if not isinstance(rule, Rule):
        fix = f"there are {', '.join(RULES)}" if isinstance(rule, str) else "a Rule is what @rule returns"
        raise TypeError(f"{asks} takes a Rule or the name of one, got {rule!r}: {fix}.")
    return rule


def refuse(function: str, others: dict[str, Any]) -> None:
    """Raises TypeError for arguments that a function does not have."""
    if others:
        word = next(iter(others))
        raise TypeError(f"{function} has no argument {word!r}: `domain=` says where the inputs may lie.")


def names(rule: Rule, n: int) -> list[str]:
    """What the inputs are called: as in forward, or x0, x1 ... for a reduction, or where forward does not tell."""
    with contextlib.suppress(TypeError, ValueError):
        called = list(inspect.signature(getattr(rule.forward, "func", rule.forward)).parameters)[:n]
        if rule.n_inputs and len(called) == n:
            return called
    return ["x"] if rule.n_inputs == 1 else [f"x{i}" for i in range(n)]


def shown_number(x: Any) -> str:
    """A number to as many digits as it takes: mpmath numbers as floats where that is enough."""
    if isinstance(x, mp.mpf):
        return repr(float(x)) if float(x) == x or mp.mp.prec <= 53 else mp.nstr(x, 40)
    return x if isinstance(x, str) else repr(x)


def near(a: Any, b: Any, tolerance: Any) -> bool:
    """Relative to the larger of the two; but where terms cancel, 1e-15 is as good as 0."""
    if a == b or (mp.isnan(a) and mp.isnan(b)):
        return True
    return bool(abs(a - b) <= tolerance * max(1e-5, abs(a), abs(b)))
