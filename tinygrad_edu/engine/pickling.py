"""Pickling a graph of any depth: without recursion, with shared nodes shared inside one pickle.

Pickle saves what an object refers to before the object itself, recursively, which ends at a few hundred nodes. So
a result is saved as the last of a list: all nodes it depends on, each after its parents. Pickle then meets only
parents that it has saved, and its own memo keeps them shared.

A node is not told which pickler saves it. So each thread remembers, for as long as a pickler holds a list, which
nodes are `listed` and which of these are still `waiting`. A listed node that no longer waits is met by another
pickler: it gets another list, of all nodes.
"""

import operator
import threading
import weakref
from collections.abc import Callable
from typing import Any

from .graph import order_beyond


class _Lists(threading.local):
    """The nodes that picklers of this thread have in their lists, and those of them that are not saved yet."""

    def __init__(self) -> None:
        self.listed: set[Any] = set()
        self.waiting: set[Any] = set()


_lists = _Lists()


class _Result:
    """A result, saved as the last node of a list."""

    def __init__(self, value: Any):
        listed = _lists.listed
        self.nodes = order_beyond(value, set() if value in listed else listed)
        for nodes in (listed, _lists.waiting):
            nodes.update(self.nodes)
            weakref.finalize(self, nodes.difference_update, self.nodes)

    def __reduce__(self) -> Any:
        return list, (self.nodes,)


def reduced(value: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """`Value.__reduce__`."""
    parents, waiting = value.parents, _lists.waiting
    if parents and value not in waiting:
        return operator.getitem, (_Result(value), -1)
    waiting.discard(value)
    return _loaded, (value.__class__, value.data, value.rule, parents, value.grad, value.label)


def _loaded(kind: Any, data: Any, rule: Any, parents: tuple[Any, ...], grad: Any, label: str) -> Any:
    node = kind._node(data, rule, parents) if rule else kind(data)
    node.grad, node.label = grad, label
    return node
