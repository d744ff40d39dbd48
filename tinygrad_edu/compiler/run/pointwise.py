"""Pointwise: what `tg.compile(..., backend="python")` returns. It runs example after example, on floats."""

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager
from numbers import Real
from typing import Any, NamedTuple

from ...engine.dispatch import without_frame
from ...engine.value import Value
from ..backends.straight import StraightProgram
from ..trace.checks import (
    captured,
    check_one_number,
    check_sizes,
    differentiated,
    disagreement_error,
    near,
    not_numbers,
    real_numbers,
    single_number,
)
from ..trace.lending import read_numbers, standing_in
from ..trace.nesting import flat_values, nested
from ..trace.placeholder import TAKE, Placeholder
from ..trace.surroundings import Facts, Given, Holds, Surroundings
from ..trace.tracing import Trace, trace_function
from .base import CompiledFunction
from .pipeline import compile_straight

Shape = tuple[int, ...]
Example = Sequence[list[float]]  # per argument its numbers, flat
SEQUENCES = (list, tuple, range)
ELSEWHERE = (OverflowError, ValueError, ZeroDivisionError)  # there the engine has inf, or an error of its own


class Pointwise(CompiledFunction):
    """A compiled function as straight-line Python, for functions that are evaluated at one point many times.

    It is called as `Compiled` is, with lists or arrays; examples run one by one, and gradients are lists. Where
    `math` raises, or a result is inf or nan, the example is evaluated eagerly: same errors.
    """

    def _options(self) -> dict[str, Any]:
        return {"verify": self.verify}

    def __call__(self, *batch: Any) -> float:
        """The mean of the function over the batch."""
        made, examples = self._prepared(batch, gradient=False)
        check_one_number(made.trace.shape, "mean")
        numbers = self._numbers()
        return sum(self._at(made, numbers, example)[0][0] for example in examples) / len(examples)

    def value_and_grad(self, *batch: Any) -> tuple[float, list[float]]:
        """The mean over the batch, and its derivatives by the parameters, in their order."""
        made, examples = self._prepared(batch, gradient=True)
        numbers = self._numbers()
        results = [self._at(made, numbers, example) for example in examples]
        n, (outputs, gradient) = len(results), results[0]
        if n == 1:
            return outputs[0], gradient
        gradient = [sum(column) / n for column in zip(*(gradient for _, gradient in results), strict=True)]
        return sum(outputs[0] for outputs, _ in results) / n, gradient

    def predict(self, *batch: Any) -> list[Any]:
        """What the function returns for every example, nested as the function nests it."""
        made, examples = self._prepared(batch, gradient=False)
        numbers = self._numbers()
        return [nested(self._at(made, numbers, example)[0], made.trace.shape) for example in examples]

    # --- Parameters -------------------------------------------------------------------------------------------

    def _read_parameters(self) -> list[float]:
        return list(map(float, read_numbers(self.parameters)))

    def _numbers(self) -> list[float]:
        return self._read_parameters() if self._theta is None else self._checked(self._theta)

    def _checked(self, theta: list[Any]) -> list[float]:
        return real_numbers(theta, len(self.parameters))

    def _pinned(self, made: "_Made", numbers: list[float]) -> AbstractContextManager[Any]:
        """Inside the block the parameters have these numbers, in this thread, and no gradient is changed."""
        return standing_in({**dict(made.contract.held.frozen), **dict(zip(self.parameters, numbers, strict=True))})

    # --- Examples ---------------------------------------------------------------------------------------------

    def _at(self, made: "_Made", numbers: list[float], example: Example) -> tuple[list[float], list[float]]:
        """The outputs and the gradient; by the engine where the program raises an error."""
        try:
            return made.run(numbers, example)
        except ELSEWHERE:
            with self._pinned(made, numbers):
                found = self._eager(made, example)
                return (found[:1], found[1:]) if made.contract.request[1] else (found, [])

    def program_for(self, batch: Sequence[Any], gradient: bool) -> "_Made":
        """The program that runs this batch, compared with the function."""
        return self._prepared(batch, gradient)[0]

    def _prepared(self, batch: Sequence[Any], gradient: bool) -> tuple["_Made", list[Example]]:
        """The program for a batch, made and verified if there is none yet, and the batch as examples."""
        names = self._argument_names(len(batch))
        read = [_rows(given, name) for given, name in zip(batch, names, strict=True)]
        arguments, shapes = [rows for rows, _ in read], tuple(shape for _, shape in read)
        check_sizes(names, [len(rows) for rows in arguments])
        made: _Made = self._programs.unchanged(lambda made: made.contract.request == (shapes, gradient))
        if made is None:
            made, facts = self._programs.known(lambda made: made.contract.request == (shapes, gradient))
        if made is None:
            made = self._new((shapes, gradient), facts)
            if made.failed:
                self._programs.warn_of_pass("'loops'", made.failed)
            self._programs.keep(made)
        self._latest = made
        examples: list[Example] = list(zip(*arguments, strict=True)) if arguments else [()]
        if self.verify and not made.verified and made.is_due():
            self._verify(made, examples[0])
        return made, examples

    def _new(self, request: Any, facts: Facts) -> "_Made":
        """The program for new shapes, or for other numbers around the function."""
        rest = request, facts, self._programs.surroundings
        if self._programs.knobs:
            try:
                return _Made(Given(self.original, self.parameters, self._programs.knobs), *rest)
            except Exception:  # it needs them as plain numbers
                self._programs.without_knobs()
        return _Made(Given(self.original, self.parameters), *rest)

    def _verify(self, made: "_Made", example: Example) -> None:
        """Compare the program with the eager function. Raises CompileError if they differ, also without loops."""
        wrong = self._disagreement(made, example)
        if wrong:
            made.write(loops=False)
            if self._disagreement(made, example):
                with self._pinned(made, self._read_parameters()):
                    again = [flat_values(self.original(*made.values(example)))[0] for _ in range(2)]
                raise disagreement_error(wrong, [[float(x.data) for x in result] for result in again])
            self._programs.warn_of_pass("'loops'", wrong)
        made.verified = wrong is not None

    def _disagreement(self, made: "_Made", example: Example) -> str | None:
        """What is wrong at two points nearby, and at this one; "" for nothing, None where the engine raises.

        Inputs and parameters are moved at random first, since zeros hide faults. On a kink rounding decides, so
        the program is right if it agrees more often than not.
        """
        rng, found = random.Random(0), list[str]()
        for moves in (True, True, False):
            numbers, near_by = self._read_parameters(), example
            if moves:
                numbers = [_moved(x, rng) for x in numbers]
                near_by = made.moved(example, rng)
            try:
                with self._pinned(made, numbers):  # another thread may train
                    expected = self._eager(made, near_by)
                outputs, gradients = made.run(numbers, near_by)
            except ELSEWHERE:
                continue  # evaluated eagerly anyway
            pairs = zip([*outputs, *gradients], expected, strict=True)
            wrong = (f"it gives {got!r}, and eagerly {e!r}" for got, e in pairs if not near(got, e, 1.0 + abs(e)))
            found.append(next(wrong, ""))
            if 2 * found.count("") > len(found):
                return ""
        return next(filter(None, found), None)

    def _eager(self, made: "_Made", example: Example) -> list[float]:
        """The loss and its gradient by the engine, or all outputs."""
        result = self.original(*made.values(example))
        if made.contract.request[1]:
            loss, gradient = differentiated(result, self.parameters)
            return [float(loss.data), *gradient]
        return [float(x.data) for x in flat_values(result)[0]]


