"""check_rule as its user meets it: what it says of right rules, of wrong ones, and of bad input."""

import contextlib
import ctypes
import itertools
import json
import math
import shutil
import subprocess
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import mpmath as mp
import pytest
from hypothesis import find
from hypothesis import strategies as st
from some_rules import MISTAKES, RIGHT, WRONG, mish, mish_backward, rule_of, several

import tinygrad_edu as tg
from tinygrad_edu import RULES, Interval, Rule, Value
from tinygrad_edu import elementary as e
from tinygrad_edu.testing import RuleMismatch, check_rule, prove_rule
from tinygrad_edu.testing.check import deadline, mistakes
from tinygrad_edu.testing.check.case import Case, Kind, names
from tinygrad_edu.testing.check.mathematics import reference_of
from tinygrad_edu.testing.check.points import beside_constants, confined, ends_of, grid_of, inside, line_of, near
from tinygrad_edu.testing.check.reference import Reference, is_between, sides, ulps, within_reach
from tinygrad_edu.testing.check.rule_check import RuleReport, _simplest, _some
from tinygrad_edu.testing.check.rule_properties import has_right_second_derivatives, is_moderate, keeps_digits

pytestmark = pytest.mark.usefixtures("own_rules")
_, LINEAR, FORMULA, SINGULAR, ROUNDING, SECOND, NUMBERS = Kind


def declared(forward: Any, backward: Any, **more: Any) -> Any:
    return tg.rule(forward, backward=backward, name="mine", **more)


# --- Rules of the user --------------------------------------------------------------------------------------
def test_a_right_rule_is_found_right() -> None:
    rule = declared(mish, mish_backward)
    report = check_rule(rule)
    assert report.rule is rule
    assert report.inputs > 500
    assert report.numbers == ["floats", "Values", "mpmath numbers", "arrays"]
    assert all(error <= 32 for error, _ in report.worst.values())
    assert (report.mathematics, report.rounding) == ("right", "right")
    few = check_rule(rule_of("x * y * y", "u * y * y", "u * 2 * x * y"), domain=FEW, bound=1)
    assert repr(few).splitlines() == [
        "Rule('mine') is right at 4 inputs, on floats, Values, mpmath numbers, arrays, Fractions.",
        "  mathematics  the slopes are those of the forward function, to 12 digits or more, at 4 inputs",
        "  rounding     value            0.3 ulps off at most, at 0.1, 0.3",
        "               slopes          0.48 ulps off at most, at 0.1, 0.3",
        "  second                  0 of its terms off at most, at 0.7, 2.0",
    ]
    assert json.loads(few.to_json())["worst"]["second"] == ["0.0", ["0.7", "2.0"]]
    assert check_rule("sum", domain=st.sampled_from([(1.0,), (1.0, 2.0), (0.5, -2.0, 3.0)])).inputs == 6
    assert check_rule(rule_of("x * x", "u * 2 * x"), ROOT, domain=st.sampled_from([-1.0, 1.0])).inputs == 4


def test_the_points_for_all_but_the_numbers_are_of_ordinary_size() -> None:
    report = check_rule("neg", domain=st.sampled_from([1e-9, 2e-9, 1.0, 99.0, 100.0, 1e6, 1.5e6]))
    assert (report._case.tame, report._case.proven) == ([(1.0,), (99.0,), (2e-9,)], 12)  # beyond 1e6, floats tell
    assert [len(_some(range(n), 40)) for n in (39, 40, 80, 121)] == [39, 20, 27, 31]
    for case, out, moderate in (
        (case_of("u"), (1e-50, 1e50, 1.5e50), (0.0, 1.5e-50, 0.9e50)),
        (case_of(rule_of("pow(x, 5)", "u")), (0.9e-40, 1.08e40), (1.08e-40, 0.9e40)),
        (case_of(rule_of("abs(x - 1)", "u", kinks=(1.0,))), (1.0,), (2.0,)),
        (case_of(rule_of("1 / x", "u")), (0.0,), (1.0,)),
    ):
        assert [x for x in (*out, *moderate) if is_moderate(case, (x,))] == [*moderate]
    assert not is_moderate(case_of(rule_of("x + y", "u", "u")), (0.0, 1.0))


FEW = st.sampled_from([(0.1, 0.3), (0.7, 2.0)])
LESS, MORE = (f"u * (1 {sign} sign(y - exp(x))) / (2 + 0 * x)" for sign in "-+")
LARGEST, LARGER = "maximum(maximum(x, y), 0)", "where(({0} >= {1}) * ({0} > 0), u, 0 * u)"
BESIDE_0 = list(itertools.product((-2.0, 0.0, 1.0), (-1.0, 0.5, 3.0)))
AT_0 = [(0.0, 0.0), (0.5, 0.5), (-1.0, 2.0)]
EXACT: list[tuple[Rule, Any]] = [  # right rules, exact on Fractions, and where they are tried
    (rule_of("x * abs(x)", "u * 2 * abs(x)", kinks=(0.0,)), st.floats(-1e3, 1e3)),  # slopes that vanish
    (rule_of("x * x * x * y", "u * 3 * x * x * y", "u * x * x * x"), (st.floats(-1e3, 1e3),) * 2),
    (rule_of("1 / (1 + x * x)", "u * -2 * (x * o) * o"), None),  # nothing overflows
    (rule_of("where(2 * x > 1, 4 * x * x, 4 * x - 1)", "u * where(2 * x > 1, 8 * x, 4 + 0 * x)"), (-5, 5)),
    # 1 / 3 of two ints is a float
    (rule_of("1 / (3 + maximum(x, 0))", "-u * heaviside(x) / pow(3 + maximum(x, 0), 2)", kinks=(0.0,)), (-9, 9)),
    # at a kink that cannot be declared: max(x, y, 0) at x = 0 > y; a kink of y alone is no tie
    (rule_of(LARGEST, LARGER.format("x", "y"), LARGER.format("y", "x")), BESIDE_0),
    (rule_of("x * x + maximum(y, 0)", "u * 2 * x", "u * heaviside(y)"), AT_0),
    (rule_of("maximum(x, y)", "u * (1 - heaviside(y - x))", "u * heaviside(y - x)", ties=True), AT_0),
]
INEXACT: list[tuple[Rule, Any]] = [
    # an infinite slope at the end of the domain
    (rule_of("asin(x)", "div(u, sqrt((1 - x) * (1 + x)))", domain=(Interval(-1, 1),)), None),
    # what is exact by chance is not held to it
    (rule_of("maximum(tanh(x), 0)", "u * heaviside(x) / pow(cosh(x), 2)", kinks=(0.0,)), (-40, 40)),
    (rule_of("maximum(tanh(x), x)", "u * heaviside(-x) / cosh(x) + u * heaviside(x)"), (0.01, 40)),
    # a kink on the way, or of the slope, makes no wrong second derivative
    (rule_of("cos(abs(x))", "-u * sin(abs(x)) * sign(x)"), (-9, 9)),
    (RIGHT["Huber's loss"], None),
    # e^100000 has 144,270 bits in front of the point: differences for y were 0, and the right slope "wrong"
    (rule_of("exp(x) + y * y", "u * exp(x)", "u * 2 * y"), [(1e5, 1.0), (1e5, 3.0), (1.0, 1.0), (500.0, 2.0)]),
    # the slope for y is 0 at x = -100000, y = 0, and 1/2 for floats and for differences
    (rule_of("maximum(y, exp(x))", f"{LESS} * exp(x)", MORE), [(-1e5, 0.0), (1.0, 2.0), (2.0, 1.0)]),
    # short waves: the slope was accused where a step went over many, the value where digits were too few
    (rule_of("sin(exp(x))", "u * cos(exp(x)) * exp(x)"), [(68.5,), (22.0,)]),
    (rule_of("sin(1 / x) / 3", "-u * cos(1 / x) / (3 * x * x)"), [(1.7e-37,), (22.0,)]),
]


