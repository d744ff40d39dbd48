"""Text with structure: elements of arrays and formulas, as NumPy writes them.

An ArrayText knows the axes of what it stands for, one for each dimension. So what must be transposed, reshaped or
given new axes is decided by axes, and the text is written last.
"""

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..ir.plan import VectorPiece
from ..ir.routine import REDUCTIONS, Access, Array, Axis, B, Loop, Routine, Stmt, free_of
from ..ir.symbols import Symbol
from .formulas import ATOM, CHOICE, OPERATORS, SUM, Form, is_negative, short_number

Dim = Any  # an Axis, or several of them in a tuple: a dimension that has been reshaped


@dataclass(frozen=True)
class ArrayText:
    """code, and the axes of its dimensions.

    dense    has it no gaps, so that a reshape of it is a view?
    is_item  does the code end with an index, so that it can be assigned to?
    level    how tightly the code holds together
    base     the code and its sizes before a reshape at the end, if there is one
    """

    code: str
    axes: tuple[Dim, ...]
    dense: bool = True
    is_item: bool = False
    level: int = ATOM
    base: tuple[str, tuple[Any, ...]] | None = None

    @property
    def atom(self) -> str:
        """In parentheses if it must be."""
        return self.code if self.level == ATOM else f"({self.code})"


class Positions(NamedTuple):
    """An array of positions that depend on a length: its source, and its shape."""

    text: str
    shape: tuple[Any, ...]
    dtype: Any = np.dtype(np.intp)

    def tobytes(self) -> bytes:
        """Its content, as that of an array."""
        return self.text.encode()

    def ravel(self) -> "Positions":
        """The same along one dimension."""
        return Positions(f"({self.text}).ravel()", (math.prod(self.shape),), self.dtype)


def bare(sizes: Iterable[Any]) -> str:
    """Sizes as source, separated by commas."""
    return ", ".join(map(str, sizes))


def tuple_text(sizes: Sequence[Any]) -> str:
    """A tuple as source."""
    return f"({bare(sizes)}{',' if len(sizes) == 1 else ''})"


def size_of(dim: Dim) -> Any:
    """The size of a dimension; -1 for a part of the batch and more."""
    if isinstance(dim, Axis):
        return dim.size
    return -1 if B in dim else math.prod(axis.size for axis in dim)


def shown(text: ArrayText, order: Sequence[Dim]) -> ArrayText:
    """A text with its dimensions in this order. Those that it lacks become axes of size 1, unless they lead."""
    own = [dim for dim in order if dim in text.axes]
    assert len(own) == len(text.axes), (text, order)
    perm, n = [text.axes.index(dim) for dim in own], len(own)
    code, changed = text.atom, False
    if perm != list(range(n)):
        is_last = perm == [*range(n - 2), n - 1, n - 2]
        code += ".T" if n == 2 else ".mT" if is_last else f".transpose({bare(perm)})"
        changed = True
    missing = [dim not in own for dim in order]
    while missing and missing[0]:
        missing.pop(0)
    if any(missing):
        only_last = missing.index(True) == len(missing) - 1
        code += "[..., None]" if only_last else f"[{bare('None' if new else ':' for new in missing)}]"
        changed = True
    if not changed:
        return text
    axes = tuple(dim for dim, new in zip(order[len(order) - len(missing) :], missing, strict=True) if not new)
    return ArrayText(code, axes, False, any(missing))


def joined(text: ArrayText, groups: Sequence[Sequence[Axis]]) -> ArrayText:
    """A text with one dimension for each group of axes, in this order."""
    flat = list(itertools.chain(*groups))
    text = text if list(text.axes) == flat else shown(text, flat)
    if all(len(group) == 1 for group in groups):
        return text
    dims = tuple(group[0] if len(group) == 1 else tuple(group) for group in groups)
    code, known = text.base or (text.atom, ())
    sizes = tuple(map(size_of, dims))
    return ArrayText(
        code if sizes == known else f"{code}.reshape({bare(sizes)})", dims, text.dense, base=(code, known)
    )


def storage(access: Access, t: Axis | None) -> tuple[Axis, ...]:
    """The axes of an access in the order in which they are stored; t is the stage that is being written."""
    row = [] if access.row is None else [access.row[1]]
    rest = access.axes if access.gather is not None else [axis for _, axis, _ in access.at]
    return tuple(axis for axis in (*row, *([B] if access.array.batched else []), *rest) if axis not in (None, t))


