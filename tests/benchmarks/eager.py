"""How fast an eager step is, and how large a node is: tinygrad_edu beside micrograd 0.1.0.

    python tests/benchmarks/eager.py [--rounds N] [--quick]

Each workload is forward + zero_grad + backward:
  moons   the step of micrograd's demo notebook without the update: MLP 2-16-16-1, 100 points, hinge + 1e-4 L2
  chain   10,000 additions, y = y + x
  fit     a step of full-batch training, MLP 2-8-8-1, 100 points, hinge, gradient descent: our `fit` on Values
          beside the loop that micrograd's users write, three steps each time

Both engines run the same lines of this file, with their own MLP, the same weights and the same points. Each has a
process of its own, so that neither collects the other's garbage. A block counts whole: its mean holds the full
collections that a median step can miss. The loss of the step before is alive during the forward pass, as in the
notebook, and is freed on the clock. With the collector off, it runs between the steps, off the clock: the
cycles of micrograd cost nothing there.
"""

import argparse
import gc
import json
import random
import statistics
import subprocess
import sys
import threading
import time
import tracemalloc

import common
from common import MICROGRAD, installed, number, ratio

OURS = "tinygrad_edu"
WORKLOADS = {
    "moons": "two-moons step, MLP 2-16-16-1, 100 points",
    "chain": "chain of 10,000 additions",
    "fit": "a step of fit on Values, MLP 2-8-8-1, 100 points",
}


# --- The work: the same lines for both engines ----------------------------------------------------------------
class Step:
    """A forward and a backward pass."""

    steps = 1

    def step(self):
        total = self.forward()
        self.zero_grad()
        total.backward()
        return total

    def results(self):
        return [self.step().data, *[p.grad for p in self.parameters()]]


class Moons(Step):
    """The loss of micrograd's demo notebook (github.com/karpathy/micrograd, demo.ipynb)."""

    hidden = 16, 16

    def __init__(self, Value, MLP, points, classes):
        self.Value, self.points, self.classes = Value, points, classes
        self.model = MLP(2, [*self.hidden, 1])
        rng = random.Random(1337)
        for parameter in self.model.parameters():
            parameter.data = rng.uniform(-1, 1)
        self.parameters, self.zero_grad = self.model.parameters, self.model.zero_grad

    def data_loss(self):
        inputs = [list(map(self.Value, point)) for point in self.points]
        scores = list(map(self.model, inputs))
        losses = [(1 + -y * score).relu() for y, score in zip(self.classes, scores, strict=True)]
        return sum(losses) * (1.0 / len(losses))

    def forward(self):
        return self.data_loss() + 1e-4 * sum(p * p for p in self.parameters())


class Fit(Moons):
    """Three steps of training, from the same numbers each time. `fit` is ours; micrograd has a loop."""

    hidden, rate, steps = (8, 8), 0.1, 3
    forward = Moons.data_loss

    def __init__(self, Value, MLP, points, classes, fit=None):
        super().__init__(Value, MLP, points, classes)
        self.fit, self.start = fit, [p.data for p in self.parameters()]

    def step(self):
        for parameter, x in zip(self.parameters(), self.start, strict=True):
            parameter.data = x
        if self.fit:
            self.fit(self.model, (self.points, self.classes), self.rate, self.steps)
            return
        for _ in range(self.steps):
            super().step()
            for p in self.parameters():
                p.data -= self.rate * p.grad

    def results(self):
        self.step()
        return [p.data for p in self.parameters()]


def fit(model, data, rate, epochs):
    from tinygrad_edu import nn, optim, train

    optimizer = optim.SGD(model.parameters(), rate)
    train.fit(model, nn.hinge, data, optimizer, epochs, batch_size=None, compiled=False, progress=False)


class Chain(Step):
    def __init__(self, Value):
        self.x = Value(0.5)

    def parameters(self):
        return [self.x]

    def zero_grad(self):
        self.x.grad = 0.0

    def forward(self):
        y = self.x
        for _ in range(10_000):
            y = y + self.x
        return y


