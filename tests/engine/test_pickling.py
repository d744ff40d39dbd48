"""Pickling: from several threads at once, results that need one another."""

import io
import pickle
import threading

import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value


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
    results = shared_results()
    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def work(turn: int) -> None:
        try:
            start.wait()
            for i in range(40):
                order = [(turn + i + k) % 3 for k in range(3)]
                loaded = pickle.loads(pickle.dumps([results[k] for k in order]))
                assert_sharing_is_kept([loaded[order.index(k)] for k in range(3)], results)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=[turn]) for turn in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


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
    from tinygrad_edu.engine.pickling import _homes

    results = shared_results()
    pickler = pickle.Pickler(io.BytesIO())
    pickler.dump(results)
    assert _homes.graph_of
    del pickler
    assert not _homes.graph_of
