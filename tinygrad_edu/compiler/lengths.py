"""Lengths: one program for inputs of every length.

A recurrence does the same at each of its T stages. So its programs for two lengths differ in numbers only, and
each of these numbers is a + b * T. `any_length` makes a second program, for a length of its own, and compares the
two word by word. What they agree on is a program with the length as a variable:

    for t in range(20):             for t in range(7):             for t in range(T):
        Z1[t] = A1[t] @ W1    and       Z1[t] = A1[t] @ W1    ->       Z1[t] = A1[t] @ W1
    Z2 = A1[20] @ W2                Z2 = A1[7] @ W2                Z2 = A1[T] @ W2

For a third length this is a guess: the function may do something else when its input is long. So it is traced at
each length, which costs little, and there must be a + b * T operations of each kind. Then the program is compared
with the eager function, before its numbers are used.
"""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from math import isclose
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.value import Value
from .backends.numpy_statements import WIDTH
from .batches import Pick
from .checks import captured
from .examples import SIDES
from .loops import Loop
from .pipeline import Made, Request, defined
from .tracing import Placeholder, Trace

OTHERS = (6, 7, 9, 11, 13, 17)  # lengths to compare with: the first one that is no number of the program
PEELED = 3  # so many stages may stand outside of a loop
NAMES = ("T", "N", "L", "length")  # what a length may be called
NUMBER = re.compile(r"(?<![\w.])(\d+(?:\.\d*)?(?:e[-+]?\d+)?)(?![\w.])")
COMMENT = re.compile(r"( *)(# .*?) +(\([^()]*\))")
HEAD, EXAMPLES = "def build(parameters, B, dtype=np.float64", "batches of B examples"
OPERATORS = tuple("+-*/@%.")  # next to them a sum needs parentheses

Axes = tuple[tuple[int, int], ...]  # (argument, axis)
Again = Callable[[Request, Sequence[NDArray[Any]]], tuple[Trace, Made]]


class Different(Exception):
    """Two programs differ in more than a length."""


