"""What an operation declares, and how it is applied.

A call applies a rule to plain numbers, arrays or Values. An input with a method `_record(rule, inputs)`, such as a
Value, records the operation itself, so this file does not import Value.
"""

import functools
from collections.abc import Callable, Iterable
from math import inf
from types import FunctionType, SimpleNamespace
from typing import Any, Literal, TypeVar, overload

from .dispatch import is_array, is_row
from .operators import Operators
from .refusals import no_number

RULES: dict[str, "Rule"] = {}
N = TypeVar("N", bound=Operators)  # a Value, or another number that records


class Interval:
    """The numbers that one input may be, from low to high; without the ends if it is `open`.

    inf is accepted too, since overflow gives it, and nan stays nan.
    """

    def __init__(self, low: float = -inf, high: float = inf, open: bool = False):
        if not (hasattr(low, "__neg__") and hasattr(high, "__neg__")):
            raise TypeError(f"An Interval ends at two numbers, got {low!r:.60} and {high!r:.60}.")
        self.low: float = low
        self.high: float = high
        self.open: bool = open

    def __contains__(self, x: Any) -> bool:
        if x != x:  # nan in, nan out: no error
            return True
        at_end = x in (self.low, self.high) and (not self.open or abs(x) == inf)
        return bool(at_end or self.low < x < self.high)

    def typical(self, usual: float) -> float:
        """The usual number if it is inside, else the middle, or the number 1 from the only end."""
        if usual in self:
            return usual
        ends = [end for end in (self.low + 1, self.high - 1) if abs(end) < inf]
        return sum(ends) / len(ends)

    def __str__(self) -> str:
        less = " < " if self.open else " <= "
        low = f"{self.low:g}{less}" if self.low > -inf else ""
        high = f"{less}{self.high:g}" if self.high < inf else ""
        return f"{low}x{high}"

    def __repr__(self) -> str:
        return f"Interval({self.low!r}, {self.high!r}, open={self.open})"


def _with(function: Any, parameters: dict[str, Any]) -> Any:
    """The function with these keyword arguments as its defaults: a call takes half the time of a partial's."""
    code = getattr(function, "__code__", None)
    if code is None or set(parameters) != {*code.co_varnames[code.co_argcount :][: code.co_kwonlyargcount]}:
        return functools.partial(function, **parameters)
    bound = FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    bound.__kwdefaults__ = parameters
    return bound


