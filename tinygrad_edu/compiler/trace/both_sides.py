"""Both sides: a branch on a number of the example becomes a choice between two numbers.

`a if x.data > 0 else 0.01 * a` is asked for every unit of a layer: n units have 2^n paths. Python can only take
one side of a branch. So while a function is traced by examples, the functions that asked run from other code: that
of their own source, with `chosen(x.data > 0, lambda: a, lambda: 0.01 * a)` in the place of the branch. Conditional
expressions, `if` with assignments, and `if` with `return` are written in this way, where both sides may be
computed: they call nothing but functions of mathematics, of Values, or of the same file that do no more than that.
For plain numbers, `chosen` does what the branch did, so another thread may run this code too.

`float(t)`, `int(t)`, `type(x)` and `isinstance(t, float)` become calls that know numbers that are followed.

`table[i]` becomes a call that chooses an item by a whole number of the example: see `items`.

All functions that the traced one reaches get such code: see `surroundings`. Each gets its own back, whatever
happens.
"""

import ast
import copy
import functools
import linecache
import math
import numbers
import operator
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any

from ...engine.rules import RULES
from ...engine.value import Value
from ...engine.watch import watch
from .items import is_same, item, itself
from .lending import Place, swapped
from .placeholder import PACKAGE, Placeholder
from .tracked import Tracked, chosen, question_of
from .tricks import codes_in, with_constants

PRINTING = {"print", "display", "write", "debug", "info", "warning", "error", "set_description", "set_postfix"}
SIDE = "__tinygrad_edu_side__"
KNOWN = {"float": 1, "int": 1, "bool": 1, "type": 1, "isinstance": 2}  # the builtins, by their arguments
BY_KEY = {"get", "pop", "setdefault", "add", "remove", "discard", "count"}  # methods that need the plain item
METHODS = {*RULES, *dir(math), "reLU", "clip", "max_with"}
PYTHONS = "Value abs max min sum len round zip range enumerate reversed list tuple"
FUNCTIONS = {*PYTHONS.split(), *KNOWN, *RULES, *dir(math)}
EXPRESSIONS = (
    ast.Name, ast.Constant, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.Tuple,
    ast.Subscript, ast.Call, ast.Lambda, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.Load, ast.arguments,
    ast.arg, ast.List, ast.ListComp, ast.GeneratorExp, ast.comprehension, ast.Store,
)  # fmt: skip
STATEMENTS = (ast.Assign, ast.AugAssign, ast.Return, ast.If, ast.FunctionDef, ast.Expr, ast.Pass)


# --- While the function runs --------------------------------------------------------------------------------


def _key(function: Callable[..., Any]) -> str:
    """What stands for a function of ours in code."""
    return f"__tinygrad_edu_{function.__name__}__"


def _chosen(test: Any, then: Callable[[Any], Any], other: Callable[[Any], Any]) -> Any:
    """then() if test else other(): for a number of the example, the program chooses."""
    question = question_of(test)
    if question is not None:
        both = watch.tracer.both(question, then, other)
        if both is not None:
            return chosen(question, both[:1], both[1:])[0]
    return then(0) if test else other(0)


def is_number(x: Any) -> bool:
    return isinstance(x, Value | numbers.Real)


def _asks(test: Any, targets: Callable[[Any], Any]) -> bool:
    """Is a test about a number of the example, and are all targets of the branch numbers?"""
    try:
        return question_of(test) is not None and all(is_number(x) and not hasattr(x, "dtype") for x in targets(0))
    except (NameError, AttributeError, LookupError):  # they are new
        return False


def _knows(function: Any, x: Any, *kinds: Any) -> Any:
    """float(x), int(x), bool(x), type(x) or isinstance(x, kind), which know what a Tracked stands for."""
    if watch.tracer is None or function not in (float, int, bool, type, isinstance):
        return function(x, *kinds)
    if isinstance(x, Tracked):
        kind = int if x.whole else float
        if function is isinstance:
            return isinstance(x, kinds[0]) or isinstance(kind(), kinds[0])
        if function is type:
            return kind
        return Tracked(x.node) if function is float else math.trunc(x) if function is int else x != 0
    if function is type and isinstance(x, Placeholder):
        return watch.tracer.kind
    if function is float and hasattr(watch.tracer, "both") and x.__class__ is Placeholder and x.rule is None:
        return float(x) if watch.tracer.kind is Value else x.data  # an input, which may be a plain number
    return function(x, *kinds)


