"""A step of backpropagation as a still picture: what is done is blue, the current step is yellow."""

from dataclasses import replace
from xml.etree import ElementTree

from ..viz.compose import picture_of
from ..viz.drawing import drawn
from ..viz.terminal import tree
from ..viz.words import DASH, four_digits
from .stepping import Steps

LARGEST = 400  # nodes; nobody can read more boxes than that
SVG = "{http://www.w3.org/2000/svg}"
DONE, NOW = {"fill": "#cfe3f7"}, {"fill": "#ffd866", "stroke": "#a02c12", "stroke-width": "2.5"}


def frame(steps: Steps, taken: int) -> str:
    """The picture after so many steps, 1 or more, as SVG: `frame(tg.steps(y), 3)`.

    Raises ValueError if the graph has more than 400 nodes, IndexError if there is no such step.
    """
    if len(steps.order) > LARGEST:
        raise ValueError(
            f"A picture of a step shows up to {LARGEST} nodes, and this graph has {len(steps.order):,}: take the "
            "steps of one of its inner nodes, or tg.live."
        )
    step, svg = steps[taken - 1], _svg(steps)
    names = {node: f"n{place}" for place, node in enumerate(steps.order)}
    reached = {names[node]: four_digits(gradient) for node, gradient in steps.reached(step.index + 1).items()}
    done = {names[node] for node, position in steps.completed().items() if position <= step.index + 1}
    now = {names[step.node], *(f"{names[step.node]}.{operand}" for operand in range(len(step.shares)))}
    for group in svg.iter(f"{SVG}g"):
        kind, title = group.get("class"), group.findtext(f"{SVG}title", "")
        if kind == "edge" and group.get("id") in now:
            look = {"stroke": NOW["stroke"]}
        elif kind == "node":
            look = NOW if title in now else DONE if title in done else {}
            [*group.iter(f"{SVG}text")][-1].text = f"grad {reached.get(title, DASH)}"  # the last line of a box
        else:
            continue
        for shape in group:
            if shape.tag in (f"{SVG}path", f"{SVG}polygon", f"{SVG}ellipse", f"{SVG}rect"):
                shape.attrib.update(look)
    return ElementTree.tostring(svg, "unicode")


def _svg(steps: Steps) -> ElementTree.Element:
    """The picture of `draw`, with the names of the sentences and room for the final gradients."""
    final, picture = steps.gradients(len(steps)), picture_of(steps.root, steps.variables)
    texts = {f"n{place}": (steps.names[node], four_digits(final[node])) for place, node in enumerate(steps.order)}
    boxes = tuple(replace(box, title=texts[box.id][0], grad=texts[box.id][1]) for box in picture.boxes)
    svg = drawn(replace(picture, boxes=boxes, note=""), tree(steps.root, variables=steps.variables)).pipe(
        format="svg"
    )
    ElementTree.register_namespace("", SVG[1:-1])
    return ElementTree.fromstring(svg)
