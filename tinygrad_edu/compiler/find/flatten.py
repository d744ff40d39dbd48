"""Flatten: a trace as arrays of integers, in which all sums find their terms at once.

A network has hundreds of thousands of + and *, and a few hundred sums. b + w0 x0 + w1 x1 + ... is a chain: each +
takes the one before it. In an array, every + points to the + that takes it. The last one points to itself: this is
the sum. Following all pointers at once doubles the steps, 1, 2, 4, 8 ..., so a few passes lead all to their sums.
"""

from itertools import chain
from operator import attrgetter
from typing import Any

import numpy as np

from ...engine.rules import ADD, MUL, RULES
from ..trace.tracing import Trace

SUM, DOT = RULES["sum"], RULES["dot"]


def _ids(objects: Any) -> Any:
    """The ids of the objects in an array: in CPython the addresses that the array holds."""
    return np.frombuffer(objects, np.intp)


class _Places:
    """The places of objects in an array. An object that is new gets the next one."""

    def __init__(self, objects: Any):
        ids = _ids(objects)
        self._order = np.argsort(ids, kind="stable")
        self._ids = ids[self._order]
        self.new: dict[Any, int] = {}

    def of(self, objects: Any) -> Any:
        """Their places. A search in sorted ids takes less time and memory than a dict of all objects."""
        ids = _ids(objects)
        nearest = np.minimum(np.searchsorted(self._ids, ids), len(self._ids) - 1)
        places = self._order[nearest]
        for i in np.flatnonzero(self._ids[nearest] != ids).tolist():
            places[i] = self.new.setdefault(objects[i], len(self._ids) + len(self.new))
        return places


class Flat:
    """A trace as integers. Inputs have the first places, then come parameters, operations, None and constants.

    n_places     how many there are
    constants    the Values that are constant, by place
    outputs      the places of the results
    heads        (place, rule, start, stop) of the operations that remain: all but sums and products that one sum
                 uses, once. Their operands are from start to stop; a sum has the terms of the sums in it too
    left, right  the operands: the place `left`, or the product of both; then `right` is not the place of None
    is_mul       is it a product that was written as one? A dot has the others
    """

    def __init__(self, trace: Trace):
        nodes = [node for node in trace.nodes if node.rule is not None]
        rules = [node.rule for node in nodes]
        leaves = [*chain(*trace.inputs), *trace.parameters]
        first, nothing = len(leaves), len(leaves) + len(nodes)
        places = _Places(np.fromiter([*leaves, *nodes, None], object))

        # The operands of all operations, one after the other; a dot has pairs of them.
        left, right = (
            places.of(np.fromiter(map(attrgetter(name), nodes), object)) for name in ("_left", "_right")
        )
        kinds = _ids(np.fromiter(rules, object))
        of_two, sizes = right != nothing, 1 + (right != nothing)
        several = np.flatnonzero((left > nothing) | (kinds == id(DOT))).tolist()
        for i in several:
            sizes[i] = len(nodes[i].parents) // (2 if rules[i] is DOT else 1)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        operands, partners = np.full((2, starts[-1]), nothing, np.int32)
        operands[starts[:-1]] = left
        operands[starts[1:][of_two] - 1] = right[of_two]
        rows = places.of(np.fromiter(chain.from_iterable(nodes[i].parents for i in several), object))
        taken_up = 0
        for i in several:
            for part in (operands, partners) if rules[i] is DOT else (operands,):
                part[starts[i] : starts[i + 1]] = rows[taken_up : taken_up + sizes[i]]
                taken_up += sizes[i]
        self.outputs: Any = places.of(np.fromiter(trace.outputs, object)).tolist()
        self.constants: dict[int, Any] = {
            place: new for new, place in places.new.items() if new.__class__ is not tuple
        }
        n_places = nothing + 1 + len(places.new)
        self.n_places: int = n_places

        # A sum takes a sum or product that only it uses.
        uses = np.bincount(operands, minlength=n_places) + np.bincount(partners, minlength=n_places)
        uses[self.outputs] += 2  # an output stays a node of its own
        kinds = np.concatenate([np.zeros(first, np.intp), kinds, np.zeros(n_places - nothing, np.intp)])
        is_mul, adds = kinds == id(MUL), (kinds == id(ADD)) | (kinds == id(SUM))
        user = np.repeat(np.arange(first, nothing), sizes)
        is_sum = (adds | (kinds == id(DOT)))[operands]
        taken = adds[user] & (uses[operands] == 1) & (is_sum | is_mul[operands])
        is_taken = np.zeros(n_places, bool)
        is_taken[operands[taken]] = True

        # The terms of a sum are also those of the sums that it takes, and of those that they take.
        root = np.arange(n_places)
        root[operands[taken & is_sum]] = user[taken & is_sum]
        while not np.array_equal(above := root[root], root):
            root = above
        terms = np.flatnonzero(~(taken & is_sum) & ~(is_taken & is_mul)[user])
        owners = root[user[terms]]
        order = np.argsort(owners, kind="stable")
        terms, owners = terms[order], owners[order]
        self.left: Any = operands[terms]
        self.right: Any = partners[terms]
        self.is_mul: Any = taken[terms]
        factors = starts[self.left[self.is_mul] - first]
        self.left[self.is_mul], self.right[self.is_mul] = operands[factors], operands[factors + 1]
        heads = first + np.flatnonzero(~is_taken[first:nothing] & (uses[first:nothing] > 0))
        ends = (np.searchsorted(owners, heads, side).tolist() for side in ("left", "right"))
        self.heads: list[tuple[Any, ...]] = [
            (head, rules[head - first], *span) for head, *span in zip(heads.tolist(), *ends, strict=True)
        ]
