"""Straight-line Python: a function and its gradient at one point, as one long list of assignments.

Every rule's own forward and backward run once on Symbols. The Book keeps each expression once, so what the
backward pass has in common with the forward pass is computed once; it remains to write the expressions down in the
order in which they arose, with a variable for what is used more than once. No loop, no graph, no NumPy.

The source calls `math` itself. Where the eager engine answers inf, or with an error of its own, the source raises
OverflowError, ValueError or ZeroDivisionError: whoever runs it then asks the eager engine about that point. What
it returns without an error is what the eager engine returns.
"""

import builtins
import functools
import keyword
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ...engine.graph import topological_order
from ...engine.rule import Rule
from ...engine.rules import DIV, RULES
from ...engine.value import Value
from ..checks import collector_paused
from ..symbols import Book, Symbol, number_text, simpler_pow
from ..tracing import CHOICES, COMPARISONS, OUTPUTS, TAKE, Placeholder, Trace

WIDTH = 100  # of one expression, in characters
# In Python, errors outside their domain.
GUARDED = {"div", "reciprocal", "mod", "pow", "pow_n", "sqrt", "log", "log2", "log10", "log1p"}
GUARDED |= {"asin", "acos", "acosh", "atanh"}

Run = Callable[[Sequence[float], Sequence[Sequence[float]]], tuple[list[float], list[float]]]


@dataclass(frozen=True)
class StraightProgram:
    """A function as straight-line Python.

    source                    the text. It imports math only, and tinygrad_edu for rules that do not run on symbols
    run(parameters, inputs)   the outputs, and the gradient of the first of them for the parameters, in order;
                              inputs has one flat list of floats per argument. Raises OverflowError, ValueError or
                              ZeroDivisionError where only the eager engine can tell the result
    """

    source: str
    run: Run


def compile_straight(trace: Trace, gradient: bool = True) -> StraightProgram:
    """The traced function as straight-line Python. Without gradient, `run` returns an empty one."""
    passes = _Passes(trace)
    with collector_paused():
        passes.forward()
        forward_length = sum(1 for _ in passes.book)
        outputs = [passes.values[output] for output in trace.outputs]
        slopes = passes.backward() if gradient else []
        writer = _Writer(passes)
        writer.write([*outputs, *slopes], forward_length)
        source = writer.source(outputs, slopes)
        namespace: dict[str, Any] = {}
        exec(compile(source, "<straight-line Python>", "exec"), namespace)
    namespace.update(passes.opaque)  # the rules of the trace, also if one has been declared anew since
    return StraightProgram(source, namespace["run"])


# --- The expressions ------------------------------------------------------------------------------------------


def _sigmoid(book: Book, x: Any) -> Any:
    """As elementary.sigmoid: its exponential is that of softplus as well."""
    if not isinstance(x, Symbol):
        return None
    small = book.make("exp", -abs(x))
    return book.make("where", x >= 0, 1.0, small) / (1.0 + small)


def _pow(book: Book, x: Any, y: Any) -> Any:
    """A product for the square."""
    if isinstance(x, Symbol) and not isinstance(y, Symbol) and y == 2:  # the only product with the power's bits
        return x * x
    return simpler_pow(book, x, y)


class _Book(Book):
    """Expressions of floats."""

    def __init__(self) -> None:
        super().__init__({"sigmoid": _sigmoid, "pow": _pow})

    def _extent(self, symbols: list[Symbol]) -> tuple[tuple[int, ...], bool]:
        return (), False


def _fsum(book: Book, *inputs: Any) -> Any:
    """The sum, correctly rounded as by elementary.total; of two floats, + is."""
    return functools.reduce(operator.add, inputs) if len(inputs) <= 2 else book.special("fsum", inputs, (), False)


def _dot(book: Book, *inputs: Any) -> Any:
    n = len(inputs) // 2
    return _fsum(book, *map(operator.mul, inputs[:n], inputs[n:]))


def _logsumexp(book: Book, *inputs: Any) -> Any:
    """The first number of a list; after it follow the slopes."""
    return _item(book, book.special("logsumexp", inputs, (), False), 0)


