"""Value as an object: what it accepts, compares, shows, copies, and what it refuses with a sentence."""

import math
import pickle
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from cases import refused, run_lines

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.engine.value import watchers

NOT_NUMBERS = [
    ("text", "Convert text with float(text)."),
    (True, "For a truth value, write 1.0 or 0.0."),
    (np.True_, "For a truth value, write 1.0 or 0.0."),
    (1 + 2j, "use .real and .imag"),
    ([1.0, 2.0], "For a list, build one Value per element."),
    ([0.0] * 10_000, "For a list, build one Value per element."),
    (np.array([1.0, 2.0]), "For a list, build one Value per element."),
    (None, "Is a `return` missing"),
    ({}, "build one Value per element"),
    (object(), "Convert it with float()."),
]


@pytest.mark.parametrize(("wrong", "fix"), NOT_NUMBERS, ids=lambda p: type(p).__name__)
def test_anything_else_is_refused_with_the_fix(wrong: object, fix: str) -> None:
    x = Value(3.0)
    attempts = [lambda: Value(wrong), lambda: x + wrong, lambda: wrong * x, lambda: x**wrong, lambda: x < wrong]
    for attempt in attempts:
        with pytest.raises(TypeError) as caught:
            attempt()
        assert fix in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200
    assert (x.data, x.grad) == (3.0, 0.0)


POWER = r"pow_n\(Value\(data=-2.0, grad=0.0\), exponent={}\): a negative base needs an integer exponent$"
OPERATION = r"^Value takes a number and a label, got \({}\)\. For an operation of your own, declare a rule: tg\.ru"
x, xs = Value(2.0), [Value(1.0), Value(2.0), Value(3.0)]
REDUCE: Any = (tg.sum, tg.max, tg.min, tg.logsumexp, tg.exp)
NONE: Any = (None, "ab", b"ab", {"a": x}, [[x]], [None], tg.nn.Neuron(1))  # no numbers
GRAPH: Any = (tg.topological_order, tg.ancestors, tg.edges)
ENGINES, SOFTMAX = (Value, tg.micrograd.Value), (tg.softmax, tg.log_softmax)
MORE: Any = [((x,),), ((x, x), (1.0, 2.0)), ("", "tanh"), (None,)]
ROWS = r"softmax and log_softmax take one sequence, as in softmax\(\[1.0, 2.0\]\), got {}"
DETACH: Any = (math.exp, float, int, complex, round)
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: Value(x), TypeError, "It is a Value already"),
    (lambda: Value(10**400), OverflowError, "too large"),
    *((lambda f=f: f(2.0).log(2), TypeError, r"^Value\.log\(\) takes 1 pos.* 2 were given$") for f in ENGINES),
    (lambda: Value(2.0, (x,), "tanh"), TypeError, OPERATION.format(r"2.0, \(Value.*,\), 'tanh'")),
    *((lambda more=more: Value(2.0, *more), TypeError, OPERATION.format("2.0, .*")) for more in MORE),
    *((lambda f=f: f(x), TypeError, r"not a Value.* take v\.data") for f in DETACH),
    (lambda: setattr(x, "gard", 1.0), AttributeError, "gard"),
    *((lambda p=p: Value(-2.0) ** p, ValueError, POWER.format(p)) for p in (0.5, -1.5)),
    (lambda: Value(-2.0) ** Fraction(1, 2), ValueError, POWER.format(r"Fraction\(1, 2\)")),
    (lambda: tg.tanh(x, x), TypeError, "tanh takes 1 input"),
    (lambda: tg.leaky_relu(x, beta=1), TypeError, "leaky_relu has no parameter"),
    *((lambda f=f, y=y: f(y), TypeError, r"takes real numbers, .*\. \w.*\S[.?]$") for f in REDUCE for y in NONE),
    *((lambda f=f: f([]), TypeError, "takes one or more input.*: an empty list has none") for f in REDUCE[:4]),
    *((lambda f=f, y=y: f(y), TypeError, ROWS.format("")) for f in SOFTMAX for y in ("ab", {"a": x}, 3, x)),
    *((lambda f=f: f(x, x), TypeError, ROWS.format("2 arguments")) for f in SOFTMAX),
    *((lambda y=y: tg.dot(xs, y), TypeError, "dot takes two sequences, .*, got ") for y in ("a", {1: x}, None, x)),
    *((lambda y=y: tg.where(y, x, x), TypeError, "where takes real numbers.*, got") for y in (None, "a", [1])),
    (lambda: tg.take(None, 0), TypeError, "take picks an item of a list, got None"),
    *((lambda y=y: x.elu(alpha=y), TypeError, "elu takes a number as alpha, got") for y in (None, "a", [1.0])),
    *((lambda f=f, y=y: f(y), TypeError, "^Pass one Value, ") for f in GRAPH for y in (3, None, xs, Value)),
    (lambda: tg.rule(math.tanh, backward=lambda *_: ()), ValueError, "'tanh' exists already"),
    (lambda: tg.rule(math.hypot, backward=max, n_inputs=2, kinks=(0.0,)), ValueError, "points of one input"),
    *((lambda f=f, b=b: tg.rule(f, backward=b), TypeError, "backward function") for f, b in ((3, max), (max, 3))),
    *((lambda d=d: tg.rule(max, backward=max, domain=d), TypeError, "Interval") for d in ((0, 1), tg.Interval())),
    *((lambda e=e: tg.Interval(*e), TypeError, "ends at two numbers, got") for e in (("a", 1), (0, None))),
    (lambda: Value(0.0) ** -1, ZeroDivisionError, r"exponent=-1\): 0 has no negative power$"),
    (lambda: 1 / Value(0.0), ZeroDivisionError, r"\): division by zero$"),
    (lambda: tg.dot([1.0, 2.0], [x]), ValueError, "2 and 1 numbers"),
    (lambda: tg.RULES["dot"](1.0, 2.0, 3.0), ValueError, "dot"),
    *((lambda i=i: tg.take(xs, i), IndexError, f"take has the indices 0 to 2, got {i}.") for i in (-1, 3)),
    *((lambda i=i: tg.take(xs, i), TypeError, "a plain whole number as the index") for i in (1.0, "1", None, x)),
]
test_errors_are_one_sentence = refused(ERRORS)


