"""Lower: say which elements of which arrays each group reads, and find the matrix products.

In a sum of products, term k of member n multiplies a[ia[n, k]] by b[ib[n, k]]. Look at the different rows of ia
and of ib. If every pair of them belongs to one member, the members are a grid, and the sum is the matrix product
of the rows of a and the rows of b. A dense layer is such a grid, however it was written. So are a batch written
out in the graph, shared filters, and attention scores, one product per head.

For instance, z0 = W00 x0 + W01 x1 + W02 x2 reads W at 0 1 2 and x at 0 1 2, and z1 reads W at 3 4 5 and x at 0 1
2. These are two rows of W and one row of x, and every pair of them occurs once. So Z = W @ x, and Z = X @ W.T for
a batch of rows x.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...engine.rules import DIV, MUL, RULES, Rule
from ..trace.placeholder import CHOICES, TAKE
from .flatten import SUM
from .group import REDUCTIONS, Group
from .lowered import (
    CONSTANT,
    PARAMETER,
    Computation,
    Lowered,
    Read,
    Tensor,
    Terms,
    distinct_rows,
    shape_of,
    sum_of,
)
from .normalise import EXP, LOGSUMEXP, SUB, Graph
from .ragged import filled
from .views import Indices

MIN, NEG = RULES["min"], RULES["neg"]
# A product of matrices, its shape, and the places of the members in it.
Grid = tuple[Terms, tuple[int, ...], Indices]
WORTH = 0.3  # the share of a grid that must be used for the whole product to pay


def lower(
    graph: Graph, groups: Sequence[Group], numbers: Indices, shapes: Sequence[tuple[int, ...]], plain: bool = False
) -> Lowered:
    """The arrays of a program. `shapes` are those of the inputs. plain=True does not look for matrix products."""
    return _Lowering(graph, groups, numbers, shapes, plain).lowered


class _Lowering:
    def __init__(self, graph: Graph, groups: Any, numbers: Any, shapes: Any, plain: bool):
        self.graph, self.numbers, self.shapes, self.plain = graph, numbers, shapes, plain
        self.is_padded = False
        self.position = np.full(len(graph.rules) + 1, -1)  # in its array; the last one is that of no node, -1
        self.arrays: list[Tensor] = []
        self._by_number: dict[int, Tensor] = {}
        self._masks: dict[bytes, Tensor] = {}  # by their numbers
        self._filled_up: set[Tensor] = set()  # arrays of masked elements, and those that need no mask
        for group in groups:
            array = self._leaf(group) if group.rule is None else self._array(group)
            self.arrays.append(array)
            self._by_number[group.number] = array
        for array in self.arrays:
            if (array.shape == () and array.size > 1) or array.kind == "softmax":
                array.shape = shape_of(array)
        used = {self._by_number[numbers[node]] for node in graph.outputs}
        for array in reversed(self.arrays):
            if array in used:
                used.update(read.array for read in array.reads)
        # Results that nothing reads, as the logarithms below a softmax, are dropped.
        self.arrays = [array for array in self.arrays if array in used or array.operation is None]
        outputs = [(self._by_number[numbers[node]], int(self.position[node])) for node in graph.outputs]
        arrays = self.arrays if self._filled_up else []
        padded = [a for a in arrays if any(r.array in self._filled_up for r in a.reads)]
        self.lowered = Lowered(self.arrays, outputs, graph.n_traced, self.is_padded, padded)

    def _leaf(self, group: Group) -> Tensor:
        kind, nodes = group.source[0], group.members
        if kind == "constant":
            places: Any = np.array([self.graph.constants[node] for node in nodes.tolist()])
        else:
            places = nodes - next(first for source, first, _ in self.graph.sources if source == group.source)
        if kind == "input":
            shape = self.shapes[group.source[1]]
            self.position[nodes] = places
            return Tensor(group.number, None, group.source, int(np.prod(shape)), True, False, shape)
        self.position[nodes] = np.arange(len(nodes))
        return Tensor(group.number, None, group.source, len(nodes), False, kind == "parameter", places=places)

    def _array(self, group: Group) -> Tensor:
        nodes, (left, right) = group.members, self._operands(group)
        groups = self.numbers[left[0]].tolist()  # those that the first member reads
        others = self.numbers[right[0]].tolist() if group.rule is SUM else []
        read = [self._by_number[number] for number in {*groups, *others} if number >= 0]
        array = Tensor(
            group.number,
            group.rule,
            (),
            len(nodes),
            any(a.batched for a in read),
            any(a.differentiable for a in read) and group.rule not in CHOICES.values(),
        )
        if group.rule is SUM:
            places = self._total(array, left, right, groups, others)
        else:
            places = self._operation(array, left, groups)
        array.size = math.prod(array.shape) if array.shape else array.size
        array.has_holes = array.size > len(nodes)
        self.position[nodes] = np.arange(len(nodes)) if places is None else places
        return array

    def _operands(self, group: Group) -> tuple[Any, Any]:
        """The operands of all members, a row for each, -1 where it has ended; and the factors beside them."""
        graph, nodes = self.graph, group.members
        if len(nodes) == 1:  # a program without structure has only such groups
            row = slice(graph.starts[nodes[0]], graph.starts[nodes[0] + 1])
            return graph.left[None, row], graph.right[None, row]
        starts, n_each = graph.starts[nodes], graph.starts[nodes + 1] - graph.starts[nodes]
        is_mul: Any = []  # a product among sums is a sum of one product
        if group.rule is SUM:
            is_mul = np.flatnonzero([graph.rules[node] is MUL for node in nodes.tolist()])
            n_each[is_mul] = 1
        each = starts[:, None] + np.arange(n_each.max())
        has_ended = each >= (starts + n_each)[:, None]
        each[has_ended] = 0
        left, right = graph.left[each], graph.right[each]
        left[has_ended] = right[has_ended] = -1
        if len(is_mul):
            right[is_mul, 0] = graph.left[starts[is_mul] + 1]
        return left, right

    def _read(self, nodes: Any) -> Read:
        """Where nodes of one group stand in its array; -1 where there is no node."""
        node = nodes.flat[0] if len(nodes) == 1 else nodes.max()
        return Read(self._by_number[int(self.numbers[node])], self.position[nodes])

    # --- Ragged rows ----------------------------------------------------------------------------------------

    def _filled(self, read: Read, neutral: float) -> Read:
        """The rows of a reduction; where a row has ended, an element to which the neutral number is added."""
        if (read.index >= 0).all():
            return read
        (index,), is_there = filled([read])
        return self._masked(Read(read.array, index), is_there, SUM, (neutral, 0.0))

    def _filled_pairs(self, a: Read, b: Read) -> Terms:
        """The factors of sums of products; where a row has ended, one factor is 0."""
        if len(a.index) == 1 or (a.index >= 0).all():  # one row has no other to be filled up to
            return Terms([a, b])
        indices, is_there = filled([a, b])
        reads = [Read(read.array, index) for read, index in zip((a, b), indices, strict=True)]
        if zeros := {
            r.array for r in reads if r.array.zeros is not None and r.array.zeros[r.index[~is_there]].all()
        }:
            self._filled_up |= zeros
        else:
            cheaper = int(a.array.batched and not b.array.batched)
            reads[cheaper] = self._masked(reads[cheaper], is_there, MUL, (0.0, 1.0))
        return Terms(reads)

    def _masked(self, read: Read, is_there: Any, rule: Rule, numbers: tuple[float, float]) -> Read:
        """The different rows as an array of their own: its elements are combined with one of two numbers."""
        size = read.array.size
        rows, which = distinct_rows(np.where(is_there, read.index, read.index + size))
        elements, mask = Read(read.array, rows.ravel() % size), self._mask((rows < size).ravel(), numbers)
        array = Tensor(-len(self.arrays), rule, (), rows.size, read.array.batched, read.array.differentiable)
        if rule is SUM:
            array.operation = sum_of([Terms([Read(r.array, r.index[:, None])]) for r in (elements, mask)])
        else:
            array.operation = Computation("rule", [elements, mask])
        self.arrays.append(array)
        self._filled_up.add(array)
        return Read(array, np.arange(rows.size).reshape(rows.shape)[which])

    def _mask(self, is_there: Any, numbers: tuple[float, float]) -> Read:
        """One of two constants for each place."""
        self.is_padded = True
        return self._constants(np.where(is_there, numbers[1], numbers[0]))

    def _constants(self, numbers: Any) -> Read:
        """These numbers, as an array of the different ones."""
        places, which = np.unique(numbers, return_inverse=True)
        array = self._masks.get(places.tobytes())
        if array is None:
            array = Tensor(-len(self.arrays), None, CONSTANT, len(places), False, False, (len(places),))
            array.places, array.is_mask = places, True
            self.arrays.append(array)
            self._masks[places.tobytes()] = array
        return Read(array, which.reshape(numbers.shape))

    # --- Operations -----------------------------------------------------------------------------------------

    # Each sets the operation of an array, and its shape if it is known. It returns the places of the members in
    # the array, None if they stand in their order.

    def _operation(self, array: Tensor, rows: Any, groups: list[int]) -> Any:
        if array.rule is TAKE and len(set(groups[1:])) == 1:
            return self._take(array, rows)
        if array.rule in REDUCTIONS and len({*groups} - {-1}) == 1:
            elements = self._filled(self._read(rows), np.inf if array.rule is MIN else -np.inf)
            return self._ordered(array, Computation("reduction", [elements]))
        if array.rule is MUL and len(rows) > 1:  # its operands may stand in either order
            rows = np.where(self.numbers[rows[:, :1]] == groups[0], rows, rows[:, ::-1])
        places = self.position[rows].T
        operands = [Read(self._by_number[own], index) for own, index in zip(groups, places, strict=True)]
        if array.rule is EXP and (softmax := _softmax(operands[0])) is not None:
            array.operation, array.zeros, places = softmax
            array.shape = array.operation.operands[0].index.shape
            return places
        if self._stays_finite(array.rule, operands) and (shared := _on_the_same_places(operands)) is not None:
            operands, array.shape, places = shared
            array.operation = Computation("rule", operands)
            return places
        return self._ordered(array, Computation("rule", operands))

    def _ordered(self, array: Tensor, operation: Computation) -> Any:
        """Set an operation; its members stand in the order in which they are read."""
        places = _places_of(operation.reads)
        array.operation = operation.moved(_mover(places))
        return places

    def _stays_finite(self, rule: Any, operands: list[Read]) -> bool:
        """Is the result finite if all operands are, whatever they are?"""
        if rule is DIV:
            divisor = operands[1]
            return divisor.array.source == CONSTANT and divisor.array.places[divisor.index].all()
        return rule in (MUL, SUB, NEG)

    def _take(self, array: Tensor, rows: Any) -> Any:
        index, options = self._read(rows[:, 0]), self._read(rows[:, 1:])
        if not options.array.batched and not self.plain:
            tables, which_table = distinct_rows(options.index)
            indices, which_index = np.unique(index.index, return_inverse=True)
            places = which_index.ravel() * len(tables) + which_table
            if len(rows) == len(tables) * len(indices) and _is_permutation(places):
                self._shape_parameter(options.array, tables)
                array.shape = (len(indices), len(tables)) if len(indices) > 1 else (len(tables),)
                options = Read(options.array, np.broadcast_to(tables, (len(indices), *tables.shape)))
                rows = np.broadcast_to(indices[:, None], (len(indices), len(tables)))
                array.operation = Computation("take", [Read(index.array, rows), options])
                return places
        array.operation = Computation("take", [index, options])
        return None

    def _total(self, array: Tensor, left: Any, right: Any, groups: list[int], others: list[int]) -> Any:
        """The parts of a sum, one for each kind of term. The largest product decides the order of the members."""
        parts = self._parts(left, right, groups, others)
        pairs = [part for part in parts if len(part.factors) == 2 and not self.plain]
        places: Any = None
        whole: list[Terms] = []  # products whose elements are the members in their order, or more
        for part in sorted(pairs, key=lambda part: -part.factors[0].index.size):
            if (grid := self._product(part)) is None:
                continue
            product, shape, key = grid
            parts[parts.index(part)] = product
            if math.prod(shape) > len(left) and len(parts) > 1:
                product.factors, product.heads = [self._picked(product, shape, key)], 0
                continue
            if places is None:
                places, array.shape = key, shape
            if np.array_equal(places, key):
                whole.append(product)
            else:
                product.factors = [Read(r.array, r.index.reshape(len(left), -1)[key]) for r in product.factors]
        if places is None and len(left) > 1:
            places = _places_of([read for part in parts for read in reversed(part.factors)])
        move = _mover(places)
        for part in parts:
            part.factors = part.factors if part in whole else list(map(move, part.factors))
        array.operation = sum_of(parts)
        return places

    def _picked(self, product: Terms, shape: tuple[int, ...], key: Indices) -> Read:
        """Elements of a product of matrices, which is an array of its own."""
        of = [read.array for read in product.factors]
        batched, differentiable = any(a.batched for a in of), any(a.differentiable for a in of)
        whole = Tensor(-len(self.arrays), SUM, (), math.prod(shape), batched, differentiable, shape)
        whole.operation = sum_of([Terms(product.factors, product.heads)])
        self.arrays.append(whole)
        return Read(whole, key[:, None])

    def _parts(self, left: Any, right: Any, groups: list[int], others: list[int]) -> list[Any]:
        """The terms of all members, in parts of one kind: the group of a term, or the two groups of a product."""
        columns: dict[Any, list[Any]] = {}
        if len(left) == 1:  # lists are faster
            for x, y, a, b in zip(left[0].tolist(), right[0].tolist(), groups, others, strict=True):
                kind, pair = ((b, a), (y, x)) if a > b >= 0 else ((a, b), (x, y))
                columns.setdefault(kind, []).append(pair)
            return [self._part(*np.array(pairs).T[:, None]) for pairs in columns.values()]
        a, b = self.numbers[left], self.numbers[right]
        left, right = np.where((b >= 0) & (a > b), (right, left), (left, right))
        kinds = (np.minimum(a, b) + np.int64(1)) * len(self.numbers) + np.maximum(a, b)
        if (kinds == kinds[0]).all():  # as a rule, all rows are written alike
            for place, kind in enumerate(kinds[0].tolist()):
                columns.setdefault(kind, []).append(place)
            return [self._part(left[:, places], right[:, places]) for places in columns.values()]
        _, firsts, sizes = np.unique(kinds, return_index=True, return_counts=True)
        parts, of_kinds = [], np.split(np.argsort(kinds, axis=None, kind="stable"), np.cumsum(sizes)[:-1])
        for i in np.argsort(firsts).tolist():
            terms = of_kinds[i]  # of one kind, row after row
            row = terms // left.shape[1]
            n_each = np.bincount(row, minlength=len(left))
            column = np.arange(len(terms)) - (np.cumsum(n_each) - n_each)[row]
            of_a, of_b = np.full((2, len(left), n_each.max()), -1)
            of_a[row, column], of_b[row, column] = left.flat[terms], right.flat[terms]
            if of_a.max() >= 0:  # else they are the places where rows have ended
                parts.append(self._part(of_a, of_b))
        return parts

    def _part(self, left: Any, right: Any) -> Any:
        a = self._read(left)
        if right.flat[0] >= 0 or right.max() >= 0:
            return self._filled_pairs(a, self._read(right))
        if len(a.index) == 1 or (a.index >= 0).all():
            return Terms([a])
        if a.array.source == CONSTANT:
            return Terms([self._constants(np.where(a.index >= 0, a.array.places[a.index], 0.0))])
        (index,), is_there = filled([a])
        return Terms([Read(a.array, index), self._mask(is_there, (0.0, 1.0))])

    def _product(self, pairs: Terms) -> Grid | None:
        """A sum of products as a matrix product; None if it is not one."""
        a, b = pairs.factors
        if a.index.size == 1:
            return None
        if a.array.batched and not b.array.batched:
            a, b = b, a
        for keys in ((b.index, a.index), (a.index, b.index)):
            order = np.lexsort(keys)
            grid = self._grid(
                Read(a.array, np.take_along_axis(a.index, order, 1)),
                Read(b.array, np.take_along_axis(b.index, order, 1)),
            )
            if grid is not None:
                return grid
        return None

    def _grid(self, a: Read, b: Read) -> Grid | None:
        """The product of the different rows of a and of b, if the members are one of three things.

        1. The whole grid of pairs. 2. Grids of equal size that have no row in common: the heads. 3. So many pairs
        of the grid that it pays to compute the whole product and to pick from it.
        """
        (rows_a, which_a), (rows_b, which_b) = distinct_rows(a.index), distinct_rows(b.index)
        changes_a, changes_b = (np.count_nonzero(np.diff(which)) for which in (which_a, which_b))
        if a.array.batched == b.array.batched and changes_b >= changes_a:  # the columns are what changes faster
            a, b, rows_a, rows_b, which_a, which_b = b, a, rows_b, rows_a, which_b, which_a
        n, n_a, n_b, n_terms = len(a.index), len(rows_a), len(rows_b), a.index.shape[1]
        if n == n_a * n_b:
            key = which_b * n_a + which_a
            if not _is_permutation(key) or (n_terms == 1 and 1 in (n_a, n_b)):
                return None
            self._shape_parameter(a.array, rows_a)
            self._shape_parameter(b.array, rows_b)
            return _crossed(Read(a.array, rows_a), Read(b.array, rows_b), key)
        if n_terms == 1:
            return None
        heads = _components(which_a, which_b, n_a, n_b)
        if heads is not None:
            in_a, in_b = heads  # rows of a, and of b, per head
            if in_a.shape[1] == 1 and in_b.shape[1] == 1:
                return None
            inverse_a, inverse_b = np.argsort(in_a.ravel()), np.argsort(in_b.ravel())
            place_a, place_b = inverse_a[which_a], inverse_b[which_b]
            per_a, per_b = in_a.shape[1], in_b.shape[1]
            key = (place_a // per_a * per_b + place_b % per_b) * per_a + place_a % per_a
            if n >= WORTH * len(in_a) * per_a * per_b and len(np.unique(key)) == n:
                return _crossed(Read(a.array, rows_a[in_a]), Read(b.array, rows_b[in_b]), key)
        if n >= WORTH * n_a * n_b and len(np.unique(which_b * n_a + which_a)) == n and 1 not in (n_a, n_b):
            return _crossed(Read(a.array, rows_a), Read(b.array, rows_b), which_b * n_a + which_a)
        return None

    def _shape_parameter(self, array: Tensor, rows: Indices) -> None:
        """Store parameters that are the rows or the columns of a matrix as that matrix."""
        if array.source == PARAMETER and array.shape == () and rows.size == array.size and len(rows) > 1:
            everything = np.arange(array.size)
            if (rows.ravel() == everything).all():
                array.shape = rows.shape
            elif (rows.T.ravel() == everything).all():
                array.shape = rows.T.shape


def _places_of(reads: list[Read]) -> Indices | None:
    """The places of the members, where the first elements that are read of some array ascend; None if they do so.

    If the same elements are read several times of every array, there is no such order.
    """
    for read in reads if len(reads[0].index) > 1 else []:
        first = read.index.reshape(len(read.index), -1)[:, 0]
        order = np.argsort(first, kind="stable")
        if read.array.source != CONSTANT and (np.diff(first[order]) > 0).all():
            return np.argsort(order) if (np.diff(order) < 0).any() else None
    return None


def _is_permutation(key: Indices) -> bool:
    return bool((np.sort(key) == np.arange(len(key))).all())


def _mover(places: Any) -> Callable[[Read], Read]:
    """What changes a read of all members, which are to stand at these places."""
    order = None if places is None else np.argsort(places)
    return lambda read: read if order is None else Read(read.array, read.index[order])


def _crossed(a: Read, b: Read, key: Indices) -> Grid:
    """All rows of b times all rows of a, of each head. A single one has no axis."""
    of_a, of_b = a.index[..., None, :, :], b.index[..., :, None, :]
    *every, n_terms = np.broadcast_shapes(of_a.shape, of_b.shape)
    shape = tuple(n for n in every if n > 1)
    a, b = (
        Read(read.array, np.broadcast_to(index, (*every, n_terms)).reshape(*(shape or (1,)), n_terms))
        for read, index in ((a, of_a), (b, of_b))
    )
    return Terms([b, a] if shape else [a, b], every[0] if len(every) > 2 else 1), shape, key


def _on_the_same_places(reads: list[Read]) -> tuple[list[Read], tuple[int, ...], Indices] | None:
    """What to read for an array that has its elements, and its holes, where an array that is read has them.

    So no element is moved. All other operands are this array too, or one number.
    """
    base = next((read for read in reads if read.array.has_holes), None)
    if base is None or len(np.unique(base.index)) < max(len(base.index), WORTH * base.array.size):
        return None
    everywhere = np.arange(base.array.size).reshape(-1, *base.index.shape[1:])
    aligned = []
    for read in reads:
        if read.array is base.array and np.array_equal(read.index, base.index):
            aligned.append(Read(read.array, everywhere))
        elif (read.index == read.index.flat[0]).all():
            aligned.append(Read(read.array, np.full_like(everywhere, read.index.flat[0])))
        else:
            return None
    return aligned, base.array.shape, base.index.ravel()


def _components(which_a: Indices, which_b: Indices, n_a: int, n_b: int) -> tuple[Indices, Indices] | None:
    """The rows of a and the rows of b of each head, if all heads have one size; else None."""
    label = np.arange(n_a + n_b)
    while True:  # every pair takes the smaller label of the two, until none changes
        smaller = np.minimum(label[which_a], label[n_a + which_b])
        new = label.copy()
        np.minimum.at(new, which_a, smaller)
        np.minimum.at(new, n_a + which_b, smaller)
        new = new[new]
        if (new == label).all():
            break
        label = new
    heads, sizes_a = np.unique(label[:n_a], return_counts=True)
    other_heads, sizes_b = np.unique(label[n_a:], return_counts=True)
    if len(heads) < 2 or not np.array_equal(heads, other_heads) or len({*sizes_a}) > 1 or len({*sizes_b}) > 1:
        return None
    in_a = np.argsort(label[:n_a], kind="stable").reshape(len(heads), -1)
    in_b = np.argsort(label[n_a:], kind="stable").reshape(len(heads), -1)
    return in_a, in_b


def _softmax(exponents: Read) -> tuple[Computation, Any, Indices] | None:
    """exp(z - logsumexp(row)) for all z of all rows as one operation, None for another exp.

    Also which elements are 0, since their row has ended, and the place of every member.
    """
    if exponents.array.rule is not SUB:
        return None
    z, logs = exponents.array.reads
    if logs.array.rule is not LOGSUMEXP or logs.array.kind != "reduction":
        return None
    (elements,) = logs.array.reads
    rows, row = np.unique(logs.index[exponents.index], return_inverse=True)
    index = source = elements.index[rows]
    is_there = np.ones(index.shape, bool)
    if elements.array is not z.array:
        parts = elements.array.operation.parts if elements.array.kind == "sum" else []
        if [len(part.factors) for part in parts] != [1, 1]:
            return None
        read, mask = elements.array.reads
        if read.array is not z.array or not mask.array.is_mask:
            return None
        source, is_there = read.index[index, 0], mask.array.places[mask.index[index, 0]] == 0.0
    # Each element of each row as one number: find those that the members read.
    numbers = np.where(is_there, source + np.arange(len(rows))[:, None] * z.array.size, -1).ravel()
    wanted = z.index[exponents.index] + row.ravel() * z.array.size
    order = np.argsort(numbers)
    places = order[np.searchsorted(numbers[order], wanted).clip(max=len(order) - 1)]
    if len(wanted) != is_there.sum() or (numbers[places] != wanted).any() or len({*places}) < len(wanted):
        return None
    zeros = None if is_there.all() else ~is_there.ravel()
    return Computation("softmax", [Read(elements.array, index)]), zeros, places
