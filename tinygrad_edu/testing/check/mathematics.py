"""The mathematics of every rule of ours, against which `check_rule` holds them: one row per rule.

The functions are mathematics on mpmath numbers, not our forward formulas: mpmath's own erf, tanh, erfc ..., and
slopes in closed form. Floats must come within 4 ulps of the exact result. Where terms cancel, the unit is that of
the larger term (`size`, `slope_size`), and the row says which terms.
"""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath as mp
from hypothesis import strategies as st

from ...engine.rule import Rule
from .points import LARGEST, SHORT, SMALLEST_NORMAL, TINY
from .reference import LIMIT, Reference

BOUND = 4.0


def reference_of(rule: Rule) -> Reference:
    """The mathematics of one of our rules; of any other, its own forward at high precision."""
    row = REFERENCES.get(rule.name) or Reference(rule.forward)
    return row if isinstance(row, Reference) else row(**rule.parameters)


# --- Rows ---------------------------------------------------------------------------------------------------


def several(f: Any, slopes: Any, **more: Any) -> Reference:
    """A row for a rule of two inputs or more."""
    sizes = {"size": lambda *inputs: 0, "slope_size": lambda *inputs: [0] * len(inputs)}
    return Reference(f, slopes, bound=BOUND, **sizes | more)


def one(f: Any, slope: Any, *special: float, **more: Any) -> Reference:
    """A row for a rule of one input. Near `special` points check_rule looks closely."""
    return several(f, lambda x: (slope(x),), special=special, **more)


PAIRS = list(itertools.product(SHORT, SHORT))
FACTOR = st.one_of(st.floats(-50, 50), st.floats(-1e150, -1e-150), st.floats(1e-150, 1e150), st.just(0.0))
FACTORS = st.sampled_from([2, 4, 6, 14]).flatmap(lambda n: st.tuples(*[FACTOR] * n))
LISTS: list[tuple[float, ...]] = [
    *itertools.product(SHORT[:-2], SHORT[:-2]),
    (1e16, 1.0, -1e16),
    (30.0, -40.0, 1e-9, 2.0, 29.5, -1e4, 3.3),
]

# A base above 0 with any exponent, results in and out of range; below 0, whole exponents.
BASES = [1e-300, 3e-20, 0.3, *(math.nextafter(1, e) for e in (0, 1, 2)), 1 + 1e-9, 2.0, 40.1, 7e150, LARGEST]
EXPONENTS = [-1e9, -40.3, -2.0, -1.0, -0.6, -1e-9, 1e-20, 0.1, 0.5, 1.0, 1.02, 2.0, 3.7, 40.0, 1e9]
POWERS = [
    *itertools.product(BASES, EXPONENTS),
    *itertools.product([-2.0, -0.7, -1e100], [-3.0, -1.0, 1.0, 2.0, 40.0]),
]
IN_RANGE = st.tuples(st.floats(TINY, LARGEST), st.floats(-700, 700)).map(
    lambda p: (p[0], p[1] / math.log(p[0]) if p[0] != 1 else p[1])
)
ANY_POWER = st.one_of(
    st.tuples(st.floats(TINY, LARGEST), st.floats(-50, 50)),
    IN_RANGE,
    st.tuples(st.floats(-1e50, -1e-50), st.integers(-9, 9).map(float)),
)
QUARTERS = (math.pi / 2, -math.pi / 2, math.pi, 1e22)
FAR = (1.0, -1.0, 1.35e154, -3e158, 9e160)  # where x^2 overflows, and 1/x^2 is not yet 0
STEPS = [*(k / 8 for k in (-83, -41, -9, -1, 3, 5, 27, 103, 701)), -3e-20, 1e5 + 0.3, -1e9 / 7]
BETWEEN_JUMPS = [(x, y) for x in STEPS for y in STEPS if x % y]


# --- Mathematics --------------------------------------------------------------------------------------------


def sign(x: Any) -> Any:
    return (x > 0) - (x < 0)


def asin_slope(x: Any) -> Any:
    return 1 / mp.sqrt((1 - x) * (1 + x))


def sech2(x: Any) -> Any:
    return 1 / mp.cosh(x) ** 2


