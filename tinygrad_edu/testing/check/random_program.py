"""Random programs: a few numbers, then steps that combine earlier results by every operation there is.

A step is an expression in a, b, c, d and four indices into the results so far, counted from the newest and taken
modulo their number: so every draw is a valid program, also without one of its steps. Each expression keeps its
operations inside their domains (`log(1 + a * a)`) and maps numbers of size 4 at most to such numbers.

    program(*numbers)       the last result, for numbers of any kind: floats, Values, Fractions, mpmath numbers ...
    program.run(numbers)    all results, the numbers themselves first
    program.graph()         the same on fresh Values
    print(program)          the program as Python that can be pasted into a session

`TEMPLATES` has the expressions for every rule of ours: those of its `template`, or a call made by `expressions`.
"""

import builtins
import functools
import keyword
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

from ...engine import functions
from ...engine.graph import topological_order
from ...engine.parsing import ParsedExpression
from ...engine.rule import RULES, Interval, Rule
from ...engine.value import Value

Step = tuple[str, tuple[int, int, int, int]]

_LETTERS = "abcd"
_FUNCTIONS: dict[str, Any] = {"abs": abs, "Fraction": Fraction}
_FUNCTIONS |= {name: getattr(functions, name) for name in functions.__all__ if not hasattr(builtins, name)}


@dataclass(frozen=True)
class Program:
    """A few numbers, and steps that compute: `Program((0.5,), (("a * b / 4", (0, 0, 0, 0)),))` squares 0.5.

    A step (expression, indices) binds a, b, c, d to earlier results, index 0 being the newest, and appends the
    value of the expression. Two equal indices repeat an operand, and one result used by two steps is shared.

    >>> program = Program((0.5,), (("a * b / 4", (0, 0, 0, 0)), ("log(1 + a * a)", (0, 0, 0, 0))))
    >>> print(program)
    <BLANKLINE>
    from tinygrad_edu import *
    x0 = Value(0.5)
    x1 = x0 * x0 / 4
    x2 = log(1 + x1 * x1)
    x2.backward()
    <BLANKLINE>
    """

    inputs: tuple[Any, ...]
    steps: tuple[Step, ...]

    def run(self, numbers: Iterable[Any], scope: dict[str, Any] | None = None) -> list[Any]:
        """All results. The expressions call the functions of `scope`, if it is given, in place of ours."""
        results = list(numbers)
        for expression, indices in self.steps:
            results.append(_evaluate(expression, [results[-1 - i % len(results)] for i in indices], scope))
        return results

    def __call__(self, *numbers: Any) -> Any:
        return self.run(numbers)[-1]

    def graph(self, kind: Callable[[Any], Any] = lambda x: x) -> list[Value]:
        """All results on fresh Values of kind(input), the last of them the root: `graph(mpmath.mpf)[-1]`."""
        return self.run([Value(kind(x)) for x in self.inputs])

    def __repr__(self) -> str:
        """The program as Python: one line per step, then backward()."""
        used = dict.fromkeys(name for expression, _ in self.steps for name in _called(expression))
        lines = ["", *_imports([*map(repr, self.inputs), *used]), "from tinygrad_edu import *"]
        lines += [f'{name} = RULES["{name}"]' for name in used if name not in _FUNCTIONS]
        lines += [f"x{i} = Value({x!r})" for i, x in enumerate(self.inputs)]
        lines += self.assignments([f"x{i}" for i in range(len(self.inputs) + len(self.steps))])
        return "\n".join([*lines, f"x{len(self.inputs) + len(self.steps) - 1}.backward()", ""])

    def assignments(self, names: Sequence[str]) -> list[str]:
        """One line of Python for each step, with these names for the inputs and the results: "x2 = x0 * x1"."""
        lines = []
        for n, (expression, indices) in enumerate(self.steps, start=len(self.inputs)):
            operand = {letter: names[n - 1 - i % n] for letter, i in zip(_LETTERS, indices, strict=True)}
            text = re.sub(r"\b[abcd]\b", lambda m, operand=operand: operand[m[0]], expression)  # type: ignore[misc]  # a default in a lambda
            lines.append(f"{names[n]} = {text}")
        return lines

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """The same for Hypothesis and IPython, which would print a dataclass by its fields."""
        printer.text(repr(self))


