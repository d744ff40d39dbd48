"""CompiledJax: what `tg.compile(..., backend="jax")` returns."""

import importlib
import re
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.value import Value
from ..backends.jax import JaxEmitter
from ..find.lowered import Lowered
from ..ir.plan import Plan, plan_of
from ..trace.placeholder import TraceError
from ..trace.surroundings import Closure, Facts
from ..trace.tracing import Trace
from .build import Build, Request
from .compiled import Compiled
from .derivatives import Derivative
from .devices import MeshTraining, mean_and_gradient
from .pipeline import defined, make, numpy_program
from .verify import some_batch

OLDEST = (0, 6)  # the version of JAX
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}  # half of XLA's time
PATIENCE = 2.0  # seconds, after which a first call says what it does
SLOW = "tinygrad_edu: XLA compiles the program for batches of a new shape; the next calls are fast.{}"
SKIP = " It is compared with the eager function: verify=False leaves this out."


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


def in_float64(jax: Any, chosen: bool) -> Any:
    """A block in which JAX computes in float64, or does not. Up to JAX 0.7 its function is an experimental one."""
    return (jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")).enable_x64(chosen)


class CompiledJax(Compiled):
    """A compiled function as a pure function of JAX. `tg.compile(..., backend="jax")` makes it.

    Besides the methods of every compiled function it has `function`. What the others return is NumPy's.
    """

    takes_knobs = False  # `function` has no argument for them
    writes_gradient = False

    def __init__(
        self, function: Callable[..., Any], parameters: Iterable[Value], dtype: Any = "float64", **options: Any
    ):
        self.jax: Any = import_jax()
        self.training: None = None
        self._compiled: set[Any] = set()  # shapes of batches that XLA has compiled a program for
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

        A function that looks at numbers is traced by the examples of `step.value_and_grad`: call this once before.
        What decides is checked by `checkify.check`, so under jit it is checkify.checkify(step.function).

        Raises what `tg.compile` lists, and TraceError for a function that looks at numbers and has seen none.
        """
        with self._lock, self.jax.ensure_compile_time_eval():
            request = Request(tuple(tuple(np.shape(x)[1:]) for x in batch), True, self._with_outputs)
            build = self._programs.unchanged(lambda program: program.contract.request == request)
            if build is None:
                try:
                    build = self._programs.of(request, None)
                except TraceError as error:
                    error.add_note("If it looks at numbers, call step.value_and_grad with a batch once before.")
                    raise
                self._programs.keep(build)
            if self.verify and not build.verified and not build.contract.guards:
                with _told(SLOW.format(SKIP)):
                    build = self._checked_at_once(build)
        if build.n_checked:  # under jit these outputs cannot be looked at
            build = build.unpadded()
        if build.contract.guards and build.contract.guards.n:
            return self._guarded(build, parameters, batch)
        return build.namespace["function"](parameters, *batch)

    def _checked_at_once(self, build: Build) -> Build:
        """The program, verified at two examples of its own, without XLA's optimisations."""
        quick = build.quick()
        checked = self._programs.verified(quick, some_batch(build))
        if checked is quick:
            build.verified = quick.verified
            return build
        self._programs.replace(build, checked)
        return checked

    def _ran(self, batch: Sequence[Any], gradient: Any) -> tuple[Build, Any]:
        key = gradient is None, tuple(getattr(x, "shape", None) for x in batch)
        if key in self._compiled:
            return super()._ran(batch, gradient)
        with _told(SLOW.format(SKIP * self.verify)):
            result = super()._ran(batch, gradient)
        self._compiled.add(key)
        return result

    def _guarded(self, build: Build, parameters: Any, batch: Any) -> Any:
        """`function`, where each example must take a path that is known."""
        from jax.experimental import checkify

        guards: Any = build.contract.guards
        jnp = self.jax.numpy
        size = np.shape(batch[0])[0]
        step = mean_and_gradient(self.jax, build.namespace["examples"])
        (value, outputs), gradient = step(parameters, jnp.full(size, 1 / size, self.dtype), *batch)
        asked = outputs[:, outputs.shape[1] - guards.n :] != 0
        known = [(asked[:, jnp.array(which)] == jnp.array(wanted)).all(axis=1) for which, wanted in guards.paths]
        checkify.check(
            jnp.stack(known).any(axis=0).all(),
            "An example takes a path that step.function has not seen: call step.value_and_grad with it once.",
        )
        return value, gradient

    def save(self, path: str | Path) -> None:
        """Write the program that ran last: to model.py as NumPy's `save` does, to any other name as StableHLO.

        StableHLO is what `jax.export` makes of `function`, for batches of any size: `jax.export.deserialize` reads
        it. The parameters are its first argument, and stand beside it as .npz.
        """
        if Path(path).suffix == ".py":
            super().save(path)
            return
        from jax import export

        theta, request = self._numbers(), self._last().contract.request
        (size,) = export.symbolic_shape("B")
        arrays = [self.jax.ShapeDtypeStruct((size, *shape), theta.dtype) for shape in request.shapes]
        first = self.jax.ShapeDtypeStruct(theta.shape, theta.dtype)
        exported = export.export(self.jax.jit(self.function))(first, *arrays)
        Path(path).write_bytes(exported.serialize())
        np.savez(Path(path).with_suffix(".npz"), parameters=theta)

    def train(self, optimizer: Any, mesh: Any = None, *data: Any) -> MeshTraining:
        """Steps of the optimiser on the devices of a mesh, or on one device: see `MeshTraining`.

        The batch is split along the first axis of the mesh. Raises TypeError unless mesh is a jax.sharding.Mesh,
        ValueError for a device that is not there, or an optimiser of other parameters.
        """
        is_array = hasattr(mesh, "shape") and not hasattr(mesh, "axis_names")
        return MeshTraining(self, optimizer, mesh, (mesh, *data) if data or is_array else ())

    def _write_derivative(self, build: Build, kind: str) -> Any:
        return JaxDerivative(self.jax, kind, build)

    def _numbers(self) -> Any:
        if self.training:
            self.training.read()
        return super()._numbers()

    def _write(  # type: ignore[override]  # it has the same arguments
        self, traced: Trace, closure: Closure, facts: Facts, request: Request, _: Any, skip: Collection[str] = ()
    ) -> Build:
        return make(traced, closure, facts, request, None, skip, self._source)

    def _source(self, lowered: Lowered, request: Request, title: str) -> tuple[str, dict[str, Any]]:
        """A program in JAX: its source and what it defines, with a `build` as `Build` needs it."""
        plan = plan_of(lowered, request.gradient, has_backward=False)
        source, program = self.write_any_length(plan, len(request.shapes), title, {})
        return source, program | {"numpy": cache(lambda: numpy_program(lowered, request, title)[1])}

    def write_any_length(
        self, plan: Plan, n_inputs: int, title: str, lengths: dict[str, tuple[int, int]]
    ) -> tuple[str, dict[str, Any]]:
        """A program for inputs of any length, as `AnyLength` asks for it."""
        source = JaxEmitter(plan, n_inputs, title, lengths).source
        sliced = cache(lambda: JaxEmitter(plan, n_inputs, title, lengths, sliced=True).source)
        return source, self._namespace(source, plan) | {"sliced": sliced}

    def _namespace(self, source: str, plan: Plan) -> dict[str, Any]:
        """What a source defines, and a `build` as `Build` needs it."""
        namespace, has_gradient = defined(source), plan.root is not None
        examples = namespace["examples"]
        program = self.jax.jit(mean_and_gradient(self.jax, examples) if has_gradient else examples)

        def build(parameters: NDArray[Any], size: int, dtype: Any, options: Any = None) -> Callable[..., Any]:
            compiled: Any = None if options else program

            def run(*inputs: Any) -> Any:
                nonlocal compiled
                with in_float64(self.jax, dtype == np.float64):  # a program for float32 is verified in float64
                    batch = inputs[:-1] if has_gradient else inputs
                    arguments = (parameters, *([np.full(size, 1 / size, dtype)] if has_gradient else []), *batch)
                    compiled = compiled or program.lower(*arguments).compile(compiler_options=options)
                    if not has_gradient:
                        return np.array(compiled(*arguments))
                    (value, outputs), inputs[-1][...] = compiled(*arguments)
                return (float(value), np.array(outputs)) if plan.n_outputs else float(value)

            return run

        return namespace | {"build": build, "quick": partial(build, options=QUICK), "dtype": self.dtype}


@contextmanager
def _told(sentence: str) -> Iterator[None]:
    """Print a sentence if a block takes longer than PATIENCE."""
    timer = threading.Timer(PATIENCE, lambda: print(sentence, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class JaxDerivative(Derivative):
    """Derivatives of `examples`, the function of a program in JAX, by JAX's transformations."""

    def __init__(self, jax: Any, kind: str, build: Build):
        self.jax = jax
        program = build.namespace["sliced"]() if kind in ("per_example_grads", "jacobian") else build.source
        source = f"{program}\n\n{BY_JAX[kind].format(loss=build.loss or 0)}"
        super().__init__(kind, source, jax.jit(defined(source)[kind]))

    def __call__(self, theta: NDArray[Any], inputs: Sequence[Any], size: int, m: int, vector: Any = None) -> Any:
        """The derivatives of a batch, as NumPy's arrays: to be read alone where they are XLA's memory."""
        with in_float64(self.jax, theta.dtype == np.float64):
            result: Any = self.run(theta, *inputs, *([vector] if self.kind == "hvp" else []))
            result = tuple(map(np.asarray, result)) if isinstance(result, tuple) else np.asarray(result)
        if self.kind == "jacobian":
            return result[:, :m]
        return result[None] @ vector if self.kind == "hessian" and vector is not None else result


ROW = """def row(parameters, *example):
    return examples(parameters, *(x[None] for x in example))[0{0}]


"""
OVER = "(None, *(0 for _ in batch))"
MEAN = """def mean(parameters, *batch):
    return examples(parameters, *batch)[:, {loss}].mean()


"""
EACH = f"""def {{0}}(parameters, *batch):
    each = jax.vmap(jax.{{1}}(row), {OVER}) if batch else lambda parameters: jax.{{1}}(row)(parameters)[None]
    return each(parameters, *batch)
"""
BY_JAX = {
    "per_example_grads": ROW.format(", {loss}") + EACH.format("per_example_grads", "grad"),
    "jacobian": ROW.format("") + EACH.format("jacobian", "jacrev"),
    "input_grads": ROW.format(", {loss}")
    + f"""def input_grads(parameters, *batch):
    by = tuple(i for i, x in enumerate(batch, 1) if jnp.issubdtype(x.dtype, jnp.floating))  # no indices
    slopes = iter(jax.vmap(jax.grad(row, by), {OVER})(parameters, *batch) if by else ())
    zeros = (jnp.zeros(x.shape, parameters.dtype) for x in batch)
    return tuple(next(slopes) if i in by else zero for i, zero in enumerate(zeros, 1))
""",
    "hvp": MEAN
    + """def hvp(parameters, *batch):
    *batch, vector = batch
    return jax.jvp(lambda p: jax.grad(mean)(p, *batch), (parameters,), (vector,))[1]
""",
    "hessian": MEAN
    + """def hessian(parameters, *batch):
    return jax.jacfwd(jax.grad(mean))(parameters, *batch)
""",
}
