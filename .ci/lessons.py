"""What lessons.mjs runs in Pyodide: a lesson, statement by statement, as IPython runs its cells.

A statement that needs a package that this build left out (NumPy, matplotlib) is left out too, with those that read
a name that it binds. Every other error is a fault, also one of a picture that cannot be shown.
"""

import ast
import json
import sys
from collections.abc import Iterable

from IPython.core.interactiveshell import InteractiveShell


def names(tree: ast.AST, context: type) -> set[str]:
    """The names that a statement reads (ast.Load) or binds (ast.Store)."""
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, context)}
    if context is ast.Store:
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        if isinstance(tree, ast.FunctionDef | ast.ClassDef):
            found.add(tree.name)
    return found


def statements(code: str) -> Iterable[tuple[str, ast.stmt]]:
    lines = code.splitlines()
    for node in ast.parse(code).body:
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
        yield "\n".join(lines[first - 1 : node.end_lineno]), node


def needs(error: BaseException | None, missing: list[str]) -> bool:
    """Does this error, or one that led to it, say that a missing package is missing?"""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in missing:
            return True
        error = error.__cause__ or error.__context__
    return False


def run_lesson(text: str, missing: list[str]) -> tuple[bool, str]:
    """Does it run, and what is there to say?"""
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    if not any("install" in "".join(cell["source"]) for cell in cells):
        return True, "shows its outputs: it does not run in the browser"
    shell = InteractiveShell.instance()
    shell.reset()  # names of its own
    shell.enable_gui = lambda gui=None: None  # for %matplotlib
    errors: list[BaseException] = []
    shell.showtraceback = lambda found=None, **_: errors.append(found[1] if found else sys.exc_info()[1])
    unknown: set[str] = set()
    done, left = 0, 0
    for cell in cells:
        code = "".join(cell["source"])
        if code.startswith("%pip"):
            continue  # lessons.mjs has loaded the wheel
        for source, tree in statements(shell.transform_cell(code)):
            reads, binds = names(tree, ast.Load), names(tree, ast.Store)
            errors.clear()
            if not reads & unknown:
                result = shell.run_cell(source)
                error = result.error_in_exec or result.error_before_exec or next(iter(errors), None)
                if error is None:
                    done += 1
                    unknown -= binds
                    continue
                if not needs(error, missing):
                    return False, f"{source}\n{type(error).__name__}: {error}"
            left += 1
            unknown |= binds
    if left and not missing:
        return False, f"{left} statements were left out, though nothing is missing"
    without = f", {left} need {' or '.join(missing)}, which this build has not" * bool(left)
    return True, f"{done} statements ran{without}"
