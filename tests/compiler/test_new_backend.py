"""A new backend is a class and a line in the table of backends: here one that prints loops over lists."""

import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
import recurrences
from comparing import compare
from programs import CASES, flat

import tinygrad_edu as tg
from tinygrad_edu.compiler.backends import BACKENDS, Backend
from tinygrad_edu.compiler.backends.formulas import ATOM, CHOICE, Language
from tinygrad_edu.compiler.backends.straight import FORMS
from tinygrad_edu.compiler.backends.straight_helpers import logsumexp
from tinygrad_edu.compiler.find.lowered import CONSTANT
from tinygrad_edu.compiler.ir.plan import Plan, plan_of
from tinygrad_edu.compiler.ir.routine import Access, Array, Axis, B, Loop, Stmt
from tinygrad_edu.compiler.ir.symbols import Symbol
from tinygrad_edu.compiler.run.compiled import Compiled
from tinygrad_edu.compiler.run.pipeline import make

REDUCED = {"sum": "sum", "max_": "max", "logsumexp": "logsumexp"}
NAMES = {
    **vars(math),
    "logsumexp": lambda numbers: logsumexp([*numbers])[0],
    "tanh_slope": lambda out, x: 1 / math.cosh(x) ** 2,
    "sigmoid_slope": lambda out, x: out * (1 - out),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}


def loops(axes: Iterable[Axis]) -> list[str]:
    return [f"for {axis} in range({axis.size})" for axis in axes]


def place(part: Any) -> str:
    start, axis, step = part
    return str(start) if axis is None else f"({start} + {step} * {axis})"


class Loops(Language):
    """Formulas of elements, with a variable for each axis."""

    forms = FORMS

    def operation(self, x: Symbol) -> tuple[str, int]:
        if x.op == "get":
            return self.element(x.args[0]), ATOM
        if x.op == "softmax":
            return f"exp({self.text(x.args[0])} - {self.reduced('logsumexp', *x.args)})", ATOM
        return (self.reduced(x.op, *x.args), ATOM) if x.op in REDUCED else super().operation(x)

    def reduced(self, op: str, body: Any, over: Iterable[Axis]) -> str:
        return f"{REDUCED[op]}({' '.join([self.text(body, CHOICE + 1), *loops(over)])})"

    def element(self, access: Access) -> str:
        """Row, example and place in the example, as one index."""
        array, terms = access.array, list[str]()
        if access.row is not None:
            terms.append(f"{place(access.row)} * {array.size}" + " * B" * array.batched)
        if array.batched:
            terms.append(f"{B} * {array.size}")
        assert access.gather is None  # these programs read by strides alone
        terms += [f"{place(part)} * {math.prod(access.dims[i + 1 :])}" for i, part in enumerate(access.at)]
        return f"{array.name}[{' + '.join(terms) or '0'}]"

    def lines(self, items: Iterable[Stmt | Loop], margin: str = "    ", t: Axis | None = None) -> Iterator[str]:
        """A line for each statement below the loops over its axes."""
        for item in items:
            if isinstance(item, Loop):
                stages = f"reversed(range({item.axis.size}))" if item.reverse else f"range({item.axis.size})"
                yield f"{margin}for {item.axis} in {stages}:"
                yield from self.lines(item.body, f"{margin}    ", item.axis)
                continue
            inner = margin
            for loop in loops(axis for axis in item.out.free if axis is not t):
                yield f"{inner}{loop}:"
                inner += "    "
            yield f"{inner}{self.element(item.out)} {'+=' if item.adds else '='} {self.text(item.value)}"


def source_of(plan: Plan, n_inputs: int) -> str:
    """run(B, theta, gradient, outputs, *inputs) of a plan returns the mean of the loss."""
    arguments = [plan.inputs.get(i, f"_{i}") for i in range(n_inputs)]
    leaves = {parameter.array: f"[theta[i] for i in {listed(parameter.array)}]" for parameter in plan.parameters}
    leaves |= {leaf: listed(leaf) for leaf in plan.program.leaves if leaf.source == CONSTANT}
    arrays = dict.fromkeys(stmt.out.array for stmt, _ in plan.program.statements())
    leaves |= {array: f"[0.0] * ({array.size} * {array.stages or 1}{' * B' * array.batched})" for array in arrays}
    lines = [f"def run({', '.join(['B, theta, gradient, outputs', *arguments])}):"]
    lines += [f"    {leaf.name} = {text}" for leaf, text in leaves.items()]
    lines += Loops({}).lines(plan.program.items)
    for array, adjoint, *_ in plan.parameters:
        lines.append(f"    for i, place in enumerate({listed(array)}):")
        lines.append(f"        gradient[place] += {adjoint.name}[i]" if adjoint else "        pass")
    outputs = plan.outputs if isinstance(plan.outputs, list) else [(plan.outputs, *[range(plan.n_outputs)] * 2)]
    for array, own, places in outputs:
        for column, at in zip(own, places, strict=True):
            lines.append(f"    outputs[:, {column}] = [{number(array, at)} for {B} in range(B)]")
    result = f"sum({number(*plan.root)} for {B} in range(B)) / B" if plan.root else "0.0"
    return "\n".join([*lines, f"    return {result}", ""])


def listed(array: Array) -> str:
    return repr(array.places.ravel().tolist())


def number(array: Any, at: int) -> str:
    """An element of an array for an example."""
    if not isinstance(array, Array):
        return repr(float(array[at]))
    return f"{array.name}[{f'{B} * {array.size} + ' * array.batched}{at}]"


class InLoops(Compiled):
    """A compiled function as loops."""

    takes_knobs = takes_lengths = False

    def _write(self, *how: Any) -> Any:
        return make(*how[:4], None, *how[5:], write=program_in_loops)


def program_in_loops(lowered: Any, request: Any, title: str) -> tuple[str, dict[str, Any]]:
    plan = plan_of(lowered, request.gradient)
    source, names = source_of(plan, len(request.shapes)), dict(NAMES)
    exec(source, names)

    def build(theta: Any, size: int, dtype: Any) -> Any:
        def run(*arrays: Any) -> Any:
            outputs, gradient = np.zeros((size, plan.n_outputs)), np.zeros(len(theta))
            inputs = [array.ravel().tolist() for array in (arrays[:-1] if request.gradient else arrays)]
            value = names["run"](size, theta.tolist(), gradient, outputs, *inputs)
            if not request.gradient:
                return outputs
            arrays[-1][:] = gradient
            return (value, outputs) if plan.n_outputs else value

        return run

    return source, {"build": build}


PROGRAMS = {
    "a network": (lambda: CASES["cross_entropy_one_hot"](), 0),
    "a recurrence": (lambda: recurrences.LOOPS["lstm, a loss at every stage, parameters as first states"][:3], 1),
    "two loops": (lambda: recurrences.LOOPS["translator"][:3], 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_new_backend_computes_what_the_engine_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKENDS, "loops", Backend(__name__, "InLoops"))
    make_case, n = PROGRAMS[name]
    function, parameters, batch = make_case()
    step = compare(function, flat(parameters), *batch, backend="loops")
    assert step.source.startswith("def run(B, theta, ")
    assert step.source.count("in reversed(range(") == n
    expected = tg.compile(function, flat(parameters)).predict(*batch)
    np.testing.assert_allclose(step.predict(*batch), expected, 1e-12)
