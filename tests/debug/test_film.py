"""A training on film: what is recorded, what is blamed, and what stays untouched."""

import contextlib
import gc
import json
import math
import re
import threading

import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim
from tinygrad_edu.debug import Film, film, record

XS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
YS = [1.0, -1.0, -1.0, 1.0]


def mean_loss(model):
    return sum((model(x) - y) ** 2 for x, y in zip(XS, YS, strict=True)) / 4


def train(model, steps=20, rate=0.1, every=1, zero=True):
    with record(model, every) as running:
        for _ in range(steps):
            loss = mean_loss(model)
            if zero:
                model.zero_grad()
            loss.backward()
            for parameter in model.parameters():
                parameter.data -= rate * parameter.grad
    return running


def test_a_step_is_a_backward_pass_that_reaches_the_parameters():
    model, other = nn.MLP(3, [2, 1], "tanh", rng=0), nn.Neuron(3, rng=1)
    seen = []
    with record(model) as running:
        for _ in range(3):
            model.zero_grad()
            loss = mean_loss(model)
            loss.backward()
            mean_loss(other).backward()
            (Value(2.0) * 3).backward()
            seen.append(
                (
                    loss.data,
                    {name: p.data for name, p in model.named_parameters()},
                    {name: p.grad for name, p in model.named_parameters()},
                )
            )
            optim.SGD(model.parameters(), lr=0.1).step()
    assert (running.count, len(running), [frame.step for frame in running]) == (3, 3, [0, 1, 2])
    for frame, (loss, parameters, gradients) in zip(running, seen, strict=True):
        assert (frame.loss, frame.parameters, frame.gradients) == (loss, parameters, gradients)
        assert frame.norm == math.hypot(*gradients.values())
    mean_loss(model).backward()
    assert running.count == 3
    assert repr(running).startswith("Film(3 steps, 3 kept, loss ")


def test_scrubbing():
    running = train(nn.MLP(3, [2, 1], "tanh", rng=0), steps=25, every=10)
    assert [frame.step for frame in running] == [0, 10, 20]
    assert [running[i].step for i in (0, 9, 10, 24, -1, -25)] == [0, 0, 10, 20, 20, 0]
    for outside in (25, -26):
        with pytest.raises(IndexError, match=f"there is no step {outside}: the film has 25, counted from 0"):
            running[outside]
    text = repr(running[10])
    assert text.startswith("step 10: loss ")
    assert "largest gradients: layer" in text


def test_the_hardest_example():
    model = nn.MLP(3, [2, 1], "tanh", rng=0)
    with record(model) as running:
        losses = [(model(x) - y) ** 2 for x, y in zip(XS, YS, strict=True)]
        (sum(losses) / 4 + 1e-4 * sum(p * p for p in model.parameters())).backward()
    worst = max(range(4), key=lambda i: losses[i].data)
    hardest = running[0].hardest
    assert hardest.loss == losses[worst].data
    assert {*XS[worst], YS[worst]} == set(hardest.inputs)
    assert repr(hardest).startswith(f"loss {hardest.loss:.4g} for ")


def test_a_step_again_as_a_graph():
    model = nn.MLP(3, [2, 1], "tanh", rng=0)
    running = train(model, steps=5)
    for frame in running:
        root = running.graph(frame.step)
        assert root.data == frame.loss
        root.backward()
        gradients = {node.label: node.grad for node in tg.topological_order(root) if node.label}
        assert gradients == frame.gradients
    weight = model.parameters()[0]
    assert running.why(weight, 3).total == pytest.approx(running[3].gradients["layer0.neuron0.w0"], rel=1e-12)
    largest = max(running, key=lambda frame: abs(frame.gradients["layer0.neuron0.w0"]))
    assert running.why("layer0.neuron0.w0").total == pytest.approx(
        largest.gradients["layer0.neuron0.w0"], rel=1e-12
    )
    with pytest.raises(ValueError, match="is no parameter of the model: there are layer0"):
        running.why("w7")


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
    assert [running.graph(i).data for i in range(4)] == [3.0, 6.0, 3.0, 12.0]
    assert running[2]._graph is running[0]._graph
    assert json.loads(re.search(r'"film":(\[.*?\]\]\])', running.to_html())[1])[0][0] == 3


