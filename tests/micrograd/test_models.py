"""Programs in the manner of microgpt: whole models in one file, trained with Adam."""

import itertools
import math
import random

import pytest
from micrograd_engines import LECTURE, MICROGPT, same_numbers

NAMES = ["emma", "olivia", "ava", "isabella", "sophia", "mia", "charlotte", "amelia", "harper", "evelyn"]
LETTERS = sorted(set("".join(NAMES)))
END = len(LETTERS)
VOCABULARY = END + 1


def tokens(name):
    return [END, *map(LETTERS.index, name), END]


def matrix(Value, rows, columns, scale=0.3):
    return [[Value(random.gauss(0, scale)) for _ in range(columns)] for _ in range(rows)]


def linear(x, w):
    return [sum(wi * xi for wi, xi in zip(row, x, strict=True)) for row in w]


def softmax(logits):
    top = max(logit.data for logit in logits)
    exponentials = [(logit - top).exp() for logit in logits]
    total = sum(exponentials)
    return [e / total for e in exponentials]


def safe_log(x):
    """log by hand, kept away from 0."""
    kept = max(x.data, 1e-10)
    return type(x)(math.log(kept), (x,), (1 / kept,))


def flat(parameters):
    return [p for m in parameters.values() for row in m for p in row]


def train(parameters, losses, lr=0.02, b1=0.85, b2=0.99):
    """Adam with the moments in lists. Gives every loss, then the weights and the gradients of the last step."""
    m, v, numbers = [0.0] * len(parameters), [0.0] * len(parameters), []
    for step, loss in enumerate(losses):
        loss.backward()
        gradients = [p.grad for p in parameters]
        for i, p in enumerate(parameters):
            m[i] = b1 * m[i] + (1 - b1) * p.grad
            v[i] = b2 * v[i] + (1 - b2) * p.grad**2
            m_hat, v_hat = m[i] / (1 - b1 ** (step + 1)), v[i] / (1 - b2 ** (step + 1))
            p.data -= lr * m_hat / (v_hat**0.5 + 1e-8)
            p.grad = 0
        numbers.append(loss.data)
    return [*numbers, *[p.data for p in parameters], *gradients]


def cross_entropy(logits, target):
    return -safe_log(softmax(logits)[target])


# --- Sequences ----------------------------------------------------------------------------------------------


def sequence_model(engine, cell, gates, width=6, steps=10):
    """A recurrent network that reads names letter by letter and predicts the next one."""
    random.seed(1)
    p = {"out": matrix(engine.Value, VOCABULARY, width)}
    for gate in gates:
        p[gate + "x"], p[gate + "h"] = matrix(engine.Value, width, VOCABULARY), matrix(engine.Value, width, width)
        p[gate + "b"] = [[engine.Value(0.1) for _ in range(width)]]

    def mixed(gate, x, h):
        rows = linear(x, p[gate + "x"]), linear(h, p[gate + "h"]), p[gate + "b"][0]
        return [a + b + c for a, b, c in zip(*rows, strict=True)]

    def losses():
        for name in NAMES[:steps]:
            text, losses = tokens(name), []
            state = [engine.Value(0.0) for _ in range(width)], [engine.Value(0.0) for _ in range(width)]
            for letter, following in itertools.pairwise(text):
                x = [1.0 if i == letter else 0.0 for i in range(VOCABULARY)]
                state = cell(mixed, x, *state)
                losses.append(cross_entropy(linear(state[0], p["out"]), following))
            yield sum(losses) / len(losses)

    return train(flat(p), losses())


def rnn(engine):
    def cell(mixed, x, h, c):
        return [z.tanh() for z in mixed("h", x, h)], c

    return sequence_model(engine, cell, "h")


def gru(engine):
    def cell(mixed, x, h, c):
        update, reset = ([z.sigmoid() for z in mixed(gate, x, h)] for gate in "zr")
        candidate = [z.tanh() for z in mixed("n", x, [r * hi for r, hi in zip(reset, h, strict=True)])]
        return [(1 - z) * hi + z * n for z, hi, n in zip(update, h, candidate, strict=True)], c

    return sequence_model(engine, cell, "zrn")


def lstm(engine):
    def cell(mixed, x, h, c):
        forget, write, show = ([z.sigmoid() for z in mixed(gate, x, h)] for gate in "fio")
        candidate = [z.tanh() for z in mixed("g", x, h)]
        c = [f * ci + i * g for f, ci, i, g in zip(forget, c, write, candidate, strict=True)]
        return [o * ci.tanh() for o, ci in zip(show, c, strict=True)], c

    return sequence_model(engine, cell, "fiog")


