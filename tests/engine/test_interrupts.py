"""Ctrl-C inside backward(), at any moment: every leaf has the gradient it had, or the new one, never a part."""

import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tinygrad_edu import Value


def graph(n: int) -> tuple[list[Value], Value]:
    """A result of about n nodes over ten leaves, each of which is used all over the graph."""
    leaves = [Value(0.1 * i + 0.05, label=f"x{i}") for i in range(10)]
    y = leaves[0]
    for i in range(n // 2):
        y = (y + leaves[i % 10]) * 0.5
    return leaves, y


def interrupt_at_random(run: Callable[[], Any], longest: float, rng: random.Random) -> bool:
    """run(), with a KeyboardInterrupt after a random part of `longest` seconds. Was it interrupted?"""

    armed = [True]

    def handler(number: int, frame: Any) -> None:
        if armed:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, max(1e-6, rng.random() * longest))
        run()
        return False
    except KeyboardInterrupt:
        return True
    finally:
        armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
def test_200_interrupts_at_random_moments() -> None:
    assert threading.current_thread() is threading.main_thread()
    rng = random.Random(0)
    leaves, y = graph(4000)
    seconds = []
    for _ in range(3):
        for leaf in leaves:
            leaf.grad = 0.0
        started = time.perf_counter()
        y.backward()
        seconds.append(time.perf_counter() - started)
    longest = 1.2 * min(seconds)
    once = [leaf.grad for leaf in leaves]
    interrupted = 0
    for _ in range(200):
        for leaf, gradient in zip(leaves, once, strict=True):
            leaf.grad = gradient
        interrupted += interrupt_at_random(y.backward, longest, rng)
        assert [leaf.grad for leaf in leaves] in (once, [2 * gradient for gradient in once])
    assert interrupted > 50
