"""The table of faults: each is a way in which an engine can be wrong, run on a graph of ours.

A `Trial` is a program and an engine's answer to it. `outcomes(trial, faults)` gives the gradients that an engine
with these faults answers: several, where the order of its walk is open, as in a set. A fault works at one
operation or at all, on one operand or on all of them.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..check.mistakes import Row, suspects
from ..check.random_program import Program
from .operations import alone, near, slopes_of
from .process import Answer

MISTAKES = {
    "overwrites": "assigns instead of accumulating",
    "order": "no topological order",
    "depth": "no topological order, by creation or depth only",
    "paths": "no topological order, visits a node once per path",
    "direction": "walks the graph from the wrong end, or one operation deep",
    "levels": "the walk ends too early",
    "upstream": "forgets upstream",
    "clipped": "gradients are clipped inside of backward",
    "sign": "wrong sign",
    "swapped": "a and b swapped",
    "misplaced": "both shares go to one operand",
    "exponent": "a**b with the exponent's factor missing",
    "tanh": "tanh' computed from the input instead of the output",
    "relu": "relu' taken of the output or of 0",
    "repeated": "an operand used twice counts once",
    "severed": "a result does not know its operands",
    "hook": "_backward is set on an operand, not on the result",
    "shared": "all nodes share one collection of operands",
    "equality": "two nodes with equal numbers are taken for one",
    "visited": "two nodes of one operation are taken for one",
    "root": "the root's gradient is not set to 1",
    "reseeded": "every gradient is set to 1",
    "idle": "no gradient passes beyond the root",
    "mutates": "changes the number of a node",
    "start": "gradients do not start at 0",
    "reflected": "reflected operator swapped",
    "slope": "wrong slope",
    "value": "wrong result",
    "raises": "fails",
    "unknown": "wrong gradient",
    "borrowed": "computes with tinygrad_edu",
    "unusable": "cannot be run",
}
WALKS = {  # the likeliest first
    "direction": "go from the root through reversed(topological order)",
    "paths": "each visit, as in recursive calls of _backward, passes on once more what has arrived so far",
    "depth": "a node near the root passes its gradient on before a longer path has reached it",
    "order": "a node passes its gradient on before all its users have added to it",
    "equality": "compare nodes by identity: == and hash must not look at data",
    "visited": "remember the nodes that were visited, not their operations",
    "idle": "call each rule, as in node._backward()",
    "reseeded": "only the root's is; call no operand's backward()",
}


class Operation(NamedTuple):
    """An operation of the engine: our text of it, the one that it is a trial of, its operands (None: a number)."""

    text: str
    base: str
    operands: tuple[int | None, ...]
    row: Row
    numbers: tuple[float, ...]  # the operands that are numbers, and become nodes of their own
    places: tuple[str, str]  # what a fault may be at: the operation in all its forms, or in this one only


class Trial:
    """A program, the engine's answer, its nodes for it (None for a leaf), and the operation in question."""

    def __init__(self, program: Program, answer: Answer, nodes: list[Operation | None], text: str, k: int = -1):
        self.program, self.answer, self.nodes, self.text = program, answer, nodes, text
        self.judged = range(len(program.inputs)) if k < 0 else (k,)  # the inputs whose gradients are compared
        self.places = {at for node in nodes if node for at in node.places}
        self.operands = [tuple(p for p in node.operands if p is not None) if node else () for node in nodes]
        self.simple = sum(map(bool, nodes)) == 1 and all(len({*below}) == len(below) for below in self.operands)
        self.size = 0.01 if len(program.steps) == 1 else 1.0  # of the numbers below which a difference is rounding
        self._orders: dict[Any, list[tuple[int, ...]]] = {}

    def explained_by(self, faults: Iterable["Fault"]) -> bool | None:
        """Is the answer what an engine with these faults gives? None if that is not known."""
        got = self.answer.grads
        try:
            outs = outcomes(self, faults)
            return any(all(near(got[i], grads[i], self.size) for i in self.judged) for grads in outs)
        except (ArithmeticError, LookupError, ValueError, TypeError):
            return None

    def orders(
        self, walk: str, seen: str, levels: int, operands: Sequence[tuple[int, ...]], leaves: bool
    ) -> list[tuple[int, ...]]:
        """The orders of nodes in which such a walk may go, without repetitions, with or without the leaves."""
        asked = (walk, seen, levels, tuple(operands), leaves)
        if asked not in self._orders:
            forks = [i for i, below in enumerate(operands) if len(set(below)) > 1]
            turns = itertools.product((1, -1), repeat=len(forks)) if len(forks) < 7 else ((1,), (-1,))
            orders = list[Sequence[int]]()
            for turn, (key, known) in itertools.product(turns, self._keys(seen)):
                turned = [*operands]
                for i, sign in zip(forks, itertools.cycle(turn), strict=False):
                    turned[i] = turned[i][::sign]
                if seen == "equality" and walk == "paths":  # a set of operands compares them, too
                    turned = [tuple({key[p]: p for p in below[::-1]}.values()) for below in turned]
                orders += _walk(walk, turned, key, known, bool(seen or levels))
            if levels:
                far = {len(operands) - 1: 0}
                for i in _met(operands, 0):
                    for p in operands[i]:
                        far.setdefault(p, far[i] + 1)
                near_root = [[i for i in order if far[i] < levels] for order in orders]
                orders = near_root + [order[:levels] for order in orders]
            found = (tuple(i for i in order if leaves or self.nodes[i]) for order in orders)
            self._orders[asked] = list(dict.fromkeys(found))
        return self._orders[asked]

    def _keys(self, seen: str) -> list[tuple[Sequence[Any], Sequence[Any]]]:
        """By what a walk takes two nodes for one, and what it has seen before it starts."""
        if seen == "visited":
            return [([node and node.base for node in self.nodes], ())]
        if not seen:
            return [(range(len(self.nodes)), ())]
        values = list[Any](self.program.inputs)
        formulas, known = list[Any](values), dict[Any, Any]()
        for node in filter(None, self.nodes):
            values.append(node.row.out)
            formula = (node.base, *(p if p is None else formulas[p] for p in node.operands))
            formulas.append(known.setdefault(formula, (len(known),)))
        numbers = [x for node in self.nodes if node for x in node.numbers]
        return [(values, ()), (values, numbers), (formulas, ())]


