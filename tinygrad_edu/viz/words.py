"""How a number, a label, a formula and a table are written, the same in every picture and report."""

import math
import re
import reprlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

DASH = "–"  # the gradient where no backward pass has been
INFIX = {"+", "-", "*", "/", "**"}  # symbols that stand between operands


class UnquotedText(str):
    """Text that a REPL shows as it is: `tree(y)` on a line of its own looks like `print(tree(y))`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def four_digits(x: Any) -> str:
    """x as `.4g`, so that -0, nan and inf stay visible; an exact number beyond the floats keeps its own repr."""
    try:
        number = float(x)
    except OverflowError:
        return reprlib.repr(x)
    lost = number != x and (number == 0 or math.isinf(number))  # a number of mpmath, beyond the floats
    return reprlib.repr(x) if lost else f"{number:.4g}"


def finite(x: Any) -> bool:
    """Is it a number, and not infinite?"""
    return bool(x == x and abs(x) != math.inf)


def size(x: Any) -> Any:
    """|x|, and infinity for nan."""
    return abs(x) if x == x else math.inf


def near(x: Any, y: Any, tolerance: float = 1e-6) -> bool:
    """Are they equal but for this part of the larger one, or both nan? None is near None alone.

    The default is more than rounding, and less than anybody would notice.
    """
    if x is None or y is None:
        return x is y
    return bool(x == y or abs(x - y) <= tolerance * max(abs(x), abs(y)) or (x != x and y != y))


def formula(rule: Any, operands: Sequence[str], most: int = 8) -> str:
    """The application of a Rule to operands: `a + b`, `-a`, `(-3)**2`, `max(a, b)`, `elu(x, alpha=0.2)`.

    Of more than `most` + 1 operands the first ones are written, and the number of the others.

    >>> from tinygrad_edu import RULES
    >>> formula(RULES["mul"], ["a", "b"]), formula(RULES["pow_n"], ["-3"]), formula(RULES["elu"], ["x"])
    ('a * b', '(-3)**2', 'elu(x, alpha=1.0)')
    """
    operands, symbol = few(operands, most), visible(rule.symbol)
    if rule.name == "pow_n":
        base = operands[0]
        plain = base[:1] != "-" and " " not in base
        return f"{base}{symbol}" if plain else f"({base}){symbol}"
    if symbol in INFIX:
        return f" {symbol} ".join(operands) if len(operands) > 1 else f"{symbol}{operands[0]}"
    parameters = [visible(f"{name}={reprlib.repr(value)}") for name, value in rule.parameters.items()]
    return f"{visible(rule.name)}({', '.join([*operands, *parameters])})"


def few(parts: Sequence[str], most: int) -> list[str]:
    """The first `most` parts and how many more there are; all of them, if only one would be left out."""
    if len(parts) <= most + 1:
        return list(parts)
    return [*parts[:most], f"... {len(parts) - most:,} more"]


def columns(rows: Iterable[Sequence[str]], align: str = "") -> list[str]:
    """The lines of a table: cells side by side, two spaces apart, each column as wide as its widest cell.

    align has one character for each column, "<" for flush left (the default) or ">" for flush right.

    >>> print(*columns([["x", "gradient"], ["w0", "6"]], "<>"), sep="\\n")
    x   gradient
    w0         6
    """
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = align.ljust(len(widths), "<")
    return [
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True)).rstrip()
        for row in rows
    ]


def stem(name: str) -> str:
    """A name without its numbers, so that repeated things have the same stem.

    >>> stem("neuron12"), stem("w[3][0]"), stem("x2_new")
    ('neuron', 'w[][]', 'x_new')
    """
    return re.sub(r"\d+", "", name)


def clipped(text: str, most: int) -> str:
    """text, or if it has more than `most` characters, its beginning, an ellipsis and its end.

    >>> clipped("layer0.neuron12.weight3", 13)
    'layer0.n…ght3'
    """
    tail = (most - 1) // 3
    return text if len(text) <= most else f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


_REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def visible(label: str) -> str:
    r"""label on one line: characters that break a line or a file are written as Python escapes.

    These are control characters, line and paragraph separators, surrogates, the two code points that XML
    forbids, and the marks that would reorder the text around the label.

    >>> print(visible("a\nb\x00 λ"))
    a\nb\x00 λ
    """
    label = str(label)
    return label if label.isascii() and label.isprintable() else "".join(map(_visible, label))


def _visible(char: str) -> str:
    hidden = unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in "\ufffe\uffff"
    if hidden or unicodedata.bidirectional(char) in _REORDERING:
        return char.encode("unicode_escape").decode()
    return char
