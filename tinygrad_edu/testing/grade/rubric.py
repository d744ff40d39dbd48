"""What a course asks of an engine: operations as people write them, and the points for each."""

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from .operations import EXPECTED, REFLECTED, TEXTS

Rubric = str | os.PathLike[str] | Mapping[str, float]  # the path of a TOML file, or points by item
ITEMS: dict[str, tuple[str, ...]] = {
    "+": ("a + b",),
    "-": ("a - b",),
    "*": ("a * b",),
    "/": ("a / b",),
    "**": ("a ** 2", "a ** 3"),
    "neg": ("-a",),
    "reflected": REFLECTED,
    "numbers": ("a + 3", "a - 3", "a * 3", "a / 4"),
    "tanh or relu": ("tanh(a)", "relu(a)"),  # one of them is enough
    "backward": (),
}
DEFAULT = ("+", "*", "**", "-", "/", "neg", "numbers", "reflected", "tanh or relu", "backward")


def items_of(require: str | Iterable[str] | None) -> tuple[str, ...]:
    """The items of a requirement such as "+ * ** tanh backward". Raises ValueError for an unknown operation."""
    if require is None:
        return DEFAULT
    items = tuple(require.split() if isinstance(require, str) else require)
    for item in items:
        texts_of(item)
    return items


def texts_of(item: str) -> tuple[str, ...]:
    """The operations of an item, as in "tanh", "+", "3+a". Raises ValueError if there is none."""
    if item in ITEMS:
        return ITEMS[item]
    for text in TEXTS:
        if item in (text, text.replace(" ", ""), text.removesuffix("(a)")):
            return (text,)
    known = " ".join(item for item in ITEMS if " " not in item)
    raise ValueError(f"There is no operation {item!r} to be graded: use {known}, 3+a, or a function such as tanh.")


def read_points(rubric: Rubric) -> dict[str, float]:
    """The points of each item: of a mapping, or of a TOML file, which may have them in a table [points].

    Raises ValueError if it is not TOML, or has an unknown operation or what is no number. Raises OSError.
    """
    table = rubric
    if not isinstance(table, Mapping):
        try:
            table = tomllib.loads(Path(table).read_text(encoding="utf-8"))
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{os.fspath(rubric)!r} is no rubric in TOML: {error}.") from None  # type: ignore[arg-type]  # a path
        table = table.get("points", table)
    if not items_of(table):
        raise ValueError('A rubric has a line for each operation, such as "+" = 2; this one has none.')
    for item, points in table.items():
        if isinstance(points, bool) or not isinstance(points, int | float) or not 0 <= points < float("inf"):
            raise ValueError(f"The points of {item!r} are a number of 0 or more, not {points!r}.")
    return dict(table)


def missing_of(items: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """The operations that are asked for and not there."""
    lacking = {item: [text for text in texts_of(item) if text not in known] for item in items}
    for item in [item for item in lacking if " or " in item]:  # one of them is enough
        lacking[item] = [item] * (len(lacking[item]) == len(texts_of(item)))
    missing = dict.fromkeys(text for texts in lacking.values() for text in texts)
    return tuple(sorted(missing, key=[*EXPECTED, *missing].index))
