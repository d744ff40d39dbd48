"""Two mistakes around a backward pass, and the traces they leave: gradients that were not set to zero between
passes, and numbers that were changed after the forward pass."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..engine.changes import changed
from ..engine.value import Value
from ..viz.words import four_digits


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
