"""Copies of compiled functions: a function is copied together with the Values that it uses."""

import copy
import pickle
import sys
from collections.abc import Sequence
from operator import attrgetter
from types import CellType, CodeType, FunctionType
from typing import Any

from ..engine.value import Value


def deep(function: Any, parameters: Sequence[Value], memo: dict[int, Any]) -> Any:
    """A deep copy of a function, with what it closes over and the globals that hold one of the parameters."""
    if not isinstance(function, FunctionType):
        return copy.deepcopy(function, memo)
    held, cells = holders(function, parameters), function.__closure__ or ()
    if not held and not cells:
        return function
    twin = rebound(function, {})
    memo[id(function)] = twin
    twin.__globals__.update(copy.deepcopy(held, memo))
    for old, new in zip(cells, twin.__closure__ or (), strict=True):
        inner = old.cell_contents
        new.cell_contents = deep(inner, parameters, memo) if id(inner) not in memo else memo[id(inner)]
    return twin


def holders(function: FunctionType, parameters: Sequence[Value]) -> dict[str, Any]:
    """The globals that a function names, as far as they hold one of the parameters."""
    own, known = set(parameters), function.__globals__
    return {
        name: known[name] for name in _names(function.__code__) if not own.isdisjoint(_values(known.get(name)))
    }


def rebound(function: FunctionType, held: dict[str, Any]) -> FunctionType:
    """The same function with other globals of these names, and with empty cells."""
    cells = tuple(CellType() for _ in function.__closure__ or ())
    twin = FunctionType(
        function.__code__, {**function.__globals__, **held}, function.__name__, function.__defaults__, cells
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__qualname__, twin.__module__ = function.__qualname__, function.__module__
    return twin


def check_picklable(function: Any, parameters: Sequence[Value]) -> None:
    """Raise PicklingError if pickle cannot find a function by its name, or not the parameters that it uses."""
    if not isinstance(function, FunctionType):
        return
    if by_name(function) is None:
        raise pickle.PicklingError(
            f"Pickle saves a function by its name, and cannot find {function.__qualname__}, which is a lambda or "
            "stands inside another function. Compile a function of a module, a method, a Module or a "
            "functools.partial."
        )
    reached = {value for held in holders(function, parameters).values() for value in _values(held)}
    if not reached.issuperset(parameters):
        raise pickle.PicklingError(
            f"Pickle saves {function.__qualname__} by its name, without the parameters that it uses. Give it the "
            "model as an argument, functools.partial(function, model), or as a global."
        )


def by_name(function: FunctionType) -> FunctionType | None:
    """The function that pickle finds under the name of this one; None if it is another."""
    try:
        found = attrgetter(function.__qualname__)(sys.modules[function.__module__])
    except (AttributeError, KeyError):
        return None
    return found if getattr(found, "__code__", None) is function.__code__ else None


def _names(code: CodeType) -> set[str]:
    inner = [part for part in code.co_consts if isinstance(part, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _values(x: Any) -> list[Value]:
    """The Values of an object: itself, those of a list or a dict, or the parameters of a model."""
    if isinstance(x, Value):
        return [x]
    if isinstance(x, dict):
        x = list(x.values())
    elif callable(getattr(x, "parameters", None)) and not isinstance(x, type):
        x = list(x.parameters())
    return [value for part in x for value in _values(part)] if isinstance(x, list | tuple) else []
