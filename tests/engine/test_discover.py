"""What a newcomer finds: tab completion, help, the prompt, misspelt names, and what a type checker knows."""

import builtins
import contextlib
import importlib.metadata
import inspect
import io
import traceback

import pytest

import tinygrad_edu as tg
from tinygrad_edu.engine.rules import RULES

PUBLIC = """
Value RULES Rule rule Interval TraceError CompileError exp exp2 expm1 log log2 log10 log1p sqrt sin cos take tan
asin acos atan sinh cosh tanh asinh acosh atanh erf erfc sigmoid softplus relu leaky_relu live elu gelu silu mod
reciprocal sign detach max min sum dot logsumexp where softmax log_softmax topological_order ancestors edges
gradients grad value_and_grad jacobian hessian hvp jvp vjp draw tree steps why blame compile fit evaluate nn optim
datasets viz debug testing elementary train micrograd __version__
""".split()


def test_dir_lists_the_public_names_and_nothing_else() -> None:
    added = {*RULES} - {*"add sub mul div neg abs pow pow_n".split()}  # a new operation needs no line here
    assert {*PUBLIC} <= {*dir(tg)} <= {*PUBLIC} | added
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


def test_a_name_that_is_gone_says_what_to_use_instead() -> None:
    model = tg.nn.Neuron(1, rng=0)
    step = tg.compile(model, model.parameters())
    film, report, certificate = tg.debug.record(model), tg.testing.RuleReport, tg.testing.Certificate
    gone = [(film, name, r"film\[n\]|each item|over film") for name in ("graph", "frames", "why", "plot")]
    gone += [(certificate, name, "prove_rule proves again") for name in ("save", "load", "check")]
    gone += [(report, "to_pytest", "is the test"), (step, "explain", "step.groups")]
    gone += [(certificate, "plot", "rounding"), (report, "failure", "failures"), (film, "variables", "film.names")]
    gone += [(tg.debug.Machine, "find", "machine.node"), (tg.debug.Machine, "mistakes_at", "tg.blame")]
    steps = tg.steps(tg.Value(2.0) * 3)
    gone += [(steps, name, r"steps\.gradient\(node, i\)") for name in ("reached", "uses", "passed")]
    gone += [(steps, name, "steps.names") for name in ("computed", "name")]
    for thing, name, instead in gone:
        with pytest.raises(AttributeError, match=rf"has no attribute '{name}': .*({instead}).*\.$"):
            getattr(thing, name)
        assert name not in dir(thing)
    with pytest.raises(AttributeError, match=r"^Film has no attribute 'reels'\.$"):
        film.reels  # noqa: B018 - asked for
    assert not hasattr(tg.testing.check_rule("neg", budget=0.1), "to_pytest")


def test_help_and_the_prompt_tell_what_an_operation_is() -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        help(tg.tanh)
    page = out.getvalue()
    assert page.startswith("Help on Rule in module tinygrad_edu.engine.rule:\n\ntanh = ")
    for fact in ("tanh(x) = (e^x - e^-x) / (e^x + e^-x)", "Slope:   1 - tanh(x)^2", "Domain:  all numbers"):
        assert fact in page
    assert "domain: 0 < x" in repr(tg.log)
    assert "kink at equal inputs" in repr(tg.max)
    assert "no division by 0" in repr(RULES["div"])
    assert "max(x1, x2, ...) = the largest input" in str(tg.max.__doc__)
    assert repr(tg.leaky_relu.bind(alpha=0.5)).startswith("<leaky_relu(x, alpha=0.5) = ")
    signatures = [str(inspect.signature(rule)) for rule in (tg.tanh, tg.leaky_relu, tg.max)]
    assert signatures == ["(x)", "(x, *, alpha=0.01)", "(*inputs)"]
    assert all(rule.formula and rule.slope for rule in RULES.values() if rule.ours)


def test_a_rule_of_the_user_shows_the_first_line_of_its_docstring() -> None:
    @tg.rule(backward=lambda upstream, out, x, y: (upstream, upstream))
    def shown_in_test(first, second):
        """The two added.

        At length.
        """
        return first + second

    assert repr(shown_in_test).startswith("<shown_in_test(first, second) = The two added.; slope ...")
