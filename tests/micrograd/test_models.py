"""Programs in the manner of microgpt: whole models in one file, trained with Adam."""

import itertools
import math
import random

import pytest
from micrograd_engines import MICROGPT, same_numbers, topological
from published import MicroGPT, linear, matrix, softmax

NAMES = ["emma", "olivia", "ava", "isabella", "sophia", "mia", "charlotte", "amelia", "harper", "evelyn"]
LETTERS = sorted(set("".join(NAMES)))
END = len(LETTERS)
TEXTS = [[END, *map(LETTERS.index, name), END] for name in NAMES]


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


def safe_log(x):
    """log by hand, kept away from 0."""
    clamped = max(x.data, 1e-10)
    return type(x)(math.log(clamped), (x,), (1 / clamped,))


def lstm(engine, width=6):
    """A recurrent network that reads names letter by letter and predicts the next one."""
    random.seed(1)
    sizes = {"out": (END + 1, width)} | {f"{gate}b": (1, width) for gate in "fiog"}
    sizes |= {f"{gate}x": (width, END + 1) for gate in "fiog"} | {f"{gate}h": (width, width) for gate in "fiog"}
    p = {name: matrix(*size, 0.3, engine.Value) for name, size in sizes.items()}

    def mixed(gate, x, h):
        rows = linear(x, p[gate + "x"]), linear(h, p[gate + "h"]), p[gate + "b"][0]
        return [a + b + c for a, b, c in zip(*rows, strict=True)]

    def losses():
        for text in TEXTS:
            h, c, losses = [engine.Value(0.0)] * width, [engine.Value(0.0)] * width, []
            for letter, following in itertools.pairwise(text):
                x = [1.0 if i == letter else 0.0 for i in range(END + 1)]
                forget, write, show = ([z.sigmoid() for z in mixed(gate, x, h)] for gate in "fio")
                candidate = [z.tanh() for z in mixed("g", x, h)]
                c = [f * ci + i * g for f, ci, i, g in zip(forget, c, write, candidate, strict=True)]
                h = [o * ci.tanh() for o, ci in zip(show, c, strict=True)]
                losses.append(-safe_log(softmax(linear(h, p["out"]))[following]))
            yield sum(losses) / len(losses)

    return train([x for rows in p.values() for row in rows for x in row], losses())


def microgpt(engine):
    """A transformer of one layer: rmsnorm, attention over the past, an MLP, residual connections."""
    model = MicroGPT(END + 1, n_embd=8, n_head=2, kind=engine.Value)
    return train(model.params, map(model.loss, TEXTS))


def backward_of_the_program(engine):
    """The loop of microgpt's backward in the program itself, over _children and _local_grads."""
    a, b = engine.Value(0.7), engine.Value(-1.2)
    y = (a * b + a.exp()).tanh() / (b**2 + 1).log() - a
    y.grad = 1
    for node in reversed(topological(y, "_children")):
        for child, local in zip(node._children, node._local_grads, strict=True):
            child.grad += local * node.grad
    return [y.data, a.grad, b.grad]


@pytest.mark.parametrize("program", [lstm, microgpt, backward_of_the_program])
def test_as_on_an_engine_of_local_derivatives(program):
    same_numbers(program, MICROGPT)
