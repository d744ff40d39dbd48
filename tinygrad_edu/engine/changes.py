"""Numbers that were changed after the forward pass, so that the slopes are no longer those of the result."""

from typing import Any

from .graph import topological_order


def changed(root: Any) -> list[Any]:
    """The nodes whose number may have been changed since root was computed; empty if none was.

    They are the leaves of the first node whose number its inputs no longer give, without leaves that another node
    uses and still agrees with. If some have labels, the others are left out: the constant 2 of `a * 2` is no
    suspect. If the leaves still give the result, the number of an interior node was set.
    """
    order = topological_order(root)
    stale = dict.fromkeys(filter(is_stale, order))
    if not stale:
        return []
    fresh: dict[Any, Any] = {}
    for node in order:
        fresh[node] = _again(node, [fresh[p] for p in node.parents])
    if _same(fresh[root], root.data):
        return [node for node in order if not _same(fresh[node], node.data)]
    first = next(iter(stale))
    unchanged = {p for node in order if node not in stale for p in node.parents}
    leaves = [p for p in dict.fromkeys(first.parents) if p.rule is None]
    suspects = [leaf for leaf in leaves if leaf not in unchanged] or leaves or [first]
    return [leaf for leaf in suspects if leaf.label] or suspects


def is_stale(node: Any) -> bool:
    """Do the inputs of this node give another number than they did in the forward pass?"""
    return not _same(_again(node, [p.data for p in node.parents]), node.data)


def raise_if_changed(root: Any) -> None:
    """RuntimeError with the names of the nodes that were changed since root was computed."""
    names = [node.label or repr(node) for node in changed(root)]
    if names:
        raise RuntimeError(
            f"{' or '.join(names)} was changed after the forward pass: the result was computed from other "
            "numbers. Compute it again before backward()."
        )


def _again(node: Any, numbers: list[Any]) -> Any:
    """The number of a node, computed from these numbers of its parents."""
    return node.data if node.rule is None or node.rule.by_hand else node.rule.forward(*numbers)


def _same(x: Any, y: Any) -> bool:
    return bool(x == y or (x != x and y != y))
