"""state_dict: the numbers of a model by name, each by itself or in arrays as PyTorch has them."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from graphs import Everywhere

from tinygrad_edu import nn


def everything(seed: int = 0) -> nn.Sequential:
    rest = nn.Residual(nn.Dense(3, 3, rng=seed))
    return nn.Sequential(nn.Dense(2, 3, rng=seed), nn.BatchNorm(3), nn.Activation("relu"), rest, nn.RMSNorm(3))


SHAPES = [
    (nn.MLP(64, [32, 10], rng=0), "0.weight (32, 64) 0.bias (32,) 1.weight (10, 32) 1.bias (10,)"),
    (nn.Dense(2, 3, rng=0), "weight (3, 2) bias (3,)"),
    (nn.Layer(2, 1, rng=0), "weight (1, 2) bias (1,)"),
    (nn.Neuron(2, rng=0), "weight (1, 2) bias (1,)"),
    (nn.Embedding(5, 2, rng=0), "weight (5, 2)"),
    (nn.LayerNorm(3), "weight (3,) bias (3,)"),
    (nn.Activation("relu"), ""),
    (
        everything(),
        "0.weight (3, 2) 0.bias (3,) 1.weight (3,) 1.bias (3,) 1.running_mean (3,) 1.running_var (3,) "
        "3.module.weight (3, 3) 3.module.bias (3,) 4.weight (3,)",
    ),
    (
        Everywhere(),
        "scale () W (2, 2) ragged.0 (1,) ragged.1 (2,) heads.left.weight (1, 2) heads.left.bias (1,) "
        "heads.right.0.weight (2,) heads.right.0.bias (2,) heads.bias () again.weight (1, 2) again.bias (1,) "
        "factors (2,)",
    ),
]


@pytest.mark.parametrize(("model", "shapes"), SHAPES, ids=lambda x: type(x).__name__)
def test_arrays_have_the_names_and_shapes_of_pytorch_and_come_back(model: nn.Module, shapes: str) -> None:
    arrays = model.state_dict(arrays=True)
    assert " ".join(f"{name} {array.shape}" for name, array in arrays.items()) == shapes
    assert all(array.dtype == np.float64 and array.flags.c_contiguous for array in arrays.values())
    before = model.state_dict()
    for form in (arrays, {name: array.tolist() for name, array in arrays.items()}):
        for parameter in model.parameters():
            parameter.data = 0.0
        model.load_state_dict(form)
        assert model.state_dict() == before
        assert all(type(parameter.data) is float for parameter in model.parameters())


def test_the_arrays_compute_what_the_model_does() -> None:
    model, X = nn.MLP(4, [5, 3], "tanh", rng=0), np.random.default_rng(0).normal(size=(6, 4))
    for i, parameter in enumerate(model.parameters()):
        parameter.data += i / 100
    W1, b1, W2, b2 = model.state_dict(arrays=True).values()
    outputs = [[output.data for output in model(x)] for x in X.tolist()]
    np.testing.assert_allclose(outputs, np.tanh(X @ W1.T + b1) @ W2.T + b2, rtol=1e-13)
    dense = nn.Sequential(nn.Dense(4, 5, "tanh", rng=1), nn.Dense(5, 3, rng=1))
    dense.load_state_dict(model.state_dict(arrays=True))
    np.testing.assert_allclose([[x.data for x in row] for row in dense(X)], outputs, rtol=1e-13)


def test_layers_that_pytorch_numbers_otherwise_are_taken_by_their_order() -> None:
    model, other = nn.MLP(2, [3, 1], rng=0), nn.MLP(2, [3, 1], rng=1)
    arrays = model.state_dict(arrays=True)
    torch_names = ("0.weight", "0.bias", "2.weight", "2.bias")  # Linear, ReLU, Linear
    other.load_state_dict(dict(zip(torch_names, arrays.values(), strict=True)))
    assert other.state_dict() == model.state_dict()
    counted = {"1.num_batches_tracked": np.array(5)}
    everything(1).load_state_dict(everything(0).state_dict(arrays=True) | counted)


def test_a_state_dict_has_parameters_and_buffers() -> None:
    model = nn.Sequential(nn.Dense(1, 2, rng=0), nn.BatchNorm(2))
    state = model.state_dict()
    assert list(state) == [
        *("layer0.W0_0", "layer0.W0_1", "layer0.b0", "layer0.b1"),
        *("layer1.gamma0", "layer1.gamma1", "layer1.beta0", "layer1.beta1"),
        *("layer1.running_mean", "layer1.running_var"),
    ]
    state["layer1.running_var"][0] = 7.0  # a copy
    assert model.state_dict()["layer1.running_var"] == [1.0, 1.0]
    state["layer0.W0_1"] = Fraction(1, 3)
    other = nn.Sequential(nn.Dense(1, 2, rng=1), nn.BatchNorm(2))
    assert other.load_state_dict(state) is None
    assert other.state_dict() == state
    assert other.state_dict(arrays=True)["0.weight"][1, 0] == 1 / 3
    other.load_state_dict(state | {"layer0.W0_1": 2})
    assert type(other.state_dict()["layer0.W0_1"]) is float


NUMBERS, NORM = {"W0_0": 9.0, "b0": 9.0}, nn.BatchNorm(1).state_dict() | {"gamma0": 5.0}
ARRAYS = {"weight": np.array([[9.0]]), "bias": np.array([9.0])}
MISFITS: list[tuple[dict[str, Any], dict[str, Any], type[Exception], str]] = [  # a valid state, an edit, the error
    (NUMBERS, {"b0": None}, TypeError, "'b0' must be one real number, got None"),
    (NUMBERS, {"b0": [1.0]}, TypeError, r"'b0' must be one real number, got \[1.0\]"),
    (NUMBERS, {"c": 1.0, "d": 1.0}, ValueError, r"\(unexpected: 'c', 'd'\)"),
    (NUMBERS, {"b0": ...}, ValueError, r"\(missing: 'b0'\): load it into the same architecture"),
    (NUMBERS, {"b0": ..., "c": 1.0}, ValueError, r"\(missing: 'b0'; unexpected: 'c'\)"),
    (NUMBERS, {f"x{i}": 1.0 for i in range(6)}, ValueError, "'x4' and 1 more"),
    (ARRAYS, {"bias": ...}, ValueError, r"\(missing: 'bias'\)"),
    (ARRAYS, {"more": np.zeros(2)}, ValueError, r"\(unexpected: 'more'\)"),
    (ARRAYS, {"weight": np.zeros((1, 1, 1))}, ValueError, r"'weight' has the shape \(1, 1, 1\), that of the"),
    (ARRAYS, {"bias": [[1.0], [1.0, 2.0]]}, ValueError, r"'bias' has the shape None, that of the model \(1,\): l"),
    (ARRAYS, {"bias": 1.0}, ValueError, r"'bias' has the shape \(\), that of the model \(1,\)"),
    (ARRAYS, {"bias": ["a"]}, TypeError, "The state of 'bias' must be one real number, got 'a'"),
    (NORM, {"running_var": 5}, ValueError, r"'running_var' has the shape \(\), that of the model \(1,\)"),
    (NORM, {"running_var": [1.0, 2.0]}, ValueError, r"'running_var' has the shape \(2,\), that of the model"),
    (NORM, {"running_var": [None]}, TypeError, "'running_var' must be one real number, got None"),
    (NORM, {"running_var": {"a": 1}}, TypeError, "'running_var' must be one real number, got 'a'"),
]


@pytest.mark.parametrize(("valid", "edit", "error", "match"), MISFITS)
def test_a_state_that_does_not_fit_changes_nothing(valid: Any, edit: Any, error: Any, match: str) -> None:
    model = nn.BatchNorm(1) if "gamma0" in valid else nn.Dense(1, 1, rng=0)
    before = model.state_dict()
    with pytest.raises(error, match=match):
        model.load_state_dict({name: x for name, x in (valid | edit).items() if x is not ...})
    assert model.state_dict() == before


def test_safetensors_keeps_the_arrays(tmp_path: Any) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    model, other = everything(0), everything(1)
    safetensors.save_file(model.state_dict(arrays=True), tmp_path / "model.safetensors")
    other.load_state_dict(safetensors.load_file(tmp_path / "model.safetensors"))
    assert other.state_dict() == model.state_dict()


def test_weights_go_to_pytorch_and_back() -> None:
    torch = pytest.importorskip("torch")
    X = np.random.default_rng(0).normal(size=(10, 4))
    layers = torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.Tanh(), torch.nn.LayerNorm(3)
    theirs = torch.nn.Sequential(*layers).double()
    ours = nn.Sequential(nn.Dense(4, 3, rng=0), nn.BatchNorm(3), nn.Activation("tanh"), nn.LayerNorm(3))

    def difference() -> float:
        expected = theirs(torch.from_numpy(X)).detach().numpy()
        return float(np.abs(np.array([[x.data for x in row] for row in ours(X)]) - expected).max())

    theirs(torch.from_numpy(X))  # moves the running averages
    theirs.eval()
    ours.eval().load_state_dict(theirs.state_dict())
    assert difference() <= 1e-12
    for parameter in ours.parameters():
        parameter.data += 0.1
    arrays = [torch.from_numpy(array) for array in ours.state_dict(arrays=True).values()]
    names = [name for name in theirs.state_dict() if "batches" not in name]
    theirs.load_state_dict(dict(zip(names, arrays, strict=True)), strict=False)
    assert difference() <= 1e-12
