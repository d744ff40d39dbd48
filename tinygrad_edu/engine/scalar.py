"""What may stand in a Value: one real number."""

import numbers
import reprlib
from typing import Any

_FIXES = {
    "Value": "It is a Value already: use it as it is, or its .data for a fresh leaf.",
    "bool": "For a truth value, write 1.0 or 0.0.",
    "str": "Convert text with float(text).",
    "complex": "Complex numbers have no order, and so no gradient to follow: use .real and .imag.",
    "NoneType": "Is a `return` missing where it was made?",
}


def as_real(data: Any) -> Any:
    """data as one real number: ints, NumPy scalars and tensors without axes become floats; Fractions and mpmath
    reals stay exact.

    Raises TypeError for anything else, with what to do instead.
    """
    number = data.item() if getattr(data, "ndim", None) == 0 else data  # of NumPy, PyTorch, JAX ...
    if isinstance(number, numbers.Real) and not isinstance(number, bool):
        return float(number) if isinstance(number, int | float) else number
    kind = type(number).__name__
    other = "Convert it with float()."
    if hasattr(number, "__len__"):
        frame = hasattr(number, "to_numpy")
        other = "Pass x.to_numpy() instead." if frame else "For a list, build one Value per element."
    raise TypeError(f"Value holds one real number, got {reprlib.repr(number)} ({kind}). {_FIXES.get(kind, other)}")


def as_exponent(exponent: Any) -> Any:
    """A constant exponent; a whole one as an int, so that it keeps a Fraction exact."""
    exponent = exponent if exponent.__class__ is int else as_real(exponent)
    return int(exponent) if exponent % 1 == 0 and abs(exponent) < 2**53 else as_real(exponent)
