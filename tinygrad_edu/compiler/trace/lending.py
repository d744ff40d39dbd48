"""Lending: something stands in the place of another for a while. Values become placeholders, or get other numbers.

One thread at a time traces, or computes with other numbers. Another one that compiles waits, and so does one that
reads or writes the parameters of a compiled function. What a thread computes eagerly with a parameter is refused
while another one traces: a placeholder has no number.
"""

import functools
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import repeat
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from ...engine.value import Value
from ...engine.watch import watch
from .placeholder import Placeholder

_lock = threading.RLock()
_run = deque[Any](maxlen=0).extend  # runs an iterator to its end in C: nothing comes between


@dataclass(frozen=True, eq=False)
class Place:
    """Where something stands: holder[key], or its attribute; of a function's defaults, by number."""

    holder: Any
    key: Any
    kind: str = "item"  # "attribute", "default", "size"

    def get(self) -> Any:
        if self.kind == "item":
            return self.holder[self.key]
        if self.kind == "attribute":
            return getattr(self.holder, self.key)
        return len(self.holder) if self.kind == "size" else self.holder.__defaults__[self.key]

    def put(self, x: Any) -> None:
        if self.kind == "attribute":
            setattr(self.holder, self.key, x)
        elif self.kind == "default":
            items = self.holder.__defaults__
            self.holder.__defaults__ = (*items[: self.key], x, *items[self.key + 1 :])
        else:
            self.holder[self.key] = x


@contextmanager
def swapped(others: Iterable[tuple[Place, Any]]) -> Iterator[None]:
    """Inside the block, other things stand in these places, as far as these can be changed: a tuple cannot."""
    with _lock:
        pairs = [(place, place.get(), other) for place, other in others]
        try:
            for place, _, other in pairs:
                with suppress(TypeError, AttributeError):
                    place.put(other)
            yield
        finally:
            for place, own, _ in reversed(pairs):
                with suppress(TypeError, AttributeError):
                    place.put(own)


class _Loans(threading.local):
    """The numbers and gradients that Values have in this thread instead of their own: see `standing_in`."""

    numbers: Mapping[Value, list[Any]] = MappingProxyType({})


_here = _Loans()


@contextmanager
def of_classes(values: Collection[Value], class_of: Callable[[Any], Any]) -> Iterator[None]:
    """Values are of other classes inside the block."""
    with _lock:
        own = [value.__class__ for value in values]
        try:
            _run(map(setattr, values, repeat("__class__"), map(class_of, own)))
            yield
        finally:
            try:
                _run(map(setattr, values, repeat("__class__"), own))
            except KeyboardInterrupt:  # it came just before
                _run(map(setattr, values, repeat("__class__"), own))
                raise


@contextmanager
def standing_in(numbers: Mapping[Value, Any]) -> Iterator[None]:
    """Give Values other numbers inside the block, and the gradient 0, in this thread only."""
    lent = {**_here.numbers, **{value: [number, 0.0] for value, number in numbers.items()}}
    with of_classes(numbers, _lent), swapped([(Place(_here, "numbers", "attribute"), lent)]):
        yield


@functools.cache
def _lent(kind: Any) -> Any:
    """The subclass of `kind` whose Values have other numbers in the thread that is lent them."""

    def slot(name: str, place: int) -> Any:
        own = getattr(kind, name)

        def get(self: Any) -> Any:
            numbers = _here.numbers.get(self)
            return own.__get__(self) if numbers is None else numbers[place]

        def set(self: Any, number: Any) -> None:
            numbers = _here.numbers.get(self)
            if numbers is None:
                own.__set__(self, number)
            else:
                numbers[place] = number

        return property(get, set)

    if kind in _all_lent:
        return kind
    described = {name: getattr(kind, name) for name in ("__hash__", "__module__", "__qualname__")}
    slots = {"data": slot("data", 0), "grad": slot("grad", 1)}
    lent = type(kind)(kind.__name__, (kind,), {**slots, **described, "__slots__": ()})
    _all_lent.add(lent)
    return lent


_all_lent: set[Any] = set()


@functools.cache
def recording(kind: Any) -> Any:
    """The class that Values of this kind have while they record: parameters in a trace, and nodes by hand."""

    def closure(self: Any, function: Callable[[], None]) -> None:
        if tracer := watch.tracer:
            tracer.closure(self, function)

    own = {name: thing for name, thing in vars(Placeholder).items() if name not in ("__slots__", "__doc__")}
    # `kind` stands first, since an instance keeps its layout; so the methods of a placeholder are given once more.
    more = {"__slots__": (), "_backward": property(kind._backward.fget, closure)}
    bases = (Placeholder,) if kind is Value else (kind, Placeholder)
    return type(kind)("Placeholder", bases, {**own, **more})


def read_numbers(values: Iterable[Value], name: str = "data") -> list[Any]:
    """The numbers of Values, or their gradients, as soon as no other thread traces."""
    with _lock:
        return list(map(attrgetter(name), values))


def put_numbers(values: Iterable[Value], numbers: Iterable[Any], name: str = "data") -> None:
    """Give every Value its number, or its gradient, as soon as no other thread traces."""
    with _lock:
        for value, number in zip(values, numbers, strict=True):
            setattr(value, name, number)
