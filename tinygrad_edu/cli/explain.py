"""The command explain: an expression, its derivatives, and how they come about."""

from collections.abc import Sequence

from ..debug import steps
from ..engine.graph import topological_order
from ..engine.value import Value
from ..testing import GradientMismatch, gradcheck
from ..viz import tree
from .expression import Expression
from .folding import folded, terminal_width


def explained(text: str, assignments: Sequence[str]) -> None:
    """Print the tree, every step of backpropagation, the gradients, and a gradient check.

    A terminal of less than 80 columns gets folded sentences, and the verdicts of the check without its table.
    Raises ExpressionError as `Expression` does.
    """
    expression = Expression(text)
    y = expression.graph(assignments)
    every = steps(y)
    y.backward()
    print(f"{expression.text} with {', '.join(assignments)}\n")
    print(tree(y), folded("One step per operation, from the result back to the inputs:\n"), sep="\n\n")
    for step in every:
        print(folded(f"  {step.index + 1}. {step.sentence}"))
    print("\nThe derivatives of the result:\n")
    for leaf in _variables(expression, y):
        print(f"  d/d{leaf.label} = {leaf.grad:.6g}   at {leaf.label} = {leaf.data:.6g}")
    print(f"\n{_check(expression, y)}")


def _variables(expression: Expression, y: Value) -> list[Value]:
    leaves = {node.label: node for node in topological_order(y) if node.rule is None}
    return [leaves[name] for name in expression.names]


def _check(expression: Expression, y: Value) -> str:
    try:
        report = gradcheck(expression, *_variables(expression, y))
    except GradientMismatch as error:
        return str(error)
    except ValueError as error:  # nan, or an overflow
        return folded(f"No gradient check: {error}")
    lines = repr(report).splitlines()
    if max(map(len, lines)) > terminal_width():  # the verdicts alone
        lines = ["gradcheck:", *(folded(f"  {row.name} {row.verdict} {row.note}") for row in report.rows)]
    return "\n".join(lines)
