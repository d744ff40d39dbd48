"""compile: what a compiled function can do, what it says of itself, and what it refuses.

That its numbers are the eager ones is tested in `test_compile_programs.py`, on programs of every form.
"""

import itertools
import math
import random
import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from comparing import compare
from graphs import Line

import tinygrad_edu as tg
from tinygrad_edu import Value, nn

X = np.random.default_rng(0).normal(size=(8, 6))
CLASSES = np.array([0, 2, 1, 1, 0, 2, 2, 1])
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "python"])
ONE_HOT = np.eye(3)[CLASSES]


def squared(model: Any) -> Callable[[Any, Any], Any]:
    return lambda x, t: (model(x) - t) ** 2


def classifier(n_inputs: int = 6, *widths: int) -> tuple[nn.MLP, Callable[[Any, Any], Value]]:
    model = nn.MLP(n_inputs, list(widths) or [5, 3], rng=0)

    def loss(x: Any, y: Any) -> Value:
        return nn.cross_entropy(model(x), y)

    return model, loss


@contextmanager
def untouched(parameters: list[Value]) -> Iterator[None]:
    """The parameters are what they were, to the bit, whatever happens inside."""
    for i, parameter in enumerate(parameters):
        parameter.grad = 0.5 + i

    def state() -> list[Any]:
        return [(type(p), p.data, p.grad, p.label, p.rule, p.parents) for p in parameters]

    before = state()
    yield
    assert state() == before


# --- Values and gradients -------------------------------------------------------------------------------------
def test_a_line_by_heart_and_backward_adds_to_the_gradients_that_are_there() -> None:
    model = Line(2.0, 1.0)
    step = tg.compile(squared(model), model.parameters())
    value, gradients = step.value_and_grad([1.0, 2.0], [0.0, 5.0])  # 2x + 1 is off by 3 and by 0
    assert value == 4.5
    assert gradients.tolist() == [3.0, 3.0]  # the mean of 2 * error * x, and of 2 * error
    assert step([1.0, 2.0], [0.0, 5.0]) == 4.5
    assert tg.compile(model, model.parameters()).predict([1.0, 2.0]).tolist() == [3.0, 5.0]
    model = Line(2.0, 1.0)
    step = tg.compile(squared(model), model.parameters())
    model.a.grad = 0.25
    assert step.backward([1.0], [0.0]) == 9.0
    assert (model.a.grad, model.b.grad) == (6.25, 6.0)
    step.backward([1.0], [0.0])
    assert (model.a.grad, model.b.grad) == (12.25, 12.0)
    assert (model.a.data, model.b.data) == (2.0, 1.0)


@pytest.mark.parametrize("container", [list, tuple, iter], ids=["list", "tuple", "iterator"])
def test_parameters_may_come_in_any_iterable_and_a_list_that_changes_later_is_no_matter(container: Any) -> None:
    model = Line(2.0, 1.0)
    parameters = container(model.parameters())
    step = tg.compile(squared(model), parameters)
    if container is list:
        parameters.append(Value(3.0))
    for _ in range(2):
        assert step.value_and_grad([1.0], [0.0])[1].tolist() == [6.0, 6.0]


def test_predict_nests_as_the_function_does() -> None:
    w = Value(2.0)
    batch = np.arange(6.0).reshape(3, 2)

    def predict(function: Any) -> np.ndarray:
        result: np.ndarray = tg.compile(function, [w]).predict(batch)
        return result

    assert predict(lambda x: w * x[0]).tolist() == [0.0, 4.0, 8.0]
    assert predict(lambda x: [w * x[0]]).tolist() == [[0.0], [4.0], [8.0]]
    assert predict(lambda x: (w * a for a in x)).tolist() == [[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]]
    assert predict(lambda x: map(w.__mul__, x)).tolist() == [[0.0, 2.0], [4.0, 6.0], [8.0, 10.0]]
    assert predict(lambda x: (w * x[1], w)).tolist() == [[2.0, 2.0], [6.0, 2.0], [10.0, 2.0]]
    nested = predict(lambda x: [[w, x[0], 5], [x[1], w * x[0], -0.5]])
    assert nested.shape == (3, 2, 3)
    assert nested[2].tolist() == [[2.0, 4.0, 5.0], [5.0, 8.0, -0.5]]


# --- Batches: what arrays are taken, and that they stay what they are -----------------------------------------
def strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((2 * array.shape[0], 3 * array.shape[1]))
    wide[::2, ::3] = array
    return wide[::2, ::3]


