"""fit: gradient descent over batches and epochs, with progress, validation, and a history of what happened."""

import contextlib
import math
import random
import reprlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from tqdm.auto import tqdm

from ..engine.value import Value
from ..nn.modules import Module
from ..viz.words import columns
from .learners import TOLERANCE, Diverged, Forward, Learner, evaluated

COLUMNS = ("epoch", "loss", "accuracy", "validation loss", "validation accuracy", "lr", "seconds")
NOT_ASKED = "compiled=False"
EAGER_BELOW = 100  # examples: an evaluation of fewer takes less time than to compile it


@dataclass
class History:
    """What `fit` did: one dict per epoch in `epochs`, and in `stopped` why it ended early, "" if it did not.

    The keys are epoch, loss, accuracy, validation loss, validation accuracy, lr and seconds; what was not measured
    is None. `history["loss"]` is a column. It prints as a table; `plot()` draws it (extra `plot`).

    If the training was compiled, `found` says what was found in the graph, else `eager_because` why it was not.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""
    found: str = ""
    eager_because: str = ""

    @property
    def compiled(self) -> bool:
        """Did it run on compiled arrays, from the first step to the last?"""
        return bool(self.found)

    def __getitem__(self, column: str) -> list[Any]:
        if column not in COLUMNS:
            raise KeyError(f"History has the columns {', '.join(COLUMNS)}, not {column!r}.")
        return [epoch[column] for epoch in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        shown = [column for column in COLUMNS if any(epoch[column] is not None for epoch in self.epochs)]
        rows = [shown, *([_cell(epoch[column], column) for column in shown] for epoch in self.epochs)]
        lines = columns(rows, ">" * len(shown)) if self.epochs else ["no epoch was finished"]
        lines += [f"trained eagerly: {self.eager_because}"] * (self.eager_because not in ("", NOT_ASKED))
        return "\n".join(lines + [f"stopped: {self.stopped}"] * bool(self.stopped))

    def plot(self) -> Any:
        """Loss and accuracy over the epochs, as a matplotlib Figure. Raises ImportError without that."""
        from ..viz.plots import empty_figure

        kinds = [kind for kind in ("loss", "accuracy") if any(x is not None for x in self[kind])]
        figure = empty_figure(4.5 * max(1, len(kinds)), 3.2)
        for axes, kind in zip(figure.subplots(1, max(1, len(kinds)), squeeze=False)[0], kinds, strict=False):
            for column, style in ((kind, "-"), (f"validation {kind}", "--")):
                if any(x is not None for x in self[column]):
                    axes.plot(self["epoch"], self[column], style, label=column)
            axes.set_xlabel("epoch")
            axes.set_ylabel(kind)
            axes.legend()
        return figure


def _cell(x: Any, column: str) -> str:
    if x is None:
        return ""
    return f"{x:.1%}" if "accuracy" in column else f"{x:.4g}"


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
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train a model by gradient descent: `loss(model(x), y)` is made small on average over the data.

    data and validation are pairs (X, y) of one length, one row and one target per example; of a `Dataset`, its
    training part. Each step uses the mean gradient of batch_size examples: 1 is stochastic, None full-batch
    gradient descent. The examples are shuffled anew in each epoch, by the seed. With batched=True, model and loss
    take the rows of a whole batch at once, as BatchNorm needs it, and loss returns their mean.

    Model, loss and optimiser are compiled (see `tg.compile`) and run on arrays, in float64 or float32. What does
    not compile, such as Dropout or a loss that branches on numbers, is trained eagerly, on floats, with the same
    results up to rounding: the graph of an example is dropped before the next one is made, so memory stays flat.
    With compiled=False all is: choose it where model or loss do more than to compute, as to print or to count.

    schedule(epoch) is a factor for the learning rate of that epoch, the first of which is 0. With patience,
    training stops after so many epochs in which the validation loss (without validation, the loss) has not become
    smaller, and the best parameters are put back. Accuracy is counted for class indices (the largest output is
    right) and if all targets are -1 or 1 (the sign is right). Ctrl-C ends training and keeps what was learned; a
    loss of nan or inf ends it with a warning that names the node to blame.

    Raises TypeError for an argument of another kind, ValueError for data of two lengths, no data, numbers out of
    range, or an optimizer that moves no parameter of the model.
    """
    _check_arguments(model, loss, optimizer)
    X, y = _examples(data, "data")
    held_out = None if validation is None else _examples(validation, "validation")
    for name, count in (("epochs", epochs), ("batch_size", batch_size), ("patience", patience)):
        given = name == "epochs" or count is not None
        if given and not (isinstance(count, Integral) and count >= 1):
            raise ValueError(f"{name} is a whole number of 1 or more, got {count!r}.")
    if dtype not in TOLERANCE:
        raise ValueError(f'The dtype is "float64" or "float32", got {dtype!r}.')
    size, shuffling, base_rate, history = batch_size or len(X), random.Random(seed), optimizer.lr, History()
    best, best_epoch, best_numbers, learner = math.inf, 0, [], None
    try:
        model.train()
        learner = Learner(model, loss, X, y, optimizer, size, batched, compiled, dtype)
        best_numbers = learner.numbers()  # put back if no loss is smaller than inf
        for epoch in range(epochs):
            optimizer.lr = base_rate * (schedule(epoch) if schedule else 1.0)
            started = time.perf_counter()
            title = f"epoch {epoch + 1}/{epochs}"
            train_loss, accuracy = _epoch(learner, len(X), size, shuffling, title, progress)
            checked: tuple[float | None, float | None] = (None, None)
            if held_out:
                model.eval()
                checked = learner.evaluate(*held_out)
                model.train()
            seconds = time.perf_counter() - started
            row = (epoch + 1, train_loss, accuracy, *checked, optimizer.lr, seconds)
            history.epochs.append(dict(zip(COLUMNS, row, strict=True)))
            watched = train_loss if checked[0] is None else checked[0]
            if watched < best:
                best, best_epoch = watched, epoch
                best_numbers = learner.numbers() if patience else []
            elif patience is not None and epoch - best_epoch >= patience:
                history.stopped = (
                    f"no improvement for {patience} epochs; the parameters are those of epoch {best_epoch + 1}"
                )
                learner.put_back(best_numbers)
                break
    except KeyboardInterrupt:
        history.stopped = "interrupted; the parameters are those of the last step"
    except Diverged as error:
        history.stopped = str(error)
        warnings.warn(history.stopped, stacklevel=2)
    finally:
        if learner:
            learner.close()
            history.found, history.eager_because = learner.found, learner.eager_because
        optimizer.lr = base_rate
        model.eval()
    return history


