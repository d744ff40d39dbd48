"""check_rule: hold one operation against the mathematics it stands for, over its whole domain."""

import importlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from numbers import Real
from typing import Any, ClassVar

from hypothesis import find, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable

from ...engine.rule import RULES, Rule
from ...viz.plots import empty_figure
from ...viz.rich import Report
from . import rule_properties as properties
from .case import Case, Kind, RuleMismatch, as_rule, names, refuse
from .deadline import TimeLimit, deadline
from .mathematics import REFERENCES, reference_of
from .mistakes import explain
from .points import LENGTHS, Point, beside_constants, confined, ends_of, grid_of, inside, strategy_of
from .reference import Reference

__tracebackhide__ = True  # pytest shows the user's line, not ours
REPEATS = 40  # points that fail before a property is given up
ORDINARY = 1e6  # beyond it, failures are searched for as well when there are enough of them below
FRACTIONS = [Fraction(text) for text in ("-7/3", "1/10", "5/2", "-1/6", "22/7", "1/2")]
Property = Callable[[Case, Any], None]


def check_rule(
    rule: Rule | str,
    reference: Callable[..., Any] | Reference | None = None,
    *,
    domain: Any = None,
    bound: float | None = None,
    budget: float = 20.0,
    **others: Any,
) -> "RuleReport":
    """Test one rule all over its declared domain, at hard points and at random ones.

    There are two verdicts. Mathematics: the rule on 60 digits, and on a thousand where that is not enough, against
    the derivative of its forward function. Rounding: the digits that floats lose, where, and a better form. These
    properties are tried: the number of shares; shares proportional to upstream; the formula; numbers at kinks, nan
    and inf; rounding; second derivatives; the same on Values, arrays, mpmath numbers and, where forward is
    rational, Fractions.

    `reference` is the mathematical function of mpmath numbers. Without it, ours are held against mpmath's own
    functions, and a rule of yours against its forward at high precision: that tests its slopes and shows where
    floats lose digits, not that the forward is what you meant. With it, the rule may be of another language and
    take floats alone, as a function of a C library does. `domain` confines the search, as in `prove_rule`:
    an `Interval` or a pair (low, high), or one for each input; here also hypothesis strategies. `bound` is the
    error allowed, in ulps: 4 for our rules, 32 for others, beyond what rounding the inputs does (see `Reference`).
    The hypothesis profile says how many random inputs are tried. After `budget` seconds of CPU the search ends.

    Returns a report that prints both verdicts and the worst errors met, with `plot()` and `to_json()`. Raises
    RuleMismatch with the simplest input that fails, the `kind` of failure and the mistake that it looks like; its
    `.report` has all `failures`, one of each kind, those at numbers of ordinary size first. Raises TypeError for a
    rule that returns no number or a wrong number of shares, ValueError for an empty domain, TimeoutError where a
    function in Python, the reference or one of the rule, does not return: it is interrupted.

    >>> from tinygrad_edu import tanh
    >>> check_rule(tanh).worst["slopes"][0] < 4
    True
    """
    refuse("check_rule", others)
    rule = as_rule(rule, "check_rule")
    own, reference = reference is not None, _as_reference(rule, reference)
    if bound is not None and not (isinstance(bound, int | float) and bound > 0):
        raise ValueError(f"bound is an error in ulps, above 0, got {bound!r}.")
    case = Case(rule, reference, reference.bound if bound is None else bound)
    case.clock = TimeLimit(budget)
    try:
        with deadline(rule.name, budget):
            points, strategy = _where(case, domain)
            case.points = sorted(points, key=_extremity)  # the first to fail is the simplest of them
            _examine(case, strategy, own)
    except TimeoutError:
        if not case.failures:
            raise
    report = RuleReport(case)
    if report.failures:
        report.failures[0].report = report
        raise report.failures[0]
    return report


def rules_of(module: Any) -> list[Rule]:
    """The rules of a module: `@pytest.mark.parametrize("rule", rules_of(mine), ids=str)`, then `check_rule(rule)`.

    They are those that it has by name, and those that it registered. Takes the module or its name.
    """
    module = importlib.import_module(module) if isinstance(module, str) else module
    registered = [rule for rule in RULES.values() if getattr(rule.forward, "__module__", "") == module.__name__]
    named = [x for x in vars(module).values() if isinstance(x, Rule)]
    return sorted({rule.name: rule for rule in [*registered, *named]}.values(), key=lambda rule: rule.name)


