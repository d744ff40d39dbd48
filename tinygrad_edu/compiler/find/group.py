"""Group: nodes with the same rule and the same kind of operands become one array operation.

The signature of a node is its rule and the groups of its operands. The signature of a sum counts its terms by
group, as in (sum, 1 of b1, 3 of W1 times X). A product is a sum of one product. Nodes of equal signature are one
group. No node can depend on another node of its own group, so the groups have an order, as nodes do.

Sums and reductions of different lengths may be one group too: `ragged.py` says which.

Parameters have no rule. At first they are all one group. Then parameters that are used in the same places are one
group, and W1, b1, W2 and b2 become separate arrays. Labels that differ by more than numbers split a group: the
weights of two directions are two arrays. Those whose labels differ by numbers stay together if some are used in
fewer places: where only one unit of the last state is read, the other rows of its matrix are not used.
"""

import itertools
from array import array
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from ...engine.rules import MUL, RULES, Rule
from .flatten import SUM
from .normalise import LONG, Graph
from .ragged import classes_of
from .views import Indices

NO_DIGITS = dict.fromkeys(map(ord, "0123456789"))
REDUCTIONS = tuple(RULES[name] for name in ("max", "min", "logsumexp"))


@dataclass(eq=False)
class Group:
    """Nodes that are one array.

    number     names the group in signatures
    rule       None for a leaf
    source     of a leaf: ("parameter",), ("input", argument) or ("constant",)
    members    the nodes, in the order of the array's elements
    """

    number: int
    rule: Rule | None
    source: tuple[Any, ...]
    members: Indices


def groups_of(graph: Graph, labels: Sequence[str] = (), ragged: bool = True) -> tuple[list[Group], Indices]:
    """The groups, each after those it reads, and the number of the group of every node (-1 if it is not used).

    The numbers end with one more -1: so numbers[graph.right[k]] is -1 where operand k is no product. `labels` are
    those of the parameters, in their order. With ragged=False all rows of a group have one length.
    """
    return _Grouping(graph, labels, ragged).result()


