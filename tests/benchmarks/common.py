"""What the benchmarks share: the checkout that is measured, and the command line."""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def parser_of(doc, rounds=None, **flags):
    """A parser with --quick, with --rounds where there are rounds, and with more flags, by name and help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round each: does it run at all?")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"rounds of each measurement ({rounds})")
    for name, text in flags.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser
