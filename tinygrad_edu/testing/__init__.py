"""Tools to prove derivatives right. They need hypothesis and mpmath: pip install "tinygrad-edu[test]".

gradcheck(f, *inputs)         is the gradient of f what its own differences say?
check_rule(rule)              is a rule right all over its domain, on every kind of number?
values, programs, networks    hypothesis strategies: Values, random expression graphs, small MLPs
dual, mathematical,
complex_step, path_sum        oracles: other ways to the same derivatives
absolute_adjoint(root)        what rounding can do to each gradient; assert_near compares relative to it
"""

try:
    import hypothesis as _hypothesis  # noqa: F401 - asked for here, so that the error says what to install
    import mpmath as _mpmath  # noqa: F401 - likewise
except ImportError as error:
    raise ImportError(
        f'tinygrad_edu.testing needs {error.name}, which comes with: pip install "tinygrad-edu[test]"',
        name=error.name,
    ) from error

from ..engine.calculus import absolute_adjoint
from .gradient_check import GradientMismatch, GradientReport, gradcheck
from .oracles import assert_near, complex_step, decisions, dual, mathematical, path_sum
from .program import SMOOTH, Program
from .reference import Reference, ulps
from .rule_check import RuleMismatch, RuleReport, check_rule
from .strategies import networks, programs, values

__all__ = [
    "SMOOTH",
    "GradientMismatch",
    "GradientReport",
    "Program",
    "Reference",
    "RuleMismatch",
    "RuleReport",
    "absolute_adjoint",
    "assert_near",
    "check_rule",
    "complex_step",
    "decisions",
    "dual",
    "gradcheck",
    "mathematical",
    "networks",
    "path_sum",
    "programs",
    "ulps",
    "values",
]
