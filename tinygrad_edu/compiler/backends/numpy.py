"""NumPy: a program as source that a person would have written.

`build(parameters, B)` makes the buffers for batches of B examples. It returns `run(X, Y, gradient)`, which
computes one batch. Each formula stands as a comment above its lines, with the shape. The lines write into the
buffers, so a step allocates almost nothing.
"""

from typing import Any

from ..find.lowered import CONSTANT
from ..ir.plan import Plan, VectorPiece
from ..ir.routine import Array as Leaf
from ..ir.routine import Routine
from . import numpy_helpers
from .formulas import source_of
from .numpy_operands import numpy_text
from .numpy_statements import Statements
from .text import Positions, tuple_text


class Emitter:
    """Writes the source of one program: `source`.

    lengths: where the inputs may have any, the names of the variables and their numbers.
    """

    def __init__(self, plan: Plan, n_inputs: int, title: str, lengths: dict[str, int] | None = None):
        self.plan: Plan = plan
        self.n_inputs: int = n_inputs
        self.title: str = title
        self.lengths: dict[str, int] = lengths or {}
        views = [x.adjoint for x in plan.parameters if x.adjoint and x.is_gradient_view]
        gaps = [y for x in plan.parameters if x.is_view and x.has_gaps for y in (x.array, x.adjoint) if y]
        self.statements: Statements = Statements(plan.program, views, gaps, [])
        self.source: str = self._module()

    # --- The module -----------------------------------------------------------------------------------------

    def _module(self) -> str:
        statements = self.statements
        setup, before, after = self._parameters()
        setup += [f"{name} = {array}" for name, array in buffers_of(self.statements).items()]
        results = self._results(after)
        body = [*before, *(statements.lines if before else statements.lines[1:]), *after, f"return {results}"]
        variables = "".join(f", {name}={number}" for name, number in self.lengths.items())
        text = [f"def build(parameters, B, dtype=np.float64{variables}):"]
        writes = " and writes the vector gradient" if self.plan.root else ""
        of = f" of length {' and '.join(self.lengths)}" if self.lengths else ""
        text += [f'    """The function for batches of B examples{of}; it reads the vector parameters{writes}."""']
        constants = constants_of(self.plan.program, statements)
        moving = {name: array.text for name, array in constants.items() if isinstance(array, Positions)}
        setup = [*(f"{name} = {text}" for name, text in moving.items()), *setup]
        text += [f"    {line}" for line in setup]
        text += ["", f"    def run({', '.join(self._arguments())}):"]
        text += [f"        {line}".rstrip() for line in body]
        text += ["", "    return run"]
        fixed = {name: array for name, array in constants.items() if name not in moving}
        return module_of(self.title, statements, text, fixed)

    def _arguments(self) -> list[str]:
        names = [self.plan.inputs.get(i, f"_{i}") for i in range(self.n_inputs)]
        return [*names, "gradient"] if self.plan.root else names

    def _parameters(self) -> tuple[list[str], list[str], list[str]]:
        """How parameters and gradients are read from their vectors: lines for `build`, before a run, and after it.

        They are views where products and sums are fast on a view, else copies.
        """
        setup: list[str] = []
        before: list[str] = []
        after: list[str] = []
        elements = self.statements.elements
        for array, _, pieces, is_view, is_gradient_view, _, is_all in self.plan.parameters:
            name, own = array.name, f"d{array.name}"
            if is_view or is_all:
                setup.append(f"{name} = {elements.in_vector(pieces[0], 'parameters').code}")
            else:
                self.statements.buffers[name] = array.shape()
                before += [
                    f"{name}{_rows(x, '[...]')} = {elements.in_vector(x, 'parameters').code}" for x in pieces
                ]
            if is_gradient_view:
                before.append(f"{own} = {elements.in_vector(pieces[0], 'gradient').code}")
            elif self.plan.root:
                self.statements.buffers[own] = array.shape()
                for piece in pieces:
                    at = elements.in_vector(piece, "gradient")
                    to = at.code if at.is_item else f"{at.code}[...]"
                    after.append(f"{to} {'+=' if is_all else '='} {own}{_rows(piece)}")
        return setup, before, after

    def _results(self, after: list[str]) -> str:
        """What a run returns. Its statements are added to `after`."""
        if self.plan.root is None:
            return self._stacked(after)
        array, place = self.plan.root
        if not isinstance(array, Leaf):
            text = f"float({numpy_text(float(array[place]))})"
        else:
            text = array.name if array.size == 1 else f"{_flat(array)}[{':, ' * array.batched}{place!s}]"
            text = f"float({text}.sum() / B)" if array.batched else f"float({text})"
        return f"{text}, {self._stacked(after)}" if self.plan.n_outputs else text

    def _stacked(self, after: list[str]) -> str:
        """The outputs of every example in one array (B, number of outputs)."""
        if isinstance(self.plan.outputs, Leaf):
            return f"{_flat(self.plan.outputs)}.copy()"
        after.append(f"outputs = np.empty((B, {self.plan.n_outputs!s}), dtype)")
        for array, columns, places in self.plan.outputs:
            if isinstance(array, Leaf):
                text = f"{_flat(array)}[{':, ' * array.batched}{places}]"
            else:
                text = str([float(array[i]) for i in places])
            after.append(f"outputs[:, {columns}] = {text}")
        return "outputs"


def module_of(title: str, statements: Statements, function: list[str], constants: dict[str, Any]) -> str:
    """The source of a module: what its function needs, the function, and arrays of numbers."""
    called = statements.called
    text = [f'"""{title}"""', "", *["import math"] * bool(called & numpy_helpers.OF_MATH), "import numpy as np"]
    if statements.rules:
        text.append(f"from tinygrad_edu import RULES  # for {', '.join(statements.rules)}")
    for helper in numpy_helpers.ALL:
        text += ["", "", source_of(helper).rstrip()] if helper.__name__ in called else []
    text += ["", "", *function, *["", ""] * bool(constants)]
    text += [f"{name} = np.array({array_text(array.tolist())})" for name, array in constants.items()]
    return "\n".join(text) + "\n"


def constants_of(program: Routine, statements: Statements) -> dict[str, Any]:
    """The arrays of numbers that a program reads, by name."""
    return {a.name: a.places for a in program.leaves if a.source == CONSTANT} | statements.elements.constants


def buffers_of(statements: Statements) -> dict[str, str]:
    """What makes the buffers that the lines write into, by name."""
    numbers = {name: f", {numpy_text(number)}" for (number, *_), name in statements.filled.items()}
    return {
        name: f"np.{'full' if name in numbers else 'empty'}({tuple_text(shape)}{numbers.get(name, '')}, dtype)"
        for name, shape in statements.buffers.items()
    }


def _flat(array: Leaf) -> str:
    """An array with one dimension behind the batch."""
    return f"{array.name}.reshape({'B, ' * array.batched}{array.size!s})"


def _rows(piece: VectorPiece, of_all: str = "") -> str:
    return of_all if piece.rows is None else f"[{piece.rows[0]}:{piece.rows[1]}]"


def array_text(numbers: Any) -> str:
    """A number, or numbers in lists, as source."""
    return f"[{', '.join(map(array_text, numbers))}]" if isinstance(numbers, list) else numpy_text(numbers)
