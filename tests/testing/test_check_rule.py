"""check_rule as its user meets it: what it says of right rules, of wrong ones, and of bad input."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import mpmath as mp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import RULES, Interval, Value
from tinygrad_edu import elementary as e
from tinygrad_edu.testing import RuleMismatch, check_rule
from tinygrad_edu.testing.likely import origin
from tinygrad_edu.testing.points import grid_of, inside, line_of, strategy_of
from tinygrad_edu.testing.reference import Reference, derivative, ulps


@pytest.fixture(autouse=True)
def no_rule_stays() -> Iterator[None]:
    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


def declared(forward: Any, backward: Any, **more: Any) -> Any:
    return tg.rule(forward, backward=backward, name="mine", **more)


def refused(forward: Any, backward: Any, *arguments: Any, **declared_as: Any) -> str:
    with pytest.raises(RuleMismatch) as caught:
        check_rule(declared(forward, backward, **declared_as), *arguments)
    return str(caught.value)


# --- Rules of the user --------------------------------------------------------------------------------------


def mish(x: Any) -> Any:
    return x * tg.tanh(tg.softplus(x))


def mish_backward(upstream: Any, out: Any, x: Any) -> Any:
    t = tg.tanh(tg.softplus(x))
    return (upstream * (t + x * (1 - t * t) * tg.sigmoid(x)),)


def test_a_right_rule_is_found_right() -> None:
    rule = declared(mish, mish_backward)
    report = check_rule(rule)
    assert report.rule is rule
    assert report.inputs > 500
    assert report.numbers == ["floats", "Values", "mpmath numbers", "arrays"]
    assert all(error <= 32 for error, _ in report.worst.values())
    lines = repr(report).splitlines()
    assert (
        lines[0] == f"Rule('mine') is right at {report.inputs} inputs, on floats, Values, mpmath numbers, arrays."
    )
    assert [line.split()[:2] for line in lines[1:]] == [
        ["mathematics", "the"],
        ["rounding", "value"],
        ["slopes", lines[3].split()[1]],
        ["second", lines[4].split()[1]],
    ]
    assert (report.mathematics, report.rounding) == ("right", "right")


@pytest.mark.parametrize(
    ("forward", "backward", "more"),
    [
        (lambda x: x * x * x, lambda upstream, out, x: (upstream * 3 * x * x,), {}),
        (lambda x: (x * x) * (x * x), lambda upstream, out, x: (upstream * 4 * x * x * x,), {}),
        (lambda x: x * abs(x), lambda upstream, out, x: (upstream * 2 * abs(x),), {"kinks": (0.0,)}),
        (
            lambda x, y: x * x * x * y,
            lambda upstream, out, x, y: (upstream * 3 * x * x * y, upstream * x * x * x),
            {},
        ),
    ],
    ids=["cube", "fourth power", "x|x|", "cube times y"],
)
def test_slopes_that_vanish_are_no_mistake(forward: Any, backward: Any, more: dict[str, Any]) -> None:
    n = forward.__code__.co_argcount
    assert check_rule(declared(forward, backward, **more), inputs=(st.floats(-1e3, 1e3),) * n)


def test_it_can_be_held_against_a_reference() -> None:
    rule = declared(mish, mish_backward)
    assert check_rule(rule, lambda x: x * mp.tanh(mp.log1p(mp.exp(x)))).inputs > 500
    with pytest.raises(RuleMismatch, match="mine: the slope for x is wrong"):
        check_rule(rule, lambda x: x * mp.tanh(mp.exp(x)))


def test_a_rule_with_a_domain_two_inputs_and_fractions() -> None:
    def backward(upstream: Any, out: Any, x: Any, y: Any) -> Any:
        return upstream * 2 * x / y, -upstream * out / y

    rule = declared(lambda x, y: x * x / y, backward, domain=(Interval(), Interval(1, 1000)))
    report = check_rule(rule, inputs=(st.floats(-100, 100), st.floats(1, 1000)))
    assert "Fractions" in report.numbers


def test_an_infinite_slope_at_the_end_of_the_domain_is_right() -> None:
    rule = declared(lambda x: e.asin(x), RULES["asin"].backward, domain=(Interval(-1, 1),))
    assert check_rule(rule).inputs > 100


@pytest.mark.slow
def test_a_reduction_of_the_user() -> None:
    def backward(upstream: Any, out: Any, *inputs: Any) -> Any:
        return tuple(e.spread(2 * upstream, inputs) * x for x in inputs)

    rule = declared(lambda *inputs: e.total(*(x * x for x in inputs)), backward)
    assert check_rule(rule).inputs > 100


def test_the_message_shows_the_simplest_input_expected_got_and_ulps() -> None:
    assert refused(lambda x: x * x, lambda upstream, out, x: (upstream * x,)) == (
        "mine: the slope for x is wrong\n"
        "  kind      wrong formula\n"
        "  input     x = 1.0\n"
        "  expected  2.0\n"
        "  got       1.0\n"
        "  error     2.25e+15 units in the last place; allowed are 32\n"
        "  likely    a factor 2 is missing"
    )


def test_inputs_that_are_infinite_are_passed_over() -> None:
    assert check_rule("atan", inputs=[st.floats()]).inputs > 50


def test_the_mismatch_carries_what_is_needed_to_go_on() -> None:
    rule = declared(lambda x: x * x, lambda upstream, out, x: (upstream * x,))
    with pytest.raises(RuleMismatch) as caught:
        check_rule(rule)
    assert caught.value.rule is rule
    assert rule.shares(1.0, 1.0, *caught.value.point) == (1.0,)
    assert not getattr(caught.value, "__notes__", [])


MISTAKES: list[tuple[str, Any, Any, dict[str, Any], str]] = [
    (
        "a slope of another input",
        lambda x, y: x * y,
        lambda upstream, out, x, y: (upstream * x, upstream * y),
        {},
        "the slope for x is wrong",
    ),
    (
        "no upstream",
        lambda x: e.exp(x),
        lambda upstream, out, x: (e.exp(x),),
        {},
        "for upstream -4, the share of x is not -4 * its slope",
    ),
    (
        "an overflow on the way",
        lambda x: e.exp(x) / (1 + e.exp(x)),
        RULES["sigmoid"].backward,
        {},
        "the value is nan, where it should be 1.0\n  kind      wrong at kinks, nan or inf\n  input     x = 710.4\n"
        "  expected  1.0\n  got       nan\n  because   exp(710.4) is inf, and inf / inf is nan",
    ),
    (
        "math on floats",
        lambda x: math.tanh(x),
        lambda upstream, out, x: (upstream * (1 - out * out),),
        {},
        "forward turns an mpmath number into a float",
    ),
    (
        "a float for pi",
        lambda x: x * e.constants(x)[0],
        lambda upstream, out, x: (upstream * math.pi,),
        {},
        "the slope for x loses digits on mpmath numbers",
    ),
    (
        "a branch on one number",
        lambda x: e.exp(x) if x > 0 else 1 + x,
        lambda upstream, out, x: (upstream * (e.exp(x) if x > 0 else 1 + 0 * x),),
        {"kinks": (0.0,)},
        "forward fails on a ndarray",
    ),
    (
        "a branch on the kind of number",
        lambda x: e.where(x == x, 2 * x if hasattr(x, "shape") else x, x),
        lambda upstream, out, x: (upstream,),
        {},
        "the value on an array is not that on floats",
    ),
    (
        "a float among Fractions",
        lambda x: x / 2,
        lambda upstream, out, x: (upstream * 0.5,),
        {},
        "the slope for x is not exact on Fractions",
    ),
    (
        "a kink that is not declared",
        lambda x: e.maximum(x - 1, 0 * x),
        lambda upstream, out, x: (upstream * e.heaviside(x - 1),),
        {},
        "The slopes on its two sides are 0.0 and 1.0: if this is a kink, declare kinks=(1.0,).",
    ),
    (
        "a slope outside those beside the kink",
        lambda x: abs(x),
        lambda upstream, out, x: (upstream * (e.sign(x) + 7 * e.equal(x, 0)),),
        {"kinks": (0.0,)},
        "at a kink, the slope for x is not between those beside it",
    ),
    (
        "ties that do not share",
        lambda x, y: e.maximum(x, y),
        lambda upstream, out, x, y: (
            upstream * (e.equal(x, out) + 0 * out),
            upstream * (e.equal(y, out) + e.equal(x, y) + 0 * out),
        ),
        {"ties": True},
        "at a kink, the slope for y is not between those beside it",
    ),
    (
        "0 / 0 at a kink that is not declared",
        lambda x: abs(x - 1),
        lambda upstream, out, x: (upstream * e.div(x - 1, out),),
        {},
        "The slopes on its two sides are -1.0 and 1.0: if this is a kink, declare kinks=(1.0,).",
    ),
    (
        "a jump that is not declared",
        lambda x: e.heaviside(x - 1) + x,
        lambda upstream, out, x: (upstream + 0 * x,),
        {},
        "if this is a kink, declare kinks=(1.0,).",
    ),
    (
        "a pole that is not declared",
        lambda x: 1 / x,
        lambda upstream, out, x: (-upstream * out * out,),
        {},
        "If it is not defined there, declare domain= or check=",
    ),
    (
        "ties that are not declared",
        lambda x, y: e.maximum(x, y),
        lambda upstream, out, x, y: (upstream * e.equal(x, out), upstream * (1 - e.equal(x, out))),
        {},
        "Equal inputs have two slopes here: if this is a kink, declare ties=True.",
    ),
    (
        "a reduction that reduces no axis",
        lambda *inputs: sum(inputs),
        lambda upstream, out, *inputs: (upstream,) * len(inputs),
        {},
        "on an array, forward must reduce the last axis",
    ),
    (
        "nan that is lost",
        lambda x: e.where(x > 0, x, 0 * e.equal(x, x)),
        lambda upstream, out, x: (upstream * e.heaviside(x),),
        {"kinks": (0.0,)},
        "nan is lost",
    ),
    (
        "a slope beside nan",
        lambda x: e.where(x <= 0, 0 * x, x),
        lambda upstream, out, x: (upstream * e.where(x > 0, 1, 0),),
        {"kinks": (0.0,)},
        "the slope for x is a number beside nan",
    ),
    (
        "an error in backward",
        lambda x: abs(x),
        lambda upstream, out, x: (upstream * x / out,),
        {"kinks": (0.0,)},
        "backward fails on a float\n  kind      wrong at kinks, nan or inf\n  input     x = 0.0\n"
        "  error     ZeroDivisionError",
    ),
    (
        "a slope that is no graph",
        lambda x: x * x,
        lambda upstream, out, x: (upstream * 2 * getattr(x, "data", x),),
        {},
        "the second derivative for x and x is wrong",
    ),
    (
        "an error at inf",
        lambda x: x if hasattr(x, "shape") or x != x else x + 0 * int(x),
        lambda upstream, out, x: (upstream,),
        {},
        "forward fails on a float\n  kind      other numbers\n  input     x = inf\n  error     OverflowError",
    ),
]


@pytest.mark.parametrize(
    ("name", "forward", "backward", "more", "message"), MISTAKES, ids=[m[0] for m in MISTAKES]
)
def test_every_kind_of_mistake_has_its_message(
    name: str, forward: Any, backward: Any, more: dict[str, Any], message: str
) -> None:
    assert message in refused(forward, backward, **more)


# --- Two verdicts, kinds and likely mistakes ------------------------------------------------------------------


def tanh_backward(upstream: Any, out: Any, x: Any) -> Any:
    return RULES["tanh"].backward(upstream, out, x)


def in_a_window(u: Any, out: Any, x: Any) -> Any:
    return (tanh_backward(u, out, x)[0] * e.where((x > 2.4) * (x < 2.6), 1.01, 1),)


def product(x: Any, y: Any) -> Any:
    return x * y


def tanh(x: Any) -> Any:
    return e.tanh(x)


LIKELY: list[tuple[Any, Any, str, str]] = [  # forward, backward, kind, the likely mistake
    (tanh, lambda u, out, x: tanh_backward(1, out, x), "upstream not used linearly", "upstream is missing"),
    (
        tanh,
        lambda u, out, x: tanh_backward(u * u, out, x),
        "upstream not used linearly",
        "upstream is a factor twice",
    ),
    (
        tanh,
        lambda u, out, x: (u + tanh_backward(1, out, x)[0],),
        "upstream not used linearly",
        "upstream is added",
    ),
    (product, lambda u, out, x, y: (u * x, u * y), "wrong formula", "it is the slope of the other operand, y"),
    (product, lambda u, out, x, y: (u * y, 0 * u), "wrong formula", "the operand is taken for a constant"),
    (product, lambda u, out, x, y: (u, u * x), "wrong formula", "the local slope is missing"),
    (
        lambda x, y: x - y,
        lambda u, out, x, y: (u, u),
        "wrong formula",
        "it is the slope of the other operand, x",
    ),
    (tanh, lambda u, out, x: (2 * tanh_backward(u, out, x)[0],), "wrong formula", "a factor 2 is too many"),
    (lambda x: x * x * x, lambda u, out, x: (u * x * x,), "wrong formula", "a factor 3 is missing"),
    (tanh, lambda u, out, x: (-tanh_backward(u, out, x)[0],), "wrong formula", "the sign is wrong"),
    (tanh, lambda u, out, x: (u * (1 - x * x),), "wrong formula", "x is used where out is meant"),
    (lambda x: x * x, lambda u, out, x: (2 * u * out,), "wrong formula", "a factor x is too many"),
    (lambda x: e.exp(x), lambda u, out, x: (u,), "wrong formula", "the local slope is missing"),
    (
        lambda x: e.exp(x),
        lambda u, out, x: (u * e.exp(-x),),
        "wrong formula",
        "it is 1 / slope",
    ),
    (tanh, in_a_window, "wrong formula", "the slope is right at the points around"),
    (tanh, lambda u, out, x: (u * (1 - out * out),), "rounding", "sech(x)**2 by exponentials"),
    (
        lambda x: e.expm1(x),
        lambda u, out, x: (u * (out + 1),),
        "rounding",
        "compute it from the input, not from out",
    ),
    (lambda x: e.sigmoid(x), lambda u, out, x: (u * out * (1 - out),), "rounding", "use sigmoid(-x)"),
    (
        lambda x: e.log1p(x * x),
        lambda u, out, x: (u * (e.exp(x) - 1) * 2 * x / ((1 + x * x) * e.expm1(x)) if x != 0 else u * x,),
        "rounding",
        "use expm1(x) for exp(x) - 1",
    ),
]


@pytest.mark.parametrize(("forward", "backward", "kind", "likely"), LIKELY, ids=[row[3] for row in LIKELY])
def test_kinds_are_told_apart_and_likely_mistakes_named(
    forward: Any, backward: Any, kind: str, likely: str
) -> None:
    rule = declared(forward, backward)
    points = [st.floats(-30, 30)] * rule.n_inputs if likely.startswith("use expm1") else None
    with pytest.raises(RuleMismatch) as caught:
        check_rule(rule, inputs=points)
    assert caught.value.kind == kind
    assert likely in str(caught.value)
    report = caught.value.report
    verdicts = ("right", "wrong") if kind == "rounding" else ("wrong", "not examined")
    assert (report.mathematics, report.rounding) == verdicts
    assert repr(report) == str(caught.value)


def test_lost_digits_are_told_from_where_on() -> None:
    message = refused(tanh, lambda u, out, x: (u * (1 - out * out),))
    assert "  where     x = -342.5 to -4.5, 4.5 to 342.5" in message


def test_an_unused_upstream_hides_no_other_kind() -> None:
    """A rule with every mistake is told by the first kind in the list."""
    both = refused(tanh, lambda u, out, x: (1 - x * x,))
    assert "kind      upstream not used linearly" in both


def test_the_report_plots_errors() -> None:
    figure = check_rule("tanh").plot()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "the value",
        "the slope for x",
        "allowed: 4",
    ]
    x, error = axes.lines[1].get_data()
    assert len(x) > 300
    assert 2**-4 <= min(error) <= max(error) <= 4
    with pytest.raises(RuleMismatch) as caught:
        check_rule(declared(tanh, lambda u, out, x: (u * (1 - out * out),)))
    (axes,) = caught.value.report.plot().axes
    assert max(axes.lines[1].get_data()[1]) > 1e14


def test_the_report_becomes_a_test_to_paste() -> None:
    source = check_rule("leaky_relu").to_pytest()
    assert 'leaky_relu = RULES["leaky_relu"].bind(alpha=0.01)' in source
    scope: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(source, "pasted", "exec"), scope)
    scope["test_leaky_relu_is_right"]()
    (cases,) = scope["test_leaky_relu_at_hard_points"].pytestmark
    assert len(cases.args[1]) >= 1
    for case in cases.args[1]:
        scope["test_leaky_relu_at_hard_points"](*case)


def test_the_pasted_test_of_a_wrong_rule_fails() -> None:
    with pytest.raises(RuleMismatch) as caught:
        check_rule(declared(lambda x: x * x, lambda u, out, x: (u * x,)))
    scope: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(caught.value.report.to_pytest(), "pasted", "exec"), scope)
    (cases,) = scope["test_mine_at_hard_points"].pytestmark
    assert ((1.0,), 1.0, [2.0]) in cases.args[1]
    with pytest.raises(AssertionError):
        scope["test_mine_at_hard_points"]((1.0,), 1.0, [2.0])
    with pytest.raises(RuleMismatch):
        scope["test_mine_is_right"]()


# --- Where floats overflow ----------------------------------------------------------------------------------


def gauss(x: Any) -> Any:
    return e.exp(-x * x)


def bump(x: Any) -> Any:
    return 1 / (1 + x * x)


def test_a_slope_that_overflows_to_nan_is_told_by_what() -> None:
    assert refused(gauss, lambda upstream, out, x: (upstream * -2 * x * out,)) == (
        "mine: the slope for x is nan, where it should be 0.0\n"
        "  kind      wrong at kinks, nan or inf\n"
        "  input     x = 8.98846567431158e+307\n"
        "  expected  0.0\n"
        "  got       nan\n"
        "  because   -2 * 8.988e+307 is -inf, and -inf * 0 is nan\n"
        "  nan may come from nan only: multiply in another order, so that nothing overflows, "
        "or choose by elementary.where."
    )


OVERFLOWS: list[tuple[str, Any, Any, str]] = [
    ("-2 x e^(-x^2)", gauss, lambda u, out, x: (u * -2 * x * e.exp(-x * x),), "-inf * 0 is nan"),
    ("-(x + x) out", gauss, lambda u, out, x: (-(x + x) * out * u,), "-inf * 0 is nan"),
    ("powers", lambda x: e.exp(-e.pow(x, 2)), lambda u, out, x: (u * -2 * x * out,), "-inf * 0 is nan"),
    (
        "x e^(-x^2)",
        lambda x: x * gauss(x),
        lambda u, out, x: (u * (1 - 2 * x * x) * gauss(x),),
        "-inf * 0 is nan",
    ),
    (
        "x^2 e^(-x^2)",
        lambda x: x * x * gauss(x),
        lambda u, out, x: (u * 2 * x * (1 - x * x) * gauss(x),),
        " * 0 is nan",
    ),
    ("a bump", bump, lambda u, out, x: (u * -2 * x * out * out,), "-inf * 0 is nan"),
    (
        "a bump by its quotient",
        bump,
        lambda u, out, x: (-2 * u * x / ((1 + x * x) * (1 + x * x)),),
        "-inf / inf is nan",
    ),
]


@pytest.mark.parametrize(
    ("name", "forward", "backward", "cause"),
    [pytest.param(*o, id=o[0], marks=[] if "bump" in o[0] else [pytest.mark.slow]) for o in OVERFLOWS],
)
def test_an_overflow_is_not_taken_for_a_kink(name: str, forward: Any, backward: Any, cause: str) -> None:
    message = refused(forward, backward)
    assert "the slope for x is nan, where it should be" in message
    assert cause in message
    assert "declare kinks" not in message


def test_an_overflow_that_leaves_a_finite_slope_is_told() -> None:
    def backward(upstream: Any, out: Any, x: Any) -> Any:
        return (upstream * e.exp(-x) / ((1 + e.exp(-x)) * (1 + e.exp(-x))),)

    message = refused(lambda x: 1 / (1 + e.exp(-x)), backward)
    assert "the slope for x is nan, where it should be 3.00054438886332e-309" in message
    assert "because   exp(710.4) is inf, " in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "backward"),
    [
        (gauss, lambda u, out, x: (u * -2 * e.where(abs(x) < 1e10, x, 0) * out,)),
        (gauss, lambda u, out, x: (u * -2 * (x * out),)),
        (gauss, lambda u, out, x: (u * -2 * (x * gauss(x)),)),
        (lambda x: e.exp(-x * x / 2), lambda u, out, x: (-u * x * out,)),
        (bump, lambda u, out, x: (u * -2 * (x * out) * out,)),
    ],
    ids=["where", "the small factor first", "computed again", "nothing to double", "bump"],
)
def test_a_slope_in_which_nothing_overflows_is_right(forward: Any, backward: Any) -> None:
    assert check_rule(declared(forward, backward)).inputs > 500


@pytest.mark.slow
def test_reasons_are_sought_for_the_simplest_input_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    beside = Reference.beside
    monkeypatch.setattr(Reference, "beside", lambda *args: asked.append(args) or beside(*args))
    refused(gauss, lambda upstream, out, x: (upstream * -2 * x * gauss(x),))
    assert len([point for _, point, _ in asked if abs(point[0]) > 1e300]) == 1


def test_a_rule_that_fails_without_a_graph_has_no_reason() -> None:
    def forward(x: Any) -> Any:
        return x if isinstance(x, tg.Value | mp.mpf) else x * x / x if x else x

    assert "because" not in refused(forward, lambda upstream, out, x: (upstream,))


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
    ],
)
def test_origin(make: Any, line: str) -> None:
    assert origin(make()) == line


# --- Bad input ----------------------------------------------------------------------------------------------


def identity(x: Any) -> Any:
    return x


def one_share(upstream: Any, out: Any, x: Any) -> Any:
    return (upstream,)


BAD: list[tuple[type[Exception], str, Any]] = [
    (TypeError, "takes a Rule or the name of one, got 'tan3': there are add, sub", lambda: check_rule("tan3")),
    (TypeError, "a Rule is what @rule returns", lambda: check_rule(math.tanh)),  # type: ignore[arg-type]  # the mistake
    (
        TypeError,
        "forward of mine must return one real number, got None",
        lambda: check_rule(declared(lambda x: None, one_share)),
    ),
    (
        TypeError,
        r"backward of mine must return 1 share\(s\), one per input, got \(1.0, 1.0\)",
        lambda: check_rule(declared(identity, lambda upstream, out, x: (upstream, upstream))),
    ),
    (
        TypeError,
        "backward of mine must return 1 share",
        lambda: check_rule(declared(identity, lambda upstream, out, x: upstream)),
    ),
    (
        TypeError,
        "backward of mine must return numbers, got None",
        lambda: check_rule(declared(identity, lambda upstream, out, x: (None,))),
    ),
    (
        ValueError,
        "domain of mine is empty: no x fulfils 3 <= x <= 1",
        lambda: check_rule(declared(identity, one_share, domain=(Interval(3, 1),))),
    ),
    (
        ValueError,
        "No input that was drawn is in the domain of log",
        lambda: check_rule("log", inputs=st.floats(-5, -1)),
    ),
    (TypeError, "reference is a function of mpmath numbers, got 3", lambda: check_rule("exp", 3)),  # type: ignore[arg-type]  # the mistake
    (ValueError, "bound is an error in ulps, above 0, got -1", lambda: check_rule("exp", bound=-1)),
    (TypeError, r"inputs of exp must give 1 number\(s\)", lambda: check_rule("exp", inputs=[st.floats()] * 2)),
    (TypeError, r"inputs of exp must give 1 number\(s\)", lambda: check_rule("exp", inputs=[])),
    (TypeError, r"inputs of exp must give 1 number\(s\)", lambda: check_rule("exp", inputs=st.text())),
    (
        TypeError,
        "reference of mine must take and return mpmath numbers, but at",
        lambda: check_rule(declared(identity, one_share), lambda x: None),
    ),
    (
        TypeError,
        "reference of mine must take and return mpmath numbers, but at",
        lambda: check_rule(declared(identity, one_share), lambda x, y: x),
    ),
    (
        ValueError,
        "has no real value or slope at most of the inputs",
        lambda: check_rule(declared(identity, one_share), lambda x: mp.sqrt(-1 - x * x)),
    ),
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
    assert ulps(math.nan, 1.0) == ulps(1.0, math.nan) == math.inf
    assert ulps(5e-324, 1e-310) == 0  # subnormals have lost digits by definition
    assert ulps(1e-300, 1e-310) > 1e9
    assert ulps(0.0, 1e-20, size=1.0) < 1e-3


@pytest.mark.parametrize("x", [5e-324, 1e-300, 1e-9, 1.0, 3.7, 700.0, 1e15, 1e300, -2.5])
def test_differences_at_high_precision_are_slopes(x: float) -> None:
    with mp.workdps(50):
        assert mp.almosteq(derivative(mp.atan, (x,), 0), 1 / (1 + mp.mpf(x) ** 2), mp.mpf(10) ** -45)
        exact = -2 * mp.mpf(x) / (1 + mp.mpf(x) ** 2) ** 2
        assert mp.almosteq(Reference(mp.atan).second((x,), 0, 0), exact, mp.mpf(10) ** -45)
        both = Reference(lambda x, y: mp.sin(x * y)).second((x, 0.5), 0, 1)
        exact = mp.cos(mp.mpf(x) / 2) - mp.sin(mp.mpf(x) / 2) * mp.mpf(x) / 2
        assert mp.almosteq(both, exact, mp.mpf(10) ** -40) or x >= 1e15


def test_one_sided_slopes() -> None:
    low, high = Reference(lambda x: 3 * abs(x - 2)).beside((2.0,), 0)
    assert (float(low), float(high)) == (-3.0, 3.0)


@pytest.mark.parametrize(
    ("f", "x", "steady"),
    [
        (abs, 0.0, True),
        (lambda x: abs(x - 3), 3.0, True),
        (lambda x: mp.mpf(x > 3), 3.0, True),
        (lambda x: mp.sqrt(abs(x)), 0.0, True),
        (lambda x: mp.exp(-x * x), 1.0, True),
        (lambda x: mp.exp(-x * x), 1e200, False),
        (lambda x: mp.sin(x * x), 1e100, False),
    ],
    ids=["abs", "abs elsewhere", "jump", "cusp", "smooth", "too steep", "too wild"],
)
def test_slopes_beside_a_kink_are_steady(f: Any, x: float, steady: bool) -> None:
    assert Reference(f).is_steady((x,), 0) == steady


def test_a_domain_is_read_off_the_rule() -> None:
    assert (line_of(RULES["log"], 0).low, line_of(RULES["log"], 0).high) == (5e-324, 1.7976931348623157e308)
    assert (line_of(RULES["asin"], 0).low, line_of(RULES["asin"], 0).high) == (-1.0, 1.0)
    assert not inside(RULES["log"])((0.0,))
    assert not inside(RULES["div"])((1.0, 0.0))
    assert inside(RULES["div"])((0.0, 1.0))
    assert not inside(RULES["asin"])((Fraction(3, 2),))
    assert all(0 < x <= 1.8e308 for (x,) in grid_of(RULES["log"]))
    assert {len(point) for point in grid_of(RULES["max"])} == {1, 2, 3, 7}
    assert all(y != 0 for _, y in grid_of(RULES["div"]))
    assert len(grid_of(RULES["exp"])) > 500
    drawn: list[int] = []

    @settings(max_examples=50, database=None)
    @given(strategy_of(RULES["sum"]))
    def draw(point: tuple[float, ...]) -> None:
        drawn.append(len(point))

    draw()
    assert set(drawn) == {1, 2, 3, 7}


def test_a_kink_of_the_slope_is_no_wrong_second_derivative() -> None:
    def huber(x: Any) -> Any:
        return e.where(abs(x) < 1, x * x / 2, abs(x) - 0.5)

    check_rule(tg.rule(huber, backward=lambda up, out, x: (up * e.where(abs(x) < 1, x, e.sign(x)),)))
