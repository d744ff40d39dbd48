"""Programs written for micrograd, in the styles of many people, compile as they are but for the import."""

import math
import random
import sys
import threading
from collections.abc import Callable
from math import log as logarithm
from random import choice, gauss
from typing import Any

import numpy as np
import pytest
from micrograd_engines import by_hand, tanh

import tinygrad_edu as tg
from tinygrad_edu.micrograd import nn
from tinygrad_edu.micrograd.engine import Value

RNG = np.random.default_rng(0)
W = [Value(x) for x in RNG.normal(size=4).tolist()]
X, FORTY = RNG.normal(size=(5, 4)), RNG.normal(size=(40, 4))
UNITS = [[Value(x) for x in row] for row in RNG.normal(size=(24, 4)).tolist()]
ALL = [*W, *(w for row in UNITS for w in row)]
PAIRS = [[Value(x) for x in row] for row in RNG.normal(size=(5, 2)).tolist()]
TOKENS, TWO = np.array([3, 0, 2, 1, 4]), Value(2.0)
OWN, NUMPY, LEGACY = random.Random(1), np.random.default_rng(2), np.random.RandomState(3)
pytestmark = pytest.mark.filterwarnings("ignore:The function does not use")


def seed(n: int) -> None:
    """Every generator begins anew."""
    random.seed(n)
    np.random.seed(n)
    OWN.seed(n)
    LEGACY.seed(n)
    NUMPY.bit_generator.state = np.random.default_rng(n).bit_generator.state


def values(example: Any) -> Any:
    """An example as the program gets it: of an array Values, or plain ints; of a list what is in it."""
    if not isinstance(example, np.ndarray | np.generic):
        return example
    if example.ndim:
        return [Value(x) for x in example.tolist()]
    return int(example) if example.dtype.kind == "i" else Value(float(example))


def results_of(function: Callable[..., Any], batch: Any, n: int) -> list[Any]:
    seed(n)
    return [function(*map(values, one)) for one in (zip(*batch, strict=True) if batch else [()])]


def agrees(function: Callable[..., Any], parameters: list[Value], *batch: Any, backend: str = "numpy") -> Any:
    """Value, gradient and outputs of the compiled function are those of the program itself, at several parameters.

    What is drawn at random too, example after example: a trace draws nothing.
    """
    step = tg.compile(function, parameters, backend=backend)
    before = [p.data for p in parameters]
    try:
        for n, shift in enumerate((0.0, 0.13, -0.31)):
            for p, number in zip(parameters, before, strict=True):
                p.data = number + shift
            SCALE[0] = 2.0 + n
            seed(n)
            value, gradient = step.value_and_grad(*batch)
            drawn = random.random(), NUMPY.random()
            results = results_of(function, batch, n)
            assert drawn == (random.random(), NUMPY.random())
            losses = [result[0] if isinstance(result, tuple) else result for result in results]
            for p in parameters:
                p.grad = 0.0
            for loss in losses:
                loss.backward()
            assert value == pytest.approx(np.mean([loss.data for loss in losses]), rel=1e-12)
            slopes = [p.grad / len(losses) for p in parameters]
            np.testing.assert_allclose(gradient, slopes, rtol=1e-9, atol=1e-12)
            if isinstance(results[0], tuple):
                seed(n)
                rows = [[x.data if isinstance(x, Value) else float(x) for x in result] for result in results]
                np.testing.assert_allclose(step.predict(*batch), rows, rtol=1e-12)
    finally:
        for p, number in zip(parameters, before, strict=True):
            p.data = number
    return step


# --- Operations by hand -----------------------------------------------------------------------------------------
def log(p: Any) -> Value:
    clamped = max(p.data, 1e-12)
    return Value(math.log(clamped), (p,), (1.0 / clamped,))


def exp(p: Any) -> Value:
    e = math.exp(p.data)
    return Value(e, (p,), (e,))


