"""The table of faults: each is a way in which an engine can be wrong, as a change to one of its passes.

A fault works at one operation or at all, on one operand or on all of them: see `faulty_pass.Fault`.
"""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..check.mistakes import Row, Suspect, suspects
from .faulty_pass import Fault, Operation, Trial, within
from .operations import alone, near, slopes_of

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
ROOT = "so every share is 0; set it to 1 before the walk"
Change = Callable[[Operation, int], dict[str, Any]]


def _always(**fields: Any) -> Change:
    return lambda node, k: fields


def _operand(which: int, *fields: str) -> Change:
    """These fields of a share hold this operand instead."""
    return lambda node, k: dict.fromkeys(fields, node.operand(which))


# --- Anywhere in a pass -------------------------------------------------------------------------------------

WALKS = {  # the likeliest first
    "direction": "go from the root through reversed(topological order)",
    "paths": "each visit, as in recursive calls of _backward, passes on once more what has arrived so far",
    "depth": "a node near the root passes its gradient on before a longer path has reached it",
    "order": "a node passes its gradient on before all its users have added to it",
    "equality": "compare nodes by identity: == and hash must not look at data",
    "visited": "remember the nodes that were visited, not their operations",
}


def of_walks() -> Iterator[Fault]:
    """Wrong walks, among them those that end too early."""
    for name, sentence in WALKS.items():
        yield Fault(name, sentence, "seen" if name in ("equality", "visited") else "walk", name)
    yield Fault("idle", "call each rule, as in node._backward()", "share", _always(target=-1))
    words = "only the root's is; call no operand's backward()"
    yield Fault("reseeded", words, "share", _always(assigns=True, size=lambda *_: 1.0))
    for n in range(2, 30):
        words = f"it reaches {n} operations, and no further: visit the operands of each operand"
        yield Fault("levels", words, "levels", n)


def of_root(trials: Sequence[Trial]) -> Iterator[Fault]:
    """Wrong gradients of the root, and clipped ones, as the answers suggest."""
    answers = [trial.answer.grads for trial in trials if len(trial.program.steps) == 1]
    if len({grads[-1] for grads in answers}) == 1:
        seed = answers[0][-1]
        yield Fault("root", f"it is {seed:.4g}" if seed else ROOT, "seed", seed)
    yield Fault("root", "it is the result itself", "seed", None)
    largest = max((abs(x) for answer in answers for x in answer), default=0.0)
    wrong = [trial for trial in trials if not trial.explained_by(())]
    for bound in filter(None, dict.fromkeys((largest, *bounds(wrong)))):
        words = f"they stay within {bound:.4g}; backward must leave them as they are"
        for mode in ("node", "end"):
            yield Fault("clipped", words, "clip", (mode, bound))
        for change in _clipped(bound):
            yield Fault("clipped", words, "share", change)


# --- In what an operation passes to its operands ------------------------------------------------------------

UPSTREAM: dict[str, Callable[[float, float, Row], float]] = {
    "a share is upstream times the slope": lambda slope, up, row: slope,
    "out.data is taken for out.grad": lambda slope, up, row: slope * row.out,
    "upstream is a factor twice": lambda slope, up, row: slope * up * up,
    "upstream is added, not multiplied": lambda slope, up, row: slope + up,
    "upstream is a divisor": lambda slope, up, row: slope / up,
    "the sign of upstream is lost": lambda slope, up, row: slope * abs(up),
    "a negative upstream is left out": lambda slope, up, row: slope * max(up, 0.0),
}


def bounds(wrong: Iterable[Trial], at: str = "") -> list[float]:
    """At what an operation, or all, may have clipped upstream or a share: sizes that wrong answers have in common,
    or short numbers, as a person would write."""
    sizes = Counter[float]()
    for trial in wrong:
        for node in filter(None, trial.nodes if len(trial.program.steps) > 1 else ()):  # else upstream is 1
            for p, slope in zip(node.operands, node.row.slopes, strict=False):
                if at in ("", *node.places) and p < len(trial.program.inputs) and slope:
                    got = abs(trial.answer.grads[p])
                    sizes.update({float(f"{size:.6g}") for size in (got, got / abs(slope))})
    return [size for size, n in sizes.most_common() if n > 1 or size == float(f"{size:.0e}")][:2]


def _clipped(bound: float) -> tuple[Change, Change]:
    """A share that is clipped, and an upstream."""
    return (
        _always(size=lambda slope, up, row: within(slope * up, bound)),
        _always(size=lambda slope, up, row: slope * within(up, bound)),
    )


