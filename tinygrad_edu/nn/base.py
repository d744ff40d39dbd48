"""Module: what all layers and networks have in common. They find their parameters by themselves."""

import inspect
import os
from collections.abc import Iterator
from typing import Any, Self

from ..engine.value import Value
from ..engine.watch import watch


class Module:
    """Whatever has parameters: attributes that are Values, Modules, lists or dicts of them, in their order."""

    _buffers: tuple[str, ...] = ()  # the attributes that are lists of floats to be saved, though not learned

    @property
    def training(self) -> bool:
        """Is it in training, not in evaluation? Dropout and BatchNorm behave differently in the two modes."""
        mode: bool = vars(self).get("training", True)
        if watch.tracer:
            watch.tracer.reads(self, "training", mode)
        return mode

    @training.setter
    def training(self, mode: bool) -> None:
        vars(self)["training"] = mode

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """(name, Module) of this module, named "", and of all below it, each once and in a stable order."""
        return (part for part in _parts("", self, set()) if isinstance(part[1], Module))

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Value]]:
        """(name, Value) of every parameter, each once and in a stable order.

        The name is the first place where it is found: "layer0.neuron3.w2", and of a matrix "layer0.W3_2".
        """
        return ((prefix + name, part) for name, part in _parts("", self, set()) if isinstance(part, Value))

    def parameters(self) -> list[Value]:
        """Every parameter once, in a stable order."""
        return [parameter for _, parameter in self.named_parameters()]

    def buffers(self) -> dict[str, list[float]]:
        """What is remembered but not learned, such as BatchNorm's running statistics: name -> list of floats.

        The lists are the modules' own: `module.buffers()[name][:] = numbers` restores them.
        """
        return {
            f"{place}.{name}".removeprefix("."): getattr(module, name)
            for place, module in self.named_modules()
            for name in module._buffers
        }

    def train(self, mode: bool = True) -> Self:
        """Switch this module and all below it to training, or with mode=False to evaluation. Returns itself."""
        for _, module in self.named_modules():
            module.training = mode
        return self

    def eval(self) -> Self:
        """Switch this module and all below it to evaluation. Returns itself."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forget the gradients of the last backward passes: leaves accumulate."""
        for parameter in self.parameters():
            parameter.grad = 0.0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write architecture, parameters and buffers as JSON: see `nn.saving`. `nn.load(path)` builds it anew."""
        from .saving import save

        save(self, path)

    def load(self, path: str | os.PathLike[str]) -> Self:
        """Take over the numbers saved from a model of the same architecture. Returns itself.

        Raises ValueError, and changes nothing, if the file is broken or of another architecture.
        """
        from .saving import load_into

        load_into(self, path)
        return self

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """What to call the class with for a module like this: positional arguments, and by name."""
        names = list(inspect.signature(type(self)).parameters)
        return [], {
            name: getattr(self, name) for name in names if name not in ("rng", "init") and hasattr(self, name)
        }

    def _label_parameters(self) -> None:
        for name, parameter in self.named_parameters():
            parameter.label = name

    def __call__(self, inputs: Any) -> Any:
        raise TypeError(f"{type(self).__name__} must define __call__(self, inputs).")


def _parts(place: str, part: Any, seen: set[int], in_list: bool = False) -> Iterator[tuple[str, Any]]:
    """(place, part) of every Module and Value in part, itself included, except those already seen.

    The indices of a list in a list are joined as in W3_2, for W32 could be W[32] or W[3][2].
    """
    inside: list[tuple[str, Any]] = []
    if isinstance(part, Value | Module):
        if id(part) in seen:
            return
        seen.add(id(part))
        yield place, part
        if isinstance(part, Module):
            inside = [(f"{place}.{name}".removeprefix("."), attribute) for name, attribute in vars(part).items()]
    elif isinstance(part, list | tuple):
        stem = f"{place}_" if in_list else place.removesuffix("s")
        inside = [(f"{stem}{i}", item) for i, item in enumerate(part)]
    elif isinstance(part, dict):
        inside = [(f"{place}.{key}", item) for key, item in part.items()]
    for name, item in inside:
        yield from _parts(name, item, seen, isinstance(part, list | tuple))
