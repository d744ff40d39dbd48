"""Derivatives of whole programs, all by the same rules.

`gradients` is the backward pass as a function: it returns its results and touches no `.grad`. With
create_graph=True it runs on Values, so the derivatives are graphs themselves and can be differentiated again.

`grad`, `value_and_grad`, `jacobian`, `hessian` and `hvp` turn a function of numbers into its derivative. Its
arguments may be numbers, Values, or nested lists, tuples, dicts and NumPy arrays of them: f gets such a nest of
Values, and a derivative is such a nest too. Arrays of PyTorch or JAX stand for NumPy arrays.
`argnums` says which positional argument is differentiated: the first by default; a tuple gives a tuple. All other
arguments, keyword arguments included, are passed on. With has_aux=True the function returns (result, aux), and aux
is returned beside the derivative. `vjp` and `jvp` are the two modes by themselves.

Given Values they return Values that can be differentiated further. Given numbers they return numbers, except
inside another derivative, where a result that depends on the outer variable stays a Value.
"""

import functools
import operator
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import reduce
from typing import Any, Literal, Protocol, TypeVar, overload

from .dispatch import as_array, is_array, is_row
from .graph import topological_order
from .scalar import as_real
from .value import Value


def gradients(root: Value, wrt: Value | Iterable[Value], create_graph: bool = False) -> Any:
    """The derivatives of root with respect to each Value of `wrt`, leaves or interior, as a list of numbers.

    The derivative is 0.0 for a Value that root does not depend on. A single Value gives a single number. With
    create_graph=True the derivatives are Values. No `.grad` is read or written. wrt may be a model, for its
    parameters. Raises TypeError unless root and wrt are Values.

    >>> x = Value(3.0)
    >>> (slope,) = gradients(x**3, [x], create_graph=True)
    >>> slope.data, gradients(slope, x)
    (27.0, 18.0)
    """
    if isinstance(wrt, Value):
        return gradients(root, [wrt], create_graph)[0]
    values_of([root], sentence := "gradients(root, wrt) takes Values")
    wrt = values_of(wrt, sentence)
    interior = [(node, node.parents) for node in topological_order(root) if node.rule]
    needed = set(wrt)  # and all that depends on it
    for node, parents in interior:
        if not needed.isdisjoint(parents):
            needed.add(node)
    kind = type(root.data)
    wanted = Value if create_graph else kind

    def number(x: Any) -> Any:
        return Value(kind(x)) if create_graph else kind(x)

    adjoints: dict[Value, Any] = {root: number(1)}
    for node, parents in reversed(interior):
        if node in needed and node in adjoints:
            out, inputs = (node, parents) if create_graph else (node.data, [p.data for p in parents])
            for parent, share in zip(parents, node.rule.shares(adjoints[node], out, *inputs), strict=True):
                if parent in needed:
                    if share.__class__ is not wanted and not isinstance(share, Value):
                        share = number(share)
                    adjoints[parent] = adjoints[parent] + share if parent in adjoints else share
    return [adjoints[value] if value in adjoints else number(0) for value in wrt]


def values_of(wanted: Any, sentence: str) -> list[Value]:
    """The Values of a list, or the parameters of a model. Raises TypeError, which begins with the sentence."""
    wanted = wanted.parameters() if callable(getattr(wanted, "parameters", None)) else wanted
    values = list(wanted) if is_row(wanted) else [wanted]
    for value in values:
        if not isinstance(value, Value):
            raise TypeError(f"{sentence}, got {reprlib.repr(value)} ({type(value).__name__}).")
    return values


def absolute_adjoint(root: Value) -> dict[Value, float]:
    """For every node below root, one more backward sweep with abs(slope) and seed 1.

    It bounds what rounding can do: however much the shares of a gradient cancel, its error is a few times 1e-16 of
    this. Compare gradients relative to it.

    >>> x = Value(3.0)
    >>> absolute_adjoint(x * 5 - x * 4)[x]
    9.0
    """
    adjoints = dict.fromkeys(topological_order(root), 0.0)
    adjoints[root] = 1.0
    for node in reversed(adjoints):
        if node.rule:
            slopes = node.rule.backward(1.0, node.data, *[p.data for p in node.parents])
            for parent, slope in zip(node.parents, slopes, strict=True):
                adjoints[parent] += adjoints[node] * abs(float(slope))
    return adjoints


# --- Functions of numbers -----------------------------------------------------------------------------------

# The variables of the derivatives that are being computed. A result that depends on one of them must stay a Value,
# even if an inner derivative was asked for at a plain number.
_variables: ContextVar[frozenset[Value]] = ContextVar("_variables", default=frozenset())


