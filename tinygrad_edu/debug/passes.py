"""Which pass do the numbers of a graph belong to? Gradients from before it, and leaves that were changed.

A graph does not say when its leaves were changed. But an interior node keeps the number of the forward pass and
the gradient of the last backward pass, and both lead back to the leaves: `_before` solves the operation of a
changed leaf for the number it had, and `_received` adds up what its users pass on to it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..engine.changes import changed, is_stale
from ..engine.value import Value
from ..viz.reading import parameters_among, slopes_of
from ..viz.words import four_digits, near, size

LINEAR = ("add", "sub", "mul", "div", "neg", "sum", "dot")


class Audit(NamedTuple):
    """What `audit` finds.

    wrong    numbers that were changed before the backward pass, or where none has been yet
    moved    leaves that were changed after it, as an update does
    left     {leaf: what this pass gives} of the leaves whose gradient holds something else besides
    passes   how many backward passes this one result has had, as far as its constants tell; 0 for none
    numbers  of each node in the forward pass; for a leaf that the graph does not tell, the present one
    """

    wrong: list[Value]
    moved: list[Value]
    left: dict[Value, Any]
    passes: int
    numbers: Mapping[Value, Any]

    def sentences(self, names: Mapping[Value, str]) -> list[str]:
        """A sentence for each number that was changed and for each gradient with something besides."""
        stale = [f"{names[node]} was changed after the forward pass" for node in self.wrong or self.moved[:1]]
        return stale + [told(names[leaf], leaf, gradient) for leaf, gradient in self.left.items()]


def told(name: str, leaf: Value, gradient: Any) -> str:
    """The sentence for a leaf of `Audit.left`. It asks, since micro-batches are added up on purpose."""
    now, this, before = map(four_digits, (leaf.grad, gradient, leaf.grad - gradient))
    return f"{name}.grad is {now}, this pass gives {this}: {before} was there before. Was zero_grad forgotten?"


def audit(order: list[Value], leaves: Iterable[Value] | None = None) -> Audit:
    """Compare the leaves of a graph with its last backward pass.

    The leaves that count are those given, else the parameters of modules and what was changed, else those with a
    label, else all. A gradient of 0 was cleared, and one that was scaled, clipped, or joined by a weight decay is
    as it should be.
    """
    root, now = order[-1], {node: node.data for node in order}
    likely = parameters_among(order) | dict.fromkeys(leaves or ())
    suspects = changed(root)
    if root.grad == 0:  # no pass yet
        return Audit(suspects, [], {}, 0, now)
    if any(node.rule for node in suspects):
        return Audit(suspects, [], {}, 1, now)
    faults = []
    for old in _before(order, likely) if suspects else [now]:
        moved = [node for node in order if old[node] is None or not near(old[node], node.data, 0.0)]
        there, sizes = _received(order, old)
        here = _received(order, now)[0] if moved else there
        passes = _passes(order, {*moved, *likely}, here, there) if moved else 1
        if not moved or (passes == 1 and not _used(order[:-1], here, there) and not _between(order, old)):
            break
        faults.append(Audit(moved, [], {}, passes, now))
    else:
        return faults[0]
    numbers = {node: node.data if number is None else number for node, number in old.items()}
    if leaves is None:
        leaves = moved + list(parameters_among(order)) or counting(order)
    left = {}
    for leaf in dict.fromkeys(leaves):
        this = there.get(leaf)
        if this is None or not leaf.grad or not math.isfinite(leaf.grad) or not math.isfinite(this):
            continue  # not known, cleared, or a case for those who look for nan
        if abs(leaf.grad - this) > 1e-6 * max(sizes[leaf], abs(leaf.grad)):
            left[leaf] = this
    left = {} if _on_purpose([(leaf.grad, this, numbers[leaf]) for leaf, this in left.items()]) else left
    left = dict(sorted(left.items(), key=lambda pair: -size(pair[0].grad - pair[1])))
    return Audit([], moved, left, passes, numbers)


def counting(order: list[Value]) -> list[Value]:
    """The leaves that count where none are given: the parameters of modules, else those with a label, else those
    that are used more than once, as a weight is over several examples, else all."""
    leaves = [node for node in order if not node.rule]
    uses = Counter(parent for node in order for parent in node.parents)
    labelled, shared = [leaf for leaf in leaves if leaf.label], [leaf for leaf in leaves if uses[leaf] > 1]
    return list(parameters_among(order)) or labelled or shared or leaves


# --- What the graph still tells of the passes --------------------------------------------------------------


def _before(order: list[Value], likely: Mapping[Value, None]) -> list[dict[Value, Any]]:
    """What the number of each node in the forward pass may have been; None for a leaf if the graph does not tell.

    Where an operation has a parameter and an input that may have changed, the likelier comes first.
    """
    stale = {node: None for node in order if is_stale(node)}
    same = {p for node in order if node.rule and node not in stale for p in _telling(node)}
    uses = Counter(parent for node in order for parent in node.parents)
    numbers = {node: node.data for node in order}
    unsure = {node: [p for p in node.parents if not p.rule and p not in same] for node in stale}
    doubts = Counter(p for leaves in unsure.values() for p in leaves)
    signs = (likely.__contains__, lambda leaf: leaf.label, lambda leaf: uses[leaf] > 1)
    inputs = {p for p in doubts if p not in likely and (p.label or uses[p] > 1)}
    stories = [_solve(unsure, signs, numbers)]
    if inputs and likely:  # it may be these that are trained, if one number of each explains all that reads it
        by_inputs, readers = (
            _solve(unsure, [inputs.__contains__], numbers),
            [x for x in stale if inputs & {*x.parents}],
        )
        if None not in by_inputs.values():
            given = [node.rule.forward(*[by_inputs[p] for p in node.parents]) for node in readers]
            if all(near(x, node.data) for x, node in zip(given, readers, strict=True)):
                stories.insert(0 if any(doubts[p] > 1 for p in inputs) else 1, by_inputs)
    return stories


def _solve(
    unsure: Mapping[Value, list[Value]], signs: Iterable[Any], present: Mapping[Value, Any]
) -> dict[Value, Any]:
    """The number of each node: of the leaves that may have changed, those with the first signs have."""
    numbers = dict(present)
    for leaves in unsure.values():
        for sign in signs:
            leaves = list(filter(sign, leaves)) or leaves
        numbers.update(dict.fromkeys(leaves))
    for node in sorted(unsure, key=_solutions):
        unknown = {parent for parent in node.parents if numbers[parent] is None}
        if len(unknown) == 1:
            leaf = unknown.pop()
            numbers[leaf] = _solved(node, leaf, numbers)
    return numbers


def _solutions(node: Value) -> int:
    """w * w and w**2 have two solutions: they are asked last."""
    return len(node.parents) - len(set(node.parents)) + (node.rule.name not in LINEAR)


def _telling(node: Value) -> list[Value]:
    """The leaves that change the result of an operation when they change: not the w of w * 0."""
    if all(parent.rule for parent in node.parents):
        return []
    return [p for p, slope in zip(node.parents, slopes_of(node), strict=True) if slope != 0]


def _solved(node: Value, leaf: Value, numbers: Mapping[Value, Any]) -> Any:
    """The number of one leaf for which the operation gives the number of the node, by Newton's method; or None."""
    x = leaf.data
    for _ in range(40):
        operands = [x if parent is leaf else numbers[parent] for parent in node.parents]
        try:
            out = node.rule.forward(*operands)
            slopes = zip(node.parents, node.rule.shares(type(x)(1), out, *operands), strict=True)
            slope = sum(slope for parent, slope in slopes if parent is leaf)
            if abs(out - node.data) <= 1e-12 * (abs(out) + abs(x * slope)):
                return x
            x -= (out - node.data) / slope
        except (ArithmeticError, ValueError):  # a slope of 0, or outside of the domain
            break
    return None


