"""Where to look for a rule's errors: hard points that are always tried, and a strategy for random ones.

A point is a tuple of floats, one per input.
"""

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ..engine.rule import Rule

Point = tuple[Any, ...]
TINY, LARGEST, SMALLEST_NORMAL = 5e-324, 1.7976931348623157e308, 2.0**-1022

MAGNITUDES = [
    *(TINY, 1e-310, SMALLEST_NORMAL, LARGEST),
    *(2.0**512, 2.0**1023),  # where squares and doubles overflow
    *(1.7 * 10.0**e for e in range(-307, 308, 18)),
    *(math.pi * 10.0**e for e in range(-20, 21)),
    *(k / 2 for k in range(1, 81)),
    *(0.037 + k / 10 for k in range(30)),
    *(13.7 * k for k in range(3, 60)),
    *(27.2, 38.4, 708.3, 709.7, 710.4, 745.1),  # where erfc, its slope, exp and cosh end
]
SHORT = [0.0, 1e-300, -3e-20, 0.3, -0.7, 1.0, math.nextafter(1, 2), -2.5, 40.1, -1e5, 7e150, -LARGEST]
LENGTHS = (1, 2, 3, 7)  # of the inputs of a reduction


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
        ordinary = max(self.low, -50.0), min(self.high, 50.0)
        choices = (
            [st.floats(*ordinary)] if ordinary[0] <= ordinary[1] else []
        )  # first, so that failures shrink to it
        choices.append(st.floats(self.low, self.high))
        choices += [st.sampled_from(self.close)] if self.close else []
        return st.one_of(choices).filter(self.__contains__)


def line_of(rule: Rule, i: int) -> Line:
    """Where input i of the rule may lie, by the rule's own declaration. Raises ValueError if that is nowhere."""
    interval = rule.domain[i] if i < len(rule.domain) else None
    low, high = (interval.low, interval.high) if interval else (-LARGEST, LARGEST)
    special = tuple(x for x in (0.0, low, high, *rule.kinks) if abs(x) < LARGEST)
    if interval and interval.open:
        low, high = math.nextafter(low, math.inf), math.nextafter(high, -math.inf)
    low, high = max(low, -LARGEST), min(high, LARGEST)
    if not low <= high:
        raise ValueError(f"The domain of {rule.name} is empty: no x fulfils {interval}.")
    inside = tuple(dict.fromkeys(x for x in special if low <= x <= high))
    return Line(low, high, special=inside)


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


def grid_of(rule: Rule) -> list[Point]:
    """The hard points of a rule: for one input over 500 of them, for more inputs combinations of a few."""
    if rule.n_inputs == 1:
        points: Iterable[Point] = [(x,) for x in line_of(rule, 0).grid]
    elif rule.n_inputs == 2:
        points = itertools.product(*(_short(line_of(rule, i)) for i in range(2)))
    else:
        lengths = [rule.n_inputs] if rule.n_inputs else LENGTHS
        rows = {n: [_short(line_of(rule, i)) for i in range(n)] for n in lengths}
        points = [
            tuple(row[(k + i * step) % len(row)] for i, row in enumerate(rows[n]))
            for n in lengths
            for k in range(len(SHORT))
            for step in (0, 1, 5)
        ]
    return [point for point in dict.fromkeys(points) if inside(rule)(point)]


def strategy_of(rule: Rule) -> st.SearchStrategy[Point]:
    """Random points of a rule's domain; a reduction gets 1, 2, 3 or 7 inputs."""

    def of_length(n: int) -> st.SearchStrategy[Any]:
        return st.tuples(*[line_of(rule, i).strategy for i in range(n)])

    lengths = [rule.n_inputs] if rule.n_inputs else LENGTHS
    return st.one_of(*map(of_length, lengths)).filter(inside(rule))


def _short(line: Line) -> list[float]:
    """A few numbers of a line, some of either end of it."""
    chosen = dict.fromkeys([*SHORT, *(-x for x in SHORT), *line.special, *line.close[:6]])
    return [x for x in chosen if x in line] or line.grid[:12] or [line.low, line.high]
