"""Compiled = eager, in value and in every gradient: on networks and programs of every form, and on random ones."""

import itertools
import math
import random
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from comparing import compare, eager, examples_of, used
from hypothesis import event, given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, topological_order
from tinygrad_edu.elementary import exp, log1p, spread, sqrt, tanh, total, where
from tinygrad_edu.engine.rules import Rule
from tinygrad_edu.testing import Program, assert_near, networks, programs
from tinygrad_edu.testing.oracles import Number
from tinygrad_edu.testing.program import TEMPLATES

Case = tuple[Callable[..., Any], list[Value], list[Any]]  # a function, its parameters, a batch
steady = settings(deadline=None)


# --- The eager side, and the comparison -------------------------------------------------------------------------


def compare_outputs(function: Any, parameters: list[Value], *batch: Any) -> None:
    """The same for `predict`, whose results may be nested."""
    got = tg.compile(function, parameters).predict(*batch)
    expected = np.array([numbers_of(function(*one)) for one in examples_of(batch)])
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def numbers_of(nested: Any) -> Any:
    if isinstance(nested, list | tuple):
        return [numbers_of(part) for part in nested]
    return float(nested.data if isinstance(nested, Value) else nested)


# --- What the cases are made of ---------------------------------------------------------------------------------


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


def flat(*nested: Any) -> list[Any]:
    return [x for part in nested for x in (flat(*part) if isinstance(part, list | tuple) else [part])]


def shaken(model: nn.Module, seed: int = 0) -> Any:
    """The model with other numbers in the parameters that start at 0 or 1."""
    rng = random.Random(seed)
    for parameter in model.parameters():
        if parameter.data in (0.0, 1.0):
            parameter.data = rng.uniform(-1, 1)
    return model


def linear(W: Any, x: Any, b: Any) -> list[Value]:
    """W x + b, from products and sums of single numbers."""
    return [sum(w * n for w, n in zip(row, x, strict=True)) + bias for row, bias in zip(W, b, strict=True)]


def one_hot(classes: Any, n: int) -> np.ndarray:
    return np.eye(n)[classes]


CLASSES = np.array([2, 0, 1, 1, 2])
CASES: dict[str, Callable[[], Case]] = {}


def case(make: Callable[[], Case]) -> Callable[[], Case]:
    CASES[make.__name__] = make
    return make


# --- Classifiers, regressions, losses ---------------------------------------------------------------------------


def classifier(loss: Any, targets: Any, width: int = 5) -> Case:
    model = shaken(nn.MLP(6, [width, 3], rng=0))
    return lambda x, y: loss(model(x), y), model.parameters(), [normal(5, 6), targets]


@case
def cross_entropy_one_hot() -> Case:
    return classifier(nn.cross_entropy, one_hot(CLASSES, 3))


@case
def cross_entropy_class_index() -> Case:
    return classifier(nn.cross_entropy, CLASSES)


@case
def cross_entropy_soft_targets() -> Case:
    return classifier(nn.cross_entropy, np.random.default_rng(1).dirichlet([1, 1, 1], 5))


@case
def cross_entropy_weights_that_do_not_sum_to_one() -> Case:
    return classifier(nn.cross_entropy, abs(normal(5, 3, seed=1)) / 3)


@case
def cross_entropy_smoothed() -> Case:
    return classifier(lambda z, y: nn.cross_entropy(z, [0.9 * t + 0.1 / 3 for t in y]), one_hot(CLASSES, 3))


@case
def nll_of_log_softmax_class_index() -> Case:
    return classifier(lambda z, y: nn.nll(tg.log_softmax(z), y), CLASSES)


@case
def nll_of_log_softmax_one_hot() -> Case:
    return classifier(lambda z, y: nn.nll(tg.log_softmax(z), y), one_hot(CLASSES, 3))


@case
def log_of_softmax() -> Case:
    return classifier(lambda z, y: -tg.log(tg.dot(tg.softmax(z), y)), one_hot(CLASSES, 3))


@case
def squared_error_of_softmax() -> Case:
    return classifier(lambda z, y: nn.mse(tg.softmax(z), y), one_hot(CLASSES, 3))


@case
def binary_cross_entropy_of_several_labels() -> Case:
    return classifier(nn.binary_cross_entropy_with_logits, one_hot(CLASSES, 3))


@case
def width_one() -> Case:
    return classifier(nn.cross_entropy, CLASSES, width=1)


@case
def moons_with_hinge_and_weight_decay() -> Case:
    model = shaken(nn.MLP(2, [4, 4, 1], rng=1))

    def loss(x: Any, y: Any) -> Value:
        return nn.hinge(model(x), y) + 1e-2 * sum(p * p for p in model.parameters())

    return loss, model.parameters(), [normal(7, 2), np.array([1, -1, 1, 1, -1, -1, 1])]


@case
def weight_decay_of_every_form() -> Case:
    w = leaves(normal(6), "w")

    def loss(x: Any) -> Value:
        squares = sum(p * p for p in w[:4]) / 2 + 0.1 * tg.sum([p**2 for p in w])
        return tg.dot(w, x) ** 2 + squares + sum(map(abs, w)) + 0.01 * tg.sqrt(tg.sum([p * p for p in w[2:]]))

    return loss, w, [normal(4, 6)]


def regression(loss: Any, outputs: int = 3) -> Case:
    model = shaken(nn.Sequential(nn.Dense(3, 4, "tanh", rng=0), nn.Dense(4, outputs, rng=1)))
    return lambda x, y: loss(model(x), y), model.parameters(), [normal(6, 3), normal(6, outputs, seed=2)]


for name, loss in {
    "mse": nn.mse,
    "mse_sum": lambda p, t: nn.mse(p, t, reduction="sum"),
    "mae": nn.mae,
    "huber": nn.huber,
    "huber_of_half": lambda p, t: nn.huber(p, t, delta=0.5),
    "relative_error": lambda p, t: tg.sum([abs(a - b) / (1 + abs(b)) for a, b in zip(p, t, strict=True)]),
    "log_cosh": lambda p, t: tg.sum([tg.log(tg.cosh(a - b)) for a, b in zip(p, t, strict=True)]),
    "cosine": lambda p, t: 1 - tg.dot(p, t) / tg.sqrt(tg.dot(p, p) * tg.dot(t, t)),
    "largest_error": lambda p, t: tg.max([abs(a - b) for a, b in zip(p, t, strict=True)]),
}.items():
    CASES[f"regression_{name}"] = lambda loss=loss: regression(loss)
CASES["regression_of_one_output"] = lambda: regression(nn.mse, outputs=1)

for activation in nn.activations.ROW_ACTIVATIONS:

    def activated(activation: str = activation) -> Case:
        model = shaken(nn.MLP(3, [4, 3, 2], activation, rng=2))
        return lambda x: nn.mse(model(x), [0.5, -0.5]), model.parameters(), [normal(4, 3)]

    CASES[f"activation_{activation}"] = activated


@case
def two_heads() -> Case:
    body, score, label = nn.Dense(3, 4, "relu", rng=0), nn.Dense(4, 1, rng=1), nn.Dense(4, 3, rng=2)

    def loss(x: Any, t: Any, y: Any) -> Value:
        h = body(x)
        return nn.mse(score(h)[0], t) + 0.5 * nn.cross_entropy(label(h), y)

    parameters = label.parameters() + body.parameters() + score.parameters()
    return loss, parameters, [normal(5, 3), normal(5, seed=1), CLASSES]


# --- Batches in the graph, normalisation, shared weights --------------------------------------------------------


@case
def rows_in_the_graph() -> Case:
    model = shaken(nn.MLP(3, [4, 2], rng=0))

    def loss(X: Any, Y: Any) -> Value:
        return nn.mse([model(x) for x in X], Y)

    return loss, model.parameters(), [normal(2, 5, 3), normal(2, 5, 2, seed=1)]


@case
def rows_in_the_graph_class_indices() -> Case:
    model = shaken(nn.Sequential(nn.Dense(3, 4, "relu", rng=0), nn.Dense(4, 3, rng=1)))
    classes = np.stack([CLASSES, CLASSES[::-1]])
    return lambda X, Y: nn.cross_entropy(model(X), Y), model.parameters(), [normal(2, 5, 3), classes]


@case
def one_constant_batch_in_the_graph() -> Case:
    model, X, y = shaken(nn.MLP(3, [4, 1], rng=0)), normal(6, 3).tolist(), normal(6, seed=1).tolist()
    return lambda: nn.mse([model(x) for x in X], y), model.parameters(), []


