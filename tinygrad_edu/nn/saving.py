"""Build a saved model anew. `Module.save` writes the file."""

import inspect
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar, overload

from ..engine.value import Value
from . import files
from .architecture import PUBLIC, call_text, class_name
from .initialisation import limited_to
from .module import Module, fill

T = TypeVar("T")


@overload
def load(path: str | os.PathLike[str]) -> Module: ...
@overload
def load(path: str | os.PathLike[str], optimizer: Callable[[list[Value]], T]) -> tuple[Module, T]: ...
def load(path: Any, optimizer: Any = None) -> Any:
    """The model in a file that `Module.save` wrote, built anew. No code is run but the constructors of modules.

    Its classes are those of `nn` and your own Module classes, which must be defined before. With an optimizer
    class, such as optim.Adam, returns (model, optimizer) as they were saved, ready for the next step:

        model, optimizer = nn.load("model.json", optim.Adam)

    Raises ValueError if the file is not a whole model file, or names a class that is not defined or not unique;
    TypeError for an optimizer that is not a class or function.
    """
    if optimizer is not None and not callable(optimizer):
        raise TypeError(
            f"load takes an optimizer class such as optim.Adam, got {optimizer!r}. That holds the parameters of "
            "another model: write model.load(path, optimizer)."
        )
    parts = files.read(path)
    try:
        with limited_to(_count(parts["state"])):
            model = _built(parts["model"])
    except Exception as error:  # a constructor may raise anything for wrong arguments
        text = f"{call_text(parts['model']):.200}"
        raise ValueError(f"{path} cannot be loaded. {text} cannot be built: {error}") from None
    if optimizer is None:
        fill(model, parts, path)
        return model
    optimiser = optimizer(model.parameters())
    fill(model, parts, path, optimiser)
    return model, optimiser


def _count(x: Any) -> int:
    return sum(map(_count, x.values() if isinstance(x, dict) else x)) if isinstance(x, dict | list) else 1


def _built(x: Any) -> Any:
    """An argument of a constructor call from a file, with the modules in it built."""
    if isinstance(x, list):
        return [_built(item) for item in x]
    if not isinstance(x, dict):
        return x
    match x:
        case {"class": str(name), "arguments": list(positional), "options": dict(named)}:
            kind = _class(name)
        case _:
            raise ValueError(f"{x!r:.80} is not a module with a class, arguments and options")
    options = {key: _built(value) for key, value in named.items()}
    rng = inspect.signature(kind).parameters.get("rng")
    if rng and rng.default is rng.empty:
        options["rng"] = 0
    return kind(*map(_built, positional), **options)


def _class(name: str) -> type[Module]:
    kinds = _kinds(Module)
    named = [kind for kind in kinds if class_name(kind) in (name, f"{PUBLIC}:{name}")]
    named = named or [kind for kind in kinds if kind.__name__ == name]  # of version 1, which has no place
    if not named:
        raise ValueError(f"the Module class {name!r} is not defined: import or define it")
    if len(named) > 1:  # in a notebook, say, where a cell was run again: the class that has the name now
        named = [kind for kind in named if _bound(kind) is kind]
    if len(named) != 1:
        raise ValueError(f"the Module class {name!r} is defined more than once: rename one")
    return named[0]


def _kinds(kind: type[Module]) -> set[type[Module]]:
    return {kind}.union(*(_kinds(below) for below in kind.__subclasses__()))


def _bound(kind: type) -> Any:
    """What the module of a class has under the name of the class."""
    named: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        named = getattr(named, "__dict__", {}).get(part)
    return named
