"""A wrong program does not get through: faults in each stage of the compiler are seen by the comparison."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.compiler import differentiate, lower
from tinygrad_edu.compiler.backends import numpy_operations

X, Y = np.random.default_rng(0).normal(size=(4, 3)), np.eye(2)[[0, 1, 1, 0]]


def model_and_step(**options: Any) -> tuple[nn.MLP, Any]:
    model = nn.MLP(3, [4, 2], "tanh", rng=0)
    return model, tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), **options)


def expected() -> np.ndarray:
    model, _ = model_and_step()
    tg.sum([nn.cross_entropy(model(x), y) for x, y in zip(X.tolist(), Y.tolist(), strict=True)]).backward(0.25)
    return np.array([p.grad for p in model.parameters()])


def terms_reversed(original: Callable[..., Any]) -> Callable[..., Any]:
    def grid(self: Any, a: Any, b: Any) -> Any:
        return original(self, lower.Read(a.array, a.index[:, ::-1]), b)

    return grid


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a function for another": lambda patch: patch.setitem(
        numpy_operations.OPERATIONS, "tanh", numpy_operations.Ufunc("sin")
    ),
    "the sum over the batch forgotten": lambda patch: patch.setattr(
        numpy_operations.Reduce,
        "into",
        lambda self, x, to, statements: statements.write(f"{to}[...] = {statements.operand(x.args[0])}[0]"),
    ),
    "a bias that gets no gradient": lambda patch: patch.setattr(
        differentiate.ArrayProgram, "_through_part", lambda self, array, part, share: None
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_program_is_refused(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    FAULTS[fault](monkeypatch)
    model, step = model_and_step()
    before = [(p.data, p.grad) for p in model.parameters()]
    with pytest.raises(tg.CompileError, match="disagrees"):
        step.value_and_grad(X, Y)
    assert [(p.data, p.grad) for p in model.parameters()] == before


def test_without_the_comparison_it_would_get_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(numpy_operations.OPERATIONS, "tanh", numpy_operations.Ufunc("sin"))
    _, step = model_and_step(verify=False)
    assert abs(step.value_and_grad(X, Y)[1] - expected()).max() > 1e-3


WRONG_PRODUCTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "terms in the wrong order": lambda patch: patch.setattr(
        lower._Lowering, "_grid", terms_reversed(lower._Lowering._grid)
    ),
    "a factor not transposed": lambda patch: patch.setattr(numpy_operations, "transposed", lambda text: text),
}


@pytest.mark.parametrize("fault", WRONG_PRODUCTS)
def test_a_wrong_matrix_product_is_replaced_with_a_warning(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    WRONG_PRODUCTS[fault](monkeypatch)
    _, step = model_and_step()
    with pytest.warns(UserWarning, match="report"):
        _, gradient = step.value_and_grad(X, Y)
    np.testing.assert_allclose(gradient, expected(), rtol=1e-12, atol=1e-14)
    assert step.groups.title.endswith("0 matrix products")
    step.value_and_grad(X, Y)  # and no second warning


def test_zeros_hide_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(numpy_operations.OPERATIONS, "sin", numpy_operations.Ufunc("sinh"))  # alike at 0
    w = Value(1.0, label="w")
    with pytest.raises(tg.CompileError):
        tg.compile(lambda x: tg.sin(w * x), [w]).value_and_grad([0.0])


def test_a_function_that_is_another_every_time_is_refused() -> None:
    w, calls = Value(1.0, label="w"), iter(range(1, 100))
    with pytest.raises(tg.CompileError, match="same numbers whenever it is called"):
        tg.compile(lambda x: w * x * next(calls), [w]).value_and_grad([1.0, 2.0])


def test_a_function_that_raises_at_the_first_examples_is_not_called_for_ever() -> None:
    w, calls = Value(1.0, label="w"), []

    def loss(x: Any) -> Any:
        calls.append(x)
        return tg.log(w * x)

    step = tg.compile(loss, [w])
    for _ in range(10):
        step.value_and_grad([-5.0, -6.0])
    assert len(calls) < 12


def test_the_comparison_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _, step = model_and_step()
    step.value_and_grad(X, Y)
    monkeypatch.setattr("tinygrad_edu.compiler.compiled.disagreement", None)
    step.value_and_grad(X, Y)
    step.value_and_grad(X[:2], Y[:2])