def _received(order: list[Value], numbers: Mapping[Value, Any]) -> tuple[dict[Value, Any], dict[Value, float]]:
    """For each node the sum of the shares that its users' gradients make, and the sum of their sizes.

    The sum is None where it depends on a number that is None.
    """
    sums, sizes = dict.fromkeys(order, 0 * order[-1].data), dict.fromkeys(order, 0.0)
    for node in order:
        for parent, share in zip(node.parents, _shares(node, numbers) if node.rule else (), strict=True):
            known = sums[parent] is not None and share is not None
            sums[parent] = sums[parent] + share if known else None
            sizes[parent] += abs(float(share)) if known else 0.0
    return sums, sizes


def _shares(node: Value, numbers: Mapping[Value, Any]) -> list[Any]:
    """The shares of a node's gradient; None for one that depends on a number that is None."""
    kinds = [[node.data if numbers[p] is None else numbers[p] for p in node.parents]]
    if any(numbers[p] is None for p in node.parents):  # two numbers for it show whether it matters
        kinds.append([2 * node.data + 1 if numbers[p] is None else numbers[p] for p in node.parents])
    try:
        every = [node.rule.shares(node.grad, node.data, *operands) for operands in kinds]
    except (ArithmeticError, ValueError):
        return [None] * len(node.parents)
    return [first if first == last else None for first, last in zip(every[0], every[-1], strict=True)]


