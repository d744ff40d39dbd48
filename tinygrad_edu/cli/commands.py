"""What the commands do. Each imports what it needs when it runs, so that --help comes at once.

A docstring begins with the help of the command.
"""

import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

FORMATS = ("svg", "png", "pdf", "html")
STDOUT = Path("-")


def demo(options: Namespace) -> None:
    """Derive an expression, check it, train on real digits, draw a neuron."""
    from .demo import run

    run(options.epochs, options.seed, options.out)


def train(options: Namespace) -> None:
    """Train a network of dense layers on a data set, and test it on examples it never saw."""
    # These matrices are small: a second thread of BLAS gains little, and waits where a core is busy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    from .recipes import run

    run(options)


def rules(options: Namespace) -> None:
    """Print the table of all operations (Markdown), or one of them.

    Raises ValueError for an unknown one.
    """
    from ..viz.table import one_rule, rules_table

    print(one_rule(options.operation) if options.operation else rules_table())


def grade(options: Namespace) -> int:
    """Say what learners' own Value classes get wrong, with the smallest program that shows it.

    Returns 0 if none has a mistake, 1 if one has, 2 without a verdict. Raises ValueError for a wrong requirement
    or rubric and for an empty folder, OSError where a file fails.
    """
    from ..testing.grade import formats, rubric, submissions

    items = rubric.items_of(options.require) if options.require else None
    points = rubric.read_points(options.points) if options.points else None
    if points and not items:
        items = tuple(points)
    grades = submissions.grade_all(submissions.collect(options.paths), items, options.jobs)
    if len(grades) == 1 and grades[0].error and options.format == "text":
        raise ValueError(grades[0].error)
    print(formats.written(grades, options.format, points))
    if options.html and len(grades) == 1 and not grades[0].error:
        grades[0].report.to_html(options.html)
    elif options.html:
        options.html.write_text(formats.to_html(grades, points), encoding="utf-8", errors="backslashreplace")
    if all(grade.error for grade in grades):
        return 2
    return 0 if all(grade.ok for grade in grades) else 1


def kit(options: Namespace) -> None:
    """Write what a course needs: Gradescope's zip, otter's test, nbgrader's cell.

    Raises ValueError for a wrong rubric, OSError where a file fails.
    """
    from ..testing.grade.kit import write

    for path in write(options.folder, options.points):
        print(f"wrote {path}")


def check(options: Namespace) -> int:
    """Test the rules of a module at hard and random points."""
    from .verdicts import run

    return run(options)


def prove(options: Namespace) -> int:
    """Certify the rules of a module at every number."""
    return check(options)


def exercise(options: Namespace) -> None:
    """Write an exercise: your own engine in seven steps.

    Raises OSError if files of these names are there, or cannot be written.
    """
    from ..testing.grade.exercise import write

    for path in write(options.folder):
        print(f"wrote {path}")


# --- Of an expression: each raises ExpressionError as `Expression` does ------------------------------------------


def explain(options: Namespace) -> None:
    """Every step from an expression to its derivatives, checked."""
    from ..debug import steps
    from ..engine.graph import topological_order
    from ..testing import GradientMismatch, gradcheck
    from ..viz import tree
    from .expression import Expression
    from .folding import say

    expression = Expression(options.expression)
    y = expression.graph(options.values)
    every = steps(y)
    y.backward()
    leaves = {node.label: node for node in topological_order(y) if node.rule is None}
    inputs = [leaves[name] for name in expression.names]
    print(f"{expression.text} with {', '.join(options.values)}\n\n{tree(y, variables={})}\n")
    say("One step per operation, from the result back to the inputs:\n")
    for step in every:
        say(f"  {step.index + 1}. {step.sentence}")
    print("\nThe derivatives of the result:\n")
    for x in inputs:
        print(f"  d/d{x.label} = {x.grad:.6g}   at {x.label} = {x.data:.6g}")
    try:
        say(f"\n{gradcheck(expression, *inputs)!r}")
    except GradientMismatch as error:
        say(f"\n{error}")
    except ValueError as error:  # nan, or an overflow
        say(f"\nNo gradient check: {error}")


def step(options: Namespace) -> None:
    """Step through both passes, from the keyboard or a pipe: n, b, s, c, p, why, h, q."""
    from ..debug.machine import Machine
    from ..debug.prompt import Prompt
    from .expression import Expression

    Prompt(Machine(Expression(options.expression).graph(options.values), variables={})).session()


def live(options: Namespace) -> None:
    """The page of an expression that can be changed and stepped through, into a file.

    Raises ExpressionError unless the file is a .html, OSError if it cannot be written.
    """
    from ..page import live
    from .expression import Expression, ExpressionError

    path: Path = options.output
    if path != STDOUT and path.suffix.lower() != ".html":
        raise ExpressionError(f"{path.name!r} must end in .html: the page is HTML.")
    _put(live(Expression(options.expression).graph(options.values)).to_html().encode(), path)


def draw(options: Namespace) -> None:
    """The picture of an expression, into a file.

    Raises ExpressionError for a file with another ending, RuntimeError if nothing here can write the format, and
    OSError if the file cannot be written.
    """
    from ..debug import steps
    from ..viz import draw
    from .expression import Expression, ExpressionError

    path: Path = options.output
    format = "svg" if path == STDOUT else path.suffix[1:].lower()
    if format not in FORMATS:
        raise ExpressionError(f"{path.name!r} must end in one of {', '.join('.' + f for f in FORMATS)}.")
    y = Expression(options.expression).graph(options.values)
    if format == "html":
        return _put(steps(y).to_html().encode(), path)
    y.backward()
    try:
        picture = draw(y, slopes=True).pipe(format=format)
    except subprocess.CalledProcessError as error:
        raise RuntimeError(
            f"No {format} can be written with {error.cmd[0]}: install Graphviz, or take svg."
        ) from None
    _put(picture, path)


def _put(content: bytes, path: Path) -> None:
    """Write to the path, or for `-` to the standard output. Raises OSError if that fails."""
    from ..viz.words import visible

    if path == STDOUT:
        sys.stdout.buffer.write(content)
    else:
        path.write_bytes(content)
        print(f"wrote {visible(str(path))}")
