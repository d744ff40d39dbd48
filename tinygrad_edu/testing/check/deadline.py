"""An end for a user's function that does not return."""

import contextlib
import signal
import threading
import traceback
from collections.abc import Iterator
from typing import NoReturn

__tracebackhide__ = True  # pytest shows the user's line, not ours
GRACE = 5.0  # seconds: who looks at the clock is done by then


class TimeIsUp(BaseException):
    """It is raised inside of the function, and is no Exception: nobody takes it for an error of the rule."""


@contextlib.contextmanager
def deadline(name: str, budget: float) -> Iterator[None]:
    """Raises TimeoutError, with the place in the code, long after the budget: `GRACE` and as much once more.

    Seconds are those of the processor. Python code is interrupted between two of its steps, mpmath too. A call
    into C, as a function by ctypes, is not, nor is what runs beside the main thread, or on Windows.
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
