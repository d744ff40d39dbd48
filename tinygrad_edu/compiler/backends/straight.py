"""Straight-line Python: a function and its gradient at one point, as assignments and loops over lists.

The numbers of a plan (`scalars.py`) are written down one by one. Those that are used more than once get a
variable. No graph, no NumPy: the source needs `math` alone.

Where a function of `math` has no result, the source raises OverflowError, ValueError or ZeroDivisionError. The
caller then evaluates that point eagerly.
"""

import builtins
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

from ...engine import elementary
from ...engine.rule import Rule
from ...engine.rules import RULES
from ..ir.symbols import Symbol, is_number
from .formulas import ATOM, CHOICE, COMPARISON, OPERATORS, POWER, SUM, Form, Language, number_text, source_of
from .scalars import Block, Scalars
from .straight_helpers import READ

WIDTH = 100  # of one expression, in characters
MATH = {name for name in elementary.__all__ if hasattr(math, name)} | {"fsum", "isfinite", "isinf"}
HELPERS = {function.__name__: function for function in READ}
TAKEN = {*HELPERS, *MATH, *dir(builtins)}


# --- The text -------------------------------------------------------------------------------------------------


class _Operand(NamedTuple):
    """How a Symbol is written where it is used: its variable, or its formula, if it is `inline`."""

    text: str
    level: int = ATOM
    inline: bool = False


# Choices are expressions. nan is neither less nor more, and stays nan.
FORMS = OPERATORS | {
    "where": Form("{1} if {0} else {2}", CHOICE, (COMPARISON, COMPARISON, CHOICE)),
    "max": Form("{0} if {0} >= {1} or {0} != {0} else {1}", CHOICE, (ATOM, ATOM)),
    "min": Form("{0} if {0} <= {1} or {0} != {0} else {1}", CHOICE, (ATOM, ATOM)),
    "relu": Form("0.0 if {0} <= 0.0 else {0}", CHOICE, (ATOM,)),
    "sign": Form("({0} > 0.0) - ({0} < 0.0) + 0.0 * {0}", SUM, (ATOM,)),
    "heaviside": Form("1.0 if {0} > 0.0 else 0.0 if {0} <= 0.0 else {0}", CHOICE, (ATOM,)),
}
LISTS = {"table": ("[", "]"), "fsum": ("fsum([", "])"), "logsumexp": ("logsumexp([", "])"), "pair": ("(", ")")}


