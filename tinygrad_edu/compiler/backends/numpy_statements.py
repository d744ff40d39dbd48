"""Statements: the lines that compute a program into buffers."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..ir.routine import Access, Array, Loop, Routine, Stmt
from ..ir.symbols import Symbol
from .numpy_operations import Operations
from .text import ArrayText, Positions, bare, shown, tuple_text

WIDTH = 80  # of a formula in a comment, before the shape
MOST = 16  # operations in a formula of single numbers; a longer one is computed part by part
FORWARD, BACKWARD = "range({0!s})", "reversed(range({0!s}))"  # the stages of a loop


class Statements(Operations):
    """The statements of a program: each formula as a comment, and below it the lines that compute it.

    first  the lines of the first n_first items, and their buffers, which no later item writes into
    """

    def __init__(
        self,
        program: Routine,
        unbuffered: Iterable[Array],
        gaps: Iterable[Array],
        results: Iterable[Array],
        n_first: int = 0,
    ):
        super().__init__(program)
        self.elements.gaps, self.elements.forgotten = {*gaps}, _forgotten(program, {*results})
        self._unbuffered = set(unbuffered)
        self._of_numbers = False  # is the last line a formula of single numbers?
        statements = [stmt for stmt, _ in program.statements()]
        self._writers = Counter(stmt.out.array for stmt in statements)
        self.first: tuple[list[str], list[str]] = [], []
        for n, item in enumerate(program.items):
            if n == n_first:
                self.first, self.lines = (self.lines, [*self.buffers]), []
                self._free, self.filled = {}, {(*key, "first"): name for key, name in self.filled.items()}
            if isinstance(item, Loop):
                self._loop(item)
            else:
                self._statement(item)

    # --- Statements --------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop) -> None:
        before, self.lines, self.elements.t = self.lines, [], loop.axis
        for stmt in loop.body:
            self._statement(stmt)
        self.elements.t = None
        head = f"for t in {(BACKWARD if loop.reverse else FORWARD).format(loop.axis.size)}:"
        self.lines = [*before, "", head, *(f"    {line}".rstrip() for line in self.lines)]
        self._of_numbers = False

    def _statement(self, stmt: Stmt) -> None:
        if stmt in self._done:
            return
        out, value, array = stmt.out, stmt.value, stmt.out.array
        self._counts, self._saved, self._left = Counter(), {}, {}
        self._count(value)
        text = self._number_text(stmt)
        if not (text and self._is_variable(array)) and array not in self._unbuffered:
            self._buffer(array)
        if text:
            to = self.elements.element(out)
            end = "" if to.is_item or self._is_variable(array) else "[...]"
            self._heading(f"{to.code}{end} {'+=' if stmt.adds else '='} {text}")
            return
        to = self.elements.element(out, to_write=True)
        self._comment(stmt, to)
        if out.gather is not None:
            self._scatter(out, value, to)
        elif stmt.adds:
            read = self.operand(value, to.axes)
            added = shown(read, to.axes).code
            self.write(f"{to.code} += {added}" if to.is_item else f"np.add({to.code}, {added}, out={to.code})")
            self._release(value)
        else:
            self.into(value, to)
        for name in list(self._left):
            self._drop(ArrayText(name, ()))

    def _is_variable(self, array: Array) -> bool:
        """Is it a number that a variable holds, without a buffer?"""
        is_number = not array.batched and not array.dims
        is_alone = array.stages is None or array in self.elements.forgotten
        return is_number and is_alone and array not in self._unbuffered and self._writers[array] == 1

    def _buffer(self, array: Array) -> None:
        shape = array.shape()
        self.buffers[array.name] = shape[1:] if array in self.elements.forgotten else shape

    def _heading(self, line: str) -> None:
        """A line of single numbers, which needs no comment."""
        is_first = self.elements.t is not None and not self.lines  # of a loop
        self.lines += [line] if self._of_numbers or is_first else ["", line]
        self._of_numbers = True

    def _comment(self, stmt: Stmt, to: ArrayText) -> None:
        self._of_numbers = False
        out = stmt.out
        told = self.formulas.line(stmt)
        if out.gather is not None and self._repeats(out):
            flat, lead = self.elements.flat(out)
            places = bare([*["slice(None)"] * len(lead), self.elements.constant(out.gather)])
            told = (
                f"add.at({flat}, {f'({places})' if lead else places}, {self.formulas.text(stmt.value, to.axes)})"
            )
        shape = bare(axis.size for axis in to.axes)
        self.lines += [*[""] * (self.elements.t is None), f"{f'# {told}':<{WIDTH + 4}}  ({shape})"]

    @staticmethod
    def _repeats(out: Access) -> bool:
        return isinstance(out.gather, Positions) or bool(len(np.unique(out.gather)) < out.gather.size)

    def _count(self, x: Any) -> None:
        """How often every part of an expression is read."""
        stack = [x]
        while stack:
            x = stack.pop()
            if isinstance(x, Symbol) and x.op not in ("leaf", "get"):
                self._counts[x] += 1
                if self._counts[x] == 1:
                    stack += x.args

    def _scatter(self, out: Access, value: Any, to: ArrayText) -> None:
        """Add values to the elements at positions, which may repeat."""
        (flat, lead), order = self.elements.flat(out), to.axes
        sizes = tuple_text([axis.size for axis in order])
        text = shown(self.operand(value, order), order).code
        values = f"np.broadcast_to({text}, {sizes}).reshape({bare((*lead, -1))})"
        index = out.gather.ravel()
        if not self._repeats(out):
            self.write(f"{flat}[..., {self.elements.constant(index)}] += {values}")
        elif isinstance(out.gather, Positions):
            self.write(f"np.add.at({flat}, (..., {self.elements.constant(index)}), {values})")
        else:
            by = np.argsort(index, kind="stable")
            places, starts = np.unique(index[by], return_index=True)
            self.called.add("scatter_add")
            self.write(f"scatter_add({flat}, {bare(map(self.elements.constant, (places, by, starts)))}, {values})")
        self._release(value)

    # --- Single numbers ----------------------------------------------------------------------------------------

    def _number_text(self, stmt: Stmt) -> str:
        """The formula of a single number, for a statement. "" if it is long, or has parts to compute once."""
        out, value = stmt.out, stmt.value
        if set(out.free) - {self.elements.t} or out.gather is not None:
            return ""
        if max(self._counts.values(), default=1) > 1 or len(self._counts) > MOST or not self._is_single(value):
            return ""
        if not isinstance(value, Symbol) and self._is_variable(out.array):
            return ""  # a variable is a number of NumPy
        return self.text(value, ())


def _forgotten(program: Routine, results: set[Array]) -> set[Array]:
    """Arrays of stages that are read in their own loop alone, at the stage that was written: one is enough."""
    places: dict[Array, set[Any]] = {}
    for stmt, loop in program.statements():
        for access in (stmt.out, *stmt.reads()):
            if access.array.stages is not None:
                places.setdefault(access.array, set()).add((loop, access.row))
    return {
        array
        for array, rows in places.items()
        if array not in results and len(rows) == 1 and all(loop and row[1] is loop.axis for loop, row in rows)
    }
