"""`draw_dot(root, format="svg", rankdir="LR")` and `trace(root)` with the signatures of micrograd's notebook."""

from ..viz import draw_dot, trace

__all__ = ["draw_dot", "trace"]
