"""The numbers of a module by name: each number by itself, or in arrays with PyTorch's names and layout."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..engine.dispatch import as_list
from ..engine.scalar import as_real
from ..engine.value import Value
from .rows import flat, is_list

IGNORED = "num_batches_tracked"  # of PyTorch's BatchNorm, which counts its batches


def arrays_of(module: Any) -> dict[str, Any]:
    """The parameters and buffers of a module, nested as in the arrays of `state_dict(arrays=True)`."""
    return dict(_arrays("", module, ()))


def _arrays(place: str, part: Any, above: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """(place, nested list) of each array in a part of the modules above it."""
    inside: Mapping[Any, Any] = {}
    if hasattr(part, "_arrays"):
        inside = {} if any(part is module for module in above) else part._arrays()  # a module may hold itself
        above = (*above, part)
    elif _is_array(part):
        yield place, part
    elif isinstance(part, dict | list | tuple):
        inside = part if isinstance(part, dict) else dict(enumerate(part))
    for name, item in inside.items():
        inner = ".".join(filter(None, (place, str(name))))
        if name in getattr(part, "_buffers", ()):
            yield inner, item
        else:
            yield from _arrays(inner, item, above)


def _is_array(part: Any) -> bool:
    leaves = flat(part)
    return bool(leaves) and all(isinstance(leaf, Value) for leaf in leaves) and _shape(part) is not None


def numbers_of(nested: Any) -> Any:
    """Nested lists of numbers, from those of Values or numbers."""
    if isinstance(nested, list | tuple):
        return [numbers_of(item) for item in nested]
    return float(nested.data) if isinstance(nested, Value) else nested


def assign(module: Any, state: Mapping[str, Any]) -> None:
    """Give a module the numbers of a state in either form. Raises what `Module.load_state_dict` lists.

    The numbers of the layers may differ where their order is the same: PyTorch counts activations as layers.
    """
    if not isinstance(state, Mapping):
        raise TypeError(f"load_state_dict takes what state_dict() gives, got {state!r:.60}.")
    own: dict[str, Any] = {**dict(module.named_parameters()), **module.buffers()}
    arrays = arrays_of(module)
    if any(getattr(x, "ndim", 0) for x in state.values()) or state.keys() == arrays.keys() != own.keys():
        own, state = arrays, {name: x for name, x in state.items() if not name.endswith(IGNORED)}
        if state.keys() != own.keys() and _without_numbers(state) == _without_numbers(own):
            state = dict(zip(own, state.values(), strict=True))
    _check_names(own, state)
    pairs = [pair for name, nested in own.items() for pair in _pairs(name, nested, state[name])]
    for target, numbers in pairs:
        if isinstance(target, Value):
            target.data = numbers
        else:
            target[:] = numbers


def _pairs(name: str, nested: Any, new: Any) -> Iterable[tuple[Any, Any]]:
    """(Value, number) for each Value of a nested list, and (list, numbers) for a buffer."""
    if isinstance(nested, Value):
        return [(nested, _number(name, new))]
    new = as_list(new) if is_list(new) else new
    if _shape(new) != _shape(nested):
        raise ValueError(
            f"The state of {name!r} has the shape {_shape(new)}, that of the model {_shape(nested)}: load it into "
            "the same architecture."
        )
    numbers, targets = [_number(name, x) for x in flat(new)], flat(nested)
    return zip(targets, numbers, strict=True) if isinstance(targets[0], Value) else [(nested, numbers)]


def _without_numbers(names: Mapping[str, Any]) -> list[str]:
    return [re.sub(r"\d+", "#", name) for name in names]


def _check_names(own: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    faults = {"missing": own.keys() - state.keys(), "unexpected": state.keys() - own.keys()}
    if any(faults.values()):
        shown = "; ".join(f"{what}: {_listed(names)}" for what, names in faults.items() if names)
        raise ValueError(f"The state does not fit the model ({shown}): load it into the same architecture.")


def _listed(names: Any) -> str:
    first = sorted(map(repr, names))[:5]
    return ", ".join(first) + f" and {len(names) - 5} more" * (len(names) > 5)


def _number(name: str, number: Any) -> Any:
    try:
        return as_real(number)
    except (TypeError, OverflowError):
        raise TypeError(f"The state of {name!r} must be one real number, got {number!r:.60}.") from None


def _shape(nested: Any) -> tuple[int, ...] | None:
    """The shape of nested lists, None if it is not regular."""
    if not isinstance(nested, list | tuple):
        return ()
    shapes = {_shape(item) for item in nested}
    inner = shapes.pop() if shapes else ()
    return None if shapes or inner is None else (len(nested), *inner)
