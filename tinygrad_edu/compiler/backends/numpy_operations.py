"""Operations of an array program in NumPy: the formula of each, for the reader, and its statements."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ...engine import elementary
from ..formulas import ATOM, CHOICE, OPERATORS, POWER, PRODUCT, SUM, Form, Language, number_text
from ..symbols import Symbol
from ..views import reshaped

Statements = Any  # what numpy_statements gathers; it reads this file

SWAPPED = ".swapaxes(0, 1)"
Written = tuple[str, int]  # a formula, and how tightly it holds together


class Textbook(Language):
    """Formulas as a person writes them, for comments. `constant` names an array of numbers."""

    forms: ClassVar[Mapping[str, Form]] = OPERATORS | {
        "heaviside": Form("({} > 0)", ATOM, (SUM,)),
        "expand": Form("{}[..., None]", ATOM, (ATOM,)),
        "sum": Form("{}.sum(axis=-1)", ATOM, (ATOM,)),
        "vecdot": Form("({} * {}).sum(axis=-1)", ATOM, (PRODUCT, PRODUCT)),
        "product_b": Form("({} @ {})", ATOM, (ATOM, ATOM)),
        "one_hot": Form("one_hot({})", ATOM, (CHOICE,)),
        "pick": Form("{}[{}]", ATOM, (ATOM, CHOICE)),
        "rows": Form("{}[{}]", ATOM, (ATOM, CHOICE)),
    }

    def __init__(self, names: Mapping[Symbol, str], constant: Callable[[Any], str]):
        super().__init__(names)
        self.constant = constant

    def number(self, x: Any) -> str:
        return str(int(x)) if isinstance(x, float) and x.is_integer() and abs(x) < 1e15 else number_text(x)

    def operation(self, x: Symbol) -> Written:
        return operation_of(x).formula(x, self)


class Numbers(Textbook):
    """Formulas of single numbers, as statements: these are shorter, and NumPy takes less time for them."""

    forms = OPERATORS | {"pow": Form("{} ** {}", POWER, (ATOM, ATOM))}

    def operation(self, x: Symbol) -> Written:
        if x.op in UFUNCS and x.op not in self.forms:
            return f"np.{UFUNCS[x.op]}({', '.join(map(self.text, x.args))})", ATOM
        return super().operation(x)

    def can_write(self, x: Any) -> bool:
        """Is x one number, made of numbers that have a name, by operations with a form or a function of NumPy?"""
        if not isinstance(x, Symbol):
            return True
        if x.shape or x.batched:
            return False
        is_read = x in self.names or x.op == "leaf" or (x.op == "view" and x.args[0] in self.names)
        return is_read or (x.op in NUMERIC and all(map(self.can_write, x.args)))


class Operation:
    """One operation of symbols, written in NumPy."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        """The formula for the comment above the statements."""
        return Language.operation(language, x)

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        """Write the statements that leave x in the array `to`, which has its shape."""
        raise NotImplementedError(f"The compiler has no NumPy source for {x.op!r}.")


class Line(Operation):
    """One line. Its text has {0}, {1} ... where the operands are read, and {to}."""

    def __init__(self, text: str):
        self.text = text

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        with statements.reading(*x.args) as texts:
            statements.write(self.text.format(*texts, to=to))


# --- Elementwise ------------------------------------------------------------------------------------------------


class Elementwise(Operation):
    """A function of each element; `to` in its text is the result. One operand may be computed in that place."""

    def __init__(self, text: str):
        self.text = text

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        texts: list[str] = []
        read: list[Any] = []
        for argument in x.args:
            if statements.fits_in_place(argument, x) and not any(to in text for text in texts):
                statements.into(argument, to, x.shape, x.batched)
                texts.append(to)
            else:
                texts.append(statements.aligned(argument, x.shape))
                read.append(argument)
        statements.write(self.statement(x, texts, to, statements))
        statements.release(*read)

    def statement(self, x: Symbol, texts: list[str], to: str, statements: Statements) -> str:
        """The line that computes x of these operands."""
        return self.text.format(", ".join(texts), to=to)


class Ufunc(Elementwise):
    """A function of NumPy that writes with out=."""

    def __init__(self, name: str):
        super().__init__(f"np.{name}({{}}, out={{to}})")


class Heaviside(Elementwise):
    """1 where x > 0, else 0; nan stays nan. np.sign of a relu takes ten times as long, np.heaviside longer."""

    def statement(self, x: Symbol, texts: list[str], to: str, statements: Statements) -> str:
        relu = x.book.known("max", x.args[0], 0.0)
        if relu in statements.names:
            positive = statements.names[relu]
        else:
            positive = f"np.maximum({texts[0]}, {statements.full(0.0, x.shape, x.batched)}, out={to})"
        return f"np.minimum(np.ceil({positive}, out={to}), {statements.full(1.0, x.shape, x.batched)}, out={to})"


class Power(Elementwise):
    def statement(self, x: Symbol, texts: list[str], to: str, statements: Statements) -> str:
        exponent = x.args[1]
        if isinstance(exponent, Symbol) or exponent == 0:
            return super().statement(x, texts, to, statements)
        if exponent == 2:
            return f"np.square({texts[0]}, out={to})"
        return f"np.power({texts[0]}, {float(exponent)!r}, out={to})"


class Max(Ufunc):
    """The larger of two arrays, or the largest element along the last axis of one."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        return f"max{'imum' * (len(x.args) == 2)}({', '.join(map(language.text, x.args))})", ATOM

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        if len(x.args) == 2:
            super().into(x, to, statements)
        else:
            Line("{0}.max(axis=-1, out={to})").into(x, to, statements)

    def statement(self, x: Symbol, texts: list[str], to: str, statements: Statements) -> str:
        for place, part in enumerate(x.args):
            if not isinstance(part, Symbol):  # NumPy is slower at an array and a number than at two arrays
                texts[place] = statements.full(part, x.shape, x.batched)
        return super().statement(x, texts, to, statements)


