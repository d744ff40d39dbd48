"""check_rule: hold one operation against the mathematics it stands for, over its whole domain."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable

from ..engine.rule import RULES, Rule
from ..viz.plots import empty_figure
from . import rule_properties as properties
from .mathematics import reference_of
from .points import Point, grid_of, inside, strategy_of
from .reference import Reference
from .subject import ROUNDING, RuleMismatch, Subject, as_rule, names


def check_rule(
    rule: Rule | str,
    reference: Callable[..., Any] | Reference | None = None,
    *,
    inputs: st.SearchStrategy[Any] | Sequence[st.SearchStrategy[float]] | None = None,
    bound: float | None = None,
) -> "RuleReport":
    """Test one rule all over its declared domain, at hard points and at random ones.

    There are two verdicts. Mathematics: the rule on 60 digits, and on a thousand where that is not enough, against
    the derivative of its forward function. Rounding: the digits that floats lose, where, and a better form. These
    are looked for in this order, and the first that fails is told: the number of shares; shares that are not
    proportional to upstream; a wrong formula; wrong numbers at kinks, and nan or inf that should not be; rounding;
    second derivatives; the same on Values, arrays, mpmath numbers and, where forward is rational, Fractions.

    `reference` is the mathematical function of mpmath numbers. Without it, ours are held against mpmath's own
    functions, and a rule of yours against its forward at high precision: that tests its slopes and shows where
    floats lose digits, not that the forward is what you meant. `inputs`, a hypothesis strategy for each input,
    confines the search. `bound` is the error allowed, in ulps: 4 for our rules, 32 for others, beyond what
    rounding the inputs does (see `Reference`). The hypothesis profile says how many random inputs are tried.

    Returns a report that prints both verdicts and the worst errors met, with `plot()` and `to_pytest()`. Raises
    RuleMismatch, which has the same as `.report`, with the simplest input found to fail, the `kind` of failure and
    the mistake that it looks like. Raises TypeError for a rule that returns no number or a wrong number of shares,
    ValueError for an empty domain.

    >>> from tinygrad_edu import tanh
    >>> check_rule(tanh).worst["slopes"][0] < 4
    True
    """
    rule = as_rule(rule, "check_rule")
    reference = _as_reference(rule, reference)
    if bound is not None and not (isinstance(bound, int | float) and bound > 0):
        raise ValueError(f"bound is an error in ulps, above 0, got {bound!r}.")
    subject = Subject(rule, reference, reference.bound if bound is None else bound)
    points, strategy = _where(subject, inputs)
    subject.points = sorted(points, key=_extremity)  # the first to fail is the simplest of them
    try:
        _examine(subject, strategy)
    except RuleMismatch as error:
        error.report = RuleReport(subject, error)
        raise
    return RuleReport(subject)


def _examine(subject: Subject, strategy: st.SearchStrategy[Point]) -> None:
    """Every property, in the order in which failures are told."""
    points, fewer = subject.points, max(10, settings().max_examples // 4)
    tame = _some(list(filter(_is_tame, points)) or points, 40)
    subject.shares(1.0, *tame[0])
    properties.takes_mpmath_numbers(subject, tame[0])
    for point in tame:
        properties.is_proportional_to_upstream(subject, point)
    _everywhere(subject, points, strategy, properties.has_right_formula)
    if subject.undecided > subject.inputs / 2:
        raise ValueError(f"The reference of {subject.rule.name} has no real value or slope at most of the inputs.")
    properties.has_a_slope_between_those_beside(subject, tame)
    _everywhere(subject, points, strategy, properties.is_finite_where_it_should_be)
    properties.passes_nan_on(subject, tame)
    properties.bears_infinity(subject)
    _everywhere(subject, points, strategy, properties.has_right_digits)
    moderate = [*tame, *_some([p for p in points if properties.is_moderate(subject, p)], 60)]
    _everywhere(subject, moderate, strategy, properties.has_right_second_derivatives, max_examples=fewer)
    for point in tame:
        properties.keeps_digits(subject, point)
        properties.is_the_same_on_values(subject, point)
    properties.is_the_same_on_arrays(subject, tame)
    subject.numbers += ["Values", "mpmath numbers", "arrays"]
    properties.is_exact_on_fractions(subject)


def _everywhere(
    subject: Subject,
    points: Iterable[Point],
    strategy: st.SearchStrategy[Point],
    examine: Callable[[Subject, Point], None],
    **more: Any,
) -> None:
    """examine(subject, point) for hard points, then for random ones: the simplest that fails is told."""

    def fails(point: Point) -> bool:
        try:
            examine(subject, point)
        except RuleMismatch:
            return True
        return False

    for point in points:
        examine(subject, point)
    subject.hurried = True
    failing = _simplest(subject.rule, strategy, fails, **more)
    subject.hurried = False
    if failing is not None:
        examine(subject, failing)


def _simplest(
    rule: Rule, strategy: st.SearchStrategy[Point], wanted: Callable[[Point], Any], **more: Any
) -> Point | None:
    """The simplest random point that is wanted, if one was drawn. Other errors lose the notes of the search."""
    try:
        return find(strategy, wanted, settings=settings(database=None, deadline=None, **more))
    except NoSuchExample:
        return None
    except Unsatisfiable:
        raise ValueError(f"No input that was drawn is in the domain of {rule.name}.") from None
    except TypeError as error:
        error.__notes__ = []
        raise error from None


def _fits(rule: Rule, point: Point) -> bool:
    """Raises TypeError unless the point is so many numbers as the rule has inputs."""
    right = len(point) == (rule.n_inputs or max(1, len(point)))
    if not right or not all(isinstance(x, int | float) for x in point):
        wanted = f"{rule.n_inputs or 'one or more'} number(s)"
        raise TypeError(f"inputs of {rule.name} must give {wanted}, one strategy each, got {point!r}.")
    return True


def _is_tame(point: Point) -> bool:
    """Of ordinary size, so that no product overflows."""
    return all(1e-9 < abs(x) < 100 for x in point)


def _extremity(point: Point) -> float:
    """How far the numbers are from 1 in size, up or down."""
    return math.fsum(abs(math.log(abs(x))) for x in point if x)


def _as_reference(rule: Rule, reference: Any) -> Reference:
    if reference is None:
        return reference_of(rule)
    if not isinstance(reference, Reference) and not callable(reference):
        raise TypeError(f"reference is a function of mpmath numbers, got {reference!r}.")
    return reference if isinstance(reference, Reference) else Reference(reference)


def _where(subject: Subject, inputs: Any) -> tuple[list[Point], st.SearchStrategy[Point]]:
    """The hard points, and a strategy for more."""
    rule, reference = subject.rule, subject.reference
    if inputs is None:
        points = grid_of(rule, reference.special) if reference.grid is None else list(reference.grid)
        return points, strategy_of(rule, reference.special) if reference.strategy is None else reference.strategy
    one_by_one = inputs if isinstance(inputs, st.SearchStrategy) else st.tuples(*inputs)
    strategy = one_by_one.map(lambda p: p if isinstance(p, tuple) else (p,)).filter(
        lambda point: _fits(rule, point) and all(map(math.isfinite, point)) and inside(rule)(point)
    )
    drawn: list[Point] = []
    _simplest(rule, strategy, drawn.append, derandomize=True)
    return list(dict.fromkeys(drawn)), strategy


def _some(points: Sequence[Point], n: int) -> list[Point]:
    """At most n of the points, from all over."""
    return list(points[:: 1 + len(points) // n])


# --- The report ---------------------------------------------------------------------------------------------

TEST = """\
import pytest

