"""Synthetic data, reproducible from a seed."""

import math
import random


def moons(
    n: int = 100, noise: float = 0.1, seed: int = 0, *, rng: random.Random | int | None = None
) -> tuple[list[list[float]], list[int]]:
    """Two interleaved half circles in the plane: n points [x, y] and their classes, -1 and 1 in turn.

    The upper moon is (cos t, sin t), the lower one (1 - cos t, 1/2 - sin t), with t in equal steps from 0 to pi.
    Each coordinate has normal noise of the given standard deviation. `rng` replaces `seed`: a seed or a generator.

    Raises ValueError for n below 2 or negative noise, TypeError for an rng of another kind.
    """
    if n < 2 or noise < 0:
        raise ValueError(f"moons needs n of 2 or more and noise of 0 or more, got n={n!r}, noise={noise!r}.")
    rng = _generator(seed if rng is None else rng)
    points, classes = [], []
    for i in range(n):
        t = math.pi * (i // 2) / max(1, (n - 1) // 2)
        x, y = (math.cos(t), math.sin(t)) if i % 2 == 0 else (1 - math.cos(t), 0.5 - math.sin(t))
        points.append([x + rng.gauss(0, noise), y + rng.gauss(0, noise)])
        classes.append(-1 if i % 2 == 0 else 1)
    return points, classes


def _generator(rng: random.Random | int) -> random.Random:
    if isinstance(rng, random.Random):
        return rng
    if not isinstance(rng, int):
        raise TypeError(f"rng is a seed or a generator such as random.Random(0), got {rng!r}.")
    return random.Random(rng)
