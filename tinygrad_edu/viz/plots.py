"""Plots of a network, as matplotlib Figures (extra `plot`): a notebook shows them, `savefig` writes them."""

import io
import math
from collections.abc import Sequence
from typing import Any

from ..engine.dispatch import plain


def layer_gradients(model: Any) -> dict[str, list[float]]:
    """The gradients of each layer's parameters, as they are now: {"layer0": [...], "layer1": [...]}.

    A layer is the first part of a parameter's name. Raises ValueError before any backward pass, when all are 0.
    """
    layers: dict[str, list[float]] = {}
    for name, parameter in model.named_parameters():
        layers.setdefault(name.partition(".")[0], []).append(float(parameter.grad))
    if not any(map(any, layers.values())):
        raise ValueError("All gradients are 0: call backward() on a loss of the model first.")
    return layers


def layer_outputs(model: Any, rows: Sequence[Any]) -> list[list[float]]:
    """The outputs of each layer of a model, for all rows together.

    Raises TypeError if the model has no `layers`, as a Sequential or an MLP has.
    """
    if not hasattr(model, "layers"):
        raise TypeError(f"{model!r} has no layers in a row, as a Sequential or an MLP has.")
    outputs: list[list[float]] = [[] for _ in model.layers]
    for row in rows:
        for numbers, layer in zip(outputs, model.layers, strict=True):
            row = layer(row)
            numbers += [plain(x) for x in row]
    return outputs


def gradient_histograms(model: Any) -> Any:
    """A Figure of log10 |gradient| per layer: vanishing and exploding gradients drift sideways.

    Raises ValueError if all gradients are 0, ImportError without matplotlib.
    """
    figure, axes = _figure("log10 |gradient|", "layers, the first at the bottom")
    layers = layer_gradients(model).items()
    _ridges(axes, {name: [math.log10(abs(x)) for x in xs if x and math.isfinite(x)] for name, xs in layers})
    return figure


def activation_histograms(model: Any, rows: Sequence[Any]) -> Any:
    """A Figure of the outputs of each layer for some rows: saturated units pile up at the ends, dead ones at 0.

    Raises TypeError if the model has no `layers`, ImportError without matplotlib.
    """
    figure, axes = _figure("output", "layers, the first at the bottom")
    _ridges(axes, {f"layer{i}": numbers for i, numbers in enumerate(layer_outputs(model, rows))})
    return figure


def decision_boundary(model: Any, X: Sequence[Sequence[float]], y: Sequence[Any], resolution: int = 60) -> Any:
    """The plane coloured by the class that the model gives each point, with the examples X (n, 2) of classes y.

    The class is the place of the largest output, or the sign of a single one. There are resolution**2 points.
    Raises ValueError unless X has two columns, ImportError without matplotlib.
    """
    import numpy as np
    from matplotlib import colormaps

    points = np.asarray(X, float)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"A decision boundary is drawn in the plane: X has shape (n, 2), not {points.shape}.")
    figure, axes = _figure("x", "y")
    low, high = points.min(axis=0) - 0.5, points.max(axis=0) + 0.5
    xs, ys = (np.linspace(a, b, resolution) for a, b in zip(low, high, strict=True))
    scores = np.array([[_scores(model([float(a), float(b)])) for a in xs] for b in ys])
    colours = colormaps["viridis"](np.linspace(0, 1, scores.shape[-1]))
    for place, colour in enumerate(colours):
        margin = scores[..., place] - np.delete(scores, place, axis=-1).max(axis=-1)  # above 0 where it wins
        if margin.max() > 0:
            axes.contourf(xs, ys, margin, levels=[0, margin.max()], colors=[colour], alpha=0.3)
    axes.scatter(points[:, 0], points[:, 1], c=np.asarray(y), cmap="viridis", edgecolors="white")
    return figure


def _scores(output: Any) -> list[float]:
    """A score for each class; a single output is that of the second one, against 0."""
    return [plain(x) for x in output] if hasattr(output, "__len__") else [0.0, plain(output)]


def empty_figure(width: float, height: float) -> Any:
    """A matplotlib Figure of this size in inches, which shows itself in any notebook.

    A plain Figure needs `%matplotlib inline`. Raises ImportError without matplotlib.
    """
    try:
        from matplotlib.figure import Figure as Base
    except ImportError as error:
        raise ImportError('Plots need matplotlib: pip install "tinygrad-edu[plot]"') from error

    class Figure(Base):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return Figure(figsize=(width, height), layout="constrained")


def _figure(x: str, y: str) -> tuple[Any, Any]:
    figure = empty_figure(5.0, 4.0)
    axes = figure.subplots()
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def _ridges(axes: Any, groups: dict[str, list[float]]) -> None:
    """One histogram per group, one above the other, with a mark at the median; all on one scale."""
    import numpy as np

    known = [x for numbers in groups.values() for x in numbers]
    bins = np.linspace(min(known), max(known) + 1e-9, 41)
    for place, numbers in enumerate(groups.values()):
        heights, _ = np.histogram(numbers, bins)
        axes.fill_between(bins[:-1], place, place + 0.9 * heights / max(1, heights.max()), step="post", alpha=0.7)
        if numbers:
            axes.plot([np.median(numbers)] * 2, [place, place + 0.9], color="black", linewidth=1)
    axes.set_yticks([place + 0.4 for place in range(len(groups))], list(groups))