FORMS = [np.ndarray.tolist, np.asfortranarray, strided, lambda a: a[::-1][::-1], lambda a: a.astype(">f8")]


@pytest.mark.parametrize("given", [*FORMS, list, tuple])
def test_a_batch_may_come_in_any_form(given: Any) -> None:
    model, loss = classifier()
    step = tg.compile(loss, model.parameters())
    value, gradients = step.value_and_grad(X, ONE_HOT)
    again, other = tg.compile(loss, model.parameters()).value_and_grad(given(X), given(ONE_HOT))
    assert again == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(other, gradients, rtol=1e-12, atol=1e-14)
    assert step(given(X), given(ONE_HOT)) == pytest.approx(value, rel=1e-13)


NUMBERS = [range(3), (0, 1, 2), [False, True, 2], [0, np.float32(1), np.int64(2)], np.arange(3)]
NUMBERS += [[np.bool_(False), np.longdouble(1), np.float16(2)]]


@BACKENDS
@pytest.mark.parametrize("batch", NUMBERS)
def test_real_numbers_of_any_kind_become_floats_before_anything_is_computed(batch: Any, backend: str) -> None:
    w = Value(2.0)
    step = tg.compile(lambda x: w * x - x * x, [w], backend=backend)
    assert step.value_and_grad(batch) == (1 / 3, [1.0])
    assert {type(x) for x in step.value_and_grad(batch)[1]} <= {float, np.float64}
    assert list(step.predict(batch)) == [0.0, 1.0, 0.0]
    by_row = tg.compile(lambda x: w * x[0] * 10.0 + x[1], [w], backend=backend)
    assert list(by_row.predict([batch, batch])) == [1.0, 1.0]
    squares = tg.compile(lambda x: w * (x * x - 200), [w], backend=backend)
    for kind in ("int64", "int8", "uint8", "float32", "float16"):
        assert list(squares.predict(np.array([0, 10, 100], dtype=kind))) == [-400.0, -200.0, 19600.0]


def test_batches_results_and_gradients_are_left_alone() -> None:
    model, loss = classifier()
    step, predictor = tg.compile(loss, model.parameters()), tg.compile(model, model.parameters())
    inputs, targets = X.copy(), ONE_HOT.copy()
    inputs.flags.writeable = targets.flags.writeable = False
    writable = 2 * X, ONE_HOT[::-1].copy()
    with untouched(model.parameters()):
        step(inputs, targets)
        _, first = step.value_and_grad(inputs, targets)
        outputs = predictor.predict(inputs)
        copies = first.copy(), outputs.copy()
        assert step.source
        assert str(step.groups)
        step.value_and_grad(*writable)
        predictor.predict(2 * X)
    step.backward(*writable)
    for array, copy in zip((*writable, first, outputs), (2 * X, ONE_HOT[::-1], *copies), strict=True):
        assert (array == copy).all()


def test_results_share_no_memory_with_inputs_or_parameters() -> None:
    w = [Value(1.0), Value(2.0)]
    inputs = np.array([[3.0, 4.0]])
    linear = tg.compile(lambda x: tg.dot(w, x), w)  # whose gradient is x
    squares = tg.compile(lambda: (w[0] * w[0] + w[1] * w[1]) / 2, w)  # whose gradient is w
    same = tg.compile(lambda x: [x[0], w[1]], w[1:])
    linear.value_and_grad(inputs)[1][:] = 0.0
    same.predict(inputs)[:] = 0.0
    assert inputs.tolist() == [[3.0, 4.0]]
    with squares.arrays() as theta:
        squares.value_and_grad()[1][:] = 0.0
        assert theta.tolist() == [1.0, 2.0]
    with same.arrays() as theta:
        same.predict(inputs)[:] = 0.0
        assert theta.tolist() == [2.0]


# --- Operands of different kinds ------------------------------------------------------------------------------
def test_an_embedding_of_which_some_rows_are_learned() -> None:
    table = nn.Embedding(4, 2, rng=0)
    compare(lambda i: tg.sum([a * a * a for a in table(i)]), table.parameters()[2:], np.array([0, 1, 3]))


@pytest.mark.parametrize("width", [2, 40])
@pytest.mark.parametrize("beside", [0, 1])
def test_the_loss_beside_a_score_of_zero_is_not_rounded_away(width: int, beside: int) -> None:
    w = Value(1.0)

    def loss(x: Any) -> Any:
        return tg.logsumexp(*[0.0] * beside, *[w * a for a in x])

    step = tg.compile(loss, [w])
    for z in (0.0, -10.0, -16.0, -30.0, -40.0, -700.0, 5.0, math.inf, -math.inf, math.nan):
        x = [0.0] * (1 - beside) + [z] * (width - 1)
        np.testing.assert_allclose(step.predict([x, x]), [loss(x).data] * 2, rtol=1e-14)


