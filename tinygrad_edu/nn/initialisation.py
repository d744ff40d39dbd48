"""How large the first weights are: so that signals neither die out nor blow up on their way through the layers."""

import math
import random
from typing import Any, Protocol


class Generator(Protocol):
    """A source of random numbers: `random.Random(seed)` and `numpy.random.default_rng(seed)` both are one."""

    def uniform(self, low: float, high: float, /) -> Any: ...


def as_generator(rng: Generator | int | None) -> Generator:
    """rng itself; for an int, a generator with that seed; for None, a fresh one of no fixed seed.

    The global generator of `random` is neither read nor moved.
    """
    if rng is None or isinstance(rng, int):
        return random.Random(rng)
    if not hasattr(rng, "uniform"):
        raise TypeError(f"rng is a seed or a generator such as random.Random(0), got {rng!r}.")
    return rng


def weight_limit(n_inputs: int, n_outputs: int, activation: str) -> float:
    """The limit L of uniform weights in [-L, L], by the activation that follows.

    He for relu and its kin, which pass half of the variance: L = sqrt(6 / n_inputs) (He et al. 2015, eq. 10).
    Xavier for the others: L = sqrt(6 / (n_inputs + n_outputs)) (Glorot and Bengio 2010, eq. 16).
    """
    if activation in ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus"):
        return math.sqrt(6 / n_inputs)
    return math.sqrt(6 / (n_inputs + n_outputs))
