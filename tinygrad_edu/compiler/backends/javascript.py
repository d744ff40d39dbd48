"""JavaScript: rules as functions, for the live page, and whole functions as an ES module.

A rule's forward and backward run once on symbols, and what they made is printed; a user's own rule is printed like
ours. A rule that asks a number a question, or calls `math`, cannot be printed.
"""

import functools
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar

from ...engine.rule import Rule
from ...engine.value import Value
from ..checks import captured, checked_parameters
from ..formulas import ATOM, CHOICE, OPERATORS, POWER, SUM, Form, Language
from ..symbols import SUMS, Book, Symbol
from ..tracing import CHOICES, TAKE, Placeholder, Trace, nested, trace_function

# Names that an argument of a module cannot have.
TAKEN = set("break case catch class const continue debugger default delete do else enum export extends".split())
TAKEN |= set("false finally for function if import in instanceof new null return super switch this throw".split())
TAKEN |= set("true try typeof var void while with yield let static await v g theta names parameters".split())
TAKEN |= set("forward predict arguments eval implements interface package private protected public".split())
TAKEN |= set("Array Float64Array Infinity Math NaN".split())
COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "equal": "==="}
IN_MATH = (
    "abs acos acosh asin asinh atan atanh cos cosh exp expm1 log log10 log1p log2 sin sinh sqrt tan tanh".split()
)
CALLED = {"max": "maximum", "min": "minimum", "pow": "power", "mod": "modulo", "fsum": "total"}
CALLED |= {name: f"Math.{name}" for name in IN_MATH}
CALLED |= {name: name for name in ("sign", "heaviside", "sigmoid", "erf", "erfc")}


class JavaScript(Language):
    """Writes formulas in JavaScript. `calls` are the functions that they call."""

    forms: ClassVar[Mapping[str, Form]] = {
        **{op: form for op, form in OPERATORS.items() if op != "mod"},
        **{op: Form(f"+({{}} {sign} {{}})", ATOM, (SUM, SUM)) for op, sign in COMPARISONS.items()},
        "where": Form("{} ? {} : {}", CHOICE, (SUM, SUM, SUM)),
        "exp2": Form("2 ** {}", POWER, (ATOM,)),
    }
    statement = "const {} = {};"

    def __init__(self) -> None:
        super().__init__({})
        self.calls: set[str] = set()

    def number(self, x: Any) -> str:
        return number_text(x)

    def operation(self, x: Symbol) -> tuple[str, int]:
        if x.op in self.forms:
            return super().operation(x)
        if x.op not in CALLED:
            raise TypeError(f"{x.op} has no function in JavaScript.")
        self.calls.add(CALLED[x.op])
        return f"{CALLED[x.op]}({', '.join(map(self.text, x.args))})", ATOM


def number_text(x: Any) -> str:
    """A number as JavaScript source."""
    x = float(x)
    if not math.isfinite(x):
        return "NaN" if x != x else "Infinity" if x > 0 else "-Infinity"
    return repr(x).removesuffix(".0")


# --- Rules ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RuleText:
    """A rule of n operands in JavaScript.

    forward   the source of a function of the operands that returns the result
    backward  the source of a function (upstream, out, operands...) that returns the shares in an array
    calls     the functions that the two call
    """

    forward: str
    backward: str
    calls: frozenset[str]


@functools.lru_cache(maxsize=1024)
def rule_text(rule: Rule, n: int) -> RuleText:
    """The rule for n operands. Raises TypeError, naming the rule, if it does not run on symbols."""
    names = [f"x{i}" for i in range(n)] if n > 1 else ["x"]
    forward, shares = _run(rule, names, "upstream", "out")
    writer = JavaScript()
    arguments = ", ".join(names)
    return RuleText(
        _function(writer, arguments, [forward], "{}"),
        _function(writer, f"upstream, out, {arguments}", shares, "[{}]"),
        frozenset(writer.calls),
    )


