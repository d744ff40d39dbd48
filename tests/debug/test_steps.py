"""The time machine: the numbers and the sentence of every step, laziness, and agreement with backward."""

import copy
import math
import pickle
import re
from collections import Counter
from dataclasses import FrozenInstanceError
from fractions import Fraction
from xml.etree import ElementTree

import pytest
from graphs import SVG, chain, labelled, named, neuron
from hypothesis import given

import tinygrad_edu as tg
from tinygrad_edu import Value, topological_order
from tinygrad_edu.debug import Machine, blame, steps, why
from tinygrad_edu.debug.frames import frame
from tinygrad_edu.engine.rules import MUL, NEG, RULES
from tinygrad_edu.testing import programs
from tinygrad_edu.viz import render


@pytest.fixture
def calls(monkeypatch):
    """How often the backward of neg has been called."""
    counter, backward = Counter(), NEG.backward

    def counted(*args):
        counter["neg"] += 1
        return backward(*args)

    monkeypatch.setattr(NEG, "backward", counted)
    return counter


# --- Sentences ------------------------------------------------------------------------------------------------
A, B, C, D = labelled(a=2.0, b=4.0, c=-1.0, d=0.5)
SENTENCES = [
    (A * A, "a * a: a receives upstream * a = 1 * 2 = 2; a.grad 0 -> 2; "
            "a receives upstream * a = 1 * 2 = 2; a.grad 2 -> 4"),
    (A - B, "a - b: a receives upstream = 1; a.grad 0 -> 1; b receives -upstream = -1; b.grad 0 -> -1"),
    (-A, "-a: a receives -upstream = -1; a.grad 0 -> -1"),
    (A / B, "a / b: a receives upstream * (1/b) = 1 * 0.25 = 0.25; a.grad 0 -> 0.25; "
            "b receives upstream * (-root/b) = 1 * -0.125 = -0.125; b.grad 0 -> -0.125"),
    (A**3, "a**3: a receives upstream * slope = 1 * 12 = 12; a.grad 0 -> 12"),
    (D**B, "d ** b: d receives upstream * slope = 1 * 0.5 = 0.5; d.grad 0 -> 0.5; "
           "b receives upstream * slope = 1 * -0.04332 = -0.04332; b.grad 0 -> -0.04332"),
    (abs(C), "abs(c): c receives upstream * slope = 1 * -1 = -1; c.grad 0 -> -1"),
    (tg.leaky_relu(C, alpha=0.2),
     "leaky_relu(c, alpha=0.2): c receives upstream * slope = 1 * 0.2 = 0.2; c.grad 0 -> 0.2"),
    (tg.where(A, B, C), "where(a, b, c): a receives upstream * slope = 1 * 0 = 0; a.grad 0 -> 0; "
                        "b receives upstream * slope = 1 * 1 = 1; b.grad 0 -> 1; "
                        "c receives upstream * slope = 1 * 0 = 0; c.grad 0 -> 0"),
    (tg.max(A, C, A), "max(a, c, a): a receives upstream * slope = 1 * 0.5 = 0.5; a.grad 0 -> 0.5; "
                      "c receives upstream * slope = 1 * 0 = 0; c.grad 0 -> 0; "
                      "a receives upstream * slope = 1 * 0.5 = 0.5; a.grad 0.5 -> 1"),
    (tg.sum(A, B, C), "a + b + c: a receives upstream = 1; a.grad 0 -> 1; "
                      "b receives upstream = 1; b.grad 0 -> 1; c receives upstream = 1; c.grad 0 -> 1"),
    (tg.dot([A, B], [C, D]), "dot(a, b, c, d): a receives upstream * c = 1 * -1 = -1; a.grad 0 -> -1; "
                             "b receives upstream * d = 1 * 0.5 = 0.5; b.grad 0 -> 0.5; "
                             "c receives upstream * a = 1 * 2 = 2; c.grad 0 -> 2; "
                             "d receives upstream * b = 1 * 4 = 4; d.grad 0 -> 4"),
]  # fmt: skip


@pytest.mark.parametrize(("root", "expected"), SENTENCES, ids=[text.split(":")[0] for _, text in SENTENCES])
def test_one_operation_in_a_sentence(root, expected):
    (step,) = steps(root)  # an unlabelled node is called like the variable that holds it
    assert step.sentence == f"root = {expected}"


