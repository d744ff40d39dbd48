"""What a picture shows, as plain data: no Values, no DOT, no markup. Text, DOT and SVG are made from it."""

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["leaf", "parameter", "constant", "interior", "result", "operation", "group", "more"]
Scope = tuple[str, ...]  # the modules around a node, outermost first: ("layer0", "neuron3")
GROUPS: frozenset[Kind] = frozenset({"group", "more"})  # boxes that stand for many nodes


@dataclass(frozen=True, slots=True)
class Box:
    """One Value, or a group of them that is drawn as one.

    id         n7 for the Value at place 7 of `topological_order`; g0, g1 ... for groups
    kind       leaf, parameter, constant, interior, result; operation, where it has a box of its own; group; more:
               what lies beyond the picture
    title      the Value's label or the variable that holds it, else ""; of a group, what it is: "Neuron ×16"
    operation  the symbol of the rule that made it, with constants folded in: "· * 2"; "" for a leaf
    data, grad the numbers as text; a dash for the gradient before any backward pass; of a group data is "" and
               grad the largest magnitude
    scope      the modules around it
    size       how many nodes of the graph it stands for, folded constants included
    magnitude  |gradient|, of a group the largest; None before any backward pass
    details    lines that stand in place of data and gradient
    state      "done" or "now" in a picture of a backward pass
    """

    id: str
    kind: Kind
    title: str
    operation: str
    data: str = ""
    grad: str = ""
    scope: Scope = ()
    size: int = 1
    magnitude: float | None = None
    details: tuple[str, ...] = ()
    state: str = ""

    @property
    def lines(self) -> tuple[str, ...]:
        """What stands below title and operation."""
        return self.details or ((f"data {self.data}", f"grad {self.grad}") if self.data else ())


@dataclass(frozen=True, slots=True)
class Arrow:
    """From an operand to what was computed from it; `x * x` has two.

    tail, head the ids of the boxes
    operand    which operand of the head it is; of a group's arrow, that of the first edge it stands for
    slope      d(head)/d(tail) as text, if slopes were asked for
    marked     it lies on one of the paths to highlight
    count      how many edges of the graph it stands for
    """

    tail: str
    head: str
    operand: int
    slope: str = ""
    marked: bool = False
    count: int = 1


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes in topological order and the arrows between them; note says what is not shown, and why, or ""."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    note: str = ""


def in_two_shapes(picture: Picture) -> Picture:
    """The same as micrograd draws it: `name | data | grad` in a row, each operation a box of its own before it."""
    boxes: list[Box] = []
    operations = {box.id: f"{box.id}_op" for box in picture.boxes if box.operation and box.kind not in GROUPS}
    for box in picture.boxes:
        if box.id in operations:
            boxes.append(Box(operations[box.id], "operation", "", box.operation, scope=box.scope, size=0))
        if box.kind not in GROUPS:
            row = " | ".join(filter(None, [box.title, *box.lines]))
            box = replace(box, title="", operation="", details=(row,))
        boxes.append(box)
    arrows = [replace(arrow, head=operations.get(arrow.head, arrow.head)) for arrow in picture.arrows]
    arrows += [Arrow(operation, id, 0) for id, operation in operations.items()]
    return replace(picture, boxes=tuple(boxes), arrows=tuple(arrows))
