"""Items: `table[i]`, where i is a whole number of the example, becomes an operation `take`.

The items are Values, plain numbers, or rows of them that are all alike. Of anything else, such as layers or text,
the number becomes a plain one, and a part of the path.
"""

import sys
from collections.abc import Sequence
from numbers import Real
from typing import Any, NoReturn

from ...engine.dispatch import is_array
from ...engine.graph import topological_order
from ...engine.rules import RULES
from ...engine.value import Value
from ...engine.watch import watch
from .placeholder import TAKE, Placeholder, refuse
from .tracked import Tracked, is_whole

MANY = 200_000  # items of items: of longer tables the number becomes a plain one


class ChosenRow(list[Any]):
    """A row that a number of the example has chosen. It is none of the table's rows, so it must not be changed."""

    index: Any = None
    table: Any = None


def _changed(row: ChosenRow, *_: Any, **__: Any) -> NoReturn:
    refuse("a row that a number of the example has chosen was changed", "Change a copy: row = list(table[i]).")


CHANGES = "append clear extend insert pop remove reverse sort __delitem__ __iadd__ __imul__ __setitem__"
for _name in CHANGES.split():
    setattr(ChosenRow, _name, _changed)


def item(items: Any, key: Any) -> Any:
    """items[key], where the key may be a whole number of the example, or hold such numbers."""
    if not hasattr(watch.tracer, "both"):
        return items[key]
    key = itself(key)
    if is_array(items):
        from .arrays import followed  # NumPy is there
    if isinstance(key, Tracked):
        row = _item(items, key) if key.whole and _is_plain(items) else items[key]
        return followed(row) if isinstance(row, ChosenRow) and is_array(items) else row
    if is_array(items) and isinstance(key, tuple) and key and not is_array(key[0]):
        row = item(items, key[0])
        return item(row, key[1:] if key[2:] else key[1]) if key[1:] else row
    rows = is_array(items) and (isinstance(key, list) or (is_array(key) and key.dtype == object))
    if rows and any(isinstance(k, Tracked) for k in key):
        return followed([item(items, k) for k in key])
    return items[key]


def _is_plain(items: Any) -> bool:
    """Is it a list, a tuple or an array, with [] as these have it?"""
    kinds = (list, tuple, *([sys.modules["numpy"].ndarray] if is_array(items) else []))
    return getattr(type(items), "__getitem__", None) in [kind.__getitem__ for kind in kinds]


def _item(items: Any, key: Tracked) -> Any:
    tracer: Any = watch.tracer
    number, n = key.number, len(items)
    wraps = any(x.rule in (RULES["sub"], RULES["neg"]) for x in topological_order(key.node))
    if not -n * wraps <= number < n or n == 1:
        return items[key]
    rows = items.tolist() if is_array(items) else items
    if _size(rows) > MANY or not _are_alike(rows):
        return items[key]
    if key.node.rule:
        tracer.inside(key.node, n, -n * wraps)
    return _taken((key % n if wraps else key).node, rows)  # Python counts from the end


def _size(rows: Any) -> int:
    return len(rows) * (_size(rows[0]) if rows and isinstance(rows[0], list | tuple) else 1)


def _are_alike(rows: Sequence[Any]) -> bool:
    """Are all of them numbers, or rows of one length and kind, which are alike?"""
    if all(isinstance(x, Value | Real) for x in rows):
        return True
    kinds = {(type(x), len(x)) if isinstance(x, list | tuple) else None for x in rows}
    return len(kinds) == 1 and None not in kinds and all(map(_are_alike, zip(*rows, strict=True)))


def _taken(index: Value, rows: Sequence[Any]) -> Any:
    first = rows[0]
    if isinstance(first, list | tuple):
        columns = [_taken(index, column) for column in zip(*rows, strict=True)]
        if isinstance(first, list):
            row = ChosenRow(columns)
            row.index, row.table = index, rows
            return row
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    plain = not any(isinstance(x, Value | Tracked) for x in rows)
    if all(x is first for x in rows) or (plain and len(set(map(repr, rows))) == 1):
        return first
    options = [x if isinstance(x, Value) else x.node if isinstance(x, Tracked) else Value(x) for x in rows]
    node = Placeholder.of(TAKE, (index, *options))
    if any(isinstance(x, Value) for x in rows):
        return node
    return Tracked(node, all(map(is_whole, rows)))


def itself(x: Any) -> Any:
    """The item of a table that x stands for, when it is asked which one it is: then its number is a plain one."""
    if not hasattr(watch.tracer, "both"):
        return x
    while isinstance(x, ChosenRow) or (isinstance(x, Placeholder) and x.rule is TAKE):
        index, *table = (x.index, *x.table) if isinstance(x, ChosenRow) else x.parents
        x = table[watch.tracer.pinned(index)]
    return x


def is_same(x: Any, y: Any) -> bool:
    """x is y"""
    return itself(x) is itself(y)