def multiplied(a: Any, b: Any) -> Value:
    return Value(a.data * b.data, (a, b), (b.data, a.data))


def softmax(z: list[Any]) -> list[Any]:
    top = max(a.data for a in z)
    shares = [exp(a - top) for a in z]
    total = sum(shares)
    return [share / total for share in shares]


def product(a: Any, b: Any) -> Value:
    return by_hand([a, b], a.data * b.data, [b.data, a.data], "*", Value)


def relu(x: Any) -> Value:
    out = Value(max(0.0, x.data), (x,), "ReLU")

    def backward() -> None:
        x.grad += (out.data > 0) * out.grad

    out._backward = backward
    return out


def relu_by_branch(x: Any) -> Value:
    out = Value(0 if x.data < 0 else x.data, (x,), "ReLU")

    def backward() -> None:
        if out.data > 0:
            x.grad += out.grad

    out._backward = backward
    return out


def three(a: Any, b: Any, c: Any) -> Value:
    number = a.data * b.data + math.sin(c.data) ** 2
    return Value(number, (a, b, c), (b.data, a.data, 2 * math.sin(c.data) * math.cos(c.data)))


def scores(x: Any) -> list[Any]:
    return [w * a for w, a in zip(W, x, strict=True)]


def dot(x: Any) -> Any:
    return sum(scores(x))


def cleared(x: Any) -> Any:
    for p in W:
        p.grad = 0.0
    return dot(x)


BY_HAND: dict[str, Callable[[Any], Any]] = {
    "log with a clamp": lambda x: log(dot(x) ** 2 + 0.1) * W[0],
    "two operands": lambda x: multiplied(multiplied(W[0], W[1]), x[0]) + multiplied(W[2], W[3]),
    "one operand twice": lambda x: multiplied(W[0], W[0]) * x[0] + dot(x),
    "three operands": lambda x: three(W[0], W[1] * x[1], W[2]) * three(x[0], W[3], dot(x)),
    "softmax and log": lambda x: -log(softmax(scores(x))[1]),
    "a closure": lambda x: tanh(dot(x), Value) ** 2,
    "a closure of two operands": lambda x: product(W[0], x[0]) + product(W[1], W[1]) + product(W[2], W[3]),
    "a closure with max": lambda x: relu(dot(x)) * W[0] + relu(-dot(x)),
    "a chain of them": lambda x: tanh(relu(product(exp(W[0]), dot(x))), Value) + log(exp(W[1])),
    "max_with and clip": lambda x: dot(x).max_with(0.1) + (W[1] * x[1]).clip(-0.5, 0.5) + W[0].max_with(W[1]),
    "a constant on the left": lambda x: (
        Value(0.0) + W[0] * x[0] + Value(2.0) * dot(x) - Value(1.0) / (W[1] ** 2 + 1)
    ),
    "a sum that begins with a Value": lambda x: sum(scores(x), Value(0.0)) ** 2,
    "a constant to a power": lambda x: Value(2.0) ** dot(x),
    "a number of math as a constant": lambda x: dot(x) / Value(math.sqrt(sum(a.data**2 for a in x) + 1.0)),
    "a logarithm of another base": lambda x: dot(x) * Value(math.log((dot(x) ** 2 + 2).data, 2.0)),
    "isinstance": lambda x: dot(x) if isinstance(dot(x), Value) else Value(0.0),
    "gradients that are cleared inside": cleared,
    "functions of NumPy": lambda x: (
        multiplied(
            Value(np.tanh(dot(x).data), (dot(x),), (1 - np.tanh(dot(x).data) ** 2,)),
            Value(np.maximum(0, W[0].data), (W[0],), (np.where(W[0].data > 0, 1.0, 0.0),)),
        )
        * np.sqrt(np.clip(dot(x).data, 0.1, None))
    ),
    "sums and norms of math": lambda x: dot(x) / math.hypot(2.0, W[0].data) * math.fsum(w.data for w in W),
    "a slope that is chosen": lambda x: dot(x) * (2.0 if math.isnan(dot(x).data) else float(W[0].data)),
    "a slope that is not the derivative": lambda x: Value((W[0] * x[0]).data ** 2, (W[0],), (5.0,)) + dot(x),
    "a metric beside the loss": lambda x: ((dot(x) - 1) ** 2, math.sqrt(((dot(x) - 1) ** 2).data)),
    "an operation of a constant and an example": lambda x: (W[0] * Value(5.0, (TWO, x[0]), (0.0, 1.0)) - 1) ** 2,
}


