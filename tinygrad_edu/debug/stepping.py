"""Backpropagation one application of the chain rule at a time, each with the sentence a teacher would say."""

import operator
import os
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, overload

from ..engine.scalar import as_real
from ..engine.value import Value
from ..viz.names import names_of, variables_in_sight
from ..viz.reading import nodes_below
from ..viz.words import four_digits, visible

SPOKEN = 8  # operands that a sentence lists; a sum may have thousands


def steps(root: Value, upstream: Any = 1.0) -> "Steps":
    """What root.backward(upstream) does, one `Step` per operation, from the result back to the inputs.

    The gradients start at 0, whatever `.grad` holds, and no `.grad` is touched. The numbers of the graph are those
    at the time of this call. A step is computed when it is first asked for, together with those before it.

    Raises TypeError if root is not one Value or upstream not one number. If a rule fails, the step that needs it
    raises its error, with a note that names the node.

    >>> x = Value(3.0, label="x")
    >>> print(*steps((x - 1) ** 2), sep="\\n")
    step 1 of 2: #3 = #2**2: #2 receives upstream * slope = 1 * 4 = 4; #2.grad 0 -> 4
    step 2 of 2: #2 = x - #0: x receives upstream = 4; x.grad 0 -> 4; #0 receives -upstream = -4; #0.grad 0 -> -4
    """
    return Steps(root, upstream, variables_in_sight())


class Share(NamedTuple):
    """What one operand of a step receives: share = upstream * slope, so its gradient goes from before to after."""

    parent: Value
    slope: Any
    share: Any
    before: Any
    after: Any


class Names:
    """What the sentences call each node, as `tree` does, found out when the first sentence is asked for."""

    __slots__ = ("_names", "_order", "_variables")

    def __init__(self, order: tuple[Value, ...], variables: Mapping[Value, str]):
        self._order, self._variables = order, variables
        self._names: dict[Value, str] = {}

    def __call__(self, node: Value) -> str:
        if not self._names:
            self._names = names_of(self._order, self._variables)
        return self._names[node]


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """One application of the chain rule: `node`, whose gradient is complete, passes shares of it to its operands.

    `upstream` is that gradient. There is one `Share` per operand, in order: x * x has two for x, and the second
    starts where the first ended. `index` counts from 0, the text from 1: `step 1 of {total}`.

    >>> x = Value(3.0, label="x")
    >>> [(share.before, share.after) for share in steps(x * x)[0].shares]
    [(0.0, 3.0), (3.0, 6.0)]
    """

    index: int
    node: Value
    upstream: Any
    shares: tuple[Share, ...]
    total: int
    _names: Names = field(compare=False)

    @property
    def sentence(self) -> str:
        """The step in words; of many operands, the first eight."""
        parts = [self._received(i) for i in range(min(len(self.shares), SPOKEN))]
        hidden = len(self.shares) - len(parts)
        rest = [f"and {hidden:,} more"] if hidden else []
        return f"{self._names(self.node)} = {expression(self.node, self._names)}: " + "; ".join(parts + rest)

    def _received(self, i: int) -> str:
        parent, slope, share, before, after = self.shares[i]
        name, upstream, formula = self._names(parent), self.upstream, _slope(self.node, i, self._names)
        if not _near(upstream * slope, share):  # 0, not inf * 0, for the branch that `where` did not take
            how = f"{four_digits(share)} (upstream {four_digits(upstream)}, slope {four_digits(slope)})"
        elif formula in ("1", "-1"):
            how = f"{formula[:-1]}upstream = {four_digits(share)}"
        else:
            how = f"upstream * {formula} = {four_digits(upstream)} * {four_digits(slope)} = {four_digits(share)}"
        return f"{name} receives {how}; {name}.grad {four_digits(before)} -> {four_digits(after)}"

    def __repr__(self) -> str:
        return f"step {self.index + 1:,} of {self.total:,}: {self.sentence}"


def expression(node: Value, names: Callable[[Value], str]) -> str:
    """The operation that made an interior node, as one would write it: `a * b`, `-a`, `a**2`, `tanh(a)`."""
    rule, operands = node.rule, [names(parent) for parent in node.parents[:SPOKEN]]
    if rule.name in ("add", "sub", "mul", "div", "pow"):
        return f" {rule.symbol} ".join(operands)
    if rule.name == "neg":
        return f"-{operands[0]}"
    if rule.name == "pow_n":
        return f"{operands[0]}{rule.symbol}"
    hidden = len(node.parents) - len(operands)
    operands += [f"... {hidden:,} more"] if hidden else []
    operands += [visible(f"{name}={reprlib.repr(value)}") for name, value in rule.parameters.items()]
    return f"{visible(rule.name)}({', '.join(operands)})"


