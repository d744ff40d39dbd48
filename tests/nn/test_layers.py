"""Layers against closed forms in NumPy, models of one example, and what all modules share."""

import copy
import math
import pickle
import random
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from cases import refused
from graphs import Everywhere
from programs import normal

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.testing import gradcheck

CLOSED_FORMS: dict[str, Callable[[Any], Any]] = {
    "linear": lambda z: z,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.exp(np.minimum(z, 0)) - 1),
    "gelu": lambda z: z * (1 + np.vectorize(math.erf)(z / np.sqrt(2))) / 2,
    "silu": lambda z: z / (1 + np.exp(-z)),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": np.tanh,
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "softmax": lambda z: np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True),
}


def as_values(X: Any) -> list[list[Value]]:
    return [[Value(x) for x in row] for row in X]


def data(values: Any) -> Any:
    return np.array([[v.data for v in row] for row in values])


def grads(values: Any) -> Any:
    return np.array([[v.grad for v in row] for row in values])


def weighted(A: Any, dA: Any) -> Value:
    """A loss whose gradient for A is dA."""
    return tg.sum([a * d for row, slopes in zip(A, dA, strict=True) for a, d in zip(row, slopes, strict=True)])


def close(actual: Any, expected: Any) -> None:
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("activation", CLOSED_FORMS)
def test_dense_is_the_activation_of_xw_plus_b(activation: str) -> None:
    layer = nn.Dense(3, 4, activation, rng=0)
    for i, bias in enumerate(layer.b):
        bias.data = i / 10
    X = normal(5, 3)
    Z = X @ data(layer.W) + data([layer.b])
    close(data(layer(X.tolist())), CLOSED_FORMS[activation](Z))
    close(data(layer(X)), CLOSED_FORMS[activation](Z))
    one = layer(X[2])
    assert all(isinstance(a, Value) for a in one)
    close(data([one]), CLOSED_FORMS[activation](Z[2:3]))


@pytest.mark.parametrize("activation", ["linear", "relu"])
def test_gradients_of_dense(activation: str) -> None:
    layer, X, dA = nn.Dense(3, 4, activation, rng=1), as_values(normal(6, 3)), normal(6, 4, seed=2)
    weighted(layer(X), dA).backward()
    Z = data(X) @ data(layer.W)
    dZ = dA * (Z > 0) if activation == "relu" else dA
    close(grads(layer.W), data(X).T @ dZ)
    close([b.grad for b in layer.b], dZ.sum(axis=0))
    close(grads(X), dZ @ data(layer.W).T)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_an_activation_takes_a_row_or_a_batch(name: str) -> None:
    Z, activation = normal(3, 4), nn.Activation(name)
    close(data(activation(as_values(Z))), CLOSED_FORMS[name](Z))
    close(activation(Z.tolist()), CLOSED_FORMS[name](Z))
    close(activation(Z[0].tolist()), CLOSED_FORMS[name](Z[:1])[0])
    if name != "softmax":
        assert activation(0.5) == pytest.approx(float(CLOSED_FORMS[name](0.5)), rel=1e-14)


@pytest.mark.parametrize("leaky", [nn.Activation("leaky_relu", alpha=0.25), lambda z: z.leaky_relu(alpha=0.25)])
def test_an_activation_with_a_parameter(leaky: Any) -> None:
    minus_one = nn.constant(-1.0)
    for module in (nn.Neuron(1, leaky, init=minus_one), nn.Dense(1, 1, leaky, init=minus_one)):
        assert np.ravel(module([2.0]))[0].data == -0.5
    assert nn.MLP(1, [1, 1], leaky, init=minus_one)([2.0]).data == 0.5


@pytest.mark.parametrize("softmax", ["softmax", tg.softmax, nn.Activation("softmax")])
def test_softmax_of_a_layer_acts_on_all_its_outputs(softmax: Any) -> None:
    layer, dense = nn.Layer(2, 3, softmax, rng=0), nn.Dense(2, 3, softmax, rng=0)
    for outputs in (layer([1.0, 2.0]), dense([1.0, 2.0])):
        assert sum(p.data for p in outputs) == pytest.approx(1.0)
    logits = [neuron([1.0, 2.0]).data for neuron in layer.neurons]
    close(data([layer([1.0, 2.0])]), [tg.softmax(logits)])
    assert len(nn.MLP(2, [3, 2], softmax, rng=0)([1.0, 2.0])) == 2


