"""The tracer of one example: it has numbers, and remembers which were asked for. `examples` joins several."""

import contextlib
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...engine.rules import RULES
from ...engine.value import Value
from .both_sides import is_number
from .items import is_same
from .lending import Place, recording, swapped
from .merging import TAME
from .placeholder import CHOICES, GIVEN, TAKE, Placeholder, place_of, users_frame
from .tracing import Tracer
from .tracked import Tracked, kept_number, put_number

SIDES = "_left", "_right"  # where a Value keeps its operands


@dataclass(frozen=True, eq=False)
class Outcome:
    """A step of a path: `node` was true or not. Where a number became a plain one, it says "equals `pinned`"."""

    node: Value
    outcome: bool
    place: str
    pinned: Any = None


class ExampleTracer(Tracer):
    """A trace of one example: it has numbers, and remembers which were asked for."""

    def __init__(self, parameters: dict[Value, float], kinds: Sequence[Any]):
        super().__init__()
        self.parameters: dict[Value, float] = parameters
        self.kinds: Sequence[Any] = kinds
        self.path: list[Outcome] = []
        self.hand: dict[Any, tuple[Value, Sequence[Any]]] = {}  # nodes by hand: their numbers and operands
        self.winners: dict[Any, tuple[Any, Any]] = {}  # of max by a key: the items, and which it is
        self._done = 0  # so many nodes have their numbers

    def arguments(self, inputs: list[list[Placeholder]]) -> list[list[Any]]:
        pairs = zip(self.kinds, inputs, strict=True)
        return [[x if kind is Value else Tracked(x, whole=kind is int) for x in flat] for kind, flat in pairs]

    def stand_in(self, value: Value) -> Tracked:
        return Tracked(value)

    def data(self, node: Value) -> Tracked:
        if node in self.hand:  # its closure reads it, too
            return Tracked(self.hand[node][0])
        return Tracked(Placeholder.of(CHOICES["plain"], (node,)))

    def same(self, node: Value, other: Any) -> bool:
        return is_same(node, other) if isinstance(other, Value) else super().same(node, other)

    def by_hand(self, node: Any, operands: Sequence[Any], slopes: Sequence[Any] | None) -> None:
        """Make a node that the function wrote by hand a placeholder with its number and its slopes."""
        number = node.data
        if not isinstance(number, Tracked) and not any(map(self.is_placeholder, operands)):
            return  # made of constants
        node.rule, node._left, node._right = CHOICES["plain"], _node_of(number), None
        node.__class__ = recording(self.kind)
        self.hand[node] = _node_of(number), operands
        self.nodes.append(node)
        if slopes is not None:
            self._slopes(node, operands, slopes)

    def closure(self, node: Any, function: Callable[[], None]) -> None:
        """The slopes of a node by hand are what its closure adds to the gradients of the operands."""
        operands = list(dict.fromkeys(self.hand[node][1]))
        gradients = {**dict.fromkeys(operands, 0.0), node: 1.0}
        with swapped([(Place(self, "gradients", "attribute"), gradients)]):
            function()
            slopes = [self.gradients[operand] for operand in operands]
        self._slopes(node, operands, slopes)

    def _slopes(self, node: Any, operands: Sequence[Any], slopes: Sequence[Any]) -> None:
        """Let a node by hand be a sum of parts: each has the slope of one operand, the first has the number."""
        at = next(i for i in range(len(self.nodes) - 1, -1, -1) if self.nodes[i] is node)
        del self.nodes[at]
        self._done = min(self._done, at)
        pairs = list(zip(operands, slopes, strict=False))
        numbers = [self.hand[node][0], *[Value(0.0)] * (len(pairs) - 1)]
        rows = [(n, operand, _node_of(slope)) for n, (operand, slope) in zip(numbers, pairs, strict=False)]
        if len(rows) == 1:
            node.rule, node._left, node._right = GIVEN, rows[0], None
        elif rows:
            node.rule, node._left, node._right = (
                RULES["sum"],
                tuple(Placeholder.of(GIVEN, row) for row in rows),
                None,
            )
        self.nodes.append(node)

    def truth(self, node: Value) -> bool:
        outcome = bool(self.number(node))
        self.path.append(Outcome(node, outcome, _here()))
        return outcome

    def pinned(self, node: Value, whole: bool = True) -> Any:
        """The number of a node as a plain one, which may go anywhere."""
        number = int(self.number(node)) if whole else float(self.number(node))
        same = Placeholder.of(CHOICES["equal"], (node, Value(number)))
        self.path.append(Outcome(same, True, _here(), number))
        return number

    def both(self, question: Tracked, then: Callable[[Any], Any], other: Callable[[Any], Any]) -> Any:
        """The numbers of both sides of a branch; None if they are no numbers, or if a side asks for more."""
        lists: tuple[list[Any], ...] = self.nodes, self.path, self.draws, self.refusals
        before = list(map(len, lists))
        found = []
        with contextlib.suppress(Exception):  # of the side that is not for this example
            for side in then, other:
                start = len(self.nodes)
                found.append(side(0))
                self._guard(start, question.node, side is then)
            if all(map(is_number, found)) and before[1:] == list(map(len, lists))[1:]:
                return found
        for those, n in zip(lists, before, strict=True):
            del those[n:]
        self._done = min(self._done, len(self.nodes))
        return None

    def _guard(self, start: int, question: Value, yes: bool) -> None:
        """Let the nodes of a side compute with 1 where the side is not taken: 0 * nan would reach the gradient."""
        made = self.nodes[start:]
        del self.nodes[start:]
        self._done = min(self._done, start)
        safe: dict[Value, Value] = {}
        for node in made:
            if node.rule is not None and node.rule not in TAME and node.rule is not TAKE:
                ones = [1.0] * len(node.parents)
                out = node.rule.forward(*ones)
                if not all(map(math.isfinite, (out, *node.rule.shares(1.0, out, *ones)))):
                    raise ArithmeticError
                for x in node.parents:
                    if x not in safe:
                        pair = (x, Value(1.0)) if yes else (Value(1.0), x)
                        safe[x] = Placeholder.of(RULES["where"], (question, *pair))
                node.replace([safe[x] for x in node.parents])
            self.nodes.append(node)

    def inside(self, node: Value, end: int, start: int = 0) -> None:
        """Let the path say that start <= the number of a node < end, if it is so: an index is computed."""
        for name, bound in {"ge": start, "lt": end}.items():
            inside = Placeholder.of(CHOICES[name], (node, Value(bound)))
            self.path.append(Outcome(inside, bool(self.number(inside)), _here()))

    def known(self, x: Any) -> Any:
        """The node that a number stands for: of Value(x), where x is an input, the input."""
        while isinstance(x, Tracked) or not (
            isinstance(x, Placeholder) or x in self.parameters or not isinstance(x.data, Tracked)
        ):
            x = x.node if isinstance(x, Tracked) else x.data
        return x

    def number(self, node: Value) -> Any:
        """The number of a node for this example."""
        if node.rule is not None:
            for made in itertools.islice(self.nodes, self._done, None):
                put_number(made, _computed(made.rule, [self._number(parent) for parent in made.parents]))
            self._done = len(self.nodes)
        return self._number(node)

    def _number(self, node: Any) -> Any:
        if node in self.parameters:
            return self.parameters[node]
        if isinstance(node, Placeholder):
            return kept_number(node)
        known = self.known(node)
        return known.data if known is node else self._number(known)


def _node_of(number: Any) -> Value:
    """The node of a number that may be tracked."""
    return number.node if isinstance(number, Tracked) else number if isinstance(number, Value) else Value(number)


def _computed(rule: Any, inputs: list[Any]) -> float:
    try:
        return float(rule.forward(*inputs))
    except (ArithmeticError, ValueError):
        return math.nan


def _here() -> str:
    """Where the user's code stands."""
    return place_of(users_frame()[1])