def test_a_shared_node_receives_from_each_that_uses_it():
    (x,) = labelled(x=3.0)
    u = named(x * 2, "u")
    every = steps(named(u * u, "v") + u)
    assert [(step.node.label, share.before, share.after) for step in every for share in step.shares] == [
        ("", 0, 1),
        ("", 0, 1),
        ("v", 1, 7),
        ("v", 7, 13),
        ("u", 0, 26),
        ("u", 0, 39),
    ]


def test_names_many_operands_and_numbers_in_sentences():
    x, y = Value(1.0, label="x"), Value(2.0, label="x")
    assert steps(x - y)[0].sentence.startswith("#2 = x#1 - x#0: x#1 receives upstream = 1; x#1.grad 0 -> 1; x#0 ")
    assert steps(-Value(1.0, label="a\nb"))[0].sentence.startswith("#1 = -a\\nb: a\\nb receives")
    (x,) = labelled(x=1.0)
    (step,) = steps(tg.sum([x] * 1000))
    assert step.sentence.startswith("#1 = x + x + x + x + x + x + x + x + ... 992 more: x receives upstream = 1;")
    assert step.sentence.endswith("; x receives upstream = 1; x.grad 7 -> 8; and 992 more")
    assert len(step.shares) == 1000
    assert step.shares[-1].after == 1000
    a, b, c = labelled(a=1.0, b=2.0, c=3.0)
    (step,) = steps(tg.where(a, b, c), math.inf)
    assert "; b receives upstream * slope = inf * 1 = inf; b.grad 0 -> inf; " in step.sentence
    assert step.sentence.endswith("c receives 0 (upstream inf, slope 0); c.grad 0 -> 0")
    assert steps(a * b, math.nan)[0].sentence.endswith("upstream * a = nan * 1 = nan; b.grad 0 -> nan")
    twice = tg.rule(lambda x: 2 * x, backward=lambda upstream, out, x: (2 * upstream,), name="twice")
    (step,) = steps(twice(*labelled(x=1.0)))
    assert step.sentence == "#1 = twice(x): x receives upstream * slope = 1 * 2 = 2; x.grad 0 -> 2"


# --- The numbers ----------------------------------------------------------------------------------------------
def bits(x):
    return (type(x), x if isinstance(x, Fraction) else repr(x))  # -0.0 is not 0.0, and nan is itself


def check_against_backward(root, upstream):
    every = steps(root, upstream)
    assert every.order == tuple(topological_order(root))
    assert [step.node for step in every] == [node for node in reversed(every.order) if node.rule]
    start, final = every.gradients(0), every.gradients(len(every))
    assert list(start) == list(final) == list(every.order)
    for node in every.order:
        assert bits(start[node]) == bits(every.gradient(node, 0) or type(root.data)(0))
        node.grad = type(root.data)(0)
    root.backward(upstream)
    for node in every.order:
        assert bits(final[node]) == bits(node.grad)
    for i, step in enumerate(every):
        before = every.gradients(i)
        assert bits(step.upstream) == bits(before[step.node]) == bits(step.node.grad)
        for parent, share in zip(step.node.parents, step.shares, strict=True):
            assert share.parent is parent
            assert bits(share.before) == bits(before[parent])
            assert bits(share.after) == bits(share.before + share.share)
            before[parent] = share.after
        assert list(map(bits, before.values())) == list(map(bits, every.gradients(i + 1).values()))


@given(programs(kind=float))
def test_the_last_frame_is_backward_to_the_bit(program):
    check_against_backward(program.graph()[-1], -1.5)


@given(programs(kind=Fraction))
def test_the_last_frame_is_backward_exactly(program):
    root = program.graph()[-1]
    check_against_backward(root, 2)
    for step in steps(root):
        assert {type(x) for share in step.shares for x in share[1:]} == {Fraction}


def test_gradients_are_left_alone_and_the_numbers_are_those_of_the_call():
    root = neuron()
    for node in topological_order(root):
        node.grad = 7.0
    every, machine = steps(root), Machine(root).run()
    assert every.gradients(len(every)) == machine.gradients
    why(root, "a"), blame(root)
    assert {node.grad for node in topological_order(root)} == {7.0}
    assert every[0].shares[0].before == 0
    a, b = labelled(a=2.0, b=3.0)
    every = steps(-(a * b))
    a.data = 100.0
    assert [share.slope for share in every[1].shares] == [3.0, 2.0]
    assert every.data[a] == 2.0


