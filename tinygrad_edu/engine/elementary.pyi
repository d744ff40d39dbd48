"""Made by `python .ci/stubs.py` from the module beside it."""

from typing import Any

__all__ = [
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "bell",
    "constants",
    "cos",
    "cosh",
    "div",
    "equal",
    "erf",
    "erfc",
    "exp",
    "exp2",
    "expm1",
    "heaviside",
    "inf",
    "largest",
    "log",
    "log1p",
    "log2",
    "log10",
    "maximum",
    "mod",
    "nan",
    "pow",
    "sigmoid",
    "sign",
    "sin",
    "sinh",
    "smallest",
    "spread",
    "sqrt",
    "tan",
    "tanh",
    "total",
    "where",
    "zero",
]
inf: float
nan: float

def exp(x: Any) -> Any:
    """exp(x) of a float, array, mpmath number, Value or symbol; never an error."""

def exp2(x: Any) -> Any:
    """exp2(x) of a float, array, mpmath number, Value or symbol; never an error."""

def expm1(x: Any) -> Any:
    """expm1(x) of a float, array, mpmath number, Value or symbol; never an error."""

def log1p(x: Any) -> Any:
    """log1p(x) of a float, array, mpmath number, Value or symbol; never an error."""

def log(x: Any) -> Any:
    """log(x) of a float, array, mpmath number, Value or symbol; never an error."""

def log2(x: Any) -> Any:
    """log2(x) of a float, array, mpmath number, Value or symbol; never an error."""

def log10(x: Any) -> Any:
    """log10(x) of a float, array, mpmath number, Value or symbol; never an error."""

def sin(x: Any) -> Any:
    """sin(x) of a float, array, mpmath number, Value or symbol; never an error."""

def cos(x: Any) -> Any:
    """cos(x) of a float, array, mpmath number, Value or symbol; never an error."""

def tan(x: Any) -> Any:
    """tan(x) of a float, array, mpmath number, Value or symbol; never an error."""

def sqrt(x: Any) -> Any:
    """sqrt(x) of a float, array, mpmath number, Value or symbol; never an error."""

def asin(x: Any) -> Any:
    """asin(x) of a float, array, mpmath number, Value or symbol; never an error."""

def acos(x: Any) -> Any:
    """acos(x) of a float, array, mpmath number, Value or symbol; never an error."""

def atan(x: Any) -> Any:
    """atan(x) of a float, array, mpmath number, Value or symbol; never an error."""

def erf(x: Any) -> Any:
    """erf(x) of a float, array, mpmath number, Value or symbol; never an error."""

def erfc(x: Any) -> Any:
    """erfc(x) of a float, array, mpmath number, Value or symbol; never an error."""

def sinh(x: Any) -> Any:
    """sinh(x) of a float, array, mpmath number, Value or symbol; never an error."""

def cosh(x: Any) -> Any:
    """cosh(x) of a float, array, mpmath number, Value or symbol; never an error."""

def tanh(x: Any) -> Any:
    """tanh(x) of a float, array, mpmath number, Value or symbol; never an error."""

def asinh(x: Any) -> Any:
    """asinh(x) of a float, array, mpmath number, Value or symbol; never an error."""

def acosh(x: Any) -> Any:
    """acosh(x) of a float, array, mpmath number, Value or symbol; never an error."""

def atanh(x: Any) -> Any:
    """atanh(x) of a float, array, mpmath number, Value or symbol; never an error."""

def div(x: Any, y: Any) -> Any:
    """x / y, where a division by zero is inf, -inf or nan instead of an error."""

def pow(x: Any, y: Any) -> Any:
    """x ** y, where 0 ** -1 is inf, (-8) ** 0.5 is nan and nan ** 0 is nan."""

def mod(x: Any, y: Any) -> Any:
    """x % y with the sign of y, as Python has it; nan where y is 0."""

def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x), by the branch that cannot overflow."""

def bell(x: Any, scale: Any) -> Any:
    """e^(-scale x^2). Rounding x*x would cost hundreds of units in the last place, so x is split at the nearest"""

def constants(x: Any) -> Any:
    """pi, the square root of 2, log 2 and log 10, to the precision of x."""

def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; a plain condition just picks one of the two."""

def maximum(x: Any, y: Any) -> Any:
    """The larger of the two; nan if either is."""

def sign(x: Any) -> Any:
    """-1, 0 or 1, the slope of abs: 0 at its kink."""

def heaviside(x: Any) -> Any:
    """1 where x > 0, else 0: the slope of relu."""

def equal(x: Any, y: Any) -> Any:
    """1 where the two numbers are the same, else 0.  (`==` of Values asks whether they are one node.)"""

def zero(x: Any) -> Any:
    """0 in the arithmetic of x."""

def total(*inputs: Any) -> Any:
    """The sum of the inputs; correctly rounded if all are floats."""

def largest(*inputs: Any) -> Any:
    """The largest input as a plain number, nan if one is nan."""

def smallest(*inputs: Any) -> Any:
    """The smallest input as a plain number, nan if one is nan."""

def spread(result: Any, inputs: Any) -> Any:
    """A reduction's result beside its inputs: repeated along the last axis if one array was reduced."""
