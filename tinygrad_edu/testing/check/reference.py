"""What a rule ought to compute: a mathematical function on mpmath numbers, and how near floats must come to it.

Errors are counted in ulps, units in the last place. The unit is that of the exact result, or of the `size` a
reference states where terms cancel. Where it states none, the unit is what rounding the inputs alone can do to the
result, |x f'(x)| beside |f(x)|: no formula on floats can be blamed for less.
"""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Rational
from typing import Any

import mpmath as mp
from hypothesis import strategies as st

from ...engine import elementary
from ...engine.operators import Operators
from ...engine.rule import Rule
from .points import LARGEST, SMALLEST_NORMAL, Point
from .slopes import one_sided

LIMIT = mp.mpf(2) ** 1024  # where the floats end: inf stands for anything from here on
SMALLEST = mp.mpf(2) ** -1100  # no float is as small
DIGITS = 60  # enough for 50 after a few operations


def ulps(got: Any, exact: Any, size: Any = 0) -> float:
    """|got - exact| in units in the last place of exact, or of `size` where that is larger.

    Infinities count as 2^1024, so that overflow is right where the exact value is out of range. Subnormal results
    have lost digits by definition: where the exact one is subnormal, any subnormal will do. nan is right for nan.

    >>> ulps(1.0000000000000002, 1.0), ulps(0.1, mp.mpf(1) / 10) < 0.51
    (1.0, True)
    """
    if got == exact:
        return 0.0
    if mp.isnan(got) or mp.isnan(exact):
        return 0.0 if mp.isnan(got) and mp.isnan(exact) else math.inf
    with mp.workdps(DIGITS):
        got, exact, size = (max(-LIMIT, min(LIMIT, high(x))) for x in (got, exact, size))
        unit = max(abs(exact), abs(size))
        if unit < SMALLEST_NORMAL and abs(got) <= SMALLEST_NORMAL:
            return 0.0
        return float(abs(got - exact) / math.ulp(min(float(unit), LARGEST)))


@dataclass(frozen=True)
class Reference:
    """The mathematics of a rule: `f(*inputs)` of mpmath numbers, and `slopes(*inputs)`, a tuple, if known.

    Without `slopes`, they are taken as differences of f at a few hundred digits. `size` and `slope_size` are the
    sizes of the terms of which f and its slopes are made, where these cancel. `grid` and `strategy` say where to
    look, if not all over the declared domain; `special` points have a closer look around them. `bound` is the
    error allowed, in ulps. `n_arrays` is the number of arrays a reduction takes, and `nan_passes` is false for a
    choice, which drops the nan it does not take.
    """

    f: Callable[..., Any]
    slopes: Callable[..., Sequence[Any]] | None = None
    grid: Sequence[Point] | None = None
    strategy: st.SearchStrategy[Any] | None = None
    bound: float = 32.0
    size: Callable[..., Any] | None = None
    slope_size: Callable[..., Sequence[Any]] | None = None
    n_arrays: int = 1
    nan_passes: bool = True
    special: Point = ()

    def value(self, point: Point) -> Any:
        if self.slopes:
            with mp.workprec(200):
                return _real(self.f(*map(high, point)))
        return _value(self.f, point)

    def value_size(self, point: Point, slopes: Sequence[Any]) -> Any:
        return _on_digits(self.size, point) if self.size else _conditioned(point, slopes)

    def exact_slopes(self, point: Point) -> Any:
        """The slopes for each input. Raises ValueError where one is not known."""
        if self.slopes:
            slopes = self.slopes
            return _on_digits(lambda *inputs: list(map(_real, slopes(*inputs))), point)
        return [_one_slope(self.sides(point, i)) for i in range(len(point))]

    def slope_size_of(self, point: Point, i: int) -> Any:
        if self.slope_size:
            return _on_digits(self.slope_size, point)[i]
        return _conditioned(point, [self.second(point, i, j) for j in range(len(point))])

    def second(self, point: Point, i: int, j: int) -> Any:
        """The derivative of slope i for input j."""
        within_reach(self.f, point)
        slopes = self.slopes
        return _one_slope(sides(lambda *x: slopes(*x)[i], point, j) if slopes else sides(self.f, point, j, of=i))

    def sides(self, point: Point, i: int) -> list[Any]:
        """The slopes for input i to the left and to the right of a point: numbers, inf, None where it has none."""
        within_reach(self.f, point)
        return sides(self.f, point, i)

    def kink(self, point: Point, i: int) -> list[Any]:
        """Its two slopes for input i, the smaller one first, where these differ: at a kink, or a jump."""
        ends = self.sides(point, i)
        if None in ends or ends[0] == ends[1] or abs(ends[1] - ends[0]) <= 1e-6 * max(map(abs, ends)) < mp.inf:
            return []
        return sorted(ends)


