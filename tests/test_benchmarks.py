"""The benchmarks run, without the engines that they compare with too; how long things take is nobody's test."""

import importlib.util
import re
from pathlib import Path

import pytest
from cases import run

BENCHMARKS = f"{Path(__file__).parent}/benchmarks/"
SCRIPTS = {  # and the engine that it compares with
    "eager.py": "micrograd",
    "compiling.py": "",
    f"checkouts.py {Path(__file__).parents[1]}": "",
    "contenders.py": "",
    "contenders.py --first": "jax",
    "small_graphs.py": "micrograd",
    "derivatives.py": "flint",
    "soundness.py": "flint",
}


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_it_runs(script: str) -> None:
    if SCRIPTS[script]:
        pytest.importorskip(SCRIPTS[script])
    result = run(BENCHMARKS + script.split()[0], *script.split()[1:], "--quick")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_compiled_agrees_with_all_and_prints_every_table() -> None:
    result = run(BENCHMARKS + "compiled.py", "--quick", "--markdown", OMP_NUM_THREADS="1")
    assert result.returncode == 0, result.stderr
    assert "1 thread(s) for everybody" in result.stdout
    for module, package in (("torch", "torch==2.13.0"), ("micrograd", "micrograd==0.1.0")):
        assert (f"pip install {package}" in result.stdout) == (importlib.util.find_spec(module) is None)
    for model in ("Dense", "MLP"):  # in both precisions
        assert len(re.findall(rf"^  nn.{model} agrees with NumPy", result.stderr, re.MULTILINE)) == 2
    for pair in ("by hand agrees with compiled", "python agrees with eager", "compiled agrees with eager"):
        assert pair in result.stderr
    rows = re.findall(r"^\| (.*?) \|", result.stdout, re.MULTILINE)
    batches = {"float32, batch 4, nn.Dense", "float64, batch 4, nn.MLP"}
    assert batches | {"hvp / gradient", "compiled, backend=python"} <= set(rows)


@pytest.mark.parametrize("wrong", [(2.0, [1.0, 0.0]), (1.0, [1.0, 1e-3]), (1.0, [1.0, float("nan")])])
def test_disagreement_ends_it(wrong: tuple[float, list[float]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    compare = importlib.import_module("common").compare
    with pytest.raises(SystemExit, match=r"other is .* away"):
        compare({"this": ((1.0, [1.0, 0.0]), None), "other": (wrong, None)}, 1e-4)
