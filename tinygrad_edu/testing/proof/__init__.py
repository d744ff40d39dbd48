"""Proofs by ball arithmetic and exact formulas: prove_rule and what it is made of. Needs the extra `prove`."""
