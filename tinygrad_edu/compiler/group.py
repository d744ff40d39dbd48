"""Group: nodes that do the same to operands that are alike become one array operation.

The signature of a node is its rule and the groups of its operands; for a sum, its numbers of terms by group, as
in (sum, 1 of b1, 3 of W1 times X). Equal signatures make one group. No node can depend on another of its own
group, so groups have an order as nodes do. Parameters have no rule that tells them apart: at first all are alike,
and then those are that are used alike, which is how W1, b1, W2 and b2 come to be arrays of their own.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ..engine.rules import Rule
from .normalise import SUM, Graph


@dataclass(eq=False)
class Group:
    """Nodes that are one array.

    number     that of the group, by which nodes and signatures name it
    rule       None for a leaf
    source     of a leaf ("parameter",), ("input", argument) or ("constant",)
    members    the nodes, in the order of the array's elements
    """

    number: int
    rule: Rule | None
    source: tuple[Any, ...]
    members: list[int]


def groups_of(graph: Graph) -> tuple[list[Group], list[int]]:
    """The groups, each after those it reads, and for every node the number of its group, -1 if it is not used."""
    return _Grouping(graph).result()


class _Grouping:
    def __init__(self, graph: Graph):
        self.graph = graph
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
        """The number of the group of every node; -1 for what is not used. `roles` tells parameters apart."""
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
        """For every parameter the number of the set of places where it is used.

        A place is the group of the user and the slot, or in a sum the kind of the term. `numbers` are those of
        signatures that tell no parameters apart.
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
        known: dict[frozenset[tuple[Any, ...]], int] = {}
        return {node: known.setdefault(frozenset(used), len(known)) for node, used in places.items()}


def _kinds(terms: Any, numbers: list[int]) -> list[tuple[int, ...]]:
    """The kind of every term of a sum: the group of a node, or the two groups of a product in order."""
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