def _on_digits(f: Callable[..., Any], point: Sequence[Any]) -> Any:
    with mp.workdps(DIGITS):
        return f(*map(high, point))


def is_between(slope: Any, ends: Sequence[Any]) -> bool:
    """Is a slope one of those beside a kink, or between? At a jump any will do: it is a convention."""
    slack = 1e-12 * max(1, *map(abs, ends))
    return bool(mp.isinf(slack) or min(ends) - slack <= slope <= max(ends) + slack)


class Probe(Operators):
    """A number of few digits that refuses what takes mpmath forever: e^x or sin x of a number too large.

    A power of a Fraction takes forever if its result is large.
    """

    def __init__(self, x: Any, exact: bool = False):
        self.x = x
        self.exact = exact  # a stand-in for a Fraction, which has all its digits

    def constants(self) -> tuple["Probe", ...]:
        return tuple(map(Probe, elementary.constants(self.x)))

    def _record(self, rule: Rule, inputs: tuple[Any, ...]) -> Any:
        return rule.forward(*inputs)

    def _operate(self, name: str, *inputs: Any, exponent: Any = None) -> Any:
        numbers = [x.x if isinstance(x, Probe) else x for x in inputs]
        if name not in _CHEAP and any(
            isinstance(x, mp.mpf) and mp.isfinite(x) and mp.mag(x) > LONG for x in numbers
        ):
            raise ValueError(f"{name} of a number beyond 2^{LONG} is out of reach")
        if name == "pow_n":
            out = numbers[0] ** exponent
        else:
            here = operator if name in _CHEAP and hasattr(operator, name) else elementary
            out = getattr(here, {"max": "maximum"}.get(name, name))(*numbers)
        if self.exact and isinstance(out, mp.mpf) and mp.isfinite(out) and out and abs(mp.mag(out)) > LONG:
            raise ValueError(f"{name} of a Fraction beyond 2^{LONG} is out of reach")
        return Probe(out, self.exact) if isinstance(out, mp.mpf) else out

    _apply = _operate


LONG = 2500  # binary places in front of the point: e^x of such a whole number takes 10 ms
_CHEAP = set("plain add sub mul neg abs lt le gt ge equal where max sign heaviside div sqrt log".split())


def within_reach(f: Callable[..., Any], point: Sequence[Any], exact: bool = False) -> None:
    """Raises ValueError if f of mpmath numbers would take forever at this point, as e^e^e^e^3 does.

    `exact`: or of Fractions, as x^(10^9) does.
    """
    with mp.workprec(53):
        try:
            f(*(Probe(high(x), exact) for x in point))
        except ValueError as error:
            if "out of reach" in str(error):
                raise
        except Exception:  # it takes mpmath numbers only
            return


