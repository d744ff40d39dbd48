"""How long it takes to compile a function, stage by stage, and how much memory.

    python tests/benchmarks/compiling.py [--rounds N] [--quick] [--markdown]

From `tg.compile` to the end of the first call, which traces, compiles, verifies and runs a batch of 32. The cases:
  mlp        nn.MLP 784-H-10 with 306,000, a million and three million nodes, cross-entropy
  dense      nn.Dense 784-128-10: two nodes for each neuron, and as many operands
  irregular  10,000 operations without any regular structure, by "Fastest Autograd in the West"

Every run has a process of its own and one thread. `seconds` are CPU time, which other programs on the machine
change least: those of the median run, and its stages. `bytes/node` is how far the peak of the process's memory
rises, divided by the number of nodes.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

os.environ["OMP_NUM_THREADS"] = "1"

import common
import numpy as np
import rivals

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.compiler.run import pipeline, variants

STAGES = {
    "trace": (variants, "trace_function"),
    "normalise": (pipeline, "normalise"),
    "group": (pipeline, "groups_of"),
    "lower": (pipeline, "lower"),
    "loops": (pipeline.Roller, "roll"),
    "emit": (pipeline, "Emitter"),
    "verify": (variants, "disagreement"),
}
CASES = {
    "mlp 784-128-10": ("mlp", 784, 128, 10),
    "mlp 784-420-10": ("mlp", 784, 420, 10),
    "mlp 784-1258-10": ("mlp", 784, 1258, 10),
    "dense 784-128-10": ("dense", 784, 128, 10),
    "irregular 10,000": ("irregular", 10_000),
}
QUICK = {"mlp 20-6-3": ("mlp", 20, 6, 3), "dense 20-6-3": ("dense", 20, 6, 3), "irregular 100": ("irregular", 100)}


def problem(kind, *sizes):
    """A loss, its parameters and a batch."""
    rng = np.random.default_rng(0)
    if kind == "irregular":
        values = [Value(float(x)) for x in range(100)]

        def loss(lane):
            nodes = [v + x for v, x in zip(values, lane, strict=True)]
            return rivals.west(nodes, *sizes, tg.softplus, tg.softmax)

        return loss, values, (rivals.west_noise(32, len(values)),)
    if kind == "mlp":
        model = nn.MLP(sizes[0], sizes[1:], rng=0)
    else:
        model = nn.Sequential(nn.Dense(*sizes[:2], "relu", rng=0), nn.Dense(*sizes[1:], rng=0))
    targets = np.eye(sizes[-1])[rng.integers(sizes[-1], size=32)]
    return lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), (rng.random((32, sizes[0])), targets)


def measured(case):
    """The seconds of each stage and in all, the nodes, and the bytes of each."""
    spent = dict.fromkeys(STAGES, 0.0)

    def timed(stage, function):
        def call(*arguments, **options):
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                spent[stage] += time.process_time() - start

        return call

    for stage, (module, name) in STAGES.items():
        setattr(module, name, timed(stage, getattr(module, name)))
    loss, parameters, batch = problem(*case)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    step = tg.compile(loss, parameters)
    step.value_and_grad(*batch)
    seconds = time.process_time() - start
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    grown *= 1 if sys.platform == "darwin" else 1024
    nodes = step._latest.lowered.n_traced
    return {"nodes": nodes, "seconds": seconds, **spent, "bytes/node": grown / nodes}


def main():
    parser = common.parser_of(__doc__, 3, markdown="a table for a README")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measured(options.case)))
        return
    header = ["", "nodes", "seconds", *STAGES, "bytes/node"]
    rows = []
    for name, case in (QUICK if options.quick else CASES).items():
        command = [sys.executable, __file__, "--case", json.dumps(case)]
        times = range(1 if options.quick else options.rounds)
        runs = [json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for _ in times]
        run = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
        digits = {"nodes": 0, "bytes/node": 0}
        rows.append([name, *(f"{run[title]:,.{digits.get(title, 2)}f}" for title in header[1:])])
    common.table(header, rows, common.Settings(options))


if __name__ == "__main__":
    main()
