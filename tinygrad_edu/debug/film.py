"""`record`: a training on film, each backward pass with parameters, gradients, loss and hardest example."""

import copy
import functools
import math
import os
import re
import threading
from array import array
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TypeAlias

from ..engine.graph import topological_order
from ..engine.value import Value
from ..viz.names import names_of
from ..viz.words import four_digits
from .paths import Why, why
from .sources import Swap

Numbers: TypeAlias = "array[float]"

FRAMES = 1000  # kept at most
NUMBERS = 5_000_000  # kept at most, of 8 bytes: parameters, gradients and leaves; a node of a second graph is 20
EXPLODING = 1000.0  # times the largest gradient of the first half of the steps so far
HUGE = 1e9
SHOWN = 200  # frames on the live page
NOTHING = "Nothing is recorded: no backward pass has reached the model's parameters."
DEAD = 20  # examples in a row for which a unit has no gradient


@dataclass(frozen=True, slots=True, repr=False)
class Example:
    """The term of a loss that is largest: its number, and the leaves it was computed from, except parameters."""

    loss: float
    inputs: tuple[float, ...]

    def __repr__(self) -> str:
        different = list(dict.fromkeys(map(four_digits, self.inputs)))
        shown = ", ".join(different[:8]) + ", ..." * (len(different) > 8)
        return f"loss {four_digits(self.loss)} for {shown}"


@dataclass(frozen=True, slots=True, repr=False)
class Frame:
    """One step of a film: `loss`, the `hardest` example, and the numbers before the step's update.

    `parameters` and `gradients` are by name; `norm` is the length of the vector of all gradients.
    """

    step: int
    loss: float
    hardest: Example | None
    norm: float
    _names: tuple[str, ...]
    _parameters: Numbers
    _gradients: Numbers
    _leaves: Numbers
    _graph: "_Graph"

    @property
    def parameters(self) -> dict[str, float]:
        return dict(zip(self._names, self._parameters, strict=True))

    @property
    def gradients(self) -> dict[str, float]:
        return dict(zip(self._names, self._gradients, strict=True))

    def __repr__(self) -> str:
        gradients = sorted(self.gradients.items(), key=lambda pair: -_size(pair[1]))
        largest = ", ".join(f"{name} {four_digits(gradient)}" for name, gradient in gradients[:3])
        lines = [f"step {self.step:,}: loss {four_digits(self.loss)}", f"  largest gradients: {largest}"]
        return "\n".join([*lines, *[f"  hardest example: {self.hardest}"] * bool(self.hardest)])


class Event(NamedTuple):
    """What went wrong at a step: `kind` is "nan", "exploded", "died" or "not zeroed"; `sentence` says it."""

    step: int
    kind: str
    sentence: str

    def __str__(self) -> str:
        return f"step {self.step:,}: {self.sentence}"


class FilmBlame:
    """The answer of `Film.blame`: false if all is well, else the `events` in the order of their steps.

    `step`, `kind` and `sentence` are those of `first`; None, "" and "" where there is nothing to blame.
    """

    def __init__(self, events: tuple[Event, ...], count: int):
        self.events, self.count = events, count
        self.first = events[0] if events else None
        self.step = self.first.step if self.first else None
        self.kind, self.sentence = (self.first.kind, self.first.sentence) if self.first else ("", "")

    def __bool__(self) -> bool:
        return bool(self.events)

    def __repr__(self) -> str:
        if not self.events:
            return f"nothing to blame in {self.count:,} steps"
        return "\n".join([*map(str, self.events[:10]), f"  look at it: tg.debug.run(film.graph({self.step}))"])


