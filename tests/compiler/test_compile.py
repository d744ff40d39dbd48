"""compile: what a compiled function can do, what it says of itself, and what it refuses.

That its numbers are the eager ones is tested in `test_compile_programs.py`, on programs of every form.
"""

import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim

X = np.random.default_rng(0).normal(size=(8, 6))
CLASSES = np.array([0, 2, 1, 1, 0, 2, 2, 1])
ONE_HOT = np.eye(3)[CLASSES]


class Line(nn.Module):
    """a x + b, whose gradients are known by heart."""

    def __init__(self) -> None:
        self.a, self.b = Value(2.0, label="a"), Value(1.0, label="b")

    def __call__(self, x: Any) -> Any:
        return self.a * x + self.b


def squared(model: Any) -> Callable[[Any, Any], Any]:
    return lambda x, t: (model(x) - t) ** 2


def classifier(n_inputs: int = 6, *widths: int) -> tuple[nn.MLP, Callable[[Any, Any], Value]]:
    model = nn.MLP(n_inputs, list(widths) or [5, 3], rng=0)

    def loss(x: Any, y: Any) -> Value:
        return nn.cross_entropy(model(x), y)

    return model, loss


def eager(loss: Any, parameters: list[Value]) -> list[float]:
    """Mean value and gradients over X and CLASSES, example by example."""
    rows = [loss(x, y) for x, y in zip(X, CLASSES.tolist(), strict=True)]
    return list(np.mean([[row.data, *tg.gradients(row, parameters)] for row in rows], axis=0))


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


def test_a_line_by_heart() -> None:
    model = Line()
    step = tg.compile(squared(model), model.parameters())
    value, gradients = step.value_and_grad([1.0, 2.0], [0.0, 5.0])  # 2x + 1 is off by 3 and by 0
    assert value == 4.5
    assert gradients.tolist() == [3.0, 3.0]  # the mean of 2 * error * x, and of 2 * error
    assert step([1.0, 2.0], [0.0, 5.0]) == 4.5
    assert tg.compile(model, model.parameters()).predict([1.0, 2.0]).tolist() == [3.0, 5.0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_types_and_shapes(dtype: str) -> None:
    model, loss = classifier()
    step = tg.compile(loss, model.parameters(), dtype)
    value, gradients = step.value_and_grad(X, CLASSES)
    assert type(value) is float
    assert type(step(X, CLASSES)) is float
    assert type(step.backward(X, CLASSES)) is float
    assert {type(p.grad) for p in model.parameters()} == {float}
    assert isinstance(gradients, np.ndarray)
    assert gradients.shape == (len(model.parameters()),)
    assert gradients.dtype == dtype
    outputs = tg.compile(model, model.parameters(), dtype).predict(X)
    assert isinstance(outputs, np.ndarray)
    assert outputs.shape == (8, 3)
    assert outputs.dtype == dtype


def test_gradients_come_in_the_order_of_the_parameters() -> None:
    model, loss = classifier()
    parameters = model.parameters()
    _, gradients = tg.compile(loss, parameters).value_and_grad(X, CLASSES)
    np.testing.assert_allclose(gradients, eager(loss, parameters)[1:], rtol=1e-12, atol=1e-14)
    order = np.random.default_rng(1).permutation(len(parameters))
    shuffled = [parameters[i] for i in order]
    _, permuted = tg.compile(loss, shuffled).value_and_grad(X, CLASSES)
    np.testing.assert_allclose(permuted, gradients[order], rtol=1e-12, atol=1e-14)


def test_some_parameters_may_be_left_out_and_stay_constants() -> None:
    model, loss = classifier()
    last = model.layers[1].parameters()
    with untouched(model.parameters()):
        value, gradients = tg.compile(loss, last).value_and_grad(X, CLASSES)
    expected = eager(loss, last)
    assert value == pytest.approx(expected[0], rel=1e-12)
    np.testing.assert_allclose(gradients, expected[1:], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "container", [tuple, iter, lambda ps: (p for p in ps)], ids=["tuple", "iterator", "generator"]
)
def test_parameters_may_come_in_any_iterable(container: Any) -> None:
    model = Line()
    step = tg.compile(squared(model), container(model.parameters()))
    assert step.value_and_grad([1.0], [0.0])[1].tolist() == [6.0, 6.0]
    assert step.value_and_grad([1.0], [0.0])[1].tolist() == [6.0, 6.0]


def test_a_list_of_parameters_that_changes_later_is_no_matter() -> None:
    model = Line()
    parameters = model.parameters()
    step = tg.compile(squared(model), parameters)
    parameters.append(Value(3.0))
    assert step.value_and_grad([1.0], [0.0])[1].tolist() == [6.0, 6.0]


def test_backward_adds_to_the_gradients_that_are_there() -> None:
    model = Line()
    step = tg.compile(squared(model), model.parameters())
    model.a.grad = 0.25
    assert step.backward([1.0], [0.0]) == 9.0
    assert (model.a.grad, model.b.grad) == (6.25, 6.0)
    step.backward([1.0], [0.0])
    assert (model.a.grad, model.b.grad) == (12.25, 12.0)
    assert (model.a.data, model.b.data) == (2.0, 1.0)


def test_all_but_backward_leave_gradients_alone() -> None:
    model, loss = classifier()
    step, predictor = tg.compile(loss, model.parameters()), tg.compile(model, model.parameters())
    with untouched(model.parameters()):
        step(X, CLASSES)
        step.value_and_grad(X, CLASSES)
        predictor.predict(X)
        assert step.source
        assert str(step.groups)


@pytest.mark.parametrize(
    "make",
    [lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9), lambda ps: optim.Adam(ps, lr=0.05)],
    ids=["SGD", "Adam"],
)
def test_an_eager_loop_works_unchanged(make: Any) -> None:
    def trained(compiled: bool) -> list[float]:
        model, loss = classifier()
        optimizer, step, numbers = make(model.parameters()), tg.compile(loss, model.parameters()), []
        for _ in range(15):
            optimizer.zero_grad()
            if compiled:
                numbers.append(step.backward(X, CLASSES))
            else:
                mean = nn.cross_entropy([model(x) for x in X], CLASSES)
                mean.backward()
                numbers.append(mean.data)
            optimizer.step()
        return [*numbers, *(p.data for p in model.parameters())]

    np.testing.assert_allclose(trained(True), trained(False), rtol=1e-9, atol=1e-12)


