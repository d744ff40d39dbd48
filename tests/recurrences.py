"""Recurrences and blocks: what becomes a loop. Functions, their parameters, and batches of three."""

from typing import Any

import numpy as np
from programs import columns, flat, linear, plus, unlabelled

import tinygrad_edu as tg
from tinygrad_edu import Value, nn

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.6, shape)


def leaves(*shape: int) -> Any:
    return unlabelled(*shape, rng=RNG)


# --- Recurrences ----------------------------------------------------------------------------------------
W, U, b, V, v = leaves(3, 2), leaves(3, 3), leaves(3), leaves(2, 3), leaves(3)
w = Value(0.4)
X, Y, T = normal(3, 7, 2), normal(3, 7), 7


def recurrent(x: Any, W: Any = W, U: Any = U, b: Any = b) -> list[Any]:
    """The states of a recurrent layer."""
    states = [[0.0, 0.0, 0.0]]
    for now in x:
        states.append([tg.tanh(a) for a in plus(linear(W, now), linear(U, states[-1]), b)])
    return states[1:]


def lstm(x: Any, y: Any) -> Value:
    gates, h, c, loss = leaves_of_gates, initial[0], initial[1], 0
    for now, target in zip(x, y, strict=True):
        i, f, o, g = (plus(linear(A, now), linear(B, h), d) for A, B, d in gates)
        c = [tg.sigmoid(p) * q + tg.sigmoid(r) * tg.tanh(s) for p, q, r, s in zip(f, c, i, g, strict=True)]
        h = [tg.sigmoid(p) * tg.tanh(q) for p, q in zip(o, c, strict=True)]
        loss = loss + (tg.dot(h, v) - target) ** 2
    return loss  # type: ignore[return-value]  # a Value after the first stage


leaves_of_gates = [(leaves(3, 2), leaves(3, 3), leaves(3)) for _ in range(4)]
initial = leaves(2, 3)


def gru(x: Any, y: Any) -> Value:
    h = [0.0] * 3
    for now in x:
        z, r = ([tg.sigmoid(a) for a in plus(linear(A, now), linear(B, h), d)] for A, B, d in leaves_of_gates[:2])
        A, B, d = leaves_of_gates[2]
        n = [tg.tanh(a) for a in plus(linear(A, now), linear(B, [p * q for p, q in zip(r, h, strict=True)]), d)]
        h = [(1 - p) * q + p * s for p, q, s in zip(z, n, h, strict=True)]
    return (tg.dot(h, v) - y[0]) ** 2


def euler(x: Any) -> Value:
    """A stage of scalars with a state of three, some steps of a differential equation."""
    p, q, r = x[0], x[1], Value(0.5)
    for _ in range(T):
        p, q, r = p + 0.1 * b[0] * (q - p), q + 0.1 * (p * (b[1] - r) - q), r + 0.1 * (p * q - b[2] * r)
    return p * q + r


def delayed(x: Any) -> Value:
    """A stage that reads the second and the third before it."""
    h = [x[0][0], x[0][1], x[1][0]]
    for _ in range(20):
        h.append(tg.sin(w * h[-2] + b[0] * h[-3] + b[1]))
    return h[-1] * h[-4] + tg.sum(h)


def both_ways(x: Any) -> Value:
    forward, backward = recurrent(x), recurrent(x[::-1], *leaves_of_gates[0])[::-1]
    return tg.sum([tg.dot(a, c) * (i + 1) for i, (a, c) in enumerate(zip(forward, backward, strict=True))])


def stacked(x: Any) -> Value:
    return tg.sum([tg.dot(h, v) for h in recurrent([linear(V, h) for h in recurrent(x)])])


def hidden_period(x: Any) -> Value:
    """Every other stage does something else."""
    h = x[0][0]
    for t in range(12):
        h = (tg.sin if t % 2 else tg.tanh)(w * h + x[t % T][1])
    return h


def translator(x: Any) -> Value:
    """The second loop begins where the first one ends, and reads its last state at every stage."""
    h = context = recurrent(x)[-1]
    for _ in range(9):
        h = [tg.sin(a) for a in plus(linear(U, h), context)]
    return tg.dot(h, v)


def repeating(x: Any) -> Value:
    """The first stage reads three numbers, the others two numbers, one of them twice."""
    h, total = b, 0
    for now in x:
        z = tanh(plus(linear(U, h), [now[0]] * 3))
        h, total = [z[1], z[0], z[0]], total + z[0]
    return total * total  # type: ignore[return-value]  # a Value after the first stage


def pooled(x: Any) -> Value:
    """What a stage keeps for the loss is not what the next one reads."""
    h, total = [0.0] * 3, 0
    for now in x:
        z = plus(h, [*now, 0.1])
        p, q = tg.max(z[:2]), tg.max(z[1:])
        h = [tg.relu(a) for a in (b[0] * p + v[0] * q, b[1] * p + v[1] * q, b[2] * p)]
        total = total + tg.sum(h)
    return total * total  # type: ignore[return-value]  # as above


