"""From the graph to the Picture of it."""

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..engine.value import Value
from .picture import GROUPS, Arrow, Box, Picture
from .reading import Reading, read, slopes_of
from .summary import BEYOND, Key, grouped
from .words import DASH, formula, four_digits

HOLE = "·"  # an operand that is drawn, beside one that is folded
NO_PASS = f"{DASH}  no gradient yet: call backward() on the result first"
MANY = 6  # operands written out beside folded constants


def picture_of(
    root: Value,
    variables: Mapping[Value, str],
    *,
    slopes: bool = False,
    constants: bool = False,
    paths: Any = None,
    max_nodes: int | None = None,
) -> Picture:
    """The Picture of everything below root, summarised if it would have more than max_nodes boxes.

    Raises TypeError if paths are not edges, ValueError if an edge of them is not in the graph.
    """
    reading = read(root, variables, constants, paths)
    of, keys = grouped(reading, max_nodes)
    members: dict[int, list[int]] = {}
    for place, group in enumerate(of):
        members.setdefault(group, []).append(place)
    boxes: dict[int, Box] = {}
    n_groups = 0
    for group, places in members.items():
        own = [place for place in places if reading.home[place] == place]
        if len(own) == 1 and keys[group] != BEYOND:
            boxes[group] = _single(reading, own[0], len(places))
        else:
            boxes[group] = _together(reading, keys[group], own, len(places), f"g{n_groups}")
            n_groups += 1
    in_order = sorted(boxes, key=lambda group: max(p for p in members[group] if reading.home[p] == p))
    notes = [_note(reading, boxes.values()), "" if reading.passed else NO_PASS]
    arrows = _arrows(reading, of, boxes, slopes)
    return Picture(tuple(boxes[group] for group in in_order), arrows, "\n".join(filter(None, notes)))


# --- Boxes --------------------------------------------------------------------------------------------------


def _single(reading: Reading, place: int, size: int) -> Box:
    node = reading.order[place]
    return Box(
        id=f"n{place}",
        kind=reading.kinds[place],
        title=reading.names[place],
        operation=operation_text(reading, place),
        data=four_digits(node.data),
        grad=four_digits(node.grad) if reading.passed else DASH,
        scope=reading.scopes[place],
        size=size,
        magnitude=_magnitude(node) if reading.passed else None,
    )


def _together(reading: Reading, key: Key, own: Sequence[int], size: int, id: str) -> Box:
    title = operation = ""
    scope: Sequence[str] = ()
    count = f"×{len(own):,}"
    match key:
        case ("beyond",):
            title = f"… {size:,} more"
        case ("module", (*scope, name)):
            modules = {reading.scopes[place][: len(scope) + 1] for place in own}
            title = f"{name[:1].upper()}{name[1:]} ×{len(modules):,}" if len(modules) > 1 else modules.pop()[-1]
        case ("leaf", kind, name):
            title = f"{name or kind} {count}"
        case ("operation", symbol, title, _):
            operation = f"{symbol} {count}"
    sizes = [_magnitude(reading.order[place]) for place in own]
    largest = max(sizes, key=lambda x: (x != x, x)) if reading.passed else None  # nan is the largest
    grad = DASH if largest is None else four_digits(largest)
    counted = f"{size:,} nodes, " * (key != BEYOND)
    return Box(
        id=id,
        kind="more" if key == BEYOND else "group",
        title=title,
        operation=operation,
        grad=grad,
        scope=tuple(scope),
        size=size,
        magnitude=largest,
        details=(f"{counted}|grad| {'up to ' * reading.passed}{grad}",),
    )


def _magnitude(node: Value) -> float:
    try:
        return abs(float(node.grad))
    except OverflowError:
        return float("inf")


def operation_text(reading: Reading, place: int) -> str:
    """The symbol of the rule, with the constants that are folded into it: `*`, `· * 2`, `max(·, 0)`."""
    rule = reading.order[place].rule
    if rule is None:
        return ""
    operands = reading.parents[place]
    numbers = [four_digits(reading.order[p].data) if reading.home[p] == place else HOLE for p in operands]
    folded = sum(number != HOLE for number in numbers)
    if not folded:
        return str(rule.symbol)
    return formula(rule, numbers) if len(numbers) <= MANY else f"{rule.symbol} ({folded:,} constants)"


# --- Arrows -------------------------------------------------------------------------------------------------


def _arrows(reading: Reading, of: list[int], boxes: Mapping[int, Box], slopes: bool) -> tuple[Arrow, ...]:
    """In the order of the operations; between single nodes one for each operand, else one for all."""
    edges: dict[tuple[int, int, int | None], list[tuple[int, int]]] = {}
    for place, operands in enumerate(reading.parents):
        head = of[place]
        for i, p in enumerate(operands if boxes[head].kind != "more" else ()):
            if reading.home[p] != place and of[p] != head:
                is_single = not {boxes[of[p]].kind, boxes[head].kind} & GROUPS
                edges.setdefault((of[p], head, i if is_single else None), []).append((place, i))
    slope = functools.cache(lambda place: slopes_of(reading.order[place]))
    arrows = []
    for (tail, head, single), some in edges.items():
        place, i = some[0]
        written = four_digits(slope(place)[i]) if slopes and single is not None else ""
        marked = not reading.marked.isdisjoint(some)
        arrows.append(Arrow(boxes[tail].id, boxes[head].id, i, written, marked, len(some)))
    return tuple(arrows)


def _note(reading: Reading, boxes: Iterable[Box]) -> str:
    """How much of the graph a summary shows; "" for a picture of all of it."""
    groups = [box for box in boxes if box.kind in GROUPS]
    total, hidden = len(reading.order), sum(box.size for box in groups)
    count = f"{len(groups):,} group" + "s" * (len(groups) != 1)
    return f"showing {total - hidden:,} of {total:,} nodes, the other {hidden:,} as {count}" if groups else ""
