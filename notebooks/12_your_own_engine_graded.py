# %% [markdown]
# # Your own engine, graded
#
# The best way to understand backpropagation is to write it. In this notebook an engine comes about in seven steps. At
# each step stands a first try that many people make, and what the grader says of it. The grader shows the smallest
# program that goes wrong. Then comes a version that holds.
#
# To write it yourself, run `tinygrad-edu exercise my_engine` in a terminal: the folder has the gaps, and no answers.

# %%
# %matplotlib inline
import math
import random

import matplotlib.pyplot as plt

from tinygrad_edu.datasets import moons
from tinygrad_edu.testing import diagnose
from tinygrad_edu.testing.grade.exercise import check

# %% [markdown]
# ## Step 1: a node
#
# A node holds a number, the nodes it was computed from, and its gradient. How much does the final result change when
# this number changes? Nobody knows yet. A first try says so with `None`:


# %%
class Value:
    def __init__(self, data, operands=()):
        self.data, self.operands = data, operands
        self.grad, self._backward = None, lambda: None


_ = check(globals())

# %% [markdown]
# `None` says "unknown", but nothing can be added to it. Shares of a gradient will be added up, so the sum starts at 0.


# %%
class Value:
    def __init__(self, data, operands=()):
        self.data, self.operands = data, operands
        self.grad, self._backward = 0.0, lambda: None


_ = check(globals())

# %% [markdown]
# ## Step 2: + and *
#
# The first try computes the right number, and forgets where it came from. Then there is no way back.


# %%
def lift(x):
    return x if isinstance(x, Value) else Value(x)


Value.__add__ = lambda self, other: Value(self.data + lift(other).data)
Value.__mul__ = lambda self, other: Value(self.data * lift(other).data)
_ = check(globals())


# %%
def node(data, operands, rule):
    out = Value(data, operands)
    out._backward = lambda: rule(out)
    return out


def add(self, other):
    other = lift(other)
    return node(self.data + other.data, (self, other), lambda out: add_rule(out))


def mul(self, other):
    other = lift(other)
    return node(self.data * other.data, (self, other), lambda out: mul_rule(out))


Value.__add__ = Value.__radd__ = add
Value.__mul__ = Value.__rmul__ = mul

# %% [markdown]
# ## Step 3: the chain rule by hand
#
# If a grows by h, then a * b grows by b times h. So the slope for a is b, and the share of a is ... the slope?


# %%
def add_rule(out):
    a, b = out.operands
    a.grad += out.grad
    b.grad += out.grad


def mul_rule(out):
    a, b = out.operands
    a.grad += b.data
    b.grad += a.data


_ = check(globals(), hint=True)

# %% [markdown]
# That would be true if the product were the end. But it goes on: the result changes by `out.grad` for each unit of the
# product. The chain rule multiplies the two.


# %%
def mul_rule(out):
    a, b = out.operands
    a.grad = b.data * out.grad
    b.grad = a.data * out.grad


# %% [markdown]
# (There is still a mistake in it. It shows at step 5.)
#
# ## Step 4: topological order
#
# Which node passes its gradient on first? A first try lists the nodes as they are met:


# %%
def topological_order(root):
    order, waiting = [], [root]
    while waiting:
        v = waiting.pop()
        if v not in order:
            order.insert(0, v)
            waiting += v.operands
    return order


_ = check(globals())

# %% [markdown]
# A node that is met early, because the root uses it directly, may be used by another node below the root as well. It
# must wait for both. Depth first does it: visit the operands of a node, then append the node.


# %%
def topological_order(root):
    order, seen = [], set()

    def visit(v):
        if v not in seen:
            seen.add(v)
            for p in v.operands:
                visit(p)
            order.append(v)

    visit(root)
    return order


# %% [markdown]
# ## Step 5: accumulation


# %%
def backward(self):
    self.grad = 1.0
    for v in reversed(topological_order(self)):
        v._backward()


Value.backward = backward
_ = check(globals())

# %% [markdown]
# Here is the mistake of step 3: `=` in place of `+=`. In `a * a` the number a is used twice, and one share replaced the
# other. The picture under the program shows the gradients as they should be.


# %%
def mul_rule(out):
    a, b = out.operands
    a.grad += b.data * out.grad
    b.grad += a.data * out.grad


_ = check(globals())


# %% [markdown]
# ## Step 6: more operations
#
# A minus is a plus of the negative, a quotient a product with a power. The slope of tanh is written with its result:
# 1 - out². A first try takes the input:


# %%
def power(self, n):
    def rule(out):
        self.grad += n * self.data ** (n - 1) * out.grad

    return node(self.data**n, (self,), rule)


def tanh(self):
    def rule(out):
        self.grad += (1 - self.data**2) * out.grad

    return node(math.tanh(self.data), (self,), rule)


Value.__neg__ = lambda self: self * -1
Value.__sub__ = lambda self, other: self + -lift(other)
Value.__rsub__ = lambda self, other: lift(other) + -self
Value.__pow__ = power
Value.__truediv__ = lambda self, other: self * lift(other) ** -1
Value.__rtruediv__ = lambda self, other: lift(other) * self**-1
Value.tanh = tanh
_ = check(globals())


# %%
def tanh(self):
    def rule(out):
        self.grad += (1 - out.data**2) * out.grad

    return node(math.tanh(self.data), (self,), rule)


Value.tanh = tanh

# %% [markdown]
# ## Step 7: a neuron that learns two moons
#
# The training step of a first try goes the wrong way: uphill.


# %%
class Neuron:
    def __init__(self, n_inputs):
        self.w = [Value(random.uniform(-1, 1)) for _ in range(n_inputs)]
        self.b = Value(0.0)

    def __call__(self, x):
        return sum((w * p for w, p in zip(self.w, x, strict=True)), self.b).tanh()


def step_along(sign):
    def train(neuron, points, targets, rate):
        loss = sum(((neuron(x) - t) ** 2 for x, t in zip(points, targets, strict=True)), Value(0.0)) / len(points)
        for p in [*neuron.w, neuron.b]:
            p.grad = 0.0
        loss.backward()
        for p in [*neuron.w, neuron.b]:
            p.data += sign * rate * p.grad
        return loss.data

    return train


train = step_along(1)
_ = check(globals())
# %%
train = step_along(-1)
_ = check(globals())
# %% alt="Two half moons of points, cut by the straight boundary of your own neuron"
points, targets = moons(100)
neuron = Neuron(2)
for _ in range(60):
    train(neuron, points, targets, 0.2)
(w0, w1), b = (w.data for w in neuron.w), neuron.b.data
xs = [-1.5, 2.5]
plt.figure(figsize=(5, 3))
plt.scatter(*zip(*points, strict=True), c=targets, cmap="coolwarm", s=15)
plt.plot(xs, [-(w0 * x + b) / w1 for x in xs], "k")
plt.ylim(-1, 1.5)
plt.title("The line of your own neuron")
plt.show()

# %% [markdown]
# ## What the grader sees
#
# `diagnose` asks an engine several hundred small questions and explains all answers at once, by the smallest set of
# mistakes that gives them. It does not read the code. Here is the whole verdict on the engine above:

# %%
print(diagnose(Value))
