"""Compiled beside eager, for the tests of the compiler: the mean over a batch and its gradients.

The eager side is the function itself, run on one example after the other. What rounding can do to a gradient is
its absolute adjoint, so 1e-12 relative to that is neither flaky nor blind.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_edu as tg
from tinygrad_edu import Value, topological_order
from tinygrad_edu.testing import absolute_adjoint, assert_near

TOLERANCE = {"float64": 1e-12, "float32": 3e-5}


def values(array: Any) -> Any:
    """One example as the function gets it eagerly: fresh Values, but plain ints where it was given integers."""
    if np.ndim(array):
        return [values(part) for part in array]
    return int(array) if np.issubdtype(np.asarray(array).dtype, np.integer) else Value(float(array))


def examples_of(batch: Iterable[Any]) -> list[list[Any]]:
    arrays = [np.asarray(array) for array in batch]
    if not arrays:
        return [[]]
    return [[values(array[i]) for array in arrays] for i in range(len(arrays[0]))]


def eager(function: Any, parameters: list[Value], batch: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """[mean value, *its gradient], and what rounding can do to each of them."""
    rows, sizes = [], []
    for one in examples_of(batch):
        root = function(*one)
        adjoints = absolute_adjoint(root)
        rows.append([root.data, *tg.gradients(root, parameters)])
        noise = max(abs(float(node.data)) * size for node, size in adjoints.items())
        sizes.append([noise, *(adjoints.get(p, 0.0) for p in parameters)])
    return np.mean(rows, axis=0), np.mean(sizes, axis=0)


def compare(function: Any, parameters: list[Value], *batch: Any, dtype: str = "float64", **how: Any) -> Any:
    """Compiles, and compares value and gradients with the eager ones. Returns what was compiled."""
    step = tg.compile(function, parameters, dtype, **how)
    check(step, function, parameters, *batch, dtype=dtype)
    return step


def check(step: Any, function: Any, parameters: list[Value], *batch: Any, dtype: str = "float64") -> None:
    """Compares value and gradients of what was compiled with the eager ones."""
    value, gradients = step.value_and_grad(*batch)
    expected = eager(function, parameters, batch)
    names = ["the value", *(p.label or f"parameter {i}" for i, p in enumerate(parameters))]
    for name, got, exact, size in zip(names, [value, *gradients], *expected, strict=True):
        try:
            assert_near(float(got), float(exact), float(size), TOLERANCE[dtype])
        except AssertionError as error:
            error.add_note(f"This is {name}. {step.groups}")
            raise


def compare_outputs(function: Any, parameters: list[Value], *batch: Any) -> None:
    """The same for `predict`, whose results may be nested."""
    outputs = tg.compile(function, parameters).predict(*batch)
    expected = np.array([numbers_of(function(*one)) for one in examples_of(batch)])
    assert outputs.shape == expected.shape
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-12)


def numbers_of(nested: Any) -> Any:
    if isinstance(nested, list | tuple):
        return [numbers_of(part) for part in nested]
    return float(nested.data if isinstance(nested, Value) else nested)


def used(function: Any, parameters: list[Value], batch: Iterable[Any]) -> list[Value]:
    """Those of the parameters that the function uses: it may not be compiled for others."""
    nodes = set(topological_order(function(*examples_of(batch)[0])))
    return [parameter for parameter in parameters if parameter in nodes]


def search(agrees: Callable[[int], Any], n: int, *known: int) -> None:
    """Call a function of a seed for the known ones, then for n others; name the smallest that fails."""

    def searched(seed: int) -> None:
        agrees(seed)

    for seed in known:
        searched(seed)
    settings(deadline=None, max_examples=n)(given(st.integers(0, 10**9))(searched))()