class Elements:
    """Writes the elements of arrays.

    t          the stage that is written
    constants  name -> an array of positions
    gaps       arrays that are views with gaps
    forgotten  arrays of stages of which only the last one is kept
    """

    t: Axis | None = None

    def __init__(self) -> None:
        self.gaps: set[Array] = set()
        self.forgotten: set[Array] = set()
        self.constants: dict[str, Any] = {}
        self._by_content: dict[Any, str] = {}

    def constant(self, array: Any) -> str:
        """The name of an array of positions."""
        key = (array.dtype.char, array.shape, array.tobytes())
        if key not in self._by_content:
            self._by_content[key] = f"index_{len(self.constants) + 1}"
            self.constants[self._by_content[key]] = array
        return self._by_content[key]

    def element(self, access: Access, to_write: bool = False) -> ArrayText:
        """The elements, with their axes as they are stored. With to_write, one is an array without axes."""
        array, dims, parts, code = access.array, list(access.dims), list(access.at), access.array.name
        axes = storage(access, self.t)
        row = None if array in self.forgotten else access.row
        if access.gather is not None:
            return self._gathered(access, axes, to_write)
        lead = [] if row is None else [array.stages]
        batch = ["B"] if array.batched else []
        base = code, (*lead, *batch, *array.dims)
        if access.dims != array.dims:
            code += f".reshape({bare([*lead, *batch, *dims]) or '()'})"
        cuts: list[Any] = [] if row is None else [(row, array.stages)]  # None for the batch, which is not cut
        cuts = [*cuts, *([None] if batch else []), *zip(parts, dims, strict=True)]
        cuts = [cut if cut and self._is_cut(*cut) else None for cut in cuts]
        while cuts and cuts[-1] is None:
            cuts.pop()
        is_dense = array not in self.gaps and self._is_dense(cuts)
        texts = [self.part(*cut) if cut else ":" for cut in cuts]
        if to_write and not axes and texts:
            texts.append("...")
        return ArrayText(
            f"{code}[{bare(texts)}]" if texts else code, axes, is_dense, bool(texts), base=None if texts else base
        )

    def flat(self, access: Access) -> tuple[str, list[Any]]:
        """An array of which elements are gathered, with one dimension for them, and the sizes before it."""
        array, row, code = access.array, access.row, access.array.name
        lead = ["B"] if array.batched else []
        if row is not None and array not in self.forgotten:
            code += f"[{self.part(row, array.stages)}]"
            lead = lead if row[1] in (None, self.t) else [row[1].size, *lead]
        return code if len(array.dims) == 1 else f"{code}.reshape({bare([*lead, array.size])})", lead

    def _gathered(self, access: Access, axes: tuple[Axis, ...], to_write: bool) -> ArrayText:
        index, own = access.gather, access.axes
        code, lead = self.flat(access)
        places = self.constant(index)
        if self.t in own:
            places += f"[{bare('t' if axis is self.t else ':' for axis in own)}]"
        if to_write:
            return ArrayText(f"{code}[{bare([*':' * len(lead), places])}]", axes, False, True)
        axis = f", axis={len(lead)}" if lead else ""  # X[:, places] would not be dense in memory
        return ArrayText(f"{code}.take({places}{axis})", axes)

    def in_vector(self, piece: VectorPiece, vector: str, batched: bool = False) -> ArrayText:
        """Rows of a parameter, as elements of its part of a vector, or of those of all examples."""
        lead = ":, " if batched else ""
        return self.in_part(piece, f"{vector}[{lead}{piece.start!s}:{piece.stop!s}]", batched)

    def in_part(self, piece: VectorPiece, part: str, batched: bool = False) -> ArrayText:
        """The same, where the part has a name."""
        access = piece.access.of(Array(part, piece.access.array.dims, batched))
        axes = sorted(access.free, key=lambda axis: axis.number)
        text = shown(self.element(access, to_write=True), axes)
        return replace(text, is_item=True) if access.is_whole and len(access.dims) == 1 else text

    def _is_cut(self, part: Any, size: Any) -> bool:
        start, axis, step = part
        return axis in (None, self.t) or (start, step) != (0, 1) or axis.size != size

    def _is_dense(self, cuts: list[Any]) -> bool:
        """Are all of these dimensions cut, all but the last of them to one element?"""
        is_one = [cut is not None and cut[0][1] in (None, self.t) for cut in cuts]
        return all(is_one[:-1]) and (not cuts or is_one[-1] or cuts[-1][0][2] == 1)

    def part(self, part: Any, size: Any) -> str:
        """What is taken along one dimension."""
        start, axis, step = part
        if axis is None:
            return str(start)
        if axis is self.t:
            if step < 0:
                return f"{start!s} - {'' if step == -1 else f'{-step} * '}t"
            moving = "t" if step == 1 else f"{step} * t"
            return moving + (f" + {start}" if start > 0 else f" - {-start}" if start else "")
        stop: Any = start + step * (axis.size - 1) + (1 if step > 0 else -1)
        first: Any = "" if start == 0 and step > 0 else start
        stop = "" if stop == -1 or (step > 0 and stop == size) else stop
        first = "" if step < 0 and start == size - 1 else first
        return f"{first!s}:{stop!s}" + (f":{step!s}" if step != 1 else "")


