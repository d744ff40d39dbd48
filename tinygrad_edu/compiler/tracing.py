"""Trace: run the function once on placeholders, and keep the graph of what it did.

A Placeholder is a Value without a number. It records every operation, and refuses what would need the number: the
compiled form must hold for every example and for all parameters, so nothing may depend on one of them. While the
function runs, its parameters are placeholders too, in the thread that traces and in no other.
"""

import functools
import inspect
import itertools
import linecache
import math
import numbers
import operator
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from types import FrameType, FunctionType, MappingProxyType
from typing import Any, NoReturn

from ..engine import elementary
from ..engine.graph import topological_order
from ..engine.operators import Operators
from ..engine.rule import Rule
from ..engine.rules import ADD, MUL, RULES
from ..engine.value import Value
from ..engine.watch import watch

PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
SELECT = "Select by tg.where(condition, a, b), max, min or relu."
REFLECTED = ("__radd__", "__rsub__", "__rmul__", "__rtruediv__", "__rpow__")


class TraceError(TypeError):
    """The function needs a number that is not there yet: it branches, or reads `.data`, while it is traced."""


def _no_slope(upstream: Any, out: Any, *inputs: Any) -> tuple[int, ...]:
    return (0,) * len(inputs)


def _choice(name: str, function: Callable[..., Any], n_inputs: int, symbol: str = "") -> Rule:
    """An operation without a gradient, since its result moves in steps. Only a trace records it."""
    return Rule(name, symbol or name, function, _no_slope, n_inputs)


