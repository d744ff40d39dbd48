"""Whole numbers, texts and identities in compiled functions: equal to the engine, or refused with a sentence."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparing import check, compare, search, values
from programs import flat

import tinygrad_edu as tg
from tinygrad_edu import Value

ITEMS = [Value(0.3 * i - 0.7, label=f"item{i}") for i in range(6)]
TABLE = [[Value(0.1 * i - 0.2 * j) for j in range(5)] for i in range(5)]
IDS = np.array([0, 1, 2, 3, 4, 1])


INDICES: dict[str, Callable[[Any], Any]] = {
    "a remainder": lambda i: ITEMS[(i + 2) % 5],
    "a remainder that is taken": lambda i: tg.take(ITEMS, (i + 2) % 5),
    "the last bit": lambda i: ITEMS[i & 1],
    "bits of a mask": lambda i: ITEMS[i & 5],
    "bits but for a mask": lambda i: ITEMS[i & ~1],
    "bits from both": lambda i: ITEMS[i | 1],
    "bits of one": lambda i: ITEMS[i ^ 1],
    "twice": lambda i: ITEMS[(i << 1) % 6],
    "half": lambda i: ITEMS[i >> 1],
    "a quotient": lambda i: ITEMS[i // 2],
    "a quotient and a remainder": lambda i: ITEMS[divmod(i, 2)[0]] * ITEMS[divmod(i, 3)[1]],
    "from the end": lambda i: ITEMS[-1 - i],
    "the complement": lambda i: ITEMS[~i],
    "of a part": lambda i: ITEMS[1:][i],
    "in a branch": lambda i: ITEMS[0] if len(ITEMS) > 9 else ITEMS[i],
    "in the other branch": lambda i: ITEMS[i] * 2 if len(ITEMS) < 9 else ITEMS[0],
}


@pytest.mark.parametrize("name", INDICES)
def test_a_computed_index_is_right(name: str) -> None:
    compare(lambda i: INDICES[name](i) * ITEMS[0] + tg.sum(ITEMS), ITEMS, IDS)


def test_a_computed_index_is_checked_for_every_example() -> None:
    step = tg.compile(lambda i: tg.take(ITEMS, i - 2) + tg.sum(ITEMS), ITEMS)
    check(step, lambda i: tg.take(ITEMS, i - 2) + tg.sum(ITEMS), ITEMS, [2, 3])
    with pytest.raises(IndexError):
        step.value_and_grad([2, 1])  # NumPy would count from the end


def test_a_table_of_transitions() -> None:
    def score(tags: Any) -> Value:
        total = TABLE[0][0]
        for t in range(1, len(tags)):
            total = total + TABLE[tags[t - 1]][tags[t]] * TABLE[tags[t]][tags[-1]]
        return total + 0.1 * tg.sum(flat(TABLE))

    compare(score, flat(TABLE), np.random.default_rng(0).integers(0, 5, (4, 6)))


def test_without_numpy_whole_numbers_are_refused_with_a_sentence() -> None:
    for function in (INDICES["half"], INDICES["a quotient"], INDICES["the last bit"], INDICES["the complement"]):
        with pytest.raises(tg.TraceError, match=r"a placeholder was used as a whole number in line \d+"):
            tg.compile(function, ITEMS, backend="python").value_and_grad([1])


def test_a_largest_number_at_every_length() -> None:
    w = Value(0.5)
    step = tg.compile(lambda x: max(x) * w, [w])
    for length in (8, 5, 1, 2):
        check(step, lambda x: tg.max(x) * w, [w], np.random.default_rng(length).normal(size=(2, length)))


def refused_or_right(function: Callable[..., Any], parameters: list[Value], *batches: Any) -> None:
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


TEXTS: dict[str, Callable[[Any, Any], Any]] = {
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


def test_what_is_printed_decides_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    w = Value(2.0)

    def function(x: Any) -> Any:
        if x.data > -9:
            print(f"{x.data:.3f}", (w * x).data, sep="; ")
        return w * x

    step = tg.compile(function, [w])
    for _ in range(5):
        batch = np.random.default_rng(0).normal(size=40)
        np.testing.assert_allclose(step.predict(batch), 2 * batch)
    assert "; " in capsys.readouterr().out


def program(rng: random.Random) -> str:
    """A sum of items of lists at computed places."""

    def index(depth: int) -> str:
        if not depth or rng.random() < 0.25:
            return rng.choice(["i", "j", "x[0]", "x[1]", "x[-1]", "1", "3"])
        a, b, n = index(depth - 1), index(depth - 1), rng.randint(1, 5)
        ways = [f"({a} + {b})", f"({a} - {b})", f"({a} * {n})", f"({a} % {n})", f"({a} // {n})", f"({a} & {n})"]
        ways += [f"({a} ^ {n})", f"({a} | {n})", f"({a} << {n % 3})", f"({a} >> {n % 3})", f"(~{a})", f"abs({a})"]
        return rng.choice([*ways, f"divmod({a}, {n})[{n % 2}]", f"max({a}, {b})"])

    terms = []
    for _ in range(rng.randint(1, 4)):
        places = ["ITEMS[{a}]", "TABLE[{a}][{b}]", "tg.take(ITEMS, {a})", "TABLE[{a}][-1 - {b}]", "ITEMS[1:][{a}]"]
        place = rng.choice(places).format(a=f"{index(2)} % 5", b=f"{index(2)} % 5")
        terms.append(f"{place} * {rng.randint(1, 9)}")
    return "lambda i, j, x: " + " + ".join(terms)


def agrees_or_is_refused(seed: int) -> None:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    text = program(rng)
    function = eval(text, {"ITEMS": ITEMS, "TABLE": TABLE, "tg": tg})
    parameters = [*ITEMS, *flat(TABLE)]
    step = tg.compile(lambda i, j, x: function(i, j, x) + 0 * tg.sum(parameters), parameters)
    for size in (1, 4):
        batch = numbers.integers(0, 5, size), numbers.integers(0, 4, size), numbers.integers(0, 5, (size, 3))
        try:
            check(step, function, parameters, *batch)
        except tg.TraceError:
            return
        except AssertionError as error:
            error.add_note(text)
            raise


@pytest.mark.parametrize(
    "n", [15, pytest.param(100, marks=pytest.mark.slow), pytest.param(5000, marks=pytest.mark.thorough)]
)
def test_random_programs_of_indices(n: int) -> None:
    search(agrees_or_is_refused, n)
