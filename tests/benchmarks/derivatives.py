"""Activations and their slopes, in ulps: ours, JAX's and PyTorch's.

Each is run in float64 at some 500 hard points up to 1000 in size and compared with 60 digits: *tested*, the
largest error and the float where it was. Beside it stands what `prove_rule` certifies of ours for every float; a *
counts in ulps of |x f'(x)|, what rounding the input does, where it would be more than 16 ulps. "no digit" is an
error of 2^52 ulps or more. What is not installed is left out.

python tests/benchmarks/derivatives.py [--quick] [--markdown] [--jax]
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import common

from tinygrad_edu import RULES, Rule
from tinygrad_edu.testing import from_jax, from_torch, prove_rule, ulps
from tinygrad_edu.testing.check.mathematics import reference_of
from tinygrad_edu.testing.check.points import grid_of

NAMES = {  # ours: (JAX, PyTorch)
    "tanh": ("numpy.tanh", "tanh"),
    "sigmoid": ("nn.sigmoid", "nn.functional.sigmoid"),
    "softplus": ("nn.softplus", "nn.functional.softplus"),
    "elu": ("nn.elu", "nn.functional.elu"),
    "leaky_relu": ("nn.leaky_relu", "nn.functional.leaky_relu"),
    "silu": ("nn.silu", "nn.functional.silu"),
    "gelu": ("nn.gelu", "nn.functional.gelu"),
    "expm1": ("numpy.expm1", "expm1"),
    "log1p": ("numpy.log1p", "log1p"),
    "atan": ("numpy.arctan", "atan"),
    "asinh": ("numpy.arcsinh", "asinh"),
    "erf": ("scipy.special.erf", "erf"),
}


def worst(rule: Rule, exact: Rule, points: list[float]) -> list[tuple[float, float]]:
    """The largest error in ulps and where: of the value, and of the slope."""
    worst = [(0.0, math.nan)] * 2
    reference = reference_of(exact)
    for x in points:
        out = rule.forward(x)
        pairs = (out, reference.value((x,))), (rule.shares(1.0, out, x)[0], reference.exact_slopes((x,))[0])
        for i, (got, right) in enumerate(pairs):
            worst[i] = max(worst[i], (ulps(got, right), x))
    return worst


def attribute(library: Any, path: str) -> Callable[..., Any]:
    f = functools.reduce(getattr, path.split("."), library)
    return (
        functools.partial(f, approximate=False) if path == "nn.gelu" else f
    )  # JAX's default is a formula by tanh


def contenders(name: str) -> dict[str, Rule]:
    """Ours, and the same function elsewhere, where that library is installed."""
    rules = {"ours": RULES[name]}
    with contextlib.suppress(ImportError):
        import jax
        import jax.scipy

        rules[f"JAX {jax.__version__}"] = from_jax(attribute(jax, NAMES[name][0]))
    with contextlib.suppress(ImportError):
        import torch

        rules[f"PyTorch {torch.__version__}"] = from_torch(attribute(torch, NAMES[name][1]), RULES[name].forward)
    return rules


def shown(error: float) -> str:
    return "no digit" if not error < 2**52 else f"{error:.3g}"


def certified(rule: Rule) -> str:
    certificate = prove_rule(rule)
    stars = [any(box.stars[i] for box in certificate.rounding) for i in (0, 1)]
    bounds = [shown(error) + "*" * star for error, star in zip(certificate.worst() or (), stars, strict=False)]
    return ", ".join(bounds) + " (formula undecided)" * (not certificate.formula_ok)


def main() -> None:
    flags = {"jax": "certify JAX's too, through their jaxprs: minutes", "markdown": "a table for a README"}
    given = common.parser_of(__doc__, 1, **flags).parse_args()
    rows: list[list[str]] = []
    for name in ["tanh"] if given.quick else NAMES:
        exact, rules = RULES[name], contenders(name)
        points = [x for (x,) in grid_of(exact) if abs(x) <= 1e3 and x not in exact.kinks]
        points = points[::40] if given.quick else points
        errors = [
            [f"{shown(error)} at {x:.6g}" for error, x in worst(rule, exact, points)] for rule in rules.values()
        ]
        bounds = [] if given.quick else [certified(exact)]
        if given.jax:
            bounds += [f"{by}: {certified(rule)}" for by, rule in rules.items() if by.startswith("JAX")]
        rows.append([name, *(value for value, _ in errors), *(slope for _, slope in errors), "; ".join(bounds)])
    heads = [f"{what}: {by}" for what in ("value", "slope") for by in contenders("tanh")]
    common.table(["ulps", *heads, "certified: value, slope"], rows, common.Settings(given))


if __name__ == "__main__":
    main()
