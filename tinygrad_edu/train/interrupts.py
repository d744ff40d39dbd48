"""Ctrl-C between steps, never within one."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Gate:
    """Holds Ctrl-C back: inside `with gate` it waits, and raises KeyboardInterrupt when the block ends.

    It works inside `gate.installed()`, in the main thread. Ctrl-C never arrives in other threads. Outside of the
    blocks it raises at once. Python drops an exception that comes inside of a `__del__` or of the callback of a
    weak reference, so the end of the next block raises again.
    """

    def __init__(self) -> None:
        self._blocks = 0  # a block may stand inside of another
        self._arrived: tuple[int, FrameType | None] | None = None
        self._handler: Any = None

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside the block, Ctrl-C comes to this gate first, then to the handler that was there before."""
        self._handler = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(self._handler):
            yield
            return
        try:
            signal.signal(signal.SIGINT, self._receive)
            yield
        finally:
            signal.signal(signal.SIGINT, self._handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self._arrived = number, frame
        if not self._blocks:
            self._handler(number, frame)

    def clear(self) -> None:
        """Forget a Ctrl-C that has been dealt with."""
        self._arrived = None

    def __enter__(self) -> None:
        self._blocks += 1

    def __exit__(self, *error: object) -> None:
        self._blocks -= 1
        if self._arrived and not self._blocks:
            arrived, self._arrived = self._arrived, None
            self._handler(*arrived)
