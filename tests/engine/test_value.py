"""Value as an object: what it accepts, compares, shows, copies, and what it refuses with a sentence."""

import copy
import math
import pickle
import re
from fractions import Fraction

import mpmath
import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.engine.value import watchers

NUMBERS = [2, 2.0, np.float64(2), np.float32(2), np.int64(2), np.uint8(2)]
OPERATORS = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "**": lambda x, y: x**y,
}
NOT_NUMBERS = [
    ("text", "Convert text with float(text)."),
    (True, "For a truth value, write 1.0 or 0.0."),
    (np.True_, "For a truth value, write 1.0 or 0.0."),
    (1 + 2j, "use .real and .imag"),
    ([1.0, 2.0], "For a list, build one Value per element."),
    (np.array([1.0, 2.0]), "For a list, build one Value per element."),
    (np.array(1.0), "build one Value per element"),
    (None, "Is a `return` missing"),
    ({}, "build one Value per element"),
    (object(), "Convert it with float()."),
]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("symbol", OPERATORS)
def test_numbers_on_either_side(symbol: str, number: object) -> None:
    apply = OPERATORS[symbol]
    x = Value(3.0)
    for result, expected in [(apply(x, number), apply(3.0, 2.0)), (apply(number, x), apply(2.0, 3.0))]:
        assert type(result) is Value
        assert type(result.data) is float
        assert result.data == expected


@pytest.mark.parametrize("number", NUMBERS, ids=lambda n: type(n).__name__)
def test_numbers_become_floats(number: object) -> None:
    assert type(Value(number).data) is float


@pytest.mark.parametrize(("wrong", "fix"), NOT_NUMBERS, ids=lambda p: type(p).__name__)
def test_anything_else_is_refused_with_the_fix(wrong: object, fix: str) -> None:
    x = Value(3.0)
    attempts = [lambda: Value(wrong), lambda: x + wrong, lambda: wrong * x, lambda: x**wrong, lambda: x < wrong]
    for attempt in attempts:
        with pytest.raises(TypeError) as caught:
            attempt()
        assert fix in str(caught.value)
        assert "\n" not in str(caught.value)
    assert (x.data, x.grad) == (3.0, 0.0)


@pytest.mark.parametrize("kind", [Value, tg.micrograd.engine.Value])
def test_a_method_that_is_called_wrongly_is_told_by_its_name(kind: type[Value]) -> None:
    with pytest.raises(TypeError, match=r"^Value\.log\(\) takes 1 positional argument but 2 were given$"):
        kind(2.0).log(2)


def test_a_value_of_a_value_is_refused() -> None:
    with pytest.raises(TypeError, match="It is a Value already"):
        Value(Value(1.0))


def test_a_long_operand_does_not_flood_the_message() -> None:
    with pytest.raises(TypeError) as caught:
        Value([0.0] * 10_000)
    assert len(str(caught.value)) < 200


def test_an_int_too_large_for_a_float_says_so() -> None:
    with pytest.raises(OverflowError, match="too large"):
        Value(10**400)


def test_no_silent_detaching() -> None:
    x = Value(1.0)
    for detach in (math.exp, float, int, complex):
        with pytest.raises(TypeError):
            detach(x)


def test_an_attribute_that_does_not_exist() -> None:
    x = Value(1.0)
    with pytest.raises(AttributeError, match="gard"):
        x.gard = 1.0


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


def test_formatting() -> None:
    assert f"{Value(3.14159):.3f}" == "3.142"
    assert f"{Value(Fraction(1, 3)):.3f}" == "0.333"
    assert f"{Value(2.0)}" == repr(Value(2.0)) == "Value(data=2.0, grad=0.0)"
    assert repr(Value(2, "x")) == "Value(data=2.0, grad=0.0, label='x')"


