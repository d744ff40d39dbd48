"""Made by `python .ci/stubs.py` from the names in __init__.py."""

from . import datasets as datasets
from . import debug as debug
from . import elementary as elementary
from . import micrograd as micrograd
from . import nn as nn
from . import optim as optim
from . import testing as testing
from . import train as train
from . import viz as viz
from .compiler import CompileError as CompileError
from .compiler import TraceError as TraceError
from .compiler import compile as compile
from .debug import blame as blame
from .debug import steps as steps
from .debug import why as why
from .engine.calculus import grad as grad
from .engine.calculus import gradients as gradients
from .engine.calculus import hessian as hessian
from .engine.calculus import hvp as hvp
from .engine.calculus import jacobian as jacobian
from .engine.calculus import jvp as jvp
from .engine.calculus import value_and_grad as value_and_grad
from .engine.calculus import vjp as vjp
from .engine.functions import acos as acos
from .engine.functions import acosh as acosh
from .engine.functions import asin as asin
from .engine.functions import asinh as asinh
from .engine.functions import atan as atan
from .engine.functions import atanh as atanh
from .engine.functions import cos as cos
from .engine.functions import cosh as cosh
from .engine.functions import detach as detach
from .engine.functions import dot as dot
from .engine.functions import elu as elu
from .engine.functions import erf as erf
from .engine.functions import erfc as erfc
from .engine.functions import exp as exp
from .engine.functions import exp2 as exp2
from .engine.functions import expm1 as expm1
from .engine.functions import gelu as gelu
from .engine.functions import leaky_relu as leaky_relu
from .engine.functions import log as log
from .engine.functions import log1p as log1p
from .engine.functions import log2 as log2
from .engine.functions import log10 as log10
from .engine.functions import log_softmax as log_softmax
from .engine.functions import logsumexp as logsumexp
from .engine.functions import max as max
from .engine.functions import min as min
from .engine.functions import mod as mod
from .engine.functions import reciprocal as reciprocal
from .engine.functions import relu as relu
from .engine.functions import sigmoid as sigmoid
from .engine.functions import sign as sign
from .engine.functions import silu as silu
from .engine.functions import sin as sin
from .engine.functions import sinh as sinh
from .engine.functions import softmax as softmax
from .engine.functions import softplus as softplus
from .engine.functions import sqrt as sqrt
from .engine.functions import sum as sum
from .engine.functions import take as take
from .engine.functions import tan as tan
from .engine.functions import tanh as tanh
from .engine.functions import where as where
from .engine.graph import ancestors as ancestors
from .engine.graph import edges as edges
from .engine.graph import topological_order as topological_order
from .engine.rules import RULES as RULES
from .engine.rules import Interval as Interval
from .engine.rules import Rule as Rule
from .engine.rules import rule as rule
from .engine.value import Value as Value
from .page import live as live
from .train import evaluate as evaluate
from .train import fit as fit
from .viz import draw as draw
from .viz import tree as tree

__all__ = [
    "RULES", "CompileError", "Interval", "Rule", "TraceError", "Value", "acos", "acosh", "ancestors", "asin",
    "asinh", "atan", "atanh", "blame", "cos", "cosh", "datasets", "debug", "detach", "dot", "draw", "edges",
    "elementary", "elu", "erf", "erfc", "evaluate", "exp", "exp2", "expm1", "fit", "gelu", "grad",
    "gradients", "hessian", "hvp", "jacobian", "jvp", "leaky_relu", "live", "log", "log1p", "log2", "log10",
    "log_softmax", "logsumexp", "micrograd", "mod", "nn", "optim", "reciprocal", "relu", "rule", "sigmoid",
    "sign", "silu", "sin", "sinh", "softmax", "softplus", "sqrt", "steps", "take", "tan", "tanh", "testing",
    "topological_order", "train", "tree", "value_and_grad", "viz", "vjp", "where", "why",
]  # fmt: skip
__version__: str
