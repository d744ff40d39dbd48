"""Backends: a program goes in, source of another language comes out, and what runs it. `BACKENDS` names them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

DEFAULTS: dict[str, Any] = {"dtype": "float64", "verify": True, "example": None}


@dataclass(frozen=True)
class Backend:
    """A class that is called with a function, its parameters and the options that it knows."""

    module: str
    name: str
    options: tuple[str, ...] = ("dtype", "verify")

    def make(self, backend: str, function: Any, parameters: Any, options: Mapping[str, Any]) -> Any:
        """The compiled function. Raises TypeError for an option that the backend does not know."""
        for name, value in options.items():
            if name not in self.options and value is not DEFAULTS[name]:
                raise TypeError(_REFUSALS[name].format(backend))
        constructor: Callable[..., Any] = getattr(import_module(self.module, __package__), self.name)
        return constructor(function, parameters, **{name: options[name] for name in self.options})


_REFUSALS: dict[str, str] = {
    "verify": 'backend="{}" always compares its operations: leave verify out.',
    "example": 'Only backend="javascript" takes an example: the others see it when they are called.',
}


# A new backend is a module and a line here.
BACKENDS = {
    "numpy": Backend("..run.compiled", "Compiled"),
    "python": Backend("..run.pointwise", "Pointwise"),
    "javascript": Backend("..run.javascript_module", "JavaScriptModule", ("dtype", "example")),
    "jax": Backend("..run.compiled_jax", "CompiledJax"),
    "auto": Backend("..run.auto", "Auto"),
}
