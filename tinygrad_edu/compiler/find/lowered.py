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
    softmax         what the softmax that a logsumexp leaves behind is called, if it has a name of its own
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
    softmax: str = ""
    has_holes: bool = False
    is_mask: bool = False
    zeros: Any = None
    stages: int | None = None

    @property
    def kind(self) -> str:
        """The kind of its operation; "" for a leaf."""
        return self.operation.kind if self.operation else ""

    @property
    def reads(self) -> list["Read"]:
        """All that its operation reads."""
        return self.operation.reads if self.operation else []

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
class Terms:
    """out[n] = a[ia[n, 0]] + a[ia[n, 1]] + ..., or with two factors, out[n] = a[ia[n]] . b[ib[n]].

    If n goes over a grid, all rows of one factor times all rows of the other, this is a product of matrices, as
    Z = X @ W.T. `heads` says how many of them lie side by side; 0 for any other sum.
    """

    factors: list[Read]
    heads: int = 0

    @property
    def is_matrix_product(self) -> bool:
        """Is it more than the product of two vectors?"""
        index = self.factors[0].index
        return self.heads > 0 and index.size > index.shape[-1]


@dataclass(eq=False)
class Computation:
    """How an array is computed, of one of these kinds.

    rule       out[n] = rule(a[ia[n]], b[ib[n]], ...)
    reduction  out[n] = rule(a[ia[n, 0]], a[ia[n, 1]], ...)
    softmax    out[n, i] = e^z[n, i] / (e^z[n, 0] + e^z[n, 1] + ...) where z[n] = a[ia[n]]
    take       out[n] = b[ib[n, a[ia[n]]]]: a is the index, b the options
    sum        the sum of its parts
    """

    kind: str
    operands: list[Read]
    parts: list[Terms] = field(default_factory=list)

    @property
    def reads(self) -> list[Read]:
        """All that it reads, in order."""
        return self.operands or [read for part in self.parts for read in part.factors]

    def moved(self, new: Callable[[Read], Read]) -> "Computation":
        """The operation with new(read) in place of every read."""
        parts = [Terms(list(map(new, part.factors)), part.heads) for part in self.parts]
        return Computation(self.kind, list(map(new, self.operands)), parts)


def sum_of(parts: list[Terms]) -> Computation:
    """The sum of these parts, matrix products first."""
    return Computation("sum", [], sorted(parts, key=lambda x: (not x.is_matrix_product, len(x.factors) == 1)))


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
        sums = [array.operation for array in every_array(self) if array.kind == "sum"]
        return sum(part.is_matrix_product for total in sums for part in total.parts)


@dataclass(eq=False)
class Scan:
    """The operation of an array that stands for a whole loop, `for t in range(length)`.

    stage    the arrays of one stage, in order. They read each other, and arrays outside of the loop
    initial  array of the stage -> what stands for it in the stages before the first one, the last of them last
    """

    length: int
    stage: list[Tensor]
    initial: dict[Tensor, list[Read]] = field(default_factory=dict)
    kind: str = "loop"

    @property
    def reads(self) -> list[Read]:
        """All that the loop reads, of itself as well."""
        return [*(read for array in self.stage for read in array.reads), *itertools.chain(*self.initial.values())]

    def move(self, moved: Callable[[Read], Read]) -> None:
        """Read moved(read) in place of every read."""
        for array in self.stage:
            array.operation = array.operation.moved(moved)
        self.initial = {array: list(map(moved, reads)) for array, reads in self.initial.items()}


def every_array(lowered: Lowered) -> Iterator[Tensor]:
    """The arrays of a program, those of the stages of its loops among them."""
    for array in lowered.arrays:
        yield array
        if array.kind == "loop":
            yield from array.operation.stage


# --- Shapes ---------------------------------------------------------------------------------------------------


def shape_of(array: Tensor) -> tuple[int, ...]:
    """The shape of an array that is no matrix product: the shape of an array that it is computed from."""
    match array.operation:
        case Computation("softmax", [read]):
            n, columns = read.index.shape
            return *_shape(n, [read]), columns
        case Computation("rule" | "reduction", reads):
            return _shape(array.size, reads)
        case Computation("sum", _, parts):
            first_terms = sorted(parts, key=lambda part: len(part.factors))
            return _shape(array.size, [read for part in first_terms for read in part.factors])
    return (array.size,)


def _shape(n: int, reads: list[Read]) -> tuple[int, ...]:
    """The shape of n elements that are computed from these."""
    for read in reads:
        wanted, per_member = read.index.ravel(), read.index.size // n
        if wanted.size == read.array.size and (wanted == np.arange(wanted.size)).all():
            if per_member == 1:
                return read.array.shape if read.array.size > 1 else (n,)
            if read.array.shape[-1:] == (per_member,):
                return read.array.shape[:-1]
    for read in reads:
        per_member = read.index.size // n
        first = read.index.reshape(n, per_member)[:, 0]
        (digits,) = digits_of_axes(first) or [[]]
        if len(digits) > 1 and (per_member == 1 or all(step for _, step in digits)):
            return tuple(size for size, _ in digits)
    return (n,)


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