def test_parameters_of_one_label_are_told_apart():
    w = [Value(1.5, label="w"), Value(-0.5, label="w"), Value(2.0)]

    class Model:
        def parameters(self):
            return w

    with record(Model()) as running:
        (w[0] * 2.0 + w[1] * 3.0 + w[2] * 4.0).backward()
    assert running[0].gradients == {"w#0": 2.0, "w#1": 3.0, "parameter2": 4.0}
    assert running.why(w[1]).total == 3.0


# --- Blame ----------------------------------------------------------------------------------------------------


def test_nothing_to_blame():
    running = train(nn.MLP(3, [4, 1], "tanh", rng=0), steps=50)
    assert not running.blame()
    assert repr(running.blame()) == "nothing to blame in 50 steps"
    assert (running.blame().step, running.blame().kind, running.blame().sentence) == (None, "", "")


def test_gradients_that_were_not_set_to_zero():
    found = train(nn.MLP(3, [4, 1], "tanh", rng=0), zero=False).blame()
    assert (found.step, found.kind) == (1, "not zeroed")
    assert re.match(
        r"step 1: gradients were not set to zero: \S+\.grad was \S+ before the pass, as the step before had left "
        r"it, and \S+ after it\n  look at it: tg\.debug\.run\(film\.graph\(1\)\)$",
        repr(found).split("\nstep")[0],
    )


def test_passes_that_are_meant_to_add_up():
    model = nn.MLP(3, [2, 1], "tanh", rng=0)
    with record(model) as running:
        for _ in range(5):
            model.zero_grad()
            for x, y in zip(XS, YS, strict=True):
                ((model(x) - y) ** 2).backward()
            for parameter in model.parameters():
                parameter.data -= 0.01 * parameter.grad
    assert running.count == 20
    assert not running.blame()


def test_an_exploding_gradient():
    found = train(nn.MLP(3, [4, 4, 1], "linear", rng=0), rate=1.0, steps=8).blame()
    assert found.kind == "exploded"
    assert found.step in (1, 2, 3)
    assert "the gradient exploded: it is " in found.sentence


def test_a_gradient_of_nan():
    model = nn.Neuron(1, "linear", rng=0)
    with record(model) as running:
        for x in (1.0, 0.0, 2.0):
            model.zero_grad()
            ((model([x]) * 0.0).sqrt() * 0.0 + model([x])).backward() if x == 0.0 else model([x]).backward()
    found = running.blame()
    assert (found.step, found.kind) == (1, "nan")


def test_a_unit_that_died():
    model = nn.MLP(3, [3, 1], "relu", rng=0)
    model.layers[0].neurons[1].b.data = 2.0

    def step():
        model.zero_grad()
        mean_loss(model).backward()
        for parameter in model.parameters():
            parameter.data -= 0.001 * parameter.grad

    with record(model) as running:
        for _ in range(5):
            step()
        assert "layer0.neuron1" not in repr(running.blame())
        model.layers[0].neurons[1].b.data = -100.0
        for _ in range(6):
            step()
    events = [event for event in running.blame().events if event.sentence.startswith("layer0.neuron1 ")]
    assert [(event.step, event.kind) for event in events] == [(5, "died")]
    assert events[0].sentence == "layer0.neuron1 died: since then no gradient reached it, for 24 examples"


@pytest.mark.parametrize(
    ("parameter", "unit"),
    [("layer0.neuron3.w2", "layer0.neuron3"), ("layer0.W3_12", "layer0.unit3"), ("layer0.b3", "layer0.unit3"),
     ("w0", "the model"), ("b", "the model"), ("W1_2", "unit1")],
)  # fmt: skip
def test_the_unit_of_a_parameter(parameter, unit):
    assert film._unit(parameter) == unit


# --- Costs ----------------------------------------------------------------------------------------------------


