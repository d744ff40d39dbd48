"""Activations and their slopes, in ulps: ours, JAX's and PyTorch's.

Each is run in float64 at some 500 hard points up to 1000 in size and compared with 60 digits: *tested*, the
largest error and the float where it was. Beside it stands what `prove_rule` certifies of ours for every float; a *
counts in ulps of |x f'(x)|, what rounding the input does, where it would be more than 16 ulps. "no digit" is an
error of 2^52 ulps or more. What is not installed is left out.

python tests/benchmarks/derivatives.py [--quick] [--markdown] [--jax]
"""

import functools
import math
from collections.abc import Callable, Iterator
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
HEAD = ["", "by", "value, ulps", "worst at", "slope, ulps", "worst at", "certified: value, slope"]


def worst(rule: Rule, exact: Rule, points: list[float]) -> list[tuple[float, float]]:
    """The largest error in ulps and where: of the value, and of the slope."""
    found = [(0.0, math.nan)] * 2
    reference = reference_of(exact)
    for x in points:
        out = rule.forward(x)
        pairs = (out, reference.value((x,))), (rule.shares(1.0, out, x)[0], reference.exact_slopes((x,))[0])
        for i, (got, right) in enumerate(pairs):
            found[i] = max(found[i], (ulps(got, right), x))
    return found


def attribute(library: Any, path: str) -> Callable[..., Any]:
    f = functools.reduce(getattr, path.split("."), library)
    return (
        functools.partial(f, approximate=False) if path == "nn.gelu" else f
    )  # JAX's default is a formula by tanh


def contenders(name: str) -> Iterator[tuple[str, Rule]]:
    """Ours, and the same function elsewhere, where that library is installed."""
    yield "tinygrad_edu", RULES[name]
    try:
        import jax
        import jax.scipy

        yield f"JAX {jax.__version__}", from_jax(attribute(jax, NAMES[name][0]))
    except ImportError:
        pass
    try:
        import torch

        yield f"PyTorch {torch.__version__}", from_torch(attribute(torch, NAMES[name][1]), RULES[name].forward)
    except ImportError:
        pass


def shown(error: float) -> str:
    return "no digit" if not error < 2**52 else f"{error:.3g}"


def certified(rule: Rule) -> str:
    certificate = prove_rule(rule)
    stars = [any(box.stars[i] for box in certificate.rounding) for i in (0, 1)]
    bounds = [shown(error) + "*" * star for error, star in zip(certificate.worst() or (), stars, strict=False)]
    return ", ".join(bounds) + " (formula undecided)" * (not certificate.formula_ok)


def main() -> None:
    flags = {"jax": "certify JAX's too, through their jaxprs: minutes", "markdown": "a table for a README"}
    given = common.parser_of(__doc__, **flags).parse_args()
    between = " | " if given.markdown else "  "
    widths = [10, 20, 11, 12, 11, 12, 24]

    def line(cells: list[str]) -> None:
        text = between.join(cells if given.markdown else map(str.ljust, cells, widths))
        print(f"| {text} |" if given.markdown else text.rstrip(), flush=True)

    line(HEAD)
    if given.markdown:
        line(["---"] * len(HEAD))
    for name in ["tanh"] if given.quick else NAMES:
        exact = RULES[name]
        points = [x for (x,) in grid_of(exact) if abs(x) <= 1e3 and x not in exact.kinks]
        for library, rule in contenders(name):
            errors = worst(rule, exact, points[::40] if given.quick else points)
            tested = [text for error, x in errors for text in (shown(error), f"{x:.6g}")]
            certify = not given.quick and (rule is exact or (given.jax and library.startswith("JAX")))
            line([name, library, *tested, certified(rule) if certify else ""])


if __name__ == "__main__":
    main()
