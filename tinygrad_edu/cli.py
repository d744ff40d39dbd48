"""The command line: `tinygrad-edu demo` and `tinygrad-edu rules`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 no picture could be made, 2 bad input, 130 Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="tinygrad-edu", description="A scalar autograd engine that you can step through and see."
    )
    commands = parser.add_subparsers(dest="command", metavar="command")
    demo = commands.add_parser(
        "demo",
        help="derive an expression, check it, train on real digits, draw a neuron (the default)",
        description="Derive an expression, check its gradients, train a network on the UCI digits, draw a neuron.",
    )
    commands.add_parser("rules", help="print the table of all operations (Markdown)")
    for command in (parser, demo):
        command.add_argument("--epochs", type=_positive, default=4, help="passes over the digits (default: 4)")
        command.add_argument("--seed", type=int, default=0, help="of weights, shuffling and split (default: 0)")
        command.add_argument(
            "--out", type=_folder, default=Path(), help="folder for graph.svg and graph.png (default: here)"
        )
    options = parser.parse_args(arguments)
    if options.command == "rules":
        from .viz.table import rules_table

        print(rules_table())
        return 0
    try:
        from .demo import run  # NumPy and graphviz are loaded for a run, not for --help

        run(options.epochs, options.seed, options.out)
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        return 130
    except (OSError, RuntimeError) as error:  # a folder that cannot be written, no program to draw with
        print(f"tinygrad-edu: {error}", file=sys.stderr)
        return 1
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number of 1 or more, not {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}; make it first")
    return folder