def logistic(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def logistic_slope(x: Any) -> Any:
    return sech2(x / 2) / 4


def erfc(x: Any) -> Any:  # mpmath cannot do 1e300; from 28 on the floats are 0
    return mp.erfc(x) if abs(x) < 1000 else mp.mpf(2 * (x < 0))


def bell(x: Any) -> Any:
    return mp.exp(-x * x) * 2 / mp.sqrt(mp.pi)


def normal(x: Any) -> Any:
    return erfc(-x / mp.sqrt(2)) / 2


def share_among(pick: Any) -> Any:
    """The slopes of max and min: equal inputs share evenly."""

    def slopes(*inputs: Any) -> Any:
        best = pick(inputs)
        return tuple(Fraction(x == best, inputs.count(best)) for x in inputs)

    return slopes


def real(x: Any) -> Any:
    return x.real


def log_excess(*inputs: Any) -> Any:
    """logsumexp less the largest input."""
    top = max(range(len(inputs)), key=lambda i: inputs[i].real)
    return mp.log1p(mp.fsum(mp.exp(x - inputs[top]) for i, x in enumerate(inputs) if i != top))


def softmax(*inputs: Any) -> Any:
    parts = [mp.exp(x - max(inputs)) for x in inputs]
    return tuple(p / sum(parts) for p in parts)


def shifted_shares(*inputs: Any) -> Any:
    """What rounding x - max to a relative error of 1 does to each e^(x - max), beside an error of 1 of its own."""
    return [p * (1 + max(inputs) - x) for p, x in zip(softmax(*inputs), inputs, strict=True)]


def halves(inputs: Any) -> Any:
    return inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]


def dot(*inputs: Any) -> Any:
    return mp.fdot(*halves(inputs))


def power_slopes(x: Any, y: Any) -> Any:
    if x < 0 and y % 1:
        return mp.nan, mp.nan
    out = mp.power(x, y)
    if x < 0:
        return y * out / x, mp.nan  # between whole exponents a negative base has no real power
    return y * out / x, (out if out < LIMIT else mp.inf) * mp.log(x) if x != 1 else mp.mpf(0)


def power(exponent: Any) -> Reference:
    """x ** exponent, for one constant exponent."""
    n = exponent if isinstance(exponent, int) else mp.mpf(exponent)
    return one(lambda x: x**n, lambda x: n * x ** (n - 1) if n else 0, 1.0)


def leaky_relu(alpha: Any) -> Reference:
    return one(lambda x: x if x > 0 else alpha * x, lambda x: 1 if x > 0 else alpha)


def elu(alpha: Any) -> Reference:
    return one(lambda x: x if x > 0 else alpha * mp.expm1(x), lambda x: 1 if x > 0 else alpha * mp.exp(x))