def test_batch_norm_is_its_formula_in_training_and_in_evaluation() -> None:
    norm, X = nn.BatchNorm(3), normal(6, 3) * 2 + 1
    norm.gamma[1].data, norm.beta[2].data = 2.0, -0.5
    gamma, beta = np.array([1.0, 2.0, 1.0]), np.array([0.0, 0.0, -0.5])
    mean, var = np.zeros(3), np.ones(3)
    for step in range(3):
        X = X + step
        Y = norm(X)
        close(data(Y), gamma * (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-5) + beta)
        mean, var = 0.9 * mean + 0.1 * X.mean(0), 0.9 * var + 0.1 * X.var(0, ddof=1)
        close(norm.running_mean, mean)
        close(norm.running_var, var)
    norm.eval()
    expected = gamma * (X - mean) / np.sqrt(var + 1e-5) + beta
    close(data(norm(as_values(X))), expected)
    close(data([norm(X[4])]), expected[4:5])
    close(norm.running_mean, mean)
    assert all(type(x) is float for x in norm.running_mean + norm.running_var)


@pytest.mark.parametrize("n", [1, 4])
def test_layer_norm_and_rms_norm_are_their_formulas(n: int) -> None:
    X, gamma = normal(3, n), np.arange(1.0, n + 1)
    layer, rms = nn.LayerNorm(n, eps=0.01), nn.RMSNorm(n)
    for g, h, value in zip(layer.gamma, rms.gamma, gamma, strict=True):
        g.data = h.data = value
    layer.beta[0].data = 0.5
    centred = X - X.mean(1, keepdims=True)
    expected = gamma * centred / np.sqrt(X.var(1, keepdims=True) + 0.01) + np.eye(n)[0] / 2
    close(data(layer(X)), expected)
    close(data([layer(X[1])]), expected[1:2])
    expected = gamma * X / np.sqrt((X**2).mean(1, keepdims=True) + 1e-5)
    close(data(rms(X)), expected)
    close(data([rms(as_values(X)[1])]), expected[1:2])


@pytest.mark.parametrize("kind", [nn.BatchNorm, nn.LayerNorm, nn.RMSNorm])
@pytest.mark.parametrize("training", [True, False])
def test_gradients_of_normalisation(kind: Any, training: bool) -> None:
    X, dY = normal(4, 3), normal(4, 3, seed=1)

    def loss(X: Any, gamma: Any, beta: Any) -> Value:
        norm = kind(3).train(training)
        norm.gamma = gamma
        if kind is not nn.RMSNorm:
            norm.beta = beta
        return weighted(norm(X), dY)

    assert {row.verdict for row in gradcheck(loss, X.tolist(), [1.0, 2.0, -0.5], [0.1, 0.2, 0.3]).rows} == {"ok"}


@pytest.mark.parametrize("rng", [0, random.Random(0), np.random.default_rng(0)], ids=["seed", "random", "numpy"])
def test_dropout(rng: Any) -> None:
    dropout, x = nn.Dropout(0.25, rng=rng), Value(3.0)
    out = [y.data for row in dropout([[x] * 100] * 40) for y in row]
    assert set(out) == {0.0, 4.0}  # 3 / (1 - 1/4)
    assert out.count(0.0) / 4000 == pytest.approx(0.25, abs=0.03)  # four standard deviations
    tg.sum(dropout([x, x, x, x])).backward()
    assert x.grad in [k / 0.75 for k in range(5)]
    assert dropout.eval()([x, 1.0]) == [x, 1.0]
    assert dropout.train()(1.0) in (0.0, 1 / 0.75)
    assert nn.Dropout(rng=5)([1.0] * 30) == nn.Dropout(rng=5)([1.0] * 30) != dropout([1.0] * 30)
    assert nn.Dropout(0)([1.0, 1.0]) == [1.0, 1.0]
    assert nn.Dropout(1)([1.0, 1.0]) == [0.0, 0.0]


def test_embedding_looks_up_rows_and_only_they_learn() -> None:
    table = nn.Embedding(4, 3, rng=0)
    assert table(2) == table.W[2]
    assert table([0, np.int64(2)]) == [table.W[0], table.W[2]]
    assert table(np.array([[1, 2], [3, 0]]))[1][0] == table.W[3]
    weighted(table([2, 0, 2]), [[1, 2, 3], [4, 5, 6], [10, 20, 30]]).backward()
    close(grads(table.W), [[4, 5, 6], [0, 0, 0], [11, 22, 33], [0, 0, 0]])
    weights = [w.data for w in nn.Embedding(100, 40, rng=np.random.default_rng(0)).parameters()]
    assert np.mean(weights) == pytest.approx(0.0, abs=0.07)
    assert np.var(weights) == pytest.approx(1.0, rel=0.1)


