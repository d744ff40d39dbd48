"""What a small graph costs: node creation and backward() of 5, 50 and 500 nodes, beside a closure-free engine.

    python tests/benchmarks/small.py [--rounds N] [--quick]

The other engine is that of microgpt: a node keeps its children and the local slopes, which the forward pass
computes; backward() is a recursive sort and a loop. Both engines run the same lines of this file and must agree on
value and gradients. The smallest time of many short blocks counts, as noise only adds; the collector is on.
"""

import argparse
import math
import sys
import timeit
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tinygrad_edu import Value, topological_order


class Closurefree:
    """The engine of karpathy/microgpt, in its own lines."""

    __slots__ = ("_children", "_local_grads", "data", "grad")

    def __init__(self, data, children=(), local_grads=()):
        self.data, self.grad, self._children, self._local_grads = data, 0, children, local_grads

    # fmt: off
    def __add__(self, other):
        other = other if isinstance(other, Closurefree) else Closurefree(other)
        return Closurefree(self.data + other.data, (self, other), (1, 1))

    def __mul__(self, other):
        other = other if isinstance(other, Closurefree) else Closurefree(other)
        return Closurefree(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, other): return Closurefree(self.data**other, (self,), (other * self.data ** (other - 1),))
    def log(self): return Closurefree(math.log(self.data), (self,), (1 / self.data,))
    def exp(self): return Closurefree(math.exp(self.data), (self,), (math.exp(self.data),))
    def relu(self): return Closurefree(max(0, self.data), (self,), (float(self.data > 0),))
    def __neg__(self): return self * -1
    def __radd__(self, other): return self + other
    def __sub__(self, other): return self + (-other)
    def __rmul__(self, other): return self * other
    def __truediv__(self, other): return self * other**-1
    # fmt: on

    def backward(self):
        topo, visited = [], set()

        def build_topo(v):
            if v not in visited:
                visited.add(v)
                for child in v._children:
                    build_topo(child)
                topo.append(v)

        build_topo(self)
        self.grad = 1
        for v in reversed(topo):
            for child, local_grad in zip(v._children, v._local_grads, strict=True):
                child.grad += local_grad * v.grad


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=50, help="blocks per engine and graph (50)")
    parser.add_argument("--quick", action="store_true", help="one block: does it run at all?")
    options = parser.parse_args()
    print(f"{'nodes':>6} {'':12} {'create us':>10} {'backward us':>12} ratio: create, backward, all")
    for f, times in ((neuron, 400), (layer, 40), (step, 5)):
        rows = []
        for engine in (Closurefree, Value):
            x, w = engine(0.5), engine(1.5)
            y = f(x, w)

            def backward(x=x, w=w, y=y):
                x.grad = w.grad = 0.0
                y.backward()

            create = best(lambda f=f, x=x, w=w: f(x, w), times, 1 if options.quick else options.rounds)
            rows.append((create, best(backward, times, 1 if options.quick else options.rounds)))
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
