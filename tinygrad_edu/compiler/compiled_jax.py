"""CompiledJax: what `tg.compile(..., backend="jax")` returns."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.value import Value
from .backends.jax import JaxEmitter, JaxProgram
from .backends.numpy import lost_in_float32
from .checks import CompileError, unchanged
from .compiled import Compiled
from .devices import MeshTraining, mean_and_gradient
from .lower import Lowered
from .pipeline import Made, Request, defined, make
from .tracing import Trace, TraceError, trace_function

OLDEST = (0, 8)  # the version of JAX


def import_jax() -> Any:
    """JAX. Raises ImportError if it is missing or too old, RuntimeError if it finds no device."""
    try:
        import jax
    except ImportError:
        raise ImportError('backend="jax" needs JAX: pip install "tinygrad-edu[jax]".') from None
    if tuple(map(int, re.findall(r"\d+", jax.__version__)[:2])) < OLDEST:
        least = ".".join(map(str, OLDEST))
        raise ImportError(
            f'backend="jax" needs JAX {least} or newer, and this is JAX {jax.__version__}: pip install -U jax.'
        )
    try:
        jax.devices()
    except RuntimeError as error:
        raise RuntimeError(
            f"JAX does not find the device that it was told to use ({str(error).splitlines()[0]}). Unset "
            "JAX_PLATFORMS to run on what is there, or install JAX for this device."
        ) from None
    return jax


class CompiledJax(Compiled):
    """A compiled function as a pure function of JAX. `tg.compile(..., backend="jax")` makes it.

    Besides the methods of every compiled function it has `function`. What the others return is NumPy's.
    """

    def __init__(
        self, function: Callable[..., Any], parameters: Iterable[Value], dtype: Any = "float64", **options: Any
    ):
        self.jax, self.training = import_jax(), None
        super().__init__(function, parameters, dtype, **options)
        if not self._is_single and not self.jax.config.jax_enable_x64:
            raise ValueError(
                "JAX computes in float32 until it is told otherwise. Call jax.config.update("
                '"jax_enable_x64", True) first, or compile with dtype="float32".'
            )

    def function(self, parameters: Any, *batch: Any) -> Any:
        """(mean, gradient) of a batch, as a pure function for jax.jit, vmap, grad and optimisers such as optax.

        parameters is the vector of all parameters, in their order. A batch has shapes, but perhaps no numbers yet,
        as under jit. So indices are not checked here, and a new program is verified at numbers of its own.

        Raises what `tg.compile` lists, and TraceError for a function that branches on numbers.
        """
        with self._lock, self.jax.ensure_compile_time_eval():
            request = Request(tuple(tuple(np.shape(x)[1:]) for x in batch), True, self._with_outputs)
            made = self._found(lambda made: made.request == request and unchanged(made.frozen, made.state))
            if made is None:
                made = self._make(trace_function(self.original, self.parameters, request.shapes), request)
                self._keep(made)
            if made.guards and made.guards.n:
                raise TraceError(
                    "The function branches on numbers, and step.function cannot look at them: select by tg.where, "
                    "or call step.value_and_grad."
                )
            if self.verify and not made.verified:
                made, _ = self._ran(_some_batch(made), self.gradient)
        return made.namespace["function"](parameters, *batch)

    def train(self, optimizer: Any, mesh: Any = None) -> MeshTraining:  # type: ignore[override]  # used in the same way
        """Steps of the optimiser on the devices of a mesh, or on one device: see `MeshTraining`.

        The batch is split along the first axis of the mesh. Raises TypeError unless mesh is a jax.sharding.Mesh,
        ValueError for a device that is not there, or an optimiser of other parameters.
        """
        return MeshTraining(self, optimizer, mesh)

    def _numbers(self) -> Any:
        if self.training:
            self.training.read()
        return super()._numbers()

    def _make(self, traced: Trace, request: Request, arrays: Any = None, plain: bool = False) -> Made:
        return make(traced, self.parameters, request, None, plain, self._write)

    def _write(self, lowered: Lowered, request: Request, title: str) -> tuple[str, dict[str, Any]]:
        """A program in JAX: its source and what it defines, with a `build` as `Made` needs it."""
        source = JaxEmitter(JaxProgram(lowered, len(request.shapes)), title, request.gradient).source
        namespace, lost = defined(source), lost_in_float32(lowered)
        examples = namespace["examples"]
        program = self.jax.jit(mean_and_gradient(self.jax, examples) if request.gradient else examples)

        def build(parameters: NDArray[Any], size: int, dtype: Any) -> Callable[..., Any]:
            if lost and dtype != np.float64:
                raise CompileError(lost)

            def run(*inputs: Any) -> Any:
                with self.jax.enable_x64(dtype == np.float64):  # a program for float32 is verified in float64
                    if not request.gradient:
                        return np.array(program(parameters, *inputs))
                    *batch, gradient = inputs
                    (value, outputs), gradient[...] = program(parameters, np.full(size, 1 / size, dtype), *batch)
                return (float(value), np.array(outputs)) if lowered.outputs[1:] else float(value)

            return run

        return source, namespace | {"build": build}


def _some_batch(made: Made) -> list[NDArray[Any]]:
    """Two examples for a program: random numbers, and random indices where it needs indices."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, *shape)) for shape in made.request.shapes]
    for pick in made.picks:
        rows = arrays[pick.argument].reshape(2, -1)
        rows[:, pick.positions] = rng.integers(0, pick.n_options, (2, len(pick.positions)))
    return arrays
