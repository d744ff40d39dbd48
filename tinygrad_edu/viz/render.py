"""From DOT to pixels: with Graphviz's `dot` where there is one, else with the `graphviz-pure` that pip installs.

The graphviz package runs the command `dot` by its bare name. The pip wheel of graphviz-pure is a port with the
same flags under its own name, and need not be on PATH (the environment may not be activated), so we look for it.
"""

import os
import pathlib
import re
import shutil
import sysconfig
from html import escape
from typing import Any

import graphviz
from graphviz.backend import dot_command

from .colours import dark_style
from .plain import PlainDrawing
from .words import clipped

MISSING = "No program to draw with: `pip install graphviz-pure`, or install Graphviz so that `dot` is on the PATH."
LARGE = 500_000  # characters of SVG; as pixels it would be many megabytes
NO_RENDERER = (graphviz.ExecutableNotFound, OSError)  # none, or one that cannot run here


class Drawing(graphviz.Digraph):  # type: ignore[misc]  # of a package without types
    """A graphviz.Digraph that finds its renderer.

    `plain` is the same picture drawn by ourselves, for where there is no renderer. `text` is the graph in words,
    for wherever no picture can be shown. `quiet` is True unless it is given:
    graphviz-pure warns about every letter beyond ASCII, and an error carries its message anyway.
    """

    def __init__(self, *args: Any, plain: PlainDrawing | None = None, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.plain: PlainDrawing | None = plain
        self.text: str = plain.text if plain else ""

    def __repr__(self) -> str:
        return f"{self.text}\n(A notebook shows the picture; .render('graph', format='svg') writes it.)"

    def _copy_kwargs(self, **kwargs: Any) -> dict[str, Any]:
        return {**super()._copy_kwargs(**kwargs), "plain": self.plain}

    def pipe(
        self, format: str | None = None, *, engine: str | None = None, encoding: str | None = None, **options: Any
    ) -> Any:
        """The picture as bytes, or as text with encoding="utf-8": the arguments of graphviz.Digraph.pipe.

        An SVG says what it shows in its <title> and <desc>. Raises ValueError for a format that Graphviz does not
        have, graphviz.ExecutableNotFound without a renderer, if the format is not SVG, and
        graphviz.CalledProcessError, with the renderer's message, if it fails or does not write this format.
        """
        format, options = format or self.format, {"quiet": True, **options}
        source = self.source.encode(self.encoding)  # whole: by lines, a renderer that ends early breaks the pipe
        try:
            _find_renderer()
            picture = graphviz.pipe(engine or self.engine, format, source, **options)
        except graphviz.CalledProcessError as error:
            error.stderr = error.stderr.decode(errors="replace").strip()
            raise
        except NO_RENDERER:
            if format != "svg" or not self.plain:
                raise
            return self.plain.pipe(format, encoding)
        picture = self._described(picture.decode()).encode() if format == "svg" else picture
        return picture if encoding is None else picture.decode(encoding)

    def _described(self, svg: str) -> str:
        name, *_ = self.text.splitlines() or [""]
        words = f"<title>{escape(clipped(name, 200))}</title>\n<desc>{escape(clipped(self.text, 2000))}</desc>"
        words += dark_style(svg)
        svg = re.sub(r"<svg ([^>]*)>", lambda tag: f'<svg role="img" {tag[1]}>\n{words}', svg, count=1)
        # Graphviz writes a tooltip as a link that leads nowhere; a title is what a browser shows and reads out.
        return re.sub(r'<a xlink:title="([^"]*)">', r"<g><title>\1</title>", svg).replace("</a>", "</g>")

    def render(self, *args: Any, **kwargs: Any) -> Any:
        """Write the picture to a file and return its path: the arguments of graphviz.Digraph.render.

        Raises what `pipe` raises, and OSError if the file cannot be written.
        """
        try:
            _find_renderer()
            return super().render(*args, **{"quiet": True, **kwargs})
        except NO_RENDERER:
            if (kwargs.get("format") or self.format) != "svg" or not self.plain:
                raise
            name = (args[0] if args else kwargs.get("filename")) or self.filename
            return self.plain.render(os.path.join(kwargs.get("directory") or self.directory or "", name))

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **options: Any) -> dict[str, Any]:
        """For a notebook: the SVG, a PNG for where that is not trusted, and the text.

        Without a renderer there is no PNG, and the SVG is simpler. A very large picture has no PNG either.
        Whatever a renderer can do wrong, a cell does not end in a traceback.
        """
        picture: dict[str, Any] = {"text/plain": self.text}
        try:
            picture |= super()._repr_mimebundle_(include, exclude, **options)
            if include is None and len(picture.get("image/svg+xml", "")) < LARGE:
                picture |= super()._repr_mimebundle_(["image/png"], exclude)
        except Exception as error:
            return picture if len(picture) > 1 else {"text/plain": f"{self.text}\n({error})"}
        return picture


def escaped(text: str) -> str:
    r"""text as a tooltip. Graphviz reads its entities once and its escapes twice.

    >>> print(escaped(r"a & b\N"))
    a &amp; b\\\\N
    """
    return graphviz.nohtml(text.replace("&", "&amp;").replace("\\", r"\\" * 2))  # type: ignore[no-any-return]  # a str


def _find_renderer() -> None:
    """Tell the graphviz package which program to run. Raises ExecutableNotFound if there is none.

    The name of the command is a global of the package: where there is no `dot`, whatever else uses the package
    draws with graphviz-pure from then on.
    """
    command = shutil.which("dot") or _graphviz_pure()
    if not command:
        error = graphviz.ExecutableNotFound(["dot"])
        error.args = (MISSING,)
        raise error
    dot_command.DOT_BINARY = pathlib.Path(command)


def _graphviz_pure() -> str | None:
    """The command that pip installed: beside the other scripts of this environment, else on the PATH."""
    places = filter(None, [sysconfig.get_path("scripts"), os.environ.get("PATH")])
    return shutil.which("graphviz-pure", path=os.pathsep.join(places))
