"""Functions as people write them compile, or are refused; a program with branches is never wrong."""

import dataclasses
import threading
from typing import Any

import numpy as np
import pytest
from comparing import check, values
from programs import flat
from published import MicroGPT, softmax

import tinygrad_edu as tg
from tinygrad_edu import Value

RNG = np.random.default_rng(0)


def compiles(function: Any, parameters: Any, *batches: Any) -> Any:
    """The compiled function, after it has agreed with the engine on each batch, in Python and in NumPy."""
    for backend in ("python", "numpy"):
        step: Any = tg.compile(function, parameters, backend=backend)  # type: ignore[call-overload]  # any name
        for batch in batches:
            check(step, function, parameters, *batch)
    return step


def test_microgpt_as_published() -> None:
    model = MicroGPT(n_embd=8, n_head=2)
    documents = RNG.integers(0, 26, size=(4, 5))
    documents[:, [0, -1]] = 26
    step = compiles(model.loss, model.params, [documents[:2]], [documents])
    assert step.groups.title.endswith("matrix products")


def test_numbers_that_are_read_for_display_or_as_constants(capsys: pytest.CaptureFixture[str]) -> None:
    w, b, seen = Value(0.5), Value(0.1), []

    def function(x: Any) -> Any:
        h = [(w * xi + b).tanh() for xi in x]
        mean = sum(v.data for v in h) / len(h)
        seen.append(mean)
        if x[0].data > -9:
            print(f"{mean:.3f}", mean, sep="; ")
        return sum((v - mean) * v for v in h) * max(0.5, *[abs(v.data) for v in h])

    compiles(function, [w, b], [RNG.normal(size=(4, 3))])
    assert "; " in capsys.readouterr().out
    assert tg.compile(lambda x: w * Value(x) * max(x, w), [w])([2.0, 4.0]) == 5.0  # plain numbers come in
    assert {type(number) for number in seen} == {float}


def test_a_branch_that_matters_is_refused_with_both_examples() -> None:
    w = Value(2.0)
    step = tg.compile(lambda x: w * x if x.data > 0 else sum({(w * x).exp()}), [w])
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
        assert step([1.0]) == 3.0


def test_an_index_is_explained_by_the_list_that_it_reads() -> None:
    w = [Value(float(i)) for i in range(6)]
    table = [w[:3], w[3:]]
    compiles(lambda i: w[i] * 2, w, [[1, 1, 1]], [[0, 5, 3]])  # equal in the first batch
    compiles(lambda i, j: table[i][j] * w[i + j], w, [[0], [2]], [[1, 0, 1], [0, 1, 2]])
    compiles(lambda i, x: softmax([x, x * w[1], w[2]])[i % 3], w, [[1, 2], [0.1, 0.2]], [[5, 3], [0.3, 0.4]])
    compiles(lambda i, j: w[i] * w[j], w, [[2], [2]], [[2, 4], [3, 4]])


def test_an_index_that_a_plain_list_turns_into_another_is_a_path() -> None:
    w, order = [Value(float(i)) for i in range(4)], [0, 1, 3, 2]
    step = tg.compile(lambda i: w[order[i]] * 2, w)
    assert step([1, 1]) == 2.0
    assert step([1, 3, 0]) == 2.0
    assert step([2, 2]) == 6.0
    step = tg.compile(lambda i: [w[0] * 2, w[1].exp(), w[2]][order[i]], w)
    assert step([0, 0, 3]) == pytest.approx(2 / 3)
    step = tg.compile(lambda i: [w[0], w[1]][order[i]] if order[i] < 2 else w[2].exp(), w)
    with pytest.raises(tg.TraceError, match=r"a number decides.*tg.where"):
        step([0, 2])
    with pytest.raises(IndexError, match="list index out of range"):  # that of the function itself
        tg.compile(lambda i: w[i] * 2, w)([4, 1])


def test_a_tracked_number_never_stays_in_a_value_and_no_other_thread_meets_one() -> None:
    w, v, monitor, kept, met = Value(1.0), Value(2.0), Value(0.0), list[float](), []

    def function(x: Any) -> Any:
        monitor.data = (w * x).data * 2
        kept.append(x.data)

        def elsewhere() -> None:
            met.append((type(v.data), type(v * 2), max(1, 2), type(max([v.data, 2.0]))))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return w * x if w.data > 0 else w

    tg.compile(function, [w]).predict([3.0])
    assert {type(monitor.data), *map(type, kept)} == {float}
    assert set(met) == {(float, Value, 2, float)}
    assert max.__class__ is type(len)


