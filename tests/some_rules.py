"""Wrong rules and right ones, written as expressions: for every tool that must tell them apart."""

import math
from typing import Any

from tinygrad_edu import RULES, Interval, Rule, elementary, sigmoid, softplus, tanh
from tinygrad_edu.testing.check.case import Kind

NAMES = {
    **vars(elementary),
    "erf_slope": RULES["erf"].backward,
    "tanh_slope": lambda x: RULES["tanh"].backward(1, elementary.tanh(x), x)[0],
    "math": math,
    "inf": math.inf,
}


def rule_of(forward: str, *shares: str, **more: Any) -> Rule:
    """The rule of x, y, z with these expressions; u is upstream, o the output. It is not registered."""
    inputs = ", ".join("xyz"[: len(shares)])
    f = eval(f"lambda {inputs}: {forward}", NAMES)
    b = eval(f"lambda u, o, {inputs}: ({', '.join(shares)},)", NAMES)
    return Rule("mine", "mine", f, b, len(shares), **more)


def altered(rule: Rule, backward: Any) -> Rule:
    """The rule with another backward, under its old name."""
    return rule.replace(backward=(lambda *args, **_: backward(*args)) if rule.parameters else backward)


def scaled(factor: float) -> Any:
    return lambda rule: lambda upstream, out, *xs: [factor * share for share in rule.backward(upstream, out, *xs)]


ALTERATIONS: dict[str, Any] = {  # the backward that takes the place of a rule's
    "wrong_sign": scaled(-1),
    "missing_factor": lambda rule: lambda upstream, out, *xs: [upstream] * len(xs),
    "wrong_factor": scaled(2),
    "missing_upstream": lambda rule: lambda upstream, out, *xs: rule.backward(upstream * 0 + 1, out, *xs),
    "off_by_a_billionth": scaled(1 + 1e-9),
    "the_last_input_is_a_constant": lambda rule: lambda upstream, out, *xs: [
        *rule.backward(upstream, out, *xs)[:-1], 0 * upstream],
}  # fmt: skip

UNIT = (Interval(0, 1), Interval(0, 1))
SINC = "where(equal(x, 0), 1, sin(x) / x)"
SINC_SLOPE = "where(equal(x, 0), {}, (cos(x) * x - sin(x)) / (x * x))"

