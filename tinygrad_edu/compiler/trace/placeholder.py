"""Placeholder: a Value without a number. It records every operation, and refuses what would need the number."""

import linecache
import numbers
import operator
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any, NoReturn

from ...engine import elementary
from ...engine.operators import Operators
from ...engine.rule import Rule
from ...engine.rules import ADD, MUL, RULES
from ...engine.value import Value
from ...engine.watch import watch

PACKAGE = f"{Path(__file__).parents[2]}{os.sep}"
SELECT = "Select by tg.where(condition, a, b), max, min or relu."
WHOLE = "Compute indices outside of the function, and give them as an argument."
WHOLE_NUMBERS = ["invert"] + [
    f"{side}{name}"
    for name in ("and", "or", "xor", "lshift", "rshift", "floordiv", "divmod")
    for side in ("", "r")
]


class TraceError(TypeError):
    """The function needs a number that is not there yet: it branches, or reads `.data`, while it is traced."""


class NoFloatError(TraceError):
    """The function makes a float, which no Value becomes: it may run on plain numbers."""


def _choice(name: str, function: Callable[..., Any], n_inputs: int, symbol: str = "") -> Rule:
    """An operation without a gradient, since its result moves in steps. Only a trace records it."""
    return Rule(name, symbol or name, function, lambda upstream, out, *inputs: (0,) * len(inputs), n_inputs)


COMPARISONS = {
    name: _choice(name, getattr(operator, name), 2, symbol)
    for name, symbol in {"lt": "<", "le": "<=", "gt": ">", "ge": ">="}.items()
}
CHOICES = COMPARISONS | {
    name: _choice(name, getattr(elementary, name), n)
    for name, n in {"plain": 1, "sign": 1, "heaviside": 1, "equal": 2}.items()
}


def _take_backward(upstream: Any, out: Any, index: Any, *options: Any) -> tuple[Any, ...]:
    return 0, *(upstream if i == index else 0 for i in range(len(options)))


# options[index], by an index that is an input
TAKE = Rule("take", "[]", lambda index, *options: options[int(index)], _take_backward, None)
# an operation by hand: its number, and one of its slopes
GIVEN = Rule(
    "given", "by hand", lambda n, x, slope: n, lambda upstream, out, n, x, slope: (0, upstream * slope, 0), 3
)
OUTPUTS = _choice("outputs", lambda *inputs: inputs, 0)  # all results of the function as one node


def _refused(what: str, instead: str) -> Any:
    """A method that raises TraceError."""
    return lambda self, *args, **kwargs: refuse(what, instead)


class Constant(Value):
    """A number beside a placeholder. Nobody else has it, so it does not change."""

    __slots__ = ()


def _operand(x: Any) -> Value:
    """x beside a placeholder. Truth values count as 1 and 0 where the parameters' own class takes them."""
    if x.__class__ is float or x.__class__ is int:
        return Constant(x)
    return x if isinstance(x, Value) else Constant(getattr(watch.tracer, "kind", Value)(x).data)


