"""What a picture says: kinds of boxes, folded constants, slopes, frames around modules, heat, paths, names."""

import html
import math
import re
import sys
import types
import xml.etree.ElementTree as ET
from fractions import Fraction

import pytest
from cases import python
from graphs import SVG, labelled

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.viz import draw, draw_dot, render, tree
from tinygrad_edu.viz.colours import BROKEN, LIGHT, SCALE, WHITE, shades
from tinygrad_edu.viz.compose import picture_of
from tinygrad_edu.viz.names import callers_names


def boxes(root, **options):
    """{title or operation: Box}"""
    return {box.title or box.operation: box for box in picture_of(root, {}, **options).boxes}


def network(layers=(2, 1), activation="tanh"):
    model = nn.MLP(2, layers, activation, rng=0)
    return model, model([Value(0.5, label="x0"), Value(-1.0, label="x1")])


# --- Boxes ----------------------------------------------------------------------------------------------------
def test_each_node_is_one_box_with_its_operation_inside():
    a, b = labelled(a=2.0, b=-3.0)
    y = a * b
    y.backward()
    (one, two, three), arrows = picture_of(y, {}).boxes, picture_of(y, {}).arrows
    assert [(box.id, box.title, box.operation, box.data, box.grad) for box in (one, two, three)] == [
        ("n0", "b", "", "-3", "2"),
        ("n1", "a", "", "2", "-3"),
        ("n2", "", "*", "-6", "1"),
    ]
    assert [(arrow.tail, arrow.head, arrow.operand) for arrow in arrows] == [("n1", "n2", 0), ("n0", "n2", 1)]


def test_kinds_differ_by_fill_and_by_shape():
    neuron = nn.Neuron(1, "tanh", rng=0)
    y = neuron([Value(1.0, label="x")]) * 2 + 1
    kinds = {box.kind for box in picture_of(y, {}, constants=True).boxes}
    assert kinds == {"leaf", "parameter", "constant", "interior", "result"}
    from tinygrad_edu.viz.dot import NODE, SHAPES

    assert len({LIGHT[kind] for kind in SHAPES}) == len(SHAPES)
    looks = [NODE | dict(look) for look in SHAPES.values()]
    assert len({(look["shape"], look["style"], look.get("peripheries")) for look in looks}) == len(SHAPES)


@pytest.mark.parametrize(
    ("labels", "parameters"),
    [
        (["layer0.neuron3.w2", "layer0.neuron3.b", "x"], {"layer0.neuron3.w2", "layer0.neuron3.b"}),
        (["w0", "w1", "b", "x0"], {"w0", "w1", "b"}),
        (["a", "b", "w"], set()),
        ([".w0", "1.5", "a..b", "see Fig. 2.", "a.b\n"], set()),
    ],
)
def test_parameters_are_known_by_their_labels(labels, parameters):
    root = tg.sum([Value(1.0, label=label) for label in labels])
    assert {box.title for box in picture_of(root, {}).boxes if box.kind == "parameter"} == parameters


def test_a_dash_and_a_note_stand_for_gradients_until_a_backward_pass():
    (a,) = labelled(a=2.0)
    y = a * a
    assert {box.grad for box in picture_of(y, {}).boxes} == {"–"}
    assert tree(y, ascii=False).count("grad –") == 2
    y.backward()
    assert [box.grad for box in picture_of(y, {}).boxes] == ["4", "1"]
    a.grad = 0.0  # the root's 1 tells that there was one
    assert boxes(y)["a"].grad == "0"
    x = Value(3.0, label="x")
    y = x * x
    assert picture_of(y, {}).note == "–  no gradient yet: call backward() on the result first"
    assert "call backward()" in draw(y).source
    y.backward()
    assert picture_of(y, {}).note == ""
    assert "call backward()" not in draw(y).source


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (lambda x: x * 2, "· * 2"),
        (lambda x: 2 * x, "2 * ·"),
        (lambda x: 1 - x, "1 - ·"),
        (lambda x: 2.5**x, "2.5 ** ·"),
        (lambda x: x**3, "**3"),
        (lambda x: x * -1, "· * -1"),
        (lambda x: tg.max(x, 0.0), "max(·, 0)"),
        (lambda x: tg.sum([x, 1.0, x]), "· + 1 + ·"),
        (lambda x: tg.sum([x, *[1.0] * 9]), "+ (9 constants)"),
        (lambda x: x * x, "*"),
    ],
)
def test_constants_are_folded_into_the_operation(expression, text):
    (x,) = labelled(x=2.0)
    root = expression(x)
    leaf, result = picture_of(root, {}).boxes
    assert (leaf.title, result.operation) == ("x", text)
    assert result.size + leaf.size == len(tg.topological_order(root))