def test_micrograds_names() -> None:
    a, b = Value(2.0), Value(3.0)
    assert (a * b)._prev == (a, b)
    assert [(a * b)._op, (a - b)._op, (a**3)._op, a.tanh()._op, a._op] == ["*", "-", "**3", "tanh", ""]
    assert [(a**-0.5)._op, (a ** Fraction(1, 2))._op] == ["**-0.5", "**(1/2)"]


def test_operands_keep_their_order_and_number() -> None:
    a, b, c = Value(1.0), Value(2.0), Value(3.0)
    assert (a - b).parents == (a, b)
    assert (2 / b).parents[1] is b
    assert tg.max(a, b, c, a).parents == (a, b, c, a)
    assert tg.sum([a]).parents == (a,)
    assert tg.dot([a, b], [b, c]).parents == (a, b, b, c)


def test_a_constant_exponent_is_not_an_input() -> None:
    x = Value(2.0)
    assert (x**3).parents == (x,)
    assert len((x ** Value(3.0)).parents) == 2


def test_the_power_without_an_exponent_is_the_square() -> None:
    x = Value(3.0)
    y = tg.RULES["pow_n"](x)
    y.backward()
    assert (y.data, x.grad) == (9.0, 6.0)


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


def test_new_operations_compile() -> None:
    w = Value(0.4, label="w")

    def f(t: Value) -> Value:
        y = w.log2() + w.log10() + w.exp2() + w.asinh() + (1 + w).acosh() + w.atanh()
        return y + w.sign() + w.reciprocal() + t % w + w.silu() + w.gelu() + w.atan() + w.asin() + +w

    eager = f(Value(1.3))
    wanted = tg.gradients(eager, w)
    for backend in ("numpy", "python"):
        value, gradient = tg.compile(f, [w], backend=backend).value_and_grad([1.3])
        assert value == pytest.approx(eager.data, rel=1e-13)
        assert list(gradient) == pytest.approx([wanted], rel=1e-13)


def test_fractions_stay_exact() -> None:
    x = Value(Fraction(1, 3))
    y = (x * 2 + 1) ** 3 / (x - 5) - abs(x) * 7
    y.backward()
    derivative = lambda t: (6 * (2 * t + 1) ** 2 * (t - 5) - (2 * t + 1) ** 3) / (t - 5) ** 2 - 7  # noqa: E731 - a formula
    assert y.data == Fraction(5, 3) ** 3 / Fraction(-14, 3) - Fraction(7, 3)
    assert x.grad == derivative(Fraction(1, 3))
    assert type(x.grad) is Fraction
    x.grad = 0.0  # as zero_grad does
    y.backward()
    assert type(x.grad) is Fraction


@pytest.mark.parametrize("exponent", [2, 2.0])
def test_a_fraction_to_a_whole_power_is_a_fraction(exponent: float) -> None:
    x = Value(Fraction(-2, 3))
    y = x**exponent
    y.backward()
    assert repr((y.data, x.grad)) == repr((Fraction(4, 9), Fraction(-4, 3)))


def test_mpmath_numbers_keep_their_digits() -> None:
    with mpmath.workdps(50):
        x = Value(mpmath.mpf(1) / 3)
        y = tg.tanh(x) * tg.gelu(x) + tg.erf(x)
        y.backward()
        exact = mpmath.diff(lambda t: mpmath.tanh(t) * t * mpmath.ncdf(t) + mpmath.erf(t), mpmath.mpf(1) / 3)
        assert abs(x.grad - exact) < mpmath.mpf(10) ** -45


def test_a_changed_leaf_is_noticed_when_asked() -> None:
    a, b = Value(2.0, label="a"), Value(3.0)
    d = a * b
    d.label = "d"
    y = d + 1
    y.backward(check=True)
    assert a.grad == 3.0
    a.data = 100.0
    with pytest.raises(RuntimeError) as caught:
        y.backward(check=True)
    assert str(caught.value) == (
        "a was changed after the forward pass: the result was computed from other numbers. "
        "Compute it again before backward()."
    )
    assert a.grad == 3.0


