"""Lengths: one program for inputs of every length.

A recurrence does the same at each of its T stages. So its programs for two lengths differ in numbers only, and
each of these numbers is a + b * T. `any_length` makes a second program, for a length of its own, and compares the
statements of the two. What they agree on is a program with the length as a variable, which is printed once more:

    for t in range(20):             for t in range(7):             for t in range(T):
        Z1[t] = A1[t] @ W1    and       Z1[t] = A1[t] @ W1    ->       Z1[t] = A1[t] @ W1
    Z2 = A1[20] @ W2                Z2 = A1[7] @ W2                Z2 = A1[T] @ W2

For a third length this is a guess: the function may do something else when its input is long. So it is traced at
each length, which costs little, and there must be a + b * T operations of each kind. Then the program is compared
with the eager function, before its numbers are used.
"""

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from fractions import Fraction
from itertools import chain
from math import isclose
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..engine.value import Value
from .backends.numpy import Emitter
from .batches import Pick
from .build import Build, Request
from .checks import captured
from .example_tracer import SIDES
from .ir.routine import Access, Array, Axis, Expressions, Loop, Routine, Stmt
from .lowered import PARAMETER, Scan
from .pipeline import defined
from .placeholder import Placeholder
from .plan import Plan, lost_in_float32, plan_of
from .report import Groups
from .surroundings import Facts, Given, Holds
from .symbols import Symbol
from .tracing import Trace

OTHERS = (6, 7, 9, 11, 13, 17)  # lengths to compare with: the first one that is no number of the program
PEELED = 3  # so many stages may stand outside of a loop
NAMES = ("T", "N", "L", "length")  # what a length may be called
Axes = tuple[tuple[int, int], ...]  # (argument, axis)
Again = Callable[[Request, Sequence[NDArray[Any]]], tuple[Trace, Build]]


class Different(Exception):
    """Two programs differ in more than a length."""


