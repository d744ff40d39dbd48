"""Joining: plans for several lengths as one, with the lengths as variables.

A number that is not the same in all is a + b * T + c * N, or a / (b + T). Positions become a formula: their array
is a sum of products of indices along the axes whose sizes change.
"""

import functools
import itertools
import math
import operator
from collections.abc import Sequence
from dataclasses import fields, replace
from fractions import Fraction
from itertools import chain
from math import isclose
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends.text import Positions, bare
from ..find.lowered import PARAMETER
from ..ir.routine import Access, Array, Axis, Expressions, Loop, Routine, Stmt
from ..ir.symbols import Symbol


class Different(Exception):
    """Two programs differ in more than a length."""


@functools.total_ordering
class Size:
    """slopes * names + shift, as 2 * T + N - 1. In a comparison, a length is larger than any number."""

    def __init__(self, slopes: tuple[Any, ...], shift: Any, names: tuple[str, ...]):
        self.slopes, self.shift, self.names = slopes, shift, names

    def _parts(self, x: Any) -> tuple[tuple[Any, ...], Any]:
        return (x.slopes, x.shift) if isinstance(x, Size) else ((0,) * len(self.slopes), x)

    def __add__(self, x: Any) -> Any:
        slopes, shift = self._parts(x)
        return _size(tuple(map(operator.add, self.slopes, slopes)), self.shift + shift, self.names)

    def __mul__(self, x: Any) -> Any:
        if isinstance(x, Size):
            raise Different  # T * T is no size of a recurrence
        return _size(tuple(slope * x for slope in self.slopes), self.shift * x, self.names)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, x: Any) -> Any:
        return self + -x

    def __rsub__(self, x: Any) -> Any:
        return -self + x

    def __eq__(self, x: object) -> bool:
        return (self.slopes, self.shift) == self._parts(x)

    def __lt__(self, x: Any) -> bool:
        return (self.slopes, self.shift) < self._parts(x)

    def __hash__(self) -> int:
        return hash((self.slopes, self.shift))

    def __str__(self) -> str:
        return _sum(self.slopes, self.shift, self.names)

    def __repr__(self) -> str:
        """As a part of a formula."""
        is_name = not self.shift and max(self.slopes) == sum(map(abs, self.slopes)) == 1
        return str(self) if is_name else f"({self!s})"

    def __format__(self, spec: str) -> str:
        return repr(self)


class Quotient(NamedTuple):
    """factor / below, where `below` is T + a number."""

    factor: float
    below: Any

    def __repr__(self) -> str:
        return f"({self.factor:.12g} / {self.below!r})"


def _size(slopes: tuple[Any, ...], shift: Any, names: tuple[str, ...]) -> Any:
    return Size(slopes, shift, names) if any(slopes) else shift


def _sum(slopes: Sequence[Any], shift: Any, names: Sequence[str]) -> str:
    """The sum of slope * name, and the shift, as 2 * T - 1 or (T - 2) // 2; what is subtracted comes last."""
    below = math.lcm(*(x.denominator for x in (*slopes, shift) if isinstance(x, Fraction)))
    terms = [*zip((below * slope for slope in slopes), names, strict=True), (below * shift, "")]
    text, terms = "", [term for term in terms if term[0]]
    for factor, name in sorted(terms, key=lambda term: term[0] < 0):
        number = f"{abs(float(factor)):.12g}"
        sign = (" - " if factor < 0 else " + ") if text else "-" * (factor < 0)
        text += sign + (name if name and abs(factor) == 1 else f"{number} * {name}" if name else number)
    return text if below == 1 else f"{f'({text})' if len(terms) > 1 else text} // {below}"


