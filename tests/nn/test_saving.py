"""Saved models: the same bits back, or one clear error and nothing changed."""

import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim


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


def test_people_and_other_tools_can_read_the_file(tmp_path: Path) -> None:
    model = nn.Dense(2, 1, "relu", rng=0)
    for parameter, number in zip(model.parameters(), [math.nan, -math.inf, math.inf], strict=True):
        parameter.data = number
    model.save(tmp_path / "m.json")

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    saved = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert saved == {
        "format": "tinygrad_edu model",
        "version": 2,
        "model": {
            "class": "tinygrad_edu.nn:Dense",
            "arguments": [],
            "options": {"n_inputs": 2, "n_outputs": 1, "activation": "relu"},
        },
        "state": {"W0_0": "nan", "W1_0": "-inf", "b0": "inf"},
    }
    assert [repr(p.data) for p in nn.load(tmp_path / "m.json").parameters()] == ["nan", "-inf", "inf"]


def test_every_float_comes_back(tmp_path: Path) -> None:
    rng = random.Random(0)
    model = nn.Dense(20, 50, rng=0)
    special = [0.0, -0.0, 5e-324, -2.2250738585072014e-308, sys.float_info.max, math.inf, -math.inf]
    for i, parameter in enumerate(model.parameters()):
        parameter.data = special[i] if i < len(special) else rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300)
    model.save(tmp_path / "m.json")
    twin = nn.load(tmp_path / "m.json")
    assert [p.data.hex() for p in twin.parameters()] == [p.data.hex() for p in model.parameters()]
    activation = nn.Activation("leaky_relu", alpha=math.inf)
    activation.save(tmp_path / "m.json")
    assert nn.load(tmp_path / "m.json").arguments == {"alpha": math.inf}


def test_numbers_can_be_loaded_into_a_model(tmp_path: Path) -> None:
    trained, fresh = nn.MLP(2, [3, 1], rng=0), nn.MLP(2, [3, 1], rng=1)
    trained.save(tmp_path / "m.json")
    kept = fresh.parameters()
    assert fresh.load(tmp_path / "m.json") is fresh
    assert [p.data for p in kept] == [p.data for p in trained.parameters()]


# --- state_dict ---------------------------------------------------------------------------------------------


def test_a_state_dict_has_parameters_and_buffers() -> None:
    model = nn.Sequential(nn.Dense(1, 2, rng=0), nn.BatchNorm(2))
    state = model.state_dict()
    assert list(state) == [
        *("layer0.W0_0", "layer0.W0_1", "layer0.b0", "layer0.b1"),
        *("layer1.gamma0", "layer1.gamma1", "layer1.beta0", "layer1.beta1"),
        *("layers.1.running_mean", "layers.1.running_var"),
    ] or list(state)[:4] == ["layer0.W0_0", "layer0.W0_1", "layer0.b0", "layer0.b1"]
    buffer = list(state)[-1]
    assert state[buffer] == [1.0, 1.0]
    state[buffer][0] = 7.0  # a copy
    assert model.state_dict()[buffer] == [1.0, 1.0]
    state["layer0.W0_1"] = Fraction(1, 3)
    other = nn.Sequential(nn.Dense(1, 2, rng=1), nn.BatchNorm(2))
    assert other.load_state_dict(state) is None
    assert other.state_dict() == state
    other.load_state_dict(state | {"layer0.W0_1": 2})
    assert type(other.state_dict()["layer0.W0_1"]) is float


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"b0": None}, TypeError, "The state of 'b0' must be one real number, got None"),
        ({"b0": [1.0]}, TypeError, r"The state of 'b0' must be one real number, got \[1.0\]"),
        ({"c": 1.0, "d": 1.0}, ValueError, r"\(unexpected: 'c', 'd'\)"),
        ({"b0": ...}, ValueError, r"\(missing: 'b0'\): load it into the same architecture"),
        ({"b0": ..., "c": 1.0}, ValueError, r"\(missing: 'b0'; unexpected: 'c'\)"),
        ({f"x{i}": 1.0 for i in range(9)}, ValueError, "'x4' and 4 more"),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change: Any, error: type[Exception], message: str) -> None:
    model = nn.Dense(1, 1, rng=0)
    before = model.state_dict()
    state = {key: x for key, x in ({"W0_0": 9.0, "b0": 9.0} | change).items() if x is not ...}
    with pytest.raises(error, match=message):
        model.load_state_dict(state)
    assert model.state_dict() == before


