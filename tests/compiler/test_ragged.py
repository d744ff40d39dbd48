"""Rows of different lengths are one array, with the engine's results, whatever stands in the filled places."""

import math
import random
import re
from collections.abc import Callable
from typing import Any

import comparing
import numpy as np
import pytest
from comparing import used, values
from programs import attention, flat, normal

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.compiler.find.ragged import classes_of


def compare(function: Callable[..., Any], parameters: Any, *batch: Any) -> Any:
    """As `comparing.compare`, with those of the parameters that the function uses."""
    return comparing.compare(function, used(function, flat(parameters), batch), *batch)


ROWS: dict[str, Callable[[random.Random, int], list[Any]]] = {
    "all before": lambda rng, n: [range(t + 1) for t in range(n)],
    "all after": lambda rng, n: [range(t, n) for t in range(n)],
    "a window": lambda rng, n: [range(max(0, t - 2), t + 1) for t in range(n)],
    "every other": lambda rng, n: [range(0, t + 1, 2) for t in range(n)],
    "all but the first": lambda rng, n: [range(1, t + 2) for t in range(n - 1)],
    "all others": lambda rng, n: [[s for s in range(n) if s != t] for t in range(n)],
    "any": lambda rng, n: [sorted(rng.sample(range(n), k)) for k in rng.sample(range(1, n + 1), n)],
}


def program(seed: int) -> tuple[Callable[..., Any], Any, list[Any]]:
    """A function of up to three stages, each of sums or reductions of different lengths; parameters; a batch."""
    rng = random.Random(seed)
    n = rng.randint(3, 7)
    w, u, s = values(normal(n, n, seed=seed)), values(normal(n, seed=seed + 1)), Value(0.7)
    rows = ROWS[rng.choice(list(ROWS))](rng, n)

    stages: list[Callable[..., Any]] = [
        lambda h, M, t, row: tg.sum([h[i] * s for i in row]),
        lambda h, M, t, row: tg.where((out := tg.sum([h[i] * u[i] for i in row])) > 0, out, 0.1 * out),
        lambda h, M, t, row: tg.dot([h[i] for i in row], [u[i] for i in row]),
        lambda h, M, t, row: tg.max([tg.sin(h[i]) for i in row]),
        lambda h, M, t, row: tg.min([tg.sin(h[i]) for i in row]),
        lambda h, M, t, row: tg.logsumexp([h[i] * u[t] for i in row]),
        lambda h, M, t, row: tg.dot(tg.softmax([h[i] * u[t] for i in row]), [h[i] for i in row]),
        lambda h, M, t, row: tg.sum([tg.exp(h[i] * 0.1) * w[t][i] for i in row]),
        lambda h, M, t, row: tg.sum([h[i] * h[t] for i in row]) + u[t],
        lambda h, M, t, row: tg.sum([w[t][i] * M[t][i] for i in row]) * h[t],
        lambda h, M, t, row: tg.dot(tg.softmax([tg.dot(M[t], M[i]) * s for i in row]), [h[i] for i in row]),
        lambda h, M, t, row: sum((h[i] * w[i][t] for i in row), 0.0),  # as a loop adds
    ]
    chosen, end = rng.choices(stages, k=rng.randint(1, 3)), rng.choice([tg.tanh, tg.sin, lambda a: a * a])

    def loss(x: Any, M: Any) -> Value:
        h = list(x)
        for stage in chosen:
            out = [end(stage(h, M, t, row)) for t, row in enumerate(rows)]
            h = out + h[len(out) :]
        return tg.dot(h, u) * s

    return loss, [w, u, s], [normal(2, n, seed=seed + 2), normal(2, n, n, seed=seed + 3)]


@pytest.mark.parametrize("seeds", [range(20), pytest.param(range(60, 120), marks=pytest.mark.slow)])
def test_random_programs(seeds: range) -> None:
    padded = [compare(*(f := program(seed))[:2], *f[2])._latest.lowered.is_padded for seed in seeds]
    assert len(seeds) < 2 * sum(padded) < 2 * len(seeds)


def test_range_gives_the_program_of_a_mask() -> None:
    cases = [attention(6, 2, 2, causal=True, mask=mask) for mask in (-math.inf, None)]
    masked, causal = (compare(function, parameters, *batch) for function, parameters, batch in cases)
    programs = [
        re.sub(r"(numbers|mask)(_\d+)?", "mask", step.source).splitlines()[1:] for step in (masked, causal)
    ]
    assert "".join(programs[0]).split() == "".join(programs[1]).split()  # but for the name of the constant
    assert "index_" not in causal.source
    for text in (str(causal.groups), causal.source):
        assert "div_1 + mask" in text


@pytest.mark.parametrize("low", [-math.inf, -1e9])
def test_a_mask_may_have_zeros(low: float) -> None:
    W = values(normal(4, 3))

    def loss(x: Any) -> Value:
        keys = [[tg.dot(w, place) for w in W] for place in x]
        out = []
        for t in range(4):
            scores = [tg.dot(keys[t], keys[s]) + (low if s > t else 0.0) for s in range(4)]
            out.append(tg.dot(tg.softmax(scores), [place[0] for place in x]))
        return tg.sum([a * a for a in out])

    step = compare(loss, W, normal(3, 4, 3, seed=9))
    assert groups_of_rule(step, "exp") == [16]
    assert not step._latest.lowered.is_padded


