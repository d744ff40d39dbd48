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
import itertools
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

from ..engine.rules import RULES
from ..engine.value import Value
from ..engine.watch import watch
from .placeholder import Placeholder, refuse
from .tracked import Tracked

PRINTING = {"print", "display", "write", "debug", "info", "warning", "error", "set_description", "set_postfix"}
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


def becomes_a_value(frame: FrameType) -> bool:
    """Does a frame compute the float of a new Value, as in Value(float(x))?"""
    place = next(itertools.islice(frame.f_code.co_positions(), frame.f_lasti // 2, None))
    names = {**frame.f_globals, **frame.f_locals}
    for statement in _statements(frame.f_code.co_filename):
        for outer in (
            ast.walk(statement) if statement.lineno <= frame.f_lineno <= (statement.end_lineno or 0) else ()
        ):
            match outer:
                case ast.Call(ast.Name(name), [ast.Call(ast.Name("float"), [_]) as number, *_]):
                    if (number.lineno, number.end_lineno, number.col_offset, number.end_col_offset) == place:
                        made = names.get(name)
                        ours = isinstance(made, type) and issubclass(made, Value) and made.__init__.__module__
                        # another __init__ may look at it, and another float do something else
                        return "float" not in names and str(ours).startswith(__name__.partition(".")[0])
    return False


# --- Functions of Python ----------------------------------------------------------------------------------------

_lock, _open = threading.Lock(), [0]
_MATH = "exp expm1 log1p sqrt sin cos tan asin acos atan sinh cosh tanh erf log2 log10 asinh acosh atanh".split()
_originals: dict[tuple[Any, str], Any] = {
    **{(builtins, name): getattr(builtins, name) for name in ("max", "min")},
    **{(math, name): getattr(math, name) for name in (*_MATH, "log", "pow", "fabs")},
    **{(random, name): getattr(random, name) for name in ("random", "uniform", "gauss", "normalvariate")},
}


@contextmanager
def following_functions() -> Iterator[None]:
    """Inside the block, max, min and the functions of `math` record Tracked numbers, in a thread that traces.

    max and min compare item after item, and the outcomes would be others for nearly every example. Functions of
    `math` take plain floats only. Those of `random` note what is drawn, or take it from `drawn_before`.
    """
    with _lock:
        _open[0] += 1
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
    def function(*args: Any) -> Any:
        if watch.tracer is None or not any(isinstance(x, Tracked) for x in args):
            return original(*args)
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
        best, key = items[0], keys[0]
        if not all(isinstance(x, Value | numbers.Real) for x in items):
            return items[original(range(len(items)), key=keys.__getitem__)]
        for item, its_key in zip(items[1:], keys[1:], strict=True):
            wins = beats(its_key, key)
            best, key = (
                RULES["where"](wins, *pair) if hasattr(wins, "_record") else pair[not wins]
                for pair in ((item, best), (its_key, key))
            )
        return best

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = "builtins", original.__doc__
    return function


Draw = tuple[str, tuple[Any, ...]]  # a function of `random`, and its arguments


class _Draws(threading.local):
    """The random numbers of this thread that were drawn before: a function that takes the next."""

    next_drawn: Callable[[Draw], Any] | None = None


_here = _Draws()


@contextmanager
def drawn_before(next_drawn: Callable[[Draw], Any]) -> Iterator[None]:
    """Inside the block, the functions of `random` give what was drawn before, in this thread."""
    outer, _here.next_drawn = _here.next_drawn, next_drawn
    try:
        with following_functions():
            yield
    finally:
        _here.next_drawn = outer


def drawn_rows(wanted: Sequence[Draw], n: int) -> Any:
    """Random numbers for n examples, one row for each, in the order in which the function would draw them."""
    return [[_originals[random, name](*args) for name, args in wanted] for _ in range(n)]


def _of_random(name: str) -> Callable[..., Any]:
    original = _originals[random, name]

    @functools.wraps(original)
    def function(*args: Any) -> Any:
        if watch.tracer is not None and any(isinstance(x, Value | Tracked) for x in args):
            refuse(
                f"random.{name} was called with a number that depends on the example",
                "Draw by random.gauss(0, 1).",
            )
        if _here.next_drawn:
            return _here.next_drawn((name, args))
        if watch.tracer is not None:
            watch.tracer.draws.append((name, args))
        return original(*args)

    return function


_FOLLOWED = {
    **{(module, name): _of_random(name) for module, name in _originals if module is random},
    **{(module, name): _of_math(name) for module, name in _originals if module is math},
    (builtins, "max"): _followed("max", operator.gt),
    (builtins, "min"): _followed("min", operator.lt),
}
