"""Large graphs: what shares a box, in which order, that nothing is lost, and the line that says so."""

import random
import re
import shutil
import xml.etree.ElementTree as ET

import pytest
from graphs import SVG
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.viz import draw
from tinygrad_edu.viz.compose import picture_of


def moons(points=20, layers=(16, 16, 1)):
    X, y = tg.datasets.moons(points, seed=0)
    model = nn.MLP(2, layers, rng=0)
    loss = nn.hinge([model(x) for x in X], y) + 1e-4 * sum(p * p for p in model.parameters())
    loss.label = "loss"
    return loss


def titles(picture):
    return [" ".join(filter(None, [box.title, box.operation])) for box in picture.boxes]


def mixture(nodes, seed=0):
    rng = random.Random(seed)
    values = [Value(1.0), Value(2.0)]
    while len(values) < nodes:
        one, other = values[-1], values[-rng.randrange(1, min(len(values), 50))]
        values.append(rng.choice([one + other, one - other, one.tanh(), other.sin()]))
    return values[-1]


def test_a_graph_that_fits_is_drawn_whole_and_says_nothing():
    y = mixture(60)
    y.backward()
    picture = picture_of(y, {}, max_nodes=80)
    assert picture.note == ""
    assert len(picture.boxes) <= 80
    assert "showing" not in draw(y).source
    assert picture == picture_of(y, {})


def test_neurons_and_layers_of_a_kind_become_one_box():
    picture = picture_of(moons(), {}, max_nodes=80)
    named = titles(picture)
    assert named.count("Neuron ×16") == 2
    assert "neuron0" in named
    assert "relu ×20" in named
    assert named[-1] == "loss +"
    assert {box.scope for box in picture.boxes if box.title.startswith("Neuron")} == {("layer0",), ("layer1",)}
    picture = picture_of(moons(3, (2, 2, 1)), {}, max_nodes=40)
    neurons = [box.title for box in picture.boxes if box.title.startswith("neuron")]
    assert neurons == ["neuron1", "neuron0"] * 2 + ["neuron0"]

    def deep(layers):
        model = nn.MLP(1, [1] * layers, "tanh", rng=0)
        return model([Value(1.0, label="x")])

    assert "Neuron ×1" not in draw(deep(30), max_nodes=50).source
    assert [title for title in titles(picture_of(deep(30), {}, max_nodes=50)) if "neuron0" in title]
    assert "Layer ×30" in titles(picture_of(deep(30), {}, max_nodes=10))


def test_repeated_structure_without_labels_and_leaves_of_one_name():
    x = y = Value(0.5)
    for _ in range(1000):
        y = y + x
    assert titles(picture_of(y, {}, max_nodes=10)) == ["", "+ ×999", "+"]
    chain = Value(0.5)
    for _ in range(1000):
        chain = chain.tanh()
    assert titles(picture_of(chain, {}, max_nodes=10)) == ["", "tanh ×999", "tanh"]
    xs = [Value(float(i), label=f"x{i}") for i in range(100)]
    assert titles(picture_of(tg.sum([x * x for x in xs]), {}, max_nodes=10)) == ["x ×100", "* ×100", "+"]


def test_where_nothing_repeats_the_part_near_the_root_is_shown():
    picture = picture_of(mixture(2000), {}, max_nodes=30)
    total = len(tg.topological_order(mixture(2000)))
    assert len(picture.boxes) == 30
    (more,) = (box for box in picture.boxes if box.kind == "more")
    assert more.title == f"… {more.size:,} more"
    grouped = sum(box.size for box in picture.boxes if box.id[0] == "g")
    assert picture.note.startswith(f"showing {total - grouped} of {total:,}")
    assert not [arrow for arrow in picture.arrows if arrow.head == more.id]


def test_the_line_counts_what_is_shown_and_what_is_not():
    loss = moons(40)
    note = picture_of(loss, {}, max_nodes=80).note.split("\n")[0]
    shown, total, rest, groups = re.fullmatch(
        r"showing ([\d,]+) of ([\d,]+) nodes, the other ([\d,]+) as (\d+) groups", note
    ).groups()
    assert int(total.replace(",", "")) == len(tg.topological_order(loss))
    assert int(shown) + int(rest.replace(",", "")) == int(total.replace(",", ""))
    assert note in draw(loss).source
    assert note.encode() in draw(loss).pipe()
    assert int(groups) <= 80


