"""Trace: run the function once on placeholders, and keep the graph of what it did.

A Placeholder is a Value without a number. It records every operation, and refuses what would need the number: the
compiled form must hold for every example and for all parameters, so nothing may depend on one of them. While the
function runs, its parameters are placeholders too, in the thread that traces and in no other.
"""

import contextlib
import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ...engine.graph import topological_order
from ...engine.rules import RULES
from ...engine.value import Value
from ...engine.watch import tracers, watch
from .both_sides import is_number
from .items import is_same
from .lending import Place, of_classes, recording, swapped
from .merging import TAME
from .nesting import flat_values, nested, place_of_loss
from .placeholder import (
    CHOICES,
    GIVEN,
    OUTPUTS,
    TAKE,
    Answers,
    Placeholder,
    TraceError,
    WholeInput,
    place_of,
    refuse,
    users_frame,
)
from .random_numbers import Draw, factor, follower, generators, of_modules, put_states
from .surroundings import Surroundings
from .tracked import Tracked, kept_number, put_number
from .tricks import FOLLOWED

# --- Tracing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """What a function does to one example.

    nodes       every operation, as a placeholder, each after its parents
    outputs     its results, flat, in order; Placeholders or Values
    shape       how they were nested: () for one Value, (10,) for a list of ten
    inputs      per argument the placeholders of one example, flat
    names       per argument its name
    shapes      per argument the shape of one example
    parameters  the Values that are learned
    state       (object, attribute, value) of what the function read of modules, such as `training`
    loss        the place of the loss in the outputs; None if there are several numbers and none is the loss
    by_example  the runs of a trace by examples, else None: see `examples`
    """

    nodes: list[Placeholder]
    outputs: list[Value]
    shape: Any
    inputs: list[list[Placeholder]]
    names: list[str]
    shapes: Sequence[tuple[int, ...]]
    parameters: Sequence[Value]
    state: list[tuple[Any, str, Any]]
    loss: int | None
    by_example: Any = None

    def order(self) -> list[Value]:
        """The nodes and constants that the results need, each after its parents."""
        return topological_order(Placeholder.of(OUTPUTS, tuple(self.outputs)))[:-1]

    def constants(self) -> list[Value]:
        """The Values that the function uses, besides its inputs, its parameters and what is made of them."""
        operands = set[Any](self.outputs).union(
            *(map(attrgetter(side), self.nodes) for side in ("_left", "_right"))
        )
        operands.update(*[x for x in operands if x.__class__ is tuple])
        operands -= set(self.parameters)
        return [x for x in operands if isinstance(x, Value) and not isinstance(x, Placeholder)]


class Draws(TraceError):
    """The function draws random numbers: `wanted`, in this state of its modules. They must be inputs."""

    def __init__(self, wanted: list[Draw], state: list[tuple[Any, str, Any]]):
        super().__init__(
            f"The function draws {len(wanted)} random number(s) for each example, by {wanted[0].function}. They "
            'are drawn anew at each call, except by step.function with backend="jax", and in JavaScript. '
            "There give them as an input. For Dropout, call model.eval()."
        )
        self.wanted, self.state = wanted, state

    def holds(self) -> bool:
        """Is the state of the modules as it was?"""
        return all(getattr(thing, name) == then for thing, name, then in self.state)


class Tracer(Answers):
    """What is gathered while a function is traced: see `engine.watch`. It has no numbers."""

    def __init__(self) -> None:
        self.nodes: list[Placeholder] = []
        self.refusals: list[TraceError] = []
        self.state: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.draws: list[Draw] = []
        self.around: list[Any] = []  # the lists and arrays that the function reads besides its arguments
        self.generators: dict[Any, Any] = {}  # those that were used, with their old states
        self.refuse = refuse
        super().__init__()

    def reads(self, thing: Any, name: str, now: Any) -> None:
        self.state.setdefault((id(thing), name), (thing, name, now))

    def stand_in(self, value: Value) -> Any:
        """What stands for a number that a Value stands for."""
        return value

    def is_placeholder(self, x: Any) -> bool:
        return isinstance(x, Placeholder)

    def by_hand(self, node: Any, operands: Sequence[Any], slopes: Sequence[Any] | None) -> None:
        """A Value was made from a number and operands, with one slope for each, or with a closure to come."""
        if any(map(self.is_placeholder, operands)):
            refuse("an operation was written by hand", "Use the operations of tinygrad_edu.")

    def run(
        self,
        function: Callable[..., Any],
        parameters: Sequence[Value],
        names: list[str],
        shapes: Sequence[tuple[int, ...]],
        inputs: list[list[Placeholder]],
        with_outputs: bool,
    ) -> Trace:
        """The trace of the function. `inputs` has the placeholders of each argument, flat."""
        outer, watch.tracer = watch.tracer, self
        tracers.append(self)
        self.generators = generators()
        self.kind = next((type(p) for p in parameters if type(p) is not Value), Value)
        try:
            with of_classes(parameters, recording), following_functions(function):
                result = function(*map(nested, self.arguments(inputs), shapes))
                first, result = (flat_values(result[0])[0], result[1]) if with_outputs else ([], result)
                outputs, shape = flat_values(result)  # which may still compute: a generator
                loss = place_of_loss(result, shape)
            if self.refusals:
                raise self.refusals[0]  # the function has caught it
        except Exception as error:
            cause = self.refusals[0] if self.refusals else error
            shown = ", ".join(map("{} {}".format, names, shapes))
            traced = f"It was traced on one example of the shapes {shown}: the first axis of a batch is left out."
            cause.add_note(f"{traced} A Placeholder is one number of the example.")
            if cause is error:
                raise
            raise cause from error
        finally:
            watch.tracer = outer
            tracers.remove(self)
            drawn = self._rewound()
        for wanted in self.draws:
            wanted.now()
        if self._rewound() != drawn:
            raise TraceError(
                "The function draws random numbers by other means than the functions of `random` or numpy.random, "
                "and a generator that it names. Draw by these, or outside, and give the numbers as an argument."
            )
        state = list(self.state.values())
        if self.draws:
            raise Draws(self.draws, state)
        return Trace(self.nodes, [*first, *outputs], shape, inputs, names, shapes, parameters, state, loss)

    def _rewound(self) -> str:
        """The states of the modules' generators. Then all generators that were used get their old states."""
        now = repr(generators())
        put_states(self.generators)
        return now

    def arguments(self, inputs: list[list[Placeholder]]) -> list[list[Any]]:
        """What the function gets, flat."""
        return [*inputs]