class Film:
    """The steps of a training: `film[120]` is the `Frame` of step 120, or the one kept before it.

    A step is a backward pass that reaches the model's parameters. Steps are counted from 0; `count` says how many
    there were, `len` how many frames are kept, and iteration goes over these. At most 1,000 frames are kept, and
    at most 5 million numbers, 40 MB: when there are more, every second frame is dropped, and of the steps that
    follow only every second is kept. `blame` sees every step, kept or not.
    """

    def __init__(self, model: Any, every: int = 1):
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every is a whole number of 1 or more, got {every!r}.")
        if hasattr(model, "named_parameters"):
            named = dict(model.named_parameters())
        else:  # a class of the user's own
            given = list(model.parameters())
            called = names_of(given, {parameter: f"parameter{i}" for i, parameter in enumerate(given)})
            named = {name: parameter for parameter, name in called.items()}
        self.names, self.parameters = tuple(named), tuple(named.values())
        if not named:
            raise ValueError("The model has no parameters, so no backward pass reaches them.")
        self.every, self.count, self.frames = every, 0, list[Frame]()
        self.variables: Mapping[Value, str] = {value: name for name, value in named.items()}
        self._graphs: dict[int, _Graph] = {}
        self._watch = _Watch(self.names)

    # --- Recording ------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._listening = _BACKWARD.listening(self)
        self._listening.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._listening.__exit__(*error)

    @property
    def running(self) -> bool:
        """Is a `with` block recording now?"""
        return self in _BACKWARD.listeners

    def _before(self) -> Numbers:
        return array("d", [float(parameter.grad or 0.0) for parameter in self.parameters])

    def _after(self, root: Value, before: Numbers) -> None:
        """Record a backward pass that has just ended, if it reached the parameters."""
        order = topological_order(root)
        if set(self.parameters).isdisjoint(order):
            return
        step, self.count = self.count, self.count + 1
        terms = _terms(root, set(self.parameters))
        parameters = array("d", [float(parameter.data) for parameter in self.parameters])
        gradients = self._before()
        loss = float(root.data)
        self._watch.see(step, loss, parameters, before, gradients, len(terms))
        if step % self.every and not self._happened(step):
            return
        graph = _Graph(order, self.names, self.parameters)
        graph = self._graphs.setdefault(graph.signature, graph)
        leaves = array("d", [float(node.data) for node in order if node.rule is None])
        hardest = max(terms, key=lambda example: _size(example.loss), default=None)
        norm = math.hypot(*gradients)
        self.frames.append(Frame(step, loss, hardest, norm, self.names, parameters, gradients, leaves, graph))
        while self.every <= step and (len(self.frames) > FRAMES or self._numbers() > NUMBERS):
            self.every *= 2
            self.frames = [x for x in self.frames if x.step % self.every == 0 or self._happened(x.step)]
            kept = {frame._graph.signature for frame in self.frames}
            self._graphs = {key: graph for key, graph in self._graphs.items() if key in kept}

    def _happened(self, step: int) -> bool:
        return any(event.step == step for event in self._watch.found)

    def _numbers(self) -> int:
        last = self.frames[-1]
        others = sum(graph.size for graph in self._graphs.values()) - last._graph.size
        return len(self.frames) * (2 * len(self.names) + len(last._leaves)) + 20 * others

    # --- Looking --------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __getitem__(self, step: int) -> Frame:
        """The frame of a step, or the last one kept before it; -1 is the last. Raises IndexError."""
        wanted = step if step >= 0 else self.count + step
        if not 0 <= wanted < self.count:
            raise IndexError(f"there is no step {step}: the film has {self.count:,}, counted from 0.")
        return max((frame for frame in self.frames if frame.step <= wanted), key=lambda frame: frame.step)

    def graph(self, step: int = -1) -> Value:
        """A copy of the graph of a step, with its numbers and no gradients: `tg.debug.run(film.graph(120))`."""
        frame = self[step]
        root = copy.deepcopy(frame._graph.root)
        numbers, order = iter(frame._leaves), topological_order(root)
        for node in order:
            node.data = node.rule.forward(*[p.data for p in node.parents]) if node.rule else next(numbers)
            node.grad = 0.0
        for place, name in frame._graph.places.items():
            order[place].label = name
        return root

    def why(self, parameter: Value | str, step: int | None = None, top: int = 10) -> Why:
        """The paths that a parameter's gradient sums at a step, by default where it was largest.

        The parameter is given by itself or by its name. Raises ValueError if the model has no such parameter, if
        the step did not use it, or if there is no frame.
        """
        name = self.variables.get(parameter, "") if isinstance(parameter, Value) else parameter
        if name not in self.names:
            raise ValueError(
                f"{parameter!r} is no parameter of the model: there are {', '.join(self.names[:5])}, ..."
            )
        if not self.frames:
            raise ValueError(NOTHING)
        if step is None:
            step = max(self.frames, key=lambda frame: _size(frame.gradients[name])).step
        root, frame = self.graph(step), self[step]
        found = [place for place, called in frame._graph.places.items() if called == name]
        if not found:
            raise ValueError(f"step {frame.step:,} did not use {name}.")
        return why(root, topological_order(root)[found[0]], top, variables={})

    def blame(self, dead: int = DEAD) -> FilmBlame:
        """The steps in which a gradient exploded or became nan, a unit died, or gradients were not set to zero.

        "exploded": the gradients are 1,000 times as long as ever in the first half of the steps before, or beyond
        1e9. "died": from this step to the end, no gradient reached a unit, for `dead` examples or more, and
        four times as many as ever before. "not zeroed": the parameters were moved, and yet their gradients still
        held what the step before had left.
        """
        return FilmBlame(self._watch.events(dead), self.count)

    def plot(self) -> Any:
        """Loss and length of the gradient over the steps, as a matplotlib Figure (extra `plot`)."""
        from ..viz.plots import empty_figure

        figure = empty_figure(6.0, 4.0)
        steps = [frame.step for frame in self.frames]
        for axes, name in zip(figure.subplots(2, sharex=True), ("loss", "norm"), strict=True):
            axes.plot(steps, [getattr(frame, name) for frame in self.frames])
            axes.set_ylabel({"loss": "loss", "norm": "length of the gradient"}[name])
            for event in self.blame().events:
                axes.axvline(event.step, color="crimson", linewidth=1, linestyle=":")
        axes.set_xlabel("step")
        axes.set_yscale("symlog", linthresh=1e-6)
        return figure

    def to_html(self, path: str | os.PathLike[str] | None = None) -> str:
        """The live page of the last frame's graph, with a second slider for the step. Returns its text.

        The slider goes over the frames with this graph, 200 at most, to six digits.

        Raises ValueError if there is no frame, OSError if the file cannot be written, TypeError for a rule that
        cannot be written in JavaScript.
        """
        from ..live import Live

        if not self.frames:
            raise ValueError(NOTHING)
        graph = self.frames[-1]._graph
        same = [frame for frame in self.frames if frame._graph is graph]
        kept = [*same[:: 1 + len(same) // SHOWN][:-1], same[-1]]
        film = [(frame.step, [float(f"{x:.6g}") for x in frame._leaves]) for frame in kept]
        return Live(self.graph(), {}, film=film).to_html(path)

    def __repr__(self) -> str:
        losses = f", loss {four_digits(self.frames[0].loss)} to {four_digits(self.frames[-1].loss)}" * bool(self)
        return f"Film({self.count:,} steps, {len(self):,} kept{losses})"


def record(model: Any, every: int = 1) -> Film:
    """A film of the model's training, for a `with` block around any loop, or for `fit(..., film=film)`.

    Every backward pass that reaches the model's parameters is a step, and every k-th is kept. Outside of the block
    nothing is recorded, and training costs nothing more. Raises ValueError if the model has no parameters.

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


def is_recorded(model: Any) -> bool:
    """Is a film of this model running?"""
    parameters = set(model.parameters()) if hasattr(model, "parameters") else set()
    return any(not parameters.isdisjoint(film.parameters) for film in _BACKWARD.listeners)


def _recorded(original: Callable[..., None], swap: Swap) -> Callable[..., None]:
    @functools.wraps(original)
    def backward(self: Value, *arguments: Any, **named: Any) -> None:
        films = [] if _HERE.inside else [(film, film._before()) for film in swap.listeners]
        outer, _HERE.inside = _HERE.inside, True  # a subclass may call this method of its base
        try:
            original(self, *arguments, **named)
        finally:
            _HERE.inside = outer
        for film, before in films:
            film._after(self, before)

    return backward


class _Here(threading.local):
    inside = False  # a backward pass


_HERE = _Here()
_BACKWARD = Swap(
    "backward", lambda: [kind for kind in (Value, *Value.__subclasses__()) if "backward" in vars(kind)], _recorded
)


class _Graph:
    """A graph without its numbers; `places` are those of the parameters in its topological order."""

    def __init__(self, order: list[Value], names: tuple[str, ...], parameters: tuple[Value, ...]):
        place = {node: i for i, node in enumerate(order)}
        self.root, self.size = order[-1], len(order)
        self.places = {place[p]: name for name, p in zip(names, parameters, strict=True) if p in place}
        shape = tuple((node.rule, tuple(place[p] for p in node.parents)) for node in order)
        self.signature = hash((shape, tuple(self.places)))


def _terms(root: Value, parameters: set[Value]) -> list[Example]:
    """The losses of the examples that a loss sums or averages, each with its inputs; one, if it is no sum."""
    found, stack = [], [(root, 1)]
    while stack:
        node, sign = stack.pop()
        name = node.rule.name if node.rule else ""
        constant = [p for p in node.parents if p.rule is None and p not in parameters]
        if name in ("add", "sum", "neg") or (name in ("mul", "div") and len(constant) == 1):
            stack += [(p, -sign if name == "neg" else sign) for p in reversed(node.parents) if p.rule]
            continue
        inputs = [p for p in reversed(topological_order(node)) if p.rule is None and p not in parameters]
        if inputs:  # a penalty on the weights has none
            found.append(Example(sign * float(node.data), tuple(float(p.data) for p in inputs)))
    return found


class _Watch:
    """Sees every step, and keeps what `blame` tells."""

    def __init__(self, names: tuple[str, ...]):
        self.names, self.found = names, list[Event]()
        self.norms, self.usual = array("d"), 0.0  # of all steps; the largest in the first half of them
        self.old: tuple[Numbers, Numbers] | None = None  # parameters and gradients after the last step
        self.units: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            self.units.setdefault(_unit(name), []).append(i)
        self.silent: dict[str, tuple[int, int]] = {}  # unit -> the step since when, and for how many examples
        self.longest: dict[str, int] = {}  # unit -> the examples of its longest silence that ended

    def see(
        self, step: int, loss: float, parameters: Numbers, before: Numbers, after: Numbers, examples: int
    ) -> None:
        """Take note of a step: the gradients before and after its pass, and how many examples it had."""
        norm = math.hypot(*after)
        for kind, sentence in (
            ("nan", self._not_finite(loss, norm, after)),
            ("exploded", self._exploded(norm, after)),
            ("not zeroed", self._left(parameters, before, after)),
        ):
            if sentence and kind not in [event.kind for event in self.found]:
                self.found.append(Event(step, kind, sentence))
        self.norms.append(norm)
        self.old = parameters, after
        self._listen(step, before, after, examples)

    def _not_finite(self, loss: float, norm: float, gradients: Numbers) -> str:
        if math.isfinite(norm + loss):
            return ""
        broken = [name for name, x in zip(self.names, gradients, strict=True) if not math.isfinite(x)]
        return f"{[*broken, 'the loss'][0]} is not finite: loss {loss:.4g}, gradient {norm:.4g} long"

    def _left(self, parameters: Numbers, before: Numbers, gradients: Numbers) -> str:
        """The parameters were moved, and yet the pass began with gradients that the step before had left."""
        if not self.old or parameters == self.old[0]:
            return ""
        left = [i for i, (x, y) in enumerate(zip(before, self.old[1], strict=True)) if x and x == y]
        if not left:
            return ""
        i = max(left, key=lambda i: _size(before[i]))
        return (
            f"gradients were not set to zero: {self.names[i]}.grad was {four_digits(before[i])} before "
            f"the pass, as the step before had left it, and {four_digits(gradients[i])} after it"
        )

    def _exploded(self, norm: float, gradients: Numbers) -> str:
        earlier = self.norms[(len(self.norms) - 1) // 2] if self.norms else 0.0  # the last of the first half
        self.usual = max(self.usual, earlier) if math.isfinite(earlier) else self.usual
        if not (norm > HUGE or (len(self.norms) >= 4 and 0 < EXPLODING * self.usual < norm)):
            return ""
        i = max(range(len(gradients)), key=lambda i: _size(gradients[i]))
        before = f", and was {four_digits(self.norms[0])} at first" * bool(self.norms)
        return (
            f"the gradient exploded: it is {four_digits(norm)} long{before}; "
            f"{self.names[i]}.grad is {four_digits(gradients[i])}"
        )

    def _listen(self, step: int, before: Numbers, gradients: Numbers, examples: int) -> None:
        """For how long has no gradient reached a unit, while it reached others?"""
        shares = [after - first for first, after in zip(before, gradients, strict=True)]
        if not any(shares):
            return
        for unit, places in self.units.items():
            if any(shares[i] for i in places):
                _, heard = self.silent.pop(unit, (0, 0))
                self.longest[unit] = max(heard, self.longest.get(unit, 0))
            else:
                since, heard = self.silent.get(unit, (step, 0))
                self.silent[unit] = since, heard + max(1, examples)

    def events(self, dead: int) -> tuple[Event, ...]:
        died = [
            Event(since, "died", f"{unit} died: since then no gradient reached it, for {examples:,} examples")
            for unit, (since, examples) in self.silent.items()
            if examples >= max(dead, 4 * self.longest.get(unit, 0))
        ]
        return tuple(sorted([*self.found, *died], key=lambda event: event.step))


def _unit(name: str) -> str:
    """The unit that a parameter belongs to: layer0.neuron3 of layer0.neuron3.w1, layer0.unit3 of layer0.W3_1."""
    place, _, last = name.rpartition(".")
    row = re.fullmatch(r"[Wb](\d+)(_\d+)?", last)
    return f"{place}.unit{row[1]}".removeprefix(".") if row else place or "the model"


def _size(x: float) -> float:
    return abs(x) if x == x else math.inf
