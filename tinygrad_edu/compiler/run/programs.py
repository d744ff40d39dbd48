"""Programs: those that a compiled function keeps, for each shape and for other numbers around the function."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ...engine.value import Value
from ..trace.checks import unused_sentence
from ..trace.surroundings import Facts, Knob, Surroundings, changed

KEPT = 32  # those that were used last: one for each shape of an example
VARIANTS = 8  # and of one shape so many, for numbers around the function that are others


class Programs:
    """The programs of one function. Each has a `contract`, which says what it was made for, and what must hold."""

    def __init__(self, step: Any):
        self.step: Any = step  # the compiled function
        self.function: Callable[..., Any] = step.original
        self.parameters: Sequence[Value] = step.parameters
        self.warn: Callable[[str, str], None] = step._warn
        self.kept: list[Any] = []  # the one that was used last is the first
        self.surroundings: Surroundings = Surroundings(self.function, self.parameters)
        self.knobs: list[Knob] = []  # floats around the function that have changed
        self._constants: set[Any] = set()  # the keys of those that can be no knobs

    def __iter__(self) -> Iterator[Any]:
        return iter(self.kept)

    def find(self, fits: Callable[[Any], bool]) -> Any:
        """The program that fits, as the one that was used last; None if there is none."""
        for place, program in enumerate(self.kept):
            if fits(program):
                if place:
                    self.kept = [program, *(other for other in self.kept if other is not program)]
                return program
        return None

    def unchanged(self, fits: Callable[[Any], bool]) -> Any:
        """The program that fits, if nothing around the function has changed; else None."""
        return self.find(lambda program: program.contract.held.unchanged() and fits(program))

    def known(self, fits: Callable[[Any], bool]) -> tuple[Any, Facts]:
        """The program whose numbers around the function these are, or None; and all numbers.

        Floats that have changed become knobs.
        """
        facts = self.surroundings.facts()
        program = self.find(lambda p: p.contract.held.fits(facts, self.surroundings.holders) and fits(p))
        if program is None:
            knobs = changed(facts, [program.contract.held for program in self.kept], self.knobs)
            self.knobs = [knob for knob in knobs if knob.key not in self._constants]
        return program, facts

    def without_knobs(self) -> None:
        """The function needs these floats as plain numbers: from now on they are constants."""
        self._constants.update(knob.key for knob in self.knobs)
        self.knobs = []

    def keep(self, program: Any, warns: bool = True) -> None:
        """Put a new program first, and drop those that were used longest ago."""
        others = [other for other in self.kept if other is not program]
        alike = [other for other in others if other.contract.request == program.contract.request]
        self.kept = [program, *(other for other in others if other not in alike[VARIANTS - 1 :])][:KEPT]
        if program.unused and warns:
            self.warn("unused", unused_sentence(program.unused, self.parameters))

    def warn_of_pass(self, name: str, wrong: str) -> None:
        """Say once that a program was made without a pass."""
        self.warn(
            f"without {name}",
            f"The pass {name} of the compiler is wrong for this function ({wrong}). The program is made without "
            "it: it is slower, its numbers are right. Please report this.",
        )