@dataclass(frozen=True, eq=False)
class Outcome:
    """A step of a path: `node` was true or not. Where a number became a plain one, it says "equals `pinned`"."""

    node: Value
    outcome: bool
    place: str
    pinned: Any = None


class ExampleTracer(Tracer):
    """A trace of one example: it has numbers, and remembers which were asked for."""

    def __init__(self, parameters: dict[Value, float], kinds: Sequence[Any]):
        super().__init__()
        self.parameters: dict[Value, float] = parameters
        self.kinds: Sequence[Any] = kinds
        self.path: list[Outcome] = []
        self.hand: dict[Any, tuple[Value, Sequence[Any]]] = {}  # nodes by hand: their numbers and operands
        self.winners: dict[Any, tuple[Any, Any]] = {}  # of max by a key: the items, and which it is
        self._done = 0  # so many nodes have their numbers

    def arguments(self, inputs: list[list[Placeholder]]) -> list[list[Any]]:
        pairs = zip(self.kinds, inputs, strict=True)
        return [[x if kind is Value else Tracked(x, whole=kind is int) for x in flat] for kind, flat in pairs]

    def stand_in(self, value: Value) -> Tracked:
        return Tracked(value)

    def data(self, node: Value) -> Tracked:
        if node in self.hand:  # its closure reads it, too
            return Tracked(self.hand[node][0])
        return Tracked(Placeholder.of(CHOICES["plain"], (node,)))

    def same(self, node: Value, other: Any) -> bool:
        return is_same(node, other) if isinstance(other, Value) else super().same(node, other)

    def by_hand(self, node: Any, operands: Sequence[Any], slopes: Sequence[Any] | None) -> None:
        """Make a node that the function wrote by hand a placeholder with its number and its slopes."""
        number = node.data
        if not isinstance(number, Tracked) and not any(map(self.is_placeholder, operands)):
            return  # made of constants
        node.__class__ = recording(self.kind)
        node.become(CHOICES["plain"], (_node_of(number),))
        self.hand[node] = _node_of(number), operands
        self.nodes.append(node)
        if slopes is not None:
            self._slopes(node, operands, slopes)

    def closure(self, node: Any, function: Callable[[], None]) -> None:
        """The slopes of a node by hand are what its closure adds to the gradients of the operands."""
        operands = list(dict.fromkeys(self.hand[node][1]))
        gradients = {**dict.fromkeys(operands, 0.0), node: 1.0}
        with swapped([(Place(self, "gradients", "attribute"), gradients)]):
            function()
            slopes = [self.gradients[operand] for operand in operands]
        self._slopes(node, operands, slopes)

    def _slopes(self, node: Any, operands: Sequence[Any], slopes: Sequence[Any]) -> None:
        """Let a node by hand be a sum of parts: each has the slope of one operand, the first has the number."""
        at = next(i for i in range(len(self.nodes) - 1, -1, -1) if self.nodes[i] is node)
        del self.nodes[at]
        self._done = min(self._done, at)
        pairs = list(zip(operands, slopes, strict=False))
        numbers = [self.hand[node][0], *[Value(0.0)] * (len(pairs) - 1)]
        rows = [(n, operand, _node_of(slope)) for n, (operand, slope) in zip(numbers, pairs, strict=False)]
        if len(rows) == 1:
            node.become(GIVEN, rows[0])
        elif rows:
            node.become(RULES["sum"], tuple(Placeholder.of(GIVEN, row) for row in rows))
        self.nodes.append(node)

    def truth(self, node: Value) -> bool:
        outcome = bool(self.number(node))
        self.path.append(Outcome(node, outcome, _here()))
        return outcome

    def pinned(self, node: Value, whole: bool = True) -> Any:
        """The number of a node as a plain one, which may go anywhere."""
        number = int(self.number(node)) if whole else float(self.number(node))
        same = Placeholder.of(CHOICES["equal"], (node, Value(number)))
        self.path.append(Outcome(same, True, _here(), number))
        return number

    def both(self, question: Tracked, then: Callable[[Any], Any], other: Callable[[Any], Any]) -> Any:
        """The numbers of both sides of a branch; None if they are no numbers, or if a side asks for more."""
        lists: tuple[list[Any], ...] = self.nodes, self.path, self.draws, self.refusals
        before = list(map(len, lists))
        numbers = []
        with contextlib.suppress(Exception):  # of the side that is not for this example
            for side in then, other:
                start = len(self.nodes)
                numbers.append(side(0))
                self._guard(start, question.node, side is then)
            if all(map(is_number, numbers)) and before[1:] == list(map(len, lists))[1:]:
                return numbers
        for those, n in zip(lists, before, strict=True):
            del those[n:]
        self._done = min(self._done, len(self.nodes))
        return None

    def _guard(self, start: int, question: Value, yes: bool) -> None:
        """Let the nodes of a side compute with 1 where the side is not taken: 0 * nan would reach the gradient."""
        nodes = self.nodes[start:]
        del self.nodes[start:]
        self._done = min(self._done, start)
        safe: dict[Value, Value] = {}
        for node in nodes:
            if node.rule is not None and node.rule not in TAME and node.rule is not TAKE:
                ones = [1.0] * len(node.parents)
                out = node.rule.forward(*ones)
                if not all(map(math.isfinite, (out, *node.rule.shares(1.0, out, *ones)))):
                    raise ArithmeticError
                for x in node.parents:
                    if x not in safe:
                        pair = (x, Value(1.0)) if yes else (Value(1.0), x)
                        safe[x] = Placeholder.of(RULES["where"], (question, *pair))
                node.become(node.rule, tuple(safe[x] for x in node.parents))
            self.nodes.append(node)

    def inside(self, node: Value, end: int, start: int = 0) -> None:
        """Let the path say that start <= the number of a node < end, if it is so: an index is computed."""
        for name, bound in {"ge": start, "lt": end}.items():
            inside = Placeholder.of(CHOICES[name], (node, Value(bound)))
            self.path.append(Outcome(inside, bool(self.number(inside)), _here()))

    def known(self, x: Any) -> Any:
        """The node that a number stands for: of Value(x), where x is an input, the input."""
        while isinstance(x, Tracked) or not (
            isinstance(x, Placeholder) or x in self.parameters or not isinstance(x.data, Tracked)
        ):
            x = x.node if isinstance(x, Tracked) else x.data
        return x

    def number(self, node: Value) -> Any:
        """The number of a node for this example."""
        if node.rule is not None:
            for each in itertools.islice(self.nodes, self._done, None):
                put_number(each, _computed(each.rule, [self._number(parent) for parent in each.parents]))
            self._done = len(self.nodes)
        return self._number(node)

    def _number(self, node: Any) -> Any:
        if node in self.parameters:
            return self.parameters[node]
        if isinstance(node, Placeholder):
            return kept_number(node)
        known = self.known(node)
        return known.data if known is node else self._number(known)


