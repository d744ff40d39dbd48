"""Tools to test and to certify derivatives. They need hypothesis and mpmath: pip install "tinygrad-edu[testing]".

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

try:
    import hypothesis as _hypothesis  # noqa: F401 - asked for here, so that the error says what to install
    import mpmath as _mpmath  # noqa: F401 - likewise
except ImportError as error:
    raise ImportError(
        f'tinygrad_edu.testing needs {error.name}, which comes with: pip install "tinygrad-edu[testing]"',
        name=error.name,
    ) from error

from typing import TYPE_CHECKING, Any

from ..engine.calculus import absolute_adjoint
from .diagnosis import Diagnosis, diagnose
from .gradient_check import GradientMismatch, GradientReport, gradcheck
from .oracles import assert_near, complex_step, decisions, dual, mathematical, path_sum
from .others import from_jax, from_torch
from .program import SMOOTH, Program
from .reference import Reference, ulps
from .rule_check import RuleReport, check_rule
from .strategies import networks, programs, values
from .subject import RuleMismatch

if TYPE_CHECKING:
    from .proof.certificate import Certificate
    from .proof.formula import Refuted
    from .proof.prove import prove_rule

__all__ = [
    "SMOOTH",
    "Certificate",
    "Diagnosis",
    "GradientMismatch",
    "GradientReport",
    "Program",
    "Reference",
    "Refuted",
    "RuleMismatch",
    "RuleReport",
    "absolute_adjoint",
    "assert_near",
    "check_rule",
    "complex_step",
    "decisions",
    "diagnose",
    "dual",
    "from_jax",
    "from_torch",
    "gradcheck",
    "mathematical",
    "networks",
    "path_sum",
    "programs",
    "prove_rule",
    "ulps",
    "values",
]

_PROOF = {"prove_rule": "prove", "Certificate": "certificate", "Refuted": "formula"}  # loaded when asked for


def __getattr__(name: str) -> Any:
    if name not in _PROOF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f".proof.{_PROOF[name]}", __name__), name)
    except ImportError as error:
        raise ImportError(
            f'{name} needs {error.name}, which comes with: pip install "tinygrad-edu[prove]"', name=error.name
        ) from error
