"""Words for the numbers of one operation: how its result was computed, and why its slopes are what they are."""

import re
from collections.abc import Mapping
from typing import Any

from ..engine.value import Value
from ..viz.equations import agreeing, function_of, slopes, with_signs
from ..viz.words import formula, four_digits


def computed(node: Value, called: Mapping[Value, str], data: Mapping[Value, Any]) -> str:
    """How an interior node was computed, with the numbers put in: `d = a * b = 2 * (-3) = -6`."""
    names = formula(node.rule, [called[parent] for parent in node.parents])
    forward = node.rule.forward if len(node.parents) <= 8 else _unknown
    operands = agreeing([data[parent] for parent in node.parents], data[node], forward)
    numbers = formula(node.rule, operands if node.rule.name == "pow_n" else list(map(_bracketed, operands)))
    return " = ".join(dict.fromkeys([called[node], names, numbers, four_digits(data[node])]))


def reason(node: Value, i: int, slope: Any, called: Mapping[Value, str], data: Mapping[Value, Any]) -> str:
    """Why the slope for operand i is what it is: `dy/dx = 1 - y^2 = 1 - 0.9^2 = 0.19`.

    The formula is that of the rule. Returns "" where the rule has none, or where it is 1, -1 or another operand.
    """
    rule, operands, result = node.rule, node.parents, four_digits(slope)
    formulas = slopes(rule, len(operands)) or [rule.slope] * (rule.n_inputs is None) * len(operands)
    if not formulas or formulas[i] in ("", "0", "1", "-1", "x", "y") or rule.name in ("sum", "dot", "where"):
        return ""
    beginning, text = f"d{called[node]}/d{called[operands[i]]} = ", formulas[i]
    if rule.n_inputs is None:
        return f"{beginning}{result}: {text}"
    places = dict(zip("xy", operands, strict=False)) | {"out": node}
    names = {word: called[value] for word, value in places.items()}
    if " for " in text:
        return f"{beginning}{result}: {_put(text, names)}; {names['x']} is {four_digits(data[operands[0]])}"
    function = function_of(text) or _unknown
    arguments = [data[value] for value in places.values()]
    texts = agreeing(arguments, slope, lambda *numbers: float(function(**dict(zip(places, numbers, strict=True)))))
    numbers = {word: _bracketed(x) for word, x in zip(places, texts, strict=True)}
    text = with_signs(text)
    return beginning + " = ".join(dict.fromkeys([_put(text, names), _put(text, numbers), result]))


def _unknown(*numbers: Any, **named: Any) -> float:
    raise ValueError("no formula")


def _put(text: str, words: Mapping[str, str]) -> str:
    """text with its variables replaced."""
    text = re.sub(r"[A-Za-z_]\w*", lambda word: words.get(word[0], word[0]), text)
    return re.sub(r"\(\((-[^()]*)\)\)", r"(\1)", text)


def _bracketed(number: str) -> str:
    return f"({number})" if number.startswith("-") else number
