"""What `step.groups` says of a compiled function: the table, the picture, and what there is without a renderer."""

import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparing import values
from programs import flat

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.compiler.find import loops
from tinygrad_edu.compiler.run.report import MOST, Groups
from tinygrad_edu.viz import render
from tinygrad_edu.viz.picture import Box

X = np.random.default_rng(0).normal(size=(2, 6))


def groups(function: Callable[..., Any], parameters: list[Value], *batch: Any) -> Groups:
    step = tg.compile(function, parameters)
    step.predict(*batch)
    table: Groups = step.groups
    return table


def weights(*shape: int) -> Any:
    return values(np.full(shape, 0.5))


def classifier() -> Groups:
    model = nn.MLP(6, [5, 3], rng=0)
    return groups(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), X, np.eye(3)[[0, 2]])


def rows(table: Groups) -> dict[str, list[str]]:
    """{name: the other cells of its row}; cells are two blanks apart, or where the head has its columns."""
    _, head, *lines = (line for line in str(table).splitlines() if line not in table.advice)
    starts = [head.index(column) for column in ("name", "operation", "reads", "shape", "stands for")]
    cut = [[line[i:j].strip() for i, j in zip(starts, [*starts[1:], None], strict=True)] for line in lines]
    return {name: cells for name, *cells in cut}


def boxes(table: Groups) -> dict[str, Box]:
    return {box.title: box for box in table.picture.boxes}


def operations(function: Callable[..., Any], parameters: Any, *batch: Any) -> list[str]:
    """What the groups that are computed are called, in order."""
    table = rows(groups(function, flat(parameters), *batch))
    return [cells[0] for cells in table.values() if cells[0] not in ("input", "parameter", "constant")]


TABLE = """\
162 nodes -> 12 groups, 2 matrix products
name         operation            reads               shape   stands for
X            input                                    (B, 6)  6 numbers
W1           parameter                                (5, 6)  30 numbers
b1           parameter                                (5)     5 numbers
Z1           matrix product + b1  X, W1, b1           (B, 5)  30 * and 30 +
A1           relu                 Z1                  (B, 5)  5 relu
W2           parameter                                (3, 5)  15 numbers
b2           parameter                                (3)     3 numbers
Z2           matrix product + b2  A1, W2, b2          (B, 3)  15 * and 15 +
logsumexp_1  logsumexp            Z2                  (B)     1 logsumexp
Y            input                                    (B, 3)  3 numbers
sum_1        dot product          Z2, Y               (B)     3 * and 2 +
loss         logsumexp_1 - sum_1  logsumexp_1, sum_1  (B)     1 -"""


def test_the_table_of_a_classifier_has_the_names_of_the_source_and_all_nodes() -> None:
    model = nn.MLP(6, [5, 3], rng=0)
    step = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters())
    step.value_and_grad(X, [0, 2])
    for name in rows(step.groups):
        assert re.search(rf"\b{name}\b", step.source), name
    table = classifier()
    assert str(table) == TABLE
    assert table.title == TABLE.splitlines()[0]
    assert len(table) == 12
    numbers = [int(n) for n in re.findall(r"(\d+) ", " ".join(cells[3] + " " for cells in rows(table).values()))]
    folded = 2  # the sum of a one-hot row, which is 1, and the product with it
    dots = 3 + 2 - 1  # a dot is one node
    assert sum(numbers) == 162 - folded + dots


@pytest.mark.parametrize(
    ("order", "text"),
    [
        (lambda x: x, "X[t]"),
        (lambda x: x[2:], "X[t + 2]"),
        (lambda x: x[::-1], "X[11 - t]"),
        (lambda x: x[1::2], "X[2 * t + 1]"),
        (lambda x: list(zip(*x, strict=True)), "X[:, t]"),
        (lambda x: [row[:1] for row in x], "X[t, 0]"),
        (lambda x: [x[t] for t in (0, 1, 3, 4, 7, 9)], "X"),
    ],
)
def test_what_a_stage_reads_has_a_subscript(order: Any, text: str) -> None:
    v = weights()

    def loss(x: Any) -> Value:
        h = [Value(0.0)] * 12
        for now in order(x):
            h = [tg.tanh(a * b + v) for a, b in zip(now, h, strict=False)]
        return tg.dot(h, h)

    operation, reads, *_ = rows(groups(loss, [v], np.ones((2, 12, 12))))["sum_1"]
    assert operation == f"{text} * tanh_1[t - 1] + b1"
    assert reads == f"{text}, tanh_1[t - 1], b1"


