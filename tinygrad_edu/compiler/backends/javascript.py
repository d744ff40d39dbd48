"""Rules as JavaScript: forward and backward run once on symbols, and what they made is printed.

A rule of a user is printed like ours. One that asks a number a question, or calls `math`, cannot be.
"""

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from ...engine.rule import Rule
from ...engine.rules import RULES
from ..symbols import Book, Symbol, simpler_pow

INFIX = {"add": ("+", 2), "sub": ("-", 2), "mul": ("*", 3), "div": ("/", 3)}  # with their precedence
COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "equal": "==="}
IN_MATH = (
    *("abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "expm1", "log", "log10"),
    *("log1p", "log2", "sin", "sinh", "sqrt", "tan", "tanh"),
)
CALLS = {name: f"Math.{name}" for name in IN_MATH} | {
    "max": "maximum",
    "min": "minimum",
    "pow": "power",
    "mod": "modulo",
    **{name: name for name in ("sign", "heaviside", "sigmoid", "erf", "erfc", "total")},
}


@dataclass(frozen=True)
class RuleText:
    """A rule of n operands in JavaScript.

    forward   the source of a function of the operands that returns the result
    backward  the source of a function (upstream, out, operands...) that returns the shares in an array
    calls     the helpers that the two call
    """

    forward: str
    backward: str
    calls: frozenset[str]


@functools.lru_cache(maxsize=1024)
def rule_text(rule: Rule, n: int) -> RuleText:
    """The rule for n operands. Raises TypeError, naming the rule, if it does not run on symbols."""
    book = Book({"pow": simpler_pow, "add": lambda book, x, y: None})  # x + 0 is not x where x is -0
    names = [f"x{i}" for i in range(n)] if n > 1 else ["x"]
    inputs = [book.leaf(name) for name in names]
    out, upstream = book.leaf("out"), book.leaf("upstream")
    try:
        forward = _TOTALS[rule](book, *inputs) if rule in _TOTALS else rule.forward(*inputs)
        shares = list(rule.backward(upstream, out, *inputs))
    except Exception as error:
        raise TypeError(
            f"The rule {rule.name} cannot be written in JavaScript: {error} Write its forward and backward with "
            "operators and the functions of tinygrad_edu.elementary."
        ) from error
    writer = _Writer()
    arguments = ", ".join(names)
    return RuleText(
        writer.function(arguments, [forward], lambda texts: texts[0]),
        writer.function(f"upstream, out, {arguments}", shares, lambda texts: f"[{', '.join(texts)}]"),
        frozenset(writer.calls),
    )


def helpers(calls: Sequence[str] | frozenset[str]) -> str:
    """The source of these helpers, and of those that they call."""
    wanted, pending = set[str](), list(calls)
    while pending:
        name = pending.pop()
        if name in _HELPERS and name not in wanted:
            wanted.add(name)
            pending += re.findall(r"\b\w+(?=\()", _HELPERS[name])
    return "\n\n".join(text for name, text in _HELPERS.items() if name in wanted)


def number_text(x: Any) -> str:
    """A number as JavaScript source."""
    x = float(x)
    if not math.isfinite(x):
        return "NaN" if x != x else "Infinity" if x > 0 else "-Infinity"
    return repr(x).removesuffix(".0")


# --- Expressions ------------------------------------------------------------------------------------------------


def _total(book: Book, *terms: Any) -> Any:
    """The sum, rounded once as `elementary.total` rounds it; of two floats, + is."""
    return (
        functools.reduce(lambda x, y: x + y, terms) if len(terms) <= 2 else book.special("total", terms, (), False)
    )


def _dot(book: Book, *inputs: Any) -> Any:
    n = len(inputs) // 2
    return _total(book, *(x * y for x, y in zip(inputs[:n], inputs[n:], strict=True)))


_TOTALS: dict[Rule, Callable[..., Any]] = {RULES["sum"]: _total, RULES["dot"]: _dot}


class _Writer:
    """Writes functions; a part that is used twice becomes a constant of its own."""

    def __init__(self) -> None:
        self.calls: set[str] = set()

    def function(self, arguments: str, results: list[Any], join: Callable[[list[str]], str]) -> str:
        uses: dict[Symbol, int] = {}
        stack = [x for x in results if isinstance(x, Symbol)]
        order: list[Symbol] = []
        while stack:
            symbol = stack.pop()
            uses[symbol] = uses.get(symbol, 0) + 1
            if uses[symbol] == 1 and symbol.op != "leaf":
                stack += [x for x in symbol.args if isinstance(x, Symbol)]
        self._names: dict[Symbol, str] = {}
        lines: list[str] = []
        for symbol in next((x.book for x in uses), ()):
            if uses.get(symbol, 0) > 1 and symbol.op != "leaf":
                text = self._text(symbol, 0)
                self._names[symbol] = f"t{len(order)}"
                order.append(symbol)
                lines.append(f"const {self._names[symbol]} = {text};")
        texts = [self._text(x, 0) for x in results]
        if not lines:
            return f"({arguments}) => {join(texts)}"
        return f"({arguments}) => {{ {' '.join(lines)} return {join(texts)}; }}"

    def _text(self, x: Any, level: int) -> str:
        """The expression x; level is the precedence of what it stands in."""
        if not isinstance(x, Symbol):
            text = number_text(x)
            return f"({text})" if text.startswith("-") and level else text
        if x in self._names:
            return self._names[x]
        if x.op == "leaf":
            return str(x.args[0])
        if x.op in INFIX:
            sign, own = INFIX[x.op]
            text = f"{self._text(x.args[0], own)} {sign} {self._text(x.args[1], own + 1)}"
            return f"({text})" if own < level else text
        if x.op == "neg":
            return f"(-{self._text(x.args[0], 4)})"
        if x.op in COMPARISONS:
            return f"+({self._text(x.args[0], 2)} {COMPARISONS[x.op]} {self._text(x.args[1], 2)})"
        if x.op == "where":
            condition, yes, no = (self._text(part, 1) for part in x.args)
            return f"({condition} ? {yes} : {no})"
        if x.op == "exp2":
            return f"2 ** ({self._text(x.args[0], 0)})"
        if x.op not in CALLS:
            raise TypeError(f"{x.op} has no function in JavaScript.")
        name = CALLS[x.op]
        self.calls.add(name)
        return f"{name}({', '.join(self._text(part, 0) for part in x.args)})"


def _read_helpers() -> dict[str, str]:
    """{name: source} of the functions in javascript_helpers.js, each with the comment above it."""
    text = resources.files(__package__).joinpath("javascript_helpers.js").read_text("utf-8")
    blocks = re.split(r"\n\n(?=//|function)", text)
    found = ((re.search(r"^function (\w+)", block, re.MULTILINE), block.strip()) for block in blocks)
    return {match[1]: block for match, block in found if match}


_HELPERS = _read_helpers()
