"""Numbers around a function that change: in closures, globals, defaults, attributes, lists, and frozen Values."""

import functools
import math
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn

X = np.array([1.0, 2.0, 3.0])
LAM = 0.1
CONFIG = types.SimpleNamespace(lam=0.1, inner=types.SimpleNamespace(lam=0.1), table={"lam": 0.1}, rates=[0.3, 0.1])


class Settings:
    lam = 0.1


def of_global(w: Value, x: Any) -> Value:
    return (x * w - 1) ** 2 + LAM * w * w


def helper(w: Value) -> Value:
    return CONFIG.inner.lam * w * w


class Penalty:
    def __init__(self, w: Value):
        self.w, self.lam = w, 0.1

    def __call__(self, x: Any) -> Value:
        return (x * self.w - 1) ** 2 + self.shrink()

    def shrink(self) -> Value:
        return self.lam * self.w * self.w


def closure(w: Value) -> tuple[Any, Any]:
    lam = 0.1

    def loss(x: Any) -> Value:
        return (x * w - 1) ** 2 + lam * w * w

    def change(number: float) -> None:
        nonlocal lam
        lam = number

    return loss, change


def default(w: Value) -> tuple[Any, Any]:
    def loss(x: Any, lam: float = 0.1) -> Value:
        return (x * w - 1) ** 2 + lam * w * w

    return loss, lambda number: setattr(loss, "__defaults__", (number,))


def a_global(w: Value) -> tuple[Any, Any]:
    return lambda x: of_global(w, x), lambda number: globals().update(LAM=number)


def an_object(w: Value) -> tuple[Any, Any]:
    penalty = Penalty(w)
    return penalty, lambda number: setattr(penalty, "lam", number)


def a_method(w: Value) -> tuple[Any, Any]:
    penalty = Penalty(w)
    return penalty.__call__, lambda number: setattr(penalty, "lam", number)


def a_partial(w: Value) -> tuple[Any, Any]:
    loss = functools.partial(lambda x, lam: (x * w - 1) ** 2 + lam * w * w, lam=0.1)
    return loss, lambda number: loss.keywords.update(lam=number)


def a_frozen_value(w: Value) -> tuple[Any, Any]:
    lam = Value(0.1)
    return lambda x: (x * w - 1) ** 2 + lam * w * w, lambda number: setattr(lam, "data", number)


def in_(change: Callable[[float], Any], number: Callable[[], Any]) -> Callable[[Value], tuple[Any, Any]]:
    return lambda w: (lambda x: (x * w - 1) ** 2 + number() * w * w, change)


PLACES: dict[str, Callable[[Value], tuple[Any, Any]]] = {
    "closure": closure,
    "default": default,
    "global": a_global,
    "object": an_object,
    "method": a_method,
    "partial": a_partial,
    "frozen": a_frozen_value,
    "attribute": in_(lambda number: setattr(CONFIG, "lam", number), lambda: CONFIG.lam),
    "dict": in_(lambda number: CONFIG.table.update(lam=number), lambda: CONFIG.table["lam"]),
    "list": in_(lambda number: CONFIG.rates.__setitem__(1, number), lambda: CONFIG.rates[1]),
    "class": in_(lambda number: setattr(Settings, "lam", number), lambda: Settings.lam),
    "derived": in_(lambda number: setattr(CONFIG, "lam", number), lambda: 1 - CONFIG.lam / 3),
    "exponent": lambda w: (lambda x: (x * w) ** CONFIG.lam, lambda number: setattr(CONFIG, "lam", number)),
    "helper": lambda w: (lambda x: x * helper(w), lambda number: setattr(CONFIG.inner, "lam", number)),
    "structure": lambda w: (
        lambda x: (x * w - 1) ** 2 + (CONFIG.lam * w * w if CONFIG.lam > 0.5 else 2.0 * w),
        lambda number: setattr(CONFIG, "lam", number),
    ),
    "replaced": in_(
        lambda number: setattr(CONFIG, "inner", types.SimpleNamespace(lam=number)), lambda: CONFIG.inner.lam
    ),
    "mathematics": in_(lambda number: setattr(CONFIG, "lam", number), lambda: math.exp(CONFIG.lam)),
}
CONSTANT = {"mathematics", "structure"}  # these may need a program for each number


