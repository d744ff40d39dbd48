"""The command line: what each command takes, checked before its module is loaded and its work begins."""

import argparse
import os
import reprlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from . import commands

EXAMPLE = 'Example: %(prog)s "tanh(a*b + c)" a=2 b=-3 c=10'
EXPRESSIONS = {
    "explain": "every step from an expression to its derivatives, checked",
    "draw": "the picture of an expression, into a file",
    "live": "the page of an expression that can be changed and stepped through, into a file",
    "step": "step through both passes, from the keyboard or a pipe: n, b, s, c, p, why, h, q",
}
VERDICTS = {
    "check": "test the rules of a module at hard and random points",
    "prove": "certify the rules of a module at every number",
}
OUTPUTS = {
    "draw": ("graph.svg", "a file .svg, .png, .pdf or .html; - writes an SVG to the standard output"),
    "live": ("page.html", "a file .html; - writes to the standard output"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 a file, library or program is missing, 2 bad input, 130
    Ctrl-C; for grade 0 no mistake, 1 a mistake, 2 no verdict. Raises SystemExit after --help and --version
    (0), and for arguments that are not understood (2)."""
    parser = _parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in EXPRESSIONS:  # a space keeps argparse from taking -x**2 for an option
        words = [f" {text}" if _is_expression_with_minus(text) else text for text in words]
    options = parser.parse_args(words)
    if not options.command:
        parser.print_help()
        return 0
    if hasattr(sys.stdout, "reconfigure"):  # a terminal without λ gets \u03bb instead of an error
        sys.stdout.reconfigure(errors="backslashreplace")
    status = 0
    try:
        status = getattr(commands, options.command)(options) or 0
        sys.stdout.flush()
    except BrokenPipeError:  # as from `| head`: the reader has seen enough
        sys.stderr.close()
        return status
    except KeyboardInterrupt:
        print("\nStopped by Ctrl-C.", file=sys.stderr)
        return 130
    except ValueError as error:  # ExpressionError among them
        print(f"tinygrad-edu {options.command}: {error}", file=sys.stderr)
        return 2
    except (OSError, RuntimeError, ImportError) as error:  # a disk that is full, nothing to draw with
        print(f"tinygrad-edu: {error}", file=sys.stderr)
        return 2 if options.command == "grade" else 1
    return status


# --- What the commands take -----------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinygrad-edu", description="A scalar autograd engine that you can step through and see."
    )
    about = "print the version and exit"
    parser.add_argument("--version", action=_Version, nargs=0, dest=argparse.SUPPRESS, help=about)
    all = parser.add_subparsers(dest="command", metavar="command")
    demo = _command(
        all,
        "demo",
        "derive an expression, check it, train on real digits, draw a neuron",
        description="Derive an expression, check its gradients, train a network on the UCI digits, draw a neuron.",
    )
    demo.add_argument("--epochs", type=_count, default=4, help="passes over the digits (default: 4)")
    demo.add_argument("--seed", type=_seed, default=0, help="of weights, shuffling and split (default: 0)")
    demo.add_argument(
        "--out", type=_folder, default=Path(), help="folder for graph.svg and graph.png (default: here)"
    )
    rules = _command(
        all, "rules", "print the table of all operations (Markdown), or one of them", "\n       [operation]"
    )
    rules.add_argument("operation", nargs="?", help="its name, such as tanh")
    for name, help in EXPRESSIONS.items():
        file, what = OUTPUTS.get(name, ("", ""))
        example = f"{EXAMPLE} -o {file}" if file else EXAMPLE
        arguments = "\n       expression name=number ..."
        command = _command(all, name, help, arguments, epilog=example, allow_abbrev=False)
        command.add_argument("expression", help="names, numbers, + - * / ** and functions such as tanh, in quotes")
        command.add_argument("values", nargs="*", metavar="name=number", help="one for every name")
        if file:
            command.add_argument("-o", "--output", type=_output, required=True, metavar="FILE", help=what)
    _add_train(all)
    _add_grade(all)
    kit = _command(
        all, "kit", "write what a course needs: Gradescope's zip, otter's test, nbgrader's cell", "\n       folder"
    )
    kit.add_argument("folder", type=Path, help="for autograder.zip, otter_engine.py and nbgrader_cell.py")
    kit.add_argument(
        "--points", type=Path, metavar="RUBRIC.toml", help="points by operation (default: 1 for each)"
    )
    for name, help in VERDICTS.items():
        command = _command(
            all, name, help, "\n       module:rule ...", epilog="Exit status: 0 right, 1 not, 2 no such rule."
        )
        command.add_argument(
            "names", nargs="+", metavar="module:rule", help="a rule; all rules of a module; one of ours"
        )
        command.add_argument("--format", choices=("text", "json", "junit"), default="text", help="what is printed")
    exercise = _command(all, "exercise", "write an exercise: your own engine in seven steps", "\n       folder")
    exercise.add_argument(
        "folder", type=Path, help="a new folder, for engine.py, README.md, check.py and engine.ipynb"
    )
    return parser


def _add_grade(all: Any) -> None:
    grade = _command(
        all,
        "grade",
        "say what learners' own Value classes get wrong, with the smallest program that shows it",
        "\n       path ...",
        epilog="Exit status: 0 no mistake and nothing missing, 1 a mistake, 2 nothing could be graded. "
        "Submissions run with your rights, limited in time and memory. A container keeps them from your files: "
        "podman run --rm --network none -v ./submissions:/in:ro IMAGE tinygrad-edu grade /in",
    )
    grade.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="path",
        help="a file, a notebook, or a folder: each file or subfolder",
    )
    grade.add_argument("--require", metavar='"+ * tanh"', help="the operations that are asked for")
    grade.add_argument("--points", type=Path, metavar="RUBRIC.toml", help='points by operation, such as "+" = 2')
    formats = ("text", "json", "csv", "gradescope", "junit")
    what = f"one of {', '.join(formats)}"
    grade.add_argument("--format", choices=formats, default="text", metavar="NAME", help=what)
    grade.add_argument("--json", action="store_true", help="the same as --format json")
    grade.add_argument(
        "--html", type=_file, metavar="FILE", help="write a page: the graphs, or the class in one table"
    )
    grade.add_argument("--jobs", type=_count, help="how many are graded at a time (default: one for each core)")


def _command(all: Any, name: str, help: str, arguments: str = "", **more: Any) -> argparse.ArgumentParser:
    """A command whose description is its help, unless another one is given."""
    described = {"description": f"{help[0].upper()}{help[1:]}."} | more
    command: argparse.ArgumentParser = all.add_parser(
        name, usage=f"%(prog)s [options]{arguments}", help=help, **described
    )
    return command


class _Version(argparse.Action):
    """Print the version, which is looked up only here, since that takes a while."""

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        from importlib.metadata import version

        print(f"tinygrad-edu {version('tinygrad-edu')}")
        parser.exit()


def _add_train(all: Any) -> None:
    data = ("moons", "iris", "digits", "mnist")  # those of `cli.train`, which is loaded only for a run
    train = _command(
        all,
        "train",
        "train a network on moons, iris, digits or mnist",
        " data",
        description="Train a network of dense layers on a data set, and test it on examples it never saw. With "
        "`tg.fit` every choice is yours.",
    )
    train.add_argument("data", choices=data, metavar="data", help=f"one of {', '.join(data)}")
    train.add_argument("--epochs", type=_count, help="passes over the data")
    train.add_argument("--seed", type=_seed, default=0, help="of weights, shuffling and split (default: 0)")
    train.add_argument("--save", type=_file, metavar="MODEL.json", help="write the trained model")


def _is_expression_with_minus(text: str) -> bool:
    """Is this an expression such as -x**2 or --x, and not an option of explain, draw or step?"""
    is_output = text.startswith(("--output=", "-o")) and text.endswith((".svg", ".png", ".pdf", ".html", "-o-"))
    return text.startswith("-") and not is_output and text not in ("-", "--", "-h", "--help", "-o", "--output")


def _whole(text: str, least: int, what: str, most: int = 1_000_000) -> int:
    """text as a number from least to most. An error says `what` is expected, and what was given."""
    if text.strip().isdecimal() and int(text[:20]) >= least:
        if len(text) <= 20 and int(text) <= most:
            return int(text)
        what += f", at most {most:,}"
    raise argparse.ArgumentTypeError(f"takes {what}, not {reprlib.repr(text)}")


_count = partial(_whole, least=1, what="a whole number of 1 or more")
_seed = partial(_whole, least=0, what="a whole number of 0 or more", most=2**32 - 1)


def _folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}; make it first")
    if not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"the folder {text!r} cannot be written to")
    return folder


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; add the name of a file")
    if path.exists():
        if not os.access(path, os.W_OK):
            raise argparse.ArgumentTypeError(f"the file {text!r} cannot be written to")
    else:
        _folder(str(path.parent))
    return path


def _output(text: str) -> Path:
    return Path(text) if text == "-" else _file(text)
