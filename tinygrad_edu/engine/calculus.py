"""Derivatives of whole programs, all read off the same rules.

`gradients` is the sweep of `Value.backward` as a function: it returns its results and touches no `.grad`. With
create_graph=True the sweep runs on Values, so the derivatives are graphs themselves and can be derived again.

`grad`, `jacobian`, `hessian`, `vjp` and `jvp` take an ordinary function of numbers. Its arguments may be numbers,
Values, or sequences of them (nested ones too), and the result has the shape of the arguments: for one argument its
gradient, for several a tuple. Given Values they return Values that can be derived further; given numbers,
numbers - except inside another derivative, where a result that depends on the outer variable stays a Value.
"""

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from functools import reduce
from typing import Any

from .graph import topological_order
from .scalar import as_real
from .value import Value


def gradients(root: Value, wrt: Value | Iterable[Value], create_graph: bool = False) -> Any:
    """The derivatives of root with respect to each Value of `wrt`, leaves or interior, as a list of numbers.

    A Value that root does not depend on gets 0.0. For a single Value, a single number. With create_graph=True the
    derivatives are Values. No `.grad` is read or written. Raises TypeError if something else than Values is given.

    >>> x = Value(3.0)
    >>> (slope,) = gradients(x**3, [x], create_graph=True)
    >>> slope.data, gradients(slope, x)
    (27.0, 18.0)
    """
    if isinstance(wrt, Value):
        return gradients(root, [wrt], create_graph)[0]
    wrt = list(wrt)
    for value in (root, *wrt):
        if not isinstance(value, Value):
            raise TypeError(f"gradients(root, wrt) takes Values, got {value!r} ({type(value).__name__}).")
    order = topological_order(root)
    needed = set(wrt)  # and all that depends on it
    for node in order:
        if not needed.isdisjoint(node.parents):
            needed.add(node)
    kind = type(root.data)

    def number(x: Any) -> Any:
        return Value(kind(x)) if create_graph else kind(x)

    adjoints: dict[Value, Any] = {root: number(1)}
    for node in reversed(order):
        if node.rule and node in needed and node in adjoints:
            out, inputs = (node, node.parents) if create_graph else (node.data, [p.data for p in node.parents])
            shares = node.rule.shares(adjoints[node], out, *inputs)
            for parent, share in zip(node.parents, shares, strict=True):
                if parent in needed:
                    share = share if isinstance(share, Value) else number(share)
                    adjoints[parent] = adjoints[parent] + share if parent in adjoints else share
    return [adjoints[value] if value in adjoints else number(0) for value in wrt]


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

# The variables of the derivatives being taken at this moment. A result that depends on one of them must stay a
# Value, even where an inner derivative was asked for at a plain number.
_variables: ContextVar[frozenset[Value]] = ContextVar("_variables", default=frozenset())


def _flat(numbers: Any) -> list[Any]:
    """The numbers of one argument in a row."""
    if isinstance(numbers, list | tuple) or getattr(numbers, "ndim", 0) > 0:
        return [x for part in numbers for x in _flat(part)]
    return [numbers]


def _shaped(like: Any, supply: Iterator[Any]) -> Any:
    """The next numbers of the supply in the nesting of `like`; arrays become lists."""
    if isinstance(like, tuple):
        return tuple(_shaped(part, supply) for part in like)
    if isinstance(like, list) or getattr(like, "ndim", 0) > 0:
        return [_shaped(part, supply) for part in like]
    return next(supply)


def _arguments(results: tuple[Any, ...]) -> Any:
    """One result per argument; of a single argument, its result alone."""
    return results[0] if len(results) == 1 else results


def _beside(value: Value, number: Any) -> Any:
    """A weight or tangent in the arithmetic of the value it belongs to: 1 and 1.0 beside a Fraction stay exact."""
    return number if isinstance(number, Value) else type(value.data)(as_real(number))


