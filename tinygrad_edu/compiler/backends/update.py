"""Update: the equation of an optimiser as NumPy source that moves whole vectors in place.

`Optimizer.update` runs once on Symbols. The parameters, their gradient and the state are vectors; t and lr are
numbers that change between steps. Each operation becomes one line that writes into a buffer. A vector of the state
is a buffer as soon as nothing reads it any more, so most of the new state is computed in the place of the old one.
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ..ir.symbols import Book, Symbol, uses_of
from .formulas import Language
from .numpy_operands import UFUNCS

VECTOR = frozenset(["parameters"])  # the axes of a Symbol with one number per parameter
FORWARD = {**UFUNCS, "pow": "power"}


class UpdateProgram:
    """The update equation of an optimiser as it is now.

    source    def build(parameter, state0, ...): makes the buffers, and returns `update(gradient, t, lr)`, which
              moves parameter and state in place. t is a number, or a vector if it differs between parameters

    Raises any error that the equation raises on Symbols, such as the TypeError of a branch on a number.
    """

    def __init__(self, optimizer: Any):
        self.n_buffers: int = 0
        gradient, vectors, results = equation(optimizer)
        names = [str(vector.args[0]) for vector in vectors]
        self._place = dict(zip([*vectors, gradient], [*names, "gradient"], strict=True))  # where each vector is
        self._homes = dict(zip(results, vectors, strict=True))  # where each result is to be
        self._readers = uses_of(results)  # a result is read at the end, too: its place is not free before
        self._free: list[str] = []  # buffers
        steps = [x for x in gradient.book if self._readers.get(x) and x.op != "leaf" and _is_vector(x)]
        lines = list(map(self._line, steps))
        places = [self._text(result) for result in results]
        for i, (name, place) in enumerate(zip(names, places, strict=True)):
            if place in names and place != name:  # the old number of another vector
                places[i] = self._buffer()
                lines.append(f"np.copyto({places[i]}, {place})")
        lines += [f"{name}[...] = {place}" for name, place in zip(names, places, strict=True) if place != name]
        body = [f"    t{i + 1} = np.empty_like(parameter)" for i in range(self.n_buffers)]
        body += ["", "    def update(gradient, t, lr):", *(f"        {line}" for line in lines)]
        head = ["import numpy as np", "", "", f"def build({', '.join(names)}):"]
        self.source: str = "\n".join([*head, *body, "", "    return update\n"])

    def build(self, parameter: Any, *state: Any) -> Callable[[Any, Any, Any], None]:
        """The function update(gradient, t, lr) on these vectors."""
        namespace = {op: getattr(np, name) for op, name in UFUNCS.items()}  # for formulas of numbers
        exec(compile(self.source, "<update equation>", "exec"), namespace)
        update: Callable[[Any, Any, Any], None] = namespace["build"](parameter, *state)
        return update

    # --- Lines ------------------------------------------------------------------------------------------------

    def _line(self, symbol: Symbol) -> str:
        """The line of an operation. After the last reader of an operand its place is free."""
        operands = [self._text(x) for x in symbol.args]
        for x in filter(_is_vector, symbol.args):
            self._readers[x] -= 1
            if not self._readers[x] and x.op != "leaf":
                self._free.append(self._place[x])
        home = self._homes.get(symbol)
        place = self._place[home] if home is not None and not self._readers.get(home) else self._buffer()
        self._place[symbol] = place
        if symbol.op == "pow" and not isinstance(symbol.args[1], Symbol) and symbol.args[1] == 2:
            return f"np.square({operands[0]}, out={place})"
        return f"np.{FORWARD[symbol.op]}({', '.join(operands)}, out={place})"

    def _buffer(self) -> str:
        if self._free:
            return self._free.pop()
        self.n_buffers += 1
        return f"t{self.n_buffers}"

    def _text(self, x: Any) -> str:
        """The name of a vector; the formula of a single number, such as 1 - 0.9**t."""
        return self._place[x] if _is_vector(x) else Language({}).text(x)


def equation(optimizer: Any) -> tuple[Symbol, list[Symbol], tuple[Any, ...]]:
    """The update of an optimiser on symbols: the gradient, [parameter, state0, ...], and what they become.

    The numbers lr and t are symbols too. Raises any error that the equation raises on symbols.
    """
    book, symbolic = Book(), copy.copy(optimizer)
    symbolic.lr, gradient = book.leaf("lr"), book.leaf("gradient", VECTOR)
    vectors = [book.leaf(x, VECTOR) for x in ["parameter", *(f"state{i}" for i in range(optimizer.n_states))]]
    results = symbolic.update(book.leaf("t"), vectors[0], gradient, *vectors[1:])
    if len(results) != len(vectors):
        raise ValueError(f"update returns (parameter, *state), which are {len(vectors)}, got {len(results)}.")
    return gradient, vectors, results


def _is_vector(x: Any) -> bool:
    return isinstance(x, Symbol) and x.axes == VECTOR