def text_model(engine):
    """Two letters of context, an embedding, a hidden layer; at the end a name is sampled."""
    random.seed(5)
    p = {
        "embedding": matrix(engine.Value, VOCABULARY, 3),
        "hidden": matrix(engine.Value, 8, 6),
        "out": matrix(engine.Value, VOCABULARY, 8),
    }

    def probabilities(context):
        x = [number for letter in context for number in p["embedding"][letter]]
        return softmax(linear([h.tanh() for h in linear(x, p["hidden"])], p["out"]))

    def losses():
        for name in NAMES * 2:
            text = [END, *tokens(name)]
            picked = [probabilities(text[i : i + 2])[text[i + 2]] for i in range(len(text) - 2)]
            yield -(1 / len(picked)) * sum(x.log() for x in picked)

    numbers = train(flat(p), losses())
    text = [END, END]
    while len(text) < 10:
        weights = [x.data for x in probabilities(text[-2:])]
        text.append(random.choices(range(VOCABULARY), weights)[0])
    return [*numbers, *text]


def microgpt(engine, width=8, heads=2, steps=10):
    """A transformer of one layer: rmsnorm, attention over the past, an MLP, residual connections."""
    random.seed(42)
    size = width // heads
    p = {"wte": matrix(engine.Value, VOCABULARY, width, 0.08), "wpe": matrix(engine.Value, 12, width, 0.08)}
    p |= {name: matrix(engine.Value, width, width, 0.08) for name in ("q", "k", "v", "o")}
    p |= {"up": matrix(engine.Value, 2 * width, width, 0.08), "down": matrix(engine.Value, width, 2 * width, 0.08)}
    p["head"] = matrix(engine.Value, VOCABULARY, width, 0.08)

    def rmsnorm(x):
        scale = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** -0.5
        return [xi * scale for xi in x]

    def gpt(token, position, keys, values):
        x = rmsnorm([t + s for t, s in zip(p["wte"][token], p["wpe"][position], strict=True)])
        before, x = x, rmsnorm(x)
        q, k, v = (linear(x, p[name]) for name in "qkv")
        keys.append(k)
        values.append(v)
        attended = []
        for part in (slice(start, start + size) for start in range(0, width, size)):
            scores = [sum(a * b for a, b in zip(q[part], key[part], strict=True)) / size**0.5 for key in keys]
            weights = softmax(scores)
            for j in range(part.start, part.stop):
                attended.append(sum(w * value[j] for w, value in zip(weights, values, strict=True)))
        x = [a + b for a, b in zip(linear(attended, p["o"]), before, strict=True)]
        before = x
        x = linear([h.relu() for h in linear(rmsnorm(x), p["up"])], p["down"])
        return linear([a + b for a, b in zip(x, before, strict=True)], p["head"])

    def losses():
        for name in NAMES[:steps]:
            text, keys, values, losses = tokens(name), [], [], []
            for position in range(len(text) - 1):
                predicted = softmax(gpt(text[position], position, keys, values))
                losses.append(-predicted[text[position + 1]].log())
            yield 1 / len(losses) * sum(losses)

    return train(flat(p), losses())


# --- Images and decisions -----------------------------------------------------------------------------------


def stripes(n):
    """Images of 6 x 6 with a row or a column of ones, and which of the two it is."""
    for i in range(n):
        line = random.randrange(6)
        yield [[float((r, c)[i % 2] == line) for c in range(6)] for r in range(6)], i % 2


def cnn(engine):
    """Two kernels of 3 x 3, relu, max pooling of 2 x 2, a linear layer."""
    random.seed(2)
    p = {f"kernel{i}": matrix(engine.Value, 3, 3, 0.5) for i in range(2)} | {"out": matrix(engine.Value, 2, 8)}

    def convolved(image, kernel):
        def at(r, c):
            return sum(kernel[i][j] * image[r + i][c + j] for i in range(3) for j in range(3)).relu()

        return [[at(r, c) for c in range(4)] for r in range(4)]

    def pooled(rows):
        for r in (0, 2):
            for c in (0, 2):
                top = rows[r][c].max_with(rows[r][c + 1])
                yield top.max_with(rows[r + 1][c]).max_with(rows[r + 1][c + 1])

    def losses():
        for image, kind in stripes(8):
            features = [x for i in range(2) for x in pooled(convolved(image, p[f"kernel{i}"]))]
            yield cross_entropy(linear(features, p["out"]), kind)

    return train(flat(p), losses())