def test_the_leaf_that_was_changed_is_named() -> None:
    a, b, c = Value(2.0, label="a"), Value(3.0, label="b"), Value(4.0, label="c")
    y = a * a * a
    a.data = 5.0
    with pytest.raises(RuntimeError, match=r"^a was changed after the forward pass: "):
        y.backward(check=True)
    y = a * b + b * c
    a.data = 6.0
    with pytest.raises(RuntimeError, match=r"^a was changed"):  # b is used by b * c too, which is as it was
        y.backward(check=True)
    y = a * b
    a.data = 7.0
    with pytest.raises(RuntimeError, match=r"^a or b was changed"):
        y.backward(check=True)
    product = a * b
    product.label = "p"
    y = product * 2
    product.data = 1.0
    with pytest.raises(RuntimeError, match=r"^p was changed"):  # the leaves still give y
        y.backward(check=True)
    product = a.exp() * b.exp()
    product.data = 1.0
    with pytest.raises(RuntimeError, match=r"^Value\(data=1\.0, grad=0\.0\) was changed"):
        (product * 2).backward(check=True)


@pytest.mark.parametrize(
    "arguments",
    [(2.0, ("x",)), (0.46, ("x",), "tanh"), (2.0, "", "tanh"), (2.0, ("x", "y"), (1.0, 2.0)), (2.0, None)],
)
def test_a_node_is_not_made_by_the_constructor(arguments: tuple[object, ...]) -> None:
    x = Value(1.0)
    given = [tuple(x for _ in part) if isinstance(part, tuple) and "x" in part else part for part in arguments]
    with pytest.raises(TypeError) as caught:
        Value(*given)
    said, advice = str(caught.value).split(" For an operation ")
    assert said.startswith("Value takes a number and a label, got (")
    assert advice == (
        "of your own, declare a rule: tg.rule. Value(data, children, ...), as in micrograd and microgpt, is "
        "tinygrad_edu.micrograd.engine.Value."
    )


def test_a_changed_leaf_is_not_asked_for_unless_told_to() -> None:
    x = Value(2.0)
    y = x * x
    x.data = 5.0
    y.backward()
    assert x.grad == 10.0  # the slope at the number that is there now


def test_a_leaf_changed_to_nan_is_noticed() -> None:
    for before, after in [(2.0, math.nan), (math.nan, 2.0)]:
        x = Value(before)
        y = x * 3
        x.data = after
        with pytest.raises(
            RuntimeError,
            match=r"^Value\(data=.* was changed after the forward pass: .*\. Compute it again",
        ):
            y.backward(check=True)


def test_a_result_has_no_label() -> None:
    x, y = Value(2.0, label="x"), Value(3.0, label="y")
    for result in (
        x + y,
        x - y,
        x * y,
        x / y,
        x**y,
        x**2,
        -x,
        abs(x),
        x.exp(),
        x.log(),
        1 - x,
        tg.max(x, y),
        x + 1,
    ):
        assert result.label == ""
        assert [parent.label for parent in result.parents] in (["x"], ["x", "y"], ["", "x"], ["x", ""])


def test_check_accepts_nan() -> None:
    y = Value(math.nan) * 2
    y.backward(check=True)


def test_a_failing_rule_leaves_the_gradients_alone() -> None:
    def broken_backward(upstream, out, x):
        raise RuntimeError("no slope today")

    @tg.rule(name="broken_in_test", backward=broken_backward)
    def broken(x):
        return x + 1

    try:
        x = Value(2.0)
        (x * 3).backward()
        with pytest.raises(RuntimeError, match="no slope today") as caught:
            (broken(x) * x).backward()
        assert x.grad == 3.0
        assert "broken_in_test" in caught.value.__notes__[0]
    finally:
        del tg.RULES["broken_in_test"]


