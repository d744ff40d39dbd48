"""Writes what repeats RULES, the stubs for type checkers and the table in engine/README.md: python .ci/stubs.py

Operations are declared once, in RULES, and the names of the package are found when it is imported: a checker sees
neither. `stubs()` gives the text of each file; the tests compare it with what is there.
"""

import importlib
import inspect
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import tinygrad_edu as tg
from tinygrad_edu.engine import named
from tinygrad_edu.engine.rules import RULES
from tinygrad_edu.viz.table import rules_table

ROOT = Path(tg.__file__).parent
UNTYPED = ["engine.elementary"]
HEAD = '"""Made by `python .ci/stubs.py` from {}."""\n\n'
NAMED = """from typing import Any, Self, TypeVar, overload

from .operators import Operators
from .rule import Rule

_N = TypeVar("_N", bound=Operators)

class _OfTwo(Rule):
    @overload  # type: ignore[override]
    def __call__(self, x: float, y: float, /) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, x: _N | float, y: _N | float, /) -> _N: ...
    @overload
    def __call__(self, x: Any, y: Any, /) -> Any: ...
"""
OF_ONE = """
class {}(Rule):
    @overload  # type: ignore[override]
    def __call__(self, x: float, /{parameters}) -> float: ...
    @overload
    def __call__(self, x: _N, /{parameters}) -> _N: ...
    @overload
    def __call__(self, x: Any, /{parameters}) -> Any: ...
"""


def stubs():
    """The text of each stub, by its path."""
    texts = {ROOT / "engine/named.pyi": operations(), ROOT / "__init__.pyi": package()}
    texts[ROOT / "testing/__init__.pyi"] = names_of(tg.testing, tg.testing.__all__, "{}")
    for name in UNTYPED:
        texts[ROOT / f"{name.replace('.', '/')}.pyi"] = untyped(importlib.import_module(f"tinygrad_edu.{name}"))
    page = ROOT / "engine/README.md"
    before, _, after = page.read_text(encoding="utf-8").partition("<!-- rules -->\n")
    table = f"{before}<!-- rules -->\n{rules_table()}\n{after[after.index('<!-- /rules -->') :]}"
    return {path: formatted(text) for path, text in texts.items()} | {page: table}


def operations():
    """named.pyi: a function for each operation, and the methods of Value."""
    text = HEAD.format("RULES") + NAMED + OF_ONE.format("_OfOne", parameters="")
    kinds, methods = [], []
    for name in named.__all__:
        rule = RULES[name]
        parameters = "".join(f", {key}: float = {default!r}" for key, default in rule.parameters.items())
        kind = {1: "_OfOne", 2: "_OfTwo"}.get(rule.n_inputs, "Rule")
        if parameters:
            kind = f"_{name.title().replace('_', '')}"
            text += OF_ONE.format(kind, parameters=", *" + parameters)
        kinds.append(f"{name}: {kind}")
        if rule.called == "method":
            parameters = ", *" + parameters if parameters else ""
            methods.append(f'    def {name}(self{parameters}) -> Self:\n        """{rule.formula}"""')
    text += f"\n__all__ = {named.__all__!r}\n" + "\n".join(kinds)
    return text + "\n\nclass Methods:\n    __slots__ = ()\n" + "\n".join(methods) + "\n"


def package():
    """__init__.pyi: every public name, from the module that has it."""
    return names_of(tg, [name for name in dir(tg) if name != "__version__"], ".{}") + "__version__: str\n"


def names_of(module, names, home):
    lines = [f"from {home.format(module._HOMES[name])} import {name} as {name}" for name in names]
    text = HEAD.format("the names in __init__.py") + "\n".join(lines)
    return f"{text}\n\n__all__ = {module.__all__!r}\n"


def untyped(module):
    """The stub of a module whose functions take any kind of number: floats, arrays, Values, symbols."""
    lines = []
    for name, thing in vars(module).items():
        if name.startswith("_") or name not in getattr(module, "__all__", [name]):
            continue
        if inspect.isfunction(thing) and thing.__module__ == module.__name__:
            signature = inspect.signature(thing)
            parameters = [
                p.replace(annotation=p.empty, default="..." if p.default is not p.empty else p.empty)
                for p in signature.parameters.values()
            ]
            shown = str(signature.replace(parameters=parameters, return_annotation=signature.empty))
            shown = re.sub(r"(\w+)(?==|,|\))", r"\1: Any", shown.replace("='...'", "=..."))
            lines.append(f"def {name}{shown} -> Any: ...")  # a checker reads the docstring in the module
        elif isinstance(thing, float | tuple | list | dict | set | frozenset):
            lines.append(f"{name}: {'float' if isinstance(thing, float) else 'Any'}")
    if hasattr(module, "__all__"):
        lines.append(f"__all__ = {module.__all__!r}")
    return HEAD.format("the module beside it") + "from typing import Any\n\n" + "\n".join(lines) + "\n"


def formatted(text):
    for command in ("check --quiet --select I,RUF022 --fix", "format --quiet"):
        ruff = [sys.executable, "-m", "ruff", *command.split(), "--stdin-filename", str(ROOT / "x.pyi"), "-"]
        text = subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout
    return re.sub(r"__all__ = \[(.*?)\n\]", _filled, text, flags=re.DOTALL)


def _filled(names):
    """`__all__` in full lines; a formatter gives each name a line of its own."""
    lines = textwrap.fill(" ".join(names[1].split()), 110, initial_indent="    ", subsequent_indent="    ")
    return f"__all__ = [\n{lines}\n]  # fmt: skip"


if __name__ == "__main__":
    for path, text in stubs().items():
        path.write_text(text, encoding="utf-8")
