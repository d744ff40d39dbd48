"""tinygrad_edu: a scalar autograd engine to step through, see, property-test, compile - and read in one sitting.

>>> import tinygrad_edu as tg
>>> x = tg.Value(2.0, label="x")
>>> y = x * tg.tanh(x)
>>> y.backward()
>>> print(f"{y:.4f} {x.grad:.4f}")
1.9281 1.1053

What is written with scalars for one example compiles to array operations for a batch:

>>> w = tg.Value(3.0, label="w")
>>> step = tg.compile(lambda x: (w * x - 1) ** 2, [w])
>>> value, gradient = step.value_and_grad([1.0, 2.0])
>>> print(value, gradient)
14.5 [12.]
"""

import importlib
from typing import Any

from .engine import functions

# Each public name once, below the module that has it: it is loaded when first asked for, so that the import stays
# fast. The operations are named in RULES. Type checkers read __init__.pyi, which `python .ci/stubs.py` writes.
_NAMES = {
    "engine.functions": " ".join(functions.__all__),
    "engine.value": "Value",
    "engine.rules": "Interval RULES Rule rule",
    "engine.graph": "ancestors edges topological_order",
    "engine.calculus": "grad gradients hessian hvp jacobian jvp value_and_grad vjp",
    "compiler": "CompileError TraceError compile",
    "debug": "blame steps why",
    "page": "live",
    "train": "evaluate fit",
    "viz": "draw tree",
    "": "datasets debug elementary micrograd nn optim testing train viz",
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}
_PUBLIC = sorted([*_HOMES, "__version__"])

_OF_PYTHON = ("__version__", "compile", "max", "min", "sum")  # `from tinygrad_edu import *` leaves these alone

__all__ = [name for name in _PUBLIC if name not in _OF_PYTHON]


def __dir__() -> list[str]:
    return _PUBLIC


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value = _version()
    elif name not in _HOMES:
        raise _unknown(name)
    elif home := _HOMES[name]:
        value = getattr(importlib.import_module(f".{home}", __name__), name)
    else:
        value = importlib.import_module(f".{name}", __name__)
    globals()[name] = value  # not asked for again
    return value


def _unknown(name: str) -> AttributeError:
    hint = ""
    if not name.startswith("_"):
        import difflib

        near = difflib.get_close_matches(name, _PUBLIC, 2)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    # obj=None: Python would add its own "Did you mean" to a module's
    return AttributeError(f"module 'tinygrad_edu' has no attribute {name!r}.{hint}", name=name, obj=None)


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("tinygrad-edu")
    except metadata.PackageNotFoundError:
        return "0+unknown"  # a copy of the source that was not installed
