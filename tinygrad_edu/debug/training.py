"""What goes wrong over the steps of a training, seen from its losses, parameters and gradients."""

import math
import re
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from ..viz.words import few, four_digits, size

Numbers: TypeAlias = "array[float]"
Thing = TypeVar("Thing")
Rows: TypeAlias = list[tuple[Any, ...]]  # the numbers of each example

DEAD = 20  # examples in a row for which a unit has no gradient
EXPLODING = 1000.0  # times the largest gradient of the first half of the steps so far
HUGE = 1e9
SEVERITY = ("not zeroed", "stale", "nan, exploded", "uphill", "rising", "shuffled", "not moved", "dead")


class Event(NamedTuple):
    """What went wrong at a step, and how: `kind` is one of `FilmBlame`'s; `sentence` says it."""

    step: int
    kind: str
    sentence: str

    def __str__(self) -> str:
        return f"step {self.step:,}: {self.sentence}"


class FilmBlame:
    """The answer of `Film.blame`: false if all is well, else the `events`, the most serious first.

    "not zeroed"  a parameter was moved by a gradient that held something from before its last update
    "stale"       a parameter was changed between the forward and the backward pass
    "nan"         a loss or a gradient is not finite
    "exploded"    the gradients are 1,000 times the largest of the first half of the steps so far, or beyond 1e9
    "uphill"      the parameters move along their gradients, not against them
    "rising"      the loss does not fall
    "shuffled"    the same inputs come again with the targets of others
    "not moved"   gradients reach the parameters, and yet none moves
    "dead"        from this step to the end, no gradient reaches any unit of a layer

    `step`, `kind` and `sentence` are those of the first event; None, "" and "" where there is nothing to blame.
    `notes` are no faults: dead units of a layer in which others are alive, and layers that are frozen.
    """

    step: int | None
    kind: str
    sentence: str

    def __init__(self, events: Iterable[Event], notes: Iterable[str], count: int):
        self.events: tuple[Event, ...] = tuple(events)
        self.notes: tuple[str, ...] = tuple(notes)
        self.count: int = count
        self.step, self.kind, self.sentence = self.events[0] if self.events else (None, "", "")

    def __bool__(self) -> bool:
        return bool(self.events)

    def __repr__(self) -> str:
        lines = list(map(str, self.events[:10])) or [f"nothing to blame in {self.count:,} steps"]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, *[f"  look at it: tg.debug.run(film[{self.step}])"] * bool(self.events)])


class Update(NamedTuple):
    """What the next step needs to know of a step."""

    loss: float
    parameters: Numbers
    gradients: Numbers
    rows: Rows


