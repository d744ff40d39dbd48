"""Drawing: a function that draws random numbers becomes one that is given them as its last argument.

The numbers are drawn on the host at each call, for one example after the other and in the order of the function.
So the compiled function gives what the function itself gives after the same `random.seed`. Generators of the
user's own are followed too. What is drawn from a list, as by `random.choice(rows)`, is an item at a place that is
drawn.

A list that stays shuffled after the call would be another one in each trace, so to shuffle one that the function
does not make is refused.
"""

import functools
import inspect
import itertools
import random
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ...engine.dispatch import is_array
from ...engine.functions import where
from ...engine.value import Value
from ...engine.watch import watch
from .items import item
from .lending import Place, swapped
from .placeholder import Placeholder, refuse
from .tracked import Tracked

THAN, SAME = "than for another example", "Draw the same numbers for every example, or give them as an argument."
FROM_A_LIST = "choice", "choices", "sample", "shuffle", "permutation"
NO_DRAW = "getstate", "setstate", "get_state", "set_state", "spawn", "bytes", "randbytes"


def _modules() -> dict[Any, Any]:
    """The modules with functions that draw, and their generators. This package can do without NumPy."""
    modules: dict[Any, Any] = {random: random.getstate.__self__}  # type: ignore[attr-defined]  # a method
    if numpy := sys.modules.get("numpy.random"):
        modules[numpy] = numpy.get_state.__self__
    return modules


def _is_generator(x: Any) -> bool:
    numpy = sys.modules.get("numpy.random")
    return isinstance(x, random.Random) or bool(numpy and isinstance(x, numpy.RandomState | numpy.Generator))


class Draw(NamedTuple):
    """A random number, or an array of them: the generator, its method and the arguments."""

    generator: Any
    method: str
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def function(self) -> str:
        """The method as the function calls it."""
        of = next((module.__name__ for module, own in _modules().items() if own is self.generator), "")
        return f"{of or type(self.generator).__name__}.{self.method}"

    def now(self) -> Any:
        """Draw."""
        if self.method != "shuffle":
            return getattr(self.generator, self.method)(*self.arguments, **self.options)
        order = list(range(*self.arguments))
        self.generator.shuffle(order)
        return order


class _Replay(threading.local):
    """The random numbers of this thread that were drawn before: a function that takes the next.

    It is also given what the function itself draws, which has the shape.
    """

    next_drawn: Callable[[Draw, Any], Any] | None = None


_here = _Replay()


def state_of(generator: Any) -> Any:
    """Where a generator is."""
    if hasattr(generator, "bit_generator"):
        return generator.bit_generator.state
    return generator.getstate() if isinstance(generator, random.Random) else generator.get_state()


def generators() -> dict[Any, Any]:
    """Where the generators of the modules are."""
    return {generator: state_of(generator) for generator in _modules().values()}


def generators_of(function: Callable[..., Any], *more: Any) -> list[Any]:
    """The generators of the modules, those that the code of a function names, and more."""
    from .surroundings import Surroundings

    (read := Surroundings(function, ())).facts()
    own = [getattr(x, "__self__", x) for _, x in read.builtin]
    return list(filter(_is_generator, {id(x): x for x in [*_modules().values(), *own, *more]}.values()))


def put_states(states: dict[Any, Any]) -> None:
    """Put generators where they were."""
    for generator, state in states.items():
        if hasattr(generator, "bit_generator"):
            generator.bit_generator.state = state
        else:
            (generator.setstate if isinstance(generator, random.Random) else generator.set_state)(state)


class Following:
    """A generator whose methods note what is drawn, or take it from `next_drawn`, in a thread that traces."""

    def __init__(self, generator: Any):
        self._generator = generator

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._generator, name)
        return _following(self._generator, name) if inspect.isroutine(method) and name not in NO_DRAW else method


def follower(x: Any) -> Any:
    """What stands for a generator, or a method of one, while a function is traced; None for anything else."""
    if _is_generator(x):
        return Following(x)
    generator = getattr(x, "__self__", None)
    if inspect.isroutine(x) and _is_generator(generator):
        return getattr(Following(generator), x.__name__)
    return None


def of_modules() -> dict[tuple[Any, str], Any]:
    """What stands for the functions of `random` and of numpy.random."""
    return {
        (module, name): getattr(Following(own), name)
        for module, own in _modules().items()
        for name, function in vars(module).items()
        if (getattr(function, "__self__", None) is own and name[0] != "_" and name not in NO_DRAW)
        or name == "seed"
    }


