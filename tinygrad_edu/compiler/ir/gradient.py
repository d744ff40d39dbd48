"""Gradient: reverse mode, from a program to a longer program.

Statements are taken from the last to the first. What a statement reads gets its share of the gradient: the
upstream gradient times the slope, over the axes of the read. Along an axis that the read does not have, it is a
sum. An array that is read several times gets the sum of its shares. A loop becomes a loop from the last stage to
the first; what its stages read outside gets one sum over all stages, after the loop.

The result is a program of the same kind. So the gradient of a gradient is this transformation, twice.
"""

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...engine.rules import RULES
from .routine import (
    REDUCTIONS,
    Access,
    Array,
    Axis,
    B,
    Loop,
    Routine,
    Stmt,
    free_of,
    new_name,
    over,
    parts_of,
    whole,
)
from .symbols import Symbol, shares_of

SLOPES = {RULES["tanh"]: "tanh_slope", RULES["sigmoid"]: "sigmoid_slope"}  # these keep digits in the tails
FLAT = ("heaviside", "equal", "lt", "le", "gt", "ge", "one_hot", "sign")  # no slope
MANY = 100  # terms of a sum; more are several statements, since an expression must not be too deep


@dataclass(eq=False)
class Addend:
    """scale / B**power * value: a part of a gradient. Its numeric factors are multiplied in at the end.

    The loss begins with power 1, for the mean over the batch. A sum of B equal shares cancels it.
    """

    value: Any
    scale: float = 1.0
    power: int = 0

    def times(self, value: Any) -> "Addend":
        """This share with another value, whose sign and numeric factors go into the scale."""
        scale = self.scale
        while isinstance(value, Symbol):
            if value.op == "neg":
                value, scale = value.args[0], -scale
            elif value.op == "mul" and not isinstance(value.args[0], Symbol):
                value, scale = value.args[1], scale * value.args[0]
            elif value.op == "mul" and not isinstance(value.args[1], Symbol):
                value, scale = value.args[0], scale * value.args[1]
            else:
                return Addend(value, scale, self.power)
        return Addend(1.0, scale * value, self.power)


Contribution = tuple[Access, Addend]  # what is read, and its share over the axes of the access


def gradient(
    program: Routine, loss: Access | None, by: str = "parameter", each: bool = False, again: bool = False
) -> Routine:
    """The program, and after it the gradient of the mean of `loss` by all leaves of one kind; 0 for no loss.

    With `each` it is that of every example: then the gradient of a parameter has the axis B. `again`: it will be
    differentiated again, and reads the slopes of tanh and sigmoid several times, so they are stored.
    """
    return _Reverse(program, loss, by, each, again).program