# --- Constants, and operands, that a number chooses -------------------------------------------------------------
def one_hot(token: Any) -> Any:
    x = [Value(1.0 if i == token else 0.0) for i in range(90)]
    return [sum(((0.1 * i + j) * w * x[i] for i in range(90)), Value(0.0)).tanh() for j, w in enumerate(W)]


def masked(t: Any, x: Any) -> Any:
    masked = [score + (-1e9 if i > t else 0) for i, score in enumerate(scores(x))]
    top = max(score.data for score in masked)
    exps = [(score - top).exp() for score in masked]
    return exps[0] / sum(exps)


def largest_two(x: Any) -> Any:
    order = sorted(range(4), key=lambda i: (W[i] * x[i]).data)[-2:]
    return W[order[0]] * x[order[0]] + 2 * W[order[1]] * x[order[1]]


def in_order(x: Any) -> Any:
    ordered = scores(x)
    ordered.sort(key=lambda score: -score.data)
    return ordered[0] * 2 + ordered[1] * ordered[3]


PLACES = [[0.1 * i * j for j in range(4)] for i in range(5)]
BY_PATH: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "relu by a branch": (lambda x: relu_by_branch(dot(x)) * W[0] + relu_by_branch(W[1] * x[0]), (X,)),
    "one-hot": (lambda t: sum(one_hot(t)) ** 2, (np.arange(80),)),  # more than 64 paths
    "a mask": (masked, (TOKENS, X)),
    "a table of numbers": (lambda t, x: dot([a + p for a, p in zip(x, PLACES[t], strict=True)]) ** 2, (TOKENS, X)),
    "numbers by a sine": (lambda t: sum(w * math.sin(t / 10**i) for i, w in enumerate(W)) ** 2, (TOKENS,)),
    "a whole number divided": (lambda t: sum(w * math.sin(t / (j + 1)) for j, w in enumerate(W)), (TOKENS,)),
    "the largest two": (largest_two, (X,)),
    "sorted": (in_order, (X,)),
    "the larger of Values": (lambda x: exp(max(dot(x), Value(0.1))) - min(Value(0.2), dot(x)), (X,)),
    "the index of the largest": (lambda x: scores(x)[max(range(4), key=lambda i: scores(x)[i].data)] * 3, (X,)),
    "a float that becomes a Value": (lambda x: (dot(x) * Value(float(x[1].data))).tanh(), (X,)),
    "a function of math of an input": (lambda x: W[0] * math.exp(x + 1) + W[1], ([1.0, 2.0, 4.0],)),
    "a plain number that becomes a Value": (lambda x: Value(float(x)) * W[0] + W[1], ([1.0, 2.0, 4.0],)),
}  # fmt: skip


# --- Both sides of a branch, for every unit of a layer: 2^24 paths ----------------------------------------------
def units(f: Callable[[Any], Any], x: Any) -> Any:
    """A layer of 24 units with the activation f."""
    return sum((f(sum(w * a for w, a in zip(row, x, strict=True))) for row in UNITS), Value(0.0)) * W[0] + dot(x)


def leaky(a: Any) -> Any:
    if a.data > 0:
        return a
    return 0.01 * a


def hard_tanh(a: Any) -> Any:
    if a.data > 1:
        return Value(1.0)
    elif a.data < -1:
        return Value(-1.0)
    return a


