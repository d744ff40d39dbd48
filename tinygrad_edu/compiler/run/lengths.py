"""Lengths: one program for inputs of every length.

A recurrence does the same at each of its T stages. So its programs for two lengths differ in numbers only, and
each of these numbers is a + b * T. `any_length` makes two programs, for lengths of its own, and compares their
statements. What they agree on is a program with the length as a variable, which is printed once more:

    for t in range(12):             for t in range(10):            for t in range(T):
        Z1[t] = A1[t] @ W1    and       Z1[t] = A1[t] @ W1    ->       Z1[t] = A1[t] @ W1
    Z2 = A1[12] @ W2                Z2 = A1[10] @ W2               Z2 = A1[T] @ W2

An encoder and a decoder have a length each, T and N: for each of them there is one more program, in which only
this length differs. Positions that a program gathers, as for windows or backwards, become a formula.

For a third length this is a guess: the function may do something else when its input is long. So it is traced at
each length, which costs little, and there must be a + b * T operations of each kind. Then the program is compared
with the eager function, before its numbers are used.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.value import Value
from ..backends.numpy import Emitter
from ..find.lowered import Scan
from ..ir.plan import plan_of
from ..trace.checks import captured
from ..trace.surroundings import Closure, Facts, Holds
from ..trace.tracing import Trace
from .batches import Pick
from .build import Build, Request
from .joining import Different, Joined
from .pipeline import defined
from .report import Groups

OTHERS = range(10, 30, 2)  # lengths to compare; in shorter loops, stages that differ at both ends may leave none
ODD = 3  # so much longer are those for an odd length, where two loops may meet in the middle
MANY = 1_000  # arrays of programs, after which no other lengths are tried: some programs grow with them
LONG = 100  # stages: the program for so many takes longer to make than those for two other lengths,
STAGE = 8  # if a stage has so many nodes
PEELED = 3  # so many stages may stand outside of a loop
NAMES = ("T", "N", "L", "S", "length", "length_2")  # what lengths may be called
Axes = tuple[tuple[int, int], ...]  # (argument, axis) of those that have one length
Again = Callable[[Request, Sequence[NDArray[Any]]], tuple[Trace, Build]]


class AnyLength:
    """A program for inputs of every length. Raises Different unless the programs for some lengths are alike.

    axes    for each length, those of the inputs that have it
    own     the lengths that the function was called with: its defaults
    sizes   for each length, that of the first program, and that of the program in which it differs
    """

    def __init__(self, axes: Sequence[Axes], own: Sequence[int], ends: Sequence[tuple[Trace, Build]], write: Any):
        first = ends[0][1]
        if any(build.exact or _assumptions(build) != _assumptions(first) for _, build in ends):
            raise Different
        self.axes: Sequence[Axes] = axes
        self._first = first
        lengths = [self.lengths(build.contract.request) for _, build in ends]
        self.sizes: list[tuple[int, int]] = [(lengths[0][i], lengths[1 + i][i]) for i in range(len(axes))]
        self._numbers = set.intersection(*({_number(x) for x in traced.constants()} for traced, _ in ends))
        self._facts = [
            (build.contract.request.shapes, self._kinds(traced), tuple(map(_range_of, build.contract.picks)))
            for traced, build in ends
        ]
        # A slice clears the gradient. Then the program writes those of the parameters that are used.
        self._unused = first.unused if all(build.unused == first.unused for _, build in ends) else slice(None)
        plans = [plan_of(build.lowered, first.contract.request.gradient) for _, build in ends]
        taken = {array.name for array in plans[0].program.arrays()}.union(plans[0].inputs.values())
        names = tuple([name for name in NAMES if name not in taken][: len(axes)])
        joined = Joined(self.sizes, names, plans[0].program.book)
        plan = joined.join(*plans)
        self._steps = joined.steps
        self.lowered: Any = first.lowered
        alike = {(other.shape, len(build.contract.held.frozen)) for other, build in ends}
        self._needs_no_trace = len(alike) == 1  # else a change of a Value that a stage reads would not be noticed
        groups, products = len(Groups(first.lowered)), first.lowered.n_products
        title = f"Inputs of any length. Groups: {groups}, matrix products: {products}"
        n_inputs = len(first.contract.request.shapes)
        self.source: str = Emitter(plan, n_inputs, title, dict(zip(names, own, strict=True))).source
        build = defined(self.source)["build"]
        self._namespace: Callable[..., dict[str, Any]] = lambda *lengths: {
            "build": lambda parameters, B, dtype: build(parameters, B, dtype, *lengths)
        }
        if write:  # another language, and NumPy's program to compare it with
            plans = [plan_of(end.lowered, first.contract.request.gradient, has_backward=False) for _, end in ends]
            plan, in_numpy = Joined(self.sizes, names, plans[0].program.book).join(*plans), self._namespace
            first_axes = dict(zip(names, (own[0] for own in axes), strict=True))
            self.source, namespace = write(plan, n_inputs, title, first_axes)
            self._namespace = lambda *lengths: namespace | {"numpy": lambda: in_numpy(*lengths)}

    def lengths(self, request: Request) -> tuple[int, ...]:
        """The lengths of inputs of these shapes. Raises IndexError if they have too few axes."""
        return tuple(request.shapes[argument][axis] for (argument, axis), *_ in self.axes)

    def at(self, request: Request, traced: Trace | None, closure: Closure, facts: Facts) -> Build | None:
        """The program for these shapes, if the function does the same there as at the two lengths; else None.

        traced=None: the caller compares the program with the function, which needs no trace.
        """
        with contextlib.suppress(IndexError, Different):
            lengths, first, guards = self.lengths(request), self._first, self._first.contract.guards
            if any((n - m) % step for n, (m, _), step in zip(lengths, self.sizes, self._steps, strict=True)):
                return None  # the loop over pairs of stages has a middle
            shapes, kinds, ranges = self._between(self._facts, lengths)
            then = first.contract.held
            held = Holds(facts, [*then.frozen], then.state, closure.knobs, numbers=then.numbers)
            picks = [Pick(argument, np.arange(*ends), n) for argument, ends, n in ranges]
            contract = replace(first.contract, request=request, closure=closure, held=held, picks=picks)
            if replace(first.contract.request, shapes=shapes) != request:
                return None
            other = replace(
                first,
                contract=contract,
                source=self.source,
                namespace=self._namespace(*lengths),
                lowered=None,
                unused=self._unused,
                lengths=self,
                compared=set(),
                derivatives={},
                _runs={},
            )
            if traced is None:
                return other if self._needs_no_trace and not guards else None
            parameters = set(traced.parameters)
            is_like = not _paths(traced) and bool(guards) == bool(
                traced.by_example
            )  # max of one number asks nothing
            if is_like and kinds == self._kinds(traced):
                frozen = chain(*(captured(value, parameters) for value in traced.constants()))
                contract.held = Holds(facts, [*frozen], traced.state, closure.knobs)
                contract.guards = guards and replace(guards, examples=traced.by_example)
                other.output_shape, other.loss = traced.shape, traced.loss
                return other
        return None

    def _kinds(self, traced: Trace) -> Counter[Any]:
        """How often a graph has each operation, and each constant that the graphs of both lengths have."""
        numbers = map(_number, traced.constants())
        kinds = Counter[Any](number if number in self._numbers else "another" for number in numbers)
        for rule, n in Counter(node.rule for node in traced.nodes if node.rule).items():
            kinds[rule.name, repr(rule.parameters)] += n
        return kinds

    def _between(self, facts: Sequence[Any], lengths: Sequence[int]) -> Any:
        """A number, or those of a container, for these lengths. Raises Different unless they are whole."""
        first = facts[0]
        if all(other == first for other in facts):
            return first
        if isinstance(first, tuple) and len({*map(len, facts)}) == 1:
            return tuple(self._between(each, lengths) for each in zip(*facts, strict=True))
        if isinstance(first, Counter):
            keys = {key for each in facts for key in each}
            return Counter({key: self._between([each[key] for each in facts], lengths) for key in keys})
        at = Fraction(first)
        for other, length, (m, n) in zip(facts[1:], lengths, self.sizes, strict=True):
            at += Fraction(other - first, n - m) * (length - m)
        if at.denominator > 1:
            raise Different
        return int(at)


def _assumptions(build: Build) -> Any:
    """What a program takes for granted, in a form to compare."""
    return (
        build.names,
        build.contract.assumed,
        build.contract.kinds,
        [(id(thing), name) for thing, name, _ in build.contract.held.state],
    )


def _paths(traced: Trace) -> list[Any]:
    """What the function asked its examples for, besides indices."""
    return [step for run in traced.by_example.runs for step in run.path] if traced.by_example else []


def _number(constant: Value) -> str:
    return repr(float(constant.data))


def _range_of(pick: Pick) -> tuple[int, tuple[int, int, int], int]:
    """The argument, the range of its positions, and the number of options. Raises Different if it is no range."""
    steps = set(np.diff(pick.positions).tolist()) or {1}
    if len(steps) > 1:
        raise Different
    return pick.argument, (int(pick.positions[0]), int(pick.positions[-1]) + 1, *steps), pick.n_options


# --- Other programs -------------------------------------------------------------------------------------------


def any_length(
    traced: Trace, request: Request, build: Build | None, arrays: Sequence[NDArray[Any]], again: Again, write: Any
) -> Iterator[AnyLength]:
    """The programs with the lengths of the inputs as variables that may take the place of the program of a trace.

    build: that program; None for inputs so long that the program for any length comes first, if there is one.
    again(request, arrays) traces the function, and makes the program, for other shapes. write(plan, number of
    inputs, title, lengths) gives source and namespace in another language than NumPy's; or None.
    """
    if _paths(traced) or (build and build.exact):
        return
    taken: set[Any] = {*chain(*request.shapes)}
    loops = [n for n in taken if LONG <= n <= len(traced.nodes) / STAGE]
    if build:
        every = build.lowered.arrays
        loops = [array.operation.length for array in every if isinstance(array.operation, Scan)]
        taken = {*loops, *chain(*(array.shape for array in every))}

    def at(axes: Sequence[Axes], lengths: Sequence[int]) -> tuple[Trace, Build]:
        inputs = resized(arrays, axes, lengths)
        return again(replace(request, shapes=tuple(array.shape[1:] for array in inputs)), inputs)

    n_arrays = 0
    free = [n for n in OTHERS if not taken & {n, n + ODD}]
    for axes in _axes(request.shapes, loops):
        if n_arrays > MANY:
            return
        own = [request.shapes[argument][axis] for (argument, axis), *_ in axes]
        # Both directions meet at a stage in the middle: lengths are odd where the function's are, and longer.
        start, others = (
            [n + ODD * (size % 2) for n, size in zip(some, own, strict=False)] for some in (free[len(own) :], free)
        )
        with contextlib.suppress(Exception):  # the function may not take such inputs
            ends = [at(axes, start)]
            ends += [at(axes, [*start[:i], others[i], *start[i + 1 :]]) for i in range(len(own))]
            n_arrays += sum(len(tried.lowered.arrays) for _, tried in ends)
            yield AnyLength(axes, own, ends, write)


def _axes(shapes: Sequence[tuple[int, ...]], loops: Sequence[int]) -> Iterator[Sequence[Axes]]:
    """The axes that loops may go over, those of one length together: all first ones; then one length or axis."""
    choices: list[Axes] = []
    firsts: list[Axes] = []
    stages = [k * loop for loop in loops for k in (1, 2)]  # those of both directions may come in pairs
    for size in sorted({n for shape in shapes for n in shape if any(n - PEELED <= m <= n for m in stages)}):
        every = [(i, axis) for i, shape in enumerate(shapes) for axis, n in enumerate(shape) if n == size]
        first = tuple(place for place in every if place[1] == 0)
        firsts += [first] if first else []
        choices += filter(None, dict.fromkeys([first, *((place,) for place in every)]))
    yield from [sorted(firsts)] if len(firsts) > 1 else []
    yield from ((axes,) for axes in choices)


def resized(arrays: Sequence[NDArray[Any]], axes: Sequence[Axes], lengths: Sequence[int]) -> list[NDArray[Any]]:
    """Inputs of other lengths: their beginning, or all of them several times."""
    inputs = list(arrays)
    for places, length in zip(axes, lengths, strict=True):
        for argument, axis in places:
            size = inputs[argument].shape[axis + 1]
            inputs[argument] = np.take(inputs[argument], np.arange(length) % size, axis + 1)
    return inputs
