"""Views read what an index array says, and put it back."""

import random
from typing import Any

import numpy as np
import pytest

from tinygrad_edu.compiler.backends.text import ArrayText, Elements, shown, tuple_text
from tinygrad_edu.compiler.find import lower
from tinygrad_edu.compiler.find.lowered import Lowered
from tinygrad_edu.compiler.ir.axes import Reads
from tinygrad_edu.compiler.ir.front import Front
from tinygrad_edu.compiler.ir.routine import Array, B


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


def read(index: Any, source: tuple[int, ...], batched: bool) -> tuple[str, dict[str, Any]]:
    """The text that reads these positions of an array, and the positions that it names."""
    front = Front(Lowered([], []))
    old = lower.Tensor(0, None, ("input", 0), int(np.prod(source)), batched, False, source)
    front.arrays[old] = Array("array", source, batched)
    statement, elements = Reads(front, index.shape), Elements()
    operand = statement.read(lower.Read(old, index))
    axes = statement.out_axes()
    access = operand.args[0]
    text = shown(elements.element(access), [*([B] if batched else []), *axes])
    sizes = [axis.size for axis in axes]
    where = eval(shown(ArrayText("positions", access.named), axes).code, {"positions": access.positions()})
    np.testing.assert_array_equal(np.broadcast_to(where, sizes).reshape(index.shape), index)
    return f"np.broadcast_to({text.code}, {tuple_text(['B', *sizes] if batched else sizes)})", elements.constants


def test_an_access_reads_what_the_index_says() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        source, index = drawn(rng)
        batch = np.random.default_rng(0).normal(size=(2, *source))
        for batched, array in ((True, batch), (False, batch[0])):
            text, constants = read(index, source, batched)
            part = np.asarray(eval(text, {"array": array, "np": np, "B": 2, **constants}))
            lead = (2,) if batched else ()
            wanted = array.reshape((*lead, -1))[..., index]
            np.testing.assert_array_equal(part.reshape((*lead, *index.shape)), wanted)


@pytest.mark.parametrize(
    ("index", "source"),
    [
        (np.arange(12).reshape(3, 4).T, (3, 4)),
        (np.arange(12).reshape(3, 4).T.ravel(), (3, 4)),
        (np.arange(12).reshape(2, 3, 2).transpose(1, 0, 2).ravel(), (12,)),
        (np.arange(8)[::-1], (8,)),
        (np.arange(49).reshape(7, 7)[1:6:2, ::2], (7, 7)),
        (np.arange(16).reshape(4, 4)[::2, 1::2].ravel(), (16,)),
    ],
)
def test_permutations_and_steps_are_no_gathers(index: Any, source: Any) -> None:
    assert not read(index, source, False)[1]