def _examine(case: Case, strategy: st.SearchStrategy[Point], own: bool) -> None:
    """Every property. What follows from a wrong formula is not told again.

    A rule with a reference of its `own` may take floats alone.
    """
    rule, points, n = case.rule, case.points, case.rule.n_inputs
    ordinary = [point for point in points if all(1e-9 < abs(x) < 100 for x in point)]  # no product overflows
    tame = case.tame = _some(ordinary or points, 40)
    if own:
        try:
            properties.takes_mpmath_numbers(case, tame[0])
        except RuleMismatch as error:
            case.floats_only = error.kind == Kind.NUMBERS
    foreign = case.floats_only or hasattr(rule, "library")  # its constants are floats, and its arrays its own

    for start in (properties.runs, properties.takes_mpmath_numbers):
        _at(case, tame[:1], start)
        if case.failures:
            return
    _at(case, tame, properties.is_proportional_to_upstream)
    _everywhere(case, points, strategy, properties.has_right_numbers)
    if case.undecided > case.inputs / 2 and not case.is_over and not case.failures:
        sentence = f"The reference of {rule.name} has no real value or slope at most of the inputs"
        raise ValueError(f"{sentence}: declare domain=, where it has.")
    ties = [(point[0],) * len(point) for point in tame if rule.ties]
    _at(case, [*((x,) for x in rule.kinks), *ties], properties.has_a_slope_between_those_beside)
    _at(case, {len(point): point for point in reversed(tame)}.values(), properties.passes_nan_on)
    _at(case, [(x,) for x in (math.inf, -math.inf) if n == 1 and inside(rule)((x,))], properties.runs)
    if not case.tells(Kind.FORMULA) and not case.floats_only:
        moderate = [*tame, *_some([p for p in points if properties.is_moderate(case, p)], 60)]
        fewer = max(10, settings().max_examples // 4)
        _everywhere(case, moderate, strategy, properties.has_right_second_derivatives, max_examples=fewer)
        if not foreign:
            _at(case, tame, properties.keeps_digits)
    _at(case, tame, properties.is_the_same_on_values)
    case.numbers += ["Values", *["mpmath numbers"] * (not case.floats_only)]
    if not foreign:
        _at(case, tame, properties.is_the_same_on_arrays)
        case.numbers.append("arrays")
    if not case.tells(Kind.FORMULA) and not foreign:
        for length in [n] if n else (2, 4, 6):
            rows = filter(inside(rule), itertools.islice(itertools.permutations(FRACTIONS, length), 40))
            exact = itertools.takewhile(lambda inputs: properties.is_rational(case, inputs), rows)
            _at(case, exact, properties.is_exact_on_fractions)


def _is_new(case: Case, error: RuleMismatch) -> bool:
    """Is it a new failure? A wrong formula is told once."""
    known = [(failure.kind, failure.what) for failure in case.failures]
    return (error.kind, error.what) not in known and not (error.kind == Kind.FORMULA and case.tells(Kind.FORMULA))


def _at(case: Case, points: Iterable[Point], examine: Property, repeats: int = 0) -> None:
    """Try the property at the points. New failures are kept; the search ends after `repeats` more."""
    for point in points:
        if case.is_over or repeats < 0:
            break
        try:
            examine(case, point)
        except RuleMismatch as error:
            repeats -= 1
            if _is_new(case, error):
                case.failures.append(error)  # first: the time may be up in the middle of the explanation
                explain(case, error)


def _everywhere(
    case: Case, points: Iterable[Point], strategy: st.SearchStrategy[Point], examine: Property, **more: Any
) -> None:
    """Try the property at hard points, then at random ones: the simplest failure is kept.

    Failures at ordinary numbers do not end the search among others, where nan and inf may come.
    """

    def fails(point: Point) -> bool:
        try:
            examine(case, point)
        except RuleMismatch as error:
            return not case.is_over and _is_new(case, error)
        return False

    ordinary, extreme = list[Point](), list[Point]()
    for point in points:
        (ordinary if all(abs(x) <= ORDINARY for x in point) else extreme).append(point)
    for some in (ordinary, extreme):
        _at(case, some, examine, REPEATS)
    if not case.is_over and not case.tells(Kind.FORMULA):
        failing = _simplest(case.rule, strategy, fails, **more)
        _at(case, [] if failing is None else [failing], examine)


def _simplest(
    rule: Rule, strategy: st.SearchStrategy[Point], wanted: Callable[[Point], Any], **more: Any
) -> Point | None:
    """The simplest random point that is wanted, if one was drawn. Other errors lose the notes of the search."""
    try:
        return find(strategy, wanted, settings=settings(database=None, deadline=None, **more))
    except (NoSuchExample, Flaky):  # a point failed, and did not when the time was up
        return None
    except Unsatisfiable:
        raise ValueError(f"No input that was drawn is in the domain of {rule.name}.") from None
    except TypeError as error:
        error.__notes__ = []
        raise error from None


def _extremity(point: Sequence[Any]) -> float:
    """How far the numbers are from 1 in size, up or down."""
    sizes = [abs(float(x)) for x in point if isinstance(x, Real)]
    return math.fsum(abs(math.log(x)) for x in sizes if x > 0)


def _as_reference(rule: Rule, reference: Any) -> Reference:
    if reference is None:
        return reference_of(rule)
    if not isinstance(reference, Reference) and not callable(reference):
        raise TypeError(f"reference is a function of mpmath numbers, got {reference!r}.")
    return reference if isinstance(reference, Reference) else Reference(reference)


def _where(case: Case, domain: Any) -> tuple[list[Point], st.SearchStrategy[Point]]:
    """The hard points, and a strategy for more."""
    rule, reference = case.rule, case.reference
    if isinstance(domain, st.SearchStrategy):
        return _drawn(rule, domain)
    if isinstance(domain, list | tuple) and any(isinstance(x, st.SearchStrategy) for x in domain):
        return _drawn(rule, st.tuples(*domain))
    if domain is not None:
        rule = confined(rule, ends_of(domain, rule.n_inputs or max(LENGTHS)))
    points, strategy = reference.grid, reference.strategy
    if points is None or domain is not None:
        own = [] if rule.name in REFERENCES else beside_constants(rule)
        points = [*grid_of(rule, reference.special), *own]
    if strategy is None or domain is not None:
        strategy = strategy_of(rule, reference.special)
    return list(points), strategy


def _drawn(rule: Rule, domain: st.SearchStrategy[Any]) -> tuple[list[Point], st.SearchStrategy[Point]]:
    """Points that the user's strategy draws, and the strategy. Raises TypeError for anything but points."""

    def point_of(drawn: Any) -> Point:
        point = drawn if isinstance(drawn, tuple) else (drawn,)
        n = rule.n_inputs or max(1, len(point))
        if len(point) != n or not all(isinstance(x, int | float) for x in point):
            wanted = f"{rule.n_inputs or 'one or more'} number(s)"
            raise TypeError(f"inputs of {rule.name} must give {wanted}, one strategy each, got {point!r}.")
        return point

    strategy = domain.map(point_of).filter(lambda point: all(map(math.isfinite, point)) and inside(rule)(point))
    points: list[Point] = []
    _simplest(rule, strategy, points.append, derandomize=True)
    return list(dict.fromkeys(points)), strategy


def _some(points: Sequence[Point], n: int) -> list[Point]:
    """At most n of the points, evenly spread."""
    return list(points[:: 1 + len(points) // n])


# --- The report ---------------------------------------------------------------------------------------------


class RuleReport(Report):
    """What check_rule found: `inputs`, how many were tried, on which `numbers`, and the largest errors in `worst`.

    Each of `worst` is a pair, the error and the point where it was: "value" and "slopes" in ulps, units in the
    last place, "second", that of the second derivatives, relative to the size of their terms. `failures` has one
    RuleMismatch of each kind. `timed_out`: the budget was used up. `mathematics` and `rounding` are the two
    verdicts, each "right", "wrong" or "not examined".
    """

    _former: ClassVar = {"to_pytest": "check_rule(rule) is the test", "failure": "failures lists all of them"}

    def __init__(self, case: Case):
        self.rule: Rule = case.rule
        self.inputs: int = case.inputs
        self.numbers: list[str] = case.numbers
        self.worst: dict[str, tuple[float, tuple[Any, ...]]] = case.worst
        self.failures: list[RuleMismatch] = sorted(case.failures, key=_rank)
        self.timed_out: bool = case.is_over
        self._case = case
        case.clock = TimeLimit()  # a picture may take its time

    @property
    def ok(self) -> bool:
        return not self.failures

    @property
    def mathematics(self) -> str:
        """Is the formula right, as far as it was tried? Not examined, if it runs on floats alone."""
        kinds = {failure.kind for failure in self.failures}
        if kinds & {Kind.UPSTREAM, Kind.FORMULA, Kind.SINGULAR} or (kinds and Kind.ROUNDING not in kinds):
            return "wrong"  # what is wrong beside lost digits may follow from them
        return "not examined" if self._case.floats_only else "right"

    @property
    def rounding(self) -> str:
        """Do floats keep its digits, as far as it was tried?"""
        if any(failure.kind == Kind.ROUNDING for failure in self.failures):
            return "wrong"
        return "not examined" if self.failures else "right"

    def to_json(self) -> str:
        """Both verdicts, the failures and the largest errors as JSON."""
        failures = [{"kind": f.kind, "what": f.what, "at": list(map(str, f.point))} for f in self.failures]
        facts = {"rule": self.rule.name, "ok": self.ok, "mathematics": self.mathematics, "rounding": self.rounding}
        worst = {kind: [str(error), list(map(str, point))] for kind, (error, point) in self.worst.items()}
        return json.dumps({**facts, "inputs": self.inputs, "failures": failures, "worst": worst}, indent=1)

    def __repr__(self) -> str:
        if self.failures:
            return str(self.failures[0])
        ended = " The time was up." * self.timed_out
        lines = [f"{self.rule} is right at {self.inputs} inputs, on {', '.join(self.numbers)}.{ended}"]
        if self._case.floats_only:
            lines.append("  mathematics  not examined: the rule runs on floats alone")
        else:
            lines.append(
                f"  mathematics  the slopes are those of the forward function, to 12 digits or more, at "
                f"{self._case.proven} inputs"
            )
        for kind, (error, point) in self.worst.items():
            amount = f"{error:.2g} of its terms" if kind == "second" else f"{error:.2g} ulps"
            verdict = {"value": "rounding", "second": "second"}.get(kind, "")
            what = "" if kind == "second" else kind
            lines.append(f"  {verdict:<11}  {what:<7}{amount:>18} off at most, at {', '.join(map(repr, point))}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """The error in ulps of the value and of each slope over the first input, as a matplotlib Figure.

        Points that failed and those where the exact number is not known are left out. Raises ImportError without
        matplotlib.
        """
        figure = empty_figure(8, 3.5)
        axes, case = figure.add_subplot(), self._case
        errors: dict[str, list[tuple[float, float]]] = {}
        for point in sorted(case.points):
            for what, error in zip(case.results(point), case.errors(point), strict=False):
                if error < math.inf:  # a nan has none
                    errors.setdefault(what, []).append((point[0], max(error, 2.0**-4)))
        for what, pairs in errors.items():
            axes.plot(*zip(*pairs, strict=True), ".", label=what)
        axes.axhline(case.bound, color="grey", label=f"allowed: {case.bound:g}")
        axes.set_xscale("symlog")
        axes.set_yscale("log")
        title = f"{self.rule.name}: errors at {len(case.points)} points"
        axes.set(xlabel=names(self.rule, 1)[0], ylabel="ulps, of 2^53", title=title)
        axes.legend()
        return figure


def _rank(failure: RuleMismatch) -> tuple[bool, int, float]:
    """Failures at ordinary numbers come first, then the kinds in their order, then the nearest to 1."""
    extreme = any(x and not 1e-100 < abs(float(x)) < 1e100 for x in failure.point if isinstance(x, Real))
    return extreme, list(Kind).index(failure.kind), _extremity(failure.point)