def test_sequential_and_residual() -> None:
    inner = nn.Dense(3, 3, "tanh", rng=0)
    model, X = nn.Sequential(nn.Residual(inner), nn.Dense(3, 2, rng=1)), normal(4, 3)
    hidden = X + np.tanh(X @ data(inner.W))
    close(data(model(X)), hidden @ data(model.layers[1].W))
    close(data([model(X[0].tolist())]), (hidden @ data(model.layers[1].W))[:1])
    assert nn.Sequential()(X) is X
    total = nn.Residual(nn.Neuron(1, "linear", rng=0))
    with pytest.raises(ValueError, match="must have one shape, got a list of 1 and one number"):
        total([1.0])


def everything() -> nn.Sequential:
    shared = nn.Dense(2, 2, rng=0)
    return nn.Sequential(shared, nn.BatchNorm(2), nn.Dropout(rng=1), nn.Residual(nn.LayerNorm(2)), shared)


DENSE, NORM, NEURON, SMALL = "W0_0 W0_1 W1_0 W1_1 b0 b1", "gamma0 gamma1 beta0 beta1", "w0 w1 w2 b", "w0 w1 b"
PLACES = [  # a model, and the places of its parameters: a shared layer comes once, at its first place
    (nn.Neuron(2, rng=0), {"": SMALL}),
    (nn.MLP(3, [2, 1], rng=0), {"layer0.neuron0.": NEURON, "layer0.neuron1.": NEURON, "layer1.neuron0.": SMALL}),
    (everything(), {"layer0.": DENSE, "layer1.": NORM, "layer3.module.": NORM}),
    (
        Everywhere(),
        {"": "scale W0_0 W0_1 W1_0 W1_1 ragged0_0 ragged1_0 ragged1_1", "heads.left.": SMALL}
        | {"heads.right0.": NORM, "heads.": "bias", "factor": "1"},
    ),
]


@pytest.mark.parametrize(("model", "places"), PLACES, ids=lambda x: type(x).__name__)
def test_names_and_labels_of_parameters(model: nn.Module, places: dict[str, str]) -> None:
    expected = [place + name for place, names in places.items() for name in names.split()]
    assert [name for name, _ in model.named_parameters()] == expected
    assert [name for name, _ in model.named_parameters("net.")] == ["net." + name for name in expected]
    assert isinstance(model, Everywhere) or [p.label for p in model.parameters()] == expected


def test_train_and_eval_reach_every_module() -> None:
    model = everything()
    modules = dict(model.named_modules())
    assert list(modules) == ["", "layer0", "layer1", "layer2", "layer3", "layer3.module"]
    assert all(module.training for module in modules.values())
    assert model.eval() is model
    assert not any(module.training for module in modules.values())
    assert model([1.0, 2.0])[0].data == model([1.0, 2.0])[0].data
    assert model.train() is model
    assert all(module.training for module in modules.values())
    assert nn.Dropout().training


def test_a_module_prints_as_the_call_that_makes_it() -> None:
    for text in (
        "Sequential(Residual(BatchNorm(3, momentum=0.5, eps=0.1)), LayerNorm(3, eps=1e-05), RMSNorm(3, eps=0.5))",
        "Sequential(Dense(2, 3, activation=Activation('elu', alpha=0.2)), Dropout(p=0.1), Activation('relu'))",
        "Embedding(4, 3)",
        "Layer(2, 3, activation='softmax')",
    ):
        assert repr(eval(text, vars(nn))) == text
    assert repr(nn.MLP(2, [1], rng=0)) == "MLP([Layer(2, 1, activation='linear')])"


@pytest.mark.parametrize("rng", [random.Random, np.random.default_rng], ids=["random", "numpy"])
@pytest.mark.parametrize(
    ("init", "variance", "limit"),
    [
        (nn.xavier_uniform, 2 / 100, math.sqrt(6 / 100)),
        (nn.xavier_normal, 2 / 100, math.inf),
        (nn.he_uniform, 2 / 60, math.sqrt(6 / 60)),
        (nn.he_normal, 2 / 60, math.inf),
    ],
)
def test_xavier_and_he(init: Any, variance: float, limit: float, rng: Any) -> None:
    layer = nn.Dense(60, 40, "relu", rng=rng(0), init=init)
    weights = [w.data for row in layer.W for w in row]
    assert all(type(w) is float for w in weights)
    assert np.mean(weights) == pytest.approx(0.0, abs=4 * math.sqrt(variance / 2400))
    assert np.var(weights) == pytest.approx(variance, rel=0.12)
    assert max(map(abs, weights)) <= limit
    if math.isinf(limit):
        assert max(map(abs, weights)) > math.sqrt(3 * variance) * 1.5  # a normal distribution has tails
    assert weights == [w.data for row in nn.Dense(60, 40, "relu", rng=rng(0), init=init).W for w in row]
    assert all(b.data == 0.0 for b in layer.b)


