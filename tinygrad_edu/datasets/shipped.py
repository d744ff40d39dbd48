"""The data sets that come with the package."""

import gzip
import random
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs X (n, features) and class indices y (n,), for training and, never trained on, for testing."""

    name: str
    X_train: NDArray[np.float64]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.float64]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __repr__(self) -> str:
        sizes = f"{len(self.X_train)} to train, {len(self.X_test)} to test"
        return (
            f"Dataset({self.name!r}: {sizes}, {self.X_train.shape[1]} features, {len(self.class_names)} classes)"
        )


def digits(test_share: float = 0.2, seed: int = 0) -> Dataset:
    """The UCI handwritten digits: 1,797 images of 8 x 8 pixels, scaled to 0..1, in 10 classes.

    A share of them, drawn by the seed, is held out for testing. Source: Alpaydin and Kaynak (1998), UCI Machine
    Learning Repository, CC BY 4.0; see ATTRIBUTION.md beside the data.
    """
    table = _table("digits.csv.gz")
    return _split("digits", table[:, :-1] / 16.0, table[:, -1], tuple("0123456789"), test_share, seed)


def _table(name: str) -> NDArray[np.float64]:
    packed = resources.files(__package__).joinpath("data", name).read_bytes()
    return np.loadtxt(gzip.decompress(packed).decode().splitlines(), delimiter=",")


def _split(name: str, X: Any, y: Any, class_names: tuple[str, ...], test_share: float, seed: int) -> Dataset:
    if not 0 < test_share < 1:
        raise ValueError(f"test_share is a share between 0 and 1, got {test_share!r}.")
    order = list(range(len(X)))
    random.Random(seed).shuffle(order)
    test, train = np.split(np.array(order), [round(test_share * len(X))])
    y = y.astype(np.int64)
    return Dataset(name, X[train], y[train], X[test], y[test], class_names)