def test_a_watcher_is_told_the_gradients_from_before() -> None:
    told: list[list[float]] = []
    w = Value(3.0)
    (w * w).backward()
    watchers[-1] = told.append
    try:
        (w * w).backward()
    finally:
        del watchers[-1]
    assert (told, w.grad) == ([[6.0]], 12.0)


@pytest.mark.parametrize("shares", [(1.0, 2.0), 1.0, None, ()])
def test_a_wrong_number_of_shares_is_named(shares: object) -> None:
    @tg.rule(name="shares_in_test", backward=lambda upstream, out, x: shares)
    def wrong(x):
        return x + 1

    try:
        with pytest.raises(TypeError, match=r"backward of shares_in_test must return 1 share\(s\)"):
            wrong(Value(1.0)).backward()
    finally:
        del tg.RULES["shares_in_test"]


@pytest.mark.parametrize("kind", [list, np.array])
def test_the_only_share_may_stand_in_a_list_or_an_array(kind: type) -> None:
    @tg.rule(name="kind_in_test", backward=lambda upstream, out, x: kind([upstream * 3.0]))
    def thrice(x):
        return 3 * x

    try:
        x = Value(2.0)
        thrice(x).backward()
        assert repr(x.grad) == "3.0"
    finally:
        del tg.RULES["kind_in_test"]


def test_the_shares_may_be_a_numpy_array() -> None:
    @tg.rule(name="array_in_test", backward=lambda upstream, out, *x: upstream * np.array([x[1] * x[2], 0.5, 2.0]))
    def three(x, y, z):
        return x * y * z

    try:
        inputs = [Value(2.0), Value(3.0), Value(4.0)]
        three(*inputs).backward()
        assert [x.grad for x in inputs] == [12.0, 0.5, 2.0]
        assert all(type(x.grad) is float for x in inputs)
        for wrong in (np.ones(2), np.ones((3, 1)), np.ones(())):
            with pytest.raises(TypeError, match=r"backward of array_in_test must return 3 share\(s\)"):
                three.counted(wrong, 3)
    finally:
        del tg.RULES["array_in_test"]


def test_a_forward_may_return_a_numpy_number() -> None:
    @tg.rule(name="numpy_in_test", backward=lambda upstream, out, x: (upstream,))
    def shifted(x):
        return np.float64(x) + 1

    try:
        assert type(shifted(Value(2.0)).data) is float
    finally:
        del tg.RULES["numpy_in_test"]


@pytest.mark.parametrize("result", [None, "1", 1j, [1.0]])
def test_a_forward_without_a_number_is_named(result: object) -> None:
    @tg.rule(name="forward_in_test", backward=lambda upstream, out, x: (upstream,))
    def wrong(x):
        return result

    try:
        with pytest.raises(TypeError, match=r"forward of Rule\('forward_in_test'\) must return one real number"):
            wrong(Value(1.0))
    finally:
        del tg.RULES["forward_in_test"]


def test_an_error_shows_the_parameters_of_the_rule() -> None:
    for exponent, kind in ((0.5, ValueError), (Fraction(1, 2), ValueError), (-1.5, ValueError)):
        with pytest.raises(
            kind, match=re.escape(f"pow_n(Value(data=-2.0, grad=0.0), exponent={exponent!r}): a neg")
        ):
            Value(-2.0) ** exponent
    with pytest.raises(ZeroDivisionError, match=r"grad=0.0\), exponent=-1\): 0 has no negative power"):
        Value(0.0) ** -1
    with pytest.raises(ValueError, match=r"log\(Value\(data=-2.0, grad=0.0\)\): "):
        Value(-2.0).log()


def test_our_rules_cannot_be_replaced_by_accident() -> None:
    with pytest.raises(ValueError, match="'tanh' exists already"):
        tg.rule(math.tanh, backward=lambda upstream, out, x: (upstream,))


