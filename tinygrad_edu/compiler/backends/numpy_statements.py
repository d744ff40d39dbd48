"""Statements: the lines that compute formulas into buffers.

A formula is computed into the array that it defines, operation by operation, with out=. A part of another shape
goes into a temporary. A temporary is free again after the last statement that reads it: `_uses` counts how often
each part of a formula is read, and `_readers` how many reads are left.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...engine.rules import RULES
from ..differentiate import Definition
from ..formulas import number_text
from ..loop_program import LoopProgram, Repeated
from ..lower import Array
from ..symbols import Symbol, uses_of
from ..views import dense_strides, strides_of
from .numpy_operations import Numbers, Textbook, operation_of

WIDTH = 80  # of a formula; a longer one is named by its operation
TOLD = 2000  # definitions; longer programs have no formulas in their comments
READ_THROUGH = ("view", "expand")  # operations that need no statement
FORWARD, BACKWARD = "range({0})", "reversed(range({0}))"  # the stages of a loop
SLOPES = ("tanh", "sigmoid")  # the slope has a helper: from the result, not from the operand
FILLED = {0.0: "zeros", 1.0: "ones"}  # names
COPIED = ("leaf", *READ_THROUGH, "dense")


class Statements:
    """The statements of a program.

    lines      the source: each formula as a comment, and below it the lines that compute it
    buffers    name -> (shape for one example, batched) of every array that is written
    constants  name -> an array of numbers that the lines read
    filled     (number, shape, batched) -> the buffer that holds this number everywhere
    rules      name -> a rule that the lines call, since it does not run on symbols
    names      symbol -> the variable that holds it
    slopes     symbol -> the function, of SLOPES, of which it is the slope
    """

    def __init__(self, program: LoopProgram):
        self.program = program
        self.lines: list[str] = []
        self.buffers: dict[str, tuple[tuple[int, ...], bool]] = {}
        self.constants: dict[str, Any] = dict(program.constants)
        self.filled: dict[tuple[float, tuple[int, ...], bool], str] = {}
        self.rules: dict[str, Any] = {}
        self.names: dict[Symbol, str] = {symbol: str(symbol.args[0]) for symbol in program.symbols.values()}
        self.slopes: dict[Symbol, Symbol] = {}
        self._textbook, self._numbers = Textbook(self.names, self.constant), Numbers(self.names, self.constant)
        self._of_numbers: set[str] = set()  # the lines of single numbers
        self._constants_by_content: dict[Any, str] = {}
        self._free: dict[tuple[Any, ...], list[str]] = {}  # temporaries, by shape
        self._n_temporaries = 0
        self._uses: dict[Symbol, int] = {}
        self._saved: dict[Symbol, str] = {}
        self._readers: dict[str, int] = {}
        self._stages = 0  # of the loop that is being written
        self.loops: list[tuple[Repeated, int, int]] = []  # with the lines of the body
        for definition in program.definitions:
            if isinstance(definition, Repeated):
                self._repeat(definition)
            else:
                self._define(definition)
        self._forget_stages()

    # --- Definitions ----------------------------------------------------------------------------------------

    def _define(self, definition: Definition) -> None:
        name, formula, array = definition.name, definition.formula, definition.array
        is_parameter = definition.is_gradient and array.source == ("parameter",)
        self._uses = {}
        self._count(formula)
        if text := self._number_text(definition):
            gap = [] if self.lines and self.lines[-1] in self._of_numbers else [""]
            self._of_numbers.add(line := f"{name}{'[...]' * is_parameter} = {text}")
            self.lines += [*gap, line]
        else:
            if name.isidentifier() and (not is_parameter or _needs_own_buffer(formula, array)):
                self.buffers[name] = (array.shape, array.batched)
            shape = ", ".join([*(["B"] if array.batched else []), *map(str, array.shape)])
            told = f" = {self._formula_text(definition)}" if len(self.program.definitions) <= TOLD else ""
            self.lines += ["", f"{f'# {name}{told}':<{WIDTH + 4}}  ({shape})"]
            is_row_of_numbers = name.endswith("]") and not shape
            self.into(formula, f"{name[:-1]}, ...]" if is_row_of_numbers else name, array.shape, array.batched)
        if isinstance(formula, Symbol) and formula.shape == array.shape and formula.op != "leaf":
            self.names.setdefault(formula, name)
            if formula.op in SLOPES:
                (slope,) = RULES[formula.op].shares(1.0, formula, *formula.args)
                self.slopes[slope] = formula
        self._saved.clear()

    def _number_text(self, definition: Definition) -> str:
        """The formula of a single number, for a statement. "" if it is long, or has parts to compute once."""
        formula, array = definition.formula, definition.array
        is_stored = definition.name.endswith("]") or isinstance(formula, Symbol)  # a variable is a number of NumPy
        if array.shape or array.batched or not is_stored or max(self._uses.values(), default=1) > 1:
            return ""
        if len(self._uses) > WIDTH or self.slopes.keys() & self._uses or not self._numbers.can_write(formula):
            return ""
        text = self._numbers.text(formula)
        return text if len(text) <= 2 * WIDTH else ""

    def _repeat(self, loop: Repeated) -> None:
        """The statements of a loop, after those that fill rows for its first stage."""
        start = len(self.lines)
        for definition in loop.before:
            self._define(definition)
        self.lines[start:] = ["", *(line for line in self.lines[start:] if line)]
        for stack in loop.stacks:
            self._stack(stack.name, stack.size, stack.array)
        if not loop.definitions:
            return
        if loop.is_backward:
            self._slopes_ahead(loop)
        before, self.lines, self._stages = self.lines, [], loop.length
        for definition in loop.definitions:
            self._define(definition)
        self._stages = 0
        head = f"for t in {(BACKWARD if loop.is_backward else FORWARD).format(loop.length)}:"
        body = [f"    {line}" for line in self.lines if line]
        self.loops.append((loop, len(before) + 2, len(before) + 2 + len(body)))
        self.lines = [*before, "", head, *body]

    def _stack(self, name: str, n: int, row: Array | Symbol) -> str:
        """Make an array of n rows, with the batch behind them. Returns the text of row t."""
        self.buffers[name] = (n, *(("B",) if row.batched else ()), *row.shape), False
        return f"{name}[t]"

    def kept(self, name: str, x: Symbol) -> str:
        """Make an array for x, which later formulas read; in a loop, one for each stage. Returns its text."""
        if self._stages:
            return self._stack(name, self._stages, x)
        self.buffers[name] = x.shape, x.batched
        return name

    def _slopes_ahead(self, loop: Repeated) -> None:
        """Compute slopes for all stages at once, before a reversed loop: they depend on the forward pass alone."""
        for definition in loop.definitions:
            stack = [definition.formula]
            while stack:
                x = stack.pop()
                if not isinstance(x, Symbol) or x in self.names:
                    continue
                if x not in self.slopes:
                    stack += x.args
                    continue
                function = self.slopes[x]
                names = [self.names.get(y, "") for y in (function, *function.args)]
                if any(name not in self.program.rows for name in names):
                    continue
                name = f"slope_{sum(name.startswith('slope_') for name in self.buffers) + 1}"
                texts = [stack.rows(first) for stack, first in map(self.program.rows.__getitem__, names)]
                self.names[x] = self._stack(name, loop.length, x)
                self.write(f"{function.op}_slope({', '.join(texts)}, out={name})")

    def _forget_stages(self) -> None:
        """A stack that is read in its own loop alone becomes an array for one stage."""
        for loop, first, last in self.loops:
            others = [
                line for line in [*self.lines[:first], *self.lines[last:]] if not line.lstrip().startswith("#")
            ]
            used = set(re.findall(r"\w+", "\n".join(others)))
            for stack in loop.stacks:
                name, array = stack.name, stack.array
                if name not in used and not stack.before:
                    self.buffers[name] = array.shape, array.batched
                    for i in range(first, last):
                        self.lines[i] = re.sub(rf"\b{name}\[t(, \.\.\.)?\]", name, self.lines[i])
                        if self.lines[i].startswith(f"    {name} = "):
                            del self.buffers[name]

    def _formula_text(self, definition: Definition) -> str:
        text, array = self._textbook.text(definition.formula), definition.array
        if len(text) <= WIDTH:
            return text
        if definition.is_gradient or array.rule is None:
            return f"the shares of all that reads {definition.name.partition('[')[0].removeprefix('d')}"
        return f"{array.rule.name} of {', '.join(_names_read(definition.formula))}"

    def _count(self, x: Any) -> None:
        """How often every part of a formula is used in it."""
        stack = [x]
        while stack:
            x = stack.pop()
            if isinstance(x, Symbol) and x not in self.names and x.op != "leaf":
                self._uses[x] = self._uses.get(x, 0) + 1
                if x in self.slopes:
                    stack += self.slopes[x].args
                elif self._uses[x] == 1 or x.op in READ_THROUGH:
                    stack += x.args

    # --- What operations write ------------------------------------------------------------------------------

    def write(self, line: str) -> None:
        """Add a line."""
        self.lines.append(line)

    def constant(self, array: Any) -> str:
        """The name of an array of numbers."""
        key = (array.dtype.char, array.shape, array.tobytes())
        if key not in self._constants_by_content:
            name = self._constants_by_content[key] = f"index_{len(self.constants) + 1}"
            self.constants[name] = array
        return self._constants_by_content[key]

    def full(self, number: float, shape: tuple[int, ...], batched: bool) -> str:
        """The name of an array that holds this number everywhere."""
        key = float(number), shape, batched
        if key not in self.filled:
            stem = FILLED.get(key[0], "full")
            n = sum(name.startswith(stem) for name in self.filled.values())
            self.filled[key] = f"{stem}_{n + 1}"
            self.buffers[self.filled[key]] = shape, batched
        return self.filled[key]

    def into(self, x: Any, to: str, shape: tuple[int, ...], batched: bool) -> None:
        """Statements that leave x in the array `to`, which has this shape."""
        if self.is_unnamed(x, "dense"):
            x = x.args[0]  # `to` has the full shape
        if x in self.slopes:
            function = self.slopes[x]
            with self.reading(function, *function.args) as texts:
                self.write(f"{function.op}_slope({', '.join(texts)}, out={to})")
        elif self._is_computed(x) and x.shape == shape and x.batched == batched and not _loses(x, to):
            operation_of(x).into(x, to, self)
        else:
            with self.reading(x, beside=shape) as (text,):
                self.write(f"{to if to.endswith(']') else f'{to}[...]'} = {text}")

    @contextmanager
    def reading(self, *operands: Any, beside: tuple[int, ...] | None = None) -> Iterator[list[str]]:
        """The texts of what a statement reads, beside arrays of a shape. After it, their temporaries are free."""
        yield [self.operand(x) if beside is None else self.aligned(x, beside) for x in operands]
        self.release(*operands)

    def operand(self, x: Any) -> str:
        """A text that reads x. If x is not a variable or a view of one, it is computed into a temporary first."""
        if not isinstance(x, Symbol):
            return number_text(x)
        if x in self.names:
            return self.names[x]
        if x.op == "leaf":
            return str(x.args[0])
        if x.op == "div" and x.args[1] is self.program.size and not isinstance(x.args[0], Symbol):
            return f"{number_text(x.args[0])} / B"
        if x.op == "view":
            base, view = x.args
            return str(view.text(self.operand(base), base.batched, self.constant))
        if x.op == "expand":
            text = self.operand(x.args[0])
            return f"{text}[..., None]" if x.args[0].batched or x.args[0].shape else text
        if x not in self._saved:
            name = self._temporary(x.shape, x.batched)
            self.into(x, name, x.shape, x.batched)
            self._saved[x] = name
            self._readers[name] = self._uses.get(x, 1)
        return self._saved[x]

    def aligned(self, x: Any, shape: tuple[int, ...]) -> str:
        """A text that reads x beside batched arrays of this shape."""
        text = self.operand(x)
        if isinstance(x, Symbol) and x.batched and len(x.shape) < len(shape):
            text += f"[:, {', '.join(['None'] * (len(shape) - len(x.shape)) + [':'] * len(x.shape))}]"
        return text

    def release(self, *operands: Any) -> None:
        """A statement that reads these is written. Temporaries without another reader are free."""
        for x in operands:
            while isinstance(x, Symbol) and x not in self.names and x.op in READ_THROUGH:
                x = x.args[0]
            name = self._saved.get(x, "") if isinstance(x, Symbol) else ""
            if name in self._readers:
                self._readers[name] -= 1
                if not self._readers[name]:
                    del self._readers[name]
                    self._free[self.buffers[name]].append(name)

    def is_unnamed(self, x: Any, op: str) -> bool:
        """Is x this operation, and not in a variable yet?"""
        return isinstance(x, Symbol) and x.op == op and x not in self.names and x not in self._saved

    def fits_in_place(self, x: Any, whole: Symbol) -> bool:
        """Can x be computed in the place of `whole`? It is if nothing else reads it."""
        fits = self._is_computed(x) and x.shape == whole.shape and x.batched == whole.batched
        return fits and self._uses.get(x, 1) == 1

    def _is_computed(self, x: Any) -> bool:
        """Does x need statements?"""
        return isinstance(x, Symbol) and x not in self.names and x not in self._saved and x.op not in COPIED

    def _temporary(self, shape: tuple[int, ...], batched: bool) -> str:
        kept = self._free.setdefault((shape, batched), [])
        if kept:
            return kept.pop()
        self._n_temporaries += 1
        name = f"t{self._n_temporaries}"
        self.buffers[name] = (shape, batched)
        return name


def _loses(x: Symbol, to: str) -> bool:
    """Would parts of `to` be written through a reshape that copies, since `to` has gaps?"""
    return ":" in to and any(part.op == "scatter" for part in uses_of([x]))


def _needs_own_buffer(formula: Any, array: Array) -> bool:
    """Is a gradient written through a reshape? A view with gaps does not allow that."""
    strides = strides_of(array.places.reshape(array.shape))
    if strides is None or strides == dense_strides(array.shape) or len(strides) == 1:
        return strides is None
    stack, seen = [formula], set[int]()
    while stack:
        x = stack.pop()
        if isinstance(x, Symbol) and x.op == "scatter":
            if x.args[1].reshape is not None or x.args[1].gather is not None:
                return True
        elif isinstance(x, Symbol) and x.op != "leaf" and x.shape == array.shape and id(x) not in seen:
            seen.add(id(x))
            stack += x.args
    return False


def _names_read(formula: Any) -> list[str]:
    """The variables of a formula, each once."""
    names: dict[str, None] = {}
    stack = [formula]
    while stack:
        x = stack.pop()
        if isinstance(x, Symbol):
            names |= dict.fromkeys([str(x.args[0])] if x.op == "leaf" else [])
            stack += reversed(x.args if x.op != "leaf" else ())
    return list(names)
