"""Functions of a graph: of any nodes with `.parents`, the ordered tuple of what they were made from.

None of them recurses, so a chain of a million nodes is fine.
"""

from typing import Any

from .refusals import no_node


def topological_order(root: Any) -> list[Any]:
    """Every node that root depends on, each once, each after all of its parents; root is last.

    Backpropagation goes through this list from its end: a node's gradient is complete only when every node that
    uses it has passed its share back. The order is depth first and the same on every run. The right operand comes
    first, so that from the end the list reads from left to right. Raises TypeError for what is not a node.

    >>> from tinygrad_edu import Value
    >>> a = Value(1.0)
    >>> b = a + a
    >>> [node.data for node in topological_order(b + b)]
    [1.0, 2.0, 4.0]
    """
    if isinstance(root, type) or not hasattr(root, "parents"):
        raise no_node(root)
    return order_beyond(root, set())


def order_beyond(root: Any, seen: set[Any]) -> list[Any]:
    """The topological order of the nodes below root that are not among those seen; now they are."""
    order, stack = [], [root]
    while stack:
        node = stack.pop()
        if node is None:  # a marker: the node below it has all its parents in the list
            order.append(stack.pop())
        elif node not in seen:
            seen.add(node)
            if parents := node.parents:
                stack += (node, None, *parents)
            else:
                order.append(node)
    return order


def edges(root: Any) -> list[tuple[Any, Any]]:
    """All (parent, child) pairs below root, children in topological order; `x * x` gives its pair twice."""
    return [(parent, child) for child in topological_order(root) for parent in child.parents]


def ancestors(node: Any) -> list[Any]:
    """Every node that this one was made from, itself excluded, in topological order."""
    return topological_order(node)[:-1]
