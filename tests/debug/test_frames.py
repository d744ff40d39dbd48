"""The still picture of a step, and the page of all steps."""

import re
from xml.etree import ElementTree

import pytest
from graphs import SVG, labelled, named

from tinygrad_edu import Value
from tinygrad_edu.debug import steps
from tinygrad_edu.debug.frames import frame
from tinygrad_edu.viz import render


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
