"""gradcheck: is the gradient of a function what its own differences say?

The engine's gradient is compared with central differences, extrapolated to step 0 by Richardson's scheme and with
an estimate of their error: what the scheme leaves open, and what rounding can do at most. Rounding is read off the
graph: every node may be off by a few eps of its own size, and its absolute adjoint says what that does to f.
"""

import copy
import inspect
import itertools
import math
import statistics
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..calculus import _flat, _shaped
from ..declare import Rule
from ..graph import topological_order
from ..scalar import as_real
from ..value import Value

_EPS = sys.float_info.epsilon
_TINY = sys.float_info.min / _EPS  # eps of it is the least number with all its digits
_SAFETY = 8.0  # a difference of so many estimates is an error of the gradient
_RECIPES: dict[str, tuple[float, Callable[[float, float], bool]]] = {  # the step, and what passes
    "richardson": (0.0, lambda a, n: False),
    "absolute": (1e-4, lambda a, n: abs(a - n) < 1e-2),
    "relative": (1e-7, lambda a, n: _relative_error(a, n) < 1e-5),
}


def _relative_error(a: float, n: float) -> float:
    return 0.0 if a == n else abs(a - n) / (abs(a) + abs(n))


class GradientRow(NamedTuple):
    """One input: its gradient by the engine and by differences, and the verdict: ok, WRONG, kink or undecided.

    `estimate` is the error that the differences may have, nan where there is none. At a kink, `numeric` is the
    number nearest to `analytic` between the two one-sided slopes, which the note gives.
    """

    name: str
    value: float
    analytic: float
    numeric: float
    estimate: float
    verdict: str
    note: str

    @property
    def relative_error(self) -> float:
        """|analytic - numeric| / (|analytic| + |numeric|), 0 if the two are equal."""
        return _relative_error(self.analytic, self.numeric)

    def cells(self) -> list[str]:
        """The row as text; a wrong slope with as many digits as it takes to see it."""
        digits, error = 4, self.relative_error
        if self.verdict == "WRONG" and 0 < error < 1:
            digits = min(max(4, 2 - math.floor(math.log10(error))), 17)
        slopes = [f"{slope:.{digits}g}" for slope in (self.analytic, self.numeric)]
        return [self.name, f"{self.value:.4g}", *slopes, f"{self.estimate:.1g}", f"{error:.1g}", self.verdict]


