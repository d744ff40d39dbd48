"""A training on film: what is recorded, what is blamed, and what stays untouched."""

import json
import re
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
from graphs import descend, squares

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim
from tinygrad_edu.debug import film, record
from tinygrad_edu.debug.training import unit_of
from tinygrad_edu.engine.watch import recorders


def mean_loss(model):
    return squares(model) / 4


def train(model, steps=20, rate=0.1, every=1, zero=True):
    with record(model, every) as running:
        for _ in range(steps):
            loss = mean_loss(model)
            if zero:
                model.zero_grad()
            loss.backward()
            descend(model.parameters(), rate)
    return running


def gradients(root):
    return {node.label: node.grad for node in tg.topological_order(root) if node.label}


def test_a_step_is_a_backward_pass_that_reaches_the_parameters():
    model, other = nn.MLP(3, [2, 1], "tanh", rng=0), nn.Neuron(3, rng=1)
    seen = []
    with record(model) as running:
        for _ in range(3):
            model.zero_grad()
            loss = mean_loss(model)
            loss.backward(2.0)
            mean_loss(other).backward()
            (Value(2.0) * 3).backward()
            seen.append((loss.data, {name: p.grad for name, p in model.named_parameters()}))
            optim.SGD(model.parameters(), lr=0.1).step()
    assert (running.count, len(running), running.steps) == (3, 3, [0, 1, 2])
    assert [(graph.data, gradients(graph)) for graph in running] == seen
    assert [graph.grad for graph in running] == [2.0] * 3
    mean_loss(model).backward()
    assert running.count == 3
    assert repr(running).startswith("Film(3 steps, 3 kept, loss ")


def test_a_graph_of_a_film_is_asked_like_any_other():
    model = nn.MLP(3, [2, 1], "tanh", rng=0)
    running, weight = train(model, steps=5), model.parameters()[0]
    for name in (weight, weight.label):
        assert tg.why(running[3], name).total == pytest.approx(gradients(running[3])[weight.label], rel=1e-12)
    assert tg.why(mean_loss(nn.MLP(3, [2, 1], rng=0)), weight).count == 0  # only a film's graph has copies
    assert not tg.blame(running[3])
    assert tg.blame(train(model, zero=False)[3]).kind == "accumulated"


def test_scrubbing_where_there_is_nothing_to_blame():
    model = nn.MLP(3, [2, 1], "tanh", rng=0)
    running, every = train(model, steps=25, every=10), train(nn.MLP(3, [2, 1], "tanh", rng=0), steps=25)
    assert running.steps == [0, 10, 20]
    told = running.blame()
    assert (repr(told), told.step, told.kind, told.sentence) == ("nothing to blame in 25 steps", None, "", "")
    assert [running[i].data for i in (0, 9, 10, 24, -1, -25)] == [every[i].data for i in (0, 0, 10, 20, 20, 0)]
    for outside in (25, -26):
        with pytest.raises(IndexError, match=f"there is no step {outside}: the film has 25, counted from 0"):
            running[outside]


def test_graphs_of_several_shapes():
    w = Value(1.5, label="w")

    class Model:  # a class of the user's own
        def parameters(self):
            return [w]

    with record(Model()) as running:
        for length in (1, 2, 1, 3):
            y = w
            for _ in range(length):
                y = y * 2.0
            y.backward()
    assert [graph.data for graph in running] == [3.0, 6.0, 3.0, 12.0]
    assert len(running._shapes()) == 3  # two of one shape share one
    assert json.loads(re.search(r'"film":(\[.*?\]\]\])', running.to_html())[1])[0][0] == 3


def test_gradients_that_were_not_set_to_zero_also_before_the_last_update():
    verdict = train(nn.MLP(3, [4, 1], "tanh", rng=0), zero=False).blame()
    assert (verdict.step, verdict.kind) == (1, "not zeroed")
    assert re.match(
        r"step 1: gradients were not set to zero: \S+\.grad was \S+ before the pass, though the parameters had "
        r"moved, and \S+ after it\n  look at it: tg\.debug\.run\(film\[1\]\)$",
        repr(verdict),
    )
    told = train(nn.MLP(3, [4, 1], "tanh", rng=0), steps=2, zero=False).blame()
    assert (told.step, told.kind) == (1, "not zeroed")


