"""Functions as people write them compile, or are refused; a program with branches is never wrong."""

import dataclasses
import inspect
import itertools
import math
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import MicroGPT, linear, matrix, rmsnorm, softmax

import tinygrad_edu as tg
from tinygrad_edu import Value, nn

RNG = np.random.default_rng(0)


def eagerly(function: Callable[..., Any], parameters: Any, *batch: Any) -> tuple[float, list[float]]:
    """The mean and its gradient by the engine: integers are passed as ints, floats as Values."""
    for parameter in parameters:
        parameter.grad = 0.0
    examples = list(zip(*[[plain(x) for x in argument] for argument in batch], strict=True)) or [()]
    loss = sum(function(*example) for example in examples) / len(examples)
    loss.backward()
    return loss.data, [parameter.grad for parameter in parameters]


def plain(x: Any) -> Any:
    if isinstance(x, np.ndarray | list | tuple):
        return [plain(item) for item in x]
    return int(x) if isinstance(x, int | np.integer) else Value(float(x))


def agree(step: Any, function: Any, parameters: Any, *batch: Any) -> None:
    value, gradient = step.value_and_grad(*batch)
    expected, gradients = eagerly(function, parameters, *batch)
    assert value == pytest.approx(expected, rel=1e-12, abs=1e-14)
    np.testing.assert_allclose(gradient, gradients, rtol=1e-10, atol=1e-12 * (1 + np.abs(gradients).max()))


def compiles(function: Any, parameters: Any, *batches: Any) -> Any:
    """The compiled function, after it has agreed with the engine on each batch."""
    step = tg.compile(function, parameters)
    for batch in batches:
        agree(step, function, parameters, *batch)
    return step


# --- What people write ------------------------------------------------------------------------------------------


def test_microgpt_as_published() -> None:
    model = MicroGPT()
    documents = RNG.integers(0, 26, size=(6, 6))
    documents[:, [0, -1]] = 26
    step = compiles(model.loss, model.params, [documents[:2]], [documents])
    assert step.groups.title.endswith("matrix products")


def test_a_recurrent_model_over_tokens() -> None:
    random.seed(1)
    p = {name: matrix(4, 4, 0.5) for name in ("fx", "fh", "ix", "ih", "ox", "oh", "gx", "gh")}
    table, out = matrix(7, 4, 0.5), matrix(7, 4, 0.5)
    parameters = [w for m in [*p.values(), table, out] for row in m for w in row]

    def gate(name: str, x: Any, h: Any) -> Any:
        return [a + b for a, b in zip(linear(x, p[name + "x"]), linear(h, p[name + "h"]), strict=True)]

    def lstm(tokens: Any) -> Any:
        h, c, losses = [Value(0.0)] * 4, [Value(0.0)] * 4, []
        for token, following in itertools.pairwise(tokens):
            x = table[token]
            forget, write, show = ([z.sigmoid() for z in gate(name, x, h)] for name in "fio")
            candidate = [z.tanh() for z in gate("g", x, h)]
            c = [f * ci + i * g for f, ci, i, g in zip(forget, c, write, candidate, strict=True)]
            h = [o * ci.tanh() for o, ci in zip(show, c, strict=True)]
            losses.append(-softmax(linear(h, out))[following].log())
        return sum(losses) / len(losses)

    def gru(tokens: Any) -> Any:
        h = [Value(0.0)] * 4
        for token in tokens[:-1]:
            z, r = ([v.sigmoid() for v in gate(name, table[int(token)], h)] for name in "fi")
            n = [v.tanh() for v in gate("g", table[token], [ri * hi for ri, hi in zip(r, h, strict=True)])]
            h = [(1 - zi) * hi + zi * ni for zi, hi, ni in zip(z, h, n, strict=True)]
        return -softmax(linear(h, out))[tokens[-1]].log()

    tokens = RNG.integers(0, 7, size=(5, 4))
    for cell in (lstm, gru):
        compiles(cell, parameters, [tokens[:1]], [tokens])


def test_a_network_of_images_with_pythons_max() -> None:
    random.seed(2)
    kernels, out = [matrix(3, 3, 0.5) for _ in range(2)], matrix(2, 8, 0.5)
    parameters = [w for m in [*kernels, out] for row in m for w in row]

    def cnn(image: Any, kind: Any) -> Any:
        features = []
        for kernel in kernels:
            maps = [
                [
                    sum(kernel[i][j] * image[r + i][c + j] for i in range(3) for j in range(3)).relu()
                    for c in range(4)
                ]
                for r in range(4)
            ]
            for r, c in itertools.product((0, 2), (0, 2)):
                features.append(max(maps[r][c], maps[r][c + 1], maps[r + 1][c], maps[r + 1][c + 1]))
        return -softmax(linear(features, out))[kind].log()

    images, kinds = RNG.normal(size=(6, 6, 6)), np.array([0, 1, 1, 0, 1, 0])
    compiles(cnn, parameters, [images[:2], kinds[:2]], [images, kinds])


