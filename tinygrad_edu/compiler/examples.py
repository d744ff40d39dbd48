"""Trace by examples: run a function that asks for numbers on examples, and keep what holds for all of them.

Every number that the function reads is Tracked. So one run records, beside the operations, its **path**: each
outcome of a comparison, and each whole number that became a plain one. Another example with the same path
computes the same graph. The program evaluates the path for each example of every batch. An example with a path
that is not known runs by itself. If its graph has the same normal form, the path is known too. Else the function
is refused. So nothing is assumed about a path that no run has taken.

`table[i]` is the one use of a whole number that is no part of the path, if the list is known and holds Values
only. Two or more runs with other indices show which operands were chosen: they are items of the list, at the
index of each run. They become one operation, `take`.
"""

import contextlib
import itertools
import math
import random
import reprlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import attrgetter, getitem, ne, neg
from types import FrameType
from typing import Any

from ..engine.graph import topological_order
from ..engine.value import Value
from .subscripts import Returned, calls_followed, list_read
from .tracing import (
    CHOICES,
    SELECT,
    TAKE,
    Placeholder,
    Trace,
    TraceError,
    Tracer,
    place_of,
    placeholders,
    users_frame,
)
from .tracked import Tracked, following_max, kept_number, put_number, settle

PATHS = 64  # a program knows so many
SIDES = "_left", "_right"  # where a Value keeps its operands
RUNS, TRIES = 8, 40  # to find out which operands an index chooses


@dataclass(frozen=True, eq=False)
class Step:
    """A step of a path: `node` was true or not. Where a number became a plain one, it says "equals `pinned`"."""

    node: Value
    outcome: bool
    place: str
    pinned: Any = None


@dataclass(frozen=True, eq=False)
class Choice:
    """items[value], by a whole number that `node` computes. The items are Values, or nested tuples of them."""

    node: Value
    value: int
    items: tuple[Any, ...]
    place: str


class ExampleTracer(Tracer):
    """A trace of one example: it has numbers, and remembers which were asked for."""

    def __init__(self, parameters: dict[Value, float], kinds: Sequence[Any], tape: list[Placeholder]):
        super().__init__(tape)
        self.parameters, self.kinds = parameters, kinds
        self.path: list[Step] = []
        self.choices: list[Choice] = []
        self.tracked: list[Tracked] = []
        self.returned: Returned = {}
        self.by_a_call = False  # was what a call returned read at an index?
        self._done = 0  # so many nodes have their numbers

    def arguments(self, inputs: list[list[Placeholder]]) -> list[list[Any]]:
        pairs = zip(self.kinds, inputs, strict=True)
        return [[x if kind is Value else Tracked(x, whole=kind is int) for x in flat] for kind, flat in pairs]

    def data(self, node: Value) -> Tracked:
        return Tracked(Placeholder.of(CHOICES["plain"], (node,)))

    def same(self, node: Value, other: Any) -> bool:
        return node is other if isinstance(other, Value) else super().same(node, other)

    def truth(self, node: Value) -> bool:
        outcome = bool(self.number(node))
        self.path.append(Step(node, outcome, _here()))
        return outcome

    def pinned(self, node: Value) -> Any:
        """The whole number of a node as a plain one, which may go anywhere."""
        number = int(self.number(node))
        same = Placeholder.of(CHOICES["equal"], (node, Value(number)))
        self.path.append(Step(same, True, _here(), number))
        return number

    def picked(self, node: Value, frame: FrameType) -> int:
        """The whole number of a node as an index, which the running instruction of a frame asks for."""
        value = int(self.number(node))
        items, by_a_call = list_read(
            frame, self.returned, lambda key: key.number if isinstance(key, Tracked) else key
        )
        self.by_a_call |= by_a_call
        if items.__class__.__name__ in ("list", "tuple", "ndarray") and 0 <= value < len(items) > 1:
            frozen = tuple(map(self._frozen, items))
            rows = [list(_leaves(item)) for item in frozen]
            leaves = {id(leaf) for row in rows for leaf, _ in row if leaf is not None}
            alike = all([path for _, path in row] == [path for _, path in rows[0]] for row in rows)
            if alike and len(leaves) == sum(map(len, rows)):
                self.choices.append(Choice(node, value, frozen, _here()))
                for name, bound in {"ge": 0, "lt": len(items)}.items() if node.rule else ():  # Python counts from
                    inside = Placeholder.of(CHOICES[name], (node, Value(bound)))  # the end, too
                    self.path.append(Step(inside, True, _here()))
                return value
        return int(self.pinned(node))

    def _frozen(self, item: Any) -> Any:
        """An item with its Values, or numbers that are tracked, in nested tuples; None for anything else."""
        if isinstance(item, Value | Tracked):
            return self.known(item)
        return tuple(map(self._frozen, item)) if isinstance(item, list | tuple) else None

    def known(self, x: Any) -> Any:
        """The node that a number stands for: of Value(x), where x is an input, the input."""
        while True:
            if isinstance(x, Tracked):
                x = x.node
            elif isinstance(x, Placeholder) or x in self.parameters or not isinstance(x.data, Tracked):
                return x
            else:
                x = x.data

    def number(self, node: Value) -> Any:
        """The number of a node for this example."""
        if node.rule is not None:
            for made in itertools.islice(self.nodes, self._done, None):
                put_number(made, _computed(made.rule, [self._number(parent) for parent in made.parents]))
            self._done = len(self.nodes)
        return self._number(node)

    def _number(self, node: Any) -> Any:
        if node.__class__ is Placeholder:
            return kept_number(node)
        if node in self.parameters:
            return self.parameters[node]
        known = self.known(node)
        return known.data if known is node else self._number(known)