def test_rows_add_up_to_one_only_if_they_do_so_as_numbers_of_64_bits() -> None:
    w = Value(1.0)
    step = tg.compile(lambda x, y: w * x * tg.sum(y), [w])
    assert step([1.0], np.array([[1, 0]], np.uint8)) == 1.0
    assert step([1.0], np.array([[255, 2]], np.uint8)) == 257.0
    model, loss = classifier()
    targets = np.random.default_rng(0).dirichlet([1, 1, 1], 500).astype(np.float32)
    sums = targets.astype(float).sum(axis=1)
    targets = targets[(targets @ np.ones(3, np.float32) == 1) & (sums != 1)][:8]
    step = tg.compile(loss, model.parameters())
    value, gradients = step.value_and_grad(X, targets)
    exact, others = step.value_and_grad(X, targets.astype(float))
    assert value == exact
    np.testing.assert_array_equal(gradients, others)


@BACKENDS
def test_a_value_computed_outside_is_a_constant_that_is_watched_unless_a_parameter_made_it(backend: str) -> None:
    w, a = Value(2.0, label="w"), Value(1.0)
    c = a * 3
    step = tg.compile(lambda x: w * x * c, [w], backend=backend)
    assert step.value_and_grad([1.0])[0] == 6.0
    assert (w.grad, a.grad, c.grad) == (0.0, 0.0, 0.0)
    c.data = 10.0
    assert step.value_and_grad([1.0])[0] == 20.0
    c = w * 3
    with pytest.raises(ValueError, match=r"computed outside of it from the parameter w: compute it inside"):
        tg.compile(lambda x: w * x + c, [w], backend=backend).value_and_grad([1.0])


# --- arrays(): the parameters as one array --------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_arrays_hold_the_parameters_and_are_written_back_and_all_has_its_type(dtype: str) -> None:
    model, loss = classifier()
    parameters = model.parameters()
    step = tg.compile(loss, parameters, dtype)
    for array, shape in (
        (step.value_and_grad(X, CLASSES)[1], (len(parameters),)),
        (tg.compile(model, parameters, dtype).predict(X), (8, 3)),
    ):
        assert (type(array), array.shape, array.dtype) == (np.ndarray, shape, dtype)
    assert {type(call(X, CLASSES)) for call in (step, step.backward)} == {float}
    assert {type(p.grad) for p in parameters} == {float}
    model.zero_grad()
    before, after = np.array([[p.data for p in parameters], np.linspace(-1, 1, len(parameters))], dtype)
    with step.arrays() as theta:
        assert isinstance(theta, np.ndarray)
        assert theta.dtype == dtype
        assert theta.tolist() == before.tolist()
        theta[:] = after
    assert [p.data for p in parameters] == after.tolist()
    assert {type(p.data) for p in parameters} == {float}
    assert {p.grad for p in parameters} == {0.0}


def test_calls_inside_arrays_read_what_stands_there() -> None:
    model = Line(2.0, 1.0)
    step = tg.compile(lambda x: model(x) ** 2, model.parameters())
    with step.arrays() as theta:  # before any call
        theta *= 1
        assert step([1.0]) == 9.0
        theta[0] = 4.0
        assert step([1.0]) == 25.0
        theta += 1
        assert step.predict([1.0]).tolist() == [49.0]
        assert step.value_and_grad([1.0])[1].tolist() == [14.0, 14.0]
    assert (model.a.data, model.b.data) == (5.0, 2.0)
    model.a.data = 0.0
    assert step([1.0]) == 4.0
    assert theta.tolist() == [5.0, 2.0]  # it keeps its numbers


@pytest.mark.parametrize("backends", [("numpy", "numpy"), ("numpy", "python"), ("python", "python")])
def test_two_blocks_that_share_a_parameter_are_refused(backends: tuple[str, str]) -> None:
    a, b, c = Value(1.0, label="a"), Value(2.0, label="b"), Value(3.0, label="c")
    first = tg.compile(lambda x: a * x + b, [a, b], backend=backends[0])
    second = tg.compile(lambda x: b * x + c, [b, c], backend=backends[1])
    with first.arrays() as theta:
        with pytest.raises(RuntimeError, match=r"The parameter b is in an array already, that of .*\(<lambda>, 2"):
            second.arrays().__enter__()
        with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="End the other block first"):
            pool.submit(second.arrays().__enter__).result()
        theta[1] = 7.0
    assert (a.data, b.data, c.data) == (1.0, 7.0, 3.0)
    with second.arrays() as theta, tg.compile(lambda x: a * x, [a]).arrays():
        theta[0] = 8.0
    assert b.data == 8.0


