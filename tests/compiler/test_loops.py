"""Recurrences: which programs have loops, that they agree with the eager engine, and how they read."""

import random
import re
from typing import Any

import numpy as np
import pytest
from comparing import check, compare, used, values
from hypothesis import example, given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.compiler import loops
from tinygrad_edu.compiler.backends import straight

RNG = np.random.default_rng(0)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(0, 0.6, shape)


def leaves(*shape: int) -> Any:
    """Nested lists of Values."""
    return [leaves(*shape[1:]) for _ in range(shape[0])] if shape else Value(RNG.normal(0, 0.6))


def flat(*nested: Any) -> list[Value]:
    return [x for part in nested for x in (flat(*part) if isinstance(part, list | tuple) else [part])]


def linear(W: Any, x: Any) -> list[Any]:
    return [tg.dot(row, x) for row in W]


def columns(W: Any) -> list[Any]:
    return [list(column) for column in zip(*W, strict=True)]


def plus(*vectors: Any) -> list[Any]:
    return [sum(parts[1:], parts[0]) for parts in zip(*vectors, strict=True)]


def n_loops(step: Any) -> tuple[int, int]:
    """The number of loops forward, and backward."""
    return step.source.count(" in range("), step.source.count("in reversed(range(")


# --- What becomes a loop ----------------------------------------------------------------------------------------

W, U, b, V, v = leaves(3, 2), leaves(3, 3), leaves(3), leaves(2, 3), leaves(3)
w = Value(0.4)
X, Y, T = normal(3, 7, 2), normal(3, 7), 7


def recurrent(x: Any, W: Any = W, U: Any = U, b: Any = b) -> list[Any]:
    """The states of a recurrent layer."""
    states = [[0.0, 0.0, 0.0]]
    for now in x:
        states.append([tg.tanh(a) for a in plus(linear(W, now), linear(U, states[-1]), b)])
    return states[1:]


def test_a_recurrent_layer_reads_as_in_a_textbook() -> None:
    step = compare(lambda x, y: (tg.dot(recurrent(x)[-1], v) - y) ** 2, flat(W, U, b, v), X, Y[:, 0])
    source = " ".join(step.source.split())
    for line in (
        "# XW1 = X @ W1.T + b1",
        "for t in range(T):",
        "# Z2[t] = A2[t] @ W2.T + XW1s[t]",
        "# A2[t + 1] = tanh(Z2[t])",
        "for t in reversed(range(T)):",
        "# dZ2[t] = dA2[t + 1] * slope_1[t]",
        "# dA2[t] = (dZ2[t] @ W2)",
        "# dW2 = dZ2.T @ A2[:T]",
    ):
        assert line in source


def lstm(x: Any, y: Any) -> Value:
    gates, h, c, loss = leaves_of_gates, initial[0], initial[1], 0
    for now, target in zip(x, y, strict=True):
        i, f, o, g = (plus(linear(A, now), linear(B, h), d) for A, B, d in gates)
        c = [tg.sigmoid(p) * q + tg.sigmoid(r) * tg.tanh(s) for p, q, r, s in zip(f, c, i, g, strict=True)]
        h = [tg.sigmoid(p) * tg.tanh(q) for p, q in zip(o, c, strict=True)]
        loss = loss + (tg.dot(h, v) - target) ** 2
    return loss  # type: ignore[return-value]  # a Value after the first stage


leaves_of_gates = [(leaves(3, 2), leaves(3, 3), leaves(3)) for _ in range(4)]
initial = leaves(2, 3)


def gru(x: Any, y: Any) -> Value:
    h = [0.0] * 3
    for now in x:
        z, r = ([tg.sigmoid(a) for a in plus(linear(A, now), linear(B, h), d)] for A, B, d in leaves_of_gates[:2])
        A, B, d = leaves_of_gates[2]
        n = [tg.tanh(a) for a in plus(linear(A, now), linear(B, [p * q for p, q in zip(r, h, strict=True)]), d)]
        h = [(1 - p) * q + p * s for p, q, s in zip(z, n, h, strict=True)]
    return (tg.dot(h, v) - y[0]) ** 2


