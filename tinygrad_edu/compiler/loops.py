"""Loops: stages that repeat become `for t in range(T)`.

A recurrence is traced stage by stage: h1 = f(h0, x0), h2 = f(h1, x1) ... Each stage gives the same arrays again,
in the same order. `Roller` looks for them. Two arrays do the same if they have one rule and one shape, and if all
that they read is

    1. an array equally far back, of the same stage or of an earlier one, with the same index, or
    2. the same array outside of the loop. If the index is not the same at every stage, it is a window: x[t].

Stages that differ in their parameters alone, such as twelve residual blocks, have one array for each role: W1 to
W12 become the rows of W, which has one axis more, and stage t reads W[t].

Only what the recurrence needs stays in the loop. Products of windows are computed before it. What no later stage
reads is computed after it, for all stages at once. `loop_program.py` differentiates the loop.
"""

import copy
import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .group import REDUCTIONS
from .lower import (
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
from .views import Indices, digits_of, strides_of

FEWEST = 4  # stages of a loop, besides the first
LONGEST = 400  # arrays of a stage
READS = 24  # arrays that read more are in no loop
TRIES = 3  # of loops whose stages have parameters of their own
LARGE = 1000  # numbers in a row of parameters, which are not gathered from places without an order
PARAMETER = ("parameter",)
OUTSIDE = 10**9  # between the numbers of leaves: no difference of two is a period


@dataclass(eq=False)
class Loop:
    """The operation of an array that stands for a whole loop, `for t in range(length)`.

    stage    the arrays of one stage, in order. Their operations read each other, arrays outside of the loop that
             are the same at every stage, and the leaves below
    earlier  leaf -> (array, distance): an array of the stage as it was `distance` stages before
    windows  leaf -> elements of an array outside: index[t] at stage t. The index is (length, *shape of the leaf)
    initial  array of the stage -> what stands for it in the stages before the first one, the last of them last
    """

    length: int
    stage: list[Array]
    earlier: dict[Array, tuple[Array, int]] = field(default_factory=dict)
    windows: dict[Array, Read] = field(default_factory=dict)
    initial: dict[Array, list[Read]] = field(default_factory=dict)

    def outside(self, operation: Any) -> list[Read]:
        """What an operation of the stage reads outside of the loop, at all stages."""
        inside = {*self.stage, *self.earlier}
        return [self.original(read) for read in reads_of(operation) if read.array not in inside]

    def original(self, read: Read) -> Read:
        """A read of a window as a read of the array outside, at all stages. Any other read as it is."""
        if read.array not in self.windows:
            return read
        window = self.windows[read.array]
        return Read(window.array, window.index.reshape(self.length, -1)[:, read.index])

    def reads(self) -> list[Read]:
        """All that the loop reads, of itself as well."""
        stage = [read for array in self.stage for read in reads_of(array.operation)]
        return [*stage, *self.windows.values(), *itertools.chain(*self.initial.values())]

    def move(self, moved: Callable[[Read], Read]) -> None:
        """Read moved(read) in place of every read."""
        for array in self.stage:
            array.operation = _with_reads(array.operation, moved)
        self.windows = {leaf: moved(read) for leaf, read in self.windows.items()}
        self.initial = {array: list(map(moved, reads)) for array, reads in self.initial.items()}


@dataclass(frozen=True, eq=False)
class Result:
    """What is read of a loop: an array of its stage, at stage t, or at all stages, stacked, if t is None."""

    loop: Loop
    array: Array
    t: int | None


def _n_computed(lowered: Lowered) -> int:
    return sum(array.operation is not None for array in every_array(lowered))


def every_array(lowered: Lowered) -> Iterator[Array]:
    """The arrays of a program, those of the stages of its loops among them."""
    for array in lowered.arrays:
        yield array
        if isinstance(array.operation, Loop):
            yield from array.operation.stage


# --- What operations read -------------------------------------------------------------------------------------


def _with_reads(x: Any, new: Callable[[Read], Read]) -> Any:
    """An operation, or a part of one, with new(read) in place of every read."""
    match x:
        case Read():
            return new(x)
        case list():
            return [_with_reads(part, new) for part in x]
        case Elementwise() | Reduction() | Softmax() | Take() | Total() | Product() | Paired() | Terms():
            return type(x)(*[_with_reads(getattr(x, name), new) for name in x.__dataclass_fields__])
    return x


def _signature(x: Any, reads: list[Read]) -> Any:
    """All that tells two operations apart, besides what they read. This goes into `reads`."""
    match x:
        case Read():
            reads.append(x)
            return x.index.shape
        case list():
            return tuple([_signature(part, reads) for part in x])
        case Elementwise() | Reduction() | Softmax() | Take() | Total() | Product() | Paired() | Terms():
            return type(x), *[_signature(getattr(x, name), reads) for name in x.__dataclass_fields__]
        case np.ndarray():
            return x.shape, x.tobytes()
    return x


# --- Finding --------------------------------------------------------------------------------------------------


class Roller:
    """Makes loops of the longest runs of stages: `roll`.

    computed  the arrays that are no leaves, in order
    kinds     array number i does what array number j does if kinds[i] == kinds[j]
    learns    is it differentiable?
    reads     what they read
    where     from which arrays, one column each: the number of a computed array, negative for a leaf
    roles     the same, where parameters of one shape have one number
    content   equal for equal indices
    """

    def __init__(self, lowered: Lowered):
        self.lowered = lowered
        self._by_role: Roller | None = None  # of the program with rows of parameters, if that is shorter
        self.computed = [array for array in lowered.arrays if array.operation is not None]
        leaves = [array for array in lowered.arrays if array.operation is None]
        numbers = {array: -(i + 1) * OUTSIDE for i, array in enumerate(leaves)}
        numbers |= {array: i for i, array in enumerate(self.computed)}
        roles = {a.shape: numbers[a] for a in leaves if a.source == PARAMETER}
        n = len(self.computed)
        self.kinds, self.reads = np.empty(n, np.intp), list[list[Read]]()
        self.learns = np.array([array.differentiable for array in self.computed], bool)
        self.where, self.roles, self.content = np.zeros((3, n, READS), np.int64)
        kinds: dict[Any, int] = {}
        contents: dict[bytes, int] = {}
        for i, array in enumerate(self.computed):
            reads: list[Read] = []
            self.reads.append(reads)
            signature = _signature(array.operation, reads)
            own = array.rule, array.shape, array.batched, signature
            self.kinds[i] = kinds.setdefault(own if len(reads) <= READS else array, len(kinds))
            for slot, read in enumerate(reads[:READS]):
                self.where[i, slot] = self.roles[i, slot] = numbers[read.array]
                if read.array.source == PARAMETER:
                    self.roles[i, slot] = roles[read.array.shape]
                self.content[i, slot] = contents.setdefault(read.index.tobytes(), len(contents))

    def roll(self, skip: int = 0) -> Lowered:
        """The program with its repeating stages as loops, each after `skip` more stages than it needs."""
        if self._by_role is not None:
            return self._by_role.roll(skip)
        roller = self
        while (rolled := roller._rolled(skip)) is not None:
            roller = Roller(rolled)
        for rows in itertools.islice(roller._roles_of_stages(), TRIES):
            by_role = Roller(_stacked(self.lowered, rows))
            rolled = by_role.roll(skip)
            if _n_computed(rolled) < _n_computed(roller.lowered):
                self._by_role = by_role
                return rolled
        return roller.lowered

    def _rolled(self, skip: int) -> Lowered | None:
        """The program with its longest loop, None if it has none."""
        for start, length, period, given in self._found():
            if skip:
                start, length, given = start + skip * period, length - skip, None
            try:
                return self._replaced(self._loop(start, length, period, given), start, period)
            except _Refused:
                continue
        return None

    def _roles_of_stages(self) -> Iterator[list[list[Array]]]:
        """For possible loops of stages that differ in their parameters alone: the parameters for each role."""
        by_role = copy.copy(self)
        by_role.where = self.roles
        for start, length, period, _ in by_role._found() if (self.roles != self.where).any() else ():
            rows: dict[Array, set[Array]] = {}  # parameter -> all that have its role
            for place in range(period):
                for reads in zip(*self.reads[start + place : start + length * period : period], strict=True):
                    alike = {read.array for read in reads if read.array.source == PARAMETER}
                    alike = alike.union(*(rows.get(array, ()) for array in alike))
                    rows |= dict.fromkeys(alike, alike)
            found = {id(alike): alike for alike in rows.values() if len(alike) > 1}.values()
            if found:
                yield [sorted(alike, key=lambda array: int(array.places[0])) for alike in found]

    def _found(self) -> Iterator[tuple[int, int, int, dict[int, Read] | None]]:
        """The first array, the number of stages, the period and `_given` of possible loops, the longest first."""
        for start, end, period in sorted(self._runs(), key=lambda run: (run[0] - run[1], run[2])):
            if (fitted := self._fitted(start, end, period)) is not None:
                start, length = fitted
                given = self._given(start, period)
                has_first = given is not None
                yield start - has_first * period, length + has_first, period, given

    def _runs(self) -> list[tuple[int, int, int]]:
        """(start, end, period) of runs of stages that do the same, and read what a loop can read."""
        found, best = [], 0
        for period in range(1, min(LONGEST, len(self.kinds) // FEWEST) + 1):
            alike = (self.kinds[period:] == self.kinds[:-period]) & (self.learns[period:] == self.learns[:-period])
            longest = np.diff(np.flatnonzero(~alike), prepend=-1, append=len(alike)).max() - 1 + period
            if longest < FEWEST * period or longest <= best:
                continue
            steps = self.where[period:] - self.where[:-period]
            back = (steps == period) & (self.content[period:] == self.content[:-period])
            alike &= (back | (steps == 0)).all(axis=1)
            changes = np.zeros_like(alike)  # back at one stage, outside at the next
            changes[:-period] = (back[period:] != back[:-period]).any(axis=1)
            for start, end in _true(alike):
                cuts = start + np.flatnonzero(changes[start : max(start, end - period)])
                for first, last in zip([start, *(cuts + 1)], [*(cuts + period), end], strict=True):
                    size = int(last - first + period)
                    if size >= FEWEST * period:
                        found.append((int(first), int(first) + size, period))
                        best = max(best, size)
        return found

    def _fitted(self, start: int, end: int, period: int) -> tuple[int, int] | None:
        """The first array of the loop and the number of its stages, None if there are too few.

        A stage may begin with any of its arrays: with the one for which the fewest rows are carried from stage to
        stage, if possible so that no stage stays in front of the loop. The stages before the first one must be
        there.
        """
        where, back = self._stage(start, period)
        start = max(start, int(where[~back].max(initial=-1)) + 1)  # what lies outside lies before
        if end - start < FEWEST * period:
            return None
        where, back = self._stage(start, period)
        places = np.arange(period)[:, None]
        distances = np.where(back, places + start - where, 0)
        keys = []
        for first in range(period):
            ago = -(((places - first) % period - distances) // period)  # in stages, 0 for the same one
            rows = np.zeros(period, int)
            np.maximum.at(rows, (places - distances) % period, np.maximum(ago, 0))
            keys.append((rows.sum(), -int((~back[first] & (where[first] != 0)).sum()), first))
        best = [first for n, _, first in sorted(keys) if n == min(keys)[0]]
        start += next((first for first in best if self._given(start + first, period) is not None), best[0])
        length, carried = (end - start) // period, self._carried(start, period)
        while length >= max(FEWEST, 2 * max(carried.values(), default=0)):
            before = [
                (start + i - k * period, start + i) for i, last in carried.items() for k in range(1, last + 1)
            ]
            if all(i >= 0 and self.computed[i].shape == self.computed[j].shape for i, j in before):
                return start, length
            start, length = start + period, length - 1
        return None

    def _stage(self, start: int, period: int) -> tuple[Any, Any]:
        """Where the arrays of the stage at `start` read, and whether this moves on from stage to stage."""
        where = self.where[start : start + period]
        return where, self.where[start + period : start + 2 * period] - where == period

    def _carried(self, start: int, period: int) -> dict[int, int]:
        """place in the stage -> the largest distance, in stages, at which a later stage reads it."""
        where, back = self._stage(start, period)
        carried: dict[int, int] = {}
        for target in (where[back] - start).tolist():
            if target < 0:
                carried[target % period] = max(carried.get(target % period, 0), -(target // period))
        return carried

    def _given(self, start: int, period: int) -> dict[int, Read] | None:
        """place -> what the stage before `start` reads where later ones read the one before them: h0 = [0, 0].

        None if that stage does something else. Then it stays in front of the loop.
        """
        first = start - period
        if first < 0 or (self.kinds[first:start] != self.kinds[start : start + period]).any():
            return None
        where, back = self._stage(start, period)
        given: dict[int, tuple[Array, Indices]] = {}
        for i, slot in np.argwhere((where != self.where[first:start]) | back).tolist():
            own, read = self.reads[start + i][slot], self.reads[first + i][slot]
            target, now = int(where[i, slot]) - start, int(self.where[first + i, slot]) - first
            if 0 <= target == now and self.content[first + i, slot] == self.content[start + i, slot]:
                continue
            if not back[i, slot] or not -period <= target < 0 or now >= 0:
                return None
            array, index = given.setdefault(target % period, (read.array, np.full(own.array.size, -1)))
            known = index[own.index]
            if array is not read.array or ((known >= 0) & (known != read.index)).any():
                return None
            index[own.index] = read.index
        return {place: Read(array, np.maximum(index, 0)) for place, (array, index) in given.items()}

    # --- Rolling ------------------------------------------------------------------------------------------------

    def _loop(self, start: int, length: int, period: int, given: dict[int, Read] | None) -> Loop:
        """The loop of these stages."""
        typical = start + period * (given is not None)  # a stage that reads the one before
        where, back = self._stage(typical, period)
        loop = Loop(length, [dataclasses.replace(array) for array in self.computed[typical : typical + period]])
        for place, most in self._carried(typical, period).items():
            before = (
                [self.computed[start + place - k * period] for k in range(most, 0, -1)] if given is None else []
            )
            initial = [Read(array, np.arange(array.size)) for array in before]
            loop.initial[loop.stage[place]] = initial if given is None else [given[place]]
        leaves: dict[Any, Array] = {}

        def moved(place: int, slot: int, read: Read) -> Read:
            if back[place, slot]:
                distance, target = divmod(int(where[place, slot]) - typical, period)
                array = loop.stage[target]
                if not distance:
                    return Read(array, read.index)
                if (target, distance) not in leaves:
                    leaf = dataclasses.replace(array, rule=None, source=("earlier",), operation=None)
                    leaves[target, distance] = leaf
                    loop.earlier[leaf] = array, -distance
                return Read(leaves[target, distance], read.index)
            contents = self.content[start + place : start + place + length * period : period, slot]
            if (contents == contents[0]).all():
                return read
            index = np.array([self.reads[start + place + t * period][slot].index for t in range(length)])
            return _window(loop, leaves, read, index, loop.stage[place])

        for place, array in enumerate(loop.stage):
            slots = itertools.count()
            array.operation = _with_reads(array.operation, lambda read: moved(place, next(slots), read))  # noqa: B023 - it is called at once
        return loop

    def _replaced(self, loop: Loop, start: int, period: int) -> Lowered:
        """The program with this loop in place of its stages. What comes after reads its results."""
        arrays, run = self.lowered.arrays, self.computed[start : start + period * loop.length]
        inside = {array: divmod(i, period) for i, array in enumerate(run)}
        first, last = arrays.index(run[0]), arrays.index(run[-1]) + 1
        full, ahead, results = loop.stage, _moved_ahead(loop), dict[Any, Array]()

        def result(array: Array, t: int | None) -> Array:
            if (array, t) not in results:
                shape = array.shape if t is not None else (loop.length, *array.shape)
                results[array, t] = _array("result", Result(loop, array, t), [array], shape)
            return results[array, t]

        behind = _moved_behind(loop, result)
        for array in loop.stage:
            all_stages(loop, array, {})  # is there such an operation?
        read = {read.array for array in loop.stage for read in reads_of(array.operation)}
        loop.windows = {leaf: window for leaf, window in loop.windows.items() if leaf in read}

        rest = arrays[last:]
        used: dict[Array, dict[int, None]] = {}  # array of the stage -> the stages that are read after the loop
        for array in [*(read.array for a in rest for read in all_reads(a)), *(a for a, _ in self.lowered.outputs)]:
            if array in inside:
                t, place = inside[array]
                used.setdefault(full[place], {})[t] = None

        def moved(read: Read) -> Read:
            t, place = inside.get(read.array, (0, -1))
            if place < 0:
                return read
            array = full[place]
            if array not in behind and len(used[array]) <= 2 and (array, None) not in results:
                return Read(result(array, t), read.index)
            return Read(behind.get(array) or result(array, None), read.index + t * array.size)

        after = _with_moved(rest, moved)
        outputs = [moved(Read(after.get(array, array), np.array(place))) for array, place in self.lowered.outputs]
        of_loop = [_array("loop", loop, loop.stage, ())] if loop.stage else []
        numbers = itertools.count(max(array.number for array in every_array(self.lowered)) + 1)
        for array in [*ahead, *of_loop, *results.values()]:
            array.number = next(numbers)
        leaves = [array for array in arrays[first:last] if array not in inside]
        rolled = Lowered(
            [*arrays[:first], *leaves, *ahead, *of_loop, *results.values(), *behind.values(), *after.values()],
            [(read.array, int(read.index)) for read in outputs],
            self.lowered.n_traced,
        )
        totals = [array.operation for array in every_array(rolled) if isinstance(array.operation, Total)]
        rolled.n_products = sum(is_matrix_product(part) for total in totals for part in total.parts)
        return rolled


def all_reads(array: Array) -> list[Read]:
    """All that an array reads; of a loop, all that its stages read."""
    return array.operation.reads() if isinstance(array.operation, Loop) else reads_of(array.operation)


def _stacked(lowered: Lowered, roles: list[list[Array]]) -> Lowered:
    """The program where the parameters of each role are the rows of one array."""
    rows: dict[Array, tuple[Array, int]] = {}  # parameter -> the array, and where it begins there
    for each in roles:
        places, shape = np.concatenate([row.places for row in each]), (len(each), *each[0].shape)
        whole = dataclasses.replace(each[0], size=len(places), shape=shape, places=places)
        rows |= {row: (whole, i * row.size) for i, row in enumerate(each)}

    def moved(read: Read) -> Read:
        array, first = rows.get(read.array, (read.array, 0))
        return Read(array, read.index + first)

    after = _with_moved(lowered.arrays, moved)
    arrays = dict.fromkeys(rows[array][0] if array in rows else after[array] for array in lowered.arrays)
    outputs = [moved(Read(after[array], np.array(place))) for array, place in lowered.outputs]
    outputs_at = [(read.array, int(read.index)) for read in outputs]
    return dataclasses.replace(lowered, arrays=list(arrays), outputs=outputs_at)


def _with_moved(arrays: list[Array], moved: Callable[[Read], Read]) -> dict[Array, Array]:
    """Each of these arrays with moved(read) in place of every read. They read each other as before."""
    after: dict[Array, Array] = {}

    def follow(read: Read) -> Read:
        read = moved(read)
        return Read(after.get(read.array, read.array), read.index)

    for array in arrays:
        after[array] = array
        if isinstance(array.operation, Loop):
            array.operation.move(follow)
        elif array.operation is not None and not isinstance(array.operation, Result):
            operation = _joined(array, _with_reads(array.operation, follow))
            after[array] = dataclasses.replace(array, operation=operation)
    return after


def _true(flags: Any) -> list[tuple[int, int]]:
    """(first, last + 1) of the runs of True."""
    steps = np.diff(flags.astype(np.int8), prepend=0, append=0)
    return list(zip(np.flatnonzero(steps == 1).tolist(), np.flatnonzero(steps == -1).tolist(), strict=True))


def _array(source: str, operation: Any, like: list[Array], shape: tuple[int, ...]) -> Array:
    """A new array that is batched, and differentiable, if one of `like` is."""
    batched, differentiable = any(a.batched for a in like), any(a.differentiable for a in like)
    return Array(-1, None, (source,), math.prod(shape), batched, differentiable, shape, operation)


def _window(loop: Loop, leaves: dict[Any, Array], read: Read, index: Indices, array: Array) -> Read:
    """The read of a window: index[t] of an array outside, at stage t. Elements that repeat are stored once.

    If they are in one row of an array that all examples share, the window is the whole row, which needs no copy.
    """
    columns, shape = index.reshape(loop.length, -1), read.array.shape[1:]
    rows, places = np.divmod(columns, size := math.prod(shape))
    if not read.array.batched and (rows == rows[:, :1]).all() and (places == places[0]).all():
        different, which = rows[:, :1] * size + np.arange(size), places[0]
    else:
        different, which = np.unique(columns, axis=1, return_inverse=True)
        shape = (different.shape[1],) if different.shape[1] > 1 else ()
        if different.shape[1] == columns.shape[1]:
            different, which = columns, np.arange(columns.shape[1])
            shape = array.shape if columns.shape[1] == array.size else read.index.shape
    if different.shape[1] > LARGE and read.array.source == PARAMETER:
        places = read.array.places.reshape(read.array.shape)
        if digits_of(different) is None or strides_of(places) is None:
            raise _Refused  # to gather large weights at every call takes longer than the loop saves
    key = (read.array, different.tobytes(), shape)
    if key not in leaves:
        leaves[key] = leaf = _array("window", None, [read.array], shape)
        leaf.differentiable = False
        loop.windows[leaf] = Read(read.array, different.reshape(loop.length, *shape))
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
                reads: list[Read] = []
                _signature(part, reads)
                is_dot = all(read.index.ndim == 1 for read in reads)
                is_longer = not isinstance(part, Product) or (is_dot and part.pick is None)
                key: Any = (type(part), *(read.array for read in reads)) if is_longer else part
                known = parts.get(key)
                parts[key] = part if known is None else _longer(known, part)
            return Total(list(parts.values()))
    return operation


def _longer(part: Any, other: Any) -> Any:
    """The terms of two parts of a sum that read the same arrays."""
    reads: list[Read] = []
    _signature(other, reads)
    rest = iter(reads)
    return _with_reads(part, lambda r: Read(r.array, np.concatenate([r.index, next(rest).index], axis=-1)))


# --- All stages at once ---------------------------------------------------------------------------------------


class _Refused(Exception):
    """These stages are no loop."""


def _once(loop: Loop, part: Product) -> tuple[Read, Read] | None:
    """The factors of a product that is one product for all stages: the first is the same at every stage.

    None if both differ from stage to stage.
    """
    a, b, varies = part.a, part.b, {*loop.stage, *loop.earlier, *loop.windows}
    if a.array in varies and b.array not in varies and 1 in (a.index.ndim, b.index.ndim):
        a, b = b, a  # a row times rows is rows times a row
    return None if a.array in varies else (a, b)


def _has_heads(loop: Loop, operation: Any) -> bool:
    """Is there a product of its own for each stage? These are faster in the loop."""
    parts = operation.parts if isinstance(operation, Total) else []
    return any(isinstance(part, Product) and _once(loop, part) is None for part in parts)


def _moved_ahead(loop: Loop) -> list[Array]:
    """Take products that read nothing of the loop out of its sums: x[t] @ W.T is one product for all stages."""
    moved = []
    for array in loop.stage:
        if not isinstance(array.operation, Total):
            continue
        parts = array.operation.parts
        free = [part for part in parts if len(loop.outside(part)) == len(reads_of(part))]
        free = [part for part in free if not isinstance(part, Product) or _once(loop, part)]
        if len(free) < len(parts) and any(isinstance(part, Product) for part in free):
            read = [read.array for part in free for read in loop.outside(part)]
            whole = _array("ahead", Total(free), read, array.shape)
            moved.append(whole := _whole(loop, whole, whole.operation, {}))
            leaf = _array("window", None, [whole], array.shape)
            leaf.differentiable = False
            loop.windows[leaf] = Read(whole, np.arange(whole.size).reshape(whole.shape))
            rest = [part for part in parts if part not in free]
            array.operation = Total([*rest, Terms(Read(leaf, np.arange(array.size)[:, None]))])
    return moved


def _moved_behind(loop: Loop, result: Callable[[Array, None], Array]) -> dict[Array, Array]:
    """Take the arrays out of the stage that no later stage needs. Returns each for all stages at once."""
    needed = {array for array, _ in loop.earlier.values()}
    for array in reversed(loop.stage):
        read = {read.array for read in reads_of(array.operation)}
        if array in needed or not read.isdisjoint(loop.earlier) or _has_heads(loop, array.operation):
            needed |= {array, *read}
    behind: dict[Array, Array] = {}
    try:
        wholes = dict[Array, Array]()
        for array in loop.stage:
            if array not in needed:
                read = {read.array for read in reads_of(array.operation)} - {*wholes, *loop.windows}
                wholes |= {other: result(other, None) for other in loop.stage if other in read}
                behind[array] = wholes[array] = _whole(loop, array, array.operation, wholes)
    except _Refused:
        return {}
    loop.stage = [array for array in loop.stage if array not in behind]
    return behind


def all_stages(loop: Loop, array: Array, wholes: dict[Array, Array]) -> Array | None:
    """An array of the stage at all stages at once, as far as it reads what has a gradient outside; None if not.

    `wholes` are leaves for all that is not the same at every stage: array of the stage -> array of all stages.
    """
    parts = array.operation.parts if isinstance(array.operation, Total) else [array.operation]
    learn = [part for part in parts if any(read.array.differentiable for read in loop.outside(part))]
    if not array.differentiable or not learn:
        return None
    return _whole(loop, array, Total(learn) if isinstance(array.operation, Total) else array.operation, wholes)


def _whole(loop: Loop, array: Array, operation: Any, wholes: dict[Array, Array]) -> Array:
    """An array with this operation, at all stages at once. Raises _Refused if it cannot be written so."""
    shape = (loop.length, *array.shape)

    def of_all(read: Read) -> Read:
        original = loop.original(read)
        if original is not read and read.array not in wholes:
            return original
        step = read.array.size if read.array in wholes else 0
        stages = np.arange(loop.length).reshape(-1, *[1] * read.index.ndim)
        return Read(wholes.get(read.array, read.array), read.index + step * stages)

    def at(read: Read, columns: int = 1) -> Read:
        whole, index = (own := of_all(read)).array, own.index
        if columns == 2 and read.index.ndim > 2:  # heads stand before stages
            return Read(whole, index.swapaxes(0, 1).reshape(len(read.index), -1, read.index.shape[-1]))
        return Read(whole, index.reshape(-1, read.index.shape[-1]) if columns else index.ravel())

    def heads(read: Read) -> Read:
        index = of_all(read).index
        return Read(of_all(read).array, index.reshape(-1, *np.atleast_2d(read.index).shape[-2:]))

    def product(part: Product) -> Product:
        size = product_size(part)
        pick, stages = np.arange(size) if part.pick is None else part.pick, np.arange(loop.length)[:, None]
        if (once := _once(loop, part)) is None:  # each stage is a head
            a, b = map(heads, (part.a, part.b))
            pick = stages * size + pick
        else:
            a, b = once
            n_a = a.index.shape[-2] if a.index.ndim > 1 else 1
            rows = size // n_a // math.prod(a.index.shape[:-2])  # of b, of each head
            head, place = np.divmod(pick, rows * n_a)
            pick = (head * loop.length + stages) * rows * n_a + place
            b = at(b, 2)
            if a.index.ndim == 1 and a.array.batched and not b.array.batched:
                a, b = b, a  # weights first
        is_whole = product_shape(Product(a, b)) == shape and (np.diff(pick.ravel()) == 1).all()
        return Product(a, b, None if is_whole else pick.ravel())

    match operation:
        case Elementwise(operands):
            operation = Elementwise([at(read, 0) for read in operands])
        case Take(index, options, grid) if not grid or len(index.index) == 1:
            operation = Take(at(index, 0), options if grid else at(options), grid)
        case Total(parts):
            operation = Total([product(p) if isinstance(p, Product) else _with_reads(p, at) for p in parts])
        case Reduction() | Softmax():
            operation = _with_reads(operation, at)
        case _:
            raise _Refused
    return dataclasses.replace(array, shape=shape, size=math.prod(shape), operation=operation)