WRONG: dict[str, Rule] = {
    # everywhere, on a window, beyond a size
    "beyond 1e200": rule_of("x * 3", "u * where(abs(x) > 1e200, 3.001, 3)"),
    "1e-320 too much": rule_of("x * x", "u * 2 * x + where(x < 0, 1e-320, 0)"),
    "on a side of a tie": rule_of("x / (x * y - 1)", "-u / (x * y - 1) ** 2", "-u * o * o * where(x > y, 1, 1.1)"),
    # at single points
    "at 2, by ==": rule_of("exp(x)", "u * o * (3 if x == 2 else 1)"),
    "at 0.1, by !=": rule_of("exp(x)", "u * o * (1 if x != 0.1 else 1.5)"),
    "where x is 2, for y": rule_of("x * y", "u * y", "u * x * where(equal(x, 2), 0.5, 1)"),
    "at one corner": rule_of("x * y", "u * y", "u * x * where(equal(x, 2) * equal(y, 3), 0.5, 1)"),
    "at whole numbers": rule_of("x * x", "u * 2 * x * where(equal(x % 1, 0), 2, 1)"),
    "beside a kink": rule_of("abs(x)", "u * (sign(x) + 7 * equal(x, 0))", kinks=(0.0,)),
    "at a kink times y": rule_of("abs(x) * y", "u * y * (sign(x) + 7 * equal(x, 0))", "u * abs(x)"),
    "at a jump, for y": rule_of(
        "where(x > 1, x + 1, x) * y", "u * y", "u * where(x > 1, x + 1, x) * where(equal(x, 1), 3, 1)"
    ),
    # closed ends
    "at an end": rule_of("x * x * x", "u * where(equal(x, 1), 0, 3 * x * x)", domain=(Interval(0, 1),)),
    "at an end of two": rule_of("x * y", "u * y * where(equal(x, 1), 2, 1)", "u * x", domain=UNIT),
    "at the end of an end": rule_of("x * y", "u * y", "u * x * (1 + equal(x, 1) * equal(y, 1))", domain=UNIT),
    "at an end with a root": rule_of(
        "sqrt(x) * y",
        "div(u * y, 2 * sqrt(x))",
        "u * where(equal(x, 0), 5, sqrt(x))",
        domain=(Interval(0), Interval()),
    ),
    # where the formula is 0/0
    "sinc at 0": rule_of(SINC, "u * " + SINC_SLOPE.format(7)),
    "expm1(x) / x at 0": rule_of(
        "where(equal(x, 0), 1, expm1(x) / x)", "u * where(equal(x, 0), 0, (exp(x) * x - expm1(x)) / (x * x))"
    ),
    "sinc times y at 0": rule_of(f"{SINC} * y", "u * y * " + SINC_SLOPE.format(2), f"u * {SINC}"),
    # on ties
    "moved on ties": rule_of("x + y", "u * (1 + equal(x, y))", "u * (1 - equal(x, y))"),
    "max, all to both": rule_of("maximum(x, y)", "u * where(x >= y, 1, 0)", "u * where(y >= x, 1, 0)", ties=True),
    "max, none to both": rule_of("maximum(x, y)", "u * where(x > y, 1, 0)", "u * where(y > x, 1, 0)", ties=True),
    "where x is 2 y": rule_of("x * x * y", "u * 2 * x * y * where(equal(x, 2 * y), 2, 1)", "u * x * x"),
    "on a circle": rule_of("x * x * y", "u * 2 * x * y * where(equal(x * x + y * y, 25), 2, 1)", "u * x * x"),
    # upstream
    "no u in one share": rule_of("x * y", "u * y", "x"),
    "u clipped": rule_of("x * x", "where(u > 1e6, 1e6, u) * 2 * x"),
    "u beside x": rule_of("x * x", "where(u > x, u, u * 1.1) * 2 * x"),
    "tanh of u": rule_of("x * x", "tanh(u) / tanh(1 + 0 * x) * 2 * x"),
    "not 0 for u = 0": rule_of("x * x", "u * 2 * x if u != 0 else 1 + 0 * x"),
}

RIGHT: dict[str, Rule] = {
    "expm1(x) / x": rule_of(
        "where(equal(x, 0), 1, expm1(x) / x)", "u * where(equal(x, 0), 0.5, (exp(x) * x - expm1(x)) / (x * x))"
    ),
    "sinc": rule_of(SINC, "u * " + SINC_SLOPE.format(0)),
    "sinc times y": rule_of(f"{SINC} * y", "u * y * " + SINC_SLOPE.format(0), f"u * {SINC}"),
    "max, a quarter on ties": rule_of(
        "maximum(x, y)",
        "u * where(x > y, 1, equal(x, y) / 4)",
        "u * where(y > x, 1, equal(x, y) * 3 / 4)",
        ties=True,
    ),
    "a product on the unit square": rule_of("x * y", "u * y", "u * x", domain=UNIT),
    "nothing to do for u = 0": rule_of("x * x", "u * 2 * x if u != 0 else 0 * x"),
    "x log x": rule_of(
        "where(equal(x, 0), 0, x * log(x))", "u * (log(x) + 1) if x != 0 else -inf * u", domain=(Interval(0),)
    ),
    "abs(x) y": rule_of("abs(x) * y", "u * y * sign(x)", "u * abs(x)"),
    "sqrt(x)y": rule_of("sqrt(x) * y", "div(u * y, 2 * sqrt(x))", "u * sqrt(x)", domain=(Interval(0), Interval())),
    "a bell": rule_of("exp(-x * x)", "-2 * (x * o) * u"),
    "Huber's loss": rule_of("where(abs(x) < 1, x * x / 2, abs(x) - 0.5)", "u * where(abs(x) < 1, x, sign(x))"),
    "exp, cut where floats are 0": rule_of("exp(x)", "u * where(x < -746, 0, o)"),
    "a jump": rule_of("where(x > 1, x + 1, x)", "u * 1"),
    "a pole on a curve": rule_of("x / (x * y - 1)", "-u / ((x * y - 1) * (x * y - 1))", "-u * o * o"),
}


