"""Exact: a formula over the real numbers, in which every true identity of rational functions is found.

A formula is a sum of terms. A term is a rational number times powers of generators with rational exponents:
variables, e^m for each product m of generators, sums of which a root, a logarithm or a reciprocal was taken, log,
erf, asin and atan of formulas, pi, primes and -1. Functions are rewritten by exp, log and roots first
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

from flint import arb, fmpq, fmpq_mpoly_ctx, fmpz

from ...engine import elementary
from .cells import Cell, Split, Undecided
from .facts import FUNCTIONS
from .ranges import ALL, CHOICES, OwnArithmetic, Range, exactly

Generator = tuple[str, Any]
Term = frozenset[tuple[Generator, Fraction]]  # generators and their exponents
Sum = dict[Term, Fraction]  # terms, and the numbers before them
ONE: Term = frozenset()
MINUS: Generator = ("prime", -1)  # its power 1/2 is i
ORDER = 8  # so often a quotient that is 0/0 is derived
LONG = 100_000  # binary digits of a number, products of terms
POLES = "formula: poles are left out, where a divisor is 0 that is not linear in the inputs"
FACTORS = 64  # of a power that is multiplied out


@dataclass(eq=False)
class Exact(OwnArithmetic):
    """A formula on one cell. Comparisons are decided for the whole cell, or raise Split."""

    cell: Cell
    terms: Sum

    def _make(self, terms: Sum) -> Exact:
        return Exact(self.cell, terms)

    def number(self, x: Any) -> Exact:
        return self._make({ONE: Fraction(x)} if x else {})

    def generator(self, kind: str, key: Any = None, exponent: Fraction | int = 1) -> Exact:
        """A generator to a power. Primes keep the part of the exponent below 1."""
        term, factor = reduced({(kind, key): Fraction(exponent)})
        return self._make({term: factor})

    def constants(self) -> tuple[Exact, ...]:
        """pi, the square root of 2, log 2 and log 10."""
        log2, log5 = self.generator("log", ("prime", 2)), self.generator("log", ("prime", 5))
        return self.generator("pi"), self.generator("prime", 2, Fraction(1, 2)), log2, log2 + log5

    # --- Arithmetic -----------------------------------------------------------------------------------------

    def _apply(self, name: str, *inputs: Any, exponent: Any = None) -> Any:
        if self.cell.clock.is_over:
            raise Undecided(self.cell.clock.message)
        return super()._apply(name, *inputs, exponent=exponent)

    def pow(self, exponent: Exact) -> Exact:
        """The power whose exponent is a formula."""
        if exponent.terms.keys() <= {ONE}:
            return self.power(exponent.terms.get(ONE, Fraction(0)))
        return (exponent * self.log()).exp() if self.terms else self.power(Fraction(exponent.sign()))

    def mod(self, other: Exact) -> Exact:
        """The remainder of a division."""
        self.cell.notes.add("formula: the jumps of floor(x / y) are left out")
        return self - other * self.generator("floor", (self / other).key)

    def function(self, name: str) -> Any:
        formula = self.row(name).formula
        return formula(self) if formula else self.generator(name, self.key)

    def exp(self) -> Exact:
        """e^x: one factor for each term of x; e^(c log u) is u^c."""
        out = self.lift(1)
        for term, c in self.terms.items():
            logs = [key for (kind, key), e in term if kind == "log" and e == 1 == len(term)]
            out = out * (self.generator(logs[0][0], logs[0][1], c) if logs else self.generator("e", term, c))
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
        if whole and 0 <= exponent <= FACTORS:
            for _ in range(int(exponent)):
                out = out * self
        elif whole:
            sign = None
            if exponent < 0:
                try:
                    sign = self.sign()
                except Undecided:  # its zeros are left out of the cell
                    self.cell.notes.add(POLES)
            if sign == 0:
                raise Undecided("a division by zero")
            if len(self.terms) == 1:
                ((term, c),) = self.terms.items()
                inverse, factor = reduced({g: e * exponent for g, e in term})
                return self._make({inverse: factor * power(c, int(exponent))})
            kind, base = ("sum", sign * self) if sign else ("pole", self)
            out = self.generator(kind, base.key, exponent) * (sign or 1) ** int(exponent)
        elif not self.terms and exponent > 0:
            return self
        else:
            for (kind, key), e in self.positive_factors():
                out = out * self.generator(kind, key, e * exponent)
        return out

    def positive_factors(self) -> Iterable[tuple[Generator, Fraction]]:
        """The factors of a positive number, each positive, with their exponents."""
        if self.sign() != 1:
            raise Undecided("a logarithm or a fractional power of a number that is not positive")
        content, factors = factored(self.terms)
        for number, side in ((abs(content.numerator), 1), (content.denominator, -1)):
            if number > 10**30:
                raise Undecided("a root of a long fraction")
            for prime, times in fmpz(number).factor():
                yield ("prime", int(prime)), Fraction(times * side)
        for factor, e in factors:
            sign = self._make(factor)._plain_sign()
            if not sign:
                raise Undecided("the sign of a factor")
            if sign == 1 and len(factor) == 1:
                (((generator, _),),) = factor
                yield generator, e
            else:
                yield ("sum", (sign * self._make(factor)).key), e

    # --- What is known of it --------------------------------------------------------------------------------

    @property
    def key(self) -> Any:
        """The formula as part of a generator."""
        return frozenset(self.terms.items())

    def cancelled(self) -> Exact:
        """The same formula over one divisor, so that terms cancel: its ranges are narrower."""
        divisors, rest = cleared(self.terms)
        return self._make(multiply({divisors: Fraction(1)}, rest))

    def is_zero(self) -> bool:
        """Is it 0 all over the cell? True is proven; False may be a failure to see it."""
        return not cleared(self.terms)[1]

    def signs(self, other: Exact) -> set[int]:
        return {(self - other).sign()}

    def sign(self) -> int:
        """-1, 0 or 1 all over the cell. Raises Split where it changes."""
        if (found := self._plain_sign()) is not None:
            return found
        if self.has_no_range:
            raise Undecided("the sign of a wave or a jump")
        content, factors = factored(self.terms)
        out = (content > 0) - (content < 0)
        for factor, e in factors:
            if e.denominator == 1:  # other powers have a positive base; an even power may be 0
                if (found := self._make(factor)._plain_sign()) is None:
                    raise Undecided("a branch at a point that is not the root of a linear formula")
                out *= found ** int(abs(e))
        return out

    def _plain_sign(self) -> int | None:
        """The sign of a formula as it stands; None if its factors may tell more. A linear one splits the cell."""
        slopes: dict[int, Fraction] = {
            key: c for t, c in self.terms.items() if len(t) == 1 for (kind, key), e in t if kind == "x" and e == 1
        }
        constant, cell = self.terms.get(ONE, Fraction(0)), self.cell
        is_linear = len(slopes) + (ONE in self.terms) == len(self.terms)
        if is_linear and not slopes:
            return (constant > 0) - (constant < 0)
        if is_linear and len(slopes) == 1:
            ((i, a),) = slopes.items()
            root, (low, high) = -constant / a, cell.ends[i]
            if low < root < high:
                raise Split(cell.split(i, root))
            return 1 if (root <= low) == (a > 0) else -1
        if is_linear and len(slopes) == 2 and sum(slopes.values()) == constant == 0:
            i, j = sorted(slopes, key=lambda i: -slopes[i])
            if not {(i, j), (j, i)} & cell.above:
                raise Split(cell.ordered(i, j))
            return 1 if (i, j) in cell.above else -1
        signs = {self._sign_of_term(term, c) for term, c in self.terms.items()}
        return signs.pop() if len(signs) == 1 and None not in signs else self.range.side

    def _sign_of_term(self, term: Term, c: Fraction) -> int | None:
        """The sign of a product of positive generators, and of inputs that are not 0."""
        out = 1 if c > 0 else -1
        for (kind, key), e in term:
            if kind not in ("prime", "sum", "pi", "erfc", "e") or mentions(MINUS, (kind, key)):
                low, high = self.cell.ends[key] if kind == "x" else (-math.inf, math.inf)
                if low < 0 < high:
                    return None
                out *= 1 if low >= 0 or e % 2 == 0 else -1
        return out

    @cached_property
    def has_no_range(self) -> bool:
        """Is it made of complex numbers or jumps?"""
        return any(mentions(part, self.key) for part in ("floor", MINUS))

    @property
    def range(self) -> Range:
        """A range that has all its values on the cell."""
        return self.on([Range(exactly(low).lo, exactly(high).hi) for low, high in self.cell.ends])  # type: ignore[no-any-return]  # as its inputs

    def on(self, inputs: Sequence[Any]) -> Any:
        """The formula computed on other inputs: ranges, or formulas on another cell."""
        return Values(inputs).of(self)

    def limit(self, edge: Sequence[Exact], i: int) -> Exact:
        """Its limit where input i moves to an edge of the cell, if it is 0/0 there, as sin(x) / x: by l'Hôpital.

        Numerator and denominator are derived until the denominator is not 0. Raises Undecided, or what the
        formula raises, if there is no finite limit, or none is found.
        """
        if mentions("floor", self.key):
            raise Undecided("a jump")
        below = self._make({frozenset((g, -e) for g, e in common(self.terms) if e < 0): Fraction(1)})
        above = self._make(multiply(below.terms, self.terms))
        for _ in range(ORDER):
            a, b = above.on(edge), below.on(edge)
            if not b.is_zero():
                quotient: Exact = b.lift(a / b)
                return quotient
            if not a.is_zero():
                break
            above, below = above.derivative(i), below.derivative(i)
        raise Undecided("the value is infinite, or a quotient of what is 0 to a high order")

    def derivative(self, i: int) -> Exact:
        """The derivative for variable i: of each factor of each term, times the others."""
        out = self.lift(0)
        for term, c in self.terms.items():
            for generator, e in term:
                inner = self._slope_of(generator, i)
                if inner.terms:
                    rest, factor = times(term, frozenset([(generator, Fraction(-1))]))
                    out = out + self._make({rest: factor * c * e}) * inner
        return self.lift(out)

    def _slope_of(self, generator: Generator, i: int) -> Exact:
        """The derivative of a generator: for e^m, m' e^m."""
        kind, key = generator
        if kind in ("x", "pi", "prime", "floor"):
            return self.lift(int(kind == "x" and key == i))
        if kind == "e":
            return self.lift(self._make({key: Fraction(1)}).derivative(i) * self.generator("e", key))
        if kind == "log":
            return self.lift(self._slope_of(key, i) * self.generator(key[0], key[1], -1))
        u = self._make(dict(key))
        inner = u.derivative(i)
        return self.lift(inner * FUNCTIONS[kind].slope(u)) if inner.terms and kind in FUNCTIONS else inner


