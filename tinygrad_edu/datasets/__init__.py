"""Real data, shipped with the package, found or downloaded, or made on the spot from a seed."""

from .dataset import Dataset
from .fetched import mnist
from .shipped import digits, iris
from .synthetic import moons, spirals

__all__ = ["Dataset", "digits", "iris", "mnist", "moons", "spirals"]
