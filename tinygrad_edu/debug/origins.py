"""Where in the user's code a node was made, recorded inside a block `with tracing():` and nowhere else."""

import linecache
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ..engine import value
from ..engine.value import Value

PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_LINES: dict[int, tuple[str, int]] = {}  # by id, of the nodes that are alive
_THREADS: list[int] = []  # those inside a block now, once for each block
_ORIGINALS: list[Any] = []  # what is replaced meanwhile
_LOCK = threading.Lock()


class _Traced(Value):
    """A Value whose source line is known until it dies: a node has no room for the line itself."""

    __slots__ = ()

    def __del__(self) -> None:
        _LINES.pop(id(self), None)


def _with_line(original: Callable[..., Any]) -> Callable[..., Any]:
    """`_result` or `__init__`, which also notes the line of the user's code that called it."""

    def noting(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        node = arguments[0] if result is None else result
        if node.__class__ is Value and threading.get_ident() in _THREADS:
            frame = sys._getframe(1)
            while frame.f_code.co_filename.startswith(PACKAGE) and frame.f_back:
                frame = frame.f_back
            node.__class__ = _Traced
            _LINES[id(node)] = frame.f_code.co_filename, frame.f_lineno
        return result

    return noting


@contextmanager
def tracing() -> Iterator[None]:
    """Record the source line of every node that this thread makes inside the block.

    `where` in the stepping prompt and the live page show it. Outside of such a block nothing is recorded, and
    making a node costs no more. A line is forgotten together with its node.

    >>> with tracing():
    ...     y = Value(2.0) * 3
    >>> source_line(y)
    '<doctest tinygrad_edu.debug.origins.tracing[0]>:2: y = Value(2.0) * 3'
    """
    thread = threading.get_ident()
    with _LOCK:
        if not _THREADS:
            _ORIGINALS[:] = value._result, Value.__init__
            value._result, Value.__init__ = map(_with_line, _ORIGINALS)  # type: ignore[method-assign]
        _THREADS.append(thread)
    try:
        yield
    finally:
        with _LOCK:
            _THREADS.remove(thread)
            if not _THREADS:
                value._result, Value.__init__ = _ORIGINALS  # type: ignore[method-assign]


def source_line(node: Value) -> str:
    """`file:line: source` of the line that made a node inside a `tracing` block; "" if it was made elsewhere."""
    if node.__class__ is not _Traced:
        return ""
    file, line = _LINES[id(node)]
    near = os.path.relpath(file) if os.path.isabs(file) and file.startswith(os.getcwd() + os.sep) else file
    near = "cell" if "ipykernel_" in file else near  # of a notebook: its file is a number in a temporary folder
    source = linecache.getline(file, line).strip()
    return f"{near}:{line}" + f": {source}" * bool(source)


def source_lines(nodes: Iterable[Value]) -> dict[Value, str]:
    """The source lines of those nodes that were made inside a `tracing` block."""
    return {node: line for node in nodes if (line := source_line(node))}
