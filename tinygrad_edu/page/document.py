"""The live page of a graph: one HTML file that computes, differentiates and steps by itself."""

import base64
import hashlib
import inspect
import json
import keyword
import math
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from types import MappingProxyType
from typing import Any

from ..compiler.backends.javascript import RuleText, function_text, helpers, javascript_number, rule_text
from ..engine.rule import Rule
from ..engine.value import Value
from ..viz.colours import css_variables
from ..viz.equations import function_of, slopes
from ..viz.names import names_of
from ..viz.reading import Reading, read
from ..viz.terminal import tree
from ..viz.words import clipped, formula, visible

LARGE = 300  # nodes; nobody reads a longer program
LONGEST = 200  # characters of a name
MAX_NOTE = 40  # lines of the tree for a browser without scripts
SCRIPTS = ("graph.js", "layout.js", "page.js")


def document(
    root: Value,
    variables: Mapping[Value, str],
    *,
    mode: str = "live",
    upstream: float = 1.0,
    numbers: Mapping[Value, Any] = MappingProxyType({}),
    lines: Mapping[Value, str] = MappingProxyType({}),
    film: Sequence[tuple[int, Sequence[float]]] = (),
) -> str:
    """The whole HTML document for the graph of root; `variables` names the Values that have no label.

    mode is "live", with all numbers shown, or "steps", where the backward pass begins. upstream is the gradient of
    root. numbers are those of the leaves, if not their present ones. lines are the source lines that made the
    nodes, as far as they are known. film has, for each step of a training, the numbers of all leaves in
    topological order: a second slider goes over them.

    Raises TypeError, naming the rule, if one of the rules cannot be written in JavaScript.
    """
    reading = read(root, variables, constants=True)
    kinds = [(node.rule, len(node.parents)) for node in reading.order]
    rules = {kind: i for i, kind in enumerate(dict.fromkeys(kind for kind in kinds if kind[0]))}
    outer = [scope[:depth] for scope in reading.scopes for depth in range(1, len(scope) + 1)]
    scopes = {scope: i for i, scope in enumerate(dict.fromkeys(outer))}  # each after those around it
    names = examples(reading)
    names |= {
        place: _shown(name)
        for place, name in enumerate(names_of(reading.order, variables).values())
        if reading.names[place]
    }
    data = {
        "mode": mode,
        "upstream": _number(upstream),
        "rule": [rules.get(kind, -1) for kind in kinds],
        "operands": [place for operands in reading.parents for place in operands],
        "leaves": [_number(numbers.get(node, node.data)) for node in reading.order if node.rule is None],
        "names": names,
        "kinds": {place: kind for place, kind in enumerate(reading.kinds) if kind not in ("leaf", "interior")},
        "scope": [scopes.get(scope, -1) for scope in reading.scopes],
        "scopes": [(scope[-1], scopes.get(scope[:-1], -1)) for scope in scopes],
        "film": [(step, [_number(x) for x in leaves]) for step, leaves in film],
        "lines": {place: lines[node] for place, node in enumerate(reading.order) if node in lines},
        "program": _program(reading, names) if len(kinds) <= LARGE else [],
    }
    calls: set[str] = set()
    texts = [(rule, n, _by_hand(rule, reading.order) if rule.by_hand else rule_text(rule, n)) for rule, n in rules]
    sources = [f"{_rule_source(*one, calls)}," for one in texts]
    script = "\n".join(['"use strict";', helpers(calls), "const RULES = [", *sources, "];", *map(_file, SCRIPTS)])
    style = css_variables() + _file("page.css")
    return string.Template(_file("page.html")).substitute(
        title=escape(_shown(reading.names[-1]) or "result"),
        count=f"{len(reading.order):,}",
        text=f"<pre>{escape(tree(root, MAX_NOTE, ascii=False, variables=variables))}</pre>",
        data=_json(data),
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
    )


def examples(reading: Reading) -> dict[int, str]:
    """Names for the numbers that a network is given: x[2][0] is input 0 of point 2, y[2] its target.

    An input is the constant that a weight of the first layer is multiplied by, once for each point. A target is
    the constant that is subtracted from what a module gives.
    """
    inputs: dict[int, list[int]] = {}  # the constants beside each weight
    targets = []
    for place, operands in enumerate(reading.parents):
        rule = reading.order[place].rule
        constants = [p for p in operands if reading.kinds[p] in ("constant", "leaf") and not reading.names[p]]
        if rule and len(operands) == 2 and len(constants) == 1:
            (other,) = (p for p in operands if p != constants[0])
            if reading.kinds[other] == "parameter" and rule.name == "mul":
                inputs.setdefault(other, []).append(constants[0])
            elif (
                rule.name == "sub"
                and operands[1] == constants[0]
                and inputs
                and reading.kinds[other] == "interior"
            ):
                targets.append(constants[0])
    names: dict[int, str] = {}
    numbers = {weight: re.sub(r".*\D", "", reading.names[weight]) for weight in inputs}
    for weight, places in inputs.items():
        column = f"[{numbers[weight]}]" * ({*numbers.values()} != {"0"})
        names |= {p: "x" + f"[{point}]" * (len(places) > 1) + column for point, p in enumerate(places)}
    return names | {place: f"y[{point}]" if len(targets) > 1 else "y" for point, place in enumerate(targets)}