@BACKENDS
def test_a_number_that_is_set_inside_arrays_is_not_lost_in_silence(backend: str) -> None:
    a, b = Value(1.0, label="a"), Value(2.0, label="b")
    step = tg.compile(lambda x: a * x + b, [a, b], backend=backend)

    def trained(error: bool) -> None:
        with step.arrays() as theta:
            theta[0] += 4.0
            b.data = 9.0
            if error:
                raise KeyboardInterrupt

    said = r"b.data = 9.0 was set inside arrays\(\), 1 parameter\(s\) in all.*b has 2.0 again"
    with pytest.raises(RuntimeError, match=said):
        trained(False)
    assert (a.data, b.data) == (5.0, 2.0)
    with pytest.raises(KeyboardInterrupt) as caught:
        trained(True)
    assert re.search(said, caught.value.__notes__[0])
    assert (a.data, b.data, step([1.0])) == (9.0, 2.0, 11.0)  # what was learned is written back
    with step.arrays():
        a.data = 9.0  # the number that it had
        step.value_and_grad([1.0])
    with step.arrays() as theta:
        theta[0] = 6.0
        step.write_back()
        assert a.data == 6.0
    assert step.value_and_grad([0.0])[0] == 2.0


# --- Source and groups ----------------------------------------------------------------------------------------
def test_source_and_groups_are_the_same_on_every_run_and_for_every_size() -> None:
    seen = []
    for batch, n_inputs, *widths in ([8, 6, 5, 3], [3, 6, 5, 3], [8, 6, 5, 3], [2, 20, 15, 10]):
        model, loss = classifier(n_inputs, *widths)
        step = tg.compile(loss, model.parameters())
        step.value_and_grad(np.ones((batch, n_inputs)), np.eye(widths[-1])[CLASSES[:batch]])
        table, lines = str(step.groups).splitlines(), step.source.splitlines()
        assert max(map(len, table)) <= 120
        assert not any(line != line.rstrip() for line in table + lines)
        seen.append((step.source, len(lines), step.groups.title.partition(" -> ")[2]))
    assert seen[0] == seen[1] == seen[2]
    assert seen[3][1:] == seen[0][1:]
    assert seen[0][1] < 110
    assert seen[0][2] == "12 groups, 2 matrix products"


# --- Numbers out of range -------------------------------------------------------------------------------------
W = Value(1.0, label="w")


@pytest.mark.parametrize(
    ("function", "x", "expected"),
    [
        (lambda x: tg.log(W * x), [-1.0, 0.0, 1.0], [math.nan, -math.inf, 0.0]),
        (lambda x: W / x, [0.0, -0.0, 2.0], [math.inf, -math.inf, 0.5]),
        (lambda x: (W * x) ** -1, [0.0, 2.0], [math.inf, 0.5]),
        (lambda x: (W * x) ** 0.5, [-1.0, 4.0], [math.nan, 2.0]),
        (lambda x: tg.sqrt(W * x), [-1.0, 4.0], [math.nan, 2.0]),
        (lambda x: tg.sqrt(W * x), [0.0], [0.0]),
        (lambda x: tg.exp(W * x) - tg.exp(x), [1.0, 0.0, 1e9], [0.0, 0.0, math.nan]),  # and no warning
        (lambda x: tg.asin(W * x), [2.0, 0.0], [math.nan, 0.0]),
        (lambda x: tg.exp(W * x), [1000.0, -1000.0], [math.inf, 0.0]),
        (lambda x: tg.log1p(W * x), [-1.0, -2.0, 0.0], [-math.inf, math.nan, 0.0]),
        (lambda x: tg.relu(W * x), [math.nan, math.inf, -math.inf], [math.nan, math.inf, 0.0]),
        (lambda x: tg.max(W * x, 0.0), [math.nan, math.inf, -math.inf], [math.nan, math.inf, 0.0]),
        (lambda x: tg.sigmoid(W * x), [math.inf, -math.inf, math.nan], [1.0, 0.0, math.nan]),
        (lambda x: tg.softplus(W * x), [1e4, -1e4], [1e4, 0.0]),
        (lambda x: tg.logsumexp(W * x, 0.0), [1e4, -1e4], [1e4, 0.0]),
    ],
)
def test_outside_a_domain_there_is_the_engines_error_or_its_inf_or_nan(function, x, expected) -> None:
    try:
        for number in x:
            function(Value(number)).backward()
    except (ValueError, ArithmeticError) as error:
        for verify in (True, False):
            step = tg.compile(function, [W], verify=verify)
            with pytest.raises(type(error), match=re.escape(str(error).split("(")[0])):
                step.predict(np.array(x))
            with pytest.raises(type(error)) as caught:  # also as the first call
                tg.compile(function, [W]).value_and_grad(np.array(x))
            assert any("of the batch" in note for note in caught.value.__notes__)
        return
    step = tg.compile(function, [W])
    assert np.array_equal(step.predict(np.array(x)), expected, equal_nan=True)
    value, gradients = tg.compile(function, [W]).value_and_grad(np.array(x))
    with np.errstate(all="ignore"):
        assert np.array_equal(value, np.mean(expected), equal_nan=True)
    assert gradients.shape == (1,)