@case
def normalised_rows() -> Case:
    model = shaken(
        nn.Sequential(
            nn.Dense(3, 4, "tanh", rng=0),
            nn.LayerNorm(4),
            nn.Residual(nn.Dense(4, 4, "relu", rng=1)),
            nn.RMSNorm(4),
            nn.Dense(4, 2, rng=2),
        )
    )
    return lambda X, Y: nn.mse(model(X), Y), model.parameters(), [normal(2, 3, 3), normal(2, 3, 2, seed=1)]


@case
def normalised_row() -> Case:
    model = shaken(nn.Sequential(nn.LayerNorm(4), nn.Dense(4, 3, rng=2), nn.RMSNorm(3)))
    return lambda x: nn.mse(model(x), [1.0, 2.0, 3.0]), model.parameters(), [normal(3, 4)]


@case
def batch_norm_and_dropout_in_evaluation() -> Case:
    model = shaken(nn.Sequential(nn.Dense(3, 4, rng=0), nn.BatchNorm(4), nn.Dropout(), nn.Dense(4, 1, rng=1)))
    model(normal(8, 3, seed=3))
    model.eval()
    return lambda x, y: nn.mse(model(x)[0], y), model.parameters(), [normal(5, 3), normal(5, seed=1)]


@case
def one_layer_used_twice() -> Case:
    layer, last = shaken(nn.Layer(3, 3, "tanh", rng=0)), nn.Neuron(3, "linear", rng=1)
    parameters = last.parameters() + layer.parameters()
    return lambda x: last(layer(layer(x))) ** 2, parameters, [normal(4, 3)]


@case
def siamese_network() -> Case:
    model = shaken(nn.MLP(3, [4, 2], rng=0))

    def loss(x: Any, y: Any) -> Value:
        return tg.sum([(a - b) ** 2 for a, b in zip(model(x), model(y), strict=True)])

    return (
        loss,
        model.layers[0].parameters() + model.layers[1].parameters()[:2],
        [normal(4, 3), normal(4, 3, seed=1)],
    )


@case
def autoencoder_with_tied_weights() -> Case:
    W, b, c = leaves(normal(2, 4), "W"), leaves(normal(2, seed=1), "b"), leaves(normal(4, seed=2), "c")

    def loss(x: Any) -> Value:
        code = [tg.tanh(z) for z in linear(W, x, b)]
        return nn.mse(linear(list(zip(*W, strict=True)), code, c), x)

    return loss, flat(W, b, c), [normal(5, 4)]


@case
def tied_embedding() -> Case:
    table, layer = nn.Embedding(4, 3, rng=0), nn.Dense(3, 3, "tanh", rng=1)

    def loss(i: Any, j: Any) -> Value:
        h = layer(table(i))
        return nn.cross_entropy([tg.dot(h, row) for row in table.W], j)

    return loss, table.parameters() + layer.parameters(), [np.array([0, 3, 1, 3]), np.array([3, 1, 1, 0])]


@case
def a_product_of_two_weight_matrices() -> Case:
    A, B = leaves(normal(3, 2), "A"), leaves(normal(2, 4, seed=1), "B")

    def loss(x: Any) -> Value:
        AB = [[tg.dot(row, column) for column in zip(*B, strict=True)] for row in A]
        return tg.sum([tg.dot(row, x) ** 2 for row in AB])

    return loss, flat(A, B), [normal(3, 4)]


# --- Convolutions and pooling -----------------------------------------------------------------------------------


def convolved(image: Any, filters: Any, stride: int = 1, padding: int = 0) -> Any:
    """(channels, height, width) by (n, channels, k, k): an image of n channels, padded with plain zeros."""
    k = len(filters[0][0])
    wide = [
        [[0.0] * (len(c[0]) + 2 * padding)] * padding
        + [[0.0] * padding + list(row) + [0.0] * padding for row in c]
        + [[0.0] * (len(c[0]) + 2 * padding)] * padding
        for c in image
    ]
    rows, columns = (
        range(0, len(wide[0]) - k + 1, stride),
        range(0, len(wide[0][0]) - k + 1, stride),
    )
    return [
        [
            [
                tg.sum(
                    [
                        w * wide[c][r + i][s + j]
                        for c, plane in enumerate(f)
                        for i, line in enumerate(plane)
                        for j, w in enumerate(line)
                    ]
                )
                for s in columns
            ]
            for r in rows
        ]
        for f in filters
    ]


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
    "convolution_strided_and_padded": lambda: convolution((1, 4, 4), 2, 3, stride=2, padding=1),
    "convolution_1_by_1": lambda: convolution((3, 2, 2), 2, 1),
}


@case
def convolution_in_one_dimension() -> Case:
    w, b = leaves(normal(3), "w"), Value(0.3, label="b")

    def loss(x: Any) -> Value:
        z = [w[0] * x[i] + w[1] * x[i + 1] + w[2] * x[i + 2] + b for i in range(len(x) - 2)]
        return tg.sum([a.tanh() for a in z]) / len(z)

    return loss, [*w, b], [normal(3, 6)]


@case
def convolution_with_zeros_of_the_input_at_the_ends() -> Case:
    w = leaves(normal(3), "w")

    def loss(x: Any) -> Value:
        x = [0.0, *x, 0.0]
        return tg.sum([tg.dot(w, x[i : i + 3]) ** 2 for i in range(len(x) - 2)])

    return loss, w, [normal(3, 5)]


@case
def convolutions_on_top_of_each_other_with_pooling() -> Case:
    first, second = leaves(normal(2, 1, 2, 2), "K"), leaves(normal(2, 2, 2, 2, seed=1), "L")
    last = shaken(nn.Dense(2, 3, rng=2))

    def loss(image: Any, y: Any) -> Value:
        planes = [[[a.relu() for a in row] for row in c] for c in convolved([image], first)]
        planes = [[[a.tanh() for a in row] for row in c] for c in convolved(planes, second, padding=1)]
        return nn.cross_entropy(last([tg.max(flat(c)) for c in planes]), y)

    return loss, [*flat(first, second), *last.parameters()], [normal(3, 4, 4, seed=3), CLASSES[:3]]


@case
def a_small_convolutional_network() -> Case:
    filters, bias, last = leaves(normal(2, 1, 3, 3), "K"), leaves(normal(2, seed=1), "b"), nn.Dense(8, 3, rng=2)

    def loss(image: Any, y: Any) -> Value:
        planes = convolved([image], filters)
        planes = [[[(a + b).relu() for a in row] for row in c] for c, b in zip(planes, bias, strict=True)]
        pooled = [
            tg.max(c[i][j], c[i][j + 1], c[i + 1][j], c[i + 1][j + 1])
            for c in planes
            for i in (0, 2)
            for j in (0, 2)
        ]
        return nn.cross_entropy(last(pooled), y)

    return loss, [*flat(filters, bias), *last.parameters()], [normal(3, 6, 6, seed=3), CLASSES[:3]]


def pooling(pool: Any, stride: int) -> Case:
    w = leaves(eighths(4, 4, seed=4), "w")

    def loss(image: Any) -> Value:
        z = [[a * b for a, b in zip(*rows, strict=True)] for rows in zip(w, image, strict=True)]
        return tg.sum(
            [
                (i + 2 * j + 1) * pool([z[i][j], z[i][j + 1], z[i + 1][j], z[i + 1][j + 1]])
                for i in range(0, 3, stride)
                for j in range(0, 3, stride)
            ]
        )

    return loss, flat(w), [np.sign(eighths(3, 4, 4, most=2))]  # few different numbers, so there are ties


CASES |= {
    "max_pooling_with_ties": lambda: pooling(tg.max, 2),
    "max_pooling_that_overlaps": lambda: pooling(tg.max, 1),
    "min_pooling_with_ties": lambda: pooling(tg.min, 2),
    "mean_pooling": lambda: pooling(lambda xs: tg.sum(xs) / len(xs), 1),
}


@case
def ties_of_max_and_min() -> Case:
    a, b, c = leaves(np.array([1.0, 1.0, -1.0]), "a")

    def loss(x: Any) -> Value:
        zeros = tg.max(tg.relu(a - 3), tg.relu(b - 2), 0.0 * x)
        return (
            tg.max(a, b) + 2 * tg.max(a * x, b * x, c * x) + 3 * tg.min(-c * x, a, b * x, x) + zeros + abs(a - b)
        )

    return loss, [a, b, c], [np.array([1.0, -1.0, 0.0, 2.0])]


# --- Attention, recurrences, embeddings -------------------------------------------------------------------------


def attended(X: Any, Q: Any, K: Any, V: Any, causal: bool, mask: float | None = None) -> list[list[Value]]:
    """One head: each row of X as the mean of rows, weighted by how well its query meets their keys."""
    q, k, v = ([[tg.dot(column, x) for column in M] for x in X] for M in (Q, K, V))
    rows = []
    for t, query in enumerate(q):
        seen = t + 1 if causal and mask is None else len(X)
        scores = [tg.dot(query, key) / math.sqrt(len(query)) for key in k[:seen]]
        if mask is not None:
            scores = [score + (mask if s > t else 0.0) for s, score in enumerate(scores)]
        weights = tg.softmax(scores)
        rows.append([tg.dot(weights, column) for column in zip(*v[:seen], strict=True)])
    return rows


