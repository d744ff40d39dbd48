"""JavaScript: every rule within 4 units in the last place of Python's, and networks as modules, run by Node."""

import json
import math
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tinygrad_edu as tg
from tinygrad_edu import RULES, Rule, TraceError, Value, nn
from tinygrad_edu.compiler.backends.javascript import helpers, number_text, rule_text
from tinygrad_edu.compiler.run import pointwise
from tinygrad_edu.compiler.run.pipeline import compile_straight

NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js")
SPECIAL = {"Infinity": math.inf, "-Infinity": -math.inf, "NaN": math.nan}


def run(script: str, folder: Path) -> Any:
    """What the script prints, as JSON in which inf and nan are text."""
    file = folder / "script.mjs"
    as_text = "(key, x) => (typeof x === 'number' && !Number.isFinite(x) ? String(x) : x)"
    file.write_text(
        script.replace("PRINT(", "print(")
        + f"\nfunction print(x) {{ console.log(JSON.stringify(x, {as_text})); }}"
    )
    done = subprocess.run([str(NODE), str(file)], capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout, parse_constant=SPECIAL.get)


def number(x: Any) -> float:
    return SPECIAL[x] if isinstance(x, str) else float(x)


def points(rule: Rule, n: int) -> list[list[float]]:
    """Inputs of all sizes inside the domain of a rule."""
    drawn, kept = random.Random(rule.name), []
    for _ in range(2000):
        size = drawn.choice([1e-8, 1e-3, 0.1, 1.0, 3.0, 10.0, 30.0])
        point = [drawn.uniform(-size, size) for _ in range(n)]
        try:
            rule.evaluate(point, point)
        except (ValueError, ArithmeticError):
            continue
        kept.append(point)
    return kept[:300]


@needs_node
def test_rules_are_pythons_within_4_ulps(tmp_path: Path) -> None:
    texts, work = {}, {}
    for name, rule in RULES.items():
        if rule.forward.__module__ == __name__:
            continue
        n = rule.n_inputs or 4
        texts[name], work[name] = rule_text(rule, n), points(rule, n)
        assert work[name], name
    calls = frozenset().union(*(text.calls for text in texts.values()))
    rules = ",\n".join(f"{json.dumps(name)}: [{t.forward}, {t.backward}]" for name, t in texts.items())
    results = run(
        f"{helpers(calls)}\nconst rules = {{{rules}}};\nconst work = {json.dumps(work)};\n"
        "PRINT(Object.fromEntries(Object.entries(work).map(([name, points]) => [name, points.map((x) => {\n"
        "  const out = rules[name][0](...x); return [out, ...rules[name][1](1.5, out, ...x).map(Number)]; })])));",
        tmp_path,
    )
    for name, rows in results.items():
        for point, row in zip(work[name], rows, strict=True):
            out = RULES[name].forward(*point)
            terms = [abs(x) for x in point] if name in ("sum", "dot", "logsumexp", "softplus") else []
            expected = [out, *RULES[name].backward(1.5, out, *point)]
            for got, e in zip(map(number, row), map(float, expected), strict=True):
                size = max(abs(e), *terms, 0.0) if terms else abs(e)
                if name in ("gelu", "silu"):  # their slopes cancel
                    size = max(size, 1.0)
                same = got == e or (got != got and e != e)
                assert same or abs(got - e) <= 4 * math.ulp(size), (name, point, got, e)


TAILS = [0.0, -0.0, 1e-300, 0.3, 0.75, 1.0, 2.99, 4.0, 4.1, 9.0, 26.5, 30.0, math.inf, -math.inf, -5.0, math.nan]
HARD: dict[str, list[tuple[float, ...]]] = {  # mod and pow are equal to the bit
    "mod": [(1e17, 3.0), (-1.0, 1e-17), (5.1, -0.1), (-1.0, math.inf), (0.0, math.inf)],
    "pow": [(1.0, math.inf), (-1.0, -math.inf), (math.nan, 0.0)],
    "erf": [(x,) for x in TAILS],
    "erfc": [(x,) for x in TAILS],
}


@needs_node
@pytest.mark.parametrize("name", HARD)
def test_functions_at_hard_points(name: str, tmp_path: Path) -> None:
    is_rule = name in ("mod", "pow")
    text = rule_text(RULES[name], 2) if is_rule else None
    calls = ", ".join(
        f"({text.forward if text else name})({', '.join(map(number_text, point))})" for point in HARD[name]
    )
    found = run(f"{helpers(text.calls if text else [name])}\nPRINT([{calls}]);", tmp_path)
    for point, got in zip(HARD[name], map(number, found), strict=True):
        expected = (RULES[name].forward if text else getattr(math, name))(*point)
        ulps = 0 if text else 4 * math.ulp(expected)
        assert abs(got - expected) <= ulps or repr(got) == repr(expected), (point, got)


