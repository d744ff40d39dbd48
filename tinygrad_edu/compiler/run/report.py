"""Groups: the arrays that the compiler found in the graph, as a table and as a drawing."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...engine.rules import RULES
from ...viz.drawing import drawn
from ...viz.picture import Arrow, Box, Kind, Picture
from ...viz.words import columns, four_digits, visible
from ..backends.formulas import OPERATORS
from ..backends.text import Elements, listing
from ..find.lowered import CONSTANT, Computation, Lowered, Read, Scan, Tensor, Terms, every_array
from ..ir.axes import access_of, varying
from ..ir.fission import fission
from ..ir.front import Front
from ..ir.plan import plan_of
from ..ir.routine import Array, Axis

if TYPE_CHECKING:
    from ...viz.plain import PlainDrawing
    from ...viz.render import Drawing

MOST = 60  # groups in a table or a drawing; a program without structure has thousands
FEW = 4  # names in a row
MANY, LITTLE = 20, 4.0  # so many groups with fewer nodes each are little structure
POW, POW_N = RULES["pow"], RULES["pow_n"]


class Groups:
    """The arrays of a compiled function. It prints as a table. A notebook shows the drawing.

    A row of the table is one group: its name in the source, its operation, the groups it reads, its shape (B is
    the batch), and how many numbers of one example, or operations on numbers, it stands for. The arrays of a loop
    are indented: they stand for all stages. If the graph has little structure, `advice` stands above the table.
    """

    def __init__(self, lowered: Lowered):
        self.lowered = lowered
        self.notes: list[str] = []  # more lines below the title
        arrays = _with_leaves_where_they_are_read(list(every_array(lowered)))
        self._arrays = [array for array in arrays if array.kind != "loop"]
        loops = [array.operation for array in arrays if array.kind == "loop"]
        self._loops: dict[Tensor, Scan] = {array: loop for loop in loops for array in loop.stage}

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def title(self) -> str:
        """The numbers of nodes and groups: "305,961 nodes -> 12 groups, 2 matrix products"."""
        nodes, products = self.lowered.n_traced, self.lowered.n_products
        return f"{_count(nodes, 'node')} -> {_count(len(self), 'group')}, {_count(products, 'matrix product')}"

    def __repr__(self) -> str:
        rows: list[tuple[str, ...]] = [("name", "operation", "reads", "shape", "stands for")]
        for array in self._arrays:
            loop = self._loops.get(array)
            if loop and array is loop.stage[0]:
                rows.append((_head(loop), "", "", "", ""))
            name, *cells = _row(array, loop.length if loop else 1)
            rows.append((f"  {name}" if loop else name, *cells))
        hidden = len(rows) - 1 - MOST
        if hidden > 0:
            rows[1 : hidden + 1] = [("…", f"{hidden:,} more", "", "", "")]
        return "\n".join([self.title, *self.notes, *self.advice, *columns(rows)])

    @property
    def advice(self) -> list[str]:
        """What to use instead if the arrays are so small that NumPy takes as long as the engine; else nothing."""
        nodes = self.lowered.n_traced / max(1, len(self))
        if len(self) < MANY or nodes >= LITTLE:
            return []
        return [
            f"There is little structure in this graph: a group has {nodes:.1f} nodes on average.",
            'For one example at a time, backend="python" is faster. NumPy pays for a hundred examples or more.',
        ]

    def draw(self, *, rankdir: str = "LR", format: str = "svg") -> "Drawing | PlainDrawing":
        """The groups as boxes, inputs first. Arrows lead from each group to the groups that read it.

        An input is a yellow rectangle, a parameter is green, a matrix product has depth, and a result has a double
        frame. Constants stand in the operations. If there are very many groups, the last ones are shown.

        rankdir  "LR" (left to right) or "TB" (top to bottom)
        format   the default of `render()` and `pipe()`: "svg", "png", "pdf" ...

        Raises ValueError for another rankdir.
        """
        if rankdir not in ("LR", "TB"):
            raise ValueError(f'rankdir is "LR" (left to right) or "TB" (top to bottom), got {rankdir!r}.')
        return drawn(self.picture, repr(self), rankdir=rankdir, format=format)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return self.draw()._repr_mimebundle_(include, exclude)

    @property
    def picture(self) -> Picture:
        """The drawing as plain data."""
        arrays = [array for array in self._arrays if array.source != CONSTANT]
        hidden, shown = arrays[:-MOST], arrays[-MOST:]
        ids = {array: f"g{array.number}" for array in shown} | dict.fromkeys(hidden, "more")
        results = {array for array, _ in self.lowered.outputs}
        boxes = [Box("more", "more", f"… {len(hidden):,} more", "", "", "", details=("groups",))] if hidden else []
        boxes += [_box(array, ids[array], array in results, self._loops.get(array)) for array in shown]
        arrows: dict[tuple[str, str], Arrow] = {}
        for array in shown:
            for place, read in enumerate(array.reads):
                if read.array in ids:
                    ends = ids[read.array], ids[array]
                    arrows.setdefault(ends, Arrow(*ends, place))
        return Picture(tuple(boxes), tuple(arrows.values()), self.title)


def _with_leaves_where_they_are_read(arrays: Sequence[Tensor]) -> list[Tensor]:
    """The arrays, each leaf just before the first array that reads it."""
    order, known = dict[Tensor, None](), set(arrays)
    for array in arrays:
        if array.operation is not None:
            read = [read.array for read in array.reads]
            leaves = [other for other in read if other.operation is None and other in known]
            order |= dict.fromkeys([*leaves, array])
    return list(order | dict.fromkeys(arrays))


# --- Rows and boxes -------------------------------------------------------------------------------------------


def _head(loop: Scan) -> str:
    return f"for t in range({loop.length}):"


def _row(array: Tensor, times: int) -> tuple[str, str, str, str, str]:
    names = dict.fromkeys(_name(read) for read in array.reads if read.array.source != CONSTANT)
    once = ", once per call" if _is_once(array) and times == 1 else ""
    return array.name, operation_of(array) + once, _some(names, ", "), _shape(array), _stands_for(array, times)


def _box(array: Tensor, id: str, is_result: bool, loop: Scan | None) -> Box:
    is_leaf = array.operation is None
    details = [_shape(array)]
    if is_leaf or array.kind == "sum":
        details.append(_stands_for(array, loop.length if loop else 1))  # the shape of all others says it
    if _is_once(array) and not loop:
        details.append("once per call")
    earlier = dict.fromkeys(_name(read) for read in array.reads if read.back)
    details += [f"reads {name}" for name in earlier]
    operation = "" if is_leaf else operation_of(array)
    scope = (_head(loop),) if loop else ()
    return Box(id, _kind(array, is_result), array.name, operation, "", "", scope, details=tuple(details))


def _kind(array: Tensor, is_result: bool) -> Kind:
    if array.operation is None:
        return "parameter" if array.source[:1] == ("parameter",) else "leaf"
    if is_result:
        return "result"
    return "group" if any(part.is_matrix_product for part in array.operation.parts) else "interior"


def _is_once(array: Tensor) -> bool:
    """Is it computed once per call? It does not depend on the example."""
    return array.operation is not None and not array.batched


def _shape(array: Tensor) -> str:
    sizes = [*(["B"] if array.batched else []), *map(str, array.shape)]
    return f"({', '.join(sizes)})"


def _some(texts: Iterable[str], between: str) -> str:
    """The first few texts, and how many more there are."""
    texts = list(texts)
    more = [f"{len(texts) - FEW:,} more"] if len(texts) > FEW + 1 else texts[FEW:]
    return between.join(texts[:FEW] + more)


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"


# --- Operations -----------------------------------------------------------------------------------------------


def operation_of(array: Tensor) -> str:
    """What a person calls it: "matrix product + b1", "relu", "logsumexp_1 - sum_1", "parameter"."""
    match array.operation:
        case None:
            return str(array.source[0])
        case Computation("sum", _, parts):
            return _some(map(_part, parts), " + ")
        case Computation("take"):
            return "choice by index"
        case Computation("rule", [read]) if array.rule is None:
            return _operand(read)
        case Computation("rule", reads):
            return _elementwise(array.rule, list(map(_operand, reads)))
        case Computation("softmax"):
            return "softmax"
    return visible(array.rule.name)  # type: ignore[union-attr]  # leaves have none


def _elementwise(rule: Any, operands: list[str]) -> str:
    if rule.name == POW_N.name:
        return f"{operands[0]} ** {four_digits(rule.parameters['exponent'])}"
    if rule is POW:
        return " ** ".join(operands)
    if len(operands) == 2 and rule.name in OPERATORS:
        return OPERATORS[rule.name].text.format(*operands)
    name = visible(rule.name)
    return name if len(operands) == 1 else f"{name}({', '.join(operands)})"


def _part(part: Terms) -> str:
    """One part of a sum."""
    if part.is_matrix_product:
        return "matrix product" if part.heads == 1 else f"matrix product ({part.heads} heads)"
    first, *others = part.factors
    if first.index.shape[-1] == 1:
        return " * ".join(map(_operand, part.factors))
    if not others:
        return f"sum of {_operand(first)}"
    is_square = first.array is others[0].array and np.array_equal(first.index, others[0].index)
    return f"sum of {_operand(first)} ** 2" if is_square else "dot product"


def _operand(read: Read) -> str:
    """The name of an array that is read, or the number of a constant."""
    if read.array.source != CONSTANT or read.every is not None:
        return _name(read)
    numbers = set(read.array.places[read.index].ravel().tolist())
    return four_digits(numbers.pop()) if len(numbers) == 1 else read.array.name


def _name(read: Read) -> str:
    """What is read: A, the stage A[t - 1] of a loop, the row A[t + 1] or the column A[:, 9 - t] of an array."""
    array = read.array
    if read.every is not None:
        index, axes = varying(read.every, [Axis(size) for size in read.every.shape])
        elements = Elements()
        elements.t = axes[0]
        shape = array.shape if array.stages is None else (array.stages, *array.shape)
        access = access_of(Array(array.name, shape, False), None, index, axes)
        is_part = access.gather is None and access.dims == shape and elements.t in access.free
        return elements.element(access).code if is_part else array.name
    if read.back:
        return f"{array.name}[t - {read.back}]"
    stages = set() if array.stages is None or read.back == 0 else {*(read.index // array.size).ravel().tolist()}
    return f"{array.name}[{stages.pop()}]" if len(stages) == 1 else array.name


def _stands_for(array: Tensor, times: int) -> str:
    """How many numbers, or operations on numbers: "128 numbers", "128 relu", "1,280 * and 1,280 +"."""
    size = array.size * times
    if array.operation is None or array.rule is None:
        return _count(size, "number")
    if array.kind == "take":
        return f"{size:,} picked"
    if array.kind != "sum":
        return f"{size:,} {visible(array.rule.symbol)}"
    products = terms = 0  # for one element
    for part in array.operation.parts:
        terms += (n := part.factors[0].index.shape[-1])
        products += n * (len(part.factors) > 1)
    counts = [f"{n * size:,} {symbol}" for n, symbol in ((products, "*"), (terms - 1, "+")) if n]
    return " and ".join(counts)


def passes_of(lowered: Lowered, with_gradient: bool) -> dict[str, str]:
    """What each pass made of a program, as text: its statements, with smaller loops, with the gradient."""
    program = Front(lowered).program
    texts = {"statements": listing(program), "fission": listing(fission(program))}
    return texts | ({"gradient": listing(plan_of(lowered, True).program)} if with_gradient else {})
