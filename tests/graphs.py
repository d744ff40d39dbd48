"""Small graphs, a module and a small training that many tests share."""

from typing import Any

from tinygrad_edu import Value, nn

SVG = "{http://www.w3.org/2000/svg}"
XS = [[2.0, 3.0, -1.0], [3.0, -1.0, 0.5], [0.5, 1.0, 1.0], [1.0, 1.0, -1.0]]
YS = [1.0, -1.0, -1.0, 1.0]


class Everywhere(nn.Module):
    """Values in all places that a module may have them, and itself."""

    def __init__(self) -> None:
        self.scale, self.sizes, self.name = Value(2.0), [1.0, 2.0], "own"
        self.W = [[Value(1.0), Value(2.0)], [Value(3.0), Value(4.0)]]
        self.ragged = [[Value(5.0)], [Value(6.0), Value(7.0)]]
        self.heads = {"left": nn.Neuron(2, rng=0), "right": [nn.LayerNorm(2)], "bias": Value(9.0)}
        self.again, self.me, self.factors = self.heads["left"], self, [self.scale, Value(8.0)]


class Line(nn.Module):
    """a x + b, whose gradients are known by heart."""

    def __init__(self, a: float = 0.0, b: float = 0.0) -> None:
        self.a, self.b = Value(a, label="a"), Value(b, label="b")

    def __call__(self, x: Any) -> Any:
        return self.a * x + self.b


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
