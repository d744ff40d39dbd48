"""Loops: stages that repeat become `for t in range(T)`, forward and backward.

A recurrence is traced stage by stage: h1 = f(h0, x0), h2 = f(h1, x1) ... Each stage gives the same arrays again, in
the same order. `roll` looks for them. The arrays of two stages are alike if they have one rule and one shape, and if
everything that they read is

    1. an array that lies equally far back: another array of the stage, or one of an earlier stage, with the same
       index; or
    2. the same array outside of the loop. An index that is not the same at every stage is a window: x[t].

The gradient of a loop is the reversed loop: it passes gradients from stage to stage. What the stages read from
outside gets its gradient after the loop, from all stages together. The gradient of a weight is then one product.

    forward                                        backward
    for t in range(T):                             for t in reversed(range(T)):
        h[t + 1] = tanh(X[t] @ W.T + h[t] @ U.T)       dZ[t] = dh[t + 1] * (1 - h[t + 1] ** 2)
                                                       dh[t] = dZ[t] @ U
                                                   dU = dZ.T @ h[:-1]   for all stages and examples at once
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .differentiate import LOGSUMEXP, ArrayProgram, Definition, ScaledShare
from .lower import (
    REDUCTIONS,
    Array,
    Elementwise,
    Lowered,
    Paired,
    Product,
    Read,
    Reduction,
    Softmax,
    Take,
    Terms,
    Total,
    is_matrix_product,
    product_shape,
    product_size,
    reads_of,
)
from .symbols import Symbol
from .tracing import TAKE
from .views import Indices

FEWEST = 4  # stages of a loop
LONGEST = 400  # arrays of a stage
READS = 24  # arrays that read more are in no loop
OUTSIDE = 10**9  # between the numbers of leaves: no difference of two is a period


@dataclass(eq=False)
class Loop:
    """The operation of an array that stands for a whole loop, `for t in range(length)`.

    stage    the arrays of one stage, in order. Their operations read each other, arrays outside of the loop that are
             the same at every stage, and the leaves below
    earlier  leaf -> (place, distance): the array stage[place] of `distance` stages before
    windows  leaf -> (array, index): elements of an array outside, index[t] at stage t. index is (length, *shape)
    initial  for each place, what stands for the array in the stages before the first one; the last of them is last
    ahead    arrays that are computed before the loop, for all stages at once
    """

    length: int
    stage: list[Array]
    earlier: dict[Array, tuple[int, int]] = field(default_factory=dict)
    windows: dict[Array, tuple[Array, Indices]] = field(default_factory=dict)
    initial: list[list[Read]] = field(default_factory=list)
    ahead: list[Array] = field(default_factory=list)
    wholes: dict[Array, Array] = field(default_factory=dict)

    def whole(self, array: Array) -> Array:
        """A leaf for an array of the stage, or a leaf of it, at all stages: (length, *shape). Others as they are."""
        if array not in self.wholes and (array in self.stage or array in self.earlier or array in self.windows):
            shape, size = (self.length, *array.shape), self.length * array.size
            leaf = dataclasses.replace(array, rule=None, source=("stack",), size=size, shape=shape)
            leaf.operation, leaf.differentiable, self.wholes[array] = None, False, leaf
        return self.wholes.get(array, array)

    def move(self, moved: Callable[[Read], Read]) -> None:
        """Change what is read outside of the loop."""
        for array in self.stage:
            array.operation = _with_reads(array.operation, moved)
        windows = {leaf: moved(Read(*window)) for leaf, window in self.windows.items()}
        self.windows = {leaf: (read.array, read.index) for leaf, read in windows.items()}
        self.initial = [list(map(moved, reads)) for reads in self.initial]

    def reads_outside(self, operation: Any) -> list[Read]:
        """What an operation of the stage reads outside of the loop: at every stage, or at all stages together."""
        inside = {*self.stage, *self.earlier}
        return [self.original(read) for read in reads_of(operation) if read.array not in inside]

    def original(self, read: Read) -> Read:
        """A read of a window as a read of the array outside, at all stages. Any other read as it is."""
        if read.array not in self.windows:
            return read
        array, index = self.windows[read.array]
        return Read(array, index.reshape(self.length, -1)[:, read.index])


@dataclass(frozen=True, eq=False)
class Result:
    """What is read of a loop: the array stage[place] of one stage, or of all, stacked, if `t` is None."""

    loop: Loop
    place: int
    t: int | None


def every_array(lowered: Lowered) -> Iterator[Array]:
    """The arrays of a program, those of the stages of its loops among them."""
    for array in lowered.arrays:
        yield array
        if isinstance(array.operation, Loop):
            yield from array.operation.stage


# --- What operations read -------------------------------------------------------------------------------------


def _slots(operation: Any) -> list[Read]:
    """All that an operation reads, in the order of its fields."""
    found: list[Read] = []
    _with_reads(operation, lambda read: found.append(read) or read)
    return found


def _all_reads(operation: Any) -> list[Read]:
    """All that an operation reads, or a loop."""
    if not isinstance(operation, Loop):
        return reads_of(operation)
    stage = [read for array in operation.stage for read in reads_of(array.operation)]
    windows = [Read(*window) for window in operation.windows.values()]
    return [*stage, *windows, *itertools.chain(*operation.initial)]


def _with_reads(x: Any, new: Callable[[Read], Any]) -> Any:
    """An operation, or a part of one, with new(read) in place of every read."""
    match x:
        case Read():
            return new(x)
        case list():
            return [_with_reads(part, new) for part in x]
        case Elementwise() | Reduction() | Softmax() | Take() | Total() | Product() | Paired() | Terms():
            return type(x)(*[_with_reads(getattr(x, name), new) for name in x.__dataclass_fields__])
    return x


def _structure(x: Any) -> Any:
    """All that tells two operations apart, besides what they read."""
    match x:
        case Read():
            return x.index.shape
        case list():
            return tuple(map(_structure, x))
        case Elementwise() | Reduction() | Softmax() | Take() | Total() | Product() | Paired() | Terms():
            return type(x), *[_structure(getattr(x, name)) for name in x.__dataclass_fields__]
        case np.ndarray():
            return x.shape, x.tobytes()
    return x


# --- Finding --------------------------------------------------------------------------------------------------


def roll(lowered: Lowered, skip: int = 0) -> Lowered:
    """The program with its repeating stages as loops, each after `skip` more stages than it needs before it."""
    while (rolled := _Finder(lowered).rolled(skip)) is not None:
        lowered = rolled
    return lowered


class _Finder:
    """Looks for the longest run of stages.

    computed  the arrays that are no leaves, in order
    kinds     array number i does what array number j does if kinds[i] == kinds[j]
    where     what they read, one per column: the number of a computed array, negative for a leaf
    content   equal for equal indices
    """

    def __init__(self, lowered: Lowered):
        self.lowered = lowered
        self.computed = [array for array in lowered.arrays if array.operation is not None]
        leaves = [array for array in lowered.arrays if array.operation is None]
        numbers = {array: -(i + 1) * OUTSIDE for i, array in enumerate(leaves)}
        numbers |= {array: i for i, array in enumerate(self.computed)}
        self.reads = [_slots(array.operation) for array in self.computed]
        most = min(READS, max(map(len, self.reads), default=0))
        self.where, self.content = np.zeros((2, len(self.computed), most), dtype=np.int64)
        kinds: dict[Any, int] = {}
        contents: dict[bytes, int] = {}
        self.kinds = np.empty(len(self.computed), dtype=np.intp)
        for i, (array, reads) in enumerate(zip(self.computed, self.reads, strict=True)):
            own = (array.rule, array.shape, array.batched, array.differentiable, _structure(array.operation))
            self.kinds[i] = kinds.setdefault(own if len(reads) <= READS else array, len(kinds))
            for slot, read in enumerate(reads[:READS]):
                self.where[i, slot] = numbers[read.array]
                self.content[i, slot] = contents.setdefault(read.index.tobytes(), len(contents))

    def rolled(self, skip: int) -> Lowered | None:
        """The program with its longest loop, None if it has none."""
        for start, end, period in sorted(self._runs(), key=lambda run: (run[0] - run[1], run[2])):
            fitted = self._fitted(start, end, period)
            if fitted is None:
                continue
            start, length = fitted
            given = self._given(start, period)
            if given is not None:
                start, length = start - period, length + 1
            if skip:
                start, length, given = start + skip * period, length - skip, None
            loop = self._loop(start, length, period, given)
            if loop is not None:
                return self._replaced(loop, start)
        return None

    def _runs(self) -> list[tuple[int, int, int]]:
        """(start, end, period) of runs of stages that do the same, and read what a loop can read."""
        found, best = [], 0
        for period in range(1, min(LONGEST, len(self.kinds) // FEWEST) + 1):
            alike = self.kinds[period:] == self.kinds[:-period]
            longest = max((end - start + period for start, end in _true(alike)), default=0)
            if longest < FEWEST * period or longest <= best:
                continue
            steps = self.where[period:] - self.where[:-period]
            back = (steps == period) & (self.content[period:] == self.content[:-period])
            alike &= (back | (steps == 0)).all(axis=1)
            changes = np.zeros_like(alike)
            changes[:-period] = (back[period:] != back[:-period]).any(axis=1)
            for start, end in _true(alike):
                cuts = start + np.flatnonzero(changes[start : max(start, end - period)])
                firsts, lasts = [start, *(cuts + 1)], [*(cuts + period), end]
                for first, last in zip(firsts, lasts, strict=True):
                    if last - first + period >= FEWEST * period:
                        found.append((int(first), int(last + period), period))
                        best = max(best, last - first + period)
        return found

    def _fitted(self, start: int, end: int, period: int) -> tuple[int, int] | None:
        """The first array of the loop and the number of its stages, None if there are too few.

        A stage may begin with any of its arrays: with the one for which fewest arrays are carried from stage to
        stage. The stages before the first one must be there.
        """
        where, back = self._reads_of_a_stage(start, period)
        start = max(start, int(where[~back].max(initial=-1)) + 1)  # what lies outside lies before
        where, back = self._reads_of_a_stage(start, period)
        if end - start < FEWEST * period:
            return None
        places = np.arange(period)[:, None]
        distances = places + start - where
        best: Any = None
        for first in range(period):
            stages_back = -(((places - first) % period - distances) // period)
            is_carried = back & (stages_back > 0)
            key = (
                len(np.unique(((places - distances) % period)[is_carried])),
                -int((~back[first] & (where[first] != 0)).sum()),
            )
            if best is None or key < best[0]:
                best = key, first, int(stages_back[is_carried].max(initial=0))
        start, most = start + best[1], best[2]
        length = (end - start) // period
        carried = self._carried(start, period)
        while length >= max(FEWEST, 2 * most):
            before = [
                (start + place - k * period, start + place)
                for place, last in carried.items()
                for k in range(1, last + 1)
            ]
            if all(i >= 0 and self.computed[i].shape == self.computed[j].shape for i, j in before):
                return start, length
            start, length = start + period, length - 1
        return None

    def _reads_of_a_stage(self, start: int, period: int) -> tuple[Any, Any]:
        """Where the arrays of the stage at `start` read, and whether this moves from stage to stage."""
        where = self.where[start : start + period]
        return where, self.where[start + period : start + 2 * period] - where == period

    def _carried(self, start: int, period: int) -> dict[int, int]:
        """place -> the largest distance, in stages, at which it is read by a later stage."""
        where, back = self._reads_of_a_stage(start, period)
        carried: dict[int, int] = {}
        for target in (where[back] - start).tolist():
            if target < 0:
                place, distance = target % period, -(target // period)
                carried[place] = max(carried.get(place, 0), distance)
        return carried

    def _given(self, start: int, period: int) -> dict[int, Read] | None:
        """place -> what the stage before `start` reads where later ones read the stage before them, as h0 = [0, 0].

        None if that stage does something else. Then it stays in front of the loop.
        """
        first = start - period
        if first < 0 or (self.kinds[first:start] != self.kinds[start : start + period]).any():
            return None
        where, back = self._reads_of_a_stage(start, period)
        given: dict[int, tuple[Array, Indices]] = {}
        for i, slot in np.argwhere((where != self.where[first:start]) | back).tolist():
            own, read = self.reads[start + i][slot], self.reads[first + i][slot]
            target = int(where[i, slot]) - start
            if not back[i, slot] or target < -period:
                return None
            if target >= 0:
                is_alike = self.where[first + i, slot] == target + first
                if not is_alike or self.content[first + i, slot] != self.content[start + i, slot]:
                    return None
                continue
            if self.where[first + i, slot] >= first:
                return None
            array, index = given.setdefault(target % period, (read.array, np.full(own.array.size, -1)))
            is_known = index[own.index] >= 0
            if array is not read.array or (is_known & (index[own.index] != read.index)).any():
                return None
            index[own.index] = read.index
        return {place: Read(array, np.maximum(index, 0)) for place, (array, index) in given.items()}

    # --- Rolling ------------------------------------------------------------------------------------------------

    def _loop(self, start: int, length: int, period: int, given: dict[int, Read] | None) -> Loop | None:
        """The loop of these stages, None if its gradient cannot be taken after it."""
        typical = start + period * (given is not None)  # a stage that reads the one before
        where, back = self._reads_of_a_stage(typical, period)
        carried = self._carried(typical, period)
        loop = Loop(length, [dataclasses.replace(array) for array in self.computed[typical : typical + period]])
        for place, array in enumerate(loop.stage):
            stages = range(carried.get(place, 0), 0, -1)
            before = [self.computed[start + place - k * period] for k in stages] if given is None else []
            loop.initial.append([Read(other, np.arange(other.size)) for other in before])
            if given is not None and stages:
                loop.initial[-1] = [given[place]]
        leaves: dict[Any, Array] = {}
        for place, array in enumerate(loop.stage):
            slots = iter(range(READS))

            def moved(read: Read, place: int = place, array: Array = array, slots: Any = slots) -> Read:
                slot = next(slots)
                if back[place, slot]:
                    target = int(where[place, slot]) - typical
                    if target >= 0:
                        return Read(loop.stage[target], read.index)
                    key = target % period, -(target // period)
                    if key not in leaves:
                        before = loop.stage[key[0]]
                        leaves[key] = dataclasses.replace(before, rule=None, source=("earlier",), operation=None)
                        loop.earlier[leaves[key]] = key
                    return Read(leaves[key], read.index)
                contents = self.content[start + place : start + place + length * period : period, slot]
                if (contents == contents[0]).all():
                    return read
                index = np.array([self.reads[start + place + t * period][slot].index for t in range(length)])
                return _window(loop, leaves, read, index, array)

            array.operation = _with_reads(array.operation, moved)
        try:
            for array in loop.stage:
                _move_ahead(loop, array)
                _lifted(loop, array)
        except _Refused:
            return None
        read = {read.array for array in loop.stage for read in reads_of(array.operation)}
        loop.windows = {leaf: window for leaf, window in loop.windows.items() if leaf in read}
        return loop

    def _replaced(self, loop: Loop, start: int) -> Lowered:
        """The program with this loop in place of its stages. What comes after reads the results of the loop."""
        period, arrays = len(loop.stage), self.lowered.arrays
        run = self.computed[start : start + period * loop.length]
        inside = {array: divmod(i, period) for i, array in enumerate(run)}
        first, last = arrays.index(run[0]), arrays.index(run[-1]) + 1
        rest = arrays[last:]
        numbers = itertools.count(max(array.number for array in every_array(self.lowered)) + 1)

        def made(source: str, operation: Any, arrays: list[Array], shape: tuple[int, ...]) -> Array:
            batched, differentiable = (any(getattr(a, f) for a in arrays) for f in ("batched", "differentiable"))
            size = math.prod(shape)
            return Array(next(numbers), None, (source,), size, batched, differentiable, shape, operation)

        for array in loop.ahead:
            array.number = next(numbers)
        used: dict[int, dict[int, None]] = {}  # place -> the stages that are read after the loop
        read = (read.array for array in rest for read in _all_reads(array.operation))
        for array in [*read, *(array for array, _ in self.lowered.outputs)]:
            if array in inside:
                t, place = inside[array]
                used.setdefault(place, {})[t] = None
        new: dict[Array, tuple[Array, int]] = {}  # array -> where it is now, and its first element there
        results = []
        for place, stages in used.items():
            array = loop.stage[place]
            if len(stages) > 2:
                results.append(made("result", Result(loop, place, None), [array], (loop.length, *array.shape)))
                new |= {run[t * period + place]: (results[-1], t * array.size) for t in stages}
            else:
                for t in stages:
                    results.append(made("result", Result(loop, place, t), [array], array.shape))
                    new[run[t * period + place]] = results[-1], 0

        def moved(read: Read) -> Read:
            array, offset = new.get(read.array, (read.array, 0))
            return Read(array, read.index + offset)

        after = []
        for array in rest:
            after.append(array)
            if isinstance(array.operation, Loop):
                array.operation.move(moved)
            elif array.operation is not None and not isinstance(array.operation, Result):
                after[-1] = dataclasses.replace(
                    array, operation=_joined(array, _with_reads(array.operation, moved))
                )
                new[array] = after[-1], 0
        outputs = [(new.get(array, (array, 0)), place) for array, place in self.lowered.outputs]
        rolled = Lowered(
            [
                *arrays[:first],
                *(array for array in arrays[first:last] if array not in inside),
                *loop.ahead,
                made("loop", loop, loop.stage, ()),
                *results,
                *after,
            ],
            [(array, offset + place) for (array, offset), place in outputs],
            self.lowered.n_traced,
        )
        totals = [array.operation for array in every_array(rolled) if isinstance(array.operation, Total)]
        rolled.n_products = sum(is_matrix_product(part) for total in totals for part in total.parts)
        return rolled


def _true(flags: Any) -> list[tuple[int, int]]:
    """(first, last + 1) of the runs of True."""
    steps = np.diff(flags.astype(np.int8), prepend=0, append=0)
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True))


def _move_ahead(loop: Loop, array: Array) -> None:
    """Take the products out of a sum that read nothing of the loop: x[t] @ W.T is one product for all stages."""
    if not isinstance(array.operation, Total):
        return
    parts = array.operation.parts
    free = [part for part in parts if len(loop.reads_outside(part)) == len(reads_of(part))]
    if len(free) == len(parts) or not any(isinstance(part, Product) for part in free):
        return
    shape = (loop.length, *array.shape)
    operation = Total([_lifted_part(loop, part, shape, ahead=True) for part in free])
    read = [r.array for part in free for r in loop.reads_outside(part)]
    flags = [any(getattr(a, name) for a in read) for name in ("batched", "differentiable")]
    whole = Array(array.number, array.rule, ("ahead",), math.prod(shape), *flags, shape, operation)
    leaf = dataclasses.replace(
        whole,
        rule=None,
        source=("window",),
        size=array.size,
        shape=array.shape,
        operation=None,
        differentiable=False,
    )
    loop.ahead.append(whole)
    loop.windows[leaf] = whole, np.arange(whole.size).reshape(loop.length, *array.shape)
    rest = [part for part in parts if part not in free]
    array.operation = Total([*rest, Terms(Read(leaf, np.arange(array.size)[:, None]))])


def _window(loop: Loop, leaves: dict[Any, Array], read: Read, index: Indices, array: Array) -> Read:
    """The read of a window: index[t] of an array outside, at stage t. Elements that repeat are stored once."""
    columns = index.reshape(loop.length, -1)
    different, which = np.unique(columns, axis=1, return_inverse=True)
    shape: tuple[int, ...] = (different.shape[1],) if different.shape[1] > 1 else ()
    if different.shape[1] == columns.shape[1]:
        different, which = columns, np.arange(columns.shape[1])
        shape = array.shape if columns.shape[1] == array.size else read.index.shape
    key = (read.array, different.tobytes(), shape)
    if key not in leaves:
        leaves[key] = dataclasses.replace(
            read.array,
            source=("window",),
            size=different.shape[1],
            shape=shape,
            differentiable=False,
            places=None,
            operation=None,
            rule=None,
        )
        loop.windows[leaves[key]] = read.array, different.reshape(loop.length, *shape)
    return Read(leaves[key], which.reshape(read.index.shape))


def _joined(array: Array, operation: Any) -> Any:
    """An operation on results of several stages, which are one array now, in its simplest form."""
    match operation:
        case Elementwise([first, *others]) if others and array.rule in REDUCTIONS:
            if all(read.array is first.array for read in others):
                return Reduction(Read(first.array, np.stack([read.index for read in operation.operands], axis=-1)))
        case Total():
            parts: dict[Any, Any] = {}
            for part in operation.parts:
                reads = _slots(part)
                key = (type(part), *(read.array for read in reads)) if not isinstance(part, Product) else part
                known = _slots(parts[key]) if key in parts else []
                joined = [
                    np.concatenate([k.index, r.index], axis=1) for k, r in zip(known, reads, strict=bool(known))
                ]
                parts[key] = type(part)(*map(Read, key[1:], joined)) if known else part
            return Total(list(parts.values()))
    return operation


# --- After the loop: all stages at once -----------------------------------------------------------------------


def _lifted(loop: Loop, array: Array) -> Any:
    """What an array of the stage is at all stages at once, as far as it reads what has a gradient outside.

    None if it reads nothing that has one. Raises _Refused if the operation cannot be written so.
    """
    if not array.differentiable or not _learns(loop, array.operation):
        return None
    shape = (loop.length, *array.shape)
    match array.operation:
        case Elementwise(operands) if array.rule not in (LOGSUMEXP, TAKE):
            operation: Any = Elementwise([_at_all_stages(loop, read, 0) for read in operands])
        case Reduction(operand) if array.rule is not LOGSUMEXP:
            operation = Reduction(_at_all_stages(loop, operand))
        case Take(index, options, grid) if not grid or len(index.index) == 1:
            rows = options if grid else _at_all_stages(loop, options)
            operation = Take(_at_all_stages(loop, index, 0), rows, grid)
        case Total(parts):
            operation = Total([_lifted_part(loop, part, shape) for part in parts if _learns(loop, part)])
        case _:
            raise _Refused
    return dataclasses.replace(array, shape=shape, size=math.prod(shape), operation=operation)


class _Refused(Exception):
    """These stages are no loop."""


def _learns(loop: Loop, operation: Any) -> bool:
    return any(read.array.differentiable for read in loop.reads_outside(operation))


def _lifted_part(loop: Loop, part: Any, shape: tuple[int, ...], ahead: bool = False) -> Any:
    """A part of a sum of this shape. With ahead=True it is computed before the loop."""
    if not isinstance(part, Product):
        return _with_reads(part, lambda read: _at_all_stages(loop, read, 1, ahead))
    a, b = part.a, part.b
    varies = {*loop.stage, *loop.earlier, *loop.windows}
    if a.array in varies and b.array not in varies and 1 in (a.index.ndim, b.index.ndim):
        a, b = b, a  # a row times rows is rows times a row
    if a.array in varies:
        raise _Refused
    n_a = a.index.shape[-2] if a.index.ndim > 1 else 1
    rows = product_size(part) // n_a // math.prod(a.index.shape[:-2])  # of b, of each head
    places = np.arange(product_size(part)) if part.pick is None else part.pick
    head, place = np.divmod(places, rows * n_a)
    stages = np.arange(loop.length)[:, None]
    pick = ((head * loop.length + stages) * rows * n_a + place).ravel()
    lifted = Product(a, _at_all_stages(loop, b, 2, ahead), pick)
    return Product(a, lifted.b) if product_shape(lifted) == shape and (np.diff(pick) == 1).all() else lifted


def _at_all_stages(loop: Loop, read: Read, columns: int = 1, ahead: bool = False) -> Read:
    """A read of the stage at all stages. The index has the stages before its rows; 2 columns mean a factor's rows."""
    original = loop.original(read)
    if original is not read and (ahead or original.array.differentiable):
        array, index = original.array, original.index
    else:
        array = loop.whole(read.array)
        step = array.size // loop.length if array is not read.array else 0
        index = read.index + step * np.arange(loop.length).reshape(-1, *[1] * read.index.ndim)
    if columns == 2 and read.index.ndim > 2:  # heads before stages
        return Read(array, index.swapaxes(0, 1).reshape(len(read.index), -1, read.index.shape[-1]))
    return Read(array, index.reshape(-1, read.index.shape[-1]) if columns else index.ravel())