class GradientReport:
    """What gradcheck found: `rows`, one per input, and `ok`. It prints as a table."""

    def __init__(self, function: str, recipe: str, rows: list[GradientRow]):
        self.function, self.recipe, self.rows = function, recipe, rows

    @property
    def ok(self) -> bool:
        """Is no input WRONG?"""
        return all(row.verdict != "WRONG" for row in self.rows)

    def __repr__(self) -> str:
        head = ["input", "value", "analytic", "numeric", "estimate", "rel. error", "verdict"]
        lines = [head, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        notes = ["", *(row.note for row in self.rows)]
        table = [
            "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:-1], widths[1:-1])])
            + f"  {cells[-1].ljust(widths[-1])}  {note}".rstrip()
            for cells, note in zip(lines, notes, strict=True)
        ]
        inputs = f"{len(self.rows)} input" + "s" * (len(self.rows) > 1)
        return "\n".join([f"gradcheck of {self.function}, {inputs}, recipe {self.recipe!r}", *table])


class GradientMismatch(AssertionError):
    """A gradient is wrong. The message names the input and the first wrong node; `report` has all inputs."""

    def __init__(self, message: str, report: GradientReport):
        super().__init__(f"{message}\n\n{report!r}")
        self.report = report


def gradcheck(f: Callable[..., Any], *inputs: Any, recipe: str = "richardson") -> GradientReport:
    """Compare the engine's gradient of f, input by input, with differences of f.

    f is called as by `grad`: the inputs are numbers, Values or nested lists of them, for which f gets fresh Values
    (of floats: Fractions and mpmath numbers are rounded). f returns one number. No `.grad` of yours is written.

    The verdicts: "ok"; "WRONG"; "kink", the gradient lies between the slopes on the two sides; "undecided", the
    differences are too inexact to tell. Changes of f within 2**-30 of |x|, or of 1 at x = 0, are not seen:
    the gradient of sin(1e12 * x) at 0 is beyond it.

    Raises GradientMismatch if a gradient is wrong; ValueError or TypeError if there is nothing to check.

    >>> from tinygrad_edu import RULES, log, relu, rule
    >>> gradcheck(lambda x, w: x * w[0] + relu(w[1]), 0.5, [2.0, 0.0])
    gradcheck of <lambda>, 3 inputs, recipe 'richardson'
    input  value  analytic  numeric  estimate  rel. error  verdict
    x        0.5         2        2     8e-15           0  ok
    w[0]       2       0.5      0.5     4e-15           0  ok
    w[1]       0         0        0     3e-14           0  kink     slopes 0 and 1 beside relu(w[1]=0)

    The textbooks' recipes have a fixed step. "absolute" takes h = 1e-4 and passes |a - n| < 1e-2; so it passes a
    small gradient that is wrong, and cries wolf where x is not large beside the step:

    >>> double = rule(lambda x: 2 * x, backward=lambda upstream, out, x: (3 * upstream,), name="double")
    >>> _ = RULES.pop("double")  # it is wrong, and nobody else's
    >>> gradcheck(lambda x: double(x) / 1000, 1.0, recipe="absolute").ok
    True
    >>> gradcheck(lambda x: double(x) / 1000, 1.0)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_edu...GradientMismatch: The gradient for x is wrong, first at double(x=1): its rule gives operand ...
    >>> gradcheck(log, 0.001, recipe="absolute")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_edu...GradientMismatch: The gradient for x is wrong, but no node is wrong by itself: ...
    >>> gradcheck(log, 0.001).ok
    True

    "relative" takes h = 1e-7 and passes |a - n| / (|a| + |n|) < 1e-5; rounding alone is more than that where f is
    large beside its gradient:

    >>> gradcheck(lambda x: 1e9 + x, 1.0, recipe="relative")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    tinygrad_edu...GradientMismatch: The gradient for x is wrong, but no node is wrong by itself: ...
    >>> gradcheck(lambda x: 1e9 + x, 1.0).ok
    True
    """
    if recipe not in _RECIPES:
        raise ValueError(f"gradcheck has no recipe {recipe!r}: choose one of {', '.join(map(repr, _RECIPES))}.")
    if not callable(f):
        raise TypeError(f"gradcheck(f, *inputs) takes a function f first, got {f!r} ({type(f).__name__}).")
    if not inputs:
        raise TypeError("gradcheck needs at least one input to check the gradient for: gradcheck(f, 2.0).")
    call = _Function(f, inputs, _names(f, inputs))
    here, again = call.sample(call.numbers), call.sample(call.numbers)
    if not math.isfinite(here.value):
        raise ValueError(
            f"f is {here.value} at the inputs, so it has no gradient there: check it where it is finite."
        )
    if here.value != again.value:
        raise ValueError(
            f"f changes from call to call: at the same inputs it gave {here.value!r}, then {again.value!r}. "
            "Let it draw its random numbers from a generator that is seeded anew in each call."
        )
    name = getattr(f, "__name__", "") or getattr(f, "name", type(f).__name__)
    report = GradientReport(name, recipe, list(call.rows(recipe)))
    if not report.ok:
        raise GradientMismatch(_explanation(call, report), report)
    return report


# --- Running f ----------------------------------------------------------------------------------------------


class _Sample(NamedTuple):
    """One run of f: its value, what rounding may do to it, the way it took, and its graph."""

    value: float
    noise: float
    path: list[Any]
    leaves: list[Value]
    out: Value
    sizes: dict[Value, float]


_Along = Callable[[float], _Sample | None]  # f of one input; None where it is not defined or not finite


class _Function:
    """f of a row of named numbers, called on fresh Values."""

    def __init__(self, f: Callable[..., Any], inputs: Any, names: list[str]):
        self.f, self.inputs, self.names = f, inputs, names
        self.numbers = [_number(x, name) for x, name in zip(_flat(inputs), names, strict=True)]

    def sample(self, numbers: list[float]) -> _Sample:
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
        order = topological_order(out)
        noise, sizes = _rounding(order)
        places = {leaf: i for i, leaf in enumerate(leaves)}
        path = [(node.rule.name, _side(node)) if node.rule else places.get(node) for node in order]
        return _Sample(float(out.data), noise, path, leaves, out, sizes)

    def along(self, i: int) -> _Along:
        """f as a function of input i alone."""

        def at(x: float) -> _Sample | None:
            try:
                there = self.sample([*self.numbers[:i], x, *self.numbers[i + 1 :]])
            except (ValueError, ArithmeticError):
                return None
            return there if math.isfinite(x) and math.isfinite(there.value) else None

        return at

    def rows(self, recipe: str = "richardson") -> Iterator[GradientRow]:
        """Every input's row, made when asked for."""
        twins: dict[int, Any] = {}
        here = self.sample(self.numbers)
        copy.deepcopy(here.out, twins).backward()  # on a copy, for f may use Values that belong to others
        for i, (name, x, leaf) in enumerate(zip(self.names, self.numbers, here.leaves, strict=True)):
            analytic = float(twins[id(leaf)].grad) if id(leaf) in twins else 0.0
            found = (
                _by_richardson(self.along(i), here, x, analytic, here.sizes.get(leaf, 0.0))
                if recipe == "richardson"
                else _by_fixed_step(self.along(i), x, analytic, *_RECIPES[recipe])
            )
            yield GradientRow(name, x, analytic, *found)


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


def _names(f: Callable[..., Any], inputs: tuple[Any, ...]) -> list[str]:
    """What the inputs are called: by their labels, or else by the signature of f: x, w[0], w[1][2]."""
    try:
        arguments = inspect.signature(f.forward if isinstance(f, Rule) else f).bind(*inputs).arguments
    except (TypeError, ValueError):  # no signature; or the wrong number of inputs, which f itself will say
        arguments = {f"input {i}": x for i, x in enumerate(inputs)}

    def walk(name: str, x: Any) -> Iterator[str]:
        if isinstance(x, list | tuple) or getattr(x, "ndim", 0) > 0:
            for i, part in enumerate(x):
                yield from walk(f"{name}[{i}]", part)
        else:
            yield getattr(x, "label", "") or name

    return [name for argument, x in arguments.items() for name in walk(argument, x)]


def _rounding(order: list[Value]) -> tuple[float, dict[Value, float]]:
    """What rounding may do to the last node, and every node's absolute adjoint.

    A node is off by eps of its own size, and by eps of what each input brings to it: terms of a dot may cancel.
    A product of two tiny numbers underflows.
    """
    sizes, total = {order[-1]: 1.0}, abs(order[-1].data)
    for node in reversed(order):
        if node.rule and (size := sizes.get(node)):
            shares = node.rule.shares(1.0, node.data, *[p.data for p in node.parents])
            terms = [size * abs(node.data), size * _TINY]
            for parent, slope in zip(node.parents, shares, strict=True):
                if math.isfinite(part := size * abs(slope)):
                    sizes[parent] = sizes.get(parent, 0.0) + part
                    terms.append(part * abs(parent.data))
            total += sum(filter(math.isfinite, terms))
    return float(_EPS * total), sizes


def _side(node: Value) -> Any:
    """On which side of its kinks a node was computed."""
    numbers = [p.data for p in node.parents]
    if node.rule.name == "where":
        return bool(numbers[0])
    if node.rule.ties:
        top, bottom = max(numbers), min(numbers)
        return [(x == top, x == bottom) for x in numbers]
    return [(x > kink) - (x < kink) for kink in node.rule.kinks for x in numbers]


# --- Differences --------------------------------------------------------------------------------------------

_Difference = Callable[[float], tuple[float, float] | None]  # step -> slope and its rounding, if it can be had


class _Limit(NamedTuple):
    """What differences tend to as the step goes to 0: what the extrapolation leaves open, and what is rounding.

    For an infinite slope, left_open is the steepest difference seen.
    """

    slope: float
    left_open: float
    rounding: float

    @property
    def error(self) -> float:
        return self.left_open + self.rounding

    def agrees(self, other: "_Limit") -> bool:
        """May the two be estimates of one number?"""
        return abs(self.slope - other.slope) <= _SAFETY * (self.error + other.error)

    @property
    def settled(self) -> bool:
        """Do the differences get nearer to something at all?"""
        return self.left_open <= max(_SAFETY * self.rounding, abs(self.slope) / 100)


_NOTHING = _Limit(math.nan, math.inf, 0.0)


def _steps(x: float) -> list[list[float]]:
    """Powers of 2, which x + h and x - h barely round, falling from 1/2 or |x|/2; for a tiny x, from both."""
    size = math.frexp(x or 1.0)[1] - 2  # 2**size is |x|/2 at most
    if size > -31:
        runs = [range(max(size, -1), min(max(-31, size - 44), size - 30), -1)]
    else:
        runs = [range(-1, -31, -1), range(size, size - 30, -1)]
    series = [[math.ldexp(1.0, k) for k in run] for run in runs]
    return [[h for h in steps if x - h < x < x + h] for steps in series]


def _neville(difference: _Difference, steps: list[float], power: int) -> Iterator[tuple[float, int, _Limit]]:
    """Every estimate of the limit, from large steps to small, with its last step and its order.

    Ridders' method: T[j], from j + 1 steps, is free of the first j terms of its error c1 h^power + c2 h^2power ...
    and about as wrong as it is far from the two estimates that it was made of.
    """
    past: list[float] = []
    old: list[tuple[float, float]] = []
    for h in steps:
        found = difference(h)
        if found is None:
            past, old = [], []
            continue
        past, new = [h, *past[:7]], [found]
        for start, (coarse, its_rounding) in zip(past[1:], old, strict=False):
            (fine, rounding), ratio = new[-1], (h / start) ** power
            weight = ratio / (1 - ratio)
            new.append((fine + weight * (fine - coarse), rounding + weight * (rounding + its_rounding)))
            left_open = max(abs(new[-1][0] - fine), abs(new[-1][0] - coarse))
            yield h, len(new) - 1, _Limit(new[-1][0], left_open, new[-1][1])
        old = new


def _limit(difference: _Difference, x: float, power: int) -> _Limit:
    """The best estimate of the limit. Smaller steps overrule larger ones, which may overlook something."""
    series, best = _steps(x), _NOTHING
    probes = [list(_neville(difference, steps[-3:], power))[-1:] for steps in series]
    smallest = [(h, probe) for found in probes for h, _, probe in found]
    steps = [h for steps in series for h in steps]
    for h, order, limit in _neville(difference, steps, power):
        if all(
            limit.agrees(probe) and probe.left_open <= _SAFETY * (limit.error + probe.rounding)
            for at, probe in smallest
            if at < h
        ):
            if limit.error < best.error or not limit.agrees(best):
                best = limit
            if order >= 3 and limit.left_open <= limit.rounding:  # smaller steps only round more
                return best
    return _growing([found for h in steps[-12:] if (found := difference(h))]) or best


def _growing(found: list[tuple[float, float]]) -> _Limit | None:
    """An infinite slope, if the differences of ever smaller steps grow and grow."""
    slopes, rounding = [abs(slope) for slope, _ in found], max((r for _, r in found), default=0.0)
    growth = [after - before for before, after in itertools.pairwise(slopes)]
    steady = all(after > 0.999 * before for before, after in itertools.pairwise(growth))
    if len(found) < 12 or not steady or min(growth) <= 4 * rounding:
        return None
    return _Limit(math.copysign(math.inf, found[-1][0]), slopes[-1], 0.0)


# --- Verdicts -----------------------------------------------------------------------------------------------

_Found = tuple[float, float, str, str]  # numeric, estimate, verdict, note


def _by_fixed_step(
    at: _Along,
    x: float,
    analytic: float,
    h: float,
    passes: Callable[[float, float], bool],
) -> _Found:
    up, down = at(x + h), at(x - h)
    if up is None or down is None:
        return math.nan, math.nan, "undecided", f"f is not defined at a distance of {h:g}"
    numeric = (up.value - down.value) / (2 * h)
    return numeric, math.nan, "ok" if passes(analytic, numeric) else "WRONG", ""


def _judge(analytic: float, limit: _Limit, size: float) -> str:
    """The verdict on a slope whose terms add up to `size` without their signs."""
    allowed = _SAFETY * (limit.error + _EPS * size)
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


def _by_richardson(at: _Along, here: _Sample, x: float, analytic: float, size: float) -> _Found:
    """By central differences; at a kink or at the end of the domain by one-sided ones."""
    smallest = _steps(x)[-1][-1]
    beside = {sign: at(x + sign * smallest) for sign in (-1, 1)}
    kink = _kink(here, [run for run in beside.values() if run])

    def central(h: float) -> tuple[float, float] | None:
        down, up = at(x - h), at(x + h)
        if down is None or up is None or not down.path == up.path == here.path:
            return None
        return _quotient(up, down, (x + h) - (x - h))

    def one_sided(sign: int, nearby: bool) -> _Limit:
        near, start = beside[sign], x + sign * smallest if nearby else x

        def difference(h: float) -> tuple[float, float] | None:
            there = at(x + sign * h)
            if near is None or there is None or near.path != there.path or x + sign * h == start:
                return None
            return _quotient(there, near if nearby else here, (x + sign * h) - start)

        return _limit(difference, x, 1)

    limit = _limit(central, x, 2)
    smooth = _judge(analytic, limit, size)
    if smooth == "WRONG" and _jumpy(at, here, x):
        return limit.slope, limit.error, "undecided", "f has no digits here: it jumps from one float to the next"
    if smooth == "ok" or (smooth == "undecided" and limit is not _NOTHING):
        return _found(limit, smooth)
    for nearby in (False, True):  # the kink may be between x and the smallest step
        left, right = one_sided(-1, nearby), one_sided(1, nearby)
        known = [side for side in (left, right) if side is not _NOTHING]
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
        if limit is not _NOTHING:
            return _found(limit, smooth)
        both = max(left, right, key=lambda side: side.error)
        return _found(both, _judge(analytic, both, size), f"one slope on both sides {kink}")
    low, high = sorted(known)
    error = max((side.error for side in known if math.isfinite(side.slope)), default=0.0)
    nearest = min(max(analytic, low.slope), high.slope)
    between = nearest == analytic or abs(nearest - analytic) <= _SAFETY * (error + _EPS * size)
    note = f"slopes {left.slope:.4g} and {right.slope:.4g} {kink or 'where f branches'}"
    return nearest, error, "kink" if between else "WRONG", note


def _found(limit: _Limit, verdict: str, note: str = "") -> _Found:
    if verdict == "undecided" and not limit.settled and not note:
        note = "the differences do not settle on a slope"
    return limit.slope, math.nan if math.isinf(limit.slope) else limit.error, verdict, note


def _jumpy(at: _Along, here: _Sample, x: float) -> bool:
    """Does f, as sin(1e30), change as much by rounding, or from one float to the next, as over a middling step?"""

    def change(points: list[float]) -> list[float]:
        return [abs(there.value - here.value) for point in points if (there := at(point))]

    close = change([math.nextafter(x, side) for side in (math.inf, -math.inf)])
    far = statistics.median(change([x + side * h for h in _steps(x)[0] for side in (1, -1)]) or [math.inf])
    return min(close, default=0.0) > 1e-6 * far or here.noise > far > 0


def _quotient(a: _Sample, b: _Sample, run: float) -> tuple[float, float] | None:
    slope = (a.value - b.value) / run
    return (slope, (a.noise + b.noise) / abs(run)) if math.isfinite(slope) else None


# --- Words --------------------------------------------------------------------------------------------------


def _kink(here: _Sample, beside: list[_Sample]) -> str:
    """Where the runs beside x first part from the one at x; "" if they do not."""
    paths = [run.path for run in beside]
    for node, way, *others in zip(topological_order(here.out), here.path, *paths, strict=False):
        if any(other != way for other in others):
            same_rule = node.rule and all(other and other[0] == way[0] for other in others)
            return f"beside {_shown(node)}" if same_rule else "where f branches"
    return "where f branches" if any(len(path) != len(here.path) for path in paths) else ""


def _shown(node: Value) -> str:
    """A node as the call that made it, with its operands: mul(x=2, 0.5)."""
    operands = [f"{p.label}={p:.4g}" if p.label else f"{p:.4g}" for p in node.parents]
    return (
        f"{node.rule.name}({', '.join(operands if len(operands) < 7 else [*operands[:5], '...', operands[-1]])})"
    )


def _first_wrong_node(out: Value) -> str:
    """What is wrong with the first node whose rule disagrees with its own forward; "" if none does."""
    for node in topological_order(out):
        numbers = [p.data for p in node.parents]
        if node.rule is None or not all(map(math.isfinite, [node.data, *numbers])):
            continue
        for i, row in enumerate(
            _Function(node.rule, numbers, [f"operand {i}" for i in range(len(numbers))]).rows()
        ):
            if row.verdict == "WRONG":
                _, _, analytic, numeric, *_ = row.cells()
                return f"{_shown(node)}: its rule gives operand {i} the slope {analytic}, expected is {numeric}"
        once, twice = (node.rule.shares(upstream, node.data, *numbers) for upstream in (1.0, -2.0))
        for i, (a, b) in enumerate(zip(once, twice, strict=True)):
            if a == a and not math.isclose(-2 * a, b, rel_tol=1e-9, abs_tol=1e-300):
                shares = f"for upstream -2, operand {i} gets the share {b:.4g}, expected is {-2 * a:.4g}"
                return f"{_shown(node)}: its rule does not multiply by upstream: {shares}"
    return ""


def _explanation(call: _Function, report: GradientReport) -> str:
    row = next(row for row in report.rows if row.verdict == "WRONG")
    here = call.sample(call.numbers)
    if wrong := _first_wrong_node(here.out):
        return f"The gradient for {row.name} is wrong, first at {wrong}."
    if report.recipe != "richardson":
        why = "the recipe's fixed step may be to blame: recipe='richardson' estimates its error"
    elif not math.isfinite(row.analytic):
        why = "an infinite slope has met a slope of 0"
    elif here.out.rule is None:
        why = "f returns a plain number, made outside the graph from `.data` or the like"
    elif "beside" in row.note or "branches" in row.note:
        why = "what the rules agree on for a kink (relu' = 0) need not hold for f as a whole"
    else:
        why = "most likely the graph is cut: f reads `.data`, or makes a plain number on the way"
    return f"The gradient for {row.name} is wrong, but no node is wrong by itself: {why}."