def eager(loss: Any, w: Value) -> list[float]:
    w.grad = 0.0
    total = tg.sum([loss(Value(x)) for x in X.tolist()]) / len(X)
    total.backward()
    return [total.data, w.grad]


@pytest.mark.parametrize("backend", ["numpy", "python"])
@pytest.mark.parametrize("place", PLACES)
def test_an_annealed_number_is_read_at_each_call(place, backend, monkeypatch) -> None:
    w = Value(0.7, label="w")
    loss, change = PLACES[place](w)
    step, made = tg.compile(loss, [w], backend=backend), []
    keep = step._programs.keep
    monkeypatch.setattr(step._programs, "keep", lambda new, **options: (made.append(new), keep(new, **options)))
    for i in range(40):
        change(0.1 + 0.02 * i)
        value, gradient = step.value_and_grad(X)
        np.testing.assert_allclose([value, *gradient], eager(loss, w), rtol=1e-9)
        np.testing.assert_allclose(step(X), value, rtol=1e-9)
    if place not in CONSTANT:
        assert len(set(made)) <= 4  # two for value_and_grad, two for the mean
    assert len(step._programs.kept) <= 16


@pytest.mark.parametrize("numbers", [[1, 2, 3], [True, False], ["square", "abs"], [None, 2.0]])
def test_what_decides_structure_makes_a_program_that_is_kept(numbers: list[Any]) -> None:
    w, settings = Value(0.7), types.SimpleNamespace(mode=numbers[0])

    def loss(x: Any) -> Any:
        mode = settings.mode
        if mode is None or isinstance(mode, str):
            return abs(x * w) if mode == "abs" else (x * w) ** 2
        return tg.sum([x * w + i for i in range(int(mode) + 1)])

    step = tg.compile(loss, [w])
    sources = {}
    for _ in range(3):
        for number in numbers:
            settings.mode = number
            value, gradient = step.value_and_grad(X)
            np.testing.assert_allclose([value, *gradient], eager(loss, w), rtol=1e-9)
            assert sources.setdefault(number, step.source) is step.source


def test_inside_a_block_and_in_training() -> None:
    w, lam = Value(0.7), [0.5]
    step = tg.compile(lambda x: (x * w - 1) ** 2 + lam[0] * w * w, [w])
    other = Value(0.7)
    with step.train(tg.optim.SGD([w], lr=0.05)) as update:
        for i in range(10):
            lam[0] = 0.5 - 0.05 * i
            value = update(X)
            expected = eager(lambda x: (x * other - 1) ** 2 + lam[0] * other * other, other)
            np.testing.assert_allclose(value, expected[0], rtol=1e-9)
            other.data -= 0.05 * other.grad


def test_a_counter_of_the_function_itself_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    w, calls = Value(0.7), types.SimpleNamespace(n=0, seen=[])

    def loss(x: Any) -> Any:
        calls.n += 1
        calls.seen.append(calls.n)
        return x * w

    step = tg.compile(loss, [w])
    for _ in range(5):
        step.value_and_grad(X)
    n = calls.n
    for _ in range(5):
        step.value_and_grad(X)
    assert calls.n == n


def test_the_numbers_stay_what_they_were_also_after_an_error() -> None:
    w, settings = Value(0.7), types.SimpleNamespace(lam=0.1, fails=False)

    def loss(x: Any) -> Any:
        if settings.fails:
            raise KeyError("no")
        return x * w * settings.lam

    step = tg.compile(loss, [w])
    step(X)
    settings.lam, settings.fails = 0.2, True
    with pytest.raises(KeyError):
        step(X)
    assert settings.lam == 0.2
    assert settings.lam.__class__ is float


def test_a_long_list_that_is_read_is_watched_and_a_large_model_not_number_by_number() -> None:
    w, read, unread = Value(0.7), [float(i) for i in range(2000)], [0.5] * 2000
    step = tg.compile(lambda x: x * w * read[1500] + (0.0 if unread is None else w), [w])
    step(X)
    assert not any(x is unread or x == unread for _, x in step._latest.contract.held.facts.values())
    read[1500] = 3.0
    np.testing.assert_allclose(step(X), 2.0 * 0.7 * 3.0 + 0.7)
    model = nn.MLP(30, [40, 10], rng=0)
    step = tg.compile(lambda x: tg.sum(model(x)), model)
    step.value_and_grad(np.ones((2, 30)))
    assert len(step._latest.contract.held.facts) < 20