# --- Matrix products --------------------------------------------------------------------------------------------


@dataclass
class Contraction:
    """A sum of products of a and b. a has the rows M, b the columns N, both have K, the sum, and S, the heads."""

    a: Any
    b: Any
    S: list[Axis]
    M: list[Axis]
    N: list[Axis]
    K: list[Axis]


def contraction(x: Symbol, order: Sequence[Axis], t: Axis | None) -> Contraction | None:
    """A sum of products as a product of matrices; None if it is no sum of products."""
    body, over = x.args
    if body.op != "mul" or not all(isinstance(y, Symbol) for y in body.args):
        return None
    a, b = body.args
    fa, fb = ([*free_of(y)] for y in (a, b))
    if any(axis not in fa or axis not in fb for axis in over):
        return None
    rest = [axis for axis in order if axis not in over]
    S = [axis for axis in rest if axis in fa and axis in fb]
    first = next((axis for axis in rest if (axis in fa) != (axis in fb)), None)
    if first is not None and first in fb:
        a, b, fa, fb = b, a, fb, fa
    K = natural(a if len(fa) >= len(fb) else b, over, t)
    M, N = ([axis for axis in rest if axis in part and axis not in S] for part in (fa, fb))
    return Contraction(a, b, S, M, N, K)


def natural(x: Any, axes: Iterable[Axis], t: Axis | None) -> list[Axis]:
    """These axes in the order in which x has them."""
    wanted = {axis for axis in axes if axis is not t}
    while isinstance(x, Symbol):
        if x.op == "get":
            own = [axis for axis in storage(x.args[0], t) if axis in wanted]
            return own + sorted(wanted.difference(own), key=lambda axis: axis.number)
        parts = [y for y in x.args if isinstance(y, Symbol)]
        x = next((y for y in parts if wanted <= y.axes), None)
    return sorted(wanted, key=lambda axis: (axis is not B, axis.number))


def matrix(text: ArrayText, S: list[Axis], rows: list[Axis], columns: list[Axis]) -> ArrayText:
    """A text as [*S, rows, columns]; one reshape before a transpose, which is a view of what is stored."""
    places = [text.axes.index(axis) for axis in (*rows, *columns)]
    groups = [rows, columns] if not rows or not columns or places[0] < places[-1] else [columns, rows]
    groups = [group for group in groups if group]
    flat = joined(text, [*([axis] for axis in S), *groups])
    dims = [group[0] if len(group) == 1 else tuple(group) for group in (rows, columns) if group]
    return shown(flat, [*S, *dims])


# --- Formulas ---------------------------------------------------------------------------------------------------

FUNCTIONS = {"max": "maximum", "abs": "abs"}  # names of NumPy
TRUTHS = ("heaviside", "equal", "one_hot", "lt", "le", "gt", "ge")
AXIS = {"sum": "sum", "max_": "max", "min_": "min"}


