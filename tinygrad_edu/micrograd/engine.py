"""micrograd's `Value` on this engine: its constructor, its attributes and its arithmetic, to the last bit.

Two ways to write an operation by hand are known, and both are recorded:

    out = Value(t, (x,), "tanh")              # the lecture: the closure adds to x.grad
    out._backward = closure
    out = Value(t, (x,), (1 - t**2,))         # microgpt: one local derivative for each operand

Subtraction, negation and division are composed of +, * and ** as in micrograd, so the graph has micrograd's nodes.
"""

import copyreg
import functools
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Any

from ..engine import value as main
from ..engine.changes import raise_if_changed
from ..engine.dispatch import is_array
from ..engine.elementary import exp, inf, pow, tanh
from ..engine.graph import topological_order
from ..engine.pickling import reduced
from ..engine.rules import ADD, MUL, POW, POW_N, RULES, Rule
from ..engine.scalar import as_exponent, as_real

# --- Rules --------------------------------------------------------------------------------------------------
# The formulas of micrograd and microgpt, where those of the main engine round differently. They lose digits in the
# tails of tanh and sigmoid.
# fmt: off

def _log_backward(upstream: Any, out: Any, x: Any) -> Any: return (1 / x * upstream,)
def _tanh_backward(upstream: Any, out: Any, x: Any) -> Any: return ((1 - out**2) * upstream,)
def _sigmoid(x: Any) -> Any: return 1 / (1 + exp(-x))
def _sigmoid_backward(upstream: Any, out: Any, x: Any) -> Any: return (out * (1 - out) * upstream,)

# fmt: on


def _power(x: Any, *, exponent: Any) -> Any:
    try:
        if x.__class__ is float and x > 0:
            return x**exponent
    except OverflowError:
        pass
    return pow(x, exponent)  # type: ignore[no-untyped-call]  # which takes any kind of number


def _power_backward(upstream: Any, out: Any, x: Any, *, exponent: Any) -> Any:
    return ((exponent * _power(x, exponent=exponent - 1) if exponent else 0 * x) * upstream,)


class _OwnRule(Rule):
    """A rule with micrograd's formula. It is pickled by itself: by its name, it would become the main engine's."""

    def __reduce__(self) -> Any:
        return _own_rule, (self.name, *self.parameters.values())


def _own_rule(name: str, *exponent: Any) -> Rule:
    return _power_rule(*exponent) if exponent else _OWN[name]


_OWN = {
    "log": _OwnRule("log", "log", RULES["log"].forward, _log_backward, 1, RULES["log"].domain),
    "tanh": _OwnRule("tanh", "tanh", tanh, _tanh_backward, 1),
    "sigmoid": _OwnRule("sigmoid", "sigmoid", _sigmoid, _sigmoid_backward, 1),
}


@functools.lru_cache(maxsize=1024)
def _power_rule(exponent: Any) -> Rule:
    parameters = {"exponent": as_exponent(exponent)}
    return _OwnRule("pow_n", "**{exponent}", _power, _power_backward, 1, check=POW_N.check, parameters=parameters)


class _ByHand(Rule):
    """The rule of one node whose operation the program wrote itself.

    Either `local_grads` holds one derivative for each operand, or `closure` adds the shares of `node` to the
    gradients of its operands. With neither, no gradient passes, as in micrograd.
    """

    by_hand = True
    n_inputs, domain, kinks, ties, check, formula, slope = None, (), (), False, None, "", ""

    def __init__(self, symbol: str, local_grads: Iterable[Any] = ()):
        self.name = self.symbol = symbol or "by hand"
        self.op = symbol
        self.local_grads = tuple(local_grads)
        self.parameters: dict[str, Any] = {}
        self.node: Any = None
        self.closure: Callable[[], None] | None = None

    def forward(self, *inputs: Any) -> Any:
        raise TypeError(
            f"{self.name} was written by hand for one value of its operands, so it cannot be computed again. "
            "Declare the operation with tinygrad_edu.rule."
        )

    def backward(self, upstream: Any, out: Any, *inputs: Any) -> Any:
        if isinstance(upstream, main.Value):
            raise TypeError(
                f"{self.name} was written by hand with numbers, so its derivative has no graph to differentiate "
                "again. Declare the operation with tinygrad_edu.rule."
            )
        if self.closure is None:
            return tuple(local * upstream for local in self.local_grads or (0.0,) * len(inputs))
        parents = self.node.parents
        before = [(value, value.grad) for value in (self.node, *parents)]
        try:
            for parent in parents:
                parent.grad = 0.0
            self.node.grad = upstream
            self.closure()
            shares = []
            for parent in parents:  # an operand that comes twice has got both shares at once
                shares.append(parent.grad)
                parent.grad = 0.0
        finally:
            for value, grad in before:
                value.grad = grad
        return tuple(shares)

    def step(self, node: "Value") -> None:
        """The local step of the chain rule at its node."""
        if self.closure is not None:
            self.closure()
        else:
            for parent, local in zip(node.parents, self.local_grads, strict=False):
                parent.grad += local * node.grad

    def __reduce__(self) -> Any:
        """A copy has the derivatives instead of the closure, which belongs to the original."""
        return _ByHand, (self.op, self.node._local_grads if self.closure else self.local_grads)


