"""Activations and their slopes in ulps: ours (certified), JAX and PyTorch where installed (tested at hard points).

python tests/benchmarks/derivatives.py
"""

import math
from collections.abc import Callable
from typing import Any

from tinygrad_edu import RULES, Rule
from tinygrad_edu.testing import from_jax, from_torch, prove_rule, ulps
from tinygrad_edu.testing.mathematics import reference_of
from tinygrad_edu.testing.points import grid_of

NAMES = {  # ours: (JAX, PyTorch)
    "tanh": ("numpy.tanh", "tanh"),
    "sigmoid": ("nn.sigmoid", "sigmoid"),
    "softplus": ("nn.softplus", "nn.functional.softplus"),
    "expm1": ("numpy.expm1", "expm1"),
    "log1p": ("numpy.log1p", "log1p"),
    "elu": ("nn.elu", "nn.functional.elu"),
    "silu": ("nn.silu", "nn.functional.silu"),
    "atan": ("numpy.arctan", "atan"),
    "erf": ("scipy.special.erf", "erf"),
}


def worst_slope(rule: Rule, exact: Any) -> tuple[float, float]:
    """The largest error of the slope in ulps at hard points up to 1e3, and the float where it was."""
    worst = 0.0, math.nan
    for (x,) in grid_of(RULES[exact.name]):
        if abs(x) > 1e3 or x in exact.kinks:
            continue
        slope = rule.shares(1.0, rule.forward(x), x)[0]
        error = ulps(slope, reference_of(exact).exact_slopes((x,))[0])
        worst = max(worst, (error, x))
    return worst


def attribute(library: Any, path: str) -> Callable[..., Any]:
    for part in path.split("."):
        library = getattr(library, part)
    return library


def others(name: str) -> dict[str, Rule]:
    """The same function elsewhere, where that library is installed."""
    found = {}
    try:
        import jax
        import jax.scipy

        found["JAX " + jax.__version__] = from_jax(attribute(jax, NAMES[name][0]))
    except ImportError:
        pass
    try:
        import torch

        found["PyTorch " + torch.__version__] = from_torch(attribute(torch, NAMES[name][1]), RULES[name].forward)
    except ImportError:
        pass
    return found


def main() -> None:
    print(f"{'slope of':<10}{'by':<22}{'tested, ulps':>14}  {'worst at':<24}certified, ulps")
    for name in NAMES:
        exact = RULES[name]
        for library, rule in {"tinygrad_edu": exact, **others(name)}.items():
            error, x = worst_slope(rule, exact)
            bound = prove_rule(exact).worst() if rule is exact else None
            print(f"{name:<10}{library:<22}{error:>14.4g}  {x!r:<24}{'' if bound is None else f'{bound[1]:.3g}'}")


if __name__ == "__main__":
    main()
