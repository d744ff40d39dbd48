"""Dropout and BatchNorm in compiled training: the numbers and the generators of eager training."""

import contextlib
import random
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import datasets, nn, optim
from tinygrad_edu.compiler.run.compiled_jax import in_float64

X, SIGNS = datasets.moons(50, seed=0)
DATA = X, [(sign + 1) // 2 for sign in SIGNS]


def network(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Dense(2, 8, "tanh", rng=0), *layers, nn.Dense(8, 2, rng=1))


def trained(model: nn.Module, compiled: bool, loss: Any = nn.cross_entropy, **options: Any) -> Any:
    """All that a training may change: losses, weights, running averages, and the global generator."""
    random.seed(5)
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    settings = {"batch_size": 12, "validation": DATA, "progress": False, "compiled": compiled} | options
    history = tg.fit(model, loss, DATA, optimizer, 4, **settings)  # 20 steps, the last of an epoch with 2 examples
    columns = [x for name in ("loss", "accuracy", "validation loss") for x in history[name]]
    state = [x for numbers in model.state_dict(arrays=True).values() for x in numbers.ravel()]
    return np.array([*columns, *state, random.random()]), history


MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "seed": (lambda: network(nn.Dropout(0.3, rng=0)), {}),
    "global generator": (lambda: network(nn.Dropout(0.3)), {}),
    "two, one generator": (lambda: network(nn.Dropout(0.3), nn.LayerNorm(8), nn.Dropout(0.5)), {}),
    "the same twice": (lambda: network(*[nn.Dropout(0.3, rng=0)] * 2), {}),
    "all or nothing": (lambda: network(nn.Dropout(0, rng=0), nn.Dropout(1, rng=0)), {}),
    "one batch": (lambda: network(nn.Dropout(0.3, rng=0)), {"batch_size": None}),
    "batched": (lambda: network(nn.Dropout(0.3, rng=0)), {"batched": True}),
    "norm": (lambda: network(nn.BatchNorm(8)), {"batched": True}),
    "one norm twice": (lambda: network(*[nn.BatchNorm(8)] * 2), {"batched": True}),
    "two norms and a dropout": (
        lambda: network(nn.BatchNorm(8, momentum=0.3), nn.Dropout(0.3, rng=0), nn.BatchNorm(8)),
        {"batched": True},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_20_compiled_steps_are_those_of_the_engine(name: str) -> None:
    make, options = MODELS[name]
    (numbers, history), (expected, eager) = (trained(make(), compiled, **options) for compiled in (True, False))
    assert (history.compiled, history.eager_because, eager.compiled) == (True, "", False)
    np.testing.assert_allclose(numbers, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seed", "two norms and a dropout"])
def test_the_steps_of_jax_are_those_of_the_engine(name: str) -> None:
    jax = pytest.importorskip("jax")
    make, options = MODELS[name]
    with in_float64(jax, True):
        numbers, history = trained(make(), True, backend="jax", **options)
    assert history.compiled
    np.testing.assert_allclose(numbers, trained(make(), False, **options)[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("kind", [nn.BatchNorm, nn.Dropout])
def test_modes_that_change_between_epochs_are_followed(kind: Any) -> None:
    ends = []
    for compiled in (True, False):
        model = network(nn.BatchNorm(8), nn.Dropout(0.3, rng=0))

        def schedule(epoch: int, model: Any = model) -> float:
            for layer in model.layers:
                layer.training = not (isinstance(layer, kind) and epoch in (1, 2))
            return 1.0

        numbers, history = trained(model, compiled, batched=True, schedule=schedule)
        assert history.compiled is compiled, history.eager_because
        ends.append(numbers)
    np.testing.assert_allclose(*ends, rtol=1e-9, atol=1e-11)


def test_a_number_of_draws_that_differs_between_examples_is_trained_on_values() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            self.dense, self.dropout = nn.Dense(2, 2, rng=0), nn.Dropout(0.5, rng=0)

        def __call__(self, x: Any) -> Any:
            outputs = self.dense(x)
            return self.dropout(outputs) if x[0] > 0.5 else outputs

    ends = [trained(Sometimes(), compiled)[0] for compiled in (True, False)]
    np.testing.assert_allclose(*ends, rtol=1e-9)


def test_a_loss_that_is_inf_is_explained_with_the_factors_of_its_step() -> None:
    model = nn.Sequential(nn.Dropout(0.5, rng=0), nn.Dense(1, 1, init=nn.constant(500.0)))
    data, optimizer = ([[1.0]] * 8, [0.0] * 8), optim.SGD(model.parameters())
    with pytest.warns(UserWarning, match=r"the loss is inf.*\n(.|\n)*exp\(1000\) is inf"):
        tg.fit(model, lambda output, t: tg.exp(output[0]), data, optimizer, 1, 1, progress=False)
    assert model.layers[1].W[0][0].data == 500.0


@pytest.mark.parametrize(
    ("backend", "rng"),
    [
        *(("numpy", rng) for rng in (lambda: 0, lambda: None, lambda: np.random.default_rng(3))),
        pytest.param("jax", lambda: None, marks=pytest.mark.slow),
    ],
)
def test_outside_of_fit_dropout_draws_as_it_does_eagerly(backend: str, rng: Any) -> None:
    model, twin = (network(nn.Dropout(0.4, rng=rng()), nn.Dropout(0.1, rng=4)) for _ in range(2))
    X, y = DATA[0][:6], DATA[1][:6]

    def eagerly() -> Any:
        random.seed(7)
        losses = [nn.cross_entropy(twin(one), target) for one, target in zip(X, y, strict=True)]
        return np.array([tg.gradients(loss, twin.parameters()) for loss in losses])

    with in_float64(pytest.importorskip("jax"), True) if backend == "jax" else contextlib.nullcontext():
        step = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), backend=backend)
        for mode in ("train", "train", "eval", "train"):
            getattr(model, mode)()
            getattr(twin, mode)()
            random.seed(7)
            np.testing.assert_allclose(step.value_and_grad(X, y)[1], eagerly().mean(axis=0), rtol=1e-9, atol=1e-12)
            random.seed(7)
            np.testing.assert_allclose(step.per_example_grads(X, y), eagerly(), rtol=1e-9, atol=1e-12)