def _text(form: str, arguments: Any) -> Any:
    """form % arguments"""
    if isinstance(arguments, tuple):
        return form % tuple(x._shown() if isinstance(x, Tracked) else x for x in arguments)
    return form % (arguments._shown() if isinstance(arguments, Tracked) else arguments)


def _prints(call: Callable[[Any], Any]) -> None:
    """print(...): text that is only printed decides nothing."""
    if watch.tracer is None:
        call(0)
        return
    with swapped([(Place(watch.tracer, "printing", "attribute"), True)]):
        call(0)


def _index(items: Any, x: Any) -> Any:
    """items.index(x), where the items are numbers that are followed, or x is max(items, key=...)."""
    tracer: Any = watch.tracer
    if not hasattr(tracer, "both") or not isinstance(items, list | tuple):
        return items.index(x)
    if isinstance(x, Placeholder) and x in tracer.winners:
        among, place = tracer.winners[x]
        if len(among) == len(items) and all(map(operator.is_, among, items)):
            return place
    if not any(isinstance(y, Tracked) for y in (x, *items)) or not all(
        isinstance(y, numbers.Real) and not isinstance(y, Value) for y in (x, *items)
    ):
        return items.index(x)
    same = [y == x for y in items]
    if not max(same):
        raise ValueError(f"{x} is not in list")
    first: Any = len(items) - 1
    for i in range(len(items) - 2, -1, -1):
        (first,) = chosen(same[i], [i], [first])
    return first


def _sort(items: Any, **options: Any) -> None:
    """items.sort(key=..., reverse=...) as sorted() does it."""
    if isinstance(items, list):
        items[:] = sorted(items, **options)
    else:
        items.sort(**options)


PURE: tuple[Any, ...] = (_chosen, _knows, item, is_same, itself)
FUNCTIONS_OF: dict[Any, Any] = {
    _key(function): function for function in (*PURE, _asks, _index, _sort, _text, _prints)
}


# --- The code -----------------------------------------------------------------------------------------------


def _name(text: str) -> ast.Name:
    return ast.Name(text, ast.Load())


def _call(function: Callable[..., Any], *arguments: ast.expr) -> ast.Call:
    """A call of one of FUNCTIONS_OF: `with_constants` puts the function in the place of its key."""
    return ast.Call(ast.Constant(_key(function)), list(arguments), [])


def _lambda(body: ast.expr, *names: str) -> ast.Lambda:
    return ast.Lambda(ast.arguments([], [ast.arg(n) for n in (*names, SIDE)], None, [], [], None, []), body)


def _read(target: ast.expr) -> Any:
    """A target of an assignment as an expression."""
    read: Any = copy.deepcopy(target)
    read.ctx = ast.Load()
    return read


