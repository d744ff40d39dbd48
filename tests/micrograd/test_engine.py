"""The drop-in's Value: its constructor, operations by hand and what reads them, attributes, copies, NumPy."""

import copy
import math
import pickle
import sys

import numpy as np
import pytest
from cases import COPIES, refused
from micrograd_engines import by_hand

import tinygrad_edu as tg
from tinygrad_edu.micrograd import engine as engine_module
from tinygrad_edu.micrograd.engine import Value


def square(x):
    """x * x written by hand with a closure."""
    return by_hand([x], x.data**2, [2 * x.data], "square", Value)


def cube(x):
    """x**3 written by hand with a local derivative."""
    return Value(x.data**3, (x,), (3 * x.data**2,))


# --- Construction -------------------------------------------------------------------------------------------
def test_the_constructors_of_the_family_take_numbers_of_all_kinds():
    a, b = Value(2.0), Value(-3.0, (), "", "b")
    assert (b.label, b._op, b._prev, b._children, b._local_grads) == ("b", "", (), (), ())
    named = Value(-6.0, _children=(a, b), _op="*"), Value(-6.0, _prev=[a, b], _op="*")
    for out in (Value(-6.0, (a, b), "*"), *named):
        assert (out._op, out._children, out.rule.symbol) == ("*", (a, b), "*")
    for out in (Value(-6.0, (a, b), (-3.0, 2.0)), Value(-6.0, children=(a, b), local_grads=(-3.0, 2.0))):
        assert (out._op, out._children, out._local_grads) == ("", (a, b), (-3.0, 2.0))
    dot = Value(2.0, [a, b, a], (5.0, 0.5, 7.0))  # an operand that comes twice gets both shares
    dot.backward()
    assert (dot._children, a.grad, b.grad) == ((a, b, a), 12.0, 0.5)
    kinds = [3, np.float32(0.5), np.int64(2), np.array(4.0), np.array([6]), True, np.bool_(False), Value(1.5)]
    numbers = [Value(x).data for x in kinds]
    assert numbers == [3.0, 0.5, 2.0, 4.0, 6.0, 1.0, 0.0, 1.5]
    assert {type(x) for x in numbers} == {float}
    assert (Value(2.0, "x").label, Value(2.0, "x")._prev) == ("x", ())


def test_the_operands_equal_micrograds_set_and_the_symbols_are_its():
    a, b = Value(2.0), Value(3.0)
    c, leaf = a * b, Value(1.0)
    assert c._prev == {b, a} == c._prev
    assert c._prev == (a, b)
    assert c._prev != {a}
    assert leaf._prev == set()
    assert not leaf._prev
    assert a in c._prev
    assert c._prev[1] is b
    assert (a * a)._prev == {a}
    assert len({c._prev, (a, b)}) == 1
    assert {leaf} | c._prev == {leaf, a, b}
    assert c._prev - {a} == {b}
    a, b = Value(2.0), Value(3.0)
    nodes = a + b, a * b, a**2, a**-0.5, a.relu(), a.tanh(), a.exp(), a.log(), -a, a - b, a / b
    assert [node._op for node in nodes] == ["+", "*", "**2", "**-0.5", "ReLU", "tanh", "exp", "log", "-", "-", "/"]
    assert len(tg.topological_order(sum([a, b]))) == 3
    assert repr(Value(2.0, label="a")) == "Value(data=2.0, grad=0.0)"
    assert bool(Value(0.0)) is True


# --- Operations by hand -------------------------------------------------------------------------------------
def test_readers_of_the_graph_know_operations_by_hand():
    x = Value(3.0, label="x")
    y = square(x) * 2 + cube(x)
    assert tg.gradients(y, x) == 39.0
    assert tg.why(y, x).total == 39.0
    assert [path.product for path in tg.why(y, x).paths] == [27.0, 12.0]
    assert (x.grad, y.grad) == (0.0, 0.0)
    spoken = [step.sentence for step in tg.steps(y)]
    assert any("= square(x): x receives upstream * slope = 2 * 6 = 12" in sentence for sentence in spoken)
    assert any("= by hand(x): x receives upstream * slope = 1 * 27 = 27" in sentence for sentence in spoken)
    assert "square" in str(tg.tree(y))
    assert "square" in tg.draw(y).source
    y.backward()
    assert x.grad == 39.0


