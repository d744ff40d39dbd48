"""Subscripts: which list does `table[i]` read, when only i knows that it is asked?

The bytecode of the line says: names, attributes and subscripts are looked up again. What a call has returned, as
in `softmax(z)[i]`, is kept by a profiler while the function runs.
"""

import dis
import functools
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any

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
    steps, place = _instructions(frame.f_code)
    at = place.get(frame.f_lasti, -1)
    try:
        at += at >= 0 and steps[at][0] == "PRECALL"
        if at >= 0 and steps[at][:2] == ("CALL", 1) and steps[_start(steps, at)][1] == "int":
            at += 1  # table[int(i)]
        if at < 0 or not _is_subscript(steps[at]):
            return None, False
        last = _start(steps, at - 1) - 1
        if steps[last][0].startswith("CALL"):
            start = next(offset for offset, n in place.items() if n == last)
            end = next(offset for offset, n in place.items() if n == last + 1)
            return next(filter(None, (returned.pop((frame, at), None) for at in range(start, end))), None), True
        return _evaluated(steps[_start(steps, last) : last + 1], frame, number), False
    except _Unreadable:
        return None, False


@functools.lru_cache(maxsize=256)
def _instructions(code: CodeType) -> tuple[list[tuple[str, Any, int]], dict[int, int]]:
    """Name, argument and stack effect of each instruction, and where the instruction of each offset is."""
    steps: list[tuple[str, Any, int]] = []
    place = {}
    for step in dis.get_instructions(code):
        if step.opname in ("CACHE", "EXTENDED_ARG", "NOP", "RESUME"):
            continue
        place[step.offset] = len(steps)
        if step.opname.count("LOAD_FAST") == 2:  # two loads in one
            steps += [("LOAD_FAST", name, 1) for name in step.argval]
            continue
        jumps = step.is_jump_target or step.opcode in dis.hasjrel or step.opcode in dis.hasjabs
        effect = dis.stack_effect(step.opcode, step.arg)
        name = step.opname.replace("_BORROW", "").replace("_CHECK", "")
        steps.append((name if not jumps else "JUMP", step.argrepr if name == "BINARY_OP" else step.argval, effect))
    return steps, place


def _is_subscript(step: tuple[str, Any, int]) -> bool:
    return step[0] == "BINARY_SUBSCR" or step[:2] == ("BINARY_OP", "[]")


def _start(steps: list[tuple[str, Any, int]], last: int) -> int:
    """Where the expression begins whose value the instruction `last` leaves on the stack."""
    left = 0
    for at in range(last, -1, -1):
        name, _, effect = steps[at]
        left += effect
        if name == "JUMP" or left > 1:
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
        else:
            raise _Unreadable
    return stack.pop()
