"""Paths and computed indices that become one graph: programs agree with the engine, or are refused."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparing import check, compare, search
from programs import flat

import tinygrad_edu as tg
from tinygrad_edu import Value

ITEMS = [Value(0.3 * i - 0.7, label=f"item{i}") for i in range(6)]
TABLE = [[Value(0.1 * i - 0.2 * j) for j in range(5)] for i in range(5)]
SOME, OTHERS = {1, 4}, {3: 5.0}
INDICES: dict[str, Callable[[Any], Any]] = {
    "a remainder that is taken": lambda i: tg.take(ITEMS, (i + 2) % 5),
    "the last bit": lambda i: ITEMS[i & 1],
    "half": lambda i: ITEMS[i >> 1],
    "a quotient": lambda i: ITEMS[i // 2],
    "the complement": lambda i: ITEMS[~i],
    "of itself": lambda i: ITEMS[(i - i) % 5] * ITEMS[i],
    "in a set": lambda i: ITEMS[1] if i in SOME else ITEMS[2],
    "in a dict": lambda i: ITEMS[1] * OTHERS.get(i, 2.0),
    "in a branch": lambda i: ITEMS[0] if len(ITEMS) > 9 else ITEMS[i],
    "in the other branch": lambda i: ITEMS[i] * 2 if len(ITEMS) < 9 else ITEMS[0],
}


@pytest.mark.parametrize("name", INDICES)
def test_a_computed_index_is_right(name: str) -> None:
    def function(i: Any) -> Value:
        return INDICES[name](i) * ITEMS[0] + tg.sum(ITEMS)

    for backend in ("numpy", "python"):
        compare(function, ITEMS, np.array([0, 1, 2, 3, 4, 1]), backend=backend)
    if name in ("half", "a quotient", "the last bit", "the complement"):
        with pytest.raises(tg.TraceError, match=r"a placeholder was used as a whole number in line \d+"):
            tg.compile(function, ITEMS, backend="javascript", example=(1,))


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


# --- Random programs --------------------------------------------------------------------------------------------
NUMBERS = "t x.data y.data (W[1]*x).data (W[2]+y).data max(x.data,y.data) (x.data+y.data)/2 0 1 2 -0.3".split()
NUMBERS += ["min(w.data for w in W)"]
PLACES = ["t", "t", "(t * 2 + 1) // 2", "4 - t", "abs(t - 3)", "[3, 1, 0, 4, 2][t]", "(t + 2) % 5", "max(t, 1)"]


def index(rng: random.Random, depth: int) -> str:
    """A whole number that is computed from others."""
    if not depth or rng.random() < 0.25:
        return rng.choice(["t", "t", "k[0]", "k[1]", "k[-1]", "1", "3"])
    a, b, n = index(rng, depth - 1), index(rng, depth - 1), rng.randint(1, 5)
    ways = [f"({a} + {b})", f"({a} - {b})", f"({a} * {n})", f"({a} % {n})", f"({a} // {n})", f"({a} & {n})"]
    ways += [f"({a} ^ {n})", f"({a} | {n})", f"({a} << {n % 3})", f"({a} >> {n % 3})", f"(~{a})", f"abs({a})"]
    return rng.choice([*ways, f"divmod({a}, {n})[{n % 2}]", f"max({a}, {b})"])


def of_indices(rng: random.Random) -> str:
    """A sum of items of lists at computed places."""
    terms = []
    for _ in range(rng.randint(1, 4)):
        places = ["W[{a}]", "TABLE[{a}][{b}]", "tg.take(W, {a})", "TABLE[{a}][-1 - {b}]", "W[1:][{a} - 1]"]
        place = rng.choice(places).format(a=f"{index(rng, 2)} % 5", b=f"{index(rng, 2)} % 3")
        terms.append(f"{place} * {rng.randint(1, 9)}")
    return f"lambda x, y, t, k: {' + '.join(terms)} + W[4]"


def of_branches(rng: random.Random) -> str:
    """An expression with conditions on numbers, and on a whole number, which is an index too."""

    def condition() -> str:
        a, b = rng.choice(NUMBERS), rng.choice(NUMBERS)
        ways = [f"{a} < {b}", f"{a} == {rng.randint(0, 4)}", f"t > {rng.randint(0, 3)}", f"{a} >= {b}", "t % 2"]
        ways += ["t in (1, 3)", f"{a} < {b} and t != 2", f"{a} > 0 or {b} > 0", f"not {a}", f"bool({a} < 0.2)"]
        ways += ["x > y", "x"]
        return rng.choice(ways)

    def value(depth: int) -> str:
        place = rng.choice(PLACES)
        if not depth:
            leaves = "x y W[0] W[1] W[2] W[3] W[4] 0.5".split()
            return rng.choice([*leaves, f"W[{place}]", f"TABLE[{place}][t % 3]"])
        a, b = value(depth - 1), value(depth - 1)
        ways = [f"({a} + {b})", f"({a} * {b})", f"({a} - {b})", f"tg.tanh({a})", f"tg.exp(0.1 * {a})"]
        ways += [f"({a} if {condition()} else {b})", f"({a} * (1.0 if {condition()} else -0.5))"]
        ways += [f"sum({a} * (1.0 if i == t else 0.0) for i in range(5))", f"({a} + sum(w * x for w in W[:t]))"]
        ways += [f"sorted([{a}, {b}, W[3] * x], key=lambda v: number(v))[{rng.randint(0, 2)}]", f"share({a}, {b})"]
        ways += [f"[{a}, {b}, W[0] * 1][[0, 2, 1, 0, 2][t]]", f"({a} + [0.0, -1e9, 1.5, 0.0, 2.0][t] * 1e-9)"]
        ways += [f"max({a}, {b}, key=lambda v: {rng.choice('+-')}number(v))"]
        return rng.choice(ways)

    return f"lambda x, y, t, k: {value(3)} + W[4]"


def number(x: Any) -> Any:
    return getattr(x, "data", x)


def share(a: Any, b: Any) -> Any:
    """The first of two shares, as people write a softmax."""
    largest = max(number(a), number(b))
    return tg.exp(a - largest) / (tg.exp(a - largest) + tg.exp(b - largest))


def agrees_or_is_refused(program: Callable[[random.Random], str], seed: int) -> bool:
    rng, numbers, whole = random.Random(seed), np.random.default_rng(seed), np.random.default_rng(seed)
    text, W = program(rng), [Value(0.4 * i - 0.7) for i in range(5)]
    table = [[Value(x) for x in row] for row in numbers.uniform(-1, 1, (5, 3)).tolist()]
    function = eval(text, {"W": W, "TABLE": table, "tg": tg, "number": number, "share": share})
    parameters = [*W, *flat(table)]
    step = tg.compile(lambda x, y, t, k: function(x, y, t, k) + 0 * tg.sum(parameters), parameters)
    for size in (2, 1, 6):
        batch = numbers.normal(size=size), numbers.normal(size=size), numbers.integers(0, 5, size)
        try:
            check(step, function, parameters, *batch, whole.integers(0, 5, (size, 3)))
        except tg.TraceError:
            return False
        except AssertionError as error:
            error.add_note(text)
            raise
        for w in W:
            w.data += numbers.normal() * 0.3
    return True


@pytest.mark.parametrize(("program", "n", "least"), [(of_branches, 15, 12), (of_indices, 12, 9)])
def test_some_random_programs_agree_and_most_of_them_compile(program: Any, n: int, least: int) -> None:
    assert sum(agrees_or_is_refused(program, seed) for seed in range(n)) >= least


@pytest.mark.parametrize(
    "n", [pytest.param(100, marks=pytest.mark.slow), pytest.param(5000, marks=pytest.mark.thorough)]
)
@pytest.mark.parametrize("program", [of_branches, of_indices])
def test_random_programs(program: Any, n: int) -> None:
    search(lambda seed: agrees_or_is_refused(program, seed), n)
