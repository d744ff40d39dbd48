"""JavaScript: rules as functions, for the live page, and whole functions as an ES module.

A rule's forward and backward run once on symbols, and what they made is printed; a user's own rule is printed like
ours. A rule that asks a number a question, or calls `math`, cannot be printed.
"""

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, ClassVar

from ...engine.rule import Rule
from ..ir.symbols import Book, rule_of_names
from .formulas import ATOM, CHOICE, OPERATORS, POWER, SUM, Form, Language, short_number

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
        return javascript_number(x)

    def function(self, op: str) -> str:
        return called(op, self.calls)


def called(op: str, calls: set[str]) -> str:
    """The name of the function of an operation, which is added to the calls. Raises TypeError if there is none."""
    if op not in CALLED:
        raise TypeError(f"{op} has no function in JavaScript.")
    calls.add(CALLED[op])
    return CALLED[op]


def javascript_number(x: Any) -> str:
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


_EXACT = {"add": lambda book, x, y: None}  # x + 0 is not x where x is -0: that simplification is left out


@functools.lru_cache(maxsize=1024)
def rule_text(rule: Rule, n: int) -> RuleText:
    """The rule for n operands. Raises TypeError, naming the rule, if it does not run on symbols."""
    names = [f"x{i}" for i in range(n)] if n > 1 else ["x"]
    forward, shares = rule_of_names(rule, names, Book(_EXACT), "cannot be written in JavaScript:")
    writer = JavaScript()
    arguments = ", ".join(names)
    return RuleText(
        _function(writer, arguments, [forward], "{}"),
        _function(writer, f"upstream, out, {arguments}", shares, "[{}]"),
        frozenset(writer.calls),
    )


def function_text(function: Callable[..., Any], names: Sequence[str], calls: set[str]) -> str:
    """A function of numbers of these names; what it calls is added to the calls."""
    book, writer = Book(_EXACT), JavaScript()
    text = _function(writer, ", ".join(names), [function(*map(book.leaf, names))], "{}")
    calls |= writer.calls
    return text


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


def json_text(data: Any) -> str:
    """Data as JSON that may stand in a page."""
    return json.dumps(data).replace("<", "\\u003c")