def huber(a: Any) -> Any:
    size = abs(a.data)
    if size <= 0.5:
        return 0.5 * a * a
    sign = 1 if a.data > 0 else -1
    return 0.5 * (sign * a - 0.25)


def stable_sigmoid(a: Any) -> Any:
    if a.data >= 0:
        s = 1 / (1 + math.exp(-a.data))
    else:  # e is a name of this side alone
        e = math.exp(a.data)
        s = e / (1 + e)
    return Value(s, (a,), (s * (1 - s),))


def three_ways(a: Any) -> Any:
    if a.data > 1:
        factor, shift = 2.0, a
    elif a.data < -1:
        factor, shift = 3.0, -a
    else:
        half = a / 2  # a name of this side alone
        factor, shift = 2.0, half * a
    return factor * shift


def root_where_there_is_one(a: Any) -> Any:
    total = Value(0.0)
    for part in (a, -a):
        if part.data <= 0:
            continue
        total += part.sqrt() + part.log()
    return total


BY_UNIT: dict[str, Callable[[Any], Any]] = {
    **{f.__name__: f for f in (leaky, hard_tanh, huber, stable_sigmoid, three_ways, root_where_there_is_one)},
    "a sum on one side": lambda a: a if a.data > 0 else sum(part * k for k, part in enumerate([a, 0.5 * a])),
    "elu": lambda a: a if a.data > 0 else a.exp() - 1,
    "relu by hand": relu_by_branch,
    "a mask by unit": lambda a: a * (1.0 if a.data > 0 else 0.0),
    "a slope by float": lambda a: Value(max(0, a.data), (a,), (float(a.data > 0),)),
    "a mask by int": lambda a: a * int(a.data > 0) + (not a.data > 0) * 0.1,
    "an interval": lambda a: a if -0.5 < a.data < 0.5 and a.data != 0 else a * 0.3,
    "either": lambda a: a if a.data > 1 or a.data < -1 else a**2,
    "the type": lambda a: (a if type(a) is Value else Value(a)) * (2 if isinstance(a.data, float) else 0),
    "dropout by unit": lambda a: Value(0.0) if random.random() < 0.3 else a * (1 / 0.7),
    "dropout by NumPy": lambda a: a * (np.random.rand() > 0.3) + np.random.normal(0, 0.1),
    "a number drawn": lambda a: a * W[random.randint(0, 3)],
}  # fmt: skip


# --- Whole programs ---------------------------------------------------------------------------------------------
ROWS = [([0.1 * i, 0.3 - 0.2 * i], (-1) ** i) for i in range(7)]
XS, YS = np.array([x for x, _ in ROWS]), np.array([y for _, y in ROWS])
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


def noisy(x: Any) -> Any:
    noise = [random.uniform(-1, 1) * random.normalvariate(0, 1) for _ in x]
    return dot([a + b for a, b in zip(x, noise, strict=True)]) * (1.0 * (random.random() < 0.5))


def metrics(x: float, y: float) -> Any:
    loss = sum(map(Value.tanh, [w * x for w in W])) - y
    print("%.3f of %d" % (loss.data, len(W)), f"{loss.data:.2e}", round(loss.data, 2))  # noqa: UP031
    LOG.append({"loss": int(loss.data * 100), "log": logarithm(abs(loss.data) + 1)})
    return loss**2, round(loss.data, 4), round(loss.data * 3), int(loss.data * 7), abs(loss.data) // 1


def words(tokens: list[int]) -> Any:
    labels = [(i % 3, 0.1 * i) for i in range(5)]
    total = Value(0.0)
    for a, b in zip(tokens, tokens[1:], strict=False):  # noqa: RUF007  # as people write it
        kind, bias = labels[a]
        row = PAIRS[a]
        total += (row[0] - PAIRS[b][1] + bias) ** 2 * (2.0 if row is PAIRS[2] else 1.0) * (kind + 1)
    return total


