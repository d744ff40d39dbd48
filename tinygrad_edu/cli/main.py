"""The command line: demo, train, explain, draw, step and rules."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .expression import ExpressionError

EXAMPLE = 'Example: %(prog)s "tanh(a*b + c)" a=2 b=-3 c=10'


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
    for name, help in {
        "explain": "every step from an expression to its derivatives, checked",
        "draw": "the picture of an expression, into a file",
        "step": "step through both passes, from the keyboard or a pipe: n, b, s, c, p, why, h, q",
    }.items():
        command = commands.add_parser(
            name, help=help, description=help[0].upper() + help[1:] + ".", epilog=EXAMPLE
        )
        command.add_argument("expression", help="names, numbers, + - * / ** and functions such as tanh, in quotes")
        command.add_argument("values", nargs="*", metavar="name=number", help="one for every name")
        if name == "draw":
            command.add_argument(
                "-o", "--output", type=Path, required=True, help="a file .svg, .png, .pdf or .html"
            )
    _add_train(commands)
    for command in (parser, demo):
        command.add_argument("--epochs", type=_positive, default=4, help="passes over the digits (default: 4)")
        command.add_argument("--seed", type=int, default=0, help="of weights, shuffling and split (default: 0)")
        command.add_argument(
            "--out", type=_folder, default=Path(), help="folder for graph.svg and graph.png (default: here)"
        )
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in ("explain", "draw", "step"):
        given = [f" {text}" if _starts_with_minus(text) else text for text in given]
    options = parser.parse_args(given)
    try:
        _run(options)
    except ExpressionError as error:
        print(f"tinygrad-edu {options.command}: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as from `| head`: the reader has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        return 130
    except (OSError, RuntimeError, ImportError) as error:  # no right to write there, nothing to draw with
        print(f"tinygrad-edu: {error}", file=sys.stderr)
        return 1
    return 0


def _add_train(commands: Any) -> None:
    """The names are those of `learning`, which is loaded for a run only; a test compares them."""
    train = commands.add_parser(
        "train",
        help="train a network on moons, iris, digits or mnist",
        description="Train a network of dense layers, and test it on examples it never saw. What is not given is "
        "chosen to work well on the data set. More epochs learn longer, a larger batch size takes fewer and "
        "smoother steps, and a learning rate that is too large lets the loss grow.",
    )
    train.add_argument("data", choices=["moons", "iris", "digits", "mnist"])
    train.add_argument("--hidden", type=_sizes, metavar="16,16", help="the sizes of the hidden layers")
    activations = ["relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "softplus", "linear"]
    train.add_argument("--activation", default="relu", choices=activations)
    train.add_argument("--optimizer", default="adam", choices=["sgd", "momentum", "rmsprop", "adam", "adamw"])
    train.add_argument("--lr", type=_rate, help="the learning rate: how far a step goes along the gradient")
    schedules = ["constant", "step", "exponential", "cosine", "warmup"]
    train.add_argument("--schedule", choices=schedules, help="how it changes over the epochs")
    train.add_argument("--epochs", type=_positive, help="passes over the data")
    train.add_argument("--batch-size", type=_positive, help="examples per step: 1 is stochastic gradient descent")
    train.add_argument("--seed", type=int, default=0, help="of weights, shuffling and split (default: 0)")
    train.add_argument("--limit", type=_positive, help="train on so many examples only")
    train.add_argument("--save", type=_file, metavar="MODEL.json", help="write the trained model")
    train.add_argument("--plot", type=_file, metavar="PLOT.png", help="write loss and accuracy (extra: plot)")


def _sizes(text: str) -> tuple[int, ...]:
    sizes = text.split(",")
    if not all(size.strip().isdecimal() and int(size) > 0 for size in sizes):
        raise argparse.ArgumentTypeError(f"takes sizes of 1 or more such as 16,16, not {text!r}")
    return tuple(map(int, sizes))


def _file(text: str) -> Path:
    _folder(str(Path(text).parent))
    return Path(text)


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < math.inf:
        raise argparse.ArgumentTypeError(f"takes a number above 0, not {text!r}")
    return rate


def _starts_with_minus(text: str) -> bool:
    """Is this an expression such as -x**2, which argparse would take for an option?"""
    return text.startswith("-") and not text.startswith("--") and text not in ("-h", "-o")


def _run(options: argparse.Namespace) -> None:
    """Modules are loaded for the command that needs them, so that --help comes at once."""
    match options.command:
        case "rules":
            from ..viz.table import rules_table

            print(rules_table())
        case "explain":
            from .explain import explain

            explain(options.expression, options.values)
        case "draw":
            from .explain import draw_to

            draw_to(options.expression, options.values, options.output)
        case "step":
            from .step import step_through

            step_through(options.expression, options.values)
        case "train":
            # These matrices are small: a second thread of BLAS gains little, and waits where a core is busy.
            os.environ.setdefault("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
            from . import train

            chosen = {
                name: value for name, value in vars(options).items() if name not in ("command", "data", "out")
            }
            train.run(options.data, **chosen)
        case _:
            from .demo import run

            run(options.epochs, options.seed, options.out)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number of 1 or more, not {text!r}")
    return int(text)


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}; make it first")
    return folder
