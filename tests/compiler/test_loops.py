"""Recurrences: which programs have loops, that they agree with the eager engine, and how they read."""

import random
import re
from typing import Any

import numpy as np
import pytest
import recurrences as of
from comparing import check, compare, examples_of, search, used
from programs import columns, flat, linear, plus
from recurrences import LOOPS, OWN, X, blocks, leaves, normal, recurrent, tanh

import tinygrad_edu as tg
from tinygrad_edu import Value


def n_loops(step: Any) -> tuple[int, int]:
    """The number of loops forward, and backward."""
    return step.source.count(" in range("), step.source.count("in reversed(range(")


# --- What becomes a loop ----------------------------------------------------------------------------------------
def reads(step: Any, *lines: str) -> None:
    """Its source has these lines, whatever the spaces."""
    source = " ".join(step.source.split())
    for line in lines:
        assert line in source


def test_a_recurrent_layer_reads_as_in_a_textbook() -> None:
    reads(
        compare(
            lambda x, y: (tg.dot(recurrent(x)[-1], of.v) - y) ** 2, flat(of.W, of.U, of.b, of.v), X, of.Y[:, 0]
        ),
        "# XW1 = X.transpose(1, 0, 2) @ W1.T + b1",
        "for t in range(T):",
        "# Z2[t] = A2[t] @ W2.T + XW1[t]",
        "# A2[t + 1] = tanh(Z2[t])",
        "for t in reversed(range(T)):",
        "# dZ2[t] = dA2[t + 1] * slope_1[t]",
        "# dA2[t] = dZ2[t] @ W2",
        "# dW2 = dZ2.reshape(-1, 3).T @ A2[:T].reshape(-1, 3)",
    )


@pytest.mark.parametrize("name", LOOPS)
def test_recurrences_become_loops(name: str) -> None:
    function, parameters, batch, n = LOOPS[name]
    parameters = flat(parameters)
    assert n_loops(compare(function, parameters, *batch)) == n
    compare(function, parameters, *batch, dtype="float32")
    compare(function, parameters, *batch, backend="python")
    outputs = tg.compile(function, parameters).predict(*batch)
    expected = [function(*one).data for one in examples_of(batch)]
    np.testing.assert_allclose(outputs, expected, 1e-12, 1e-12)


k, start = Value(0.3, label="k"), Value(1.5, label="start")


def pendulum() -> Value:
    angle, speed = start, 0 * start
    for _ in range(1000):
        angle, speed = angle + 0.01 * speed, speed - 0.01 * (k * speed + tg.sin(angle))
    return angle * angle


def test_an_equation_of_a_thousand_steps_is_a_page_of_numpy_and_of_python() -> None:
    step = compare(pendulum, [k, start])
    assert step.source.count("\n") < 70
    for line in ("sin_1 = np.sin(sum_1[t])", "sum_1[t + 1] = 0.01 * sub_1[t] + sum_1[t]"):
        assert f"            {line}\n" in step.source
    step = compare(pendulum, [k, start], backend="python")
    assert n_loops(step) == (1, 1)
    assert step.source.count("\n") < 70


# --- Stages with weights of their own ---------------------------------------------------------------------------
@pytest.mark.parametrize("name", OWN)
def test_stages_with_weights_of_their_own_become_loops(name: str) -> None:
    parameters = used(OWN[name], flat(of.Ws, of.Vs, of.bs, of.gains, of.shifts, of.scales, of.v), [X])
    assert n_loops(compare(OWN[name], parameters, X)) == (1, 1)


def test_they_may_come_without_examples() -> None:
    assert n_loops(compare(lambda: OWN["residual"](()), flat(of.Ws, of.Vs, of.bs, of.gains[0], of.v))) == (1, 1)


def test_their_weights_are_rows_of_one_array() -> None:
    parameters = flat([[W, b] for W, b in zip(of.Ws, of.bs, strict=True)], of.v)
    step = compare(OWN["dense"], parameters, X)
    reads(
        step,
        "W1 = parameters[0:72].reshape(6, 4, 3)[:, :3]",
        "b1 = parameters[0:72].reshape(6, 12)[:, 9:]",
        "# Z1[t] = A1[t] @ W1[t].T + b1[t]",
        "# dA1[t] = dZ1[t] @ W1[t]",
        "# dW1 = dZ1.mT @ A1[:6]",
    )
    assert "W1 parameter (6, 3, 3) 54 numbers" in " ".join(str(step.groups).split())