class _Grouping:
    def __init__(self, graph: Graph, labels: Sequence[str], ragged: bool):
        self.graph, self.labels, self.ragged = graph, labels, ragged
        self.starts, self.left, self.right = graph.starts.tolist(), array("i"), array("i")
        self.left.frombytes(graph.left.tobytes())  # a slice of an array, or one of its numbers, takes NumPy longer
        self.right.frombytes(graph.right.tobytes())
        (self.first, self.n_parameters), *_ = [row[1:] for row in graph.sources if row[0] == ("parameter",)]
        self.live = self._live()

    def result(self) -> tuple[list[Group], Indices]:
        graph, roles = self.graph, self._roles(self._numbers(None))
        if self._is_mixed(roles):
            stems = self._stems()
            pairs = np.stack([self._roles(self._numbers(stems)), stems])
            roles = np.unique(pairs, axis=1, return_inverse=True)[1].ravel()
        numbers = self._numbers(roles)
        nodes = np.flatnonzero(self.live)
        nodes = nodes[np.argsort(numbers[nodes], kind="stable")]
        distinct, starts = np.unique(numbers[nodes], return_index=True)
        spans = itertools.pairwise([*starts.tolist(), len(nodes)])
        groups = [(number, nodes[slice(*span)]) for number, span in zip(distinct.tolist(), spans, strict=True)]
        return [Group(n, self._rule(own), graph.source(int(own[0])), own) for n, own in groups], numbers

    def _is_mixed(self, roles: Any) -> bool:
        """Are parameters one group, although their labels have different stems? Ends of runs tell."""
        order = np.argsort(roles, kind="stable") if self.labels else np.zeros(0, int)
        first = (np.diff(roles[order], prepend=-1) != 0) | (np.diff(order, prepend=-2) != 1)
        ends = order[first | np.append(first[1:], True)].tolist()
        stems = {(roles[i], _stem(self.labels[i])) for i in ends}
        return len({role for role, _ in stems}) < len(stems)

    def _stems(self) -> Any:
        """The number of the stem of every parameter's label; 0 for one that no other label has."""
        stems = list(map(_stem, self.labels))
        counts = Counter(stems)
        number = {stem: i + 1 for i, stem in enumerate(counts)}
        return np.array([number[stem] if counts[stem] > 1 else 0 for stem in stems])

    def _rule(self, members: Indices) -> Rule | None:
        rule = self.graph.rules[members[0]]
        is_sum = rule is MUL and any(self.graph.rules[node] is SUM for node in members.tolist())
        return SUM if is_sum else rule

    def _live(self) -> Any:
        """For every node, do the outputs depend on it?"""
        graph, starts = self.graph, self.starts
        needed = bytearray(len(starts))  # the last place is that of no node, which is -1
        of_nodes = np.frombuffer(needed, bool)
        of_nodes[graph.outputs] = True
        for node in range(len(starts) - 2, self.first + self.n_parameters - 1, -1):
            start, stop = starts[node], starts[node + 1]
            if needed[node] and stop - start < LONG:
                for operand in self.left[start:stop] + self.right[start:stop]:
                    needed[operand] = 1
            elif needed[node]:
                of_nodes[graph.left[start:stop]] = of_nodes[graph.right[start:stop]] = True
        return of_nodes[:-1]

    def _numbers(self, roles: Any) -> Any:
        """The number of the group of every node, -1 if it is not used. `roles` are the groups of parameters."""
        self._variants: dict[
            int, dict[Any, list[int]]
        ] = {}  # of the rows in a group: nodes by numbers of operands
        numbers = self._signatures(roles, {})
        classes: dict[int, Any] = {}
        for variants in self._variants.values():
            if len(variants) > 1:
                lengths = [[row[1] for row in rows] for rows in zip(*variants, strict=True)]  # of each kind
                sizes = [len(nodes) for nodes in variants.values()]
                class_of = [classes_of(own, sizes) if self.ragged else {n: n for n in own} for own in lengths]
                for nodes, *own in zip(variants.values(), *lengths, strict=True):
                    classes |= dict.fromkeys(nodes, tuple(of[n] for of, n in zip(class_of, own, strict=True)))
        return self._signatures(roles, classes) if classes else numbers

    def _signatures(self, roles: Any, classes: dict[int, Any]) -> Any:
        """The groups, where sums and reductions of one class are alike."""
        graph, known = self.graph, dict[Any, int]()
        rules, starts, left, right = graph.rules, self.starts, self.left, self.right
        numbers = array("i", [-1]) * len(starts)  # the last one is that of no node
        of_nodes = np.frombuffer(numbers, np.int32)
        for source, first, size in graph.sources:
            used = first + np.flatnonzero(self.live[first : first + size])
            role = np.zeros(len(used), int) if roles is None or first != self.first else roles[used - first]
            _, firsts, which = np.unique(role, return_index=True, return_inverse=True)
            of_nodes[used] = len(known) + np.argsort(np.argsort(firsts))[which]
            known.update(((source, i), len(known)) for i in range(len(firsts)))
        n_leaves = self.first + self.n_parameters
        for node in (n_leaves + np.flatnonzero(self.live[n_leaves:])).tolist():
            rule, start, stop = rules[node], starts[node], starts[node + 1]
            counts: Any = None  # how many operands of each kind
            if rule is SUM and stop - start < LONG:
                pairs = zip(left[start:stop], right[start:stop], strict=True)
                counts = tuple(sorted(Counter([self._kind(numbers[a], numbers[b]) for a, b in pairs]).items()))
            elif rule is SUM:
                kinds = self._kinds(of_nodes[graph.left[start:stop]], of_nodes[graph.right[start:stop]])
                different, sizes = np.unique(kinds, return_counts=True)
                counts = tuple(zip(different.tolist(), sizes.tolist(), strict=True))
            elif rule is MUL:
                counts = ((self._kind(numbers[left[start]], numbers[left[start + 1]]), 1),)
            else:
                operands = [numbers[operand] for operand in left[start:stop]]
                if rule in REDUCTIONS and len(set(operands)) == 1:
                    counts = ((operands[0], len(operands)),)
            if rule is SUM and (None,) in known:  # a constant that a sum does not have is 0
                of_constants = self._kind(known[None,], -1)
                counts = tuple(count for count in counts if count[0] != of_constants) or counts
            if counts:
                of_rule = SUM if rule is MUL else rule
                signature = of_rule, classes.get(node), *[kind for kind, _ in counts]
            else:
                signature = rule, *operands
            number = numbers[node] = known.setdefault(signature, len(known))
            if counts:
                self._variants.setdefault(number, {}).setdefault(counts, []).append(node)
        return of_nodes

    def _kind(self, a: int, b: int) -> int:
        """The kind of a term as one number: the groups of its two factors, in any order. b is -1 for a node."""
        low, high = (a, b) if a < b else (b, a)
        return (low + 1) * len(self.starts) + high

    def _kinds(self, a: Any, b: Any) -> Any:
        return (np.minimum(a, b) + np.int64(1)) * len(self.starts) + np.maximum(a, b)

    def _roles(self, numbers: Any) -> Any:
        """Group parameters by the set of places where they are used, or by a larger set of parameters nearby.

        A place is the group of the node that uses the parameter, with the number of the operand, or with the kind
        of the term in a sum. `numbers` are the groups when all parameters are one group.
        """
        graph, n_leaves = self.graph, self.first + self.n_parameters
        rules, sizes = graph.rules[n_leaves:], np.diff(graph.starts)
        user = np.repeat(np.arange(len(sizes)), sizes)  # of each operand
        is_sum = np.repeat([rule is SUM for rule in rules], sizes[n_leaves:])
        in_order = np.repeat([rule is not None and rule.n_inputs is not None for rule in rules], sizes[n_leaves:])
        slots = np.where(in_order, np.arange(len(user)) - graph.starts[user], 0)
        slots = np.where(is_sum, self._kinds(numbers[graph.left], numbers[graph.right]), slots)
        sides = [
            np.flatnonzero((factor >= self.first) & (factor < n_leaves) & self.live[user])
            for factor in (graph.left, graph.right)
        ]
        at = np.concatenate(sides)
        parameters = np.concatenate([graph.left[sides[0]], graph.right[sides[1]]]) - np.int64(self.first)
        _, slot = np.unique(slots[at], return_inverse=True)
        _, place = np.unique(numbers[user[at]] * (slot.max(initial=0) + 1) + slot, return_inverse=True)
        n_places = place.max(initial=0) + 1
        pairs = np.sort(parameters * n_places + place)
        parameters, place = np.divmod(pairs[np.diff(pairs, prepend=-1) > 0], n_places)

        # Two sets of places are one if the sums of random numbers for their places are. By a wrong guess, which is
        # less likely than one in a million, parameters would share an array: this changes no result.
        sums, random = np.zeros(self.n_parameters, np.uint64), np.random.default_rng(0)
        np.add.at(sums, parameters, random.integers(2**63, size=n_places, dtype=np.uint64)[place])
        _, firsts, roles = np.unique(sums, return_index=True, return_inverse=True)
        ends = np.searchsorted(parameters, [firsts, firsts + 1]).T
        return self._widened(
            [frozenset(place[start:stop].tolist()) for start, stop in ends], firsts.tolist(), roles
        )

    def _widened(self, sets: list[frozenset[int]], firsts: list[int], roles: Any) -> Any:
        """The roles, where parameters are put to others nearby of their label that are used in more places."""
        if _wider([((), used, first) for used, first in zip(sets, firsts, strict=True)]) == sets:
            return roles
        factors = np.stack([self.graph.left, self.graph.right]) - np.int64(self.first)
        factors = factors[:, (factors >= 0).all(0) & (factors < len(roles)).all(0) & (factors[0] != factors[1])]
        pairs = set(map(frozenset, np.unique(roles[factors], axis=1).T.tolist()))
        alone = {role for role in range(len(sets)) if {role} not in pairs}
        apart = {frozenset(sets[role] for role in pair) for pair in pairs if len(pair) == 2 and pair <= alone}
        families = list(map(_stem, self.labels)) or [""] * len(roles)
        members: dict[tuple[Any, int], list[int]] = {}
        for parameter, key in enumerate(zip(families, roles.tolist(), strict=True)):
            members.setdefault(key, []).append(parameter)
        wider = _wider([(family, sets[role], own[0]) for (family, role), own in members.items()], apart)
        number = {used: i for i, used in enumerate(dict.fromkeys(wider))}
        for own, used in zip(members.values(), wider, strict=True):
            roles[own] = number[used]
        return roles


def _stem(label: str) -> str:
    """What the labels of one array have in common: layer.neuron.w of layer0.neuron3.w2."""
    return label.translate(NO_DIGITS)


def _wider(members: list[tuple[Any, frozenset[int], int]], apart: Collection[Any] = ()) -> list[frozenset[int]]:
    """For each (family, places, first parameter) its places, or the larger ones of the nearest of its family.

    apart: pairs of places whose parameters are factors of each other, as a weight and the first state.
    """
    result, known = [used for _, used, _ in members], dict[Any, list[tuple[int, frozenset[int]]]]()
    for i in sorted(range(len(members)), key=lambda i: -len(members[i][1])):
        family, used, first = members[i]
        candidates = min((known.get((family, place), []) for place in used), key=len, default=[])
        larger = [
            (abs(other_first - first), other)
            for other_first, other in candidates
            if used < other and {used, other} not in apart
        ]
        if larger:
            result[i] = min(larger, key=itemgetter(0))[1]
        else:
            for place in used:
                known.setdefault((family, place), []).append((first, used))
    return result