{module}from tinygrad_edu import RULES
from tinygrad_edu.testing import check_rule

{declare}{name} = {rule}


@pytest.mark.parametrize(("inputs", "value", "slopes"), [
{cases}])
def test_{name}_at_hard_points(inputs, value, slopes):
    out = {name}.forward(*inputs)
    assert out == pytest.approx(value, rel={relative:.1g}, abs=1e-300)
    assert list({name}.shares(1.0, out, *inputs)) == pytest.approx(slopes, rel={relative:.1g}, abs=1e-300)


def test_{name}_is_right():
    check_rule({name}, bound={bound!r})
"""


class RuleReport:
    """What check_rule found: `inputs`, how many were tried, on which `numbers`, and the largest errors in `worst`.

    Each of `worst` is a pair, the error and the point where it was: "value" and "slopes" in ulps, units in the
    last place, "second", that of the second derivatives, relative to the size of their terms. `mathematics` and
    `rounding` are the two verdicts, each "right", "wrong" or "not examined".
    """

    def __init__(self, subject: Subject, failure: RuleMismatch | None = None):
        self.rule, self.inputs, self.numbers = subject.rule, subject.inputs, subject.numbers
        self.worst, self.failure, self._subject = subject.worst, failure, subject

    @property
    def mathematics(self) -> str:
        """Is the formula right, as far as it was tried?"""
        return "right" if self.failure is None or self.failure.kind == ROUNDING else "wrong"

    @property
    def rounding(self) -> str:
        """Do floats keep its digits, as far as it was tried?"""
        if self.failure is None:
            return "right"
        return "wrong" if self.failure.kind == ROUNDING else "not examined"

    def __repr__(self) -> str:
        if self.failure:
            return str(self.failure)
        lines = [
            f"{self.rule} is right at {self.inputs} inputs, on {', '.join(self.numbers)}.",
            f"  mathematics  the slopes are those of the forward function, to 12 digits or more, at "
            f"{self._subject.proven} inputs",
        ]
        for kind, (error, point) in self.worst.items():
            amount = f"{error:.2g} of its terms" if kind == "second" else f"{error:.2g} ulps"
            verdict = {"value": "rounding", "second": "second"}.get(kind, "")
            what = "" if kind == "second" else kind
            lines.append(f"  {verdict:<11}  {what:<7}{amount:>18} off at most, at {', '.join(map(repr, point))}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """The error in ulps of the value and of each slope over the first input, as a matplotlib Figure.

        Points that failed, those beyond 1e100 and those where the exact number is not known are left out. Raises
        ImportError without matplotlib.
        """
        figure = empty_figure(8, 3.5)
        axes, subject = figure.add_subplot(), self._subject
        errors: dict[str, list[tuple[float, float]]] = {}
        for point in sorted(p for p in subject.points if abs(p[0]) < 1e100):
            for what, error in zip(subject.results(point), subject.errors(point), strict=False):
                if error < math.inf:  # a nan has none
                    errors.setdefault(what, []).append((point[0], min(max(error, 2.0**-4), 2.0**53)))
        for what, pairs in errors.items():
            axes.plot(*zip(*pairs, strict=True), ".", label=what, markersize=4)
        axes.axhline(subject.bound, color="grey", linewidth=1, label=f"allowed: {subject.bound:g}")
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_yscale("log", base=2)
        axes.set_xlabel(names(self.rule, 1)[0])
        axes.set_ylabel("ulps, of 2^53")
        axes.set_title(f"{self.rule.name}: errors at {len(subject.points)} points")
        axes.legend()
        return figure

    def to_pytest(self) -> str:
        """A test to paste: the numbers where the errors were largest, and check_rule over the whole domain.

        For a rule that failed, the test fails until the rule is mended.
        """
        rule, points = self.rule, [point for _, point in self.worst.values()]
        if self.failure and all(isinstance(x, int | float) for x in self.failure.point):
            points.append(self.failure.point)
        cases = [row for point in dict.fromkeys(points) if (row := _case(self._subject, point))]
        module = getattr(rule.forward, "__module__", "_")
        declared = not module.startswith(("__main__", "_", "operator"))
        parameters = ", ".join(f"{name}={x!r}" for name, x in rule.parameters.items())
        return TEST.format(
            module=f"import {module}  # declares the rule\n" if declared else "",
            declare="" if rule.name in RULES else "# declare the rule before this line\n",
            name=rule.name if rule.name.isidentifier() else "rule",
            rule=f'RULES["{rule.name}"]' + (f".bind({parameters})" if parameters else ""),
            cases="".join(f"    {case},\n" for case in cases),
            relative=max(1e-12, 4 * self._subject.bound * 2.0**-52),  # with room for terms that cancel
            bound=self._subject.bound,
        )


def _case(subject: Subject, point: Any) -> tuple[tuple[float, ...], float, list[float]] | None:
    """Inputs, value and slopes; None where the exact numbers are not known or not finite."""
    numbers = list(map(float, subject.exact(point)))
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return None
    return tuple(map(float, point)), numbers[0], numbers[1:]
