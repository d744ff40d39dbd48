"""The forward and the backward pass of a trace, on Symbols: what `straight.py` writes down."""

import builtins
import functools
import keyword
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from ...engine import elementary
from ...engine.rule import Rule
from ...engine.rules import DIV, RULES
from ...engine.value import Value
from ..ir.symbols import SUMS, Book, Symbol, forward_of, is_number, shares_of, simpler_pow
from ..trace.placeholder import CHOICES, COMPARISONS, TAKE, Placeholder
from ..trace.tracing import Trace
from . import straight_helpers

# In Python, errors outside their domain.
GUARDED = {"div", "reciprocal", "mod", "pow", "pow_n", "sqrt", "log", "log2", "log10", "log1p"}
GUARDED |= {"asin", "acos", "acosh", "atanh"}
MATH = {name for name in elementary.__all__ if hasattr(math, name)} | {"fsum", "isinf"}
HELPERS = {function.__name__: function for function in straight_helpers.READ}


def _sigmoid(book: Book, x: Any) -> Any:
    """As elementary.sigmoid, written out: softplus shares its exponential."""
    small = book.make("exp", -abs(x))
    return book.make("where", x >= 0, 1.0, small) / (1.0 + small)


def _pow(book: Book, x: Any, y: Any) -> Any:
    """A product for the square, the only power that a product gives to the bit."""
    if isinstance(x, Symbol) and not isinstance(y, Symbol) and y == 2:
        return x * x
    return simpler_pow(book, x, y)


def _logsumexp(book: Book, *inputs: Any) -> Any:
    """The first number of a list. The others are the slopes."""
    return _item(book, book.special("logsumexp", inputs), 0)


def _smallest(book: Book, *inputs: Any) -> Any:
    return functools.reduce(lambda x, y: book.make("min", x, y), inputs)


_STEPS = {*COMPARISONS.values(), *CHOICES.values()}  # their slope is 0


def _item(book: Book, of: Symbol, place: int) -> Symbol:
    return book.special("item", (of, place))


