"""The code that a student hands in: a Python file, or the code cells of a notebook."""

import contextlib
import functools
import json
import re
import runpy
import signal
import sys
import time
import tokenize
import types
from pathlib import Path
from typing import Any

CELLS, CELL = 5.0, 2.0  # seconds for the cells of a notebook, and for one of them


def load(path: Path) -> tuple[dict[str, Any], list[str]]:
    """The names that a file defines, and what is to be told of its cells.

    Raises ValueError in one sentence if the file is not there, or no text. Raises what a Python file raises.
    """
    if not path.is_file():
        raise ValueError(f"There is no file {str(path)!r}.")
    name = f"graded_{path.stem}"
    sys.path.insert(0, str(path.resolve().parent))
    if path.suffix != ".ipynb":
        text = "\0"
        with contextlib.suppress(UnicodeDecodeError, SyntaxError), tokenize.open(path) as file:
            text = file.read()
        if "\0" in text:
            raise ValueError(f"{path.name!r} is not a text file.")
        return runpy.run_path(str(path), run_name=name), []
    sys.modules[name] = types.ModuleType(name)
    scope, notes, end = vars(sys.modules[name]), list[str](), time.monotonic() + CELLS
    timer = getattr(signal, "setitimer", None)  # Windows has none
    for number, source in enumerate(_cells(path), start=1):
        seconds = max(0.1, min(CELL, end - time.monotonic()))
        try:
            if timer:
                signal.signal(signal.SIGALRM, functools.partial(_stop, seconds))
                timer(signal.ITIMER_REAL, seconds)
            exec(compile(source, f"cell {number}", "exec"), scope)
        except BaseException as error:
            notes.append(f"cell {number} fails: {type(error).__name__}: {error}"[:150])
        finally:
            if timer:
                timer(signal.ITIMER_REAL, 0)
    return scope, notes


def _stop(seconds: float, *_: Any) -> None:
    raise TimeoutError(f"it took more than {seconds:.3g} seconds")


def _cells(path: Path) -> list[str]:
    """The code cells, without commands for IPython."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, LookupError, TypeError):
        raise ValueError(f"{path.name!r} is not a notebook.") from None
    return ["" if code.lstrip().startswith("%%") else re.sub(r"(?m)^[ \t]*[%!?].*", "", code) for code in codes]