class Call(Operation):
    """A rule that does not run on symbols, called on arrays: (rule, "forward" or a share's number, *inputs)."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        return f"{x.args[0].name}({', '.join(map(language.text, x.args[2:]))})", ATOM

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        rule, what, *arguments = x.args
        name = f"RULES[{rule.name!r}]" + (f".bind(**{rule.parameters!r})" if rule.parameters else "")
        statements.rules[rule.name] = rule
        shape = tuple_text(("B", *x.shape) if x.batched else x.shape)
        with statements.reading(*arguments, beside=x.shape) as texts:
            inputs = ", ".join(f"np.broadcast_to({text}, {shape})" for text in texts)
            call = f"forward({inputs})" if what == "forward" else f"backward({inputs})[{what}]"
            statements.write(f"{to}[...] = {name}.{call}")


# --- Elements, and sums over them -------------------------------------------------------------------------------


class Viewed(Operation):
    """Elements of an array: a slice, a reshape, a transpose; read without a statement."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        base, view = x.args
        return view.text(language.text(base, ATOM), base.batched, language.constant), ATOM


class Dense(Operation):
    """An array that has its full shape."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        return language.written(x.args[0])


class Stack(Operation):
    """Arrays of one shape side by side, along a last axis."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        return ", ".join(map(language.text, x.args)), ATOM

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        for place, part in enumerate(x.args):
            with statements.reading(part, beside=x.shape[:-1]) as (text,):
                statements.write(f"{to}[..., {place}] = {text}")


class LogSumExp(Operation):
    """log(e^z1 + e^z2 + ...) along the last axis. The softmax, its slope, is left in an array of its own."""

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        elements = x.args[0]
        with statements.reading(elements) as (text,):
            name = self._softmax_name(elements, statements)
            statements.write(f"log_sum_exp({text}, {name}, out={to})  # {name} = softmax({text})")
        softmax = x.book.special("softmax", (elements,), elements.shape, elements.batched)
        statements.names[softmax] = name

    def _softmax_name(self, elements: Symbol, statements: Statements) -> str:
        """A new array for it: A1 of Z1."""
        base, *_ = statements.names.get(elements, "").split("[")
        name, taken = f"A{base[1:]}", {*statements.buffers, *statements.names.values()}
        if not base.startswith("Z") or name in taken:
            name = next(n for i in itertools.count(1) if (n := f"softmax_{i}") not in statements.buffers)
        return str(statements.kept(name, elements))


