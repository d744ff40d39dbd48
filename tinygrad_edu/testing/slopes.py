"""The slope of a function beside a point, from its values alone: at many digits, or on floats.

At many digits a difference of a tiny step has 50 right digits, so that nothing must be estimated. The two sides of
the point are looked at separately, since the point may be a kink or the end of the domain.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import mpmath as mp

from ..engine.calculus import absolute_adjoint
from .sampling import Along, Sample, kink_between

STEP = 300  # the step is 2^-300 of |x|, or of 1: no kink hides within
PRECISION = 4 * STEP  # bits: enough for a difference of such a step to keep 50 digits after 1 + e^-300
TOLERANCE = 1e-12  # constants such as math.pi are floats, also in a function that runs on 50 digits
EPS = sys.float_info.epsilon


class Verdict(NamedTuple):
    """What the differences say of a gradient: the slope, its error, and the verdict with a note."""

    numeric: float
    estimate: float
    verdict: str
    note: str


class FloatsOnly(Exception):
    """f loses the digits beyond those of a float: `math.exp(x.data)`."""


def precision_for(numbers: Sequence[float]) -> int:
    """Bits for functions of these numbers: products and differences of tiny and huge ones keep their digits."""
    return PRECISION + 2 * max([abs(math.frexp(x)[1]) for x in numbers if x], default=0)


def one_sided(at: Along, x: Any, here: Sample, sign: int, lost: Any) -> tuple[Any, Sample | None]:
    """The slope on one side of x, and a run of f there; None where f has no slope there, inf if it has no bound.

    `lost` is what rounding to these digits can do to it: slopes that are no further apart are equal.
    Raises FloatsOnly if f has the digits of floats only: then its slope changes from steps of 2^-49 to steps of
    2^-60, and not at all from there on. The slope of a smooth f changes with every step.
    """
    unit = _unit(x)

    def slope(k: int) -> Any:
        h = sign * unit * mp.mpf(2) ** -k
        there = at(x + h)
        return there and (mp.mpf(there.out.data) - here.out.data) / h

    far, near, nearest = (slope(STEP + k) for k in (0, 2, 4))
    beside = at(x + sign * unit * mp.mpf(2) ** -STEP)
    if None in (far, near, nearest):
        return None, beside
    if abs(near - nearest) > max(lost, 1e-20 * abs(nearest)):
        if abs(far) < abs(near) < abs(nearest):
            return mp.sign(nearest) * mp.inf, beside
        power_of_the_step = abs(nearest * far - near * near) <= 1e-6 * near * near  # as h^2 of x^3 at 0
        return (mp.mpf(0) if power_of_the_step else None), beside
    apart = [abs(s - nearest) for k in (49, 60, 80) if (s := slope(k)) is not None]
    visible = max(lost, TOLERANCE * abs(nearest))
    if len(apart) == 3 and apart[0] > visible and min(apart[1:]) <= 1e-20 * apart[0]:
        raise FloatsOnly
    return nearest, beside


def _unit(x: Any) -> Any:
    """What steps are relative to."""
    return min(mp.mpf(1), abs(x)) if x else mp.mpf(1)


def at_many_digits(at: Along, x: Any, here: Sample, analytic: Any, size: float) -> Verdict:
    """Judges a gradient of 50 digits whose terms add up to `size` without their signs. Raises FloatsOnly."""
    # A node is rounded by 2^-prec of itself, its adjoint takes that to f, and a difference divides it by the step.
    moved = max(abs(node.data) * a for node, a in absolute_adjoint(here.out).items() if math.isfinite(a))
    lost = moved * mp.mpf(2) ** (STEP + 20 - mp.mp.prec) / _unit(x)
    (left, before), (right, behind) = (one_sided(at, x, here, sign, lost) for sign in (-1, 1))
    kink = kink_between(here, [run for run in (before, behind) if run])
    allowed = max(TOLERANCE * (size if math.isfinite(size) else 0), lost)

    def near(a: Any, b: Any) -> bool:
        return bool(a == b or (abs(a - b) <= max(allowed, TOLERANCE * abs(b)) and mp.isfinite(b)))

    def judged(slope: Any, note: str = "") -> Verdict:
        return Verdict(float(slope), float(allowed), "ok" if near(analytic, slope) else "WRONG", note)

    known = [slope for slope in (left, right) if slope is not None]
    if not known:
        beside = before or behind
        reason = "the slopes do not settle" if beside else "f is not defined beside this point"
        return Verdict(math.nan, math.nan, "undecided", reason)
    if len(known) == 1:
        found = judged(known[0], "from one side" if before and behind else "from one side, f ends here")
        if kink and found.verdict == "WRONG":  # the convention may have taken the other slope
            return found._replace(verdict="undecided", note=f"one side of a kink {kink}")
        return found
    if near(left, right):
        found = judged(right)
        return found._replace(note=f"one slope on both sides {kink}") if kink and found.verdict != "ok" else found
    kink = kink or "where f branches"
    if mp.isinf(left) != mp.isinf(right):
        return judged(right if mp.isinf(left) else left, f"one side is infinitely steep or a jump, {kink}")
    nearest = analytic if min(known) <= analytic <= max(known) else min(known, key=lambda s: abs(s - analytic))
    note = f"slopes {float(left):.4g} and {float(right):.4g} {kink}"
    return judged(nearest, note)._replace(verdict="kink" if near(analytic, nearest) else "WRONG")


def on_floats(at: Along, x: float, here: Sample, analytic: float) -> Verdict:
    """Judges a gradient by differences of a fixed step, 2^-17 of |x| or of 1, and by a quarter of it.

    Where f is smooth, the gap between the slopes on both sides shrinks with the step; at a kink it stays.
    """
    note, value, h = "by differences of floats", here.out.data, 2.0**-17 * max(1.0, abs(x))
    runs = [[at(x + sign * step) for sign in (-1, 1)] for step in (h, h / 4)]
    if any(run is None for pair in runs for run in pair):
        return Verdict(math.nan, math.nan, "undecided", f"f is not defined at a distance of {h:g}")
    (left, right), (near_left, near_right) = (
        [sign * (run.out.data - value) / step for sign, run in zip((-1, 1), pair, strict=True) if run]
        for step, pair in zip((h, h / 4), runs, strict=True)
    )
    coarse, fine = (left + right) / 2, (near_left + near_right) / 2
    rounding = 16 * EPS * max(abs(run.out.data) for pair in runs for run in pair if run) / h
    error = 8 * (abs(fine - coarse) + rounding)
    gap = abs(near_right - near_left)
    if gap > max(error, 0.75 * abs(right - left)):
        low, high = sorted((near_left, near_right))
        verdict = "kink" if low - error <= analytic <= high + error else "WRONG"
        return Verdict(min(max(analytic, low), high), error, verdict, f"slopes {low:.4g} and {high:.4g}, {note}")
    if abs(fine - coarse) > 0.1 * abs(fine) or abs(analytic - fine) <= error > 1e-3 * max(
        abs(analytic), abs(fine)
    ):
        return Verdict(fine, error, "undecided", note)
    return Verdict(fine, error, "ok" if abs(analytic - fine) <= error else "WRONG", note)


def by_recipe(at: Along, x: float, analytic: float, h: float, passes: Any) -> Verdict:
    """The textbooks' check: a central difference of one step, and a fixed tolerance."""
    up, down = at(x + h), at(x - h)
    if up is None or down is None:
        return Verdict(math.nan, math.nan, "undecided", f"f is not defined at a distance of {h:g}")
    numeric = (up.out.data - down.out.data) / (2 * h)
    return Verdict(numeric, math.nan, "ok" if passes(analytic, numeric) else "WRONG", "")
