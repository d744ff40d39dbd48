"""Programs: arrays, and statements over named axes.

A statement computes an array, element by element: Z[b, i] = sum(k: X[b, k] * W[i, k]) + c[i]. The batch is the
axis B, and the stage of a loop is an axis. An expression is made of elements of arrays (`get`), numbers, pointwise
operations, and reductions over axes that the result does not have.

An array without an axis is the same all along that axis. So the gradient of a weight is a sum over B.

    get(access)                     an element of an array
    sum, max_, min_, logsumexp      (body, axes): over all elements along these axes
    softmax                         (body, axes): for each of these elements
    pick                            (body, axis, index): the element of the body at this place of the axis
    one_hot                         (index, axis): 1 where the axis is at the index, else 0
    call                            (rule, what, *inputs): a function of a rule that does not run on symbols
    tanh_slope, sigmoid_slope       (out, input): they keep digits in the tails
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...engine.rule import Rule
from .symbols import Book, Symbol

REDUCTIONS = ("sum", "max_", "min_", "logsumexp", "softmax")
Part = tuple[int, Any, int]  # along a dimension: start, axis (None for one element), step
_numbers = itertools.count()


class Axis:
    """size: how many elements; "B" for the batch. Two axes are never the same, whatever their sizes."""

    __slots__ = ("number", "size")

    def __init__(self, size: Any):
        self.size: Any = size
        self.number: int = next(_numbers)

    def __repr__(self) -> str:
        return f"axis_{self.number}"


B: Axis = Axis("B")


@dataclass(eq=False)
class Array:
    """dims: of one example, at one stage.

    stages   the number of rows, if it has one for each stage of a loop: its first axis, before the batch
    learns   does it depend on a parameter, with slopes on the way?
    source   of a leaf: ("input", n), ("parameter",) or ("constant",)
    places   of a parameter: where its numbers stand in the vector; of a constant: its numbers
    softmax  what the softmax beside a logsumexp is called, if it has a name of its own
    """

    name: str
    dims: tuple[int, ...]
    batched: bool
    learns: bool = False
    source: tuple[Any, ...] = ()
    places: Any = None
    stages: int | None = None
    softmax: str = ""

    @property
    def size(self) -> int:
        """The number of elements, without the batch and the stages."""
        return math.prod(self.dims)

    def shape(self) -> tuple[Any, ...]:
        """As it is stored."""
        return *([] if self.stages is None else [self.stages]), *["B"] * self.batched, *self.dims


@dataclass(eq=False)
class Access:
    """Elements of an array: of the stage `row`, reshaped to `dims`, `at` says which ones along each dimension.

    gather: positions among the elements of a stage, an array over `axes`, where there is no such pattern.
    """

    array: Array
    row: Part | None
    dims: tuple[int, ...]
    at: tuple[Part, ...]
    gather: Any = None
    axes: tuple[Axis, ...] = ()

    @property
    def named(self) -> tuple[Axis, ...]:
        """Its axes, without the batch."""
        row = [] if self.row is None or self.row[1] is None else [self.row[1]]
        own = self.axes if self.gather is not None else [axis for _, axis, _ in self.at if axis is not None]
        return *row, *own

    @property
    def free(self) -> tuple[Axis, ...]:
        """All its axes."""
        return ((B,) if self.array.batched else ()) + self.named

    @property
    def is_whole(self) -> bool:
        """Does it have every element once?"""
        rows = [] if self.row is None else [(self.row, self.array.stages)]
        return self.gather is None and all(
            start == 0 and (size == 1 if axis is None else axis.size == size and step == 1)
            for (start, axis, step), size in [*rows, *zip(self.at, self.dims, strict=True)]
        )

    def renamed(self, names: dict[Axis, Axis]) -> "Access":
        """The same elements over other axes."""
        at = tuple((start, axis and names.get(axis, axis), step) for start, axis, step in self.at)
        row = self.row and (self.row[0], self.row[1] and names.get(self.row[1], self.row[1]), self.row[2])
        return Access(self.array, row, self.dims, at, self.gather, tuple(names.get(a, a) for a in self.axes))

    def of(self, array: Array) -> "Access":
        """The same elements of another array."""
        return Access(array, self.row, self.dims, self.at, self.gather, self.axes)

    @property
    def pattern(self) -> Any:
        """Equal for accesses that reach the same elements, whatever their axes are called."""
        parts = [*([] if self.row is None else [self.row]), *self.at]
        gather = None if self.gather is None else (self.gather.shape, self.gather.tobytes())
        return self.dims, gather, tuple((start, axis and axis.size, step) for start, axis, step in parts)

    def positions(self) -> Any:
        """The positions of the elements in the array without its batch, over the named axes."""
        sizes = [axis.size for axis in self.named]
        total: Any = np.zeros((), np.intp)
        stride = 1
        parts = [] if self.gather is not None else list(zip(self.at, self.dims, strict=True))
        if self.gather is not None:
            total = self.gather
        for (start, axis, step), size in reversed(parts):
            total, stride = total + self._along(axis, start * stride, step * stride), stride * size
        if self.row is not None:
            start, axis, step = self.row
            total = total + self._along(axis, start * self.array.size, step * self.array.size)
        return np.broadcast_to(total, sizes)

    def _along(self, axis: Axis | None, start: int, step: int) -> Any:
        if axis is None:
            return np.array(start)
        line = np.arange(axis.size) * step + start
        return line.reshape([-1 if other is axis else 1 for other in self.named])


def whole(array: Array) -> Access:
    """All elements of an array, over new axes."""
    row = None if array.stages is None else (0, Axis(array.stages), 1)
    return over(array, map(Axis, array.dims), row)


def over(array: Array, axes: Iterable[Axis], row: Part | None = None) -> Access:
    """All elements of an array, or of a stage, over these axes."""
    return Access(array, row, array.dims, tuple((0, axis, 1) for axis in axes))


def new_name(name: str, names: set[str]) -> str:
    """A name that is none of these, and is one of them from now on."""
    while name in names:
        name += "_"
    names.add(name)
    return name


class Expressions(Book):
    """All expressions, each once. The `shape` of a Symbol is the set of its free axes."""

    def __init__(self) -> None:
        super().__init__()
        self._accesses: dict[Any, Access] = {}
        self.size: Symbol = self.leaf("B")

    def get(self, access: Access) -> Symbol:
        """An element of an array."""
        gather = None if access.gather is None else (access.gather.shape, access.gather.tobytes())
        key = access.array, access.row, access.dims, access.at, gather, access.axes
        access = self._accesses.setdefault(key, access)
        return self.special("get", (access,), access.free)

    def reduce(self, kind: str, over: Iterable[Axis], body: Any) -> Any:
        """A reduction over axes, in its simplest form."""
        free, over = free_of(body), sorted(over, key=lambda axis: axis.number)
        if kind == "sum":
            return self._sum(over, body)
        copies = math.prod(axis.size for axis in over if axis not in free)
        over, is_softmax = [axis for axis in over if axis in free], kind == "softmax"
        value: Any = 1.0 if is_softmax else body
        if over:
            value = self.special(kind, (body, tuple(over)), free if is_softmax else free.difference(over))
        if copies == 1 or kind in ("max_", "min_"):
            return value
        return value / copies if is_softmax else value + math.log(copies)

    def _sum(self, over: list[Axis], body: Any) -> Any:
        free = free_of(body)
        for axis in over:
            if axis not in free:
                body = body * (self.size if axis is B else float(axis.size))
        over = [axis for axis in over if axis in free]
        if not over:
            return body
        if body.op == "mul":
            a, b = body.args
            of_a, of_b = ([axis for axis in over if axis not in free_of(other)] for other in (b, a))
            if of_a or of_b:
                a, b = self._sum(of_a, a) if of_a else a, self._sum(of_b, b) if of_b else b
                return self._sum([axis for axis in over if axis not in (*of_a, *of_b)], a * b)
        return self.special("sum", (body, tuple(over)), free.difference(over))

    def renamed(self, x: Any, names: dict[Axis, Axis]) -> Any:
        """x over other axes, bound ones too."""
        if not isinstance(x, Symbol) or not names:
            return x
        done: dict[Symbol, Any] = {}

        def new(x: Any) -> Any:
            if x.__class__ is Axis:
                return names.get(x, x)
            if x.__class__ is tuple:
                return tuple(map(new, x))
            if not isinstance(x, Symbol) or x.op == "leaf":
                return x
            if x not in done:
                done[x] = self._rebuilt(x, names, new)
            return done[x]

        return new(x)

    def _rebuilt(self, x: Symbol, names: dict[Axis, Axis], new: Any) -> Any:
        if x.op == "get":
            return self.get(x.args[0].renamed(names)) if not x.axes.isdisjoint(names) else x
        args = tuple(map(new, x.args))
        if x.op in REDUCTIONS or x.op in ("pick", "one_hot", "call"):
            return self.special(x.op, args, (names.get(axis, axis) for axis in x.axes))
        return self.make(x.op, *args)


def free_of(x: Any) -> frozenset[Axis]:
    """The free axes of an expression; none of a number."""
    return x.axes if isinstance(x, Symbol) else frozenset()


def parts_of(x: Any) -> Iterator[Symbol]:
    """All expressions in an expression, each once, and itself."""
    stack, seen = [x], set[Symbol]()
    while stack:
        x = stack.pop()
        if isinstance(x, Symbol) and x not in seen:
            seen.add(x)
            yield x
            stack += x.args


def reads_in(x: Any) -> Iterator[Access]:
    """What an expression reads."""
    return (part.args[0] for part in parts_of(x) if part.op == "get")


@dataclass(eq=False)
class Stmt:
    """out = value, or out += value. If the value is that of a rule, also the rule and its operands."""

    out: Access
    value: Any
    adds: bool = False
    rule: Rule | None = None
    operands: tuple[Any, ...] = ()

    @property
    def body(self) -> list["Stmt"]:
        """Itself alone, where a loop has its statements."""
        return [self]

    def reads(self) -> Iterator[Access]:
        """What it reads."""
        return reads_in(self.value)


@dataclass(eq=False)
class Loop:
    """for axis in range(axis.size): body; from the last stage on if it is `reverse`."""

    axis: Axis
    body: list[Stmt]
    reverse: bool = False


@dataclass(eq=False)
class Routine:
    """items     the statements and loops, in order
    adjoints  array -> the array of its gradient
    """

    book: Expressions
    items: list[Stmt | Loop]
    leaves: list[Array]
    adjoints: dict[Array, Array] = field(default_factory=dict)

    def statements(self) -> Iterator[tuple[Stmt, Loop | None]]:
        """Every statement, with the loop in which it stands."""
        for item in self.items:
            yield from ((stmt, item if isinstance(item, Loop) else None) for stmt in item.body)

    def arrays(self) -> dict[Array, None]:
        """All arrays, in order: leaves, and what is computed."""
        return dict.fromkeys([*self.leaves, *(stmt.out.array for stmt, _ in self.statements())])
