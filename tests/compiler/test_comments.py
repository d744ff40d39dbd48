"""The formulas in the comments of programs are true: each is executed, and compared with the array below it."""

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


def run_checked(step: Any, parameters: Any, batch: Any) -> int:
    """Run the program with its comments. Returns how many there are."""
    source, n = checked(step.source)
    namespace: dict[str, Any] = {name: value for name, value in vars(np).items() if name[0] != "_"}
    namespace |= {"_compare": compare}
    exec(source, namespace)
    theta = np.array([p.data for p in parameters])
    run = namespace["build"](theta, len(batch[0]) if batch else 1)
    with np.errstate(all="ignore"):
        run(*[np.asarray(array, float) for array in batch], np.empty(len(parameters)))
    return n


@pytest.mark.parametrize("name", CASES)
def test_every_formula_gives_the_array_below_it(name: str) -> None:
    function, parameters, batch = CASES[name]()
    step = tg.compile(function, parameters, verify=False)
    step.value_and_grad(*batch)
    assert run_checked(step, parameters, batch) > 0 or "#" not in step.source.partition("def run")[2]


def test_a_wrong_formula_is_found() -> None:
    function, parameters, batch = next(iter(CASES.values()))()
    step = tg.compile(function, parameters, verify=False)
    step.value_and_grad(*batch)
    wrong = re.sub(r"(# .*? = )", r"\g<1>1 + ", step.source)
    with pytest.raises(AssertionError):
        run_checked(type("", (), {"source": wrong}), parameters, batch)
