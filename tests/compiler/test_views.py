"""Views read what an index array says, and put it back."""

import random
from typing import Any

import numpy as np
import pytest

from tinygrad_edu.compiler.backends.numpy_statements import _loses
from tinygrad_edu.compiler.symbols import Book
from tinygrad_edu.compiler.views import digits_of, view_of


def drawn(rng: random.Random) -> tuple[tuple[int, ...], Any]:
    """A shape, and positions in an array of this shape: sliced, transposed, reversed and reshaped at random."""
    source = tuple(rng.randint(1, 5) for _ in range(rng.randint(0, 4)))
    index = np.arange(int(np.prod(source))).reshape(source)
    for _ in range(rng.randint(0, 5)):
        match rng.randint(0, 4):
            case 0 if index.ndim:
                index = index.transpose(rng.sample(range(index.ndim), index.ndim))
            case 1 if index.ndim:
                axis = rng.randrange(index.ndim)
                part = rng.choice([slice(None, None, -1), slice(1, None), slice(None, None, 2), 0])
                fewer = index[(slice(None),) * axis + (part,)]
                index = fewer if fewer.size else index
            case 2:
                index = index.reshape(-1)
            case 3 if index.size % 2 == 0:
                index = index.reshape(2, -1)
            case 4 if index.ndim < 4:
                index = np.broadcast_to(index[..., None], (*index.shape, 3))
    return source, np.array(index)


def read(view: Any, array: Any, batched: bool) -> Any:
    """What the text of a view gives."""
    text = view.text("array", batched, lambda _: "gather")
    return np.asarray(eval(text, {"array": array, "gather": view.gather, "B": len(array) if batched else 0}))


@pytest.mark.parametrize("repeats", [True, False])
def test_a_view_reads_what_the_index_says(repeats: bool) -> None:
    rng = random.Random(0)
    for _ in range(1000):
        source, index = drawn(rng)
        view = view_of(index, source, repeats)
        batch = np.random.default_rng(0).normal(size=(2, *source))
        found = read(view, batch, batched=True)
        assert found.shape == (2, *view.shape)
        assert repeats or view.shape == index.shape
        np.testing.assert_array_equal(np.broadcast_to(found, (2, *index.shape)), batch.reshape(2, -1)[:, index])
        one = np.broadcast_to(read(view, batch[0], batched=False), index.shape)
        np.testing.assert_array_equal(one, batch[0].ravel()[index])
        np.testing.assert_array_equal(np.broadcast_to(view.positions().reshape(view.shape), index.shape), index)


def test_the_inverse_of_a_whole_view_puts_everything_back() -> None:
    rng, n = random.Random(1), 0
    for _ in range(500):
        source, index = drawn(rng)
        view = view_of(index, source)
        if view.whole:
            n += 1
            array = np.random.default_rng(0).normal(size=(2, *source))
            there = read(view, array, batched=True)
            np.testing.assert_array_equal(read(view.inverse(), there, batched=True), array)
    assert n > 50


@pytest.mark.parametrize(
    ("index", "source", "text"),
    [
        (np.arange(12).reshape(3, 4).T, (3, 4), "x.T"),
        (np.arange(12).reshape(3, 4).T.ravel(), (3, 4), "x.T.reshape(12)"),
        (
            np.arange(12).reshape(2, 3, 2).transpose(1, 0, 2).ravel(),
            (12,),
            "x.reshape(2, 3, 2).transpose(1, 0, 2)",
        ),
        (np.arange(8)[::-1], (8,), "x[7::-1]"),
        (np.arange(49).reshape(7, 7)[1:6:2, ::2], (7, 7), "x[1:6:2, ::2]"),
        (np.arange(16).reshape(4, 4)[::2, 1::2].ravel(), (16,), "x.reshape(2, 4, 2)[:, :2, 1]"),
    ],
)
def test_permutations_and_steps_are_no_gathers(index: Any, source: Any, text: str) -> None:
    view = view_of(index, source)
    assert view.gather is None
    assert view.text("x", False, None).startswith(text)


def test_what_follows_no_pattern_has_no_digits() -> None:
    assert digits_of(np.array([0, 1, 3, 2])) is None
    assert digits_of(np.array([[0, 1], [2, 4]])) is None
    assert digits_of(np.array([0, 3, 1, 4, 2, 5])) == [(3, 1), (2, 3)]


def test_a_gradient_with_gaps_is_not_written_through_a_reshape() -> None:
    """The sum that is scattered lies inside of a product, and the slice of both has gaps."""
    book = Book()
    leaf = book.leaf("dA1", (2, 2), True)
    scattered = book.special("scatter", (leaf, None), (2, 2), True)
    assert _loses((leaf + scattered) * leaf, "dA1[:, 0, :]")
    assert not _loses((leaf + scattered) * leaf, "dA1")
    assert not _loses((leaf + leaf) * leaf, "dA1[:, 0, :]")
