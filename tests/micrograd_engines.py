"""The engines that programs of micrograd's users bring along, and the comparison of their numbers with ours.

`same_numbers(program, engine)` runs a program twice, on that engine and on tinygrad_edu.micrograd, and compares
the numbers it returns (losses, gradients, weights) bit by bit.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import micrograd.engine
import micrograd.nn

import tinygrad_edu.micrograd


class _InOrder(dict[Any, None]):
    """A set that keeps its order. micrograd's sets do not, so its last bits change from run to run."""

    def __init__(self, items: Any = ()):
        super().__init__(dict.fromkeys(items))

    def add(self, item: Any) -> None:
        self[item] = None


micrograd.engine.set = _InOrder  # type: ignore[attr-defined]

MICROGRAD = micrograd.nn  # version 0.1.0, with its Value
OURS = tinygrad_edu.micrograd


class _Arithmetic:
    """What all these engines compose in the same way."""

    def __neg__(self):
        return self * -1

    def __radd__(self, other):
        return self + other

    def __sub__(self, other):
        return self + (-other)

    def __rsub__(self, other):
        return other + (-self)

    def __rmul__(self, other):
        return self * other

    def __truediv__(self, other):
        return self * other**-1

    def __rtruediv__(self, other):
        return other * self**-1


class Closures(_Arithmetic):
    """An engine in the manner of the lecture: every operation leaves a closure."""

    def __init__(self, data, _children=(), _op="", label=""):
        self.data, self.grad, self.label = data, 0.0, label
        self._backward = lambda: None
        self._prev, self._op = tuple(_children), _op

    def _unary(self, data, op, slope):
        out = Closures(data, (self,), op)

        def _backward():
            self.grad += slope(out) * out.grad

        out._backward = _backward
        return out

    def __add__(self, other):
        other = other if isinstance(other, Closures) else Closures(other)
        out = Closures(self.data + other.data, (self, other), "+")

        def _backward():
            self.grad += out.grad
            other.grad += out.grad

        out._backward = _backward
        return out

    def __mul__(self, other):
        other = other if isinstance(other, Closures) else Closures(other)
        out = Closures(self.data * other.data, (self, other), "*")

        def _backward():
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        out._backward = _backward
        return out

    def __pow__(self, n):
        return self._unary(self.data**n, f"**{n}", lambda out: n * self.data ** (n - 1))

    def relu(self):
        return self._unary(max(0.0, self.data), "ReLU", lambda out: out.data > 0)

    def tanh(self):
        return self._unary(math.tanh(self.data), "tanh", lambda out: 1 - out.data**2)

    def exp(self):
        return self._unary(math.exp(self.data), "exp", lambda out: out.data)

    def log(self):
        return self._unary(math.log(self.data), "log", lambda out: 1 / self.data)

    def backward(self):
        order, visited = [], set()

        def visit(node):
            if node not in visited:
                visited.add(node)
                for child in node._prev:
                    visit(child)
                order.append(node)

        visit(self)
        self.grad = 1.0
        for node in reversed(order):
            node._backward()


class LocalGrads(_Arithmetic):
    """An engine in the manner of microgpt: every node keeps its local derivatives."""

    __slots__ = ("_children", "_local_grads", "data", "grad")

    def __init__(self, data, children=(), local_grads=()):
        self.data, self.grad = data, 0
        self._children, self._local_grads = children, local_grads

    def __add__(self, other):
        other = other if isinstance(other, LocalGrads) else LocalGrads(other)
        return LocalGrads(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other):
        other = other if isinstance(other, LocalGrads) else LocalGrads(other)
        return LocalGrads(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, n):
        return LocalGrads(self.data**n, (self,), (n * self.data ** (n - 1),))

    def log(self):
        return LocalGrads(math.log(self.data), (self,), (1 / self.data,))

    def exp(self):
        return LocalGrads(math.exp(self.data), (self,), (math.exp(self.data),))

    def relu(self):
        return LocalGrads(max(0, self.data), (self,), (float(self.data > 0),))

    def tanh(self):
        t = math.tanh(self.data)
        return LocalGrads(t, (self,), (1 - t**2,))

    def sigmoid(self):
        s = 1 / (1 + math.exp(-self.data))
        return LocalGrads(s, (self,), (s * (1 - s),))

    def clip(self, low, high):
        return LocalGrads(max(low, min(high, self.data)), (self,), (1.0 if low < self.data < high else 0.0,))

    def max_with(self, other):
        first = self.data >= other.data
        return LocalGrads((self if first else other).data, (self, other), (1.0, 0.0) if first else (0.0, 1.0))

    def backward(self):
        order, visited = [], set()

        def visit(node):
            if node not in visited:
                visited.add(node)
                for child in node._children:
                    visit(child)
                order.append(node)

        visit(self)
        self.grad = 1
        for node in reversed(order):
            for child, local in zip(node._children, node._local_grads, strict=True):
                child.grad += local * node.grad


LECTURE, MICROGPT = SimpleNamespace(Value=Closures), SimpleNamespace(Value=LocalGrads)


def same_numbers(program: Callable[[Any], list[float]], engine: Any) -> None:
    """Assert that the program returns the same numbers on both engines, to the last bit, and finite ones."""
    ours, theirs = program(OURS), program(engine)
    assert len(ours) == len(theirs) > 0
    assert all(map(math.isfinite, theirs))
    assert [float(x).hex() for x in ours] == [float(x).hex() for x in theirs]
