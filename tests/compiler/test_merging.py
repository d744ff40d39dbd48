"""Paths that become one graph: random programs with branches agree with the engine, or are refused."""

import random
from typing import Any

import numpy as np
import pytest
from comparing import check, search
from programs import flat

import tinygrad_edu as tg
from tinygrad_edu import Value

NUMBERS = "t x.data y.data (W[1]*x).data (W[2]+y).data max(x.data,y.data) (x.data+y.data)/2 0 1 2 -0.3".split()
NUMBERS += ["min(w.data for w in W)"]
PLACES = ["t", "t", "(t * 2 + 1) // 2", "4 - t", "abs(t - 3)", "[3, 1, 0, 4, 2][t]", "(t + 2) % 5", "max(t, 1)"]


def program(rng: random.Random) -> str:
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

    return f"lambda x, y, t: {value(3)} + W[4]"


def number(x: Any) -> Any:
    return getattr(x, "data", x)


def share(a: Any, b: Any) -> Any:
    """The first of two shares, as people write a softmax."""
    largest = max(number(a), number(b))
    return tg.exp(a - largest) / (tg.exp(a - largest) + tg.exp(b - largest))


def agrees_or_is_refused(seed: int) -> bool:
    rng, numbers = random.Random(seed), np.random.default_rng(seed)
    text, W = program(rng), [Value(0.4 * i - 0.7) for i in range(5)]
    table = [[Value(x) for x in row] for row in numbers.uniform(-1, 1, (5, 3)).tolist()]
    function = eval(text, {"W": W, "TABLE": table, "tg": tg, "number": number, "share": share})
    parameters = [*W, *flat(table)]
    step = tg.compile(lambda x, y, t: function(x, y, t) + 0 * tg.sum(parameters), parameters)
    for size in (2, 1, 6):
        batch = numbers.normal(size=size), numbers.normal(size=size), numbers.integers(0, 5, size)
        try:
            check(step, function, parameters, *batch)
        except tg.TraceError:
            return False
        except AssertionError as error:
            error.add_note(text)
            raise
        for w in W:
            w.data += numbers.normal() * 0.3
    return True


def test_thirty_random_programs_of_branches_agree_and_most_of_them_compile() -> None:
    assert sum(map(agrees_or_is_refused, range(30))) >= 24


@pytest.mark.slow
def test_random_programs_of_branches() -> None:
    search(agrees_or_is_refused, 100)