class Formulas:
    """Writes expressions as formulas: text that NumPy can run, where its functions are known by name."""

    forms: ClassVar[Mapping[str, Form]] = OPERATORS | {
        "heaviside": Form("({} > 0)", ATOM, (SUM,)),
        "equal": Form("({} == {})", ATOM, (SUM, SUM)),
        "pow": Form("{} ** {}", ATOM - 1, (ATOM, ATOM)),
    }
    along_axes: ClassVar[Collection[str]] = AXIS  # reductions that are methods of an array

    def __init__(self, elements: Elements):
        self.elements = elements

    def line(self, stmt: Stmt) -> str:
        """A statement: Z1 = X @ W1.T + b1."""
        to = self.elements.element(stmt.out, to_write=stmt.out.gather is not None)
        return f"{to.code} {'+=' if stmt.adds else '='} {self.text(stmt.value, to.axes)}"

    def text(self, x: Any, order: Sequence[Axis], level: int = CHOICE) -> str:
        """An expression over axes that fit this order, where a formula of at least this level is asked for."""
        text = self.written(x, order)
        return text.code if text.level >= level else f"({text.code})"

    def written(self, x: Any, order: Sequence[Axis]) -> ArrayText:
        """An expression; its dimensions are the last ones of this order, of size 1 where it lacks an axis."""
        if not isinstance(x, Symbol):
            return ArrayText(self.number(x), (), level=ATOM - is_negative(x))
        if x.op == "leaf":
            return ArrayText(str(x.args[0]), ())
        if x.op == "get":
            return shown(self.elements.element(x.args[0]), order)
        if x.op in REDUCTIONS:
            return shown(self.reduction(x, order), order)
        special = {"pick": self._pick, "one_hot": self._one_hot, "call": self._call}.get(x.op)
        if special is not None:
            return special(x, order)
        form = self.forms.get(x.op)
        if form is None:
            arguments = bare(self.text(y, order) for y in x.args)
            return ArrayText(f"{self.function(x.op)}({arguments})", ())
        parts = [self.text(y, order, n) for y, n in zip(x.args, form.operands, strict=True)]
        if x.op in ("add", "sub", "neg"):  # NumPy adds up truth values as `or`
            parts = [f"1 * {part}" if self.is_truth(y) else part for y, part in zip(x.args, parts, strict=True)]
        return ArrayText(form.text.format(*parts), (), level=form.level)

    def is_truth(self, x: Any) -> bool:
        """Does NumPy give truth values for it?"""
        if not isinstance(x, Symbol):
            return False
        return x.op in TRUTHS or (x.op == "mul" and all(map(self.is_truth, x.args)))

    def reduced(self, op: str, text: str) -> str:
        """A reduction of the last axis that keeps all numbers in range."""
        return f"{op}({text})"

    def dot(self, left: ArrayText, right: ArrayText, n: int) -> str:
        """The sum of products along the last n axes."""
        axis = -1 if n == 1 else tuple(range(-n, 0))
        return f"({left.atom} * {right.atom}).sum(axis={axis})"

    def function(self, op: str) -> str:
        """The name of a function."""
        return FUNCTIONS.get(op, op)

    def number(self, x: Any) -> str:
        """A number; inf and nan are names."""
        return short_number(x)

    def exactly(self, x: Any, own: Sequence[Axis]) -> ArrayText:
        """An expression with exactly these axes, all of which it has."""
        if isinstance(x, Symbol) and x.op == "get":
            return shown(self.elements.element(x.args[0]), own)
        if isinstance(x, Symbol) and x.op in REDUCTIONS:
            return shown(self.reduction(x, own), own)
        text = self.written(x, own)
        return ArrayText(text.code, tuple(own), level=text.level)

    def reduction(self, x: Symbol, order: Sequence[Axis]) -> ArrayText:
        """A reduction, with its axes in an order of its own."""
        t, (body, over) = self.elements.t, x.args
        outer = [axis for axis in order if axis not in over]
        if x.op == "sum" and (product := contraction(x, outer, t)) is not None:
            return self._contraction(product)
        rest = [axis for axis in outer if axis in free_of(body)]
        rest += natural(body, free_of(body).difference(rest, over), t)
        if x.op in self.along_axes:
            own = natural(body, free_of(body), t)
            inner = self.exactly(body, own)
            places = [i for i, axis in enumerate(own) if axis in over]
            left = tuple(axis for axis in own if axis not in over)
            where = -1 if places == [len(own) - 1] else places[0] if len(places) == 1 else tuple(places)
            return ArrayText(f"{inner.atom}.{AXIS[x.op]}(axis={where})", left)
        inner = joined(self.exactly(body, [*rest, *over]), [*([axis] for axis in rest), over])
        if x.op != "softmax":
            return ArrayText(self.reduced(x.op, inner.code), tuple(rest))
        flat = ArrayText(self.reduced(x.op, inner.code), inner.axes)
        if len(over) == 1:
            return flat
        sizes = [axis.size for axis in (*rest, *over)]
        return ArrayText(f"{flat.code}.reshape({bare(sizes)})", (*rest, *over))

    def _contraction(self, c: Contraction) -> ArrayText:
        t = self.elements.t
        left, right = (self.exactly(x, natural(x, free_of(x), t)) for x in (c.a, c.b))
        if not c.M and not c.N:
            keep = [*c.S, *c.K]
            return ArrayText(self.dot(shown(left, keep), shown(right, keep), len(c.K)), tuple(c.S))
        if not c.M:
            c.a, c.b, c.M, c.N, left, right = c.b, c.a, c.N, c.M, right, left
        if not c.N and c.S:
            code = f"({matrix(left, c.S, c.M, c.K).atom} @ {matrix(right, c.S, c.K, []).atom}[..., None])[..., 0]"
            return self._unjoined(ArrayText(code, ()), c)
        if len(c.M) > 1 and not c.S and len(c.K) == 1:  # the rows of all axes of M at once
            a = shown(left, [*c.M, *c.K])
        else:
            a = matrix(left, c.S, c.M, c.K)
        b = matrix(right, c.S, c.K, c.N)
        is_flat = len(a.axes) == len(c.S) + 2
        text = ArrayText(f"{a.atom} @ {b.atom}", (), level=SUM)
        return self._unjoined(text, c) if is_flat else self._unjoined(text, c, keep_rows=True)

    @staticmethod
    def _unjoined(text: ArrayText, c: Contraction, keep_rows: bool = False) -> ArrayText:
        axes = (*c.S, *c.M, *c.N)
        if len(c.N) <= 1 and (len(c.M) <= 1 or keep_rows):
            return ArrayText(text.code, axes, level=text.level)
        sizes = [axis.size for axis in axes]
        return ArrayText(f"{text.atom}.reshape({bare(sizes)})", axes)

    def _pick(self, x: Symbol, order: Sequence[Axis]) -> ArrayText:
        body, axis, index = x.args
        if free_of(body).isdisjoint(free_of(index)):
            own = [axis, *natural(body, free_of(body).difference([axis]), self.elements.t)]
            rows = natural(index, free_of(index), self.elements.t)
            code = f"{self.exactly(body, own).atom}[{self.exactly(index, rows).atom}.astype(int)]"
            return shown(ArrayText(code, (*rows, *own[1:])), order)
        options, places = self._all(body, [*order, axis]), f"{self._all(index, order)}[..., None].astype(int)"
        return ArrayText(f"{self.function('take_along_axis')}({options}, {places}, -1)[..., 0]", ())

    def _all(self, x: Symbol, order: Sequence[Axis]) -> str:
        """x with a dimension for each of these axes: the first ones are left out elsewhere."""
        n = next((n for n, axis in enumerate(order) if axis in free_of(x)), len(order))
        text = self.text(x, order, ATOM)
        return f"{text}[{bare(['None'] * n)}]" if n else text

    def _one_hot(self, x: Symbol, order: Sequence[Axis]) -> ArrayText:
        index, axis = x.args
        line = shown(ArrayText(f"arange({axis.size})", (axis,)), order)
        return ArrayText(f"({self.text(index, order, SUM)} == {line.code})", ())

    def _call(self, x: Symbol, order: Sequence[Axis]) -> ArrayText:
        rule, what, *inputs = x.args
        return ArrayText(rule_call(rule, what, [self.text(y, order) for y in inputs]), ())


def listing(program: Routine) -> str:
    """A program as text, one formula for each array."""
    formulas, lines = Formulas(elements := Elements()), []
    for item in program.items:
        if isinstance(item, Loop):
            elements.t = item.axis
            stages = f"reversed(range({item.axis.size}))" if item.reverse else f"range({item.axis.size})"
            lines += [f"for t in {stages}:", *(f"    {formulas.line(stmt)}" for stmt in item.body)]
            elements.t = None
        else:
            lines.append(formulas.line(item))
    return "\n".join(lines)


def rule_call(rule: Any, what: Any, texts: Iterable[str]) -> str:
    """A call of the forward of a rule, or one of the shares of its backward, as source."""
    bound = f".bind(**{rule.parameters!r})" if rule.parameters else ""
    end = f"forward({bare(texts)})" if what == "forward" else f"backward({bare(texts)})[{what}]"
    return f"RULES[{rule.name!r}]{bound}.{end}"