def _epoch(
    learner: Learner, n: int, size: int, shuffling: random.Random, title: str, progress: bool
) -> tuple[float, float | None]:
    """One pass over the n examples. Returns the mean loss and the accuracy, both as the model was at each."""
    order = list(range(n))
    shuffling.shuffle(order)
    total, hits, counted = 0.0, 0, 0
    with tqdm(total=n, desc=title, unit="example", disable=not progress) as bar:
        for start in range(0, n, size):
            batch = order[start : start + size]
            more, right, possible = learner.step(batch)
            total, hits, counted = total + more, hits + right, counted + possible
            if progress:
                shown = {"loss": f"{total / (start + len(batch)):.4f}"}
                bar.set_postfix(shown | ({"accuracy": f"{hits / counted:.1%}"} if counted else {}), refresh=False)
                bar.update(len(batch))
    return total / n, hits / counted if counted else None


def evaluate(
    model: Module,
    loss: Callable[[Any, Any], Value],
    data: Any,
    batched: bool = False,
    *,
    compiled: bool = True,
) -> tuple[float, float | None]:
    """The mean loss and the accuracy, None where there is none, of a model on data it is not trained on.

    Dropout and the like are switched off meanwhile. data is a pair (X, y); of a `Dataset`, its test part. Many
    examples are computed by a compiled program if model and loss compile, unless compiled=False.
    """
    _check_loss(loss)
    X, y = _examples(data, "data", test=True)
    was_training = model.training
    model.eval()
    try:
        if compiled and len(X) >= EAGER_BELOW:
            with contextlib.suppress(Exception):  # the same function may run eagerly, or tell its error there
                return Forward(model, loss, model.parameters(), batched, "float64").evaluate(X, y)
        return evaluated(model, loss, X, y, batched)
    finally:
        if was_training:
            model.train()


def _check_arguments(model: Any, loss: Any, optimizer: Any) -> None:
    _check_loss(loss)
    if not (hasattr(optimizer, "step") and hasattr(optimizer, "lr")):  # the class alone has no lr
        raise TypeError(
            f"optimizer is one such as optim.SGD(model.parameters(), lr=0.1), got {_shown(optimizer)}."
        )
    own = set(model.parameters()) if hasattr(model, "parameters") else set()
    if own and own.isdisjoint(optimizer.parameters):
        raise ValueError("The optimizer holds no parameter of this model: make it with model.parameters().")


def _check_loss(loss: Any) -> None:
    if not callable(loss):
        raise TypeError(f"loss is a function such as nn.hinge, got {_shown(loss)}.")


def _shown(x: Any) -> str:
    """x in a few words, on one line: arrays have several."""
    return " ".join(reprlib.repr(x).split())


def _examples(data: Any, what: str, test: bool = False) -> tuple[Any, Any]:
    """(X, y) as sequences of rows and targets."""
    part = "test" if test else "train"
    try:
        X, y = (getattr(data, f"X_{part}"), getattr(data, f"y_{part}")) if hasattr(data, "X_train") else data
        iter(X), iter(y)
    except (TypeError, ValueError):  # not two, or not of many
        raise TypeError(f"{what} is a pair (X, y) or a Dataset, got {_shown(data)}.") from None
    X, y = (rows if hasattr(rows, "tolist") else list(rows) for rows in (X, y))
    if len(X) != len(y) or not len(X):
        raise ValueError(f"{what} needs one target per row: {len(X)} rows and {len(y)} targets given.")
    return X, y
