"""Exact: a formula over the real numbers, in which every true identity of rational functions is found.

A formula is a quotient of two sums of terms. A term is a rational number times powers of generators with rational
exponents: variables, e^m for each product m of generators, the irreducible polynomials of which a root or a
logarithm was taken, log, erf, asin and atan of formulas, pi, primes and i. Functions are rewritten by exp, log
and roots first (sin x = (e^ix - e^-ix) / 2i), so that 1 - tanh^2, 1 / cosh^2 and 4t / (1 + t)^2 are one formula.
A formula is 0 if all terms of its numerator cancel: what is found to be 0 is 0, at every point of the cell.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from flint import arb, fmpq, fmpq_mpoly_ctx, fmpz

from ...engine import elementary
from ...engine.operators import Operators
from ...engine.rule import Rule
from .cells import Cell, Split, Undecided
from .functions import FUNCTIONS
from .ranges import ALL, INF, Range, exactly

Generator = tuple[str, Any]
Term = frozenset[tuple[Generator, Fraction]]  # generators and their exponents
Sum = dict[Term, Fraction]
ONE: Term = frozenset()
IMAGINARY: Generator = ("i", None)


def _times(a: Term, b: Term) -> tuple[Term, Fraction | int]:
    """The product of two terms, and the number that i^2 = -1 and whole powers of primes leave."""
    if not a or not b:
        return a or b, 1
    powers = dict(a)
    for generator, exponent in b:
        powers[generator] = powers.get(generator, Fraction(0)) + exponent
    return _reduced(powers)


def _reduced(powers: dict[Generator, Fraction]) -> tuple[Term, Fraction | int]:
    factor = Fraction(1)
    for generator in [g for g in powers if g[0] in ("i", "prime")]:
        kind, key = generator
        if kind == "i":
            turns = int(powers[generator]) % 4
            factor *= -1 if turns >= 2 else 1
            powers[generator] = Fraction(turns % 2)
        elif whole := math.floor(powers[generator]):
            factor *= Fraction(key) ** whole
            powers[generator] -= whole
    return frozenset((g, e) for g, e in powers.items() if e), factor


def _add(a: Sum, b: Sum, factor: Fraction | int = 1) -> Sum:
    out = dict(a)
    for term, coefficient in b.items():
        out[term] = out.get(term, Fraction(0)) + factor * coefficient
    return {term: c for term, c in out.items() if c}


def _multiply(a: Sum, b: Sum) -> Sum:
    out: Sum = {}
    for s, c in a.items():
        for t, d in b.items():
            term, sign = _times(s, t)
            out[term] = out.get(term, Fraction(0)) + sign * c * d
    if len(out) > 4000:
        raise Undecided("the formula is too long")
    return {term: c for term, c in out.items() if c}


def _key(s: Sum) -> Any:
    return frozenset(s.items())


class Exact(Operators):
    """A formula on one cell. Comparisons are decided for the whole cell, or raise Split."""

    __hash__ = None  # type: ignore[assignment]  # a formula has many forms

    def __init__(self, cell: Cell, above: Sum, below: Sum | None = None):
        self.cell, self.above, self.below = cell, above, below if below is not None else {ONE: Fraction(1)}
        if len(self.below) == 1 and self.below.keys() != {ONE}:  # a single term goes above
            ((term, c),) = self.below.items()
            inverse, factor = _reduced({g: -e for g, e in term})
            self.above, self.below = _multiply(self.above, {inverse: factor / c}), {ONE: Fraction(1)}
        elif self.below.keys() == {ONE} and self.below[ONE] != 1:
            self.above = {term: c / self.below[ONE] for term, c in self.above.items()}
            self.below = {ONE: Fraction(1)}

    # --- Making ---------------------------------------------------------------------------------------------

    def _make(self, above: Sum, below: Sum | None = None) -> Exact:
        return Exact(self.cell, above, below)

    def lift(self, x: Any) -> Exact:
        """x as a formula; a float is the rational number that it is. Raises Undecided for inf and nan."""
        if isinstance(x, Exact):
            return x
        if isinstance(x, float) and not math.isfinite(x):
            raise Undecided(f"{x} is not a real number")
        value = Fraction(x)
        return self._make({ONE: value} if value else {})

    def generator(self, kind: str, key: Any = None, exponent: Fraction | int = 1) -> Exact:
        return self._make({frozenset([((kind, key), Fraction(exponent))]): Fraction(1)})

    def constants(self) -> tuple[Exact, ...]:
        """pi, the square root of 2, log 2 and log 10."""
        log2, log5 = self.generator("log", 2), self.generator("log", 5)
        return (
            self.generator("pi"),
            self.power_of(self.lift(2), Fraction(1, 2)),
            log2,
            log2 + log5,
        )

    # --- Arithmetic -----------------------------------------------------------------------------------------

    def _record(self, rule: Rule, inputs: tuple[Any, ...]) -> Any:
        return rule.forward(*inputs)

    def _operate(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        return self._apply(name, *inputs, **parameters)

    def _apply(self, name: str, *inputs: Any, exponent: Any = None) -> Any:
        """What operators and `elementary` ask for."""
        if name == "plain":
            return inputs[0]
        if self.cell.choices is not None and name in CHOICES:
            return self._given(name, inputs)
        if name == "where":
            return inputs[1] if self.sign(self.lift(inputs[0])) else inputs[2]
        if name in _COMPARISONS and (side := beside_infinity(*inputs)):
            return _COMPARISONS[name](side)
        a, *others = map(self.lift, inputs)
        b = others[0] if others else a
        if name in _COMPARISONS:
            return _COMPARISONS[name](self.sign(a - b))
        if name == "max":
            return a if self.sign(a - b) >= 0 else b
        if name in ("abs", "sign", "heaviside"):
            sign = self.sign(a)
            return sign * a if name == "abs" else sign if name == "sign" else int(sign > 0)
        if name == "add":
            if a.below == b.below:
                return self._make(_add(a.above, b.above), a.below)
            return self._make(
                _add(_multiply(a.above, b.below), _multiply(b.above, a.below)), _multiply(a.below, b.below)
            )
        if name == "sub":
            return a + self._make({term: -c for term, c in b.above.items()}, b.below)
        if name == "neg":
            return self._make({term: -c for term, c in a.above.items()}, a.below)
        if name == "mul":
            return self._make(_multiply(a.above, b.above), _multiply(a.below, b.below))
        if name == "div":
            self.sign(b, pole=True)
            return self._make(_multiply(a.above, b.below), _multiply(a.below, b.above))
        if name == "pow_n":
            return self.power_of(a, Fraction(exponent))
        if name == "pow":
            constant = b.constant()
            return self.power_of(a, constant) if constant is not None else self.exp(b * self.log(a))
        if name == "mod":
            self.cell.notes.add("formula: the jumps of floor(x / y) are left out")
            return a - b * self.generator("floor", (_key((a / b).above), _key((a / b).below)))
        return self.function(name, a)

    def _given(self, name: str, inputs: tuple[Any, ...]) -> Any:
        """What floats chose, who may be on another side of a branch than the exact numbers."""
        chosen = self.cell.choices.pop(0)  # type: ignore[union-attr]  # it is not None
        if name == "where":
            return inputs[2] if chosen else inputs[1]
        if name == "max":
            return self.lift(inputs[1] if chosen else inputs[0])
        return self.function(name, self.lift(inputs[0])) if name == "sigmoid" else chosen

    def function(self, name: str, x: Exact) -> Exact:
        """An elementary function by its name."""
        if name == "sigmoid":
            return 1 / (1 + self.exp(-x))
        if name in ("sin", "cos"):
            turn = self.generator("i")
            forth, back = self.exp(turn * x), self.exp(-(turn * x))
            return (forth - back) / (2 * turn) if name == "sin" else (forth + back) / 2
        if name == "exp":
            return self.exp(x)
        if name == "log":
            return self.log(x)
        if name == "sqrt":
            return self.power_of(x, Fraction(1, 2))
        if name not in FUNCTIONS:
            raise Undecided(f"nothing is known of {name}: add a row to testing/proof/functions.py")
        if formula := FUNCTIONS[name].formula:
            return formula(x)  # type: ignore[no-any-return]  # written for any kind of number
        return self.generator(name, (_key(x.above), _key(x.below)))

    def exp(self, x: Exact) -> Exact:
        """e^x: one factor for each term of x; e^(c log u) is u^c."""
        if x.below.keys() != {ONE}:
            return self.generator("e", ("quotient", _key(x.above), _key(x.below)))
        out = self.lift(1)
        for term, c in x.above.items():
            ((kind, key), exponent) = next(iter(term)) if len(term) == 1 else (("", None), 0)
            if kind == "log" and exponent == 1:
                out = out * self.base_power(key, c)
            else:
                out = out * self.generator("e", term, c)
        return out

    def log(self, x: Exact) -> Exact:
        """log x: the sum of the logarithms of its positive factors."""
        if self.sign(x) != 1:
            raise Undecided("a logarithm of a number that is not positive")
        out = self.lift(0)
        for key, exponent in self.factors(x):
            out = out + (exponent if key == "e" else exponent * self.generator("log", key))
        return out

    def power_of(self, x: Exact, exponent: Fraction) -> Exact:
        """x to a rational power: of a positive number, if the power is broken."""
        if exponent.denominator == 1:
            n, out = abs(int(exponent)), self.lift(1)
            if n > 64:
                if x.below.keys() == {ONE} and len(x.above) == 1:
                    ((term, c),) = x.above.items()
                    return self._make({frozenset((g, e * exponent) for g, e in term): c**exponent.numerator})
                raise Undecided("a high power of a sum")
            for _ in range(n):
                out = out * x
            return out if exponent >= 0 else 1 / out
        if not x.above:
            return self.lift(0)
        if self.sign(x) != 1:
            raise Undecided("a broken power of a number that is not positive")
        out = self.lift(1)
        for key, e in self.factors(x):
            out = out * (self.exp(e * exponent) if key == "e" else self.base_power(key, e * exponent))
        return out

    def base_power(self, key: Any, exponent: Any) -> Exact:
        """p^exponent for a generator, a prime, or a positive polynomial p, whose key is its sum."""
        if isinstance(key, int):
            whole = math.floor(exponent)
            out = self.lift(Fraction(key) ** whole)
            return out * self.generator("prime", key, exponent - whole) if exponent != whole else out
        if isinstance(key, tuple):
            return self.generator(key[0], key[1], exponent)
        return self.generator("sum", key, exponent)

    def factors(self, x: Exact) -> Iterable[tuple[Any, Any]]:
        """Positive factors of a positive x with their exponents: primes, generators and irreducible sums; and "e",
        for the exponent of a factor e^m, which is a formula."""
        for s, side in ((x.above, 1), (x.below, -1)):
            common = _common(s)
            rest = {_times(term, frozenset((g, -e) for g, e in common))[0]: c for term, c in s.items()}
            for generator, e in common:
                yield from self._of_generator(generator, e * side)
            content = Fraction(
                math.gcd(*(c.numerator for c in rest.values())), math.lcm(*(c.denominator for c in rest.values()))
            )
            for prime, times in _primes(content):
                yield prime, Fraction(times * side)
            rest = {term: c / content for term, c in rest.items()}
            if len(rest) > 1:
                for part, times in _irreducible(rest):
                    sign = self.sign(self._make(dict(part)))
                    if sign not in (1, -1):
                        raise Undecided("the sign of a factor")
                    yield _key(part if sign == 1 else {t: -c for t, c in part.items()}), Fraction(times * side)

    def _of_generator(self, generator: Generator, e: Fraction) -> Iterable[tuple[Any, Any]]:
        kind, key = generator
        if kind == "e":
            if isinstance(key, tuple):
                raise Undecided("a logarithm of e to a quotient")
            yield "e", self._make({key: e})
        elif kind in ("prime", "sum"):
            yield key, e
        else:
            sign = self.sign(self.generator(kind, key))
            if sign == -1 and kind == "x":  # |x| = -x
                yield _key({frozenset([(generator, Fraction(1))]): Fraction(-1)}), e
            elif sign == 1:
                yield generator, e
            else:
                raise Undecided("the sign of a factor")

    # --- What is known of it --------------------------------------------------------------------------------

    def constant(self) -> Fraction | None:
        """The rational number that it is, if it is one."""
        if not self.above:
            return Fraction(0)
        if self.above.keys() == {ONE} == self.below.keys():
            return self.above[ONE]
        return None

    def is_zero(self) -> bool:
        """Is it 0 all over the cell? True is proven; False may be a failure to see it."""
        return not _expanded(self.above)

    def sign(self, x: Exact, pole: bool = False) -> int:
        """-1, 0 or 1 all over the cell. Raises Split where x changes its sign.

        With pole=True, the zeros of x are left out of the cell, as far as they are not found.
        """
        value = x.constant()
        if value is not None:
            if pole and value == 0:
                raise Undecided("a division by zero")
            return (value > 0) - (value < 0)
        linear = x.linear()
        if linear is not None:
            return self._sign_of_linear(*linear, pole)
        found = self.range_of(x).sign or self._sign_of_terms(x) or self._sign_of_factors(x)
        if found:
            return found
        if x.is_zero() and not pole:
            return 0
        if pole:
            self.cell.notes.add(
                "formula: poles are left out, where a divisor is 0 that is not linear in the inputs"
            )
            return 1
        raise Undecided("a branch at a point that is not the root of a linear formula")

    def _sign_of_terms(self, x: Exact) -> int | None:
        """The sign of a sum whose terms have one sign, over another such sum."""
        out = 1
        for s in (x.above, x.below):
            signs = {self._sign_of_term(term, c) for term, c in s.items()}
            if signs not in ({1}, {-1}):
                return None
            out *= signs.pop()  # type: ignore[operator]  # it is 1 or -1
        return out

    def _sign_of_term(self, term: Term, c: Fraction) -> int | None:
        out = 1 if c > 0 else -1
        for (kind, key), e in term:
            if kind in _POSITIVE or (e.denominator == 1 and e % 2 == 0 and kind != "i"):
                continue
            if kind != "x":
                return None
            low, high = self.cell.ends[key]
            if low < 0 < high:
                return None
            out *= 1 if low >= 0 else -1
        return out

    def _sign_of_factors(self, x: Exact) -> int | None:
        """The sign of a product of irreducible sums, such as 1 - x^2."""
        out = 1
        for s in (x.above, x.below):
            parts = list(_irreducible(s)) if len(s) > 1 else [(s, 1)]
            if len(parts) == 1 and parts[0][1] == 1:
                if (sign := self.range_of(self._make(dict(s))).sign) is None and s is x.above:
                    return None
                out *= sign or self.sign(self._make(dict(s)), pole=True)
                continue
            for part, e in parts:
                out *= self.sign(self._make(dict(part))) if e % 2 else 1
        return out

    def _sign_of_linear(self, slopes: dict[int, Fraction], constant: Fraction, pole: bool) -> int:
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
            if low == high:
                return int(a * low + constant > 0) - int(a * low + constant < 0)
            if low < root < high:
                raise Split(self.cell.split(i, root))
            return 1 if (root <= low) == (a > 0) else -1
        found = Range(arb(0), arb(0)) + exactly(constant)
        for i, a in slopes.items():
            found = found + exactly(a) * variable_range(self.cell, i)
        if found.sign or pole:
            return found.sign or 1
        raise Undecided("a branch on several inputs")

    def linear(self) -> tuple[dict[int, Fraction], Fraction] | None:
        """(slopes, constant) if it is a linear function of the variables."""
        if self.below.keys() != {ONE}:
            return None
        slopes, constant = {}, Fraction(0)
        for term, c in self.above.items():
            if term == ONE:
                constant = c
            elif len(term) == 1:
                ((kind, i), e) = next(iter(term))
                if kind != "x" or e != 1:
                    return None
                slopes[i] = c
            else:
                return None
        return slopes, constant

    def range_of(self, x: Exact) -> Range:
        """A range that has all values of x on the cell."""
        return x.on([variable_range(self.cell, i) for i in range(len(self.cell.ends))])  # type: ignore[no-any-return]  # as its inputs

    def on(self, inputs: Sequence[Any]) -> Any:
        """The formula computed on other inputs: ranges, or formulas on another cell."""
        return sum_on(self.above, inputs) / sum_on(self.below, inputs)

    # --- Derivatives ----------------------------------------------------------------------------------------

    def derivative(self, i: int) -> Exact:
        """The derivative for variable i, by the quotient rule."""
        above, below = self._make(self.above), self._make(self.below)
        d_above, d_below = self._of_sum(self.above, i), self._of_sum(self.below, i)
        if not d_below.above:
            return d_above / below
        return (d_above * below - above * d_below) / (below * below)

    def _of_sum(self, s: Sum, i: int) -> Exact:
        out = self.lift(0)
        for term, c in s.items():
            for generator, e in term:
                inner = self._of_generator_slope(generator, i)
                if inner.above:
                    rest, factor = _times(term, frozenset([(generator, Fraction(-1))]))
                    out = out + self._make({rest: factor * c * e}) * inner
        return out

    def _of_generator_slope(self, generator: Generator, i: int) -> Exact:
        """The derivative of a generator: for e^m, m' e^m."""
        kind, key = generator
        if kind == "x":
            return self.lift(int(key == i))
        if kind in ("i", "pi", "prime", "floor") or (kind == "log" and isinstance(key, int)):
            return self.lift(0)
        if kind == "sum":
            return self._of_sum(dict(key), i)
        if kind == "e":
            quotient = isinstance(key, tuple)
            inner = self._make(dict(key[1]), dict(key[2])) if quotient else self._make({key: Fraction(1)})
            return inner.derivative(i) * self.generator("e", key)
        if kind == "log":
            if isinstance(key, tuple):
                return self._of_generator_slope(key, i) / self.generator(*key)
            return self._of_sum(dict(key), i) * self.generator("sum", key, -1)
        u = self._make(dict(key[0]), dict(key[1]))
        return u.derivative(i) * self.lift(FUNCTIONS[kind].slope(u))