class AnyLength:
    """A program for inputs of every length. Raises Different unless two programs, for two lengths, are alike.

    axes    those of the inputs that have the length
    sizes   the two lengths, the first one of what the user gave
    agreed  the lengths at which the program agrees with the eager function
    second  the program for the second length
    """

    def __init__(self, axes: Axes, *ends: tuple[Trace, Build]):
        (_, first), (_, second) = ends
        if _assumptions(first) != _assumptions(second):
            raise Different
        self.axes: tuple[tuple[int, int], ...] = axes
        self.agreed: set[int] = set[int]()
        self._first = first
        self.sizes: tuple[int, int] = self.length(first.contract.request), self.length(second.contract.request)
        self._numbers = set.intersection(*({_number(x) for x in _constants_of(traced)} for traced, _ in ends))
        self._facts = tuple(
            (made.contract.request.shapes, self._kinds(traced), tuple(map(_range_of, made.contract.picks)))
            for traced, made in ends
        )
        # A slice clears the gradient. Then the program writes those of the parameters that are used.
        self._unused = first.unused if first.unused == second.unused else slice(None)
        plans = [plan_of(made.lowered, first.contract.request.gradient) for made in (first, second)]
        name = next((name for name in NAMES if name not in _names_of(plans[0])), NAMES[-1])
        plan = _Joined(self.sizes, name, plans[0].program.book).both(*plans)
        groups, products = len(Groups(first.lowered)), first.lowered.n_products
        title = f"Inputs of any length. Groups: {groups}, matrix products: {products}"
        refusal = lost_in_float32(first.lowered)
        n_inputs = len(first.contract.request.shapes)
        self.source: str = Emitter(plan, n_inputs, title, refusal, (name, self.sizes[0])).source
        self._build = defined(self.source)["build"]
        self.second: Build = self.of(second)

    def length(self, request: Request) -> int:
        """The length of inputs of these shapes. Raises IndexError if they have too few axes."""
        argument, axis = self.axes[0]
        return request.shapes[argument][axis]

    def of(self, made: Build) -> Build:
        """The program in place of one that was made for a length."""
        length = self.length(made.contract.request)
        build = {"build": lambda parameters, B, dtype: self._build(parameters, B, dtype, length)}
        verified = length in self.agreed
        return replace(
            made, source=self.source, namespace=build, lengths=self, verified=verified, compared=set(), _runs={}
        )

    def at(self, request: Request, traced: Trace, given: Given, facts: Facts) -> Build | None:
        """The program for these shapes, if the function does the same there as at the two lengths; else None."""
        with contextlib.suppress(IndexError, Different):
            shapes, kinds, ranges = self._between(self._facts, self.length(request))
            is_like = replace(self._first.contract.request, shapes=shapes) == request and not _paths(traced)
            guards, parameters = self._first.contract.guards, set(traced.parameters)
            is_like = is_like and bool(guards) == bool(traced.by_example)  # max of one number asks nothing
            if is_like and kinds == self._kinds(traced):
                frozen = chain(*(captured(value, parameters) for value in _constants_of(traced)))
                contract = replace(
                    self._first.contract,
                    request=request,
                    given=given,
                    held=Holds(facts, [*frozen], traced.state, given.knobs),
                    picks=[Pick(argument, np.arange(*ends), n) for argument, ends, n in ranges],
                    guards=guards and replace(guards, examples=traced.by_example),
                    elsewhere=set(),
                )
                found = replace(
                    self._first,
                    contract=contract,
                    lowered=None,
                    output_shape=traced.shape,
                    loss=traced.loss,
                    unused=self._unused,
                )
                return self.of(found)
        return None

    def _kinds(self, traced: Trace) -> Counter[Any]:
        """How often a graph has each operation, and each constant that those of both lengths have."""
        numbers = map(_number, _constants_of(traced))
        kinds = Counter[Any](number if number in self._numbers else "another" for number in numbers)
        for rule, n in Counter(node.rule for node in traced.nodes if node.rule).items():
            kinds[rule.name, repr(rule.parameters)] += n
        return kinds

    def _between(self, pair: Any, length: int) -> Any:
        """A number, or those of a container, for this length. Raises Different unless they are a + b * T."""
        first, second = pair
        if first == second:
            return first
        if isinstance(first, tuple) and len(first) == len(second):
            return tuple(self._between(both, length) for both in zip(first, second, strict=True))
        if isinstance(first, Counter):
            return Counter({key: self._between((first[key], second[key]), length) for key in first | second})
        at = first + Fraction(second - first, self.sizes[1] - self.sizes[0]) * (length - self.sizes[0])
        if at.denominator > 1:
            raise Different
        return int(at)


def _assumptions(made: Build) -> Any:
    """What a program takes for granted, in a form to compare."""
    return (
        made.names,
        made.contract.assumed,
        made.contract.kinds,
        [(id(thing), name) for thing, name, _ in made.contract.held.state],
    )


def _paths(traced: Trace) -> list[Any]:
    """What the function asked its examples for, besides indices."""
    return [step for run in traced.by_example.runs for step in run.path] if traced.by_example else []


def _constants_of(traced: Trace) -> list[Value]:
    """The Values that a function uses, besides its inputs and parameters."""
    operands = set[Any](traced.outputs).union(*(map(attrgetter(side), traced.nodes) for side in SIDES))
    operands.update(*[x for x in operands if x.__class__ is tuple])
    operands -= set(traced.parameters)
    return [x for x in operands if isinstance(x, Value) and not isinstance(x, Placeholder)]


def _number(constant: Value) -> str:
    return repr(float(constant.data))


def _range_of(pick: Pick) -> tuple[int, tuple[int, int, int], int]:
    """The argument, the range of its positions, and the number of options. Raises Different if it is no range."""
    steps = set(np.diff(pick.positions).tolist()) or {1}
    if len(steps) > 1:
        raise Different
    return pick.argument, (int(pick.positions[0]), int(pick.positions[-1]) + 1, *steps), pick.n_options