def test_constants_are_boxes_on_request_or_where_they_are_shared():
    (x,) = labelled(x=2.0)
    assert [box.kind for box in picture_of(x * 2, {}, constants=True).boxes] == ["constant", "leaf", "result"]
    assert "shape=ellipse" in draw(x * 2, constants=True).source
    assert "· * 2" in draw(x * 2).source
    two = Value(2.0)
    assert [box.operation for box in picture_of(two * two, {}).boxes] == ["", "*"]
    assert [box.operation for box in picture_of(Value(2.0) * Value(3.0), {}).boxes] == ["", "", "*"]
    (x,) = labelled(x=2.0)
    assert len(picture_of(x * two + two, {}).boxes) == 4


# --- Arrows ---------------------------------------------------------------------------------------------------
def test_parallel_arrows_stay_and_carry_their_slopes():
    (x,) = labelled(x=3.0)
    first, second = picture_of(x / x, {}, slopes=True).arrows
    assert (first.slope, second.slope) == ("0.3333", "-0.3333")
    source = draw(x / x, slopes=True).source
    assert source.count("n0 -> n1") == 2
    assert "label=<-0.3333>" in source
    assert "0.3333" not in draw(x / x).source


def test_paths_are_highlighted_constants_included():
    a, b = labelled(a=2.0, b=3.0)
    c = a * b
    y = c + a
    edges = {(y, 0), (c, 1)}
    arrows = picture_of(y, {}, paths=edges).arrows
    marked = {(arrow.tail, arrow.head) for arrow in arrows if arrow.marked}
    places = {node: f"n{place}" for place, node in enumerate(tg.topological_order(y))}
    assert marked == {(places[c], places[y]), (places[b], places[c])}
    source = draw(y, paths=edges).source
    assert source.count("penwidth=2.6") == 2
    assert source == draw(y, paths=types.SimpleNamespace(edges=list(edges))).source
    assert draw(y, paths=[]).source == draw(y, paths=None).source == draw(y).source
    (x,) = labelled(x=2.0)
    y = x * 2
    assert len(picture_of(y, {}, paths={(y, 1)}).boxes) == 3


def test_paths_that_are_none_are_told_what_to_pass():
    (x,) = labelled(x=2.0)
    y = x * x
    with pytest.raises(TypeError, match=r"^paths is an iterable of edges .* got \[1, 2\]\.$"):
        draw(y, paths=[1, 2])
    with pytest.raises(TypeError, match="paths is an iterable"):
        draw(y, paths=3)
    for edge in [(y, 2), (x, 0), (x * x, 0), (y, -1)]:
        with pytest.raises(ValueError, match=r"There is no operand .* in this graph"):
            draw(y, paths=[edge])


def test_a_node_is_framed_with_the_parameters_it_belongs_to():
    _, y = network()
    loss = (y - 1.0) ** 2
    loss.label = "loss"
    scopes = {}
    for box in picture_of(loss, {}).boxes:
        scopes.setdefault(box.scope, []).append(box.title or box.operation)
    assert sorted(scopes[()]) == ["loss", "x0", "x1", "· - 1"]
    for neuron in [("layer0", "neuron0"), ("layer0", "neuron1")]:
        names = [".".join([*neuron, part]) for part in ("b", "w0", "w1")]
        assert sorted(scopes[neuron]) == sorted([*names, "*", "*", "+", "+", "tanh"])
    assert len(scopes["layer1", "neuron0"]) == 3 + 4
    source = draw(loss).source
    assert [source.count(f"label=<{name}>") for name in ("layer0", "layer1", "neuron0", "neuron1")] == [1, 1, 2, 1]


# --- Heat -----------------------------------------------------------------------------------------------------
def test_heat_shades_by_the_logarithm_and_says_so():
    (x,) = labelled(x=1.0)
    y = x
    for _ in range(7):
        y = y * 0.01
    y.backward()
    source = draw(y, heat=True).source
    assert all(f'fillcolor="{colour}"' in source for colour in SCALE)
    assert "|gradient|" in source
    assert "|gradient|" not in draw(y).source
    assert "no backward pass yet" in draw(Value(1.0, label="x") * 2, heat=True).source


def test_the_legend_names_what_occurs():
    heat = shades([*[10.0**-k for k in range(9)], None])
    assert heat[1e-8].fill == SCALE[0]
    assert [*dict.fromkeys(shade.fill for shade in heat.values())] == [*reversed(SCALE)]
    assert heat[1.0].meaning == "0.072 to 1"
    odd = [(shade.fill, shade.meaning) for shade in shades([0.0, math.nan, 0.5]).values()]
    assert odd == [(BROKEN, "inf or nan"), (SCALE[0], "0.5"), (WHITE, "0")]
    assert shades([1.7e308, 1e-300])[1.7e308].fill == SCALE[-1]
    assert shades([]) == {}


# --- Names ----------------------------------------------------------------------------------------------------
in_globals = Value(7.0)


def names(source):
    source = html.unescape(source)
    return {
        title
        for title in ("a", "b", "y", "w[0]", "w[1]", "p['k']", "m[1][0]")
        if re.search(rf">{re.escape(title)}( \\| |<)", source)
    }