CHOICES = ("lt", "le", "gt", "ge", "equal", "max", "where", "heaviside", "sign", "sigmoid")
_POSITIVE = ("e", "prime", "sum", "pi", "erfc")
_COMPARISONS: dict[str, Any] = {
    "lt": lambda sign: sign < 0,
    "le": lambda sign: sign <= 0,
    "gt": lambda sign: sign > 0,
    "ge": lambda sign: sign >= 0,
    "equal": lambda sign: int(sign == 0),
}


def beside_infinity(a: Any, b: Any) -> int:
    """The sign of a - b, if one of them is the float inf or -inf; else 0."""
    low = (isinstance(a, float) and a == -math.inf) or (isinstance(b, float) and b == math.inf)
    high = (isinstance(a, float) and a == math.inf) or (isinstance(b, float) and b == -math.inf)
    return high - low


def variables(cell: Cell) -> list[Exact]:
    """The inputs on a cell: variables, or numbers where the cell is a point."""
    same = dict(cell.same)
    out = []
    for i, (low, high) in enumerate(cell.ends):
        while i in same:
            i = same[i]
        start = Exact(cell, {})
        out.append(start.lift(low) if low == high else start.generator("x", i))
    return out


def variable_range(cell: Cell, i: int) -> Range:
    low, high = cell.ends[i]
    ends = [exactly(end) if isinstance(end, Fraction | int) else exactly(arb(end)) for end in (low, high)]
    return Range(ends[0].lo, ends[1].hi)


