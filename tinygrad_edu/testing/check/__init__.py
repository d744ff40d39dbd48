"""Test derivatives at points: gradcheck, check_rule, random programs, oracles."""
