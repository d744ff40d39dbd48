"""Pointwise: what `tg.compile(..., backend="python")` returns. It runs example after example, without NumPy."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..graph import topological_order
from ..value import Value
from .base import CompiledFunction
from .checks import CompileError, check_one_number, check_sizes, check_used, eager, near, numbers_in
from .straight import StraightProgram, compile_straight
from .trace import OUTPUTS, TAKE, Placeholder, Trace, flat_values, trace

Shape = tuple[int, ...]
ELSEWHERE = (OverflowError, ValueError, ZeroDivisionError)  # there the engine has inf, or an error of its own


class Pointwise(CompiledFunction):
    """A compiled function as straight-line Python, for functions that are evaluated at one point many times.

    It is called as `Compiled` is, with lists or arrays; examples run one by one, and gradients are lists. Where
    `math` raises, the example is evaluated eagerly: same results, same errors.
    """

    def __init__(self, function: Callable[..., Any], parameters: Iterable[Value], *, verify: bool = True):
        super().__init__(function, parameters, verify)
        self._made: dict[Any, _Made] = {}

    def __call__(self, *batch: Any) -> float:
        """The mean of the function over the batch."""
        made, examples = self._prepared(batch, gradient=False)
        check_one_number(made.trace.shape, "mean")
        return sum(self._outputs(made, example)[0] for example in examples) / len(examples)

    def value_and_grad(self, *batch: Any) -> tuple[float, list[float]]:
        """The mean over the batch, and its derivatives by the parameters, in their order."""
        made, examples = self._prepared(batch, gradient=True)
        numbers = self._numbers()
        results = [self._gradients(made, numbers, example) for example in examples]
        if len(results) == 1:
            return results[0]
        n = len(results)
        gradients = [sum(column) / n for column in zip(*(gradient for _, gradient in results), strict=True)]
        return sum(value for value, _ in results) / n, gradients

    def predict(self, *batch: Any) -> list[Any]:
        """What the function returns for every example, nested as the function nests it."""
        made, examples = self._prepared(batch, gradient=False)
        return [_nested(self._outputs(made, example), made.trace.shape) for example in examples]

    # --- Examples ---------------------------------------------------------------------------------------------

    def _read_parameters(self) -> list[float]:
        return [float(parameter.data) for parameter in self.parameters]

    def _outputs(self, made: "_Made", example: Sequence[Any]) -> list[float]:
        try:
            return made.program.run(self._numbers(), [_flat(x) for x in example])[0]
        except ELSEWHERE:
            with numbers_in(self.parameters, self._numbers()):
                return [float(value.data) for value in flat_values(self.function(*made.values(example)))[0]]

    def _gradients(self, made: "_Made", numbers: list[float], example: Sequence[Any]) -> tuple[float, list[float]]:
        try:
            outputs, gradients = made.program.run(numbers, [_flat(x) for x in example])
            return outputs[0], gradients
        except ELSEWHERE:
            with numbers_in(self.parameters, numbers):
                loss, gradients = eager(self.function, self.parameters, made.frozen, made.values(example))
            return float(loss.data), gradients

    def _prepared(self, batch: Sequence[Any], gradient: bool) -> tuple["_Made", list[list[Any]]]:
        """The program for a batch, made and verified if there is none yet, and the batch as examples."""
        names = self._argument_names(len(batch))
        arguments = [_rows(given, name) for given, name in zip(batch, names, strict=True)]
        check_sizes(names, [len(rows) for rows in arguments])
        shapes = tuple(_shape(rows, name)[1:] for rows, name in zip(arguments, names, strict=True))
        made = self._made.get((shapes, gradient))
        if made is None or made.has_changed():
            made = self._made[shapes, gradient] = _Made(self.function, self.parameters, shapes, gradient)
        self._latest = made
        examples = [list(example) for example in zip(*arguments, strict=True)] if arguments else [[]]
        if self.verify and gradient and not made.verified:
            self._verify(made, examples[0])
        return made, examples

    def _verify(self, made: "_Made", example: list[Any]) -> None:
        """Compare the program with the eager function. Raises CompileError if they differ."""
        numbers = self._read_parameters()
        try:
            outputs, gradients = made.program.run(numbers, [_flat(x) for x in example])
            loss, expected = eager(self.function, self.parameters, made.frozen, made.values(example))
        except ELSEWHERE:
            return  # evaluated eagerly anyway
        pairs = zip([outputs[0], *gradients], [loss.data, *expected], strict=True)
        if not all(near(got, e, 1.0 + abs(e)) for got, e in pairs):
            raise CompileError(
                "The compiled function disagrees with the eager one. If the function gives the same numbers "
                "whenever it is called, this is a defect of the compiler."
            )
        made.verified = True


class _Made:
    """A program for one set of shapes."""

    def __init__(self, function: Any, parameters: Sequence[Value], shapes: Sequence[Shape], gradient: bool):
        self.trace: Trace = trace(function, parameters, shapes)
        if gradient:
            check_one_number(self.trace.shape, "gradient")
        order = topological_order(Placeholder.of(OUTPUTS, tuple(self.trace.outputs)))
        leaves = [node for node in order if node.rule is None]
        if gradient:
            check_used(set(leaves), parameters)
        known = {*parameters, *(x for argument in self.trace.inputs for x in argument)}
        self.frozen = [leaf for leaf in leaves if leaf not in known]
        self._numbers = [leaf.data for leaf in self.frozen]
        picked = {node.parents[0] for node in order if node.rule is TAKE}
        self._picks = [any(x in picked for x in argument) for argument in self.trace.inputs]
        self.program: StraightProgram = compile_straight(self.trace, gradient)
        self.source = self.program.source
        self.verified = False

    def has_changed(self) -> bool:
        """Has a Value that was taken for a constant another number now?"""
        return any(leaf.data is not number for leaf, number in zip(self.frozen, self._numbers, strict=True))

    def values(self, example: Sequence[Any]) -> list[Any]:
        """An example as the eager function takes it."""
        return [_each(int if picks else Value, x) for picks, x in zip(self._picks, example, strict=True)]


# --- Nested lists -----------------------------------------------------------------------------------------------


def _rows(given: Any, name: str) -> list[Any]:
    rows = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(rows, list | tuple):
        raise (
            _not_numbers(given, name)
            if not isinstance(rows, int | float)
            else ValueError(
                f"{name} is a single number: a batch has its examples along the first axis, as in [{given!r}]."
            )
        )
    return list(rows)


def _shape(x: Any, name: str) -> Shape:
    if not isinstance(x, list | tuple):
        if isinstance(x, int | float):
            return ()
        raise _not_numbers(x, name)
    shapes = {_shape(item, name) for item in x}
    if len(shapes) > 1:
        raise ValueError(f"{name} is ragged: its rows are of different lengths. All examples need one shape.")
    return (len(x), *shapes.pop()) if shapes else (0,)


def _not_numbers(x: Any, name: str) -> TypeError:
    return TypeError(
        f"{name} must hold real numbers, got {x!r:.60} ({type(x).__name__}): convert it with float()."
    )


def _flat(x: Any) -> list[float]:
    return [number for item in x for number in _flat(item)] if isinstance(x, list | tuple) else [float(x)]


def _each(kind: Any, x: Any) -> Any:
    return [_each(kind, item) for item in x] if isinstance(x, list | tuple) else kind(float(x))


def _nested(numbers: list[float], shape: Shape) -> Any:
    if not shape:
        return numbers[0]
    step = len(numbers) // shape[0]
    return [_nested(numbers[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]
