"""Data as people have it - frames, series, tensors, arrays of any library - in fit, evaluate, compiled steps."""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim

X = np.random.default_rng(0).integers(-8, 8, (120, 3)) / 4  # the same in float32
SIGNS = np.where(X @ [1.0, -2.0, 0.5] > 0, 1, -1)


class Frame:
    """What all frames share: columns by name, an array of numbers or objects, and iteration over the names."""

    def __init__(self, array: Any, columns: tuple[str, ...] = ("a", "b", "c")):
        self.array, self.columns = np.asarray(array), columns
        self.to_numpy = lambda: self.array

    def __len__(self) -> int:
        return len(self.array)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.columns)


class Keeping(list[Any]):
    """A tensor that keeps gradients: NumPy may not read it."""

    def __array__(self, *options: Any, **named: Any) -> Any:
        raise RuntimeError("use detach()")

    def tolist(self) -> Any:
        return np.array(list(self)).tolist()


def pandas(frame: Callable[[Any], Any], series: Callable[[Any], Any]) -> tuple[Any, Any]:
    library = pytest.importorskip("pandas")
    return frame(library.DataFrame(X, columns=list("abc"))), series(library.Series(SIGNS, index=range(7, 127)))


def torch(rows: Callable[[Any], Any]) -> tuple[Any, Any]:
    library = pytest.importorskip("torch")
    return rows(library.tensor(X)), library.tensor(SIGNS)


FORMS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "frame": lambda: (Frame(X), Frame(SIGNS).array),
    "frame of objects": lambda: (Frame(X.astype(object)), list(SIGNS)),
    "tensor": lambda: (Keeping(X), Keeping(SIGNS)),
    "list of arrays": lambda: (list(X), tuple(SIGNS.tolist())),
    "pandas": lambda: pandas(lambda frame: frame, lambda series: series),
    "pandas objects": lambda: pandas(lambda frame: frame.astype(object), lambda series: series.astype("Int64")),
    "pandas rows": lambda: pandas(lambda frame: [row for _, row in frame.iterrows()], list),
    "torch": lambda: torch(lambda tensor: tensor),
    "torch, gradients kept": lambda: torch(lambda tensor: tensor.requires_grad_()),
    "torch, bfloat16": lambda: torch(lambda tensor: tensor.bfloat16()),
    "torch rows": lambda: torch(list),
    "jax": lambda: tuple(map(pytest.importorskip("jax.numpy").asarray, (X, SIGNS))),
}


def trained(rows: Any, targets: Any, compiled: bool) -> list[Any]:
    model = nn.MLP(3, [4, 1], "tanh", rng=0)
    options = {"validation": (rows, targets), "compiled": compiled, "progress": False}
    history = tg.fit(model, nn.hinge, (rows, targets), optim.SGD(model.parameters(), lr=0.1), 2, **options)
    assert history.compiled is compiled, history.eager_because
    again = tg.evaluate(model, nn.hinge, (rows, targets), compiled=compiled)
    return [*history["loss"], *history["validation accuracy"], *again, *model.state_dict().values()]


@functools.cache
def of_arrays(compiled: bool) -> list[Any]:
    return trained(X, SIGNS, compiled)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("compiled", [True, False])
def test_fit_and_evaluate_take_their_numbers(form: str, compiled: bool) -> None:
    assert trained(*FORMS[form](), compiled) == of_arrays(compiled)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("backend", ["numpy", "python"])
def test_a_compiled_step_takes_their_numbers(form: str, backend: Any) -> None:
    rows, targets = FORMS[form]()
    w = [Value(1.0), Value(2.0), Value(3.0)]
    step = tg.compile(lambda x, t: (tg.dot(w, x) - t) ** 2, w, backend=backend)
    value, gradient = step.value_and_grad(X, SIGNS)
    same, slopes = step.value_and_grad(rows, targets)
    assert (same, list(slopes)) == (value, list(gradient))
    assert list(step.predict(rows, targets)) == list(step.predict(X, SIGNS))


