"""Training on devices: forward, backward and update as one program of JAX, on the devices of a mesh.

The batch is split along the first axis of the mesh. The parameters and the state of the optimiser are on every
device. JAX's compiler adds up the gradients of the devices (an all-reduce) where the program needs their sum.
"""

import copy
import math
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..optim.vectors import VectorSteps, differ
from .backends.jax import update_source
from .pipeline import Made, defined


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
            f"The mesh has no device of process {jax.process_index()}: make it of jax.devices(), which lists those "
            "of all processes."
        )
    return jax.sharding.Mesh(mesh.devices, mesh.axis_names)  # with the axis type Auto


class Training:
    """Steps of an optimiser on devices. `step.train(optimizer, mesh=...)` makes it.

        with step.train(optimizer, mesh=jax.make_mesh((8,), ("batch",))) as train:
            for X, Y in batches:
                loss = train(X, Y)

    A call is one step: it returns the mean loss of the batch before the step. A loss of nan or inf moves nothing.
    The parameters and the optimiser's state stay on the devices until the end of the block, which writes them
    back. Among several processes, each makes all calls, with the same whole batches.
    """

    def __init__(self, compiled: Any, optimizer: Any, mesh: Any):
        self.compiled, self.optimizer, self._jax = compiled, optimizer, compiled.jax
        self.mesh = checked_mesh(self._jax, mesh)
        if optimizer.parameters != compiled.parameters:
            raise ValueError(
                "The optimiser moves other parameters than those of the compiled function, or in another order: "
                "make both from one list."
            )
        spec = self._jax.sharding.PartitionSpec
        self._everywhere = self._jax.NamedSharding(self.mesh, spec())
        self._split = self._jax.NamedSharding(self.mesh, spec(self.mesh.axis_names[0]))
        self._programs: dict[Made, Any] = {}
        self._settings: Any = None
        with ExitStack() as stack:
            theta = stack.enter_context(compiled.arrays())
            self._steps = VectorSteps(optimizer, theta)
            self._parameters, *self._state = [self._put(x, self._everywhere) for x in (theta, *self._steps.state)]
            compiled.training = self
            self._open = stack.pop_all()

    def __call__(self, *batch: Any) -> float:
        """One step. Raises what `tg.compile` lists, and TypeError for an update that is no arithmetic."""
        return self.step(*batch)[0]

    def step(self, *batch: Any) -> tuple[float, Any]:
        """One step: (mean, outputs for every example) of a function that returns (loss, outputs), else (mean, ())."""
        program, arguments, size = self._prepared(batch)
        value, outputs, self._parameters, self._state = program(self._parameters, self._state, *arguments)
        value = float(value)
        if math.isfinite(value):
            self._steps.steps = self._steps.steps + 1
        return value, np.asarray(outputs)[:size]

    def lower(self, *batch: Any) -> Any:
        """The program for this batch, as jax.jit(...).lower gives it: .compile().as_text() shows the all-reduce."""
        program, arguments, _ = self._prepared(batch)
        return program.lower(self._parameters, self._state, *arguments)

    @property
    def source(self) -> str:
        """The loss and the update that ran last, as source. Raises RuntimeError before the first call."""
        return f"{self.compiled.source}\n\n{update_source(self.optimizer)}"

    def read(self) -> None:
        """Copy the parameters from the devices into the vector that the compiled function reads."""
        self._steps.vector[:] = self._parameters

    def put(self, numbers: Any) -> None:
        """Give the parameters these numbers."""
        self._parameters = self._put(np.asarray(numbers, self._steps.vector.dtype), self._everywhere)

    def close(self) -> None:
        """Write the parameters and the optimiser's state back."""
        if self.compiled.training is self:
            self.read()
            self._steps.state = list(map(np.asarray, self._state))
            self._steps.write_back()
            self.compiled.training = None
            self._open.close()

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    # --- Programs ---------------------------------------------------------------------------------------------

    def _prepared(self, batch: Any) -> tuple[Any, list[Any], int]:
        """The program for a batch, its arguments after the state, and the number of examples."""
        made, arrays, size = self.compiled._prepared(batch, gradient=True)
        settings = self.optimizer.settings()
        if differ(settings, self._settings):
            self._programs, self._settings = {}, copy.deepcopy(settings)
        if made not in self._programs:
            self._programs[made] = self._made(made)
        # The batch is filled up with its own examples, of weight 0, until every device has as many.
        n_parts = self.mesh.devices.shape[0] if arrays else 1
        rows, dtype = np.arange(-(-size // n_parts) * n_parts), self._steps.vector.dtype
        weights = np.where(rows < size, 1 / size, 0).astype(dtype)
        if len(rows) > size:
            arrays = [array[rows % size] for array in arrays]
        split = [
            self._put(np.asarray(x, dtype), self._split if arrays else self._everywhere)
            for x in (weights, *arrays)
        ]
        numbers = [np.asarray(x, dtype) for x in (self._steps.steps + 1, self.optimizer.lr)]
        return self._programs[made], [*numbers, *split], size

    def _put(self, x: NDArray[Any], sharding: Any) -> Any:
        """An array on the devices: each process gives what its own devices need."""
        return self._jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    def _made(self, made: Made) -> Any:
        namespace = defined(f"import jax\nimport jax.numpy as jnp\n{update_source(self.optimizer)}")
        self._check(namespace["update"])
        split = self._split if made.request.shapes else self._everywhere
        return self._jax.jit(
            self._train(made.namespace["examples"], namespace["update"]),
            in_shardings=(*[self._everywhere] * 4, split, *[split] * len(made.request.shapes)),
            out_shardings=self._everywhere,
            donate_argnums=(0, 1),
        )

    def _train(self, examples: Callable[..., Any], update: Callable[..., Any]) -> Callable[..., Any]:
        """The step: (value, outputs, parameters, state)."""
        jax = self._jax

        def train(parameters: Any, state: Any, t: Any, lr: Any, weights: Any, *batch: Any) -> Any:
            def mean(parameters: Any) -> Any:
                result = examples(parameters, *batch)
                losses, outputs = result if isinstance(result, tuple) else (result, ())
                return weights @ losses, outputs

            (value, outputs), gradient = jax.value_and_grad(mean, has_aux=True)(parameters)
            old = (parameters, *state)
            new = update(t, lr, gradient, *old)
            moves = jax.numpy.isfinite(value)
            parameters, *state = [jax.numpy.where(moves, x, y) for x, y in zip(new, old, strict=True)]
            return value, outputs, parameters, state

        return train

    def _check(self, update: Callable[..., Any]) -> None:
        """Raise TypeError unless the update moves some parameters as the optimiser's equation moves numbers."""

        def build(*vectors: NDArray[Any]) -> Callable[..., None]:
            def move(gradient: Any, t: Any, lr: Any) -> None:
                for vector, result in zip(vectors, update(t, lr, gradient, *vectors), strict=True):
                    vector[...] = result

            return move

        with self._jax.enable_x64(True):
            if not self._steps.agrees(build, np.random.default_rng(0).standard_normal(len(self._steps.vector))):
                raise TypeError(f"The update of {type(self.optimizer).__name__} does not run on vectors of JAX.")