# --- The sequence ---------------------------------------------------------------------------------------------
def test_indices_slices_and_a_leaf_without_steps():
    every = steps(neuron())
    assert [step.index for step in every] == [0, 1, 2]
    assert every[-1] == every[2] == next(reversed(every))
    assert every[-3] == every[0]
    assert every[1:] == (every[1], every[2])
    assert every[::-1] == tuple(reversed(every))
    assert every[5:] == ()
    assert every[1] in every
    assert every.index(every[2]) == 2
    (x,) = labelled(x=2.0)
    every = steps(x, 3)
    assert (len(every), list(every), every[:]) == (0, [], ())
    assert every.gradients(0) == {x: 3.0}
    assert every.root is x
    assert repr(every).startswith("Steps(0 steps from x = 2)\n")


def test_a_step_is_not_changed():
    every = steps(neuron())
    with pytest.raises(TypeError):
        every[0] = every[1]
    for name in ("index", "node", "upstream", "shares"):
        with pytest.raises(FrozenInstanceError):
            setattr(every[0], name, None)
    with pytest.raises(AttributeError):
        every[0].shares[0].share = 1.0
    every.gradients(1).clear()
    assert every.gradients(1)[every.root] == 1.0


def test_copies_and_pickles_are_steps_of_their_own_graph():
    every = steps(neuron())
    text = str(every[1])
    for twin in (copy.deepcopy(every), pickle.loads(pickle.dumps(every))):
        assert twin.root is not every.root
        assert str(twin[1]) == text
        assert list(map(str, twin)) == list(map(str, every))
        assert list(twin.gradients(3).values()) == list(every.gradients(3).values())


def test_a_step_is_computed_when_it_is_asked_for(calls):
    every = steps(chain(20_000))
    len(every), every.root, every.order, every.nodes, repr(every), every.gradients(0)
    assert calls["neg"] == 0
    assert every[0].upstream == 1.0
    once = calls["neg"]
    assert 0 < once <= 2  # the share, and the slope
    assert every[99].upstream == -1.0
    assert calls["neg"] == 100 * once
    every[:100], every.gradients(100), str(every[50])
    assert calls["neg"] == 100 * once  # going back computes nothing
    assert next(iter(every)) == every[0]
    assert every[-1].shares[0].after == 1.0
    assert calls["neg"] == 20_000 * once


def failing(upstream, out, x, y):
    raise IndexError("no luck")


@pytest.mark.parametrize(
    ("backward", "error"),
    [
        (failing, IndexError),
        (lambda upstream, out, x, y: (upstream,), TypeError),
        (lambda upstream, out, x, y: (upstream, None), TypeError),
    ],
    ids=["raises", "too few shares", "no number"],
)
def test_the_error_of_a_rule_names_the_node_every_time(monkeypatch, backward, error):
    (x,) = labelled(x=2.0)
    broken = named(x * x, "p")
    root = chain(2, broken)
    monkeypatch.setattr(MUL, "backward", backward)
    every = steps(root)
    assert every[1].upstream == -1.0
    for _ in range(2):
        with pytest.raises(error) as caught:
            list(every)
        assert caught.value.__notes__ == [f"The chain rule had come to {broken!r}, made by {MUL}."]
    assert every.gradients(2)[x] == 0.0  # nothing has been added by halves
    machine = Machine(root).next()
    with pytest.raises(error):
        machine.run()
    assert machine.position == 1
    assert repr(machine).startswith("step 1 of 3\n")
    monkeypatch.undo()
    assert every.gradients(3)[x] == 4.0


# --- The room -------------------------------------------------------------------------------------------------
def test_every_rule_has_a_sentence():
    for name, rule in RULES.items():
        if name == "pow_n":
            continue
        inputs = [Value(1.5 if name == "acosh" else 0.5, label=f"x{i}") for i in range(rule.n_inputs or 4)]
        (step,) = steps(rule(*inputs))
        assert len(step.shares) == len(inputs)
        assert "x0.grad 0 -> " in step.sentence


