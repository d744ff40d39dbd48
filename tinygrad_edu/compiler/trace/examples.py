"""Trace by examples: run a function that asks for numbers on examples, and keep what holds for all of them.

Every number that the function reads is Tracked. So one run records, beside the operations, its **path**: each
outcome of a comparison, and each whole number that became a plain one. Another example with the same path
computes the same graph. The program evaluates the path for each example of every batch. An example with a path
that is not known runs by itself. If its graph has the same normal form, or can be merged (see `merging`), the path
is known too. Else the function is refused. So nothing is assumed about a path that no run has taken.

`table[i]` is the one use of a whole number that is no part of the path, if the list is known and holds Values
only. Two or more runs with other indices show which operands were chosen: they are items of the list, at the
index of each run. They become one operation, `take`.
"""

import contextlib
import itertools
import random
import reprlib
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import attrgetter, getitem, ne, neg
from types import CodeType, FunctionType
from typing import Any

from ...engine.graph import topological_order
from ...engine.value import Value
from ...engine.watch import watch
from .both_sides import both_sides, rewritten
from .example_tracer import SIDES, Choice, ExampleTracer, Outcome, leaves
from .merging import Merge, Unlike
from .placeholder import CHOICES, SELECT, TAKE, Placeholder, TraceError
from .surroundings import Surroundings
from .tracing import Trace, placeholders
from .tracked import Tracked, put_number
from .tricks import calls_followed

PATHS, BY_WHOLE = 64, 1_024  # a program knows so many; and so many that whole numbers alone decide
RUNS, TRIES = 8, 40  # to find out which operands an index chooses
SHORT, CHEAP = 8, 20_000  # items of lists, nodes of all runs: every index is tried


@dataclass(eq=False)
class Run:
    """What the function did with one example: `example` has its numbers, per argument."""

    example: list[list[Any]]
    trace: Trace
    path: list[Outcome]
    choices: list[Choice]

    @property
    def nodes(self) -> list[Placeholder]:
        return self.trace.nodes

    @property
    def outputs(self) -> list[Any]:
        return self.trace.outputs

    @property
    def way(self) -> list[tuple[bool, Any]]:
        """The path as plain data: a function that is asked the same, and answered the same, does the same."""
        return [(step.outcome, step.pinned) for step in self.path]


class Unclear(Exception):
    """The runs do not show what an index chooses."""


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
    follows_calls: bool = False
    codes: dict[int, CodeType] = field(default_factory=dict)  # that asked for a number, by id
    functions: list[tuple[FunctionType, CodeType]] = field(default_factory=list)  # see `both_sides`

    def __post_init__(self) -> None:
        self.inputs: list[list[Placeholder]] = list(map(placeholders, self.names, self.shapes))
        self.learned: set[Value] = set(self.parameters)
        self.surroundings: Surroundings = Surroundings(self.function, self.parameters)

    def add(self, example: list[list[Any]], numbers: Sequence[float]) -> bool:
        """Run the function on an example, with these numbers of the parameters. Is its path a new one?

        Raises TraceError if there are too many paths, or where the function does what no trace can follow.
        """
        run = self._settled(self._run(example, numbers), numbers)
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
        whole = {x for kind, inputs in zip(self.kinds, self.inputs, strict=True) if kind is int for x in inputs}
        known: dict[Value, bool] = {}

        def by_whole(node: Value) -> bool:
            if node not in known:
                made_of = {x for x in topological_order(node) if x.rule is None} - whole
                known[node] = not any(isinstance(x, Placeholder) or x in self.learned for x in made_of)
            return known[node]

        ways = {
            tuple((step.outcome, step.pinned) for step in each.path if not by_whole(step.node))
            for each in (*self.runs, run)
        }
        return len(ways) > PATHS or len(self.runs) >= BY_WHOLE

    def trace(self) -> Trace:
        """All runs as one trace."""
        nodes = [node for run in self.runs for node in run.nodes]
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
        calls: Any = calls_followed() if self.follows_calls else contextlib.nullcontext({})
        try:
            with calls as tracer.returned, both_sides(self.functions):
                trace = tracer.run(*how)
        except Exception as error:
            codes = [
                f.f_code for e in (error, error.__cause__) if e for f, _ in traceback.walk_tb(e.__traceback__)
            ]
            if self._rewrite([*tracer.asked.values(), *codes]):
                return self._run(example, numbers)
            raise
        if self._rewrite(tracer.asked.values()):
            return self._run(example, numbers)
        if tracer.by_a_call and not self.follows_calls:
            self.follows_calls = True  # from now on: it takes time
            return self._run(example, numbers)
        operands = set[Any]().union(*(map(attrgetter(side), tracer.nodes) for side in SIDES))
        operands.update(*[x for x in operands if x.__class__ is tuple])
        plain = [x for x in operands - self.learned if isinstance(x, Value) and not isinstance(x, Placeholder)]
        read = {x: tracer.known(x) for x in plain if isinstance(x.data, Tracked)}
        for node in tracer.nodes if read else ():
            if not read.keys().isdisjoint(node.parents):
                node.replace([read.get(x, x) for x in node.parents])
        trace = replace(trace, outputs=list(map(tracer.known, trace.outputs)))
        outer, watch.tracer = watch.tracer, tracer
        try:
            self.surroundings.facts()  # numbers that the function has left somewhere become plain ones
        finally:
            watch.tracer = outer
        return Run(example, trace, tracer.path, tracer.choices)

    def _rewrite(self, codes: Iterable[CodeType]) -> bool:
        """Let the branches of these codes, and of those around them, be choices. Are there new ones?"""
        new = {id(code): code for code in codes if id(code) not in self.codes}
        self.codes |= new
        before = len(self.functions)
        self.functions += rewritten(new.values()) if new else []
        return len(self.functions) > before

    # --- Which operands an index chooses ------------------------------------------------------------------------

    def _settled(self, run: Run, numbers: Sequence[float]) -> Run:
        """The run with an operation `take` for each operand that an index chose.

        The function runs again with other whole numbers, on the same path. What cannot be explained in this way
        becomes a part of the path.
        """
        if not run.choices:
            return run
        moved, rng, runs = self._movable(run), random.Random(0), [run]
        longest = max(moved.values(), default=0)
        every = longest <= SHORT or longest * len(run.nodes) <= CHEAP  # else the ends of the lists
        turns: list[int | None] = (
            [*(range(longest) if every else (0, longest - 1)), *[None] * TRIES] if moved else []
        )
        orders = {where: rng.sample(range(n), n) if every else range(n) for where, n in moved.items()}
        for turn in turns:
            example = [list(argument) for argument in run.example]
            for (argument, place), order in orders.items():
                n = len(order)
                example[argument][place] = rng.randrange(n) if turn is None else order[min(turn, n - 1)]
            try:
                other = self._run(example, numbers)
            except Exception:  # such as an index out of range: numbers of another path
                continue
            if other.way == run.way:
                if _rules(other) != _rules(run):
                    break  # it was asked which item this is, as in `row is table[0]`
                runs.append(other)
            if len(runs) > 1 and (turn is None or turn == longest - 1):
                with contextlib.suppress(Unclear):
                    return _aligned(runs, self.learned)
            if turn is None and len(runs) >= RUNS + longest * every:
                break
        for n, choice in enumerate(run.choices):
            same = Placeholder(CHOICES["equal"], choice.node, Value(choice.value))
            run.nodes.append(same)
            run.path.insert(choice.asked + n, Outcome(same, True, choice.place, choice.value))
        return run

    def _movable(self, run: Run) -> dict[tuple[int, int], int]:
        """The inputs that choose, with the number of values that each may have: not those that the path names."""
        pinned = {x for step in run.path if step.pinned is not None for x in topological_order(step.node)}
        place = {x: (i, j) for i, argument in enumerate(self.inputs) for j, x in enumerate(argument)}
        found: dict[tuple[int, int], int] = {}
        for choice in run.choices:
            for x in topological_order(choice.node):
                if x in place and x not in pinned:
                    found[place[x]] = min(len(choice.items), found.get(place[x], len(choice.items)))
        return found