V = [Value(0.1 * (i + 1), label=f"v{i}") for i in range(3)]
AT, TARGET = [0.1, 0.3, 0.3], 0.16  # v.x is 0.16 when it is added up exactly, and not quite in another order


@pytest.mark.parametrize(
    "function",
    [
        lambda x, t: (tg.dot(V, x) - t) ** 2,
        lambda x, t: nn.mse(tg.dot(V, x), t),
        lambda x, t: nn.mae(tg.dot(V, x), t),
        lambda x, t: tg.relu(tg.dot(V, x) - t) + tg.sum(V),
        lambda x, t: tg.max(tg.dot(V, x), t),
        lambda x, t: tg.where(tg.dot(V, x) > t, V[0] * V[1], V[2]),
    ],
    ids=["square", "mse", "mae", "relu", "max", "where"],
)
def test_rounding_at_a_zero_or_a_kink_is_no_disagreement(function: Any) -> None:
    step = tg.compile(function, V)
    value, gradients = step.value_and_grad([AT, AT], [TARGET, TARGET])
    assert math.isfinite(value)
    assert np.isfinite(gradients).all()
    assert np.isfinite(step.predict([AT], [TARGET])).all()


@pytest.mark.parametrize(
    "outputs", [lambda z: [tg.sum(z) - TARGET, z[0] - z[0]], lambda z: [tg.sum([a - tg.sum(z) / 3 for a in z])]]
)
def test_outputs_that_are_zero_but_for_rounding_are_no_disagreement(outputs: Any) -> None:
    step = tg.compile(lambda x: outputs([v * n for v, n in zip(V, x, strict=True)]), V)
    np.testing.assert_allclose(step.predict([AT, AT]), 0, atol=1e-15)


