"""Checks that all compiled functions share: their parameters, and the eager function they must agree with."""

import gc
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ...engine.calculus import values_of
from ...engine.graph import topological_order
from ...engine.value import Value
from ...engine.watch import watch
from .lending import Place, read_numbers, swapped

TOLERANCE = 1e-9  # relative to the absolute adjoint; a wrong lift is off by far more, rounding by far less

NO_FUNCTION = (
    "The function gives {} for the same numbers. A compiled function must give the same numbers whenever it is "
    "called: look for random numbers, and for state that a call changes."
)

CAUGHT = (
    "If the function catches an error, as of log(-1) or 1/0, let it choose by a comparison instead: the program "
    "has nan or inf there, and no error."
)


class CompileError(RuntimeError):
    """The compiled program does not agree with the function it was made from."""


def checked_parameters(function: Any, parameters: Any) -> list[Value]:
    """The parameters, or those of a model, as a list.

    Raises TypeError unless they are Values, ValueError for none, or for one twice.
    """
    if not callable(function):
        raise TypeError(f"compile takes a function of one example, got {function!r}.")
    checked = values_of(parameters, "compile(function, parameters) takes a model or a list of Values")
    for parameter in checked:
        if parameter.rule is not None:
            raise ValueError(f"{parameter!r} is computed from other Values: a parameter is a leaf.")
    if not checked:
        raise ValueError("There are no parameters to differentiate by: pass model.parameters().")
    if len(set(checked)) < len(checked):
        raise ValueError("A parameter is given twice: list(dict.fromkeys(parameters)) has each once.")
    return checked


def unused_sentence(places: Sequence[int], parameters: Sequence[Value]) -> str:
    """What to say of parameters that the function does not use."""
    names = ", ".join(parameters[i].label or f"number {i}" for i in places[:3]) + ", ..." * (len(places) > 3)
    return (
        f"The function does not use {len(places):,} of the {len(parameters):,} parameters ({names}): "
        "their gradient is 0.0."
    )


def captured(node: Value, parameters: Collection[Value]) -> list[tuple[Value, Any]]:
    """All Values below one that is a constant to the function, with their numbers: if one changes, so does it.

    Raises ValueError if it was computed from a parameter.
    """
    below = topological_order(node)
    for leaf in below:
        if leaf in parameters:
            raise ValueError(
                f"{node!r}, which the function uses, was computed outside of it from the parameter "
                f"{leaf.label or repr(leaf)}: compute it inside, or the gradient would not pass through it."
            )
    return list(zip(below, read_numbers(below), strict=True))


def check_one_number(shape: tuple[int, ...], what: str) -> None:
    """Raise TypeError unless the function returns a single number: a mean and a gradient need one."""
    if shape:
        raise TypeError(
            f"The function returns numbers of shape {shape} for one example, and a {what} needs a single number: "
            "predict(...) gives them all."
        )


def check_sizes(names: Sequence[str], sizes: Sequence[int]) -> None:
    """Raise ValueError unless all arguments have as many examples, and at least one."""
    if len(set(sizes)) > 1:
        shown = ", ".join(f"{name} has {size}" for name, size in zip(names, sizes, strict=True))
        raise ValueError(f"All arguments must be batches of one size, the length of the first axis: {shown}.")
    if 0 in sizes:
        raise ValueError(f"The batch is empty: {names[0]} has no examples. Give one or more.")


def single_number(x: Any, name: str) -> ValueError:
    """The error for a number where a batch is expected."""
    return ValueError(f"{name} is a single number: a batch has its examples along the first axis, as in [{x!r}].")


def not_numbers(x: Any, name: str) -> TypeError:
    """The error for something that is not a real number, with what to do instead."""
    fixes = {
        Value: "take its .data, as in [v.data for v in row]",
        dict: "give its numbers as a list, list(d.values()), or as one argument for each key",
        complex: "take .real or .imag",
    }
    fix = next((fixes[kind] for kind in fixes if isinstance(x, kind)), "convert it with float()")
    return TypeError(f"{name} must hold real numbers, got {x!r:.60} ({type(x).__name__}): {fix}.")


def differentiated(result: Any, parameters: Sequence[Value]) -> tuple[Value, Any]:
    """The loss in what a function returned, and its gradients, which are lent, and 0 before: see `standing_in`."""
    loss = result[0] if isinstance(result, tuple) else result["loss"] if isinstance(result, dict) else result
    loss = loss if isinstance(loss, Value) else Value(loss)
    with swapped([(Place(watch, "tells", "attribute"), False)]):
        loss.backward()
    return loss, [parameter.grad for parameter in parameters]


def disagreement_error(wrong: str, results: Sequence[Any] = (0, 0)) -> "CompileError":
    """The error for a wrong program. `results` are those of the function itself, called two times."""
    if repr(results[0]) != repr(results[1]):
        return CompileError(NO_FUNCTION.format(f"{results[0]!r} and then {results[1]!r}"))
    reason = "Two eager calls agree with each other, so this is a defect of the compiler: please report it."
    reason = CAUGHT if any(f" is {x}, and" in wrong for x in ("nan", "inf", "-inf")) else reason
    return CompileError(f"The compiled function disagrees with the eager one: {wrong}. {reason}")


def near(x: Any, y: Any, size: Any) -> bool:
    """Are two numbers equal up to rounding? `size` is the size of the terms that they are sums of."""
    x, y = float(x), float(y)
    return bool(abs(x - y) <= TOLERANCE * size + 1e-300 or x == y or (x != x and y != y))


@contextmanager
def collector_paused() -> Iterator[None]:
    """Pause garbage collection: a trace is hundreds of thousands of objects, and none of them is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