class Operands(tuple[Any, ...], Set[Any]):  # type: ignore[misc]  # < orders them as tuples, not as sets
    """The operands of a node, in order and with repetition; also the set of them that micrograd's `_prev` is."""

    __slots__ = ()
    __hash__ = tuple.__hash__
    _from_iterable = set  # what | & - ^ give

    def __eq__(self, other: object) -> bool:
        return set(self) == other if isinstance(other, set | frozenset) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other


# --- Value --------------------------------------------------------------------------------------------------

_recording = True  # False inside no_grad()


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside `with no_grad():`: every result is a leaf."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


def _number(data: Any) -> Any:
    """data as one real number; as in micrograd, a truth value counts as 1 or 0 and a Value as its number."""
    if data.__class__ is int:
        return float(data)
    data = data.data if isinstance(data, main.Value) else data
    if hasattr(data, "item") and (data.ndim == 0 or data.size == 1):  # a scalar or an array of one number
        data = data.item()
    return float(data) if isinstance(data, bool) else as_real(data)


def _is_far(other: Any) -> bool:
    """Is it a Value, or an array that takes the operation element by element?"""
    return isinstance(other, main.Value) or (is_array(other) and other.size != 1)


def _beside(other: Any) -> Any:
    """other as an operand; NotImplemented for an array, which then asks its elements."""
    if other.__class__ is float or not _is_far(other):
        return Value(other)
    return other if isinstance(other, main.Value) else NotImplemented


def _result(data: Any, rule: Rule, left: Any, right: Any = None) -> "Value":
    """The Value of an operation of this engine. `Value.__init__`, which has more to ask, would double its cost."""
    node: Value = object.__new__(Value)
    node.data = data if data.__class__ is float else _number(data)
    node.grad = 0.0
    node.label = ""
    node.rule, node._left, node._right = rule, left, right
    if not _recording:
        node.rule = node._left = node._right = None
    return node


