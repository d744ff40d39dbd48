"""Made by `python .ci/stubs.py` from RULES."""

from typing import Any, Self, TypeVar, overload

from .operators import Operators
from .rule import Rule

_N = TypeVar("_N", bound=Operators)

class _OfTwo(Rule):
    @overload  # type: ignore[override]
    def __call__(self, x: float, y: float, /) -> float: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, x: _N | float, y: _N | float, /) -> _N: ...
    @overload
    def __call__(self, x: Any, y: Any, /) -> Any: ...

class _OfOne(Rule):
    @overload  # type: ignore[override]
    def __call__(self, x: float, /) -> float: ...
    @overload
    def __call__(self, x: _N, /) -> _N: ...
    @overload
    def __call__(self, x: Any, /) -> Any: ...

class _LeakyRelu(Rule):
    @overload  # type: ignore[override]
    def __call__(self, x: float, /, *, alpha: float = 0.01) -> float: ...
    @overload
    def __call__(self, x: _N, /, *, alpha: float = 0.01) -> _N: ...
    @overload
    def __call__(self, x: Any, /, *, alpha: float = 0.01) -> Any: ...

class _Elu(Rule):
    @overload  # type: ignore[override]
    def __call__(self, x: float, /, *, alpha: float = 1.0) -> float: ...
    @overload
    def __call__(self, x: _N, /, *, alpha: float = 1.0) -> _N: ...
    @overload
    def __call__(self, x: Any, /, *, alpha: float = 1.0) -> Any: ...

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "detach", "elu", "erf", "erfc", "exp",
    "exp2", "expm1", "gelu", "leaky_relu", "log", "log1p", "log2", "log10", "logsumexp", "max", "min", "mod",
    "reciprocal", "relu", "sigmoid", "sign", "silu", "sin", "sinh", "softplus", "sqrt", "sum", "tan", "tanh",
]  # fmt: skip
reciprocal: _OfOne
mod: _OfTwo
sign: _OfOne
detach: _OfOne
sqrt: _OfOne
exp: _OfOne
exp2: _OfOne
expm1: _OfOne
log: _OfOne
log2: _OfOne
log10: _OfOne
log1p: _OfOne
sin: _OfOne
cos: _OfOne
tan: _OfOne
asin: _OfOne
acos: _OfOne
atan: _OfOne
sinh: _OfOne
cosh: _OfOne
asinh: _OfOne
acosh: _OfOne
atanh: _OfOne
tanh: _OfOne
erf: _OfOne
erfc: _OfOne
sigmoid: _OfOne
softplus: _OfOne
relu: _OfOne
leaky_relu: _LeakyRelu
elu: _Elu
gelu: _OfOne
silu: _OfOne
max: Rule
min: Rule
sum: Rule
logsumexp: Rule

class Methods:
    __slots__ = ()
    def reciprocal(self) -> Self:
        """1 / x"""
    def sign(self) -> Self:
        """-1, 0 or 1"""
    def detach(self) -> Self:
        """x, as a constant"""
    def sqrt(self) -> Self:
        """x^(1/2)"""
    def exp(self) -> Self:
        """e^x"""
    def exp2(self) -> Self:
        """2^x"""
    def expm1(self) -> Self:
        """e^x - 1"""
    def log(self) -> Self:
        """the natural logarithm of x"""
    def log2(self) -> Self:
        """log(x) / log(2)"""
    def log10(self) -> Self:
        """log(x) / log(10)"""
    def log1p(self) -> Self:
        """log(1 + x)"""
    def sin(self) -> Self:
        """the sine of x radians"""
    def cos(self) -> Self:
        """the cosine of x radians"""
    def tan(self) -> Self:
        """sin(x) / cos(x)"""
    def asin(self) -> Self:
        """the y with sin(y) = x, -pi/2 <= y <= pi/2"""
    def acos(self) -> Self:
        """the y with cos(y) = x, 0 <= y <= pi"""
    def atan(self) -> Self:
        """the y with tan(y) = x, -pi/2 < y < pi/2"""
    def sinh(self) -> Self:
        """(e^x - e^-x) / 2"""
    def cosh(self) -> Self:
        """(e^x + e^-x) / 2"""
    def asinh(self) -> Self:
        """log(x + sqrt(x^2 + 1))"""
    def acosh(self) -> Self:
        """log(x + sqrt(x^2 - 1))"""
    def atanh(self) -> Self:
        """log((1 + x) / (1 - x)) / 2"""
    def tanh(self) -> Self:
        """(e^x - e^-x) / (e^x + e^-x)"""
    def erf(self) -> Self:
        """the area under its slope from 0 to x"""
    def erfc(self) -> Self:
        """1 - erf(x)"""
    def sigmoid(self) -> Self:
        """1 / (1 + e^-x)"""
    def softplus(self) -> Self:
        """log(1 + e^x)"""
    def relu(self) -> Self:
        """x for x > 0, else 0"""
    def leaky_relu(self, *, alpha: float = 0.01) -> Self:
        """x for x > 0, else alpha x"""
    def elu(self, *, alpha: float = 1.0) -> Self:
        """x for x > 0, else alpha (e^x - 1)"""
    def gelu(self) -> Self:
        """x Phi(x), Phi the normal distribution function"""
    def silu(self) -> Self:
        """x sigmoid(x)"""