@pytest.mark.parametrize(("rule", "domain"), EXACT + INEXACT)
def test_a_right_rule_is_accused_of_nothing(rule: Rule, domain: Any) -> None:
    report = check_rule(rule, domain=st.sampled_from(domain) if isinstance(domain, list) else domain)
    assert report.inputs > 100 or domain is not None
    assert ("Fractions" in report.numbers) == ((rule, domain) in EXACT)


def test_the_mismatch_shows_the_simplest_input_expected_got_and_ulps_and_carries_them() -> None:
    rule = declared(lambda x: x * x, lambda upstream, out, x: (upstream * x,))
    with pytest.raises(RuleMismatch) as caught:
        check_rule(rule)
    assert str(caught.value) == (
        "mine: the slope for x is wrong\n"
        "  kind      wrong formula\n"
        "  input     x = 1.0\n"
        "  expected  2.0\n"
        "  got       1.0\n"
        "  error     2.25e+15 units in the last place; allowed are 32\n"
        "  likely    a factor 2 is missing"
    )
    assert caught.value.rule is rule
    assert rule.shares(1.0, 1.0, *caught.value.point) == (1.0,)
    assert not getattr(caught.value, "__notes__", [])
    of_any = [Rule("mine", "mine", lambda *xs: 0, lambda *xs: (), n) for n in (1, 2, None)]
    assert [names(rule, n) for rule, n in zip(of_any, (1, 2, 1), strict=True)] == [["xs"], ["x0", "x1"], ["x0"]]


# --- Two verdicts, kinds and likely mistakes ------------------------------------------------------------------
LONG = {"an overflow on the way", "a float for pi", "1 - sigmoid", "an axis that is not reduced", "1 - tanh^2"}
LONG |= {"greedy ties", "a window", "ties, not declared", "a branch on one number"}  # seconds each


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in MISTAKES])
def test_every_mistake_has_its_kind_and_is_named(name: str) -> None:
    rule, kind, text = MISTAKES[name]
    with pytest.raises(RuleMismatch) as caught:
        check_rule(rule)
    assert caught.value.kind == kind
    assert text in str(caught.value)
    report = caught.value.report
    assert [failure.kind for failure in report.failures].count(FORMULA) < 2
    if kind in (FORMULA, LINEAR, ROUNDING):
        verdicts = ("right", "wrong") if kind == ROUNDING else ("wrong", "not examined")
        assert (report.mathematics, report.rounding) == verdicts
    assert repr(report) == str(caught.value)


def case_of(share: str | Rule, *points: Any) -> Case:
    rule = share if isinstance(share, Rule) else rule_of("x / 1", share)
    case = Case(rule, reference_of(rule), 32)
    case.points = [x if isinstance(x, tuple) else (x,) for x in points]
    return case


AROUND = "the slope is right at other points: one branch, or one window, is wrong"
MEAN = several("total(*xs)", "(u / len(xs),) * len(xs)")
LIKELY: list[tuple[Rule, tuple[Any, ...], str]] = [  # a wrong rule, its points, the first of which fails, and why
    (rule_of("x * x", "u * (2 * x + equal(x, 0))"), (0.0, 1.0, 2.0, 3.0), AROUND),
    (rule_of("x * x", "u * 2 * x * (1 + equal(x, 1))"), (1.0, 2.0, 3.0), AROUND),
    (rule_of("x * x", "u * 2 * x * (1 + (x < 2.5))"), (1.0, 2.0, 3.0), ""),
    (rule_of("x * x", "u * x"), (1.0, 2.0, 0.0), ""),  # too few to tell
    (rule_of("abs(x - 1)", "2 * u * sign(x - 1)", kinks=(1.0,)), (2.0, 1.0, 3.0, 4.0), "a factor 2 is too many"),
    (rule_of("exp(x)", "u * exp(o)"), (1.0, 2.0, 3.0), "out is used where x is meant"),
    (MEAN, ((1.0, 2.0), (3.0,), (2.0, 3.0), (2.0, 5.0)), "a factor 2 is missing"),
    (rule_of("sign(x) * sqrt(abs(x))", "-div(u, 2 * abs(o))"), (0.0, 1.0, 2.0), "the sign is wrong"),
    (rule_of("x * x", "u * where(equal(x, 1), inf, 2 * x)"), (1.0, 2.0, 3.0), AROUND),
    (rule_of("exp(x)", "u * inf"), (1.0, 2.0, 3.0), ""),
]


@pytest.mark.parametrize(("rule", "points", "why"), LIKELY)
def test_the_mistake_that_explains_a_slope(rule: Rule, points: tuple[Any, ...], why: str) -> None:
    case = case_of(rule, *points)
    assert mistakes.formula_mistake(case, case.points[0], 1) == why


