"""Ctrl-C between steps, never within one."""

import signal
import threading
from types import FrameType
from typing import Any


class uninterrupted:  # noqa: N801  # reads like the context managers of contextlib
    """Inside the block Ctrl-C waits; it raises KeyboardInterrupt when the block ends.

    In other threads than the main one Ctrl-C never arrives, so nothing is done there.
    """

    def __enter__(self) -> None:
        self._arrived: tuple[int, FrameType | None] | None = None
        self._handler: Any = None
        if threading.current_thread() is threading.main_thread():
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._wait)

    def _wait(self, number: int, frame: FrameType | None) -> None:
        self._arrived = number, frame

    def __exit__(self, *error: object) -> None:
        if self._handler:
            signal.signal(signal.SIGINT, self._handler)
            if self._arrived:
                self._handler(*self._arrived)
