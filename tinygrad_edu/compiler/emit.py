"""Emit: a program as NumPy source that a person would have written.

`build(parameters, gradient, B)` makes the buffers for batches of B examples, once, and returns the function that
runs one batch. Every formula stands above the lines that compute it, with its shape. The lines write into the
buffers and go on in place: a step allocates next to nothing.
"""

from typing import Any

import numpy as np

from .differentiate import Program
from .helpers import HELPERS
from .lower import Array
from .statements import Statements, shape_text, tuple_text
from .views import dense_strides, strides_of


class Emitter:
    """Writes the source of one program: `source`."""

    def __init__(self, program: Program, title: str):
        self.program, self.gradient, self.title = program, program.gradient, title
        self.statements = Statements(program)
        self.source = self._module()

    # --- The module -----------------------------------------------------------------------------------------

    def _module(self) -> str:
        inputs = [a for a in self.program.lowered.arrays if a.source[:1] == ("input",)]
        names = self._input_names(inputs)
        setup, before, after = self._parameters()
        setup += [
            f"{name} = np.empty({shape_text(shape, batched)}, dtype)"
            for name, (shape, batched) in self.statements.buffers.items()
        ]
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
        arguments = (
            "parameters, gradient, B, dtype=np.float64" if self.gradient else "parameters, B, dtype=np.float64"
        )
        text += [f"def build({arguments}):"]
        text += [
            '    """The function for batches of B examples; it reads parameters'
            f'{", and writes gradient" * self.gradient}."""'
        ]
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
        """Views of the parameters and their gradients; what must be copied before a run, and after it."""
        setup: list[str] = []
        before: list[str] = []
        after: list[str] = []
        for array in self.program.lowered.arrays:
            if array.source != ("parameter",):
                continue
            name, places = array.name, array.places.reshape(array.shape)
            strides = strides_of(places)
            spread = strides is not None and len(strides) == 1 and strides != (1,)  # slow to add to every row
            for vector, own, copies in (("parameters", name, before), ("gradient", f"d{name}", after)):
                if vector == "gradient" and not self.gradient:
                    continue
                if strides is None:
                    self.statements.buffers[own] = (array.shape, False)
                    there = f"{vector}[{self.statements.constant(places)}]"
                elif own in self.statements.buffers or spread:
                    self.statements.buffers[own] = (array.shape, False)
                    there = f"{own}_view"
                    setup.append(f"{there} = {self._vector_view(vector, array, strides)}")
                else:
                    setup.append(f"{own} = {self._vector_view(vector, array, strides)}")
                    continue
                if copies is before:
                    copies.append(f"{own}[...] = {there}")
                else:
                    copies.append(f"{there}{'' if strides is None else '[...]'} = {own}")
        return setup, before, after

    def _vector_view(self, vector: str, array: Array, strides: tuple[int, ...]) -> str:
        start, shape = int(array.places[0]), array.shape
        if strides == dense_strides(shape):
            flat = f"{vector}[{start}:{start + array.size}]"
            return flat if len(shape) == 1 else f"{flat}.reshape({tuple_text(shape)})"
        self.statements.helpers.add("strided")
        return f"strided({vector}, {start}, {tuple_text(shape)}, {tuple_text(strides)})"

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
    if array.size == 1:
        return array.name
    lead = ":, " if array.batched else ""
    return f"{array.name}.reshape({'B, ' if array.batched else ''}{array.size})[{lead}{place}]"


def _array_text(array: Any) -> str:
    return repr(array.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
