"""How long a picture takes: reading the graph and writing DOT, then Graphviz's layout to SVG.

    python tests/benchmarks/draw.py [--rounds N] [--quick]

The graphs:
  expression  a random expression, drawn whole: max_nodes=None
  network     the loss of an MLP on one point, drawn whole, its neurons framed
  moons       the loss of MLP 2-16-16-1 on 100 points of two moons with L2: modules summarised
  sums        x + x + ..., without labels: repeated structure summarised
  mixture     a random program without labels in which nothing repeats: the part nearest to the root
Best of the rounds, with the collector as it is by default.
"""

import argparse
import datetime
import gc
import os
import platform
import random
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]  # the checkout that is measured
sys.path.insert(0, str(ROOT))

from tinygrad_edu import Value, datasets, draw, nn, topological_order, tree


def expression(nodes):
    rng = random.Random(0)
    values = [Value(rng.uniform(-1, 1), label=name) for name in "abcdefgh"]
    while len(values) < nodes - 12:
        values.append(rng.choice(values[-9:]) * rng.choice(values[-9:]))
    return sum(values[-12:])


def network():
    return (nn.MLP(2, [8, 7, 1], rng=0)([Value(0.3, label="x0"), Value(0.4, label="x1")]) - 1.0) ** 2


def moons(points):
    X, y = datasets.moons(points, seed=0)
    model = nn.MLP(2, [16, 16, 1], rng=0)
    return nn.hinge([model(x) for x in X], y) + 1e-4 * sum(p * p for p in model.parameters())


def sums(nodes):
    x = y = Value(0.5)
    for _ in range(nodes):
        y = y + x
    return y


def mixture(nodes):
    rng = random.Random(0)
    values = [Value(1.0), Value(2.0)]
    while len(values) < nodes:
        one, other = values[-1], values[-rng.randrange(1, min(len(values), 50))]
        values.append(rng.choice([one + other, one - other, one.tanh(), other.sin()]))
    return values[-1]


def measure(name, root, rounds, **options):
    """One line: the size of the graph, the best seconds of DOT and of SVG."""
    best = {"tree": float("inf"), "dot": float("inf"), "svg": float("inf")}
    for _ in range(rounds):
        for part, work in (
            ("tree", lambda: tree(root)),
            ("dot", lambda: draw(root, **options)),
            ("svg", lambda: draw(root, **options).pipe(format="svg")),
        ):
            start = time.perf_counter()
            work()
            best[part] = min(best[part], time.perf_counter() - start)
    nodes, boxes = len(topological_order(root)), draw(root, **options).source.count("[label=<<table")
    times = "".join(f"{seconds:10.2f}" for seconds in best.values())
    print(f"  {name:12}{nodes:>12,}{boxes:>8,}{times}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="rounds per graph (3)")
    parser.add_argument("--quick", action="store_true", help="one round, small graphs: does it run at all?")
    options = parser.parse_args()
    rounds, scale = (1, 100) if options.quick else (options.rounds, 1)
    print(f"{datetime.date.today()}, {platform.python_implementation()} {platform.python_version()}, ", end="")
    print(f"{platform.platform()}, {os.cpu_count()} cores")
    print(f"collector {'on' if gc.isenabled() else 'off'}, thresholds {gc.get_threshold()}; ", end="")
    print(f"best of {rounds}, seconds")
    print(f"  {'graph':12}{'nodes':>12}{'boxes':>8}{'tree':>10}{'DOT text':>10}{'to SVG':>10}")
    measure("expression", expression(400), rounds, max_nodes=None)
    measure("network", network(), rounds, max_nodes=None)
    measure("moons", moons(max(2, 150 // scale)), rounds)
    measure("sums", sums(100_000 // scale), rounds)
    measure("mixture", mixture(100_000 // scale), rounds)
    measure("sums", sums(1_000_000 // scale), 1)
    measure("mixture", mixture(1_000_000 // scale), 1)


if __name__ == "__main__":
    main()