def tokens(index: Any, target: Any) -> Value:
    h, loss = [0.0, 0.0, 0.0], 0
    for i, j in zip(index, target, strict=True):
        h = [tg.tanh(a) for a in plus([tg.take(column, i) for column in zip(*table, strict=True)], linear(U, h))]
        loss = loss + nn.cross_entropy(linear(classes, h), j)
    return loss / T  # type: ignore[return-value]  # as above


table, classes = leaves(5, 3), leaves(4, 3)


def two_examples(x: Any) -> Value:
    """A batch that is written out in the function."""
    return tg.sum([tg.dot(h, v) for part in x for h in recurrent(part)[-1:]])


LOOPS: dict[str, tuple[Any, Any, Any, tuple[int, int]]] = {
    "lstm, a loss at every stage, parameters as first states": (
        lstm,
        (leaves_of_gates, initial, v),
        (X, Y),
        (1, 1),
    ),
    "gru": (gru, (leaves_of_gates[:3], v), (X, Y), (1, 1)),
    "differential equation": (euler, b, (X[:, 0],), (1, 1)),
    "differential equation at one point": (lambda: euler(leaf), (b, leaf := leaves(2)), (), (1, 1)),
    "delayed": (delayed, (w, b[:2]), (X,), (1, 1)),
    "both ways": (both_ways, (W, U, b, leaves_of_gates[0]), (normal(2, 16, 2),), (1, 1)),
    "two layers": (stacked, (W, U, b, V, v), (X,), (2, 2)),
    "hidden period": (hidden_period, w, (X,), (1, 1)),
    "translator": (translator, (W, U, b, v), (X,), (2, 2)),
    "repeated places": (repeating, (U[:2], b), (X,), (1, 1)),
    "pooled": (pooled, (b, v[:2]), (X,), (1, 1)),
    "two examples": (two_examples, (W, U, b, v), (normal(3, 2, 7, 2),), (1, 1)),
}


# --- Stages with weights of their own ---------------------------------------------------------------------------
N = 6
Ws, Vs = leaves(N, 3, 3), leaves(N, 3, 3)
bs, gains, shifts, scales = leaves(N, 3), leaves(N, 3), leaves(N, 3), leaves(N)


def tanh(z: Any) -> list[Any]:
    return [tg.tanh(a) for a in z]


def blocks(block: Any) -> Any:
    """A function of x: N blocks, one after the other, each with its number."""

    def function(x: Any) -> Value:
        h = [*x[0], x[1][0]] if x else gains[0]
        for t in range(N):
            h = block(t, h)
        return tg.dot(h, v)

    return function


def normed(h: Any, t: int) -> list[Any]:
    """Layer normalisation, with a gain and a shift for each block."""
    centred = [a - tg.sum(h) / 3 for a in h]
    size = tg.sqrt(tg.sum([a * a for a in centred]) / 3 + 0.01)
    return [a / size * gain + shift for a, gain, shift in zip(centred, gains[t], shifts[t], strict=True)]


def attention_blocks(x: Any) -> Value:
    """Blocks of causal attention, each followed by a dense layer."""
    places = [[*place, 0.5] for place in x[:4]]
    for t in range(N):
        queries, keys = ([linear(A, normed(place, t)) for place in places] for A in (Ws[t], Vs[t]))
        for i, query in enumerate(queries):
            shares = tg.softmax([tg.dot(query, key) for key in keys[: i + 1]])
            seen = [tg.dot(shares, column) for column in zip(*queries[: i + 1], strict=True)]
            places[i] = plus(places[i], tanh(plus(linear(Ws[t], seen), bs[t])))
    return tg.sum([tg.dot(place, v) for place in places])


OWN: dict[str, Any] = {
    "dense": blocks(lambda t, h: tanh(plus(linear(Ws[t], h), bs[t]))),
    "residual": blocks(lambda t, h: plus(h, linear(Vs[t], tanh(plus(linear(Ws[t], h), bs[t]))))),
    "normed before": blocks(lambda t, h: plus(h, tanh(linear(Ws[t], normed(h, t))))),
    "normed behind": blocks(lambda t, h: normed(plus(h, tanh(linear(Ws[t], h))), t)),
    "gated by a number": blocks(lambda t, h: plus(h, [scales[t] * a for a in tanh(linear(Ws[t], h))])),
    "scaled by a function of a parameter": blocks(lambda t, h: [a * tg.exp(scales[t]) for a in tanh(h)]),
    "a weight that is read twice": blocks(lambda t, h: plus(h, linear(columns(Ws[t]), tanh(linear(Ws[t], h))))),
    "the weight of the next block": blocks(lambda t, h: linear(columns(Ws[(t + 1) % N]), tanh(linear(Ws[t], h)))),
    "one weight for two blocks": blocks(lambda t, h: tanh(linear(Ws[2 if t == 3 else t], h))),
    "weights in another order": blocks(lambda t, h: tanh(plus(linear(Ws[[3, 1, 0, 5, 2, 4][t]], h), bs[t]))),
    "input and state": lambda x: blocks(lambda t, h: tanh(plus(linear(Ws[t], h), linear(Vs[t], [*x[1], 1.0]))))(x),
    "weight decay": lambda x: OWN["dense"](x) + 0.1 * tg.sum([p * p for p in flat(Ws)]),
    "attention": attention_blocks,
}
