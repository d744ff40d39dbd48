"""The compiler: from a graph of scalars to the matrix calculus it stands for. Read README.md in this folder."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

from .backends import BACKENDS
from .trace.checks import CompileError
from .trace.placeholder import TraceError

if TYPE_CHECKING:
    from .run.auto import Auto
    from .run.compiled import Compiled
    from .run.compiled_jax import CompiledJax
    from .run.javascript_module import JavaScriptModule
    from .run.pointwise import Pointwise

__all__ = ["CompileError", "TraceError", "compile"]

Function = Callable[..., Any]


@overload
def compile(
    function: Function, parameters: Any, dtype: Any = ..., *, backend: Literal["numpy"] = ..., verify: bool = ...
) -> "Compiled": ...
@overload
def compile(
    function: Function, parameters: Any, dtype: Any = ..., *, backend: Literal["python"], verify: bool = ...
) -> "Pointwise": ...
@overload
def compile(
    function: Function, parameters: Any, dtype: Any = ..., *, backend: Literal["jax"], verify: bool = ...
) -> "CompiledJax": ...
@overload
def compile(
    function: Function, parameters: Any, dtype: Any = ..., *, backend: Literal["auto"], verify: bool = ...
) -> "Auto": ...
@overload
def compile(
    function: Function,
    parameters: Any,
    dtype: Any = ...,
    *,
    backend: Literal["javascript"],
    example: Sequence[Any],
) -> "JavaScriptModule": ...
@overload
def compile(
    function: Function,
    parameters: Any,
    dtype: Any = ...,
    *,
    backend: str,
    verify: bool = ...,
    example: Sequence[Any] | None = ...,
) -> Any: ...
def compile(
    function: Function,
    parameters: Any,
    dtype: Any = "float64",
    *,
    backend: str = "numpy",
    verify: bool = True,
    example: Sequence[Any] | None = None,
) -> Any:
    """A function of scalars, for one example, as a program of array operations, for a batch of them.

    function(*example) is written with Values and returns one, the loss. `parameters` is a model or a list of
    Values:

        step = tg.compile(loss, model)
        with step.train(optim.Adam(model.parameters())) as update:
            for X, Y in batches:
                value = update(X, Y)     forward, backward and update: the mean of the loss before it

        step(X, Y)                       the mean over the batch
        step.value_and_grad(X, Y)        and its gradient, a vector in the order of the parameters
        step.backward(X, Y)              the same, added to the `grad` of the Values
        step.predict(X, Y)               what the function returns for each example
        step.source, step.groups         the program, and what was found in the graph: print(...), .draw()
        step.passes                      what each pass made: {"statements": text, "gradient": text, ...}
        with step.arrays() as theta:     the parameters as one vector, for training in place

    Outside of `train` and `arrays`, every call reads all Values, which takes 5 ms for 100,000.

    A batch has one argument for each of the function's, with the examples along the first axis: an array (B,
    *S), or a list. Its examples may be numbers, dicts, dataclasses, and lists of several lengths: those of one
    form run together. The function gets ints for integers, and Values for other numbers (or plain numbers, if it
    does not run on Values). It may return a tuple, whose first number is the loss, or a dict with a "loss".

    The function is traced once for each shape of an example, and a recurrence for a length of its own too, so
    that inputs of other lengths need no new program. If it asks for a number, as `if x > 0`, `x.data` and
    `table[i]` do, it is traced by examples: what decides is checked for each example of every batch. The plain
    numbers around it (closures, globals, defaults, attributes, lists) are watched, and so are Values that are no
    parameters, and the mode and statistics of modules (`training`, BatchNorm's averages): a float that changes is
    read at each call from then on, and after any other change the next call traces again. A parameter that the
    function does not use has gradient 0.0. Before a program is used it is compared with the eager function
    (verify=True). dtype is "float64" or "float32". backend="python" makes straight-line Python, for functions of
    one point that are called many times.

    backend="jax" makes pure functions of JAX, for devices such as GPUs, and for several of them. They have

        step.function                        (parameters, *batch) -> (mean, gradient), to use under jax.jit or vmap
        step.train(optimizer, mesh=mesh)     forward, backward and update as one program, on the devices of a mesh

    backend="auto" takes the first step with NumPy, Python (a small batch) and JAX (if it is installed), and all
    others with the fastest of them: print(step.groups) says which, and why.

    backend="javascript" gives an object whose `source` is an ES module for a web page. `example` is one example,
    a tuple of the function's arguments, and says their shapes; only this backend needs it.

    A compiled function of a method, a Module or a functools.partial may be copied and pickled. Threads may compile
    at the same time; a thread that computes eagerly with a parameter while another one traces is refused.

    If a result or a gradient is inf or nan, the first such example runs eagerly: the engine's error is raised with
    the number of the example.

    Raises TypeError or ValueError for arguments that make no sense. Calls raise TraceError where two examples
    need two different programs, or a number goes where it cannot be followed; CompileError where program and
    function disagree, or float32 cannot hold the numbers; TypeError, ValueError or IndexError for a batch that
    does not fit. With backend="jax" it raises ImportError without JAX, or for an old one; RuntimeError if JAX has
    no such device.
    """
    if backend not in BACKENDS:
        *others, last = (f'"{name}"' for name in BACKENDS)
        raise ValueError(f"The backend is {', '.join(others)} or {last}, got {backend!r}.")
    options = {"dtype": dtype, "verify": verify, "example": example}
    return BACKENDS[backend].make(backend, function, parameters, options)
