"""Which pass do the numbers of a graph belong to? This finds old gradients, and leaves that were changed.

A graph does not say when its leaves were changed. But an interior node keeps the number of the forward pass and
the gradient of the last backward pass, and both lead back to the leaves: `_before` solves the operation of a
changed leaf for the number it had, and `_pass` computes what the backward pass gives with such numbers.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias

from ..engine.changes import changed, is_stale
from ..engine.value import Value
from ..viz.reading import parameters_among, slopes_of
from ..viz.words import four_digits, near, size

Numbers: TypeAlias = Mapping[Value, Any]
LINEAR = ("add", "sub", "mul", "div", "neg", "sum", "dot")


class Audit(NamedTuple):
    """What `audit` finds.

    wrong    leaves that were changed before the backward pass, or where none has been yet
    moved    leaves that were changed after it, as an update does
    left     {leaf: what this pass gives} of the leaves whose gradient holds something else besides
    passes   how many backward passes this one result has had, as far as its constants tell; 0 for none
    numbers  of each node in the forward pass; the present number of a leaf where the graph does not tell
    """

    wrong: list[Value]
    moved: list[Value]
    left: dict[Value, Any]
    passes: int
    numbers: Numbers

    def sentences(self, names: Mapping[Value, str]) -> list[str]:
        """A sentence for each changed number, and for each gradient that holds something else besides."""
        stale = [f"{names[node]} was changed after the forward pass" for node in self.wrong or self.moved[:1]]
        return stale + [told(names[leaf], leaf, gradient) for leaf, gradient in self.left.items()]


def told(name: str, leaf: Value, gradient: Any) -> str:
    """The sentence for a leaf of `Audit.left`. It asks, since micro-batches are added up on purpose."""
    now, this, before = map(four_digits, (leaf.grad, gradient, leaf.grad - gradient))
    return f"{name}.grad is {now}, this pass gives {this}: {before} was there before. Was zero_grad forgotten?"


def audit(order: list[Value], leaves: Iterable[Value] | None = None) -> Audit:
    """Compare the leaves of a graph with its last backward pass.

    The leaves that count are those given, else the parameters of modules and what was changed, else those with a
    label, else all. A gradient of 0 was cleared. One that was scaled or clipped, or has a weight decay in it, is
    no fault.
    """
    now, passed, suspects = {node: node.data for node in order}, order[-1].grad != 0, changed(order[-1])
    if not passed or any(node.rule for node in suspects):
        return Audit(suspects, [], {}, int(passed), now)
    likely, faults = parameters_among(order) | dict.fromkeys(leaves or ()), list[Audit]()
    # First guess: the parameters were changed. If the gradients contradict it: the inputs.
    for sign in (likely.__contains__, lambda leaf: leaf not in likely)[: 1 + bool(likely)]:
        before = _before(order, sign) if suspects else now
        moved = [leaf for leaf in order if not near(before[leaf], leaf.data, 0.0)]
        there, sizes = _pass(order, before)
        here = _pass(order, now)[0] if moved else there
        passes = _passes(order, {*moved, *likely}, here, there) if moved else 1
        if not moved or (passes == 1 and not _used_others(order, before, here, there)):
            break
        faults.append(Audit(moved, [], {}, passes, now))
    else:
        return faults[0]
    if leaves is None:
        leaves = [*moved, *likely] or counting(order)[1]

    def differs(node: Value) -> bool:
        known = node.grad and math.isfinite(node.grad) and math.isfinite(there[node])  # 0 was cleared
        return bool(known and abs(node.grad - there[node]) > 1e-6 * max(sizes[node], abs(node.grad)))

    left = {leaf: there[leaf] for leaf in dict.fromkeys(leaves) if leaf in there and differs(leaf)}
    if moved and any(node.rule and differs(node) for node in order):
        left = {}  # interior gradients do not add up: the pass used numbers that are not known
    numbers = {node: node.data if x != x else x for node, x in before.items()}
    left = {} if _on_purpose([(leaf.grad, this, numbers[leaf]) for leaf, this in left.items()]) else left
    left = dict(sorted(left.items(), key=lambda pair: -size(pair[0].grad - pair[1])))
    return Audit([], moved, left, passes, numbers)


def counting(order: list[Value], moved: Sequence[Value] = ()) -> tuple[str, list[Value]]:
    """What the leaves are called that count where none are given, and these: those that were changed, and the
    parameters of modules, else the leaves with a label, else those that are used more than once, as a weight is
    over several examples, else all."""
    leaves = [node for node in order if not node.rule]
    uses = Counter(parent for node in order for parent in node.parents)
    kinds = {
        "the parameters of modules": list(parameters_among(order)),
        "the leaves with a label": [leaf for leaf in leaves if leaf.label],
        "the leaves that are used more than once": [leaf for leaf in leaves if uses[leaf] > 1],
        "all leaves": leaves,
    }
    name, chosen = next((name, some) for name, some in kinds.items() if some)
    both = list(dict.fromkeys([*moved, *chosen]))
    name += " and those that were changed" * (len(both) > len(chosen))
    return "all leaves" if len(both) == len(leaves) else name, both


# --- What the graph still tells of the passes --------------------------------------------------------------


def _before(order: list[Value], likelier: Callable[[Value], Any]) -> Numbers:
    """The number of each node in the forward pass, nan for a leaf that the graph does not tell."""
    stale = {node: None for node in order if is_stale(node)}
    doubtful = {parent for node in stale for parent in node.parents if not parent.rule}
    sound = [node for node in order if node not in stale and not doubtful.isdisjoint(node.parents)]
    slopes = (pair for node in sound for pair in zip(node.parents, slopes_of(node), strict=True))
    same = {parent for parent, slope in slopes if slope != 0}  # unchanged, but w * 0 says nothing of w
    uses = Counter(parent for node in order for parent in node.parents)
    numbers = {node: node.data for node in order}
    for node in stale:
        leaves = [p for p in node.parents if not p.rule and p not in same]
        for sign in (likelier, lambda leaf: leaf.label, lambda leaf: uses[leaf] > 1):
            leaves = list(filter(sign, leaves)) or leaves
        numbers.update(dict.fromkeys(leaves, math.nan))
    for node in sorted(stale, key=_solutions):
        unknown = {p for p in node.parents if not p.rule and numbers[p] != numbers[p]}
        if len(unknown) == 1:
            leaf = unknown.pop()
            numbers[leaf] = _solved(node, leaf, numbers)
    return numbers


def _solutions(node: Value) -> int:
    """w * w and w**2 have two solutions: they are asked last."""
    return len(node.parents) - len(set(node.parents)) + (node.rule.name not in LINEAR)


def _solved(node: Value, leaf: Value, numbers: Numbers) -> Any:
    """The number of one leaf for which the operation gives the number of the node, by Newton's method; or nan."""
    x = leaf.data if leaf.data == leaf.data else type(leaf.data)(1)  # nan is no start
    with suppress(ArithmeticError, ValueError):  # a slope of 0, or outside of the domain
        for _ in range(40):
            operands = [x if parent is leaf else numbers[parent] for parent in node.parents]
            out = node.rule.forward(*operands)
            slopes = zip(node.parents, node.rule.shares(type(x)(1), out, *operands), strict=True)
            slope = sum(slope for parent, slope in slopes if parent is leaf)
            if abs(out - node.data) <= 1e-12 * (abs(out) + abs(x * slope)):
                return x
            x -= (out - node.data) / slope
    return math.nan


