"""The command train: train a network on one of the data sets."""

import itertools
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import datasets, nn, optim
from ..train import evaluate, fit
from ..viz.words import visible
from .folding import say


class Recipe(NamedTuple):
    """A data set and the choices that work well on it."""

    load: Callable[[int], datasets.Dataset]  # from a seed
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    schedule: optim.Schedule | None = None
    dtype: str = "float64"


def _moons(seed: int) -> datasets.Dataset:
    (X, y), (X_test, y_test) = (map(np.array, datasets.moons(100, seed=s)) for s in (seed, seed + 1))
    return datasets.Dataset("moons", X, (y + 1) // 2, X_test, (y_test + 1) // 2, ("upper", "lower"), (2,))


def _mnist(seed: int) -> datasets.Dataset:
    try:
        return datasets.mnist()
    except ValueError as error:  # a broken file, not a wrong argument
        raise RuntimeError(str(error)) from None


TASKS = {
    "moons": Recipe(_moons, (16, 16), 30, 10, 0.02),
    "iris": Recipe(lambda seed: datasets.iris(seed=seed, standardize=True), (8,), 30, 10, 0.02),
    "digits": Recipe(lambda seed: datasets.digits(seed=seed), (32,), 6, 16, 0.005),
    "mnist": Recipe(_mnist, (256,), 10, 128, 0.003, optim.cosine(10), "float32"),
}


def run(options: Namespace) -> None:
    """Train, print the history and the accuracy on the test part, and write the model.

    Raises RuntimeError for a broken data file, OSError if a file cannot be written.
    """
    started, task, seed = time.perf_counter(), TASKS[options.data], options.seed
    data = task.load(seed)
    *hidden, last = itertools.pairwise([data.X_train.shape[1], *task.hidden, len(data.class_names)])
    layers = [nn.Dense(*sizes, "relu", rng=seed + i) for i, sizes in enumerate(hidden)]
    model = nn.Sequential(*layers, nn.Dense(*last, rng=seed + len(layers)))
    optimizer, loss = optim.Adam(model.parameters(), task.lr), nn.cross_entropy
    say(f"{data}\n{model}: {len(optimizer.parameters):,} parameters, every one a Value")
    epochs, watched = options.epochs or task.epochs, sys.stderr.isatty()
    choices: dict[str, Any] = {"schedule": task.schedule, "dtype": task.dtype, "seed": seed, "progress": watched}
    history = fit(model, loss, data, optimizer, epochs, task.batch_size, **choices)
    say(f"{history.found}\n{history}")
    mean, accuracy = evaluate(model, loss, data)
    say(f"test loss {mean:.4f}, test accuracy {accuracy or 0:.2%} on {len(data.y_test):,} examples it never saw")
    say(f"{time.perf_counter() - started:.1f} s in all")
    if options.save:
        model.save(options.save)
        say(f"wrote {visible(str(options.save))}")