Exact.operations = CHOICES | {
    "abs": lambda a: a.sign() * a,
    "add": lambda a, b: a._make(add(a.terms, b.terms)),
    "sub": lambda a, b: a._make(add(a.terms, b.terms, -1)),
    "neg": lambda a: a._make(add({}, a.terms, -1)),
    "mul": lambda a, b: a._make(multiply(a.terms, b.terms)),
    "div": lambda a, b: a * b.power(Fraction(-1)),
    "pow": Exact.pow,
    "mod": Exact.mod,
    "exp": Exact.exp,
    "log": Exact.log,
    "sqrt": lambda a: a.power(Fraction(1, 2)),
}


def variables(cell: Cell) -> list[Exact]:
    """The inputs on a cell: variables, or numbers where the cell is a point."""
    start = Exact(cell, {})
    return [
        start.lift(low) if low == high else start.generator("x", cell.first(i))
        for i, (low, high) in enumerate(cell.ends)
    ]


# --- Sums and terms -------------------------------------------------------------------------------------------


def times(a: Term, b: Term) -> tuple[Term, Fraction]:
    """The product of two terms, and the number that whole powers of primes leave."""
    if not a or not b:
        return a or b, Fraction(1)
    powers = dict(a)
    for generator, exponent in b:
        powers[generator] = powers.get(generator, Fraction(0)) + exponent
    return reduced(powers)


