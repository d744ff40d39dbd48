"""Normalisation: bring numbers to mean 0 and variance 1, so that layers keep one scale."""

from collections.abc import Sequence
from typing import Any

from ..engine import functions
from ..engine.dispatch import plain
from ..engine.value import Value
from ..engine.watch import watch
from .initialisation import leaves
from .module import Module
from .rows import check_size, rows_of

PYTORCH: dict[str, str] = {"gamma": "weight", "beta": "bias"}


class BatchNorm(Module):
    """Normalises each of the n columns of a batch: y = gamma * (x - mean) / sqrt(variance + eps) + beta.

    X is (B, n). The result is a list of B rows of n Values. In training, the mean and the variance (divided by B)
    are those of the batch and part of the graph. Evaluation uses running averages instead, so that the result for
    a row does not depend on the other rows, and a single row is allowed:

        running = (1 - momentum) * running + momentum * (the batch's)

    Here the variance is divided by B - 1. gamma starts at 1, beta at 0, `running_mean` at 0, `running_var` at 1.
    Source: Ioffe and Szegedy 2015, algorithm 1; momentum and variances as in PyTorch's BatchNorm1d.

    Raises ValueError for rows without n numbers, and in training for fewer than 2 rows.
    """

    _buffers = ("running_mean", "running_var")
    _array_names = PYTORCH

    def __init__(self, n: int, momentum: float = 0.1, eps: float = 1e-5):
        self.n: int = check_size("n", n, "BatchNorm")
        self.momentum: float = momentum
        self.eps: float = eps
        self.gamma: list[Value] = leaves(n, lambda: 1.0)
        self.beta: list[Value] = leaves(n, float)
        self.running_mean: list[float] = [0.0] * n
        self.running_var: list[float] = [1.0] * n
        self._label_parameters()

    def __call__(self, inputs: Any) -> Any:
        rows, is_batch = rows_of(self, self.n, inputs)
        if self.training and len(rows) < 2:
            text = "needs 2 or more rows in training, for a variance: fit(batched=True) gives it the batch"
            raise ValueError(f"{self!r} {text}; for one, call eval().")
        if self.training:
            statistics = [_mean_and_deviations(column) for column in zip(*rows, strict=True)]
            means = [mean for mean, _ in statistics]
            variances = [_mean_square(deviations) for _, deviations in statistics]
            (watch.remember or BatchNorm.remember)(self, means, variances, len(rows))
        else:
            means, variances = list(self.running_mean), list(self.running_var)
            if watch.tracer:
                watch.tracer.reads(self, "running_mean", means)
                watch.tracer.reads(self, "running_var", variances)
        scales = [g / functions.sqrt(v + self.eps) for g, v in zip(self.gamma, variances, strict=True)]
        columns = list(zip(means, scales, self.beta, strict=True))
        outputs = [[(x - m) * s + b for x, (m, s, b) in zip(row, columns, strict=True)] for row in rows]
        return outputs if is_batch else outputs[0]

    def remember(self, means: list[Any], variances: list[Any], size: int) -> None:
        """Move the running averages towards the means and variances of a batch of this size."""
        keep, unbiased = 1 - self.momentum, size / (size - 1)
        for i, (mean, variance) in enumerate(zip(means, variances, strict=True)):
            self.running_mean[i] = keep * self.running_mean[i] + self.momentum * float(plain(mean))
            self.running_var[i] = keep * self.running_var[i] + self.momentum * unbiased * float(plain(variance))


class RMSNorm(Module):
    """Divides each row of n numbers by their root mean square: y = gamma * x / sqrt(mean of x^2 + eps).

    Takes a row or a batch of rows and returns the same shape, in training and in evaluation. gamma starts at 1.
    The mean is not subtracted (Zhang and Sennrich 2019, eq. 4).

    Raises ValueError for rows without n numbers.
    """

    _array_names = PYTORCH

    def __init__(self, n: int, eps: float = 1e-5):
        self.n: int = check_size("n", n, type(self).__name__)
        self.eps: float = eps
        self.gamma: list[Value] = leaves(n, lambda: 1.0)
        self._label_parameters()

    def __call__(self, inputs: Any) -> Any:
        rows, is_batch = rows_of(self, self.n, inputs)
        outputs = list(map(self._normalised, rows))
        return outputs if is_batch else outputs[0]

    def _normalised(self, row: Sequence[Any]) -> list[Value]:
        inverse = 1 / functions.sqrt(_mean_square(row) + self.eps)
        return [x * inverse * g for x, g in zip(row, self.gamma, strict=True)]


class LayerNorm(RMSNorm):
    """RMSNorm of x - mean, plus beta: y = gamma * (x - mean) / sqrt(variance + eps) + beta for each row.

    gamma starts at 1, beta at 0. The variance is divided by n (Ba, Kiros and Hinton 2016, eq. 3 and 4).
    """

    def __init__(self, n: int, eps: float = 1e-5):
        super().__init__(n, eps)
        self.beta: list[Value] = leaves(n, float)
        self._label_parameters()

    def _normalised(self, row: Sequence[Any]) -> list[Value]:
        _, deviations = _mean_and_deviations(row)
        return [x + shift for x, shift in zip(super()._normalised(deviations), self.beta, strict=True)]


def _mean_and_deviations(xs: Sequence[Any]) -> tuple[Any, list[Any]]:
    mean = functions.sum(xs) / len(xs)
    return mean, [x - mean for x in xs]


def _mean_square(xs: Sequence[Any]) -> Any:
    return functions.sum([x * x for x in xs]) / len(xs)
