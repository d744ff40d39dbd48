"""Made by `python .ci/stubs.py` from the names in __init__.py."""

from ..engine.calculus import absolute_adjoint as absolute_adjoint
from .check.case import RuleMismatch as RuleMismatch
from .check.gradient_check import GradientMismatch as GradientMismatch
from .check.gradient_check import GradientReport as GradientReport
from .check.gradient_check import gradcheck as gradcheck
from .check.libraries import from_jax as from_jax
from .check.libraries import from_torch as from_torch
from .check.oracles import assert_near as assert_near
from .check.oracles import complex_step as complex_step
from .check.oracles import decisions as decisions
from .check.oracles import dual as dual
from .check.oracles import mathematical as mathematical
from .check.oracles import path_sum as path_sum
from .check.random_program import SMOOTH as SMOOTH
from .check.random_program import Program as Program
from .check.reference import Reference as Reference
from .check.reference import ulps as ulps
from .check.rule_check import RuleReport as RuleReport
from .check.rule_check import check_rule as check_rule
from .check.rule_check import rules_of as rules_of
from .check.strategies import networks as networks
from .check.strategies import programs as programs
from .check.strategies import values as values
from .grade.diagnosis import Diagnosis as Diagnosis
from .grade.diagnosis import diagnose as diagnose
from .proof.formula import Refuted as Refuted
from .proof.prove import Certificate as Certificate
from .proof.prove import prove_rule as prove_rule

__all__ = [
    "SMOOTH", "Certificate", "Diagnosis", "GradientMismatch", "GradientReport", "Program", "Reference",
    "Refuted", "RuleMismatch", "RuleReport", "absolute_adjoint", "assert_near", "check_rule", "complex_step",
    "decisions", "diagnose", "dual", "from_jax", "from_torch", "gradcheck", "mathematical", "networks",
    "path_sum", "programs", "prove_rule", "rules_of", "ulps", "values",
]  # fmt: skip
