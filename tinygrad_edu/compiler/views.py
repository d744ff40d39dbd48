"""Views: how to reach elements of an array, given their positions.

An array of integers says which elements of another array are read. Positions that follow a pattern need no copy:
NumPy has slices, reshapes, transposes, and axes that repeat. Elements at other positions are gathered.

A pattern is a number system. Each axis of the index is split into digits, which count with a step of their own:
the positions 0 3 1 4 2 5 are 3 * (i % 2) + i // 2, two digits with the steps 1 and 3. Sorted by their steps, the
digits are the axes of the array, after a reshape.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class View:
    """Elements of an array of shape `source`, as an array of shape `shape`, which is 1 where an axis repeats.

    The array is reshaped, sliced, transposed, reshaped again so that digits become axes, and given new axes. A
    step that changes nothing is None. `gather` are the positions in the flat array, where they follow no pattern.
    A view is `whole` if it has every element once.
    """

    source: tuple[int, ...]
    shape: tuple[int, ...]
    reshape: tuple[int, ...] | None = None
    slices: tuple[slice | int, ...] | None = None
    transpose: tuple[int, ...] | None = None
    digits: tuple[int, ...] | None = None  # the shape before the second reshape, if there is one
    expand: tuple[bool, ...] | None = None  # True for each axis that is kept, False for one that is new
    gather: Indices | None = None

    @property
    def is_identity(self) -> bool:
        return self.gather is None and all(step is None for step in self._steps)

    @property
    def is_in_order(self) -> bool:
        """Do its elements stand in the order of the array?"""
        return self.gather is None and self.transpose is None and self.slices is None

    @property
    def _steps(self) -> tuple[Any, ...]:
        return self.reshape, self.slices, self.transpose, self.digits, self.expand

    def undoes(self, other: "View") -> bool:
        """Does writing to this view put all elements back that `other` has read?"""
        alike = (self.source, self.shape, self._steps) == (other.source, other.shape, other._steps)
        return self.whole and other.whole and alike

    @property
    def whole(self) -> bool:
        return self.gather is None and math.prod(self.shape) == math.prod(self.source)

    def positions(self) -> Indices:
        """The positions of the elements in the flat array, in the shape of the view."""
        places = np.arange(math.prod(self.source))
        if self.gather is not None:
            return self.gather
        places = places.reshape(self.source if self.reshape is None else self.reshape)[self.slices or ()]
        return places.transpose(self.transpose or range(places.ndim)).reshape(self.shape)

    def inverse(self) -> "View":
        """The view of an array of this shape that puts the elements of a whole view back."""
        places = np.argsort(self.positions().ravel()).reshape(self.source)
        return view_of(places, self.shape, repeats=False)

    def text(self, name: str, batched: bool, constant: Any, to_write: bool = False) -> str:
        """NumPy source for the view of the array `name`; constant(array) gives the name of an array of integers.

        A single element is read as a number. With to_write it is an array without axes, and digits stay axes: a
        value of the shape `digits` is written.
        """
        lead = ":, " if batched else ""
        if self.gather is not None:
            name = reshaped(name, self.source, (math.prod(self.source),), batched)
            return f"{name}[{lead}{constant(self.gather)}]"
        shape = self.source
        if self.reshape is not None:
            name, shape = reshaped(name, shape, self.reshape, batched), self.reshape
        if self.slices is not None:
            is_element = not batched and all(isinstance(part, int) for part in self.slices)
            name = f"{name}[{lead}{', '.join(map(_slice_text, self.slices))}{', ...' * (to_write and is_element)}]"
        if self.transpose is not None:
            if not batched and self.transpose == (1, 0):
                name = name.removesuffix(".T") if name.endswith(".T") else f"{name}.T"
            elif self.transpose == (1, 0):
                name += ".transpose(0, 2, 1)"
            else:
                axes = [0, *(axis + 1 for axis in self.transpose)] if batched else self.transpose
                name += f".transpose({', '.join(map(str, axes))})"
        if self.digits is not None:
            return name if to_write else reshaped(name, self.digits, self.shape, batched)
        if self.expand is not None:
            name += f"[{lead}{', '.join(':' if kept else 'None' for kept in self.expand)}]"
        return name


def reshaped(name: str, source: tuple[int, ...], shape: tuple[int, ...], batched: bool) -> str:
    """The text of an array of shape `source` in another shape."""
    if source == shape:
        return name
    return f"{name}.reshape({', '.join(map(str, ('B', *shape) if batched else shape)) or '()'})"


def _slice_text(part: slice | int) -> str:
    if isinstance(part, int):
        return str(part)
    start, stop, step = part.start, part.stop, part.step
    ends = f"{'' if start in (0, None) and (step or 1) > 0 else start}:{'' if stop is None else stop}"
    return ends if step in (None, 1) else f"{ends}:{step}"


def view_of(index: Indices, source: tuple[int, ...], repeats: bool = True) -> View:
    """The view that reaches the elements at the positions `index` of a (flattened) array of shape `source`.

    With repeats=False every axis has its full length, also where its elements repeat.
    """
    n = math.prod(source)
    kept = [
        axis
        for axis in range(index.ndim)
        if index.shape[axis] > 1 and not (repeats and (index == index.take([0], axis)).all())
    ]
    core = index[tuple(slice(None) if axis in kept else 0 for axis in range(index.ndim))]
    shape = tuple(size if axis in kept else 1 for axis, size in enumerate(index.shape))
    expand = None if len(kept) == index.ndim else tuple(axis in kept for axis in range(index.ndim))
    if core.size == n and (core.ravel() == np.arange(n)).all():
        return View(source, shape, reshape=None if shape == source else shape)
    if core.ndim == 0:
        return View(source, shape, _flat(source), (int(core),), expand=expand)
    digits = digits_of(core)
    if digits is None:
        return View(source, shape, gather=core.reshape(shape))
    base, sizes, steps = int(core.flat[0]), [size for size, _ in digits], [step for _, step in digits]
    for dims in _number_systems(source, n, steps):
        slices = _slices(base, sizes, steps, dims)
        if slices is not None:
            break
    else:
        return View(source, shape, gather=core.reshape(shape))
    order = sorted(range(len(steps)), key=lambda digit: -abs(steps[digit]))
    transpose = tuple(order.index(digit) for digit in range(len(steps)))
    is_joined = len(steps) > core.ndim
    return View(
        source,
        shape,
        None if dims == source else dims,
        None if all(part == slice(0, None) for part in slices) else slices,
        None if transpose == tuple(range(len(steps))) else transpose,
        tuple(sizes) if is_joined else None,
        None if is_joined else expand,
    )


def _flat(source: tuple[int, ...]) -> tuple[int, ...] | None:
    return None if len(source) == 1 else (math.prod(source),)


def digits_of(index: Indices) -> list[tuple[int, int]] | None:
    """The digits (size, step) of every axis, one axis after the other; None if there is no such pattern."""
    digits: list[tuple[int, int]] = []
    total: Any = index.flat[0]
    for axis in range(index.ndim):
        offsets = index[tuple(slice(None) if other == axis else 0 for other in range(index.ndim))] - index.flat[0]
        total = np.add.outer(total, offsets)
        own: list[tuple[int, int]] = []
        while (size := len(offsets)) > 1:
            step = int(offsets[1])
            breaks = np.flatnonzero(np.diff(offsets) != step)
            run = int(breaks[0]) + 1 if len(breaks) else size
            if step == 0 or size % run or (offsets.reshape(-1, run) - offsets[::run, None] != offsets[:run]).any():
                return None
            own.insert(0, (run, step))
            offsets = offsets[::run]
        digits += own
    return digits if np.array_equal(total, index) else None


def _number_systems(source: tuple[int, ...], n: int, steps: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Shapes of an array of n elements in which digits with these steps may be axes, the plainest first."""
    yield source
    sizes = sorted((abs(step) for step in steps), reverse=True)
    dims = [n // sizes[0], *(a // b for a, b in itertools.pairwise(sizes)), sizes[-1]]
    dims = dims[:-1] if sizes[-1] == 1 else dims
    if math.prod(dims) == n:
        yield tuple(dims)
    yield (n,)


def _slices(
    base: int, sizes: Sequence[int], steps: Sequence[int], dims: tuple[int, ...]
) -> tuple[slice | int, ...] | None:
    """What to take along each axis of an array of shape `dims`; None unless each digit has an axis of its own."""
    slices: list[slice | int] = []
    digits = dict(enumerate(zip(sizes, steps, strict=True)))
    for size, stride in zip(dims, dense_strides(dims), strict=True):
        first = base // stride % size
        own = [digit for digit, (_, step) in digits.items() if stride <= abs(step) < stride * size]
        if not own:
            slices.append(first)
            continue
        count, step = digits.pop(own[0])
        last = first + step // stride * (count - 1)
        if len(own) > 1 or step % stride or not 0 <= last < size:
            return None
        by = step // stride
        end: int | None = last + (1 if by > 0 else -1)
        if (by > 0 and end == size) or end == -1:
            end = None
        slices.append(slice(first, end, None if by == 1 else by))
    return None if digits else tuple(slices)


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array of this shape that is stored row by row, without gaps."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def strides_of(places: Indices) -> tuple[int, ...] | None:
    """The strides of an array with these places in a vector, None if they are not regular."""
    digits = digits_of(places)
    if (
        digits is None
        or len(digits) != sum(size > 1 for size in places.shape)
        or min((step for _, step in digits), default=1) < 0
    ):
        return None
    steps = iter(digits)
    return tuple(next(steps)[1] if size > 1 else 1 for size in places.shape)
