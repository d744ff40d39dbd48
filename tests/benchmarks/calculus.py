"""What derivatives of compiled functions cost: per example, products with the Hessian, the Hessian.

    python tests/benchmarks/calculus.py [--rounds N] [--quick] [--markdown]

Per-example gradients of the classifier 784-128-10 at a batch of 128, beside the dozen lines of NumPy with `einsum`
that write into one matrix, as ours do. A product with its Hessian and the Hessian of a fit of 49 parameters (MLP
1-16-1, 200 points), beside a gradient of the same function. float64; the parameters are in one vector for all.
By hand and compiled gradients must agree to 1e-9 of the largest before anything is timed.
"""

import common
import compiled as measure
import numpy as np
import rivals

import tinygrad_edu as tg
from tinygrad_edu import nn


def row(name, bar, ours, theirs, settings):
    both = {"ours": ours, "theirs": theirs}
    contenders = {
        name: (None, lambda call=call: common.block(call, settings.seconds)) for name, call in both.items()
    }
    a, b = common.interleaved(contenders, settings.rounds).values()
    return [name, common.milliseconds(a), common.milliseconds(b), common.ratio(a, b), bar]


def main():
    settings = measure.Settings(common.parser_of(__doc__, 9, markdown="a table for a README").parse_args())
    sizes, batch = ((12, 8, 4), 6) if settings.quick else ((784, 128, 10), 128)
    theta, X, classes = rivals.problem(sizes, batch, "float64")
    by_hand = rivals.Classifier(theta, X, rivals.one_hot(classes, sizes[-1], "float64"), sizes)
    model, fit = rivals.dense_model(rivals.layers(theta, sizes)), nn.MLP(1, [16, 1], rng=0)
    step = tg.compile(lambda x, c: nn.cross_entropy(model(x), c), model)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 1)), rng.normal(size=200)
    small = tg.compile(lambda x, y: (fit(x) - y) ** 2, fit)
    vector = rng.normal(size=len(theta))
    with step.arrays(), small.arrays():
        found, expected = step.per_example_grads(X, classes), by_hand.each()
        assert abs(found - expected).max() <= 1e-9 * abs(expected).max()
        ones, hessian = np.ones(49), small.hessian(*points)
        np.testing.assert_allclose(small.hvp(*points, ones), hessian @ ones, rtol=1e-7, atol=1e-9)

        def gradient():
            return step.value_and_grad(X, classes)

        cases = [
            ("per_example_grads / NumPy by hand", "1.1", lambda: step.per_example_grads(X, classes), by_hand.each),
            ("hvp / gradient", "3", lambda: step.hvp(X, classes, vector), gradient),
            ("hessian / gradient, 49 parameters", "60", lambda: small.hessian(*points),
                lambda: small.value_and_grad(*points)),
        ]  # fmt: skip
        rows = [row(*case, settings) for case in cases]
    common.table(["ms, float64", "first", "second", "ratio", "bar"], rows, settings)
    common.machine(settings)


if __name__ == "__main__":
    main()
