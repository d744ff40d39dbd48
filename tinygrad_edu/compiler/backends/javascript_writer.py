"""Modules of JavaScript: the numbers of a plan, line by line, as a function of an ES module."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ...engine.rule import Rule
from ...engine.rules import RULES
from ..trace.nesting import nested
from .formulas import ATOM, CHOICE, Form
from .javascript import HELPERS, TAKEN, JavaScript, called, json_text, rule_text
from .scalars import Scalars
from .straight import StraightWriter


class JavaScriptScalars(Scalars):
    """The numbers of a plan for a language where nothing raises an error. Variables are items of one array:
    JavaScript allows many more of these.
    """

    names_of = ("theta[{}]", "inputs[{}][{}]", "theta")
    _n = -1

    def variable(self, name: str) -> str:
        self._n += 1
        return f"v[{self._n}]"

    def name(self, label: str, otherwise: str) -> str:
        return otherwise

    def _is_checked(self, rule: Rule) -> bool:
        return False

    def _called(self, method: str, rule: Rule, *inputs: Any) -> Any:
        rule_text(rule, len(inputs) - 2 * (method == "shares"))
        raise TypeError(f"The backward of the rule {rule.name} cannot be written in JavaScript.")

    def logsumexp(self, elements: list[Any]) -> list[Any]:
        rule = RULES["logsumexp"]
        out = rule.forward(*elements)
        return [out, *rule.shares(1.0, out, *elements)]


class JavaScriptWriter(StraightWriter):
    """Writes the function of a module."""

    forms: ClassVar[Mapping[str, Form]] = {**JavaScript.forms, "relu": Form("{0} <= 0 ? 0 : {0}", CHOICE, (ATOM,))}
    end = ";"
    heads = (["for (let t = 0; t < {}; t++) {{", "}"], ["for (let t = {} - 1; t >= 0; t--) {{", "}"])
    zeros = "new Array({}).fill(0)"
    backward = ()

    number = JavaScript.number

    def brackets(self, op: str) -> tuple[str, str]:
        if op in ("table", "pair"):
            return "[", "]"
        return f"{called(op, self.functions)}(", ")"

    def exported(self, build: Any, function: str) -> str:
        """The function of one example under this name."""
        scalars, shapes = self.scalars, build.contract.request.shapes
        arguments = _argument_names(build.names)
        read = [
            f"numbers({argument}, {math.prod(shape)}, {json_text(name)})"
            for argument, name, shape in zip(arguments, build.names, shapes, strict=True)
        ]
        results = _array(nested(list(map(self.result, scalars.outputs)), build.output_shape))
        gradient = ", ".join(map(self.result, scalars.slopes))
        lines = [
            f'theta = numbers(theta, {len(scalars.labels)}, "theta");',
            f"const inputs = [{', '.join(read)}], v = [];",
            *self.lines[scalars.top],
            f"return {results if function == 'predict' else f'[{results}, [{gradient}]]'};",
        ]
        body = "".join(f"  {line}\n" for line in lines)
        return f"export function {function}({', '.join([*arguments, 'theta = parameters'])}) {{\n{body}}}"


def _array(rows: Any) -> str:
    """Nested lists of texts as an array of JavaScript."""
    return rows if isinstance(rows, str) else f"[{', '.join(map(_array, rows))}]"


def _argument_names(names: Sequence[str]) -> list[str]:
    """The names of the function's arguments, with an underscore where JavaScript or the module uses the name."""
    return [f"{name}_" if name in TAKEN or name in HELPERS else name for name in names]
