"""Pickling: from several threads at once, results that need one another."""

import io
import pickle
import threading

import tinygrad_edu as tg
from tinygrad_edu import Value


def shared_results() -> list[Value]:
    """Three results over one graph; each needs the nodes of the one before."""
    x, y = Value(0.5, label="x"), Value(2.0, label="y")
    a = x * y + x.tanh()
    b = a.exp() + tg.max(a, x, y)
    return [a, b, (a * b).sin() + b]


def assert_sharing_is_kept(twins: list[Value], originals: list[Value]) -> None:
    nodes = len({node for root in originals for node in tg.topological_order(root)})
    assert len({node for root in twins for node in tg.topological_order(root)}) == nodes
    wanted = tg.gradients(originals[2], [originals[0], originals[1]])
    assert tg.gradients(twins[2], [twins[0], twins[1]]) == wanted


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


def test_results_that_were_saved_one_by_one_and_again_by_another_pickler() -> None:
    """Each of 3,000 graphs refers to the one before it: a second pickler must not follow them recursively."""
    first = pickle.Pickler(io.BytesIO())
    results = [Value(1.0)]
    for _ in range(3000):
        results.append(results[-1] * 1.001 + results[0])
        first.dump(results[-1])
    twin = pickle.loads(pickle.dumps(results[-1]))
    assert len(tg.topological_order(twin)) == len(tg.topological_order(results[-1]))
    assert tg.gradients(twin, tg.topological_order(twin)[0]) == tg.gradients(results[-1], results[0])
    both = pickle.loads(pickle.dumps([results[-1], results[1500], results[0]]))
    assert both[0] is not both[1]
    assert both[1] in tg.topological_order(both[0])
    assert both[2] in both[1].parents


def test_nothing_is_remembered_when_no_pickler_is_left() -> None:
    from tinygrad_edu.engine.pickling import _homes

    results = shared_results()
    pickler = pickle.Pickler(io.BytesIO())
    pickler.dump(results)
    assert _homes.graph_of
    del pickler
    assert not _homes.graph_of
