"""Statements: the lines that compute formulas into buffers.

A formula is computed into the array that it defines, part by part, each operation by one call that writes with
out=. What does not fit in there goes into a temporary. A temporary is free again when the last statement that
reads it is written: `_uses` counts how often every part of a formula is read, `_readers` who still waits.
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .differentiate import ArrayProgram, Definition
from .formulas import total_text, transposed
from .helpers import FUNCTIONS
from .lower import Array
from .symbols import Symbol, number_text
from .views import View, dense_strides, strides_of

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
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
}
UFUNCS |= {
    name: name
    for group in ("exp exp2 expm1 log log2 log10 log1p", "sqrt sin cos tan sinh cosh tanh", "sign mod")
    for name in group.split()
}
WIDTH = 100  # of a formula; what is longer is named by its operation
TOLD = 2000  # definitions; nobody reads more formulas


class Statements:
    """The statements of a program.

    lines      the source, formulas as comments above the lines that compute them
    buffers    name -> (shape for one example, batched), of every array that is written
    helpers    the names of the functions that lines call
    constants  name -> the arrays of numbers that lines name
    rules      name -> the rules that lines call, since they do not run on symbols
    """

    def __init__(self, program: ArrayProgram):
        self.program = program
        self.lines: list[str] = []
        self.buffers: dict[str, tuple[tuple[int, ...], bool]] = {}
        self.helpers: set[str] = set()
        self.constants: dict[str, Any] = dict(program.constants)
        self.rules: dict[str, Any] = {}
        self._constants_by_content: dict[Any, str] = {}
        self._names: dict[Symbol, str] = {symbol: array.name for array, symbol in program.symbols.items()}
        self._free: dict[tuple[Any, ...], list[str]] = {}  # temporaries, by shape
        self._n_temporaries = 0
        self._uses: dict[Symbol, int] = {}
        self._saved: dict[Symbol, str] = {}
        self._readers: dict[str, int] = {}
        for definition in program.definitions:
            self._define(definition)

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
        line = f"# {name} = {self._formula_text(definition)}" if told else f"# {name}"
        self.lines.append(f"{line:<{WIDTH - 16}}  ({shape})")
        self._into(formula, name, array.shape, array.batched)
        if isinstance(formula, Symbol) and formula.shape == array.shape and formula.op != "leaf":
            self._names.setdefault(formula, name)
        self._saved.clear()

    def _needs_own_buffer(self, formula: Any, array: Array) -> bool:
        """Is it written to through a reshape, which a view with gaps does not allow?"""
        strides = strides_of(array.places.reshape(array.shape))
        if strides is None or strides == dense_strides(array.shape) or len(strides) == 1:
            return strides is None
        terms = formula.args if isinstance(formula, Symbol) and formula.op == "accumulate" else (formula,)
        return any(
            isinstance(t, Symbol)
            and t.op == "scatter"
            and (t.args[1].reshape is not None or t.args[1].gather is not None)
            for t in terms
        )

    def _formula_text(self, definition: Definition) -> str:
        text = total_text(definition.formula, self._names.get, self.constant)
        if len(text) <= WIDTH - 20:
            return text
        array = definition.array
        if definition.is_gradient or array.rule is None:
            return f"the shares of all that reads {array.name}"
        return f"{array.rule.name} of {', '.join(_names_read(definition.formula))}"

    # --- Statements -----------------------------------------------------------------------------------------

    def _count(self, x: Any) -> None:
        """How often every part of a formula is used in it."""
        stack = [x]
        while stack:
            x = stack.pop()
            if isinstance(x, Symbol) and x not in self._names and x.op != "leaf":
                self._uses[x] = self._uses.get(x, 0) + 1
                if self._uses[x] == 1 or x.op in ("view", "expand"):  # which are read through
                    stack += x.args

    def _temporary(self, shape: tuple[int, ...], batched: bool) -> str:
        kept = self._free.setdefault((shape, batched), [])
        if kept:
            name = kept.pop()
        else:
            self._n_temporaries += 1
            name = f"t{self._n_temporaries}"
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
                    self._free[self.buffers[name]].append(name)

    def _operand(self, x: Any) -> str:
        """A text that reads x; what is no variable or view of one is computed into a temporary first."""
        if not isinstance(x, Symbol):
            return number_text(x)
        if x in self._names:
            return self._names[x]
        if x.op == "leaf":
            return str(x.args[0])
        if x.op == "view":
            base, view = x.args
            return str(view.text(self._operand(base), base.batched, self.constant))
        if x.op == "expand":
            text = self._operand(x.args[0])
            return f"{text}[..., None]" if x.args[0].batched or x.args[0].shape else text
        if x not in self._saved:
            name = self._temporary(x.shape, x.batched)
            self._into(x, name, x.shape, x.batched)
            self._saved[x] = name
            self._readers[name] = self._uses.get(x, 1)
        return self._saved[x]

    def _aligned(self, x: Any, shape: tuple[int, ...]) -> str:
        """A text that reads x beside batched arrays of this shape."""
        text = self._operand(x)
        if isinstance(x, Symbol) and x.batched and len(x.shape) < len(shape):
            text += f"[:, {', '.join(['None'] * (len(shape) - len(x.shape)) + [':'] * len(x.shape))}]"
        return text

    def constant(self, array: Any) -> str:
        """The name of an array of numbers."""
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
            x in self._names
            or x.op in ("leaf", "view", "expand", "dense")
            or x in self._saved
            or x.shape != shape
            or x.batched != batched
        ):
            inner = x.args[0] if x.op == "dense" and x not in self._names else x
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
        elif x.op in UFUNCS or x.op in ("heaviside", "where", "pow", "sigmoid", "erf", "erfc"):
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
            and x not in self._names
            and x not in self._saved
            and x.op not in ("leaf", "view", "expand", "dense")
        )

    def _call(self, x: Symbol, texts: list[str], to: str) -> str:
        if x.op == "heaviside":
            relu = self.program.book.known("max", x.args[0], 0.0)
            if relu in self._names:  # the sign of max(x, 0) is 1 where x > 0, else 0, and nan stays nan
                return f"np.sign({self._names[relu]}, out={to})"
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
        for term in x.args:
            if isinstance(term, Symbol) and term.op == "scatter" and term not in self._names:
                if not so_far:
                    view = term.args[1]
                    if view.whole:
                        self._into(term, to, x.shape, x.batched)
                        so_far = to
                        continue
                    self._write(f"{to}[...] = 0")
                elif so_far != to:
                    self._write(f"{to}[...] = {so_far}")
                so_far = to
                self._add_scattered(term, to)
                continue
            minus = isinstance(term, Symbol) and term.op == "neg" and term not in self._names and bool(so_far)
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
            self._into(value, view.text(to, x.batched, self.constant, to_write=True), view.shape, x.batched)
            return
        self._write(f"{to}[...] = 0")
        self._add_scattered(x, to)

    def _add_scattered(self, x: Symbol, to: str) -> None:
        value, view = x.args
        text = self._aligned(value, view.shape)
        if view.gather is None:
            target = view.text(to, x.batched, self.constant, to_write=True)
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
        full = f"np.broadcast_to({text}, ({lead}{tuple_text(view.shape, bare=True)})).reshape({lead}{index.size})"
        if len(np.unique(index)) == index.size:
            self._write(f"{flat}[..., {self.constant(index)}] += {full}")
            return
        order = np.argsort(index, kind="stable")
        places, starts = np.unique(index[order], return_index=True)
        self.helpers.add("scatter_add")
        names = ", ".join(map(self.constant, (places, order, starts)))
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
        self._names[self.program.book.special("softmax", (elements,), elements.shape, elements.batched)] = name
        self._release(text)

    def _stack_into(self, x: Symbol, to: str) -> None:
        for place, part in enumerate(x.args):
            text = self._aligned(part, x.shape[:-1])
            self._write(f"{to}[..., {place}] = {text}")
            self._release(text)

    def _softmax_name(self, elements: Symbol) -> str:
        base = self._names.get(elements, "")
        name = f"A{base[1:]}"
        if not base.startswith("Z") or name in self.buffers or name in self._names.values():
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
            full.append(f"np.broadcast_to({text}, ({lead}{tuple_text(x.shape, bare=True)}))")
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


def _product_text(a: Symbol, b: Symbol, x: Symbol, text_a: str, text_b: str, to: str) -> str:
    if len(a.shape) == len(b.shape) == 1:
        if b.batched and not a.batched:
            return f"np.matmul({text_b}, {text_a}, out={to})"
        return f"np.vecdot({text_a}, {text_b}, out={to})"
    if len(a.shape) <= 2 and not a.batched and (b.batched or len(b.shape) == 1):
        factor = text_a if len(a.shape) == 1 else transposed(text_a)
        if len(b.shape) == 2 and len(a.shape) == 2:
            terms, n_a = b.shape[-1], a.shape[0]
            return f"np.matmul({text_b}.reshape(-1, {terms}), {factor}, out={to}.reshape(-1, {n_a}))"
        return f"np.matmul({text_b}, {factor}, out={to})"
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


def _transposed_product(left: str, right: str, to: str) -> str:
    """left @ right into `to`; into a transposed array by the transposed factors."""
    if to.endswith(".T"):
        return f"np.matmul({transposed(right)}, {transposed(left)}, out={transposed(to)})"
    return f"np.matmul({left}, {right}, out={to})"


def shape_text(shape: tuple[int, ...], batched: bool) -> str:
    """A shape as source, with B for the batch."""
    return tuple_text(("B", *shape) if batched else shape)


def tuple_text(shape: Any, bare: bool = False) -> str:
    """A tuple as source; bare without its brackets."""
    inner = ", ".join(map(str, shape)) + ("," if len(shape) == 1 or (bare and shape) else "")
    return inner if bare else f"({inner})"
