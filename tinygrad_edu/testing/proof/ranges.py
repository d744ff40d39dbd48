"""Ranges of real numbers with proven ends, by ball arithmetic (python-flint, which wraps Arb)."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from flint import arb, ctx, fmpq

BITS = 200  # 60 digits
INF = arb("inf")
FAR = arb(10) ** 6  # e^FAR stands for anything larger, as its exponent would be too long to compute


class Range(NamedTuple):
    """All real numbers from lo to hi, two arbs without a radius, -inf and inf allowed."""

    lo: Any
    hi: Any

    def __add__(self, other: "Range") -> "Range":  # type: ignore[override]  # a tuple's + makes a longer tuple
        return Range(_plus(self.lo, other.lo).lower(), _plus(self.hi, other.hi).upper())

    def __neg__(self) -> "Range":
        return Range(-self.hi, -self.lo)

    def __sub__(self, other: "Range") -> "Range":
        return self + -other

    def __mul__(self, other: "Range") -> "Range":  # type: ignore[override]  # as above
        return hull(_times(a, b) for a in self for b in other)

    def __truediv__(self, other: "Range") -> "Range":
        if other.lo <= 0 <= other.hi:
            if other.lo == 0 < other.hi:
                return self * Range(1 / other.hi if other.hi < INF else arb(0), INF)
            if other.hi == 0 > other.lo:
                return self * Range(-INF, 1 / other.lo if other.lo > -INF else arb(0))
            return ALL
        ends = [arb(0) if abs(end) == INF else 1 / end for end in other]
        return self * hull(ends)

    def __abs__(self) -> "Range":
        return Range(self.mig, self.mag)

    @property
    def mag(self) -> Any:
        """The largest absolute value."""
        return max(abs(self.lo), abs(self.hi))

    @property
    def mig(self) -> Any:
        """The smallest absolute value."""
        return arb(0) if self.lo <= 0 <= self.hi else min(abs(self.lo), abs(self.hi))

    @property
    def sign(self) -> int | None:
        """-1, 0 or 1 if all numbers have that sign, else None."""
        if self.lo > 0:
            return 1
        if self.hi < 0:
            return -1
        return 0 if self.lo == 0 == self.hi else None

    def __contains__(self, x: Any) -> bool:
        return bool(self.lo <= x <= self.hi)


ALL = Range(-INF, INF)


def exactly(x: Any) -> Range:
    """The range of one number: a float, an int, a Fraction, or a ball."""
    if isinstance(x, Fraction):
        x = arb(fmpq(x.numerator, x.denominator))
    ball = x if isinstance(x, arb) else arb(x)
    return Range(ball.lower(), ball.upper()) if ball.is_finite() else Range(ball, ball)


def hull(numbers: Any) -> Range:
    """The smallest range with all these numbers or ranges."""
    ends = [end for x in numbers for end in (x if isinstance(x, Range) else (x, x))]
    if any(end.is_nan() for end in ends):
        return ALL
    return Range(min(_lower(end) for end in ends), max(_upper(end) for end in ends))


def _lower(x: Any) -> Any:
    return x.lower() if x.is_finite() else x


def _upper(x: Any) -> Any:
    return x.upper() if x.is_finite() else x


def _plus(a: Any, b: Any) -> Any:
    class_of_ends = a + b
    return class_of_ends if class_of_ends.is_finite() else _Infinite(class_of_ends)


class _Infinite:
    """An infinite end: it has no ends of its own."""

    def __init__(self, x: Any):
        self.x = x

    def lower(self) -> Any:
        return -INF if self.x.is_nan() else self.x

    def upper(self) -> Any:
        return INF if self.x.is_nan() else self.x


def _times(a: Any, b: Any) -> Any:
    return arb(0) if a == 0 or b == 0 else a * b


def at_end(f: Callable[[Any], Any], limits: tuple[Any, Any]) -> Callable[[Any], Any]:
    """f of one end of a range; `limits` are its limits at -inf and inf."""

    def of_end(x: Any) -> Any:
        if x == INF:
            return limits[1]
        return limits[0] if x == -INF else f(x)

    return of_end


def monotone(f: Callable[[Any], Any], *limits: Any) -> Callable[[Range], Range]:
    """The range of a monotone function."""
    end = at_end(f, (arb(limits[0]), arb(limits[1])))
    return lambda x: hull([end(x.lo), end(x.hi)])


def clipped(f: Callable[[Any], Any], low: Any, high: Any) -> Callable[[Range], Range]:
    """The range of an increasing function that runs away: beyond +-FAR its limits will do."""

    def of(x: Range) -> Range:
        lower = f(max(x.lo, -FAR)) if x.lo >= -FAR else arb(low)
        if x.lo > FAR:
            lower = f(FAR)
        upper = f(x.hi) if -FAR <= x.hi <= FAR else (arb(high) if x.hi > FAR else f(-FAR))
        return hull([lower, upper])

    return of


def even(f: Callable[[Range], Range]) -> Callable[[Range], Range]:
    """The range of an even function that increases from 0 on."""
    return lambda x: f(abs(x))


def wave(f: Callable[[Any], Any]) -> Callable[[Range], Range]:
    """The range of sin or cos."""

    def of(x: Range) -> Range:
        if x.mag == INF or x.hi - x.lo > 7 or x.mag > arb(10) ** 20:
            return Range(arb(-1), arb(1))
        middle, radius = (x.lo + x.hi) / 2, (x.hi - x.lo) / 2
        ball = f(middle + arb(0, radius.upper()))
        return Range(max(arb(-1), ball.lower()), min(arb(1), ball.upper()))

    return of


def precise() -> None:
    """Sets the precision of every ball; flint keeps it for the whole process."""
    ctx.prec = BITS