def _program(reading: Reading, names: Mapping[int, str]) -> list[str]:
    """The graph as a program in Python: its text before, between and after the numbers of the leaves."""
    variables: list[str] = []
    lines = ["import tinygrad_edu as tg", ""]
    for place, node in enumerate(reading.order):
        name, operands = names.get(place, ""), [variables[p] for p in reading.parents[place]]
        word = unicodedata.normalize("NFKC", name)  # as Python reads it
        is_free = word.isidentifier() and not keyword.iskeyword(word) and word not in [*variables, "tg", "abs"]
        variables.append(word if is_free and not re.fullmatch(r"v\d+", word) else f"v{place}")
        if node.rule is None:
            label = f", label={json.dumps(name, ensure_ascii=False)}" * bool(name)
            expression = f"tg.Value(\0{label})"
        elif node.rule.name == "dot":
            half = len(operands) // 2
            expression = f"tg.dot([{', '.join(operands[:half])}], [{', '.join(operands[half:])}])"
        elif node.rule.name == "sum":
            expression = f"tg.sum({', '.join(operands)})"
        elif node.rule.by_hand:
            slopes = node.rule.backward(1.0, node.data, *(parent.data for parent in node.parents))
            expression = f"tg.micrograd.Value({node.data!r}, [{', '.join(operands)}], {[*slopes]!r})"
        elif not node.rule.ours:
            parameters = [f"{word}={value!r}" for word, value in node.rule.parameters.items()]
            expression = f"tg.RULES[{node.rule.name!r}]({', '.join([*operands, *parameters])})"
        else:
            expression = formula(node.rule, operands, len(operands))
            expression = f"tg.{expression}" if expression.endswith(")") and node.rule.name != "abs" else expression
        lines.append(f"{variables[-1]} = {expression}")
    return "\n".join([*lines, f"{variables[-1]}.backward()", ""]).split("\0")


def _rule_source(rule: Rule, n: int, text: RuleText, calls: set[str]) -> str:
    """One entry of RULES: what the page needs to know of a rule for n operands; `calls` gets what it calls."""
    calls |= text.calls
    about: dict[str, Any] = {
        "symbol": str(rule.symbol),
        "form": formula(rule, [f"{{{i}}}" for i in range(n)]),
        "n": n,
        "slopes": slopes(rule, n),
        "about": _about(rule),
    }
    functions = map(function_of, about["slopes"])
    checks = [function_text(check, ("x", "y", "out"), calls) if check else "null" for check in functions]
    return (
        f"{{...{_json(about)}, forward: {text.forward}, backward: {text.backward}, checks: [{', '.join(checks)}]}}"
    )


def _by_hand(rule: Rule, order: list[Value]) -> RuleText:
    """An operation that was written for one value of its operands: its number stays, its slopes stay."""
    (node,) = (node for node in order if node.rule is rule)
    slopes = rule.backward(1.0, node.data, *(parent.data for parent in node.parents))
    shares = ", ".join(f"upstream * {javascript_number(slope)}" for slope in slopes)
    return RuleText(f"() => {javascript_number(node.data)}", f"(upstream) => [{shares}]", frozenset())


def _about(rule: Rule) -> list[str]:
    """What a rule is, and its derivation: the comment above its backward."""
    if rule.by_hand:
        return [f"{rule.name}: written by hand. Its number and its slopes stay as they are."]
    formula = f"{rule.name}: {rule.formula}" if rule.formula else rule.name
    try:
        comment = inspect.getcomments(inspect.unwrap(rule.declared.backward)) or ""
    except (OSError, TypeError):  # declared where no source is kept
        comment = ""
    return [
        formula,
        *(line.removeprefix("#").strip() for line in comment.splitlines() if not line.startswith("# ---")),
    ]


def _shown(name: str) -> str:
    return clipped(visible(name), LONGEST)


def _number(x: Any) -> float | str:
    """A number for JSON, which has no inf and nan: JavaScript's Number reads their names."""
    x = float(x)
    return x if math.isfinite(x) else "NaN" if x != x else "Infinity" if x > 0 else "-Infinity"


def _json(data: Any) -> str:
    """data as JavaScript. No text in it can end the script element."""
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