def test_a_forgotten_zero_grad_is_noticed_as_ever() -> None:
    model = Line()
    step, optimizer = tg.compile(squared(model), model.parameters()), optim.SGD(model.parameters(), lr=0.01)
    step.backward([1.0], [0.0])
    optimizer.step()
    step.backward([1.0], [0.0])
    with pytest.warns(UserWarning, match="call zero_grad"):
        optimizer.step()


def test_without_verification_the_numbers_are_the_same() -> None:
    model, loss = classifier()
    results = [tg.compile(loss, model.parameters(), verify=v).value_and_grad(X, CLASSES) for v in (True, False)]
    assert results[0][0] == results[1][0]
    assert results[0][1].tolist() == results[1][1].tolist()


# --- Functions of parameters alone, and many outputs ----------------------------------------------------------


def test_a_function_without_arguments() -> None:
    a, b = Value(3.0), Value(-1.0)
    step = tg.compile(lambda: a * a * b, [a, b])
    assert step() == -9.0
    value, gradients = step.value_and_grad()
    assert (value, gradients.tolist()) == (-9.0, [-6.0, 9.0])
    a.data = 2.0
    assert step.backward() == -4.0
    assert (a.grad, b.grad) == (-4.0, 4.0)


def test_a_result_without_the_batch_is_the_mean_of_itself() -> None:
    w = Value(3.0)
    step = tg.compile(lambda x: w * w, [w])
    for size in (1, 2, 5):
        assert step.value_and_grad(np.ones(size))[1].tolist() == [6.0]
        assert step.predict(np.ones(size)).tolist() == [9.0] * size


def test_predict_nests_as_the_function_does() -> None:
    w = Value(2.0)
    batch = np.arange(6.0).reshape(3, 2)

    def predict(function: Any) -> np.ndarray:
        result: np.ndarray = tg.compile(function, [w]).predict(batch)
        return result

    assert predict(lambda x: w * x[0]).tolist() == [0.0, 4.0, 8.0]
    assert predict(lambda x: [w * x[0]]).tolist() == [[0.0], [4.0], [8.0]]
    assert predict(lambda x: (w * x[1], w)).tolist() == [[2.0, 2.0], [6.0, 2.0], [10.0, 2.0]]
    nested = predict(lambda x: [[w, x[0], 5], [x[1], w * x[0], -0.5]])
    assert nested.shape == (3, 2, 3)
    assert nested[2].tolist() == [[2.0, 4.0, 5.0], [5.0, 8.0, -0.5]]


def test_predict_of_a_loss_is_the_loss_of_each_example() -> None:
    model, loss = classifier()
    step = tg.compile(loss, model.parameters())
    losses = step.predict(X, CLASSES)
    expected = [loss(x, y).data for x, y in zip(X, CLASSES.tolist(), strict=True)]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    assert step(X, CLASSES) == pytest.approx(losses.mean(), rel=1e-12)


def test_arguments_may_have_any_number_of_axes() -> None:
    w = Value(2.0)

    def function(a: Any, row: Any, table: Any) -> Any:
        assert [len(row), len(table), len(table[0])] == [2, 3, 2]
        return w * a + tg.dot(row, table[2]) + table[0][1]

    a, row, table = np.arange(4.0), np.ones((4, 2)), np.arange(24.0).reshape(4, 3, 2)
    expected = 2 * a + table[:, 2].sum(axis=1) + table[:, 0, 1]
    assert tg.compile(function, [w]).predict(a, row, table).tolist() == expected.tolist()


# --- Batches: what arrays are taken, and that they stay what they are -----------------------------------------


def strided(array: np.ndarray) -> np.ndarray:
    wide = np.zeros((2 * array.shape[0], 3 * array.shape[1]))
    wide[::2, ::3] = array
    return wide[::2, ::3]


@pytest.mark.parametrize(
    "given",
    [
        np.ndarray.tolist,
        np.asfortranarray,
        strided,
        lambda a: a[::-1][::-1],
        lambda a: a.astype(">f8"),
        list,
        tuple,
    ],
    ids=["lists", "columns first", "strided", "reversed", "other byte order", "list of arrays", "tuple of arrays"],
)
def test_a_batch_may_come_in_any_form(given: Any) -> None:
    model, loss = classifier()
    step = tg.compile(loss, model.parameters())
    value, gradients = step.value_and_grad(X, ONE_HOT)
    again, other = tg.compile(loss, model.parameters()).value_and_grad(given(X), given(ONE_HOT))
    assert again == pytest.approx(value, rel=1e-13)
    np.testing.assert_allclose(other, gradients, rtol=1e-12, atol=1e-14)
    assert step(given(X), given(ONE_HOT)) == pytest.approx(value, rel=1e-13)


@pytest.mark.parametrize("kind", ["int64", "int8", "uint8", "float32", "float16"])
def test_numbers_of_other_types_become_floats_before_anything_is_computed(kind: str) -> None:
    w = Value(1.0)
    step = tg.compile(lambda x: w * (x * x - 200), [w])
    assert step.predict(np.array([0, 10, 100], dtype=kind)).tolist() == [-200.0, -100.0, 9800.0]


def test_inputs_are_values_with_their_methods() -> None:
    w = Value(2.0)

    def function(x: Any, y: Any) -> Any:
        return w * x.exp() + y[0].tanh() + (y[1] ** 2).sin()

    x, y = np.array([0, 1]), np.array([[0.0, 1.0], [2.0, 3.0]])
    expected = 2 * np.exp(x) + np.tanh(y[:, 0]) + np.sin(y[:, 1] ** 2)
    np.testing.assert_allclose(tg.compile(function, [w]).predict(x, y), expected, rtol=1e-14)
    assert tg.compile(function, [w]).value_and_grad(x, y)[0] == pytest.approx(expected.mean(), rel=1e-14)


def test_one_array_may_be_given_twice() -> None:
    model = Line()
    x = np.array([1.0, 2.0])
    assert tg.compile(squared(model), model.parameters())(x, x) == np.mean((x + 1) ** 2)


