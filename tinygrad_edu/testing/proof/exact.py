"""Exact: a formula over the real numbers, in which every true identity of rational functions is found.

A formula is a sum of terms. A term is a rational number times powers of generators with rational exponents:
variables, e^m for each product m of generators, sums of which a root, a logarithm or a reciprocal was taken, log,
erf, asin and atan of formulas, pi, primes and i. Functions are rewritten by exp, log and roots first
(sin x = (e^ix - e^-ix) / 2i), so that 1 - tanh^2, 1 / cosh^2 and 4t / (1 + t)^2 are one formula. A formula is 0 if
all its terms cancel once its divisors are multiplied out: what is found to be 0 is 0, at every point of the cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any

from flint import arb, fmpz

from ...engine import elementary
from . import sums
from .cells import Cell, Split, Undecided
from .facts import FUNCTIONS
from .ranges import ALL, CHOICES, OwnArithmetic, Range, exactly
from .sums import IMAGINARY, ONE, Generator, Sum, Term

ORDER = 8  # so often a quotient that is 0/0 is derived


@dataclass(eq=False)
class Exact(OwnArithmetic):
    """A formula on one cell. Comparisons are decided for the whole cell, or raise Split."""

    cell: Cell
    terms: dict[frozenset[tuple[tuple[str, Any], Fraction]], Fraction]

    # --- Making ---------------------------------------------------------------------------------------------

    def _make(self, terms: Sum) -> Exact:
        return Exact(self.cell, terms)

    def number(self, x: Any) -> Exact:
        value = Fraction(x)
        return self._make({ONE: value} if value else {})

    def generator(self, kind: str, key: Any = None, exponent: Fraction | int = 1) -> Exact:
        """A generator to a power. Primes keep the part of the exponent below 1."""
        term, factor = sums.reduced({(kind, key): Fraction(exponent)})
        return self._make({term: Fraction(factor)})

    def imaginary(self) -> Exact:
        return self.generator("prime", -1, Fraction(1, 2))

    def constants(self) -> tuple[Exact, ...]:
        """pi, the square root of 2, log 2 and log 10."""
        log2, log5 = self.generator("log", ("prime", 2)), self.generator("log", ("prime", 5))
        return self.generator("pi"), self.generator("prime", 2, Fraction(1, 2)), log2, log2 + log5

    # --- Arithmetic -----------------------------------------------------------------------------------------

    def _apply(self, name: str, *inputs: Any, exponent: Any = None) -> Any:
        self.cell.clock.check()
        return super()._apply(name, *inputs, exponent=exponent)

    def pow(self, exponent: Exact) -> Exact:
        """The power whose exponent is a formula."""
        if (constant := exponent.constant()) is not None or not self.terms:
            return self.power(Fraction(exponent.sign()) if constant is None else constant)
        return (exponent * self.log()).exp()

    def mod(self, other: Exact) -> Exact:
        """The remainder of a division."""
        self.cell.notes.add("formula: the jumps of floor(x / y) are left out")
        return self - other * self.generator("floor", (self / other).key)

    def function(self, name: str) -> Any:
        if formula := self.row(name).formula:
            return formula(self)
        return self.generator(name, self.key)

    def exp(self) -> Exact:
        """e^x: one factor for each term of x; e^(c log u) is u^c."""
        out = self.lift(1)
        for term, c in self.terms.items():
            factors = [generator for generator, exponent in term if exponent == 1]
            if len(factors) == len(term) == 1 and factors[0][0] == "log":
                kind, key = factors[0][1]
                out = out * self.generator(kind, key, c)
            else:
                out = out * self.generator("e", term, c)
        return out

    def log(self) -> Exact:
        """log x: the sum of the logarithms of its positive factors."""
        out = self.lift(0)
        for (kind, key), e in self.positive_factors():
            out = out + (self._make({key: e}) if kind == "e" else e * self.generator("log", (kind, key)))
        return out

    def power(self, exponent: Fraction) -> Exact:
        """x to a rational power: of a positive number, if the power is no whole number."""
        out, whole = self.lift(1), exponent.denominator == 1
        if whole and 0 <= exponent <= sums.FACTORS:
            for _ in range(int(exponent)):
                out = out * self
        elif whole:
            sign = self._away_from_0() if exponent < 0 else None
            if len(self.terms) == 1:
                ((term, c),) = self.terms.items()
                inverse, factor = sums.reduced({g: e * exponent for g, e in term})
                return self._make({inverse: factor * sums.power(c, int(exponent))})
            kind, base = ("sum", sign * self) if sign else ("pole", self)
            out = self.generator(kind, base.key, exponent) * (sign or 1) ** int(exponent)
        elif not self.terms and exponent > 0:
            return self
        else:
            for (kind, key), e in self.positive_factors():
                out = out * self.generator(kind, key, e * exponent)
        return out

    def _away_from_0(self) -> int | None:
        """The sign of a divisor. Where it is not known, its zeros are left out of the cell."""
        try:
            sign = self.sign()
        except Undecided:
            self.cell.notes.add(
                "formula: poles are left out, where a divisor is 0 that is not linear in the inputs"
            )
            return None
        if sign == 0:
            raise Undecided("a division by zero")
        return sign

    def positive_factors(self) -> Iterable[tuple[Generator, Fraction]]:
        """The factors of a positive number, each positive, with their exponents."""
        if self.sign() != 1:
            raise Undecided("a logarithm or a fractional power of a number that is not positive")
        content, factors = sums.factored(self.terms)
        for number, side in ((abs(content.numerator), 1), (content.denominator, -1)):
            if number > 10**30:
                raise Undecided("a root of a long fraction")
            for prime, times in fmpz(number).factor():
                yield ("prime", int(prime)), Fraction(times * side)
        for factor, e in factors:
            sign = self._make(factor)._plain_sign()
            if sign not in (1, -1):
                raise Undecided("the sign of a factor")
            if sign == 1 and len(factor) == 1:
                (((generator, _),),) = factor
                yield generator, e
            else:
                yield ("sum", sums.key_of(sums.add({}, factor, sign))), e

    # --- What is known of it --------------------------------------------------------------------------------

    @property
    def key(self) -> Any:
        """The formula as part of a generator."""
        return sums.key_of(self.terms)

    def constant(self) -> Fraction | None:
        """The rational number that it is, if it is one."""
        return self.terms.get(ONE, Fraction(0)) if self.terms.keys() <= {ONE} else None

    def cancelled(self) -> Exact:
        """The same formula over one divisor, so that terms cancel: its ranges are narrower."""
        divisors, rest = sums.cleared(self.terms)
        return self._make(sums.multiply({divisors: Fraction(1)}, rest))

    def is_zero(self) -> bool:
        """Is it 0 all over the cell? True is proven; False may be a failure to see it."""
        return not sums.cleared(self.terms)[1]

    def signs(self, other: Exact) -> set[int]:
        return {(self - other).sign()}

    def sign(self) -> int:
        """-1, 0 or 1 all over the cell. Raises Split where it changes."""
        if (found := self._plain_sign()) is not None:
            return found
        if self.has_no_range:
            raise Undecided("the sign of a wave or a jump")
        content, factors = sums.factored(self.terms)
        out = (content > 0) - (content < 0)
        for factor, e in factors:
            if e.denominator == 1:  # other powers have a positive base; an even power may be 0
                if (found := self._make(factor)._plain_sign()) is None:
                    raise Undecided("a branch at a point that is not the root of a linear formula")
                out *= found ** int(abs(e))
        return out

    def _plain_sign(self) -> int | None:
        """The sign of a formula as it stands; None if its factors may tell more."""
        if (value := self.constant()) is not None:
            return (value > 0) - (value < 0)
        if linear := self.linear():
            return self._sign_of_linear(*linear)
        signs = {self._sign_of_term(term, c) for term, c in self.terms.items()}
        return signs.pop() if len(signs) == 1 and None not in signs else self.range.side

    def _sign_of_term(self, term: Term, c: Fraction) -> int | None:
        """The sign of a product of positive generators, and of inputs that are not 0."""
        out = 1 if c > 0 else -1
        for generator, e in term:
            kind, key = generator
            low, high = self.cell.ends[key] if kind == "x" else (-math.inf, math.inf)
            if not _is_positive(generator):
                if low < 0 < high:
                    return None
                out *= 1 if low >= 0 or e % 2 == 0 else -1
        return out

    def _sign_of_linear(self, slopes: dict[int, Fraction], constant: Fraction) -> int | None:
        if len(slopes) == 2 and constant == 0:
            (i, a), (j, b) = slopes.items()
            if a == -b:
                known = ((i, j) in self.cell.above) - ((j, i) in self.cell.above)
                if known:
                    return known if a > 0 else -known
                raise Split(self.cell.ordered(i, j))
        if len(slopes) == 1:
            ((i, a),) = slopes.items()
            root, (low, high) = -constant / a, self.cell.ends[i]
            if low < root < high:
                raise Split(self.cell.split(i, root))
            return 1 if (root <= low) == (a > 0) else -1
        found = exactly(constant)
        for i, a in slopes.items():
            found = found + exactly(a) * variable_range(self.cell, i)
        return found.side

    def linear(self) -> tuple[dict[int, Fraction], Fraction] | None:
        """(slopes, constant) if it is a linear function of the variables."""
        slopes, constant = {}, Fraction(0)
        for term, c in self.terms.items():
            if term == ONE:
                constant = c
                continue
            ((kind, i), e), *more = term
            if more or kind != "x" or e != 1:
                return None
            slopes[i] = c
        return slopes, constant

    @cached_property
    def has_no_range(self) -> bool:
        return any(sums.mentions(part, self.key) for part in ("floor", IMAGINARY))

    @property
    def range(self) -> Range:
        """A range that has all its values on the cell."""
        return self.on([variable_range(self.cell, i) for i in range(len(self.cell.ends))])  # type: ignore[no-any-return]  # as its inputs

    def on(self, inputs: Sequence[Any]) -> Any:
        """The formula computed on other inputs: ranges, or formulas on another cell."""
        return Values(inputs).of(self)

    def limit(self, edge: Sequence[Exact], i: int) -> Exact:
        """Its limit where input i moves to an edge of the cell, if it is 0/0 there, as sin(x) / x: by l'Hôpital.

        Numerator and denominator are derived until the denominator is not 0. Raises Undecided, or what the
        formula raises, if there is no finite limit, or none is found.
        """
        if sums.mentions("floor", self.key):
            raise Undecided("a jump")
        divisor = frozenset((generator, -e) for generator, e in sums.common(self.terms) if e < 0)
        above, below = (
            self._make(sums.multiply({divisor: Fraction(1)}, s)) for s in (self.terms, {ONE: Fraction(1)})
        )
        for _ in range(ORDER):
            a, b = above.on(edge), below.on(edge)
            if not b.is_zero():
                quotient: Exact = b.lift(a / b)
                return quotient
            if not a.is_zero():
                break
            above, below = above.derivative(i), below.derivative(i)
        raise Undecided("the value is infinite, or a quotient of what is 0 to a high order")

    # --- Derivatives ----------------------------------------------------------------------------------------

    def derivative(self, i: int) -> Exact:
        """The derivative for variable i: of each factor of each term, times the others."""
        out = self.lift(0)
        for term, c in self.terms.items():
            for generator, e in term:
                inner = self._slope_of(generator, i)
                if inner.terms:
                    rest, factor = sums.times(term, frozenset([(generator, Fraction(-1))]))
                    out = out + self._make({rest: factor * c * e}) * inner
        return self.lift(out)

    def _slope_of(self, generator: Generator, i: int) -> Exact:
        """The derivative of a generator: for e^m, m' e^m."""
        kind, key = generator
        if kind == "x":
            return self.lift(int(key == i))
        if kind in ("pi", "prime", "floor"):
            return self.lift(0)
        if kind in ("sum", "pole"):
            return self._make(dict(key)).derivative(i)
        if kind == "e":
            return self.lift(self._make({key: Fraction(1)}).derivative(i) * self.generator("e", key))
        if kind == "log":
            return self.lift(self._slope_of(key, i) * self.generator(key[0], key[1], -1))
        u = self._make(dict(key))
        inner = u.derivative(i)
        return self.lift(inner * FUNCTIONS[kind].slope(u)) if inner.terms else inner