def euler(x: Any) -> Value:
    """A stage of scalars with a state of three, some steps of a differential equation."""
    p, q, r = x[0], x[1], Value(0.5)
    for _ in range(T):
        p, q, r = p + 0.1 * b[0] * (q - p), q + 0.1 * (p * (b[1] - r) - q), r + 0.1 * (p * q - b[2] * r)
    return p * q + r


def delayed(x: Any) -> Value:
    """A stage that reads the second and the third before it."""
    h = [x[0][0], x[0][1], x[1][0]]
    for _ in range(20):
        h.append(tg.sin(w * h[-2] + b[0] * h[-3] + b[1]))
    return h[-1] * h[-4] + tg.sum(h)


def both_ways(x: Any) -> Value:
    forward, backward = recurrent(x), recurrent(x[::-1], *leaves_of_gates[0])[::-1]
    return tg.sum([tg.dot(a, c) * (i + 1) for i, (a, c) in enumerate(zip(forward, backward, strict=True))])


def stacked(x: Any) -> Value:
    return tg.sum([tg.dot(h, v) for h in recurrent([linear(V, h) for h in recurrent(x)])])


def hidden_period(x: Any) -> Value:
    """Every other stage does something else."""
    h = x[0][0]
    for t in range(12):
        h = (tg.sin if t % 2 else tg.tanh)(w * h + x[t % T][1])
    return h


def translator(x: Any) -> Value:
    """The second loop begins where the first one ends, and reads its last state at every stage."""
    h = context = recurrent(x)[-1]
    for _ in range(9):
        h = [tg.sin(a) for a in plus(linear(U, h), context)]
    return tg.dot(h, v)


def tokens(index: Any, target: Any) -> Value:
    h, loss = [0.0, 0.0, 0.0], 0
    for i, j in zip(index, target, strict=True):
        h = [tg.tanh(a) for a in plus([tg.take(column, i) for column in zip(*table, strict=True)], linear(U, h))]
        loss = loss + nn.cross_entropy(linear(classes, h), j)
    return loss / T  # type: ignore[return-value]  # as above


table, classes = leaves(5, 3), leaves(4, 3)
INDICES = np.random.default_rng(1).integers(4, size=(3, 7))


def two_examples(x: Any) -> Value:
    """A batch that is written out in the function."""
    return tg.sum([tg.dot(h, v) for part in x for h in recurrent(part)[-1:]])


LOOPS: dict[str, tuple[Any, Any, Any, tuple[int, int]]] = {
    "lstm, a loss at every stage, parameters as first states": (
        lstm,
        (leaves_of_gates, initial, v),
        (X, Y),
        (1, 1),
    ),
    "gru": (gru, (leaves_of_gates[:3], v), (X, Y), (1, 1)),
    "differential equation": (euler, b, (X[:, 0],), (1, 1)),
    "differential equation at one point": (lambda: euler(leaf), (b, leaf := leaves(2)), (), (1, 1)),
    "delayed": (delayed, (w, b[:2]), (X,), (1, 1)),
    "both ways": (both_ways, (W, U, b, leaves_of_gates[0]), (normal(2, 16, 2),), (1, 1)),
    "two layers": (stacked, (W, U, b, V, v), (X,), (2, 2)),
    "hidden period": (hidden_period, w, (X,), (1, 1)),
    "translator": (translator, (W, U, b, v), (X,), (2, 2)),
    "two examples": (two_examples, (W, U, b, v), (normal(3, 2, 7, 2),), (1, 1)),
}


@pytest.mark.parametrize("name", LOOPS)
def test_recurrences_become_loops(name: str) -> None:
    function, parameters, batch, n = LOOPS[name]
    parameters = flat(parameters)
    assert n_loops(compare(function, parameters, *batch)) == n
    outputs = tg.compile(function, parameters).predict(*batch)
    expected = (
        [function(*one).data for one in zip(*map(values, batch), strict=True)] if batch else [function().data]
    )
    np.testing.assert_allclose(outputs, expected, 1e-12, 1e-12)


def test_embeddings_and_classes_are_indices() -> None:
    step = compare(tokens, flat(table, U, classes), INDICES, INDICES[:, ::-1])
    assert n_loops(step)[0]
    with pytest.raises(IndexError, match=r"target has the indices 0 to 3, got 4"):
        step.value_and_grad(INDICES, INDICES + 1)