def _logsumexp_backward(upstream: Any, out: Any, *inputs: Any) -> list[Any]:
    return [upstream * _item(out.book, out.args[0], 1 + i) for i in range(len(inputs))]


def _smallest(book: Book, *inputs: Any) -> Any:
    return functools.reduce(lambda x, y: book.make("min", x, y), inputs)


# Reductions in the words of Python. All other rules run as they are.
_FORWARD: dict[Rule, Callable[..., Any]] = {
    RULES["sum"]: _fsum,
    RULES["dot"]: _dot,
    RULES["min"]: _smallest,
    RULES["logsumexp"]: _logsumexp,
}
_STEPS = {*COMPARISONS.values(), *CHOICES.values()}  # no gradient passes these


def _item(book: Book, of: Symbol, place: int) -> Symbol:
    return book.special("item", (of, place), (), False)


def _is_number(x: Any) -> bool:
    return isinstance(x, int | float)


class _Passes:
    """The forward and the backward pass on Symbols.

    values   of every node its Symbol or number
    names    of every Symbol that a reader looks for its variable: parameters and inputs, v17 for node 17, d17 for
             its adjoint; `partial` has those of sums on the way to an adjoint
    failing  the Symbols that outside a domain are an error, needed or not
    opaque   the rules that are called as they are, by the names they have in the source
    """

    def __init__(self, trace: Trace):
        self.book, self.trace = _Book(), trace
        self.order: list[Any] = topological_order(Placeholder.of(OUTPUTS, tuple(trace.outputs)))[:-1]
        self.values: dict[Value, Any] = {}
        self.names: dict[Symbol, str] = {}
        self.partial: dict[Symbol, str] = {}
        self.failing: set[Symbol] = set()
        self.opaque: dict[str, Rule] = {}
        self.tables: dict[tuple[Value, ...], Value] = {}  # rows that are picked from: the first node that does so
        self.taken = {"parameters", "inputs", "run", "outputs", *_HELPERS, *_MATH, *dir(builtins)}
        self.parameters = [self._leaf(p, f"p{i}") for i, p in enumerate(trace.parameters)]
        self.inputs = [
            [self._leaf(x, f"x{a}_{i}") for i, x in enumerate(argument)] for a, argument in enumerate(trace.inputs)
        ]

    def _leaf(self, leaf: Value, otherwise: str) -> str:
        name = self._name(leaf.label, otherwise)
        self.values[leaf] = symbol = self.book.leaf(name)
        self.names[symbol] = name
        return name

    def _name(self, label: str, otherwise: str) -> str:
        """A label as the name of a variable, x[0, 1] as x0_1, if that is short and nobody has it yet."""
        name = re.sub(r"\[(\d+)(?:, (\d+))*\]", lambda m: m[0][1:-1].replace(", ", "_"), label)
        fit = len(name) <= 12 and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)
        ours = re.fullmatch(r"[vdtp]\d+|x\d+_\d+|d_\w+|rule\d+|__\w+", name)
        if not fit or ours or name in self.taken:
            name = otherwise
        self.taken.add(name)
        return name

    def parameter_labels(self) -> list[str]:
        """What the parameters are called, as text for comments: without any character that would end one."""
        labels = [
            ascii(p.label)[1:-1] or name for p, name in zip(self.trace.parameters, self.parameters, strict=True)
        ]
        return [
            name if name == label else f"{name} {label}"
            for name, label in zip(self.parameters, labels, strict=True)
        ]

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
        learned = set(self.trace.parameters)
        inner = [node for node in self.order if isinstance(node, Placeholder) and node.rule]
        for node in inner:
            if node.rule not in _STEPS and not learned.isdisjoint(node.parents[node.rule is TAKE :]):
                learned.add(node)
        terms: dict[Value, list[Any]] = {node: [] for node in learned}
        if self.trace.outputs[0] in learned:
            terms[self.trace.outputs[0]].append(1.0)
        picks: dict[tuple[Value, ...], list[Any]] = {}
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
            if node.rule is TAKE and self.tables[rows := node.parents[1:]] is node and rows in picks:
                placed = self.book.special("placed", (len(rows), *picks[rows]), (), False)
                for place, row in enumerate(rows):  # all that pick from these rows have been here
                    if row in learned:
                        terms[row].append(_item(self.book, placed, place))
        return [
            self._sum(terms[p], f"d_{name}")
            for p, name in zip(self.trace.parameters, self.parameters, strict=True)
        ]

    def _sum(self, terms: list[Any], name: str) -> Any:
        """An adjoint: the shares in the order in which the eager engine adds them."""
        total = terms[0] if terms else 0.0
        for term in terms[1:]:
            if isinstance(total, Symbol):
                self.partial.setdefault(total, name)
            total = total + term
        if isinstance(total, Symbol):
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
    """Is there an input for which the eager engine refuses to compute it?"""
    if rule is DIV and _is_number(inputs[1]):
        return bool(inputs[1] == 0)
    exponent = rule.parameters.get("exponent")
    return bool(rule.domain or rule.check) and not (isinstance(exponent, int) and exponent >= 0)


