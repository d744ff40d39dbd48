"""The engine, tree, steps, live and draw run in Pyodide, under Node, without NumPy and without graphviz."""

import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2]
PROGRAM = """
import sys
sys.path.insert(0, "/package")
import tinygrad_edu as tg

a, b = tg.Value(2.0, label="a"), tg.Value(-3.0, label="b")
y = tg.tanh(a * b + 6.5)
y.backward()
assert abs(a.grad + 2.3593) < 1e-4, a.grad
assert tg.tree(y, ascii=True).startswith("y = 0.4621   grad 1   tanh")
assert "step 3 of 3: " in str(tg.steps(y)) and tg.steps(y).to_html().startswith("<!doctype html>")
assert tg.live(y).to_html().startswith("<!doctype html>") and "text/html" in tg.live(y)._repr_mimebundle_()
assert tg.draw(y)._repr_mimebundle_()["image/svg+xml"].startswith("<svg")
assert str(tg.why(y, a)) and tg.debug.Machine(y).next()
model = tg.nn.MLP(2, [4, 1], rng=0)
tg.nn.mse(model([0.5, 1.0]), 1.0).backward()
assert any(p.grad for p in model.parameters())
assert not {"numpy", "graphviz"} & sys.modules.keys(), sys.modules.keys()
"all is well"
"""
SCRIPT = """
const { loadPyodide } = require("pyodide");
(async () => {
    const python = await loadPyodide();
    python.FS.mkdir("/package");
    python.FS.mount(python.FS.filesystems.NODEFS, { root: process.argv[2] }, "/package");
    console.log(await python.runPythonAsync(process.argv[3]));
})().catch((error) => { console.error(String(error)); process.exit(1); });
"""


@pytest.mark.slow
def test_in_pyodide(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require.resolve('pyodide')"], capture_output=True).returncode:
        pytest.skip("needs Node.js and npm's pyodide on NODE_PATH; .ci/run installs it")
    (tmp_path / "run.cjs").write_text(SCRIPT, encoding="utf-8")
    command = [node, str(tmp_path / "run.cjs"), str(PACKAGE), PROGRAM]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=600)
    assert (done.returncode, done.stdout.strip()) == (0, "all is well"), done.stderr
