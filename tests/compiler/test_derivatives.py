"""Derivatives of compiled functions: per example, of every output, by inputs, and of second order."""

import math
import random
import re
from typing import Any

import numpy as np
import pytest
from cases import refused
from programs import CASES, unlabelled
from recurrences import LOOPS, flat

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.compiler.run import derivatives

NAMES = [
    *("cross_entropy_one_hot", "moons_with_hinge_and_weight_decay", "normalised_rows", "attention_of_two_heads"),
    *("a_small_convolutional_network", "attention_causal", "mean_of_embeddings", "recurrence_with_gates"),
    *("parameters_only", "one_constant_batch_in_the_graph", "two_heads", "triangular_matrix"),
    "a_number_and_the_square_that_divides_it",  # the gradient of the number is added to
    "a_descent_of_eight_steps",  # np.negative in place is wrong for numbers 64 bytes from each other
]


def slopes_by_differences(f: Any, theta: Any, h: float = 1e-5) -> Any:
    """The derivatives of f(theta): one more axis, at the end."""
    steps = h * np.eye(len(theta))
    return np.stack([(f(theta + step) - f(theta - step)) / (2 * h) for step in steps], axis=-1)


def small(x: Any) -> float:
    return 1e-6 * max(1.0, float(np.abs(x).max()))


@pytest.mark.parametrize("name", NAMES)
def test_they_are_what_differences_of_the_function_give(name: str) -> None:
    function, parameters, batch = CASES[name]()
    step = tg.compile(function, parameters)
    theta = np.array([p.data for p in parameters])
    some = np.random.default_rng(0).choice(len(theta), min(8, len(theta)), replace=False)
    vector = np.random.default_rng(1).normal(size=len(theta))
    _, mean = step.value_and_grad(*batch)
    each = step.per_example_grads(*batch)
    np.testing.assert_allclose(each.mean(axis=0), mean, rtol=1e-9, atol=small(mean) * 1e-4)
    assert each.shape == (len(batch[0]) if batch else 1, len(theta))
    for i in range(len(batch[0]) if batch else 0):
        alone = step.value_and_grad(*(array[i : i + 1] for array in batch))[1]
        np.testing.assert_allclose(each[i], alone, rtol=1e-9, atol=small(alone) * 1e-4)

    def at(numbers: Any, compute: Any) -> Any:
        full = theta.copy()
        full[some] = numbers
        for parameter, number in zip(parameters, full.tolist(), strict=True):
            parameter.data = number
        return np.array(compute(*batch))

    expected = slopes_by_differences(lambda x: at(x, step.predict), theta[some])
    jacobian = step.jacobian(*batch)[..., some]
    np.testing.assert_allclose(jacobian, expected.reshape(jacobian.shape), rtol=1e-4, atol=100 * small(expected))
    expected = slopes_by_differences(lambda x: at(x, lambda *b: step.value_and_grad(*b)[1]), theta[some])
    at(theta[some], step)
    hessian = step.hessian(*batch)
    np.testing.assert_allclose(hessian[:, some], expected, rtol=1e-4, atol=100 * small(expected))
    np.testing.assert_allclose(step.hvp(*batch, vector), hessian @ vector, rtol=1e-8, atol=small(hessian) * 1e-2)
    np.testing.assert_array_equal(step.hvp(*batch, vector=vector), step.hvp(*batch, vector))
    assert all(np.isfinite(slopes).all() for slopes in step.input_grads(*batch))  # it is compared with the engine


@pytest.mark.parametrize("name", LOOPS)
def test_products_with_the_hessian_of_recurrences(name: str) -> None:
    function, leaves, batch, _ = LOOPS[name]
    step, theta = tg.compile(function, parameters := flat(leaves)), np.array([p.data for p in flat(leaves)])
    vector = np.random.default_rng(1).normal(size=len(theta))

    def gradient(numbers: Any) -> Any:
        with tg.compiler.trace.lending.standing_in(dict(zip(parameters, numbers.tolist(), strict=True))):
            return step.value_and_grad(*batch)[1]

    ours = step.hvp(*batch, vector)
    expected = (gradient(theta + 1e-5 * vector) - gradient(theta - 1e-5 * vector)) / 2e-5
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=small(expected))