def _following(generator: Any, name: str) -> Callable[..., Any]:
    original = getattr(generator, name)

    @functools.wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        if watch.tracer is None and not _here.next_drawn:
            return original(*args, **options)
        if not (name in FROM_A_LIST and args and hasattr(args[0], "__len__")):
            return _drawn(Draw(generator, name, args, options))
        items, *rest = args
        n: Any = len(items)
        pool = items[:] if isinstance(items, list) else items.copy() if is_array(items) else list(items)
        if isinstance(generator, random.Random) and name != "shuffle":
            n = range(n)
        elif name != "shuffle":
            pool = sys.modules["numpy"].asarray(pool)
        places = _drawn(Draw(generator, name, (n, *rest), options))
        if not hasattr(places, "__len__"):
            return item(pool, places)
        chosen = item(pool, places) if is_array(pool) else [item(pool, place) for place in places]
        if name == "shuffle":
            if watch.tracer is not None and any(x is items for x in watch.tracer.around):
                refuse(
                    "a list was shuffled that the next call finds in its new order",
                    "Shuffle a copy: rows = list(data), random.shuffle(rows).",
                )
            items[:] = chosen
        return None if name == "shuffle" else chosen

    return function


def _drawn(wanted: Draw) -> Any:
    arguments = [*wanted.arguments, *wanted.options.values()]
    numbers = [x for each in arguments for x in (each if isinstance(each, list | tuple) else [each])]
    if watch.tracer is not None and any(isinstance(x, Value | Tracked) for x in numbers):
        refuse(
            f"{wanted.function} was called with a number that depends on the example",
            "Draw outside, and give what was drawn as an argument; of random.gauss(m, s), draw random.gauss(0, 1) "
            "and write m + s * that.",
        )
    before = state_of(wanted.generator)
    if _here.next_drawn:
        like = wanted.now()
        put_states({wanted.generator: before})
        return _here.next_drawn(wanted, like)
    watch.tracer.draws.append(wanted)
    watch.tracer.generators.setdefault(wanted.generator, before)
    return wanted.now()


def factor(dropout: Any) -> Any:
    """By what a module of `nn.Dropout` multiplies a number, a choice by what it draws: see `engine.watch`."""
    generator = _modules().get(dropout.rng or random, dropout.rng)
    if not _is_generator(generator):
        refuse(f"Dropout draws by {dropout.rng!r}", "Give it a random.Random, or a generator of NumPy.")
    drawn, scale = _following(generator, "uniform")(0.0, 1.0), 1 / (1 - dropout.p) if dropout.p < 1 else 0.0
    drawn = drawn.node if isinstance(drawn, Tracked) else drawn
    return where(drawn >= dropout.p, scale, 0.0) if isinstance(drawn, Value) else scale * (drawn >= dropout.p)


def drawn_rows(wanted: Sequence[Draw], n: int) -> Any:
    """Random numbers for n examples, one row for each, in the order in which the function would draw them."""
    import numpy as np

    rows = [[each.now() for each in wanted] for _ in range(n)]
    return np.array(
        [
            [x for y in row if y is not None for x in ((y,) if y.__class__ is float else np.ravel(y))]
            for row in rows
        ]
    )


def with_draws(
    function: Callable[..., Any], names: Sequence[str], wanted: Sequence[Draw], following: Callable[..., Any]
) -> Callable[..., Any]:
    """The same function of its arguments and of what it draws. Raises TraceError if it draws something else.

    Inside of `following(function)` the random functions are followed.
    """

    import numpy as np

    from .arrays import followed

    def of_draws(*arguments: Any) -> Any:
        *batch, numbers = arguments
        left, draws = iter(numbers), iter(wanted)

        def next_drawn(now: Draw, like: Any) -> Any:
            if repr(now) != repr(next(draws, None)):
                refuse(f"{now.function} was called with other arguments, or more often, {THAN}", SAME)
            if like is None:
                return None
            whole = np.asarray(like).dtype.kind == "i"
            values = [plain(number, whole) for number in itertools.islice(left, np.size(like))]
            return followed(values).reshape(np.shape(like)) if np.ndim(like) else values[0]

        def plain(number: Any, whole: bool) -> Any:
            if isinstance(number, Tracked):
                return Tracked(number.node, whole)
            if isinstance(number, Placeholder):
                return Tracked(number, whole) if hasattr(watch.tracer, "both") else number
            number = number.data if isinstance(number, Value) else number
            return int(number) if whole and number == int(number) else number  # other points are compared too

        with following(function), swapped([(Place(_here, "next_drawn", "attribute"), next_drawn)]):
            result = function(*batch)
        if next(draws, None):
            refuse(f"fewer random numbers were drawn {THAN}", SAME)
        return result

    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in (*names, "drawn")]
    of_draws.takes_draws = True  # type: ignore[attr-defined]
    of_draws.__wrapped__ = function  # type: ignore[attr-defined]  # what it reads is read by this one
    of_draws.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # names for the source
    return of_draws
