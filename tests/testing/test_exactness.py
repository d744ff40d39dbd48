"""Fractions in, Fractions out: through grad, hessian and nn, wherever the operations are rational."""

from fractions import Fraction

from tinygrad_edu import nn


def test_a_network_of_fractions_has_fractional_gradients() -> None:
    model = nn.MLP(2, [3, 1], activation="relu", rng=0)
    for p in model.parameters():
        p.data = Fraction(p.data).limit_denominator(10)
    loss = nn.mse([model([Fraction(1, 2), Fraction(1, 3)])], [Fraction(1, 4)])
    loss.backward()
    assert type(loss.data) is Fraction
    assert any(p.grad for p in model.parameters())
    assert all(type(p.grad) is Fraction for p in model.parameters())
