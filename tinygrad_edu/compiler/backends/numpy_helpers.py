"""Functions that NumPy lacks. Their source is copied into programs that use them."""

import math

import numpy as np


def logsumexp(Z, softmax=None, out=None):
    """log(e^z1 + e^z2 + ...) along the last axis, without overflow; leaves the softmax behind."""
    softmax = np.empty(Z.shape, Z.dtype) if softmax is None else softmax
    out = np.empty(Z.shape[:-1], Z.dtype) if out is None else out
    top, total, softmax = _exponentials(Z, softmax)
    logs = np.log(total)
    if np.abs(top).min() < 0.01:  # then log(total) may be all: log1p keeps the digits that 1 + rest loses
        rest = softmax * total
        rest[rest.argmax(axis=0), np.arange(len(total))] = 0
        np.log1p(rest.sum(axis=0), out=logs, where=(total >= 1) & (total < np.inf))
    np.add(top, logs, out=out.reshape(-1))
    return out


def softmax(Z, out=None):
    """e^z1 / (e^z1 + e^z2 + ...), e^z2 / (e^z1 + e^z2 + ...) ... along the last axis, without overflow."""
    out = np.empty(Z.shape, Z.dtype) if out is None else out
    _exponentials(Z, out)
    return out


def _exponentials(Z, softmax):
    """The largest of each row, the sum of e^(z - largest), and the softmax; a row is a column of the results."""
    Z, softmax = (rows.reshape(-1, rows.shape[-1]).T for rows in (Z, softmax))
    E = np.array(Z, order="C") if len(Z) < 32 else Z  # NumPy takes long to add up many short rows
    top = E.max(axis=0)
    top[np.isinf(top)] = 0
    E = np.subtract(E, top, out=softmax if E is Z else E)
    np.exp(E, out=E)
    total = E.sum(axis=0)
    np.divide(E, total, out=softmax)
    return top, total, softmax


def sigmoid(x, out=None):
    """1 / (1 + e^-x); if e^-x may overflow, by e^-|x|."""
    out = np.empty(np.shape(x), np.result_type(x)) if out is None else out
    if x.min() > -80:
        np.exp(np.multiply(x, -1.0, out=out), out=out)  # np.negative of NumPy 2.4: see LINES
        np.reciprocal(np.add(out, 1.0, out=out), out=out)
    else:
        small = np.exp(-np.abs(x))
        np.divide(np.where(x >= 0, 1, small), 1 + small, out=out)
    return out


def tanh_slope(A, Z, out=None):
    """1 - A ** 2, the slope of A = tanh(Z). In the tails, to keep digits, 4e / (1 + e) ** 2, e = exp(-2|Z|)."""
    out = np.empty(np.shape(A), np.result_type(A)) if out is None else out
    np.subtract(1, np.multiply(A, A, out=out), out=out)
    if not out.min() > 1e-3:
        tails = ~(out > 1e-3)
        e = np.exp(-2 * np.abs(Z[tails]))
        out[tails] = 4 * e / (1 + e) ** 2
    return out


def sigmoid_slope(A, Z, out=None):
    """A (1 - A), the slope of A = sigmoid(Z). Near 1, to keep digits, e / (1 + e) ** 2, e = exp(-Z)."""
    out = np.empty(np.shape(A), np.result_type(A)) if out is None else out
    np.multiply(A, np.subtract(1, A, out=out), out=out)
    if not A.max() < 0.999:
        tails = ~(A < 0.999)
        e = np.exp(-Z[tails])
        out[tails] = e / (1 + e) ** 2
    return out


def erf(x):
    """The error function of every element; NumPy has none."""
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), x.dtype)


def erfc(x):
    """1 - erf of every element; NumPy has none."""
    return np.asarray(np.frompyfunc(math.erfc, 1, 1)(x), x.dtype)


def power(x, y):
    """x ** y, where nan stays nan."""
    return np.where(np.isnan(x) | np.isnan(y), np.nan, np.power(x, y))


def scatter_add(out, places, order, starts, values):
    """Add values to elements of the last axis of out, several to one: in `order`, runs of them belong together."""
    out[..., places] += np.add.reduceat(values[..., order], starts, axis=-1)


def add_rows(rows, index, out):
    """out[k] = the sum of the rows whose index is k."""
    rows, index = rows.reshape(-1, rows.shape[-1]), index.reshape(-1)
    if len(out) <= 256:  # as a product with one-hot rows
        np.matmul((index == np.arange(len(out))[:, None]).astype(out.dtype), rows, out=out)
    else:
        out[...] = 0
        np.add.at(out, index, rows)


ALL = tuple(x for x in [*globals().values()] if getattr(x, "__module__", "") == __name__)
OF_MATH = {"erf", "erfc"}  # these call math
NAMES = tuple(function.__name__ for function in ALL)