def varying_distances(x: Any) -> Value:
    h = [x[0][0], x[0][1], x[1][0]]
    for t, distance in enumerate([1, 2, 1, 1, 3, 2, 1, 3, 3, 2]):
        h.append(tg.sin(of.w * h[-distance] + x[t % of.T][1]))
    return h[-1]


WEIGHTS = flat(of.Ws, of.bs, of.v)
NO_LOOP: dict[str, tuple[Any, list[Value]]] = {
    "varying distances": (varying_distances, [of.w]),
    "too short to be worth it": (lambda x: tg.tanh(of.w * tg.tanh(of.w * tg.tanh(of.w * x[0][0]))), [of.w]),
    "stages that grow": (
        lambda x: tg.sum([tg.sum([of.w * a[0] for a in x[: t + 1]]) ** 2 for t in range(of.T)]), [of.w]
    ),
    "a block with another activation": (
        blocks(lambda t, h: [(tg.sin if t == 3 else tg.tanh)(a) for a in linear(of.Ws[t], h)]), WEIGHTS
    ),
    "a block without bias": (
        blocks(lambda t, h: tanh(linear(of.Ws[t], h) if t == 3 else plus(linear(of.Ws[t], h), of.bs[t]))), WEIGHTS
    ),
    "a block of another width": (blocks(lambda t, h: tanh([*linear(of.Ws[t], h), *h[: t == 3]])[-3:]), WEIGHTS),
    "a block with a sum": (
        blocks(lambda t, h: plus(linear(of.Ws[t], h), h) if t == 3 else linear(of.Ws[t], h)), WEIGHTS
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_LOOP)
def test_other_programs_have_no_loop(name: str) -> None:
    function, parameters = NO_LOOP[name]
    step = compare(function, used(function, parameters, [X]), X)
    assert n_loops(step) == (0, 0)
    assert "(6, 3" not in str(step.groups)  # and no array of rows


@pytest.mark.parametrize("odd", range(9))
def test_a_stage_that_differs_is_in_no_loop(odd: int) -> None:
    def loss(x: Any) -> Value:
        h = x[0][0]
        for t in range(9):
            h = (tg.sin if t == odd else tg.tanh)(of.w * h + x[t % of.T][1])
        return h

    step = compare(loss, [of.w], X)
    lengths = {0: [8], 1: [7], 2: [6], 3: [5], 4: [4], 5: [4], 6: [5], 7: [6], 8: [7]}
    assert [int(n) for n in re.findall(r"for t in range\((\d+)\)", step.source)] == lengths[odd]


def test_what_a_stage_puts_side_by_side_learns_if_its_window_does() -> None:
    """The state has no parameter. The gradient passes through what each stage reads of its own."""
    weight = Value(0.3)

    def loss(x: Any, start: Any) -> Value:
        h, out = start, Value(0.0)
        for now in x:
            out = tg.tanh(out + tg.softmax([*h, 0.3 * tg.sigmoid(weight * now)])[0])
            h = [tg.tanh(1.5 * a) for a in h]
        return out

    assert "for t in range(" in compare(loss, [weight], normal(2, 9), normal(2, 2)).source


UNARY = [tg.tanh, tg.sin, tg.sigmoid, tg.relu, lambda x: 0.3 * x * x]


class Recurrence:
    """A random recurrence of vectors: a state or two, reads of earlier stages, a stage that may differ."""

    def __init__(self, rng: random.Random, longest: int = 11):
        self.T, H, F = rng.randint(4, longest), rng.choice([1, 2, 3]), rng.choice([1, 2])
        self.H, self.reach = H, rng.choice([1, 1, 2, 3])
        self.varies, self.odd = rng.random() < 0.15, rng.choice([-1, -1, rng.randrange(9)])
        self.period = rng.choice([1, 1, 2, 3])
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
        pairs = zip(self.first, self.starts, strict=False)
        states = [[{"zeros": zeros, "input": start}.get(f, p)] for f, p in pairs]
        outs = []
        for t in range(self.T):
            vectors = [linear(self.weights[0], x[t])]
            for i, earlier in enumerate(states):
                distance = 1 + (t * self.varies + i) % self.reach
                vectors += [earlier[max(-len(earlier), -distance)], earlier[-1]]
            for k, (which, i, j) in enumerate(self.lines):
                a, b = (vectors[-1 - place % len(vectors)] for place in (i, j))
                vectors.append(self.line(which, t, k, a, b))
            for earlier, new in zip(states, self.news, strict=True):
                both = zip(vectors[-1 - new % len(vectors)], earlier[-1], strict=True)
                earlier.append([tg.tanh(p + 0.5 * q) for p, q in both])
            outs.append(tg.dot(self.shared, states[0][-1]))
        if self.out == "max":
            return tg.max(*outs)
        if self.out == "weighted":
            return tg.sum([tg.sin(out) * (i - 1.5) for i, out in enumerate(outs)])
        places = {"last": slice(-1, None), "some": slice(1, None, 2), "two": slice(2, 7, 3)}
        return tg.sum([out * out for out in outs[places.get(self.out, slice(None))]])


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


def recurrences_agree(rng: random.Random) -> None:
    backend, longest = rng.choice([("numpy", 11), ("numpy", 11), ("python", 30)])
    recurrence = Recurrence(rng, longest)
    parameters = used(recurrence, recurrence.parameters, recurrence.batch)
    compare(recurrence, parameters, *recurrence.batch, backend=backend)


class OfAnyLength(Recurrence):
    """A random recurrence over as many stages as its input has."""

    def __init__(self, rng: random.Random):
        super().__init__(rng)
        self.own, self.lengths = leaves(40, self.H), [rng.randint(5, 20), *rng.sample(range(3, 40), 2)]
        self.parameters = flat(self.weights, self.starts, self.shared, self.own, self.scale)

    def __call__(self, x: Any, start: Any) -> Value:
        self.T = len(x)
        return super().__call__(x, start)


def every_length_agrees(rng: random.Random) -> None:
    recurrence = OfAnyLength(rng)
    step = tg.compile(recurrence, recurrence.parameters)
    x, start = recurrence.batch
    for length in recurrence.lengths:
        batch = normal(2, length, x.shape[2]), start
        check(step, recurrence, recurrence.parameters, *batch)


def encoder_and_decoder(rng: random.Random) -> None:
    """A pair of lengths: the decoder's stages read the encoder's last state, all states, or their mean."""
    S, T, H = rng.randint(1, 9), rng.randint(1, 9), rng.randint(1, 2)
    E, D, C = leaves(H, H + 1), leaves(H, H + 1), leaves(H)
    how, act = rng.choice(["last", "attention", "mean", "start"]), rng.choice(UNARY[:3])

    def loss(source: Any, target: Any) -> Any:
        h: list[Any] = [0.1] * H
        states = []
        for x in source:
            h = [act(tg.dot(E[i][:H], h) + E[i][H] * x) for i in range(H)]
            states.append(h)
        last, s, total = h, h, 0.0
        for y in target:
            context = last if how == "last" else [0.0] * H
            if how in ("attention", "mean"):
                shares = tg.softmax([tg.dot(s, state) for state in states]) if how == "attention" else [1 / S] * S
                context = [tg.dot(shares, column) for column in columns(states)]
            s = [act(tg.dot(D[i][:H], s) + D[i][H] * y + C[i] * context[i]) for i in range(H)]
            total = total + (tg.sum(s) - y) ** 2
        return total / len(target)

    parameters = flat([E, D] if how == "start" else [E, D, C])
    compare(loss, parameters, normal(2, S), normal(2, T), backend=rng.choice(["numpy", "python"]))


SEARCHES: dict[Any, tuple[int, ...]] = {  # by default, slow, thorough; and seeds that were hard
    # a sum of one element; a state of one number of which the latest is kept
    recurrences_agree: (10, 60, 1000, 1000313, 3526),
    blocks_agree: (10, 60, 500, 46737976),  # the last rows of a parameter that lies in pieces are one row
    # the largest of numbers that are all nearly 1; rows in pairs
    every_length_agrees: (3, 20, 300, 7000775, 45013),
    encoder_and_decoder: (6, 60, 1000),
}


@pytest.mark.filterwarnings("ignore:The function does not use")
@pytest.mark.parametrize(
    "how_long", [0, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("agrees", SEARCHES)
def test_random_loops_agree(agrees: Any, how_long: int) -> None:
    n = SEARCHES[agrees]
    search(lambda seed: agrees(random.Random(seed)), n[how_long], *n[3:])
