"""Ten compiled programs of another checkout of tinygrad_edu beside those of this one: the loss and all gradients.

    git worktree add --detach /tmp/before fd95877
    python tests/benchmarks/checkouts.py /tmp/before [--rounds N] [--quick] [--markdown]

Every measurement has a process of its own and one thread; rounds alternate. Milliseconds of the processor, the
median of the rounds, each the least of 15 blocks of 0.05 s; and how many times as long this checkout takes. Then
once more with the thresholds of malloc raised: without that, arrays over 128 kB go back to the system after use.
"""

import functools
import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = {f"MLP 784-128-10, batch {n}": ("contenders", "Classifier", (784, 128, 10), n) for n in (32, 128, 512)}
PROGRAMS |= {"moons": ("contenders", "Moons"), "convnet": ("structures", "Convnet")}
PROGRAMS |= {f"attention, {n}": ("structures", "Attention", n == "masked") for n in ("masked", "causal")}
PROGRAMS |= {"GRU": ("structures", "GRU"), "RNN of 300 steps": ("structures", "RNN")}
PROGRAMS |= {"12 residual blocks": ("structures", "Residual")}
RAISED = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(1 << 30))


def measure(checkout, name, blocks):
    """Print the milliseconds of a step, with the package of this checkout."""
    sys.path.insert(0, checkout)
    tg = importlib.import_module("tinygrad_edu")  # before a benchmark imports that of its own checkout
    assert Path(tg.__file__).is_relative_to(checkout), tg.__file__
    common = importlib.import_module("common")
    module, kind, *sizes = PROGRAMS[name]
    case = getattr(importlib.import_module(module), kind)(*sizes)
    step = tg.compile(case.loss, case.parameters, "float64")
    call = functools.partial(step.value_and_grad, *case.batch)
    for _ in range(3):
        call()
    with step.arrays():
        print(json.dumps(min(common.block(call, 0.05, time.process_time) for _ in range(blocks)) * 1e3))


def main():
    common = importlib.import_module("common")
    parser = common.parser_of(__doc__, 3, markdown="a table for a README")
    parser.add_argument("checkout", type=Path, help="the other one")
    chosen = parser.parse_args()
    settings = common.Settings(chosen)
    checkouts = {"before": str(chosen.checkout.resolve()), "now": str(common.ROOT)}
    settled = {"": {}, ", malloc raised": RAISED}
    names = list(PROGRAMS)[3:4] if chosen.quick else list(PROGRAMS)
    rows, ratios = [], {key: [] for key in settled}
    for name in names:
        row, blocks = [name], 1 if chosen.quick else 15
        for key, more in settled.items():
            seen = {which: [] for which in checkouts}
            for turn in range(settings.rounds):
                for which in list(checkouts)[:: -1 if turn % 2 else 1]:
                    command = [sys.executable, __file__, "--measure", checkouts[which], name, str(blocks)]
                    out = subprocess.check_output(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | more)
                    seen[which].append(json.loads(out.splitlines()[-1]))
            row += [common.number(statistics.median(times)) for times in seen.values()]
            row.append(common.ratio(seen["now"], seen["before"]))
            ratios[key].append(statistics.median(a / b for a, b in zip(seen["now"], seen["before"], strict=True)))
        rows.append(row)
        print(*row, sep=", ", file=sys.stderr, flush=True)
    means = [f"{math.exp(statistics.fmean(map(math.log, own))):.2f}" for own in ratios.values()]
    rows.append(["geometric mean", "", "", means[0], "", "", means[1]])
    header = ["ms, float64", *(f"{x}{key}" for key in settled for x in ("before", "now", "now / before"))]
    common.table(header, rows, settings)
    common.machine(settings)


if __name__ == "__main__":
    measure(*sys.argv[2:4], int(sys.argv[4])) if sys.argv[1:2] == ["--measure"] else main()
