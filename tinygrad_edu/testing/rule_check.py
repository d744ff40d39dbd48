"""check_rule: hold one operation against the mathematics it stands for, over its whole domain."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

from ..engine.rule import RULES, Rule
from . import rule_properties as properties
from .mathematics import reference_of
from .points import Point, grid_of, inside, strategy_of
from .reference import Reference
from .rule_properties import RuleMismatch, Subject

__all__ = ["RuleMismatch", "RuleReport", "check_rule"]


class RuleReport:
    """What check_rule found: `inputs`, how many were tried, on which `numbers`, and the largest errors in `worst`.

    Each of `worst` is a pair, the error and the point where it was: "value" and "slopes" in ulps, units in the
    last place, "second", that of the second derivatives, relative to the size of their terms.
    """

    def __init__(self, subject: Subject):
        self.rule, self.inputs, self.numbers, self.worst = (
            subject.rule,
            subject.inputs,
            subject.numbers,
            subject.worst,
        )

    def __repr__(self) -> str:
        lines = [f"{self.rule} is right at {self.inputs} inputs, on {', '.join(self.numbers)}."]
        for kind, (error, point) in self.worst.items():
            amount = f"{error:.2g} of its terms" if kind == "second" else f"{error:.2g} ulps"
            lines.append(f"  {kind:<8}{amount:>20} off at most, at {', '.join(map(repr, point))}")
        return "\n".join(lines)


def check_rule(
    rule: Rule | str,
    reference: Callable[..., Any] | Reference | None = None,
    *,
    inputs: st.SearchStrategy[Any] | Sequence[st.SearchStrategy[float]] | None = None,
    bound: float | None = None,
) -> RuleReport:
    """Prove one rule by trying it all over its declared domain, at hard points and at random ones.

    Held against mathematics at 50 digits: values, slopes and second derivatives. Besides: one share per input,
    proportional to upstream; the same on floats, Values, arrays, mpmath numbers and, where forward is rational,
    exact Fractions; nan in, nan out, and no error at inf; at a kink a slope between those on its two sides.

    `reference` is the mathematical function of mpmath numbers. Without it, ours are held against mpmath's own
    functions, and a rule of yours against its forward at high precision: that proves its slopes and shows where
    floats lose digits, not that the forward is what you meant. `inputs`, a hypothesis strategy for each input,
    confines the search. `bound` is the error allowed, in ulps: 4 for our rules, 32 for others, beyond what
    rounding the inputs does (see `Reference`). The hypothesis profile says how many random inputs are tried.

    Returns a report that prints the worst errors met. Raises RuleMismatch with the simplest input found to fail
    and, where floats overflowed on the way to a wrong number, the operation in which they did,
    TypeError for a rule that returns no number or a wrong number of shares, ValueError for an empty domain.

    >>> from tinygrad_edu import tanh
    >>> check_rule(tanh).worst["slopes"][0] < 4
    True
    """
    rule = _as_rule(rule)
    reference = _as_reference(rule, reference)
    if bound is not None and not (isinstance(bound, int | float) and bound > 0):
        raise ValueError(f"bound is an error in ulps, above 0, got {bound!r}.")
    subject = Subject(rule, reference, reference.bound if bound is None else bound)
    points, strategy = _where(subject, inputs)
    tame = _some(list(filter(_is_tame, points)) or points, 40)

    subject.shares(1.0, *tame[0])
    properties.takes_mpmath_numbers(subject, tame[0])
    _search(subject, strategy, _try_first)
    for point in sorted(points, key=_extremity):  # the first to fail is the simplest of them
        _try_first(subject, point)
    if subject.undecided > subject.inputs / 2:
        raise ValueError(f"The reference of {rule.name} has no real value or slope at most of the inputs.")
    fewer = max(10, settings().max_examples // 4)  # which take longer
    _search(subject, strategy, _try_further, max_examples=fewer)
    for point in [*tame, *_some([p for p in points if properties.is_moderate(subject, p)], 60)]:
        _try_further(subject, point)
    properties.is_the_same_on_arrays(subject, tame)
    subject.numbers += ["Values", "mpmath numbers", "arrays"]
    properties.is_exact_on_fractions(subject)
    properties.passes_nan_on(subject, tame)
    properties.bears_infinity(subject)
    properties.has_a_slope_between_those_beside(subject, tame)
    return RuleReport(subject)


def _fits(rule: Rule, point: Point) -> bool:
    """Raises TypeError unless the point is so many numbers as the rule has inputs."""
    right = len(point) == (rule.n_inputs or max(1, len(point)))
    if not right or not all(isinstance(x, int | float) for x in point):
        wanted = f"{rule.n_inputs or 'one or more'} number(s)"
        raise TypeError(f"inputs of {rule.name} must give {wanted}, one strategy each, got {point!r}.")
    return True


def _try_first(subject: Subject, point: Point) -> None:
    """What nothing else makes sense without."""
    subject.inputs += 1
    properties.has_right_value(subject, point)
    properties.has_right_slopes(subject, point)


def _try_further(subject: Subject, point: Point) -> None:
    properties.has_right_second_derivatives(subject, point)
    if _is_tame(point):
        properties.is_proportional_to_upstream(subject, point)
        properties.is_the_same_on_values(subject, point)
        properties.keeps_digits(subject, point)


def _is_tame(point: Point) -> bool:
    """Of ordinary size, so that no product overflows."""
    return all(1e-9 < abs(x) < 100 for x in point)


def _extremity(point: Point) -> float:
    """How far the numbers are from 1 in size, up or down."""
    return math.fsum(abs(math.log(abs(x))) for x in point if x)


def _as_rule(rule: Any) -> Rule:
    if isinstance(rule, str) and rule in RULES:
        return RULES[rule]
    if not isinstance(rule, Rule):
        fix = f"there are {', '.join(RULES)}" if isinstance(rule, str) else "a Rule is what @rule returns"
        raise TypeError(f"check_rule takes a Rule or the name of one, got {rule!r}: {fix}.")
    return rule


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
        points = grid_of(rule) if reference.grid is None else list(reference.grid)
        return points, strategy_of(rule) if reference.strategy is None else reference.strategy
    one_by_one = inputs if isinstance(inputs, st.SearchStrategy) else st.tuples(*inputs)
    strategy = one_by_one.map(lambda p: p if isinstance(p, tuple) else (p,)).filter(
        lambda point: _fits(rule, point) and all(map(math.isfinite, point)) and inside(rule)(point)
    )
    points = []
    _run(rule, strategy, points.append, derandomize=True)
    return list(dict.fromkeys(points)), strategy


def _search(
    subject: Subject, strategy: st.SearchStrategy[Point], examine: Callable[[Subject, Point], None], **more: Any
) -> None:
    """examine(subject, point) for random points; the simplest that fails is examined again, for the reasons."""
    latest: list[Point] = []
    failure = None

    def hurriedly(point: Point) -> None:
        latest[:] = [point]
        examine(subject, point)

    subject.hurried = True
    try:
        _run(subject.rule, strategy, hurriedly, **more)
    except RuleMismatch as error:
        failure = error
    finally:
        subject.hurried = False
    if failure:
        examine(subject, latest[0])
        raise failure  # a rule that fails at times only


def _run(rule: Rule, strategy: st.SearchStrategy[Point], examine: Callable[[Point], None], **more: Any) -> None:
    """examine(point) for random points; an error is raised for the simplest point, without notes of the search."""

    @settings(
        database=None, deadline=None, report_multiple_bugs=False, suppress_health_check=list(HealthCheck), **more
    )
    @given(strategy)
    def run(point: Point) -> None:
        examine(point)

    try:
        run()
    except (RuleMismatch, TypeError) as error:
        error.__notes__ = []
        raise error from None
    except Unsatisfiable:
        raise ValueError(f"No input that was drawn is in the domain of {rule.name}.") from None


def _some(points: Sequence[Point], n: int) -> list[Point]:
    """At most n of the points, from all over."""
    return list(points[:: 1 + len(points) // n])
