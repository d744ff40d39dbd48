"""Exact: a formula over the real numbers, in which every true identity of rational functions is found.

A formula is a fraction of two polynomials of python-flint. Their variables are atoms: the inputs, pi, i, e^m for
products m of atoms, and log, erf, asin ... of formulas. Other functions are rewritten by exp and log first: a root
of x is e^(log(x) / 2), and sin x = (e^ix - e^-ix) / 2i. So 1 - tanh^2, 1 / cosh^2 and 4t / (1 + t)^2 are one
formula. Polynomials are reduced by r^2 = x for such a root r, and by i^2 = -1. A formula is 0 if its numerator is:
what is found to be 0 is 0, at every point of the cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import Any, NamedTuple

from flint import arb, fmpq, fmpq_mpoly_ctx

from ...engine import elementary
from .cells import Cell, Split, Undecided
from .facts import FUNCTIONS
from .ranges import ALL, CHOICES, OwnArithmetic, Range, exactly

ATOMS = 40  # of one cell
POLYNOMIALS = fmpq_mpoly_ctx.get(tuple(f"a{k}" for k in range(ATOMS)), "lex")
NAMES, ONE = POLYNOMIALS.gens(), POLYNOMIALS.constant(1)
ORDER = 8  # so often a quotient that is 0/0 is differentiated
LONG = 100_000  # products of terms, digits of a power
ROOTS = 16  # a root of higher order has no relation
POLES = "formula: poles are left out, where a divisor is 0 that is not linear in the inputs"


class Atom(NamedTuple):
    """An input, or a function of a formula, `of`. Of e^(c log b), b^c, the `power` is (b, c)."""

    kind: str
    of: Any
    inside: frozenset[str]  # has "i" or "floor" if it is made of such: it has no range
    power: tuple[Exact, Fraction] | None


@dataclass
class Field:
    """The atoms of all formulas on a cell, by their place among the variables: the latest is first."""

    cell: Cell
    atoms: dict[int, Atom] = field(default_factory=dict)
    places: dict[Any, int] = field(default_factory=dict)
    roots: list[tuple[int, int, Any]] = field(default_factory=list)  # the latest first: atom^n = a polynomial
    units: dict[str, tuple[Fraction, Exact]] = field(default_factory=dict)  # for each m: c and e^(c m)

    def atom(self, kind: str, of: Any = None, power: tuple[Exact, Fraction] | None = None) -> Exact:
        """The formula that is one atom. Raises Undecided if there are too many."""
        key = kind, of.key if isinstance(of, Exact) else of
        if key not in self.places:
            if len(self.atoms) == ATOMS:
                raise Undecided("the formula has too many functions")
            inside = of.inside if isinstance(of, Exact) else frozenset[str]()
            self.places[key] = place = ATOMS - 1 - len(self.atoms)
            self.atoms[place] = Atom(kind, of, inside | ({kind} & {"i", "floor"}), power)
            if kind == "i":
                self.roots.insert(0, (place, 2, -ONE))
        return Exact(self, NAMES[self.places[key]])

    def exp(self, m: Exact, c: Fraction) -> Exact:
        """e^(c m): a power of the atom e^(c' m) that is there already, or of a root of it. e^(c log b) is b^c."""
        b = m.atom.of if m.atom and m.atom.kind == "log" else None
        whole = math.floor(c) if b else 0
        out, c = (b.raised(whole) if b else m.lift(1)), c - whole
        if m.key not in self.units:
            self.units[m.key] = (Fraction(1), b) if b else (c, self.atom("e", m * c))
        unit, power = self.units[m.key]
        n = (c / unit).denominator
        if n > ROOTS:
            return out * self.atom("e", m * c, b and (b, c))
        if n > 1:
            base, before, unit = power, len(self.atoms), unit / n
            power = self.atom("e", m * unit, b and (b, unit))
            self.units[m.key] = unit, power
            if before < len(self.atoms):  # it is later than its base
                self.roots.insert(0, (ATOMS - 1 - before, n, base.num))
        return out * power.raised(int(c / unit))

    def reduced(self, p: Any) -> Any:
        """The polynomial without r^n where r is a root of order n."""
        for place, n, base in self.roots:  # an earlier one does not bring a later one back
            if p.degrees()[place] >= n:
                p = divmod(p, NAMES[place] ** n - base)[1]
        return p

    def spread(self, *ps: Any) -> Sequence[Any]:
        """Polynomials in roots r alone, without x where r^n = x: then their factors are seen."""
        for place, n, base in reversed(self.roots):
            if base in NAMES and any(p.degrees()[place] for p in ps):
                ps = tuple(p.compose(*(NAMES[place] ** n if x == base else x for x in NAMES)) for p in ps)
        return ps

    def used(self, *ps: Any) -> list[tuple[int, Atom]]:
        """The atoms in polynomials, with their places."""
        return [(k, self.atoms[k]) for p in ps for k, n in enumerate(p.degrees()) if n > 0]

    def terms(self, p: Any) -> Iterator[tuple[dict[int, int], Any]]:
        """The terms of a polynomial: the exponents of its atoms, and a number."""
        for exponents, c in p.to_dict().items():
            yield {k: int(n) for k, n in enumerate(exponents) if n}, c


class Exact(OwnArithmetic):
    """A formula on one cell, num / den. Comparisons are decided for the whole cell, or raise Split."""

    def __init__(self, field: Field, num: Any, den: Any = ONE):
        self.field: Field = field
        self.num: Any = num
        self.den: Any = den

    def make(self, num: Any, den: Any = ONE) -> Exact:
        """The fraction in its lowest terms. No root of a number divides the denominator: 1 / r is r / 2."""
        num, den = map(self.field.reduced, (num, den))
        if den == 1:
            return Exact(self.field, num)
        if len(num) * len(den) > LONG:
            raise Undecided("the formula is too long")
        for place, n, base in self.field.roots:
            if base.is_constant() and (least := min(exponents[place] for exponents in den.monoms())):
                num, den = (self.field.reduced(p * NAMES[place] ** (n - int(least))) for p in (num, den))
        num, den = self.field.spread(num, den)
        common = ONE if _is_large(num) or _is_large(den) else num.gcd(den)
        num, den = (self.field.reduced(divmod(p, common)[0]) for p in (num, den))
        first = den.coefficient(0)
        return Exact(self.field, num / first, den / first)

    def over(self, other: Exact) -> Exact:
        """The quotient, for a divisor that is known not to be 0."""
        return self.make(_product(self.num, other.den), _product(self.den, other.num))

    def lift(self, x: Any) -> Exact:
        out = super().lift(x)
        assert out.field is self.field, "a formula of another cell"
        return out

    def number(self, x: Any) -> Exact:
        x = x if isinstance(x, fmpq) else Fraction(x)
        return Exact(self.field, ONE * fmpq(int(x.numerator), int(x.denominator)))

    def i(self) -> Exact:
        return self.field.atom("i")

    def constants(self) -> tuple[Exact, ...]:
        """pi, the square root of 2, log 2 and log 10."""
        log2, log5 = (self.field.atom("log", self.lift(x)) for x in (2, 5))
        return self.field.atom("pi"), self.field.exp(log2, Fraction(1, 2)), log2, log2 + log5

    # --- Arithmetic -----------------------------------------------------------------------------------------

    def _apply(self, name: str, *inputs: Any, exponent: Any = None) -> Any:
        if self.field.cell.clock.is_over:
            raise Undecided(self.field.cell.clock.message)
        return super()._apply(name, *inputs, exponent=exponent)

    def add(self, other: Exact) -> Exact:
        if self.den == other.den:
            return self.make(self.num + other.num, self.den)
        num = _product(self.num, other.den) + _product(other.num, self.den)
        return self.make(num, _product(self.den, other.den))

    def pow(self, exponent: Exact) -> Exact:
        """The power whose exponent is a formula."""
        if exponent.num.is_constant() and exponent.den == 1:
            return self.power(Fraction(str(exponent.num)))
        return (exponent * self.log()).exp() if self.num else self.power(Fraction(exponent.sign()))

    def mod(self, other: Exact) -> Exact:
        """The remainder of a division."""
        self.field.cell.notes.add("formula: the jumps of floor(x / y) are left out")
        return self - other * self.field.atom("floor", self / other)

    def function(self, name: str) -> Any:
        formula = self.row(name).formula
        return formula(self) if formula else self.field.atom(name, self)

    def exp(self) -> Exact:
        """e^x: one factor for each term of x."""
        out, (whole, rest) = self.lift(1), divmod(self.num, self.den)
        for part, den in ((whole, ONE), (rest, self.den)):
            for term, c in self.field.terms(part):
                m = self.make(math.prod((NAMES[k] ** n for k, n in term.items()), start=ONE), den)
                out = out * self.field.exp(m, _fraction(c))
        return out

    def log(self) -> Exact:
        """log x: the sum of the logarithms of its positive factors."""
        if self.sign() != 1:
            raise Undecided("a logarithm or a fractional power of a number that is not positive")
        out, (content, factors) = self.lift(0), self.factors()
        if max(abs(content.p), content.q) > 10**30:
            raise Undecided("a root of a long fraction")
        for number, side in ((abs(content.p), 1), (content.q, -1)):
            factors += [(ONE * fmpq(prime), side * int(n)) for prime, n in number.factor()]
        for factor, n in factors:
            if not (sign := self.sign_of(factor)):
                raise Undecided("the sign of a factor")
            positive = self.make(factor * sign)
            atom = positive.atom
            out = out + n * (atom.of if atom and atom.kind == "e" else self.field.atom("log", positive))
        return out

    def power(self, exponent: Fraction) -> Exact:
        """x to a rational power: of a positive number, if the power is no whole number."""
        if exponent.denominator != 1:
            return (exponent * self.log()).exp() if self.num or exponent < 0 else self
        if exponent < 0:
            try:
                if self.sign() == 0:
                    raise ZeroDivisionError("a division by zero")
            except Undecided:  # its zeros are left out of the cell
                self.field.cell.notes.add(POLES)
        return self.raised(int(exponent))

    def raised(self, n: int) -> Exact:
        """A whole power. Raises Undecided if it is too long."""
        num, den = (self.num, self.den) if n >= 0 else (self.den, self.num)
        terms = max(math.comb(len(p) + abs(n), abs(n)) for p in (num, den))
        if max(terms, abs(n) * len(self.key)) > LONG:
            raise Undecided("a power with too many digits")
        return self.make(num ** abs(n), den ** abs(n))

    def factors(self) -> tuple[Any, list[tuple[Any, int]]]:
        """A number, and irreducible polynomials with whole exponents: the formula is their product."""
        content, out = fmpq(1), list[tuple[Any, int]]()
        todo = [(self.num, 1), (self.den, -1)]
        while todo:
            p, n = todo.pop()
            number, factors = (1, [(p, 1)]) if _is_large(p) else p.factor()
            content *= fmpq(number) ** n
            for factor, m in factors:
                (q,) = self.field.spread(factor)
                (out if q == factor else todo).append((q, n * int(m)))  # x - 1 stays, if no root of x is beside it
        return content, [(self.field.reduced(p), n) for p, n in out]

    # --- What is known of it --------------------------------------------------------------------------------

    @property
    def key(self) -> str:
        return f"{self.num} / {self.den}"

    @cached_property
    def place(self) -> int | None:
        """Its place, if it is an atom."""
        used = self.field.used(self.num)
        return used[0][0] if len(used) == 1 and self.num == NAMES[used[0][0]] and self.den == 1 else None

    @property
    def atom(self) -> Atom | None:
        return None if self.place is None else self.field.atoms[self.place]

    @cached_property
    def inside(self) -> frozenset[str]:
        """Is it made of complex numbers, "i", or of jumps, "floor"? Then it has no range."""
        return frozenset[str]().union(*(atom.inside for _, atom in self.field.used(self.num, self.den)))

    def is_zero(self) -> bool:
        """Is it 0 all over the cell? True is proven; False may be a failure to see it."""
        return not self.num

    def signs(self, other: Exact) -> set[int]:
        return {(self - other).sign()}

    def sign(self) -> int:
        """-1, 0 or 1 all over the cell. Raises Split where it changes."""
        signs = [self.sign_of(p) for p in (self.num, self.den)]
        if None in signs:
            if self.inside:
                raise Undecided("the sign of a wave or a jump")
            content, factors = self.factors()
            signs = [self.sign_of(ONE * content)]
            for factor, n in factors:
                if (sign := self.sign_of(factor)) is None:
                    raise Undecided("a branch at a point that is not the root of a linear formula")
                signs.append(sign ** abs(n))
        return math.prod(sign for sign in signs if sign is not None)

    def sign_of(self, p: Any) -> int | None:
        """The sign of a polynomial; None if its factors may tell more. A linear one splits the cell."""
        terms, cell, atoms = list(self.field.terms(p)), self.field.cell, self.field.atoms
        linear = {atoms[k].of: c for t, c in terms for k in t if t == {k: 1} and atoms[k].kind == "x"}
        constant = sum((c for term, c in terms if not term), fmpq(0))
        if len(linear) + (constant != 0) == len(terms):
            if not linear:
                return int(constant > 0) - int(constant < 0)
            (i, a), *others = sorted(linear.items(), key=lambda pair: -pair[1])
            if not others:
                root, (low, high) = _fraction(-constant / a), cell.ends[i]
                if low < root < high:
                    raise Split(cell.split(i, root))
                return 1 if (root <= low) == (a > 0) else -1
            if len(others) == 1 and a + others[0][1] == constant == 0:
                j = others[0][0]
                if not {(i, j), (j, i)} & cell.above:
                    raise Split(cell.ordered(i, j))
                return 1 if (i, j) in cell.above else -1
        signs = {self._sign_of_term(term, c) for term, c in terms}
        return signs.pop() if len(signs) == 1 and None not in signs else self.make(p).range.side

    def _sign_of_term(self, term: dict[int, int], c: Any) -> int | None:
        """The sign of a product of positive atoms, and of inputs that are not 0."""
        out = 1 if c > 0 else -1
        for (kind, of, inside, _), n in ((self.field.atoms[k], n) for k, n in term.items()):
            if kind not in ("e", "pi", "erfc") or inside:
                low, high = self.field.cell.ends[of] if kind == "x" else (-math.inf, math.inf)
                if low < 0 < high:
                    return None
                out *= 1 if low >= 0 or n % 2 == 0 else -1
        return out

    @property
    def range(self) -> Range:
        """A range that has all its values on the cell."""
        return self.on([Range(exactly(low).lo, exactly(high).hi) for low, high in self.field.cell.ends])  # type: ignore[no-any-return]  # as its inputs

    def on(self, inputs: Sequence[Any]) -> Any:
        """The formula computed on other inputs: ranges, or formulas on another cell."""
        return Values(inputs).of(self)

    def limit(self, edge: Sequence[Exact], i: int) -> Exact:
        """Its limit where input i moves to an edge of the cell, if it is 0/0 there, as sin(x) / x: by l'Hôpital.

        Numerator and denominator are differentiated until the denominator is not 0. Raises Undecided, or what the
        formula raises, if there is no finite limit, or none is found.
        """
        if "floor" in self.inside:
            raise Undecided("a jump")
        above, below = self.make(self.num), self.make(self.den)
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
        """The derivative for input i: (n' - (n / d) d') / d."""
        above, below = (
            sum((self.make(p.derivative(k)) * self._slope_of(k, i) for k, _ in self.field.used(p)), self.lift(0))
            for p in (self.num, self.den)
        )
        return (self.lift(above) - self * below).over(self.make(self.den))

    def _slope_of(self, place: int, i: int) -> Exact:
        """The derivative of an atom."""
        kind, of, *_ = self.field.atoms[place]
        if not isinstance(of, Exact) or kind == "floor":
            return self.lift(int(kind == "x" and of == i))
        inner = of.derivative(i)
        if kind == "log":
            return inner.over(of)
        slope = inner if inner.is_zero() else self.make(NAMES[place]) if kind == "e" else FUNCTIONS[kind].slope(of)
        return self.lift(inner * slope)


Exact.operations = CHOICES | {
    "abs": lambda a: a.sign() * a,
    "add": Exact.add,
    "sub": lambda a, b: a.add(-b),
    "neg": lambda a: Exact(a.field, -a.num, a.den),
    "mul": lambda a, b: a.make(_product(a.num, b.num), _product(a.den, b.den)),
    "div": lambda a, b: a * b.power(Fraction(-1)),
    "pow": Exact.pow,
    "mod": Exact.mod,
    "exp": Exact.exp,
    "log": Exact.log,
    "sqrt": lambda a: a.power(Fraction(1, 2)),
}


def variables(cell: Cell) -> list[Exact]:
    """The inputs on a cell: variables, or numbers where the cell is a point."""
    start = Exact(Field(cell), ONE)
    return [
        start.lift(low) if low == high else start.field.atom("x", cell.first(i))
        for i, (low, high) in enumerate(cell.ends)
    ]


def _product(p: Any, q: Any) -> Any:
    if len(p) * len(q) > LONG:
        raise Undecided("the formula is too long")
    return p * q


def _is_large(p: Any) -> bool:
    """Might it take forever to look for its factors?"""
    return len(p) > 300 or (p.total_degree() > 12 and math.prod(n + 1 for n in p.degrees()) > 20_000)


def _fraction(x: Any) -> Fraction:
    return Fraction(int(x.p), int(x.q))


class Values(dict[Any, Any]):
    """The values of powers of atoms on ranges or on formulas, each computed once, for formulas of one cell."""

    def __init__(self, inputs: Sequence[Any]):
        super().__init__()
        self.inputs, self.on_range = inputs, isinstance(inputs[0], Range)

    def of(self, formula: Exact) -> Any:
        """The value of a formula. Complex numbers and jumps have no range: it is all numbers then."""
        if self.on_range and formula.inside:
            return ALL
        ((divisor, _), *others) = formula.field.terms(formula.den)
        if others:
            return self._sum(formula.field, formula.num) / self._sum(formula.field, formula.den)
        return self._sum(formula.field, formula.num, divisor)

    def _sum(self, field: Field, p: Any, divisor: dict[int, int] | None = None) -> Any:
        """The value of a polynomial over a term. Factors e^m become one e^(sum of m): a narrower range."""
        out = self.inputs[0].lift(0)
        for term, c in field.terms(p):
            product, exponent, powers = out.lift(c), None, dict[int, Any]()
            for k, n in (*term.items(), *((k, -n) for k, n in (divisor or {}).items())):
                base, e = field.atoms[k].power or (None, 1)
                place, e = (k, 1) if base is None or base.place is None else (base.place, e)
                powers[place] = powers.get(place, 0) + n * e
            for k, n in powers.items():
                atom = field.atoms[k]
                if atom.kind == "e" and not atom.power:
                    exponent = atom.of * n if exponent is None else exponent + atom.of * n
                elif n:
                    product = product * self._power(k, n, atom)
            out = out + (product if exponent is None else product * elementary.exp(self.of(exponent)))
        return out

    def _power(self, place: int, n: Any, atom: Atom) -> Any:
        """The value of a power of an atom."""
        if (place, n) not in self:
            (kind, of, _, power), one = atom, self.inputs[0]
            inner = self.of(power[0] if power else of) if isinstance(of, Exact) else of
            if self.on_range and kind in ("e", "log"):  # of what is positive
                inner = Range(max(inner.lo, arb(0)), inner.hi)
            if power:
                value = inner._apply("pow_n", inner, exponent=power[1])
            elif kind in ("x", "pi", "i"):
                value = self.inputs[of] if kind == "x" else one.constants()[0] if kind == "pi" else one.i()
            else:
                value = one.field.atom(kind, inner) if kind == "floor" else getattr(elementary, kind)(inner)
            if self.on_range and kind == "erfc":
                value = Range(max(value.lo, arb(0)), value.hi)
            self[place, n] = value if n == 1 else value._apply("pow_n", value, exponent=n)
        return self[place, n]
