"""Tools to test and to certify derivatives. gradcheck works after a plain install; what draws random inputs needs
hypothesis: pip install "tinygrad-edu[testing]".

gradcheck(f, *inputs)         is the gradient of f the slope of its values?
check_rule(rule)              is a rule right at hard and random points of its domain, on every kind of number?
prove_rule(rule)              is it right at every real number, and how many ulps off are floats? (extra `prove`)
values, programs, networks    hypothesis strategies: Values, random expression graphs, small MLPs
dual, mathematical,
complex_step, path_sum        oracles: other ways to the same derivatives
diagnose(Engine)              what is wrong in somebody's Value class, and which misunderstanding it is
absolute_adjoint(root)        what rounding can do to each gradient; assert_near compares relative to it
"""

import importlib
from typing import Any

# Each name once, below the module that has it: loaded when first asked for, since some need an extra. Type
# checkers read __init__.pyi, which `python .ci/stubs.py` writes.
_NAMES = {
    "..engine.calculus": "absolute_adjoint",
    ".check.case": "RuleMismatch",
    ".check.gradient_check": "GradientMismatch GradientReport gradcheck",
    ".check.libraries": "from_jax from_torch",
    ".check.oracles": "assert_near complex_step decisions dual mathematical path_sum",
    ".check.random_program": "SMOOTH Program",
    ".check.reference": "Reference ulps",
    ".check.rule_check": "RuleReport check_rule rules_of",
    ".check.strategies": "networks programs values",
    ".grade.diagnosis": "Diagnosis diagnose",
    ".proof.formula": "Refuted",
    ".proof.prove": "Certificate prove_rule",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_HOMES)


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(importlib.import_module(_HOMES[name], __name__), name)
    except ImportError as error:
        if error.name not in ("hypothesis", "flint"):
            raise
        extra = "prove" if _HOMES[name].startswith(".proof") else "testing"
        message = f'{name} needs {error.name}, which comes with: pip install "tinygrad-edu[{extra}]"'
        raise ImportError(message, name=error.name) from error
    globals()[name] = value  # not asked for again
    return value