# --- The program ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repeated:
    """`for t in range(length)`: definitions that are computed at each stage; backward from the last stage on.

    They read and write rows of stacked arrays, which have the stages along their first axis, in front of the batch.
    A row is a leaf whose name is its text, as in `A1[t + 1]`. `LoopProgram.rows` has its parts: ("A1", 1).

    before  definitions that fill rows before the first stage
    stacks  name -> (number of rows, shape of a row for one example, batched)
    """

    length: int
    is_backward: bool
    before: list[Definition]
    definitions: list[Definition]
    stacks: dict[str, tuple[int, tuple[int, ...], bool]]


class LoopProgram(ArrayProgram):
    """An ArrayProgram whose definitions may be loops (`Repeated`).

    rows  the text of a row of a stack at stage t -> (name of the stack, number of the row at t = 0)
    """

    def __init__(self, lowered: Lowered, n_inputs: int, gradient: bool):
        self.rows: dict[str, tuple[str, int]] = {}
        self._stacks: dict[str, tuple[int, tuple[int, ...], bool]] = {}
        self._seeds: dict[Loop, dict[tuple[int, int | None], Symbol]] = {}
        self._inside: set[Array] = set()  # the arrays of a stage, while it is differentiated
        self._kept: set[Array] = set()  # those of them whose gradients at all stages are needed after the loop
        self._upstream: dict[Array, tuple[str, int]] = {}  # and the stacks of these gradients
        super().__init__(lowered, n_inputs, gradient)

    # --- Stacks -------------------------------------------------------------------------------------------------

    def _row(self, stack: str, offset: int, array: Array, at: str = "t") -> Symbol:
        """The row t + offset of a stack; with at="" the row `offset`."""
        place = " + ".join([*([at] if at else []), *([str(offset)] if offset or not at else [])])
        number = "" if array.shape or array.batched else ", ..."  # an array without axes can be written into
        text = f"{stack}[{place}{number}]"
        if at:
            self.rows[text] = stack, offset
        return self.book.leaf(text, array.shape, array.batched)

    def _all_rows(self, stack: str, first: int, length: int, array: Array) -> Symbol:
        """The rows of a stack from `first` on, with the batch in front of them."""
        last, n = first + length, self._stacks[stack][0]
        text = stack if length == n else f"{stack}[{first or ''}:{'' if last == n else last}]"
        if array.batched:
            text += ".swapaxes(0, 1)"
        return self.book.leaf(text, (length, *array.shape), array.batched)

    def _fill(self, target: Symbol, formula: Any, is_gradient: bool) -> Definition:
        """The definition of rows that are filled before a loop."""
        name, shape = str(target.args[0]), target.shape
        rows = Array(-1, None, ("rows",), math.prod(shape), target.batched, False, shape, name=name)
        return Definition(name, formula, rows, is_gradient)

    # --- Forward ------------------------------------------------------------------------------------------------

    def _define(self, array: Array) -> None:
        match array.operation:
            case Loop() as loop:
                self._define_loop(loop)
            case Result(loop, place, t):
                own, before = loop.stage[place], len(loop.initial[place])
                if t is None:
                    formula = self._all_rows(own.name, before, loop.length, own)
                else:
                    formula = self._row(own.name, before + t, own, at="")
                is_output = any(array is output for output, _ in self.lowered.outputs)
                if is_output or (t is None and own.batched):
                    self.definitions.append(Definition(array.name, formula, array))
                else:
                    self.symbols[array] = formula
            case _:
                super()._define(array)

    def _define_loop(self, loop: Loop) -> None:
        stacks, before = {}, []
        for leaf, (outside, index) in loop.windows.items():
            stacks[leaf.name] = self._stacks[leaf.name] = loop.length, leaf.shape, leaf.batched
            self.symbols[leaf] = self._row(leaf.name, 0, leaf)
            elements = self._read(Read(outside, index), index.shape)
            before.append(self._fill(self._all_rows(leaf.name, 0, loop.length, leaf), elements, False))
        for array, initial in zip(loop.stage, loop.initial, strict=True):
            n = len(initial)
            stacks[array.name] = self._stacks[array.name] = n + loop.length, array.shape, array.batched
            self.symbols[array] = self._row(array.name, n, array)
            for i, read in enumerate(initial):
                elements = self._read(read, array.shape)
                before.append(self._fill(self._row(array.name, i, array, at=""), elements, False))
        for leaf, (place, distance) in loop.earlier.items():
            self.symbols[leaf] = self._row(loop.stage[place].name, len(loop.initial[place]) - distance, leaf)
        definitions = [Definition(str(self.symbols[a].args[0]), self._formula(a), a) for a in loop.stage]
        self.definitions.append(Repeated(loop.length, False, before, definitions, stacks))

    # --- Backward -----------------------------------------------------------------------------------------------

    def _backward_through(self, array: Array) -> None:
        match array.operation:
            case Result(loop, place, t):
                if shares := self._shares.pop(array, []):
                    name = f"d{array.name}"
                    formula = self._scaled(self._collected(shares, array))
                    self.definitions.append(Definition(name, formula, array, True))
                    self._seeds.setdefault(loop, {})[place, t] = self.book.leaf(name, array.shape, array.batched)
            case Loop() as loop:
                if loop in self._seeds:
                    self._backward_loop(loop)
            case _:
                super()._backward_through(array)

    def _backward_loop(self, loop: Loop) -> None:
        """The reversed loop. Then what the stages read outside gets its shares from all stages at once.

        A stage that is read by later ones, or after the loop, has a stack for the gradients that come from there.
        """
        lifted = {array: _lifted(loop, array) for array in loop.stage}
        read = {r.array for array in loop.stage if array.differentiable for r in reads_of(array.operation)}
        given: dict[int, str] = {}  # place -> the name of that stack
        stacks: dict[str, tuple[int, tuple[int, ...], bool]] = {}
        for place in sorted(
            {place for place, _ in self._seeds[loop]} | {place for place, _ in loop.earlier.values()}
        ):
            own, n = loop.stage[place], len(loop.initial[place])
            if own.differentiable:
                given[place] = name = f"d{own.name}{'_later' if own in read else ''}"
                stacks[name] = self._stacks[name] = n + loop.length, own.shape, own.batched
                self._shares[own] = [ScaledShare(self._row(name, n, own))]
        self._length = loop.length
        self._inside, self._kept = {*loop.stage, *loop.earlier}, {a for a in loop.stage if lifted[a]}
        after, self.definitions = self.definitions, []
        for array in reversed(loop.stage):
            if array.differentiable:
                self._backward_through(array)
        before, complete = self._pass_back(loop, given)
        stacks |= {stack: self._stacks[stack] for stack, _ in self._upstream.values()}
        stage, self.definitions, self._inside, self._kept = self.definitions, after, set(), set()
        self.definitions.append(Repeated(loop.length, True, before, stage, stacks))

        for array, whole in loop.wholes.items():
            place, distance = loop.earlier.get(array, (loop.stage.index(array) if array in loop.stage else -1, 0))
            stack, n = (array.name, 0) if place < 0 else (loop.stage[place].name, len(loop.initial[place]))
            self.symbols[whole] = self._all_rows(stack, n - distance, loop.length, array)
        for array, (stack, first) in self._upstream.items():
            whole = lifted[array]
            n = len(loop.initial[loop.stage.index(array)])
            self.symbols[whole] = self._all_rows(array.name, n, loop.length, array)
            upstream = self._all_rows(stack, first, loop.length, array)
            self._through_operation(whole, ScaledShare(upstream))
        self._upstream = {}
        for place, name in given.items():
            own, initial = loop.stage[place], loop.initial[place]
            for i in range(complete[place], len(initial)):
                self._give(own, initial[i], own.shape, self._row(name, i, own, at=""), ScaledShare(None))

    def _pass_back(self, loop: Loop, given: dict[int, str]) -> tuple[list[Definition], dict[int, int]]:
        """Give stages before their shares. Returns what is filled in first, and the first row that is complete.

        If nothing else gives to a row, it is written instead of added to.
        """
        before: list[Definition] = []
        complete: dict[int, int] = {}
        shares = {place: dict[int, Any]() for place in given}  # distance -> share
        for leaf, (place, distance) in loop.earlier.items():
            if own := self._shares.pop(leaf, []):
                shares[place][distance] = self._scaled(self._collected(own, leaf))
        for place, name in given.items():
            own, n = loop.stage[place], len(loop.initial[place])
            seeds = {t: seed for (of, t), seed in self._seeds[loop].items() if of == place}
            distance = min(shares[place], default=0)
            is_written = len(shares[place]) == 1 and all(
                t is not None and t >= loop.length - distance for t in seeds
            )
            complete[place] = n - distance if is_written else 0
            if is_written:
                for t in range(loop.length - distance, loop.length):
                    before.append(self._fill(self._row(name, n + t, own, at=""), seeds.get(t, 0.0), True))
            else:
                if n or None not in seeds:
                    rows = Array(-1, None, ("rows",), 0, own.batched, False, own.shape)
                    before.append(Definition(name, 0.0, rows, True))
                if None in seeds:
                    before.append(self._fill(self._all_rows(name, n, loop.length, own), seeds.pop(None), True))
                for t, seed in seeds.items():
                    row = self._row(name, n + t, own, at="")
                    both = self.book.special("accumulate", (row, seed), own.shape, own.batched)
                    before.append(self._fill(row, both, True))
            for distance, share in shares[place].items():
                row = self._row(name, n - distance, own)
                if not is_written:
                    share = self.book.special("accumulate", (row, share), own.shape, own.batched)
                self.definitions.append(Definition(str(row.args[0]), share, own, True))
        return before, complete

    def _gradient(self, array: Array, shares: list[ScaledShare]) -> ScaledShare:
        if array not in self._kept:
            return super()._gradient(array, shares)
        formula = self._scaled(self._collected(shares, array))
        name = str(formula.args[0]) if isinstance(formula, Symbol) and formula.op == "leaf" else ""
        if name not in self.rows:
            stack = f"d{array.name}"
            self._stacks[stack] = self._length, array.shape, array.batched
            row = self._row(stack, 0, array)
            self.definitions.append(Definition(str(row.args[0]), formula, array, True))
            formula, name = row, str(row.args[0])
        self._upstream[array] = self.rows[name]
        return ScaledShare(formula)

    def _give(self, array: Array, read: Read, *arguments: Any, **options: Any) -> None:
        if not self._inside or read.array in self._inside:
            super()._give(array, read, *arguments, **options)
