# %% [markdown]
# # MNIST from scalars
#
# The loss of one image of a handwritten digit, written with scalars, is a graph of some 300,000 nodes. Nobody
# would train on that, one number after the other. But most of these nodes do the same as thousands of others. The
# compiler groups the nodes that are alike, finds a dozen arrays, and writes the program that a person would have
# written.

# %%
# %matplotlib inline
import math
import os
import time

import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Markdown

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn, optim

QUICK = bool(os.environ.get("TINYGRAD_EDU_QUICK"))

# %% [markdown]
# ## Digits
#
# `datasets.mnist()` looks for MNIST in the folder that the variable `TINYGRAD_EDU_DATA` names, then in the user's
# cache. If it finds nothing, it downloads MNIST once (this needs the extra `data`). A notebook should not
# download anything without asking, so this one only looks. Without MNIST it uses the smaller digits that come
# with the package. Everything below holds for them too, with other numbers.

# %% tags=["timing"]
try:
    data, epochs = datasets.mnist(download=False), 12
    note = "This is MNIST."
except FileNotFoundError:
    data, epochs = datasets.digits(), 60
    note = "MNIST is not here: these are the digits of the UCI Machine Learning Repository."
n_pixels = math.prod(data.shape)
print(f"{len(data.X_train):,} images to learn from, {len(data.X_test):,} to test, of {n_pixels} pixels")
Markdown(note)


# %% tags=["timing"] alt="Ten digits in handwriting, each with its class"
def show(images, titles, columns):
    """Images in rows, each with its title."""
    rows = math.ceil(len(images) / columns) or 1
    _, axes = plt.subplots(rows, columns, figsize=(0.9 * columns, 1.1 * rows), layout="constrained")
    for place in axes.flat:
        place.axis("off")
    for place, image, title in zip(axes.flat, images, titles, strict=False):
        place.imshow(image.reshape(data.shape), "gray_r", vmin=0, vmax=1)
        place.set_title(title, fontsize=9)
    plt.show()


show(data.X_train[:10], data.y_train[:10], columns=10)

# %% [markdown]
# ## The loss of one image
#
# The network has one hidden layer of 128 neurons and ten outputs, one for each digit. Its loss for one image is
# one line. Every weight is a Value, and every product and every sum is a node.

# %% tags=["timing"]
model = nn.MLP(n_pixels, [128, 10], rng=0)


def loss(image, digit):
    return nn.cross_entropy(model(image), digit)


image, digit = [Value(pixel) for pixel in data.X_train[0]], int(data.y_train[0])
started = time.perf_counter()
out = loss(image, digit)
out.backward()
eager = time.perf_counter() - started
print(f"{len(model.parameters()):,} parameters, {len(tg.topological_order(out)):,} nodes for one image")
print(f"{eager:.2f} s for its gradient, {eager * len(data.X_train) / 3600:.1f} hours for all images, once")

# %% [markdown]
# ## What is alike
#
# The compiler runs the loss once, on inputs without numbers, and sorts the nodes: the same operation on operands
# that are alike makes one group. Each group is an array, with a batch of `B` images as its first axis. 128
# neurons times 784 pixels become one matrix product.

# %% tags=["timing"]
step = tg.compile(loss, model.parameters(), "float32")
X, Y = data.X_train.astype(np.float32), np.eye(10, dtype=np.float32)[data.y_train]
started = time.perf_counter()
step.value_and_grad(X[:64], Y[:64])
print(step.groups)
print(f"found, written and verified in {time.perf_counter() - started:.1f} s")

# %% [markdown]
# Here we give the digit as a row of ten numbers, with a 1 at the right place. The same groups as a picture, in
# which the matrix products stand out:

# %% tags=["timing"]
step.groups.draw(rankdir="TB")

# %% [markdown]
# ## The program
#
# `step.source` is NumPy, with an equation above every few lines. These are the equations, with the shape of each
# result: the network forward, then its gradients.

# %% tags=["timing"]
for line in step.source.splitlines():
    if line.strip().startswith(("# Z", "# A", "# d")):
        print(" ".join(line.split()).removeprefix("# "))

# %% [markdown]
# If you have derived them by hand, you know them. The error of the outputs goes back through the weights. The
# gradient of each weight matrix is the product of the layer's input and its error. The compiler derived all this
# from `loss`.
#
# ## Training
#
# We train with Adam. Its learning rate falls to 0 along a cosine. `step.arrays()` has all parameters as one
# vector, and `optimizer.arrays(...)` moves it. At the end the numbers return into the Values.

# %% tags=["slow", "timing"]
optimizer = optim.Adam(model.parameters(), lr=0.002)
predict = tg.compile(model, model.parameters(), "float32").predict
epochs, size, shuffle = 2 if QUICK else epochs, 64, np.random.default_rng(0)
batches = len(X) // size


def accuracy():
    """The share of test images that are read right."""
    return (predict(data.X_test).argmax(axis=1) == data.y_test).mean()


started = time.perf_counter()
for epoch in range(epochs):
    order, total = shuffle.permutation(len(X)), 0.0
    with step.arrays() as theta, optimizer.arrays(theta) as move:
        for batch in range(batches):
            rows = order[batch * size : (batch + 1) * size]
            value, gradient = step.value_and_grad(X[rows], Y[rows])
            optimizer.lr = 0.001 * (1 + math.cos(math.pi * (epoch + batch / batches) / epochs))
            move(gradient)
            total += value
    if epoch % (epochs // 2) == 0 or epoch == epochs - 1:
        seconds = time.perf_counter() - started
        print(f"epoch {epoch + 1:2}, {seconds:2.0f} s: loss {total / batches:.4f}, accuracy {accuracy():.2%}")

# %% [markdown]
# Is it still the same function? Take the last test image, with scalars again and with the trained weights:

# %% tags=["timing"]
image, digit = data.X_test[-1], int(data.y_test[-1])
eager_scores = [score.data for score in model(image.tolist())]
compiled_scores = predict(image[None])[0]
print(f"read as {np.argmax(eager_scores)} with scalars, as {compiled_scores.argmax()} compiled; it is {digit}")
print("the ten scores agree to 1e-4:", np.allclose(eager_scores, compiled_scores, rtol=1e-4, atol=1e-4))

# %% [markdown]
# ## What it got wrong
#
# The first 20 test digits that it misread, each with its guess. Some are hard for us too.

# %% tags=["slow", "timing", "cover"] alt="Twenty digits that the network gets wrong, each with its class and the guess"
guesses = predict(data.X_test).argmax(axis=1)
wrong = np.flatnonzero(guesses != data.y_test)
print(f"{len(wrong)} of {len(guesses):,} read wrong; right digit → guess:")
show(data.X_test[wrong[:20]], [f"{data.y_test[i]} → {guesses[i]}" for i in wrong[:20]], columns=10)

# %% [markdown]
# ## What a neuron looks for
#
# The weights of the first 20 hidden neurons, back in their Values, drawn as images: ink on red raises the output
# of the neuron, ink on blue lowers it.

# %% tags=["timing"] alt="The weights of twenty neurons as pictures, red and blue: blots and strokes"
_, axes = plt.subplots(2, 10, figsize=(9, 2), layout="constrained")
for place, neuron in zip(axes.flat, model.layers[0].neurons, strict=False):
    weights = np.array([w.data for w in neuron.w]).reshape(data.shape)
    place.imshow(weights, "RdBu_r", vmin=-0.3, vmax=0.3)
    place.axis("off")
plt.show()
