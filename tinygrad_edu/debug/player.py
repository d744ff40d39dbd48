"""Backpropagation as a page: the picture, a slider, and the sentence of each step.

It is one file without network or server; `player.html` is its frame. Where scripts are taken out, as in a notebook
that is not trusted, the sentences are still there, and the first steps as pictures.
"""

import base64
import gzip
import html
import json
import string
from dataclasses import replace
from importlib import resources
from typing import Any
from xml.etree import ElementTree

from ..engine.value import Value
from ..viz.compose import picture_of
from ..viz.text import tree
from ..viz.words import DASH, four_digits
from .stepping import BackwardPass, Step

LARGEST = 400  # nodes; nobody can read more boxes than that
PICTURES = 40  # steps that are pictures in a notebook that runs no scripts
ROOM = 200_000  # bytes that the page, and the steps without a script, may each take in a notebook
SVG = "{http://www.w3.org/2000/svg}"
DONE, NOW = {"fill": "#cfe3f7"}, {"fill": "#ffd866", "stroke": "#a02c12", "stroke-width": "2.5"}
UNPACK = """<script>{
const bytes = Uint8Array.from(atob("$packed"), (letter) => letter.charCodeAt(0));
const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
new Response(stream).text().then((page) => { document.open(); document.write(page); document.close(); });
}</script>"""


def page(steps: BackwardPass) -> str:
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


def notebook(steps: BackwardPass) -> str | None:
    """The page in a frame of its own, and the first steps without a script. None if the graph is too large.

    The page is packed: a browser unpacks it when the cell is shown. Both parts have a bound, so that a notebook
    stays small whatever the graph.
    """
    if len(steps.order) > LARGEST:
        return None
    packed = base64.b64encode(gzip.compress(page(steps).encode(), mtime=0)).decode()
    source = html.escape(string.Template(UNPACK).substitute(packed=packed), quote=True)
    style = "width:100%;height:600px;border:0"
    player = f'<iframe srcdoc="{source}" style="{style}" title="Backpropagation"></iframe>'
    if len(player) > ROOM:
        player = "<p>The page is too large for a notebook: <code>to_html(path)</code> writes it.</p>"
    return f"{player}\n<details><summary>Each step without a script</summary>\n{_frames(steps)}</details>"


def frame(steps: BackwardPass, taken: int) -> str:
    """The picture after so many steps, 1 or more, as an SVG of its own. Raises ValueError as `page` does."""
    ids = _ids(steps)
    svg = _svg(steps, ids)
    if svg is None:
        raise ValueError("Nothing here can draw: `pip install graphviz-pure`.")
    return ElementTree.tostring(_marked(svg, steps[taken - 1], steps, ids, steps.completed()), "unicode")


def _ids(steps: BackwardPass) -> dict[Value, str]:
    if len(steps.order) > LARGEST:
        raise ValueError(
            f"A page shows up to {LARGEST} nodes, and this graph has {len(steps.order):,}: take the steps of one "
            "of its inner nodes, or walk through them with debug.Machine."
        )
    return {node: f"n{place}" for place, node in enumerate(steps.order)}


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


def _data(steps: BackwardPass, ids: dict[Value, str]) -> dict[str, Any]:
    """What the page's script needs, all of it text that is ready to be shown."""
    seed = four_digits(steps.reached(0)[steps.root])
    return {
        "seed": [ids[steps.root], seed],
        "start": f"{steps.name(steps.root)}.grad is {seed}, all others are 0: nothing has reached them.",
        "order": [[ids[node], position] for node, position in steps.completed().items()],
        "steps": [_step(step, steps, ids) for step in steps],
    }


def _step(step: Step, steps: BackwardPass, ids: dict[Value, str]) -> dict[str, Any]:
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


# --- Without scripts ----------------------------------------------------------------------------------------


def _frames(steps: BackwardPass) -> str:
    """Each step, folded: its sentence, and below it the picture as it is then, as far as there is room."""
    ids, completed = _ids(steps), steps.completed()
    svg, room, pictures, shown = _svg(steps, ids), ROOM, 0, []
    for step in steps:
        picture = ""
        if svg is not None and pictures < PICTURES:
            picture = _image(_marked(svg, step, steps, ids, completed))
            if len(picture) > room // 2:  # the other half is for sentences
                svg, picture = None, ""
        piece = f"<details><summary>{step.index + 1}. {html.escape(step.sentence)}</summary>{picture}</details>"
        room -= len(piece.encode())
        if room < 0:
            break
        pictures += bool(picture)
        shown.append(piece)
    for count, how in ((len(shown) - pictures, " as pictures"), (len(steps) - len(shown), "")):
        shown += [f"<p>{count:,} more steps are not shown{how}.</p>"] * bool(count)
    return "\n".join(shown)


def _image(svg: ElementTree.Element) -> str:
    data = base64.b64encode(ElementTree.tostring(svg)).decode()
    return f'<img alt="" src="data:image/svg+xml;base64,{data}">'


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
