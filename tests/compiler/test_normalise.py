"""The normal form: one graph for one function, however it is written, long or short."""

import functools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.compiler.find.group import groups_of
from tinygrad_edu.compiler.find.normalise import LONG, Graph, normalise
from tinygrad_edu.compiler.trace.tracing import trace_function

SIZES = [2, 3, LONG - 1, LONG, 3 * LONG]


def graph_of(function: Callable[..., Any], n: int, one_hot: bool = False, shape: tuple[int, ...] = ()) -> Graph:
    """The normal form of function(weights, x), with n of each."""
    w = [Value(0.5) for _ in range(n)]
    return normalise(trace_function(lambda x: function(w, x), w, [shape or (n,)]), lambda argument: one_hot)


def shown(graph: Graph) -> Any:
    """The result, with each operation as (rule, operands), and leaves by their numbers."""

    def term(node: int) -> Any:
        rule = graph.rules[node]
        if rule is None:
            return graph.constants.get(node, f"n{node}")
        parts = [tuple(map(term, t)) if isinstance(t, tuple) else term(t) for t in graph.terms(node)]
        return rule.name, *(sorted(parts, key=repr) if rule.name == "sum" else parts)

    return [term(node) for node in graph.outputs]


def loop(w: Any, x: Any) -> Any:
    total = w[0] * x[0]
    for a, b in zip(w[1:], x[1:], strict=True):
        total += a * b
    return total


def from_the_right(w: Any, x: Any) -> Any:
    return functools.reduce(lambda total, pair: pair[0] * pair[1] + total, list(zip(w, x, strict=True))[::-1], 0)


def halves(w: Any, x: Any) -> Any:
    products = [a * b for a, b in zip(w, x, strict=True)]
    while len(products) > 1:
        products = [sum(products[i : i + 2]) for i in range(0, len(products), 2)]
    return products[0]


WRITINGS = [loop, from_the_right, halves, lambda w, x: tg.sum(map(operator.mul, w, x)), tg.dot]


@pytest.mark.parametrize("n", SIZES)
def test_a_sum_of_products_is_one_sum_however_it_is_written(n: int) -> None:
    graphs = [graph_of(function, n) for function in WRITINGS]
    assert len({repr(shown(graph)) for graph in graphs}) == 1
    assert [sum(rule is not None for rule in graph.rules) for graph in graphs] == [1] * len(graphs)
    assert shown(graphs[0])[0][1:] == tuple(sorted(((f"n{n + i}", f"n{i}") for i in range(n)), key=repr))


@pytest.mark.parametrize("n", SIZES)
def test_equal_sums_are_one_node_and_those_used_twice_stay_whole(n: int) -> None:
    graph = graph_of(lambda w, x: tg.tanh(loop(w, x)) * tg.exp(loop(w, x)), n)
    assert [rule.name for rule in graph.rules if rule] == ["sum", "tanh", "exp", "mul"]

    def used_twice(w: Any, x: Any) -> Any:
        once = loop(w, x)
        return once + tg.exp(once)

    assert len(graph.terms(graph.rules.index(tg.RULES["sum"]))) == n
    graph = graph_of(used_twice, n)
    ((name, *terms),) = shown(graph)
    assert name == "sum"
    assert [term[0] for term in terms] == ["exp", "sum"]


@pytest.mark.parametrize("n", SIZES)
def test_constants_fold_in_sums_of_any_length(n: int) -> None:
    plain, folded = graph_of(loop, n), graph_of(lambda w, x: loop(w, x) * 2.0 * 0.5 + 0.0 + 0 * Value(3.0), n)
    assert shown(plain) == shown(folded)
    ((_, *terms),) = shown(graph_of(lambda w, x: tg.sum([a * 2.0 * 3.0 for a in w]), n))
    assert terms == sorted([(f"n{n + i}", 6.0) for i in range(n)], key=repr)


@pytest.mark.parametrize("n", SIZES)
def test_a_row_that_adds_up_to_one_is_one(n: int) -> None:
    def weighted(w: Any, x: Any) -> Any:
        return sum(x) * tg.tanh(w[0])

    assert shown(graph_of(weighted, n, one_hot=True)) == [("tanh", f"n{n}")]
    assert shown(graph_of(weighted, n))[0][0] == "mul"
    assert shown(graph_of(lambda w, x: tg.tanh(sum(x)), n, one_hot=True)) == [tg.tanh(1.0)]
    part = graph_of(lambda w, x: sum(x[:-1]) * tg.tanh(w[0]), n, one_hot=True)
    assert not part.assumed
    assert shown(graph_of(lambda w, x: sum(x[1]), n, one_hot=True, shape=(2, n))) == [1.0]


def test_a_long_chain_takes_no_recursion_and_its_groups_are_few() -> None:
    def chain(w: Any, x: Any) -> Any:
        total = x[0]
        for _ in range(50_000):
            total = total + w[0] * x[1]
        return tg.tanh(total)

    graph = graph_of(chain, 2)
    assert [rule.name for rule in graph.rules if rule] == ["sum", "tanh"]
    groups, numbers = groups_of(graph)
    assert len(groups) == 4
    assert numbers.tolist() == [0, 0, 1, -1, 2, 3, -1]  # the second weight is not used
    assert all(np.array_equal(group.members, np.flatnonzero(numbers == group.number)) for group in groups)
