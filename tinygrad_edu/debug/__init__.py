"""Backpropagation under a magnifying glass.

steps(root)     every application of the chain rule in a backward pass: index it, iterate over it, print it
run(root)       the stepping prompt: both passes, with the letters of pdb; `tracing()` records source lines for it
Machine(root)   the same as an object: next(), back(), goto(...), run(), reset()
record(model)   a film of a training, a list of graphs: what went wrong, and any step to look at
why(root, x)    x's gradient as the sum over all paths between the two, the largest first
blame(root)     the node that made a nan, an inf, a dead end, a vanishing or exploding gradient, and the remedy

`stepping`, `paths`, `passes`, `causes` and `training` are the analyses: they give data. `frames` makes a picture
of a step, `machine` and `prompt` the text. Nothing in the engine imports this package, and no `.grad` is written.
Nodes are called by their labels, else by the variables that hold them where the question is asked.
"""

from .causes import Blame, Finding, blame
from .film import Film, record
from .machine import Machine
from .origins import tracing
from .paths import GradientPath, Why, why
from .prompt import run
from .stepping import Share, Step, Steps, steps

__all__ = [
    "Blame", "Film", "Finding", "GradientPath", "Machine", "Share", "Step", "Steps", "Why", "blame", "record",
    "run", "steps", "tracing", "why",
]  # fmt: skip
