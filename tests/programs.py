"""Random programs: a few numbers, then steps that combine earlier results by every operation there is.

A step is an expression in a, b, c, d and four indices into the results so far, counted from the newest and taken
modulo their number: so every draw is a valid program, and leaving out a step leaves one. Each expression keeps its
operations inside their domains (`log(1 + a * a)`) and maps numbers of size 4 at most to such numbers.

    program(*numbers)       the last result, for numbers of any kind: floats, Values, Fractions, mpmath numbers ...
    program.run(numbers)    all results, the numbers themselves first
    program.graph()         the same on fresh Values
    print(program)          the program as Python that can be pasted into a session
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce
from typing import Any

from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, topological_order

RATIONAL_SMOOTH = [
    *("(a + b) / 2", "(a + 1) / 2", "(1 + a) / 2", "(a - b) / 2", "1 - a / 2", "a / 2 - 1", "-a"),
    *("a * b / 4", "a * a / 4", "2 * a / 4", "a / (1 + b * b)", "1 / (1 + a * a)"),
    *("a**2 / 4", "a**3 / 16", "(1 + a * a) ** -2", "sum(a, b, c) / 3", "dot([a, b], [c, d]) / 8"),
]
RATIONAL_KINKED = ["abs(a)", "relu(a)", "max(a, b)", "max(a, b, c)", "min(a, b)", "where(relu(a), b, c)"]
SMOOTH = [
    *("(0.5 + sigmoid(a)) ** (b / 2)", "2 ** (a / 2)", "(1 + a * a / 2) ** 0.5", "sqrt(1 + a * a / 2)"),
    *("exp(tanh(a))", "expm1(tanh(a))", "log(1 + a * a)", "log1p(a * a)"),
    *("sin(a)", "cos(a)", "tan(sin(a))", "asin(tanh(a) * 0.5)", "acos(sin(a) * 0.75)", "atan(a)"),
    *("sinh(sin(a))", "cosh(sin(a))", "tanh(a)", "erf(a)", "erfc(a)", "logsumexp(a, b) / 2"),
    *("sigmoid(a)", "softplus(a - 1)", "gelu(a)", "silu(a)", "logsumexp(a, b, c) / 2"),
]
KINKED = ["leaky_relu(a)", "leaky_relu(a, alpha=0.25)", "elu(a)", "elu(a, alpha=0.5)", "where(a > b, a, c)"]
RATIONAL = RATIONAL_SMOOTH + RATIONAL_KINKED
ALL_SMOOTH = RATIONAL_SMOOTH + SMOOTH
EVERY = ALL_SMOOTH + RATIONAL_KINKED + KINKED

_CODE = {expression: compile(expression, expression, "eval") for expression in EVERY}
_NAMES = {name: getattr(tg, name) for name in tg.__all__ if callable(getattr(tg, name))}

Step = tuple[str, tuple[int, int, int, int]]


@dataclass(frozen=True, repr=False)
class Program:
    inputs: tuple[Any, ...]
    steps: tuple[Step, ...]

    def run(self, numbers: Any, replaced: int | None = None, by: Callable[[Any], Any] = lambda x: x) -> list[Any]:
        """All results. With `replaced`, result number `replaced` goes through the function `by` first."""
        results = list(numbers)
        for expression, indices in self.steps:
            operands = {name: results[-1 - i % len(results)] for name, i in zip("abcd", indices, strict=True)}
            results.append(eval(_CODE[expression], _NAMES, operands))
            if len(results) - 1 == replaced:
                results[replaced] = by(results[replaced])
        return results

    def __call__(self, *numbers: Any) -> Any:
        return self.run(numbers)[-1]

    def graph(self, kind: Callable[[Any], Any] = lambda x: x) -> list[Value]:
        """All results on fresh Values of kind(input)."""
        return self.run([Value(kind(x)) for x in self.inputs])

    def __repr__(self) -> str:
        """The program as Python: one line per step, then backward()."""
        lines = ["", "from fractions import Fraction", "from tinygrad_edu import *"]
        lines += [f"x{i} = Value({x!r})" for i, x in enumerate(self.inputs)]
        for n, (expression, indices) in enumerate(self.steps, start=len(self.inputs)):
            name = {letter: f"x{n - 1 - i % n}" for letter, i in zip("abcd", indices, strict=True)}
            lines.append(f"x{n} = " + re.sub(r"\b[abcd]\b", lambda m, name=name: name[m[0]], expression))
        return "\n".join([*lines, f"x{len(self.inputs) + len(self.steps) - 1}.backward()", ""])


def programs(
    expressions: list[str] = EVERY, max_inputs: int = 4, max_steps: int = 20
) -> st.SearchStrategy[Program]:
    """Programs on floats."""
    return _programs(st.floats(-4, 4, allow_subnormal=False), expressions, max_inputs, max_steps)


def rational_programs(max_inputs: int = 3, max_steps: int = 8) -> st.SearchStrategy[Program]:
    """Programs on Fractions, of operations that keep them exact."""
    return _programs(st.fractions(-4, 4, max_denominator=8), RATIONAL, max_inputs, max_steps)


def _programs(numbers: Any, expressions: list[str], max_inputs: int, max_steps: int) -> st.SearchStrategy[Program]:
    recent, any_index = st.integers(0, 2), st.integers(0, 11)  # few steps lead nowhere if `a` is a recent result
    step = st.tuples(st.sampled_from(expressions), st.tuples(recent, any_index, any_index, any_index))
    short = st.lists(step, min_size=1, max_size=max_steps)
    long = st.lists(step, min_size=max_steps // 2, max_size=max_steps)
    inputs = st.lists(numbers, min_size=1, max_size=max_inputs)
    return st.builds(Program, inputs.map(tuple), (short | long).map(tuple))


# --- How near two derivatives must be -----------------------------------------------------------------------


def absolute_adjoints(root: Value) -> dict[Value, float]:
    """One more backward sweep, with abs(slope) and seed 1: no rounding of the gradients can be far above 1e-16
    of this, however much the shares cancel."""
    adjoints = dict.fromkeys(topological_order(root), 0.0)
    adjoints[root] = 1.0
    for node in reversed(adjoints):
        if node.rule:
            slopes = node.rule.backward(1.0, node.data, *[p.data for p in node.parents])
            for parent, slope in zip(node.parents, slopes, strict=True):
                adjoints[parent] += adjoints[node] * abs(float(slope))
    return adjoints


def assert_near(got: Any, exact: Any, absolute_adjoint: float) -> None:
    error = abs(got - exact)
    bound = 1e-12 * absolute_adjoint + 1e-12
    assert error <= bound, f"{got!r} is {float(error):.3g} from {exact!r}; allowed are {bound:.3g}."


def decisions(root: Value) -> list[Any]:
    """On which side of every kink the program was, so that two runs of different precision can be compared."""
    took = []
    for node in topological_order(root):
        if node.rule and (node.rule.kinks or node.rule.name == "where"):
            took.append((node.parents[0].data > 0) - (node.parents[0].data < 0))
        elif node.rule and node.rule.ties:
            took.append([parent.data == node.data for parent in node.parents])
    return took


# --- The slowest oracle that can be right -------------------------------------------------------------------

SLOPES: dict[str, Callable[..., tuple[Any, ...]]] = {  # of the rational operations, by hand
    "add": lambda out, x, y: (1, 1),
    "sub": lambda out, x, y: (1, -1),
    "mul": lambda out, x, y: (y, x),
    "div": lambda out, x, y: (1 / y, -x / y**2),
    "neg": lambda out, x: (-1,),
    "abs": lambda out, x: ((x > 0) - (x < 0),),
    "relu": lambda out, x: (int(x > 0),),
    "sum": lambda out, *xs: (1,) * len(xs),
    "dot": lambda out, x1, x2, y1, y2: (y1, y2, x1, x2),
    "max": lambda out, *xs: tuple(Fraction(x == out, xs.count(out)) for x in xs),
    "min": lambda out, *xs: tuple(Fraction(x == out, xs.count(out)) for x in xs),
    "where": lambda out, condition, x, y: (0, int(condition != 0), int(condition == 0)),
}


def path_sum(root: Value, leaf: Value) -> Any:
    """d(root)/d(leaf): over every path from one to the other, the product of the slopes on it."""
    if root is leaf:
        return Fraction(1)
    if root.rule is None:
        return Fraction(0)
    inputs = [parent.data for parent in root.parents]
    if root.rule.name == "pow_n":
        n = root.rule.parameters["exponent"]
        slopes: tuple[Any, ...] = (n * inputs[0] ** (n - 1),)
    else:
        slopes = SLOPES[root.rule.name](root.data, *inputs)
    shares = [s * path_sum(p, leaf) for s, p in zip(slopes, root.parents, strict=True) if s]
    return reduce(operator.add, shares, Fraction(0))