Exact.operations = CHOICES | {
    "abs": lambda a: a.sign() * a,
    "add": lambda a, b: a._make(sums.add(a.terms, b.terms)),
    "sub": lambda a, b: a._make(sums.add(a.terms, b.terms, -1)),
    "neg": lambda a: a._make(sums.add({}, a.terms, -1)),
    "mul": lambda a, b: a._make(sums.multiply(a.terms, b.terms)),
    "div": lambda a, b: a * b.power(Fraction(-1)),
    "pow": Exact.pow,
    "mod": Exact.mod,
    "exp": Exact.exp,
    "log": Exact.log,
    "sqrt": lambda a: a.power(Fraction(1, 2)),
}


def _is_positive(generator: Generator) -> bool:
    return generator[0] in ("prime", "sum", "pi", "erfc", "e") and not sums.mentions(IMAGINARY, generator)


def variables(cell: Cell) -> list[Exact]:
    """The inputs on a cell: variables, or numbers where the cell is a point."""
    start = Exact(cell, {})
    return [
        start.lift(low) if low == high else start.generator("x", cell.first(i))
        for i, (low, high) in enumerate(cell.ends)
    ]


def variable_range(cell: Cell, i: int) -> Range:
    low, high = cell.ends[i]
    ends = [exactly(end) if isinstance(end, Fraction | int) else exactly(arb(end)) for end in (low, high)]
    return Range(ends[0].lo, ends[1].hi)


