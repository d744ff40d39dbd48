"""The table of all operations, made from their declarations."""

import difflib

from ..engine.rules import RULES, Rule
from .words import columns

HEAD = "operation|symbol|formula|slope|defined for|kink: slope|example|its slopes|certified".split("|")


def rules_table() -> str:
    """All rules as a Markdown table: formula, slopes, domain, kinks with the slopes chosen there, and an example.

    Every entry is declared by a rule or computed by it.
    """
    rows = [HEAD, ["---"] * len(HEAD), *map(_row, RULES.values())]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)


def one_rule(name: str) -> str:
    """One rule, an entry of the table per line. Raises ValueError, with the nearest names, if there is none.

    >>> print(one_rule("tanh"))
    operation    tanh
    symbol       `tanh`
    formula      (e^x - e^-x) / (e^x + e^-x)
    slope        1 - tanh(x)^2
    defined for  all numbers
    example      0.5 gives 0.4621
    its slopes   0.7864
    certified    formula; value 2 ulps, slope 10
    """
    if name not in RULES:
        near = ", ".join(difflib.get_close_matches(name, RULES))
        hint = f"did you mean {near}?" if near else "the command `tinygrad-edu rules` lists all."
        raise ValueError(f"There is no operation {name!r}: {hint}")
    return "\n".join(columns([row for row in zip(HEAD, _row(RULES[name]), strict=True) if row[1]]))


def _row(rule: Rule) -> list[str]:
    parameters = "".join(f", {name}={value:g}" for name, value in rule.parameters.items())
    out = rule.forward(*rule.example)
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
        f"{_numbers(rule.example)} gives {out:.4g}",
        _numbers(rule.shares(1.0, out, *rule.example)),
        _certified(rule),
    ]


def _certified(rule: Rule) -> str:
    """What `testing.prove_rule` certifies of a rule of ours: the tests prove each of them again."""
    if rule.ulps is None:
        return "formula" if rule.ours and rule.name != "detach" else ""
    return "formula; value {:g} ulps, slope {:g}".format(*rule.ulps)


def _numbers(numbers: tuple[float, ...]) -> str:
    return ", ".join(f"{x:.4g}" for x in numbers)
