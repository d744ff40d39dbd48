"""Tools to prove derivatives right: gradient checks, proofs of single rules, random programs, and oracles."""

from .rule_check import RuleMismatch, RuleReport, check_rule
