"""gradcheck: every verdict, every error, wrong rules named, kinks, and no false alarm."""

import itertools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath as mp
import numpy as np
import pytest
from cases import FEWER
from hypothesis import assume, given
from some_rules import FORMULA, LINEAR, MISTAKES, rule_of, several

import tinygrad_edu as tg
from tinygrad_edu import RULES, Rule, Value, rule
from tinygrad_edu.testing import SMOOTH, GradientMismatch, Program, gradcheck, programs
from tinygrad_edu.testing.check.gradient_check import GradientRow


def only(f: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    """The row of the one input."""
    (row,) = gradcheck(f, *inputs, **options).rows
    return row


def mismatch(f: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    with pytest.raises(AssertionError) as caught:
        gradcheck(f, *inputs, **options)
    assert isinstance(caught.value, GradientMismatch)
    assert not caught.value.report.ok
    return caught.value


# --- Right gradients ------------------------------------------------------------------------------------------
CLOSED_FORMS: list[tuple[Callable[[Any], Any], float, float]] = [  # f, x, f'(x)
    (lambda x: x * x, 0.0, 0.0),
    (lambda x: tg.exp(-1e5 * x), 1e-5, -1e5 * math.exp(-1)),
    (lambda x: tg.sin(16 * math.pi * x), 0.0, 16 * math.pi),  # 0 at the first steps
    (lambda x: x + 1e-4 * tg.exp(-((x - 0.3) ** 2) * 1e10), 0.3 + 5e-6, None),  # a bump between the first steps
    (tg.log, 1e-100, 1e100),
    (lambda x: 3 * x, 1.7e307, 3.0),
    (lambda x: 3 * x, 5e-310, 3.0),
    (tg.sin, 1e6, math.cos(1e6)),
    (lambda x: (x + 1e6) - 1e6, 1.0, 1.0),
    (lambda x: 1 / (1 + tg.exp(x)), 300.0, -math.exp(-300)),
]


@pytest.mark.parametrize(("f", "x", "slope"), CLOSED_FORMS)
def test_closed_forms(f: Callable[[Any], Any], x: float, slope: float | None) -> None:
    row = only(f, x)
    slope = tg.grad(f)(x) if slope is None else slope
    assert row.verdict == "ok"
    assert row.value == x
    assert row.analytic == pytest.approx(slope, rel=1e-12, abs=1e-15)
    assert row.numeric == pytest.approx(slope, rel=1e-11, abs=1e-12)
    assert abs(row.numeric - slope) <= 8 * row.estimate


def test_the_relative_error() -> None:
    row = GradientRow("x", 1.0, 3.0, 1.0, 0.0, "WRONG", "")
    assert row.relative_error == 0.5
    assert row._replace(analytic=-1.0).relative_error == 1
    assert row._replace(analytic=0.0, numeric=0.0).relative_error == 0
    assert row._replace(analytic=1 / 3, numeric=2 / 3, verdict="ok").cells()[2:4] == ["0.3333", "0.6667"]


@FEWER
@given(programs(SMOOTH, max_nodes=24))
def test_no_false_alarm_for_smooth_programs(program: Program) -> None:
    check_no_false_alarm(program, program.inputs)


def flat_cosine(x: float) -> Program:
    """Near 0 it is 1 - x^4: its differences are nothing but what rounding to hundreds of bits leaves."""
    return Program((x,), (("log2(1 + a * a) / 2", (0, 0, 0, 0)), ("cos(a)", (0, 0, 0, 0))))


def test_a_slope_below_the_smallest_float_is_0() -> None:
    assert gradcheck(tg.logsumexp, 0.0, -746.0)
    row = gradcheck(lambda x, y: (x + y) - x, 1e300, 1.0).rows[1]
    assert (row.verdict, row.estimate) == ("ok", 1e-12)  # and beside a large number it has its digits
    assert gradcheck(lambda x, y: (x - y) * (x - y), 0.0, 2.8e-157)  # nor is a tiny one beside a long step


@FEWER
@given(programs(max_nodes=24))
def test_no_false_alarm_for_programs_with_kinks(program: Program) -> None:
    try:
        gradcheck(program, *program.inputs)
    except GradientMismatch as error:  # relu(x) - relu(-x) at 0: the conventions do not add up
        mismatch = error
    else:
        return
    assert "no node is wrong by itself" in str(mismatch)
    assert all("beside" in row.note for row in mismatch.report.rows if row.verdict == "WRONG")


def check_no_false_alarm(f: Callable[..., Any], inputs: tuple[float, ...]) -> None:
    try:
        nodes = tg.topological_order(f(*map(Value, inputs)))
    except (ValueError, ArithmeticError):
        assume(False)
    sizes = [abs(node.data) for node in nodes]
    assume(all(x == 0 or 1e-100 < x < 1e100 for x in sizes))  # beyond it, slopes overflow and underflow
    fast = 1e8 * max(1, sizes[-1])  # too fast to see
    assume(all(abs(slope) < fast for slope in tg.gradients(nodes[-1], nodes)))
    assert gradcheck(f, *inputs).ok


# --- Inputs, names, the report --------------------------------------------------------------------------------
def test_inputs_may_be_nested_and_are_named_by_label_or_signature() -> None:
    def f(x: Any, w: Any, *rest: Any) -> Any:
        assert isinstance(w, list)
        assert isinstance(w[1], tuple)
        return x * w[0] + w[1][0] ** 2 * w[1][1] + rest[0]

    bias = Value(3.0, label="bias")
    report = gradcheck(f, 2.0, [5.0, (Value(4.0), bias)], 1)
    assert [row.name for row in report.rows] == ["x", "w[0]", "w[1][0]", "bias", "rest[0]"]
    assert [row.value for row in report.rows] == [2, 5, 4, 3, 1]
    assert [row.analytic for row in report.rows] == [5, 2, 24, 16, 1]
    assert [row.verdict for row in report.rows] == ["ok"] * 5


def test_f_gets_fresh_values_with_labels_and_may_run_backward_itself() -> None:
    x, outside = Value(2.0, label="me"), Value(3.0)
    inner = outside * 2
    inner.grad = outside.grad = x.grad = 7.0

    def f(y: Any) -> Any:
        assert y is not x
        assert y.label == "me"
        assert not y.parents
        return y * inner

    assert only(f, x).analytic == 6
    assert (x.grad, inner.grad, outside.grad) == (7, 7, 7)

    def f(x):
        y = x * x
        y.backward()
        return y

    assert gradcheck(f, 2.0).ok


def test_names_without_a_signature_of_a_rule_and_of_a_derivative() -> None:
    class Opaque:
        __signature__ = "none"

        def __call__(self, x: Any, y: Any) -> Any:
            return x * y[0]

    report = gradcheck(Opaque(), 2, [3])
    assert [row.name for row in report.rows] == ["input 0", "input 1[0]"]
    assert repr(report).startswith("gradcheck of Opaque, 2 inputs")
    report = gradcheck(lambda p, q: p["w"][0] * p["b"] * q, {"w": [2], "b": 3}, 4)
    assert [(row.name, row.analytic) for row in report.rows] == [("p['b']", 8.0), ("p['w'][0]", 12.0), ("q", 6.0)]
    report = gradcheck(RULES["div"], 1, 2)
    assert [row.name for row in report.rows] == ["x", "y"]
    assert repr(report).startswith("gradcheck of div, 2 inputs, recipe '50 digits'\n")
    assert only(tg.grad(lambda x: x**3 * tg.sin(x)), 0.5).verdict == "ok"


def test_arrays_and_exact_numbers_are_taken_as_floats() -> None:
    report = gradcheck(lambda w, x: w[1] * x, np.array([1.0, 2.0]), Fraction(1, 3))
    assert [(row.name, row.analytic) for row in report.rows] == [("w[0]", 0), ("w[1]", 1 / 3), ("x", 2)]
    assert all(type(row.analytic) is float and type(row.value) is float for row in report.rows)
    assert only(lambda x: x * x, mp.mpf(3)).analytic == 6


def test_the_report_is_an_aligned_table() -> None:
    report = gradcheck(lambda x, long: x * long + abs(long - 2), 0.5, 2.0)
    assert report.ok
    first, head, *rows = repr(report).splitlines()
    assert first == "gradcheck of <lambda>, 2 inputs, recipe '50 digits'"
    assert head.split("  ") == ["input", "value", "analytic", "numeric", "estimate", "rel. error", "verdict"]
    assert [row.split()[:4] for row in rows] == [["x", "0.5", "2", "2"], ["long", "2", "0.5", "0.5"]]
    assert rows[1].endswith("kink     slopes -0.5 and 1.5 beside abs(0)")
    for name in ("value", "analytic", "numeric", "estimate", "rel. error"):
        end = head.index(name) + len(name)
        assert all(row[end - 1] != " " and row[end] == " " for row in rows)
    assert str(report) == repr(report)
    assert "1 input," in repr(gradcheck(tg.exp, 0.0))


# --- Wrong rules ----------------------------------------------------------------------------------------------
WRONG: dict[str, tuple[Rule, str]] = {  # by name: the rule, and a part of the message
    "nine": (rule_of("sin(x)", "cos(x) * u * (1 + 1e-9)"), "slope -0.504846105105, expected is -0.5048461046"),
    "swap": (rule_of("x - 3 * y", "-3 * u", "u"), "operand 0 the slope -3, expected is 1"),
    "second": (rule_of("x * y", "y * u", "y * u"), "operand 1 the slope 0.25, expected is 2.1"),
    "local": (rule_of("x * x", "2 * x"), "for upstream -2, operand 0 gets the share 4.2, expected is"),
    "infinite": (rule_of("x * x", "u * inf"), "operand 0 the slope inf, expected is 4.2"),
    "none": (rule_of("x * x", "u * math.nan"), "operand 0 the slope nan, expected is 4.2"),
    "rest": (several("xs[0] + 2 * xs[1]", "(u, u)"), "operand 1 the slope 1, expected is 2"),
}


@pytest.mark.parametrize("name", [name for name in MISTAKES if MISTAKES[name][1] in (FORMULA, LINEAR)])
def test_mistakes_of_the_formula_are_seen(name: str) -> None:
    rule, _, _ = MISTAKES[name]
    error = mismatch(lambda *xs: rule(*xs) * 3, *(2.5, -0.7)[: rule.n_inputs])
    assert "first at mine(" in str(error)


@pytest.mark.parametrize("name", WRONG)
def test_the_first_wrong_node_is_named(name: str) -> None:
    broken, message = WRONG[name]

    def f(x: Any, y: Any) -> Any:
        inside = broken(x) if broken.n_inputs == 1 else broken(x, y)
        outside = inside if broken.n_inputs == 1 else broken(inside, y)
        return tg.tanh(inside / 8 + y / 2) * tg.exp(x) + tg.relu(outside)

    error = mismatch(f, 2.1, 0.25)
    sentence, blank, *table = str(error).split("\n")
    culprit = "y" if name in ("second", "rest") else "x"
    operands = "(x=2.1)" if broken.n_inputs == 1 else "(x=2.1, y=0.25)"
    assert sentence.startswith(f"The gradient for {culprit} is wrong, first at mine{operands}: its rule ")
    assert message in sentence
    assert blank == ""
    assert "\n".join(table) == repr(error.report)


def test_an_error_of_a_billionth_is_visible_in_the_table() -> None:
    off = rule(lambda x: 3 * x, backward=lambda u, out, x: (3 * u * (1 + 1e-9),), name="off")
    row = mismatch(lambda x: tg.log(off(x)), 0.7).report.rows[0]
    assert (row.verdict, row.note) == ("WRONG", "")
    analytic, numeric = row.cells()[2:4]
    assert analytic.startswith("1.42857143")
    assert numeric.startswith("1.42857142")
    fine = rule(lambda x: 3 * x, backward=lambda u, out, x: (3 * u * (1 + 1e-15),), name="fine")
    assert only(lambda x: tg.log(fine(x)), 0.7)[-2:] == ("ok", "")


def test_only_the_inputs_behind_the_wrong_rule_are_wrong() -> None:
    off = rule(lambda x: 3 * x, backward=lambda u, out, x: (2 * u,), name="off")
    error = mismatch(lambda a, b: a + off(b), 1.0, 2.0)
    assert [row.verdict for row in error.report.rows] == ["ok", "WRONG"]
    assert "for b is wrong, first at off(b=2): its rule gives operand 0 the slope 2," in str(error)
    still = rule(lambda x: 0 * x + 3.0, backward=lambda u, out, x: (u,), name="still")
    assert mismatch(lambda x: still(x), 0.75).report.rows[0].numeric == 0
    plus = rule(lambda *xs: sum(xs), backward=lambda u, out, *xs: (2 * u,) * len(xs), name="plus")
    error = mismatch(lambda x: plus(x, *map(float, range(1, 10))), 1)
    assert "first at plus(x=1, 1, 2, 3, 4, ..., 9): its rule" in str(error)


# --- No rule is wrong by itself -------------------------------------------------------------------------------
@pytest.mark.parametrize("f", [lambda x: x * x.data, lambda x: x + math.exp(x.data), lambda x: x * Value(x.data)])
def test_a_cut_graph(f: Any) -> None:
    assert "for x is wrong, but no node is wrong by itself: most likely the graph is cut" in str(mismatch(f, 3.0))


def test_no_rule_is_wrong_by_itself() -> None:
    error = mismatch(lambda x: 2 * x.data, 3.0)
    assert (error.report.rows[0].analytic, error.report.rows[0].numeric) == (0, 2)
    assert "f returns a plain number, made outside the graph" in str(error)
    message = str(mismatch(lambda x: tg.relu(x) - tg.relu(-x), 0.0))  # it is x
    assert "what the rules agree on for a kink" in message
    assert "one slope on both sides beside relu(" in message
    error = mismatch(lambda x: tg.sqrt(x * x), 0.0)
    assert math.isnan(error.report.rows[0].analytic)
    assert "an infinite slope has met a slope of 0" in str(error)


# --- Kinks ----------------------------------------------------------------------------------------------------
def test_a_jump_is_judged_by_the_other_side() -> None:
    with pytest.raises(GradientMismatch):
        gradcheck(lambda x: x * 2 if x > 1 else x.data * 3 + 0 * x, 1.0)


def test_nothing_to_check() -> None:
    with pytest.raises(ValueError, match="empty lists: there is no number to check"):
        gradcheck(lambda w: 1.0, [])
    known = "choose one of '50 digits', 'absolute', 'relative'"
    for recipe, message in (["absolute"], "no recipe"), ("ridders", f"no recipe 'ridders': {known}"):
        with pytest.raises(ValueError, match=message):
            gradcheck(tg.exp, 1.0, recipe=recipe)
    assert [row.note for row in gradcheck(lambda x, y: x * x, 2.0, 3.0).rows] == ["", "f does not depend on it"]


def test_a_slope_outside_the_kink_is_wrong() -> None:
    backward = lambda u, out, x: (u * (x >= 0) * 2,)  # noqa: E731 - a formula
    bend = rule(lambda x: tg.relu.forward(x), backward=backward, name="bend", kinks=(0.0,))
    error = mismatch(lambda x: bend(x), 0.0)
    assert error.report.rows[0].note == "slopes 0 and 1 beside bend(x=0)"
    assert error.report.rows[0].numeric == pytest.approx(1)
    row = mismatch(lambda x: bend(x) * -FLOAT(x), 0.0).report.rows[0]
    assert (row.verdict, row.numeric, row.note) == ("WRONG", -2, "slopes -2 and -0, by differences of floats")
    assert str(error).startswith("The gradient for x is wrong, first at bend(x=0)")


# --- The ends of the domain, and what cannot be told ----------------------------------------------------------
def test_a_finite_slope_at_the_end_of_the_domain() -> None:
    def ending(x: Any) -> Any:
        if x > 1:
            raise ValueError("beyond the end")
        return x * x + x

    row = only(ending, 1.0)
    assert (row.verdict, row.analytic, row.note) == ("ok", 3.0, "from one side, f ends here")
    assert row.numeric == pytest.approx(3, rel=1e-10)
    flat = rule(lambda x: tg.sqrt(x), backward=lambda u, out, x: (0 * u,), name="flat")
    assert mismatch(lambda x: flat(x), 0.0).report.rows[0].numeric == math.inf


HARD: list[tuple[Callable[..., Any], float]] = [  # differences of floats cannot tell
    (lambda x: 1e8 + 1e-10 * x, 1.0),
    (lambda x: tg.sin(1e12 * x), 1.0),
    (tg.tanh, 20.0),
    (lambda x: tg.relu(x - 1), 1 + 2**-40),
    (tg.log, 5e-324),
]


PI = rule_of("x * constants(x)[0]", "u * math.pi")
STEEP = "one side is infinitely steep or a jump, where f branches"
AT_ENDS, ON_THE_WAY = "from one side, f ends here", "the formula gives {}, floats overflow on the way"
VERDICTS: list[tuple[Callable[..., Any], float, str, float | None, str]] = [  # f, x, verdict, engine's slope, note
    (abs, 0.0, "kink", 0.0, "slopes -1 and 1 beside abs(x=0)"),
    (tg.relu, 0.0, "kink", 0.0, "slopes 0 and 1 beside relu(x=0)"),
    (tg.leaky_relu, 0.0, "kink", 0.01, "slopes 0.01 and 1 beside leaky_relu(x=0)"),
    (lambda x: tg.elu(x, alpha=0.5), 0.0, "kink", 0.5, "slopes 0.5 and 1 beside elu(x=0)"),
    (lambda x: 3 * tg.exp(tg.relu(x - 2)), 2.0, "kink", 0.0, "slopes 0 and 3 beside relu(0)"),
    (lambda x: tg.max(x, 1.0), 1.0, "kink", 0.5, "slopes 0 and 1 beside max(x=1, 1)"),
    (lambda x: tg.min(0.0, x, 2.0), 0.0, "kink", 0.5, "slopes 1 and 0 beside min(0, x=0, 2)"),
    (lambda x: tg.where(x > 0, x, 2 * x), 0.0, "kink", 2.0, "slopes 2 and 1 beside where(0, x=0, 0)"),
    (lambda x: x**2 if x > 1 else 3 * x - 2, 1.0, "kink", 3.0, "slopes 3 and 2 where f branches"),
    (lambda x: x if x > 0 else 0.0, 0.0, "kink", 0.0, "slopes 0 and 1 where f branches"),
    (lambda x: 2 * x if x > 0 else 3 * x, 0.0, "kink", 3.0, "slopes 3 and 2 where f branches"),  # the same rules
    (lambda x: abs(x) if x <= 0 else tg.sin(x), 0.0, "kink", 0.0, "slopes -1 and 1 where f branches"),
    (lambda x: x if x <= 1 else x * x, 1.0, "kink", 1.0, "slopes 1 and 2 where f branches"),
    (lambda x: x if x <= 1 else x * math.inf, 1.0, "ok", 1.0, AT_ENDS),
    (lambda x: x if x <= 0 else tg.sqrt(x), 0.0, "ok", 1.0, STEEP),
    (lambda x: x if x >= 0 else tg.sqrt(-x), 0.0, "ok", 1.0, STEEP),
    (lambda x: x * tg.sin(1 / x) if x > 0 else x, 0.0, "ok", 1.0, "from one side"),
    (lambda x: PI(x) - x * tg.elementary.constants(x)[0], 1.0, "ok", 0.0, ""),  # beside its terms, pi is exact
    (lambda x: tg.relu(x) ** 2, 0.0, "ok", 0.0, ""),  # equal slopes on both sides
    (lambda x: abs(x * x), 0.0, "ok", None, ""),
    (lambda x: x * abs(x), 0.0, "ok", None, ""),
    (lambda x: tg.max(x, x), 2.0, "ok", None, ""),
    (lambda x: tg.min(x, 2 * x - 2) + tg.max(x, 2 * x - 2), 2.0, "ok", None, ""),
    (lambda x: tg.logsumexp(x, 1.0) + 0 * tg.max(x, 1.0), 1.0, "ok", None, ""),
    (tg.sqrt, 0.0, "ok", math.inf, AT_ENDS),
    (tg.asin, 1.0, "ok", math.inf, AT_ENDS),
    (tg.asin, -1.0, "ok", math.inf, AT_ENDS),
    (lambda x: x**0.99, 0.0, "ok", math.inf, AT_ENDS),
    *((f, x, "ok", None, "") for f, x in HARD),
    # differences that rounding makes may grow as the step shrinks, and on one side only
    *((flat_cosine(x), x, "ok", None, "") for x in (1.4e-250, 2.131134531248294e-132, -6.74262212488637e-131)),
    (lambda x: Value(-3.0) ** x, 2.0, "undecided", None, "f is not defined beside this point"),
    (lambda x: x * tg.sin(1 / x) if x.data else x, 0.0, "undecided", None, "the slopes do not settle"),
    (tg.sign, 0.0, "undecided", None, "a jump beside sign(x=0)"),
    (lambda x: tg.relu(x) if x >= 0 else tg.log(x), 0.0, "undecided", None, "one side of a kink beside relu(x=0)"),
    (lambda x: tg.reciprocal(x) ** 0, 1e-320, "undecided", None, ON_THE_WAY.format(0)),
    (lambda x: 1 / (1 / x), 1e-320, "undecided", None, ON_THE_WAY.format(1)),
]


@pytest.mark.parametrize(("f", "x", "verdict", "slope", "note"), VERDICTS)
def test_what_is_said_of_a_right_gradient(f: Any, x: float, verdict: str, slope: float | None, note: str) -> None:
    row = only(f, x)
    assert row.verdict == verdict
    assert row.note == note or (verdict, slope) == ("ok", None)
    if slope is not None:
        assert (row.analytic, row.numeric) == (slope, pytest.approx(slope, abs=1e-12))


@pytest.mark.parametrize(("f", "x"), HARD[:-1])
def test_fifty_digits_see_a_millionth(f: Callable[..., Any], x: float) -> None:
    off = rule(lambda x: 3 * x, backward=lambda u, out, x: (3 * u * (1 + 1e-6),), name="off")
    assert mismatch(lambda x: off(f(x)), x).report.rows[0].verdict == "WRONG"


def test_a_right_formula_that_loses_its_digits_is_told() -> None:
    textbook = rule(lambda x: tg.tanh(x), backward=lambda u, out, x: (u * (1 - out * out),), name="textbook")
    row = only(lambda x: textbook(x), 20.0)
    assert (row.verdict, row.note) == ("ok", "the formula is right, but floats keep 0 of 16 digits")
    assert row.numeric == pytest.approx(1 / math.cosh(20) ** 2, rel=1e-12)
    assert only(lambda x: textbook(x), 15.0).note == "the formula is right, but floats keep 3 of 16 digits"
    assert only(lambda x: textbook(x), 0.5).note == ""


FLOAT = lambda x: 2.0 if isinstance(x.data, float) else None  # noqa: E731 - a number
ON_FLOATS: list[tuple[Callable[..., Any], float, str, str]] = [  # f, x, the verdict, a part of the note
    (lambda x: x + math.exp(x.data), 1.0, "WRONG", "by differences of floats"),
    (lambda x: Value(1.0 * x.data + math.exp(x.data)), 1.0, "WRONG", "by differences of floats"),
    (lambda x: x + math.exp(1 + 512 * x.data) / 512, 0.0, "WRONG", "by differences of floats"),  # sees 2^-60
    (lambda x: x * x + 0 * math.exp(x.data), 3.0, "ok", ""),
    (lambda x: x * float(np.cos(float(x.data)) * 0 + 2), 3.0, "ok", ""),
    (lambda x: 1e6 * x * x * FLOAT(x), 3.0, "ok", "by differences of floats"),
    (lambda x: abs(x) * FLOAT(x), 0.0, "kink", "slopes -2 and 2, by differences"),
    (lambda x: tg.log(x) * FLOAT(x), 1e-7, "undecided", "f is not defined at"),
    (lambda x: tg.sin(1e9 * x) * FLOAT(x), 1.0, "undecided", "by differences"),
]


@pytest.mark.parametrize(("f", "x", "verdict", "note"), ON_FLOATS)
def test_a_function_of_floats_is_checked_by_a_fixed_step(f: Any, x: float, verdict: str, note: str) -> None:
    if verdict == "WRONG":
        row = mismatch(f, x).report.rows[0]
        assert row.numeric == pytest.approx(1 + math.e, rel=1e-6)
    else:
        row = only(f, x)
    assert row.verdict == verdict
    assert note in row.note


def test_the_recipes_see_a_large_mistake() -> None:
    """The docstring has what they do not see, and where they cry wolf."""
    twice = rule(lambda x: 2 * x, backward=lambda u, out, x: (3 * u,), name="twice")
    mismatch(lambda x: twice(x) / 1000, 1.0, recipe="relative")
    mismatch(lambda x: twice(x), 1.0, recipe="absolute")
    assert "the recipe's fixed step may be to blame" in str(mismatch(tg.log, 1e-3, recipe="absolute"))
    assert only(tg.tanh, 0.5, recipe="relative").verdict == "ok"


@pytest.mark.parametrize(("recipe", "step"), [("absolute", 1e-4), ("relative", 1e-7)])
def test_recipes_use_their_step_and_say_so(recipe: str, step: float) -> None:
    report = gradcheck(lambda x: x**3, 0.0, recipe="absolute")
    assert report.rows[0].numeric == pytest.approx(1e-8)
    report = gradcheck(tg.exp, 1.0, recipe=recipe)
    assert repr(report).splitlines()[0] == f"gradcheck of exp, 1 input, recipe {recipe!r}"
    up, down = math.exp(1 + step), math.exp(1 - step)
    assert report.rows[0].numeric == (up - down) / (2 * step)
    assert math.isnan(report.rows[0].estimate)
    row = only(tg.log, step / 2, recipe=recipe)
    assert (row.verdict, row.note) == ("undecided", f"f is not defined at a distance of {step:g}")


ERRORS: list[tuple[tuple[Any, ...], type[Exception], str]] = [
    ((3.0, 1.0), TypeError, "takes a function f first, got 3.0 (float)."),
    ((tg.exp,), TypeError, "needs at least one input"),
    ((lambda x: None, 1.0), TypeError, "f must return one number. Value holds one real number, got None (None"),
    ((lambda x: [x, x], 1.0), TypeError, "f must return one number, got a list: check its parts one by one."),
    ((lambda x: (x,), 1.0), TypeError, "f must return one number, got a tuple"),
    ((lambda x: "x", 1.0), TypeError, "f must return one number. Value holds one real number, got 'x' (str)."),
    ((lambda x, w: x, 1.0, [2.0, "3"]), TypeError, "Input w[1] of gradcheck is no number. Value holds one real "),
    ((lambda x: x, None), TypeError, "Input x of gradcheck is no number."),
    ((lambda x: x, True), TypeError, "Input x of gradcheck is no number."),
    ((lambda x: x, math.nan), ValueError, "Input x of gradcheck is nan"),
    ((lambda x: x, Value(math.inf, label="me")), ValueError, "Input me of gradcheck is inf"),
    ((lambda x: x * math.nan, 1.0), ValueError, "f is nan at the inputs"),
    ((tg.exp, 1000.0), ValueError, "f is inf at the inputs"),
    ((tg.log, -1.0), ValueError, "log(Value(data=-1.0, grad=0.0, label='x')): it is defined for 0 < x only"),
    ((lambda x: x, 1.0, 2.0), TypeError, "takes 1 positional argument but 2 were given"),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), ERRORS)
def test_errors(arguments: tuple[Any, ...], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        gradcheck(*arguments)
    assert message in str(caught.value)


def test_a_function_that_changes_from_call_to_call() -> None:
    calls = itertools.count()
    with pytest.raises(ValueError, match=r"f changes from call to call: .* it gave 2.0, then 4.0\."):
        gradcheck(lambda x: x * (2.0 + 2.0 * next(calls)), 1.0)
