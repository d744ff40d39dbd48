"""A step of backpropagation as a still picture: what is done is blue, the current step is yellow."""

from dataclasses import replace
from xml.etree import ElementTree

from ..engine.value import Value
from ..viz.compose import picture_of
from ..viz.words import DASH, four_digits
from .stepping import BackwardPass, Step

LARGEST = 400  # nodes; nobody can read more boxes than that
SVG = "{http://www.w3.org/2000/svg}"
DONE, NOW = {"fill": "#cfe3f7"}, {"fill": "#ffd866", "stroke": "#a02c12", "stroke-width": "2.5"}


def frame(steps: BackwardPass, taken: int) -> str:
    """The picture after so many steps, 1 or more, as SVG: `frame(tg.steps(y), 3)`.

    Raises ValueError if the graph has more than 400 nodes or nothing here can draw, IndexError if there is no such
    step.
    """
    if len(steps.order) > LARGEST:
        raise ValueError(
            f"A picture of a step shows up to {LARGEST} nodes, and this graph has {len(steps.order):,}: take the "
            "steps of one of its inner nodes, or tg.live."
        )
    ids = {node: f"n{place}" for place, node in enumerate(steps.order)}
    svg = _svg(steps, ids)
    if svg is None:
        raise ValueError("Nothing here can draw: `pip install graphviz-pure`.")
    return ElementTree.tostring(_marked(svg, steps[taken - 1], steps, ids, steps.completed()), "unicode")


def _svg(steps: BackwardPass, ids: dict[Value, str]) -> ElementTree.Element | None:
    """The picture of `draw`, with the final gradients and the names of the sentences; None without a renderer."""
    try:
        import graphviz

        from ..viz.dot import drawing_of
    except ImportError:
        return None
    picture = picture_of(steps.root, steps.variables)
    final = steps.gradients(len(steps))
    texts = {id: (steps.name(node), four_digits(final[node])) for node, id in ids.items()}
    boxes = tuple(replace(box, title=texts[box.id][0], grad=texts[box.id][1]) for box in picture.boxes)
    try:
        svg = drawing_of(replace(picture, boxes=boxes, note=""), "").pipe(format="svg")
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError, OSError):
        return None
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    return ElementTree.fromstring(svg)


def _marked(
    svg: ElementTree.Element, step: Step, steps: BackwardPass, ids: dict[Value, str], completed: dict[Value, int]
) -> ElementTree.Element:
    """The picture as it is right after a step: as the script would mark it, but by attributes."""
    frame = ElementTree.fromstring(ElementTree.tostring(svg))
    reached = {ids[node]: four_digits(gradient) for node, gradient in steps.reached(step.index + 1).items()}
    done = {ids[node] for node, position in completed.items() if position <= step.index + 1}
    now = {ids[step.node], *(f"{ids[step.node]}.{k}" for k in range(len(step.shares)))}
    for group in frame.iter(f"{SVG}g"):
        title = group.findtext(f"{SVG}title")
        id = group.get("id") if group.get("class") == "edge" else title
        if group.get("class") not in ("node", "edge"):
            continue
        for shape in group:
            if shape.tag in (f"{SVG}path", f"{SVG}polygon", f"{SVG}ellipse"):
                if group.get("class") == "edge":
                    shape.attrib.update({"stroke": NOW["stroke"]} if id in now else {})
                else:
                    shape.attrib.update(NOW if id in now else DONE if id in done else {})
        if group.get("class") == "node":  # the gradient is the last line of a box
            [*group.iter(f"{SVG}text")][-1].text = f"grad {reached.get(str(id), DASH)}"
    return frame