def reduced(powers: dict[Generator, Fraction]) -> tuple[Term, Fraction]:
    """The term, and a number: primes, and -1, have an exponent from 0 on and below 1."""
    factor = Fraction(1)
    for generator, exponent in powers.items():
        if generator[0] == "prime" and (whole := math.floor(exponent)):
            factor *= power(Fraction(generator[1]), whole)
            powers[generator] -= whole
    return frozenset((g, e) for g, e in powers.items() if e), factor


def power(x: Fraction, n: int) -> Fraction:
    """x^n. Raises Undecided if it has more than LONG binary digits."""
    if abs(n) * max(x.numerator.bit_length(), x.denominator.bit_length()) > LONG and abs(x) != 1:
        raise Undecided("a power with too many digits")
    return x**n


def add(a: Sum, b: Sum, factor: Fraction | int = 1) -> Sum:
    """The sum a + factor * b."""
    out = dict(a)
    for term, coefficient in b.items():
        out[term] = out.get(term, Fraction(0)) + factor * coefficient
    return {term: c for term, c in out.items() if c}


def multiply(a: Sum, b: Sum) -> Sum:
    """The product of two sums. Raises Undecided if it is too long."""
    if len(a) * len(b) > LONG:
        raise Undecided("the formula is too long")
    out: Sum = {}
    for s, c in a.items():
        for t, d in b.items():
            term, factor = times(s, t)
            out[term] = out.get(term, Fraction(0)) + factor * c * d
    return {term: c for term, c in out.items() if c}


