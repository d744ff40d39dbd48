"""History: what happened in a training, as data, as a table and as a plot."""

from dataclasses import dataclass, field
from typing import Any

from ..viz.words import columns

COLUMNS = ("epoch", "loss", "accuracy", "validation loss", "validation accuracy", "lr", "seconds")
NOT_ASKED = "compiled=False"


@dataclass
class History:
    """What `fit` did. It prints as a table.

    epochs         one dict per epoch: epoch, loss, accuracy, validation loss, validation accuracy, lr, seconds.
                   What was not measured is None. `history["loss"]` is a column
    stopped        why training ended early, "" if it did not
    found          what the compiler found in the graph, "" if training was not compiled
    eager_because  why training was not compiled, "" if it was
    film           the steps, if `fit` was asked for a film or a check; else None
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    stopped: str = ""
    found: str = ""
    eager_because: str = ""
    film: Any = field(default=None, repr=False, compare=False)

    @property
    def compiled(self) -> bool:
        """Did every step run on compiled arrays?"""
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
        """Loss and accuracy over the epochs, as a matplotlib Figure. Raises ImportError without matplotlib."""
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
