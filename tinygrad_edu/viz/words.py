"""How a number, a label and a count are written, the same in every picture."""

import math
import re
import reprlib
import unicodedata
from typing import Any

DASH = "–"  # the gradient where no backward pass has been


def four_digits(x: Any) -> str:
    """x as `.4g`, so that -0, nan and inf stay visible; an exact number beyond the floats keeps its own repr."""
    try:
        number = float(x)
    except OverflowError:
        return reprlib.repr(x)
    lost = number != x and (number == 0 or math.isinf(number))  # a number of mpmath, beyond the floats
    return reprlib.repr(x) if lost else f"{number:.4g}"


def stem(name: str) -> str:
    """A name without its numbers, which repeated things share.

    >>> stem("neuron12"), stem("w[3][0]"), stem("x2_new")
    ('neuron', 'w[][]', 'x_new')
    """
    return re.sub(r"\d+", "", name)


_REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def visible(label: str) -> str:
    r"""label on one line: characters that no line can hold are written as Python escapes, all others are kept.

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
