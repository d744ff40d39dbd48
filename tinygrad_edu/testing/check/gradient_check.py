"""gradcheck: is the gradient of a function the slope of its values?

The function runs on numbers of several hundred bits, so that a difference of a tiny step has 50 right digits, and
so has the engine's gradient. A function that takes floats only is checked by differences of a fixed step.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ...engine.calculus import absolute_adjoint, gradients
from ...engine.graph import topological_order
from ...engine.value import Value
from ...viz.rich import Report
from ...viz.words import columns
from .slopes import Sampled, Verdict, by_recipe, many_digits, names_of, on_floats, shown

__tracebackhide__ = True  # pytest shows the user's line, not ours

DIGITS = "50 digits"
_RECIPES: dict[str, tuple[float, Callable[[float, float], bool]]] = {  # the step, and what passes
    "absolute": (1e-4, lambda a, n: abs(a - n) < 1e-2),
    "relative": (1e-7, lambda a, n: relative_error(a, n) < 1e-5),
}


def relative_error(a: float, n: float) -> float:
    return 0.0 if a == n else abs(a - n) / (abs(a) + abs(n))


class GradientRow(NamedTuple):
    """One input: its gradient by the engine and by differences, and the verdict: ok, WRONG, kink or undecided.

    `estimate` is the error that `numeric` may have, nan where the method gives none. At a kink, `numeric` is the
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
        return relative_error(self.analytic, self.numeric)

    def cells(self) -> list[str]:
        """The row as text; a wrong slope with as many digits as it takes to see it."""
        digits, error = 4, self.relative_error
        if self.verdict == "WRONG" and error > 0:
            digits = max(4, 2 - math.floor(math.log10(error)))
        slopes = [f"{slope:.{digits}g}" for slope in (self.analytic, self.numeric)]
        return [self.name, f"{self.value:.4g}", *slopes, f"{self.estimate:.1g}", f"{error:.1g}", self.verdict]


class GradientReport(Report):
    """What gradcheck found: `rows`, one per input, and `ok`. It prints as a table."""

    def __init__(self, function: str, recipe: str, rows: list[GradientRow]):
        self.function: str = function
        self.recipe: str = recipe
        self.rows: list[GradientRow] = rows

    @property
    def ok(self) -> bool:
        """Is no input WRONG?"""
        return all(row.verdict != "WRONG" for row in self.rows)

    def __repr__(self) -> str:
        head = ["input", "value", "analytic", "numeric", "estimate", "rel. error", "verdict", ""]
        table = columns([head, *([*row.cells(), row.note] for row in self.rows)], "<>>>>>")
        inputs = f"{len(self.rows)} input" + "s" * (len(self.rows) > 1)
        return "\n".join([f"gradcheck of {self.function}, {inputs}, recipe {self.recipe!r}", *table])


class GradientMismatch(AssertionError):
    """A gradient is wrong. The message names the input and the first wrong node; `report` has all inputs."""

    def __init__(self, message: str, report: GradientReport):
        super().__init__(f"{message}\n\n{report!r}")
        self.report = report


