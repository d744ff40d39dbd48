"""Which verdicts do prove_rule and check_rule give on random rules, right ones and wrong ones of seven kinds?

    python tests/benchmarks/soundness.py [--rules N] [--seed K] [--budget SECONDS] [--quick]

The rules are those of `tests/made_rules.py`: compositions of elementary functions, the slopes by the rules of
calculus, N right ones and N wrong ones in all. A budget is that of one rule. It prints a table, and each rule
with a false verdict: a wrong rule that is certified, a right one that is refuted or accused. It ends with 1 then.
"""

import random
import sys
import time
from collections import Counter

import common
from made_rules import KINDS, check_of, made_of, proof_of


def main() -> int:
    options = common.parser_of(__doc__)
    options.add_argument("--rules", type=int, default=500)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--budget", type=float, default=2.0)
    asked = options.parse_args()
    each = 1 if asked.quick else -(-asked.rules // len(KINDS))
    budget, false = 0.2 if asked.quick else asked.budget, list[str]()
    heads = "rules number certified refuted undecided seconds right wrong floats seconds".split()
    print(f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", sep="\n")
    for kind in ("right", *KINDS):
        cells = [kind, str(n := asked.rules if kind == "right" and not asked.quick else each)]
        made = [made_of(kind, random.Random(f"{asked.seed} {kind} {i}")) for i in range(n)]
        for verdict_of, words in ((proof_of, "certified refuted undecided"), (check_of, "right wrong floats")):
            start, counts = time.process_time(), Counter[str]()
            for one in made:
                counts[verdict := verdict_of(one, budget)] += 1
                if verdict in (("refuted", "wrong") if kind == "right" else ("certified",)):
                    false.append(f"{kind}, {verdict}: {one.text}")
            cells += [str(counts[word]) for word in words.split()]
            cells.append(f"{(time.process_time() - start) / n:.2f}")
        print(f"| {' | '.join(cells)} |", flush=True)
    print(*false, sep="\n")
    return bool(false)


if __name__ == "__main__":
    sys.exit(main())
