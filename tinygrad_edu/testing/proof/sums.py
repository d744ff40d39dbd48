"""Sums: sums of terms with rational numbers before them, and their products, quotients and factors.

A term is a product of powers of generators (see exact.py, which gives them their meaning).
"""

import math
from fractions import Fraction
from typing import Any

from flint import fmpq, fmpq_mpoly_ctx

from .cells import Undecided

Generator = tuple[str, Any]
Term = frozenset[tuple[Generator, Fraction]]  # generators and their exponents
Sum = dict[Term, Fraction]
ONE: Term = frozenset()
IMAGINARY: Generator = ("prime", -1)  # its power 1/2 is i
LONG = 100_000  # binary digits of a number
FACTORS = 64  # of a power that is multiplied out


def times(a: Term, b: Term) -> tuple[Term, Fraction | int]:
    """The product of two terms, and the number that whole powers of primes leave."""
    powers = dict(a)
    for generator, exponent in b:
        powers[generator] = powers.get(generator, Fraction(0)) + exponent
    return reduced(powers)


def reduced(powers: dict[Generator, Fraction]) -> tuple[Term, Fraction | int]:
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
    if len(a) * len(b) > 100_000:
        raise Undecided("the formula is too long")
    out: Sum = {}
    for s, c in a.items():
        for t, d in b.items():
            term, sign = times(s, t)
            out[term] = out.get(term, Fraction(0)) + sign * c * d
    return {term: c for term, c in out.items() if c}


def key_of(s: Sum) -> Any:
    """A sum as part of a generator."""
    return frozenset(s.items())


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


def factored(s: Sum) -> tuple[Fraction, list[tuple[Sum, Fraction]]]:
    """A number, and generators and irreducible polynomials with their exponents: the sum is their product."""
    powers, rest = cleared(s)
    shared = common(rest)
    rest = shifted(rest, shared)
    powers, content = times(powers, shared)
    parts: list[tuple[Sum, Fraction]] = [({frozenset([(g, Fraction(1))]): Fraction(1)}, e) for g, e in powers]
    generators = sorted({g for term in rest for g, _ in term}, key=repr)
    steps = {g: _step([e for term in rest for h, e in term if h == g]) for g in generators}
    powers_of = {tuple(int(dict(term).get(g, 0) / steps[g]) for g in generators): c for term, c in rest.items()}
    degrees = [max(column) for column in zip(*powers_of, strict=True)]
    if math.prod(n + 1 for n in degrees) > 20_000 or len(powers_of) > 300:  # it may take forever
        return Fraction(content), [*parts, (rest, Fraction(1))]
    context = fmpq_mpoly_ctx.get(tuple(f"g{n}" for n in range(len(generators))), "lex")
    polynomial = context.from_dict({powers: fmpq(c.numerator, c.denominator) for powers, c in powers_of.items()})
    unit, factors = polynomial.factor()
    for factor, e in factors:
        part = {
            frozenset((g, int(n) * steps[g]) for g, n in zip(generators, powers, strict=True) if n): Fraction(
                int(c.p), int(c.q)
            )
            for powers, c in factor.to_dict().items()
        }
        parts.append((part, Fraction(int(e))))
    return content * Fraction(int(unit.p), int(unit.q)), parts


def _step(numbers: list[Fraction]) -> Fraction:
    """A fraction of which all numbers are whole multiples: 1 / n, or the largest if the multiples are many."""
    least = Fraction(1, math.lcm(*(x.denominator for x in numbers)))
    return least if max(numbers) <= 60 * least else least * math.gcd(*(x.numerator for x in numbers))


def shifted(s: Sum, by: Term) -> Sum:
    """The sum divided by a term."""
    inverse = frozenset((g, -e) for g, e in by if e)
    return {term: factor * c for t, c in s.items() for term, factor in [times(t, inverse)]}


def cleared(s: Sum) -> tuple[Term, Sum]:
    """A sum as whole powers of irreducible sums, times a rest in which these have powers below 1."""
    for generator in sorted({g for term in s for g, _ in term if g[0] in ("sum", "pole")}, key=repr):
        whole = [math.floor(dict(term).get(generator, 0)) for term in s]
        if any(whole):
            low, out = min(whole), dict[Term, Fraction]()
            if max(whole) - low > FACTORS:
                raise Undecided("the formula is too long")
            for (term, c), n in zip(s.items(), whole, strict=True):
                part = shifted({term: c}, frozenset([(generator, Fraction(n))]))
                for _ in range(n - low):
                    part = multiply(part, dict(generator[1]))
                out = add(out, part)
            poles, rest = cleared(out)
            return times(poles, frozenset([(generator, Fraction(low))]))[0], rest
    return ONE, s
