"""Derivatives of other libraries as rules, for check_rule and prove_rule. Neither library is a dependency."""

import functools
import inspect
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from ...engine import elementary as e
from ...engine.calculus import gradients
from ...engine.rule import Rule
from ...engine.value import Value

ARRAYS = "n_inputs= says how many it takes; a function of one array needs component=, a number of its result."


def from_jax(
    f: Callable[..., Any], n_inputs: int | None = None, component: int | None = None, **declared: Any
) -> Rule:
    """A JAX function of numbers as a rule, with the derivative of JAX: `check_rule(from_jax(jnp.tanh))`.

    On floats, forward is f and backward its vjp, compiled by JAX in float64. On any other kind of number both run
    the jaxprs, so that `custom_jvp` and `custom_vjp` are what they are in JAX. `n_inputs` is the number of
    parameters without a default. `declared` are fields of the Rule, such as kinks=(0.0,). It is not registered.

    A function of one array, such as softmax, is a rule for each component of its result, in reading order:
    `from_jax(jax.nn.softmax, n_inputs=3, component=0)` has three inputs, the numbers of the array.

    Raises ImportError without JAX, TypeError where f does not make one number of its inputs,
    NotImplementedError for a primitive that is not known here.
    """
    import jax

    if component is not None and n_inputs is None:
        raise TypeError("component= needs an array: n_inputs= says how many numbers it has.")
    n_inputs = _count_of(f) if n_inputs is None else n_inputs

    def value_of(*xs: Any) -> Any:
        return f(*xs) if component is None else jax.numpy.ravel(f(jax.numpy.stack(xs)))[component]

    def pull(upstream: Any, *xs: Any) -> Any:
        return jax.vjp(value_of, *xs)[1](upstream)

    try:
        shape = jax.eval_shape(value_of, *[np.float32(1.0)] * n_inputs).shape
    except (TypeError, ValueError, IndexError) as error:
        raise TypeError(f"{f} does not take {n_inputs} number(s). {ARRAYS}") from error
    if shape:
        raise TypeError(f"{f} returns an array of shape {shape} for {n_inputs} number(s). {ARRAYS}")
    value = _on_any_number(jax, lambda *xs: (value_of(*xs),), n_inputs)
    shares = _on_any_number(jax, pull, 1 + n_inputs)

    def forward(*xs: Any) -> Any:
        return value(*xs)[0]

    def backward(upstream: Any, out: Any, *xs: Any) -> Any:
        return shares(upstream, *xs)

    return _rule(f, "jax", forward, backward, n_inputs, "XLA", declared)


def from_torch(F: Any, formula: Callable[..., Any] | None = None, n_inputs: int = 1, **declared: Any) -> Rule:
    """A function of PyTorch or a `torch.autograd.Function`, with the derivative that autograd gives it, as a rule.

    On floats, forward is F and backward its autograd, in float64. PyTorch has no other numbers: on these,
    `formula`, which is written with `elementary`, gives the mathematics, and F is tested against it. Without a
    formula the rule takes floats only.

    Raises ImportError without PyTorch.
    """
    import torch

    call = getattr(F, "apply", F)  # of an autograd.Function

    def tensors(*xs: Any) -> list[Any]:
        return [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in xs]

    def mathematics() -> Callable[..., Any]:
        if formula is None:
            raise TypeError(f"{name} takes floats only: give from_torch a formula for other numbers.")
        return formula

    def forward(*xs: Any) -> Any:
        if all(isinstance(x, int | float | np.ndarray) for x in xs):
            out = call(*tensors(*xs)).detach()
            return out.numpy() if out.dim() else float(out)
        return mathematics()(*xs)

    def backward(upstream: Any, out: Any, *xs: Any) -> Any:
        if all(isinstance(x, int | float | np.ndarray) for x in (upstream, *xs)):
            inputs = tensors(*xs)
            result = call(*inputs)
            seed = torch.as_tensor(upstream, dtype=torch.float64).expand_as(result)
            shares = torch.autograd.grad(result, inputs, seed)
            return tuple(share.numpy() if share.dim() else float(share) for share in shares)
        values = [x if isinstance(x, Value) else Value(x) for x in xs]
        slopes = gradients(mathematics()(*values), values, create_graph=isinstance(xs[0], Value))
        return tuple(upstream * slope for slope in slopes)

    rule = _rule(F, "torch", forward, backward, n_inputs, "PyTorch", declared)
    rule.floats_only = True  # type: ignore[attr-defined]  # its backward takes no other numbers
    name = rule.name
    return rule


