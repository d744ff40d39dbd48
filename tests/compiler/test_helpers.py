"""The helpers of generated programs, on both sides of every size and number at which they change their way."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import RULES, Value
from tinygrad_edu.compiler.backends import numpy_helpers, straight_helpers

RNG = np.random.default_rng(0)
LOGSUMEXP = RULES["logsumexp"]
WIDTHS = (1, 2, 31, 32, 33, 80)  # of rows: from 32 on they are added up in place
TOPS = (0.0, 0.0099, 0.0101, -0.0099, 700.0, -700.0, 1e6)  # near 0 the logarithm may be all there is


def exact(row: Sequence[float]) -> list[float]:
    out = LOGSUMEXP.forward(*row)
    return [out, *LOGSUMEXP.backward(1.0, out, *row)]


@pytest.mark.parametrize(("width", "top"), list(itertools.product(WIDTHS, TOPS)))
def test_logsumexp_and_softmax(width: int, top: float) -> None:
    rows = top - np.abs(RNG.normal(size=(3, width))) * 20
    rows[:, RNG.integers(width)] = top
    expected = np.array(list(map(exact, rows.tolist())))
    softmax = np.empty_like(rows)
    actual = numpy_helpers.logsumexp(rows, softmax)
    np.testing.assert_allclose(np.column_stack([actual, softmax]), expected, rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(numpy_helpers.softmax(rows), expected[:, 1:], rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose([straight_helpers.logsumexp(row) for row in rows.tolist()], expected, rtol=1e-13)


def test_rows_of_infinities() -> None:
    for row in ([-np.inf, -np.inf], [np.inf, 0.0], [-np.inf, 1.0]):
        expected = exact(row)[0]
        for width in (0, 40):
            with np.errstate(all="ignore"):
                assert numpy_helpers.logsumexp(np.array([row + [-np.inf] * width]))[0] == expected


def around(*thresholds: float) -> Iterator[list[float]]:
    """Arrays that lie below a threshold, above it, and on both sides."""
    for x in thresholds:
        for off in (1e-9, 0.5, 3.0):
            yield from ([x - off, x - 2 * off], [x + off, x + 2 * off], [x - off, x + off], [x, 0.0, -x])


@pytest.mark.parametrize("name", ["sigmoid", "tanh_slope", "sigmoid_slope"])
def test_thresholds_of_functions(name: str) -> None:
    for points in around(
        -744.0, -708.0, -80.0, 80.0, 700.0, np.arctanh(0.9995), np.log(999.0), 4.147, -4.147, 0.0
    ):
        Z = np.array(points)
        rule = RULES[name.removesuffix("_slope")]
        out = [rule.forward(z) for z in points]
        if name == "sigmoid":
            column = np.repeat(Z, 8)[::8]  # 64 bytes from each other
            np.testing.assert_allclose(numpy_helpers.sigmoid(column, column), out, rtol=1e-15)
            continue
        actual = getattr(numpy_helpers, name)(np.array(out), Z)
        expected = [rule.backward(1.0, y, z)[0] for y, z in zip(out, points, strict=True)]
        np.testing.assert_allclose(actual, expected, rtol=2e-12, atol=1e-300)


@pytest.mark.parametrize("n", [1, 2, 256, 257])  # from 257 rows on, no product with one-hot rows
def test_rows_by_index(n: int) -> None:
    index, rows = RNG.integers(0, n, 40), RNG.normal(size=(40, 3))
    expected = np.zeros((n, 3))
    np.add.at(expected, index, rows)
    out = np.full((n, 3), 9.0)
    numpy_helpers.add_rows(rows, index, out)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-15)
    table = [[Value(float(x)) for x in row] for row in RNG.normal(size=(n, 2))]
    first, second = zip(*table, strict=True)
    step = tg.compile(lambda i: tg.tanh(tg.take(first, i)) * tg.take(second, i), [x for row in table for x in row])
    _, gradient = step.value_and_grad(index)
    with pytest.raises(IndexError, match=f"got {n}"):
        step(np.array([n]))
    want: Any = np.zeros((n, 2))
    for i in index.tolist():
        a, b = (x.data for x in table[i])
        want[i] += np.array([b / np.cosh(a) ** 2, np.tanh(a)]) / len(index)
    np.testing.assert_allclose(gradient.reshape(n, 2), want, rtol=1e-12, atol=1e-15)


def test_several_shares_for_one_place() -> None:
    out, values = np.zeros((2, 5)), RNG.normal(size=(2, 6))
    places, order, starts = np.array([1, 3]), np.array([0, 2, 4, 1, 5]), np.array([0, 3])
    numpy_helpers.scatter_add(out, places, order, starts, values)
    expected = np.zeros((2, 5))
    expected[:, 1], expected[:, 3] = values[:, [0, 2, 4]].sum(axis=1), values[:, [1, 5]].sum(axis=1)
    np.testing.assert_allclose(out, expected, rtol=1e-14)
