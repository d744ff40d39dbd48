"""Sequential, Residual and Dropout: how modules are put together."""

from typing import Any, ClassVar

from ..engine.watch import watch
from .initialisation import Generator, as_generator
from .module import Module
from .rows import is_list


class Sequential(Module):
    """Modules one after the other: Sequential(f, g)(x) is g(f(x)).

    Parameters are labelled by their place, such as `layer0.W3_2`. Raises TypeError for anything but modules.
    """

    _array_names: ClassVar = {"layers": ""}

    def __init__(self, *modules: Module):
        for module in modules:
            if not isinstance(module, Module):
                raise TypeError(
                    "Sequential takes modules, such as Sequential(nn.Dense(2, 3), nn.Activation('relu')), "
                    f"got {module!r}."
                )
        self.layers: list[Module] = list(modules)
        self._label_parameters()

    def _arguments(self) -> tuple[list[Any], dict[str, Any]]:
        return list(self.layers), {}

    def __call__(self, inputs: Any) -> Any:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


class Residual(Module):
    """x + module(x): the module learns the change, and the gradient also flows past it (He et al. 2016, eq. 1).

    Takes a number, a row or a batch, and returns the same shape. Raises ValueError if the module returns another
    shape, TypeError unless it is a module.
    """

    def __init__(self, module: Module):
        if not isinstance(module, Module):
            raise TypeError(f"Residual takes a module, such as Residual(nn.Dense(3, 3)), got {module!r}.")
        self.module = module
        self._label_parameters()

    def __call__(self, inputs: Any) -> Any:
        return self._plus(inputs, self.module(inputs))

    def _plus(self, x: Any, change: Any) -> Any:
        sizes = [len(part) if is_list(part) else None for part in (x, change)]
        if sizes[0] != sizes[1]:
            shown = " and ".join("one number" if n is None else f"a list of {n}" for n in sizes)
            raise ValueError(f"{self!r} adds x and module(x), which must have one shape, got {shown}.")
        return x + change if sizes[0] is None else [self._plus(a, b) for a, b in zip(x, change, strict=True)]


class Dropout(Module):
    """In training, sets each number to 0 with probability p and divides the others by 1 - p.

    In evaluation it changes nothing. Takes a number, a row or a batch, and returns the same shape. The division
    keeps the mean as in evaluation ("inverted" dropout; Srivastava et al. 2014, section 10). rng is a seed or a
    generator; None is the global `random`. Every call draws anew.

    Raises ValueError unless p is from 0 to 1.
    """

    def __init__(self, p: float = 0.5, rng: Generator | int | None = None):
        if not (hasattr(p, "__neg__") and 0 <= p <= 1):
            raise ValueError(f"Dropout's p is a probability from 0 to 1, got {p!r}.")
        self.p = p
        self.rng: Generator | None = None if rng is None else as_generator(rng)

    def __call__(self, inputs: Any) -> Any:
        if not self.training or self.p == 0:
            return inputs
        if watch.tracer:
            watch.tracer.reads(self, "p", self.p)
        if is_list(inputs):
            return [self(item) for item in inputs]
        return inputs * (watch.factor or Dropout.factor)(self)

    def factor(self) -> float:
        """That of one number: 0 with probability p, else 1 / (1 - p)."""
        return 0.0 if float(as_generator(self.rng).uniform(0.0, 1.0)) < self.p else 1 / (1 - self.p)
