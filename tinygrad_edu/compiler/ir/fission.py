"""Fission: what a recurrence does not need leaves its loop.

    for t in range(T):                              XW = X.transpose(1, 0, 2) @ W.T
        Z[t] = h[t] @ U.T + X[:, t] @ W.T     ->    for t in range(T):
        h[t + 1] = tanh(Z[t])                           Z[t] = h[t] @ U.T + XW[t]
        y[t] = h[t + 1] @ v                             h[t + 1] = tanh(Z[t])
                                                    y = h[1:] @ v

A product of what is outside is one product for all stages, before the loop, a row for each: a stage reads what is
dense in memory. What no later stage reads is computed after the loop. There, the stage is an axis like all others.
"""

from collections.abc import Iterator
from typing import Any

from .routine import Array, Axis, Loop, Routine, Stmt, new_name, over, reads_in
from .symbols import Symbol


def fission(program: Routine) -> Routine:
    """The program with smaller loops."""
    names = {array.name for array in program.arrays()}
    items: list[Stmt | Loop] = []
    for item in program.items:
        items += _split(program, item, names) if isinstance(item, Loop) else [item]
    return Routine(program.book, items, program.leaves)


def _split(program: Routine, loop: Loop, names: set[str]) -> Iterator[Stmt | Loop]:
    needed = _needed(loop)
    body, after = [], []
    written = {stmt.out.array for stmt in loop.body}
    for stmt in loop.body:
        if stmt.out.array not in needed:
            after.append(stmt)
            continue
        ahead, stmt = _ahead(program, stmt, loop.axis, written, names)
        yield from ahead
        body.append(stmt)
    if body:
        yield Loop(loop.axis, body)
    yield from after


def _needed(loop: Loop) -> set[Array]:
    """The arrays that later stages need."""
    rows = {stmt.out.array: stmt.out.row for stmt in loop.body}
    needed = {
        read.array for stmt in loop.body for read in stmt.reads() if rows.get(read.array, read.row) != read.row
    }
    for stmt in reversed(loop.body):
        if stmt.out.array in needed:
            needed |= {read.array for read in stmt.reads()}
    return needed


def _ahead(program: Routine, stmt: Stmt, t: Axis, written: set[Array], names: set[str]) -> tuple[list[Stmt], Stmt]:
    """The products of a sum that read nothing of the loop, as a statement before it; and the rest."""
    terms = list(_terms(stmt.value))
    free = [term for term in terms if not any(read.array in written for read in reads_in(term))]
    products = [term for term in free if isinstance(term, Symbol) and term.op == "sum"]
    if not products or len(free) == len(terms):
        return [], stmt
    read = [access.array for term in free for access in reads_in(term)]
    axes = [axis for axis in stmt.out.named if axis is not t]
    factors = [read.array.name for read in reads_in(products[0])][:2]
    name = new_name("".join(reversed(factors)), names)  # XW1 for the product of X and W1
    dims = tuple(axis.size for axis in axes)
    array = Array(name, dims, any(a.batched for a in read), any(a.learns for a in read), stages=t.size)
    access = over(array, axes, (0, t, 1))
    others = {id(term) for term in terms}.difference(map(id, free))
    rest: Any = sum((term for term in terms if id(term) in others), 0.0)
    return [Stmt(access, sum(free, 0.0))], Stmt(stmt.out, rest + program.book.get(access))


def _terms(x: Any) -> Iterator[Any]:
    if isinstance(x, Symbol) and x.op == "add":
        for part in x.args:
            yield from _terms(part)
    else:
        yield x
