"""Straight-line Python: a function and its gradient at one point, as assignments and loops.

Each rule's own forward and backward run once on Symbols. The Book keeps each expression once, so the backward pass
computes nothing again that the forward pass has computed. Then the expressions are written down in the order in
which they were made. Those that are used more than once get a variable. Stages that repeat become loops over lists
(`straight_loops.py`). No graph, no NumPy.

The source calls `math` itself. Where the eager engine returns inf or raises an error, the source raises
OverflowError, ValueError or ZeroDivisionError. The caller then evaluates that point eagerly. A result without an
error is the result of the eager engine.
"""

import ast
import builtins
import functools
import keyword
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...engine import elementary
from ...engine.rule import Rule
from ...engine.rules import DIV, RULES
from ...engine.value import Value
from ..checks import collector_paused
from ..formulas import ATOM, CHOICE, COMPARISON, OPERATORS, POWER, Form, Language, number_text, source_of
from ..symbols import SUMS, Book, Symbol, simpler_pow
from ..tracing import CHOICES, COMPARISONS, TAKE, Placeholder, Trace
from . import straight_helpers
from .straight_loops import Stage, stages_of

WIDTH = 100  # of one expression, in characters
# In Python, errors outside their domain.
GUARDED = {"div", "reciprocal", "mod", "pow", "pow_n", "sqrt", "log", "log2", "log10", "log1p"}
GUARDED |= {"asin", "acos", "acosh", "atanh"}

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
    passes = _Passes(trace)
    with collector_paused():
        passes.forward()
        forward_length = sum(1 for _ in passes.book)
        outputs = [passes.values[output] for output in trace.outputs]
        slopes = passes.backward() if gradient else []
        writer = _Writer(passes)
        writer.write([*outputs, *slopes], forward_length, loops)
        source = writer.source(outputs, slopes)
        namespace: dict[str, Any] = {}
        exec(compile(source, "<straight-line Python>", "exec"), namespace)
    namespace.update(passes.opaque)  # the rules of the trace, also if one has been declared anew since
    return StraightProgram(source, namespace["run"])


# --- The expressions ------------------------------------------------------------------------------------------


def _sigmoid(book: Book, x: Any) -> Any:
    """As elementary.sigmoid, written out: softplus shares its exponential."""
    small = book.make("exp", -abs(x))
    return book.make("where", x >= 0, 1.0, small) / (1.0 + small)


def _pow(book: Book, x: Any, y: Any) -> Any:
    """A product for the square, the only power that a product gives to the bit."""
    if isinstance(x, Symbol) and not isinstance(y, Symbol) and y == 2:
        return x * x
    return simpler_pow(book, x, y)


class _Book(Book):
    """Expressions of floats."""

    def __init__(self) -> None:
        super().__init__({"sigmoid": _sigmoid, "pow": _pow})

    def _extent(self, symbols: list[Symbol]) -> tuple[tuple[int, ...], bool]:
        return (), False


def _logsumexp(book: Book, *inputs: Any) -> Any:
    """The first number of a list. The others are the slopes."""
    return _item(book, book.special("logsumexp", inputs, (), False), 0)


def _logsumexp_backward(upstream: Any, out: Any, *inputs: Any) -> list[Any]:
    return [upstream * _item(out.book, out.args[0], 1 + i) for i in range(len(inputs))]


def _smallest(book: Book, *inputs: Any) -> Any:
    return functools.reduce(lambda x, y: book.make("min", x, y), inputs)


# Reductions, written for Python. All other rules run as they are.
_FORWARD = SUMS | {RULES["min"]: _smallest, RULES["logsumexp"]: _logsumexp}
_STEPS = {*COMPARISONS.values(), *CHOICES.values()}  # their slope is 0


def _item(book: Book, of: Symbol, place: int) -> Symbol:
    return book.special("item", (of, place), (), False)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float)


