"""Trace: run the function once on placeholders, and keep the graph of what it did.

A Placeholder is a Value without a number. It records every operation, and refuses what would need the number: the
compiled form must hold for every example and for all parameters, so nothing may depend on one of them. While the
function runs, its parameters are placeholders too, in the thread that traces and in no other.
"""

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...engine.graph import topological_order
from ...engine.value import Value
from ...engine.watch import tracers, watch
from .lending import of_classes, recording
from .nesting import flat_values, nested, place_of_loss
from .placeholder import OUTPUTS, Answers, Placeholder, TraceError, refuse
from .random_numbers import Draw, generators, put_states
from .tricks import following_functions

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
    """What is gathered while a function is traced: see `engine.watch`. It has no numbers.

    A list that is given as the tape gets the nodes.
    """

    def __init__(self, tape: list[Placeholder] | None = None) -> None:
        self.nodes: list[Placeholder] = [] if tape is None else tape
        self.refusals: list[TraceError] = []
        self.state: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.draws: list[Draw] = []
        self.around: list[Any] = []  # the lists and arrays that the function reads besides its arguments
        self.generators: dict[Any, Any] = {}  # where those that were used have been before
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
            cause.add_note(
                f"It was traced on one example of the shapes {shown}: the first axis of a batch is left out."
            )
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
        """Where the generators of the modules are. Then they are put where they were, with all that were used."""
        now = repr(generators())
        put_states(self.generators)
        return now

    def arguments(self, inputs: list[list[Placeholder]]) -> list[list[Any]]:
        """What the function gets, flat."""
        return [*inputs]


def trace_function(
    function: Callable[..., Any],
    parameters: Sequence[Value],
    shapes: Sequence[tuple[int, ...]],
    with_outputs: bool = False,
    tape: list[Placeholder] | None = None,
) -> Trace:
    """The graph of function(*example), where the examples have these shapes. The parameters stay what they were.

    With with_outputs=True the function returns (loss, outputs): the loss is put before the outputs. A list that is
    given as the tape gets the nodes.

    Raises TraceError where the function asks for a number, even if the function catches it, and TypeError where
    it returns no Values.
    """
    names = argument_names(function, len(shapes))
    inputs = list(map(placeholders, names, shapes))
    return Tracer(tape).run(function, parameters, names, shapes, inputs, with_outputs)


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


def placeholders(name: str, shape: tuple[int, ...]) -> list[Placeholder]:
    """Placeholders for an argument of this shape, flat."""
    places = itertools.product(*map(range, shape))
    return [Placeholder(label=f"{name}{list(place) if shape else ''}") for place in places]