class Softmax(Operation):
    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        with statements.reading(x.args[0]) as (text,):
            statements.write(f"log_sum_exp({text}, {to})  # {to} = softmax({text})")


class Accumulate(Operation):
    """a + b + ...: the first term is computed in place, the others are added one by one."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        first, *rest = x.args
        text = language.text(first, SUM)
        for term in rest:
            minus = isinstance(term, Symbol) and term.op == "neg"
            text += f" - {language.text(term.args[0], PRODUCT)}" if minus else f" + {language.text(term, SUM)}"
        return text, SUM

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        scattered = list(itertools.takewhile(lambda term: statements.is_unnamed(term, "scatter"), x.args))
        if scattered:
            Scatter.put(scattered, to, statements)
        so_far = to if scattered else self._first(x, to, statements)
        for term in x.args[len(scattered) or 1 :]:
            is_first, minus = so_far != to, statements.is_unnamed(term, "neg")
            if statements.is_unnamed(term, "scatter"):
                if is_first:
                    statements.write(f"{to}[...] = {so_far}")
                Scatter.add(term, to, statements)
            else:
                with statements.reading(term.args[0] if minus else term, beside=x.shape) as (text,):
                    statements.write(f"np.{'subtract' if minus else 'add'}({so_far}, {text}, out={to})")
            if is_first:
                statements.release(x.args[0])
            so_far = to

    def _first(self, x: Symbol, to: str, statements: Statements) -> str:
        """The array that holds the first term: `to`, or the one where it is already."""
        first = x.args[0]
        fits = isinstance(first, Symbol) and (first.shape, first.batched) == (x.shape, x.batched)
        if fits and len(x.args) > 1 and not statements.fits_in_place(first, x):
            return str(statements.operand(first))
        statements.into(first, to, x.shape, x.batched)
        return to


class Scatter(Operation):
    """A value at the places of a view, and 0 everywhere else."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        value, view = x.args
        if not view.whole:
            return f"scatter({language.text(value)})", ATOM
        if view.transpose not in ((1, 0), (0, 2, 1)) or view.reshape is not None or view.expand is not None:
            return language.written(value)
        if isinstance(value, Symbol) and value.op == "product_a" and value.args[0].shape:
            return ProductA().formula(value, language, is_transposed=True)
        return f"{language.text(value, ATOM)}.T", ATOM

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        self.put([x], to, statements)

    @classmethod
    def put(cls, terms: Sequence[Symbol], to: str, statements: Statements) -> None:
        """Write the sum of such terms into the array `to`: the first value at a place is set, others are added."""
        is_set, is_reached = np.zeros((2, math.prod(terms[0].shape)), bool)
        is_first = []
        for _, view in (term.args for term in terms):
            places = view.positions()
            is_first.append(view.gather is None and view.digits is None and not is_reached[places].any())
            is_reached[places] = True
            is_set[places] |= is_first[-1]
        if not is_set.all():
            statements.write(f"{to}[...] = 0")
        for term, sets in zip(terms, is_first, strict=True):
            value, view = term.args
            if sets:
                target = view.text(to, term.batched, statements.constant, to_write=True)
                statements.into(value, target, view.shape, term.batched)
            else:
                cls.add(term, to, statements)

    @classmethod
    def add(cls, x: Symbol, to: str, statements: Statements) -> None:
        """Write the statement that adds x to the array `to`."""
        value, view = x.args
        with statements.reading(value, beside=view.shape) as (text,):
            if view.gather is not None:
                cls._add_gathered(x, to, text, statements)
                return
            target = view.text(to, x.batched, statements.constant, to_write=True)
            if view.digits is not None:
                text = reshaped(text, view.shape, view.digits, value.batched)
            is_item = target.endswith("]")
            statements.write(f"{target} += {text}" if is_item else f"np.add({target}, {text}, out={target})")

    @staticmethod
    def _add_gathered(x: Symbol, to: str, text: str, statements: Statements) -> None:
        view = x.args[1]
        index = view.gather.ravel()
        lead = ("B",) if x.batched else ()
        flat = to if len(view.source) == 1 else f"{to}.reshape({bare((*lead, math.prod(view.source)))})"
        values = (
            f"np.broadcast_to({text}, {tuple_text((*lead, *view.shape))}).reshape({bare((*lead, index.size))})"
        )
        if len(np.unique(index)) == index.size:
            statements.write(f"{flat}[..., {statements.constant(index)}] += {values}")
            return
        order = np.argsort(index, kind="stable")
        places, starts = np.unique(index[order], return_index=True)
        names = ", ".join(map(statements.constant, (places, order, starts)))
        statements.write(f"scatter_add({flat}, {names}, {values})")


