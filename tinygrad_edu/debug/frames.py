"""A step of backpropagation as a still picture: what is finished is blue, the current step is yellow."""

from dataclasses import replace

from ..viz.compose import picture_of
from ..viz.drawing import drawn
from ..viz.terminal import tree
from ..viz.words import DASH, four_digits
from .stepping import Steps

LARGEST = 400  # nodes; nobody can read more boxes than that


def frame(steps: Steps, taken: int) -> str:
    """The picture after so many steps, 1 or more, as SVG: `frame(tg.steps(y), 3)`.

    Raises ValueError if the graph has more than 400 nodes, IndexError if there is no such step.
    """
    if len(steps.order) > LARGEST:
        raise ValueError(
            f"A picture of a step shows up to {LARGEST} nodes, and this graph has {len(steps.order):,}: take the "
            "steps of one of its inner nodes, or tg.live."
        )
    step, complete, boxes = steps[taken - 1], steps.completed(), []
    picture = picture_of(steps.root, steps.variables)
    for box in picture.boxes:
        node = steps.order[int(box.id[1:])]
        gradient = steps.gradient(node, step.index + 1)
        text = DASH if gradient is None else four_digits(gradient)
        state = "now" if node is step.node else "done" * (complete[node] <= step.index + 1)
        boxes.append(replace(box, title=steps.names[node], grad=text, state=state))
    now = [box.id for box in boxes if box.state == "now"]
    arrows = tuple(replace(arrow, marked=arrow.head in now) for arrow in picture.arrows)
    picture = replace(picture, boxes=tuple(boxes), arrows=arrows, note="")
    svg: str = drawn(picture, tree(steps.root, variables=steps.variables)).pipe(format="svg", encoding="utf-8")
    return svg