def _run(rule: Rule, names: Sequence[str], upstream: str, out: str) -> tuple[Any, list[Any]]:
    """The forward and the shares of a rule as symbols. Raises TypeError, naming the rule, if that fails."""
    # x + 0 is not x where x is -0, so that simplification is left out.
    book = Book({"add": lambda book, x, y: None})
    inputs = [book.leaf(name) for name in names]
    try:
        forward = SUMS[rule](book, *inputs) if rule in SUMS else rule.forward(*inputs)
        shares = list(rule.backward(book.leaf(upstream), book.leaf(out), *inputs))
    except Exception as error:
        raise TypeError(
            f"The rule {rule.name} cannot be written in JavaScript: {error} Write its forward and backward with "
            "operators and the functions of tinygrad_edu.elementary."
        ) from error
    return forward, shares


def _function(writer: JavaScript, arguments: str, results: list[Any], joined: str) -> str:
    statements, texts = writer.body(results)
    result = joined.format(", ".join(texts))
    body = f"{{ {' '.join(statements)} return {result}; }}" if statements else result
    return f"({arguments}) => {body}"


def helpers(calls: Iterable[str]) -> str:
    """The source of these functions, as far as they are ours, and of those that they call."""
    wanted, pending = set[str](), list(calls)
    while pending:
        name = pending.pop()
        if name in _HELPERS and name not in wanted:
            wanted.add(name)
            pending += re.findall(r"\b\w+(?=\()", _HELPERS[name])
    return "\n\n".join(text for name, text in _HELPERS.items() if name in wanted)


def _read_helpers() -> dict[str, str]:
    """{name: source} of the functions in javascript_helpers.js, each with the comment above it."""
    text = resources.files(__package__).joinpath("javascript_helpers.js").read_text("utf-8")
    blocks = re.split(r"\n\n(?=//|function)", text)
    found = ((re.search(r"^function (\w+)", block, re.MULTILINE), block.strip()) for block in blocks)
    return {match[1]: block for match, block in found if match}


_HELPERS = _read_helpers()


# --- Functions --------------------------------------------------------------------------------------------------


class JavaScriptModule:
    """A function of scalars as the source of an ES module, which any page can import. Python does not run it.

    source   the module. It exports
                 parameters             their numbers, as they were when the function was compiled
                 names                  their labels
                 predict(...example)    what the function returns for one example: a number, or nested arrays
                 valueAndGrad(...example)   [number, gradient], if the function returns one number
             The last argument of both may be other parameters.
    """

    def __init__(self, function: Callable[..., Any], parameters: Iterable[Value], example: Sequence[Any]):
        self.function, self.parameters = function, checked_parameters(function, parameters)
        trace = trace_function(function, self.parameters, [_shape(argument) for argument in example])
        self.source = _Module(trace, self.parameters, _name(function)).source()

    def __repr__(self) -> str:
        return f"JavaScriptModule({_name(self.function)}, {len(self.source):,} characters)"


