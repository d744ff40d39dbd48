"""Backpropagation as a page: the picture, a slider, and the sentence of each step.

One file without network or server (`player.html` is its frame). Where scripts are taken out, as in a notebook that
is not trusted, the picture and all sentences are still there, and each step as a picture of its own.
"""

import base64
import html
import json
import string
from collections.abc import Iterator
from dataclasses import replace
from importlib import resources
from typing import Any
from xml.etree import ElementTree

from ..viz.compose import picture_of
from ..viz.text import tree
from ..viz.words import DASH, four_digits

LARGEST = 400  # nodes; more boxes than that cannot be read
FRAMES = 40  # pictures in a notebook that runs no scripts
SVG = "{http://www.w3.org/2000/svg}"
DONE, NOW = {"fill": "#cfe3f7"}, {"fill": "#ffd866", "stroke": "#a02c12", "stroke-width": "2.5"}


def page(steps: Any) -> str:
    """The whole HTML document. Raises ValueError if the graph has more than 400 nodes."""
    ids = _ids(steps)
    svg = _svg(steps, ids)
    graph = html.escape(tree(steps.root, ascii=False)) if svg is None else ElementTree.tostring(svg, "unicode")
    return string.Template(resources.files(__package__).joinpath("player.html").read_text("utf-8")).substitute(
        graph=f"<pre>{graph}</pre>" if svg is None else graph,
        count=len(steps),
        list="\n".join(f"<li>{html.escape(step.sentence)}</li>" for step in steps),
        data=json.dumps(_data(steps, ids)).replace("<", "\\u003c"),  # so that no text can end the script element
    )


def notebook(steps: Any) -> str | None:
    """The page in a frame of its own, and the first steps as pictures, which need no script. None if too large."""
    if len(steps.order) > LARGEST:
        return None
    framed = html.escape(page(steps), quote=True)
    player = (
        f'<iframe srcdoc="{framed}" style="width:100%;height:600px;border:0" title="Backpropagation"></iframe>'
    )
    hidden = len(steps) - FRAMES
    more = f"<p>{hidden:,} more steps are not shown as pictures.</p>" if hidden > 0 else ""
    frames = "\n".join(_frames(steps))
    return f"{player}\n<details><summary>Each step as a picture</summary>\n{frames}\n{more}</details>"


def frame(steps: Any, taken: int) -> str:
    """The picture after so many steps, 1 or more, as an SVG of its own. Raises ValueError as `page` does."""
    ids = _ids(steps)
    svg = _svg(steps, ids)
    if svg is None:
        raise ValueError("Nothing here can draw: `pip install graphviz-pure`.")
    return ElementTree.tostring(_marked(svg, steps[taken - 1], steps, ids, _completed(steps)), "unicode")


def _ids(steps: Any) -> dict[Any, str]:
    if len(steps.order) > LARGEST:
        raise ValueError(
            f"A page shows up to {LARGEST} nodes, and this graph has {len(steps.order):,}: take the steps of one "
            "of its inner nodes, or walk through them with debug.Machine."
        )
    return {node: f"n{place}" for place, node in enumerate(steps.order)}


def _svg(steps: Any, ids: dict[Any, str]) -> ElementTree.Element | None:
    """The picture with the final gradients, named as in the sentences; None if nothing here can draw."""
    try:
        import graphviz

        from ..viz.dot import drawing_of
    except ImportError:
        return None
    picture = picture_of(steps.root, {}, constants=True)
    final = steps.gradients(len(steps))
    texts = {id: (steps.name(node), four_digits(final[node])) for node, id in ids.items()}
    boxes = tuple(replace(box, title=texts[box.id][0], grad=texts[box.id][1]) for box in picture.boxes)
    try:
        svg = drawing_of(replace(picture, boxes=boxes, note=""), "").pipe(format="svg")
    except (graphviz.ExecutableNotFound, graphviz.CalledProcessError, OSError):
        return None
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    return ElementTree.fromstring(svg)


def _data(steps: Any, ids: dict[Any, str]) -> dict[str, Any]:
    """What the page's script needs, all of it text that is ready to be shown."""
    seed = four_digits(steps.reached(0)[steps.root])
    return {
        "seed": [ids[steps.root], seed],
        "start": f"{steps.name(steps.root)}.grad is {seed}, all others are 0: nothing has reached them.",
        "order": [[ids[node], position] for node, position in _completed(steps).items()],
        "steps": [_step(step, steps, ids) for step in steps],
    }


def _step(step: Any, steps: Any, ids: dict[Any, str]) -> dict[str, Any]:
    shares = [
        {"id": ids[share.parent], "name": steps.name(share.parent)}
        | {name: four_digits(getattr(share, name)) for name in ("slope", "share", "before", "after")}
        for share in step.shares
    ]
    return {
        "node": ids[step.node],
        "upstream": four_digits(step.upstream),
        "sentence": step.sentence,
        "shares": shares,
    }


def _completed(steps: Any) -> dict[Any, int]:
    """For each node, how many steps are taken when it is done: its own, or for a leaf the last that uses it."""
    done = {steps.root: 0}
    for position, node in enumerate(steps.nodes, start=1):
        done[node] = position
        done.update((parent, position) for parent in node.parents if parent.rule is None)
    return done


# --- Without scripts ----------------------------------------------------------------------------------------


def _frames(steps: Any) -> Iterator[str]:
    """Each step, folded: its sentence, and below it the picture as it is then."""
    ids, completed = _ids(steps), _completed(steps)
    svg = _svg(steps, ids)
    for step in steps[:FRAMES]:
        title = f"{step.index + 1}. {html.escape(step.sentence)}"
        picture = "" if svg is None else _image(_marked(svg, step, steps, ids, completed))
        yield f"<details><summary>{title}</summary>{picture}</details>"


def _image(svg: ElementTree.Element) -> str:
    data = base64.b64encode(ElementTree.tostring(svg)).decode()
    return f'<img alt="" src="data:image/svg+xml;base64,{data}">'


def _marked(
    svg: ElementTree.Element, step: Any, steps: Any, ids: dict[Any, str], completed: dict[Any, int]
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
            group.findall(f"{SVG}text")[-1].text = f"grad {reached.get(str(id), DASH)}"
    return frame