def test_attention_over_patches() -> None:
    random.seed(3)
    patch, place, out = matrix(4, 4, 0.5), matrix(4, 4, 0.5), matrix(3, 4, 0.5)
    q, k, v = (matrix(4, 4, 0.5) for _ in range(3))
    parameters = [w for m in (patch, place, out, q, k, v) for row in m for w in row]

    def vit(image: Any, kind: Any) -> Any:
        pixels = [[Value(x) for x in row] for row in image]  # plain numbers come in
        patches = [[pixels[r + i][c + j] for i in range(2) for j in range(2)] for r in (0, 2) for c in (0, 2)]
        x = [
            rmsnorm([a + b for a, b in zip(linear(p, patch), at, strict=True)])
            for p, at in zip(patches, place, strict=True)
        ]
        queries, keys, values = ([linear(token, m) for token in x] for m in (q, k, v))
        attended = []
        for query in queries:
            weights = softmax([sum(a * b for a, b in zip(query, key, strict=True)) / 2 for key in keys])
            columns = zip(*values, strict=True)
            attended.append([sum(w * a for w, a in zip(weights, column, strict=True)) for column in columns])
        pooled = [sum(column) / 4 for column in zip(*attended, strict=True)]
        return -softmax(linear(pooled, out))[kind].log()

    images, kinds = RNG.normal(size=(5, 4, 4)), np.array([0, 2, 1, 2, 0])
    step = tg.compile(vit, parameters)
    value, _ = step.value_and_grad(images, kinds)
    rows = [(image.tolist(), int(kind)) for image, kind in zip(images, kinds, strict=True)]
    assert value == pytest.approx(sum(vit(*row).data for row in rows) / 5, rel=1e-12)


def test_the_closure_of_the_demo_with_its_accuracy() -> None:
    points, classes = RNG.normal(size=(12, 2)), np.array([1, -1] * 6)
    model = nn.MLP(2, [4, 1], rng=0)

    def loss() -> Any:
        inputs = [list(map(Value, row)) for row in points]
        scores = list(map(model, inputs))
        losses = [(1 + -yi * scorei).relu() for yi, scorei in zip(classes, scores, strict=True)]
        accuracy = [(yi > 0) == (scorei.data > 0) for yi, scorei in zip(classes, scores, strict=True)]
        return sum(losses) * (1.0 / len(losses)), sum(accuracy) / len(accuracy)

    step = tg.compile(loss, model.parameters())
    for _ in range(3):  # no outcome of `scorei.data > 0` decides what is computed
        expected = loss()
        assert step.predict()[0] == pytest.approx([expected[0].data, expected[1]], rel=1e-12)
        for parameter in model.parameters():
            parameter.data -= 0.7 * parameter.data


def test_numbers_that_are_read_for_display_or_as_constants() -> None:
    w, b, seen = Value(0.5), Value(0.1), []

    def function(x: Any) -> Any:
        h = [(w * xi + b).tanh() for xi in x]
        mean = sum(v.data for v in h) / len(h)
        seen.append(mean)
        print(f"{mean:.3f}", mean)
        return sum((v - mean) * v for v in h) * max(0.5, *[abs(v.data) for v in h])

    compiles(function, [w, b], [RNG.normal(size=(4, 3))])
    assert {type(number) for number in seen} == {float}


# --- Branches, guards and indices -----------------------------------------------------------------------------


def test_a_branch_that_matters_is_refused_with_both_examples() -> None:
    w = Value(2.0)
    step = tg.compile(lambda x: w * x if x.data > 0 else w * x * x, [w])
    assert step.value_and_grad([1.0, 3.0])[0] == 4.0
    with pytest.raises(tg.TraceError, match=r"line .*test_examples.py: `step = .*x = 1.0 .*x = -2.0 .*tg.where"):
        step.value_and_grad([1.0, -2.0])
    assert step([2.0]) == 4.0


