"""Where to look for a rule's errors: hard points that are always tried, and a strategy for random ones.

A point is a tuple of floats, one per input.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CellType
from typing import Any, NamedTuple

from hypothesis import strategies as st

from ...engine.rule import Interval, Rule

Point = tuple[Any, ...]
TINY, LARGEST, SMALLEST_NORMAL = 5e-324, 1.7976931348623157e308, 2.0**-1022

ENDS = [abs(math.log(x)) for x in (TINY, SMALLEST_NORMAL, LARGEST)]  # where exp ends, and its like
SHORT = [0.0, 1e-300, -3e-20, 0.3, -0.7, 1.0, math.nextafter(1, 2), -2.5, 40.1, -1e5, 7e150, -LARGEST]
LENGTHS = (1, 2, 3, 7)  # of the inputs of a reduction


def near(point: float) -> list[float]:
    """The neighbours of a point, from the very next float to a distance of 1/2."""
    steps = [s * 2.0**-k for k in (1, 2, 4, 7, 11, 16, 22, 30, 37, 40, 45, 50) for s in (-1, 1)]
    return [math.nextafter(point, -math.inf), math.nextafter(point, math.inf), *(point + s for s in steps)]


MAGNITUDES = [
    *(TINY, 1e-310, SMALLEST_NORMAL, LARGEST),
    *(2.0**256, 2.0**512, 2.0**1023),  # where fourth powers, squares and doubles overflow
    *(1.7 * 10.0**e for e in range(-307, 308, 18)),
    *(math.pi * 10.0**e for e in range(-20, 21)),
    *(math.pi / 2 * 10.0**e for e in range(-20, 21)),
    *(k / 2 for k in range(1, 81)),
    *(0.037 + k / 10 for k in range(30)),
    *(13.7 * k for k in range(3, 60)),
    *(x for end in ENDS for x in (*near(end), math.sqrt(end), math.sqrt(2 * end))),
]


class Line(NamedTuple):
    """Where one input may lie: from low to high. Near `special` points look closely."""

    low: float
    high: float
    special: Sequence[float]

    def inner(self, numbers: Iterable[float]) -> list[float]:
        return [x for x in dict.fromkeys(numbers) if self.low <= x <= self.high]

    @property
    def close(self) -> list[float]:
        return self.inner(x for point in self.special for x in near(point))

    def strategy(self) -> st.SearchStrategy[float]:
        low, high = max(self.low, -50.0), min(self.high, 50.0)
        ordinary = [st.floats(low, high)] if low <= high else []  # first, so that failures shrink to it
        close = [st.sampled_from(self.close)] if self.close else []
        return st.one_of(*ordinary, st.floats(self.low, self.high), *close)


def line_of(rule: Rule, i: int, special: Point = ()) -> Line:
    """Where input i of the rule may lie, by the rule's own declaration. Raises ValueError if that is nowhere."""
    interval = rule.domain[i] if i < len(rule.domain) else Interval()
    low, high = interval.low, interval.high
    named = dict.fromkeys((0.0, low, high, *rule.kinks, *special))
    if interval.open:
        low, high = math.nextafter(low, math.inf), math.nextafter(high, -math.inf)
    low, high = max(low, -LARGEST), min(high, LARGEST)
    if not low <= high:
        raise ValueError(f"The domain of {rule.name} is empty: no x fulfils {interval}.")
    return Line(low, high, [x for x in named if abs(x) < LARGEST])


def ends_of(domain: Any, n: int) -> list[tuple[float, float]]:
    """The ends of a domain for n inputs: an `Interval` or a pair (low, high), or one for each input.

    Raises TypeError for anything else, ValueError for another number of intervals.
    """
    single = _ends(domain)
    ends = [single] * n if single else list(map(_ends, domain)) if isinstance(domain, list | tuple) else [None]
    if None in ends:
        raise TypeError(f"domain is an Interval or a pair of numbers, one for each input, got {domain!r}.")
    if len(ends) != n:
        raise ValueError(f"domain has {len(ends)} intervals for {n} inputs.")
    return [pair for pair in ends if pair]