def test_names_come_from_the_callers_variables():
    a, b = Value(2.0), Value(3.0)
    y = a * b
    assert names(draw(y).source) == names(draw_dot(y).source) == {"a", "b", "y"}
    assert tree(y, ascii=False).splitlines() == ["y = 6   grad –   *", "├─ a = 2   grad –", "└─ b = 3   grad –"]
    assert [node.label for node in (a, b, y)] == [""] * 3
    assert repr(tree(y)) == tg.viz.draw(y).text
    assert repr(draw(y)).splitlines()[:-1] == draw(y).text.splitlines()
    assert "render('graph', format='svg')" in repr(draw(y))


def test_names_of_lists_dicts_prompts_and_locals():
    w, p, m = [Value(1.0), Value(2.0)], {"k": Value(3.0)}, ([], (Value(4.0),))
    y = w[0] * w[1] + p["k"] * m[1][0]
    assert names(draw(y).source) == {"w[0]", "w[1]", "p['k']", "m[1][0]", "y"}
    here = in_globals
    assert callers_names(sys._getframe())[here] == "here"
    namespace = {}
    exec("import tinygrad_edu as tg\na = tg.Value(2.0)\nb = a * a\nsource = tg.draw(b).source", namespace)
    assert names(namespace["source"]) == {"a", "b"}
    assert "a" in namespace
    x = Value(2.0)
    y = x * 3 + 1
    plain = draw(y).source
    order, pairs = tg.topological_order(y), tg.edges(y)
    assert draw(y).source == plain
    assert len(order) == len(pairs) + 1


def test_a_label_comes_before_a_variable_and_the_shortest_variable_before_others():
    longer_name = x = also = Value(2.0)
    labelled_one = Value(1.0, label="L")
    _hidden = In = [x * labelled_one]
    names = callers_names(sys._getframe())
    assert names[x] == "x"
    assert In[0] not in names
    assert names[in_globals] == "in_globals"
    assert ">L<" in draw(_hidden[0]).source
    assert longer_name is also


class Tricky:
    @property
    def __class__(self):
        raise AssertionError("code of the user's ran")


def test_looking_for_names_runs_no_code_and_skips_data():
    trap, data, odd = Tricky(), [in_globals] * 20_000, {(1, 2): Value(1.0), "in": [[[Value(2.0)]]]}
    names = callers_names(sys._getframe())
    assert len({name for name in names.values() if name.startswith(("trap", "data", "odd"))}) == 0
    assert all((trap, data, odd))
    assert callers_names(None) == {}


def test_a_picture_keeps_no_graph_alive(living):
    def pictures():
        y = Value(2.0) * Value(3.0)
        return draw(y), tree(y), draw_dot(y)

    pictures()
    assert living() == 0


# --- Options and failures ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "fancy"}, r'^style is "value" .* or "micrograd" .*, got \'fancy\'\.'),
        ({"max_nodes": 1}, r"^max_nodes is a whole number of 2 or more, or None for all nodes, got 1\."),
        ({"max_nodes": 2.5}, "got 2.5"),
        ({"rankdir": "RL"}, r"rankdir is \"LR\" .* or \"TB\" .*, got 'RL'\."),
        ({"format": "doc"}, "unknown format: 'doc'"),
    ],
)
def test_options_there_are_not(options, message):
    with pytest.raises(ValueError, match=message):
        draw(Value(1.0), **options)


def test_both_styles_take_every_option():
    _, y = network()
    y.backward()
    for style in ("value", "micrograd"):
        drawing = draw(y, style=style, slopes=True, constants=True, heat=True, paths=[(y, 0)], rankdir="TB")
        svg = ET.fromstring(drawing.pipe())
        ids = {g.get("id") for g in svg.iter(SVG + "g")}
        assert f"n{len(tg.topological_order(y)) - 1}.0" in ids


def test_the_dot_text_does_not_depend_on_hashes():
    program = """
from tinygrad_edu import Value, nn, draw
y = nn.MLP(2, [3, 1], rng=0)([Value(1.0), Value(2.0)])
y.backward()
print(draw(y, slopes=True, heat=True, paths={(y, 0), (y, 1)}).source, draw(y, max_nodes=5).source)
"""
    texts = {python(program, PYTHONHASHSEED=seed) for seed in ("1", "2", "3")}
    assert len(texts) == 1


def test_a_gradient_beyond_the_floats_has_a_magnitude():
    x = Value(Fraction(10) ** 400, label="x")
    y = x * x
    y.backward()
    assert [box.magnitude for box in picture_of(y, {}).boxes] == [math.inf, 1.0]


@pytest.mark.parametrize("error", [RuntimeError("broken"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")])
def test_a_notebook_view_never_raises(monkeypatch, error):
    def broken(*arguments, **options):
        raise error

    drawing = draw(Value(1.0, label="x"))
    monkeypatch.setattr(render.graphviz.Digraph, "_repr_mimebundle_", broken)
    assert drawing._repr_mimebundle_() == {"text/plain": f"x = 1   grad –\n({error})"}
