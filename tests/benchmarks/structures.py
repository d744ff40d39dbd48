"""Programs with a structure that the compiler must find, as scalars and as a person writes them in NumPy.

Each class has `loss`, for one example of scalars, with its `parameters`; a `batch`; and `step`, which gives the
loss and the gradients by hand. Gradients are in the order of the parameters.

Legend, for a batch of B examples:
  dA       the gradient of the loss for A
  T, H, S  places, heads, and the numbers of a head
"""

import functools

import numpy as np
import rivals

import tinygrad_edu as tg
from tinygrad_edu import Value, nn


def values(array):
    """Nested lists of Values."""
    return Value(float(array)) if array.ndim == 0 else [values(part) for part in array]


def flat(nested):
    return [x for part in nested for x in flat(part)] if isinstance(nested, list) else [nested]


def joined(gradients):
    """The gradients of all parameters, one after the other."""
    return np.concatenate([gradient.ravel() for gradient in gradients])


class Structure:
    """The parameters as arrays, and as Values of the same numbers; and a batch."""

    backend = "numpy"

    def keep(self, arrays, *batch):
        self.arrays, self.batch = arrays, batch
        self.values = list(map(values, arrays))
        self.parameters = flat(self.values)


class Convnet(Structure):
    """Images of 8 x 8, 8 filters of 3 x 3, relu, max pooling of 2 x 2, and a layer of 10 classes."""

    def __init__(self, batch=64, size=8, filters=8, classes=10):
        rng = np.random.default_rng(0)
        self.n, self.pooled = filters, (size - 2) // 2
        arrays = [rng.normal(0, 0.3, (filters, 3, 3)), rng.normal(0, 0.1, filters)]
        arrays += [rng.normal(0, 0.1, (classes, filters * self.pooled**2)), rng.normal(0, 0.1, classes)]
        self.keep(arrays, rng.normal(size=(batch, size, size)), np.eye(classes)[rng.integers(classes, size=batch)])

    def loss(self, image, y):
        filters, b, W, c = self.values
        places, features = range(len(image) - 2), []
        for kernel, bias in zip(filters, b, strict=True):
            plane = [
                [
                    tg.relu(tg.dot(flat(kernel), flat([r[j : j + 3] for r in image[i : i + 3]])) + bias)
                    for j in places
                ]
                for i in places
            ]
            for i in places[::2]:
                features += [tg.max(*plane[i][j : j + 2], *plane[i + 1][j : j + 2]) for j in places[::2]]
        return nn.cross_entropy([tg.dot(row, features) + bias for row, bias in zip(W, c, strict=True)], y)

    def step(self):
        (K, b, W, c), (X, Y) = self.arrays, self.batch
        B, n, p = len(X), self.n, self.pooled
        patches = np.lib.stride_tricks.sliding_window_view(X, (3, 3), axis=(1, 2)).reshape(-1, 9)
        A = np.maximum(patches @ K.reshape(n, 9).T + b, 0)
        corners = [A.reshape(B, p, 2, p, 2, n)[:, :, i, :, j] for i in (0, 1) for j in (0, 1)]
        P = np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3]))
        F = P.transpose(0, 3, 1, 2).reshape(B, -1)
        loss, dZ = rivals.cross_entropy(F @ W.T + c, Y)
        dP = (dZ @ W).reshape(B, n, p, p).transpose(0, 2, 3, 1)
        dA = np.empty((B, p, 2, p, 2, n))
        for k, corner in enumerate(corners):
            np.multiply(dP, (corner == P) & (P > 0), out=dA[:, :, k // 2, :, k % 2])
        dA = dA.reshape(-1, n)
        return float(loss), [dA.T @ patches, dA.sum(axis=0), dZ.T @ F, dZ.sum(axis=0)]


class Attention(Structure):
    """Causal attention: T places of H heads of S numbers, and the squared distance to a target.

    As scalars the future has the score -inf, or it is left out: range(t + 1).
    """

    def __init__(self, masked, batch=32, T=16, H=4, S=4):
        rng = np.random.default_rng(0)
        self.masked, self.T, self.H, self.S = masked, T, H, S
        arrays = [rng.normal(0, 0.3, (H * S, H * S)) for _ in range(4)]
        self.keep(arrays, rng.normal(size=(batch, T, H * S)), rng.normal(size=(batch, T, H * S)))
        self.mask = np.triu(np.full((T, T), -np.inf), 1)

    def loss(self, x, y):
        *three, mix = self.values
        q, k, v = ([[tg.dot(row, place) for row in W] for place in x] for W in three)
        out = []
        for t in range(self.T):
            seen, row = range(self.T if self.masked else t + 1), []
            for first in range(0, self.H * self.S, self.S):
                part = slice(first, first + self.S)
                scores = [tg.dot(q[t][part], k[s][part]) / self.S**0.5 for s in seen]
                if self.masked:
                    scores = [score + float(m) for score, m in zip(scores, self.mask[t], strict=True)]
                shares = tg.softmax(scores)
                row += [tg.dot(shares, [v[s][i] for s in seen]) for i in range(first, first + self.S)]
            out.append([tg.dot(weights, row) for weights in mix])
        return nn.mse(flat(out), flat(y))

    def step(self):
        (Q, K, V, M), (X, Y) = self.arrays, self.batch
        B, T, H, S = len(X), self.T, self.H, self.S

        def heads(Z):
            return Z.reshape(B, T, H, S).transpose(0, 2, 1, 3)

        def joined(Z):
            return Z.transpose(0, 2, 1, 3).reshape(-1, H * S)

        rows = X.reshape(-1, H * S)
        q, k, v = heads(rows @ Q.T), heads(rows @ K.T), heads(rows @ V.T)
        E = q @ k.swapaxes(2, 3) / S**0.5 + self.mask
        E = np.exp(E - E.max(axis=3, keepdims=True))
        P = E / E.sum(axis=3, keepdims=True)
        R = joined(P @ v)
        D = R @ M.T - Y.reshape(-1, H * S)
        loss = np.vdot(D, D) / D.size
        dR = D * (2 / D.size)
        dO = heads(dR @ M)
        dP = dO @ v.swapaxes(2, 3)
        dE = P * (dP - (P * dP).sum(axis=3, keepdims=True)) / S**0.5
        dq, dk, dv = joined(dE @ k), joined(dE.swapaxes(2, 3) @ q), joined(P.swapaxes(2, 3) @ dO)
        return float(loss), [dq.T @ rows, dk.T @ rows, dv.T @ rows, dR.T @ R]


class GRU(Structure):
    """T steps of a gated recurrent unit, and the squared distance of its last state to a target."""

    def __init__(self, batch=32, T=20, inputs=8, width=32):
        rng = np.random.default_rng(0)
        arrays = []
        for _ in range(3):
            arrays += [rng.normal(0, 0.3, (width, n)) for n in (inputs, width)] + [rng.normal(0, 0.1, width)]
        self.keep(arrays, rng.normal(size=(batch, T, inputs)), rng.normal(size=(batch, width)))

    def loss(self, x, y):
        gates = [self.values[i : i + 3] for i in (0, 3, 6)]

        def gate(gate, x, h):
            return [tg.dot(w, x) + tg.dot(u, h) + b for w, u, b in zip(*gate, strict=True)]

        h = [0.0] * len(y)
        for now in x:
            z, r = ([tg.sigmoid(a) for a in gate(g, now, h)] for g in gates[:2])
            n = [tg.tanh(a) for a in gate(gates[2], now, [a * b for a, b in zip(r, h, strict=True)])]
            h = [(1 - u) * new + u * old for u, new, old in zip(z, n, h, strict=True)]
        return nn.mse(h, y)

    def step(self):
        (Wz, Uz, bz, Wr, Ur, br, Wn, Un, bn), (X, Y) = self.arrays, self.batch
        B, T, inputs = X.shape
        hidden = len(bz)
        rows = X.transpose(1, 0, 2).reshape(-1, inputs)
        xz, xr, xn = ((rows @ W.T + b).reshape(T, B, hidden) for W, b in ((Wz, bz), (Wr, br), (Wn, bn)))
        h, z, r, n = np.zeros((T + 1, B, hidden)), *np.empty((3, T, B, hidden))
        for t in range(T):
            z[t] = 1 / (1 + np.exp(-(xz[t] + h[t] @ Uz.T)))
            r[t] = 1 / (1 + np.exp(-(xr[t] + h[t] @ Ur.T)))
            n[t] = np.tanh(xn[t] + (r[t] * h[t]) @ Un.T)
            h[t + 1] = n[t] + z[t] * (h[t] - n[t])
        D = h[T] - Y
        loss = np.vdot(D, D) / D.size
        dh, (dz, dr, dn) = D * (2 / D.size), np.empty((3, T, B, hidden))
        for t in reversed(range(T)):
            dn[t] = dh * (1 - z[t]) * (1 - n[t] * n[t])
            dz[t] = dh * (h[t] - n[t]) * z[t] * (1 - z[t])
            d = dn[t] @ Un
            dr[t] = d * h[t] * r[t] * (1 - r[t])
            dh = dh * z[t] + d * r[t] + dz[t] @ Uz + dr[t] @ Ur
        H, gradients = h[:-1].reshape(-1, hidden), []
        for d, state in ((dz, H), (dr, H), (dn, (r * h[:-1]).reshape(-1, hidden))):
            d = d.reshape(-1, hidden)
            gradients += [d.T @ rows, d.T @ state, d.sum(axis=0)]
        return float(loss), gradients


class RNN(Structure):
    """A recurrent layer over a long sequence, and the squared distance of an output to a target."""

    def __init__(self, batch=32, T=300, inputs=4, width=16):
        rng = np.random.default_rng(0)
        shapes = (width, inputs), (width, width), (width,), (width,)
        arrays = [rng.normal(0, 0.25, shape) for shape in shapes]
        self.keep(arrays, rng.normal(size=(batch, T, inputs)), rng.normal(size=batch))

    def loss(self, x, y):
        W, U, b, v = self.values
        h = [0.0] * len(b)
        for now in x:
            h = [tg.tanh(tg.dot(w, now) + tg.dot(u, h) + bias) for w, u, bias in zip(W, U, b, strict=True)]
        return (tg.dot(v, h) - y) ** 2

    def step(self):
        (W, U, b, v), (X, Y) = self.arrays, self.batch
        B, T, inputs = X.shape
        rows = X.transpose(1, 0, 2).reshape(-1, inputs)
        x, h, dz = (rows @ W.T + b).reshape(T, B, len(b)), np.zeros((T + 1, B, len(b))), np.empty((T, B, len(b)))
        for t in range(T):
            h[t + 1] = np.tanh(x[t] + h[t] @ U.T)
        D = h[T] @ v - Y
        dD = D * (2 / B)
        dh = dD[:, None] * v
        for t in reversed(range(T)):
            dz[t] = dh * (1 - h[t + 1] * h[t + 1])
            dh = dz[t] @ U
        d = dz.reshape(-1, len(b))
        return float(D @ D / B), [d.T @ rows, d.T @ h[:-1].reshape(-1, len(b)), d.sum(axis=0), dD @ h[T]]


class Residual(Structure):
    """Blocks h + tanh(W h + b) with weights of their own, and the squared distance of a sum to a target."""

    def __init__(self, batch=32, blocks=12, width=16):
        rng = np.random.default_rng(0)
        shapes = [(width, width), (width,)] * blocks + [(width,)]
        arrays = [rng.normal(0, width**-0.5, shape) for shape in shapes]
        self.keep(arrays, rng.normal(size=(batch, width)), rng.normal(size=batch))

    def loss(self, x, y):
        *blocks, v = self.values
        for W, b in zip(blocks[::2], blocks[1::2], strict=True):
            x = [a + tg.tanh(tg.dot(w, x) + bias) for a, w, bias in zip(x, W, b, strict=True)]
        return (tg.dot(v, x) - y) ** 2

    def step(self):
        (*blocks, v), (X, Y) = self.arrays, self.batch
        states, slopes = [X], []
        for W, b in zip(blocks[::2], blocks[1::2], strict=True):
            A = np.tanh(states[-1] @ W.T + b)
            states.append(states[-1] + A)
            slopes.append(1 - A * A)
        D = states[-1] @ v - Y
        dD = D * (2 / len(X))
        gradients, dh = [dD @ states[-1]], dD[:, None] * v
        for W, h, slope in zip(blocks[-2::-2], states[-2::-1], slopes[::-1], strict=True):
            dZ = dh * slope
            gradients = [dZ.T @ h, dZ.sum(axis=0), *gradients]
            dh = dh + dZ @ W
        return float(D @ D / len(X)), gradients


class Lorenz(Structure):
    """Many steps of Euler's method for Lorenz's equations, at one point: parameters and start are learned."""

    def __init__(self, T=5000, dt=1e-3, backend="python"):  # which is for one point
        self.T, self.dt, self.backend = T, dt, backend
        self.keep([np.array([10.0, 28.0, 8 / 3, 1.0, 1.0, 1.0])])

    def loss(self):
        sigma, rho, beta, x, y, z = self.parameters
        dt = self.dt
        for _ in range(self.T):
            x, y, z = x + dt * sigma * (y - x), y + dt * (x * (rho - z) - y), z + dt * (x * y - beta * z)
        return x * x + y * y + z * z

    def step(self):
        sigma, rho, beta, x, y, z = self.arrays[0].tolist()
        dt, states = self.dt, []
        for _ in range(self.T):
            states.append((x, y, z))
            x, y, z = x + dt * sigma * (y - x), y + dt * (x * (rho - z) - y), z + dt * (x * y - beta * z)
        dx, dy, dz, ds, dr, db = 2 * x, 2 * y, 2 * z, 0.0, 0.0, 0.0
        loss = x * x + y * y + z * z
        for x, y, z in reversed(states):
            ds, dr, db = ds + dt * dx * (y - x), dr + dt * dy * x, db - dt * dz * z
            dx, dy, dz = (
                dx - dt * sigma * dx + dt * dy * (rho - z) + dt * dz * y,
                dy + dt * sigma * dx - dt * dy + dt * dz * x,
                dz - dt * dy * x - dt * beta * dz,
            )
        return loss, [np.array([ds, dr, db, dx, dy, dz])]


STRUCTURES = {
    "convnet 8 x 8, batch 64": Convnet,
    "attention, masked": functools.partial(Attention, True),
    "attention, range(t + 1)": functools.partial(Attention, False),
    "GRU, 20 steps of 32": GRU,
    "RNN, 300 steps of 16": RNN,
    "residual blocks, 12 of 16": Residual,
    "Lorenz, 5,000 steps of one point, NumPy": functools.partial(Lorenz, backend="numpy"),
    "Lorenz, 5,000 steps of one point, Python": Lorenz,
}
