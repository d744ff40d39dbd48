"""Fractions in, Fractions out: through grad, hessian and nn, wherever the operations are rational."""

from fractions import Fraction

import tinygrad_edu as tg
from tinygrad_edu import nn


def all_exact(numbers: object) -> bool:
    if isinstance(numbers, list | tuple):
        return all(map(all_exact, numbers))
    return type(numbers) is Fraction


def test_grad_and_hessian_of_fractions_are_fractions() -> None:
    x, y = Fraction(1, 3), Fraction(2, 7)
    assert tg.grad(lambda x: x**3 / (1 + x * x))(x) == (3 * x**2 * (1 + x * x) - 2 * x**4) / (1 + x * x) ** 2
    assert all_exact(tg.grad(lambda x: abs(x) + tg.relu(x) + tg.leaky_relu(x, alpha=Fraction(1, 10)))(x))
    second = tg.hessian(lambda p: p[0] ** 2 / p[1] + tg.dot(p, p) + tg.max(p[0], p[1] ** -2))([x, y])
    assert all_exact(second)
    assert second[0][0] == 2 / y + 2


def test_a_network_of_fractions_has_fractional_gradients() -> None:
    model = nn.MLP(2, [3, 1], activation="relu", rng=0)
    for p in model.parameters():
        p.data = Fraction(p.data).limit_denominator(10)
    loss = nn.mse([model([Fraction(1, 2), Fraction(1, 3)])], [Fraction(1, 4)])
    loss.backward()
    assert type(loss.data) is Fraction
    assert any(p.grad for p in model.parameters())
    assert all(type(p.grad) is Fraction for p in model.parameters())