class StraightWriter(Language):
    """Writes one line for each Symbol that is used more than once. The others go into the line that uses them.

    So does one that can raise an error: it does not move into a branch of a choice, of which the eager engine
    computes both. A subclass with other tables writes another language.
    """

    forms: ClassVar[Mapping[str, Form]] = FORMS
    end: ClassVar[str] = ""  # of a line
    # The lines around a loop, forwards and backwards.
    heads: ClassVar[tuple[list[str], list[str]]] = ["for t in range({}):"], ["for t in reversed(range({})):"]
    zeros: ClassVar[str] = "[0.0] * {}"
    backward: ClassVar[tuple[str, ...]] = ("", "# backward: dZ1 is the derivative of the first output for Z1")

    def __init__(self, scalars: Scalars):
        super().__init__({})
        self.scalars = scalars
        self.lines: dict[Block, list[str]] = {scalars.top: []}
        self.pieces: dict[Symbol, _Operand] = {}
        self.functions: set[str] = set()  # of math, and helpers
        self.n_temporary = 0
        self._times = {  # how often the text of an operation contains each operand, if not once
            op: tuple(form.text.count(f"{{{i}}}") for i in range(3))
            for op, form in self.forms.items()
            if "{0}" in form.text
        }
        for symbols in scalars.arguments.values():
            self.pieces |= {symbol: _Operand(symbol.args[0]) for symbol in symbols}
        self._count()
        lists = [(x.name, x.filled) for x in scalars.lists.values() if x.is_read and x.filled is not None]
        for name, filled in lists:
            is_zero = isinstance(filled, int)
            text = self.zeros.format(filled) if is_zero else _filled("[", map(self.number, filled), "]")
            self.lines[scalars.top] += self.line(f"{name} = {text}")
        self._write_block(scalars.top)

    def _block_of(self, x: Any) -> Block:
        return next(iter(getattr(x, "axes", ())), self.scalars.top)

    def _count(self) -> None:
        """How often each Symbol is used. What a loop reads of outside is counted twice: it gets a variable."""
        scalars = self.scalars
        roots: list[Any] = [*scalars.outputs, *scalars.slopes, *scalars.failing, *scalars.failing]
        self._own = defaultdict[Block, list[Symbol]](list)
        for symbol in scalars.book:
            self._own[self._block_of(symbol)].append(symbol)
            if symbol.op == "store" and symbol.args[0].is_read:
                roots.append(symbol.args[3])
        uses = self.uses = Counter(root for root in roots if root.__class__ is Symbol)
        for symbol in reversed(list(scalars.book)):
            for x, n in self._operands(symbol) if symbol in uses else ():
                uses[x] += n if x.axes >= symbol.axes else 2

    def _operands(self, symbol: Symbol) -> list[tuple[Symbol, int]]:
        """The Symbols among the operands, and how often the text contains each."""
        times = self._times.get(symbol.op, (1,) * len(symbol.args))
        return [(x, n) for x, n in zip(symbol.args, times, strict=False) if x.__class__ is Symbol]

    # --- Blocks ------------------------------------------------------------------------------------------------

    def _write_block(self, block: Block) -> None:
        """Write the Symbols and the actions of a block, in the order in which they were made."""
        for x in self._own[block]:
            if x.op == "loop":
                self._write_loop(x.args[0])
            elif x.op == "backward":
                self.lines[block] += self.backward
            elif x.op == "store":
                items, first, step, value, adds, *_ = x.args
                if items.is_read:
                    to = f"{self._item(items, first, step)} {'+=' if adds else '='}"
                    self.lines[block] += self.line(f"{to} {self.text(value)}")
            elif x in self.uses and x not in self.pieces and x.op != "leaf":
                self._write(x)

    def _write_loop(self, block: Block) -> None:
        outside, inside = self.lines[self.scalars.top], self.lines.setdefault(block, [])
        totals = [total for total in block.totals if total in self.uses]
        for total in totals:
            self.pieces[total] = _Operand(self._name_of(total))
            outside += self.line(f"{self.pieces[total].text} = 0.0")
        self._write_block(block)
        for total in totals:
            inside += self.line(f"{self.pieces[total].text} += {self.text(total.args[1])}")
        head, *end = self.heads[block.reverse]
        if inside:
            outside += [head.format(block.axis.size), *(f"    {line}" for line in inside), *end]

    def line(self, text: str) -> list[str]:
        """A statement as lines."""
        return f"{text}{self.end}".split("\n")

    def _write(self, symbol: Symbol) -> None:
        """Write an expression: in a line of its own if it is used more than once."""
        self.pieces[symbol] = _Operand(*self.operation(symbol), True)
        # An index is checked, and an item is read, before it changes.
        is_due = symbol.op == "take" or (symbol.op == "item" and symbol.args[3] < symbol.args[0].n_changes)
        if self.uses[symbol] > 1 or is_due or len(self.pieces[symbol].text) > WIDTH:
            self._assign(symbol)

    def _assign(self, symbol: Symbol) -> None:
        name = self._name_of(symbol)
        self.lines[self._block_of(symbol)] += self.line(f"{name} = {self.pieces[symbol].text}")
        self.pieces[symbol] = _Operand(name)

    def _name_of(self, symbol: Symbol) -> str:
        name = self.scalars.names.get(symbol)
        if name is None:
            self.n_temporary += 1
            name = f"t{self.n_temporary}"
        return self.scalars.variable(name)

    def _item(self, items: Any, first: int, step: int, *_: Any) -> str:
        """The text of an item of a list."""
        t = "t" if abs(step) == 1 else f"{abs(step)} * t"
        text = f"{t} + {first}" if step > 0 and first else t if step > 0 else f"{first} - {t}" if step else first
        return f"{items.name}[{text}]"

    def written(self, x: Any) -> tuple[str, int]:
        if x.__class__ is not Symbol:
            return super().written(x)
        if x not in self.pieces:  # what a loop needs was made after it
            self._write(x)
        return self.pieces[x][:2]

    def number(self, x: Any) -> str:
        if not math.isfinite(x):
            self.functions.add("nan" if x != x else "inf")
        return number_text(float(x))

    def operation(self, x: Symbol) -> tuple[str, int]:
        op, args = x.op, x.args
        if op == "max" and not isinstance(args[1], Symbol) and args[1] == 0:
            op, args = "relu", args[:1]
        elif op == "pow":
            if is_number(args[1]) and args[1] and args[1] % 1 == 0:
                return f"{self.text(args[0], ATOM)}**{args[1]:.0f}", POWER
            op = "power"
        form = self.forms.get(op)
        if form is None:
            return self._call(op, args), ATOM
        text = form.text.format(*map(self.text, args, form.operands))
        while len(text) > WIDTH:
            inline = [x for x in args if isinstance(x, Symbol) and self.pieces[x].inline]
            if not inline:
                break
            self._assign(max(inline, key=lambda x: len(self.pieces[x].text)))
            text = form.text.format(*map(self.text, args, form.operands))
        return text, form.level

    def _call(self, op: str, args: tuple[Any, ...]) -> str:
        if op == "item":
            return self._item(*args)
        if op == "part":
            return f"{self.text(args[0], ATOM)}[{args[1]}]"
        texts = [x if isinstance(x, str) else self.text(x) for x in args]
        if op == "shares":
            return _filled(f"{texts[0]}.shares(", texts[1:], ")")
        opening, closing = self.brackets(op)
        return _filled(opening, texts, closing)

    def brackets(self, op: str) -> tuple[str, str]:
        """What stands around the operands of a function. It is noted as used."""
        self.functions.add(op)
        return LISTS.get(op, (f"{op}(", ")"))

    # --- The whole text -----------------------------------------------------------------------------------------

    def source(self) -> str:
        """The program, ready to run: imports, helpers, and the function `run`."""
        scalars = self.scalars
        labels = [ascii(label)[1:-1] for label in scalars.labels]  # no character may end a comment
        names = [self.text(x) for x in next(iter(scalars.arguments.values()))]
        slopes = [
            f"    {self.result(x)},  # {name}{f' {label}' * (label not in ('', name))}"
            for x, name, label in zip(scalars.slopes, names, labels, strict=False)
        ]
        read = [(text, xs) for text, xs in scalars.arguments.items() if not self.uses.keys().isdisjoint(xs)]
        body = [
            *(_filled("[", [self.text(x) for x in xs], f"] = {text}") for text, xs in read),
            "",
            "# forward",
            *self.lines[scalars.top],
            "",
            _filled("outputs = [", map(self.result, scalars.outputs), "]"),
            *(["gradient = [", *slopes, "]"] if slopes else ["gradient = []"]),
            f"if not isfinite(sum(gradient, {'outputs[0]' if len(scalars.outputs) == 1 else 'sum(outputs)'})):",
            '    raise OverflowError("a result is inf or nan")',
            "return outputs, gradient",
        ]
        helpers = [HELPERS[name] for name in HELPERS if name in self.functions]
        of_math = {"isfinite"}.union(self.functions, *(READ[helper] for helper in helpers)) & MATH
        return "\n".join(
            [
                '"""Straight-line Python, written by tinygrad_edu.',
                "",
                "run(parameters, inputs) returns the outputs, and the gradient of the first for the parameters.",
                "What overflows or is not defined raises OverflowError, ValueError or ZeroDivisionError.",
                '"""',
                "",
                f"from math import {', '.join(sorted(of_math))}",
                "",
                *_declared(scalars.opaque),
                *(f"\n{source_of(helper)}" for helper in helpers),
                "",
                "def run(parameters, inputs):",
                *(f"    {line}" if line else "" for part in body for line in part.split("\n")),
                "",
            ]
        )

    def result(self, x: Any) -> str:
        """A number that is returned. A truth value becomes a float."""
        compares = isinstance(x, Symbol) and x.op in self.forms and self.forms[x.op].level == COMPARISON
        return f"float({self.text(x)})" if compares else self.text(x)


def _filled(opening: str, parts: Iterable[str], closing: str) -> str:
    """opening + parts separated by commas + closing; if this is too long, the parts are on lines of their own."""
    parts = list(parts)
    if sum(map(len, parts)) + 2 * len(parts) + len(opening) + len(closing) <= WIDTH:
        return opening + ", ".join(parts) + closing
    lines = [""]
    for part in parts:
        if len(lines[-1]) + len(part) > WIDTH:
            lines.append("")
        lines[-1] += f"{part}, "
    return "\n    ".join([opening, *(line.rstrip() for line in lines)]) + "\n" + closing


def _declared(rules: dict[str, Rule]) -> list[str]:
    """The lines that look up the rules."""
    lines = []
    for name, rule in rules.items():
        parameters = ", ".join(f"{key}={x!r}" for key, x in rule.parameters.items())
        if rule is RULES.get(rule.name):
            lines.append(f"{name} = RULES[{rule.name!r}]")
        elif rule.name in RULES and all(map(is_number, rule.parameters.values())):
            lines.append(f"{name} = RULES[{rule.name!r}].bind({parameters})")
        else:
            lines.append(f"# {name} is {rule}, which has to be given")
    return ["from tinygrad_edu import RULES", "", *lines, ""] if lines else []