# --- The text -------------------------------------------------------------------------------------------------

# How tightly a formula holds together: a part that holds less tightly than its place asks for gets parentheses.
CHOICE, COMPARISON, SUM, PRODUCT, SIGN, POWER, ATOM = range(7)

# Per operation its text, how tightly that holds, and how tightly the inputs must; an ATOM may be written twice.
_FORMS: dict[str, tuple[str, int, tuple[int, ...]]] = {
    "add": ("{} + {}", SUM, (SUM, PRODUCT)),
    "sub": ("{} - {}", SUM, (SUM, PRODUCT)),
    "mul": ("{} * {}", PRODUCT, (PRODUCT, SIGN)),
    "div": ("{} / {}", PRODUCT, (PRODUCT, SIGN)),
    "mod": ("{} % {}", PRODUCT, (PRODUCT, SIGN)),
    "neg": ("-{}", SIGN, (SIGN,)),
    "lt": ("{} < {}", COMPARISON, (SUM, SUM)),
    "le": ("{} <= {}", COMPARISON, (SUM, SUM)),
    "gt": ("{} > {}", COMPARISON, (SUM, SUM)),
    "ge": ("{} >= {}", COMPARISON, (SUM, SUM)),
    "equal": ("{} == {}", COMPARISON, (SUM, SUM)),
    "where": ("{1} if {0} else {2}", CHOICE, (COMPARISON, COMPARISON, CHOICE)),
    # nan is neither less nor more, and stays
    "max": ("{0} if {0} >= {1} or {0} != {0} else {1}", CHOICE, (ATOM, ATOM)),
    "min": ("{0} if {0} <= {1} or {0} != {0} else {1}", CHOICE, (ATOM, ATOM)),
    "relu": ("0.0 if {0} <= 0.0 else {0}", CHOICE, (ATOM,)),
    "sign": ("1.0 if {0} > 0.0 else -1.0 if {0} < 0.0 else 0.0 * {0}", CHOICE, (ATOM,)),
    "heaviside": ("1.0 if {0} > 0.0 else 0.0 if {0} <= 0.0 else {0}", CHOICE, (ATOM,)),
}

_WRITTEN = {
    op: tuple(text.count(f"{{{i}}}") for i in range(3)) for op, (text, _, _) in _FORMS.items() if "{0}" in text
}

_FUNCTIONS = {"exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh"}
_FUNCTIONS |= {"tanh", "erf", "erfc", "asinh", "acosh", "atanh", "exp2", "log2", "log10"}
_MATH = _FUNCTIONS | {"fsum", "inf", "isinf", "nan", "pow"}

