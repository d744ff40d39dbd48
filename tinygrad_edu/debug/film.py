"""`record`: a training on film, the graph of each backward pass with its numbers."""

import copy
import os
from array import array
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, Self

from ..engine.calculus import values_of
from ..engine.changes import is_stale
from ..engine.former import Former
from ..engine.graph import topological_order
from ..engine.value import Value
from ..engine.watch import recorders
from ..viz.names import names_of
from ..viz.words import four_digits
from .paths import Filmed
from .training import DEAD, FilmBlame, Numbers, TrainingLog

FRAMES = 1000  # steps that are kept at most
NUMBERS = 5_000_000  # kept at most, of 8 bytes: gradients and leaves; a node of another graph counts 20
SHOWN = 200  # steps on the live page
NOTHING = "Nothing is recorded: no backward pass has reached the model's parameters."


class _Shape:
    """A graph of the training, with the operation and the operands of each node; other steps of the same shape
    share it."""

    def __init__(self, order: list[Value]):
        place = {node: i for i, node in enumerate(order)}
        self.root, self.nodes = order[-1], [(node.rule, *map(place.__getitem__, node.parents)) for node in order]


class _Shot(NamedTuple):
    step: int
    upstream: Any
    leaves: Numbers  # the numbers of all leaves, in topological order
    gradients: Numbers  # of the parameters, after the pass
    shape: _Shape


