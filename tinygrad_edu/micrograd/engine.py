"""micrograd's `Value` on this engine: its constructor, its attributes and its numbers.

Two ways to write an operation by hand are known, and both are recorded:

    out = Value(t, (x,), "tanh")              # the lecture: the closure adds to x.grad
    out._backward = closure
    out = Value(t, (x,), (1 - t**2,))         # microgpt: one local derivative for each operand

Every other operation is that of the main engine.
"""

import copyreg
import functools
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Any

from ..engine import value as main
from ..engine.dispatch import is_array
from ..engine.graph import topological_order
from ..engine.pickling import reduced
from ..engine.rules import ADD, DIV, MUL, NEG, RULES, SUB, Rule
from ..engine.scalar import as_real
from ..engine.watch import tracers, watch

# --- Operations by hand -------------------------------------------------------------------------------------


class _ByHand(Rule):
    """The rule of one node whose operation the program wrote itself.

    Either `local_grads` holds one derivative for each operand, or `closure` adds the shares of `node` to the
    gradients of its operands. With neither, no gradient passes, as in micrograd.
    """

    by_hand = True
    name = symbol = "by hand"
    op, n_inputs, formula, slope = "", None, "", ""
    local_grads: tuple[Any, ...] = ()
    domain, kinks, ties, check = (), (), False, None
    parameters: dict[str, Any] = {}  # noqa: RUF012  # no class of this kind has parameters
    node: Any = None
    closure: Callable[[], None] | None = None

    def __init__(self, op: str, local_grads: Iterable[Any] = ()):
        self.op = op
        self.name = self.symbol = op or "by hand"
        self.local_grads = tuple(local_grads)

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

    def __reduce__(self) -> Any:
        """A copy has the derivatives instead of the closure, which belongs to the original."""
        return _ByHand, (self.op, self.node._local_grads if self.closure else self.local_grads)


class OperandSet(tuple[Any, ...], Set[Any]):  # type: ignore[misc]  # < orders them as tuples, not as sets
    """The operands of a node, in order and with repetition; also the set of them that micrograd's `_prev` is."""

    __slots__ = ()
    __hash__: Callable[..., int] = tuple.__hash__
    _from_iterable = set  # what | & - ^ give

    def __eq__(self, other: object) -> bool:
        return set(self) == other if isinstance(other, set | frozenset) else super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        return not self == other


# --- Value --------------------------------------------------------------------------------------------------


def _number(data: Any) -> Any:
    """data as one real number; as in micrograd, a truth value counts as 1 or 0 and a Value as its number."""
    if data.__class__ is int:
        return float(data)
    if isinstance(data, main.Value):
        if watch.tracer and data.rule and watch.tracer.is_placeholder(data):
            watch.tracer.refuse(
                "Value(x) was made of a Value, which would have no gradient",
                "Ask isinstance(x, Value) instead of type(x) is Value; or return x itself.",
            )
        data = data.data
    if hasattr(data, "item") and (data.ndim == 0 or data.size == 1):  # a scalar or an array of one number
        data = data.item()
    return float(data) if isinstance(data, bool) else as_real(data)


def _beside(other: Any) -> Any:
    """other as an operand; NotImplemented for an array, which then asks its elements."""
    if other.__class__ is float:
        return _result(other, None, None)
    if other.__class__ is int:
        return _result(float(other), None, None)
    if isinstance(other, main.Value):  # a placeholder records the operation itself
        return NotImplemented if watch.tracer and watch.tracer.is_placeholder(other) else other
    return NotImplemented if is_array(other) and other.size != 1 else Value(other)


def _result(data: Any, rule: Any, left: Any, right: Any = None) -> "Value":
    """The Value of an operation of this engine. `Value.__init__`, which has more to ask, would double its cost."""
    if data.__class__ is not float:
        if watch.tracer and watch.tracer.is_placeholder(left):  # Value.tanh(x), by its class
            return left._record(rule, (left,) if right is None else (left, right))  # type: ignore[no-any-return]
        data = _number(data)
    if not _recording:
        rule = left = right = None
    node = _new(Value)
    node.data = data
    node.grad = 0.0
    node.label = ""
    node._rule = rule
    node._left = left
    node._right = right
    return node


_power = functools.lru_cache(maxsize=64)(main._power)
_new = object.__new__
_recording = True


