"""Training on devices: forward, backward and update as one program of JAX, on the devices of a mesh.

The batch is split along the first axis of the mesh. The parameters and the state of the optimiser are on every
device. JAX's compiler adds up the gradients of the devices (an all-reduce) where the program needs their sum.
"""

import math
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends.jax import update_source
from ..backends.update import UpdateProgram
from .base import Training
from .build import Build
from .pipeline import defined


def checked_mesh(jax: Any, mesh: Any) -> Any:
    """The mesh, whose axes JAX's compiler shards by itself; one device if it is None.

    Raises TypeError unless it is a mesh, ValueError for a device that is not there.
    """
    if mesh is None:
        return jax.sharding.Mesh(np.array(jax.local_devices()[:1]), ("batch",))
    if not isinstance(mesh, jax.sharding.Mesh) or not mesh.axis_names:
        raise TypeError(
            'mesh is a jax.sharding.Mesh with one axis or more, as jax.make_mesh((8,), ("batch",)) makes it, got '
            f"{mesh!r}."
        )
    for device in mesh.devices.flat:
        if device not in jax.devices(device.platform):
            raise ValueError(f"The mesh has {device}, which is not among the devices of JAX: {jax.devices()}.")
    if jax.process_index() not in {device.process_index for device in mesh.devices.flat}:
        raise ValueError(
            f"The mesh has no device of process {jax.process_index()}: make it of all that jax.devices() lists."
        )
    return jax.sharding.Mesh(mesh.devices, mesh.axis_names)  # with the axis type Auto


def mean_and_gradient(jax: Any, examples: Callable[..., Any]) -> Callable[..., Any]:
    """A function (parameters, weights, *batch) -> ((mean, outputs), gradient) of what a program gives per example.

    Each example has a weight, 1/B in the mean of B. The outputs are () if the program gives losses alone.
    """

    def mean(parameters: Any, weights: Any, *batch: Any) -> Any:
        result = examples(parameters, *batch)
        losses, outputs = result if isinstance(result, tuple) else (result, ())
        return weights @ losses, outputs

    function: Callable[..., Any] = jax.value_and_grad(mean, has_aux=True)
    return function


