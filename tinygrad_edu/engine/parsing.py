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
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        names.sort(key=lambda node: (node.lineno, node.col_offset))
        self.names: tuple[str, ...] = tuple(dict.fromkeys(node.id for node in names))  # as they first occur
        self._code: CodeType = compile(tree, "<expression>", "eval")

    def value(self, scope: dict[str, Any], operands: dict[str, Any] | None = None) -> Any:
        """The result, with a value for each name in `operands` or in `scope`. Raises Python's errors."""
        return eval(self._code, scope, operands)