def test_the_states_of_all_stages_are_outputs() -> None:
    step = tg.compile(lambda x: recurrent(x), flat(W, U, b))
    found = step.predict(X)
    expected = [[[h.data for h in state] for state in recurrent(values(x))] for x in X]
    np.testing.assert_allclose(found, expected, 1e-12)
    assert n_loops(step) == (1, 0)


def test_float32_and_two_batch_sizes() -> None:
    step = tg.compile(lambda x, y: gru(x, y), flat(leaves_of_gates[:3], v), "float32")
    exact = tg.compile(gru, flat(leaves_of_gates[:3], v))
    for n in (3, 2):
        np.testing.assert_allclose(
            step.value_and_grad(X[:n], Y[:n])[1], exact.value_and_grad(X[:n], Y[:n])[1], 1e-4, 1e-5
        )


# --- Single numbers ---------------------------------------------------------------------------------------------

k, start = Value(0.3, label="k"), Value(1.5, label="start")


def pendulum() -> Value:
    angle, speed = start, 0 * start
    for _ in range(1000):
        angle, speed = angle + 0.01 * speed, speed - 0.01 * (k * speed + tg.sin(angle))
    return angle * angle


def test_an_equation_of_a_thousand_steps_is_a_page_of_numpy() -> None:
    step = compare(pendulum, [k, start])
    assert step.source.count("\n") < 70
    for line in ("sin_1 = np.sin(sum_1[t])", "sum_1[t + 1] = 0.01 * sub_1[t] + sum_1[t]"):
        assert f"            {line}\n" in step.source


def test_no_step_of_an_equation_stays_in_front_of_its_loop() -> None:
    x, y, z, r = state = leaves(4)

    def lorenz() -> Value:
        p, q, s = x, y, z
        for _ in range(100):
            p, q, s = p + 0.05 * (q - p), q + 0.005 * (p * (r - s) - q), s + 0.005 * (p * q - 2.7 * s)
        return p * q * s

    step = compare(lorenz, state)
    assert "for t in range(100):" in step.source
    assert step.source.count("\n") < 80


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_functions_of_single_numbers(dtype: str) -> None:
    def function() -> Value:
        h = tg.tanh(k) * abs(start - 2.0) + tg.max(k, start) ** 3 - tg.min(k, start, 0.7)
        return (
            (h / tg.sqrt(start + k)) ** 2
            + tg.log(start) ** start
            - tg.where(h < 0.5, h, 2.0)
            + tg.sigmoid(h) * tg.exp(-h)
        )

    compare(function, [k, start], dtype=dtype)


def test_a_single_number_overflows_without_an_error() -> None:
    a, b = Value(2.0), Value(1.0)
    step = tg.compile(lambda: a / (a - b), [a, b])
    assert step.value_and_grad()[0] == 2.0
    b.data = 2.0
    assert step.value_and_grad()[0] == np.inf


# --- Stages with weights of their own ---------------------------------------------------------------------------

N = 6
Ws, Vs = leaves(N, 3, 3), leaves(N, 3, 3)
bs, gains, shifts, scales = leaves(N, 3), leaves(N, 3), leaves(N, 3), leaves(N)


def tanh(z: Any) -> list[Any]:
    return [tg.tanh(a) for a in z]


def blocks(block: Any) -> Any:
    """A function of x: N blocks, one after the other, each with its number."""

    def function(x: Any) -> Value:
        h = [*x[0], x[1][0]] if x else gains[0]
        for t in range(N):
            h = block(t, h)
        return tg.dot(h, v)

    return function


def normed(h: Any, t: int) -> list[Any]:
    """Layer normalisation, with a gain and a shift for each block."""
    centred = [a - tg.sum(h) / 3 for a in h]
    size = tg.sqrt(tg.sum([a * a for a in centred]) / 3 + 0.01)
    return [a / size * gain + shift for a, gain, shift in zip(centred, gains[t], shifts[t], strict=True)]


def attention_blocks(x: Any) -> Value:
    """Blocks of causal attention, each followed by a dense layer."""
    places = [[*place, 0.5] for place in x[:4]]
    for t in range(N):
        queries, keys = ([linear(A, normed(place, t)) for place in places] for A in (Ws[t], Vs[t]))
        for i, query in enumerate(queries):
            shares = tg.softmax([tg.dot(query, key) for key in keys[: i + 1]])
            seen = [tg.dot(shares, column) for column in zip(*queries[: i + 1], strict=True)]
            places[i] = plus(places[i], tanh(plus(linear(Ws[t], seen), bs[t])))
    return tg.sum([tg.dot(place, v) for place in places])


