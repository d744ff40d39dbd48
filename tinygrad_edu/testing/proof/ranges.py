"""Ranges of real numbers with proven ends, by ball arithmetic (python-flint, which wraps Arb)."""

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Self

from flint import arb, fmpq

from ...engine import elementary
from ...engine.operators import Operators
from ...engine.rule import Rule
from .cells import Undecided

BITS = 200  # 60 digits
INF, ZERO = arb("inf"), arb(0)
FAR = arb(10) ** 6  # e^FAR stands for anything larger, as its exponent would be too long to compute


class OwnArithmetic(Operators):
    """A number with an arithmetic of its own: operators and `elementary` ask for `_apply(name, *inputs)`.

    A class has its `operations` by name, and these methods: `number` makes one of a rational number, `power` has a
    constant exponent, `function` is any of facts.py by its name, and `signs(other)` are those that the difference
    may have.
    """

    operations: ClassVar[dict[str, Callable[..., Any]]]
    functions: ClassVar[dict[str, Any]] = {}  # the rows of facts.py
    number: Callable[[Any], Any]
    power: Callable[[Fraction], Any]
    function: Callable[[str], Any]
    signs: Callable[[Any], set[int]]

    def lift(self, x: Any) -> Self:
        """x as such a number; a float is the rational number that it is. Raises Undecided if it is none."""
        if isinstance(x, Unknown):
            raise Undecided(x.reason)
        if isinstance(x, float) and not math.isfinite(x):
            raise Undecided(f"{x} is not a real number")
        out: Self = x if hasattr(x, "_apply") else self.number(x)
        return out

    def row(self, name: str) -> Any:
        """What facts.py states of a function. Raises Undecided if it is not there."""
        if name not in self.functions:
            raise Undecided(f"nothing is known of {name}: add a row to testing/proof/facts.py")
        return self.functions[name]

    def _bell(self, scale: float) -> Any:
        """e^(-scale x^2), which `elementary.bell` computes by parts, as floats would lose digits."""
        return elementary.exp(-scale * (self * self))

    def _damped(self, s: Any) -> Any:
        """x s for `elementary.damped`: no x is infinite."""
        return self * s

    def _record(self, rule: Rule, inputs: tuple[Any, ...]) -> Any:
        return rule.forward(*inputs)

    def _operate(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        return self._apply(name, *inputs, **parameters)

    def __eq__(self, other: Any) -> Any:
        """Python's ==, which a rule may use on floats."""
        return self._apply("equal", self, other)

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # one number has many forms

    def _apply(self, name: str, *inputs: Any, exponent: Any = None) -> Any:
        """What operators and `elementary` ask for. What is unknown may stand in a branch that is not taken.

        Raises Undecided, or what the arithmetic raises, if it is not known which branch is taken.
        """
        if name == "plain":
            return inputs[0]
        try:
            if name in COMPARISONS:
                return self._holds(COMPARISONS[name], *inputs)
            if name == "where":
                return inputs[2] if inputs[0] == 0 else inputs[1]
            a, *others = map(self.lift, inputs)
            if name == "pow_n":
                return a.power(Fraction(exponent))
            return self.operations[name](a, *others) if name in self.operations else a.function(name)
        except (Undecided, ZeroDivisionError) as reason:
            if name == "where" or name in COMPARISONS:
                raise
            return Unknown(str(reason))

    def _holds(self, relation: Callable[[int, int], bool], a: Any, b: Any) -> bool:
        """Does a relation of the sign of a - b with 0 hold? Raises Undecided where both answers are possible."""
        ends = [x if isinstance(x, float) and math.isinf(x) else 0.0 for x in (a, b)]
        if ends[0] != ends[1] and not any(getattr(x, "huge", False) for x in (a, b)):
            return relation(1 if ends[0] > ends[1] else -1, 0)
        a, b = self.lift(a), self.lift(b)
        answers = {relation(sign, 0) for sign in ({0} if a is b else a.signs(b))}
        if len(answers) > 1:
            raise Undecided("a branch inside the box, or one that rounding decides")
        return answers.pop()


COMPARISONS: dict[str, Callable[[int, int], bool]]  # of the sign of a - b with 0
COMPARISONS = {"lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "equal": operator.eq}
CHOICES: dict[str, Callable[..., Any]] = {
    "max": lambda a, b: a if a >= b else b,
    "sign": lambda a: (a > 0) - (a < 0),
    "heaviside": lambda a: int(a > 0),
    "sigmoid": lambda a: 1 / (1 + elementary.exp(-a)),
}


class Unknown(OwnArithmetic):
    """What is 0/0, infinite, or has no bound, for the reason given; and all that is computed from it."""

    def __init__(self, reason: str):
        self.reason: str = reason

    def _apply(self, name: str, *inputs: Any, exponent: Any = None) -> Any:
        if name == "where" or name in COMPARISONS:
            raise Undecided(self.reason)
        return self

    def __getattr__(self, name: str) -> Any:
        """Raises Undecided, whichever attribute of a number is read."""
        raise AttributeError(name) if name.startswith("_") else Undecided(self.reason)

    def __bool__(self) -> bool:
        raise Undecided(self.reason)


@dataclass(eq=False, slots=True)
class Range(OwnArithmetic):
    """All real numbers from lo to hi, two arbs without a radius, -inf and inf allowed.

    None is nearer to 0 than `gap`, which is known of a cosine.
    """

    lo: Any
    hi: Any
    gap: Any = field(default_factory=lambda: ZERO)  # without a hash, as in python-flint 0.7, an arb is no default

    def __iter__(self) -> Iterator[Any]:
        return iter((self.lo, self.hi))

    def number(self, x: Any) -> "Range":
        return exactly(x)

    def constants(self) -> tuple["Range", ...]:
        """pi, the square root of 2, log 2 and log 10 at the present precision."""
        return tuple(map(exactly, (arb.pi(), arb(2).sqrt(), arb.const_log2(), arb.const_log10())))

    def power(self, e: Fraction) -> "Range":
        """x^e for a rational e. If e is no whole number, x is known to be positive."""
        if e < 0:
            return _divide(exactly(1), self.power(-e))
        if e.denominator != 1:
            power = arb(fmpq(e.numerator, e.denominator))
            return hull(end if end in (0, INF) else end**power for end in (max(self.lo, arb(0)), self.hi))
        image = hull(end ** int(e) for end in self)
        return Range(hull([self.mig ** int(e)]).lo, image.hi) if e and e % 2 == 0 and 0 in self else image

    def function(self, name: str) -> "Range":
        row = self.row(name)
        image: Range = (row.range or row.formula)(self)
        return image

    def signs(self, other: Any) -> set[int]:
        apart = self - other
        return {sign for sign, may_be in ((-1, apart.lo < 0), (0, 0 in apart), (1, apart.hi > 0)) if may_be}

    @property
    def mag(self) -> Any:
        """The largest absolute value."""
        return max(abs(self.lo), abs(self.hi))

    @property
    def mig(self) -> Any:
        """The smallest absolute value."""
        return self.gap if self.lo <= 0 <= self.hi else min(abs(self.lo), abs(self.hi))

    @property
    def side(self) -> int | None:
        """-1, 0 or 1 if all numbers have that sign, else None."""
        return 1 if self.lo > 0 else -1 if self.hi < 0 else 0 if self.lo == 0 == self.hi else None

    def __contains__(self, x: Any) -> bool:
        return bool(self.lo <= x <= self.hi)


ALL = Range(-INF, INF)


def exactly(x: Any) -> Range:
    """The range of one number: a float, an int, a Fraction, or a ball."""
    if isinstance(x, float) and x == x:
        return Range(arb(x), arb(x))
    return hull([arb(fmpq(x.numerator, x.denominator)) if isinstance(x, Fraction) else arb(x)])


def hull(balls: Iterable[Any]) -> Range:
    """The smallest range with all these balls; all numbers, if one of them is nan."""
    balls = list(balls)
    if any(ball.is_nan() for ball in balls):
        return ALL
    ends = [(x.lower(), x.upper()) if x.is_finite() else (x, x) for x in balls]
    return Range(min(low for low, _ in ends), max(high for _, high in ends))


def _add(a: Range, b: Range) -> Range:
    return hull([a.lo + b.lo, a.hi + b.hi])


def _multiply(a: Range, b: Range) -> Range:
    if a is b and a is not ALL:  # a square; ALL stands for many numbers
        return a.power(Fraction(2))
    product = hull(arb(0) if x == 0 or y == 0 else x * y for x in a for y in b)
    if a.gap is not ZERO or b.gap is not ZERO:
        product.gap = hull([a.mig * b.mig]).lo
    return product


def _divide(a: Range, b: Range) -> Range:
    if not b.lo <= 0 <= b.hi:
        return a * hull(arb(0) if abs(end) == INF else 1 / end for end in b)
    if b.lo == 0 < b.hi:
        return a * Range(1 / b.hi if b.hi < INF else arb(0), INF)
    if b.gap > 0:
        most = hull([1 / b.gap]).hi
        return a * Range(-most, most, hull([1 / b.mag]).lo)
    if b.hi == 0 > b.lo:
        return a * Range(-INF, 1 / b.lo if b.lo > -INF else arb(0))
    return ALL


Range.operations = CHOICES | {
    "add": _add,
    "sub": lambda a, b: _add(a, -b),
    "mul": _multiply,
    "div": _divide,
    "neg": lambda a: Range(-a.hi, -a.lo, a.gap),
    "abs": lambda a: Range(a.mig, a.mag),
}


# --- Ranges of functions: each makes a function of a range from one of a ball ----------------------------------


def monotone(f: Callable[[Any], Any], low: Any = None, high: Any = None, far: Any = INF) -> Any:
    """The range of a monotone function. Beyond -far and far it has its limits: low and high, or those of f."""

    def of(x: Range) -> Range:
        first = arb(low) if low is not None and x.lo <= -far else f(min(x.lo, far))
        return hull([first, arb(high) if high is not None and x.hi >= far else f(max(x.hi, -far))])

    return of


def wave(f: Callable[[Any], Any]) -> Any:
    """The range of sin or cos."""

    def of(x: Range) -> Range:
        if x.mag == INF or x.hi - x.lo > 7 or x.mag > arb(10) ** 20:
            return Range(arb(-1), arb(1))
        image = hull([f(x.lo.union(x.hi))])
        return Range(max(arb(-1), image.lo), min(arb(1), image.hi))

    return of