def _moved(x: float, rng: random.Random) -> float:
    return x * (1 + 0.1 * rng.gauss(0, 1)) + 0.1 * rng.gauss(0, 1)


class PointContract(NamedTuple):
    """What must hold for a program to be used: the shapes and if it has a gradient, and numbers around it."""

    request: tuple[Any, bool]
    held: Holds


class _Made:
    """A program for one set of shapes."""

    def __init__(self, given: Given, request: tuple[Any, bool], facts: Facts, surroundings: Surroundings):
        self.given = given
        (shapes, gradient), parameters = request, given.parameters
        self.trace: Trace = trace_function(given.function, parameters, shapes)
        if gradient:
            check_one_number(self.trace.shape, "gradient")
        learned = set(parameters)
        constants = [x for x in self.trace.order() if not isinstance(x, Placeholder) and x not in learned]
        frozen = [pair for value in constants for pair in captured(value, learned)]
        held = Holds(surroundings.learn(facts), frozen, self.trace.state, given.knobs, surroundings.holders)
        self.contract = PointContract(request, held)
        picked = {node.parents[0] for node in self.trace.nodes if node.rule is TAKE}
        self._picks = [[x in picked for x in argument] for argument in self.trace.inputs]
        self.verified, self.calls, self.failed = False, 0, ""
        try:
            self.write()
        except Exception as error:
            self.failed = f"{type(error).__name__}: {error}"
            self.write(loops=False)
        used = {i for parameter in self.program.plan.parameters for i in parameter.array.places.ravel().tolist()}
        self.unused = [i for i in range(len(given.learned)) if gradient and i not in used]

    def is_due(self) -> bool:
        """Is it time to compare it? If the engine raises, in calls 1, 2, 4, 8 ... until one can be compared."""
        self.calls += 1
        return self.calls & (self.calls - 1) == 0

    def moved(self, example: Example, rng: random.Random) -> Example:
        """Inputs nearby. Indices stay, and so do whole numbers."""
        return [
            [x if picks or x.is_integer() else _moved(x, rng) for x, picks in zip(*argument, strict=True)]
            for argument in zip(example, self._picks, strict=True)
        ]

    def write(self, loops: bool = True) -> None:
        """Make the program."""
        self.program: StraightProgram = compile_straight(self.trace, self.contract.request[1], loops)
        self.source = self.program.source

    def run(self, numbers: list[float], example: Example) -> tuple[list[float], list[float]]:
        """The outputs and the gradient."""
        if not self.given.knobs:
            return self.program.run(numbers, example)
        outputs, gradient = self.program.run(numbers + self.given.numbers(), example)
        return outputs, gradient[: len(numbers)]

    def values(self, example: Example) -> list[Any]:
        """An example as the eager function takes it: nested lists of Values, with ints to pick by."""
        return [
            nested([_index(x) if picks else Value(x) for x, picks in zip(*argument, strict=True)], shape)
            for *argument, shape in zip(example, self._picks, self.trace.shapes, strict=True)
        ]


