"""Losses: values and gradients against closed forms, one example or a batch, and far from zero."""

import functools
import gc
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import refused

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.testing import gradcheck

P, T = [1.5, -0.25, 4.0, -3.0], [1.0, 0.5, 0.5, 1.0]
SIGNS = [1, -1, -1, 1]
ROWS, CLASSES = [[1.0, -2.0, 0.5], [0.0, 3.0, -1.0]], [2, 0]
SHARES = [[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]]


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def softmax(z: np.ndarray) -> np.ndarray:
    return np.exp(z) / np.exp(z).sum(-1, keepdims=True)


p, t, s, rows = map(np.array, (P, T, SIGNS, ROWS))
d, shares, hot = p - t, softmax(rows), np.eye(3)
huber_of_2, binary = functools.partial(nn.huber, delta=2.0), nn.binary_cross_entropy_with_logits
binary_losses = -t * np.log(sigmoid(p)) - (1 - t) * np.log(1 - sigmoid(p))
half, halves = ([[0.0, 0.5, 0.0], [0.0] * 3], [(shares - hot[1])[0] / 2, np.zeros(3)])  # half a target
far = np.where(abs(d) <= 2, d**2 / 2, 2 * (abs(d) - 1))
# (loss, predictions, targets, the loss of each, its gradient)
CASES: dict[str, tuple[Any, Any, Any, Any, Any]] = {
    "mse": (nn.mse, P, T, d**2, 2 * d),
    "mae": (nn.mae, P, T, abs(d), np.sign(d)),
    "huber": (nn.huber, P, T, np.where(abs(d) <= 1, d**2 / 2, abs(d) - 0.5), np.clip(d, -1, 1)),
    "huber of 2": (huber_of_2, P, T, far, np.clip(d, -2, 2)),
    "hinge": (nn.hinge, P, SIGNS, np.maximum(0, 1 - s * p), np.where(s * p < 1, -s, 0)),
    "binary": (binary, P, T, binary_losses, sigmoid(p) - t),
    "classes": (nn.cross_entropy, ROWS, CLASSES, -np.log(shares)[[0, 1], CLASSES], shares - hot[CLASSES]),
    "shares": (nn.cross_entropy, ROWS, SHARES, -(SHARES * np.log(shares)).sum(-1), shares - SHARES),
    "weights": (nn.cross_entropy, ROWS, half, [-np.log(shares)[0, 1] / 2, 0.0], halves),
    "nll": (nn.nll, ROWS, CLASSES, -rows[[0, 1], CLASSES], -hot[CLASSES]),
    "nll of shares": (nn.nll, ROWS, SHARES, -(SHARES * rows).sum(-1), -np.array(SHARES)),
}
ELEMENTWISE = ["mse", "mae", "huber", "hinge", "binary"]


def as_values(x: Any) -> Any:
    return [as_values(item) for item in x] if isinstance(x, list) else Value(x)


