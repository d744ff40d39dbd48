"""A `Value` of another class, such as the lecture's own, as a graph of ours: for pictures, steps and questions."""

import itertools
import math
import re
from typing import Any

from ..engine.rule import RULES, Rule
from ..engine.value import Value

SIGNS = {"+": "add", "-": "sub", "*": "mul", "/": "div"}


def adopted(root: Any, *others: Any) -> tuple[Any, ...]:
    """Root and others as nodes of a graph of ours; what is no stranger is given back.

    A stranger has `data`, `grad` and `_prev`, as in micrograd. Its `_op` names the rule, if that gives its number
    for its operands. An operation that is not known has no slopes here: a question that needs them is a TypeError.
    """
    if isinstance(root, Value) or not all(hasattr(root, name) for name in ("data", "grad", "_prev")):
        return root, *others
    ours: dict[int, Value] = {}
    stack = [root]
    while stack:
        parents = list(stack[-1]._prev)
        missing = [parent for parent in parents if id(parent) not in ours]
        if not missing:
            node = stack.pop()
            if id(node) not in ours:
                ours[id(node)] = _node(node, [ours[id(parent)] for parent in parents])
        stack += missing
    return tuple(ours.get(id(node), node) for node in (root, *others))


def _node(stranger: Any, parents: list[Value]) -> Value:
    label, op = str(getattr(stranger, "label", "") or ""), str(getattr(stranger, "_op", ""))
    if not parents:
        node = Value(float(stranger.data), label=label)
    else:
        known = _applied(op, parents, float(stranger.data))  # its number may be 0, which is false
        node = _Foreign(stranger, op, len(parents))(*parents) if known is None else known
        if node.data != stranger.data:
            node.rule = _as_theirs(node.rule, node.data, float(stranger.data))
        node.data, node.label = float(stranger.data), label
    node.grad = float(stranger.grad)
    return node


def _applied(op: str, parents: list[Value], data: float) -> Value | None:
    """The operation of ours that gives this number. `_prev` is a set, so the order of operands is to be found."""
    power = re.fullmatch(r"\*\*\(?(-?[\d.e+-]+)\)?", op)
    rule = RULES.get(SIGNS.get(op, op.lower()))
    if not power and not rule:
        return None
    operands = parents * 2 if rule and len(parents) == 1 and rule.n_inputs == 2 else parents
    for ordered in itertools.permutations(operands) if len(operands) < 3 else [tuple(operands)]:
        try:
            node = ordered[0] ** float(power[1]) if power else rule and rule(*ordered)
        except (TypeError, ValueError, ArithmeticError):
            continue
        lost = 1e-12 * (len(parents) == 1)  # (e^2x - 1) / (e^2x + 1) is 0 at x = 1e-17
        if isinstance(node, Value) and math.isclose(node.data, data, rel_tol=1e-6, abs_tol=lost):
            return node
    return None


def _as_theirs(rule: Rule, ours: float, theirs: float) -> Rule:
    """The rule, but for the last digits of one number: (e^2x - 1) / (e^2x + 1) is tanh, and no changed tanh."""

    def forward(*inputs: Any, **_: Any) -> Any:
        out = rule.forward(*inputs)
        return theirs if out.__class__ is float and out == ours else out

    return rule.replace(forward=forward)


class _Foreign(Rule):
    """An operation that only its own class knows: a number and a symbol."""

    by_hand = True

    def __init__(self, stranger: Any, op: str, n_inputs: int):
        kind, number = type(stranger), float(stranger.data)

        def backward(*arguments: Any) -> Any:
            raise TypeError(
                f"The operation {op or '?'!r} of {kind.__module__}.{kind.__name__} is not known here, so it has "
                "no slopes: compute with the Value of tinygrad_edu or tinygrad_edu.micrograd, or check the class "
                "with tg.testing.diagnose."
            )

        super().__init__(op or "?", op or "?", lambda *inputs: number, backward, n_inputs)
