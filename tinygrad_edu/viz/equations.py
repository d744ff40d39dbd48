"""Equations that are true as they are printed: as many digits as each needs, four or more.

`1 - y^2 = 1 - (-1)^2 = 2.458e-05` is false, and `1 - (-0.99998771)^2 = 2.458e-05` is true. The formulas are those
that rules declare for people, such as "y x^(y-1)".
"""

import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..engine import elementary
from ..engine.rule import Rule
from .words import four_digits

NAMES: Mapping[str, Any] = {  # what a formula may use besides x, y and out
    **{name: getattr(elementary, name) for name in "sqrt log sin cos sinh cosh sign sigmoid".split()},
    "floor": lambda x: x - elementary.mod(x, 1.0),
    "e": math.e,
    "pi": math.pi,
}


@functools.cache
def function_of(formula: str) -> Callable[..., Any] | None:
    """A formula as a function of x, y and out, numbers or symbols; None if it is not arithmetic alone."""
    words = set(re.findall(r"[^\W\d]\w*", formula))
    if not words <= {*NAMES, "x", "y", "out"} or re.search(r"[^\w\s.+*/^(),-]", formula):
        return None
    text = with_signs(formula).replace("^", "**")
    try:
        function: Callable[..., Any] = eval(f"lambda x=None, y=None, out=None: {text}", {**NAMES})
        function(0.5, 0.5, 0.5)
    except (SyntaxError, TypeError):
        return None
    return function


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