def _mapped(change: Callable[[Any], Any], nest: Any, arrays: bool = True) -> Any:
    """The nest with each number x in it replaced by change(x), in order; a dict has its keys in order, as text.

    An array of nests is a nest of NumPy arrays. With arrays=False they are left alone.
    """
    if isinstance(nest, list | tuple):
        parts = [_mapped(change, part, arrays) for part in nest]
        return parts if isinstance(nest, list) else getattr(nest, "_make", tuple)(parts)
    if isinstance(nest, dict):
        things = {key: _mapped(change, nest[key], arrays) for key in sorted(nest, key=repr)}
        return {key: things[key] for key in nest}
    if not arrays or getattr(nest, "ndim", 0) == 0 or hasattr(nest, "to_numpy"):
        return change(nest)
    array = nest if is_array(nest) else as_array(nest)
    return _stacked(list(map(change, array.reshape(-1).tolist())), array)


def _flat(nest: Any) -> list[Any]:
    """The numbers of a nest in a row."""
    numbers: list[Any] = []
    _mapped(numbers.append, nest)
    return numbers


def _shaped(like: Any, supply: Iterator[Any]) -> Any:
    """The next things of the supply in the nesting of `like`."""
    return _mapped(lambda _: next(supply), like)


def _stacked(things: list[Any], like: Any) -> Any:
    """The things in an array of the shape of `like`; of dicts, a dict of such arrays."""
    if things and isinstance(things[0], dict):
        return {key: _stacked([thing[key] for thing in things], like) for key in things[0]}
    if things and isinstance(things[0], list | tuple):
        return type(things[0])(_stacked(list(parts), like) for parts in zip(*things, strict=True))
    array = sys.modules["numpy"].array(things)
    array = array.reshape(like.shape + array.shape[1:])
    return array.astype(like.dtype) if array.dtype == float and like.dtype.kind == "f" else array


def _beside(value: Value, number: Any) -> Any:
    """A weight or tangent in the arithmetic of the value it belongs to: 1 and 1.0 beside a Fraction stay exact."""
    return number if isinstance(number, Value) else type(value.data)(as_real(number))


class _Call:
    """f, called once with fresh Values for the arguments at `argnums`: the variables, and what came out."""

    def __init__(
        self, f: Callable[..., Any], args: tuple[Any, ...], argnums: Any, has_aux: bool, named: dict[str, Any]
    ):
        if not callable(f):
            raise TypeError(f"Derivatives are those of a function, got {f!r:.60}: pass f, and not f(x).")
        places, self.single = _places(argnums, len(args)), not isinstance(argnums, list | tuple)
        self.args = tuple(args[place] for place in places)
        numbers, outer = _flat(self.args), _variables.get()
        # Where an argument is a Value, f gets a copy: f may also read the Value itself, which then is a constant.
        self.variables = [x * 1 if isinstance(x, Value) else Value(x) for x in numbers]
        inside = dict(zip(places, _shaped(self.args, iter(self.variables)), strict=True))
        token = _variables.set(outer.union(self.variables))
        try:
            result = f(*(inside.get(place, arg) for place, arg in enumerate(args)), **named)
        finally:
            _variables.reset(token)
        if has_aux and not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"With has_aux=True, f must return (result, aux), got {result!r:.100}.")
        self.result, aux = result if has_aux else (result, None)
        self.outputs = [x if isinstance(x, Value) else Value(x) for x in _flat(self.result)]
        below = (node for out in self.outputs if outer for node in topological_order(out))
        self.graph = any(isinstance(x, Value) for x in numbers) or not outer.isdisjoint(below)
        self.has_aux = has_aux
        self.aux = _mapped(lambda x: self.plain(x) if isinstance(x, Value) else x, aux, arrays=False)

    def output(self) -> Value:
        if isinstance(self.result, list | tuple | dict) or getattr(self.result, "ndim", 0) > 0:
            raise TypeError(f"f must return one number, got {len(self.outputs)}: use jacobian(f) or vjp(f, ...).")
        return self.outputs[0]

    def plain(self, value: Value) -> Any:
        return value if self.graph else value.data

    def value(self) -> Any:
        return _shaped(self.result, map(self.plain, self.outputs))

    def gradients(self, output: Value, graph: bool = False) -> Any:
        """One gradient per differentiated argument; for an argnums that is no tuple, that gradient itself."""
        slopes = gradients(output, self.variables, create_graph=graph or self.graph)
        shaped = _shaped(self.args, iter(slopes))
        return shaped[0] if self.single else shaped

    def beside_aux(self, result: Any) -> Any:
        return (result, self.aux) if self.has_aux else result


