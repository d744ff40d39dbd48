"""Tricks: what the tracer must know, and only the interpreter can tell.

Which list does `table[i]` read, when only i knows that it is asked? The bytecode of the line says: names,
attributes, subscripts and arithmetic are looked up again. What a call has returned, as in `softmax(z)[i]`, a
profiler keeps while the function runs. Does a number that becomes text decide anything? The source of the line
says whether it is only printed. And max, min and the functions of `math` would take a number that is followed
for a plain one, or fail: others stand in their place while a function is traced. So do those of `random`, which
note what is drawn.
"""

import ast
import builtins
import dis
import functools
import inspect
import linecache
import math
import numbers
import operator
import random
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, NamedTuple

from ...engine.rules import RULES
from ...engine.value import Value
from ...engine.watch import watch
from .placeholder import Placeholder, refuse
from .tracked import Tracked

PRINTING = {"print", "display", "write", "debug", "info", "warning", "error", "set_description", "set_postfix"}
SORTED = 32  # numbers that sorted() follows: of more, the order is a part of the path
ARITHMETIC: dict[str, Any] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}
NAMES = ("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF")


class _Unreadable(Exception):
    """The list comes from a call, or from something else that must not be computed again."""


Returned = dict[tuple[FrameType, int], Any]  # by the frame and the instruction that called


@contextmanager
def calls_followed() -> Iterator[Returned]:
    """The lists that Python functions return inside the block, in this thread, until somebody asks for them."""
    returned: Returned = {}
    in_c: set[tuple[FrameType, int]] = set()  # what a function written in C calls, it need not return

    def follow(frame: FrameType, event: str, value: Any) -> None:
        if event == "c_call":
            in_c.add((frame, frame.f_lasti))
            returned.pop((frame, frame.f_lasti), None)
        elif event in ("c_return", "c_exception"):
            in_c.discard((frame, frame.f_lasti))
        elif event == "return" and value.__class__ in (list, tuple) and frame.f_back:
            caller = frame.f_back, frame.f_back.f_lasti
            if caller not in in_c and not frame.f_code.co_flags & inspect.CO_GENERATOR:
                returned[caller] = value

    outer = sys.getprofile()
    sys.setprofile(follow)
    try:
        yield returned
    finally:
        sys.setprofile(outer)


def list_read(frame: FrameType, returned: Returned, number: Any) -> tuple[Any, bool]:
    """The list that the running instruction of a frame subscripts, None if it cannot be said; and: by a call?

    number(key) is the plain form of a key on the way, as in `grid[i][j]`.
    """
    code = _instructions(frame.f_code)
    steps, place = code.steps, code.places
    at = place.get(frame.f_lasti, -1)
    try:
        at += at >= 0 and steps[at][0] == "PRECALL"
        if at >= 0 and steps[at][:2] == ("CALL", 1) and steps[_start(code, at)][1] == "int":
            at += 1  # table[int(i)]
        if at < 0 or not _is_subscript(steps[at]):
            return None, False
        last = _start(code, at - 1) - 1
        if steps[last][0].startswith("CALL"):
            start = next(offset for offset, n in place.items() if n == last)
            end = next(offset for offset, n in place.items() if n == last + 1)
            return next(filter(None, (returned.pop((frame, at), None) for at in range(start, end))), None), True
        return _evaluated(steps[_start(code, last) : last + 1], frame, number), False
    except _Unreadable:
        return None, False


class _Instructions(NamedTuple):
    """Name, argument and stack effect of each; by offset, where it is; and those that a jump may lead to."""

    steps: list[tuple[str, Any, int]]
    places: dict[int, int]
    targets: set[int]


@functools.lru_cache(maxsize=256)
def _instructions(code: CodeType) -> _Instructions:
    steps: list[tuple[str, Any, int]] = []
    place: dict[int, int] = {}
    targets: set[int] = set()
    for step in dis.get_instructions(code):
        if step.opname in ("CACHE", "EXTENDED_ARG", "NOP", "RESUME"):
            continue
        place[step.offset] = len(steps)
        if step.is_jump_target:
            targets.add(len(steps))
        if step.opname.count("LOAD_FAST") == 2:  # two loads in one
            steps += [("LOAD_FAST", name, 1) for name in step.argval]
            continue
        jumps = step.opcode in dis.hasjrel or step.opcode in dis.hasjabs
        effect = dis.stack_effect(step.opcode, step.arg)
        name = step.opname.replace("_BORROW", "").replace("_CHECK", "")
        steps.append((name if not jumps else "JUMP", step.argrepr if name == "BINARY_OP" else step.argval, effect))
    return _Instructions(steps, place, targets)


def _is_subscript(step: tuple[str, Any, int]) -> bool:
    return step[0] == "BINARY_SUBSCR" or step[:2] == ("BINARY_OP", "[]")


def _start(code: _Instructions, last: int) -> int:
    """Where the expression begins whose value the instruction `last` leaves on the stack.

    A jump may lead to its first instruction only. One that leads behind the last brings another value.
    """
    left = 0
    for at in range(last, -1, -1):
        name, _, effect = code.steps[at]
        left += effect
        if name == "JUMP" or left > 1 or at + 1 in code.targets:
            break
        if left == 1:
            return at
    raise _Unreadable


