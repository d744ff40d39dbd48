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
from ..viz.plots import empty_figure
from ..viz.words import visible
from .folding import say

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


Loaded = tuple[Any, Any, int]  # (X, y) to train on, (X, y) to test on, the number of classes


@dataclass(frozen=True)
class Task:
    """A data set and its default choices, which work well on it."""

    load: Callable[[int, int | None], Loaded]  # from a seed and a limit
    hidden: tuple[int, ...]
    epochs: int
    batch_size: int
    lr: float
    schedule: str = "constant"
    dtype: str = "float64"


def _moons(seed: int, limit: int | None) -> Loaded:
    def part(n: int, part_seed: int) -> tuple[Any, Any]:
        X, y = datasets.moons(n, seed=part_seed)
        return X, [(t + 1) // 2 for t in y]

    return part(limit or 100, seed), part(100, seed + 1), 2


def _shipped(data: datasets.Dataset, limit: int | None) -> Loaded:
    train, test = (data.X_train[:limit], data.y_train[:limit]), (data.X_test[:limit], data.y_test[:limit])
    return train, test, len(data.class_names)


def _iris(seed: int, limit: int | None) -> Loaded:
    return _shipped(datasets.iris(seed=seed, standardize=True), limit)


def _digits(seed: int, limit: int | None) -> Loaded:
    return _shipped(datasets.digits(seed=seed), limit)


def _mnist(seed: int, limit: int | None) -> Loaded:
    try:
        return _shipped(datasets.mnist(limit=limit), None)
    except ValueError as error:  # a broken file, not a wrong argument
        raise RuntimeError(str(error)) from None


TASKS = {
    "moons": Task(_moons, (16, 16), 30, 10, 0.02),
    "iris": Task(_iris, (8,), 30, 10, 0.02),
    "digits": Task(_digits, (32,), 6, 16, 0.005),
    "mnist": Task(_mnist, (256,), 10, 128, 0.003, "cosine", "float32"),
}


def _all_devices() -> Any:
    """A mesh of all devices of JAX, which may then compute in float64."""
    from ..compiler.compiled_jax import import_jax

    jax = import_jax()
    jax.config.update("jax_enable_x64", True)
    return jax.make_mesh((jax.device_count(),), ("batch",))


def run(options: Namespace) -> None:
    """Train, print the history and the accuracy on the test part, and write the model and the plot.

    What is None in the options is taken from the task. Raises ImportError for a plot without matplotlib or "jax"
    without JAX, ValueError for a plot in a format that is not written, RuntimeError for a broken data file,
    OSError if a file cannot be written.
    """
    started = time.perf_counter()
    given = {name: choice for name, choice in vars(options).items() if choice is not None}
    chosen = Namespace(**vars(TASKS[options.data]) | given)
    if options.plot:  # before the training
        formats = empty_figure(1, 1).canvas.get_supported_filetypes()
        if options.plot.suffix[1:] not in formats:
            raise ValueError(f"{options.plot.name!r} must end in one of {', '.join('.' + f for f in formats)}.")
    mesh = _all_devices() if options.backend == "jax" else None
    data, test, n_classes = chosen.load(options.seed, options.limit)
    *hidden, last = itertools.pairwise([len(data[0][0]), *chosen.hidden, n_classes])
    layers = [nn.Dense(*sizes, options.activation, rng=options.seed + i) for i, sizes in enumerate(hidden)]
    model = nn.Sequential(*layers, nn.Dense(*last, rng=options.seed + len(layers)))
    optimizer = OPTIMIZERS[options.optimizer](model.parameters(), chosen.lr)
    say(f"{options.data}: {len(data[0]):,} examples to train, {len(test[0]):,} to test")
    say(f"{model}: {len(optimizer.parameters):,} parameters, every one a Value")
    history = fit(
        model,
        nn.cross_entropy,
        data,
        optimizer,
        chosen.epochs,
        chosen.batch_size,
        schedule=SCHEDULES[chosen.schedule](chosen.epochs),
        dtype=chosen.dtype,
        backend=options.backend,
        mesh=mesh,
        seed=options.seed,
        progress=sys.stderr.isatty(),
    )
    if history.compiled:
        say(history.found + (f", on {mesh.size} device(s) of JAX" if mesh else ""))
    say(str(history))
    loss, accuracy = evaluate(model, nn.cross_entropy, test)
    unseen = f"{len(test[0]):,} examples it never saw"
    say(f"test loss {loss:.4f}, test accuracy {accuracy or 0:.2%} on {unseen}")
    say(f"{time.perf_counter() - started:.1f} s in all")
    if options.save:
        model.save(options.save)
        say(f"wrote {visible(str(options.save))}")
    if options.plot:
        history.plot().savefig(options.plot)
        say(f"wrote {visible(str(options.plot))}")
