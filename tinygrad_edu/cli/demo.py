"""The main job: what the engine does, in one run on real data."""

import sys
import time
from pathlib import Path
from typing import Any

from .. import nn, optim
from ..datasets import Dataset, digits
from ..engine.functions import tanh
from ..engine.value import Value
from ..testing import gradcheck
from ..train import evaluate, fit
from ..viz import draw, tree
from ..viz.words import visible
from .folding import say

HIDDEN, BATCH, LEARNING_RATE = 16, 4, 0.1


def run(epochs: int, seed: int, folder: Path) -> None:
    """Print an expression with its gradients, check them, train on the digits, draw one neuron into the folder.

    Raises ImportError or RuntimeError if nothing here can draw, OSError if a picture cannot be written.
    """
    say("An expression, with the gradient of the result for every node:\n")
    _expression()
    say("\nA network on real data:\n")
    train_digits(digits(seed=seed), epochs, seed)
    say("\nA picture of one neuron, with the gradients of its output:\n")
    _picture(folder)


def _expression() -> None:
    def f(a: Value, b: Value, c: Value) -> Value:
        return tanh(a * b + c) + a / c

    inputs = [Value(2.0, label="a"), Value(-3.0, label="b"), Value(7.0, label="c")]
    y = f(*inputs)
    y.label = "y"
    y.backward()
    print(tree(y))
    say("\nThe same gradients by finite differences of numbers with 50 digits:\n")
    say(repr(gradcheck(f, *inputs)))


def train_digits(data: Dataset, epochs: int, seed: int) -> None:
    """Train a small network by mini-batch gradient descent, on Values and compiled, and print the accuracies.

    On Values first, though it takes longer: a network that learns from scalars alone is the point of this package.
    """
    for compiled in (False, True):
        model = nn.MLP(data.X_train.shape[1], [HIDDEN, len(data.class_names)], rng=seed)
        optimizer, loss = optim.SGD(model.parameters(), lr=LEARNING_RATE), nn.cross_entropy
        if compiled:
            say("\n  The same network, compiled into array operations:\n")
        else:
            say(f"  {data}\n  {model}: {len(optimizer.parameters):,} parameters, every one a Value")
        started, watched = time.perf_counter(), sys.stderr.isatty()
        choices: dict[str, Any] = {"compiled": compiled, "seed": seed, "progress": watched}
        history = fit(model, loss, data, optimizer, epochs, BATCH, **choices)
        if history.stopped.startswith("interrupted"):
            raise KeyboardInterrupt
        seconds = time.perf_counter() - started
        _, accuracy = evaluate(model, loss, data, compiled=compiled)
        if compiled:
            say(f"  {history.found}")
        say(f"  test accuracy {accuracy:.1%} on {len(data.y_test)} images it never saw, after {seconds:.2g} s")


def _picture(folder: Path) -> None:
    neuron = nn.Neuron(2, "tanh", rng=0)
    out = neuron([Value(0.5, label="x0"), Value(-1.0, label="x1")])
    out.label = "out"
    out.backward()
    picture = draw(out)
    for format in ("svg", "png"):
        path = folder / f"graph.{format}"
        path.write_bytes(picture.pipe(format=format))
        say(f"  wrote {visible(str(path))}")
