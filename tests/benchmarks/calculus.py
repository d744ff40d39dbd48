"""What derivatives of compiled functions cost: per example, products with the Hessian, the Hessian.

    python tests/benchmarks/calculus.py [--rounds N] [--quick] [--markdown]

Per-example gradients of the classifier 784-128-10 at a batch of 128, beside the dozen lines of NumPy with `einsum`
that write into one matrix, as ours do. A product with its Hessian and the Hessian of a fit of 49 parameters (MLP
1-16-1, 200 points), beside a gradient of the same function. float64; the parameters are in one vector for all.
By hand and compiled gradients must agree to 1e-9 of the largest before anything is timed.
"""

import functools
from itertools import pairwise

import common
import compiled as measure
import numpy as np
import rivals

import tinygrad_edu as tg
from tinygrad_edu import nn


def by_hand(theta, X, classes, sizes):
    """The gradient of every example: rows of one matrix."""
    B, (n_in, n_hidden, n_out) = len(X), sizes
    ends = np.cumsum([0, n_in * n_hidden, n_hidden, n_hidden * n_out, n_out])
    W1, b1, W2, b2 = (theta[i:j] for i, j in pairwise(ends))
    W1, W2 = W1.reshape(n_in, n_hidden), W2.reshape(n_hidden, n_out)
    rows = np.empty((B, len(theta)))
    A1 = np.maximum(X @ W1 + b1, 0)
    Z2 = A1 @ W2 + b2
    E = np.exp(Z2 - Z2.max(axis=1, keepdims=True))
    dZ2 = E / E.sum(axis=1, keepdims=True)
    dZ2[np.arange(B), classes] -= 1
    dZ1 = (dZ2 @ W2.T) * (A1 > 0)
    dW1, db1, dW2, db2 = (rows[:, i:j] for i, j in pairwise(ends))
    np.einsum("bi,bj->bij", X, dZ1, out=dW1.reshape(B, n_in, n_hidden))
    np.einsum("bi,bj->bij", A1, dZ2, out=dW2.reshape(B, n_hidden, n_out))
    db1[...], db2[...] = dZ1, dZ2
    return rows


def row(name, bar, ours, theirs, settings, seconds):
    both = {"ours": ours, "theirs": theirs}
    contenders = {name: (None, functools.partial(rivals.block, call, seconds)) for name, call in both.items()}
    a, b = measure.interleaved(contenders, settings.rounds).values()
    return [name, measure.milliseconds(a), measure.milliseconds(b), measure.ratio(a, b), bar]


def main():
    chosen = common.parser_of(__doc__, 9, markdown="a table for a README").parse_args()
    settings = measure.Settings(chosen.quick, chosen.rounds, chosen.markdown)
    sizes, batch, seconds = ((12, 8, 4), 6, 0.001) if chosen.quick else ((784, 128, 10), 128, 0.3)
    theta, X, classes = rivals.problem(sizes, batch, "float64")
    model = nn.Sequential(nn.Dense(*sizes[:2], "relu", rng=0), nn.Dense(*sizes[1:], rng=0))
    for parameter, x in zip(model.parameters(), theta.tolist(), strict=True):
        parameter.data = x
    step = tg.compile(lambda x, c: nn.cross_entropy(model(x), c), model)
    fit = nn.MLP(1, [16, 1], rng=0)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 1)), rng.normal(size=200)
    small = tg.compile(lambda x, y: (fit(x) - y) ** 2, fit)
    vector = rng.normal(size=len(theta))
    with step.arrays() as numbers, small.arrays():
        found, expected = step.per_example_grads(X, classes), by_hand(numbers, X, classes, sizes)
        assert abs(found - expected).max() <= 1e-9 * abs(expected).max()
        ones, hessian = np.ones(49), small.hessian(*points)
        np.testing.assert_allclose(small.hvp(*points, ones), hessian @ ones, rtol=1e-7, atol=1e-9)

        def gradient():
            return step.value_and_grad(X, classes)

        cases = [
            ("per_example_grads / NumPy by hand", "1.1", lambda: step.per_example_grads(X, classes),
                lambda: by_hand(numbers, X, classes, sizes)),
            ("hvp / gradient", "3", lambda: step.hvp(X, classes, vector), gradient),
            ("hessian / gradient, 49 parameters", "60", lambda: small.hessian(*points),
                lambda: small.value_and_grad(*points)),
        ]  # fmt: skip
        rows = [row(*case, settings, seconds) for case in cases]
    measure.table(["ms, float64", "first", "second", "ratio", "bar"], rows, settings)
    measure.machine(settings)


if __name__ == "__main__":
    main()