def attention(T: int, d: int, heads: int, causal: bool, mask: float | None = None) -> Case:
    matrices = [
        [leaves(normal(d, d, seed=10 * h + i), f"{M}{h}_") for i, M in enumerate("QKV")] for h in range(heads)
    ]

    def loss(X: Any) -> Value:
        parts = [attended(X, *three, causal, mask) for three in matrices]
        joined = [flat(*rows) for rows in zip(*parts, strict=True)]
        return nn.mse(joined, [[0.1 * (i - t) for i in range(heads * d)] for t in range(T)])

    return loss, used(loss, flat(matrices), [normal(1, T, d)]), [normal(2, T, d, seed=99)]


CASES |= {
    "attention": lambda: attention(3, 2, 1, causal=False),
    "attention_causal": lambda: attention(4, 2, 1, causal=True),
    "attention_of_two_heads": lambda: attention(3, 2, 2, causal=False),
    "attention_causal_of_two_heads": lambda: attention(3, 2, 2, causal=True),
    "attention_masked": lambda: attention(3, 2, 1, causal=True, mask=-1e9),
    "attention_masked_by_infinity": lambda: attention(3, 2, 1, causal=True, mask=-math.inf),
}


@case
def a_block_of_a_transformer() -> Case:
    """Two heads, halves of the same three layers; then two more layers for each row; both residual."""
    q, k, v, o, up, down = (shaken(nn.Dense(4 + 2 * (i == 5), 4 + 2 * (i == 4), rng=i)) for i in range(6))
    first, second = nn.LayerNorm(4), nn.RMSNorm(4)

    def loss(X: Any, Y: Any) -> Value:
        rows = first(X)
        Q, K, V = q(rows), k(rows), v(rows)
        heads = []
        for half in (slice(0, 2), slice(2, 4)):
            scores = [[tg.dot(a[half], b[half]) / math.sqrt(2) for b in K[: t + 1]] for t, a in enumerate(Q)]
            weights = [tg.softmax(row) for row in scores]
            heads.append([[tg.dot(w, c) for c in list(zip(*V[: len(w)], strict=True))[half]] for w in weights])
        X = [
            [a + b for a, b in zip(x, y, strict=True)]
            for x, y in zip(X, o([flat(*h) for h in zip(*heads, strict=True)]), strict=True)
        ]
        hidden = down([[tg.gelu(a) for a in row] for row in up(second(X))])
        return nn.mse([[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(X, hidden, strict=True)], Y)

    modules = (q, k, v, o, up, down, first, second)
    return loss, [p for module in modules for p in module.parameters()], [normal(2, 3, 4), normal(2, 3, 4, seed=1)]


@case
def a_small_language_model() -> Case:
    tokens, places = nn.Embedding(4, 2, rng=0), nn.Embedding(3, 2, rng=1)
    Q, K, V = (leaves(normal(2, 2, seed=i), "QKV"[i]) for i in range(3))
    norm, head = nn.LayerNorm(2), shaken(nn.Dense(2, 4, rng=2))

    def loss(context: Any, following: Any) -> Value:
        X = [[a + b for a, b in zip(tokens(i), places(t), strict=True)] for t, i in enumerate(context)]
        rows = attended(norm(X), Q, K, V, causal=True)
        rows = [[a + b for a, b in zip(*two, strict=True)] for two in zip(X, rows, strict=True)]
        return nn.cross_entropy(head(rows), following)

    parameters = [
        *tokens.parameters(),
        *places.parameters(),
        *flat(Q, K, V),
        *norm.parameters(),
        *head.parameters(),
    ]
    context = np.array([[0, 3, 1], [2, 2, 0], [3, 1, 1]])
    return loss, parameters, [context, np.roll(context, -1, axis=1)]


@case
def character_model_of_three_characters() -> Case:
    table, model = nn.Embedding(5, 2, rng=0), shaken(nn.MLP(6, [4, 5], "tanh", rng=1))
    context = np.array([[0, 0, 0], [0, 0, 4], [0, 4, 2], [4, 2, 1]])
    parameters = table.parameters() + model.parameters()
    return lambda c, y: nn.cross_entropy(model(flat(table(c))), y), parameters, [context, np.array([4, 2, 1, 0])]


@case
def mean_of_embeddings() -> Case:
    table, model = nn.Embedding(6, 3, rng=0), nn.Dense(3, 1, rng=1)

    def loss(words: Any, y: Any) -> Value:
        mean = [tg.sum(column) / len(words) for column in zip(*table(words), strict=True)]
        return nn.binary_cross_entropy_with_logits(model(mean)[0], y)

    words = np.array([[0, 1, 2, 3], [5, 5, 5, 0], [1, 2, 1, 2]], dtype=np.int32)
    return loss, table.parameters() + model.parameters(), [words, np.array([1.0, 0.0, 1.0])]


@case
def an_embedding_of_one_number() -> Case:
    letters, w = shaken(nn.Embedding(3, 1, rng=0)), leaves(np.array([0.7]))
    return (
        lambda i: tg.tanh(w[0] * letters(i)[0]) + letters(i)[0] ** 2,
        [*letters.parameters(), *w],
        [np.arange(4) % 3],
    )


@case
def nested_embeddings() -> Case:
    table = nn.Embedding(3, 2, rng=0)

    def loss(words: Any) -> Value:
        return tg.sum([(i + 1) * x.tanh() for i, x in enumerate(flat(table(words)))])

    return loss, table.parameters(), [np.array([[[0, 1], [2, 2]], [[1, 1], [1, 0]]])]


def recurrence(T: int, n: int, m: int, kind: str) -> Case:
    """Elman: h = tanh(W x + U h + b). Gated: h = z h + (1 - z) candidate, the gate z made in the same way."""
    W, U, b = leaves(normal(m, n), "W"), leaves(normal(m, m, seed=1), "U"), leaves(normal(m, seed=2), "b")
    Wz, Uz, bz = (
        leaves(normal(m, n, seed=3), "P"),
        leaves(normal(m, m, seed=4), "S"),
        leaves(normal(m, seed=5), "c"),
    )
    out = leaves(normal(m, seed=6), "v")

    def together(W: Any, x: Any, U: Any, h: Any, b: Any) -> list[Value]:
        return [a + c for a, c in zip(linear(W, x, b), linear(U, h, [0.0] * m), strict=True)]

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


@case
def choices() -> Case:
    a, b = Value(0.5, label="a"), Value(-0.25, label="b")

    def loss(x: Any, y: Any) -> Value:
        lower = tg.where(x < y, a * x, b * y)
        return (
            lower
            + tg.where(a * x >= b, lower, tg.sin(a))
            + tg.where(x <= 0, b, 2.0)
            + tg.where(0.5 > y, 1, a) * tg.where(x, a, b)  # noqa: SIM300 - the number first
            + tg.where(x - y, tg.where(x > y, a, -1), b)
            + tg.where(x > -1, tg.log(x + 1.5), 0) * a
        )

    return loss, [a, b], [np.array([0.0, 1.0, -1.0, 0.5, 0.75]), np.array([0.0, 0.5, 1.0, 0.5, -0.5])]


@case
def extremes_of_different_kinds() -> Case:
    w, v = Value(0.25, label="w"), Value(0.5, label="v")

    def loss(x: Any) -> Value:
        alone = tg.max(-tg.cos(w), w, tg.cos(w)) + tg.max(abs(w), abs(w), w * 1.5) + tg.min(w * v, -v, 3)
        return (
            alone + tg.max(tg.sin(w * x), w, x, -w) + tg.min(w * x, w * x, v * x) + tg.logsumexp(w * x, v, w * x)
        )

    return loss, [v, w], [normal(4)]


@case
def clipped_and_piecewise() -> Case:
    w = leaves(eighths(4), "w")

    def loss(x: Any) -> Value:
        z = [p * n for p, n in zip(w, x, strict=True)]
        clipped = [tg.max(tg.min(a, 0.5), -0.5) for a in z]
        pieces = [tg.where(a > 0, a * a, tg.where(a < -0.25, -a, 0.5 * a)) for a in z]
        return tg.sum(clipped) + tg.sum(pieces) + tg.max(z) - tg.min(z)

    return loss, w, [eighths(5, 4, seed=1)]


@case
def constants_of_every_kind() -> Case:
    w, x0 = Value(0.75, label="w"), Value(1.5, label="a leaf that is not learned")

    def loss(x: Any) -> Value:
        kinds = [2, -0.5, Fraction(1, 3), np.float64(0.1), np.float32(0.25), np.int64(3), math.pi, Value(4), x0]
        products = (
            [c * w for c in kinds] + [w * c for c in kinds] + [w / c for c in kinds] + [c / (w + 2) for c in kinds]
        )
        sums = [c + x for c in kinds] + [x - c for c in kinds] + [c - w for c in kinds]
        powers = [w**2, w**-1, w**0.5, w**3, w**1, w**0, 2**w, w ** Fraction(1, 2), w**x0, x0**w, w ** Value(2.0)]
        return (
            tg.sum(products) + tg.sum(sums) * w + tg.sum(powers) + tg.exp(x0) * tg.sqrt(Value(2.0)) + tg.tanh(0.5)
        )

    return loss, [w], [normal(3)]


@case
def constant_factors_in_a_row() -> Case:
    w = leaves(normal(3), "w")

    def loss(x: Any) -> Value:
        a, b, c = (p * xi for p, xi in zip(w, x, strict=True))
        return (
            a * 1e30 * 1e20 * 1e-50 + 1e-50 * (1e20 * (1e30 * b)) + c * 1e30 / 1e-20 / 1e50 + (a + b) / 3 / 7 * 21
        )

    return loss, w, [normal(4, 3, seed=1)]


@case
def terms_that_are_neutral_or_vanish() -> Case:
    a, b, c = leaves(normal(3), "a")

    def loss(x: Any) -> Value:
        nothing = 0 * a + b * 0.0 + (a - a) + (c * x - c * x)
        return (
            1 * (a * x)
            + 0
            + (b + 0.0) / 1
            - -c
            + nothing
            + (x + a - x)
            + tg.sum([x])
            + tg.dot([a], [b])
            + tg.max(c)
        )

    return loss, [a, b, c], [normal(3)]


@case
def repeated_terms() -> Case:
    a, b = leaves(normal(2), "a")

    def loss(x: Any) -> Value:
        return (
            a + a + b + a + x + x + a * a * a + tg.sum([a, b, a]) + tg.dot([a, b, a], [a, a, b]) + tg.max(a, a) * b
        )

    return loss, [a, b], [normal(3)]


def norm_backward(upstream: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
    share = spread(upstream / out, inputs)
    return tuple(share * x for x in inputs)


def mish_backward(upstream: Any, out: Any, x: Any) -> tuple[Any, ...]:
    t, s = tanh(log1p(exp(x))), exp(x) / (1 + exp(x))
    return (upstream * (t + x * (1 - t * t) * s),)


def bent_backward(upstream: Any, out: Any, x: Any) -> tuple[Any, ...]:
    t = tanh(x)
    return (upstream * (t + x * (1 - t * t) * exp(x) + exp(x) * t),)


def shrunk_backward(upstream: Any, out: Any, x: Any, *, by: float) -> tuple[Any, ...]:
    return (upstream * where(abs(x) <= by, 0, 1 + 0 * x),)


def product_backward(upstream: Any, out: Any, *inputs: Any) -> tuple[Any, ...]:
    return tuple(upstream * math.prod(inputs[:i] + inputs[i + 1 :]) for i in range(len(inputs)))


def fused_backward(upstream: Any, out: Any, x: Any, y: Any, z: Any) -> tuple[Any, ...]:
    return upstream * y, upstream * x, upstream


@pytest.fixture(autouse=True, scope="module")
def rules_of_ones_own() -> Any:
    before = dict(tg.RULES)
    OWN["norm"] = tg.rule(
        lambda *inputs: sqrt(total(*[x * x for x in inputs])), backward=norm_backward, name="norm"
    )
    OWN["mish"] = tg.rule(lambda x: x * tanh(log1p(exp(x))), backward=mish_backward, name="mish")
    OWN["bent"] = tg.rule(lambda x: x * tanh(x), backward=bent_backward, name="bent")  # only the slope matters
    OWN["shrunk"] = tg.rule(shrunk, backward=shrunk_backward)
    OWN["product"] = tg.rule(lambda *inputs: math.prod(inputs), backward=product_backward, name="product")
    OWN["fused"] = tg.rule(lambda x, y, z: x * y + z, backward=fused_backward, name="fused")
    yield
    tg.RULES.clear()
    tg.RULES.update(before)


def shrunk(x: Any, *, by: float = 0.5) -> Any:
    return where(abs(x) <= by, 0 * x, where(x > 0, x - by, x + by))


OWN: dict[str, Rule] = {}


@case
def own_rule_of_one_input() -> Case:
    w = leaves(normal(3), "w")
    return lambda x: tg.sum([OWN["mish"](a * b) for a, b in zip(w, x, strict=True)]), w, [normal(4, 3, seed=1)]


@case
def own_rule_with_a_parameter() -> Case:
    w = leaves(normal(3), "w")

    def loss(x: Any) -> Value:
        z = [a * b for a, b in zip(w, x, strict=True)]
        return tg.sum([OWN["shrunk"](a) + 2 * OWN["shrunk"](a, by=0.125) for a in z])

    return loss, w, [normal(4, 3, seed=1)]


@case
def own_rule_of_three_inputs() -> Case:
    w = leaves(normal(3), "w")

    def loss(x: Any) -> Value:
        h: Any = Value(1.0)
        for a, b in zip(w, x, strict=True):
            h = OWN["fused"](a, b, h.tanh())
        return h * h

    return loss, w, [normal(4, 3, seed=1)]


@case
def own_rule_whose_slope_needs_numbers_twice() -> Case:
    w = leaves(normal(3), "w")
    return lambda x: tg.sum([OWN["bent"](a * b) for a, b in zip(w, x, strict=True)]), w, [normal(4, 3, seed=1)]


@case
def own_reduction() -> Case:
    W = leaves(normal(2, 3), "W")

    def loss(x: Any) -> Value:
        rows = [OWN["norm"](*[a * b for a, b in zip(row, x, strict=True)]) for row in W]
        return OWN["norm"](*rows, *x) + OWN["norm"](W[0][0], 2.0)

    return loss, flat(W), [normal(4, 3, seed=1)]


@case
def own_reduction_that_knows_no_arrays() -> Case:
    W = leaves(normal(2, 3), "W")

    def loss(x: Any) -> Value:
        return tg.sum([OWN["product"](*row, *x) for row in W]) + OWN["product"](W[0][0], x[1])

    return loss, flat(W), [normal(4, 3, seed=1)]


# --- Other programs: odd orders, sparse and ragged structure, no batch ------------------------------------------


@case
def columns_first() -> Case:
    W = leaves(normal(3, 4), "W")

    def loss(x: Any) -> Value:
        z: list[Any] = [0.0] * 4
        for i in range(3):
            for j in range(4):
                z[j] = z[j] + W[i][j] * x[i]
        return tg.sum([a.tanh() * (j + 1) for j, a in enumerate(z)])

    return loss, flat(list(zip(*W, strict=True))), [normal(4, 3, seed=1)]


@case
def reversed_lists() -> Case:
    W, b = leaves(normal(3, 4), "W"), leaves(normal(3, seed=1), "b")

    def loss(x: Any) -> Value:
        h = [a.sigmoid() for a in linear([row[::-1] for row in W[::-1]], x, b)]
        return tg.dot(h[::-1], b) + tg.dot(x[::-1], W[1])

    return loss, flat(W[::-1], b[::-1]), [normal(4, 4, seed=2)]


@case
def squares_modulo_n() -> Case:
    w = leaves(normal(7), "w")
    order = [i * i % 7 for i in range(7)]
    return lambda x: tg.sum([tg.sin(w[i] * x[j]) for i, j in enumerate(order)]), w, [normal(4, 7, seed=1)]


@case
def overlapping_windows_of_parameters() -> Case:
    w = leaves(normal(6), "w")
    return lambda x: tg.sum([tg.tanh(tg.dot(w[i : i + 3], x)) for i in range(4)]), w, [normal(4, 3, seed=1)]


@case
def every_other() -> Case:
    w = leaves(normal(8), "w")

    def loss(x: Any) -> Value:
        return tg.dot(w[::2], x[1::2]).tanh() + tg.dot(w[1::2], x[::2]) + tg.dot(w[::-3], x[2:5])

    return loss, w, [normal(4, 8, seed=1)]


@case
def triangular_matrix() -> Case:
    L = [leaves(normal(i + 1, seed=i), f"L{i}_") for i in range(4)]
    return lambda x: tg.sum([tg.dot(row, x[: len(row)]).tanh() for row in L]), flat(L), [normal(3, 4, seed=9)]


@case
def band_matrix() -> Case:
    D = leaves(normal(3, 5), "D")

    def loss(x: Any) -> Value:
        z = [sum(D[k][i] * x[i + k - 1] for k in range(3) if 0 <= i + k - 1 < 5) for i in range(5)]
        return tg.sum([a * a for a in z])

    return loss, used(loss, flat(D), [normal(1, 5)]), [normal(3, 5, seed=1)]


@case
def block_diagonal_matrix() -> Case:
    blocks = [leaves(normal(2, 2, seed=i), f"B{i}_") for i in range(3)]

    def loss(x: Any) -> Value:
        z = [tg.dot(row, x[2 * i : 2 * i + 2]) for i, block in enumerate(blocks) for row in block]
        return tg.logsumexp(z)

    return loss, flat(blocks), [normal(3, 6, seed=1)]


@case
def sparse_connections() -> Case:
    w, rng = leaves(normal(9), "w"), random.Random(3)
    lists = [rng.sample(range(5), k) for k in (1, 3, 2, 3)]

    def loss(x: Any) -> Value:
        left = iter(w)
        return tg.sum([tg.sum([next(left) * x[i] for i in some]).tanh() for some in lists])

    return loss, w, [normal(3, 5, seed=1)]


@case
def bilinear_form() -> Case:
    W = leaves(normal(3, 4), "W")

    def loss(x: Any, y: Any) -> Value:
        outer = tg.sum([W[i][j] * x[i] * y[j] for i in range(3) for j in range(4)])
        return outer * outer + tg.dot(x, [tg.dot(row, y) for row in W])

    return loss, flat(W), [normal(3, 3, seed=1), normal(3, 4, seed=2)]


@case
def gram_matrix_of_the_input() -> Case:
    W = leaves(normal(3, 3), "W")

    def loss(X: Any) -> Value:
        gram = [[tg.dot(a, b) for b in X] for a in X]
        return tg.sum([w * g.tanh() for w, g in zip(flat(W), flat(gram), strict=True)])

    return loss, flat(W), [normal(2, 3, 2, seed=1)]


@case
def a_matrix_between_its_input_and_itself() -> Case:
    W = leaves(normal(2, 3), "W")

    def loss(X: Any) -> Value:  # (W X) and (X W') of one X (3, 3)
        left = [[tg.dot(row, column) for column in zip(*X, strict=True)] for row in W]
        right = [[tg.dot(row, column) for column in W] for row in X]
        return tg.sum(
            [(a * b).tanh() for a, b in zip(flat(left), flat(list(zip(*right, strict=True))), strict=True)]
        )

    return loss, flat(W), [normal(3, 3, 3, seed=1)]


@case
def matrix_powers() -> Case:
    W = leaves(normal(3, 3) / 2, "W")

    def loss(x: Any) -> Value:
        for _ in range(3):
            x = [tg.dot(row, x) for row in W]
        return tg.sum(x)

    return loss, flat(W), [normal(3, 3, seed=1)]


@case
def radial_basis_functions() -> Case:
    C, a, s = leaves(normal(4, 2), "C"), leaves(normal(4, seed=1), "a"), Value(0.8, label="s")

    def loss(x: Any, y: Any) -> Value:
        distances = [tg.sum([(n - c) ** 2 for n, c in zip(x, center, strict=True)]) for center in C]
        return (tg.dot(a, [tg.exp(-d / (2 * s * s)) for d in distances]) - y) ** 2

    return loss, [s, *a, *flat(C)], [normal(4, 2, seed=2), normal(4, seed=3)]


@case
def mixture_of_normal_distributions() -> Case:
    m, s, p = leaves(normal(3), "m"), leaves(normal(3, seed=1), "s"), leaves(normal(3, seed=2), "p")

    def loss(x: Any) -> Value:
        logs = [q - t - ((x - a) / tg.exp(t)) ** 2 / 2 for a, t, q in zip(m, s, tg.log_softmax(p), strict=True)]
        return -tg.logsumexp(logs)

    return loss, flat(m, s, p), [normal(5, seed=3)]


@case
def polynomial() -> Case:
    c = leaves(normal(5), "c")

    def loss(x: Any) -> Value:
        powers = tg.sum([a * x**i for i, a in enumerate(c)])
        horner: Any = c[-1]
        for a in c[-2::-1]:
            horner = horner * x + a
        return powers * horner

    return loss, c, [normal(4, seed=1)]


@case
def newtons_iteration() -> Case:
    a = Value(2.5, label="a")

    def loss(x: Any) -> Value:
        for _ in range(5):
            x = (x + a / x) / 2
        return x

    return loss, [a], [np.array([1.0, 2.0, 3.0])]


@case
def a_long_chain() -> Case:
    w, b = Value(0.9, label="w"), Value(0.1, label="b")

    def loss(x: Any) -> Value:
        for _ in range(40):
            x = (w * x + b).tanh()
        return x

    return loss, [w, b], [normal(3)]


@case
def a_long_product_and_a_long_sum() -> Case:
    w = leaves(1 + normal(12) / 10, "w")

    def loss(x: Any) -> Value:
        product, running, sums = x, x, []
        for p in w:
            product, running = product * p, running + p
            sums.append(running)
        return product + tg.sum([a * a for a in sums]) / 100

    return loss, w, [normal(3, seed=1)]


@case
def variational_autoencoder() -> Case:
    encoder, decoder = shaken(nn.MLP(4, [3, 4], "tanh", rng=0)), shaken(nn.MLP(2, [3, 4], "tanh", rng=1))

    def loss(x: Any, noise: Any) -> Value:
        *mean, s, t = encoder(x)
        code = [m + tg.exp(d / 2) * n for m, d, n in zip(mean, (s, t), noise, strict=True)]
        prior = tg.sum([m * m + tg.exp(d) - d - 1 for m, d in zip(mean, (s, t), strict=True)]) / 2
        return nn.binary_cross_entropy_with_logits(decoder(code), x, reduction="sum") + prior

    bits = (normal(5, 4) > 0) * 1.0
    return loss, encoder.parameters() + decoder.parameters(), [bits, normal(5, 2, seed=1)]


@case
def a_pendulum_in_time() -> Case:
    length, friction, push = leaves(np.array([1.2, 0.1, 0.5]), "p")

    def loss(angle: Any, speed: Any) -> Value:
        energy = 0
        for t in range(6):
            speed = speed + 0.1 * (push * math.cos(0.3 * t) - friction * speed - 9.81 / length * tg.sin(angle))
            angle = angle + 0.1 * speed
            energy = energy + speed * speed
        return energy / 6 + angle**2

    return loss, [push, length, friction], [normal(4), normal(4, seed=1)]


@case
def experts_and_a_gate() -> Case:
    experts = [shaken(nn.Dense(2, 2, "tanh", rng=i)) for i in range(3)]
    gate = shaken(nn.Dense(2, 3, rng=9))

    def loss(x: Any) -> Value:
        mixed = zip(*[expert(x) for expert in experts], strict=True)
        return tg.sum([tg.dot(tg.softmax(gate(x)), column) for column in mixed])

    return loss, [p for module in (*experts, gate) for p in module.parameters()], [normal(4, 2)]


@case
def experts_of_different_kinds() -> Case:
    kinds = ("relu", "tanh", "sigmoid")
    experts = [shaken(nn.Dense(2, 2 + i, kind, rng=i)) for i, kind in enumerate(kinds)]

    def loss(x: Any) -> Value:
        together = flat([expert(x) for expert in experts])
        return tg.sum([a * a for a in together]) + tg.logsumexp(together[1::2])

    return loss, [p for module in experts for p in module.parameters()], [normal(4, 2)]


@case
def parameters_only() -> Case:
    w = leaves(normal(4), "w")

    def rosenbrock() -> Value:
        return tg.sum([100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in itertools.pairwise(w)])

    return rosenbrock, w, []


@case
def parameters_only_in_a_matrix_product() -> Case:
    A, B = leaves(normal(3, 2), "A"), leaves(normal(2, 3, seed=1), "B")

    def loss() -> Value:
        return tg.sum([tg.dot(row, column).tanh() for row in A for column in zip(*B, strict=True)])

    return loss, flat(A, B), []


@case
def a_root_without_the_batch() -> Case:
    w = leaves(normal(3), "w")
    return lambda x: tg.sum([p * p for p in w]), w, [normal(4, 2)]


@case
def the_parameter_itself() -> Case:
    w = Value(2.0, label="w")
    return lambda x: w, [w], [normal(3)]


@case
def one_parameter_one_product() -> Case:
    w = Value(2.0, label="w")
    return lambda x: w * x, [w], [normal(3)]


@case
def unlabelled_and_alike_labelled_parameters() -> Case:
    u, v, w, z = Value(0.5), Value(-1.0), Value(2.0, label="w"), Value(3.0, label="w")
    return lambda x: u * x + tg.tanh(v * w) * x + z, [z, w, v, u], [normal(3)]


@case
def labels_that_are_no_names() -> Case:
    labels = ["import", "np", "x-1", "", "α", "dw", "B", "3", "'quoted\"", "a\nb", "theta", "self"]
    w = [Value(0.1 * (i + 1), label=label) for i, label in enumerate(labels)]
    return lambda x: tg.sum([p.tanh() * x**i for i, p in enumerate(w)]), w, [normal(3)]


@case
def arguments_named_like_the_codes_own() -> Case:
    w = leaves(normal(3), "w")
    return lambda np, B, dW: tg.dot(w, [np, B, dW]).tanh(), w, [normal(3), normal(3, seed=1), normal(3, seed=2)]


@case
def large_and_small_numbers() -> Case:
    w = leaves(np.array([3e3, -4e3, 1e-3]), "w")

    def loss(x: Any) -> Value:
        z = [a * b for a, b in zip(w, x, strict=True)]
        return (
            tg.logsumexp(z) + tg.sum([tg.softplus(a) + tg.sigmoid(a) + tg.tanh(a) for a in z]) + tg.softmax(z)[1]
        )

    return loss, w, [normal(4, 3, seed=1)]


# --- All of these, compiled in every way ------------------------------------------------------------------------


each_case = pytest.mark.parametrize("name", CASES)


@each_case
def test_compiled_is_eager(name: str) -> None:
    function, parameters, batch = CASES[name]()
    compare(function, parameters, *batch)


@each_case
def test_compiled_in_single_precision_is_eager(name: str) -> None:
    function, parameters, batch = CASES[name]()
    for parameter in parameters:
        parameter.data = float(np.float32(parameter.data))
    batch = [a if a.dtype.kind == "i" else np.float32(a) for a in batch]
    step = compare(function, parameters, *batch, dtype="float32")
    assert step.value_and_grad(*batch)[1].dtype == np.float32


@each_case
def test_the_source_runs_on_its_own(name: str) -> None:
    function, parameters, batch = CASES[name]()
    step = tg.compile(function, parameters)
    value, gradients = step.value_and_grad(*batch)
    namespace: dict[str, Any] = {}
    exec(step.source, namespace)
    theta, gradient = np.array([p.data for p in parameters]), np.full(len(parameters), np.nan)
    run = namespace["build"](theta, len(batch[0]) if batch else 1)
    for _ in range(2):
        with np.errstate(all="ignore"):
            assert run(*[np.asarray(array, float) for array in batch], gradient) == value
        np.testing.assert_array_equal(gradient, gradients)


@each_case
def test_compiled_to_python_is_eager(name: str) -> None:
    function, parameters, batch = CASES[name]()
    compare(function, parameters, *batch, backend="python")


# --- Targets that change from call to call --------------------------------------------------------------------


SMALL = 1e-10
TARGETS = {
    "one-hot": one_hot(CLASSES, 3),
    "probabilities": np.random.default_rng(1).dirichlet([1, 1, 1], 5),
    "nearly one": one_hot(CLASSES, 3) * (1 + SMALL),
    "nearly one in one row": one_hot(CLASSES, 3) + np.outer(np.eye(5)[2], [0, SMALL, 0]),
    "weights": abs(normal(5, 3, seed=1)),
    "zeros": np.zeros((5, 3)),
    "negative": -one_hot(CLASSES, 3),
    "that cancel": np.tile([1.0, 1.0, -1.0], (5, 1)),
}


@pytest.mark.parametrize("first", TARGETS)
def test_no_target_is_taken_for_another(first: str) -> None:
    """The first call may see that rows sum to one, but no later call may rely on it."""
    model = shaken(nn.MLP(6, [4, 3], rng=0))
    parameters, X = model.parameters(), normal(5, 6)

    def loss(x: Any, y: Any) -> Value:
        return nn.cross_entropy(model(x), y)

    step = compare(loss, parameters, X, TARGETS[first])
    for targets in (*TARGETS.values(), TARGETS[first][::-1]):
        value, gradients = step.value_and_grad(X, targets)
        expected, sizes = eager(loss, parameters, [X, targets])
        for got, exact, size in zip([value, *gradients], expected, sizes, strict=True):
            assert_near(float(got), exact, size)


# --- Much without structure -----------------------------------------------------------------------------------


def test_a_thousand_operations_of_which_no_two_are_alike() -> None:
    """So many arrays that the source hands its buffers over in a list."""
    p = leaves(normal(4), "p")

    def tangle(x: Any) -> Value:
        nodes, rng = [*p, *x], random.Random(0)
        for i in range(400):
            a, b, c = nodes[-1], nodes[-1 - rng.randrange(4)], nodes[(7 * i) % len(nodes)]
            nodes.append(rng.choice([tg.sin, tg.tanh, tg.sigmoid])(a * c + b) if i % 2 else a - b * 0.5)
        return nodes[-1] + tg.sum(p)

    step = compare(tangle, p, normal(3, 3))
    assert len(step.groups) > 300
    assert "buffers[" in step.source
    assert "buffers[" not in compare(lambda x: tg.dot(p, x), p, normal(3, 4)).source


# --- Every rule in every place --------------------------------------------------------------------------------


EXPRESSIONS = [expression for name in TEMPLATES for expression in TEMPLATES[name]]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_rule_of_parameters_of_inputs_and_of_lists(expression: str) -> None:
    step = Program((0.0,) * 4, ((expression, (0, 1, 2, 3)),))
    p = leaves(normal(8, seed=3), "p")

    def alone() -> Value:
        return step(*p[:4]) + tg.sum(p)

    def mixed(x: Any) -> Value:
        return step(p[0], x[0], p[1], x[1]) * p[2] + step(x[2], p[3], x[3], p[4]) + tg.sum(p)

    def lists(x: Any) -> Value:
        rows = [step(p[i], x[i], p[i + 3], x[i + 1]) for i in range(3)]
        return tg.sum([(i + 1) * row for i, row in enumerate(rows)]) + step(p[7], p[6], *x[:2]) + tg.sum(p)

    X = normal(3, 4, seed=4)
    compare(alone, p)
    compare(mixed, p, X)
    compare(lists, p, X)


# --- Random programs --------------------------------------------------------------------------------------------


class Near(Number):
    """A float that notes how near it came to the kink of a rule, or to an equal number where it was compared."""

    nearest = math.inf

    @classmethod
    def note(cls, distance: float) -> None:
        if distance:  # exactly at a kink is no question of rounding
            cls.nearest = min(cls.nearest, abs(distance))

    @staticmethod
    def combine(rule: Rule, inputs: tuple[Any, ...]) -> "Near":
        numbers = [float(x.data) for x in inputs]
        out = rule.forward(*numbers)
        for place in [
            *(x - kink for x in numbers for kink in rule.kinks),
            *(x - out for x in numbers if rule.ties),
        ]:
            Near.note(place)
        if rule.name == "where":
            Near.note(numbers[0])
        return Near(out)

    def _compared(self, other: Any, by: Callable[[float, float], bool]) -> bool:
        other = other.data if isinstance(other, Near) else other
        Near.note(self.data - other)
        return by(self.data, other)

    # fmt: off
    def __lt__(self, other: Any) -> bool: return self._compared(other, lambda a, b: a < b)
    def __le__(self, other: Any) -> bool: return self._compared(other, lambda a, b: a <= b)
    def __gt__(self, other: Any) -> bool: return self._compared(other, lambda a, b: a > b)
    def __ge__(self, other: Any) -> bool: return self._compared(other, lambda a, b: a >= b)
    # fmt: on


def rounding_decides(program: Program, rows: list[list[float]]) -> bool:
    """Is the program so near a kink for one of these inputs that another order of a sum may decide otherwise?"""
    Near.nearest = math.inf
    for row in rows:
        program(*map(Near, row))
    return Near.nearest < 1e-9


class Split:
    """A program some of whose inputs are learned, the others come in batches: one by one, or in one list."""

    def __init__(self, program: Program, learned: list[bool], more: list[list[float]], in_a_list: bool):
        n = len(program.inputs)
        nodes = program.graph()
        below = set(topological_order(nodes[-1]))
        places = [i for i in range(n) if nodes[i] in below]
        self.program = program
        self.learned = [i for i in places if learned[i]] or places[:1]
        self.given = [i for i in range(n) if i not in self.learned]
        self.parameters = [Value(program.inputs[i], label=f"x{i}") for i in self.learned]
        self.rows = [
            list(program.inputs),
            *([row[i] if i in self.given else x for i, x in enumerate(program.inputs)] for row in more),
        ]
        table = np.array([[row[i] for i in self.given] for row in self.rows])
        self.batch = ([table] if in_a_list else list(table.T)) if self.given else []

    def __call__(self, *inputs: Any) -> Any:
        numbers = dict(zip(self.learned, self.parameters, strict=True))
        numbers |= zip(self.given, flat(*inputs), strict=True)
        return self.program(*[numbers[i] for i in range(len(numbers))])

    def __repr__(self) -> str:
        return f"{self.program!r}# learned: {', '.join(f'x{i}' for i in self.learned)}; batch: {self.batch!r}"


def splits(**kinds: Any) -> st.SearchStrategy[Split]:
    numbers = st.floats(-4, 4, allow_subnormal=False)
    return st.builds(
        Split,
        programs(**kinds),
        st.lists(st.booleans(), min_size=4, max_size=4),
        st.lists(st.lists(numbers, min_size=4, max_size=4), max_size=2),
        st.booleans(),
    )


@steady
@given(splits(), st.sampled_from(["numpy", "python"]))
def test_random_programs(split: Split, backend: str) -> None:
    if rounding_decides(split.program, split.rows):
        event("rounding decides on which side of a kink the program is")
        return
    compare(split, split.parameters, *split.batch, backend=backend)


@steady
@given(splits(max_nodes=24))
def test_all_results_of_random_programs(split: Split) -> None:
    if rounding_decides(split.program, split.rows):
        return

    def results(*inputs: Any) -> list[Any]:
        numbers = dict(zip(split.learned, split.parameters, strict=True))
        numbers |= zip(split.given, flat(*inputs), strict=True)
        return split.program.run([numbers[i] for i in range(len(numbers))])[::-1]

    if split.batch:
        compare_outputs(results, split.parameters, *split.batch)


# --- Random networks --------------------------------------------------------------------------------------------

LOSSES = {
    "mse": nn.mse,
    "huber": nn.huber,
    "mae": nn.mae,
    "binary": lambda p, t: nn.binary_cross_entropy_with_logits(p, t),
    "hinge": nn.hinge,
    "decay": lambda p, t: (p - t) ** 2,
}


@steady
@given(
    networks(),
    st.sampled_from(sorted(LOSSES)),
    st.lists(st.lists(st.integers(-16, 16).map(lambda n: n / 8), min_size=4, max_size=4), min_size=1, max_size=4),
    st.integers(0, 9),
)
def test_random_networks(net: nn.MLP, loss: str, rows: list[list[float]], seed: int) -> None:
    shaken(net, seed)
    parameters = net.parameters()
    decay = 0.1 if loss == "decay" else 0.0

    def mean(x: Any, y: Any) -> Value:
        error = LOSSES[loss](net(x), y)
        return error + decay * tg.sum([p * p for p in parameters]) if decay else error

    X, y = np.array(rows)[:, : net.n_inputs], np.array([1.0 if row[-1] > 0 else -1.0 for row in rows])
    compare(mean, parameters, X, y)


@steady
@given(networks(), st.lists(st.integers(-16, 16).map(lambda n: n / 8), min_size=3, max_size=3), st.integers(0, 9))
def test_random_networks_that_fit(net: nn.MLP, row: list[float], seed: int) -> None:
    """Where the loss is zero, its gradient is rounding alone, and no less right for that."""
    shaken(net, seed)
    X = np.array([row, row[::-1]])[:, : net.n_inputs]
    compare(lambda x, t: nn.mse(net(x), t), net.parameters(), X, np.array([net(x).data for x in X]))


@steady
@given(networks(), st.lists(st.integers(-16, 16).map(lambda n: n / 8), min_size=6, max_size=6), st.integers(1, 2))
def test_random_networks_on_rows_in_the_graph(net: nn.MLP, numbers: list[float], size: int) -> None:
    shaken(net)
    rows = [np.roll(numbers, i)[: net.n_inputs] for i in range(3 * size)]
    X = np.array(rows).reshape(size, 3, net.n_inputs)
    compare(lambda X: nn.mse([net(x) for x in X], [0.5, -1.0, 2.0]), net.parameters(), X)


# --- Convolutions, attention, recurrences of all small sizes ----------------------------------------------------


@steady
@given(
    st.tuples(st.integers(1, 2), st.integers(2, 4), st.integers(2, 4)),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(0, 1),
)
def test_convolutions(shape: tuple[int, ...], n: int, k: int, stride: int, padding: int) -> None:
    function, parameters, batch = convolution(shape, n, k, stride, padding)
    compare(function, used(function, parameters, batch), *batch)


@steady
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 2), st.booleans())
def test_attention(T: int, d: int, heads: int, causal: bool) -> None:
    function, parameters, batch = attention(T, d, heads, causal)
    compare(function, parameters, *batch)


