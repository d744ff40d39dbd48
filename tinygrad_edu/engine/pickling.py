"""Pickling a graph of any depth, without recursion and with sharing kept.

Pickle follows references recursively, which ends at a few hundred nodes. So an interior Value is saved as "number
i of this graph", and a graph as flat columns, one entry per node in topological order. Values that share nodes and
are pickled together must point into the same graph object: `_homes` remembers, for as long as a pickler holds
it, which graph a node was saved with. Leaves are saved one by one, so pickle's own memo keeps their identity.
One case does recurse: hundreds of results saved one upon the other by a Pickler that is still held, then again by
a second one.
"""

import operator
import weakref
from collections.abc import Sequence
from typing import Any


class _Graph:
    """The interior nodes that are saved together; the rest they need is saved on its own."""

    def __init__(self, root: Any):
        self.nodes: list[Any] = []
        seen: set[Any] = set()
        stack: list[Any] = [root]
        while stack:  # topological_order, as far as no other graph has the nodes already
            node = stack.pop()
            if node is None:
                self.nodes.append(stack.pop())
            elif node.rule and node not in seen and id(node) not in _homes:
                seen.add(node)
                stack += (node, None, *node.parents)
        self.index = {id(node): i for i, node in enumerate(self.nodes)}

    def __reduce__(self) -> Any:
        outside = {p: None for node in self.nodes for p in node.parents if id(p) not in self.index}
        place = {node: i for i, node in enumerate([*outside, *self.nodes])}
        parents = [tuple(place[p] for p in node.parents) for node in self.nodes]
        columns = zip(*[(node.rule, node.data, node.grad, node.label) for node in self.nodes], strict=True)
        return _load_graph, (type(self.nodes[0]), list(outside), parents, *map(list, columns))


_homes: weakref.WeakValueDictionary[int, _Graph] = weakref.WeakValueDictionary()


def reduced(value: Any) -> Any:
    """What `Value.__reduce__` returns."""
    if value.rule is None:
        return _load_leaf, (type(value), value.data, value.grad, value.label)
    if id(value) not in _homes:
        graph = _Graph(value)
        _homes.update(dict.fromkeys(graph.index, graph))
    graph = _homes[id(value)]
    return operator.getitem, (graph, graph.index[id(value)])


def _load_leaf(kind: Any, data: Any, grad: Any, label: str) -> Any:
    leaf = kind(data, label)
    leaf.grad = grad
    return leaf


def _load_graph(
    kind: Any, outside: list[Any], parents: Sequence[tuple[int, ...]], *columns: Sequence[Any]
) -> list[Any]:
    nodes = list(outside)
    for places, rule, data, grad, label in zip(parents, *columns, strict=True):
        node = kind._node(data, rule, tuple(nodes[i] for i in places))
        node.grad, node.label = grad, label
        nodes.append(node)
    return nodes[len(outside) :]
