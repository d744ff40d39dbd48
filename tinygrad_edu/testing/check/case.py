"""A rule under examination: its results on any kind of number, the exact ones, and how a failure is told."""

import contextlib
import inspect
import math
from collections.abc import Sequence
from enum import StrEnum
from numbers import Real
from typing import Any, NoReturn

import mpmath as mp
import numpy as np

from ...engine.rule import RULES, Rule
from ...engine.value import Value
from .deadline import TimeLimit
from .points import Point
from .reference import Reference, high, is_between, ulps, within_reach

__tracebackhide__ = True  # pytest shows the user's line, not ours

FORMULA_BOUND = 2.0**12  # ulps: a formula may have constants that are floats, and is right to 12 digits then
ANY_NUMBER = (
    "Write it with operators and tinygrad_edu.elementary, which take every kind of number, and overflow to inf."
)
UNDEFINED = (
    "If it is not defined there, declare domain= or check=; if it is, elementary.div and .log raise nothing."
)


class Kind(StrEnum):
    """The kinds of failure, in the order in which they are reported."""

    SHARES = "number of shares"
    UPSTREAM = "upstream not used linearly"
    FORMULA = "wrong formula"
    SINGULAR = "wrong at kinks, nan or inf"
    ROUNDING = "rounding"
    SECOND = "second derivative"
    NUMBERS = "other numbers"


class RuleMismatch(AssertionError):
    """A rule does not do what it says. The message shows the simplest input found, expected, got and the error.

    `rule` and `point`, the inputs, show it again: `rule.forward(*point)`. `kind` is a Kind, `what` says
    what is wrong, and `report` has all failures, with its `plot()` and `to_json()`.
    """

    hint: str = ""
    place: int | None = None  # 0 if the value is wrong, i + 1 if slope i is
    report: Any = None

    def __init__(self, rule: Rule, kind: Kind, what: str, point: Sequence[Any], **facts: str):
        self.rule: Rule = rule
        self.kind: Kind = kind
        self.what: str = what
        self.point: tuple[Any, ...] = tuple(point)
        self.facts: dict[str, str] = facts

    @property
    def where(self) -> str:
        called = names(self.rule, len(self.point))
        return ", ".join(f"{name} = {shown_number(x)}" for name, x in zip(called, self.point, strict=True))

    def __str__(self) -> str:
        facts = {"kind": self.kind, "input": self.where, **self.facts}
        lines = [f"{self.rule.name}: {self.what}", *(f"  {name:<10}{x}" for name, x in facts.items() if x)]
        lines += [f"  {self.hint}"] * bool(self.hint)
        others = self.report.failures[1:] if self.report and self.report.failures[0] is self else []
        return "\n".join([*lines, *(f"  also      {f.kind}: {f.what} at {f.where}" for f in others)])