@pytest.mark.parametrize(
    ("init", "weight"), [(nn.zeros, 0.0), (nn.constant(0.5), 0.5), (lambda n, m, rng: n / m, 2 / 3)]
)
def test_zeros_constant_and_ones_own(init: Any, weight: float) -> None:
    for module in (nn.Dense(2, 3, init=init), nn.Layer(2, 3, init=init), nn.MLP(2, [3], init=init)):
        assert {p.data for p in module.parameters()} == {weight, 0.0}


@pytest.mark.parametrize("activation", [*CLOSED_FORMS, nn.Activation("relu"), lambda z: z])
def test_the_default_is_he_or_xavier_by_the_activation(activation: Any) -> None:
    rectified = ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus")
    he = activation in rectified or isinstance(activation, nn.Activation)
    init = nn.he_uniform if he else nn.xavier_uniform
    given, default = (nn.Dense(5, 3, activation, rng=0, init=init) for init in (init, None))
    assert [p.data for p in given.parameters()] == [p.data for p in default.parameters()]


class Uniform:
    def uniform(self, low: float, high: float) -> float:
        return low


ACTIVATED: Any = (partial(nn.Neuron, 2), partial(nn.MLP, 2, [1]), partial(nn.Dense, 2, 2), nn.Activation)
ROWS, LOW = "takes a row of {} numbers or a batch of such rows, got ", " takes sizes of 1 or more, got "
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    *((lambda f=f: f(0, n_outputs=2), ValueError, f"{f.__name__}{LOW}n_inputs=0") for f in (nn.Neuron, nn.Dense)),
    *((lambda f=f: f("rely"), ValueError, "no activation 'rely'; choose one of linear, relu") for f in ACTIVATED),
    (lambda: nn.Neuron(2, "softmax"), ValueError, "no activation 'softmax'"),
    *((lambda f=f: f(2, 2, rng="0"), TypeError, "a seed or a generator") for f in (nn.Dense, nn.he_uniform)),
    *((lambda n=n: nn.Layer(2, n), ValueError, f"Layer{LOW}n_outputs={n}") for n in (0, 2.0)),
    *((lambda n=n: nn.MLP(2, n), ValueError, r"the sizes of the layers, .*, got (3|\[\])") for n in (3, [])),
    (lambda: nn.Dense(2, 2.0), ValueError, f"Dense{LOW}n_outputs=2.0"),
    (lambda: nn.Dense(2, 1, init="he"), TypeError, "init is a function such as nn.he_normal"),
    (lambda: nn.Dense(2, 1, rng=Uniform(), init=nn.he_normal), TypeError, "a method gauss or normal"),
    *((lambda n=n: nn.Dense(2, 1)([1.0] * n), ValueError, rf"Dense\(2, .*2 inputs, got {n}") for n in (1, 0)),
    (lambda: nn.Dense(2, 1)([[1.0, 2.0], [1.0]]), ValueError, "2 inputs in each row of the batch, got 1 in row 1"),
    *((lambda x=x: nn.Dense(2, 1)(x), TypeError, ROWS.format(2) + repr(x)) for x in (2.0, "ab")),
    *((lambda f=f: nn.Activation(f, alpha=1.0), TypeError, f"{f} has no parameter") for f in ("relu", "linear")),
    (lambda: nn.Activation("softmax")(1.0), ValueError, "softmax takes a row"),
    (lambda: nn.Activation("tanh")("ab"), TypeError, "number"),
    (lambda: nn.LayerNorm(2)([[1.0, 2.0], 1.0]), ValueError, "in each row of the batch, got 1.0 in row 1"),
    (lambda: nn.BatchNorm(0), ValueError, "got n=0"),
    (lambda: nn.BatchNorm(2)([[1.0, 2.0]]), ValueError, "needs 2 or more rows in training"),
    (lambda: nn.BatchNorm(3)([[1.0, 2.0]] * 2), ValueError, "takes 3 inputs in each row"),
    *((lambda p=p: nn.Dropout(p), ValueError, f"a probability from 0 to 1, got {p!r}") for p in (1.5, "x", None)),
    (lambda: nn.Dropout()("ab"), TypeError, "multiply"),
    *((lambda i=i: nn.Embedding(3, 2)([0, i]), IndexError, f"the indices 0 to 2, got {i}") for i in (3, -1)),
    *((lambda i=i: nn.Embedding(3, 2)(i), TypeError, f"index or a list of them, got {i!r}") for i in (1.5, "ab")),
    (lambda: nn.Sequential([nn.Dense(1, 1)]), TypeError, "Sequential takes modules"),
    (lambda: nn.Residual(abs), TypeError, "Residual takes a module"),
    (lambda: nn.Neuron(1).load_state_dict(3), TypeError, r"takes what state_dict\(\) gives, got 3"),
    (lambda: nn.Neuron(1).save(3), TypeError, r"^A model file has a path such as 'model\.json', got 3"),
    (lambda: nn.load(3), ValueError, "^3 is not a whole model file: expected str"),
    (lambda: Everywhere()([1.0]), TypeError, "Everywhere must define __call__"),
]
test_errors_are_one_sentence = refused(ERRORS)


