"""Tracked: a plain number that a traced function reads, as it is for one example, and where it comes from.

`x.data`, an integer input and whatever is computed from them are Tracked while a function is traced by examples.
So the trace knows every comparison, and every use as an index. A Tracked is a real number, but no float: math.exp
and int would take the number of a float without asking.
"""

import builtins
import numbers
import operator
from collections.abc import Sequence
from typing import Any, NoReturn

from ...engine.dispatch import is_array
from ...engine.operators import Operators
from ...engine.rule import Rule
from ...engine.rules import RULES
from ...engine.ufuncs import apply_ufunc
from ...engine.value import Value
from ...engine.watch import watch
from .placeholder import CHOICES, Placeholder, refuse

SAME_KIND = ("add", "sub", "mul", "neg", "abs", "mod", "max", "min", "where")  # of whole numbers these are whole


class Tracked(Operators):
    """A number without a gradient. `node` says how it is computed; `whole` if it is an int or a bool."""

    __slots__ = ("node", "whole")

    def __init__(self, x: Any, whole: bool = False):
        self.node: Value = x if isinstance(x, Value) else Value(x)
        self.whole: bool = whole

    @property
    def number(self) -> Any:
        """What it is for the example of this run."""
        try:
            number = watch.tracer.number(self.node) if watch.tracer else kept_number(self.node)
        except AttributeError:
            raise RuntimeError(
                "A number that a traced function has read was kept where the compiler does not look. Keep it in a "
                "list, a dict or an attribute that the function names, or take it from predict()."
            ) from None
        return int(number) if self.whole else number

    # --- What is recorded -----------------------------------------------------------------------------------

    def _record(self, rule: Rule, inputs: Any) -> Any:
        node = Placeholder._record(self.node, rule, [x.node if isinstance(x, Tracked) else x for x in inputs])  # type: ignore[arg-type]  # it records for any Value
        if any(isinstance(x, Value) for x in inputs):
            return node
        return Tracked(
            node,
            rule.name in CHOICES
            or (rule.name in SAME_KIND and all(map(is_whole, inputs[rule.name == "where" :]))),
        )

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
        if watch.tracer and self.node.rule:
            number = self.number
            if not 0 <= number < len(options):
                raise IndexError(f"take has the indices 0 to {len(options) - 1}, got {number}.")
            watch.tracer.inside(self.node, len(options))
        return Placeholder._take(self.node, options)  # type: ignore[arg-type]  # as above

    def __floordiv__(self, other: Any) -> Any:
        quotient = (self - self % other) / other
        quotient.whole = self.whole and is_whole(other)
        return quotient

    def __rfloordiv__(self, other: Any) -> Any:
        return Tracked(other, is_whole(other)) // self

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    # Bits of whole numbers, by arithmetic that arrays have as well. The other operand is a plain number: a tracked
    # one becomes plain, and a part of the path.

    def __lshift__(self, places: Any) -> Any:
        return self * 2 ** operator.index(places)

    def __rshift__(self, places: Any) -> Any:
        return self // 2 ** operator.index(places)

    def __invert__(self) -> Any:
        return -1 - self

    def __and__(self, mask: Any) -> Any:
        mask = operator.index(mask)
        if mask < 0:
            return self - (self & ~mask)
        return builtins.sum((self >> bit) % 2 << bit for bit in range(mask.bit_length()) if mask >> bit & 1)

    def __or__(self, mask: Any) -> Any:
        mask = operator.index(mask)
        return self + mask - (self & mask)

    def __xor__(self, mask: Any) -> Any:
        mask = operator.index(mask)
        return self + mask - 2 * (self & mask)

    __rand__ = __and__
    __ror__ = __or__
    __rxor__ = __xor__

    def __rlshift__(self, other: Any) -> Any:
        return other << operator.index(self)

    def __rrshift__(self, other: Any) -> Any:
        return other >> operator.index(self)

    def __eq__(self, other: object) -> Any:
        return self._operate("equal", self, other)

    def __ne__(self, other: object) -> Any:
        same = self == other
        return NotImplemented if same is NotImplemented else 1 - same

    # --- What NumPy asks for ------------------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """np.exp(x.data), np.float64(2) * x.data"""
        inputs = tuple(x.astype(object) if is_array(x) and x.ndim else x for x in inputs)
        return apply_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """np.where(x.data > 0, 1.0, 0.0), np.clip(x.data, 0, 1)"""
        if function.__name__ == "where" and len(args) == 3 and not any(map(is_array, args)):
            return RULES["where"](*args)
        return function._implementation(*args, **options)

    def clip(self, low: Any = None, high: Any = None, **_: Any) -> Any:
        """This number moved into [low, high]."""
        number = self if low is None else RULES["max"](self, low)
        return number if high is None else RULES["min"](number, high)

    # Rounding has no slope. An array computes it in the same way.

    def __floor__(self) -> Any:
        return self if self.whole else _whole(self - self % 1)

    def __ceil__(self) -> Any:
        return self if self.whole else -(-self).__floor__()

    def __trunc__(self) -> Any:
        return self if self.whole else _whole(RULES["where"](self < 0, self.__ceil__(), self.__floor__()))

    def __round__(self, digits: int | None = None) -> Any:
        """As Python rounds: x is compared with the exact middle, and a tie goes to the even neighbour.

        The products of 10**digits with each half of the digits of x have no rounding error.
        """
        if not -7 <= (digits or 0) <= 7:
            _refuse(f"rounded to {digits} digits")
        scale = 10.0 ** abs(digits or 0)
        floor = (self / scale if (digits or 0) < 0 else self * scale).__floor__()
        if (digits or 0) < 0:
            below = (floor + 0.5) * scale - self
        else:
            large = 134217729.0 * self
            high = _apart(large - _apart(large - self))
            below = _apart(_apart(floor + 0.5 - high * scale) - _apart(_apart(self - high) * scale))
        whole = _whole(floor + RULES["where"](below == 0, floor % 2, below < 0))
        return whole if digits is None else whole * scale if digits < 0 else whole / scale

    # --- What becomes a plain number --------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self.number) if watch.tracer is None else bool(watch.tracer.truth(self.node))

    def __index__(self) -> int:
        return int(self._pinned("an index"))

    def __int__(self) -> int:
        return int(self._pinned("an int"))

    def __float__(self) -> float:
        return float(self._pinned("a float"))

    def __hash__(self) -> int:
        return hash(self._pinned("the key of a dict or a set"))

    def _pinned(self, what: str) -> Any:
        """As a plain number. Raises TraceError in a trace unless it is whole: others are never equal."""
        if watch.tracer is None:
            return self.number
        return watch.tracer.pinned(self.node) if self.whole else _refuse(what)

    def __repr__(self) -> str:
        return repr(self._shown())

    def __format__(self, spec: str) -> str:
        return format(self._shown(), spec)

    def _shown(self) -> Any:
        """The number as text, which may become a key, such as f"layer{i}"."""
        tracer = watch.tracer
        return self.number if tracer is None or tracer.printing else tracer.pinned(self.node, self.whole)