def gradcheck(f: Callable[..., Any], *inputs: Any, recipe: str = DIGITS) -> GradientReport:
    """Compare the engine's gradient of f, input by input, with differences of f.

    f is called as by `grad`: the inputs are numbers, Values, lists or dicts of them, and f gets fresh Values
    (of floats: Fractions and mpmath numbers are rounded). f returns one number. No `.grad` of yours is written.

    The verdicts: "ok"; "WRONG"; "kink", the gradient lies between the slopes on the two sides; "undecided", f has
    no slope to compare with, or floats overflow where the formula does not. A note says where the gradient is
    right but floats lose its digits. If f takes floats only (`math.exp(x.data)`), the differences have a fixed
    step, about 1e-5, and an estimate of their error.

    Raises GradientMismatch if a gradient is wrong; ValueError or TypeError if there is nothing to check.

    >>> from tinygrad_edu import RULES, log, relu, rule
    >>> gradcheck(lambda x, w: x * w[0] + relu(w[1]), 0.5, [2.0, 0.0])
    gradcheck of <lambda>, 3 inputs, recipe '50 digits'
    input  value  analytic  numeric  estimate  rel. error  verdict
    x        0.5         2        2     2e-12           0  ok
    w[0]       2       0.5      0.5     5e-13           0  ok
    w[1]       0         0        0    6e-272           0  kink     slopes 0 and 1 beside relu(w[1]=0)

    The textbooks' recipes have a fixed step. "absolute" takes h = 1e-4 and passes |a - n| < 1e-2; so it passes a
    small gradient that is wrong, and rejects a correct one where x is not large beside the step:

    >>> double = rule(lambda x: 2 * x, backward=lambda upstream, out, x: (3 * upstream,), name="double")
    >>> _ = RULES.pop("double")  # it is wrong: leave it to this example
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
    if not isinstance(recipe, str) or recipe not in (DIGITS, *_RECIPES):
        raise ValueError(
            f"gradcheck has no recipe {recipe!r}: choose one of {', '.join(map(repr, (DIGITS, *_RECIPES)))}."
        )
    if not callable(f):
        raise TypeError(f"gradcheck(f, *inputs) takes a function f first, got {f!r} ({type(f).__name__}).")
    if not inputs:
        raise TypeError("gradcheck needs at least one input to check the gradient for: gradcheck(f, 2.0).")
    call = Sampled(f, inputs, names_of(f, inputs))
    if not call.numbers:
        raise ValueError("gradcheck got empty lists: there is no number to check the gradient for.")
    here, again = (call.sample(call.numbers).out.data for _ in range(2))
    if not math.isfinite(here):
        raise ValueError(f"f is {here} at the inputs, so it has no gradient there: check it where it is finite.")
    if here != again:
        raise ValueError(
            f"f changes from call to call: at the same inputs it gave {float(here)!r}, then {float(again)!r}. "
            "Let it draw its random numbers from a generator that is seeded anew in each call."
        )
    name = getattr(f, "__name__", "") or getattr(f, "name", type(f).__name__)
    report = GradientReport(name, recipe, list(_rows(call, recipe)))
    if not report.ok:
        raise GradientMismatch(_explanation(call, report), report)
    return report


def _rows(call: Sampled, recipe: str) -> Iterator[GradientRow]:
    """One row for each input, made when asked for."""
    here, on_digits = call.sample(call.numbers), many_digits(call)
    analytics = [float(slope) for slope in gradients(here.out, here.leaves)]
    sizes = absolute_adjoint(here.out)
    for i, (name, x, leaf) in enumerate(zip(call.names, call.numbers, here.leaves, strict=True)):
        at, analytic, size = call.along(i, call.numbers), analytics[i], sizes.get(leaf, 0.0)
        if recipe != DIGITS:
            outcome = by_recipe(at, x, analytic, *_RECIPES[recipe])
        else:
            outcome = on_digits(i) or on_floats(at, x, here, analytic)
            outcome = _with_lost_digits(outcome, analytic, size)
        if outcome.verdict == "ok" and leaf not in sizes:
            outcome = outcome._replace(note=outcome.note or "f does not depend on it")
        yield GradientRow(name, x, analytic, *outcome)


def _with_lost_digits(outcome: Verdict, analytic: float, size: float) -> Verdict:
    """The verdict on a gradient whose formula is right, with a note if the float is not."""
    if outcome.verdict != "ok" or outcome.note or analytic == outcome.numeric:
        return outcome
    if not math.isfinite(analytic):
        note = f"the formula gives {outcome.numeric:.4g}, floats overflow on the way"
        return outcome._replace(verdict="undecided", note=note)
    unit = max(abs(outcome.numeric), size)
    error = abs(analytic / unit - outcome.numeric / unit)
    if not error >= 1e-6:
        return outcome
    digits = max(0, math.floor(-math.log10(error)))
    return outcome._replace(note=f"the formula is right, but floats keep {digits} of 16 digits")


def _first_wrong_node(out: Value) -> str:
    """What is wrong with the first node whose rule disagrees with its own forward; "" if none does."""
    for node in topological_order(out):
        numbers = [p.data for p in node.parents]
        if node.rule is None or not all(map(math.isfinite, [node.data, *numbers])):
            continue
        alone = Sampled(node.rule, numbers, [f"operand {i}" for i in range(len(numbers))])
        for i, row in enumerate(_rows(alone, DIGITS)):
            if row.verdict == "WRONG":
                _, _, analytic, numeric, *_ = row.cells()
                return f"{shown(node)}: its rule gives operand {i} the slope {analytic}, expected is {numeric}"
        once, twice = (node.rule.shares(upstream, node.data, *numbers) for upstream in (1.0, -2.0))
        for i, (a, b) in enumerate(zip(once, twice, strict=True)):
            if a == a and not math.isclose(-2 * a, b, abs_tol=1e-300):
                shares = f"for upstream -2, operand {i} gets the share {b:.4g}, expected is {-2 * a:.4g}"
                return f"{shown(node)}: its rule does not multiply by upstream: {shares}"
    return ""


def _explanation(call: Sampled, report: GradientReport) -> str:
    row = next(row for row in report.rows if row.verdict == "WRONG")
    here = call.sample(call.numbers)
    if wrong := _first_wrong_node(here.out):
        return f"The gradient for {row.name} is wrong, first at {wrong}."
    if report.recipe != DIGITS:
        why = f"the recipe's fixed step may be to blame: recipe={DIGITS!r} has none"
    elif not math.isfinite(row.analytic):
        why = "an infinite slope has met a slope of 0"
    elif here.out.rule is None:
        why = "f returns a plain number, made outside the graph from `.data` or the like"
    elif "beside" in row.note or "branches" in row.note:
        why = "what the rules agree on for a kink (relu' = 0) need not hold for f as a whole"
    else:
        why = "most likely the graph is cut: f reads `.data`, or makes a plain number on the way"
    return f"The gradient for {row.name} is wrong, but no node is wrong by itself: {why}."