def test_what_common_mistakes_look_like() -> None:
    row = mistakes.Row((3.0, 5.0), 7.0, (2.0, 11.0), ())
    slopes = [slope(row) for _, _, slope in mistakes.suspects(["x", "y"], 0)]
    assert slopes == pytest.approx([11, -11, -2, 1, 0, 1 / 2, 2 / 3, 6, 2 / 5, 10, 2 / 7, 14])
    factors = [mistakes._factor(mp.mpf(x)) for x in (1 / 3, 1.5, 1 / 101, 3 + 4.5e-12)]
    assert factors[:2] == ["a factor 3 is missing", "a factor 3/2 is too many"]
    assert factors[2:] == [f"it is {x} times the slope" for x in ("0.0099009900990099", "3.0000000000045")]
    shares = (3.0, 48.0, -2.0, -0.75, 12.0, 48.00000007)
    looks = [mistakes.upstream_mistake(3.0, share).split(":")[0] for share in shares]
    assert looks[:2] == ["upstream is missing", "upstream is a factor twice."]
    assert looks[2:] == ["upstream is added", "upstream is a divisor", "the sign of upstream is lost.", ""]


def test_lost_digits_are_told_from_where_on() -> None:
    case = case_of("u + u * 1e-13 * (x > 3)", 8.0, -2.0, 4.5, 1.0)
    assert (mistakes.lost_where(case, 0), mistakes.lost_where(case, 1)) == ("", "x = 4.5 to 8")
    every_second = case_of("u + u * 1e-13 * equal(x % 2, 1)", *range(9))
    assert mistakes.lost_where(every_second, 1) == "x = 1, 3, 5, 7"
    every_second.points.append((9.0,))
    assert mistakes.lost_where(every_second, 1) == "x = 1, 3, 5, 7 and elsewhere"


def test_two_verdicts() -> None:
    for kinds, verdicts in {
        (): ("right", "right"),
        (LINEAR,): ("wrong", "not examined"),
        (SECOND,): ("wrong", "not examined"),
        (ROUNDING,): ("right", "wrong"),
        (SINGULAR, ROUNDING): ("wrong", "wrong"),
        (ROUNDING, NUMBERS): ("right", "wrong"),
    }.items():
        case = case_of("u")
        case.failures = [RuleMismatch(case.rule, kind, "wrong", (3.0,)) for kind in kinds]
        report = RuleReport(case)
        facts = json.loads(report.to_json())
        assert (report.ok, report.mathematics, report.rounding) == (not kinds, *verdicts)
        assert [facts[name] for name in ("ok", "mathematics", "rounding")] == [not kinds, *verdicts]


def test_failures_at_ordinary_numbers_come_first_then_the_kinds_then_those_nearest_to_1() -> None:
    case = case_of("u")
    told = [*((NUMBERS, x) for x in (0.0, 0.3, 5.0, 1.5e-100)), (FORMULA, 1e-100), (LINEAR, 1e100)]
    case.failures = [RuleMismatch(case.rule, kind, "wrong", (x,)) for kind, x in reversed(told)]
    assert [(failure.kind, *failure.point) for failure in RuleReport(case).failures] == [*told[:4], *told[:3:-1]]


def test_the_report_plots_errors() -> None:
    case = case_of("u * where(x > 4, x / 0.0 if x > 9 else 1 + 2.0**-40, 1)", 8.0, 10.0, 2.0)
    (axes,) = RuleReport(case).plot().axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["the value", "the slope for x", "allowed: 32"]
    assert [list(map(list, line.get_data())) for line in axes.lines[:2]] == [
        [[2, 8], [2**-4, 2**-4]],
        [[2, 8], [2**-4, 2**12]],
    ]
    assert (axes.get_xlabel(), axes.get_title()) == ("x", "mine: errors at 3 points")
    assert (axes.get_xscale(), axes.get_yscale(), *axes.figure.get_size_inches()) == ("symlog", "log", 8, 3.5)


def test_a_domain_is_an_interval_a_pair_or_strategies_as_in_prove_rule() -> None:
    textbook = rule_of("tanh(x)", "u * (1 - o * o)")
    for domain in ((-1, 1), Interval(-1, 1), [(-1, 1)], st.floats(-1, 1), [st.floats(-1, 1)]):
        assert check_rule(textbook, domain=domain).inputs > 50
    for function in (check_rule, prove_rule):
        with pytest.raises(TypeError, match="has no argument 'inputs': `domain=` says where the inputs may lie"):
            function(textbook, inputs=(-1, 1))


def test_digits_that_cancel_are_had_from_more_digits() -> None:
    tail = Reference(lambda x: x * (1 + e.tanh(10 * x)))
    assert float(tail.value((-30.0,))) == pytest.approx(-60 * math.exp(-600), rel=1e-12, abs=0)
    assert float(tail.exact_slopes((-30.0,))[0]) == pytest.approx((2 - 1200) * math.exp(-600), rel=1e-12, abs=0)
    beside = Reference(lambda x, y: e.exp(x) + e.exp(-706.5 * y))
    slopes = [float(beside.exact_slopes((352.0, 1.0))[1]), float(beside.second((352.0, 1.0), 1, 1))]
    assert slopes == pytest.approx([-706.5 * math.exp(-706.5), 706.5**2 * math.exp(-706.5)], rel=1e-12, abs=0)
    assert Reference(lambda x: x**4).second((0.0,), 0, 0) == 0  # its central difference is not
    assert mp.nstr(Reference(lambda x: x / mp.cbrt(x * x + 1e-80)).exact_slopes((0.0,))[0]) == "4.64159e+26"
    assert mp.nstr(Reference(lambda x: 1e-99 * (x * x / 2 + abs(x) ** 2.1)).second((0.0,), 0, 0)) == "1.0e-99"
    with pytest.raises(ValueError, match="f has no digits"):
        Reference(lambda x: (mp.mpf(10) ** 780 + mp.sin(x)) - mp.mpf(10) ** 780).value((1.0,))
    asked: list[Any] = []  # outside of an undeclared domain no digits are spent
    assert (sides(lambda x: e.log(asked.append(x) or x), (-2.0,), 0), len(asked)) == ([None, None], 1)
    # a slope of 0 beside a large number is that of the step alone
    assert Reference(lambda x, y: x * abs(x) * e.exp(y * y)).exact_slopes((0.0, 40.1)) == [0, 0]
    slope = Reference(lambda x, y: x * e.exp(y * y)).exact_slopes((0.0, 40.1))[0]
    assert abs(slope / mp.exp(mp.mpf(40.1) ** 2) - 1) < 1e-12


