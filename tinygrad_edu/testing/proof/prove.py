"""prove_rule: a rule's slope is the derivative of its forward, and floats come so near, over a whole domain."""

import itertools
import math
import threading
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from tqdm import tqdm

from ...engine.rule import Interval, Rule
from ..check.case import as_rule, refuse
from ..check.points import ends_of, grid_of
from .boxes import GOAL, FloatBox, Truth, cover, run
from .cells import Cell, Clock
from .certificate import Certificate, best
from .formula import Refuted, is_outside, pieces_of
from .ranges import precise

BUDGET = 1000  # boxes: they are halved until all are within the goal, or there are so many
LENGTHS = (1, 2, 3, 4)  # of a reduction
FORMULA_RESTS_ON = (
    "formula: exact arithmetic on polynomials in x, e^..., log, roots, erf ... (python-flint factors them)"
)
ROUNDING_RESTS_ON = [
    "an ulp is a unit in the last place of the exact number, for subnormal numbers 2^-1074, the least float",
    "rounding: IEEE 754 doubles, to nearest, upstream 1; "
    "the C library's functions within these bounds (GNU C library manual):",
]


def prove_rule(
    rule: Rule | str,
    *,
    domain: Any = None,
    ulps: float | None = None,
    strict: bool = False,
    budget: float = 20.0,
    **others: Any,
) -> Certificate:
    """Certify that a rule's slope is the derivative of its forward function, and how near floats come to both.

    Formula: the domain is cut into pieces on which the rule takes one branch. On each, slope and derivative are
    compared as formulas over the real numbers: if all terms cancel, they are equal at every point, infinite ends
    included; else their difference is bounded over boxes. Upstream is one of the variables: each share must be
    upstream times the slope. At branch points, closed ends and where inputs are equal, the slope must be the
    derivative if there is one, else lie between the slopes beside it. Reductions are examined for 1 to 4 inputs.

    Rounding, for a rule of one input: a bound in ulps, units in the last place, over every float of the domain. It
    follows from half an ulp for each operation and the bounds that the C library states for its functions; the
    certificate prints them. Subnormal results are counted in units of the least float. Where a number is so near
    0, or so steep, that rounding the input alone does more, it is counted in ulps of |x f'(x)|, and marked by *.

    `domain` is an `Interval` or a pair (low, high), or one for each input; else all the rule declares. With
    `ulps`, every float must be within this bound. After `budget` seconds, what is certified so far stands, and the
    rest is undecided. A certificate is true if nothing is undecided: `assert prove_rule(rule)`. Otherwise see
    `.undecided`; with strict=True that raises AssertionError. Raises Refuted, an AssertionError, for a wrong
    rule, with a float that shows it: the rule was run there. Raises ImportError without python-flint, TypeError
    for what is no rule.

    >>> from tinygrad_edu.testing import prove_rule
    >>> prove_rule("relu")  # doctest: +ELLIPSIS
    relu: certified, value within 0 ulps and slope within 0
      where  formula                                         value, ulps  slope, ulps
      x < 0  slope = derivative, exactly                     0            0
      x = 0  kink: slope 0 by convention, 0 and 1 beside it  0            0
      x > 0  slope = derivative, exactly                     0            0
      not examined: second derivatives
      rests on
        ...
    """
    __tracebackhide__ = True
    refuse("prove_rule", others)
    rule = as_rule(rule, "prove_rule")
    if ulps is not None and not ulps > 0:
        raise ValueError(f"ulps is a bound above 0, got {ulps!r}.")
    precise()
    clock, notes = Clock(budget), set[str]()
    pieces, formulas = pieces_of(rule, list(_start(rule, domain, notes, clock)))
    outside = [piece for piece in pieces if is_outside(rule, piece)]
    pieces = [piece for piece in pieces if piece not in outside]
    boxes, library = list[FloatBox](), getattr(rule, "library", "")
    rests_on: set[str] = set()
    if rule.n_inputs == 1:

        class Bar(tqdm):  # type: ignore[type-arg]  # at run time it has none
            """A bar with its own lock: Ctrl-C may leave it locked, and no other bar waits for it."""

            _lock = threading.RLock()
            monitor_interval = 0

        with Bar(total=BUDGET, desc=rule.name, unit="box", leave=False, disable=None) as bar:
            truth = Truth(rule, pieces, formulas)

            def refute(*boxes: FloatBox) -> None:
                if ulps is not None:
                    _refute_rounding(truth, boxes, ulps)

            boxes = cover(truth, ulps or GOAL, BUDGET, rests_on, clock, bar.update, refute)
        if library:
            boxes = _tested(truth, boxes, library)
        refute(*boxes)
    left_out = ["second derivatives", *sorted(notes)]
    left_out += [f"{piece.where}, where `check` refuses numbers" for piece in outside]
    left_out += [f"{piece.where}: {piece.note}" for piece in pieces if piece.tested]
    left_out += [] if boxes else ["the rounding of floats"]
    left_out += [] if rule.n_inputs else [f"more than {LENGTHS[-1]} inputs"]
    stated = [*ROUNDING_RESTS_ON, *(f"  {text}" for text in sorted(rests_on))] if boxes else []
    if boxes and library:
        stated.append(
            f"  assumed, and not stated: {library} computes as written, and its functions are within these bounds,"
            " which was tested at hard points"
        )
    certificate = Certificate(rule, pieces, boxes, [FORMULA_RESTS_ON, *stated], left_out, ulps)
    if strict and not certificate:
        raise AssertionError(f"{rule.name} is not certified, and not refuted.\n{certificate!r}")
    return certificate


