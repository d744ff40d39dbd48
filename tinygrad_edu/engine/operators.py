"""The operators of a number, written once for every class that behaves like one."""

from collections.abc import Callable
from typing import Any, Self

from .scalar import as_exponent


class Operators:
    """Python's operators. A subclass defines one method, `_operate(name, *inputs, **parameters)`.

    `x + 2` calls `x._operate("add", x, 2)`, and `2 + x` calls `x._operate("add", 2, x)`. The name is that of a
    rule ("add", "neg", "pow_n" with its exponent) or of a comparison ("lt", "le", "gt", "ge").
    """

    __slots__ = ()

    _operate: Callable[..., Self]

    # fmt: off
    def __add__(self, other: Any) -> Self: return self._operate("add", self, other)
    def __sub__(self, other: Any) -> Self: return self._operate("sub", self, other)
    def __rsub__(self, other: Any) -> Self: return self._operate("sub", other, self)
    def __mul__(self, other: Any) -> Self: return self._operate("mul", self, other)
    def __rmul__(self, other: Any) -> Self: return self._operate("mul", other, self)
    def __truediv__(self, other: Any) -> Self: return self._operate("div", self, other)
    def __rtruediv__(self, other: Any) -> Self: return self._operate("div", other, self)
    def __mod__(self, other: Any) -> Self: return self._operate("mod", self, other)
    def __rmod__(self, other: Any) -> Self: return self._operate("mod", other, self)
    def __rpow__(self, other: Any) -> Self: return self._operate("pow", other, self)
    def __pos__(self) -> Self: return self
    def __neg__(self) -> Self: return self._operate("neg", self)
    def __abs__(self) -> Self: return self._operate("abs", self)
    def __lt__(self, other: Any) -> Any: return self._operate("lt", self, other)
    def __le__(self, other: Any) -> Any: return self._operate("le", self, other)
    def __gt__(self, other: Any) -> Any: return self._operate("gt", self, other)
    def __ge__(self, other: Any) -> Any: return self._operate("ge", self, other)
    # fmt: on

    def __radd__(self, other: Any) -> Self:
        """sum() starts from the int 0, which is left out."""
        return self if other.__class__ is int and other == 0 else self._operate("add", other, self)

    def __pow__(self, other: Any) -> Self:
        """A constant exponent is a parameter of the operation, not an input."""
        if isinstance(other, Operators):
            return self._operate("pow", self, other)
        return self._operate("pow_n", self, exponent=as_exponent(other))
