"""Differentiate: a formula for each array of a program, and for each gradient.

The array operations are differentiated, not the scalar graph. The gradient of an elementwise rule is its
`backward` on symbols. The gradients of a matrix product are two matrix products. An element that is read in many
places gets the sum of their shares. An array that does not depend on the example gets the sum of its shares over
the batch.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..engine import elementary
from ..engine.rules import RULES
from .lower import (
    CONSTANT,
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
    product_shape,
)
from .symbols import Book, Symbol
from .tracing import TAKE
from .views import View, view_of

LOGSUMEXP, MAX = RULES["logsumexp"], RULES["max"]
SHORT = 8  # numbers


@dataclass(frozen=True)
class Definition:
    """One array and its formula. It is `array`, or the gradient of `array`."""

    name: str
    formula: Any
    array: Array
    is_gradient: bool = False


@dataclass(frozen=True)
class ScaledShare:
    """scale * formula / B**power: a part of a gradient. Its numeric factors are multiplied in at the end.

    The loss begins with power 1, for the mean over the batch. A sum of B equal shares cancels it.
    """

    formula: Any
    scale: float = 1.0
    power: int = 0


class ArrayProgram:
    """A lowered program as formulas.

    definitions  the arrays in an order in which they can be computed, then the gradients
    constants    name -> the arrays of numbers that formulas name
    """

    def __init__(self, lowered: Lowered, n_inputs: int, gradient: bool):
        self.lowered, self.book = lowered, Book()
        self._views: dict[Any, tuple[View, Read]] = {}
        self.size = self.book.leaf("B")
        self.constants: dict[str, Any] = {}
        self._constants: dict[Any, str] = {}
        named = [a for a in lowered.arrays if a.source != CONSTANT]
        self.symbols = {a: self.book.leaf(a.name, a.shape, a.batched) for a in named}
        self.definitions: list[Any] = []
        for array in lowered.arrays:
            if array.operation is not None:
                self._define(array)
        self._shares: dict[Array, list[ScaledShare]] = {}
        self.n_inputs, self.gradient = n_inputs, gradient
        if gradient:
            self._backward()

    # --- Reading --------------------------------------------------------------------------------------------

    def _read(self, read: Read, dims: tuple[int, ...], repeats: bool = True) -> Any:
        """The elements that are read: an array of shape dims, with 1 where they repeat, or a single number.

        With repeats=False every axis has its full length, as products and sums need it.
        """
        index = read.index.reshape(dims)
        if read.array.source == CONSTANT:
            return self._constant(read.array.places[index], repeats, read.array.name)
        if repeats and not read.array.shape:
            return self.symbols[read.array]
        key = (id(read), dims, repeats)
        if key not in self._views:
            self._views[key] = view_of(index, read.array.shape, repeats), read  # kept alive: its id is the key
        view, symbol = self._views[key][0], self.symbols[read.array]
        if view.is_identity:
            return symbol
        return self.book.special("view", (symbol, view), view.shape, read.array.batched)

    def _constant(self, numbers: Any, repeats: bool, name: str) -> Any:
        for axis in range(numbers.ndim if repeats else 0):
            first = numbers.take([0], axis)
            numbers = first if (numbers == first).all() else numbers
        if (numbers == numbers.flat[0]).all():
            return float(numbers.flat[0])
        key = (numbers.shape, numbers.tobytes())
        if key not in self._constants:
            self._constants[key] = name = name + f"_{len(self.constants) + 1}" * (name in self.constants)
            self.constants[name] = numbers
        return self.book.leaf(self._constants[key], numbers.shape)

    def _expand(self, x: Any, shape: tuple[int, ...]) -> Any:
        """x, of at most this shape, with one more axis at the end."""
        if not isinstance(x, Symbol) or (x.shape == () and not (shape or x.batched)):
            return x
        return self.book.special("expand", (x,), (*x.shape, 1), x.batched)

    def _scattered(self, x: Any, view: View, batched: bool) -> Any:
        """x at the places of a view, and 0 everywhere else."""
        if view.whole and not isinstance(x, Symbol):
            return x
        if view.digits is None:
            return self.book.special("scatter", (x, view), view.source, batched)
        x = self._dense(x, view.shape, isinstance(x, Symbol) and x.batched)
        if view.whole:
            return self.book.special("view", (x, view.inverse()), view.source, x.batched)
        return self.book.special("scatter", (x, view), view.source, batched)

    def _dense(self, x: Any, shape: tuple[int, ...], batched: bool) -> Any:
        """x as an array of exactly this shape."""
        if isinstance(x, Symbol) and x.shape == shape and x.batched == batched:
            return x
        return self.book.special("dense", (x,), shape, batched)

    # --- Forward --------------------------------------------------------------------------------------------

    def _define(self, array: Array) -> None:
        self.definitions.append(Definition(array.name, self._formula(array), array))

    def _formula(self, array: Array) -> Any:
        match array.operation:
            case Elementwise(operands) if array.rule is LOGSUMEXP:
                return self.book.special(
                    "logsumexp", (self._stacked(array, operands),), array.shape, array.batched
                )
            case Elementwise([index, *options]) if array.rule is TAKE:
                arguments = self._stacked(array, options), self._read(index, array.shape, repeats=False)
                return self.book.special("pick", arguments, array.shape, array.batched)
            case Elementwise():
                return self._applied(array, [self._read(o, array.shape) for o in array.operation.operands])
            case Reduction():
                if columns := _columns(array):
                    elements = [self._read(column, array.shape) for column in columns]
                    return functools.reduce(elementary.maximum, elements)
                elements = self._elements(array, array.operation.operand)
                return self.book.special(str(array.rule.name), (elements,), array.shape, array.batched)  # type: ignore[union-attr]
            case Softmax(operand):
                return self.book.special(
                    "softmax", (self._read(operand, array.shape, False),), array.shape, array.batched
                )
            case Take():
                return self._taken(array, array.operation)
            case Total():
                parts = [self._part(array, part) for part in array.operation.parts]
                return self._sum(parts, array.shape, array.batched)

    def _stacked(self, array: Array, operands: list[Read]) -> Symbol:
        """Operands from different arrays as one array, along a last axis."""
        parts = [self._read(operand, array.shape) for operand in operands]
        return self.book.special("stack", parts, (*array.shape, len(parts)), array.batched)

    def _elements(self, array: Array, read: Read) -> Any:
        return self._read(read, (*array.shape, read.index.shape[-1]), repeats=False)

    def _applied(self, array: Array, operands: list[Any]) -> Any:
        """The rule's own forward on symbols. A rule that cannot run on symbols is called on arrays."""
        rule: Any = array.rule
        try:
            formula = rule.forward(*operands)
            if isinstance(formula, Symbol | int | float):
                return formula
        except Exception:  # such as math.exp(symbol) in a rule of the user's
            pass
        return self.book.special("call", (rule, "forward", *operands), array.shape, array.batched)

    def _taken(self, array: Array, take: Take) -> Any:
        if not take.grid:
            options, index = (
                self._elements(array, take.options),
                self._read(take.index, array.shape, repeats=False),
            )
            return self.book.special("pick", (options, index), array.shape, array.batched)
        table, index = self._table(take)
        return self.book.special("rows", (table, index), array.shape, array.batched)

    def _table(self, take: Take) -> tuple[Any, Any]:
        """The table, one row per value of the index, and the indices."""
        rows = take.table
        table = self._read(rows, rows.index.shape, repeats=False)
        n = len(take.index.index)
        return table, self._read(take.index, (n,) if n > 1 else (), repeats=False)

    def _part(self, array: Array, part: Any) -> Any:
        match part:
            case Terms():
                n = part.operand.index.shape[1]
                if n == 1:
                    return self._read(part.operand, array.shape)
                elements = self._dense_elements(array, part.operand)
                return self.book.special("sum", (elements,), array.shape, elements.batched)
            case Paired():
                if part.a.index.shape[1] == 1:
                    return self._read(part.a, array.shape) * self._read(part.b, array.shape)
                a, b = self._dense_elements(array, part.a), self._dense_elements(array, part.b)
                return self.book.special("vecdot", (a, b), array.shape, a.batched or b.batched)
            case Product():
                shape, (a, b) = product_shape(part), self._factors(part)
                product = self.book.special("product", (a, b), shape, a.batched or b.batched)
                if part.pick is None:
                    return product
                view = view_of(part.pick.reshape(array.shape), shape, repeats=False)
                return self.book.special("view", (product, view), array.shape, product.batched)

    def _dense_elements(self, array: Array, read: Read) -> Any:
        return self._dense(self._elements(array, read), (*array.shape, read.index.shape[-1]), read.array.batched)

    def _factors(self, part: Product) -> list[Any]:
        reads = [(read, read.index.shape) for read in (part.a, part.b)]
        return [self._dense(self._read(r, shape, repeats=False), shape, r.array.batched) for r, shape in reads]

    def _sum(self, parts: Sequence[Any], shape: tuple[int, ...], batched: bool) -> Any:
        """parts[0] + parts[1] + ... A part that must be computed comes first; the others are added to it."""
        if len(parts) == 1 and _fits(parts[0], shape, batched):
            return parts[0]
        parts = sorted(parts, key=lambda part: (not _fits(part, shape, batched), _place_in_sum(part)))
        return self.book.special("accumulate", parts, shape, batched)

    # --- Backward -------------------------------------------------------------------------------------------

    def _backward(self) -> None:
        root, place = self.lowered.outputs[0]
        seed: Any = 1.0
        if root.size > 1:
            seed = self.book.special("scatter", (1.0, view_of(np.array([place]), root.shape)), root.shape, False)
        self._shares[root] = [ScaledShare(seed, 1.0, int(root.batched))]
        for array in reversed(self.lowered.arrays):
            if array.differentiable:
                self._backward_through(array)

    def _backward_through(self, array: Array) -> None:
        shares = self._shares.pop(array, [])
        if array.operation is None:
            formula = self._scaled(self._collected(shares, array)) if shares else 0.0
            self.definitions.append(Definition(f"d{array.name}", formula, array, True))
        elif shares:
            self._through_operation(array, self._gradient(array, shares))

    def _gradient(self, array: Array, shares: list[ScaledShare]) -> ScaledShare:
        """The sum of the shares; it is an array of its own if it is used more than once and is no variable."""
        share = _plain(self._collected(shares, array))
        formula, operation = share.formula, array.operation
        if not isinstance(formula, Symbol) or formula.op == "leaf":
            return share
        match operation:
            case Elementwise():
                is_used_again = sum(operand.array.differentiable for operand in operation.operands) > 1
            case Total():
                is_used_again = len(operation.parts) > 1 or not isinstance(operation.parts[0], Terms)
            case _:
                is_used_again = True
        if not is_used_again:
            return share
        name = f"d{array.name}"
        self.definitions.append(Definition(name, self._scaled(share), array, True))
        return ScaledShare(self.book.leaf(name, array.shape, array.batched))

    def _through_operation(self, array: Array, share: ScaledShare) -> None:
        match array.operation:
            case Elementwise(reads) if array.rule is LOGSUMEXP:
                elements = self._stacked(array, reads)
                slopes = self.book.special("softmax", (elements,), elements.shape, elements.batched)
                self._through_stack(array, reads, slopes, share)
            case Elementwise([index, *reads]) if array.rule is TAKE:
                arguments = self._read(index, array.shape, repeats=False), len(reads)
                slopes = self.book.special("one_hot", arguments, (*array.shape, len(reads)), array.batched)
                self._through_stack(array, reads, slopes, share)
            case Elementwise():
                operands = [self._read(o, array.shape) for o in array.operation.operands]
                out = self.symbols[array]
                for place, operand in enumerate(array.operation.operands):
                    if operand.array.differentiable:
                        formula = self._share_of(array.rule, place, share.formula, out, operands, array)
                        self._give(array, operand, array.shape, formula, share)
            case Reduction():
                self._through_reduction(array, array.operation.operand, share)
            case Softmax(operand):
                upstream, out = self._dense(share.formula, array.shape, array.batched), self.symbols[array]
                moment = self.book.special("vecdot", (upstream, out), array.shape[:-1], array.batched)
                formula = out * (upstream - self._expand(moment, array.shape[:-1]))
                self._give(array, operand, array.shape, formula, share)
            case Take():
                self._through_take(array, array.operation, share)
            case Total():
                for part in array.operation.parts:
                    self._through_part(array, part, share)

    def _collected(self, shares: list[ScaledShare], array: Array) -> ScaledShare:
        """The sum of the shares as one."""
        merged: dict[Any, ScaledShare] = {}
        for share in self._reduced_once([_plain(share) for share in shares]):
            key = (id(share.formula) if isinstance(share.formula, Symbol) else share.formula, share.power)
            scale = share.scale + (merged[key].scale if key in merged else 0.0)
            merged[key] = ScaledShare(share.formula, scale, share.power)
        shares = list(merged.values())
        if len(shares) == 1:
            return shares[0]
        first = max(shares, key=lambda share: share.scale)
        if len({s.power for s in shares}) == 1:
            alike = len({abs(s.scale) for s in shares}) == 1
            signs = [1.0 if s.scale == first.scale else -1.0 for s in shares]
            scales = signs if alike else [s.scale for s in shares]
            parts = [self._scaled(ScaledShare(s.formula, x)) for s, x in zip(shares, scales, strict=True)]
            total = self._sum(parts, array.shape, array.batched)
            return ScaledShare(total, first.scale if alike else 1.0, first.power)
        return ScaledShare(self._sum([self._scaled(s) for s in shares], array.shape, array.batched))

    def _reduced_once(self, shares: list[ScaledShare]) -> list[ScaledShare]:
        """The shares, where those that are sums over the same axes are added before they are summed."""
        alike: dict[Any, list[ScaledShare]] = {}
        for share in shares:
            key: Any = id(share)
            if isinstance(share.formula, Symbol) and share.formula.op == "reduce":
                summed, *axes = share.formula.args
                key = (*axes, summed.shape, summed.batched, share.scale, share.power)
            alike.setdefault(key, []).append(share)
        return [self._reduced(parts) if len(parts) > 1 else parts[0] for parts in alike.values()]

    def _reduced(self, shares: list[ScaledShare]) -> ScaledShare:
        formula, scale, power = shares[0].formula, shares[0].scale, shares[0].power
        summed, *axes = formula.args
        terms = self._sum([share.formula.args[0] for share in shares], summed.shape, summed.batched)
        return ScaledShare(
            self.book.special("reduce", (terms, *axes), formula.shape, formula.batched), scale, power
        )

    def _scaled(self, share: ScaledShare) -> Any:
        formula = share.formula
        if isinstance(formula, Symbol) and formula.op == "scatter":  # what is 0 needs no factor
            value, view = formula.args
            scaled = self._scaled(ScaledShare(value, share.scale, share.power))
            return self.book.special("scatter", (scaled, view), formula.shape, formula.batched)
        if share.power == 1 and share.scale != 1.0:
            return formula * (share.scale / self.size)
        formula = formula * share.scale if share.scale != 1.0 else formula
        for _ in range(abs(share.power)):
            formula = formula / self.size if share.power > 0 else formula * self.size
        return formula

    def _share_of(self, rule: Any, place: int, upstream: Any, out: Any, operands: list[Any], array: Array) -> Any:
        try:
            formula = rule.shares(upstream, out, *operands)[place]
            if isinstance(formula, Symbol | int | float):
                return formula
        except Exception:  # as in _applied
            pass
        upstream = self._dense(upstream, array.shape, array.batched)
        return self.book.special("call", (rule, place, upstream, out, *operands), array.shape, array.batched)

    def _give(
        self,
        array: Array,
        read: Read,
        dims: tuple[int, ...],
        formula: Any,
        share: ScaledShare,
        summed: bool = False,
    ) -> None:
        """Give what `array` reads its share: `formula` has the shape dims, with 1 where it repeats.

        summed=True: the sum over the batch is taken already.
        """
        target = read.array
        if not target.differentiable:
            return
        view = view_of(read.index.reshape(dims), target.shape)
        scale, power = share.scale, share.power
        # 1. What does not depend on the example gets the sum over the batch.
        over_batch = array.batched and not target.batched and not summed
        if over_batch and not (isinstance(formula, Symbol) and formula.batched):
            over_batch, power = False, power - 1  # B equal shares
        # 2. What is read several times gets the sum over these reads.
        shape = formula.shape if isinstance(formula, Symbol) else ()
        missing, axes = len(dims) - len(shape), []
        for axis, size in enumerate(dims):
            if view.shape[axis] == 1 and size > 1:  # one element, read many times
                if axis >= missing and shape[axis - missing] > 1:
                    axes.append(axis - missing)
                else:
                    scale *= size  # as many equal shares
        if over_batch or axes:
            summed_shape = tuple(1 if axis in axes else size for axis, size in enumerate(shape))
            without = tuple(size for axis, size in enumerate(shape) if axis not in axes)
            if view.whole and view.is_in_order and without == target.shape:
                summed_shape, view = without, view_of(np.arange(target.size).reshape(without), without)
            arguments = (formula, over_batch, tuple(axes))
            formula = self.book.special("reduce", arguments, summed_shape, formula.batched and not over_batch)
        # 3. The share goes to the places that were read.
        if isinstance(formula, Symbol) and formula.op == "view" and view.undoes(formula.args[1]):
            formula = formula.args[0]
        elif not view.is_identity:
            formula = self._scattered(formula, view, target.batched)
        self._shares.setdefault(target, []).append(ScaledShare(formula, scale, power))

    def _through_stack(self, array: Array, operands: list[Read], slopes: Symbol, share: ScaledShare) -> None:
        """Give every operand its share. `slopes` has the slope of each, along its last axis."""
        places = np.arange(array.size * len(operands)).reshape(slopes.shape)
        for i, operand in enumerate(operands):
            if operand.array.differentiable:
                view = view_of(places[..., i], slopes.shape, repeats=False)
                slope = self.book.special("view", (slopes, view), array.shape, slopes.batched)
                self._give(array, operand, array.shape, share.formula * slope, share)

    def _through_reduction(self, array: Array, operand: Read, share: ScaledShare) -> None:
        if columns := _columns(array):
            out = self.symbols[array]
            chosen = [self.book.make("equal", self._read(column, array.shape), out) for column in columns]
            upstream = self.book.make("div", share.formula, sum(chosen))
            for column, is_chosen in zip(columns, chosen, strict=True):
                self._give(array, column, array.shape, upstream * is_chosen, share)
            return
        elements, dims = self._elements(array, operand), (*array.shape, operand.index.shape[-1])
        if array.rule is LOGSUMEXP:
            slopes: Any = self.book.special("softmax", (elements,), dims, array.batched)
            upstream = self._expand(share.formula, array.shape)
        else:  # equal largest elements share evenly
            slopes = self.book.make("equal", elements, self._expand(self.symbols[array], array.shape))
            count = self.book.special("sum", (slopes,), array.shape, array.batched)
            upstream = self._expand(self.book.make("div", share.formula, count), array.shape)
        self._give(array, operand, dims, upstream * slopes, share)

    def _through_take(self, array: Array, take: Take, share: ScaledShare) -> None:
        if not take.grid:
            index, n = self._read(take.index, array.shape, repeats=False), take.options.index.shape[1]
            dims = (*array.shape, n)
            chosen = self.book.special("one_hot", (index, n), dims, True)
            self._give(array, take.options, dims, self._expand(share.formula, array.shape) * chosen, share)
            return
        table, index = self._table(take)
        upstream = self._dense(share.formula, array.shape, array.batched)
        rows = self.book.special("add_rows", (upstream, index), table.shape, False)
        self._give(array, take.table, table.shape, rows, share, summed=True)

    def _through_part(self, array: Array, part: Any, share: ScaledShare) -> None:
        upstream = share.formula
        match part:
            case Terms():
                n = part.operand.index.shape[1]
                if n == 1:
                    self._give(array, part.operand, array.shape, upstream, share)
                else:
                    self._give(array, part.operand, (*array.shape, n), self._expand(upstream, array.shape), share)
            case Paired():
                n = part.a.index.shape[1]
                dims = array.shape if n == 1 else (*array.shape, n)
                if n > 1:
                    upstream = self._expand(upstream, array.shape)
                for read, other in ((part.a, part.b), (part.b, part.a)):
                    if read.array.differentiable:
                        factor = self._read(other, dims) if n == 1 else self._dense_elements(array, other)
                        self._give(array, read, dims, upstream * factor, share)
            case Product(Read(index=a), Read(index=b)) if a.ndim == b.ndim == 1:
                self._through_dot(array, part, share)
            case Product():
                self._through_product(array, part, share)

    def _through_dot(self, array: Array, part: Product, share: ScaledShare) -> None:
        """The product of two vectors: the gradient of each is a multiple of the other."""
        upstream, (a, b) = share.formula, self._factors(part)
        for read, other in ((part.a, b), (part.b, a)):
            dims = read.index.shape
            if not read.array.differentiable:
                continue
            if array.batched and not read.array.batched and isinstance(upstream, Symbol) and other.batched:
                dense = self._dense(upstream, (), True)
                formula = self.book.special("product_a", (dense, other, 1, 1), dims, False)
                self._give(array, read, dims, formula, share, summed=True)
            else:
                self._give(array, read, dims, self._expand(upstream, ()) * other, share)

    def _through_product(self, array: Array, part: Product, share: ScaledShare) -> None:
        """A matrix product: two matrix products."""
        upstream, shape, (a, b) = share.formula, product_shape(part), self._factors(part)
        dims_a, dims_b = part.a.index.shape, part.b.index.shape
        batched = a.batched or b.batched
        if array.batched and not batched:  # a product of parameters, in a sum with what is batched
            if isinstance(upstream, Symbol) and upstream.batched:
                upstream = self.book.special("reduce", (upstream, True, ()), upstream.shape, False)
            else:
                share = ScaledShare(upstream, share.scale, share.power - 1)
        if part.pick is not None:
            view = view_of(part.pick.reshape(array.shape), shape, repeats=False)
            if view.whole and view.is_in_order:
                upstream = self._dense(upstream, array.shape, batched)
                upstream = self.book.special("view", (upstream, view.inverse()), shape, batched)
            else:
                upstream = self._scattered(upstream, view, batched)
        dense = self._dense(upstream, shape, batched)
        n_a = dims_a[-2] if len(dims_a) > 1 else 1
        n_b = dims_b[-2] if len(dims_b) > 1 else 1
        if part.a.array.differentiable:
            formula = self.book.special("product_a", (dense, b, n_a, n_b), dims_a, a.batched)
            self._give(array, part.a, dims_a, formula, share, summed=not a.batched)
        if part.b.array.differentiable:
            formula = self.book.special("product_b", (dense, a, n_a, n_b), dims_b, batched)
            self._give(array, part.b, dims_b, formula, share, summed=not batched)