@needs_node
def test_a_network_runs_as_a_module(tmp_path: Path) -> None:
    model = nn.MLP(3, [4, 2], "tanh", rng=0)
    module = tg.compile(model, model.parameters(), backend="javascript", example=([0.0] * 3,))
    script = "PRINT([predict([0.5, -1, 2]), predict(new Float32Array([0.5, -1, 2])), parameters, names]);"
    got = run(module.source + script, tmp_path)
    expected = [out.data for out in model([Value(0.5), Value(-1.0), Value(2.0)])]
    assert got[0] == pytest.approx(expected, rel=1e-15)
    assert got[1] == got[0]
    assert got[2] == [p.data for p in model.parameters()]
    assert got[3][0] == "layer0.neuron0.w0"


@needs_node
def test_value_and_gradient_with_an_index(tmp_path: Path) -> None:
    model = nn.MLP(3, [4, 2], "tanh", rng=0)
    how = {"backend": "javascript", "example": ([0.0] * 3, 1)}
    module = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), **how)
    value, gradient = run(module.source + "PRINT(valueAndGrad([0.5, -1, 2], 1));", tmp_path)
    loss = nn.cross_entropy(model([Value(0.5), Value(-1.0), Value(2.0)]), 1)
    loss.backward()
    assert value == pytest.approx(loss.data, rel=1e-14)
    assert gradient == pytest.approx([p.grad for p in model.parameters()], rel=1e-13, abs=1e-16)


@needs_node
def test_stages_that_repeat_are_loops(tmp_path: Path) -> None:
    w, b, xs = Value(0.5), Value(-0.25), [0.1 * i for i in range(40)]

    def loss(xs: Any) -> Value:
        h = Value(0.5)
        for x in xs:
            h = tg.tanh(w * h + b * x)
        return h * h

    module = tg.compile(loss, [w, b], backend="javascript", example=(xs,))
    assert module.source.count("for (let t = ") == 3  # of predict, and forwards and backwards
    value, gradient = run(f"{module.source}PRINT(valueAndGrad({xs}));", tmp_path)
    out = loss(xs)
    out.backward()
    assert [value, *gradient] == pytest.approx([out.data, w.grad, b.grad], rel=1e-12)


@needs_node
def test_a_rule_of_a_user_and_names_that_javascript_uses(tmp_path: Path) -> None:
    @tg.rule(backward=lambda upstream, out, x: (upstream / ((1 + abs(x)) * (1 + abs(x))),))
    def softsign_js(x: Any) -> Any:
        return x / (1 + abs(x))

    w = Value(2.0, label='</script>"')
    example = {"backend": "javascript", "example": (0.5, [[0.0, 1.0]])}
    module = tg.compile(lambda new, v: softsign_js(w * new) + v[0][1], [w], **example)
    assert "</script>" not in module.source
    value, gradient = run(module.source + "PRINT(valueAndGrad(0.5, [[0, 1]]));", tmp_path)
    assert (value, gradient) == (0.5 + 1, [0.5 / 4])


@needs_node
@pytest.mark.parametrize("name", ["eval", "arguments", "public", "package", "Math", "Float64Array", "Array"])
def test_an_argument_may_have_a_name_that_javascript_uses(name: str, tmp_path: Path) -> None:
    w = Value(2.0)
    function = eval(f"lambda {name}: (w * {name}).exp()", {"w": w})
    module = tg.compile(function, [w], backend="javascript", example=(0.5,))
    value, gradient = run(module.source + "PRINT(valueAndGrad(0.5));", tmp_path)
    assert (value, gradient) == (pytest.approx(math.e), [pytest.approx(math.e / 2)])


@needs_node
def test_a_wrong_number_of_inputs_is_told(tmp_path: Path) -> None:
    w = Value(2.0)
    module = tg.compile(lambda x: w * x[0] * x[1], [w], backend="javascript", example=([0.0, 0.0],))
    message = run(module.source + "try { predict([1]); } catch (error) { PRINT(error.message); }", tmp_path)
    assert message == "x needs 2 numbers, got 1"


def test_what_is_refused() -> None:
    w = Value(2.0)
    with pytest.raises(TypeError, match=r'backend="javascript" needs the arguments of one example'):
        tg.compile(lambda x: w * x, [w], backend="javascript")
    with pytest.raises(TypeError, match=r'Only backend="javascript" takes an example'):
        tg.compile(lambda x: w * x, [w], example=(0.5,))
    with pytest.raises(ValueError, match="ragged"):
        tg.compile(lambda x: w * x[0][0], [w], backend="javascript", example=([[1.0], [1.0, 2.0]],))
    with pytest.raises(TraceError):
        tg.compile(lambda x: w * x if x > 0 else w, [w], backend="javascript", example=(0.5,))


def test_a_module_of_other_operations_than_the_function_s_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    w, calls = Value(2.0), []

    def changes(x: Any) -> Value:
        calls.append(x)
        return w * x * len(calls)

    with pytest.raises(tg.CompileError, match=r"gives .* and then .* for the same numbers"):
        tg.compile(changes, [w], backend="javascript", example=(0.5,))

    def wrong(*arguments: Any) -> Any:
        program = compile_straight(*arguments)
        return replace(program, run=lambda *point: ([x * 1.001 for x in program.run(*point)[0]], []))

    monkeypatch.setattr(pointwise, "compile_straight", wrong)
    with pytest.raises(tg.CompileError, match="disagrees with the eager one"):
        tg.compile(lambda x: tg.exp(w * x), [w], backend="javascript", example=(0.0,))