class Placeholder(Value):
    """A number that is not known yet: an input of the compiled function, a parameter, or what is made of them."""

    __slots__ = ()

    def __init__(self, rule: Rule | None = None, left: Any = None, right: Any = None, label: str = ""):
        self.rule: Any = rule
        self._left, self._right = left, right
        self.label: str = label
        if tracer := watch.tracer:
            tracer.nodes.append(self)

    @staticmethod
    def of(rule: Rule, parents: tuple[Value, ...]) -> "Placeholder":
        left, right = (*parents, None, None)[:2] if 0 < len(parents) <= 2 else (parents, None)
        return Placeholder(rule, left, right)

    def become(self, rule: Rule, operands: tuple[Value, ...]) -> None:
        """Be the result of a rule, of these operands."""
        self.rule = rule
        self._left, self._right = (*operands, None)[:2] if len(operands) <= 2 else (operands, None)

    # --- What is recorded -----------------------------------------------------------------------------------

    def _record(self, rule: Rule, inputs: Any) -> "Placeholder":
        if len(inputs) != (rule.n_inputs or max(1, len(inputs))):
            raise TypeError(f"{rule.name} takes {rule.n_inputs or 'one or more'} input(s), got {len(inputs)}.")
        return Placeholder.of(rule, tuple(map(_operand, inputs)))

    def _apply(self, name: str, *inputs: Any, **parameters: Any) -> Any:
        rule = RULES.get(name) or CHOICES[name]
        return self._record(rule.bind(**parameters) if parameters else rule, inputs)

    def _take(self, options: Sequence[Any]) -> Any:
        """options[self] as one node; of rows, one node per column. Only a trace by examples computes an index."""
        if self.__class__ not in (Placeholder, WholeInput) or (
            self.rule is not None and not hasattr(watch.tracer, "both")
        ):
            refuse("an index was computed from a placeholder", "Give the index as an argument of its own.")
        if hasattr(options[0], "__len__"):
            return [self._take(column) for column in zip(*options, strict=True)]
        return self._record(TAKE, (self, *options))

    _operate = _apply

    def __add__(self, other: Any) -> "Placeholder":  # + and * written out: most nodes of a trace
        return Placeholder(ADD, self, _operand(other))

    def __mul__(self, other: Any) -> "Placeholder":
        return Placeholder(MUL, self, _operand(other))

    # --- What is refused ------------------------------------------------------------------------------------

    @property
    def data(self) -> Any:
        """Its number, which is asked of the trace."""
        return (watch.tracer or NOBODY).data(self)

    @data.setter
    def data(self, number: Any) -> NoReturn:
        refuse("a placeholder was given a number", "Change parameters outside of the function.")

    @property
    def grad(self) -> Any:
        """Its gradient, while the trace runs a closure that the function wrote by hand."""
        gradients = (watch.tracer or NOBODY).gradients
        if self not in gradients:
            refuse(
                "the gradient of a placeholder was asked for",
                "The compiled function gives gradients: value_and_grad.",
            )
        return gradients[self]

    @grad.setter
    def grad(self, number: Any) -> None:
        gradients = (watch.tracer or NOBODY).gradients
        if self in gradients:
            gradients[self] = number
        elif not (isinstance(number, numbers.Real) and number == 0):  # clearing it changes no result
            refuse("the gradient of a placeholder was set", "Clear gradients outside of the function.")

    def __getattr__(self, name: str) -> Any:
        """A method of the parameters' own class, such as `clip` of `tinygrad_edu.micrograd`."""
        method = getattr((watch.tracer or NOBODY).kind, name, None)
        if name[:2] == "__" or not isinstance(method, FunctionType):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return method.__get__(self)

    def __eq__(self, other: object) -> Any:
        """Is it this node? A number never is, so asking for one is a mistake. Truth values may be equal."""
        is_truth = isinstance(other, numbers.Real) or getattr(other, "rule", None) in COMPARISONS.values()
        if self.rule in COMPARISONS.values() and is_truth and self is not other:
            return self._record(CHOICES["equal"], (self, getattr(other, "node", other)))
        two_inputs = all(x.__class__ in INPUTS and x.rule is None for x in (self, other))
        if self is not other and isinstance(other, Value) and TAKE in (self.rule, other.rule):
            return (watch.tracer or NOBODY).same(self, other)
        if self is not other and (
            two_inputs or (isinstance(other, numbers.Real) and not isinstance(other, Value))
        ):
            return (watch.tracer or NOBODY).same(self, other)
        return self is other

    __hash__: Callable[..., int] = Value.__hash__

    def __bool__(self) -> bool:
        return bool((watch.tracer or NOBODY).truth(self))

    def __float__(self) -> float:
        refuse(
            "a placeholder was to become a float",
            "Use the functions of tinygrad_edu, tg.exp(x) instead of math.exp(x): a float has no gradient.",
            NoFloatError,
        )

    __index__: Any = _refused(
        "a placeholder was used as an index",
        "Give whole numbers, an array of ints, for an argument that is an index. One that is computed from other "
        "numbers, or of a module of JavaScript, needs tg.take(xs, index), nn.Embedding or a one-hot input.",
    )
    __int__: Any = __index__
    __trunc__: Any = __index__
    __floor__: Any = __index__
    __ceil__: Any = __index__
    __round__: Any = _refused("a placeholder was to be rounded", "Rounding has no gradient; do it outside.")
    rint: Any = __round__
    __copy__: Any = _refused("a placeholder was to be copied", "Copy the model before it is traced.")
    __deepcopy__: Any = __copy__
    __reduce__: Any = __copy__
    backward: Any = _refused("backward() was called", "Return the loss: the compiled function runs backward.")

    def __repr__(self) -> str:
        return f"<placeholder {self.label}>" if self.label else f"<placeholder of {self._op}>"

    def __format__(self, spec: str) -> str:
        return repr(self)


class WholeInput(Placeholder):
    """A whole number among the inputs. A dict or a set of the user would find it as a node, not by its number."""

    __slots__ = ()

    def __hash__(self) -> int:
        if not sys._getframe(1).f_code.co_filename.startswith(PACKAGE):
            refuse("a whole number was used as the key of a dict or a set", WHOLE)
        return Value.__hash__(self)


INPUTS = (Placeholder, WholeInput)  # the parameters have a class of their own


def _method(rule: Rule) -> Callable[..., Any]:
    return lambda self, **parameters: self._apply(rule.name, self, **parameters)


for _name in WHOLE_NUMBERS:
    setattr(Placeholder, f"__{_name}__", _refused("a placeholder was used as a whole number", WHOLE))

# Value writes some operators and all methods out, with its numbers; here each is recorded.
for _name, _operator in vars(Operators).items():
    if callable(_operator) and _name not in vars(Placeholder):
        setattr(Placeholder, _name, _operator)
for _name, _rule in RULES.items():
    if _rule.n_inputs == 1 and callable(getattr(Value, _name, None)):
        setattr(Placeholder, _name, _method(_rule))


def refuse(what: str, instead: str, kind: type[TraceError] = TraceError) -> NoReturn:
    """Raise a TraceError with the line of the user's code that needs the number. The trace remembers it."""
    *_, frame = users_frame()
    error = kind(
        f"While the function was traced, {what}{place_of(frame)}. The compiled form must hold for "
        f"every example. {instead}"
    )
    if watch.tracer:
        watch.tracer.refusals.append(error)
    else:
        error.add_note("If another thread compiles a function of this Value at this moment, wait for it.")
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


class Answers:
    """The answers to a placeholder that is asked for its number: here none is known."""

    def __init__(self) -> None:
        self.kind: Any = Value  # the class of the parameters
        self.printing: bool = False  # is text only printed?
        self.gradients: dict[Any, Any] = {}  # of the Values that a closure by hand reads and sets

    def data(self, node: Value) -> Any:
        """The number of a node."""
        refuse("the number of a placeholder was asked for", "Keep to operations on the Values themselves.")

    def same(self, node: Value, other: Any) -> bool:
        """Is a node equal to a number, or to another input?"""
        refuse(f"a placeholder was compared with {other!r} by ==", "Select by tg.where, or by a one-hot input.")

    def truth(self, node: Value) -> bool:
        """Is the number of a node not 0?"""
        refuse("a branch asks for the truth of a placeholder", SELECT)


NOBODY = Answers()  # for a placeholder that outlives its trace, or is met in another thread
