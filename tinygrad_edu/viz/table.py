"""The table of all operations, made from their declarations."""

import difflib

from ..engine.rules import RULES, Rule
from .words import columns

EXAMPLES = {1: (0.5,), 2: (0.5, 2.0), 3: (1.0, 0.5, 2.0)}  # by number of inputs; a reduction gets two
HEAD = ["operation", "symbol", "formula", "slope", "defined for", "kink: slope", "example", "its slopes"]


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
    """
    if name not in RULES:
        near = difflib.get_close_matches(name, RULES, n=3) or list(RULES)
        raise KeyError(f"There is no operation {name!r}: did you mean {', '.join(near)}?")
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
    ]


def _numbers(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{x:.4g}" for x in numbers)
