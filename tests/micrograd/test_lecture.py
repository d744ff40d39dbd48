"""Programs in the manner of the lecture on micrograd: its two halves, its exercises, operations by hand."""

import math
import random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from micrograd_engines import LECTURE, MICROGRAD, OURS, same_numbers


def tanh(x):
    """The lecture's tanh, written by hand on whatever engine x belongs to."""
    t = (math.exp(2 * x.data) - 1) / (math.exp(2 * x.data) + 1)
    out = type(x)(t, (x,), "tanh")

    def _backward():
        x.grad += (1 - t**2) * out.grad

    out._backward = _backward
    return out


def topological(root):
    """The order that a student writes."""
    topo, visited = [], set()

    def build(v):
        if v not in visited:
            visited.add(v)
            for child in v._prev:
                build(child)
            topo.append(v)

    build(root)
    return topo


def neuron(Value):
    names = ("x1", 2.0), ("x2", 0.0), ("w1", -3.0), ("w2", 1.0), ("b", 6.8813735870195432)
    leaves = {}
    for name, number in names:
        leaves[name] = Value(number)
        leaves[name].label = name
    n = leaves["x1"] * leaves["w1"] + leaves["x2"] * leaves["w2"] + leaves["b"]
    n.label = "n"
    return leaves, n, tanh(n)


def backward_by_hand(engine):
    """First half: the closures called one after the other, the root's gradient set to 1 before."""
    leaves, n, o = neuron(engine.Value)
    o.grad = 1.0
    o._backward()
    n._backward()
    for node in reversed(topological(n)[:-1]):
        node._backward()
    return [o.data, n.grad, *[leaf.grad for leaf in leaves.values()]]


def backward_in_order(engine):
    """First half: a topological sort by the student."""
    leaves, n, o = neuron(engine.Value)
    o.grad = 1.0
    for node in reversed(topological(o)):
        node._backward()
    return [o.data, n.grad, *[leaf.grad for leaf in leaves.values()]]


def tanh_from_exp(engine):
    """First half: tanh composed of exp, with the exponential written by hand and put into the class."""

    def exp(self):
        out = engine.Value(math.exp(self.data), (self,), "exp")

        def _backward():
            self.grad += out.data * out.grad

        out._backward = _backward
        return out

    leaves, n, _ = neuron(engine.Value)
    e = exp(2 * n)
    o = (e - 1) / (e + 1)
    o.backward()
    return [o.data, e.grad, *[leaf.grad for leaf in leaves.values()]]


def reused_node(engine):
    """The bug of the lecture: a node used twice must accumulate."""
    a, b = engine.Value(-2.0), engine.Value(3.0)
    d, e = a * b, a + b
    f = d * e
    f.backward()
    return [a.grad, b.grad, d.grad, e.grad, f.grad]


class Neuron:
    def __init__(self, Value, nin):
        self.w = [Value(random.uniform(-1, 1)) for _ in range(nin)]
        self.b = Value(random.uniform(-1, 1))

    def __call__(self, x):
        return tanh(sum((wi * xi for wi, xi in zip(self.w, x, strict=True)), self.b))

    def parameters(self):
        return [*self.w, self.b]


class MLP:
    def __init__(self, Value, nin, nouts):
        sizes = [nin, *nouts]
        self.layers = [[Neuron(Value, n) for _ in range(m)] for n, m in zip(sizes, nouts, strict=False)]

    def __call__(self, x):
        for layer in self.layers:
            x = [neuron(x) for neuron in layer]
        return x[0] if len(x) == 1 else x

    def parameters(self):
        return [p for layer in self.layers for neuron in layer for p in neuron.parameters()]


def mlp(engine):
    """Second half: an MLP of one's own, four examples, the sum of squares, forty steps."""
    random.seed(42)
    xs = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
    ys = [1.0, -1.0, -1.0, 1.0]
    n = MLP(engine.Value, 3, [4, 4, 1])
    numbers = []
    for _ in range(40):
        ypred = [n(x) for x in xs]
        loss = sum((yout - ygt) ** 2 for ygt, yout in zip(ys, ypred, strict=True))
        for p in n.parameters():
            p.grad = 0.0
        loss.backward()
        for p in n.parameters():
            p.data += -0.1 * p.grad
        numbers.append(loss.data)
    return [*numbers, *[p.grad for p in n.parameters()]]


