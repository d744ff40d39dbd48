"""What may stand in a Value: one real number."""

import numbers
from typing import Any

from .refusals import no_number


def as_real(data: Any) -> Any:
    """data as one real number: ints, NumPy scalars and tensors without axes become floats; Fractions and mpmath
    reals stay exact.

    Raises TypeError for anything else, with what to do instead.
    """
    number = data.item() if getattr(data, "ndim", None) == 0 else data  # of NumPy, PyTorch, JAX ...
    if isinstance(number, numbers.Real) and not isinstance(number, bool):
        return float(number) if isinstance(number, int | float) else number
    raise no_number("Value holds one real number", number)


def as_exponent(exponent: Any) -> Any:
    """A constant exponent; a whole one as an int, so that it keeps a Fraction exact."""
    exponent = exponent if exponent.__class__ is int else as_real(exponent)
    return int(exponent) if exponent % 1 == 0 and abs(exponent) < 2**53 else as_real(exponent)
