"""A new backend is a class and a line in the table of backends: here one that prints C."""

import ctypes
import math
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparing import compare
from programs import normal, recurrence, shaken

import tinygrad_edu as tg
from tinygrad_edu import nn
from tinygrad_edu.compiler.backends import BACKENDS, Backend
from tinygrad_edu.compiler.backends.formulas import ATOM, Language, number_text
from tinygrad_edu.compiler.find.lowered import CONSTANT
from tinygrad_edu.compiler.ir.plan import Plan, plan_of
from tinygrad_edu.compiler.ir.routine import Access, Array, Axis, B, Loop, Stmt
from tinygrad_edu.compiler.ir.symbols import Symbol
from tinygrad_edu.compiler.run.compiled import Compiled
from tinygrad_edu.compiler.run.pipeline import make

CC = shutil.which("cc")
HEAD = """#include <math.h>
#include <stdlib.h>
static double tanh_slope(double out, double x) { return 1 / (cosh(x) * cosh(x)); }
"""
# What a reduction begins with, and what each element does to it.
REDUCED = {
    "sum": ("0.0", "s += {}"),
    "max_": ("-INFINITY", "s = fmax(s, {})"),
    "exps": ("0.0", "s += exp({} - m)"),
}


class C(Language):
    """Formulas of elements, with a variable for each axis."""

    def number(self, x: Any) -> str:
        return number_text(float(x), "INFINITY", "NAN")

    def operation(self, x: Symbol) -> tuple[str, int]:
        if x.op == "get":
            return self.element(x.args[0]), ATOM
        if x.op in ("softmax", "logsumexp"):
            top, total = self.reduced("max_", *x.args), self.reduced("exps", *x.args)
            result = "m + log(n)" if x.op == "logsumexp" else f"exp({self.text(x.args[0], ATOM)} - m) / n"
            return f"({{ double m = {top}, n = {total}; {result}; }})", ATOM
        return (self.reduced(x.op, *x.args), ATOM) if x.op in REDUCED else super().operation(x)

    def reduced(self, op: str, body: Any, over: Iterable[Axis]) -> str:
        begin, each = REDUCED[op]
        return f"({{ double s = {begin}; {loops(over)}{each.format(self.text(body, ATOM))}; s; }})"

    def element(self, access: Access) -> str:
        """Row, example and place in the example, as one index."""
        array, terms = access.array, list[str]()
        if access.row is not None:
            terms.append(f"({place(access.row)}) * {array.size}" + " * size" * array.batched)
        if array.batched:
            terms.append(f"b * {array.size}")
        assert access.gather is None  # these programs read by strides alone
        terms.append(index([f"({place(part)})" for part in access.at], access.dims))
        return f"{array.name}[{' + '.join(terms)}]"

    def lines(self, items: Iterable[Stmt | Loop], t: Axis | None = None) -> Iterable[str]:
        """A line for each statement, and those of loops between brackets."""
        for item in items:
            if isinstance(item, Loop):
                yield from (f"{loops([item.axis], item.reverse)}{{", *self.lines(item.body, item.axis), "}")
            else:
                free = loops(axis for axis in item.out.free if axis is not t)
                yield f"{free}{self.element(item.out)} {'+=' if item.adds else '='} {self.text(item.value)};"


def loops(axes: Iterable[Axis], reverse: bool = False) -> str:
    head = "for (long {0} = {1} - 1; {0} >= 0; {0}--) " if reverse else "for (long {0} = 0; {0} < {1}; {0}++) "
    return "".join(head.format(*(("b", "size") if axis is B else (axis, axis.size))) for axis in axes)


def place(part: Any) -> str:
    start, axis, step = part
    return str(start) if axis is None else f"{start} + {step} * {axis}"


def index(places: list[str], sizes: Any) -> str:
    """Places along dimensions of these sizes as one number."""
    return " + ".join(f"{where} * {math.prod(sizes[i + 1 :])}" for i, where in enumerate(places)) or "0"


