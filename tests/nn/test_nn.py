"""Networks, losses, gradient descent and the data they learn from."""

import copy
import math
import pickle
import random
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn, optim

ACTIVATIONS = ["relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus"]


def test_parameters_are_labelled_by_their_place() -> None:
    model = nn.MLP(3, [2, 1], rng=0)
    labels = [p.label for p in model.parameters()]
    assert labels[:4] == ["layer0.neuron0.w0", "layer0.neuron0.w1", "layer0.neuron0.w2", "layer0.neuron0.b"]
    assert labels[-1] == "layer1.neuron0.b"
    assert [name for name, _ in model.named_parameters()] == labels
    assert len(labels) == 4 + 4 + 3
    assert [p.label for p in nn.Neuron(2, rng=0).parameters()] == ["w0", "w1", "b"]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_neuron_is_its_formula(activation: str) -> None:
    neuron = nn.Neuron(2, activation, rng=1)
    x = [0.5, -2.0]
    w, b = [w.data for w in neuron.w], neuron.b.data
    assert neuron(x).data == getattr(tg, activation)(b + w[0] * x[0] + w[1] * x[1])
    assert neuron(x).rule.name == activation


def test_a_layer_returns_a_list_and_a_network_of_one_output_a_value() -> None:
    assert isinstance(nn.Layer(2, 1, rng=0)([1.0, 2.0]), list)
    assert isinstance(nn.MLP(2, [1, 1], rng=0)([1.0, 2.0]), Value)
    assert len(nn.MLP(2, [1, 3], rng=0)([1.0, 2.0])) == 3


def test_the_last_layer_is_linear() -> None:
    model = nn.MLP(2, [3, 3, 2], "tanh", rng=0)
    assert [layer.neurons[0].activation for layer in model.layers] == ["tanh", "tanh", "linear"]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_weights_start_within_he_or_xavier(activation: str) -> None:
    layer = nn.Layer(50, 40, activation, rng=0)
    weights = [w.data for neuron in layer.neurons for w in neuron.w]
    limit = math.sqrt(6 / 50) if activation == "relu" else math.sqrt(6 / 90)
    assert max(weights) <= limit
    assert np.var(weights) == pytest.approx(limit**2 / 3, rel=0.05)  # the variance of a uniform distribution
    assert all(neuron.b.data == 0.0 for neuron in layer.neurons)


def test_one_seed_one_network_and_the_global_generator_rests() -> None:
    state = random.getstate()
    first, second, other = (nn.MLP(2, [4, 1], rng=rng) for rng in (7, random.Random(7), 8))
    assert [p.data for p in first.parameters()] == [p.data for p in second.parameters()]
    assert [p.data for p in first.parameters()] != [p.data for p in other.parameters()]
    assert random.getstate() == state
    by_numpy = nn.Neuron(2, rng=np.random.default_rng(0))
    assert all(type(w.data) is float for w in by_numpy.w)


def test_without_a_seed_neurons_differ() -> None:
    assert nn.Neuron(1).w[0].data != nn.Neuron(1).w[0].data


def test_zero_grad() -> None:
    model = nn.MLP(2, [3, 1], rng=0)
    model([1.0, 2.0]).backward()
    assert any(p.grad for p in model.parameters())
    model.zero_grad()
    assert not any(p.grad for p in model.parameters())