class Rule:
    """One operation. Call it with numbers, arrays or Values: `tanh(0.5)`, `tanh(Value(0.5))`.

    The first five fields are always given, the others by name. `declared` has them as they were given; in forward,
    backward and symbol the parameters are put in. Raises TypeError for an unknown field.
    """

    name: str  # what errors call it
    symbol: str  # and pictures
    forward: Callable[..., Any]  # forward(*inputs) -> out
    backward: Callable[..., Any]  # backward(upstream, out, *inputs) -> one share per input
    n_inputs: int | None  # None for a reduction: any number of inputs, one sequence, or the last axis of an array
    domain: tuple[Interval, ...] = ()  # one interval per input, () for all numbers
    kinks: tuple[float, ...] = ()  # the points where a rule of one input has two slopes
    ties: bool = False  # do equal inputs make a kink?
    check: Callable[..., None] | None = None  # raises where no interval describes the domain; its docstring does
    formula: str = ""  # forward and its slopes as text, for help, the prompt and the table of operations
    slope: str = ""
    parameters: dict[str, Any] = {}  # noqa: RUF012  # alpha, an exponent: not inputs, so no gradient reaches them
    called: Literal["method", "function", "otherwise", ""] = ""  # x.tanh() and tanh(x); max(x, y); x + y
    template: str = ""  # expressions of random programs, a to d being -4 to 4: "a * b / 4; a * a / 4"
    ulps: tuple[float, float] | None = None  # the error of value and slope at any float, certified by `prove_rule`
    example: tuple[float, ...] = ()  # inputs inside the domain, for tables
    by_hand: bool = False  # did a program write the operation for one value of its operands? See micrograd

    def __init__(
        self,
        name: str,
        symbol: str,
        forward: Callable[..., Any],
        backward: Callable[..., Any],
        n_inputs: int | None,
        **declared: Any,
    ):
        if unknown := declared.keys() - Rule.__annotations__.keys():
            raise TypeError(f"A rule has no field {', '.join(sorted(unknown))}: see help(tinygrad_edu.Rule).")
        self.declared: Any = SimpleNamespace(
            name=name, symbol=symbol, forward=forward, backward=backward, n_inputs=n_inputs, **declared
        )
        vars(self).update(vars(self.declared))
        self.parameters = self.parameters or {}
        shown = {key: f"({x})" if "/" in str(x) else x for key, x in self.parameters.items()}  # x**(1/2)
        self.symbol = self.symbol.format(**shown)
        if self.parameters:
            self.forward, self.backward = (_with(f, self.parameters) for f in (self.forward, self.backward))
        self.called = self.called or ("method" if self.n_inputs == 1 else "function")
        n = self.n_inputs or 2
        usual = zip((0.5, 2.0, 1.5) * n, (*self.domain, *[Interval()] * n), strict=False)
        self.example = self.example or tuple(interval.typical(x) for x, interval in usual)[:n]
        self.__name__: str = self.name
        self.__wrapped__: Any = self.forward  # help() shows its signature
        self.__doc__ = (
            f"{self._call} = {self.formula or '...'}\n\nSlope:   {self.slope or 'see backward'}\n"
            f"Domain:  {self.defined_for}\nKinks:   {self._kinks or 'none'}\n\n"
            "Takes numbers, arrays or Values. A Value among the inputs gives a Value.\n"
            "Raises TypeError for anything else, ValueError or ZeroDivisionError outside the domain."
        )

    @overload
    def __call__(self, *inputs: float, **parameters: Any) -> float: ...
    @overload
    def __call__(self, *inputs: N | float, **parameters: Any) -> N: ...
    @overload
    def __call__(self, inputs: Iterable[float], /) -> float: ...  # type: ignore[overload-overlap]  # if empty
    @overload
    def __call__(self, inputs: Iterable[N | float], /) -> N: ...
    @overload
    def __call__(self, *inputs: Any, **parameters: Any) -> Any: ...
    def __call__(self, *inputs: Any, **parameters: Any) -> Any:
        if parameters:
            return self.bind(**parameters)(*inputs)
        if self.n_inputs is None and len(inputs) == 1 and is_row(inputs[0]):
            row = inputs[0]  # of Values, also in an array, they are the inputs of one node
            inputs = inputs if is_array(row) and (row.ndim > 1 or row.dtype != object) else tuple(row)
        for x in inputs:
            if hasattr(x, "_record"):
                return x._record(self, inputs)
            if not hasattr(x, "__neg__"):  # max("ab") would be no error
                fix = f"For a list, call {self.name} on each element." if self.n_inputs else "Pass one flat list."
                raise no_number(f"{self.name} takes real numbers, arrays or Values", x, fix)
        return self.evaluate(inputs, inputs)

    @property
    def ours(self) -> bool:
        """Does this package declare the rule?"""
        return str(self.declared.backward.__module__).startswith("tinygrad_edu.")

    @property
    def defined_for(self) -> str:
        """The domain as text."""
        return ", ".join(map(str, self.domain)) or (self.check and self.check.__doc__) or "all numbers"

    @property
    def _kinks(self) -> str:
        return ", ".join(f"x = {kink:g}" for kink in self.kinks) or ("equal inputs" if self.ties else "")

    @property
    def _call(self) -> str:
        code = getattr(self.declared.forward, "__code__", None)
        names = code.co_varnames[: self.n_inputs] if code and self.n_inputs else ("x", "y")[: self.n_inputs or 0]
        return f"{self.name}({', '.join(names) or 'x1, x2, ...'}{self._bound_as})"

    def bind(self, **parameters: Any) -> "Rule":
        """The same operation with other parameters: `leaky_relu.bind(alpha=0.2)`.

        Raises TypeError for an unknown parameter.
        """
        unknown = parameters.keys() - self.parameters
        if unknown:
            raise TypeError(f"{self.name} has no parameter {sorted(unknown)}; it has {sorted(self.parameters)}.")
        for name, x in parameters.items():
            if hasattr(self.parameters[name], "__neg__") and not hasattr(x, "__neg__"):
                raise no_number(f"{self.name} takes a number as {name}", x)
        parameters = {**self.parameters, **parameters}
        if parameters == self.parameters:
            return self
        kinds = tuple(map(type, parameters.values()))  # 0.5 and mpf(0.5) are equal keys, but not one rule
        return _bound(RULES[self.name], tuple(parameters.items()), kinds)

    def replace(self, **fields: Any) -> "Rule":
        """The same rule with other fields: `rule.replace(backward=...)`."""
        return Rule(**vars(self.declared) | fields)

    def evaluate(self, inputs: Any, operands: Any) -> Any:
        """forward(*inputs). Raises TypeError for a wrong number of inputs.

        Raises ValueError or ZeroDivisionError outside the domain; the message shows the operands.
        """
        if len(inputs) != (self.n_inputs or max(1, len(inputs))):
            needs = f"{self.n_inputs or 'one or more'} input(s), got {len(inputs)}"
            raise TypeError(f"{self.name} takes {needs}{'' if self.n_inputs else ': an empty list has none'}.")
        try:
            for x, interval in zip(inputs, self.domain, strict=False):
                if not is_array(x) and x not in interval:
                    raise ValueError(f"it is defined for {interval} only")
            if self.check and not any(map(is_array, inputs)):
                self.check(*inputs, **self.parameters)
            return self.forward(*inputs)
        except (ValueError, ArithmeticError) as error:
            raise type(error)(f"{self.name}({', '.join(map(repr, operands))}{self._bound_as}): {error}") from None

    def shares(self, upstream: Any, out: Any, *inputs: Any) -> Any:
        """backward(upstream, out, *inputs), after a check that there is one share per input."""
        return self.counted(self.backward(upstream, out, *inputs), len(inputs))

    def counted(self, shares: Any, n: int) -> Any:
        """The shares of n inputs, as a tuple or a list. Raises TypeError unless there are n."""
        if not isinstance(shares, tuple | list) or len(shares) != n:
            if is_array(shares) and shares.shape == (n,):
                return shares.tolist()
            raise TypeError(f"backward of {self.name} must return {n} share(s), one per input, got {shares!r}.")
        return shares

    @property
    def _bound_as(self) -> str:
        """The parameters as they follow other arguments in a call."""
        return "".join(f", {name}={value!r}" for name, value in self.parameters.items())

    def __repr__(self) -> str:
        formula, slope = self.formula or "...", self.slope or "..."
        kinks = f"kink at {self._kinks}" if self._kinks else "no kink"
        return f"<{self._call} = {formula}; slope {slope}; domain: {self.defined_for}; {kinks}>"

    def __str__(self) -> str:
        return f"Rule({self.name!r}{self._bound_as})"

    def __reduce__(self) -> Any:
        return _restored, (self.name, tuple(self.parameters.items()))


