"""The SVG of our own shows what the picture has, without Graphviz: boxes apart, arrows from box to box."""

import re
import sys
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tinygrad_edu import Value, draw, nn, tanh, why
from tinygrad_edu.viz.plain import PlainDrawing

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def in_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "emscripten")


def graph() -> Value:
    a, b = Value(2.0, label="a"), Value(-3.0, label="b & <b>")
    d = a * b
    y = tanh(d + 6.5) * d * d
    y.label = "y"
    y.backward()
    return y


def elements(drawing: PlainDrawing, tag: str) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(drawing.pipe()).iter(f"{SVG}{tag}"))


@pytest.mark.parametrize("rankdir", ["LR", "TB"])
@pytest.mark.parametrize("make", [graph, lambda: nn.MLP(3, [4, 4, 1], rng=0)([1.0, 2.0, 3.0])])
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
    for text in ("a", "b & <b>", "2 | grad -68.3", "y *", "0.4621"):
        assert text in words
    assert len([path for path in elements(drawing, "path") if path.get("stroke-width") == "2.6"]) >= 2
    assert elements(drawing, "desc")[0].text.startswith("y = 16.64")
    assert any(box.get("fill") == "#0c2c84" for box in elements(draw(y, heat=True), "rect"))


def test_its_methods(tmp_path: Path) -> None:
    drawing = draw(graph())
    path = drawing.render(str(tmp_path / "graph"))
    assert Path(path).read_bytes() == drawing.pipe()
    assert set(drawing._repr_mimebundle_()) == {"text/plain", "image/svg+xml"}
    assert repr(drawing).startswith("y = 16.64")
    assert re.match("<svg", drawing.pipe(encoding="utf-8"))
    with pytest.raises(ValueError, match="Without Graphviz a picture is an SVG, not 'png': leave out the format"):
        drawing.pipe("png")