def test_what_rounding_does_to_logsumexp_where_its_terms_cancel() -> None:
    """e^(x - max) is so many ulps off as max - x is large: 33 of the logarithm, which is all that is left."""
    point, rule = (-3.5264365826425464e-15, -33.28302512398475, -38.822733748962335), RULES["logsumexp"]
    reference = reference_of(rule)
    size = reference.value_size(point, ())
    assert ulps(rule.forward(*point), reference.value(point), abs(point[0])) > 30
    assert ulps(rule.forward(*point), reference.value(point), size) < 1
    assert 33 < size / abs(point[0]) < 36


def test_a_wrong_slope_on_floats_alone_is_no_lost_digits() -> None:
    """As a function of PyTorch with a formula: on other numbers than floats, backward is that of the formula."""
    for factor, kinds in (-2, [FORMULA]), (2 + 2.0**-20.6, [FORMULA]), (2 + 2e-13, [ROUNDING]):
        rule = rule_of("x * x", f"u * x * ({factor} if isinstance(x, float) else 2)")
        rule.floats_only = True
        with pytest.raises(RuleMismatch, match=r"mine: the slope for x is wrong|loses its digits") as caught:
            check_rule(rule)
        assert [failure.kind for failure in caught.value.report.failures] == kinds
        assert caught.value.report.mathematics == ("wrong" if kinds == [FORMULA] else "not examined")
    right = rule_of("x * x", "u * x * 2")
    right.floats_only = True
    assert check_rule(right).mathematics == "not examined"
    right.floats_only, right.library = False, "theirs"  # its arrays are its own
    assert check_rule(right).numbers == ["floats", "Values", "mpmath numbers"]


def test_functions_of_another_language_are_tested_with_a_reference(tmp_path: Path) -> None:
    """In C: cosh and sinh of the library, and a file of one's own. Nothing but floats passes through."""
    cc = shutil.which("cc") or pytest.skip("there is no compiler of C")
    (tmp_path / "mine.c").write_text("""double cube(double x) { return x * x * x; }
    double slope(double x) { return 3 * x * x; }
    double wrong(double x) { return 3 * x * x * (1 + (x > 2)); }""")
    subprocess.run([cc, "-shared", "-fPIC", "-o", tmp_path / "mine.so", tmp_path / "mine.c"], check=True)
    mine = ctypes.CDLL(str(tmp_path / "mine.so"))
    for function in (mine.cube, mine.slope, mine.wrong):
        function.restype, function.argtypes = ctypes.c_double, [ctypes.c_double]
    right = Rule("cube", "cube", mine.cube, lambda u, out, x: (u * mine.slope(x),), 1)
    report = check_rule(right, lambda x: x**3)
    assert (report.mathematics, report.rounding, report.numbers) == ("not examined", "right", ["floats", "Values"])
    assert "the rule runs on floats alone" in repr(report)
    wrong = Rule("cube", "cube", mine.cube, lambda u, out, x: (u * mine.wrong(x),), 1)
    with pytest.raises(RuleMismatch, match="cube: the slope for x is wrong") as caught:
        check_rule(wrong, lambda x: x**3)
    assert caught.value.kind == FORMULA
    assert 2 < caught.value.point[0] < 4
    with pytest.raises(RuleMismatch, match="give check_rule a reference of mpmath numbers"):
        check_rule(right)


def forever(x: Any) -> Any:
    while True:
        try:
            x = x + 0
        except Exception:
            x = None


def test_a_function_that_does_not_return_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "GRACE", 0.1)
    told = r"mine does not return: after 0\.5 s it was in forever, .*\.py:\d+\."
    for check in (check_rule, prove_rule):
        with pytest.raises(TimeoutError, match=told):
            check(declared(forever, lambda u, out, x: (u,)), budget=0.2)
    with pytest.raises(TimeoutError, match="tanh does not return"):
        check_rule("tanh", forever, budget=0.2)
    late = check_rule("exp", budget=0)
    assert (late.timed_out, late.inputs) == (True, 0)
    wrong = declared(lambda x: forever(x) if x == 200 else x * x, lambda u, out, x: (u * x,))
    with pytest.raises(RuleMismatch, match="the slope for x is wrong"):  # it was seen in time
        check_rule(wrong, domain=st.sampled_from([1.0, 200.0]), budget=0.2)
    report = check_rule("neg")
    monkeypatch.setattr(time, "thread_time", lambda: math.inf)  # the time is that of the search
    assert not report.timed_out
    assert "The time was up" not in str(report)


def test_a_search_whose_time_is_up_while_it_shrinks_ends_quietly() -> None:
    answers = iter([True])
    assert _simplest(RULES["tanh"], st.tuples(st.floats(1, 2)), lambda point: next(answers, False)) is None
    case = Case(RULES["tanh"], reference_of(RULES["tanh"]), 0.5)
    assert len(case.errors((1.0,))) == 2
    case.points, case.clock = [(1.0,)], deadline.TimeLimit(0)
    assert mistakes.lost_where(case, 1) == ""


# --- Where floats overflow ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("share", "cause"),
    [("-2 * x * o * o", "-inf * 0 is nan"), ("-2 * x / ((1 + x * x) * (1 + x * x))", "-inf / inf is nan")],
)
def test_an_overflow_is_not_taken_for_a_kink(share: str, cause: str) -> None:
    with pytest.raises(RuleMismatch) as caught:
        check_rule(rule_of("1 / (1 + x * x)", f"u * ({share})"))
    [message] = [str(f) for f in caught.value.report.failures if f.kind == SINGULAR]  # others may lie nearer to 1
    assert "the slope for x is nan, where it should be" in message
    assert cause in message
    assert not any(text in message for text in ("declare kinks", "\n  where"))
    assert "nan may come from nan only: multiply in another order" in message


def test_a_rule_that_fails_without_a_graph_has_no_reason() -> None:
    with pytest.raises(RuleMismatch) as caught:
        check_rule(rule_of("x if x.__class__.__name__ == 'mpf' else x.hex() and (x * x / x if x else x)", "u"))
    assert [failure.facts.get("because") for failure in caught.value.report.failures] == [None, None, "", ""]


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Value(1e308) * 2.0, "1e+308 * 2 is inf"),
        (lambda: Value(2.0) * 3.0, ""),
        (lambda: 0.0 * Value(math.inf, label="out"), "the leaf out is inf itself, and 0 * inf is nan"),
        (lambda: Value(math.nan, label="x") + 1.0, "the leaf x is nan itself"),
        (
            lambda: Value(1e200) ** 2 - Value(1e300) * 1e10,
            "1e+300 * 1e+10 is inf, 1e+200**2 is inf, and inf - inf is nan",
        ),
        (lambda: (-Value(1000.0).exp() * 2.0) * 0.0, "exp(1000) is inf, and -inf * 0 is nan"),
        (lambda: 1 / (1 + Value(1000.0).exp()), "exp(1000) is inf"),
    ],
)
def test_origin(make: Any, line: str) -> None:
    assert (mistakes.origin(make()), mistakes.rounding_mistake(make())) == (line, "")  # nothing cancels


LOSES: list[tuple[Any, float, str]] = [  # a function, where it loses digits, and the better form
    *((lambda x: e.exp(x) - 1, 1e-9, "use expm1(x) for"), (lambda x: 1 - e.exp(x), 1e-9, "use -expm1(x) for")),
    *((lambda x: 1 - e.cos(x), 1e-5, "sin(x / 2)**2"), (lambda x: 1 - e.sigmoid(x), 40.0, "use sigmoid(-x) for")),
    *((lambda x: 1 - e.erf(x), 5.0, "use erfc(x)"), (lambda x: e.log(1 + x), 0.03, "log(1 + x) loses the digits")),
    *((lambda x: 1 - x * x, 1.001, "1 - x * x cancels: use"), (lambda x: 1 - x**2, 1.001, "(1 - t) * (1 + t)")),
    *((lambda x: e.sqrt(1 + x) - 1, 1e-9, "(sqrt(a) + b)"), (lambda x: 1 - e.sqrt(x), 1.001, "(sqrt(a) + b)")),
    *((lambda x: 1 - x * (x + 1), 0.618, "1 - 0.9999 cancels: find"), (lambda x: x - 3, 3.09, "find a form")),
    *((lambda x: e.log(x) - 1, 2.72, "log(x) - 1 cancels"), (lambda x: x - 31, 32.0, "find a form")),
]


@pytest.mark.parametrize(("f", "x", "better"), LOSES)
def test_lost_digits_have_a_better_form(f: Any, x: float, better: str) -> None:
    assert better in mistakes.rounding_mistake(f(Value(x, label="x")))
    assert mistakes.rounding_mistake(f(Value(1.2))) == ""


# --- Bad input ----------------------------------------------------------------------------------------------
def asked(forward: str, share: str, *arguments: Any, **more: Any) -> Any:
    return lambda: check_rule(rule_of(forward, share, **more), *arguments)


RELU, LEAKY = rule_of("maximum(x, 0)", "u * heaviside(x)"), lambda x: max(x, x / 10)
ROOT = lambda x: mp.sqrt(x) ** 4  # noqa: E731 - a formula
UNREAL = st.sampled_from([-2.0, -1.0, 1.0])  # at most of them
NO_NUMBERS = "reference of mine must take and return mpmath numbers, but at"
BAD: list[tuple[type[Exception], str, Any]] = [
    (TypeError, "takes a Rule or the name of one, got 'tan3': there are add, sub", lambda: check_rule("tan3")),
    (TypeError, "a Rule is what @rule returns", lambda: check_rule(math.tanh)),  # type: ignore[arg-type]  # the mistake
    (TypeError, "forward of mine must return one real number, got None", asked("None", "u")),
    (TypeError, r"1 share\(s\), one per input, got \(1.0, 1.0\)", asked("x", "u, u")),
    (TypeError, "backward of mine must return 1 share", lambda: check_rule(declared(e.exp, lambda u, out, x: u))),
    (TypeError, "backward of mine must return numbers, got None", asked("x", "None")),
    (ValueError, "mine is empty: no x fulfils 3 <= x <= 1", asked("x", "u", domain=(Interval(3, 1),))),
    (ValueError, "No input that was drawn is in the domain", lambda: check_rule("log", domain=st.floats(-5, -1))),
    (TypeError, "reference is a function of mpmath numbers, got 3", lambda: check_rule("exp", 3)),  # type: ignore[arg-type]  # the mistake
    (ValueError, "bound is an error in ulps, above 0, got 0", lambda: check_rule("exp", bound=0)),
    (ValueError, "bound is an error in ulps, above 0, got '4'", lambda: check_rule("exp", bound="4")),  # type: ignore[arg-type]  # the mistake
    # what a wrong value looks like is not known; 0 is no float on the way
    (RuleMismatch, "(?s)the value is wrong\n  kind +wrong formula(?!.*likely)", lambda: check_rule(RELU, LEAKY)),
    (RuleMismatch, "slope for x", lambda: check_rule(rule_of("x * x", "u * x"), ROOT, domain=UNREAL)),
    (RuleMismatch, "allowed are 0.1", lambda: check_rule("tanh", bound=0.1)),
    (ValueError, "No input that was", lambda: check_rule("mul", domain=[st.just(math.inf), st.floats(1, 2)])),
    (TypeError, r"inputs of exp must give 1 number\(s\)", lambda: check_rule("exp", domain=[st.floats()] * 2)),
    (ValueError, "domain has 0 intervals for 1 inputs", lambda: check_rule("exp", domain=[])),
    (TypeError, r"inputs of mul must give 2 number", lambda: check_rule("mul", domain=[st.floats(), st.text()])),
    *((TypeError, NO_NUMBERS, asked("x", "u", f)) for f in (lambda x: None, lambda x, y: x)),
    (ValueError, "no real value .*: declare domain=", asked("x", "u", lambda x: mp.sqrt(-1 - x * x))),
]


@pytest.mark.parametrize(("kind", "message", "call"), BAD, ids=[b[1][:40] for b in BAD])
def test_bad_input_is_told_so(kind: type[Exception], message: str, call: Any) -> None:
    with pytest.raises(kind, match=message):
        call()


# --- What it is made of -------------------------------------------------------------------------------------
def test_ulps() -> None:
    assert ulps(1.0, 1.0) == 0
    assert ulps(1.0, 1.0 + 2.0**-52) == 1
    with mp.workdps(50):
        assert ulps(1.0, mp.mpf(1) + mp.mpf(2) ** -53) == 0.5
    assert ulps(math.inf, mp.mpf(10) ** 400) == 0
    assert ulps(-math.inf, mp.mpf(10) ** 400) > 1e15
    assert ulps(math.nan, math.nan) == 0
    assert ulps(math.nan, 1.7976931348623157e308) == ulps(1.0, math.nan) == math.inf
    assert ulps(5e-324, 1e-310) == 0  # subnormals have lost digits by definition
    assert ulps(1e-300, 1e-310) > 1e9
    assert ulps(5e-324, 2.0**-1022) > ulps(2.0**-1022, 1e-310) == 0
    assert ulps(0.0, 1e-20, size=1.0) < 1e-3 < 1e15 < ulps(0.0, 1e-20)
    assert ulps(1.0, 1.0 + 2.0**-52, size=-2.0) == 0.5
    assert ulps(1.0, 2.0, size=math.inf) < 1e-292
    assert ulps(math.inf, 1.7976931348623157e308) == 1


def test_what_lies_between_two_slopes() -> None:
    for slope, between in ((-1.5e-12, False), (-9e-13, True), (1 + 9e-13, True), (1 + 1.5e-12, False)):
        assert is_between(slope, (0.0, 1.0)) == is_between(1000 * slope, (0.0, 1000.0)) == between
        assert is_between(slope / 1000, (0.0, 1e-3)) == (slope < 1.1)
        assert is_between(slope, (7.0, math.inf))


B = mp.mpf(2) ** 2500
OUT_OF_REACH: list[tuple[str, Any, bool, str]] = [  # f, x, does it stand for a Fraction; what is out of reach
    *(("exp(x)", B, False, "exp"), ("where(x > 0, exp(x), x)", B, True, "exp"), ("None", B, False, "")),
    *(("exp(x)", B / 2, False, ""), ("exp(x * x)", B / 2, False, "exp"), ("x * x + sqrt(x)", B, False, "")),
    *(("exp(x)", mp.inf, False, ""), ("x * inf", 2, True, ""), ("x - x", 2, True, ""), ("int('')", 2, True, "")),
    *(("x**3000", 2.0, False, ""), ("x**2500", 2.0, True, "pow_n"), ("x**2499", 2.0, True, "")),
    *(("x**-3000", 2.0, True, "pow_n"), ("exp(x * constants(x)[0])", B, False, "exp")),
]


@pytest.mark.parametrize(("text", "x", "exact", "name"), OUT_OF_REACH)
def test_what_would_take_forever_is_known_beforehand(text: str, x: Any, exact: bool, name: str) -> None:
    f = rule_of(text, "u").forward
    asks = [lambda p: within_reach(f, p, exact)]
    if name and not exact:
        asks += [Reference(f).value, Reference(f).exact_slopes, lambda p: Reference(f).second(p, 0, 0)]
    for ask in asks:
        with (
            pytest.raises(ValueError, match=f"^{name} of a .* out of reach") if name else contextlib.nullcontext()
        ):
            ask((x,))


@pytest.mark.parametrize("x", [5e-324, 1e-300, 1e-9, 1.0, 3.7, 700.0, 1e15, 1e300, -2.5])
def test_differences_at_high_precision_are_slopes(x: float) -> None:
    with mp.workdps(50):
        numbers = [
            (Reference(mp.atan).exact_slopes((x,))[0], 1 / (1 + mp.mpf(x) ** 2)),
            (Reference(mp.atan).second((x,), 0, 0), -2 * mp.mpf(x) / (1 + mp.mpf(x) ** 2) ** 2),
            (
                Reference(lambda x, y: mp.sin(x * y)).second((x, 0.5), 0, 1),
                mp.cos(mp.mpf(x) / 2) - mp.sin(mp.mpf(x) / 2) * mp.mpf(x) / 2,
            ),
        ]
        assert all(mp.almosteq(got, exact, mp.mpf(10) ** -40) for got, exact in numbers)


KINKS: list[tuple[Any, float, list[float]]] = [  # f, x, and its slopes on both sides, where these differ
    (lambda x: 3 * abs(x - 2), 2.0, [-3, 3]),
    (lambda x: mp.mpf(x > 3), 3.0, [0, math.inf]),
    (lambda x: mp.sqrt(abs(x)), 0.0, [-math.inf, math.inf]),
    (lambda x: x + 2.0**-20 * abs(x), 0.0, [1 - 2.0**-20, 1 + 2.0**-20]),
    (lambda x: x + 2.0**-21 * abs(x), 0.0, []),
    (mp.sqrt, 0.0, []),
    (lambda x: mp.exp(-x * x), 1.0, []),
    (lambda x: mp.exp(-x * x), 1e200, []),
    (lambda x: mp.sin(x**4), 1e100, []),
]


@pytest.mark.parametrize(("f", "x", "slopes"), KINKS)
def test_a_kink_has_two_slopes(f: Any, x: float, slopes: list[float]) -> None:
    assert Reference(f).kink((x,), 0) == slopes


def test_a_domain_is_read_off_the_rule() -> None:
    assert (line_of(RULES["log"], 0).low, line_of(RULES["log"], 0).high) == (5e-324, 1.7976931348623157e308)
    assert (line_of(RULES["asin"], 0).low, line_of(RULES["asin"], 0).high) == (-1.0, 1.0)
    for name, ends, expected in [
        ("asin", (-1.0, 2.0), Interval(-1, 1)),
        ("asin", (0.5, 0.75), Interval(0.5, 0.75)),
        ("log", (-1, 3), Interval(0, 3, open=True)),
        ("log", (0, 3), Interval(0, 3, open=True)),
        ("log", (1, 3), Interval(1, 3)),
        ("log", (1, 1), Interval(1, 1)),
        ("log", (1, math.inf), Interval(1, open=True)),
        ("exp", (1, math.inf), Interval(1, math.inf)),
    ]:
        (part,) = confined(RULES[name], ends_of(ends, 1)).domain
        assert vars(part) == vars(expected)
    assert not inside(RULES["log"])((0.0,))
    assert not inside(RULES["div"])((1.0, 0.0))
    assert inside(RULES["div"])((0.0, 1.0))
    assert not inside(RULES["asin"])((Fraction(3, 2),))
    assert all(0 < x <= 1.8e308 for (x,) in grid_of(RULES["log"]))
    assert {len(point) for point in grid_of(RULES["max"])} == {1, 2, 3, 7}
    assert all(y != 0 for _, y in grid_of(RULES["div"]))
    assert {(-1.0,), (1.0,)} <= {*grid_of(RULES["asin"])}
    assert {(x,) for point in (0.0, 3.0) for x in near(point)} <= {*grid_of(RULES["exp"], (3.0,))}
    assert [len(grid_of(RULES[name])) for name in ("exp", "mul", "max")] == [755, 841, 120]  # if more, count again
    assert line_of(RULES["exp"], 0) == (-1.7976931348623157e308, 1.7976931348623157e308, [0.0])
    for ends, simplest in (((-1e9, 1e9), 0.0), ((3, 3), 3.0), ((60, 70), 60.0)):
        assert find(line_of(confined(RULES["exp"], [ends]), 0).strategy(), lambda x: True) == simplest


