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
        """The compiled function. Raises TypeError or ValueError for an option that the backend does not know."""
        for name, given in options.items():
            if name not in self.options and not _is_default(name, given):
                kind, sentence = _REFUSALS[name]
                raise kind(sentence.format(backend=backend, given=given))
        made: Callable[..., Any] = getattr(import_module(self.module, __package__), self.name)
        return made(function, parameters, **{name: options[name] for name in self.options})


_REFUSALS: dict[str, tuple[type[Exception], str]] = {
    "dtype": (
        ValueError,
        'The floats of backend="{backend}" are float64: leave dtype out, got {given!r}.',
    ),
    "verify": (TypeError, 'backend="{backend}" always compares its operations: leave verify out.'),
    "example": (TypeError, 'Only backend="javascript" takes an example: the others see it when they are called.'),
}


def _is_default(name: str, given: Any) -> bool:
    """Is it what the option is without the user? Only an unusual spelling of float64 needs NumPy to tell."""
    if name != "dtype" or given is float or (isinstance(given, str) and given == DEFAULTS[name]):
        return given is float or given == DEFAULTS[name]
    import numpy as np

    try:
        return bool(np.dtype(given).name == "float64")
    except (TypeError, ValueError):
        return False


# A new backend is a module and a line here.
BACKENDS = {
    "numpy": Backend("..run.compiled", "Compiled"),
    "python": Backend("..run.pointwise", "Pointwise", ("verify",)),
    "javascript": Backend("..run.javascript_module", "JavaScriptModule", ("example",)),
    "jax": Backend("..run.compiled_jax", "CompiledJax"),
    "auto": Backend("..run.auto", "Auto"),
}