def test_gradients_by_inputs_are_the_engines() -> None:
    model = nn.MLP(3, [4, 1], rng=0)
    step = tg.compile(lambda x, label, y: (model(x) * y[label] - label) ** 2, model.parameters())
    rng = np.random.default_rng(0)
    X, labels, Y = rng.normal(size=(5, 3)), rng.integers(0, 2, 5), rng.normal(size=(5, 2))
    by_x, by_label, by_y = step.input_grads(X, labels, Y)
    assert by_x.shape == X.shape
    assert not by_label.any()
    for i in range(5):
        x, y = [Value(float(u)) for u in X[i]], [Value(float(u)) for u in Y[i]]
        expected = tg.gradients((model(x) * y[labels[i]] - labels[i]) ** 2, [*x, *y])
        np.testing.assert_allclose([*by_x[i], *by_y[i]], expected, rtol=1e-12)


def test_gradients_per_example_of_products_of_parameters_and_where_they_are_nan() -> None:
    A, c = (unlabelled(*shape, rng=np.random.default_rng(0)) for shape in ((3, 2), (3,)))

    def function(x: Any) -> Value:
        return tg.sum([tg.tanh(tg.dot(p, q) * x) for p in A for q in A]) + tg.max([p * x for p in c])

    step = tg.compile(function, parameters := flat(A, c))
    for x, slopes in zip(X := [0.5, -2.0, math.nan], step.per_example_grads(X), strict=True):
        np.testing.assert_allclose(slopes, tg.gradients(function(x), parameters), rtol=1e-12)


def test_numbers_drawn_at_random_are_no_inputs() -> None:
    w = Value(0.3)
    step = tg.compile(lambda x, y: (w * x + random.gauss(0, 1) - y) ** 2, [w])
    random.seed(0)
    by_x, by_y = step.input_grads([1.0, 2.0], [0.5, -0.5])
    random.seed(0)
    slopes = [2 * (0.3 * x + random.gauss(0, 1) - y) for x, y in ((1.0, 0.5), (2.0, -0.5))]
    np.testing.assert_allclose([by_x, by_y], [[0.3 * s for s in slopes], [-s for s in slopes]], rtol=1e-12)