def test_hard_points_leave_no_wide_gap() -> None:
    for side in (1, -1):
        numbers = sorted(side * x for (x,) in grid_of(RULES["sinh"]) if side * x > 0)
        assert (numbers[0], numbers[-1]) == (5e-324, 1.7976931348623157e308)
        for low, high, gap in ((0.0, 2.9, 0.11), (2.9, 39.9, 0.5), (39.9, 800, 13.71)):
            assert max(b - a for a, b in itertools.pairwise(numbers) if low <= a <= high) <= gap
        assert max(b / a for a, b in itertools.pairwise(numbers)) <= 2.0**64
        assert {math.pi / 2e20, math.pi / 2, math.pi * 5e19, *(2.0**k for k in (-1022, 256, 512, 1023))} <= {
            *numbers
        }
        for end in (abs(math.log(x)) for x in (numbers[0], 2.0**-1022, numbers[-1])):  # where exp ends
            assert {math.sqrt(end), math.sqrt(2 * end), *near(end)} <= {*numbers}
        distances = sorted(side * (x - 3) for x in near(3.0) if side * (x - 3) > 0)
        assert (distances[0], distances[-1]) == (2.0**-51, 0.5)
        assert max(b / a for a, b in itertools.pairwise(distances)) <= 2.0**8


def test_points_beside_the_constants_of_a_rule() -> None:
    def forward(x: Any, by: float = 7.5, flag: bool = True, huge: int = 10**400) -> Any:
        return x * by + 2.5 * unknown * 1e309 if flag else closed

    closed = 9.25
    rule = Rule("mine", "mine", forward, lambda u, o, x: (u,), 1)
    points = beside_constants(rule)
    around = {c + d for c in (2.5, 7.5, 9.25) for d in (-0.5, -0.25, 0, 0.25, 0.5)}
    assert {x for (x,) in points if x % 0.25 == 0} == around | {-11.25, -3.75, 3.75, 5.0, 11.25}  # 1.5 c, c / 1.5
    points += beside_constants(rule_of("x * 3.5", "u * y * 5.5", "u * x", domain=(Interval(0), Interval(0, 4))))
    points += beside_constants(rule_of("x * y * z * 3.5", "u * y * z * 3.5", "u * x * z * 3.5", "u * x * y * 3.5"))
    assert {(math.nextafter(7.5, 8),), (5.5, 1.0), (1.0, 3.5), (3.5, 3.5), (1.0, 3.5, 1.0)} <= {*points}
    assert {(3.5, 1.0), (3.5, 0.7), (3.5, 2.0), (0.7 * 3.5, 0.7), (0.7, 0.7 * 3.5, 0.7)} <= {*points}
    assert not {(1.0, 5.5), (3.5, 3.5, 3.5)} & {*points}
    if not points:
        unknown = 1.0  # it has no value yet


@pytest.mark.parametrize(
    ("forward", "share"),
    [
        ("pow(cos(x * x), 3)", "-6 * u * x * cos(x * x) * cos(x * x) * sin(x * x)"),  # 3e-12 by rounding x * x
        ("tanh(x * x)", "2 * u * x * (1 / pow(cosh(x * x), 2))"),  # a quotient on the way is subnormal
        ("1 / (1 + x * x)", "-2 * u * x / ((1 + x * x) * (1 + x * x))"),
    ],
)
def test_rounding_is_no_wrong_second_derivative(forward: str, share: str) -> None:
    rule = rule_of(forward, share, domain=(Interval(-1e60, 1e60),))
    case = Case(rule, reference_of(rule), 32)
    for x in (-95.89999999999999, 14.0, 0.3, 3.82230733229466e44):
        has_right_second_derivatives(case, (x,))
    assert case.worst["second"][0] > 1e-12


