"""The graph on its own: its order, its depth, its pickles, and that it goes when the last result goes."""

import copy
import gc
import io
import itertools
import operator
import pickle
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from cases import COPIES
from hypothesis import given, settings

import tinygrad_edu as tg
from tinygrad_edu import Value, ancestors, edges, grad, gradients, hessian, jvp, topological_order, vjp
from tinygrad_edu.debug.paths import Filmed
from tinygrad_edu.testing import Program, programs


@dataclass(eq=False)
class Node:
    """All that the functions of graph.py ask for."""

    name: str
    parents: tuple["Node", ...] = ()


ORDERS = [  # the parents of each node by their names, the root last; the order
    ({"a": ""}, "a"),
    ({"a": "", "b": "a", "c": "a", "d": "bc"}, "acbd"),  # a shared node comes once and before both that use it
    ({"a": "", "b": "", "c": "", "s": "abc"}, "cbas"),  # from the end, operands read from left to right
    ({"x": "", "y": "xx"}, "xy"),
    ({"a": "", "1": "a", "2": "1a", "3": "2a", "4": "3a"}, "a1234"),  # used early and late
]


@pytest.mark.parametrize(("parents", "expected"), ORDERS)
def test_the_order_of_small_graphs(parents: dict[str, str], expected: str) -> None:
    nodes: dict[str, Node] = {}
    for name, above in parents.items():
        nodes[name] = Node(name, tuple(nodes[parent] for parent in above))
    root = nodes[expected[-1]]
    assert "".join(node.name for node in topological_order(root)) == expected
    assert "".join(node.name for node in ancestors(root)) == expected[:-1]
    pairs = [parent + child for child in expected for parent in parents[child]]
    assert [parent.name + child.name for parent, child in edges(root)] == pairs


@settings(deadline=None)
@given(programs())
def test_orders_and_edges_of_programs(program: Program) -> None:
    first, second = program.graph(), program.graph()
    name = {node: i for i, node in enumerate(first)} | {node: i for i, node in enumerate(second)}
    orders = [[(name.get(n), n.data) for n in topological_order(graph[-1])] for graph in (first, second)]
    assert orders[0] == orders[1]  # it depends on the shape alone
    root = first[-1]
    order = topological_order(root)
    place = {node: i for i, node in enumerate(order)}
    assert len(place) == len(order)
    assert order[-1] is root
    assert {parent for node in order for parent in node.parents} == set(order[:-1])
    assert edges(root) == [(parent, node) for node in order for parent in node.parents]
    for node in order:
        assert all(place[parent] < place[node] for parent in node.parents)
        assert ancestors(node) == topological_order(node)[:-1]
        assert set(ancestors(node)) == {p for parent in node.parents for p in topological_order(parent)}
    assert all(node.grad == 0.0 for node in order)  # reading changes nothing


@pytest.fixture(scope="module", params=[20_000, pytest.param(300_000, marks=pytest.mark.slow)])
def n(request: pytest.FixtureRequest) -> int:
    """Twenty times what Python's recursion would allow, and more."""
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


def test_many_additions_are_walked_and_have_the_right_gradient(n: int, chain: tuple[Value, Value]) -> None:
    x, y = chain
    order = topological_order(y)
    assert (len(order), order[0], order[-1]) == (n + 1, x, y)
    assert y.data == x.grad == n + 1.0


@pytest.mark.parametrize("way", COPIES)
def test_many_additions_are_copied_with_their_leaf(way: str, n: int, chain: tuple[Value, Value]) -> None:
    twin_x, twin_y = COPIES[way](chain)
    assert (twin_y.data, twin_x.grad, twin_x.label) == (n + 1.0, n + 1.0, "x")
    twin_x.grad = 0.0
    twin_y.backward()
    assert twin_x.grad == chain[0].grad == n + 1.0


def fails(y: Value) -> None:
    with pytest.raises(ValueError, match="log"):
        grad(lambda t: (t - y).log())(y.data - 1)


