"""Value: a number that remembers what it was made from."""

import itertools
import operator
from collections.abc import Callable
from math import inf
from numbers import Real
from typing import Any

from . import elementary
from .graph import topological_order
from .operators import Operators
from .pickling import reduced
from .rules import ADD, MUL, NEG, RULES, SUB, Rule
from .scalar import as_real


def _method(name: str) -> Callable[..., "Value"]:
    """The rule called `name` as a method; `alpha` and the like may follow."""
    rule = RULES[name]
    low, high = (rule.domain[0].low, rule.domain[0].high) if rule.domain else (-inf, inf)

    def method(self: "Value", **parameters: Any) -> "Value":
        data = self.data
        if data.__class__ is float and low < data < high and not parameters and not rule.check:
            return Value(rule.forward(data), "", rule, self)
        return rule(self, **parameters)

    method.__name__, method.__doc__ = name, rule.__doc__
    return method


class Value(Operators):
    """A number in a computation: `data`, the gradient `grad` of a result with respect to it, and its origin.

    `parents` are the Values it was computed from, in order (`x * x` has x twice), by the operation `rule`; a leaf
    has none. Nodes point to their parents only: no cycle arises, and dropping a result frees its graph at once.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> y = a * b + 10
    >>> y.backward()
    >>> y, a.grad, b.grad
    (Value(data=4.0, grad=1.0), -3.0, 2.0)

    Raises TypeError unless data is one real number. Fractions and mpmath reals are kept exact.
    """

    __slots__ = ("_left", "_right", "data", "grad", "label", "rule")
    __array_ufunc__ = None  # `array * value` and `numpy_scalar * value` are left to __rmul__

    def __init__(self, data: Any, label: str = "", _rule: Any = None, _left: Any = None, _right: Any = None):
        self.data = data if data.__class__ is float else as_real(data)
        self.grad: Any = 0.0
        self.label = label
        self.rule = _rule  # None for a leaf
        self._left = _left  # the tuple of all operands, if there are more than two; a tuple for
        self._right = _right  # every node would double the work of the cycle collector

    @property
    def parents(self) -> "tuple[Value, ...]":
        if self._right is not None:
            return self._left, self._right
        if self._left is None:
            return ()
        return self._left if self._left.__class__ is tuple else (self._left,)

    # --- Recording ------------------------------------------------------------------------------------------

    def _operand(self, other: Any) -> "Value":
        """other as a Value beside self; an int beside a Fraction stays exact."""
        if isinstance(other, Value):
            return other
        return Value(type(self.data)(other) if other.__class__ is int else other)

    @staticmethod
    def _node(data: Any, rule: Rule | None, parents: "tuple[Value, ...]") -> "Value":
        if data.__class__ is not float and not isinstance(data, Real):
            raise TypeError(f"forward of {rule} must return one real number, got {data!r}.")
        return Value(data, "", rule, *(parents if len(parents) <= 2 else (parents,)))

    def _record(self, rule: Rule, inputs: Any) -> "Value":
        """The Value of rule(*inputs). Raises outside the domain."""
        parents = tuple(map(self._operand, inputs))
        for p in parents:
            if p.__class__ is not Value and type(p)._record is not Value._record:
                return p._record(rule, parents)  # a subclass that records in its own way takes over
        return self._node(rule.evaluate([p.data for p in parents], parents), rule, parents)

    def _operate(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        """What the operators ask for: the operation recorded; of a comparison the truth, by the data."""
        if name not in RULES:
            return bool(getattr(operator, name)(*[self._operand(x).data for x in inputs]))
        return self._record(RULES[name].bind(**parameters) if parameters else RULES[name], inputs)

    def _apply(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        """What `elementary` asks for inside a backward: the operation recorded, an infinite slope let through.

        A name without a rule is a choice (sign, step ...) of slope zero: its plain result will do.
        """
        if name not in RULES:
            return getattr(elementary, name)(*[self._operand(x).data for x in inputs])
        rule, parents = RULES[name], tuple(map(self._operand, inputs))
        rule = rule.bind(**parameters) if parameters else rule
        return self._node(rule.forward(*[p.data for p in parents]), rule, parents)

    # --- Operators: + - * write their forward out, since a call would cost a fifth of the node ----------------
    # fmt: off

    def __add__(self, other: Any) -> "Value":
        other = other if other.__class__ is Value else self._operand(other)
        return Value(self.data + other.data, "", ADD, self, other)

    def __sub__(self, other: Any) -> "Value":
        other = other if other.__class__ is Value else self._operand(other)
        return Value(self.data - other.data, "", SUB, self, other)

    def __mul__(self, other: Any) -> "Value":
        other = other if other.__class__ is Value else self._operand(other)
        return Value(self.data * other.data, "", MUL, self, other)

    def __radd__(self, other: Any) -> "Value":
        return self if other.__class__ is int and other == 0 else self._operand(other) + self

    def __rsub__(self, other: Any) -> "Value": return self._operand(other) - self
    def __rmul__(self, other: Any) -> "Value": return self._operand(other) * self
    def __neg__(self) -> "Value": return Value(-self.data, "", NEG, self)
    def __bool__(self) -> bool: return bool(self.data != 0)

    __abs__, sqrt, reciprocal = _method("abs"), _method("sqrt"), _method("reciprocal")
    exp, exp2, expm1 = _method("exp"), _method("exp2"), _method("expm1")
    log, log2, log10, log1p = _method("log"), _method("log2"), _method("log10"), _method("log1p")
    sin, cos, tan = _method("sin"), _method("cos"), _method("tan")
    asin, acos, atan = _method("asin"), _method("acos"), _method("atan")
    sinh, cosh, tanh = _method("sinh"), _method("cosh"), _method("tanh")
    asinh, acosh, atanh = _method("asinh"), _method("acosh"), _method("atanh")
    erf, erfc, sigmoid, sign = _method("erf"), _method("erfc"), _method("sigmoid"), _method("sign")
    softplus, relu, leaky_relu = _method("softplus"), _method("relu"), _method("leaky_relu")
    elu, gelu, silu, detach = _method("elu"), _method("gelu"), _method("silu"), _method("detach")
    # fmt: on

    # --- Backpropagation ------------------------------------------------------------------------------------

    def backward(self, upstream: Any = 1.0, check: bool = False) -> None:
        """Set `grad` of every node below to upstream * d(self)/d(node).

        Leaves accumulate over calls (`leaf.grad = 0.0` clears one), interior nodes are rewritten: a second call
        doubles the leaves exactly, and results that share nodes add up right. With a = 1, c = a*2, the results
        c*5 and c*7 give a.grad 10 + 14; if c kept its 5 for the second pass, it would be 10 + 24.

        With check=True, raises RuntimeError if a leaf was changed since the forward pass. If a rule fails, the
        leaves keep the gradients they had.
        """
        for node in topological_order(self) if check else ():
            node._check()
        interior, leaves = _interior_and_leaves(self)
        if watchers:
            before_adding(leaves)
        kind = type(self.data)  # float, Fraction or mpf: the gradients are exact if the result is
        before, seed, zero = [leaf.grad for leaf in leaves], kind(as_real(upstream)), kind(0)
        for node in itertools.chain(interior, leaves):
            node.grad = zero
        self.grad = seed
        try:
            for node in reversed(interior):
                left, right = node._left, node._right
                if right is not None:  # the common case of _backward written out, without a loop
                    left_share, right_share = node.rule.backward(node.grad, node.data, left.data, right.data)
                    left.grad += left_share
                    right.grad += right_share
                elif left.__class__ is Value:  # shares() has seen to it that there is one
                    left.grad += node.rule.shares(node.grad, node.data, left.data)[0]
                else:
                    node._backward()
        except Exception as error:
            for leaf, grad in zip(leaves, before, strict=True):
                leaf.grad = grad
            error.add_note(f"The chain rule had come to {node!r}, made by {node.rule}.")
            raise
        for leaf, grad in zip(leaves, before, strict=True):
            if grad:  # 0.0 + Fraction would be a float
                leaf.grad += grad

    @property
    def _backward(self) -> Callable[[], None]:
        """The local step of the chain rule: adds this node's shares to the gradients of its parents.

        Made when asked for: stored in every node, a closure over the node would be a cycle, and the collector
        would take several times as long over a training step as the arithmetic.
        """

        def backward() -> None:
            inputs = [p.data for p in self.parents]
            shares = self.rule.shares(self.grad, self.data, *inputs) if self.rule else ()
            for parent, share in zip(self.parents, shares, strict=True):
                parent.grad += share

        return backward

    def _check(self) -> None:
        now = self.rule.forward(*[p.data for p in self.parents]) if self.rule else self.data
        if now != self.data and (now == now or self.data == self.data):
            raise RuntimeError(
                f"{self!r} was made by {self.rule} from other numbers, which give {now!r} now: a leaf was changed "
                "after the forward pass. Compute the result again before backward()."
            )

    _prev = parents  # micrograd's name

    @property
    def _op(self) -> str:
        """The symbol of the rule, "" for a leaf: micrograd's name."""
        return self.rule.symbol if self.rule else ""

    # --- Text and copies ------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        label = f", label={self.label!r}" if self.label else ""
        return f"Value(data={self.data!r}, grad={self.grad!r}{label})"

    def __format__(self, spec: str) -> str:
        return format(float(self.data), spec) if spec else repr(self)

    def _copy(self, parents: "tuple[Value, ...]") -> "Value":
        twin = self._node(self.data, self.rule, parents)
        twin.grad, twin.label = self.grad, self.label
        return twin

    def __copy__(self) -> "Value":
        return self._copy(self.parents)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Value":
        for node in topological_order(self):
            if id(node) not in memo:
                memo[id(node)] = node._copy(tuple(memo[id(parent)] for parent in node.parents))
        return memo[id(self)]  # type: ignore[no-any-return]  # a dict of anything

    def __reduce__(self) -> Any:
        return reduced(self)


watchers: dict[int, Callable[[list[Any]], None]] = {}  # optimisers that wait to notice a forgotten zero_grad()


def before_adding(leaves: list[Value]) -> None:
    """Every backward() calls this before it adds to the gradients of the leaves."""
    for watcher in list(watchers.values()):
        watcher([leaf.grad for leaf in leaves])


def _interior_and_leaves(root: Any) -> tuple[list[Value], list[Value]]:
    """topological_order(root) in two parts, and in half the time: the operand slots are read directly."""
    interior, leaves, seen, stack = [], [], set(), [root]
    while stack:
        node = stack.pop()
        if node is None:
            interior.append(stack.pop())
        elif node not in seen:
            seen.add(node)
            if node._right is not None:
                stack += (node, None, node._left, node._right)
            elif node.rule is not None:
                stack += (node, None, *node.parents)
            else:
                leaves.append(node)
    return interior, leaves
