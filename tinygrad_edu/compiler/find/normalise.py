"""Normalise: the same graph in one form, however it was written.

Chains of + become one sum, whose terms are nodes or products of two nodes. dot is such a sum. Constants are
folded, and equal nodes are shared. The log of a softmax becomes one operation, which does not overflow.
"""

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from ...engine.rules import ADD, DIV, MUL, RULES, Rule
from ...engine.value import Value
from ..trace.checks import captured
from ..trace.placeholder import TAKE
from ..trace.tracing import Trace
from .flatten import DOT, SUM, Flat

LOG, EXP, LOGSUMEXP, SUB = (RULES[name] for name in ("log", "exp", "logsumexp", "sub"))

LEAST = 1e-75  # factors between this and 1e75 are multiplied with each other
LONG = 32  # a sum of so many terms is looked at as arrays; lists are faster for a shorter one

Term = int | tuple[int, int]  # a node, or the product of two


@dataclass
class Graph:
    """Nodes by number, each after its operands. The inputs come first, then the parameters.

    rules        rules[n] is the Rule that made node n, None for a leaf
    starts       node n has the operands starts[n] to starts[n + 1]; those of a SUM are its terms
    left, right  operand k is the node left[k]. Where right[k] is not -1 it is the product left[k] * right[k]
    sources      (source, first node, how many) of the inputs ("input", argument) and of the ("parameter",) nodes
    constants    the numbers of the leaves that are constant, by node
    outputs      the numbers of the results
    frozen       leaves that are no parameters, with the number that was taken for constant
    n_traced     how many nodes the function made
    assumed      for every argument whose rows are summed as a whole, whether each adds up to 1
    """

    rules: list[Rule | None] = field(default_factory=list)
    starts: Any = None
    left: Any = None
    right: Any = None
    sources: list[tuple[tuple[Any, ...], int, int]] = field(default_factory=list)
    constants: dict[int, float] = field(default_factory=dict)
    outputs: list[int] = field(default_factory=list)
    frozen: list[tuple[Value, Any]] = field(default_factory=list)
    n_traced: int = 0
    assumed: dict[int, bool] = field(default_factory=dict)

    def terms(self, node: int) -> list[Term]:
        """The operands of a node, in order: of a SUM nodes and pairs of nodes, of another rule nodes alone."""
        start, stop = self.starts[node], self.starts[node + 1]
        pairs = zip(self.left[start:stop].tolist(), self.right[start:stop].tolist(), strict=True)
        return [a if b < 0 else (a, b) for a, b in pairs]

    def source(self, node: int) -> tuple[Any, ...]:
        """What a leaf is: ("input", argument), ("parameter",) or ("constant",); () for another node."""
        for source, first, size in self.sources:
            if first <= node < first + size:
                return source
        return ("constant",) if node in self.constants else ()


def normalise(trace: Trace, is_one_hot: Callable[[int], bool] = lambda argument: False) -> Graph:
    """The graph of a trace in its normal form. Takes time in proportion to its size, and nothing recurses.

    Where the function adds all numbers of a row of an argument, is_one_hot(argument) says if all its rows add up
    to 1, as those of one-hot targets do. Then the sum is the constant 1. The answers are kept in `assumed`.

    Raises ValueError if the function uses a Value that was computed outside of it from a parameter.
    """
    return Normaliser(trace, is_one_hot).graph


