"""Auto: what `tg.compile(..., backend="auto")` returns. The first step is taken by every backend that can."""

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.value import Value
from ..backends import BACKENDS
from .batches import Irregular
from .compiled import Compiled
from .report import Groups

SMALL = 64  # examples: in a larger batch NumPy is faster than Python, example by example
CALLS, SECONDS = 5, 0.02  # calls of a backend that are measured, or all of so many seconds if these are more


class Auto(Compiled):
    """A compiled function whose steps run on the backend that was fastest at the first batch.

    These are NumPy, Python for small batches in float64, and JAX where it is installed. `groups` says what was
    chosen, and why. What is no step, such as `predict`, runs on NumPy.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: Iterable[Value], dtype: Any = "float64", **options: Any
    ):
        super().__init__(function, parameters, dtype, **options)
        self.backend: str = ""  # the one that was chosen
        self._other: Compiled | None = None  # where it is not NumPy
        self._told: list[str] = []  # what was measured

    def _step(self, batch: Sequence[Any], gradient: NDArray[Any]) -> tuple[float, Any]:
        with self._lock:
            if not self.backend:
                self._choose(batch, gradient)
            if self._other is None:
                return super()._step(batch, gradient)
            return self._by(self._other, batch, gradient), None

    def _by(self, other: Compiled, batch: Sequence[Any], gradient: NDArray[Any]) -> float:
        """A step by another backend, at the same parameters."""
        other._theta, other._said = self._theta, self._said
        value, gradient[:] = other.value_and_grad(*batch)
        return value

    def _choose(self, batch: Sequence[Any], gradient: NDArray[Any]) -> None:
        with contextlib.suppress(Irregular):
            if self._draws_of(batch, True):  # a measurement would draw, too
                self.backend, self._told = "numpy", ["others were not tried: the function draws random numbers"]
                return
        super()._step(batch, gradient)  # it raises what is wrong with the batch
        size, single = len(batch[0]) if batch else 1, self._is_single
        reasons = {
            "python": "the batch is large" if size > SMALL else "float32" if single else "",
            "jax": "" if find_spec("jax") else "not installed",
        }
        seconds = {"numpy": _seconds(lambda: super(Auto, self)._step(batch, gradient))}
        others: dict[str, Any] = {}
        for name, reason in reasons.items():
            if reason:
                self._told.append(f"{name} was not tried: {reason}")
                continue
            options = {"dtype": self.dtype, "verify": self.verify}
            try:
                other = others[name] = BACKENDS[name].make(name, self.original, self.parameters, options)
                first = time.perf_counter()
                self._by(other, batch, gradient)
                first = time.perf_counter() - first
                seconds[name] = _seconds(lambda other=other: self._by(other, batch, gradient))  # type: ignore[misc]
                self._told.append(f"{name}: {seconds[name] * 1e6:,.0f} us for a step, {first:.1f} s for the first")
            except Exception as error:  # a backend that fails is left out
                self._told.append(f"{name} cannot: {str(error).splitlines()[0]}")
        self._told.insert(0, f"numpy: {seconds['numpy'] * 1e6:,.0f} us for a step")
        self.backend = min(seconds, key=lambda name: seconds[name])
        self._other = others.get(self.backend)

    @property
    def groups(self) -> Groups:
        """What was found in the graph, and above it which backend was chosen, and why."""
        groups = super().groups
        if self.backend:
            why = "" if self._draws else ", the fastest for the first batch"
            groups.notes = [f"backend {self.backend}{why}", *self._told]
        return groups

    @property
    def source(self) -> str:
        """The program that ran last."""
        return super().source if self._other is None else self._other.source


def _seconds(call: Callable[[], Any]) -> float:
    """The shortest of some calls."""
    times, total = list[float](), 0.0
    while len(times) < CALLS or total < SECONDS:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        total += times[-1]
        if total > 1 and len(times) > 1:
            break
    return float(np.min(times))
