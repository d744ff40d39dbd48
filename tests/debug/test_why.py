"""`why`: the paths of a gradient, against the enumeration of them all."""

import math
from collections.abc import Iterator
from fractions import Fraction
from html import escape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_edu import Value, gradients, nn, topological_order
from tinygrad_edu.debug import Why, why
from tinygrad_edu.testing import Program, path_sum, programs


def all_paths(node: Value, x: Value, product: Any) -> Iterator[tuple[tuple[tuple[Value, int], ...], Any]]:
    """(edges from x up, product) of every path, by walking them one by one."""
    if node is x:
        yield (), product
        return
    if node.rule:
        slopes = node.rule.shares(type(node.data)(1), node.data, *[p.data for p in node.parents])
        for operand, (parent, slope) in enumerate(zip(node.parents, slopes, strict=True)):
            for edges, whole in all_paths(parent, x, product * slope):
                yield (*edges, (node, operand)), whole


def size(product: Any) -> Any:
    return abs(product) if product == product else math.inf


def same(a: Any, b: Any) -> bool:
    return bool(a == b or (a != a and b != b))


def check(answer: Why, top: int) -> None:
    root, x = answer.root, answer.x
    every = dict(all_paths(root, x, type(root.data)(1)))
    assert answer.count == len(every)
    assert len(answer.paths) == min(top, len(every))
    largest = sorted(map(size, every.values()), reverse=True)[:top]
    assert [size(path.product) for path in answer.paths] == largest
    assert len({path.edges for path in answer.paths}) == len(answer.paths)
    assert answer.edges == {edge for path in answer.paths for edge in path.edges}
    for path in answer.paths:
        assert same(path.product, every[path.edges])
        assert path.nodes[0] is x
        assert path.nodes[-1] is root
        for child, parent, operand in zip(path.nodes[1:], path.nodes[:-1], path.operands, strict=True):
            assert child.parents[operand] is parent
        product = type(root.data)(1)
        for slope in reversed(path.slopes):
            product = product * slope
        assert same(path.product, product)
    assert same(answer.total, gradients(root, x))
    assert repr(answer)


@given(programs(max_nodes=14), st.data(), st.integers(0, 6))
def test_the_largest_of_all_paths_on_random_programs(program: Program, data: st.DataObject, top: int) -> None:
    results = program.graph()
    x = data.draw(st.sampled_from(topological_order(results[-1])))
    check(why(results[-1], x, top), top)


@given(programs(max_nodes=14, kind=Fraction), st.sampled_from([0, 1, 3, 10**9]))
def test_fractions_stay_exact(program: Program, top: int) -> None:
    results = program.graph()
    root = results[-1]
    for x in topological_order(root):
        answer = why(root, x, top)
        assert answer.shown + answer.rest == answer.total == path_sum(root, x)
        assert all(isinstance(number, Fraction) for number in (answer.shown, answer.rest, answer.total))


@given(
    st.lists(st.tuples(st.sampled_from([0.0, -2.0, 0.5, 1e200, math.inf, math.nan]), st.booleans()), max_size=7)
)
def test_zero_infinite_and_nan_slopes(factors: list[tuple[float, bool]]) -> None:
    x = y = Value(1.0)
    for factor, twice in factors:
        y = y * Value(factor) + (y * -1.0 if twice else 0.0)
    for top in (1, 3, 200):
        check(why(y, x, top), top)


def test_slopes_of_zero_parallel_edges_and_products_that_are_nearly_equal() -> None:
    x = Value(-1.0, label="x")
    answer = why(x.relu() + x * 2 + x * x, x)
    assert [path.product for path in answer.paths] == [2.0, -1.0, -1.0, 0.0]
    assert answer.count == 4
    x = Value(3.0)
    y = x - x
    answer = why(y, x)
    assert [(path.edges, path.slopes) for path in answer.paths] == [(((y, 0),), (1.0,)), (((y, 1),), (-1.0,))]
    assert answer.edges == {(y, 0), (y, 1)}
    x = y = Value(1.0)
    for _ in range(60):
        y = y * 0.1 + y * 0.3 * (1 / 3)
    assert why(y, x).count == 2**60