def _derivative(
    f: Callable[..., Any], argnums: Any, has_aux: bool, finish: Callable[[_Call], Any]
) -> Callable[..., Any]:
    """The function of f's arguments that calls f, and gives what `finish` makes of the call."""

    @functools.wraps(f, updated=())
    def derivative(*args: Any, **named: Any) -> Any:
        return finish(_Call(f, args, argnums, has_aux, named))

    return derivative


def _places(argnums: Any, n: int) -> list[int]:
    """argnums as indices from 0 on. Raises unless each is the place of one of n positional arguments."""
    if not n:
        raise TypeError("A derivative needs at least one positional argument.")
    argnums = argnums if isinstance(argnums, list | tuple) else [argnums]
    for argnum in argnums:
        if not isinstance(argnum, int) or isinstance(argnum, bool):
            raise TypeError(f"argnums is an int or a tuple of ints, got {argnum!r}.")
        if not -n <= argnum < n:
            raise ValueError(f"argnums has {argnum}, but {n} positional argument(s) were given.")
    places = [argnum % n for argnum in argnums]
    if len(set(places)) < len(places):
        raise ValueError(f"argnums names one argument twice, got {argnums!r}: name each once.")
    return places


T = TypeVar("T")


class Gradient(Protocol):
    """grad(f): the gradient has the type of the argument that is differentiated."""

    @overload
    def __call__(self, x: float, /, *args: Any, **named: Any) -> float: ...
    @overload
    def __call__(self, x: T, /, *args: Any, **named: Any) -> T: ...


class ValueAndGradient(Protocol):
    """value_and_grad(f): the value of f and its gradient."""

    @overload
    def __call__(self, x: float, /, *args: Any, **named: Any) -> tuple[float, float]: ...
    @overload
    def __call__(self, x: T, /, *args: Any, **named: Any) -> tuple[Any, T]: ...