# --- What it shows ------------------------------------------------------------------------------------------
def test_equality_is_identity_and_order_is_by_data() -> None:
    a, b = Value(1.0), Value(1.0)
    assert a != b
    assert len({a, b, a}) == 2
    assert a < 2
    assert a <= b
    assert np.float64(2) > a
    assert 0.5 < b < 2
    assert a >= b
    assert type(a < b) is bool
    assert sorted([Value(3.0), Value(1.0)])[0].data == 1.0
    assert not Value(0.0)
    assert Value(-0.5)


def test_text_and_micrograds_names() -> None:
    assert f"{Value(3.14159):.3f}" == "3.142"
    assert f"{Value(Fraction(1, 3)):.3f}" == "0.333"
    assert f"{Value(2.0)}" == repr(Value(2.0)) == "Value(data=2.0, grad=0.0)"
    assert repr(Value(2, "x")) == "Value(data=2.0, grad=0.0, label='x')"
    a, b = Value(2.0), Value(3.0)
    assert (a * b)._prev == (a, b)
    nodes = a * b, a - b, a**3, a.tanh(), a, a**-0.5, a ** Fraction(1, 2)
    assert [node._op for node in nodes] == ["*", "-", "**3", "tanh", "", "**-0.5", "**(1/2)"]


def test_a_power_of_a_fraction_stays_exact() -> None:
    for exponent in (2, 2.0):
        x = Value(Fraction(-2, 3))
        y = x**exponent
        y.backward()
        assert repr((y.data, x.grad)) == repr((Fraction(4, 9), Fraction(-4, 3)))
    assert (Value(Fraction(1, 3)) ** 200.0).data == Fraction(1, 3**200)


def test_detach_is_a_number_without_gradient_and_a_node() -> None:
    x = Value(3.0, label="x")
    y = x.detach() * x
    y.backward()
    assert (y.data, x.grad, y.parents[0].rule.name) == (9.0, 3.0, "detach")
    assert tg.gradients(tg.gradients(y, x, create_graph=True), x) == 0.0
    for backend in ("numpy", "python"):
        step = tg.compile(lambda t: x.detach() * x * t, [x], backend=backend)
        value, gradient = step.value_and_grad([2.0])
        assert (value, list(gradient)) == (18.0, [6.0])


def test_a_changed_leaf_is_noticed_when_asked() -> None:
    a, b = Value(2.0, label="a"), Value(3.0)
    y = a * b + 1
    y.backward(check=True)
    a.data = 100.0
    with pytest.raises(RuntimeError) as caught:
        y.backward(check=True)
    assert str(caught.value) == (
        "a was changed after the forward pass: the result was computed from other numbers. "
        "Compute it again before backward()."
    )
    assert a.grad == 3.0
    y.backward()
    assert b.grad == 2.0 + 100.0  # the slope at the number that is there now
    (Value(math.nan) * 2).backward(check=True)


CHANGES: list[tuple[Callable[..., Value], int | None, str]] = [  # a result, whose number was changed, what is said
    (lambda a, b, c: a * a * a, 0, "a"),
    (lambda a, b, c: a * b + b * c, 0, "a"),  # b is used by b * c too, which is as it was
    (lambda a, b, c: a * b, 0, "a or b"),
    (lambda a, b, c: (a + b) * 2, None, "p"),  # the leaves still give the result
    (lambda a, b, c: a.exp() * b.exp() * 2, None, "p"),
]