def _used(nodes: list[Value], now: Mapping[Value, Any], before: Mapping[Value, Any]) -> bool:
    """Did the backward pass use the present numbers, and not those of the forward pass?

    Only gradients that differ between the two can tell, and all of them must.
    """
    telling = [x for x in nodes if x.grad and (before[x] is None or not near(now[x], before[x]))]
    return bool(telling) and all(near(x.grad, now[x], 1e-9) for x in telling)


def _between(order: list[Value], before: Mapping[Value, Any]) -> bool:
    """Did the backward pass use numbers that are neither the present ones nor those of the forward pass?

    A gradient divided by that of its only user is the factor that the pass used. Two that agree are no accident.
    """
    uses = Counter(parent for node in order for parent in node.parents)
    factors: dict[Value, list[Any]] = {}
    for node in order:
        if node.rule and node.rule.name in ("mul", "dot") and node.grad:
            for place, x in enumerate(node.parents):
                factor = node.parents[place - len(node.parents) // 2]
                tells = before[factor] is not None and x.data  # a factor of 0 does not tell what the other one was
                if x.rule and uses[x] == 1 and not factor.rule and x.grad and tells:
                    factors.setdefault(factor, []).append(x.grad / node.grad)
    return any(
        len(used) > 1 and all(near(x, used[0], 1e-9) for x in used) and not near(used[0], before[factor])
        for factor, used in factors.items()
    )


def _passes(order: list[Value], known: set[Value], now: Mapping[Value, Any], before: Mapping[Value, Any]) -> int:
    """How many passes this result has had: its own constants have added up their gradients, and nothing sets them
    to zero."""
    constants = [x for x in order if not x.rule and not x.label and x not in known and before[x]]
    ratios = [float(x.grad / before[x]) for x in constants if x.grad and now[x] == before[x]]
    count = round(ratios[0]) if ratios and math.isfinite(ratios[0]) else 1
    return count if count > 1 and all(near(ratio, count, 1e-9) for ratio in ratios) else 1


# --- What people do to gradients on purpose ----------------------------------------------------------------


def _on_purpose(rows: list[tuple[Any, Any, Any]]) -> bool:
    """Were these gradients scaled, clipped, or joined by a weight decay? Of (gradient, that of the pass, number).

    Two that agree on a factor or a limit are no accident, nor is one by a number that a person would write.
    """
    scales = [gradient / this if this else math.inf for gradient, this, _ in rows]
    limits = [abs(row[0]) if 0 < scale < 1 else math.inf for row, scale in zip(rows, scales, strict=True)]
    decays = [(gradient - this) / number if number else math.inf for gradient, this, number in rows]
    signs = [math.copysign(1, number) * (gradient - this) for gradient, this, number in rows]
    return _agree(scales, 1.0) or _agree(limits) or _agree(decays, 0.5, 3e-3) or (len(rows) > 1 and _agree(signs))


def _agree(factors: list[Any], below: float = math.inf, tolerance: float = 1e-6) -> bool:
    """Are they one positive number below a limit? A single one must be short, such as 0.1 or 1/3."""
    first = float(factors[0]) if factors else math.inf
    if not 0 < first < below or first == math.inf or not all(near(x, first, tolerance) for x in factors):
        return False
    return len(factors) > 1 or any(near(x, float(f"{x:.2g}"), 1e-9) for x in (first, 1 / first))