class _Writer(ast.NodeTransformer):
    """Writes branches as choices. `pure` has the functions of the file that may be called without need."""

    def __init__(self, tree: ast.Module):
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        self._function: ast.FunctionDef | None = None  # where the branch is that is written
        self.others: set[str] = set()  # the functions of the file that may do more
        self.pure, n = {f.name for f in functions}, -1
        while n < len(self.others):  # they call one another
            n = len(self.others)
            self.others |= {f.name for f in functions if not all(self._is_pure(s, STATEMENTS) for s in f.body)}
            self.pure -= self.others

    def _is_pure(self, tree: ast.AST, more: tuple[type, ...] = ()) -> bool:
        """May it be computed although it is not needed?"""
        for node in ast.walk(tree):
            if not isinstance(node, EXPRESSIONS + more):
                return False
            match node:
                case ast.Call(ast.Name(name), _, []):
                    fits = name in (FUNCTIONS | self.pure) - self.others
                case ast.Call(ast.Attribute(attr=name), _, []):
                    fits = name in METHODS - self.others
                case ast.Call(ast.Constant(name)):
                    fits = FUNCTIONS_OF.get(name) in PURE
                case ast.Call(called):
                    fits = isinstance(called, ast.Lambda) and not node.keywords
                case ast.Attribute(attr=name, ctx=ast.Store()):
                    fits = name in ("grad", "_backward")
                case ast.Lambda(ast.arguments(args=arguments)):
                    fits = SIDE in {argument.arg for argument in arguments}
                case _:
                    fits = not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del) or isinstance(
                        node, ast.Name | ast.Tuple
                    )
            if not fits:
                return False
        return True

    def _test(self, test: ast.expr) -> ast.expr:
        """A condition in which `and`, `or`, `not` and a < b < c are choices too."""
        match test:
            case ast.BoolOp(values=[first, *rest]) if all(map(self._is_pure, rest)):
                following = self._test(ast.BoolOp(test.op, rest) if rest[1:] else rest[0])
                if isinstance(test.op, ast.And):
                    return _call(_chosen, self._test(first), _lambda(following), _lambda(ast.Constant(False)))
                return _call(_chosen, self._test(first), _lambda(ast.Constant(True)), _lambda(following))
            case ast.Compare(left, [_, _, *_], right) if all(map(self._is_pure, right)):
                operands = [left, *right]
                pairs = zip(operands, test.ops, right, strict=False)
                return self._test(
                    ast.BoolOp(ast.And(), [ast.Compare(copy.deepcopy(a), [op], [b]) for a, op, b in pairs])
                )
        return test

    def visit_IfExp(self, node: ast.IfExp) -> ast.expr:  # the name that ast asks for
        self.generic_visit(node)
        if not (self._is_pure(node.body) and self._is_pure(node.orelse)):
            return node
        return _call(_chosen, self._test(node.test), _lambda(node.body), _lambda(node.orelse))

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Not):
            return node
        no, yes = _lambda(ast.Constant(False)), _lambda(ast.Constant(True))
        return _call(_chosen, self._test(node.operand), no, yes)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        if not isinstance(node.ctx, ast.Load):
            return node  # rows[i][j] = x changes the row itself
        self.generic_visit(node)
        if any(isinstance(x, ast.Slice | ast.Starred) for x in (node.slice, *getattr(node.slice, "elts", ()))):
            return node
        return _call(item, node.value, node.slice)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Compare(left, [ast.Is() | ast.IsNot() as op], [right]) if not isinstance(right, ast.Constant):
                same = _call(is_same, left, right)
                return same if isinstance(op, ast.Is) else ast.UnaryOp(ast.Not(), same)
            case ast.Compare(left, [ast.In() | ast.NotIn()]):
                node.left = _call(itself, left)
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.Dict:
        self.generic_visit(node)
        node.keys = [key and _call(itself, key) for key in node.keys]
        return node

    def visit_Set(self, node: ast.Set) -> ast.Set:
        self.generic_visit(node)
        node.elts = [x if isinstance(x, ast.Starred) else _call(itself, x) for x in node.elts]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.Expr:
        self.generic_visit(node)
        match node.value:
            case ast.Call(ast.Name(name) | ast.Attribute(attr=name)) as call if name in PRINTING:
                if not any(isinstance(x, ast.Yield | ast.Await | ast.NamedExpr) for x in ast.walk(call)):
                    node.value = _call(_prints, _lambda(call))
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.BinOp(ast.Constant(str()) as form, ast.Mod(), arguments):
                return _call(_text, form, arguments)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        match node:
            case ast.Call(ast.Name(name), arguments, []) if len(arguments) == KNOWN.get(name):
                if not any(isinstance(x, ast.Starred) for x in arguments):
                    return _call(_knows, node.func, *arguments)
            case ast.Call(ast.Name("sum"), [ast.GeneratorExp(x, [ast.comprehension(ifs=[test])]) as loop], []):
                if self._is_pure(x):  # the number of those that ...
                    loop.generators[0].ifs = []
                    loop.elt = _call(_chosen, self._test(test), _lambda(x), _lambda(ast.Constant(0)))
            case ast.Call(ast.Attribute(attr=name), [x, *rest]) if name in BY_KEY and not isinstance(
                x, ast.Starred
            ):
                node.args = [_call(itself, x), *rest]
            case ast.Call(ast.Attribute(items, "index"), [x], []):
                return _call(_index, items, x)
            case ast.Call(ast.Attribute(items, "sort"), []):
                return ast.Call(ast.Constant(_key(_sort)), [items], node.keywords)
        return node

    def visit_For(self, node: ast.For) -> ast.For:
        """`if c: continue` is an `if not c` of all that follows."""
        for i, statement in enumerate(node.body):
            match statement:
                case ast.If(test, [ast.Continue()], []) if node.body[i + 1 :]:
                    rest = ast.If(ast.UnaryOp(ast.Not(), test), node.body[i + 1 :], [])
                    node.body[i:] = [ast.copy_location(rest, statement)]
                    break
        self.generic_visit(node)
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        outer, self._function = self._function, node
        for i, statement in enumerate(node.body):
            if isinstance(statement, ast.If) and any(isinstance(x, ast.Return) for x in ast.walk(statement)):
                result = self._result(node.body[i:])
                if result is not None:
                    node.body[i:] = [ast.Return(result)]
                    break
        self.generic_visit(node)
        self._function = outer
        return node

    def _result(self, block: Sequence[ast.stmt], depth: int = 0) -> ast.expr | None:
        """What a block returns, as an expression. None if there is none that does no more."""
        match block:
            case [ast.Return(ast.expr() as value), *_] if self._is_pure(value):
                return copy.deepcopy(value)
            case [ast.Assign([ast.Name(name)], value), *rest] if self._is_pure(value):
                following = self._result(rest, depth)
                return following and ast.Call(_lambda(following, name), [value, ast.Constant(0)], [])
            case [ast.If(test, body, orelse), *rest] if depth < 6 and (not depth or self._is_pure(test)):
                a, b = (self._result([*side, *rest], depth + 1) for side in (body, orelse))
                return ast.IfExp(copy.deepcopy(test), a, b) if a and b else None
        return None

    def visit_If(self, node: ast.If) -> Any:
        """Assignments to numbers, on one side or on both: each becomes an assignment of what is chosen.

        So does what both sides append to a list.
        """
        match node.body, node.orelse:
            case [ast.Expr(ast.Call(f, [a]))], [ast.Expr(ast.Call(g, [b]))] if getattr(f, "attr", "") == "append":
                if ast.dump(f) == ast.dump(g):
                    call = ast.Call(f, [ast.IfExp(node.test, a, b)], [])
                    return self.visit(ast.copy_location(ast.Expr(call), node))
        joined = self._joined(node)
        test = f"{SIDE}{node.lineno}_{node.col_offset}"
        original = copy.deepcopy(node)
        self.generic_visit(node)
        node.test = self._test(node.test)
        if joined is None:
            return node
        triples, known = joined
        choices: list[ast.stmt] = [
            ast.Assign([target], _call(_chosen, _name(test), _lambda(self.visit(a)), _lambda(self.visit(b))))
            for target, a, b in triples
        ]
        asked = _call(_asks, _name(test), _lambda(ast.Tuple(known, ast.Load())))
        plain = ast.If(_name(test), original.body, original.orelse)
        both = ast.If(asked, choices or [ast.Pass()], [plain])
        assignment = ast.Assign([ast.Name(test, ast.Store())], node.test)
        return [ast.copy_location(statement, node) for statement in (assignment, both)]

    def _joined(self, node: ast.If) -> tuple[list[tuple[Any, ast.expr, ast.expr]], list[Any]] | None:
        """Targets with their values on both sides, and what must have a number before; None if it is no choice.

        A name that is used on one side alone is any number on the other. All else stays there as it is.
        """
        body, orelse = self._assigned(node.body), self._assigned(node.orelse)
        if body is None or orelse is None:
            return None
        own = self._own_names(node.body, body) | self._own_names(node.orelse, orelse)
        triples, known = list[tuple[Any, ast.expr, ast.expr]](), list[Any]()
        for target, a, b in _in_turn(body, orelse):
            is_own = isinstance(target, ast.Name) and target.id in own
            other: Any = ast.Constant(1.0) if is_own else _read(target)
            known += [] if is_own or (a and b) else [_read(target)]
            triples.append((target, a or other, b or other))
        return triples, known

    def _own_names(self, block: Sequence[ast.stmt], pairs: Sequence[tuple[Any, ast.expr]]) -> set[str]:
        """The names that a side of a branch assigns before it reads them, and that nothing else uses."""
        if self._function is None:
            return set()
        read, assigned = set[str](), set[str]()
        for pair in pairs:
            read |= _names(pair[1])
            assigned |= {*_targets([pair])} - read
        inside = Counter(x.id for part in block for x in ast.walk(part) if isinstance(x, ast.Name))
        nodes = list(ast.walk(self._function))
        outside = Counter(x.id for x in nodes if isinstance(x, ast.Name)) - inside
        declared = {name for x in nodes if isinstance(x, ast.Global | ast.Nonlocal) for name in x.names}
        return {name for name in assigned & inside.keys() if not outside[name]} - declared

    def _assigned(self, block: Sequence[ast.stmt]) -> list[tuple[Any, ast.expr]] | None:
        """Targets and values of assignments that may be made choices, or None if there is something else."""
        assignments: list[tuple[Any, ast.expr]] = []
        for statement in block:
            match statement:
                case ast.Assign([ast.Tuple(targets)], ast.Tuple(values)) if len(targets) == len(values):
                    pairs = list(zip(targets, values, strict=True))
                    if set(_targets(pairs)) & _names(ast.Tuple(values)):
                        return None
                case ast.Assign([target], value):
                    pairs = [(target, value)]
                case ast.AugAssign(target, op, right):
                    pairs = [(target, ast.BinOp(_read(target), op, right))]
                case ast.Pass():
                    pairs = []
                case ast.If(test) if self._is_pure(test):
                    triples, _ = self._joined(statement) or (None, None)
                    if triples is None or set(_targets(triples)[:-1]) & _names(test):
                        return None
                    pairs = [(target, ast.IfExp(copy.deepcopy(test), a, b)) for target, a, b in triples]
                case _:
                    return None
            assignments += pairs
        return assignments if all(map(self._fits, assignments)) else None

    def _fits(self, pair: tuple[Any, ast.expr]) -> bool:
        target, value = pair
        place = isinstance(target, ast.Name | ast.Subscript) or getattr(target, "attr", "") == "grad"
        return place and self._is_pure(_read(target)) and self._is_pure(value)


