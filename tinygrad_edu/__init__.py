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
from typing import TYPE_CHECKING, Any

from .engine.calculus import grad, gradients, hessian, hvp, jacobian, jvp, value_and_grad, vjp
from .engine.functions import (
    acos,
    acosh,
    asin,
    asinh,
    atan,
    atanh,
    cos,
    cosh,
    detach,
    dot,
    elu,
    erf,
    erfc,
    exp,
    exp2,
    expm1,
    gelu,
    leaky_relu,
    log,
    log1p,
    log2,
    log10,
    log_softmax,
    logsumexp,
    mod,
    reciprocal,
    relu,
    sigmoid,
    sign,
    silu,
    sin,
    sinh,
    softmax,
    softplus,
    sqrt,
    take,
    tan,
    tanh,
    where,
)
from .engine.functions import (
    max as max,
)
from .engine.functions import (
    min as min,
)
from .engine.functions import (
    sum as sum,
)
from .engine.graph import ancestors, edges, topological_order
from .engine.rules import RULES, Interval, Rule, rule
from .engine.value import Value

if TYPE_CHECKING:
    from . import datasets, debug, elementary, nn, optim, testing, viz
    from .compiler import CompileError, TraceError
    from .compiler import compile as compile
    from .debug import blame, steps, why
    from .live import live
    from .train import evaluate, fit
    from .viz import draw, tree

    __version__: str

# Loaded when first asked for, by the module that has it, so that the import stays fast.
_LATER = {"draw": "viz", "tree": "viz", "steps": "debug", "why": "debug", "blame": "debug"}
_LATER |= {"fit": "train", "evaluate": "train", "compile": "compiler"}
_LATER |= {"TraceError": "compiler", "CompileError": "compiler"}
_MODULES = ("datasets", "debug", "elementary", "live", "micrograd", "nn", "optim", "testing", "viz")

__all__ = [  # for `from tinygrad_edu import *`: not compile, max, min and sum, which Python has already
    "RULES",
    "CompileError",
    "Interval",
    "Rule",
    "TraceError",
    "Value",
    "acos",
    "acosh",
    "ancestors",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "blame",
    "cos",
    "cosh",
    "datasets",
    "debug",
    "detach",
    "dot",
    "draw",
    "edges",
    "elementary",
    "elu",
    "erf",
    "erfc",
    "evaluate",
    "exp",
    "exp2",
    "expm1",
    "fit",
    "gelu",
    "grad",
    "gradients",
    "hessian",
    "hvp",
    "jacobian",
    "jvp",
    "leaky_relu",
    "live",
    "log",
    "log1p",
    "log2",
    "log10",
    "log_softmax",
    "logsumexp",
    "mod",
    "nn",
    "optim",
    "reciprocal",
    "relu",
    "rule",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "sqrt",
    "steps",
    "take",
    "tan",
    "tanh",
    "testing",
    "topological_order",
    "tree",
    "value_and_grad",
    "viz",
    "vjp",
    "where",
    "why",
]
_PUBLIC = sorted([*__all__, "__version__", "compile", "max", "min", "sum"])


def __dir__() -> list[str]:
    return _PUBLIC


def __getattr__(name: str) -> Any:
    if name in _LATER:
        found = getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    elif name in _MODULES:
        found = importlib.import_module(f".{name}", __name__)
    elif name == "__version__":
        found = _version()
    else:
        raise _unknown(name)
    globals()[name] = found  # not asked for again
    return found


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
