"""Tricks: what the tracer must know, and only the interpreter can tell.

max, min and the functions of `math` would take a number that is followed for a plain one, or fail: others stand
in their place while a function is traced (`FOLLOWED`). What a function reads besides its arguments is told by the
names in its bytecode alone (`names_in`). Python takes one side of a branch: for both, the function runs from other
bytecode (`codes_in`, `with_constants`).
"""

import builtins
import functools
import math
import numbers
import operator
from collections.abc import Callable, Iterator, Mapping
from types import CodeType
from typing import Any

from ...engine.rules import RULES
from ...engine.value import Value
from ...engine.watch import watch
from .placeholder import Placeholder
from .tracked import Tracked, chosen

SORTED = 32  # numbers that sorted() follows: of more, the order is a part of the path
_plainly_sorted = sorted


_MATH = "exp expm1 log1p sqrt sin cos tan asin acos atan sinh cosh tanh erf log2 log10 asinh acosh atanh".split()
_MADE: dict[str, Callable[..., Any]] = {  # of other operations
    "fsum": sum,
    "prod": lambda xs: functools.reduce(operator.mul, xs, 1.0),
    "hypot": lambda *xs: sum(x * x for x in xs) ** 0.5,
    "isnan": lambda x: x != x,
    "isinf": lambda x: abs(x) == math.inf,
    "isfinite": lambda x: abs(x) < math.inf,
}


def _of_math(name: str) -> Callable[..., Any]:
    original = getattr(math, name)

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        if watch.tracer is None or not args or options:
            return original(*args, **options)
        args = (list(args[0]),) if name in ("fsum", "prod") else args
        if not any(isinstance(x, Tracked) for x in (args[0] if name in ("fsum", "prod") else args)):
            return original(*args)
        if name in _MADE:
            return _MADE[name](*args)
        if name == "log" and len(args) == 2:
            return function(args[0]) / math.log(args[1])
        x, *exponent = [x if isinstance(x, Tracked) else Tracked(x) for x in args]
        if exponent:
            return x ** exponent[0]
        return abs(x) if name == "fabs" else x._operate(name, x)

    return function


def _followed(name: str, beats: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    original = getattr(builtins, name)

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        if watch.tracer is None or not hasattr(watch.tracer, "both"):
            return original(*args, **options)
        items = list(args[0]) if len(args) == 1 else list(args)
        keys = list(map(options["key"], items)) if options.get("key") else items
        if not any(isinstance(x, Tracked | Placeholder) for x in keys):
            return original(items, **options)
        if all(isinstance(x, Tracked | numbers.Real) for x in keys) and keys is items:
            return next(x for x in keys if isinstance(x, Tracked))._record(RULES[name], items)
        if not all(isinstance(x, Value | numbers.Real) for x in items):
            return items[original(range(len(items)), key=keys.__getitem__)]
        best: Any = (items[0], keys[0], 0)
        for i, (item, key) in enumerate(zip(items[1:], keys[1:], strict=True), 1):
            best = chosen(beats(key, best[1]), (item, key, i), best)
        watch.tracer.winners[best[0]] = items, best[2]
        return best[0]

    return function


def _sorted(items: Any, /, *, key: Any = None, reverse: Any = False) -> Any:
    items = list(items)
    if watch.tracer is None or not hasattr(watch.tracer, "both") or len(items) > SORTED:
        return _plainly_sorted(items, key=key, reverse=reverse)
    rows: list[Any] = [(x, key(x) if key else x) for x in items]
    if not any(isinstance(k, Tracked | Placeholder) for _, k in rows) or not all(
        isinstance(x, Value | numbers.Real) for row in rows for x in row
    ):
        return _plainly_sorted(items, key=key, reverse=reverse)
    for end in range(1, len(rows)):  # neighbours change places: equal ones never do
        for i in range(end, 0, -1):
            first, second = rows[i - 1 : i + 1]
            wins = second[1] > first[1] if reverse else second[1] < first[1]
            rows[i - 1 : i + 1] = chosen(wins, second, first), chosen(wins, first, second)
    return [x for x, _ in rows]


FOLLOWED: dict[tuple[Any, str], Any] = {
    **{(math, name): _of_math(name) for name in (*_MATH, "log", "pow", "fabs", *_MADE)},
    (builtins, "max"): _followed("max", operator.gt),
    (builtins, "min"): _followed("min", operator.lt),
    (builtins, "sorted"): _sorted,
}


# --- Bytecode -------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1024)
def names_in(code: CodeType) -> frozenset[str]:
    """The names in a code, and in that of the functions in it: of globals, attributes and modules."""
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return frozenset(code.co_names).union(*map(names_in, inner))


def codes_in(code: CodeType, without: str) -> Iterator[CodeType]:
    """The code of functions inside of a code, without those that have an argument of this name."""
    for part in code.co_consts:
        if isinstance(part, CodeType):
            of_function = part.co_name[0] != "<" or part.co_name == "<lambda>"  # no comprehension
            if of_function and without not in part.co_varnames[: part.co_argcount]:
                yield part
            yield from codes_in(part, without)


def with_constants(code: CodeType, others: Mapping[str, Any]) -> CodeType:
    """The code with other constants for some texts: no name of ours stands where another thread sees it."""
    constants = (with_constants(x, others) if isinstance(x, CodeType) else x for x in code.co_consts)
    return code.replace(co_consts=tuple(others.get(x, x) if isinstance(x, str) else x for x in constants))
