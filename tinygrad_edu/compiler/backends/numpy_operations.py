"""Operations: the lines that leave an expression in an array, operation by operation, with out=."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

from ..ir.routine import Access, Axis, B, Routine, Stmt, free_of
from ..ir.symbols import Symbol
from .numpy_operands import UFUNCS, OperandReader
from .text import AXIS, ArrayText, bare, contraction, joined, matrix, rule_call, shown, tuple_text

SHORT = 8  # numbers: NumPy takes long to reduce many short rows
LINES = {op: f"np.{name}({{0}}, out={{to}})" for op, name in UFUNCS.items()} | {
    "neg": "np.multiply({0}, -1.0, out={to})",  # np.negative of NumPy 2.4 is wrong in place for some strides
    "erf": "{to}[...] = erf({0})",
    "erfc": "{to}[...] = erfc({0})",
    "pow": "{to}[...] = power({0})",
    "sigmoid": "sigmoid({0}, out={to})",
    "sigmoid_slope": "sigmoid_slope({0}, out={to})",
    "tanh_slope": "tanh_slope({0}, out={to})",
    "where": "{to}[...] = np.where({0})",
}
HELPERS = {op: op for op in ("erf", "erfc", "sigmoid", "sigmoid_slope", "tanh_slope")} | {"pow": "power"}
UNROLLED = {"sum": "add", "max_": "maximum", "min_": "minimum"}  # reductions, one element after the other


class Operations(OperandReader):
    """Writes expressions.

    rules   name -> a rule that the lines call, since it does not run on symbols
    called  the names of the helper functions that the lines call
    """

    def __init__(self, program: Routine):
        super().__init__(program)
        self.rules: dict[str, Any] = {}
        self.called: set[str] = set()
        self._done = set[Stmt]()
        written: dict[bool, set[Any]] = {True: set(), False: set()}
        for stmt, _ in program.statements():
            written[_is_relu(stmt.value)].add(stmt.out.array)
        self._relus: set[Any] = written[True] - written[False]  # a first state may be negative

    def _buffer(self, array: Any) -> None:
        raise NotImplementedError

    def into(self, x: Any, to: ArrayText) -> None:
        """Lines that leave x in the array `to`."""
        if not self._is_computed(x) or x.axes - {self.elements.t} != set(to.axes):
            text = shown(self.operand(x, to.axes), to.axes).code
            self.assign(to, text)
            self._release(x)
        elif x.op in AXIS:
            self._reduction(x, to)
        else:
            special = {"call": self._write_call, "one_hot": self._write_one_hot, "pick": self._write_pick}
            special |= {"softmax": self._softmax, "logsumexp": self._logsumexp}
            special.get(x.op, self._pointwise)(x, to)

    def _pointwise(self, x: Symbol, to: ArrayText) -> None:
        texts, read, in_place = [], [], False
        for y in x.args:
            fits = self._is_computed(y) and y.axes - {self.elements.t} == set(to.axes) and self._counts[y] == 1
            if fits and not in_place:
                self.into(y, to)
                texts.append(to.code)
                in_place = True
            else:
                texts.append(shown(self.operand(y, to.axes), to.axes).code)
                read.append(y)
        self.write(self._line(x, texts, to))
        self._release(*read)

    def _line(self, x: Symbol, texts: list[str], to: ArrayText) -> str:
        code = to.code
        if x.op == "pow" and not isinstance(x.args[1], Symbol) and x.args[1] != 0:
            if x.args[1] == 2:
                return f"np.square({texts[0]}, out={code})"
            return f"np.power({texts[0]}, {float(x.args[1])!r}, out={code})"
        sizes = [axis.size for axis in to.axes]
        if x.op == "max":  # of two arrays: NumPy takes twice as long for an array and a number
            pairs = zip(x.args, texts, strict=True)
            texts = [text if isinstance(y, Symbol) else self.full(y, sizes) for y, text in pairs]
        if x.op == "heaviside":  # nan stays nan; np.heaviside takes four times as long
            y, text = x.args[0], texts[0]
            if not (y.op == "get" and y.args[0].array in self._relus):
                text = f"np.maximum({text}, {self.full(0.0, sizes)}, out={code})"
            return f"np.minimum(np.ceil({text}, out={code}), {self.full(1.0, sizes)}, out={code})"
        if x.op not in LINES:
            raise NotImplementedError(f"The compiler has no NumPy source for {x.op!r}.")
        self.called |= {HELPERS[x.op]} if x.op in HELPERS else set()
        return LINES[x.op].format(bare(texts), to=code)

    def _write_call(self, x: Symbol, to: ArrayText) -> None:
        rule, what, *inputs = x.args
        self.rules[rule.name] = rule
        shape = tuple_text([axis.size for axis in to.axes])
        texts = [f"np.broadcast_to({shown(self.operand(y, to.axes), to.axes).code}, {shape})" for y in inputs]
        self.assign(to, rule_call(rule, what, texts))
        self._release(*inputs)

    def _write_one_hot(self, x: Symbol, to: ArrayText) -> None:
        index, axis = x.args
        line = shown(ArrayText(f"np.arange({axis.size})", (axis,)), to.axes).code
        self.write(f"np.equal({shown(self.operand(index, to.axes), to.axes).code}, {line}, out={to.code})")
        self._release(index)

    def _write_pick(self, x: Symbol, to: ArrayText) -> None:
        body, axis, index = x.args
        own = [free_of(y) - {self.elements.t} for y in (body, index)]
        options, places = self.operand(body, [*to.axes, axis]), self.operand(index, to.axes)
        rest = [a for a in to.axes if a not in own[1]]
        if own[0].isdisjoint(own[1]) and list(to.axes) == [*(a for a in to.axes if a in own[1]), *rest]:
            table, rows = shown(options, [axis, *rest]), shown(places, [a for a in to.axes if a in own[1]])
            self.write(f"np.take({table.code}, {rows.atom}.astype(np.intp), axis=0, out={to.code})")
        else:
            code = shown(self.dense(body, [*to.axes, axis]), [*to.axes, axis]).code
            rows = shown(self.dense(index, to.axes), to.axes)
            picked = f"np.take_along_axis({code}, {rows.atom}[..., None].astype(np.intp), -1)[..., 0]"
            self.assign(to, picked)
        self._release(body, index)

    # --- Reductions --------------------------------------------------------------------------------------------

    def _exponents(self, x: Symbol, rest: Sequence[Axis]) -> ArrayText:
        """What a softmax or a logsumexp reads, with the axes that are reduced as the last dimension."""
        body, over = x.args
        return joined(self.dense(body, [*rest, *over]), [*([axis] for axis in rest), over])

    def _softmax(self, x: Symbol, to: ArrayText) -> None:
        body, over = x.args
        rest = [axis for axis in to.axes if axis not in over]
        own = [*rest, *over]
        text = self._exponents(x, rest).code
        self.called |= {"softmax", "_exponentials"}
        into = to if list(to.axes) == own and to.dense else self._temporary(own)
        self.write(f"softmax({text}, out={joined(into, [*([axis] for axis in rest), over]).code})")
        self._release(body)
        self._move(into, to)

    def _logsumexp(self, x: Symbol, to: ArrayText) -> None:
        """The softmax is left behind: if a later statement asks for it, in its array."""
        body, over = x.args
        self.called |= {"logsumexp", "_exponentials"}
        wanted = self._softmax_of(x)
        if wanted is not None:
            self._done.add(wanted)
            self._buffer(wanted.out.array)
            soft = self.elements.element(wanted.out)
        else:
            soft = self._temporary([*to.axes, *over])
        rest = [axis for axis in soft.axes if axis not in over]
        text, left = self._exponents(x, rest).code, joined(soft, [*([axis] for axis in rest), over]).code
        into = to if to.dense and list(to.axes) == rest else self._temporary(rest)
        note = f"{left} = exp({text} - {into.code}[..., None])"
        self.write(f"logsumexp({text}, {left}, out={into.code})  # {note}")
        self._release(body)
        self._move(into, to)
        if wanted is None:
            self._drop(soft)

    def _move(self, into: ArrayText, to: ArrayText) -> None:
        """A result that was computed in a temporary goes where it belongs."""
        if into is not to:
            self.assign(to, shown(into, to.axes).code)
            self._drop(into)

    def _softmax_of(self, x: Symbol) -> Stmt | None:
        soft = self.book.known("softmax", *x.args)
        return next((s for s, _ in self.program.statements() if s.value is soft and s not in self._done), None)

    def _reduction(self, x: Symbol, to: ArrayText) -> None:
        body, over = x.args
        t = self.elements.t
        if x.op == "sum":
            if self._add_rows(x, to):
                return
            if (product := contraction(x, to.axes, t)) is not None:
                self._product(product, to)
                return
        n = math.prod(axis.size if axis is not B else SHORT + 1 for axis in over)
        if n <= SHORT and (x.op != "sum" or len(to.axes) > 1) and to.axes:
            self._unrolled(x, to)
            return
        text = self.operand(body)
        own = list(text.axes)
        left = [axis for axis in own if axis not in over]
        if B in over and len(left) == 1 and own[-1] is left[0] and x.op == "sum":
            # The rows are added up as a product with ones: .sum(axis=0) takes twice as long or more.
            rows = joined(text, [own[:-1], left])
            ones = self.full(1.0, [axis.size for axis in own[:-1]]) + ".reshape(-1)" * (len(own) > 2)
            self.write(f"np.matmul({ones}, {rows.code}, out={to.code})")
        else:
            places = [i for i, axis in enumerate(own) if axis in over]
            where = places[0] if len(places) == 1 else tuple(places)
            self.write(f"{text.code}.{AXIS[x.op]}(axis={where}, out={shown(to, left).code})")
        self._release(body)

    def _unrolled(self, x: Symbol, to: ArrayText) -> None:
        """A reduction of few elements, one after the other."""
        body, over = x.args
        so_far = ""
        is_read = isinstance(body, Symbol) and body.op == "get" and body.args[0].gather is None
        text = None if is_read else self.operand(body)
        for which in itertools.product(*(range(axis.size) for axis in over)):
            where = dict(zip(over, which, strict=True))
            one = shown(self._fixed(body, text, where), to.axes).code
            if so_far:
                self.write(f"np.{UNROLLED[x.op]}({so_far}, {one}, out={to.code})")
            so_far = to.code if so_far else one
        if math.prod(axis.size for axis in over) == 1:
            self.assign(to, so_far)
        self._release(body)

    def _fixed(self, x: Any, text: ArrayText | None, where: dict[Axis, int]) -> ArrayText:
        """The text of x at these places of some axes."""
        if text is None:
            access = x.args[0]
            row, *at = (
                part and ((part[0] + part[2] * where[part[1]], None, 1) if part[1] in where else part)
                for part in (access.row, *access.at)
            )
            return self.elements.element(Access(access.array, row, access.dims, tuple(at)))
        index = bare(where.get(axis, ":") for axis in text.axes)
        return ArrayText(
            f"{text.code}[{index}]", tuple(axis for axis in text.axes if axis not in where), False, True
        )

    def _add_rows(self, x: Symbol, to: ArrayText) -> bool:
        """The gradient of a table of which rows are picked."""
        body, over = x.args
        hits = [y for y in body.args if isinstance(y, Symbol) and y.op == "one_hot"] if body.op == "mul" else []
        if (
            not hits
            or self._is_computed(hits[0]) is False
            or set(over) != free_of(hits[0].args[0]) - {self.elements.t}
        ):
            return False
        index, axis = hits[0].args
        upstream = next(y for y in body.args if y is not hits[0])
        rest = [a for a in to.axes if a is not axis]
        if axis not in to.axes or axis in free_of(upstream):
            return False
        rows = joined(self.dense(upstream, [*over, *rest]), [over, rest] if rest else [over])
        places = joined(self.operand(index, over), [over])
        end = "" if rest else "[:, None]"
        self.called.add("add_rows")
        target = shown(to, [axis, *rest])
        into = self._temporary([axis, *rest]) if len(rest) > 1 else target
        code = joined(into, [[axis], rest]).code if rest else into.code
        self.write(f"add_rows({rows.code}{end}, {places.atom}.astype(np.intp), out={code}{end})")
        if into is not target:
            self._move(into, target)
        self._release(upstream, index)
        return True

    # --- Matrix products ---------------------------------------------------------------------------------------

    def _product(self, c: Any, to: ArrayText) -> None:
        left, right = self.operand(c.a), self.operand(c.b)
        if not c.M and not c.N:
            codes = [joined(text, [*([axis] for axis in c.S), c.K]).code for text in (left, right)]
            self.write(f"np.vecdot({bare(codes)}, out={shown(to, c.S).code})")
            self._release(c.a, c.b)
            return
        if not c.M:
            c.M, c.N, left, right = c.N, c.M, right, left
        many = [group for group in (c.M, c.N) if len(group) > 1]
        into = to
        if many:
            dims = [*([axis] for axis in c.S), *(group for group in (c.M, c.N) if group)]
            flat = list(itertools.chain(*dims))
            if list(to.axes) == flat and to.dense:
                target = joined(to, dims)
            elif len(dims) == 2 and not c.S and list(to.axes) == [*c.N, *c.M] and to.dense:
                target = shown(joined(to, [c.N, c.M]), [_dim(c.M), _dim(c.N)])
            else:  # a reshape would be a copy
                into = self._temporary(flat)
                target = joined(into, dims)
        else:
            target = shown(to, [*c.S, *c.M, *c.N])
        a = matrix(left, c.S, c.M, c.K)
        b = matrix(right, c.S, c.K, c.N)
        if not c.N and c.S:
            self.write(f"np.matmul({a.code}, {b.atom}[..., None], out={target.code}[..., None])")
        else:
            self.write(f"np.matmul({a.code}, {b.code}, out={target.code})")
        self._release(c.a, c.b)
        self._move(into, to)


def _dim(group: list[Axis]) -> Any:
    return group[0] if len(group) == 1 else tuple(group)


def _is_relu(value: Any) -> bool:
    """Is it never negative, as max(x, 0), or 0?"""
    least = value.args[1] if isinstance(value, Symbol) and value.op == "max" else value
    return not isinstance(least, Symbol) and bool(least == 0)
