"""check_rule: hold one operation against the mathematics it stands for, over its whole domain."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hypothesis import find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample, Unsatisfiable

from ..engine.rule import Rule
from . import rule_properties as properties
from .mathematics import reference_of
from .points import Point, grid_of, inside, strategy_of
from .reference import Reference
from .rule_report import RuleReport
from .subject import RuleMismatch, Subject, as_rule

__all__ = ["RuleMismatch", "RuleReport", "check_rule"]


def check_rule(
    rule: Rule | str,
    reference: Callable[..., Any] | Reference | None = None,
    *,
    inputs: st.SearchStrategy[Any] | Sequence[st.SearchStrategy[float]] | None = None,
    bound: float | None = None,
) -> RuleReport:
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
