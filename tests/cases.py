"""Every rule, and those with parameters at several of them."""

from tinygrad_edu.engine.rules import RULES

EXPONENTS = [0, 1, 3, -1, 0.5, -0.5, 2.5, 0.1, 1e-20]
OURS = [
    rule for rule in RULES.values() if "tinygrad_edu" in getattr(rule.backward, "func", rule.backward).__module__
]
CASES = [
    *OURS,
    *(RULES["pow_n"].bind(exponent=exponent) for exponent in EXPONENTS),
    *(RULES["leaky_relu"].bind(alpha=alpha) for alpha in (0.2, 0.0, 1.5)),
    *(RULES["elu"].bind(alpha=alpha) for alpha in (0.3, 2.0)),
]