# --- A second program -----------------------------------------------------------------------------------------


def any_length(traced: Trace, made: Build, arrays: Sequence[NDArray[Any]], again: Again) -> Build:
    """The program of a trace with the length of its inputs as a variable; as it is, where this is not possible.

    again(request, arrays) traces the function, and makes the program, for other shapes.
    """
    loops = [array.operation.length for array in made.lowered.arrays if isinstance(array.operation, Scan)]
    if _paths(traced) or made.exact:
        return made
    taken = {*loops, *chain(*(array.shape for array in made.lowered.arrays))}
    other = next((n for n in OTHERS if n not in taken), OTHERS[-1])
    for axes in _axes(made.contract.request.shapes, loops):
        inputs = resized(arrays, axes, other)
        with contextlib.suppress(Exception):  # the function may not take such inputs
            request = replace(made.contract.request, shapes=tuple(array.shape[1:] for array in inputs))
            return AnyLength(axes, (traced, made), again(request, inputs)).of(made)
    return made


def _axes(shapes: Sequence[tuple[int, ...]], loops: Sequence[int]) -> Iterator[Axes]:
    """The axes that loops may go over, those of one length together: all first ones, then one alone."""
    for size in sorted({n for shape in shapes for n in shape if any(n - PEELED <= loop <= n for loop in loops)}):
        every = [(i, axis) for i, shape in enumerate(shapes) for axis, n in enumerate(shape) if n == size]
        first = tuple(place for place in every if place[1] == 0)
        yield from filter(None, dict.fromkeys([first, *((place,) for place in every)]))


def resized(arrays: Sequence[NDArray[Any]], axes: Axes, length: int) -> list[NDArray[Any]]:
    """Inputs of another length: their beginning, or all of them several times."""
    found = list(arrays)
    for argument, axis in axes:
        size = found[argument].shape[axis + 1]
        found[argument] = np.take(found[argument], np.arange(length) % size, axis + 1)
    return found


# --- Two plans as one -----------------------------------------------------------------------------------------


@functools.total_ordering
class Size:
    """slope * T + shift. In a comparison, T is larger than any number."""

    def __init__(self, slope: Any, shift: Any, name: str):
        self.slope, self.shift, self.name = slope, shift, name

    def _parts(self, x: Any) -> tuple[Any, Any]:
        return (x.slope, x.shift) if isinstance(x, Size) else (0, x)

    def __add__(self, x: Any) -> Any:
        slope, shift = self._parts(x)
        return _size(self.slope + slope, self.shift + shift, self.name)

    def __mul__(self, x: Any) -> Any:
        if isinstance(x, Size):
            raise Different  # T * T is no size of a recurrence
        return _size(self.slope * x, self.shift * x, self.name)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, x: Any) -> Any:
        return self + -x

    def __rsub__(self, x: Any) -> Any:
        return -self + x

    def __eq__(self, x: object) -> bool:
        return (self.slope, self.shift) == self._parts(x)

    def __lt__(self, x: Any) -> bool:
        return (self.slope, self.shift) < self._parts(x)

    def __hash__(self) -> int:
        return hash((self.slope, self.shift))

    def __str__(self) -> str:
        return _sum(self.slope, self.shift, self.name)

    def __repr__(self) -> str:
        """As a part of a formula."""
        text = str(self)
        return text if text == self.name else f"({text})"

    def __format__(self, spec: str) -> str:
        return repr(self)


class Quotient(NamedTuple):
    """factor / below, where `below` is T + a number."""

    factor: float
    below: Any

    def __repr__(self) -> str:
        return f"({self.factor:.12g} / {self.below!r})"


def _size(slope: Any, shift: Any, name: str) -> Any:
    return Size(slope, shift, name) if slope else shift


def _sum(slope: Any, shift: Any, name: str) -> str:
    """slope * name + shift."""
    text = name if slope == 1 else f"{slope} * {name}"
    if slope == -1 and shift > 0:
        return f"{shift:.12g} - {name}"
    return text + (f" {'-' if shift < 0 else '+'} {abs(shift):.12g}" if shift else "")


