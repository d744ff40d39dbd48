"""What a type checker knows of networks, losses, optimisers and training. It is checked, never run."""

from typing import Any, assert_type

import numpy as np
from numpy.typing import NDArray

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim
from tinygrad_edu.train import History

x, rows = [1.0, 2.0], [[1.0, 2.0], [3.0, 4.0]]
values = [Value(1.0), Value(2.0)]
network, dense = nn.MLP(2, [4, 1], "tanh", rng=0), nn.Dense(2, 3)

assert_type(nn.Neuron(2)(x), Value)
assert_type(nn.Layer(2, 3)(x), list[Value])
error: Value = (network(x) - 1.0) ** 2  # one output
assert_type(network(x)[0], Value)  # or a list of them
for output in network(x):
    output.backward()
assert_type(dense(x), list[Value])
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
assert_type(nn.mse(values, x), Value)
assert_type(nn.mse(dense(rows), rows, reduction="sum"), Value)
assert_type(nn.mse(x, [1, 2]), float)
assert_type(nn.mae(values, values), Value)
assert_type(nn.huber(values, x, delta=0.5), Value)
assert_type(nn.hinge(values, [1, -1]), Value)
assert_type(nn.binary_cross_entropy_with_logits(values, [0, 1]), Value)
assert_type(nn.cross_entropy(values, 1), Value)
assert_type(nn.cross_entropy(dense(rows), [0, 1]), Value)
assert_type(nn.nll(values, 0), Value)
assert_type(nn.mse(values, x, reduction="none"), Any)

optimizer = optim.Adam(network.parameters(), lr=0.1)
optimizer.zero_grad()
nn.mse(network(x), 1.0).backward()
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


tg.fit(network, own, (rows, x), optim.SGD(network.parameters(), lr=0.1))