class _Passes:
    """The forward and the backward pass on Symbols.

    values   node -> its Symbol or number
    names    Symbol -> its variable: the names of parameters and inputs, v17 for node 17, d17 for its adjoint.
             `partial` has the names of unfinished sums of an adjoint
    failing  the Symbols that can raise an error, whether they are used or not
    opaque   name in the source -> a rule that is called as it is
    arguments  the text of each argument of `run`, and the variables that get its numbers: the leaves, in order
    """

    def __init__(self, trace: Trace):
        self.book, self.trace = _Book(), trace
        self.order: list[Any] = trace.order()
        self.values: dict[Value, Any] = {}
        self.names: dict[Symbol, str] = {}
        self.partial: dict[Symbol, str] = {}
        self.failing: set[Symbol] = set()
        self.opaque: dict[str, Rule] = {}
        self.tables: dict[tuple[Value, ...], Value] = {}  # options -> the first node that picks one of them
        self.taken = {"parameters", "inputs", "run", "outputs", "t", *_HELPERS, *_MATH, *dir(builtins)}
        self.arguments = {"parameters": [self._leaf(p, f"p{i}") for i, p in enumerate(trace.parameters)]}
        for a, argument in enumerate(trace.inputs):
            self.arguments[f"inputs[{a}]"] = [self._leaf(x, f"x{a}_{i}") for i, x in enumerate(argument)]

    def _leaf(self, leaf: Value, otherwise: str) -> str:
        name = self._name(leaf.label, otherwise)
        self.values[leaf] = symbol = self.book.leaf(name)
        self.names[symbol] = name
        return name

    def _name(self, label: str, otherwise: str) -> str:
        """A label as the name of a variable, x[0, 1] as x0_1, if it is short and free; else `otherwise`."""
        name = re.sub(r"\[(\d+)(?:, (\d+))*\]", lambda m: m[0][1:-1].replace(", ", "_"), label)
        fit = len(name) <= 12 and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
        ours = re.fullmatch(r"[vdtp]\d+|x\d+_\d+|d_\w+|rule\d+|__\w+", name)
        if not fit or ours or name in self.taken:
            name = otherwise
        self.taken.add(name)
        return name

    def parameter_labels(self) -> list[str]:
        """The labels of the parameters, for comments: without any character that would end a comment."""
        labels = [ascii(parameter.label)[1:-1] for parameter in self.trace.parameters]
        pairs = zip(self.arguments["parameters"], labels, strict=True)
        return [name if label in ("", name) else f"{name} {label}" for name, label in pairs]

    # --- Forward ------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        for i, node in enumerate(self.order):
            if node not in self.values:
                self.values[node] = out = self._out(node) if isinstance(node, Placeholder) else float(node.data)
                if isinstance(out, Symbol) and out not in self.names:
                    self.names[out] = self._name(node.label, f"v{i}")

    def _out(self, node: Placeholder) -> Any:
        rule, inputs = node.rule, [self.values[p] for p in node.parents]
        assert rule is not None, f"{node!r} is neither an input nor a parameter"
        if rule is TAKE:
            self.tables.setdefault(node.parents[1:], node)
            table = self.book.special("table", inputs[1:], (), False)
            out = self.book.special("take", (table, inputs[0]), (), False)
        elif all(map(_is_number, inputs)) or ((rule.domain or rule.check) and rule.name not in GUARDED):
            out = self._called("evaluate", rule, *inputs)
        else:
            try:
                out = _FORWARD[rule](self.book, *inputs) if rule in _FORWARD else rule.forward(*inputs)
            except Exception:  # it calls math, or asks for the truth of a symbol
                out = None
            if not isinstance(out, Symbol) and not _is_number(out):
                out = self._called("evaluate", rule, *inputs)
        if isinstance(out, Symbol) and (out.op in ("take", "evaluate") or _may_fail(rule, inputs)):
            self.failing.add(out)
        return out

    def _called(self, method: str, rule: Rule, *inputs: Any) -> Symbol:
        """The result of a method of the rule itself, called on floats."""
        name = next((name for name, known in self.opaque.items() if known is rule), "")
        if not name:
            name = self._name(rule.name, f"rule{len(self.opaque)}")
            self.opaque[name] = rule
        return self.book.special(method, (name, *inputs), (), False)

    # --- Backward -----------------------------------------------------------------------------------------------

    def backward(self) -> list[Any]:
        """The gradient of the first output for every parameter."""
        learned = self._learned()
        terms: dict[Value, list[Any]] = {node: [] for node in learned}
        if self.trace.outputs[0] in learned:
            terms[self.trace.outputs[0]].append(1.0)
        picks: dict[tuple[Value, ...], list[Any]] = {}
        names = self.arguments["parameters"]
        labels = {p: f"d_{name}" for p, name in zip(self.trace.parameters, names, strict=True)}
        for i, node in reversed(list(enumerate(self.order))):
            if node not in learned or not isinstance(node, Placeholder):
                continue
            if terms[node]:
                upstream = self._sum(terms.pop(node), f"d{i}")
                if node.rule is TAKE:
                    picks.setdefault(node.parents[1:], []).extend((self.values[node.parents[0]], upstream))
                else:
                    for parent, share in zip(node.parents, self._shares(node, upstream), strict=True):
                        if parent in learned:
                            terms[parent].append(share)
                            if parent in labels:  # so that a loop can add to it
                                terms[parent] = [self._sum(terms[parent], "", labels[parent])]
            if node.rule is TAKE and self.tables[rows := node.parents[1:]] is node and rows in picks:
                placed = self.book.special("placed", (len(rows), *picks[rows]), (), False)
                for place, row in enumerate(rows):  # all nodes that pick from these rows are done
                    if row in learned:
                        terms[row].append(_item(self.book, placed, place))
        return [self._sum(terms[p], f"d_{name}") for p, name in zip(self.trace.parameters, names, strict=True)]

    def _learned(self) -> set[Value]:
        """The nodes that depend on a parameter, with slopes on the way."""
        learned = set(self.trace.parameters)
        for node in self.order:
            has_slopes = isinstance(node, Placeholder) and node.rule and node.rule not in _STEPS
            if has_slopes and not learned.isdisjoint(node.parents[node.rule is TAKE :]):
                learned.add(node)
        return learned

    def _sum(self, terms: list[Any], name: str, partial: str = "") -> Any:
        """An adjoint: the sum of the shares, in the order of the eager engine."""
        total = terms[0] if terms else 0.0
        for term in terms[1:]:
            if isinstance(total, Symbol):
                self.partial.setdefault(total, partial or name)
            total = total + term
        if isinstance(total, Symbol) and name:
            self.names.setdefault(total, name)
        return total

    def _shares(self, node: Placeholder, upstream: Any) -> Sequence[Any]:
        rule, out, inputs = node.rule, self.values[node], [self.values[p] for p in node.parents]
        assert rule is not None
        try:
            if rule is RULES["logsumexp"]:
                return _logsumexp_backward(upstream, out, *inputs)
            shares = rule.shares(upstream, out, *inputs)
            if all(isinstance(share, Symbol) or _is_number(share) for share in shares):
                return shares  # type: ignore[no-any-return]  # rules take any kind of number
        except Exception:  # as in _out
            pass
        of_floats = self._called("shares", rule, upstream, out, *inputs)
        return [_item(self.book, of_floats, place) for place in range(len(inputs))]