def _value(f: Callable[..., Any], point: Sequence[Any]) -> Any:
    """f, on so many digits that more make no difference: terms may cancel, as in 1 + tanh(-300)."""
    within_reach(f, point)
    before = None
    for more in (0, 1800, 5400):
        with mp.workprec(_precision(point) + more):
            out = _real(f(*map(high, point)))
        if not mp.isfinite(out) or (more and abs(out - before) <= abs(out) * mp.ldexp(1, -170)):
            return out
        before = out
    raise ValueError("f has no digits")


def sides(f: Callable[..., Any], point: Sequence[Any], i: int, of: int | None = None) -> list[Any]:
    """The slopes of f for input i to the left and to the right of a point, of which 20 digits are right.

    `of`: the slopes of its slope for that input, which is a central difference. The step shrinks, and the digits
    grow, until `one_sided` sees a slope: sin(e^x) has short waves. A slope that is lost beside a much larger term
    of f is not known.
    """

    def along(x: Any) -> Any:
        inputs = [*map(high, point[:i]), x, *map(high, point[i + 1 :])]
        try:
            if of is None:
                return _real(f(*inputs))
            down, up = (_real(f(*inputs[:of], inputs[of] + d, *inputs[of + 1 :])) for d in (-tiny, tiny))
            return (up - down) / (2 * tiny)
        except (ValueError, ArithmeticError):
            return None

    both = [None, None]
    for finer in range(0, 1200, 200):
        with mp.workprec(2 * _precision(point) + 10 * finer):
            x, h = high(point[i]), mp.ldexp(_step(point), -finer)
            tiny = mp.ldexp(h, -64)
            if (here := along(x)) is None or mp.isnan(here):  # as log is below 0
                break
            size = here if of is None else f(*map(high, point)) / tiny
            lost = mp.ldexp(abs(size / h), 8 - mp.mp.prec)
            vague = 0 if of is None else 2**-100  # a central difference is off by tiny^2
            both = [one_sided(along, x, here, sign * h, lost, vague) for sign in (-1, 1)]
            both = [None if s is not None and abs(s) < lost * 2**80 > SMALLEST else s for s in both]
            if not any(slope is None or mp.isinf(slope) for slope in both):
                break
    return both


def _one_slope(both: Sequence[Any]) -> Any:
    """The mean of the slopes on both sides, which at a kink is between them. Raises ValueError without slopes."""
    if None in both:
        raise ValueError("f has no slopes beside this point")
    with mp.workdps(DIGITS):
        return sum(both) / 2


def _step(point: Sequence[Any]) -> Any:
    """A step within which lies no kink, at 0 or where two inputs are equal, and no wave of sin(x^2)."""
    sizes = [abs(high(x)) for x in point if x]
    return min([mp.mpf(1), *sizes, *(1 / size for size in sizes)]) * mp.mpf(2) ** -100


def _precision(point: Sequence[Any]) -> int:
    """Half the bits that two differences in a row can lose, by steps of 2^-100 / |x|: mp.diff doubles them."""
    return 800 + 2 * max([abs(mp.mag(x)) for x in point if x], default=0)


def _conditioned(point: Point, slopes: Sequence[Any]) -> Any:
    """What rounding the inputs does to a result of these slopes, as the size of a term."""
    with mp.workdps(DIGITS):
        moved = [abs(x * slope) for x, slope in zip(map(high, point), slopes, strict=True)]
        # products on the way may be subnormal, and have lost their digits
        return mp.fsum(m for m in moved if not mp.isnan(m)) + SMALLEST_NORMAL * (1 + sum(map(abs, point)))


def high(number: Any) -> Any:
    """A real number as an mpmath number of the present precision; a complex one as it is."""
    if isinstance(number, mp.mpc):
        return number
    return mp.mpf(number.numerator) / number.denominator if isinstance(number, Rational) else mp.mpf(number)


def _real(number: Any) -> Any:
    """The number itself; ValueError if it is complex: then the point was no inner point of the domain."""
    if isinstance(number, mp.mpc):
        raise ValueError(f"not real: {number}")
    return high(number)