def _start(rule: Rule, domain: Any, notes: set[str], clock: Clock) -> Iterable[Cell]:
    """The whole domain and its closed sides, for each number of inputs."""
    for n in [rule.n_inputs] if rule.n_inputs else [k for k in LENGTHS if rule.name != "dot" or k % 2 == 0]:
        sides: list[Any] = []
        wanted = [(-math.inf, math.inf)] * n if domain is None else ends_of(domain, n)
        for i, (low, high) in enumerate(wanted):
            declared = rule.domain[i] if i < len(rule.domain) else Interval()
            low, high = max(low, declared.low), min(high, declared.high)
            if not low < high:
                raise ValueError(f"The domain of {rule.name} is empty: from {low!r} to {high!r}.")
            ends: list[Any] = [x if math.isinf(x) else Fraction(x) for x in (low, high)]
            closed = [(end, end) for end in ends if abs(end) < math.inf and float(end) in declared]
            sides.append([tuple(ends), *closed])
        for side in itertools.product(*sides):
            yield Cell(side, notes=notes, clock=clock)


def _tested(truth: Truth, boxes: list[FloatBox], library: str) -> list[FloatBox]:
    """The boxes, without their bounds where the library that computes the rule breaks them at a hard point."""
    broken: dict[FloatBox, str] = {}
    for (x,) in grid_of(truth.rule):
        for box in (box for box in boxes if box.low <= x <= box.high):
            errors = run(truth, x, x, set()).bounds
            for i, what in enumerate(("value", "slope")):
                if errors[i] > box.bounds[i] and errors[i + 2] > box.bounds[i + 2]:
                    off = f"at {x!r} the {what} is {errors[i]:.3g} ulps off"
                    broken[box] = f"{library}'s functions are worse than assumed: {off}"
    return [FloatBox(box.low, box.high, reason=broken[box]) if box in broken else box for box in boxes]


def _refute_rounding(truth: Truth, boxes: Sequence[FloatBox], ulps: float) -> None:
    """Raises Refuted with a float whose error is larger than the bound asked for."""
    rule = truth.rule
    for box in sorted(boxes, key=lambda box: -max(best(box))):
        if max(best(box)) <= ulps:
            return
        for x in (box.low, box.low + (box.high - box.low) / 2, box.high):
            value, slope, *of_input = run(truth, x, x, set()).bounds
            out = rule.forward(x)
            got = out, rule.backward(1.0, out, x)[0]
            for i in (1, 0):
                if of_input[i] > ulps:
                    what, error = ("the value", "the slope")[i], (value, slope)[i]
                    facts = f" It is {error:.3g} ulps off, {ulps:g} were asked for."
                    if error == math.inf:
                        facts = f" No digit of {what} is right; {ulps:g} ulps were asked for."
                    raise Refuted(rule, (x,), what, truth.at(x)[i], got[i], facts)