def test_copies_are_independent_and_keep_sharing() -> None:
    a = Value(2.0, label="a")
    b = a * a
    y = b + b.exp()
    y.backward()
    for twin_a, twin_y in [copy.deepcopy((a, y)), pickle.loads(pickle.dumps((a, y)))]:
        assert (twin_a.label, twin_a.grad, twin_y.data) == ("a", a.grad, y.data)
        twin_a.grad = 0.0
        twin_y.backward()
        assert twin_a.grad == a.grad
        assert len(tg.topological_order(twin_y)) == len(tg.topological_order(y))
        assert twin_y.parents[0] is twin_y.parents[1].parents[0]
    shallow = copy.copy(y)
    assert shallow is not y
    assert shallow.parents == y.parents


def test_pickle_keeps_sharing_whatever_comes_first() -> None:
    a = Value(2.0)
    b = a * 3
    c = b + a.leaky_relu(alpha=0.2) ** 2.5
    for order in ([a, b, c], [c, b, a], [b, c, a]):
        twins = dict(zip(map(id, order), pickle.loads(pickle.dumps(order)), strict=True))
        ta, tb, tc = twins[id(a)], twins[id(b)], twins[id(c)]
        assert tc.parents[0] is tb
        assert tb.parents[0] is ta
        assert tc.parents[1].rule is c.parents[1].rule


def test_a_pickle_of_an_unknown_rule_says_what_to_import() -> None:
    @tg.rule(name="gone_in_test", backward=lambda upstream, out, x: (upstream,))
    def gone(x):
        return x + 1

    data = pickle.dumps(gone(Value(1.0)))
    del tg.RULES["gone_in_test"]
    with pytest.raises(LookupError, match="'gone_in_test': import the module that declares it"):
        pickle.loads(data)


def test_in_place_operators_rebind() -> None:
    x = Value(1.0)
    y = x
    y += 2
    assert (x.data, y.data) == (1.0, 3.0)
    x.data -= 0.5
    assert x.data == 0.5


def test_functions_take_plain_numbers_and_arrays_too() -> None:
    assert tg.tanh(0.5) == math.tanh(0.5)
    assert tg.exp(1) == math.e
    assert tg.max(1, 5, 3) == 5
    assert tg.sum([0.1] * 10) == 1.0
    np.testing.assert_array_equal(tg.relu(np.array([-1.0, 2.0])), [0.0, 2.0])
    assert tg.where(True, 1.0, 2.0) == 1.0
    assert tg.leaky_relu(-1.0, alpha=0.5) == -0.5


def test_where_sends_the_gradient_to_the_side_it_took() -> None:
    a, b = Value(2.0), Value(3.0)
    y = tg.where(a > b, a * 10, b * 20)
    y.backward()
    assert (y.data, a.grad, b.grad) == (60.0, 0.0, 20.0)
    tg.where(np.bool_(True), a, b).backward()
    tg.where(Value(1.0), a, 0).backward()
    assert (a.grad, b.grad) == (2.0, 20.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: tg.tanh(x, x), "tanh takes 1 input"),
        (lambda x: tg.max(), "max takes one or more input"),
        (lambda x: tg.leaky_relu(x, beta=1), "leaky_relu has no parameter"),
        (lambda x: tg.exp("1"), "exp takes real numbers"),
    ],
)
def test_wrong_calls_of_a_rule(call, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        call(Value(1.0))


def test_dot_needs_one_length() -> None:
    with pytest.raises(ValueError, match="2 and 1 numbers"):
        tg.dot([1.0, 2.0], [Value(3.0)])


def test_take_picks_an_entry() -> None:
    xs = [Value(1.0), Value(2.0), Value(3.0)]
    assert tg.take(xs, 2) is xs[2]
    assert tg.take([[1.0], [2.0]], np.int64(0)) == [1.0]
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"take has the indices 0 to 2, got {index}."):
            tg.take(xs, index)
    for wrong in (1.0, "1", None, Value(1.0)):
        with pytest.raises(TypeError, match="take needs a plain whole number as the index, got"):
            tg.take(xs, wrong)