def _imports(texts: list[str]) -> list[str]:
    sources = {"Fraction": "fractions", "mpf": "mpmath"}
    return [f"from {m} import {name}" for name, m in sources.items() if any(t.startswith(name) for t in texts)]


@functools.cache
def _parsed(expression: str) -> ParsedExpression:
    """Raises ValueError if the text is no expression."""
    try:
        return ParsedExpression(expression)
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"{expression!r} is not a Python expression: {getattr(error, 'msg', error)}.") from None


@functools.cache
def _called(expression: str) -> tuple[str, ...]:
    """The names of the operations in an expression."""
    return tuple(name for name in _parsed(expression).names if name not in _LETTERS)


def _evaluate(expression: str, operands: list[Any], functions: dict[str, Any] | None = None) -> Any:
    names = dict(zip(_LETTERS, operands, strict=True))
    if functions is None:
        functions = _FUNCTIONS
        names.update((name, RULES[name]) for name in _called(expression) if name not in _FUNCTIONS)
    return _parsed(expression).value(functions, names)


# --- Which expressions stand for which rules ------------------------------------------------------------------


def expressions(rules: Iterable[Rule | str] | None = None, *, exact: bool = False) -> dict[str, int]:
    """The expressions for some rules, each with the number of nodes it adds to a graph, cheapest first.

    A rule, or its name, stands for the expressions of its `template`; without one, for a call with inputs in the
    middle of its declared domain, as in "f(1 + a / 5)"; an expression in a, b, c, d for itself. Of the last
    two, one that leaves [-4, 4] is squashed: "atan(f(a))". None stands for all rules of ours, and exact=True for
    those expressions alone that give Fractions for Fractions.

    Raises TypeError for what is no rule and no text. Raises ValueError if there is no such rule, if it has a
    `check` and no template, or if an expression has other names, fails or is not exact.
    """
    if isinstance(rules, str | Rule):
        raise TypeError(
            f"rules is a list of rules, names or expressions: write ["
            f"{rules if isinstance(rules, Rule) else repr(rules)}]."
        )
    chosen: dict[str, int] = {}
    for rule in TEMPLATES if rules is None else rules:
        costs = _costs(_expressions(rule), exact)
        if not costs and rules is not None:
            raise ValueError(f"{rule} does not keep Fractions exact: leave it out, or take kind=float.")
        chosen |= costs
    if not chosen:
        raise ValueError("rules is empty: give one rule or more, or None for all of them.")
    return dict(sorted(chosen.items(), key=lambda item: item[1]))


def _costs(texts: Iterable[str], exact: bool) -> dict[str, int]:
    """The number of nodes of each expression that can be used. One that leaves [-4, 4] is squashed first."""
    costs = {}
    for text in texts:
        facts = _measure(text, exact)
        if facts.size > 4.000001:
            text = f"({text}) / (1 + ({text}) ** 2)" if exact else f"atan({text})"
            facts = _measure(text, exact)
        if facts.exact or not exact:
            costs[text] = facts.cost
    return costs


