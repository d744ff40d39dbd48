"""Backpropagation as data: one application of the chain rule at a time, each with a sentence that describes it."""

import operator
import os
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, overload

from ..engine.former import Former
from ..engine.scalar import as_real
from ..engine.value import Value
from ..page import HINT, Live
from ..viz.equations import agreeing
from ..viz.names import names_of, variables_in_sight
from ..viz.reading import nodes_below
from ..viz.strangers import adopted
from ..viz.words import formula, four_digits, near
from .origins import source_lines
from .reasons import reason

SPOKEN = 8  # operands that a sentence lists; a sum may have thousands
PRINTED = 200  # steps that `print` shows


class Share(NamedTuple):
    """What one operand of a step receives: share = upstream * slope, so its gradient goes from before to after."""

    parent: Value
    slope: Any
    share: Any
    before: Any
    after: Any


@dataclass(frozen=True, slots=True, repr=False)
class Step:
    """One application of the chain rule: `node`, whose gradient is complete, passes shares of it to its operands.

    `upstream` is that gradient. There is one `Share` per operand, in order: x * x has two for x, and the second
    starts where the first ended. `index` counts from 0, the text from 1: `step 1 of {total}`.

    >>> from tinygrad_edu import steps
    >>> x = Value(3.0, label="x")
    >>> [(share.before, share.after) for share in steps(x * x)[0].shares]
    [(0.0, 3.0), (3.0, 6.0)]
    """

    index: int
    node: Value
    upstream: Any
    shares: tuple[Share, ...]
    total: int
    _names: Mapping[Value, str] = field(compare=False)
    _data: Mapping[Value, Any] = field(compare=False)

    @property
    def sentence(self) -> str:
        """The step in words, with the first eight operands."""
        parts = [self._received(i) for i in range(min(len(self.shares), SPOKEN))]
        hidden = len(self.shares) - len(parts)
        rest = [f"and {hidden:,} more"] if hidden else []
        operation = expression(self.node, self._names.__getitem__)
        return f"{self._names[self.node]} = {operation}: " + "; ".join(parts + rest)

    @property
    def reason(self) -> str:
        """Why the slopes are what they are: "dy/dx = 1 - y^2 = 1 - 0.9^2 = 0.19"; "" where that needs no words."""
        shares = enumerate(self.shares[:SPOKEN])
        reasons = [reason(self.node, i, share.slope, self._names, self._data) for i, share in shares]
        return "; ".join(dict.fromkeys(filter(None, reasons)))

    def _received(self, i: int) -> str:
        parent, slope, share, before, after = self.shares[i]
        name, upstream, factor = self._names[parent], self.upstream, _slope(self.node, i, self._names)
        if not near(upstream * slope, share):  # 0, not inf * 0, for the branch that `where` did not take
            how = f"{four_digits(share)} (upstream {four_digits(upstream)}, slope {four_digits(slope)})"
        elif factor in ("1", "-1"):
            how = f"{factor[:-1]}upstream = {four_digits(share)}"
        else:
            first, second = agreeing([upstream, slope], share, operator.mul)
            how = f"upstream * {factor} = {first} * {second} = {four_digits(share)}"
        return f"{name} receives {how}; {name}.grad {four_digits(before)} -> {four_digits(after)}"

    def __repr__(self) -> str:
        return f"step {self.index + 1:,} of {self.total:,}: {self.sentence}"


def expression(node: Value, names: Callable[[Value], str]) -> str:
    """The operation that made an interior node, as one would write it: `a * b`, `-a`, `a**2`, `tanh(a)`."""
    return formula(node.rule, [names(parent) for parent in node.parents])


