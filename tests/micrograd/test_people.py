"""Training programs in the styles of many people: only the import is the drop-in. All compile as written."""

import math
import random
import sys
from collections.abc import Callable
from math import log
from random import choice, gauss
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu.micrograd.engine import Value

RNG = np.random.default_rng(0)
W = [Value(x) for x in RNG.normal(size=4).tolist()]
TABLE = [[Value(x) for x in row] for row in RNG.normal(size=(5, 2)).tolist()]
ROWS = [([0.1 * i, 0.3 - 0.2 * i], (-1) ** i) for i in range(7)]
XS, YS = np.array([x for x, _ in ROWS]), np.array([y for _, y in ROWS])
OWN, NUMPY, LEGACY = random.Random(1), np.random.default_rng(2), np.random.RandomState(3)
SCALE, LOG = [2.0], list[Any]()


def score(x: Any) -> Any:
    return (W[0] * x[0] + W[1] * x[1] + W[2]).tanh()


def minibatch() -> Any:  # micrograd's demo
    ri = np.random.permutation(XS.shape[0])[:4]
    scores = [score(list(map(Value, row))) for row in XS[ri]]
    losses = [(1 + -yi * s).relu() for yi, s in zip(YS[ri], scores, strict=True)]
    accuracy = [(yi > 0) == (s.data > 0) for yi, s in zip(YS[ri], scores, strict=True)]
    return sum(losses) / len(losses) + 1e-3 * sum(w * w for w in W), sum(accuracy) / len(accuracy)


def sampled() -> Any:
    total, order = 0, list(range(len(ROWS)))
    random.shuffle(order)
    for x, y in [*random.sample(ROWS, 3), random.choice(ROWS), ROWS[order[0]]]:
        total = total + (score(x) - y) ** 2
    return total * choice([0.5, 2.0]) + gauss(0, 1)


def generators(x: float, own: random.Random = OWN) -> Any:
    i, j = own.randrange(4), LEGACY.choice(4, 2, replace=False)
    noise = NUMPY.normal(0, 0.1, size=2)
    mask = (NUMPY.random(2) > 0.3) / 0.7
    return (W[i] * x + noise[0] * mask[0]) ** 2 * SCALE[0] + W[j[0]] * W[j[1]] * mask[1]


def seeded(x: float) -> Any:
    random.seed(1)
    np.random.seed(2)
    return (W[0] * x + random.gauss(0, 1) + np.random.rand()) ** 2


def dropout(x: float) -> Any:
    hidden: list[Any] = []
    for w in W:
        if random.random() < 0.4:
            hidden.append(Value(0.0))
        else:
            hidden.append((w * x).tanh() / 0.6)
    return sum(hidden) ** 2


def metrics(x: float, y: float) -> Any:
    loss = sum(map(Value.tanh, [w * x for w in W])) - y
    print("%.3f of %d" % (loss.data, len(W)), f"{loss.data:.2e}", round(loss.data, 2))  # noqa: UP031
    LOG.append({"loss": int(loss.data * 100), "log": log(abs(loss.data) + 1)})
    return loss**2, round(loss.data, 4), round(loss.data * 3), int(loss.data * 7), abs(loss.data) // 1


def words(tokens: list[int]) -> Any:
    labels = [(i % 3, 0.1 * i) for i in range(5)]
    total = Value(0.0)
    for a, b in zip(tokens, tokens[1:], strict=False):  # noqa: RUF007  # as people write it
        kind, bias = labels[a]
        row = TABLE[a]
        total += (row[0] - TABLE[b][1] + bias) ** 2 * (2.0 if row is TABLE[2] else 1.0) * (kind + 1)
    return total


