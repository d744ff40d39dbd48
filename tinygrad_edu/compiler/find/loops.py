"""Loops: stages that repeat become `for t in range(T)`.

A recurrence is traced stage by stage: h1 = f(h0, x0), h2 = f(h1, x1) ... Each stage gives the same arrays again,
in the same order. `Roller` looks for them. Two arrays do the same if they have one rule and one shape, and if all
that they read is

    1. an array equally far back, of the same stage or of an earlier one, with the same index, or
    2. the same array outside of the loop. If the index is not the same at every stage, it is a window: x[t].

Stages that differ in their parameters alone, such as twelve residual blocks, have one array for each role: W1 to
W12 become the rows of W, which has one axis more, and stage t reads W[t].

What the recurrence does not need leaves the loop again, see `ir/fission.py`.
"""

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .group import REDUCTIONS
from .lowered import PARAMETER, Computation, Lowered, Read, Scan, Tensor, Terms, every_array, sum_of
from .views import Indices

FEWEST = 4  # stages of a loop, besides the first
LONGEST = 400  # arrays of a stage
READS = 24  # arrays that read more are in no loop
TRIES = 3  # of loops whose stages have parameters of their own
SECONDS = 5.0  # of CPU time, in which loops are looked for
OUTSIDE = 10**9  # between the numbers of leaves: no difference of two is a period


