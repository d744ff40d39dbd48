"""What a proof may use of each elementary function: one row per function of `elementary`.

The bounds are those that the GNU C library states for doubles on x86-64 ("Known Maximum Errors in Math Functions"
in its manual), where it states one; else the largest that it states for another 64-bit machine. Python's `math`
calls that library. A certificate prints the bounds that it rests on.
"""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from flint import arb

from ...engine import elementary as e
from .ranges import FAR, OwnArithmetic, Range, monotone, wave


class Function(NamedTuple):
    """An elementary function.

    `ulps` bounds the error of its float, in units in the last place of the exact value. `range` maps a range to
    the range of the values. `slope` is its derivative, written with operators and `elementary`, as in a rule.
    `formula` is its definition by simpler functions, None if there is none. `saturates`: at an infinite
    float it has its limit. `concave`: it is 0 at 0, and concave and increasing above, so that it does not magnify
    relative errors there.
    """

    ulps: float
    range: Callable[[Range], Range]
    slope: Callable[[Any], Any]
    formula: Callable[[Any], Any] | None = None
    saturates: bool = False
    concave: bool = False


# The rows are formulas on any kind of number, as those of engine/rules.py, which have no types either.


def _exp2(x):
    return e.exp(x * e.constants(x)[2])


def _log2(x):
    return e.log(x) / e.constants(x)[2]


def _log10(x):
    return e.log(x) / e.constants(x)[3]


def _sinh(x):
    return (e.exp(x) - e.exp(-x)) / 2


def _cosh(x):
    return (e.exp(x) + e.exp(-x)) / 2


def _bell(x):
    return 2 * e.exp(-(x * x)) / e.sqrt(e.constants(x)[0])


def _sin(x):
    i = x.generator("prime", -1, Fraction(1, 2))
    return i * (e.exp(-(i * x)) - e.exp(i * x)) / 2


def _cos(x):
    i = x.generator("prime", -1, Fraction(1, 2))
    return (e.exp(i * x) + e.exp(-(i * x))) / 2


_sinh_range, _cosh_range = (monotone(f, "-inf", "inf", FAR) for f in (arb.sinh, arb.cosh))
_log_range = monotone(lambda x: arb("-inf") if x == 0 else x.log())
_log1p_range = monotone(lambda x: arb("-inf") if x == -1 else x.log1p())

FUNCTIONS: dict[str, Function] = {
    "exp": Function(1, monotone(arb.exp, 0, "inf", FAR), lambda x: e.exp(x), saturates=True),
    "exp2": Function(1, _exp2, lambda x: e.exp2(x) * e.constants(x)[2], _exp2, saturates=True),
    "expm1": Function(
        1, monotone(arb.expm1, -1, "inf", FAR), lambda x: e.exp(x), lambda x: e.exp(x) - 1, saturates=True
    ),
    "log": Function(1, _log_range, lambda x: 1 / x),
    "log2": Function(2, _log2, lambda x: 1 / (x * e.constants(x)[2]), _log2),
    "log10": Function(2, _log10, lambda x: 1 / (x * e.constants(x)[3]), _log10),
    "log1p": Function(1, _log1p_range, lambda x: 1 / (1 + x), lambda x: e.log(1 + x), concave=True),
    "sqrt": Function(0.5, monotone(arb.sqrt), lambda x: 1 / (2 * e.sqrt(x))),
    "sin": Function(1, wave(arb.sin), lambda x: e.cos(x), _sin),
    "cos": Function(1, wave(arb.cos), lambda x: -e.sin(x), _cos),
    "tan": Function(
        1, lambda x: e.sin(x) / e.cos(x), lambda x: 1 / (e.cos(x) * e.cos(x)), lambda x: e.sin(x) / e.cos(x)
    ),
    "asin": Function(1, monotone(arb.asin), lambda x: 1 / e.sqrt(1 - x * x)),
    "acos": Function(
        1, monotone(arb.acos), lambda x: -1 / e.sqrt(1 - x * x), lambda x: e.constants(x)[0] / 2 - e.asin(x)
    ),
    "atan": Function(1, monotone(arb.atan), lambda x: 1 / (1 + x * x), saturates=True, concave=True),
    "sinh": Function(2, _sinh_range, lambda x: e.cosh(x), _sinh, saturates=True),
    "cosh": Function(2, lambda x: _cosh_range(abs(x)), lambda x: e.sinh(x), _cosh, saturates=True),
    "tanh": Function(
        2,
        monotone(arb.tanh),
        lambda x: 1 / e.cosh(x) ** 2,
        lambda x: _sinh(x) / _cosh(x),
        saturates=True,
        concave=True,
    ),
    "asinh": Function(2, monotone(arb.asinh), lambda x: 1 / e.sqrt(1 + x * x), concave=True),
    "acosh": Function(2, monotone(arb.acosh), lambda x: 1 / e.sqrt(x * x - 1)),
    "atanh": Function(2, monotone(arb.atanh), lambda x: 1 / (1 - x * x)),
    "erf": Function(1, monotone(arb.erf, -1, 1), _bell, saturates=True, concave=True),
    "erfc": Function(5, monotone(arb.erfc, 2, 0), lambda x: -_bell(x), saturates=True),
}


OwnArithmetic.functions.update(FUNCTIONS)