def exercise_softmax(engine):
    """The exercises: softmax and negative log likelihood, with exp, log and division by hand."""
    Value = engine.Value

    def exp(x):
        out = Value(math.exp(x.data), (x,), "exp")

        def _backward():
            x.grad += out.data * out.grad

        out._backward = _backward
        return out

    def log(x):
        out = Value(math.log(x.data), (x,), "log")

        def _backward():
            x.grad += out.grad / x.data

        out._backward = _backward
        return out

    def divide(x, y):
        out = Value(x.data / y.data, (x, y), "/")

        def _backward():
            x.grad += out.grad / y.data
            y.grad += -x.data / y.data**2 * out.grad

        out._backward = _backward
        return out

    logits = [Value(0.0), Value(3.0), Value(-2.0), Value(1.0)]
    counts = [exp(logit) for logit in logits]
    denominator = sum(counts)
    probabilities = [divide(c, denominator) for c in counts]
    loss = -log(probabilities[3])
    loss.backward()
    return [loss.data, denominator.grad, *[x.grad for x in (*probabilities, *logits)]]


def exercise_derivative(engine):
    """The exercises: a function whose gradient is compared with differences."""

    def f(a, b, c):
        return -(a**3) + (b * 3 + 5) / c - 1.0 / a + c**-2.5

    point = 2.0, 3.0, 4.0
    values = [engine.Value(x) for x in point]
    out = f(*values)
    out.backward()
    h = 1e-6
    for i, value in enumerate(values):
        moved = [x + h * (i == j) for j, x in enumerate(point)]
        assert value.grad == pytest.approx((f(*moved) - f(*point)) / h, rel=1e-4)
    return [out.data, *[value.grad for value in values]]


def operations_in_a_class(engine):
    """A class of the program's own on top of Value, with its constructor and operations by hand."""

    class Scalar(engine.Value):
        count = 0

        def __init__(self, data, _children=(), _op=""):
            super().__init__(data, _children, _op)
            Scalar.count += 1
            self.number = Scalar.count

        def sigmoid(self):
            s = 1 / (1 + math.exp(-self.data))
            out = Scalar(s, (self,), "sigmoid")

            def _backward():
                self.grad += s * (1 - s) * out.grad

            out._backward = _backward
            return out

        def __mul__(self, other):
            other = other if isinstance(other, engine.Value) else Scalar(other)
            out = Scalar(self.data * other.data, (self, other), "*")

            def _backward():
                self.grad += other.data * out.grad
                other.grad += self.data * out.grad

            out._backward = _backward
            return out

    w, x = Scalar(0.7), Scalar(-1.3)
    numbers = []
    for _ in range(5):
        y = (w * x).sigmoid() * 3
        loss = (y - 1) ** 2
        w.grad = x.grad = 0
        loss.backward()
        w.data -= 0.5 * w.grad
        numbers += [loss.data, w.grad, x.grad, y.grad]
    return [*numbers, Scalar.count, y.number]


def operations_in_the_class(engine):
    """Operations put into the class of the engine, one of them in place of its own."""
    Value = engine.Value

    def sigmoid(self):
        return tanh(self * 0.5) * 0.5 + 0.5

    def multiply(self, other):
        other = other if isinstance(other, Value) else Value(other)
        out = Value(self.data * other.data, (self, other))

        def _backward():
            self.grad += other.data * out.grad
            other.grad += self.data * out.grad

        out._backward = _backward
        return out

    before = {name: vars(Value).get(name) for name in ("sigmoid", "__mul__")}
    Value.sigmoid, Value.__mul__ = sigmoid, multiply
    try:
        a, b = Value(0.3), Value(-1.1)
        y = (a * b - a / b).sigmoid()
        y.backward()
    finally:
        for name, method in before.items():
            if method is None:
                delattr(Value, name)
            else:
                setattr(Value, name, method)
    return [y.data, a.grad, b.grad]


