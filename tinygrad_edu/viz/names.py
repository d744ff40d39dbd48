"""What to call a Value that has no label: as the code that asked for the picture calls it."""

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from types import FrameType
from typing import Any

from ..engine.value import Value
from .words import visible

LONGEST = 10_000  # a list with more entries is data, not a handful of names
HISTORY = ("In", "Out")  # IPython's


def variables_in_sight(given: Mapping[Value, str] | None = None) -> Mapping[Value, str]:
    """Those that are given, or `callers_names` of the frame that called the function that calls this one."""
    if given is not None:
        if not isinstance(given, Mapping):
            raise TypeError(f"variables are a dict of Values and their names, got {given!r:.60}.")
        return given
    here = inspect.currentframe()
    try:
        return callers_names(here and here.f_back and here.f_back.f_back)
    finally:
        del here  # a frame that holds itself would live until the collector comes


def called(node: Value, variables: Mapping[Value, str]) -> str:
    """The label of a node, else the variable that holds it, else ""."""
    return str(node.label) if node.label else variables.get(node, "")


def names_of(order: Iterable[Value], variables: Mapping[Value, str]) -> dict[Value, str]:
    """What each node of a graph is called, told apart: its label, else its variable, with its place in the order
    where that is not enough: `x`, `#3`, `x#3`."""
    order = list(order)
    names = {node: called(node, variables) for node in order}
    owners = Counter(names.values())
    return {
        node: visible(name) if name and owners[name] == 1 else f"{visible(name)}#{place}"
        for place, (node, name) in enumerate(names.items())
    }


def callers_names(frame: FrameType | None) -> dict[Value, str]:
    """{Value: the name of a variable that holds it}, as seen from a frame: its local variables, then its globals.

    Lists, tuples and dicts of Values are searched two levels deep: `w[0]`, `W[1][0]`, `p['w']`. One that holds a
    Value and its operand is left out, since it lists a graph, as `topological_order(y)` does. Of several names the
    shortest is taken, of these the first. Names that start with an underscore are left out. This runs no code of
    the variables and changes no label.
    """
    names: dict[Value, str] = {}
    if frame is None:
        return names
    for scope in (frame.f_locals, frame.f_globals):
        here: dict[Value, str] = {}
        for variable, thing in list(scope.items()):
            is_name = isinstance(variable, str) and variable.isidentifier() and variable not in HISTORY
            if is_name and not variable.startswith("_"):
                for value, name in _inside(thing, variable, 2):
                    here[value] = min(here.get(value, name), name, key=len)
        names = here | names
    return names


def _inside(thing: Any, name: str, levels: int) -> Iterator[tuple[Value, str]]:
    kind = type(thing)  # not isinstance, which asks the thing for its __class__
    if issubclass(kind, Value):
        yield thing, name
    elif levels and kind in (list, tuple, dict) and len(thing) <= LONGEST:
        entries = list(thing.items() if kind is dict else enumerate(thing))
        for key, entry in () if _is_walk([entry for _, entry in entries]) else entries:
            if type(key) in (int, str):
                yield from _inside(entry, f"{name}[{key!r}]", levels - 1)


def _is_walk(entries: list[Any]) -> bool:
    values = {entry for entry in entries if issubclass(type(entry), Value)}
    return any(parent in values for value in values for parent in value.parents)
