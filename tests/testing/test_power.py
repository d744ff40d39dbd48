"""The toolkit can fail: every plausible wrong rule is caught, whichever rule it replaces."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cases import OURS
from hypothesis import Phase, settings
from some_rules import ALTERATIONS, altered

from tinygrad_edu import elementary as e
from tinygrad_edu.engine.rules import RULES, Rule
from tinygrad_edu.testing import RuleMismatch, check_rule

Backward = Callable[..., Any]


@pytest.fixture(autouse=True)
def first_failure() -> Iterator[None]:
    """A failure is enough here: no search for the simplest one."""
    settings.register_profile("before", settings.default)
    settings.register_profile("first failure", settings.default, phases=[Phase.generate])
    settings.load_profile("first failure")
    yield
    settings.load_profile("before")


def overwritten(rule: Rule) -> Backward:
    """Of equal inputs only the last gets its share, as from a dict of shares by input."""

    def backward(upstream: Any, out: Any, *inputs: Any) -> list[Any]:
        shares = dict(enumerate(rule.backward(upstream, out, *inputs)))
        last = {id(x) if hasattr(x, "shape") else x: i for i, x in enumerate(inputs)}
        return [share if i in last.values() else 0 * share for i, share in shares.items()]

    return backward


OF_SEVERAL = {
    "swapped_shares": lambda rule: lambda upstream, out, *xs: rule.backward(upstream, out, *xs)[::-1],
    "overwritten": overwritten,
}
ALL_SLOPES_ARE_1 = {"add", "sum"}
ALL_SLOPES_ARE_0 = {"sign", "detach"}


def is_a_mistake(rule: Rule, mistake: str) -> bool:
    """1 + 1 in place of 1 + 1 is none, nor is twice 0; x % x is a jump."""
    if (mistake in OF_SEVERAL and rule.n_inputs == 1) or (rule.name == "mod" and mistake == "overwritten"):
        return False
    if rule.name in ALL_SLOPES_ARE_0:
        return mistake == "missing_factor"
    return rule.name not in ALL_SLOPES_ARE_1 or mistake not in ("missing_factor", "swapped_shares")


WRONG = [(rule, mistake) for rule in OURS for mistake in ALTERATIONS | OF_SEVERAL if is_a_mistake(rule, mistake)]


QUICK = ("tanh", "mul", "pow", "relu", "max", "log")  # the others in CI


def marks(name: str) -> Any:
    return () if name in QUICK else pytest.mark.slow


CASES = [pytest.param(r, m, id=f"{r.name}-{m}", marks=marks(r.name)) for r, m in WRONG]


@pytest.mark.parametrize(("rule", "mistake"), CASES)
def test_a_wrong_rule_is_caught(rule: Rule, mistake: str) -> None:
    with pytest.raises(RuleMismatch) as caught:
        check_rule(altered(rule, (ALTERATIONS | OF_SEVERAL)[mistake](rule)))
    message = str(caught.value)
    assert message.startswith(rule.name + ": ")
    assert "input " in message
    assert "expected" in message or "error" in message


INACCURATE: dict[str, Backward] = {  # some_rules.py has more
    "softplus": lambda upstream, out, x: (upstream * (1 - e.exp(-out)),),
    "asin": lambda upstream, out, x: (e.div(upstream, e.sqrt(1 - x * x)),),
    "tan": lambda upstream, out, x: (upstream * (1 + out * out) * (1 + 1e-14),),
    "erf": lambda upstream, out, x: (upstream * e.exp(-x * x) * 1.1283791670955126,),
    "cosh": lambda upstream, out, x: (upstream * e.sqrt((out - 1) * (out + 1)) * e.sign(x),),
    "log1p": lambda upstream, out, x: (upstream * e.exp(-out),),
    "silu": lambda upstream, out, x: (upstream * (out + e.sigmoid(x) * (1 - out)),),
    "gelu": lambda upstream, out, x: (upstream * (e.div(out, x) + x * e.exp(-x * x / 2) / 2.5066282746310002),),
    "div": lambda upstream, out, x, y: (upstream / y, -upstream * x / (y * y)),
    "pow": lambda upstream, out, x, y: (upstream * y * e.pow(x, y - 1), upstream * out * e.log(x)),
    "sqrt": lambda upstream, out, x: (upstream * 0.5 * e.pow(x, -0.5) * (1 + 1e-15),),
    "logsumexp": lambda upstream, out, *inputs: [upstream * e.exp(x - out) for x in inputs],
    "max": lambda upstream, out, *inputs: [upstream * e.equal(x, out) for x in inputs],
}


@pytest.mark.parametrize("name", [pytest.param(name, marks=marks(name)) for name in INACCURATE])
def test_an_inaccurate_formula_is_caught(name: str) -> None:
    with pytest.raises(RuleMismatch):
        check_rule(altered(RULES[name], INACCURATE[name]))
