"""A backward pass with faults, on a graph of ours.

A `Trial` is a program and an engine's answer to it. `outcomes(trial, faults)` gives the gradients that an engine
with these faults answers: several, where the order of its walk is open, as in a set.
"""

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..check.mistakes import Row
from ..check.random_program import Program
from .operations import near
from .process import Answer

Graph = Sequence[tuple[int, ...]]  # the operands of each node
Keys = Sequence[Hashable]  # nodes with equal keys are one for a walk


class Operation(NamedTuple):
    """An operation of the engine: our text of it, the one that it is a form of, and the nodes of its operands."""

    text: str
    base: str
    operands: tuple[int, ...]
    row: Row

    @property
    def places(self) -> tuple[str, str]:
        """What a fault may be at: the operation in all its forms, or in this one only."""
        return self.base, f"{self.text} only"

    @property
    def repeats(self) -> bool:
        """Does one node stand on both sides?"""
        return len({*self.operands}) < len(self.operands)

    def operand(self, k: int) -> int:
        """Operand k, or the last one."""
        return self.operands[min(k, len(self.operands) - 1)]


class OperandShare(NamedTuple):
    """What an operation passes to one of its operands. A share fault replaces some of these."""

    target: int  # whose gradient it is added to; with -1 it is lost, and the walk does not see the operand
    source: int  # whose gradient is upstream
    caller: int  # at whose turn it is passed
    slope: float
    row: Row
    size: Callable[[float, float, Row], float] = lambda slope, upstream, row: slope * upstream
    assigns: bool = False
    known: bool = True  # does the walk go on to the operand?


@dataclass(frozen=True, eq=False)
class Fault:
    """One row of the table. `kind` says which part of a pass it changes.

    "share": how(operation, k) gives the fields of the share for operand k that are different, for operand k of the
    operation `at`, or of all. "walk", "seen", "levels", "seed", "start", "clip": how is an option of `outcomes`.
    """

    name: str
    sentence: str
    kind: str
    how: Any
    at: str = ""  # one of `Operation.places`; "" for all operations
    k: int = -1  # the operand; -1 for all
    cost: float = 1.0

    def concerns(self, trial: "Trial") -> bool:
        """Could it change the answer?"""
        if self.kind in ("walk", "seen", "levels"):
            return not trial.simple and (self.kind != "levels" or self.how <= len(trial.nodes))
        return not self.at or self.at in trial.places

    def reach(self) -> int:
        """How much the fault changes. The least is one form of an operation, and one operand."""
        return 4 * (not self.at) + 2 * (not self.at.endswith(" only")) + (self.k < 0)

    def changes(self, node: Operation, k: int) -> dict[str, Any]:
        """What is different in the share of an operation for its operand k."""
        is_here = self.kind == "share" and self.at in ("", *node.places) and self.k in (-1, k)
        return self.how(node, k) if is_here else {}


@dataclass(eq=False)
class Trial:
    """A program, the engine's answer, its nodes for it (None for a leaf), and the operation in question."""

    program: Program
    answer: Answer
    nodes: Sequence[Operation | None]
    numbers: Sequence[float]  # of all nodes
    text: str
    k: int = -1  # the input whose gradient is compared; -1 for all

    def __post_init__(self) -> None:
        self.judged = range(len(self.program.inputs)) if self.k < 0 else (self.k,)
        operations = [node for node in self.nodes if node]
        self.places = {at for node in operations for at in node.places}
        self.simple = len(operations) == 1 and not operations[0].repeats
        self.size = 0.01 if len(self.program.steps) == 1 else 1.0  # below which a difference is rounding
        self._orders: dict[Any, list[tuple[int, ...]]] = {}

    def explained_by(self, faults: Sequence[Fault]) -> bool | None:
        """Is the answer what an engine with these faults gives? None if that is not known."""
        got = self.answer.grads
        try:
            outs = outcomes(self, faults)
            return any(all(near(got[i], grads[i], self.size) for i in self.judged) for grads in outs)
        except (ArithmeticError, LookupError, ValueError, TypeError):
            return None

    def orders(
        self, graph: tuple[tuple[int, ...], ...], turns: tuple[int, ...], walk: str, seen: str, levels: int
    ) -> list[tuple[int, ...]]:
        """The orders in which such a walk may come to those nodes that have a turn."""
        asked = graph, turns, walk, seen, levels
        if asked not in self._orders:
            forks = [i for i, below in enumerate(graph) if len({*below}) > 1]
            signs = itertools.product((1, -1), repeat=len(forks)) if len(forks) < 7 else ((1,), (-1,))
            orders = list[Sequence[int]]()
            for turned, key in itertools.product(signs, self._keys(seen)):
                operands = [*graph]
                for i, sign in zip(forks, itertools.cycle(turned), strict=False):
                    operands[i] = operands[i][::sign]
                if seen == "equality" and walk == "paths":  # a set of operands compares them, too
                    operands = [tuple({key[p]: p for p in below[::-1]}.values()) for below in operands]
                orders += WALKS[walk or "careless" * bool(seen or levels)](operands, key)
            if levels:
                far = {len(graph) - 1: 0}
                for i in _met(graph, 0):
                    far |= {p: far[i] + 1 for p in graph[i] if p not in far}
                close = [[i for i in order if far[i] < levels] for order in orders]
                orders = close + [order[:levels] for order in orders]
            self._orders[asked] = list(dict.fromkeys(tuple(i for i in order if i in turns) for order in orders))
        return self._orders[asked]

    def _keys(self, seen: str) -> list[Keys]:
        """The keys of the nodes; a walk takes two nodes of one key for one node."""
        if seen == "visited":
            return [[node and node.base for node in self.nodes]]
        if seen != "equality":
            return [range(len(self.nodes))]
        formulas, known = list[Any](), dict[Any, Any]()
        for number, node in zip(self.numbers, self.nodes, strict=True):
            formula = (node.base, *(formulas[p] for p in node.operands)) if node else number
            formulas.append(known.setdefault(formula, (len(known),)))
        return [self.numbers, formulas]


