"""Made by `python .ci/stubs.py` from the module beside it."""

from typing import Any

def strided(vector: Any, start: Any, shape: Any, strides: Any) -> Any:
    """The elements start + i * strides[0] + j * strides[1] + ... of a vector, without a copy."""

def logsumexp(Z: Any, softmax: Any = ..., out: Any = ...) -> Any:
    """log(e^z1 + e^z2 + ...) along the last axis, without overflow; leaves the softmax behind."""

def softmax(Z: Any, out: Any = ...) -> Any:
    """e^z1 / (e^z1 + e^z2 + ...), e^z2 / (e^z1 + e^z2 + ...) ... along the last axis, without overflow."""

def sigmoid(x: Any, out: Any = ...) -> Any:
    """1 / (1 + e^-x); if e^-x may overflow, by e^-|x|."""

def tanh_slope(A: Any, Z: Any, out: Any = ...) -> Any:
    """1 - A ** 2, the slope of A = tanh(Z). In the tails, to keep digits, 4e / (1 + e) ** 2, e = exp(-2|Z|)."""

def sigmoid_slope(A: Any, Z: Any, out: Any = ...) -> Any:
    """A (1 - A), the slope of A = sigmoid(Z). Near 1, to keep digits, e / (1 + e) ** 2, e = exp(-Z)."""

def erf(x: Any) -> Any:
    """The error function of every element; NumPy has none."""

def erfc(x: Any) -> Any:
    """1 - erf of every element; NumPy has none."""

def power(x: Any, y: Any) -> Any:
    """x ** y, where nan stays nan."""

def scatter_add(out: Any, places: Any, order: Any, starts: Any, values: Any) -> Any:
    """Add values to elements of the last axis of out, several to one: in `order`, runs of them belong together."""

def add_rows(rows: Any, index: Any, out: Any) -> Any:
    """out[k] = the sum of the rows whose index is k."""

ALL: Any
NAMES: Any
