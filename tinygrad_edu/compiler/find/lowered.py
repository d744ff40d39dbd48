"""Lowered: the arrays of a program and their operations, before they become statements."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...engine.rules import Rule
from .views import Indices, digits_of_axes

CONSTANT, PARAMETER = ("constant",), ("parameter",)  # sources


@dataclass(eq=False)
class Tensor:
    """A group as an array: of `shape` for one example, () for a single number.

    batched         does every example have one of its own?
    differentiable  does it depend on a parameter, with slopes on the way?
    operation       how it is computed; None for a leaf
    places          of parameters: their places in the vector of all parameters; of constants: their numbers
    has_holes       are there elements that stand for no node?
    is_mask         is it of constants that fill up short rows?
    zeros           which elements are 0 whatever the example, if some are
    stages          in how many stages of a loop it is computed, None outside of loops
    """

    number: int
    rule: Rule | None
    source: tuple[Any, ...]
    size: int
    batched: bool
    differentiable: bool
    shape: tuple[int, ...] = ()
    operation: Any = None
    places: Any = None
    name: str = ""
    has_holes: bool = False
    is_mask: bool = False
    zeros: Any = None
    stages: int | None = None

    def __repr__(self) -> str:
        return f"<{self.name or self.number} {self.shape}>"


@dataclass(eq=False)
class Read:
    """Elements of an array, by their positions. Those of an array with stages are counted stage after stage.

    Two fields are for what a stage of a loop reads.

    back   of an array of the same loop: as it was so many stages before. None for an array outside
    every  the positions at each stage, an axis more in front. None if they are the same at all stages
    """

    array: Tensor
    index: Indices
    back: int | None = None
    every: Indices | None = None

    def of(self, array: Tensor, shift: int = 0) -> "Read":
        """The same elements of another array, so many positions further."""
        every = self.every if self.every is None else self.every + shift
        return Read(array, self.index + shift if shift else self.index, self.back, every)


@dataclass(eq=False)
class Elementwise:
    """out[n] = rule(operand[index[n]], ...)."""

    operands: list[Read]


@dataclass(eq=False)
class Reduction:
    """out[n] = rule(operand[index[n, 0]], operand[index[n, 1]], ...)."""

    operand: Read


@dataclass(eq=False)
class Softmax:
    """out[n, i] = e^z[n, i] / (e^z[n, 0] + e^z[n, 1] + ...) where z[n] = operand[index[n]]."""

    operand: Read


@dataclass(eq=False)
class Take:
    """out[n] = options[n, index[n]]."""

    index: Read
    options: Read


@dataclass(eq=False)
class Terms:
    """out[n] = a[ia[n, 0]] + a[ia[n, 1]] + ..., or with two factors, out[n] = a[ia[n]] . b[ib[n]].

    If n goes over a grid, all rows of one factor times all rows of the other, this is a product of matrices, as
    Z = X @ W.T. `heads` says how many of them lie side by side; 0 for any other sum.
    """

    factors: list[Read]
    heads: int = 0


@dataclass(eq=False)
class Total:
    """The sum of its parts."""

    parts: list[Terms]


@dataclass
class Lowered:
    """The arrays in order, and where every output stands: (array, position).

    is_padded: does it compute elements that the scalars do not have?
    padded: the arrays that read such elements, where a mask makes them neutral
    """

    arrays: list[Tensor]
    outputs: list[tuple[Tensor, int]]
    n_traced: int = 0
    is_padded: bool = False
    padded: list[Tensor] = field(default_factory=list)

    @property
    def n_products(self) -> int:
        """How many matrix products it has."""
        totals = [array.operation for array in every_array(self) if isinstance(array.operation, Total)]
        return sum(is_matrix_product(part) for total in totals for part in total.parts)


def is_matrix_product(part: Terms) -> bool:
    """Is it more than the product of two vectors?"""
    index = part.factors[0].index
    return part.heads > 0 and index.size > index.shape[-1]


def reads_of(operation: Any) -> list[Read]:
    """All that an operation reads, in order; nothing for a leaf."""
    match operation:
        case Elementwise():
            return list(operation.operands)
        case Reduction() | Softmax():
            return [operation.operand]
        case Take():
            return [operation.index, operation.options]
        case Total():
            return [read for part in in_order(operation.parts) for read in part.factors]
    return []


def in_order(parts: list[Terms]) -> list[Terms]:
    """The parts of a sum in the order of the source: matrix products first."""
    return sorted(parts, key=lambda part: (not is_matrix_product(part), len(part.factors) == 1))


@dataclass(eq=False)
class Scan:
    """The operation of an array that stands for a whole loop, `for t in range(length)`.

    stage    the arrays of one stage, in order. They read each other, and arrays outside of the loop
    initial  array of the stage -> what stands for it in the stages before the first one, the last of them last
    """

    length: int
    stage: list[Tensor]
    initial: dict[Tensor, list[Read]] = field(default_factory=dict)

    def reads(self) -> list[Read]:
        """All that the loop reads, of itself as well."""
        stage = [read for array in self.stage for read in reads_of(array.operation)]
        return [*stage, *itertools.chain(*self.initial.values())]

    def move(self, moved: Callable[[Read], Read]) -> None:
        """Read moved(read) in place of every read."""
        for array in self.stage:
            array.operation = with_reads(array.operation, moved)
        self.initial = {array: list(map(moved, reads)) for array, reads in self.initial.items()}


def every_array(lowered: Lowered) -> Iterator[Tensor]:
    """The arrays of a program, those of the stages of its loops among them."""
    for array in lowered.arrays:
        yield array
        if isinstance(array.operation, Scan):
            yield from array.operation.stage


def with_reads(x: Any, new: Callable[[Read], Read]) -> Any:
    """An operation, or a part of one, with new(read) in place of every read."""
    match x:
        case Read():
            return new(x)
        case list():
            return [with_reads(part, new) for part in x]
        case Elementwise() | Reduction() | Softmax() | Take() | Total() | Terms():
            return type(x)(*[with_reads(getattr(x, name), new) for name in x.__dataclass_fields__])
    return x


def all_reads(array: Tensor) -> list[Read]:
    """All that an array reads; of a loop, all that its stages read."""
    return array.operation.reads() if isinstance(array.operation, Scan) else reads_of(array.operation)


# --- Shapes ---------------------------------------------------------------------------------------------------


def shape_of(array: Tensor) -> tuple[int, ...]:
    """The shape of an array that is no matrix product: the shape of an array that it is computed from."""
    if isinstance(array.operation, Softmax):
        n, columns = array.operation.operand.index.shape
        return *_shape(n, [(array.operation.operand, columns)]), columns
    return _shape(array.size, _reads(array.operation))


def _shape(n: int, reads: list[tuple[Read, int]]) -> tuple[int, ...]:
    """The shape of n elements that are computed from these."""
    for read, per_member in reads:
        wanted = read.index.ravel()
        if wanted.size == read.array.size and (wanted == np.arange(wanted.size)).all():
            if per_member == 1:
                return read.array.shape if read.array.size > 1 else (n,)
            if read.array.shape[-1:] == (per_member,):
                return read.array.shape[:-1]
    for read, per_member in reads:
        first = read.index.reshape(n, per_member)[:, 0]
        (digits,) = digits_of_axes(first) or [[]]
        if len(digits) > 1 and (per_member == 1 or all(step for _, step in digits)):
            return tuple(size for size, _ in digits)
    return (n,)


def _reads(operation: Any) -> list[tuple[Read, int]]:
    """What an operation reads, with the number of elements that it reads for each of its own."""
    match operation:
        case Elementwise():
            return [(operand, 1) for operand in operation.operands]
        case Reduction():
            return [(operation.operand, operation.operand.index.shape[1])]
        case Total():
            parts = sorted(operation.parts, key=lambda part: len(part.factors))
            return [(read, read.index.shape[-1]) for part in parts for read in part.factors]
    return []


def distinct_rows(index: Indices) -> tuple[Indices, Indices]:
    """The different rows of a matrix, in order, and which of them each row is.

    As np.unique(axis=0), whose comparison makes a TypeError of a Ctrl-C.
    """
    order = np.lexsort(index.T[::-1]) if index.size else np.arange(len(index))
    ordered = index[order]
    is_new = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[: len(index)]
    which = np.empty(len(index), int)
    which[order] = np.cumsum(is_new) - 1
    return ordered[is_new], which