def common(s: Sum) -> Term:
    """The largest term that divides all terms of a sum."""
    exponents = [dict(term) for term in s]
    shared = {g for term in exponents for g in term}
    return frozenset((g, e) for g in shared if (e := min(term.get(g, Fraction(0)) for term in exponents)))


def mentions(part: Any, key: Any) -> bool:
    """Is a generator, or a kind of them, part of a key?"""
    return bool(key == part) or (
        isinstance(key, tuple | frozenset) and any(mentions(part, inner) for inner in key)
    )


def cleared(s: Sum) -> tuple[Term, Sum]:
    """A sum as whole powers of irreducible sums, times a rest in which these have powers below 1."""
    for generator in sorted({g for term in s for g, _ in term if g[0] in ("sum", "pole")}, key=repr):
        whole = [math.floor(dict(term).get(generator, 0)) for term in s]
        if any(whole):
            low, out = min(whole), dict[Term, Fraction]()
            if max(whole) - low > FACTORS:
                raise Undecided("the formula is too long")
            for (term, c), n in zip(s.items(), whole, strict=True):
                part = multiply({term: c}, {frozenset([(generator, Fraction(-n))] if n else []): Fraction(1)})
                for _ in range(n - low):
                    part = multiply(part, dict(generator[1]))
                out = add(out, part)
            poles, rest = cleared(out)
            return times(poles, frozenset([(generator, Fraction(low))]))[0], rest
    return ONE, s


def factored(s: Sum) -> tuple[Fraction, list[tuple[Sum, Fraction]]]:
    """A number, and generators and irreducible polynomials with their exponents: the sum is their product."""
    powers, rest = cleared(s)
    shared = common(rest)
    rest = multiply({frozenset((g, -e) for g, e in shared): Fraction(1)}, rest)
    powers, content = times(powers, shared)
    parts: list[tuple[Sum, Fraction]] = [({frozenset([(g, Fraction(1))]): Fraction(1)}, e) for g, e in powers]
    generators = sorted({g for term in rest for g, _ in term}, key=repr)
    steps = list[Fraction]()
    for exponents in ([e for term in rest for h, e in term if h == g] for g in generators):
        step = Fraction(1, math.lcm(*(e.denominator for e in exponents)))
        many = max(exponents) > 60 * step  # then the largest step is taken of which all are multiples
        steps.append(step * math.gcd(*(e.numerator for e in exponents)) if many else step)
    rows = {
        tuple(int(dict(t).get(g, 0) / n) for g, n in zip(generators, steps, strict=True)): c
        for t, c in rest.items()
    }
    degrees = [max(column) for column in zip(*rows, strict=True)]
    if math.prod(n + 1 for n in degrees) > 20_000 or len(rows) > 300:  # it may take forever
        return content, [*parts, (rest, Fraction(1))]
    context = fmpq_mpoly_ctx.get(tuple(f"g{n}" for n in range(len(generators))), "lex")
    unit, factors = context.from_dict({row: fmpq(c.numerator, c.denominator) for row, c in rows.items()}).factor()
    for factor, e in factors:
        part: Sum = {}
        for row, c in factor.to_dict().items():
            term = frozenset((g, int(n) * step) for g, n, step in zip(generators, row, steps, strict=True) if n)
            part[term] = Fraction(int(c.p), int(c.q))
        parts.append((part, Fraction(int(e))))
    return content * Fraction(int(unit.p), int(unit.q)), parts


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
                    exponent = add(exponent, {generator[1]: power})
                else:
                    product = product * self[generator, power]
            out = out + (
                product * self[("exp", frozenset(exponent.items())), Fraction(1)] if exponent else product
            )
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
