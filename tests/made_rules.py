"""Random rules with the slopes of calculus, and the same rules with one fault planted, of seven kinds.

A rule is a tree of expressions, its slopes are text, by the rules of calculus. Each right rule is compared with
differences of mpmath at a few floats. Each wrong one comes with a float and an upstream that show its fault.
"""

import contextlib
import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp
from some_rules import rule_of

from tinygrad_edu import Interval, Rule
from tinygrad_edu.testing import Refuted, RuleMismatch, check_rule, prove_rule
from tinygrad_edu.testing.check.case import Kind
from tinygrad_edu.testing.check.reference import within_reach

ANYWHERE, POSITIVE, UNIT = Interval(), Interval(0, math.inf, open=True), Interval(0, 1)
FACTORS = ("0", "0.5", "-1", "1.000001", "2", "7")
KINDS = ("at a point", "on a tie", "in a window", "in an operand", "beyond 1e3", "at subnormals", "upstream")

# --- Expressions, with their slopes -------------------------------------------------------------------------
UNARY = {  # the value, and the slope for the operand {0}
    "exp": ("exp({0})", "exp({0})"),
    "tanh": ("tanh({0})", "1 / pow(cosh({0}), 2)"),
    "sin": ("sin({0})", "cos({0})"),
    "cos": ("cos({0})", "-sin({0})"),
    "sigmoid": ("sigmoid({0})", "sigmoid({0}) * sigmoid(-{0})"),
    "atan": ("atan({0})", "1 / (1 + {0} * {0})"),
    "asinh": ("asinh({0})", "1 / sqrt(1 + {0} * {0})"),
    "erf": ("erf({0})", "2 * exp(-({0} * {0})) / sqrt(constants({0})[0])"),
    "log1p2": ("log(1 + {0} * {0})", "2 * {0} / (1 + {0} * {0})"),
    "root": ("sqrt(1 + {0} * {0})", "{0} / sqrt(1 + {0} * {0})"),
    "bell": ("1 / (1 + {0} * {0})", "-2 * {0} / pow(1 + {0} * {0}, 2)"),
    "square": ("{0} * {0}", "2 * {0}"),
    "cube": ("pow({0}, 3)", "3 * {0} * {0}"),
    "neg": ("-{0}", "-1"),
    "third": ("{0} / 3", "div(1, 3 + 0 * {0})"),
    "softplus": ("log1p(exp({0}))", "1 / (1 + exp(-{0}))"),
    "abs": ("abs({0})", "sign({0})"),
    "relu": ("maximum({0}, 0)", "heaviside({0})"),
    "jump": ("where({0} > 1, {0} * {0}, 2 * {0} - 1)", "where({0} > 1, 2 * {0}, 2)"),  # it has a slope at 1
}
ON_POSITIVE = {
    "log": ("log({0})", "1 / {0}"),
    "sqrt": ("sqrt({0})", "div(1, 2 * sqrt({0}))"),
    "reciprocal": ("1 / {0}", "-1 / ({0} * {0})"),
    "power": ("pow({0}, 1.5)", "1.5 * sqrt({0})"),
}
BINARY = {  # the value, and the slopes for {0} and {1}
    "add": ("{0} + {1}", "1", "1"),
    "sub": ("{0} - {1}", "1", "-1"),
    "mul": ("{0} * {1}", "{1}", "{0}"),
    "div": ("{0} / (2 + {1} * {1})", "1 / (2 + {1} * {1})", "-2 * {0} * {1} / pow(2 + {1} * {1}, 2)"),
    "max": ("maximum({0}, {1})", "(1 + sign({0} - {1})) / (2 + 0 * {0})", "(1 - sign({0} - {1})) / (2 + 0 * {0})"),
}


class Term(NamedTuple):
    """An expression in x and y, with its slopes."""

    text: str
    slopes: tuple[str, ...]


def term(rng: random.Random, n: int, depth: int, positive: bool) -> Term:
    """A random term of n inputs."""
    leaves = [Term("xy"[i], tuple(str(int(i == j)) for j in range(n))) for i in range(n)]
    if depth == 0:
        return rng.choice(leaves)
    if rng.random() < (0.3 if n == 1 else 0.6):
        name = rng.choice([name for name in BINARY if name != "max" or rng.random() < 0.3])
        return applied(BINARY[name], *(term(rng, n, depth - 1, positive) for _ in range(2)))
    if positive and rng.random() < 0.4:
        return applied(rng.choice(list(ON_POSITIVE.values())), rng.choice(leaves))
    return applied(rng.choice(list(UNARY.values())), term(rng, n, depth - 1, positive))


def applied(row: tuple[str, ...], *operands: Term) -> Term:
    """A row of a table on terms: the chain rule."""
    inner = [f"({t.text})" if len(t.text) > 1 else t.text for t in operands]
    value, *slopes = (text.format(*inner) for text in row)
    sums = []
    for i in range(len(operands[0].slopes)):
        pairs = [(s, t.slopes[i]) for s, t in zip(slopes, operands, strict=True) if t.slopes[i] != "0"]
        sums.append(" + ".join(f"({s})" if d == "1" else f"({s}) * ({d})" for s, d in pairs) or "0")
    return Term(value, tuple(sums))


