"""One program for inputs of every length: what has one, that it agrees with the engine, and what it costs."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import recurrences as of
from comparing import check, values
from programs import flat, linear, plus
from recurrences import (
    RNG,
    U,
    W,
    b,
    classes,
    gru,
    initial,
    leaves,
    leaves_of_gates,
    lstm,
    normal,
    recurrent,
    table,
    v,
)

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.compiler.run import joining


def tokens(*shape: int) -> Any:
    return RNG.integers(4, size=shape)


# --- Which functions -------------------------------------------------------------------------------------------
LAYER, positions = flat(W, U, b, v), leaves(40, 2)


def encoder(x: Any, y: Any) -> Value:
    return (tg.dot(recurrent(x)[-1], v) - y) ** 2


def as_written(ids: Any) -> Value:
    """Each token is predicted from those before it, by indices into lists: traced by examples."""
    h, loss = [0.0, 0.0, 0.0], Value(0.0)
    for t in range(len(ids) - 1):
        h = [tg.tanh(a + tg.dot(u, h)) for a, u in zip(table[ids[t]], U, strict=True)]
        loss = loss - tg.log(tg.softmax([tg.dot(c, h) for c in classes])[ids[t + 1]])
    return loss / (len(ids) - 1)


DECODER = leaves(3, 2), leaves(3, 3), leaves(3)
OTHER = leaves(3, 2), leaves(3, 3), leaves(3)
for i, parameter in enumerate(flat(OTHER)):
    parameter.label = f"backward.{i}"


def translate(source: Any, target: Any) -> Value:
    """The decoder begins where the encoder ends, and reads what came before."""
    h, loss = recurrent(source)[-1], Value(0.0)
    for before, now in zip([[0.0, 0.0], *target], target, strict=False):
        h = [tg.tanh(a) for a in plus(linear(DECODER[0], before), linear(DECODER[1], h), DECODER[2])]
        loss = loss + (tg.dot(h, v) - now[0]) ** 2
    return loss / len(target)


def same_cells(source: Any, target: Any) -> Value:
    """Two sequences by one cell: how far apart do they end?"""
    return nn.mse(recurrent(source)[-1], recurrent(target)[-1]) + tg.sum([tg.dot(h, v) for h in recurrent(source)])


def both_directions(x: Any, y: Any) -> Value:
    forward, backward = recurrent(x), recurrent(x[::-1], *OTHER)[::-1]
    return nn.mse([tg.dot(p, v) + tg.dot(q, b) for p, q in zip(forward, backward, strict=True)], y)


def windows(x: Any) -> Value:
    h = [0.0] * 3
    for t in range(1, len(x) - 1):
        parts = linear(W, x[t - 1]), linear(OTHER[0], x[t]), linear(W, x[t + 1]), linear(U, h), b
        h = [tg.tanh(a) for a in plus(*parts)]
    return tg.dot(h, v)


def moving_sums(x: Any, first: int = 2) -> Value:
    h = [0.0] * 3
    for t in range(first, len(x)):
        sums = [tg.sum([x[i][k] for i in range(max(0, t - 2), t + 1)]) / 3 for k in range(2)]
        h = [tg.tanh(a) for a in plus(linear(W, sums), linear(U, h), b)]
    return tg.dot(h, v)


def growing_weights(x: Any) -> Value:
    return tg.sum([tg.dot(h, v) * (t + 1) for t, h in enumerate(recurrent(x))])


def from_a_parameter(x: Any) -> Value:
    h = b
    for now in x:
        h = [tg.tanh(old * weight + tg.sum(now)) for old, weight in zip(h, v, strict=True)]
    return tg.sum(h)


ALL = flat(W, U, b, v, DECODER, OTHER)
BATCH = lambda S, _: (normal(2, S, 2),)  # noqa: E731 - as those below
# the parameters, and a batch of one or two lengths
FUNCTIONS: dict[Any, tuple[Any, Callable[[int, int], Any]]] = {
    encoder: (LAYER, lambda S, _: (normal(2, S, 2), normal(2))),
    lambda x, y: nn.mse([tg.dot(h, v) for h in recurrent(x)], y): (
        LAYER,
        lambda S, _: (normal(2, S, 2), normal(2, S)),
    ),
    lambda x, y: encoder(list(zip(*x, strict=True)), y): (LAYER, lambda S, _: (normal(2, 2, S), normal(2))),
    lstm: ((leaves_of_gates, initial, v), lambda S, _: (normal(2, S, 2), normal(2, S))),
    gru: ((leaves_of_gates[:3], v), lambda S, _: (normal(2, S, 2), normal(2, S))),
    of.tokens: ((table, U, classes), lambda S, _: (tokens(2, S), tokens(2, S))),
    as_written: ((table, U, classes), lambda S, _: (tokens(2, S),)),
    lambda x: tg.dot(recurrent([plus(now, positions[t]) for t, now in enumerate(x)])[-1], v): (
        (LAYER, positions),
        BATCH,
    ),
    translate: (ALL, lambda S, T: (normal(2, S, 2), normal(2, T, 2))),
    same_cells: (ALL, lambda S, T: (normal(2, S, 2), normal(2, T, 2))),
    lambda x: tg.dot(recurrent(x)[-1], v) * tg.dot(recurrent(x[::-1], *OTHER)[-1], v): (ALL, BATCH),
    windows: (ALL, BATCH),
    moving_sums: (ALL, BATCH),
    lambda x: moving_sums(x, 0): (ALL, BATCH),  # the first sums are shorter
    both_directions: (ALL, lambda S, _: (normal(2, S, 2), normal(2, S))),
    growing_weights: (ALL, BATCH),
    from_a_parameter: ((b, v), BATCH),
}
ONE_PROGRAM = [function for function in FUNCTIONS if function not in (both_directions, growing_weights)]
SHORT = [*FUNCTIONS][8:]


@pytest.mark.parametrize(
    ("function", "verify"), [*((f, True) for f in ONE_PROGRAM), (gru, False), (as_written, False)]
)
@pytest.mark.filterwarnings("ignore:The function does not use")  # the places beyond the first eight
def test_one_program_is_for_every_length(function: Any, verify: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, batch = flat(FUNCTIONS[function][0]), FUNCTIONS[function][1]
    step, sources = tg.compile(function, parameters, verify=verify), set()
    more = [(3, 4)] * (function in SHORT) + [(2, 7)] * (function is translate) + [(300, 1)] * (function is encoder)
    for lengths in [(8, 5), (5, 12), (12, 20), (20, 20), (40, 3), *more]:
        check(step, function, parameters, *batch(*lengths))
        sources.add(step.source)
        monkeypatch.setattr(step, "_write", None)  # nothing else is compiled
    (source,) = sources
    assert ("T=8, N=5):" in source) == (function in (translate, same_cells))
    assert "for t in range(T" in source or "for t in range(N" in source


@pytest.mark.parametrize("function", [SHORT[2], both_directions])
@pytest.mark.parametrize("lengths", [(33, 41, 103), (104, 20, 36)])
@pytest.mark.filterwarnings("ignore:The function does not use")
def test_both_directions_at_odd_and_at_long_lengths(lengths: Any, function: Any) -> None:
    step, sources = tg.compile(function, ALL), set()
    for length in lengths:
        check(step, function, ALL, *FUNCTIONS[function][1](length, length))
        sources.add(step.source)
        assert length < 104 or step._latest.lowered is None  # the program is made of those for two short lengths
        assert "heads" not in str(step.groups)  # the labels are those of two cells
    assert len(sources) == 1


def test_a_new_length_costs_a_trace_and_a_comparison() -> None:
    calls = []

    def counted(x: Any, y: Any) -> Value:
        calls.append(len(x))
        return encoder(x, y)

    for verify in (True, False):
        step = tg.compile(counted, LAYER, verify=verify)
        step.value_and_grad(normal(2, 20, 2), normal(2))
        calls.clear()
        step.value_and_grad(normal(2, 30, 2), normal(2))
        step.value_and_grad(normal(2, 30, 2), normal(2))
        step.value_and_grad(normal(5, 20, 2), normal(5))
        assert calls.count(30) == 2  # once on placeholders, once on Values
        assert len(calls) <= 3  # unless it was verified before, the program is compared at the second length


def test_a_second_program_is_not_made_for_ever() -> None:
    """No program for one length of this function is that of another length."""
    calls = []

    def loss(x: Any, y: Any) -> Value:
        calls.append(len(x))
        return encoder(x, y) * math.log(len(x))

    step = tg.compile(loss, LAYER)
    for length in (120, *range(20, 28)):
        calls.clear()
        check(step, loss, LAYER, normal(2, length, 2), normal(2))
        assert length < 120 or sorted(map(calls.count, {*calls} - {length})) == [1, 1]  # two short ones, once each
    assert set(calls) == {27}
    assert "range(27)" in step.source


def test_all_that_a_program_does_goes_with_every_length() -> None:
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-4)):
        step = tg.compile(recurrent, LAYER[:-3], dtype)
        for length in (9, 20, 6):
            x = normal(3, length, 2)
            expected = [[[h.data for h in state] for state in recurrent(values(one))] for one in x]
            np.testing.assert_allclose(step.predict(x), expected, tolerance, tolerance)
            assert f"(B, {length}, 2)" in repr(step.groups)
            assert f"for t in range({length})" in repr(step.groups)
        assert "def build(parameters, B, dtype=np.float64, T=9):" in step.source


def test_training_on_many_lengths() -> None:
    """Compiled and eager training make the same steps; a batch may hold several lengths."""
    batches = [(normal(4, n, 2), normal(4)) for n in (8, 13, 6, 13)]
    batches.append(([*batches[0][0], *batches[1][0]], [*batches[0][1], *batches[1][1]]))  # type: ignore[arg-type]
    start, trained = [p.data for p in LAYER], []
    for compile in (True, False):
        adam = tg.optim.Adam(LAYER, lr=0.1)
        step = tg.compile(encoder, LAYER)
        with step.train(adam) if compile else contextlib.nullcontext() as update:
            for x, y in batches:
                if update:
                    update(x, y)
                    continue
                adam.zero_grad()
                tg.sum([encoder(values(a), float(b)) / len(y) for a, b in zip(x, y, strict=True)]).backward()
                adam.step()
        assert not compile or "range(T)" in step.source
        with pytest.raises(ValueError, match="other parameters"):
            step.train(tg.optim.SGD([Value(1.0)]))
        trained.append([p.data for p in LAYER])
        for parameter, number in zip(LAYER, start, strict=True):
            parameter.data = number
    np.testing.assert_allclose(*trained, 1e-9)


@pytest.mark.parametrize(
    ("length", "inputs", "width", "batch"),
    [(9, 9, 9, 9), (9, 2, 9, 3), (9, 9, 2, 3), (9, 2, 3, 9), (10, 2, 9, 3), (8, 2, 9, 3), (6, 6, 6, 6)],
)
def test_sizes_that_are_equal_by_accident(length: int, inputs: int, width: int, batch: int) -> None:
    W, U, v = leaves(width, inputs), leaves(width, width), leaves(width)

    def loss(x: Any, y: Any) -> Value:
        h = [0.0] * width
        for now in x:
            h = [tg.tanh(a) for a in plus(linear(W, now), linear(U, h), v)]
        return nn.mse(h, y)

    step = tg.compile(loss, flat(W, U, v))
    sources = set()
    for n in (length, 12, inputs, width, batch, 5):
        check(step, loss, flat(W, U, v), normal(batch, n, inputs), normal(batch, width))
        sources.add(step.source)
    assert len(sources) == 1


def test_names_that_are_taken() -> None:
    """An input may be called as the length, or as the stage."""
    w = Value(0.3, label="N")

    def loss(T: Any, t: Any) -> Value:
        h = Value(0.0)
        for now in T:
            h = tg.tanh(w * h + now * t)
        return h

    step = tg.compile(loss, [w])
    for length in (9, 20):
        check(step, loss, [w], normal(3, length), normal(3))
    assert "for t in range(L):" in step.source


# --- Both directions, short lengths -----------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ["numpy", "python"])
@pytest.mark.parametrize("function", SHORT)
@pytest.mark.filterwarnings("ignore:The function does not use")
def test_short_lengths_are_right(function: Any, backend: Any) -> None:
    """They have no loop, so some of them have a program of their own."""
    step: Any = tg.compile(function, ALL, backend=backend)
    for pair in [(9, 6), (1, 2), (2, 1), (1, 1), (6, 9), (5, 5)]:
        if pair[0] > 2 or function not in (windows, moving_sums):
            check(step, function, ALL, *FUNCTIONS[function][1](*pair))


# --- Functions that do something else at another length --------------------------------------------------------
def scaled_if_long(x: Any) -> Value:
    h = recurrent(x)[-1]
    return tg.dot(h, v) * (2.0 if len(x) > 20 else 1.0)


def limited_if_long(x: Any) -> Value:
    """The limit is far from the point at which programs are compared."""
    first = tg.min(x[0][0], 100.0) if len(x) > 20 else x[0][0]
    return tg.dot(recurrent(x)[-1], v) * first


def limits(x: Any) -> Value:
    """As many operations for a long input, with another constant."""
    return tg.dot(recurrent(x)[-1], v) * tg.min(x[0][0], 100.0 if len(x) > 20 else 1000.0)


def branch_if_long(x: Any) -> Value:
    """Only a long input is asked for its number."""
    h = tg.dot(recurrent(x)[-1], v)
    return sum([tg.exp(h)]) if len(x) > 20 and x[0][0].data < 0 else h


@pytest.mark.parametrize("function", [scaled_if_long, limited_if_long, limits])
@pytest.mark.parametrize("verify", [True, False])
def test_a_function_that_changes_is_compiled_for_itself(function: Any, verify: bool) -> None:
    step, first = tg.compile(function, LAYER, verify=verify), ""
    for length in (8, 24, 12, 30, 24):
        x = normal(2, length, 2)
        check(step, function, LAYER, x)
        first = first or step.source
        assert (step.source == first) == (length < 20)
        x[0, 0, 0] = 500.0  # now the limit is reached
        check(step, function, LAYER, x)


def test_factors_that_are_nearly_equal() -> None:
    """Some a / (b + T) with a large b fits any two of them. Verification would not see the difference."""

    def loss(x: Any) -> Value:
        h = Value(0.0)
        for now in x:
            h = tg.tanh(v[0] * h + now)
        return h * (1 + 1e-10 * len(x) ** 2)

    step = tg.compile(loss, v[:1])
    for length in (10, 5, 14):
        check(step, loss, v[:1], normal(2, length))


def test_a_branch_for_long_inputs_is_no_surprise() -> None:
    step = tg.compile(branch_if_long, LAYER)
    x = np.abs(normal(4, 24, 2))
    check(step, branch_if_long, LAYER, x[:, :10])
    check(step, branch_if_long, LAYER, x)
    x[2, 0, 0] = -1.0
    check(step, branch_if_long, LAYER, x)


def test_a_function_of_one_length() -> None:
    def strict(x: Any) -> Value:
        if len(x) != 20:
            raise ValueError("There are 20 measurements.")
        return tg.dot(recurrent(x)[-1], v)

    step = tg.compile(strict, LAYER)
    check(step, strict, LAYER, normal(2, 20, 2))
    assert "for t in range(20)" in step.source
    with pytest.raises(ValueError, match="20 measurements"):
        step.value_and_grad(normal(2, 21, 2))


@pytest.mark.parametrize("backend", ["numpy", pytest.param("jax", marks=pytest.mark.slow)])
def test_constants_outside_are_watched_at_every_length(backend: str) -> None:
    if backend == "jax":
        pytest.importorskip("jax").config.update("jax_enable_x64", True)
    weights = [Value(0.5) for _ in range(30)]

    def loss(x: Any) -> Value:
        h = [0.0, 0.0, 0.0]
        for t, now in enumerate(x):
            h = [tg.tanh(a * weights[t]) for a in plus(linear(W, now), linear(U, h), b)]
        return tg.dot(h, v)

    step = tg.compile(loss, LAYER, backend=backend)
    for length in (12, 25):
        check(step, loss, LAYER, normal(2, length, 2))
    weights[20].data = 0.1
    check(step, loss, LAYER, normal(2, 25, 2))
    outside, factors = Value(0.3), [0.7] * 3000

    def factored(x: Any) -> Value:
        return tg.dot(recurrent([[factors[t] * a for a in now] for t, now in enumerate(x)])[-1], v)

    step = tg.compile(factored, LAYER, backend=backend)
    for at in (3, 11, 20):
        for length in (12, 25):
            check(step, factored, LAYER, normal(2, length, 2))
        factors[at] -= 0.3

    def scaled(x: Any) -> Value:
        return tg.dot(recurrent(x)[-1], v) * outside

    step = tg.compile(scaled, LAYER, backend=backend)
    for length in (12, 25, 12):
        check(step, scaled, LAYER, normal(2, length, 2))
        outside.data -= 0.2


def wrong_at(length: int, patch: pytest.MonkeyPatch) -> None:
    written = joining._sum

    def wrong(slopes: Any, shift: Any, names: Any) -> Any:
        return written(slopes, shift, [f"({name} - ({name} == {length}))" for name in names])

    patch.setattr(joining, "_sum", wrong)


def test_a_length_at_which_the_program_is_wrong_has_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    step = tg.compile(encoder, LAYER)
    with monkeypatch.context() as patch:
        wrong_at(21, patch)
        check(step, encoder, LAYER, normal(2, 20, 2), normal(2))
    for length in (22, 21, 20):
        check(step, encoder, LAYER, normal(2, length, 2), normal(2))
        assert (step.source.count("== 21") > 0) == (length != 21)


@pytest.mark.slow
@pytest.mark.parametrize("function", [*ONE_PROGRAM, both_directions])
@pytest.mark.filterwarnings("ignore:The function does not use")
def test_jax_takes_every_length_without_another_trace(function: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    parameters, batch = flat(FUNCTIONS[function][0]), FUNCTIONS[function][1]
    step, sources = tg.compile(function, parameters, backend="jax"), set()
    for pair in [(8, 5), (12, 9), (20, 20), *[(1, 2), (2, 1)] * (function is translate)]:
        check(step, function, parameters, *batch(*pair))
        sources.add(step.source)
        if function is not as_written:  # it looks at numbers
            monkeypatch.setattr(step._programs, "trace", None)
    assert len(sources) == 1
