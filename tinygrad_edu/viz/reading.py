"""What a picture needs to know of a graph, found in one walk and kept by place in the topological order."""

import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, takewhile
from typing import Any

from ..engine.graph import topological_order
from ..engine.refusals import no_node
from ..engine.value import Value
from .names import called
from .picture import Kind, Scope

_PLACE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")  # layer0.neuron3.w2
_WEIGHT = re.compile(r"w\d+")  # of a neuron that stands alone; `b` beside it is its bias


def nodes_below(root: Value) -> list[Value]:
    """`topological_order(root)`. Raises TypeError unless root is one Value."""
    if not isinstance(root, Value):
        raise no_node(root)
    return topological_order(root)


def slopes_of(node: Value) -> tuple[Any, ...]:
    """d(node)/d(operand) for each operand of an interior node: its shares of an upstream gradient of 1."""
    return tuple(node.rule.shares(type(node.data)(1), node.data, *[parent.data for parent in node.parents]))


def backward_has_been(order: list[Value]) -> bool:
    """Whether any backward pass has reached this graph, as far as its gradients tell.

    A Value starts with the gradient 0 and keeps no record of passes. `root.backward()` leaves 1 at the root, so
    all zeros mean: none yet, or gradients that were cleared since, or `backward(0)`.
    """
    return any(node.grad != 0 for node in reversed(order))


@dataclass(frozen=True, slots=True)
class Reading:
    """A graph by number: node i is order[i], made from parents[i].

    home[i] is the node in whose box i is shown: its own number, or for a constant that is folded away, that of
    the operation that uses it. marked has the edges to highlight, as (i, number of the operand).
    """

    order: list[Value]
    parents: list[tuple[int, ...]]
    names: list[str]
    kinds: list[Kind]
    scopes: list[Scope]
    home: list[int]
    passed: bool
    marked: frozenset[tuple[int, int]]


def read(root: Value, variables: Mapping[Value, str], constants: bool = False, paths: Any = None) -> Reading:
    """The Reading of everything below root; a node's name is its label, else what `variables` calls it.

    A constant is a leaf without a name that is used once, as the 2 of `x * 2` is. Unless `constants` is True it is
    folded into the operation that uses it, if that has another operand and its edge is not on one of the paths.
    These are edges to highlight, (node, operand number), or something with such `.edges`.

    Raises TypeError for other paths, ValueError if one of their edges is not in the graph.
    """
    order = nodes_below(root)
    places = {node: place for place, node in enumerate(order)}
    parents = [tuple([places[parent] for parent in node.parents]) for node in order]
    names = [called(node, variables) for node in order]
    uses = Counter(chain.from_iterable(parents))
    kinds = _kinds(order, names, uses)
    marked = frozenset(_marked(paths, places))
    home = list(range(len(order)))
    if not constants:
        for place, operands in enumerate(parents):
            folded = [p for i, p in enumerate(operands) if kinds[p] == "constant" and (place, i) not in marked]
            for operand in folded if len(folded) < len(operands) else ():
                home[operand] = place
    scopes, passed = _scopes(parents, names, kinds), backward_has_been(order)
    return Reading(order, parents, names, kinds, scopes, home, passed, marked)


def _marked(paths: Any, places: Mapping[Value, int]) -> Iterator[tuple[int, int]]:
    """The edges of paths by the places of their nodes."""
    try:
        edges = [(child, operand.__index__()) for child, operand in getattr(paths, "edges", paths) or ()]
    except (TypeError, ValueError, AttributeError):
        raise TypeError(
            "paths is an iterable of edges (node, number of the operand), such as {(y, 0)} or why(y, x), "
            f"got {reprlib.repr(paths)}."
        ) from None
    for child, operand in edges:
        if child not in places or not 0 <= operand < len(child.parents):
            raise ValueError(
                f"There is no operand {operand} of {child!r} in this graph; paths belong to another one?"
            )
        yield places[child], operand


def _kinds(order: list[Value], names: list[str], uses: Mapping[int, int]) -> list[Kind]:
    parameters = parameters_among(order)
    kinds: list[Kind] = []
    for place, node in enumerate(order):
        if node.rule:
            kinds.append("interior")
        elif node in parameters:
            kinds.append("parameter")
        else:
            kinds.append("leaf" if names[place] or uses[place] != 1 else "constant")
    kinds[-1] = "result"
    return kinds


def parameters_among(nodes: Iterable[Value]) -> dict[Value, None]:
    """The leaves whose label is the place of a parameter in a module; `w0` and `b` if a neuron stands alone."""
    labels = {node: str(node.label) for node in nodes if not node.rule and node.label}
    alone = any(map(_WEIGHT.fullmatch, labels.values()))
    return {
        leaf: None
        for leaf, label in labels.items()
        if _PLACE.fullmatch(label) or (alone and (label == "b" or _WEIGHT.fullmatch(label)))
    }


def _scopes(parents: list[tuple[int, ...]], names: list[str], kinds: list[Kind]) -> list[Scope]:
    """The modules that each node belongs to, outermost first.

    A parameter belongs where its label says. An operation on parameters belongs to the innermost module that
    holds all of them. Any other operation belongs to a module if all its operands do, to one and the same: so the
    sum and the activation of a neuron stay with it, and a loss, which brings in targets, does not. A constant
    goes with the one operation that uses it.
    """
    scopes: list[Scope] = []
    for place, operands in enumerate(parents):
        if kinds[place] == "parameter":
            scopes.append(tuple(names[place].split(".")[:-1]))
            continue
        scope: Scope = ()
        direct = [scopes[p] for p in operands if kinds[p] == "parameter"]
        if direct:
            common = takewhile(lambda parts: len({*parts}) == 1, zip(*direct, strict=False))
            scope = tuple(parts[0] for parts in common)
        elif operands and scopes[operands[0]] and all(scopes[p] == scopes[operands[0]] for p in operands):
            scope = scopes[operands[0]]
        scopes.append(scope)
        for p in operands if scope else ():
            if kinds[p] == "constant":
                scopes[p] = scope
    return scopes
