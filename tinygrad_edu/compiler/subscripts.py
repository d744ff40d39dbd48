"""Subscripts: which list does `table[i]` read, when only i knows that it is asked? The bytecode of the line says."""

import dis
import functools
from types import CodeType, FrameType
from typing import Any

NAMES = ("LOAD_FAST", "LOAD_NAME", "LOAD_GLOBAL", "LOAD_DEREF", "LOAD_CLASSDEREF")


class _Unreadable(Exception):
    """The list comes from a call, or from something else that must not be computed again."""


def list_read(frame: FrameType, number: Any) -> Any:
    """The list that the running instruction of a frame subscripts; None if it is none, or comes from a call.

    number(key) is the plain form of a key on the way, as in `grid[i][j]`.
    """
    steps, place = _instructions(frame.f_code)
    at = place.get(frame.f_lasti, -1)
    if at < 0 or not _is_subscript(steps[at]):
        return None
    try:
        last = _start(steps, at - 1) - 1
        return _evaluated(steps[_start(steps, last) : last + 1], frame, number)
    except _Unreadable:
        return None


@functools.lru_cache(maxsize=256)
def _instructions(code: CodeType) -> tuple[list[tuple[str, Any, int]], dict[int, int]]:
    """Name, argument and stack effect of each instruction, and where the instruction of each offset is."""
    steps: list[tuple[str, Any, int]] = []
    place = {}
    for step in dis.get_instructions(code):
        if step.opname in ("CACHE", "PRECALL", "EXTENDED_ARG", "NOP", "RESUME"):
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
