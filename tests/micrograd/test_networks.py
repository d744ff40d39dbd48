"""Programs in the manner of micrograd's demo: its nn, minibatches, optimisers, regression, NumPy."""

import random

import numpy as np
import pytest
from micrograd_engines import MICROGRAD, same_numbers


def moons(n):
    """Two half circles with noise, drawn from NumPy's generator as make_moons does."""
    angles = np.linspace(0, np.pi, n // 2)
    upper = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    lower = np.stack([1 - np.cos(angles), 0.5 - np.sin(angles)], axis=1)
    X = np.concatenate([upper, lower]) + np.random.normal(scale=0.1, size=(n, 2))
    return X, np.repeat([-1, 1], n // 2)


def demo(engine, steps=6):
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


@pytest.mark.parametrize("program", [demo, arrays_of_values])
def test_as_on_micrograd(program):
    same_numbers(program, MICROGRAD)