# --- Rules ----------------------------------------------------------------------------------------------------
class Made(NamedTuple):
    """A rule, its text, the kind of its fault, and inputs and an upstream that show it; none for a right rule."""

    rule: Rule
    text: str
    kind: str = "right"
    point: tuple[float, ...] = ()
    upstream: float = 1.0


def right(rng: random.Random) -> tuple[Made, Term, Interval]:
    """A right rule of one or two inputs. What floats cannot compute near 1 is drawn again."""
    while True:
        n, domain = rng.choice((1, 1, 2)), rng.choice((ANYWHERE, ANYWHERE, ANYWHERE, POSITIVE, UNIT))
        t = term(rng, n, rng.choice((1, 2, 2, 3)), domain is POSITIVE)
        if "0" in t.slopes or len("".join(t.slopes)) > 500:  # constant in an input, or no rule of a person
            continue
        made = of_term(t, t.slopes, domain)
        points = [tuple(rng.uniform(0.05, 0.95) for _ in range(n)) for _ in range(4)]
        with contextlib.suppress(ArithmeticError, ValueError):
            if all(is_right_at(made.rule, point) for point in points):
                return made, t, domain


def of_term(t: Term, slopes: tuple[str, ...], domain: Interval, u: str = "u", **more: Any) -> Made:
    shares = [f"{u} * ({s})" if s != "1" or u != "u" else "u" for s in slopes]
    declared = {} if domain is ANYWHERE else {"domain": (domain,) * len(slopes)}
    return Made(rule_of(t.text, *shares, **declared), f"{t.text}; {', '.join(shares)}; {domain}", **more)


def is_right_at(rule: Rule, point: tuple[float, ...], upstream: float = 1.0) -> bool | None:
    """Are the shares those of mpmath's differences? None at a kink, where floats overflow, or if unknown.

    Raises ValueError where mpmath would take forever.
    """
    within_reach(rule.forward, point)
    shares = rule.backward(upstream, rule.forward(*point), *point)
    with mp.workdps(1500):
        for i, share in enumerate(shares):
            sides = []
            for side in (-1, 1):
                h = side * mp.mpf(10) ** -700
                beside = [mp.mpf(x) + h * (i == j) for j, x in enumerate(point)]
                sides.append((rule.forward(*beside) - rule.forward(*map(mp.mpf, point))) / h)
            if not abs(sides[0] - sides[1]) <= 1e-20 * abs(sides[1]):
                return None
            exact = upstream * sides[1]
            if not math.isfinite(share):  # 0 * inf: the formula may be right
                return None
            if not abs(share - exact) <= 1e-9 * max(abs(exact), mp.mpf(10) ** -290):
                return False
    return True


def wrong(rng: random.Random, kind: str) -> Made:
    """A rule with a fault of this kind that a float shows."""
    while True:
        _, t, domain = right(rng)
        made = PLANT[kind](rng, t, domain)
        if made is None or not all(x in domain for x in made.point):
            continue
        with contextlib.suppress(ArithmeticError, ValueError):
            if is_right_at(made.rule, made.point, made.upstream) is False:
                return made


def planted(rng: random.Random, t: Term, domain: Interval, where: str, kind: str, point: Any) -> Made:
    """One share times another number where a condition holds."""
    i, factor = rng.randrange(len(t.slopes)), rng.choice(FACTORS)
    way = rng.choice((f"where({where}, {factor}, 1)", f"(1 + ({factor} - 1) * ({where}))"))
    slopes = tuple(f"({s}) * {way}" if i == j else s for j, s in enumerate(t.slopes))
    return of_term(t, slopes, domain, kind=kind, point=point)


def number(rng: random.Random) -> float:
    return rng.choice(
        (0.0, 1.0, 0.5, 2.0, 0.1, -1.0, round(rng.uniform(-4, 4), 2), rng.uniform(-9, 9), rng.random())
    )


def at_a_point(rng: random.Random, t: Term, domain: Interval) -> Made:
    point = tuple(number(rng) for _ in t.slopes)
    where = f"equal(x, {point[0]!r})"
    if len(point) == 2:
        where = rng.choice((where, f"equal(y, {point[1]!r})", f"{where} * equal(y, {point[1]!r})"))
    return planted(rng, t, domain, where, KINDS[0], point)


def on_a_tie(rng: random.Random, t: Term, domain: Interval) -> Made | None:
    if len(t.slopes) < 2:
        return None
    x = number(rng)
    where, y = rng.choice(
        (("equal(x, y)", x), ("equal(x - y, 0)", x), ("equal(x, -y)", -x), ("equal(x, 2 * y)", x / 2))
    )
    return planted(rng, t, domain, where, KINDS[1], (x, y))