def vit(engine, width=4):
    """Four patches of an image as tokens: layernorm with gain and bias, attention, the mean of the tokens."""
    random.seed(3)
    p = {"patch": matrix(engine.Value, width, 9), "place": matrix(engine.Value, 4, width)}
    p |= {name: matrix(engine.Value, width, width) for name in ("q", "k", "v")}
    p["out"] = matrix(engine.Value, 2, width)
    p["gain"], p["bias"] = [[engine.Value(1.0) for _ in range(width)]], [[engine.Value(0.0) for _ in range(width)]]

    def layernorm(x):
        mean = sum(x) / len(x)
        variance = sum((xi - mean) ** 2 for xi in x) / len(x)
        scale = (variance + 1e-5) ** -0.5
        return [(xi - mean) * scale * g + b for xi, g, b in zip(x, p["gain"][0], p["bias"][0], strict=True)]

    def losses():
        for image, kind in stripes(6):
            patches = [[image[r + i][c + j] for i in range(3) for j in range(3)] for r in (0, 3) for c in (0, 3)]
            x = [
                layernorm([a + b for a, b in zip(linear(patch, p["patch"]), place, strict=True)])
                for patch, place in zip(patches, p["place"], strict=True)
            ]
            q, k, v = ([linear(token, p[name]) for token in x] for name in "qkv")
            attended = []
            for query in q:
                scores = [sum(a * b for a, b in zip(query, key, strict=True)) * width**-0.5 for key in k]
                weights = softmax(scores)
                columns = zip(*v, strict=True)
                attended.append([sum(w * x for w, x in zip(weights, column, strict=True)) for column in columns])
            pooled = [sum(column) / 4 for column in zip(*attended, strict=True)]
            yield cross_entropy(linear(layernorm(pooled), p["out"]), kind)

    return train(flat(p), losses())


def clipped_policy(engine):
    """A policy over three actions, improved by the clipped ratio of PPO, with a bonus for entropy."""
    random.seed(4)
    weights = matrix(engine.Value, 3, 2)
    reward = ((1.0, 0.0), 2), ((0.0, 1.0), 0)

    def losses():
        for _ in range(6):
            batch = [(x, best, random.randrange(3)) for x, best in reward * 3]
            old = [softmax(linear(x, weights))[action].data for x, _, action in batch]
            for _ in range(3):
                objective = 0
                for (x, best, action), before in zip(batch, old, strict=True):
                    predicted = softmax(linear(x, weights))
                    advantage = 1.0 if action == best else -0.5
                    ratio = predicted[action] / before
                    one, other = ratio * advantage, ratio.clip(0.8, 1.2) * advantage
                    objective += one if one.data < other.data else other
                    objective += 0.01 * -sum(q * safe_log(q) for q in predicted)
                yield -objective / len(batch)

    return train([w for row in weights for w in row], losses())


PROGRAMS = [rnn, gru, lstm, text_model, microgpt, cnn, vit, clipped_policy]


@pytest.mark.parametrize("program", PROGRAMS)
def test_as_on_an_engine_of_local_derivatives(program):
    same_numbers(program, MICROGPT)


def backward_of_the_program(engine):
    """The loop of microgpt's backward in the program itself, over _children and _local_grads."""
    a, b = engine.Value(0.7), engine.Value(-1.2)
    y = (a * b + a.exp()).tanh() / (b**2 + 1).log() - a
    order, visited = [], set()

    def visit(node):
        if node not in visited:
            visited.add(node)
            for child in node._children:
                visit(child)
            order.append(node)

    visit(y)
    y.grad = 1
    for node in reversed(order):
        for child, local in zip(node._children, node._local_grads, strict=True):
            child.grad += local * node.grad
    return [y.data, a.grad, b.grad]


def test_children_and_local_grads_can_be_read():
    same_numbers(backward_of_the_program, MICROGPT)


def text_model_of_closures(engine):
    """A bigram model with tanh between, plain gradient descent, on an engine of closures."""
    random.seed(6)
    first, second = matrix(engine.Value, 5, VOCABULARY), matrix(engine.Value, VOCABULARY, 5)
    parameters = [w for m in (first, second) for row in m for w in row]
    numbers = []
    for _ in range(4):
        total = 0
        for name in NAMES[:3]:
            for letter, following in itertools.pairwise(tokens(name)):
                hidden = [row[letter].tanh() for row in first]
                total += -softmax(linear(hidden, second))[following].log()
        for w in parameters:
            w.grad = 0.0
        total.backward()
        for w in parameters:
            w.data += -0.01 * w.grad
        numbers.append(total.data)
    return [*numbers, *[w.grad for w in parameters]]


def test_as_on_an_engine_of_closures():
    same_numbers(text_model_of_closures, LECTURE)
