"""Operators: NumPy's scalars, arrays and functions with a Value, and the classes that share them."""

import math
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, micrograd
from tinygrad_edu.compiler.ir.symbols import Symbol
from tinygrad_edu.compiler.trace.placeholder import Placeholder
from tinygrad_edu.engine.operators import Operators
from tinygrad_edu.testing.check.oracles import RuleNumber

WORKS = {  # with v = 0.5, w = 2.0: the number, or the numbers of the array
    **{
        f"{a} {sign} {b}".replace("2", number): eval(f"{a} {sign} {b}", {"v": 0.5})
        for sign in ("+", "-", "*", "/", "**")
        for number in ("2", "2.0", "np.float64(2)", "np.float32(2)", "np.int64(2)", "np.uint8(2)", "np.array(2.0)")
        for a, b in (("v", "2"), ("2", "v"))
    },
    "np.float64(5) % w": 1.0,
    "Value(np.array(1.5))": 1.5,
    "np.arccosh(w)": math.acosh(2.0),
    "np.abs(-v)": 0.5,
    "np.maximum(v, w)": 2.0,
    "np.power(v, 2)": 0.25,
    "np.add(v, w)": 2.5,
    "np.logaddexp(v, w)": math.log(math.exp(0.5) + math.exp(2.0)),
    "np.sum([v, w])": 2.5,
    "np.mean([v, w])": 1.25,
    "np.dot([v, w], [1.0, 2.0])": 4.5,
    "np.array([v, w]) * v": [0.25, 1.0],
    "np.array([v, w]).std()": 0.75,
    "np.var([v, w], axis=0)": 0.5625,
    "np.prod([v, w])": 1.0,
    "np.where(np.array([v, w]) > 1, [v, w], 0 * v)": [0.0, 2.0],
    "np.array([v, w]) * np.array([1.0, 2.0])": [0.5, 4.0],
    "np.exp([v, w])": [math.exp(0.5), math.exp(2.0)],
    "tg.erf(np.array([v, w]))": [math.erf(0.5), math.erf(2.0)],
    "tg.logsumexp(np.array([v, w]))": math.log(math.exp(0.5) + math.exp(2.0)),
}
NAMES = "tanh exp expm1 exp2 log log2 log10 log1p sqrt square reciprocal sin arcsin arctan negative sign".split()
WORKS |= {f"np.{name}(v)": float(getattr(np, name)(0.5)) for name in NAMES}
PLAIN = {"tg.sign(np.float64(-0.5))": -1.0, "tg.logsumexp(np.array([math.inf, 1.0]))": math.inf}
PLAIN |= {"np.less(v, w)": True, "np.float64(1) < v": False, "np.isnan(v)": False, "v <= np.float64(0.5)": True}
REFUSED = {  # the words that its error has
    "np.floor(v)": "numpy.floor is no operation of Values: use the operations of dir.tg., or x.data",
    "np.arctan2(v, w)": r"tg.atan\(y / x\)",
    "np.hypot(v, w)": r"\(x\*\*2 \+ y\*\*2\) \*\* 0.5",
    "np.add.reduce(v)": "numpy.add.reduce is no operation of Values: use it on a list of Values, or tg.sum",
    "np.multiply(v, 2.0, out=np.zeros(1))": "with options",
    "np.log(v - v)": "it is defined for 0 < x only",
    "Value(np.array(1 + 2j))": "use .real and .imag",
    "Value(np.array(True))": "write 1.0 or 0.0",
    "math.exp(v)": "use the functions of tinygrad_edu, tg.exp",
    **dict.fromkeys(("np.array([v], float)", "np.round(v)", "np.trunc([v])"), r"For its number take v\.data"),
}


def evaluated(expression: str, engine: type = Value):
    return eval(expression, globals() | {"Value": engine, "v": engine(0.5), "w": engine(2.0)})


@pytest.mark.parametrize("engine", [Value, micrograd.Value], ids=["main", "drop-in"])
@pytest.mark.parametrize("expression", WORKS)
def test_it_is_a_value(expression: str, engine: type) -> None:
    result, expected = evaluated(expression, engine), WORKS[expression]
    values = result.tolist() if isinstance(expected, list) else [result]
    assert all(type(x) is engine or (type(x) is Value and "np.sign" not in expression) for x in values)
    assert all(type(x.data) is float for x in values)
    assert [x.data for x in values] == pytest.approx(np.atleast_1d(expected).tolist(), rel=1e-15)


@pytest.mark.parametrize("expression", PLAIN)
def test_a_question_has_a_plain_answer(expression: str) -> None:
    assert evaluated(expression) == PLAIN[expression]


@pytest.mark.parametrize("expression", REFUSED)
def test_the_error_names_the_remedy(expression: str) -> None:
    with pytest.raises((TypeError, ValueError), match=REFUSED[expression]):
        evaluated(expression)


class Tensor:
    """As of PyTorch: no axes, a method item."""

    ndim, shape = 0, ()

    def item(self) -> float:
        return 1.5


def test_a_tensor_without_axes_is_a_number() -> None:
    values = Value(Tensor()), Value(2.0) * Tensor(), micrograd.Value(Tensor())
    assert [x.data for x in values] == [1.5, 3.0, 1.5]


# --- The operators that every number-like class shares --------------------------------------------------------
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
