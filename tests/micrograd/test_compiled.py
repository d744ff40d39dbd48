"""Programs written for micrograd compile as they are: the import is all that changed."""

import math
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from micrograd_engines import by_hand, tanh

import tinygrad_edu as tg
from tinygrad_edu.micrograd import nn
from tinygrad_edu.micrograd.engine import Value

RNG = np.random.default_rng(0)
W = [Value(x) for x in RNG.normal(size=4).tolist()]
X = RNG.normal(size=(5, 4))


def values(row: Any) -> Any:
    if row.ndim:
        return [Value(x) for x in row.tolist()]
    return int(row) if row.dtype.kind == "i" else Value(float(row))


def agrees(function: Callable[..., Any], parameters: list[Value], *batch: Any) -> Any:
    """Value and gradient of the compiled function are those of the program itself, also at other parameters."""
    step = tg.compile(function, parameters)
    before = [p.data for p in parameters]
    try:
        for shift in (0.0, 0.13, -0.31):
            for p, number in zip(parameters, before, strict=True):
                p.data = number + shift
            value, gradient = step.value_and_grad(*batch)
            roots = [function(*map(values, one)) for one in zip(*batch, strict=True)]
            roots = [root[0] if isinstance(root, tuple) else root for root in roots]
            for p in parameters:
                p.grad = 0.0
            for root in roots:
                root.backward()
            assert value == pytest.approx(np.mean([root.data for root in roots]), rel=1e-12)
            np.testing.assert_allclose(gradient, [p.grad / len(roots) for p in parameters], rtol=1e-10, atol=1e-12)
    finally:
        for p, number in zip(parameters, before, strict=True):
            p.data = number
    return step


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


def three(a: Any, b: Any, c: Any) -> Value:
    number = a.data * b.data + math.sin(c.data) ** 2
    return Value(number, (a, b, c), (b.data, a.data, 2 * math.sin(c.data) * math.cos(c.data)))


def dot(x: Any) -> Any:
    return sum(a * b for a, b in zip(W, x, strict=True))


def cleared(x: Any) -> Any:
    for p in W:
        p.grad = 0.0
    return dot(x)


BY_HAND: dict[str, Callable[[Any], Any]] = {
    "log with a clamp": lambda x: log(dot(x) ** 2 + 0.1) * W[0],
    "two operands": lambda x: multiplied(multiplied(W[0], W[1]), x[0]) + multiplied(W[2], W[3]),
    "one operand twice": lambda x: multiplied(W[0], W[0]) * x[0] + dot(x),
    "three operands": lambda x: three(W[0], W[1] * x[1], W[2]) * three(x[0], W[3], dot(x)),
    "softmax and log": lambda x: -log(softmax([a * b for a, b in zip(W, x, strict=True)])[1]),
    "a closure": lambda x: tanh(dot(x), Value) ** 2,
    "a closure of two operands": lambda x: product(W[0], x[0]) + product(W[1], W[1]) + product(W[2], W[3]),
    "a closure with max": lambda x: relu(dot(x)) * W[0] + relu(-dot(x)),
    "a chain of them": lambda x: tanh(relu(product(exp(W[0]), dot(x))), Value) + log(exp(W[1])),
    "max_with and clip": lambda x: dot(x).max_with(0.1) + (W[1] * x[1]).clip(-0.5, 0.5) + W[0].max_with(W[1]),
    "a constant on the left": lambda x: (
        Value(0.0) + W[0] * x[0] + Value(2.0) * dot(x) - Value(1.0) / (W[1] ** 2 + 1)
    ),
    "a sum that begins with a Value": lambda x: sum((a * b for a, b in zip(W, x, strict=True)), Value(0.0)) ** 2,
    "a constant to a power": lambda x: Value(2.0) ** dot(x),
    "a number of math as a constant": lambda x: dot(x) / Value(math.sqrt(sum(a.data**2 for a in x) + 1.0)),
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
}


@pytest.mark.parametrize("name", BY_HAND)
def test_operations_by_hand_compile(name: str) -> None:
    agrees(lambda x: BY_HAND[name](x) + 0.0 * sum(W), W, X)


def test_a_metric_may_stand_beside_the_loss() -> None:
    def with_a_metric(x: Any) -> Any:
        loss = (dot(x) - 1) ** 2
        return loss, math.sqrt(loss.data)

    step = agrees(with_a_metric, W, X)
    np.testing.assert_allclose(step.predict(X)[:, 1], [with_a_metric(values(x))[1] for x in X], rtol=1e-12)