def test_a_million_million_paths_and_more() -> None:
    x = y = Value(1.0, label="x")
    for _ in range(40):
        y = y * 0.5 + y * 0.25
    answer = why(y, x, top=42)
    assert answer.count == 2**40
    assert [path.product for path in answer.paths] == [0.5**40] + 40 * [0.5**41] + [0.5**42]
    assert answer.total == pytest.approx(0.75**40, rel=1e-12)
    assert "1,099,511,627,776 paths, 1,099,511,627,734 of them not shown, sum 1.006e-05" in repr(answer)
    x = y = Value(0.0)
    for _ in range(15_000):
        y = y + y
    answer = why(y, x, 2)
    assert answer.count == 2**15_000
    assert "about 2.82e+4,515 paths" in repr(answer)


def test_the_empty_path_of_the_root_and_no_path() -> None:
    y = Value(2.0, label="y") * 1
    y.label = "y"
    (path,) = why(y, y).paths
    assert (path.nodes, path.edges, path.slopes, path.product) == ((y,), (), (), 1.0)
    assert repr(why(Value(2.0), topological_order(y)[0])).endswith("total 0")
    y, x = Value(2.0, label="y"), Value(3.0, label="x")
    answer = why(y, x)
    assert (answer.count, answer.total, answer.paths, answer.rest) == (0, 0.0, (), 0.0)
    assert repr(answer) == "d(y)/d(x): no path leads from x up to y, which does not depend on it\ntotal 0"
    assert why(y * 2, Value(1.0)).count == 0


def test_the_table() -> None:
    a, b = Value(2.0, label="a"), Value(-3.0, label="b\n")
    d = a * b
    loss = d * d - a
    loss.label, d.label = "loss", "d"
    assert repr(why(loss, a, 2)).splitlines() == [
        "d(loss)/d(a): paths from a up, largest first",
        "  product   share  path                  slopes",
        "       18  51.43%  loss <- #3 <- d <- a  1 * -6 * -3",
        "       18  51.43%  loss <- #3 <- d <- a  1 * -6 * -3",
        "3 paths, 1 of them not shown, sum -1",
        "total 35",
    ]
    assert "loss <- #3 <- d <- b\\n" in repr(why(loss, b))
    assert repr(why(loss, a, 0)).splitlines()[1] == "3 paths, 3 of them not shown, sum 35"
    assert "  -  " in repr(why(a - a, a))  # a share of 0 says nothing
    y = d
    for _ in range(10):
        y = -y
    assert " <- ... 3 more ... <- " in repr(why(y, d))  # of 11 nodes


def test_a_notebook_shows_the_table() -> None:
    x = Value(3.0, label="x<b>")
    shown = why(x * x, x)._repr_html_()
    assert shown.count("<tr>") == 3
    assert "x&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "<td" in shown
    assert "total 6" in shown


def test_every_report_is_shown_as_html() -> None:
    from tinygrad_edu.testing import check_rule, diagnose, gradcheck

    for report in (gradcheck(lambda x: x * x, 0.5), check_rule("neg", budget=0), diagnose(Value)):
        title, *_ = repr(report).splitlines()
        assert report._repr_html_().startswith(f"<div><p><strong>{escape(title)}</strong></p>")


def test_a_dead_weight_is_one_line() -> None:
    model = nn.MLP(2, [2, 1], "relu", rng=0)
    for neuron in model.layers[0].neurons:
        neuron.b.data = -9.0
    loss = sum((model(x) - 1.0) ** 2 for x in ([1.0, 2.0], [0.5, -1.0]))
    text = repr(why(loss, model.layers[0].neurons[0].w[0]))
    assert text.startswith("d(loss)/d(layer0.neuron0.w0) = 0: every path passes relu at #")
    assert text.endswith(", slope 0")
    assert "\n" not in text


def test_a_dead_weight_of_several_causes_names_the_operation_of_each() -> None:
    w = Value(0.5, label="w")
    loss = (w * 3.0 - 9.0).relu() + w * 0.0
    assert repr(why(loss, w)).endswith("every path passes mul at #2 (0.5 * 0) or relu at #7 (-7.5), slope 0")