def _columns(array: Array) -> list[Read]:
    """The first elements of all rows of a maximum, the second ones ...; none for what is no pooling.

    NumPy takes long to reduce many short rows.
    """
    operand = array.operation.operand
    n, width = operand.index.shape
    if array.rule is not MAX or n == 1 or width > SHORT:
        return []
    return [Read(operand.array, column) for column in operand.index.T]


def _plain(share: ScaledShare) -> ScaledShare:
    """The share with the sign and the numeric factors of its formula moved into the scale."""
    formula, scale = share.formula, share.scale
    while True:
        if not isinstance(formula, Symbol):
            return ScaledShare(1.0, scale * formula, share.power)
        if formula.op == "neg":
            formula, scale = formula.args[0], -scale
        elif formula.op == "mul" and not isinstance(formula.args[0], Symbol):
            formula, scale = formula.args[1], scale * formula.args[0]
        elif formula.op == "mul" and not isinstance(formula.args[1], Symbol):
            formula, scale = formula.args[0], scale * formula.args[1]
        else:
            return ScaledShare(formula, scale, share.power)


def _fits(formula: Any, shape: tuple[int, ...], batched: bool) -> bool:
    return isinstance(formula, Symbol) and formula.shape == shape and formula.batched == batched


def _place_in_sum(formula: Any) -> int:
    """Matrix products first, then what is computed, variables, subtracted terms, partial terms, and numbers."""
    if not isinstance(formula, Symbol):
        return 5
    if formula.op == "scatter":
        return 4
    if formula.op == "neg":
        return 3
    return 0 if formula.op.startswith("product") else 1 if formula.op != "leaf" else 2
