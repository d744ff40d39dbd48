"""The drop-in for programs that were written for micrograd, the lecture's engine or microgpt's: see README.md.

>>> from tinygrad_edu.micrograd.engine import Value
>>> a, b = Value(-4.0), Value(2.0)
>>> c = (a * b + b**3).relu() / 2.0
>>> c.backward()
>>> c.data, a.grad, b.grad
(0.0, 0.0, 0.0)

Where a program cannot be edited, `sys.modules["micrograd"] = tinygrad_edu.micrograd` comes before it.
"""

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from . import engine, nn, viz
from .engine import Value
from .nn import MLP, Layer, Module, Neuron
from .viz import draw_dot, trace

__all__ = ["MLP", "Layer", "Module", "Neuron", "Value", "draw_dot", "engine", "nn", "trace", "viz"]


class _Alias(MetaPathFinder, Loader):
    """Finds `micrograd.engine` after `sys.modules["micrograd"] = tinygrad_edu.micrograd`.

    Without it, Python would load engine.py a second time, under that name and with other classes.
    """

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        ours = package != __name__ and sys.modules.get(package) is sys.modules[__name__]
        return ModuleSpec(fullname, self) if ours and module in ("engine", "nn", "viz") else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = sys.modules[f"{__name__}.{module.__name__.rpartition('.')[2]}"]


sys.meta_path.insert(0, _Alias())