def _walk(
    walk: str, operands: Sequence[tuple[int, ...]], key: Sequence[Any], known: Iterable[Any], odd: bool
) -> list[Sequence[int]]:
    """The orders of nodes in a walk, if operands are visited in the order in which they stand."""
    root = len(operands) - 1
    if walk == "shared":
        inner = sorted({p for below in operands for p in below if operands[p]})
        several = itertools.permutations(inner) if len(inner) < 6 else (inner, inner[::-1])
        return [[root, *order] for order in several]
    if walk == "direction":
        return [_sorted(operands, key, known)[::-1], [root]]
    if walk == "paths":
        return [_met(operands, end) for end in (-1, 0)]
    if walk:
        return [_met(operands, 0 if walk == "depth" else -1, key, known)]
    orders: list[Sequence[int]] = [_sorted(operands, key, known)]
    if odd:
        return [*orders, _met(operands, 0, key, known), _met(operands, 0)]
    return [*orders, range(root, -1, -1), *(_counted(operands, end) for end in (0, -1))]


def _sorted(operands: Sequence[tuple[int, ...]], key: Sequence[Any], known: Iterable[Any] = ()) -> list[int]:
    """Depth first, each node once by its key, users before operands."""
    seen, order, stack = set(known), list[int](), [(len(operands) - 1, False)]
    while stack:
        i, done = stack.pop()
        if done:
            order.append(i)
        elif key[i] not in seen:
            seen.add(key[i])
            stack += [(i, True), *((p, False) for p in operands[i][::-1])]
    return order[::-1]


def _met(
    operands: Sequence[tuple[int, ...]], end: int, key: Sequence[Any] = (), known: Iterable[Any] = ()
) -> list[int]:
    """In the order in which a stack (-1) or a queue (0) meets the nodes; with a key, each one once by it."""
    seen, waiting, order = set(known), [len(operands) - 1], list[int]()
    while waiting and len(order) < 500:
        i = waiting.pop(end)
        if not key or key[i] not in seen:
            seen |= {key[i]} if key else set()
            order.append(i)
            waiting += operands[i]
    return order