# Per function that the source may define: what it needs of math, and the text.
_HELPERS: dict[str, tuple[set[str], str]] = {
    "power": (
        {"nan", "pow"},
        '''
def power(x, y):
    """x**y for real results; nan stays nan."""
    if x == 0 and y < 0 or x < 0 and y % 1:
        raise ValueError("no negative power of 0, no non-integer power of a negative number")
    return pow(x, y) if x == x and y == y else nan
''',
    ),
    "logsumexp": (
        {"exp", "fsum", "isinf", "log1p"},
        '''
def logsumexp(xs):
    """log(e^x1 + e^x2 + ...), and after it the slopes: the softmax."""
    top = max(xs)
    powers = [exp(x - (0.0 if isinf(top) else top)) for x in xs]
    excess = fsum([*powers, -1.0])
    total = 1.0 + excess
    return [(0.0 if isinf(top) else top) + log1p(excess), *[power / total for power in powers]]
''',
    ),
    "take": (
        set(),
        '''
def take(rows, index):
    """rows[index], where the index is a whole number from 0 on."""
    if not 0 <= index < len(rows) or index % 1:
        raise ValueError(f"{index} is no index from 0 to {len(rows) - 1}")
    return rows[int(index)]
''',
    ),
    "placed": (
        set(),
        '''
def placed(n, *pairs):
    """n adjoints: at every index the sum of its shares."""
    adjoints = [0.0] * n
    for index, share in pairs:
        adjoints[int(index)] += share
    return adjoints
''',
    ),
    "evaluate": (
        set(),
        '''
def evaluate(rule, *inputs):
    """What the rule gives, checks of its domain included."""
    return float(rule.evaluate(inputs, inputs))
''',
    ),
}


class _Piece(NamedTuple):
    """How a Symbol is written where it is used: its variable, or its formula if no other place uses it.

    inline: it is no variable yet. fails: a Symbol of `failing` is in the formula.
    """

    text: str
    level: int = ATOM
    inline: bool = False
    fails: bool = False