class Film(Former):
    """A list of graphs: `film[120]` is the graph of step 120 as it was after its backward pass.

    It is a Value that can be drawn, asked and stepped through: `tg.draw(film[120])`, `tg.why(film[120], w)`,
    `tg.debug.run(film[-1])`. Its leaves have the names of the model's parameters. A step is a backward pass that
    reaches these; `count` says how many there were, counted from 0.

    `steps` are those that are kept: 1,000 at most, with at most 5 million numbers, 40 MB. When there are more,
    every second one is dropped, and only every second one of the following is kept. The index of a dropped step
    gives the last kept step before it. Iteration goes over the kept graphs. `blame` sees every step.
    """

    _former: ClassVar = {
        "graph": "film[n] is the graph of step n",
        "frames": "iterate over the film: each item is the graph of a step",
        "why": "write tg.why(film[n], w), where w is a parameter or its name",
        "variables": "film.names has the names of film.parameters",
        "plot": "the losses are [graph.data for graph in film], over film.steps",
    }

    def __init__(self, model: Any, every: int = 1):
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every is a whole number of 1 or more, got {every!r}.")
        if hasattr(model, "named_parameters"):
            named = dict(model.named_parameters())
        else:  # a class of the user's own, or a list
            values = values_of(model, "record takes a model or a list of Values")
            own = {parameter: f"parameter{i}" for i, parameter in enumerate(values)}
            named = {name: parameter for parameter, name in names_of(own, own).items()}
        self.names: tuple[Any, ...] = tuple(named)
        self.parameters: tuple[Any, ...] = tuple(named.values())
        if not named:
            raise ValueError("The model has no parameters, so no backward pass reaches them.")
        self.every: int = every
        self.count: int = 0
        self._titles = {value: name for name, value in named.items()}
        self._shots = list[_Shot]()
        self._training = TrainingLog(self.names)

    # --- Recording ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        recorders.append(self)
        return self

    def __exit__(self, *error: Any) -> None:
        recorders.remove(self)

    @property
    def running(self) -> bool:
        """Is a `with` block recording now?"""
        return self in recorders

    def before(self, root: Value) -> tuple[Numbers, list[Value]] | None:
        """The gradients before a pass, and the nodes whose parameters have changed; None for another model."""
        order = topological_order(root)
        users = [node for node in order if not self._titles.keys().isdisjoint(node.parents)]
        if not users and root not in self._titles:
            return None
        return self._gradients(), [node for node in users if is_stale(node)]

    def _numbers(self) -> Numbers:
        return array("d", [float(parameter.data) for parameter in self.parameters])

    def _gradients(self) -> Numbers:
        return array("d", [float(parameter.grad or 0.0) for parameter in self.parameters])

    def after(self, root: Value, seen: tuple[Numbers, list[Value]] | None) -> None:
        """Record a backward pass that has just ended; `seen` is what `before` returned."""
        if not seen:
            return
        before, stale = seen
        order, step, self.count = topological_order(root), self.count, self.count + 1
        gradients, rows = self._gradients(), _examples(root, self._titles.keys())
        changed = sorted({self._titles[p] for node in stale for p in node.parents if p in self._titles})
        self._training.see(float(root.data), self._numbers(), before, gradients, rows, changed)
        if step % self.every and step not in self._training.steps:
            return
        new = _Shape(order)
        shape = next((shape for shape in self._shapes() if shape.nodes == new.nodes), new)
        leaves = array("d", [float(node.data) for node in order if node.rule is None])
        self._shots.append(_Shot(step, root.grad, leaves, gradients, shape))
        while self.every <= step and (len(self._shots) > FRAMES or self._room() > NUMBERS):
            self.every *= 2
            self._shots = [x for x in self._shots if x.step % self.every == 0 or x.step in self._training.steps]

    def _shapes(self) -> dict[_Shape, None]:
        """The shapes of the steps that are kept, each once."""
        return dict.fromkeys(shot.shape for shot in self._shots)

    def _room(self) -> int:
        """How many numbers are kept."""
        last, nodes = self._shots[-1], sum(len(shape.nodes) for shape in self._shapes())
        return len(self._shots) * (len(self.names) + len(last.leaves)) + 20 * (nodes - len(last.shape.nodes))

    # --- Looking --------------------------------------------------------------------------------------------

    @property
    def steps(self) -> list[int]:
        """The numbers of the steps that are kept."""
        return [shot.step for shot in self._shots]

    def __len__(self) -> int:
        return len(self._shots)

    def __iter__(self) -> Iterator[Value]:
        return (self._graph(shot) for shot in list(self._shots))

    def __getitem__(self, step: int) -> Value:
        wanted = step if step >= 0 else self.count + step
        if not 0 <= wanted < self.count:
            raise IndexError(f"there is no step {step}: the film has {self.count:,}, counted from 0.")
        return self._graph(max((shot for shot in self._shots if shot.step <= wanted), key=lambda shot: shot.step))

    def _graph(self, shot: _Shot) -> Value:
        root, leaves = copy.deepcopy(shot.shape.root), iter(shot.leaves)
        named, gradients = dict[str, Value](), dict(zip(self.names, shot.gradients, strict=True))
        for node, original in zip(topological_order(root), topological_order(shot.shape.root), strict=True):
            node.data = node.rule.forward(*[p.data for p in node.parents]) if node.rule else next(leaves)
            node.grad = 0.0
            if original in self._titles:
                node.label = self._titles[original]
                named[node.label] = node
                if node.__class__ is Value:
                    node.__class__ = Filmed
        if shot.upstream:
            root.backward(shot.upstream)
        for name, node in named.items():
            node.grad = gradients[name]
        return root

    def blame(self, dead: int = DEAD) -> FilmBlame:
        """What went wrong in the training, the most serious first; see `FilmBlame`.

        A unit is dead if it has no gradient in the last examples: in `dead` of them or more, and for at least four
        times as long as it ever had none before.
        """
        return self._training.blame(dead, self._numbers())

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The live page of the last step, with a second slider over the steps of the same shape. Returns its text.

        The slider has 200 steps at most, with numbers to six digits.

        Raises ValueError if there is no step, OSError if the file cannot be written, TypeError for a rule that
        cannot be written in JavaScript.
        """
        from ..page import Live

        if not self._shots:
            raise ValueError(NOTHING)
        same = [shot for shot in self._shots if shot.shape is self._shots[-1].shape]
        shown = [*same[:: 1 + len(same) // SHOWN][:-1], same[-1]]
        film = [(shot.step, [float(f"{x:.6g}") for x in shot.leaves]) for shot in shown]
        return Live(self._graph(same[-1]), {}, film=film).to_html(path)

    def __repr__(self) -> str:
        losses = self._training.losses
        ends = f", loss {four_digits(losses[0])} to {four_digits(losses[-1])}" if losses else ""
        return f"Film({self.count:,} steps, {len(self):,} kept{ends})"


def record(model: Any, every: int = 1) -> Film:
    """A film of the model's training, for a `with` block around any loop, or for `fit(..., film=film)`.

    Every backward pass that reaches the model's parameters is a step; every=10 keeps one of ten. Outside of the
    block nothing is recorded, and training costs no more. A list of parameters will do as the model. Raises
    TypeError for anything else, ValueError if the model has no parameters.

    >>> from tinygrad_edu import nn
    >>> model = nn.Neuron(1, "linear", rng=0)
    >>> with record(model) as film:
    ...     for _ in range(3):
    ...         loss = (model([2.0]) - 1) ** 2
    ...         loss.backward()
    ...         for parameter in model.parameters():
    ...             parameter.data -= 0.1 * parameter.grad
    >>> film.blame().kind, film.blame().step
    ('not zeroed', 1)
    """
    return Film(model, every)


def _examples(root: Value, parameters: Any) -> list[tuple[Any, ...]]:
    """The numbers of each example in a loss that adds up examples. A term without an input, such as a penalty on
    weights, is no example.

    The number nearest to the loss comes first: often it is the target. Before all numbers stands the place of the
    nearest parameter, which tells one output from another.
    """
    rows, stack, places = [], [root], {parameter: place for place, parameter in enumerate(parameters)}
    while stack:
        node = stack.pop()
        name = node.rule.name if node.rule else ""
        constants = [p for p in node.parents if not p.rule and p not in places]
        if name in ("add", "sum", "neg") or (name in ("mul", "div") and len(constants) == 1):
            stack += [p for p in node.parents if p.rule]
            continue
        near = {node: None}
        queue = [node]
        for x in queue:
            queue += [p for p in dict.fromkeys(x.parents) if p not in near]
            near |= dict.fromkeys(x.parents)
        if numbers := [x.data for x in near if not x.rule and x not in places]:
            rows.append((next((places[x] for x in near if x in places), -1), *numbers))
    return rows or [()]
