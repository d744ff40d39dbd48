"""The command explain: an expression, its derivatives, and how they come about."""

import shutil
import textwrap
from collections.abc import Sequence

from ..debug import steps
from ..engine.graph import topological_order
from ..engine.value import Value
from ..viz import tree
from .expression import Expression


def explain(text: str, assignments: Sequence[str]) -> None:
    """Print the tree, every step of backpropagation, the gradients, and a gradient check.

    A terminal of less than 80 columns gets folded sentences, and the verdicts of the check without its table.
    Raises ExpressionError as `Expression` does.
    """
    expression = Expression(text)
    y = expression.graph(assignments)
    every = steps(y)
    y.backward()
    columns = shutil.get_terminal_size((80, 0)).columns
    width = columns if columns < 80 else 10_000
    print(f"{expression.text} with {', '.join(assignments)}\n")
    print(tree(y), _folded("One step per operation, from the result back to the inputs:\n", width), sep="\n\n")
    for step in every:
        print(_folded(f"  {step.index + 1}. {step.sentence}", width))
    print("\nThe derivatives of the result:\n")
    for leaf in _variables(expression, y):
        print(f"  d/d{leaf.label} = {leaf.grad:.6g}   at {leaf.label} = {leaf.data:.6g}")
    print(f"\n{_check(expression, y, width)}")


def _folded(text: str, width: int) -> str:
    return "\n".join(
        textwrap.fill(line, max(width, 20), subsequent_indent="     ", break_on_hyphens=False)
        for line in text.split("\n")
    )


def _variables(expression: Expression, y: Value) -> list[Value]:
    found = {node.label: node for node in topological_order(y) if node.rule is None}
    return [found[name] for name in expression.names]


def _check(expression: Expression, y: Value, width: int) -> str:
    try:
        from ..testing import GradientMismatch, gradcheck
    except ImportError as error:
        return f"No gradient check: {error}"
    try:
        report = gradcheck(expression, *_variables(expression, y))
    except GradientMismatch as error:
        return str(error)
    except ValueError as error:  # nan, or an overflow
        return _folded(f"No gradient check: {error}", width)
    lines = repr(report).splitlines()
    if max(map(len, lines)) > width:  # the verdicts alone
        lines = ["gradcheck:", *(_folded(f"  {row.name} {row.verdict} {row.note}", width) for row in report.rows)]
    return "\n".join(lines)
