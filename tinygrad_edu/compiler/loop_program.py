"""The program of a loop, and its gradient: the reversed loop.

The reversed loop passes gradients from stage to stage. What the stages read outside gets its gradient after the
loop, from all stages together: the gradient of a weight is one product.

    for t in range(T):                              for t in reversed(range(T)):
        h[t + 1] = tanh(x[t] @ W.T + h[t] @ U.T)        dz[t] = dh[t + 1] * (1 - h[t + 1] ** 2)
                                                        dh[t] = dz[t] @ U
                                                    dU = dz.T @ h[:-1]
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .differentiate import ArrayProgram, Definition, ScaledShare
from .loops import Loop, Result, all_stages
from .lower import CONSTANT, Array, Lowered, Read, reads_of
from .symbols import Symbol


@dataclass(frozen=True, eq=False)
class Stack:
    """An array for all stages, with the stages along its first axis, in front of the batch.

    array    one of its rows
    before   the number of rows before that of the first stage: stage t is row t + before
    length   the number of stages
    """

    name: str
    array: Array
    before: int
    length: int

    @property
    def size(self) -> int:
        return self.before + self.length

    def rows(self, first: int) -> str:
        """The text of as many rows as there are stages."""
        last = first + self.length
        return f"{self.name}[{first or ''}:{last if last < self.size else ''}]" if self.before else self.name


@dataclass(frozen=True, eq=False)
class Repeated:
    """`for t in range(length)`: definitions that are computed at each stage; backward from the last stage on.

    They read and write rows of stacks. A row is a leaf whose name is its text, as in `A1[t + 1]`. Its parts, the
    Stack A1 and 1, are in `LoopProgram.rows`. `before` are definitions that fill rows before the first stage.
    """

    length: int
    is_backward: bool
    before: list[Definition]
    definitions: list[Definition]
    stacks: list[Stack]


class LoopProgram(ArrayProgram):
    """An ArrayProgram whose definitions may be loops (`Repeated`).

    rows  the text of a row at stage t -> its stack, and the number of the row at t = 0
    """

    def __init__(self, lowered: Lowered, n_inputs: int, gradient: bool):
        self.rows: dict[str, tuple[Stack, int]] = {}
        self._stacks: dict[Array, Stack] = {}  # of the arrays of stages, and of windows
        self._seeds: dict[Loop, dict[tuple[Array, int | None], Symbol]] = {}
        self._inside: set[Array] = set()  # the arrays of a stage, while it is differentiated
        self._kept: dict[Array, Any] = {}  # and those whose gradients are read after the loop
        self._upstream: dict[Array, tuple[Stack, int]] = {}  # these gradients, as `rows` has them
        super().__init__(lowered, n_inputs, gradient)

    # --- Rows of stacks -----------------------------------------------------------------------------------------

    def _row(self, stack: Stack, first: int, at: str = "t") -> Symbol:
        """The row t + first of a stack; with at="" the row `first`."""
        array, number = stack.array, str(first) if first or not at else ""
        text = f"{stack.name}[{' + '.join(filter(None, (at, number)))}]"
        if at:
            self.rows[text] = stack, first
        return self.book.leaf(text, array.shape, array.batched)

    def _all_rows(self, stack: Stack, first: int) -> Symbol:
        """As many rows of a stack as there are stages, with the batch in front of them."""
        array, text = stack.array, stack.rows(first)
        shape = (stack.length, *array.shape)
        return self.book.leaf(f"{text}.swapaxes(0, 1)" if array.batched else text, shape, array.batched)

    @staticmethod
    def _fill(rows: Symbol, formula: Any, is_gradient: bool) -> Definition:
        """The definition of rows that are filled before a loop."""
        array = Array(-1, None, ("rows",), math.prod(rows.shape), rows.batched, False, rows.shape)
        return Definition(str(rows.args[0]), formula, array, is_gradient)

    # --- Forward ------------------------------------------------------------------------------------------------

    def _define(self, array: Array) -> None:
        match array.operation:
            case Loop() as loop:
                self._define_loop(loop)
            case Result(_, own, t):
                stack = self._stacks[own]
                formula = (
                    self._all_rows(stack, stack.before) if t is None else self._row(stack, stack.before + t, "")
                )
                is_output = any(array is output for output, _ in self.lowered.outputs)
                if is_output or (t is None and own.batched):  # a copy with the batch in front
                    self.definitions.append(Definition(array.name, formula, array))
                else:
                    self.symbols[array] = formula
            case _:
                super()._define(array)

    def _define_loop(self, loop: Loop) -> None:
        before, stacks = [], []
        for leaf, window in loop.windows.items():
            first = self._first_row(leaf, window)
            name = leaf.name if first is None else window.array.name
            self._stacks[leaf] = stack = Stack(name, leaf, first or 0, loop.length)
            self.symbols[leaf] = self._row(stack, stack.before)
            if first is None:
                elements = self._read(window, window.index.shape)
                before.append(self._fill(self._all_rows(stack, 0), elements, False))
                stacks.append(stack)
        for array in loop.stage:
            initial = loop.initial.get(array, [])
            self._stacks[array] = stack = Stack(array.name, array, len(initial), loop.length)
            self.symbols[array] = self._row(stack, stack.before)
            for i, read in enumerate(initial):
                before.append(self._fill(self._row(stack, i, ""), self._read(read, array.shape), False))
        for leaf, (array, distance) in loop.earlier.items():
            stack = self._stacks[array]
            self.symbols[leaf] = self._row(stack, stack.before - distance)
        definitions = [Definition(str(self.symbols[a].args[0]), self._formula(a), a) for a in loop.stage]
        stacks += [self._stacks[array] for array in loop.stage]
        self.definitions.append(Repeated(loop.length, False, before, definitions, stacks))

    def _first_row(self, leaf: Array, window: Read) -> int | None:
        """The first row of a window that is the last rows of an array, which are read where they are."""
        array, index = window.array, window.index.ravel()
        is_stack = array.shape[1:] == leaf.shape and array.source != CONSTANT and not array.batched
        if not is_stack or str(self.symbols[array].args[0]) != array.name:
            return None
        return int(index[0]) // leaf.size if np.array_equal(index, np.arange(index[0], array.size)) else None

    # --- Backward -----------------------------------------------------------------------------------------------

    def _backward_through(self, array: Array) -> None:
        match array.operation:
            case Result(loop, own, t):
                if shares := self._shares.pop(array, []):
                    name, formula = f"d{array.name}", self._scaled(self._collected(shares, array))
                    self.definitions.append(Definition(name, formula, array, True))
                    self._seeds.setdefault(loop, {})[own, t] = self.book.leaf(name, array.shape, array.batched)
            case Loop() as loop:
                if loop in self._seeds:
                    self._backward_loop(loop)
            case _:
                super()._backward_through(array)

    def _backward_loop(self, loop: Loop) -> None:
        """The reversed loop. Then what the stages read outside gets its shares from all stages at once."""
        # 1. The leaves that stand for all stages.
        wholes: dict[Array, Array] = {}
        for array in (*loop.stage, *loop.earlier, *loop.windows):
            if array not in loop.windows or not loop.windows[array].array.differentiable:
                shape = (loop.length, *array.shape)
                wholes[array] = whole = replace(array, rule=None, source=("stack",), shape=shape, operation=None)
                whole.differentiable = False
                self.symbols[whole] = self._all_rows(*self.rows[str(self.symbols[array].args[0])])
        later = {a: at_all for a in loop.stage if (at_all := all_stages(loop, a, wholes))}

        # 2. One stage. What later stages or the rest of the program read has a stack for the gradients from there.
        read = {r.array for array in loop.stage if array.differentiable for r in reads_of(array.operation)}
        from_later: dict[Array, Stack] = {}
        for array in loop.stage:
            if array.differentiable and (array in loop.initial or any(a is array for a, _ in self._seeds[loop])):
                name, n = f"d{array.name}{'_later' if array in read else ''}", len(loop.initial.get(array, []))
                from_later[array] = stack = Stack(name, array, n, loop.length)
                self._shares[array] = [ScaledShare(self._row(stack, n))]
        self._inside, self._kept = {*loop.stage, *loop.earlier}, later
        outer, self.definitions = self.definitions, []
        for array in reversed(loop.stage):
            if array.differentiable:
                self._backward_through(array)
        before, complete = self._pass_back(loop, from_later)
        stacks = list(dict.fromkeys([*from_later.values(), *(stack for stack, _ in self._upstream.values())]))
        repeated = Repeated(loop.length, True, before, self.definitions, stacks)
        self.definitions, self._inside, self._kept = [*outer, repeated], set(), {}

        # 3. All stages at once.
        for array, rows in self._upstream.items():
            self.symbols[later[array]] = self.symbols[wholes[array]]
            self._through_operation(later[array], ScaledShare(self._all_rows(*rows)))
        self._upstream = {}
        for array, stack in from_later.items():
            for i in range(complete[array], stack.before):
                row = self._row(stack, i, "")
                self._give(array, loop.initial[array][i], array.shape, row, ScaledShare(None))

    def _pass_back(self, loop: Loop, from_later: dict[Array, Stack]) -> tuple[list[Definition], dict[Array, int]]:
        """Give earlier stages their shares. Returns what is filled in first, and the first row that is complete.

        A row that nothing else gives to is written, not added to.
        """
        before: list[Definition] = []
        complete: dict[Array, int] = {}
        shares = {array: dict[int, Any]() for array in from_later}  # distance -> share
        for leaf, (array, distance) in loop.earlier.items():
            if own := self._shares.pop(leaf, []):
                shares[array][distance] = self._scaled(self._collected(own, leaf))
        for array, stack in from_later.items():
            seeds = {t: seed for (of, t), seed in self._seeds[loop].items() if of is array}
            last = min(shares[array], default=0)  # so many stages are read by no later one
            is_written = len(shares[array]) == 1 and all(t is not None and t >= loop.length - last for t in seeds)
            complete[array] = stack.before - last if is_written else 0
            if is_written:
                for stage in range(loop.length - last, loop.length):
                    row = self._row(stack, stack.before + stage, "")
                    before.append(self._fill(row, seeds.get(stage, 0.0), True))
            else:
                if stack.before or None not in seeds:
                    everything = self.book.leaf(stack.name, array.shape, array.batched)
                    before.append(self._fill(everything, 0.0, True))
                for t, seed in sorted(seeds.items(), key=lambda item: item[0] is not None):
                    if t is None:
                        before.append(self._fill(self._all_rows(stack, stack.before), seed, True))
                    else:
                        before.append(self._added(self._row(stack, stack.before + t, ""), seed))
            for distance, share in shares[array].items():
                row = self._row(stack, stack.before - distance)
                definition = Definition(str(row.args[0]), share, array, True)
                self.definitions.append(definition if is_written else self._added(row, share))
        return before, complete

    def _added(self, row: Symbol, share: Any) -> Definition:
        """The definition that adds a share to a row."""
        return self._fill(row, self.book.special("accumulate", (row, share), row.shape, row.batched), True)

    def _gradient(self, array: Array, shares: list[ScaledShare]) -> ScaledShare:
        if array not in self._kept:
            return super()._gradient(array, shares)
        formula = self._scaled(self._collected(shares, array))
        name = str(formula.args[0]) if isinstance(formula, Symbol) and formula.op == "leaf" else ""
        if name not in self.rows:
            row = self._row(Stack(f"d{array.name}", array, 0, self._stacks[array].length), 0)
            name = str(row.args[0])
            self.definitions.append(Definition(name, formula, array, True))
            formula = row
        self._upstream[array] = self.rows[name]
        return ScaledShare(formula)

    def _give(self, array: Array, read: Read, *arguments: Any, **options: Any) -> None:
        if not self._inside or read.array in self._inside:
            super()._give(array, read, *arguments, **options)