def test_batches_are_read_only() -> None:
    model, loss = classifier()
    step, predictor = tg.compile(loss, model.parameters()), tg.compile(model, model.parameters())
    inputs, targets = X.copy(), ONE_HOT.copy()
    inputs.flags.writeable = targets.flags.writeable = False
    step.value_and_grad(inputs, targets)
    predictor.predict(inputs)
    writable = X.copy(), ONE_HOT.copy()
    step.backward(*writable)
    assert (writable[0] == X).all()
    assert (writable[1] == ONE_HOT).all()


def test_results_are_not_overwritten_by_the_next_call() -> None:
    model, loss = classifier()
    step, predictor = tg.compile(loss, model.parameters()), tg.compile(model, model.parameters())
    _, first = step.value_and_grad(X, CLASSES)
    outputs = predictor.predict(X)
    copies = first.copy(), outputs.copy()
    step.value_and_grad(2 * X, CLASSES[::-1])
    predictor.predict(2 * X)
    assert (first == copies[0]).all()
    assert (outputs == copies[1]).all()


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


def test_batches_of_any_size_one_after_the_other() -> None:
    model, loss = classifier()
    step = tg.compile(loss, model.parameters())
    for size in (8, 1, 3, 8, 2):
        value, gradients = step.value_and_grad(X[:size], CLASSES[:size])
        parts = [step.value_and_grad(X[i : i + 1], CLASSES[i : i + 1]) for i in range(size)]
        assert value == pytest.approx(np.mean([v for v, _ in parts]), rel=1e-12)
        np.testing.assert_allclose(gradients, np.mean([g for _, g in parts], axis=0), rtol=1e-11, atol=1e-14)


# --- One trace per shape; numbers are read anew ---------------------------------------------------------------


def test_the_function_is_traced_once_per_shape_of_an_example() -> None:
    w, calls = Value(2.0), []

    def function(x: Any) -> Any:
        calls.append(len(x))
        return w * tg.sum(x)

    step = tg.compile(function, [w])
    assert not calls
    assert step(np.ones((3, 2))) == 4.0
    traces = len(calls)
    for size in (3, 1, 5):
        step(np.ones((size, 2)))
        step.value_and_grad(np.ones((size, 2)))
        step.predict(np.ones((size, 2)))
        step.backward(np.ones((size, 2)))
    assert len(calls) <= traces + 2  # a form for gradients and one for outputs may be made apart
    traces = len(calls)
    assert step(np.ones((3, 4))) == 8.0
    assert len(calls) > traces
    assert calls[-1] == 4
    traces = len(calls)
    assert [step(np.ones((3, 2))), step(np.ones((3, 4)))] == [4.0, 8.0]
    assert len(calls) == traces


def test_parameters_are_read_anew_in_every_call() -> None:
    model = Line()
    step, predictor = tg.compile(squared(model), model.parameters()), tg.compile(model, model.parameters())
    assert (step([1.0], [0.0]), predictor.predict([1.0]).tolist()) == (9.0, [3.0])
    model.a.data = 5.0
    assert (step([1.0], [0.0]), predictor.predict([1.0]).tolist()) == (36.0, [6.0])
    model.b.data = -5.0
    assert step.value_and_grad([1.0], [2.0])[1].tolist() == [-4.0, -4.0]


def test_constants_are_read_anew_too() -> None:
    w, scale = Value(2.0), Value(3.0)
    step = tg.compile(lambda x: w * x * scale, [w])
    assert step([1.0]) == 6.0
    scale.data = 5.0
    assert step([1.0]) == 10.0
    assert step.value_and_grad([1.0])[1].tolist() == [5.0]
    assert scale.grad == 0.0


def test_two_compiled_functions_of_the_same_parameters() -> None:
    w = Value(2.0)
    first, second = tg.compile(lambda x: w * x, [w]), tg.compile(lambda x: w * w * x, [w])
    for _ in range(2):
        assert (first([3.0]), second([3.0])) == (6.0, 12.0)
        first.backward([3.0])
        second.backward([3.0])
    assert w.grad == 2 * (3.0 + 12.0)


def test_after_compiling_the_parameters_are_ordinary_values() -> None:
    model, loss = classifier()
    tg.compile(loss, model.parameters()).value_and_grad(X, CLASSES)
    assert {type(p) for p in model.parameters()} == {Value}
    loss(X[0], 1).backward()
    assert any(p.grad for p in model.parameters())


# --- Operands of different kinds ------------------------------------------------------------------------------


def test_a_class_index_picks_among_scores_of_different_kinds() -> None:
    """Of a fixed score, of two heads, of rows of which some are constants: and the index is checked."""
    one, other = nn.MLP(6, [1], "tanh", rng=0), nn.MLP(6, [1], rng=1)

    def loss(x: Any, y: Any) -> Value:
        return nn.cross_entropy([0.0, one(x), other(x).tanh()], y)

    parameters = one.parameters() + other.parameters()[2:]
    for backend in ("numpy", "python"):
        step = tg.compile(loss, parameters, backend=backend)
        value, gradients = step.value_and_grad(X.tolist(), CLASSES.tolist())
        np.testing.assert_allclose([value, *gradients], eager(loss, parameters), rtol=1e-13)
    with pytest.raises(IndexError, match="y has the indices 0 to 2, got 3"):
        tg.compile(loss, parameters).value_and_grad(X, CLASSES + 1)


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_an_argument_may_hold_an_index_and_numbers(backend: str) -> None:
    table, w = nn.Embedding(3, 2, rng=0), Value(0.5)
    step = tg.compile(lambda x: tg.dot(table(x[0]), [w * x[1], x[2]]), [*table.parameters(), w], backend=backend)
    value, gradients = step.value_and_grad([[2, 0.7, -0.3], [0, 1.4, 0.6]])
    (a, b), (c, d) = ([v.data for v in table.W[i]] for i in (2, 0))
    assert value == pytest.approx((a * 0.5 * 0.7 - b * 0.3 + c * 0.5 * 1.4 + d * 0.6) / 2)
    assert gradients[-1] == pytest.approx((a * 0.7 + c * 1.4) / 2)


def test_an_embedding_of_which_some_rows_are_learned() -> None:
    table = nn.Embedding(4, 2, rng=0)
    parameters = table.parameters()[2:]
    step = tg.compile(lambda i: tg.sum([a * a * a for a in table(i)]), parameters)
    value, gradients = step.value_and_grad([0, 1, 3])
    assert value == pytest.approx(sum(w.data**3 for i in (0, 1, 3) for w in table.W[i]) / 3)
    np.testing.assert_allclose(gradients, [w.data**2 * (i != 2) for i in (1, 2, 3) for w in table.W[i]])