def test_a_module_of_ones_own() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Neuron(1, rng=0)
            self.factors = [Value(2.0), Value(3.0)]
            self.tied = self.factors[0]

        def __call__(self, x):
            return self.inner([x]) * self.factors[0] * self.factors[1]

    scale = Scale()
    assert [name for name, _ in scale.named_parameters()] == ["inner.w0", "inner.b", "factor0", "factor1"]
    assert len(scale.parameters()) == 4
    with pytest.raises(TypeError, match="Scale2 must define __call__"):
        type("Scale2", (nn.Module,), {})()([1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Neuron(0), "1 or more inputs"),
        (lambda: nn.Neuron(2, "rely"), "no activation 'rely'; choose one of linear, relu"),
        (lambda: nn.Neuron(2, rng=0)([1.0]), "takes 2 inputs, got 1"),
        (lambda: nn.Layer(2, 0), "1 or more outputs"),
        (lambda: nn.MLP(2, 3), "lists the sizes of the layers"),
        (lambda: nn.MLP(2, []), "lists the sizes of the layers"),
        (lambda: nn.mse([1.0], [1.0, 2.0]), "one target per prediction"),
        (lambda: nn.mse([], []), "one target per prediction"),
        (lambda: nn.hinge([Value(1.0)], [0]), "targets of -1 and 1"),
        (lambda: nn.cross_entropy([Value(1.0)] * 3, 3), "index from 0 to 2, got 3"),
        (lambda: nn.cross_entropy([Value(1.0)] * 3, [1, 0]), "one target per prediction"),
        (lambda: optim.SGD([]), "no parameters"),
        (lambda: optim.SGD([Value(1.0)], lr=0), "must be positive"),
        (lambda: datasets.moons(1), "n of 2 or more"),
        (lambda: datasets.digits(test_share=1.5), "between 0 and 1"),
    ],
)
def test_bad_input_is_one_sentence(make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


BATCHES = [[[1, 2], [3, 4]], [[1, 2], [3, 4], [5, 6]], [(1, 2)], np.ones((2, 2)), np.ones((3, 2))]


@pytest.mark.parametrize("batch", BATCHES, ids=str)
def test_a_batch_is_refused_by_the_models_of_one_example(batch: object) -> None:
    for model in (nn.Neuron(2, rng=0), nn.Layer(2, 3, rng=0), nn.MLP(2, [3, 1], rng=0)):
        fix = r"takes one example; for a batch write \[model\(x\) for x in X\], or use nn.Dense\.$"
        with pytest.raises(TypeError, match=f"^A neuron {fix}") as caught:
            model(batch)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("number", [1, 2.5, Value(1.0), np.float64(1.0), None], ids=str)
def test_a_number_for_a_list_is_refused_with_the_fix(number: object) -> None:
    got = re.escape(f"got {number!r} ({type(number).__name__}): write model([1, 2]).")
    for model in (nn.Neuron(2, rng=0), nn.Layer(2, 3, rng=0), nn.MLP(2, [3, 1], rng=0)):
        with pytest.raises(TypeError, match=f"^A neuron takes a list of 2 numbers, {got}$"):
            model(number)
    with pytest.raises(TypeError, match=r"takes a list of 1 number, got 3 \(int\): write model\(\[1\]\).$"):
        nn.Neuron(1, rng=0)(3)
    with pytest.raises(TypeError, match=r"write model\(\[1, 2, 3, 4, 5, 6, ...\]\).$"):
        nn.Neuron(784, rng=0)(3)


def test_other_errors_of_a_model_are_left_as_they_are() -> None:
    def failing(total: Value) -> Value:
        raise ValueError("no activation today")

    for model in (nn.Neuron(2, failing, rng=0), nn.Layer(2, 1, failing, rng=0), nn.MLP(2, [1, 1], failing, rng=0)):
        with pytest.raises(ValueError, match="no activation today"):
            model([1.0, 2.0])
        with pytest.raises(TypeError, match=r"got 'a' \(str\). Convert text with float"):
            model(["a", "b"])
        with pytest.raises(ValueError, match="takes 2 inputs, got 3"):
            model([1.0, 2.0, 3.0])


@pytest.mark.parametrize("wrong", [nn.MLP(2, [1], rng=0), nn.Neuron(2, rng=0).parameters, 0.1, Value(1.0)])
def test_an_optimizer_of_no_list_is_refused_with_the_fix(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"^SGD takes a list of Values, got .*: pass model.parameters\(\)\.$"):
        optim.SGD(wrong)
    with pytest.raises(TypeError, match=r"^Adam takes a list of Values, got \[\[Value.*: pass model.parameters"):
        optim.Adam([[Value(1.0)]])


def test_an_optimizer_prints_what_it_moves() -> None:
    assert repr(optim.SGD(nn.MLP(2, [4, 1], rng=0).parameters(), lr=0.1)) == "SGD(17 parameters, lr=0.1)"
    assert repr(optim.AdamW([Value(1.0)])) == "AdamW(1 parameter, lr=0.001)"
    assert repr(optim.Adam([Value(0.0) for _ in range(1234)])) == "Adam(1,234 parameters, lr=0.001)"


def test_a_bad_generator() -> None:
    with pytest.raises(TypeError, match="a seed or a generator"):
        nn.Neuron(2, rng="0")


def test_mean_squared_error() -> None:
    p = [Value(1.0), Value(4.0)]
    loss = nn.mse(p, [0.0, 2.0])
    loss.backward()
    assert loss.data == 2.5
    assert [v.grad for v in p] == [1.0, 2.0]  # 2 (p - t) / n


def test_hinge_loss() -> None:
    s = [Value(0.5), Value(3.0)]
    loss = nn.hinge(s, [1, -1])
    loss.backward()
    assert loss.data == (0.5 + 4.0) / 2
    assert [v.grad for v in s] == [-0.5, 0.5]


@pytest.mark.parametrize("target", [2, [0, 0, 1], np.array([0.0, 0.0, 1.0]), np.int64(2)], ids=str)
def test_cross_entropy_has_the_gradient_softmax_minus_target(target: object) -> None:
    logits = [Value(1.0), Value(-2.0), Value(0.5)]
    loss = nn.cross_entropy(logits, target)
    loss.backward()
    p = tg.softmax([1.0, -2.0, 0.5])
    assert loss.data == pytest.approx(-math.log(p[2]), rel=1e-14)
    assert [v.grad for v in logits] == pytest.approx([p[0], p[1], p[2] - 1], rel=1e-14)


@pytest.mark.parametrize("size", [1e4, -1e4, 1e15])
def test_cross_entropy_is_stable(size: float) -> None:
    loss = nn.cross_entropy([Value(size), Value(0.0)], 0)
    loss.backward()
    assert loss.data == max(0.0, -size)


def test_gradient_descent_is_its_formula() -> None:
    x = Value(3.0)
    optimizer = optim.SGD([x], lr=0.25)
    for expected in (1.5, 0.75, 0.375):  # x <- x - 0.25 * 2x
        optimizer.zero_grad()
        (x * x).backward()
        optimizer.step()
        assert x.data == expected


def passes(optimizer: optim.SGD, *clearing: Callable[[], None], backwards: int = 1, steps: int = 3) -> None:
    """Backward and step a few times, with one of the ways to clear gradients, or none, before each."""
    for _ in range(steps):
        for clear in clearing:
            clear()
        for _ in range(backwards):
            sum(p * p for p in optimizer.parameters).backward()
        optimizer.step()


def test_a_forgotten_zero_grad_is_explained_once() -> None:
    optimizer = optim.SGD([Value(3.0), Value(1.0)], lr=0.1)
    with pytest.warns(UserWarning, match=r"still hold those of the step before.*call zero_grad\(\)") as caught:
        passes(optimizer)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_gradients_may_be_cleared_in_any_way_and_add_up_before_a_step() -> None:
    neuron = nn.Neuron(2, rng=0)
    optimizer = optim.SGD(neuron.parameters(), lr=0.1)

    def by_hand() -> None:
        for p in neuron.parameters():
            p.grad = 0.0

    for clear in (optimizer.zero_grad, neuron.zero_grad, by_hand):
        passes(optimizer, clear, backwards=3)  # a warning would be an error
    optimizer.step()
    optimizer.step()  # nothing was added in between
    assert optimizer.parameters[0].grad


def test_a_gradient_keeps_its_value_and_its_uses_after_a_step() -> None:
    x, y = Value(3.0), Value(Fraction(1, 3))
    (x * x + 0).backward()
    (y * y).backward()
    optim.SGD([x], lr=0.1).step()
    optim.SGD([y], lr=Fraction(1, 2)).step()
    assert (x.grad, repr(x.grad), y.grad, y.data) == (6.0, "6.0", Fraction(2, 3), 0)
    assert type(y.grad) is Fraction
    assert type(x.grad * 0.5) is float  # clipped
    assert copy.deepcopy(x).grad == pickle.loads(pickle.dumps(x)).grad == 6.0
    assert type(Value(x.grad).data) is float


MADE_AT_RANDOM: list[Callable[[], Any]] = [
    lambda: nn.Neuron(3).state_dict(),
    lambda: nn.Layer(3, 2, "softmax").state_dict(),
    lambda: nn.MLP(2, [4, 3, 1]).state_dict(),
    lambda: nn.Dense(2, 3, init=nn.he_normal).state_dict(),
    lambda: nn.Embedding(3, 2).state_dict(),
    lambda: nn.Dropout(0.5)([1.0] * 50),
    lambda: pickle.loads(pickle.dumps(copy.deepcopy(nn.Dropout(0.5))))([1.0] * 50),
]


@pytest.mark.parametrize("make", MADE_AT_RANDOM)
def test_without_a_generator_the_global_one_is_used(make: Callable[[], Any]) -> None:
    random.seed(1337)
    first, second = make(), make()
    assert first != second
    random.seed(1337)
    assert (make(), make()) == (first, second)


def test_the_global_generator_gives_the_weights_of_a_seed_and_is_left_alone_otherwise() -> None:
    random.seed(1337)
    assert nn.MLP(2, [4, 1]).state_dict() == nn.MLP(2, [4, 1], rng=1337).state_dict()
    before = random.getstate()
    for rng in (0, random.Random(0), np.random.default_rng(0)):
        nn.MLP(2, [4, 1], rng=rng)
        nn.Dropout(0.5, rng=rng)([1.0, 2.0])
    assert random.getstate() == before


def test_the_moons_are_learned() -> None:
    X, y = datasets.moons(60, noise=0.1, seed=0)
    model = nn.MLP(2, [8, 8, 1], rng=0)
    optimizer = optim.SGD(model.parameters(), lr=0.5)
    losses = []
    for _ in range(150):
        loss = nn.hinge([model(x) for x in X], y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.data)
    assert losses[-1] < 0.1 < losses[0]
    assert all((model(x).data > 0) == (t > 0) for x, t in zip(X, y, strict=True))


def test_moons_lie_where_they_should() -> None:
    X, y = datasets.moons(100, noise=0.0)
    assert y.count(-1) == y.count(1) == 50
    for (a, b), side in zip(X, y, strict=True):
        centre = (0.0, 0.0) if side == -1 else (1.0, 0.5)
        assert math.dist((a, b), centre) == pytest.approx(1.0)
    assert datasets.moons(10, seed=3) == datasets.moons(10, seed=3) != datasets.moons(10, seed=4)


def test_the_digits_are_the_uci_digits() -> None:
    data = datasets.digits()
    assert repr(data) == "Dataset('digits': 1438 to train, 359 to test, 64 features, 10 classes)"
    assert data.X_train.shape == (1438, 64)
    assert data.X_test.shape == (359, 64)
    labels = np.concatenate([data.y_train, data.y_test])
    assert np.bincount(labels).tolist() == [
        178,
        182,
        177,
        183,
        181,
        182,
        181,
        179,
        174,
        180,
    ]  # the published counts
    assert data.X_train.min() == 0.0
    assert data.X_train.max() == 1.0
    rows = {tuple(row) for row in data.X_test} & {tuple(row) for row in data.X_train}
    assert not rows
    assert (datasets.digits(seed=1).y_test != data.y_test).any()
