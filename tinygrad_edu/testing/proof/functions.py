"""What a proof may use of each elementary function: one row per function of `elementary`.

The bounds are those that the GNU C library states for doubles on x86-64 ("Known Maximum Errors in Math Functions"
in its manual), where it states one; else the largest that it states for another 64-bit machine. Python's `math`
calls that library. A certificate prints the bounds that it rests on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from flint import arb

from ...engine import elementary as e
from .ranges import Range, clipped, even, monotone, wave

PI_2 = arb.pi() / 2


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


def _pi(x):
    return e.constants(x)[0]


def _ln2(x):
    return e.constants(x)[2]


def _ln10(x):
    return e.constants(x)[3]


def _bell(x: Any) -> Any:
    return 2 * e.exp(-(x * x)) / e.sqrt(_pi(x))


def _tanh(x: Any) -> Any:
    return (e.exp(x) - e.exp(-x)) / (e.exp(x) + e.exp(-x))


def _log(x: Any) -> Any:
    return arb("-inf") if x == 0 else x.log()


_exp = clipped(lambda x: x.exp(), 0, "inf")
_sinh = clipped(lambda x: x.sinh(), "-inf", "inf")
ANY = lambda x: Range(arb("-inf"), arb("inf"))  # noqa: E731  # a row reads better with it

FUNCTIONS: dict[str, Function] = {
    "exp": Function(1, _exp, lambda x: e.exp(x), saturates=True),
    "exp2": Function(
        1,
        clipped(lambda x: (x * arb.const_log2()).exp(), 0, "inf"),
        lambda x: e.exp2(x) * _ln2(x),
        lambda x: e.exp(x * _ln2(x)),
        saturates=True,
    ),
    "expm1": Function(
        1,
        clipped(lambda x: x.expm1(), -1, "inf"),
        lambda x: e.exp(x),
        lambda x: e.exp(x) - 1,
        saturates=True,
    ),
    "log": Function(1, monotone(_log, "nan", "inf"), lambda x: 1 / x),
    "log2": Function(
        2,
        monotone(lambda x: _log(x) / arb.const_log2(), "nan", "inf"),
        lambda x: 1 / (x * _ln2(x)),
        lambda x: e.log(x) / _ln2(x),
    ),
    "log10": Function(
        2,
        monotone(lambda x: _log(x) / arb.const_log10(), "nan", "inf"),
        lambda x: 1 / (x * _ln10(x)),
        lambda x: e.log(x) / _ln10(x),
    ),
    "log1p": Function(
        1,
        monotone(lambda x: x.log1p() if x > -1 else arb("-inf"), "nan", "inf"),
        lambda x: 1 / (1 + x),
        lambda x: e.log(1 + x),
        concave=True,
    ),
    "sqrt": Function(0.5, monotone(lambda x: x.sqrt(), "nan", "inf"), lambda x: 1 / (2 * e.sqrt(x))),
    "sin": Function(1, wave(lambda x: x.sin()), lambda x: e.cos(x)),
    "cos": Function(1, wave(lambda x: x.cos()), lambda x: -e.sin(x)),
    "tan": Function(1, ANY, lambda x: 1 / (e.cos(x) * e.cos(x)), lambda x: e.sin(x) / e.cos(x)),
    "asin": Function(1, monotone(lambda x: x.asin(), "nan", "nan"), lambda x: 1 / e.sqrt(1 - x * x)),
    "acos": Function(
        1,
        monotone(lambda x: x.acos(), "nan", "nan"),
        lambda x: -1 / e.sqrt(1 - x * x),
        lambda x: _pi(x) / 2 - e.asin(x),
    ),
    "atan": Function(
        1, monotone(lambda x: x.atan(), -PI_2, PI_2), lambda x: 1 / (1 + x * x), saturates=True, concave=True
    ),
    "sinh": Function(2, _sinh, lambda x: e.cosh(x), lambda x: (e.exp(x) - e.exp(-x)) / 2, saturates=True),
    "cosh": Function(
        2,
        even(clipped(lambda x: x.cosh(), "inf", "inf")),
        lambda x: e.sinh(x),
        lambda x: (e.exp(x) + e.exp(-x)) / 2,
        saturates=True,
    ),
    "tanh": Function(
        2, monotone(lambda x: x.tanh(), -1, 1), lambda x: 1 / e.cosh(x) ** 2, _tanh, saturates=True, concave=True
    ),
    "asinh": Function(
        2,
        monotone(lambda x: x.asinh(), "-inf", "inf"),
        lambda x: 1 / e.sqrt(1 + x * x),
        concave=True,
    ),
    "acosh": Function(
        2,
        monotone(lambda x: x.acosh(), "nan", "inf"),
        lambda x: 1 / e.sqrt(x * x - 1),
    ),
    "atanh": Function(
        2,
        monotone(lambda x: x.atanh(), "nan", "nan"),
        lambda x: 1 / (1 - x * x),
    ),
    "erf": Function(1, monotone(lambda x: x.erf(), -1, 1), _bell, saturates=True, concave=True),
    "erfc": Function(5, monotone(lambda x: x.erfc(), 2, 0), lambda x: -_bell(x), saturates=True),
}
Range.functions.update((name, row.range) for name, row in FUNCTIONS.items())