USES: dict[str, Callable[[Value], Any]] = {
    "backward": lambda y: y.backward(),
    "closure": lambda y: y._backward(),
    "check": lambda y: y.backward(check=True),
    "walks": lambda y: (topological_order(y), edges(y), ancestors(y)),
    "deepcopy": lambda y: copy.deepcopy(y).backward(),
    "pickle": lambda y: pickle.loads(pickle.dumps(y)).backward(),
    "gradients": lambda y: gradients(y, y, create_graph=True),
    "hessian": lambda y: hessian(lambda t: t * t * y)(3.0),
    "vjp": lambda y: vjp(lambda t: t * y, 3.0)[1](1.0),
    "jvp": lambda y: jvp(lambda t: t * y, (3.0,), (1.0,)),
    "failure": fails,
}


@pytest.mark.parametrize("use", USES)
def test_a_dropped_graph_is_freed_at_once(use: str, living: Callable[[], int]) -> None:
    x = Value(0.5)
    y = x
    for _ in range(50):
        y = (y * x + 1).tanh() - y / 2
    assert living() == 1 + 50 * 7
    USES[use](y)
    assert living() == 1 + 50 * 7
    del y
    assert living() == 1
    del x
    assert living() == 0
    assert gc.collect() == 0


def test_many_additions_are_freed(n: int, chain: tuple[Value, Value], living: Callable[[], int]) -> None:
    y = x = Value(1.0)
    for _ in range(n):
        y = y + x
    assert living() == n + 1
    del y
    assert living() == 1


# --- Pickles --------------------------------------------------------------------------------------------------
def shared_results() -> list[Value]:
    """Three results over one graph; each needs the nodes of the one before."""
    x, y = Value(0.5, label="x"), Value(2.0, label="y")
    a = x * y + x.tanh()
    b = a.exp() + tg.max(a, x, y)
    return [a, b, (a * b).sin() + b]


def assert_sharing_is_kept(twins: list[Value], originals: list[Value]) -> None:
    nodes = [len({node for root in roots for node in tg.topological_order(root)}) for roots in (twins, originals)]
    assert nodes[0] == nodes[1]
    assert tg.gradients(twins[-1], twins) == tg.gradients(originals[-1], originals)


def test_eight_threads_pickle_results_over_one_graph() -> None:
    results, start = shared_results(), threading.Barrier(8)

    def work(turn: int) -> None:
        start.wait()
        for i in range(40):
            order = [(turn + i + k) % 3 for k in range(3)]
            loaded = pickle.loads(pickle.dumps([results[k] for k in order]))
            assert_sharing_is_kept([loaded[order.index(k)] for k in range(3)], results)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))


@pytest.mark.parametrize("step", [1, -250])
def test_a_thousand_results_that_share_nodes_in_one_pickle(step: int) -> None:
    results = [Value(1.0)]
    for _ in range(1000):
        results.append(results[-1] * 1.001 + results[0])
    twins = pickle.loads(pickle.dumps(results[::step]))
    assert_sharing_is_kept(twins[:: abs(step) // step], results[:: abs(step)])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_of_pickle_will_do(protocol: int) -> None:
    x = Value(3.0, label="x")
    y = x**2 * x
    twin_x, twin_y = pickle.loads(pickle.dumps((x, y), protocol))
    twin_y.backward()
    assert (twin_x.grad, twin_x.label, twin_y.data) == (27.0, "x", 27.0)
    assert pickle.loads(pickle.dumps(y, protocol)).grad == 0.0
    y.backward()
    assert pickle.loads(pickle.dumps(y, protocol)).grad == 1.0  # the numbers of its time


def test_nothing_is_remembered_when_no_pickler_is_left() -> None:
    from tinygrad_edu.engine.pickling import _lists

    results = shared_results()
    pickler = pickle.Pickler(io.BytesIO())
    pickler.dump(results)
    assert _lists.listed
    del pickler
    assert not _lists.listed


def test_a_pickler_does_not_rely_on_what_another_has_saved() -> None:
    results = list(itertools.accumulate([Value(1.0), *[1.001] * 2000], operator.mul))[1000::500]
    pickler = pickle.Pickler(io.BytesIO())
    pickler.dump(results[0])
    assert_sharing_is_kept(pickle.loads(pickle.dumps(results)), results)


def test_a_leaf_keeps_its_class_in_a_pickle() -> None:
    assert type(pickle.loads(pickle.dumps(Filmed(2.0) * 3)).parents[0]) is Filmed