def _expressions(rule: Rule | str) -> tuple[str, ...]:
    """The template of a registered rule, or else a call inside of its domain, "f(1 + a / 5)"; a text itself."""
    if isinstance(rule, str) and rule not in RULES:
        if rule.isidentifier():
            raise ValueError(f"There is no rule {rule!r}; an expression such as 'log(1 + a * a)' will do as well.")
        return (rule.strip(),)
    rule = RULES[rule] if isinstance(rule, str) else rule
    if not isinstance(rule, Rule):
        raise TypeError(f"rules holds rules, their names or expressions, got {rule!r} ({type(rule).__name__}).")
    name = rule.name
    if RULES.get(name) is not rule:
        raise ValueError(
            f"{rule} is not RULES[{name!r}]: declare it by `rule`, or pass an expression that calls it, "
            "with its parameters, such as 'leaky_relu(a, alpha=0.2)'."
        )
    if rule.template:
        return tuple(rule.template.split("; "))
    if rule.check:
        raise ValueError(
            f"{name} has a `check`, which does not tell where it is defined: give the rule a template that stays "
            f'inside its domain, such as "{name}(1 + a * a)".'
        )
    taken = (name in _FUNCTIONS and not rule.ours) or re.fullmatch(r"[abcd]|x\d+", name)
    if taken or keyword.iskeyword(name) or not name.isidentifier():
        raise ValueError(f"A program cannot call a rule by the name {name!r}: give it another one.")
    letters = [_LETTERS[i % 4] for i in range(rule.n_inputs or 3)]
    return (f"{name}({', '.join(map(_inside, letters, [*rule.domain, *[Interval()] * len(letters)]))})",)


def _inside(letter: str, interval: Interval) -> str:
    """An expression that maps [-4, 4] to the middle of the interval, or of the 5 next to its only end."""
    if math.isinf(interval.low) and math.isinf(interval.high):
        return letter
    low = Fraction(interval.high - 5 if math.isinf(interval.low) else interval.low)
    high = low + 5 if math.isinf(interval.high) else Fraction(interval.high)
    return f"{_literal((low + high) / 2)} + {letter} / {_literal(10 / (high - low))}"


def _literal(x: Fraction) -> str:
    return repr(x) if x.denominator > 1 else str(x)


TEMPLATES = {name: _expressions(rule) for name, rule in RULES.items() if rule.ours}
SMOOTH = tuple(
    name for name in TEMPLATES if not (RULES[name].kinks or RULES[name].ties or name == "where")
)  # the rules whose templates have derivatives of every order everywhere


# --- What an expression costs, and whether it can be used -----------------------------------------------------


class _Facts(NamedTuple):
    cost: int  # how many nodes it adds to a graph
    size: float  # the largest result
    exact: bool  # does it give Fractions for Fractions?


_GRID = [Fraction(i, 2) for i in range(-8, 9)]
_POINTS = [[_GRID[(i * step) % 17] for step in (1, 3, 5, 7)] for i in range(17)]  # 17 is prime: each is a shuffle


def _measure(expression: str, exact: bool) -> _Facts:
    """Runs the expression on Values all over [-4, 4]. Raises ValueError where it fails."""
    called = _called(expression)
    for name in called:
        if name not in _FUNCTIONS and name not in RULES:
            raise ValueError(f"{expression!r} has the name {name!r}: use a, b, c, d and the names of rules.")
    return _measured(expression, exact, *map(RULES.get, called))  # a user may declare a rule anew


@functools.cache
def _measured(expression: str, exact: bool, *called: Rule | None) -> _Facts:
    cost, size, keeps = 0, 0.0, True
    for point in _POINTS:
        operands = [Value(x if exact else float(x)) for x in point]
        where = f"at a, b, c, d = {', '.join(f'{float(x):g}' for x in point)}"
        try:
            result = _evaluate(expression, operands)
        except Exception as error:
            raise ValueError(
                f"{expression!r} must be defined for numbers from -4 to 4, but {where}: {error}"
            ) from error
        if not isinstance(result, Value) or result.rule is None:
            raise ValueError(f"{expression!r} must compute one Value from a, b, c or d, got {result!r}.")
        if not math.isfinite(result.data):
            raise ValueError(
                f"{expression!r} is {float(result.data)} {where}: keep it finite, as in 'exp(tanh(a))'."
            )
        added = set(topological_order(result)).difference(operands)
        cost, size = max(cost, len(added)), max(size, abs(float(result.data)))
        keeps = keeps and all(isinstance(node.data, Fraction) for node in added)
    return _Facts(cost, size, keeps)
