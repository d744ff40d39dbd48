"""The data sets that come with the package."""

import gzip
import random
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset


def digits(test_share: float = 0.2, seed: int = 0) -> Dataset:
    """The UCI handwritten digits: 1,797 images of 8 x 8 pixels, scaled to 0..1, in 10 classes.

    The seed draws the share that is held out for testing. Raises ValueError if the share leaves one part empty.
    Source: Alpaydin and Kaynak (1998), UCI Machine
    Learning Repository, CC BY 4.0; see ATTRIBUTION.md beside the data.
    """
    table = np.loadtxt(gzip.decompress(_packed("digits.csv.gz")).decode().splitlines(), delimiter=",")
    X, y = table[:, :-1] / 16.0, table[:, -1].astype(np.int64)
    test, train = _split(_shuffled(len(y), seed), test_share)
    return Dataset("digits", X[train], y[train], X[test], y[test], tuple("0123456789"), (8, 8))


def iris(test_share: float = 1 / 3, seed: int = 0, *, standardize: bool = False) -> Dataset:
    """Fisher's irises: 150 flowers, 50 of each of 3 species, by the length and width of sepal and petal in cm.

    The seed draws the share that is held out for testing; species differ by one flower at most. standardize=True
    gives every feature mean 0 and standard deviation 1 over the training part, and shifts and scales the testing
    part by the same numbers: gradient descent then converges faster. Raises ValueError if the share leaves one
    part empty. Source: Fisher (1936), UCI Machine Learning Repository, CC BY 4.0; see ATTRIBUTION.md beside the
    data.
    """
    table = np.loadtxt(_packed("iris.csv").decode().splitlines(), delimiter=",", skiprows=1)
    X, y = table[:, :-1], table[:, -1].astype(np.int64)
    test, train = _split(_balanced(y, seed), test_share)
    features = tuple(f"{part} {size}" for part in ("sepal", "petal") for size in ("length", "width"))
    if standardize:
        X = (X - X[train].mean(axis=0)) / X[train].std(axis=0)
    else:
        features = tuple(f"{feature} (cm)" for feature in features)
    species = ("setosa", "versicolor", "virginica")
    return Dataset("iris", X[train], y[train], X[test], y[test], species, (4,), features)


def _packed(name: str) -> bytes:
    return resources.files(__package__).joinpath("data", name).read_bytes()


def _shuffled(n: int, seed: int) -> list[int]:
    order = list(range(n))
    random.Random(seed).shuffle(order)
    return order


def _balanced(y: NDArray[np.int64], seed: int) -> list[int]:
    """A random order in rounds: each round has one example of every class."""
    seen = [0] * (int(y.max()) + 1)
    rank = {}
    for i in _shuffled(len(y), seed):
        rank[i] = seen[y[i]]
        seen[y[i]] += 1
    return sorted(rank, key=rank.__getitem__)  # the sort is stable: at random within a rank


def _split(order: list[int], test_share: float) -> tuple[Any, Any]:
    """The indices to test on, then those to train on."""
    n = len(order)
    if not (hasattr(test_share, "__neg__") and 0 < test_share < 1 and 0 < round(test_share * n) < n):
        raise ValueError(f"test_share is between 0 and 1 and leaves examples on both sides, got {test_share!r}.")
    test, train = np.split(np.array(order), [round(test_share * n)])
    return test, train