@overload
def grad(f: Callable[..., Any], argnums: Literal[0] = 0, *, has_aux: Literal[False] = False) -> Gradient: ...
@overload
def grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]: ...
def grad(f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of f as a function of the same arguments; f returns one number.

    >>> grad(lambda x: x**3)(2.0), grad(grad(lambda x: x**3))(2.0)
    (12.0, 12.0)
    >>> def line(x, w): return x * w[0] + w[1]
    >>> grad(line)(2.0, [3.0, 4.0]), grad(line, 1)(2.0, [3.0, 4.0]), grad(line, (0, 1))(2.0, [3.0, 4.0])
    (3.0, [2.0, 1.0], (3.0, [2.0, 1.0]))

    With has_aux=True it returns (gradient, aux). Raises TypeError if f does not return one number, ValueError if
    argnums names an argument that was not given.
    """
    return _derivative(f, argnums, has_aux, lambda call: call.beside_aux(call.gradients(call.output())))


@overload
def value_and_grad(
    f: Callable[..., Any], argnums: Literal[0] = 0, *, has_aux: Literal[False] = False
) -> ValueAndGradient: ...
@overload
def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]: ...
def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., tuple[Any, Any]]:
    """f's value and its gradient, from one evaluation.

    >>> value_and_grad(lambda x: x**3)(2.0)
    (8.0, 12.0)

    With has_aux=True it returns ((value, aux), gradient). Raises what `grad` raises.
    """
    return _derivative(
        f, argnums, has_aux, lambda call: (call.beside_aux(call.value()), call.gradients(call.output()))
    )


def jacobian(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """All first derivatives of f, which may return a sequence: one gradient per output, in the output's shape.

    >>> jacobian(lambda p: [p[0] * p[1], p[0] + p[1]])([2.0, 3.0])
    [[3.0, 2.0], [1.0, 1.0]]

    With has_aux=True it returns (jacobian, aux). Raises ValueError if argnums names an argument that was not
    given, TypeError if f returns something else than numbers.
    """

    def finish(call: _Call) -> Any:
        return call.beside_aux(_shaped(call.result, map(call.gradients, call.outputs)))

    return _derivative(f, argnums, has_aux, finish)


def hessian(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., Any]:
    """All second derivatives of f, the jacobian of its gradient: n x n for n numbers.

    >>> hessian(lambda p: p[0] ** 2 * p[1])([2.0, 3.0])
    [[6.0, 4.0], [4.0, 0.0]]

    With has_aux=True it returns (hessian, aux). Raises what `grad` raises.
    """
    return jacobian(grad(f, argnums, has_aux=has_aux), argnums, has_aux=has_aux)


def hvp(f: Callable[..., Any], argnums: int | Sequence[int] = 0) -> Callable[..., Any]:
    """The Hessian of f times a vector, `hvp(f)(*args, v)`, at the cost of a few gradients: no Hessian is formed.

    v has the shape of the differentiated argument, and so has the product. It is the derivative of the gradient
    along v, forward mode over reverse mode. (Pearlmutter, Fast exact multiplication by the Hessian, 1994.)

    >>> hvp(lambda p: p[0] ** 2 * p[1])([2.0, 3.0], [1.0, 10.0])
    [46.0, 4.0]

    Raises TypeError if v is missing or f does not return one number, ValueError if v has another shape.
    """

    @functools.wraps(f, updated=())
    def product(*args: Any, **named: Any) -> Any:
        if len(args) < 2:
            raise TypeError("hvp(f) takes the arguments of f, and behind them the vector v.")
        *point, v = args
        places = _places(argnums, len(point))

        def gradient(*moved: Any) -> Any:
            inside = dict(zip(places, moved, strict=True))
            return grad(f, argnums)(*(inside.get(place, arg) for place, arg in enumerate(point)), **named)

        tangents = v if isinstance(argnums, list | tuple) else (v,)
        return jvp(gradient, [point[place] for place in places], tangents)[1]

    return product


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """f(*primals) and its pullback, in reverse mode: upstream, shaped like the value, to one gradient per primal.

    >>> value, pullback = vjp(lambda x, y: [x * y, x + y], 2.0, 3.0)
    >>> value, pullback([1.0, 10.0])
    ([6.0, 5.0], (13.0, 12.0))

    Raises TypeError without primals. The pullback raises ValueError if upstream has another length than the value.
    """
    call = _Call(f, primals, tuple(range(len(primals))), False, {})

    def pullback(upstream: Any) -> tuple[Any, ...]:
        weights = _flat(upstream)
        if len(weights) != len(call.outputs):
            raise ValueError(f"upstream needs one number per output: {len(call.outputs)}, got {len(weights)}.")
        pairs = zip(call.outputs, weights, strict=True)
        root = reduce(operator.add, (out * _beside(out, weight) for out, weight in pairs))
        shares: tuple[Any, ...] = call.gradients(root, graph=any(isinstance(weight, Value) for weight in weights))
        return shares

    return call.value(), pullback


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(*primals) and its derivative along the tangents, in forward mode: one pass from the inputs to the results.

    primals is the tuple of arguments; tangents has the same shape.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 10.0))
    (6.0, 23.0)

    Where a slope is infinite: an input whose tangent is 0 does not move, so it contributes 0 whatever the slope. A
    product inf * 0 further inside is nan, as it is in reverse mode: the derivative of (x*x)**0.5 at 0 cannot be
    told from the two slopes.

    >>> jvp(lambda x, y: x**0.5 + y, (0.0, 1.0), (0.0, 1.0)), jvp(lambda x: (x * x)**0.5, (0.0,), (1.0,))
    ((1.0, 1.0), (0.0, nan))

    Raises TypeError unless primals and tangents are tuples or lists, ValueError if their shapes differ.
    """
    if not isinstance(primals, list | tuple) or not isinstance(tangents, list | tuple):
        raise TypeError("jvp takes the tuples of all arguments and all tangents: jvp(f, (2.0,), (1.0,)).")
    call, along = _Call(f, tuple(primals), tuple(range(len(primals))), False, {}), _flat(tuple(tangents))
    if len(along) != len(call.variables):
        raise ValueError(f"jvp needs one tangent per number: {len(call.variables)}, got {len(along)}.")
    graph = call.graph or any(isinstance(tangent, Value) for tangent in along)
    pairs = zip(call.variables, along, strict=True)
    moved = {x: _beside(x, tangent) for x, tangent in pairs if isinstance(tangent, Value) or tangent != 0}
    slopes = []
    for out in call.outputs:
        for node in topological_order(out):
            if node not in moved and node.rule and any(parent in moved for parent in node.parents):
                result, inputs = (node, node.parents) if graph else (node.data, [p.data for p in node.parents])
                shares = zip(node.parents, node.rule.shares(type(node.data)(1), result, *inputs), strict=True)
                moved[node] = reduce(operator.add, (s * moved[p] for p, s in shares if p in moved))
        slopes.append(moved[out] if out in moved else type(out.data)(0))
    return call.value(), _shaped(
        call.result, (Value(s) if graph and not isinstance(s, Value) else s for s in slopes)
    )
