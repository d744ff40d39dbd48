"""Ten compiled programs of another checkout of tinygrad_edu beside those of this one: the loss and all gradients.

    git worktree add --detach /tmp/before fd95877
    python tests/benchmarks/checkouts.py /tmp/before [--rounds N] [--quick] [--markdown]

Every measurement has a process of its own and one thread; rounds alternate. Milliseconds of the processor, the
median of the rounds, each the least of 15 blocks of 0.05 s; and how many times as long this checkout takes. Then
once more with the thresholds of malloc raised: without that, arrays over 128 kB go back to the system after use.
"""

import importlib
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

CASES = ["Moons()", *(f"Classifier(batch={n})" for n in (32, 128, 512)), "Convnet()", "Attention(True)"]
CASES += ["Attention(False)", "GRU()", "RNN()", "Residual()"]
RAISED = dict.fromkeys(("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"), str(1 << 30))


def measure(checkout, case, blocks):
    """Print the milliseconds of a step, with the package of this checkout."""
    sys.path.insert(0, checkout)
    tg = importlib.import_module("tinygrad_edu")  # before a benchmark imports that of its own checkout
    assert Path(tg.__file__).is_relative_to(checkout), tg.__file__
    common, *modules = map(importlib.import_module, ("common", "contenders", "structures"))
    case = eval(case, vars(modules[0]) | vars(modules[1]))
    step = tg.compile(case.loss, case.parameters, "float64")
    with step.arrays():
        times = [
            common.block(lambda: step.value_and_grad(*case.batch), 0.05, time.process_time) for _ in range(blocks)
        ]
    print(json.dumps(min(times) * 1e3))


def main():
    common = importlib.import_module("common")
    parser = common.parser_of(__doc__, 3, markdown="a table for a README")
    parser.add_argument("checkout", type=Path, help="the other one")
    settings = common.Settings(chosen := parser.parse_args())
    checkouts, blocks = [str(chosen.checkout.resolve()), str(common.ROOT)], 1 if chosen.quick else 15
    rows, ratios = [], []
    for case in CASES[: 1 if chosen.quick else None]:
        rows.append([case])
        for settled in ({}, RAISED):
            before, now = seen = [], []
            for which in [0, 1, 1, 0] * (settings.rounds // 2 + 1):
                command = [sys.executable, __file__, "--measure", checkouts[which], case, str(blocks)]
                out = subprocess.check_output(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | settled)
                seen[which].append(json.loads(out.splitlines()[-1]))
            rows[-1] += [common.milliseconds([x / 1e3 for x in own]) for own in seen] + [common.ratio(now, before)]
            ratios.append(math.log(statistics.median(a / b for a, b in zip(now, before, strict=True))))
    means = [f"{math.exp(statistics.fmean(ratios[i::2])):.2f}" for i in (0, 1)]
    rows.append(["geometric mean", "", "", means[0], "", "", means[1]])
    header = [f"{x}{more}" for more in ("", ", malloc raised") for x in ("before", "now", "now / before")]
    common.table(["ms, float64", *header], rows, settings)
    common.machine(settings)


if __name__ == "__main__":
    measure(*sys.argv[2:4], int(sys.argv[4])) if sys.argv[1:2] == ["--measure"] else main()
