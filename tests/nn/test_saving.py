"""Saved models: the same bits back, or one clear error and nothing changed."""

import contextlib
import json
import math
import os
import random
import re
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from cases import OPTIMIZERS

import tinygrad_edu as tg
from tinygrad_edu import nn, optim
from tinygrad_edu.nn.architecture import described


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.json"


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
def test_every_module_comes_back_to_the_last_bit(model: nn.Module, path: Path, tmp_path: Path) -> None:
    for name, numbers in model.buffers().items():
        numbers[:] = [0.1 + i / 3 for i in range(len(numbers))] if "var" in name else [-1e-300] * len(numbers)
    model.save(path)
    state = random.getstate()
    twin = nn.load(path)
    assert random.getstate() == state  # the first weights are not drawn
    assert type(twin) is type(model)
    for (name, p), (twin_name, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert (name, p.data.hex(), p.label) == (twin_name, q.data.hex(), q.label)
    assert model.buffers() == twin.buffers()
    twin.save(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()
    model.eval()
    twin.eval()
    inputs = 3 if isinstance(model, nn.Embedding) else [0.3, -0.7, 0.2][: getattr(model, "n_inputs", 2)]
    data = [[x.data for x in out] if isinstance(out, list) else out.data for out in (model(inputs), twin(inputs))]
    assert data[0] == data[1]


def test_people_and_other_tools_can_read_the_file(path: Path) -> None:
    model = nn.Dense(2, 1, "relu", rng=0)
    for parameter, number in zip(model.parameters(), [math.nan, -math.inf, math.inf], strict=True):
        parameter.data = number
    model.save(path)
    constants: list[str] = []
    saved = json.loads(path.read_text(encoding="utf-8"), parse_constant=constants.append)
    assert not constants
    options = {"n_inputs": 2, "n_outputs": 1, "activation": "relu"}
    assert saved == file_of("Dense", options, {"W0_0": "nan", "W1_0": "-inf", "b0": "inf"})
    assert [repr(p.data) for p in nn.load(path).parameters()] == ["nan", "-inf", "inf"]


def test_every_float_comes_back(path: Path) -> None:
    rng, model = random.Random(0), nn.Dense(20, 50, rng=0)
    special = [0.0, -0.0, 5e-324, -2.2250738585072014e-308, sys.float_info.max, math.inf, -math.inf]
    for i, parameter in enumerate(model.parameters()):
        parameter.data = special[i] if i < len(special) else rng.uniform(-1, 1) * 10.0 ** rng.randint(-300, 300)
    model.save(path)
    assert list(map(repr, nn.load(path).state_dict().values())) == [repr(p.data) for p in model.parameters()]
    nn.Activation("leaky_relu", alpha=math.inf).save(path)
    assert nn.load(path).arguments == {"alpha": math.inf}


DENSE = {"module": "Dense", "arguments": [], "options": {"n_inputs": 1, "n_outputs": 1, "activation": "relu"}}
RESIDUAL = {"module": "Residual", "arguments": [], "options": {"module": DENSE}}
OWN = {"module": "Own", "arguments": [], "options": {"scale": 2.0, "inner": DENSE}}
NORM = {"module": "BatchNorm", "arguments": [], "options": {"n": 1, "momentum": 0.3, "eps": 1e-05}}
MEANS = {"layer0.running_mean": [0.25], "layer0.running_var": [math.inf]}
VERSION_1 = [  # as that version wrote them: the model, its parameters and buffers
    (DENSE, {"W0_0": 0.1, "b0": math.nan}, {}),
    (RESIDUAL, {"module.W0_0": -1e-300, "module.b0": 0.0}, {}),
    (OWN, {"inner.W0_0": 5.0, "inner.b0": -0.0}, {}),
    (
        {"module": "Sequential", "arguments": [NORM], "options": {}},
        {"layer0.gamma0": 1.5, "layer0.beta0": 2.0},
        MEANS,
    ),
]


@pytest.mark.parametrize(("call", "parameters", "buffers"), VERSION_1)
def test_a_file_of_version_1_loads(call: Any, parameters: Any, buffers: Any, path: Path) -> None:
    document = {"format": "tinygrad_edu model", "version": 1, "model": call}
    path.write_text(json.dumps(document | {"parameters": parameters, "buffers": buffers}))  # with NaN and Infinity
    model = nn.load(path)
    assert type(model).__name__ == call["module"]
    assert repr(model.state_dict()) == repr(parameters | buffers)
    for parameter in model.parameters():
        parameter.data = 0.0
    assert repr(model.load(path).state_dict()) == repr(parameters | buffers)
    model.save(path)
    assert json.loads(path.read_text())["version"] == 2
    assert repr(nn.load(path).state_dict()) == repr(parameters | buffers)


DATA = ([[0.1 * i, (-1) ** i * 0.3] for i in range(10)], [(-1) ** i for i in range(10)])


def trained(model: nn.Module, optimizer: Any, epochs: int, compiled: bool) -> None:
    options = {"schedule": optim.cosine(8), "start": optimizer.epochs, "compiled": compiled, "progress": False}
    tg.fit(model, nn.hinge, DATA, optimizer, epochs, batch_size=3, **options)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_training_resumes_to_the_last_bit(make: Any, compiled: bool, path: Path) -> None:
    whole, model = (nn.MLP(2, [3, 1], "tanh", rng=rng) for rng in (0, 5))
    optimizer, resumed = make(whole.parameters()), make(model.parameters())
    trained(whole, optimizer, 3, compiled)
    whole.save(path, optimizer)
    trained(whole, optimizer, 3, compiled)
    assert model.load(path, resumed) is model
    assert resumed.epochs == 3
    kind = make if isinstance(optimizer, optim.SGD) else type(optimizer)  # nesterov needs its momentum
    for again, its in ((model, resumed), nn.load(path, kind)):
        trained(again, its, 3, compiled)
        assert again.state_dict() == whole.state_dict()
        assert its.state_dict() == optimizer.state_dict()


def test_both_are_loaded_or_neither(path: Path) -> None:
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
    with pytest.raises(TypeError, match=r"got Adam\(2 parameters, lr=0.001\).* model.load\(path, optimizer\)"):
        nn.load(path, optimizer)


def test_a_class_of_the_same_name_is_another_class(path: Path, tmp_path: Path) -> None:
    nn.Dense(1, 1, rng=0).save(path)

    class Dense(nn.Module):
        pass

    assert type(nn.load(path)) is nn.Dense
    Dense().save(tmp_path / "own.json")
    assert type(nn.load(tmp_path / "own.json")) is Dense
    with pytest.raises(ValueError, match="another architecture: Dense"):
        Dense().load(path)


def test_the_class_that_has_the_name_now_is_built(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = type(sys)("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    cell = "class Cell(nn.Module):\n    pass"  # of a notebook
    vars(main).update(nn=nn)
    exec(cell, vars(main))
    old = vars(main)["Cell"]
    old().save(path)
    assert type(nn.load(path)) is old
    exec(cell, vars(main))
    assert type(nn.load(path)) is vars(main)["Cell"] is not old
    del vars(main)["Cell"]
    assert issubclass(old, nn.Module)  # it still lives
    exec(cell, {"__name__": "__main__", "nn": nn})
    with pytest.raises(ValueError, match="'__main__:Cell' is defined more than once: rename one"):
        nn.load(path)


@pytest.mark.parametrize("name", ["os:system", "builtins:eval", "tinygrad_edu.optim:Adam", ":", "a:b:c"])
def test_only_modules_are_built(name: str, path: Path) -> None:
    nn.Neuron(1, rng=0).save(path)
    path.write_text(path.read_text().replace("tinygrad_edu.nn:Neuron", name))
    with pytest.raises(ValueError, match=f"the Module class '{name}' is not defined: import or define it"):
        nn.load(path)


MODEL = nn.MLP(2, [2, 1], rng=0)
CALL, STATE = described(MODEL), MODEL.state_dict()
WHOLE: dict[str, Any] = {"format": "tinygrad_edu model", "version": 2, "model": CALL, "state": STATE}
NESTED: Any = []
for _ in range(300):
    NESTED = {"class": "tinygrad_edu.nn:Sequential", "arguments": [NESTED], "options": {}}


def file_of(kind: str, options: Any, state: Any) -> dict[str, Any]:
    call = {"class": f"tinygrad_edu.nn:{kind}", "arguments": [], "options": options}
    return WHOLE | {"model": call, "state": state}


ONE, NORM_STATE = {"n_inputs": 1, "n_outputs": 1}, {"gamma0": 1.0, "beta0": 1.0, "running_var": [1.0]}
CUT = "is not a whole model file"
FAULTS: dict[str, tuple[Any, str]] = {  # what the file holds, and what is said of it
    "another file": ({"weights": [1, 2, 3]}, "is not a model file: it does not say that its format"),
    "a list": ([1, 2, 3], "is not a model file"),
    "version": (WHOLE | {"version": 3}, "has version 3 of the format. This program reads the versions 1 to 2"),
    "no version": (WHOLE | {"version": [2]}, r"has version \[2\] of the format"),
    "old version": (WHOLE | {"version": 1}, f"{CUT}: it has no state"),
    "no state": (WHOLE | {"state": None}, f"{CUT}: it has no state"),
    "no model": (WHOLE | {"model": [CALL]}, f"{CUT}: it has no model"),
    "no optimizer": (WHOLE | {"optimizer": 5}, f"{CUT}: it has no optimizer"),
    "empty state": (WHOLE | {"state": {}}, r"The state does not fit the model \(missing: 'layer0.neuron0.b'"),
    "text": (WHOLE | {"state": STATE | {"layer0.neuron0.w0": "0.5"}}, "must be one real number, got '0.5'"),
    "architecture": (
        WHOLE | {"model": CALL | {"options": CALL["options"] | {"n_inputs": 3}}},
        r"another architecture: MLP\(activation='relu', n_inputs=3, n_outputs=\[2, 1\]\), not MLP\(.*n_inputs=2",
    ),
    "outputs": (file_of("Dense", {"n_inputs": 1, "n_outputs": 10**6}, {"W": 1.0}), ""),
    "inputs": (file_of("Dense", {"n_inputs": 10**9, "n_outputs": 1}, {}), ""),
    "neuron": (file_of("Neuron", {"n_inputs": 10**9}, {}), ""),
    "layer": (file_of("Layer", {"n_inputs": 1, "n_outputs": 10**12}, {"w": 0.0}), ""),
    "mlp": (
        file_of("MLP", {"n_inputs": 1000, "n_outputs": [1000] * 1000}, dict.fromkeys(map(str, range(1000)), 0.0)),
        "",
    ),
    "embedding": (file_of("Embedding", {"n_embeddings": 10**9, "n_dimensions": 10**9}, {}), ""),
    "norm": (file_of("BatchNorm", {"n": 10**9}, {}), ""),
    "sizes": (file_of("MLP", {"n_inputs": 1, "n_outputs": {"a": 1}}, {}), ""),
    "size": (file_of("Dense", {"n_inputs": "1", "n_outputs": []}, {}), ""),
    "options": (file_of("Dense", 5, {}), ""),
    "no argument": (file_of("Dense", {}, {}), ""),
    "unknown argument": (file_of("Dense", ONE | {"bias": True}, {}), ""),
    "dict in the state": (file_of("Dense", ONE, {"W0_0": 1.0, "b0": {"a": 1}}), ""),
    "long number": (file_of("Dense", ONE, {"W0_0": 10**400, "b0": 1}), ""),
    "buffer": (file_of("BatchNorm", {"n": 1}, NORM_STATE | {"running_mean": 5}), ""),
    "nested": (WHOLE | {"model": NESTED}, ""),
    "brackets": ("[" * 100_000, CUT),
    "braces": ('{"a":' * 100_000, CUT),
    "digits": ("1" * 10_000, CUT),
    "empty": ("", CUT),
    "bytes": ("\ud800", CUT),  # no UTF-8
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_ends_at_once_in_one_error_and_changes_nothing(fault: str, path: Path) -> None:
    document, message = FAULTS[fault]
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    model = nn.MLP(2, [2, 1], rng=1)
    before, started = model.state_dict(), time.process_time()
    with pytest.raises(ValueError, match=rf"m\.json .*{message}"):
        model.load(path)
    with pytest.raises(ValueError, match=r"m\.json "):
        nn.load(path)
    assert time.process_time() - started < 60  # a hostile file could take hours of work
    assert model.state_dict() == before


def test_a_file_cut_short_anywhere_is_refused(path: Path) -> None:
    nn.Neuron(1, rng=0).save(path)
    whole = path.read_bytes()
    for length in range(0, len(whole.rstrip()), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=CUT):
            nn.load(path)


def mutated(text: str, rng: random.Random) -> bytes:
    """A model file with one to three faults: a part of its JSON is another value, or some bytes are others."""
    data = text.encode()
    for _ in range(rng.randint(1, 3)):
        tokens = [match.span() for match in re.finditer(rb'"[^"]*"|-?[0-9][0-9.e-]*|null|[\[{][\]}]', data)]
        start = rng.randrange(len(data))
        place = rng.choice(tokens) if tokens and rng.random() < 0.7 else (start, start + rng.choice([0, 1, 40]))
        junk = [*b'5 -1 1e999 null true "x" "nan" [] {} [[ " \xff'.split(), b"9" * 20]
        data = data[: place[0]] + rng.choice(junk) + data[place[1] :]
    return data


@pytest.mark.slow
def test_1000_mutated_files_load_or_end_in_a_value_error(path: Path) -> None:
    rng, refused, texts = random.Random(0), [], []
    for model in MODELS:
        model.save(path, optim.Adam(model.parameters()))
        texts.append((model, path.read_text(encoding="utf-8")))
    for _ in range(1000):
        model, text = rng.choice(texts)
        path.write_bytes(mutated(text, rng))
        before, optimizer = model.state_dict(), optim.Adam(model.parameters())
        with contextlib.suppress(ValueError):
            nn.load(path, optim.Adam)
        try:
            model.load(path, optimizer)
        except ValueError as error:
            refused.append(str(error))
        else:
            model.load_state_dict(before)
        assert model.state_dict() == before
    assert 500 < len(refused) < 1000
    assert all(str(path) in message for message in refused)


# --- Writing ------------------------------------------------------------------------------------------------
def test_what_cannot_be_saved_leaves_the_old_file(path: Path, tmp_path: Path) -> None:
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
    function: str, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nn.Dense(1, 1, rng=0).save(path)
    before = path.read_bytes()
    monkeypatch.setattr(f"os.{function}", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        nn.Dense(1, 1, rng=1).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["m.json"]


posix = pytest.mark.skipif(os.name != "posix", reason="modes and links as POSIX has them")


@posix
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_mode_is_that_of_the_umask(umask: int, mode: int, path: Path) -> None:
    before = os.umask(umask)
    try:
        for _ in range(2):
            nn.Dense(1, 1, rng=0).save(path)
            assert path.stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)
    path.chmod(0o640)
    nn.Dense(1, 1, rng=0).save(path)
    assert path.stat().st_mode & 0o777 == 0o640


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
