"""Front: the program of lowered arrays. Integers, which say what is read, become axes: see `axes.py`."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from operator import add
from typing import Any

from ..find.group import REDUCTIONS
from ..find.lowered import CONSTANT, Computation, Lowered, Read, Scan, Tensor
from ..find.normalise import LOGSUMEXP
from ..find.views import Indices
from ..trace.placeholder import TAKE
from .axes import Reads
from .routine import Access, Array, Axis, Expressions, Loop, Routine, Stmt, free_of, over, whole
from .symbols import forward_of

MANY = 100  # terms of a sum; more are several sums
FEW = 8  # operands of max and min; more are put side by side
KINDS = {"max": "max_", "min": "min_", "logsumexp": "logsumexp"}


class Front:
    """Makes `program`, and `arrays`: those of the program, for each that was lowered."""

    def __init__(self, lowered: Lowered):
        self.book: Expressions = Expressions()
        self.items: list[Any] = []  # statements and loops
        self.arrays: dict[Tensor, Array] = {}
        self._constants: dict[Any, Array] = {}
        self._copies: dict[Array, Array] = {}  # stages -> the same with the batch in front
        self.t: Any = None  # the axis of the loop that is made
        self._rows: dict[Tensor, int] = {}  # of arrays with stages: the rows before that of the first one
        self._outside = self.items
        self._n_parts = 0
        for old in lowered.arrays:
            match old.operation:
                case Scan() as loop:
                    self._roll(loop)
                case None:
                    if old.source != CONSTANT:
                        of_leaf = old.differentiable, old.source, old.places
                        self.arrays[old] = Array(old.name, old.shape, old.batched, *of_leaf)
                case _:
                    self._define(old)
        leaves = [array for array in self.arrays.values() if array.source] + list(self._constants.values())
        self.program: Routine = Routine(self.book, self.items, leaves)

    # --- Loops -------------------------------------------------------------------------------------------------

    def _roll(self, loop: Scan) -> None:
        for old in loop.stage:
            self._rows[old] = len(loop.initial.get(old, ()))
            n = self._rows[old] + loop.length
            self.arrays[old] = self._made(old, n)
        for old, reads in loop.initial.items():
            array = self.arrays[old]
            for row, read in enumerate(reads):
                statement = Reads(self, old.shape)
                value = statement.read(read)
                self._write(statement, array, (row, None, 1), value)
        self.t, self.items = Axis(loop.length), (body := list[Any]())
        for old in loop.stage:
            self._define(old)
        self.items = self._outside
        self.items.append(Loop(self.t, body))
        self.t = None

    def resolved(self, read: Read, shape: tuple[int, ...]) -> tuple[Any, Any, Indices, bool]:
        """(array, row, positions in this shape, do they begin with the stages of the loop?)

        The row is a number for an array of a loop that was before: then its stages are among the positions.
        """
        array: Any = read.array if read.array.source == CONSTANT else self.arrays[read.array]
        row: Any = self._rows.get(read.array)
        if read.every is not None:
            return array, row, read.every.reshape(len(read.every), *shape), True
        row = row if read.back is None else (row - read.back, self.t, 1)
        return array, row, read.index.reshape(shape), False

    def copied(self, array: Array) -> Array:
        """The stages of an array with the batch in front, where they are read in no order."""
        if array not in self._copies:
            every = whole(array)
            copy = self.part((array.stages, *array.dims), array.batched, array.learns)
            at = (every.row, *every.at)
            self._outside.append(Stmt(Access(copy, None, copy.dims, at), self.book.get(every)))  # type: ignore[arg-type]
            self._copies[array] = copy
        return self._copies[array]

    def part(self, dims: Any, batched: bool, learns: bool, stages: int | None = None) -> Array:
        """An array for a part of a statement."""
        self._n_parts += 1
        return Array(f"part_{self._n_parts}", tuple(dims), batched, learns, stages=stages)

    def constant(self, numbers: Any, name: str) -> Array:
        """An array of numbers."""
        key = (numbers.shape, numbers.tobytes())
        if key not in self._constants:
            taken = {array.name for array in self._constants.values()}
            name += f"_{len(self._constants) + 1}" * (name in taken)
            self._constants[key] = Array(name, numbers.shape, False, False, CONSTANT, numbers)
        return self._constants[key]

    # --- Statements --------------------------------------------------------------------------------------------

    def _write(self, statement: Reads, array: Array, row: Any, value: Any, **of_rule: Any) -> None:
        axes = statement.out_axes()
        array.dims = tuple(axis.size for axis in axes)
        self.items.append(Stmt(over(array, axes, row), value, **of_rule))

    def _array(self, old: Tensor) -> tuple[Array, Any]:
        """The array of a result, and the row that a statement writes."""
        if self.t is not None:
            return self.arrays[old], (self._rows[old], self.t, 1)
        if old not in self.arrays:
            self.arrays[old] = self._made(old)
        return self.arrays[old], None

    def _made(self, old: Tensor, stages: int | None = None) -> Array:
        return Array(old.name, old.shape, old.batched, old.differentiable, stages=stages, softmax=old.softmax)

    def _define(self, old: Tensor) -> None:
        statement = Reads(self, old.shape)
        match old.operation:
            case Computation("rule", reads) if old.rule in (LOGSUMEXP, TAKE) or (
                old.rule in REDUCTIONS and len(reads) > FEW
            ):
                value = self._stacked(old, statement, reads)
            case Computation("rule", reads):
                jobs = [statement.job(read, old.shape) for read in reads]
                operands = tuple(map(statement.element, jobs))
                array, row = self._array(old)
                if old.rule is None:
                    return self._write(statement, array, row, operands[0])
                value = self._applied(old, statement, operands)
                return self._write(statement, array, row, value, rule=old.rule, operands=operands)
            case Computation("reduction", [read]):
                slots = (*range(len(old.shape)), "k")
                body = statement.element(statement.job(read, (*old.shape, -1), slots))
                value = self.book.reduce(KINDS[str(old.rule.name)], statement.axes["k"], body)  # type: ignore[union-attr]  # it has a rule
            case Computation("softmax", [read]):
                body = statement.read(read)
                value = self.book.reduce("softmax", statement.axes[len(old.shape) - 1], body)
            case Computation("take", [index, options]):
                value = self._taken(old, statement, index, options)
            case Computation("sum", _, parts):
                terms = [statement.summed(part.factors) for part in parts]
                sums = [term() for term in terms]
                while len(sums) > MANY:  # an expression must not be too deep
                    sums = [functools.reduce(add, sums[i : i + MANY]) for i in range(0, len(sums), MANY)]
                value = functools.reduce(add, sums)
        self._write(statement, *self._array(old), value)

    def _applied(self, old: Tensor, statement: Reads, operands: Sequence[Any]) -> Any:
        """The rule's own forward on symbols. A rule that cannot run on symbols is called on arrays."""
        rule: Any = old.rule
        value = forward_of(rule, *operands)
        if value is not None:
            return value
        return self.book.special("call", (rule, "forward", *operands), None)

    def _stacked(self, old: Tensor, statement: Reads, reads: Sequence[Read]) -> Any:
        """A reduction of elements of several arrays, which are put side by side first."""
        is_take = old.rule is TAKE
        index, reads = (reads[0], reads[1:]) if is_take else (None, reads)
        n = len(reads)
        batched = any(read.array.batched for read in reads)
        learns = any(read.array.differentiable for read in reads)
        side = self.part((*old.shape, n), batched, learns, self.t and self.t.size)
        row = self.t and (0, self.t, 1)
        for i, read in enumerate(reads):
            own = Reads(self, old.shape)
            value = own.read(read)
            at = (*((0, axis, 1) for axis in own.out_axes()), (i, None, 1))
            self.items.append(Stmt(Access(side, row, (*(axis.size for axis in own.out_axes()), n), at), value))
        last = Axis(n)
        jobs = [statement.job(index, old.shape)] if index is not None else []
        element = [statement.element(job) for job in jobs]
        axes = [*statement.out_axes(), last]
        body = self.book.get(replace(over(side, axes, row), dims=tuple(axis.size for axis in axes)))
        if index is None:
            return self.book.reduce(KINDS[str(old.rule.name)], [last], body)  # type: ignore[union-attr]  # it has a rule
        return self.picked(body, last, element[0])

    def picked(self, body: Any, axis: Axis, index: Any) -> Any:
        """The element of the body at this place of an axis."""
        if axis not in free_of(body):  # there is one option, or all are the same
            return body
        free = {*free_of(body), *free_of(index)} - {axis}
        return self.book.special("pick", (body, axis, index), free)

    def _taken(self, old: Tensor, statement: Reads, index: Read, options: Read) -> Any:
        job, slots = statement.job(index, old.shape), (*range(len(old.shape)), "v")
        table = statement.job(options, (*old.shape, -1), slots, no_split=("v",))
        (axis,) = statement.axes["v"] or [Axis(1)]
        return self.picked(statement.element(table), axis, statement.element(job))