def _targets(assigned: Sequence[tuple[ast.expr, ...]]) -> list[str]:
    return [ast.unparse(target) for target, *_ in assigned]


def _in_turn(*sides: Sequence[tuple[Any, ast.expr]]) -> Iterator[tuple[Any, Any, Any]]:
    """Targets, and their values on either side or None: in an order in which both sides may be computed."""
    ours, theirs = rest = [list(zip(_targets(pairs), pairs, strict=True)) for pairs in sides]
    shared = [name for name, _ in ours if name in dict(theirs)]
    in_order = shared == [name for name, _ in theirs if name in dict(ours)]
    for name in [*(shared if in_order else ()), None]:
        for own, pairs in enumerate(rest):
            while pairs and pairs[0][0] != name:
                _, (target, value) = pairs.pop(0)
                yield target, *((None, value) if own else (value, None))
        if name:
            (_, (target, a)), (_, (_, b)) = ours.pop(0), theirs.pop(0)
            yield target, a, b


def _names(tree: ast.expr) -> set[str]:
    """What an expression reads, also `a[i]` and `x.grad`."""
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.expr)}


@functools.lru_cache(maxsize=64)
def _written(name: str, source: str, flags: int) -> dict[CodeType, CodeType]:
    """The code in a source, and what it becomes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(source)
            before = list(codes_in(compile(tree, name, "exec", flags, True), SIDE))
            tree = ast.fix_missing_locations(_Writer(tree).visit(tree))
            after = list(codes_in(with_constants(compile(tree, name, "exec", flags, True), FUNCTIONS_OF), SIDE))
        except (SyntaxError, ValueError, RecursionError):
            return {}
    same = [(code.co_name, code.co_firstlineno) for code in before]
    return dict(zip(before, after, strict=True)) if same == [(c.co_name, c.co_firstlineno) for c in after] else {}


def rewritten(functions: Iterable[FunctionType]) -> list[tuple[Place, CodeType]]:
    """The code of those functions whose branches can be written as choices, and the new code: see `swapped`."""
    new = []
    for function in functions:
        code = function.__code__
        source = "" if code.co_filename.startswith(PACKAGE) else "".join(linecache.getlines(code.co_filename))
        other = _written(code.co_filename, source, code.co_flags & 0x1FF0000).get(code)
        if other and other != code and other.co_freevars == code.co_freevars:
            new.append((Place(function, "__code__", "attribute"), other))
    return new
