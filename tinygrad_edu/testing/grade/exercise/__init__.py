"""The exercise: an engine in seven steps. `write` makes the folder, `check` says which steps hold."""

import json
import math
import random
import re
import runpy
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from ....datasets import moons
from ....viz.terminal import tree
from ..diagnosis import diagnose
from ..operations import listed, near, solved
from ..rubric import texts_of

CHECK = '''"""Says which of the seven steps hold. For a hint on the first that does not: python check.py --hint"""

import sys

from tinygrad_edu.testing.grade.exercise import check

sys.exit(check("engine.py", hint="--hint" in sys.argv))
'''
CELL = "from tinygrad_edu.testing.grade.exercise import check\n\n_ = check(globals())  # for a hint: hint=True"
ENGINE, README = (
    resources.files(__name__).joinpath(name).read_text(encoding="utf-8") for name in ("engine.txt", "steps.md")
)
TITLES = re.findall(r"^## Step \d: (.*)$", README, re.MULTILINE)
HINTS = (
    "__init__ sets data, operands, grad and _backward on self. `lambda: None` is a function that does nothing.",
    "node(number, operands, rule) makes the result: the number is computed from self.data and other.data.",
    "The share of an operand is out.grad times the slope. The slope of a * b for a is the number of b.",
    "Visit the operands of a node first, then append the node. Remember by a set which nodes were there already.",
    "self.grad is 1.0 before the walk. In the rules, += adds a share; = forgets the shares that came before it.",
    "a - b is a + (-b), and a / b is a * b**-1. The slope of a**n is n * a**(n - 1), that of tanh is 1 - out**2.",
    "Add up (out - target)**2 by Values, divide, set all grads to 0.0, call backward(), then data -= rate * grad.",
)
A_B = "a, b = Value(2.0), Value(3.0)"  # the start of several steps
Step = Callable[[Mapping[str, Any]], None]