def _evaluated(steps: list[tuple[str, Any, int]], frame: FrameType, number: Any) -> Any:
    """What names, attributes and subscripts stand for."""
    stack: list[Any] = []
    for step in steps:
        name, argument, _ = step
        if name in NAMES and argument in frame.f_locals:
            stack.append(frame.f_locals[argument])
        elif name in NAMES and argument in frame.f_globals:
            stack.append(frame.f_globals[argument])
        elif name.startswith("LOAD_CONST") or name == "LOAD_SMALL_INT":
            stack.append(argument)
        elif name == "LOAD_ATTR":
            stack.append(getattr(stack.pop(), argument, None))
        elif _is_subscript(step):
            key = number(stack.pop())
            stack.append(stack.pop()[key])
        elif name == "BINARY_OP" and argument in ARITHMETIC:
            right, left = number(stack.pop()), number(stack.pop())
            stack.append(ARITHMETIC[argument](left, right))
        elif name == "UNARY_NEGATIVE":
            stack.append(-number(stack.pop()))
        elif name in ("BUILD_SLICE", "BINARY_SLICE"):
            ends = [number(stack.pop()) for _ in range(argument if name == "BUILD_SLICE" else 2)][::-1]
            stack.append(slice(*ends) if name == "BUILD_SLICE" else stack.pop()[slice(*ends)])
        else:
            raise _Unreadable
    return stack.pop()


@functools.lru_cache(maxsize=256)
def _statements(name: str) -> list[ast.stmt]:
    """The statements of a file, or of a cell; none where the source is not to be had."""
    try:
        tree = ast.parse("".join(linecache.getlines(name)))
    except SyntaxError:
        return []
    return [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]


def only_prints(frame: FrameType) -> bool:
    """Is the statement that runs in a frame a call such as print(...), whose result nobody reads?"""
    line = frame.f_lineno
    around = [s for s in _statements(frame.f_code.co_filename) if s.lineno <= line <= (s.end_lineno or s.lineno)]
    if not around:
        return False
    statement = min(around, key=lambda s: (s.end_lineno or s.lineno) - s.lineno)
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Call):
        return False
    called = statement.value.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
    return name in PRINTING


# --- Functions of Python ----------------------------------------------------------------------------------------

_lock, _open = threading.Lock(), [0]
_MATH = "exp expm1 log1p sqrt sin cos tan asin acos atan sinh cosh tanh erf log2 log10 asinh acosh atanh".split()
_MADE: dict[str, Callable[..., Any]] = {  # of other operations
    "fsum": sum,
    "prod": lambda xs: functools.reduce(operator.mul, xs, 1.0),
    "hypot": lambda *xs: sum(x * x for x in xs) ** 0.5,
    "isnan": lambda x: x != x,
    "isinf": lambda x: abs(x) == math.inf,
    "isfinite": lambda x: abs(x) < math.inf,
}
_RANDOM = "random uniform gauss normalvariate randint randrange".split()
_NUMPY = "rand randn random random_sample uniform normal standard_normal binomial randint".split()
_originals: dict[tuple[Any, str], Any] = {
    **{(builtins, name): getattr(builtins, name) for name in ("max", "min", "sorted")},
    **{(math, name): getattr(math, name) for name in (*_MATH, "log", "pow", "fabs", *_MADE)},
    **{(random, name): getattr(random, name) for name in _RANDOM},
}


@contextmanager
def following_functions() -> Iterator[None]:
    """Inside the block, max, min and the functions of `math` record Tracked numbers, in a thread that traces.

    max and min compare item after item, and the outcomes would be others for nearly every example. Functions of
    `math` take plain floats only. Random functions note what is drawn, or take it from `drawn_before`.
    """
    with _lock:
        _open[0] += 1
        if numpy := sys.modules.get("numpy"):  # this package can do without
            for key in ((numpy.random, name) for name in _NUMPY):
                _FOLLOWED[key] = _FOLLOWED.get(key) or _of_random(*key)
        for (module, name), function in _FOLLOWED.items():
            setattr(module, name, function)
    try:
        yield
    finally:
        with _lock:
            _open[0] -= 1
            if not _open[0]:
                for (module, name), function in _originals.items():
                    setattr(module, name, function)


def _of_math(name: str) -> Callable[..., Any]:
    original = _originals[math, name]

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        if watch.tracer is None or not args or options:
            return original(*args, **options)
        args = (list(args[0]),) if name in ("fsum", "prod") else args
        if not any(isinstance(x, Tracked) for x in (args[0] if name in ("fsum", "prod") else args)):
            return original(*args)
        if name in _MADE:
            return _MADE[name](*args)
        if name == "log" and len(args) == 2:
            return function(args[0]) / math.log(args[1])
        x, *exponent = [x if isinstance(x, Tracked) else Tracked(x) for x in args]
        if exponent:
            return x ** exponent[0]
        return abs(x) if name == "fabs" else x._operate(name, x)

    return function


