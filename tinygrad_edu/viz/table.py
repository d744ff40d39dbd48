"""The table of all operations, made from their declarations."""

import difflib

from ..engine.rules import RULES, Rule
from .words import columns

OURS = frozenset(RULES)  # as long as nobody has added another
EXAMPLES = {1: (0.5,), 2: (0.5, 2.0), 3: (1.0, 0.5, 2.0)}  # by number of inputs; a reduction gets two
HEAD = "operation|symbol|formula|slope|defined for|kink: slope|example|its slopes|certified".split("|")
# Of value and slope of one input, bounds in ulps over every float, as `prove_rule(name).worst()` gives them: the
# tests prove each of them again. The formula of every rule but `detach` is certified.
ULPS = {
    "reciprocal": (0.5, 3.5), "neg": (0, 0), "abs": (0, 0), "sign": (0, 0), "pow_n": (1, 0.5), "sqrt": (0.5, 2),
    "exp": (1, 1), "exp2": (1, 4.5), "expm1": (1, 1), "log": (1, 0.5), "log2": (2, 3.5), "log10": (2, 3.5),
    "log1p": (1, 2.5), "sin": (1, 1), "cos": (1, 1), "tan": (1, 6), "asin": (1, 3.5), "acos": (1, 3.5),
    "atan": (1, 6.5), "sinh": (2, 2), "cosh": (2, 2), "asinh": (2, 3.97), "acosh": (2, 5), "atanh": (2, 4),
    "tanh": (2, 11), "erf": (1, 12.2), "erfc": (5, 12.2), "sigmoid": (5.5, 7.75), "softplus": (6, 5.5),
    "relu": (0, 0), "leaky_relu": (0.5, 0), "elu": (1, 1), "gelu": (125, 124), "silu": (11.5, 24.9),
}  # fmt: skip


def rules_table() -> str:
    """All rules as a Markdown table: formula, slopes, domain, kinks with the slopes chosen there, and an example.

    Every entry is declared by a rule or computed by it.
    """
    rows = [HEAD, ["---"] * len(HEAD), *map(_row, RULES.values())]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)


def one_rule(name: str) -> str:
    """One rule, an entry of the table per line. Raises KeyError, with the nearest names, if there is no such rule.

    >>> print(one_rule("tanh"))
    operation    tanh
    symbol       `tanh`
    formula      (e^x - e^-x) / (e^x + e^-x)
    slope        1 - tanh(x)^2
    defined for  all numbers
    example      0.5 gives 0.4621
    its slopes   0.7864
    certified    formula; value 2 ulps, slope 11
    """
    if name not in RULES:
        near = ", ".join(difflib.get_close_matches(name, RULES))
        hint = f"did you mean {near}?" if near else "the command `tinygrad-edu rules` lists all."
        raise KeyError(f"There is no operation {name!r}: {hint}")
    return "\n".join(columns([row for row in zip(HEAD, _row(RULES[name]), strict=True) if row[1]]))


def _row(rule: Rule) -> list[str]:
    parameters = "".join(f", {name}={value:g}" for name, value in rule.parameters.items())
    example = EXAMPLES[rule.n_inputs or 2]
    out = rule.forward(*example)
    kinks = [f"{kink:g}: {_numbers(rule.shares(1.0, rule.forward(kink), kink))}" for kink in rule.kinks]
    if rule.ties:
        kinks.append(f"equal inputs: {_numbers(rule.shares(1.0, 0.5, 0.5, 0.5))}")
    return [
        f"{rule.name}{parameters}",
        f"`{rule.symbol}`",
        rule.formula,
        rule.slope,
        rule.defined_for,
        "; ".join(kinks),
        f"{_numbers(example)} gives {out:.4g}",
        _numbers(rule.shares(1.0, out, *example)),
        _certified(rule.name),
    ]


def _certified(name: str) -> str:
    """What `testing.prove_rule` certifies of a rule of ours."""
    if name not in ULPS:
        return "formula" if name in OURS and name != "detach" else ""
    return "formula; value {:g} ulps, slope {:g}".format(*ULPS[name])


def _numbers(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{x:.4g}" for x in numbers)
