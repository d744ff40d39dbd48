"""Pointwise: what `tg.compile(..., backend="python")` returns. It runs example after example, on floats."""

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.value import Value
from ..backends.scalars import Scalars
from ..backends.straight import TAKEN, StraightWriter
from ..find.lowered import Lowered
from ..ir.plan import plan_of
from ..trace.lending import read_numbers
from ..trace.surroundings import Closure, Facts
from ..trace.tracing import Trace
from .build import Build, Request
from .compiled import Compiled, mapped
from .pipeline import defined, make
from .verify import run_eagerly

SKIPPED = ("weight decay", "ragged rows")  # passes that are for arrays
ELSEWHERE = (OverflowError, ValueError, ZeroDivisionError)  # there the engine has inf, or an error of its own


class Pointwise(Compiled):
    """A compiled function as straight-line Python, for functions that are evaluated at one point many times.

    It is called as `Compiled` is; examples run one by one, and gradients are lists. Where `math` raises, or a
    result is inf or nan, the example is evaluated eagerly: same errors.
    """

    takes_lengths = False

    def __init__(
        self, function: Callable[..., Any], parameters: Iterable[Value], dtype: Any = "float64", **options: Any
    ):
        super().__init__(function, parameters, dtype, **options)
        if self._is_single:
            raise ValueError(f"The floats of Python and JavaScript are float64: leave dtype out, got {dtype!r}.")

    def value_and_grad(self, *batch: Any) -> tuple[float, list[float]]:  # type: ignore[override]  # a list
        """The mean over the batch, and its derivatives by the parameters, in their order."""
        value, gradient = super().value_and_grad(*batch)
        return value, gradient.tolist()

    def predict(self, *batch: Any) -> Any:
        """What the function returns for every example, nested as the function nests it."""
        return _lists(super().predict(*batch))

    def _run(self, build: Build, gradient: Any, arrays: Sequence[NDArray[Any]], size: int, checked: bool) -> Any:
        if build.contract.guards:
            return super()._run(build, gradient, arrays, size, checked)
        numbers = read_numbers(self.parameters) if self._theta is None else self._theta.tolist()
        theta = [*numbers, *build.contract.closure.numbers()]
        return _run(build, theta, size, *arrays, *([] if gradient is None else [gradient]))

    def program_for(self, batch: Sequence[Any], gradient: bool) -> Build:
        """The program that runs this batch, compared with the function."""
        build, arrays, _ = self._prepared(batch, gradient)
        return self._programs.verified(build, arrays)

    def _write(  # type: ignore[override]  # it has the same arguments
        self, traced: Trace, closure: Closure, facts: Facts, request: Request, _: Any, skip: Collection[str] = ()
    ) -> Build:
        def source_of(lowered: Lowered, request: Request, title: str) -> tuple[str, dict[str, Any]]:
            inputs = [[x.label for x in argument] for argument in traced.inputs]
            plan = plan_of(lowered, request.gradient, split=False)
            scalars = Scalars(plan, [p.label for p in closure.parameters], inputs, TAKEN)
            source = StraightWriter(scalars).source()
            # The rules of the trace are given, also if one has been declared anew since.
            return source, defined(source) | scalars.opaque

        build = make(traced, closure, facts, request, None, (*SKIPPED, *skip), source_of)
        build.namespace["build"] = lambda parameters, size, _: (
            lambda *inputs: _run(build, parameters.tolist(), size, *inputs)
        )
        return build


def _run(build: Build, theta: list[float], size: int, *inputs: NDArray[Any]) -> Any:
    """Run a batch, example after example. The last input is the vector of the gradient, if there is one."""
    program, request, results = build.namespace["run"], build.contract.request, []
    arrays = inputs[:-1] if request.gradient else inputs
    columns = [np.asarray(array, float).reshape(size, -1).tolist() for array in arrays]
    for i, row in enumerate(zip(*columns, strict=True) if arrays else [()]):
        try:
            results.append(program(theta, row))
        except ELSEWHERE:
            outputs, slopes = run_eagerly(build, theta, [array[i : i + 1] for array in arrays])
            results.append(([*outputs, *_guards_of_a_known_path(build)], slopes))
    if not request.gradient:
        return np.array([outputs for outputs, _ in results])
    n = len(inputs[-1])  # behind it are the knobs
    inputs[-1][:] = results[0][1][:n] if size == 1 else np.mean([slopes[:n] for _, slopes in results], axis=0)
    value, more = sum(outputs[0] for outputs, _ in results) / size, [outputs[1:] for outputs, _ in results]
    return (value, np.array(more)) if more[0] else value


def _guards_of_a_known_path(build: Build) -> list[float]:
    """Behind what the engine has computed, which is right for any path."""
    guards = build.contract.guards
    known = dict(zip(*guards.paths[0], strict=True)) if guards else {}
    return [float(known.get(i, False)) for i in range(guards.n if guards else 0)]


def _lists(results: Any) -> Any:
    """Results with lists in place of arrays."""
    return [_lists(x) for x in results] if isinstance(results, list) else mapped(lambda x: x.tolist(), results)
