"""Programs that the tests of the compiler compile. Each is a function, its parameters, and a batch."""

import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from comparing import used

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.elementary import exp, log1p, spread, sqrt, tanh, total, where
from tinygrad_edu.engine.rules import Rule

Case = tuple[Callable[..., Any], list[Value], list[Any]]


# --- Numbers, parameters, layers --------------------------------------------------------------------------------
def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def eighths(*shape: int, seed: int = 0, most: int = 8) -> np.ndarray:
    """Multiples of 1/8, whose sums and products are exact in any order: so ties are ties, and zeros are zeros."""
    return np.random.default_rng(seed).integers(-most, most + 1, shape) / 8


def leaves(array: np.ndarray, name: str = "") -> Any:
    """Values nested like the array, labelled as in a Module."""
    if array.ndim == 0:
        return Value(float(array), label=name)
    return [leaves(part, f"{name}{i}" if array.ndim == 1 else f"{name}{i}_") for i, part in enumerate(array)]


def unlabelled(*shape: int, rng: np.random.Generator) -> Any:
    """Nested lists of Values without a label."""
    return [unlabelled(*shape[1:], rng=rng) for _ in range(shape[0])] if shape else Value(rng.normal(0, 0.6))


def flat(*nested: Any) -> list[Any]:
    return [x for part in nested for x in (flat(*part) if isinstance(part, list | tuple) else [part])]


def columns(W: Any) -> list[Any]:
    return [list(column) for column in zip(*W, strict=True)]


def plus(*vectors: Any) -> list[Any]:
    return [sum(parts[1:], parts[0]) for parts in zip(*vectors, strict=True)]


def linear(W: Any, x: Any) -> list[Any]:
    return [tg.dot(row, x) for row in W]


def added_up(W: Any, x: Any, b: Any) -> list[Any]:
    """W x + b, from products and sums of single numbers."""
    return [sum(w * n for w, n in zip(row, x, strict=True)) + bias for row, bias in zip(W, b, strict=True)]


def shaken(model: nn.Module, seed: int = 0) -> Any:
    """The model with other numbers in the parameters that start at 0 or 1."""
    rng = random.Random(seed)
    for parameter in model.parameters():
        if parameter.data in (0.0, 1.0):
            parameter.data = rng.uniform(-1, 1)
    return model


def parameters_of(*modules: nn.Module) -> list[Value]:
    return [p for module in modules for p in module.parameters()]


def one_hot(classes: Any, n: int) -> np.ndarray:
    return np.eye(n)[classes]


CLASSES = np.array([2, 0, 1, 1, 2])
CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__] = make
    return make