def test_networks_whole_numbers_and_wrong_slopes() -> None:
    model = nn.MLP(4, [5, 1])
    agrees(lambda x: (model(x) - Value(1.0)) ** 2, model.parameters(), X)
    agrees(lambda i: sum(w * math.sin(i / (j + 1)) for j, w in enumerate(W)), W, np.array([0, 3, 1, 2]))
    # A slope is what the program says, not the derivative of its number.
    agrees(lambda x: Value((W[0] * x[0]).data ** 2, (W[0],), (5.0,)) + dot(x), W, X)


# --- Constants, and operands, that a number chooses ---------------------------------------------------------
def relu_by_branch(x: Any) -> Value:
    out = Value(0 if x.data < 0 else x.data, (x,), "ReLU")

    def backward() -> None:
        x.grad += (out.data > 0) * out.grad

    out._backward = backward
    return out


def one_hot(token: Any) -> Any:
    x = [Value(1.0 if i == token else 0.0) for i in range(90)]
    return [sum(((0.1 * i + j) * w * x[i] for i in range(90)), Value(0.0)).tanh() for j, w in enumerate(W)]


def masked(t: Any, x: Any) -> Any:
    scores = [w * a + (-1e9 if i > t else 0) for i, (w, a) in enumerate(zip(W, x, strict=True))]
    top = max(score.data for score in scores)
    exps = [(score - top).exp() for score in scores]
    return exps[0] / sum(exps)


def largest_two(x: Any) -> Any:
    order = sorted(range(4), key=lambda i: (W[i] * x[i]).data)[-2:]
    return W[order[0]] * x[order[0]] + 2 * W[order[1]] * x[order[1]]


def in_order(x: Any) -> Any:
    scores = [w * a for w, a in zip(W, x, strict=True)]
    scores.sort(key=lambda score: -score.data)
    return scores[0] * 2 + scores[1] * scores[3]


TABLE = [[0.1 * i * j for j in range(4)] for i in range(5)]
TOKENS = np.array([3, 0, 2, 1, 4])


def one_hot_target(t: Any, x: Any) -> Any:
    target = [1.0 if i == t else 0.0 for i in range(4)]
    return sum((w * a - y) ** 2 for w, a, y in zip(W, x, target, strict=True))


def with_positions(t: Any, x: Any) -> Any:
    return sum(w * (a + p) for w, a, p in zip(W, x, TABLE[t], strict=True)) ** 2


def largest(x: Any) -> Any:
    scores = [w * a for w, a in zip(W, x, strict=True)]
    return scores[max(range(4), key=lambda i: scores[i].data)] * 3


BY_PATH: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "relu by a branch": (lambda x: relu_by_branch(dot(x)) * W[0] + relu_by_branch(W[1] * x[0]), (X,)),
    "relu with its slope": (lambda x: Value(max(0, dot(x).data), (dot(x),), (float(dot(x).data > 0),)), (X,)),
    "leaky": (lambda x: dot(x) if dot(x).data > 0 else dot(x) * 0.01, (X,)),
    "one-hot": (lambda t: sum(one_hot(t)) ** 2, (np.arange(80),)),  # more than 64 paths
    "one-hot target": (one_hot_target, (TOKENS, X)),
    "a mask": (masked, (TOKENS, X)),
    "a table of numbers": (with_positions, (TOKENS, X)),
    "numbers by a sine": (lambda t: sum(w * math.sin(t / 10**i) for i, w in enumerate(W)) ** 2, (TOKENS,)),
    "the largest two": (largest_two, (X,)),
    "sorted": (in_order, (X,)),
    "the index of the largest": (largest, (X,)),
    "a float that becomes a Value": (lambda x: (dot(x) * Value(float(x[1].data))).tanh(), (X,)),
}  # fmt: skip


# --- Both sides of a branch, for every unit of a layer: 2^24 paths ------------------------------------------


UNITS = [[Value(x) for x in row] for row in RNG.normal(size=(24, 4)).tolist()]
ALL = [*W, *(w for row in UNITS for w in row)]


def units(f: Callable[[Any], Any], x: Any) -> Any:
    """A layer of 24 units with the activation f."""
    return sum((f(sum(w * a for w, a in zip(row, x, strict=True))) for row in UNITS), Value(0.0)) * W[0] + dot(x)


def leaky(a: Any) -> Any:
    if a.data > 0:
        return a
    return 0.01 * a


def elu(a: Any) -> Any:
    return a if a.data > 0 else a.exp() - 1


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
        e = math.exp(-a.data)
        s = 1 / (1 + e)
    else:
        e = math.exp(a.data)
        s = e / (1 + e)
    return Value(s, (a,), (s * (1 - s),))


