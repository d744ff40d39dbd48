"""Data made from a seed."""

import math
import random


def moons(n: int = 100, noise: float = 0.1, seed: int = 0) -> tuple[list[list[float]], list[int]]:
    """Two interleaved half circles in the plane: n points [x, y] and their classes, -1 and 1 in turn.

    The upper moon is (cos t, sin t), the lower one (1 - cos t, 1/2 - sin t), t in equal steps from 0 to pi, each
    coordinate with normal noise of the given standard deviation.
    """
    if n < 2 or noise < 0:
        raise ValueError(f"moons needs n of 2 or more and noise of 0 or more, got n={n!r}, noise={noise!r}.")
    rng = random.Random(seed)
    points, classes = [], []
    for i in range(n):
        t = math.pi * (i // 2) / max(1, (n - 1) // 2)
        x, y = (math.cos(t), math.sin(t)) if i % 2 == 0 else (1 - math.cos(t), 0.5 - math.sin(t))
        points.append([x + rng.gauss(0, noise), y + rng.gauss(0, noise)])
        classes.append(-1 if i % 2 == 0 else 1)
    return points, classes
