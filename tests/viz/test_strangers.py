"""The lecture's own Value, as people type it, in pictures, steps and questions."""

import math
from typing import Any

import pytest
from learners import engine

import tinygrad_edu as tg
from tinygrad_edu.debug import Machine

Value: Any = engine("lecture")  # whose tanh is (e^2x - 1) / (e^2x + 1): its last digits are not ours
Value.softsign = lambda self: Value(self.data / (1 + abs(self.data)), (self,), "softsign")  # nobody here knows it


def lecture() -> tuple[Any, Any]:
    a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    y = (a * b + a * a + b / a).tanh() + a**2 + Value(0.5).tanh()
    y.label, y.grad, a.grad = "y", 1.0, 4.5
    return y, a


def test_it_is_drawn_stepped_through_and_asked() -> None:
    y, a = lecture()
    text = tg.tree(y, ascii=True)
    assert text.startswith("y = 3.4")
    assert "a = 2   grad 4.5" in text
    assert tg.draw(y).source.count("->") == 17
    every = tg.steps(y)
    slope = 4 + (1 - math.tanh(-3.5) ** 2) * (-3 + 4 + 0.75)
    assert every.gradients(len(every))[next(x for x in every.order if x.label == "a")] == pytest.approx(slope)
    assert tg.why(y, a).total == pytest.approx(slope)
    assert tg.blame(y).kind == "accumulated"
    assert tg.live(y).to_html().startswith("<!doctype html>")
    assert Machine(every.root).next()


@pytest.mark.parametrize("x", [-1.3, -0.7, 0.1, 0.4, 1.9])
def test_last_digits_of_its_own_are_no_change(x: float) -> None:
    y = (Value(x) * Value(0.8)).tanh()
    y.backward()
    assert not tg.blame(y)


def test_a_number_that_is_0_is_a_node_like_others() -> None:
    a = Value(0.0, label="a")
    y = a * Value(2.0)
    z = y + y * Value(3.0)
    assert tg.why(z, a).total == 8
    assert len(tg.steps(z).order) == 6


def test_an_operation_that_is_not_known_is_drawn_and_named() -> None:
    _, a = lecture()
    y = a.softsign()
    assert "softsign" in tg.tree(y)
    assert "softsign" in tg.draw(y).source
    for question in (lambda: tg.steps(y)[0], lambda: tg.why(y, a), lambda: tg.live(y)):
        with pytest.raises(TypeError, match=r"'softsign' of .*learners_engine.Value is not known .*edu.micrograd"):
            question()
    with pytest.raises(TypeError, match=r"test_strangers.Odd: import Value from tinygrad_edu.micrograd.engine"):
        tg.draw(type("Odd", (), {"data": 1.0, "grad": 0.0})())  # type: ignore[arg-type]  # that is the test
