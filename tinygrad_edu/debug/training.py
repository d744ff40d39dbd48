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
Rows: TypeAlias = list[tuple[Any, ...]]  # of each example its numbers

DEAD = 20  # examples in a row for which a unit has no gradient
EXPLODING = 1000.0  # times the largest gradient of the first half of the steps so far
HUGE = 1e9
SEVERITY = {
    "not zeroed": 0,
    "stale": 1,
    "nan": 2,
    "exploded": 2,
    "uphill": 3,
    "rising": 4,
    "shuffled": 5,
    "not moved": 6,
    "dead": 7,
}


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
    "rising"      the loss grows
    "shuffled"    the same inputs come again with the targets of others
    "not moved"   gradients reach the parameters, and yet none moves
    "dead"        from this step to the end, no gradient reaches any unit of a layer

    `step`, `kind` and `sentence` are those of the first event; None, "" and "" where there is nothing to blame.
    `notes` are no faults: dead units of a layer in which others are alive, and layers that are frozen.
    """

    def __init__(self, events: tuple[Event, ...], notes: tuple[str, ...], count: int):
        self.events: tuple[Event, ...] = events
        self.notes: tuple[str, ...] = notes
        self.count: int = count
        self.step: int | None = events[0].step if events else None
        self.kind: str = events[0].kind if events else ""
        self.sentence: str = events[0].sentence if events else ""

    def __bool__(self) -> bool:
        return bool(self.events)

    def __repr__(self) -> str:
        lines = list(map(str, self.events[:10])) or [f"nothing to blame in {self.count:,} steps"]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, *[f"  look at it: tg.debug.run(film[{self.step}])"] * bool(self.events)])


class TrainingLog:
    """Sees every step, and knows what went wrong."""

    def __init__(self, names: tuple[str, ...]):
        self.names: tuple[str, ...] = names  # the first event of each kind
        self.events: list[Event] = list[Event]()
        self.losses: array[float] = array("d")  # usual: the largest of the first half
        self.norms: array[float] = array("d")
        self.usual: float = 0.0
        self.before: tuple[Numbers, Numbers, Rows, float] | None = None  # the step before
        self.old: dict[int, Event] = {}  # parameters whose gradients hold something from before their last update
        self.moves: int = 0  # updates, and those along the gradient
        self.uphill: int = 0
        self.same: int = 0  # updates after which the same examples came again, and had a larger loss
        self.rises: int = 0
        self.pairs: dict[int, float] = {}  # the hash of an example without its target -> the target
        self.targets: set[float] = set()
        self.place: int = sys.maxsize  # of the target: the first number that differs from example to example
        self.again: int = 0  # examples that came again, and those that had another's target by then
        self.mixed: int = 0
        self.first: tuple[Any, ...] = ()
        self.cleared: int = 0  # passes that began with all gradients at 0
        self.reached: list[int] = [0] * len(names)  # of each parameter
        self.moved: list[bool] = [False] * len(names)
        self.units: dict[str, list[int]] = _grouped(range(len(names)), lambda i: unit_of(names[i]))
        self.silent: dict[str, tuple[int, int]] = {}  # unit -> the step since when, and for how many examples
        self.longest: dict[str, int] = {}  # unit -> the examples of its longest silence that ended

    @property
    def steps(self) -> set[int]:
        """The steps that something went wrong in, or may have."""
        return {event.step for event in [*self.events, *self.old.values()]}

    def see(
        self,
        step: int,
        loss: float,
        parameters: Numbers,
        before: Numbers,
        after: Numbers,
        rows: Rows,
        changed: Sequence[str],
    ) -> None:
        """Take note of a step.

        `before` and `after` are the gradients before and after its pass, `rows` the numbers of each example,
        `changed` the names of parameters that were changed since the forward pass.
        """
        norm, rows = math.hypot(*after), sorted(rows)
        moved = [x != y for x, y in zip(parameters, self.before[0], strict=True)] if self.before else []
        events = [self._left(step, moved, before, after)]
        if changed:
            late = "changed between the forward and the backward pass: compute the loss in every step"
            events.append(Event(step, "stale", f"{', '.join(few(changed, 2))} {late}"))
        if not math.isfinite(norm + loss):
            broken = [name for name, x in zip(self.names, after, strict=True) if not math.isfinite(x)]
            sizes = f"loss {loss:.4g}, gradient {norm:.4g} long"
            events.append(Event(step, "nan", f"{[*broken, 'the loss'][0]} is not finite: {sizes}"))
        if self._explodes(norm):
            i = max(range(len(after)), key=lambda i: size(after[i]))
            first = f", and was {four_digits(self.norms[0])} at first" * bool(self.norms)
            largest = f"{self.names[i]}.grad is {four_digits(after[i])}"
            sentence = f"the gradient exploded: it is {four_digits(norm)} long{first}; {largest}"
            events.append(Event(step, "exploded", sentence))
        known = [event.kind for event in self.events]
        self.events += [event for event in events if event and event.kind not in known]
        self._follow(loss, moved, parameters, rows)
        self._pair(rows)
        self.norms.append(norm)
        self.losses.append(loss)
        self.cleared += not any(before)
        self.reached = [count + bool(x) for count, x in zip(self.reached, after, strict=True)]
        self.before = parameters, after, rows, loss
        self._listen(step, before, after, len(rows))

    def _left(self, step: int, moved: list[bool], before: Numbers, after: Numbers) -> Event | None:
        """Note an update by gradients that the update before it had used already.

        What is left over does no harm where it is set to zero before the next update, as in a discriminator that
        the step of its generator passes through.
        """
        used = self._used(moved)
        for i in sorted(range(len(moved)), key=lambda i: size(before[i]), reverse=True):
            if not before[i]:
                self.old.pop(i, None)
            elif moved[i] and i not in self.old:
                sentence = (
                    f"gradients were not set to zero: {self.names[i]}.grad was {four_digits(before[i])} before "
                    f"the pass, though the parameters had moved, and {four_digits(after[i])} after it"
                )
                self.old[i] = Event(step, "not zeroed", sentence)
        return used

    def _used(self, moved: Sequence[bool]) -> Event | None:
        """The first of the gradients in `old` that have moved their parameters."""
        used = [event for i, event in self.old.items() if moved[i]]
        return min(used, key=lambda event: event.step, default=None)

    def _explodes(self, norm: float) -> bool:
        earlier = self.norms[(len(self.norms) - 1) // 2] if self.norms else 0.0  # the last of the first half
        self.usual = max(self.usual, earlier) if math.isfinite(earlier) else self.usual
        return norm > HUGE or (len(self.norms) >= 4 and 0 < EXPLODING * self.usual < norm)

    def _follow(self, loss: float, moved: list[bool], parameters: Numbers, rows: Rows) -> None:
        """Count the update before this step: which way it went, and what became of the loss."""
        if not self.before or not any(moved):
            return
        numbers, gradients, old_rows, old_loss = self.before
        ways = (x - y for x, y in zip(parameters, numbers, strict=True))
        self.moves += 1
        self.uphill += sum(way * gradient for way, gradient in zip(ways, gradients, strict=True)) > 0
        self.same += rows == old_rows
        self.rises += rows == old_rows and not loss <= old_loss
        self.moved = [x or y for x, y in zip(self.moved, moved, strict=True)]

    def _pair(self, rows: Rows) -> None:
        """Count the examples that come again, and of these the ones with the target of another."""
        now: dict[int, float] = {}
        for row in rows if len(rows) > 1 else ():
            self.first = self.first or row
            differing = (
                i for i, pair in enumerate(zip(row, self.first, strict=False)) if i and pair[0] != pair[1]
            )
            self.place = min(self.place, next(differing, sys.maxsize))
            if self.place < len(row):
                inputs, target = hash(row[: self.place] + row[self.place + 1 :]), row[self.place]
                if now.setdefault(inputs, target) != target:
                    self.mixed = -sys.maxsize  # one example with two targets at a time: these data are so
                known = self.pairs.get(inputs)
                self.again += known is not None
                self.mixed += known not in (None, target) and target in self.targets
                self.pairs[inputs] = target
                self.targets.add(target)

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
                self.silent[unit] = since, heard + examples

    # --- Over all steps -------------------------------------------------------------------------------------

    def blame(self, dead: int, parameters: Sequence[float]) -> FilmBlame:
        """See `Film.blame`; `parameters` are their present numbers, after the last update."""
        last = len(self.losses) - 1
        events, notes = (
            [*self.events, *(Event(last, *trend) for trend in self._trends())],
            [*self._frozen(), *self._rests()],
        )
        if self.before and "not zeroed" not in [event.kind for event in events]:
            used = self._used([x != y for x, y in zip(parameters, self.before[0], strict=True)])
            events += [used] if used else []
        for layer, units in _grouped(self.units, layer_of).items():
            silent = [unit for unit in units if self._is_dead(unit, dead)]
            since = min([self.silent[unit][0] for unit in silent], default=0)
            sentence = (
                f"{len(silent)} of {len(units)} units of {layer} are dead: no gradient has reached "
                f"{'it' if len(silent) == 1 else 'them'} since then, for "
                f"{self.silent[silent[0]][1] if silent else 0:,} examples"
            )
            if len(silent) == len(units) > 1:
                events.append(Event(since, "dead", sentence))
            elif silent:
                notes.append(f"step {since:,}: {sentence}")
        events.sort(key=lambda event: (SEVERITY[event.kind], event.step))
        return FilmBlame(tuple(events), tuple(notes), len(self.losses))

    def _is_dead(self, unit: str, dead: int) -> bool:
        return self.silent.get(unit, (0, -1))[1] >= max(dead, 4 * self.longest.get(unit, 0))

    def _trends(self) -> Iterator[tuple[str, str]]:
        """What becomes of the loss, which way the updates go, and whether there are any: (kind, sentence)."""
        count = len(self.losses)
        if count >= 5 and not any(self.reached):
            yield "dead", f"no gradient reached any parameter in {count} steps"
        elif count >= 5 and self.moves == 0 and self.cleared == count:
            yield (
                "not moved",
                f"no parameter moved in {count} steps: is the optimiser's step missing, or does it come after "
                "zero_grad?",
            )
        if self.moves >= 4 and self.again >= 8 and self.mixed >= 0.25 * self.again:
            yield (
                "shuffled",
                f"of {self.again} examples that came again, {self.mixed} had the target of another: shuffle "
                "inputs and targets together",
            )
        if not count or not math.isfinite(sum(self.losses)):
            return
        third = max(1, count // 3)
        begin, end = (sum(part) / third for part in (self.losses[:third], self.losses[-third:]))
        again = self.same >= 4 and self.rises >= 0.3 * self.same and not end <= 0.9 * self.losses[0]
        if self.moves >= 3 and self.uphill >= 0.9 * self.moves:
            yield (
                "uphill",
                f"the parameters moved along their gradients in {self.uphill} of {self.moves} updates, so that "
                "the loss grows: to make it smaller, subtract the gradient, as in p.data -= rate * p.grad",
            )
        elif again or (self.moves >= 8 and 0 < 1.5 * begin < end):
            yield (
                "rising",
                f"the loss does not fall: it was {four_digits(begin)} in the first third of the steps and is "
                f"{four_digits(end)} in the last: is the learning rate too large?",
            )

    def _rests(self) -> Iterator[str]:
        """A question, if the same examples come again and again and the loss stays above half of the first."""
        if self.moves < 10 or self.same < 0.9 * self.moves:
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
        for layer, places in layers.items() if self.moves >= 4 else ():
            still = [i for i in places if not self.moved[i] and self.reached[i] >= 4]
            if still:
                whole = len(still) == len(places) and len(layers) > 1
                who = layer if whole else ", ".join(few([self.names[i] for i in still], 2))
                it, be = ("it", "is it") if whole or len(still) == 1 else ("them", "are they")
                yield (
                    f"{who} did not move in {self.moves} updates, though gradients reached {it}: {be} among the "
                    "parameters of the optimiser?"
                )


def _grouped(things: Iterable[Thing], of: Callable[[Thing], str]) -> dict[str, list[Thing]]:
    """The things by what `of` says of each."""
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
