"""The graph on its own: its order, its depth, and that it goes when the last result goes."""

import copy
import gc
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from hypothesis import given, settings

from tinygrad_edu import Value, ancestors, edges, grad, gradients, hessian, jvp, topological_order, vjp
from tinygrad_edu.testing import Program, programs


@dataclass(eq=False)
class Node:
    """All that the functions of graph.py ask for."""

    name: str
    parents: tuple["Node", ...] = ()


def diamond() -> tuple[Node, Node, Node, Node]:
    a = Node("a")
    b, c = Node("b", (a,)), Node("c", (a,))
    return a, b, c, Node("d", (b, c))


# --- Order ----------------------------------------------------------------------------------------------------


def test_a_leaf_is_a_graph_of_one() -> None:
    a = Node("a")
    assert topological_order(a) == [a]
    assert edges(a) == []
    assert ancestors(a) == []


def test_a_shared_node_comes_once_and_before_both_that_use_it() -> None:
    a, b, c, d = diamond()
    assert topological_order(d) == [a, c, b, d]
    assert ancestors(d) == [a, c, b]
    assert ancestors(b) == [a]
    assert edges(d) == [(a, c), (a, b), (b, d), (c, d)]


def test_from_the_end_operands_read_from_left_to_right() -> None:
    leaves = [Node(name) for name in "abc"]
    assert topological_order(Node("sum", tuple(leaves)))[::-1][1:] == leaves


def test_a_square_has_its_edge_twice() -> None:
    x = Value(3.0)
    y = x * x
    assert y.parents == (x, x)
    assert edges(y) == [(x, y), (x, y)]
    assert topological_order(y) == [x, y]


def test_a_leaf_used_early_and_late_comes_before_both() -> None:
    a = Node("a")
    chain = Node("1", (a,))
    for name in "2345":
        chain = Node(name, (chain, a))
    assert "".join(node.name for node in topological_order(chain)) == "a12345"


def test_equal_numbers_are_different_nodes() -> None:
    x, y = Value(1.0), Value(1.0)
    assert topological_order(x + y)[:2] == [y, x]


def test_a_graph_is_not_changed_by_reading_it() -> None:
    x = Value(2.0, label="x")
    y = x * x + x
    y.backward()
    topological_order(y), edges(y), ancestors(y)
    assert (x.grad, y.grad, x.parents, x.label) == (5.0, 1.0, (), "x")


def test_ladders_take_linear_time() -> None:
    node = Node("0")
    for i in range(1, 2001):  # 2^2000 paths
        node = Node(str(i), (node, node))
    assert [n.name for n in topological_order(node)] == [str(i) for i in range(2001)]
    assert len(edges(node)) == 4000


@settings(deadline=None)
@given(programs())
def test_the_order_depends_on_the_shape_alone(program: Program) -> None:
    first, second = program.graph(), program.graph()
    name = {node: i for i, node in enumerate(first)} | {node: i for i, node in enumerate(second)}
    orders = [[(name.get(n), n.data) for n in topological_order(graph[-1])] for graph in (first, second)]
    assert orders[0] == orders[1]


@settings(deadline=None)
@given(programs())
def test_edges_are_the_parents_of_all_nodes(program: Program) -> None:
    root = program.graph()[-1]
    order = topological_order(root)
    assert len(edges(root)) == sum(len(node.parents) for node in order)
    assert [child for _, child in edges(root)] == [node for node in order for _ in node.parents]
    for node in order:
        assert ancestors(node) == topological_order(node)[:-1]
        assert set(ancestors(node)) == {p for parent in node.parents for p in topological_order(parent)}


# --- A chain of up to a million additions ----------------------------------------------------------------------


