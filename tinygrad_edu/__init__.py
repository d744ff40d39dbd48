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

from .engine.calculus import grad, gradients, hessian, jacobian, jvp, value_and_grad, vjp
from .engine.functions import (
    acos,
    asin,
    atan,
    cos,
    cosh,
    dot,
    elu,
    erf,
    erfc,
    exp,
    expm1,
    gelu,
    leaky_relu,
    log,
    log1p,
    log_softmax,
    logsumexp,
    max,
    min,
    relu,
    sigmoid,
    silu,
    sin,
    sinh,
    softmax,
    softplus,
    sqrt,
    sum,
    tan,
    tanh,
    where,
)
from .engine.graph import ancestors, edges, topological_order
from .engine.rules import RULES, Interval, Rule, rule
from .engine.value import Value

if TYPE_CHECKING:
    from . import datasets, debug, nn, optim, testing, viz
    from .compiler import CompileError, TraceError, compile
    from .debug import blame, steps, why
    from .train.loop import fit
    from .viz import draw, tree

__all__ = [
    "RULES",
    "CompileError",
    "Interval",
    "Rule",
    "TraceError",
    "Value",
    "acos",
    "ancestors",
    "asin",
    "atan",
    "blame",
    "compile",
    "cos",
    "cosh",
    "datasets",
    "debug",
    "dot",
    "draw",
    "edges",
    "elu",
    "erf",
    "erfc",
    "exp",
    "expm1",
    "fit",
    "gelu",
    "grad",
    "gradients",
    "hessian",
    "jacobian",
    "jvp",
    "leaky_relu",
    "log",
    "log1p",
    "log_softmax",
    "logsumexp",
    "max",
    "min",
    "nn",
    "optim",
    "relu",
    "rule",
    "sigmoid",
    "silu",
    "sin",
    "sinh",
    "softmax",
    "softplus",
    "sqrt",
    "steps",
    "sum",
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

# Readers of the graph, and what trains: loaded when first asked for.
_LATER = {"draw": "viz", "tree": "viz", "steps": "debug", "why": "debug", "blame": "debug", "fit": "train"}
_LATER |= {"compile": "compiler", "TraceError": "compiler", "CompileError": "compiler"}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)
    if name in ("datasets", "debug", "micrograd", "nn", "optim", "testing", "viz"):
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module 'tinygrad_edu' has no attribute {name!r}")