def test_a_branch_on_a_parameter_is_checked_after_every_update() -> None:
    w = Value(1.0)
    step = tg.compile(lambda x: w * x if w.data > 0 else x * 3.0, [w])
    assert step([1.0]) == 1.0
    with step.arrays() as theta:
        assert step([1.0]) == 1.0
        theta[0] = -1.0
        with pytest.raises(tg.TraceError, match="give different graphs"):
            step([1.0])


def test_two_outcomes_that_never_came_together() -> None:
    w = Value(2.0)

    def function(x: Any, y: Any) -> Any:
        a, b = bool(x.data > 0), bool(y.data > 0)
        return w * 100.0 if a and b else w * x

    step = tg.compile(function, [w])
    agree(step, function, [w], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0])
    with pytest.raises(tg.TraceError):
        step.value_and_grad([1.0], [1.0])


def test_an_index_is_explained_by_the_list_that_it_reads() -> None:
    w = [Value(float(i)) for i in range(6)]
    table = [w[:3], w[3:]]
    compiles(lambda i: w[i] * 2, w, [[1, 1, 1]], [[0, 5, 3]])  # equal in the first batch
    compiles(lambda i, j: table[i][j] * w[i + j], w, [[0], [2]], [[1, 0, 1], [0, 1, 2]])
    compiles(lambda i, x: softmax([x, x * w[1], w[2]])[i % 3], w, [[1, 2], [0.1, 0.2]], [[5, 3], [0.3, 0.4]])
    compiles(lambda i, j: w[i] * w[j], w, [[2], [2]], [[2, 4], [3, 4]])


def test_an_index_that_a_plain_list_turns_into_another_is_refused() -> None:
    w, order = [Value(float(i)) for i in range(4)], [0, 1, 3, 2]
    step = tg.compile(lambda i: w[order[i]] * 2, w)
    assert step([1, 1]) == 2.0
    with pytest.raises(tg.TraceError, match=r"as a plain int.*tg.take"):
        step([1, 3])


@pytest.mark.parametrize("use", [math.exp, float, round, int, hash], ids=lambda use: use.__name__)
def test_a_number_does_not_become_a_plain_one(use: Any) -> None:
    w = Value(1.0)
    with pytest.raises(tg.TraceError, match=r"depends on the example was to become|was to be"):
        tg.compile(lambda x: w * use((w * x).data), [w]).predict([1.5])


def test_a_tracked_number_never_stays_in_a_value_and_no_other_thread_meets_one() -> None:
    w, monitor, met = Value(1.0), Value(0.0), []

    def function(x: Any) -> Any:
        monitor.data = (w * x).data * 2

        def elsewhere() -> None:
            met.append((type(w.data), type(w * 2), max(1, 2), type(max([w.data, 2.0]))))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return w * x if w.data > 0 else w

    tg.compile(function, [w]).predict([3.0])
    assert type(monitor.data) is float
    assert set(met) == {(float, Value, 2, float)}
    assert max.__class__ is type(len)


# --- Programs with branches and indices ----------------------------------------------------------------------


def program(r: Any) -> str:
    """A function of x (three numbers), i and j (indices) in Python: branches, indices, numbers that are read."""
    lines, flags, numbers, n = ["def f(x, i, j):", "    v0, v1, v2 = x"], [], [], 3

    def v() -> str:
        return f"v{r.randrange(n)}"

    def index(size: int) -> str:
        ways = ["i", "j", "perm[i]", "int(j)", "max(i, j)", "(i * 2 + 1) // 2", f"i % {size}", f"(i + j) % {size}"]
        return str(r.choice([*ways, f"{size - 1} - i", f"abs(i - j) % {size}"]))

    def number() -> str:
        ways = [f"{v()}.data", "w[0].data", "i", "j", "0.3", f"max({v()}.data, {v()}.data)", f"abs({v()}.data)"]
        more = ["min(p.data for p in w)", f"({v()}.data + {v()}.data) / 2", "sum(q.data for q in x)", *numbers]
        return str(r.choice(ways + more))

    def condition() -> str:
        ways = [f"{number()} > {number()}", f"{number()} <= {number()}", f"i == {r.randrange(4)}", "i != j"]
        ways += [f"bool({number()} < 0.2)", f"{v()} > {v()}", v(), f"not {number()}", *flags]
        one, other = r.choice(ways), r.choice(ways)
        return f"({one}) {r.choice(['and', 'or'])} ({other})" if r.random() < 0.3 else str(one)

    for k in range(r.randrange(2, 8)):
        kind, new = r.randrange(9), f"    v{n} ="
        if kind == 0:
            lines.append(f"{new} {v()} {r.choice('+-*')} {r.choice([v(), v(), number(), 'w[1]', 'w[2]'])}")
        elif kind == 1:
            lists = ["w", "[v0, v1, v2, v0 * v1]", f"[{v()} * w[0], {v()} - 1, {v()}.tanh(), w[3]]"]
            lines.append(f"{new} {r.choice(lists)}[{index(4)}] * {v()}")
        elif kind == 2:
            lines.append(f"{new} table[{index(4)}][{index(3)}]")
        elif kind == 3:
            other = r.choice([f"{v()} * w[1]", v(), "w[2]", f"{v()}.tanh()"])
            lines.append(f"{new} {v()} * w[1] if {condition()} else {other}")
        elif kind == 4:
            m, a, b = f"max({v()}.data, {v()}.data, {v()}.data)", v(), v()
            lines.append(f"    m = {m}\n{new} ({a} - m).exp() / (({a} - m).exp() + ({b} - m).exp())")
        elif kind == 5:
            lines.append(f"{new} {v()} + sum({v()} * q for q in w[:{r.choice(['2', 'i', 'j + 1'])}])")
        elif kind == 6:
            lines.append(f"{new} max({v()}, {v()}, key=lambda q: {r.choice(['q.data', '-q.data'])})")
        elif kind == 7:
            lines.append(f"    b{k} = {condition()}")
            flags.append(f"b{k}")
        else:
            lines.append(f"    n{k} = {number()} * {r.choice(['2', number()])}")
            numbers.append(f"n{k}")
        n += kind < 7
    return "\n".join([*lines, f"    return v{n - 1} * w[0] + {v()}"])