def metrics_of_many() -> Any:
    """The outcomes of 40 comparisons, which are numbers: 2^40 paths."""
    right = hits = best = 0
    total = Value(0.0)
    for x, y in ((values(row), int(row[0] > 0)) for row in FORTY):
        scores = [w * a for w, a in zip(W[:3], x[:3], strict=True)]
        if (scores[0].data > 0) == (y > 0):
            right += 1
        data = [score.data for score in scores]
        hits += data.index(max(data)) == y
        best += scores.index(max(scores, key=lambda score: score.data)) == y
        scores.sort(key=lambda score: score.data, reverse=True)
        total += (scores[0] - scores[1] * y) ** 2
    return total, right / 40, hits / 40, best / 40


MODEL = nn.MLP(4, [5, 1])
PROGRAMS: dict[str, tuple[Callable[..., Any], list[Value], tuple[Any, ...]]] = {
    **{name: (function, W, (X,)) for name, function in BY_HAND.items()},
    **{name: (function, W, batch) for name, (function, batch) in BY_PATH.items()},
    **{name: (lambda x, f=f: units(f, x), ALL, (FORTY,)) for name, f in BY_UNIT.items()},
    "a network": (lambda x: (MODEL(x) - Value(1.0)) ** 2, MODEL.parameters(), (X,)),
    "words": (words, [p for row in PAIRS for p in row], ([[0, 1, 2, 4], [2, 2, 3, 1]],)),
    "metrics": (metrics, W, ([0.5, 0.7, -1.2], [0.1, 0.9, 2.0])),
    "noise and dropout of an array": (noisy, W, (X,)),
    **{f.__name__: (f, W, ()) for f in (minibatch, sampled, metrics_of_many)},
    **{f.__name__: (f, W, ([0.5, 0.7, -1.2],)) for f in (generators, seeded)},
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_compiles_as_it_is(name: str) -> None:
    function, parameters, batch = PROGRAMS[name]
    agrees(function, parameters, *batch)


def test_rounding_is_that_of_python() -> None:
    def function(x: Any) -> Any:
        v = (W[0] * 0 + x).data
        digits = [round(v, n) for n in (-1, 0, 1, 2, 4, 7)]
        return W[0], int(v), math.floor(v), math.ceil(v), round(v), *digits, v // 1

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
def test_an_item_is_the_one_that_python_takes(function: Callable[[int], Any]) -> None:
    step = tg.compile(function, W)
    for batch in ([1], [0, 1, 2], [2, 0]):
        assert step(batch) == pytest.approx(np.mean([function(i).data for i in batch]), rel=1e-12)


def test_a_path_that_no_run_has_taken_runs_by_itself() -> None:
    step = tg.compile(lambda t: sum(one_hot(t)), W)
    for tokens in ([3, 3], [3, 4, 3], range(90)):
        assert step(np.array(tokens)) == pytest.approx(np.mean([sum(one_hot(t)).data for t in tokens]), rel=1e-12)
    with pytest.raises(tg.TraceError, match="give different graphs"):
        tg.compile(lambda x: W[0] * x if x.data > 0 else sum({W[1] * x.exp()}), W)([1.0, -1.0])


def test_a_side_with_effects_is_left_as_it_is() -> None:
    seen: list[int] = []

    def noted(a: Any) -> Any:
        seen.append(1)
        return a

    step = tg.compile(lambda x: noted(x * W[0]) if x.data > 0 else x * W[1], W[:2])
    assert step([1.0, 2.0]) == 1.5 * W[0].data
    seen.clear()
    step([-1.0])
    assert len(seen) == 0
    with pytest.raises(tg.TraceError, match="different"):
        tg.compile(lambda x: units(lambda a: noted(a) if a.data > 0 else a.exp(), x), ALL)(
            RNG.normal(size=(80, 4))
        )


# --- What is refused, and what is left as it was ----------------------------------------------------------------
def shuffled_for_good(x: float) -> Any:
    random.shuffle(ROWS)
    return W[0] * ROWS[0][0][0] * x


def drawn_unseen(x: float) -> Any:
    return W[0] * x * vars(random)["Random"].gauss(random.getstate.__self__, 0, 1)  # type: ignore[attr-defined]


def changed_row(x: float, i: int) -> Any:
    PAIRS[i].append(W[0])
    return PAIRS[i][0] * x


def sampled_action(r: float) -> Any:
    action = random.choices(range(4), weights=[abs(w.data) for w in W])[0]
    return W[action] * r


PLAIN = [0.5, -0.3], [1, 2]
REFUSED: list[tuple[Callable[..., Any], Any, str]] = [
    (lambda x: W[0] * eval("float")(x[0].data) + print, X, "was to become a float"),
    (lambda x: exp(dot(x)) * len({x[0].data}), X, "the key of a dict or a set"),
    (lambda x: Value(math.gamma(dot(x).data), (dot(x),), (1.0,)), X, "to become a float"),
    (lambda x: Value(np.float64(dot(x).data)) * W[0], X, "to become a float"),
    (lambda x: sum(W[i] for i in x), X, "Give whole numbers, an array of ints"),
    (lambda x: W[0] * x + random.gauss((W[1] * x).data, 1), PLAIN, "gauss was called with a number that depends"),
    (shuffled_for_good, PLAIN, r"line \d+ .*random.shuffle\(ROWS\).*Shuffle a copy"),
    (drawn_unseen, PLAIN, "Draw by these, or outside"),
    (changed_row, PLAIN, r"line \d+ .*PAIRS\[i\].append.*row = list\(table\[i\]\)"),
    (sampled_action, PLAIN, r"random.choices .*line \d+ .*Draw outside, and give what was drawn"),
]


@pytest.mark.parametrize(("program", "batch", "match"), REFUSED)
def test_what_cannot_be_followed_is_refused_and_says_what_to_write(program: Any, batch: Any, match: str) -> None:
    rows, state = list(ROWS), random.getstate()
    arrays = [batch] if batch is X else batch[: program.__code__.co_argcount]
    with pytest.raises(tg.TraceError, match=match):
        tg.compile(program, W).value_and_grad(*arrays)
    assert rows == ROWS
    assert state == random.getstate()
    assert type(random.gauss) is type(random.Random(0).gauss)
    assert choice.__self__ is vars(sys.modules["random"])["choice"].__self__  # type: ignore[attr-defined]


def test_as_many_numbers_are_drawn_for_every_example_and_none_in_javascript() -> None:
    with pytest.raises(tg.TraceError, match="than for another example"):
        tg.compile(lambda x: W[0] * (x if x.data < 0 else x + random.random()), W).value_and_grad([1.0, -1.0])
    with pytest.raises(tg.TraceError, match=r"by random\.random\. They are drawn anew"):
        tg.compile(lambda x: W[0] * x * random.random(), W, backend="javascript", example=(1.0,))


def test_after_a_trace_all_is_as_before_and_other_threads_compute_as_ever() -> None:
    functions, seen = [max, min, math.exp, math.log, math.pow, random.random], []

    def function(x: Any) -> Any:
        thread = threading.Thread(target=lambda: seen.append((math.exp(1.0), max(2, 3), log(Value(2.0)).data)))
        thread.start()
        thread.join()
        math.log(2.0, 10)
        with pytest.raises(ValueError, match="math domain error"):
            math.log(-1.0)
        return log(dot(x) ** 2 + 1)

    agrees(function, W, X)
    assert set(seen) == {(math.e, 3, math.log(2.0))}
    assert [max, min, math.exp, math.log, math.pow, random.random] == functions
    assert {type(w) for w in W} == {Value}
    with pytest.raises(ZeroDivisionError):
        tg.compile(lambda x: exp(dot(x)) / 0, W).value_and_grad(X)
    assert [max, min, math.exp, math.log, math.pow, random.random] == functions