# --- Models of one example, and generators --------------------------------------------------------------------
def test_what_networks_return_and_zero_grad() -> None:
    neuron = nn.Neuron(2, "gelu", rng=1)
    (w0, w1), b = (w.data for w in neuron.w), neuron.b.data
    assert neuron([0.5, -2.0]).data == tg.gelu(b + w0 * 0.5 + w1 * -2.0)
    assert isinstance(nn.Layer(2, 1, rng=0)([1.0, 2.0]), list)
    assert len(nn.MLP(2, [1, 3], rng=0)([1.0, 2.0])) == 3
    model = nn.MLP(2, [3, 3, 1], "tanh", rng=0)
    assert [layer.neurons[0].activation for layer in model.layers] == ["tanh", "tanh", "linear"]
    output = model([1.0, 2.0])
    assert isinstance(output, Value)
    output.backward()
    assert any(p.grad for p in model.parameters())
    model.zero_grad()
    assert not any(p.grad for p in model.parameters())


def ones(activation: Any = "relu") -> list[nn.Module]:
    """Models of one example with two inputs."""
    return [nn.Neuron(2, activation), nn.Layer(2, 3, activation), nn.MLP(2, [3, 1], activation)]


@pytest.mark.parametrize("batch", [[[1, 2], [3, 4]], [[1, 2]] * 3, [(1, 2)], np.ones((2, 2))], ids=str)
def test_a_batch_is_refused_by_the_models_of_one_example(batch: object) -> None:
    for model in ones():
        fix = r"takes one example; for a batch write \[model\(x\) for x in X\], or use nn.Dense\.$"
        with pytest.raises(TypeError, match=f"^A neuron {fix}") as caught:
            model(batch)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize("number", [1, 2.5, Value(1.0), np.float64(1.0), None], ids=str)
def test_a_number_for_a_list_is_refused_with_the_fix(number: object) -> None:
    got = re.escape(f"got {number!r} ({type(number).__name__}): write model([1, 2]).")
    for model in ones():
        with pytest.raises(TypeError, match=f"^A neuron takes a list of 2 numbers, {got}$"):
            model(number)
    with pytest.raises(TypeError, match=r"takes a list of 1 number, got 3 \(int\): write model\(\[1\]\).$"):
        nn.Neuron(1, rng=0)(3)
    with pytest.raises(TypeError, match=r"write model\(\[1, 2, 3, 4, 5, 6, ...\]\).$"):
        nn.Neuron(784, rng=0)(3)


def test_other_errors_of_a_model_are_left_as_they_are() -> None:
    def failing(total: Value) -> Value:
        raise ValueError("no activation today")

    for model in ones(failing):
        with pytest.raises(ValueError, match="no activation today"):
            model([1.0, 2.0])
        with pytest.raises(TypeError, match=r"got 'a' \(str\). Convert text with float"):
            model(["a", "b"])
        with pytest.raises(ValueError, match="takes 2 inputs, got 3"):
            model([1.0, 2.0, 3.0])


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


def test_a_seed_gives_the_weights_that_the_global_generator_gives_and_leaves_that_alone() -> None:
    random.seed(1337)
    assert nn.MLP(2, [4, 1]).state_dict() == nn.MLP(2, [4, 1], rng=1337).state_dict()
    before = random.getstate()
    for rng in (0, random.Random(0), np.random.default_rng(0)):
        weights = nn.MLP(2, [4, 1], rng=rng).state_dict()
        assert all(type(weight) is float for weight in weights.values())
        nn.Dropout(0.5, rng=rng)([1.0, 2.0])
    assert random.getstate() == before
    first, second, other = (nn.MLP(2, [4, 1], rng=rng).state_dict() for rng in (7, random.Random(7), 8))
    assert first == second != other
