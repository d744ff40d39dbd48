"""The commands explain and draw: an expression, its derivatives, and how they come about."""

from collections.abc import Sequence
from pathlib import Path

from ..debug import steps
from ..engine.graph import topological_order
from ..engine.value import Value
from ..viz import tree
from .expression import Expression, ExpressionError

FORMATS = ("svg", "png", "pdf", "html")


def explain(text: str, assignments: Sequence[str]) -> None:
    """Print the tree, every step of backpropagation, the gradients, and a gradient check."""
    expression = Expression(text)
    y = expression.graph(assignments)
    every = steps(y)
    y.backward()
    print(f"{expression.text} with {', '.join(assignments)}\n")
    print(tree(y), "\n\nOne step per operation, from the result back to the inputs:\n", sep="")
    for step in every:
        print(f"  {step.index + 1}. {step.sentence}")
    print("\nThe derivatives of the result:\n")
    for leaf in _variables(expression, y):
        print(f"  d/d{leaf.label} = {leaf.grad:.6g}   at {leaf.label} = {leaf.data:.6g}")
    print(f"\n{_check(expression, y)}")


def _variables(expression: Expression, y: Value) -> list[Value]:
    found = {node.label: node for node in topological_order(y) if node.rule is None}
    return [found[name] for name in expression.names]


def _check(expression: Expression, y: Value) -> str:
    try:
        from ..testing import GradientMismatch, gradcheck
    except ImportError as error:
        return f"No gradient check: {error}"
    try:
        return repr(gradcheck(expression, *_variables(expression, y)))
    except GradientMismatch as error:
        return str(error)
    except ValueError as error:  # nan, or an overflow
        return f"No gradient check: {error}"


def draw_to(text: str, assignments: Sequence[str], path: Path) -> None:
    """Write the picture of an expression with its gradients: svg, png or pdf; html can be stepped through."""
    format = path.suffix[1:].lower()
    if format not in FORMATS:
        raise ExpressionError(f"{path.name!r} must end in one of {', '.join('.' + f for f in FORMATS)}.")
    if not path.parent.is_dir():
        raise ExpressionError(f"There is no folder {str(path.parent)!r}; make it first.")
    y = Expression(text).graph(assignments)
    if format == "html":
        try:
            steps(y).to_html(path)
        except ValueError as error:
            raise ExpressionError(str(error)) from None
    else:
        y.backward()
        path.write_bytes(_picture(y, format))
    print(f"wrote {path}")


def _picture(y: Value, format: str) -> bytes:
    from ..viz import draw

    drawing = draw(y, slopes=True)  # which says what to install without the graphviz package
    import graphviz

    try:
        picture: bytes = drawing.pipe(format=format)
    except graphviz.CalledProcessError as error:
        raise RuntimeError(
            f"No {format} can be written with {error.cmd[0]}: install Graphviz, or take svg."
        ) from None
    return picture