def test_a_gradient_that_is_nan_or_huge_at_once():
    model = nn.Neuron(1, "linear", rng=0)
    assert repr(record(model)) == "Film(0 steps, 0 kept)"
    with record(model) as running:
        for x in (1e10, 0.0, 2.0):
            model.zero_grad()
            ((model([x]) * 0.0).sqrt() * 0.0 + model([x])).backward() if x == 0.0 else model([x]).backward()
    verdict = running.blame()
    assert [(event.step, event.kind) for event in verdict.events] == [(0, "exploded"), (1, "nan")]


def test_dead_units_are_one_line_at_the_end():
    model = nn.MLP(3, [3, 1], "tanh", rng=0)
    silent, verdicts = [False, False, False], []

    def forward(x):
        hidden = [0.0 if off else neuron(x) for off, neuron in zip(silent, model.layers[0].neurons, strict=True)]
        return model.layers[1](hidden)[0]

    with record(model) as running:
        for dead, steps in (([], 5), ([1], 6), ([0, 1, 2], 6), ([], 1), ([1], 1), ([], 1), ([1], 6)):
            silent = [i in dead for i in range(3)]
            for _ in range(steps):
                model.zero_grad()
                squares(forward).backward()
                descend(model.parameters(), 0.001)
            verdicts.append(running.blame())
    _, one, told, *_, again = verdicts
    line = "step 5: 1 of 3 units of layer0 are dead: no gradient has reached it since then, for 24 examples"
    assert (bool(one), one.notes, repr(one)) == (False, (line,), f"nothing to blame in 11 steps\n  note: {line}")
    assert not again.notes  # it was silent for longer before, although not the last time
    assert (told.kind, told.step) == ("dead", 5)
    assert told.sentence.startswith("3 of 3 units of layer0 are dead")


@pytest.mark.parametrize(
    ("parameter", "unit"),
    [("layer0.neuron3.w2", "layer0.neuron3"), ("layer0.W3_12", "layer0.unit3"), ("layer0.b3", "layer0.unit3"),
     ("w0", "the model"), ("b", "the model"), ("W1_2", "unit1")],
)  # fmt: skip
def test_the_unit_of_a_parameter(parameter, unit):
    assert unit_of(parameter) == unit


def test_memory_is_bounded_and_what_happened_is_kept(monkeypatch):
    monkeypatch.setattr(film, "FRAMES", 4)
    running = train(nn.MLP(3, [2, 1], "tanh", rng=0), steps=40, zero=False)
    assert running.blame().step == 1
    assert running.steps[:2] == [0, 1]
    assert len(running) <= 5
    model = nn.MLP(3, [2, 1], "tanh", rng=0)
    monkeypatch.setattr(film, "FRAMES", 8)
    running = train(model, steps=100)
    assert running.steps == [0, 16, 32, 48, 64, 80, 96]
    assert (running.count, running.every) == (100, 16)
    monkeypatch.setattr(film, "FRAMES", 1000)
    monkeypatch.setattr(film, "NUMBERS", 5 * (11 + 11 + 24 + 10))
    assert len(train(model, steps=100)) < 10
    monkeypatch.setattr(film, "NUMBERS", 10)
    running = train(nn.MLP(3, [2, 1], "tanh", rng=0), steps=5, zero=False)
    assert running.steps == [0, 1]


def test_two_films_and_a_pass_that_fails():
    model = nn.MLP(3, [2, 1], "tanh", rng=0)
    with record(model) as first:
        mean_loss(model).backward()
        with record(model) as second:
            mean_loss(model).backward()
        with pytest.raises(TypeError):
            mean_loss(model).backward("1")
    assert (first.count, second.count) == (2, 1)


def test_each_thread_is_on_its_own_film():
    models = [nn.MLP(3, [2, 1], "tanh", rng=i) for i in range(4)]
    with ThreadPoolExecutor(4) as threads:
        films = threads.map(train, models, [10, 11, 12, 13])
    assert [film.count for film in films] == [10, 11, 12, 13]
    assert not recorders


def test_a_film_leaves_no_cycles(living):
    running = train(nn.MLP(3, [2, 1], "tanh", rng=0))
    running.blame(), tg.why(running[0], "layer0.neuron0.w0", variables={}), running.to_html()
    alive = weakref.ref(running)
    del running
    assert alive() is None


def test_the_page_has_the_numbers_of_every_step(tmp_path):
    running = train(nn.MLP(3, [2, 1], "tanh", rng=0), steps=500)
    text = running.to_html(tmp_path / "film.html")
    assert (tmp_path / "film.html").read_text(encoding="utf-8") == text
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert (data["film"][0][0], data["film"][-1][0], len(data["film"])) == (0, 499, 167)
    assert data["film"][-1][1] == [float(f"{x:.6g}") for x in data["leaves"]]
