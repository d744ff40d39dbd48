"""Pictures: the DOT text, the tree, any label whatsoever, and every way to have or lack a renderer."""

import gc
import io
import math
import os
import pathlib
import shutil
import sys
import xml.etree.ElementTree as ET
from fractions import Fraction

import graphviz
import pytest
from graphs import SVG, chain, labelled, named
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, topological_order
from tinygrad_edu.viz import draw, draw_dot, render, trace, tree
from tinygrad_edu.viz.dot import DRAWN, TOLD
from tinygrad_edu.viz.words import clipped, few, four_digits, visible

PLAIN = ["svg", "g", "polygon", "polyline", "path", "ellipse", "text"]


def neuron():
    x, w, b = labelled(x=2.0, w=-3.0, b=6.5)
    y = named((w * x + b).tanh(), "y")
    y.backward()
    return y


def square():
    x = Value(3.0, label="x")
    y = x * x
    y.backward()
    return y


@pytest.fixture(params=["graphviz-pure", "dot"])
def renderer(request, monkeypatch):
    """The renderer that pip installs, and Graphviz's own where there is one."""
    if request.param == "graphviz-pure":
        monkeypatch.setenv("PATH", "")
    elif not shutil.which("dot"):
        pytest.skip("there is no dot on the PATH")


@pytest.fixture
def no_dot(monkeypatch):
    monkeypatch.setenv("PATH", "")


@pytest.fixture
def no_renderer(monkeypatch, no_dot):
    monkeypatch.setattr(render, "_graphviz_pure", lambda: None)


# --- DOT ------------------------------------------------------------------------------------------------------
HEAD = """\
digraph {
	graph [bgcolor="#fbfaf6" nodesep=0.25 pad=0.2 rankdir=LR ranksep=0.3]
	node [color="#52606d" fontcolor="#1f2933" fontname=Helvetica fontsize=12 height=0.1 margin=0 shape=box \
style="rounded,filled"]
	edge [arrowsize=0.6 color="#52606d"]
"""
SQUARE = (
    HEAD
    + """\
	n1 [label=<<table border="0" cellspacing="0" cellpadding="4"><tr><td><b>*</b></td></tr><hr/>\
<tr><td>data 9</td></tr><tr><td>grad 1</td></tr>\
</table>> color="#a02c12" fillcolor="#f6dcd4" peripheries=2]
	n0 -> n1 [id="n1.0"]
	n0 -> n1 [id="n1.1"]
	n0 [label=<<table border="0" cellspacing="0" cellpadding="4"><tr><td><font color="#a02c12">x</font></td></tr>\
<hr/><tr><td>data 3</td></tr><tr><td>grad 6</td></tr>\
</table>> fillcolor="#ffe8b3" penwidth=1.8 style=filled]
}
"""
)
SQUARE_IN_TWO_SHAPES = (
    HEAD
    + """\
	n1 [label=<<table border="0" cellspacing="0" cellpadding="4"><tr><td>data 9 | grad 1</td></tr>\
</table>> color="#a02c12" fillcolor="#f6dcd4" peripheries=2]
	n1_op -> n1 [id="n1.0"]
	n1_op [label=<<table border="0" cellspacing="0" cellpadding="4"><tr><td><b>*</b></td></tr></table>> \
fillcolor="#d6e6f7" shape=ellipse width=0.5]
	n0 -> n1_op [id="n1_op.0"]
	n0 -> n1_op [id="n1_op.1"]
	n0 [label=<<table border="0" cellspacing="0" cellpadding="4"><tr><td>x | data 3 | grad 6</td></tr>\
</table>> fillcolor="#ffe8b3" penwidth=1.8 style=filled]
}
"""
)


def test_one_graph_has_one_dot_text():
    assert draw(square()).source == SQUARE
    assert draw_dot(square()).source == SQUARE_IN_TWO_SHAPES
    assert draw(square(), style="micrograd").source == SQUARE_IN_TWO_SHAPES
    assert "rankdir=TB" in draw_dot(square(), "png", "TB").source
    y = neuron()
    assert draw(y).source == draw(y).source == draw(neuron()).source
    assert draw_dot(y).source == draw_dot(neuron()).source
    source = draw(neuron()).source
    places = [source.index(f">{label}<") for label in "ywxb"]
    assert places == sorted(places)


