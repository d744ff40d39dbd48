"""Straight-line Python: a function and its gradient at one point, as assignments and loops.

Each rule's own forward and backward run once on Symbols. The Book keeps each expression once, so the backward pass
computes nothing again that the forward pass has computed. Then the expressions are written down in the order in
which they were made. Those that are used more than once get a variable. Stages that repeat become loops over lists
(`straight_loops.py`). No graph, no NumPy.

The source calls `math` itself. Where the eager engine returns inf or raises an error, the source raises
OverflowError, ValueError or ZeroDivisionError. The caller then evaluates that point eagerly. A result without an
error is the result of the eager engine.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from ...engine.rule import Rule
from ...engine.rules import RULES
from ..ir.symbols import Symbol, is_number
from ..trace.checks import collector_paused
from ..trace.tracing import Trace
from .formulas import ATOM, CHOICE, COMPARISON, OPERATORS, POWER, Form, Language, number_text, source_of
from .straight_helpers import READ
from .straight_loops import Stage, stages_of
from .straight_passes import HELPERS, MATH, Passes

WIDTH = 100  # of one expression, in characters

Run = Callable[[Sequence[float], Sequence[Sequence[float]]], tuple[list[float], list[float]]]


@dataclass(frozen=True)
class StraightProgram:
    """A function as straight-line Python.

    source                    the text. It imports math, and tinygrad_edu for rules that do not run on symbols
    run(parameters, inputs)   the outputs, and the gradient of the first output for the parameters, in order.
                              `inputs` has one flat list of floats per argument. Raises OverflowError, ValueError
                              or ZeroDivisionError where the point must be evaluated eagerly
    """

    source: str
    run: Run


def compile_straight(trace: Trace, gradient: bool = True, loops: bool = True) -> StraightProgram:
    """The traced function as straight-line Python. Without gradient, `run` returns an empty one.

    With loops=False stages that repeat are written one by one.
    """
    passes = Passes(trace)
    source = StraightWriter(passes, gradient, loops).source()
    namespace: dict[str, Any] = {}
    with collector_paused():
        exec(compile(source, "<straight-line Python>", "exec"), namespace)
    namespace.update(passes.opaque)  # the rules of the trace, also if one has been declared anew since
    return StraightProgram(source, namespace["run"])


# --- The text -------------------------------------------------------------------------------------------------


class _Piece(NamedTuple):
    """How a Symbol is written where it is used: its variable, or its formula if it is used once.

    inline: it is not a variable yet. fails: the formula contains a Symbol of `failing`.
    """

    text: str
    level: int = ATOM
    inline: bool = False
    fails: bool = False


# Choices are expressions. nan is neither less nor more, and stays nan.
FORMS = OPERATORS | {
    "where": Form("{1} if {0} else {2}", CHOICE, (COMPARISON, COMPARISON, CHOICE)),
    "max": Form("{0} if {0} >= {1} or {0} != {0} else {1}", CHOICE, (ATOM, ATOM)),
    "min": Form("{0} if {0} <= {1} or {0} != {0} else {1}", CHOICE, (ATOM, ATOM)),
    "relu": Form("0.0 if {0} <= 0.0 else {0}", CHOICE, (ATOM,)),
    "sign": Form("1.0 if {0} > 0.0 else -1.0 if {0} < 0.0 else 0.0 * {0}", CHOICE, (ATOM,)),
    "heaviside": Form("1.0 if {0} > 0.0 else 0.0 if {0} <= 0.0 else {0}", CHOICE, (ATOM,)),
}
LISTS = {"table": ("[", "]"), "fsum": ("fsum([", "])"), "logsumexp": ("logsumexp([", "])"), "pair": ("(", ")")}


class StraightWriter(Language):
    """Writes one line for each Symbol that is used more than once. The others go into the line that uses them.

    A formula that can raise an error does not move into a branch of a choice: the eager engine computes both
    branches. A subclass with other tables writes another language.

    lines            forward pass and backward pass
    outputs, slopes  the results, as Symbols or numbers: no slopes without gradient
    """

    forms: ClassVar[Mapping[str, Form]] = FORMS
    begin_backward: ClassVar[tuple[str, ...]] = (
        "",
        "# backward: d17 is the derivative of the first output for v17",
    )
    temporary: ClassVar[str] = "t{}"

    def __init__(self, passes: Passes, gradient: bool, has_loops: bool):
        super().__init__({})
        self.passes = passes
        self.lines: list[str] = []
        self.pieces: dict[Symbol, _Piece] = {}
        self.uses: dict[Symbol, int] = {}
        self.lists: dict[Stage, dict[int, str]] = {}  # of loops, by place
        self.carried: set[str] = set()  # variables that the next stage reads
        self.functions: set[str] = set()  # of math, and helpers
        self.n_temporary = 0
        self._times = {  # how often the text of an operation contains each operand, if not once
            op: tuple(form.text.count(f"{{{i}}}") for i in range(3))
            for op, form in self.forms.items()
            if "{0}" in form.text
        }
        with collector_paused():
            passes.forward()
            forward_length = sum(1 for _ in passes.book)
            self.outputs = [passes.values[output] for output in passes.trace.outputs]
            self.slopes: list[Any] = passes.backward() if gradient else []
            self._write_all([*self.outputs, *self.slopes], forward_length, has_loops)

    def _write_all(self, roots: list[Any], forward_length: int, has_loops: bool) -> None:
        """A line for every Symbol that needs one. The first forward_length belong to the forward pass."""
        symbols = list(self.passes.book)
        self._count(symbols, roots)
        leaves = [(text, i) for text, names in self.passes.arguments.items() for i in range(len(names))]
        stages = stages_of(symbols, self.uses, roots, self.passes.failing, leaves) if has_loops else []
        loops, end = {stage.run.start: stage for stage in stages}, 0
        for i, symbol in enumerate(symbols):
            if i == forward_length:
                self.lines += self.begin_backward
            if i in loops:
                self._loop(loops[i], symbols)
                end = loops[i].run.end
            elif symbol.op == "leaf":
                self.pieces[symbol] = _Piece(self.passes.names[symbol])
            elif symbol in self.uses and i >= end:
                self._write(symbol)

    def _operands(self, symbol: Symbol) -> list[tuple[Symbol, int]]:
        """The Symbols among the operands, and how often the text contains each."""
        times = self._times.get(symbol.op, (1,) * len(symbol.args))
        return [(x, n) for x, n in zip(symbol.args, times, strict=False) if x.__class__ is Symbol]

    def _write(self, symbol: Symbol, *targets: str) -> None:
        """Write an expression: in a line of its own if it has targets, or is used more than once."""
        failing = self.passes.failing
        text, level = self.operation(symbol)
        fails = bool(failing) and (symbol in failing or any(self._fails(x) for x in symbol.args))
        self.pieces[symbol] = _Piece(text, level, True, fails)
        if targets:
            self.lines.append(f"{' = '.join(targets)} = {text}")
            self.pieces[symbol] = _Piece(targets[-1])
        elif self.uses[symbol] > 1 or len(text) > WIDTH or symbol.op == "take":  # it checks an index
            self._assign(symbol)

    def _loop(self, stage: Stage, symbols: list[Symbol]) -> None:
        """Write a loop: its typical stage, with lists for what other stages than the next one read."""
        run = stage.run
        first = run.start + stage.typical * run.period
        typical = symbols[first : first + run.period]
        names: dict[int, str] = {}
        old: dict[int, str] = {}  # what stands for a place in the stage before
        lists = self.lists[stage] = {}
        for place, n in sorted(stage.before.items()):
            names[place] = old[place] = self._name_of(typical[place], is_single=place not in stage.listed)
            before = [symbols[q] for q in run.initial(place, n)]  # nobody uses those that are not written
            initial = [self.text(x) if x in self.pieces else "0.0" for x in before]
            if place in stage.listed:
                lists[place] = self.passes.free(f"{names[place]}_at")
                filled = f"[{', '.join(initial)}] + " * bool(initial)
                self.lines.append(f"{lists[place]} = {filled}[0.0] * {run.length}")
            if place in stage.carried:
                self.lines.append(f"{names[place]} = {initial[-1]}")
                if any(reader > place or reader not in names for reader in stage.carried[place]):
                    old[place] = self.passes.free(f"{names[place]}_before")
        for place in stage.live:
            self.uses[typical[place]] = 0
        for place in stage.live:
            for operand, n in self._operands(typical[place]):
                if operand in self.uses:
                    self.uses[operand] += n
        outside, self.lines, pieces = self.lines, [], dict[Symbol, Any]()
        self.carried = {names[place] for place in stage.carried}
        self.lines += [f"{old[place]} = {names[place]}" for place in names if old[place] != names[place]]
        for place in sorted(stage.live):
            x = typical[place]
            for operand, source in zip(x.args, stage.operands[place], strict=True):
                if source is not None and source[:1] + source[2:] != (stage, 0, 1):
                    pieces.setdefault(operand, self.pieces.get(operand))
                    is_old = source[0] is stage and source[2:] == (-1, 1)
                    self.pieces[operand] = _Piece(old[source[1]] if is_old else self._moving(stage, *source))
            targets = [f"{lists[place]}[{_sum_of(stage.before[place], 1)}]"] if place in lists else []
            if place in names and (not targets or place in stage.carried or place in stage.again):
                targets.append(names[place])
            self._write(x, *targets)
        self.carried = set()
        body = [f"    {line}" for part in self.lines for line in part.split("\n")]
        self.lines = [*outside, f"for t in range({run.length}):", *body]
        self.pieces |= pieces  # as they were outside
        for i in stage.outside:
            t, place = run.place(i)
            self.pieces[symbols[i]] = _Piece(
                f"{lists[place]}[{stage.before[place] + t}]" if place in lists else names[place]
            )

    def _moving(self, stage: Stage, source: Any, *where: int) -> str:
        """The text of an operand that changes from stage to stage."""
        if isinstance(source, str):
            return f"{source}[{_sum_of(*where)}]"
        place, t, step = where
        name = self.lists[source][place]
        return f"{name}[{_sum_of(source.before[place] + t, step)}]" if place in source.listed else name

    def _count(self, symbols: list[Symbol], roots: Iterable[Any]) -> None:
        uses, failing = self.uses, self.passes.failing
        for root in roots:
            if isinstance(root, Symbol):
                uses[root] = uses.get(root, 0) + 1
        for symbol in reversed(symbols):
            if symbol in failing and symbol not in uses:
                uses[symbol] = 2  # a line of its own, for its error
            if symbol in uses:
                for x, n in self._operands(symbol):
                    uses[x] = uses.get(x, 0) + n

    def _name_of(self, symbol: Symbol, is_single: bool = True) -> str:
        """The name of its variable. A sum is finished in one variable if each part is read by the next only.

        But what a loop carries to the next stage keeps its name for itself: parts of its sum have others.
        """
        is_partial = is_single and self.uses[symbol] == 1
        name = self.passes.names.get(symbol) or (is_partial and self.passes.partial.get(symbol))
        if not name or (name in self.carried and is_single):
            self.n_temporary += 1
            name = self.passes.free(self.temporary.format(self.n_temporary))
        return name

    def _assign(self, symbol: Symbol) -> None:
        name = self._name_of(symbol)
        self.lines.append(f"{name} = {self.pieces[symbol].text}")
        self.pieces[symbol] = _Piece(name)

    def _fails(self, x: Any) -> bool:
        return isinstance(x, Symbol) and self.pieces[x].fails

    def written(self, x: Any) -> tuple[str, int]:
        return self.pieces[x][:2] if x.__class__ is Symbol else super().written(x)

    def number(self, x: Any) -> str:
        if not math.isfinite(x):
            self.functions.add("nan" if x != x else "inf")
        return number_text(float(x))

    def operation(self, x: Symbol) -> tuple[str, int]:
        op, args = x.op, x.args
        if op == "where":
            for branch in args[1:]:
                if self._fails(branch) and self.pieces[branch].inline:
                    self._assign(branch)
        elif op == "max" and not isinstance(args[1], Symbol) and args[1] == 0:
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
        passes = self.passes
        results = _filled("outputs = [", map(self.result, self.outputs), "]")
        labels = passes.parameter_labels()
        gradient = [f"    {self.result(x)},  # {name}" for x, name in zip(self.slopes, labels, strict=False)]
        body = [
            *(_filled("[", names, f"] = {text}") for text, names in passes.arguments.items() if names),
            "",
            "# forward",
            *self.lines,
            "",
            results,
            *["return outputs, [", *gradient, "]"],
        ]
        helpers = [HELPERS[name] for name in HELPERS if name in self.functions]
        of_math = self.functions.union(*(READ[helper] for helper in helpers)) & MATH
        return "\n".join(
            [
                '"""Straight-line Python, written by tinygrad_edu.',
                "",
                "run(parameters, inputs) returns the outputs, and the gradient of the first for the parameters.",
                "What overflows or is not defined raises OverflowError, ValueError or ZeroDivisionError.",
                '"""',
                "",
                *([f"from math import {', '.join(sorted(of_math))}", ""] if of_math else []),
                *_declared(passes.opaque),
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


def _sum_of(first: int, step: int) -> str:
    """first + step * t"""
    if step < 0:
        return f"{first} - {'t' if step == -1 else f'{-step} * t'}"
    return f"{'t' if step == 1 else f'{step} * t'}{f' + {first}' * bool(first)}"


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
