"""Tracked: a plain number that a traced function reads, as it is for one example, and where it comes from.

`x.data`, an integer input and whatever is computed from them are Tracked while a function is traced by examples.
So the trace knows every comparison, and every use as an index. A Tracked is a real number, but no float: math.exp
and int would take the number of a float without asking.
"""

import builtins
import gc
import numbers
import operator
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from ..engine.operators import Operators
from ..engine.rule import Rule
from ..engine.rules import RULES
from ..engine.value import Value
from ..engine.watch import watch
from .tracing import CHOICES, Placeholder, refuse

SAME_KIND = ("add", "sub", "mul", "neg", "abs", "mod", "max", "min")  # of whole numbers these are whole


class Tracked(Operators):
    """A number without a gradient. `node` says how it is computed; `whole` if it is an int or a bool."""

    __slots__ = ("node", "whole")
    __array_ufunc__ = None  # np.float64(2) * tracked is left to __rmul__

    def __init__(self, x: Any, whole: bool = False):
        self.node: Value = x if isinstance(x, Value) else Value(x)
        self.whole = whole
        if watch.tracer:
            watch.tracer.tracked.append(self)

    @property
    def number(self) -> Any:
        """What it is for the example of this run."""
        number = watch.tracer.number(self.node) if watch.tracer else kept_number(self.node)
        return int(number) if self.whole else number

    # --- What is recorded -----------------------------------------------------------------------------------

    def _record(self, rule: Rule, inputs: Any) -> Any:
        node = Placeholder._record(self.node, rule, [x.node if isinstance(x, Tracked) else x for x in inputs])  # type: ignore[arg-type]  # it records for any Value
        if any(isinstance(x, Value) for x in inputs):
            return node
        return Tracked(node, rule.name in CHOICES or (rule.name in SAME_KIND and all(map(is_whole, inputs))))

    def _operate(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        inputs = tuple(map(_plain, inputs))
        if not all(isinstance(x, Value | numbers.Real) for x in inputs):
            return NotImplemented
        rule = RULES.get(name) or CHOICES[name]
        rule = rule.bind(**parameters) if parameters else rule
        if watch.tracer is None:  # it has outlived its trace
            return rule(*[x.number if isinstance(x, Tracked) else x for x in inputs])
        return self._record(rule, inputs)

    def _apply(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        return self if name == "plain" else self._operate(name, *inputs, **parameters)

    def _take(self, options: Any) -> Any:
        return Placeholder._take(self.node, options)  # type: ignore[arg-type]  # as above

    def __floordiv__(self, other: Any) -> Any:
        quotient = (self - self % other) / other
        quotient.whole = self.whole and is_whole(other)
        return quotient

    def __rfloordiv__(self, other: Any) -> Any:
        return Tracked(other, is_whole(other)) // self

    def __eq__(self, other: object) -> Any:
        return self._operate("equal", self, other)

    def __ne__(self, other: object) -> Any:
        same = self == other
        return NotImplemented if same is NotImplemented else 1 - same

    # --- What becomes a plain number --------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self.number) if watch.tracer is None else bool(watch.tracer.truth(self.node))

    def __index__(self) -> int:
        return int(watch.tracer.picked(self.node, sys._getframe(1)) if self._is_asked("an index") else self.number)

    def __int__(self) -> int:
        return int(watch.tracer.picked(self.node, sys._getframe(1)) if self._is_asked("an int") else self.number)

    def __trunc__(self) -> int:
        return int(self._pinned("an int"))

    def __float__(self) -> float:
        return float(self._pinned("a float"))

    def __hash__(self) -> int:
        return hash(self._pinned("the key of a dict or a set"))

    def __round__(self, digits: int | None = None) -> Any:
        return round(self._pinned("rounded"), digits)

    __floor__ = __ceil__ = __trunc__

    def _pinned(self, what: str) -> Any:
        return watch.tracer.pinned(self.node) if self._is_asked(what) else self.number

    def _is_asked(self, what: str) -> bool:
        """Does a traced function ask? Raises TraceError unless it is whole: others are never equal."""
        if watch.tracer is None:
            return False
        if not self.whole:
            _refuse(what)
        return True

    def __repr__(self) -> str:
        return repr(self._shown())

    def __format__(self, spec: str) -> str:
        return format(self._shown(), spec)

    def _shown(self) -> Any:
        """The number as text: that of a whole number may become a key, such as f"layer{i}"."""
        return self._pinned("text") if self.whole else self.number


numbers.Real.register(Tracked)


def _refuse(what: str) -> NoReturn:
    refuse(
        f"a number that depends on the example was to become {what}",
        "Keep it as it is, or use the functions of tinygrad_edu: tg.exp(x) instead of math.exp(x).",
    )


def _plain(x: Any) -> Any:
    """A number of NumPy as one of Python, and a bool as an int."""
    x = x.item() if hasattr(x, "dtype") and hasattr(x, "item") and not x.shape else x
    return int(x) if x.__class__ is bool else x


def is_whole(x: Any) -> bool:
    """Is it an int or a bool, or does it stand for one?"""
    return x.whole if isinstance(x, Tracked) else isinstance(x, numbers.Integral)


_slot = Value.__dict__["data"]  # where every Value keeps its number; a placeholder has one if it was asked for


def kept_number(node: Value) -> Any:
    """The number that a Value, or a placeholder, was given."""
    return _slot.__get__(node)


def put_number(node: Placeholder, number: Any) -> None:
    """Give a placeholder its number."""
    _slot.__set__(node, number)


def settle(tracer: Any) -> None:
    """Give Values, lists and dicts that keep a tracked number the plain one, as the function itself would do."""
    tracked, tracer.tracked = tracer.tracked, []
    kept = [x for x in tracked if sys.getrefcount(x) > 3]  # here, in `tracked` and in the argument
    del tracked
    if not kept:
        return
    numbers = {id(x): tracer.number(x.node) for x in kept}
    for owner in gc.get_referrers(*kept):
        if isinstance(owner, Value) and isinstance(owner.data, Tracked):
            owner.data = numbers[id(owner.data)]
        elif isinstance(owner, list) and owner is not kept:
            owner[:] = [numbers.get(id(x), x) for x in owner]
        elif isinstance(owner, dict):
            owner.update({key: numbers[id(x)] for key, x in owner.items() if id(x) in numbers})


# --- Python's max and min -------------------------------------------------------------------------------------

_lock, _builtin, _open = threading.Lock(), {"max": max, "min": min}, [0]


@contextmanager
def following_max() -> Iterator[None]:
    """Inside the block, max and min of Tracked numbers and placeholders are recorded, in a thread that traces.

    They compare item after item, and the outcomes would be others for nearly every example.
    """
    with _lock:
        _open[0] += 1
        for name in _builtin:
            setattr(builtins, name, _FOLLOWED[name])
    try:
        yield
    finally:
        with _lock:
            _open[0] -= 1
            if not _open[0]:
                for name, function in _builtin.items():
                    setattr(builtins, name, function)


def _followed(name: str, beats: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def function(*args: Any, **options: Any) -> Any:
        if watch.tracer is None or not hasattr(watch.tracer, "picked"):
            return _builtin[name](*args, **options)
        items = list(args[0]) if len(args) == 1 else list(args)
        keys = list(map(options["key"], items)) if options.get("key") else items
        if not any(isinstance(x, Tracked | Placeholder) for x in keys):
            return _builtin[name](items, **options)
        if all(isinstance(x, Tracked | numbers.Real) for x in keys) and keys is items:
            return next(x for x in keys if isinstance(x, Tracked))._record(RULES[name], items)
        best, key = items[0], keys[0]
        if not all(isinstance(x, Value | numbers.Real) for x in items):
            return items[_builtin[name](range(len(items)), key=keys.__getitem__)]
        for item, its_key in zip(items[1:], keys[1:], strict=True):
            wins = beats(its_key, key)
            best, key = (
                RULES["where"](wins, *pair) if hasattr(wins, "_record") else pair[not wins]
                for pair in ((item, best), (its_key, key))
            )
        return best

    function.__name__ = function.__qualname__ = name
    function.__module__, function.__doc__ = "builtins", _builtin[name].__doc__
    return function


_FOLLOWED = {"max": _followed("max", operator.gt), "min": _followed("min", operator.lt)}