@pytest.mark.parametrize("width", [2, 40])
@pytest.mark.parametrize("z", [0.0, -10.0, -16.0, -30.0, -40.0, -700.0, 5.0, math.inf, -math.inf, math.nan])
def test_the_loss_beside_a_score_of_zero_is_not_rounded_away(z: float, width: int) -> None:
    w = Value(1.0)
    for scores in (lambda x: [0.0, *[w * a for a in x]], lambda x: [w * a for a in x]):
        x = [z] * (width - 1) if len(scores([])) else [0.0] + [z] * (width - 1)
        out = tg.logsumexp(*scores(x))
        step = tg.compile(lambda x, scores=scores: tg.logsumexp(*scores(x)), [w])
        np.testing.assert_allclose(step.predict([x, x]), [out.data] * 2, rtol=1e-14)


# --- Names ------------------------------------------------------------------------------------------------------

HARD_NAMES = (
    "t1 t2 index_1 numbers numbers_1 mask_2 softmax_1 A1 Z1 W1 dW1 b1 db1 dt1 float buffers gradient B run np out"
)


@pytest.mark.parametrize("name", HARD_NAMES.split())
def test_names_of_arguments_and_labels_do_not_get_in_the_way_of_the_source(name: str) -> None:
    model, t = nn.MLP(3, [4, 3], "tanh", rng=0), Value(0.3, label=name)
    namespace: dict[str, Any] = {"nn": nn, "tg": tg, "model": model, "t": t}
    scores = "[tg.silu(z * t) + 0.1 * z for z in model(x)]"
    source = f"lambda x, {name}: nn.cross_entropy({scores}, [{name}[i] for i in (2, 0, 1)])"
    loss, parameters = eval(source, namespace), [*model.parameters(), t]
    rows, targets = X[:, :3].copy(), np.random.default_rng(1).dirichlet([1, 1, 1], 8)
    kept, step = targets.copy(), tg.compile(loss, parameters)
    for size in (1, 8):
        value, gradients = step.value_and_grad(rows[:size], targets[:size])
        values = [loss(*row) for row in zip(rows[:size].tolist(), targets[:size].tolist(), strict=True)]
        expected = np.mean([[v.data, *tg.gradients(v, parameters)] for v in values], axis=0)
        np.testing.assert_allclose([value, *gradients], expected, rtol=1e-11, atol=1e-13)
    np.testing.assert_array_equal(targets, kept)


# --- Rows that add up to 1 --------------------------------------------------------------------------------------


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


# --- Values from outside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_value_computed_outside_is_a_constant_that_is_watched(backend: str) -> None:
    w, a = Value(2.0), Value(1.0)
    c = a * 3
    step = tg.compile(lambda x: w * x * c, [w], backend=backend)
    assert step.value_and_grad([1.0])[0] == 6.0
    assert (w.grad, a.grad, c.grad) == (0.0, 0.0, 0.0)
    c.data = 10.0
    assert step.value_and_grad([1.0])[0] == 20.0


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_value_computed_outside_from_a_parameter_is_refused(backend: str) -> None:
    w = Value(2.0, label="w")
    c = w * 3
    with pytest.raises(ValueError, match=r"computed outside of it from the parameter w: compute it inside"):
        tg.compile(lambda x: w * x + c, [w], backend=backend).value_and_grad([1.0])


def test_a_generator_is_a_list_of_results() -> None:
    w = Value(2.0)
    np.testing.assert_array_equal(
        tg.compile(lambda x: ((w * a).tanh() * 0 + w * a for a in x), [w]).predict(np.ones((2, 3))),
        np.full((2, 3), 2),
    )
    assert type(w) is Value
    assert tg.compile(lambda x: map(w.__mul__, x), [w]).predict(np.ones((2, 3))).tolist() == [[2.0] * 3] * 2


# --- Threads ----------------------------------------------------------------------------------------------------


def test_threads_wait_for_each_other() -> None:
    model, loss = classifier(6, 32, 3)
    step = tg.compile(loss, model.parameters())
    batches = [(np.tile(X, (20, 1)) * s, np.tile(ONE_HOT, (20, 1))) for s in (1.0, -1.0)]
    expected = [step.value_and_grad(*batch) for batch in batches]

    def repeat(i: int) -> bool:
        results = [step.value_and_grad(*batches[i]) for _ in range(150)]
        return all(value == expected[i][0] and (g == expected[i][1]).all() for value, g in results)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(repeat, (0, 1))) == [True, True]


# --- arrays(): the parameters as one array --------------------------------------------------------------------


def test_arrays_hold_the_parameters_and_are_written_back() -> None:
    model, loss = classifier()
    parameters = model.parameters()
    step = tg.compile(loss, parameters)
    before = [p.data for p in parameters]
    with step.arrays() as theta:
        assert isinstance(theta, np.ndarray)
        assert theta.tolist() == before
        theta[:] = np.linspace(-1, 1, len(theta))
    assert [p.data for p in parameters] == np.linspace(-1, 1, len(before)).tolist()
    assert {type(p.data) for p in parameters} == {float}
    assert {p.grad for p in parameters} == {0.0}


def test_calls_inside_arrays_read_what_stands_there() -> None:
    model = Line()
    step = tg.compile(lambda x: model(x) ** 2, model.parameters())
    with step.arrays() as theta:
        assert step([1.0]) == 9.0
        theta[0] = 4.0
        assert step([1.0]) == 25.0
        theta += 1
        assert step.predict([1.0]).tolist() == [49.0]
        assert step.value_and_grad([1.0])[1].tolist() == [14.0, 14.0]
    assert (model.a.data, model.b.data) == (5.0, 2.0)
    model.a.data = 0.0
    assert step([1.0]) == 4.0


def test_training_in_arrays_is_training() -> None:
    def trained(in_arrays: bool) -> list[float]:
        model, loss = classifier()
        step = tg.compile(loss, model.parameters())
        if in_arrays:
            with step.arrays() as theta:
                for _ in range(10):
                    theta -= 0.1 * step.value_and_grad(X, CLASSES)[1]
        else:
            for _ in range(10):
                for p, g in zip(model.parameters(), step.value_and_grad(X, CLASSES)[1], strict=True):
                    p.data -= 0.1 * float(g)
        return [p.data for p in model.parameters()]

    np.testing.assert_allclose(trained(True), trained(False), rtol=1e-12)


