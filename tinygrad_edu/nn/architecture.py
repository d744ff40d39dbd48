"""The architecture of a model as data: the constructor calls that build its modules."""

import re
from typing import Any

from ..engine.rule import Rule

PUBLIC = __name__.rpartition(".")[0]  # tinygrad_edu.nn, where users find the modules of this package


def described(module: Any) -> dict[str, Any]:
    """The constructor call that builds a module like this one. Arguments are read from its attributes.

    Raises TypeError for an argument that is not text, a number, None, a rule, a module or a list of these.
    """
    positional, named = module._arguments()
    return {
        "class": class_name(type(module)),
        "arguments": [_plain(argument, module) for argument in positional],
        "options": {name: _plain(value, module) for name, value in named.items()},
    }


def class_name(kind: type) -> str:
    """The module and the qualified name of a class: "tinygrad_edu.nn:Dense", "__main__:Own"."""
    public = kind.__module__.startswith(f"{PUBLIC}.")
    return f"{PUBLIC if public else kind.__module__}:{kind.__qualname__}"


def call_text(call: Any, bare: bool = False) -> str:
    """A described call as Python writes it: "Dense(n_inputs=2, n_outputs=1)". Anything else is its repr.

    With bare=True a class is named without its place, as in files of version 1.
    """
    if isinstance(call, list):
        return f"[{', '.join(call_text(item, bare) for item in call)}]"
    match call:
        case {"class": str(name), "arguments": list(positional), "options": dict(named)}:
            name = re.split("[:.]", name)[-1] if bare else name.removeprefix(f"{PUBLIC}:")
            arguments = [call_text(x, bare) for x in positional]
            options = [f"{key}={call_text(value, bare)}" for key, value in sorted(named.items())]
            return f"{name}({', '.join(arguments + options)})"
    return repr(call)


def _plain(value: Any, owner: Any) -> Any:
    if hasattr(value, "_arguments"):
        return described(value)
    if isinstance(value, Rule) and not value.parameters:
        return value.name  # tg.relu is "relu"
    if isinstance(value, list | tuple):
        return [_plain(item, owner) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{owner!r} cannot be saved: {value!r} is not text, a number or a module.")
