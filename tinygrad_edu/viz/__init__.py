"""Pictures of a computation: `draw` for the notebook, `tree` for the terminal.

Readers of the graph: nothing in the engine imports this package. `tree` and `trace` need the standard library
alone; the graphviz package is imported by the first `draw`.
"""

from .drawing import draw, draw_dot, trace
from .terminal import tree
from .words import UnquotedText as Tree

__all__ = ["Tree", "draw", "draw_dot", "trace", "tree"]