class _Writer:
    """One line per Symbol that is used more than once; the others go into the line that uses them, if it is short.

    Evaluated later, a formula gives the same number. Only into the branches of a choice none may move that can
    fail: eagerly, both are computed.
    """

    def __init__(self, passes: _Passes):
        self.passes = passes
        self.lines: list[str] = []
        self.pieces: dict[Symbol, _Piece] = {}
        self.uses: dict[Symbol, int] = {}
        self.numbers: dict[Any, _Piece] = {}
        self.functions: set[str] = set()  # of math, and helpers
        self.n_temporary = 0

    def write(self, roots: Iterable[Any], forward_length: int) -> None:
        """A line for every Symbol that needs one. The first forward_length belong to the forward pass."""
        symbols, failing = list(self.passes.book), self.passes.failing
        self._count(symbols, roots)
        for i, symbol in enumerate(symbols):
            if i == forward_length:
                self.lines += ["", "# backward: d17 is the derivative of the first output for v17"]
            if symbol.op == "leaf":
                self.pieces[symbol] = _Piece(self.passes.names[symbol])
            elif symbol in self.uses:
                text, level = self._formula(symbol)
                fails = bool(failing) and (symbol in failing or any(self._fails(x) for x in symbol.args))
                self.pieces[symbol] = _Piece(text, level, True, fails)
                if (
                    self.uses[symbol] > 1 or len(text) > WIDTH or symbol.op == "take"
                ):  # checks an index first of all
                    self._assign(symbol)

    def _count(self, symbols: list[Symbol], roots: Iterable[Any]) -> None:
        uses, failing = self.uses, self.passes.failing
        for root in roots:
            if isinstance(root, Symbol):
                uses[root] = uses.get(root, 0) + 1
        for symbol in reversed(symbols):
            if symbol in failing and symbol not in uses:
                uses[symbol] = 2  # a line of its own, for its error
            if symbol in uses:
                times = _WRITTEN.get(symbol.op, (1,) * len(symbol.args))
                for x, n in zip(symbol.args, times, strict=False):
                    if x.__class__ is Symbol:
                        uses[x] = uses.get(x, 0) + n

    def _assign(self, symbol: Symbol) -> None:
        name = self.passes.names.get(symbol) or (self.uses[symbol] == 1 and self.passes.partial.get(symbol))
        if not name:
            self.n_temporary += 1
            name = f"t{self.n_temporary}"
        self.lines.append(f"{name} = {self.pieces[symbol].text}")
        self.pieces[symbol] = _Piece(name)

    def _fails(self, x: Any) -> bool:
        return isinstance(x, Symbol) and self.pieces[x].fails

    def _piece(self, x: Any) -> _Piece:
        if x.__class__ is Symbol:
            return self.pieces[x]
        if x not in self.numbers:
            text = number_text(float(x))
            if text[-1] in "fn":  # inf and nan
                self.functions.add(text.lstrip("-"))
            self.numbers[x] = _Piece(text, SIGN if text[0] == "-" else ATOM)
        return self.numbers[x]

    def text(self, x: Any, level: int = CHOICE) -> str:
        """A Symbol or number as it is written where `level` is asked for."""
        text, own, _, _ = self.pieces[x] if x.__class__ is Symbol else self._piece(x)
        return f"({text})" if own < level else text

    def _formula(self, symbol: Symbol) -> tuple[str, int]:
        op, args = symbol.op, symbol.args
        if op == "where":
            for x in args[1:]:
                if self._fails(x) and self.pieces[x].inline:
                    self._assign(x)
        elif op == "max" and not isinstance(args[1], Symbol) and args[1] == 0:
            op, args = "relu", args[:1]
        elif op == "pow":
            if _is_number(args[1]) and args[1] and args[1] % 1 == 0:
                return f"{self.text(args[0], ATOM)}**{args[1]:.0f}", POWER
            op = "power"
        if op not in _FORMS:
            return self._call(op, args), ATOM
        form, level, levels = _FORMS[op]
        text = form.format(*map(self.text, args, levels))
        while len(text) > WIDTH:
            inline = [x for x in args if self._piece(x).inline]
            if not inline:
                break
            self._assign(max(inline, key=lambda x: len(self.pieces[x].text)))
            text = form.format(*map(self.text, args, levels))
        return text, level

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
            *_unpacked(passes.parameters, "parameters"),
            *(line for i, names in enumerate(passes.inputs) for line in _unpacked(names, f"inputs[{i}]")),
            "",
            "# forward",
            *self.lines,
            "",
            results,
            *["return outputs, [", *gradient, "]"],
        ]
        helpers = [text for name, (_, text) in _HELPERS.items() if name in self.functions]
        needs = [needs for name, (needs, _) in _HELPERS.items() if name in self.functions]
        of_math = (self.functions & _MATH).union(*needs)
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
                *helpers,
                "",
                "def run(parameters, inputs):",
                *(f"    {line}" if line else "" for part in body for line in part.split("\n")),
                "",
            ]
        )

    def _result(self, x: Any) -> str:
        """A number that is returned: a float, also where it is a truth value."""
        compares = isinstance(x, Symbol) and _FORMS.get(x.op, ("", ATOM))[1] == COMPARISON
        return f"float({self.text(x)})" if compares else self.text(x)


def _filled(opening: str, parts: Iterable[str], closing: str) -> str:
    """opening + parts, separated by commas + closing; on lines of their own if that is too long."""
    parts = list(parts)
    if sum(map(len, parts)) + 2 * len(parts) + len(opening) + len(closing) <= WIDTH:
        return opening + ", ".join(parts) + closing
    lines = [""]
    for part in parts:
        if len(lines[-1]) + len(part) > WIDTH:
            lines.append("")
        lines[-1] += f"{part}, "
    return "\n    ".join([opening, *(line.rstrip() for line in lines)]) + "\n" + closing


def _unpacked(names: list[str], of: str) -> list[str]:
    return [_filled("[", names, f"] = {of}")] if names else []


def _declared(rules: dict[str, Rule]) -> list[str]:
    """The lines that look up the rules which are called as they are."""
    lines = []
    for name, rule in rules.items():
        parameters = ", ".join(f"{key}={x!r}" for key, x in rule.parameters.items())
        if rule is RULES.get(rule.name):
            lines.append(f"{name} = RULES[{rule.name!r}]")
        elif rule.name in RULES and all(map(_is_number, rule.parameters.values())):
            lines.append(f"{name} = RULES[{rule.name!r}].bind({parameters})")
        else:
            lines.append(f"# {name} is {rule!r}, which has to be given")
    return ["from tinygrad_edu import RULES", "", *lines, ""] if lines else []
