"""The table of all operations, made from their declarations."""

from ..engine.rules import RULES, Rule

EXAMPLES = {1: (0.5,), 2: (0.5, 2.0), 3: (1.0, 0.5, 2.0)}  # by number of inputs; a reduction gets two


def rules_table() -> str:
    """All rules as a Markdown table: formula, slopes, domain, kinks with the slopes chosen there, and an example.

    Every entry is declared by a rule or computed by it.
    """
    head = ["operation", "symbol", "formula", "slope", "defined for", "kink: slope", "example", "its slopes"]
    rows = [head, ["---"] * len(head), *map(_row, RULES.values())]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)


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