def matrix_state(x: Any) -> Value:
    rows = [[*x[i], x[i][0]] for i in range(4)]
    for t in range(N):
        rows = [tanh(plus(linear(Ws[t], row), bs[t])) for row in rows]
    return tg.sum([tg.dot(row, v) for row in rows])


OWN: dict[str, Any] = {
    "dense": blocks(lambda t, h: tanh(plus(linear(Ws[t], h), bs[t]))),
    "residual": blocks(lambda t, h: plus(h, linear(Vs[t], tanh(plus(linear(Ws[t], h), bs[t]))))),
    "normed before": blocks(lambda t, h: plus(h, tanh(linear(Ws[t], normed(h, t))))),
    "normed behind": blocks(lambda t, h: normed(plus(h, tanh(linear(Ws[t], h))), t)),
    "gated by a number": blocks(lambda t, h: plus(h, [scales[t] * a for a in tanh(linear(Ws[t], h))])),
    "scaled by a function of a parameter": blocks(lambda t, h: [a * tg.exp(scales[t]) for a in tanh(h)]),
    "a weight that is read twice": blocks(lambda t, h: plus(h, linear(columns(Ws[t]), tanh(linear(Ws[t], h))))),
    "the weight of the next block": blocks(lambda t, h: linear(columns(Ws[(t + 1) % N]), tanh(linear(Ws[t], h)))),
    "one weight for two blocks": blocks(lambda t, h: tanh(linear(Ws[2 if t == 3 else t], h))),
    "weights in another order": blocks(lambda t, h: tanh(plus(linear(Ws[[3, 1, 0, 5, 2, 4][t]], h), bs[t]))),
    "input and state": lambda x: blocks(lambda t, h: tanh(plus(linear(Ws[t], h), linear(Vs[t], [*x[1], 1.0]))))(x),
    "weight decay": lambda x: OWN["dense"](x) + 0.1 * tg.sum([p * p for p in flat(Ws)]),
    "a state of rows": matrix_state,
    "attention": attention_blocks,
}


@pytest.mark.parametrize("name", OWN)
def test_stages_with_weights_of_their_own_become_loops(name: str) -> None:
    parameters = used(OWN[name], flat(Ws, Vs, bs, gains, shifts, scales, v), [X])
    assert n_loops(compare(OWN[name], parameters, X)) == (1, 1)


def test_they_may_come_without_examples() -> None:
    assert n_loops(compare(lambda: OWN["residual"](()), flat(Ws, Vs, bs, gains[0], v))) == (1, 1)


def test_their_weights_are_rows_of_one_array() -> None:
    parameters = flat([[W, b] for W, b in zip(Ws, bs, strict=True)], v)
    step = compare(OWN["dense"], parameters, X)
    source = " ".join(step.source.split())
    for line in (
        "W1 = strided(parameters, 0, (6, 3, 3), (12, 3, 1))",
        "b1 = parameters[3:75].reshape(6, 12)[:, 6:9]",
        "# Z1[t] = A1[t] @ W1[t].T + b1[t]",
        "# dA1[t] = (dZ1[t] @ W1[t])",
        "# dW1 = dZ1.mT @ A1[:6]",
    ):
        assert line in source
    assert "W1 parameter (6, 3, 3) 54 numbers" in " ".join(str(step.groups).split())


def test_large_weights_are_not_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "LARGE", 8)
    for order, n in (range(N), 1), (range(N)[::-1], 1), ([3, 1, 0, 5, 2, 4], 0):
        function = blocks(lambda t, h, order=order: tanh(plus(linear(Ws[order[t]], h), bs[order[t]])))
        assert n_loops(compare(function, flat(Ws, bs, v), X)) == (n, n)


ALMOST: dict[str, Any] = {
    "another activation": lambda t, h: [(tg.sin if t == 3 else tg.tanh)(a) for a in linear(Ws[t], h)],
    "no bias": lambda t, h: tanh(linear(Ws[t], h) if t == 3 else plus(linear(Ws[t], h), bs[t])),
    "another width": lambda t, h: tanh([*linear(Ws[t], h), *h[: t == 3]])[-3:],
    "a sum": lambda t, h: plus(linear(Ws[t], h), h) if t == 3 else linear(Ws[t], h),
}