# --- Sums ---------------------------------------------------------------------------------------------------


def _common(s: Sum) -> Term:
    """The largest term that divides all terms of a sum."""
    exponents = [dict(term) for term in s]
    shared = {g for term in exponents for g in term if g != IMAGINARY}
    return frozenset((g, e) for g in shared if (e := min(term.get(g, Fraction(0)) for term in exponents)))


def _primes(content: Fraction) -> Iterable[tuple[int, int]]:
    for number, side in ((content.numerator, 1), (content.denominator, -1)):
        if number > 10**30:
            raise Undecided("a root of a long fraction")
        for prime, e in fmpz(number).factor():
            yield int(prime), e * side


def _irreducible(s: Sum) -> Iterable[tuple[Sum, int]]:
    """The irreducible factors of a sum, as a polynomial in its generators."""
    generators = sorted({g for term in s for g, _ in term}, key=repr)
    steps = {g: _step([e for term in s for h, e in term if h == g]) for g in generators}
    powers_of = {tuple(int(dict(term).get(g, 0) / steps[g]) for g in generators): c for term, c in s.items()}
    if any(n < 0 or n > 60 for powers in powers_of for n in powers):
        yield s, 1  # too high a degree
        return
    context = fmpq_mpoly_ctx.get(tuple(f"g{n}" for n in range(len(generators))), "lex")
    polynomial = context.from_dict({powers: fmpq(c.numerator, c.denominator) for powers, c in powers_of.items()})
    unit, factors = polynomial.factor()
    scale = Fraction(int(unit.p), int(unit.q))
    for factor, e in factors:
        part = {
            frozenset((g, int(n) * steps[g]) for g, n in zip(generators, powers, strict=True) if n): Fraction(
                int(c.p), int(c.q)
            )
            for powers, c in factor.to_dict().items()
        }
        if scale != 1 and e % 2:  # the sign and the unit go to one odd factor
            part, scale = {t: c * scale for t, c in part.items()}, Fraction(1)
        yield part, int(e)
    if scale != 1:
        yield {ONE: scale}, 1