def _counted(operands: Sequence[tuple[int, ...]], end: int) -> list[int]:
    """Each node when all its users were there, from a stack or a queue."""
    users = Counter(p for i in _sorted(operands, range(len(operands))) for p in operands[i])
    ready, order = [len(operands) - 1], list[int]()
    while ready:
        order.append(i := ready.pop(end))
        users.subtract(operands[i])
        ready += [p for p in dict.fromkeys(operands[i]) if not users[p]]
    return order


# --- One fault, and what an engine with some of them answers ----------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """One row of the table. `kind` says which part of the pass it changes, `how` says to what."""

    name: str
    sentence: str
    kind: str
    at: str = ""  # a text or a base; "" for all operations
    k: int = -1  # the operand; -1 for all
    how: Any = None
    cost: float = 1.0

    def concerns(self, trial: Trial) -> bool:
        """Could it change the answer?"""
        is_seen = self.name in ("idle", "reseeded") or (self.kind == "hook" and self.how[1])
        if trial.simple and self.kind in {*WHOLE, "severed", "hook", "once"} and not is_seen:
            return False
        if self.kind == "levels" and self.how > len(trial.nodes):
            return False
        return not self.at or self.at in trial.places

    def reach(self) -> int:
        """How much it works on: one form of an operation and one operand least."""
        return 4 * (not self.at) + 2 * (not self.at.endswith(" only")) + (self.k < 0)

    def hits(self, node: Operation, k: int) -> bool:
        """Does it work on operand k of this node?"""
        return self.at in ("", *node.places) and self.k in (-1, k)


class _Edge(NamedTuple):
    """A share: where it goes, whose gradient is its upstream, and how it is computed and added."""

    target: int
    source: int
    row: Row
    slope: float
    upstream: Callable[[float, float, Row], float] | None
    assigns: bool


def _edges(i: int, node: Operation, faults: dict[str, list[Fault]]) -> list[_Edge]:
    """The shares that an operation, which is node number i, passes on."""
    edges = list[_Edge]()
    for k, p in enumerate(node.operands):
        hows = {kind: next((f.how for f in faults.get(kind, ()) if f.hits(node, k)), None) for kind in LOCAL}
        target = p if hows["target"] is None else (*node.operands, None)[hows["target"]]
        source = None if hows["source"] is None else node.operands[hows["source"]]
        if target is not None:
            slope = hows["slope"](node.row, k) if hows["slope"] else node.row.slopes[k]
            source = i if source is None else source
            edges.append(_Edge(target, source, node.row, slope, hows["upstream"], bool(hows["assign"])))
    for fault in faults.get("once", []):
        if fault.hits(node, -1) and len(node.operands) == 2 and node.operands[0] == node.operands[1]:
            del edges[fault.how]
    return edges


LOCAL = ("slope", "upstream", "source", "target", "assign")  # the kinds that concern a single share
WHOLE = {"walk", "seen", "levels"}  # the kinds that concern the walk
ORDERED = {*WHOLE, "assign", "hook", "source", "clip", "once", "severed"}  # those with which the order matters