class Normaliser:
    """Makes the normal form of a trace: `graph`."""

    def __init__(self, trace: Trace, is_one_hot: Callable[[int], bool]):
        self.graph: Graph = Graph()
        self._shapes, self._is_one_hot = trace.shapes, is_one_hot
        self._left: list[Sequence[int]] = []  # the operands of every node, as in Graph
        self._right: list[Sequence[int]] = []
        self._known: dict[Any, int] = {}
        self._constants = self.graph.constants
        self._flat = Flat(trace)
        self._nodes = array("i", [-1]) * self._flat.n_places  # by place
        self._build(trace)

    def _build(self, trace: Trace) -> None:
        graph, nodes, flat, parameters = self.graph, self._nodes, self._flat, set(trace.parameters)
        rows: list[Sequence[Value]] = [*trace.inputs, trace.parameters]
        n_leaves = 0
        for argument, row in enumerate(rows):
            source = ("input", argument) if argument < len(trace.inputs) else ("parameter",)
            graph.sources.append((source, n_leaves, len(row)))
            n_leaves += len(row)
        graph.rules = [None] * n_leaves
        self._left, self._right = [()] * n_leaves, [()] * n_leaves
        nodes[:n_leaves] = array("i", range(n_leaves))
        for place, value in flat.constants.items():
            graph.frozen += captured(value, parameters)
            nodes[place] = self._constant(value.data)
        left = array("i", flat.left.tobytes())
        for place, rule, start, stop in flat.heads:
            if rule is ADD or rule is SUM or rule is DOT:
                nodes[place] = self._sum(slice(start, stop))
            else:
                operands = [nodes[operand] for operand in left[start:stop]]
                is_mul = rule is MUL
                nodes[place] = self._term(self._product(*operands)) if is_mul else self._operation(rule, operands)
        graph.outputs = [nodes[place] for place in flat.outputs]
        graph.n_traced = n_leaves + len(trace.nodes) + len(graph.frozen)
        graph.starts = np.cumsum([0, *map(len, self._left)])
        graph.left, graph.right = (
            np.fromiter(chain.from_iterable(rows), np.int32, graph.starts[-1])
            for rows in (self._left, self._right)
        )

    # --- Nodes ----------------------------------------------------------------------------------------------

    def _node(self, key: Any, rule: Rule | None, left: Sequence[int] = (), right: Sequence[int] = ()) -> int:
        """The node of this rule and these operands, made once."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.graph.rules)
            self.graph.rules.append(rule)
            self._left.append(left)
            self._right.append(right or [-1] * len(left))
        return known

    def _constant(self, number: Any) -> int:
        number = float(number)
        node = self._node(("constant", repr(number)), None)  # 0.0 and -0.0 are two
        self._constants[node] = number
        return node

    def _term(self, term: Term) -> int:
        """A term as a node of its own."""
        return term if isinstance(term, int) else self._node((MUL, *sorted(term)), MUL, term)

    # --- Arithmetic -----------------------------------------------------------------------------------------

    def _product(self, left: int, right: int) -> Term:
        numbers = self._constants.get(left), self._constants.get(right)
        if numbers[0] is None and numbers[1] is None:
            return left, right
        if numbers[0] is not None and numbers[1] is not None:
            return self._constant(numbers[0] * numbers[1])
        x, number = (left, numbers[1]) if numbers[0] is None else (right, numbers[0])
        inner, _, factor = self._factors_together(x, MUL, number)
        if factor == 1.0:
            return inner
        return (left, right) if inner == x else (inner, self._constant(factor))

    def _factors_together(self, x: int, rule: Rule, number: Any) -> tuple[int, Rule, Any]:
        """x * number or x / number, where x is y * k or y / k: y, one rule and one number.

        So y * 1e30 * 1e20 * 1e-50 does not overflow in float32. Very large and very small factors stay as they
        are: the engine itself may overflow there.
        """
        inner = self.graph.rules[x]
        if inner is not MUL and inner is not DIV:
            return x, rule, number
        y, other = self._left[x]
        k = self._constants.get(other)
        if inner is MUL and k is None:
            y, k = other, self._constants.get(y)
        if k is None or not all(LEAST < abs(factor) < 1 / LEAST for factor in (k, number)):
            return x, rule, number
        if inner is rule:
            return y, rule, k * number
        return y, MUL, k / number if rule is DIV else number / k

    def _sum(self, span: slice) -> int:
        """The sum of these terms."""
        flat, nodes, constants = self._flat, self._nodes, self._constants
        left, right = flat.left[span], flat.right[span]
        if len(left) >= LONG:
            of_places = np.frombuffer(nodes, np.int32)
            a, b = (array("i", of_places[places].tobytes()) for places in (left, right))
            if constants.keys().isdisjoint(a) and constants.keys().isdisjoint(b):
                if max(b) < 0 and self._is_one(a):
                    return self._constant(1.0)
                return self._node((SUM, a.tobytes(), b.tobytes()), SUM, a, b)
        terms: list[Term] = []
        for x, y, is_mul in zip(left.tolist(), right.tolist(), flat.is_mul[span].tolist(), strict=True):
            pair = nodes[x], nodes[y]
            terms.append(pair[0] if pair[1] < 0 else self._product(*pair) if is_mul else pair)
        if len(terms) != 2:  # x + 0.0 is a sum as x + 1.0 is: a mask may have both
            terms = [term for term in terms if not isinstance(term, int) or constants.get(term) != 0.0]
        if not terms:
            return self._constant(0.0)
        if len(terms) == 1:
            return self._term(terms[0])
        plain = [term for term in terms if isinstance(term, int)]
        if len(plain) == len(terms):
            numbers = [constants.get(term) for term in plain]
            if None not in numbers:
                return self._constant(SUM.forward(*numbers))
            return self._constant(1.0) if self._is_one(plain) else self._node((SUM, *plain), SUM, plain)
        left, right = zip(*(term if isinstance(term, tuple) else (term, -1) for term in terms), strict=True)
        return self._node((SUM, *terms), SUM, left, right)

    def _is_one(self, nodes: Sequence[int]) -> bool:
        """Are these nodes a row of an argument whose rows add up to 1?"""
        low, n = min(nodes), len(nodes)
        for (kind, *argument), first, size in self.graph.sources:
            if kind == "input" and first <= low < first + size:
                is_row = (low - first) % n == 0 and self._shapes[argument[0]][-1:] == (n,)
                if not is_row or max(nodes) != low + n - 1 or len(set(nodes)) < n:
                    return False
                assumed = self.graph.assumed
                if argument[0] not in assumed:
                    assumed[argument[0]] = self._is_one_hot(argument[0])
                return assumed[argument[0]]
        return False

    def _operation(self, rule: Rule, operands: Sequence[int]) -> int:
        if not self._constants.keys().isdisjoint(operands):
            numbers = [self._constants.get(operand) for operand in operands]
            if None not in numbers:
                return self._constant(rule.forward(*numbers))
            if rule is TAKE and numbers[0] is not None:  # such as the index (i - i) % 5
                return operands[1 + int(numbers[0])]
            if rule is DIV and numbers[1] is not None:
                x, rule, number = self._factors_together(operands[0], DIV, numbers[1])
                if number == 1.0:
                    return x
                operands = (x, self._constant(number))
                return self._node((rule, *(sorted(operands) if rule is MUL else operands)), rule, operands)
        if rule is SUB and (pair := self._less_the_same(operands)):
            return self._operation(SUB, pair)  # (x - c) - (y - c)
        if rule is LOGSUMEXP and (shifted := self._less_the_same(operands)):
            normaliser = self._operation(LOGSUMEXP, shifted)
            return self._operation(SUB, (normaliser, self._left[operands[0]][1]))
        if rule is LOG:
            inner = self._left[operands[0]][0] if self._is(operands[0], EXP) else self._log_of_exps(operands[0])
            if inner is not None:  # log(e^u) is u, and log(e^z1 + ...) is logsumexp
                return inner
        if rule is DIV and self._is(operands[0], EXP) and (inner := self._log_of_exps(operands[1])) is not None:
            difference = self._operation(SUB, (self._left[operands[0]][0], inner))
            return self._operation(EXP, (difference,))  # e^z / (e^z1 + ...), with nothing that overflows
        return self._node((rule, *operands), rule, operands)

    # --- log and exp, put together ----------------------------------------------------------------------------

    def _less_the_same(self, nodes: Sequence[int]) -> tuple[int, ...]:
        """x, y, ... of x - c, y - c, ...; () if they are not all of this form, or c is inf: inf - inf is not 0."""
        rules, left = self.graph.rules, self._left
        pairs = [left[node] for node in nodes if rules[node] is SUB]
        if len(pairs) < len(nodes):
            return ()
        if not math.isfinite(self._constants.get(pairs[0][1], 0.0)):
            return ()
        return tuple([pair[0] for pair in pairs]) if len({pair[1] for pair in pairs}) == 1 else ()

    def _is(self, node: int, rule: Rule) -> bool:
        return self.graph.rules[node] is rule

    def _log_of_exps(self, node: int) -> int | None:
        """The logarithm of e^z1 + e^z2 + ..., which does not overflow; None for another node."""
        if not self._is(node, SUM):
            return None
        terms = self._left[node]
        if max(self._right[node]) >= 0 or not all(self._is(term, EXP) for term in terms):
            return None
        return self._operation(LOGSUMEXP, [self._left[term][0] for term in terms])