class Reduce(Operation):
    """A sum over the batch, over axes that repeat, or both: (formula, over_batch, axes).

    The axes are left out, or of size 1 if x has as many axes as the formula.
    """

    def formula(self, x: Symbol, language: Textbook) -> Written:
        axes = self._axes(x)
        return f"{language.text(x.args[0], ATOM)}.sum(axis={axes[0] if len(axes) == 1 else axes})", ATOM

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        formula, over_batch, axes = x.args
        with statements.reading(formula) as (text,):
            if over_batch and axes == tuple(range(len(formula.shape) - 1)) and len(x.shape) == 1:
                # The rows are added up as a product with ones: .sum(axis=0) takes twice as long or more.
                ones, n = statements.full(1.0, formula.shape[:-1], True), formula.shape[-1]
                if axes:
                    (text,) = _stages_first(text)
                    ones, text = f"{ones}.reshape(-1)", f"{text}.reshape(-1, {n})"
                statements.write(f"np.matmul({ones}, {text}, out={to})")
            elif len(x.shape) < len(formula.shape) or not axes:
                axis = self._axes(x)
                statements.write(f"{text}.sum(axis={axis[0] if len(axis) == 1 else axis}, out={to})")
            else:
                row = "[0]" if over_batch else ""
                statements.write(f"{to}[...] = {text}.sum(axis={self._axes(x)}, keepdims=True){row}")

    @staticmethod
    def _axes(x: Symbol) -> tuple[int, ...]:
        formula, over_batch, axes = x.args
        lead = int(formula.batched)
        return *((0,) if over_batch else ()), *(axis + lead for axis in axes)


class Pick(Operation):
    """options[n, index[n]]."""

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        options, index = x.args
        with statements.reading(options, index) as (text, places):
            places += ".astype(np.intp)"
            if options.batched:
                picked = f"np.take_along_axis({text}, {places}[..., None], -1)[..., 0]"
            else:
                rows = f"np.arange({options.shape[0]}), " if options.shape[:-1] else ""
                picked = f"{text}[{rows}{places}]"
            statements.write(f"{to}[...] = {picked}")


# --- Matrix products --------------------------------------------------------------------------------------------


class Product(Operation):
    """Rows of a times rows of b: b @ a.T."""

    def formula(self, x: Symbol, language: Textbook) -> Written:
        a, b = x.args
        text_a, text_b = language.text(a, ATOM), language.text(b, ATOM)
        if len(a.shape) == len(b.shape) == 1 and a.batched:
            return f"({text_a} * {text_b}).sum(axis=-1)", ATOM
        return f"{text_b} @ {transposed(text_a) if len(a.shape) > 1 else text_a}", SUM

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        a, b = x.args
        with statements.reading(a, b) as (text_a, text_b):
            statements.write(self._statement(a, b, x, text_a, text_b, to))

    @staticmethod
    def _statement(a: Symbol, b: Symbol, x: Symbol, text_a: str, text_b: str, to: str) -> str:
        axes_a, axes_b = len(a.shape), len(b.shape)
        if axes_a == axes_b == 1:
            if b.batched and not a.batched:
                return f"np.matmul({text_b}, {text_a}, out={to})"
            return f"np.vecdot({text_a}, {text_b}, out={to})"
        if axes_a <= 2 and not a.batched and (b.batched or axes_b == 1):
            factor = text_a if axes_a == 1 else transposed(text_a)
            if axes_a == axes_b == 2:  # one product for the whole batch
                terms, n_a = b.shape[-1], a.shape[0]
                return f"np.matmul({text_b}.reshape(-1, {terms}), {factor}, out={to}.reshape(-1, {n_a}))"
            return f"np.matmul({text_b}, {factor}, out={to})"
        if axes_a > 2:
            return f"np.matmul({text_b}, {text_a}.swapaxes(-1, -2), out={to})"
        n_a, n_b = (factor.shape[-2] if len(factor.shape) > 1 else 1 for factor in (a, b))
        rows_a, rows_b = _rows(text_a, a, n_a, a.shape[-1]), _rows(text_b, b, n_b, a.shape[-1])
        return f"np.matmul({rows_b}, {rows_a}.swapaxes(-1, -2), out={_rows(to, x, n_b, n_a)})"