def test_memory_is_bounded(monkeypatch):
    model = nn.MLP(3, [2, 1], "tanh", rng=0)
    monkeypatch.setattr(film, "FRAMES", 8)
    running = train(model, steps=100)
    assert [frame.step for frame in running] == [0, 16, 32, 48, 64, 80, 96]
    assert (running.count, running.every) == (100, 16)
    monkeypatch.setattr(film, "FRAMES", 1000)
    monkeypatch.setattr(film, "NUMBERS", 5 * (2 * 11 + 11 + 24 + 10))
    assert len(train(model, steps=100)) < 10


def test_events_that_need_more_room_than_there_is_are_kept(monkeypatch):
    monkeypatch.setattr(film, "NUMBERS", 10)
    running = train(nn.MLP(3, [2, 1], "tanh", rng=0), steps=5, zero=False)
    assert [frame.step for frame in running] == [0, 1]


def test_what_is_usual_is_the_largest_gradient_of_the_first_half():
    watch, norms = film._Watch(("w",)), [3.0, 1.0, math.inf, 2.0, 8.0, math.nan, 1.0, 5.0, 4.0, 9.0]
    for n, norm in enumerate(norms):
        watch._exploded(norm, film.array("d", [norm]))
        first_half = filter(math.isfinite, norms[: (n + 1) // 2])
        assert watch.usual == max(first_half, default=0.0)
        watch.norms.append(norm)


def test_what_happened_is_kept(monkeypatch):
    monkeypatch.setattr(film, "FRAMES", 4)
    running = train(nn.MLP(3, [2, 1], "tanh", rng=0), steps=40, zero=False)
    assert running.blame().step == 1
    assert running[1].step == 1
    assert len(running) <= 5


def test_while_no_film_runs_nothing_is_replaced():
    original = Value.backward
    model = nn.Neuron(3, rng=0)
    assert isinstance(record(model), Film)
    assert Value.backward is original
    with contextlib.suppress(KeyError), record(model), record(nn.Neuron(3, rng=1)):
        assert Value.backward is not original
        raise KeyError
    assert Value.backward is original
    assert not film.is_recorded(model)


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
    models, films = [nn.MLP(3, [2, 1], "tanh", rng=i) for i in range(4)], {}

    def work(i):
        films[i] = train(models[i], steps=10 + i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [films[i].count for i in range(4)] == [10, 11, 12, 13]
    assert not film._BACKWARD.listeners


def test_a_film_leaves_no_cycles():
    gc.collect()
    gc.disable()
    try:
        running = train(nn.MLP(3, [2, 1], "tanh", rng=0))
        running.blame(), running.why("layer0.neuron0.w0"), running.to_html()
        del running
        assert not [x for x in gc.get_objects() if type(x) is Film]
    finally:
        gc.enable()


def test_wrong_arguments():
    with pytest.raises(ValueError, match="every is a whole number of 1 or more, got 0"):
        record(nn.Neuron(2, rng=0), every=0)
    with pytest.raises(ValueError, match="The model has no parameters"):
        record(nn.Activation("relu"))
    for question in (Film.to_html, lambda empty: empty.why("w0")):
        with pytest.raises(ValueError, match="Nothing is recorded: no backward pass has reached"):
            question(record(nn.Neuron(2, rng=0)))


# --- Pictures -------------------------------------------------------------------------------------------------


def test_the_plot():
    pytest.importorskip("matplotlib")
    figure = train(nn.MLP(3, [2, 1], "tanh", rng=0), zero=False).plot()
    loss, norm = figure.axes
    assert [axes.get_ylabel() for axes in (loss, norm)] == ["loss", "length of the gradient"]
    assert len(loss.lines) >= 2  # the curve, and where gradients were not set to zero
    assert len(loss.lines[0].get_xdata()) == 20


def test_the_page_has_the_numbers_of_every_step(tmp_path):
    running = train(nn.MLP(3, [2, 1], "tanh", rng=0), steps=500)
    text = running.to_html(tmp_path / "film.html")
    assert (tmp_path / "film.html").read_text(encoding="utf-8") == text
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert (data["film"][0][0], data["film"][-1][0], len(data["film"])) == (0, 499, 167)
    assert data["film"][-1][1] == [float(f"{x:.6g}") for x in data["leaves"]]
