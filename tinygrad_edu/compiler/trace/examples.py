"""Trace by examples: run a function that asks for numbers on examples, and keep what holds for all of them.

Every number that the function reads is Tracked. So one run records, beside the operations, its **path**: each
outcome of a comparison, and each whole number that became a plain one. Another example with the same path
computes the same graph. The program evaluates the path for each example of every batch. An example with a path
that is not known runs by itself. If its graph has the same normal form, or can be merged (see `merging`), the path
is known too. Else the function is refused. So nothing is assumed about a path that no run has taken.

`table[i]` is no part of the path, if the list holds numbers: see `items`.
"""

import functools
import itertools
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any

from ...engine.graph import topological_order
from ...engine.value import Value
from ...engine.watch import watch
from .both_sides import rewritten
from .lending import Place, swapped
from .merging import Merge, Unlike
from .placeholder import SELECT, Placeholder, TraceError
from .surroundings import Surroundings
from .tracing import ExampleTracer, Outcome, Trace, placeholders
from .tracked import Tracked, put_number

PATHS, BY_WHOLE = 64, 1_024  # a program knows so many; and so many that whole numbers alone decide


@dataclass(eq=False)
class Run:
    """What the function did with one example: `example` has its numbers, per argument."""

    example: list[list[Any]]
    trace: Trace
    path: list[Outcome]

    @property
    def outputs(self) -> list[Any]:
        return self.trace.outputs

    @property
    def way(self) -> list[tuple[bool, Any]]:
        """The path as plain data: a function that is asked the same, and answered the same, does the same."""
        return [(step.outcome, step.pinned) for step in self.path]


@dataclass(eq=False)
class Examples:
    """The runs of a function on examples of one shape: one for each path that is known.

    kinds  what the function gets, per argument: Value, float or int
    """

    function: Callable[..., Any]
    parameters: Sequence[Value]
    names: list[str]
    shapes: Sequence[tuple[int, ...]]
    kinds: Sequence[Any]
    with_outputs: bool
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inputs: list[list[Placeholder]] = list(map(placeholders, self.names, self.shapes))
        self.learned: set[Value] = set(self.parameters)
        self.surroundings: Surroundings = Surroundings(self.function, self.parameters)
        self.surroundings.facts()
        self.codes: list[tuple[Place, CodeType]] = rewritten(self.surroundings.functions)

    def add(self, example: list[list[Any]], numbers: Sequence[float]) -> bool:
        """Run the function on an example, with these numbers of the parameters. Is its path a new one?

        Raises TraceError if there are too many paths, or where the function does what no trace can follow.
        """
        run = self._run(example, numbers)
        if any(run.way == known.way for known in self.runs):
            return False
        if len(self.runs) >= PATHS and self._too_many(run):
            text = next((step for step in run.path if isinstance(step.pinned, float)), None)
            raise TraceError(
                f"The text of a number was used{text.place}, and is different for nearly every example. "
                "Only print it, or keep to numbers."
                if text
                else f"The outcomes of the comparisons{run.path[0].place}, and after it, are different for "
                f"nearly every example. {SELECT} Python's max and min of the numbers are followed too."
            )
        self.runs.append(run)
        return True

    def _too_many(self, run: Run) -> bool:
        """Are there too many paths, with this one? Answers about whole numbers do not count."""
        by_whole = functools.cache(self._by_whole)
        ways = {
            tuple((step.outcome, step.pinned) for step in each.path if not by_whole(step.node))
            for each in (*self.runs, run)
        }
        return len(ways) > PATHS or len(self.runs) >= BY_WHOLE

    def _by_whole(self, node: Value) -> bool:
        """Do whole numbers of the example alone decide a number?"""
        whole = {x for kind, inputs in zip(self.kinds, self.inputs, strict=True) if kind is int for x in inputs}
        made_of = {x for x in topological_order(node) if x.rule is None} - whole
        return not any(isinstance(x, Placeholder) or x in self.learned for x in made_of)

    def trace(self) -> Trace:
        """All runs as one trace."""
        nodes = [node for run in self.runs for node in run.trace.nodes]
        state = list({(id(read[0]), read[1]): read for run in self.runs for read in run.trace.state}.values())
        return replace(self.runs[0].trace, nodes=nodes, state=state, by_example=self)

    def merged(self, outputs: Sequence[Sequence[Value]], other: int) -> Trace:
        """All runs as one trace with one row of results: see `merging`. Raises TraceError where it cannot be."""
        try:
            results = Merge(self.runs, outputs, self.learned).outputs
        except Unlike:
            raise self._differ(other) from None
        trace = replace(self.trace(), outputs=[*results, *(step.node for run in self.runs for step in run.path)])
        return replace(trace, nodes=[x for x in trace.order() if isinstance(x, Placeholder)], outputs=results)

    def _differ(self, other: int) -> TraceError:
        """The error for a path whose graph is another one than that of the first."""
        first, second = self.runs[0], self.runs[other]
        pairs = itertools.zip_longest(first.path, second.path)
        step = next((a or b for a, b in pairs if not (a and b) or a.pinned != b.pinned or a.outcome != b.outcome))
        what, instead = "a number was used as a plain int", "Choose by tg.take(xs, index) or a one-hot input."
        if step.pinned is None:
            what, instead = "a number decides what is computed", SELECT
        if self._by_whole(step.node):
            instead += (
                " Or decide it before, outside of the function: give it the items that it shall compute with. "
                "Examples of several lengths may be passed together."
            )
        elif isinstance(step.pinned, float):
            what, instead = "the text of a number was used", "Keep to numbers, or only print the text."
        return TraceError(
            f"While the function was traced by examples, {what}{step.place}. The example "
            f"{self._shown(first)} and the example {self._shown(second)} give different graphs. {instead}"
        )

    def _shown(self, run: Run) -> str:
        pairs = zip(self.names, run.example, strict=True)
        return ", ".join(f"{name} = {reprlib.repr(x if len(x) > 1 else x[0])}" for name, x in pairs) or "()"

    # --- One run ----------------------------------------------------------------------------------------------

    def _run(self, example: list[list[Any]], numbers: Sequence[float]) -> Run:
        parameters = dict(zip(self.parameters, numbers, strict=True))
        tracer = ExampleTracer(parameters, self.kinds)
        for leaf, number in zip(itertools.chain(*self.inputs), itertools.chain(*example), strict=True):
            put_number(leaf, number)
        how = self.function, self.parameters, self.names, self.shapes, self.inputs, self.with_outputs
        with swapped(self.codes):
            trace = tracer.run(*how)
        read = {x: tracer.known(x) for x in trace.constants() if isinstance(x.data, Tracked)}
        for node in tracer.nodes if read else ():
            if not read.keys().isdisjoint(node.parents):
                node.become(node.rule, tuple(read.get(x, x) for x in node.parents))
        trace = replace(trace, outputs=list(map(tracer.known, trace.outputs)))
        with swapped([(Place(watch, "tracer", "attribute"), tracer)]):
            self.surroundings.facts()  # numbers that the function has left somewhere become plain ones
        return Run(example, trace, tracer.path)
