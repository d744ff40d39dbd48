"""Equations that are true as they are printed: as many digits as each needs, four or more.

`1 - y^2 = 1 - (-1)^2 = 2.458e-05` is false, and `1 - (-0.99998771)^2 = 2.458e-05` is true. The formulas are those
that rules declare for people, such as "y x^(y-1)"; `parsed` reads them, for Python here and for the live page.
"""

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..engine.rule import Rule
from .words import four_digits

NAMES: Mapping[str, Any] = {  # what a formula may use besides x, y and out
    **{name: getattr(math, name) for name in ("sqrt", "log", "sin", "cos", "sinh", "cosh", "floor", "e", "pi")},
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}
IN_JAVASCRIPT = {"e": "Math.E", "pi": "Math.PI", "sigmoid": "((x) => 1 / (1 + Math.exp(-x)))"}
ARITHMETIC = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Constant, ast.operator, ast.USub, ast.Load)


def parsed(text: str) -> str:
    """A formula as an expression of Python; "" if it has words or signs that are not arithmetic."""
    try:
        tree = ast.parse(with_signs(text).replace("^", "**"), mode="eval").body
    except SyntaxError:
        return ""
    nodes = list(ast.walk(tree))
    words = {node.id for node in nodes if isinstance(node, ast.Name)}
    is_known = words <= {*NAMES, "x", "y", "out"} and all(isinstance(node, ARITHMETIC) for node in nodes)
    return ast.unparse(_WithoutSigns().visit(tree)) if is_known else ""


class _WithoutSigns(ast.NodeTransformer):
    """-x ** 2 is an error in JavaScript, 0 - x ** 2 is none."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.BinOp:
        return ast.BinOp(ast.Constant(0), ast.Sub(), self.visit(node.operand))


def slopes(rule: Rule, n: int) -> list[str]:
    """The slope for each of n operands as a formula of x, y and out, the result; [] if the rule has none."""
    text, _, helper = rule.slope.partition(", s = ")
    words = {name: four_digits(x) for name, x in rule.parameters.items()} | {"s": helper}
    text = re.sub(r"\w+", lambda word: words.get(word[0], word[0]), text).replace(f"{rule.name}(x)", "out")
    formulas = [text] if n == 1 else text.split(", ")
    return formulas if text and len(formulas) == n == rule.n_inputs else []


def with_signs(text: str) -> str:
    """A formula with a sign for each product: `2 sqrt(x)` is `2 * sqrt(x)`."""
    return re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", text)


def javascript(formula: str) -> str:
    """What `parsed` gives, as an expression of JavaScript."""

    def name(word: re.Match[str]) -> str:
        return word[0] if word[0] in ("x", "y", "out") else IN_JAVASCRIPT.get(word[0], f"Math.{word[0]}")

    return re.sub(r"\b[a-z]+", name, formula)


def agreeing(numbers: Sequence[Any], result: Any, compute: Callable[..., Any]) -> list[str]:
    """The numbers as texts, with the fewest digits from which `compute` gives the result as it is printed.

    >>> agreeing([-0.9999877116507956], 2.4576547405286142e-05, lambda y: 1 - y * y)
    ['-0.99998771']
    """
    for digits in range(4, 18):
        texts = [four_digits(x) if digits == 4 else f"{float(x):.{digits}g}" for x in numbers]
        try:
            if four_digits(compute(*map(float, texts))) == four_digits(result):
                return texts
        except (ArithmeticError, ValueError, NameError, TypeError):
            break
    return list(map(four_digits, numbers))
