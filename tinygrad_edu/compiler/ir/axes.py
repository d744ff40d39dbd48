"""Axes: the axes of one statement, from the arrays of integers that say what it reads.

Each axis is split into digits, until every index counts along each of them with a step of its own. The positions
0 3 1 4 2 5 are 3 * (i % 2) + i // 2: two digits. Then a read is an element A[..., i, j, ...], and what has no such
pattern is gathered.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..find.lowered import Read, Tensor
from ..find.views import Indices, dense_strides, digits_of_axes, number_systems
from .routine import Access, Array, Axis, Part, over
from .symbols import Symbol

Slot = Any  # an axis of an index, before it is split: a number for one of the result, a name for one of a sum


class Reads:
    """The axes of one statement. A slot is an axis of the result as it was lowered, or of a reduction.

    All indices are announced by `job`. The first `element` splits the slots; `axes` are then those of each slot.
    """

    def __init__(self, front: Any, shape: tuple[int, ...]):
        self.front: Any = front  # a Front
        self.shape: tuple[int, ...] = shape
        self.sizes: dict[Slot, int] = dict(enumerate(shape))
        self.jobs: list[tuple[Any, Any, Indices, tuple[Slot, ...]]] = []
        self._axes: dict[Slot, list[Axis]] | None = None
        self._whole = set[Slot]()

    def job(
        self,
        read: Read,
        shape: tuple[int, ...],
        slots: tuple[Slot, ...] | None = None,
        no_split: tuple[Slot, ...] = (),
    ) -> int:
        """Announce that these elements, in this shape, are read over these slots."""
        slots = tuple(range(len(self.shape))) if slots is None else slots
        array, row, index, has_t = self.front.resolved(read, shape)
        for slot, size in zip(slots, index.shape[has_t:], strict=True):
            self.sizes.setdefault(slot, size)
        self._whole |= {*no_split}
        self.jobs.append((array, row, index, ("t", *slots) if has_t else slots))
        return len(self.jobs) - 1

    def read(self, read: Read) -> Any:
        """The only read of a statement, an element for each of the result."""
        return self.element(self.job(read, self.shape))

    @property
    def axes(self) -> dict[Slot, list[Axis]]:
        """The axes into which each slot is split."""
        if self._axes is None:
            cuts = {slot: {size} for slot, size in self.sizes.items()}
            for array, row, index, slots in self.jobs:
                digits = digits_of_axes(index) if isinstance(array, Array) and index.size > 1 else None
                is_of_stages = digits and isinstance(row, int) and np.ptp(index // array.size)
                if digits and (is_of_stages or _is_placed(array, int(index.flat[0]), digits)):
                    self._cut(cuts, slots, digits)
            self._axes = {}
            for slot, own in cuts.items():
                bounds = [1, *sorted(cut for cut in own if cut > 1)]
                self._axes[slot] = [Axis(b // a) for a, b in itertools.pairwise(bounds)][::-1]
            if self.front.t is not None:
                self._axes["t"] = [self.front.t]
        return self._axes

    def _cut(
        self, cuts: dict[Slot, set[int]], slots: tuple[Slot, ...], per_slot: list[list[tuple[int, int]]]
    ) -> None:
        """Split slots further, so that an index counts evenly along each part; not if the parts do not nest."""
        new = {}
        for slot, digits in zip(slots, per_slot, strict=True):
            if slot == "t" or slot in self._whole:
                if len(digits) > 1:
                    return
                continue
            inner, more = 1, set(cuts[slot])
            for size, _ in reversed(digits):
                inner *= size
                more.add(inner)
            both = sorted(more)
            if any(b % a for a, b in itertools.pairwise(both)):
                return
            new[slot] = more
        cuts.update(new)

    def out_axes(self) -> list[Axis]:
        """The axes of the result."""
        return [axis for slot in range(len(self.shape)) for axis in self.axes[slot]]

    # --- Elements ----------------------------------------------------------------------------------------------

    def element(self, number: int) -> Any:
        """What a job reads, as an expression."""
        array, row, index, slots = self.jobs[number]
        axes = [axis for slot in slots for axis in self.axes[slot]]
        index, axes = varying(index.reshape([axis.size for axis in axes]), axes)
        if isinstance(array, Tensor):
            return self._constant(array, index, axes)
        if isinstance(row, int):  # the stages after this one are among the positions
            split = self._by_stage(array, row, index, axes)
            if split is None:
                array, row, index = self.front.copied(array), None, index + row * array.size
            else:
                row, index, axes = split
        return self.front.book.get(access_of(array, row, index, axes))

    def _constant(self, old: Tensor, index: Indices, axes: list[Axis]) -> Any:
        numbers = old.places[index]
        for d in reversed(range(numbers.ndim)):
            if (numbers == numbers.take([0], d)).all():
                numbers, axes = numbers.take(0, d), [*axes[:d], *axes[d + 1 :]]
        if numbers.ndim == 0:
            return float(numbers)
        return self.front.book.get(over(self.front.constant(numbers, old.name), axes))

    @staticmethod
    def _by_stage(array: Array, first: int, index: Indices, axes: list[Axis]) -> Any:
        """The row and the positions in it, if one axis goes through the stages, or none."""
        rows: Any = index // array.size
        index = index - rows * array.size
        varies = [d for d in range(rows.ndim) if (rows != rows.take([0], d)).any()]
        if len(varies) > 1:
            return None
        axis, step, start = None, 1, int(rows.flat[0])
        if varies:
            (d,) = varies
            line = rows[tuple(slice(None) if other == d else 0 for other in range(rows.ndim))]
            step = int(line[1] - line[0])
            if (np.diff(line) != step).any() or (index != index.take([0], d)).any():
                return None
            axis = axes[d]
            index, axes = np.take(index, 0, d), [*axes[:d], *axes[d + 1 :]]
        return (first + start, axis, step), index, axes

    # --- Sums --------------------------------------------------------------------------------------------------

    def summed(self, factors: Sequence[Read]) -> Any:
        """A function that gives the sum of the products of these elements."""
        slots = (*range(len(self.shape)), k := f"k{len(self.jobs)}")
        jobs = [self.job(read, (*self.shape, -1), slots) for read in factors]
        return lambda: self._sum(jobs, k)

    def _sum(self, jobs: list[int], k: Slot) -> Any:
        body = self.element(jobs[0])
        for job in jobs[1:]:
            body = body * self.element(job)
        over = self.axes[k]
        if not isinstance(body, Symbol):
            return body * math.prod(axis.size for axis in over)
        return self.front.book.reduce("sum", over, body)


def varying(index: Indices, axes: list[Axis]) -> tuple[Indices, list[Axis]]:
    """Positions along those of their axes along which they differ."""
    dims = [d for d in range(index.ndim) if (index.take([0], d) != index).any()] if index.size > 1 else []
    return index[tuple(slice(None) if d in dims else 0 for d in range(index.ndim))], [axes[d] for d in dims]


def _is_placed(array: Array, base: int, per_axis: list[list[tuple[int, int]]]) -> bool:
    """Has each digit a dimension of its own? Windows that overlap have not."""
    base, dims = base % array.size, array.dims
    digits = [digit for own in per_axis for digit in own if digit[1]]
    steps, axes = [step for _, step in digits], [Axis(size) for size, _ in digits]
    systems = number_systems(dims, math.prod(dims), steps) if steps else [dims]
    return any(_placed(base, system, steps, axes) is not None for system in systems)


def access_of(array: Array, row: Part | None, index: Indices, axes: list[Axis]) -> Access:
    """The access to elements at these positions of a row, over these axes."""
    digits = digits_of_axes(index)
    if digits is not None and all(len(own) <= 1 for own in digits):
        base, steps = int(index.flat[0]), [own[0][1] for own in digits if own]
        longer, ones = ([axis for axis, own in zip(axes, digits, strict=True) if bool(own) == x] for x in (1, 0))
        for dims in number_systems(array.dims, array.size, steps) if steps else [array.dims]:
            if (at := _placed(base, dims, steps, longer)) is not None:
                return Access(array, row, (*dims, *(1 for _ in ones)), (*at, *((0, axis, 1) for axis in ones)))
    return Access(array, row, array.dims, (), index, tuple(axes))


def _placed(base: int, dims: Sequence[int], steps: list[int], axes: list[Axis]) -> tuple[Part, ...] | None:
    """What to take along each dimension; None unless each axis has a dimension of its own."""
    at: list[Part] = []
    left = list(range(len(steps)))
    for size, stride in zip(dims, dense_strides(dims), strict=True):
        first = base // stride % size
        own = [d for d in left if stride <= abs(steps[d]) < stride * size]
        if not own:
            at.append((first, None, 1))
            continue
        d = own[0]
        left.remove(d)
        by = steps[d] // stride
        if len(own) > 1 or steps[d] % stride or not 0 <= first + by * (axes[d].size - 1) < size:
            return None
        at.append((first, axes[d], by))
    return None if left else tuple(at)