@steady
@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.sampled_from(["elman", "gated", "last"]))
def test_recurrences(T: int, n: int, m: int, kind: str) -> None:
    function, parameters, batch = recurrence(T, n, m, kind)
    compare(function, parameters, *batch)


@steady
@given(
    st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=3),
    st.integers(1, 3),
    st.booleans(),
)
def test_embeddings(words: list[list[int]], d: int, shared: bool) -> None:
    table, other = nn.Embedding(5, d, rng=0), nn.Embedding(5, d, rng=1)

    def loss(context: Any) -> Value:
        rows = [table(context[0]), (table if shared else other)(context[1]), table(context[2])]
        return tg.sum([tg.tanh(tg.dot(a, b)) for a in rows for b in rows[1:]])

    parameters = table.parameters() + other.parameters() * (not shared)
    compare(loss, parameters, np.array(words))


# --- Random programs of lists: layers, windows, gathers in any order --------------------------------------------

WIDEST = 6


class Layers:
    """A list of numbers on which steps (name, i, j) act in turn, with weights from one pool.

    >>> Layers([("dense", 2, 1), ("relu", 0, 0), ("window", 2, 5)])
    """

    def __init__(self, steps: list[tuple[str, int, int]]):
        self.steps = steps
        self.pool = [Value(float(x), label=f"w{i}") for i, x in enumerate(normal(24, seed=5) / 2)]

    def __repr__(self) -> str:
        return f"Layers({self.steps!r})"

    def weights(self, n: int, i: int, j: int) -> list[Value]:
        """n weights from the pool: in a row, in strides, backwards, or all over the place."""
        strides = (1, -1, 2, 5, 7, 0)
        if j % 7 == 6:
            return [self.pool[(k * k + i) % 24] for k in range(n)]
        return [self.pool[(i + k * strides[j % 7]) % 24] for k in range(n)]

    def outputs(self, x: list[Any]) -> list[Any]:
        h = list(x)
        for name, i, j in self.steps:
            h = MOVES[name](self, h, i, j)[:WIDEST]
        return h

    def __call__(self, x: list[Any]) -> Any:
        """Each output with a factor of its own, so that none can stand for another; a weight is always there."""
        return tg.sum([(k + 1) * h for k, h in enumerate(self.outputs(x))]) + self.pool[0] * x[0]