def relu_by_hand(a: Any) -> Any:
    out = Value(0 if a.data < 0 else a.data, (a,), "ReLU")

    def backward() -> None:
        if out.data > 0:
            a.grad += out.grad

    out._backward = backward
    return out


def three_ways(a: Any) -> Any:
    if a.data > 1:
        factor, shift = 2.0, a
    elif a.data < -1:
        factor, shift = 3.0, -a
    else:
        factor, shift = 1.0, a * a
    return factor * shift


def root_where_there_is_one(a: Any) -> Any:
    total = Value(0.0)
    for part in (a, -a):
        if part.data <= 0:
            continue
        total += part.sqrt() + part.log()
    return total


BY_UNIT: dict[str, Callable[[Any], Any]] = {
    f.__name__: f
    for f in (leaky, elu, hard_tanh, huber, stable_sigmoid, relu_by_hand, three_ways, root_where_there_is_one)
} | {
    "a mask": lambda a: a * (1.0 if a.data > 0 else 0.0),
    "a slope by float": lambda a: Value(max(0, a.data), (a,), (float(a.data > 0),)),
    "a mask by int": lambda a: a * int(a.data > 0) + (not a.data > 0) * 0.1,
    "an interval": lambda a: a if -0.5 < a.data < 0.5 and a.data != 0 else a * 0.3,
    "either": lambda a: a if a.data > 1 or a.data < -1 else a**2,
    "the type": lambda a: (a if type(a) is Value else Value(a)) * (2 if isinstance(a.data, float) else 0),
    "dropout": lambda a: Value(0.0) if random.random() < 0.3 else a * (1 / 0.7),
    "dropout by NumPy": lambda a: a * (np.random.rand() > 0.3) + np.random.normal(0, 0.1),
    "a number drawn": lambda a: a * W[random.randint(0, 3)],
}  # fmt: skip


@pytest.mark.parametrize("name", BY_UNIT)
def test_both_sides_of_a_branch_are_in_the_program(name: str) -> None:
    x = RNG.normal(size=(40, 4))

    def function(x: Any) -> Any:
        return units(BY_UNIT[name], x)

    if "dr" not in name:
        agrees(function, ALL, x)
        return
    step = tg.compile(function, ALL)
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        value = step(x)
        random.seed(seed)
        np.random.seed(seed)
        assert value == pytest.approx(np.mean([function(values(row)).data for row in x]), rel=1e-12)


def test_metrics_of_many_examples_in_one_loss() -> None:
    """The outcomes of 40 comparisons, which are numbers: 2^40 paths."""
    rows = [(values(row), int(row[0] > 0)) for row in RNG.normal(size=(40, 4))]

    def loss() -> Any:
        right = hits = best = 0
        total = Value(0.0)
        for x, y in rows:
            scores = [w * a for w, a in zip(W[:3], x[:3], strict=True)]
            if (scores[0].data > 0) == (y > 0):
                right += 1
            data = [score.data for score in scores]
            hits += data.index(max(data)) == y
            best += scores.index(max(scores, key=lambda score: score.data)) == y
            scores.sort(key=lambda score: score.data, reverse=True)
            total += (scores[0] - scores[1] * y) ** 2
        return total, right / 40, hits / 40, best / 40

    step = tg.compile(loss, W[:3])
    for shift in (0.0, 0.7, -0.4):
        for w in W[:3]:
            w.data += shift
        value, *metrics = loss()
        assert step.value_and_grad()[0] == pytest.approx(value.data, rel=1e-12)
        assert step.predict()[0].tolist() == pytest.approx([value.data, *metrics], rel=1e-12)
        for w in W[:3]:
            w.data -= shift


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


@pytest.mark.parametrize("name", BY_PATH)
def test_what_a_number_chooses_is_chosen_in_the_program(name: str) -> None:
    function, batch = BY_PATH[name]
    agrees(lambda *xs: function(*xs) + 0.0 * sum(W), W, *batch)


def test_a_path_that_no_run_has_taken_runs_by_itself() -> None:
    step = tg.compile(lambda t: sum(one_hot(t)), W)
    for tokens in ([3, 3], [3, 4, 3], range(90)):
        assert step(np.array(tokens)) == pytest.approx(np.mean([sum(one_hot(t)).data for t in tokens]), rel=1e-12)
    with pytest.raises(tg.TraceError, match="give different graphs"):
        tg.compile(lambda x: W[0] * x if x.data > 0 else sum([W[1] * x.exp()]), W)([1.0, -1.0])


