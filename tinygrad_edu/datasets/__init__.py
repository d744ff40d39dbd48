"""Data sets: shipped with the package, downloaded once, or made from a seed."""

from .dataset import Dataset
from .fetched import mnist
from .shipped import digits, iris
from .synthetic import moons, spirals

__all__ = ["Dataset", "digits", "iris", "mnist", "moons", "spirals"]
