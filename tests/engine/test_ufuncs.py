"""NumPy's scalars, arrays and functions with a Value: each expression works, or its error names the remedy."""

import math

import numpy as np
import pytest

from tinygrad_edu import Value, micrograd

WORKS = {  # with v = 0.5, w = 2.0: the number, or the numbers of the array
    **{
        f"{a} {sign} {b}".replace("2", number): eval(f"{a} {sign} {b}", {"v": 0.5})
        for sign in ("+", "-", "*", "/", "**")
        for number in ("2", "2.0", "np.float64(2)", "np.float32(2)", "np.int64(2)", "np.uint8(2)")
        for a, b in (("v", "2"), ("2", "v"))
    },
    "np.float64(5) % w": 1.0,
    "v ** np.array(2.0)": 0.25,
    "np.array(2.0) * v": 1.0,
    "v - np.array(0.5)": 0.0,
    "Value(np.array(1.5))": 1.5,
    "Value(np.float32(1.5))": 1.5,
    "np.arccosh(w)": math.acosh(2.0),
    "np.abs(-v)": 0.5,
    "np.maximum(v, w)": 2.0,
    "np.minimum(v, 0.25)": 0.25,
    "np.power(v, 2)": 0.25,
    "np.add(v, w)": 2.5,
    "np.logaddexp(v, w)": math.log(math.exp(0.5) + math.exp(2.0)),
    "np.sum([v, w])": 2.5,
    "np.mean([v, w])": 1.25,
    "np.dot([v, w], [1.0, 2.0])": 4.5,
    "np.array([v, w]) * v": [0.25, 1.0],
    "np.array([v, w]) * np.array([1.0, 2.0])": [0.5, 4.0],
    "np.exp([v, w])": [math.exp(0.5), math.exp(2.0)],
}
NAMES = "tanh exp expm1 exp2 log log2 log10 log1p sqrt square reciprocal sin arcsin arctan negative sign".split()
WORKS |= {f"np.{name}(v)": float(getattr(np, name)(0.5)) for name in NAMES}
PLAIN = {"np.less(v, w)": True, "np.float64(1) < v": False, "np.isnan(v)": False, "v <= np.float64(0.5)": True}
REFUSED = {  # the words that its error has
    "np.floor(v)": "numpy.floor is no operation of Values: use the operations of dir.tg., or x.data",
    "np.arctan2(v, w)": r"tg.atan\(y / x\)",
    "np.hypot(v, w)": r"\(x\*\*2 \+ y\*\*2\) \*\* 0.5",
    "np.add.reduce(v)": "numpy.add.reduce is no operation",
    "np.multiply(v, 2.0, out=np.zeros(1))": "with options",
    "np.log(v - v)": "it is defined for 0 < x only",
    "np.array([1.0, 2.0]) * v": "build one Value per element",
    "v + np.array([1.0, 2.0])": "build one Value per element",
    "Value(np.array([1.0, 2.0]))": "build one Value per element",
    "Value(np.array(1 + 2j))": "use .real and .imag",
    "Value(np.array(True))": "write 1.0 or 0.0",
    "math.exp(v)": "use the functions of tinygrad_edu, tg.exp",
    "float(v)": r"For its number take v\.data",
    "np.array([v, w], float)": r"For its number take v\.data",
}


def evaluated(expression: str, engine: type = Value):
    return eval(expression, {"np": np, "math": math, "Value": engine, "v": engine(0.5), "w": engine(2.0)})


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
    assert evaluated(expression) is PLAIN[expression]


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
