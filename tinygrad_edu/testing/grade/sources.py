"""The code that a student hands in: a Python file, or the code cells of a notebook."""

import contextlib
import json
import runpy
import signal
import sys
import time
import tokenize
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CELLS, CELL = 5.0, 2.0  # seconds for the cells of a notebook, and for one of them


def check_text(path: Path) -> None:
    """Raises ValueError in one sentence if the path is no text that could hold an engine."""
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    try:
        if path.suffix == ".ipynb":
            _cells(path)
            return
        with tokenize.open(path) as file:
            text = file.read()
    except (UnicodeDecodeError, SyntaxError):
        text = "\0"
    if "\0" in text:
        raise ValueError(f"{path.name!r} is not a text file.")


def load(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The names that a file defines, and what is to be told of its cells. Raises what a Python file raises."""
    check_text(path)
    sys.path.insert(0, str(path.resolve().parent))
    if path.suffix != ".ipynb":
        return runpy.run_path(str(path), run_name=f"graded_{path.stem}"), []
    name = f"graded_{path.stem}"
    module = types.ModuleType(name)
    sys.modules[name] = module
    scope, notes, end = vars(module), list[str](), time.monotonic() + CELLS
    for number, source in _cells(path):
        with _alarm(max(0.1, min(CELL, end - time.monotonic()))):
            try:
                exec(compile(source, f"cell {number}", "exec"), scope)
            except BaseException as error:
                notes.append(f"cell {number} fails: {type(error).__name__}: {error}"[:150])
    return scope, notes


def _cells(path: Path) -> list[tuple[int, str]]:
    """The code cells with their numbers, counted from 1 among all code cells, without commands for IPython."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, LookupError, TypeError):
        raise ValueError(f"{path.name!r} is not a notebook.") from None
    plain = ("" if code.lstrip().startswith("%%") else code for code in codes)
    magic = ("%", "!", "?")
    return [
        (number, "\n".join("" if line.lstrip().startswith(magic) else line for line in code.splitlines()))
        for number, code in enumerate(plain, start=1)
    ]


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """A TimeoutError after so many seconds, where the system has alarms."""

    def stop(*_: Any) -> None:
        raise TimeoutError(f"it took more than {seconds:.3g} seconds")

    if not hasattr(signal, "setitimer"):
        yield
        return
    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
