"""Scalars: the arrays of a plan as single numbers, for programs of lines and loops, which `straight.py` prints.

Every element of an array is a Symbol of its own. A loop over stages stays a loop. What one stage computes, and
another one reads, is in lists, one for each element.
"""

import contextlib
import functools
import itertools
import keyword
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ...engine.rule import Rule
from ...engine.rules import DIV, RULES
from ..find.lowered import CONSTANT, PARAMETER
from ..find.views import dense_strides
from ..ir.plan import Plan
from ..ir.routine import REDUCTIONS, Access, Array, Axis, B, Loop, Routine, Stmt, parts_of
from ..ir.symbols import Book, Symbol, is_number, simpler_pow

FEWEST = 8  # stages of a sum that becomes a loop
# In Python, errors outside their domain.
GUARDED = {"div", "reciprocal", "mod", "pow", "pow_n", "sqrt", "log", "log2", "log10", "log1p"}
GUARDED |= {"asin", "acos", "acosh", "atanh"}
SLOPES = {"tanh_slope": RULES["tanh"], "sigmoid_slope": RULES["sigmoid"]}
OTHER = ("leaf", "get", "pick", "one_hot", "call", *REDUCTIONS)  # not pointwise

Env = dict[Axis, int]  # the place on each axis; on that of a loop there is none


class Unordered(Exception):
    """A loop reads or writes in no such order that an index could count its stages."""


@dataclass(eq=False)
class Items:
    """A list: its name, what it is filled with, numbers or so many zeros, and if it is read. None: an argument.

    n_changes: how often items have changed that had been read, and are then read anew
    """

    name: str
    filled: Any = None
    is_read: bool = False
    n_changes: int = 0


@dataclass(eq=False)
class Block:
    """A loop over an axis of the plan, or all that is outside of loops. Its Symbols have it as their axis.

    rows    array -> the rows that a stage writes
    number  how many statements and loops were before it
    values  (array, place, row) -> what a stage has computed so far
    totals  sums over all stages: Symbols that have no axis
    """

    axis: Axis
    reverse: bool = False
    rows: dict[Array, set[Any]] = field(default_factory=dict)
    number: int = 0
    values: dict[Any, Any] = field(default_factory=dict)
    totals: dict[Symbol, None] = field(default_factory=dict)


def _sigmoid(book: Book, x: Any) -> Any:
    """As elementary.sigmoid, written out: softplus shares its exponential."""
    small = book.make("exp", -abs(x))
    return book.make("where", x >= 0, 1.0, small) / (1.0 + small)


def _pow(book: Book, x: Any, y: Any) -> Any:
    """A product for the square."""
    is_square = isinstance(x, Symbol) and not isinstance(y, Symbol) and y == 2
    return x * x if is_square else simpler_pow(book, x, y)