def of_sharing(at: str = "", limits: Iterable[float] = ()) -> Iterator[Fault]:
    """Faults in what passes from a result to its operands, whatever the operation is. limits: see `bounds`."""

    def fault(name: str, sentence: str, change: Change, k: int = -1) -> Fault:
        return Fault(name, sentence, "share", change, at, k)

    for k in (-1, 0, 1):
        words = "a gradient is one share, not the sum: use += in place of ="
        yield fault("overwrites", words, _always(assigns=True), k)
        for words, size in UPSTREAM.items():
            yield fault("slope" if "added" in words else "upstream", words, _always(size=size), k)
        words = "its shares are multiplied by the result's gradient, not by that of an operand"
        for which in (0, 1):
            yield fault("upstream", words, _operand(which, "source"), k)
        words = "keep all operands in the new node, and visit each of them"
        yield fault("severed", words, _always(known=False), k)
        words = "the operand is taken for a constant: its share is 0"
        yield fault("slope", words, _always(target=-1), k)
    for which in (0, 1):
        words = "keep the operands in a tuple, not a set, and add both shares"
        yield fault("repeated", words, lambda node, k: {"target": -1} if node.repeats else {}, which)
        words = "set out._backward: an operand has a rule of its own, which is lost"
        yield fault("hook", words, _operand(which, "caller"))
        yield fault("hook", words, _operand(which, "caller", "source"))
        words = f"each operand has its own share, here {'ab'[which]} has both"
        yield fault("misplaced", words, _operand(which, "target"))
    yield fault("sign", "the shares have the other sign", lambda node, k: {"slope": -node.row.slopes[k]})
    for bound, k in itertools.product(limits, (-1, 0, 1)):
        for what, change in zip(("the share", "upstream"), _clipped(bound), strict=True):
            yield fault("clipped", f"{what} stays within {bound:.4g}; pass on all of it", change, k)


# --- In the slopes of an operation --------------------------------------------------------------------------


def of_slope(at: str, base: str, k: int, rows: Sequence[Row]) -> Iterator[Fault]:
    """Wrong slopes for operand k, the likeliest first. rows has what was measured."""
    rows = [row for row in rows if row.got[k] == row.got[k]]

    def fault(name: str, sentence: str, slope: Callable[[Row], Any], cost: float = 1.0) -> Fault:
        return Fault(name, sentence, "share", lambda node, _: {"slope": slope(node.row)}, at, k, cost)

    def turned(m: Row) -> Sequence[float]:
        return slopes_of(alone(base, m.x[::-1]))

    if base.endswith(" b") and k == 0:  # of both operands
        words = "each has the slope of the other"
        yield Fault("swapped", words, "share", lambda node, k: {"slope": node.row.slopes[1 - k]}, at)
        words = "each stands for the other in the slopes"
        yield Fault("swapped", words, "share", lambda node, k: {"slope": turned(node.row)[k]}, at)
        words = "it is the product of both operands"
        yield Fault("slope", words, "share", lambda node, k: {"slope": math.prod(node.row.x)}, at)
    yield from itertools.starmap(fault, SLOPES.get(base, ()))
    if base == "relu(a)":
        leak = next((row.got[0] for row in rows if row.x[0] < 0), 0.0)
        yield fault("relu", "the slope is 0 where a < 0", lambda m: 1.0 if m.x[0] > 0 else leak)
        words = "the slope is 1 where a > 0; upstream decides nothing"
        for size in (lambda slope, up, row: max(up, 0.0), lambda slope, up, row: float(up > 0)):
            yield Fault("relu", words, "share", _always(size=size), at)
    yield fault("sign", f"the share for {'ab'[k]} has the other sign", lambda m: -m.slopes[k])
    if base.endswith(" b"):
        yield fault("swapped", "each stands for the other in the slopes", lambda m: turned(m)[k])
        yield fault("swapped", f"the slopes are those of {base[::-1]}", lambda m: turned(m)[1 - k])
    elif "**" not in base:
        words = "computed from the output instead of the input"
        yield fault("slope", words, lambda m: slopes_of(alone(base, (m.out,)))[0])
    yield fault("slope", "its sign is lost", lambda m: abs(m.slopes[k]))
    yield fault("slope", "it is the operand itself", lambda m: m.x[k])
    yield fault("slope", "it is the result itself", lambda m: m.out)
    yield from itertools.starmap(fault, suspects(["a", "b"][: 1 + base.endswith(" b")], k))
    ratio = next((round(row.got[k] / row.slopes[k], 6) for row in rows if row.slopes[k]), 1.0)
    yield fault("slope", f"it is {ratio:.6g} times the slope", lambda m: ratio * m.slopes[k], 1.2)
    wrong = [row for row in rows if not near(row.got[k], row.slopes[k])]
    if wrong:  # less than one answer that is not explained
        most = "most" if 2 * len(wrong) <= len(rows) else "some"
        where = ", ".join(f"({', '.join(f'{x:g}' for x in row.x)})" for row in wrong[:4])
        words = f"it is right at {most} operands, and wrong at {where}" * (len(wrong) < len(rows))
        measured = {row.x: row.got[k] for row in rows}
        yield fault("slope", words, lambda m: measured.get(m.x, m.slopes[k]), 1.9)


# What is known of single functions.
SLOPES: dict[str, list[Suspect]] = {
    "a ** 2": [
        ("exponent", "the slope is n * a**(n - 1)", lambda m: m.slopes[0] / m.x[1]),
        ("slope", "the exponent in the slope is n - 1, not n", lambda m: m.slopes[0] * m.x[0]),
    ],
    "relu(a)": [
        ("relu", "the slope is 1 where a > 0, not the result itself", lambda m: m.out),
        ("relu", "the slope is 1 where a > 0, and 0 where a < 0", lambda m: float(m.x[0] < 0)),
    ],
    "tanh(a)": [
        ("tanh", "the slope is 1 - out**2", lambda m: 1 - m.x[0] ** 2),
        ("slope", "the slope is 1 - out**2", lambda m: 1 - m.out),
    ],
    "sigmoid(a)": [("slope", "the slope is out * (1 - out)", lambda m: m.x[0] * (1 - m.x[0]))],
}