def _node_of(number: Any) -> Value:
    """The node of a number that may be tracked."""
    return number.node if isinstance(number, Tracked) else number if isinstance(number, Value) else Value(number)


def _computed(rule: Any, inputs: list[Any]) -> float:
    try:
        return float(rule.forward(*inputs))
    except (ArithmeticError, ValueError):
        return math.nan


def _here() -> str:
    """Where the user's code stands."""
    return place_of(users_frame()[1])


# --- Functions ------------------------------------------------------------------------------------------------


def trace_function(
    function: Callable[..., Any],
    parameters: Sequence[Value],
    shapes: Sequence[tuple[int, ...]],
    with_outputs: bool = False,
    whole: Sequence[bool] = (),
) -> Trace:
    """The graph of function(*example), where the examples have these shapes. The parameters stay what they were.

    With with_outputs=True the function returns (loss, outputs): the loss is put before the outputs. `whole` says
    which arguments are whole numbers.

    Raises TraceError where the function asks for a number, even if the function catches it, and TypeError where
    it returns no Values.
    """
    names = argument_names(function, len(shapes))
    kinds = [WholeInput if is_whole else Placeholder for is_whole in whole or [False] * len(shapes)]
    inputs = list(map(placeholders, names, shapes, kinds))
    return Tracer().run(function, parameters, names, shapes, inputs, with_outputs)


