"""Programs in the manner of micrograd's demo: its nn, minibatches, optimisers, regression, NumPy."""

import math
import random
import subprocess
import sys

import numpy as np
import pytest
from micrograd_engines import LECTURE, MICROGRAD, same_numbers


def moons(n):
    """Two half circles with noise, drawn from NumPy's generator as make_moons does."""
    angles = np.linspace(0, np.pi, n // 2)
    upper = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lower = np.stack([1 - np.cos(angles), 0.5 - np.sin(angles)], axis=1)
    X = np.concatenate([upper, lower]) + np.random.normal(scale=0.1, size=(n, 2))
    return X, np.repeat([-1, 1], n // 2)


def demo(engine, steps=6, batch_size=None):
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
        Xb, yb = X, y
        if batch_size is not None:
            chosen = np.random.permutation(X.shape[0])[:batch_size]
            Xb, yb = X[chosen], y[chosen]
        inputs = [list(map(engine.Value, row)) for row in Xb]
        scores = list(map(model, inputs))
        losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(yb, scores, strict=True)]
        data_loss = sum(losses) * (1.0 / len(losses))
        reg_loss = 1e-4 * sum(p * p for p in model.parameters())
        accuracy = [(yi > 0) == (scorei.data > 0) for yi, scorei in zip(yb, scores, strict=True)]
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


def demo_in_batches(engine):
    return demo(engine, steps=10, batch_size=4)


def xor(engine):
    """XOR with a momentum kept beside the parameters."""
    random.seed(7)
    model = engine.MLP(2, [6, 1])
    velocity = dict.fromkeys(model.parameters(), 0.0)
    numbers = []
    for _ in range(80):
        loss = 0
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            loss += (model([a, b]) - (a ^ b)) ** 2
        loss = loss / 4
        for p in model.parameters():
            p.grad = 0
        loss.backward()
        for p in model.parameters():
            velocity[p] = 0.9 * velocity[p] - 0.05 * p.grad
            p.data += velocity[p]
        numbers.append(loss.data)
    return numbers


def regression(engine):
    """A cubic through noisy points; gradients accumulate over examples, one backward() for each."""
    random.seed(3)
    points = [(x / 5, math.sin(x / 5) + random.gauss(0, 0.05)) for x in range(-10, 11)]
    coefficients = [engine.Value(0.0) for _ in range(4)]
    numbers = []
    for _ in range(30):
        total = 0.0
        for c in coefficients:
            c.grad = 0.0
        for x, y in points:
            prediction = sum(c * x**i for i, c in enumerate(coefficients))
            loss = (prediction - y) ** 2 / len(points)
            loss.backward()
            total += loss.data
        for c in coefficients:
            c.data = c.data - 0.02 * c.grad
        numbers.append(total)
    return [*numbers, *[c.data for c in coefficients], *[c.grad for c in coefficients]]


def logistic(engine):
    """Logistic regression: the sigmoid as 1 / (1 + e**-x), e**-x by its series, so with +, *, ** and / alone."""
    random.seed(11)
    data = [([random.gauss(c, 1), random.gauss(-c, 1)], float(c > 0)) for c in (-1, 1) for _ in range(8)]
    w, b = [engine.Value(0.1), engine.Value(-0.1)], engine.Value(0)
    numbers = []
    for _ in range(15):
        loss = engine.Value(0)
        for x, y in data:
            z = sum([wi * xi for wi, xi in zip(w, x, strict=True)], b) * 0.1
            e = 1 - z + z**2 / 2 - z**3 / 6
            loss = loss + (1 / (1 + e) - y) ** 2
        for p in (*w, b):
            p.grad = 0
        loss.backward()
        for p in (*w, b):
            p.data -= 0.5 * p.grad
        numbers.append(loss.data)
    return [*numbers, *[p.grad for p in (*w, b)]]


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


@pytest.mark.parametrize("program", [demo, demo_in_batches, xor, regression, logistic, arrays_of_values])
def test_as_on_micrograd(program):
    same_numbers(program, MICROGRAD)


class AdamW:
    """Keeps its moments as attributes of the parameters."""

    def __init__(self, parameters, lr=0.1, betas=(0.9, 0.95), weight_decay=1e-4):
        self.parameters, self.lr, self.betas, self.weight_decay, self.t = parameters, lr, betas, weight_decay, 0
        for p in parameters:
            p.m = 0.0
            p.v = 0.0

    def step(self):
        self.t += 1
        for p in self.parameters:
            if p.grad is None:
                continue
            p.m = self.betas[0] * p.m + (1 - self.betas[0]) * p.grad
            p.v = self.betas[1] * p.v + (1 - self.betas[1]) * p.grad**2
            m_hat, v_hat = p.m / (1 - self.betas[0] ** self.t), p.v / (1 - self.betas[1] ** self.t)
            p.data -= self.lr * (m_hat / (v_hat**0.5 + 1e-8) + self.weight_decay * p.data)

    def zero_grad(self):
        for p in self.parameters:
            p.grad = 0


def three_classes(engine):
    """tanh neurons, cross-entropy over three classes, AdamW, colours on the Values for a drawing."""
    random.seed(42)
    data = []
    for _ in range(15):
        x, y = random.uniform(-2, 2), random.uniform(-2, 2)
        data.append(((x, y), 0 if x * x + y * y < 1 else 1 if x > 0 else 2))

    def layer(nin, nout):
        return [[engine.Value(random.uniform(-1, 1) * nin**-0.5) for _ in range(nin + 1)] for _ in range(nout)]

    first, second = layer(2, 6), layer(6, 3)
    parameters = [p for row in first + second for p in row]
    for p in parameters:
        p._vis_color = "lightgreen"

    def loss():
        total = engine.Value(0.0)
        for x, target in data:
            h = [sum((w * xi for w, xi in zip(row, x, strict=False)), row[-1]).tanh() for row in first]
            logits = [sum((w * hi for w, hi in zip(row, h, strict=False)), row[-1]) for row in second]
            e = [logit.exp() for logit in logits]
            probabilities = [x / sum(e) for x in e]
            total = total + -(probabilities[target].log())
        return total * (1.0 / len(data))

    optimizer, numbers = AdamW(parameters), []
    for _ in range(25):
        out = loss()
        out.backward()
        optimizer.step()
        numbers += [out.data, parameters[0].grad, parameters[-1].grad]
        optimizer.zero_grad()
    assert {p._vis_color for p in parameters} == {"lightgreen"}
    return [*numbers, *[p.data for p in parameters]]


def test_three_classes_with_adamw():
    same_numbers(three_classes, LECTURE)


FRESH = """
import random, sys
import micrograd.engine, micrograd.nn
import tinygrad_edu.micrograd as ours
numbers = []
for Value, nn in ((micrograd.engine.Value, micrograd.nn), (ours.Value, ours.nn)):
    random.seed(1337)
    model = nn.MLP(2, [16, 16, 1])
    points = [(random.uniform(-1, 2), random.uniform(-1, 1)) for _ in range(10)]
    scores = [model([Value(x) for x in point]) for point in points]
    losses = [(1 + -y * score).relu() for y, score in zip([1, -1] * 5, scores)]
    loss = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in model.parameters())
    numbers.append([p.data for p in model.parameters()] + [s.data for s in scores] + [loss.data])
assert isinstance(loss, ours.Value)
assert numbers[0] == numbers[1]
"""


def test_the_demo_starts_as_on_micrograd_as_it_is():
    """Weights, scores and the first loss do not depend on the order of micrograd's sets."""
    subprocess.run([sys.executable, "-c", FRESH], check=True, timeout=60)
