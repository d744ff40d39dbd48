"""The page that steps through backpropagation: self-contained, escaped, and still there without scripts."""

import base64
import gzip
import html.parser
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.debug import player, steps
from tinygrad_edu.viz import render
from tinygrad_edu.viz.words import visible

SVG = "{http://www.w3.org/2000/svg}"


class Page(html.parser.HTMLParser):
    """What a browser would find: the elements, the text of the list, the script's data."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.items: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        self.open.append(tag)
        if tag == "li":
            self.items.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "li" in self.open:
            self.items[-1] += data
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


def example() -> Value:
    a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    d = a * b
    d.label = "d"
    y = (d * a + 3).tanh()
    y.label = "y"
    return y


def unpacked(source: str) -> str:
    """What the script in the frame writes."""
    (packed,) = re.findall(r'atob\("([^"]+)"\)', source)
    return gzip.decompress(base64.b64decode(packed)).decode()


@pytest.fixture
def no_renderer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(render, "_graphviz_pure", lambda: None)


def test_the_page_has_the_steps_as_data_and_as_a_list() -> None:
    every = steps(example())
    page = Page(every.to_html())
    assert page.items == [step.sentence for step in every]
    assert [step["sentence"] for step in page.data["steps"]] == page.items
    assert page.data["seed"] == ["n6", "1"]
    first, *_, last = page.data["steps"]
    assert first["node"] == "n6"
    assert last["shares"][0] | {"id": ""} == {
        "id": "",
        "name": "a",
        "slope": "-3",
        "share": last["shares"][0]["share"],
        "before": last["shares"][0]["before"],
        "after": last["shares"][0]["after"],
    }
    assert sorted(position for _, position in page.data["order"]) == sorted([1, 2, 2, 3, 4, 4, 4])


def test_every_box_and_arrow_that_the_script_asks_for_is_in_the_picture() -> None:
    text = steps(example()).to_html()
    page = Page(text)
    svg = ElementTree.fromstring(re.search(r"<svg.*?</svg>", text, re.DOTALL)[0])
    titles = {g.findtext(f"{SVG}title") for g in svg.iter(f"{SVG}g") if g.get("class") == "node"}
    arrows = {g.get("id") for g in svg.iter(f"{SVG}g") if g.get("class") == "edge"}
    assert titles == {id for id, _ in page.data["order"]} - {"n0"}  # the constant 3 stands in its operation
    everything = {f"{step['node']}.{k}" for step in page.data["steps"] for k in range(len(step["shares"]))}
    assert arrows == everything - {"n5.1"}
    grads = [t.text for t in svg.iter(f"{SVG}text") if (t.text or "").startswith("grad")]
    assert len(grads) == len(titles)
    assert "grad –" not in grads  # without scripts, the picture shows how it ends


def test_nothing_is_loaded_from_anywhere() -> None:
    text = steps(example()).to_html()
    assert set(re.findall(r"https?://[^\s\"'<)]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    for tag, attributes in Page(text).tags:
        assert not {"src", "href", "srcset"} & attributes.keys(), tag
    assert "default-src 'none'" in text


def test_it_is_written_to_a_file(tmp_path: Path) -> None:
    every = steps(example())
    text = every.to_html(tmp_path / "steps.html")
    assert (tmp_path / "steps.html").read_text(encoding="utf-8") == text == every.to_html()
    with pytest.raises(FileNotFoundError):
        every.to_html(tmp_path / "no" / "steps.html")


def test_a_notebook_gets_the_page_and_a_picture_of_each_step() -> None:
    every = steps(example())
    shown = every._repr_html_()
    page = Page(shown)
    (frame,) = (attributes for tag, attributes in page.tags if tag == "iframe")
    assert unpacked(frame["srcdoc"]) == every.to_html()
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == len(every)
    assert not any(tag == "script" for tag, _ in page.tags)
    start = "data:image/svg+xml;base64,"
    drawn = [ElementTree.fromstring(base64.b64decode(p.removeprefix(start))) for p in pictures]
    waiting = [sum(t.text == "grad –" for t in svg.iter(f"{SVG}text")) for svg in drawn]
    assert waiting == [4, 3, 1, 0]
    current = [sum(shape.get("fill") == "#ffd866" for shape in svg.iter()) for svg in drawn]
    assert min(current) >= 1


def chain(length: int, label: str = "x") -> Value:
    y = x = Value(1.0, label=label)
    for _ in range(length):
        y = y * x
    return y


def test_a_long_pass_has_its_first_steps_as_pictures() -> None:
    page = steps(chain(24))._repr_html_()
    pictures = page.count("<img")
    assert 0 < pictures < 24
    assert f"{24 - pictures} more steps are not shown as pictures." in page
    short = steps(chain(3))._repr_html_()
    assert (short.count("<img"), "more steps" in short) == (3, False)


def lecture() -> Value:
    model = nn.MLP(3, [4, 4, 1], "tanh", rng=0)
    xs = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
    return sum((model(x) - y) ** 2 for x, y in zip(xs, [1.0, -1.0, -1.0, 1.0], strict=True))


@pytest.mark.parametrize("root", [lecture, lambda: chain(39, "λ" * 17_000), lambda: chain(39, '"<&' * 99)])
def test_what_a_notebook_keeps_is_bounded(root) -> None:
    every = steps(root())
    output = {"text/plain": repr(every), "text/html": every._repr_html_()}
    assert len(json.dumps(output, ensure_ascii=False).encode()) < 500_000
    assert output["text/html"].count("<summary>") + ("more steps are not shown." in output["text/html"]) > 1


def test_the_lectures_loss_can_be_stepped_through_in_a_notebook() -> None:
    every = steps(lecture())
    (frame,) = (attributes for tag, attributes in Page(every._repr_html_()).tags if tag == "iframe")
    assert len(Page(unpacked(frame["srcdoc"])).data["steps"]) == len(every) == 299


def test_draw_and_the_page_show_operands_in_one_order() -> None:
    a, b, c, d = (Value(float(i), label=label) for i, label in enumerate("abcd", start=1))
    roots = [(a * 2 + b) * (c - d * a), tg.tanh(d - 3 * c) + b / a, tg.max(d, c, 1.0) * b - a]
    for root in (*roots, nn.MLP(2, [3, 1], rng=0)([a, b]), nn.Neuron(4, rng=0)([d, c, b, a])):
        below = {node: f"n{place}" for place, node in enumerate(tg.topological_order(root))}
        orders = []
        for svg in (tg.draw(root).pipe(format="svg"), re.search(r"<svg.*?</svg>", steps(root).to_html(), re.S)[0]):
            nodes = [g for g in ElementTree.fromstring(svg).iter(f"{SVG}g") if g.get("class") == "node"]
            height = {g.findtext(f"{SVG}title"): float(g.find(f"{SVG}text").get("y")) for g in nodes}
            operands = [[below[p] for p in node.parents if below[p] in height] for node in below]
            orders.append([sorted(boxes, key=height.__getitem__) for boxes in operands])
        assert orders[0] == orders[1]
        assert max(map(len, orders[0])) > 1


def test_a_graph_that_is_too_large_says_what_to_do() -> None:
    y = x = Value(1.0)
    for _ in range(player.LARGEST):
        y = y + x
    every = steps(y)
    with pytest.raises(
        ValueError, match="A page shows up to 400 nodes, and this graph has 401: take the steps of"
    ):
        every.to_html()
    assert every._repr_html_() is None


def test_without_a_renderer_the_tree_stands_in_for_the_picture(no_renderer: None) -> None:
    every = steps(example())
    page = every.to_html()
    assert "<svg" not in page
    assert "└─" in page
    assert Page(page).items == [step.sentence for step in every]
    assert "<img" not in every._repr_html_()


labels = st.text(st.characters(), max_size=12) | st.text(r"<>&;\"'{}|$NGlnrt#x0 /!-" + "\n\\", max_size=20)
NASTY = [
    "</script><script>alert(1)</script>",
    "<!--",
    "]]>",
    "${x} $graph $",
    "&lt;",
    "javascript:alert(1)",
    "\x00\u2028",
]


@settings(max_examples=30, deadline=None)
@given(st.lists(labels, min_size=2, max_size=4))
def test_any_label_comes_out_as_that_text(texts: list[str]) -> None:
    y = Value(1.0, label="root")
    for text in texts:
        y = y * Value(2.0, label=text)
    every = steps(y)
    page = Page(every.to_html())
    assert page.items == [step.sentence for step in every]
    assert [step["sentence"] for step in page.data["steps"]] == page.items
    assert len(page.scripts) == 2
    for text in texts:
        assert any(visible(text) in item for item in page.items)


def test_nasty_labels_come_out_as_they_are() -> None:
    test_any_label_comes_out_as_that_text.hypothesis.inner_test(NASTY)
    test_any_label_comes_out_as_that_text.hypothesis.inner_test(["x" * 10_000, "y"])
