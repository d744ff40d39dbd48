"""Words for the numbers of one operation: how its result was computed, and why its slopes are what they are."""

import re
from collections.abc import Mapping
from typing import Any

from ..engine.rule import RULES
from ..engine.value import Value
from ..viz.words import formula, four_digits


def computed(node: Value, called: Mapping[Value, str], data: Mapping[Value, Any]) -> str:
    """How an interior node was computed, with the numbers put in: `d = a * b = 2 * (-3) = -6`."""
    names = formula(node.rule, [called[parent] for parent in node.parents])
    operands = [four_digits(data[parent]) for parent in node.parents]
    numbers = formula(node.rule, operands if node.rule.name == "pow_n" else list(map(_bracketed, operands)))
    return " = ".join(dict.fromkeys([called[node], names, numbers, four_digits(data[node])]))


def reason(node: Value, i: int, slope: Any, called: Mapping[Value, str], data: Mapping[Value, Any]) -> str:
    """Why the slope for operand i is what it is: `dy/dx = 1 - y^2 = 1 - 0.9^2 = 0.19`.

    The formula is that of the rule. Returns "" where the rule has none, or where it is 1, -1 or another operand.
    """
    rule, operands = node.rule, node.parents
    formulas = [rule.slope] if rule.n_inputs in (1, None) else rule.slope.split(", ")
    text = formulas[i if len(formulas) == len(operands) else 0].replace(f"{rule.name}(x)", "out")
    if text in ("", "0", "1", "-1", "x", "y") or rule.name in ("sum", "dot", "where"):
        return ""
    places = dict(zip("xy", operands, strict=False)) | {"out": node}
    names = {word: called[value] for word, value in places.items()}
    numbers = {word: _bracketed(four_digits(data[value])) for word, value in places.items()}
    fixed = {word: _bracketed(four_digits(x)) for word, x in rule.parameters.items()}
    beginning, result = f"d{names['out']}/d{called[operands[i]]} = ", four_digits(slope)
    if rule.n_inputs is None:
        return f"{beginning}{result}: {text}"
    if " for " in text:
        return f"{beginning}{result}: {_put(text, names | fixed)}; {names['x']} is {numbers['x']}"
    text, _, helper = text.partition(", s = ")
    if helper == "out":
        text, helper = re.sub(r"\bs\b", "out", text), ""
    elif helper:  # s = sigmoid(x)
        numbers["s"] = four_digits(RULES[helper.partition("(")[0]].forward(data[operands[0]]))
    text = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", text)  # 2 sqrt(x) is 2 * sqrt(x)
    steps = dict.fromkeys([_put(text, names | fixed), _put(text, numbers | fixed), result])
    return beginning + " = ".join(steps) + f" with s = {_put(helper, names)}" * bool(helper)


def _put(text: str, words: Mapping[str, str]) -> str:
    """text with its variables replaced."""
    text = re.sub(r"[A-Za-z_]\w*", lambda found: words.get(found[0], found[0]), text)
    return re.sub(r"\(\((-[^()]*)\)\)", r"(\1)", text)


def _bracketed(number: str) -> str:
    return f"({number})" if number.startswith("-") else number