def test_an_operand_that_comes_twice_and_one_that_no_gradient_reaches():
    x = Value(3.0)
    y = by_hand([x, x], 9.0, [3.0, 3.0], "*") + Value(9.0, (x,), "square")  # without a closure no gradient passes
    assert tg.gradients(y, x) == 6.0
    y.backward()
    assert x.grad == 6.0


def test_an_operation_by_hand_beside_values_of_the_main_engine():
    a, b = tg.Value(3.0), Value(2.0)
    y = square(a) * b + a
    y.backward()
    assert (a.grad, b.grad) == (13.0, 9.0)
    a.grad = b.grad = 0.0
    root = tg.sum([y, a])  # of the main class
    root.backward()
    assert (a.grad, b.grad) == (14.0, 9.0)
    for out in (a + b, a - b, a * b, a / b, b + a, 2 - b, b.sin(), abs(b), tg.exp(b), b**a, +b):
        assert type(out) is Value


def test_a_check_passes_over_operations_by_hand():
    x = Value(3.0)
    y, z = square(x) + 1, x * 2 + square(x)
    y.backward(check=True)
    x.data = 4.0
    y.backward(check=True)
    with pytest.raises(RuntimeError, match="was changed after the forward pass"):
        z.backward(check=True)


x = Value(3.0)
GRAPH = "square was written by hand with numbers, so its derivative has no graph"
ERRORS = [
    (lambda: Value("3"), TypeError, r"^Value holds one real number, got '3' \(str\)\. Convert text with"),
    (lambda: Value([1.0, 2.0]), TypeError, "build one Value per element"),
    (lambda: tg.gradients(square(x), x, create_graph=True), TypeError, GRAPH),
    (lambda: square(x).rule.forward(2.0), TypeError, "^square was written by hand for one value of its operands"),
    (lambda: Value(9.0, (x, x), (3.0,)).backward(), TypeError, r"must return 2 share\(s\), one per input, got"),
    (lambda: Value(0.0).log(), ValueError, "it is defined for 0 < x only"),
    (lambda: Value(-8.0) ** 0.5, ValueError, "negative"),
    (lambda: 1 / Value(0.0), ZeroDivisionError, "division by zero"),
]
test_errors_are_one_sentence = refused(ERRORS)


def test_the_closure_of_a_recorded_operation_can_be_replaced():
    x = Value(3.0)
    y = x * 2
    recorded = y._backward

    def doubled():
        recorded()
        recorded()

    y._backward = doubled
    (y + x).backward()
    assert x.grad == 5.0
    assert y._op == "*"


def test_a_subclass_with_a_constructor_of_its_own():
    class Own(Value):
        def __init__(self, data, children=(), op=""):
            self.data = data
            self.grad = 0
            self._backward = lambda: None
            self._prev = set(children)
            self._op = op

        def double(self):
            return by_hand([self], self.data * 2, [2], "double")

    x = Own(3.0)
    for _ in range(2):  # a leaf keeps what it has, with a closure that does nothing as well
        (x.double() + 1).backward()
    assert (x.grad, x.label, copy.deepcopy(x).__class__) == (4, "", Own)


