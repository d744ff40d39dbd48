"""Where the inputs of a rule may lie while its formula is one formula: a cell; and how cells are split."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import inf
from typing import Any

from ..check.deadline import TimeLimit

End = Any  # a Fraction, -inf or inf


class Undecided(Exception):  # it is no error
    """No proof was found; the message says what stands in the way."""


class Clock(TimeLimit):
    """The time that a proof may take. Every operation on a formula and every box asks it."""

    def __init__(self, seconds: float = inf):
        super().__init__(seconds)
        self.message: str = f"not examined: the budget of {seconds:g} s was used up"


@dataclass(frozen=True)
class Cell:
    """Open intervals, one for each input, or a single point where both ends are equal.

    `above` holds pairs (i, j): input i is larger than input j. `same` maps an input to the one that it equals.
    """

    ends: tuple[tuple[End, End], ...]
    above: frozenset[tuple[int, int]] = frozenset()
    same: tuple[tuple[int, int], ...] = ()
    notes: set[str] = field(default_factory=set, compare=False)  # what a proof on this cell leaves out
    clock: Clock = field(default_factory=Clock, compare=False)

    def is_point(self, i: int) -> bool:
        return bool(self.ends[i][0] == self.ends[i][1])

    @property
    def is_open(self) -> bool:
        """Has it as many dimensions as inputs?"""
        return not self.same and not any(map(self.is_point, range(len(self.ends))))

    def first(self, i: int) -> int:
        """The input that stands for all that equal input i."""
        same = dict(self.same)
        while i in same:
            i = same[i]
        return i

    def split(self, i: int, at: Fraction) -> Iterator["Cell"]:
        """The cell below, at and above a number in interval i."""
        low, high = self.ends[i]
        for part in ((low, at), (at, at), (at, high)):
            yield replace(self, ends=(*self.ends[:i], part, *self.ends[i + 1 :]))

    def ordered(self, i: int, j: int) -> Iterator["Cell"]:
        """The parts in which input i is larger than j, smaller, and the same."""
        for pair in ((i, j), (j, i)):
            above = self.above | {pair}
            while more := {(a, d) for a, b in above for c, d in above if b == c} - above:  # a > b > c
                above |= more
            yield replace(self, above=above)
        yield replace(self, same=(*self.same, (max(i, j), min(i, j))))

    def __str__(self) -> str:
        names = "x" if len(self.ends) == 1 else "xyzw" if len(self.ends) < 4 else ""
        called = [names[i] if names else f"x{i}" for i in range(len(self.ends))]
        texts = [t for name, ends in zip(called, self.ends, strict=True) if (t := _between(name, *ends))]
        texts += [f"{called[i]} > {called[j]}" for i, j in sorted(self.above)]
        texts += [f"{called[i]} = {called[j]}" for i, j in self.same]
        return ", ".join(texts) or f"every real {', '.join(called)}"


def _between(name: str, low: End, high: End) -> str:
    below, above = (f"{float(end):.10g}" for end in (low, high))
    if low == high:
        return f"{name} = {below}"
    if low > -inf and high < inf:
        return f"{below} < {name} < {above}"
    return f"{name} > {below}" if low > -inf else f"{name} < {above}" if high < inf else ""


class Split(Exception):  # it is no error
    """It asks for a split. The formula takes different branches in this cell: go on with these parts."""

    def __init__(self, cells: Iterator[Cell]):
        self.cells: list[Cell] = list(cells)