NOT_LINEAR = "upstream not used linearly\n.*\n  expected  {}\n  got +\\S+$"
A_LITTLE = "u * cos(x + {} * (x - getattr(x, 'data', x)))"
WRONG_SECOND = "(?s)the second derivative for x and x is wrong.* of the size of its terms; allowed are 1e-12$"
ONE, GAP, BUMP = Interval(1e-48, 1), Interval(5.55, 5.95), "abs(x - math.pi - math.e) < 0.012"
FLOAT_OF = "(spread(u * (1.0 if len(xs) == {} else 1), xs),) * len(xs)"
ALSO = "\n  also      wrong at kinks, nan or inf: the slope for x is nan"
ON_SIDES, BEND = "0.0 and 2.0 on its two sides\n", "maximum(where(x > 1, x * x, 2 * x - 1), 0)"
REFUSED: list[tuple[Rule, list[str], str]] = [  # a wrong rule, the kinds of its failures, and words of the first
    (rule_of("sin(x)", A_LITTLE.format(1e-10)), [SECOND], WRONG_SECOND),
    (rule_of("sin(x)", A_LITTLE.format(1e-8)), [SECOND], WRONG_SECOND),
    (rule_of("x * x", "u * 2 * where(equal(x, 0), 0 * x, x)"), [SECOND], "input     x = 0.0"),
    # a second derivative that overflows is told from a wrong one
    (rule_of("x * x / 2", "u * pow(x, 5) * (1 / (x * x * x * x))", domain=(ONE,)), [ROUNDING], WRONG_SECOND),
    # both sides of a kink are told, and what follows is not
    (rule_of("maximum(x, 0) * (2 + x)", "u * heaviside(x) * (2 + 2 * x)"), [SINGULAR], ON_SIDES),
    (rule_of(BEND, "u * where(x > 1, 2 * x, 2 * heaviside(2 * x - 1))"), [SINGULAR], r"=\(0.5,\)"),
    (rule_of("x / 1", "u * (1 + 1.5 * 2.0**-40)"), [FORMULA], "error     6.14e\\+03 units"),  # 12 digits are right
    # it loses digits from 4.5 on, and overflows to nan at 1e308
    (rule_of("tanh(x)", "u * (1 - o * o) * (1 + 0 * (x * 2))"), [ROUNDING, SINGULAR], ALSO),
    # numbers in the code of a rule are tried
    (rule_of("exp(x)", "u * o * where(equal(x, 0.7312), 2, 1)"), [FORMULA], "wrong formula"),
    (rule_of("exp(x)", "u * o * where(abs(x - 2.83) < 1e-9, 2, 1)"), [FORMULA], "wrong formula"),
    (rule_of("x * y", "u * y * where(equal(x, 1.37 * y), 2, 1)", "u * x"), [FORMULA, ROUNDING], "wrong formula"),
    # what no hard point meets, random ones do
    (rule_of("exp(x)", f"u * o * where({BUMP}, 2, 1)", domain=(GAP,)), [FORMULA], "wrong formula"),
    (WRONG["moved on ties"], [FORMULA], "wrong formula"),
    # one failure of a kind is enough, and every length of a reduction is tried on Fractions
    (rule_of("x * y", "where(x > 1, u, 1) * y", "where(x > 1, 1, u) * x"), [LINEAR], "the share of x is"),
    *((several("total(*xs)", FLOAT_OF.format(n)), [NUMBERS], "is not exact on Fractions") for n in (2, 4, 6)),
    # upstream is tried far from 1
    (rule_of("x * x", "where(u > 1e6, 1e6, u) * 2 * x"), [LINEAR], NOT_LINEAR.format(2.0**31)),
    (rule_of("x * x", "where(u > 1, u + u / 2**46, u) * 2 * x"), [LINEAR], NOT_LINEAR.format(2.0**31)),
    (rule_of("x * x", "where(abs(u) < 1e-9, 0, u) * 2 * x"), [LINEAR], NOT_LINEAR.format(2.0**-39)),
    (rule_of("x * x", "(u + equal(u, 0)) * 2 * x"), [LINEAR], NOT_LINEAR.format(0.0)),
]


@pytest.mark.parametrize(("rule", "kinds", "words"), REFUSED)
def test_a_wrong_rule_is_refused(rule: Rule, kinds: list[str], words: str) -> None:
    with pytest.raises(RuleMismatch, match=words) as caught:
        check_rule(rule, budget=5)
    report = caught.value.report
    assert report.failures[0] is caught.value
    assert [failure.kind for failure in report.failures] == kinds
    assert [failure["kind"] for failure in json.loads(report.to_json())["failures"]] == kinds


def test_a_float_for_pi_is_seen_where_the_numbers_are_of_ordinary_size() -> None:
    rule = rule_of("exp(x) * constants(x)[0]", "u * exp(x) * math.pi", domain=(Interval(0, 9),))
    with pytest.raises(RuleMismatch, match="the slope for x loses digits on mpmath numbers"):
        keeps_digits(Case(rule, reference_of(rule), 32), (1.5,))


def test_the_larger_number_keeps_its_kind() -> None:
    assert [type(e.maximum(x, 0)) for x in (-1.0, Fraction(-1), mp.mpf(-1), 1)] == [float, Fraction, mp.mpf, int]
    assert isinstance(e.maximum(0, Fraction(-1)), Fraction)


AT_1 = "x / x / 10 + where(equal(x, 1), {}, 1.5 * sqrt(x - 1))"
UNKNOWN: list[tuple[str, bool, str]] = [  # a slope, of floats only; and what is said
    ("0.1 + 1.5 * sqrt(x - 1)", False, "loses digits on mpmath numbers"),  # a ValueError left check_rule
    (AT_1.format("math.nan"), True, "is nan, where it should be 0.1\n  kind +wrong at"),
    (AT_1.format("inf"), False, "got       inf\n.*allowed are 32\n.*at other points"),
]


@pytest.mark.parametrize(("slope", "floats_only", "words"), UNKNOWN)
def test_a_size_that_cannot_be_told(slope: str, floats_only: bool, words: str) -> None:
    """The slope 1/10 + 1.5 sqrt(x - 1) has no slope of its own at 1, the end of the domain."""
    rule = rule_of("x / 10 + (x - 1) * sqrt(x - 1)", f"u * ({slope})", domain=(Interval(1, 50),))
    rule.floats_only = floats_only
    exact = (lambda x: x / 10 + mp.sqrt(x - 1) ** 3, lambda x: [mp.mpf(1) / 10 + 1.5 * mp.sqrt(x - 1)])
    with pytest.raises(RuleMismatch, match=words):
        check_rule(rule, Reference(*exact))


@pytest.mark.parametrize(
    ("forward", "share"),
    [
        ("exp(exp(exp(exp(exp(x)))))", "u * o"),
        ("pow(x, 1000000)", "u * 1000000 * pow(x, 999999)"),
        ("pow(3 * x, 1000000000)", "u * 3000000000 * pow(3 * x, 999999999)"),
        ("pow(1 + x, 1000000)", "u * 1000000 * pow(1 + x, 999999)"),
        ("x * pow(2 + 0 * x, 10.0**12)", "u * pow(2 + 0 * x, 10.0**12)"),
    ],
)
def test_what_cannot_be_computed_in_time_is_not_begun(forward: str, share: str) -> None:
    rule, start = rule_of(forward, share), time.process_time()
    for examine in (check_rule, prove_rule):
        with contextlib.suppress(AssertionError, ValueError):
            examine(rule, budget=0.3)
    assert time.process_time() - start < 20  # it took minutes, or all memory


def test_what_is_not_between_the_slopes_at_a_kink_of_several_inputs_is_wrong() -> None:
    wrong = rule_of(LARGEST, LARGER.format("x", "y") + " - 2 * u * equal(x, 0)", LARGER.format("y", "x"))
    with pytest.raises(RuleMismatch, match=r"wrong formula\n  input     x = 0.0, y = -1.0"):
        check_rule(wrong, domain=st.sampled_from(BESIDE_0))
    undeclared = rule_of("maximum(x, y)", "u * heaviside(x - y)", "u * heaviside(y - x)")
    with pytest.raises(RuleMismatch, match="Equal inputs have two slopes here"):
        check_rule(undeclared, domain=st.sampled_from(AT_0))
