"""JavaScript: every rule within 4 units in the last place of Python's, and networks as modules, run by Node."""

import json
import math
import random
from typing import Any

import pytest
from cases import in_node, needs_node

import tinygrad_edu as tg
from tinygrad_edu import RULES, Rule, TraceError, Value, nn
from tinygrad_edu.compiler.backends.javascript import helpers, javascript_number, rule_text
from tinygrad_edu.compiler.run import pointwise


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
def test_rules_are_pythons_within_4_ulps() -> None:
    texts, work = {}, {}
    for name, rule in RULES.items():
        if rule.forward.__module__ == __name__:
            continue
        n = rule.n_inputs or 4
        texts[name], work[name] = rule_text(rule, n), points(rule, n)
        assert work[name], name
    calls = frozenset().union(*(text.calls for text in texts.values()))
    rules = ",\n".join(f"{json.dumps(name)}: [{t.forward}, {t.backward}]" for name, t in texts.items())
    results = in_node(
        f"{helpers(calls)}\nconst rules = {{{rules}}};\nconst work = {json.dumps(work)};\n"
        "PRINT(Object.fromEntries(Object.entries(work).map(([name, points]) => [name, points.map((x) => {\n"
        "  const out = rules[name][0](...x); return [out, ...rules[name][1](1.5, out, ...x).map(Number)]; })])));"
    )
    for name, rows in results.items():
        for point, row in zip(work[name], rows, strict=True):
            out = RULES[name].forward(*point)
            terms = [abs(x) for x in point] if name in ("sum", "dot", "logsumexp", "softplus") else []
            expected = [out, *RULES[name].backward(1.5, out, *point)]
            for got, e in zip(map(float, row), map(float, expected), strict=True):
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
def test_functions_at_hard_points(name: str) -> None:
    is_rule = name in ("mod", "pow")
    text = rule_text(RULES[name], 2) if is_rule else None
    calls = ", ".join(
        f"({text.forward if text else name})({', '.join(map(javascript_number, point))})" for point in HARD[name]
    )
    printed = in_node(f"{helpers(text.calls if text else [name])}\nPRINT([{calls}]);")
    for point, got in zip(HARD[name], map(float, printed), strict=True):
        expected = (RULES[name].forward if text else getattr(math, name))(*point)
        ulps = 0 if text else 4 * math.ulp(expected)
        assert abs(got - expected) <= ulps or repr(got) == repr(expected), (point, got)


@needs_node
def test_a_network_runs_as_a_module() -> None:
    module = tg.compile(MODEL, MODEL.parameters(), backend="javascript", example=([0.0] * 3,))
    script = "PRINT([predict([0.5, -1, 2]), predict(new Float32Array([0.5, -1, 2])), parameters, names]);"
    outputs, of_array, parameters, names = in_node(module.source + script)
    assert outputs == of_array == pytest.approx([out.data for out in MODEL([0.5, -1.0, 2.0])], rel=1e-15)
    assert parameters == [p.data for p in MODEL.parameters()]
    assert names[0] == "layer0.neuron0.w0"


def softsign(x: Any) -> Any:
    return x / (1 + abs(x))


def recurrence(w: Value, b: Value, xs: Any) -> Value:
    h = Value(0.5)
    for x in xs:
        h = tg.tanh(w * h + b * x)
    return h * h


NAMES = ["eval", "arguments", "public", "package", "Math", "Float64Array", "Array", "new", "T"]  # of arguments
W, V, MODEL = Value(2.0, label='</script>"'), Value(-0.25), nn.MLP(3, [4, 2], "tanh", rng=0)
MODULES: dict[str, tuple[Any, list[Value], list[Any]]] = {
    "an index": (lambda x, y: nn.cross_entropy(MODEL(x), y), MODEL.parameters(), [[0.5, -1.0, 2.0], 1]),
    "stages that repeat": (lambda xs: recurrence(W, V, xs), [W, V], [[0.1 * i for i in range(40)]]),
    "a rule of a user": (lambda x, v: tg.RULES["softsign"](W * x) + v[0][1], [W], [0.5, [[0.0, 1.0]]]),
    **{name: (eval(f"lambda {name}: (W * {name}).exp()", {"W": W}), [W], [0.5]) for name in NAMES},
}


@needs_node
@pytest.mark.parametrize("name", MODULES)
def test_value_and_gradient_are_the_eager_ones(name: str) -> None:
    tg.rule(softsign, backward=lambda upstream, out, x: (upstream / ((1 + abs(x)) * (1 + abs(x))),))
    function, parameters, inputs = MODULES[name]
    module = tg.compile(function, parameters, backend="javascript", example=tuple(inputs))
    assert "</script>" not in module.source
    # of predict; forwards, slopes, and backwards
    assert module.source.count("for (let t = ") == (4 if name == "stages that repeat" else 0)
    value, gradient = in_node(f"{module.source}PRINT(valueAndGrad({json.dumps(inputs)[1:-1]}));")
    out = function(*inputs)
    assert value == pytest.approx(out.data, rel=1e-13)
    assert gradient == pytest.approx(tg.gradients(out, parameters), rel=1e-12, abs=1e-16)


@needs_node
def test_a_wrong_number_of_inputs_is_told() -> None:
    module = tg.compile(lambda x: W * x[0] * x[1], [W], backend="javascript", example=([0.0, 0.0],))
    message = in_node(module.source + "try { predict([1]); } catch (error) { PRINT(error.message); }")
    assert message == "x needs 2 numbers, got 1"


@pytest.mark.parametrize(
    ("function", "options", "error", "match"),
    [
        (lambda x: W * x, {"backend": "javascript"}, TypeError, "needs the arguments of one example"),
        (lambda x: W * x, {"example": (0.5,)}, TypeError, r'Only backend="javascript" takes an example'),
        (
            lambda x: W * x[0][0],
            {"backend": "javascript", "example": ([[1.0], [1.0, 2.0]],)},
            ValueError,
            "ragged",
        ),
        (lambda x: W * x if x > 0 else W, {"backend": "javascript", "example": (0.5,)}, TraceError, "branch"),
    ],
)
def test_what_is_refused(function: Any, options: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        tg.compile(function, [W], **options)


def test_a_module_of_other_operations_than_the_function_s_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    w, calls = Value(2.0), []

    def changes(x: Any) -> Value:
        calls.append(x)
        return w * x * len(calls)

    with pytest.raises(tg.CompileError, match=r"gives .* and then .* for the same numbers"):
        tg.compile(changes, [w], backend="javascript", example=(0.5,))

    run = pointwise._run
    monkeypatch.setattr(pointwise, "_run", lambda *given: run(*given) * 1.001)
    with pytest.raises(tg.CompileError, match="disagrees with the eager one"):
        tg.compile(lambda x: tg.exp(w * x), [w], backend="javascript", example=(0.0,))