def _n_computed(lowered: Lowered) -> int:
    return sum(array.operation is not None for array in every_array(lowered))


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
        self.computed: list[Tensor] = [array for array in lowered.arrays if array.operation is not None]
        leaves = [array for array in every_array(lowered) if array.operation is None or array.stages]
        numbers = {array: -(i + 1) * OUTSIDE for i, array in enumerate(leaves)}
        numbers |= {array: i for i, array in enumerate(self.computed)}
        roles = {a.shape: numbers[a] for a in leaves if a.source == PARAMETER}
        n = len(self.computed)
        self.kinds: np.ndarray[Any, Any] = np.empty(n, np.intp)
        self.reads: list[list[Read]] = list[list[Read]]()
        self.learns: np.ndarray[Any, Any] = np.array([array.differentiable for array in self.computed], bool)
        kinds: dict[Any, int] = {}
        contents: dict[bytes, int] = {}
        cells, columns = list[int](), list[tuple[int, int, int]]()
        for i, array in enumerate(self.computed):
            reads = array.reads
            self.reads.append(reads)
            parts = [(len(part.factors), part.heads) for part in getattr(array.operation, "parts", ())]
            shapes = [read.index.shape for read in reads]
            own = array.rule, array.shape, array.batched, array.kind, tuple(parts), tuple(shapes)
            is_alone = array.kind == "loop" or len(reads) > READS
            self.kinds[i] = kinds.setdefault(array if is_alone else own, len(kinds))
            for slot, read in enumerate(reads[:READS]):
                where = numbers[read.array]
                role = roles[read.array.shape] if read.array.source == PARAMETER else where
                cells.append(i * READS + slot)
                columns.append((where, role, contents.setdefault(read.index.tobytes(), len(contents))))
        filled = np.zeros((3, n * READS), np.int64)
        filled[:, cells] = np.array(columns, np.int64).reshape(-1, 3).T
        self.where, self.roles, self.content = filled.reshape(3, n, READS)

    def roll(self) -> Lowered:
        """The program with its repeating stages as loops; those that are found in time."""
        end, roller = time.thread_time() + SECONDS, self
        while (rolled := roller._rolled()) is not None:
            roller = Roller(rolled)
            if time.thread_time() > end:
                return rolled
        for rows in itertools.islice(roller._roles_of_stages(), TRIES):
            by_role = Roller(_stacked(self.lowered, rows))
            rolled = by_role.roll()
            if _n_computed(rolled) < _n_computed(roller.lowered):
                return rolled
        return roller.lowered

    def _rolled(self) -> Lowered | None:
        """The program with its longest loop, None if it has none."""
        if (candidate := next(self._candidates(), None)) is None:
            return None
        start, length, period, entry = candidate
        return self._replaced(self._loop(start, length, period, entry), start, period)

    def _roles_of_stages(self) -> Iterator[list[list[Tensor]]]:
        """For possible loops of stages that differ in their parameters alone: the parameters for each role."""
        by_role = copy.copy(self)
        by_role.where = self.roles
        for start, length, period, _ in by_role._candidates() if (self.roles != self.where).any() else ():
            rows: dict[Tensor, set[Tensor]] = {}  # parameter -> all that have its role
            for place in range(period):
                for reads in zip(*self.reads[start + place : start + length * period : period], strict=True):
                    alike = {read.array for read in reads if read.array.source == PARAMETER}
                    alike = alike.union(*(rows.get(array, ()) for array in alike))
                    rows |= dict.fromkeys(alike, alike)
            families = {id(alike): alike for alike in rows.values() if len(alike) > 1}.values()
            if families:
                yield [sorted(alike, key=lambda array: int(array.places[0])) for alike in families]

    def _candidates(self) -> Iterator[tuple[int, int, int, dict[int, Read] | None]]:
        """First array, number of stages, period and `_entry` of possible loops, the longest first."""
        for start, end, period in sorted(self._runs(), key=lambda run: (run[0] - run[1], run[2])):
            if (fitted := self._fitted(start, end, period)) is not None:
                start, length = fitted
                entry = self._entry(start, period)
                has_first = entry is not None
                yield start - has_first * period, length + has_first, period, entry

    def _runs(self) -> list[tuple[int, int, int]]:
        """(start, end, period) of runs of stages that do the same, and read what a loop can read."""
        spans, best = [], 0
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
            edges = np.flatnonzero(np.diff(alike.astype(np.int8), prepend=0, append=0)).tolist()
            for start, end in zip(edges[::2], edges[1::2], strict=True):
                cuts = start + np.flatnonzero(changes[start : max(start, end - period)])
                for first, last in zip([start, *(cuts + 1)], [*(cuts + period), end], strict=True):
                    size = int(last - first + period)
                    if size >= FEWEST * period:
                        spans.append((int(first), int(first) + size, period))
                        best = max(best, size)
        return spans

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
        ahead: dict[int, int] = {}
        for place, slot in np.argwhere(back).tolist():
            target = int(where[place, slot]) - start
            ahead[target % period] = max(ahead.get(target % period, 0), place - target)
        rows, outside = carried_from(period, ahead), (~back & (where != 0)).sum(axis=1).tolist()
        keys = [(rows[first], -outside[first], first) for first in range(period)]
        best = [first for n, _, first in sorted(keys) if n == min(keys)[0]]
        start += next((first for first in best if self._entry(start + first, period) is not None), best[0])
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

    def _entry(self, start: int, period: int) -> dict[int, Read] | None:
        """place -> what the stage before `start` reads where later ones read the one before them: h0 = [0, 0].

        None if that stage does something else. Then it stays in front of the loop.
        """
        first = start - period
        if first < 0 or (self.kinds[first:start] != self.kinds[start : start + period]).any():
            return None
        where, back = self._stage(start, period)
        entry: dict[int, tuple[Tensor, Indices]] = {}
        for i, slot in np.argwhere((where != self.where[first:start]) | back).tolist():
            own, read = self.reads[start + i][slot], self.reads[first + i][slot]
            target, now = int(where[i, slot]) - start, int(self.where[first + i, slot]) - first
            if 0 <= target == now and self.content[first + i, slot] == self.content[start + i, slot]:
                continue
            if not back[i, slot] or not -period <= target < 0 or now >= 0:
                return None
            array, index = entry.setdefault(target % period, (read.array, np.full(own.array.size, -1)))
            known = index[own.index]
            index[own.index] = read.index  # one place of `own` may be read twice
            wrong = ((known >= 0) & (known != read.index)) | (index[own.index] != read.index)
            if array is not read.array or wrong.any():
                return None
        return {place: Read(array, np.maximum(index, 0)) for place, (array, index) in entry.items()}

    # --- Rolling ------------------------------------------------------------------------------------------------

    def _loop(self, start: int, length: int, period: int, entry: dict[int, Read] | None) -> Scan:
        """The loop of these stages."""
        typical = start + period * (entry is not None)  # a stage that reads the one before
        where, back = self._stage(typical, period)
        loop = Scan(length, [dataclasses.replace(array) for array in self.computed[typical : typical + period]])
        for place, most in self._carried(typical, period).items():
            before = (
                [self.computed[start + place - k * period] for k in range(most, 0, -1)] if entry is None else []
            )
            initial = [Read(array, np.arange(array.size)) for array in before]
            loop.initial[loop.stage[place]] = initial if entry is None else [entry[place]]

        def moved(place: int, slot: int, read: Read) -> Read:
            if back[place, slot]:
                distance, target = divmod(int(where[place, slot]) - typical, period)
                return Read(loop.stage[target], read.index, -distance)
            contents = self.content[start + place : start + place + length * period : period, slot]
            if (contents == contents[0]).all():
                return read
            every = np.array([self.reads[start + place + t * period][slot].index for t in range(length)])
            return Read(read.array, every[0], every=every)

        for place, array in enumerate(loop.stage):
            slots = itertools.count()
            array.stages = length
            array.operation = array.operation.moved(lambda read: moved(place, next(slots), read))  # noqa: B023 - it is called at once
        return loop

    def _replaced(self, loop: Scan, start: int, period: int) -> Lowered:
        """The program with this loop in place of its stages. What comes after reads its results."""
        arrays, run = self.lowered.arrays, self.computed[start : start + period * loop.length]
        inside = {array: divmod(i, period) for i, array in enumerate(run)}
        first, last = arrays.index(run[0]), arrays.index(run[-1]) + 1
        stages: dict[int, list[int]] = {}  # place in the stage -> the stages that are results
        for t, place in sorted({inside[array] for array, _ in self.lowered.outputs if array in inside}):
            stages.setdefault(place, []).append(t)
        copies = {place: _copied(loop.stage[place], own) for place, own in stages.items()}

        def moved(read: Read) -> Read:
            if read.array not in inside:
                return read
            t, place = inside[read.array]
            return read.of(loop.stage[place], t * read.array.size)

        def output(array: Tensor, n: int) -> tuple[Tensor, int]:
            if array not in inside:
                return after.get(array, array), n
            t, place = inside[array]
            return copies[place], stages[place].index(t) * array.size + n

        after = _with_moved(arrays[last:], moved)
        of_loop = _array("loop", loop, loop.stage, ())
        numbers = itertools.count(max(array.number for array in every_array(self.lowered)) + 1)
        for array in [of_loop, *copies.values()]:
            array.number = next(numbers)
        leaves = [array for array in arrays[first:last] if array not in inside]
        return Lowered(
            [*arrays[:first], *leaves, of_loop, *copies.values(), *after.values()],
            [output(*end) for end in self.lowered.outputs],
            self.lowered.n_traced,
        )


