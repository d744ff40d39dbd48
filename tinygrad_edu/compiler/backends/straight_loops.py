"""Loops in straight-line code: expressions that repeat, stage after stage, without NumPy.

Expression i of a stage and of the next one do the same if they have one operation and the same numbers, and if
each operand moves on as far from every stage to the next: not at all (it lies outside), by the length of a stage
(it is as far back), or by another number (it is in another loop, which is read in its own order or backwards).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from operator import sub
from typing import Any

from ..find.repeats import carried_from
from ..ir.symbols import Symbol

FEWEST = 8  # stages of a loop
SMALLEST = 32  # expressions of a loop; fewer are shorter without one
LONGEST = 2000  # expressions of a stage
GAPS = 4  # periods that are tried, until loops have
MOST = 0.9  # of the expressions
ENDS = 3  # stages that may be left out


@dataclass(frozen=True)
class Repetition:
    """Expressions `start` to `start + length * period`: so many stages of so many expressions.

    steps  for each expression of a stage, how far each operand moves from one stage to the next; 0 for a number
    """

    start: int
    period: int
    length: int
    steps: list[tuple[int, ...]]

    @property
    def end(self) -> int:
        return self.start + self.length * self.period

    def initial(self, place: int, n: int) -> list[int]:
        """The expressions that stand for a place in the n stages before the first one."""
        return [self.start + place - k * self.period for k in range(n, 0, -1)]

    def place(self, i: int) -> tuple[int, int]:
        """The stage and the place in the stage of expression i; the stages before the first are negative."""
        return divmod(i - self.start, self.period)


@dataclass(eq=False)
class Stage:
    """What is written of a run.

    typical   the number of the stage that is written, somewhere in the middle
    operands  place -> for each operand, where it is found: (Stage, place, stage at t = 0, step) in a loop, (text,
              index at t = 0, step) in an argument; None outside of all loops
    before    place that is read by other stages, or outside -> how many stages before the first one are read
    listed    those of them that need a list. The others need the latest stage only
    carried   those that the next stage reads -> by which places
    again     those that their own stage reads
    live      the places that are needed
    outside   the expressions that are read outside
    """

    run: Repetition
    typical: int
    operands: list[list[Any]] = field(default_factory=list)
    before: dict[int, int] = field(default_factory=dict)
    listed: set[int] = field(default_factory=set)
    carried: dict[int, set[int]] = field(default_factory=dict)
    again: set[int] = field(default_factory=set)
    live: set[int] = field(default_factory=set)
    outside: set[int] = field(default_factory=set)


def stages_of(
    symbols: Sequence[Symbol],
    used: Mapping[Symbol, int],
    roots: Iterable[Any],
    failing: Set[Symbol],
    leaves: Sequence[tuple[str, int]],
) -> list[Stage]:
    """The loops of a program. `leaves` are its first symbols: of which argument each is, and which item of it."""
    places = {symbol: i for i, symbol in enumerate(symbols)}
    reads = [tuple([places[x] if x.__class__ is Symbol else -1 for x in symbol.args]) for symbol in symbols]
    stages: list[Stage] = []
    owner: dict[int, Stage] = {}
    for run in _runs_of(symbols, reads):
        for _ in range(ENDS):  # the first stages of a loop may read what another loop does not have
            stage = Stage(run, run.length // 2)
            if _resolved(stage, reads, owner, leaves):
                stages.append(stage)
                owner |= dict.fromkeys(range(run.start, run.end), stage)
                break
            run = replace(run, start=run.start + run.period, length=run.length - 1)
    if stages:
        read = [q for i, x in enumerate(symbols) if i not in owner and x in used for q in reads[i]]
        for q in [*read, *(places[x] for x in roots if isinstance(x, Symbol))]:
            if q in owner:
                owner[q].outside.add(q)
        for stage in reversed(stages):
            first = stage.run.start + stage.typical * stage.run.period
            _find_needed(stage, [i for i in range(stage.run.period) if symbols[first + i] in failing])
            for place, n in stage.before.items():
                for q in stage.run.initial(place, n):
                    if q in owner:
                        owner[q].outside.add(q)
    return stages


def _runs_of(symbols: Sequence[Symbol], reads: list[tuple[int, ...]]) -> list[Repetition]:
    """The longest runs of stages, in order, without overlaps."""
    kinds: list[int] = []
    known: dict[Any, int] = {}
    n_leaves = sum(symbol.op == "leaf" for symbol in symbols)  # they are the first
    last: dict[Any, int] = {}
    gaps: Counter[int] = Counter()
    for i, (symbol, own) in enumerate(zip(symbols, reads, strict=True)):
        kind = (symbol.op, *[None if x.__class__ is Symbol else repr(x) for x in symbol.args])
        kinds.append(known.setdefault(kind, len(known)))
        if i >= n_leaves:
            near = kinds[-1], *[i - x if n_leaves <= x and i - x < LONGEST else 0 for x in own]
            gaps[i - last.get(near, i)] += 1
            last[near] = i
    del gaps[0]
    found: list[Repetition] = []
    for period, n in gaps.most_common(GAPS):
        if period <= LONGEST and n >= FEWEST:
            found += _of_period(kinds, reads, period, n_leaves)
            if sum(run.end - run.start for run in found) > MOST * len(symbols):
                break
    chosen: list[Repetition] = []
    for run in sorted(found, key=lambda run: (run.start - run.end, run.period)):
        if all(run.end <= other.start or other.end <= run.start for other in chosen):
            chosen.append(run)
    return sorted(chosen, key=lambda run: run.start)


def _of_period(kinds: list[int], reads: list[tuple[int, ...]], period: int, n_leaves: int) -> list[Repetition]:
    steps: list[Any] = [None] * n_leaves
    runs, first = [], n_leaves
    for i in range(n_leaves, len(kinds) - period + 1):
        alike = i < len(kinds) - period and kinds[i] == kinds[i + period]
        steps.append(tuple(map(sub, reads[i + period], reads[i])) if alike else None)
        changes = i - period >= first and steps[i] != steps[i - period]
        if not alike or changes:
            if i - first + period >= max(FEWEST * period, SMALLEST):
                start = first + _cut(steps[first : first + period], reads[first : first + period], first)
                own = (steps[first : first + period] * 2)[start - first :][:period]
                runs.append(Repetition(start, period, (i - start + period) // period, own))
            first = i - period + 1 if alike else i + 1
    return runs


def _cut(steps: list[Any], reads: list[tuple[int, ...]], first: int) -> int:
    """The place to begin a stage with, so that the fewest expressions are carried to the next one."""
    period, ahead = len(steps), dict[int, int]()  # place -> how many places on it is read last
    for place, (own, moves) in enumerate(zip(reads, steps, strict=True)):
        for q, step in zip(own, moves, strict=True):
            if step == period:
                target = (q - first) % period
                ahead[target] = max(ahead.get(target, 0), first + place - q)
    carried = carried_from(period, ahead)
    return carried.index(min(carried))


def _resolved(
    stage: Stage, reads: list[tuple[int, ...]], owner: dict[int, Stage], leaves: Sequence[tuple[str, int]]
) -> bool:
    """Say where the operands of a stage are found. False if it cannot be said."""
    run = stage.run
    for place, steps in enumerate(run.steps):
        operands: list[Any] = []
        stage.operands.append(operands)
        typical = reads[run.start + stage.typical * run.period + place]
        if len(set(zip(typical, steps, strict=True))) > len(set(typical)):
            return False
        for after, step in zip(reads[run.start + run.period + place], steps, strict=True):
            first = after - step  # also if the first stage reads something given
            last = first + step * (run.length - 1)
            source: Any = None
            if step == run.period:
                distance, target = run.place(first)
                if -distance > run.length // 2:
                    return False
                source = stage, target, distance, 1
            elif step and (other := owner.get(first) or owner.get(last)) and not step % other.run.period:
                (t, target), (t_last, _) = other.run.place(first), other.run.place(last)
                source = other, target, t, step // other.run.period
                if min(t, t_last) < -FEWEST or max(t, t_last) >= other.run.length:
                    return False
            elif step:
                of_leaves = 0 <= min(first, last) <= max(first, last) < len(leaves)
                if not of_leaves or leaves[first][0] != leaves[last][0]:
                    return False
                source = *leaves[first], step
            elif first >= run.start:
                return False
            operands.append(source)
    return True


def _find_needed(stage: Stage, failing: list[int]) -> None:
    """Say which places of a stage are needed, and which need a list. Later loops have said what they read."""
    run = stage.run
    for q in stage.outside:
        t, place = run.place(q)
        stage.before.setdefault(place, 0)
        if t < run.length - 1:
            stage.listed.add(place)
    todo = [*stage.before, *failing]
    while todo:
        place = todo.pop()
        if place in stage.live:
            continue
        stage.live.add(place)
        for source in stage.operands[place]:
            if source is None or isinstance(source[0], str):
                continue
            other, target, t, step = source
            if other is not stage or step != 1:
                earliest = min(t, t + step * (run.length - 1))
                other.before[target] = max(other.before.get(target, 0), -earliest)
                other.listed.add(target)
            elif t < 0:
                stage.before[target] = max(stage.before.get(target, 0), -t)
                if t < -1:
                    stage.listed.add(target)
                else:
                    stage.carried.setdefault(target, set()).add(place)
            else:
                stage.again.add(target)
            if other is stage:
                todo.append(target)