class ProductA(Operation):
    """The gradient of a: upstream.T @ b, summed over the batch where a is not batched."""

    def formula(self, x: Symbol, language: Textbook, is_transposed: bool = False) -> Written:
        factors, turned = list(x.args[:2]), transposed
        if len(x.shape) > 2:
            factors, turned = [_unshaped(factor, x.shape[0]) for factor in factors], _each_transposed
        left, right = _stages_first(*[language.text(factor, ATOM) for factor in factors])
        if is_transposed:
            left, right = right, left
        return f"{turned(left) if x.args[0].shape else left} @ {right}", SUM

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        upstream, b, n_a, n_b = x.args
        terms, is_summed = b.shape[-1], b.batched and not x.batched
        if len(x.shape) > 2 and is_summed:  # the examples are rows of each head
            factors = [_unshaped(factor, x.shape[0]) for factor in (upstream, b)]
            with statements.reading(*factors) as texts:
                u, v = map(_heads_first, factors, texts, (n_a, terms))
                statements.write(_transposed_product(f"{u}.mT", v, to.replace(".transpose(0, 2, 1)", ".mT")))
            return
        with statements.reading(upstream, b) as (u, v):
            if len(b.shape) > 2 or len(x.shape) > 2:
                statements.write(f"{to}[...] = np.matmul({u}.swapaxes(-1, -2), {v})")
            elif is_summed:
                u, v = _stages_first(u, v)
                flat = f"{u}.reshape({bare((-1, n_a) if n_a > 1 else (-1,))})"
                left = u if upstream.shape == ((n_a,) if n_a > 1 else ()) else flat
                right = v if len(b.shape) == 1 else f"{v}.reshape(-1, {terms})"
                statements.write(_transposed_product(left if n_a == 1 else f"{left}.T", right, to))
            else:
                rows_u, rows_v = _rows(u, upstream, n_b, n_a), _rows(v, b, n_b, terms)
                out = _rows(to, x, n_a, terms)
                statements.write(f"np.matmul({rows_u}.swapaxes(-1, -2), {rows_v}, out={out})")


class ProductB(Operation):
    """The gradient of b: upstream @ a."""

    def into(self, x: Symbol, to: str, statements: Statements) -> None:
        upstream, a, n_a, n_b = x.args
        is_matrix = n_a > 1 and len(a.shape) == 2 and not a.batched and len(x.shape) <= 2
        with statements.reading(upstream, a) as (u, v):
            if is_matrix and len(x.shape) == 2 and to.isidentifier():  # one product for the whole batch
                statements.write(f"np.matmul({u}.reshape(-1, {n_a}), {v}, out={to}.reshape(-1, {x.shape[-1]}))")
            elif len(a.shape) > 2 or (is_matrix and (upstream.batched or n_b > 1)):
                statements.write(f"np.matmul({u}, {v}, out={to})")
            else:
                terms = a.shape[-1]
                rows_u, rows_v = _rows(u, upstream, n_b, n_a), _rows(v, a, n_a, terms)
                statements.write(f"np.matmul({rows_u}, {rows_v}, out={_rows(to, x, n_b, terms)})")


def _rows(text: str, x: Symbol, rows: int, columns: int) -> str:
    """x as (rows, columns) for every example, where an axis of 1 was left out."""
    if x.shape == (rows, columns):
        return text
    lead = ":, " if x.batched else ""
    if x.shape == ():
        return f"{text}[{lead}None, None]"
    return f"{text}[{lead}None, :]" if rows == 1 else f"{text}[{lead}:, None]"


