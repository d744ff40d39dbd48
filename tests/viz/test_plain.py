"""The SVG of our own shows what the picture has, without Graphviz: boxes apart, arrows from box to box."""

import re
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from graphs import SVG, labelled, named

from tinygrad_edu import Value, compile, draw, nn, tanh, why
from tinygrad_edu.viz.plain import PlainDrawing


@pytest.fixture(autouse=True)
def in_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "emscripten")


def graph() -> Value:
    a, b = labelled(a=2.0, b=-3.0)
    d = a * named(b, "b & <b>")
    y = named(tanh(d + 6.5) * d * d, "y")
    y.backward()
    return y


def elements(drawing: PlainDrawing, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawing.pipe()).iter(f"{SVG}{tag}"))


@pytest.mark.parametrize("rankdir", ["LR", "TB"])
@pytest.mark.parametrize(
    "make", [graph, *[lambda n=n: nn.MLP(3, n, rng=0)([1.0, 2.0, 3.0]) for n in ([4, 4, 1], [1])]]
)
def test_boxes_lie_apart_and_within(make, rankdir: str) -> None:
    drawing = draw(make(), rankdir=rankdir)
    assert isinstance(drawing, PlainDrawing)
    root = ElementTree.fromstring(drawing.pipe())
    wide, high = float(root.get("width")), float(root.get("height"))
    _, *boxes = [
        [float(box.get(side)) for side in ("x", "y", "width", "height")] if box.get("x") else None
        for box in elements(drawing, "rect")
    ]
    assert len(boxes) >= 7
    assert len(elements(drawing, "path")) >= 7
    for path in elements(drawing, "path"):  # each arrow leads on, never back
        ends = [tuple(map(float, p.split())) for p in re.findall(r"[MC]?(-?[\d.]+ -?[\d.]+)", path.get("d"))]
        assert ends[0][rankdir == "TB"] < ends[3][rankdir == "TB"]
    for x, y, w, h in boxes:
        assert x >= 0 <= y
        assert x + w <= wide
        assert y + h <= high
    for (x, y, w, h), (p, q, r, s) in combinations(boxes, 2):
        assert x + w < p or p + r < x or y + h < q or q + s < y


def test_it_shows_what_draw_shows() -> None:
    y = graph()
    drawing = draw(y, slopes=True, paths=why(y, y.parents[1]))
    words = ["".join(text.itertext()) for text in elements(drawing, "text")]
    for text in ("a", "b & <b>", "data 2", "grad -68.3", "y *", "0.4621"):
        assert text in words
    assert len([path for path in elements(drawing, "path") if path.get("stroke-width") == "2.6"]) >= 2
    assert elements(drawing, "desc")[0].text.startswith("y = 16.64")
    assert any(box.get("fill") == "#0c2c84" for box in elements(draw(y, heat=True), "rect"))


def test_where_graphviz_has_no_dot_every_picture_is_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("tinygrad_edu.viz.render._graphviz_pure", lambda: None)
    w = Value(3.0, label="w")
    groups = compile(lambda x: (w * x - 1) ** 2, [w])
    groups.value_and_grad([1.0, 2.0])
    for picture in (draw(graph()), groups.groups.draw(), draw(graph(), style="micrograd")):
        assert not isinstance(picture, PlainDrawing)  # the graphviz package is here
        picture.attr(ranksep="0.2")
        assert picture.pipe(format="svg").startswith(b"<svg")
        assert picture._repr_mimebundle_().keys() == {"text/plain", "image/svg+xml"}
        path = picture.render(str(tmp_path / "graph"), format="svg")
        assert Path(path).read_bytes() == picture.pipe(format="svg")
        with pytest.raises(RuntimeError, match="pip install graphviz-pure"):
            picture.pipe(format="png")


def test_its_methods(tmp_path: Path) -> None:
    drawing = draw(graph())
    path = drawing.render(str(tmp_path / "graph"))
    assert Path(path).read_bytes() == drawing.pipe()
    assert set(drawing._repr_mimebundle_()) == {"text/plain", "image/svg+xml"}
    assert repr(drawing).startswith("y = 16.64")
    words = ["".join(text.itertext()) for text in elements(draw(nn.MLP(2, [9, 9], rng=0)([1.0, 2.0])[0]), "text")]
    assert [line.startswith(("showing", "–  no gradient yet")) for line in words[-2:]] == [True, True]
    assert re.match("<svg", drawing.pipe(encoding="utf-8"))
    before = drawing.pipe()
    drawing.attr(ranksep="0.2", rankdir="TB")
    assert drawing.pipe() == draw(graph(), rankdir="TB").pipe() != before
    with pytest.raises(ValueError, match="Without Graphviz a picture is an SVG, not 'png': leave out the format"):
        drawing.pipe("png")