def following_functions(function: Callable[..., Any]) -> contextlib.AbstractContextManager[None]:
    """Inside the block, max, min and the functions of `math` record Tracked numbers, in a thread that traces.

    max and min compare item after item, and the outcomes would be others for nearly every example. Functions of
    `math` take plain floats only. Random functions, and Dropout, note what is drawn, or take what was drawn. Where
    the function reads one of these, or a generator, by a name of its own, as after `from math import exp`, the
    other stands there too.
    """
    others = [(Place(*key, "attribute"), other) for key, other in (FOLLOWED | of_modules()).items()]
    of_original = {id(place.get()): other for place, other in others}
    (read := Surroundings(function, ())).facts()
    if watch.tracer:
        watch.tracer.around = read.around
    named = [(place, of_original.get(id(x)) or follower(x)) for place, x in read.builtin]
    dropout = Place(watch, "factor", "attribute"), factor
    return swapped([dropout, *others, *(pair for pair in named if pair[1])])


def argument_names(function: Callable[..., Any], n: int) -> list[str]:
    """The names of the first n arguments of a function; x0, x1 ... where it does not say."""
    try:
        signature = inspect.signature(function)
        signature.bind(*[None] * n)
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in signature.parameters.values() if p.kind in kinds][:n]
    except TypeError:
        raise TypeError(
            f"The function takes {inspect.signature(function)}, and {n} arrays were given: one array per argument."
        ) from None
    except ValueError:  # a builtin without a signature
        names = []
    return [*names, *(f"x{i}" for i in range(len(names), n))]


def placeholders(name: str, shape: tuple[int, ...], kind: Any = Placeholder) -> list[Placeholder]:
    """Placeholders for an argument of this shape, flat."""
    places = itertools.product(*map(range, shape))
    return [kind(label=f"{name}{list(place) if shape else ''}") for place in places]