def _followed(name: str, beats: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    original = _originals[builtins, name]

    def function(*args: Any, **options: Any) -> Any:
        if watch.tracer is None or not hasattr(watch.tracer, "picked"):
            return original(*args, **options)
        items = list(args[0]) if len(args) == 1 else list(args)
        keys = list(map(options["key"], items)) if options.get("key") else items
        if not any(isinstance(x, Tracked | Placeholder) for x in keys):
            return original(items, **options)
        if all(isinstance(x, Tracked | numbers.Real) for x in keys) and keys is items:
            return next(x for x in keys if isinstance(x, Tracked))._record(RULES[name], items)
        if not all(isinstance(x, Value | numbers.Real) for x in items):
            return items[original(range(len(items)), key=keys.__getitem__)]
        best = items[0], keys[0], 0
        for i, (item, key) in enumerate(zip(items[1:], keys[1:], strict=True), 1):
            best = _chosen_of(beats(key, best[1]), (item, key, i), best)
        watch.tracer.winners[best[0]] = items, best[2]
        return best[0]

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = "builtins", original.__doc__
    return function


def _chosen_of(wins: Any, these: Sequence[Any], others: Sequence[Any]) -> Any:
    """These numbers or those, one by one, by a question."""
    if not hasattr(wins, "_record"):
        return these if wins else others
    question = Tracked(wins, whole=True) if isinstance(wins, Value) else wins
    return [
        x if x is y else question._operate("where", question, x, y) for x, y in zip(these, others, strict=True)
    ]


def _sorted(items: Any, /, *, key: Any = None, reverse: Any = False) -> Any:
    original = _originals[builtins, "sorted"]
    items = list(items)
    if watch.tracer is None or not hasattr(watch.tracer, "picked") or len(items) > SORTED:
        return original(items, key=key, reverse=reverse)
    rows: list[Any] = [(x, key(x) if key else x) for x in items]
    if not any(isinstance(k, Tracked | Placeholder) for _, k in rows) or not all(
        isinstance(x, Value | numbers.Real) for row in rows for x in row
    ):
        return original(items, key=key, reverse=reverse)
    for end in range(1, len(rows)):  # neighbours change places: equal ones never do
        for i in range(end, 0, -1):
            first, second = rows[i - 1 : i + 1]
            wins = second[1] > first[1] if reverse else second[1] < first[1]
            rows[i - 1 : i + 1] = _chosen_of(wins, second, first), _chosen_of(wins, first, second)
    return [x for x, _ in rows]


class Draw(NamedTuple):
    """A random number, or an array of them: the function and its arguments."""

    function: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]


class _Draws(threading.local):
    """The random numbers of this thread that were drawn before: a function that takes the next."""

    next_drawn: Callable[[Draw, Any], Any] | None = None


_here = _Draws()


@contextmanager
def drawn_before(next_drawn: Callable[[Draw, Any], Any]) -> Iterator[None]:
    """Inside the block, the random functions give what was drawn before, in this thread.

    `next_drawn` is also given what the function itself draws, which has the shape.
    """
    outer, _here.next_drawn = _here.next_drawn, next_drawn
    try:
        with following_functions():
            yield
    finally:
        _here.next_drawn = outer


def draw(wanted: Draw) -> Any:
    """Draw now."""
    module, _, name = wanted.function.rpartition(".")
    return _originals[sys.modules[module], name](*wanted.arguments, **wanted.options)


def generators(put: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """Where the global generators are, after they are put there."""
    numpy = sys.modules.get("numpy")
    if put:
        random.setstate(put[0])
        if numpy and put[1]:
            numpy.random.set_state(put[1])
    return random.getstate(), numpy and numpy.random.get_state()


def _of_random(module: Any, name: str) -> Callable[..., Any]:
    original = _originals.setdefault((module, name), getattr(module, name))
    full = f"{module.__name__}.{name}"

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        if watch.tracer is None and not _here.next_drawn:
            return original(*args, **options)
        given = *args, *options.values()
        if watch.tracer is not None and any(isinstance(x, Value | Tracked) for x in given):
            refuse(
                f"{full} was called with a number that depends on the example",
                "Draw by random.gauss(0, 1).",
            )
        wanted = Draw(full, args, options)
        if not all(isinstance(x, numbers.Real | tuple | None) for x in given):
            return original(*args, **options)
        if _here.next_drawn:
            before = generators()
            like = original(*args, **options)
            generators(before)
            return _here.next_drawn(wanted, like)
        watch.tracer.draws.append(wanted)
        return original(*args, **options)

    return function


_FOLLOWED: dict[tuple[Any, str], Any] = {
    **{(random, name): _of_random(random, name) for name in _RANDOM},
    **{(module, name): _of_math(name) for module, name in _originals if module is math},
    (builtins, "max"): _followed("max", operator.gt),
    (builtins, "min"): _followed("min", operator.lt),
    (builtins, "sorted"): _sorted,
}
