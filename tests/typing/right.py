"""What a type checker knows of the package: run under mypy --strict and pyright by tests/test_types.py."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim
from tinygrad_edu.micrograd import nn as mnn
from tinygrad_edu.micrograd.engine import Value as Dropin
from tinygrad_edu.train import History

a, b = tg.Value(2.0, label="a"), tg.Value(3.0)
assert_type(a * b + 1 - b / 2 + a**2, tg.Value)
assert_type(2 * a, tg.Value)
assert_type(abs(-a), tg.Value)
assert_type(a.tanh(), tg.Value)
assert_type(a.leaky_relu(alpha=0.2), tg.Value)
assert_type(a.grad, Any)
assert_type(a.label, str)
assert_type(tg.tanh(a), tg.Value)
assert_type(tg.tanh(0.5), float)
assert_type(tg.max(a, 1.0), tg.Value)
assert_type(tg.sum([a, b]), tg.Value)
assert_type(tg.dot([a, b], [1.0, 2.0]), tg.Value)
assert_type(tg.dot([1.0], [2.0]), float)
assert_type(tg.where(a > b, a, 0.0), tg.Value)
assert_type(tg.softmax([a, b]), list[tg.Value])
assert_type(tg.log_softmax([1.0, 2.0]), list[float])
assert_type(tg.take([a, b], 1), tg.Value)


def cube(x: Any) -> Any:
    return x**3


assert_type(tg.grad(cube)(2.0), float)
assert_type(tg.grad(cube)(a), tg.Value)
assert_type(tg.grad(cube)([1.0, 2.0]), list[float])
assert_type(tg.value_and_grad(cube)(2.0), tuple[float, float])
assert_type(tg.gradients(a * b, a), Any)

x, y = Dropin(2.0), Dropin(3.0, (), "", "y")
assert_type(x * y, Dropin)
assert_type((x - 1) / y + 2 - x**2, Dropin)
assert_type(1 - x, Dropin)
assert_type(x.tanh().relu(), Dropin)
out = Dropin(1.0, (x, y), "+")
out.backward()

net = mnn.MLP(2, [3, 1])
assert_type(net.parameters(), list[Dropin])

model = nn.MLP(3, [4, 1])
step = tg.compile(cube, model)
step.value_and_grad([1.0])
step.predict([1.0])
assert_type(step.source, str)
jax_function = tg.compile(cube, model, backend="jax").function
assert_type(tg.compile(cube, model, backend="python").source, str)
assert_type(tg.compile(cube, model, backend="javascript", example=(0.5,)).source, str)


@tg.rule(backward=lambda upstream, out, x: (upstream,))
def same(x: float) -> float:
    return x


assert_type(same, tg.Rule)
assert_type(same(a), tg.Value)
assert_type(tg.rule(abs, backward=lambda upstream, out, x: (upstream,), n_inputs=1), tg.Rule)
assert_type(tg.__version__, str)

# --- Networks, losses, optimisers, training
row, rows = [1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]]
values = [Value(1.0), Value(2.0)]
network, dense = nn.MLP(2, [4, 1], "tanh", rng=0), nn.Dense(2, 3)

assert_type(nn.Neuron(2)(row), Value)
assert_type(nn.Layer(2, 3)(row), list[Value])
error: Value = (network(row) - 1.0) ** 2  # one output
assert_type(network(row)[0], Value)  # or a list of them
for output in network(row):
    output.backward()
assert_type(dense(row), list[Value])
assert_type(dense(values), list[Value])
assert_type(dense(rows), list[list[Value]])
assert_type(nn.Embedding(5, 2)(3), list[Value])
assert_type(nn.Embedding(5, 2)([3, 4]), list[list[Value]])
assert_type(network.parameters(), list[Value])
assert_type(network.train().eval(), nn.MLP)
assert_type(network.state_dict(arrays=True), dict[str, NDArray[np.float64]])
assert_type(network.load("model.json"), nn.MLP)
assert_type(nn.load("model.json"), nn.Module)
assert_type(nn.load("model.json", optim.Adam), tuple[nn.Module, optim.Adam])

assert_type(nn.mse(Value(1.0), 2.0), Value)
assert_type(nn.mse(values, row), Value)
assert_type(nn.mse(dense(rows), rows, reduction="sum"), Value)
assert_type(nn.mse(row, [1, 2]), float)
assert_type(nn.mae(values, values), Value)
assert_type(nn.huber(values, row, delta=0.5), Value)
assert_type(nn.hinge(values, [1, -1]), Value)
assert_type(nn.binary_cross_entropy_with_logits(values, [0, 1]), Value)
assert_type(nn.cross_entropy(values, 1), Value)
assert_type(nn.cross_entropy(dense(rows), [0, 1]), Value)
assert_type(nn.nll(values, 0), Value)
assert_type(nn.mse(values, row, reduction="none"), Any)

optimizer = optim.Adam(network.parameters(), lr=0.1)
optimizer.zero_grad()
nn.mse(network(row), 1.0).backward()
assert_type(optim.clip_grad_norm(network.parameters(), 1.0), float)
optimizer.step()
assert_type(optim.cosine(10)(3), float)

history = tg.fit(network, nn.hinge, (rows, [1, -1]), optimizer, epochs=3, schedule=optim.cosine(3))
assert_type(history, History)
assert_type(history["loss"], list[Any])
assert_type(history.compiled, bool)
assert_type(history.stopped, str)
assert_type(tg.evaluate(network, nn.cross_entropy, (rows, [0, 1])), tuple[float, float | None])


def own(output: Value, target: float) -> Value:
    return (output - target) ** 2


tg.fit(network, own, (rows, row), optim.SGD(network.parameters(), lr=0.1))