def _stages_first(*factors: str) -> tuple[str, ...]:
    """Factors as they are stored, with the stages of a loop before the batch, if all are: the sum is the same."""
    is_swapped = all(text.endswith(SWAPPED) for text in factors)
    return tuple(text.removesuffix(SWAPPED) for text in factors) if is_swapped else factors


def _unshaped(x: Symbol, heads: int) -> Symbol:
    """What x is a reshape of, if that has the heads along its first axis."""
    base, view = x.args if x.op == "view" else (x, None)
    return base if view is not None and view.is_in_order and base.shape[:1] == (heads,) else x


def _heads_first(x: Symbol, text: str, columns: int) -> str:
    """x as (heads, rows of all examples, columns)."""
    text = text.removesuffix(SWAPPED) if text.endswith(SWAPPED) else f"{text}{SWAPPED}"
    return text if x.shape == (x.shape[0], columns) else f"{text}.reshape({x.shape[0]}, -1, {columns})"


def _transposed_product(left: str, right: str, to: str) -> str:
    """left @ right into `to`; into a transposed array by the transposed factors."""
    for end, turned in ((".T", transposed), (".mT", _each_transposed)):
        if to.endswith(end):
            return f"np.matmul({turned(right)}, {turned(left)}, out={turned(to)})"
    return f"np.matmul({left}, {right}, out={to})"


# --- Text -------------------------------------------------------------------------------------------------------


def transposed(text: str) -> str:
    """The text of a transposed matrix."""
    return text.removesuffix(".T") if text.endswith(".T") else f"{text}.T"


def _each_transposed(text: str) -> str:
    """The text of several matrices, each transposed."""
    return text.removesuffix(".mT") if text.endswith(".mT") else f"{text}.mT"


def bare(sizes: Any) -> str:
    """Sizes as source, separated by commas."""
    return ", ".join(map(str, sizes))


def tuple_text(sizes: Any) -> str:
    """A tuple as source."""
    return f"({bare(sizes)}{',' if len(sizes) == 1 else ''})"


_OWN = {"pow", "heaviside"}  # classes above
UFUNCS = {f: f for f in elementary.__all__ if f not in _OWN and isinstance(getattr(np, f, None), np.ufunc)}
UFUNCS |= {"add": "add", "sub": "subtract", "mul": "multiply", "div": "divide", "neg": "negative"}
UFUNCS |= {
    "abs": "absolute",
    "max": "maximum",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}

NUMERIC = {"accumulate", "pow", *UFUNCS} - {"lt", "le", "gt", "ge"}  # a comparison gives no float

OPERATIONS: dict[str, Operation] = {
    **{op: Ufunc(name) for op, name in UFUNCS.items()},
    **{op: Elementwise(f"{{to}}[...] = {op}({{}})") for op in ("erf", "erfc")},
    "sigmoid": Elementwise("sigmoid({}, out={to})"),
    "where": Elementwise("{to}[...] = np.where({})"),
    "heaviside": Heaviside(""),
    "pow": Power("{to}[...] = power({})"),
    "max": Max("maximum"),
    "min": Line("{0}.min(axis=-1, out={to})"),
    "sum": Line("{0}.sum(axis=-1, out={to})"),
    "vecdot": Line("np.vecdot({0}, {1}, out={to})"),
    "one_hot": Line("np.equal({0}[..., None], np.arange({1}), out={to})"),
    "rows": Line("np.take({0}, {1}.astype(np.intp), axis=0, out={to})"),
    "add_rows": Line("add_rows({0}, {1}.astype(np.intp), out={to})"),
    "call": Call(),
    "view": Viewed(),
    "dense": Dense(),
    "stack": Stack(),
    "logsumexp": LogSumExp(),
    "softmax": Softmax(),
    "accumulate": Accumulate(),
    "scatter": Scatter(),
    "reduce": Reduce(),
    "pick": Pick(),
    "product": Product(),
    "product_a": ProductA(),
    "product_b": ProductB(),
}


def operation_of(x: Symbol) -> Operation:
    """How the operation of a symbol is written."""
    return OPERATIONS.get(x.op) or Operation()
