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
        self.lines: list[str] = []
        self.n_buffers: int = 0
        gradient, vectors, results = equation(optimizer)
        names = self._names = [str(vector.args[0]) for vector in vectors]
        self._place = dict(zip([*vectors, gradient], [*names, "gradient"], strict=True))  # where each vector is
        # Where each result is to be:
        self._home = {result: name for result, name in zip(results, names, strict=True) if _is_vector(result)}
        self._readers = uses_of(results)  # a result is read at the end, too: its place is not free before
        self._free: list[str] = []  # buffers
        self._free_homes = {name for name, leaf in zip(names, vectors, strict=True) if not self._readers.get(leaf)}
        for symbol in list(gradient.book):
            if self._readers.get(symbol) and symbol.op != "leaf" and _is_vector(symbol):
                self._emit(symbol)
        self._bring_home(names, results)
        self.source: str = self._module(names)

    def _module(self, names: list[str]) -> str:
        body = [f"    t{i + 1} = np.empty_like(parameter)" for i in range(self.n_buffers)]
        body += ["", "    def update(gradient, t, lr):"] + [f"        {line}" for line in self.lines]
        return "\n".join(
            ["import numpy as np", "", "", f"def build({', '.join(names)}):", *body, "", "    return update\n"]
        )

    def build(self, parameter: Any, *state: Any) -> Callable[[Any, Any, Any], None]:
        """The function update(gradient, t, lr) on these vectors."""
        namespace = {op: getattr(np, name) for op, name in UFUNCS.items()}  # for formulas of numbers
        exec(compile(self.source, "<update equation>", "exec"), namespace)
        made: Callable[[Any, Any, Any], None] = namespace["build"](parameter, *state)
        return made

    # --- Lines ------------------------------------------------------------------------------------------------

    def _emit(self, symbol: Symbol) -> None:
        operands = [self._text(x) for x in symbol.args]
        for x in symbol.args:
            self._read(x)
        home = self._home.get(symbol)
        if home in self._free_homes:
            self._free_homes.discard(home)
            place = home
        elif self._free:
            place = self._free.pop()
        else:
            self.n_buffers += 1
            place = f"t{self.n_buffers}"
        self._place[symbol] = place
        if symbol.op == "pow" and operands[1] == "2":
            self.lines.append(f"np.square({operands[0]}, out={place})")
        else:
            self.lines.append(f"np.{FORWARD[symbol.op]}({', '.join(operands)}, out={place})")

    def _text(self, x: Any) -> str:
        """The name of a vector; the formula of a single number, such as 1 - 0.9**t."""
        return self._place[x] if _is_vector(x) else Language({}).text(x)

    def _read(self, x: Any) -> None:
        """One reader less. After the last one the place is free."""
        if not _is_vector(x):
            return
        self._readers[x] -= 1
        if not self._readers[x]:
            place = self._place[x]
            if place in self._names:
                self._free_homes.add(place)
            elif place != "gradient":
                self._free.append(place)

    def _bring_home(self, names: list[str], results: tuple[Any, ...]) -> None:
        """Copy results that were computed elsewhere. Old vectors among them go through a buffer first."""
        copies = []
        for name, result in zip(names, results, strict=True):
            place = self._text(result)
            if place in names and place != name:
                self.n_buffers += 1
                self.lines.append(f"np.copyto(t{self.n_buffers}, {place})")
                place = f"t{self.n_buffers}"
            if place != name:
                copies.append(f"np.copyto({name}, {place})" if _is_vector(result) else f"{name}[...] = {place}")
        self.lines += copies


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
