"""Views: how to reach elements of an array, given their positions.

An array of integers says which elements of another array are read. Positions that follow a pattern need no copy:
NumPy has slices, reshapes, transposes, and axes that repeat. Elements at other positions are gathered.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class View:
    """Elements of an array of shape `source`, as an array of shape `shape`, which is 1 where an axis repeats.

    The array is reshaped, sliced, transposed, and given new axes. A step that changes nothing is None. `gather`
    are the positions in the flat array, where they follow no pattern. A view is `whole` if it has every element
    once.
    """

    source: tuple[int, ...]
    shape: tuple[int, ...]
    reshape: tuple[int, ...] | None = None
    slices: tuple[slice | int, ...] | None = None
    transpose: tuple[int, ...] | None = None
    expand: tuple[bool, ...] | None = None  # True for each axis that is kept, False for one that is new
    gather: Indices | None = None

    @property
    def is_identity(self) -> bool:
        steps = (self.reshape, self.slices, self.transpose, self.expand, self.gather)
        return all(step is None for step in steps)

    def undoes(self, other: "View") -> bool:
        """Does writing to this view put all elements back that `other` has read?"""
        steps = (self.source, self.shape, self.reshape, self.slices, self.transpose, self.expand)
        others = (other.source, other.shape, other.reshape, other.slices, other.transpose, other.expand)
        return self.whole and other.whole and steps == others

    @property
    def whole(self) -> bool:
        return self.gather is None and math.prod(self.shape) == math.prod(self.source)

    def text(self, name: str, batched: bool, constant: Any, to_write: bool = False) -> str:
        """NumPy source for the view of the array `name`; constant(array) gives the name of an array of integers.

        A single element is read as a number. With to_write it is an array without axes.
        """
        lead = ":, " if batched else ""
        if self.gather is not None:
            name = _reshaped(name, self.source, (math.prod(self.source),), batched)
            return f"{name}[{lead}{constant(self.gather)}]"
        shape = self.source
        if self.reshape is not None:
            name, shape = _reshaped(name, shape, self.reshape, batched), self.reshape
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
        if self.expand is not None:
            name += f"[{lead}{', '.join(':' if kept else 'None' for kept in self.expand)}]"
        return name


def _reshaped(name: str, source: tuple[int, ...], shape: tuple[int, ...], batched: bool) -> str:
    if source == shape:
        return name
    return f"{name}.reshape({', '.join(map(str, ('B', *shape) if batched else shape))})"


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
    affine = _affine(core, n)
    if affine is None:
        return View(source, shape, gather=core.reshape(shape))
    reshape, slices, transpose = affine
    return View(source, shape, reshape if reshape != source else None, slices, transpose, expand)


def _flat(source: tuple[int, ...]) -> tuple[int, ...] | None:
    return None if len(source) == 1 else (math.prod(source),)


def _affine(core: Indices, n: int) -> Any:
    """(reshape, slices, transpose) that give core = base + i*s + j*t + ..., or None if it is not of that form."""
    base = int(core.flat[0])
    strides = [int(core.take(1, axis).flat[0]) - base for axis in range(core.ndim)]
    if 0 in strides or not (core == _grid(base, core.shape, strides)).all():
        return None
    if core.ndim == 1:
        (stride,), size = strides, core.shape[0]
        stop: int | None = base + stride * (size - 1) + (1 if stride > 0 else -1)
        if stop is not None and (stop < 0 or (stop >= n and stride > 0)):
            stop = None
        return (n,), (slice(base, stop, stride),), None
    order = sorted(range(core.ndim), key=lambda axis: -strides[axis])
    sizes, steps = [core.shape[axis] for axis in order], [strides[axis] for axis in order]
    if steps[-1] < 0 or n % steps[0] or any(a % b for a, b in itertools.pairwise(steps)):
        return None
    dims = [n // steps[0], *(a // b for a, b in itertools.pairwise(steps))]
    starts, rest = [], base
    for step in steps:
        starts.append(rest // step)
        rest %= step
    if any(start + size > dim for start, size, dim in zip(starts, sizes, dims, strict=True)):
        return None
    slices: list[slice | int] = [
        slice(start, None if start + size == dim else start + size)
        for start, size, dim in zip(starts, sizes, dims, strict=True)
    ]
    if steps[-1] > 1:  # one place of a last axis
        dims, slices = [*dims, steps[-1]], [*slices, rest]
    everything = all(part == slice(0, None) for part in slices)
    transpose = tuple(order.index(axis) for axis in range(core.ndim))
    return (
        tuple(dims),
        None if everything else tuple(slices),
        None if transpose == tuple(range(core.ndim)) else transpose,
    )


def dense_strides(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array of this shape that is stored row by row, without gaps."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def strides_of(places: Indices) -> tuple[int, ...] | None:
    """The strides of an array with these places in a vector, None if they are not regular."""
    base = int(places.flat[0])
    strides = tuple(
        int(places.take(1, axis).flat[0]) - base if size > 1 else 1 for axis, size in enumerate(places.shape)
    )
    in_steps = min(strides, default=1) > 0 and (places == _grid(base, places.shape, strides)).all()
    return strides if in_steps else None


def _grid(base: int, sizes: Sequence[int], strides: Sequence[int]) -> Indices:
    """base + i * strides[0] + j * strides[1] + ..."""
    grid = np.full((1,) * len(sizes), base, dtype=np.intp)
    for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True)):
        steps = np.arange(size) * stride
        grid = grid + steps.reshape([-1 if other == axis else 1 for other in range(len(sizes))])
    return grid
