# %% [markdown]
# # From a neuron to a network
#
# A neuron is a short formula. A network is a formula made of neurons. Both learn in the same way: backpropagation
# finds the direction in which each number should go, and each number takes a small step. In this notebook we
# build a network and teach it to separate two moons. Then we turn the two knobs that everybody turns: how many
# examples to look at before a step, and how long the step is.

# %%
# %matplotlib inline
import random

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn, optim
from tinygrad_edu.viz import plots

# %% [markdown]
# ## A neuron
#
# A neuron weighs its inputs, adds a bias, and squashes the sum into the range from -1 to 1:
#
# $$\text{out} = \tanh(w_0 x_0 + w_1 x_1 + b)$$

# %%
neuron = nn.Neuron(2, "tanh", rng=0)
out = neuron([Value(0.5, label="x0"), Value(-1.0, label="x1")])
out.backward()
tg.draw(out)

# %% [markdown]
# The same graph as a page: drag a number and everything follows, step through both passes, try the quiz. Run the cell
# to see it (where no script may run there is a picture), or write it to a file: `tg.live(out).to_html("page.html")`.

# %% tags=["live"]
tg.live(out)

# %% [markdown]
# The parameters, the numbers that may change, are green. So far `out` is a number, neither good nor bad. A
# **loss** says how far it is from the number that we want. Suppose we want 1. Then $(\text{out} - 1)^2$ is a fair
# loss, and its gradient tells each parameter where to go. Downhill is against the gradient.

# %%
for step in range(8):
    loss = (neuron([0.5, -1.0]) - 1) ** 2
    for p in neuron.parameters():
        p.grad = 0.0
    loss.backward()
    for p in neuron.parameters():
        p.data -= 0.1 * p.grad
    print(f"step {step}: loss {loss:.4f}")

# %% [markdown]
# These six lines are how all networks learn, large ones too: compute the loss, set the gradients to 0, go
# backward, take a step. The rest is a matter of size.
#
# ## What one neuron can say
#
# Here are two classes of points in the plane, -1 and 1. Each has the shape of a moon. `tg.fit` is the loop above,
# over many examples. It compiles the neuron first, so that it runs on arrays and not on single Values.

# %% alt="Two half moons of points, cut by the straight boundary of one neuron"
X, y = datasets.moons(100, seed=0)
neuron = nn.Neuron(2, "tanh", rng=0)
optimizer = optim.SGD(neuron.parameters(), lr=0.5)
history = tg.fit(neuron, nn.mse, (X, y), optimizer, epochs=200, batch_size=None, progress=False)
print(f"{history['accuracy'][-1]:.0%} right")
plots.decision_boundary(neuron, X, y)

# %% [markdown]
# The boundary is a straight line. `out` changes its sign where $w_0 x_0 + w_1 x_1 + b = 0$, and tanh does not
# change that. No line can separate the moons.
#
# ## Layers
#
# So take more neurons. A **layer** is a row of neurons that look at the same inputs, each with its own weights. A
# **multilayer perceptron** feeds the outputs of one layer to the next. Ours has 2 inputs, two hidden layers of 8,
# and one output. By default the hidden neurons use relu in place of tanh: it is cheap, and works as well.

# %%
layer = nn.Layer(2, 8, rng=0)
print(len(layer([0.5, -1.0])), "outputs")

model = nn.MLP(2, [8, 8, 1], rng=0)
print(len(model.parameters()), "parameters:", [p.label for p in model.parameters()[:3]], "...")
out = model([Value(0.5, label="x0"), Value(-1.0, label="x1")])
print(len(tg.topological_order(out)), "nodes")

# %% [markdown]
# A picture of all these nodes would help nobody. With `max_nodes`, `draw` puts equal neurons into one box:

# %%
tg.draw(out, max_nodes=12)

# %% [markdown]
# ## The moons
#
# The score should be above 0 for one class and below 0 for the other. Let $t$ be the class, 1 or -1. The
# **hinge** loss $\max(0, 1 - t \cdot \text{score})$ is 0 when the score is on the right side and at least 1 away
# from 0.

# %% alt="The boundary of the network after a few epochs: it begins to bend between the moons"
optimizer = optim.SGD(model.parameters(), lr=0.3)
early = tg.fit(model, nn.hinge, (X, y), optimizer, epochs=30, batch_size=None, progress=False)
print(f"{early['accuracy'][-1]:.0%} right")
plots.decision_boundary(model, X, y)

# %% [markdown]
# After 30 steps the network has more or less the line of the single neuron, with a first bend. Give it more time:

