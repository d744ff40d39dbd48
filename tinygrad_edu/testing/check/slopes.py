"""Runs of a function on fresh Values, and its slope beside a point, from its values alone.

At many digits a difference of a tiny step has 50 right digits, so that nothing must be estimated. The two sides of
the point are looked at separately, since the point may be a kink or the end of the domain.
"""

import contextlib
import inspect
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import mpmath as mp

from ...engine.calculus import _flat, _shaped, absolute_adjoint, gradients
from ...engine.graph import topological_order
from ...engine.scalar import as_real
from ...engine.value import Value

STEP = 300  # the step is 2^-300 of |x|, or of 1: no kink hides within
PRECISION = 4 * STEP  # bits: enough for a difference of such a step to keep 50 digits after 1 + e^-300
TOLERANCE = 1e-12  # constants such as math.pi are floats, also in a function that runs on 50 digits
EPS = sys.float_info.epsilon


# --- Runs of a function ---------------------------------------------------------------------------------------


class Sample(NamedTuple):
    """One run of f: its leaves, its result, and the path: the rules in order, each with its side of a kink.

    A leaf is on the path as ("", its number among the inputs).
    """

    leaves: list[Value]
    out: Value
    path: list[tuple[str, Any]]


Along = Callable[[Any], Sample | None]  # f of one input; None where f is not defined or not finite


class Sampled:
    """f of a row of named numbers, called on fresh Values of float(x), mpf(x) ..."""

    def __init__(self, f: Callable[..., Any], inputs: Any, names: list[str]):
        self.f: Callable[..., Any] = f
        self.inputs: Any = inputs
        self.names: list[str] = names
        self.numbers: list[float] = list(map(_number, _flat(inputs), names))

    def sample(self, numbers: list[Any]) -> Sample:
        """f of these numbers. Raises TypeError unless f returns one number."""
        leaves = [Value(x, label=name) for x, name in zip(numbers, self.names, strict=True)]
        result = self.f(*_shaped(self.inputs, iter(leaves)))
        if isinstance(result, list | tuple):
            raise TypeError(
                f"f must return one number, got a {type(result).__name__}: check its parts one by one."
            )
        try:
            out = result if isinstance(result, Value) else Value(result)
        except TypeError as error:
            raise TypeError(f"f must return one number. {error}") from None
        places = {leaf: i for i, leaf in enumerate(leaves)}
        path = [
            (node.rule.name, side_of(node)) if node.rule else ("", places.get(node))
            for node in topological_order(out)
        ]
        return Sample(leaves, out, path)

    def along(self, i: int, numbers: list[Any]) -> Along:
        """f as a function of input i alone, the others being those of `numbers`."""

        def at(x: Any) -> Sample | None:
            try:
                there = self.sample([*numbers[:i], x, *numbers[i + 1 :]])
            except (ValueError, ArithmeticError):
                return None
            return there if math.isfinite(there.out.data) else None

        return at


def _number(x: Any, name: str) -> float:
    try:
        number = float(as_real(x.data if isinstance(x, Value) else x))
    except TypeError as error:
        raise TypeError(f"Input {name} of gradcheck is no number. {error}") from None
    if not math.isfinite(number):
        raise ValueError(
            f"Input {name} of gradcheck is {number}: a gradient can be checked at finite numbers only."
        )
    return number


def names_of(f: Callable[..., Any], inputs: tuple[Any, ...]) -> list[str]:
    """The names of the inputs: their labels, or else what the signature of f says: x, w[0], w[1][2]."""
    try:
        arguments = inspect.signature(f).bind(*inputs).arguments
    except (TypeError, ValueError):  # no signature; or the wrong number of inputs, which f itself will say
        arguments = {f"input {i}": x for i, x in enumerate(inputs)}

    def walk(name: str, x: Any) -> Iterator[str]:
        if isinstance(x, dict | list | tuple) or getattr(x, "ndim", 0) > 0:
            for i, part in ((key, x[key]) for key in sorted(x, key=repr)) if isinstance(x, dict) else enumerate(x):
                yield from walk(f"{name}[{i!r}]", part)
        else:
            yield getattr(x, "label", "") or name

    return [name for argument, x in arguments.items() for name in walk(argument, x)]


def side_of(node: Value) -> Any:
    """The side of its kinks on which an interior node was computed."""
    numbers = [p.data for p in node.parents]
    if node.rule.name == "where":
        return bool(numbers[0])
    if node.rule.ties:
        return [x == node.data for x in numbers]
    return [(x > kink) - (x < kink) for kink in node.rule.kinks for x in numbers]


