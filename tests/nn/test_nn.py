"""Neurons, layers and MLPs of one example, modules of one's own, and the generators that draw the weights."""

import copy
import pickle
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn


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
