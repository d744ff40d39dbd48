"""Formulas: symbols as text in a target language.

A Language says how every operation is written and how tightly that holds its operands together. The tables below
are those of Python's operators. A target with other words is a subclass with tables of its own.
"""

import functools
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

from ..ir.symbols import Symbol, uses_of

# How tightly a formula holds together. A part that holds less tightly than its place asks for gets brackets.
CHOICE, COMPARISON, SUM, PRODUCT, SIGN, POWER, ATOM = range(7)

source_of: Callable[[Any], str] = functools.cache(
    inspect.getsource
)  # of a helper function, for programs that begin with it


class Form(NamedTuple):
    """How an operation is written: the text, how tightly it holds, and how tightly each operand must hold.

    An operand that the text contains twice must be an ATOM.
    """

    text: str
    level: int
    operands: tuple[int, ...]


OPERATORS = {
    "add": Form("{} + {}", SUM, (SUM, PRODUCT)),
    "sub": Form("{} - {}", SUM, (SUM, PRODUCT)),
    "mul": Form("{} * {}", PRODUCT, (PRODUCT, SIGN)),
    "div": Form("{} / {}", PRODUCT, (PRODUCT, SIGN)),
    "mod": Form("{} % {}", PRODUCT, (PRODUCT, SIGN)),
    "neg": Form("-{}", SIGN, (SIGN,)),
    "lt": Form("{} < {}", COMPARISON, (SUM, SUM)),
    "le": Form("{} <= {}", COMPARISON, (SUM, SUM)),
    "gt": Form("{} > {}", COMPARISON, (SUM, SUM)),
    "ge": Form("{} >= {}", COMPARISON, (SUM, SUM)),
    "equal": Form("{} == {}", COMPARISON, (SUM, SUM)),
}


class Language:
    """Writes formulas with Python's operators and calls. `names` are the variables of symbols that have one."""

    forms: ClassVar[Mapping[str, Form]] = OPERATORS
    statement: ClassVar[str] = "{} = {}"

    def __init__(self, names: Mapping[Symbol, str]):
        self.names: Mapping[Symbol, str] = names

    def text(self, x: Any, level: int = CHOICE) -> str:
        """A symbol or number where a formula of at least this level is asked for."""
        text, own = self.written(x)
        return f"({text})" if own < level else text

    def written(self, x: Any) -> tuple[str, int]:
        """A symbol or number as text, and the level of the text."""
        if not isinstance(x, Symbol):
            return self.number(x), SIGN if is_negative(x) else ATOM
        if x in self.names:
            return self.names[x], ATOM
        return (str(x.args[0]), ATOM) if x.op == "leaf" else self.operation(x)

    def operation(self, x: Symbol) -> tuple[str, int]:
        """A symbol that has no name: by its form, or as the call of a function."""
        form = self.forms.get(x.op)
        if form is None:
            return f"{self.function(x.op)}({', '.join(map(self.text, x.args))})", ATOM
        return form.text.format(*map(self.text, x.args, form.operands)), form.level

    def function(self, op: str) -> str:
        """The name of a function."""
        return op

    def number(self, x: Any) -> str:
        """A number; inf and nan are names."""
        return number_text(x)

    def body(self, results: list[Any]) -> tuple[list[str], list[str]]:
        """Statements for what is used more than once, and the texts of the results."""
        self.names = names = {}
        uses, statements = uses_of(results), list[str]()
        for symbol in next((x.book for x in uses), ()):
            if uses.get(symbol, 0) > 1 and symbol.op != "leaf":
                text = self.text(symbol)
                names[symbol] = f"t{len(statements)}"
                statements.append(self.statement.format(names[symbol], text))
        return statements, list(map(self.text, results))


def is_negative(x: Any) -> bool:
    """Is a number written with a sign? A length is not: it has brackets of its own."""
    return isinstance(x, int | float) and (x < 0 or (x == 0 and math.copysign(1.0, x) < 0))


def number_text(x: Any, inf: str = "inf", nan: str = "nan") -> str:
    """A number as source. inf and nan are names: these."""
    if isinstance(x, float) and not math.isfinite(x):
        return nan if x != x else f"-{inf}" if x < 0 else inf
    return repr(x)


def short_number(x: Any, inf: str = "inf", nan: str = "nan") -> str:
    """The same, without a point if it is whole."""
    is_whole = isinstance(x, float) and x.is_integer() and abs(x) < 1e15 and (x != 0 or not is_negative(x))
    return str(int(x)) if is_whole else number_text(x, inf, nan)