@pytest.fixture(scope="module", params=[20_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def n(request: pytest.FixtureRequest) -> int:
    """Twenty times what Python's recursion would allow, and a million."""
    return int(request.param)


@pytest.fixture(scope="module")
def chain(n: int) -> tuple[Value, Value]:
    """x, and y = x + x + ... + x with n additions, after backward()."""
    assert sys.getrecursionlimit() <= 1000
    x = Value(1.0, label="x")
    y = x
    for _ in range(n):
        y = y + x
    y.backward()
    return x, y


def test_many_additions_have_the_right_gradient(n: int, chain: tuple[Value, Value]) -> None:
    x, y = chain
    assert y.data == n + 1.0
    assert x.grad == n + 1.0


def test_many_additions_are_walked(n: int, chain: tuple[Value, Value]) -> None:
    x, y = chain
    order = topological_order(y)
    assert len(order) == n + 1
    assert order[0] is x
    assert order[-1] is y


def test_many_additions_are_deep_copied(n: int, chain: tuple[Value, Value]) -> None:
    x, y = chain
    twin_x, twin_y = copy.deepcopy((x, y))
    assert (twin_y.data, twin_x.grad, twin_x.label) == (n + 1.0, n + 1.0, "x")
    twin_x.grad = 0.0
    twin_y.backward()
    assert twin_x.grad == x.grad == n + 1.0


def test_many_additions_are_pickled_with_their_leaf(n: int, chain: tuple[Value, Value]) -> None:
    text = pickle.dumps(chain)
    twin_x, twin_y = pickle.loads(text)
    assert (twin_y.data, twin_x.grad, twin_x.label) == (n + 1.0, n + 1.0, "x")
    twin_x.grad = 0.0
    twin_y.backward()
    assert twin_x.grad == n + 1.0


# --- Pickles of several results -------------------------------------------------------------------------------


def test_results_pickled_together_stay_one_graph() -> None:
    x = Value(2.0)
    middle = x * x
    left, right = middle + 1, middle * 3
    names = {x: "x", middle: "middle", left: "left", right: "right"}
    for together in ([x, middle, left, right], [right, left, middle, x], [left, x, right, middle]):
        twins = pickle.loads(pickle.dumps(together))
        twin = {names[value]: twin for value, twin in zip(together, twins, strict=True)}
        assert twin["middle"].parents == (twin["x"], twin["x"])
        assert twin["left"].parents[0] is twin["middle"]
        assert twin["right"].parents[0] is twin["middle"]


def test_a_long_chain_pickled_from_the_middle_stays_one_chain() -> None:
    nodes = [Value(1.0)]
    for _ in range(2000):
        nodes.append(nodes[-1] + 1)
    for some in (nodes[::500], nodes[::-500], nodes):
        twins = pickle.loads(pickle.dumps(some))
        first, last = (twins[0], twins[-1]) if some[0].data < some[-1].data else (twins[-1], twins[0])
        order = set(topological_order(last))
        assert first in order
        assert order.issuperset(twins)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_will_do(protocol: int) -> None:
    x = Value(3.0, label="x")
    twin_x, twin_y = pickle.loads(pickle.dumps((x, x**2 * x), protocol))
    twin_y.backward()
    assert (twin_x.grad, twin_x.label, twin_y.data) == (27.0, "x", 27.0)


def test_a_second_pickle_of_a_graph_has_the_numbers_of_its_time() -> None:
    x = Value(3.0)
    y = x * x
    assert pickle.loads(pickle.dumps(y)).grad == 0.0
    y.backward()
    assert pickle.loads(pickle.dumps(y)).grad == 1.0


# --- Memory ---------------------------------------------------------------------------------------------------


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def living() -> int:
    return sum(type(x) is Value for x in gc.get_objects())


def use_backward(y: Value) -> None:
    y.backward()


def use_closure(y: Value) -> None:
    y._backward()


def use_check(y: Value) -> None:
    y.backward(check=True)


def use_walks(y: Value) -> None:
    assert topological_order(y)
    assert edges(y)
    assert ancestors(y)


def use_deepcopy(y: Value) -> None:
    copy.deepcopy(y).backward()


def use_pickle(y: Value) -> None:
    pickle.loads(pickle.dumps(y)).backward()


def use_derivatives(y: Value) -> None:
    assert gradients(y, y, create_graph=True).data == 1.0
    assert hessian(lambda t: t * t * y)(3.0) == 2 * y.data
    assert vjp(lambda t: t * y, 3.0)[1](1.0) == (y.data,)
    assert jvp(lambda t: t * y, (3.0,), (1.0,)) == (3 * y.data, y.data)


def use_failure(y: Value) -> None:
    with pytest.raises(ValueError, match="log"):
        grad(lambda t: (t - y).log())(y.data - 1)


USES = [use_backward, use_closure, use_check, use_walks, use_deepcopy, use_pickle, use_derivatives, use_failure]


@pytest.mark.parametrize("use", USES)
def test_a_dropped_graph_is_freed_at_once(use, no_collector: None) -> None:
    gc.collect()  # what earlier tests have left
    before = living()
    x = Value(0.5)
    y = x
    for _ in range(50):
        y = (y * x + 1).tanh() - y / 2
    assert living() == before + 1 + 50 * 7
    use(y)
    assert living() == before + 1 + 50 * 7
    del y
    assert living() == before + 1
    del x
    assert living() == before
    assert gc.collect() == 0


def test_dropping_a_result_frees_what_only_it_used(no_collector: None) -> None:
    gc.collect()  # what earlier tests have left
    before = living()
    x = Value(2.0)
    middle = x * x
    first, second = middle + x, middle.exp()
    del first
    assert living() == before + 3
    del middle
    assert living() == before + 3
    del second
    assert living() == before + 1


def test_many_additions_are_freed(n: int, chain: tuple[Value, Value], no_collector: None) -> None:
    gc.collect()  # what earlier tests have left
    before = living()
    y = x = Value(1.0)
    for _ in range(n):
        y = y + x
    assert living() == before + n + 1
    del y
    assert living() == before + 1
