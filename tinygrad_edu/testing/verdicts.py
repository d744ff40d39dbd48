"""One slope of the engine beside the differences of the function: right, wrong, a kink, or not decided."""

import math
import statistics
from collections.abc import Callable

from .differences import NOTHING, SAFETY, Limit, limit_of, steps_of
from .sampling import EPS, Along, Sample, kink_between

Found = tuple[float, float, str, str]  # numeric, estimate, verdict, note


def by_fixed_step(
    at: Along,
    x: float,
    analytic: float,
    h: float,
    passes: Callable[[float, float], bool],
) -> Found:
    up, down = at(x + h), at(x - h)
    if up is None or down is None:
        return math.nan, math.nan, "undecided", f"f is not defined at a distance of {h:g}"
    numeric = (up.value - down.value) / (2 * h)
    return numeric, math.nan, "ok" if passes(analytic, numeric) else "WRONG", ""


def _judge(analytic: float, limit: Limit, size: float) -> str:
    """The verdict on a slope whose terms add up to `size` without their signs."""
    allowed = SAFETY * (limit.error + EPS * size)
    if analytic == limit.slope:
        return "ok"
    if math.isinf(limit.slope):  # a finite slope steeper than all differences seen is still possible
        possible = analytic * math.copysign(1.0, limit.slope) > limit.left_open / 2
        return "undecided" if possible else "WRONG"
    if not limit.settled or (math.isinf(analytic) and allowed > 1e-3 * abs(limit.slope)):
        return "undecided"
    if not abs(analytic - limit.slope) <= allowed:
        return "WRONG"
    return "ok" if allowed <= 1e-3 * size else "undecided"


def by_richardson(at: Along, here: Sample, x: float, analytic: float, size: float) -> Found:
    """By central differences; at a kink or at the end of the domain by one-sided ones."""
    steps = [h for series in steps_of(x) for h in series]
    if not steps:
        return math.nan, math.nan, "undecided", "x is so small that no step is smaller"
    smallest = steps[-1]
    beside = {sign: at(x + sign * smallest) for sign in (-1, 1)}
    kink = kink_between(here, [run for run in beside.values() if run])

    def central(h: float) -> tuple[float, float] | None:
        down, up = at(x - h), at(x + h)
        if down is None or up is None or not down.path == up.path == here.path:
            return None
        return _quotient(up, down, (x + h) - (x - h))

    def one_sided(sign: int, nearby: bool) -> Limit:
        near, start = beside[sign], x + sign * smallest if nearby else x

        def difference(h: float) -> tuple[float, float] | None:
            there = at(x + sign * h)
            if near is None or there is None or near.path != there.path or x + sign * h == start:
                return None
            return _quotient(there, near if nearby else here, (x + sign * h) - start)

        return limit_of(difference, x, 1)

    limit = limit_of(central, x, 2)
    smooth = _judge(analytic, limit, size)
    if smooth == "WRONG" and _jumpy(at, here, x):
        return limit.slope, limit.error, "undecided", "f has no digits here: it jumps from one float to the next"
    if smooth == "ok" or (smooth == "undecided" and limit is not NOTHING):
        return _found(limit, smooth)
    for nearby in (False, True):  # the kink may be between x and the smallest step
        left, right = one_sided(-1, nearby), one_sided(1, nearby)
        known = [side for side in (left, right) if side is not NOTHING]
        if all(side.settled or math.isinf(side.slope) for side in known):
            break
    else:
        return _found(limit, "undecided")
    if not known:
        return _found(limit, "undecided", "" if any(beside.values()) else "f is not defined beside this point")
    if len(known) == 1:
        verdict = _judge(analytic, known[0], size)
        if kink and verdict == "WRONG":  # the other slope may be the one that the convention took
            return _found(known[0], "undecided", f"one side of a kink {kink}")
        return _found(known[0], verdict, "from one side" if all(beside.values()) else "from one side, f ends here")
    if left.agrees(right):
        if limit is not NOTHING:
            return _found(limit, smooth)
        both = max(left, right, key=lambda side: side.error)
        return _found(both, _judge(analytic, both, size), f"one slope on both sides {kink}")
    if any(math.isinf(side.slope) for side in known) and not all(math.isinf(side.slope) for side in known):
        finite = next(side for side in known if math.isfinite(side.slope))
        return _found(
            finite,
            _judge(analytic, finite, size),
            f"one side is infinitely steep or a jump, {kink or 'where f branches'}",
        )
    low, high = sorted(known)
    error = max((side.error for side in known if math.isfinite(side.slope)), default=0.0)
    nearest = min(max(analytic, low.slope), high.slope)
    between = nearest == analytic or abs(nearest - analytic) <= SAFETY * (error + EPS * size)
    note = f"slopes {left.slope:.4g} and {right.slope:.4g} {kink or 'where f branches'}"
    return nearest, error, "kink" if between else "WRONG", note


def _found(limit: Limit, verdict: str, note: str = "") -> Found:
    if verdict == "undecided" and not limit.settled and not note:
        note = "the differences do not settle on a slope"
    return limit.slope, math.nan if math.isinf(limit.slope) else limit.error, verdict, note


def _jumpy(at: Along, here: Sample, x: float) -> bool:
    """Does f, as sin(1e30), change as much by rounding, or from one float to the next, as over a middling step?"""

    def change(points: list[float]) -> list[float]:
        return [abs(there.value - here.value) for point in points if (there := at(point))]

    close = change([math.nextafter(x, side) for side in (math.inf, -math.inf)])
    far = statistics.median(change([x + side * h for h in steps_of(x)[0] for side in (1, -1)]) or [math.inf])
    return min(close, default=0.0) > 1e-6 * far or here.noise > far > 0


def _quotient(a: Sample, b: Sample, run: float) -> tuple[float, float] | None:
    slope = (a.value - b.value) / run
    return (slope, (a.noise + b.noise) / abs(run)) if math.isfinite(slope) else None