def test_rows_that_are_one_hot_have_gradients_as_any_others() -> None:
    """A program may use that they add up to 1. Moved by a little, they do not."""
    w = [Value(0.3), Value(-0.2), Value(0.5)]
    step = tg.compile(lambda x, y: nn.cross_entropy([p * x for p in w], y), w)
    _, by_y = step.input_grads([1.0, 2.0], [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    y = [Value(1.0), Value(0.0), Value(0.0)]
    np.testing.assert_allclose(by_y[0], tg.gradients(nn.cross_entropy([p * 1.0 for p in w], y), y), rtol=1e-12)


def test_examples_of_several_lengths() -> None:
    w = [Value(0.3), Value(-0.7)]
    step = tg.compile(lambda xs: tg.sum([w[0] * x * w[1] for x in xs]), w)
    np.testing.assert_allclose(step.per_example_grads([[1.0, 2.0], [3.0]]), [[-2.1, 0.9], [-2.1, 0.9]])
    np.testing.assert_allclose(step.hessian([[1.0, 2.0], [4.0]]), [[0, 3.5], [3.5, 0]])
    np.testing.assert_allclose(step.hvp([[1.0, 2.0], [4.0]], [1.0, 0.0]), [0, 3.5])
    with pytest.raises(TypeError, match="input_grads needs arrays"):
        step.input_grads([[1.0, 2.0], [3.0]])


def test_float32_a_number_around_the_function_and_the_vector_of_arrays() -> None:
    w, scale = [Value(0.3), Value(-0.7)], 2.0
    step = tg.compile(lambda x: scale * w[0] ** 2 * x + w[1], w, dtype="float32")
    for scale in (2.0, 3.0, 5.0, 7.0):
        assert step.hessian([1.0, 2.0])[0, 0] == pytest.approx(3 * scale, rel=1e-6)
    assert step.per_example_grads([1.0, 2.0]).dtype == np.float32
    with step.arrays() as theta:
        theta[0] = 1.0
        assert step.per_example_grads([1.0])[0, 0] == pytest.approx(2 * scale)


def test_the_source_is_that_of_the_derivatives_and_runs_alone() -> None:
    model = nn.Sequential(nn.Dense(3, 4, "tanh", rng=0), nn.Dense(4, 2, rng=0))
    step = tg.compile(lambda x, y: nn.mse(model(x), y), model.parameters())
    X, Y = np.ones((5, 3)), np.zeros((5, 2))
    expected = step.per_example_grads(X, Y)
    assert "for " not in re.sub('""".*?"""|#.*', "", step.source, flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(step.source, namespace)
    theta = np.array([p.data for p in model.parameters()])
    np.testing.assert_array_equal(namespace["per_example_grads"](theta, X, Y), expected)
    step.value_and_grad(X, Y)
    assert "def build" in step.source


def test_a_wrong_program_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = derivatives.derivative_of

    def wrong(*arguments: Any) -> Any:
        made = right(*arguments)
        run, made.run = made.run, lambda *numbers: 1.001 * run(*numbers)
        return made

    monkeypatch.setattr(derivatives, "derivative_of", wrong)
    w = Value(3.0)
    step = tg.compile(lambda x: w * w * w * x, [w])
    for call in (step.per_example_grads, step.jacobian, step.hessian, lambda x: step.hvp(x, [1.0])):
        with pytest.raises(tg.CompileError, match=r"gives .* and eagerly it is"):
            call([1.0, 2.0])


@pytest.mark.parametrize("largest", [1, 30, 1000])  # an example, some examples, some vectors at a time
def test_many_vectors_and_examples_are_taken_in_parts(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    function, parameters, batch = CASES["cross_entropy_one_hot"]()
    whole = tg.compile(function, parameters).hessian(*batch)
    monkeypatch.setattr(derivatives, "LARGEST", largest)
    np.testing.assert_allclose(tg.compile(function, parameters).hessian(*batch), whole, rtol=1e-12, atol=1e-16)


W = [Value(0.3), Value(-0.7)]


ERRORS: list[tuple[Any, type[Exception], str]] = [
        (lambda step: step.hvp([1.0], [1.0, 2.0, 3.0]), ValueError, r"each of the 2 parameters.*\(3,\)"),
        (lambda step: step.hvp([1.0], 1.0), ValueError, r"each of the 2 parameters.*\(\)"),
        (lambda step: step.hvp(), TypeError, "behind it the vector"),
        (lambda step: step.per_example_grads([]), ValueError, "empty"),
        (lambda _: tg.compile(lambda x: [W[0] * x, W[1]], W).hessian([1.0]), TypeError, "single number"),
        (lambda _: tg.compile(lambda: W[0], W, backend="python").hvp([1.0]), ValueError, "each of the 2"),
]  # fmt: skip
test_errors_are_one_sentence = refused(ERRORS, lambda: tg.compile(lambda x: W[0] * x * W[1], W))


def test_a_rule_without_a_second_derivative_is_named() -> None:
    rough = tg.rule(lambda x: x * x, backward=lambda u, out, x: (u * 2 * math.fabs(x),), name="rough")
    w = Value(3.0)
    step = tg.compile(lambda x: rough(w) * x, [w])
    with pytest.raises(tg.CompileError, match=r"rough.*second derivative"):
        step.hvp([1.0], [1.0])