def groups_of_rule(step: Any, name: str) -> list[int]:
    """The sizes of the arrays that are computed by a rule."""
    arrays = step._latest.lowered.arrays
    return [math.prod(array.shape) for array in arrays if array.rule and array.rule.name == name]


@pytest.mark.parametrize("reduce", [tg.logsumexp, tg.max, tg.min])
def test_reductions_of_many_lengths_are_one(reduce: Any) -> None:
    w = values(normal(6))

    def loss(x: Any) -> Value:
        z = [tg.sin(a * b) for a, b in zip(w, x, strict=True)]
        return tg.sum([reduce(z[: t + 2]) ** 2 for t in range(5)])

    name = {tg.logsumexp: "logsumexp", tg.max: "max", tg.min: "min"}[reduce]
    assert groups_of_rule(compare(loss, w, normal(3, 6, seed=1)), name) == [5]


def test_triangular_sums_are_a_product_with_a_mask() -> None:
    w = values(normal(6))

    def loss(x: Any) -> Value:
        return tg.sum([tg.tanh(tg.dot(w[: t + 1], x[: t + 1])) for t in range(6)])

    step = compare(loss, w, normal(3, 6, seed=1))
    assert "matrix product" in step.groups.title
    assert "index_" not in step.source
    w = values(normal(6))
    step = compare(lambda x: tg.sum([tg.dot(w[:t], x[:t]) ** 2 for t in range(1, 7)]), w, normal(3, 6, seed=1))
    assert groups_of_rule(step, "pow_n") == [6]


@pytest.mark.parametrize(
    ("lengths", "classes"),
    [
        ([1, 2, 3, 4], [4, 4, 4, 4]),
        ([2, 4, 6, 6], [6, 6, 6, 6]),
        ([5, 5, 5, 1, 2], [5, 5, 5, 1, 2]),  # a border
        ([4, 6, 9, 4, 6, 9], [4, 6, 9, 4, 6, 9]),  # different layers
        ([3, 8], [3, 8]),
        ([*range(1, 9), 900], [*[8] * 8, 900]),  # waste
        ([1, 2, 4, 8, 16, 32, 64, 128], [2, 2, 16, 16, 16, 128, 128, 128]),
    ],
)
def test_lengths_that_are_filled_up_to_one(lengths: list[int], classes: list[int]) -> None:
    class_of = classes_of(lengths, [1] * len(lengths))
    members = {c: {n for n in lengths if class_of[n] == class_of[c]} for c in set(classes)}
    assert members == {c: {n for n, own in zip(lengths, classes, strict=True) if own == c} for c in set(classes)}


PREFIXES: dict[str, Callable[..., Any]] = {  # of the first t + 1 numbers
    "sum": lambda w, x, t: tg.dot(w[: t + 1], x[: t + 1]),
    "mean": lambda w, x, t: tg.dot(tg.softmax([x[t] * x[s] * w[s] for s in range(t + 1)]), x[: t + 1]),
    "maximum": lambda w, x, t: tg.max([w[s] * x[s] for s in range(t + 1)]),
}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("end", [tg.tanh, lambda m: tg.where(m > 0, m, 0.1), lambda m: tg.where(m <= 0, 0.1, m)])
def test_what_stands_in_a_filled_place_does_not_matter(prefix: str, end: Any) -> None:
    w, X = values(normal(5)), normal(3, 5, seed=4)

    def outputs(x: Any) -> list[Value]:
        return [end(PREFIXES[prefix](w, x, t)) for t in range(len(x))]

    def function(x: Any) -> Value:
        return tg.sum(outputs(x))

    step, predictor = tg.compile(function, w), tg.compile(outputs, w)
    step.value_and_grad(X)
    assert step._latest.lowered.is_padded
    for bad in (math.inf, -math.inf, math.nan, 1e200):
        X[1, 3] = bad
        eager = [function(values(row)) for row in X]
        value, gradient = step.value_and_grad(X)
        np.testing.assert_allclose(value, np.mean([root.data for root in eager]), rtol=1e-12)
        expected = np.mean([tg.gradients(root, w) for root in eager], axis=0)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-12)
        predicted = predictor.predict(X)
        np.testing.assert_allclose(predicted, [[a.data for a in outputs(values(row))] for row in X], rtol=1e-12)
        assert np.isfinite(predicted[1, :3]).all()


def test_a_batch_of_several_lengths_draws_in_the_order_of_its_examples() -> None:
    w, batch = Value(0.5), [[1.0, 2.0], [3.0], [4.0, 5.0], [6.0]]
    step = tg.compile(lambda xs: sum(x * w for x in xs) * random.random(), [w])
    for _ in range(2):
        random.seed(1)
        mean, _ = step.value_and_grad(batch)
        random.seed(1)
        each = step.predict(batch)
        random.seed(1)
        expected = [0.5 * sum(row) * random.random() for row in batch]
        np.testing.assert_allclose(each, expected, rtol=1e-12)
        assert mean == pytest.approx(np.mean(expected), rel=1e-12)