def _count_of(f: Any) -> int:
    """How many inputs f needs: its parameters without a default. Raises TypeError where that is not known."""
    if isinstance(n_inputs := getattr(f, "nin", None), int):  # a ufunc
        return n_inputs
    try:
        parameters = inspect.signature(f).parameters.values()
    except (TypeError, ValueError):
        return 1
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        raise TypeError(f"{f} takes any number of inputs: say how many by n_inputs=.")
    return max(1, sum(p.default is p.empty and p.kind is not p.KEYWORD_ONLY for p in parameters))


def _rule(f: Any, library: str, forward: Any, backward: Any, n_inputs: int, computes: str, declared: Any) -> Rule:
    name = f"{library}_{getattr(f, '__name__', 'function').strip('<>')}"
    kind = inspect.Parameter.POSITIONAL_ONLY
    letters = "xyzw"[:n_inputs] if n_inputs <= 4 else [f"x{i}" for i in range(n_inputs)]
    forward.__signature__ = inspect.Signature([inspect.Parameter(letter, kind) for letter in letters])
    rule = Rule(name, name, forward, backward, n_inputs, **declared)
    rule.library = computes  # type: ignore[attr-defined]  # prove_rule states it
    return rule


def _on_any_number(jax: Any, function: Callable[..., Any], n: int) -> Callable[..., tuple[Any, ...]]:
    """A JAX function of n numbers, which returns a tuple: by JAX on floats and arrays, else by its jaxpr."""

    def float64() -> Any:
        return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()

    with float64():
        jaxpr, compiled = jax.make_jaxpr(function)(*[np.float64(1.0)] * n), jax.jit(function)

    def run(*numbers: Any) -> tuple[Any, ...]:
        with float64():
            if any(isinstance(x, np.ndarray) for x in numbers):
                arrays = (np.asarray(a, np.float64) for a in np.broadcast_arrays(*numbers))
                return tuple(map(np.asarray, jax.vmap(function)(*arrays)))
            if all(isinstance(x, int | float) for x in numbers):
                return tuple(map(float, compiled(*map(np.float64, numbers))))
        return tuple(_interpret(jaxpr, numbers))

    return run


# --- jaxprs on any kind of number -----------------------------------------------------------------------------


