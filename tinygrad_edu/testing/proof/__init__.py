"""Proofs by ball arithmetic and exact formulas: prove_rule and its parts. Needs the extra `prove`."""