def walk_of_the_graph(engine):
    """A tracer of one's own, as for draw_dot: nodes, edges, ids, operations, labels."""
    Value = engine.Value
    a, b, c = Value(2.0, (), ""), Value(-3.0), Value(10.0)
    L = (a * b + c).relu() * (a - b) ** 2 / 4.0
    L.backward()
    nodes, edges = set(), set()

    def build(v):
        if v not in nodes:
            nodes.add(v)
            for child in v._prev:
                edges.add((child, v))
                build(child)

    build(L)
    operations = [n._op for n in nodes]
    assert len({str(id(n)) for n in nodes}) == len(nodes)
    counts = [operations.count(op) for op in ("", "+", "*", "**2", "**-1", "ReLU")]
    return [len(nodes), len(edges), *counts, *sorted(n.data for n in nodes), *sorted(n.grad for n in nodes)]


@pytest.mark.parametrize(
    "program",
    [
        backward_by_hand,
        backward_in_order,
        tanh_from_exp,
        reused_node,
        mlp,
        exercise_softmax,
        exercise_derivative,
        operations_in_a_class,
        operations_in_the_class,
        walk_of_the_graph,
    ],
)
def test_as_on_micrograd(program):
    same_numbers(program, MICROGRAD)


STEPS = {
    "sum": lambda x, y: sum([x, y, x]),
    "a + b": lambda x, y: x + y,
    "a - b": lambda x, y: x - y,
    "a * b": lambda x, y: x * y,
    "a / b": lambda x, y: x / (y * y + 1.5),
    "powers": lambda x, y: (x * 0.25) ** 3 - (y**2 + 2) ** -0.5,
    "relu": lambda x, y: x.relu() + -y,
    "constants": lambda x, y: 1 - 0.3 * x + 2 / (3 + y * y) - 1.5,
}
choice = st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 99), st.integers(0, 99))


@given(st.lists(choice, min_size=1, max_size=25))
def test_random_programs(choices):
    """Whatever is built of micrograd's operations has micrograd's numbers, and its graph micrograd's nodes."""

    def program(engine):
        values = [engine.Value(x) for x in (2.0, -1.5, 0.4)]
        for name, i, j in choices:
            values.append(STEPS[name](values[i % len(values)], values[j % len(values)]))
        values[-1].backward()
        order = topological(values[-1])
        return [*[v.data for v in values], *[node.grad for node in order], len(order)]

    try:
        assume(all(map(math.isfinite, program(MICROGRAD))))
    except OverflowError:
        assume(False)
    same_numbers(program, MICROGRAD)


def two_passes(engine):
    """backward() twice doubles the leaves; with zeros between, it does not."""
    a, b = engine.Value(2.0), engine.Value(-3.0)
    y = a * b
    y.backward()
    y.backward()
    doubled = [a.grad, b.grad]
    a.grad = b.grad = 0
    y.backward()
    return [*doubled, a.grad, b.grad]


def test_two_passes():
    same_numbers(two_passes, MICROGRAD)


def labels(engine):
    """The lecture's constructor with a label, and the names of the second lecture."""
    a, b = engine.Value(2.0, label="a"), engine.Value(-3.0, (), "", "b")
    e = a * b
    e.label = "e"
    d = tanh(e + 5.5)
    d.backward()
    assert [a.label, b.label, e.label, d.label] == ["a", "b", "e", ""]
    assert [d._op, e._op, a._op] == ["tanh", "*", ""]
    return [d.data, a.grad, b.grad, e.grad]


def test_labels():
    same_numbers(labels, LECTURE)


def test_the_pass_that_the_lecture_gets_wrong():
    """Two results that share a node: micrograd adds the first pass' gradient of c once more, 34 for 24."""
    numbers = []
    for Value in (OURS.Value, MICROGRAD.Value):
        a = Value(1.0)
        c = a * 2
        e, f = c * 5, c * 7
        e.backward()
        f.backward()
        numbers.append(a.grad)
    assert numbers == [24.0, 34.0]