class _Module:
    """Writes the module. Every node has a place in the array v: parameters, then inputs, then the rest."""

    def __init__(self, trace: Trace, parameters: Sequence[Value], name: str):
        self.trace, self.parameters, self.name = trace, parameters, name
        self.order = trace.order()
        inputs = [x for argument in trace.inputs for x in argument]
        self.place = {node: i for i, node in enumerate(dict.fromkeys([*parameters, *inputs, *self.order]))}
        self.arguments = _argument_names(trace.names)
        self.writer = JavaScript()
        self.writer.calls.add("numbers")

    def source(self) -> str:
        learned = set(self.parameters)
        forward, backward = [], []
        for node in self.order:
            if isinstance(node, Placeholder) and node.rule:
                forward.append(self._forward(node))
                if node.rule not in CHOICES.values() and not learned.isdisjoint(node.parents):
                    learned.add(node)
                    backward.append(self._backward(node, learned))
            elif node not in learned and not isinstance(node, Placeholder):
                captured(node, self.parameters)
                forward.append(f"{self._at(node)} = {number_text(node.data)};")
        size, n, outputs = len(self.place), len(self.parameters), self.trace.outputs
        filled, start = [], n
        for argument, shape in zip(self.arguments, self.trace.shapes, strict=True):
            count = math.prod(shape)
            filled.append(f"  v.set(numbers({argument}, {count}, {json.dumps(argument)}), {start});")
            start += count
        arguments = ", ".join([*self.arguments, "theta = parameters"])
        results = json.dumps(nested([f"v[{self.place[x]}]" for x in outputs], self.trace.shape)).replace('"', "")
        parts = [
            f"// {self.name}: {size:,} numbers, {n:,} of them parameters. Written by tinygrad_edu.",
            f"export const parameters = [{', '.join(number_text(p.data) for p in self.parameters)}];",
            f"export const names = {_json([p.label or f'p{i}' for i, p in enumerate(self.parameters)])};",
            helpers(self.writer.calls),
            f"function forward({arguments}) {{",
            f"  const v = new Float64Array({size});",
            f'  v.set(numbers(theta, {n}, "theta"));',
            *filled,
            *(f"  {line}" for line in forward),
            "  return v;\n}",
            f"export function predict({arguments}) {{",
            f"  const v = forward({', '.join([*self.arguments, 'theta'])});",
            f"  return {results};\n}}",
            "export default predict;",
        ]
        if not self.trace.shape:
            parts += [
                f"export function valueAndGrad({arguments}) {{",
                f"  const v = forward({', '.join([*self.arguments, 'theta'])});",
                f"  const g = new Float64Array({size});",
                f"  g[{self.place[outputs[0]]}] = 1;",
                *(f"  {line}" for line in reversed(backward)),
                f"  return [v[{self.place[outputs[0]]}], Array.from(g.subarray(0, {n}))];\n}}",
            ]
        return "\n".join(parts) + "\n"

    def _at(self, node: Value, array: str = "v") -> str:
        return f"{array}[{self.place[node]}]"

    def _symbols(self, node: Placeholder) -> tuple[Any, list[Any]]:
        assert node.rule
        return _run(node.rule, [self._at(p) for p in node.parents], self._at(node, "g"), self._at(node))

    def _forward(self, node: Placeholder) -> str:
        label = f" // {json.dumps(node.label)}" if node.label else ""
        if node.rule is TAKE:
            self.writer.calls.add("take")
            index, *rows = map(self._at, node.parents)
            return f"{self._at(node)} = take([{', '.join(rows)}], {index});{label}"
        statements, (text,) = self.writer.body([self._symbols(node)[0]])
        return _block(statements, [f"{self._at(node)} = {text};"]) + label

    def _backward(self, node: Placeholder, learned: set[Value]) -> str:
        if node.rule is TAKE:
            index, *rows = node.parents
            places = ", ".join(str(self.place[row]) for row in rows)
            return f"g[[{places}][{self._at(index)}]] += {self._at(node, 'g')};"
        shares = [(p, x) for p, x in zip(node.parents, self._symbols(node)[1], strict=True) if p in learned]
        statements, texts = self.writer.body([x for _, x in shares])
        pairs = zip(shares, texts, strict=True)
        return _block(statements, [f"{self._at(p, 'g')} += {text};" for (p, _), text in pairs])


def _block(statements: list[str], lines: list[str]) -> str:
    """The lines in one; in a block of their own, if there are constants before them."""
    return f"{{ {' '.join([*statements, *lines])} }}" if statements else " ".join(lines)


def _shape(x: Any) -> tuple[int, ...]:
    """The shape of nested lists of numbers. Raises ValueError if rows differ in it."""
    if not hasattr(x, "__len__"):
        return ()
    shapes = {_shape(row) for row in x}
    if len(shapes) > 1:
        raise ValueError("The example is ragged: its rows are of different lengths.")
    return (len(x), *(shapes.pop() if shapes else ()))


def _argument_names(names: Sequence[str]) -> list[str]:
    """The names of the function's arguments, with an underscore where JavaScript or the module uses the name."""
    return [f"{name}_" if name in TAKEN or name in _HELPERS else name for name in names]


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__)).replace("<lambda>", "a function")


def _json(data: Any) -> str:
    return json.dumps(data).replace("<", "\\u003c")
