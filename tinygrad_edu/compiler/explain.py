"""Explain: what was found in a function, in words, and which of its lines each group comes from."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..viz.words import columns
from .group import groups_of
from .lower import CONSTANT, Read, lower, reads_of
from .naming import name_arrays
from .normalise import Normaliser
from .report import Groups, operation_of
from .tracing import Placeholder, Trace, users_frame
from .views import view_of

FEW = 3  # lines of a group


Line = tuple[str, int]  # a file, and a line of it


class Tape(list[Placeholder]):
    """The nodes of a trace. `lines` gets the line of the user's code that made each."""

    def __init__(self, lines: dict[Placeholder, Line]):
        super().__init__()
        self.lines = lines

    def append(self, node: Placeholder) -> None:
        frame = users_frame()[1]
        self.lines[node] = frame.f_code.co_filename, frame.f_lineno
        super().append(node)


def explanation(traced: Trace, lines: dict[Placeholder, Line], shapes: Sequence[Any], assumed: Any) -> str:
    """What the compiler found in a trace, with the lines of its nodes."""
    normaliser = Normaliser(traced, lambda argument: bool(assumed.get(argument)))
    graph = normaliser.graph
    groups, numbers = groups_of(graph, [parameter.label for parameter in traced.parameters])
    lowered = lower(graph, groups, numbers, shapes)
    name_arrays(lowered, traced)
    nodes = [node for node in traced.nodes if node.rule is not None]
    made_in: dict[int, Counter[Line]] = defaultdict(Counter)  # by the number of the group
    for node, origin in normaliser.origins():
        made_in[int(numbers[node])].update(filter(None, [lines.get(nodes[origin])]))
    arrays = [array for array in lowered.arrays if array.operation is not None]
    reads = [
        (array, read) for array in arrays for read in reads_of(array.operation) if read.array.source != CONSTANT
    ]
    gathered = {array: read.index.size for array, read in reads if _is_gathered(read)}
    report, share = Groups(lowered), "no gathers"
    if gathered:
        part = sum(gathered.values()) / sum(read.index.size for _, read in reads)
        where = sum((made_in[array.number] for array in gathered), Counter[Line]())
        share = f"{part:.0%} of the operands are gathered: {_places(where)}"
    faster = report.advice or ['The groups are large: backend="numpy" is fast here.']
    rows = [("name", "operation", "made in", "")]
    for array in arrays:
        how = "gathered" if array in gathered else ""
        rows.append((array.name, operation_of(array), _places(made_in[array.number]), how))
    return "\n".join([f"{report.title.partition(' -> ')[2]}; {share}", *faster, *columns(rows)])


def _is_gathered(read: Read) -> bool:
    """Are the elements in no order that a view has?"""
    return view_of(read.index, read.array.shape or (read.array.size,)).gather is not None


def _places(found: Counter[Line]) -> str:
    """The lines, those that made most nodes first; with the file where there are several."""
    files = {name for name, _ in found}
    most = [place for place, _ in found.most_common(FEW)]
    places = [f"{line} of {Path(name).name}" if len(files) > 1 else str(line) for name, line in most]
    return (
        ("line " if len(found) == 1 else "lines ") * bool(found) + ", ".join(places) + ", ..." * (len(found) > FEW)
    )