def program(*batch: Any, **parameters: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A case from a function of its parameters and its inputs. A shape stands for normal numbers."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        def make() -> Case:
            arrays = [normal(*p, seed=i) if isinstance(p, tuple) else p for i, p in enumerate(parameters.values())]
            weights = [leaves(np.asarray(a), name) for a, name in zip(arrays, parameters, strict=True)]
            inputs = [normal(*b, seed=10 + i) if isinstance(b, tuple) else b for i, b in enumerate(batch)]
            return partial(function, *weights), flat(*weights), inputs

        CASES[function.__name__] = make
        return function

    return register


# --- Classifiers, regressions, losses ---------------------------------------------------------------------------
def classifier(loss: Any, targets: Any, width: int = 5) -> Case:
    model = shaken(nn.MLP(6, [width, 3], rng=0))
    return lambda x, y: loss(model(x), y), model.parameters(), [normal(5, 6), targets]


ONE_HOT = one_hot(CLASSES, 3)
CASES |= {
    name: partial(classifier, loss, targets)
    for name, loss, targets in [
        ("cross_entropy_one_hot", nn.cross_entropy, ONE_HOT),
        ("cross_entropy_class_index", nn.cross_entropy, CLASSES),
        ("cross_entropy_soft_targets", nn.cross_entropy, np.random.default_rng(1).dirichlet([1, 1, 1], 5)),
        ("cross_entropy_weights_that_do_not_sum_to_one", nn.cross_entropy, abs(normal(5, 3, seed=1)) / 3),
        ("smoothed", lambda z, y: nn.cross_entropy(z, [0.9 * t + 0.1 / 3 for t in y]), ONE_HOT),
        ("nll_of_log_softmax_class_index", lambda z, y: nn.nll(tg.log_softmax(z), y), CLASSES),
        ("nll_of_log_softmax_one_hot", lambda z, y: nn.nll(tg.log_softmax(z), y), ONE_HOT),
        ("log_of_softmax", lambda z, y: -tg.log(tg.dot(tg.softmax(z), y)), ONE_HOT),
        ("squared_error_of_softmax", lambda z, y: nn.mse(tg.softmax(z), y), ONE_HOT),
        ("binary_cross_entropy_of_several_labels", nn.binary_cross_entropy_with_logits, ONE_HOT),
    ]
}


@case
def moons_with_hinge_and_weight_decay() -> Case:
    model = shaken(nn.MLP(2, [4, 4, 1], rng=1))

    def loss(x: Any, y: Any) -> Value:
        return nn.hinge(model(x), y) + 1e-2 * sum(p * p for p in model.parameters())

    return loss, model.parameters(), [normal(7, 2), np.array([1, -1, 1, 1, -1, -1, 1])]


@program((4, 6), w=(6,))
def weight_decay_of_every_form(w: Any, x: Any) -> Value:
    squares = sum(p * p for p in w[:4]) / 2 + 0.1 * tg.sum([p**2 for p in w])
    return tg.dot(w, x) ** 2 + squares + sum(map(abs, w)) + 0.01 * tg.sqrt(tg.sum([p * p for p in w[2:]]))


def regression(loss: Any, outputs: int = 3) -> Case:
    model = shaken(nn.Sequential(nn.Dense(3, 4, "tanh", rng=0), nn.Dense(4, outputs, rng=1)))
    return lambda x, y: loss(model(x), y), model.parameters(), [normal(6, 3), normal(6, outputs, seed=2)]


for name, loss in {
    "mse": nn.mse,
    "mae": nn.mae,
    "huber": nn.huber,
    "relative_error": lambda p, t: tg.sum([abs(a - b) / (1 + abs(b)) for a, b in zip(p, t, strict=True)]),
    "log_cosh": lambda p, t: tg.sum([tg.log(tg.cosh(a - b)) for a, b in zip(p, t, strict=True)]),
    "cosine": lambda p, t: 1 - tg.dot(p, t) / tg.sqrt(tg.dot(p, p) * tg.dot(t, t)),
    "largest_error": lambda p, t: tg.max([abs(a - b) for a, b in zip(p, t, strict=True)]),
}.items():
    CASES[f"regression_{name}"] = partial(regression, loss)


def activated(activation: str) -> Case:
    model = shaken(nn.MLP(3, [4, 3, 2], activation, rng=2))
    return lambda x: nn.mse(model(x), [0.5, -0.5]), model.parameters(), [normal(4, 3)]


CASES |= {f"activation_{name}": partial(activated, name) for name in nn.activations.ROW_ACTIVATIONS}


@case
def two_heads() -> Case:
    body, score, label = nn.Dense(3, 4, "relu", rng=0), nn.Dense(4, 1, rng=1), nn.Dense(4, 3, rng=2)

    def loss(x: Any, t: Any, y: Any) -> Value:
        h = body(x)
        return nn.mse(score(h)[0], t) + 0.5 * nn.cross_entropy(label(h), y)

    return loss, parameters_of(label, body, score), [normal(5, 3), normal(5, seed=1), CLASSES]


# --- Batches in the graph, normalisation, shared weights --------------------------------------------------------
@case
def one_constant_batch_in_the_graph() -> Case:
    model, X, y = shaken(nn.MLP(3, [4, 1], rng=0)), normal(6, 3).tolist(), normal(6, seed=1).tolist()
    return lambda: nn.mse([model(x) for x in X], y), model.parameters(), []


@case
def normalised_rows() -> Case:
    parts = nn.Dense(3, 4, "tanh", rng=0), nn.LayerNorm(4), nn.Residual(nn.Dense(4, 4, "relu", rng=1))
    model = shaken(nn.Sequential(*parts, nn.RMSNorm(4), nn.Dense(4, 2, rng=2)))
    return lambda X, Y: nn.mse(model(X), Y), model.parameters(), [normal(2, 3, 3), normal(2, 3, 2, seed=1)]


@case
def batch_norm_and_dropout_in_evaluation() -> Case:
    model = shaken(nn.Sequential(nn.Dense(3, 4, rng=0), nn.BatchNorm(4), nn.Dropout(), nn.Dense(4, 1, rng=1)))
    model(normal(8, 3, seed=3))
    model.eval()
    return lambda x, y: nn.mse(model(x)[0], y), model.parameters(), [normal(5, 3), normal(5, seed=1)]


@case
def tied_embedding() -> Case:
    table, layer = nn.Embedding(4, 3, rng=0), nn.Dense(3, 3, "tanh", rng=1)

    def loss(i: Any, j: Any) -> Value:
        h = layer(table(i))
        return nn.cross_entropy([tg.dot(h, row) for row in table.W], j)

    return loss, parameters_of(table, layer), [np.array([0, 3, 1, 3]), np.array([3, 1, 1, 0])]


# --- Convolutions and pooling -----------------------------------------------------------------------------------
def convolved(image: Any, filters: Any, stride: int = 1, padding: int = 0) -> Any:
    """(channels, height, width) by (n, channels, k, k): an image of n channels, padded with plain zeros."""
    k, width = len(filters[0][0]), len(image[0][0]) + 2 * padding
    sides, edge = [0.0] * padding, [[0.0] * width] * padding
    wide = [edge + [sides + list(row) + sides for row in c] + edge for c in image]

    def at(f: Any, r: int, s: int) -> Value:
        places = itertools.product(range(len(f)), range(k), range(k))
        return tg.sum([f[c][i][j] * wide[c][r + i][s + j] for c, i, j in places])

    rows, places = range(0, len(wide[0]) - k + 1, stride), range(0, width - k + 1, stride)
    return [[[at(f, r, s) for s in places] for r in rows] for f in filters]


def convolution(shape: tuple[int, ...], n: int, k: int, stride: int = 1, padding: int = 0) -> Case:
    filters, scale = leaves(normal(n, shape[0], k, k), "K"), Value(0.7, label="scale")

    def loss(image: Any) -> Value:
        return tg.sum([tg.tanh(scale * x) for x in flat(convolved(image, filters, stride, padding))])

    return loss, [*flat(filters), scale], [normal(2, *shape, seed=1)]


CASES |= {
    "convolution_valid": lambda: convolution((1, 4, 5), 2, 2),
    "convolution_of_channels": lambda: convolution((2, 4, 4), 2, 3),
    "convolution_padded": lambda: convolution((2, 3, 3), 2, 3, padding=1),
    "convolution_strided": lambda: convolution((1, 5, 5), 2, 2, stride=2),
}


@case
def a_small_convolutional_network() -> Case:
    filters, bias, last = leaves(normal(2, 1, 3, 3), "K"), leaves(normal(2, seed=1), "b"), nn.Dense(8, 3, rng=2)

    def loss(image: Any, y: Any) -> Value:
        planes = convolved([image], filters)
        planes = [[[(a + b).relu() for a in row] for row in c] for c, b in zip(planes, bias, strict=True)]
        corners = itertools.product(planes, (0, 2), (0, 2))
        pooled = [tg.max(c[i][j], c[i][j + 1], c[i + 1][j], c[i + 1][j + 1]) for c, i, j in corners]
        return nn.cross_entropy(last(pooled), y)

    return loss, [*flat(filters, bias), *last.parameters()], [normal(3, 6, 6, seed=3), CLASSES[:3]]


def pooling(pool: Any, stride: int) -> Case:
    w = leaves(eighths(4, 4, seed=4), "w")

    def loss(image: Any) -> Value:
        z = [[a * b for a, b in zip(*rows, strict=True)] for rows in zip(w, image, strict=True)]
        corners = itertools.product(range(0, 3, stride), repeat=2)
        windows = [(i + 2 * j + 1, [z[i][j], z[i][j + 1], z[i + 1][j], z[i + 1][j + 1]]) for i, j in corners]
        return tg.sum([factor * pool(window) for factor, window in windows])

    return loss, flat(w), [np.sign(eighths(3, 4, 4, most=2))]  # few different numbers, so there are ties


CASES |= {
    "max_pooling_with_ties": lambda: pooling(tg.max, 2),
    "min_pooling_with_ties": lambda: pooling(tg.min, 2),
    "mean_pooling": lambda: pooling(lambda xs: tg.sum(xs) / len(xs), 1),
}


@program(np.array([1.0, -1.0, 0.0, 2.0]), a=np.array([1.0, 1.0, -1.0]))
def ties_of_max_and_min(p: Any, x: Any) -> Value:
    a, b, c = p
    zeros = tg.max(tg.relu(a - 3), tg.relu(b - 2), 0.0 * x)
    return tg.max(a, b) + 2 * tg.max(a * x, b * x, c * x) + 3 * tg.min(-c * x, a, b * x, x) + zeros + abs(a - b)


# --- Attention, recurrences, embeddings -------------------------------------------------------------------------
def attended(X: Any, Q: Any, K: Any, V: Any, causal: bool, mask: float | None = None) -> list[list[Value]]:
    """One head: each row of X as the mean of rows, weighted by how well its query meets their keys."""
    q, k, v = ([linear(M, x) for x in X] for M in (Q, K, V))
    rows = []
    for t, query in enumerate(q):
        seen = t + 1 if causal and mask is None else len(X)
        scores = [tg.dot(query, key) / math.sqrt(len(query)) for key in k[:seen]]
        if mask is not None:
            scores = [score + (mask if s > t else 0.0) for s, score in enumerate(scores)]
        weights = tg.softmax(scores)
        rows.append([tg.dot(weights, column) for column in columns(v[:seen])])
    return rows


def attention(T: int, d: int, heads: int, causal: bool, mask: float | None = None) -> Case:
    def head(h: int) -> list[Any]:
        return [leaves(normal(d, d, seed=10 * h + i), f"{M}{h}_") for i, M in enumerate("QKV")]

    matrices = [head(h) for h in range(heads)]

    def loss(X: Any) -> Value:
        parts = [attended(X, *three, causal, mask) for three in matrices]
        joined = [flat(*rows) for rows in zip(*parts, strict=True)]
        return nn.mse(joined, [[0.1 * (i - t) for i in range(heads * d)] for t in range(T)])

    return loss, used(loss, flat(matrices), [normal(1, T, d)]), [normal(2, T, d, seed=99)]


CASES |= {
    "attention": lambda: attention(3, 2, 1, causal=False),
    "attention_causal": lambda: attention(4, 2, 1, causal=True),
    "attention_of_two_heads": lambda: attention(3, 2, 2, causal=False),
    "attention_masked": lambda: attention(3, 2, 1, causal=True, mask=-1e9),
    "attention_masked_by_infinity": lambda: attention(3, 2, 1, causal=True, mask=-math.inf),
}


@case
def a_block_of_a_transformer() -> Case:
    """Two heads, halves of the same three layers; then two more layers for each row; both residual."""
    q, k, v, o, up, down = layers = [shaken(nn.Dense(4 + 2 * (i == 5), 4 + 2 * (i == 4), rng=i)) for i in range(6)]
    first, second = nn.LayerNorm(4), nn.RMSNorm(4)

    def loss(X: Any, Y: Any) -> Value:
        rows = first(X)
        Q, K, V = q(rows), k(rows), v(rows)
        heads = []
        for half in (slice(0, 2), slice(2, 4)):
            scores = [[tg.dot(a[half], b[half]) / math.sqrt(2) for b in K[: t + 1]] for t, a in enumerate(Q)]
            weights = [tg.softmax(row) for row in scores]
            heads.append([[tg.dot(w, c) for c in columns(V[: len(w)])[half]] for w in weights])
        X = list(map(plus, X, o([flat(*h) for h in zip(*heads, strict=True)])))
        hidden = down([[tg.gelu(a) for a in row] for row in up(second(X))])
        return nn.mse(list(map(plus, X, hidden)), Y)

    return loss, parameters_of(*layers, first, second), [normal(2, 3, 4), normal(2, 3, 4, seed=1)]


@case
def mean_of_embeddings() -> Case:
    table, model = nn.Embedding(6, 3, rng=0), nn.Dense(3, 1, rng=1)

    def loss(words: Any, y: Any) -> Value:
        mean = [tg.sum(column) / len(words) for column in columns(table(words))]
        return nn.binary_cross_entropy_with_logits(model(mean)[0], y)

    words = np.array([[0, 1, 2, 3], [5, 5, 5, 0], [1, 2, 1, 2]], dtype=np.int32)
    return loss, parameters_of(table, model), [words, np.array([1.0, 0.0, 1.0])]


@case
def an_embedding_of_one_number() -> Case:
    letters, w = shaken(nn.Embedding(3, 1, rng=0)), Value(0.7)

    def loss(i: Any) -> Value:
        return tg.tanh(w * letters(i)[0]) + letters(i)[0] ** 2

    return loss, [*letters.parameters(), w], [np.arange(4) % 3]


def recurrence(T: int, n: int, m: int, kind: str) -> Case:
    """Elman: h = tanh(W x + U h + b). Gated: h = z h + (1 - z) candidate, the gate z made in the same way."""
    shapes = ("W", (m, n)), ("U", (m, m)), ("b", (m,)), ("P", (m, n)), ("S", (m, m)), ("c", (m,)), ("v", (m,))
    W, U, b, Wz, Uz, bz, out = (leaves(normal(*shape, seed=i), name) for i, (name, shape) in enumerate(shapes))

    def together(W: Any, x: Any, U: Any, h: Any, b: Any) -> list[Value]:
        return plus(added_up(W, x, b), added_up(U, h, [0.0] * m))

    def loss(X: Any, y: Any) -> Value:
        h: list[Any] = [0.0] * m
        errors = []
        for x, t in zip(X, y, strict=True):
            new = [a.tanh() for a in together(W, x, U, h, b)]
            if kind == "gated":
                gate = [a.sigmoid() for a in together(Wz, x, Uz, h, bz)]
                new = [z * old + (1 - z) * a for z, old, a in zip(gate, h, new, strict=True)]
            h = new
            errors.append((tg.dot(out, h) - t) ** 2)
        return errors[-1] if kind == "last" else tg.sum(errors) / T

    batch = [normal(3, T, n, seed=7), normal(3, T, seed=8)]
    return loss, used(loss, flat(W, U, b, Wz, Uz, bz, out), batch), batch


CASES |= {
    "recurrence": lambda: recurrence(4, 2, 3, "elman"),
    "recurrence_of_which_the_last_counts": lambda: recurrence(3, 2, 2, "last"),
    "recurrence_with_gates": lambda: recurrence(3, 2, 2, "gated"),
    "recurrence_of_one_step": lambda: recurrence(1, 2, 2, "elman"),
}


# --- Choices, constants, rules of one's own ---------------------------------------------------------------------
@program(
    np.array([0.0, 1.0, -1.0, 0.5, 0.75]), np.array([0.0, 0.5, 1.0, 0.5, -0.5]), a=np.array(0.5), b=np.array(-0.25)
)
def choices(a: Any, b: Any, x: Any, y: Any) -> Value:
    lower = tg.where(x < y, a * x, b * y)
    parts = [
        lower,
        tg.where(a * x >= b, lower, tg.sin(a)),
        tg.where(x <= 0, b, 2.0),
        tg.where(0.5 > y, 1, a) * tg.where(x, a, b),  # noqa: SIM300 - the number first
        tg.where(x - y, tg.where(x > y, a, -1), b),
        tg.where(x > -1, tg.log(x + 1.5), 0) * a,
    ]
    return sum(parts[1:], parts[0])


@program((4,), v=np.array(0.5), w=np.array(0.25))
def extremes_of_different_kinds(v: Any, w: Any, x: Any) -> Value:
    alone = tg.max(-tg.cos(w), w, tg.cos(w)) + tg.max(abs(w), abs(w), w * 1.5) + tg.min(w * v, -v, 3)
    mixed = tg.max(tg.sin(w * x), w, x, -w) + tg.min(w * x, w * x, v * x)
    return alone + mixed + tg.logsumexp(w * x, v, w * x) + tg.logsumexp([w * x] * 3)


@program(eighths(5, 4, seed=1), w=eighths(4))
def clipped_and_piecewise(w: Any, x: Any) -> Value:
    z = [p * n for p, n in zip(w, x, strict=True)]
    clipped = [tg.max(tg.min(a, 0.5), -0.5) for a in z]
    pieces = [tg.where(a > 0, a * a, tg.where(a < -0.25, -a, 0.5 * a)) for a in z]
    return tg.sum(clipped) + tg.sum(pieces) + tg.max(z) - tg.min(z)


NOT_LEARNED = Value(1.5, label="a leaf that is not learned")


@program((3,), w=np.array(0.75))
def constants_of_every_kind(w: Any, x: Any) -> Value:
    c0 = NOT_LEARNED
    kinds = [2, -0.5, Fraction(1, 3), np.float64(0.1), np.float32(0.25), np.int64(3), math.pi, Value(4), c0]
    products = [part for c in kinds for part in (c * w, w * c, w / c, c / (w + 2))]
    sums = [part for c in kinds for part in (c + x, x - c, c - w)]
    powers = [w**2, w**-1, w**0.5, w**3, w**1, w**0, 2**w, w ** Fraction(1, 2), w**c0, c0**w, w ** Value(2.0)]
    alone = tg.exp(c0) * tg.sqrt(Value(2.0)) + tg.tanh(0.5)
    return tg.sum(products) + tg.sum(sums) * w + tg.sum(powers) + alone


@program((4, 3), w=(3,))
def constant_factors_in_a_row(w: Any, x: Any) -> Value:
    a, b, c = (p * xi for p, xi in zip(w, x, strict=True))
    large = a * 1e30 * 1e20 * 1e-50 + 1e-50 * (1e20 * (1e30 * b))
    return large + c * 1e30 / 1e-20 / 1e50 + (a + b) / 3 / 7 * 21


@program((3,), a=(3,))
def terms_that_are_neutral_or_vanish(p: Any, x: Any) -> Value:
    a, b, c = p
    nothing = 0 * a + b * 0.0 + (a - a) + (c * x - c * x)
    same = 1 * (a * x) + 0 + (b + 0.0) / 1 - -c
    return same + nothing + (x + a - x) + tg.sum([x]) + tg.dot([a], [b]) + tg.max(c)


def shrunk(x: Any, *, by: float = 0.5) -> Any:
    return where(abs(x) <= by, 0 * x, where(x > 0, x - by, x + by))


def mish_backward(upstream: Any, out: Any, x: Any) -> tuple[Any, ...]:
    t, s = tanh(log1p(exp(x))), exp(x) / (1 + exp(x))
    return (upstream * (t + x * (1 - t * t) * s),)


OWN: dict[str, tuple[Any, Any]] = {
    "norm": (
        lambda *inputs: sqrt(total(*[x * x for x in inputs])),
        lambda u, out, *inputs: tuple(spread(u / out, inputs) * x for x in inputs),
    ),
    "mish": (lambda x: x * tanh(log1p(exp(x))), mish_backward),
    "bent": (  # only the slope matters
        lambda x: x * tanh(x),
        lambda u, out, x: (u * (tanh(x) + x * (1 - tanh(x) * tanh(x)) * exp(x) + exp(x) * tanh(x)),),
    ),
    "shrunk": (shrunk, lambda u, out, x, *, by: (u * where(abs(x) <= by, 0, 1 + 0 * x),)),
    "product": (
        lambda *inputs: math.prod(inputs),
        lambda u, out, *inputs: tuple(u * math.prod(inputs[:i] + inputs[i + 1 :]) for i in range(len(inputs))),
    ),
    "fused": (lambda x, y, z: x * y + z, lambda u, out, x, y, z: (u * y, u * x, u)),
}


def own(name: str) -> Rule:
    """A rule of one's own, declared when it is first needed. The caller takes it out of RULES again."""
    if name not in tg.RULES:
        forward, backward = OWN[name]
        tg.rule(forward, backward=backward, name=name)
    return tg.RULES[name]


@program((4, 3), w=(3,))
def own_rule_with_a_parameter(w: Any, x: Any) -> Value:
    z = [a * b for a, b in zip(w, x, strict=True)]
    return tg.sum([own("shrunk")(a) + 2 * own("shrunk")(a, by=0.125) + own("mish")(a) for a in z])


@program((4, 3), w=(3,))
def own_rule_of_three_inputs(w: Any, x: Any) -> Value:
    h: Any = Value(1.0)
    for a, b in zip(w, x, strict=True):
        h = own("fused")(a, b, h.tanh())
    return h * h


@program((4, 3), w=(3,))
def own_rule_whose_slope_needs_numbers_twice(w: Any, x: Any) -> Value:
    return tg.sum([own("bent")(a * b) for a, b in zip(w, x, strict=True)])


@program((4, 3), W=(2, 3))
def own_reduction(W: Any, x: Any) -> Value:
    rows = [own("norm")(*[a * b for a, b in zip(row, x, strict=True)]) for row in W]
    return own("norm")(*rows, *x) + own("norm")(W[0][0], 2.0)


@program((4, 3), W=(2, 3))
def own_reduction_that_knows_no_arrays(W: Any, x: Any) -> Value:
    return tg.sum([own("product")(*row, *x) for row in W]) + own("product")(W[0][0], x[1])


# --- Other programs: odd orders, sparse and ragged structure, no batch ------------------------------------------
@program((3, 4), L0_=(1,), L1_=(2,), L2_=(3,), L3_=(4,))
def triangular_matrix(a: Any, b: Any, c: Any, d: Any, x: Any) -> Value:
    return tg.sum([tg.dot(row, x[: len(row)]).tanh() for row in (a, b, c, d)])


@program((3, 3, 3), W=(2, 3))
def a_matrix_between_its_input_and_itself(W: Any, X: Any) -> Value:  # (W X) and (X W') of one X (3, 3)
    left = [[tg.dot(row, column) for column in columns(X)] for row in W]
    right = [[tg.dot(row, column) for column in W] for row in X]
    return tg.sum([(a * b).tanh() for a, b in zip(flat(left), flat(columns(right)), strict=True)])


@program((3,), w=1 + normal(12) / 10)
def a_long_product_and_a_long_sum(w: Any, x: Any) -> Value:
    product, running, sums = x, x, []
    for p in w:
        product, running = product * p, running + p
        sums.append(running)
    return product + tg.sum([a * a for a in sums]) / 100


@program((3, 8), w=(2,))
def a_descent_of_eight_steps(w: Any, xs: Any) -> Value:
    m, at = 0.0, w[0]
    for x in xs:
        m = 0.9 * m + 0.2 * (at - x)
        at = at - 0.1 * m / (1 + 4 * (at - x) ** 2)
    return (at - w[1]) ** 2


@program((3,), v=(2,))
def a_number_and_the_square_that_divides_it(v: Any, x: Any) -> Value:
    u = [a + x for a in v]
    return u[0] / tg.dot(u, u)


@program(w=(4,))
def parameters_only(w: Any) -> Value:  # Rosenbrock's valley
    return tg.sum([100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(w)])


@program((3, 3), A=(3, 2), B=(2, 3))
def parameters_only_in_a_matrix_product(A: Any, B: Any, x: Any) -> Value:
    AB = [[tg.dot(row, column) for column in columns(B)] for row in A]
    return tg.sum([tg.dot(row, x) ** 2 for row in AB]) + tg.sum(AB[0]).tanh()


@program((3,), w=np.array(2.0))
def a_root_without_the_batch(w: Any, x: Any) -> Any:  # it is the parameter itself
    return w


@case
def unlabelled_and_alike_labelled_parameters() -> Case:
    u, v, w, z = Value(0.5), Value(-1.0), Value(2.0, label="w"), Value(3.0, label="w")
    return lambda x: u * x + tg.tanh(v * w) * x + z, [z, w, v, u], [normal(3)]


@case
def labels_that_are_no_names() -> Case:
    labels = ["import", "np", "x-1", "", "α", "dw", "B", "3", "'quoted\"", "a\nb", "theta", "self"]
    labels += ["run", "exp", "v9", "d0", "d_x", 'x"""', "x\n1/0", "w", "w"]
    w = [Value(0.1 * (i + 1), label=label) for i, label in enumerate(labels)]
    return lambda x: tg.sum([p.tanh() * x ** (i % 12) for i, p in enumerate(w)]), w, [normal(3)]


@program(*[(3,)] * 6, w=(8,))
def named_like_the_codes_own(w: Any, np: Any, B: Any, maximum: Any, range: Any, hit_1: Any, fi: Any) -> Value:
    w[7].label = "\ufb01"  # one sign for two letters: as a name, Python reads it as fi
    for _ in w:
        w = [*w[1:], w[0] * w[7].tanh()]
    return tg.dot(w[:6], [np, B, maximum, range, hit_1, fi]) + tg.max([p * p for p in w]) + tg.max(fi, w[1])


@program(W=(2, 2))
def a_stage_that_adds_to_single_numbers(W: Any) -> Value:
    h = W[0]
    for _ in range(7):
        z = linear(W, h)
        h = [tg.tanh(a - tg.logsumexp([*z, 0.3 * h[0]])) for a in z]
    return h[0] * h[1]


@program((4, 3), w=np.array([3e3, -4e3, 1e-3]))
def large_and_small_numbers(w: Any, x: Any) -> Value:
    z = [a * b for a, b in zip(w, x, strict=True)]
    tails = tg.sum([tg.softplus(a) + tg.sigmoid(a) + tg.tanh(a) for a in z])
    return tg.logsumexp(z) + tails + tg.softmax(z)[1]