def test_a_drawing_is_a_digraph_and_copies_as_one():
    drawing = draw(square(), rankdir="TB")
    assert isinstance(drawing, graphviz.Digraph)
    twin = drawing.copy()
    assert (twin.source, twin.text) == (drawing.source, drawing.text)
    assert "rankdir=TB" in twin.source


@pytest.mark.parametrize("look", [draw, tree, trace])
@pytest.mark.parametrize("root", [3.0, None, [Value(1.0)], "y"])
def test_a_root_that_is_no_value_is_told_what_to_pass(look, root):
    with pytest.raises(TypeError, match=r"^Pass one Value, the result of a computation, not .*\."):
        look(root)


@pytest.mark.parametrize(
    ("number", "shown"),
    [(-0.0, "-0"), (math.nan, "nan"), (-math.inf, "-inf"), (1e300, "1e+300"), (Fraction(1, 3), "0.3333")],
)
def test_numbers(number, shown):
    assert four_digits(number) == shown
    assert f">data {shown}<" in draw(Value(number)).source
    assert four_digits(Fraction(10) ** 400).startswith("Fraction(1000")


# --- Any label ------------------------------------------------------------------------------------------------
def svg_texts(drawing):
    """{node id: its texts}, after a check that the SVG has no element but those of a plain drawing."""
    root = ET.fromstring(drawing.pipe(format="svg"))
    allowed = {SVG + tag for tag in [*PLAIN, "title", "desc", "style"]}
    assert {element.tag for element in root.iter()} <= allowed
    assert not any("href" in name or name.startswith("on") for element in root.iter() for name in element.attrib)
    nodes = [g for g in root.iter(SVG + "g") if g.get("class") == "node"]
    return {g.find(SVG + "title").text: [t.text or "" for t in g.iter(SVG + "text")] for g in nodes}


def spaces(text):
    """Graphviz writes a run of spaces with no-break spaces, so that XML keeps them."""
    return text.replace("\xa0", " ")


NASTY = [
    "\"quoted\" and 'single'",
    "<script>alert(1)</script>",
    "&lt; &amp; &copy; &#65; &",
    "{a|b} [c] <d>",
    r"\N \G \l \n \\ ends in \\",
    "two\nlines",
    "\n",
    "tab\tnul\x00bell\x07 \x85 \u2028",
    "]",
    "]]> --> <!-- /* */ // #",
    "n0:port",
    "<b>bold</b>",
    "  spaces   kept  ",
    "a smile \U0001f600 and a scientist \U0001f469\u200d\U0001f52c",
    "λ₁ ∂L/∂w 日本語 עברית",
    "\u202ereversed\ud800\ufffe\uffff",
    "javascript:alert(1)",
    "%s {0} ${x} __ \x1b[31m",
    '10 kB of <&"\\{}|>; ' * 500,
]
labels = st.text(st.characters(), max_size=12) | st.text(r"<>&;\"'{}|NGlnrt#x0 " + "\n\\", max_size=12)


def total(texts):
    """A sum of ones with these labels, held by no variable of the test's."""
    y = Value(0.0)
    for text in texts:
        y = y + Value(1.0, label=text)
    return y


@settings(max_examples=60, deadline=None)
@given(st.lists(labels, min_size=1, max_size=6))
def test_any_label_is_drawn_as_it_is(texts):
    y = total(texts)
    drawn = svg_texts(draw(y, constants=True))
    order = topological_order(y)
    assert len(drawn) == len(order)
    labelled = [node for node in order if node.data == 1 and not node.rule]
    assert [leaf.label for leaf in labelled] == texts[::-1]
    for leaf in labelled:
        lines = [spaces(visible(line)) for line in clipped(leaf.label, DRAWN).split("\n")]
        shown = [spaces(text) for text in drawn[f"n{order.index(leaf)}"]]
        assert shown == [*filter(None, lines), "data 1", "grad –"]


