"""A function of named numbers, run on fresh Values: its value, what rounding may do to it, and the way it took."""

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..engine.calculus import _flat, _shaped
from ..engine.graph import topological_order
from ..engine.rule import Rule
from ..engine.scalar import as_real
from ..engine.value import Value

EPS = sys.float_info.epsilon
TINY = sys.float_info.min / EPS  # eps of it is the least number with all its digits


class Sample(NamedTuple):
    """One run of f: its value, what rounding may do to it, the way it took, and its graph."""

    value: float
    noise: float
    path: list[Any]
    leaves: list[Value]
    out: Value
    sizes: dict[Value, float]


Along = Callable[[float], Sample | None]  # f of one input; None where it is not defined or not finite


class Sampled:
    """f of a row of named numbers, called on fresh Values."""

    def __init__(self, f: Callable[..., Any], inputs: Any, names: list[str]):
        self.f, self.inputs, self.names = f, inputs, names
        self.numbers = [_number(x, name) for x, name in zip(_flat(inputs), names, strict=True)]

    def sample(self, numbers: list[float]) -> Sample:
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
        order = topological_order(out)
        noise, sizes = _rounding(order)
        places = {leaf: i for i, leaf in enumerate(leaves)}
        path = [(node.rule.name, side_of(node)) if node.rule else places.get(node) for node in order]
        return Sample(float(out.data), noise, path, leaves, out, sizes)

    def along(self, i: int) -> Along:
        """f as a function of input i alone."""

        def at(x: float) -> Sample | None:
            try:
                there = self.sample([*self.numbers[:i], x, *self.numbers[i + 1 :]])
            except (ValueError, ArithmeticError):
                return None
            return there if math.isfinite(x) and math.isfinite(there.value) else None

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
    """What the inputs are called: by their labels, or else by the signature of f: x, w[0], w[1][2]."""
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


def _rounding(order: list[Value]) -> tuple[float, dict[Value, float]]:
    """What rounding may do to the last node, and every node's absolute adjoint.

    A node is off by eps of its own size, and by eps of what each input brings to it: terms of a dot may cancel.
    A product of two tiny numbers underflows.
    """
    sizes, total = {order[-1]: 1.0}, abs(order[-1].data)
    for node in reversed(order):
        if node.rule and (size := sizes.get(node)):
            shares = node.rule.shares(1.0, node.data, *[p.data for p in node.parents])
            terms = [size * abs(node.data), size * TINY]
            for parent, slope in zip(node.parents, shares, strict=True):
                if math.isfinite(part := size * abs(slope)):
                    sizes[parent] = sizes.get(parent, 0.0) + part
                    terms.append(part * abs(parent.data))
            total += sum(filter(math.isfinite, terms))
    return float(EPS * total), sizes


def side_of(node: Value) -> Any:
    """On which side of its kinks an interior node was computed."""
    numbers = [p.data for p in node.parents]
    if node.rule.name == "where":
        return bool(numbers[0])
    if node.rule.ties:
        return [x == node.data for x in numbers]
    return [(x > kink) - (x < kink) for kink in node.rule.kinks for x in numbers]


def kink_between(here: Sample, beside: list[Sample]) -> str:
    """Where the runs beside x first part from the one at x; "" if they do not."""
    paths = [run.path for run in beside]
    for node, way, *others in zip(topological_order(here.out), here.path, *paths, strict=False):
        if any(other != way for other in others):
            same_rule = node.rule and all(other and other[0] == way[0] for other in others)
            return f"beside {shown(node)}" if same_rule else "where f branches"
    return "where f branches" if any(len(path) != len(here.path) for path in paths) else ""


def shown(node: Value) -> str:
    """A node as the call that made it, with its operands: mul(x=2, 0.5)."""
    operands = [f"{p.label}={p:.4g}" if p.label else f"{p:.4g}" for p in node.parents]
    return (
        f"{node.rule.name}({', '.join(operands if len(operands) < 7 else [*operands[:5], '...', operands[-1]])})"
    )
