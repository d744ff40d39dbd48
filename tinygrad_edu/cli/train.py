"""The command train: train a network on one of the data sets."""

import itertools
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import datasets, nn, optim
from ..train import evaluate, fit
from ..viz.words import visible
from .folding import say

Loaded = tuple[Any, Any, int]  # (X, y) to train on, (X, y) to test on, the number of classes


@dataclass(frozen=True)
class Recipe:
    """A data set and the choices that work well on it."""

    load: Callable[[int], Loaded]  # from a seed
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    schedule: optim.Schedule | None = None
    dtype: str = "float64"


def _moons(seed: int) -> Loaded:
    def part(part_seed: int) -> tuple[Any, Any]:
        X, y = datasets.moons(100, seed=part_seed)
        return X, [(t + 1) // 2 for t in y]

    return part(seed), part(seed + 1), 2


def _shipped(data: datasets.Dataset) -> Loaded:
    return (data.X_train, data.y_train), (data.X_test, data.y_test), len(data.class_names)


def _mnist(seed: int) -> Loaded:
    try:
        return _shipped(datasets.mnist())
    except ValueError as error:  # a broken file, not a wrong argument
        raise RuntimeError(str(error)) from None


TASKS = {
    "moons": Recipe(_moons, (16, 16), 30, 10, 0.02),
    "iris": Recipe(lambda seed: _shipped(datasets.iris(seed=seed, standardize=True)), (8,), 30, 10, 0.02),
    "digits": Recipe(lambda seed: _shipped(datasets.digits(seed=seed)), (32,), 6, 16, 0.005),
    "mnist": Recipe(_mnist, (256,), 10, 128, 0.003, optim.cosine(10), "float32"),
}


def run(options: Namespace) -> None:
    """Train, print the history and the accuracy on the test part, and write the model.

    Raises RuntimeError for a broken data file, OSError if a file cannot be written.
    """
    started, task, seed = time.perf_counter(), TASKS[options.data], options.seed
    data, test, n_classes = task.load(seed)
    *hidden, last = itertools.pairwise([len(data[0][0]), *task.hidden, n_classes])
    layers = [nn.Dense(*sizes, "relu", rng=seed + i) for i, sizes in enumerate(hidden)]
    model = nn.Sequential(*layers, nn.Dense(*last, rng=seed + len(layers)))
    optimizer = optim.Adam(model.parameters(), task.lr)
    say(f"{options.data}: {len(data[0]):,} examples to train, {len(test[0]):,} to test")
    say(f"{model}: {len(optimizer.parameters):,} parameters, every one a Value")
    history = fit(
        model,
        nn.cross_entropy,
        data,
        optimizer,
        options.epochs or task.epochs,
        task.batch_size,
        schedule=task.schedule,
        dtype=task.dtype,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    say(history.found)
    say(str(history))
    loss, accuracy = evaluate(model, nn.cross_entropy, test)
    say(f"test loss {loss:.4f}, test accuracy {accuracy or 0:.2%} on {len(test[0]):,} examples it never saw")
    say(f"{time.perf_counter() - started:.1f} s in all")
    if options.save:
        model.save(options.save)
        say(f"wrote {visible(str(options.save))}")
