"""Symbols: expressions that stand for numbers or arrays. Rules run on them, forward and backward.

A Book keeps every expression once, so `tanh(x)` in a backward pass is the result that the forward pass has stored.
It also simplifies: 1 * x is x, x + 0 is x.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from ...engine.operators import Operators
from ...engine.rules import RULES, Rule

PLAIN = (int, float, str, tuple)  # arguments that are compared by their repr, which tells 1 from 1.0
NONE = frozenset[Any]()
COMMUTATIVE = ("add", "mul", "max", "equal")


class Symbol(Operators):
    """One expression: an operation `op` of `args`, which are Symbols, numbers, or whatever the operation needs.

    axes: those along which it differs; none for a number.
    """

    __slots__ = ("args", "axes", "book", "op")

    def __init__(self, book: "Book", op: str, args: tuple[Any, ...], axes: frozenset[Any]):
        self.book: Book = book
        self.op: str = op
        self.args: tuple[Any, ...] = args
        self.axes: frozenset[Any] = axes

    def _apply(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        """The functions of `elementary` and the operators call this."""
        if name == "plain":
            return inputs[0]
        return self.book.make("pow" if name == "pow_n" else name, *inputs, *parameters.values())

    _operate = _apply

    def __eq__(self, other: Any) -> Any:
        return self.book.make("equal", self, other)

    __hash__: Callable[..., int] = object.__hash__

    def __bool__(self) -> bool:
        raise TypeError("A rule asked for the truth of a symbol: select by elementary.where.")

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(map(repr, self.args))})"


class Book:
    """All expressions of one program, each once. `simpler` adds to the simplifications below."""

    def __init__(self, simpler: Mapping[str, Callable[..., Any]] = MappingProxyType({})) -> None:
        self._known: dict[tuple[Any, ...], Symbol] = {}
        self._simpler = {**_SIMPLER, **simpler}

    def __iter__(self) -> Iterator[Symbol]:
        """The expressions, in the order in which they were made: each after its arguments."""
        return iter(self._known.values())

    def leaf(self, name: str, axes: frozenset[Any] = NONE) -> Symbol:
        """A variable."""
        return self._once("leaf", (name,), axes)

    def make(self, op: str, *args: Any) -> Any:
        """op(*args), elementwise, in its simplest form: a Symbol or a number. One of args is a Symbol."""
        args = tuple([x if x.__class__ in (Symbol, float, int) else _simple(x) for x in args])
        simple = self._simpler[op](self, *args) if op in self._simpler else None
        if simple is not None:
            return simple
        return self._once(op, args)

    def known(self, op: str, *args: Any) -> Any:
        """op(*args) if it has been made, else None."""
        return self._known.get(self._key(op, args))

    def _key(self, op: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [repr(x) if x.__class__ is not Symbol and isinstance(x, PLAIN) else id(x) for x in args]
        return (op, *(sorted(names, key=hash) if op in COMMUTATIVE else names))

    def _once(self, op: str, args: tuple[Any, ...], axes: frozenset[Any] | None = None) -> Symbol:
        """The expression, with the axes of its arguments if it has no others."""
        key = self._key(op, args)
        symbol = self._known.get(key)
        if symbol is None:
            axes = NONE.union(*[x.axes for x in args if x.__class__ is Symbol]) if axes is None else axes
            symbol = self._known[key] = Symbol(self, op, args, axes)
        return symbol

    def special(self, op: str, args: Iterable[Any], axes: Iterable[Any] | None = NONE) -> Symbol:
        """An operation that is not elementwise, with its axes; None for those of its arguments."""
        return self._once(op, tuple(args), None if axes is None else frozenset(axes))


def uses_of(results: Iterable[Any]) -> dict[Symbol, int]:
    """How often each symbol is read: as one of these results, or by what they are made of."""
    uses: dict[Symbol, int] = {}
    stack = [*results]
    while stack:
        x = stack.pop()
        if isinstance(x, Symbol):
            uses[x] = uses.get(x, 0) + 1
            stack += x.args if uses[x] == 1 else ()
    return uses


def _simple(x: Any) -> Any:
    """A Fraction, a number of NumPy or an array of one number, as a number of Python."""
    if x.__class__ is Fraction:
        return float(x)
    return x.item() if getattr(x, "shape", None) == () else x


def _is(x: Any, number: float) -> bool:
    return not isinstance(x, Symbol) and bool(x == number)


def _has(x: Any, op: str) -> bool:
    return isinstance(x, Symbol) and x.op == op


# --- Rules ----------------------------------------------------------------------------------------------------


def is_number(x: Any) -> bool:
    return isinstance(x, int | float)


def forward_of(rule: Rule, *inputs: Any) -> Any:
    """The rule's own forward: a Symbol or a number. None if it does not run on symbols, as one with math.exp."""
    try:
        out = rule.forward(*inputs)
    except Exception:  # rules take any kind of number, and may ask it anything
        return None
    return out if isinstance(out, Symbol) or is_number(out) else None