def dropped(x: Any) -> Any:
    hidden = [(w * a).tanh() for w, a in zip(W, x, strict=True)]
    return sum(h * (2.0 if random.random() < 0.5 else 0.0) for h in hidden) + random.gauss(0, 0.1)


def noisy(x: Any) -> Any:
    noise = [random.uniform(-1, 1) * random.normalvariate(0, 1) for _ in x]
    return dot([a + b for a, b in zip(x, noise, strict=True)]) * (1.0 * (random.random() < 0.5))


@pytest.mark.parametrize("function", [dropped, noisy])
@pytest.mark.parametrize("backend", ["numpy", "auto"])
def test_random_numbers_are_drawn_at_each_call(function: Any, backend: str) -> None:
    """They are those that the function draws, example after example; a trace draws none."""
    step = tg.compile(function, W, backend=backend)
    for seed in (0, 0, 5):
        random.seed(seed)
        values_of = [step(X) if seed else step.value_and_grad(X)[0], random.random()]
        random.seed(seed)
        expected = [np.mean([function(values(row)).data for row in X]), random.random()]
        assert values_of == pytest.approx(expected, rel=1e-12)


def test_random_numbers_that_cannot_be_drawn_before() -> None:
    for function, match in {
        (
            lambda x: W[0] * x + random.gauss((W[1] * x).data, 1)
        ): "random.gauss was called with a number that depends",
        (lambda x: W[0] * (x if x.data < 0 else x + random.random())): "than for another example",
    }.items():
        with pytest.raises(tg.TraceError, match=match):
            tg.compile(function, W).value_and_grad([1.0, -1.0])
    with pytest.raises(tg.TraceError, match=r"by random\.random\. The methods of"):
        tg.compile(lambda x: W[0] * x * random.random(), W, backend="python").value_and_grad([1.0])


def test_a_plain_number_that_becomes_a_value() -> None:
    def function(x: Any) -> Any:
        return Value(float(x)) * W[0] + W[1]

    assert tg.compile(function, W[:2])([1.0, 2.0, 4.0]) == np.mean([function(x).data for x in (1.0, 2.0, 4.0)])


# --- What is refused, and what is left as it was ------------------------------------------------------------
@pytest.mark.parametrize(
    ("function", "match"),
    [
        (lambda x: W[0] * eval("float")(x[0].data) + print, "was to become a float"),
        (lambda x: exp(dot(x)) * len({x[0].data}), "the key of a dict or a set"),
        (lambda x: Value(math.gamma(dot(x).data), (dot(x),), (1.0,)), "to become a float"),
        (lambda x: Value(np.float64(dot(x).data)) * W[0], "to become a float"),
        (lambda x: sum(W[i] for i in x), "Give whole numbers, an array of ints"),
    ],
)
def test_what_cannot_be_followed_is_refused_with_its_line(function: Any, match: str) -> None:
    with pytest.raises(tg.TraceError, match=match):
        tg.compile(function, W).value_and_grad(X)


def test_after_a_trace_all_is_as_before() -> None:
    functions = max, min, math.exp, math.log, math.pow, random.random
    step = tg.compile(lambda x: log(dot(x) ** 2 + 1) / 0 if len(x) > 9 else log(dot(x) ** 2 + 1), W)
    step.value_and_grad(X)
    assert (max, min, math.exp, math.log, math.pow, random.random) == functions
    assert {type(w) for w in W} == {Value}
    with pytest.raises(ZeroDivisionError):
        tg.compile(lambda x: exp(dot(x)) / 0, W).value_and_grad(X)
    assert (max, min, math.exp, math.log, math.pow, random.random) == functions


def test_other_threads_compute_as_ever() -> None:
    seen = []

    def function(x: Any) -> Any:
        thread = threading.Thread(target=lambda: seen.append((math.exp(1.0), max(2, 3), log(Value(2.0)).data)))
        thread.start()
        thread.join()
        return log(dot(x) ** 2 + 1)

    tg.compile(function, W).value_and_grad(X)
    assert set(seen) == {(math.e, 3, math.log(2.0))}


def test_functions_of_math_keep_their_errors() -> None:
    def function(x: Any) -> Any:
        math.log(2.0, 10)
        with pytest.raises(ValueError, match="math domain error"):
            math.log(-1.0)
        return log(dot(x) ** 2 + 1) * Value(math.log((dot(x) ** 2 + 2).data, 2.0))

    agrees(function, W, X)
