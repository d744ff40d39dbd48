"""fit: gradient descent over batches and epochs, with progress, validation and a history."""

import contextlib
import functools
import gc
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

from ..debug.film import DEAD, Film, is_recorded, record
from ..engine.value import Value
from ..nn.base import Module
from .compiled import TOLERANCE, Forward
from .eager import Diverged, Task, evaluated, in_evaluation
from .history import COLUMNS, History
from .interrupts import Gate
from .learner import Learner

EAGER_BELOW = 100  # examples: evaluating fewer takes less time than compiling


def fit(
    model: Module,
    loss: Callable[[Any, Any], Value],
    data: Any,
    optimizer: Any,
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

    data and validation are pairs (X, y) of equal length: one row and one target per example. A `Dataset` stands
    for its training part. Each step uses the mean gradient of batch_size examples: 1 is stochastic, None is
    full-batch gradient descent. The seed shuffles the examples anew in each epoch. With batched=True, model and
    loss take the rows of a whole batch at once, as BatchNorm needs it, and loss returns their mean.

    Model, loss and optimiser are compiled (see `tg.compile`) and run on arrays, in float64 or float32. What does
    not compile, such as Dropout or a loss that branches on numbers, is trained on Values, with the same results up
    to rounding. Its memory stays flat: the graph of an example is dropped before the next one is made. Choose
    compiled=False where model or loss have side effects, such as printing or counting.

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
    explodes or is nan, or a unit has had no gradient for a whole epoch. The warning has the command that looks at
    this step, and `history.film` is the film.

    To resume a training, give the number of epochs that are done as start: schedule and shuffles go on from there.
    `model.save(path, optimizer)` saves it; after `model.load(path, optimizer)` it is optimizer.epochs.

    Raises TypeError for an argument of the wrong kind; ValueError for data of unequal lengths, empty data, numbers
    out of range, or an optimizer that holds no parameter of the model.
    """
    _check_arguments(model, loss, optimizer)
    X, y = _examples(data, "data")
    held_out = None if validation is None else _examples(validation, "validation")
    for name, count, least in (
        ("epochs", epochs, 1),
        ("start", start, 0),
        ("batch_size", batch_size, 1),
        ("patience", patience, 1),
    ):
        optional = name in ("batch_size", "patience")
        if not (optional and count is None) and not (isinstance(count, Integral) and count >= least):
            raise ValueError(f"{name} is a whole number of {least} or more, got {count!r}.")
    if check not in (None, "gradients"):
        raise ValueError(f'check is "gradients" or None, got {check!r}.')
    if film is not None and set(model.parameters()).isdisjoint(film.parameters):
        raise ValueError("The film records another model: make it with tg.debug.record(model).")
    if dtype not in TOLERANCE:
        raise ValueError(f'The dtype is "float64" or "float32", got {dtype!r}.')
    recorded = film is not None or check is not None or is_recorded(model)
    if backend not in ("numpy", "jax"):
        raise ValueError(f'The backend is "numpy" or "jax", got {backend!r}.')
    if backend == "jax" and (recorded or not compiled):
        raise ValueError('A film, a check and compiled=False run on Values: leave out backend="jax".')
    if backend == "numpy" and mesh is not None:
        raise ValueError('Only backend="jax" runs on a mesh.')
    way = backend if compiled and not recorded else ""
    size, orders, base_rate, history = batch_size or len(X), _orders(len(X), seed, start), optimizer.lr, History()
    best, best_epoch, best_numbers, learner = math.inf, start, [], None
    history.film = record(model) if check and film is None else film
    trouble = functools.partial(_trouble, history.film, max(DEAD, len(X)), film is not None) if check else None
    collecting, gate = gc.isenabled(), Gate()
    recording = contextlib.nullcontext() if history.film is None or history.film.running else history.film
    with gate.installed(), recording:
        try:
            model.train()
            task = Task(model, loss, X, y, optimizer, gate, batched, size, way, mesh, dtype, recorded, trouble)
            learner = Learner(task)
            best_numbers = learner.numbers()  # put back if no loss is below inf
            for epoch in range(start, start + epochs):
                optimizer.lr = base_rate * (schedule(epoch) if schedule else 1.0)
                started = time.perf_counter()
                title = f"epoch {epoch + 1}/{start + epochs}"
                train_loss, accuracy = _epoch(learner, next(orders), size, title, progress, gate)
                checked: tuple[float | None, float | None] = (None, None)
                if held_out:
                    with in_evaluation(model):
                        checked = learner.evaluate(*held_out)
                seconds = time.perf_counter() - started
                row = (epoch + 1, train_loss, accuracy, *checked, optimizer.lr, seconds)
                history.epochs.append(dict(zip(COLUMNS, row, strict=True)))
                optimizer.epochs = epoch + 1
                watched = train_loss if checked[0] is None else checked[0]
                if watched < best:
                    best, best_epoch = watched, epoch
                    best_numbers = learner.numbers() if patience else []
                elif patience is not None and epoch - best_epoch >= patience:
                    with gate:
                        learner.put_back(best_numbers)
                        kept = f"the parameters are those of epoch {best_epoch + 1}"
                        history.stopped = f"no improvement for {patience} epochs; {kept}"
                    break
        except KeyboardInterrupt:
            gate.clear()
            history.stopped = history.stopped or "interrupted; the parameters are those of the last step"
        except Diverged as error:
            history.stopped = str(error)
            warnings.warn(history.stopped, stacklevel=2)
        finally:
            with gate:
                if learner:
                    learner.close()
                    history.found, history.eager_because = learner.found, learner.eager_because
                optimizer.lr = base_rate
                model.eval()
                if collecting:  # an interrupt may have come just before the collector was to be switched on again
                    gc.enable()
    return history


def _trouble(film: Film, dead: int, given: bool) -> str:
    """What the film blames, with the command to look at it; "" if all is well."""
    found = film.blame(dead)
    if not found:
        return ""
    name = "film" if given else "history.film"
    return f"{found.events[0]}\n  look at it: tg.debug.run({name}.graph({found.step}))"


def _orders(n: int, seed: int, start: int) -> Iterator[list[int]]:
    """The order of the n examples in each epoch, from epoch `start` on."""
    shuffling = random.Random(seed)
    for epoch in itertools.count():
        order = list(range(n))
        shuffling.shuffle(order)
        if epoch >= start:
            yield order


def _epoch(
    learner: Learner, order: list[int], size: int, title: str, progress: bool, gate: Gate
) -> tuple[float, float | None]:
    """One pass over the examples in this order. Returns mean loss and accuracy, each measured before its step.

    Ctrl-C waits while the progress bar works. Else it could leave the lock of all bars locked, and every later bar
    of another thread would wait for ever.
    """
    n, total, hits, counted = len(order), 0.0, 0, 0
    bar: Any = None
    try:
        if progress:
            with gate:
                bar = tqdm(total=n, desc=title, unit="example")
        for start in range(0, n, size):
            batch = order[start : start + size]
            more, right, possible = learner.step(batch)
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
    model: Module,
    loss: Callable[[Any, Any], Value],
    data: Any,
    batched: bool = False,
    *,
    compiled: bool = True,
) -> tuple[float, float | None]:
    """(mean loss, accuracy) of a model on data that it is not trained on; None for accuracy without classes.

    data is a pair (X, y); a `Dataset` stands for its test part. The model is in evaluation meanwhile, so Dropout
    is off. Many examples are computed by a compiled program if model and loss compile, unless compiled=False.

    Raises TypeError for an argument of the wrong kind, ValueError for empty data or unequal lengths.
    """
    _check_loss(loss)
    X, y = _examples(data, "data", test=True)
    with in_evaluation(model):
        if compiled and len(X) >= EAGER_BELOW:
            with contextlib.suppress(Exception):  # on Values the same function may run, or raise the error again
                return Forward(model, loss, model.parameters(), batched, "float64").evaluate(X, y)
        return evaluated(model, loss, X, y, batched)


def _check_arguments(model: Any, loss: Any, optimizer: Any) -> None:
    _check_loss(loss)
    if not (hasattr(optimizer, "step") and hasattr(optimizer, "lr")):  # a class has no lr
        raise TypeError(
            f"optimizer is an object such as optim.SGD(model.parameters(), lr=0.1), got {_shown(optimizer)}."
        )
    own = set(model.parameters()) if hasattr(model, "parameters") else set()
    if own and own.isdisjoint(optimizer.parameters):
        raise ValueError("The optimizer holds no parameter of this model: make it with model.parameters().")


def _check_loss(loss: Any) -> None:
    if not callable(loss):
        raise TypeError(f"loss is a function such as nn.hinge, got {_shown(loss)}.")


def _shown(x: Any) -> str:
    """x in short, on one line."""
    return " ".join(reprlib.repr(x).split())


def _examples(data: Any, what: str, test: bool = False) -> tuple[Any, Any]:
    """(X, y) as sequences of rows and targets."""
    part = "test" if test else "train"
    try:
        X, y = (getattr(data, f"X_{part}"), getattr(data, f"y_{part}")) if hasattr(data, "X_train") else data
        if isinstance(X, str) or isinstance(y, str):  # the keys of a dict
            raise TypeError
        iter(X), iter(y)
    except (TypeError, ValueError):  # not two things, or no sequences
        raise TypeError(f"{what} is a pair (X, y) or a Dataset, got {_shown(data)}.") from None
    X, y = (rows if hasattr(rows, "tolist") else list(rows) for rows in (X, y))
    if len(X) != len(y) or not len(X):
        raise ValueError(f"{what} needs one target per row: {len(X)} rows and {len(y)} targets given.")
    return X, y