def kink_between(here: Sample, beside: list[Sample]) -> str:
    """Where the paths of the runs beside x leave the path at x; "" if they do not."""
    paths = [run.path for run in beside]
    for node, way, *others in zip(topological_order(here.out), here.path, *paths, strict=False):
        if any(other != way for other in others):
            same_rule = node.rule and {other[0] for other in others} == {way[0]}
            return f"beside {shown(node)}" if same_rule else "where f branches"
    return "where f branches" if any(len(path) != len(here.path) for path in paths) else ""


def shown(node: Value) -> str:
    """A node as the call that made it, with its operands: mul(x=2, 0.5)."""
    numbers = [(p.label, float(p.data)) for p in node.parents]
    operands = [f"{label}={x:.4g}" if label else f"{x:.4g}" for label, x in numbers]
    return (
        f"{node.rule.name}({', '.join(operands if len(operands) < 7 else [*operands[:5], '...', operands[-1]])})"
    )


# --- Slopes -------------------------------------------------------------------------------------------------


class Verdict(NamedTuple):
    """What the differences say of a gradient: the slope, its error, and the verdict with a note."""

    numeric: float
    estimate: float
    verdict: str
    note: str


class FloatsOnly(Exception):
    """f loses the digits beyond those of a float: `math.exp(x.data)`."""


def many_digits(call: Sampled) -> Callable[[int], Verdict | None]:
    """A function that judges the gradient for input i by hundreds of bits: None if f takes floats only."""
    # products and differences of tiny and huge numbers keep their digits
    precision = PRECISION + 2 * max(abs(math.frexp(x)[1]) for x in call.numbers)
    try:
        with mp.workprec(precision):
            numbers = list(map(mp.mpf, call.numbers))
            here = call.sample(numbers)
            analytics = gradients(here.out, here.leaves)
            sizes = {node: a for node, a in absolute_adjoint(here.out).items() if 0 < a < math.inf}
            moved = sum(abs(node.data) * a for node, a in sizes.items())  # what rounding every node does to f
    except Exception:  # whatever a function for floats raises
        return lambda i: None

    def verdict(i: int) -> Verdict | None:
        size = sizes.get(here.leaves[i], 0)
        with mp.workprec(precision), contextlib.suppress(FloatsOnly, TypeError):
            return _judged(call.along(i, numbers), numbers[i], here, mp.mpf(analytics[i]), size, moved * mp.eps)
        return None

    return verdict


def _judged(at: Along, x: Any, here: Sample, analytic: Any, size: Any, rounding: Any) -> Verdict:
    h = mp.ldexp(min(1, abs(x)) or 1, -STEP)
    lost = rounding / h
    beside = [run for step in (-h, h) if (run := at(x + step))]
    kink = kink_between(here, beside)
    allowed = max(TOLERANCE * size, lost)

    def value(x: Any) -> Any:
        return None if (run := at(x)) is None else mp.mpf(run.out.data)

    def slope_beside(h: Any) -> Any:
        slope = one_sided(value, x, mp.mpf(here.out.data), h, lost)
        if slope is not None and mp.isfinite(slope):
            _refuse_floats(value, x, h, slope, lost)
        return slope

    def near(a: Any, b: Any) -> bool:
        return bool(a == b or abs(a - b) <= max(allowed, TOLERANCE * abs(b), math.ulp(0.0)) < mp.inf)

    def judged(slope: Any, note: str = "") -> Verdict:
        return Verdict(float(slope), float(allowed), "ok" if near(analytic, slope) else "WRONG", note)

    left, right = slope_beside(-h), slope_beside(h)
    known = [slope for slope in (left, right) if slope is not None]
    if not known:
        reason = "the slopes do not settle" if beside else "f is not defined beside this point"
        return Verdict(math.nan, math.nan, "undecided", reason)
    if len(known) == 1:
        outcome = judged(known[0], "from one side" + ", f ends here" * (len(beside) < 2))
        if kink and outcome.verdict == "WRONG":  # the convention may have taken the other slope
            return outcome._replace(verdict="undecided", note=f"one side of a kink {kink}")
        return outcome
    if near(left, right):
        outcome = judged(right)
        if not kink or outcome.verdict == "ok":
            return outcome
        if mp.isinf(right):  # the slope there is a convention
            return outcome._replace(verdict="undecided", note=f"a jump {kink}")
        return outcome._replace(note=f"one slope on both sides {kink}")
    kink = kink or "where f branches"
    if mp.isinf(left) != mp.isinf(right):
        return judged(right if mp.isinf(left) else left, f"one side is infinitely steep or a jump, {kink}")
    nearest = max(min(known), min(analytic, max(known)))
    note = f"slopes {float(left):.4g} and {float(right):.4g} {kink}"
    return judged(nearest, note)._replace(verdict="kink" if near(analytic, nearest) else "WRONG")