class _Reverse:
    def __init__(self, program: Routine, loss: Access | None, by: str, each: bool, again: bool):
        self.book, self.adjoints = program.book, dict[Array, Array]()
        self._each, self._again = each, again
        slopes = [stmt for stmt, _ in program.statements() if getattr(stmt.value, "op", "") in SLOPES.values()]
        self._known = {stmt.value: self.book.get(stmt.out) for stmt in slopes}  # of an earlier gradient
        self.back: list[Stmt | Loop] = []
        self._extra: dict[Stmt, Stmt] = {}  # statement -> one that is to follow it: a softmax
        self._names = {array.name for array in program.arrays()}
        self._learning: dict[Symbol, bool] = {}
        self._shares: dict[Array, list[Contribution]] = {}
        if loss is not None:
            self._shares[loss.array] = [(loss, Addend(1.0, 1.0, int(loss.array.batched and not each)))]
        self._sole = _sole(program)
        self._totals = {stmt.out.array for stmt, _ in program.statements() if stmt.adds}  # as gradients may be
        self._t: Axis | None = None
        for item in reversed(program.items):
            if isinstance(item, Loop):
                self._loop(item)
            elif item.out.array.learns:
                self._statement(item)
        wanted = [leaf for leaf in program.leaves if leaf.source[:1] == (by,)]
        for leaf in wanted:
            self._flush(leaf)
            self._adjoint(leaf)
        items = [self._followed(item) for item in program.items]
        first_writes(self.back, map(self._adjoint, wanted))
        forward = [item for items_ in items for item in items_]
        self.program = Routine(self.book, [*forward, *self.back], program.leaves, self.adjoints)

    def _followed(self, item: Stmt | Loop) -> list[Stmt | Loop]:
        """An item with the statements that are to follow those in it."""
        if isinstance(item, Loop):
            body = [both for stmt in item.body for both in (stmt, self._extra.get(stmt)) if both]
            return [Loop(item.axis, body, item.reverse)]
        return [item, *([self._extra[item]] if item in self._extra else [])]

    def _adjoint(self, array: Array) -> Array:
        if array not in self.adjoints:
            name = new_name(f"d{array.name}", self._names)  # there may be one, of a gradient of a gradient
            batched = array.batched or self._each
            self.adjoints[array] = Array(name, array.dims, batched, True, stages=array.stages)
        return self.adjoints[array]

    def _of(self, access: Access) -> Access:
        """The same elements of the gradient."""
        return access.of(self._adjoint(access.array))

    # --- Statements --------------------------------------------------------------------------------------------

    def _loop(self, loop: Loop) -> None:
        """The reversed loop. What its stages read outside gets its share from all stages at once, later."""
        writers = Counter(stmt.out.array for stmt in loop.body if stmt.out.array.learns)
        own = list(writers)
        for array in own:
            self._flush(array)
        # Gradients that come from other stages, or from after the loop, are stored before a stage is reached.
        rows = {stmt.out.array: stmt.out.row for stmt in loop.body}
        reads = [read for stmt in loop.body for read in stmt.reads()]
        by_others = {read.array for read in reads if read.row != rows.get(read.array, read.row)}
        by_others |= {stmt.out.array for stmt in loop.body if stmt.adds}  # to what was there before the loop
        for array in self._used(loop, own):
            if writers[array] > 1 or array in by_others:
                self._adjoint(array)
        outer, self.back, self._before, self._t = self.back, [], list[Stmt | Loop](), loop.axis
        for stmt in reversed(loop.body):
            if stmt.out.array in own:
                self._statement(stmt)
        for array in own:
            self._flush(array)
        self._t = None
        body: Any = self.back
        reverse = [Loop(loop.axis, body, not loop.reverse)] if body else []
        self.back = [*outer, *self._before, *reverse]

    def _used(self, loop: Loop, own: list[Array]) -> list[Array]:
        """Those arrays of a loop that get shares, from what is after the loop or from its stages."""
        used, size = {array for array in own if array in self.adjoints}, -1
        while size != len(used):
            size = len(used)
            used |= {read.array for stmt in loop.body if stmt.out.array in used for read in stmt.reads()}
        return [array for array in own if array in used]

    def _statement(self, stmt: Stmt) -> None:
        """Give what a statement reads its shares, when all that reads its result has given them."""
        array, out = stmt.out.array, stmt.out
        pairs = self._shares.pop(array, [])
        if self._t is None:
            is_stored = not self._sole.get(array)
        else:
            is_stored = array in self.adjoints
            now = [pair for pair in pairs if pair[0].row == out.row]
            if len(now) < len(pairs):
                self._shares[array] = [pair for pair in pairs if pair[0].row != out.row]
            pairs = now
        merged = self._merged(pairs, out)
        self._now = stmt
        if not is_stored and [access for access, _ in merged] == [out] and self._is_used_once(stmt, merged[0][1]):
            return self._through(stmt, merged[0][1])
        for access, share in merged:
            self._add(access, share)
        if array in self.adjoints:
            self._through(stmt, Addend(self.book.get(self._of(out))))

    def _is_used_once(self, stmt: Stmt, share: Addend) -> bool:
        if not isinstance(share.value, Symbol) or share.value.op in ("get", "leaf"):
            return True
        if stmt.rule is not None:
            return sum(map(self._learns, stmt.operands)) == 1
        value = stmt.value
        return isinstance(value, Symbol) and (
            value.op == "get" or (value.op == "sum" and value.args[0].op == "get")
        )

    def _through(self, stmt: Stmt, share: Addend) -> None:
        env = stmt.out.free
        if stmt.rule is None:
            self._push(stmt.value, share, env)
            return
        out = self.book.get(stmt.out)
        if stmt.rule in SLOPES:
            values: Any = [share.value * self._slope(SLOPES[stmt.rule], stmt, out)]
        else:
            # The slope of a relu is read off its result, which later layers need anyway.
            inputs = (out,) if stmt.rule is RULES["relu"] else stmt.operands
            arguments = share.value, out, *inputs
            values = shares_of(stmt.rule, *arguments) or [
                self.book.special("call", (stmt.rule, place, *arguments), stmt.out.free)
                for place in range(len(stmt.operands))
            ]
        for operand, value in zip(stmt.operands, values, strict=True):
            if self._learns(operand):
                self._push(operand, share.times(value), env)

    def _slope(self, name: str, stmt: Stmt, out: Symbol) -> Symbol:
        """The slope of tanh or sigmoid; in a loop, that of all stages at once, before the loop."""
        slope: Symbol = self.book.make(name, out, *stmt.operands)
        if slope in self._known:
            return self._known[slope]
        if self._t is None and not self._again:
            return slope
        access = self._like(self._free("slope_"), stmt.out)
        (self.back if self._t is None else self._before).append(Stmt(access, slope))
        return self.book.get(access)

    def _free(self, stem: str) -> str:
        """A new name."""
        name = next(n for i in itertools.count(1) if (n := f"{stem}{i}") not in self._names)
        self._names.add(name)
        return name

    def _like(self, name: str, out: Access, more: Sequence[Axis] = (), body: Any = None) -> Access:
        """All elements of a new array over the axes of a result, and more; in the order of a body that is read."""
        t = out.row and out.row[1]
        axes = [*(axis for axis in out.named if axis is not t), *more]
        if body is not None and body.op == "get" and set(axes) <= {*body.args[0].named}:
            axes.sort(key=body.args[0].named.index)
        dims = tuple(axis.size for axis in axes)
        return over(Array(name, dims, out.array.batched, True, stages=t and t.size), axes, t and (0, t, 1))

    # --- Shares ------------------------------------------------------------------------------------------------

    def _flush(self, array: Array) -> None:
        """Add all shares of an array to its gradient."""
        for access, share in self._merged(self._shares.pop(array, []), None):
            self._add(access, share)

    def _add(self, access: Access, share: Addend) -> None:
        self.back.append(Stmt(self._of(access), self._scaled(share), adds=True))

    def _merged(self, pairs: list[Contribution], like: Access | None) -> list[Contribution]:
        """The shares, with those of the same elements as one: over the axes of `like` if they are its elements."""
        groups: dict[Any, list[Contribution]] = {}
        for access, share in pairs:
            groups.setdefault(access.pattern, []).append((access, share))
        merged = []
        for parts in groups.values():
            to = parts[0][0]
            to = like if like is not None and to.pattern == like.pattern else to
            shares = []
            for access, share in parts:
                names = {a: b for a, b in zip(access.named, to.named, strict=True) if a is not b}
                if names:
                    reductions = [part for part in parts_of(share.value) if part.op in REDUCTIONS]
                    bound = {axis for part in reductions for axis in part.args[1]}.intersection(names.values())
                    names |= {axis: Axis(axis.size) for axis in bound.difference(names)}  # new names are free
                shares.append(Addend(self.book.renamed(share.value, names), share.scale, share.power))
            merged += [(to, self._sum(shares[i : i + MANY])) for i in range(0, len(shares), MANY)]
        return merged

    def _summed(self, access: Access, share: Addend, env: Iterable[Axis]) -> Addend:
        """The share over the axes of the access; along all others it is added up."""
        value, scale, power = share.value, share.scale, share.power
        free, over = free_of(value), []
        for axis in dict.fromkeys(env):
            if axis in access.free or (axis is B and self._each):
                continue
            if axis in free:
                over.append(axis)
            elif axis is B:
                power -= 1  # B equal shares
            else:
                scale *= axis.size
        return Addend(self.book.reduce("sum", over, value) if over else value, scale, power)

    def _sum(self, shares: list[Addend]) -> Addend:
        merged: dict[Any, Addend] = {}
        for s in shares:
            key = id(s.value) if isinstance(s.value, Symbol) else s.value, s.power
            merged[key] = Addend(s.value, s.scale + (merged[key].scale if key in merged else 0.0), s.power)
        parts = sorted(
            merged.values(), key=lambda s: (getattr(s.value, "op", "") != "sum", -s.scale)
        )  # products first
        if len(parts) == 1:
            return parts[0]
        alike = len({(abs(s.scale), s.power) for s in parts}) == 1
        first = next((s.scale for s in parts if s.scale > 0), parts[0].scale)
        parts = sorted(parts, key=lambda s: s.scale != first) if alike else parts
        same_power = len({s.power for s in parts}) == 1
        total: Any = 0.0
        for s in parts:
            if alike:
                total = total - s.value if s.scale != first else total + s.value
            else:
                total = total + self._scaled(Addend(s.value, s.scale) if same_power else s)
        return Addend(total, first if alike else 1.0, parts[0].power if alike or same_power else 0)

    def _scaled(self, share: Addend) -> Any:
        value, size = share.value, self.book.size
        if share.power == 1 and share.scale != 1.0:
            return value * (share.scale / size)
        value = value * share.scale if share.scale != 1.0 else value
        for _ in range(abs(share.power)):
            value = value / size if share.power > 0 else value * size
        return value

    # --- Through expressions -----------------------------------------------------------------------------------

    def _learns(self, x: Any) -> bool:
        """Does it read an array that learns?"""
        if not isinstance(x, Symbol):
            return False
        if x not in self._learning:
            self._learning[x] = any(part.op == "get" and part.args[0].array.learns for part in parts_of(x))
        return self._learning[x]

    def _push(self, x: Any, share: Addend, env: Sequence[Axis]) -> None:
        """Give all that x reads its share, which is one for each place of the axes env."""
        if not share.scale or not self._learns(x):
            return
        value, reduce = share.value, self.book.reduce
        is_result = x is self._now.value and self._now.out.array not in self._totals
        out = self.book.get(self._now.out) if is_result else x
        match x.op:
            case "get":
                access = x.args[0]
                self._shares.setdefault(access.array, []).append((access, self._summed(access, share, env)))
            case "sum":
                self._push(x.args[0], share, (*env, *x.args[1]))
            case "softmax":
                body, over = x.args
                moment = self._added_up(value * out, over)
                self._push(body, share.times(out * (value - moment)), env)
            case "logsumexp":
                body, over = x.args
                slope = reduce("softmax", over, body)
                if is_result:
                    slope = self._softmax(slope, over)
                self._push(body, share.times(value * slope), (*env, *over))
            case "max_" | "min_":
                body, over = x.args
                hit = self.book.make("equal", body, out)
                if is_result:
                    access = self._like(self._free("hit_"), self._now.out, over, body)
                    self.back.append(Stmt(access, hit))
                    hit = self.book.get(access)
                share_of_each = self.book.make("div", value, self._added_up(hit, over))
                self._push(body, share.times(share_of_each * hit), (*env, *over))
            case "pick":
                body, axis, index = x.args
                hit = self.book.special("one_hot", (index, axis), free_of(index).union([axis]))
                self._push(body, share.times(value * hit), (*env, axis))
            case _:
                for y, part in zip(x.args, self._slopes(x, value, out), strict=True):
                    if self._learns(y):
                        self._push(y, share.times(part), env)

    def _added_up(self, x: Any, over: Sequence[Axis]) -> Any:
        """The sum of x, over axes of its own: those of `over` are free beside it."""
        names = {axis: Axis(axis.size) for axis in over}
        return self.book.reduce("sum", names.values(), self.book.renamed(x, names))

    def _softmax(self, slope: Symbol, over: Sequence[Axis]) -> Symbol:
        """The softmax beside a logsumexp, in an array that is computed with it."""
        stmt = self._now
        name = stmt.out.array.softmax
        name = self._free("softmax_") if not name or name in self._names else name
        self._names.add(name)
        access = self._like(name, stmt.out, over)
        self._extra[stmt] = Stmt(access, slope)
        return self.book.get(access)

    def _slopes(self, x: Symbol, upstream: Any, out: Symbol) -> Sequence[Any]:
        """The shares of the arguments of a pointwise operation."""
        op, args = x.op, x.args
        if op in FLAT:
            return [0.0] * len(args)
        if op in SLOPES.values():  # (out, input): the slope is a function of the input
            if op == "tanh_slope":  # 1 - out**2
                return 0.0, upstream * (-2.0 * args[0] * out)
            return 0.0, upstream * (out * (1.0 - 2.0 * args[0]))
        if op == "pow" and not isinstance(args[1], Symbol):
            return *RULES["pow_n"].bind(exponent=args[1]).shares(upstream, out, args[0]), 0.0
        if op == "call":
            raise NotImplementedError(
                f"The rule {args[0].name} does not run on symbols: it has no second derivative."
            )
        return list(RULES[op].shares(upstream, out, *args))


