"""The page as text: what is in it, what cannot be, how large it is, and what a notebook gets."""

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cases import in_node, needs_node, python
from graphs import XS, squares
from hypothesis import Phase, given, settings

import tinygrad_edu as tg
from tinygrad_edu import Value, micrograd, nn
from tinygrad_edu.page import Live, live
from tinygrad_edu.testing import Program, absolute_adjoint, programs
from tinygrad_edu.viz.words import four_digits, visible


def neuron() -> Value:
    out = nn.Neuron(2, "tanh", rng=0)([Value(0.5, label="x0"), Value(-1.0, label="x1")])
    out.label = "out"
    return out


def data_of(page: str) -> dict:
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(match[1])


def test_the_page_holds_the_graph_inf_and_nan_included() -> None:
    a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    data = data_of(live((a * b + 10.0).tanh()).to_html())
    assert sorted(data["leaves"]) == [-3.0, 2.0, 10.0]
    assert set(data["names"].values()) == {"a", "b"}
    assert [rule >= 0 for rule in data["rule"]].count(True) == 3
    assert len(data["operands"]) == 5
    data = data_of(live(Value(float("inf")) * Value(float("nan"))).to_html())
    assert sorted(data["leaves"]) == ["Infinity", "NaN"]


@needs_node
@settings(max_examples=25, phases=[Phase.generate])
@given(program=programs())
def test_numbers_paths_and_steps_are_the_engines_after_leaves_change(program: Program) -> None:
    root = program(*map(Value, program.inputs))
    numbers = [12345.678, 99990.0, 9999.4, 1e5, 1e-4, 1.2e-5, -0.5, 3.0]
    page, order = live(root).to_html(), tg.topological_order(root)
    changed = [i for i, node in enumerate(order) if not node.rule][:2]
    for i in changed:
        order[i].data = round(order[i].data + 0.25, 3)
    scripts = re.search(r'"module">(.*?)\nconst SVG = .*?(\nfunction current\(\).*?\n})', page, re.DOTALL)
    values, gradients, products, times, texts = in_node(
        f"{scripts[1]}{scripts[2]}\nconst graph = new Graph({json.dumps(data_of(page))}), state = {{}};"
        "const last = graph.interior.length;"
        f"for (const [i, x] of {[[i, order[i].data] for i in changed]}) graph.set(i, x);"
        "const times = Array.from({ length: 2 * last + 1 }, (_, t) => current(state.time = t));"
        f"const products = graph.paths({changed[0]}).map((path) => path.product);"
        f"PRINT([[...graph.value], [...graph.gradient], products, times, {numbers}.map(four)]);"
    )
    for node in order:
        if node.rule:
            node.data = node.rule.forward(*[parent.data for parent in node.parents])
    root.backward()
    sizes = absolute_adjoint(root)
    for node, value, gradient in zip(order, values, map(float, gradients), strict=True):
        assert float(value) == pytest.approx(node.data, rel=1e-9, abs=1e-12, nan_ok=True)
        assert abs(gradient - node.grad) <= 1e-9 * sizes[node] + 1e-12 or gradient == node.grad
    paths = [abs(path.product) for path in tg.why(root, order[changed[0]], 5).paths]
    assert [abs(float(x)) for x in products] == pytest.approx(paths, rel=1e-9, abs=1e-12, nan_ok=True)
    steps = [i for i, node in enumerate(order) if node.rule]
    assert times == [None, *steps, *steps[::-1]]
    assert texts == list(map(four_digits, numbers))


@pytest.mark.parametrize(
    ("label", "other", "function", "result"),
    [
        ("", "v1", lambda a, b: a * b, 6.0),
        ("\u00b5", "\u03bc", lambda a, b: a - b, 1.0),  # two labels, but one name in Python
        ("abs", "b", lambda a, b: abs(a) - b, 1.0),
        ("a", "b", lambda a, b: tg.rule(lambda x: x - 4.0, name="less", backward=lambda u, o, x: (u,))(a), -1.0),
        ("a", "b", lambda a, b: micrograd.Value(1.5, (a, b), (0.5, 2.0)) * 2, 3.0),
    ],
)
def test_the_program_to_copy_gives_the_result(label: str, other: str, function: Any, result: float) -> None:
    leaves = {label: Value(3.0, label=label), other: Value(2.0, label=other)}
    root, namespace = function(*leaves.values()), dict[str, Any]()
    program, order = data_of(live(root).to_html())["program"], tg.topological_order(root)
    numbers = (repr(x.data) for x in order if not x.rule)
    exec("".join(f"{text}{next(numbers, '')}" for text in program), namespace)
    assert [x.data for x in namespace.values() if isinstance(x, Value) and x.grad == 1.0 and x.rule][-1] == result


@pytest.mark.parametrize("first", ["", "tinygrad_edu.page", "tinygrad_edu.debug", "tinygrad_edu.cli.commands"])
def test_live_is_a_function_whatever_was_imported_first(first: str) -> None:
    program = f"import tinygrad_edu as tg, inspect, {first or 'sys'}; tg.blame; "
    program += "assert inspect.isfunction(tg.live); print(inspect.signature(tg.live))"
    assert python(program).startswith("(root: ")


