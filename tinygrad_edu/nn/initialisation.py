"""How large the first weights are: so that signals neither die out nor blow up on their way through the layers.

An `Initialiser` draws one weight: `init(n_inputs, n_outputs, rng) -> float`, for a layer of so many inputs and
outputs. A function of your own will do as well: `Dense(2, 3, init=lambda n, m, rng: rng.uniform(-1, 1) / n)`.
"""

import math
import random
from collections.abc import Callable
from typing import Any, Protocol


class Generator(Protocol):
    """A source of random numbers: `random.Random(seed)` and `numpy.random.default_rng(seed)` both are one."""

    def uniform(self, low: float, high: float, /) -> Any: ...


Initialiser = Callable[[int, int, Generator], float]

RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus")


def as_generator(rng: Generator | int | None) -> Generator:
    """rng itself; for an int, a generator with that seed; for None, a fresh one of no fixed seed.

    The global generator of `random` is neither read nor moved.
    """
    if rng is None or isinstance(rng, int):
        return random.Random(rng)
    if not hasattr(rng, "uniform"):
        raise TypeError(f"rng is a seed or a generator such as random.Random(0), got {rng!r}.")
    return rng


def normal(deviation: float, rng: Any) -> float:
    """A number from the normal distribution around 0, by `random`'s method gauss or NumPy's method normal."""
    if hasattr(rng, "gauss"):
        return float(rng.gauss(0.0, deviation))
    if hasattr(rng, "normal"):
        return float(rng.normal(0.0, deviation))
    raise TypeError(f"A normal distribution needs a generator with a method gauss or normal, got {rng!r}.")


# The variance of a weight: uniform numbers in [-L, L] have the variance L^2 / 3, so L = sqrt(3 variance).


def xavier_uniform(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """Uniform, variance 2 / (n_inputs + n_outputs): a compromise that keeps signals and gradients the same size.

    In [-L, L] with L = sqrt(6 / (n_inputs + n_outputs)) (Glorot and Bengio 2010, eq. 16).
    """
    limit = math.sqrt(6 / (n_inputs + n_outputs))
    return float(rng.uniform(-limit, limit))


def xavier_normal(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """Normal, variance 2 / (n_inputs + n_outputs), as `xavier_uniform` (Glorot and Bengio 2010, eq. 12)."""
    return normal(math.sqrt(2 / (n_inputs + n_outputs)), rng)


def he_uniform(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """Uniform, variance 2 / n_inputs: twice as large, because relu and its kin pass only half of it on.

    In [-L, L] with L = sqrt(6 / n_inputs) (He et al. 2015, eq. 10).
    """
    limit = math.sqrt(6 / n_inputs)
    return float(rng.uniform(-limit, limit))


def he_normal(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """Normal, variance 2 / n_inputs, as `he_uniform` (He et al. 2015, eq. 10)."""
    return normal(math.sqrt(2 / n_inputs), rng)


def zeros(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """0 for every weight. All neurons of a layer then get the same gradient and stay copies of each other."""
    return 0.0


def constant(value: float) -> Initialiser:
    """The initialiser that gives every weight this value."""
    return lambda n_inputs, n_outputs, rng: float(value)


def initialiser(init: Initialiser | None, activation: str) -> Initialiser:
    """init itself; for None the default by the activation: He for relu and its kin, Xavier for the others."""
    if init is None:
        return he_uniform if activation in RECTIFIERS else xavier_uniform
    if not callable(init):
        raise TypeError(f"init is a function such as nn.he_normal, or nn.constant(0.5), got {init!r}.")
    return init
