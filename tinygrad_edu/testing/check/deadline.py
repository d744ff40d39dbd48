"""The time that a search may take, and an end for a user's function that does not return."""

import contextlib
import math
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NoReturn

__tracebackhide__ = True  # pytest shows the user's line, not ours
GRACE = 5.0  # seconds: what looks at the clock has ended by then


class TimeLimit:
    """The time of the processor that a search or a proof may take."""

    def __init__(self, seconds: float = math.inf):
        self.end: float = time.thread_time() + seconds

    @property
    def is_over(self) -> bool:
        """Is the time up?"""
        return time.thread_time() > self.end


class TimeIsUp(BaseException):
    """Raised inside the user's function. Not an Exception: it must not be taken for an error of the rule."""


@contextlib.contextmanager
def deadline(name: str, budget: float) -> Iterator[None]:
    """Raises TimeoutError, with the place in the code, after two budgets and `GRACE`.

    Seconds are those of the processor. Python code is interrupted between two of its steps, mpmath too. A call
    into C, as a function by ctypes, is not interrupted; outside of the main thread, and on Windows, nothing is.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_: object) -> NoReturn:
        raise TimeIsUp

    before = signal.signal(signal.SIGVTALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, 2 * budget + GRACE, 0.2)  # and again, if the function catches it
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    except TimeIsUp as error:
        at = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__][-1]
        where = f"after {2 * budget + GRACE:g} s it was in {at.name}, {at.filename}:{at.lineno}"
        raise TimeoutError(f"{name} does not return: {where}.") from None
    finally:
        signal.signal(signal.SIGVTALRM, before)
