"""Small graphs and a small training that many tests of pictures, steps and films share."""

from typing import Any

from tinygrad_edu import Value

SVG = "{http://www.w3.org/2000/svg}"
XS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
YS = [1.0, -1.0, -1.0, 1.0]


def labelled(**numbers: Any) -> list[Value]:
    return [Value(number, label=label) for label, number in numbers.items()]


def named(value: Value, label: str) -> Value:
    value.label = label
    return value


def neuron() -> Value:
    """y = tanh(a * b + c), its own nodes labelled as well."""
    a, b, c = labelled(a=0.5, b=-3.0, c=1.5)
    return named(named(named(a * b, "d") + c, "e").tanh(), "y")


def chain(length: int, root: Value | None = None) -> Value:
    root = Value(1.0, label="x") if root is None else root
    for _ in range(length):
        root = -root
    return root


def squares(model: Any, rows: Any = XS, targets: Any = YS) -> Any:
    return sum((model(x) - y) ** 2 for x, y in zip(rows, targets, strict=True))


def descend(parameters: Any, rate: float = 0.02) -> None:
    for p in parameters:
        p.data -= rate * p.grad
