"""fit: gradient descent over batches and epochs, with progress, validation and a history."""

import contextlib
import gc
import inspect
import itertools
import math
import random
import reprlib
import time
import warnings
from collections.abc import Callable, Iterator
from numbers import Integral
from typing import Any

from tqdm.auto import tqdm

from ..engine.dispatch import without_frame
from ..engine.value import Value
from ..engine.watch import recorders
from ..nn.module import Module
from ..optim import Optimizer
from .history import COLUMNS, History
from .interrupts import Gate
from .on_arrays import TOLERANCE, Forward
from .on_values import Diverged, evaluated, in_evaluation
from .trainer import Trainer

EAGER_BELOW = 100  # examples: evaluating fewer takes less time than compiling
SILENT = 20  # examples, or one epoch if that is longer: a unit without a gradient for so many is dead
CALLED = "fit(model, loss, data, optimizer) computes loss(model(x), y) for each row x and target y"


def fit(
    model: Module,
    loss: Callable[[Any, Any], Value],
    data: Any,
    optimizer: Optimizer,
    epochs: int = 10,
    batch_size: int | None = 32,
    *,
    validation: Any = None,
    schedule: Callable[[int], float] | None = None,
    patience: int | None = None,
    batched: bool = False,
    compiled: bool = True,
    dtype: str = "float64",
    backend: str = "numpy",
    mesh: Any = None,
    seed: int = 0,
    start: int = 0,
    progress: bool = True,
    film: Any = None,
    check: str | None = None,
) -> History:
    """Train a model by gradient descent, so that the mean of `loss(model(x), y)` over the data becomes small.

    data and validation are pairs (X, y) of equal length: one row and one target per example, in lists, arrays,
    tensors, DataFrames or Series. A `Dataset` stands for its training part. Each step uses the mean gradient of
    batch_size examples: 1 is stochastic, None is full-batch gradient descent. The seed shuffles the examples anew
    in each epoch. With batched=True, model and loss take the rows of a whole batch at once, as BatchNorm needs it,
    and loss returns their mean.

    Model, loss and optimiser are compiled (see `tg.compile`) and run on arrays, in float64 or float32. Dropout
    draws the same numbers as on Values. What does not compile, such as an optimizer whose update branches, is
    trained on Values, with the same results up to rounding. Its memory stays flat: the graph of an example is
    dropped before the next one is made. Choose compiled=False where model or loss have side effects, such as
    printing or counting.

    With backend="jax" the steps run on JAX's first device, or on the devices of mesh, a jax.sharding.Mesh. Each
    batch is split along the mesh's first axis. What does not compile raises its error then, and the parameters'
    `grad` is left alone. Among several processes, each calls fit with the same arguments.

    schedule(epoch) is a factor for the learning rate of that epoch, which counts from 0. With patience, training
    stops after so many epochs without a smaller validation loss (without validation, training loss), and puts the
    best parameters back. Accuracy is counted for class indices (the largest output is right) and if all targets
    are -1 or 1 (the sign is right). Ctrl-C ends training between two steps and keeps what was learned. A loss of
    nan or inf ends it with a warning that names the node to blame. The model is in evaluation afterwards.

    film, made by `tg.debug.record(model)`, records each step on Values, with one graph per batch. With
    check="gradients" training ends, with a warning, before the first step that `film.blame()` names: a gradient
    explodes or is nan, or reaches no parameter. The warning says how to look at this step; `history.film` is the
    film.

    To resume a training, give the number of epochs that are done as start: schedule and shuffles go on from there.
    `model.save(path, optimizer)` saves it. After `model.load(path, optimizer)`, start is optimizer.epochs.

    Raises TypeError for an argument of the wrong kind; ValueError for data of unequal lengths, empty data, numbers
    out of range, or an optimizer that holds no parameter of the model.
    """
    _check_model(model, loss)
    own = set(model.parameters()) if hasattr(model, "parameters") else set()
    _check_optimizer(optimizer, own)
    if schedule and not callable(schedule):
        raise TypeError(f"schedule is a function such as optim.cosine(10), got {_shown(schedule)}.")
    X, y = _examples(data, "data")
    held_out = None if validation is None else _examples(validation, "validation")
    counts = {"epochs": epochs, "start": start, "batch_size": batch_size, "patience": patience}
    for name, count in counts.items():
        least, is_optional = int(name != "start"), name in ("batch_size", "patience")
        if not (is_optional and count is None) and not (isinstance(count, Integral) and count >= least):
            raise ValueError(f"{name} is a whole number of {least} or more, got {count!r}.")
    recorded = film is not None or check is not None or any(own.intersection(r.parameters) for r in recorders)
    on_other_film = film is not None and own.isdisjoint(getattr(film, "parameters", ()))
    for refused, sentence in (
        (check not in ("gradients", None), f'check is "gradients" or None, got {check!r}.'),
        (dtype not in list(TOLERANCE), f'The dtype is "float64" or "float32", got {dtype!r}.'),
        (backend not in ("numpy", "jax"), f'The backend is "numpy" or "jax", got {backend!r}.'),
        (on_other_film, "The film records another model: make it with tg.debug.record(model)."),
        (
            backend == "jax" and (recorded or not compiled),
            'A film, a check and compiled=False run on Values: leave out backend="jax".',
        ),
        (backend == "numpy" and mesh is not None, 'Only backend="jax" runs on a mesh.'),
    ):
        if refused:
            raise ValueError(sentence)
    size, orders, base_rate, history = batch_size or len(X), _orders(len(X), seed, start), optimizer.lr, History()
    best, best_epoch, best_numbers, trainer = math.inf, start, [], None
    film_name = "history.film" if film is None else "film"
    if check and film is None:
        from ..debug import record

        film = record(model)
    history.film = film

    def check_gradients() -> None:
        if blame := film.blame(max(SILENT, len(X))):
            raise Diverged(f"{blame.events[0]}\n  look at it: tg.debug.run({film_name}[{blame.step}])")

    collecting, gate = gc.isenabled(), Gate()
    recording = contextlib.nullcontext() if film is None or film.running else film
    with gate.installed(), recording:
        try:
            model.train()
            kind, checks = backend if compiled and not recorded else "", check_gradients if check else None
            task = (model, loss, X, y, optimizer, batched, size, backend, mesh, dtype, checks)
            trainer = Trainer(kind, recorded, gate, *task)
            best_numbers = trainer.do("numbers")  # put back if no loss is below inf
            for epoch in range(start, start + epochs):
                optimizer.lr = base_rate * (schedule(epoch) if schedule else 1.0)
                started = time.perf_counter()
                title = f"epoch {epoch + 1}/{start + epochs}"
                train_loss, accuracy = _epoch(trainer, next(orders), size, title, progress, gate)
                scores: tuple[float | None, float | None] = (None, None)  # of the validation
                if held_out:
                    with in_evaluation(model):
                        scores = trainer.do("evaluate", *held_out)
                row = (epoch + 1, train_loss, accuracy, *scores, optimizer.lr, time.perf_counter() - started)
                history.epochs.append(dict(zip(COLUMNS, row, strict=True)))
                optimizer.epochs = epoch + 1
                decisive = train_loss if scores[0] is None else scores[0]
                if decisive < best:
                    best, best_epoch = decisive, epoch
                    best_numbers = trainer.do("numbers") if patience else []
                elif patience is not None and epoch - best_epoch >= patience:
                    with gate:
                        trainer.do("put_back", best_numbers)
                        best_title = f"the parameters are those of epoch {best_epoch + 1}"
                        history.stopped = f"no improvement for {patience} epochs; {best_title}"
                    break
        except KeyboardInterrupt:
            gate.clear()
            history.stopped = history.stopped or "interrupted; the parameters are those of the last step"
        except Diverged as error:
            history.stopped = str(error)
            warnings.warn(history.stopped, stacklevel=2)
        finally:
            with gate:
                if trainer:
                    trainer.close()
                    history.found, history.eager_because = trainer.summary, trainer.eager_because
                optimizer.lr = base_rate
                model.eval()
                if collecting:  # an interrupt may have come just before the collector was to be switched on again
                    gc.enable()
    return history


