"""Where a gradient comes from: it is a sum over paths.

By the chain rule d(root)/d(x) is a sum over all paths from x up to root; each path gives the product of the
slopes on it. The number of paths grows exponentially. So one sweep from root down keeps, for each node, the
number of paths that arrive there and the few with the largest products.
"""

import difflib
import heapq
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..engine.calculus import gradients
from ..engine.value import Value
from ..viz.names import names_of, variables_in_sight
from ..viz.reading import nodes_below, slopes_of
from ..viz.rich import Report
from ..viz.strangers import adopted
from ..viz.words import columns, few, finite, four_digits, size, visible
from .passes import audit

Edge = tuple[Value, int]  # a node and the position of one of its operands: x * x has two edges

ENDS = 4  # nodes written out at either end of a long path


class Named(dict[str, Value]):
    """The nodes of a graph by their names."""

    def __init__(self, names: Mapping[Value, str]):
        super().__init__((name, node) for node, name in names.items())
        self._order = list(names)

    def find(self, name: str, exact: bool = False) -> Value | None:
        """The node of this name, of a place such as #3, or if not exact, of the only name that ends in it, as
        layer0.neuron0.w1 ends in neuron0.w1; None if there is none."""
        if name in self:
            return self[name]
        if name[:1] == "#":
            place = int(name[1:]) if name[1:].isdecimal() else len(self._order)
            return self._order[place] if place < len(self._order) else None
        longer = [] if exact else [known for known in self if known.endswith(f".{name}")]
        return self[longer[0]] if len(longer) == 1 else None

    def node(self, name: str) -> Value:
        """The node, as `find` has it. Raises ValueError, with similar names, if there is none."""
        node = self.find(name)
        if node is None:
            raise ValueError(f"no node is called {name!r} here.{self.similar(name)}")
        return node

    def similar(self, name: str) -> str:
        """A question with similar names: " Did you mean w#0 or w#1?"; "" if there are none."""
        near = [known for known in self if f".{known.partition('#')[0]}".endswith(f".{name}")]
        if not near and len(self) < 10_000:
            near = difflib.get_close_matches(name, self, 2)
        return f" Did you mean {' or '.join(near[:2])}?" if near else ""


