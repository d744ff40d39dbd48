"""Schedules: the learning rate over time, as functions schedule(t) -> factor of the first rate.

t counts epochs or steps from 0:

>>> rate, schedule = 0.1, linear_warmup(2, then=step_decay(every=2))
>>> [round(rate * schedule(t), 4) for t in range(7)]
[0.05, 0.1, 0.1, 0.1, 0.01, 0.01, 0.001]

In a training loop: `optimizer.lr = rate * schedule(t)` before `optimizer.step()`. All of them raise TypeError for
what is no number.
"""

import math
from collections.abc import Callable
from typing import Any

from .settings import setting

Schedule = Callable[[int], float]


def constant() -> Schedule:
    """The same rate at all times: the factor is 1."""
    return lambda t: 1.0


def step_decay(every: int, gamma: float = 0.1) -> Schedule:
    """gamma^floor(t / every): the rate is multiplied by gamma at t = every, 2 every, ...

    Raises ValueError unless every is an integer of 1 or more and gamma is above 0 and at most 1.
    """
    _count(every=every)
    _share(gamma=gamma)
    return lambda t: gamma ** (t // every)


def exponential(gamma: float) -> Schedule:
    """gamma^t: the rate is multiplied by gamma each time. Raises ValueError unless 0 < gamma <= 1."""
    _share(gamma=gamma)
    return lambda t: gamma**t


def cosine(total: int, minimum: float = 0.0) -> Schedule:
    """Half a wave of the cosine, from 1 at t = 0 down to the minimum at t = total. It stays there.

    minimum + (1 - minimum) (1 + cos(pi t / total)) / 2. Raises ValueError unless total is an integer of 1 or more
    and the minimum is from 0 to 1. Source: Loshchilov and Hutter, SGDR: Stochastic Gradient Descent with Warm
    Restarts, 2017, equation 5, without the restarts.
    """
    _count(total=total)
    setting("The schedule ends at a factor from 0 to 1", lambda x: 0 <= x <= 1, minimum=minimum)
    return lambda t: minimum + (1 - minimum) * (1 + math.cos(math.pi * min(t, total) / total)) / 2


def linear_warmup(steps: int, then: Schedule | None = None) -> Schedule:
    """1/steps, 2/steps, ..., 1 for the first steps, then another schedule: early gradients mislead.

    The other schedule counts from 0 after the warm-up. Without one the rate stays. Raises ValueError unless steps
    is an integer of 1 or more. Source: Goyal et al., Accurate, Large Minibatch SGD, 2017, section 2.2.
    """
    _count(steps=steps)
    if not (then is None or callable(then)):
        raise TypeError(f"then is another schedule, as in then=cosine(10), got {then!r}.")
    after = then or constant()
    return lambda t: (t + 1) / steps if t < steps else after(t - steps)


def _count(**named: Any) -> None:
    setting("A schedule counts in integers of 1 or more", lambda n: n >= 1 and n % 1 == 0, **named)


def _share(**named: Any) -> None:
    setting("The factor of the rate is above 0 and at most 1", lambda factor: 0 < factor <= 1, **named)