class Joined:
    """Joins plans, part by part. What is the same in all stays as it is in the first.

    sizes  for each length, that of the first plan, and that of the plan in which it differs
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], names: tuple[str, ...], book: Expressions):
        self.sizes, self.names, self.book = sizes, names, book
        self.steps: list[int] = [1] * len(sizes)  # 2 where only every other length is possible
        self._numbers: dict[Any, Any] = {}
        self._joined: dict[tuple[int, ...], Any] = {}
        self._others: dict[Any, Any] = {}  # axis or array -> those of the other plans
        self._axes: dict[Axis, Axis] = {}
        self._leaves: dict[Array, Array] = {}

    def join(self, x: Any, *others: Any) -> Any:
        """All as one. Raises Different if they differ in more than numbers a + b * T and a / (b + T)."""
        if all(y is x for y in others):
            return x
        if any(type(y) is not type(x) for y in others):
            raise Different
        match x:
            case bool() | str():
                pass
            case int() | float():
                return x if all(repr(y) == repr(x) for y in others) else self._number(x, *others)
            case dict():
                keys = self.join([*x], *map(list, others))
                values = ([*each.values()] for each in (x, *others))
                return dict(zip(keys, self.join(*values), strict=True))
            case tuple() | list() if all(len(y) == len(x) for y in others):
                parts = list(map(self.join, x, *others))
                if all(part is own for part, own in zip(parts, x, strict=True)):
                    return x
                return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
            case np.ndarray():
                return self._array(x, *others)
            case Axis() | Array() | Access() | Symbol() | Stmt() | Loop() | Routine():
                return self._object(x, *others)
        if any(y != x for y in others):
            raise Different
        return x

    def _array(self, *arrays: NDArray[Any]) -> Any:
        first = arrays[0]
        if all(x.shape == first.shape and np.array_equal(x, first, equal_nan=x.dtype.kind == "f") for x in arrays):
            return first
        if any(x.ndim != first.ndim for x in arrays):
            raise Different
        moving = [d for d in range(first.ndim) if any(x.shape[d] != first.shape[d] for x in arrays)]
        terms = []
        for factors in zip(*(_factors(x, moving) for x in arrays), strict=True):
            which, shape = factors[0][0], factors[0][1].shape
            numbers = [self.join(*each) for each in zip(*(x.ravel().tolist() for _, x in factors), strict=True)]
            lines = [
                f"np.arange({self.join(*(x.shape[d] for x in arrays))}){_index(d, first.ndim)}" for d in which
            ]
            if len(which) == 1 or any(numbers):
                rows = np.array([*numbers, None], object)[:-1].reshape(shape).tolist()
                factor = repr(numbers[0]) if moving and len(numbers) == 1 else f"np.array({rows})"
                is_one = lines and moving and numbers == [1]
                terms.append(" * ".join([*lines, *([] if is_one else [factor])]))
        return Positions(" + ".join(terms), self.join(*(x.shape for x in arrays)), first.dtype)

    def _object(self, x: Any, *others: Any) -> Any:
        key = (id(x), *map(id, others))
        if key not in self._joined:
            if isinstance(x, Axis | Array) and self._others.setdefault(x, others) != others:
                raise Different
            self._joined[key] = self._new(x, *others)
        return self._joined[key]

    def _new(self, x: Any, *others: Any) -> Any:
        if isinstance(x, Axis):
            if (size := self.join(x.size, *(y.size for y in others))) is x.size:
                return x
            self._axes[x] = axis = Axis(size)
            axis.number = x.number  # the order of axes
            return axis
        if isinstance(x, Symbol):
            args = self.join(*((y.op, *y.args) for y in (x, *others)))[1:]
            if all(now is own for now, own in zip(args, x.args, strict=True)):
                return x
            return self.book.special(x.op, args, (self._axes.get(axis, axis) for axis in x.axes))
        names = [field.name for field in fields(x) if field.name not in ("book", "leaves")]
        if isinstance(x, Array) and x.source == PARAMETER:
            names.remove("places")  # see VectorPiece
        before = {name: getattr(x, name) for name in names}
        after = {name: self.join(own, *(getattr(y, name) for y in others)) for name, own in before.items()}
        if isinstance(x, Routine):
            after["leaves"] = [self._leaves.get(leaf, leaf) for leaf in x.leaves]
        elif all(after[name] is before[name] for name in names):
            return x
        new = replace(x, **after)
        if isinstance(x, Array):
            self._leaves[x] = new
        return new

    def _number(self, *numbers: Any) -> Any:
        key = type(numbers[0]), numbers
        if key not in self._numbers:
            self._numbers[key] = self._new_number(*numbers)
        return self._numbers[key]

    def _new_number(self, x: Any, *others: Any) -> Any:
        slopes = [Fraction(y - x) / (n - m) for y, (m, n) in zip(others, self.sizes, strict=True)]
        shift = x - sum(slope * m for slope, (m, _) in zip(slopes, self.sizes, strict=True))
        if max(slope.denominator for slope in slopes) <= 1 + isinstance(x, int):
            self.steps = [max(step, slope.denominator) for step, slope in zip(self.steps, slopes, strict=True)]
            is_whole = all(slope.denominator == 1 for slope in slopes)
            return _size(
                tuple(map(int, slopes)) if is_whole else tuple(slopes),
                type(x)(shift) if is_whole else shift,
                self.names,
            )
        different = [i for i, y in enumerate(others) if y != x]
        y, (m, n) = others[different[0]], self.sizes[different[0]]
        shift = round((y * n - x * m) / (x - y))
        factor = float(f"{x * (m + shift):.12g}")
        is_near = abs(shift) <= max(m, n)  # with a large b, a / (b + T) fits any two numbers that are nearly equal
        pairs = ((m, x), (n, y))
        if (
            len(different) == 1
            and is_near
            and all(isclose(factor / (size + shift), z, rel_tol=1e-15) for size, z in pairs)
        ):
            only = tuple(int(i == different[0]) for i in range(len(others)))
            return Quotient(factor, Size(only, shift, self.names))
        raise Different


def _factors(array: NDArray[Any], moving: Sequence[int]) -> list[tuple[tuple[int, ...], NDArray[Any]]]:
    """An array as a sum of products of indices, each with its factors. Raises Different if it is none.

    The indices are those along the `moving` axes; the factors are arrays over the others.
    """
    products, total, grid = [], np.zeros_like(array), np.ogrid[tuple(map(slice, array.shape))]
    corner = array[tuple(slice(0, 2 if d in moving else None) for d in range(array.ndim))]
    for which in chain(*(itertools.combinations(moving, n) for n in range(len(moving) + 1))):
        factors = corner
        for d in moving:
            factors = np.diff(factors, axis=d) if d in which else factors.take([0], d)
        products.append((which, factors))
        total += factors * math.prod(grid[d] for d in which)
    if not np.array_equal(total, array):
        raise Different
    return products


def _index(d: int, n: int) -> str:
    """The index that makes a single axis the axis d of n."""
    return f"[{bare(':' if i == d else 'None' for i in range(n))}]" if n > 1 else ""