class Filmed(Value):
    """A parameter in a graph of a film: `why` takes it for the model's own, by its name."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class GradientPath:
    """One way from x up to root: `nodes` from x to root, and the slope of each of the edges between them.

    `operands[i]` is the position of nodes[i] among the operands of nodes[i + 1], which tells parallel edges apart.
    """

    nodes: tuple[Value, ...]
    operands: tuple[int, ...]
    slopes: tuple[Any, ...]
    product: Any

    @property
    def edges(self) -> tuple[Edge, ...]:
        """Its edges, as (node, position of the operand)."""
        return tuple(zip(self.nodes[1:], self.operands, strict=True))


@dataclass(frozen=True, slots=True, repr=False)
class Why(Report):
    """The answer of `why`: the largest of all `count` paths from x to root; `total` is the gradient."""

    root: Value
    x: Value
    paths: tuple[GradientPath, ...]
    count: int
    total: Any
    variables: dict[Value, str] = field(default_factory=dict)  # what the caller calls some of the nodes
    notes: tuple[str, ...] = ()  # what was done wrong around the backward pass
    stops: tuple[Edge, ...] = ()  # where all paths end in a slope of 0, if they do

    @property
    def shown(self) -> Any:
        """What the paths in `paths` add up to."""
        return sum((path.product for path in self.paths), type(self.root.data)(0))

    @property
    def rest(self) -> Any:
        """What the other paths add up to: total - shown, and exactly 0 if there are none."""
        return self.total - self.shown if self.count > len(self.paths) else type(self.root.data)(0)

    @property
    def edges(self) -> frozenset[Edge]:
        """The edges (node, position of the operand) of the paths in `paths`, for a drawing to highlight."""
        return frozenset(edge for path in self.paths for edge in path.edges)

    def __repr__(self) -> str:
        names = names_of(nodes_below(self.root), self.variables)
        x = names.get(self.x) or visible(self.x.label or self.variables.get(self.x, "x"))
        root = names[self.root]
        if not self.count:
            return f"d({root})/d({x}): no path leads from {x} up to {root}, which does not depend on it\ntotal 0"
        if self.stops:
            where = []
            for node, i in self.stops:
                numbers = [node.parents[i]]
                if node.rule.name in ("mul", "dot"):  # the other factor is the slope
                    numbers.append(node.parents[i - len(node.parents) // 2])
                product = " * ".join(four_digits(x.data) for x in numbers)
                where.append(f"{node.rule.name} at {names[node]} ({product})")
            line = f"d({root})/d({x}) = 0: every path passes {' or '.join(few(where, 4))}, slope 0"
            return "\n".join([line, *self.notes])
        rows = [("product", "share", "path", "slopes")] if self.paths else []
        for path in self.paths:
            way = _shortened([names[node] for node in reversed(path.nodes)], " <- ")
            slopes = _shortened([four_digits(slope) for slope in reversed(path.slopes)], " * ")
            rows.append((four_digits(path.product), _percent(path.product, self.total), way, slopes))
        lines = [f"d({root})/d({x}): paths from {x} up, largest first"]
        lines += [f"  {line}" for line in columns(rows, ">>")]
        hidden = self.count - len(self.paths)
        rest = f"{_counted(hidden)} of them not shown, sum {four_digits(self.rest)}" if hidden else "all shown"
        paths = "path" if self.count == 1 else "paths"
        total = f"total {four_digits(self.total)}"
        return "\n".join([*lines, f"{_counted(self.count)} {paths}, {rest}", total, *self.notes])


def why(root: Value, x: Value | str, top: int = 10, *, variables: Mapping[Value, str] | None = None) -> Why:
    """Explain x's gradient: the sum, over all paths from x up to root, of the products of the slopes on them.

    x may be given by its name: `why(loss, "layer0.neuron0.w1")`.

    Shows the `top` paths with the largest products by absolute value; nan counts as infinite, and paths through a
    slope of 0 come last. The number of all paths is exact, `total` is `gradients(root, x)` to the bit, and
    Fractions stay exact. No `.grad` is written. Time and memory grow with top times the edges above x.
    From root to itself there is one path, of product 1; if root does not depend on x, there is none. A line at the
    end says if `x.grad` has the sum of several passes, or if a number was changed after the forward pass.
    `variables` name the nodes without a label; by default they are those of the caller.

    >>> x = Value(3.0, label="x")
    >>> d = x * 4.0
    >>> d.label = "d"
    >>> why(d * d + x, x)
    d(#4)/d(x): paths from x up, largest first
      product   share  path                slopes
           48  49.48%  #4 <- #3 <- d <- x  1 * 12 * 4
           48  49.48%  #4 <- #3 <- d <- x  1 * 12 * 4
            1  1.031%  #4 <- x             1
    3 paths, all shown
    total 97

    Raises TypeError unless root and x are Values and top is an int, ValueError if top is negative or no node has
    the name.
    """
    variables = variables_in_sight(variables)
    root, x = adopted(root, x)
    order = nodes_below(root)
    x = _asked(order, x, variables)
    if not isinstance(top, int) or isinstance(top, bool):
        raise TypeError(f"top is how many paths to show, an int, got {top!r}.")
    if top < 0:
        raise ValueError(f"top is how many paths to show, 0 or more, got {top!r}.")
    count, paths = _sweep(order, x, top)
    shown = {node: variables[node] for node in {*order, x} if node in variables}
    total = gradients(root, x)
    notes = tuple(audit(order, [x]).sentences(names_of(order, shown)))
    stops = _stops(order, x) if paths and paths[0].product == 0 else ()
    return Why(root, x, paths, count, total, shown, notes, stops)


def _stops(order: list[Value], x: Value) -> tuple[Edge, ...]:
    """The first slopes of 0 on the ways up from x, if they stop all of them."""
    reached, stops = {x}, list[Edge]()
    for node in order:
        at = [i for i, parent in enumerate(node.parents) if parent in reached]
        slopes = slopes_of(node) if at else ()
        if any(slopes[i] != 0 for i in at):
            reached.add(node)
        else:
            stops += [(node, i) for i in at]
    return () if order[-1] in reached else tuple(stops)


def _asked(order: list[Value], x: Any, variables: Mapping[Value, str]) -> Value:
    """The node for a Value, for a name, or for a parameter of which a film has a copy."""
    if isinstance(x, str):
        return Named(names_of(order, variables)).node(x)
    if not isinstance(x, Value):
        raise TypeError(f"x is the Value whose gradient is explained, not {reprlib.repr(x)} ({type(x).__name__}).")
    copies = [node for node in order if node.__class__ is Filmed and node.label == x.label]
    return copies[0] if copies and x not in order else x


def _sweep(order: list[Value], x: Value, top: int) -> tuple[int, tuple[GradientPath, ...]]:
    """The number of paths from x to the last of order, and the `top` largest of them.

    It is enough to keep `top` arrivals per node: one slope multiplies all that continue along an edge, and
    rounding, overflow and 0 * inf do not change which of two is the larger, if nan is taken for infinite.
    """
    root, above = order[-1], {x}
    for node in order:
        if not above.isdisjoint(node.parents):
            above.add(node)
    counts: dict[Value, int] = {root: 1}  # of paths that arrive; dropped when passed on, since they can be long
    coming: dict[Value, list[_Arrival]] = {node: [] for node in above}
    coming[root] = [_Arrival(type(root.data)(1), root)]
    for node in reversed(order if root in above else []):
        if node not in above:
            continue
        arrivals = heapq.nlargest(top, coming.pop(node), key=lambda arrival: size(arrival.product))
        if node is x:
            return counts[x], tuple(arrival.path() for arrival in arrivals)
        count = counts.pop(node)
        for operand, (parent, slope) in enumerate(zip(node.parents, slopes_of(node), strict=True)):
            if parent in above:
                coming[parent] += [_Arrival(one.product * slope, parent, operand, slope, one) for one in arrivals]
                counts[parent] = counts.get(parent, 0) + count
    return 0, ()


class _Arrival(NamedTuple):
    """A path from root down to a node, as the last of its edges and the path before that."""

    product: Any
    node: Value
    operand: int = 0
    slope: Any = None
    before: "_Arrival | None" = None

    def path(self) -> GradientPath:
        """The path read upwards, from the node that it arrives at to root."""
        nodes, operands, slopes, arrival = [self.node], list[int](), list[Any](), self
        while arrival.before:
            operands.append(arrival.operand)
            slopes.append(arrival.slope)
            arrival = arrival.before
            nodes.append(arrival.node)
        return GradientPath(tuple(nodes), tuple(operands), tuple(slopes), self.product)


# --- Text -----------------------------------------------------------------------------------------------------


def _shortened(parts: list[str], sign: str) -> str:
    if len(parts) > 2 * ENDS + 1:
        parts = [*parts[:ENDS], f"... {len(parts) - 2 * ENDS:,} more ...", *parts[-ENDS:]]
    return sign.join(parts)


def _percent(product: Any, total: Any) -> str:
    """product as a part of total; a dash where that says nothing."""
    return f"{four_digits(100 * product / total)}%" if total != 0 and finite(total) and finite(product) else "-"


def _counted(count: int) -> str:
    """1,234 in full; beyond 40 digits the size, as Python refuses to write integers of more than 4,300 digits."""
    if count < 10**40:
        return f"{count:,}"
    exponent = math.floor(math.log10(count))
    return f"about {10 ** (math.log10(count) - exponent):.3g}e+{exponent:,}"
