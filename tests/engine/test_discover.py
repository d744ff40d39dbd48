"""What a newcomer finds: tab completion, help, the prompt, misspelt names, and what a type checker knows."""

import builtins
import contextlib
import importlib.metadata
import inspect
import io
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import tinygrad_edu as tg
from tinygrad_edu.engine.rules import RULES

PUBLIC = [
    "Value",
    "RULES",
    "Rule",
    "rule",
    "Interval",
    "TraceError",
    "CompileError",
    "exp",
    "exp2",
    "expm1",
    "log",
    "log2",
    "log10",
    "log1p",
    "sqrt",
    "sin",
    "cos",
    "take",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "asinh",
    "acosh",
    "atanh",
    "erf",
    "erfc",
    "sigmoid",
    "softplus",
    "relu",
    "leaky_relu",
    "live",
    "elu",
    "gelu",
    "silu",
    "mod",
    "reciprocal",
    "sign",
    "detach",
    "max",
    "min",
    "sum",
    "dot",
    "logsumexp",
    "where",
    "softmax",
    "log_softmax",
    "topological_order",
    "ancestors",
    "edges",
    "gradients",
    "grad",
    "value_and_grad",
    "jacobian",
    "hessian",
    "hvp",
    "jvp",
    "vjp",
    "draw",
    "tree",
    "steps",
    "why",
    "blame",
    "compile",
    "fit",
    "evaluate",
    "nn",
    "optim",
    "datasets",
    "viz",
    "debug",
    "testing",
    "elementary",
    "__version__",
]


def test_dir_lists_the_public_names_and_nothing_else() -> None:
    assert dir(tg) == sorted(PUBLIC)
    for name in PUBLIC:
        assert getattr(tg, name) is not None


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    assert tg.__version__ == importlib.metadata.version("tinygrad-edu")
    monkeypatch.delitem(vars(tg), "__version__")  # what was asked for once is kept
    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert tg.__version__ == "0+unknown"


def test_a_star_import_leaves_the_builtins_alone() -> None:
    scope: dict[str, object] = {}
    exec("from tinygrad_edu import *", scope)
    assert not (scope.keys() - {"__builtins__"}) & vars(builtins).keys()
    assert scope["tanh"] is tg.tanh
    assert set(PUBLIC) - scope.keys() == {"max", "min", "sum", "compile", "__version__"}


def test_a_misspelt_name() -> None:
    with pytest.raises(AttributeError) as caught:
        tg.tanhh  # noqa: B018 - asked for
    assert str(caught.value) == "module 'tinygrad_edu' has no attribute 'tanhh'. Did you mean 'tanh' or 'atanh'?"
    assert caught.value.name == "tanhh"
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("Did you mean") == 1
    with pytest.raises(AttributeError, match=r"no attribute 'qqqq'\.$"):
        tg.qqqq  # noqa: B018 - asked for
    assert not hasattr(tg, "__wrapped__")


def test_help_and_the_prompt_tell_what_an_operation_is() -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        help(tg.tanh)
    page = out.getvalue()
    assert page.startswith("Help on Rule in module tinygrad_edu.engine.rule:\n\ntanh = ")
    for fact in (
        "tanh(x) = (e^x - e^-x) / (e^x + e^-x)",
        "Slope:   1 - tanh(x)^2",
        "Domain:  all numbers",
        "none",
    ):
        assert fact in page
    assert repr(tg.relu) == (
        "<relu(x) = x for x > 0, else 0; slope 1 for x > 0, else 0; domain: all numbers; kink at x = 0>"
    )
    assert "domain: 0 < x" in repr(tg.log)
    assert "kink at equal inputs" in repr(tg.max)
    assert "no division by 0" in repr(RULES["div"])
    assert "max(x1, x2, ...) = the largest input" in str(tg.max.__doc__)
    assert repr(tg.leaky_relu.bind(alpha=0.5)).startswith("<leaky_relu(x, alpha=0.5) = ")


def test_signatures() -> None:
    assert str(inspect.signature(tg.tanh)) == "(x)"
    assert str(inspect.signature(tg.leaky_relu)) == "(x, *, alpha=0.01)"
    assert str(inspect.signature(tg.max)) == "(*inputs)"


def test_every_rule_of_ours_states_its_formula_and_its_slope() -> None:
    for rule in RULES.values():
        if rule.forward.__module__.startswith("tinygrad_edu"):
            assert rule.formula, rule.name
            assert rule.slope, rule.name


def test_a_rule_of_the_user_shows_the_first_line_of_its_docstring() -> None:
    try:

        @tg.rule(backward=lambda upstream, out, x, y: (upstream, upstream))
        def shown_in_test(first, second):
            """The two added.

            At length.
            """
            return first + second

        assert repr(shown_in_test).startswith("<shown_in_test(first, second) = The two added.; slope ...")
    finally:
        RULES.pop("shown_in_test", None)


SNIPPET = '''
import tinygrad_edu as tg
x = tg.Value(1.0)
@tg.rule(backward=lambda upstream, out, x: (upstream,))
def same(x: float) -> float:
    return x
reveal_type(tg.tanh(x))
reveal_type(tg.tanh(0.5))
reveal_type(tg.tanh(1))
reveal_type(tg.max(x, 1.0))
reveal_type(tg.max([x, x]))
reveal_type(tg.sum([1.0, 2.0]))
reveal_type(tg.leaky_relu(x, alpha=0.2))
reveal_type(x.tanh())
reveal_type(x / 2 + x**2 - abs(x) % 3 + +x)
reveal_type(same)
reveal_type(tg.rule(abs, backward=lambda upstream, out, x: (upstream,), n_inputs=1))
reveal_type(same(x))
reveal_type(tg.max)
reveal_type(tg.__version__)
'''  # fmt: skip
VALUE, FLOAT, RULE = "tinygrad_edu.engine.value.Value", "float", "tinygrad_edu.engine.rule.Rule"
TYPES = [
    *(VALUE, FLOAT, FLOAT, VALUE, VALUE, FLOAT, VALUE, VALUE, VALUE),
    *(RULE, RULE, VALUE, RULE, "str"),
]


@pytest.mark.slow
def test_a_type_checker_knows_values_from_floats(tmp_path: Path) -> None:
    snippet = tmp_path / "snippet.py"
    snippet.write_text(SNIPPET)
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(snippet)],
        capture_output=True,
        text=True,
    )
    revealed = [
        line.split('"')[1].removeprefix("builtins.") for line in run.stdout.splitlines() if "Revealed type" in line
    ]
    assert revealed == TYPES, run.stdout
    assert "error" not in run.stdout
