"""The smallest set of faults that explains all answers of an engine at once."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ..check.mistakes import Row
from .faults import bounds, of_sharing, of_slope
from .faulty_pass import Fault, Trial

UNEXPLAINED, UNKNOWN = 2.0, 0.6  # what an answer costs that is not explained; a fault costs about 1
BEAM, PLACES, MOST = 3, 3, 8  # sets that are kept, answers from which each one grows, faults in a set
BUDGET = 100_000  # trials that are computed with faults, about 3 seconds; counted: a verdict is always the same


@dataclass(frozen=True)
class _Set:
    """Some faults, and what each trial costs with them."""

    faults: tuple[Fault, ...]
    costs: tuple[float, ...]

    @property
    def score(self) -> float:
        return sum(self.costs) + sum(fault.cost for fault in self.faults)


class Explanation:
    """`faults` explains the trials, but for the `unexplained`, as far as the budget goes."""

    def __init__(self, trials: Sequence[Trial], general: Iterable[Fault], start: float = 0.0):
        """general: faults that may be anywhere. start: the gradient of a new node."""
        self.trials = trials
        self.general = [*general, *of_sharing()]
        self._costs: dict[tuple[int, tuple[Fault, ...]], float] = {}
        rows, wrong = _measured(trials, start), [t for i, t in enumerate(trials) if self._cost(i, ())]
        places = {at: node for trial in trials for node in trial.nodes if node for at in node.places}
        self.local: dict[str, list[Fault]] = {}
        for at, node in places.items():
            slopes = (of_slope(at, node.base, k, rows.get(at, ())) for k in range(len(node.row.slopes)))
            self.local[at] = [*itertools.chain(*slopes), *of_sharing(at, bounds(wrong, at))]
        self.faults = self._needed(self._search()).faults
        self.unexplained = [trial for i, trial in enumerate(trials) if self._cost(i, self.faults) == UNEXPLAINED]

    def shown_by(self, fault: Fault) -> list[Trial]:
        """The trials that are explained because this fault is among the faults."""
        others = tuple(other for other in self.faults if other is not fault)
        return [t for i, t in enumerate(self.trials) if self._cost(i, self.faults) < self._cost(i, others)]

    def _set(self, faults: tuple[Fault, ...]) -> _Set:
        return _Set(faults, tuple(self._cost(i, faults) for i in range(len(self.trials))))

    def _search(self) -> _Set:
        best = self._set(())
        beam = [best]
        for _ in range(MOST):
            grown = {frozenset(new.faults): new for old in beam for new in self._larger(old)}
            beam = sorted(grown.values(), key=lambda new: new.score)[:BEAM]
            if not beam or beam[0].score >= best.score:
                break
            best = beam[0]
        return best

    def _larger(self, old: _Set) -> Iterator[_Set]:
        """The better sets of one more fault, which explains one of the first trials that are not explained."""
        tried, grown = list[set[str]](), {*old.faults}
        for i, trial in enumerate(self.trials):
            if old.costs[i] != UNEXPLAINED or any(trial.places <= places for places in tried):
                continue
            if len(tried) == PLACES or len(self._costs) > BUDGET:
                break
            tried.append(trial.places)
            places = (at for node in trial.nodes if node for at in node.places)
            for fault in itertools.chain(*(self.local[at] for at in places), self.general):
                if fault not in grown and self._cost(i, (*old.faults, fault)) == 0:
                    grown.add(fault)
                    if new := self._with(old, fault):
                        yield new

    def _with(self, old: _Set, fault: Fault) -> _Set | None:
        """A larger set, or None if it is no better. What is not explained yet comes first: that shows it early."""
        faults, costs, gain = (*old.faults, fault), list(old.costs), -fault.cost
        for i in sorted(range(len(costs)), key=lambda i: -costs[i]):
            if fault.concerns(self.trials[i]):
                costs[i] = self._cost(i, faults)
                gain += old.costs[i] - costs[i]
            if not old.costs[i] and gain <= 0:
                return None
        return _Set(faults, tuple(costs)) if gain > 0 else None

    def _needed(self, best: _Set) -> _Set:
        """Without the faults that explain nothing which the others do not."""
        for fault in best.faults:
            fewer = self._set(tuple(other for other in best.faults if other is not fault))
            if fewer.score <= best.score:
                return self._needed(fewer)
        return best

    def _cost(self, i: int, faults: tuple[Fault, ...]) -> float:
        trial = self.trials[i]
        # Where two faults fit, the last one works: the one of this operation, and of this operand.
        concerned = [fault for fault in faults if fault.concerns(trial)]
        key = i, tuple(sorted(concerned, key=lambda fault: -fault.reach()))
        if key not in self._costs:
            right = trial.explained_by(key[1])
            self._costs[key] = UNKNOWN if right is None else 0.0 if right else UNEXPLAINED
        return self._costs[key]


def _measured(trials: Iterable[Trial], start: float) -> dict[str, list[Row]]:
    """What is known of the slopes of each operation: the gradients where it stands alone; nan for numbers."""
    rows: dict[str, list[Row]] = {}
    for trial in trials:
        node, n = trial.nodes[-1], len(trial.program.inputs)
        if node and trial.simple and 0 in trial.judged:
            got = [trial.answer.grads[p] - start if p < n else float("nan") for p in node.operands]
            for at in node.places:
                rows.setdefault(at, []).append(node.row._replace(got=[*got, float("nan")]))
    return rows