def _ends(x: Any) -> tuple[float, float] | None:
    pair = (x.low, x.high) if isinstance(x, Interval) else x
    is_pair = (
        isinstance(pair, tuple | list) and len(pair) == 2 and all(isinstance(end, int | float) for end in pair)
    )
    return (float(pair[0]), float(pair[1])) if is_pair else None


def confined(rule: Rule, ends: Sequence[tuple[float, float]]) -> Rule:
    """The rule on a part of its domain."""
    wholes = [*rule.domain, *[Interval()] * len(ends)]
    parts = [
        Interval(
            max(low, whole.low), min(high, whole.high), whole.open and not whole.low < low <= high < whole.high
        )
        for (low, high), whole in zip(ends, wholes, strict=False)
    ]
    return rule.replace(domain=tuple(parts))


def inside(rule: Rule) -> Callable[[Any], bool]:
    """Is a point in the declared domain, by the intervals and by `check`?"""

    def accepted(point: Point) -> bool:
        try:
            if rule.check:
                rule.check(*point, **rule.parameters)
        except (ValueError, ArithmeticError):
            return False
        return all(x in interval for x, interval in zip(point, rule.domain, strict=False))

    return accepted


def grid_of(rule: Rule, special: Point = ()) -> list[Point]:
    """The hard points of a rule: for one input over 500 of them, for more inputs combinations of a few."""
    points: list[Point] = []
    for n in _lengths(rule):
        lines = [line_of(rule, i, special) for i in range(n)]
        rows = list(map(_short, lines))
        if rule.n_inputs == 1:
            points += zip(_long(lines[0]))
        elif rule.n_inputs == 2:
            points += itertools.product(*rows)
        else:
            shifted = itertools.product(range(len(SHORT)), (0, 1, 5))
            points += [tuple(row[(k + i * step) % len(row)] for i, row in enumerate(rows)) for k, step in shifted]
    return [point for point in dict.fromkeys(points) if inside(rule)(point)]


def beside_constants(rule: Rule) -> list[Point]:
    """Points at the numbers that a rule is written with, and beside them: its thresholds and windows lie there."""
    numbers = sorted({*_constants(rule.forward), *_constants(rule.backward)}, key=abs)
    close = [x for c in numbers for x in (c, -1.5 * c, c * 1.5, c / 1.5, *near(c))]
    points: list[Point] = [(x,) for x in close]
    if rule.n_inputs != 1:
        several = range(rule.n_inputs or 2)
        points = [
            tuple(x if i == j else y for j in several) for x in close for i in several for y in (1.0, 0.7, 2.0)
        ]
        points += itertools.product(numbers, repeat=len(several)) if len(several) == 2 else []
        points += [tuple(0.7 * c if i == j else 0.7 for j in several) for c in numbers for i in several]
    return [point for point in dict.fromkeys(points) if all(map(math.isfinite, point)) and inside(rule)(point)]


def _constants(function: Any) -> Iterator[float]:
    """The numbers in the code of a function, and in its closure and defaults."""
    code = getattr(function, "__code__", None)
    cells = [cell.cell_contents for cell in getattr(function, "__closure__", None) or () if cell != CellType()]
    for x in [*(code.co_consts if code else ()), *cells, *(getattr(function, "__defaults__", None) or ())]:
        if isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < LARGEST:
            yield float(x)


def strategy_of(rule: Rule, special: Point = ()) -> st.SearchStrategy[Point]:
    """Random points of a rule's domain; a reduction gets 1, 2, 3 or 7 inputs."""
    lines = ([line_of(rule, i, special).strategy() for i in range(n)] for n in _lengths(rule))
    choices: list[st.SearchStrategy[Point]] = [st.tuples(*line) for line in lines]
    return st.one_of(choices).filter(inside(rule))


def _lengths(rule: Rule) -> Sequence[int]:
    return [rule.n_inputs] if rule.n_inputs else LENGTHS


def _long(line: Line) -> list[float]:
    """All hard numbers of a line."""
    return line.inner([0.0, *(s * m for m in MAGNITUDES for s in (1, -1)), *line.special, *line.close])


def _short(line: Line) -> list[float]:
    """A few numbers of a line, some near each end."""
    return line.inner([*SHORT, *(-x for x in SHORT), *line.special, *line.close[:6]])