@pytest.mark.filterwarnings("ignore:The pass 'loops' .* has not come to an end")  # on a busy machine
@pytest.mark.parametrize("n", [120, pytest.param(1500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("backend", ["numpy", "python"])
@pytest.mark.parametrize("combine", [tg.max, tg.min, tg.logsumexp, tg.sum, math.prod], ids=lambda f: f.__name__)
def test_many_numbers_of_different_kinds_are_combined(combine: Any, backend: Any, n: int) -> None:
    w = [Value(0.3), Value(0.7), Value(-0.2)]
    kinds: list[Any] = [tg.tanh, tg.sin, tg.sigmoid, lambda x: tg.sin(x - w[1]), lambda x: tg.tanh(x * x + w[2])]
    drawn = random.Random(0).choices(kinds, k=n)

    def function() -> Any:
        numbers = itertools.accumulate([w[0], *drawn], lambda x, kind: kind(x))
        return combine([1 + x / 100 for x in numbers])

    value, gradients = tg.compile(function, w, backend=backend).value_and_grad()
    root = function()
    root.backward()
    assert value == pytest.approx(root.data, rel=1e-12)
    assert [*gradients] == pytest.approx([x.grad for x in w], rel=1e-10, abs=1e-12)


# --- What is refused: what needs the number of a placeholder --------------------------------------------------
ONE_SIDE: list[Callable[[Any, Any], Any]] = [  # they compile for examples that agree
    lambda w, x: w * x if w * x > 0 else -(w * x),
    lambda w, x: w * x if w > 0 else x,
    lambda w, x: w if x else x,
    lambda w, x: tg.where(x > 0 and x < 1, w, x),
    lambda w, x: w * x.data,
    lambda w, x: w * x / abs(w.data),
    lambda w, x: max(w, x),
    lambda w, x: sorted([w * x, x])[0],
    lambda w, x: next(x * w / 2**i for i in range(9) if x * w <= 2**i),
    lambda w, x: w * float(x.data),
]
PLAIN: list[Callable[[Any, Any], Any]] = [
    lambda w, x: w * x if x == 1 else -w * x,
    lambda w, x: w * x if x in (0, 1) else -w * x,
    lambda w, x: w * x + w.grad,
    lambda w, x: math.exp(w * x),
    lambda w, x: w * [1, 2, 3][x],
    lambda w, x: w * sum(1 for _ in range(x)),
    lambda w, x: w * round(x),
    lambda w, x: (w * x).backward(),
]


@pytest.mark.parametrize("function", ONE_SIDE)
def test_what_needs_a_number_compiles_for_examples_that_agree(function: Any) -> None:
    w = Value(1.5, label="w")
    compare(lambda x: function(w, x), [w], [0.5, 0.7], backend="python")


@pytest.mark.parametrize("backend", ["numpy", "python"])
@pytest.mark.parametrize("function", PLAIN)
def test_what_needs_a_number_is_refused_with_its_line(function: Any, backend: str) -> None:
    w = Value(1.5, label="w")
    step = tg.compile(lambda x: function(w, x), [w], backend=backend)
    for call in (step.value_and_grad, step.predict):
        line = rf"line {function.__code__.co_firstlineno}\b"
        with untouched([w]), pytest.raises(tg.TraceError, match=line) as error:
            call([1.0, 2.0])
        assert __file__ in str(error.value)


def test_batch_norm_is_refused_in_training_and_remembers_nothing() -> None:
    model = nn.Sequential(nn.Dense(6, 2, rng=0), nn.BatchNorm(2))
    norm = model.layers[1]
    batches = np.stack([X, X])
    with untouched(model.parameters()), pytest.raises(tg.TraceError, match="float"):
        tg.compile(model, model.parameters()).predict(batches)
    assert (norm.running_mean, norm.running_var) == ([0.0, 0.0], [1.0, 1.0])
    model.eval()
    assert tg.compile(model, model.parameters()).predict(batches).shape == (2, 8, 2)


def test_the_errors_of_the_function_come_through() -> None:
    w = Value(1.0)

    def function(x: Any) -> Any:
        raise KeyError(f"{len(x)} is not known")

    with untouched([w]), pytest.raises(KeyError, match="2 is not known"):
        tg.compile(function, [w])(np.ones((3, 2)))
    step = tg.compile(lambda x: MODEL(x), MODEL.parameters())
    with pytest.raises(ValueError, match="takes 2 inputs, got 3") as caught:
        step.predict(np.ones((5, 3)))
    assert any("(3,)" in note and "A Placeholder is one num" in note for note in caught.value.__notes__)


# --- What is refused: calls that make no sense ----------------------------------------------------------------
A, B, UNUSED = Value(2.0, label="a"), Value(3.0, label="b"), Value(1.0, label="unused")
MODEL = nn.MLP(2, [3, 2], rng=0)
TABLE = nn.Embedding(4, 2, rng=0)


def line(x: Any, t: Any) -> Any:
    return (A * x + B - t) ** 2


def lookup(i: Any) -> Any:
    return tg.sum(TABLE(i))


def rows(X: Any, y: Any) -> Any:
    return nn.cross_entropy(MODEL(X), y)


REFUSED: dict[str, tuple[Callable[..., Any], list[Value], tuple[Any, ...], type[Exception], str]] = {
    "batches of two sizes": (line, [A, B], ([1.0, 2.0], [1.0]), ValueError, "x has 2, t has 1"),
    "an empty batch": (line, [A, B], ([], []), ValueError, "empty"),
    "an empty batch of rows": (rows, MODEL.parameters(), (np.ones((0, 2)), np.ones((0, 2))), ValueError, "empty"),
    "a number instead of a batch": (line, [A, B], (1.0, 2.0), ValueError, "batch|axis"),
    "ragged rows": (rows, MODEL.parameters(), ([[1.0, 2.0], [1.0]], [0, 1]), ValueError, "takes 2 inputs, got 1"),
    "rows and numbers": (rows, MODEL.parameters(), ([[1.0, 2.0], 1.0], [0, 1]), TypeError, "list of 2"),
    "texts": (line, [A, B], (["a", "b"], [1.0, 2.0]), TypeError, r"got 'a' \(str\): convert it with float\(\)"),
    "dicts": (line, [A, B], ({"x": 1.0}, [1.0]), ValueError, "x\\['x'\\] is a single number"),
    "None": (line, [A, B], (None, [1.0]), TypeError, r"x must hold real numbers, got None \(NoneType\)"),
    "a text in a row": (line, [A, B], ([[1.0], ["2"]], [1.0, 2.0]), TypeError, r"got '2' \(str\)"),
    "Values": (line, [A, B], ([Value(1.0)], [1.0]), TypeError, r"got Value\(.*\(Value\): take its .data, as in"),
    "a Value among numbers": (rows, MODEL.parameters(), ([[1.0, Value(1.0)]], [0]), TypeError, "take its .data"),
    "a Value": (line, [A, B], (Value(1.0), [1.0]), TypeError, r"\(Value\): take its .data"),
    "complex numbers": (line, [A, B], (np.array([1j]), [1.0]), TypeError, r"\(complex\): take .real or .imag"),
    "dates": (line, [A, B], (np.array(["2026-01-01"], dtype="datetime64[D]"), [1.0]), TypeError, "number"),
    "a part of a row": (line, [A, B], ([1.0, [2.0]], [1.0, 2.0]), TypeError, r"got \[.*\(list\)"),
    "an empty row": (rows, MODEL.parameters(), ([[1.0, 1.0], []], [0, 1]), ValueError, "X is ragged|got 0"),
    "bytes": (line, [A, B], ([b"1"], [1.0]), TypeError, "bytes"),
    "complex numbers of NumPy": (line, [A, B], ([np.clongdouble(1)], [1.0]), TypeError, "must hold real numbers"),
    "another container": (line, [A, B], (deque(["a"]), [1.0]), TypeError, "got 'a'"),
    "a number of NumPy": (line, [A, B], (np.float32(1.5), [1.0]), ValueError, "x is a single number"),
    "an array of no axis": (line, [A, B], (np.array(1.5), [1.0]), ValueError, r"single number: .* as in \[.*1.5"),
    "a fraction": (line, [A, B], (Fraction(1, 2), [1.0]), TypeError, r"\(Fraction\): convert it with float"),
    "an empty array": (line, [A, B], (np.zeros(0), np.zeros(0)), ValueError, "batch is empty"),
    "masked numbers": (line, [A, B], (np.ma.array([1.0, 2.0], mask=[1, 0]), [1.0, 2.0]), ValueError, "masked"),
    "dicts of unequal size": (lookup, TABLE.parameters(), ({"a": [1.0], "b": [1.0, 2.0]},), ValueError, "b has 2"),
    "too few arrays": (line, [A, B], ([1.0],), TypeError, "1 array"),
    "too many arrays": (line, [A, B], ([1.0], [1.0], [1.0]), TypeError, "3 arrays"),
    "arrays for a function without arguments": (lambda: A * B, [A, B], ([1.0],), TypeError, "1 array"),
    "too short rows": (rows, MODEL.parameters(), (np.ones((2, 3)), [0, 1]), ValueError, "takes 2 inputs, got 3"),
    "several outputs": (lambda x: [A * x, B * x], [A, B], ([1.0],), TypeError, "predict"),
    "one output in a list": (lambda x: [A * x], [A], ([1.0],), TypeError, "predict"),
    "nothing returned": (lambda x: None, [A], ([1.0],), TypeError, "return"),
    "a text returned": (lambda x: "A", [A], ([1.0],), TypeError, "return"),
    "an index above the table": (lookup, TABLE.parameters(), ([0, 4],), IndexError, "4"),
    "an index between two rows": (lookup, TABLE.parameters(), ([0, 0.5],), IndexError, "0.5"),
    "an index below the table": (lookup, TABLE.parameters(), ([0, -1],), IndexError, "-1"),
    "a class above the last": (rows, MODEL.parameters(), (np.ones((2, 2)), [0, 2]), IndexError, "2"),
    "a class below the first": (rows, MODEL.parameters(), (np.ones((2, 2)), [-1, 0]), IndexError, "-1"),
    "a class above the last of log-probabilities": (
        lambda x, y: nn.nll(tg.log_softmax(MODEL(x)), y),
        MODEL.parameters(),
        (np.ones((2, 2)), [0, 7]),
        IndexError,
        "7",
    ),
}  # fmt: skip


@BACKENDS
@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_sentence_and_nothing_changed(name: str, backend: str) -> None:
    function, parameters, batch, error, match = REFUSED[name]
    everything = [A, B, UNUSED, *MODEL.parameters(), *TABLE.parameters()]
    for call in {"__call__", "value_and_grad", "backward", "predict"} - {match}:  # without the remedy
        step = tg.compile(function, parameters, backend=backend)
        with untouched(everything), pytest.raises(error, match=match) as caught:
            getattr(step, call)(*batch)
        message = str(caught.value.args[0])
        assert message.rstrip().endswith((".", "?")) or ":" in message
        assert "\n" not in message


def test_after_a_refusal_the_next_call_works() -> None:
    step = tg.compile(line, [A, B])
    with pytest.raises(ValueError, match="x has 2, t has 1"):
        step([1.0, 2.0], [0.0])
    for what in ("source", "groups"):
        with pytest.raises(RuntimeError, match="call"):
            getattr(step, what)
    assert step([1.0], [0.0]) == 25.0
    with step.arrays() as theta:
        theta[0] = 3.0
        with pytest.raises(ValueError, match="x has 2, t has 1"):
            step([1.0, 2.0], [0.0])
        assert step([1.0], [0.0]) == 36.0
    assert A.data == 3.0
    A.data = 2.0
    step = tg.compile(lookup, TABLE.parameters())
    fine = step([0, 3])
    with untouched(TABLE.parameters()), pytest.raises(IndexError, match="4"):
        step.backward([1, 4])
    assert step([0, 3]) == fine


@pytest.mark.parametrize(
    ("parameters", "options", "error", "match"),
    [
        ([], {}, ValueError, "parameters"),
        ([1.0, 2.0], {}, TypeError, "Value"),
        (["w"], {}, TypeError, "Value"),
        (None, {}, TypeError, "parameters|Value"),
        ([A], {"dtype": "float16"}, ValueError, "float16"),
        ([A], {"dtype": "int64"}, ValueError, "int64"),
        ([A], {"dtype": "real"}, ValueError, "real"),
        ([A], {"backend": "torch"}, ValueError, "torch"),
    ],
)
def test_compile_refuses_at_once(parameters: Any, options: Any, error: Any, match: str) -> None:
    with pytest.raises(error, match=match):
        tg.compile(lambda x: A * x, parameters, **options)


@BACKENDS
def test_a_parameter_without_use_has_gradient_zero_and_it_is_said_once(backend: str) -> None:
    step = tg.compile(line, [A, UNUSED, B], backend=backend)
    with pytest.warns(UserWarning, match=r"does not use 1 of the 3 parameters \(unused\): their gradient") as said:
        _, gradient = step.value_and_grad([1.0], [1.0])
    assert [warning.filename for warning in said] == [__file__]
    assert list(gradient) == [8.0, 0.0, 8.0]
    assert list(step.value_and_grad([1.0], [1.0])[1]) == [8.0, 0.0, 8.0]
    with step.arrays() as theta:
        assert step([1.0], [1.0]) == 16.0
        assert list(step.value_and_grad([1.0], [1.0])[1]) == [8.0, 0.0, 8.0]
        theta[1] = 9.0
    assert UNUSED.data == 9.0
    UNUSED.data = 1.0


@BACKENDS
@pytest.mark.parametrize("function", [lambda x: x * 2, lambda x: 1.0])
def test_a_function_that_uses_no_parameter_has_gradient_zero(function: Any, backend: str) -> None:
    with pytest.warns(UserWarning, match="does not use 1 of the 1 parameters"):
        value, gradient = tg.compile(function, [A], backend=backend).value_and_grad([0.5, 0.5])
    assert (value, list(gradient)) == (1.0, [0.0])


def test_a_parameter_whose_gradient_is_always_zero_is_in_use() -> None:
    step = tg.compile(lambda x: A * 0 + B * x + tg.relu(-(UNUSED * UNUSED)), [A, B, UNUSED])
    assert step.value_and_grad([2.0])[1].tolist() == [0.0, 2.0, 0.0]


@BACKENDS
def test_a_sum_of_more_terms_than_calls_may_be_nested(backend: str) -> None:
    def loss(x: Any) -> Value:
        y, terms = x * w, []
        for i in range(1200):
            y = (tg.sin, tg.tanh, tg.exp)[i * i % 7 % 3](0.1 * y + i % 5 * w)
            terms.append(y * w if i % 3 else y)
        return tg.sum(terms)

    w = Value(0.3)
    value, (slope,) = tg.compile(loss, [w], backend=backend, verify=False).value_and_grad([0.5])
    out = loss(0.5)
    out.backward()
    assert (value, slope) == pytest.approx((out.data, w.grad), rel=1e-12)
