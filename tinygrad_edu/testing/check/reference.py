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
TINY = 2.0**-30  # beside 1: what the steps of differences may do to a slope
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
    look, if not all over the declared domain; `special`, near which points of it to look closely. `bound` is the
    error allowed, in ulps. `n_arrays` is the number of arrays a reduction takes, and `nan_passes` is false for a
    choice, which drops the nan it does not take. `bend` is the second derivative for one input, where differences
    of the slope take long.
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
    bend: Callable[..., Any] | None = None

    def value(self, point: Point) -> Any:
        if self.slopes:
            with mp.workprec(200):
                return _real(self.f(*map(high, point)))
        return _value(self.f, point)

    def value_size(self, point: Point, slopes: Sequence[Any]) -> Any:
        if self.size:
            with mp.workdps(DIGITS):
                return self.size(*map(high, point))
        return _conditioned(point, slopes)

    def exact_slopes(self, point: Point) -> list[Any]:
        if not self.slopes:
            return [derivative(self.f, point, i) for i in range(len(point))]
        with mp.workdps(DIGITS):
            return [_real(slope) for slope in self.slopes(*map(high, point))]

    def slope_size_of(self, point: Point, i: int) -> Any:
        if self.slope_size:
            with mp.workdps(DIGITS):
                return self.slope_size(*map(high, point))[i]
        return _conditioned(point, [self.second(point, i, j) for j in range(len(point))])

    def second(self, point: Point, i: int, j: int) -> Any:
        """The derivative of slope i for input j."""
        if self.bend:
            with mp.workdps(DIGITS):
                return self.bend(*map(high, point))
        slopes = self.slopes
        if slopes is None:
            return derivative(self.f, point, i, j)
        return derivative(lambda *inputs: slopes(*inputs)[i], point, j)

    def beside(self, point: Point, i: int) -> tuple[Any, Any]:
        """The slopes for input i on the two sides of a kink, the smaller one first. Raises ValueError without."""
        sides = [self.side(point, i, sign) for sign in (-1, 1)]
        if None in sides:
            raise ValueError("f has no slopes beside this point")
        return min(sides), max(sides)

    def side(self, point: Point, i: int, sign: int) -> Any:
        """The slope for input i to the left or to the right, as `one_sided` has it.

        A smooth function that bends within the step, as e^(-x^4) at 1e300, has none.
        """
        within_reach(self.f, point)

        def f(x: Any) -> Any:
            return _real(self.f(*map(high, point[:i]), x, *map(high, point[i + 1 :])))

        with mp.workprec(2 * _precision(point)):
            return one_sided(f, high(point[i]), sign * _step(point))


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
        if name == "plain":
            return inputs[0]
        if name not in _CHEAP and any(
            isinstance(x, mp.mpf) and mp.isfinite(x) and x and mp.mag(x) > LONG for x in numbers
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
_CHEAP = set("add sub mul neg abs lt le gt ge equal where max sign heaviside div sqrt log".split())


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
        if out == before or not mp.isfinite(out) or (more and abs(out - before) <= abs(out) * mp.ldexp(1, -170)):
            return out
        before = out
    raise ValueError("f has no digits")


def derivative(f: Callable[..., Any], point: Sequence[Any], *inputs: int) -> Any:
    """df/dx_i, or d2f/dx_i dx_j, of which 50 digits are right. Raises ValueError if it is not real.

    It is a central difference. Its step shrinks, and its digits grow, until this makes no difference: sin(e^x) has
    short waves. It is 0 where the difference is the error of the step alone: h^2 for x^3 at 0.
    """
    within_reach(f, point)
    slope = _difference(f, point, inputs, 0)
    for finer in (64, 128, 256, 512, 1024, 1100):
        before, slope = slope, _difference(f, point, inputs, finer)
        if abs(slope - before) <= abs(slope) * TINY:
            return slope
        if (abs(before) < 1e-20 or 0 in point) and abs(slope) < abs(before) * TINY:
            return mp.mpf(0)
    if abs(slope - mp.ldexp(before, 76)) > abs(slope) * TINY:  # at a jump it grows as the step shrinks
        raise ValueError("f bends within the smallest step")
    return slope


def _difference(f: Callable[..., Any], point: Sequence[Any], inputs: Sequence[int], finer: int) -> Any:
    """The difference of a step that is `finer` than usual by so many powers of 2, on more digits."""
    orders = [inputs.count(i) for i in range(len(point))]
    size = max(0, mp.mag(f(*map(high, point))))
    with mp.workprec(_precision(point) + 10 * finer + (size if size <= 1024 else 0)):
        h = mp.ldexp(_step(point), -finer)
        slope = mp.diff(f, list(map(high, point)), orders, h=h)
        if mp.isnan(slope):
            raise ValueError("f is not defined beside this point")
        rounding = size - len(inputs) * mp.mag(h) - (len(inputs) + 1) * mp.mp.prec  # of the difference, its log2
        if rounding > max(mp.mag(slope), -1100):
            raise ValueError("the slope is lost beside a much larger term of f")
        return _real(slope)


def _step(point: Sequence[Any]) -> Any:
    """So small that no kink lies within, be it at 0 or where two inputs are equal, nor a wave of sin(x^2)."""
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