def _may_fail(rule: Rule, inputs: list[Any]) -> bool:
    """Is there an input for which the eager engine raises an error?"""
    if rule is DIV and _is_number(inputs[1]):
        return bool(inputs[1] == 0)
    exponent = rule.parameters.get("exponent")
    return bool(rule.domain or rule.check) and not (isinstance(exponent, int) and exponent >= 0)


# --- The text -------------------------------------------------------------------------------------------------

_MATH = {name for name in elementary.__all__ if hasattr(math, name)} | {"fsum", "isinf"}
_HELPERS = {function.__name__: function for function in straight_helpers.ALL}


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
_WRITTEN = {  # how often the text of an operation contains each operand, if not once
    op: tuple(form.text.count(f"{{{i}}}") for i in range(3)) for op, form in FORMS.items() if "{0}" in form.text
}


def _operands(symbol: Symbol) -> list[tuple[Symbol, int]]:
    """The Symbols among the operands, and how often the text contains each."""
    times = _WRITTEN.get(symbol.op, (1,) * len(symbol.args))
    return [(x, n) for x, n in zip(symbol.args, times, strict=False) if x.__class__ is Symbol]


class _Writer(Language):
    """Writes one line for each Symbol that is used more than once. The others go into the line that uses them.

    A formula that can raise an error does not move into a branch of a choice: the eager engine computes both
    branches.
    """

    def __init__(self, passes: _Passes):
        super().__init__({})
        self.passes = passes
        self.lines: list[str] = []
        self.pieces: dict[Symbol, _Piece] = {}
        self.uses: dict[Symbol, int] = {}
        self.lists: dict[Stage, dict[int, str]] = {}  # the variables of loops, by place
        self.names_of_lists: set[str] = set()
        self.functions: set[str] = set()  # of math, and helpers
        self.n_temporary = 0

    def write(self, roots: Iterable[Any], forward_length: int, has_loops: bool) -> None:
        """A line for every Symbol that needs one. The first forward_length belong to the forward pass."""
        symbols = list(self.passes.book)
        self._count(symbols, roots)
        leaves = [(text, i) for text, names in self.passes.arguments.items() for i in range(len(names))]
        stages = stages_of(symbols, self.uses, roots, self.passes.failing, leaves) if has_loops else []
        loops, end = {stage.run.start: stage for stage in stages}, 0
        for i, symbol in enumerate(symbols):
            if i == forward_length:
                self.lines += ["", "# backward: d17 is the derivative of the first output for v17"]
            if i in loops:
                self._loop(loops[i], symbols)
                end = loops[i].run.end
            elif symbol.op == "leaf":
                self.pieces[symbol] = _Piece(self.passes.names[symbol])
            elif symbol in self.uses and i >= end:
                self._write(symbol)

    def _write(self, symbol: Symbol, target: str = "") -> None:
        """Write an expression: in a line of its own if it has a target, or is used more than once."""
        failing = self.passes.failing
        text, level = self.operation(symbol)
        fails = bool(failing) and (symbol in failing or any(self._fails(x) for x in symbol.args))
        self.pieces[symbol] = _Piece(text, level, True, fails)
        if target:
            self.lines.append(f"{target} = {text}")
            self.pieces[symbol] = _Piece(target)
        elif self.uses[symbol] > 1 or len(text) > WIDTH or symbol.op == "take":  # it checks an index
            self._assign(symbol)

    def _loop(self, stage: Stage, symbols: list[Symbol]) -> None:
        """Write a loop: its typical stage, with lists for what other stages read."""
        run = stage.run
        first = run.start + stage.typical * run.period
        typical = symbols[first : first + run.period]
        names = self.lists[stage] = {}
        for place, n in sorted(stage.before.items()):
            names[place] = self._name_of(typical[place], is_single=place not in stage.listed)
            given = [symbols[q] for q in run.initial(place, n)]
            initial = ", ".join(
                self.text(x) if x in self.pieces else "0.0" for x in given
            )  # nobody uses the others
            if place in stage.listed:
                self.names_of_lists.add(names[place])
                zeros = f"[0.0] * {run.length}"
                self.lines.append(f"{names[place]} = {f'[{initial}] + ' * bool(initial)}{zeros}")
            elif n:
                self.lines.append(f"{names[place]} = {initial}")
        for place in stage.live:
            self.uses[typical[place]] = 0
        for place in stage.live:
            for operand, n in _operands(typical[place]):
                if operand in self.uses:
                    self.uses[operand] += n
        before, self.lines, pieces = self.lines, [], dict[Symbol, Any]()
        for place in sorted(stage.live):
            x = typical[place]
            for operand, source in zip(x.args, stage.operands[place], strict=True):
                if source is not None and source[:1] + source[2:] != (stage, 0, 1):
                    pieces.setdefault(operand, self.pieces.get(operand))
                    self.pieces[operand] = _Piece(self._found(stage, *source))
            row = f"[{_sum_of(stage.before[place], 1)}]" if place in stage.listed else ""
            self._write(x, f"{names[place]}{row}" if place in names else "")
        body = [f"    {line}" for part in self.lines for line in part.split("\n")]
        self.lines = [*before, f"for t in range({run.length}):", *body]
        self.pieces |= pieces  # as they were outside
        for i in stage.outside:
            t, place = run.place(i)
            row = f"[{stage.before[place] + t}]" if place in stage.listed else ""
            self.pieces[symbols[i]] = _Piece(f"{names[place]}{row}")

    def _found(self, stage: Stage, source: Any, *where: int) -> str:
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
                for x, n in _operands(symbol):
                    uses[x] = uses.get(x, 0) + n

    def _name_of(self, symbol: Symbol, is_single: bool = True) -> str:
        """The name of its variable. A sum is finished in one variable if each part is read by the next only.

        But a list keeps its name for itself: the parts of a sum that becomes one of its items are no lists.
        """
        is_partial = is_single and self.uses[symbol] == 1
        name = self.passes.names.get(symbol) or (is_partial and self.passes.partial.get(symbol))
        if not name or (name in self.names_of_lists and is_single):
            self.n_temporary += 1
            name = f"t{self.n_temporary}"
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
        text = number_text(float(x))
        if text[-1] in "fn":  # inf and nan
            self.functions.add(text.lstrip("-"))
        return text

    def operation(self, x: Symbol) -> tuple[str, int]:
        op, args = x.op, x.args
        if op == "where":
            for branch in args[1:]:
                if self._fails(branch) and self.pieces[branch].inline:
                    self._assign(branch)
        elif op == "max" and not isinstance(args[1], Symbol) and args[1] == 0:
            op, args = "relu", args[:1]
        elif op == "pow":
            if _is_number(args[1]) and args[1] and args[1] % 1 == 0:
                return f"{self.text(args[0], ATOM)}**{args[1]:.0f}", POWER
            op = "power"
        form = FORMS.get(op)
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
        if op == "shares":
            return _filled(f"{args[0]}.shares(", map(self.text, args[1:]), ")")
        if op == "table":
            return _filled("[", map(self.text, args), "]")
        self.functions.add(op)
        if op == "evaluate":
            return _filled(f"evaluate({args[0]}, ", map(self.text, args[1:]), ")")
        if op == "placed":
            pairs = zip(map(self.text, args[1::2]), map(self.text, args[2::2]), strict=True)
            return _filled(f"placed({args[0]}, ", (f"({index}, {share})" for index, share in pairs), ")")
        opening, closing = (f"{op}([", "])") if op in ("fsum", "logsumexp") else (f"{op}(", ")")
        return _filled(opening, map(self.text, args), closing)

    # --- The whole text -----------------------------------------------------------------------------------------

    def source(self, outputs: list[Any], slopes: list[Any]) -> str:
        """The program, ready to run: imports, helpers, and the function `run`."""
        passes = self.passes
        results = _filled("outputs = [", map(self._result, outputs), "]")
        gradient = [
            f"    {self._result(x)},  # {name}" for x, name in zip(slopes, passes.parameter_labels(), strict=False)
        ]
        body = [
            *(_filled("[", names, f"] = {text}") for text, names in passes.arguments.items() if names),
            "",
            "# forward",
            *self.lines,
            "",
            results,
            *["return outputs, [", *gradient, "]"],
        ]
        helpers = [source_of(helper) for name, helper in _HELPERS.items() if name in self.functions]
        read = {node.id for node in ast.walk(ast.parse("".join(helpers))) if isinstance(node, ast.Name)}
        of_math = (self.functions | read) & _MATH
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
                *(f"\n{helper}" for helper in helpers),
                "",
                "def run(parameters, inputs):",
                *(f"    {line}" if line else "" for part in body for line in part.split("\n")),
                "",
            ]
        )

    def _result(self, x: Any) -> str:
        """A number that is returned. A truth value becomes a float."""
        compares = isinstance(x, Symbol) and x.op in FORMS and FORMS[x.op].level == COMPARISON
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
        elif rule.name in RULES and all(map(_is_number, rule.parameters.values())):
            lines.append(f"{name} = RULES[{rule.name!r}].bind({parameters})")
        else:
            lines.append(f"# {name} is {rule}, which has to be given")
    return ["from tinygrad_edu import RULES", "", *lines, ""] if lines else []
