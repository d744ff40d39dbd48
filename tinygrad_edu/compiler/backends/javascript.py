"""JavaScript: rules as functions, for the live page, and whole functions as an ES module.

A rule's forward and backward run once on symbols, and what they made is printed; a user's own rule is printed like
ours. A rule that asks a number a question, or calls `math`, cannot be printed.
"""

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar

from ...engine.rule import Rule
from ..ir.symbols import SUMS, Book, is_number, rule_of_names
from ..trace.nesting import nested
from .formulas import ATOM, CHOICE, OPERATORS, POWER, SUM, Form, Language, short_number
from .straight import StraightWriter
from .straight_passes import Passes

# Names that an argument of a module cannot have.
TAKEN = set("break case catch class const continue debugger default delete do else enum export extends".split())
TAKEN |= set("false finally for function if import in instanceof new null return super switch this throw".split())
TAKEN |= set("true try typeof var void while with yield let static await v d t d_theta theta names inputs".split())
TAKEN |= set("parameters predict arguments eval implements interface package private protected public".split())
TAKEN |= set("Array Float64Array Infinity Math NaN".split())
COMPARISONS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "equal": "==="}
IN_MATH = (
    "abs acos acosh asin asinh atan atanh cos cosh exp expm1 log log10 log1p log2 sin sinh sqrt tan tanh".split()
)
CALLED = {"max": "maximum", "min": "minimum", "pow": "power", "mod": "modulo", "fsum": "total"}
CALLED |= {name: f"Math.{name}" for name in IN_MATH}
# The functions in javascript_helpers.js, in their order, and those of them that each calls.
HELPERS: dict[str, tuple[str, ...]] = dict.fromkeys(
    "total maximum minimum power sign heaviside modulo sigmoid erfcx erfc erf numbers take placed".split(), ()
) | {"erfc": ("erfcx",), "erf": ("erfc",)}
CALLED |= {name: name for name in ("sign", "heaviside", "sigmoid", "erf", "erfc", "power", "take", "placed")}


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

    def function(self, op: str) -> str:
        return called(op, self.calls)


def called(op: str, calls: set[str]) -> str:
    """The name of the function of an operation, which is added to the calls. Raises TypeError if there is none."""
    if op not in CALLED:
        raise TypeError(f"{op} has no function in JavaScript.")
    calls.add(CALLED[op])
    return CALLED[op]


def number_text(x: Any) -> str:
    """A number as JavaScript source."""
    return short_number(float(x), "Infinity", "NaN")


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
    forward, shares = _of_symbols(rule, names)
    writer = JavaScript()
    arguments = ", ".join(names)
    return RuleText(
        _function(writer, arguments, [forward], "{}"),
        _function(writer, f"upstream, out, {arguments}", shares, "[{}]"),
        frozenset(writer.calls),
    )


def _of_symbols(rule: Rule, names: Sequence[str]) -> tuple[Any, list[Any]]:
    # x + 0 is not x where x is -0, so that simplification is left out.
    book = Book({"add": lambda book, x, y: None})
    return rule_of_names(rule, names, book, "cannot be written in JavaScript:")


def _function(writer: JavaScript, arguments: str, results: list[Any], joined: str) -> str:
    statements, texts = writer.body(results)
    result = joined.format(", ".join(texts))
    body = f"{{ {' '.join(statements)} return {result}; }}" if statements else result
    return f"({arguments}) => {body}"


def helpers(calls: Iterable[str]) -> str:
    """The source of these functions, as far as they are ours, and of those that they call: blocks of a file."""
    wanted = {*calls}
    for name in reversed(HELPERS):  # each before those that it calls
        wanted.update(HELPERS[name] if name in wanted else ())
    blocks = resources.files(__package__).joinpath("javascript_helpers.js").read_text("utf-8").split("\n\n")
    texts = dict(zip(HELPERS, blocks[1:], strict=True))  # the first block says what the file is
    return "\n\n".join(text.strip() for name, text in texts.items() if name in wanted)


# --- Modules ----------------------------------------------------------------------------------------------------


class JavaScriptPasses(Passes):
    """The passes for a language where nothing raises an error. Variables are items of arrays: JavaScript allows
    many more of these.
    """

    reductions = SUMS
    names_of = ("theta[{}]", "inputs[{}][{}]", "v[{}]", "d[{}]")

    def _name(self, label: str, otherwise: str) -> str:
        return otherwise

    def _is_checked(self, rule: Rule) -> bool:
        return False

    def _called(self, method: str, rule: Rule, *inputs: Any) -> Any:
        if method == "evaluate" and all(map(is_number, inputs)):
            return float(rule.evaluate(inputs, inputs))
        n = len(inputs) - 2 * (method == "shares")
        _of_symbols(rule, [f"x{i}" for i in range(n)])
        raise TypeError(f"The backward of the rule {rule.name} cannot be written in JavaScript.")


class JavaScriptWriter(StraightWriter):
    """Writes the function of a module."""

    forms: ClassVar[Mapping[str, Form]] = {
        **JavaScript.forms,
        "relu": Form("{0} <= 0 ? 0 : {0}", CHOICE, (ATOM,)),
    }
    begin_backward = ()
    temporary = "t[{}]"

    def number(self, x: Any) -> str:
        return number_text(x)

    def brackets(self, op: str) -> tuple[str, str]:
        if op in ("table", "pair"):
            return "[", "]"
        return f"{called(op, self.functions)}(", ")"

    def source(self, function: str = "predict") -> str:
        """The function of one example under this name."""
        trace = self.passes.trace
        arguments = _argument_names(trace.names)
        read = [
            f"numbers({argument}, {math.prod(shape)}, {json_text(name)})"
            for argument, name, shape in zip(arguments, trace.names, trace.shapes, strict=True)
        ]
        results = _array(nested(list(map(self.result, self.outputs)), trace.shape))
        gradient = ", ".join(map(self.result, self.slopes))
        lines = [
            f'theta = numbers(theta, {len(trace.parameters)}, "theta")',
            f"const inputs = [{', '.join(read)}], v = [], d = [], d_theta = [], t = []",
            *self.lines,
            f"return {results if function == 'predict' else f'[{results}, [{gradient}]]'}",
        ]
        body = "".join(f"  {line};\n" for line in lines if line)
        return f"function {function}({', '.join([*arguments, 'theta = parameters'])}) {{\n{body}}}"


def _array(rows: Any) -> str:
    """Nested lists of texts as an array of JavaScript."""
    return rows if isinstance(rows, str) else f"[{', '.join(map(_array, rows))}]"


def _argument_names(names: Sequence[str]) -> list[str]:
    """The names of the function's arguments, with an underscore where JavaScript or the module uses the name."""
    return [f"{name}_" if name in TAKEN or name in HELPERS else name for name in names]


def json_text(data: Any) -> str:
    """Data as JSON that may stand in a page."""
    return json.dumps(data).replace("<", "\\u003c")