def one_sided(f: Callable[[Any], Any], x: Any, here: Any, h: Any, lost: Any, vague: float = 0) -> Any:
    """The slope of f on the side of x where x + h lies: a number, inf if it has no bound, None if there is none.

    f(x) is `here`; f returns None where it is not defined. A step is a quarter of the one before. Where the slope
    still changes after four, each change is the one before times a factor, which gives the limit: 1/4 for a
    smooth f, more than 1 at a jump and beside sqrt(x) at 0. Slopes are equal if no further apart than `lost`,
    which is what rounding can do. A limit of 0 may be off by `vague`, relative to the slope of the last step.
    """
    slopes = list[Any]()
    for step in (h, h / 4, h / 16, h / 64):
        if (there := f(x + step)) is None:
            return None
        slope = (there - here) / step
        if slopes and abs(slope - slopes[-1]) <= max(lost, 1e-20 * abs(slope)):
            return slope
        slopes.append(slope)
    first, second, third = (a - b for a, b in itertools.pairwise(slopes))
    factor = third / second
    apart = abs(second / first - factor)
    if not apart <= 1e-8 * factor:  # it bends within the step
        return None
    if factor > 1 - 1e-8:  # 1 beside x log x at 0
        return mp.sign(slope) * mp.inf
    limit = slope - third * factor / (1 - factor)
    return limit if abs(limit) > max(1e3 * apart, vague) * abs(slope) else mp.mpf(0)  # beside x^1.5 at 0


def _refuse_floats(f: Callable[[Any], Any], x: Any, h: Any, slope: Any, lost: Any) -> None:
    """Raises FloatsOnly if f has the digits of floats only.

    Then its slope changes from steps of 2^-49 to steps of 2^-60, and not at all from there on. The slope of a
    smooth f changes with every step. Where it is 0, as that of x^4, it must not change in any digit.
    """
    steps = [h * mp.mpf(2) ** (STEP - k) for k in (49, 60, 80)]
    apart = [abs((there - f(x)) / step - slope) for step in steps if (there := f(x + step)) is not None]
    visible = max(lost, TOLERANCE * abs(slope))
    if len(apart) == 3 and apart[0] > visible and min(apart[1:]) <= (1e-20 * apart[0] if slope else 0):
        raise FloatsOnly


def on_floats(at: Along, x: float, here: Sample, analytic: float) -> Verdict:
    """Judges a gradient by differences of a fixed step, 2^-17 of |x| or of 1, and by a quarter of it.

    Where f is smooth, the gap between the slopes on both sides shrinks with the step; at a kink it stays.
    """
    note, h = "by differences of floats", 2.0**-17 * max(1.0, abs(x))
    steps = (-h, -h / 4, h / 4, h)
    runs = [run for step in steps if (run := at(x + step))]
    if len(runs) < 4:
        return Verdict(math.nan, math.nan, "undecided", f"f is not defined at a distance of {h:g}")
    slopes = [(run.out.data - here.out.data) / step for run, step in zip(runs, steps, strict=True)]
    far_left, left, right, far_right = slopes
    coarse, fine = (far_left + far_right) / 2, (left + right) / 2
    error = 10 * (abs(fine - coarse) + EPS * max(abs(run.out.data) for run in runs) / h)
    if abs(right - left) > max(error, 0.75 * abs(far_right - far_left)):
        low, high = sorted((left, right))
        nearest = min(max(analytic, low), high)
        verdict = "kink" if abs(analytic - nearest) <= error else "WRONG"
        return Verdict(nearest, error, verdict, f"slopes {low:.4g} and {high:.4g}, {note}")
    verdict = "ok" if abs(analytic - fine) <= error else "WRONG"
    is_rough = error > 1e-3 * max(abs(analytic), abs(fine))
    if abs(fine - coarse) > 0.1 * abs(fine) or (verdict == "ok" and is_rough):
        verdict = "undecided"
    return Verdict(fine, error, verdict, note)


def by_recipe(at: Along, x: float, analytic: float, h: float, passes: Any) -> Verdict:
    """The textbooks' check: a central difference of one step, and a fixed tolerance."""
    up, down = at(x + h), at(x - h)
    if up is None or down is None:
        return Verdict(math.nan, math.nan, "undecided", f"f is not defined at a distance of {h:g}")
    numeric = (up.out.data - down.out.data) / (2 * h)
    return Verdict(numeric, math.nan, "ok" if passes(analytic, numeric) else "WRONG", "")
