"""Every statement is an error for a type checker, and raises in Python: tests/test_types.py runs each."""

import tinygrad_edu as tg

a = tg.Value(2.0)

a.leaky_relu(0.2)
tg.leaky_relu(a, 0.2)
a.elu(beta=1.0)
tg.tanh(a, a)
a.tahn()
tg.tahn(a)
tg.Value(1.0, 2.0)
tg.softmax(1.0)
tg.dot([a])
