"""What a proof may use of each elementary function: one row per function of `elementary`.

The bounds are those that the GNU C library states for doubles on x86-64 ("Known Maximum Errors in Math Functions"
in its manual), where it states one; else the largest that it states for another 64-bit machine. Python's `math`
calls that library. A certificate prints the bounds that it rests on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flint import arb

from ...engine import elementary as e
from .ranges import FAR, OwnArithmetic, Range, monotone, wave


class Function(NamedTuple):
    """An elementary function.

    `ulps` bounds the error of its float, in units in the last place of the exact value. `slope` is its derivative,
    written with operators and `elementary`, as in a rule. `range` maps a range to the range of the values, and
    `formula` is its definition by simpler functions: at least one of them is known. `saturates`: at an infinite
    float it has its limit. `concave`: it is 0 at 0, and concave and increasing above, so that it does not magnify
    relative errors there.
    """

    ulps: float
    slope: Callable[[Any], Any]
    range: Callable[[Range], Range] | None = None
    formula: Callable[[Any], Any] | None = None
    saturates: bool = False
    concave: bool = False


# The rows are formulas on any kind of number, as those of engine/rules.py, which have no types either.


def _log_2(x):
    return e.constants(x)[2]


def _bell(x):
    return 2 * e.exp(-(x * x)) / e.sqrt(e.constants(x)[0])


def _turned(x):
    return e.exp(x.i() * x)  # e^ix


def _log_range(f, pole):
    return monotone(lambda x: arb("-inf") if x == pole else f(x))


_COSH = monotone(arb.cosh, "-inf", "inf", FAR)
FUNCTIONS: dict[str, Function] = {
    "exp": Function(1, lambda x: e.exp(x), monotone(arb.exp, 0, "inf", FAR), saturates=True),
    "exp2": Function(1, lambda x: e.exp2(x) * _log_2(x), formula=lambda x: e.exp(x * _log_2(x)), saturates=True),
    "expm1": Function(
        1, lambda x: e.exp(x), monotone(arb.expm1, -1, "inf", FAR), lambda x: e.exp(x) - 1, saturates=True
    ),
    "log": Function(1, lambda x: 1 / x, _log_range(arb.log, 0)),
    "log2": Function(2, lambda x: 1 / (x * _log_2(x)), formula=lambda x: e.log(x) / _log_2(x)),
    "log10": Function(2, lambda x: 1 / (x * e.constants(x)[3]), formula=lambda x: e.log(x) / e.constants(x)[3]),
    "log1p": Function(1, lambda x: 1 / (1 + x), _log_range(arb.log1p, -1), lambda x: e.log(1 + x), concave=True),
    "sqrt": Function(0.5, lambda x: 1 / (2 * e.sqrt(x)), monotone(arb.sqrt)),
    "sin": Function(1, lambda x: e.cos(x), wave(arb.sin), lambda x: (_turned(-x) - _turned(x)) / 2 * x.i()),
    "cos": Function(1, lambda x: -e.sin(x), wave(arb.cos), lambda x: (_turned(x) + _turned(-x)) / 2),
    "tan": Function(1, lambda x: 1 / (e.cos(x) * e.cos(x)), formula=lambda x: e.sin(x) / e.cos(x)),
    "asin": Function(1, lambda x: 1 / e.sqrt(1 - x * x), monotone(arb.asin)),
    "acos": Function(
        1, lambda x: -1 / e.sqrt(1 - x * x), monotone(arb.acos), lambda x: e.constants(x)[0] / 2 - e.asin(x)
    ),
    "atan": Function(1, lambda x: 1 / (1 + x * x), monotone(arb.atan), saturates=True, concave=True),
    "sinh": Function(
        2,
        lambda x: e.cosh(x),
        monotone(arb.sinh, "-inf", "inf", FAR),
        lambda x: (e.exp(x) - e.exp(-x)) / 2,
        saturates=True,
    ),
    "cosh": Function(
        2, lambda x: e.sinh(x), lambda x: _COSH(abs(x)), lambda x: (e.exp(x) + e.exp(-x)) / 2, saturates=True
    ),
    "tanh": Function(
        2,
        lambda x: 1 / e.cosh(x) ** 2,
        monotone(arb.tanh),
        lambda x: e.sinh(x) / e.cosh(x),
        saturates=True,
        concave=True,
    ),
    "asinh": Function(2, lambda x: 1 / e.sqrt(1 + x * x), monotone(arb.asinh), concave=True),
    "acosh": Function(2, lambda x: 1 / e.sqrt(x * x - 1), monotone(arb.acosh)),
    "atanh": Function(2, lambda x: 1 / (1 - x * x), monotone(arb.atanh)),
    "erf": Function(1, _bell, monotone(arb.erf, -1, 1), saturates=True, concave=True),
    "erfc": Function(5, lambda x: -_bell(x), monotone(arb.erfc, 2, 0), saturates=True),
}
OwnArithmetic.functions.update(FUNCTIONS)