def _index(x: float) -> float:
    return int(x) if x.is_integer() else x  # of 0.5, the function itself says that it is no index


# --- Nested lists -----------------------------------------------------------------------------------------------


def _rows(given: Any, name: str) -> tuple[list[list[float]], Shape]:
    """The numbers of each example, flat, and the shape of one. Raises unless they are real and of one shape."""
    examples = given if isinstance(given, SEQUENCES) else _opened(given)
    if not isinstance(examples, SEQUENCES):
        if not isinstance(examples, Real):
            raise not_numbers(given, name)
        raise single_number(given, name)
    rows: list[list[float]] = [[] for _ in examples]
    return rows, _common([_read(x, numbers, name) for x, numbers in zip(examples, rows, strict=True)], name)


def _read(x: Any, numbers: list[float], name: str) -> Shape:
    """Append the numbers in x to a list, and return the shape of x."""
    if x.__class__ is float:  # what comes most often
        numbers.append(x)
        return ()
    if isinstance(x, SEQUENCES):
        return (len(x), *_common([_read(item, numbers, name) for item in x], name))
    if isinstance(x, Real):
        numbers.append(float(x))
        return ()
    opened = _opened(x)
    if opened.__class__ is x.__class__:  # nothing to open; NumPy's long complex numbers open as themselves
        raise not_numbers(x, name)
    return _read(opened, numbers, name)


def _common(shapes: list[Shape], name: str) -> Shape:
    """The shape that all rows have, () if there are none."""
    if shapes and shapes.count(shapes[0]) < len(shapes):
        raise ValueError(f"{name} is ragged: its rows are of different lengths. All examples need one shape.")
    return shapes[0] if shapes else ()


def _opened(x: Any) -> Any:
    """An array or a frame as nested lists, and a number of NumPy as one of Python, without NumPy."""
    x = without_frame(x)
    return x.tolist() if hasattr(x, "tolist") else x