def _rules(run: Run) -> list[Any]:
    return [node.rule for node in run.nodes]


def _aligned(runs: list[Run], learned: Collection[Value]) -> Run:
    """The first run, after each operand that an index chose has become an operation of its own.

    The runs have the same path, so the n-th node of one stands for the n-th node of the others, and so do their
    operands. Operands that are no such pair are items of one list, at the index of each run. Raises Unclear where
    they are not, or where two lists explain them.
    """
    first = runs[0]
    if any(len({run.choices[i].value for run in runs}) < 2 for i in range(len(first.choices))):
        raise Unclear
    places = [dict(zip(map(id, run.nodes), itertools.count())) for run in runs]
    chosen: list[dict[int, set[tuple[int, ...]]]] = [{} for _ in runs]
    for run, known in zip(runs, chosen, strict=True):
        for number, choice in enumerate(run.choices):
            for leaf, path in leaves(choice.items[choice.value]):
                known.setdefault(id(leaf), set()).add((number, *path))
    made: dict[tuple[int, ...], Placeholder] = {}
    before: dict[int, list[Placeholder]] = {}  # the new nodes, by the node that reads them first

    def one(nodes: Sequence[Value]) -> Any:
        """The node that stands for these, one of each run."""
        node = nodes[0]
        if len({at.get(id(x), -id(x)) for at, x in zip(places, nodes, strict=True)}) == 1:
            return node
        ways = set.intersection(*(known.get(id(x), set()) for known, x in zip(chosen, nodes, strict=True)))
        plain = not ways and not any(isinstance(x, Placeholder) or x in learned for x in nodes)
        if plain and len({repr(x.data) for x in nodes}) == 1:
            return node  # a constant
        by = {way: one([run.choices[way[0]].node for run in runs]) for way in ways}
        if len(set(by.values())) != 1:
            raise Unclear
        way = min(ways)
        if way not in made:
            rows = ([reduce(getitem, way[1:], x) for x in run.choices[way[0]].items] for run in runs)
            made[way] = Placeholder.of(TAKE, (by[way], *map(one, zip(*rows, strict=True))))
            before.setdefault(reader, []).append(made[way])
        return made[way]

    readers = set[int]()  # nodes whose operands are no such pairs
    for side in SIDES:
        ids = [list(map(id, map(attrgetter(side), run.nodes))) for run in runs]
        mine, *others = [list(map(at.get, own, map(neg, own))) for at, own in zip(places, ids, strict=True)]
        readers.update(*(itertools.compress(itertools.count(), map(ne, mine, other)) for other in others))
    new = {}
    for reader in sorted(readers):
        rows = [run.nodes[reader].parents for run in runs]
        if len(set(map(len, rows))) > 1:
            raise Unclear
        new[reader] = [one(operands) for operands in zip(*rows, strict=True)]
    reader = len(first.nodes)
    outputs = [one(results) for results in zip(*(run.outputs for run in runs), strict=True)]
    for n, operands in new.items():
        first.nodes[n].replace(operands)
    tape = [x for n, node in enumerate(first.nodes) for x in (*before.get(n, ()), node)] + before.get(reader, [])
    return replace(first, trace=replace(first.trace, nodes=tape, outputs=outputs))
