"""The operators that every number-like class shares, and which class records where two of them meet."""

from typing import Any

import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.compiler.ir.symbols import Symbol
from tinygrad_edu.compiler.trace.placeholder import Placeholder
from tinygrad_edu.engine.operators import Operators
from tinygrad_edu.testing.check.oracles import RuleNumber


class Spoken(Operators):
    """A number that says what was asked of it."""

    def _operate(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        return name, *["x" if x is self else x for x in inputs], *parameters.values()


x = Spoken()
ASKED = [
    (x + 2, ("add", "x", 2)),
    (2 + x, ("add", 2, "x")),
    (x - 2, ("sub", "x", 2)),
    (2 - x, ("sub", 2, "x")),
    (x * 2, ("mul", "x", 2)),
    (2 * x, ("mul", 2, "x")),
    (x / 2, ("div", "x", 2)),
    (2 / x, ("div", 2, "x")),
    (x**2.0, ("pow_n", "x", 2)),
    (x**0.5, ("pow_n", "x", 0.5)),
    (x**x, ("pow", "x", "x")),
    (2**x, ("pow", 2, "x")),
    (-x, ("neg", "x")),
    (abs(x), ("abs", "x")),
    (x < 2, ("lt", "x", 2)),
    (x <= 2, ("le", "x", 2)),
    (x > 2, ("gt", "x", 2)),
    (x >= 2, ("ge", "x", 2)),
    (0.0 + x, ("add", 0.0, "x")),
    (0 + x, x),  # the int 0 that sum() starts from is left out
]


@pytest.mark.parametrize(("got", "asked"), ASKED)
def test_an_operator_asks_for_its_rule(got: Any, asked: Any) -> None:
    assert got == asked


def test_every_class_of_numbers_has_these_operators() -> None:
    names = {name for name, operator in vars(Operators).items() if callable(operator)}
    assert len(names) >= 16
    for kind in (Symbol, RuleNumber):
        assert not names & vars(kind).keys()
    measured = {"__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__neg__"}
    measured |= {"__truediv__", "__rtruediv__", "__pow__"}
    assert names & vars(Value).keys() == measured | {"__abs__"}  # abs is a method, as sqrt is
    assert names <= vars(Placeholder).keys()


class Counted(Value):
    """Records in its own way, and has no number to be read."""

    __slots__ = ()

    @property
    def data(self) -> Any:
        raise TypeError("no number here")

    @data.setter
    def data(self, number: Any) -> None:
        pass

    def _record(self, rule: Any, inputs: Any) -> Any:
        return rule.name, len(inputs)


def test_a_subclass_that_records_in_its_own_way_takes_over() -> None:
    value, counted = Value(1.0), Counted(0.0)
    assert tg.max(value, value, counted) == ("max", 3)
    assert value**counted == ("pow", 2)


def test_a_type_error_while_numbers_are_read_is_not_caught() -> None:
    class Broken(Value):
        __slots__ = ()
        data = Counted.data

    with pytest.raises(TypeError, match="no number here"):
        tg.max(Value(1.0), Broken(2.0))