def test_what_was_learned_is_written_back_when_an_exception_ends_it() -> None:
    model = Line()
    step = tg.compile(model, model.parameters())

    def interrupted() -> None:
        with step.arrays() as theta:
            theta[:] = [7.0, 8.0]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (model.a.data, model.b.data) == (7.0, 8.0)
    assert step([1.0]) == 15.0


def test_a_refused_call_inside_arrays_leaves_them_usable() -> None:
    model = Line()
    step = tg.compile(squared(model), model.parameters())
    with step.arrays() as theta:
        theta[0] = 3.0
        with pytest.raises(ValueError, match="x has 2, t has 1"):
            step([1.0, 2.0], [0.0])
        assert step([1.0], [0.0]) == 16.0
    assert model.a.data == 3.0


def test_arrays_before_any_call_and_again() -> None:
    model = Line()
    step = tg.compile(model, model.parameters())
    for _ in range(2):
        with step.arrays() as theta:
            theta *= 2
    assert (model.a.data, model.b.data) == (8.0, 4.0)
    assert step([1.0]) == 12.0


def test_arrays_of_single_precision() -> None:
    model = Line()
    step = tg.compile(model, model.parameters(), "float32")
    with step.arrays() as theta:
        assert theta.dtype == np.float32
        theta[0] = 0.1
    assert type(model.a.data) is float
    assert model.a.data == float(np.float32(0.1))


def test_the_vector_of_a_block_that_is_left_keeps_its_numbers() -> None:
    a = Value(1.0)
    step = tg.compile(lambda x: a * x, [a])
    with step.arrays() as theta:
        theta[0] = 5.0
        assert step([1.0]) == 5.0
    a.data = 7.0
    assert step([1.0]) == 7.0
    assert theta == [5.0]


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


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_number_that_is_set_inside_arrays_is_not_lost_in_silence(backend: str) -> None:
    a, b = Value(1.0, label="a"), Value(2.0, label="b")
    step = tg.compile(lambda x: a * x + b, [a, b], backend=backend)

    def trained(error: bool) -> None:
        with step.arrays() as theta:
            theta[0] = 5.0
            b.data = 9.0
            if error:
                raise KeyError

    said = r"b.data = 9.0 was set inside arrays\(\), 1 parameter\(s\) in all.*b has 2.0 again"
    with pytest.raises(RuntimeError, match=said):
        trained(False)
    assert (a.data, b.data) == (5.0, 2.0)
    with pytest.raises(KeyError) as caught:
        trained(True)
    assert re.search(said, caught.value.__notes__[0])
    with step.arrays():
        a.data = 5.0  # the number that it had
        step.value_and_grad([1.0])
    with step.arrays() as theta:
        theta[0] = 6.0
        step.write_back()
        assert a.data == 6.0
    assert step.value_and_grad([0.0])[0] == 2.0


# --- Source and groups ----------------------------------------------------------------------------------------


def squeezed(text: str) -> str:
    return re.sub(r"[ \t]", "", text)


def test_the_source_of_a_classifier_has_the_textbooks_equations() -> None:
    model, loss = classifier()
    step = tg.compile(loss, model.parameters())
    step.value_and_grad(X, ONE_HOT)
    lines = squeezed(step.source).splitlines()

    def some(*parts: str) -> bool:
        return any(all(part in line for part in parts) for line in lines)

    assert some("Z1=X@W1.T+b1")
    assert some("(Z1>0)")
    assert some("Z2=A1@W2.T+b2")
    assert some("dZ2=(A2-Y)/B")
    assert some("dW2", "dZ2", "A1")
    assert some("db2", "dZ2")
    assert some("dZ1", "(Z1>0)")
    assert some("dZ2", "W2")
    assert some("dW1", "dZ1", "X")
    assert some("db1", "dZ1")


def test_the_source_says_which_shapes_its_arrays_have() -> None:
    model, loss = classifier()
    step = tg.compile(loss, model.parameters())
    step.value_and_grad(X, ONE_HOT)
    comments = "".join(squeezed(line).partition("#")[2] for line in step.source.splitlines())
    assert "(B,5)" in comments
    assert "(B,3)" in comments
    assert "(5,6)" in comments
    assert "(3,5)" in comments


def test_the_source_is_the_same_on_every_run_and_for_every_batch_size() -> None:
    sources = []
    for size in (8, 3, 8):
        model, loss = classifier()
        step = tg.compile(loss, model.parameters())
        step.value_and_grad(X[:size], ONE_HOT[:size])
        sources.append(step.source)
    assert sources[0] == sources[1] == sources[2]


def test_the_source_does_not_grow_with_the_network() -> None:
    lengths = []
    for widths in ([5, 3], [17, 3]):
        model, loss = classifier(6, *widths)
        step = tg.compile(loss, model.parameters())
        step.value_and_grad(X, ONE_HOT)
        lengths.append(len(step.source.splitlines()))
    assert lengths[0] == lengths[1] < 100


@pytest.mark.parametrize("what", ["source", "groups"])
def test_before_the_first_call_there_is_no_source(what: str) -> None:
    model = Line()
    with pytest.raises(RuntimeError, match="call"):
        getattr(tg.compile(model, model.parameters()), what)


def test_a_failed_call_does_not_make_a_source() -> None:
    w = Value(1.0)
    step = tg.compile(lambda x: w * x[0], [w])
    with pytest.raises(TypeError):
        step([1.0])
    with pytest.raises(RuntimeError, match="call"):
        _ = step.source


def found(step: Any) -> tuple[int, int, int]:
    """Nodes, groups and matrix products, as the table says."""
    match = re.search(r"([\d,]+) nodes -> ([\d,]+) groups?, (\w+) matrix products?", str(step.groups))
    assert match, str(step.groups)
    nodes, groups, products = (0 if part == "no" else int(part.replace(",", "")) for part in match.groups())
    return nodes, groups, products


def test_a_classifier_is_two_matrix_products_whatever_its_size() -> None:
    seen = []
    for n_inputs, *widths in ([6, 5, 3], [20, 15, 10]):
        model, loss = classifier(n_inputs, *widths)
        step = tg.compile(loss, model.parameters())
        step.value_and_grad(np.ones((2, n_inputs)), np.eye(widths[-1])[:2])
        seen.append(found(step))
    (nodes, groups, products), (more, same, twice) = seen
    assert (groups, products) == (same, twice)
    assert products == 2
    assert groups < 20
    assert nodes > 2 * 6 * 5  # a product and a sum for each weight, at least
    assert more > 2 * 20 * 15