class MeshTraining(Training):
    """Steps of an optimiser on devices. `step.train(optimizer, mesh=...)` makes it.

        with step.train(optimizer, mesh=jax.make_mesh((8,), ("batch",))) as train:
            for X, Y in batches:
                loss = train(X, Y)

    A call is one step: it returns the mean loss of the batch before the step. A loss of nan or inf moves nothing.
    `lr` may change between two steps; the other settings of the optimiser are constants. The parameters and the
    optimiser's state stay on the devices until the end of the block, which writes them back; a call without a
    block is a block of one step. Among several processes, each makes all calls, with the same whole batches.
    """

    def __init__(self, compiled: Any, optimizer: Any, mesh: Any, data: tuple[Any, ...] = ()):
        super().__init__(compiled, optimizer, data)
        self._jax = compiled.jax
        self.mesh: Any = checked_mesh(self._jax, mesh)
        spec = self._jax.sharding.PartitionSpec
        self._everywhere = self._jax.NamedSharding(self.mesh, spec())
        self._split = self._jax.NamedSharding(self.mesh, spec(self.mesh.axis_names[0]))
        self._programs: dict[Build, Any] = {}
        self._last: Any = ()  # what the last step has returned

    def step(self, *batch: Any) -> tuple[float, Any]:
        """One step: (mean, outputs for every example) of a function that returns (loss, outputs).

        Raises what `tg.compile` lists, and TypeError for an update that is no arithmetic.
        """
        if self._block is None:
            with self:
                return self.step(*batch)
        build, arguments, size = self._prepared(batch)
        results = map(self._programs[build], *([x] for x in (*self._last[2:], *arguments)))
        # The buffers of the step before are gone: in C, no Ctrl-C comes between the step and what it has returned.
        deque(map(setattr, [self], ["_last"], results), maxlen=0)
        value, outputs, *_ = self._last
        n = math.prod(build.output_shape) if build.contract.request.with_outputs else 0  # behind them are guards
        return float(value), np.asarray(outputs)[:size, :n].reshape(size, *build.output_shape) if n else None

    def lower(self, *batch: Any) -> Any:
        """The program for this batch, as jax.jit(...).lower gives it: compile().as_text() shows it."""
        if self._block is None:
            with self:
                return self.lower(*batch)
        build, arguments, _ = self._prepared(batch)
        return self._programs[build].lower(*self._last[2:], *arguments)

    def read(self) -> None:
        """Copy the parameters from the devices into the vector that the compiled function reads."""
        self._vectors.vector[:] = self._last[2]

    def put(self, numbers: Any) -> None:
        """Give the parameters these numbers."""
        vector = self._on_devices(np.asarray(numbers, self._vectors.vector.dtype), self._everywhere)
        self._last = (*self._last[:2], vector, *self._last[3:])

    def __enter__(self) -> "MeshTraining":
        with ExitStack() as stack:
            theta = stack.enter_context(self.compiled.arrays())
            self._vectors = self.optimizer.vectors(theta)
            steps = np.asarray(self._vectors.steps, theta.dtype)
            arrays = (theta, *self._vectors.state, steps)
            parameters, *state, steps = [self._on_devices(x, self._everywhere) for x in arrays]
            self._last = 0.0, (), parameters, state, steps
            self.compiled.training = self
            self._block = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        """Write the parameters and the optimiser's state back."""
        with self._block:
            self._block = None
            self.read()
            *_, state, steps = self._last
            self._vectors.state, self._vectors.steps = list(map(np.asarray, state)), np.asarray(steps).astype(int)
            self._vectors.write_back()
            self.compiled.training = None

    def _prepared(self, batch: Any) -> tuple[Build, list[Any], int]:
        """The program for a batch, its arguments after the number of steps, and the number of examples."""
        draws, compiled = self.compiled._draws_of(batch, gradient=True), self.compiled
        if draws:
            compiled, batch = compiled._drawn(draws, batch)
        build, arrays, size = compiled._prepared(batch, gradient=True)
        if build.contract.guards or (compiled.verify and not build.verified):  # guards: before every step
            self.read()
            compiled._ran(batch, self.compiled.gradient)
            build, arrays, size = compiled._prepared(batch, gradient=True)
        if build not in self._programs:
            self._programs[build] = self._program(build)
        # The batch is filled up with its own examples, of weight 0, until every device has as many.
        n_parts, sharding = (self.mesh.devices.shape[0], self._split) if arrays else (1, self._everywhere)
        rows, dtype = np.arange(-(-size // n_parts) * n_parts), self._vectors.vector.dtype
        filled = [array if len(rows) == size else array[rows % size] for array in arrays]
        split = [np.where(rows < size, 1 / size, 0), *filled]
        arguments = [self._on_devices(np.asarray(x, dtype), sharding) for x in split]
        return build, [np.asarray(self.optimizer.lr, dtype), *arguments], size

    def _on_devices(self, x: NDArray[Any], sharding: Any) -> Any:
        """An array on the devices: each process gives what its own devices need."""
        return self._jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    def _program(self, build: Build) -> Any:
        """One step as a program: (value, outputs, parameters, state, steps)."""
        # The equation on symbols, in NumPy, must move some parameters as it moves numbers.
        if not self._vectors.agrees(UpdateProgram(self.optimizer).build, np.ones(len(self._vectors.vector))):
            raise TypeError(f"The update of {type(self.optimizer).__name__} does not run on vectors.")
        jnp, source = self._jax.numpy, f"import jax.numpy as jnp\n{update_source(self.optimizer)}"
        update = defined(source)["update"]
        gradient_of = mean_and_gradient(self._jax, build.namespace["examples"])

        def train(parameters: Any, state: Any, steps: Any, lr: Any, weights: Any, *batch: Any) -> Any:
            (value, outputs), gradient = gradient_of(parameters, weights, *batch)
            old = (parameters, *state, steps)
            new = (*update(steps + 1, lr, gradient, parameters, *state), steps + 1)
            parameters, *state, steps = [
                jnp.where(jnp.isfinite(value), *pair) for pair in zip(new, old, strict=True)
            ]
            return value, outputs, parameters, state, steps

        return self._jax.jit(train, out_shardings=self._everywhere, donate_argnums=(0, 1))
