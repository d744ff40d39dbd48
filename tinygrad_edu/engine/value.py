"""Value: a number that remembers what it was made from."""

import operator
import weakref
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from itertools import repeat
from math import inf
from numbers import Real
from typing import TYPE_CHECKING, Any

from . import elementary
from .changes import raise_if_changed
from .graph import topological_order
from .named import Methods
from .operators import Operators
from .pickling import reduced
from .rules import ADD, DIV, MUL, NEG, POW_N, RULES, SUB, Rule
from .scalar import as_exponent, as_real
from .ufuncs import apply_ufunc
from .watch import recorders, watch


def _method(rule: Rule, result: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """The rule as a method, whose results `result` makes, or `_result`; `alpha` and the like may follow."""
    low, high = (rule.domain[0].low, rule.domain[0].high) if rule.domain else (-inf, inf)

    def method(self: Any, **parameters: Any) -> Any:
        data = self.data
        if data.__class__ is float and low < data < high and not parameters and not rule.check:
            return (result or _result)(rule.forward(data), rule, self)
        return rule(self, **parameters)

    method.__name__, method.__qualname__, method.__doc__ = rule.name, f"Value.{rule.name}", rule.__doc__
    method.__wrapped__ = rule.declared.forward  # type: ignore[attr-defined]  # help() shows its signature
    return method


def _result(data: Any, rule: Rule | None, left: Any, right: Any = None) -> "Value":
    """A result as a node. It does what __init__ does; the arguments of Value itself are the user's."""
    node = _new(Value)
    node.data = data if data.__class__ is float else as_real(data)
    node.grad = 0.0
    node.label = ""
    node.rule = rule
    node._left = left
    node._right = right
    return node


_new = object.__new__
_run = deque[Any](maxlen=0).extend  # runs an iterator to its end, in C: a KeyboardInterrupt waits until it is done


@lru_cache(typed=True)
def _power(exponent: Any) -> Rule:
    return POW_N.bind(exponent=as_exponent(exponent))


class Value(Methods, Operators):
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

    def __init__(self, data: Any, label: str = "", *more: Any):
        if more or not isinstance(label, str):
            raise TypeError(
                f"Value takes a number and a label, got {(data, label, *more)!r:.100}. For an operation of your "
                "own, declare a rule: tg.rule. Value(data, children, ...), as in micrograd and microgpt, is "
                "tinygrad_edu.micrograd.engine.Value."
            )
        self.data: Any = data if data.__class__ is float else as_real(data)
        self.grad: Any = 0.0
        self.label: str = label
        self.rule: Any = None  # None for a leaf
        self._left: Any = None  # the tuple of all operands, if there are more than two; a tuple for
        self._right: Any = None  # every node would double the work of the cycle collector

    @property
    def parents(self) -> "tuple[Value, ...]":
        """The Values it was computed from, in order; () for a leaf."""
        if self._right is not None:
            return self._left, self._right
        if self._left is None:
            return ()
        return self._left if self._left.__class__ is tuple else (self._left,)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return apply_ufunc(ufunc, method, inputs, options)

    def conjugate(self) -> "Value":
        """Itself, as of every real number. NumPy asks for it in var and std of an array of Values."""
        return self

    if not TYPE_CHECKING:  # which refuse float(v) by themselves

        def __float__(self, *_: Any) -> float:
            """Not offered: a float would lose the gradient, without a word."""
            raise TypeError(
                "float(), int() and round() take a real number, not a Value. For its number take v.data; to keep "
                "the gradient use the functions of tinygrad_edu, tg.exp(v) instead of math.exp(v)."
            )

        __int__ = __round__ = __trunc__ = rint = __float__  # NumPy rounds arrays of Values by rint

    # --- Recording ------------------------------------------------------------------------------------------

    def _operand(self, other: Any) -> "Value":
        """other as a Value beside self; an int beside a Fraction stays exact."""
        if other.__class__ is float:
            return _result(other, None, None)
        if isinstance(other, Value):
            return other
        return Value(type(self.data)(other) if other.__class__ is int else other)

    @staticmethod
    def _node(data: Any, rule: Rule | None, parents: "tuple[Value, ...]") -> "Value":
        if data.__class__ is not float and not isinstance(data, Real):
            raise TypeError(f"forward of {rule} must return one real number, got {data!r}.")
        return _result(data, rule, *(parents if 0 < len(parents) <= 2 else (parents or None,)))

    def _record(self, rule: Rule, inputs: Any) -> "Value":
        """The Value of rule(*inputs). Raises outside the domain."""
        parents = tuple(map(self._operand, inputs))
        for p in parents:
            if p.__class__ is not Value and type(p)._record is not Value._record:
                return p._record(rule, parents)  # a subclass that records in its own way takes over
        return self._node(rule.evaluate([p.data for p in parents], parents), rule, parents)

    def _operate(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        """An operator: records an operation; a comparison compares the data and returns a bool."""
        if name not in RULES:
            return getattr(operator, name)(*[self._operand(x).data for x in inputs])
        return self._record(RULES[name].bind(**parameters) if parameters else RULES[name], inputs)

    def _apply(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        """A function of `elementary` inside a backward: records the operation, and lets an infinite slope through.

        A name without a rule is a choice (heaviside, equal) of slope zero: its plain result is enough.
        """
        if name not in RULES:
            return getattr(elementary, name)(*[self._operand(x).data for x in inputs])
        rule, parents = RULES[name], tuple(map(self._operand, inputs))
        rule = rule.bind(**parameters) if parameters else rule
        return self._node(rule.forward(*[p.data for p in parents]), rule, parents)

    # --- Operators: + - * / ** write their forward out, since a call would cost as much as the node -----------
    # fmt: off

    def __add__(self, other: Any) -> "Value":
        other = other if other.__class__ is Value else self._operand(other)
        return _result(self.data + other.data, ADD, self, other)

    def __sub__(self, other: Any) -> "Value":
        other = other if other.__class__ is Value else self._operand(other)
        return _result(self.data - other.data, SUB, self, other)

    def __mul__(self, other: Any) -> "Value":
        other = other if other.__class__ is Value else self._operand(other)
        return _result(self.data * other.data, MUL, self, other)

    def __truediv__(self, other: Any) -> "Value":
        other = other if other.__class__ is Value else self._operand(other)
        if self.data.__class__ is float is other.data.__class__ and other.data:
            return _result(self.data / other.data, DIV, self, other)
        return self._record(DIV, (self, other))

    def __pow__(self, other: Any) -> "Value":
        if other.__class__ is not int and other.__class__ is not float:
            return super().__pow__(other)
        rule, data = _power(other), self.data
        if data.__class__ is float and data == data and other == other:  # Python's nan ** 0 is 1
            try:
                out = data**other
            except ArithmeticError:  # an overflow, which is inf, or a negative power of 0
                pass
            else:
                if out.__class__ is float:  # not a complex number
                    return _result(out, rule, self)
        return self._record(rule, (self,))

    def __radd__(self, other: Any) -> "Value":
        return self if other.__class__ is int and other == 0 else self._operand(other) + self

    def __rsub__(self, other: Any) -> "Value": return self._operand(other) - self
    def __rmul__(self, other: Any) -> "Value": return self._operand(other) * self
    def __rtruediv__(self, other: Any) -> "Value": return self._operand(other) / self
    def __neg__(self) -> "Value": return _result(-self.data, NEG, self)
    def __bool__(self) -> bool: return bool(self.data != 0)

    # fmt: on

    # --- Backpropagation ------------------------------------------------------------------------------------

    def backward(self, upstream: Any = 1.0, check: bool = False) -> None:
        """Set `grad` of every node below to upstream * d(self)/d(node).

        Leaves accumulate over calls (`leaf.grad = 0.0` clears one), interior nodes are rewritten: a second call
        doubles the leaves exactly, and results that share nodes add up right. With a = 1, c = a*2, the results
        c*5 and c*7 give a.grad 10 + 14; if c kept its 5 for the second pass, it would be 10 + 24.

        If a rule fails, or Ctrl-C interrupts, the leaves keep the gradients they had. With check=True, raises
        RuntimeError if a leaf was changed since the forward pass, and names it. Raises TypeError for an upstream
        that is not a number, or a rule that returns a wrong number of shares.
        """
        if check:
            raise_if_changed(self)
        films = [(film, film.before(self)) for film in tuple(recorders)] if recorders and watch.tells else ()
        kind = self.data.__class__  # float, Fraction or mpf: the gradients are exact if the result is
        seed = upstream if upstream.__class__ is kind else kind(as_real(upstream))
        zero = 0.0 if kind is float else kind(0)
        interior, leaves, before = _cleared(self, zero)
        if watchers and watch.tells:
            tell_watchers()
        undo = map(setattr, leaves, repeat("grad"), before)
        try:
            if any(before) or {*map(type, before)} != {kind}:  # 0.0 + Fraction would be a float
                for leaf in leaves:
                    leaf.grad = zero
            self.grad = seed
            for node in reversed(interior):
                left, right = node._left, node._right
                if right is not None:  # the common case of _backward written out, without a loop
                    left_share, right_share = node._rule.backward(node.grad, node.data, left.data, right.data)
                    left.grad += left_share
                    right.grad += right_share
                elif left.__class__ is not tuple:
                    shares = node._rule.backward(node.grad, node.data, left.data)
                    one = shares.__class__ is tuple and len(shares) == 1
                    left.grad += shares[0] if one else node._rule.counted(shares, 1)[0]
                else:
                    node._pass_on()
            if any(before):
                total = [leaf.grad + old if old else leaf.grad for leaf, old in zip(leaves, before, strict=True)]
                _run(map(setattr, leaves, repeat("grad"), total))
        except BaseException as error:  # KeyboardInterrupt too: no leaf keeps half a gradient
            _run(undo)
            if isinstance(error, Exception):
                error.add_note(f"The chain rule had come to {node!r}, made by {node.rule}.")
                if error.__traceback__ and not error.__traceback__.tb_next:  # here: not two shares
                    node._rule.shares(node.grad, node.data, *[p.data for p in node.parents])
            raise
        for film, before_pass in films:
            film.after(self, before_pass)

    @property
    def _backward(self) -> Callable[[], None]:
        """The local step of the chain rule: adds this node's shares to the gradients of its parents.

        It is made when it is read. A closure stored in every node would be a reference cycle, and collecting the
        cycles would take several times as long as the arithmetic of a training step.
        """
        rule, parents = self.rule, self.parents

        def backward() -> None:
            shares = rule.shares(self.grad, self.data, *[p.data for p in parents]) if rule else ()
            for parent, share in zip(parents, shares, strict=True):
                parent.grad += share

        return backward

    def _pass_on(self) -> None:
        """The local step of a node of a tuple of operands."""
        self._backward()

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

    __reduce__ = reduced


# The slot itself, for backward(): a subclass may have local derivatives in it, and make the rule on demand.
setattr(Value, "_rule", vars(Value)["rule"])  # noqa: B010  # a type checker knows no slots
for _name, _rule in {"__abs__": RULES["abs"], **RULES}.items():
    if _rule.called == "method" or _name == "__abs__":
        setattr(Value, _name, _method(_rule))

watchers: "weakref.WeakSet[Any]" = weakref.WeakSet()  # optimisers that wait to notice a forgotten zero_grad()


def tell_watchers() -> None:
    """Every backward() calls this before it adds to the gradients of the leaves."""
    for watcher in list(watchers):
        watcher.before_backward()


def _cleared(root: Any, zero: Any) -> tuple[list[Any], list[Value], list[Any]]:
    """topological_order(root) in half the time: the interior nodes, cleared; the leaves, and their gradients."""
    interior: list[Any] = []
    leaves: list[Value] = []
    before: list[Any] = []
    stack: list[Any] = []
    seen: set[Any] = set()
    node, add, pop = root, seen.add, stack.pop
    while True:
        if node not in seen:
            add(node)
            left = node._left
            if left is None:
                leaves.append(node)
                before.append(node.grad)
            else:
                node.grad = zero
                if (right := node._right) is not None:
                    stack += (node, None, left)
                    node = right
                    continue
                if left.__class__ is not tuple:
                    stack += (node, None, left)
                elif len(left) > 3 and seen.issuperset(left):
                    interior.append(node)
                else:
                    stack += (node, None, *left)
        while stack:
            if (node := pop()) is not None:
                break
            interior.append(pop())  # the node below the marker has all its parents
        else:
            return interior, leaves, before
