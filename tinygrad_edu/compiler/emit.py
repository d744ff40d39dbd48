"""Emit: a program as NumPy source that a person would have written.

`build(parameters, B)` makes the buffers for batches of B examples, once, and returns `run(X, Y, gradient)`, which
runs one batch. Every formula stands above the lines that compute it, with its shape. The lines write into the
buffers and go on in place: a step allocates next to nothing.
"""

from typing import Any

import numpy as np

from .differentiate import ArrayProgram
from .helpers import HELPERS
from .lower import Array
from .statements import Statements, shape_text, tuple_text
from .views import dense_strides, strides_of

SHARED = 1000  # buffers
PER_LINE = 20  # names


class Emitter:
    """Writes the source of one program: `source`."""

    def __init__(self, program: ArrayProgram, title: str):
        self.program, self.gradient, self.title = program, program.gradient, title
        self.statements = Statements(program)
        self._learned = [array for array in program.lowered.arrays if array.source == ("parameter",)]
        self._n_parameters = max((int(array.places.max()) + 1 for array in self._learned), default=0)
        self.source = self._module()

    # --- The module -----------------------------------------------------------------------------------------

    def _module(self) -> str:
        inputs = [a for a in self.program.lowered.arrays if a.source[:1] == ("input",)]
        names = self._input_names(inputs)
        setup, before, after = self._parameters()
        names += ["gradient"] if self.gradient else []
        make, take = self._buffers()
        setup, before = [*setup, *make], [*take, *before]
        results = self._results(after)
        lines = self.statements.lines if before else self.statements.lines[1:]
        body = [*before, *lines, *after, f"return {results}"]
        text = [f'"""{self.title}"""', ""]
        text += ["import math"] if self.statements.helpers & {"erf", "erfc"} else []
        text += ["import numpy as np"]
        text += (
            [f"from tinygrad_edu import RULES  # for {', '.join(self.statements.rules)}"]
            if self.statements.rules
            else []
        )
        whole = "\n".join(body)
        text += [f"{name} = np.{name}" for name in ("inf", "nan") if name in whole.replace("np.isnan", "")]
        text += ["\n" + HELPERS[name].rstrip() for name in HELPERS if name in self.statements.helpers]
        text += ["", ""]
        text += ["def build(parameters, B, dtype=np.float64):"]
        writes = " and writes the vector gradient" if self.gradient else ""
        text += [f'    """The function for batches of B examples; it reads the vector parameters{writes}."""']
        text += [f"    {line}" for line in setup]
        text += ["", f"    def run({', '.join(names)}):"]
        text += [f"        {line}".rstrip() for line in body]
        text += ["", "    return run"]
        if self.statements.constants:
            text += ["", ""]
            text += [
                f"{name} = np.array({_array_text(array)})" for name, array in self.statements.constants.items()
            ]
        return "\n".join(text) + "\n"

    def _input_names(self, used: list[Array]) -> list[str]:
        by_argument = {array.source[1]: array.name for array in used}
        return [by_argument.get(i, f"_{i}") for i in range(self.program.n_inputs)]

    def _parameters(self) -> tuple[list[str], list[str], list[str]]:
        """Where parameters and their gradients lie in the vectors: lines for `build`, before a run, and after it.

        They are views where products and sums can work in them as they are, else copies.
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
                if spread or own in self.statements.buffers:
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
        if (
            len(shape) == 2 and strides[1] == 1
        ):  # some columns of a matrix, which may begin before and end after them
            (rows, columns), width = shape, strides[0]
            before = max(0, start + rows * width - self._n_parameters)
            first, last = start - before, start - before + rows * width
            if first >= 0:
                some = f"{before or ''}:{'' if before + columns == width else before + columns}"
                return f"{vector}[{first}:{last}].reshape({rows}, {width})[:, {some}]"
        self.statements.helpers.add("strided")
        return f"strided({vector}, {start}, {tuple_text(shape)}, {tuple_text(strides)})"

    def _buffers(self) -> tuple[list[str], list[str]]:
        """Lines of `build` that make the buffers, and of `run` that name them, if they are too many to be shared.

        Python's compiler takes time with the square of the variables that a function shares with an inner one.
        """
        buffers = self.statements.buffers
        arrays = [f"np.empty({shape_text(shape, batched)}, dtype)" for shape, batched in buffers.values()]
        if len(buffers) <= SHARED:
            return [f"{name} = {array}" for name, array in zip(buffers, arrays, strict=True)], []
        lines = range(0, len(buffers), PER_LINE)
        names = [tuple_text(list(buffers)[i : i + PER_LINE], bare=True) for i in lines]
        take = [f"{part} = buffers[{i}:{i + PER_LINE}]" for i, part in zip(lines, names, strict=True)]
        return ["buffers = [", *(f"    {array}," for array in arrays), "]"], take

    def _results(self, after: list[str]) -> str:
        """What a run returns; statements that it takes are added to `after`."""
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


def _element(array: Array, place: int) -> str:
    if array.source == ("constant",):
        return _array_text(np.float64(array.places[place]))
    if array.size == 1:
        return array.name
    lead = ":, " if array.batched else ""
    return f"{array.name}.reshape({'B, ' if array.batched else ''}{array.size})[{lead}{place}]"


def _array_text(array: Any) -> str:
    return repr(array.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