def test_nasty_labels_are_drawn_as_they_are(renderer, capfd):
    test_any_label_is_drawn_as_it_is.hypothesis.inner_test(NASTY)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "label", [r'17,000 of <&"\{}|>; \N \G &amp; ' * 600, "x" * 17_000, "&" * 17_000, "7" * 17_000]
)
def test_a_long_label_is_clipped_in_the_picture_and_less_so_in_its_title(renderer, label):
    x = Value(1.0, label=label)
    y = x * 2
    svg = draw(y).pipe(format="svg", encoding="utf-8")
    titles = [element.text for element in ET.fromstring(svg).iter(SVG + "title")]
    long = [spaces(title) for title in titles if title and len(title) > 2500]
    assert long == [spaces(clipped(label.strip(), TOLD))]
    assert svg_texts(draw(y))["n1"] == [spaces(clipped(label, DRAWN)), "data 1", "grad –"]
    for style in ("value", "micrograd"):
        assert draw(y, style=style, heat=True, slopes=True).pipe(format="png").startswith(b"\x89PNG")


def test_a_picture_says_what_it_shows(renderer):
    svg = ET.fromstring(draw(neuron()).pipe(format="svg"))
    assert svg.get("role") == "img"
    assert [svg[0].tag, svg[1].tag] == [SVG + "title", SVG + "desc"]
    assert svg[0].text == "y = 0.4621   grad 1   tanh"
    assert svg[1].text == tree(neuron(), ascii=False)


@given(labels)
def test_visible_keeps_a_line_a_line(label):
    shown = visible(label)
    assert len(shown.splitlines()) <= 1
    shown.encode()
    assert visible(shown) == shown
    if label.isprintable():
        assert shown == label


def test_visible_escapes_control_characters_and_keeps_the_rest():
    cases = [
        ("a\nb", r"a\nb"),
        ("\t\x00\x1b[31m", r"\t\x00\x1b[31m"),
        ("\u2028\u202e\ud800\uffff", r"\u2028\u202e\ud800\uffff"),
        ("back\\slash", "back\\slash"),
        ("\U0001f469\u200d\U0001f52c e\u0301 \xa0", "\U0001f469\u200d\U0001f52c e\u0301 \xa0"),
    ]
    for label, shown in cases:
        assert visible(label) == shown


# --- Tree -----------------------------------------------------------------------------------------------------
def test_tree_of_a_neuron():
    expected = """\
y = 0.4621   grad 1   tanh
└─ 0.5   grad 0.7864   +
   ├─ -6   grad 0.7864   *
   │  ├─ w = -3   grad 1.573
   │  └─ x = 2   grad -2.359
   └─ b = 6.5   grad 0.7864"""
    text = tree(neuron(), ascii=False)
    assert str(text) == repr(text) == f"{text}" == expected


def test_a_shared_node_is_written_out_once():
    c = [Value(2.0, label="a") * Value(3.0)].pop  # in no variable
    root = (lambda c: c * c + c)(c())
    assert tree(root, ascii=False).splitlines() == [
        "root = 42   grad –   +",
        "├─ 36   grad –   *",
        "│  ├─ #2 = 6   grad –   *",
        "│  │  ├─ a = 2   grad –",
        "│  │  └─ 3   grad –",
        "│  └─ ↑ #2",
        "└─ ↑ #2",
    ]


def test_tree_in_ascii_and_without_a_terminal(monkeypatch):
    x = Value(1.0, label="λ")
    assert tree(x * x + 1, ascii="yes") == tree(x * x + 1, ascii=True)
    assert tree(x * x + 1, ascii=True).splitlines() == [
        "2   grad -   +",
        "|- 1   grad -   *",
        r"|  |- \u03bb = 1   grad -",
        r"|  `- ^ \u03bb",
        "`- 1   grad -",
    ]
    monkeypatch.setattr(sys, "stdout", None)
    assert "├─ " in tree(square())


