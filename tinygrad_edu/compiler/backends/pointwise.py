"""Pointwise: what `tg.compile(..., backend="python")` returns. It runs example after example, without NumPy."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from numbers import Real
from typing import Any

from ...engine.value import Value
from ..base import CompiledFunction
from ..checks import (
    captured,
    check_one_number,
    check_sizes,
    disagreement_error,
    eager,
    near,
    not_numbers,
    real_numbers,
    single_number,
    unchanged,
    unused,
)
from ..tracing import TAKE, Placeholder, Trace, flat_values, nested, standing_in, trace_function
from .straight import StraightProgram, compile_straight

Shape = tuple[int, ...]
Example = Sequence[list[float]]  # per argument its numbers, flat
SEQUENCES = (list, tuple, range)
ELSEWHERE = (OverflowError, ValueError, ZeroDivisionError)  # there the engine has inf, or an error of its own


class Pointwise(CompiledFunction):
    """A compiled function as straight-line Python, for functions that are evaluated at one point many times.

    It is called as `Compiled` is, with lists or arrays; examples run one by one, and gradients are lists. Where
    `math` raises, the example is evaluated eagerly: same results, same errors.
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
        return [float(parameter.data) for parameter in self.parameters]

    def _numbers(self) -> list[float]:
        return self._read_parameters() if self._theta is None else self._checked(self._theta)

    def _checked(self, theta: list[Any]) -> list[float]:
        return real_numbers(theta, len(self.parameters))

    def _pinned(self, made: "_Made", numbers: list[float]) -> AbstractContextManager[Any]:
        """Inside the block the parameters have these numbers, in this thread, and no gradient is changed."""
        return standing_in({**dict(made.frozen), **dict(zip(self.parameters, numbers, strict=True))})

    # --- Examples ---------------------------------------------------------------------------------------------

    def _at(self, made: "_Made", numbers: list[float], example: Example) -> tuple[list[float], list[float]]:
        """The outputs and the gradient; by the engine where the program raises an error."""
        try:
            return made.program.run(numbers, example)
        except ELSEWHERE:
            with self._pinned(made, numbers):
                if made.request[1]:
                    loss, gradient = eager(self.original, self.parameters, made.values(example))
                    return [float(loss.data)], gradient
                return [float(x.data) for x in flat_values(self.original(*made.values(example)))[0]], []

    def _prepared(self, batch: Sequence[Any], gradient: bool) -> tuple["_Made", list[Example]]:
        """The program for a batch, made and verified if there is none yet, and the batch as examples."""
        names = self._argument_names(len(batch))
        read = [_rows(given, name) for given, name in zip(batch, names, strict=True)]
        arguments, shapes = [rows for rows, _ in read], tuple(shape for _, shape in read)
        check_sizes(names, [len(rows) for rows in arguments])
        made: _Made = self._found(lambda made: made.request == (shapes, gradient) and made.holds())
        if made is None:
            made = _Made(self.original, self.parameters, shapes, gradient)
            self._keep(made)
        self._latest = made
        examples: list[Example] = list(zip(*arguments, strict=True)) if arguments else [()]
        if self.verify and gradient and not made.verified:
            self._verify(made, examples[0])
        return made, examples

    def _verify(self, made: "_Made", example: Example) -> None:
        """Compare the program with the eager function. Raises CompileError if they differ, also without loops."""
        numbers, found = self._read_parameters(), list[str]()
        with self._pinned(made, numbers):  # another thread may train
            try:
                loss, expected = eager(self.original, self.parameters, made.values(example))
                for loops in (True, False):
                    if not loops:
                        made.write(loops=False)
                    outputs, gradients = made.program.run(numbers, example)
                    pairs = zip([outputs[0], *gradients], [loss.data, *expected], strict=True)
                    wrong = [f"{got!r}, and eagerly {e!r}" for got, e in pairs if not near(got, e, 1.0 + abs(e))]
                    if not wrong:
                        break
                    found.append(wrong[0])
            except ELSEWHERE:
                return  # evaluated eagerly anyway
            if wrong:
                again, _ = eager(self.original, self.parameters, made.values(example))
                raise disagreement_error(f"it gives {wrong[0]}", [loss.data, again.data])
        if found:
            self._warn(
                found[0],
                f"A loop was found where there is none (it gives {found[0]}); the program is compiled without "
                "loops. Its numbers are right, but please report this.",
            )
        made.verified = True


class _Made:
    """A program for one set of shapes."""

    def __init__(self, function: Any, parameters: Sequence[Value], shapes: Sequence[Shape], gradient: bool):
        self.request = shapes, gradient
        self.trace: Trace = trace_function(function, parameters, shapes)
        if gradient:
            check_one_number(self.trace.shape, "gradient")
        nodes = [node for node in self.trace.order() if isinstance(node, Placeholder)]
        read = dict.fromkeys([*(x for node in nodes for x in node.parents), *self.trace.outputs])
        learned = set(parameters)
        constants = [x for x in read if not isinstance(x, Placeholder) and x not in learned]
        self.frozen = [pair for value in constants for pair in captured(value, learned)]
        self.unused = unused(read, parameters) if gradient else []
        picked = {node.parents[0] for node in self.trace.nodes if node.rule is TAKE}
        self._picks = [[x in picked for x in argument] for argument in self.trace.inputs]
        self.write()
        self.verified = False

    def write(self, loops: bool = True) -> None:
        """Make the program."""
        self.program: StraightProgram = compile_straight(self.trace, self.request[1], loops)
        self.source = self.program.source

    def holds(self) -> bool:
        """Is what the program takes for constant still so?"""
        return unchanged(self.frozen, self.trace.state)

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
    """An array as nested lists, and a number of NumPy as one of Python, without NumPy."""
    return x.tolist() if hasattr(x, "tolist") else x