def _interpret(closed: Any, inputs: Any) -> list[Any]:
    """The results of a jaxpr of numbers, computed with operators and `elementary`."""
    jaxpr, constants = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, map(_constant, constants), strict=True))
    known.update(zip(jaxpr.invars, inputs, strict=True))

    def read(atom: Any) -> Any:
        return _constant(atom.val) if hasattr(atom, "val") else known[atom]

    for equation in jaxpr.eqns:
        arguments = [read(atom) for atom in equation.invars]
        inner = next(
            (equation.params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in equation.params), None
        )
        if inner is not None:
            results = _interpret(inner, arguments)
        else:
            with np.errstate(all="ignore"):
                results = _results(equation.primitive, equation.params, arguments)
        known.update(zip(equation.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _results(primitive: Any, params: Any, arguments: list[Any]) -> list[Any]:
    """What a primitive makes of numbers, and of arrays of them, whose dtype is object."""
    name, arrays = primitive.name, any(isinstance(x, np.ndarray) for x in arguments)
    if name in _PRIMITIVES:
        exponent = [params["y"]] if name == "integer_pow" else []
        function, inputs = _PRIMITIVES[name], [*arguments, *exponent]
        return [np.frompyfunc(function, len(inputs), 1)(*map(_boxed, inputs)) if arrays else function(*inputs)]
    if name in _FOLDS:
        folded = arguments[0]
        for axis in sorted(params["axes"], reverse=True):
            folded = np.frompyfunc(_FOLDS[name], 2, 1).reduce(folded, axis=axis)
        return [folded]
    if name == "dot_general" and not any(params["dimension_numbers"][1]):
        a, b = arguments
        return [np.tensordot(a, b, axes=params["dimension_numbers"][0])]
    if name not in _MOVES:
        raise NotImplementedError(f"The JAX primitive {name!r} is not known here.")
    if not arrays and name not in ("stack", "broadcast_in_dim", "reshape"):
        return [arguments[0]]
    inputs = list(map(_boxed, arguments))
    numbers = [x for array in inputs for x in array.flat]
    places = np.split(np.arange(len(numbers), dtype=np.int32), np.cumsum([x.size for x in inputs])[:-1])
    # JAX moves the places, as it knows no such numbers
    moved = primitive.bind(*(p.reshape(x.shape) for p, x in zip(places, inputs, strict=True)), **params)
    return [_taken(numbers, np.asarray(m)) for m in (moved if primitive.multiple_results else [moved])]


def _boxed(x: Any) -> Any:
    """An array as it is, a number as an array without axes, so that NumPy does not look inside it."""
    if isinstance(x, np.ndarray):
        return x
    box = np.empty((), object)
    box[()] = x
    return box


def _taken(numbers: list[Any], places: Any) -> Any:
    """The numbers at these places, as an array of their shape; for a single place, its number."""
    out = np.empty(places.shape, object)
    for at, place in np.ndenumerate(places):
        out[at] = numbers[place]
    return out if out.shape else out[()]


def _constant(x: Any) -> Any:
    """A constant of a jaxpr as a plain number, or an array of them."""
    x = np.asarray(x)
    return x.astype(object) if x.shape else x.item()


def _maximum(x: Any, y: Any) -> Any:
    """The larger one. -inf, with which JAX starts, is no real number."""
    for a, b in ((x, y), (y, x)):
        if isinstance(a, float) and a == -math.inf:
            return b
    return e.maximum(x, y)


def _power(x: Any, y: int) -> Any:
    """x^y by products, as XLA has it."""
    power = functools.reduce(lambda a, b: a * b, [x] * abs(y)) if y else 1
    return power if y >= 0 else e.div(1, power)


def _minimum(x: Any, y: Any) -> Any:
    return -e.maximum(-x, -y)


def _same(x: Any, *_: Any) -> Any:
    return x


_PRIMITIVES: dict[str, Callable[..., Any]] = {
    **{name: getattr(e, name) for name in "exp exp2 expm1 log log1p sin cos tan asin acos atan".split()},
    **{name: getattr(e, name) for name in "sinh cosh tanh asinh acosh atanh sqrt erf erfc sign div pow".split()},
    **dict.fromkeys("convert_element_type stop_gradient copy copy_p".split(), _same),
    **dict.fromkeys("reduce_precision optimization_barrier real".split(), _same),
    **{name: getattr(operator, name) for name in "add sub mul neg abs gt ge lt le".split()},
    "add_any": operator.add,
    "square": lambda x: x * x,
    "integer_pow": _power,
    "rsqrt": lambda x: e.div(1, e.sqrt(x)),
    "logistic": e.sigmoid,
    "max": _maximum,
    "min": _minimum,
    "clamp": lambda low, x, high: _minimum(e.maximum(x, low), high),
    "eq": e.equal,
    "ne": lambda x, y: 1 - e.equal(x, y),
    "and": lambda x, y: x and y,
    "or": lambda x, y: x or y,
    "not": lambda x: not x,
    "is_finite": lambda x: math.isfinite(x) if isinstance(x, int | float) else True,
    "select_n": lambda which, x, y: e.where(which, y, x),
    "zeros_like": lambda x: 0 * x,
}

_FOLDS: dict[str, Callable[..., Any]] = {
    "reduce_sum": operator.add,
    "reduce_max": e.maximum,
    "reduce_min": _minimum,
}
_MOVES = set("broadcast_in_dim reshape squeeze expand_dims transpose".split())
_MOVES |= set("concatenate stack unstack slice pad rev".split())