class Value(main.Value):
    """A number that remembers what it was made from, with micrograd's constructor and free attributes.

    `Value(data, _children, _op, label)` is micrograd's and the lecture's signature, `Value(data, children,
    local_grads)` microgpt's. Results of operations are of this class, also beside a Value of the main engine.

    >>> x = Value(3.0)
    >>> y = Value(x.data**2, (x,), "square")
    >>> def closure():
    ...     x.grad += 2 * x.data * y.grad
    >>> y._backward = closure
    >>> (y + x).backward()
    >>> x.grad
    7.0

    Raises TypeError unless data is one real number; True and False count as 1 and 0.
    """

    __slots__ = ("__dict__",)

    def __init__(
        self,
        data: Any,
        _children: Any = (),
        _op: Any = "",
        label: str = "",
        children: Any = (),
        local_grads: Any = (),
        _prev: Any = (),
    ):
        self.data = data if data.__class__ is float else _number(data)
        self.grad: Any = 0.0
        self.label = label
        self.rule = self._left = self._right = None
        operands = _children or children or _prev
        if (operands or _op) and _recording:
            self._left = tuple(operands) or None  # a tuple: backward() then asks for _backward
            self.rule = _ByHand(_op, local_grads) if isinstance(_op, str) else _ByHand("", _op or ())

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass may write its own __init__ without calling this one."""
        super().__init_subclass__(**kwargs)

        def prepared(cls: type[Value], *args: Any, **kwargs: Any) -> Value:
            node = object.__new__(cls)
            Value.__init__(node, 0.0)
            return node

        if "__init__" in vars(cls) and "__new__" not in vars(cls):  # only there, as it costs time
            cls.__new__ = prepared  # type: ignore[method-assign, assignment]  # a function becomes the method

    # --- Recording ------------------------------------------------------------------------------------------

    def _operand(self, other: Any) -> Any:
        return other if isinstance(other, main.Value) else Value(other)

    @staticmethod
    def _node(data: Any, rule: Rule | None, parents: tuple[Any, ...]) -> "Value":
        if rule is None:
            return Value(data)
        simple = len(parents) <= 2 and not isinstance(rule, _ByHand)
        return _result(data, rule, *(parents if simple else (parents or None,)))

    def __array_ufunc__(  # type: ignore[override]  # the main Value leaves arrays to its own operators
        self, ufunc: Any, method: str, *inputs: Any, **options: Any
    ) -> Any:
        """`array * value` is an array of Values, and `np.exp(value)` is value.exp()."""
        import numpy as np

        inputs = tuple(np.array(x, object) if isinstance(x, main.Value) else x for x in inputs)
        return getattr(ufunc, method)(*inputs, **options)

    # --- Operators: all but + * ** are composed as micrograd composes them --------------------------------------
    # fmt: off

    def __add__(self, other: Any) -> Any:
        if other.__class__ is not Value and (other := _beside(other)) is NotImplemented:
            return NotImplemented
        return _result(self.data + other.data, ADD, self, other)

    def __mul__(self, other: Any) -> Any:
        if other.__class__ is not Value and (other := _beside(other)) is NotImplemented:
            return NotImplemented
        return _result(self.data * other.data, MUL, self, other)

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, main.Value):
            return self._record(POW, (self, other))
        rule = _power_rule(other)
        if self.data > 0:  # inside the domain
            return _result(rule.forward(self.data), rule, self)
        return self._record(rule, (self,))

    def __pos__(self) -> "Value": return self
    def __neg__(self) -> Any: return self * -1.0
    def __sub__(self, other: Any) -> Any: return self + (-other)
    def __truediv__(self, other: Any) -> Any: return self * (other if _is_far(other) else _number(other)) ** -1
    def __radd__(self, other: Any) -> Any: return self + other
    def __rsub__(self, other: Any) -> Any: return other + (-self)
    def __rmul__(self, other: Any) -> Any: return self * other
    def __rtruediv__(self, other: Any) -> Any: return other * self**-1
    def __bool__(self) -> bool: return True  # micrograd's Values have no truth of their own

    # fmt: on

    def reLU(self) -> "Value":  # noqa: N802  # the name that some engines of the family give it
        """relu of this Value."""
        return self.relu()  # type: ignore[return-value]  # made by _node

    def clip(self, low: float, high: float) -> "Value":
        """The number moved into [low, high]; no gradient passes where it was moved."""
        return Value(max(low, min(high, self.data)), (self,), (1.0 if low < self.data < high else 0.0,))

    def max_with(self, other: Any) -> "Value":
        """The larger of two; all of the gradient goes to it, of equals to the first."""
        other = self._operand(other)
        first = self.data >= other.data
        return Value(self.data if first else other.data, (self, other), (1.0, 0.0) if first else (0.0, 1.0))

    # --- Backpropagation ------------------------------------------------------------------------------------

    def backward(self, upstream: Any = 1.0, check: bool = False) -> None:
        """Set `grad` of every node below to upstream * d(self)/d(node), leaves adding to what they have.

        Interior nodes start from 0, so results that share nodes add up right. The shares are added in the order of
        micrograd's recursion, so that sums round alike. check=True is that of the main Value.
        """
        if check:
            raise_if_changed(self)
        zero, order = type(self.data)(0), _micrograds_order(self)
        for node in order:
            if node._left is not None or node.grad is None:
                node.grad = zero
        self.grad = zero + upstream
        for node in reversed(order):
            left, right = node._left, node._right
            if right is not None:
                left_share, right_share = node.rule.backward(node.grad, node.data, left.data, right.data)
                left.grad += left_share
                right.grad += right_share
            elif left is None:
                if node.rule is not None:  # a closure without operands
                    node._backward()
            elif left.__class__ is not tuple:
                left.grad += node.rule.shares(node.grad, node.data, left.data)[0]
            elif node.rule.__class__ is _ByHand:
                node.rule.step(node)
            else:
                node._backward()

    def zero_grad(self) -> None:
        """Set the gradients of this node and of everything it was made from to 0."""
        for node in topological_order(self):
            node.grad = 0.0

    no_grad = staticmethod(no_grad)

    # --- micrograd's attributes, which a program may also set ---------------------------------------------------

    def _own(self) -> _ByHand:
        """The rule of this node as one that belongs to the node and can be changed."""
        if not isinstance(self.rule, _ByHand):
            own, parents = _ByHand(self._op), self.parents
            if self.rule is not None:
                own.node, own.closure = self, super()._backward
            self.rule, self._left, self._right = own, parents or None, None
        return self.rule

    @property
    def _backward(self) -> Callable[[], None]:
        """The local step of the chain rule: the program's closure, or one made from the rule when asked for."""
        if isinstance(self.rule, _ByHand):
            return self.rule.closure or functools.partial(self.rule.step, self)
        return super()._backward

    @_backward.setter
    def _backward(self, closure: Callable[[], None]) -> None:
        own = self._own()
        own.node, own.closure = self, closure

    @property
    def _op(self) -> str:
        """The operation's symbol, "" for a leaf."""
        if isinstance(self.rule, _ByHand):
            return self.rule.op
        return "ReLU" if self.rule is RULES["relu"] else super()._op

    @_op.setter
    def _op(self, op: str) -> None:
        if op or self.rule:
            own = self._own()
            own.op, own.name, own.symbol = op, op or "by hand", op or "by hand"

    @property
    def _prev(self) -> Operands:
        return Operands(self.parents)

    @_prev.setter
    def _prev(self, children: Iterable[Any]) -> None:
        operands = tuple(children)
        if operands or self.rule:
            self._own()
            self._left, self._right = operands or None, None

    _children = _prev

    @property
    def _local_grads(self) -> tuple[Any, ...]:
        """d(this)/d(operand) for each operand, as numbers."""
        inputs = [parent.data for parent in self.parents]
        return tuple(self.rule.shares(type(self.data)(1), self.data, *inputs)) if self.rule else ()

    @_local_grads.setter
    def _local_grads(self, local_grads: Iterable[Any]) -> None:
        own = self._own()
        own.closure, own.local_grads = None, tuple(local_grads)

    # --- Text and copies ------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"Value(data={self.data}, grad={self.grad})"

    def _copy(self, parents: tuple[Any, ...]) -> "Value":
        twin: Value = object.__new__(type(self))
        if isinstance(self.rule, _ByHand):
            Value.__init__(twin, self.data, parents, self._op, self.label, local_grads=self._local_grads)
        else:
            node = self._node(self.data, self.rule, parents)
            Value.__init__(twin, self.data, label=self.label)
            twin.rule, twin._left, twin._right = node.rule, node._left, node._right
        twin.grad = self.grad
        vars(twin).update(vars(self))
        return twin

    def __reduce__(self) -> Any:
        if self.rule is None:  # a leaf, with the attributes that it was given
            return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]  # no stub
        return reduced(self)


