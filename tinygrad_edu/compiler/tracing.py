"""Trace: run the function once on placeholders, and keep the graph of what it did.

A Placeholder is a Value without a number. It records every operation, and refuses what would need the number: the
compiled form must hold for every example and for all parameters, so nothing may depend on one of them. While the
function runs, its parameters are placeholders too: they change their class, keep their identity, and get both
their class and their numbers back at the end.
"""

import inspect
import itertools
import linecache
import numbers
import operator
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..engine import elementary
from ..engine.operators import Operators
from ..engine.rule import Rule
from ..engine.rules import ADD, MUL, RULES
from ..engine.value import Value

PACKAGE = str(Path(__file__).parents[1])


class TraceError(TypeError):
    """The function needs a number that is not there yet: it branches, or reads `.data`, while it is traced."""


def _no_slope(upstream: Any, out: Any, *inputs: Any) -> tuple[int, ...]:
    return (0,) * len(inputs)


def _choice(name: str, function: Callable[..., Any], n_inputs: int, symbol: str = "") -> Rule:
    """An operation whose result moves in steps, so that no gradient passes: recorded here only."""
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


# Every placeholder of the trace that runs, each after its parents; `trace` puts a new list here.
_tape: list[Any] = []


class Placeholder(Value):
    """A number that is not known yet: an input of the compiled function, a parameter, or what is made of them."""

    __slots__ = ()

    def __init__(self, rule: Rule | None = None, left: Any = None, right: Any = None, label: str = ""):
        self.rule, self._left, self._right, self.label = rule, left, right, label
        _tape.append(self)

    @staticmethod
    def of(rule: Rule, parents: tuple[Value, ...]) -> "Placeholder":
        left, right = (*parents, None, None)[:2] if 0 < len(parents) <= 2 else (parents, None)
        return Placeholder(rule, left, right)

    # --- What is recorded -----------------------------------------------------------------------------------

    def _record(self, rule: Rule, inputs: Any) -> "Placeholder":
        if len(inputs) != (rule.n_inputs or max(1, len(inputs))):
            raise TypeError(f"{rule.name} takes {rule.n_inputs or 'one or more'} input(s), got {len(inputs)}.")
        return Placeholder.of(rule, tuple(x if isinstance(x, Value) else Value(x) for x in inputs))

    def _apply(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        rule = RULES.get(name) or CHOICES[name]
        return self._record(rule.bind(**parameters) if parameters else rule, inputs)

    def _pick(self, options: Sequence[Any]) -> Any:
        """options[self] as one node; of rows, number by number."""
        if hasattr(options[0], "__len__"):
            return [self._pick(column) for column in zip(*options, strict=True)]
        return self._record(TAKE, (self, *options))

    _operate = _apply

    def __add__(self, other: Any) -> "Placeholder":  # + and * written out: most nodes of a trace
        return Placeholder(ADD, self, other if isinstance(other, Value) else Value(other))

    def __mul__(self, other: Any) -> "Placeholder":
        return Placeholder(MUL, self, other if isinstance(other, Value) else Value(other))

    # --- What is refused ------------------------------------------------------------------------------------

    @property
    def data(self) -> NoReturn:
        refuse("the number of a placeholder was asked for", "Keep to operations on the Values themselves.")

    @data.setter
    def data(self, number: Any) -> NoReturn:
        refuse("a placeholder was given a number", "Change parameters outside of the function.")

    @property
    def grad(self) -> NoReturn:
        refuse(
            "the gradient of a placeholder was asked for", "The compiled function gives gradients: value_and_grad."
        )

    @grad.setter
    def grad(self, number: Any) -> NoReturn:
        refuse("the gradient of a placeholder was set", "Clear gradients outside of the function.")

    def __eq__(self, other: object) -> bool:
        """Is it this very node? Asking whether a number equals it would always be answered by no."""
        if isinstance(other, numbers.Real) and not isinstance(other, Value):
            refuse(
                f"a placeholder was compared with {other!r} by ==", "Select by tg.where, or by a one-hot input."
            )
        return self is other

    __hash__ = Value.__hash__

    def __bool__(self) -> NoReturn:
        refuse(
            "a branch asks for the truth of a placeholder",
            "Select by tg.where(condition, a, b), max, min or relu.",
        )

    def __float__(self) -> NoReturn:
        refuse(
            "a placeholder was to become a float",
            "Use the functions of tinygrad_edu, tg.exp(x) instead of math.exp(x): a float has no gradient.",
        )

    def __index__(self) -> NoReturn:
        refuse("a placeholder was used as an index", "Use nn.Embedding, a one-hot input, or tg.where.")

    def __round__(self, digits: int = 0) -> NoReturn:
        refuse("a placeholder was to be rounded", "Rounding has no gradient; do it outside.")

    __int__ = __trunc__ = __floor__ = __ceil__ = __index__

    def backward(self, upstream: Any = 1.0, check: bool = False) -> NoReturn:
        refuse("backward() was called", "Return the loss: the compiled function runs backward.")

    def __repr__(self) -> str:
        return f"<placeholder {self.label}>" if self.label else f"<placeholder of {self._op}>"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> NoReturn:
        refuse("a placeholder was to be copied", "Copy the model before it is traced.")

    __copy__ = __reduce__ = __deepcopy__  # type: ignore[assignment]


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
    """Raise TraceError with the line of the user's code that needs the number."""
    frame: Any = sys._getframe(1)
    while frame and frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    place = ""
    if frame:
        name, line = frame.f_code.co_filename, frame.f_lineno
        text = linecache.getline(name, line).strip()
        place = f" in line {line} of {name}" + (f": `{text}`" if text else "")
    raise TraceError(
        f"While the function was traced, {what}{place}. The compiled form must hold for every example. {instead}"
    )


# --- Tracing --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """What a function does to one example.

    nodes       every placeholder that was made, each after its parents
    outputs     its results, flat, in order; Placeholders or Values
    shape       how they were nested: () for one Value, (10,) for a list of ten
    inputs      per argument the placeholders of one example, flat
    names       per argument its name
    shapes      per argument the shape of one example
    parameters  the Values that are learned
    """

    nodes: list[Placeholder]
    outputs: list[Value]
    shape: tuple[int, ...]
    inputs: list[list[Placeholder]]
    names: list[str]
    shapes: list[tuple[int, ...]]
    parameters: list[Value]


def trace_function(
    function: Callable[..., Any],
    parameters: Sequence[Value],
    shapes: Sequence[tuple[int, ...]],
    with_outputs: bool = False,
) -> Trace:
    """The graph of function(*example), where the examples have these shapes. The parameters stay what they were.

    With with_outputs=True the function returns (loss, outputs): the loss is put before the outputs.

    Raises TraceError where the function asks for a number, TypeError where it returns no Values.
    """
    global _tape
    names, outer, _tape = argument_names(function, len(shapes)), _tape, []
    arguments = [_placeholders(name, shape) for name, shape in zip(names, shapes, strict=True)]
    kinds = [type(parameter) for parameter in parameters]
    try:
        for parameter in parameters:
            _make_placeholder(parameter)
        result = function(*[nested for nested, _ in arguments])
        loss, result = (flat_values(result[0])[0], result[1]) if with_outputs else ([], result)
        outputs, shape = flat_values(result)  # which may still compute: a generator
    except Exception as error:
        shown = ", ".join(f"{name} {shape}" for name, shape in zip(names, shapes, strict=True))
        error.add_note(
            f"It was traced on one example of the shapes {shown}: the first axis of a batch is left out."
        )
        raise
    finally:
        nodes, _tape = _tape, outer
        for parameter, kind in zip(parameters, kinds, strict=True):
            parameter.__class__ = kind
    return Trace(
        nodes, [*loss, *outputs], shape, [flat for _, flat in arguments], names, list(shapes), list(parameters)
    )


def _make_placeholder(parameter: Value) -> None:
    """Change the class in place: model and optimiser hold this very object. The slots, and so the data, stay."""
    try:
        parameter.__class__ = Placeholder
    except TypeError:
        raise TypeError(
            f"{parameter!r} is of the class {type(parameter).__name__}, which has attributes of its own and "
            "cannot become a placeholder: give the class `__slots__ = ()`, or make the parameter a Value."
        ) from None


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


def _placeholders(name: str, shape: tuple[int, ...]) -> tuple[Any, list[Placeholder]]:
    """Placeholders nested as `shape` says, and the same in one list."""
    if not shape:
        one = Placeholder(label=name)
        return one, [one]
    flat = [
        Placeholder(label=f"{name}{list(place)}") for place in itertools.product(*(range(size) for size in shape))
    ]
    return nested(flat, shape), flat


def nested(flat: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """The items of a flat list, nested as `shape` says; for () the only one."""
    if not shape:
        return flat[0]
    step = len(flat) // max(1, shape[0])
    return [nested(flat[i * step : (i + 1) * step], shape[1:]) for i in range(shape[0])]


def flat_values(result: Any) -> tuple[list[Value], tuple[int, ...]]:
    """The Values of a result in one list, and how they were nested. Raises unless it is as regular as an array."""
    if isinstance(result, Value):
        return [result], ()
    if isinstance(result, int | float) and not isinstance(result, bool):
        return [Value(result)], ()
    if not isinstance(result, Iterable) or isinstance(result, str | bytes | dict):
        raise TypeError(
            f"The function must return a Value or a list of them, got {result!r}: is a `return` missing?"
        )
    parts = [flat_values(item) for item in result]
    if not parts or any(shape != parts[0][1] for _, shape in parts):
        raise TypeError(f"The function must return one Value, or lists of one length, got {result!r:.100}.")
    return [value for values, _ in parts for value in values], (len(parts), *parts[0][1])
