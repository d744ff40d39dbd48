"""The command train: train a network on one of the data sets."""

import itertools
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import datasets, nn, optim
from ..train import evaluate, fit
from ..viz.plots import empty_figure
from ..viz.words import visible
from .folding import folded

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "sgd": optim.SGD,
    "momentum": lambda parameters, lr: optim.SGD(parameters, lr, momentum=0.9),
    "rmsprop": optim.RMSProp,
    "adam": optim.Adam,
    "adamw": optim.AdamW,
}
SCHEDULES: dict[str, Callable[[int], optim.Schedule]] = {  # made from the number of epochs
    "constant": lambda epochs: optim.constant(),
    "step": lambda epochs: optim.step_decay(max(1, epochs // 3)),
    "exponential": lambda epochs: optim.exponential(0.9),
    "cosine": optim.cosine,
    "warmup": lambda epochs: optim.linear_warmup(max(1, epochs // 10)),
}


@dataclass(frozen=True)
class Task:
    """A data set and its default choices, which work well on it."""

    load: Callable[[int, int | None], tuple[Any, Any, int]]  # seed, limit -> (X, y) to train, to test, classes
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    schedule: str = "constant"
    dtype: str = "float64"


def _moons(seed: int, limit: int | None) -> tuple[Any, Any, int]:
    def part(n: int, part_seed: int) -> tuple[Any, Any]:
        X, y = datasets.moons(n, seed=part_seed)
        return X, [(t + 1) // 2 for t in y]

    return part(limit or 100, seed), part(100, seed + 1), 2


def _shipped(data: datasets.Dataset, limit: int | None) -> tuple[Any, Any, int]:
    train, test = (data.X_train[:limit], data.y_train[:limit]), (data.X_test[:limit], data.y_test[:limit])
    return train, test, len(data.class_names)


TASKS = {
    "moons": Task(_moons, (16, 16), 30, 10, 0.02),
    "iris": Task(
        lambda seed, limit: _shipped(datasets.iris(seed=seed, standardize=True), limit), (8,), 30, 10, 0.02
    ),
    "digits": Task(lambda seed, limit: _shipped(datasets.digits(seed=seed), limit), (32,), 6, 16, 0.005),
    "mnist": Task(
        lambda seed, limit: _shipped(datasets.mnist(limit=limit), None),
        (256,),
        10,
        128,
        0.003,
        "cosine",
        "float32",
    ),
}


def _all_devices() -> Any:
    """A mesh of all devices of JAX, which may then compute in float64."""
    from ..compiler.compiled_jax import import_jax

    jax = import_jax()
    jax.config.update("jax_enable_x64", True)
    return jax.make_mesh((jax.device_count(),), ("batch",))


def run(
    name: str,
    *,
    hidden: tuple[int, ...] | None,
    activation: str,
    optimizer: str,
    lr: float | None,
    schedule: str | None,
    epochs: int | None,
    batch_size: int | None,
    seed: int,
    limit: int | None,
    save: Path | None,
    plot: Path | None,
    backend: str,
) -> None:
    """Train, print the history and the accuracy on the test part, and write the model and the plot.

    Raises ImportError for a plot without matplotlib or "jax" without JAX, ValueError for a plot in a format that
    is not written, RuntimeError for a broken data file, OSError if a file cannot be written.
    """
    started = time.perf_counter()
    if plot:  # before the training
        formats = empty_figure(1, 1).canvas.get_supported_filetypes()
        if plot.suffix[1:] not in formats:
            raise ValueError(f"{plot.name!r} must end in one of {', '.join('.' + f for f in formats)}.")
    task, mesh = TASKS[name], _all_devices() if backend == "jax" else None
    try:
        data, test, n_classes = task.load(seed, limit)
    except ValueError as error:  # a broken file
        raise RuntimeError(str(error)) from None
    sizes, epochs = [len(data[0][0]), *(hidden or task.hidden), n_classes], epochs or task.epochs
    pairs = list(itertools.pairwise(sizes))
    layers = [nn.Dense(*pair, activation, rng=seed + i) for i, pair in enumerate(pairs[:-1])]
    model = nn.Sequential(*layers, nn.Dense(*pairs[-1], rng=seed + len(layers)))
    optimiser = OPTIMIZERS[optimizer](model.parameters(), task.lr if lr is None else lr)
    print(folded(f"{name}: {len(data[0]):,} examples to train, {len(test[0]):,} to test"))
    print(folded(f"{model}: {len(optimiser.parameters):,} parameters, every one a Value"))
    history = fit(
        model,
        nn.cross_entropy,
        data,
        optimiser,
        epochs,
        batch_size or task.batch_size,
        schedule=SCHEDULES[schedule or task.schedule](epochs),
        dtype=task.dtype,
        backend=backend,
        mesh=mesh,
        seed=seed,
        progress=sys.stderr.isatty(),
    )
    if history.compiled:
        print(folded(history.found + (f", on {mesh.size} device(s) of JAX" if mesh else "")))
    print(folded(str(history)))
    loss, accuracy = evaluate(model, nn.cross_entropy, test)
    print(
        folded(
            f"test loss {loss:.4f}, test accuracy {accuracy or 0:.2%} on {len(test[0]):,} examples it never saw"
        )
    )
    print(folded(f"{time.perf_counter() - started:.1f} s in all"))
    if save:
        model.save(save)
        print(folded(f"wrote {visible(str(save))}"))
    if plot:
        history.plot().savefig(plot)
        print(folded(f"wrote {visible(str(plot))}"))
