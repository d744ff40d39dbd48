"""A function of named numbers, run on fresh Values: its result, its graph, and the path it took."""

import inspect
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..engine.calculus import _flat, _shaped
from ..engine.graph import topological_order
from ..engine.rule import Rule
from ..engine.scalar import as_real
from ..engine.value import Value


class Sample(NamedTuple):
    """One run of f: its leaves, its result, and the path: the rules in order, each with its side of a kink."""

    leaves: list[Value]
    out: Value
    path: list[Any]


Along = Callable[[Any], Sample | None]  # f of one input; None where f is not defined or not finite


class Sampled:
    """f of a row of named numbers, called on fresh Values of float(x), mpf(x) ..."""

    def __init__(self, f: Callable[..., Any], inputs: Any, names: list[str]):
        self.f, self.inputs, self.names = f, inputs, names
        self.numbers = [_number(x, name) for x, name in zip(_flat(inputs), names, strict=True)]

    def sample(self, numbers: list[Any]) -> Sample:
        """f of these numbers. Raises TypeError unless f returns one number."""
        leaves = [Value(x, label=name) for x, name in zip(numbers, self.names, strict=True)]
        result = self.f(*_shaped(self.inputs, iter(leaves)))
        if isinstance(result, list | tuple):
            raise TypeError(
                f"f must return one number, got a {type(result).__name__}: check its parts one by one."
            )
        try:
            out = result if isinstance(result, Value) else Value(result)
        except TypeError as error:
            raise TypeError(f"f must return one number. {error}") from None
        places = {leaf: i for i, leaf in enumerate(leaves)}
        path = [
            (node.rule.name, side_of(node)) if node.rule else places.get(node) for node in topological_order(out)
        ]
        return Sample(leaves, out, path)

    def along(self, i: int, numbers: list[Any]) -> Along:
        """f as a function of input i alone, the others being those of `numbers`."""

        def at(x: Any) -> Sample | None:
            try:
                there = self.sample([*numbers[:i], x, *numbers[i + 1 :]])
            except (ValueError, ArithmeticError):
                return None
            return there if math.isfinite(x) and math.isfinite(there.out.data) else None

        return at


def _number(x: Any, name: str) -> float:
    try:
        number = float(as_real(x.data if isinstance(x, Value) else x))
    except TypeError as error:
        raise TypeError(f"Input {name} of gradcheck is no number. {error}") from None
    if not math.isfinite(number):
        raise ValueError(
            f"Input {name} of gradcheck is {number}: a gradient can be checked at finite numbers only."
        )
    return number


def names_of(f: Callable[..., Any], inputs: tuple[Any, ...]) -> list[str]:
    """The names of the inputs: their labels, or else what the signature of f says: x, w[0], w[1][2]."""
    try:
        arguments = inspect.signature(f.forward if isinstance(f, Rule) else f).bind(*inputs).arguments
    except (TypeError, ValueError):  # no signature; or the wrong number of inputs, which f itself will say
        arguments = {f"input {i}": x for i, x in enumerate(inputs)}

    def walk(name: str, x: Any) -> Iterator[str]:
        if isinstance(x, list | tuple) or getattr(x, "ndim", 0) > 0:
            for i, part in enumerate(x):
                yield from walk(f"{name}[{i}]", part)
        else:
            yield getattr(x, "label", "") or name

    return [name for argument, x in arguments.items() for name in walk(argument, x)]


def side_of(node: Value) -> Any:
    """The side of its kinks on which an interior node was computed."""
    numbers = [p.data for p in node.parents]
    if node.rule.name == "where":
        return bool(numbers[0])
    if node.rule.ties:
        return [x == node.data for x in numbers]
    return [(x > kink) - (x < kink) for kink in node.rule.kinks for x in numbers]


def kink_between(here: Sample, beside: list[Sample]) -> str:
    """Where the paths of the runs beside x leave the path at x; "" if they do not."""
    paths = [run.path for run in beside]
    for node, way, *others in zip(topological_order(here.out), here.path, *paths, strict=False):
        if any(other != way for other in others):
            same_rule = node.rule and all(other and other[0] == way[0] for other in others)
            return f"beside {shown(node)}" if same_rule else "where f branches"
    return "where f branches" if any(len(path) != len(here.path) for path in paths) else ""


def shown(node: Value) -> str:
    """A node as the call that made it, with its operands: mul(x=2, 0.5)."""
    numbers = [(p.label, float(p.data)) for p in node.parents]
    operands = [f"{label}={x:.4g}" if label else f"{x:.4g}" for label, x in numbers]
    return (
        f"{node.rule.name}({', '.join(operands if len(operands) < 7 else [*operands[:5], '...', operands[-1]])})"
    )
