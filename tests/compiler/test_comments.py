"""Programs run on their own, and the formulas in their comments are true: each gives the array below it."""

import re
from typing import Any

import numpy as np
import pytest
from programs import CASES

import tinygrad_edu as tg

FORMULA = re.compile(r"( +)# (\S.*?) (\+?=) (.*?) +\([^()]*\)")
SCATTER = re.compile(
    r"( +)# add\.at\((\w+(?:\[[^]]*\])?(?:\.reshape\([^)]*\))?), (.*)\) +\([^()]*\)"
)  # add.at(array, positions, formula)


def checked(source: str) -> tuple[str, int]:
    """The source of a program that compares every array with the formula above it; the number of formulas."""
    lines, n = list[str](), 0
    pending = ""
    for line in source.splitlines():
        match = FORMULA.fullmatch(line)
        is_code = line.strip() and not line.strip().startswith(("#", "return", "for t in"))
        if pending and (match or SCATTER.fullmatch(line) or not is_code or line.strip().startswith("gradient[")):
            lines.append(pending)
            pending = ""
        if scatter := SCATTER.fullmatch(line):
            indent, target, rest = scatter.groups()
            n += 1
            lines += [f"{indent}_wanted = {target}.copy()", f"{indent}np.add.at(_wanted, {rest})"]
            pending = f"{indent}_compare({target}, _wanted, {line.strip()!r})"
        elif match:
            indent, target, sign, formula = match.groups()
            n += 1
            lines.append(f"{indent}_wanted = np.array({f'{target} + ({formula})' if sign == '+=' else formula})")
            pending = f"{indent}_compare({target}, _wanted, {line.strip()!r})"
        lines.append(line)
    return "\n".join(lines) + "\n", n


def compare(array: Any, wanted: Any, line: str) -> None:
    """Raises AssertionError, with the comment, unless both have the same numbers."""
    wanted = np.broadcast_to(wanted, np.shape(array))
    scale = max(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0), 1e-300)
    np.testing.assert_allclose(array, wanted, rtol=1e-9, atol=1e-11 * scale, err_msg=line)


def executed(source: str, names: dict[str, Any], parameters: Any, batch: Any) -> tuple[float, Any]:
    """The value and the gradient by a program as text that knows these names, in its second run."""
    exec(source, names)
    theta, gradient = np.array([p.data for p in parameters]), np.full(len(parameters), np.nan)
    run = names["build"](theta, len(batch[0]) if batch else 1)
    with np.errstate(all="ignore"):
        for _ in range(2):
            value = run(*[np.asarray(array, float) for array in batch], gradient)
    return value, gradient


def names_of_formulas() -> dict[str, Any]:
    return {name: value for name, value in vars(np).items() if name[0] != "_"} | {"_compare": compare}


@pytest.mark.parametrize("name", CASES)
def test_the_source_runs_on_its_own_and_every_formula_gives_the_array_below_it(name: str) -> None:
    function, parameters, batch = CASES[name]()
    step = tg.compile(function, parameters, verify=False)
    value, gradients = step.value_and_grad(*batch)
    alone, slopes = executed(step.source, {}, parameters, batch)
    assert alone == value
    np.testing.assert_array_equal(slopes, gradients)
    source, n = checked(step.source)
    executed(source, names_of_formulas(), parameters, batch)
    assert n > 0 or "#" not in step.source.partition("def run")[2]


def test_a_wrong_formula_is_found() -> None:
    function, parameters, batch = next(iter(CASES.values()))()
    step = tg.compile(function, parameters, verify=False)
    step.value_and_grad(*batch)
    wrong, _ = checked(re.sub(r"(# .*? = )", r"\g<1>1 + ", step.source))
    with pytest.raises(AssertionError):
        executed(wrong, names_of_formulas(), parameters, batch)
