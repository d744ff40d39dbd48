"""Model files: JSON with every float to its last bit. Reading one runs no code.

A finite float is a JSON number. nan and the infinities, which JSON lacks, are the texts "nan", "inf" and "-inf".
Files of all earlier versions can be read. A file is always written in the latest version.
"""

import json
import math
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORMAT, VERSION = "tinygrad_edu model", 2
SPECIAL = ("nan", "inf", "-inf")
DEPTH = 100  # of lists and dicts; well below Python's recursion limit of 1,000


def write(path: str | os.PathLike[str], parts: dict[str, Any]) -> None:
    """Write the parts of a model file. The old file stays until the new one is complete and on the disk.

    A symbolic link is followed. An existing file keeps its mode; a new one gets the mode that the umask gives.
    Raises OSError if the file cannot be written, TypeError or ValueError for what JSON cannot hold.
    """
    document = {"format": FORMAT, "version": VERSION, **_map_leaves(parts, _encoded)}
    text = json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"A model file has a path such as 'model.json', got {path!r:.60}.")
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():  # a pipe or /dev/stdout cannot be replaced; a folder is an error
        target.write_text(text, encoding="utf-8")
        return
    temporary = target.with_name(f".{target.name[:50]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o7777)
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The parts of a model file, each a dict: model, state, and optimizer if it was saved.

    Raises ValueError unless this is a whole model file of a known version, OSError if it cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        document: Any = _map_leaves(json.loads(text), _decoded)  # NaN and Infinity too, which version 1 has
    except (TypeError, ValueError, RecursionError, MemoryError) as error:  # of JSON and of bytes, too
        raise ValueError(f"{path} is not a whole model file: {error or type(error).__name__}.") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"{path} is not a model file: it does not say that its format is {FORMAT!r}.")
    if document.get("version") not in range(1, VERSION + 1):
        raise ValueError(
            f"{path} has version {document.get('version')!r:.20} of the format. This program reads the versions "
            f"1 to {VERSION}: update tinygrad_edu."
        )
    if document["version"] == 1:
        parameters: Any = document.get("parameters")
        buffers: Any = document.get("buffers")
        whole = isinstance(parameters, dict) and isinstance(buffers, dict)
        document["state"] = {**parameters, **buffers} if whole else None
    for part in ("model", "state", "optimizer"):
        if not isinstance(document.get(part, {} if part == "optimizer" else None), dict):
            raise ValueError(f"{path} is not a whole model file: it has no {part}.")
    return document


def _map_leaves(x: Any, leaf: Callable[[Any], Any], depth: int = 0) -> Any:
    """x with `leaf` applied to every number and text in its lists and dicts."""
    if depth > DEPTH:
        raise ValueError(f"a model file holds lists and modules nested {DEPTH} deep at most")
    if isinstance(x, dict):
        return {key: _map_leaves(item, leaf, depth + 1) for key, item in x.items()}
    if isinstance(x, list | tuple):
        return [_map_leaves(item, leaf, depth + 1) for item in x]
    return leaf(x)


def _encoded(x: Any) -> Any:
    if isinstance(x, str) and x in SPECIAL:
        raise ValueError(f"the text {x!r} means a number in a model file")
    return repr(float(x)) if isinstance(x, float) and not math.isfinite(x) else x


def _decoded(x: Any) -> Any:
    return float(x) if isinstance(x, str) and x in SPECIAL else x
