"""Where a number that floats spoilt comes from: the operation that made nan or inf out of numbers in order."""

import math

from ..debug.stepping import expression
from ..engine.graph import topological_order
from ..engine.value import Value
from ..viz.words import four_digits


def origin(result: Value) -> str:
    """What made the first nan below a result, or else the first inf, in one line; "" if there is neither.

    >>> x = Value(1e308)
    >>> origin(-2 * x * (-x).exp())
    '-2 * 1e+308 is -inf, and -inf * 0 is nan'
    """
    order = [node for node in topological_order(result) if node.rule]
    makers = [*filter(_makes_nan, order), *filter(_makes_infinity, order)]
    if not makers:
        return ""
    overflows = [_statement(_overflow(p)) for p in makers[0].parents if math.isinf(p.data)]
    causes = ", ".join(dict.fromkeys(overflows))
    return f"{causes}, and {_statement(makers[0])}" if causes else _statement(makers[0])


def _makes_nan(node: Value) -> bool:
    return math.isnan(node.data) and not any(math.isnan(parent.data) for parent in node.parents)


def _makes_infinity(node: Value) -> bool:
    return math.isinf(node.data) and all(math.isfinite(parent.data) for parent in node.parents)


def _overflow(node: Value) -> Value:
    """The node from which an infinite one has it; a leaf, if it was given."""
    while infinite := [parent for parent in node.parents if math.isinf(parent.data)]:
        node = infinite[0]
    return node


def _statement(node: Value) -> str:
    made = expression(node, lambda parent: four_digits(parent.data)) if node.rule else node.label
    return f"{made} is {four_digits(node.data)}"