PROGRAMS: dict[Callable[..., Any], list[Any]] = {
    minibatch: [],
    sampled: [],
    generators: [[0.5, -0.2]],
    seeded: [[0.5, -0.2]],
    dropout: [[0.5, 0.7, -1.2]],
    metrics: [[0.5, 0.7, -1.2], [0.1, 0.9, 2.0]],
    words: [[[0, 1, 2, 4], [2, 2, 3, 1]]],
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.filterwarnings("ignore:The function does not use")
def test_a_program_compiles_as_it_is(program: Callable[..., Any]) -> None:
    batch = PROGRAMS[program]
    parameters = [p for row in TABLE for p in row] if program is words else W
    step = tg.compile(program, parameters)

    def seed(n: int) -> None:
        random.seed(n)
        np.random.seed(n)
        OWN.seed(n)
        LEGACY.seed(n)
        NUMPY.bit_generator.state = np.random.default_rng(n).bit_generator.state

    before = [p.data for p in parameters]
    try:
        for n in range(4):
            SCALE[0] = 2.0 + n
            seed(n)
            found = [*step.value_and_grad(*batch), random.random(), NUMPY.random()]
            seed(n)
            results = [program(*example) for example in zip(*batch, strict=True)] if batch else [program()]
            losses = [result[0] if isinstance(result, tuple) else result for result in results]
            drawn = [random.random(), NUMPY.random()]
            for p in parameters:
                p.grad = 0.0
            (sum(losses) / len(losses)).backward()
            assert [found[0], *found[2:]] == pytest.approx([np.mean([x.data for x in losses]), *drawn], rel=1e-12)
            np.testing.assert_allclose(found[1], [p.grad for p in parameters], rtol=1e-9, atol=1e-12)
            if program is metrics:
                rows = [[getattr(x, "data", x) for x in result] for result in results]
                np.testing.assert_allclose(step.predict(*batch), rows, rtol=1e-12)
            for i, p in enumerate(parameters):
                p.data += 0.2 - 0.1 * (i % 5)
    finally:
        for p, number in zip(parameters, before, strict=True):
            p.data = number


def test_rounding_is_that_of_python() -> None:
    def function(x: Any) -> Any:
        v = (W[0] * 0 + x).data
        return (
            W[0],
            int(v),
            math.floor(v),
            math.ceil(v),
            round(v),
            *(round(v, n) for n in (-1, 0, 1, 2, 4, 7)),
            v // 1,
        )

    ties = [(RNG.integers(-999, 999) + 0.5) / 10.0**n for n in (0, 1, 2, 4, 7, -1) for _ in range(20)]
    xs = [0.49999999999999994, -1e-20, 2.675, *ties, *np.nextafter(ties, 9), *RNG.normal(0, 99, size=40)]
    rows = [[getattr(x, "data", x) for x in function(float(x))] for x in xs]
    assert tg.compile(function, W).predict(xs).tolist() == rows


BONUS = {W[0]: 3.0, W[1]: 4.0, W[2]: 5.0}
ITEMS: list[Callable[[int], Any]] = [
    lambda i: W[-1 - i] * W[i - 1] + W[i % 2],  # some count from the end
    lambda i: W[i] * BONUS[W[i]] + BONUS.get(W[i], 1.0) * W[3],
    lambda i: W[i] * (2.0 if W[i] in (W[0], W[1]) else 1.0) * (W[i] in {W[2]: 1}),
    lambda i: W[0] * len({W[i], W[2], W[1]}) * W.index(W[i]),
    lambda i: W[1] * XS[i].sum() * XS[i, 1] + W[2] * XS[[i, 0]][0][1],
    lambda i: W[2] * Backwards([1.0, 2.0, 4.0])[i],
]


class Backwards(list[Any]):
    def __getitem__(self, i: Any) -> Any:
        return list.__getitem__(self, -1 - i)


@pytest.mark.parametrize("function", ITEMS)
@pytest.mark.filterwarnings("ignore:The function does not use")
def test_an_item_is_the_one_that_python_takes(function: Callable[[int], Any]) -> None:
    step = tg.compile(function, W)
    for batch in ([1], [0, 1, 2], [2, 0]):
        assert step(batch) == pytest.approx(np.mean([function(i).data for i in batch]), rel=1e-12)


def test_an_operation_by_hand_of_a_constant_and_an_example() -> None:
    """Nobody asks whether an operand is true: of an example this would be a question."""
    two, three = Value(2.0), Value(3.0)
    step = tg.compile(lambda x: (three * Value(5.0, (two, x), (0.0, 1.0)) - 1) ** 2, [three])
    assert step.value_and_grad([1.0, 0.0])[0] == 196.0


def shuffled_for_good(x: float) -> Any:
    random.shuffle(ROWS)
    return W[0] * ROWS[0][0][0] * x


def drawn_unseen(x: float) -> Any:
    return W[0] * x * vars(random)["Random"].gauss(random.getstate.__self__, 0, 1)  # type: ignore[attr-defined]


def changed_row(x: float, i: int) -> Any:
    TABLE[i].append(W[0])
    return TABLE[i][0] * x


def sampled_action(r: float) -> Any:
    action = random.choices(range(4), weights=[abs(w.data) for w in W])[0]
    return W[action] * r


@pytest.mark.parametrize(
    ("program", "match"),
    [
        (shuffled_for_good, r"line \d+ .*random.shuffle\(ROWS\).*Shuffle a copy"),
        (drawn_unseen, "Draw by these, or outside"),
        (changed_row, r"line \d+ .*TABLE\[i\].append.*row = list\(table\[i\]\)"),
        (sampled_action, r"random.choices .*line \d+ .*Draw outside, and give what was drawn"),
    ],
)
def test_what_cannot_be_followed_says_what_to_write(program: Callable[..., Any], match: str) -> None:
    rows, state = list(ROWS), random.getstate()
    batch = [[0.5, 0.3], [1, 2]][: program.__code__.co_argcount]
    with pytest.raises(tg.TraceError, match=match):
        tg.compile(program, W).value_and_grad(*batch)
    assert rows == ROWS
    assert state == random.getstate()
    assert type(random.gauss) is type(random.Random(0).gauss)
    assert choice.__self__ is vars(sys.modules["random"])["choice"].__self__  # type: ignore[attr-defined]