def _slope(node: Value, i: int, names: Mapping[Value, str]) -> str:
    """The slope for operand i as a formula, where that is simple; else "slope"."""
    parents, name = node.parents, node.rule.name
    if name in ("mul", "dot"):  # the partner: dot has x1, x2, ..., y1, y2, ...
        return names[parents[i - len(parents) // 2]]
    if name == "div":
        return (f"(1/{names[parents[1]]})", f"(-{names[node]}/{names[parents[1]]})")[i]
    return {"add": "1", "sum": "1", "sub": ("1", "-1")[i > 0], "neg": "-1"}.get(name, "slope")


class Steps(Former, Sequence[Step]):
    """The steps of one backward pass: index, slice (a tuple), iterate. Later changes of the graph do not matter.

    A notebook shows them as the live page, where the pass begins.

    `root`; `order`, the topological order; `nodes`, the interior nodes in the order of the steps; `data`, each
    node's number when the steps were made; `variables`, the names of the variables that held nodes then; `seed`,
    the gradient of root. A step is computed when it is first asked for, and kept.

    `numbers` replace the present numbers of some nodes.

    Raises TypeError if root is not one Value or upstream not one number.
    """

    _former: ClassVar = {
        **dict.fromkeys(("reached", "uses", "passed"), "steps.gradient(node, i) is the gradient after i steps"),
        **dict.fromkeys(("computed", "name"), "steps.names has the names, steps.data the numbers"),
    }

    def __init__(
        self,
        root: Value,
        upstream: Any = 1.0,
        variables: Mapping[Value, str] = MappingProxyType({}),
        *,
        numbers: Mapping[Value, Any] = MappingProxyType({}),
    ):
        self.root: Value = root
        self.order: tuple[Value, ...] = tuple(nodes_below(root))
        self.nodes: tuple[Value, ...] = tuple(node for node in reversed(self.order) if node.rule)
        self.data: Mapping[Value, Any] = {node: numbers.get(node, node.data) for node in self.order}
        self.variables: Mapping[Value, str] = {node: variables[node] for node in self.order if node in variables}
        self.names: Mapping[Value, str] = names_of(self.order, self.variables)  # as the sentences call each node
        kind = type(root.data)
        self.seed: Any = kind(as_real(upstream))
        self._gradients = dict.fromkeys(self.order, kind(0)) | {root: self.seed}
        self._taken: list[Step] = []

    def __len__(self) -> int:
        return len(self.nodes)

    @overload
    def __getitem__(self, index: int) -> Step: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Step, ...]: ...
    def __getitem__(self, index: int | slice) -> Step | tuple[Step, ...]:
        if isinstance(index, slice):
            return tuple(map(self._step, range(len(self))[index]))
        place = operator.index(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"There is no step {place}: there are {len(self)}, and the first is steps[0].")
        return self._step(place % len(self))

    def __iter__(self) -> Iterator[Step]:  # Sequence's own would take an IndexError in a rule for the end
        return map(self._step, range(len(self)))

    def _step(self, index: int) -> Step:
        """The step, after all before it. If a rule fails, those before it remain."""
        for node in self.nodes[len(self._taken) : index + 1]:
            try:
                self._apply(node)
            except Exception as error:
                error.add_note(f"The chain rule had come to {node!r}, made by {node.rule}.")
                raise
        return self._taken[index]

    def _apply(self, node: Value) -> None:
        parents, upstream, kind = node.parents, self._gradients[node], type(self.seed)
        numbers = (self.data[node], *[self.data[parent] for parent in parents])
        slopes, shares = node.rule.shares(kind(1), *numbers), node.rule.shares(upstream, *numbers)
        gradients = {parent: self._gradients[parent] for parent in parents}
        received = []
        for parent, slope, share in zip(parents, slopes, shares, strict=True):
            before = gradients[parent]
            gradients[parent] = after = before + share
            received.append(Share(parent, _exact(slope, kind), _exact(share, kind), before, after))
        self._gradients.update(gradients)  # only after all has gone well
        count = len(self._taken)
        self._taken.append(Step(count, node, upstream, tuple(received), len(self), self.names, self.data))

    def completed(self) -> dict[Value, int]:
        """For each node, after how many steps its gradient is complete and passed on.

        For an operation that is its own step, for a leaf the last step that uses it, for the root alone 0.
        """
        done = {self.root: 0}
        for position, node in enumerate(self.nodes, start=1):
            done[node] = position
            done.update((parent, position) for parent in node.parents if parent.rule is None)
        return done

    @cached_property
    def _users(self) -> dict[Value, list[int]]:
        """For each node, the indices of the steps that pass it a share."""
        users: dict[Value, list[int]] = {node: [] for node in self.order}
        for index, node in enumerate(self.nodes):
            for parent in dict.fromkeys(node.parents):
                users[parent].append(index)
        return users

    def gradient(self, node: Value, i: int) -> Any:
        """The gradient of a node after i steps; None if no share has reached it."""
        before = bisect_left(self._users[node], i)
        if not before:
            return self.seed if node is self.root and i >= 0 else None
        return [x.after for x in self._step(self._users[node][before - 1]).shares if x.parent is node][-1]

    def gradients(self, i: int) -> dict[Value, Any]:
        """Each node's gradient after i steps: 0 but for the root at first, what backward() gives at the end.

        Raises ValueError unless i is from 0 to the number of steps.

        >>> from tinygrad_edu import steps
        >>> x = Value(3.0)
        >>> every = steps(x * x)
        >>> [every.gradients(i)[x] for i in (0, 1)]
        [0.0, 6.0]
        """
        if not 0 <= operator.index(i) <= len(self):
            raise ValueError(f"There are {len(self)} steps, so i is from 0 to {len(self)}, got {i}.")
        reached = {share.parent: share.after for step in self[:i] for share in step.shares}
        return dict.fromkeys(self.order, type(self.seed)(0)) | {self.root: self.seed} | reached

    def _live(self) -> Live:
        lines = source_lines(self.order)
        return Live(self.root, self.variables, mode="steps", upstream=self.seed, numbers=self.data, lines=lines)

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The live page of the graph, at the beginning of this pass. Writes it to path, if one is given.

        Raises OSError if the file cannot be written, TypeError if a rule cannot be written in JavaScript.
        """
        return self._live().to_html(path)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {**self._live()._repr_mimebundle_(), "text/plain": self._summary()}

    def _summary(self) -> str:
        count = f"{len(self):,} step{'s' * (len(self) != 1)}"
        return f"Steps({count} from {self.names[self.root]} = {four_digits(self.data[self.root])})"

    def __repr__(self) -> str:
        return f"{self._summary()}\n{HINT}"

    def __str__(self) -> str:
        lines = [f"{step}" + f"\n    {step.reason}" * bool(step.reason) for step in self[:PRINTED]]
        return "\n".join([*lines, *[f"... {len(self) - PRINTED:,} more steps"] * (len(self) > PRINTED)])


def _exact(x: Any, kind: type) -> Any:
    """x. If a rule gave a whole number, such as 0 or 1, it becomes a number of the kind of the result."""
    return kind(x) if x.__class__ is int else x


def steps(root: Value, upstream: Any = 1.0) -> Steps:
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
    (root,) = adopted(root)
    return Steps(root, upstream, variables_in_sight())
