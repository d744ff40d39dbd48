"""The update equations on vectors: all parameters in one step."""

from collections.abc import Callable
from numbers import Number
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE = 8  # parameters that the scalar equation moves too, to compare
TOLERANCE = 1e-12  # relative to the largest of the numbers: it is the same arithmetic

Update = Callable[[Any, Any, Any], None]  # update(gradient, t, lr), in place


class VectorSteps:
    """The vector of the parameters and the vectors of their state, which `Optimizer.arrays` moves.

    Raises TypeError unless it is an array of floats, ValueError unless it has one number per parameter.
    """

    def __init__(self, optimizer: Any, vector: Any):
        self.optimizer: Any = optimizer
        parameters = optimizer.parameters
        self.vector: NDArray[Any] = vector
        if not isinstance(vector, np.ndarray) or vector.dtype.kind != "f":
            kind = getattr(vector, "dtype", type(vector).__name__)
            raise TypeError(
                f"The vector is moved in place, so it is an array of floats, got {kind}: pass what the arrays() "
                "of a compiled function gives."
            )
        if self.vector.shape != (len(parameters),):
            raise ValueError(
                f"The vector needs one number per parameter of the optimiser, {len(parameters):,}, got the shape "
                f"{self.vector.shape}."
            )
        fresh = (0,) * (1 + optimizer.n_states)
        rows = [optimizer.state.get(parameter) or fresh for parameter in parameters]
        columns = list(zip(*rows, strict=True))
        self.steps: Any = np.array(columns[0])
        self.state: list[NDArray[Any]] = [
            np.array([float(x) for x in column], self.vector.dtype) for column in columns[1:]
        ]
        if (self.steps == self.steps[0]).all():  # they differ if a parameter came later
            self.steps = int(self.steps[0])
        self._settings: dict[str, Any] | None = None
        self._update: Any = None  # made at the first step, and again when a setting has changed

    def step(self, gradient: Any) -> None:
        """Move the vector against the gradient. Raises ValueError for a gradient of another shape."""
        gradient = np.asarray(gradient)
        if gradient.shape != self.vector.shape:
            raise ValueError(
                f"The gradient needs the shape of the vector, {self.vector.shape}, got {gradient.shape}."
            )
        settings = self.optimizer.settings()
        settings = settings if _is_constant(tuple(settings.values())) else None
        with np.errstate(all="ignore"):
            if self._update is None or settings != self._settings:
                self._update, self._settings = self._new_update(gradient, settings is not None), settings
            self._update(gradient, self.steps + 1, float(self.optimizer.lr))
        self.steps = self.steps + 1

    def write_back(self) -> None:
        """Give the optimiser the state of every parameter that was moved, as `Optimizer.step` does."""
        steps = np.broadcast_to(self.steps, self.vector.shape).tolist()
        columns = [steps, *(state.tolist() for state in self.state)]
        for parameter, row in zip(self.optimizer.parameters, zip(*columns, strict=True), strict=True):
            if row[0]:
                self.optimizer.state[parameter] = row

    def _new_update(self, gradient: NDArray[Any], constant: bool) -> Update:
        """The equation as a program in place, or else on arrays: the first that gives the numbers of `update`.

        The settings are written into the program. A setting that can change in place, such as a dict, could change
        unseen: then the equation runs on arrays, which reads its settings at every step.
        """
        from ..compiler.backends.update import UpdateProgram

        reason = ""
        for make in (lambda: UpdateProgram(self.optimizer).build, lambda: self._on_arrays)[not constant :]:
            try:
                build = make()
                if self.agrees(build, gradient):
                    return build(self.vector, *self.state)
                reason = ""
            except Exception as error:  # a user's equation may do anything with its numbers
                reason = f" ({error})"
        raise TypeError(
            f"The update of {type(self.optimizer).__name__} does not run on vectors{reason}: let it be "
            "arithmetic, with functions of tinygrad_edu.elementary, that moves each parameter by itself."
        )

    def _on_arrays(self, *places: NDArray[Any]) -> Update:
        def update(gradient: Any, t: Any, lr: Any) -> None:
            results = self.optimizer.update(t, places[0], gradient, *places[1:])
            # A result that is an old vector would be overwritten before it is copied to its place.
            results = [x.copy() if any(x is place for place in places) else x for x in results]
            for place, result in zip(places, results, strict=True):
                place[...] = result

        return update

    def agrees(self, build: Callable[..., Update], gradient: NDArray[Any]) -> bool:
        """Does an update move some of the parameters as the equation moves numbers?"""
        some = np.unique(np.linspace(0, len(gradient) - 1, SAMPLE).astype(int))
        steps = np.broadcast_to(self.steps, self.vector.shape)[some] + 1
        vectors = [vector[some].astype(np.float64) for vector in (self.vector, *self.state)]
        slopes = gradient[some].astype(np.float64)
        rows = zip(*[column.tolist() for column in (steps, vectors[0], slopes, *vectors[1:])], strict=True)
        expected = np.array([self.optimizer.update(*row) for row in rows], np.float64)
        build(*vectors)(slopes, self.steps + 1 if isinstance(self.steps, int) else steps, float(self.optimizer.lr))
        moved, size = np.array(vectors).T, np.abs(expected).max(axis=1, keepdims=True)
        same = (np.abs(moved - expected) <= TOLERANCE * size) | (moved == expected)
        return bool((same | (np.isnan(moved) & np.isnan(expected))).all())


def _is_constant(x: Any) -> bool:
    """Is x a number, a string, None or a tuple of these, which cannot change in place?"""
    if isinstance(x, tuple):
        return all(map(_is_constant, x))
    return x is None or isinstance(x, Number | str)
