"""from_jax and from_torch: the derivatives of other libraries as rules. Skipped without these libraries."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from mpmath import mpf

from tinygrad_edu import Rule, Value, testing
from tinygrad_edu import elementary as e
from tinygrad_edu.testing import RuleMismatch, check_rule, from_jax, from_torch
from tinygrad_edu.testing.check.libraries import _PRIMITIVES
from tinygrad_edu.testing.check.reference import Reference

pytestmark = pytest.mark.slow


@pytest.fixture
def jax() -> Any:
    return pytest.importorskip("jax")


@pytest.fixture
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture
def prove_rule() -> Any:
    pytest.importorskip("flint")
    return testing.prove_rule


def told(rule: Rule, kind: str, words: str = ".", **options: Any) -> None:
    """`check_rule` says that the rule is wrong, in this way."""
    with pytest.raises(RuleMismatch, match=words) as caught:
        check_rule(rule, **options)
    assert caught.value.kind == kind


def test_what_other_libraries_lose_is_told(jax: Any, torch: Any) -> None:
    told(from_jax(jax.numpy.expm1), "rounding", r"expm1\(x\) \+ 1 cancels")
    rule = from_torch(torch.sigmoid, e.sigmoid)
    assert rule.name == "torch_sigmoid"
    told(rule, "rounding")
    softmax = jax.custom_vjp(lambda v: jax.nn.softmax(v))
    softmax.defvjp(lambda v: (jax.nn.softmax(v),) * 2, lambda s, u: (u * s - 1.5 * s * (u * s).sum(),))
    told(from_jax(softmax, 3, 1), "wrong formula", budget=4)


ERRORS: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda jax: from_jax(jax.scipy.special.gammaln).forward(mpf(2)), NotImplementedError, "lgamma' is not known"),
    (lambda jax: from_jax(lambda *xs: sum(xs)), TypeError, "any number of inputs: say how many by n_inputs="),
    (lambda jax: from_jax(jax.nn.softmax), TypeError, "does not take 1 number.*needs component="),
    (lambda jax: from_jax(lambda x: jax.numpy.stack([x, x])), TypeError, r"returns an array of shape \(2,\)"),
    (lambda jax: from_jax(jax.nn.softmax, component=0), TypeError, "n_inputs= says how many numbers it has"),
    (lambda jax: from_jax(jax.numpy.tanh, 3), TypeError, "does not take 3 number"),
]


PRIMITIVES: list[tuple[str, tuple[Any, ...], Any]] = [
    *(("square", (3,), 9), ("rsqrt", (4.0,), 0.5), ("sub", (3, 1), 2), ("add_any", (3, 1), 4)),
    *(("real", (3,), 3), ("max", (-math.inf, 2), 2), ("max", (3.0, 2), 3), ("max", (2, 3), 3), ("min", (2, 3), 2)),
    *(("clamp", (0, 5, 3), 3), ("clamp", (0, -1, 3), 0), ("eq", (2, 2), 1), ("ne", (2, 3), 1), ("ne", (2, 2), 0)),
    *(("ne", (True, False), True), ("ne", (True, True), False), ("zeros_like", (0,), 0), ("zeros_like", (3,), 0)),
    *(("and", (1, 0), 0), ("and", (0, 1), 0), ("or", (1, 0), 1), ("or", (0, 1), 1), ("not", (1,), False)),
    *(("is_finite", (math.inf,), False), ("is_finite", (Value(2),), True), ("select_n", (1, 4, 5), 5)),
    *(("integer_pow", (3, 3), 27), ("integer_pow", (2.0, -2), 0.25), ("integer_pow", (3, 0), 1)),
]


@pytest.mark.parametrize(("name", "numbers", "result"), PRIMITIVES)
def test_a_primitive_of_jax(name: str, numbers: tuple[Any, ...], result: Any) -> None:
    assert _PRIMITIVES[name](*numbers) == result


def test_inputs_of_jax_are_counted_and_kinks_declared_and_errors_are_named(jax: Any) -> None:
    assert from_jax(jax.numpy.logaddexp).n_inputs == 2
    assert from_jax(jax.nn.relu, kinks=(0.0,)).kinks == (0.0,)
    for call, error, message in ERRORS:
        with pytest.raises(error, match=message):
            call(jax)


def test_a_function_of_jax_is_a_rule(jax: Any) -> None:
    rule = from_jax(jax.numpy.tanh)
    assert (rule.name, rule.n_inputs) == ("jax_tanh", 1)
    assert rule.forward(0.5) == pytest.approx(math.tanh(0.5), rel=1e-15)
    assert rule.shares(2.0, rule.forward(0.5), 0.5)[0] == pytest.approx(2 / math.cosh(0.5) ** 2, rel=1e-14)


def test_a_formula_of_jax_is_certified(jax: Any, prove_rule: Any) -> None:
    certificate = prove_rule(from_jax(jax.numpy.tanh), domain=(-0.5, 0.5))
    assert {piece.status for piece in certificate.formula} == {"identity"}
    assert any("assumed, and not stated: XLA" in text for text in certificate.rests_on)


def test_a_bound_that_jax_breaks_is_none(jax: Any, prove_rule: Any) -> None:
    rule = from_jax(jax.numpy.tanh)
    assert prove_rule(rule, domain=(0.25, 0.5)).ok
    run = rule.forward
    rule.forward = lambda x: run(x) * (1 + 1e-14) if isinstance(x, float) else run(x)  # a worse library
    certificate = prove_rule(rule, domain=(0.25, 0.5))
    assert not certificate.ok
    assert "XLA's functions are worse than assumed: at " in certificate.undecided[0]


def test_where_jax_keeps_no_digit_is_undecided_and_shown(jax: Any, prove_rule: Any) -> None:
    certificate = prove_rule(from_jax(jax.numpy.expm1), domain=(-50, -30))
    assert certificate.formula_ok
    assert not certificate.ok
    (text,) = certificate.undecided
    assert text.startswith("-50.0 to -35.6")
    assert not prove_rule(from_jax(jax.numpy.expm1), domain=(-38, -37.5)).ok  # 0 for 4e-17
    assert "no digit of the slope is right at -" in text
    assert "  undecided" in repr(certificate).splitlines()
    softplus = prove_rule(from_jax(jax.nn.softplus), domain=(-30, 30))  # it compares with inf
    assert softplus.ok
    erf = prove_rule(from_jax(jax.scipy.special.erf), domain=(-1, 1))  # its constant is a float
    assert {piece.status for piece in erf.formula} == {"bounded"}


def test_a_wrong_custom_derivative_is_refuted(jax: Any, prove_rule: Any) -> None:
    @jax.custom_jvp
    def cube(x: Any) -> Any:
        return x * x * x

    cube.defjvp(lambda primals, tangents: (cube(primals[0]), 2 * primals[0] ** 2 * tangents[0]))
    with pytest.raises(AssertionError, match="is refuted"):
        prove_rule(from_jax(cube), domain=(-3, 3))
    told(from_jax(cube), "wrong formula")


def test_two_inputs_of_jax(jax: Any, prove_rule: Any) -> None:
    rule = from_jax(lambda x, y: x * x / (1 + y * y), n_inputs=2)
    assert rule.shares(1.0, rule.forward(3.0, 1.0), 3.0, 1.0) == pytest.approx((3.0, -4.5))
    assert prove_rule(rule).ok


def test_references_are_right_in_the_far_tail(jax: Any) -> None:
    rule = from_jax(jax.nn.gelu)
    assert float(Reference(rule.forward).value((-19.5,))) == pytest.approx(-9.915e-243, rel=1e-3)
    assert float(Reference(rule.forward).exact_slopes((-19.5,))[0]) != 0


@pytest.mark.parametrize("factor", [1, -2])
def test_an_autograd_function_with_a_mistake(torch: Any, factor: int) -> None:
    class Square(torch.autograd.Function):  # type: ignore[misc]  # torch has no types here
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> Any:
            return factor * upstream * ctx.saved_tensors[0]

    told(from_torch(Square, lambda x: x * x), "wrong formula", "the slope for x")  # and not lost digits
    with pytest.raises(TypeError, match="takes floats only: give from_torch a formula"):
        from_torch(Square).forward(mpf(2))


# --- Arrays ---------------------------------------------------------------------------------------------------
def layer_norm(v: Any) -> Any:
    v = v - v.mean()
    return v / ((v * v).mean() + 1e-5) ** 0.5


def mathematics_of(rule: Rule) -> str:
    """The verdict on the formula: where inputs are nearly equal, floats lose digits."""
    try:
        return check_rule(rule, domain=(-5, 5), budget=4).mathematics
    except RuleMismatch as error:
        return str(error.report.mathematics)


def test_softmax_is_a_rule_for_each_component_and_layer_norm_is_right(jax: Any, prove_rule: Any) -> None:
    rule = from_jax(jax.nn.softmax, 3, 1)
    out = rule.forward(0.1, 0.2, 0.4)
    assert out == pytest.approx(math.exp(0.2) / sum(map(math.exp, (0.1, 0.2, 0.4))))
    slopes = rule.shares(1.0, out, 0.1, 0.2, 0.4)
    assert slopes[1] == pytest.approx(out * (1 - out))
    assert sum(slopes) == pytest.approx(0, abs=1e-16)
    assert mathematics_of(rule) == "right"
    assert mathematics_of(from_jax(layer_norm, 3, 0)) == "right"
    certificate = prove_rule(from_jax(jax.nn.softmax, 2, 0), budget=5)
    assert {piece.status for piece in certificate.formula} == {"identity"}


def test_exact_gelu_is_tested(jax: Any, prove_rule: Any) -> None:
    def gelu(x: Any) -> Any:
        return jax.nn.gelu(x, approximate=False)

    assert check_rule(from_jax(gelu), domain=(-20, 20), budget=6).mathematics == "right"
    for budget in (1, 3):  # the hard points take longer
        assert not prove_rule(from_jax(gelu), budget=budget)  # undecided: its constant is a float