def _copied(array: Tensor, stages: list[int]) -> Tensor:
    """Some stages of an array as an array of its own."""
    shape = array.shape if len(stages) == 1 else (len(stages), *array.shape)
    index = np.add.outer(np.array(stages) * array.size, np.arange(array.size)).reshape(shape)
    return _array("copy", Computation("rule", [Read(array, index)]), [array], shape)


def _stacked(lowered: Lowered, roles: list[list[Tensor]]) -> Lowered:
    """The program where the parameters of each role are the rows of one array."""
    rows: dict[Tensor, tuple[Tensor, int]] = {}  # parameter -> the array, and where it begins there
    for each in roles:
        places, shape = np.concatenate([row.places for row in each]), (len(each), *each[0].shape)
        whole = dataclasses.replace(each[0], size=len(places), shape=shape, places=places)
        rows |= {row: (whole, i * row.size) for i, row in enumerate(each)}

    def moved(read: Read) -> Read:
        return read.of(*rows.get(read.array, (read.array, 0)))

    after = _with_moved(lowered.arrays, moved)
    arrays = dict.fromkeys(rows[array][0] if array in rows else after[array] for array in lowered.arrays)
    outputs = [moved(Read(after[array], np.array(place))) for array, place in lowered.outputs]
    outputs_at = [(read.array, int(read.index)) for read in outputs]
    return dataclasses.replace(lowered, arrays=list(arrays), outputs=outputs_at)


def _with_moved(arrays: list[Tensor], moved: Callable[[Read], Read]) -> dict[Tensor, Tensor]:
    """Each of these arrays with moved(read) in place of every read. They read each other as before."""
    after: dict[Tensor, Tensor] = {}

    def follow(read: Read) -> Read:
        read = moved(read)
        return read.of(after.get(read.array, read.array))

    for array in arrays:
        after[array] = array
        if array.kind == "loop":
            array.operation.move(follow)
        elif array.operation is not None:
            operation = _joined(array, array.operation.moved(follow))
            after[array] = dataclasses.replace(array, operation=operation)
    return after


def _array(source: str, operation: Any, like: list[Tensor], shape: tuple[int, ...]) -> Tensor:
    """A new array that is batched, and differentiable, if one of `like` is."""
    batched, differentiable = any(a.batched for a in like), any(a.differentiable for a in like)
    return Tensor(-1, None, (source,), math.prod(shape), batched, differentiable, shape, operation)


def _joined(array: Tensor, operation: Computation) -> Computation:
    """An operation on results of several stages, which are one array now, in its simplest form."""
    reads = operation.operands
    if array.rule in REDUCTIONS and len({read.array for read in reads}) == 1 < len(reads):
        every = np.stack([read.index for read in reads], axis=-1)
        return Computation("reduction", [Read(reads[0].array, every)])
    parts: dict[Any, list[Terms]] = {}
    for part in operation.parts:
        key = part if part.is_matrix_product else (part.heads, *(read.array for read in part.factors))
        parts.setdefault(key, []).append(part)
    return sum_of([_longer(own) for own in parts.values()]) if parts else operation


def _longer(parts: list[Terms]) -> Terms:
    """Parts of a sum that read the same arrays as one part."""
    factors = zip(*(part.factors for part in parts), strict=True)
    indices = [np.concatenate([read.index for read in reads], axis=-1) for reads in factors]
    arrays = [read.array for read in parts[0].factors]
    return Terms(list(map(Read, arrays, indices)), parts[0].heads)


def carried_from(period: int, ahead: Mapping[int, int]) -> list[int]:
    """For each place at which a stage may begin: how many results later stages read. The fewest are best.

    ahead: place -> how many places on its result is read last. It is carried over each beginning on the way.
    """
    spans = [(place, place + n) for place, n in ahead.items()]
    return [
        sum((stop - first) // period - (start - first) // period for start, stop in spans)
        for first in range(period)
    ]
