"""From a Reading of the graph to the Picture of it."""

from collections.abc import Iterable, Mapping

from ..engine.value import Value
from .picture import GROUPS, Arrow, Box, Picture
from .reading import Edge, Reading, read, slopes_of
from .summary import Grouping, grouped
from .words import DASH, formula, four_digits, stem

HOLE = "·"  # an operand that is drawn, beside one that is folded
NO_PASS = f"{DASH}  no gradient yet: call backward() on the result first"
MANY = 6  # operands written out beside folded constants


def picture_of(
    root: Value,
    variables: Mapping[Value, str],
    *,
    slopes: bool = False,
    constants: bool = False,
    marked: frozenset[Edge] = frozenset(),
    max_nodes: int | None = None,
) -> Picture:
    """The Picture of everything below root, summarised if it would have more than max_nodes boxes.

    Raises ValueError if an edge to mark is not in the graph.
    """
    reading = read(root, variables, constants, marked)
    grouping = grouped(reading, max_nodes)
    members: dict[int, list[int]] = {}
    for place, group in enumerate(grouping.of):
        members.setdefault(group, []).append(place)
    boxes: dict[int, Box] = {}
    groups_so_far = 0
    for group, places_in in members.items():
        own = [place for place in places_in if reading.home[place] == place]
        if len(own) == 1 and group != grouping.beyond:
            boxes[group] = _single(reading, own[0], len(places_in))
        else:
            boxes[group] = _together(reading, grouping, group, places_in, own, f"g{groups_so_far}")
            groups_so_far += 1
    in_order = sorted(members, key=lambda group: max(p for p in members[group] if reading.home[p] == p))
    notes = [_note(reading, boxes.values()), "" if reading.passed else NO_PASS]
    return Picture(
        tuple(boxes[group] for group in in_order),
        _arrows(reading, grouping, boxes, slopes),
        "\n".join(filter(None, notes)),
    )


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


def _together(reading: Reading, grouping: Grouping, group: int, places: list[int], own: list[int], id: str) -> Box:
    scope = grouping.modules.get(group)
    first = reading.order[own[0]]
    operation = ""
    if group == grouping.beyond:
        title = f"… {len(places):,} more"
    elif scope is not None:
        title = _module_title(scope, {reading.scopes[place][: len(scope)] for place in own})
    elif first.rule:
        title, operation = stem(str(first.label)), f"{first.rule.symbol} ×{len(own):,}"
    else:
        title = f"{stem(reading.names[own[0]]) or reading.kinds[own[0]]} ×{len(own):,}"
    sizes = [_magnitude(reading.order[place]) for place in own]
    largest = max(sizes, key=lambda x: (x != x, x)) if reading.passed else None  # nan is the largest
    return Box(
        id=id,
        kind="more" if group == grouping.beyond else "group",
        title=title,
        operation=operation,
        data="",
        grad=DASH if largest is None else four_digits(largest),
        scope=scope[:-1] if scope else (),
        size=len(places),
        magnitude=largest,
    )


def _module_title(scope: tuple[str, ...], members: set[tuple[str, ...]]) -> str:
    """`neuron3` for one module, `Neuron ×16` for several of a kind."""
    if len(members) == 1:
        return next(iter(members))[-1]
    name = scope[-1]
    return f"{name[:1].upper()}{name[1:]} ×{len(members):,}"


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


def _arrows(reading: Reading, grouping: Grouping, boxes: Mapping[int, Box], slopes: bool) -> tuple[Arrow, ...]:
    """In the order of the operations; between single nodes one for each operand, else one for all."""
    of = grouping.of
    arrows: dict[tuple[int, ...], Arrow] = {}
    for place, operands in enumerate(reading.parents):
        head = of[place]
        if head == grouping.beyond:
            continue  # arrows inside that box are not shown
        between = [(i, of[p]) for i, p in enumerate(operands) if reading.home[p] != place and of[p] != head]
        written = slopes_of(reading.order[place]) if slopes and between and boxes[head].kind not in GROUPS else ()
        for i, tail in between:
            marked = (place, i) in reading.marked
            one = boxes[tail].kind not in GROUPS and boxes[head].kind not in GROUPS
            key = (tail, head, i) if one else (tail, head)
            old = arrows.get(key)
            if old:
                arrows[key] = Arrow(old.tail, old.head, old.operand, "", old.marked or marked, old.count + 1)
            else:
                slope = four_digits(written[i]) if written and one else ""
                arrows[key] = Arrow(boxes[tail].id, boxes[head].id, i, slope, marked)
    return tuple(arrows.values())


def _note(reading: Reading, boxes: Iterable[Box]) -> str:
    """How much of the graph a summary shows; "" for a picture of all of it."""
    groups = [box for box in boxes if box.kind in GROUPS]
    total, hidden = len(reading.order), sum(box.size for box in groups)
    count = f"{len(groups):,} group" + "s" * (len(groups) != 1)
    return f"showing {total - hidden:,} of {total:,} nodes, the other {hidden:,} as {count}" if groups else ""