@pytest.mark.parametrize(("build", "place", "said"), CHANGES)
def test_the_number_that_was_changed_is_named(build: Any, place: int | None, said: str) -> None:
    leaves = [Value(2.0, label="a"), Value(3.0, label="b"), Value(4.0, label="c")]
    y = build(*leaves)
    target = y.parents[0] if place is None else leaves[place]
    target.label = target.label or "p"
    target.data = 7.0
    with pytest.raises(RuntimeError, match=f"^{said} was changed after the forward pass: "):
        y.backward(check=True)
    if place is None:
        target.label = ""
        with pytest.raises(RuntimeError, match=r"^Value\(data=7\.0, grad=0\.0\) was changed"):
            y.backward(check=True)


def test_a_watcher_is_told_before_gradients_are_added() -> None:
    w, told = Value(3.0), []

    class Watcher:
        def before_backward(self) -> None:
            told.append(w.grad)

    (w * w).backward()
    watchers.add(watcher := Watcher())
    (w * w).backward()
    watchers.discard(watcher)
    assert (told, w.grad) == ([6.0], 12.0)


# --- Rules that fail ----------------------------------------------------------------------------------------
def declared(shares: Any = (1.0,), result: Any = 2.0) -> tg.Rule:
    return tg.rule(lambda x: result, name="own", backward=lambda upstream, out, x: shares)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failing_rule_leaves_the_gradients_alone(error: type[BaseException]) -> None:
    def broken_backward(upstream, out, x):
        raise error("no slope today")

    broken = tg.rule(lambda x: x + 1, name="broken", backward=broken_backward)
    x = Value(2.0)
    (x * 3).backward()
    y = broken(x) + x * x
    with pytest.raises(error, match="no slope today") as caught:
        y.backward()
    assert x.grad == 3.0
    assert error is KeyboardInterrupt or "broken" in caught.value.__notes__[0]


@pytest.mark.parametrize("shares", [(1.0, 2.0, 3.0), 1.0, None, ()])
def test_a_wrong_number_of_shares_is_named(shares: object) -> None:
    with pytest.raises(TypeError, match=r"backward of own must return 1 share\(s\)"):
        declared(shares)(Value(1.0)).backward()
    two = tg.rule(lambda x, y: x * y, name="own", backward=lambda upstream, out, x, y: shares)
    with pytest.raises(TypeError, match=r"backward of own must return 2 share\(s\)"):
        two(Value(1.0), 2.0).backward()


@pytest.mark.parametrize("result", [None, "1", 1j, [1.0]])
def test_a_forward_without_a_number_is_named(result: object) -> None:
    with pytest.raises(TypeError, match=r"forward of Rule\('own'\) must return one real number"):
        declared(result=result)(Value(1.0))


def test_shares_and_results_may_be_numpys() -> None:
    backward = lambda upstream, out, *x: upstream * np.array([x[1] * x[2], 0.5, 2.0])  # noqa: E731 - a formula
    three = tg.rule(lambda x, y, z: np.float64(x * y * z), name="three", backward=backward)
    inputs = [Value(2.0), Value(3.0), Value(4.0)]
    out = three(*inputs)
    out.backward()
    assert [x.grad for x in inputs] == [12.0, 0.5, 2.0]
    assert all(type(x) is float for x in (out.data, *[x.grad for x in inputs]))
    for wrong in (np.ones(2), np.ones((3, 1)), np.ones(())):
        with pytest.raises(TypeError, match=r"backward of three must return 3 share\(s\)"):
            three.counted(wrong, 3)


def test_a_pickle_of_an_unknown_rule_says_what_to_import() -> None:
    data = pickle.dumps(declared()(Value(1.0)))
    del tg.RULES["own"]
    with pytest.raises(LookupError, match="'own': import the module that declares it"):
        pickle.loads(data)


def test_an_interrupt_in_any_line_leaves_whole_gradients() -> None:
    leaves = [Value(0.1 * i + 0.05, label=f"x{i}") for i in range(4)]
    y = leaves[0]
    for i in range(12):
        y = (y + leaves[i % 4]) * 0.5 if i % 3 else (y * leaves[i % 4]).tanh()
    y.backward()
    once = [leaf.grad for leaf in leaves]

    def interrupted(at: int) -> int:
        for leaf, gradient in zip(leaves, once, strict=True):
            leaf.grad = gradient
        return run_lines(y.backward, lambda frame: frame.f_code is Value.backward.__code__, at)

    lines = interrupted(0)
    assert lines > 60
    assert [leaf.grad for leaf in leaves] == [2 * gradient for gradient in once]
    for at in range(1, lines + 1):
        with pytest.raises(KeyboardInterrupt):
            interrupted(at)
        assert [leaf.grad for leaf in leaves] in (once, [2 * gradient for gradient in once]), at
