"""Elementary functions on whatever number they are given.

The rules of `rules.py` are written with Python operators and these functions, never with `math`, so that one
definition runs on floats, NumPy arrays, mpmath numbers, Fractions, Values and symbols. Floats are tested first.

None raises an error for a number, as in IEEE arithmetic: exp(1000) is inf, log(0) is -inf, log(-1) is nan. Domains
are declared in `rules.py`, and checked when a Value is made.

A Value or a symbol has a method `_apply(name, *inputs)` that records the operation. Choices (heaviside, equal)
have no slope: between Values they are decided by the data. Reductions (total, largest ...) take any number of
inputs, or one array, whose last axis they reduce.
"""

import functools
import math
import numbers
import operator
import sys

from .dispatch import elsewhere, is_array, is_far, is_mpmath, plain

__all__ = [  # what a rule may use
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "bell", "constants", "cos", "cosh", "damped", "div",
    "equal", "erf", "erfc", "exp", "exp2", "expm1", "heaviside", "inf", "largest", "log", "log1p", "log2",
    "log10", "maximum", "mod", "nan", "pow", "sigmoid", "sign", "sin", "sinh", "smallest", "spread", "sqrt",
    "tan", "tanh", "total", "where", "zero",
]  # fmt: skip

inf, nan = math.inf, math.nan


def _function(name, pole=nan, odd=False):
    """One function of `math`, made total: -inf at its pole, nan outside its domain, inf on overflow."""
    on_float = getattr(math, name)

    def function(x):
        if x.__class__ is float:
            try:
                return on_float(x)
            except OverflowError:
                return -inf if odd and x < 0 else inf
            except ValueError:
                return -inf if x == pole else nan
        return elsewhere(name, function, x)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{name}(x) of a float, array, mpmath number, Value or symbol; never an error."
    return function


exp, exp2, expm1, log1p = _function("exp"), _function("exp2"), _function("expm1"), _function("log1p", -1.0)
log, log2, log10 = _function("log", 0.0), _function("log2", 0.0), _function("log10", 0.0)
sin, cos, tan, sqrt = map(_function, ("sin", "cos", "tan", "sqrt"))
asin, acos, atan, erf, erfc = map(_function, ("asin", "acos", "atan", "erf", "erfc"))
sinh, cosh, tanh = _function("sinh", odd=True), _function("cosh"), _function("tanh")
asinh, acosh, atanh = map(_function, ("asinh", "acosh", "atanh"))


def div(x, y):
    """x / y, where a division by zero is inf, -inf or nan instead of an error."""
    if x.__class__ is float and y.__class__ is float and y:
        return x / y
    if is_far(x) or is_far(y):
        return elsewhere("div", div, x, y)
    if y == 0:
        return nan if x == 0 or x != x else math.copysign(inf, x) * math.copysign(1, y)
    return x / y


def pow(x, y):
    """x ** y, where 0 ** -1 is inf, (-8) ** 0.5 is nan and nan ** 0 is nan."""
    if x.__class__ is not float or (y.__class__ is not int and y.__class__ is not float):
        if hasattr(x, "_apply") and not hasattr(y, "_apply"):  # a constant exponent is no input
            return x._apply("pow_n", x, exponent=y)
        if is_far(x) or is_far(y):
            return elsewhere("pow", pow, x, y)
    if x != x or y != y:
        return nan
    try:
        out = x**y
    except OverflowError:
        return -inf if x < 0 and y % 2 == 1 else inf
    except ZeroDivisionError:
        return math.copysign(inf, x) if y % 2 == 1 else inf
    return out if out.__class__ is float or isinstance(out, numbers.Real) else nan


def mod(x, y):
    """x % y with the sign of y, as Python has it; nan where y is 0."""
    if is_far(x) or is_far(y):
        return elsewhere("mod", mod, x, y)
    return x % y if y != 0 else nan


