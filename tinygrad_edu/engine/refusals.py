"""The errors for what is no number, and for what is no node: what it is, and what to do instead; counts."""

import reprlib
from typing import Any

_FIXES = {
    "Value": "It is a Value already: use it as it is, or its .data for a fresh leaf.",
    "bool": "For a truth value, write 1.0 or 0.0.",
    "str": "Convert text with float(text).",
    "complex": "Complex numbers have no order, and so no gradient to follow: use .real and .imag.",
    "NoneType": "Is a `return` missing where it was made?",
}


def is_count(x: Any, least: int = 1) -> bool:
    """Is it a whole number, `least` or more?"""
    return hasattr(x, "__index__") and bool(x >= least)


def no_number(sentence: str, x: Any, lists: str = "For a list, build one Value per element.") -> TypeError:
    """The error for x, which is no real number: the sentence, what x is, and what to do instead."""
    fix = "Convert it with float()."
    if hasattr(x, "parameters"):
        fix = "For a model, use its .parameters()."
    elif hasattr(x, "__len__"):
        fix = "Pass x.to_numpy() instead." if hasattr(x, "to_numpy") else lists
    kind = type(x).__name__
    return TypeError(f"{sentence}, got {reprlib.repr(x)} ({kind}). {_FIXES.get(kind, fix)}")


def no_node(root: Any) -> TypeError:
    """The error for a root that is no node."""
    kind = type(root)
    hint = "For several results, show each of them, or their sum."
    if hasattr(root, "data") and hasattr(root, "grad"):
        hint = (
            f"This is {kind.__module__}.{kind.__name__}: import Value from tinygrad_edu.micrograd.engine, or "
            "check the class with tg.testing.diagnose."
        )
    return TypeError(
        f"Pass one Value, the result of a computation, not {reprlib.repr(root)} ({kind.__name__}). {hint}"
    )