def _restored(name: str, parameters: tuple[Any, ...]) -> Rule:
    if name not in RULES:
        raise LookupError(f"No rule is named {name!r}: import the module that declares it, then load again.")
    return RULES[name].bind(**dict(parameters)) if parameters else RULES[name]


@functools.lru_cache(maxsize=1024)
def _bound(rule: Rule, parameters: tuple[Any, ...], kinds: tuple[type, ...]) -> Rule:
    return rule.replace(parameters=dict(parameters))


@overload
def rule(forward: Callable[..., Any], /, *, backward: Callable[..., Any], **declared: Any) -> Rule: ...
@overload
def rule(*, backward: Callable[..., Any], **declared: Any) -> Callable[[Callable[..., Any]], Rule]: ...
def rule(
    forward: Any = None, /, *, backward: Callable[..., Any], name: str = "", symbol: str = "", **declared: Any
) -> Any:
    """Declare an operation: `rule(forward, backward=...)`, or `@rule(backward=...)` above the forward function.

    forward(*inputs) -> out and backward(upstream, out, *inputs) -> one share per input are written with operators
    and `tinygrad_edu.elementary`, so that they run on floats, arrays and Values alike. Keyword-only arguments of
    forward are parameters, and backward takes them too. The other fields of `Rule` may be given by name; without a
    formula, the first line of forward's docstring is shown.

    Returns the Rule: `mish(0.5)`, `mish(Value(0.5))`. Raises ValueError if the name belongs to a rule from another
    module, or for kinks of several inputs, TypeError if the inputs of forward cannot be counted, or a field is
    unknown or of another kind.
    """
    if forward is None:
        return functools.partial(rule, backward=backward, name=name, symbol=symbol, **declared)
    if not (callable(forward) and callable(backward)):
        raise TypeError(f"A rule has a forward and a backward function, got {forward!r:.60}, {backward!r:.60}.")
    domain = declared.get("domain", ())
    if not (isinstance(domain, tuple | list) and all(isinstance(x, Interval) for x in domain)):
        raise TypeError(f"domain has one Interval for each input, as in (Interval(0, 1),), got {domain!r:.60}.")
    name = name or forward.__name__.strip("_")
    if name in RULES and RULES[name].declared.forward.__module__ != forward.__module__:
        raise ValueError(f"A rule named {name!r} exists already: give yours another name.")
    declared_as = getattr(forward, "__wrapped__", forward)  # under a decorator such as functools.cache
    code = getattr(declared_as, "__code__", None)
    if "n_inputs" not in declared:
        if code is None:
            raise TypeError(f"{name} is not a Python function, so its inputs cannot be counted: add n_inputs=...")
        declared["n_inputs"] = None if code.co_flags & 4 else code.co_argcount  # 4: it is forward(*inputs)
    if declared.get("kinks") and declared["n_inputs"] != 1:
        raise ValueError(f"kinks= are points of one input, and {name} has several: declare ties=True, or none.")
    parameters = getattr(declared_as, "__kwdefaults__", None)
    declared.setdefault("formula", (forward.__doc__ or "").partition("\n")[0])
    RULES[name] = Rule(name, symbol or name, forward, backward, parameters=parameters, **declared)
    return RULES[name]
