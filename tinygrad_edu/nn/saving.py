"""Models as JSON files: the calls that build the modules, and every number to the last bit. No code is run."""

import inspect
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ..engine.rule import Rule
from .base import Module

FORMAT, VERSION = "tinygrad_edu model", 1


def save(model: Module, path: str | os.PathLike[str]) -> None:
    """Write a model: its architecture, parameters and buffers. A file of that name is replaced all at once.

    Raises TypeError, and writes nothing, if a part of the model is no text, number or module, such as an
    activation that is a function of your own, or if a parameter is no float.
    """
    text = json.dumps({"format": FORMAT, "version": VERSION, **_described(model)}, indent=1, ensure_ascii=False)
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def load(path: str | os.PathLike[str]) -> Module:
    """The model that `save` wrote, built anew: its modules are those of `nn` and your own that are imported.

    Raises ValueError if the file is no complete model of this format, or of a module that is not known.
    """
    saved = _read(path)
    model = _built(saved["model"], path)
    _fill(model, saved, path)
    return model


def load_into(model: Module, path: str | os.PathLike[str]) -> Module:
    """Give a model the numbers that were saved from one of the same architecture; returns it.

    Raises ValueError, and changes nothing, if the file is broken or of another architecture.
    """
    saved, own = _read(path), _described(model)["model"]
    if saved["model"] != own:
        raise ValueError(
            f"{path} is of another architecture: {_call_text(saved['model'])}, not {_call_text(own)}."
        )
    _fill(model, saved, path)
    return model


# --- Modules as data ----------------------------------------------------------------------------------------


def _described(model: Module) -> dict[str, Any]:
    parameters = {}
    for name, parameter in model.named_parameters():
        if type(parameter.data) is not float:
            raise TypeError(f"{name} is {parameter.data!r}: only floats are saved, exact numbers are not.")
        parameters[name] = parameter.data
    return {"model": _call(model), "parameters": parameters, "buffers": model.buffers()}


def _call(module: Module) -> dict[str, Any]:
    """The constructor call that builds a module like this one: attributes have the names of the arguments."""
    positional, named = module._arguments()
    return {
        "module": type(module).__name__,
        "arguments": [_plain(argument, module) for argument in positional],
        "options": {name: _plain(value, module) for name, value in named.items()},
    }


def _plain(value: Any, owner: Module) -> Any:
    if isinstance(value, Module):
        return _call(value)
    if isinstance(value, Rule) and not value.parameters:
        return value.name  # tg.relu is "relu"
    if isinstance(value, list | tuple):
        return [_plain(item, owner) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{owner!r} cannot be saved: {value!r} is no text, number or module.")


def _call_text(call: dict[str, Any]) -> str:
    arguments = [_call_text(a) if isinstance(a, dict) else repr(a) for a in call["arguments"]]
    options = [f"{k}={_call_text(v) if isinstance(v, dict) else repr(v)}" for k, v in call["options"].items()]
    return f"{call['module']}({', '.join(arguments + options)})"


def _built(call: Any, path: Any) -> Module:
    known = {kind.__name__: kind for kind in _kinds(Module)}
    try:
        kind = known[call["module"]]
        arguments = [_built(a, path) if isinstance(a, dict) else a for a in call["arguments"]]
        options = {k: _built(v, path) if isinstance(v, dict) else v for k, v in call["options"].items()}
        seed = {"rng": 0} if "rng" in inspect.signature(kind).parameters else {}
        return kind(*arguments, **options, **seed)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has a module that cannot be built here: {call!r:.80} ({error}).") from None


def _kinds(kind: type[Module]) -> list[type[Module]]:
    return [kind, *(below for one in kind.__subclasses__() for below in _kinds(one))]


# --- Files --------------------------------------------------------------------------------------------------


def _read(path: Any) -> dict[str, Any]:
    try:
        saved = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:  # JSON that ends too early, or no text at all
        raise ValueError(f"{path} is no model file, or not all of one: {error}.") from None
    if not isinstance(saved, dict) or saved.get("format") != FORMAT:
        raise ValueError(f"{path} is no model file: it does not say that its format is {FORMAT!r}.")
    if saved.get("version") != VERSION:
        raise ValueError(
            f"{path} has version {saved.get('version')!r} of the format; this program reads {VERSION}."
        )
    if not all(isinstance(saved.get(part), dict) for part in ("model", "parameters", "buffers")):
        raise ValueError(f"{path} is not all of a model file: it has no model, parameters or buffers.")
    return saved


def _fill(model: Module, saved: dict[str, Any], path: Any) -> None:
    """All numbers at once, after a look at each."""
    parameters, buffers = dict(model.named_parameters()), model.buffers()
    for what, here, there in (
        ("parameters", parameters, saved["parameters"]),
        ("buffers", buffers, saved["buffers"]),
    ):
        if here.keys() != there.keys():
            name = sorted(here.keys() ^ there.keys())[0]
            raise ValueError(f"{path} has other {what} than the model: {name!r} is in one of them only.")
    for name, number in saved["parameters"].items():
        if type(number) is not float:
            raise ValueError(f"{path} has no number for {name!r}, but {number!r}.")
    for name, numbers in saved["buffers"].items():
        if len(numbers) != len(buffers[name]) or any(type(number) is not float for number in numbers):
            raise ValueError(f"{path} has not {len(buffers[name])} numbers for {name!r}, but {numbers!r:.60}.")
    for name, number in saved["parameters"].items():
        parameters[name].data = number
    for name, numbers in saved["buffers"].items():
        buffers[name][:] = numbers