def test_examples_of_many_lengths_run_in_groups() -> None:
    w = [Value(0.1 * i + 0.3) for i in range(6)]

    def function(tokens: Any) -> Any:
        return sum(w[t] * w[t] for t in tokens) / len(tokens)

    batch = [[0, 5, 3], [0, 4], [1, 2, 2], [5]]
    step, results = tg.compile(function, w), [function(tokens) for tokens in batch]
    loss = sum(results) / 4
    value, gradient = step.value_and_grad(batch)
    assert value == pytest.approx(loss.data, rel=1e-12)
    np.testing.assert_allclose(gradient, tg.gradients(loss, w), rtol=1e-12)
    np.testing.assert_allclose(step.predict(batch), [x.data for x in results], rtol=1e-12)
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
    outputs = step.predict([1.0, 3.0])
    assert outputs["size"].tolist() == [[1.0, 1.0], [3.0, 9.0]]
    assert outputs["loss"].tolist() == [2.0, 6.0]
    value, gradient = step.value_and_grad([1.0, 3.0])
    assert (value, gradient.tolist(), step([1.0, 3.0])) == (4.0, [2.0], 4.0)
    pair = tg.compile(lambda x: (w * x, [x, x]), [w])
    assert [part.tolist() for part in pair.predict([1.0])] == [[2.0], [[1.0, 1.0]]]
    assert pair.value_and_grad([3.0])[0] == 6.0
    with pytest.raises(TypeError, match="needs a single number"):
        tg.compile(lambda x: {"one": w * x, "two": x}, [w]).value_and_grad([1.0])


def test_a_largest_number_at_every_length() -> None:
    w = Value(0.5)
    step = tg.compile(lambda x: max(x) * w, [w])
    for length in (8, 5, 1, 2):
        check(step, lambda x: tg.max(x) * w, [w], np.random.default_rng(length).normal(size=(2, length)))


def refused_or_right(function: Any, parameters: list[Value], *batches: Any) -> None:
    step = tg.compile(function, parameters, verify=False)
    for batch in batches:
        try:
            results = step.predict(*batch)
        except tg.TraceError:
            return
        examples = [function(*map(values, one)).data for one in zip(*map(np.asarray, batch), strict=True)]
        np.testing.assert_allclose(results, examples, rtol=1e-12)


@pytest.mark.parametrize("n", [3, 8, 40])
@pytest.mark.parametrize("special", [0, 1, -1])
@pytest.mark.filterwarnings("ignore:The function does not use")
def test_who_an_item_is_decides_nothing_unseen(n: int, special: int) -> None:
    rows = [[Value(1.0 + i), Value(2.0 * i)] for i in range(n)]
    chosen = rows[special]
    odd = [row[0] for row in rows[special:]]
    batches = [[[i % n for i in (1, 2)]], [[special % n]], [[0, n - 1]]]
    refused_or_right(lambda i: rows[i][0] * (100.0 if rows[i] is chosen else 1.0), flat(rows), *batches)
    refused_or_right(lambda i: rows[i][0] * rows[i][1] if rows[i][0] in odd else rows[i][1], flat(rows), *batches)


TEXTS: dict[str, Any] = {
    "two questions": lambda w, x: w * x if (x > 0.75) != (x > -2) else w * x * 10,
    "an f-string": lambda w, x: w * x if f"{x.data:.1f}".startswith("-") else w * x * 10,
    "with more around it": lambda w, x: w * x if "=-" in f"x={x.data}" else w * x * 10,
    "str": lambda w, x: w * x if str(x.data)[0] == "-" else w * x * 10,
    "format": lambda w, x: w * x if format((w * x).data, "+").startswith("+") else w * x * 10,
    "a key": lambda w, x: w * {"1.0": 5.0, "-1.0": 2.0}.get(repr(x.data), 1.0),
    "per cent": lambda w, x: w * x if ("%s" % x.data)[0] == "-" else w * x * 10,  # noqa: UP031
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_decides_nothing_unseen(name: str) -> None:
    w = Value(2.0)
    batches: list[Any] = [[[1.0]], [[-1.0, 1.0]], [[0.5, -3.0]]]
    refused_or_right(lambda x: TEXTS[name](w, x), [w], *batches)