def write(folder: Path) -> list[Path]:
    """Write engine.py, README.md, check.py and engine.ipynb, the same as a notebook. Returns their paths.

    Raises FileExistsError if one of them is there already: it may hold somebody's work. Raises OSError.
    """
    code: dict[str, Any] = {"cell_type": "code", "outputs": [], "execution_count": None}
    cells = [{"cell_type": "markdown", "source": README}, code | {"source": ENGINE}, code | {"source": CELL}]
    book = {
        "cells": [cell | {"id": f"part-{i}", "metadata": {}} for i, cell in enumerate(cells)],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    notebook = json.dumps(book, indent=1)
    files = {"engine.py": ENGINE, "README.md": README, "check.py": CHECK, "engine.ipynb": notebook}
    if there := [name for name in files if (folder / name).exists()]:
        raise FileExistsError(
            f"{str(folder / there[0])!r} is there already; the exercise needs a folder of its own."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in files]


class NotYet(Exception):
    """A step does not hold, with the reason."""


def check(engine: str | Path | Mapping[str, Any], hint: bool = False) -> int:
    """Print which steps hold, what the first wrong one got wrong, and a hint if asked. Returns what is left."""
    try:
        scope = engine if isinstance(engine, Mapping) else runpy.run_path(str(engine), run_name="engine")
    except Exception as error:
        print(f"The engine cannot be run: {type(error).__name__}: {error}")
        return len(TITLES)
    for number, (title, parts) in enumerate(zip(TITLES, STEPS, strict=True), start=1):
        try:
            for part in parts:
                part(scope)
        except Exception as error:
            print(f"step {number} not yet: {title}\n{_sentence(error)}")
            if hint:
                print(f"hint: {HINTS[number - 1]}")
            return len(TITLES) - number + 1
        print(f"step {number} holds: {title}")
    print("All seven steps hold. You have written an engine.")
    return 0


def _sentence(error: Exception) -> str:
    words = {NotYet: "{}", KeyError: "there is no {} yet", NotImplementedError: "the gap is still open: {}"}
    return words.get(type(error), f"it fails: {type(error).__name__}: {{}}").format(error)


def _holds(start: str, *equations: str) -> Step:
    """A step: after some statements, the sides of each equation are equal."""

    def step(scope: Mapping[str, Any]) -> None:
        names = dict(scope)
        exec(start, names)
        for text, right in (equation.split(" == ") for equation in equations):
            got = eval(text, names)
            got = tuple(got) if isinstance(got, list) else got
            if got != eval(right, names):
                what = f"{start}: {text}" if ";" in start else text
                raise NotYet(f"{what} is {got!r}, expected {right}")

    return step


def _order(scope: Mapping[str, Any]) -> None:
    nodes = dict(scope)
    exec(f"{A_B}; c = a * b; d = c + a; e = d * c", nodes)
    names = {id(nodes[text[0]]): text for text in ("a", "b", "c = a * b", "d = c + a", "e = d * c")}
    order = list(scope["topological_order"](nodes["e"]))
    said = ", ".join(names.get(id(x), repr(x)) for x in order)
    if sorted(map(id, order)) != sorted(names):
        raise NotYet(f"for e = d * c, d = c + a, c = a * b the order is {said}: each node stands there once")
    for x in order:
        if any(order.index(p) > order.index(x) for p in x.operands):
            raise NotYet(f"the order is {said}: {names[id(x)]} stands before one of its operands")


def _diagnosed(require: str) -> Step:
    def step(scope: Mapping[str, Any]) -> None:
        names = {name: scope[name] for name in scope if name[:1] != "_"}
        report = diagnose(names, require=require)
        asked = {text for item in require.split() for text in texts_of(item)}
        for mistake in report.mistakes:
            if mistake.operations and not asked & {*mistake.operations}:
                continue  # in an operation of a later step
            if mistake.sentence.startswith("NotImplementedError: "):
                raise NotImplementedError(mistake.sentence.partition(": ")[2])
            picture = tree(solved(mistake.graph)[-1]) if mistake.graph else ""
            raise NotYet("\n".join(filter(None, [f"{mistake}", mistake.program, mistake.step, picture])))
        if report.missing:
            raise NotYet(f"there is no {listed(report.missing)} yet")

    return step


def _moons(scope: Mapping[str, Any]) -> None:
    random.seed(0)
    points, targets = moons(60, seed=1)
    neuron = scope["Neuron"](2)
    out = neuron(points[0])
    x = sum(w.data * p for w, p in zip(neuron.w, points[0], strict=True)) + neuron.b.data
    if not near(out.data, math.tanh(x), 1e-3):
        raise NotYet(f"neuron(x).data is {out.data!r}, expected {math.tanh(x):.4g}")
    losses = [scope["train"](neuron, points, targets, 0.2) for _ in range(60)]
    mean = sum((neuron(p).data - t) ** 2 for p, t in zip(points, targets, strict=True)) / len(points)
    if not losses[-1] < losses[0] or abs(losses[-1] - mean) > 0.05:
        raise NotYet(f"the loss goes from {losses[0]:.4g} to {losses[-1]:.4g} in 60 steps; the mean is {mean:.4g}")
    right = sum((neuron(p).data > 0) == (t > 0) for p, t in zip(points, targets, strict=True)) / len(points)
    if right < 0.8:
        raise NotYet(f"after 60 steps {right:.0%} of the points are on the right side, expected 80% at least")


NODE = ("data == 2.5", "grad == 0", "_backward() == None", "operands == ()")
BACK = "c.grad = 10.0; c._backward()"
STEPS: tuple[tuple[Step, ...], ...] = (
    (_holds(A_B, *(f"Value(2.5).{part}" for part in NODE), "Value(1.0, (a,)).operands == (a,)"),),
    (
        _holds(A_B, "(a + b).data == 5", "(a + b).operands == (a, b)", "(a + 4).data == 6"),
        _holds(A_B, "(a * b).data == 6", "(a * b).operands == (a, b)", "(a * 4).data == 8"),
    ),
    (
        _holds(f"{A_B}; c = a + b; {BACK}", "a.grad == 10", "b.grad == 10"),
        _holds(f"{A_B}; c = a * b; {BACK}", "a.grad == 30", "b.grad == 20"),
    ),
    (_order,),
    (_diagnosed("+ * backward"),),
    (_diagnosed("+ * ** - / neg numbers reflected tanh backward"),),
    (_moons,),
)