def numbers(x: Any, of: str = "data") -> Any:
    return [numbers(item, of) for item in x] if isinstance(x, list) else getattr(x, of)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_value_and_gradient_are_the_closed_form(name: str, reduction: str) -> None:
    loss, predictions, targets, each, slopes = CASES[name]
    values = as_values(predictions)
    result = loss(values, targets, reduction=reduction)
    n = len(predictions) if reduction == "mean" else 1
    if reduction == "none":
        np.testing.assert_allclose(numbers(result), each, rtol=1e-13, atol=1e-15)
        for one in result:
            one.backward()
    else:
        assert isinstance(result, Value)
        assert result.data == pytest.approx(np.sum(each) / n, rel=1e-13)
        result.backward()
    np.testing.assert_allclose(numbers(values, "grad"), np.asarray(slopes) / n, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", CASES)
def test_the_first_of_a_batch_is_one_example(name: str) -> None:
    loss, predictions, targets, each, _ = CASES[name]
    for reduction in ("mean", "sum", "none"):
        one = loss(as_values(predictions[0]), targets[0], reduction=reduction)
        assert isinstance(one, Value)
        assert one.data == pytest.approx(each[0], rel=1e-13)
    assert loss(as_values(predictions[:1]), targets[:1]).data == pytest.approx(each[0], rel=1e-13)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_rows_of_numbers(name: str) -> None:
    loss, predictions, targets, _, _ = CASES[name]
    nested = [predictions[:2], predictions[2:]], [targets[:2], targets[2:]]
    assert loss(*nested) == loss(predictions, targets)
    assert loss(*nested, reduction="sum") == loss(predictions, targets, reduction="sum")
    flat = loss(predictions, targets, reduction="none")
    assert loss(*nested, reduction="none") == [flat[:2], flat[2:]]
    assert loss(*map(np.array, nested)) == pytest.approx(loss(predictions, targets), rel=1e-15)


class Placeholder(Value):
    """A number that is not known yet, as when a loss is traced: asking for it is an error."""

    __slots__ = ()

    def __le__(self, other: object) -> bool:
        raise AssertionError("the loss has looked at its target")

    __lt__ = __gt__ = __ge__ = __bool__ = __eq__ = __float__ = __le__
    __hash__ = Value.__hash__


@pytest.mark.parametrize("name", ["mse", "hinge", "binary", "shares", "weights", "nll of shares"])
def test_targets_may_be_values_and_are_not_looked_at(name: str) -> None:
    def unknown(x: Any) -> Any:
        return [unknown(item) for item in x] if isinstance(x, list) else Placeholder(x)

    loss, predictions, targets, each, _ = CASES[name]
    assert loss(as_values(predictions), unknown(targets)).data == pytest.approx(np.mean(each), rel=1e-13)
    assert name == "hinge" or gradcheck(loss, predictions, targets).ok


@pytest.mark.parametrize("target", [2, 2.0, np.int64(2), [0, 0, 1], np.array([0.0, 0.0, 1.0])], ids=repr)
def test_the_ways_to_name_a_class(target: Any) -> None:
    assert nn.cross_entropy(ROWS[0], target) == nn.cross_entropy(ROWS[0], 2)
    assert nn.cross_entropy(np.array(ROWS), np.array([2, 0])) == nn.cross_entropy(ROWS, [2, 0])


@pytest.mark.parametrize(
    ("loss", "z", "target", "expected", "slopes"),
    [
        (binary, [1e4], [1], 0, [0]),
        (binary, [1e4], [0], 1e4, [1]),
        (binary, [-1e4], [1], 1e4, [-1]),
        (binary, [-1e4], [0], 0, [0]),
        (binary, [1e4], [0.5], 5e3, [0.5]),
        (binary, [-0.0], [1], math.log(2), [-0.5]),
        (nn.cross_entropy, [1e4, 0.0, -1e4], 0, 0.0, [0.0, 0.0, 0.0]),
        (nn.cross_entropy, [1e4, 0.0, -1e4], 1, 1e4, [1.0, -1.0, 0.0]),
        (nn.cross_entropy, [1e4, 0.0, -1e4], 2, 2e4, [1.0, 0.0, -1.0]),
        (nn.cross_entropy, [1e4, 0.0, -1e4], [0.5, 0.0, 0.5], 1e4, [0.5, 0.0, -0.5]),
        (nn.huber, [1.0], [0.0], 0.5, [1.0]),
        (nn.huber, [-1.0], [0.0], 0.5, [-1.0]),
        (nn.huber, [0.0], [0.0], 0.0, [0.0]),
        (nn.huber, [1e300], [0.0], 1e300, [1.0]),
    ],
)
def test_far_from_zero_and_at_the_joints(loss, z, target, expected, slopes) -> None:
    values = as_values(z)
    result = loss(values, target)
    result.backward()
    assert (result.data, numbers(values, "grad")) == (expected, slopes)


@pytest.mark.parametrize(("target", "nodes"), [(0, 102), ([1.0] + [0.0] * 99, 202)])
def test_a_row_of_100_classes_is_few_nodes(target: Any, nodes: int) -> None:
    loss = nn.cross_entropy(as_values([0.0] * 100), target)
    assert len(tg.topological_order(loss)) <= nodes + 1  # the logits and the shares, logsumexp, dot, -


BCE = nn.binary_cross_entropy_with_logits
LIST = "takes one output per target, got a list of"
TEXT = r"^A loss takes numbers, got 'a' \(str\)\. Convert text with float"
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: nn.mse([1.0], [1.0, 2.0]), ValueError, "one target per prediction: 1 and 2 given"),
    (lambda: nn.mse([[1.0], [2.0]], [1.0, 2.0]), ValueError, f"mse {LIST} 1"),
    (lambda: nn.hinge([1.0, 2.0], 1), ValueError, f"hinge {LIST} 2 for one"),
    (lambda: nn.hinge([[1.0, 2.0]], [1]), ValueError, "let the model return one number, or give as many targets"),
    (lambda: nn.mse([1.0, 2.0], [[1.0], [2.0]]), ValueError, r"1 targets given: of a column .* y\[:, 0\]"),
    *((lambda y=y: nn.mae(y, y), ValueError, "0 and 0 given") for y in ([], [[]])),
    *((lambda x=x, y=y: nn.mse(x, y), TypeError, TEXT) for x, y in ((1.0, "a"), ([1.0], ["a"]), ([1.0], "a"))),
    (lambda: nn.mse([1.0], np.array(["a"])), TypeError, r"^A loss takes numbers, got np.str_\('a'\)"),
    *((lambda x=x: nn.mse(*x), TypeError, "numbers, got None") for x in ((3, None), (None, 3), ([1.0], [None]))),
    (lambda: nn.cross_entropy(ROWS, "a"), TypeError, TEXT),
    (lambda: nn.cross_entropy(ROWS[0], "cat"), TypeError, "one probability per class, got 'cat'"),
    (lambda: nn.cross_entropy(ROWS[0], Value(1.0)), TypeError, "a plain whole number as the index"),
    *((lambda d=d: nn.huber(1.0, 1.0, d), ValueError, f"positive delta, got {d!r}") for d in (0, "a", None)),
    (lambda: nn.hinge([1.0], [0]), ValueError, "-1 and 1, got 0"),
    *((lambda y=y: BCE([1.0], [y]), ValueError, f"from 0 to 1, got {y}") for y in (-1, math.nan)),
    *((lambda y=y: nn.nll(ROWS, y), ValueError, f"2 and {n} given") for y, n in ((0, "no list .*"), ([0], 1))),
    *((lambda y=y: nn.nll(ROWS[0], y), ValueError, f"index from 0 to 2, got {y}") for y in (-1, 1.5, math.nan, 3)),
    *((lambda t=t: nn.nll(ROWS[0], [t, 0, -1]), ValueError, f"from 0 to 1, got {t}") for t in (2, None)),
    (lambda: nn.cross_entropy(ROWS[0], [0.5, 0.5]), ValueError, "3 and 2 given"),
    *((lambda y=y: nn.cross_entropy([], y), ValueError, "got none") for y in (0, [])),
    (lambda: nn.nll(Value(1.0), 0), TypeError, "one row of numbers, one per class, or a list of rows"),
    (lambda: nn.mse(1.0, 2.0, reduction="average"), ValueError, '"mean", "sum" or "none", got \'average\''),
    (lambda: nn.cross_entropy(ROWS, CLASSES, reduction=None), ValueError, "got None"),
]
test_errors_are_one_sentence = refused(ERRORS)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_leaves_nothing_for_the_cycle_collector(name: str, reduction: str, living: Any) -> None:
    loss, predictions, targets, _, _ = CASES[name]
    values = as_values(predictions)
    for _ in range(3):
        loss(values, targets, reduction=reduction)
        loss(predictions, targets, reduction=reduction)
    assert gc.collect() == 0