class _Call:
    """f, called once on fresh Values: the variables, and what came out."""

    def __init__(self, f: Callable[..., Any], args: tuple[Any, ...]):
        if not args:
            raise TypeError("A derivative needs at least one argument to be taken by.")
        given, outer = _flat(args), _variables.get()
        # Where a Value is given, f gets a copy: it may also close over the Value itself, which then is a constant.
        self.args, self.variables = args, [x * 1 if isinstance(x, Value) else Value(x) for x in given]
        token = _variables.set(outer.union(self.variables))
        try:
            self.result = f(*_shaped(args, iter(self.variables)))
        finally:
            _variables.reset(token)
        self.outputs = [x if isinstance(x, Value) else Value(x) for x in _flat(self.result)]
        self.graph = any(isinstance(x, Value) for x in given) or self._depends_on(outer)

    def _depends_on(self, outer: frozenset[Value]) -> bool:
        return bool(outer) and any(not outer.isdisjoint(topological_order(out)) for out in self.outputs)

    def output(self) -> Value:
        if isinstance(self.result, list | tuple):
            raise TypeError(
                f"f must return one number here, got {len(self.outputs)}: use jacobian(f) or vjp(f, ...)."
            )
        return self.outputs[0]

    def plain(self, value: Value) -> Any:
        return value if self.graph else value.data

    def value(self) -> Any:
        return _shaped(self.result, map(self.plain, self.outputs))

    def gradients(self, output: Value, graph: bool = False) -> tuple[Any, ...]:
        slopes = gradients(output, self.variables, create_graph=graph or self.graph)
        shaped: tuple[Any, ...] = _shaped(self.args, iter(slopes))
        return shaped


def grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """The gradient of f as a function of the same arguments; f returns one number.

    >>> grad(lambda x: x**3)(2.0), grad(grad(lambda x: x**3))(2.0)
    (12.0, 12.0)
    >>> grad(lambda x, w: x * w[0] + w[1])(2.0, [3.0, 4.0])
    (3.0, [2.0, 1.0])
    """

    def derivative(*args: Any) -> Any:
        call = _Call(f, args)
        return _arguments(call.gradients(call.output()))

    return derivative


def value_and_grad(f: Callable[..., Any]) -> Callable[..., tuple[Any, Any]]:
    """f's value and its gradient, from one evaluation.

    >>> value_and_grad(lambda x: x**3)(2.0)
    (8.0, 12.0)
    """

    def value_and_derivative(*args: Any) -> tuple[Any, Any]:
        call = _Call(f, args)
        return call.value(), _arguments(call.gradients(call.output()))

    return value_and_derivative


def jacobian(f: Callable[..., Any]) -> Callable[..., Any]:
    """All first derivatives of f, which may return a sequence: one gradient per output, in the output's shape.

    >>> jacobian(lambda p: [p[0] * p[1], p[0] + p[1]])([2.0, 3.0])
    [[3.0, 2.0], [1.0, 1.0]]
    """

    def derivative(*args: Any) -> Any:
        call = _Call(f, args)
        return _shaped(call.result, (_arguments(call.gradients(out)) for out in call.outputs))

    return derivative


def hessian(f: Callable[..., Any]) -> Callable[..., Any]:
    """All second derivatives of f, the jacobian of its gradient: n x n for n numbers.

    >>> hessian(lambda p: p[0] ** 2 * p[1])([2.0, 3.0])
    [[6.0, 4.0], [4.0, 0.0]]
    """
    return jacobian(grad(f))


def vjp(f: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """f(*primals) and its pullback, in reverse mode: upstream, shaped like the value, to one gradient per primal.

    >>> value, pullback = vjp(lambda x, y: [x * y, x + y], 2.0, 3.0)
    >>> value, pullback([1.0, 10.0])
    ([6.0, 5.0], (13.0, 12.0))
    """
    call = _Call(f, primals)

    def pullback(upstream: Any) -> tuple[Any, ...]:
        weights = _flat(upstream)
        if len(weights) != len(call.outputs):
            raise ValueError(f"upstream needs one number per output: {len(call.outputs)}, got {len(weights)}.")
        pairs = zip(call.outputs, weights, strict=True)
        root = reduce(operator.add, (out * _beside(out, weight) for out, weight in pairs))
        return call.gradients(root, graph=any(isinstance(weight, Value) for weight in weights))

    return call.value(), pullback


def jvp(f: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """f(*primals) and its derivative along the tangents, in forward mode: one walk up, with the same rules.

    primals is the tuple of arguments, tangents has the same shape. Raises ValueError if it has not.

    >>> jvp(lambda x, y: x * y, (2.0, 3.0), (1.0, 10.0))
    (6.0, 23.0)
    """
    if not isinstance(primals, list | tuple) or not isinstance(tangents, list | tuple):
        raise TypeError("jvp takes the tuples of all arguments and all tangents: jvp(f, (2.0,), (1.0,)).")
    call, along = _Call(f, tuple(primals)), _flat(tuple(tangents))
    if len(along) != len(call.variables):
        raise ValueError(f"jvp needs one tangent per number: {len(call.variables)}, got {len(along)}.")
    graph = call.graph or any(isinstance(tangent, Value) for tangent in along)
    moved = {x: _beside(x, tangent) for x, tangent in zip(call.variables, along, strict=True)}
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