def _method(rule: Rule) -> Callable[..., Value]:
    """The rule as a method; `alpha` and the like may follow."""
    low, high = (rule.domain[0].low, rule.domain[0].high) if rule.domain else (-inf, inf)

    def method(self: Value, **parameters: Any) -> Value:
        if not parameters and low < self.data < high:
            return _result(rule.forward(self.data), rule, self)
        return self._record(rule.bind(**parameters) if parameters else rule, (self,))  # type: ignore[return-value]

    method.__name__, method.__qualname__ = rule.name, f"Value.{rule.name}"
    method.__doc__ = f"{rule.name} of this Value, as a new Value."
    return method


for _name, _rule in (RULES | _OWN).items():
    if _rule.n_inputs == 1 and callable(getattr(main.Value, _name, None)):
        setattr(Value, _name, _method(_rule))
Value.__abs__ = _method(RULES["abs"])


def _micrograds_order(root: Any) -> list[Any]:
    """The nodes below root in the order of micrograd's recursion: each after its operands, the left one first."""
    order: list[Any] = []
    seen: set[Any] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node is None:
            order.append(stack.pop())
        elif node not in seen:
            seen.add(node)
            if node._right is not None:
                stack += (node, None, node._right, node._left)
            elif node._left is not None:
                stack += (node, None, *reversed(node.parents))
            else:
                order.append(node)
    return order
