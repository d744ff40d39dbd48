"""Variants: how a compiled function gets the program for a batch. It is traced, made, compared and kept."""

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.value import Value
from ..trace.checks import NO_FUNCTION, CompileError, collector_paused, disagreement_error, unused_sentence
from ..trace.examples import Examples
from ..trace.placeholder import NoFloatError, TraceError
from ..trace.surroundings import Closure, Facts, Knob, Surroundings, changed
from ..trace.tracing import Trace, trace_function
from .batches import check_indices
from .build import WHOLE, Broken, Build, Request
from .lengths import AnyLength, any_length
from .pipeline import PASSES
from .verify import (
    disagreement,
    lost,
    range_sentence,
    results_of,
    rule_at_fault,
    run_eagerly,
    some_batch,
    two_calls,
)

Arrays = Sequence[NDArray[Any]]
FIRST, FEW = 3, 8  # examples that are traced at first; that are traced at once where paths are new
CAPACITY = 32  # those that were used last: one for each shape of an example
VARIANTS = 8  # of one shape at most so many, for different numbers around the function
IN_VAIN = 12  # programs of one length in a row; after them none for any length is tried


class Variants:
    """The programs of one function. Each has a `contract`, which says what it was made for, and what must hold."""

    def __init__(self, step: Any):
        self.step: Any = step  # the compiled function
        self.function: Callable[..., Any] = step.original
        self.parameters: Sequence[Value] = step.parameters
        self.warn: Callable[[str, str], None] = step._warn
        self.builds: list[Build] = []  # the one that was used last is the first
        self.surroundings: Surroundings = Surroundings(self.function, self.parameters)
        self.knobs: list[Knob] = []  # floats around the function that have changed
        self._constants: set[Any] = set()  # the keys of those that can be no knobs
        self._in_vain = 0  # so often no program for any length was found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.builds)

    def find(self, fits: Callable[[Any], bool]) -> Any:
        """The program that fits, as the one that was used last; None if there is none."""
        for place, program in enumerate(self.builds):
            if fits(program):
                if place:
                    self.builds = [program, *(other for other in self.builds if other is not program)]
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
            knobs = changed(facts, [program.contract.held for program in self.builds], self.knobs)
            self.knobs = [knob for knob in knobs if knob.key not in self._constants]
        return program, facts

    def without_knobs(self) -> None:
        """The function needs these floats as plain numbers: from now on they are constants."""
        self._constants.update(knob.key for knob in self.knobs)
        self.knobs = []

    def keep(self, program: Any, warns: bool = True) -> None:
        """Put a new program first, and drop those that were used longest ago."""
        others = [other for other in self.builds if other is not program]
        alike = [other for other in others if other.contract.request == program.contract.request]
        self.builds = [program, *(other for other in others if other not in alike[VARIANTS - 1 :])][:CAPACITY]
        if program.unused and warns:
            self.warn("unused", unused_sentence(program.unused, self.parameters))

    # --- A new one ----------------------------------------------------------------------------------------------

    def of(self, request: Request, arrays: Arrays | None) -> Build:
        """The program for these shapes, where no kept one fits as it is: see `unchanged`.

        arrays=None: there are no numbers yet, as under jax.jit. Such a program is not compared.
        """
        build, facts = self.known(lambda build: build.contract.request == request and build.contract.fits(arrays))
        if build is None and arrays is not None and self.knobs and self.step.takes_knobs:
            try:
                build = self._new(request, arrays, facts, self.knobs)
                if self.step.verify and not self.agrees(build, arrays):
                    build = None
            except Exception:  # it calls math.exp, or range
                build = None
            if build is None:
                self.without_knobs()
        return build or self._new(request, arrays, facts)

    def _new(self, request: Request, arrays: Arrays | None, facts: Facts, knobs: Sequence[Knob] = ()) -> Build:
        """The program for new shapes: one for inputs of any length if the function agrees, else a new one."""
        closure = Closure(self.function, self.parameters, knobs)
        with collector_paused():
            build = self.of_another_length(request, closure, facts, arrays)
            if build is None:
                traced = self.trace(closure, request, arrays)
                facts = self.surroundings.learn(facts)
                alike = (lengths.at(request, traced, closure, facts) for lengths in self._lengths())
                build = None if arrays is None else self._agreeing(alike, arrays)
                build = build or self.of_trace(traced, closure, facts, request, arrays)
        build.contract.held.holders = self.surroundings.holders
        return build

    def _lengths(self) -> list[AnyLength]:
        """The kept programs for inputs of any length."""
        return [*dict.fromkeys(build.lengths for build in self.builds if build.lengths)]

    def of_another_length(
        self, request: Request, closure: Closure, facts: Facts, arrays: Arrays | None
    ) -> Build | None:
        """A program for any length that agrees with the function at this one, without a trace; else None.

        JAX's only, unless verify=False; for NumPy's, the trace costs less than the comparison. arrays=None: it is
        compared at examples of its own.
        """
        known = self._lengths() if self.step.write_any_length and self.step.verify else []
        candidates = (lengths.at(request, None, closure, facts) for lengths in known)
        build = self._agreeing((each for each in candidates if each and each.contract.held.unchanged()), arrays)
        if build:
            build.contract.held.facts = self.surroundings.learn(facts)
        return build

    def _agreeing(self, candidates: Iterator[Build | None], arrays: Arrays | None) -> Build | None:
        """The first of these programs for other lengths that agrees with the function at this one.

        With verify=False XLA does not compile it for this; without a batch it compiles without optimisations.
        """
        for build in filter(None, candidates):
            batch = some_batch(build) if arrays is None else arrays
            tried = build.in_numpy() if not self.step.verify else build.quick() if arrays is None else build
            if build.contract.fits(batch) and self.agrees(tried, batch):
                build.verified = True
                return build
        return None

    def agrees(self, build: Build, arrays: Arrays) -> bool:
        """Does a program that was made for another length, or with knobs, agree with the function?"""
        check_indices(build.contract.picks, arrays, build.names)
        rows = [array[::-1] for array in arrays]  # the first ones may have been traced
        build.verified = disagreement(build, rows) == ""
        if build.verified and self.step.verify:
            self._check_rounding(build, arrays)
        return build.verified

    def of_trace(
        self, traced: Trace, closure: Closure, facts: Facts, request: Request, arrays: Arrays | None
    ) -> Build:
        """The program of a trace, with the length of the inputs as a variable where this is possible."""
        builds: dict[Any, tuple[Trace, Build]] = {}  # for other lengths, by shapes

        def again(request: Request, arrays: Arrays) -> tuple[Trace, Build]:
            if request.shapes not in builds:
                self._in_vain += 1
                other = self.trace(closure, request, arrays if traced.by_example else None)
                builds[request.shapes] = other, self._make(other, closure, facts, request, arrays)
            return builds[request.shapes]

        def of_any_length(build: Build | None) -> Build | None:
            if not self.step.takes_lengths or self._in_vain >= IN_VAIN:
                return None
            batch = some_batch(build) if build and arrays is None else arrays or ()
            lengths = any_length(traced, request, build, batch, again, self.step.write_any_length)
            other = self._agreeing((each.at(request, traced, closure, facts) for each in lengths), arrays)
            self._in_vain = 0 if other else self._in_vain
            return other

        if arrays is not None and (other := of_any_length(None)):
            return other
        build = self._make(traced, closure, facts, request, arrays)
        other = of_any_length(build)
        return replace(other, lowered=build.lowered) if other else build

    def _make(
        self, traced: Trace, closure: Closure, facts: Facts, request: Request, arrays: Arrays | None
    ) -> Build:
        """The program of a trace. If a pass raises an error, it is made without this pass, with a warning."""
        how = traced, closure, facts, request, arrays
        try:
            build: Build = self.step._write(*how)
            return build
        except (TraceError, CompileError):
            raise
        except Exception as error:
            if plainer := self._without(
                lambda skip: self.step._write(*how, skip), f"{type(error).__name__}: {error}"
            ):
                return plainer
            raise

    def _without(self, write: Callable[[Collection[str]], Build | None], wrong: str) -> Build | None:
        """The first program that can be written without one of the passes, or without all; None for none.

        It is said once that the program was made without a pass.
        """
        for skip in (*((name,) for name in PASSES), PASSES):
            build = None
            with contextlib.suppress(Exception):
                build = write(skip)
            if build:
                name = " or ".join(map(repr, skip))
                self.warn(
                    f"without {name}",
                    f"The pass {name} of the compiler is wrong for this function ({wrong}). The program is made "
                    "without it: it is slower, its numbers are right. Please report this.",
                )
                return build
        return None

    def again(self, build: Build, arrays: Arrays | None, skip: Collection[str] | None = None) -> Build:
        """The program of another trace of the same function, for inputs of one length."""
        traced = (
            build.contract.guards.examples.trace()
            if build.contract.guards
            else self.trace(build.contract.closure, build.contract.request, arrays or ())
        )
        how = traced, build.contract.closure, build.contract.held.facts, build.contract.request, arrays
        return self._make(*how) if skip is None else self.step._write(*how, skip)

    def trace(self, closure: Closure, request: Request, arrays: Arrays | None) -> Trace:
        """The trace of the function: by examples of the batch, where it asks for a number."""
        try:
            whole = [array.dtype.kind in WHOLE for array in arrays or ()]
            return trace_function(
                closure.function, closure.parameters, request.shapes, request.with_outputs, whole
            )
        except Exception:
            if arrays is None or not self.step.takes_examples:
                raise
            examples = self._examples(closure, request, arrays)
            if examples is None:
                raise
        if examples.runs[0].path:
            for row in range(1, min(FIRST, len(arrays[0]) if arrays else 1)):
                examples.add(_example(arrays, row), self._floats(closure))
        return examples.trace()

    def _examples(self, closure: Closure, request: Request, arrays: Arrays) -> Examples | None:
        """A run on the first example; None if the function takes neither Values nor plain numbers."""
        refusal: TraceError | IndexError | None = None
        whole = [int if array.dtype.kind in WHOLE else None for array in arrays]
        for other, ints in ((Value, whole), (Value, [None] * len(whole)), (float, whole)):
            kinds = [kind or other for kind in ints]
            examples = Examples(
                closure.function,
                closure.parameters,
                self.step._argument_names(len(arrays)),
                request.shapes,
                kinds,
                request.with_outputs,
            )
            try:
                examples.add(_example(arrays, 0), self._floats(closure))
                return examples
            except (NoFloatError, IndexError) as error:
                refusal = refusal or error
            except TraceError as error:
                raise refusal or error from None
            except Exception:  # with numbers of another kind it may run
                continue
        if refusal:
            raise refusal from None
        return None

    def _floats(self, closure: Closure) -> list[float]:
        return [*self.step._numbers().astype(float).tolist(), *closure.numbers()]

    def learn(self, build: Build, arrays: Arrays, broken: Broken) -> bool:
        """Run the function on examples whose path seems to be new, and make the program again for these paths too.

        False if none is new: then rounding has changed the outcome of a comparison.
        """
        assert build.contract.guards  # a program without guards never raises Broken
        examples, known = build.contract.guards.examples, len(build.contract.guards.paths)
        some = broken.different[:FEW] if known <= FIRST else broken.different  # all, once a few were no surprise
        for rows in (some, broken.rows):
            with collector_paused():
                for row in rows:
                    examples.add(_example(arrays, row), self._floats(build.contract.closure))
            if len(examples.runs) > known:
                break
        else:
            return False
        try:
            again = self.again(build, arrays)
        except TraceError:
            del examples.runs[known:]
            if build.contract.closure.knobs:  # at other numbers it does something else: each has a program
                self.without_knobs()
                self.builds.remove(build)
                return True
            raise
        self.replace(build, again)
        return True

    def replace(self, build: Build, by: Build) -> None:
        self.builds = [by if known is build else known for known in self.builds]

    def verified(self, build: Build, arrays: Arrays) -> Build:
        """The program, after it has agreed with the eager function; one without matrix products if it does not.

        Raises CompileError if that one disagrees too, or if float32 cannot hold the numbers.
        """
        arrays = (
            [array[::-1] for array in arrays] if build.contract.guards else arrays
        )  # the first ones were traced
        wrong = disagreement(build, arrays)
        if wrong and build.contract.closure.knobs:
            self.without_knobs()
            build = self._new(build.contract.request, arrays, self.surroundings.facts())
            wrong = disagreement(build, arrays)
        if wrong:
            again = self.again(build, arrays)
            if again.source != build.source:
                raise CompileError(NO_FUNCTION.format("one program and then another"))

            def right(skip: Collection[str]) -> Build | None:
                other = self.again(build, arrays, skip)
                return None if disagreement(other, arrays) else other

            if fault := rule_at_fault(build):
                raise CompileError(fault)
            elif other := self._without(right, wrong):
                build, wrong = other, ""
            else:
                raise disagreement_error(wrong, two_calls(build, arrays))
        self._check_rounding(build, arrays)
        build.verified = wrong is not None  # else the next batch is compared
        return build

    def _check_rounding(self, build: Build, arrays: Arrays) -> None:
        """Warn if a program in float32 is far off. Raises CompileError if numbers leave its range."""
        if self.step._is_single and (pair := lost(build, self.step._numbers(), arrays)):
            if not np.isfinite(pair[0]):
                raise CompileError(range_sentence(*pair))
            off = "{:.4g} instead of {:.4g}".format(*pair)
            self.warn("off", f'The program gives {off} in float32, by rounding: compile with dtype="float64".')

    def check_range(self, build: Build, arrays: Arrays) -> None:
        """Warn, once, if a program gives inf or nan in float32, and numbers in float64. `fit` has an error."""
        if self.step._is_single and not self.step._with_outputs and "range" not in self.step._said:
            pair = lost(build, self.step._numbers(), arrays)
            if pair and not np.isfinite(pair[0]):
                self.warn("range", range_sentence(*pair))

    def ask_the_engine(self, build: Build, arrays: Arrays, size: int) -> None:
        """Raise what the engine raises at the first example with inf or nan. The engine may give these itself.

        Raises CompileError if it gives numbers: float32 may leave its range, but no program in float64.
        """
        theta = self.step._numbers()
        for row in range(size):
            example = [array[row : row + 1] for array in arrays]
            if all(np.isfinite(numbers).all() for numbers in results_of(build, theta, example)):
                continue
            try:
                results, gradient = run_eagerly(build, theta, example)
            except (ArithmeticError, ValueError) as error:
                error.add_note(f"This is example {row} of the batch, where the compiled program has inf or nan.")
                raise
            if (
                not self.step._is_single
                and np.isfinite([*results, *(gradient if gradient is not None else [])]).all()
            ):
                raise disagreement_error(f"example {row} is nan, and eagerly {results[0]!r}")
            return


def _example(arrays: Arrays, row: int) -> list[list[Any]]:
    """The numbers of one example, flat per argument."""
    return [array[row].ravel().tolist() for array in arrays]
