"""Pickling a graph of any depth: without recursion, with shared nodes shared inside one pickle.

Pickle saves what an object refers to before the object itself, recursively, which ends at a few hundred nodes. So
a result is saved as the last of a list: all nodes it depends on, each after its parents. Pickle then meets only
parents that it has saved, and its own memo keeps them shared. The nodes of such a list are `_listed`, per thread,
for as long as the pickler holds the list.
"""

import operator
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .graph import order_beyond


class _Listed(threading.local):
    """The nodes that a pickler of this thread saves, or has saved, one by one."""

    def __init__(self) -> None:
        self.nodes: set[Any] = set()


_listed = _Listed()


class _Result:
    """A result, saved as the last node of a list."""

    def __init__(self, value: Any):
        self.nodes = order_beyond(value, _listed.nodes)
        weakref.finalize(self, _listed.nodes.difference_update, self.nodes)

    def __reduce__(self) -> Any:
        return list, (self.nodes,)


def reduced(value: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """`Value.__reduce__`."""
    parents = value.parents
    if parents and value not in _listed.nodes:
        return operator.getitem, (_Result(value), -1)
    return _loaded, (value.__class__, value.data, value.rule, parents, value.grad, value.label)


def _loaded(kind: Any, data: Any, rule: Any, parents: tuple[Any, ...], grad: Any, label: str) -> Any:
    node = kind._node(data, rule, parents)
    node.grad, node.label = grad, label
    return node