def test_a_group_shows_its_largest_gradient_and_paths():
    loss = moons()
    assert {box.grad for box in picture_of(loss, {}, max_nodes=80).boxes} == {"–"}
    loss.backward()
    (group,) = (box for box in picture_of(loss, {}, max_nodes=80).boxes if box.operation == "relu ×20")
    assert group.grad == "0.05"
    loss = moons()
    picture = picture_of(loss, {}, max_nodes=80, paths={(loss, 0)})
    assert [arrow.head for arrow in picture.arrows if arrow.marked] == [picture.boxes[-1].id]
    assert "showing" in draw(moons(), style="micrograd", slopes=True).source
    assert "Neuron ×16" in draw(moons(), style="micrograd").source


@given(st.integers(3, 200), st.integers(2, 40), st.integers(0, 5), st.booleans())
def test_every_node_is_in_one_box_and_every_edge_is_accounted_for(nodes, max_nodes, seed, constants):
    root = mixture(nodes, seed) * 2
    order = tg.topological_order(root)
    picture = picture_of(root, {}, max_nodes=max_nodes, constants=constants)
    assert sum(box.size for box in picture.boxes) == len(order)
    assert len(picture.boxes) <= max_nodes
    assert len({box.id for box in picture.boxes}) == len(picture.boxes)
    ids = {box.id for box in picture.boxes}
    assert all({arrow.tail, arrow.head} <= ids for arrow in picture.arrows)
    assert picture.boxes[-1].kind == "result"
    if not picture.note:
        folded = len(order) - len(picture.boxes)
        assert sum(arrow.count for arrow in picture.arrows) == sum(len(node.parents) for node in order) - folded


def laid_out(drawing):
    """The size of the picture, {title of a box: (x, y)} by frame, and the points of all arrows."""
    svg = ET.fromstring(drawing.pipe(format="svg"))
    size = [float(svg.get(side).removesuffix("pt")) for side in ("width", "height")]
    boxes, points = [], []
    for g in svg.iter(SVG + "g"):
        if g.get("class") == "node":
            text = g.find(SVG + "text")
            boxes.append((text.text, float(text.get("x")), float(text.get("y"))))
        if g.get("class") == "edge" and (path := g.find(SVG + "path")) is not None:
            points += [float(y) for y in re.findall(r",(-?[\d.]+)", path.get("d"))]
    return size, boxes, points


@pytest.mark.parametrize("path", ["", None], ids=["graphviz-pure", "dot"])
@pytest.mark.parametrize("inputs", [[1.0, 2.0], [Value(1.0, label="x0"), Value(2.0, label="x1")]])
@pytest.mark.parametrize("done", [False, True])
def test_neurons_stand_in_order_in_a_picture_that_is_wider_than_high(monkeypatch, path, inputs, done):
    if path is None and not shutil.which("dot"):
        pytest.skip("there is no dot on the PATH")
    if path is not None:
        monkeypatch.setenv("PATH", path)
    out = nn.MLP(2, [8, 8, 1], rng=0)(inputs)
    if done:
        out.backward()
    (width, height), boxes, points = laid_out(draw(out))
    assert width > height
    neurons = [(y, name) for name, _, y in boxes if name.startswith("neuron")]
    by_number = sorted(neurons, key=lambda box: box[1])
    assert [name for _, name in sorted(neurons) if name != "neuron0"] == [name for _, name in by_number[3:]]
    heights = [y for _, _, y in boxes]
    assert min(heights) - 40 < min(points) <= max(points) < max(heights) + 40  # no arrow goes around the boxes
    _, boxes, _ = laid_out(draw(out, rankdir="TB"))
    layers = {y: sorted((x, name) for name, x, at in boxes if at == y) for _, _, y in boxes}
    assert sum([name for _, name in row] == [f"neuron{i}" for i in range(8)] for row in layers.values()) == 2
