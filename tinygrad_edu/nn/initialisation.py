"""How large the first weights are: large enough that signals do not vanish, small enough that they do not explode.

An `Initialiser` draws one weight: `init(n_inputs, n_outputs, rng) -> float`, for a layer with so many inputs and
outputs. Your own function works too: `Dense(2, 3, init=lambda n, m, rng: rng.uniform(-1, 1) / n)`.
"""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from ..engine.value import Value


class Generator(Protocol):
    """A source of random numbers: `random.Random(seed)` and `numpy.random.default_rng(seed)`, for instance."""

    def uniform(self, low: float, high: float, /) -> Any:
        """A number between low and high."""


Initialiser = Callable[[int, int, Generator], float]

RECTIFIERS = ("relu", "leaky_relu", "elu", "gelu", "silu", "softplus")


def as_generator(rng: Generator | int | None) -> Generator:
    """rng itself; for an int, a generator with that seed; for None, the global generator of `random`.

    So `random.seed(1337)` makes every model that is made afterwards reproducible. Raises TypeError for anything
    else.
    """
    if rng is None:
        return random.Random(0) if _left.get() else random
    if isinstance(rng, int):
        return random.Random(rng)
    if not hasattr(rng, "uniform"):
        raise TypeError(f"rng is a seed or a generator such as random.Random(0), got {rng!r}.")
    return rng


def leaves(n: int, draw: Callable[[], float]) -> list[Value]:
    """n new parameters, whose numbers are drawn in order."""
    if left := _left.get():
        left[0] -= n
        if left[0] < 0:
            raise ValueError("the model has more parameters than the file has numbers")
    return [Value(draw()) for _ in range(n)]


_left: ContextVar[list[int] | None] = ContextVar(
    "left", default=None
)  # while a model file is loaded: how many parameters


@contextmanager
def limited_to(numbers: int) -> Iterator[None]:
    """Inside the block, modules make no more parameters than this, and leave the global `random` as it is."""
    token = _left.set([numbers])
    try:
        yield
    finally:
        _left.reset(token)


def normal(deviation: float, rng: Any) -> float:
    """A number from the normal distribution with mean 0, by `random`'s method gauss or NumPy's method normal."""
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
    return float(as_generator(rng).uniform(-limit, limit))


def xavier_normal(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """Normal, variance 2 / (n_inputs + n_outputs), as `xavier_uniform` (Glorot and Bengio 2010, eq. 12)."""
    return normal(math.sqrt(2 / (n_inputs + n_outputs)), rng)


def he_uniform(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """Uniform, variance 2 / n_inputs: twice Xavier's for equal sizes, because relu passes only half of it on.

    In [-L, L] with L = sqrt(6 / n_inputs) (He et al. 2015, eq. 10).
    """
    limit = math.sqrt(6 / n_inputs)
    return float(as_generator(rng).uniform(-limit, limit))


def he_normal(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """Normal, variance 2 / n_inputs, as `he_uniform` (He et al. 2015, eq. 10)."""
    return normal(math.sqrt(2 / n_inputs), rng)


def zeros(n_inputs: int, n_outputs: int, rng: Generator) -> float:
    """0 for every weight. Then all neurons of a layer get the same gradient and stay copies of each other."""
    return 0.0


def constant(value: float) -> Initialiser:
    """The initialiser that gives every weight this value."""
    return lambda n_inputs, n_outputs, rng: float(value)


def initialiser(init: Initialiser | None, activation: str) -> Initialiser:
    """init itself; for None the default: He uniform for relu and its variants, Xavier uniform for all others."""
    if init is None:
        return he_uniform if activation in RECTIFIERS else xavier_uniform
    if not callable(init):
        raise TypeError(f"init is a function such as nn.he_normal, or nn.constant(0.5), got {init!r}.")
    return init
