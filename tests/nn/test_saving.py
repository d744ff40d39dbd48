"""Saved models: the same bits back, or one clear error and nothing changed."""

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import tinygrad_edu as tg
from tinygrad_edu import nn


class Own(nn.Module):
    """A module of the user."""

    def __init__(self, scale: float, inner: nn.Module):
        self.scale, self.inner = scale, inner

    def __call__(self, inputs: Any) -> Any:
        return [x * self.scale for x in self.inner(inputs)]


MODELS = [
    nn.Neuron(2, "tanh", rng=0),
    nn.Layer(2, 3, "softmax", rng=0),
    nn.MLP(2, [4, 3, 1], "leaky_relu", rng=1),
    nn.MLP(2, [1], rng=1),
    nn.Dense(3, 2, tg.relu, rng=2),
    nn.Sequential(
        nn.Dense(2, 4, rng=3),
        nn.BatchNorm(4, momentum=0.3),
        nn.Activation("leaky_relu", alpha=0.2),
        nn.Residual(nn.Sequential(nn.Dense(4, 4, "gelu", rng=4), nn.Dropout(0.25, rng=5))),
        nn.LayerNorm(4),
        nn.RMSNorm(4, eps=1e-6),
    ),
    nn.Embedding(5, 3, rng=6),
    Own(0.1, nn.Dense(2, 2, rng=7)),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda m: type(m).__name__)
def test_every_module_comes_back_to_the_last_bit(model: nn.Module, tmp_path: Path) -> None:
    for name, numbers in model.buffers().items():
        numbers[:] = [0.1 + i / 3 for i in range(len(numbers))] if "var" in name else [-1e-300] * len(numbers)
    model.save(tmp_path / "model.json")
    twin = nn.load(tmp_path / "model.json")
    assert type(twin) is type(model)
    for (name, p), (twin_name, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert (name, p.data.hex(), p.label) == (twin_name, q.data.hex(), q.label)
    assert model.buffers() == twin.buffers()
    twin.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "model.json").read_bytes()
    model.eval()
    twin.eval()
    inputs = 3 if isinstance(model, nn.Embedding) else [0.3, -0.7, 0.2][: getattr(model, "n_inputs", 2)]
    data = [[x.data for x in out] if isinstance(out, list) else out.data for out in (model(inputs), twin(inputs))]
    assert data[0] == data[1]


def test_the_file_can_be_read_by_people(tmp_path: Path) -> None:
    nn.Dense(2, 1, "relu", rng=0).save(tmp_path / "m.json")
    saved = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert saved["format"] == "tinygrad_edu model"
    assert saved["version"] == 1
    assert saved["model"] == {
        "module": "Dense",
        "arguments": [],
        "options": {"n_inputs": 2, "n_outputs": 1, "activation": "relu"},
    }
    assert list(saved["parameters"]) == ["W0_0", "W1_0", "b0"]


def test_numbers_can_be_loaded_into_a_model(tmp_path: Path) -> None:
    trained, fresh = nn.MLP(2, [3, 1], rng=0), nn.MLP(2, [3, 1], rng=1)
    trained.save(tmp_path / "m.json")
    kept = fresh.parameters()
    assert fresh.load(tmp_path / "m.json") is fresh
    assert [p.data for p in kept] == [p.data for p in trained.parameters()]


def numbers_of(model: nn.Module) -> list[float]:
    return [p.data for p in model.parameters()]


def broken(saved: dict[str, Any], what: str) -> Any:
    match what:
        case "foreign":
            return {"weights": [1, 2, 3]}
        case "a list":
            return [1, 2, 3]
        case "version":
            return saved | {"version": 2}
        case "no parameters":
            return {k: v for k, v in saved.items() if k != "parameters"}
        case "one parameter less":
            return saved | {"parameters": dict(list(saved["parameters"].items())[1:])}
        case "text for a number":
            return saved | {"parameters": saved["parameters"] | {"layer0.neuron0.w0": "0.5"}}
        case "other architecture":
            return saved | {"model": saved["model"] | {"options": {**saved["model"]["options"], "n_inputs": 3}}}


BROKEN = [
    ("foreign", "is no model file: it does not say that its format is 'tinygrad_edu model'"),
    ("a list", "is no model file"),
    ("version", "has version 2 of the format; this program reads 1"),
    ("no parameters", "is not all of a model file"),
    ("one parameter less", "has other parameters than the model: 'layer0.neuron0.w0' is in one of them only"),
    ("text for a number", "has no number for 'layer0.neuron0.w0', but '0.5'"),
    (
        "other architecture",
        "is of another architecture: MLP\\(n_inputs=3, n_outputs=\\[2, 1\\], activation='relu'\\)",
    ),
]


@pytest.mark.parametrize(("what", "message"), BROKEN)
def test_a_broken_file_is_one_error_and_changes_nothing(what: str, message: str, tmp_path: Path) -> None:
    model, path = nn.MLP(2, [2, 1], rng=0), tmp_path / "m.json"
    model.save(path)
    path.write_text(json.dumps(broken(json.loads(path.read_text()), what)))
    other = nn.MLP(2, [2, 1], rng=1)
    before = numbers_of(other)
    with pytest.raises(ValueError, match=message):
        other.load(path)
    assert numbers_of(other) == before


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    model, path = nn.Neuron(1, rng=0), tmp_path / "m.json"
    model.save(path)
    whole = path.read_bytes()
    before = numbers_of(model)
    for length in range(0, len(whole.rstrip()), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is no model file, or not all of one"):
            model.load(path)
    assert numbers_of(model) == before


def test_a_module_that_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    nn.Neuron(1, rng=0).save(path)
    path.write_text(path.read_text().replace('"Neuron"', '"Transformer"'))
    with pytest.raises(ValueError, match=r"has a module that cannot be built here: .*Transformer"):
        nn.load(path)


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    nn.Dense(1, 1, rng=0).save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="cannot be saved: <function"):
        nn.Dense(1, 1, lambda z: z * 2, rng=0).save(path)
    exact = nn.Neuron(1, rng=0)
    exact.b.data = Fraction(1, 3)
    with pytest.raises(TypeError, match="b is Fraction\\(1, 3\\): only floats are saved"):
        exact.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
    with pytest.raises(FileNotFoundError):
        nn.Dense(1, 1, rng=0).save(tmp_path / "no" / "m.json")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.json"
    nn.Dense(1, 1, rng=0).save(path)
    before = path.read_bytes()

    def fails(*arguments: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="disk full"):
        nn.Dense(1, 1, rng=1).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
