"""Nothing wrong, and nothing unverified without a word: what a compiled function might hide."""

import math
import threading
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.compiler.run.verify import rounding

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("call", ["__call__", "value_and_grad", "predict"])
def test_an_array_after_a_batch_of_dicts_gets_its_own_program(call: str) -> None:
    w = Value(2.0, label="w")
    step = tg.compile(lambda x: x["a"] * w * 100 if isinstance(x, dict) else x * w, [w])
    batches: list[Any] = [np.array([1.0, 2.0, 3.0]), [{"a": 1.0}, {"a": 2.0}], np.ones((2, 1))[:, 0]]
    alone = [repr(getattr(step, call)(batch)) for batch in batches]
    twice = [[repr(getattr(step, call)(batch)) for _ in range(2)] for batch in batches]
    assert twice == [[x, x] for x in alone]


def test_threads_with_batches_of_several_kinds() -> None:
    w = Value(2.0)
    step = tg.compile(lambda x: tg.sum(x) * w, [w])
    batches: list[Any] = [np.ones((3, 2)), 2 * np.ones((3, 2)), [[1.0], [2.0, 3.0]], np.ones((3, 4))]
    expected, wrong = [step(batch) for batch in batches], []

    def run(batch: Any, result: float) -> None:
        wrong.extend(x for x in (step(batch) for _ in range(200)) if x != result)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(batches, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("mask", [-1e30, -1e300, -math.inf])
def test_a_huge_number_that_reaches_nothing_hides_no_wrong_gradient(mask: float) -> None:
    a, b = Value(0.3, label="a"), Value(-0.7, label="b")
    loss = -(tg.log_softmax([a * 2.0, b * 3.0, a * b + mask])[0])
    _, allowed = rounding(loss)
    assert allowed[a] < 1e-6
    assert allowed[b] < 1e-6


def test_what_cancels_is_allowed_its_rounding() -> None:
    x = Value(1.0)
    value, allowed = rounding((x * 1e12 + 0.5) - x * 1e12)
    assert value > 10
    assert allowed[x] > 10


@pytest.mark.parametrize(
    ("function", "late"),
    [
        (lambda w, x: tg.log(x - 40) * w, [[1.0, 2.0], [50.0, 51.0]]),
        (lambda w, x: tg.sqrt(-x - 40) * w, [[1.0, 2.0], [-50.0, -51.0]]),
        (lambda w, x: tg.asin(x / 1000 - 40) * w, [[1.0, 2.0], [4e4, 4e4 + 100]]),
    ],
)
def test_what_cannot_be_compared_is_compared_later(function: Any, late: Any, monkeypatch: Any) -> None:
    w = Value(2.0, label="w")
    step = tg.compile(lambda x: function(w, x), [w])
    for _ in range(5):
        with pytest.raises(ValueError, match="defined for") as caught:
            step.value_and_grad(late[0])
        assert "example 0 of the batch" in caught.value.__notes__[0]
    compared = []
    original = tg.compiler.run.variants.disagreement
    monkeypatch.setattr(
        "tinygrad_edu.compiler.run.variants.disagreement", lambda *a: compared.append(original(*a)) or compared[-1]
    )
    for _ in range(12):
        step.value_and_grad(late[1])
    assert compared == [""]


@pytest.mark.parametrize(
    ("function", "batch", "at"),
    [
        (lambda w, x: tg.where(x > 0, tg.log(x) * w, w * w), [1.0, 2.0, -2.0], 2),
        (lambda w, x: (x * w) ** 0.5, [1.0, -2.0, 3.0], 1),
        (lambda w, x: tg.relu(tg.sqrt(w * x)), [-1.0, 0.5], 0),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_engines_error_is_raised_with_the_number_of_the_example(function, batch, at, dtype) -> None:
    w = Value(2.0, label="w")
    step = tg.compile(lambda x: function(w, x), [w], dtype)
    step.value_and_grad([1.0, 2.0])
    for _ in range(2):
        with pytest.raises((ValueError, ZeroDivisionError)) as caught:
            step.value_and_grad(np.array(batch))
        assert f"example {at} of the batch" in caught.value.__notes__[0]
