"""Real data, shipped with the package or made on the spot from a seed."""

from .shipped import Dataset, digits
from .synthetic import moons

__all__ = ["Dataset", "digits", "moons"]