@pytest.mark.parametrize("name", ALMOST)
def test_a_block_that_differs_is_in_no_loop(name: str) -> None:
    parameters = used(function := blocks(ALMOST[name]), flat(Ws, bs, v), [X])
    step = compare(function, parameters, X)
    assert n_loops(step) == (0, 0)
    assert "(6, 3" not in str(step.groups)  # and no array of rows


# --- Plain Python ------------------------------------------------------------------------------------------------


def test_an_equation_of_a_thousand_steps_is_a_page_of_python() -> None:
    """The loops do what the engine does, in its order: the numbers are equal to the last bit."""
    step = tg.compile(pendulum, [k, start], backend="python")
    value, gradient = step.value_and_grad()
    root = pendulum()
    root.backward()
    assert (value, gradient) == (root.data, [k.grad, start.grad])
    assert n_loops(step)[0] == 2
    assert step.source.count("\n") < 70


@pytest.mark.parametrize("name", LOOPS)
def test_python_agrees(name: str) -> None:
    function, parameters, batch, _ = LOOPS[name]
    compare(function, flat(parameters), *batch, backend="python")


def test_python_reads_inputs_in_the_loop() -> None:
    def loss(x: Any) -> Value:
        h = Value(0.5)
        for now in x:
            h = tg.tanh(w * h + b[0] * now)
        return h * h

    step = compare(loss, [w, b[0]], normal(3, 40), backend="python")
    assert re.search(r"inputs\[0\]\[[^\]]*\bt\b", step.source)


def test_a_wrong_python_loop_is_replaced_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(straight, "_sum_of", lambda first, step: f"{first} + {step} * t - (t == 2)")
    step = tg.compile(lambda x: tg.sum(recurrent(x)[-1]), flat(W, U, b), backend="python")
    with pytest.warns(UserWarning, match="A loop was found where there is none .*report"):
        step.value_and_grad(normal(1, 40, 2))
    assert n_loops(step) == (0, 0)


# --- What does not ----------------------------------------------------------------------------------------------


def varying_distances(x: Any) -> Value:
    h = [x[0][0], x[0][1], x[1][0]]
    for t, distance in enumerate([1, 2, 1, 1, 3, 2, 1, 3, 3, 2]):
        h.append(tg.sin(w * h[-distance] + x[t % T][1]))
    return h[-1]


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (varying_distances, w),
        (lambda x: tg.tanh(w * tg.tanh(w * tg.tanh(w * x[0][0]))), w),  # too short to be worth a loop
        (lambda x: tg.sum([tg.sum([w * a[0] for a in x[: t + 1]]) ** 2 for t in range(T)]), w),  # stages grow
    ],
)
def test_other_programs_have_no_loop(function: Any, parameters: Any) -> None:
    assert n_loops(compare(function, flat(parameters), X)) == (0, 0)


@pytest.mark.parametrize("odd", range(9))
def test_a_stage_that_differs_is_in_no_loop(odd: int) -> None:
    def loss(x: Any) -> Value:
        h = x[0][0]
        for t in range(9):
            h = (tg.sin if t == odd else tg.tanh)(w * h + x[t % T][1])
        return h

    step = compare(loss, [w], X)
    lengths = {0: [8], 1: [7], 2: [6], 3: [5], 4: [4], 5: [4], 6: [5], 7: [6], 8: [7]}
    assert [int(n) for n in re.findall(r"for t in range\((\d+)\)", step.source)] == lengths[odd]


# --- Random recurrences -----------------------------------------------------------------------------------------

UNARY = [tg.tanh, tg.sin, tg.sigmoid, tg.relu, lambda x: 0.3 * x * x]


