"""One row per rule: the mathematical function, and how near our floats must come to it.

The functions here are mathematics on mpmath numbers, not our forward formulas: mpmath's own erf, tanh, erfc ...,
and slopes in closed form. Errors are counted in ulps, units in the last place of the exact result. Where terms
cancel, the unit is that of the larger term (`size`, `slope_size`, `second_size`), and the row says which terms.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import mpmath as mp
from hypothesis import strategies as st

from tinygrad_edu.rules import RULES

Point = tuple[float, ...]
TINY, LARGEST, SMALLEST_NORMAL = 5e-324, 1.7976931348623157e308, 2.0**-1022
LIMIT = mp.mpf(2) ** 1024  # where the floats end: inf stands for anything from here on


def ulps(got: Any, exact: Any, size: Any = 0) -> float:
    """|got - exact| in units in the last place of exact, or of `size` where that is larger.

    Infinities count as 2^1024, so that overflow is right where the exact value is out of range. Subnormal results
    have lost digits by definition: where the exact one is subnormal, any subnormal will do. nan is right for nan.
    """
    if mp.isnan(got) or mp.isnan(exact):
        return 0.0 if mp.isnan(got) and mp.isnan(exact) else math.inf
    got, exact, size = (max(-LIMIT, min(LIMIT, mp.mpf(x))) for x in (got, exact, size))
    unit = max(abs(exact), abs(size))
    if unit < SMALLEST_NORMAL and abs(got) <= SMALLEST_NORMAL:
        return 0.0
    return float(abs(got - exact) / math.ulp(min(float(unit), LARGEST)))


# --- Where to look ----------------------------------------------------------------------------------------

MAGNITUDES = [
    *(TINY, 1e-310, SMALLEST_NORMAL, LARGEST),
    *(1.7 * 10.0**e for e in range(-307, 308, 18)),
    *(math.pi * 10.0**e for e in range(-20, 21)),
    *(k / 2 for k in range(1, 81)),
    *(0.037 + k / 10 for k in range(30)),
    *(13.7 * k for k in range(3, 60)),
    *(27.2, 38.4, 708.3, 709.7, 710.4, 745.1),  # where erfc, its slope, exp and cosh end
]


def near(point: float) -> list[float]:
    """The neighbours of a point, from the very next float to a distance of 1/2."""
    steps = [s * 2.0**-k for k in (1, 2, 4, 7, 11, 16, 22, 30, 40, 50) for s in (-1, 1)]
    return [math.nextafter(point, -math.inf), math.nextafter(point, math.inf), *(point + s for s in steps)]


@dataclass(frozen=True)
class Line:
    """Where one input may lie: low to high without the `holes`. Near these and `special` points look closely."""

    low: float = -LARGEST
    high: float = LARGEST
    holes: Point = ()
    special: Point = ()

    def __contains__(self, x: float) -> bool:
        return self.low <= x <= self.high and x not in self.holes

    @property
    def close(self) -> list[float]:
        return [x for point in self.holes + self.special for x in near(point) if x in self]

    @property
    def grid(self) -> list[float]:
        both = [s * m for m in MAGNITUDES for s in (1, -1)]
        return [x for x in [0.0, *both, *self.special, *self.close] if x in self]

    @property
    def strategy(self) -> st.SearchStrategy[float]:
        wide, narrow = st.floats(self.low, self.high), st.floats(max(self.low, -50), min(self.high, 50))
        choices = [wide, narrow, st.sampled_from(self.close)] if self.close else [wide, narrow]
        return st.one_of(choices).filter(self.__contains__)


@dataclass(frozen=True, repr=False)
class Row:
    """One rule beside the mathematics it stands for.

    `f(*inputs)` is a number, `slopes(*inputs)` a tuple. Inputs come from a fixed `grid` and a random `strategy`.
    `second_grid` are the points for second derivatives: away from kinks, of moderate size since they square.
    """

    name: str
    f: Callable[..., Any]
    slopes: Callable[..., Any]
    grid: list[Point]
    strategy: st.SearchStrategy[Point]
    second_grid: list[Point]
    parameters: dict[str, Any] = field(default_factory=dict)
    bound: float = 4.0
    slope_bound: float = 4.0
    size: Callable[..., Any] = lambda *inputs: 0
    slope_size: Callable[..., Any] = lambda *inputs: [0] * len(inputs)
    second_size: Callable[..., Any] = lambda *inputs: 0

    def __repr__(self) -> str:
        return self.name + "".join(f" {k}={v}" for k, v in self.parameters.items())

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:  # what Hypothesis prints on a failure
        printer.text(repr(self))

    @property
    def rule(self) -> Any:
        return RULES[self.name].bind(**self.parameters) if self.parameters else RULES[self.name]


def one(name: str, f: Any, slope: Any, line: Line = Line(), kinks: Point = (), **more: Any) -> Row:
    """A row for a rule of one input."""
    grid = [(x,) for x in line.grid if x not in kinks]
    second = [(x,) for (x,) in grid if 1e-50 < abs(x) < 1e50 or x == 0]
    strategy = line.strategy.filter(lambda x: x not in kinks).map(lambda x: (x,))
    return Row(name, f, lambda x: (slope(x),), grid, strategy, second, **more)


def two(name: str, f: Any, slopes: Any, points: list[Point], strategy: Any, **more: Any) -> Row:
    """A row for a rule of two inputs or more, with its own points."""
    kink = RULES[name].ties
    second = [p for p in points if all(1e-50 < abs(x) < 1e50 for x in p) and not (kink and len({*p}) < len(p))]
    return Row(name, f, slopes, points, strategy, second, **more)


SHORT = [0.0, 1e-300, -3e-20, 0.3, -0.7, 1.0, math.nextafter(1, 2), -2.5, 40.1, -1e5, 7e150, -LARGEST]
PAIRS = list(itertools.product(SHORT, SHORT))
ANY = Line().strategy
ANY_PAIR = st.tuples(ANY, ANY)

# Reductions: 1, 2, 3 and 7 inputs; sums of 7 must stay in range.
LISTS = [
    *((x,) for x in SHORT[:-1]),
    *((x, y) for x, y in PAIRS if LARGEST not in (-x, -y)),
    *((1.0, -2.0, 0.5), (1e16, 1.0, -1e16), (-700.3, 0.1, 2.0), (1e-300, 3e-20, -3e-20), (5.0, 5.5, 4.5)),
    *(
        (0.1, 0.2, 0.3, -0.4, 0.5, 0.6, 0.7),
        (30.0, -40.0, 1e-9, 2.0, 29.5, -1e4, 3.3),
        tuple(1e4 - k for k in range(7)),
    ),
]
TERM = Line(-1e300, 1e300).strategy
ANY_LIST = st.sampled_from([1, 2, 3, 7]).flatmap(lambda n: st.tuples(*[TERM] * n))
FACTOR = st.one_of(st.floats(-1e150, -1e-150), st.floats(1e-150, 1e150), st.floats(-50, 50), st.just(0.0))
FACTORS = st.sampled_from([2, 4, 6, 14]).flatmap(lambda n: st.tuples(*[FACTOR] * n))


# --- The mathematics --------------------------------------------------------------------------------------


def asin_slope(x: Any) -> Any:
    return 1 / mp.sqrt((1 - x) * (1 + x))


def sech2(x: Any) -> Any:
    return 1 / mp.cosh(x) ** 2


def logistic(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def logistic_slope(x: Any) -> Any:
    return sech2(x / 2) / 4


def erfc(x: Any) -> Any:
    return mp.erfc(max(-1000, min(1000, x)))  # mpmath cannot do 1e300; from 28 on the floats are 0


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


def log_excess(*inputs: Any) -> Any:
    """logsumexp less the largest input."""
    exponentials = sorted(mp.exp(x - max(inputs)) for x in inputs)
    return mp.log1p(mp.fsum(exponentials[:-1]))


def softmax(*inputs: Any) -> Any:
    parts = [mp.exp(x - max(inputs)) for x in inputs]
    return tuple(p / sum(parts) for p in parts)


def halves(inputs: Any) -> Any:
    return inputs[: len(inputs) // 2], inputs[len(inputs) // 2 :]


def exact_sum(*terms: Any) -> Any:
    with mp.workprec(5000):  # from the largest product of floats to the smallest
        return sum(terms)


def dot(*inputs: Any) -> Any:
    return exact_sum(*(x * y for x, y in zip(*halves(inputs), strict=True)))


def power_slopes(x: Any, y: Any) -> Any:
    if x < 0 and y % 1:
        return mp.nan, mp.nan
    out = mp.power(x, y)
    if x < 0:
        return y * out / x, mp.nan  # between whole exponents a negative base has no real power
    return y * out / x, (out if out < LIMIT else mp.inf) * mp.log(x) if x != 1 else mp.mpf(0)


def power(exponent: Any) -> Row:
    """x ** exponent, for one constant exponent."""
    low = -LARGEST if exponent % 1 == 0 else TINY
    holes = (0.0,) if exponent < 1 and exponent else ()
    n = exponent if isinstance(exponent, int) else mp.mpf(exponent)
    return one(
        "pow_n",
        lambda x: x**n,
        lambda x: n * x ** (n - 1) if n else 0,
        Line(low, holes=holes, special=(1.0,)),
        kinks=(0.0,) if exponent % 1 > 0 else (),
        parameters={"exponent": exponent},
    )


def leaky(alpha: float) -> Row:
    def f(x: Any) -> Any:
        return x if x > 0 else alpha * x

    return one("leaky_relu", f, lambda x: 1 if x > 0 else alpha, kinks=(0.0,), parameters={"alpha": alpha})


def elu(alpha: float) -> Row:
    def f(x: Any) -> Any:
        return x if x > 0 else alpha * mp.expm1(x)

    def slope(x: Any) -> Any:
        return 1 if x > 0 else alpha * mp.exp(x)

    return one("elu", f, slope, kinks=(0.0,), parameters={"alpha": alpha})


# A base above 0 with any exponent, results in and out of range; below 0, whole exponents.
BASES = [1e-300, 3e-20, 0.3, *(math.nextafter(1, e) for e in (0, 1, 2)), 1 + 1e-9, 2.0, 40.1, 7e150, LARGEST]
EXPONENTS = [-1e9, -40.3, -2.0, -1.0, -0.6, -1e-9, 1e-20, 0.1, 0.5, 1.0, 1.02, 2.0, 3.7, 40.0, 1e9]
POWERS = [
    *itertools.product(BASES, EXPONENTS),
    *itertools.product([-2.0, -0.7, -1e100], [-3.0, -1.0, 1.0, 2.0, 3.0, 40.0]),
]
IN_RANGE = st.tuples(st.floats(TINY, LARGEST), st.floats(-700, 700)).map(
    lambda p: (p[0], p[1] / math.log(p[0]) if p[0] != 1 else p[1])
)
ANY_POWER = st.one_of(
    IN_RANGE,
    st.tuples(st.floats(TINY, LARGEST), st.floats(-50, 50)),
    st.tuples(st.floats(-1e50, -1e-50), st.integers(-9, 9).map(float)),
)
ABOVE_MINUS_1 = Line(math.nextafter(-1, 0), special=(-1.0, 0.0))
INSIDE_1 = Line(math.nextafter(-1, 0), math.nextafter(1, 0), special=(-1.0, 0.0, 1.0))
HALF_PI = Line(special=(0.0, math.pi / 2, -math.pi / 2, math.pi, 1e22))
ORIGIN = Line(special=(0.0,))

ROWS = [
    two("add", lambda x, y: x + y, lambda x, y: (1, 1), PAIRS, ANY_PAIR),
    two("sub", lambda x, y: x - y, lambda x, y: (1, -1), PAIRS, ANY_PAIR),
    two("mul", lambda x, y: x * y, lambda x, y: (y, x), PAIRS, ANY_PAIR),
    two(
        "div",
        lambda x, y: x / y,
        lambda x, y: (1 / y, -x / y**2),
        [*((x, y) for x, y in PAIRS if y), (1e-310, 1e-309), (-1e-320, 3e-318)],
        ANY_PAIR.filter(lambda p: p[1] != 0),
    ),
    one("neg", lambda x: -x, lambda x: -1),
    one("abs", abs, lambda x: mp.sign(x), kinks=(0.0,)),
    two(
        "pow",
        mp.power,
        power_slopes,
        POWERS,
        ANY_POWER,
        # where x^y is subnormal, its slopes have its digits; where it is inf, the slope for y is
        slope_size=lambda x, y: (SMALLEST_NORMAL * abs(y / x), SMALLEST_NORMAL * abs(mp.log(abs(x)))),
        # d2/dxdy = x^(y-1) (1 + y log x)
        second_size=lambda x, y: abs(mp.power(x, y - 1)) * (1 + abs(y * mp.log(abs(x)))),
    ),
    *map(power, [0, 1, 2, 3, -1, 0.5, -0.5, 2.5, 0.1, 1e-20]),
    one("sqrt", mp.sqrt, lambda x: 1 / (2 * mp.sqrt(x)), Line(TINY, special=(1.0,))),
    one("exp", mp.exp, mp.exp, ORIGIN),
    one("expm1", mp.expm1, mp.exp, ORIGIN),
    one("log", mp.log, lambda x: 1 / x, Line(TINY, special=(1.0,))),
    one("log1p", mp.log1p, lambda x: 1 / (1 + x), ABOVE_MINUS_1),
    one("sin", mp.sin, mp.cos, HALF_PI),
    one("cos", mp.cos, lambda x: -mp.sin(x), HALF_PI),
    one("tan", mp.tan, lambda x: 1 / mp.cos(x) ** 2, HALF_PI),
    # (1-x)(1+x) has the slope (1-x) - (1+x): its digits near 0 are those of 1
    one("asin", mp.asin, asin_slope, INSIDE_1, second_size=lambda x: asin_slope(x) ** 3),
    one("acos", mp.acos, lambda x: -asin_slope(x), INSIDE_1, second_size=lambda x: asin_slope(x) ** 3),
    one("atan", mp.atan, lambda x: 1 / (1 + x * x), ORIGIN),
    one("sinh", mp.sinh, mp.cosh, ORIGIN),
    one("cosh", mp.cosh, mp.sinh, ORIGIN),
    one("tanh", mp.tanh, sech2, Line(special=(0.0, 0.5, -0.5))),
    one("erf", mp.erf, bell, ORIGIN),
    one("erfc", erfc, lambda x: -bell(x), ORIGIN),
    one("sigmoid", logistic, logistic_slope, Line(special=(0.0, 1.0, -1.0))),
    one("softplus", lambda x: mp.log1p(mp.exp(x)), logistic, ORIGIN),
    one("relu", lambda x: max(x, 0), lambda x: int(x > 0), kinks=(0.0,)),
    *map(leaky, [0.01, 0.2, 0.0, 1.5]),
    *map(elu, [1.0, 0.3, 2.0]),
    one(
        "gelu",
        lambda x: x * normal(x),
        lambda x: normal(x) + x * mp.npdf(x),
        Line(special=(0.0, -0.7517915246935645)),
        # in the lower tail, rounding x / sqrt 2 costs up to x^2 ulps, as the rule says: 1400 at -37.25;
        # beyond -37.5 the distribution function is subnormal
        # the slope is 0 near -0.75, the second derivative (2 - x^2) phi at sqrt 2
        size=lambda x: abs(x) * max(normal(x) * max(1, x * x / 2), SMALLEST_NORMAL),
        slope_size=lambda x: (normal(x) + abs(x) * max(mp.npdf(x), SMALLEST_NORMAL),),
        second_size=lambda x: (2 + x * x) * mp.npdf(x),
    ),
    one(
        "silu",
        lambda x: x * logistic(x),
        lambda x: logistic(x) + x * logistic_slope(x),
        Line(special=(0.0, -1.2784645427610738)),
        # beyond -708 the sigmoid is subnormal
        # the slope s + x s' is 0 near -1.28, the second derivative 2s' + x s'' near 2.4
        size=lambda x: abs(x) * SMALLEST_NORMAL,
        slope_size=lambda x: (logistic(x) + abs(x) * max(logistic_slope(x), SMALLEST_NORMAL),),
        second_size=lambda x: (2 + abs(x)) * logistic_slope(x),
    ),
    two(
        "where",
        lambda c, x, y: x if c else y,
        lambda c, x, y: (0, 1, 0) if c else (0, 0, 1),
        [(c, x, y) for x, y in PAIRS for c in (0.0, 1.0)],
        st.tuples(st.sampled_from([0.0, 1.0, -2.0]), ANY, ANY),
    ),
    two("max", lambda *x: max(x), share_among(max), LISTS, ANY_LIST),
    two("min", lambda *x: min(x), share_among(min), LISTS, ANY_LIST),
    two("sum", exact_sum, lambda *x: (1,) * len(x), LISTS, ANY_LIST),
    two(
        "dot",
        dot,
        lambda *inputs: sum(reversed(halves(inputs)), ()),
        [pair for a in LISTS if max(map(abs, a)) < 1e100 for pair in ((*a, *a), (*a, *reversed(a)))],
        FACTORS,
        size=lambda *inputs: dot(*map(abs, inputs)),
    ),
    two(
        "logsumexp",
        lambda *x: max(x) + log_excess(*x),
        softmax,
        LISTS,
        ANY_LIST,
        # the largest input and the logarithm cancel; x - max is rounded before its exponential is taken
        size=lambda *x: max(abs(max(x)), log_excess(*x)),
        slope_size=lambda *x: [p * (1 + max(x) - a) for p, a in zip(softmax(*x), x, strict=True)],
        second_size=lambda *x: max(softmax(*x)),
    ),
]
