"""What a type checker knows of the package: run under mypy --strict and pyright by tests/test_types.py."""

from typing import Any, assert_type

import tinygrad_edu as tg
from tinygrad_edu import nn
from tinygrad_edu.micrograd import nn as mnn
from tinygrad_edu.micrograd.engine import Value as Dropin

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