# --- Attributes, gradients, recording -----------------------------------------------------------------------
def test_attributes_can_be_added_and_micrograds_can_be_set():
    p = Value(1.0)
    p.m, p._vis_color = 0.5, "red"
    twin, again = copy.deepcopy(p), pickle.loads(pickle.dumps(p))
    assert (twin.m, twin._vis_color, again.m) == (0.5, "red", 0.5)
    a, b = Value(2.0), Value(3.0)
    fused = by_hand([a, b], 6.0, [3.0, 2.0])
    fused._prev = ()
    fused._prev = {a, b}
    fused._op = "fused"
    (fused * 2).backward()
    assert (a.grad, b.grad, fused._op, fused.rule.name) == (6.0, 4.0, "fused", "fused")

    sigmoid = 1 / (1 + (-a).exp())
    sigmoid._op = "sigmoid"
    a.grad = 0.0
    sigmoid.backward()
    assert sigmoid._op == "sigmoid"
    assert a.grad == pytest.approx(sigmoid.data * (1 - sigmoid.data), rel=1e-15)

    cut = a * b
    cut._prev = ()
    assert tg.topological_order(cut) == [cut]
    local = Value(6.0)
    local._children, local._local_grads = (a, b), (3.0, 2.0)
    assert tg.gradients(local, [a, b]) == [3.0, 2.0]


def test_zero_grad_no_grad_and_the_names_of_other_engines():
    x = Value(2.0)
    y = x * x
    x.grad = None
    y.backward()
    assert x.grad == 4.0
    y.zero_grad()
    assert (x.grad, y.grad) == (0.0, 0.0)
    x = Value(2.0)
    with Value.no_grad():
        outside = x * 3 + square(x)
    with pytest.raises(ZeroDivisionError), engine_module.no_grad():
        x / 0
    assert (outside.data, outside._prev) == (10.0, ())
    assert x in (x * 3)._prev
    x = Value(-2.0)
    assert [y.data for y in (+x, x.reLU(), x.relu(), x.clip(-1, 1), x.max_with(3))] == [-2.0, 0.0, 0.0, -1.0, 3.0]
    assert tg.gradients(x.clip(-3, 3) + x.max_with(Value(-2.0)) + x.clip(-2, 1), x) == 2.0


def test_overflow_and_a_long_chain():
    assert Value(1000.0).exp().data == (Value(1e200) ** 2).data == math.inf
    assert (Value(0.0) ** 0).data == 1.0
    x = y = Value(1.0)
    for _ in range(50_000):
        y = y + x
    y = square(y)
    y.backward()
    assert x.grad == 2 * 50_001.0**2
    assert copy.deepcopy(y).data == y.data


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_a_graph_of_its_own(way):
    x = Value(3.0, label="x")
    y = square(x) * cube(x) + x.tanh() - x**-1
    y.backward()
    expected, x.grad = x.grad, 0.0
    twin = COPIES[way](y)
    twin.backward()
    (leaf,) = [node for node in tg.topological_order(twin) if node.label == "x"]
    assert type(twin) is Value
    assert x.grad == 0.0
    assert leaf.grad == pytest.approx(expected, rel=1e-14)
    assert "square" in [node._op for node in tg.topological_order(twin)]


def test_numpy_computes_element_by_element():
    v, array = Value(3.0), np.array([1.0, 2.0])
    for out in (array * v, v * array, array + v, v - array, array / v, v / array, np.array([v, v]) * array):
        assert out.dtype == object
        assert {type(x) for x in out} == {Value}
    assert (v * np.array([2.0])).data == (v - np.array([[-3.0]])).data == 6.0  # arrays of one number are numbers


PROGRAM = """
import micrograd.nn as networks
from micrograd.engine import Value
from micrograd import nn
from micrograd.viz import draw_dot, trace
assert networks is nn and nn.Value is Value
y = nn.MLP(2, [2, 1])([Value(1.0), 2.0])
y.backward()
nodes, edges = trace(y)
assert y in nodes and all(parent in child._prev for parent, child in edges)
assert "tanh" in draw_dot(y.tanh(), format="svg", rankdir="TB").source
"""


def test_programs_that_cannot_be_edited(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "micrograd"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "micrograd", tg.micrograd)
    names: dict[str, object] = {}
    exec(PROGRAM, names)
    assert names["Value"] is Value
    assert sys.modules["micrograd.engine"] is engine_module
    for name in ("engine", "nn", "viz"):
        monkeypatch.delitem(sys.modules, f"micrograd.{name}")
