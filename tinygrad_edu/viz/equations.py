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

FUNCTIONS: Mapping[str, tuple[Callable[..., Any], str]] = {  # in Python and in JavaScript
    **{
        name: (getattr(math, name), f"Math.{name}")
        for name in ("sqrt", "log", "sin", "cos", "sinh", "cosh", "floor")
    },
    "sigmoid": (lambda x: 1 / (1 + math.exp(-x)), "((x) => 1 / (1 + Math.exp(-x)))"),
}
CONSTANTS = {"e": (math.e, "Math.E"), "pi": (math.pi, "Math.PI")}
SIGNS: Mapping[type[ast.operator], str] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}


def parsed(text: str) -> ast.expr | None:
    """A formula as an expression of Python; None if it has words or signs that are not arithmetic."""
    try:
        tree = ast.parse(with_signs(text).replace("^", "**"), mode="eval").body
    except SyntaxError:
        return None
    allowed = (ast.BinOp, ast.UnaryOp, ast.Call, ast.Name, ast.Constant, ast.operator, ast.USub, ast.Load)
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return (
        tree if all(isinstance(node, allowed) for node in ast.walk(tree)) and calls <= FUNCTIONS.keys() else None
    )


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


def value(tree: ast.expr, numbers: Mapping[str, float]) -> float:
    """The value of a formula. Raises KeyError for an unknown name, ArithmeticError or ValueError for none."""
    match tree:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name):
            return numbers[name] if name in numbers else CONSTANTS[name][0]
        case ast.UnaryOp(operand=operand):
            return -value(operand, numbers)
        case ast.Call(func=ast.Name(id=name), args=[operand]):
            return float(FUNCTIONS[name][0](value(operand, numbers)))
        case ast.BinOp(left=left, op=op, right=right):
            a, b = value(left, numbers), value(right, numbers)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div():
                    return a / b
            return math.pow(a, b)
    raise ValueError("no formula")


def javascript(tree: ast.expr) -> str:
    """The formula as an expression of JavaScript."""
    match tree:
        case ast.Name(id=name):
            return CONSTANTS[name][1] if name in CONSTANTS else name
        case ast.UnaryOp(operand=operand):
            return f"-({javascript(operand)})"
        case ast.Call(func=ast.Name(id=name), args=[operand]):
            return f"{FUNCTIONS[name][1]}({javascript(operand)})"
        case ast.BinOp(left=left, op=op, right=right):
            a, b = javascript(left), javascript(right)
            return f"({a} {SIGNS[type(op)]} {b})" if type(op) in SIGNS else f"Math.pow({a}, {b})"
    return ast.unparse(tree)


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
        except (ArithmeticError, ValueError, KeyError, TypeError):
            break
    return list(map(four_digits, numbers))