def check_program(r: Any, seed: int) -> None:
    draw = random.Random(seed)
    w = [Value(draw.uniform(-1, 1)) for _ in range(5)]
    table = [[Value(draw.uniform(-1, 1)) for _ in range(3)] for _ in range(4)]
    names: dict[str, Any] = {"w": w, "table": table, "perm": draw.sample(range(4), 4)}
    exec(program(r), names)
    parameters = [*w, *itertools.chain(*table)]
    step, rng = tg.compile(names["f"], parameters), np.random.default_rng(seed)
    step._said.add("unused")
    for size in (1, 3, 5):
        batch = [rng.normal(size=(size, 3)), rng.integers(0, 4, size), rng.integers(0, 3, size)]
        try:
            expected = eagerly(names["f"], parameters, *batch)
        except (IndexError, AttributeError):
            return
        try:
            value, gradient = step.value_and_grad(*batch)
        except tg.TraceError:
            return
        except IndexError:  # Python counts a negative index from the end, a program does not
            return
        np.testing.assert_allclose([value, *gradient], [expected[0], *expected[1]], rtol=1e-9, atol=1e-9)
        for parameter in w:
            parameter.data += rng.normal() * 0.3


@given(st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_a_program_with_branches_equals_the_engine_or_is_refused(r: Any, seed: int) -> None:
    check_program(r, seed)


@pytest.mark.slow
@settings(max_examples=5000, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_5000_programs_with_branches_equal_the_engine_or_are_refused(r: Any, seed: int) -> None:
    check_program(r, seed)


# --- Batches and results of any form -----------------------------------------------------------------------------


def test_examples_of_many_lengths_run_in_groups() -> None:
    w = [Value(0.1 * i + 0.3) for i in range(6)]

    def function(tokens: Any) -> Any:
        return sum(w[t] * w[t] for t in tokens) / len(tokens)

    batch = [[0, 5, 3], [0, 4], [1, 2, 2], [5]]
    step = tg.compile(function, w)
    value, gradient = step.value_and_grad(batch)
    for p in w:
        p.grad = 0.0
    loss = sum(map(function, batch)) / 4
    loss.backward()
    assert value == pytest.approx(loss.data, rel=1e-12)
    np.testing.assert_allclose(gradient, [p.grad for p in w], rtol=1e-12)
    np.testing.assert_allclose(step.predict(batch), [function(tokens).data for tokens in batch], rtol=1e-12)
    assert step(batch) == pytest.approx(loss.data, rel=1e-12)
    with step.arrays() as theta:
        theta *= 2
        assert step(batch) == pytest.approx(4 * loss.data, rel=1e-12)
    assert tg.compile(lambda x: sum([w[0] * xi for xi in x], w[1]), w)([[1.0], []]) == pytest.approx(1.1)
    results = tg.compile(lambda x: [w[0] * xi for xi in x], w).predict([[1.0], [2.0, 3.0]])
    np.testing.assert_allclose(np.concatenate(results), [0.6, 1.2, 1.8])


@dataclasses.dataclass
class Point:
    where: list[Any]
    target: Any


def test_arguments_are_containers() -> None:
    w = [Value(0.5), Value(-0.3)]
    examples = [{"kind": 1, "x": (1.0, [2.0])}, {"kind": 0, "x": (3.0, [4.0])}]
    step = tg.compile(lambda d: w[d["kind"]] * d["x"][0] * d["x"][1][0], w)
    assert step.predict(examples).tolist() == pytest.approx([-0.6, 6.0])
    columns = {"kind": [1, 0], "x": np.array([[1.0, 2.0], [3.0, 4.0]])}
    assert tg.compile(lambda d: w[d["kind"]] * d["x"][1], w)(columns) == pytest.approx((-0.6 + 2.0) / 2)
    step = tg.compile(lambda p: (w[0] * p.where[0] - p.target) ** 2, w)
    assert step([Point([1.0], 2.0), Point([2.0], 1.0)]) == pytest.approx((1.5**2 + 0.0) / 2)
    with pytest.raises(TypeError, match="d must hold real numbers"):
        tg.compile(lambda d: w[0], w)([{"x": None}])


def test_results_are_containers_and_one_is_the_loss() -> None:
    w = Value(2.0)
    step = tg.compile(lambda x: {"size": [x, x * x], "loss": w * x}, [w])
    found = step.predict([1.0, 3.0])
    assert found["size"].tolist() == [[1.0, 1.0], [3.0, 9.0]]
    assert found["loss"].tolist() == [2.0, 6.0]
    value, gradient = step.value_and_grad([1.0, 3.0])
    assert (value, gradient.tolist(), step([1.0, 3.0])) == (4.0, [2.0], 4.0)
    pair = tg.compile(lambda x: (w * x, [x, x]), [w])
    assert [part.tolist() for part in pair.predict([1.0])] == [[2.0], [[1.0, 1.0]]]
    assert pair.value_and_grad([3.0])[0] == 6.0
    with pytest.raises(TypeError, match="needs a single number"):
        tg.compile(lambda x: {"one": w * x, "two": x}, [w]).value_and_grad([1.0])


def test_a_loop_of_ones_own_is_one_program() -> None:
    model, other = nn.MLP(2, [3, 1], rng=0), nn.MLP(2, [3, 1], rng=0)
    x, y = RNG.normal(size=(8, 2)), RNG.normal(size=8)
    step = tg.compile(lambda x, y: (model(x) - y) ** 2, model)
    with step.train(tg.optim.Adam(model.parameters(), lr=0.01)) as update:
        losses = [update(x, y) for _ in range(3)]
    optimizer = tg.optim.Adam(other.parameters(), lr=0.01)
    for expected in losses:
        optimizer.zero_grad()
        loss = sum((other(list(map(Value, xi))) - yi) ** 2 for xi, yi in zip(x, y.tolist(), strict=True)) / 8
        loss.backward()
        optimizer.step()
        assert expected == pytest.approx(loss.data, rel=1e-10)
    ends = [[p.data for p in m.parameters()] for m in (model, other)]
    np.testing.assert_allclose(*ends, rtol=1e-10)
    update(x, y)  # a block of its own
    assert [p.data for p in model.parameters()] != ends[0]
    with pytest.raises(ValueError, match="other parameters"):
        step.train(optimizer)


def test_explain_points_to_the_lines() -> None:
    w = [Value(0.1 * i) for i in range(4)]

    def scattered(x: Any) -> Any:
        products = [a * b for a, b in zip(w, x, strict=True)]  # products
        chosen = [products[i] for i in (0, 3, 1, 2)]
        return sum(c.tanh() * xi for c, xi in zip(chosen, x, strict=True))  # gathers

    step = tg.compile(scattered, w)
    step(np.ones((2, 4)))
    told = step.explain().splitlines()
    source, start = inspect.getsourcelines(scattered)
    lines = {line.rpartition("# ")[2].strip(): start + i for i, line in enumerate(source)}
    assert told[0] == f"5 groups, 0 matrix products; 20% of the operands are gathered: line {lines['gathers']}"
    assert "numpy" in told[1]
    assert any(f"line {lines['products']}" in line for line in told)
    with pytest.raises(RuntimeError, match="Nothing is compiled yet"):
        tg.compile(scattered, w).explain()
    indexed = tg.compile(lambda d: w[d["i"]] * 2, w)
    indexed([{"i": 1}])
    assert "rows by index" in indexed.explain()