# --- Sums on other numbers ------------------------------------------------------------------------------------


class Values(dict[tuple[Generator, Fraction], Any]):
    """The values of powers of generators on ranges or on formulas, each computed once."""

    def __init__(self, inputs: Sequence[Any]):
        super().__init__()
        self.inputs, self.on_range = inputs, isinstance(inputs[0], Range)

    def of(self, formula: Exact) -> Any:
        """The value of a formula. Complex numbers and jumps have no range: it is all numbers then."""
        return ALL if self.on_range and formula.has_no_range else self._sum(formula.terms)

    def _sum(self, s: Sum) -> Any:
        """The value of a sum. Factors e^m become one e^(sum of m): a narrower range."""
        zero = out = self.inputs[0].lift(0)
        for term, c in s.items():
            exponent: Sum = {}
            product = zero.lift(c)
            for generator, power in term:
                if generator[0] == "e":
                    exponent = sums.add(exponent, {generator[1]: power})
                else:
                    product = product * self[generator, power]
            out = out + (product * self[("exp", sums.key_of(exponent)), Fraction(1)] if exponent else product)
        return out

    def __missing__(self, powered: tuple[Generator, Fraction]) -> Any:
        ((kind, key), power), one = powered, self.inputs[0]
        if kind in ("floor", "prime") and not self.on_range:
            return one.generator(kind, key, power)
        if kind == "x":
            found = self.inputs[key]
        elif kind == "pi":
            found = one.constants()[0]
        elif kind == "prime":
            found = one.lift(key)
        elif kind == "log":
            found = elementary.log(self[key, Fraction(1)])
        else:
            found = self._sum(dict(key))
            found = found if kind in ("sum", "pole") else getattr(elementary, kind)(found)
        if self.on_range and kind in ("sum", "erfc"):
            found = Range(max(found.lo, arb(0)), found.hi)
        self[powered] = found if power == 1 else found._apply("pow_n", found, exponent=power)
        return self[powered]