def _slope(node: Value, i: int, names: Callable[[Value], str]) -> str:
    """The slope for operand i as a formula, where that is simple; else the word."""
    parents = node.parents
    match node.rule.name:
        case "add" | "sum":
            return "1"
        case "sub":
            return ("1", "-1")[i]
        case "neg":
            return "-1"
        case "mul" | "dot":  # the partner: dot has x1, x2, ..., y1, y2, ...
            return names(parents[i - len(parents) // 2])
        case "div":
            return (f"(1/{names(parents[1])})", f"(-{names(node)}/{names(parents[1])})")[i]
    return "slope"


def _near(product: Any, share: Any) -> bool:
    """Are they equal but for rounding, or both nan?"""
    both_nan = product != product and share != share
    return both_nan or bool(product == share or abs(product - share) * 1_000_000 <= abs(share))


class Steps(Sequence[Step]):
    """The steps of one backward pass, which nothing can change: index, slice (a tuple), iterate, go back.

    `root`; `order`, the topological order; `nodes`, the interior nodes in the order of the steps; `data`, each
    node's number. What has been computed is kept, so that going back costs nothing.
    """

    __slots__ = ("_data", "_gradients", "_names", "_nodes", "_order", "_records", "_seed")

    def __init__(self, root: Value, upstream: Any = 1.0, variables: Mapping[Value, str] = MappingProxyType({})):
        self._order = tuple(nodes_below(root))
        self._nodes = tuple(node for node in reversed(self._order) if node.rule is not None)
        self._data = {node: node.data for node in self._order}
        self._names = Names(self._order, {x: variables[x] for x in self._order if x in variables})
        kind = type(root.data)
        self._seed = kind(as_real(upstream))
        self._gradients = dict.fromkeys(self._order, kind(0)) | {root: self._seed}
        # Per step: upstream, then slope, share, before, after of each operand. The collector soon stops to look at
        # tuples of floats; 100,000 Steps with their Shares would cost it as long as the arithmetic takes.
        self._records: list[tuple[Any, ...]] = []

    root = property(lambda self: self._order[-1], doc="The result that backpropagation starts from.")
    order = property(lambda self: self._order, doc="Every node, each after its operands.")
    nodes = property(lambda self: self._nodes, doc="The node of each step, none of them computed for that.")

    @property
    def data(self) -> Mapping[Value, Any]:
        """The number of each node, as it was when the steps were made."""
        return MappingProxyType(self._data)

    def name(self, node: Value) -> str:
        """What the sentences call a node. Raises KeyError if it is not in the graph."""
        return self._names(node)

    def __len__(self) -> int:
        return len(self._nodes)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Step, ...]: ...
    def __getitem__(self, index: int | slice) -> Step | tuple[Step, ...]:
        if isinstance(index, slice):
            return tuple(map(self._step, range(len(self))[index]))
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"There is no step {place}: there are {len(self)}, the first of which is steps[0].")
        return self._step(place % len(self))

    def __iter__(self) -> Iterator[Step]:  # that of Sequence would take an IndexError in a rule for the end
        return map(self._step, range(len(self)))

    def _step(self, index: int) -> Step:
        self._compute(index + 1)
        node, record = self._nodes[index], self._records[index]
        shares = map(Share, node.parents, record[1::4], record[2::4], record[3::4], record[4::4])
        return Step(index, node, record[0], tuple(shares), len(self), self._names)

    def _compute(self, count: int) -> None:
        """See to it that there are records of the first `count` steps. If a rule fails, those before it remain."""
        for node in self._nodes[len(self._records) : count]:
            try:
                self._apply(node)
            except Exception as error:
                error.add_note(f"The chain rule had come to {node!r}, made by {node.rule}.")
                raise

    def _apply(self, node: Value) -> None:
        parents, upstream, kind = node.parents, self._gradients[node], type(self._seed)
        numbers = (self._data[node], *[self._data[parent] for parent in parents])
        slopes, shares = node.rule.shares(kind(1), *numbers), node.rule.shares(upstream, *numbers)
        gradients = {parent: self._gradients[parent] for parent in parents}
        record = [upstream]
        for parent, slope, share in zip(parents, slopes, shares, strict=True):
            before = gradients[parent]
            gradients[parent] = after = before + share
            record += (_exact(slope, kind), _exact(share, kind), before, after)
        self._gradients.update(gradients)  # not before all has gone well
        self._records.append(tuple(record))

    def reached(self, i: int) -> dict[Value, Any]:
        """The gradients after i steps of those nodes that something has reached. Errors as in `gradients`."""
        if not 0 <= operator.index(i) <= len(self):
            raise ValueError(f"There are {len(self)} steps, so i is from 0 to {len(self)}, got {i}.")
        self._compute(i)
        found = {self.root: self._seed}
        for node, record in zip(self._nodes[:i], self._records, strict=False):
            found.update(zip(node.parents, record[4::4], strict=True))
        return found

    def gradients(self, i: int) -> dict[Value, Any]:
        """Each node's gradient after i steps: 0 but for the root at first, what backward() gives at the end.

        Raises ValueError unless i is from 0 to the number of steps.

        >>> x = Value(3.0)
        >>> every = steps(x * x)
        >>> [every.gradients(i)[x] for i in (0, 1)]
        [0.0, 6.0]
        """
        return dict.fromkeys(self._order, type(self._seed)(0)) | self.reached(i)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The pass as one HTML file with a slider, arrow keys and play; it needs no network. Returns its text.

        Written to path, if that is given. Raises ValueError if the graph has more than 400 nodes.
        """
        from .player import page  # with its libraries, which the steps themselves do not need

        text = page(self)
        if path is not None:
            Path(path).write_text(text, encoding="utf-8")
        return text

    def _repr_html_(self) -> str | None:
        """For a notebook: the page, and each step as a picture; of a larger graph, nothing."""
        from .player import notebook

        return notebook(self)

    def __repr__(self) -> str:
        return f"Steps({len(self):,} steps from {self._names(self.root)} = {four_digits(self._data[self.root])})"


def _exact(x: Any, kind: type) -> Any:
    """The whole number that a rule gives for "none" or "all" of any kind, as one of the kind of the result."""
    return kind(x) if x.__class__ is int else x