def shares_of(rule: Rule, upstream: Any, out: Any, *inputs: Any) -> Sequence[Any] | None:
    """The rule's own backward: Symbols and numbers. None if it does not run on symbols."""
    try:
        shares: Sequence[Any] = rule.shares(upstream, out, *inputs)
    except Exception:  # as above
        return None
    return shares if all(isinstance(share, Symbol) or is_number(share) for share in shares) else None


def rule_of_names(rule: Rule, names: Sequence[str], book: "Book", refusal: str) -> tuple[Any, list[Any]]:
    """Forward and shares over leaves of these names, `upstream` and `out`. Raises TypeError with this refusal."""
    inputs = [book.leaf(name) for name in names]
    try:
        forward = SUMS[rule](book, *inputs) if rule in SUMS else rule.forward(*inputs)
        return forward, list(rule.shares(book.leaf("upstream"), book.leaf("out"), *inputs))
    except Exception as error:
        raise TypeError(
            f"The rule {rule.name} {refusal} ({error}). Write its forward and backward with operators and "
            "functions of tinygrad_edu.elementary: sin instead of math.sin, where instead of a branch."
        ) from error


# --- Simplifications -------------------------------------------------------------------------------------------
# Each returns the simpler form, or None. A bool among the arguments is a comparison of two numbers.


def _add(book: Book, x: Any, y: Any) -> Any:
    if _is(x, 0):
        return y
    if _is(y, 0):
        return x
    if _has(y, "neg"):
        return x - y.args[0]
    return y - x.args[0] if _has(x, "neg") else None


def _sub(book: Book, x: Any, y: Any) -> Any:
    if _is(y, 0):
        return x
    if _is(x, 0):
        return -y
    return x + y.args[0] if _has(y, "neg") else None


def _mul(book: Book, x: Any, y: Any) -> Any:
    for a, b in ((x, y), (y, x)):
        if isinstance(a, Symbol):
            if a.op == "neg":
                return -(a.args[0] * b)
        elif a is False:
            return False
        elif a == 1 and (isinstance(b, Symbol) or a is True):
            return b
        elif a == -1 and isinstance(b, Symbol):
            return -b
    return None


def _div(book: Book, x: Any, y: Any) -> Any:
    if _is(y, 1):
        return x
    return -(x.args[0] / y) if _has(x, "neg") else None


def _neg(book: Book, x: Any) -> Any:
    if _has(x, "neg"):
        return x.args[0]
    return x.args[1] - x.args[0] if _has(x, "sub") else None


def simpler_pow(book: Book, x: Any, y: Any) -> Any:
    if not isinstance(x, Symbol) or isinstance(y, Symbol):
        return None
    if y == 1:
        return x
    return 1 / x if y == -1 else None


def _where(book: Book, condition: Any, x: Any, y: Any) -> Any:
    if not isinstance(condition, Symbol):
        return x if condition else y
    if x is y:
        return x
    if condition.op == "le" and _is(condition.args[1], 0) and _is(x, 0) and condition.args[0] is y:
        return book.make("max", y, 0.0)  # relu, nan included
    return None


def _fsum(book: Book, *terms: Any) -> Any:
    """The sum of floats, correctly rounded as elementary.total is. For two floats, + is."""
    return functools.reduce(operator.add, terms) if len(terms) <= 2 else book.special("fsum", terms)


def _dot(book: Book, *inputs: Any) -> Any:
    n = len(inputs) // 2
    return _fsum(book, *map(operator.mul, inputs[:n], inputs[n:]))


SUMS: dict[Rule, Callable[..., Any]] = {RULES["sum"]: _fsum, RULES["dot"]: _dot}  # their forward on single floats
_SIMPLER: dict[str, Callable[..., Any]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "pow": simpler_pow,
    "where": _where,
}