def _orders(n: int, seed: int, start: int) -> Iterator[list[int]]:
    """The order of the n examples in each epoch, from epoch `start` on."""
    shuffling = random.Random(seed)
    for epoch in itertools.count():
        order = list(range(n))
        shuffling.shuffle(order)
        if epoch >= start:
            yield order


def _epoch(
    trainer: Trainer, order: list[int], size: int, title: str, progress: bool, gate: Gate
) -> tuple[float, float | None]:
    """One pass over the examples in this order. Returns mean loss and accuracy, each measured before its step.

    Ctrl-C waits while the progress bar works. Otherwise the lock of all bars could stay locked, and later bars of
    other threads would never start.
    """
    n, total, hits, counted = len(order), 0.0, 0, 0
    bar: Any = None
    try:
        if progress:
            with gate:
                bar = tqdm(total=n, desc=title, unit="example")
        for start in range(0, n, size):
            batch = order[start : start + size]
            more, right, possible = trainer.do("step", batch)
            total, hits, counted = total + more, hits + right, counted + possible
            if progress:
                shown = {"loss": f"{total / (start + len(batch)):.4f}"}
                shown |= {"accuracy": f"{hits / counted:.1%}"} if counted else {}
                with gate:
                    bar.set_postfix(shown, refresh=False)
                    bar.update(len(batch))
    finally:
        if bar is not None:
            with gate:
                bar.close()
    return total / n, hits / counted if counted else None