def sigmoid(x):
    """1 / (1 + e^-x), by the branch that cannot overflow."""
    if hasattr(x, "_apply"):
        return x._apply("sigmoid", x)
    small = exp(-abs(x))
    return where(x >= 0, 1 / (1 + small), small / (1 + small))


def bell(x, scale):
    """e^(-scale x^2). Rounding x*x would cost hundreds of units in the last place, so x is split at the nearest
    multiple m of 1/64, whose square is exact: x^2 = m^2 + (x - m)(x + m)."""
    if hasattr(x, "_bell"):  # a number with an arithmetic of its own
        return x._bell(scale)
    m = (plain(x) + 1.5 * 2.0**46) - 1.5 * 2.0**46
    split = exp(-scale * (m * m)) * exp(scale * (m - x) * (m + x))
    return where(abs(plain(x)) < 64, split, exp(-scale * x * x))


def damped(x, s):
    """x s, but s where s is 0, so that -inf gives no nan."""
    return x._damped(s) if hasattr(x, "_damped") else where(equal(s, 0), -s, x * s)


def constants(x):
    """pi, the square root of 2, log 2 and log 10, to the precision of x."""
    if x.__class__ is not float:
        if hasattr(x, "constants"):  # a number with an arithmetic of its own
            return x.constants()
        if is_mpmath(plain(x)):
            mpmath = sys.modules["mpmath"]
            return +mpmath.pi, mpmath.sqrt(2), mpmath.ln(2), mpmath.ln(10)
    return math.pi, math.sqrt(2.0), math.log(2.0), math.log(10.0)


def where(condition, x, y):
    """x where the condition holds, else y; a plain condition just picks one of the two."""
    if condition.__class__ is not bool and is_far(condition):
        return elsewhere("where", where, condition, x, y)
    return x if condition else y


def maximum(x, y):
    """The larger of the two; nan if either is. An int beside another kind of number becomes one of that kind."""
    if is_far(x) or is_far(y):
        return elsewhere("max", maximum, x, y)
    if x >= y or x != x:
        return type(y)(x) if x.__class__ is int else x
    return type(x)(y) if y.__class__ is int else y


def sign(x):
    """-1, 0 or 1, the slope of abs: 0 at its kink."""
    if is_far(x):
        return elsewhere("sign", sign, x)
    return x if x != x else type(x)(int(x > 0) - int(x < 0))


def heaviside(x):
    """1 where x > 0, else 0: the slope of relu."""
    if x.__class__ is not float and is_far(x):
        return elsewhere("heaviside", heaviside, x)
    return x if x != x else int(x > 0)


def equal(x, y):
    """1 where the two numbers are the same, else 0.  (`==` of Values asks whether they are one node.)"""
    if is_far(x) or is_far(y):
        return elsewhere("equal", equal, x, y)
    return int(x == y)


def zero(x):
    """0 in the arithmetic of x."""
    return 0.0 if x.__class__ is float or is_far(x) else type(x)(0)


def total(*inputs):
    """The sum of the inputs; correctly rounded if all are floats."""
    if len(inputs) == 1 and is_array(inputs[0]):
        return inputs[0].sum(axis=-1)
    if all(x.__class__ is float for x in inputs):
        try:
            return math.fsum(inputs)
        except (OverflowError, ValueError):  # an overflow on the way, or inf - inf
            return sum(inputs)
    return functools.reduce(operator.add, inputs)


def largest(*inputs):
    """The largest input as a plain number, nan if one is nan."""
    if len(inputs) == 1 and is_array(inputs[0]):
        return inputs[0].max(axis=-1)
    return functools.reduce(maximum, map(plain, inputs))


def smallest(*inputs):
    """The smallest input as a plain number, nan if one is nan."""
    return -largest(*[-plain(x) for x in inputs])


def spread(result, inputs):
    """A reduction's result beside its inputs: repeated along the last axis if one array was reduced."""
    if len(inputs) == 1 and is_array(inputs[0]):
        numpy = sys.modules["numpy"]
        return numpy.broadcast_to(numpy.asarray(result)[..., None], inputs[0].shape)
    return result
