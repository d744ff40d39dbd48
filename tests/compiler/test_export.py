"""`step.save`: a module that computes without this package what the compiled function computes."""

import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import CASES

import tinygrad_edu as tg
from tinygrad_edu import Value, nn

RUN = """
import json, sys
import numpy as np
import model
assert not any(name.startswith("tinygrad_edu") for name in sys.modules)
with np.load("batch.npz") as batch:
    batch = [batch[name] for name in batch]
results = {name: getattr(model, name)(*batch) for name in ("loss", "gradient", "predict")}
np.savez("results.npz", **results)
"""


NAMES = "cross_entropy_one_hot attention_causal recurrence_with_gates mean_of_embeddings parameters_only".split()


@pytest.mark.parametrize("name", NAMES)
def test_a_module_gives_the_same_without_this_package(name: str, tmp_path: Path) -> None:
    function, parameters, batch = CASES[name]()
    step = tg.compile(function, parameters)
    value, gradient = step.value_and_grad(*batch)
    step.save(tmp_path / "model.py")
    assert {path.name for path in tmp_path.iterdir()} == {"model.py", "model.npz"}
    np.savez(tmp_path / "batch.npz", *batch)
    command = [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, '.'){RUN}"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=600)
    with np.load(tmp_path / "results.npz") as results:
        assert results["loss"] == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(results["gradient"], gradient, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(results["predict"], step.predict(*batch), rtol=1e-12)


def module_of(step: Any, path: Path) -> dict[str, Any]:
    step.save(path)
    names: dict[str, Any] = {"__file__": str(path)}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), names)
    return names


def test_results_are_nested_as_the_function_nests_them(tmp_path: Path) -> None:
    w = [Value(0.5), Value(2.0)]
    step = tg.compile(lambda x: {"loss": w[0] * x, "both": [w[1], x * 1.0], "t": (w[0], [w[0], w[1]])}, w)
    expected = step.predict([3.0, 4.0])
    predicted = module_of(step, tmp_path / "m.py")["predict"]([3.0, 4.0])
    np.testing.assert_equal(predicted, expected)


def test_one_hot_rows_are_not_assumed(tmp_path: Path) -> None:
    model = nn.Dense(2, 3, rng=0)
    step = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters())
    X, soft = np.ones((2, 2)), np.full((2, 3), 0.9)
    step.value_and_grad(X, np.eye(3)[:2])
    names = module_of(step, tmp_path / "m.py")
    value, gradient = step.value_and_grad(X, soft)
    assert names["loss"](X, soft) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(names["gradient"](X, soft), gradient, rtol=1e-12)
    for wrong, words in [((X,), "2 arrays"), ((np.ones((2, 3)), soft), r"\(2,\), got the array \(2, 3\)")]:
        with pytest.raises((TypeError, ValueError), match=words):
            names["loss"](*wrong)


def test_indices_of_a_saved_module_are_checked(tmp_path: Path) -> None:
    rows = [[Value(0.1 * i * j) for j in range(2)] for i in range(3)]
    parameters = [x for row in rows for x in row]
    step = tg.compile(lambda ids: tg.sum([rows[i][0] * rows[j][1] for i, j in [ids]]), parameters)
    value, gradient = step.value_and_grad([[0, 2], [1, 1]])
    names = module_of(step, tmp_path / "m.py")
    assert names["loss"]([[0, 2], [1, 1]]) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(names["gradient"]([[0, 2], [1, 1]]), gradient, rtol=1e-12)
    for wrong in (3, -1, 0.5):
        with pytest.raises(IndexError, match="array 0 of a batch has the indices 0 to 2"):
            names["predict"]([[0, wrong]])


def test_whole_numbers_and_a_number_around_the_function_that_has_changed(tmp_path: Path) -> None:
    w, around, path = [Value(0.3), Value(-0.2)], [0.5], tmp_path / "m.py"
    step = tg.compile(lambda x, k: (around[0] * w[k] * x + (1.0 if k == 1 else 0.3)) ** 2, w)
    for around[0] in (0.5, 0.9):
        value, gradient = step.value_and_grad([1.0, 2.0], [0, 1])
        names = module_of(step, path)
        assert names["loss"]([1.0, 2.0], [0, 1]) == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(names["gradient"]([1.0, 2.0], [0, 1]), gradient, rtol=1e-12)


def test_what_cannot_be_saved_is_told(tmp_path: Path) -> None:
    own = tg.rule(lambda x: x * x, backward=lambda upstream, out, x: (upstream * math.fabs(x),), name="own")
    w = Value(0.5)

    def grown(x: Any) -> Any:
        while x.data < 3:
            x = x * 2 + w
        return x

    with pytest.raises(RuntimeError, match="Nothing is compiled yet"):
        tg.compile(lambda x: w * x, [w]).save(tmp_path / "m.py")
    for function, words in [
        (grown, "looks at numbers"),
        (lambda x: own(w) * x, "rule of your own"),
        (lambda x: w * x * random.random(), "draws random numbers"),
    ]:
        step = tg.compile(function, [w])
        step([1.0, 2.0])
        with pytest.raises(tg.CompileError, match=words):
            step.save(tmp_path / "m.py")
    with pytest.raises(ValueError, match=r"such as model\.py, got .*m\.txt"):
        step.save(tmp_path / "m.txt")
    assert not list(tmp_path.iterdir())