class Recurrence:
    """A random recurrence of vectors: a state or two, reads of earlier stages, a stage that may differ."""

    def __init__(self, rng: random.Random, longest: int = 11):
        self.T, H, F = rng.randint(4, longest), rng.choice([1, 2, 3]), rng.choice([1, 2])
        self.H, self.reach = H, rng.choice([1, 1, 2, 3])
        self.varies, self.odd, self.period = (
            rng.random() < 0.15,
            rng.choice([-1, -1, rng.randrange(9)]),
            rng.choice([1, 1, 2, 3]),
        )
        self.out = rng.choice(["last", "all", "some", "two", "max", "weighted"])
        self.lines = [(rng.randrange(12), rng.randrange(99), rng.randrange(99)) for _ in range(rng.randint(1, 5))]
        self.news = [rng.randrange(3) for _ in range(rng.choice([1, 1, 2]))]
        self.first = [rng.choice(["zeros", "parameters", "input"]) for _ in self.news]
        self.weights = [leaves(H, F), *(leaves(H, H) for _ in self.lines)]
        self.starts, self.shared, self.own, self.scale = leaves(2, H), leaves(H), leaves(self.T, H), leaves()
        self.parameters = flat(self.weights, self.starts, self.shared, self.own, self.scale)
        self.batch = normal(2, self.T, F), normal(2, H)

    def line(self, which: int, t: int, k: int, a: list[Any], b: list[Any]) -> list[Any]:
        match which:
            case 0 | 1 | 2:
                return linear(self.weights[1 + k], a)
            case 3 | 4:
                is_odd = t == self.odd or (self.period > 1 and t % self.period == 0)
                return [UNARY[is_odd](x) for x in a]
            case 5 | 6:
                return [UNARY[which - 3](x) for x in a]
            case 7:
                return [0.7 * x * y for x, y in zip(a, b, strict=True)]
            case 8:
                return [tg.max(x, y) for x, y in zip(a, b, strict=True)]
            case 9:
                return [x * self.scale + y for x, y in zip(a, self.own[t], strict=True)]
            case 10:
                return [x * tg.tanh(y) * (0.5 + 0.1 * t) for x, y in zip(a, self.shared, strict=True)]
        return tg.softmax([*a, 0.3 * b[0]])[: self.H]

    def __call__(self, x: Any, start: Any) -> Value:
        zeros = [Value(0.0)] * self.H
        states = [
            [{"zeros": zeros, "input": start}.get(f, p)] for f, p in zip(self.first, self.starts, strict=False)
        ]
        outs = []
        for t in range(self.T):
            vectors = [linear(self.weights[0], x[t])]
            for i, earlier in enumerate(states):
                distance = 1 + (t * self.varies + i) % self.reach
                vectors += [earlier[max(-len(earlier), -distance)], earlier[-1]]
            for k, (which, i, j) in enumerate(self.lines):
                vectors.append(
                    self.line(which, t, k, vectors[-1 - i % len(vectors)], vectors[-1 - j % len(vectors)])
                )
            for earlier, new in zip(states, self.news, strict=True):
                both = zip(vectors[-1 - new % len(vectors)], earlier[-1], strict=True)
                earlier.append([tg.tanh(p + 0.5 * q) for p, q in both])
            outs.append(tg.dot(self.shared, states[0][-1]))
        if self.out == "max":
            return tg.max(*outs)
        if self.out == "weighted":
            return tg.sum([tg.sin(out) * (i - 1.5) for i, out in enumerate(outs)])
        return tg.sum(
            [
                out * out
                for out in outs[
                    {"last": slice(-1, None), "some": slice(1, None, 2), "two": slice(2, 7, 3)}.get(
                        self.out, slice(None)
                    )
                ]
            ]
        )