def _step(numbers: list[Fraction]) -> Fraction:
    """A fraction of which all numbers are whole multiples: 1 / n, or the largest if the multiples are many."""
    least = Fraction(1, math.lcm(*(x.denominator for x in numbers)))
    return least if max(numbers) <= 60 * least else least * math.gcd(*(x.numerator for x in numbers))


def _expanded(s: Sum) -> Sum:
    """The sum with whole powers of irreducible sums multiplied out, up to a factor that is not 0."""
    while True:
        found = sorted({g for term in s for g, e in term if g[0] == "sum"}, key=repr)
        for generator in found:
            low = math.floor(min(dict(term).get(generator, Fraction(0)) for term in s))
            if low:  # multiply by a power of it
                s = {_times(term, frozenset([(generator, Fraction(-low))]))[0]: c for term, c in s.items()}
            if any(dict(term).get(generator, Fraction(0)) >= 1 for term in s):
                s = _with_whole_powers(s, generator)
                break
        else:
            return s


def _with_whole_powers(s: Sum, generator: Generator) -> Sum:
    base, out = dict(generator[1]), dict[Term, Fraction]()
    for term, c in s.items():
        e = dict(term).get(generator, Fraction(0))
        whole = math.floor(e)
        part: Sum = {_times(term, frozenset([(generator, Fraction(-whole))]))[0]: c} if whole else {term: c}
        for _ in range(whole):
            part = _multiply(part, base)
        out = _add(out, part)
    return out


