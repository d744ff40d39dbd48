"""Programs in the manner of the lecture on micrograd, of its demo, and of microgpt."""

import math
import random

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from micrograd_engines import MICROGPT, MICROGRAD, OURS, by_hand, same_numbers, tanh, topological
from published import MicroGPT

from tinygrad_edu.datasets import moons
from tinygrad_edu.testing import absolute_adjoint


def neuron(Value):
    names = {"x1": 2.0, "x2": 0.0, "w1": -3.0, "w2": 1.0, "b": 6.8813735870195432}
    leaves = {name: Value(number) for name, number in names.items()}
    for name, leaf in leaves.items():
        leaf.label = name
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


def exp(x):
    return by_hand([x], math.exp(x.data), [math.exp(x.data)], "exp")


def exercise_softmax(engine):
    """The exercises: softmax and negative log likelihood, with exp, log and division by hand."""
    logits = [engine.Value(x) for x in (0.0, 3.0, -2.0, 1.0)]
    counts = [exp(logit) for logit in logits]
    total = sum(counts)
    slopes = [(1 / total.data, -c.data / total.data**2) for c in counts]
    probabilities = [by_hand([c, total], c.data / total.data, s, "/") for c, s in zip(counts, slopes, strict=True)]
    p = probabilities[3]
    loss = -by_hand([p], math.log(p.data), [1 / p.data], "log")
    loss.backward()
    return [loss.data, total.grad, *[x.grad for x in (*probabilities, *logits)]]


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
            return by_hand([self], s, [s * (1 - s)], "sigmoid")

        def __mul__(self, other):
            other = other if isinstance(other, engine.Value) else Scalar(other)
            return by_hand([self, other], self.data * other.data, [other.data, self.data], "*")

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

    def multiply(self, other):
        other = other if isinstance(other, Value) else Value(other)
        return by_hand([self, other], self.data * other.data, [other.data, self.data])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Value, "sigmoid", lambda self: tanh(self * 0.5) * 0.5 + 0.5, raising=False)
        patch.setattr(Value, "__mul__", multiply)
        a, b = Value(0.3), Value(-1.1)
        y = (a * b - a / b).sigmoid()
        y.backward()
    return [y.data, a.grad, b.grad]


def demo(engine, steps=3):
    """The demo: two moons, hinge loss, L2 with 1e-4, a learning rate that falls, the accuracy."""
    np.random.seed(1337)
    random.seed(1337)
    X, y = moons(16)
    model = engine.MLP(2, [16, 16, 1])
    assert repr(model).startswith("MLP of [Layer of [ReLUNeuron(2), ReLUNeuron(2),")
    assert repr(model).endswith("Layer of [LinearNeuron(16)]]")
    assert len(model.parameters()) == 337
    numbers = [p.data for p in model.parameters()]

    def loss():
        inputs = [list(map(engine.Value, row)) for row in X]
        scores = list(map(model, inputs))
        losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(y, scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        reg_loss = 1e-4 * sum(p * p for p in model.parameters())
        accuracy = [(yi > 0) == (scorei.data > 0) for yi, scorei in zip(y, scores, strict=True)]
        return data_loss + reg_loss, sum(accuracy) / len(accuracy)

    for k in range(steps):
        total_loss, acc = loss()
        model.zero_grad()
        total_loss.backward()
        learning_rate = 1.0 - 0.9 * k / 100
        for p in model.parameters():
            p.data -= learning_rate * p.grad
        numbers += [total_loss.data, acc]
    return [*numbers, *[p.grad for p in model.parameters()]]


def arrays_of_values(engine):
    """NumPy holds the Values: dot, sum, mean, a product with an array, scalars of all kinds."""
    rng = np.random.default_rng(0)
    W = np.array([[engine.Value(float(x)) for x in row] for row in rng.normal(size=(3, 2))])
    x = rng.normal(size=2)
    hidden = [h.relu() for h in np.dot(W, x)]
    scaled = np.array(hidden) * np.array([1.0, 2.0, 0.5])
    out = scaled.sum() + np.sum(W) + np.float64(2.0) * hidden[0] + hidden[1] / 3.0
    out.backward()
    return [out.data, *[w.grad for w in W.ravel()]]


NAMES = ["emma", "olivia", "ava", "isabella", "sophia", "mia", "charlotte", "amelia", "harper", "evelyn"]
LETTERS = sorted(set("".join(NAMES)))
END = len(LETTERS)
TEXTS = [[END, *map(LETTERS.index, name), END] for name in NAMES]


def train(parameters, losses, lr=0.02, b1=0.85, b2=0.99):
    """Adam with the moments in lists. Gives every loss, then the weights and the gradients of the last step."""
    m, v, numbers = [0.0] * len(parameters), [0.0] * len(parameters), []
    for step, loss in enumerate(losses):
        loss.backward()
        gradients = [p.grad for p in parameters]
        for i, p in enumerate(parameters):
            m[i] = b1 * m[i] + (1 - b1) * p.grad
            v[i] = b2 * v[i] + (1 - b2) * p.grad**2
            m_hat, v_hat = m[i] / (1 - b1 ** (step + 1)), v[i] / (1 - b2 ** (step + 1))
            p.data -= lr * m_hat / (v_hat**0.5 + 1e-8)
            p.grad = 0
        numbers.append(loss.data)
    return [*numbers, *[p.data for p in parameters], *gradients]


def microgpt(engine):
    """A transformer of one layer: rmsnorm, attention over the past, an MLP, residual connections."""
    model = MicroGPT(END + 1, n_embd=8, n_head=2, kind=engine.Value)
    return train(model.params, map(model.loss, TEXTS))


def backward_of_the_program(engine):
    """The loop of microgpt's backward in the program itself, over _children and _local_grads."""
    a, b = engine.Value(0.7), engine.Value(-1.2)
    y = (a * b + a.exp()).tanh() / (b**2 + 1).log() - a
    y.grad = 1
    for node in reversed(topological(y, "_children")):
        for child, local in zip(node._children, node._local_grads, strict=True):
            child.grad += local * node.grad
    return [y.data, a.grad, b.grad]


PROGRAMS = [backward_by_hand, exercise_softmax, operations_in_a_class, operations_in_the_class]
ENGINES = dict.fromkeys((*PROGRAMS, demo, arrays_of_values), MICROGRAD)
ENGINES |= {microgpt: MICROGPT, backward_of_the_program: MICROGPT}  # with local derivatives


@pytest.mark.parametrize("program", ENGINES)
def test_as_on_the_engine_that_it_was_written_for(program):
    same_numbers(program, ENGINES[program])


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
    """Whatever is built of micrograd's operations has its numbers: gradients to 1e-15 of the absolute adjoint."""

    def program(engine):
        leaves = [engine.Value(x) for x in (2.0, -1.5, 0.4)]
        values = list(leaves)
        for name, i, j in choices:
            values.append(STEPS[name](values[i % len(values)], values[j % len(values)]))
        values[-1].backward()
        return leaves, values

    try:
        (_, values), (ours, mine) = program(MICROGRAD), program(OURS)
    except OverflowError:
        assume(False)
    assume(all(math.isfinite(v.data) for v in values))
    sizes = absolute_adjoint(mine[-1])
    rounding = 1e-15 * len(sizes)
    size = sum(sizes.get(x, 0.0) * abs(x.data) for x in ours) + 1.0
    assert mine[-1].data == pytest.approx(values[-1].data, rel=rounding, abs=rounding * size)
    for x, theirs in zip(ours, values, strict=False):
        assert x.grad == pytest.approx(theirs.grad, rel=0, abs=rounding * sizes.get(x, 0.0))