class AnyLength:
    """A program for inputs of every length. Raises Different unless two programs, for two lengths, are alike.

    axes    those of the inputs that have the length
    sizes   the two lengths, the first one of what the user gave
    agreed  the lengths at which the program agrees with the eager function
    second  the program for the second length
    """

    def __init__(self, axes: Axes, *ends: tuple[Trace, Made]):
        (_, first), (_, second) = ends
        if _assumptions(first) != _assumptions(second):
            raise Different
        self.axes, self.agreed, self._first = axes, set[int](), replace(first, shorter=None)
        self.sizes = self.length(first.request), self.length(second.request)
        self._numbers = set.intersection(*({_number(x) for x in _constants_of(traced)} for traced, _ in ends))
        self._facts = tuple(
            (made.request.shapes, self._kinds(traced), tuple(map(_range_of, made.picks))) for traced, made in ends
        )
        # A slice clears the gradient. Then the program writes those of the parameters that are used.
        self._unused = first.unused if first.unused == second.unused else slice(None)
        self.source = _Text(self.sizes).program(first.source, second.source)
        self._build = defined(self.source)["build"]
        self.second = self.of(second)

    def length(self, request: Request) -> int:
        """The length of inputs of these shapes. Raises IndexError if they have too few axes."""
        argument, axis = self.axes[0]
        return request.shapes[argument][axis]

    def of(self, made: Made) -> Made:
        """The program in place of one that was made for a length."""
        length = self.length(made.request)
        build = {"build": lambda parameters, B, dtype: self._build(parameters, B, dtype, length)}
        verified = length in self.agreed
        return replace(made, source=self.source, namespace=build, lengths=self, verified=verified, _runs={})

    def at(self, request: Request, traced: Trace) -> Made | None:
        """The program for these shapes, if the function does the same there as at the two lengths; else None."""
        with contextlib.suppress(IndexError, Different):
            shapes, kinds, ranges = self._between(self._facts, self.length(request))
            is_like = replace(self._first.request, shapes=shapes) == request and not _paths(traced)
            if is_like and kinds == self._kinds(traced):
                guards, parameters = self._first.guards, set(traced.parameters)
                found = replace(
                    self._first,
                    request=request,
                    lowered=None,
                    output_shape=traced.shape,
                    loss=traced.loss,
                    frozen=[*chain(*(captured(value, parameters) for value in _constants_of(traced)))],
                    state=traced.state,
                    picks=[Pick(argument, np.arange(*ends), n) for argument, ends, n in ranges],
                    unused=self._unused,
                    guards=guards and replace(guards, examples=traced.by_example),
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


def _assumptions(made: Made) -> Any:
    """What a program takes for granted, in a form to compare."""
    return made.names, made.assumed, made.kinds, [(id(thing), name) for thing, name, _ in made.state]


def _paths(traced: Trace) -> list[Any]:
    """What the function asked its examples for, besides indices."""
    return [step for run in traced.by_example.runs for step in run.path] if traced.by_example else []


def _constants_of(traced: Trace) -> list[Value]:
    """The Values that a function uses, besides its inputs and parameters."""
    operands = set[Any](traced.outputs).union(*(map(attrgetter(side), traced.nodes) for side in SIDES))
    operands.update(*[x for x in operands if x.__class__ is tuple])
    operands -= set(traced.parameters)
    return [x for x in operands if isinstance(x, Value) and x.__class__ is not Placeholder]


def _number(constant: Value) -> str:
    return repr(float(constant.data))


def _range_of(pick: Pick) -> tuple[int, tuple[int, int, int], int]:
    """The argument, the range of its positions, and the number of options. Raises Different if it is no range."""
    steps = set(np.diff(pick.positions).tolist()) or {1}
    if len(steps) > 1:
        raise Different
    return pick.argument, (int(pick.positions[0]), int(pick.positions[-1]) + 1, *steps), pick.n_options


# --- A second program -----------------------------------------------------------------------------------------


def any_length(traced: Trace, made: Made, arrays: Sequence[NDArray[Any]], again: Again) -> Made:
    """The program of a trace with the length of its inputs as a variable; as it is, where this is not possible.

    again(request, arrays) traces the function, and makes the program, for other shapes.
    """
    loops = [array.operation.length for array in made.lowered.arrays if isinstance(array.operation, Loop)]
    if _paths(traced) or made.exact or HEAD not in made.source:
        return made
    body, *_ = made.source.partition("\n    return run\n")
    taken = set(map(float, NUMBER.findall(body)))
    other = next((n for n in OTHERS if n not in taken), OTHERS[-1])
    for axes in _axes(made.request.shapes, loops):
        inputs = resized(arrays, axes, other)
        with contextlib.suppress(Exception):  # the function may not take such inputs
            request = replace(made.request, shapes=tuple(array.shape[1:] for array in inputs))
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


# --- Text -----------------------------------------------------------------------------------------------------


class _Text:
    """Two sources as one, with the length as a variable."""

    def __init__(self, sizes: tuple[int, int]):
        self.sizes, self.name = sizes, ""

    def program(self, first: str, second: str) -> str:
        """The source. Raises Different if the two differ in more than numbers a + b * T and a / (b + T)."""
        self.name = next((name for name in NAMES if not re.search(rf"(?<![\w.]){name}\b", first)), NAMES[-1])
        lines, others = first.splitlines(), second.splitlines()
        if len(lines) != len(others):
            raise Different
        lines[0], others[0] = (re.sub(r"(?<=\d),(?=\d{3})", "", title) for title in (lines[0], others[0]))
        text = "\n".join(map(self._line, lines, others)) + "\n"
        text = text.replace(EXAMPLES, f"{EXAMPLES} of length {self.name}", 1)
        return text.replace(HEAD, f"{HEAD}, {self.name}={self.sizes[0]}", 1)

    def _line(self, first: str, second: str) -> str:
        if first == second:
            return first
        if (mine := COMMENT.fullmatch(first)) and (other := COMMENT.fullmatch(second)):
            formula = min(mine[2], other[2], key=len)  # a long formula is not written out
            with contextlib.suppress(Different):
                formula = self._words(mine[2], other[2])
            indent, shape = mine[1], self._words(mine[3], other[3])
            return f"{indent}{formula:<{WIDTH + 4}}  {shape}"
        return self._words(first, second)

    def _words(self, first: str, second: str) -> str:
        words, others = NUMBER.split(first), NUMBER.split(second)
        if words[::2] != others[::2]:
            raise Different
        for i in range(1, len(words), 2):
            is_first = words[i - 1].rstrip()[-1:] not in OPERATORS
            words[i] = self._number(
                words[i], others[i], is_first, is_first and words[i + 1].lstrip()[:1] not in OPERATORS
            )
        return "".join(words)

    def _number(self, first: str, second: str, is_first: bool, is_whole: bool) -> str:
        """A number as text; in parentheses unless it is the whole formula, or for a quotient the first part."""
        if first == second:
            return first
        (x, y), (m, n) = (float(first), float(second)), self.sizes
        slope, rest = divmod(y - x, n - m)
        if not rest:
            return _sum(int(slope), x - slope * m, self.name, is_whole)
        shift = round((y * n - x * m) / (x - y))
        factor = float(f"{x * (m + shift):.12g}")
        is_near = abs(shift) <= max(m, n)  # with a large b, a / (b + T) fits any two numbers that are nearly equal
        pairs = ((m, x), (n, y))
        if is_near and all(isclose(factor / (size + shift), number, rel_tol=1e-15) for size, number in pairs):
            text = f"{factor:.12g} / {_sum(1, shift, self.name, False)}"
            return text if is_first else f"({text})"
        raise Different


def _sum(slope: int, shift: float, name: str, is_whole: bool) -> str:
    """slope * name + shift."""
    text = name if slope == 1 else f"{slope} * {name}"
    if slope == -1 and shift > 0:
        text = f"{shift:.12g} - {name}"
    elif shift:
        text += f" {'-' if shift < 0 else '+'} {abs(shift):.12g}"
    return text if is_whole or text == name else f"({text})"
