"""What compiled steps are compared with: the same losses and gradients, written by hand in NumPy and in PyTorch.

Legend, for a classifier of sizes (I, H, C) and a batch of B examples:
  X (B, I)   the examples          Y (B, C)   their classes, one-hot
  W1 (I, H)  b1 (H)                W2 (H, C)  b2 (C)
  Z1, A1     (B, H) before and after relu
  Z2, A2     (B, C) before and after softmax
  dZ1        the gradient of the loss for Z1, and so on
  theta      all parameters in the order of `nn.MLP.parameters()`: neuron by neuron, its weights, then its bias
"""

import itertools
import os

import numpy as np


# --- The same problem for every contender ----------------------------------------------------------------------
def problem(sizes, batch, dtype, seed=0):
    """theta, X (batch, I) and the classes (batch,): MNIST's digits if they are on this computer, else random."""
    rng = np.random.default_rng(seed)
    n_parameters = sum((inputs + 1) * outputs for inputs, outputs in itertools.pairwise(sizes))
    theta = rng.normal(0, 0.05, n_parameters)
    digits = mnist(batch) if (sizes[0], sizes[-1]) == (784, 10) else None
    X, classes = digits or (rng.random((batch, sizes[0])), rng.integers(sizes[-1], size=batch))
    return theta.astype(dtype), X.astype(dtype), classes


def mnist(limit):
    """The first digits, if $TINYGRAD_EDU_DATA names the folder they are in; nothing is downloaded for a timing."""
    if not os.environ.get("TINYGRAD_EDU_DATA"):
        return None
    from tinygrad_edu import datasets

    data = datasets.mnist(limit=limit)
    return data.X_train, data.y_train


def dense_model(arrays):
    """W1, b1, W2, b2 as layers of `nn.Dense`: their parameters stand in this order."""
    from tinygrad_edu import nn

    first, second = arrays[0].shape, arrays[2].shape
    model = nn.Sequential(nn.Dense(*first, "relu", rng=0), nn.Dense(*second, rng=0))
    for parameter, x in zip(model.parameters(), np.concatenate([a.ravel() for a in arrays]), strict=True):
        parameter.data = float(x)
    return model


def one_hot(classes, n_classes, dtype):
    return np.eye(n_classes, dtype=dtype)[classes]


def layers(theta, sizes):
    """[W1, b1, W2, b2, ...] from theta."""
    arrays, start = [], 0
    for inputs, outputs in itertools.pairwise(sizes):
        rows = theta[start : start + outputs * (inputs + 1)].reshape(outputs, inputs + 1)
        arrays += [np.ascontiguousarray(rows[:, :-1].T), rows[:, -1].copy()]
        start += rows.size
    return arrays


def flat(arrays):
    """The way back: the gradients [dW1, db1, dW2, db2, ...] in the order of theta."""
    return np.concatenate([np.column_stack([W.T, b]).ravel() for W, b in zip(*[iter(arrays)] * 2, strict=True)])


def west(leaves, operations, softplus, softmax):
    """The graph of "Fastest Autograd in the West": its last node, after so many operations in a cycle of four.

    Read as in the article's code (arogozhnikov.github.io/2023/12/28/fastest-autograd.html): a softmax is one
    operation and appends its four outputs, so that 10,000 operations append 17,500 nodes. From leaves 0 to 99 no
    number exceeds 8,911: softmax brings them below 2 after the first hundred, and from about the 400th node on
    they repeat every seven nodes. What the leaves were is forgotten there, and their gradients underflow to 0.
    """
    nodes = [*leaves]
    for operation in range(operations):
        match operation % 4:
            case 0:
                nodes.append(softplus(nodes[-10]))
            case 1:
                nodes.append(sum(nodes[-30:-10:5]))
            case 2:
                nodes.append(nodes[-20] * nodes[-10])
            case 3:
                nodes.extend(softmax(nodes[-4:]))
    return nodes[-1]


def west_noise(lanes, n_leaves):
    """What lane after lane adds to the leaves (lanes, leaves), so that no two of them are the same."""
    return np.random.default_rng(0).normal(0, 1e-3, (lanes, n_leaves))


# --- By hand, in NumPy -----------------------------------------------------------------------------------------
def cross_entropy(Z, Y):
    """The mean over the batch, and its gradient for the scores."""
    S = Z - Z.max(axis=1, keepdims=True)  # no large exponential is formed
    E = np.exp(S)
    total = E.sum(axis=1, keepdims=True)
    return -np.sum(Y * (S - np.log(total))) / len(Z), (E / total - Y) / len(Z)


class Classifier:
    """A two-layer classifier as a textbook writes it: softmax with cross-entropy, the mean over the batch."""

    def __init__(self, theta, X, Y, sizes):
        self.W1, self.b1, self.W2, self.b2 = layers(theta, sizes)
        self.X, self.Y = X, Y

    def slopes(self):
        """The loss, what the second layer reads, and the gradients for Z1 and Z2."""
        Z1 = self.X @ self.W1 + self.b1
        A1 = np.maximum(Z1, 0)
        loss, dZ2 = cross_entropy(A1 @ self.W2 + self.b2, self.Y)
        return loss, A1, (dZ2 @ self.W2.T) * (Z1 > 0), dZ2

    def step(self):
        loss, A1, dZ1, dZ2 = self.slopes()
        return float(loss), (self.X.T @ dZ1, dZ1.sum(axis=0), A1.T @ dZ2, dZ2.sum(axis=0))

    def each(self):
        """The gradient of every example: rows of one matrix, as [dW1, db1, dW2, db2]."""
        _, A1, dZ1, dZ2 = self.slopes()
        B, inputs, hidden, outputs = len(self.X), *self.W1.shape, self.W2.shape[1]
        ends = np.cumsum([0, inputs * hidden, hidden, hidden * outputs, outputs])
        rows = np.empty((B, ends[-1]))
        dW1, db1, dW2, db2 = (rows[:, i:j] for i, j in itertools.pairwise(ends))
        np.einsum("bi,bj->bij", self.X, B * dZ1, out=dW1.reshape(B, inputs, hidden))
        np.einsum("bi,bj->bij", A1, B * dZ2, out=dW2.reshape(B, hidden, outputs))
        db1[...], db2[...] = B * dZ1, B * dZ2
        return rows


class Moons:
    """Hinge loss and weight decay of a network with two hidden layers; a score and a label t of -1 or 1 a row."""

    SIZES = (2, 16, 16, 1)

    def __init__(self, theta, X, t):
        self.parameters = layers(theta, self.SIZES)
        self.X, self.t = X, t.reshape(-1, 1)

    def step(self):
        W1, b1, W2, b2, W3, b3 = self.parameters
        X, t, B = self.X, self.t, len(self.X)
        A1 = np.maximum(X @ W1 + b1, 0)
        A2 = np.maximum(A1 @ W2 + b2, 0)
        margin = 1 - t * (A2 @ W3 + b3)
        loss = np.maximum(margin, 0).sum() / B + 1e-4 * sum(np.vdot(p, p) for p in self.parameters)
        dS = -t * (margin > 0) / B
        dZ2 = (dS @ W3.T) * (A2 > 0)
        dZ1 = (dZ2 @ W2.T) * (A1 > 0)
        gradients = (X.T @ dZ1, dZ1.sum(axis=0), A1.T @ dZ2, dZ2.sum(axis=0), A2.T @ dS, dS.sum(axis=0))
        return float(loss), [g + 2e-4 * p for g, p in zip(gradients, self.parameters, strict=True)]