@pytest.mark.parametrize(("encoding", "branch"), [("utf-8", "├─ "), ("ascii", "|- "), ("cp1252", "|- ")])
def test_tree_asks_the_terminal(monkeypatch, encoding, branch):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    x = Value(1.0, label="λ ü")
    print(tree(x + x))
    terminal.flush()
    assert branch in terminal.buffer.getvalue().decode(encoding)


def test_a_deep_tree_continues_in_blocks_and_a_long_one_stops():
    lines = tree(chain(45, Value(0.0, label="x")), max_lines=1000, ascii=False).splitlines()
    assert lines[20] == " " * 57 + "└─ ↓ #25"
    assert lines[21] == "#25 = -0   grad –   -"
    assert max(map(len, lines)) < 100
    assert lines[-1].endswith("└─ x = 0   grad –")
    assert str(tree(chain(4, Value(0.0, label="x")), max_lines=5, ascii=False)).endswith("x = 0   grad –")
    lines = tree(chain(100_000), ascii=False).splitlines()
    assert len(lines) == 201
    assert lines[-1] == "… stopped after 200 lines: 99,810 of 100,001 nodes are not shown"


def test_a_tree_of_limited_depth_and_width_counts_what_it_leaves_out():
    a, b = Value(1.0, label="a"), Value(2.0, label="b")
    y = tg.max(a * b, a + b, a, b) * 2.0
    assert tree(y, depth=1, ascii=True).splitlines() == [
        "y = 6   grad -   *",
        "|- 3   grad -   max",
        "|  `- ... 4 operands not shown",
        "`- 2   grad -",
        "... 4 of 7 nodes are not shown",
    ]
    assert tree(y, width=1, ascii=True).splitlines() == [
        "y = 6   grad -   *",
        "|- 3   grad -   max",
        "|  |- 2   grad -   *",
        "|  |  |- a = 1   grad -",
        "|  |  `- ... 1 operand not shown",
        "|  `- ... 3 operands not shown",
        "`- ... 1 operand not shown",
        "... 3 of 7 nodes are not shown",
    ]
    assert tree(y, depth=9, width=9) == tree(y)


@pytest.mark.parametrize("limits", [{"max_lines": 0}, {"max_lines": None}, {"depth": 0}, {"width": "a"}])
def test_limits_of_a_tree_are_whole_numbers(limits):
    with pytest.raises(ValueError, match=f"{next(iter(limits))} is a whole number of 1 or more, got"):
        tree(square(), **limits)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=60), st.integers(1, 80))
def test_tree_writes_every_node_out_once(pairs, max_lines):
    nodes = [Value(0.0, label="leaf")]
    for left, right in pairs:
        nodes.append(nodes[left % len(nodes)] + nodes[right % len(nodes)])
    total = len(trace(nodes[-1])[0])
    lines = tree(nodes[-1], max_lines=10**6, ascii=False).splitlines()
    assert sum("grad" in line for line in lines) == total
    cut = tree(nodes[-1], max_lines=max_lines, ascii=False).splitlines()
    assert cut[:max_lines] == lines[:max_lines]
    if len(lines) > max_lines:
        hidden = total - sum("grad" in line for line in cut)
        assert cut[max_lines:] == [f"… stopped after {max_lines} lines: {hidden} of {total} nodes are not shown"]
    else:
        assert cut == lines


# --- Rendering ------------------------------------------------------------------------------------------------
def test_pipe_without_a_path(no_dot):
    drawing = draw(neuron())
    svg = drawing.pipe()
    assert b"<svg" in svg
    assert drawing.pipe(format="svg", encoding="utf-8") == svg.decode()
    assert drawing.pipe(encoding="latin-1") == svg.decode("latin-1")
    assert drawing.pipe("png").startswith(b"\x89PNG")
    assert draw(neuron(), format="png").pipe().startswith(b"\x89PNG")
    for drawing in (draw(square(), format="pdf"), large()):
        with pytest.raises(graphviz.CalledProcessError, match=r"\"pdf\" not recognized. Use one of: .* png svg"):
            drawing.pipe("pdf")


