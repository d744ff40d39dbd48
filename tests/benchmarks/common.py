"""What the benchmarks share: the checkout that is measured, the command line, the measuring and the report.

A contender is a pair: what it answers, loss and gradients, and a function that runs a block of its steps and
returns the mean seconds of a step.
"""

import argparse
import contextlib
import datetime
import gc
import importlib.metadata
import importlib.util
import os
import platform
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
TOLERANCE = {"float32": 1e-4, "float64": 1e-9}
TORCH, MICROGRAD = "torch", "micrograd"
INSTALL = {TORCH: "torch==2.13.0", MICROGRAD: "micrograd==0.1.0"}


def parser_of(doc, rounds=None, **flags):
    """A parser with --quick, with --rounds where there are rounds, and with more flags, by name and help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round each: does it run at all?")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of each measurement ({rounds})")
    for name, text in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser


class Settings:
    """Rounds and durations of what the command line asks for; `quick` asks only whether everything runs."""

    def __init__(self, options):
        self.quick, self.markdown = options.quick, getattr(options, "markdown", False)
        self.rounds = 1 if options.quick else options.rounds
        self.seconds = 0.0 if options.quick else 0.25  # of a block of steps


# --- Measuring --------------------------------------------------------------------------------------------------
def block(step, seconds, clock=time.perf_counter):
    """The mean seconds of a step, over a block of about `seconds`, after a quarter of that to warm up.

    The threads of other contenders spin for some milliseconds after their last product; they are asleep by then.
    """

    def run(limit):
        start, n = clock(), 0
        while True:
            step()
            n, passed = n + 1, clock() - start
            if passed >= limit:
                return passed / n

    run(seconds / 4)
    return run(seconds)


def compare(contenders, tolerance):
    """Stop unless all agree with the first on the loss and on every gradient, relative to the largest of them."""
    import numpy as np  # not in the processes of engines that do without

    (first, ((loss, gradients), _)), *others = contenders.items()
    largest = np.abs(gradients).max() or 1.0
    for name, ((other_loss, other_gradients), _) in others:
        off = np.abs(np.subtract(other_gradients, gradients)).max() / largest
        off = np.maximum(off, abs(other_loss - loss) / abs(loss))
        if not off <= tolerance:  # nan is no agreement either
            sys.exit(f"{name} is {off:.1e} away from {first} in the loss or a gradient: there is nothing to time.")
        print(f"  {name} agrees with {first} to {off:.0e}", file=sys.stderr)


def interleaved(contenders, rounds):
    """For each contender the mean seconds of a step, round by round."""
    blocks = {name: [] for name in contenders}
    for turn in range(rounds):
        for name in contenders if turn % 2 == 0 else reversed(contenders):
            _, block = contenders[name]
            blocks[name].append(block())
    return blocks


def seconds_of(act):
    start = time.perf_counter()
    result = act()
    return time.perf_counter() - start, result


def installed(name):
    return importlib.util.find_spec(name) is not None


# --- The report --------------------------------------------------------------------------------------------------
def number(x):
    """Three digits that count, and whole numbers from a hundred on."""
    return f"{x:,.0f}" if x >= 100 else f"{x:#.3g}"


def milliseconds(blocks):
    return number(statistics.median(blocks) * 1e3)


def ratio(over, under):
    """time(over) / time(under) of neighbouring blocks: the median and the extremes."""
    ratios = [a / b for a, b in zip(over, under, strict=True)]
    return f"{number(statistics.median(ratios))} ({number(min(ratios))} to {number(max(ratios))})"


def table(header, rows, settings):
    """Rows of text below a header: the first column to the left, the others to the right."""
    if settings.markdown:
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        print(*(f"| {' | '.join(line)} |" for line in lines), sep="\n")
    else:
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for line in (header, *rows):
            cells = [line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]
            print("  " + "   ".join(cells).rstrip())
    sys.stdout.flush()


def title(text, settings):
    print(f"\n### {text}\n" if settings.markdown else f"\n{text}", flush=True)


def machine(settings):
    """Who takes part, and where."""
    import numpy as np

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    versions = [f"NumPy {np.__version__} ({blas['name']} {blas['version']})"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in INSTALL if installed(name)]
    print("tinygrad_edu (this checkout)", *versions, sep=", ")
    print(f"{datetime.date.today()}, {platform.python_implementation()} {platform.python_version()}, ", end="")
    print(f"{cpu()}, {os.cpu_count()} cores, {platform.platform()}")
    print(f"{os.environ.get('OMP_NUM_THREADS', '2')} thread(s) for everybody, ", end="")
    print(f"collector {'on' if gc.isenabled() else 'off'} by default, thresholds {gc.get_threshold()}")
    print(f"{settings.rounds} rounds of alternating blocks of {settings.seconds} s")
    for name, package in INSTALL.items():
        if not installed(name):
            print(f"{name} is not installed, so it is left out: pip install {package}")


def cpu():
    """The processor's name, where the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
