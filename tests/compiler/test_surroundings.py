"""Numbers around a function that change: in closures, globals, defaults, attributes, lists, and frozen Values."""

import functools
import math
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.compiler.trace import surroundings

X = np.array([1.0, 2.0, 3.0])
LAM, FROZEN = 0.1, Value(0.1)
CONFIG = types.SimpleNamespace(lam=0.1, inner=types.SimpleNamespace(lam=0.1), table={"lam": 0.1}, rates=[0.3, 0.1])
Place = Callable[[Value], tuple[Any, Callable[[float], Any]]]  # a loss, and what changes a number around it


class Settings:
    lam = 0.1


def penalised(w: Value, x: Any, lam: Any) -> Value:
    return (x * w - 1) ** 2 + lam * w * w


class Penalty:
    def __init__(self, w: Value):
        self.w, self.lam = w, 0.1

    def __call__(self, x: Any) -> Value:
        return penalised(self.w, x, self.shrink())

    def shrink(self) -> float:
        return self.lam


def closure(w: Value) -> tuple[Any, Any]:
    lam = 0.1

    def change(number: float) -> None:
        nonlocal lam
        lam = number

    return lambda x: penalised(w, x, lam), change


def default(w: Value) -> tuple[Any, Any]:
    def loss(x: Any, lam: float = 0.1) -> Value:
        return penalised(w, x, lam)

    return loss, put(loss, "__defaults__", lambda number: (number,))


def put(holder: Any, name: str = "lam", made: Callable[[float], Any] = float) -> Callable[[float], Any]:
    return lambda number: setattr(holder, name, made(number))


def in_(change: Callable[[float], Any], number: Callable[[], Any]) -> Place:
    return lambda w: (lambda x: penalised(w, x, number()), change)


PLACES: dict[str, Place] = {
    "closure": closure,
    "default": default,
    "global": in_(lambda number: globals().update(LAM=number), lambda: LAM),
    "object": lambda w: (penalty := Penalty(w), put(penalty)),
    "method": lambda w: ((penalty := Penalty(w)).__call__, put(penalty)),
    "partial": lambda w: (
        loss := functools.partial(lambda x, lam: penalised(w, x, lam), lam=0.1),
        lambda number: loss.keywords.update(lam=number),
    ),
    "frozen": in_(put(FROZEN, "data"), lambda: FROZEN),
    "attribute": in_(put(CONFIG), lambda: CONFIG.lam),
    "dict": in_(lambda number: CONFIG.table.update(lam=number), lambda: CONFIG.table["lam"]),
    "list": in_(lambda number: CONFIG.rates.__setitem__(1, number), lambda: CONFIG.rates[1]),
    "class": in_(put(Settings), lambda: Settings.lam),
    "derived": in_(put(CONFIG), lambda: 1 - CONFIG.lam / 3),
    "exponent": lambda w: (lambda x: (x * w) ** CONFIG.lam, put(CONFIG)),
    "inside": in_(put(CONFIG.inner), lambda: CONFIG.inner.lam),
    "structure": lambda w: (
        lambda x: (x * w - 1) ** 2 + (CONFIG.lam * w * w if CONFIG.lam > 0.5 else 2.0 * w),
        put(CONFIG),
    ),
    "replaced": in_(
        put(CONFIG, "inner", lambda number: types.SimpleNamespace(lam=number)), lambda: CONFIG.inner.lam
    ),
    "mathematics": in_(put(CONFIG), lambda: math.exp(CONFIG.lam)),
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
    assert len(step._programs.builds) <= 16


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


def test_a_program_that_an_installed_tool_runs_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "/lib/site-packages/tool.py", raising=False)
    surroundings._is_users.cache_clear()
    names = {"__name__": "__main__", "lam": 0.1, "w": Value(0.7)}
    exec("def loss(x): return w * x * lam", names)
    step = tg.compile(names["loss"], [names["w"]])
    for lam in (0.1, 0.5):
        names["lam"] = lam
        np.testing.assert_allclose(step(X), 2.0 * 0.7 * lam)


def test_inside_a_block_and_in_training() -> None:
    w, other, lam = Value(0.7), Value(0.7), [0.5]
    step = tg.compile(lambda x: penalised(w, x, lam[0]), [w])
    with step.train(tg.optim.SGD([w], lr=0.05)) as update:
        for i in range(10):
            lam[0] = 0.5 - 0.05 * i
            value = update(X)
            expected = eager(lambda x: penalised(other, x, lam[0]), other)
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
