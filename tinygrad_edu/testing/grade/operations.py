"""What an engine is asked to compute: every operation, the ways to write it, the numbers at which it is tried."""

import functools
from collections.abc import Iterable, Sequence
from typing import Any

from ...engine.graph import topological_order
from ...engine.value import Value
from ...viz.words import four_digits
from ..check.random_program import Program

Point = tuple[float, ...]

BINARY = {"a + b": "add", "a - b": "sub", "a * b": "mul", "a / b": "div"}
REFLECTED = ("3 + a", "3 - a", "3 * a", "3 / a")
EXPECTED = (*BINARY, "-a", "a + 3", "a - 3", "a * 3", "a / 4", *REFLECTED, "a ** 2", "a ** 3")
OTHERS = ("a ** -1", "a ** 0.5", "a ** b", "2 ** a", "abs(a)")
FUNCTIONS = "exp log tanh relu sigmoid sin cos tan sqrt sinh cosh atan softplus silu".split()
ALIASES = {"log": "ln", "relu": "ReLU", "sigmoid": "logistic", "atan": "arctan"}
POSITIVE = ("a ** 0.5", "log(a)", "sqrt(a)")
TEXTS = (*EXPECTED, *OTHERS, *(f"{name}(a)" for name in FUNCTIONS))

NEGATED, INVERSE = ("-a", "b"), ("a ** -1", "b")
# How an engine may make one operation of others. An operand of a step is a letter, a number, or the result of the
# step before ("_").
MADE_OF: dict[str, list[list[tuple[Any, ...]]]] = {
    "-a": [[("a * b", "a", -1.0)], [("a - b", 0.0, "a")]],
    "a - b": [[NEGATED, ("a + b", "a", "_")], [("a * b", "b", -1.0), ("a + b", "a", "_")]],
    "a / b": [[INVERSE, ("a * b", "a", "_")]],
}


def spellings(text: str) -> list[str]:
    """The ways in which an engine may write an operation: "a + b", "add(a, b)", "a.add(b)"."""
    name = text.partition("(")[0]
    if name in FUNCTIONS:
        return [s for n in (name, ALIASES.get(name, name)) for s in (f"a.{n}()", f"{n}(a)")]
    if text.startswith("a **"):
        return [text, *(f"{f}(a, {text[5:]})" for f in ("pow", "power")), f"a.pow({text[5:]})"]
    name = BINARY.get(text, "")
    return [text, f"{name}(a, b)", f"a.{name}(b)"] if name else [text, *["neg(a)", "a.neg()"] * (text == "-a")]


def points(text: str) -> list[Point]:
    """Where an operation is tried: ordinary operands first, then small and large ones, near kinks."""
    if text == "a ** b":
        return [(2.0, 3.0), (0.5, 1.5), (1.25, -0.5), (4.0, 0.5), (0.1, 2.0), (3.0, 6.0)]
    if text.endswith(" b"):
        pairs = [(2.0, 3.0), (-1.5, 0.5), (0.75, -2.5), (30.0, -0.25), (-0.01, 40.0), (-3.0, -7.0)]
        return [*pairs, (0.002, 0.001), (0.5, 1e14), *[(0.0, 2.0)] * (text != "a / b")]
    if text in POSITIVE:
        return [(x,) for x in (2.0, 0.5, 1.25, 0.01, 0.1, 3.5, 6.0, 30.0)]
    sizes = (0.001, 0.1, 0.3, 1.0, 3.5, 6.0, 12.0, 30.0)
    return [(2.0,), (-1.5,), (0.75,), *((sign * x,) for x in sizes for sign in (1.0, -1.0))]


def base_of(text: str) -> str:
    """The operation between two nodes of which this is the same with a number: "a - b" for "3 - a"."""
    if "**" in text:
        return "a ** 2" if text.startswith("a") else text
    symbol = f" {text} ".split(" ")[2]
    return next((binary for binary in BINARY if binary[2] == symbol), text)


def program_of(inputs: Iterable[float], *steps: tuple[str, Iterable[int]]) -> Program:
    """A program whose steps name their operands by place: the inputs first, then the results."""
    inputs = tuple(inputs)
    ends = enumerate(steps, start=len(inputs) - 1)
    return Program(inputs, tuple((text, (*(n - i for i in places), 0, 0, 0)[:4]) for n, (text, places) in ends))  # type: ignore[misc]  # four indices


def alone(text: str, point: Point) -> Program:
    """The program of one operation between leaves."""
    return program_of(point, (text, range(len(point))))


def solved(program: Program) -> list[Value]:
    """Our results with their gradients, labelled a, b, c ..."""
    results = program.graph()
    for node, name in zip(results, names_of(program), strict=True):
        node.label = name
    for node in topological_order(results[-1]):
        node.label = node.label or four_digits(node.data)  # the numbers in the expressions
    results[-1].backward()
    return results


def slopes_of(program: Program) -> Point:
    """Our gradients of the inputs."""
    return tuple(float(x.grad) for x in solved(program)[: len(program.inputs)])


def names_of(program: Program) -> list[str]:
    """What the results are called: a, b, c ..."""
    return [chr(97 + i) if i < 26 else f"x{i}" for i in range(len(program.inputs) + len(program.steps))]


def near(x: float, y: float, size: float = 1.0) -> bool:
    """Are they equal but for rounding in single precision, or for differences of small steps?"""
    return abs(x - y) <= 1e-4 * max(size, abs(y)) or x == y or (x != x and y != y)


def listed(operations: Sequence[str], most: int = 10) -> str:
    """The operations, briefly: "a+b, tanh(a) and 12 more"."""
    shown = [text if " or " in text else text.replace(" ", "") for text in operations]
    return ", ".join(shown[:most]) + f" and {len(shown) - most} more" * (len(shown) > most)


def ordinary(inputs: Sequence[float], steps: Sequence[Any]) -> Program:
    """The program of those steps whose numbers are of ordinary size and not next to a kink."""
    program = Program(tuple(inputs), ())
    for text, indices in steps:
        longer = Program(program.inputs, (*program.steps, (text, tuple(indices))))
        try:
            if all(1e-2 < abs(x.data) < 20 and abs(x.grad) < 1e3 for x in solved(longer)):
                program = longer
        except (ValueError, ArithmeticError, TypeError):
            continue
    return program


def operands_of(text: str, letters: list[Any]) -> list[Any]:
    """The operands of an operation, its numbers among them: [3.0, a] for "3 - a", [a, 2.0] for "a ** 2"."""
    left, symbol, right = f" {text} ".split(" ")[1:4] if text.count(" ") == 2 else ("", "", "")
    if symbol and right not in ("a", "b"):
        return [letters[0], float(right)]
    return [float(left), *letters] if symbol and symbol != "**" and left not in ("a", "b") else letters


@functools.cache
def computed(base: str, x: tuple[float, ...]) -> tuple[float, tuple[float, ...]]:
    """The result of an operation between nodes, and its slopes."""
    if base == "a ** 2":  # the exponent may be negative or no whole number, where only a number will do
        (slope,), power = slopes_of(alone(f"a ** {x[1]!r}", x[:1])), alone(f"a ** {x[1]!r}", x[:1])
        second = slopes_of(alone("a ** b", x))[1] if x[0] > 0 else 0.0
        return float(solved(power)[-1].data), (slope, second)
    program = alone(base, x)
    return float(solved(program)[-1].data), slopes_of(program)
