"""The stages of the compiler, one after the other: trace, normalise, group, lower, differentiate, emit."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.rules import RULES, Rule
from ..backends.naming import name_arrays
from ..backends.numpy import Emitter
from ..find.flatten import SUM
from ..find.group import groups_of
from ..find.loops import Roller
from ..find.lower import lower
from ..find.lowered import PARAMETER, Lowered, Read, Tensor, Terms, sum_of
from ..find.normalise import Graph, normalise
from ..find.squares import join_squares
from ..ir.plan import lost_in_float32, plan_of
from ..trace.checks import check_one_number, collector_paused
from ..trace.examples import Examples
from ..trace.placeholder import CHOICES
from ..trace.surroundings import Closure, Facts, Holds
from ..trace.tracing import Trace
from .batches import picks_of, rows_sum_to_one
from .build import Build, Contract, Guards, Request
from .report import Groups

PASSES = ("loops", "weight decay", "ragged rows", "matrix products")  # which a program can do without


def numpy_program(lowered: Lowered, request: Request, title: str) -> tuple[str, dict[str, Any]]:
    """A program in NumPy: its source and what it defines."""
    plan = plan_of(lowered, request.gradient)
    source = Emitter(plan, len(request.shapes), title).source
    return source, defined(source)


def defined(source: str) -> dict[str, Any]:
    """What the source of a program defines."""
    namespace: dict[str, Any] = {}
    exec(compile(source, "<compiled>", "exec"), namespace)
    return namespace


def make(
    traced: Trace,
    closure: Closure,
    facts: Facts,
    request: Request,
    arrays: Sequence[NDArray[Any]] | None,
    skip: Collection[str] = (),
    write: Callable[[Lowered, Request, str], tuple[str, dict[str, Any]]] = numpy_program,
) -> Build:
    """The program of a trace for batches like these. `skip` names passes to leave out.

    arrays=None makes a program that assumes nothing of its batches.

    Raises TypeError unless the function returns what the request needs, TraceError if runs on two examples gave
    different graphs.
    """
    parameters = closure.parameters

    def is_one_hot(argument: int) -> bool:
        return arrays is not None and rows_sum_to_one(arrays[argument])

    with collector_paused():
        part, examples = slice(None), traced.by_example
        if request.gradient and not request.with_outputs:
            if traced.loss is None:
                check_one_number(traced.shape, "gradient")
            part = slice(traced.loss, (traced.loss or 0) + 1)
        outputs = [run.outputs[part] for run in examples.runs] if examples else [traced.outputs[part]]
        asked = [step.node for run in examples.runs for step in run.path] if examples else []
        whole = replace(traced, outputs=[*chain(*outputs), *asked])
        graph = normalise(whole, is_one_hot)
        if examples and (other := _differs(graph, len(outputs[0]), len(outputs))):
            merged = examples.merged(outputs, other)
            frozen, graph = graph.frozen, normalise(replace(merged, outputs=[*merged.outputs, *asked]), is_one_hot)
            graph.frozen = frozen  # those of all paths
            outputs = outputs[:1]
        guards = _guards(examples, graph, len(outputs[0]) * len(outputs), len(outputs[0])) if examples else None
        labels = [parameter.label for parameter in parameters]
        plain = "matrix products" in skip
        groups = groups_of(graph, labels, ragged=not plain and "ragged rows" not in skip)
        lowered = lower(graph, *groups, request.shapes, plain)
        if "weight decay" not in skip:
            join_squares(lowered)
        n_checked = _check_padded(lowered, graph)
        is_used = np.zeros(len(parameters), bool)
        for array in lowered.arrays:
            if array.source == PARAMETER:
                is_used[array.places] = True
        rolled = lowered if "loops" in skip else Roller(lowered).roll()

        def program(lowered: Lowered) -> tuple[str, dict[str, Any]]:
            name_arrays(lowered, traced)
            return write(lowered, request, Groups(lowered).title)

        def exact() -> Build:
            other = lower(graph, *groups_of(graph, labels, ragged=False), request.shapes, plain=True)
            source, defines = program(other)
            again = replace(build, lowered=other, source=source, namespace=defines, n_checked=0, _runs={})
            again.exact = None
            return again

        source, namespace = program(rolled)
    contract = Contract(
        request,
        closure,
        Holds(facts, graph.frozen, traced.state, closure.knobs),
        {} if arrays is None else graph.assumed,
        picks_of(rolled),
        guards,
    )
    build = Build(
        contract,
        source,
        namespace,
        rolled,
        traced.names,
        traced.shape,
        traced.loss,
        np.flatnonzero(~is_used[: len(closure.learned)]).tolist() if request.gradient else [],
        n_checked,
        exact if lowered.is_padded else None,
        lost_in_float32(rolled),
        examples is not None or any(map(_can_raise, set(graph.rules))),  # math.exp(x.data) is followed, as exp
    )
    return build


def _can_raise(rule: Rule | None) -> bool:
    """Does the engine refuse some numbers here?"""
    if rule is None or rule.parameters.get("exponent") in (2, 3):
        return False
    return bool(rule.domain or rule.check) or not rule.ours


def _check_padded(lowered: Lowered, graph: Graph) -> int:
    """Add the sums over padded arrays to the outputs, as a last column each; returns how many.

    0 * inf in a place that no example asks for is nan, which shows in the results unless an operation hides it: a
    comparison with nan is false.
    """
    if not any(rule in _HIDE or (rule and not rule.ours) for rule in set(graph.rules)):
        return 0
    for array in lowered.padded:
        total = Tensor(-len(lowered.arrays), SUM, (), 1, array.batched, False)
        total.operation = sum_of([Terms([Read(array, np.arange(array.size)[None, :])])])
        lowered.arrays.append(total)
        lowered.outputs.append((total, 0))
    return len(lowered.padded)


# A result may be a number although an operand is nan.
_HIDE = {RULES["where"], *CHOICES.values()} - {CHOICES["plain"]}


def _differs(graph: Graph, n: int, n_paths: int) -> int:
    """The first path whose n outputs are others than those of path 0; 0 if there is none."""
    places = range(n, n * n_paths, n)
    return next((p // n for p in places if graph.outputs[p : p + n] != graph.outputs[:n]), 0)


def _guards(examples: Examples, graph: Graph, end: int, n: int) -> Guards:
    """Leave the n outputs of one path in the graph, and each guard once. The guards begin at `end`."""
    outputs = graph.outputs[:n]
    column: dict[int, int] = {}
    asked, paths = iter(graph.outputs[end:]), []
    for run in examples.runs:
        path = {column.setdefault(next(asked), len(column)): step.outcome for step in run.path}
        paths.append((list(path), list(path.values())))
    graph.outputs = [*outputs, *column]
    return Guards(examples, paths, len(column))
