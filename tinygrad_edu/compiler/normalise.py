"""Normalise: the same graph in one form, however it was written.

Chains of + become one sum, whose terms are nodes or products of two nodes. dot is such a sum. Constants are
folded, and equal nodes are shared. The log of a softmax becomes one operation, which does not overflow.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..engine.rules import ADD, DIV, MUL, RULES, Rule
from ..engine.value import Value
from .checks import captured
from .tracing import Trace

SUM, DOT, LOG, EXP, LOGSUMEXP, SUB = (RULES[name] for name in ("sum", "dot", "log", "exp", "logsumexp", "sub"))

LEAST = 1e-75  # factors between this and 1e75 are multiplied with each other

Term = int | tuple[int, int]  # a node, or the product of two


@dataclass
class Graph:
    """Nodes by number, each after its operands.

    rules[n]     the Rule that made node n, None for a leaf
    operands[n]  the numbers of its operands, in order; of a SUM its terms
    leaves       of a leaf ("parameter", place), ("input", argument, place) or ("constant", number)
    outputs      the numbers of the results
    frozen       leaves that are no parameters, with the number that was taken for constant
    n_traced     how many nodes the function made
    assumed      for every argument whose rows are summed as a whole, whether each adds up to 1
    """

    rules: list[Rule | None] = field(default_factory=list)
    operands: list[Sequence[Any]] = field(default_factory=list)
    leaves: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    outputs: list[int] = field(default_factory=list)
    frozen: list[tuple[Value, Any]] = field(default_factory=list)
    n_traced: int = 0
    assumed: dict[int, bool] = field(default_factory=dict)


def normalise(trace: Trace, is_one_hot: Callable[[int], bool] = lambda argument: False) -> Graph:
    """The graph of a trace in its normal form. Takes time in proportion to its size, and nothing recurses.

    Where the function adds all numbers of a row of an argument, is_one_hot(argument) says if all its rows add up
    to 1, as those of one-hot targets do. Then the sum is the constant 1. The answers are kept in `assumed`.

    Raises ValueError if the function uses a Value that was computed outside of it from a parameter.
    """
    return _Normaliser(trace, is_one_hot).graph


class _Normaliser:
    def __init__(self, trace: Trace, is_one_hot: Callable[[int], bool]):
        self.graph, self._shapes, self._is_one_hot = Graph(), trace.shapes, is_one_hot
        self._known: dict[Any, int] = {}
        self._ids: dict[Value, int] = {}
        self._constants: dict[int, float] = {}
        self._sums: dict[Value, list[Term]] = {}  # sums and products that no node stands for yet: they may
        self._products: dict[Value, tuple[int, int]] = {}  # become terms of the sum that uses them
        for argument, placeholders in enumerate(trace.inputs):
            for place, leaf in enumerate(placeholders):
                self._ids[leaf] = self._leaf(("input", argument, place))
        self._parameters = set(trace.parameters)
        for place, parameter in enumerate(trace.parameters):
            self._ids[parameter] = self._leaf(("parameter", place))
        self._build(trace)

    def _build(self, trace: Trace) -> None:
        ids, products, uses = self._ids, self._products, _uses(trace)
        for node in trace.nodes:
            rule = node.rule
            if rule is MUL:
                left, right = node._left, node._right
                a = ids[left] if left in ids else self._of(left)
                b = ids[right] if right in ids else self._of(right)
                if a in self._constants or b in self._constants:
                    self._product(node, a, b)
                else:
                    products[node] = (a, b)
            elif rule is ADD or rule is SUM:
                self._sums[node] = self._terms(node.parents, uses)
            elif rule is DOT:
                operands, n = [self._of(parent) for parent in node.parents], len(node.parents) // 2
                self._sums[node] = list(zip(operands[:n], operands[n:], strict=True))
            elif rule is not None:
                ids[node] = self._operation(rule, tuple([self._of(parent) for parent in node.parents]))
        self.graph.outputs = [self._of(node) for node in trace.outputs]
        self.graph.n_traced = len(trace.nodes) + len(trace.parameters) + len(self.graph.frozen)

    # --- Nodes ----------------------------------------------------------------------------------------------

    def _node(self, key: Any, rule: Rule | None, operands: Sequence[Any]) -> int:
        """The node of this rule and these operands, made once."""
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = len(self.graph.rules)
            self.graph.rules.append(rule)
            self.graph.operands.append(operands)
        return known

    def _leaf(self, leaf: tuple[Any, ...]) -> int:
        number = self._node(leaf, None, ())
        self.graph.leaves[number] = leaf
        return number

    def _constant(self, number: Any) -> int:
        number = float(number)
        node = self._node(("constant", repr(number)), None, ())  # 0.0 and -0.0 are two
        self.graph.leaves[node] = ("constant", number)
        self._constants[node] = number
        return node

    def _of(self, node: Value) -> int:
        """The number of a node; a sum or product that waited for its use becomes one now."""
        if node not in self._ids:
            if node in self._products:
                pair = self._products.pop(node)
                self._ids[node] = self._node((MUL, *sorted(pair)), MUL, pair)
            elif node in self._sums:
                self._ids[node] = self._sum(self._sums.pop(node))
            else:  # a Value that no placeholder is part of: a number
                self.graph.frozen += captured(node, self._parameters)
                self._ids[node] = self._constant(node.data)
        return self._ids[node]

    # --- Arithmetic -----------------------------------------------------------------------------------------

    def _product(self, node: Value, left: int, right: int) -> None:
        numbers = self._constants.get(left), self._constants.get(right)
        if numbers[0] is not None and numbers[1] is not None:
            self._ids[node] = self._constant(numbers[0] * numbers[1])
            return
        x, number = (left, numbers[1]) if numbers[0] is None else (right, numbers[0])
        inner, _, factor = self._factors_together(x, MUL, number)
        if factor == 1.0:
            self._ids[node] = inner
        else:
            self._products[node] = (left, right) if inner == x else (inner, self._constant(factor))

    def _factors_together(self, x: int, rule: Rule, number: Any) -> tuple[int, Rule, Any]:
        """x * number or x / number, where x is y * k or y / k: y, one rule and one number.

        So y * 1e30 * 1e20 * 1e-50 does not overflow in float32. Very large and very small factors stay as they
        are: the engine itself may overflow there.
        """
        inner = self.graph.rules[x]
        if inner is not MUL and inner is not DIV:
            return x, rule, number
        y, k = (self.graph.operands[x][0], self._constants.get(self.graph.operands[x][1]))
        if inner is MUL and k is None:
            y, k = (self.graph.operands[x][1], self._constants.get(self.graph.operands[x][0]))
        if k is None or not all(LEAST < abs(factor) < 1 / LEAST for factor in (k, number)):
            return x, rule, number
        if inner is rule:
            return y, rule, k * number
        return y, MUL, k / number if rule is DIV else number / k

    def _terms(self, parents: Sequence[Value], uses: dict[Value, int]) -> list[Term]:
        """The terms of a sum. A term that is a sum itself, and is used only here, is replaced by its own terms."""
        terms: list[Term] = []
        for parent in parents:
            if parent in self._sums and uses[parent] == 1:
                taken = self._sums.pop(parent)
                if len(taken) > len(terms):  # the shorter list is appended, so a chain takes linear time
                    terms, taken = taken, terms
                terms += taken
            elif parent in self._products and uses[parent] == 1:
                terms.append(self._products.pop(parent))
            else:
                terms.append(self._of(parent))
        return terms

    def _sum(self, terms: list[Term]) -> int:
        if not terms:
            return self._constant(0.0)
        if len(terms) == 1:
            return terms[0] if isinstance(terms[0], int) else self._node((MUL, *sorted(terms[0])), MUL, terms[0])
        if all(isinstance(term, int) and self._constants.get(term) is not None for term in terms):
            return self._constant(SUM.forward(*[self._constants.get(term) for term in terms]))  # type: ignore[arg-type]
        argument = self._whole_row(terms)
        if argument is not None:
            if argument not in self.graph.assumed:
                self.graph.assumed[argument] = self._is_one_hot(argument)
            if self.graph.assumed[argument]:
                return self._constant(1.0)
        return self._node((SUM, *terms), SUM, tuple(terms))

    def _whole_row(self, terms: list[Term]) -> int | None:
        """The argument whose row these terms are; None if they are not one row."""
        leaves = [self.graph.leaves.get(term, ()) for term in terms if isinstance(term, int)]
        if len(leaves) < len(terms) or any(leaf[:1] != ("input",) for leaf in leaves):
            return None
        arguments, places = {leaf[1] for leaf in leaves}, sorted(leaf[2] for leaf in leaves)
        argument, first, n = min(arguments), places[0], len(places)
        is_row = first % n == 0 and places == list(range(first, first + n))
        return argument if len(arguments) == 1 and self._shapes[argument][-1:] == (n,) and is_row else None

    def _operation(self, rule: Rule, operands: tuple[int, ...]) -> int:
        numbers = [self._constants.get(operand) for operand in operands]
        if all(number is not None for number in numbers):
            return self._constant(rule.forward(*numbers))
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
            return self._operation(SUB, (normaliser, self.graph.operands[operands[0]][1]))
        if rule is LOG:
            return self._log(operands[0])
        if rule is DIV and self._is(operands[0], EXP) and (inner := self._log_of_exps(operands[1])) is not None:
            difference = self._operation(SUB, (self.graph.operands[operands[0]][0], inner))
            return self._operation(EXP, (difference,))  # e^z / (e^z1 + ...), with nothing that overflows
        return self._node((rule, *operands), rule, operands)

    # --- log and exp, put together ----------------------------------------------------------------------------

    def _less_the_same(self, nodes: tuple[int, ...]) -> tuple[int, ...]:
        """x, y, ... of x - c, y - c, ...; () if they are not all of this form, or c is inf: inf - inf is not 0."""
        if not all(self._is(node, SUB) for node in nodes):
            return ()
        pairs = [self.graph.operands[node] for node in nodes]
        if not math.isfinite(self._constants.get(pairs[0][1], 0.0)):
            return ()
        return tuple([pair[0] for pair in pairs]) if len({pair[1] for pair in pairs}) == 1 else ()

    def _is(self, node: int, rule: Rule) -> bool:
        return self.graph.rules[node] is rule

    def _log_of_exps(self, node: int) -> int | None:
        """The logarithm of e^z1 + e^z2 + ..., which does not overflow; None for another node."""
        if not self._is(node, SUM):
            return None
        terms = self.graph.operands[node]
        if not all(isinstance(term, int) and self._is(term, EXP) for term in terms):
            return None
        return self._operation(LOGSUMEXP, tuple(self.graph.operands[term][0] for term in terms))

    def _log(self, x: int) -> int:
        """log(e^u) is u, and log(e^z1 + ...) is logsumexp."""
        if self._is(x, EXP):
            return int(self.graph.operands[x][0])
        inner = self._log_of_exps(x)
        return self._node((LOG, x), LOG, (x,)) if inner is None else inner


def _uses(trace: Trace) -> Counter[Any]:
    """How often every node is used; an output more than once, so that it stays a node of its own."""
    uses = Counter(node._left for node in trace.nodes)
    uses.update(node._right for node in trace.nodes)
    for operands in [operands for operands in uses if operands.__class__ is tuple]:
        uses.update(operands)
    for output in trace.outputs:
        uses[output] += 2
    return uses
