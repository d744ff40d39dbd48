"""Surroundings: the plain numbers that a function reads besides its arguments, and whether they have changed.

A number in a closure, a global, a default, or an attribute of an object is a constant of a program. `Surroundings`
finds these numbers by the names in the function's code, and in the code of what it calls. A program `Holds` those
that it was made with. Before each call it checks that all is as it was.

A float that changes becomes a **knob**: a parameter that is not learned. While the function is traced, a Value
stands in its place. Then all its numbers have one program.
"""

import contextlib
import functools
import random
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ...engine.value import Value
from ...engine.watch import watch
from .lending import Place, read_numbers, swapped
from .placeholder import PACKAGE, Constant, Placeholder
from .tracked import Tracked
from .tricks import names_in

LONG = 1000  # numbers in a list; of a longer one nothing is watched unless the program has its numbers
WIDE = 50  # numbers in the modules of this package; of wider models their sizes are not watched
ROUNDS = 5  # through the objects, with the names that the code of their methods adds
SHORT = 32  # numbers in a list whose numbers are watched one by one
PLAIN = (int, float, str, type(None))  # a bool is an int
WRAPPERS = "__wrapped__", "func", "__func__", "fget"


Facts = dict[str, tuple[Place, Any]]  # the way from the function -> the place, and what is there


@functools.cache
def _is_users(module: str) -> bool:
    """Is it neither of this package, nor of Python, nor installed?

    `__main__` may have the file of a tool that runs the user's program.
    """
    file = getattr(sys.modules.get(module), "__file__", None) or ""
    return module == "__main__" or (
        module.partition(".")[0] not in sys.stdlib_module_names
        and not file.startswith(PACKAGE)
        and "site-packages" not in file
    )


def _is_open(kind: type) -> bool:
    """Are the attributes of its instances the user's? Those of a namespace of Python are."""
    return _is_users(kind.__module__) or kind.__name__.endswith("Namespace")


