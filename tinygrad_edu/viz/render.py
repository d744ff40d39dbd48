"""From DOT to pixels: with Graphviz's `dot` where there is one, else with the `graphviz-pure` that pip installs.

The graphviz package runs the command `dot` by its bare name. The pip wheel of graphviz-pure is a port with the
same flags under its own name, and need not be on PATH (the environment may not be activated), so we look for it.
"""

import importlib.metadata
import pathlib
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import graphviz
from graphviz.backend import dot_command

MISSING = "No program to draw with: `pip install graphviz-pure`, or install Graphviz so that `dot` is on the PATH."


class Drawing(graphviz.Digraph):  # type: ignore[misc]  # of a package without types
    """A graphviz.Digraph that finds its renderer, and whose notebook view falls back to text.

    `text` is the same graph in words, for wherever no picture can be shown. `quiet` is True unless it is given:
    graphviz-pure has a warning for every letter beyond ASCII, and an error carries its message anyway.
    """

    def __init__(self, *args: Any, text: str = "", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.text = text

    def __repr__(self) -> str:
        return f"{self.text}\n(A notebook shows the picture; .render('graph', format='svg') writes it.)"

    def _copy_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._copy_kwargs(**kwargs), "text": self.text}

    def pipe(self, *args: Any, **kwargs: Any) -> Any:
        """The picture as bytes, or as text with encoding="utf-8": the arguments of graphviz.Digraph.pipe."""
        with _renderer():
            return super().pipe(*args, **{"quiet": True, **kwargs})

    def render(self, *args: Any, **kwargs: Any) -> Any:
        """Writes the picture to a file and returns its path: the arguments of graphviz.Digraph.render."""
        with _renderer():
            return super().render(*args, **{"quiet": True, **kwargs})

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **options: Any) -> dict[str, Any]:
        """The picture and its text for a notebook; without a renderer, the text and what to install."""
        try:
            picture = super()._repr_mimebundle_(include, exclude, **options)
        except Exception as error:  # whatever a renderer can do wrong; a cell must not end in a traceback
            return {"text/plain": f"{self.text}\n({error})"}
        return {"text/plain": self.text, **picture}


_lock = threading.RLock()


@contextmanager
def _renderer() -> Iterator[None]:
    """Lets the graphviz package run graphviz-pure while there is no `dot`; raises ExecutableNotFound without both.

    The name of the command is a global of the package, changed here for the length of one call. Another thread
    that uses the package meanwhile would have found no `dot` anyway.
    """
    with _lock:
        dot = dot_command.DOT_BINARY
        found = shutil.which(dot)
        pure = None if found else _graphviz_pure()
        if not found and not pure:
            error = graphviz.ExecutableNotFound([dot])
            error.args = (MISSING,)
            raise error
        dot_command.DOT_BINARY = dot if found else pure
        try:
            yield
        finally:
            dot_command.DOT_BINARY = dot


def _graphviz_pure() -> pathlib.Path | None:
    """The command that pip installed: where the wheel's own record says, else on the PATH."""
    try:
        files = importlib.metadata.files("graphviz-pure") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        path = pathlib.Path(str(file.locate()))
        if path.name in ("graphviz-pure", "graphviz-pure.exe") and path.is_file():
            return path.resolve()
    on_path = shutil.which("graphviz-pure")
    return pathlib.Path(on_path).resolve() if on_path else None
