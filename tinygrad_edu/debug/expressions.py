"""Python over the nodes of a machine: what `p`, `watch` and `break` evaluate in the stepping prompt."""

import ast
import copy
import re
from collections.abc import Mapping
from typing import Any

from ..engine.parsing import ParsedExpression
from ..engine.value import Value
from .machine import Machine


class NodeExpression:
    """A Python expression in which nodes are called by their names: `w.grad > 1e3`, `layer0.neuron3.w2`, `#3`.

    A node stands for a Value with the number and the gradient that it has where the machine is; a gradient that
    has not begun is 0. Other names are those of `scope`. Raises SyntaxError for what is no expression.
    """

    def __init__(self, text: str, machine: Machine, scope: Mapping[str, Any]):
        self.text: str = text
        self.machine: Machine = machine
        self._scope = dict(scope)
        self.nodes: dict[str, str] = {}  # the word that stands in the code -> the name of the node
        self._parsed = ParsedExpression(re.sub(r"#(\d+)", r"_place_\1", text), _PlainNames(machine, self.nodes))
        whole = self._parsed.whole
        self.gradient: str = ""  # the node, if the expression is its gradient and nothing else
        if isinstance(whole, ast.Attribute) and whole.attr == "grad" and isinstance(whole.value, ast.Name):
            self.gradient = self.nodes.get(whole.value.id, "")

    def value(self) -> Any:
        """The value at the machine's step. Raises Python's errors, and LookupError for a node without a number."""
        return self._parsed.value(self._scope | {word: self._now(name) for word, name in self.nodes.items()})

    def shown(self) -> str:
        """The value as `p` and `watch` show it; a dash for a gradient that has not begun, as in the frame."""
        machine, text = self.machine, repr(self.value())
        return "-" if self.gradient and machine.gradient(machine.node(self.gradient)) is None else text

    def _now(self, name: str) -> Value:
        node = self.machine.node(name)
        if not self.machine.is_computed(node):
            raise LookupError(f"{name} has no number yet: the forward pass has not come to it.")
        now = copy.copy(node)
        now.data = self.machine.steps.data[node]
        now.grad = self.machine.gradient(node) or type(now.data)(0)
        return now


class _PlainNames(ast.NodeTransformer):
    """Puts a plain name in place of each chain of dots and brackets that is the name of a node."""

    def __init__(self, machine: Machine, names: dict[str, str]):
        self.machine, self.names = machine, names

    def visit(self, tree: Any) -> Any:
        if isinstance(tree, ast.Name | ast.Attribute | ast.Subscript):
            name = ast.unparse(tree).replace("_place_", "#")
            if self.machine.named.find(name, exact="." not in name) is None:
                if isinstance(tree, ast.Name) and "#" in name:
                    self.machine.node(name)  # raises, with the name as it was written
                return self.generic_visit(tree)
            word = f"_node_{len(self.names)}"
            self.names[word] = name
            return ast.Name(word, ast.Load())
        return self.generic_visit(tree)
