"""Plots: their numbers, and that they are drawn."""

import math
import statistics
from typing import Any

import numpy as np
import pytest
from matplotlib import colormaps

from tinygrad_edu import datasets, nn, optim
from tinygrad_edu.train import fit
from tinygrad_edu.viz import plots

WIDTH, DEPTH = 8, 10
ROWS = [[((i * 7 + j * 3) % 11 - 5) / 5 for j in range(WIDTH)] for i in range(6)]


def after_backward(activation: str) -> nn.Sequential:
    layers = [nn.Dense(WIDTH, WIDTH, activation, rng=seed) for seed in range(DEPTH)]
    model = nn.Sequential(*layers, nn.Dense(WIDTH, 2, rng=99))
    nn.cross_entropy(model(ROWS), [0, 1, 0, 1, 0, 1]).backward()
    return model


def first_to_last(model: nn.Module) -> float:
    """The mean size of the gradients of the first layer, in units of that of the tenth."""
    sizes = [statistics.fmean(map(abs, gradients)) for gradients in plots.layer_gradients(model).values()]
    return sizes[0] / sizes[DEPTH - 1]


def test_the_gradients_of_ten_sigmoid_layers_vanish_and_those_of_relus_do_not() -> None:
    assert first_to_last(after_backward("sigmoid")) < 1e-5
    assert first_to_last(after_backward("relu")) > 1e-2


def drawn(figure: Any, tmp_path: Any) -> bytes:
    figure.savefig(tmp_path / "plot.png")
    return (tmp_path / "plot.png").read_bytes()


def test_histograms_are_drawn_per_layer(tmp_path: Any) -> None:
    model = after_backward("sigmoid")
    figure = plots.gradient_histograms(model)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [f"layer{i}" for i in range(DEPTH + 1)]
    medians = [line.get_xdata()[0] for line in figure.axes[0].lines]
    assert medians[0] < medians[5] < medians[DEPTH - 1]  # what vanishes drifts to the left
    assert drawn(figure, tmp_path).startswith(b"\x89PNG")
    figure = plots.activation_histograms(model, ROWS[:2])
    assert len(figure.axes[0].lines) == DEPTH + 1
    assert all(0 < line.get_xdata()[0] < 1 for line in figure.axes[0].lines[:DEPTH])


def test_the_decision_boundary_separates_the_moons(tmp_path: Any) -> None:
    X, y = datasets.moons(40, seed=0)
    model = nn.MLP(2, [8, 1], rng=0)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    options = {"epochs": 20, "batch_size": 10, "progress": False}
    history = fit(model, lambda s, t: (1 - t * s).relu(), (X, y), optimizer, **options)
    figure = plots.decision_boundary(model, X, y, resolution=20)
    assert len(figure.axes[0].collections[-1].get_offsets()) == 40
    assert drawn(figure, tmp_path).startswith(b"\x89PNG")
    lines = [line.get_label() for axes in history.plot().axes for line in axes.lines]
    assert lines == ["loss", "accuracy"]


def test_the_boundary_runs_between_the_points_of_the_grid() -> None:
    figure = plots.decision_boundary(lambda x: x[0] - 0.3 * x[1], [[0.0, 0.0], [1.0, 1.0]], [-1, 1], resolution=7)
    below, above, _ = figure.axes[0].collections
    for area, low, high in ((below, -0.5, 0.5), (above, 0.5, 1.5)):
        edge = [(x, y) for x, y in area.get_paths()[0].vertices if -0.5 < x < 1.5 and -0.5 < y < 1.5]
        assert edge
        assert all(math.isclose(x, 0.3 * y, abs_tol=1e-9) for x, y in edge)
        assert low <= float(np.median(area.get_paths()[0].vertices[:, 0])) <= high
    assert {tuple(below.get_facecolor()[0]), tuple(above.get_facecolor()[0])} == {
        (*colormaps["viridis"](place)[:3], 0.3) for place in (0.0, 1.0)
    }


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="All gradients are 0: call backward"):
        plots.layer_gradients(nn.Dense(2, 2, rng=0))
    with pytest.raises(TypeError, match="has no layers in a row"):
        plots.layer_outputs(nn.Dense(2, 2, rng=0), ROWS)
    with pytest.raises(ValueError, match=r"X has shape \(n, 2\), not \(1, 3\)"):
        plots.decision_boundary(nn.MLP(3, [1], rng=0), [[1.0, 2.0, 3.0]], [1])
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'Plots need matplotlib: pip install "tinygrad-edu\[plot\]"'):
        plots.gradient_histograms(after_backward("relu"))