numbers.Real.register(Tracked)


def _refuse(what: str) -> NoReturn:
    refuse(
        f"a number that depends on the example was to become {what}",
        "Keep it as it is, or use the functions of tinygrad_edu: tg.exp(x) instead of math.exp(x).",
    )


def question_of(x: Any) -> Tracked | None:
    """x as a truth value that is followed, None if it is none."""
    if hasattr(watch.tracer, "both") and isinstance(x, Placeholder) and x.rule in CHOICES.values():
        return Tracked(x, whole=True)
    return x if hasattr(watch.tracer, "both") and isinstance(x, Tracked) else None


def chosen(test: Any, these: Sequence[Any], others: Sequence[Any]) -> Sequence[Any]:
    """These numbers or those, one by one, by a question."""
    question = question_of(test)
    if question is None:
        return these if test else others
    pairs = zip(these, others, strict=True)
    return [x if x is y else question._operate("where", question, x, y) for x, y in pairs]


def _plain(x: Any) -> Any:
    """A number of NumPy as one of Python, and a bool as an int."""
    x = x.item() if hasattr(x, "dtype") and hasattr(x, "item") and not x.shape else x
    return int(x) if x.__class__ is bool else x


def _whole(x: Any) -> Any:
    """The same as a whole number."""
    return Tracked(x.node, True) if isinstance(x, Tracked) else int(x)


def _apart(x: Any) -> Any:
    """x as a number that is no part of a larger sum: rounding errors would cancel there."""
    return Tracked(Placeholder.of(CHOICES["plain"], (x.node,))) if isinstance(x, Tracked) else x


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
