"""Expressions from the command line: what is understood, and that nothing else is ever run."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu.cli.expression import FUNCTIONS, Expression, ExpressionError

UNDERSTOOD = [
    ("a*b + c", {"a": 2.0, "b": -3.0, "c": 10.0}, 4.0),
    ("tanh(a*b + c)", {"a": 0.5, "b": 2.0, "c": -1.0}, 0.0),
    ("-x**2", {"x": 3.0}, -9.0),
    ("(-x)**2", {"x": 3.0}, 9.0),
    ("2**x / 4 - +x", {"x": 3.0}, -1.0),
    ("max(x, y, 1) + min(x, y)", {"x": 5.0, "y": 2.0}, 7.0),
    ("leaky_relu(x, alpha=0.5)", {"x": -4.0}, -2.0),
    ("leaky_relu(x, alpha=-0.5)", {"x": -4.0}, 2.0),
    ("where(x, y, 3)", {"x": 0.0, "y": 7.0}, 3.0),
    ("abs(x) + sqrt(y)", {"x": -1.5, "y": 4.0}, 3.5),
    ("1e3 * λ", {"λ": 0.5}, 500.0),
    ("exp*exp(exp)", {"exp": 0.0}, 0.0),
    ("  x\n", {"x": 1.0}, 1.0),
]


@pytest.mark.parametrize(("text", "numbers", "result"), UNDERSTOOD)
def test_expressions_are_computed(text: str, numbers: dict[str, float], result: float) -> None:
    f = Expression(text)
    assert f.names == list(numbers)
    assert f(*numbers.values()) == pytest.approx(result)


def test_a_graph_has_labelled_leaves_and_a_gradient() -> None:
    y = Expression("tanh(a*b + c)").graph(["a=2", "b=-3", " c = 10"])
    y.backward()
    leaves = {x.label: x.grad for x in tg.topological_order(y) if not x.rule}
    assert leaves == pytest.approx(
        {"a": -3 / math.cosh(4) ** 2, "b": 2 / math.cosh(4) ** 2, "c": 1 / math.cosh(4) ** 2}
    )


REFUSED = [
    ("x.data", "x.data is not allowed: use names, numbers"),
    ("x[0]", "x[0] is not allowed"),
    ("__import__('os')", "__import__ is no function here; there are reciprocal, mod, abs"),
    ("open(x)", "open is no function here"),
    ("2(x)", "2(x) calls 2, which is no function. Write a product with *, as in 2*a."),
    ("3 + (x + 1)(x - 1)", "(x + 1)(x - 1) calls x + 1, which is no function. Write a product with *"),
    ("x.exp()", "x.exp is no function here"),
    ("(lambda: 1)()", "is no function here"),
    ("exp(*x)", "*x is not allowed"),
    ("exp(**x)", "exp has no such parameter: **x"),
    ("exp(x, alpha=1)", "exp has no such parameter: alpha=1"),
    ("leaky_relu(x, alpha=y)", "A parameter is a plain number, as in alpha=0.2, not alpha=y"),
    ("'text' * x", "'text' is not allowed"),
    ("True * x", "True is not allowed"),
    ("1j * x", "1j is not allowed"),
    ("x < 1", "x < 1 is not allowed"),
    ("x if y else z", "x if y else z is not allowed"),
    ("[x, y]", "[x, y] is not allowed"),
    ("x := 1", "This is not an expression"),
    ("x % 2", "x % 2 has an operator other than"),
    ("x^2", "x^2 has an operator other than + - * / **. Write a power with **, as in a**2."),
    ("2x", "This is not an expression: invalid decimal literal. Write a product with *, as in 2*a."),
    ("not x", "not x has an operator other than"),
    ("x +", "This is not an expression: invalid syntax"),
    ("", "This is not an expression"),
    ("x; y", "This is not an expression"),
    ("2 + 3", "has no variable to take a derivative by"),
    ("x" + "+x" * 500, "has 1,001 characters; the limit is 1,000"),
    ("(" * 5000 + "x" + ")" * 5000, "has 10,001 characters"),
    ("(" * 400 + "x" + ")" * 400, "This is not an expression: too many nested parentheses"),
    ("x\0", "This is not an expression"),
    ("tahn(x)", "tahn is no function here; did you mean tan or tanh?"),
    ("0o7inf", "This is not an expression: invalid octal literal."),
]


NOT_COMPUTED = [
    ("x * 9**9**9", "too large for a float"),
    ("x * 1" + "0" * 400, "too large for a float"),
    ("-" * 995 + "x", "nested too deeply"),
    ("log(-x)", "It cannot be computed: log(Value(data=-2.0, grad=0.0)): it is defined"),
    ("1/(x-x)", "div(Value(data=1.0, grad=0.0), Value(data=0.0, grad=0.0)): division by"),
    ("x * log(0)", "It cannot be computed: log(0.0): "),
    ("(-8)**0.5 * x", "It cannot be computed: pow(-8.0, 0.5): a negative base needs an"),
    ("x * sqrt(x - 3)", "It cannot be computed: sqrt(Value(data=-1.0, grad=0.0)): it is defined for"),
    ("tanh(x, x)", "It cannot be computed: tanh takes 1 input"),
    ("x", "computes nothing"),
]
NUMBERS = [
    ("", "Give a number for 'a' after the expression: a=2."),
    ("a=1", "Give a number for 'b'"),
    ("a=1 b=2 z=3", "'z' is not in the expression, which has a, b."),
    ("a=1 b=two", "'b=two' gives no number to a name: write it as a=2"),
    ("a=1 b=2 a=3", "A name is given two numbers."),
    ("a=1 b", "'b' gives no number to a name"),
    ("a=1 2=b", "'2=b' gives no number to a name"),
]


@pytest.mark.parametrize(
    ("text", "numbers", "message"),
    [(text, None, message) for text, message in REFUSED]
    + [(text, ["x=2"], message) for text, message in NOT_COMPUTED]
    + [("a * b", numbers.split(), message) for numbers, message in NUMBERS],
    ids=lambda text: repr(text)[:20],
)
def test_anything_else_is_one_clear_error(text: str, numbers: list[str] | None, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression(text) if numbers is None else Expression(text).graph(numbers)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


tokens = [*"a b exp( max( leaky_relu( alpha= 2 .5 1e3 **".split(), *"+-*/%()[],=:;._'{}\\~\n\udcff", " if "]
tokens += ["9" * 30, "(" * 50, "-" * 999, "0o7", "inf", "log(", "\u00b5"]
texts = st.lists(st.sampled_from(tokens), max_size=12).map("".join) | st.text(max_size=15)


@given(texts, st.sampled_from(["0", "1.5", "-2", "1e300", "inf", "nan"]))
def test_any_text_is_an_expression_or_one_line(text: str, number: str) -> None:
    try:
        f = Expression(text)
        f.graph([f"{name}={number}" for name in f.names])
        message = "fine"
    except ExpressionError as error:
        message = str(error)
    assert message.splitlines() == [message]
    assert len(message) < 400


def test_every_function_can_be_called() -> None:
    for name, rule in FUNCTIONS.items():
        inputs = ", ".join(f"x{i}" for i in range(rule.n_inputs or 2))
        f = Expression(f"{name}({inputs})")
        numbers = [1.5 if name == "acosh" else 0.5] * len(f.names)
        assert f(*numbers) == rule(*numbers)