V = [Value(0.5, label=f"v{i}") for i in range(3)]


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: x[0] - V[0], ["X - v0"]),
        (lambda x: x[0] * V[0], ["X * v0"]),
        (lambda x: x[0] ** V[0], ["X ** v0"]),
        (lambda x: (x[0] * 2 - V[0]) ** 3, ["X * 2", "mul_1 - v0", "sub_1 ** 3"]),
        (lambda x: tg.where(x[0] < 3, V[0], x[1]), ["X < 3", "where(lt_1, v0, X)"]),
        (lambda x: tg.max(x[0], V[0]), ["max(X, v0)"]),
        (lambda x: tg.max(x[0], x[1], x[2]) - V[0], ["max", "max_1 - v0"]),
        (lambda x: x[0] + V[0], ["X + v0"]),
        (lambda x: tg.sum([*x, V[0]]), ["sum of X + v0"]),
        (lambda x: x[0] * V[0] + x[1] * V[1], ["dot product"]),
        (lambda x: x[0] * V[0] + 5, ["X * v0 + 5"]),
        (lambda x: V[0] * V[0] + V[1] * V[1] + x[0], ["sum of v ** 2 + X"]),
        (lambda x: tg.logsumexp(x) - V[0], ["logsumexp", "logsumexp_1 - v0"]),
        (lambda x: [tg.dot(x[i : i + 3], V) for i in range(4)], ["matrix product"]),
        (lambda x: [a * b for a, b in zip(x, [1, 2, 3, 4, 5, 6], strict=True)] + [V[0]], ["X * numbers"]),
    ],
)
def test_operations_as_a_person_says_them(function: Any, expected: list[str]) -> None:
    below = set(tg.topological_order(tg.sum(flat(function([Value(0.1) for _ in range(6)])))))
    assert operations(function, [v for v in V if v in below], X) == expected


def test_what_parameters_alone_decide_is_computed_once_per_call() -> None:
    w = [Value(1.0, label="w0"), Value(2.0, label="w1")]
    table = groups(lambda x: tg.dot(w, w) * 0.1 + tg.dot(w, x), w, X[:, :2])
    assert [cell for cell, *_ in rows(table).values() if "once" in cell] == ["sum of W1 ** 2, once per call"]
    assert [box.title for box in table.picture.boxes if "once per call" in box.details] == ["sum_1"]


def test_long_sums_and_long_tables_are_cut() -> None:
    w = Value(0.5, label="w")

    def chain(x: Any) -> Any:
        steps, rng = [x * w], random.Random(6)
        for _ in range(2 * MOST):
            steps.append(rng.choice([tg.tanh, tg.sin, tg.erf, tg.cos])(steps[-1]))
        return tg.sum(steps[-10:])

    table = groups(chain, [w], [0.5])
    lines = str(table).splitlines()
    assert len(lines) == 4 + 1 + MOST
    assert lines[4].split() == ["…", f"{len(table) - MOST}", "more"]
    assert lines[-1].split("  ")[-1] == "9 +"
    assert " + 6 more " in lines[-1]
    assert len(lines[-1]) < 120
    more, *others = table.picture.boxes
    assert (more.kind, more.title, len(others)) == ("more", f"… {len(table) - MOST} more", MOST)
    assert [arrow.tail for arrow in table.picture.arrows].count("more") == 1
    assert "more" in table.draw().source


def test_a_graph_without_structure_is_told_where_to_go() -> None:
    w = weights(40)

    def loss(x: Any) -> Value:
        for i, p in enumerate(w):
            x = tg.sin(x * p) if i.bit_count() % 2 else x * x - p  # no part comes three times in a row
        return x

    table = groups(loss, w, [0.5])
    _, first, second, head = str(table).splitlines()[:4]
    assert re.fullmatch(r"There is little structure in this graph: a group has \d\.\d nodes on average\.", first)
    assert second.startswith('For one example at a time, backend="python" is faster.')
    assert head.startswith("name")
    assert classifier().advice == groups(lambda x: x * w[0], w[:1], [0.5]).advice == []


def test_the_boxes_and_arrows_of_a_classifier() -> None:
    table = classifier()
    picture, of = table.picture, boxes(table)
    kinds = {
        "leaf": "X Y",
        "parameter": "W1 b1 W2 b2",
        "group": "Z1 Z2",
        "interior": "A1 logsumexp_1 sum_1",
        "result": "loss",
    }
    assert {title: box.kind for title, box in of.items()} == {
        name: kind for kind, names in kinds.items() for name in names.split()
    }
    assert (of["Z1"].operation, of["Z1"].details) == ("matrix product + b1", ("(B, 5)", "30 * and 30 +"))
    assert (of["A1"].operation, of["A1"].details) == ("relu", ("(B, 5)",))
    assert (of["W1"].operation, of["W1"].details) == ("", ("(5, 6)", "30 numbers"))
    names = {box.id: box.title for box in picture.boxes}
    arrows = {(names[arrow.tail], names[arrow.head]) for arrow in picture.arrows}
    assert len(arrows) == len(picture.arrows)
    assert arrows == {(read, name) for name, cells in rows(table).items() for read in cells[1].split(", ") if read}


