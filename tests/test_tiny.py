"""The whole story in two seconds: what README.md and the lecture promise, with exact numbers."""

import gc

import pytest
from cases import python

import tinygrad_edu as tg
from tinygrad_edu import Value, nn

pytestmark = pytest.mark.tiny


def test_a_product_and_a_sum() -> None:
    a, b, c = Value(2.0, label="a"), Value(-3.0, label="b"), Value(10.0, label="c")
    d = a * b + c
    d.backward()
    assert (d.data, a.grad, b.grad, c.grad) == (4.0, -3.0, 2.0, 1.0)


def test_x_times_x_has_two_parents_and_both_shares() -> None:
    x = Value(3.0)
    y = x * x
    y.backward()
    assert y.parents == (x, x)
    assert x.grad == 6.0


def test_nodes_that_are_reused_before_they_are_complete() -> None:
    a = Value(1.0)
    b, c = a * 2, a * 3
    (b * c).backward()  # 6 a^2
    assert a.grad == 12.0
    a = Value(1.0)
    b = a + a
    c = b + b
    c.backward()
    assert (b.grad, a.grad) == (2.0, 4.0)


def test_two_results_that_share_nodes_give_24_not_34() -> None:
    a = Value(1.0)
    c = a * 2
    e, f = c * 5, c * 7
    e.backward()
    f.backward()
    assert a.grad == 24.0
    assert c.grad == 7.0


def test_backward_twice_doubles_the_leaves_exactly() -> None:
    xs = [Value(0.1 * i) for i in range(1, 8)]
    y = tg.sum(x * x.tanh() / (x + 3) for x in xs) * tg.sum(xs).exp()
    y.backward()
    once = [x.grad for x in xs]
    y.backward()
    assert [x.grad for x in xs] == [2 * g for g in once]
    assert y.grad == 1.0


def test_the_upstream_scales_every_gradient_and_accumulates_in_a_leaf() -> None:
    x = Value(5.0)
    x.backward()
    x.backward(2.5)
    assert x.grad == 3.5
    a, b = Value(2.0), Value(3.0)
    y = a * b
    y.backward(10)
    assert (y.grad, a.grad, b.grad) == (10.0, 30.0, 20.0)


def test_the_local_step_by_hand() -> None:
    """As in the lecture: set the gradient of the result, then ask each node for its own step."""
    x1, w1, b = Value(2.0), Value(-3.0), Value(6.7)
    xw = x1 * w1
    n = xw + b
    o = n.tanh()
    o.grad = 1.0
    o._backward()
    n._backward()
    b._backward()  # a leaf has nothing to pass on
    xw._backward()
    by_hand = [v.grad for v in (x1, w1, b, xw, n)]
    for v in (x1, w1, b):
        v.grad = 0.0
    o.backward()
    assert [v.grad for v in (x1, w1, b, xw, n)] == by_hand


def test_the_expression_of_micrograds_readme() -> None:
    a, b = Value(-4.0), Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    assert (f"{g.data:.4f}", f"{a.grad:.4f}", f"{b.grad:.4f}") == ("24.7041", "138.8338", "645.5773")


def test_the_sanity_check_of_micrograd() -> None:
    x = Value(-4.0)
    z = 2 * x + 2 + x
    q = z.relu() + z * x
    h = (z * z).relu()
    y = h + q + q * x
    y.backward()
    assert (y.data, x.grad) == (-20.0, 46.0)  # what PyTorch says


def test_nodes_are_not_wasted() -> None:
    a, b = Value(1.0), Value(2.0)
    assert len(tg.topological_order(a - b)) == len(tg.topological_order(a / b)) == 3
    assert len(tg.topological_order(sum([a, b]))) == 3
    assert sum([a]) is a
    assert (0.0 + a) is not a  # the exact int 0 alone is passed over


def test_dropping_a_result_frees_its_graph_without_the_collector(living) -> None:
    model = nn.MLP(3, [4, 1], rng=0)
    loss = model([1.0, 2.0, 3.0]) ** 2
    loss.backward()
    assert living() > 20
    del model, loss
    assert living() == 0
    assert gc.collect() == 0


def test_one_seed_gives_the_same_bits_in_every_process() -> None:
    program = """
import random
from tinygrad_edu import datasets, nn, optim
X, y = datasets.moons(20, seed=1)
model = nn.MLP(2, [8, 1], "tanh", rng=random.Random(3))
optimizer = optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    loss = nn.hinge([model(x) for x in X], y)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    print(loss.data.hex())
"""
    runs = {python(program, PYTHONHASHSEED=seed) for seed in ("1", "2", "3")}
    assert len(runs) == 1
    assert len(runs.pop().split()) == 3


@pytest.mark.parametrize("forbidden", ["numpy", "graphviz", "tqdm", "mpmath", "hypothesis"])
def test_the_import_needs_the_standard_library_only(forbidden: str) -> None:
    assert python(f"import tinygrad_edu, sys; print({forbidden!r} in sys.modules)") == "False\n"