@pytest.mark.parametrize(
    ("make", "products"),
    [
        (lambda w: lambda x: tg.tanh(w[0] * x[0]) + w[1] * w[2], 0),
        (lambda w: lambda x: tg.sum([tg.tanh(w[i] * x[0] + w[i + 3] * x[1]) for i in range(3)]), 1),
        (lambda w: lambda x: tg.sum([tg.dot(w[:3], x[i : i + 3]).tanh() for i in range(2)]), 1),
    ],
    ids=["none", "a layer, columns apart", "a filter"],
)
def test_matrix_products_are_found(make: Any, products: int) -> None:
    w = [Value(0.1 * i) for i in range(6)]
    function = make(w)
    used = set(tg.topological_order(function([0.1, 0.2, 0.3, 0.4])))
    step = tg.compile(function, [p for p in w if p in used])
    step.value_and_grad(X[:, :4])
    assert found(step)[2] == products


def test_groups_print_as_a_table() -> None:
    model, loss = classifier(20, 15, 10)
    step = tg.compile(loss, model.parameters())
    step.value_and_grad(np.ones((2, 20)), np.eye(10)[:2])
    lines = str(step.groups).splitlines()
    assert len(lines) > found(step)[1]
    assert max(map(len, lines)) <= 120
    assert not any(line != line.rstrip() for line in lines)


def test_the_source_has_no_blanks_at_the_ends_of_lines() -> None:
    model, loss = classifier()
    step = tg.compile(loss, model.parameters())
    step.value_and_grad(X, ONE_HOT)
    assert all(line == line.rstrip() for line in step.source.splitlines())


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
def test_outside_a_domain_there_is_inf_or_nan_and_no_error(function: Any, x: Any, expected: Any) -> None:
    step = tg.compile(function, [W])
    assert np.array_equal(step.predict(np.array(x)), expected, equal_nan=True)
    value, gradients = tg.compile(function, [W]).value_and_grad(np.array(x))  # also as the first call
    with np.errstate(all="ignore"):
        assert np.array_equal(value, np.mean(expected), equal_nan=True)
    assert gradients.shape == (1,)


@pytest.mark.parametrize("x", [math.nan, math.inf, -math.inf, 5e-324, -5e-324, 0.0, -0.0, 1e308, -2.0])
@pytest.mark.parametrize("function", [tg.relu, lambda x: tg.max(x, 0.5), lambda x: tg.leaky_relu(x, alpha=0.1)])
def test_slopes_at_kinks_and_out_of_range_are_the_eager_ones(function: Any, x: float) -> None:
    w = Value(1.0)
    out = function(w * x)
    expected = [out.data, *tg.gradients(out, [w])]
    value, gradients = tg.compile(lambda x: function(w * x), [w], verify=False).value_and_grad([x])
    assert np.array_equal([value, *gradients], expected, equal_nan=True)


@pytest.mark.parametrize("lowest", [-79.0, -81.0, -708.0, -744.0])
def test_sigmoid_keeps_its_digits_in_both_tails(lowest: float) -> None:
    x = np.concatenate([np.linspace(lowest, 40.0, 60), np.linspace(-2.0, 2.0, 20), [700.0]])
    got = tg.compile(lambda x: tg.sigmoid(W * x), [W]).predict(x)
    np.testing.assert_allclose(got, [tg.sigmoid(Value(a)).data for a in x], rtol=1e-15)


def test_an_example_out_of_range_leaves_the_others_alone() -> None:
    step = tg.compile(lambda x: [tg.log(W * a) for a in x], [W])
    out = step.predict(np.array([[1.0, -1.0], [math.e, 1.0]]))
    assert np.isnan(out[0, 1])
    assert out[1].tolist() == [1.0, 0.0]
    assert out[0, 0] == 0.0


def test_a_gradient_at_the_end_of_a_domain() -> None:
    assert tg.compile(lambda x: tg.sqrt(W * x), [W]).value_and_grad([0.0])[0] == 0.0
    w = Value(0.0)
    assert tg.compile(lambda: tg.sqrt(w), [w]).value_and_grad()[1].tolist() == [math.inf]


# --- The comparison with the eager function before first use ------------------------------------------------

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


def test_outputs_that_cancel_are_no_disagreement() -> None:
    step = tg.compile(lambda x, t: [tg.dot(V, x) - t, V[0] * x[0] - V[0] * x[0]], V)
    np.testing.assert_allclose(step.predict([AT, AT], [TARGET, TARGET]), 0, atol=1e-15)


def test_outputs_that_are_zero_but_for_rounding_are_no_disagreement() -> None:
    def deviations(x: Any) -> Any:
        z = [v * n for v, n in zip(V, x, strict=True)]
        mean = tg.sum(z) / 3
        return [tg.sum([a - mean for a in z])]

    np.testing.assert_allclose(tg.compile(deviations, V).predict(X[:, :3]), 0, atol=1e-15)


def test_training_may_begin_where_it_has_ended() -> None:
    model = nn.MLP(6, [5, 3], "tanh", rng=0)
    targets = [[output.data for output in model(x)] for x in X]
    step = tg.compile(lambda x, t: nn.mse(model(x), t), model.parameters())
    value, gradients = step.value_and_grad(X, targets)
    assert value < 1e-30
    assert abs(gradients).max() < 1e-14


# --- Large graphs ---------------------------------------------------------------------------------------------


def test_deep_chains_do_not_recurse() -> None:
    w = Value(1.0, label="w")

    def chain(x: Any) -> Any:
        for _ in range(5000):
            x = x + w
        return x

    assert tg.compile(chain, [w]).value_and_grad([2.0])[0] == 5002.0


def test_deep_chains_of_different_operations() -> None:
    w = Value(0.0, label="w")

    def chain(x: Any) -> Any:
        for _ in range(600):
            x = tg.sin(x) + w
        return x

    value, gradients = tg.compile(chain, [w]).value_and_grad([0.5])
    w.grad = 0.0
    root = chain(Value(0.5))
    root.backward()
    assert value == pytest.approx(root.data, rel=1e-12)
    assert gradients[0] == pytest.approx(w.grad, rel=1e-11)


