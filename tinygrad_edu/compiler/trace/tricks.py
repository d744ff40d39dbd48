"""Tricks: what the tracer must know, and only the interpreter can tell.

max, min and the functions of `math` would take a number that is followed for a plain one, or fail: others stand
in their place while a function is traced. So do those of `random`, which note what is drawn.
"""

import builtins
import functools
import math
import numbers
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from ...engine.rules import RULES
from ...engine.value import Value
from ...engine.watch import watch
from .lending import Place, swapped
from .placeholder import Placeholder
from .random_numbers import factor, follower, of_modules
from .surroundings import Surroundings
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


def following_functions(function: Callable[..., Any]) -> AbstractContextManager[None]:
    """Inside the block, max, min and the functions of `math` record Tracked numbers, in a thread that traces.

    max and min compare item after item, and the outcomes would be others for nearly every example. Functions of
    `math` take plain floats only. Random functions, and Dropout, note what is drawn, or take what was drawn. Where
    the function reads one of these, or a generator, by a name of its own, as after `from math import exp`, the
    other stands there too.
    """
    others = [(Place(*key, "attribute"), other) for key, other in (_FOLLOWED | of_modules()).items()]
    of_original = {id(place.get()): other for place, other in others}
    (read := Surroundings(function, ())).facts()
    if watch.tracer:
        watch.tracer.around = read.around
    named = [(place, of_original.get(id(x)) or follower(x)) for place, x in read.builtin]
    dropout = Place(watch, "factor", "attribute"), factor
    return swapped([dropout, *others, *(pair for pair in named if pair[1])])


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


_FOLLOWED: dict[tuple[Any, str], Any] = {
    **{(math, name): _of_math(name) for name in (*_MATH, "log", "pow", "fabs", *_MADE)},
    (builtins, "max"): _followed("max", operator.gt),
    (builtins, "min"): _followed("min", operator.lt),
    (builtins, "sorted"): _sorted,
}
