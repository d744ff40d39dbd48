"""How fast the drop-in is on graphs of 5 to 5,000 nodes, beside microgpt's own engine.

    python tests/benchmarks/small_graphs.py [--rounds N] [--quick]

A step is forward, backward and the gradients of the leaves set to 0. The programs:
  by hand    every node is Value(data, children, local_grads), as microgpt's users write operations of their own
  engine     + * and tanh of the engine
  mixed      + and * of the engine, tanh by hand
  dots       dot products of 4 pairs, one node each, and tanh; by hand
  operators  / - ** exp log relu, and numbers beside Values

Both engines run in turn in one process. The time is that of the processor, the least of all blocks.
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


def chain(leaves, nodes, stage, size):
    """So many nodes, in stages of this size: each has the result of the one before, and two leaves."""
    y = leaves[0]
    for i in range(max(1, nodes // size)):
        y = stage(y, leaves[i % 8], leaves[(i + 1) % 8])
    return y


def dots(leaves, nodes):
    xs, ws = leaves[:4], leaves[4:]
    total = dot(xs, ws)
    for _ in range(max(1, nodes // 10)):
        xs = [tanh(dot(xs, ws)) for _ in xs]
        total = plus(total, dot(xs, ws))
    return total


PROGRAMS = {
    "by hand": lambda leaves, n: chain(leaves, n, lambda y, a, b: tanh(plus(times(y, a), b)), 3),
    "engine": lambda leaves, n: chain(leaves, n, lambda y, a, b: (y * a + b).tanh(), 3),
    "mixed": lambda leaves, n: chain(leaves, n, lambda y, a, b: tanh(y * a + b), 3),
    "dots": dots,
    "operators": lambda leaves, n: chain(
        leaves, n, lambda y, a, b: (1 - (((y - a) / (b * b + 1.5)).exp() + 1).log() ** 2).relu() + b, 12
    ),
}


def contender(kind, program, nodes, seconds):
    leaves = [kind(0.1 * (i + 1)) for i in range(8)]

    def step():
        for leaf in leaves:
            leaf.grad = 0.0
        loss = program(leaves, nodes)
        loss.backward()
        return loss.data

    return (step(), [leaf.grad for leaf in leaves]), lambda: common.block(step, seconds, time.process_time)


def main():
    settings = common.Settings(common.parser_of(__doc__, 9).parse_args())
    sys.setrecursionlimit(50_000)  # microgpt's engine recurses as deep as the graph is
    common.machine(settings)
    rows = []
    for name, program in PROGRAMS.items():
        for nodes in SIZES:
            kinds = {"microgpt": LocalGrads, "drop-in": Value}
            pair = {key: contender(kind, program, nodes, settings.seconds / 4) for key, kind in kinds.items()}
            common.compare(pair, 1e-9)
            theirs, ours = map(min, common.interleaved(pair, settings.rounds).values())
            rows.append([name, f"{nodes:,}", number(theirs * 1e6), number(ours * 1e6), number(theirs / ours)])
    common.title("a step of the drop-in, beside microgpt's engine", settings)
    common.table(["", "nodes", "microgpt us", "drop-in us", "ratio"], rows, settings)


if __name__ == "__main__":
    main()