def test_constants_are_no_boxes_and_told_from_inputs_of_their_name() -> None:
    w = Value(2.0, label="w")
    table = groups(lambda x: (w * x - 3) / 4, [w], [1.0])
    assert "numbers" in rows(table)
    assert list(boxes(table)) == ["w", "x", "mul_1", "sub_1", "loss"]
    assert [box.operation for box in table.picture.boxes] == ["", "", "w * x", "mul_1 - 3", "sub_1 / 4"]
    step = tg.compile(lambda numbers: sum(v * x * c for v, x, c in zip(V, numbers, (3, 1, 2), strict=True)), V)
    assert step.predict([[1.0, 10.0, 100.0]]) == [106.5]
    table = rows(step.groups)
    assert (table["numbers"][0], table["numbers_"][0]) == ("input", "constant")
    assert "numbers_ = np.array([" in step.source


def test_one_program_has_one_drawing() -> None:
    drawing = classifier().draw(rankdir="TB", format="png")
    assert (drawing.source, drawing.format) == (classifier().draw(rankdir="TB").source, "png")
    assert "rankdir=TB" in drawing.source
    with pytest.raises(ValueError, match='rankdir is "LR"'):
        classifier().draw(rankdir="up")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_notebook_shows_the_picture_with_graphviz_or_our_own_layout_and_keeps_the_table(
    is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_there:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(render, "_graphviz_pure", lambda: None)
    bundle = classifier()._repr_mimebundle_()
    assert bundle["text/plain"] == TABLE
    shown = "".join(ET.fromstring(bundle["image/svg+xml"]).itertext()).replace("\xa0", " ")
    for text in ("Z1", "matrix product + b1", "(B, 5)", "30 * and 30 +"):
        assert text in shown
    assert "grad" not in shown


# --- Passes ---------------------------------------------------------------------------------------------------
W, U = Value(0.5, label="w"), Value(-0.3, label="u")
BATCH = np.random.default_rng(0).normal(size=(2, 40))


def test_loops_are_looked_for_in_a_limited_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found until then stays a loop; the rest, a hundred additions to one gradient, is written out."""

    def several(xs: Any) -> Value:
        h, g = Value(0.0), Value(0.0)
        for i in range(16):
            h = tg.tanh(W * xs[i] + U * h)
            for j in range(i + 1):
                g = tg.tanh(g * W + h * xs[j])
        return g * h

    expected = tg.compile(several, [W, U]).value_and_grad(BATCH)
    monkeypatch.setattr(loops, "SECONDS", 0.0)
    step = tg.compile(several, [W, U])
    result = step.value_and_grad(BATCH)
    np.testing.assert_allclose(np.hstack(result), np.hstack(expected), rtol=1e-9)
    assert 1 <= step.source.count("for t in") <= 2  # forward and backward


def test_what_each_pass_made_can_be_read() -> None:
    u, v, w = (Value(x, label=name) for name, x in [("u", 0.5), ("v", -0.3), ("w", 2.0)])

    def loss(xs: Any) -> Value:
        h: Any = 0.0
        for x in xs:
            h = tg.tanh(tg.dot([v, w], x) + u * h)
        return h * h

    step = tg.compile(loss, [u, v, w])
    with pytest.raises(RuntimeError, match="Nothing is compiled yet"):
        _ = step.passes
    step.value_and_grad(BATCH.reshape(2, 20, 2))
    passes = step.passes
    assert list(passes) == ["groups", "statements", "fission", "gradient", "source"]
    assert passes["groups"] == str(step.groups)
    assert "for t in range(20):\n    sum_1[t] = xs[:, t] @ v + u * tanh_1[t]\n" in passes["statements"]
    assert (
        "vxs = xs.transpose(1, 0, 2) @ v\nfor t in range(20):\n    sum_1[t] = u * tanh_1[t] + vxs[t]\n"
        in passes["fission"]
    )
    assert passes["gradient"].startswith(passes["fission"] + "\ndtanh_1[20] = tanh_1[20] * (2 / B)\n")
    assert "for t in reversed(range(20)):\n    dsum_1[t] = dtanh_1[t + 1] * slope_1[t]\n" in passes["gradient"]
    assert passes["source"] == step.source
    step.predict(BATCH.reshape(2, 20, 2))
    assert "gradient" not in step.passes


def test_an_error_of_the_function_itself_is_no_pass_s() -> None:
    step = tg.compile(lambda x: [W * x, U], [W, U])
    with pytest.raises(TypeError, match="a gradient needs a single number"):
        step.value_and_grad([1.0])