REASONS = [
    (A.tanh, "droot/da = 1 - root^2 = 1 - 0.96403^2 = 0.07065"),
    (A.sqrt, "droot/da = 1 / (2 * root) = 1 / (2 * 1.414) = 0.3536"),
    (C.sigmoid, "droot/dc = root * (1 - root) = 0.2689 * (1 - 0.2689) = 0.1966"),
    (C.silu,
     "droot/dc = sigmoid(c) + c * sigmoid(c) * (1 - sigmoid(c)) = "
     "sigmoid(-1) + (-1) * sigmoid(-1) * (1 - sigmoid(-1)) = 0.07233"),
    (C.sin, "droot/dc = cos(c) = cos(-1) = 0.5403"),
    (C.relu, "droot/dc = 0: 1 for c > 0, else 0; c is -1"),
    (lambda: A / B, "droot/da = 1 / b = 1 / 4 = 0.25; droot/db = -a / b^2 = -2 / 4^2 = -0.125"),
    (lambda: C**3, "droot/dc = 3 * c^(3-1) = 3 * (-1)^(3-1) = 3"),
    (lambda: A * B, ""),
    (lambda: tg.sum(A, B), ""),
]  # fmt: skip


@pytest.mark.parametrize(("make", "expected"), REASONS)
def test_the_slope_is_explained_by_its_formula_with_the_numbers_put_in(make, expected):
    root = make()
    (step,) = steps(root)
    assert step.reason == expected


def test_print_shows_every_step_and_its_reason():
    (x,) = labelled(x=2.0)
    y = named((x * x).log(), "y")
    assert str(steps(y)) == (
        "step 1 of 2: y = log(#1): #1 receives upstream * slope = 1 * 0.25 = 0.25; #1.grad 0 -> 0.25\n"
        "    dy/d#1 = 1 / #1 = 1 / 4 = 0.25\n"
        "step 2 of 2: #1 = x * x: x receives upstream * x = 0.25 * 2 = 0.5; x.grad 0 -> 0.5; "
        "x receives upstream * x = 0.25 * 2 = 0.5; x.grad 0.5 -> 1"
    )
    assert str(steps(chain(1000))).endswith("\n... 800 more steps")


# --- The still picture of a step, and the page of all steps ---------------------------------------------------
def example() -> Value:
    a, b = labelled(a=2.0, b=-3.0)
    return named((named(a * b, "d") * a + 3).tanh(), "y")


def test_what_is_done_current_and_waiting_can_be_told_apart() -> None:
    every = steps(example())
    drawn = [ElementTree.fromstring(frame(every, i + 1)) for i in range(len(every))]
    waiting = [sum(t.text == "grad –" for t in svg.iter(f"{SVG}text")) for svg in drawn]
    assert waiting == [4, 3, 1, 0]
    current = [sum(shape.get("fill") == "#ffd866" for shape in svg.iter()) for svg in drawn]
    assert min(current) >= 1
    done = [sum(shape.get("fill") == "#cfe3f7" for shape in svg.iter()) for svg in drawn]
    assert done == sorted(done)


def test_without_a_renderer_the_layout_is_our_own(monkeypatch: pytest.MonkeyPatch) -> None:
    by_dot = frame(steps(example()), 1)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(render, "_graphviz_pure", lambda: None)
    by_us = frame(steps(example()), 1)
    for fill in ("#ffd866", "#cfe3f7"):
        assert (fill in by_us) == (fill in by_dot)
    texts = [[t.text for t in ElementTree.fromstring(svg).iter(f"{SVG}text")] for svg in (by_us, by_dot)]
    for words in ("grad –", "grad 1", "data -6"):
        assert words in texts[0]
        assert texts[0].count(words) == texts[1].count(words)


def test_the_steps_are_the_live_page_with_the_numbers_of_their_time(tmp_path) -> None:
    y = example()
    every = steps(y, 2.0)
    text = every.to_html(tmp_path / "steps.html")
    assert (tmp_path / "steps.html").read_text(encoding="utf-8") == text
    assert re.search(r'"mode":"steps","upstream":2.0', text)
    assert repr(every).startswith(every._repr_mimebundle_()["text/plain"])
    assert "<iframe" in every._repr_mimebundle_()["text/html"]
    x = Value(3.0, label="x")
    every = steps(x * x)
    x.data = 5.0
    assert '"leaves":[3.0]' in every.to_html()
