"""Emit: a program as NumPy source that a person would have written.

`build(parameters, gradient, B)` makes the buffers for batches of B examples, once, and returns the function that
runs one batch. Every formula stands above the lines that compute it, with its shape. The lines write into the
buffers and go on in place: a step allocates next to nothing.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .differentiate import Definition, Program
from .lower import Array
from .symbols import INDICATORS, Symbol, infix, number_text
from .views import View

UFUNCS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "neg": "negative",
    "abs": "absolute",
    "max": "maximum",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
    "equal": "equal",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
}
UFUNCS |= {
    name: name
    for name in ["exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh", "sign"]
}
WIDTH = 100  # of a formula; what is longer is named by its operation

TOLD = 2000  # definitions; nobody reads more formulas

HELPERS = {
    "strided": '''
def strided(vector, start, shape, strides):
    """The elements start + i * strides[0] + j * strides[1] + ... of a vector, without a copy."""
    steps = [stride * vector.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(vector[start:], shape, steps)
''',
    "log_sum_exp": '''
def log_sum_exp(Z, softmax, out):
    """log(e^z1 + e^z2 + ...) along the last axis, without overflow; leaves the softmax behind."""
    top = Z.max(axis=-1, keepdims=True)
    top[np.isinf(top)] = 0
    np.subtract(Z, top, out=softmax)
    np.exp(softmax, out=softmax)
    total = softmax.sum(axis=-1, keepdims=True)
    np.divide(softmax, total, out=softmax)
    np.add(top, np.log(total), out=total)
    out[...] = total[..., 0]
''',
    "sigmoid": '''
def sigmoid(x):
    """1 / (1 + e^-x), by the branch that cannot overflow."""
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + small), small / (1 + small))
''',
    "erf": '''
def erf(x):
    """The error function of every element; NumPy has none."""
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)
''',
    "erfc": '''
def erfc(x):
    """1 - erf of every element; NumPy has none."""
    return np.asarray(np.frompyfunc(math.erfc, 1, 1)(x), x.dtype)
''',
    "power": '''
def power(x, y):
    """x ** y, where nan stays nan."""
    return np.where(np.isnan(x) | np.isnan(y), np.nan, np.power(x, y))
''',
    "scatter_add": '''
def scatter_add(out, places, order, starts, values):
    """Add values to elements of the last axis of out, several to one: in `order`, runs of them belong together."""
    out[..., places] += np.add.reduceat(values[..., order], starts, axis=-1)
''',
    "add_rows": '''
def add_rows(rows, index, out):
    """out[k] = the sum of the rows whose index is k."""
    rows, index = rows.reshape(-1, rows.shape[-1]), index.reshape(-1)
    if len(out) <= 256:  # as a product with one-hot rows
        np.matmul((index == np.arange(len(out))[:, None]).astype(out.dtype), rows, out=out)
    else:
        out[...] = 0
        np.add.at(out, index, rows)
''',
}
FUNCTIONS = ("sigmoid", "erf", "erfc")  # helpers of one argument that return a new array


class Emitter:
    """Writes the source of one program. `source` is the text; `constants` and `rules` are what it names."""

    def __init__(self, program: Program, gradient: bool, title: str):
        self.program, self.gradient, self.title = program, gradient, title
        self.lines: list[str] = []
        self.buffers: dict[str, tuple[tuple[int, ...], bool]] = {}
        self.free: dict[tuple[Any, ...], list[str]] = {}
        self.n_temporaries = 0
        self.helpers: set[str] = set()
        self.constants: dict[str, Any] = dict(program.constants)
        self._constants_by_content: dict[Any, str] = {}
        self.rules: dict[str, Any] = {}
        self.names: dict[Symbol, str] = {symbol: array.name for array, symbol in program.symbols.items()}
        self._uses: dict[Symbol, int] = {}
        self._saved: dict[Symbol, str] = {}
        self._readers: dict[str, int] = {}  # how many statements still read a temporary
        for definition in program.definitions:
            self._define(definition)
        self.source = self._module()

    # --- The module -----------------------------------------------------------------------------------------

    def _module(self) -> str:
        inputs = [a for a in self.program.lowered.arrays if a.source[:1] == ("input",)]
        names = self._input_names(inputs)
        setup, before, after = self._parameters()
        setup += [
            f"{name} = np.empty({_shape_text(shape, batched)}, dtype)"
            for name, (shape, batched) in self.buffers.items()
        ]
        results = self._results(after)
        lines = self.lines if before else self.lines[1:]
        body = [*before, *lines, *after, f"return {results}"]
        text = [f'"""{self.title}"""', ""]
        text += ["import math"] if self.helpers & {"erf", "erfc"} else []
        text += ["import numpy as np"]
        text += [f"from tinygrad_edu import RULES  # for {', '.join(self.rules)}"] if self.rules else []
        whole = "\n".join(body)
        text += [f"{name} = np.{name}" for name in ("inf", "nan") if name in whole.replace("np.isnan", "")]
        text += ["\n" + HELPERS[name].rstrip() for name in HELPERS if name in self.helpers]
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
        if self.constants:
            text += ["", ""]
            text += [f"{name} = np.array({_array_text(array)})" for name, array in self.constants.items()]
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
            strides = _strides(places)
            spread = strides is not None and len(strides) == 1 and strides != (1,)  # slow to add to every row
            for vector, own, copies in (("parameters", name, before), ("gradient", f"d{name}", after)):
                if vector == "gradient" and not self.gradient:
                    continue
                if strides is None:
                    self.buffers[own] = (array.shape, False)
                    there = f"{vector}[{self._constant(places)}]"
                elif own in self.buffers or spread:
                    self.buffers[own] = (array.shape, False)
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
        dense = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        if strides == dense:
            flat = f"{vector}[{start}:{start + array.size}]"
            return flat if len(shape) == 1 else f"{flat}.reshape({_tuple_text(shape)})"
        self.helpers.add("strided")
        return f"strided({vector}, {start}, {_tuple_text(shape)}, {_tuple_text(strides)})"

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

    # --- Definitions ----------------------------------------------------------------------------------------

    def _define(self, definition: Definition) -> None:
        name, formula, array = definition.name, definition.formula, definition.array
        is_parameter = definition.is_gradient and array.source == ("parameter",)
        if not is_parameter or self._needs_own_buffer(formula, array):
            self.buffers[name] = (array.shape, array.batched)
        shape = ", ".join([*(["B"] if array.batched else []), *map(str, array.shape)])
        self._uses = {}
        self._count(formula)
        self.lines.append("")
        told = len(self.program.definitions) <= TOLD
        line = f"# {name} = {self._formula_text(formula, array)}" if told else f"# {name}"
        self.lines.append(f"{line:<{WIDTH - 16}}  ({shape})")
        self._into(formula, name, array.shape, array.batched)
        if isinstance(formula, Symbol) and formula.shape == array.shape and formula.op != "leaf":
            self.names.setdefault(formula, name)
        self._saved.clear()

    def _needs_own_buffer(self, formula: Any, array: Array) -> bool:
        """Is it written to through a reshape, which a view with gaps does not allow?"""
        strides = _strides(array.places.reshape(array.shape))
        dense = tuple(math.prod(array.shape[axis + 1 :]) for axis in range(len(array.shape)))
        if strides is None or strides == dense or len(strides) == 1:
            return strides is None
        terms = formula.args if isinstance(formula, Symbol) and formula.op == "accumulate" else (formula,)
        return any(
            isinstance(t, Symbol)
            and t.op == "scatter"
            and (t.args[1].reshape is not None or t.args[1].gather is not None)
            for t in terms
        )

    def _formula_text(self, formula: Any, array: Array) -> str:
        if isinstance(formula, Symbol) and formula.op == "accumulate":
            text = _sum_text(formula, self._text)
        else:
            text = self._text(formula)
        if len(text) <= WIDTH - 20:
            return text
        return (
            f"the shares of all that uses {array.name}" if array.rule is None else f"by the rule {array.rule.name}"
        )

    def _text(self, x: Any, level: int = 0) -> str:
        if isinstance(x, float) and x.is_integer() and abs(x) < 1e15:
            return str(int(x))
        return infix(x, lambda symbol: _formula_name(symbol, self), level)

    # --- Statements -----------------------------------------------------------------------------------------

    def _count(self, x: Any) -> None:
        """How often every part of a formula is used in it."""
        stack = [x]
        while stack:
            x = stack.pop()
            if isinstance(x, Symbol) and x not in self.names and x.op != "leaf":
                self._uses[x] = self._uses.get(x, 0) + 1
                if self._uses[x] == 1 or x.op in ("view", "expand"):  # which are read through
                    stack += x.args

    def _temporary(self, shape: tuple[int, ...], batched: bool) -> str:
        kept = self.free.setdefault((shape, batched), [])
        if kept:
            name = kept.pop()
        else:
            self.n_temporaries += 1
            name = f"t{self.n_temporaries}"
            self.buffers[name] = (shape, batched)
        return name

    def _release(self, *texts: str) -> None:
        """The statement that reads these texts is written: temporaries that nothing else waits for are free."""
        for text in texts:
            name = text.split(".")[0].split("[")[0]
            if name in self._readers:
                self._readers[name] -= 1
                if not self._readers[name]:
                    del self._readers[name]
                    self.free[self.buffers[name]].append(name)

    def _operand(self, x: Any) -> str:
        """A text that reads x; what is no variable or view of one is computed into a temporary first."""
        if not isinstance(x, Symbol):
            return number_text(x)
        if x in self.names:
            return self.names[x]
        if x.op == "leaf":
            return str(x.args[0])
        if x.op == "view":
            base, view = x.args
            return str(view.text(self._operand(base), base.batched, self._constant))
        if x.op == "expand":
            return self._expanded(self._operand(x.args[0]), x.args[0], x.args[1])
        if x not in self._saved:
            name = self._temporary(x.shape, x.batched)
            self._into(x, name, x.shape, x.batched)
            self._saved[x] = name
            self._readers[name] = self._uses.get(x, 1)
        return self._saved[x]

    def _expanded(self, text: str, x: Symbol, missing: int) -> str:
        if not x.batched and not x.shape:
            return text
        return f"{text}[..., None]"

    def _aligned(self, x: Any, shape: tuple[int, ...]) -> str:
        """A text that reads x beside batched arrays of this shape."""
        text = self._operand(x)
        if isinstance(x, Symbol) and x.batched and len(x.shape) < len(shape):
            text += f"[:, {', '.join(['None'] * (len(shape) - len(x.shape)) + [':'] * len(x.shape))}]"
        return text

    def _constant(self, array: Any) -> str:
        key = (array.dtype.char, array.shape, array.tobytes())
        if key not in self._constants_by_content:
            name = self._constants_by_content[key] = f"index_{len(self.constants) + 1}"
            self.constants[name] = array
        return self._constants_by_content[key]

    def _write(self, line: str) -> None:
        self.lines.append(line)

    def _into(self, x: Any, to: str, shape: tuple[int, ...], batched: bool) -> None:
        """Statements that leave x in the array `to`, which has this shape."""
        if not isinstance(x, Symbol):
            self._write(f"{to}[...] = {number_text(x)}")
            return
        if (
            x in self.names
            or x.op in ("leaf", "view", "expand", "dense")
            or x in self._saved
            or x.shape != shape
            or x.batched != batched
        ):
            inner = x.args[0] if x.op == "dense" and x not in self.names else x
            if x.op == "dense" and isinstance(inner, Symbol) and inner.shape == shape and inner.batched == batched:
                self._into(inner, to, shape, batched)
                return
            text = self._aligned(inner, shape) if isinstance(inner, Symbol) else number_text(inner)
            self._write(f"{to}[...] = {text}")
            self._release(text)
            return
        special = getattr(self, f"_{x.op}_into", None)
        if special:
            special(x, to)
        elif x.op in UFUNCS or x.op in ("step", "where", "pow", "sigmoid", "erf", "erfc"):
            self._elementwise(x, to)
        else:
            raise NotImplementedError(f"The compiler has no source for {x.op!r}.")

    def _elementwise(self, x: Symbol, to: str) -> None:
        texts: list[str] = []
        place_taken = False
        for argument in x.args:
            here = (
                isinstance(argument, Symbol)
                and not place_taken
                and self._is_computed(argument)
                and argument.shape == x.shape
                and argument.batched == x.batched
                and self._uses.get(argument, 1) == 1
                and not any(to in text for text in texts)
            )
            if here:
                self._into(argument, to, x.shape, x.batched)
                texts.append(to)
                place_taken = True
            else:
                texts.append(self._aligned(argument, x.shape))
        self._write(self._call(x, texts, to))
        self._release(*(text for text in texts if text != to))

    def _is_computed(self, x: Any) -> bool:
        return (
            isinstance(x, Symbol)
            and x not in self.names
            and x not in self._saved
            and x.op not in ("leaf", "view", "expand", "dense")
        )

    def _call(self, x: Symbol, texts: list[str], to: str) -> str:
        if x.op == "step":
            relu = self.program.book.known("max", x.args[0], 0.0)
            if relu in self.names:  # the sign of max(x, 0) is 1 where x > 0, else 0, and nan stays nan
                return f"np.sign({self.names[relu]}, out={to})"
            return f"np.heaviside({texts[0]}, 0.0, out={to})"
        if x.op == "where":
            return f"{to}[...] = np.where({', '.join(texts)})"
        if x.op == "pow":
            if not isinstance(x.args[1], Symbol) and x.args[1] != 0:
                if x.args[1] == 2:
                    return f"np.square({texts[0]}, out={to})"
                return f"np.power({texts[0]}, {float(x.args[1])!r}, out={to})"
            self.helpers.add("power")
            return f"{to}[...] = power({', '.join(texts)})"
        if x.op in FUNCTIONS:
            self.helpers.add(x.op)
            return f"{to}[...] = {x.op}({texts[0]})"
        return f"np.{UFUNCS[x.op]}({', '.join(texts)}, out={to})"

    # --- What is not elementwise ------------------------------------------------------------------------------

    def _accumulate_into(self, x: Symbol, to: str) -> None:
        so_far = ""
        for i, term in enumerate(x.args):
            if isinstance(term, Symbol) and term.op == "scatter" and term not in self.names:
                if not so_far:
                    view = term.args[1]
                    if view.whole and len(x.args) > i:
                        self._into(term, to, x.shape, x.batched)
                        so_far = to
                        continue
                    self._write(f"{to}[...] = 0")
                elif so_far != to:
                    self._write(f"{to}[...] = {so_far}")
                so_far = to
                self._add_scattered(term, to)
                continue
            minus = isinstance(term, Symbol) and term.op == "neg" and term not in self.names and bool(so_far)
            part = term.args[0] if minus else term
            fits = isinstance(part, Symbol) and part.shape == x.shape and part.batched == x.batched
            if not so_far:
                if fits and self._is_computed(part) and self._uses.get(part, 1) == 1:
                    self._into(part, to, x.shape, x.batched)
                    so_far = to
                elif fits and len(x.args) > 1:
                    so_far = self._operand(part)
                else:
                    self._into(part, to, x.shape, x.batched)
                    so_far = to
                continue
            text = self._aligned(part, x.shape)
            self._write(f"np.{'subtract' if minus else 'add'}({so_far}, {text}, out={to})")
            self._release(text, *([so_far] if so_far != to else []))
            so_far = to

    def _scatter_into(self, x: Symbol, to: str) -> None:
        value, view = x.args
        if view.whole:
            self._into(value, view.text(to, x.batched, self._constant, to_write=True), view.shape, x.batched)
            return
        self._write(f"{to}[...] = 0")
        self._add_scattered(x, to)

    def _add_scattered(self, x: Symbol, to: str) -> None:
        value, view = x.args
        text = self._aligned(value, view.shape)
        if view.gather is None:
            target = view.text(to, x.batched, self._constant, to_write=True)
            self._write(
                f"{target} += {text}" if target.endswith("]") else f"np.add({target}, {text}, out={target})"
            )
        else:
            self._add_gathered(x, to, text, view)
        self._release(text)

    def _add_gathered(self, x: Symbol, to: str, text: str, view: View) -> None:
        index = view.gather.ravel()  # type: ignore[union-attr]
        n = math.prod(view.source)
        flat = to if len(view.source) == 1 else f"{to}.reshape({'B, ' if x.batched else ''}{n})"
        lead = "B, " if x.batched else ""
        full = f"np.broadcast_to({text}, ({lead}{_tuple_text(view.shape, bare=True)})).reshape({lead}{index.size})"
        if len(np.unique(index)) == index.size:
            self._write(f"{flat}[..., {self._constant(index)}] += {full}")
            return
        order = np.argsort(index, kind="stable")
        places, starts = np.unique(index[order], return_index=True)
        self.helpers.add("scatter_add")
        names = ", ".join(map(self._constant, (places, order, starts)))
        self._write(f"scatter_add({flat}, {names}, {full})")

    def _reduce_into(self, x: Symbol, to: str) -> None:
        formula, over_batch, axes = x.args
        text = self._operand(formula)
        if over_batch and not axes:
            self._write(f"{text}.sum(axis=0, out={to})")
        else:
            lead = 1 if formula.batched else 0
            summed = tuple(([0] if over_batch else []) + [axis + lead for axis in axes])
            self._write(f"{to}[...] = {text}.sum(axis={summed}, keepdims=True){'[0]' if over_batch else ''}")
        self._release(text)

    def _along_last_axis(self, function: str) -> Callable[[Symbol, str], None]:
        def into(x: Symbol, to: str) -> None:
            text = self._operand(x.args[0])
            self._write(f"{text}.{function}(axis=-1, out={to})")
            self._release(text)

        return into

    def _sum_into(self, x: Symbol, to: str) -> None:
        self._along_last_axis("sum")(x, to)

    def _max_into(self, x: Symbol, to: str) -> None:
        if len(x.args) == 2:
            self._elementwise(x, to)
        else:
            self._along_last_axis("max")(x, to)

    def _min_into(self, x: Symbol, to: str) -> None:
        self._along_last_axis("min")(x, to)

    def _logsumexp_into(self, x: Symbol, to: str) -> None:
        self.helpers.add("log_sum_exp")
        elements = x.args[0]
        text = self._operand(elements)
        name = self._softmax_name(elements)
        self._write(f"log_sum_exp({text}, {name}, out={to})  # {name} = softmax({text})")
        self.names[self.program.book.special("softmax", (elements,), elements.shape, elements.batched)] = name

    def _softmax_name(self, elements: Symbol) -> str:
        base = self.names.get(elements, "")
        name = f"A{base[1:]}"
        if not base.startswith("Z") or name in self.buffers:
            name = next(n for i in itertools.count(1) if (n := f"softmax_{i}") not in self.buffers)
        self.buffers[name] = (elements.shape, elements.batched)
        return name

    def _vecdot_into(self, x: Symbol, to: str) -> None:
        a, b = map(self._operand, x.args)
        self._write(f"np.vecdot({a}, {b}, out={to})")
        self._release(a, b)

    def _pick_into(self, x: Symbol, to: str) -> None:
        options, index = x.args
        texts = self._operand(options), self._operand(index)
        if options.batched:
            picked = f"np.take_along_axis({texts[0]}, {texts[1]}.astype(np.intp)[..., None], -1)[..., 0]"
        else:
            rows = f"np.arange({options.shape[0]}), " if options.shape[:-1] else ""
            picked = f"{texts[0]}[{rows}{texts[1]}.astype(np.intp)]"
        self._write(f"{to}[...] = {picked}")
        self._release(*texts)

    def _one_hot_into(self, x: Symbol, to: str) -> None:
        index, n = x.args
        text = self._operand(index)
        self._write(f"np.equal({text}[..., None], np.arange({n}), out={to})")
        self._release(text)

    def _rows_into(self, x: Symbol, to: str) -> None:
        table, index = map(self._operand, x.args)
        self._write(f"np.take({table}, {index}.astype(np.intp), axis=0, out={to})")
        self._release(table, index)

    def _add_rows_into(self, x: Symbol, to: str) -> None:
        self.helpers.add("add_rows")
        rows, index = map(self._operand, x.args)
        self._write(f"add_rows({rows}, {index}.astype(np.intp), out={to})")
        self._release(rows, index)

    def _call_into(self, x: Symbol, to: str) -> None:
        rule, what, *arguments = x.args
        name = f"RULES[{rule.name!r}]" + (f".bind(**{rule.parameters!r})" if rule.parameters else "")
        self.rules[rule.name] = rule
        full = []
        for argument in arguments:
            text = self._aligned(argument, x.shape)
            lead = "B, " if x.batched else ""
            full.append(f"np.broadcast_to({text}, ({lead}{_tuple_text(x.shape, bare=True)}))")
            self._release(text)
        call = (
            f"{name}.forward({', '.join(full)})"
            if what == "forward"
            else f"{name}.backward({', '.join(full)})[{what}]"
        )
        self._write(f"{to}[...] = {call}")

    # --- Matrix products --------------------------------------------------------------------------------------

    def _product_into(self, x: Symbol, to: str) -> None:
        """Rows of a times rows of b: b @ a.T."""
        a, b = x.args
        text_a, text_b = self._operand(a), self._operand(b)
        self._write(_product_text(a, b, x, text_a, text_b, to))
        self._release(text_a, text_b)

    def _product_a_into(self, x: Symbol, to: str) -> None:
        """The gradient of a: upstream.T @ b, summed over the batch where a is not batched."""
        upstream, b, n_a, n_b = x.args
        u, v = self._operand(upstream), self._operand(b)
        terms = b.shape[-1]
        if len(b.shape) > 2 or (len(x.shape) > 2):
            product = f"np.matmul({u}.swapaxes(-1, -2), {v})"
            self._write(f"{to}[...] = {product}" + (".sum(axis=0)" if b.batched and not x.batched else ""))
        elif b.batched and not x.batched:
            left = (
                u
                if upstream.shape == ((n_a,) if n_a > 1 else ())
                else f"{u}.reshape(-1{f', {n_a}' if n_a > 1 else ''})"
            )
            right = v if len(b.shape) == 1 else f"{v}.reshape(-1, {terms})"
            self._write(_transposed_product(left if n_a == 1 else f"{left}.T", right, to))
        else:
            u2, v2 = _rows_text(u, upstream, n_b, n_a), _rows_text(v, b, n_b, terms)
            self._write(f"np.matmul({u2}.swapaxes(-1, -2), {v2}, out={_rows_text(to, x, n_a, terms)})")
        self._release(u, v)

    def _product_b_into(self, x: Symbol, to: str) -> None:
        """The gradient of b: upstream @ a."""
        upstream, a, n_a, n_b = x.args
        u, v = self._operand(upstream), self._operand(a)
        terms = a.shape[-1]
        if (
            n_a > 1 and len(a.shape) == 2 and not a.batched and (upstream.batched or n_b > 1) and len(x.shape) <= 2
        ) or len(a.shape) > 2:
            self._write(f"np.matmul({u}, {v}, out={to})")
        else:
            u2, v2 = _rows_text(u, upstream, n_b, n_a), _rows_text(v, a, n_a, terms)
            self._write(f"np.matmul({u2}, {v2}, out={_rows_text(to, x, n_b, terms)})")
        self._release(u, v)


def _product_text(a: Symbol, b: Symbol, x: Symbol, text_a: str, text_b: str, to: str) -> str:
    if len(a.shape) == len(b.shape) == 1:
        if b.batched and not a.batched:
            return f"np.matmul({text_b}, {text_a}, out={to})"
        return f"np.vecdot({text_a}, {text_b}, out={to})"
    if len(a.shape) <= 2 and not a.batched and (b.batched or len(b.shape) == 1):
        transposed = text_a if len(a.shape) == 1 else _transposed(text_a)
        if len(b.shape) == 2 and len(a.shape) == 2:
            terms, n_a = b.shape[-1], a.shape[0]
            return f"np.matmul({text_b}.reshape(-1, {terms}), {transposed}, out={to}.reshape(-1, {n_a}))"
        return f"np.matmul({text_b}, {transposed}, out={to})"
    n_a, n_b, terms = (
        (a.shape[-2] if len(a.shape) > 1 else 1),
        (b.shape[-2] if len(b.shape) > 1 else 1),
        a.shape[-1],
    )
    if len(a.shape) > 2:
        return f"np.matmul({text_b}, {text_a}.swapaxes(-1, -2), out={to})"
    a2, b2 = _rows_text(text_a, a, n_a, terms), _rows_text(text_b, b, n_b, terms)
    return f"np.matmul({b2}, {a2}.swapaxes(-1, -2), out={_rows_text(to, x, n_b, n_a)})"


def _rows_text(text: str, x: Symbol, rows: int, columns: int) -> str:
    """x as (rows, columns) for every example, where an axis of 1 was left out."""
    if x.shape == (rows, columns):
        return text
    lead = ":, " if x.batched else ""
    if x.shape == ():
        return f"{text}[{lead}None, None]"
    return f"{text}[{lead}None, :]" if rows == 1 else f"{text}[{lead}:, None]"


def _transposed(text: str) -> str:
    return text.removesuffix(".T") if text.endswith(".T") else f"{text}.T"


def _transposed_product(left: str, right: str, to: str) -> str:
    """left @ right into `to`; into a transposed array by the transposed factors."""
    if to.endswith(".T"):
        return f"np.matmul({_transposed(right)}, {_transposed(left)}, out={_transposed(to)})"
    return f"np.matmul({left}, {right}, out={to})"


# --- Text -----------------------------------------------------------------------------------------------------


def _formula_name(x: Symbol, emitter: Emitter) -> str | None:
    """How a formula calls what is not plain arithmetic."""
    if x in emitter.names:
        return emitter.names[x]

    text = emitter._text
    match x.op:
        case "leaf":
            return str(x.args[0])
        case "view":
            base, view = x.args
            return str(view.text(text(base, 4), base.batched, emitter._constant))
        case "expand":
            return f"{text(x.args[0], 4)}[..., None]"
        case "dense":
            return text(x.args[0], 4)
        case "accumulate":
            return f"({_sum_text(x, text)})"
        case "scatter":
            return (
                f"scatter({text(x.args[0])})"
                if x.args[1].gather is not None or not x.args[1].whole
                else text(x.args[0], 4)
            )
        case "reduce":
            return f"{text(x.args[0], 4)}.sum({_axes_text(x)})"
        case "sum":
            return f"{text(x.args[0], 4)}.sum(axis=-1)"
        case "vecdot":
            return f"({text(x.args[0], 3)} * {text(x.args[1], 3)}).sum(axis=-1)"
        case "product":
            a, b = text(x.args[0], 4), text(x.args[1], 4)
            if len(x.args[0].shape) == len(x.args[1].shape) == 1 and x.args[0].batched:
                return f"({a} * {b}).sum(axis=-1)"
            return f"{b} @ {_transposed(a) if len(x.args[0].shape) > 1 else a}"
        case "product_a":
            upstream, right = text(x.args[0], 4), text(x.args[1], 4)
            return f"{_transposed(upstream) if x.args[0].shape else upstream} @ {right}"
        case "product_b":
            return f"({text(x.args[0], 4)} @ {text(x.args[1], 4)})"
        case "one_hot":
            return f"one_hot({text(x.args[0])})"
        case "rows":
            return f"{text(x.args[0], 4)}[{text(x.args[1])}]"
        case "pick":
            return f"{text(x.args[0], 4)}[{text(x.args[1])}]"
        case "call":
            return f"{x.args[0].name}({', '.join(text(a) for a in x.args[2:])})"
        case "max":
            return f"maximum({', '.join(text(a) for a in x.args)})" if len(x.args) == 2 else None
    return None


def _sum_text(x: Symbol, text: Any) -> str:
    formula = ""
    for term in x.args:
        if isinstance(term, Symbol) and term.op == "neg" and formula:
            formula += f" - {text(term.args[0], 3)}"
        else:
            formula += (" + " if formula else "") + text(term, 2)
    return formula


def _axes_text(x: Symbol) -> str:
    _, over_batch, axes = x.args
    lead = 1 if x.args[0].batched else 0
    every = ([0] if over_batch else []) + [axis + lead for axis in axes]
    return f"axis={every[0] if len(every) == 1 else tuple(every)}"


def _element(array: Array, place: int) -> str:
    if array.size == 1:
        return array.name
    lead = ":, " if array.batched else ""
    return f"{array.name}.reshape({'B, ' if array.batched else ''}{array.size})[{lead}{place}]"


def _shape_text(shape: tuple[int, ...], batched: bool) -> str:
    return _tuple_text(("B", *shape) if batched else shape)


def _tuple_text(shape: Any, bare: bool = False) -> str:
    inner = ", ".join(map(str, shape)) + ("," if len(shape) == 1 or (bare and shape) else "")
    return inner if bare else f"({inner})"


def _array_text(array: Any) -> str:
    return repr(array.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")


def _strides(places: Any) -> tuple[int, ...] | None:
    """The strides with which an array of this shape lies in a vector, None if it does not lie in steps."""
    if places.size == 1:
        return tuple(1 for _ in places.shape)
    base = int(places.flat[0])
    strides = [
        int(places.take(1, axis).flat[0]) - base if size > 1 else 1 for axis, size in enumerate(places.shape)
    ]
    grid = base + sum(
        np.arange(size).reshape([-1 if a == axis else 1 for a in range(places.ndim)]) * stride
        for axis, (size, stride) in enumerate(zip(places.shape, strides, strict=True))
    )
    return tuple(strides) if min(strides) > 0 and np.array_equal(grid, places) else None


__all__ = ["INDICATORS", "Emitter"]
