"""Which nodes of a large graph share a box: modules first, then repeated structure, then only what is near.

A grouping gives every node the number of its group, and every group its key. Nodes of one group are drawn as one
box. Each attempt is one walk over the graph that stops as soon as it needs too many boxes, so a summary takes time
linear in the graph.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from .picture import Scope
from .reading import Reading
from .words import stem

CROWDED = 2  # arrows per box allowed: the 256 between two layers of 16 neurons could not be told apart
# What the nodes of a group have in common: the place of a single one; ("module", its scope, or for several of a
# kind the scope without numbers); ("leaf", kind, name without numbers); ("operation", symbol, name without
# numbers, groups of the operands); or BEYOND, for all that is too far from the root to be shown.
Key = Any
BEYOND: Key = ("beyond",)
Grouping = tuple[list[int], Sequence[Key]]  # the group of each node, and the key of each group


def grouped(reading: Reading, max_nodes: int | None) -> Grouping:
    """A box for each node, but none for a folded constant; if these are more than max_nodes, a summary.

    That is the most detailed grouping that has at most max_nodes boxes and is not crowded with arrows.
    Innermost modules become one box each, then one box for all of a kind (`Neuron ×16`), then the modules around
    them; with each of these, the other nodes stay single if they can, else those made by the same operation from
    the same groups are drawn as one. If that is too much still, what is nearest to the root is shown.
    """
    if max_nodes is None or len(set(reading.home)) <= max_nodes:
        return reading.home, range(len(reading.order))
    for view in _views(reading):
        for structure in (False, True):
            grouping = _attempt(reading, view, structure, max_nodes)
            if grouping and (not view or len(_links(reading, grouping[0])) <= CROWDED * max_nodes):
                return grouping
    grouping = _attempt(reading, view, True, len(reading.order))
    assert grouping
    return _nearest(reading, *grouping, max_nodes)


View = dict[Scope, Scope]  # what stands for each scope


def _views(reading: Reading) -> Iterator[View]:
    """From the innermost modules one by one to the outermost by kind; one view where there are no modules."""
    scopes = {scope for scope in reading.scopes if scope}
    for depth in range(max(map(len, scopes), default=0), 0, -1):
        yield {scope: scope[:depth] for scope in scopes}
        yield {scope: (*scope[: depth - 1], *map(stem, scope[depth - 1 : depth])) for scope in scopes}
    if not scopes:
        yield {}


def _attempt(reading: Reading, view: View, structure: bool, max_boxes: int) -> Grouping | None:
    """The grouping by this view, or None if it has more boxes; the root always has one of its own."""
    numbers: dict[Key, int] = {}
    keys: list[Key] = []
    of: list[int] = []
    root = len(reading.order) - 1
    for place, operands in enumerate(reading.parents):
        if reading.home[place] != place:
            of.append(-1)  # until its operation has a group
            continue
        key: Key = place
        if place != root and (scope := reading.scopes[place]):
            key = ("module", view[scope])
        elif place != root and structure:
            key = _pattern(reading, place, frozenset([of[p] for p in operands if of[p] >= 0]), keys)
        number = numbers.setdefault(key, len(keys))
        if number == len(keys):
            if number == max_boxes:
                return None
            keys.append(key)
        of.append(number)
    return [of[home] for home in reading.home], keys


def _pattern(reading: Reading, place: int, groups: frozenset[int], keys: list[Key]) -> Key:
    """What a node has in common with others: operation and operands, or for a leaf its name without numbers.

    In a chain such as a + b + c + d each link but the first continues the group of its operand.
    """
    node = reading.order[place]
    if node.rule is None:
        return ("leaf", reading.kinds[place], stem(reading.names[place]))
    symbol, label = node.rule.symbol, stem(str(node.label))
    for group in sorted(groups) if len(groups) <= 2 else ():
        match keys[group]:
            case ("operation", before, name, frozenset() as others):
                if (before, name) == (symbol, label) and groups - {group} <= others:
                    return keys[group]
    return ("operation", symbol, label, groups)


def _links(reading: Reading, of: list[int]) -> set[tuple[int, int]]:
    pairs = {(of[p], of[place]) for place, operands in enumerate(reading.parents) for p in operands}
    return {(tail, head) for tail, head in pairs if tail != head}


def _nearest(reading: Reading, of: list[int], keys: Sequence[Key], max_nodes: int) -> Grouping:
    """The groups nearest to the root, by number of arrows, as they are; all others as one."""
    operands: dict[int, list[int]] = {}
    for tail, head in sorted(_links(reading, of)):
        operands.setdefault(head, []).append(tail)
    near = [of[-1]]
    for group in near:
        near += [tail for tail in operands.get(group, []) if tail not in near][: max_nodes - 1 - len(near)]
    shown = set(near)
    return [group if group in shown else len(keys) for group in of], [*keys, BEYOND]