def dense(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    n = 1 + i % 4
    w = net.weights(n * len(h), i, j)
    rows = [w[k * len(h) : (k + 1) * len(h)] for k in range(n)] if j % 2 else [w[k::n] for k in range(n)]
    return [tg.dot(row, h) for row in rows]


def summed(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    """Weighted sums as a loop writes them, of lists of unequal lengths."""
    return [
        sum(a * b for a, b in zip(net.weights(k + 1, i + k, j), h[: k + 1], strict=True)) for k in range(len(h))
    ]


def window(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    k, stride = 1 + i % min(3, len(h)), 1 + j % 2
    return [tg.dot(net.weights(k, i, j), h[s : s + k]) for s in range(0, len(h) - k + 1, stride)]


def normalised(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    mean = tg.sum(h) / len(h)
    inverse = 1 / tg.sqrt(tg.sum([(a - mean) ** 2 for a in h]) / len(h) + 1)
    return [(a - mean) * inverse for a in h]


def pooled(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    k = 1 + i % len(h)
    return [(tg.max if j % 2 else tg.min)(h[s : s + k]) for s in range(len(h) - k + 1)]


def mixed(net: Layers, h: list[Any], i: int, j: int) -> list[Any]:
    """Different operations side by side, which land in different groups."""
    kinds = (tg.tanh, tg.sin, tg.sigmoid, lambda a: a * a / 4, lambda a: 0.5 - a)
    return [kinds[(i + j * k) % 5](a) for k, a in enumerate(h)]


MOVES: dict[str, Callable[[Layers, list[Any], int, int], list[Any]]] = {
    "dense": dense,
    "summed": summed,
    "window": window,
    "gather": lambda net, h, i, j: [h[(i + k * (j - 3)) % len(h)] for k in range(1 + (i + j) % WIDEST)],
    "squares": lambda net, h, i, j: [h[(k * k + i) % len(h)] for k in range(len(h))],
    "reverse": lambda net, h, i, j: h[::-1],
    "twice": lambda net, h, i, j: h + h[j % len(h) :],
    "scale": lambda net, h, i, j: [a * b for a, b in zip(h, net.weights(len(h), i, j), strict=True)],
    "bias": lambda net, h, i, j: [a + b for a, b in zip(h, net.weights(len(h), i, j), strict=True)],
    "constant": lambda net, h, i, j: [a * (j - 3) / 2 + i for a in h],
    "constants": lambda net, h, i, j: [a * (k - i) / 4 + j * k for k, a in enumerate(h)],
    "padded": lambda net, h, i, j: [0.0] * (i % 3) + h + [1.0] * (j % 2),
    "weights": lambda net, h, i, j: h[:3] + net.weights(1 + i % 3, i, j),
    "tanh": lambda net, h, i, j: [tg.tanh(a) for a in h],
    "relu": lambda net, h, i, j: [tg.relu(a) for a in h],
    "mixed": mixed,
    "softmax": lambda net, h, i, j: tg.softmax(h),
    "norm": normalised,
    "pooled": pooled,
    "pairs": lambda net, h, i, j: [a * b / 2 for a in h[: 1 + i % 3] for b in h[j % len(h) :]],
    "differences": lambda net, h, i, j: [a - b for a, b in zip(h, h[1:] + h[:1], strict=True)],
    "running": lambda net, h, i, j: [tg.sum(h[: k + 1]) / 2 for k in range(len(h))],
    "total": lambda net, h, i, j: [*h, sum(h)],
}  # fmt: skip


def kink_is_near(root: Value) -> bool:
    """As `rounding_decides`, of a graph without comparisons."""
    for node in topological_order(root):
        if node.rule:
            numbers = [p.data for p in node.parents]
            places = [x - kink for x in numbers for kink in node.rule.kinks]
            places += [x - node.data for x in numbers if node.rule.ties]
            if any(0 < abs(place) < 1e-9 for place in places):
                return True
    return False


layers = st.lists(
    st.tuples(st.sampled_from(list(MOVES)), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=6
).map(Layers)
rows_of_numbers = st.lists(
    st.lists(st.integers(-16, 16).map(lambda n: n / 8), min_size=4, max_size=4), min_size=1, max_size=3
)


@steady
@given(layers, st.integers(1, 4), rows_of_numbers)
def test_random_layers(net: Layers, n: int, rows: list[list[float]]) -> None:
    X = np.array(rows)[:, :n]
    if any(kink_is_near(net(*one)) for one in examples_of([X])):
        event("rounding decides on which side of a kink the program is")
        return
    compare(net, used(net, net.pool, [X]), X)


def test_a_share_for_one_element_of_a_matrix_with_gaps() -> None:
    net = Layers([("scale", 2, 1), ("total", 0, 0), ("total", 0, 0), ("gather", 1, 1), ("dense", 2, 0)])
    X = normal(2, 2, 3)

    def loss(X: Any) -> Value:
        return tg.sum([net(x) for x in X]) + net(X[0]) * net(X[1])

    compare(loss, used(loss, net.pool, [X]), X)


@steady
@given(layers, st.integers(1, 4), rows_of_numbers)
def test_random_layers_on_rows_in_the_graph(net: Layers, n: int, rows: list[list[float]]) -> None:
    X = np.array([[row[:n], row[::-1][:n]] for row in rows])

    def loss(X: Any) -> Value:
        return tg.sum([net(x) for x in X]) + net(X[0]) * net(X[1])

    if any(kink_is_near(loss(*one)) for one in examples_of([X])):
        event("rounding decides on which side of a kink the program is")
        return
    compare(loss, used(loss, net.pool, [X]), X)


@steady
@given(layers, st.lists(st.integers(0, 40), min_size=1, max_size=7), rows_of_numbers)
def test_outputs_in_any_order(net: Layers, places: list[int], rows: list[list[float]]) -> None:
    """Results, inputs, weights and plain numbers, side by side and repeated."""

    def outputs(x: list[Any]) -> list[Any]:
        h = [*net.outputs(x), *x, *net.pool[:2], 2, -0.5, x[0] * net.pool[0]]
        return [h[place % len(h)] for place in places]

    compare_outputs(outputs, net.pool, np.array(rows))


@steady
@given(layers, st.integers(1, 3), rows_of_numbers)
def test_outputs_that_are_nested(net: Layers, n: int, rows: list[list[float]]) -> None:
    def outputs(x: list[Any]) -> Any:
        return [[h * p for h in net.outputs(x)] for p in net.pool[:n]]

    compare_outputs(outputs, net.pool, np.array(rows))


# --- Constants in float32 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("constant", [1e-50, -1e300, 1e-40, 4e38])
def test_a_constant_that_float32_cannot_hold_is_refused(constant: float) -> None:
    w = Value(0.0, label="w")
    with pytest.raises(
        tg.CompileError, match=r"float32 cannot hold the constant .*, which would be .*dtype=\"float64\""
    ):
        tg.compile(lambda x: tg.exp(w * x + constant), [w], dtype="float32").value_and_grad([1.0])


def test_a_logarithm_just_above_zero_is_right_or_refused() -> None:
    w = Value(0.0, label="w")
    value, gradient = tg.compile(lambda x: tg.log(tg.relu(w * x) + 1e-50), [w]).value_and_grad([1.0])
    assert (value, *gradient) == (math.log(1e-50), 0.0)
    with pytest.raises(tg.CompileError, match="float32 cannot hold the constant 1e-50, which would be 0 there"):
        tg.compile(lambda x: tg.log(tg.relu(w * x) + 1e-50), [w], dtype="float32").predict([1.0])


def test_a_softmax_of_masked_numbers_is_right_or_refused_in_float32() -> None:
    w = leaves(normal(3))

    def attended(mask: float) -> Any:
        def loss(x: Any) -> Value:
            return tg.dot(tg.softmax([p * xi + mask for p, xi in zip(w, x, strict=True)]), x)

        return tg.compile(loss, w, dtype="float32")

    value, gradient = attended(-1e30).value_and_grad(np.eye(3)[:1])
    assert np.isfinite([value, *gradient]).all()
    with pytest.raises(
        tg.CompileError, match=r"float32 cannot hold the constant -1e\+300, which would be -inf there"
    ):
        attended(-1e300).value_and_grad(np.eye(3)[:1])


@pytest.mark.parametrize("constant", [math.inf, math.nan, 0.0, 1e-37, 3e38, 0.1, 123456789.0])
def test_other_constants_are_no_problem_in_float32(constant: float) -> None:
    w = Value(1.0, label="w")
    step = tg.compile(lambda x: tg.where(x > 0, w * x, constant), [w], dtype="float32")
    assert step.value_and_grad([1.0])[0] == 1.0
    assert "raise" not in step.source


# --- The length of generated code -------------------------------------------------------------------------------

# Lines of code and buffers of the NumPy program; lines and characters of the Python program for one example.
# Better code lowers these numbers. Nothing may raise them unnoticed.
LENGTHS = {
    "cross_entropy_one_hot": ((64, 14), (96, 4041)),
    "cross_entropy_class_index": ((66, 15), (106, 4278)),
    "regression_huber": ((70, 15), (92, 3241)),
    "activation_gelu": ((146, 31), (108, 4796)),
    "a_small_convolutional_network": ((88, 19), (487, 22241)),
    "attention_of_two_heads": ((58, 13), (262, 10251)),
    "attention_causal": ((62, 15), (162, 5980)),
    "recurrence_with_gates": ((181, 43), (153, 5509)),
    "ties_of_max_and_min": ((155, 15), (46, 1425)),
    "mean_of_embeddings": ((59, 11), (71, 2020)),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_generated_code_gets_no_longer(name: str) -> None:
    function, parameters, batch = CASES[name]()
    step = tg.compile(function, parameters)
    step.value_and_grad(*batch)
    point = tg.compile(function, parameters, backend="python")
    point.value_and_grad(*(array[:1] for array in batch))
    codes = [
        [line.strip() for line in program.source.splitlines() if line.strip() and line.strip()[0] not in '#"']
        for program in (step, point)
    ]
    numpy_length = len(codes[0]), step.source.count("= np.empty(")
    assert (numpy_length, (len(codes[1]), sum(map(len, codes[1])))) == LENGTHS[name]


@pytest.mark.parametrize("shift", [-math.inf, math.inf])
def test_an_infinite_shift_does_not_cancel(shift):
    w = Value(0.5)

    def masked(a, b):
        return tg.softmax([w * a - shift, w * b - shift])[0]

    value, gradient = tg.compile(masked, [w]).value_and_grad([1.0], [2.0])
    assert math.isnan(masked(1.0, 2.0).data)
    assert math.isnan(value)
    assert np.isnan(gradient).all()
