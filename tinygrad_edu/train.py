"""fit: gradient descent over batches and epochs, with progress, validation, and a history of what happened."""

import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqdm.auto import tqdm

from .dispatch import plain
from .nn.modules import Module
from .value import Value

COLUMNS = ("epoch", "loss", "accuracy", "validation loss", "validation accuracy", "lr", "seconds")


@dataclass
class History:
    """What `fit` did: one dict per epoch in `epochs`, and in `stopped` why it ended early, "" if it did not.

    The keys are epoch, loss, accuracy, validation loss, validation accuracy, lr and seconds; what was not measured
    is None. `history["loss"]` is a column. It prints as a table; `plot()` draws it (extra `plot`).
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""

    def __getitem__(self, column: str) -> list[Any]:
        if column not in COLUMNS:
            raise KeyError(f"History has the columns {', '.join(COLUMNS)}, not {column!r}.")
        return [epoch[column] for epoch in self.epochs]

    def __len__(self) -> int:
        return len(self.epochs)

    def __repr__(self) -> str:
        shown = [column for column in COLUMNS if any(epoch[column] is not None for epoch in self.epochs)]
        rows = [shown, *([_cell(epoch[column], column) for column in shown] for epoch in self.epochs)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = (
            ["  ".join(map(str.rjust, row, widths)) for row in rows] if self.epochs else ["no epoch was finished"]
        )
        return "\n".join(lines + [f"stopped: {self.stopped}"] * bool(self.stopped))

    def plot(self) -> Any:
        """Loss and accuracy over the epochs, as a matplotlib Figure. Raises ImportError without that."""
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError('History.plot needs matplotlib: pip install "tinygrad-edu[plot]"') from error
        kinds = [kind for kind in ("loss", "accuracy") if any(x is not None for x in self[kind])]
        figure = Figure(figsize=(4.5 * max(1, len(kinds)), 3.2), layout="constrained")
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
    seed: int = 0,
    progress: bool = True,
) -> History:
    """Train a model by gradient descent: `loss(model(x), y)` is made small on average over the data.

    data and validation are pairs (X, y) of one length, one row and one target per example; of a `Dataset`, its
    training part. Each step uses the mean gradient of batch_size examples: 1 is stochastic, None full-batch
    gradient descent. The examples are shuffled anew in each epoch, by the seed. The graph of an example is dropped
    before the next one is made, so memory stays flat. With batched=True, model and loss take the rows of a whole
    batch at once, as BatchNorm needs it, and loss returns their mean.

    schedule(epoch) is a factor for the learning rate of that epoch, the first of which is 0. With patience,
    training stops after so many epochs in which the validation loss (without validation, the loss) has not become
    smaller, and the best parameters are put back. Accuracy is counted for class indices (the largest output is
    right) and if all targets are -1 or 1 (the sign is right). Ctrl-C ends training and keeps what was learned; a
    loss of nan or inf ends it with a warning that names the node to blame.

    Raises ValueError for data of two lengths, no data, or numbers out of range.
    """
    X, y = _examples(data, "data")
    held_out = None if validation is None else _examples(validation, "validation")
    if epochs < 1 or (batch_size is not None and batch_size < 1) or (patience is not None and patience < 1):
        raise ValueError(
            f"epochs, batch_size and patience are 1 or more, got {epochs!r}, {batch_size!r} and {patience!r}."
        )
    size, shuffling, base_rate, history = batch_size or len(X), random.Random(seed), optimizer.lr, History()
    best, best_epoch, best_numbers = math.inf, 0, [p.data for p in optimizer.parameters]
    try:
        for epoch in range(epochs):
            optimizer.lr = base_rate * (schedule(epoch) if schedule else 1.0)
            started = time.perf_counter()
            train_loss, accuracy = _epoch(
                model, loss, X, y, optimizer, size, shuffling, progress, epoch, epochs, batched
            )
            checked = (None, None) if held_out is None else evaluate(model, loss, held_out, batched)
            seconds = time.perf_counter() - started
            row = (epoch + 1, train_loss, accuracy, *checked, optimizer.lr, seconds)
            history.epochs.append(dict(zip(COLUMNS, row, strict=True)))
            watched = train_loss if checked[0] is None else checked[0]
            if watched < best:
                best, best_numbers, best_epoch = watched, [p.data for p in optimizer.parameters], epoch
            elif patience is not None and epoch - best_epoch >= patience:
                history.stopped = (
                    f"no improvement for {patience} epochs; the parameters are those of epoch {best_epoch + 1}"
                )
                for parameter, number in zip(optimizer.parameters, best_numbers, strict=True):
                    parameter.data = number
                break
    except KeyboardInterrupt:
        history.stopped = "interrupted; the parameters are those of the last step"
    except _Diverged as error:
        history.stopped = str(error)
        warnings.warn(history.stopped, stacklevel=2)
    finally:
        optimizer.lr = base_rate
        model.eval()
    return history


class _Diverged(Exception):
    """The loss is no number any more."""


def _epoch(
    model: Module,
    loss: Callable[[Any, Any], Value],
    X: Sequence[Any],
    y: Sequence[Any],
    optimizer: Any,
    size: int,
    shuffling: random.Random,
    progress: bool,
    epoch: int,
    epochs: int,
    batched: bool,
) -> tuple[float, float | None]:
    """One pass over the data. Returns the mean loss and the accuracy, both as the model was at each example."""
    order = list(range(len(X)))
    shuffling.shuffle(order)
    model.train()
    signs = _are_signs(y)
    total, hits, counted = 0.0, 0, 0
    with tqdm(total=len(X), desc=f"epoch {epoch + 1}/{epochs}", unit="example", disable=not progress) as bar:
        for batch in _batches(order, size):
            optimizer.zero_grad()
            for part in [batch] if batched else [[i] for i in batch]:
                outputs, value = _computed(model, loss, [X[i] for i in part], [y[i] for i in part], batched)
                if not math.isfinite(value.data):
                    raise _Diverged(_explained(value, optimizer))
                value.backward(len(part) / len(batch))
                total += float(value.data) * len(part)
                right = [is_right(output, y[i], signs) for output, i in zip(outputs, part, strict=True)]
                hits, counted = hits + right.count(True), counted + len(right) - right.count(None)
            optimizer.step()
            bar.update(len(batch))
            shown = {"loss": f"{total / bar.n:.4f}"} if bar.n else {}
            bar.set_postfix(shown | ({"accuracy": f"{hits / counted:.1%}"} if counted else {}), refresh=False)
    return total / len(X), hits / counted if counted else None


def _computed(model: Any, loss: Any, rows: list[Any], targets: list[Any], batched: bool) -> tuple[Any, Value]:
    """The outputs of some rows and their mean loss; one row if not batched."""
    outputs = model(rows) if batched else [model(rows[0])]
    return outputs, loss(outputs, targets) if batched else loss(outputs[0], targets[0])


def _batches(order: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _explained(value: Value, optimizer: Any) -> str:
    from .debug import blame

    found = blame(value, parameters=optimizer.parameters)
    return f"the loss is {value.data}; the parameters are those before it\n{found}"


def evaluate(
    model: Module, loss: Callable[[Any, Any], Value], data: Any, batched: bool = False
) -> tuple[float, float | None]:
    """The mean loss and the accuracy, None where there is none, of a model on data it is not trained on.

    Dropout and the like are switched off meanwhile. data is a pair (X, y); of a `Dataset`, its test part.
    """
    X, y = _examples(data, "data", test=True)
    model.eval()
    total, hits, signs = 0.0, [], _are_signs(y)
    for x, target in zip(X, y, strict=True):
        (output,), value = _computed(model, loss, [x], [target], batched)
        total += float(value.data)
        hits.append(is_right(output, target, signs))
    known = [hit for hit in hits if hit is not None]
    return total / len(X), sum(known) / len(known) if known else None


def _are_signs(targets: Sequence[Any]) -> bool:
    return all(not hasattr(target, "__len__") and plain(target) in (-1, 1) for target in targets)


def is_right(output: Any, target: Any, signs: bool) -> bool | None:
    """Is the class right: the largest of several outputs, or, where targets are signs, the sign of one?

    None if the target is no class, but a number to come near to.
    """
    number = plain(target)
    if hasattr(output, "__len__"):
        scores = [plain(x) for x in output]
        if hasattr(number, "__len__"):  # one probability per class
            return bool(scores.index(max(scores)) == list(number).index(max(number)))
        return bool(scores.index(max(scores)) == number)
    return bool((plain(output) > 0) == (number > 0)) if signs else None


def _examples(data: Any, what: str, test: bool = False) -> tuple[Any, Any]:
    """(X, y) as sequences of rows and targets: arrays become lists, whose numbers are plain floats and ints."""
    part = "test" if test else "train"
    X, y = (getattr(data, f"X_{part}"), getattr(data, f"y_{part}")) if hasattr(data, "X_train") else data
    X, y = (rows.tolist() if hasattr(rows, "tolist") else list(rows) for rows in (X, y))
    if len(X) != len(y) or not len(X):
        raise ValueError(f"{what} needs one target per row: {len(X)} rows and {len(y)} targets given.")
    return X, y
