"""The command explain: an expression, its derivatives, and how they come about."""

from collections.abc import Sequence

from ..debug import steps
from ..engine.graph import topological_order
from ..testing import GradientMismatch, gradcheck
from ..viz import tree
from .expression import Expression
from .folding import say


def explained(text: str, assignments: Sequence[str]) -> None:
    """Print the tree, every step of backpropagation, the gradients, and a gradient check.

    Raises ExpressionError as `Expression` does.
    """
    expression = Expression(text)
    y = expression.graph(assignments)
    every = steps(y)
    y.backward()
    leaves = {node.label: node for node in topological_order(y) if node.rule is None}
    inputs = [leaves[name] for name in expression.names]
    print(f"{expression.text} with {', '.join(assignments)}\n\n{tree(y)}\n")
    say("One step per operation, from the result back to the inputs:\n")
    for step in every:
        say(f"  {step.index + 1}. {step.sentence}")
    print("\nThe derivatives of the result:\n")
    for x in inputs:
        print(f"  d/d{x.label} = {x.grad:.6g}   at {x.label} = {x.data:.6g}")
    try:
        check = repr(gradcheck(expression, *inputs))
    except GradientMismatch as error:
        check = str(error)
    except ValueError as error:  # nan, or an overflow
        check = f"No gradient check: {error}"
    say(f"\n{check}")
