"""The architecture of a model as data: the constructor calls that build its modules, from a model and back."""

import inspect
import sys
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


def class_name(kind: type) -> str:
    """The module and the qualified name of a class: "tinygrad_edu.nn:Dense", "__main__:Own"."""
    public = kind.__module__.startswith(f"{PUBLIC}.")
    return f"{PUBLIC if public else kind.__module__}:{kind.__qualname__}"


def call_text(call: Any) -> str:
    """A described call as Python writes it: "Dense(n_inputs=2, n_outputs=1)". Anything else is its repr."""
    if isinstance(call, list):
        return f"[{', '.join(map(call_text, call))}]"
    match call:
        case {"class": str(name), "arguments": list(positional), "options": dict(named)}:
            options = [f"{key}={call_text(value)}" for key, value in sorted(named.items())]
            return f"{name.removeprefix(f'{PUBLIC}:')}({', '.join([*map(call_text, positional), *options])})"
    return repr(call)


def from_file(x: Any, base: type) -> Any:
    """A call in a file as `described` gives it. Version 1 has "module", a class without its place, for "class".

    Raises ValueError for what is no call, and if no subclass of base, or more than one, has the name.
    """
    if isinstance(x, list):
        return [from_file(item, base) for item in x]
    match x:
        case {"class": str(name), "arguments": list(positional), "options": dict(named)}:
            pass
        case {"module": str(name), "arguments": list(positional), "options": dict(named)}:
            name = class_name(_class(name, base))
        case dict():
            raise ValueError(f"{x!r:.80} is not a module with a class, arguments and options")
        case _:
            return x
    options = {key: from_file(value, base) for key, value in named.items()}
    return {"class": name, "arguments": from_file(positional, base), "options": options}


def built(call: Any, base: type) -> Any:
    """What a call of `from_file` makes. No code is run but the constructors of subclasses of base."""
    if isinstance(call, list):
        return [built(item, base) for item in call]
    if not isinstance(call, dict):
        return call
    kind = _class(call["class"], base)
    options = {key: built(value, base) for key, value in call["options"].items()}
    rng = inspect.signature(kind).parameters.get("rng")
    if rng and rng.default is rng.empty:
        options["rng"] = 0
    return kind(*built(call["arguments"], base), **options)


def _class(name: str, base: type) -> type:
    kinds = _below(base)
    named = [kind for kind in kinds if name in (class_name(kind), kind.__name__)]
    if not named:
        raise ValueError(f"the Module class {name!r} is not defined: import or define it")
    if (
        len(named) > 1
    ):  # the classes of nn; in a notebook, where a cell was run again, the one that has the name now
        public = [kind for kind in named if class_name(kind) == f"{PUBLIC}:{name}"]
        named = public or [kind for kind in named if _now(kind) is kind]
    if len(named) != 1:
        raise ValueError(f"the Module class {name!r} is defined more than once: rename one")
    return named[0]


def _below(kind: type) -> set[type]:
    return {kind}.union(*map(_below, kind.__subclasses__()))


def _now(kind: type) -> Any:
    """What the module of a class has under the name of the class."""
    named: Any = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        named = getattr(named, "__dict__", {}).get(part)
    return named
