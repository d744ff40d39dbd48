"""How fast backpropagation is stepped through: `tg.debug.steps` on 100,000 operations.

    python tests/benchmarks/steps.py [--nodes N] [--rounds N]

The graph is a chain of x = tanh(x * w) + b: all links share w and b. Each round makes the steps anew.
`gradients` stands for what a slider asks for: every node's gradient at the end. The collector's full passes walk
over the graph and the steps kept, so both states of it are shown.
"""

import argparse
import gc
import platform
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEADER = "  collector       make ms    first ms    steps/s    again/s    printed/s   gradients ms"


def chain(nodes):
    from tinygrad_edu import Value, tanh

    x, w, b = Value(0.5, label="x"), Value(0.9, label="w"), Value(0.1, label="b")
    for _ in range(nodes // 3):
        x = tanh(x * w) + b
    return x


def timed(act):
    start = time.perf_counter()
    result = act()
    return time.perf_counter() - start, result


def drain(every):
    for _ in every:
        pass


def measured(root):
    """Seconds to make the steps, for the first, for all, for all again, for their sentences, for the gradients."""
    from tinygrad_edu.debug import steps

    make, every = timed(lambda: steps(root))
    first, _ = timed(lambda: every[0])
    walk, _ = timed(lambda: drain(every))
    again, _ = timed(lambda: drain(every))
    printed, _ = timed(lambda: drain(map(str, every)))
    final, _ = timed(lambda: every.gradients(len(every)))
    return make, first, walk, again, printed, final


def bytes_per_node(root):
    from tinygrad_edu.debug import steps

    gc.collect()
    tracemalloc.start()
    every = steps(root)
    made, _ = tracemalloc.get_traced_memory()
    drain(every)
    walked, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return made / len(every.order), walked / len(every.order)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=100_000, help="operations in the graph (100,000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per state of the collector (5)")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    root = chain(options.nodes)
    count = options.nodes // 3 * 3
    print(f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}, ", end="")
    print(f"collector {'on' if gc.isenabled() else 'off'} by default, thresholds {gc.get_threshold()}")
    print(f"{count:,} steps, median of {options.rounds} rounds")
    print(HEADER)
    for state in ("on", "off"):
        (gc.enable if state == "on" else gc.disable)()
        rounds = [measured(root) for _ in range(options.rounds)]
        make, first, walk, again, printed, final = map(statistics.median, zip(*rounds, strict=True))
        print(
            f"  {state:>9} {make * 1e3:13.1f} {first * 1e3:11.3f} {count / walk:10,.0f} {count / again:10,.0f} "
            f"{count / printed:12,.0f} {final * 1e3:14.1f}"
        )
    gc.enable()
    made, walked = bytes_per_node(root)
    print(f"  bytes per node: {made:.0f} when made, {walked:.0f} when all steps have been walked through")


if __name__ == "__main__":
    main()
