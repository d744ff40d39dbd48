"""Rounded: a range of exact numbers, and how far the float that a program computes may be from each of them.

Every operation adds half an ulp, and every library function its stated bound. For the exact x and the
computed y, |y - x| <= ulps * ulp(x) + relative * |x| + absolute. The relative part is kept as such in
products and quotients, so that one wide box can do for a whole tail; the absolute part is what underflow and
cancellation leave.
An infinite float stands for any number from 2^1024 on.
"""

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from flint import arb

from ...engine import elementary
from .cells import Undecided
from .ranges import CHOICES, INF, ZERO, OwnArithmetic, Range, Unknown, exactly, hull

U = arb(2) ** -53  # half an ulp, relative to the number
ETA = arb(2) ** -1074  # the least float
NORMAL = arb(2) ** -1022  # the least float with all its digits
MAX = arb(2) ** 1024
TINY = arb(2) ** -1100
UNDERFLOW = "where its exact value is below 2^-1100, a library function returns 0"
COS_IS_NOT_0 = arb(2) ** -62
KAHAN = "no double except 0 is nearer to a multiple of pi/2 than 2^-62 (Kahan; Muller et al., Handbook, 10.6)"


@dataclass(eq=False)
class Rounded(OwnArithmetic):
    """The numbers of a box as floats compute them.

    `huge`: the float may be infinite. `is_0`: the float is 0, though the exact number is not. What the
    computation rests on is added to `rests_on`.
    """

    rests_on: set[str]
    of: Range
    ulps: float = 0
    relative: Any = field(default_factory=lambda: ZERO)
    absolute: Any = field(default_factory=lambda: ZERO)
    is_0: bool = False
    huge: bool = field(init=False)

    def __post_init__(self) -> None:
        moved = self.of.mag * (1 + self.relative) + self.absolute
        self.huge = not moved < MAX * (1 - U * self.ulps)
        if not (self.relative.is_finite() and self.relative < arb(1) / 4):
            raise Undecided("the rounding error has no bound here")

    @property
    def is_exact(self) -> bool:
        return bool(self.ulps == 0 and self.relative == 0 and self.absolute == 0)

    @property
    def is_zero(self) -> bool:
        return bool(self.of.mag == 0) and self.is_exact

    @property
    def is_power_of_2(self) -> bool:
        x = self.of.lo
        return self.is_exact and bool(x == self.of.hi != 0) and math.frexp(abs(float(x)))[0] == 0.5

    def errors(self) -> tuple[Any, Any]:
        """The relative and the absolute error, without ulps."""
        subnormal = arb(self.ulps) * ETA if self.of.mig < NORMAL else ZERO
        return self.relative + 2 * U * self.ulps, self.absolute + subnormal

    def computed(self) -> Range:
        """All floats that may be computed, as a range."""
        relative, absolute = self.errors()
        low, high = (abs(end) * relative + absolute if abs(end) < INF else ZERO for end in self.of)
        return hull([self.of.lo - low, self.of.hi + high])

    def number(self, x: Any) -> "Rounded":
        return Rounded(self.rests_on, exactly(float(x)))

    def constants(self) -> tuple["Rounded", ...]:
        """The floats for pi, the square root of 2, log 2 and log 10, with their errors."""
        return tuple(Rounded(self.rests_on, x, 0.5) for x in self.of.constants())

    def _result(
        self, of: Range, ulps: float, relative: Any = ZERO, absolute: Any = ZERO, underflows: bool = True
    ) -> "Rounded":
        """The result of an operation within so many ulps, which the operands' errors have moved so far.

        Sums do not underflow: a subnormal sum is exact.
        """
        if relative == 0 and absolute == 0 and (underflows or of.mig >= NORMAL):
            return Rounded(self.rests_on, of, ulps)
        lost = arb(ulps) * ETA if underflows and of.mig < NORMAL else ZERO
        own = 2 * U * ulps
        return Rounded(self.rests_on, of, 0, (1 + relative) * (1 + own) - 1, absolute * (1 + own) + lost)

    # --- What rules ask for ---------------------------------------------------------------------------------

    def _operate(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        """What operators ask for. Of floats, `**` alone raises where the result is too large."""
        out = super()._operate(name, *inputs, **parameters)
        if name in ("pow", "pow_n") and isinstance(out, Rounded) and out.huge:
            return Unknown("** raises OverflowError for floats: elementary.pow gives inf")
        return out

    def signs(self, other: Any) -> set[int]:
        """Those of the floats and of the exact numbers alike."""
        if self.huge and other.huge:
            raise Undecided("two numbers that may be infinite are compared")
        return self.computed().signs(other.computed())

    def _bell(self, scale: float) -> Any:
        """e^(-scale x^2) as `elementary.bell` has it: with the nearest multiple m of 1/64, if |x| < 64.

        The square of m is exact: 2^12 m^2 is a whole number below 2^25. So is m - x: it is a multiple of the last
        place of x, and not larger than x or 1/128.
        """
        if not self.is_exact:
            raise Undecided("the bell curve of a rounded number")
        if not abs(self) < 64:
            return elementary.exp(-scale * self * self)
        half = arb(1) / 128
        size, around = min(self.of.mag, half), Range(self.of.lo - half, self.of.hi + half)
        m, square, apart = (Rounded(self.rests_on, x) for x in (around, around * around, Range(-size, size)))
        split = elementary.exp(-scale * square) * elementary.exp(scale * apart * (m + self))
        return replace(split, of=self.of._bell(scale))

    def power(self, e: Fraction) -> "Rounded":
        """x**e by the C library's pow: within one ulp."""
        if e in (0, 1):
            return self.lift(1) if e == 0 else self
        if e == -1 and self.is_exact:
            return 1 / self
        relative, absolute = self.errors()
        self.rests_on.add("pow: 1 ulp")
        if absolute != 0 or (self.huge and not e > 1):
            raise Undecided("a power of a number with an absolute error")
        relative = ((1 + relative) / (1 - relative)) ** math.ceil(abs(e)) - 1
        return self._result(self.of.power(e), 1, relative)

    def function(self, name: str) -> "Rounded":
        """A library function: its stated bound, and what the error of its argument does."""
        row = self.row(name)
        of, relative, absolute = self.of.function(name), ZERO, ZERO
        self.rests_on.add(f"{name}: {row.ulps:g} ulp{'s' * (row.ulps > 1)}")
        if name in ("sin", "cos") and of.mig == 0 and self.is_exact and not (name == "sin" and 0 in self.of):
            self.rests_on.add(KAHAN)
            of = Range(of.lo, of.hi, COS_IS_NOT_0)
        if of.mag < TINY:
            self.rests_on.add(UNDERFLOW)
            return Rounded(self.rests_on, of, 0, ZERO, of.mag, is_0=True)
        if not self.is_exact:
            relative, absolute = self._moved(name, row, of)
        if self.huge and not row.saturates:
            raise Undecided(f"{name} of what may be infinite")
        if self.huge and of.mag < INF:
            low = self.of.lo if self.of.side == -1 else MAX / 2
            beyond = Range(low, self.of.hi if self.of.side == 1 else -MAX / 2).function(name)
            absolute = absolute + (beyond.hi - beyond.lo)
        return self._result(of, row.ulps, relative, absolute)

    def _moved(self, name: str, row: Any, of: Range) -> tuple[Any, Any]:
        """The relative and absolute error of f(y) for y near x: the largest |f'| times |y - x|."""
        relative, absolute = self.errors()
        near = self.of if self.huge else self.computed()
        if name == "sqrt" and absolute == 0:  # sqrt(x (1 + r)) = sqrt(x) sqrt(1 + r)
            return (relative / 2) * (1 + relative), ZERO
        if row.concave and near.lo >= 0:  # f(x (1 + r)) <= (1 + r) f(x)
            return relative, _product(absolute, row.slope(near).mag)
        moved = _product(relative, self.of.mag) + absolute
        if name == "exp" and near.mag < INF:  # e^(x + d) = e^x e^d
            return (moved * (1 + 2 * moved), ZERO) if moved < arb(1) / 16 else (ZERO, near.function("exp").hi)
        moved = _product(row.slope(near).mag, moved)
        if not moved.is_finite():
            raise Undecided(f"the error of {name} has no bound here")
        return _of_one_kind(moved, of)


def _of_one_kind(error: Any, of: Range) -> tuple[Any, Any]:
    """An error of numbers as a relative and an absolute one, of which one is 0."""
    return ((error / of.mig).upper(), ZERO) if error < of.mig / 16 else (ZERO, error)


def _add(a: Rounded, b: Rounded) -> Rounded:
    if a.is_zero or b.is_zero:
        return b if a.is_zero else a
    of = a.of + b.of
    (ra, aa), (rb, ab) = a.errors(), b.errors()
    is_far = (a.huge and b.huge) or min(a.of.mag, b.of.mag) > arb(2) ** 970
    if (a.huge or b.huge) and is_far and a.of.side != b.of.side:
        raise Undecided("an infinite term in a sum")
    if a.of.lo >= 0 <= b.of.lo or a.of.hi <= 0 >= b.of.hi:  # no cancellation: a weighted mean of the errors
        (least, _), (most, x) = sorted(((ra, a), (rb, b)), key=lambda pair: pair[0])
        others, size = (b if x is a else a).of.mig, x.of.mag
        share = size / (size + others) if 0 < size < INF else arb(1)  # the larger error's weight, at most
        relative, absolute = (most * share + least * (1 - share)).upper(), aa + ab
    else:
        relative, absolute = _of_one_kind(aa + ab + _product(ra, a.of.mag) + _product(rb, b.of.mag), of)
    return a._result(of, 0.5, relative, absolute, underflows=False)


def _multiply(a: Rounded, b: Rounded) -> Rounded:
    of = a.of * b.of
    (ra, aa), (rb, ab) = a.errors(), b.errors()
    for x, y in ((a, b), (b, a)):
        if x.is_0 or x.is_zero:
            if y.huge or not of.mag < INF:
                raise Undecided("0 times what may be infinite")
            return Rounded(a.rests_on, of, 0, ZERO, of.mag, is_0=True) if x.is_0 else x
        relative, absolute = x.errors()
        if y.huge and not (x.of.mig * (1 - relative) - absolute >= 1 or of.mig >= MAX or x.huge):
            raise Undecided("an infinite factor")
        if x.is_power_of_2:
            (relative, absolute), factor = y.errors(), abs(x.of.lo)
            if factor == 1 or (of.mig >= NORMAL and y.of.mig >= NORMAL):
                return Rounded(a.rests_on, of, y.ulps, y.relative, y.absolute * factor)
            lost = ZERO if of.mig >= NORMAL else ETA / 2
            return Rounded(a.rests_on, of, 0, relative, absolute * factor + lost)
    absolute = _product(aa, b.of.mag * (1 + rb)) + _product(ab, a.of.mag * (1 + ra)) + aa * ab
    return a._result(of, 0.5, (1 + ra) * (1 + rb) - 1, absolute)


def _divide(a: Rounded, b: Rounded) -> Rounded:
    if b.is_power_of_2:
        return _multiply(a, Rounded(a.rests_on, exactly(1 / b.of.lo)))
    (ra, aa), (rb, ab) = a.errors(), b.errors()
    of, least = a.of / b.of, b.of.mig
    if least > 0:
        rb = rb + (ab / least).upper()
    if not rb < arb(1) / 4 or a.huge or (least == 0 and (ab != 0 or b.of.lo < 0 < b.of.hi)):
        raise Undecided("a division by what may be 0, or of what may be infinite")
    absolute = ZERO if aa == 0 else (aa / (least * (1 - rb))).upper() if least > 0 else INF
    if b.huge:  # a / inf is 0
        absolute = absolute + a.of.mag / max(MAX, least) * (1 + 2 * U)
    if not absolute.is_finite():
        raise Undecided("a division by what may be 0")
    return a._result(of, 0.5, (1 + ra) / (1 - rb) - 1, absolute)


def _sigmoid(a: Rounded) -> Any:
    small = (-abs(a)).function("exp")
    return (small if a < 0 else 1) / (1 + small)


Rounded.operations = CHOICES | {
    "neg": lambda a: replace(a, of=-a.of),
    "abs": lambda a: replace(a, of=abs(a.of)),
    "add": _add,
    "sub": lambda a, b: _add(a, -b),
    "mul": _multiply,
    "div": _divide,
    "sigmoid": _sigmoid,
}


def _product(a: Any, b: Any) -> Any:
    return ZERO if a == 0 or b == 0 else a * b
