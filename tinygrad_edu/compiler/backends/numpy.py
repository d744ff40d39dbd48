"""NumPy: a program as source that a person would have written.

`build(parameters, B)` makes the buffers for batches of B examples. It returns `run(X, Y, gradient)`, which
computes one batch. Each formula stands as a comment above its lines, with the shape. The lines write into the
buffers, so a step allocates almost nothing.
"""

from typing import Any

import numpy as np

from ..decay import THETA
from ..formulas import number_text, source_of
from ..loop_program import LoopProgram
from ..lower import Array, Lowered
from ..views import dense_strides, strides_of
from . import numpy_helpers
from .numpy_operations import bare, tuple_text
from .numpy_statements import Statements

SHARED = 1000  # buffers
PER_LINE = 20  # names
PRECISION = 1e-6  # relative error of a constant in float32; the smallest numbers of float32 have a larger one


class Emitter:
    """Writes the source of one program: `source`."""

    def __init__(self, program: LoopProgram, title: str):
        self.program, self.gradient, self.title = program, program.gradient, title
        self.statements = Statements(program)
        learned = [array for array in program.lowered.arrays if array.source[:1] == ("parameter",)]
        self._learned = sorted(learned, key=lambda array: array.source == THETA)  # its gradient is added last
        self._n_parameters = max((int(array.places.max()) + 1 for array in self._learned), default=0)
        self.source = self._module()

    # --- The module -----------------------------------------------------------------------------------------

    def _module(self) -> str:
        statements = self.statements
        setup, before, after = self._parameters()
        make, take = self._buffers()
        setup, before = [*setup, *make], [*take, *before]
        results = self._results(after)
        body = [*before, *(statements.lines if before else statements.lines[1:]), *after, f"return {results}"]
        code = "".join(f"\n{line}" for line in map(str.lstrip, [*setup, *body]) if line[:1] != "#")
        called = [f for f in numpy_helpers.ALL if f"\n{f.__name__}(" in code or f"= {f.__name__}(" in code]
        helpers = "\n\n\n".join(source_of(helper).rstrip() for helper in called)
        text = [f'"""{self.title}"""', ""]
        text += ["import math"] if "math." in helpers else []
        text += ["import numpy as np"]
        if statements.rules:
            text += [f"from tinygrad_edu import RULES  # for {', '.join(statements.rules)}"]
        text += [f"{name} = np.{name}" for name in ("inf", "nan") if name in code]
        text += ["", "", helpers] if helpers else []
        text += ["", "", "def build(parameters, B, dtype=np.float64):"]
        writes = " and writes the vector gradient" if self.gradient else ""
        text += [f'    """The function for batches of B examples; it reads the vector parameters{writes}."""']
        text += [f"    {line}" for line in [*self._refusal(), *setup]]
        text += ["", f"    def run({', '.join(self._arguments())}):"]
        text += [f"        {line}".rstrip() for line in body]
        text += ["", "    return run"]
        if statements.constants:
            text += ["", ""]
            text += [f"{name} = np.array({array_text(array)})" for name, array in statements.constants.items()]
        return "\n".join(text) + "\n"

    def _refusal(self) -> list[str]:
        """Lines of `build` that refuse float32, if it cannot hold a constant: 1e-50 would be 0 there."""
        message = lost_in_float32(self.program.lowered)
        if not message:
            return []
        refusal = ["from tinygrad_edu import CompileError", f"raise CompileError({message!r})"]
        return ["if dtype != np.float64:", *(f"    {line}" for line in refusal)]

    def _arguments(self) -> list[str]:
        inputs = {a.source[1]: a.name for a in self.program.lowered.arrays if a.source[:1] == ("input",)}
        names = [inputs.get(i, f"_{i}") for i in range(self.program.n_inputs)]
        return [*names, "gradient"] if self.gradient else names

    def _parameters(self) -> tuple[list[str], list[str], list[str]]:
        """How parameters and gradients are read from their vectors: lines for `build`, before a run, and after it.

        They are views where products and sums are fast on a view, else copies.
        """
        setup: list[str] = []
        before: list[str] = []
        after: list[str] = []
        for array in self._learned:
            strides = strides_of(array.places.reshape(array.shape))
            spread = strides is None or (len(strides) == 1 and strides != (1,))  # slow to add to every row
            there = self._in_vector("parameters", array, strides)
            if spread:
                self.statements.buffers[array.name] = (array.shape, False)
                before.append(f"{array.name}[...] = {there}")
            else:
                setup.append(f"{array.name} = {there}")
            if self.gradient:
                own, there = f"d{array.name}", self._in_vector("gradient", array, strides)
                if array.source == THETA:
                    after.append(f"{there} += {own}")
                elif spread or own in self.statements.buffers:
                    self.statements.buffers[own] = (array.shape, False)
                    after.append(f"{there}{'' if there.endswith(']') else '[...]'} = {own}")
                else:
                    before.append(f"{own} = {there}")
        return setup, before, after

    def _in_vector(self, vector: str, array: Array, strides: tuple[int, ...] | None) -> str:
        """The elements of a vector that belong to a parameter."""
        start, shape = int(array.places[0]), array.shape
        if strides is None:
            return f"{vector}[{self.statements.constant(array.places.reshape(shape))}]"
        if strides == dense_strides(shape):
            flat = f"{vector}[{start}:{start + array.size}]"
            return flat if len(shape) == 1 else f"{flat}.reshape({', '.join(map(str, shape)) or '()'})"
        if len(shape) == 1:
            return f"{vector}[{start}:{start + strides[0] * (array.size - 1) + 1}:{strides[0]}]"
        if len(shape) == 2 and strides[1] == 1:  # some columns of a wider matrix
            (rows, columns), width = shape, strides[0]
            before = max(0, start + rows * width - self._n_parameters)
            first, last = start - before, start - before + rows * width
            if first >= 0:
                some = f"{before or ''}:{'' if before + columns == width else before + columns}"
                return f"{vector}[{first}:{last}].reshape({rows}, {width})[:, {some}]"
        return f"strided({vector}, {start}, {tuple_text(shape)}, {tuple_text(strides)})"

    def _buffers(self) -> tuple[list[str], list[str]]:
        """Lines of `build` that make the buffers, and lines of `run` that name them if there are very many.

        The time of Python's compiler grows with the square of the variables that a function shares with an inner
        one.
        """
        buffers = self.statements.buffers
        numbers = {name: f", {number_text(number)}" for (number, *_), name in self.statements.filled.items()}
        arrays = [
            f"np.{'full' if name in numbers else 'empty'}"
            f"({tuple_text(('B', *shape) if batched else shape)}{numbers.get(name, '')}, dtype)"
            for name, (shape, batched) in buffers.items()
        ]
        if len(buffers) <= SHARED:
            return [f"{name} = {array}" for name, array in zip(buffers, arrays, strict=True)], []
        lines = range(0, len(buffers), PER_LINE)
        names = [bare(list(buffers)[i : i + PER_LINE]) for i in lines]
        take = [f"{part}, = buffers[{i}:{i + PER_LINE}]" for i, part in zip(lines, names, strict=True)]
        return ["buffers = [", *(f"    {array}," for array in arrays), "]"], take

    def _results(self, after: list[str]) -> str:
        """What a run returns. Its statements are added to `after`."""
        outputs = self.program.lowered.outputs
        if not self.gradient:
            return self._stacked(outputs, after)
        root, place = outputs[0]
        text = _element(root, place)
        value = f"float({text}.sum() / B)" if root.batched else f"float({text})"
        return f"{value}, {self._stacked(outputs[1:], after)}" if outputs[1:] else value

    def _stacked(self, outputs: list[tuple[Array, int]], after: list[str]) -> str:
        """The outputs of every example in one array (B, number of outputs)."""
        first, places = outputs[0][0], [place for _, place in outputs]
        if all(a is first for a, _ in outputs) and places == list(range(first.size)) and first.batched:
            return f"{first.name}.reshape(B, {first.size}).copy()"
        after.append(f"outputs = np.empty((B, {len(outputs)}), dtype)")
        columns: dict[Array, list[int]] = {}
        for column, (array, _) in enumerate(outputs):
            columns.setdefault(array, []).append(column)
        for array, own in columns.items():
            index = np.array([places[column] for column in own])
            if array.source == ("constant",):
                after.append(f"outputs[:, {own}] = {[float(array.places[i]) for i in index]}")
                continue
            flat = f"{array.name}.reshape({'B, ' if array.batched else ''}{array.size})"
            after.append(f"outputs[:, {own}] = {flat}[{':, ' if array.batched else ''}{index.tolist()}]")
        return "outputs"


def lost_in_float32(lowered: Lowered) -> str:
    """A sentence about a constant that float32 cannot hold; "" if it holds all."""
    arrays = [array.places for array in lowered.arrays if array.source == ("constant",)]
    numbers = np.unique(np.concatenate([np.empty(0), *arrays]))
    with np.errstate(all="ignore"):
        single = numbers.astype(np.float32)
        is_held = np.isclose(single, numbers, rtol=PRECISION, atol=0.0, equal_nan=True)
    if is_held.all():
        return ""
    number, becomes = numbers[~is_held][0], single[~is_held][0]
    return (
        f"float32 cannot hold the constant {number}, which would be {becomes:.7g} there. "
        'Compile with dtype="float64", or use constants of a size between 1e-37 and 3e38.'
    )


def _element(array: Array, place: int) -> str:
    if array.source == ("constant",):
        return array_text(np.float64(array.places[place]))
    if array.size == 1:
        return array.name
    lead = ":, " if array.batched else ""
    return f"{array.name}.reshape({'B, ' if array.batched else ''}{array.size})[{lead}{place}]"


def array_text(array: Any) -> str:
    """Numbers as source."""
    return repr(array.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