class Surroundings:
    """What a function reads besides its arguments, as far as code names it: `facts()` goes through it.

    holders    containers, which must stay the same
    functions  all that it may call
    builtin    functions written in C, and generators of random numbers
    around     lists and arrays
    """

    def __init__(self, function: Callable[..., Any], learned: Sequence[Value]):
        self._root, self._learned, self._names = function, set(learned), set[str]()
        self._own: set[str] = set()  # what the function itself changes, such as a counter
        self._begin()

    def _begin(self) -> None:
        self._facts: Facts = {}
        self._sizes: Facts = {}
        self._seen: dict[int, Any] = {}
        self.holders: list[tuple[Place, Any]] = []
        self.functions: list[types.FunctionType] = []
        self.builtin: list[tuple[Place, Any]] = []
        self.around: list[Any] = []

    def facts(self) -> Facts:
        """All numbers, as they are now."""
        n = -1
        for _ in range(ROUNDS):
            if len(self._names) == n:
                break
            n = len(self._names)
            self._begin()
            self._visit("", Place(None, 0), self._root)
            # The methods that the user has written for a class of Values, or has added to one of this package.
            for kind in {part for own in set(map(type, self._learned)) for part in own.__mro__}:
                for name, part in list(vars(kind).items()):
                    if isinstance(part, types.FunctionType) and name in self._names:
                        self._visit(f"{kind.__name__}.{name}", Place(None, 0), part)
        self._seen.clear()
        return self._others(self._facts | (self._sizes if len(self._sizes) <= WIDE else {}))

    def _others(self, facts: Facts) -> Facts:
        own = tuple(self._own)
        return {way: fact for way, fact in facts.items() if not way.startswith(own)} if own else facts

    def learn(self, before: Facts) -> Facts:
        """The facts after the function ran: what it has changed itself is no fact from now on."""
        after = self.facts()
        for way in before.keys() | after.keys():
            if way not in before or way not in after or not same(before[way][1], after[way][1]):
                self._own.add(way.removesuffix("]"))  # of a list that has grown, all numbers
        return self._others(after)

    def _visit(self, way: str, place: Place, x: Any) -> None:
        """Something that code names."""
        if isinstance(x, list) or hasattr(x, "dtype"):
            self.around.append(x)
        if isinstance(x, Tracked):  # the function has kept it while it was traced
            with contextlib.suppress(TypeError):  # in a tuple
                place.put(x := x.number)
        elif _is_tracked(x):
            x.data = x.data.number
        if isinstance(x, PLAIN) or (isinstance(x, Real) and hasattr(x, "dtype")):
            self._facts[way] = place, x
        elif isinstance(x, Value):
            if x.rule is None and x not in self._learned:
                self._facts[way] = place, x
        elif isinstance(x, list | tuple) and (len(x) > SHORT or isinstance(x, tuple)) and (numbers := _copied(x)):
            self._facts[way] = place, numbers
        elif isinstance(x, types.BuiltinFunctionType) or _draws(x):
            if place.holder is not None:
                self.builtin.append((place, x))
        elif id(x) not in self._seen:
            self._seen[id(x)] = x
            n = len(self._facts)
            self._open(way, x)
            if len(self._facts) > n and place.holder is not None:
                self.holders.append((place, x))

    def _open(self, way: str, x: Any) -> None:
        if isinstance(x, list | tuple | dict):
            if isinstance(x, list):
                for i in range(len(x) - 1, -1, -1):
                    if not isinstance(x[i], Tracked):
                        break
                    x[i] = x[i].number
            if len(x) <= LONG:
                if isinstance(x, list):
                    self._facts[f"{way}[]"] = Place(x, 0, "size"), len(x)
                for key, part in list(x.items() if isinstance(x, dict) else enumerate(x)):
                    if not isinstance(x, dict) and isinstance(part, Value) and not _is_tracked(part):
                        continue  # such a list is watched by its Values
                    self._visit(f"{way}[{key!r}]", Place(x, key), part)
            return
        if isinstance(x, types.ModuleType):
            if _is_users(x.__name__):
                self._attributes(way, x, vars(x))
            return
        for name in WRAPPERS:
            if isinstance(getattr(x, "__dict__", None), types.MappingProxyType):
                break  # of a class, these are its methods'
            if (inner := getattr(x, name, None)) is not None and callable(inner):
                self._visit(f"{way}.{name}", Place(None, name), inner)
        if isinstance(x, types.MethodType):
            self._visit(f"{way}.__self__", Place(None, 0), x.__self__)
        elif isinstance(x, functools.partial):
            self._visit(f"{way}.args", Place(None, 0), x.args)
            self._visit(f"{way}.keywords", Place(None, 0), x.keywords)
        elif isinstance(x, types.FunctionType):
            self._function(way, x)
        elif _is_open(x if isinstance(x, type) else type(x)):
            for kind in (x if isinstance(x, type) else type(x)).__mro__:
                if _is_users(kind.__module__):
                    self._class(way, kind)
            if not isinstance(x, type):
                self._attributes(way, x, getattr(x, "__dict__", {}))
        elif hasattr(x, "named_parameters") and not isinstance(x, type):  # a module of this package
            for name, part in list(vars(x).items()):
                if isinstance(part, PLAIN):
                    self._sizes[f"{way}.{name}"] = Place(vars(x), name), part
                elif not isinstance(part, Value) and not _is_of_values(part):
                    self._visit(f"{way}.{name}", Place(None, 0), part)

    def _function(self, way: str, function: types.FunctionType) -> None:
        if not _is_users(function.__module__ or "") or function.__code__.co_filename.startswith(PACKAGE):
            return
        self.functions.append(function)
        own = names_in(function.__code__)
        self._names |= own
        for name in own & function.__globals__.keys():
            self._visit(name, Place(function.__globals__, name), function.__globals__[name])
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            with_contents = Place(cell, "cell_contents", "attribute")
            try:
                self._visit(f"{way}<{name}>", with_contents, cell.cell_contents)
            except ValueError:  # it is empty
                continue
        for i, part in enumerate(function.__defaults__ or ()):
            self._visit(f"{way}({i})", Place(function, i, "default"), part)
        for name, part in (function.__kwdefaults__ or {}).items():
            self._visit(f"{way}({name})", Place(function.__kwdefaults__, name), part)

    def _class(self, way: str, kind: type) -> None:
        for name, part in list(vars(kind).items()):
            if isinstance(part, PLAIN) and name in self._names:
                self._facts[f"{way}.{kind.__name__}.{name}"] = Place(kind, name, "attribute"), part
            elif name in self._names or (name.startswith("__") and name != "__init__"):
                inner = getattr(part, "__func__", getattr(part, "fget", part))
                if isinstance(inner, types.FunctionType):
                    self._visit(f"{kind.__name__}.{name}", Place(None, 0), inner)

    def _attributes(self, way: str, x: Any, own: dict[str, Any]) -> None:
        slots = {name for kind in type(x).__mro__ for name in getattr(kind, "__slots__", ())} & self._names
        for name in self._names & own.keys():
            if not _is_of_values(own[name]):
                self._visit(f"{way}.{name}", Place(own, name), own[name])
        for name in slots:
            if hasattr(x, name):
                self._visit(f"{way}.{name}", Place(x, name, "attribute"), getattr(x, name))


def _draws(x: Any) -> bool:
    """Is it a generator of random numbers, or a method of one?"""
    x = x.__self__ if isinstance(x, types.MethodType) else x
    return isinstance(x, random.Random) or type(x).__module__.startswith("numpy.random")


def _is_tracked(x: Any) -> bool:
    """Is it a Value whose number is tracked?"""
    return isinstance(x, Value) and not isinstance(x, Placeholder) and isinstance(x.data, Tracked)


def _is_of_values(x: Any) -> bool:
    """Is it a list of Values, or of such lists? They are watched themselves."""
    while isinstance(x, list | tuple) and x:
        x = x[0]
    return isinstance(x, Value)


def _copied(x: Any) -> Any:
    """A copy of nested lists that hold plain numbers only; None for anything else."""
    if not x:
        return None
    parts = [_copied(part) if isinstance(part, list | tuple) else part for part in x]
    if any(part is None or not isinstance(part, (*PLAIN, list, tuple)) for part in parts):
        return None
    return type(x)(parts) if type(x) in (list, tuple) else None


