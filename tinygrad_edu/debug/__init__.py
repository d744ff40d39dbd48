"""Backpropagation under a magnifying glass.

steps(root)     every application of the chain rule in a backward pass: index it, iterate over it, print it
Machine(root)   the same at the prompt: next(), back(), goto(...), run(), reset()

Readers of the graph: nothing in the engine imports this package, and no `.grad` is touched.
"""

from .machine import Machine
from .steps import Share, Step, Steps, steps

__all__ = ["Machine", "Share", "Step", "Steps", "steps"]
