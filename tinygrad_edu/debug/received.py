"""Gradients that a backward pass written by hand has spoilt: overwritten, or passed on in a wrong order."""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from ..engine.value import Value
from ..viz.words import few, four_digits

Received = tuple[Value, Any, Any]  # by which node, the slope, the share


def misplaced(order: Sequence[Value], names: Mapping[Value, str]) -> list[str]:
    """A sentence for the node nearest to the result whose `.grad` shows one of two mistakes; [] if none does.

    A gradient that equals one of several shares was overwritten (`=` in place of `+=`). A gradient that was made
    from a part of an upstream gradient was passed on before that was complete (no topological order). Each is
    compared with the gradients that its users hold. A leaf of gradient 0 proves nothing: it may have been cleared.
    """
    received: dict[Value, list[Received]] = {node: [] for node in order}
    for node in reversed(order) if order[-1].grad != 0 else ():
        known = node is not order[-1] and (node.grad or node.rule)
        if known and (told := _overwritten(node, received[node], names) or _early(node, received, names)):
            return [told]
        if node.rule:
            try:
                numbers = (node.data, *[p.data for p in node.parents])
                slopes, shares = (
                    node.rule.shares(type(node.data)(1), *numbers),
                    node.rule.shares(node.grad, *numbers),
                )
            except Exception:  # the steps raise it, with the node's name
                return []
            for parent, slope, share in zip(node.parents, slopes, shares, strict=True):
                received[parent].append((node, slope, share))
    return []


def _overwritten(node: Value, received: list[Received], names: Mapping[Value, str]) -> str:
    shares = [share for _, _, share in received]
    total = sum(shares)
    if len(shares) < 2 or _near(node.grad, total) or not any(_near(node.grad, x) and x for x in shares):
        return ""
    written = " + ".join(few([four_digits(share) for share in shares], 5))
    return (
        f"{names[node]}.grad is {four_digits(node.grad)}, one of the shares {written} = {four_digits(total)}: "
        "it was overwritten. Add the shares up, with += in place of =."
    )


def _early(node: Value, received: Mapping[Value, list[Received]], names: Mapping[Value, str]) -> str:
    total = sum(share for _, _, share in received[node])
    if _near(node.grad, total):
        return ""
    for user, slope, share in received[node]:
        parts = [0.0, *accumulate(part for _, _, part in received[user]), *[part for _, _, part in received[user]]]
        for part in parts if received[user] else ():
            if not _near(part, user.grad) and _near(node.grad, total - share + slope * part):
                return (
                    f"{names[node]}.grad is {four_digits(node.grad)} and should be {four_digits(total)}: "
                    f"{names[user]} passed its gradient on when that was {four_digits(part)}, before it was "
                    f"complete ({four_digits(user.grad)}). Go through topological_order from its end."
                )
    return ""


def _near(x: Any, y: Any) -> bool:
    return bool(abs(x - y) <= 1e-9 * abs(y))
