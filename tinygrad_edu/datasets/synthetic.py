"""Synthetic data, reproducible from a seed."""

import math
import random

from ..engine.refusals import is_count


def moons(
    n: int = 100, noise: float = 0.1, seed: int = 0, *, rng: random.Random | int | None = None
) -> tuple[list[list[float]], list[int]]:
    """Two interleaved half circles in the plane: n points [x, y] and their classes, -1 and 1 in turn.

    The upper moon is (cos t, sin t), the lower one (1 - cos t, 1/2 - sin t), with t in equal steps from 0 to pi.
    Each coordinate has normal noise of the given standard deviation. `rng` replaces `seed`: a seed or a generator.

    Raises ValueError for n below 2 or negative noise, TypeError for an rng of another kind.
    """
    if not (is_count(n, 2) and hasattr(noise, "__neg__") and noise >= 0):
        raise ValueError(f"moons needs a whole n of 2 or more and noise of 0 or more, got {n=}, {noise=}.")
    rng = _generator(seed if rng is None else rng)
    points, classes = [], []
    for i in range(n):
        t = math.pi * (i // 2) / max(1, (n - 1) // 2)
        x, y = (math.cos(t), math.sin(t)) if i % 2 == 0 else (1 - math.cos(t), 0.5 - math.sin(t))
        points.append([x + rng.gauss(0, noise), y + rng.gauss(0, noise)])
        classes.append(-1 if i % 2 == 0 else 1)
    return points, classes


def spirals(
    n: int = 150, classes: int = 3, noise: float = 0.02, seed: int = 0, *, rng: random.Random | int | None = None
) -> tuple[list[list[float]], list[int]]:
    """Arms that wind around each other from the origin: n points [x, y] and their classes, 0, 1, 2 ... in turn.

    Arm k is r (cos t, sin t) with t = 4 r + 2 pi k / classes and r in equal steps from 0 to 1. Each coordinate has
    normal noise of the given standard deviation. No straight line separates the arms. `rng` is as in `moons`.

    Raises ValueError for fewer than 2 classes, fewer points than classes or negative noise.
    """
    if not (is_count(classes, 2) and is_count(n, classes) and hasattr(noise, "__neg__") and noise >= 0):
        needs = "spirals needs 2 classes or more, a point of each class or more, and noise of 0 or more"
        raise ValueError(f"{needs}, got {n=}, {classes=}, {noise=}.")
    rng = _generator(seed if rng is None else rng)
    points, labels = [], []
    for i in range(n):
        r, k = (i // classes) / max(1, (n - 1) // classes), i % classes
        t = 4 * r + 2 * math.pi * k / classes
        points.append([r * math.cos(t) + rng.gauss(0, noise), r * math.sin(t) + rng.gauss(0, noise)])
        labels.append(k)
    return points, labels


def _generator(rng: random.Random | int) -> random.Random:
    if isinstance(rng, random.Random):
        return rng
    if not isinstance(rng, int):
        raise TypeError(f"rng is a seed or a generator such as random.Random(0), got {rng!r}.")
    return random.Random(rng)
