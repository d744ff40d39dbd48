"""Operands: how the parts of an expression are read, in temporaries where they must be computed first.

A temporary is free again after the last line that reads it: `_left` counts the reads.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...engine import elementary
from ..ir.routine import Axis, Expressions, Routine
from ..ir.symbols import Symbol
from .formulas import ATOM, OPERATORS, POWER, Form, number_text, short_number
from .text import ArrayText, Elements, Formulas, natural, shown

FILLED = {0.0: "zeros", 1.0: "ones"}  # names
_OWN = {"pow", "heaviside"}
UFUNCS = {f: f for f in elementary.__all__ if f not in _OWN and isinstance(getattr(np, f, None), np.ufunc)}
UFUNCS |= {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "neg": "negative"}
UFUNCS |= {"abs": "absolute", "max": "maximum", "equal": "equal"}
UFUNCS |= {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
NUMERIC = {"pow", *UFUNCS} - {"lt", "le", "gt", "ge", "equal"}  # a comparison gives no float


def numpy_text(x: Any) -> str:
    """A number as source."""
    return number_text(x, "np.inf", "np.nan")


class OperandReader(Formulas):
    """Reads expressions.

    lines    the source
    buffers  name -> shape of every array that is written
    filled   (number, shape) -> the buffer that holds this number everywhere
    """

    forms: ClassVar[Mapping[str, Form]] = OPERATORS | {"pow": Form("{} ** {}", POWER, (ATOM, ATOM))}

    def __init__(self, program: Routine):
        super().__init__(Elements())
        self.program: Routine = program
        self.book: Expressions = program.book
        self.formulas: Formulas = Formulas(self.elements)  # for comments
        self.lines: list[str] = []
        self.buffers: dict[str, tuple[Any, ...]] = {}
        self.filled: dict[tuple[Any, ...], str] = {}
        self._free: dict[tuple[Any, ...], list[str]] = {}  # temporaries, by shape
        self._n_temporaries = 0
        self._counts = Counter[Symbol]()  # how often each part of an expression is read
        self._saved: dict[Symbol, ArrayText] = {}
        self._left: dict[str, int] = {}  # temporary -> reads

    def into(self, x: Any, to: ArrayText) -> None:
        """Lines that leave x in the array `to`."""
        raise NotImplementedError

    # --- Single numbers ----------------------------------------------------------------------------------------

    def _is_single(self, x: Any) -> bool:
        """Is x one number, made of numbers by operations with a form or a function of NumPy?"""
        if not isinstance(x, Symbol) or x.op == "leaf":
            return True
        if x.axes - {self.elements.t}:
            return False
        if x.op == "get":
            return x.args[0].gather is None
        return x in self._saved or (x.op in NUMERIC and all(map(self._is_single, x.args)))

    def written(self, x: Any, order: Sequence[Axis]) -> ArrayText:
        """A formula of single numbers. What is computed already is read."""
        if isinstance(x, Symbol) and not self._is_computed(x):
            return shown(self.operand(x), order)
        return super().written(x, order)

    def function(self, op: str) -> str:
        return f"np.{UFUNCS[op]}"

    def is_truth(self, x: Any) -> bool:
        """Arrays of truth values have become arrays of floats."""
        return False

    # --- Operands ----------------------------------------------------------------------------------------------

    def write(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)

    def assign(self, to: ArrayText, code: str) -> None:
        """Add a line that sets all elements."""
        self.write(f"{to.code if to.is_item else f'{to.code}[...]'} = {code}")

    def full(self, number: float, sizes: Sequence[Any]) -> str:
        """The name of an array that holds this number everywhere."""
        key = float(number), tuple(sizes)
        if key not in self.filled:
            stem = FILLED.get(key[0], "full")
            n = sum(FILLED.get(number, "full") == stem for number, *_ in self.filled)
            self.filled[key] = f"{stem}_{n + 1}"
            self.buffers[self.filled[key]] = key[1]
        return self.filled[key]

    def number(self, x: Any) -> str:
        return short_number(x, "np.inf", "np.nan")

    def operand(self, x: Any, hint: Sequence[Any] = ()) -> ArrayText:
        """A text that reads x. What must be computed is computed into a temporary first."""
        if not isinstance(x, Symbol):
            return ArrayText(numpy_text(x), ())
        if x.op == "leaf":
            return ArrayText(str(x.args[0]), ())
        if x.op == "get":
            return self.elements.element(x.args[0])
        if x in self._saved:
            return self._saved[x]
        if x.op == "div" and x.args[1] is self.book.size and not isinstance(x.args[0], Symbol):
            return ArrayText(f"{numpy_text(x.args[0])} / B", ())
        free = x.axes - {self.elements.t}
        if not free and self._is_single(x) and self._counts[x] <= 1:
            return ArrayText(self.text(x, ()), ())
        axes = [axis for axis in hint if axis in free]
        axes += natural(x, free.difference(axes), self.elements.t)
        to = self._temporary(axes)
        self.into(x, to)
        self._saved[x] = to
        self._left[to.code] = max(self._counts[x], 1)
        return to

    def dense(self, x: Any, axes: Sequence[Axis]) -> ArrayText:
        """A text that has all these axes."""
        text = self.operand(x, axes)
        if set(text.axes) == set(axes):
            return text
        to = self._temporary(axes)
        self.assign(to, shown(text, axes).code)
        self._left[to.code] = 1
        return to

    def _temporary(self, axes: Sequence[Axis]) -> ArrayText:
        shape = tuple(axis.size for axis in axes)
        if names := self._free.get(shape):
            return ArrayText(names.pop(), tuple(axes))
        self._n_temporaries += 1
        name = f"t{self._n_temporaries}"
        self.buffers[name] = shape
        return ArrayText(name, tuple(axes))

    def _release(self, *operands: Any) -> None:
        """A line that reads these is written. Temporaries without another reader are free."""
        for x in operands:
            text = self._saved.get(x) if isinstance(x, Symbol) else None
            if text is not None and text.code in self._left:
                self._left[text.code] -= 1
                if not self._left[text.code]:
                    self._drop(text)

    def _drop(self, text: ArrayText) -> None:
        """A temporary that nothing reads any more."""
        self._left.pop(text.code, None)
        self._free.setdefault(self.buffers[text.code], []).append(text.code)

    def _is_computed(self, x: Any) -> bool:
        """Does x need lines?"""
        return isinstance(x, Symbol) and x.op not in ("get", "leaf") and x not in self._saved