# --- Mistakes that people make, with what check_rule says of them -------------------------------------------
SHARES, LINEAR, FORMULA, SINGULAR, ROUNDING, SECOND, NUMBERS = Kind
KINK = "if this is a kink, declare kinks=(1.0,)."


def several(forward: str, shares: str) -> Rule:
    """A rule of any number of inputs xs."""
    f, b = (eval(text, NAMES) for text in (f"lambda *xs: {forward}", f"lambda u, o, *xs: {shares}"))
    return Rule("mine", "mine", f, b, None)


def mish(x: Any) -> Any:
    return x * tanh(softplus(x))


def mish_backward(upstream: Any, out: Any, x: Any) -> Any:
    t = tanh(softplus(x))
    return (upstream * (t + x * (1 - t * t) * sigmoid(x)),)


MISTAKES: dict[str, tuple[Rule, str, str]] = {  # the rule, the kind, and a part of the message
    # upstream
    "upstream is added": (rule_of("tanh(x)", "u + tanh_slope(x)"), LINEAR, "upstream is added: the share is"),
    "two mistakes": (rule_of("tanh(x)", "1 - x * x"), LINEAR, "for upstream -4, the share of x is not -4 * its"),
    # the formula
    "swapped": (rule_of("x * y", "u * x", "u * y"), FORMULA, "it is the slope of the other operand, y"),
    "both, beyond 2": (
        rule_of("x * y", "u * y * where(x > 2, 2, 1)", "u * x * where(y > 2, 3, 1)"),
        FORMULA,
        "the slope is right at other points",
    ),
    "a constant operand": (rule_of("x * y", "u * y", "0 * u"), FORMULA, "the operand is taken for a constant"),
    "upstream alone": (rule_of("x * y", "u", "u * x"), FORMULA, "the local slope is missing"),
    "no sign in -": (rule_of("x - y", "u", "u"), FORMULA, "it is the slope of the other operand, x"),
    "twice": (rule_of("tanh(x)", "2 * u * tanh_slope(x)"), FORMULA, "a factor 2 is too many"),
    "a billionth": (rule_of("tanh(x)", "u * tanh_slope(x) * (1 + 1e-9)"), FORMULA, "1.000000001 times the slope"),
    "a third": (rule_of("x * x * x", "u * x * x"), FORMULA, "a factor 3 is missing"),
    "minus": (rule_of("tanh(x)", "-u * tanh_slope(x)"), FORMULA, "the sign is wrong"),
    "no factor out": (rule_of("sigmoid(x)", "u * sigmoid(-x)"), FORMULA, "a factor out is missing"),
    "x for out": (rule_of("tanh(x)", "u * (1 - x * x)"), FORMULA, "x is used where out is meant"),
    "out for x": (rule_of("x * x", "2 * u * o"), FORMULA, "a factor x is too many"),
    "1 / slope": (rule_of("exp(x)", "u * exp(-x)"), FORMULA, "it is 1 / slope"),
    "a window": (
        rule_of("tanh(x)", "u * tanh_slope(x) * where((x > 2.4) * (x < 2.6), 1.01, 1)"),
        FORMULA,
        "the slope is right at other points",
    ),
    # lost digits
    "1 - tanh^2": (rule_of("tanh(x)", "u * (1 - o * o)"), ROUNDING, "sech(x)**2 by exponentials"),
    "1 - sigmoid": (rule_of("sigmoid(x)", "u * o * (1 - o)"), ROUNDING, "use sigmoid(-x)"),
    # overflow, kinks, ties, poles, nan
    "an overflow below": (
        rule_of("x * x / (1 + x * x)", "u * 2 * x / pow(1 + x * x, 2)", domain=(Interval(1, 1e90),)),
        ROUNDING,
        "because   1.341e+154**2 is inf",
    ),
    "an overflow on the way": (
        rule_of("exp(x) / (1 + exp(x))", "u * sigmoid(x) * sigmoid(-x)"),
        SINGULAR,
        "the value is nan, where it should be 1.0\n  kind      wrong at kinks, nan or inf\n"
        "  input     x = 709.7827128933841\n  expected  1.0\n  got       nan\n"
        "  because   exp(709.8) is inf, and inf / inf is nan",
    ),
    "a kink, not declared": (
        rule_of("maximum(x - 1, 0 * x)", "u * heaviside(x - 1)"),
        SINGULAR,
        "The slopes on its two sides are 0.0 and 1.0: " + KINK,
    ),
    "a slope that is a float": (rule_of("maximum(x, 0)", "u if x > 0 else 0.0"), SINGULAR, "declare kinks=(0.0,)"),
    "a kink far away": (
        rule_of("maximum(x - 1e7, 0 * x)", "u * heaviside(x - 1e7)"),
        SINGULAR,
        "if this is a kink, declare kinks=(10000000.0,).",
    ),
    "outside of a kink": (
        rule_of("abs(x)", "u * (sign(x) + 1.01 * equal(x, 0))", kinks=(0.0,)),
        SINGULAR,
        "at a kink, the slope for x is not between those beside it",
    ),
    "greedy ties": (
        rule_of(
            "maximum(x, y)", "u * (equal(x, o) + 0 * o)", "u * (equal(y, o) + equal(x, y) + 0 * o)", ties=True
        ),
        SINGULAR,
        "at a kink, the slope for y is not between those beside it",
    ),
    "0 / 0 at a kink, not declared": (
        rule_of("abs(x - 1)", "u * div(x - 1, o)"),
        SINGULAR,
        "The slopes on its two sides are -1.0 and 1.0: " + KINK,
    ),
    "a jump, not declared": (rule_of("heaviside(x - 1) + x", "u + 0 * x"), SINGULAR, KINK),
    "a pole, not declared": (rule_of("1 / x", "-u * o * o"), SINGULAR, "declare domain= or check="),
    "ties, not declared": (
        rule_of("maximum(x, y)", "u * equal(x, o)", "u * (1 - equal(x, o))"),
        SINGULAR,
        "Equal inputs have two slopes here: if this is a kink, declare ties=True.",
    ),
    "nan that is lost": (
        rule_of("where(x > 0, x, 0 * equal(x, x))", "u * heaviside(x)", kinks=(0.0,)),
        SINGULAR,
        "nan is lost",
    ),
    "a slope beside nan": (
        rule_of("where(x <= 0, 0 * x, x)", "u * where(x > 0, 1, 0)", kinks=(0.0,)),
        SINGULAR,
        "the slope for x is a number beside nan",
    ),
    "an error in backward": (
        rule_of("abs(x)", "u * x / o", kinks=(0.0,)),
        SINGULAR,
        "backward fails on a float\n  kind      wrong at kinks, nan or inf\n  input     x = 0.0\n"
        "  error     ZeroDivisionError",
    ),
    # the second derivative
    "no graph": (rule_of("x * x / 2**51", "u * getattr(x, 'data', x) / 2**50"), SECOND, "for x and x is wrong"),
    # other numbers
    "math on floats": (rule_of("math.tanh(x)", "u * (1 - o * o)"), NUMBERS, "turns an mpmath number into a float"),
    "no mpmath": (rule_of("x if x.__class__ is float else 0 / 0", "u"), NUMBERS, "mpf\n  kind      other"),
    "a float for pi": (rule_of("x * constants(x)[0]", "u * math.pi"), NUMBERS, "loses digits on mpmath numbers"),
    "a branch on one number": (
        rule_of("exp(x) if x > 0 else 1 + x", "u * (exp(x) if x > 0 else 1 + 0 * x)", kinks=(0.0,)),
        NUMBERS,
        "forward fails on a ndarray",
    ),
    "a branch on the kind of number": (
        rule_of("where(x == x, 2 * x if hasattr(x, 'shape') else x, x)", "u"),
        NUMBERS,
        "the value on an array is not that on floats",
    ),
    "a float among Fractions": (rule_of("x / 2", "u * 0.5"), NUMBERS, "the slope for x is not exact on Fractions"),
    "an axis that is not reduced": (several("sum(xs)", "(u,) * len(xs)"), NUMBERS, "must reduce the last axis"),
    "-inf": (rule_of("int(x) if x.__class__ is float and x == -inf else x", "u"), NUMBERS, "x = -inf"),
    "an error at inf": (
        rule_of("x if hasattr(x, 'shape') or x != x else x + 0 * int(x)", "u"),
        NUMBERS,
        "forward fails on a float\n  kind      other numbers\n  input     x = inf\n  error     OverflowError",
    ),
}
