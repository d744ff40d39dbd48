"""What a small graph costs: node creation and backward() of 5, 50 and 500 nodes, beside a closure-free engine.

    python tests/benchmarks/small.py [--rounds N] [--quick]

The other engine is that of microgpt: a node keeps its children and the local slopes, which the forward pass
computes; backward() is a recursive sort and a loop. Both engines run the same lines of this file and must agree on
value and gradients. The smallest time of many short blocks counts, as noise only adds; the collector is on.
"""

import math
import timeit

import common
from published import LocalGrads

from tinygrad_edu import Value, topological_order


def neuron(x, w):
    """5 nodes: relu(w x + w)."""
    return (w * x + w).relu()


def layer(x, w):
    """About 50: sums, products, quotients and powers, and one logarithm."""
    y = x
    for _ in range(9):
        y = (y * w + x) * 0.5 + x**2 / (w + 1)
    return (y**2 + 1).log()


def step(x, w):
    """About 500."""
    return sum((layer(x, w) for _ in range(8)), x)


def best(f, times, blocks):
    """Microseconds of one call."""
    return min(timeit.repeat(f, number=times, repeat=blocks)) / times * 1e6


def main():
    options = common.parser_of(__doc__, 50).parse_args()
    blocks = 1 if options.quick else options.rounds
    print(f"{'nodes':>6} {'':12} {'create us':>10} {'backward us':>12} ratio: create, backward, all")
    for f, times in ((neuron, 400), (layer, 40), (step, 5)):
        rows = []
        for engine in (LocalGrads, Value):
            x, w = engine(0.5), engine(1.5)
            y = f(x, w)

            def backward(x=x, w=w, y=y):
                x.grad = w.grad = 0.0
                y.backward()

            create = best(lambda f=f, x=x, w=w: f(x, w), times, blocks)
            rows.append((create, best(backward, times, blocks)))
            x.grad = w.grad = 0.0
            f(x, w).backward()
            rows[-1] += ((y.data, x.grad, w.grad),)
        theirs, ours = rows
        assert all(math.isclose(a, b, rel_tol=1e-12) for a, b in zip(theirs[2], ours[2], strict=True))
        nodes = len(topological_order(y))
        for name, row in (("closure-free", theirs), ("tinygrad_edu", ours)):
            print(f"{nodes:6} {name:12} {row[0]:10.2f} {row[1]:12.2f}", end="\n" if row is theirs else "")
        print(f"  {theirs[0] / ours[0]:.2f} {theirs[1] / ours[1]:.2f} {sum(theirs[:2]) / sum(ours[:2]):.2f}")


if __name__ == "__main__":
    main()