def in_a_window(rng: random.Random, t: Term, domain: Interval) -> Made:
    a, i = number(rng), rng.randrange(len(t.slopes))
    name = "xy"[i]
    ways = (
        f"({name} > {a!r}) * ({name} < {a + 1e-9!r})",
        f"abs({name} - {a!r}) < 1e-9",
        f"exp(-((({name} - {a!r}) * 1e9) ** 2))",
    )
    point = tuple(a + 3e-10 if i == j else number(rng) for j in range(len(t.slopes)))
    where = rng.choice(ways)
    if where.startswith("exp"):
        slopes = tuple(f"({s}) * (1 + {where})" if i == j else s for j, s in enumerate(t.slopes))
        return of_term(t, slopes, domain, kind=KINDS[2], point=point)
    return planted(rng, t, domain, where, KINDS[2], point)


def in_an_operand(rng: random.Random, t: Term, domain: Interval) -> Made:
    point, i = tuple(rng.random() for _ in t.slopes), rng.randrange(len(t.slopes))
    other = t.slopes[1 - i] if len(t.slopes) == 2 else "1"
    wrong = rng.choice((f"-({t.slopes[i]})", f"({t.slopes[i]}) * 1.00001", other, f"({t.slopes[i]}) * x", "0 * x"))
    return of_term(
        t, tuple(wrong if i == j else s for j, s in enumerate(t.slopes)), domain, kind=KINDS[3], point=point
    )


def beyond(rng: random.Random, t: Term, domain: Interval) -> Made:
    size = rng.choice((1e3, 1e3, 12345.0, 1e8, 1e100))
    name = "xy"[: len(t.slopes)][rng.randrange(len(t.slopes))]
    point = tuple(1.5 * size if name == other else 0.7 for other in "xy"[: len(t.slopes)])
    return planted(rng, t, domain, rng.choice((f"{name} > {size!r}", f"abs({name}) > {size!r}")), KINDS[4], point)


def at_subnormals(rng: random.Random, t: Term, domain: Interval) -> Made:
    size, name = rng.choice((1e-310, 2.0**-1022, 1e-320)), "xy"[: len(t.slopes)][rng.randrange(len(t.slopes))]
    point = tuple(size / 2 if name == other else 0.7 for other in "xy"[: len(t.slopes)])
    return planted(rng, t, domain, f"abs({name}) < {size!r}", KINDS[5], point)


def in_upstream(rng: random.Random, t: Term, domain: Interval) -> Made:
    u, shown = rng.choice(
        (
            *(("u * u", 3.0), ("abs(u)", -2.0), ("1", 3.0), ("u ** 3", 0.5), ("sinh(u) / sinh(1 + 0 * x)", 2.0)),
            *(("where(u > 1e6, 1e6, u)", 1e7), ("where(equal(u, 3), 1, u)", 3.0), ("maximum(u, 0)", -1.0)),
            *(
                ("(u + 1e-9 * (u - 1))", 3.0),
                ("where(abs(u) < 1e-9, 0, u)", 1e-10),
                ("where(u > x, u, 2 * u)", -99.0),
            ),
        )
    )
    point = tuple(rng.random() for _ in t.slopes)
    return of_term(t, t.slopes, domain, u, kind=KINDS[6], point=point, upstream=shown)


PLANT: dict[str, Callable[[random.Random, Term, Interval], Made | None]] = dict(
    zip(KINDS, (at_a_point, on_a_tie, in_a_window, in_an_operand, beyond, at_subnormals, in_upstream), strict=True)
)


# --- Verdicts -------------------------------------------------------------------------------------------------
def proof_of(made: Made, budget: float) -> str:
    """What prove_rule says of its formula: "certified", "refuted" or "undecided"."""
    try:
        certificate = prove_rule(made.rule, budget=budget)
    except Refuted:
        return "refuted"
    return "certified" if certificate.formula_ok else "undecided"


def check_of(made: Made, budget: float) -> str:
    """What check_rule says: "right", "wrong", or "floats" where it finds lost digits, overflow or kinks alone.

    It is "floats" too where the formula has a value at too few floats to compare with.
    """
    try:
        check_rule(made.rule, budget=budget)
    except ValueError as error:
        if "no real value or slope" not in str(error):
            raise
        return "floats"
    except RuleMismatch as error:
        return "floats" if all(map(_is_of_floats, error.report.failures)) else "wrong"
    return "right"


def _is_of_floats(failure: RuleMismatch) -> bool:
    """Says it nothing of the slopes' formula? That of maximum(x * x, 0) is right, and cannot bend at 0."""
    is_far = not all(x == 0 or 1e-9 < abs(x) <= 20 for x in failure.point)
    far = failure.kind == Kind.SINGULAR and (is_far or " is nan, where" in failure.what)  # inf * 0
    kink = "declare kinks" in str(failure) or "declare ties" in str(failure)
    return failure.kind in (Kind.ROUNDING, Kind.SECOND) or far or kink


def made_of(kind: str, rng: random.Random) -> Made:
    return right(rng)[0] if kind == "right" else wrong(rng, kind)