def _computed(rule: Any, inputs: list[Any]) -> float:
    try:
        return float(rule.forward(*inputs))
    except (ArithmeticError, ValueError):
        return math.nan


def _here() -> str:
    """Where the user's code stands."""
    return place_of(users_frame()[1])


@dataclass(eq=False)
class Run:
    """What the function did with one example: `example` has its numbers, per argument."""

    example: list[list[Any]]
    trace: Trace
    path: list[Step]
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

    kinds     what the function gets, per argument: Value, float or int
    new_tape  makes the list that gets the nodes of a run
    """

    function: Callable[..., Any]
    parameters: Sequence[Value]
    names: list[str]
    shapes: Sequence[tuple[int, ...]]
    kinds: Sequence[Any]
    with_outputs: bool
    new_tape: Callable[[], list[Placeholder]] = list
    runs: list[Run] = field(default_factory=list)
    follows_calls: bool = False

    def __post_init__(self) -> None:
        self.inputs = list(map(placeholders, self.names, self.shapes))
        self.learned = set(self.parameters)

    def add(self, example: list[list[Any]], numbers: Sequence[float]) -> bool:
        """Run the function on an example, with these numbers of the parameters. Is its path a new one?

        Raises TraceError if there are too many paths, or where the function does what no trace can follow.
        """
        run = self._settled(self._run(example, numbers), numbers)
        if any(run.way == known.way for known in self.runs):
            return False
        if len(self.runs) == PATHS:
            raise TraceError(
                f"The outcomes of the comparisons{run.path[0].place}, and after it, are different for "
                f"nearly every example. {SELECT} Python's max and min of the numbers are followed too."
            )
        self.runs.append(run)
        return True

    def trace(self) -> Trace:
        """All runs as one trace."""
        nodes = [node for run in self.runs for node in run.nodes]
        state = list({(id(read[0]), read[1]): read for run in self.runs for read in run.trace.state}.values())
        return replace(self.runs[0].trace, nodes=nodes, state=state, by_example=self)

    def differ(self, other: int) -> TraceError:
        """The error for a path whose graph is another one than that of the first."""
        first, second = self.runs[0], self.runs[other]
        pairs = itertools.zip_longest(first.path, second.path)
        step = next((a or b for a, b in pairs if not (a and b) or a.pinned != b.pinned or a.outcome != b.outcome))
        what = "a number decides what is computed" if step.pinned is None else "a number was used as a plain int"
        instead = SELECT if step.pinned is None else "Choose by tg.take(xs, index) or a one-hot input."
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
        tracer = ExampleTracer(parameters, self.kinds, self.new_tape())
        for leaf, number in zip(itertools.chain(*self.inputs), itertools.chain(*example), strict=True):
            put_number(leaf, number)
        how = self.function, self.parameters, self.names, self.shapes, self.inputs, self.with_outputs
        calls: Any = calls_followed() if self.follows_calls else contextlib.nullcontext({})
        with following_max(), calls as tracer.returned:
            trace = tracer.run(*how)
        if tracer.by_a_call and not self.follows_calls:
            self.follows_calls = True  # from now on: it takes time
            return self._run(example, numbers)
        operands = set[Any]().union(*(map(attrgetter(side), tracer.nodes) for side in SIDES))
        operands.update(*[x for x in operands if x.__class__ is tuple])
        plain = [x for x in operands - self.learned if isinstance(x, Value) and x.__class__ is not Placeholder]
        read = {x: tracer.known(x) for x in plain if isinstance(x.data, Tracked)}
        for node in tracer.nodes if read else ():
            if not read.keys().isdisjoint(node.parents):
                node.replace([read.get(x, x) for x in node.parents])
        trace = replace(trace, outputs=list(map(tracer.known, trace.outputs)))
        del operands, plain, read  # what is left of Tracked numbers now, the function has kept
        settle(tracer)
        return Run(example, trace, tracer.path, tracer.choices)

    # --- Which operands an index chooses ------------------------------------------------------------------------

    def _settled(self, run: Run, numbers: Sequence[float]) -> Run:
        """The run with an operation `take` for each operand that an index chose.

        The function runs again with other whole numbers, on the same path. What cannot be explained in this way
        becomes a part of the path.
        """
        if not run.choices:
            return run
        moved, rng, runs = self._movable(run), random.Random(0), [run]
        for _ in range(TRIES if moved else 0):
            example = [list(argument) for argument in run.example]
            for (argument, place), n in moved.items():
                example[argument][place] = rng.randrange(n)
            try:
                other = self._run(example, numbers)
            except Exception:  # such as an index out of range: numbers of another path
                continue
            if other.way == run.way and _rules(other) == _rules(run):
                runs.append(other)
                with contextlib.suppress(Unclear):
                    return _aligned(runs, self.learned)
            if len(runs) == RUNS:
                break
        for choice in run.choices:
            same = Placeholder(CHOICES["equal"], choice.node, Value(choice.value))
            run.nodes.append(same)
            run.path.append(Step(same, True, choice.place, choice.value))
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
            for leaf, path in _leaves(choice.items[choice.value]):
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


def _leaves(item: Any) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """The Values of nested tuples, each with the way to it."""
    if not isinstance(item, tuple):
        yield item, ()
        return
    for i, part in enumerate(item):
        for leaf, path in _leaves(part):
            yield leaf, (i, *path)
