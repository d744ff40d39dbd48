"""Group: nodes with the same rule and the same kind of operands become one array operation.

The signature of a node is its rule and the groups of its operands. The signature of a sum counts its terms by
group, as in (sum, 1 of b1, 3 of W1 times X). Nodes of equal signature are one group. No node can depend on another
node of its own group, so the groups have an order, as nodes do.

Parameters have no rule. At first they are all one group. Then parameters that are used in the same places are one
group, and W1, b1, W2 and b2 become separate arrays. Those whose labels differ by numbers stay together if some are
used in fewer places: where only one unit of the last state is read, the other rows of its matrix are not used.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from ..engine.rules import Rule
from .normalise import SUM, Graph


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
    members: list[int]


def groups_of(graph: Graph, labels: Sequence[str] = ()) -> tuple[list[Group], list[int]]:
    """The groups, each after those it reads, and the number of the group of every node (-1 if it is not used).

    `labels` are those of the parameters, in their order.
    """
    return _Grouping(graph, labels).result()


class _Grouping:
    def __init__(self, graph: Graph, labels: Sequence[str]):
        self.graph = graph
        self.families = [re.sub(r"(?<=neuron)\d+|\d+(?=[^.]*$)", "", label) for label in labels]
        self.live = _live(graph)

    def result(self) -> tuple[list[Group], list[int]]:
        numbers = self._signatures(self._roles(self._signatures({})))
        members: dict[int, list[int]] = {}
        for node in self.live:
            members.setdefault(numbers[node], []).append(node)
        rules, leaves = self.graph.rules, self.graph.leaves
        groups = [
            Group(number, rules[nodes[0]], leaves[nodes[0]][:-1] if rules[nodes[0]] is None else (), nodes)
            for number, nodes in members.items()
        ]
        return groups, numbers

    def _signatures(self, roles: dict[int, int]) -> list[int]:
        """The number of the group of every node, -1 if it is not used. `roles` are the groups of parameters."""
        rules, operands, leaves = self.graph.rules, self.graph.operands, self.graph.leaves
        numbers, known = [-1] * len(rules), dict[tuple[Any, ...], int]()
        for node in self.live:
            rule = rules[node]
            signature: tuple[Any, ...]
            if rule is None:
                leaf = leaves[node]
                signature = ("parameter", roles.get(node)) if leaf[0] == "parameter" else leaf[:-1]
            elif rule is SUM:
                signature = (rule, *sorted(Counter(_kinds(operands[node], numbers)).items()))
            else:
                signature = (rule, *[numbers[operand] for operand in operands[node]])
            numbers[node] = known.setdefault(signature, len(known))
        return numbers

    def _roles(self, numbers: list[int]) -> dict[int, int]:
        """Group parameters by the set of places where they are used, or by a larger set of parameters nearby.

        A place is the group of the node that uses the parameter, with the number of the operand, or with the kind
        of the term in a sum. `numbers` are the groups when all parameters are one group.
        """
        rules, operands = self.graph.rules, self.graph.operands
        parameters = {node for node, leaf in self.graph.leaves.items() if leaf[0] == "parameter"}
        places: dict[int, set[tuple[Any, ...]]] = {node: set() for node in parameters}
        for node in self.live:
            own = numbers[node]
            rule = rules[node]
            if rule is SUM:
                for term, kind in zip(operands[node], _kinds(operands[node], numbers), strict=True):
                    for factor in term if term.__class__ is tuple else (term,):
                        if factor in places:
                            places[factor].add((own, kind))
            else:
                is_take = rule is not None and rule.n_inputs is None
                for slot, operand in enumerate(operands[node]):
                    if operand in places:
                        places[operand].add((own, 0 if is_take else slot))
        members: dict[tuple[str, frozenset[tuple[Any, ...]]], list[int]] = {}
        for node, found in places.items():
            family = self.families[self.graph.leaves[node][1]] if self.families else ""
            members.setdefault((family, frozenset(found)), []).append(node)
        roles: dict[int, int] = {}
        known: dict[frozenset[tuple[Any, ...]], int] = {}
        wider: dict[Any, list[tuple[int, frozenset[tuple[Any, ...]]]]] = {}  # by family and place
        for (family, used), nodes in sorted(members.items(), key=lambda item: -len(item[0][1])):
            candidates = min((wider.get((family, place), []) for place in used), key=len, default=[])
            larger = [(abs(first - nodes[0]), other) for first, other in candidates if used < other]
            role = min(larger, key=itemgetter(0))[1] if larger else used
            if not larger:
                for place in used:
                    wider.setdefault((family, place), []).append((nodes[0], used))
            roles |= dict.fromkeys(nodes, known.setdefault(role, len(known)))
        return roles


def _kinds(terms: Any, numbers: list[int]) -> list[tuple[int, ...]]:
    """The kind of every term of a sum: the group of a node, or the two groups of a product, sorted."""
    kinds: list[tuple[int, ...]] = []
    for term in terms:
        if term.__class__ is tuple:
            a, b = numbers[term[0]], numbers[term[1]]
            kinds.append((a, b) if a <= b else (b, a))
        else:
            kinds.append((numbers[term],))
    return kinds


def _live(graph: Graph) -> list[int]:
    """The nodes that the outputs depend on, in order."""
    needed, stack = bytearray(len(graph.rules)), list(graph.outputs)
    while stack:
        node = stack.pop()
        if not needed[node]:
            needed[node] = 1
            for operand in graph.operands[node]:
                stack += operand if operand.__class__ is tuple else (operand,)
    return [node for node, is_needed in enumerate(needed) if is_needed]