def outcomes(trial: Trial, faults: Iterable[Fault]) -> Iterator[list[float]]:
    """The gradients of all nodes after a pass of an engine with these faults, for each order that is possible."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    start = sum(fault.how for fault in kinds.get("start", []))
    walk, seen = (next((fault.name for fault in kinds.get(kind, [])), "") for kind in ("walk", "seen"))
    actions = [-1] * len(trial.nodes)
    edges, operands, numbers = dict[int, list[_Edge]](), list(trial.operands), set[int]()
    for i, node in enumerate(trial.nodes):
        if node is None:
            continue
        edges[i], actions[i] = _edges(i, node, kinds), i
        if cut := kinds.get("severed", []) + [fault for fault in kinds.get("target", []) if fault.how < 0]:
            known = (p for k, p in enumerate(node.operands) if not any(fault.hits(node, k) for fault in cut))
            operands[i] = tuple(p for p in known if p is not None)
        for fault in kinds.get("hook", []):
            k, own = fault.how  # is the rule called with the operand's gradient, in place of the result's?
            if fault.hits(node, -1) and k < len(node.operands):
                actions[i] = -1
                if (p := node.operands[k]) is not None:
                    actions[p] = i
                    edges[i] = [edge._replace(source=p) for edge in edges[i]] if own else edges[i]
                else:  # a number becomes a node of its own: its turn comes at once, or after all the others
                    numbers.add(i)
                    edges[i] = [] if own else edges[i]
    if walk in ("idle", "reseeded"):
        ones = {*_sorted(operands, range(len(operands)))} if walk == "reseeded" else set()
        yield [1.0 if i in ones else start for i in range(len(operands))]
        return
    seed = next((fault.how(trial.nodes[-1]) for fault in kinds.get("seed", [])), 1.0)
    mode, low, high = next((fault.how for fault in kinds.get("clip", [])), ("", 0.0, 0.0))
    is_open = walk == "shared" and sum(map(bool, operands)) > 6
    if kinds.keys() & ORDERED:
        levels = min((fault.how for fault in kinds.get("levels", [])), default=0)
        if is_open and levels:
            raise LookupError(OPEN)
        orders = trial.orders(walk, seen, levels, operands, "hook" in kinds or mode == "node")
    else:
        orders = [tuple(_sorted(operands, range(len(operands))))]
    fresh = (False, True) if kinds.keys() & {"hook", "source"} else (True,)
    for turns, is_fresh in itertools.product(_turns(orders, actions, numbers), fresh):
        grads = [start] * len(trial.nodes)
        grads[-1] = seed
        for i, rule in turns:
            if mode == "node":
                grads[i] = _within(grads[i], low, high)
            before = grads if is_fresh else [*grads]  # or was the gradient read once for all shares?
            for target, source, row, slope, upstream, assigns in edges.get(rule, ()):
                up = before[source]
                if mode == "upstream" and source == rule:
                    up = _within(up, low, high)
                share = upstream(slope, up, row) if upstream else slope * up
                if mode == "share":
                    share = _within(share, low, high)
                grads[target] = share if assigns else grads[target] + share
                if mode == "sum":
                    grads[target] = _within(grads[target], low, high)
        yield [_within(x, low, high) for x in grads] if mode == "end" else grads
    if is_open:
        raise LookupError(OPEN)


def _turns(
    orders: Iterable[tuple[int, ...]], actions: Sequence[int], numbers: set[int]
) -> Iterator[list[tuple[int, int]]]:
    """For each order, the nodes with the rules that they call, -1 for none.

    A rule that is set on a number is called right after its result, or after all that is below it.
    """
    for order in orders:
        several = itertools.product((False, True), repeat=len(numbers)) if len(numbers) < 5 else [()]
        for late in several:
            last = {i for i, is_late in zip(numbers, late, strict=False) if is_late}
            turns = [turn for i in order for turn in ((i, actions[i]), *[(i, i)] * (i in numbers - last))]
            yield turns + [(i, i) for i in order[::-1] if i in last]


OPEN = "not all orders of so many nodes in a set are tried"  # the answer is unknown

# --- The table ------------------------------------------------------------------------------------------------

ROOT = "so every share is 0; set it to 1 before the walk"
UPSTREAM: dict[str, Callable[[float, float, Row], float]] = {
    "a share is upstream times the slope": lambda slope, up, row: slope,
    "out.data is taken for out.grad": lambda slope, up, row: slope * row.out,
    "upstream is a factor twice": lambda slope, up, row: slope * up * up,
    "upstream is added, not multiplied": lambda slope, up, row: slope + up,
    "upstream is a divisor": lambda slope, up, row: slope / up,
    "the sign of upstream is lost": lambda slope, up, row: slope * abs(up),
    "a negative upstream is left out": lambda slope, up, row: slope * max(up, 0.0),
}


MODES = ("share", "node", "sum", "end", "upstream")  # what is clipped


def of_walks() -> Iterator[Fault]:
    """Wrong walks, among them those that end too early."""
    for name, sentence in WALKS.items():
        yield Fault(name, sentence, "seen" if name in ("equality", "visited") else "walk")
    for n in range(2, 30):
        words = f"it reaches {n} operations, and no further: visit the operands of each operand"
        yield Fault("levels", words, "levels", how=n)


def of_sharing(at: str = "", bounds: Iterable[float] = ()) -> Iterator[Fault]:
    """Faults in what passes from a result to its operands, whatever the operation is. bounds: see `arrived`."""
    for bound in bounds:
        words = f"upstream stays within {bound:.4g}; pass on all of it"
        yield Fault("clipped", words, "upstream", at, how=lambda slope, up, _, b=bound: slope * _within(up, -b, b))
    for k in (-1, 0, 1):
        words = "a gradient is one share, not the sum: use += in place of ="
        yield Fault("overwrites", words, "assign", at, k, True)
        for sentence, how in UPSTREAM.items():
            yield Fault("slope" if "added" in sentence else "upstream", sentence, "upstream", at, k, how)
        for source in (0, 1):
            words = "its shares are multiplied by the result's gradient, not by that of an operand"
            yield Fault("upstream", words, "source", at, k, source)
    for k in (0, 1):
        yield Fault("repeated", "keep the operands in a tuple, not a set, and add both shares", "once", at, how=k)
        yield Fault("slope", "the operand is taken for a constant: its share is 0", "target", at, k, how=-1)
        for own in (False, True):
            words = "set out._backward: an operand has a rule of its own, which is lost"
            yield Fault("hook", words, "hook", at, how=(k, own))
        yield Fault("misplaced", f"each operand has its own share, here {'ab'[k]} has both", "target", at, how=k)
    for k in (0, 1, -1):
        yield Fault("severed", "keep all operands in the new node, and visit each of them", "severed", at, k)
    yield Fault("sign", "the shares have the other sign", "slope", at, -1, lambda row, k: -row.slopes[k])


def of_slope(at: str, base: str, k: int, rows: Sequence[Row]) -> Iterator[Fault]:
    """Wrong slopes for operand k, the likeliest first. rows has what was measured."""
    measured = {(row.x, j): slope for row in rows for j, slope in enumerate(row.got) if slope == slope}
    rows = [row for row in rows if row.got[k] == row.got[k]]
    if base.endswith(" b") and k == 0:
        words = "each has the slope of the other"
        yield Fault("swapped", words, "slope", at, -1, lambda row, k: row.slopes[1 - k])
        words = "each stands for the other in the slopes"
        yield Fault("swapped", words, "slope", at, -1, lambda row, k: slopes_of(alone(base, row.x[::-1]))[k])
        words = "it is the product of both operands"
        yield Fault("slope", words, "slope", at, -1, lambda row, k: row.x[0] * row.x[1])
    for name, sentence, slope in _slopes(base, k, rows):
        yield Fault(name, sentence, "slope", at, k, lambda row, _, slope=slope: slope(row))
    if base == "relu(a)":
        words = "the slope is 1 where a > 0; upstream decides nothing"
        yield Fault("relu", words, "upstream", at, k, lambda slope, up, row: max(up, 0.0))
        yield Fault("relu", words, "upstream", at, k, lambda slope, up, row: float(up > 0))
    for ratio in dict.fromkeys(round(row.got[k] / row.slopes[k], 6) for row in rows[:3] if row.slopes[k]):
        words = f"it is {ratio:.6g} times the slope"
        yield Fault("slope", words, "slope", at, k, lambda row, _, r=ratio: r * row.slopes[k], 1.2)
    wrong = [row for row in rows if not near(row.got[k], row.slopes[k])]
    if not wrong:
        return
    low, high = min(row.got[k] for row in rows), max(row.got[k] for row in rows)
    low = low if any(row.slopes[k] < low for row in rows) else -math.inf
    high = high if any(row.slopes[k] > high for row in rows) else math.inf
    words = " or ".join(f"{side} {x:.4g}" for side, x in (("above", high), ("below", low)) if abs(x) < math.inf)
    yield Fault("slope", f"it is never {words}", "slope", at, k, lambda row, k: _within(row.slopes[k], low, high))
    words = f"the share is never {words}"
    yield Fault("clipped", words, "upstream", at, k, lambda slope, up, _: _within(slope * up, low, high))
    most = "most" if 2 * len(wrong) <= len(rows) else "some"
    words = f"it is right at {most} operands, and wrong at {listed_points(row.x for row in wrong)}"
    words *= len(wrong) < len(rows)
    yield Fault("slope", words, "slope", at, k, lambda row, k: measured[row.x, k], 2.5)


def _within(x: float, low: float, high: float) -> float:
    return max(low, min(high, x))


def listed_points(points: Iterable[tuple[float, ...]]) -> str:
    """The first four, as in "(2, 3), (0.5, 1)"."""
    return ", ".join(f"({', '.join(f'{x:g}' for x in point)})" for point in itertools.islice(points, 4))


def _slopes(base: str, k: int, rows: Sequence[Row]) -> Iterator[tuple[str, str, Callable[[Row], Any]]]:
    if base == "a ** 2" and k == 0:
        yield "exponent", "the slope is n * a**(n - 1)", lambda m: m.slopes[0] / m.x[1]
        yield "slope", "the exponent in the slope is n - 1, not n", lambda m: m.slopes[0] * m.x[0]
    if base == "relu(a)":
        leak = next((row.got[0] for row in rows if row.x[0] < 0), 0.0)
        yield "relu", "the slope is 0 where a < 0", lambda m: 1.0 if m.x[0] > 0 else leak
        yield "relu", "the slope is 1 where a > 0, not the result itself", lambda m: m.out
        yield "relu", "the slope is 1 where a > 0, and 0 where a < 0", lambda m: float(m.x[0] < 0)
    if base == "tanh(a)":
        yield "tanh", "the slope is 1 - out**2", lambda m: 1 - m.x[0] ** 2
        yield "slope", "the slope is 1 - out**2", lambda m: 1 - m.out
    if base == "sigmoid(a)":
        yield "slope", "the slope is out * (1 - out)", lambda m: m.x[0] * (1 - m.x[0])
    yield "sign", "the share for " + "ab"[k] + " has the other sign", lambda m: -m.slopes[k]
    if base.endswith(" b"):
        yield "swapped", "each stands for the other in the slopes", lambda m: slopes_of(alone(base, m.x[::-1]))[k]
        words = f"the slopes are those of {base[::-1]}"
        yield "swapped", words, lambda m: slopes_of(alone(base, m.x[::-1]))[1 - k]
    elif "**" not in base:
        words = "computed from the output instead of the input"
        yield "slope", words, lambda m: slopes_of(alone(base, (m.out,)))[0]
    yield "slope", "its sign is lost", lambda m: abs(m.slopes[k])
    yield "slope", "it is the operand itself", lambda m: m.x[k]
    yield "slope", "it is the result itself", lambda m: m.out
    yield from suspects(["a", "b"][: 1 + base.endswith(" b")], k)
    if base in ("a / b", "log(a)") and any(row.got[k] for row in rows):
        row, power = max(rows, key=lambda row: abs(row.got[k])), 1 + k
        eps = row.x[-1] ** power * (row.slopes[k] / row.got[k] - 1)
        words = f"{eps:.3g} is added to what it is divided by"
        yield "slope", words, lambda m: m.slopes[k] * m.x[-1] ** power / (m.x[-1] ** power + eps)


def of_root(trials: Sequence[Trial]) -> Iterator[Fault]:
    """Wrong gradients of the root, wrong first gradients, and clipped ones, as the answers suggest."""
    answers = [trial.answer.grads for trial in trials if len(trial.program.steps) == 1]
    if len({grads[-1] for grads in answers}) == 1:
        seed = answers[0][-1]
        yield Fault("root", f"it is {seed:.4g}" if seed else ROOT, "seed", how=lambda node: seed)
    yield Fault("root", "it is the result itself", "seed", how=lambda node: node.row.out)
    grads = [0.0, *(x for answer in answers for x in answer)]
    tried = [(bound, mode) for bound in (max(map(abs, grads)), 1.0, max(grads)) for mode in MODES]
    for bound, mode in dict.fromkeys([*tried, *((bound, "upstream") for bound in arrived(trials))]):
        words = f"they stay within {bound:.4g}; backward must leave them as they are"
        if bound:
            yield Fault("clipped", words, "clip", how=(mode, -bound, bound))
            yield Fault("clipped", words, "clip", how=(mode, -math.inf, bound), cost=1.1)


def arrived(trials: Iterable[Trial]) -> list[float]:
    """What seems to reach an operation of a larger upstream, in chains of two: where upstream may be clipped."""
    sizes = Counter[float]()
    for trial in trials:
        nodes, grads = [node for node in trial.nodes if node], trial.answer.grads
        if len(nodes) != 2 or len(trial.program.steps) != 2 or {*trial.operands[-1]} & {*trial.operands[-2]}:
            continue
        below, above = nodes
        right = above.row.slopes[above.operands.index(len(grads) - 2)]
        for p, slope in zip(below.operands, below.row.slopes, strict=False):
            size = abs(grads[p] / slope) if p is not None and slope else 0.0
            if 0 < size < 0.99 * abs(right):
                sizes[round(size, 6)] += 1
    return [size for size, _ in sizes.most_common(2)]
