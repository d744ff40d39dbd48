"""Other ways to the same derivatives, each simple enough to be believed, and how near two of them must be.

    dual(f, *inputs)           forward mode: every number carries its slope along. Reads the rules' own slopes,
                               so it proves the sweep, not the rules; on Fractions it is exact
    mathematical(f, *inputs)   differences of f at 50 digits, every operation being mpmath's own
    complex_step(f, *inputs)   the imaginary part of f(x + ih): for programs without kinks
    path_sum(root, leaf)       over every path from leaf to root, the product of the slopes on it

f is called with numbers that know our operations, like a Value. The first three return f's gradient, a list with
one slope per input; each computes it by itself, and none uses `backward`.
"""

import functools
import math
import operator
from collections.abc import Callable
from fractions import Fraction
from numbers import Rational
from typing import Any

import mpmath as mp

from ...engine.graph import topological_order
from ...engine.operators import Operators
from ...engine.rule import Rule
from ...engine.rules import RULES
from ...engine.value import Value
from .mathematics import reference_of
from .reference import DIGITS, high
from .slopes import side_of

__tracebackhide__ = True  # pytest shows the user's line, not ours

Function = Callable[..., Any]


class RuleNumber(Operators):
    """A number whose operations are the rules: `combine(rule, inputs)` makes one. Comparisons look at `data`."""

    combine: Callable[[Rule, tuple[Any, ...]], Any]  # of each kind

    def __init__(self, data: Any):
        self.data = data

    def _record(self, rule: Rule, inputs: tuple[Any, ...]) -> Any:
        return self.combine(rule, tuple(x if isinstance(x, RuleNumber) else type(self)(x) for x in inputs))

    def __getattr__(self, name: str) -> Any:
        if name not in RULES:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}.")
        return functools.partial(RULES[name], self)

    def _operate(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        if name not in RULES:
            return bool(getattr(operator, name)(*map(_data, inputs)))
        return RULES[name](*inputs, **parameters)


def _data(x: Any) -> Any:
    return x.data if isinstance(x, RuleNumber) else x


class Dual(RuleNumber):
    """A number and its slope, which every operation moves along by the slopes of its rule."""

    def __init__(self, data: Any, slope: Any = 0):
        super().__init__(data)
        self.slope = slope

    @staticmethod
    def combine(rule: Rule, inputs: tuple[Any, ...]) -> Any:
        data = [x.data for x in inputs]
        out = rule.evaluate(data, data)
        slopes = rule.shares(type(out)(1), out, *data)
        return Dual(out, sum(map(operator.mul, slopes, (x.slope for x in inputs))))


class Mathematical(RuleNumber):
    """A number at high precision, on which every operation is the mathematical function of its reference."""

    @staticmethod
    def combine(rule: Rule, inputs: tuple[Any, ...]) -> Any:
        return Mathematical(reference_of(rule).f(*(high(x.data) for x in inputs)))


def dual(f: Function, *inputs: Any) -> list[Any]:
    """f's gradient by forward mode, one walk per input.

    >>> dual(lambda x, y: x * x * y, 3.0, 2.0)
    [12.0, 9.0]
    """
    n = range(len(inputs))
    results = [f(*(Dual(x, type(x)(i == j)) for j, x in enumerate(inputs))) for i in n]
    return [result.slope if isinstance(result, Dual) else 0 for result in results]


def mathematical(f: Function, *inputs: Any, digits: int = DIGITS) -> list[Any]:
    """f's gradient to 50 digits: differences of f, computed with mpmath's own functions instead of our rules.

    >>> mp.nstr(mathematical(lambda x: x.tanh(), 20.0)[0], 20)
    '1.6993417021166355837e-17'
    """
    with mp.workdps(digits):
        point = tuple(map(high, inputs))
        n = range(len(inputs))

        def g(*numbers: Any) -> Any:
            return _data(f(*map(Mathematical, numbers)))

        return [mp.diff(g, point, tuple(int(i == j) for j in n)) for i in n]


def complex_step(f: Function, *inputs: Any, digits: int = DIGITS) -> list[Any]:
    """f's gradient as Im f(x + ih) / h with h = 10^-digits: no difference is taken, so no digit is lost.

    The error is of order h^2. For analytic f only: kinks, comparisons and choices have no meaning off the real
    line and raise TypeError. (Squire and Trapp, SIAM Review 40, 1998.)

    >>> mp.nstr(complex_step(lambda x: x**3, 2.0)[0], 5)
    '12.0'
    """
    with mp.workdps(2 * digits):
        h, n = mp.mpf(10) ** -digits, range(len(inputs))
        moved = [[mp.mpc(x, h if i == j else 0) for j, x in enumerate(map(high, inputs))] for i in n]
        return [mp.im(_data(f(*map(Mathematical, numbers)))) / h for numbers in moved]


def path_sum(root: Value, leaf: Value) -> Any:
    """d(root)/d(leaf) by the definition: the sum over every path between the two of the product of its slopes.

    The slopes are the mathematical ones, exact on Fractions for rational operations. Takes exponential time.

    >>> x = Value(Fraction(1, 3))
    >>> path_sum(x * x + x, x)
    Fraction(5, 3)
    """
    if root is leaf:
        return Fraction(1)
    if root.rule is None:
        return Fraction(0)
    reference, data = reference_of(root.rule), tuple(parent.data for parent in root.parents)
    exact = reference.slopes if all(isinstance(x, Rational) for x in data) else None
    slopes = exact(*data) if exact else reference.exact_slopes(data)
    beyond = [path_sum(parent, leaf) for parent in root.parents]
    return sum(_alike(*(math.prod(_alike(*pair)) for pair in zip(slopes, beyond, strict=True))))


def _alike(*numbers: Any) -> list[Any]:
    """Numbers that can be combined: all rational, or all of high precision."""
    return list(numbers if all(isinstance(x, Rational) for x in numbers) else map(high, numbers))


def assert_near(got: Any, exact: Any, size: float, tolerance: float = 1e-12) -> None:
    """got is within tolerance of exact, relative to `size`, its absolute adjoint. Raises AssertionError."""
    bound = tolerance * size + tolerance
    error = abs(got - exact)
    if not (error <= bound or got == exact):
        raise AssertionError(f"{got!r} is {float(error):.3g} from {exact!r}; allowed are {bound:.3g}.")


def decisions(root: Value) -> list[Any]:
    """On which side of every kink the graph is, so that two runs of different precision can be compared."""
    return [side_of(node) for node in topological_order(root) if node.rule]