class Scalars:
    """Takes a plan apart. The book has all Symbols in order, and what is done with them: "store" and "loop".

    outputs, slopes  the results, as Symbols or numbers: no slopes without gradient
    names      Symbol -> its variable, if it gets one and has no other
    failing    the Symbols that can raise an error, whether they are used or not
    opaque     name in the source -> a rule that is called as it is
    labels     those of the parameters
    arguments  the text of each argument of the program, and the Symbols of its numbers
    lists      by element
    """

    # The variables of parameter 17, and of input 0, its number 17; what the first are called together.
    names_of: ClassVar[tuple[str, str, str]] = ("p{}", "x{}_{}", "parameters")

    def __init__(self, plan: Plan, labels: Sequence[str], inputs: Sequence[Any], taken: Iterable[str] = ()):
        self._tanh: dict[Any, Any] = {}  # x -> tanh(x), where it is stored
        known: dict[str, Any] = {"sigmoid": _sigmoid, "pow": _pow, "tanh": lambda book, x: self._tanh.get(x)}
        self.book, self.plan, self.labels = Book(known), plan, labels
        self.names: dict[Symbol, str] = {}
        self.failing: set[Symbol] = set()
        self.opaque: dict[str, Rule] = {}
        self.taken: set[str] = {"parameters", "inputs", "run", "outputs", "gradient", "t", *taken}
        self._repeats: dict[str, int] = {}  # how many variables have a name and a number
        self.top = self._block = Block(Axis(1))
        self._loops: dict[Any, Block] = {}  # axis -> the last loop over it
        self._values: dict[Any, Any] = {}  # of elements
        self._written: dict[Array, int] = {}  # array -> how many statements were before it
        self._memo: dict[Any, Any] = {}  # of expressions for single numbers
        self.lists: dict[Any, Items] = {}
        (parameter, number, text), own = self.names_of, dict[str, list[str]]()
        own[text] = [self.name(label, parameter.format(i)) for i, label in enumerate(labels)]
        for a, argument in enumerate(inputs):
            own[f"inputs[{a}]"] = [self.name(label, number.format(a, i)) for i, label in enumerate(argument)]
        self.arguments = {key: list(map(self.book.leaf, named)) for key, named in own.items()}
        adjoints = set(plan.program.adjoints.values())
        for self._n, item in enumerate(_in_loops(plan.program)):
            if not adjoints.isdisjoint(stmt.out.array for stmt in item.body):
                self.book.special("backward", ())
            if isinstance(item, Loop):
                self._stages(item)
            else:
                self._statement(item, {})
        every = range(plan.n_outputs)
        columns = [(plan.outputs, every, every)] if isinstance(plan.outputs, Array) else plan.outputs
        places = {at: (array, place) for array, *pairs in columns for at, place in zip(*pairs, strict=True)}
        roots = [plan.root] if plan.root else []
        self.outputs = [self._result(*at) for at in [*roots, *(places[i] for i in every)]]
        self.slopes: list[Any] = [0.0] * (len(labels) if plan.root else 0)
        for array, adjoint, *_ in plan.parameters if plan.root else ():
            for place, at in enumerate(array.places.ravel().tolist() if adjoint else ()):
                self.slopes[at] = self._result(adjoint, place)

    def name(self, label: str, otherwise: str) -> str:
        """A label as the name of a variable, x[0, 1] as x0_1, if it is short and free; else `otherwise`."""
        name = label.replace(", ", "_").replace("[", "").replace("]", "")
        fits = len(name) <= 12 and name.isascii() and name.isidentifier() and not name.startswith("__")
        return self.variable(otherwise if not fits or keyword.iskeyword(name) or name in self.taken else name)

    def variable(self, name: str) -> str:
        """A variable of this name, with an underscore or a number if there is one already: x_, x_2_, x_3_."""
        free, n = name, self._repeats.get(name, 0)
        while free in self.taken:
            n += 1
            free = f"{name}_{n}_" if n > 1 else f"{name}_"
        self._repeats[name] = n
        self.taken.add(free)
        return free

    # --- Elements ----------------------------------------------------------------------------------------------

    def _result(self, array: Any, place: int) -> Any:
        if not isinstance(array, Array):
            return float(array.flat[place])
        return self._of_leaf(array, place) if array.source else self._values[array, place, None]

    def _list(self, array: Array, place: int) -> Items:
        """The list of an element, with an item for each stage."""
        if (array, place) not in self.lists:
            name = self.variable(f"{_name_of(array, place)}_at")
            self.lists[array, place] = Items(name, array.stages)
        return self.lists[array, place]

    def _item(self, items: Items, where: Any) -> Symbol:
        """An item of a list: at a place, or at one for each stage. Raises Unordered if these do not count."""
        items.is_read = True
        if not isinstance(where, np.ndarray):
            return self.book.special("item", (items, int(where), 0, items.n_changes))
        return self.book.special("item", (items, *_counted(where), items.n_changes, self._block), [self._block])

    @staticmethod
    def _where(access: Access, env: Env) -> tuple[Any, Any]:
        """The row, and the place in it: numbers, or one for each stage."""

        def along(start: int, axis: Axis | None, step: int) -> Any:
            return start if axis is None else start + step * (env[axis] if axis in env else np.arange(axis.size))

        row = None if access.row is None else along(*access.row)
        if access.gather is not None:
            return row, access.gather[tuple(env.get(axis, slice(None)) for axis in access.axes)]
        parts = zip(access.at, dense_strides(access.dims), strict=True) if access.at else ()
        return row, sum([along(*part) * stride for part, stride in parts])

    def _get(self, access: Access, env: Env) -> Any:
        array, block = access.array, self._block
        row, place = self._where(access, env)
        if array.source:
            return self._of_leaf(array, place)
        if isinstance(place, np.ndarray):
            raise Unordered
        rows = block.rows.get(array, set())
        if not isinstance(row, np.ndarray):
            if any(row in range(first, first + axis.size) for first, axis, _ in rows):
                raise Unordered
            known = self._values.get((array, int(place), row))
        else:
            if rows and access.row[1:] != (block.axis, 1):  # type: ignore[index]  # it has one
                raise Unordered
            known = block.values.get((array, int(place), access.row))
        return self._item(self._list(array, int(place)), row) if known is None else known

    def _of_leaf(self, leaf: Array, place: Any) -> Any:
        if leaf.source == CONSTANT:
            numbers = leaf.places.ravel()
            if not isinstance(place, np.ndarray):
                return float(numbers[place])
            if leaf not in self.lists:
                self.lists[leaf] = Items(self.variable(leaf.name), numbers.tolist())
            return self._item(self.lists[leaf], place)
        text = self.names_of[2] if leaf.source == PARAMETER else f"inputs[{leaf.source[1]}]"
        place = leaf.places.ravel()[place] if leaf.source == PARAMETER else place
        if not isinstance(place, np.ndarray):
            return self.arguments[text][int(place)]
        return self._item(self.lists.setdefault(text, Items(text)), place)

    # --- Statements --------------------------------------------------------------------------------------------

    def _statement(self, stmt: Stmt, env: Env) -> None:
        """Compute all elements, at these places of a loop that is written out."""
        self._now = stmt
        memo: dict[Any, Any] = {} if self._block is not self.top or stmt.out.named else self._memo
        for at in _places(axis for axis in stmt.out.named if axis not in env and axis is not self._block.axis):
            self._write(stmt, env | at, self._applied(stmt, env | at, memo))
        self._written[stmt.out.array] = self._n

    def _applied(self, stmt: Stmt, env: Env, memo: dict[Any, Any]) -> Any:
        """The value of a statement. A rule that looks at its operands first is called as it is."""
        rule, operands = stmt.rule, [self._expand(x, env, memo) for x in stmt.operands]
        if rule is not None and self._is_checked(rule):
            value = self._called("evaluate", rule, *operands)
        else:
            value = self._expand(stmt.value, env, memo)
        if rule and isinstance(value, Symbol) and (value.op == "evaluate" or _may_fail(rule, operands)):
            self.failing.add(value)
        return value

    def _is_checked(self, rule: Rule) -> bool:
        """Does the rule look at its inputs before it computes?"""
        return bool(rule.domain or rule.check) and rule.name not in GUARDED

    def _called(self, method: str, rule: Rule, *inputs: Any) -> Any:
        """The result of a method of the rule itself, called on floats."""
        name = next((name for name, known in self.opaque.items() if known is rule), "")
        if not name:
            name = self.name(rule.name, f"rule{len(self.opaque)}")
            self.opaque[name] = rule
        return self._special(method, name, *inputs)

    def _special(self, op: str, *args: Any) -> Symbol:
        return self.book.special(op, args, None)

    def _write(self, stmt: Stmt, env: Env, value: Any) -> None:
        array, block = stmt.out.array, self._block
        row, place = self._where(stmt.out, env)
        if block is not self.top and not (isinstance(row, np.ndarray) and np.ndim(place) == 0):
            raise Unordered
        key = array, int(place)
        is_known = block is self.top or (*key, stmt.out.row) in block.values
        value = self._get(stmt.out, env) + value if stmt.adds and is_known else value
        if isinstance(value, Symbol) and value.op not in ("leaf", "item"):
            self.names.setdefault(value, _name_of(*key))
        if block is self.top:
            self._values[*key, row] = value
            if row is not None and (isinstance(value, Symbol) or value != 0.0):  # lists begin with zeros
                self.book.special("store", (self._list(*key), row, 0, value, False))
            return
        items, adds = self._list(*key), stmt.adds and not is_known
        if not adds:
            block.values[*key, stmt.out.row] = value
        place_in_list = *_counted(row), items.n_changes
        if adds or len(block.rows[array]) > 1 or self.book.known("item", items, *place_in_list, block):
            items.n_changes += 1
        self.book.special("store", (items, *place_in_list[:2], value, adds, items.n_changes), [block])

    # --- Loops over stages -------------------------------------------------------------------------------------

    def _stages(self, loop: Loop) -> None:
        axis, stages = loop.axis, range(loop.axis.size)[:: -1 if loop.reverse else 1]
        written: dict[Array, set[Any]] = {}
        for stmt in loop.body:
            written.setdefault(stmt.out.array, set()).add(stmt.out.row)
        block = self._block = Block(axis, loop.reverse, written, self._n)
        for key, items in self.lists.items():
            items.n_changes += isinstance(key, tuple) and key[0] in written
        try:
            if any(row is None or row[1:] != (axis, 1) for rows in written.values() for row in rows):
                raise Unordered
            for stmt in loop.body:
                self._statement(stmt, {})
        except Unordered:
            self._block = self.top
            for t, stmt in itertools.product(stages, loop.body):
                self._statement(stmt, {axis: t})
            return
        self._block, self._loops[axis] = self.top, block
        self._values = {key: x for key, x in self._values.items() if key[0] not in written}
        self.book.special("loop", (block,))

    def _added_up(self, body: Any, axis: Axis, over: Sequence[Axis], env: Env) -> Any:
        """A sum over all stages, by the loop before it or by one of its own. Raises Unordered."""
        is_known = axis in self._loops and self._is_known_to(self._loops[axis], body)
        key: Any = axis if is_known else (self._now, axis)
        block = self._block = self._loops.setdefault(key, Block(axis, number=self._n))
        try:
            term = self._added(self._expand(body, env | at, {}) for at in _places(set(over) - {axis}))
        finally:
            self._block = self.top
        if not isinstance(term, Symbol) or block not in term.axes:
            return term * float(axis.size)
        self.book.special("loop", (block,))  # once
        block.totals[total := self.book.special("total", (block, term))] = None
        return total

    def _is_known_to(self, block: Block, body: Any) -> bool:
        """Is all that a sum reads known to the stages of a loop?"""
        for access in _reads(body):
            written, row = block.rows.get(access.array), access.row or ()
            if written is None and self._written.get(access.array, -1) >= block.number:
                return False
            if written is not None:
                ((own, *_), *others) = written
                before = own + (1 if block.reverse else -1)
                if others or row not in [(first, block.axis, 1) for first in (own, before)]:
                    return False
        return True

    # --- Expressions -------------------------------------------------------------------------------------------

    def _expand(self, x: Any, env: Env, memo: dict[Any, Any]) -> Any:
        """An expression at these places of its axes, as a Symbol or a number."""
        if x.__class__ is not Symbol:
            return float(x) if x.__class__ is int else x
        known = memo.get(_key(x, env))
        todo = [x] if known is None else []
        while todo:  # a chain may be too deep for calls
            x, key = todo[-1], _key(todo[-1], env)
            below = () if key in memo or x.op in OTHER else x.args
            if new := [y for y in below if y.__class__ is Symbol and _key(y, env) not in memo]:
                todo += new
                continue
            todo.pop()
            known = memo[key] = memo[key] if key in memo else self._expanded(x, env, memo)
        return known

    def _expanded(self, x: Symbol, env: Env, memo: dict[Any, Any]) -> Any:
        def along(axes: Iterable[Axis], body: Any) -> list[Any]:
            return [self._expand(body, env | at, memo) for at in _places(axes)]

        op, args = x.op, x.args
        match op:
            case "leaf":
                return 1.0  # the size of the batch
            case "get":
                return self._get(args[0], env)
            case "sum" if any(getattr(x, "op", "") == "one_hot" for x in getattr(args[0], "args", ())):
                return self._placed(args[0], args[1], env, memo)
            case "sum":
                rows = {access.row[1] for access in _reads(args[0]) if access.row is not None}
                stages = [axis for axis in args[1] if axis in rows and axis.size >= FEWEST]
                if stages and self._block is self.top:
                    with contextlib.suppress(Unordered):
                        return self._added_up(args[0], stages[0], args[1], env)
                return self._added(along(args[1], args[0]))
            case "max_" | "min_":
                return functools.reduce(functools.partial(self.book.make, op[:-1]), along(args[1], args[0]))
            case "logsumexp" | "softmax":
                body, over = args
                key = over, _key(body, {axis: place for axis, place in env.items() if axis not in over})
                if key not in memo:
                    memo[key] = self.logsumexp(along(over, body))
                if op == "logsumexp":
                    return memo[key][0]
                place = np.ravel_multi_index([env[axis] for axis in over], [axis.size for axis in over])
                return memo[key][1 + int(place)]
            case "pick":
                options, at = along([args[1]], args[0]), self._expand(args[2], env, memo)
                if is_number(at):
                    return options[int(at)]
                out = self._special("take", self._special("table", *options), at)
                self.failing.add(out)
                return out
            case "one_hot":
                is_hit = self.book.make("equal", self._expand(args[0], env, memo), float(env[args[1]]))
                return self.book.make("where", is_hit, 1.0, 0.0)
            case "call":
                inputs = [self._expand(y, env, memo) for y in args[2:]]
                if args[1] == "forward":
                    return self._called("evaluate", args[0], *inputs)
                return self._special("part", self._called("shares", args[0], *inputs), args[1])
        operands = [self._expand(y, env, memo) for y in args]
        if op == "tanh_slope":
            self._tanh[operands[1]] = operands[0]
        return SLOPES[op].shares(1.0, *operands)[0] if op in SLOPES else self.book.make(op, *operands)

    def _added(self, terms: Iterable[Any]) -> Any:
        return functools.reduce(functools.partial(self.book.make, "add"), terms)

    def _placed(self, product: Symbol, over: Sequence[Axis], env: Env, memo: dict[Any, Any]) -> Any:
        """An element of a sum of one-hot rows. The shares of all rows are put into their places at once."""
        hot, share = sorted(product.args, key=lambda x: getattr(x, "op", "") != "one_hot")
        index, axis = hot.args
        others = [{other: place for other, place in env.items() if other is not axis} | at for at in _places(over)]
        pairs = [self._special("pair", *(self._expand(x, at, memo) for x in (index, share))) for at in others]
        return self._special("part", self._special("placed", str(axis.size), *pairs), env[axis])

    def logsumexp(self, elements: list[Any]) -> list[Any]:
        """The logarithm of a sum of exponentials, and after it its slopes, which are the softmax."""
        whole = self._special("logsumexp", *elements)
        return [self._special("part", whole, place) for place in range(len(elements) + 1)]


