"""Numbers that were changed after the forward pass, so that the slopes are no longer those of the result."""

from typing import Any

from .graph import topological_order


def is_stale(node: Any) -> bool:
    """Do the inputs of this node give another number than they did in the forward pass?"""
    now = node.rule.forward(*[p.data for p in node.parents]) if node.rule else node.data
    return bool(now != node.data and (now == now or node.data == node.data))


def changed(root: Any) -> list[Any]:
    """The leaves that may have been changed since root was computed; empty if none was.

    They are the leaves of the first stale node, without those that another node uses and is not stale. If some
    have labels, the others are left out: the constant 2 of `a * 2` is no suspect.
    """
    order = topological_order(root)
    stale = dict.fromkeys(filter(is_stale, order))
    if not stale:
        return []
    first = next(iter(stale))
    unchanged = {p for node in order if node not in stale for p in node.parents}
    leaves = [p for p in dict.fromkeys(first.parents) if p.rule is None]
    suspects = [leaf for leaf in leaves if leaf not in unchanged] or leaves or [first]
    return [leaf for leaf in suspects if leaf.label] or suspects


def raise_if_changed(root: Any) -> None:
    """RuntimeError with the names of the leaves that were changed since root was computed."""
    names = [leaf.label or repr(leaf) for leaf in changed(root)]
    if names:
        raise RuntimeError(
            f"{' or '.join(names)} was changed after the forward pass: the result was computed from other "
            "numbers. Compute it again before backward()."
        )
