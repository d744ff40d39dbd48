"""The compiler: from a graph of scalars to the matrix calculus it stands for. Read README.md in this folder."""

from collections.abc import Callable, Sequence
from typing import Any

from ..optim import Optimizer
from .checks import CompileError
from .tracing import TraceError

__all__ = ["CompileError", "TraceError", "compile"]


def compile(
    function: Callable[..., Any],
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
        step.explain()                   the same in words, with the lines of your code
        with step.arrays() as theta:     the parameters as one vector, for training in place

    Outside of `train` and `arrays`, every call reads all Values, which takes 5 ms for 100,000.

    A batch has one argument for each of the function's, with the examples along the first axis: an array (B,
    *S), or a list. Its examples may be numbers, dicts, dataclasses, and lists of several lengths: those of one
    form run together. The function gets ints for integers, and Values for other numbers (or plain numbers, if it
    does not run on Values). It may return a tuple, whose first number is the loss, or a dict with a "loss".

    The function is traced once for each shape of an example, and a recurrence for a length of its own too, so
    that inputs of other lengths need no new program. If it asks for a number, as `if x > 0`, `x.data` and
    `table[i]` do, it is traced by examples: what decides is checked for each example of every batch. Other plain
    numbers in it are constants. So are Values that are no parameters, and the mode and statistics of modules
    (`training`, BatchNorm's averages): if one of them changes, the next call traces again. A parameter that the
    function does not use has gradient 0.0. Before a program is used it is compared with the eager function
    (verify=True). dtype is "float64" or "float32". backend="python" makes straight-line Python, for functions of
    one point that are called many times.

    backend="jax" makes pure functions of JAX, for devices such as GPUs, and for several of them. They have

        step.function                        (parameters, *batch) -> (mean, gradient), to use under jax.jit or vmap
        step.train(optimizer, mesh=mesh)     forward, backward and update as one program, on the devices of a mesh

    backend="javascript" gives an object whose `source` is an ES module for a web page. `example` is one example,
    a tuple of the function's arguments, and says their shapes; only this backend needs it.

    A compiled function may be copied and pickled. Threads may compile, and train eagerly, at the same time.

    Raises TypeError or ValueError for arguments that make no sense. Calls raise TraceError where two examples
    need two different programs, or a number goes where it cannot be followed; CompileError where program and
    function disagree, or float32 cannot hold the numbers; TypeError, ValueError or IndexError for a batch that
    does not fit. With backend="jax" it raises ImportError without JAX, or for an old one; RuntimeError if JAX has
    no such device.
    """
    if backend not in ("numpy", "python", "javascript", "jax"):
        raise ValueError(f'The backend is "numpy", "python", "javascript" or "jax", got {backend!r}.')
    if backend == "javascript":
        from .backends.javascript import JavaScriptModule

        if example is None:
            raise TypeError('backend="javascript" needs the arguments of one example, as in example=(0.5,).')
        return JavaScriptModule(function, parameters, example)
    if example is not None:
        raise TypeError('Only backend="javascript" takes an example: the others see it when they are called.')
    if backend == "python":
        from .backends.pointwise import Pointwise

        if not _is_float64(dtype):
            raise ValueError(
                f'Python\'s floats are float64: leave dtype out with backend="python", got {dtype!r}.'
            )
        return Pointwise(function, parameters, verify=verify)
    if backend == "jax":
        from .compiled_jax import CompiledJax

        return CompiledJax(function, parameters, dtype, verify=verify)
    from .compiled import Compiled

    return Compiled(function, parameters, dtype, verify=verify)


def _update_in_place(optimizer: Any) -> Callable[..., Any]:
    from .update import UpdateProgram

    return UpdateProgram(optimizer).build


Optimizer.programs.append(_update_in_place)


def _is_float64(dtype: Any) -> bool:
    """Does it mean float64? Only an unusual spelling needs NumPy to tell."""
    if dtype is float or (isinstance(dtype, str) and dtype == "float64"):
        return True
    import numpy as np

    try:
        return bool(np.dtype(dtype).name == "float64")
    except (TypeError, ValueError):
        return False