def _in_loops(program: Routine) -> Iterator[Stmt | Loop]:
    """The items of a program. What is done for every stage of an array is a loop."""
    for item in program.items:
        axis = item.out.row and item.out.row[1] if isinstance(item, Stmt) else None
        if axis is None or not isinstance(item, Stmt):
            yield item
        elif isinstance(item.value, Symbol) or item.value != 0.0:  # lists begin with zeros
            yield Loop(axis, [item])


def _places(axes: Iterable[Axis]) -> Iterator[Env]:
    """All places on these axes."""
    axes = [axis for axis in axes if axis is not B]
    return (dict(zip(axes, at, strict=True)) for at in itertools.product(*(range(axis.size) for axis in axes)))


def _counted(where: Any) -> tuple[int, int]:
    """Places, one for each stage, as the first one and a step."""
    step = int(where[1] - where[0]) if len(where) > 1 else 1
    if (np.diff(where) != step).any():
        raise Unordered
    return int(where[0]), step


def _key(x: Symbol, env: Env) -> Any:
    return (x, *[(axis, env[axis]) for axis in x.axes if axis in env]) if env and x.axes else x


def _name_of(array: Array, place: int) -> str:
    return array.name if array.size == 1 else f"{array.name}_{place}"


def _reads(x: Any) -> list[Access]:
    return [part.args[0] for part in parts_of(x) if part.op == "get"]


def _may_fail(rule: Rule, inputs: list[Any]) -> bool:
    """Is there an input for which the eager engine raises an error?"""
    if rule is DIV and is_number(inputs[1]):
        return bool(inputs[1] == 0)
    exponent = rule.parameters.get("exponent")
    return bool(rule.domain or rule.check) and not (isinstance(exponent, int) and exponent >= 0)