def _sole(program: Routine) -> dict[Array, bool]:
    """Is an array computed by a single statement, outside of loops?"""
    sole: dict[Array, bool] = {}
    for stmt, loop in program.statements():
        array = stmt.out.array
        sole[array] = array not in sole and loop is None and stmt.out.is_whole
    return sole


# --- What is first --------------------------------------------------------------------------------------------


def first_writes(items: list[Stmt | Loop], needed: Iterable[Array]) -> None:
    """Statements add to gradients. The first one to reach an element sets it. What none sets is 0 before them all.

    `needed` are arrays that are 0 where nothing is added to them.
    """
    writers: dict[Array, list[tuple[Stmt, Loop | None, int]]] = {array: [] for array in needed}
    order = 0
    for item in items:
        loop = item if isinstance(item, Loop) else None
        for n, stmt in enumerate(item.body):
            if stmt.adds:
                writers.setdefault(stmt.out.array, []).append((stmt, loop, order + n))
        order += loop.axis.size * len(loop.body) if loop else 1
    items[:0] = [stmt for array, own in writers.items() for stmt in _zeros(array, own)]


def _zeros(array: Array, writers: list[tuple[Stmt, Loop | None, int]]) -> list[Stmt]:
    """Make the first statements that reach elements set them. Returns those that set the others to 0 before."""
    if len(writers) == 1 and writers[0][1] is None and writers[0][0].out.is_whole:
        writers[0][0].adds = False
        return []
    n_rows = 1 if array.stages is None else array.stages
    first, times = np.full(array.size * n_rows, np.inf), []
    for stmt, loop, order in writers:
        where, time = stmt.out.positions(), float(order)
        moment: Any = np.full(where.shape, time)
        if loop is not None and loop.axis in stmt.out.named:
            t = np.arange(loop.axis.size)[:: -1 if loop.reverse else 1] * len(loop.body)
            moment = moment + t.reshape([-1 if axis is loop.axis else 1 for axis in stmt.out.named])
        elif loop is not None:
            moment = moment - 1e18  # it is written again and again
        times.append((stmt, where, moment))
        np.minimum.at(first, where.ravel(), moment.ravel())
    is_set = np.zeros(len(first), bool)
    for stmt, where, moment in times:
        once = np.unique(where).size == where.size
        if once and stmt.out.gather is None and (first[where] == moment).all() and (moment >= 0).all():
            stmt.adds = False
            is_set[where] = True
    missing = np.flatnonzero(~is_set)
    if not len(missing):
        return []
    rows = np.unique(missing // array.size) if array.stages else np.zeros(0, int)
    if array.stages and len(rows) * array.size == len(missing) and len(rows) <= 2:
        return [Stmt(replace(whole(array), row=(int(row), None, 1)), 0.0) for row in rows]
    return [Stmt(whole(array), 0.0)]
