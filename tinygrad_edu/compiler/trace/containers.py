"""Containers: arguments that are no arrays, such as a dict, a dataclass, or lists of several lengths.

A form says how the numbers of one example are nested. Examples of one form are a batch: their numbers are arrays.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.dispatch import as_list
from .checks import check_sizes, not_numbers, single_number

Form = Any  # int or float for a number, (list or tuple, forms), (dict, keys, forms), (dataclass, names, forms)


def examples_of(argument: Any, name: str) -> list[Any]:
    """The examples of an argument; a dict or a dataclass of batches has one for each row."""
    if (fields := _fields(argument)) is not None:
        parts = {key: examples_of(part, f"{name}[{key!r}]") for key, part in fields.items()}
        check_sizes(list(parts), list(map(len, parts.values())))
        rows = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
        return rows if isinstance(argument, dict) else [dataclasses.replace(argument, **row) for row in rows]
    if isinstance(argument, Real):
        raise single_number(argument, name)
    if isinstance(argument, str) or not hasattr(argument, "__len__"):
        raise not_numbers(argument, name)
    return as_list(argument)


def _fields(x: Any) -> dict[Any, Any] | None:
    """The parts of a dict or a dataclass by their names; None for anything else."""
    if isinstance(x, dict):
        return x
    return {field.name: getattr(x, field.name) for field in dataclasses.fields(x)} if is_dataclass(x) else None


def opened(x: Any, name: str, numbers: dict[type, list[Any]]) -> Form:
    """The form of an example. Its numbers are added to `numbers`: whole ones under int, others under float.

    Raises TypeError for what is no real number.
    """
    x = x.tolist() if hasattr(x, "tolist") else x
    if (fields := _fields(x)) is not None:
        kind = dict if isinstance(x, dict) else type(x)
        return kind, tuple(fields), tuple(opened(part, name, numbers) for part in fields.values())
    if isinstance(x, list | tuple | range):
        return list if isinstance(x, range) else type(x), tuple(opened(part, name, numbers) for part in x)
    if not isinstance(x, Real):
        raise not_numbers(x, name)
    kind = int if isinstance(x, Integral) and not isinstance(x, bool) else float
    numbers[kind].append(x)
    return kind


def closed(form: Form, numbers: dict[type, Iterator[Any]]) -> Any:
    """Numbers nested as a form says."""
    if not isinstance(form, tuple):
        return next(numbers[form])
    kind, *names, parts = form
    items = [closed(part, numbers) for part in parts]
    if names:
        fields = dict(zip(*names, items, strict=True))
        return fields if kind is dict else kind(**fields)
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def shape_of(form: Form) -> tuple[int, ...] | None:
    """The shape of nested lists of one length and one kind of numbers; None for any other form."""
    if not isinstance(form, tuple):
        return ()
    kind, *names, parts = form
    shapes = {shape_of(part) for part in parts}
    if kind not in (list, tuple) or names or len(shapes) > 1 or None in shapes or len(_kinds(form)) > 1:
        return None
    return (len(parts), *next(iter(shapes), ()))  # type: ignore[misc]  # None is not in it


def _kinds(form: Form) -> list[type]:
    """The kinds of its numbers: int, float, or both. A form without numbers counts as float."""
    inner = set().union(*map(_kinds, form[-1])) if isinstance(form, tuple) else {form}
    return [kind for kind in (int, float) if kind in inner or (kind is float and not inner)]


@dataclasses.dataclass(eq=False)
class Part:
    """Examples of a batch that have one form in each argument: their rows, and their numbers as arrays."""

    forms: tuple[Form, ...]
    rows: list[int] = dataclasses.field(default_factory=list)
    numbers: list[list[dict[type, list[Any]]]] = dataclasses.field(default_factory=list)  # per row and argument

    @property
    def is_regular(self) -> bool:
        return all(shape_of(form) is not None for form in self.forms)

    def arrays(self) -> list[NDArray[Any]]:
        """One array for each argument that is regular, else one for its whole numbers and one for its others."""
        arrays = []
        for argument, form in enumerate(self.forms):
            shape = shape_of(form)
            for kind in _kinds(form):
                array = np.array([row[argument][kind] for row in self.numbers])
                arrays.append(array if shape is None else array.reshape(len(self.rows), *shape))
        return arrays

    def function(self, function: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
        """The same function of these arrays' rows."""
        own = [
            name if len(_kinds(form)) == 1 else f"{name}_{kind.__name__}"
            for name, form in zip(names, self.forms, strict=True)
            for kind in _kinds(form)
        ]

        def of_arrays(*arguments: Any) -> Any:
            left = iter(arguments)
            rebuilt = []
            for form in self.forms:
                if shape_of(form) is not None:
                    rebuilt.append(next(left))
                    continue
                rebuilt.append(closed(form, {kind: iter(next(left)) for kind in _kinds(form)}))
            return function(*rebuilt)

        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in own]
        of_arrays.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # names for the source
        return of_arrays


def parts_of(batch: Sequence[Any], names: Sequence[str], in_order: bool = False) -> list[Part]:
    """The examples of a batch by their forms, in the order in which these come. In order: neighbours alone.

    Raises TypeError for what is no real number, ValueError for an empty or uneven batch.
    """
    arguments = [examples_of(argument, name) for argument, name in zip(batch, names, strict=True)]
    check_sizes(names, list(map(len, arguments)))
    parts: dict[Any, Part] = {}
    before, n = None, 0
    for row, example in enumerate(zip(*arguments, strict=True)):
        numbers: list[dict[type, list[Any]]] = [{int: [], float: []} for _ in example]
        forms = tuple(opened(x, name, own) for x, name, own in zip(example, names, numbers, strict=True))
        key = tuple((shape_of(form), *_kinds(form)) if shape_of(form) is not None else form for form in forms)
        before, n = key, n + (in_order and key != before)
        part = parts.setdefault((n, key), Part(forms))
        part.rows.append(row)
        part.numbers.append(numbers)
    return list(parts.values())