# --- Sums on other numbers ------------------------------------------------------------------------------------


def sum_on(s: Sum, inputs: Sequence[Any]) -> Any:
    """A sum computed on ranges or on formulas. Factors e^m become one e^(sum of m): a narrower range."""
    lift = inputs[0].lift
    if isinstance(inputs[0], Range) and any(g == IMAGINARY for term in s for g, _ in term):
        return ALL
    out = lift(0)
    for term, c in s.items():
        exponent: Sum = {}
        product = lift(c)
        for (kind, key), power in term:
            if kind == "e" and not isinstance(key, tuple):
                exponent = _add(exponent, {key: power})
            else:
                product = product * _generator_on(kind, key, power, inputs)
        if exponent:
            product = product * elementary.exp(_centred(exponent, inputs))
        out = out + product
    return out


def _generator_on(kind: str, key: Any, power: Fraction, inputs: Sequence[Any]) -> Any:
    lift = inputs[0].lift
    if kind in ("i", "floor"):
        return ALL if isinstance(inputs[0], Range) else inputs[0].generator(kind, key, power)
    if kind == "x":
        found = inputs[key]
    elif kind == "pi":
        found = inputs[0].constants()[0]
    elif kind == "prime":
        found = lift(key)
    elif kind == "sum":
        found = sum_on(dict(key), inputs)
    elif kind == "log":
        of = lift(key) if isinstance(key, int) else _factor_on(key, inputs)
        found = elementary.log(of)
    else:
        above, below = key[-2:]
        function = elementary.exp if kind == "e" else getattr(elementary, kind)
        found = function(sum_on(dict(above), inputs) / sum_on(dict(below), inputs))
    if isinstance(found, Range) and kind in _POSITIVE:
        found = Range(max(found.lo, arb(0)), found.hi)
    return found if power == 1 else found._apply("pow_n", found, exponent=power)


def _factor_on(key: Any, inputs: Sequence[Any]) -> Any:
    """What a logarithm was taken of: a generator, or a positive sum."""
    kind, inner = key if isinstance(key, tuple) else ("sum", key)
    return _generator_on(kind, inner, Fraction(1), inputs)


def _centred(s: Sum, inputs: Sequence[Any]) -> Any:
    """The sum, and if it is a polynomial on a range, by the mean value theorem where that is narrower."""
    found, x = sum_on(s, inputs), inputs[0]
    polynomial = len(inputs) == 1 and all(g == ("x", 0) and n >= 1 for term in s for g, n in term)
    if not isinstance(x, Range) or not polynomial or not x.mag < INF:
        return found
    middle = exactly(((x.lo + x.hi) / 2).mid())
    powers = {term: dict(term).get(("x", 0), Fraction(0)) for term in s}
    slope: Sum = {}
    for term, c in s.items():
        if power := powers[term]:
            lower = frozenset([(("x", 0), power - 1)]) if power > 1 else ONE
            slope = _add(slope, {lower: c * power})
    other = sum_on(s, [middle]) + sum_on(slope, inputs) * (x - middle)
    return Range(max(found.lo, other.lo), min(found.hi, other.hi))