class Passes:
    """The forward and the backward pass on Symbols. A subclass is for a language that has other functions.

    values   node -> its Symbol or number
    names    Symbol -> its variable: the names of parameters and inputs, v17 for node 17, d17 for its adjoint.
             `partial` has the names of unfinished sums of an adjoint
    failing  the Symbols that can raise an error, whether they are used or not
    opaque   name in the source -> a rule that is called as it is
    arguments  the text of each argument of `run`, and the variables that get its numbers: the leaves, in order
    """

    # Reductions, written for Python. All other rules run as they are.
    reductions: ClassVar[Mapping[Rule, Callable[..., Any]]] = SUMS | {
        RULES["min"]: _smallest,
        RULES["logsumexp"]: _logsumexp,
    }
    # The variables of parameter 17, input 0 (its number 17), node 17 and its adjoint.
    names_of: ClassVar[tuple[str, str, str, str]] = ("p{}", "x{}_{}", "v{}", "d{}")

    def __init__(self, trace: Trace):
        self.book, self.trace = Book({"sigmoid": _sigmoid, "pow": _pow}), trace
        self.order: list[Any] = trace.order()
        self.values: dict[Value, Any] = {}
        self.names: dict[Symbol, str] = {}
        self.partial: dict[Symbol, str] = {}
        self.failing: set[Symbol] = set()
        self.opaque: dict[str, Rule] = {}
        self.tables: dict[tuple[Value, ...], Value] = {}  # options -> the first node that picks one of them
        self.taken = {"parameters", "inputs", "run", "outputs", "t", *HELPERS, *MATH, *dir(builtins)}
        parameter, item, self._node, self._adjoint = self.names_of
        self.arguments = {
            "parameters": [self._leaf(p, parameter.format(i)) for i, p in enumerate(trace.parameters)]
        }
        for a, argument in enumerate(trace.inputs):
            self.arguments[f"inputs[{a}]"] = [self._leaf(x, item.format(a, i)) for i, x in enumerate(argument)]

    def _leaf(self, leaf: Value, otherwise: str) -> str:
        name = self._name(leaf.label, otherwise)
        self.values[leaf] = symbol = self.book.leaf(name)
        self.names[symbol] = name
        return name

    def _name(self, label: str, otherwise: str) -> str:
        """A label as the name of a variable, x[0, 1] as x0_1, if it is short and free; else `otherwise`."""
        name = label.replace(", ", "_").replace("[", "").replace("]", "")
        fit = len(name) <= 12 and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
        return self.free(name if fit and name not in self.taken and not name.startswith("__") else otherwise)

    def free(self, name: str) -> str:
        """A variable of this name, with an underscore if there is one already."""
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def parameter_labels(self) -> list[str]:
        """The labels of the parameters, for comments: without any character that would end a comment."""
        labels = [ascii(parameter.label)[1:-1] for parameter in self.trace.parameters]
        pairs = zip(self.arguments["parameters"], labels, strict=True)
        return [name if label in ("", name) else f"{name} {label}" for name, label in pairs]

    # --- Forward ------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        for i, node in enumerate(self.order):
            if node not in self.values:
                self.values[node] = out = self._out(node) if isinstance(node, Placeholder) else float(node.data)
                if isinstance(out, Symbol) and out not in self.names:
                    self.names[out] = self._name(node.label, self._node.format(i))

    def _out(self, node: Placeholder) -> Any:
        rule, inputs = node.rule, [self.values[p] for p in node.parents]
        assert rule is not None, f"{node!r} is neither an input nor a parameter"
        if rule is TAKE:
            self.tables.setdefault(node.parents[1:], node)
            table = self.book.special("table", inputs[1:])
            out = self.book.special("take", (table, inputs[0]))
        elif all(map(is_number, inputs)) or self._is_checked(rule):
            out = self._called("evaluate", rule, *inputs)
        else:
            reduction = self.reductions.get(rule)
            out = reduction(self.book, *inputs) if reduction else forward_of(rule, *inputs)
            if out is None:
                out = self._called("evaluate", rule, *inputs)
        if isinstance(out, Symbol) and (out.op in ("take", "evaluate") or _may_fail(rule, inputs)):
            self.failing.add(out)
        return out

    def _is_checked(self, rule: Rule) -> bool:
        """Does the rule look at its inputs before it computes?"""
        return bool(rule.domain or rule.check) and rule.name not in GUARDED

    def _called(self, method: str, rule: Rule, *inputs: Any) -> Symbol:
        """The result of a method of the rule itself, called on floats."""
        name = next((name for name, known in self.opaque.items() if known is rule), "")
        if not name:
            name = self._name(rule.name, f"rule{len(self.opaque)}")
            self.opaque[name] = rule
        return self.book.special(method, (name, *inputs))

    # --- Backward -----------------------------------------------------------------------------------------------

    def backward(self) -> list[Any]:
        """The gradient of the first output for every parameter."""
        learned = self._learned()
        terms: dict[Value, list[Any]] = {node: [] for node in learned}
        if self.trace.outputs[0] in learned:
            terms[self.trace.outputs[0]].append(1.0)
        picks: dict[tuple[Value, ...], list[Any]] = {}
        names = self.arguments["parameters"]
        labels = {p: self.free(f"d_{name}") for p, name in zip(self.trace.parameters, names, strict=True)}
        for i, node in reversed(list(enumerate(self.order))):
            if node not in learned or not isinstance(node, Placeholder):
                continue
            if terms[node]:
                upstream = self._sum(terms.pop(node), self.free(self._adjoint.format(i)))
                if node.rule is TAKE:
                    pair = self.book.special("pair", (self.values[node.parents[0]], upstream))
                    picks.setdefault(node.parents[1:], []).append(pair)
                else:
                    for parent, share in zip(node.parents, self._shares(node, upstream), strict=True):
                        if parent in learned:
                            terms[parent].append(share)
                            if parent in labels:  # so that a loop can add to it
                                terms[parent] = [self._sum(terms[parent], "", labels[parent])]
            if node.rule is TAKE and self.tables[rows := node.parents[1:]] is node and rows in picks:
                placed = self.book.special("placed", (str(len(rows)), *picks[rows]))
                for place, row in enumerate(rows):  # all nodes that pick from these rows are done
                    if row in learned:
                        terms[row].append(_item(self.book, placed, place))
        return [self._sum(terms[p], labels[p]) for p in self.trace.parameters]

    def _learned(self) -> set[Value]:
        """The nodes that depend on a parameter, with slopes on the way."""
        learned = set(self.trace.parameters)
        for node in self.order:
            has_slopes = isinstance(node, Placeholder) and node.rule and node.rule not in _STEPS
            if has_slopes and not learned.isdisjoint(node.parents[node.rule is TAKE :]):
                learned.add(node)
        return learned

    def _sum(self, terms: list[Any], name: str, partial: str = "") -> Any:
        """An adjoint: the sum of the shares, in the order of the eager engine."""
        total = terms[0] if terms else 0.0
        for term in terms[1:]:
            if isinstance(total, Symbol):
                self.partial.setdefault(total, partial or name)
            total = total + term
        if isinstance(total, Symbol) and name:
            self.names.setdefault(total, name)
        return total

    def _shares(self, node: Placeholder, upstream: Any) -> Sequence[Any]:
        rule, out, inputs = node.rule, self.values[node], [self.values[p] for p in node.parents]
        assert rule is not None
        if self.reductions.get(rule) is _logsumexp:
            return [upstream * _item(self.book, out.args[0], 1 + i) for i in range(len(inputs))]
        shares = shares_of(rule, upstream, out, *inputs)
        if shares is not None:
            return shares
        of_floats = self._called("shares", rule, upstream, out, *inputs)
        return [_item(self.book, of_floats, place) for place in range(len(inputs))]


def _may_fail(rule: Rule, inputs: list[Any]) -> bool:
    """Is there an input for which the eager engine raises an error?"""
    if rule is DIV and is_number(inputs[1]):
        return bool(inputs[1] == 0)
    exponent = rule.parameters.get("exponent")
    return bool(rule.domain or rule.check) and not (isinstance(exponent, int) and exponent >= 0)