# --- The Python backend ---------------------------------------------------------------------------------------


def test_the_python_backend_is_for_one_point_many_times() -> None:
    a, b = Value(3.0, label="a"), Value(-1.0, label="b")
    step = tg.compile(lambda: a * a * b, [a, b], backend="python")
    value, gradients = step.value_and_grad()
    assert (value, gradients) == (-9.0, [-6.0, 9.0])
    assert type(gradients) is list
    assert [type(value), *map(type, gradients)] == [float] * 3
    a.data = 2.0
    assert step() == -4.0
    assert step.backward() == -4.0
    assert (a.grad, b.grad) == (-4.0, 4.0)
    assert "numpy" not in step.source


def test_the_python_backend_takes_batches() -> None:
    model, loss = classifier()
    parameters = model.parameters()
    value, gradients = tg.compile(loss, parameters, backend="python").value_and_grad(X.tolist(), CLASSES.tolist())
    np.testing.assert_allclose([value, *gradients], eager(loss, parameters), rtol=1e-12, atol=1e-14)
    again, same = tg.compile(loss, parameters, backend="python").value_and_grad(X, CLASSES)
    assert (again, same) == (value, gradients)


# --- What is refused: what needs the number of a placeholder --------------------------------------------------


def branches(w: Any, x: Any) -> Any:
    y = w * x
    if y > 0:  # here
        return y
    return -y


def branches_on_a_parameter(w: Any, x: Any) -> Any:
    return x * w if w > 0 else x  # here


def equals(w: Any, x: Any) -> Any:
    return w * x if x == 1 else -w * x  # here


def is_one_of(w: Any, x: Any) -> Any:
    return w * x if x in (0, 1) else -w * x  # here


def loops(w: Any, x: Any) -> Any:
    while w * x > 1:  # here
        x = x / 2
    return w * x


def is_it_zero(w: Any, x: Any) -> Any:
    return w if x else x  # here


def asserts(w: Any, x: Any) -> Any:
    assert x < 3  # here
    return w * x


def combines(w: Any, x: Any) -> Any:
    return tg.where(x > 0 and x < 1, w, x)  # here


def reads_data(w: Any, x: Any) -> Any:
    return w * x.data  # here


def reads_the_data_of_a_parameter(w: Any, x: Any) -> Any:
    scale = abs(w.data)  # here
    return w * x / scale


def reads_grad(w: Any, x: Any) -> Any:
    return w * x + w.grad  # here


def takes_a_float(w: Any, x: Any) -> Any:
    return w * float(x)  # here


def takes_math(w: Any, x: Any) -> Any:
    y = w * x
    return math.exp(y)  # here


def takes_pythons_max(w: Any, x: Any) -> Any:
    return max(w, x)  # here


def sorts(w: Any, x: Any) -> Any:
    return sorted([w * x, x])[0]  # here


def indexes(w: Any, x: Any) -> Any:
    return w * [1, 2, 3][x]  # here


def counts(w: Any, x: Any) -> Any:
    return w * sum(1 for _ in range(x))  # here


def rounds(w: Any, x: Any) -> Any:
    return w * round(x)  # here


def runs_backward(w: Any, x: Any) -> Any:
    y = w * x
    y.backward()  # here
    return y


ONE_SIDE = [  # they compile for examples that agree: see test_examples.py
    branches, branches_on_a_parameter, is_it_zero, asserts, combines, reads_data, reads_the_data_of_a_parameter,
    takes_pythons_max, sorts,
]  # fmt: skip
REFUSED = [
    equals, is_one_of, loops, reads_grad, takes_a_float, takes_math, indexes, counts, rounds, runs_backward,
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "backend"),
    [(f, "numpy") for f in REFUSED] + [(f, "python") for f in ONE_SIDE + REFUSED],
)
def test_what_needs_a_number_is_refused_with_its_line(function: Any, backend: str) -> None:
    w = Value(1.5, label="w")
    step = tg.compile(lambda x: function(w, x), [w], backend=backend)
    lines, start = inspect.getsourcelines(function)
    here = start + next(i for i, line in enumerate(lines) if "# here" in line)
    with untouched([w]), pytest.raises(tg.TraceError, match=rf"line {here}\b") as error:
        step.value_and_grad([1.0, 2.0])
    assert isinstance(error.value, TypeError)
    assert __file__ in str(error.value)
    with untouched([w]), pytest.raises(tg.TraceError, match=rf"line {here}\b"):
        step.predict([1.0, 2.0])


def test_what_depends_on_constants_may_branch() -> None:
    w, scale = Value(2.0, label="w"), Value(3.0)

    def function(x: Any, kind: str = "plain") -> Any:
        if len(x) > 2 and scale > 1 and kind == "plain":
            return w * x[0] * scale.data
        return w

    step = tg.compile(function, [w])
    assert step(np.ones((1, 3))) == 6.0
    assert step(np.ones((1, 2))) == 2.0


def test_dropout_is_refused_in_training_only() -> None:
    model = nn.Sequential(nn.Dense(6, 3, rng=0), nn.Dropout(0.5, rng=0))
    with untouched(model.parameters()), pytest.raises(TypeError, match="Dropout"):
        tg.compile(model, model.parameters()).predict(X)
    model.eval()
    expected = X @ [[w.data for w in row] for row in model.layers[0].W]
    np.testing.assert_allclose(tg.compile(model, model.parameters()).predict(X), expected, rtol=1e-12)


def test_batch_norm_is_refused_in_training_and_remembers_nothing() -> None:
    model = nn.Sequential(nn.Dense(6, 2, rng=0), nn.BatchNorm(2))
    norm = model.layers[1]
    batches = np.stack([X, X])
    with untouched(model.parameters()), pytest.raises(tg.TraceError, match="float"):
        tg.compile(model, model.parameters()).predict(batches)
    assert (norm.running_mean, norm.running_var) == ([0.0, 0.0], [1.0, 1.0])
    model.eval()
    assert tg.compile(model, model.parameters()).predict(batches).shape == (2, 8, 2)