def outcomes(trial: Trial, faults: Sequence[Fault]) -> Iterator[list[float]]:
    """The gradients of all nodes, for each order that is possible. Of two faults, the last one works."""
    options: dict[str, Any] = {"walk": "", "seen": "", "levels": 0, "seed": 1.0, "start": 0.0, "clip": ("", 0.0)}
    options |= {fault.kind: fault.how for fault in faults if fault.kind != "share"}
    mode, bound = options["clip"]
    calls, graph, is_open = dict[int, list[OperandShare]](), list[tuple[int, ...]](), bool(mode)
    for i, node in enumerate(trial.nodes):
        shares = [_share(node, k, i, faults) for k in range(len(node.operands))] if node else []
        operands = zip(node.operands if node else (), shares, strict=True)
        graph.append(tuple(p for p, share in operands if share.known and share.target >= 0))
        if shares := [share for share in shares if share.target >= 0]:
            calls[shares[0].caller] = shares  # in place of the rule that this node had
        is_open = is_open or any(s.assigns or not s.known or s.source != i or s.caller != i for s in shares)
    turns = tuple(range(len(graph)) if mode == "node" else calls)
    orders = [tuple(_sorted(graph, range(len(graph))))]
    if is_open or options["walk"] or options["seen"] or options["levels"]:
        orders = trial.orders(tuple(graph), turns, options["walk"], options["seen"], options["levels"])
    for order in orders:
        grads = [options["start"]] * len(graph)
        grads[-1] = trial.numbers[-1] if options["seed"] is None else options["seed"]
        for i in order:
            if mode == "node":
                grads[i] = within(grads[i], bound)
            for share in calls.get(i, ()):
                x = share.size(share.slope, grads[share.source], share.row)
                grads[share.target] = x if share.assigns else grads[share.target] + x
        yield [within(x, bound) for x in grads] if mode == "end" else grads


def _share(node: Operation, k: int, i: int, faults: Iterable[Fault]) -> OperandShare:
    share = OperandShare(node.operands[k], i, i, node.row.slopes[k], node.row)
    for fault in faults:
        share = share._replace(**fault.changes(node, k))
    return share


def within(x: float, bound: float) -> float:
    """x, clipped to -bound ... bound."""
    return max(-bound, min(bound, x))


# --- The orders of a walk -----------------------------------------------------------------------------------


def _sorted(graph: Graph, key: Keys) -> list[int]:
    """Depth first, each node once by its key, users before operands."""
    seen, order, stack = set[Hashable](), list[int](), [(len(graph) - 1, False)]
    while stack:
        i, done = stack.pop()
        if done:
            order.append(i)
        elif key[i] not in seen:
            seen.add(key[i])
            stack += [(i, True), *((p, False) for p in graph[i][::-1])]
    return order[::-1]


def _met(graph: Graph, end: int, key: Keys = ()) -> list[int]:
    """In the order in which a stack (-1) or a queue (0) meets the nodes; with a key, each one once by it."""
    seen, waiting, order = set[Hashable](), [len(graph) - 1], list[int]()
    while waiting and len(order) < 500:
        i = waiting.pop(end)
        if not key or key[i] not in seen:
            seen |= {key[i]} if key else set()
            order.append(i)
            waiting += graph[i]
    return order


def _in_any_order(graph: Graph, key: Keys) -> list[list[int]]:
    """All orders of the operations, if there are few. Raises LookupError: the answer is unknown."""
    inner = sorted({p for below in graph for p in below if graph[p]})
    if len(inner) > 5:
        raise LookupError("not all orders of so many nodes in a set are tried")
    return [[len(graph) - 1, *order] for order in itertools.permutations(inner)]


# The walks that an engine may have, "" for a right one, "careless" for one that also has another fault.
WALKS: dict[str, Callable[[Graph, Keys], Iterable[Sequence[int]]]] = {
    "": lambda graph, key: (_sorted(graph, key), range(len(graph))[::-1]),
    "careless": lambda graph, key: (_sorted(graph, key), _met(graph, 0, key), _met(graph, 0)),
    "direction": lambda graph, key: (_sorted(graph, key)[::-1], [len(graph) - 1]),
    "paths": lambda graph, key: (_met(graph, -1), _met(graph, 0)),
    "depth": lambda graph, key: (_met(graph, 0, key),),
    "order": lambda graph, key: (_met(graph, -1, key),),
    "shared": _in_any_order,
}