class Blocks:
    """Random blocks with weights of their own; one of them may differ, or use the weights of another one."""

    def __init__(self, rng: random.Random):
        self.N, self.H = rng.randint(4, 9), rng.choice([1, 2, 3, 4])
        self.lines = [(rng.randrange(10), rng.randrange(99), rng.randrange(99)) for _ in range(rng.randint(1, 6))]
        self.odd, self.shared = rng.choice([-1, -1, rng.randrange(9)]), rng.choice([-1, -1, rng.randrange(9)])
        self.order = rng.sample(range(self.N), self.N) if rng.random() < 0.2 else list(range(self.N))
        self.out = rng.choice(["last", "all", "decay", "max"])
        self.is_shared = [rng.random() < 0.15 for _ in self.lines]
        N, H = self.N, self.H
        self.weights, self.biases, self.scales = (leaves(len(self.lines), N, *s) for s in ((H, H), (H,), ()))
        by_block = list(zip(*self.weights, *self.biases, *self.scales, strict=True))
        self.last = leaves(H)
        self.parameters = flat(
            by_block if rng.random() < 0.7 else (self.weights, self.biases, self.scales), self.last
        )
        self.batch = (normal(2, H),)

    def line(self, which: int, t: int, k: int, a: list[Any], b: list[Any]) -> list[Any]:
        t = self.order[0 if self.is_shared[k] or t == self.shared else t]
        W, bias, scale = self.weights[k][t], self.biases[k][t], self.scales[k][t]
        match which:
            case 0 | 1:
                return plus(linear(W, a), bias)
            case 2:
                return linear(columns(W), a)
            case 3 | 4:
                return [UNARY[which - 3](x) for x in a]
            case 5:
                return [x * p + scale for x, p in zip(a, bias, strict=True)]
            case 6:
                return [x * scale + 0.1 * (t + 1) * y for x, y in zip(a, b, strict=True)]
            case 7:
                return [0.7 * x * tg.tanh(y) for x, y in zip(a, b, strict=True)]
            case 8:
                return plus(linear(W, a), linear(columns(self.weights[k - 1][t]), b))
        return tg.softmax([*a, scale])[: self.H]

    def __call__(self, x: Any) -> Value:
        h, outs = x, []
        for t in range(self.N):
            vectors = [h]
            for k, (which, i, j) in enumerate(self.lines):
                a, b = (vectors[-1 - i % len(vectors)] for i in (i, j))
                vectors.append(self.line((which + 1) % 10 if t == self.odd else which, t, k, a, b))
            h = [tg.tanh(p + 0.5 * q) for p, q in zip(vectors[-1], h, strict=True)]
            outs.append(tg.dot(self.last, h))
        if self.out == "decay":
            return outs[-1] + 0.1 * tg.sum([p * p for p in self.parameters])
        return {"last": outs[-1], "all": tg.sum([out * out for out in outs]), "max": tg.max(*outs)}[self.out]


def blocks_agree(rng: random.Random) -> None:
    blocks = Blocks(rng)
    compare(blocks, used(blocks, blocks.parameters, blocks.batch), *blocks.batch)


def agrees(rng: random.Random) -> None:
    backend, longest = rng.choice([("numpy", 11), ("numpy", 11), ("python", 30)])
    recurrence = Recurrence(rng, longest)
    parameters = used(recurrence, recurrence.parameters, recurrence.batch)
    compare(recurrence, parameters, *recurrence.batch, backend=backend)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**9))
@example(3526)  # of a single number only the latest stage is kept, though it is written as x[t, ...]
def test_random_recurrences_agree(seed: int) -> None:
    agrees(random.Random(seed))


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**9))
def test_random_blocks_agree(seed: int) -> None:
    blocks_agree(random.Random(seed))


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**9))
def test_many_random_blocks_agree(seed: int) -> None:
    blocks_agree(random.Random(seed))


@pytest.mark.slow
@settings(deadline=None, max_examples=500)
@given(st.integers(0, 10**9))
def test_many_random_recurrences_agree(seed: int) -> None:
    agrees(random.Random(seed))


class OfAnyLength(Recurrence):
    """A random recurrence over as many stages as its input has."""

    def __init__(self, rng: random.Random):
        super().__init__(rng)
        self.own, self.lengths = leaves(40, self.H), [rng.randint(5, 20), *rng.sample(range(3, 40), 2)]
        self.parameters = flat(self.weights, self.starts, self.shared, self.own, self.scale)

    def __call__(self, x: Any, start: Any) -> Value:
        self.T = len(x)
        return super().__call__(x, start)


def agrees_at_every_length(rng: random.Random) -> None:
    recurrence = OfAnyLength(rng)
    step = tg.compile(recurrence, recurrence.parameters)
    x, start = recurrence.batch
    for length in recurrence.lengths:
        batch = normal(2, length, x.shape[2]), start
        check(step, recurrence, recurrence.parameters, *batch)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**9))
@pytest.mark.filterwarnings("ignore:The function does not use")
def test_random_recurrences_agree_at_every_length(seed: int) -> None:
    agrees_at_every_length(random.Random(seed))


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**9))
@pytest.mark.filterwarnings("ignore:The function does not use")
def test_many_random_recurrences_agree_at_every_length(seed: int) -> None:
    agrees_at_every_length(random.Random(seed))
