"""Four mistakes around a backward pass, and the traces they leave.

Numbers were changed after the forward pass; gradients were not set to zero between passes, were overwritten, or
were passed on in a wrong order.
"""

from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Any

from ..engine.changes import changed
from ..engine.value import Value
from ..viz.words import few, four_digits

Received = tuple[Value, Any, Any]  # by which node, the slope, the share


def accumulated(root: Value, gradients: Mapping[Value, Any], leaves: Iterable[Value]) -> dict[Value, Any]:
    """{leaf: its gradient in one pass} of the leaves whose `.grad` is that of two or more equal passes.

    `gradients` are those of a pass from root with upstream 1; another upstream of the last pass is in `root.grad`.
    There are none if the leaves disagree: then the passes were different ones, which may well be meant. A leaf
    that is new in each pass, such as an input, has the gradient of one.
    """
    each = {leaf: gradients[leaf] * root.grad for leaf in leaves if gradients[leaf] != 0 and leaf is not root}
    counts = {leaf: passes(leaf, gradient) for leaf, gradient in each.items()}
    if None in counts.values() or len(set(counts.values()) - {0, 1}) != 1:
        return {}
    return {leaf: each[leaf] for leaf, count in counts.items() if count not in (0, 1)}


def passes(leaf: Value, gradient: Any) -> int | None:
    """How many passes of this gradient make `leaf.grad`; None if it is no multiple."""
    try:
        ratio = float(leaf.grad / gradient)
        count = round(ratio)
    except (ArithmeticError, ValueError):  # by 0, inf or nan
        return None
    return count if count >= 0 and abs(ratio - count) <= 1e-9 * count else None


def told(name: str, leaf: Value, gradient: Any) -> str:
    """The sentence for a leaf of `accumulated`: "w.grad is 12 = 3 passes of 4: gradients were not set to zero"."""
    sum, each = four_digits(leaf.grad), four_digits(gradient)
    return f"{name}.grad is {sum} = {passes(leaf, gradient)} passes of {each}: gradients were not set to zero"


def mistakes(order: list[Value], gradients: Mapping[Value, Any], names: Mapping[Value, str]) -> list[str]:
    """A sentence for each number that was changed; if there is none, for each leaf whose passes have added up.

    `gradients` are those of the leaves in question, in a pass with upstream 1.
    """
    if stale := changed(order[-1]):
        return [f"{names[node]} was changed after the forward pass" for node in stale]
    leaves = [leaf for leaf in gradients if leaf in names and not leaf.rule]
    return [told(names[leaf], leaf, each) for leaf, each in accumulated(order[-1], gradients, leaves).items()]


def misplaced(order: list[Value], names: Mapping[Value, str]) -> list[str]:
    """A sentence for the node nearest to the result whose `.grad` shows one of two mistakes; [] if none does.

    A gradient that equals one of several shares was overwritten (`=` in place of `+=`). A gradient that was made
    from a part of an upstream gradient was passed on before that was complete (no topological order). Each is
    compared with the gradients that its users hold. A leaf of gradient 0 proves nothing: it may have been cleared.
    """
    received: dict[Value, list[Received]] = {node: [] for node in order}
    for node in reversed(order) if order[-1].grad != 0 else ():
        known = node is not order[-1] and (node.grad or node.rule)
        sentence = known and (_overwritten(node, received[node], names) or _early(node, received, names))
        if sentence:
            return [sentence]
        if node.rule:
            try:
                numbers = (node.data, *[p.data for p in node.parents])
                slopes = node.rule.shares(type(node.data)(1), *numbers)
                shares = node.rule.shares(node.grad, *numbers)
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