def count_nodes(root):
    seen, stack = set(), [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += node._prev
    return len(seen)


# --- One engine in a process of its own: answers a line of JSON for each line of JSON ---------------------------
def work(engine):
    data = json.loads(input())
    if engine == MICROGRAD:
        from micrograd.engine import Value
        from micrograd.nn import MLP
    else:
        from tinygrad_edu import Value
        from tinygrad_edu.nn import MLP
    trained = Fit(Value, MLP, *data, fit=None if engine == MICROGRAD else fit)
    workloads = {"moons": Moons(Value, MLP, *data), "chain": Chain(Value), "fit": trained}
    for line in sys.stdin:
        command, name, *arguments = json.loads(line)
        answer = {"examine": examine, "block": block}[command](workloads[name], *arguments)
        print(json.dumps(answer), flush=True)


def examine(workload):
    """The results of one step, the size of its graph, and the memory that the forward pass took for it."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    total = workload.forward()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    gc.enable()
    nodes, parameters = count_nodes(total), workload.parameters()
    return {
        "results": workload.results(),
        "nodes": nodes,
        "bytes": peak / (nodes - len(parameters)),  # the parameters were there before
    }


def block(workload, collector, steps):
    """The mean seconds of a step, over so many, after one to warm up."""
    (gc.enable if collector else gc.disable)()
    seconds = []
    for _ in range(1 + steps):
        if not collector:
            gc.collect()
        start = time.perf_counter()
        total = workload.step()  # noqa: F841 - it is alive during the next step
        seconds.append((time.perf_counter() - start) / workload.steps)
    return statistics.mean(seconds[1:])


class Engine:
    """The other end of `work`."""

    def __init__(self, name, data):
        command = [sys.executable, __file__, "--engine", name]
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._send(data)

    def _send(self, message):
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, *message):
        self._send(message)
        line = self.process.stdout.readline()
        return json.loads(line) if line else sys.exit(f"The process of {self.name} died during {message}.")

    def contenders(self, workload, steps, name):
        """A workload with the collector on and off, as contenders, and what `examine` says of its graph."""
        graph = self.ask("examine", workload)
        total, *gradients = graph["results"]
        modes = {"on": True, "off": False}
        return {
            f"{name}, collector {state}": (
                (total, gradients),
                lambda collector=collector: self.ask("block", workload, collector, steps),
            )
            for state, collector in modes.items()
        }, graph


# --- The report -------------------------------------------------------------------------------------------------
def report(settings, steps):
    from tinygrad_edu.datasets import moons

    common.machine(settings)
    engines = {name: Engine(name, moons(100)) for name in (MICROGRAD, OURS)}
    for workload, title in WORKLOADS.items():
        common.title(title, settings)
        pair = (engines[name].contenders(workload, steps, name) for name in engines)
        (theirs, their_graph), (ours, our_graph) = pair
        common.compare(theirs | ours, 1e-9)
        blocks, rows = common.interleaved(theirs | ours, settings.rounds), []
        for name, own in blocks.items():
            graph, median = their_graph if name in theirs else our_graph, statistics.median(own)
            row = [name, f"{graph['nodes']:,}", common.milliseconds(own), number(min(own) * 1e3)]
            rows.append([*row, f"{graph['nodes'] / median:,.0f}", number(graph["bytes"])])
        common.table(["", "nodes", "median ms", "min ms", "nodes/s", "bytes/node"], rows, settings)
        for their_name, our_name in zip(theirs, ours, strict=True):
            print(f"  {their_name} / {our_name}: {ratio(blocks[their_name], blocks[our_name])}")
        print(f"  bytes per node: {their_graph['bytes'] / our_graph['bytes']:.1f}")


def main():
    parser = common.parser_of(__doc__, 7)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:  # micrograd recurses as deep as the chain is long
        sys.setrecursionlimit(100_000)
        threading.stack_size(512 * 2**20)
        thread = threading.Thread(target=work, args=[options.engine])
        thread.start()
        thread.join()
    elif not installed(MICROGRAD):
        print("The benchmark compares with micrograd: pip install micrograd==0.1.0", file=sys.stderr)
        sys.exit(2)
    else:
        report(common.Settings(options), 1 if options.quick else 3)


if __name__ == "__main__":
    main()