REFERENCES: dict[
    str, Reference | Callable[..., Reference]
] = {  # functions of the rule's parameters, if it has any
    "add": several(lambda x, y: x + y, lambda x, y: (1, 1), grid=PAIRS),
    "sub": several(lambda x, y: x - y, lambda x, y: (1, -1), grid=PAIRS),
    "mul": several(lambda x, y: x * y, lambda x, y: (y, x), grid=PAIRS),
    "div": several(
        lambda x, y: x / y,
        lambda x, y: (1 / y, -x / y**2),
        grid=[*((x, y) for x, y in PAIRS if y), (1e-310, 1e-309), (-1e-320, 3e-318)],
    ),
    "neg": one(lambda x: -x, lambda x: -1),
    "abs": one(lambda x: -x if x < 0 else x, sign),
    "pow": several(
        mp.power,
        power_slopes,
        grid=POWERS,
        strategy=ANY_POWER,
        # where x^y is subnormal, its slopes have its digits; where it is inf, the slope for y is
        slope_size=lambda x, y: (SMALLEST_NORMAL * abs(y / x), SMALLEST_NORMAL * abs(mp.log(abs(x)))),
    ),
    "pow_n": power,
    "reciprocal": one(lambda x: 1 / x, lambda x: -1 / x**2),
    "mod": several(
        lambda x, y: x - y * mp.floor((x / y).real),
        lambda x, y: (1, (x % y - x) / y),
        grid=BETWEEN_JUMPS,
        strategy=st.sampled_from(BETWEEN_JUMPS),
        # a remainder just below y is rounded to y, and then counts one step less
        size=lambda x, y: abs(y),
        slope_size=lambda x, y: (0, abs(x / y) + 1),
    ),
    "sign": one(sign, lambda x: 0),
    "detach": one(lambda x: x, lambda x: 0),
    "sqrt": one(mp.sqrt, lambda x: 1 / (2 * mp.sqrt(x)), 1.0),
    "exp": one(mp.exp, mp.exp),
    "exp2": one(
        lambda x: mp.mpf(2) ** x,
        lambda x: (2**x if 2**x < LIMIT else mp.inf) * mp.log(2),  # where 2^x is inf, its slope is
    ),
    "expm1": one(mp.expm1, mp.exp),
    "log": one(mp.log, lambda x: 1 / x, 1.0),
    "log2": one(lambda x: mp.log(x, 2), lambda x: 1 / (x * mp.log(2)), 1.0),
    "log10": one(mp.log10, lambda x: 1 / (x * mp.log(10)), 1.0),
    "log1p": one(mp.log1p, lambda x: 1 / (1 + x)),
    "sin": one(mp.sin, mp.cos, *QUARTERS),
    "cos": one(mp.cos, lambda x: -mp.sin(x), *QUARTERS),
    "tan": one(mp.tan, lambda x: 1 / mp.cos(x) ** 2, *QUARTERS),
    "asin": one(mp.asin, asin_slope),
    "acos": one(mp.acos, lambda x: -asin_slope(x)),
    "atan": one(mp.atan, lambda x: 1 / (1 + x * x), *FAR),
    "sinh": one(mp.sinh, mp.cosh),
    "cosh": one(mp.cosh, mp.sinh),
    "asinh": one(mp.asinh, lambda x: 1 / mp.sqrt(1 + x * x), *FAR),
    "acosh": one(mp.acosh, lambda x: 1 / mp.sqrt((x - 1) * (x + 1))),
    "atanh": one(mp.atanh, lambda x: 1 / ((1 - x) * (1 + x))),
    "tanh": one(mp.tanh, sech2, 0.5, -0.5),
    "erf": one(mp.erf, bell),
    "erfc": one(erfc, lambda x: -bell(x)),
    "sigmoid": one(logistic, logistic_slope, 1.0, -1.0),
    "softplus": one(lambda x: mp.log1p(mp.exp(x)), logistic),
    "relu": one(lambda x: max(x, 0), lambda x: int(x > 0)),
    "leaky_relu": leaky_relu,
    "elu": elu,
    "gelu": one(
        lambda x: x * normal(x),
        lambda x: normal(x) + x * mp.npdf(x),
        -0.7517915246935645,
        # in the lower tail, rounding x / sqrt 2 costs up to x^2 ulps, as the rule says: 1400 at -37.25;
        # beyond -37.5 the distribution function is subnormal. The slope is 0 near -0.75, elsewhere 5 units off:
        # 4.2 at -9.337493916686817 and at -2.3380567394574996.
        size=lambda x: abs(x) * max(normal(x) * max(1, x * x / 2), SMALLEST_NORMAL),
        slope_size=lambda x: (1.25 * (normal(x) + abs(x) * max(mp.npdf(x), SMALLEST_NORMAL)),),
    ),
    "silu": one(
        lambda x: x * logistic(x),
        lambda x: logistic(x) + x * logistic_slope(x),
        *(-1.2784645427610738, -708.5, -720.0, -740.0),
        slope_size=lambda x: (logistic(x) + abs(x) * logistic_slope(x),),  # it is 0 near -1.28
    ),
    "where": several(
        lambda c, x, y: x if c else y,
        lambda c, x, y: (0, 1, 0) if c else (0, 0, 1),
        grid=[(c, x, y) for x, y in PAIRS for c in (0.0, 1.0)],
        nan_passes=False,
    ),
    "max": several(lambda *x: max(x), share_among(max)),
    "min": several(lambda *x: min(x), share_among(min)),
    "sum": several(lambda *x: mp.fsum(x), lambda *x: (1,) * len(x)),
    "dot": several(
        dot,
        lambda *inputs: sum(reversed(halves(inputs)), ()),
        grid=[pair for a in LISTS for pair in ((*a, *a), (*a, *reversed(a)))],
        strategy=FACTORS,
        size=lambda *inputs: dot(*map(abs, inputs)),
        n_arrays=2,
    ),
    "logsumexp": several(
        lambda *x: max(x, key=real) + log_excess(*x),
        softmax,
        # the largest input and the logarithm cancel; x - max is rounded before its exponential is taken
        size=lambda *x: max(abs(max(x)), sum(shifted_shares(*x)) - max(softmax(*x))),
        slope_size=shifted_shares,
    ),
}
