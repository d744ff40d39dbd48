"""Where in the user's code a node was made, recorded inside a block `with tracing():` and nowhere else."""

import linecache
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..engine.value import Value

PACKAGE = os.path.dirname(os.path.dirname(__file__)) + os.sep
_LINES: dict[int, tuple[str, int]] = {}  # by id, of the nodes that are alive


class Swap:
    """A method of `Value` and its subclasses, replaced while somebody listens, and put back afterwards."""

    def __init__(self, name: str, replaced: Callable[[Callable[..., Any], "Swap"], Callable[..., Any]]):
        self.name, self.replaced, self.lock = name, replaced, threading.Lock()
        self.listeners: tuple[Any, ...] = ()
        self.originals: dict[type[Value], Any] = {}

    @contextmanager
    def listening(self, listener: Any) -> Iterator[None]:
        """Inside the block the method is replaced, for all threads; blocks may overlap in any order."""
        with self.lock:
            if not self.listeners:
                classes: list[type[Value]] = [Value, *Value.__subclasses__()]
                self.originals = {kind: vars(kind)[self.name] for kind in classes if self.name in vars(kind)}
                for kind, original in self.originals.items():
                    setattr(kind, self.name, self.replaced(original, self))
            self.listeners += (listener,)
        try:
            yield
        finally:
            with self.lock:
                i = self.listeners.index(listener)
                self.listeners = self.listeners[:i] + self.listeners[i + 1 :]
                if not self.listeners:
                    for kind, original in self.originals.items():
                        setattr(kind, self.name, original)


class _Traced(Value):
    """A Value whose source line is known until it dies: a node has no room for the line itself."""

    __slots__ = ()

    def __del__(self) -> None:
        _LINES.pop(id(self), None)


def _recording(original: Callable[..., None], swap: Swap) -> Callable[..., None]:
    def init(self: Value, *arguments: Any, **named: Any) -> None:
        original(self, *arguments, **named)
        if self.__class__ is Value and threading.get_ident() in swap.listeners:
            frame = sys._getframe(1)
            while frame.f_code.co_filename.startswith(PACKAGE) and frame.f_back:
                frame = frame.f_back
            self.__class__ = _Traced
            _LINES[id(self)] = frame.f_code.co_filename, frame.f_lineno

    return init


_TRACING = Swap("__init__", _recording)


@contextmanager
def tracing() -> Iterator[None]:
    """Record the source line of every node that this thread makes inside the block.

    `where` in the stepping prompt and the live page show it. Outside of such a block nothing is recorded, and
    making a node costs nothing more. A line is forgotten together with its node.

    >>> with tracing():
    ...     y = Value(2.0) * 3
    >>> source_line(y)
    '<doctest tinygrad_edu.debug.sources.tracing[0]>:2: y = Value(2.0) * 3'
    """
    with _TRACING.listening(threading.get_ident()):
        yield


def source_line(node: Value) -> str:
    """`file:line: source` of the line that made a node inside a `tracing` block; "" if it was made elsewhere."""
    if node.__class__ is not _Traced:
        return ""
    file, line = _LINES[id(node)]
    near = os.path.relpath(file) if os.path.isabs(file) and file.startswith(os.getcwd() + os.sep) else file
    source = linecache.getline(file, line).strip()
    return f"{near}:{line}" + f": {source}" * bool(source)