# %% tags=["cover"] alt="The boundary of the network after training: it follows the gap between the moons"
late = tg.fit(model, nn.hinge, (X, y), optimizer, epochs=220, batch_size=None, progress=False)
print(f"{late['accuracy'][-1]:.0%} right")
plots.decision_boundary(model, X, y)

# %% alt="Loss and accuracy over the epochs: the loss falls, the accuracy rises to 100 percent"
late.plot()

# %% [markdown]
# The line has bent around both moons. Nobody told the network what a moon is: 105 numbers went downhill, 250
# times.
#
# ## How many examples before a step?
#
# So far every step looked at all examples: **full-batch** gradient descent. We can also step after each single
# example, **stochastic**, or after a few, **mini-batch**. To see the difference we take a model with two
# parameters, because we can draw its loss as a landscape: a line through 40 noisy points.

# %%
rng = random.Random(0)
us = [rng.uniform(-1.5, 1.5) for _ in range(40)]
points = [(u, 1.5 * u - 0.5 + rng.gauss(0, 0.7)) for u in us]


def descend(batch_size, lr, epochs):
    """The places (w, b) that gradient descent visits."""
    w, b = Value(-1.5), Value(1.5)
    path, order = [(w.data, b.data)], random.Random(1)
    for _ in range(epochs):
        shuffled = order.sample(points, len(points))
        for start in range(0, len(points), batch_size):
            batch = shuffled[start : start + batch_size]
            loss = tg.sum((w * u + b - v) ** 2 for u, v in batch) / len(batch)
            w.grad = b.grad = 0.0
            loss.backward()
            w.data -= lr * w.grad
            b.data -= lr * b.grad
            path.append((w.data, b.data))
    return path


# %% alt="The paths of three ways of descent over the contours of the loss of w and b"
ws, bs = np.meshgrid(np.linspace(-2, 3, 80), np.linspace(-2, 2, 80))
landscape = sum((ws * u + bs - v) ** 2 for u, v in points) / len(points)
kinds = [
    (40, 0.2, 20, "full batch, 20 epochs"),
    (8, 0.2, 4, "batches of 8, 4 epochs"),
    (1, 0.1, 2, "one by one, 2 epochs"),
]
figure, every = plt.subplots(1, 3, figsize=(10, 3.4), layout="constrained", sharey=True)
for axes, (size, lr, epochs, title) in zip(every, kinds, strict=True):
    path = descend(size, lr, epochs)
    axes.contour(ws, bs, landscape, levels=15, cmap="viridis_r", linewidths=0.8)
    axes.plot(*zip(*path, strict=True), ".-", color="#a02c12", linewidth=1, markersize=4)
    axes.set_title(f"{title}\n{len(path) - 1} steps", fontsize=10)
    axes.set_xlabel("w")
every[0].set_ylabel("b")
plt.show()

# %% [markdown]
# The full batch walks straight downhill in few steps, but each step costs 40 examples. One by one, each step goes
# downhill for *its own* example. That is roughly the right direction, never exactly: it reaches the valley at
# once and then strays about in it. Small batches combine the good of both. Now the moons, three times from the
# same parameters:


# %% alt="The loss over the examples seen, for three batch sizes"
def train(lr, size, epochs):
    model = nn.MLP(2, [8, 8, 1], rng=0)
    optimizer = optim.SGD(model.parameters(), lr=lr)
    return tg.fit(model, nn.hinge, (X, y), optimizer, epochs, size, progress=False)


plt.figure(figsize=(6, 4), layout="constrained")
for size, colour in [(100, "#225ea8"), (10, "#a02c12"), (1, "#41b6c4")]:
    history = train(0.1, size, epochs=60)
    plt.plot(history["epoch"], history["loss"], color=colour, label=f"{size} before a step")
plt.xlabel("epoch: every example seen once")
plt.ylabel("loss")
plt.legend()
plt.show()

# %% [markdown]
# For the same number of examples seen, small batches are far ahead: they make 10 or 100 steps where the full
# batch makes one. Single examples rattle: one unlucky step undoes several good ones. In practice, take the
# largest batch that does not make a step slower. On arrays, a step on 100 of these examples takes hardly more
# time than a step on one.
#
# ## How long a step?
#
# The step is the **learning rate** times the gradient. The simplest valley, $x^2$, shows everything that can
# happen:

# %% alt="Steps of descent on a parabola with three learning rates: small, right, and too large, which diverges"
curve = np.linspace(-2.9, 2.9, 100)
figure, every = plt.subplots(1, 3, figsize=(10, 3.2), layout="constrained", sharey=True)
rates = [(0.03, "too small"), (0.4, "right"), (1.05, "too large")]
for axes, (lr, title) in zip(every, rates, strict=True):
    x, path = Value(-1.5), [-1.5]
    for _ in range(6):
        x.grad = 0.0
        (x**2).backward()
        x.data -= lr * x.grad
        path.append(x.data)
    axes.plot(curve, curve**2, color="gray", linewidth=1)
    axes.plot(path, [p**2 for p in path], ".-", color="#a02c12")
    axes.set_title(f"learning rate {lr}: {title}", fontsize=10)
    axes.set_xlabel("x")
    axes.set_ylim(-0.3, 8)
plt.show()

# %% [markdown]
# If the rate is too small, nothing happens for a long time. If it is too large, each step lands higher on the
# other side than it started. The same happens with the 105 parameters of the network, on the moons:

# %% alt="The loss over the epochs for several learning rates"
plt.figure(figsize=(6, 4), layout="constrained")
for lr, colour in [(0.01, "#41b6c4"), (0.3, "#225ea8"), (3, "#f0a030"), (10, "#a02c12")]:
    history = train(lr, None, epochs=200)
    plt.semilogy(history["epoch"], history["loss"], color=colour, label=f"learning rate {lr}")
plt.xlabel("epoch")
plt.ylabel("loss")
plt.legend()
plt.show()

# %% [markdown]
# At 0.01 it would arrive, some day. At 3 it leaps out of every valley it finds. At 10 the first steps throw it to
# a place where all neurons of the second layer output 0 for every point. Their slopes are 0 too, so they stay
# at 0. Only the last bias can still learn, and it leaps to and fro. A rule of thumb: take the largest rate at which
# the loss still falls calmly. If it jumps, divide by three.
#
# ## Exercises
#
# 1. The loss of the first neuron was $(\text{out} - 1)^2$. Derive $dL/dw_0$ by hand, and compare with the engine
#    and with `gradcheck` at $w = (0.3, -0.2)$, $b = 0.1$, $x = (0.5, -1)$.
# 2. *Exclusive or*: the class is 1 if exactly one of two inputs is 1, else -1. Why can no single neuron learn it?
#    Find a small network that does. If it gets stuck, try tanh (`"tanh"` after the list of layers), or more
#    neurons, or another `rng`.
# 3. For which learning rates does gradient descent on $x^2$ arrive at 0? For which in a single step?
#
# ## Answers
#
# Try first. Jupyter folds the code of the answers: click on the dots to see it.

# %% tags=["answer"]
# Answer 1: the chain rule, from outside in: 2 (out - 1), times 1 - out² for tanh, times x0.
from tinygrad_edu.testing import gradcheck


def neuron_loss(w0, w1, b):
    return (tg.tanh(w0 * 0.5 + w1 * -1.0 + b) - 1) ** 2


out = tg.tanh(0.3 * 0.5 + -0.2 * -1.0 + 0.1)
print(f"by hand {2 * (out - 1) * (1 - out**2) * 0.5:.6f}")
print(gradcheck(neuron_loss, 0.3, -0.2, 0.1))

# %% tags=["answer"]
# Answer 2: a neuron divides the plane by a line. Each class is a pair of opposite corners of a square, and no
# line separates these pairs. Three hidden tanh neurons are enough. Three relu neurons often get stuck at 0.
corners, classes = [[0, 0], [0, 1], [1, 0], [1, 1]], [-1, 1, 1, -1]
model = nn.MLP(2, [3, 1], "tanh", rng=0)
optimizer = optim.SGD(model.parameters(), lr=0.3)
tg.fit(model, nn.hinge, (corners, classes), optimizer, epochs=300, batch_size=None, progress=False)
for corner, wanted in zip(corners, classes, strict=True):
    score = model(corner)
    print(corner, f"score {score:+.2f}, wanted {wanted:+d}")
    assert (score > 0) == (wanted > 0)

print(gradcheck(lambda x0, x1: model([x0, x1]), 0.0, 1.0))

# %% tags=["answer"]
# Answer 3: a step turns x into x - lr · 2x = (1 - 2 lr) x. This shrinks if |1 - 2 lr| < 1, so for 0 < lr < 1.
# For lr = 1/2 it is 0 at once.
print(gradcheck(lambda x: x**2, -1.5))
for lr in (0.5, 0.99, 1.0, 1.01):
    x = -1.5
    for _ in range(1000):
        x -= lr * tg.grad(lambda x: x**2)(x)
    print(f"lr {lr}: |x| = {abs(x):.3g}")
