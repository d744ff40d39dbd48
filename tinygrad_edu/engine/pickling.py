"""Pickling a graph of any depth: without recursion, with shared nodes shared inside one pickle.

Pickle follows references recursively, which ends at a few hundred nodes. So a graph is saved as flat columns, one
entry per interior node in topological order, and an interior Value as "number i of this graph". Leaves are saved
one by one: pickle's own memo keeps their identity.

Results that share nodes must refer to the same graph object. `_homes` remembers which graph a node was saved with,
for as long as the pickler holds that graph; each thread has its own.
"""

import operator
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any


class _Homes(threading.local):
    """Per thread: the graph of every node that is being saved, by the id of the node."""

    def __init__(self) -> None:
        self.graph_of: dict[int, weakref.ref[_SavedGraph]] = {}


class _SavedGraph:
    """Interior nodes that are saved together: those below root that no graph has yet."""

    def __init__(self, root: Any, graph_of: dict[int, "weakref.ref[_SavedGraph]"]):
        self.nodes: list[Any] = []
        seen: set[Any] = set()
        stack: list[Any] = [root]
        while stack:  # topological_order, without the nodes of other graphs
            node = stack.pop()
            if node is None:
                self.nodes.append(stack.pop())
            elif node.rule is not None and node not in seen and _home(node, graph_of) is None:
                seen.add(node)
                stack += (node, None, *node.parents)
        self.index = {id(node): i for i, node in enumerate(self.nodes)}
        graph_of.update(dict.fromkeys(self.index, weakref.ref(self)))
        weakref.finalize(self, _forget, graph_of, self.index)

    def __reduce__(self) -> Any:
        outside = {p: None for node in self.nodes for p in node.parents if id(p) not in self.index}
        place = {node: i for i, node in enumerate([*outside, *self.nodes])}
        parents = [node.parents for node in self.nodes]
        places = [place[parent] for each in parents for parent in each]
        columns = (list(map(operator.attrgetter(name), self.nodes)) for name in ("rule", "data", "grad", "label"))
        kind = type(self.nodes[0])
        return _load_graph, (kind, list(outside), list(map(len, parents)), places, *columns)


_homes = _Homes()


def _home(node: Any, graph_of: dict[int, "weakref.ref[_SavedGraph]"]) -> _SavedGraph | None:
    graph = graph_of.get(id(node))
    return graph() if graph else None


def _forget(graph_of: dict[int, Any], index: dict[int, int]) -> None:
    for node in index:
        graph_of.pop(node, None)


def reduced(value: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What `Value.__reduce__` returns."""
    if value.rule is None:
        return _load_leaf, (type(value), value.data, value.grad, value.label)
    graph = _home(value, _homes.graph_of) or _SavedGraph(value, _homes.graph_of)
    return operator.getitem, (graph, graph.index[id(value)])


def _load_leaf(kind: Any, data: Any, grad: Any, label: str) -> Any:
    leaf = kind(data, label)
    leaf.grad = grad
    return leaf


def _load_graph(
    kind: Any, outside: list[Any], counts: list[int], places: list[int], *columns: Sequence[Any]
) -> list[Any]:
    nodes, start = list(outside), 0
    for count, rule, data, grad, label in zip(counts, *columns, strict=True):
        node = kind._node(data, rule, tuple([nodes[i] for i in places[start : start + count]]))
        node.grad, node.label = grad, label
        nodes.append(node)
        start += count
    return nodes[len(outside) :]
