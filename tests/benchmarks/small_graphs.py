"""How fast the drop-in is on graphs of 5 to 5,000 nodes, beside microgpt's own engine.

    python tests/benchmarks/small_graphs.py [--rounds N] [--quick]

A step clears the gradients of eight leaves, runs forward and backward. Every node of "by hand" and "dots" is
Value(data, children, local_grads); "dots" has products of four pairs in one node. "operators" are / - ** exp log
relu, and numbers beside Values. Both engines run in turn in one process. The time is that of the processor, the
least of all blocks.
"""

import math
import sys
import time

import common
from common import number
from published import LocalGrads

from tinygrad_edu.micrograd.engine import Value

SIZES = 5, 30, 90, 700, 5_000


def tanh(a):
    t = math.tanh(a.data)
    return type(a)(t, (a,), (1 - t * t,))


def times(a, b):
    return type(a)(a.data * b.data, (a, b), (b.data, a.data))


def plus(a, b):
    return type(a)(a.data + b.data, (a, b), (1.0, 1.0))


def dot(xs, ws):
    total = sum(x.data * w.data for x, w in zip(xs, ws, strict=True))
    return type(xs[0])(total, (*xs, *ws), (*[w.data for w in ws], *[x.data for x in xs]))


STAGES = {  # what is made of the result before and two leaves, and how many nodes that are
    "by hand": (lambda y, a, b, _: tanh(plus(times(y, a), b)), 3),
    "engine": (lambda y, a, b, _: (y * a + b).tanh(), 3),
    "mixed": (lambda y, a, b, _: tanh(y * a + b), 3),
    "dots": (lambda y, a, b, leaves: tanh(dot([y, a, b, leaves[0]], leaves[4:])), 2),
    "operators": (lambda y, a, b, _: (1 - (((y - a) / (b * b + 1.5)).exp() + 1).log() ** 2).relu() + b, 12),
}


def contender(kind, stage, stages, seconds):
    leaves = [kind(0.1 * (i + 1)) for i in range(8)]

    def step():
        y = leaves[0]
        for leaf in leaves:
            leaf.grad = 0.0
        for i in range(stages):
            y = stage(y, leaves[i % 8], leaves[(i + 1) % 8], leaves)
        y.backward()
        return y.data

    return (step(), [leaf.grad for leaf in leaves]), lambda: common.block(step, seconds, time.process_time)


def main():
    settings = common.Settings(common.parser_of(__doc__, 9).parse_args())
    sys.setrecursionlimit(50_000)  # microgpt's engine recurses as deep as the graph is
    common.machine(settings)
    rows, kinds = [], {"microgpt": LocalGrads, "drop-in": Value}
    for name, (stage, size) in STAGES.items():
        for nodes in SIZES:
            how = stage, max(1, nodes // size), settings.seconds / 4
            pair = {key: contender(kind, *how) for key, kind in kinds.items()}
            common.compare(pair, 1e-9)
            theirs, ours = map(min, common.interleaved(pair, settings.rounds).values())
            rows.append([name, f"{nodes:,}", number(theirs * 1e6), number(ours * 1e6), number(theirs / ours)])
    common.title("a step of the drop-in, beside microgpt's engine", settings)
    common.table(["", "nodes", "microgpt us", "drop-in us", "ratio"], rows, settings)


if __name__ == "__main__":
    main()