def test_the_functions_own_errors_come_through() -> None:
    w = Value(1.0)

    def function(x: Any) -> Any:
        raise KeyError(f"{len(x)} is not known")

    with untouched([w]), pytest.raises(KeyError, match="2 is not known"):
        tg.compile(function, [w])(np.ones((3, 2)))


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
    "texts": (line, [A, B], (["a", "b"], [1.0, 2.0]), TypeError, "number"),
    "objects": (line, [A, B], (np.array([None, 1.0]), [1.0, 2.0]), TypeError, "number"),
    "dicts": (line, [A, B], ({"x": 1.0}, [1.0]), ValueError, "x\\['x'\\] is a single number"),
    "None": (line, [A, B], (None, [1.0]), TypeError, "number"),
    "Values": (line, [A, B], ([Value(1.0)], [1.0]), TypeError, "number"),
    "complex numbers": (line, [A, B], (np.array([1j]), [1.0]), TypeError, "number|complex"),
    "dates": (line, [A, B], (np.array(["2026-01-01"], dtype="datetime64[D]"), [1.0]), TypeError, "number"),
    "too few arrays": (line, [A, B], ([1.0],), TypeError, "1 array"),
    "too many arrays": (line, [A, B], ([1.0], [1.0], [1.0]), TypeError, "3 arrays"),
    "arrays for a function without arguments": (lambda: A * B, [A, B], ([1.0],), TypeError, "1 array"),
    "too short rows": (rows, MODEL.parameters(), (np.ones((2, 3)), [0, 1]), ValueError, "takes 2 inputs, got 3"),
    "several outputs": (lambda x: [A * x, B * x], [A, B], ([1.0],), TypeError, "predict"),
    "one output in a list": (lambda x: [A * x], [A], ([1.0],), TypeError, "predict"),
    "nothing returned": (lambda x: None, [A], ([1.0],), TypeError, "return"),
    "a text returned": (lambda x: "A", [A], ([1.0],), TypeError, "return"),
    "an index above the table": (lookup, TABLE.parameters(), ([0, 4],), IndexError, "4"),
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


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("call", ["__call__", "value_and_grad", "backward"])
def test_refused_with_a_sentence_and_nothing_changed(name: str, call: str) -> None:
    function, parameters, batch, error, match = REFUSED[name]
    step = tg.compile(function, parameters)
    everything = [A, B, UNUSED, *MODEL.parameters(), *TABLE.parameters()]
    with untouched(everything), pytest.raises(error, match=match) as caught:
        getattr(step, call)(*batch)
    message = str(caught.value.args[0])
    assert message.rstrip().endswith((".", "?")) or ":" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([Value(1.0)], r"got Value\(.*\) \(Value\): take its .data, as in \[v.data for v in row\]"),
        ([[1.0, Value(1.0)]], r"\(Value\): take its .data"),
        (Value(1.0), r"\(Value\): take its .data"),
        ({"x": 1.0}, r"got {'x': 1.0} \(dict\): give its numbers as a list, list\(d.values\(\)\)"),
        ([{"x": 1.0}], r"got {'x': 1.0} \(dict\)"),
        (["1"], r"got '1' \(str\): convert it with float\(\)"),
        (None, r"got None \(NoneType\)"),
        (np.array([1j]), r"got 1j \(complex\): take .real or .imag"),
    ],
)
@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_what_holds_no_numbers_is_refused_with_advice_that_works(given: Any, match: str, backend: str) -> None:
    if "dict" in match and backend == "numpy":
        return  # an example may be a dict there
    with pytest.raises(TypeError, match=f"x must hold real numbers, .*{match}"):
        tg.compile(lambda x: A * tg.sum([x]), [A], backend=backend).predict(given)


@pytest.mark.parametrize(
    ("batch", "error", "match"),
    [
        (([1.0, 2.0], [1.0]), ValueError, "x has 2, t has 1"),
        (([], []), ValueError, "empty"),
        ((["a"], [1.0]), TypeError, "number"),
    ],
)
def test_predict_and_the_python_backend_refuse_the_same(batch: Any, error: Any, match: str) -> None:
    for backend in ("numpy", "python"):
        with untouched([A, B]), pytest.raises(error, match=match):
            tg.compile(line, [A, B], backend=backend).predict(*batch)


def test_a_wrong_shape_is_the_models_own_error_with_the_shapes_beside_it() -> None:
    step = tg.compile(lambda x: MODEL(x), MODEL.parameters())
    with pytest.raises(ValueError, match="takes 2 inputs, got 3") as caught:
        step.predict(np.ones((5, 3)))
    assert any("(3,)" in note and "batch" in note for note in caught.value.__notes__)


def test_after_a_refusal_the_next_call_works() -> None:
    step = tg.compile(line, [A, B])
    assert step([1.0], [0.0]) == 25.0
    with pytest.raises(ValueError, match="x has 2, t has 1"):
        step([1.0, 2.0], [0.0])
    assert step([1.0], [0.0]) == 25.0


def test_an_index_out_of_range_is_refused_whichever_call_it_comes_in() -> None:
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


@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_parameter_without_use_has_gradient_zero_and_it_is_said_once(backend: str) -> None:
    step = tg.compile(line, [A, UNUSED, B], backend=backend)
    with pytest.warns(
        UserWarning, match=r"does not use 1 of the 3 parameters \(unused\): their gradient is 0.0"
    ) as said:
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


@pytest.mark.parametrize("backend", ["numpy", "python"])
@pytest.mark.parametrize("function", [lambda x: x * 2, lambda x: 1.0])
def test_a_function_that_uses_no_parameter_has_gradient_zero(function: Any, backend: str) -> None:
    with pytest.warns(UserWarning, match="does not use 1 of the 1 parameters"):
        value, gradient = tg.compile(function, [A], backend=backend).value_and_grad([0.5, 0.5])
    assert (value, list(gradient)) == (1.0, [0.0])


def test_a_parameter_whose_gradient_is_always_zero_is_in_use() -> None:
    step = tg.compile(lambda x: A * 0 + B * x + tg.relu(-(UNUSED * UNUSED)), [A, B, UNUSED])
    assert step.value_and_grad([2.0])[1].tolist() == [0.0, 2.0, 0.0]


def test_no_warnings_escape() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tg.compile(lambda x: tg.exp(W * x) / tg.log(x), [W]).value_and_grad(np.array([1.0, 0.0, 1e9]))


def test_trace_error_is_a_type_error_of_this_package() -> None:
    assert issubclass(tg.TraceError, TypeError)
    assert {"compile", "TraceError"} <= set(dir(tg))