@contextmanager
def no_grad() -> Iterator[None]:
    """Record nothing inside `with no_grad():`: every result is a leaf."""
    global _recording
    before, _recording = _recording, False
    try:
        yield
    finally:
        _recording = before


class _ValueType(type):
    def __instancecheck__(cls, x: Any) -> bool:
        """While a function is traced, its placeholders are Values too."""
        return super().__instancecheck__(x) or bool(
            watch.tracer and cls is Value and watch.tracer.is_placeholder(x)
        )


class Value(main.Value, metaclass=_ValueType):
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
        self.data: Any = data if data.__class__ is float else _number(data)
        self.grad: Any = 0.0
        self.label: str = label
        self._right: Any = None
        if _children and _op.__class__ is tuple is _children.__class__ and _recording and not tracers:
            self._rule: Any = _op  # microgpt's way: it must cost little
            self._left: Any = _children
            return
        self._rule = self._left = None
        if _children or _op or children or _prev:
            self._made_of(_children or children or _prev, _op, local_grads)

    def _made_of(self, operands: Any, op: Any, local_grads: Any) -> None:
        """Record an operation by hand."""
        if operands.__class__ is str:  # Value(2.0, "x")
            self.label = operands
        elif _recording:
            self._left = tuple(operands) or None  # a tuple: backward() then asks for _pass_on
            self._rule = _ByHand(op, local_grads) if op.__class__ is str else _ByHand("", op)
            if watch.tracer:
                watch.tracer.by_hand(self, operands, self._rule.local_grads or None)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass may write its own __init__ without calling this one."""
        super().__init_subclass__(**kwargs)

        def prepared(cls: type[Value], *args: Any, **kwargs: Any) -> Value:
            node = object.__new__(cls)
            Value.__init__(node, 0.0)
            return node

        if "__init__" in vars(cls) and "__new__" not in vars(cls):  # only there, as it costs time
            type.__setattr__(cls, "__new__", prepared)

    # --- Recording ------------------------------------------------------------------------------------------

    def _operand(self, other: Any) -> Any:
        return other if isinstance(other, main.Value) else Value(other)

    @staticmethod
    def _node(data: Any, rule: Rule | None, parents: tuple[Any, ...]) -> "Value":
        if rule is None:
            return Value(data)
        simple = len(parents) <= 2 and not isinstance(rule, _ByHand)
        return _result(data, rule, *(parents if simple else (parents or None,)))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """`array * value` is an array of Values."""
        inputs = tuple(x.astype(object) if is_array(x) and x.ndim else x for x in inputs)
        return super().__array_ufunc__(ufunc, method, *inputs, **options)

    # --- Operators ------------------------------------------------------------------------------------------
    # fmt: off

    def __add__(self, other: Any) -> "Value":
        if other.__class__ is not Value and (other := _beside(other)) is NotImplemented:
            return NotImplemented
        return _result(self.data + other.data, ADD, self, other)

    def __sub__(self, other: Any) -> "Value":
        if other.__class__ is not Value and (other := _beside(other)) is NotImplemented:
            return NotImplemented
        return _result(self.data - other.data, SUB, self, other)

    def __mul__(self, other: Any) -> "Value":
        if other.__class__ is not Value and (other := _beside(other)) is NotImplemented:
            return NotImplemented
        return _result(self.data * other.data, MUL, self, other)

    def __truediv__(self, other: Any) -> "Value":
        if other.__class__ is not Value and (other := _beside(other)) is NotImplemented:
            return NotImplemented
        if other.data.__class__ is float and other.data:
            return _result(self.data / other.data, DIV, self, other)
        return self._record(DIV, (self, other))  # type: ignore[return-value]  # made by _node

    def __pow__(self, other: Any) -> "Value":
        if other.__class__ is not int and other.__class__ is not float:
            return super().__pow__(other)  # type: ignore[return-value]  # made by _node
        if self.data > 0:  # inside the domain
            try:
                return _result(self.data**other, _power(other), self)
            except OverflowError:
                pass
        return self._record(main._power(other), (self,))  # type: ignore[return-value]

    def __neg__(self) -> "Value": return _result(-self.data, NEG, self)
    def __radd__(self, other: Any) -> "Value": return self + other if other.__class__ is not int or other else self
    def __rsub__(self, other: Any) -> "Value":
        other = _beside(other)
        return _result(other.data - self.data, SUB, other, self)

    def __rmul__(self, other: Any) -> "Value": return self * other  # type: ignore[no-any-return]

    def __rtruediv__(self, other: Any) -> "Value":
        other = _beside(other)
        if self.data.__class__ is float and self.data and other is not NotImplemented:
            return _result(other.data / self.data, DIV, other, self)
        return self._record(DIV, (other, self))  # type: ignore[return-value]  # made by _node

    def __bool__(self) -> bool: return True  # micrograd's Values have no truth of their own

    # fmt: on

    def reLU(self) -> "Value":  # noqa: N802  # the name that some engines of the family give it
        """relu of this Value."""
        return self.relu()

    def clip(self, low: float, high: float) -> "Value":
        """The number moved into [low, high]; no gradient passes where it was moved."""
        return Value(max(low, min(high, self.data)), (self,), ((low < self.data) * 1.0 * (self.data < high),))

    def max_with(self, other: Any) -> "Value":
        """The larger of two; all of the gradient goes to it, of equals to the first."""
        other = other if isinstance(other, main.Value) else Value(other)
        first = (self.data >= other.data) * 1.0
        return Value(max(self.data, other.data), (self, other), (first, 1.0 - first))

    # --- Gradients ------------------------------------------------------------------------------------------

    def zero_grad(self) -> None:
        """Set the gradients of this node and of everything it was made from to 0."""
        for node in topological_order(self):
            node.grad = 0.0

    no_grad: Any = staticmethod(no_grad)

    # --- micrograd's attributes, which a program may also set ---------------------------------------------------

    @property
    def rule(self) -> Any:
        """The operation that made it. Of local derivatives, which backward() uses as they are, it is made here."""
        if self._rule.__class__ is tuple:
            self._rule = _ByHand("", self._rule)
        return self._rule

    @rule.setter
    def rule(self, rule: Any) -> None:
        self._rule = rule

    def _own(self) -> _ByHand:
        """The rule of this node as one that belongs to the node and can be changed."""
        if not isinstance(self.rule, _ByHand):
            own, parents = _ByHand(self._op), self.parents
            if self.rule is not None:
                own.node, own.closure = self, super()._backward
            self.rule, self._left, self._right = own, parents or None, None
        return self._rule  # type: ignore[no-any-return]

    def _pass_on(self) -> None:
        slopes, parents = self._rule, self._left
        if slopes.__class__ is not tuple or (n := len(slopes)) != len(parents):
            return self._backward()
        upstream = self.grad
        if n == 1:  # the common cases without a loop
            parents[0].grad += slopes[0] * upstream
        elif n == 2:
            left, right = parents
            left.grad += slopes[0] * upstream
            right.grad += slopes[1] * upstream
        else:
            for parent, slope in zip(parents, slopes):  # noqa: B905  # strict=True takes long, and they are equal
                parent.grad += slope * upstream

    @property
    def _backward(self) -> Callable[[], None]:
        """The local step of the chain rule: the program's closure, or one made from the rule when asked for."""
        closure = self.rule.closure if isinstance(self.rule, _ByHand) else None
        return closure or super()._backward

    @_backward.setter
    def _backward(self, closure: Callable[[], None]) -> None:
        own = self._own()
        own.node, own.closure, own.local_grads = self, closure, ()

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
    def _prev(self) -> OperandSet:
        return OperandSet(self.parents)

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
        twin, rule = object.__new__(type(self)), self.rule
        Value.__init__(twin, self.data, label=self.label)
        node = self._node(
            self.data, _ByHand(rule.op, self._local_grads) if rule and rule.by_hand else rule, parents
        )
        twin.grad, twin.rule, twin._left, twin._right = self.grad, node.rule, node._left, node._right
        vars(twin).update(vars(self))
        return twin

    def __reduce__(self) -> Any:
        if self.rule is None:  # a leaf, with the attributes that it was given
            return copyreg.__newobj__, (type(self),), self.__getstate__()  # type: ignore[attr-defined]  # no stub
        return reduced(self)


for _name, _rule in {"__abs__": RULES["abs"], **RULES}.items():
    if _rule.called == "method" or _name == "__abs__":
        setattr(Value, _name, main._method(_rule, _result))