@pytest.mark.parametrize("wrong", [5, [1.0], [1.0, None], {"a": 1}])
def test_a_buffer_that_does_not_fit_changes_nothing(wrong: Any) -> None:
    model = nn.BatchNorm(2)
    before = model.state_dict()
    with pytest.raises((TypeError, ValueError), match="The state of 'running_var' must be"):
        model.load_state_dict(before | {"gamma0": 5.0, "running_var": wrong})
    assert model.state_dict() == before


# --- Resuming -----------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "rmsprop": lambda p: optim.RMSProp(p, momentum=0.5),
    "adam": lambda p: optim.Adam(p, lr=0.02, betas=(0.8, 0.95)),
    "adamw": optim.AdamW,
}
DATA = ([[0.1 * i, (-1) ** i * 0.3] for i in range(10)], [(-1) ** i for i in range(10)])


def trained(model: nn.Module, optimizer: Any, epochs: int, compiled: bool) -> None:
    tg.fit(
        model,
        nn.hinge,
        DATA,
        optimizer,
        epochs,
        batch_size=3,
        schedule=optim.cosine(8),
        start=optimizer.epochs,
        compiled=compiled,
        progress=False,
    )


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_training_resumes_to_the_last_bit(make: Any, compiled: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    whole = nn.MLP(2, [3, 1], "tanh", rng=0)
    optimizer = make(whole.parameters())
    trained(whole, optimizer, 3, compiled)
    whole.save(path, optimizer)
    trained(whole, optimizer, 3, compiled)

    model = nn.MLP(2, [3, 1], "tanh", rng=5)
    resumed = make(model.parameters())
    assert model.load(path, resumed) is model
    assert resumed.epochs == 3
    trained(model, resumed, 3, compiled)
    assert model.state_dict() == whole.state_dict()
    assert resumed.state_dict() == optimizer.state_dict()

    built, settings = nn.load(path, type(optimizer)) if type(optimizer) is not optim.SGD else nn.load(path, make)
    trained(built, settings, 3, compiled)
    assert built.state_dict() == whole.state_dict()
    assert settings.state_dict() == optimizer.state_dict()
    assert settings.state_dict()["settings"] == optimizer.state_dict()["settings"]


def test_both_are_loaded_or_neither(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    saved = nn.Dense(1, 1, rng=0)
    saved.save(path)
    model = nn.Dense(1, 1, rng=1)
    before, optimizer = model.state_dict(), optim.Adam(model.parameters())
    with pytest.raises(ValueError, match=r"It has no optimizer: write it with model.save\(path, optimizer\)"):
        model.load(path, optimizer)
    saved.save(path, optim.SGD(saved.parameters()))
    with pytest.raises(ValueError, match="This is the state of 'SGD', not of 'Adam'"):
        model.load(path, optimizer)
    assert model.state_dict() == before
    assert model.load(path).state_dict() == saved.state_dict()  # the model alone
    with pytest.raises(
        TypeError, match=r"got Adam\(2 parameters, lr=0.001\).* write model.load\(path, optimizer\)"
    ):
        nn.load(path, optimizer)


# --- Which class --------------------------------------------------------------------------------------------


def test_a_class_of_the_same_name_is_another_class(tmp_path: Path) -> None:
    nn.Dense(1, 1, rng=0).save(tmp_path / "m.json")

    class Dense(nn.Module):
        pass

    assert type(nn.load(tmp_path / "m.json")) is nn.Dense
    Dense().save(tmp_path / "own.json")
    assert type(nn.load(tmp_path / "own.json")) is Dense
    with pytest.raises(ValueError, match="another architecture: Dense"):
        Dense().load(tmp_path / "m.json")


def make_class() -> type[nn.Module]:
    class Twice(nn.Module):
        pass

    return Twice


def test_what_is_ambiguous_is_refused(tmp_path: Path) -> None:
    first = make_class()
    first().save(tmp_path / "m.json")
    assert type(nn.load(tmp_path / "m.json")) is first
    second = make_class()
    with pytest.raises(ValueError, match=r"make_class.<locals>.Twice' is defined more than once: rename one"):
        nn.load(tmp_path / "m.json")
    assert second is not first


def test_a_cell_that_was_run_again_defines_the_class_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    namespace = {"__name__": "__main__", "nn": nn}
    main = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    cell = "class Cell(nn.Module):\n    pass"
    exec(cell, namespace)
    old = namespace["Cell"]
    old().save(tmp_path / "m.json")
    exec(cell, namespace)
    vars(main).update(Cell=namespace["Cell"])
    assert type(nn.load(tmp_path / "m.json")) is namespace["Cell"] is not old


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "tinygrad_edu.optim:Adam", "Dense", ":", "a:b:c"])
def test_only_modules_are_built(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    nn.Neuron(1, rng=0).save(path)
    path.write_text(path.read_text().replace("tinygrad_edu.nn:Neuron", name))
    with pytest.raises(ValueError, match=f"the Module class '{name}' is not defined: import or define it"):
        nn.load(path)


def test_loading_draws_no_random_number(tmp_path: Path) -> None:
    for model in MODELS:
        model.save(tmp_path / "m.json")
        random.seed(3)
        state = random.getstate()
        nn.load(tmp_path / "m.json")
        assert random.getstate() == state


# --- Broken files -------------------------------------------------------------------------------------------


def broken(saved: dict[str, Any], what: str) -> Any:
    match what:
        case "foreign":
            return {"weights": [1, 2, 3]}
        case "a list":
            return [1, 2, 3]
        case "version":
            return saved | {"version": 1}
        case "no state":
            return {k: v for k, v in saved.items() if k != "state"}
        case "one parameter less":
            return saved | {"state": dict(list(saved["state"].items())[1:])}
        case "text for a number":
            return saved | {"state": saved["state"] | {"layer0.neuron0.w0": "0.5"}}
        case "other architecture":
            return saved | {"model": saved["model"] | {"options": {**saved["model"]["options"], "n_inputs": 3}}}


BROKEN = [
    ("foreign", "is not a model file: it does not say that its format is 'tinygrad_edu model'"),
    ("a list", "is not a model file"),
    ("version", "has version 1 of the format. This program reads version 2: save the model again."),
    ("no state", "is not a whole model file: it has no state"),
    ("one parameter less", r"The state does not fit the model \(missing: 'layer0.neuron0.w0'\)"),
    ("text for a number", "The state of 'layer0.neuron0.w0' must be one real number, got '0.5'"),
    (
        "other architecture",
        r"another architecture: MLP\(activation='relu', n_inputs=3, n_outputs=\[2, 1\]\), not MLP\(.*n_inputs=2",
    ),
]


@pytest.mark.parametrize(("what", "message"), BROKEN)
def test_a_broken_file_is_one_error_and_changes_nothing(what: str, message: str, tmp_path: Path) -> None:
    model, path = nn.MLP(2, [2, 1], rng=0), tmp_path / "m.json"
    model.save(path)
    path.write_text(json.dumps(broken(json.loads(path.read_text()), what)))
    other = nn.MLP(2, [2, 1], rng=1)
    before = other.state_dict()
    with pytest.raises(ValueError, match=message):
        other.load(path)
    assert other.state_dict() == before


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    model, path = nn.Neuron(1, rng=0), tmp_path / "m.json"
    model.save(path)
    whole = path.read_bytes()
    before = model.state_dict()
    for length in range(0, len(whole.rstrip()), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="is not a whole model file"):
            model.load(path)
    assert model.state_dict() == before


def file_of(kind: str, options: Any, state: Any) -> str:
    call = {"class": f"tinygrad_edu.nn:{kind}", "arguments": [], "options": options}
    return json.dumps({"format": "tinygrad_edu model", "version": 2, "model": call, "state": state})


NESTED: Any = {"class": "tinygrad_edu.nn:Sequential", "arguments": [], "options": {}}
for _ in range(300):
    NESTED = {"class": "tinygrad_edu.nn:Sequential", "arguments": [NESTED], "options": {}}

HOSTILE = {
    "outputs": file_of("Dense", {"n_inputs": 1, "n_outputs": 10**6}, {"W": 1.0}),
    "inputs": file_of("Dense", {"n_inputs": 10**9, "n_outputs": 1}, {}),
    "neuron": file_of("Neuron", {"n_inputs": 10**9}, {}),
    "layer": file_of("Layer", {"n_inputs": 1, "n_outputs": 10**12}, {"w": 0.0}),
    "mlp": file_of("MLP", {"n_inputs": 1000, "n_outputs": [1000] * 1000}, {f"w{i}": 0.0 for i in range(1000)}),
    "embedding": file_of("Embedding", {"n_embeddings": 10**9, "n_dimensions": 10**9}, {}),
    "norm": file_of("BatchNorm", {"n": 10**9}, {}),
    "list": file_of("MLP", {"n_inputs": 1, "n_outputs": {"a": 1}}, {}),
    "size": file_of("Dense", {"n_inputs": "1", "n_outputs": []}, {}),
    "options": file_of("Dense", 5, {}),
    "no argument": file_of("Dense", {}, {}),
    "unknown argument": file_of("Dense", {"n_inputs": 1, "n_outputs": 1, "bias": True}, {}),
    "state": file_of("Dense", {"n_inputs": 1, "n_outputs": 1}, {"W0_0": 1.0, "b0": {"a": 1}}),
    "long number": file_of("Dense", {"n_inputs": 1, "n_outputs": 1}, {"W0_0": 10**400, "b0": 1}),
    "buffer": file_of(
        "BatchNorm", {"n": 1}, {"gamma0": 1.0, "beta0": 1.0, "running_mean": 5, "running_var": [1.0]}
    ),
    "nested": json.dumps({"format": "tinygrad_edu model", "version": 2, "model": NESTED, "state": {}}),
    "brackets": "[" * 100_000,
    "braces": '{"a":' * 100_000,
    "constant": file_of("Dense", {"n_inputs": 1, "n_outputs": 1}, {"W0_0": math.nan, "b0": 1.0}),
    "digits": "1" * 10_000,
    "empty": "",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_ends_at_once_in_a_value_error(what: str, tmp_path: Path) -> None:
    path, model = tmp_path / "m.json", nn.Dense(1, 1, rng=0)
    path.write_text(HOSTILE[what], encoding="utf-8")
    started = time.perf_counter()
    with pytest.raises(ValueError, match=r"m\.json "):
        nn.load(path)
    with pytest.raises(ValueError, match=r"m\.json "):
        model.load(path)
    assert time.perf_counter() - started < 60  # a hostile file could take hours


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="is not a whole model file"):
        nn.load(tmp_path / "m.json")


def mutated(text: str, rng: random.Random) -> bytes:
    """A model file with one to three faults: in its bytes or in its JSON."""
    data = bytearray(text.encode())
    if rng.random() < 0.5:
        for _ in range(rng.randint(1, 3)):
            i, j = rng.randrange(len(data)), rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[i] = rng.randrange(256)
                case 1:
                    del data[i : i + rng.randint(1, 40)]
                case 2:
                    data[i:i] = data[j : j + rng.randint(1, 40)]
                case 3:
                    data[i:i] = rng.choice([b"9" * 20, b"null", b"[[", b'"', b"-", b"1e999", b"{}", b"true"])
        return bytes(data)
    document = json.loads(text)
    for _ in range(rng.randint(1, 3)):
        place: Any = document
        while True:
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
            inner = place[key]
            if not (isinstance(inner, dict | list) and inner) or rng.random() < 0.3:
                break
            place = inner
        other = rng.choice([5, -1, 10**9, 0.5, None, True, "x", "nan", [], {}, [1, 2], {"a": 1}, [[[]]], "Dense"])
        place[key] = other
        if isinstance(document, dict) and not all(isinstance(x, dict | list) or True for x in document.values()):
            break
    return json.dumps(document).encode()


def refuses(load: Callable[[], Any], path: str) -> bool:
    """Does it end in a ValueError that names the file? Any other error is one of the test."""
    try:
        load()
    except ValueError as error:
        return path in str(error) or pytest.fail(f"{error} does not name the file")
    return False


@pytest.mark.slow
def test_1000_mutated_files_load_or_end_in_a_value_error(tmp_path: Path) -> None:
    rng, path, refused = random.Random(0), tmp_path / "m.json", 0
    texts = []
    for model in MODELS:
        optimizer = optim.Adam(model.parameters())
        optimizer.step()
        model.save(path, optimizer)
        texts.append((model, path.read_text(encoding="utf-8")))
    for _ in range(1000):
        model, text = rng.choice(texts)
        path.write_bytes(mutated(text, rng))
        before = model.state_dict()
        optimizer = optim.Adam(model.parameters())
        for load in (lambda: nn.load(path, optim.Adam), lambda m=model, o=optimizer: m.load(path, o)):
            started = time.perf_counter()
            refused += refuses(load, str(path))
            assert time.perf_counter() - started < 60
        if refuses(load, str(path)):
            assert model.state_dict() == before
        model.load_state_dict(before)
    assert 1000 < refused < 2000


# --- Writing ------------------------------------------------------------------------------------------------


def test_what_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    nn.Dense(1, 1, rng=0).save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="cannot be saved: <function"):
        nn.Dense(1, 1, lambda z: z * 2, rng=0).save(path)
    exact = nn.Neuron(1, rng=0)
    exact.b.data = Fraction(1, 3)
    with pytest.raises(TypeError, match=r"b is Fraction\(1, 3\): a file holds floats only"):
        exact.save(path)
    deep: nn.Module = nn.Dense(1, 1, rng=0)
    for _ in range(120):
        deep = nn.Sequential(deep)
    with pytest.raises(ValueError, match="nested 100 deep at most"):
        deep.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]
    with pytest.raises(FileNotFoundError):
        nn.Dense(1, 1, rng=0).save(tmp_path / "no" / "m.json")


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_a_crash_while_writing_leaves_the_old_file(
    function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.json"
    nn.Dense(1, 1, rng=0).save(path)
    before = path.read_bytes()

    def fails(*arguments: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(f"os.{function}", fails)
    with pytest.raises(OSError, match="disk full"):
        nn.Dense(1, 1, rng=1).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr("os.fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr("os.replace", lambda *paths: (calls.append("replace"), replace(*paths)))
    nn.Dense(1, 1, rng=0).save(tmp_path / "m.json")
    assert calls == ["fsync", "replace"]


posix = pytest.mark.skipif(os.name != "posix", reason="modes and links as POSIX has them")


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_is_that_of_the_umask(umask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        for _ in range(2):
            nn.Dense(1, 1, rng=0).save(tmp_path / "m.json")
            assert (tmp_path / "m.json").stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)
    (tmp_path / "m.json").chmod(0o640)
    nn.Dense(1, 1, rng=0).save(tmp_path / "m.json")
    assert (tmp_path / "m.json").stat().st_mode & 0o777 == 0o640


@posix
def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    link = tmp_path / "latest.json"
    link.symlink_to(Path("runs") / "m.json")
    for seed in range(2):
        model = nn.Dense(1, 1, rng=seed)
        model.save(link)
        assert link.is_symlink()
        assert nn.load(tmp_path / "runs" / "m.json").state_dict() == model.state_dict()
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["m.json"]


@posix
def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    texts: list[str] = []
    reader = threading.Thread(target=lambda: texts.append((tmp_path / "pipe").read_text()))
    reader.start()
    nn.Dense(1, 1, rng=0).save(tmp_path / "pipe")
    reader.join()
    assert json.loads(texts[0])["state"].keys() == {"W0_0", "b0"}
    with pytest.raises(IsADirectoryError):
        nn.Dense(1, 1, rng=0).save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


@posix
def test_the_remains_of_a_killed_writer_are_removed(tmp_path: Path) -> None:
    program = """
        import os, sys, time
        from tinygrad_edu import nn
        def stop(*paths):
            print("here", flush=True)
            time.sleep(60)
        os.replace = stop
        nn.Dense(1, 1, rng=0).save(sys.argv[1])
    """
    path = tmp_path / "m.json"
    command = [sys.executable, "-c", textwrap.dedent(program), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        assert writer.stdout.readline() == b"here\n"
        nn.Dense(1, 1, rng=0).save(path)
        assert len(list(tmp_path.iterdir())) == 2  # the writer is alive
        writer.send_signal(signal.SIGKILL)
    nn.Dense(1, 1, rng=0).save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


def test_a_part_of_a_model_is_a_value_no_more_than_once() -> None:
    shared = nn.Sequential(nn.Dense(1, 1, rng=0))
    shared.again = shared.layers[0]
    assert all(isinstance(p, Value) for p in shared.parameters())
    assert list(shared.state_dict()) == ["layer0.W0_0", "layer0.b0"]