class _Joined:
    """Joins two plans, part by part. What is the same in both stays as it is in the first."""

    def __init__(self, sizes: tuple[int, int], name: str, book: Expressions):
        self.sizes, self.name, self.book = sizes, name, book
        self._numbers: dict[Any, Any] = {}
        self._pairs: dict[tuple[int, int], Any] = {}
        self._others: dict[Any, Any] = {}  # axis or array -> that of the second plan
        self._axes: dict[Axis, Axis] = {}

    def both(self, x: Any, y: Any) -> Any:
        """x and y as one. Raises Different if they differ in more than numbers a + b * T and a / (b + T)."""
        if x is y:
            return x
        if type(x) is not type(y):
            raise Different
        match x:
            case bool() | str():
                pass
            case int() | float():
                return x if repr(x) == repr(y) else self._number(x, y)
            case dict():
                keys = self.both([*x], [*y])
                return dict(zip(keys, self.both([*x.values()], [*y.values()]), strict=True))
            case tuple() | list() if len(x) == len(y):
                parts = list(map(self.both, x, y))
                if all(part is own for part, own in zip(parts, x, strict=True)):
                    return x
                return type(x)(*parts) if hasattr(x, "_fields") else type(x)(parts)
            case np.ndarray():
                if x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind == "f"):
                    return x
                raise Different
            case Axis() | Array() | Access() | Symbol() | Stmt() | Loop() | Routine():
                return self._object(x, y)
        if x != y:
            raise Different
        return x

    def _object(self, x: Any, y: Any) -> Any:
        key = id(x), id(y)
        if key not in self._pairs:
            if isinstance(x, Axis | Array) and self._others.setdefault(x, y) is not y:
                raise Different
            self._pairs[key] = self._new(x, y)
        return self._pairs[key]

    def _new(self, x: Any, y: Any) -> Any:
        if isinstance(x, Axis):
            if (size := self.both(x.size, y.size)) is x.size:
                return x
            self._axes[x] = axis = Axis(size)
            axis.number = x.number  # the order of axes
            return axis
        if isinstance(x, Symbol):
            args = self.both((x.op, *x.args), (y.op, *y.args))[1:]
            if all(now is own for now, own in zip(args, x.args, strict=True)):
                return x
            return self.book.special(x.op, args, (self._axes.get(axis, axis) for axis in x.axes))
        names = [field.name for field in fields(x) if field.name not in ("book", "leaves")]
        if isinstance(x, Array) and x.source == PARAMETER:
            names.remove("places")  # see VectorPiece
        before = {name: getattr(x, name) for name in names}
        after = {name: self.both(own, getattr(y, name)) for name, own in before.items()}
        return x if all(after[name] is before[name] for name in names) else replace(x, **after)

    def _number(self, x: Any, y: Any) -> Any:
        key = type(x), x, y
        if key not in self._numbers:
            self._numbers[key] = self._new_number(x, y)
        return self._numbers[key]

    def _new_number(self, x: Any, y: Any) -> Any:
        m, n = self.sizes
        slope, rest = divmod(y - x, n - m)
        if not rest:
            return Size(int(slope), x - slope * m, self.name)
        shift = round((y * n - x * m) / (x - y))
        factor = float(f"{x * (m + shift):.12g}")
        is_near = abs(shift) <= max(m, n)  # with a large b, a / (b + T) fits any two numbers that are nearly equal
        pairs = ((m, x), (n, y))
        if is_near and all(isclose(factor / (size + shift), number, rel_tol=1e-15) for size, number in pairs):
            return Quotient(factor, Size(1, shift, self.name))
        raise Different


def _names_of(plan: Plan) -> set[str]:
    """The names of all arrays."""
    arrays = [*(stmt.out.array for stmt, _ in plan.program.statements()), *plan.program.leaves]
    return {array.name for array in arrays}.union(plan.inputs.values())