class Case:
    """A rule beside its reference, and what was found: in `worst`, the largest error of each kind and where."""

    def __init__(self, rule: Rule, reference: Reference, bound: float):
        self.rule: Rule = rule
        self.reference: Reference = reference
        self.bound: float = bound
        self.inputs: int = 0
        self.undecided: int = 0
        self.proven: int = 0
        self.points: list[Point] = []
        self.tame: list[Point] = []  # a few of them, of ordinary size
        self.worst: dict[str, tuple[float, Point]] = {}
        self.kinks: list[Point] = []  # those that were found, and not declared
        self.numbers: list[str] = ["floats"]
        self.failures: list[RuleMismatch] = []
        self.clock: TimeLimit = TimeLimit()  # of the search
        self.floats_only: bool = bool(getattr(rule, "floats_only", False))  # functions of another language
        self._exact: dict[Point, list[Any]] = {}

    @property
    def is_over(self) -> bool:
        """Is the time up?"""
        return self.clock.is_over

    def mismatch(
        self, kind: Kind, what: str, point: Sequence[Any], expected: Any, got: Any, hint: str = "", **facts: str
    ) -> RuleMismatch:
        shown = {"expected": shown_number(expected), "got": shown_number(got)}
        failure = RuleMismatch(self.rule, kind, what, point, **shown, **facts)
        failure.hint = hint
        return failure

    def tells(self, kind: Kind) -> bool:
        """Was a failure of this kind found?"""
        return any(failure.kind == kind for failure in self.failures)

    def note(self, kind: str, error: float, point: Point) -> None:
        if kind not in self.worst or error > self.worst[kind][0]:
            self.worst[kind] = error, point

    # --- The rule's numbers ---------------------------------------------------------------------------------

    def run(self, upstream: Any, *inputs: Any) -> list[Any]:
        """The rule's value and its shares on any kind of number. Raises TypeError unless each input has one."""
        (out,) = self._call("forward", inputs)
        return [out, *self._call("backward", inputs, upstream, out)]

    def _call(self, where: str, inputs: Sequence[Any], *more: Any) -> Sequence[Any]:
        try:
            results = getattr(self.rule, where)(*more, *inputs)
        except Exception as error:
            self.raised(where, inputs, error)
        numbers = self.rule.counted(results, len(inputs)) if more else [results]
        for x in numbers:
            if not isinstance(x, Real | np.ndarray):
                wanted = "numbers" if more else "one real number"
                raise TypeError(f"{where} of {self.rule.name} must return {wanted}, got {x!r} for {inputs}.")
        return numbers

    def raised(self, where: str, inputs: Sequence[Any], error: Exception) -> NoReturn:
        what = f"{where} fails on a {type(inputs[0]).__name__}"
        failure = RuleMismatch(self.rule, Kind.NUMBERS, what, inputs, error=f"{type(error).__name__}: {error}")
        failure.hint = ANY_NUMBER
        if isinstance(error, ValueError | ZeroDivisionError) and isinstance(inputs[0], int | float):
            failure.kind, failure.hint = Kind.SINGULAR, UNDEFINED
        raise failure from error

    def at_precision(self, bits: int, point: Point) -> list[Any]:
        """The rule's value and slopes at a precision in bits. Raises ValueError if that would take forever."""
        within_reach(self._both, point)
        with mp.workprec(bits):
            return self.run(mp.mpf(1), *map(high, point))

    def is_within_reach(self, point: Point, exact: bool = False) -> bool:
        """Does the rule end soon at this point, on mpmath numbers or on Fractions (`exact`)?"""
        try:
            within_reach(self._both, point, exact)
        except ValueError:
            return False
        return True

    def _both(self, *inputs: Any) -> Any:
        return self.rule.backward(1, self.rule.forward(*inputs), *inputs)

    def graph(self, point: Point, place: int) -> Value:
        """The value (place 0) or a slope, with the graph of how it was computed."""
        out = Value(self.run(1.0, *point)[0], label="out")
        inputs = [Value(x, label=name) for x, name in zip(point, names(self.rule, len(point)), strict=True)]
        results: list[Value] = [self.rule.forward(*inputs), *self.rule.shares(Value(1.0), out, *inputs)]
        return results[place]

    # --- The exact numbers ----------------------------------------------------------------------------------

    def exact(self, point: Point) -> list[Any]:
        """The reference's value and slopes; the value alone where it has no slopes, nothing outside its domain.

        Nothing once the time is up.
        """
        if self.is_over or point in self._exact:
            return self._exact.get(point, [])
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

    def exact_slopes(self, point: Point) -> Any:
        """None at kinks that the reference leaves open, and where it has none: at the ends of a closed domain."""
        if any(x in self.rule.kinks for x in point) or (self.reference.slopes is None and self.at_kink(point)):
            return []
        try:
            return self.reference.exact_slopes(point)
        except (ValueError, ZeroDivisionError):
            return []

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
            rows = [(a, b, ulps(b, a)) for a, b in zip(expected, got, strict=False)]
            if all(error <= FORMULA_BOUND for *_, error in rows):
                return []
        wrong = [i for i, (_, b, e) in enumerate(rows) if e > FORMULA_BOUND and not self.may_choose(point, i, b)]
        return [(self.results(point)[i], *rows[i]) for i in wrong]

    def results(self, point: Sequence[Any]) -> list[str]:
        """What the value and the slopes are called."""
        return ["the value", *(f"the slope for {name}" for name in names(self.rule, len(point)))]

    def error(self, point: Point, place: int, got: Any, exact: Any) -> float:
        """The error in ulps of the value (place 0) or of a slope, where terms cancel in ulps of their size."""
        error = ulps(got, exact)
        if error <= self.bound:
            return error
        excused = ulps(got, exact, self.size(point, place))
        # at a kink, the slope's own slope would be taken for infinite
        return error if excused <= self.bound and self.kink(point, place) else excused

    def size(self, point: Point, place: int) -> Any:
        """The size of the terms that may cancel in the value (place 0) or in a slope; inf if it is not known."""
        slopes = self.exact(point)[1:]
        try:
            if place:
                return self.reference.slope_size_of(point, place - 1)
            return self.reference.value_size(point, slopes) if slopes else 0
        except (ValueError, ArithmeticError):
            return mp.inf  # so large that only nan is an error

    def errors(self, point: Point) -> list[float]:
        """The errors in ulps of the value and of each slope; none where they are not known, or the time is up."""
        if self.is_over:
            return []
        try:
            pairs = zip(self.run(1.0, *point), self.exact(point), strict=False)
            return [self.error(point, i, a, b) for i, (a, b) in enumerate(pairs)]
        except (AssertionError, ValueError, ArithmeticError):
            return []

    # --- Kinks ----------------------------------------------------------------------------------------------

    def at_kink(self, point: Point) -> bool:
        """Has the rule two slopes here, by its own declaration?"""
        return any(x in self.rule.kinks for x in point) or (self.rule.ties and len(set(point)) < len(point))

    def kink(self, point: Point, place: int) -> list[Any]:
        """The slopes on the two sides of a kink; none where the reference has one slope, or for the value."""
        try:
            return self.reference.kink(point, place - 1) if place else []
        except (ValueError, ArithmeticError):
            return []

    def _is_tie(self, point: Point, place: int) -> bool:
        """Is it a kink of equal inputs? Such a kink is gone where the other inputs have moved."""
        moved = tuple(x if i == place - 1 else math.nextafter(x, math.inf) for i, x in enumerate(point))
        return len(set(point)) < len(point) and not self.kink(moved, place)

    def may_choose(self, point: Point, place: int, slope: Any) -> bool:
        """Is this one of two slopes, or between, at a kink of several inputs that is no tie?

        Such a kink cannot be declared. Only the reference may have it: max(y, e^x) at x = -10000, y = 0.
        """
        if len(point) == 1 or self.reference.slopes or not (ends := self.kink(point, place)):
            return False
        return is_between(slope, ends) and not self._is_tie(point, place)

    def kink_hint(self, point: Point, place: int) -> str:
        """What to declare, if this is a kink that nobody declared."""
        if not (ends := self.kink(point, place)) or (len(point) > 1 and not self._is_tie(point, place)):
            return ""
        if len(point) > 1:
            return "Equal inputs have two slopes here: if this is a kink, declare ties=True."
        sides = " and ".join(map(shown_number, ends))
        return f"The slopes on its two sides are {sides}: if this is a kink, declare kinks=({point[0]!r},)."


def as_rule(rule: Any, caller: str) -> Rule:
    """A rule itself, or the rule of this name. Raises TypeError, in the name of the `caller`."""
    if isinstance(rule, str) and rule in RULES:
        return RULES[rule]
    if not isinstance(rule, Rule):
        fix = f"there are {', '.join(RULES)}" if isinstance(rule, str) else "a Rule is what @rule returns"
        raise TypeError(f"{caller} takes a Rule or the name of one, got {rule!r}: {fix}.")
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
    """A number to as many digits as it takes, an mpmath number as a float."""
    return x if isinstance(x, str) else repr(float(x) if isinstance(x, mp.mpf) else x)


def close(a: Any, b: Any, tolerance: Any) -> bool:
    """Are they equal, relative to the larger one? 1e-15 is as good as 0, since terms may cancel."""
    if a == b or (mp.isnan(a) and mp.isnan(b)):
        return True
    return bool(abs(a - b) <= tolerance * max(1e-5, abs(a), abs(b)))
