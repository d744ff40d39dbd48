"""The engines that programs of micrograd's users bring along, and the comparison of their numbers with ours.

`same_numbers(program, engine)` runs a program twice, on that engine and on tinygrad_edu.micrograd, and compares
the numbers it returns: losses, gradients, weights. Single operations agree to 1e-15 of the absolute adjoint
(test_lecture.py); what is trained for many steps multiplies that.
"""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import micrograd.engine
import micrograd.nn
import pytest
from published import LocalGrads

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


MICROGPT = SimpleNamespace(Value=LocalGrads)


def topological(root: Any, operands: str = "_prev") -> list[Any]:
    """The order that a student writes, by the attribute that holds the operands of a node."""
    topo, visited = [], set()

    def build(v: Any) -> None:
        if v not in visited:
            visited.add(v)
            for child in getattr(v, operands):
                build(child)
            topo.append(v)

    build(root)
    return topo


def by_hand(operands: Any, number: float, slopes: Any, op: str = "", kind: Any = None) -> Any:
    """An operation as the lecture writes it: a node with a closure that adds to the gradients of its operands.

    kind is the class of the node, that of its first operand by default.
    """
    out = (kind or type(operands[0]))(number, tuple(operands), op)

    def _backward() -> None:
        for operand, slope in zip(operands, slopes, strict=True):
            operand.grad += slope * out.grad

    out._backward = _backward
    return out


def tanh(x: Any, kind: Any = None) -> Any:
    """The lecture's tanh, on whatever engine x belongs to."""
    t = (math.exp(2 * x.data) - 1) / (math.exp(2 * x.data) + 1)
    return by_hand([x], t, [1 - t**2], "tanh", kind)


def same_numbers(program: Callable[[Any], list[float]], engine: Any) -> None:
    """Assert that the program returns the same finite numbers on both engines, but for rounding."""
    ours, theirs = program(OURS), program(engine)
    assert all(map(math.isfinite, theirs))
    assert [float(x) for x in ours] == pytest.approx(theirs, rel=1e-9, abs=1e-12)
    assert len(theirs) > 0