COMPARISONS = {
    name: _choice(name, getattr(operator, name), 2, symbol)
    for name, symbol in {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items()
}
CHOICES = COMPARISONS | {
    name: _choice(name, getattr(elementary, name), n)
    for name, n in {"plain": 1, "sign": 1, "heaviside": 1, "equal": 2}.items()
}


def _take(index: Any, *options: Any) -> Any:
    return options[int(index)]


def _take_backward(upstream: Any, out: Any, index: Any, *options: Any) -> tuple[Any, ...]:
    return 0, *(upstream if i == index else 0 for i in range(len(options)))


TAKE = Rule("take", "[]", _take, _take_backward, None)  # options[index], by an index that is an input
OUTPUTS = _choice("outputs", lambda *inputs: inputs, 0)  # all results of the function as one node


def _refused(what: str, instead: str) -> Any:
    """A method that raises TraceError."""
    return lambda self, *args, **kwargs: refuse(what, instead)


class Placeholder(Value):
    """A number that is not known yet: an input of the compiled function, a parameter, or what is made of them."""

    __slots__ = ()

    def __init__(self, rule: Rule | None = None, left: Any = None, right: Any = None, label: str = ""):
        self.rule, self._left, self._right, self.label = rule, left, right, label
        if tracer := watch.tracer:
            tracer.nodes.append(self)

    @staticmethod
    def of(rule: Rule, parents: tuple[Value, ...]) -> "Placeholder":
        left, right = (*parents, None, None)[:2] if 0 < len(parents) <= 2 else (parents, None)
        return Placeholder(rule, left, right)

    def replace(self, operands: Sequence[Value]) -> None:
        """Put others in the place of the operands."""
        if self.rule is not None:
            left, right = (*operands, None, None)[:2] if len(operands) <= 2 else (tuple(operands), None)
            self._left, self._right = left, right

    # --- What is recorded -----------------------------------------------------------------------------------

    def _record(self, rule: Rule, inputs: Any) -> "Placeholder":
        if len(inputs) != (rule.n_inputs or max(1, len(inputs))):
            raise TypeError(f"{rule.name} takes {rule.n_inputs or 'one or more'} input(s), got {len(inputs)}.")
        return Placeholder.of(rule, tuple(x if isinstance(x, Value) else Value(x) for x in inputs))

    def _apply(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        rule = RULES.get(name) or CHOICES[name]
        return self._record(rule.bind(**parameters) if parameters else rule, inputs)

    def _take(self, options: Sequence[Any]) -> Any:
        """options[self] as one node; of rows, one node per column."""
        if hasattr(options[0], "__len__"):
            return [self._take(column) for column in zip(*options, strict=True)]
        return self._record(TAKE, (self, *options))

    _operate = _apply

    def __add__(self, other: Any) -> "Placeholder":  # + and * written out: most nodes of a trace
        return Placeholder(ADD, self, other if isinstance(other, Value) else Value(other))

    def __mul__(self, other: Any) -> "Placeholder":
        return Placeholder(MUL, self, other if isinstance(other, Value) else Value(other))

    # --- What is refused ------------------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """Its number, which is asked of the trace."""
        return (watch.tracer or NOBODY).data(self)

    @data.setter
    def data(self, number: Any) -> NoReturn:
        refuse("a placeholder was given a number", "Change parameters outside of the function.")

    grad = property(
        _refused(
            "the gradient of a placeholder was asked for", "The compiled function gives gradients: value_and_grad."
        ),
        _refused("the gradient of a placeholder was set", "Clear gradients outside of the function."),
    )

    def __eq__(self, other: object) -> bool:
        """Is it this node? A number never is, so asking for one is a mistake."""
        two_inputs = isinstance(other, Placeholder) and other.rule is self.rule is None
        if self is not other and (
            two_inputs or (isinstance(other, numbers.Real) and not isinstance(other, Value))
        ):
            return (watch.tracer or NOBODY).same(self, other)
        return self is other

    __hash__ = Value.__hash__

    def __bool__(self) -> bool:
        return bool((watch.tracer or NOBODY).truth(self))

    __float__ = _refused(
        "a placeholder was to become a float",
        "Use the functions of tinygrad_edu, tg.exp(x) instead of math.exp(x): a float has no gradient.",
    )
    __index__ = __int__ = __trunc__ = __floor__ = __ceil__ = _refused(
        "a placeholder was used as an index", "Use tg.take(xs, index), nn.Embedding or a one-hot input."
    )
    __round__ = _refused("a placeholder was to be rounded", "Rounding has no gradient; do it outside.")
    __copy__ = __deepcopy__ = __reduce__ = _refused(
        "a placeholder was to be copied", "Copy the model before it is traced."
    )
    backward = _refused("backward() was called", "Return the loss: the compiled function runs backward.")

    def __repr__(self) -> str:
        return f"<placeholder {self.label}>" if self.label else f"<placeholder of {self._op}>"

    def __format__(self, spec: str) -> str:
        return repr(self)


def _method(rule: Rule) -> Callable[..., Any]:
    return lambda self, **parameters: self._apply(rule.name, self, **parameters)


# Value writes some operators and all methods out, with its numbers; here each is recorded.
for _name, _operator in vars(Operators).items():
    if callable(_operator) and _name not in vars(Placeholder):
        setattr(Placeholder, _name, _operator)
for _name, _rule in RULES.items():
    if _rule.n_inputs == 1 and callable(getattr(Value, _name, None)):
        setattr(Placeholder, _name, _method(_rule))


def refuse(what: str, instead: str) -> NoReturn:
    """Raise TraceError with the line of the user's code that needs the number. The trace remembers it."""
    *_, frame = users_frame()
    error = TraceError(
        f"While the function was traced, {what}{place_of(frame)}. The compiled form must hold for "
        f"every example. {instead}"
    )
    if watch.tracer:
        watch.tracer.refusals.append(error)
    raise error


def users_frame() -> tuple[int, FrameType]:
    """How many calls up, for the caller, the code outside of this package stands; and its frame."""
    level, frame = 0, sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(PACKAGE):
        level, frame = level + 1, frame.f_back
    return level, frame


def place_of(frame: FrameType, line: int | None = None) -> str:
    """Where a frame is: the line, the file and the code."""
    name, line = frame.f_code.co_filename, frame.f_lineno if line is None else line
    text = linecache.getline(name, line, frame.f_globals).strip()
    return f" in line {line} of {name}" + (f": `{text}`" if text else "")


# --- Parameters while they are compiled -------------------------------------------------------------------------

UNKNOWN = Placeholder()  # stands for every parameter while a function is traced


class _Here(threading.local):
    """The leaves that have the numbers and gradients of other Values in this thread: see `standing_in`."""

    twins: Mapping[Value, Value] = MappingProxyType({})


_here, _lock = _Here(), threading.Lock()
_blocks: list[Mapping[Value, Value]] = []  # the twins of every open block of `standing_in`, of all threads


@contextmanager
def standing_in(numbers: dict[Value, Any]) -> Iterator[Mapping[Value, Value]]:
    """Give Values other numbers inside the block, in this thread only. UNKNOWN makes them placeholders.

    Another thread may train the same model at this moment, so nothing is written into a Value: each has a twin
    that computes for it, and a number or a gradient that the block sets is gone after it. The class of the Value
    alone changes, to a subclass whose methods ask which thread they run in. Gives the twins, by their Values.
    """
    outer, interrupted = _here.twins, None
    twins = {v: UNKNOWN if number is UNKNOWN else Value(number, v.label) for v, number in numbers.items()}
    try:
        with _lock:
            _blocks.append(twins)
            for value in twins:
                kind: Any = value.__class__
                if kind not in _stand_ins:
                    value.__class__ = _stand_in(kind)
        _here.twins = {**outer, **twins} if outer else twins
        yield twins
    finally:
        _here.twins = outer
        while True:  # until a pass has come to its end: Ctrl-C may come in the middle of one
            try:
                _end(twins)
                break
            except KeyboardInterrupt as error:
                interrupted = error
        if interrupted:
            raise interrupted


def _end(twins: Mapping[Value, Value]) -> None:
    """Give the Values of a block their class back, unless they are in another. A second call changes nothing."""
    with _lock:
        _blocks[:] = [block for block in _blocks if block is not twins]
        staying = {value for block in _blocks for value in block}
        for value in twins:
            kind: Any = value.__class__
            if kind in _stand_ins and value not in staying:
                value.__class__ = kind.__base__


def _is_placeholder(x: Any) -> bool:
    return isinstance(x, Placeholder) or (isinstance(x, Value) and _here.twins.get(x) is UNKNOWN)


_stand_ins: set[Any] = set()


@functools.cache
def _stand_in(kind: Any) -> Any:
    """The subclass of `kind` whose Values have a twin in some threads."""

    def method(name: str) -> Any:
        recorded, own, is_reflected = getattr(Placeholder, name), getattr(kind, name, None), name in REFLECTED

        def either(self: Any, *args: Any, **kwargs: Any) -> Any:
            twin = _here.twins.get(self, self)
            if twin is UNKNOWN or (watch.tracer and any(map(_is_placeholder, args))):
                return recorded(self, *args, **kwargs)
            if own is None:
                raise TypeError(f"{self!r} has no {name}: a float would have no gradient.")
            if is_reflected and isinstance(args[0], Value):
                return NotImplemented  # Python asked the subclass first; the left operand knows what to do
            return own(twin, *args, **kwargs)

        return either

    def slot(name: str) -> Any:
        own, twins_own = getattr(kind, name), attrgetter(name)

        def get(self: Any) -> Any:
            twin = _here.twins.get(self)
            if twin is UNKNOWN:
                return getattr(Placeholder, name).fget(self)
            return own.__get__(self) if twin is None else twins_own(twin)

        def set(self: Any, number: Any) -> None:
            twin = _here.twins.get(self)
            own.__set__(self, number) if twin is None else setattr(twin, name, number)

        return property(get, set)

    def record(self: Any, rule: Rule, inputs: Any) -> Any:
        if any(map(_is_placeholder, inputs)):
            return Placeholder._record(self, rule, inputs)
        parents = tuple([_here.twins.get(x, x) for x in map(self._operand, inputs)])
        return self._node(rule.evaluate([p.data for p in parents], parents), rule, parents)

    def reduce(self: Any) -> Any:
        build, arguments = kind.__reduce__(self)
        return build, tuple(kind if x is stand_in else x for x in arguments)

    attributes = {name: method(name) for name, f in vars(Placeholder).items() if isinstance(f, FunctionType)}
    attributes |= {"_record": record, "__reduce__": reduce, "data": slot("data"), "grad": slot("grad")}
    del attributes["__init__"], attributes["_take"]  # a parameter is no index
    described = {name: getattr(kind, name) for name in ("__hash__", "__module__", "__qualname__")}
    stand_in = type(kind)(kind.__name__, (kind,), {**attributes, **described, "__slots__": ()})
    _stand_ins.add(stand_in)
    return stand_in


# --- Tracing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """What a function does to one example.

    nodes       every operation, as a placeholder, each after its parents
    outputs     its results, flat, in order; Placeholders or Values
    shape       how they were nested: () for one Value, (10,) for a list of ten
    inputs      per argument the placeholders of one example, flat
    names       per argument its name
    shapes      per argument the shape of one example
    parameters  the Values that are learned
    state       (object, attribute, value) of what the function read of modules, such as `training`
    loss        the place of the loss in the outputs; None if there are several numbers and none is the loss
    by_example  the runs of a trace by examples, else None: see `examples`
    """

    nodes: list[Placeholder]
    outputs: list[Value]
    shape: Any
    inputs: list[list[Placeholder]]
    names: list[str]
    shapes: Sequence[tuple[int, ...]]
    parameters: Sequence[Value]
    state: list[tuple[Any, str, Any]]
    loss: int | None
    by_example: Any = None

    def order(self) -> list[Value]:
        """The nodes and constants that the results need, each after its parents."""
        return topological_order(Placeholder.of(OUTPUTS, tuple(self.outputs)))[:-1]


class Tracer:
    """What is gathered while a function is traced: see `engine.watch`. It has no numbers.

    A list that is given as the tape gets the nodes.
    """

    def __init__(self, tape: list[Placeholder] | None = None) -> None:
        self.nodes: list[Placeholder] = [] if tape is None else tape
        self.refusals: list[TraceError] = []
        self.state: dict[tuple[int, str], tuple[Any, str, Any]] = {}
        self.tracked: list[Any] = []
        self.refuse = refuse

    def reads(self, thing: Any, name: str, now: Any) -> None:
        self.state.setdefault((id(thing), name), (thing, name, now))

    def data(self, node: Value) -> Any:
        """The number of a node."""
        refuse("the number of a placeholder was asked for", "Keep to operations on the Values themselves.")

    def same(self, node: Value, other: Any) -> bool:
        """Is a node equal to a number, or to another input?"""
        refuse(f"a placeholder was compared with {other!r} by ==", "Select by tg.where, or by a one-hot input.")

    def truth(self, node: Value) -> bool:
        """Is the number of a node not 0?"""
        refuse("a branch asks for the truth of a placeholder", SELECT)

    def run(
        self,
        function: Callable[..., Any],
        parameters: Sequence[Value],
        names: list[str],
        shapes: Sequence[tuple[int, ...]],
        inputs: list[list[Placeholder]],
        with_outputs: bool,
    ) -> Trace:
        """The trace of the function. `inputs` has the placeholders of each argument, flat."""
        outer, watch.tracer = watch.tracer, self
        try:
            with standing_in(dict.fromkeys(parameters, UNKNOWN)):
                result = function(*map(nested, self.arguments(inputs), shapes))
                first, result = (flat_values(result[0])[0], result[1]) if with_outputs else ([], result)
                outputs, shape = flat_values(result)  # which may still compute: a generator
                loss = _place_of_loss(result, shape)
            if self.refusals:
                raise self.refusals[0]  # the function has caught it
        except Exception as error:
            cause = self.refusals[0] if self.refusals else _explained(error)
            shown = ", ".join(map("{} {}".format, names, shapes))
            cause.add_note(
                f"It was traced on one example of the shapes {shown}: the first axis of a batch is left out."
            )
            if cause is error:
                raise
            raise cause from error
        finally:
            watch.tracer = outer
        state = list(self.state.values())
        return Trace(self.nodes, [*first, *outputs], shape, inputs, names, shapes, parameters, state, loss)

    def arguments(self, inputs: list[list[Placeholder]]) -> list[list[Any]]:
        """What the function gets, flat."""
        return [*inputs]


NOBODY = Tracer()  # answers for a placeholder that outlives its trace


def trace_function(
    function: Callable[..., Any],
    parameters: Sequence[Value],
    shapes: Sequence[tuple[int, ...]],
    with_outputs: bool = False,
    tape: list[Placeholder] | None = None,
) -> Trace:
    """The graph of function(*example), where the examples have these shapes. The parameters stay what they were.

    With with_outputs=True the function returns (loss, outputs): the loss is put before the outputs. A list that is
    given as the tape gets the nodes.

    Raises TraceError where the function asks for a number, even if the function catches it, and TypeError where
    it returns no Values.
    """
    names = argument_names(function, len(shapes))
    inputs = list(map(placeholders, names, shapes))
    return Tracer(tape).run(function, parameters, names, shapes, inputs, with_outputs)


def _explained(error: Exception) -> Exception:
    """The error itself, or a sentence for the one that NumPy raises for np.exp(placeholder)."""
    if not (isinstance(error, TypeError) and "__array_ufunc__" in str(error)):
        return error
    place = [place_of(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)][-1]
    return TraceError(
        f"While the function was traced, a function of NumPy was called with a placeholder{place}. NumPy computes "
        "with numbers only. Use the functions of tinygrad_edu, tg.exp(x) instead of np.exp(x)."
    )


def argument_names(function: Callable[..., Any], n: int) -> list[str]:
    """The names of the first n arguments of a function; x0, x1 ... where it does not say."""
    try:
        signature = inspect.signature(function)
        signature.bind(*[None] * n)
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [p.name for p in signature.parameters.values() if p.kind in kinds][:n]
    except TypeError:
        raise TypeError(
            f"The function takes {inspect.signature(function)}, and {n} arrays were given: one array per argument."
        ) from None
    except ValueError:  # a builtin without a signature
        names = []
    return [*names, *(f"x{i}" for i in range(len(names), n))]


def placeholders(name: str, shape: tuple[int, ...]) -> list[Placeholder]:
    """Placeholders for an argument of this shape, flat."""
    places = itertools.product(*map(range, shape))
    return [Placeholder(label=f"{name}{list(place) if shape else ''}") for place in places]


def nested(flat: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """The items of a flat list, nested as `shape` says; for () the only one."""
    if not shape:
        return flat[0]
    step = len(flat) // max(1, shape[0])
    return [nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


class Fields(dict[Any, Any]):
    """How a dict, or a tuple of unequal parts, is nested: the shape of each part. They follow each other."""


def flat_values(result: Any) -> tuple[list[Value], Any]:
    """The Values of a result in one list, and how they were nested: a shape, or Fields.

    Raises TypeError unless lists are as regular as an array.
    """
    if isinstance(result, Value):
        return [result], ()
    if isinstance(result, numbers.Real):  # also a bool, and a number that is tracked
        return [Value(float(result) if isinstance(result, int | bool) else result)], ()
    if isinstance(result, dict):
        return _flat_fields(result)
    if not isinstance(result, Iterable) or isinstance(result, str | bytes):
        raise TypeError(
            f"The function must return a Value or a list of them, got {result!r}: is a `return` missing?"
        )
    result = result if isinstance(result, tuple) else list(result)
    parts = [flat_values(item) for item in result]
    if parts and isinstance(result, tuple) and any(shape != parts[0][1] for _, shape in parts):
        return _flat_fields(dict(enumerate(result)))
    if not parts or any(shape != parts[0][1] or isinstance(shape, Fields) for _, shape in parts):
        raise TypeError(f"The function must return one Value, or lists of one length, got {result!r:.100}.")
    return [value for values, _ in parts for value in values], (len(parts), *parts[0][1])


def _flat_fields(result: dict[Any, Any]) -> tuple[list[Value], Fields]:
    parts = {key: flat_values(part) for key, part in result.items()}
    shapes = Fields((key, shape) for key, (_, shape) in parts.items())
    return [value for values, _ in parts.values() for value in values], shapes


def size_of(shape: Any) -> int:
    """How many numbers have this shape."""
    return sum(map(size_of, shape.values())) if isinstance(shape, Fields) else math.prod(shape)


def _place_of_loss(result: Any, shape: Any) -> int | None:
    """A function returns its loss alone, as the first of a tuple, or in a dict as "loss"."""
    if shape == ():
        return 0
    if isinstance(result, tuple):
        return 0 if size_of(flat_values(result[0])[1]) == 1 else None
    if isinstance(result, dict) and shape.get("loss") == ():
        keys = list(shape)
        return sum(size_of(shape[key]) for key in keys[: keys.index("loss")])
    return None
