"""A Python expression as text, which the command line, the stepping prompt and random programs evaluate."""

import ast
from types import CodeType
from typing import Any


class ParsedExpression:
    """An expression for Python's own evaluator: `ParsedExpression("a * b").value({"a": 2, "b": 3})` is 6.

    `rewrite`, if it is given, sees every part, and replaces it or raises. Raises SyntaxError for what is no
    expression.
    """

    def __init__(self, text: str, rewrite: ast.NodeTransformer | None = None):
        tree = ast.parse(text.strip(), mode="eval")
        if rewrite:
            tree = ast.fix_missing_locations(rewrite.visit(tree))
        self.whole: ast.expr = tree.body
        self._code: CodeType = compile(tree, "<expression>", "eval")

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the expression, those of attributes too, in their order."""
        return self._code.co_names

    def value(self, scope: dict[str, Any]) -> Any:
        """The result, with a value in `scope` for each name. Raises Python's errors."""
        return eval(self._code, scope)
