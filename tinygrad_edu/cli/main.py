"""The command line: what each command takes, checked before its module is loaded and its work begins."""

import argparse
import os
import reprlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from . import commands

OUTPUTS = {  # of the commands that take an expression
    "explain": ("", ""),
    "draw": (" -o graph.svg", "a file .svg, .png, .pdf or .html; - writes an SVG to the standard output"),
    "live": (" -o page.html", "a file .html; - writes to the standard output"),
    "step": ("", ""),
}
DATA = ("moons", "iris", "digits", "mnist")  # those of `cli.recipes`, which is loaded only for a run
FORMATS = ("text", "json", "csv", "gradescope", "junit")
CONTAINER = (
    "Submissions run with your rights, limited in time and memory. A container keeps them from your files: "
    "podman run --rm --network none -v ./submissions:/in:ro IMAGE tinygrad-edu grade /in"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 done, 1 a file, library or program is missing, 2 bad input, 130
    Ctrl-C; for grade 0 no mistake, 1 a mistake, 2 no verdict. Raises SystemExit after --help and --version
    (0), and for arguments that are not understood (2)."""
    parser = _parser()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in OUTPUTS:  # a space keeps argparse from taking -x**2 for an option
        words = [f" {text}" if _is_expression_with_minus(text) else text for text in words]
    options = parser.parse_args(words)
    if options.version:  # it takes a while to look it up
        from importlib.metadata import version

        print(f"tinygrad-edu {version('tinygrad-edu')}")
        parser.exit()
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tinygrad-edu", description="A scalar autograd engine that you can step through and see."
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    all = parser.add_subparsers(dest="command", metavar="command")

    def command(name: str, arguments: str = "", epilog: str = "") -> argparse.ArgumentParser:
        """A command, described by the first line of its function's docstring."""
        text = getattr(commands, name).__doc__.partition("\n")[0]
        usage, help = f"%(prog)s [options]{arguments}", text[0].lower() + text[1:-1]
        subparser: argparse.ArgumentParser = all.add_parser(
            name, usage=usage, help=help, description=text, epilog=epilog, allow_abbrev=name not in OUTPUTS
        )
        return subparser

    one = command("demo")
    one.add_argument("--epochs", type=_count, default=4, help="passes over the digits (default: 4)")
    one.add_argument("--seed", type=_seed, default=0, help="of weights, shuffling and split (default: 0)")
    one.add_argument("--out", type=_folder, default=".", help="folder for graph.svg and graph.png (default: here)")
    one = command("rules", "\n       [operation]")
    one.add_argument("operation", nargs="?", help="its name, such as tanh")
    for name, (option, what) in OUTPUTS.items():
        example = f'Example: %(prog)s "tanh(a*b + c)" a=2 b=-3 c=10{option}'
        one = command(name, "\n       expression name=number ...", example)
        one.add_argument("expression", help="names, numbers, + - * / ** and functions such as tanh, in quotes")
        one.add_argument("values", nargs="*", metavar="name=number", help="one for every name")
        if option:
            one.add_argument("-o", "--output", type=_output, required=True, metavar="FILE", help=what)
    one = command("train", " data", "With `tg.fit` every choice is yours.")
    one.add_argument("data", choices=DATA, metavar="data", help=f"one of {', '.join(DATA)}")
    one.add_argument("--epochs", type=_count, help="passes over the data")
    one.add_argument("--seed", type=_seed, default=0, help="of weights, shuffling and split (default: 0)")
    one.add_argument("--save", type=_file, metavar="MODEL.json", help="write the trained model")
    for name in ("check", "prove"):
        one = command(name, "\n       module:rule ...", "Exit status: 0 right, 1 not, 2 no such rule.")
        what = "a rule; all rules of a module; one of ours"
        one.add_argument("names", nargs="+", metavar="module:rule", help=what)
        one.add_argument("--format", choices=("text", "json", "junit"), default="text", help="what is printed")
    status = "Exit status: 0 no mistake and nothing missing, 1 a mistake, 2 nothing could be graded. "
    one = command("grade", "\n       path ...", status + CONTAINER)
    what = "a file, a notebook, or a folder: each file or subfolder"
    one.add_argument("paths", nargs="+", type=Path, metavar="path", help=what)
    one.add_argument("--require", metavar='"+ * tanh"', help="the operations that are asked for")
    one.add_argument("--points", type=Path, metavar="RUBRIC.toml", help='points by operation, such as "+" = 2')
    what = f"one of {', '.join(FORMATS)}"
    one.add_argument("--format", choices=FORMATS, default="text", metavar="NAME", help=what)
    what = "the same as --format json"
    one.add_argument("--json", action="store_const", dest="format", const="json", help=what)
    what = "write a page: the graphs, or the class in one table"
    one.add_argument("--html", type=_file, metavar="FILE", help=what)
    one.add_argument("--jobs", type=_count, help="how many are graded at a time (default: one for each core)")
    one = command("kit", "\n       folder")
    one.add_argument("folder", type=Path, help="for autograder.zip, otter_engine.py and nbgrader_cell.py")
    what = "points by operation (default: 1 for each)"
    one.add_argument("--points", type=Path, metavar="RUBRIC.toml", help=what)
    one = command("exercise", "\n       folder")
    what = "a new folder, for engine.py, README.md, check.py and engine.ipynb"
    one.add_argument("folder", type=Path, help=what)
    return parser


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
    return commands.STDOUT if text == "-" else _file(text)
