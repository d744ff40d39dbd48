"""The slope that difference quotients tend to as the step goes to 0, and how wrong it may be.

The estimate of the error has two parts: what the extrapolation leaves open, and what rounding can do at most.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

SAFETY = 8.0  # a difference of so many estimates is an error

Difference = Callable[[float], tuple[float, float] | None]  # step -> slope and its rounding, if it can be had


class Limit(NamedTuple):
    """What differences tend to as the step goes to 0: what the extrapolation leaves open, and what is rounding.

    For an infinite slope, left_open is the steepest difference seen.
    """

    slope: float
    left_open: float
    rounding: float

    @property
    def error(self) -> float:
        return self.left_open + self.rounding

    def agrees(self, other: "Limit") -> bool:
        """May the two be estimates of one number?"""
        return abs(self.slope - other.slope) <= SAFETY * (self.error + other.error)

    @property
    def settled(self) -> bool:
        """Do the differences get nearer to something at all?"""
        return self.left_open <= max(SAFETY * self.rounding, abs(self.slope) / 100)


NOTHING = Limit(math.nan, math.inf, 0.0)


def steps_of(x: float) -> list[list[float]]:
    """Powers of 2, which x + h and x - h barely round, falling from 1/2 or |x|/2; for a tiny x, from both."""
    size = math.frexp(x or 1.0)[1] - 2  # 2**size is |x|/2 at most
    if size > -31:
        runs = [range(max(size, -1), min(max(-31, size - 44), size - 30), -1)]
    else:
        runs = [range(-1, -31, -1), range(size, size - 30, -1)]
    series = [[math.ldexp(1.0, k) for k in run] for run in runs]
    return [[h for h in steps if x - h < x < x + h] for steps in series]


def _neville(difference: Difference, steps: list[float], power: int) -> Iterator[tuple[float, int, Limit]]:
    """Every estimate of the limit, from large steps to small, with its last step and its order.

    Ridders' method: T[j], from j + 1 steps, is free of the first j terms of its error c1 h^power + c2 h^2power ...
    and about as wrong as it is far from the two estimates that it was made of.
    """
    past: list[float] = []
    old: list[tuple[float, float]] = []
    for h in steps:
        found = difference(h)
        if found is None:
            past, old = [], []
            continue
        past, new = [h, *past[:7]], [found]
        for start, (coarse, its_rounding) in zip(past[1:], old, strict=False):
            (fine, rounding), ratio = new[-1], (h / start) ** power
            weight = ratio / (1 - ratio)
            new.append((fine + weight * (fine - coarse), rounding + weight * (rounding + its_rounding)))
            left_open = max(abs(new[-1][0] - fine), abs(new[-1][0] - coarse))
            yield h, len(new) - 1, Limit(new[-1][0], left_open, new[-1][1])
        old = new


def limit_of(difference: Difference, x: float, power: int) -> Limit:
    """The best estimate of the limit. Smaller steps overrule larger ones, which may overlook something."""
    series, best = steps_of(x), NOTHING
    probes = [list(_neville(difference, steps[-3:], power))[-1:] for steps in series]
    smallest = [(h, probe) for found in probes for h, _, probe in found]
    steps = [h for steps in series for h in steps]
    for h, order, limit in _neville(difference, steps, power):
        if all(
            limit.agrees(probe) and probe.left_open <= SAFETY * (limit.error + probe.rounding)
            for at, probe in smallest
            if at < h
        ):
            if limit.error < best.error or not limit.agrees(best):
                best = limit
            if order >= 3 and limit.left_open <= limit.rounding:  # smaller steps only round more
                return best
    return _growing([found for h in steps[-12:] if (found := difference(h))]) or best


def _growing(found: list[tuple[float, float]]) -> Limit | None:
    """An infinite slope, if the differences of ever smaller steps grow and grow."""
    slopes, rounding = [abs(slope) for slope, _ in found], max((r for _, r in found), default=0.0)
    growth = [after - before for before, after in itertools.pairwise(slopes)]
    steady = all(after > 0.999 * before for before, after in itertools.pairwise(growth))
    if len(found) < 12 or not steady or min(growth) <= 4 * rounding:
        return None
    return Limit(math.copysign(math.inf, found[-1][0]), slopes[-1], 0.0)