def _pass(order: list[Value], numbers: Numbers) -> tuple[dict[Value, Any], dict[Value, float]]:
    """What the last backward pass gives each node with these numbers, nan where that is not known, and the sum of
    the sizes of its shares."""
    sums, sizes = dict.fromkeys(order, 0 * order[-1].grad), dict.fromkeys(order, 0.0)
    sums[order[-1]] = order[-1].grad
    for node in reversed(order):
        upstream = node.grad if sums[node] != sums[node] else sums[node]
        operands = [numbers[parent] for parent in node.parents]
        try:
            shares = node.rule.shares(upstream, node.data, *operands) if node.rule else ()
        except (ArithmeticError, ValueError):
            shares = [math.nan] * len(operands)
        for parent, share in zip(node.parents, shares, strict=True):
            sums[parent] += share
            sizes[parent] += abs(float(share))
    return sums, sizes


def _used_others(order: list[Value], before: Numbers, here: Numbers, there: Numbers) -> bool:
    """Did the backward pass use other numbers than the forward pass?

    It used the present ones, if all gradients that differ between the two are those of `here`. Other numbers show
    in products: a gradient divided by that of its only user is the factor. Two such factors that agree are enough.
    """
    telling = [x for x in order if x.grad and not near(here[x], there[x])]
    if telling and all(near(x.grad, here[x], 1e-9) for x in telling):
        return True
    uses = Counter(parent for node in order for parent in node.parents)
    factors: dict[Value, list[Any]] = {}
    for node in [node for node in order if node.rule and node.rule.name in ("mul", "dot") and node.grad]:
        for place, x in enumerate(node.parents):
            factor = node.parents[place - len(node.parents) // 2]
            if x.rule and uses[x] == 1 and not factor.rule and x.grad and x.data:
                factors.setdefault(factor, []).append(x.grad / node.grad)
    return any(
        len(used) > 1 and all(near(x, used[0], 1e-9) for x in used) and not near(used[0], before[factor])
        for factor, used in factors.items()
        if before[factor] == before[factor]
    )


def _passes(order: list[Value], known: set[Value], here: Numbers, there: Numbers) -> int:
    """How many passes this result has had: its own constants have added up their gradients, and nothing sets them
    to zero."""
    constants = [x for x in order if not x.rule and not x.label and x not in known and there[x]]
    ratios = [float(x.grad / there[x]) for x in constants if x.grad and here[x] == there[x]]
    count = round(ratios[0]) if ratios and math.isfinite(ratios[0]) else 1
    return count if count > 1 and all(near(ratio, count, 1e-9) for ratio in ratios) else 1


# --- What people do to gradients on purpose ----------------------------------------------------------------


def _on_purpose(rows: list[tuple[Any, Any, Any]]) -> bool:
    """Were they scaled, clipped, or given a weight decay? A row is (gradient, gradient of the pass, number).

    Two rows that agree on a factor or a limit are enough. A single row is enough if its factor is short, as 0.1
    is. If all gradients are twice or three times as large, then passes were added up.
    """
    scales = [gradient / this if this else math.inf for gradient, this, _ in rows]
    if scales and 1 < scales[0] < math.inf and all(near(x, round(scales[0])) for x in scales):
        return False
    limits = [abs(row[0]) if 0 < scale < 1 else math.inf for row, scale in zip(rows, scales, strict=True)]
    decays = [(gradient - this) / number if number else math.inf for gradient, this, number in rows]
    signs = [math.copysign(1, number) * (gradient - this) for gradient, this, number in rows]
    return _agree(scales, 1.0) or _agree(limits) or _agree(decays, 0.5, 3e-3) or (len(rows) > 1 and _agree(signs))


def _agree(factors: list[Any], below: float = math.inf, tolerance: float = 1e-6) -> bool:
    """Are all factors the same positive number below a limit? A single one must be short, as 0.1 or 1/3."""
    first = float(factors[0]) if factors else math.inf
    if not 0 < first < below or first == math.inf or not all(near(x, first, tolerance) for x in factors):
        return False
    return len(factors) > 1 or any(near(x, float(f"{x:.2g}"), 1e-9) for x in (first, 1 / first))