class TrainingLog:
    """Watches every step, and lists what went wrong."""

    def __init__(self, names: tuple[str, ...]):
        self.names: tuple[str, ...] = names
        self.events: list[Event] = []  # the first of each kind
        self.old: dict[int, Event] = {}  # parameters whose gradients hold something from before their last update
        self.losses: array[float] = array("d")
        self._norms: array[float] = array("d")
        self._usual = 0.0  # the largest norm of the first half
        self._last: Update | None = None
        self._moves = self._uphill = 0  # updates, and those along the gradient
        self._same = self._rises = 0  # updates after which the same examples came again, and had a larger loss
        self._again = self._mixed = 0  # examples that came again, and those that had another's target by then
        self._pairs: dict[int, float] = {}  # the hash of an example without its target -> the target
        self._targets: set[float] = set()
        self._first: tuple[Any, ...] = ()
        self._place = sys.maxsize  # of the target: the first number that differs from example to example
        self._cleared = 0  # passes that began with all gradients at 0
        self._reached, self._moved = [0] * len(names), [False] * len(names)  # of each parameter
        self._units = _grouped(range(len(names)), lambda i: unit_of(names[i]))
        self._silent: dict[str, tuple[int, int]] = {}  # unit -> the step since when, and for how many examples
        self._longest: dict[str, int] = {}  # unit -> the examples of its longest silence that ended

    @property
    def steps(self) -> set[int]:
        """The steps in which something went wrong, or may have gone wrong."""
        return {event.step for event in [*self.events, *self.old.values()]}

    def see(
        self, loss: float, parameters: Numbers, before: Numbers, after: Numbers, rows: Rows, changed: Sequence[str]
    ) -> None:
        """Take note of a step: the gradients before and after its pass, the numbers of each example, and the names
        of the parameters that were changed since the forward pass."""
        step, update = len(self.losses), Update(loss, parameters, after, sorted(rows))
        moved = self._differing(parameters)
        events = [*self._used(moved), *self._broken(step, update, changed)]
        self.events += [x for x in events if x.kind not in [known.kind for known in self.events]]
        self._leave(step, moved, before, after)
        self._follow(moved, update)
        self._pair(update.rows)
        self._listen(step, before, after, len(rows))
        self._cleared += not any(before)
        self._reached = [count + bool(x) for count, x in zip(self._reached, after, strict=True)]
        self.losses.append(loss)
        self._last = update

    def _differing(self, parameters: Sequence[float]) -> list[bool]:
        """Which parameters have moved since the last step?"""
        if not self._last:
            return [False] * len(self.names)
        return [x != y for x, y in zip(parameters, self._last.parameters, strict=True)]

    def _broken(self, step: int, update: Update, changed: Sequence[str]) -> Iterator[Event]:
        """What is wrong with this step by itself."""
        gradients, norm = update.gradients, math.hypot(*update.gradients)
        if changed:
            late = "changed between the forward and the backward pass: compute the loss in every step"
            yield Event(step, "stale", f"{', '.join(few(changed, 2))} {late}")
        if not math.isfinite(norm + update.loss):
            broken = [name for name, x in zip(self.names, gradients, strict=True) if not math.isfinite(x)]
            sizes = f"loss {update.loss:.4g}, gradient {norm:.4g} long"
            yield Event(step, "nan", f"{[*broken, 'the loss'][0]} is not finite: {sizes}")
        earlier = self._norms[(step - 1) // 2] if step else 0.0  # the last of the first half
        self._usual = max(self._usual, earlier) if math.isfinite(earlier) else self._usual
        if norm > HUGE or (step >= 4 and 0 < EXPLODING * self._usual < norm):
            name, largest = max(zip(self.names, gradients, strict=True), key=lambda pair: size(pair[1]))
            first = f", and was {four_digits(self._norms[0])} at first" if self._norms else ""
            sentence = f"the gradient exploded: it is {four_digits(norm)} long{first}; {name}.grad is "
            yield Event(step, "exploded", sentence + four_digits(largest))
        self._norms.append(norm)

    def _used(self, moved: Sequence[bool]) -> list[Event]:
        """The first update by gradients that an earlier update had used already."""
        return sorted((event for i, event in self.old.items() if moved[i]), key=lambda event: event.step)[:1]

    def _leave(self, step: int, moved: Sequence[bool], before: Numbers, after: Numbers) -> None:
        """Note the gradients that are left over from an update. They do no harm where they are set to zero before
        the next one, as in a discriminator that the step of its generator passes through."""
        for i in sorted(range(len(moved)), key=lambda i: size(before[i]), reverse=True):
            if not before[i]:
                self.old.pop(i, None)
            elif moved[i] and i not in self.old:
                sentence = (
                    f"gradients were not set to zero: {self.names[i]}.grad was {four_digits(before[i])} before "
                    f"the pass, though the parameters had moved, and {four_digits(after[i])} after it"
                )
                self.old[i] = Event(step, "not zeroed", sentence)

    def _follow(self, moved: Sequence[bool], now: Update) -> None:
        """Count the update before this step: which way it went, and what became of the loss."""
        if not self._last or not any(moved):
            return
        ways = zip(now.parameters, self._last.parameters, self._last.gradients, strict=True)
        self._moves += 1
        self._uphill += sum((x - y) * gradient for x, y, gradient in ways) > 0
        self._same += now.rows == self._last.rows
        self._rises += now.rows == self._last.rows and not now.loss <= self._last.loss
        self._moved = [x or y for x, y in zip(self._moved, moved, strict=True)]

    def _pair(self, rows: Rows) -> None:
        """Count the examples that come again, and of these the ones with the target of another."""
        now: dict[int, float] = {}
        for row in rows if len(rows) > 1 else ():
            self._first = self._first or row
            places = (i for i, x in enumerate(zip(row, self._first, strict=False)) if i and x[0] != x[1])
            self._place = min(self._place, next(places, sys.maxsize))
            if self._place < len(row):
                inputs, target = hash(row[: self._place] + row[self._place + 1 :]), row[self._place]
                if now.setdefault(inputs, target) != target:
                    self._mixed = -sys.maxsize  # the same inputs with two targets at once: these data are so
                old = self._pairs.get(inputs)
                self._again += old is not None
                self._mixed += old not in (None, target) and target in self._targets
        self._pairs |= now
        self._targets.update(now.values())

    def _listen(self, step: int, before: Numbers, after: Numbers, examples: int) -> None:
        """Count the examples for which no gradient has reached a unit, while it reached others."""
        reached = [x != y for x, y in zip(before, after, strict=True)]
        for unit, places in self._units.items() if any(reached) else ():
            if any(reached[i] for i in places):
                _, heard = self._silent.pop(unit, (0, 0))
                self._longest[unit] = max(heard, self._longest.get(unit, 0))
            else:
                since, heard = self._silent.get(unit, (step, 0))
                self._silent[unit] = since, heard + examples

    # --- Over all steps -------------------------------------------------------------------------------------

    def blame(self, dead: int, parameters: Sequence[float]) -> FilmBlame:
        """See `Film.blame`; `parameters` are their present numbers, after the last update."""
        events, notes = [*self.events, *self._trends()], [*self._frozen(), *self._rests()]
        events += [x for x in self._used(self._differing(parameters)) if x.kind not in [y.kind for y in events]]
        for layer, units in _grouped(self._units, layer_of).items():
            silent = [self._silent[unit] for unit in units if self._is_dead(unit, dead)]
            if not silent:
                continue
            since, (_, examples) = min(silent)[0], silent[0]
            sentence = (
                f"{len(silent)} of {len(units)} units of {layer} are dead: no gradient has reached "
                f"{'it' if len(silent) == 1 else 'them'} since then, for {examples:,} examples"
            )
            if len(silent) == len(units) > 1:
                events.append(Event(since, "dead", sentence))
            else:
                notes.append(f"step {since:,}: {sentence}")
        events.sort(key=lambda x: (next(i for i, kinds in enumerate(SEVERITY) if x.kind in kinds), x.step))
        return FilmBlame(events, notes, len(self.losses))

    def _is_dead(self, unit: str, dead: int) -> bool:
        return self._silent.get(unit, (0, -1))[1] >= max(dead, 4 * self._longest.get(unit, 0))

    def _trends(self) -> Iterator[Event]:
        """What becomes of the loss, which way the updates go, and whether there are any."""
        count, last = len(self.losses), len(self.losses) - 1
        if count >= 5 and not any(self._reached):
            yield Event(last, "dead", f"no gradient reached any parameter in {count} steps")
        elif count >= 5 and self._moves == 0 and self._cleared == count:
            cause = "is the optimiser's step missing, or does it come after zero_grad?"
            yield Event(last, "not moved", f"no parameter moved in {count} steps: {cause}")
        if self._moves >= 4 and self._again >= 8 and self._mixed >= 0.25 * self._again:
            sentence = f"of {self._again} examples that came again, {self._mixed} had the target of another"
            yield Event(last, "shuffled", f"{sentence}: shuffle inputs and targets together")
        if not count or not math.isfinite(sum(self.losses)):
            return
        third = max(1, count // 3)
        begin, end = (sum(part) / third for part in (self.losses[:third], self.losses[-third:]))
        again = self._same >= 4 and self._rises >= 0.3 * self._same and not end <= 0.9 * self.losses[0]
        if self._moves >= 3 and self._uphill >= 0.9 * self._moves:
            sentence = (
                f"the parameters moved along their gradients in {self._uphill} of {self._moves} updates, so that "
                "the loss grows: to make it smaller, subtract the gradient, as in p.data -= rate * p.grad"
            )
            yield Event(last, "uphill", sentence)
        elif again or (self._moves >= 8 and 0 < 1.5 * begin < end):
            sentence = (
                f"the loss does not fall: it was {four_digits(begin)} in the first third of the steps and is "
                f"{four_digits(end)} in the last: is the learning rate too large?"
            )
            yield Event(last, "rising", sentence)

    def _rests(self) -> Iterator[str]:
        """A question, if the same examples come again and again and the loss stays above half of the first."""
        if self._moves < 10 or self._same < 0.9 * self._moves:
            return
        first, middle, last = (self.losses[i] for i in (0, len(self.losses) // 2, -1))
        if max(0.95 * middle, 0.5 * first) < last < first:
            yield (
                f"the loss rests at {four_digits(last)}, and was {four_digits(first)} at first: is the learning "
                "rate too small, or has each input the target of another?"
            )

    def _frozen(self) -> Iterator[str]:
        """Parameters that have gradients and stay as they are: on purpose, or forgotten."""
        layers = _grouped(range(len(self.names)), lambda i: self.names[i].partition(".")[0])
        for layer, places in layers.items() if self._moves >= 4 else ():
            still = [self.names[i] for i in places if not self._moved[i] and self._reached[i] >= 4]
            who = layer if len(still) == len(places) and len(layers) > 1 else ", ".join(few(still, 2))
            if still:
                yield (
                    f"{who} did not move in {self._moves} updates, though gradients arrived: left out of the "
                    "optimiser's parameters?"
                )


def _grouped(things: Iterable[Thing], of: Callable[[Thing], str]) -> dict[str, list[Thing]]:
    """The items in lists, by the key that `of` gives for each."""
    groups: dict[str, list[Thing]] = {}
    for thing in things:
        groups.setdefault(of(thing), []).append(thing)
    return groups


def unit_of(name: str) -> str:
    """The unit that a parameter belongs to: layer0.neuron3 of layer0.neuron3.w1, layer0.unit3 of layer0.W3_1."""
    place, _, last = name.rpartition(".")
    row = re.fullmatch(r"[Wb](\d+)(_\d+)?", last)
    return f"{place}.unit{row[1]}".removeprefix(".") if row else place or "the model"


def layer_of(unit: str) -> str:
    """layer0 of layer0.neuron3."""
    return unit.rpartition(".")[0] or "the model"