def evaluate(
    model: Module, loss: Callable[[Any, Any], Value], data: Any, batched: bool = False, *, compiled: bool = True
) -> tuple[float, float | None]:
    """(mean loss, accuracy) of a model on data that it is not trained on; None for accuracy without classes.

    data is a pair (X, y); a `Dataset` stands for its test part. The model is in evaluation meanwhile, so Dropout
    is off. Many examples are computed by a compiled program if model and loss compile, unless compiled=False.

    Raises TypeError for an argument of the wrong kind, ValueError for empty data or unequal lengths.
    """
    _check_model(model, loss)
    X, y = _examples(data, "data", test=True)
    with in_evaluation(model):
        if compiled and len(X) >= EAGER_BELOW:
            with contextlib.suppress(Exception):  # on Values the same function may run, or raise the error again
                return Forward(model, loss, model.parameters(), batched).evaluate(X, y)
        return evaluated(model, loss, X, y, batched)


def _check_model(model: Any, loss: Any) -> None:
    if not callable(loss):
        raise TypeError(f"loss is a function such as nn.hinge, got {_shown(loss)}: {CALLED}.")
    if not all(callable(getattr(model, name, None)) for name in ("__call__", "train", "eval")):
        raise TypeError(f"model is an nn.Module, got {_shown(model)}: {CALLED}.")
    with contextlib.suppress(ValueError):  # a function of C may have no signature
        try:
            inspect.signature(loss).bind(None, None)
        except TypeError as error:
            raise TypeError(f"loss takes an output and a target ({error}): {CALLED}.") from None


def _check_optimizer(optimizer: Any, own: set[Value]) -> None:
    if not (hasattr(optimizer, "step") and hasattr(optimizer, "lr")):  # a class has no lr
        raise TypeError(
            f"optimizer is an object such as optim.SGD(model.parameters(), lr=0.1), got {_shown(optimizer)}."
        )
    if own and own.isdisjoint(optimizer.parameters):
        raise ValueError("The optimizer holds no parameter of this model: make it with model.parameters().")


def _shown(x: Any) -> str:
    """x on one line, shortened."""
    return " ".join(reprlib.repr(x).split())


def _examples(data: Any, what: str, test: bool = False) -> tuple[Any, Any]:
    """(X, y) as sequences of rows and targets."""
    part = "test" if test else "train"
    try:
        X, y = (getattr(data, f"X_{part}"), getattr(data, f"y_{part}")) if hasattr(data, "X_train") else data
        if isinstance(X, str) or isinstance(y, str) or hasattr(data, "columns"):  # the keys of a dict or a frame
            raise TypeError
        iter(X), iter(y)
    except (TypeError, ValueError):  # not two things, or no sequences
        fix = ": write (frame[features], frame[target])" if hasattr(data, "columns") else ""
        raise TypeError(f"{what} is a pair (X, y) or a Dataset, got {_shown(data)}{fix}.") from None
    X, y = map(without_frame, (X, y))
    X, y = (rows if hasattr(rows, "tolist") else list(rows) for rows in (X, y))
    if len(X) != len(y) or not len(X):
        raise ValueError(f"{what} needs one target per row: {len(X)} rows and {len(y)} targets given.")
    return X, y