def same(x: Any, y: Any) -> bool:
    """Is a fact unchanged? Of Values, == asks for the same object."""
    return x is y or bool(x == y and x.__class__ is y.__class__) or bool(x != x and y != y)


@dataclass(eq=False)
class Knob:
    """A number that a program reads at each call. `value` stands for it, or is it: then `place` is None."""

    key: Any
    value: Value
    place: Place | None = None

    def read(self) -> float:
        """The number now."""
        if self.place is not None:
            self.value.data = float(self.place.get())
        number: float = read_numbers([self.value])[0]
        return number


@dataclass(eq=False)
class Closure:
    """What a program is made of: a function, its parameters, and after them the Values of its knobs."""

    original: Callable[..., Any]
    learned: Sequence[Value]
    knobs: Sequence[Knob] = ()

    def __post_init__(self) -> None:
        self.parameters: list[Value] = [*self.learned, *(knob.value for knob in self.knobs)]
        self.function: Callable[..., Any] = (
            self._function() if any(knob.place for knob in self.knobs) else self.original
        )

    def _function(self) -> Callable[..., Any]:
        @functools.wraps(self.original)
        def function(*example: Any) -> Any:
            places = [(knob.place, knob.value) for knob in self.knobs if knob.place]
            with swapped([(place, watch.tracer.stand_in(x)) for place, x in places] if watch.tracer else ()):
                result = self.original(*example)
                return list(result) if isinstance(result, types.GeneratorType) else result

        return function

    def numbers(self) -> list[float]:
        """The numbers of the knobs, now."""
        return [knob.read() for knob in self.knobs]


@dataclass(eq=False)
class Holds:
    """What a program takes for granted: numbers that are no knobs, frozen Values, and the state of modules.

    `numbers` are all that it has: of a long list without any of them nothing is watched.
    """

    facts: Facts
    frozen: list[tuple[Value, Any]]
    state: list[tuple[Any, str, Any]]
    knobs: Sequence[Knob] = ()
    holders: Sequence[tuple[Place, Any]] = ()
    numbers: Set[Any] = frozenset()

    def __post_init__(self) -> None:
        self._knobs: dict[Any, Knob] = {knob.key: knob for knob in self.knobs if knob.place}
        knobs = {knob.value for knob in self.knobs}
        self.numbers = self.numbers | {number for _, number in self.frozen}
        self.frozen = [pair for pair in self.frozen if pair[0].__class__ is not Constant and pair[0] not in knobs]
        self.facts = {way: fact for way, fact in self.facts.items() if self._has(fact[1])}

    def _has(self, fact: Any) -> bool:
        is_long = isinstance(fact, list | tuple) and len([*_flat(fact)]) > LONG
        return not (is_long and self.numbers.isdisjoint(_flat(fact)))

    def unchanged(self) -> bool:
        """Is all as it was? Containers must be the same objects: see `fits`."""
        try:
            for way, (place, x) in self.facts.items():
                now = place.get()
                if now is not x and now != x and not (way in self._knobs and now.__class__ is float):
                    return False
            for place, x in self.holders:
                if place.get() is not x:
                    return False
        except (LookupError, AttributeError, ValueError, TypeError):
            return False
        return self._is_steady()

    def _is_steady(self) -> bool:
        """Are the frozen Values, and the state of modules, as they were?"""
        if self.frozen:
            now, before = read_numbers(value for value, _ in self.frozen), [number for _, number in self.frozen]
            if now != before and not all(map(same, now, before)):
                return False
        return not self.state or all(getattr(thing, name) == x for thing, name, x in self.state)

    def fits(self, facts: Facts, holders: Sequence[tuple[Place, Any]]) -> bool:
        """Are these the numbers that it was made with, wherever they stand now?"""
        if any(way not in facts or facts[way][1].__class__ is not float for way in self._knobs):
            return False
        for way, (_, number) in self.facts.items():
            if way not in self._knobs and (way not in facts or not same(number, facts[way][1])):
                return False
        if not self._is_steady():
            return False
        for way, knob in self._knobs.items():
            knob.place = facts[way][0]
        self.facts, self.holders = {way: facts[way] for way in self.facts}, holders
        return True


def _flat(x: Any) -> Iterator[Any]:
    for part in x:
        yield from _flat(part) if isinstance(part, list | tuple) else (part,)


def changed(facts: Facts, holds: Iterable[Holds], known: Iterable[Knob]) -> list[Knob]:
    """The knobs, and new ones for floats that are others than a program holds."""
    knobs = {knob.key: knob for knob in known}
    for held in holds:
        for way, (_, before) in held.facts.items():
            place, now = facts.get(way, (None, None))
            if place and before.__class__ is now.__class__ is float and not same(before, now):
                knobs.setdefault(way, Knob(way, Value(now, way.strip(".<>()")), place))
        for (value, number), now in zip(held.frozen, read_numbers(v for v, _ in held.frozen), strict=True):
            if not same(now, number) and value.rule is None:
                knobs.setdefault(value, Knob(value, value))
    return list(knobs.values())