def test_a_function_is_called_with_values_of_its_names() -> None:
    page = live(lambda a, b: a * b, a=2.0, b=Value(-3.0, "b"))
    hint = "(A notebook shows the page; .to_html('page.html') writes it.)"
    assert repr(page).splitlines() == ["Live(3 nodes, result -6)", hint]
    assert set(data_of(page.to_html())["names"].values()) >= {"a", "b"}
    with pytest.raises(TypeError, match="numbers beside a function, got a beside"):
        live(neuron(), a=2.0)


def test_it_is_written_to_a_file_by_no_renderer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = live(neuron())
    assert page.to_html(tmp_path / "page.html") == (tmp_path / "page.html").read_text(encoding="utf-8")
    monkeypatch.setattr("tinygrad_edu.viz.render.Drawing.pipe", None)
    assert live(neuron()).to_html().startswith("<!doctype html>")


@pytest.mark.parametrize("root", [3.0, [Value(1.0), Value(2.0)], "x", None, lambda: 3.0])
def test_what_cannot_be_shown(root: object) -> None:
    with pytest.raises(TypeError, match="Pass one Value"):
        live(root)  # type: ignore[arg-type]  # that is the test


def test_a_rule_that_does_not_run_on_symbols_is_named_and_may_have_no_formula() -> None:
    @tg.rule(backward=lambda upstream, out, x: (upstream * math.cos(x),))
    def by_math(x: float) -> float:
        return math.sin(x)

    with pytest.raises(TypeError, match=r"The rule by_math cannot be written in JavaScript: .*elementary"):
        live(by_math(Value(1.0)))
    twice = tg.rule(lambda x: 2 * x, backward=lambda upstream, out, x: (2 * upstream,), name="twice")
    assert '"slopes":[],' in live(twice(Value(0.5))).to_html()


def test_a_strict_policy_allows_the_two_parts_of_the_page_alone() -> None:
    page = live(neuron()).to_html()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy[1].startswith("default-src 'none'; script-src 'sha256-")
    for tag, source in (("style", "style-src"), ('script type="module"', "script-src")):
        text = re.search(rf"<{tag}>(.*?)</{tag.split()[0]}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()
        assert f"{source} 'sha256-{digest}'" in policy[1]
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert not re.search(r'\sstyle="|\son\w+="', page)


@pytest.mark.parametrize(
    "label", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "${1+1}", '"', "\\", "\u2028"]
)
def test_hostile_labels_stay_text(label: str) -> None:
    page = live(Value(2.0, label=label) * 3).to_html()
    assert visible(label) in data_of(page)["names"].values()
    assert page.count("<script") == 2
    assert "<img" not in page


def test_an_operation_by_hand_keeps_its_number_and_its_slopes() -> None:
    a = micrograd.Value(2.0, label="a")
    out = micrograd.Value(4.0, (a,), "square")

    def _backward() -> None:
        a.grad += 2 * a.data * out.grad

    out._backward = _backward
    page = live(out * 3.0).to_html()
    assert "forward: () => 4, backward: (upstream) => [upstream * 4]" in page


@pytest.mark.parametrize(
    ("rule", "slopes"),
    [
        (lambda x: x**2, '["2 x^(2-1)"]'),
        (tg.sigmoid, '["out (1 - out)"]'),
        (tg.silu, '["sigmoid(x) + x sigmoid(x) (1 - sigmoid(x))"]'),
        (lambda x: tg.elu(x, alpha=0.5), '["1 for x > 0, else 0.5 e^x"]'),
        (lambda x: x / 3.0, '["1 / y","-x / y^2"]'),
        (lambda x: tg.dot([x, x, x], [x, x, x]), "[]"),
    ],
)
def test_the_slopes_are_formulas_of_the_operands_and_the_result(rule: Any, slopes: str) -> None:
    assert f'"slopes":{slopes},' in live(rule(Value(0.5))).to_html()


def test_sizes() -> None:
    assert len(live(neuron()).to_html().encode()) < 60_000
    loss = nn.MLP(2, [16, 16, 1], rng=0)([Value(0.5), Value(-1.0)])
    assert len(live(loss).to_html().encode()) < 300_000
    model = nn.MLP(3, [4, 4, 1], rng=0)
    loss = squares(model, [[*map(Value, x)] for x in XS])
    assert len(json.dumps(live(loss)._repr_mimebundle_())) < 500_000


def test_a_notebook_gets_the_page_the_picture_and_the_words_or_the_page_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bundle = live(neuron())._repr_mimebundle_()
    assert bundle["text/plain"] == "Live(10 nodes, result -0.2379)"
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert bundle["text/html"].startswith('<iframe srcdoc="&lt;!doctype html&gt;')
    hidden = '<img style="display:none" alt="The graph of out with 10 nodes" src="data:image/png;base64,'
    assert hidden + bundle["image/png"] in bundle["text/html"]
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("tinygrad_edu.viz.render._graphviz_pure", lambda: None)
    bundle = Live(neuron(), {})._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "<img" not in bundle["text/html"]


# --- In Pyodide, under Node -----------------------------------------------------------------------------------
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