def c_source(plan: Plan, n_inputs: int) -> str:
    """run(size, theta, inputs..., gradient, outputs) of a plan returns the mean of the loss."""
    language, program = C({}), plan.program
    body = list(language.lines(program.items))
    parameters = [parameter.array for parameter in plan.parameters]
    buffers = [*parameters, *dict.fromkeys(stmt.out.array for stmt, _ in program.statements())]
    tables = {f"at_{array.name}": array.places for array in parameters}
    constants = {leaf.name: leaf.places for leaf in program.leaves if leaf.source == CONSTANT}
    arguments = [f"const double *{plan.inputs.get(i, f'_{i}')}, " for i in range(n_inputs)]
    lines = [f"static const long {name}[] = {{{listed(table)}}};" for name, table in tables.items()]
    lines += [f"static const double {name}[] = {{{listed(numbers)}}};" for name, numbers in constants.items()]
    lines += [
        f"double run(long size, double *theta, {''.join(arguments)}double *gradient, double *outputs) {{",
        "double B = size, mean_ = 0;",
    ]
    for array in buffers:
        n = f"{array.size * (array.stages or 1)}{' * size' * array.batched}"
        lines.append(f"double *{array.name} = calloc({n}, sizeof(double));")
    for array in parameters:
        to = f"{array.name}[i] = theta[at_{array.name}[i]];"
        lines.append(f"for (long i = 0; i < {array.size}; i++) {to}")
    lines += body
    for array, adjoint, *_ in plan.parameters:
        to = f"gradient[at_{array.name}[i]] += {adjoint.name}[i];" if adjoint else ""
        lines.append(f"for (long i = 0; i < {array.size}; i++) {{ {to} }}")
    results = [("mean_ +=", number(*plan.root) + " / B")] if plan.root else []
    every = range(plan.n_outputs)
    for array, columns, places in (
        plan.outputs if isinstance(plan.outputs, list) else [(plan.outputs, every, every)]
    ):
        for i, at in zip(columns, places, strict=True):
            results.append((f"outputs[b * {plan.n_outputs} + {i}] =", number(array, at)))
    lines += [f"for (long b = 0; b < size; b++) {to} {text};" for to, text in results]
    lines += [f"free({array.name});" for array in buffers]
    return "\n".join([HEAD, *lines, "return mean_;", "}", ""])


def listed(numbers: Any) -> str:
    return ", ".join(map(repr, numbers.ravel().tolist()))


def number(array: Any, at: int) -> str:
    """An element of an array for example b."""
    if not isinstance(array, Array):
        return repr(float(array[at]))
    return f"{array.name}[{f'b * {array.size} + ' * array.batched}{at}]"


class InC(Compiled):
    """A compiled function as C."""

    takes_knobs = takes_lengths = False

    def _write(self, *how: Any) -> Any:
        return make(*how[:4], None, *how[5:], write=program_in_c)


def program_in_c(lowered: Any, request: Any, title: str) -> tuple[str, dict[str, Any]]:
    plan = plan_of(lowered, request.gradient)
    source = c_source(plan, len(request.shapes))
    with tempfile.TemporaryDirectory() as folder:
        file, library = Path(folder) / "program.c", Path(folder) / "program.so"
        file.write_text(source)
        subprocess.run([str(CC), "-O1", "-shared", "-fPIC", str(file), "-o", str(library), "-lm"], check=True)
        function = ctypes.CDLL(str(library)).run
    function.restype = ctypes.c_double

    def build(theta: Any, size: int, dtype: Any) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            outputs = np.zeros((size, plan.n_outputs))
            arrays = [*inputs, *([] if request.gradient else [np.zeros(0)])]
            if request.gradient:
                arrays[-1][:] = 0.0
            value = function(
                ctypes.c_long(size), *(ctypes.c_void_p(a.ctypes.data) for a in (theta, *arrays, outputs))
            )
            return outputs if not request.gradient else (value, outputs) if plan.n_outputs else value

        return run

    return source, {"build": build}


@pytest.fixture
def in_c(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(BACKENDS, "c", Backend(__name__, "InC"))
    return lambda function, parameters, *batch: compare(function, parameters, *batch, backend="c")


needs_cc = pytest.mark.skipif(CC is None, reason="needs a compiler of C")


@needs_cc
def test_a_network_in_c(in_c: Any) -> None:
    model = shaken(nn.MLP(6, [5, 3], "tanh", rng=0))
    step = in_c(
        lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), normal(4, 6), np.eye(3)[[0, 2, 1, 2]]
    )
    assert "double run(long size" in step.source


@needs_cc
def test_a_recurrence_in_c(in_c: Any) -> None:
    function, parameters, batch = recurrence(12, 2, 3, "last")
    step = in_c(function, parameters, *batch)
    assert step.source.count("for (long axis_") > 2
    assert "--) {" in step.source  # the reversed loop
    np.testing.assert_allclose(step.predict(*batch), tg.compile(function, parameters).predict(*batch), 1e-12)