def test_results_are_arrays_that_other_libraries_share() -> None:
    torch = pytest.importorskip("torch")
    w = [Value(1.0), Value(2.0), Value(3.0)]
    step = tg.compile(lambda x, t: (tg.dot(w, x) - t) ** 2, w)
    with step.arrays() as theta:
        shared = torch.from_numpy(theta)
        shared -= 0.1 * torch.from_numpy(step.value_and_grad(torch.tensor(X), torch.tensor(SIGNS))[1])
        moved = shared.tolist()
    assert [p.data for p in w] == moved != [1.0, 2.0, 3.0]


WORDS = Frame(np.array([[0.5, "red"], [1.0, "blue"]], object), ("size", "colour"))
TOLD = r"The column 'colour' holds 'red' \(str\), which is not a number: convert it, or leave it out\."


def test_a_column_of_words_is_named() -> None:
    model = nn.MLP(2, [1], rng=0)
    with pytest.raises(TypeError, match=TOLD):
        tg.fit(model, nn.hinge, (WORDS, [1, -1]), optim.SGD(model.parameters()))
    with pytest.raises(TypeError, match=TOLD):
        tg.evaluate(model, nn.hinge, (WORDS, [1, -1]))
    for backend in ("numpy", "python"):
        with pytest.raises(TypeError, match=TOLD):
            tg.compile(lambda x: model(x) ** 2, model, backend=backend).value_and_grad(WORDS)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"data is a pair .*: write \(frame\[features\], frame\[target\]\)\."):
        tg.fit(model, nn.hinge, WORDS, optim.SGD(model.parameters()))


def own(output: Any, target: Any) -> Any:
    return (output - target) ** 2


MODEL = nn.MLP(2, [1], rng=0)
CALLED = r": fit\(model, loss, data, optimizer\) computes loss\(model\(x\), y\) for each row x and target y\."


@pytest.mark.parametrize(
    ("model", "loss", "message"),
    [
        (lambda x: x, own, f"model is an nn.Module, got <function .*{CALLED}"),
        (own, MODEL.parameters(), f"loss is a function such as nn.hinge, got .*{CALLED}"),
        (MODEL, lambda x: x, rf"loss takes an output and a target \(too many positional .*\){CALLED}"),
        (MODEL, lambda x, y, z: x, rf"loss takes an output and a target \(missing a required .*'z'\){CALLED}"),
        (MODEL, lambda o, t: None, r"loss must return one Value, the loss of its .*, got None \(NoneType\)\."),
        (MODEL, lambda o, t: [o], r"loss must return one Value, .* got \[Value.*\] \(list\)\."),
        (MODEL, lambda o, t: o.data, r"loss must return one Value, .* \(float\)\."),
        (MODEL, lambda x, t: own(MODEL(x), t), "A neuron takes a list of 2 numbers, got Value"),
    ],
)
def test_fit_says_what_it_needs_of_a_loss_of_ones_own(model: Any, loss: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message) as caught:
        tg.fit(model, loss, ([[0.0, 1.0]], [1.0]), optim.SGD(MODEL.parameters()), progress=False)
    notes = getattr(caught.value, "__notes__", [])
    assert notes == [
        "It was raised in loss(output, target): its first argument is what the model returns."
    ] * message.startswith("A neuron")


def test_train_of_a_step_says_how_it_is_meant() -> None:
    w, use = [Value(1.0)], r"with step\.train\(optimizer\) as update: update\(X, y\)\.$"
    step, sgd = tg.compile(lambda x: w[0] * x, w), optim.SGD(w)
    for wrong in ((sgd, [1.0]), (sgd, X, SIGNS), (X, SIGNS), (w,)):
        with pytest.raises(TypeError, match=use):
            step.train(*wrong)


def test_a_series_has_no_derivative_in_kind() -> None:
    for frame in (Frame([1.0, 2.0]), Frame([[1.0], [2.0]])):
        with pytest.raises(TypeError, match=r"\(Frame\)\. Pass x.to_numpy\(\) instead."):
            tg.grad(lambda x: x[0] * x[1])(frame)
