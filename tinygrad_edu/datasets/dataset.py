"""Dataset: examples to train on and to test on, with a view as text."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..engine.refusals import is_count
from ..viz.words import UnquotedText, columns

SHADES = np.array(list(" ░▒▓█"))
WIDTH = 96  # columns of text for a row of images
GAP = "  "


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs X (n, features) and class indices y (n,): one part for training, one for testing.

    `shape` is the shape of one example: (8, 8) for an image of 64 pixels, (4,) for a row of 4 features. Pixels are
    from 0, the paper, to 1, the ink.
    """

    name: str
    X_train: NDArray[np.float64]
    y_train: NDArray[np.int64]
    X_test: NDArray[np.float64]
    y_test: NDArray[np.int64]
    class_names: tuple[str, ...]
    shape: tuple[int, ...]
    feature_names: tuple[str, ...] = ()

    def __repr__(self) -> str:
        sizes = f"{len(self.X_train)} to train, {len(self.X_test)} to test"
        return (
            f"Dataset({self.name!r}: {sizes}, {self.X_train.shape[1]} features, {len(self.class_names)} classes)"
        )

    def show(self, n: int = 10) -> UnquotedText:
        """The first n training examples as text: images in shades of ink, or a table of features.

        Raises ValueError for n below 1.

        >>> from tinygrad_edu import datasets
        >>> datasets.iris().show(2)
        sepal length (cm)  sepal width (cm)  petal length (cm)  petal width (cm)  class
                      6.9               3.1                4.9               1.5  versicolor
                      4.9               2.5                4.5               1.7  virginica
        """
        if not is_count(n):
            raise ValueError(f"show needs a whole n of 1 or more, got {n!r}.")
        labels = [self.class_names[i] for i in self.y_train[:n]]
        if len(self.shape) == 2:
            return UnquotedText(_grid(self.X_train[:n].reshape(-1, *self.shape), labels))
        names = self.feature_names or tuple(f"x{i}" for i in range(self.X_train.shape[1]))
        numbers = [[f"{x:.4g}" for x in row] for row in self.X_train[:n]]
        rows = [[*row, label] for row, label in zip(numbers, labels, strict=True)]
        return UnquotedText("\n".join(columns([[*names, "class"], *rows], ">" * len(names))))


def _grid(images: NDArray[np.float64], labels: list[str]) -> str:
    pictures = [_picture(image, label) for image, label in zip(images, labels, strict=True)]
    per_row = max(1, (WIDTH + len(GAP)) // (len(pictures[0][0]) + len(GAP)))
    rows = [pictures[i : i + per_row] for i in range(0, len(pictures), per_row)]
    return "\n\n".join("\n".join(GAP.join(line).rstrip() for line in zip(*row, strict=True)) for row in rows)


def _picture(image: NDArray[np.float64], label: str) -> list[str]:
    # A character is twice as tall as wide: two per pixel of a small image, one for two rows of a large one.
    if image.shape[1] <= 16:
        image = image.repeat(2, axis=1)
    else:
        image = np.add.reduceat(image, range(0, len(image), 2), axis=0) / 2
    shades = SHADES[np.clip(image * len(SHADES), 0, len(SHADES) - 1).astype(int)]
    return [label.ljust(image.shape[1]), *("".join(row) for row in shades)]