def test_render_without_a_path(no_dot, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    drawing = draw(neuron())
    assert drawing.render("graph", format="png") == "graph.png"
    assert pathlib.Path("graph.png").read_bytes().startswith(b"\x89PNG")
    assert pathlib.Path(drawing.save("y.gv")).read_text(encoding="utf-8") == drawing.source
    written = drawing.render(outfile="pictures/z.svg", cleanup=True, view=False)
    assert pathlib.Path(written).name == "z.svg"
    assert os.listdir("pictures") == ["z.svg"]


def stand_in(folder, monkeypatch, name, script):
    """A command of that name, alone on the PATH."""
    command = folder / name
    command.write_text(script)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return command


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for dot is a shell script")
def test_dot_is_preferred_where_there_is_one(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "dot", '#!/bin/sh\necho "dot $@"\n')
    assert draw(square()).pipe(encoding="utf-8").strip() == "dot -Kdot -Tsvg"


@pytest.mark.skipif(os.name == "nt", reason="the stand-in is a shell script")
def test_graphviz_pure_may_be_on_the_path_only(tmp_path, monkeypatch):
    command = stand_in(tmp_path, monkeypatch, "graphviz-pure", '#!/bin/sh\necho "pure $@"\n')
    monkeypatch.setattr(render.sysconfig, "get_path", lambda _: "")
    assert draw(square()).pipe(encoding="utf-8").strip() == "pure -Kdot -Tsvg"
    command.unlink()
    with pytest.raises(graphviz.ExecutableNotFound):
        draw(square()).pipe(format="png")


def test_a_notebook_gets_pictures_and_their_text(renderer):
    y = neuron()
    bundle = draw(y)._repr_mimebundle_()
    assert list(bundle) == ["text/plain", "image/svg+xml", "image/png"]
    assert bundle["text/plain"] == tree(y, ascii=False)
    assert bundle["image/svg+xml"].startswith("<?xml")
    assert bundle["image/png"].startswith(b"\x89PNG")  # for a notebook that is not trusted
    assert "image/png" not in draw(y)._repr_mimebundle_(exclude=["image/png"])
    assert draw(y)._repr_mimebundle_(include=["image/png"])["image/png"].startswith(b"\x89PNG")


def test_without_a_renderer_pipe_and_render_say_what_to_install(no_renderer, tmp_path):
    with pytest.raises(graphviz.ExecutableNotFound, match=r"^No program to draw with: `pip install graphviz"):
        draw(square()).pipe(format="png")
    with pytest.raises(graphviz.ExecutableNotFound, match="install Graphviz"):
        draw(square()).render("graph", directory=tmp_path, format="pdf")
    assert list(tmp_path.glob("*.pdf")) == []
    assert draw(square()).render("graph", directory=tmp_path) == str(tmp_path / "graph.svg")


def large():
    """A drawing of more DOT than a pipe holds."""
    y = Value(1.0, label="x")
    for i in range(300):
        y = y * Value(float(i), label=f"{i}" * 40)
    return draw(y, max_nodes=None)


def descriptors():
    gc.collect()
    return os.listdir("/proc/self/fd")


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files by /proc")
def test_a_renderer_that_ends_before_it_has_read_leaves_no_process_and_no_pipe(tmp_path, monkeypatch):
    stand_in(tmp_path, monkeypatch, "dot", "#!/bin/sh\necho 'no such format, use one of: png svg' >&2\nexit 1\n")
    drawing, before = large(), len(descriptors())
    assert len(drawing.source) > 100_000
    for _ in range(20):
        with pytest.raises(graphviz.CalledProcessError, match="no such format, use one of: png svg"):
            drawing.pipe(format="pdf")
    assert "no such format" in drawing._repr_mimebundle_()["text/plain"]  # in a notebook
    assert len(descriptors()) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_one_part_alone_is_not_left_out() -> None:
    assert few("abcd", 3) == ["a", "b", "c", "d"]
    assert few("abcde", 3) == ["a", "b", "c", "... 2 more"]
